"""`topstitch train`."""

import dataclasses
import difflib
import json
import sys
import textwrap
from typing import Annotated, Literal

import tyro

from .. import algos
from . import Wrong, parse, start_jax
from .roles import Flat, Json, Roles, read_log, role

ABOUT = """Learn policies from a log, with all seeds and swept values side by side.

examples:
  topstitch train iql --data hopper.hdf5 --seeds 4 --steps 100000 -o runs/iql
  topstitch train discrete_cql --data stays.csv --episode stay --time hour \\
      --obs 'obs_*' --action dose --reward reward --terminal died \\
      --sweep alpha=0.5,1,5 --seeds 4 --steps 20000 -o runs/cql
  topstitch train …same… -o runs/cql --resume     goes on after a crash, to the bit
  topstitch train sac --env Hopper-v5 -o runs/sac     no log: learns by acting
  topstitch train dagger --env Hopper-v5 --expert runs/sac
  topstitch train gail --env Hopper-v5 --demonstrations expert.log.safetensors"""


@dataclasses.dataclass(frozen=True)
class Options:
    data: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    "The log: a CSV, Parquet or Arrow table, a D4RL or d3rlpy HDF5 file, an OGBench .npz, a Minari data set, or what `collect` wrote."
    env: Annotated[str | None, tyro.conf.arg(metavar="ID", help_behavior_hint="")] = None
    "A Gymnasium environment. With a log: to evaluate in during training. Without: to learn in, by acting."
    evaluate_every: Annotated[int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="(default: a tenth of all)")] = None
    "Steps between evaluations in --env; what they find goes to evaluations.jsonl."
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 10
    "Episodes of an evaluation."
    warmup: Annotated[int, tyro.conf.arg(metavar="STEPS")] = 1000
    "Learning by acting: uniformly random steps before the first update."
    explore_noise: Annotated[float | None, tyro.conf.arg(metavar="S", help_behavior_hint="")] = None
    "Learning by acting: explore by Gaussian noise on the best action, of S times half its range (TD3: 0.1)."
    explore_level: Annotated[float, tyro.conf.arg(metavar="P")] = 1.0
    "Learning by acting: the share of steps that are not uniformly random (DQN: 0.9)."
    expert: Annotated[str | None, tyro.conf.arg(metavar="WHO", help_behavior_hint="")] = None
    "Learning by acting: a run, a policy, or one of another project (.npz), that acts in the warm-up and says at each step what it would do."
    demonstrations: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    "Learning by acting: a log to learn from as well, half of every batch; for GAIL, what is to be imitated."
    levels: Annotated[int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="")] = None
    "Learning by acting: keep the policy of every so many steps, to collect logs of several levels with."
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", aliases=["-o"], help_behavior_hint="(default: runs/ALGORITHM)")] = None
    "Where configuration, metrics, checkpoints and policies go."
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    "How many seeds (0, 1, …) to train each setting with."
    sweep: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], role("NAME=VALUES")] = ()
    "Values of a float hyperparameter to train side by side: --sweep alpha=0.5,1,5 (repeat it for a grid)."
    normalise: Literal["standard", "none"] = "standard"
    "How observations are brought to one scale. The saved policy takes raw ones either way."
    normalise_reward: Literal["none", "standard", "range"] = "none"
    "'range' divides by (best - worst return) / 1000, as IQL does on locomotion."
    behaviour: Annotated[Literal["column", "fit"], role("column|fit")] = "column"
    "Probabilities of the logged actions, for what weighs by them: a column of the log, or estimated from it."
    every: Annotated[int, tyro.conf.arg(metavar="STEPS")] = 1000
    "Steps over which metrics are averaged."
    checkpoint_seconds: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 30.0
    "Least time between two checkpoints."
    resume: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Go on with the folder's runs from their newest checkpoint."
    tensorboard: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Also write TensorBoard events into the folder."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "The roles of a table's columns."


def main(argv: list[str]) -> int:
    if not argv or argv[0].startswith("-"):
        print(f"usage: topstitch train ALGORITHM --data FILE …\n\n{ABOUT}\n\n{listed()}\n\n"
              "`topstitch train ALGORITHM --help` lists all options and its hyperparameters.")  # fmt: skip
        return 0 if argv else 2
    start_jax()
    try:
        kind = algos.find(argv[0])
    except ValueError as error:
        near = difflib.get_close_matches(argv[0], algos.ALGORITHMS, 1)
        raise Wrong(f"{error}{f' Did you mean {near[0]!r}?' if near else ''}") from None
    name = next(known for known in algos.ALGORITHMS if algos.find(known) is kind)
    part = lambda title, about=None: (tyro.conf.OmitArgPrefixes, tyro.conf.arg(name=title, help=about))
    fields = [
        ("options", Annotated[Options, *part("")]),
        ("algorithm", Annotated[kind, *part(name, f"{kind.paper.title}, {kind.paper.url}")]),
    ]
    whole = dataclasses.make_dataclass("Train", fields)
    asked = parse(whole, argv[1:], command=f"train {name}", about=ABOUT)
    options, algorithm = asked.options, asked.algorithm

    from ..evaluation import Evaluations
    from ..runs import train

    settings = grid(algorithm, options.sweep)
    if options.data is None:
        return act(name, settings, options)
    data = read_log(options.data, options.roles)
    for note in data.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.behaviour == "fit":
        from ..ope.behaviour import fit_behaviour

        print(f"estimating who made the log, from {data.steps:,} steps …", file=sys.stderr)
        fitted = fit_behaviour(data)
        for note in fitted.notes:
            print(f"note: {note}", file=sys.stderr)
        data = fitted.attached()
    out = options.out or f"runs/{name}"
    seen = data.normalised(obs=options.normalise, reward=options.normalise_reward)
    watch = []
    if options.env is not None:
        cells = [(setting, seed) for setting in settings for seed in range(options.seeds)]
        watch.append(Evaluations(cells, seen, options.env, episodes=options.episodes, every=between(options, sum(stage.steps for stage in algorithm.stages())),
                                 path=f"{out}/evaluations.jsonl"))  # fmt: skip
    runs = train(
        settings, seen, seeds=options.seeds, out=out, every=options.every, checkpoint_seconds=options.checkpoint_seconds, progress=True,
        tensorboard=options.tensorboard, resume=options.resume, listeners=watch,
    )  # fmt: skip
    return told(runs, out, json_wanted=options.json, sweep=options.sweep)


