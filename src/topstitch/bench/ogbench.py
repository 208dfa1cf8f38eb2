"""OGBench, made again on this machine: its data sets from its own environments, and its single-task rewards.

The published data sets are downloads; what made them is public and has no learned part for these four, so they can be made again:

* `pointmaze-medium-navigate`: a point is walked through a maze from goal to goal, 1,000 episodes of 1,000 steps;
* `pointmaze-medium-stitch`: it is walked to a goal four cells away and kept there, 5,000 episodes of 200 steps;
* `cube-single-play`: a robot arm picks up a cube and puts it elsewhere, again and again, 1,000 episodes of 1,000 steps;
* `scene-play`: it moves a cube, a drawer and a window, and presses the buttons that lock these, 1,000 episodes of 1,000 steps;

and a tenth as many episodes for validation.

As the authors do (`data_gen_scripts/generate_locomaze.py`, `generate_manipspace.py` and the flags in `commands.sh`): environments,
arm controllers, action noise, starts and goals, lengths, float32 columns, and scenes whose cube was lost made anew. An episode of
T + 1 rows there is T steps here; the action of the last row, which leads nowhere, is not drawn.

What differs: the authors' scripts never seed what they draw from, so the published numbers cannot be repeated, only their
distribution; here episode i of a data set depends on (name, seed, i), the versions of `ogbench`, MuJoCo and NumPy and the kind of
machine, not on how many are made or in which parts. Columns `qvel` are not kept.

Source: Park, Frans, Eysenbach & Levine 2025, https://arxiv.org/abs/2410.20092, package `ogbench` (MIT licence). It is imported where
it is needed: `pip install 'topstitch[ogbench]'`. Rewards (`singletask`) do without.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np

from ..data import BadData, Episodes

Row = tuple[np.ndarray, np.ndarray, np.ndarray, dict]
"obs, action, next_obs, and what the environment told of the step."

WALK_NOISE = 0.5
"Standard deviation of the noise on a walker's action, `--noise=0.5` in `commands.sh`."

NEAR = 4
"Steps from the first cell to the goal of `stitch`."

PLAN_NOISE = dict(noise=0.1, noise_smoothing=0.5)
"Of the arm's plans, in `action` units and plan steps; the defaults of `generate_manipspace.py`, which adds no noise to the actions of `play`."

PART = 10_000
"Steps that are kept together on the disk: seconds of a maze, half a minute of an arm."


def walk(world, steps: int, rng: np.random.Generator, seed: int, *, stitch: bool) -> Iterator[Row]:
    """An episode in a maze: towards the goal by the shortest way over the middles of cells, with noise.

    The first cell is any free one. Action = unit vector to the middle of the next cell (of this cell, once the goal's is reached) +
    noise, clipped to ±1. Goals are free cells other than straight corridors, and a new one is drawn when one is reached; with
    `stitch`, one goal at `NEAR` steps from the first cell (that cell itself where there is none), kept to the end. Starts and goals
    are shifted by up to 1 from the middle of their cells, which are 4 wide, along each axis. A goal is reached within 1 of it.

    Ours: the way is searched once per goal, not once per step. The same decisions as `get_oracle_subgoal`, ties included.
    """
    free = world.maze_map == 0
    cells = [(int(i), int(j)) for i, j in np.argwhere(free)]
    pick = lambda among: among[rng.integers(len(among))]
    first = pick(cells)
    goals = [cell for cell in cells if not corridor(free, cell)]
    if stitch:
        around = ways(free, first)
        goals = [cell for cell in cells if around[cell] == NEAR] or [first]
    goal = pick(goals)
    obs, _ = world.reset(seed=seed, options={"task_info": {"init_ij": first, "goal_ij": goal}})
    far = ways(free, goal)
    for _ in range(steps):
        here = world.get_xy()
        ahead = np.asarray(world.ij_to_xy(onwards(far, world.xy_to_ij(here)))) - here
        action = np.clip(ahead / (np.linalg.norm(ahead) + 1e-6) + rng.normal(0, WALK_NOISE, 2), -1, 1)
        next_obs, _, _, _, told = world.step(action)
        yield obs, action, next_obs, told
        obs = next_obs
        if told["success"] and not stitch:
            goal = pick(goals)
            far = ways(free, goal)
            world.set_goal(goal_xy=world.add_noise(world.ij_to_xy(goal)))


def corridor(free: np.ndarray, cell: tuple[int, int]) -> bool:
    """Whether two opposite sides of a cell are open, and no other."""
    i, j = cell
    up, left, down, right = free[i - 1, j], free[i, j - 1], free[i + 1, j], free[i, j + 1]
    return bool(up == down and left == right and up != left)


def beside(cell: tuple[int, int]) -> list[tuple[int, int]]:
    """The cells above, to the left, below and to the right: the order in which ties are broken. Mazes have a wall all around."""
    i, j = cell
    return [(i - 1, j), (i, j - 1), (i + 1, j), (i, j + 1)]


def ways(free: np.ndarray, goal: tuple[int, int]) -> np.ndarray:
    """(rows, columns) int: the steps from each free cell to the goal; very many from a wall, or from where there is no way."""
    far = np.full(free.shape, free.size)
    far[goal], edge = 0, [goal]
    for cell in edge:  # grows while it is read
        for near in beside(cell):
            if free[near] and far[near] == free.size:
                far[near] = far[cell] + 1
                edge.append(near)
    return far


def onwards(far: np.ndarray, cell: tuple[int, int]) -> tuple[int, int]:
    """The cell to go to next: a nearer one, or the same where none is."""
    return min([cell, *beside(cell)], key=far.__getitem__)


def play(world, steps: int, rng: np.random.Generator, seed: int, *, objects: tuple[str, ...]) -> Iterator[Row]:
    """An episode of the arm: the package's planner for the object at hand moves it to a target, then the environment draws the next.

    What is drawn, and how likely, lies in `set_new_target` of the environment, and how an object is moved in `ogbench.manipspace.oracles`:
    both are the package's. With one cube nothing can be stacked, so the authors' chance of stacking has no bearing; nor do their random
    actions, which `play` has none of. `rng` is not used: the planners draw from NumPy's global generator.
    """
    planners = {name: planner(name)(env=world, **PLAN_NOISE) for name in objects}

    def start(obs, told):
        mover = planners[told["privileged/target_task"]]
        mover.reset(obs, told)
        return mover

    obs, told = world.reset(seed=seed)
    mover = start(obs, told)
    for _ in range(steps):
        action = np.clip(np.asarray(mover.select_action(obs, told)), -1, 1)
        next_obs, _, _, _, told = world.step(action)
        yield obs, action, next_obs, told
        obs = next_obs
        if mover.done:
            mover = start(*world.set_new_target())


def planner(name: str) -> Callable:
    """The package's planner for one kind of object."""
    from ogbench.manipspace.oracles.plan import button_plan, cube_plan, drawer_plan, window_plan  # pyright: ignore[reportMissingImports]

    return {
        "cube": cube_plan.CubePlanOracle,
        "button": button_plan.ButtonPlanOracle,
        "drawer": drawer_plan.DrawerPlanOracle,
        "window": window_plan.WindowPlanOracle,
    }[name]


def in_view(qpos: np.ndarray) -> bool:
    """Whether the cube of a scene (its position is entries 14 to 16 of `qpos`) never lay where it cannot be seen: y at most 0.29, and
    above -0.3 unless it is at the height of the drawer, 0.06 to 0.08."""
    y, z = qpos[:, 15], qpos[:, 16]
    return bool((y < 0.29).all() and ((y > -0.3) | ((z >= 0.06) & (z <= 0.08))).all())


# What a task asks for, and which parts of it are there: (n, parts) bool. Positions in metres, drawers and windows as far as they slide.
# The precision of every comparison is that of `ogbench.relabel_utils`, so that rewards are the same to the bit.


def at_goal(goal: tuple[float, float], info) -> np.ndarray:
    """A point within 1 of the goal (a cell is 4 wide)."""
    return np.linalg.norm(info["qpos"][:, :2] - np.asarray(goal), axis=-1)[:, None] <= 1.0


def cube_there(goal: tuple[float, float, float], info) -> np.ndarray:
    """A cube within 4 cm."""
    return np.linalg.norm(info["qpos"][:, 14:17] - np.asarray(goal), axis=-1)[:, None] <= 0.04


def scene_so(goal: tuple[tuple[float, float, float], tuple[int, int], float, float], info) -> np.ndarray:
    """Cube, two buttons, drawer and window; drawer and window within 4 cm."""
    xyz, buttons, drawer, window = goal
    slides = np.abs(info["qpos"][:, 23:25] - np.asarray([drawer, window], np.float32)) <= 0.04
    return np.concatenate([cube_there(xyz, info), info["button_states"] == np.asarray(buttons), slides], axis=-1)


MAZE = ((20.0, 20.0), (20.0, 0.0), (4.0, 12.0), (0.0, 20.0), (0.0, 0.0))
CUBE = ((0.425, -0.1, 0.02), (0.5, 0.0, 0.02), (0.35, 0.0, 0.02), (0.5, 0.2, 0.02), (0.5, -0.2, 0.02))
SCENE = (
    ((0.35, 0.05, 0.02), (1, 1), -0.16, 0.2),
    ((0.35, -0.05, 0.02), (0, 0), 0.0, 0.0),
    ((0.4, 0.15, 0.02), (1, 1), -0.16, 0.0),
    ((0.33, -0.356, 0.065986), (1, 0), 0.0, 0.0),
    ((0.33, -0.356, 0.065986), (0, 0), 0.0, 0.2),
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a data set is made, and what its five tasks ask for."""

    world: str
    "The environment, without its version."
    episodes: int
    "Of the authors' training set."
    steps: int
    "Per episode."
    script: Callable[..., Iterator[Row]]
    goals: tuple
    reached: Callable[[Any, Any], np.ndarray]
    default: int
    "The task that stands for all five, by the table in the authors' README."
    how: dict = dataclasses.field(default_factory=dict)
    "Arguments of the environment."
    extra: tuple[str, ...] = ()
    "State that `qpos` does not hold."
    sound: Callable[[np.ndarray], bool] = lambda qpos: True
    "Episodes of which this is not true are thrown away and made anew."


POINT = dict(goals=MAZE, reached=at_goal, default=1)
ARM = dict(how={"mode": "data_collection"}, default=2)

RECIPES: dict[str, Recipe] = {
    "pointmaze-medium-navigate": Recipe("pointmaze-medium", 1000, 1000, functools.partial(walk, stitch=False), **POINT),
    "pointmaze-medium-stitch": Recipe("pointmaze-medium", 5000, 200, functools.partial(walk, stitch=True), **POINT),
    "cube-single-play": Recipe("cube-single", 1000, 1000, functools.partial(play, objects=("cube",)), CUBE, cube_there, **ARM),
    "scene-play": Recipe(
        "scene", 1000, 1000, functools.partial(play, objects=("cube", "button", "drawer", "window")), SCENE, scene_so,
        extra=("button_states",), sound=in_view, **ARM,
    ),
}  # fmt: skip


def recipe_of(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"There is no recipe for {name!r}. There are: {', '.join(RECIPES)}.")
    return RECIPES[name]


def part(name: str, number: int, *, episodes: int, seed: int) -> Episodes:
    """Episodes `number * episodes` to `(number + 1) * episodes - 1` of a data set, each the same whatever part it comes in.

    obs (n, 2), (n, 28) or (n, 40) float32 for the maze, the cube and the scene; action (n, 2) or (n, 5) within ±1; `info["qpos"]`
    (n, 2), (n, 21) or (n, 25) float32, the state of the simulation at `obs`, and for scenes `info["button_states"]` (n, 2) int64. Every
    episode is truncated, every reward 0: see `singletask`.
    """
    return of_episodes(name, range(number * episodes, (number + 1) * episodes), seed)


def regenerate(
    name: str,
    *,
    episodes: int | None = None,
    seed: int = 0,
    validation: bool = False,
    folder: str | os.PathLike | None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Episodes:
    """A whole data set, by default of the authors' size, made in parts that are kept in `folder`, if any: a run that was killed goes on.

    `validation=True` makes the validation set that goes with `episodes` training episodes: the tenth as many that follow them. Give
    it a folder of its own. `tell(done, total)` is called with steps.
    """
    from ..collection import gather

    recipe = recipe_of(name)
    gym()  # before any work: is the package there?
    train = recipe.episodes if episodes is None else episodes
    first, count = (train, train // 10) if validation else (0, train)
    if count < 1:
        raise ValueError(f"{name}: nothing to make. Ask for at least {'ten training episodes' if validation else 'one episode'}.")
    each = max(1, PART // recipe.steps)
    about = {"data": name, "seed": seed, "first": first, "episodes": count, "each": each}
    about |= {package: version(package) for package in ("ogbench", "mujoco", "numpy")}

    def made(number: int) -> Episodes:
        return of_episodes(name, range(first + number * each, first + min((number + 1) * each, count)), seed)

    return gather(folder, count * recipe.steps, made, about=about, tell=tell)


def of_episodes(name: str, numbers: range, seed: int) -> Episodes:
    recipe = recipe_of(name)
    columns = [episode(name, number, seed) for number in numbers]
    joined = {key: np.concatenate([column[key] for column in columns]) for key in columns[0]}
    obs, action, next_obs = joined.pop("obs"), joined.pop("action"), joined.pop("next_obs")
    n = len(obs)
    ends = (np.arange(n) + 1) % recipe.steps == 0
    notes = ["Made by the published recipe with the package's environment; not the published file.",
             "Rewards belong to a task: every reward is 0."]  # fmt: skip
    return Episodes.of(obs, action, np.zeros(n, np.float32), np.zeros(n, bool), ends=ends, next_obs=next_obs, low=-1, high=1,
                       info=joined, source=name, notes=notes)  # fmt: skip


def episode(name: str, number: int, seed: int) -> dict[str, np.ndarray]:
    """The columns of one episode."""
    recipe = recipe_of(name)
    for attempt in itertools.count():
        seeds = np.random.SeedSequence([zlib.crc32(name.encode()), seed, number, attempt])
        own, theirs, world_seed = seeds.spawn(3)
        world = kept_world(name)
        with drawing_from(theirs.generate_state(8)):
            rows = list(recipe.script(world, recipe.steps, np.random.default_rng(own), int(world_seed.generate_state(1)[0])))
        obs, action, next_obs, told = zip(*rows)
        if recipe.sound(np.array([step["qpos"] for step in told])):
            break
    info = {"qpos": np.array([step["prev_qpos"] for step in told], np.float32)}
    info |= {key: np.array([step[f"prev_{key}"] for step in told]) for key in recipe.extra}
    return {"obs": np.array(obs, np.float32), "action": np.array(action, np.float32), "next_obs": np.array(next_obs, np.float32), **info}


@functools.lru_cache(maxsize=1)
def kept_world(name: str):
    """One environment for all episodes: making a maze leaves a file open. What a reset leaves in it (locks, the places of targets) has
    no bearing on an arm at rest, so no episode depends on those before it."""
    recipe, gymnasium = recipe_of(name), gym()
    with quietly():
        return gymnasium.make(f"{recipe.world}-v0", terminate_at_goal=False, disable_env_checker=True, **recipe.how).unwrapped


@contextlib.contextmanager
def drawing_from(seed):
    """The package draws from NumPy's global generator: within, it is seeded; afterwards it is as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


@contextlib.contextmanager
def quietly():
    """Without what the package warns of whatever one does: that there is no display, and that its bounds of actions are float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def gym():
    """Gymnasium, with OGBench's environments registered."""
    try:
        with quietly():
            import gymnasium
            import ogbench  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("OGBench's environments need the package `ogbench`. Install it with: pip install 'topstitch[ogbench]'") from error
    return gymnasium


def singletask(log: Episodes, name: str, task: int | None = None) -> Episodes:
    """A log of the data set `name` with the rewards and ends of one of its tasks (1 to 5, default: that of OGBench).

    Reward = parts of the goal that hold in the state `obs`, minus all parts (maze and cube 1, scene 5: cube, two buttons, drawer,
    window): 0 where the task is done and negative before. From OGBench 1.2 on the state *before* the action counts. Where all hold,
    the row is `terminal`; OGBench calls it mask = 0. Equal to `ogbench.relabel_utils` to the bit; goals and thresholds are written down
    here, so that the package is not needed, and a log read from a published file (`read(path, info=("qpos", ...))`) does as well.

    Logged trajectories go on when a task is done, since they were made without one. Here a terminal row ends an episode and the
    rest of the trajectory is the next: transitions are those of OGBench, episodes are more and shorter, and stretches of one
    trajectory may fall on both sides of a split, so split before. Rows that stay at a goal are episodes of one step.
    """
    recipe, task = recipe_of(name), task_of(name, task)
    if missing := [key for key in ("qpos", *recipe.extra) if key not in log.info]:
        raise BadData(f"{log.source}: the rewards of {name} are computed from the simulation's state, but the log has no {' and '.join(missing)}. "
                      f"Read it with info={('qpos', *recipe.extra)!r}.")  # fmt: skip
    parts = recipe.reached(recipe.goals[task - 1], log.info)
    reward, done = (parts.sum(axis=-1) - parts.shape[-1]).astype(np.float32), parts.all(axis=-1)
    ends = np.array(done)
    ends[log.stops - 1] = True
    notes = [note for note in log.notes if "every reward is 0" not in note]
    notes.append("Trajectories were cut behind every row in which the task is done: what follows is another episode.")
    return dataclasses.replace(
        log, reward=reward, terminal=done, stops=np.flatnonzero(ends) + 1, ids=None, source=f"{name}-singletask-task{task}", notes=tuple(notes)
    )  # fmt: skip


def task_of(name: str, task: int | None) -> int:
    recipe = recipe_of(name)
    task = recipe.default if task is None else task
    if not 1 <= task <= len(recipe.goals):
        raise ValueError(f"{name} has tasks 1 to {len(recipe.goals)}, not {task}.")
    return task


def environment(name: str, task: int | None = None) -> Callable[[], Any]:
    """Makes the environment in which a policy for a task is evaluated: give it to `evaluate`.

    It is Gymnasium's `ogbench:pointmaze-medium-singletask-task1-v0` and so on, with OGBench's time limits: 1,000 steps in the maze, 200
    with the cube, 750 in the scene. Rewards are those of `singletask`. Success is `info["success"]`: the task was done in the state
    before the step, which then also ends the episode. A score is the share of episodes with success.

    Ours: a seed given to `reset` also decides what the package draws from NumPy's global generator (where a maze is begun), which it
    leaves as it was. Arms are shaken by two unseeded random actions before they are put in place: what the solver of contacts
    remembers of that differs in the last digits.
    """
    return seeded(f"{recipe_of(name).world}-singletask-task{task_of(name, task)}-v0")


def goal_environment(name: str) -> Callable[[], Any]:
    """Makes the environment in which OGBench evaluates methods for goals: `ogbench:pointmaze-medium-v0` and so on, with the same time limits. Its
    reset tells `info["goal"]`, an observation.

    A seed given to `reset` also says which of the five tasks it is, 1 + seed mod 5: `evaluate` over 5 n episodes asks for each one n times. Unlike
    those of single tasks, goals of mazes are shaken as starts are, and success is of the state after the step.
    """
    tasks = len(recipe_of(name).goals)
    return seeded(f"{recipe_of(name).world}-v0", lambda seed: {"task_id": 1 + seed % tasks})


def seeded(world: str, asked: Callable[[int], dict] = lambda seed: {}) -> Callable[[], Any]:
    """Makes a world whose resets depend on their seed alone; `asked(seed)` are options of the reset."""
    gymnasium = gym()

    class Seeded(gymnasium.Wrapper):
        def __init__(self, env):
            super().__init__(env)
            self.observation_space, self.action_space = env.observation_space, env.action_space  # an arm makes them anew when asked

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
            with quietly(), contextlib.nullcontext() if seed is None else drawing_from(seed):
                return self.env.reset(seed=seed, options=options if seed is None else asked(seed) | (options or {}))

    def make():
        with quietly():
            return Seeded(gymnasium.make(world, disable_env_checker=True))

    return make
