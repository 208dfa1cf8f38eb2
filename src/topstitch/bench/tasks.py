"""Named tasks: a log that is read or made the same way everywhere, and how what was learned from it is scored.

What is made here imitates the recipes of known data sets, and is not those data sets: numbers that others published stand beside a
task only where `Task.published` says that its data are the published ones.
"""

import dataclasses
import difflib
import functools as ft
import hashlib
import importlib.metadata
import json
import math
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core import Box, Discrete, Image, Policy
from ..data import Affine, BadData, Episodes
from ..data.formats.log import read_log, write_log
from ..data.read import read
from ..stats import d4rl_score
from . import icu_sepsis

Size = int | Literal["full"] | None
"Steps of a log; the authors' number; or the task's default."
Tell = Callable[[str, int, int], None]
"Hears what is going on, and how much of it is done, of how much."
Unit = Literal["return", "D4RL-normalised", "success %", "survival %"]
NORMALISED = ("D4RL-normalised", "success %")
"Units in which tasks may be averaged with one another."


class Missing(FileNotFoundError):
    """A file that a task needs is not there; the message says which, and how to come by it."""


def cache_folder() -> Path:
    given = os.environ.get("TOPSTITCH_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "topstitch"


def sources_folder() -> Path | None:
    given = os.environ.get("TOPSTITCH_SOURCES")
    return Path(given) if given else None


@dataclasses.dataclass(frozen=True)
class Place:
    """Where logs are kept, and where a user's own files lie."""

    cache: Path = dataclasses.field(default_factory=cache_folder)
    "Logs that were made or downloaded. TOPSTITCH_CACHE, or ~/.cache/topstitch."
    sources: Path | None = dataclasses.field(default_factory=sources_folder)
    "A folder with `d3rlpy_h5/`, `policies/`, `minari/` and `d4rl/`, as far as there is something in them. TOPSTITCH_SOURCES."
    tell: Tell = lambda what, done, total: None

    def find(self, part: str, advice: str) -> Path:
        """The file or folder `part` of `sources`; `Missing`, with the advice, if it is not there."""
        if self.sources is None:
            raise Missing(f"This task needs {part}, and no folder of sources is named (--sources, or TOPSTITCH_SOURCES). {advice}")
        if not (self.sources / part).exists():
            raise Missing(f"This task needs {self.sources / part}, which is not there. {advice}")
        return self.sources / part


@dataclasses.dataclass(frozen=True)
class Task:
    """A log, and what a policy learned from it is worth."""

    name: str
    about: str
    family: str
    "Whose settings the algorithms take, in `bench.settings`."
    actions: Discrete | Box
    log: Callable[[Place, Size], Episodes]
    unit: Unit = "return"
    env: str | Callable[[], Any] | None = None
    "Where policies act: a Gymnasium id, or what makes an environment."
    value: Callable[[Sequence[Policy]], np.ndarray] | None = None
    "Instead of an environment: the exact return of each policy, (n,)."
    published: str | None = None
    "The data set whose published numbers stand beside; only where the data are the published ones."
    steps: int = 100_000
    "Updates, unless others are asked for."
    episodes: int = 10
    "Per evaluation."
    size: Size = None
    observations: type = Box
    "The kind of observation."
    like: str = ""
    "The name by which `bench.settings` knows it, if that is another."

    def read(self, place: Place) -> Episodes:
        """The log, of `size` steps."""
        return dataclasses.replace(self.log(place, self.size), source=self.name)

    def sized(self, size: Size) -> "Task":
        """The same with a log of another size, under the name NAME@SIZE."""
        name = self.name.split("@")[0]
        published = self.published if size in (None, "full") else None
        return dataclasses.replace(
            self, name=name if size is None else f"{name}@{size}", size=size, like=self.like or name, published=published
        )

    def scores(self, returns, success=None) -> np.ndarray:
        """(runs,) mean scores, in `unit`, of (runs, episodes) returns; for tasks that are scored by success, of those flags."""
        if self.unit == "success %":
            if success is None:
                raise ValueError(f"{self.name} is scored by success, but its environment does not report any.")
            return 100 * np.asarray(success, np.float64).mean(axis=-1)
        mean = np.asarray(returns, np.float64).mean(axis=-1)
        if self.unit == "D4RL-normalised":
            scored = d4rl_score(self.env, mean) if isinstance(self.env, str) else None
            if scored is None:
                raise ValueError(f"D4RL has no scale for {self.env}.")
            return scored
        return 100 * mean if self.unit == "survival %" else mean


# recipes -------------------------------------------------------------------------------------------------------------------

SEED = 0
RECIPE = 1
"Counts up when a recipe changes what it makes."


def cut(log: Episodes, size: Size) -> Episodes:
    return log if size is None or size == "full" else log.head(size)


def versions(*packages: str) -> dict[str, str]:
    """Those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cached(place: Place, name: str, recipe: dict, make: Callable[[Path], Episodes]) -> Episodes:
    """The log of a recipe, made once. `make` gets a folder for its parts, from which it goes on if it was interrupted."""
    mark = hashlib.sha256(json.dumps({"name": name, "recipe": RECIPE, **recipe}, sort_keys=True).encode()).hexdigest()[:12]
    path = place.cache / "logs" / f"{name}-{mark}.log.safetensors"
    if path.is_file():
        try:
            return read_log(path)
        except BadData:
            path.replace(path.with_suffix(".damaged"))
    parts = path.with_name(f"{name}-{mark}.parts")
    log = dataclasses.replace(make(parts), source=name)
    write_log(path, log)
    shutil.rmtree(parts, ignore_errors=True)
    return log


def stays(place: Place, size: Size) -> Episodes:
    return cut(icu_sepsis.log(), size)


@ft.cache
def hospital():
    from ..worlds.icu_sepsis import icu_sepsis as world

    return world(masks=False)


def survival(policies: Sequence[Policy]) -> np.ndarray:
    """(n,) the exact probability of survival under each."""
    from ..loop import stack

    return icu_sepsis.survival(hospital(), stack(list(policies)))


def d3rlpy(file: str, bound: float | None = None) -> Callable[[Place, Size], Episodes]:
    """A file that d3rlpy published. `bound` is that of the environment's actions, which are not in the file."""

    def log(place: Place, size: Size) -> Episodes:
        advice = ("d3rlpy published it (https://github.com/takuseno/d3rlpy-datasets); or make a log of your own with "
                  "`topstitch train dqn|sac --env ID` and `topstitch collect`.")  # fmt: skip
        found = read(place.find(f"d3rlpy_h5/{file}", advice))
        if bound is not None:
            size_of = found.action.shape[1]
            scale = Affine(np.zeros(size_of, np.float32), np.full(size_of, bound, np.float32))
            kept = tuple(note for note in found.notes if "No bounds" not in note)
            found = dataclasses.replace(found, view=dataclasses.replace(found.view, action=scale), notes=kept)
        return cut(found, size)

    return log


@dataclasses.dataclass(frozen=True)
class Part:
    """A share of a collected log."""

    policy: str
    "A file in `policies/`, without its ending; or 'random'."
    share: float = 1.0
    noise: float | None = None
    "Added to its greedy action, as a share of half the range; by default it acts by its own chance."


def collected(name: str, env: str, *parts: Part, steps: int = 200_000, full: int = 1_000_000) -> Callable[[Place, Size], Episodes]:
    """Steps of stored policies, one after another, each acting by chance as it learned to."""

    def log(place: Place, size: Size) -> Episodes:
        from ..collection import collect
        from ..supply import read_npz_policy

        total = full if size == "full" else size or steps
        advice = (f"It holds a trained policy as plain arrays (docs: `topstitch.supply`). Your own levels: `topstitch train sac --env {env}`, "
                  f"then `topstitch collect --env {env} --policy RUN`, and `topstitch train` on that log.")  # fmt: skip
        files = {p.policy: place.find(f"policies/{p.policy}.npz", advice) for p in parts if p.policy != "random"}
        shares = np.cumsum([0.0, *(part.share for part in parts)])
        bounds = np.round(total * shares / shares[-1]).astype(int)
        recipe = {
            "env": env, "steps": total, "seed": SEED, "parts": [dataclasses.asdict(part) for part in parts],
            "files": {policy: hashlib.sha256(path.read_bytes()).hexdigest() for policy, path in files.items()},
            "versions": versions("gymnasium", "mujoco", "gymnasium-robotics"),
        }  # fmt: skip

        def make(folder: Path) -> Episodes:
            logs = []
            for i, part in enumerate(parts):
                what = f"{name}: {part.policy}"
                policy = "random" if part.policy == "random" else read_npz_policy(files[part.policy])
                logs.append(collect(
                    policy, env, steps=int(bounds[i + 1] - bounds[i]), seed=SEED + 10_000_000 * i, noise=part.noise, folder=folder / str(i),
                    tell=ft.partial(place.tell, what),
                ))  # fmt: skip
            return Episodes.join(*logs) if len(logs) > 1 else logs[0]

        return cached(place, name, recipe, make)

    return log


def ogbench(data: str, episodes: int) -> Callable[[Place, Size], Episodes]:
    """Made anew by OGBench's own scripted controllers, as `bench.ogbench` drives them, with the rewards of the default single task."""

    def log(place: Place, size: Size) -> Episodes:
        from .ogbench import RECIPES, singletask

        known = RECIPES[data]
        many = known.episodes if size == "full" else episodes if size is None else max(1, math.ceil(size / known.steps))
        return cut(singletask(trajectories(data, many, place), data), size)

    return log


def trajectories(data: str, episodes: int, place: Place) -> Episodes:
    """The same in whole trajectories and without rewards: what methods for goals learn from."""
    from .ogbench import regenerate

    recipe = {"data": data, "episodes": episodes, "seed": SEED, "versions": versions("ogbench", "mujoco", "numpy")}
    make = lambda folder: regenerate(data, episodes=episodes, seed=SEED, folder=folder, tell=ft.partial(place.tell, data))
    return cached(place, data, recipe, make)


@ft.cache
def maker(data: str) -> Callable[[], Any]:
    from .ogbench import environment

    return environment(data)


def goal_world(data: str) -> Callable[[], Any]:
    """Makes the environment of the same single task; the package is imported when it is asked for."""
    return lambda: maker(data)()


def breakout(name: str, *levels: float) -> Callable[[Place, Size], Episodes]:
    """Steps of `bench.minatar`'s player, as many at each level: the share of actions that are its own, where the others are random."""

    def log(place: Place, size: Size) -> Episodes:
        from ..collection import collect
        from .minatar import LIMIT, BreakoutPlayer, environment

        total = 1_000_000 if size == "full" else size or 100_000
        bounds = np.round(np.linspace(0, total, len(levels) + 1)).astype(int)
        recipe = {"levels": levels, "steps": total, "seed": SEED, "limit": LIMIT, "versions": versions("minatar", "gymnasium", "numpy")}

        def make(folder: Path) -> Episodes:
            play = lambda i, level: collect(
                BreakoutPlayer() if level else "random", environment("Breakout"), steps=int(bounds[i + 1] - bounds[i]),
                seed=SEED + 10_000_000 * i, level=level or 1.0, folder=folder / str(i), tell=ft.partial(place.tell, f"{name}: level {level:g}"),
            )  # fmt: skip
            return Episodes.join(*(play(i, level) for i, level in enumerate(levels)))

        return cached(place, name, recipe, make)

    return log


def game_world(game: str) -> Callable[[], Any]:
    """Makes a game of MinAtar; the package is imported when it is asked for."""

    def make():
        from .minatar import environment

        return environment(game)()

    return make


def door_human(place: Place, size: Size) -> Episodes:
    advice = "Minari has it: `minari download D4RL/door/human-v2`, or run the task minari:D4RL/door/human-v2, which downloads it."
    return cut(read(place.find("minari/D4RL/door/human-v2", advice)), size)


# originals -----------------------------------------------------------------------------------------------------------------

D4RL_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
WORLDS = {
    "hopper": ("locomotion", "Hopper-v5", 3), "halfcheetah": ("locomotion", "HalfCheetah-v5", 6), "walker2d": ("locomotion", "Walker2d-v5", 6),
    "door": ("adroit", "gymnasium_robotics:AdroitHandDoor-v1", 28), "hammer": ("adroit", "gymnasium_robotics:AdroitHandHammer-v1", 26),
    "pen": ("adroit", "gymnasium_robotics:AdroitHandPen-v1", 24), "relocate": ("adroit", "gymnasium_robotics:AdroitHandRelocate-v1", 30),
}  # fmt: skip
"Family, environment and size of actions of the originals that are known here."


def d4rl_url(name: str) -> str:
    """Where D4RL keeps "hopper-medium-v2" and the like: its own rule, https://github.com/Farama-Foundation/D4RL, `infos.py`."""
    world, _, rest = name.partition("-")
    kind, _, version = rest.rpartition("-v")
    words = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert") if WORLDS.get(world, "?")[0] == "locomotion" else (
        "human", "cloned", "expert")  # fmt: skip
    if world not in WORLDS or kind not in words or version not in ("0", "1", "2"):
        known = f"{', '.join(WORLDS)}, for example hopper-medium-expert-v2 or door-human-v1"
        raise ValueError(f"{name!r} is no data set of D4RL that can be run here. Known are those of {known}.")
    if WORLDS[world][0] == "adroit":
        if version != "1":
            raise ValueError(f"Of {world}, D4RL's version 1 is read: {world}-{kind}-v1.")
        return f"{D4RL_SERVER}/hand_dapg_v1/{name}.hdf5"
    if version == "0":
        return f"{D4RL_SERVER}/gym_mujoco/{world}_{'mixed' if kind == 'medium-replay' else kind.replace('-', '_')}.hdf5"
    return f"{D4RL_SERVER}/gym_mujoco_v{version}/{world}_{kind.replace('-', '_')}-v{version}.hdf5"


