"""A grid of cells, (task, algorithm): each trained with all its seeds in one program, evaluated, and written down.

A cell is a folder. One that is finished is not run again, one that was interrupted goes on to the bit, one that failed says why and
does not stop the others. A run that diverges is a result.
"""

import dataclasses
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax
import numpy as np

from .. import algos
from ..core import Algorithm
from ..data import Episodes
from ..disk import plain, write_json
from ..evaluation import Evaluations, gym_maker, play
from ..listeners import checkpoints
from ..ope.behaviour import fit_behaviour
from ..runs import fields_of, train
from ..stats import mean_interval, stratified_interval
from .settings import setting
from .tasks import NORMALISED, Place, Task, versions

EVALUATIONS = 20
"How often a run is evaluated, unless asked otherwise."
PACKAGES = (
    "topstitch",
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "numpy",
    "gymnasium",
    "mujoco",
    "gymnasium-robotics",
    "ogbench",
    "minari",
    "icu-sepsis",
)


@dataclasses.dataclass(frozen=True)
class Asked:
    """How cells are to be run; `None` is the task's own."""

    seeds: int = 3
    steps: int | None = None
    "Updates of each run."
    every: int | None = None
    "Updates between evaluations; rounded so that it is a whole number of chunks."
    episodes: int | None = None
    "Per evaluation and seed."
    fields: dict = dataclasses.field(default_factory=dict)
    "Hyperparameters that go over the published settings."
    why: str = ""
    "A remark on these, for whoever reads the result."


# one cell ------------------------------------------------------------------------------------------------------------------


def iterates(kind: type[Algorithm]) -> bool:
    """Whether a step of this method is an iteration over the whole log, so that numbers of updates do not apply to it."""
    return kind.batch_size == 0


def folder_of(out: str | Path, task: str, algorithm: str) -> Path:
    return Path(out) / slug(task) / algorithm


def slug(task: str) -> str:
    """The name of a task as that of a file."""
    return task.replace(":", "_").replace("/", "_")


