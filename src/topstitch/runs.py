"""What a person calls: train algorithms with seeds on logged data, in memory or into a folder that can be resumed."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import __version__, algos
from .core import Algorithm, Policy
from .data import Episodes
from .disk import BadFile, write_json
from .listeners import Bar, Checkpoints, Jsonl, Last, TensorBoard, newest
from .loop import CEILING, Fault, Listener, Progress, common, unstack
from .loop import train as loop
from .store import load_policy, save_policy

INFINITE = (float("inf"), float("-inf"))


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
    at least `checkpoint_seconds` apart) and `policy/`; `resume=True` goes on from its newest checkpoint, to the bit, or gives
    back what was finished.
    Metrics are averaged over `every` steps, and listeners called as often. `progress` is shown on a terminal by default.
    A run whose losses or values stop being finite, or exceed `ceiling`, is stopped and named (`Run.fault`); the others go on.

    Raises ValueError where an algorithm is not defined for the spaces of `data`, or algorithms differ in more than floats; FileExistsError where
    `out` already holds something; BadFile where what it holds cannot be resumed.
    """
    algorithms = [algorithms] if isinstance(algorithms, Algorithm) else list(algorithms)
    seeds = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if not algorithms or not seeds:
        raise ValueError("Nothing to train: give at least one algorithm and one seed.")
    if every < 1 or keep < 1:
        raise ValueError(f"`every` and `keep` count from 1, but they are {every} and {keep}.")
    if out is None and (resume or tensorboard):
        raise ValueError("`resume` and `tensorboard` need a folder: give `out`.")
    for algorithm in algorithms:
        require_spaces(algorithm, data)
    runs = [(algorithm, seed) for algorithm in algorithms for seed in seeds]
    stages = algorithms[0].stages()
    prepared = common(runs).prepare(data)
    label = f"{type(algorithms[0]).__name__} × {len(runs)}" if len(runs) > 1 else type(algorithms[0]).__name__
    tell = lambda text: print(text, file=sys.stderr)
    folder, now, own, kept = None if out is None else Path(out), None, list[Listener](), []
    with contextlib.ExitStack() as after:
        if folder is not None:
            seen = {"source": data.source, "fingerprint": data.fingerprint(), "episodes": len(data), "steps": data.steps}
            seen |= {} if data.codec is None else {"codec": data.codec.plain()}
            config = described(runs, seen)
            claim(folder, config, resume)
            mark = config["data"]["fingerprint"]
            if resume and (folder / "finished.json").is_file():
                try:
                    return load_runs(folder)
                except BadFile as error:
                    tell(f"{error} Making it again from the last checkpoint.")
            if resume:
                now = newest(folder / "checkpoints", runs, prepared, mark, tell)
            own.append(lines := Jsonl(folder / "metrics.jsonl", [stage.name for stage in stages], now))
            kept = lines.kept
            if tensorboard:
                before = np.cumsum([0, *(stage.steps for stage in stages)]).tolist()
                own.append(events := TensorBoard(folder / "tensorboard", len(runs), before, now))
                after.callback(events.close)
            at_end = lambda now: now.step == stages[now.stage].steps
            own.append(keeper := Checkpoints(folder / "checkpoints", keep=keep, seconds=checkpoint_seconds, config=mark, last=at_end))
            after.callback(keeper.save)  # also of what an error or an interruption has stopped
        last = Last(len(runs), now, kept)
        shown = list[Listener]()
        if progress or (progress is None and sys.stderr.isatty()):
            shown.append(after.enter_context(Bar(stages, len(runs), label)))
        now = loop(runs, prepared, every=every, listeners=[*own, last, *shown, *listeners], resume=now, ceiling=ceiling)
    return outcome(runs, now, last.of, data.policy, folder, None if folder is None else config)


def outcome(runs, now: Progress, metrics, raw: Callable[[Policy], Policy], folder: Path | None, config: dict | None) -> Runs:
    """What was learned, and, with a folder, its policies and the mark that it is finished. `raw` brings policies to raw units."""
    states = unstack(now.states, len(runs))
    done = Runs(
        (
            Run(algorithm, seed, raw(jax.device_get(algorithm.policy(state))), fault, metrics[i])
            for i, ((algorithm, seed), state, fault) in enumerate(zip(runs, states, now.faults))
        ),
        folder,
    )
    if folder is not None and config is not None:
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
    try:
        done = json.loads((out / "finished.json").read_text())
        faults = [None if fault is None else Fault(*fault) for fault in done["faults"]]
        outcomes = list(zip(config["runs"], faults, done["metrics"], strict=True))
    except (ValueError, KeyError, TypeError):
        raise BadFile(f"{out / 'finished.json'} is damaged, or belongs to other runs.") from None
    return Runs(
        (
            Run(algorithm_of(run), run["seed"], load_policy(out / "policy" / f"{i}.safetensors"), fault, metrics)
            for i, (run, fault, metrics) in enumerate(outcomes)
        ),
        out,
    )


# configuration -------------------------------------------------------------------------------------------------------------


