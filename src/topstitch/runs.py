"""What a person calls: train algorithms with seeds on logged data, in memory or into a folder that can be resumed."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import __version__, algos
from .core import Algorithm, Policy
from .data import Episodes
from .listeners import Bar, Checkpoints, Jsonl, TensorBoard, newest
from .loop import CEILING, Fault, Listener, common, train as loop, unstack
from .store import BadFile, load_policy, save_policy, write_json


@dataclasses.dataclass(frozen=True)
class Run:
    """One algorithm trained with one seed."""

    algorithm: Algorithm
    seed: int
    policy: Policy
    "Takes raw observations, answers with raw actions."
    fault: Fault | None
    "What broke, if training was stopped early; the policy is then the last sound one."
    metrics: dict[str, float]
    "The averages over the last steps of training."


class Runs(Sequence[Run]):
    """The outcome of `train`: runs in the order algorithms × seeds."""

    def __init__(self, runs: Iterable[Run], folder: Path | None = None):
        self.runs, self.folder = list(runs), folder

    def __len__(self):
        return len(self.runs)

    def __getitem__(self, index):
        return Runs(self.runs[index], self.folder) if isinstance(index, slice) else self.runs[index]

    def __repr__(self):
        stopped = sum(run.fault is not None for run in self)
        names = sorted({type(run.algorithm).__name__ for run in self})
        return f"Runs({len(self)} of {', '.join(names)}{f', {stopped} stopped early' if stopped else ''})"


def train(
    algorithms: Algorithm | Sequence[Algorithm],
    data: Episodes,
    *,
    seeds: int | Sequence[int] = 1,
    out: str | Path | None = None,
    every: int = 1000,
    keep: int = 3,
    checkpoint_seconds: float = 30.0,
    listeners: Sequence[Listener] = (),
    progress: bool | None = None,
    tensorboard: bool = False,
    resume: bool = False,
    ceiling: float = CEILING,
) -> Runs:
    """Train every algorithm with every seed on `data`, all runs in one compiled program.

    `algorithms` may differ in float hyperparameters only. `data` is seen through its view: call `data.normalised()` for
    standardised observations. With `out`, a folder gets `config.json`, `metrics.jsonl`, `checkpoints/` (the last `keep`,
    at least `checkpoint_seconds` apart) and `policy/`; `resume=True` goes on from its newest checkpoint, to the bit.
    Metrics are averaged over `every` steps, and listeners called as often. `progress` is shown on a terminal by default.
    A run whose losses or values stop being finite, or exceed `ceiling`, is stopped and named; the others go on.
    """
    algorithms = [algorithms] if isinstance(algorithms, Algorithm) else list(algorithms)
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not algorithms or not seeds:
        raise ValueError("Nothing to train: give at least one algorithm and one seed.")
    for algorithm in algorithms:
        require_actions(algorithm, data)
    runs = [(algorithm, seed) for algorithm in algorithms for seed in seeds]
    stages = algorithms[0].stages()
    prepared = common(runs).prepare(data)
    label = f"{type(algorithms[0]).__name__} × {len(runs)}" if len(runs) > 1 else type(algorithms[0]).__name__
    tell = lambda text: print(text, file=sys.stderr)
    folder, now, own = None if out is None else Path(out), None, list[Listener]()
    if folder is not None:
        config = describe(runs, data)
        claim(folder, config, resume)
        if resume:
            now = newest(folder / "checkpoints", runs, prepared, config["data"]["fingerprint"], tell)
        own.append(Jsonl(folder / "metrics.jsonl", [stage.name for stage in stages], now))
        if tensorboard:
            own.append(TensorBoard(folder / "tensorboard", len(runs), np.cumsum([0, *(stage.steps for stage in stages)]).tolist()))
        at_end = lambda now: now.step == stages[now.stage].steps
        own.append(
            Checkpoints(folder / "checkpoints", keep=keep, seconds=checkpoint_seconds, config=config["data"]["fingerprint"], last=at_end)
        )
    elif resume or tensorboard:
        raise ValueError("`resume` and `tensorboard` need a folder: give `out`.")
    last = Last()
    shown = sys.stderr.isatty() if progress is None else progress
    bar = Bar(stages, len(runs), label) if shown else None
    with bar or contextlib.nullcontext():
        shown = [bar] if bar else []
        now = loop(runs, prepared, every=every, listeners=[*own, last, *shown, *listeners], resume=now, ceiling=ceiling)
    done = Runs(
        (
            Run(algorithm, seed, data.policy(jax.device_get(algorithm.policy(state))), fault, last.of(i))
            for i, ((algorithm, seed), state, fault) in enumerate(zip(runs, unstack(now.states), now.faults))
        ),
        folder,
    )
    if folder is not None:
        for i, run in enumerate(done):
            about = {"algorithm": name_of(run.algorithm), "fields": fields_of(run.algorithm), "seed": run.seed, "data": config["data"]}
            save_policy(folder / "policy" / f"{i}.safetensors", run.policy, about)
        write_json(folder / "finished.json", {"faults": [run.fault for run in done], "metrics": [run.metrics for run in done]})
    return done


def resume(out: str | Path, data: Episodes, **how) -> Runs:
    """Go on with the training that was started into the folder `out`, on the same data. `how` as in `train`."""
    config = read_config(out)
    runs = [algorithm_of(run) for run in config["runs"]]
    algorithms = list(dict.fromkeys(json.dumps([run["algorithm"], run["fields"]]) for run in config["runs"]))
    per = len(runs) // len(algorithms)
    return train(runs[::per], data, seeds=[run["seed"] for run in config["runs"][:per]], out=out, resume=True, **how)


def load_runs(out: str | Path) -> Runs:
    """The finished runs of a folder: algorithms, seeds and policies, without data."""
    out = Path(out)
    config = read_config(out)
    if not (out / "finished.json").is_file():
        raise BadFile(f"The runs in {out} have not been trained to their end. Go on with `topstitch train … -o {out} --resume`.")
    done = json.loads((out / "finished.json").read_text())
    faults = [None if fault is None else Fault(*fault) for fault in done["faults"]]
    policies = (load_policy(out / "policy" / f"{i}.safetensors") for i in range(len(faults)))
    each = zip(config["runs"], policies, faults, done["metrics"], strict=True)
    return Runs((Run(algorithm_of(run), run["seed"], *rest) for run, *rest in each), out)


# configuration -------------------------------------------------------------------------------------------------------------


class Last:
    """Remembers the newest value of every metric of every run."""

    def __init__(self):
        self.seen: dict[str, np.ndarray] = {}

    def __call__(self, now, metrics):
        for name, value in metrics.items():
            old = self.seen.get(name, np.full(value.shape, np.nan))
            self.seen[name] = np.where(np.isnan(value), old, value)

    def of(self, run: int) -> dict[str, float]:
        return {name: float(value[run]) for name, value in self.seen.items() if np.isfinite(value[run])}


def require_actions(algorithm: Algorithm, data: Episodes) -> None:
    """An error that names the algorithms which exist for this kind of action."""
    if not isinstance(data.spec.action, algorithm.actions):
        kind = type(data.spec.action)
        fit = [name for name in algos.ALGORITHMS if kind in algos.find(name).actions]
        raise ValueError(f"{type(algorithm).__name__} is defined for {' or '.join(k.__name__ for k in algorithm.actions)} actions, but {data.source} has "
                         f"{kind.__name__} ones ({data.spec.action}). Algorithms that fit: {', '.join(fit)}.")  # fmt: skip


def name_of(algorithm: Algorithm) -> str:
    """Its name in the table, or for one from elsewhere its place."""
    place = f"{type(algorithm).__module__}:{type(algorithm).__qualname__}"
    return next((name for name, known in algos.ALGORITHMS.items() if place == f"{algos.__name__}.{known}"), place)


def fields_of(algorithm: Algorithm) -> dict[str, Any]:
    return {f.name: getattr(algorithm, f.name) for f in dataclasses.fields(algorithm)}


def algorithm_of(run: dict) -> Algorithm:
    """From a line of `config.json`."""
    kind = algos.find(run["algorithm"])
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := set(run["fields"]) - known:
        raise BadFile(f"{run['algorithm']} has no hyperparameter {sorted(unknown)}: the configuration is from another version.")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in run["fields"].items()})


def describe(runs, data: Episodes) -> dict:
    """What `config.json` says: everything that fixes the outcome."""
    return {
        "topstitch": __version__,
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "data": {"source": data.source, "fingerprint": data.fingerprint(), "episodes": len(data), "steps": data.steps},
        "runs": [{"algorithm": name_of(algorithm), "fields": fields_of(algorithm), "seed": seed} for algorithm, seed in runs],
    }


def read_config(out: str | Path) -> dict:
    path = Path(out) / "config.json"
    if not path.is_file():
        raise BadFile(f"{out} is not a folder of runs: there is no {path}.")
    try:
        config = json.loads(path.read_text())
        config["runs"], config["data"]["fingerprint"]
    except (ValueError, KeyError, TypeError):
        raise BadFile(f"{path} is not a configuration of runs, or is damaged.") from None
    return config


def claim(folder: Path, config: dict, resume: bool) -> None:
    """Make the folder ours, or make sure that it already is."""
    if not (folder / "config.json").is_file():
        if resume:
            raise BadFile(f"There is nothing to resume in {folder}: it has no config.json. Train into it without resuming.")
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} is not empty, and is not a folder of runs. Choose another one.")
        write_json(folder / "config.json", config)
        return
    if not resume:
        raise FileExistsError(f"{folder} already holds runs. Go on with them by resuming, or choose another folder.")
    old = read_config(folder)
    same = json.loads(json.dumps(config))
    for part, what in (("runs", "other algorithms, hyperparameters or seeds"), ("data", "other data")):
        a, b = (old[part], same[part]) if part == "runs" else (old[part]["fingerprint"], same[part]["fingerprint"])
        if a != b:
            raise BadFile(f"{folder} was started with {what} than those given now, so it cannot be resumed with them:\n  then {a}\n  now  {b}")
    if (then := (old["topstitch"], old["jax"], old["backend"])) != (here := (config["topstitch"], config["jax"], config["backend"])):
        print(f"{folder} was started with (topstitch, jax, backend) {then}, now {here}: the result may differ in the last bits.", file=sys.stderr)