def between(options, steps: int) -> int:
    """Of `steps` in all, those from one evaluation to the next: a multiple of `--every`, at which listeners are called."""
    wanted = options.evaluate_every or max(1, steps // 10)
    return max(1, round(wanted / options.every)) * options.every


def act(name: str, settings: list, options: Options) -> int:
    """Learning by acting in an environment."""
    from ..evaluation import Evaluations
    from ..online import Acting, Units, train_online

    if options.env is None:
        raise Wrong(
            f"There is nothing to learn from. Give a log: topstitch train {name} --data FILE …, or an environment to act in: --env ID."
        )
    if len(settings) > 1 or options.tensorboard:
        raise Wrong(
            "Learning by acting takes one setting at a time, and writes no TensorBoard events. Leave out --sweep and --tensorboard."
        )
    out, algorithm = options.out or f"runs/{name}", settings[0]
    log, told_by = None, None if options.expert is None else expert(options.expert)
    if options.demonstrations is not None:
        log = read_log(options.demonstrations, options.roles).normalised(obs=options.normalise, reward=options.normalise_reward)
    watch = Evaluations([(algorithm, seed) for seed in range(options.seeds)], Units.of(options.env) if log is None else log, options.env,
                        episodes=options.episodes, every=between(options, algorithm.steps), path=f"{out}/evaluations.jsonl")  # fmt: skip
    acting = Acting(warmup=options.warmup, noise=options.explore_noise, level=options.explore_level)
    runs = train_online(
        algorithm, options.env, log=log, expert=told_by, acting=acting, seeds=options.seeds, out=out, every=options.every,
        levels=options.levels, checkpoint_seconds=options.checkpoint_seconds, listeners=[watch], progress=True, resume=options.resume,
    )  # fmt: skip
    return told(runs, out, json_wanted=options.json, sweep=options.sweep)


def expert(who: str):
    """The policy of `--expert`."""
    from ..core import Markov
    from .collect import find

    if not isinstance(found := find(who), Markov):
        raise Wrong(f"{who} does not say what it would do at a single observation. Name a policy without memory, of a run or a file.")
    return found


def told(runs, out: str, *, json_wanted: bool, sweep: tuple[str, ...] = ()) -> int:
    """Prints what came of the runs; 3 if one was stopped early."""
    swept = [part.split("=")[0].strip().replace("-", "_") for part in sweep]
    rows = [{"run": i, "seed": run.seed, **{name: getattr(run.algorithm, name) for name in swept}, **run.metrics,
             "stopped": None if run.fault is None else str(run.fault)} for i, run in enumerate(runs)]  # fmt: skip
    if json_wanted:
        print(json.dumps({"out": out, "runs": rows}, indent=1))
    else:
        show(rows, out)
    return 0 if all(run.fault is None for run in runs) else 3


def listed() -> str:
    return textwrap.fill(f"algorithms: {', '.join(algos.ALGORITHMS)}", 80, subsequent_indent="  ")


def grid(algorithm, sweep: tuple[str, ...]) -> list:
    """The algorithm with every combination of the swept values."""
    settings = [algorithm]
    for part in sweep:
        name, _, values = part.partition("=")
        name = name.strip().replace("-", "_")
        field = next((f for f in dataclasses.fields(algorithm) if f.name == name), None)
        floats = [f.name for f in dataclasses.fields(algorithm) if not f.metadata.get("static", False)]
        if field is None or name not in floats:
            why = "shapes the program, so train its values one at a time" if field else "is not one of its hyperparameters"
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

    console, most = Console(highlight=False), 6
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ("run", "stopped")]
    word = lambda x: f"{x:.4g}" if isinstance(x, float) else str(x)
    for i in range(0, len(rows), most):
        block = rows[i : i + most]
        shown = Table("run", *(str(row["run"]) for row in block), box=None, header_style="bold", pad_edge=False)
        for name in names:
            shown.add_row(name, *(word(row.get(name, "")) for row in block))
        console.print(shown)
        console.print()
    for row in rows:
        if row["stopped"]:
            console.print(f"run {row['run']} was stopped early: {row['stopped']}", markup=False)
    console.print(f"Policies, metrics and checkpoints are in {out}.", markup=False)
