"""The policies of a study: imitation, what the advice asks for, and a safe default, each trained with several seeds in one program.

Every group of runs is a folder that `runs.train` goes on with, so a study that was stopped loses at most the last half minute.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import algos
from ..core import Algorithm, Box, Discrete, Policy
from ..data import Episodes
from ..disk import plain, write_json
from ..loop import Fault, Progress, unstack
from ..ope.table import Refused
from ..runs import Runs, train
from .advice import safe
from .evidence import Bench, weigh
from .logger import acts_of

POINTS = 8
"Of a learning curve."
THRESHOLDS = (20.0, 50.0, 100.0, 200.0)
"How often an action must have been logged in a state before SPIBB trusts it: from bold to timid."
SWEEPS = 100
SHARPNESS = {"gentle": 10.0, "firm": 100.0}
"Weights of advantages in IQL and AWAC, in units of the spread of returns."
UPDATES, MOST_UPDATES = 10_000, 50_000
"Of a run; and of one that the advice would train for longer."

KNOWN = {
    "bc": ("Imitation", "does as was done: nothing to gain, a check of training"),
    "dqn": ("Naive Q-learning", "the best by an unguarded model of values: a warning"),
    "spibb": ("SPIBB", "departs from practice only where an action was logged often"),
    "discrete_bcq": ("Batch-constrained Q", "the best among what practice does often"),
    "discrete_cql": ("Conservative Q", "the best by a model that doubts what is rarely done"),
    "iql": ("Implicit Q", "imitates what went well, by how well"),
    "awac": ("Advantage-weighted", "imitates what went well, by how well"),
}
"Name -> (what it is called on the page, what it does)."


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one algorithm, which differ in the seed, or in floats, alone."""

    name: str
    "Of the algorithm in the table, and of the folder."
    algorithms: tuple[Algorithm, ...]
    seeds: int = 1
    labels: tuple[str, ...] = ("",)
    "One for each of the algorithms."
    why: str = ""
    source: str = ""

    @property
    def title(self) -> str:
        return KNOWN.get(self.name, (self.name, ""))[0]

    @property
    def what(self) -> str:
        return KNOWN.get(self.name, ("", self.why))[1]

    @property
    def role(self) -> str:
        """Imitation is looked at, and not chosen: it has nothing to gain."""
        return "copy" if self.name == "bc" else "candidate"

    @property
    def runs(self) -> list[tuple[Algorithm, int]]:
        return [(algorithm, seed) for algorithm in self.algorithms for seed in range(self.seeds)]

    def names(self) -> list[str]:
        """Of the runs."""
        marks = [[label] * bool(label) + [f"seed {seed}"] * (self.seeds > 1) for label in self.labels for seed in range(self.seeds)]
        return [", ".join([self.title, *mark]) for mark in marks]


class Made(NamedTuple):
    """A trained policy."""

    id: str
    name: str
    group: Group
    algorithm: Algorithm
    seed: int
    policy: Policy
    believes: float | None
    "The critic's mean value of logged actions at the end of training."
    fault: Fault | None
    folder: str
    file: str
    curve: Mapping[str, list]


class Truth(NamedTuple):
    """What a simulator knows. It stands beside estimates, and nothing is decided by it."""

    of: Callable[[Sequence[Policy]], np.ndarray]
    "Policies -> their exact values."
    practice: float


# what is trained ---------------------------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """What somebody asks for by an algorithm's name."""

    settings: Mapping[str, Any] = {}
    sweep: Mapping[str, Sequence[float]] = {}
    "Values of one float field, to be trained side by side."
    updates: int | None = None
    why: str = ""


def advised(advice: Mapping[str, Any]) -> dict[str, Asked]:
    """What `study.advice` asks for, at most `MOST_UPDATES` updates each."""
    tuples = lambda settings: {name: tuple(x) if isinstance(x, list) else x for name, x in settings.items()}
    return {
        one["name"]: Asked(tuples(one["settings"]), one["sweep"], min(one["steps"], MOST_UPDATES), one["reason"])
        for one in advice["algorithms"]
    }


def usual(
    log: Episodes, *, seeds: int, updates: int | None, discount: float, asked: Mapping[str, Asked] | None = None
) -> tuple[Group, ...]:
    """A panel for the spaces of a log: imitation, what is `asked` for (by default what suits), and the safe default.

    Only policies with probabilities can be weighed, so methods that answer with one point of a `Box` are not among what suits.
    """
    suits = (
        ("iql", "discrete_bcq")
        if isinstance(log.spec.action, Discrete)
        else ("iql", "awac")
        if isinstance(log.spec.action, Box)
        else ("iql",)
    )
    every = {"bc": Asked(why="a copy of practice by a net")} | dict(asked or {name: Asked(why="suits these spaces") for name in suits})
    every.setdefault(safe(log), Asked(why="the safe default"))
    spread = float(log.returns(discount).std()) or 1.0
    made = lambda name, one: group(
        name,
        one.settings,
        sweep=one.sweep,
        seeds=1 if name == "bc" else seeds,
        updates=updates or one.updates,
        discount=discount,
        spread=spread,
        why=one.why,
    )
    return tuple(made(name, one) for name, one in every.items())