def require_spaces(algorithm: Algorithm, data: Episodes) -> None:
    """An error that names the algorithms which exist for these kinds of action and observation."""
    obs, action = type(data.spec.obs), type(data.spec.action)
    for what, space, kinds in (("action", data.spec.action, algorithm.actions), ("observation", data.spec.obs, algorithm.observations)):
        if not isinstance(space, kinds):
            known = {name: algos.find(name) for name in algos.ALGORITHMS}
            fit = [name for name, kind in known.items() if action in kind.actions and obs in kind.observations]
            bare = lambda name: name.removeprefix("discrete_")
            kin = [name for name in fit if bare(name) == bare(name_of(algorithm))]
            raise ValueError(f"{type(algorithm).__name__} is defined for {' or '.join(k.__name__ for k in kinds)} {what}s, but {data.source} has "
                             f"{type(space).__name__} ones ({space}).{f' There its form is {kin[0]}.' if kin else ''} Algorithms that fit: {', '.join(fit)}.")  # fmt: skip


def name_of(algorithm: Algorithm) -> str:
    """Its name in the table, or for one from elsewhere its place."""
    place = f"{type(algorithm).__module__}:{type(algorithm).__qualname__}"
    return next((name for name, known in algos.ALGORITHMS.items() if place == f"{algos.__name__}.{known}"), place)


def fields_of(algorithm: Algorithm) -> dict[str, Any]:
    """Its hyperparameters for JSON, which has no infinity: that is written as a word."""
    fields = {f.name: getattr(algorithm, f.name) for f in dataclasses.fields(algorithm)}
    return {name: str(value) if value in INFINITE else value for name, value in fields.items()}


def algorithm_of(run: dict) -> Algorithm:
    """From a line of `config.json`."""
    kind = algos.find(run["algorithm"])
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := set(run["fields"]) - known:
        raise BadFile(f"{run['algorithm']} has no hyperparameter {sorted(unknown)}: the configuration is from another version.")
    read = lambda value: tuple(value) if isinstance(value, list) else float(value) if value in map(str, INFINITE) else value
    return kind(**{name: read(value) for name, value in run["fields"].items()})


def described(runs, data: dict) -> dict:
    """What `config.json` says: everything that fixes the outcome. `data`: source, fingerprint, episodes, steps."""
    return {
        "topstitch": __version__,
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "data": data,
        "runs": [{"algorithm": name_of(algorithm), "fields": fields_of(algorithm), "seed": seed} for algorithm, seed in runs],
    }


def read_config(out: str | Path) -> dict:
    path = Path(out) / "config.json"
    if not path.is_file():
        raise BadFile(f"{out} is not a folder of runs: there is no {path}.")
    try:
        config = json.loads(path.read_text())
        [(run["algorithm"], dict(run["fields"]), run["seed"]) for run in config["runs"]]
        [config["data"][part] for part in ("source", "fingerprint", "episodes", "steps")]
    except (ValueError, KeyError, TypeError):
        raise BadFile(f"{path} is not a configuration of runs, or is damaged.") from None
    return config


def claim(folder: Path, config: dict, resume: bool) -> None:
    """Make the folder ours, or make sure that it already is."""
    if not (folder / "config.json").is_file():
        if resume:
            raise BadFile(f"There is nothing to resume in {folder}: it has no config.json. Train into it without resuming.")
        if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
            raise FileExistsError(f"{folder} is not empty, and is not a folder of runs. Choose another one.")
        write_json(folder / "config.json", config)
        return
    if not resume:
        raise FileExistsError(f"{folder} already holds runs. Go on with them (resume=True, or --resume), or choose another folder.")
    old = read_config(folder)
    same = json.loads(json.dumps(config))
    if what := difference(old["runs"], same["runs"]):
        raise BadFile(f"The runs in {folder} cannot be resumed with other settings than they were started with. Then and now:\n  {what}")
    if old["data"]["fingerprint"] != same["data"]["fingerprint"]:
        told = [f"{place['source']}, {place['episodes']:,} episodes, {place['steps']:,} steps, fingerprint {place['fingerprint']}"
                for place in (old["data"], same["data"])]  # fmt: skip
        raise BadFile(f"The runs in {folder} were started on other data, or on the same ones otherwise normalised:\n"
                      f"  then {told[0]}\n  now  {told[1]}")  # fmt: skip
    for part in ("topstitch", "jax", "backend"):
        if old.get(part) != same[part]:
            change = f"{part} {old.get(part)}, now it is {same[part]}"
            print(f"{folder} was started with {change}: the result may differ in the last bits.", file=sys.stderr)


def difference(then: list[dict], now: list[dict]) -> str:
    """The first difference between the runs of two configurations, in words; empty if there is none."""
    if len(then) != len(now):
        return f"{len(then)} runs, {len(now)} runs"
    for i, (a, b) in enumerate(zip(then, now)):
        flat = [{"algorithm": run["algorithm"], **run["fields"], "seed": run["seed"]} for run in (a, b)]
        for name in dict.fromkeys([*flat[0], *flat[1]]):
            values = [json.dumps(run.get(name)) for run in flat]
            if values[0] != values[1]:
                return f"{name} = {values[0]}, {name} = {values[1]} (run {i})"
    return ""
