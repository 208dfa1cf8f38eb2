"""`topstitch train`."""

import dataclasses
import json
import sys
from typing import Annotated, Literal

import tyro

from .. import algos
from . import Wrong, parse, start_jax
from .roles import Flat, Roles

ABOUT = """Learn policies from a log, all seeds and swept values in one compiled program, into a folder that can be resumed.

examples:
  topstitch train iql --data hopper.hdf5 --seeds 4 --steps 100000 -o runs/iql
  topstitch train discrete_cql --data stays.csv --episode stay --time hour --obs 'obs_*' --action dose --reward reward \\
      --terminal done --sweep alpha=0.5,1,5 --seeds 4 --steps 20000 -o runs/cql
  topstitch train … -o runs/cql --resume            goes on after a crash, to the bit

`topstitch train ALGORITHM --help` also lists that algorithm's hyperparameters."""


@dataclasses.dataclass(frozen=True)
class Options:
    data: str
    "The log: a CSV, Parquet or Arrow table, a D4RL or d3rlpy HDF5 file, an OGBench .npz, or a Minari data set."
    out: Annotated[str | None, tyro.conf.arg(aliases=["-o"])] = None
    "The folder for configuration, metrics, checkpoints and policies (default: runs/ALGORITHM)."
    seeds: int = 1
    "How many seeds (0, 1, …) to train each setting with."
    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    "Values of a float hyperparameter to train side by side: --sweep alpha=0.5,1,5. Several sweeps make a grid."
    normalise: Literal["standard", "none"] = "standard"
    "How observations are brought to one scale. The saved policy takes raw ones either way."
    normalise_reward: Literal["none", "standard", "range"] = "none"
    "'range' divides by (best - worst return) / 1000, as IQL does on locomotion."
    every: int = 1000
    "Steps over which metrics are averaged."
    resume: bool = False
    "Go on with the folder's runs from their newest checkpoint."
    tensorboard: bool = False
    "Also write TensorBoard events into the folder."
    json: bool = False
    "Print the outcome as JSON."
    roles: Flat = Roles()


def main(argv: list[str]) -> int:
    if not argv or argv[0].startswith("-"):
        print(f"usage: topstitch train ALGORITHM --data FILE …\n\n{ABOUT}\n\nalgorithms: {', '.join(algos.ALGORITHMS)}")
        return 0 if argv else 2
    start_jax()
    kind = algos.find(argv[0])
    name = next(known for known in algos.ALGORITHMS if algos.find(known) is kind)
    whole = dataclasses.make_dataclass(
        "Train", [("options", Annotated[Options, tyro.conf.OmitArgPrefixes]), ("algorithm", Annotated[kind, tyro.conf.OmitArgPrefixes])]
    )
    asked = parse(whole, argv[1:], command=f"train {name}", about=ABOUT)
    options, algorithm = asked.options, asked.algorithm

    from ..data.read import read
    from ..runs import train

    settings = grid(algorithm, options.sweep)
    data = read(options.data, **options.roles.given())
    for note in data.notes:
        print(f"note: {note}", file=sys.stderr)
    out = options.out or f"runs/{name}"
    seen = data.normalised(obs=options.normalise, reward=options.normalise_reward)
    runs = train(
        settings, seen, seeds=options.seeds, out=out, every=options.every, progress=True, tensorboard=options.tensorboard, resume=options.resume
    )
    swept = [part.split("=")[0].strip() for part in options.sweep]
    rows = [{"run": i, "seed": run.seed, **{n: getattr(run.algorithm, n) for n in swept}, **run.metrics,
             "stopped": None if run.fault is None else str(run.fault)} for i, run in enumerate(runs)]  # fmt: skip
    if options.json:
        print(json.dumps({"out": out, "runs": rows}, indent=1))
    else:
        show(rows, out)
    return 0 if all(run.fault is None for run in runs) else 3


def grid(algorithm, sweep: tuple[str, ...]) -> list:
    """The algorithm with every combination of the swept values."""
    settings = [algorithm]
    for part in sweep:
        name, _, values = part.partition("=")
        name = name.strip().replace("-", "_")
        field = next((f for f in dataclasses.fields(algorithm) if f.name == name), None)
        floats = [f.name for f in dataclasses.fields(algorithm) if not f.metadata.get("static", False)]
        if field is None or name not in floats:
            why = "shapes the program: train its values one at a time" if field else "is not one of its hyperparameters"
            raise Wrong(f"{name!r} cannot be swept: it {why}. {type(algorithm).__name__} can sweep {', '.join(floats)}.")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            raise Wrong(f"--sweep {part!r} was not understood. Write --sweep {name}=0.5,1,5.") from None
        settings = [dataclasses.replace(setting, **{name: number}) for setting in settings for number in numbers]
    return settings


def show(rows: list[dict], out: str) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = [name for name in rows[0] if name != "stopped"]
    shown = Table(*columns, box=None, header_style="bold")
    for row in rows:
        shown.add_row(*(f"{row[name]:.4g}" if isinstance(row.get(name), float) else str(row.get(name, "")) for name in columns))
    console = Console(highlight=False)
    console.print(shown)
    for row in rows:
        if row["stopped"]:
            console.print(f"run {row['run']} was stopped early: {row['stopped']}")
    console.print(f"Policies, metrics and checkpoints are in {out}.")