def group(
    name: str, given: Mapping[str, Any], *, sweep: Mapping[str, Sequence[float]] | None = None, seeds: int, updates: int | None = None,
    discount: float = 1.0, spread: float = 1.0, why: str = "",
) -> Group:  # fmt: skip
    """Runs of an algorithm with settings that suit a study; `given` fields take their place. `spread` is that of returns."""
    kind = algos.find(name)
    known = {f.name for f in dataclasses.fields(kind)}
    fields = {"hidden": (128, 128), "lr": 1e-3, "discount": discount if name == "spibb" else min(discount, 0.99)}
    fields = {field: value for field, value in fields.items() if field in known} | dict(given)
    fields |= {"steps": updates} if updates else {} if "steps" in given else {"steps": UPDATES}
    swept: dict[str, dict[str, float]] = {
        f"{field} {value:g}": {field: value} for field, values in (sweep or {}).items() for value in values
    }
    if name == "spibb":
        fields |= {"steps": SWEEPS, "discount": discount}
        usual = {} if "threshold" in given else {f"≥ {n:.0f} times": {"threshold": n} for n in THRESHOLDS}
        swept, seeds = swept or usual, 1
    elif name in ("iql", "awac") and not swept and "beta" not in given:
        swept = {label: {"beta": sharp / spread} for label, sharp in SHARPNESS.items()}
    swept = swept or {"": {}}
    return Group(name, tuple(kind(**fields | more) for more in swept.values()), seeds, tuple(swept), why, kind.paper.url)


# training ----------------------------------------------------------------------------------------------------------------------


def trained(
    groups: Sequence[Group],
    data: Episodes,
    out: Path,
    *,
    selection: Bench | None,
    truth: Truth | None = None,
    tell: Callable[[str], None],
    progress: bool | None = None,
) -> list[Made]:
    """All runs of all groups, in folders of their own. `data`: the train episodes."""
    seen, made = data.normalised(), []
    for i, group in enumerate(groups):
        tell(f"Learning, {i + 1} of {len(groups)}: {group.title}, {len(group.runs)} {'run' if len(group.runs) == 1 else 'runs'}")
        folder = out / group.name
        steps = sum(stage.steps for stage in group.algorithms[0].stages())
        watch = Curve(folder / "curve.json", group, seen, selection, truth)
        again = (folder / "config.json").is_file()
        runs = train(
            group.algorithms,
            seen,
            seeds=group.seeds,
            out=folder,
            every=max(1, -(-steps // POINTS)),
            listeners=[watch],
            progress=progress,
            resume=again,
        )
        made += named(group, runs, watch, folder, out)
    return made


def named(group: Group, runs: Runs, watch: "Curve", folder: Path, out: Path) -> list[Made]:
    place = folder.relative_to(out.parent).as_posix()
    believes = lambda run: next((run.metrics[name] for name in BELIEFS if name in run.metrics), None)
    return [
        Made(f"{group.name}-{i}", name, group, run.algorithm, run.seed, run.policy, believes(run), run.fault, place, f"{place}/policy/{i}.safetensors", watch.of(i))
        for i, (name, run) in enumerate(zip(group.names(), runs))
    ]  # fmt: skip


BELIEFS = ("critic/q", "q/target")
"Metrics in which an algorithm says what it believes values to be."


class Curve:
    """Listens to training: what each run believes, what the selection episodes say of it, and what is true where that is known.

    Kept in a file, so that the curve of a run that was stopped, or is finished, is whole.
    """

    def __init__(self, path: Path, group: Group, data: Episodes, selection: Bench | None, truth: Truth | None):
        self.path, self.group, self.data, self.selection, self.truth = path, group, data, selection, truth
        self.before = np.cumsum([0, *(stage.steps for stage in group.algorithms[0].stages())])
        self.points = json.loads(path.read_text()) if path.is_file() else []

    def __call__(self, now: Progress, metrics):
        step = int(self.before[now.stage] + now.step)
        states = unstack(now.states, len(self.group.runs))
        policies = [self.data.policy(jax.device_get(algorithm.policy(state))) for (algorithm, _), state in zip(self.group.runs, states)]
        believed = next((metrics[name].tolist() for name in BELIEFS if name in metrics), None)
        point = {"step": step, "believes": believed, "selection": [self.worth(policy) for policy in policies] if self.selection else None,
                 "exact": None if self.truth is None else np.asarray(self.truth.of(policies)).tolist()}  # fmt: skip
        self.points = [*(p for p in self.points if p["step"] < step), plain(point)]
        write_json(self.path, self.points)

    def worth(self, policy: Policy) -> float | None:
        try:
            return weigh(acts_of(policy, self.selection.log), self.selection).side.value
        except Refused:
            return None

    def of(self, run: int) -> dict[str, list]:
        """Of one run: a list for each of step, believes, selection, exact; an empty one where nothing is known."""
        part = lambda name: [] if any(p[name] is None for p in self.points) else [p[name][run] for p in self.points]
        return {"step": [p["step"] for p in self.points]} | {name: part(name) for name in ("believes", "selection", "exact")}