def run_cell(task: Task, algorithm: str, asked: Asked = Asked(), *, place: Place, out: str | Path, progress: bool | None = None) -> dict:
    """Train `algorithm` on `task`, and write `OUT/TASK/ALGORITHM/result.json`; what it says is given back.

    Scores are in the task's unit, one per seed: those of the last policies, and the best seen at any evaluation. Beliefs are the
    mean Q of logged actions, in raw rewards. `worth` is what they may be held against: the discounted return that the last policy
    truly has from the steps of its own episodes on, and, under `data`, the same of the log.
    """
    folder = folder_of(out, task.name, algorithm)
    found = setting(task.family, task.like or task.name, algorithm)
    kind = algos.find(algorithm)
    fields = ({} if iterates(kind) else {"steps": task.steps}) | found.fields | asked.fields
    rule = kind(**fields | ({} if asked.steps is None else {"steps": asked.steps}))
    last_stage = rule.stages()[-1]
    chunk, every = chunks(asked.every or max(1, last_stage.steps // EVALUATIONS))
    episodes = asked.episodes or task.episodes
    settings = json.loads(json.dumps(fields_of(rule)))
    same = {"task": task.name, "algorithm": algorithm, "seeds": list(range(asked.seeds)), "steps": last_stage.steps, "every": every,
            "episodes": episodes, "settings": settings, "normalise": found.normalise, "reward": found.reward}  # fmt: skip
    if (folder / "result.json").is_file():
        result = json.loads((folder / "result.json").read_text())
        for name, value in same.items():
            if result[name] != value:
                raise ValueError(f"{folder} holds a result for {name} = {result[name]}; now it is {value}. Choose another folder.")
        return result
    log = task.read(place)
    known = fit_behaviour(log).attached() if found.behaviour == "fit" else log
    seen = known.normalised(obs=found.normalise, reward=found.reward)
    runs, discount = [(rule, seed) for seed in range(asked.seeds)], getattr(rule, "discount", None)
    if task.value is not None:
        watch = Exact(runs, seen, task.value, every=every, path=folder / "points.jsonl")
    elif task.env is not None:
        watch = Evaluations(runs, seen, task.env, every=every, episodes=episodes, path=folder / "points.jsonl")
    else:
        raise ValueError(f"{task.name} has neither an environment nor exact values: there is nothing to score policies by.")
    clock = Clock(folder / "clock.json", watch)
    forget(folder / "runs" / "checkpoints", watch.points, every, last_stage.steps, len(rule.stages()) - 1)
    again = (folder / "runs" / "config.json").is_file()
    done = train(rule, seen, seeds=asked.seeds, out=folder / "runs", every=chunk, listeners=[clock], progress=progress, resume=again)
    raw = lambda believes: in_raw_rewards(believes, seen, discount)
    curve = [{"step": point["step"], "scores": task.scores(point["returns"], point["success"]).tolist(), "believes": raw(point["believes"])}
             for point in watch.points]  # fmt: skip
    table = np.array([point["scores"] for point in curve])
    policies = [run.policy for run in done]
    result = same | {
        "about": task.about, "unit": task.unit, "last": table[-1].tolist(), "best": table.max(axis=0).tolist(), "curve": curve,
        "believes": curve[-1]["believes"], "worth": None if discount is None else true_worth(task, policies, float(discount), episodes),
        "data": {"source": log.source, "fingerprint": seen.fingerprint(), "episodes": len(log), "steps": log.steps, "notes": list(log.notes),
                 "score": behaviour(task, log), "worth": None if discount is None else worth_of_log(log, float(discount))},
        "changed": sorted(found.fields), "source": found.source, "why": asked.why, "published": published(task, algorithm),
        "faults": [None if run.fault is None else str(run.fault) for run in done],
        "seconds": {"training": clock.spent["training"], "evaluation": clock.spent["evaluation"]},
        "updates_per_s": clock.rate(), "versions": versions(*PACKAGES), "device": device(),
    }  # fmt: skip
    write_json(folder / "result.json", plain(result))
    return json.loads((folder / "result.json").read_text())


def chunks(every: int) -> tuple[int, int]:
    """(updates of a chunk of training, at most 1,000; updates between evaluations, a whole number of them)."""
    parts = math.ceil(every / 1000)
    return every // parts, every // parts * parts


def forget(folder: Path, points: list[dict], every: int, steps: int, stage: int) -> None:
    """Drop checkpoints from which training would go on behind an evaluation that an interruption kept from being written down."""
    due = min((points[-1]["step"] if points else 0) + every, steps)
    for path in checkpoints(folder):
        at, step = map(int, path.stem.split("-"))
        if at == stage and step >= due and not (points and points[-1]["step"] == steps):
            path.unlink()


class Exact(Evaluations):
    """The same where the world is known: in the place of an environment, a function that gives the exact returns of policies."""

    def see(self, policies):
        return {"returns": np.asarray(self.env(policies), np.float64)[:, None].tolist(), "lengths": None, "success": None}


class Clock:
    """Stands before a listener that evaluates, and tells the seconds of training from those of evaluating, also over interruptions."""

    def __init__(self, path: Path, listener: Callable):
        self.path, self.listener, self.at, self.before = path, listener, time.perf_counter(), None
        none = {"training": 0.0, "evaluation": 0.0, "timed": 0.0, "updates": 0}
        self.spent = json.loads(path.read_text()) if path.is_file() else none

    def __call__(self, now, metrics):
        began = time.perf_counter()
        self.spent["training"] += began - self.at
        if self.before is not None:  # the first chunk is mostly compilation: the rate is measured from its end
            stage, step, running = self.before
            self.spent["timed"] += began - self.at
            self.spent["updates"] += running * (now.step - (step if stage == now.stage else 0))
        self.before = now.stage, now.step, int(np.asarray(now.alive).sum())
        self.listener(now, metrics)
        self.at = time.perf_counter()
        self.spent["evaluation"] += self.at - began
        write_json(self.path, self.spent)

    def rate(self) -> float | None:
        """Updates of all runs together, per second."""
        return self.spent["updates"] / self.spent["timed"] if self.spent["updates"] else None


def in_raw_rewards(believes: list | None, log: Episodes, discount: float | None) -> list | None:
    """Q values that were learned from scaled rewards, in raw ones. A shift of every reward is one of 1 / (1 - discount) of every value."""
    if believes is None or log.view.reward is None:
        return believes
    shift, scale = float(log.view.reward.shift), float(log.view.reward.scale)
    if shift and (discount is None or discount >= 1):
        return None
    return [None if b is None else b * scale + (shift / (1 - discount) if shift else 0.0) for b in believes]


def behaviour(task: Task, log: Episodes) -> float | None:
    """The log's mean score; None where success is what counts, which logs do not tell."""
    return None if task.unit == "success %" else float(task.scores(log.returns()[None])[0])


def worth_of_log(log: Episodes, discount: float) -> float:
    return worth(np.split(log.reward, log.stops[:-1]), log.terminal[log.stops - 1], discount)


def worth(rewards: Iterable[np.ndarray], ended: Iterable, discount: float) -> float:
    """The mean over steps of the discounted rewards from that step on, of episodes given by their rewards.

    Where an episode did not truly end (`ended`), its last steps do not show what comes of them, and are left out: as many as it
    takes for the discount to fall to a twentieth, but no more than half.
    """
    blind = math.ceil(math.log(0.05) / math.log(discount)) if discount < 1 else math.inf
    total, count = 0.0, 0
    for reward, over in zip(rewards, ended, strict=True):
        to_go, value = np.empty(len(reward)), 0.0
        for i in range(len(reward) - 1, -1, -1):
            to_go[i] = value = reward[i] + discount * value
        kept = len(reward) if over else len(reward) - int(min(blind, len(reward) // 2))
        total, count = total + float(to_go[:kept].sum()), count + kept
    return total / count


def true_worth(task: Task, policies: list, discount: float, episodes: int) -> list[float]:
    """By policy: the same of episodes of its own; where the world is known, its exact return."""
    if task.value is not None:
        return [float(v) for v in np.asarray(task.value(policies))]
    rewards: dict[tuple[int, int], list[float]] = {}
    ended: dict[tuple[int, int], bool] = {}

    def watch(step):
        rewards.setdefault((step.policy, step.episode), []).append(step.reward)
        ended[step.policy, step.episode] = step.terminated

    make = task.env if callable(task.env) else gym_maker(task.env)
    worlds = [[make() for _ in range(min(episodes, 10))] for _ in policies]
    try:
        play(policies, worlds, episodes, 1_000_000, True, watch=watch)  # other episodes than those that scored
    finally:
        for world in (world for row in worlds for world in row):
            world.close()
    mine = lambda p: [key for key in rewards if key[0] == p]
    return [worth([np.array(rewards[key]) for key in mine(p)], [ended[key] for key in mine(p)], discount) for p in range(len(policies))]


def published(task: Task, algorithm: str) -> list[dict]:
    """The numbers that others published for these very data."""
    if task.published is None:
        return []
    known = json.loads((Path(__file__).parent / "published.json").read_text()).get(task.published, {}).get(algorithm, [])
    return known if isinstance(known, list) else [known]


def device() -> str:
    """The hardware, in words."""
    one = jax.devices()[0]
    if one.platform != "cpu":
        return f"{len(jax.devices())} × {one.device_kind}" if len(jax.devices()) > 1 else one.device_kind
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores"


# many cells ----------------------------------------------------------------------------------------------------------------


def fitting(task: Task) -> list[str]:
    """The algorithms that are defined for the task's kinds of action and observation; not those for goals, which look at no reward."""
    fits = lambda kind: type(task.actions) in kind.actions and task.observations in kind.observations
    return [name for name in algos.ALGORITHMS if fits(algos.find(name)) and algos.family(name) != "goal"]


def attempt(task: Task, algorithm: str, asked: Asked, *, place: Place, out: str | Path, progress: bool | None = None) -> dict:
    """`run_cell`; an error is written down beside the cell, and is the result: {"task", "algorithm", "failed"}."""
    mark = folder_of(out, task.name, algorithm) / "failed.json"
    try:
        result = run_cell(task, algorithm, asked, place=place, out=out, progress=progress)
    except Exception as error:
        if os.environ.get("TOPSTITCH_TRACEBACK"):
            raise
        said = str(error) if isinstance(error, (ValueError, OSError, ImportError)) else f"{type(error).__name__}: {error}"
        result = {"task": task.name, "algorithm": algorithm, "failed": said}
        write_json(mark, result)
        return result
    mark.unlink(missing_ok=True)
    return result


def run(cells: Iterable[tuple[Task, str, Asked]], *, place: Place, out: str | Path, progress: bool | None = None,
        tell: Callable[[str], None] = lambda text: None) -> list[dict]:  # fmt: skip
    """All cells, one after another, in this process."""
    cells, results = list(cells), []
    for i, (task, algorithm, asked) in enumerate(cells):
        tell(f"{i + 1}/{len(cells)}  {task.name}  {algorithm}")
        results.append(attempt(task, algorithm, asked, place=place, out=out, progress=progress))
        if "failed" in results[-1]:
            tell(f"failed: {results[-1]['failed']}")
    return results


# tables --------------------------------------------------------------------------------------------------------------------


def table(results: Sequence[dict]) -> list[dict]:
    """One row per cell: mean over seeds with Student's 95 % interval, and what stands beside it."""
    rows = []
    for result in results:
        row = {"task": result["task"], "algorithm": result["algorithm"]}
        if "failed" in result:
            rows.append(row | {"failed": result["failed"]})
            continue
        last = mean_interval(result["last"])
        row |= {"unit": result["unit"], "mean": last.value, "low": last.low, "high": last.high, "best": mean(result["best"]),
                "believes": mean(result["believes"]), "worth": mean(result["worth"]), "log": result["data"]["score"],
                "published": [{"mean": p["mean"], "source": p["source"]} for p in result["published"]], "steps": result["steps"],
                "seeds": len(result["seeds"]), "diverged": sum(fault is not None for fault in result["faults"]),
                "updates_per_s": result["updates_per_s"]}  # fmt: skip
        rows.append(plain(row))
    return rows


def mean(numbers: Sequence[float | None] | None) -> float | None:
    """Of those that are known."""
    known = [x for x in numbers or () if x is not None]
    return sum(known) / len(known) if known else None


def aggregate(results: Sequence[dict]) -> list[dict]:
    """By algorithm, the interquartile mean of the last scores over tasks and seeds, and its stratified bootstrap interval.

    Only tasks whose scores are normalised count, and all of an algorithm's; `of` is how many there are in `results`, so that two
    algorithms are compared only where both have all of them.
    """
    scored = [result for result in results if "failed" not in result and result["unit"] in NORMALISED]
    tasks, rows = list(dict.fromkeys(result["task"] for result in scored)), []
    for algorithm in dict.fromkeys(result["algorithm"] for result in scored):
        of = [result["last"] for result in scored if result["algorithm"] == algorithm]
        interval = stratified_interval(of)
        rows.append(
            plain(
                {
                    "algorithm": algorithm,
                    "iqm": interval.value,
                    "low": interval.low,
                    "high": interval.high,
                    "tasks": len(of),
                    "of": len(tasks),
                }
            )
        )
    return rows