def download(url: str, path: Path, tell: Tell = lambda what, done, total: None) -> Path:
    """The file behind `url`, whole or not at all; one that is already there is kept.

    `OSError` if the network fails, or if fewer or more bytes come than the server announced.
    """
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=60) as answer:
            announced, done = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(1 << 20):
                done += file.write(block)
                tell(path.name, done, announced or done)
            if announced and done != announced:
                raise OSError(f"{done:,} of {announced:,} bytes came")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{url} could not be downloaded ({error}). Try again, or fetch it by hand and save it as {path}.") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def of_d4rl(name: str) -> Task:
    """D4RL's own data set, from `sources/d4rl/`, or downloaded."""
    url = d4rl_url(name)
    family, env, size = WORLDS[name.split("-")[0]]

    def log(place: Place, wanted: Size) -> Episodes:
        local = None if place.sources is None else place.sources / "d4rl" / url.rsplit("/", 1)[1]
        return cut(
            read(local if local is not None and local.is_file() else download(url, place.cache / "d4rl" / Path(url).name, place.tell)),
            wanted,
        )

    about = f"D4RL's {name}, downloaded; policies act in {env.split(':')[-1]}, where published numbers were measured in an older version"
    return Task(f"d4rl:{name}", about, family, Box(size), log, "D4RL-normalised", env, published=name, steps=1_000_000, like=name)


def of_minari(name: str) -> Task:
    """A Minari data set, downloaded if it is not at hand."""
    world = next((part for part in name.lower().split("/") if part in WORLDS), None)
    if world is None:
        raise ValueError(f"{name!r} is no data set of Minari that can be run here. Known are those of {', '.join(WORLDS)}, for example "
                         "minari:mujoco/hopper/medium-v0. Any other can be trained on with `topstitch train … --data ID`.")  # fmt: skip
    family, env, size = WORLDS[world]

    def log(place: Place, wanted: Size) -> Episodes:
        local = None if place.sources is None else place.sources / "minari" / name
        return cut(read(local) if local is not None and local.is_dir() else read(name, download=True), wanted)

    like = "-".join(name.lower().split("/")[-2:])
    return Task(
        f"minari:{name}", f"Minari's {name}, downloaded", family, Box(size), log, "D4RL-normalised", env, steps=1_000_000, like=like
    )


# the table -----------------------------------------------------------------------------------------------------------------

DOOR = "gymnasium_robotics:AdroitHandDoor-v1"


def locomotion(world: str, env: str, size: int, kind: str, about: str, *parts: Part) -> Task:
    name = f"{world}-{kind}"
    about = f"{about}; 200,000 steps (--size full: 1,000,000), collected in {env}; not D4RL's data"
    return Task(name, about, "locomotion", Box(size), collected(name, env, *parts), "D4RL-normalised", env, steps=200_000)


HOPPER = ("hopper", "Hopper-v5", 3)
CHEETAH = ("halfcheetah", "HalfCheetah-v5", 6)
LEVELS = {
    "hopper": ("a2c", "sac", "ppo", "tqc", "trpo"),
    "halfcheetah": ("trpo", "a2c", "ppo", "sac", "tqc"),
}
"Stored policies from worst to best, by their measured returns."


def mixture(world: str, env: str) -> tuple[Part, ...]:
    """Random actions and all levels in equal shares, half of each disturbed: wide, as a replay buffer is."""
    names = [f"sb3_{level}_{env.split('-')[0]}-v3" for level in LEVELS[world]]
    return (Part("random"), *(Part(name, 0.5, noise) for name in names for noise in (None, 0.3)))


TASKS = {task.name: task for task in (
    Task("icu-sepsis", "20,000 intensive-care stays under simulated clinicians; survival is exact, computed in the simulation", "icu-sepsis",
         Discrete(25), stays, "survival %", value=survival, steps=8000, observations=Discrete),
    Task("cartpole-replay", "99,866 steps of a learner's own replay, d3rlpy's file", "cartpole", Discrete(2),
         d3rlpy("cartpole_v1.1.0.h5"), env="CartPole-v1", steps=50_000),
    Task("cartpole-random", "99,999 steps of random actions, d3rlpy's file", "cartpole", Discrete(2),
         d3rlpy("cartpole_random_v1.1.0.h5"), env="CartPole-v1", steps=50_000),
    Task("pendulum-replay", "99,500 steps of a learner's own replay, d3rlpy's file", "pendulum", Box(1),
         d3rlpy("pendulum_v1.1.0.h5", bound=2.0), env="Pendulum-v1", steps=50_000),
    Task("pendulum-random", "99,500 steps of random actions, d3rlpy's file", "pendulum", Box(1),
         d3rlpy("pendulum_random_v1.1.0.h5", bound=2.0), env="Pendulum-v1", steps=50_000),
    locomotion(*HOPPER, "random", "uniformly random actions", Part("random")),
    locomotion(*HOPPER, "medium", "a SAC policy worth about 47", Part("sb3_sac_Hopper-v3")),
    locomotion(*HOPPER, "expert", "a TQC policy worth about 106", Part("sb3_tqc_Hopper-v3")),
    locomotion(*HOPPER, "medium-expert", "half medium, half expert", Part("sb3_sac_Hopper-v3"), Part("sb3_tqc_Hopper-v3")),
    locomotion(*HOPPER, "replay-mixture", "random actions and five levels in equal shares, half of each disturbed", *mixture(*HOPPER[:2])),
    locomotion(*CHEETAH, "random", "uniformly random actions", Part("random")),
    locomotion(*CHEETAH, "medium", "a PPO policy worth about 47", Part("sb3_ppo_HalfCheetah-v3")),
    locomotion(*CHEETAH, "expert", "a TQC policy worth about 95", Part("sb3_tqc_HalfCheetah-v3")),
    locomotion(*CHEETAH, "medium-expert", "half medium, half expert", Part("sb3_ppo_HalfCheetah-v3"), Part("sb3_tqc_HalfCheetah-v3")),
    locomotion(*CHEETAH, "replay-mixture", "random actions and five levels in equal shares, half of each disturbed", *mixture(*CHEETAH[:2])),
    Task("pointmaze-medium-navigate", "200 walks of 1,000 steps through a maze (--size full: 1,000), made by OGBench's controller; one goal",
         "pointmaze", Box(2), ogbench("pointmaze-medium-navigate", 200), "success %", goal_world("pointmaze-medium-navigate"), episodes=20),
    Task("pointmaze-medium-stitch", "1,000 short walks of 200 steps (--size full: 5,000), made by OGBench's controller; one far goal",
         "pointmaze", Box(2), ogbench("pointmaze-medium-stitch", 1000), "success %", goal_world("pointmaze-medium-stitch"), episodes=20),
    Task("cube-single-play", "100 episodes of 1,000 steps (--size full: 1,000) of an arm playing with a cube, made by OGBench's controller",
         "manipulation", Box(5), ogbench("cube-single-play", 100), "success %", goal_world("cube-single-play")),
    Task("scene-play", "100 episodes of 1,000 steps (--size full: 1,000) of an arm, a cube, a drawer, a window and two buttons, made by "
         "OGBench's controller", "manipulation", Box(5), ogbench("scene-play", 100), "success %", goal_world("scene-play")),
    Task("minatar-breakout-random", "100,000 steps of random actions in MinAtar's Breakout (--size full: 1,000,000): pictures of 10 × 10 × 4",
         "minatar", Discrete(3), breakout("minatar-breakout-random", 0.0), env=game_world("Breakout"), steps=20_000, observations=Image),
    Task("minatar-breakout-mixture", "100,000 steps in MinAtar's Breakout (--size full: 1,000,000), a quarter random, the others of a scripted "
         "player of whose actions half, three tenths and a tenth are random", "minatar", Discrete(3),
         breakout("minatar-breakout-mixture", 0.0, 0.5, 0.7, 0.9), env=game_world("Breakout"), steps=20_000, observations=Image),
    Task("door-human", "25 human demonstrations of opening a door, D4RL's as Minari recorded them anew for today's environment (door/human-v2); "
         "numbers published for the older recording were measured elsewhere, so none stands beside", "adroit", Box(28), door_human,
         "D4RL-normalised", DOOR),
    Task("door-expert", "200,000 steps of a trained hand opening a door (--size full: 1,000,000), collected in AdroitHandDoor-v1; not D4RL's "
         "data", "adroit", Box(28), collected("door-expert", DOOR, Part("dapg_door")), "D4RL-normalised", DOOR),
)}  # fmt: skip


def find(name: str) -> Task:
    """A task by its name; by the id of an original, "d4rl:hopper-medium-v2" or "minari:mujoco/hopper/medium-v0"; or NAME@SIZE, a number
    of steps or "full". `ValueError` for names that mean nothing."""
    name, at, size = name.partition("@")
    if at and size != "full" and not (size.isdigit() and int(size) > 0):
        raise ValueError(f"{name}@{size}: a size is a number of steps, or 'full'.")
    kind, _, original = name.partition(":")
    if original and kind in ("d4rl", "minari"):
        task = of_d4rl(original) if kind == "d4rl" else of_minari(original)
    elif name in TASKS:
        task = TASKS[name]
    else:
        near = difflib.get_close_matches(name, TASKS, 3, 0.4)
        meant = f" Did you mean {', '.join(near)}?" if near else ""
        raise ValueError(
            f"There is no task {name!r}.{meant} `topstitch bench --list` shows all; originals are named d4rl:ID and minari:ID."
        )
    return task.sized(int(size) if size.isdigit() else size) if at else task
