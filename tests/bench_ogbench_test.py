"""OGBench's data sets, made again: few and short episodes of each."""

import dataclasses
import functools
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from topstitch.bench import ogbench as bench
from topstitch.data import BadData, Episodes
from topstitch.data.formats.ogbench import read_ogbench

needs_package = pytest.mark.skipif(find_spec("ogbench") is None, reason="ogbench is not installed: pip install 'topstitch[ogbench]'")
NAVIGATE, STITCH, CUBE, SCENE = bench.RECIPES


@pytest.fixture
def short(monkeypatch):
    """Recipes of few steps."""

    def cut(name: str, steps: int):
        monkeypatch.setitem(bench.RECIPES, name, dataclasses.replace(bench.RECIPES[name], steps=steps))

    return cut


@functools.cache
def sample(name: str) -> Episodes:
    """10,000 steps of a maze, or 3,000 of an arm, that others made by the published recipe."""
    folder = Path(os.environ.get("TOPSTITCH_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")) / "ogbench_samples"
    if not folder.is_dir():
        pytest.skip(f"samples are not in {folder} (set TOPSTITCH_SHARED_DATA)")
    return read_ogbench(folder / f"{name}-v0.npz", info=("qpos", *bench.RECIPES[name].extra))


@functools.cache
def maze(name: str) -> Episodes:
    """10,000 steps of our own."""
    return bench.part(name, 0, episodes=10_000 // bench.RECIPES[name].steps, seed=0)


def same(a: Episodes, b: Episodes) -> bool:
    return a.fingerprint() == b.fingerprint()


@functools.cache
def tasks_of(world: str):
    return bench.gym().make(f"{world}-singletask-v0", disable_env_checker=True)


def single(world: str, task: int, log: Episodes) -> dict:
    """What the package itself makes of a log's rows."""
    env = tasks_of(world)
    from ogbench.relabel_utils import relabel_dataset

    env.unwrapped._reward_task_id = task  # as in `…-singletask-task{task}-v0`; making one takes seconds
    rows = {key: column.copy() for key, column in log.info.items()}
    with bench.quietly():
        relabel_dataset(f"{world}-singletask-task{task}-v0", env, rows)
    return rows


# Rewards ------------------------------------------------------------------------------------------------------------


def line() -> Episodes:
    """A point that moves right by 0.5 towards the goal of task 1, (20, 20), passes it and comes back; then a second trajectory."""
    x = np.array([18, 18.5, 19, 19.5, 21.5, 21, 20.5, 0, 0.5, 1], np.float32)
    qpos = np.stack([x, np.full_like(x, 20)], axis=1)
    ends = np.arange(10) >= 9
    ends[6] = True
    return Episodes.of(qpos, np.zeros((10, 2)), np.zeros(10), np.zeros(10, bool), ends=ends, next_obs=qpos + 0.5, info={"qpos": qpos})


def test_a_task_that_is_done_ends_an_episode():
    log = bench.singletask(line(), NAVIGATE)
    done = np.array([0, 0, 1, 1, 0, 1, 1, 0, 0, 0], bool)  # within 1 of it, the edge counted
    np.testing.assert_array_equal(log.terminal, done)
    np.testing.assert_array_equal(log.reward, np.where(done, 0, -1))
    np.testing.assert_array_equal(log.stops, [3, 4, 6, 7, 10])
    np.testing.assert_array_equal(np.flatnonzero(log.truncated), [9])
    assert log.source == "pointmaze-medium-navigate-singletask-task1"


def test_what_is_asked_in_error():
    with pytest.raises(ValueError, match="pointmaze-medium-navigate, pointmaze-medium-stitch, cube-single-play, scene-play"):
        bench.singletask(line(), "antmaze")
    with pytest.raises(ValueError, match="tasks 1 to 5, not 6"):
        bench.singletask(line(), NAVIGATE, 6)
    with pytest.raises(BadData, match="has no button_states"):
        bench.singletask(line(), SCENE)


@needs_package
@pytest.mark.parametrize("name", bench.RECIPES)
def test_rewards_are_those_of_the_package(name):
    world = bench.RECIPES[name].world
    log = sample(name)
    draw = np.random.default_rng(0)
    for task, goal in enumerate(bench.RECIPES[name].goals, 1):
        qpos, goals = log.info["qpos"].copy(), np.concatenate([np.atleast_1d(x) for x in (goal if name == SCENE else [goal])])
        some = draw.random((4, len(qpos))) < 0.5  # rows moved to about the goal, so that tasks are done in part and in whole
        near = lambda what, size: (what + size * draw.uniform(-1, 1, (len(qpos), len(what)))).astype(np.float32)
        info = dict(log.info)
        if name in (NAVIGATE, STITCH):
            qpos[some[0]] = near(goals, 1)[some[0]]
        else:
            qpos[some[0], 14:17] = near(goals[:3], 0.03)[some[0]]
        if name == SCENE:
            qpos[some[1], 23:25] = near(goals[5:], 0.05)[some[1]]
            info["button_states"] = np.where(some[2][:, None], goals[3:5].astype(int), info["button_states"])
        log_ = dataclasses.replace(log, info=info | {"qpos": qpos})
        theirs, ours = single(world, task, log_), bench.singletask(log_, name, task)
        assert ours.reward.tobytes() == theirs["rewards"].tobytes()
        np.testing.assert_array_equal(ours.terminal, theirs["masks"] == 0)
        assert 0.05 < ours.terminal.mean() < 0.95
        if task == bench.RECIPES[name].default:
            assert same(ours, bench.singletask(log_, name))


@needs_package
@pytest.mark.parametrize("name", [NAVIGATE, CUBE, SCENE])
def test_defaults_and_rewards_are_those_of_the_environment(name):
    recipe = bench.RECIPES[name]
    unnamed = bench.gym().make(f"{recipe.world}-singletask-v0", disable_env_checker=True)
    assert unnamed.unwrapped._reward_task_id == recipe.default
    world = bench.environment(name)()
    obs, _ = world.reset(seed=3)
    again, _ = world.reset(seed=3)
    np.testing.assert_allclose(obs, again, atol=1e-6)
    assert not np.allclose(obs, world.reset(seed=4)[0], atol=1e-3)
    _, reward, terminated, truncated, told = world.step(np.zeros(world.action_space.shape))
    state = {key: np.asarray(told[f"prev_{key}"])[None] for key in ("qpos", *recipe.extra)}
    parts = recipe.reached(recipe.goals[recipe.default - 1], state)
    assert reward == parts.sum() - parts.size < 0 and not (terminated or truncated or told["success"])


@needs_package
def test_the_five_tasks_are_asked_for_in_turn_and_their_goals_are_told():
    world, tasks = bench.goal_environment(NAVIGATE)(), [1 + seed % 5 for seed in range(7)]
    goals = np.array([world.reset(seed=seed)[1]["goal"] for seed in range(7)])
    assert (np.abs(goals - np.array([bench.MAZE[task - 1] for task in tasks])) <= 1).all()  # shaken by up to 1
    assert not np.array_equal(goals[0], goals[5]) and np.array_equal(world.reset(seed=5)[1]["goal"], goals[5])
    assert "success" in world.step(np.zeros(2))[4]


# The maze -----------------------------------------------------------------------------------------------------------


@needs_package
@pytest.mark.parametrize("name", [NAVIGATE, STITCH])
def test_maze(name, short):
    short(name, 60)
    log = bench.part(name, 0, episodes=2, seed=0)
    assert same(log, bench.part(name, 0, episodes=2, seed=0))
    assert not same(log, bench.part(name, 0, episodes=2, seed=1))
    assert not same(log, bench.part(name, 1, episodes=2, seed=0))
    assert same(log.take([1]), bench.part(name, 1, episodes=1, seed=0))  # whatever the parts
    assert (len(log), log.steps, log.obs.shape, log.action.shape) == (2, 120, (120, 2), (120, 2))
    assert log.obs.dtype == log.action.dtype == log.info["qpos"].dtype == np.float32
    assert np.abs(log.action).max() <= 1 and log.truncated.sum() == 2 and not log.reward.any()
    np.testing.assert_array_equal(log.obs, log.info["qpos"])
    inner = ~log.truncated
    np.testing.assert_array_equal(log.next_obs[inner], log.obs[np.flatnonzero(inner) + 1])
    assert cells(log)[1].all()  # none in a wall


@needs_package
def test_a_walk_to_the_goal_succeeds():
    world = bench.environment(NAVIGATE, 3)()
    obs, _ = world.reset(seed=0)
    inner = world.unwrapped
    far = bench.ways(inner.maze_map == 0, inner.xy_to_ij(bench.MAZE[2]))
    seen, rewards, over = [], [], False
    while not over:
        ahead = np.asarray(inner.ij_to_xy(bench.onwards(far, inner.xy_to_ij(obs)))) - obs
        seen.append(obs)
        obs, reward, terminated, truncated, told = world.step(np.clip(ahead, -1, 1))
        rewards.append(reward)
        over = terminated or truncated
    assert terminated and told["success"] and 10 < len(seen) < 500
    seen = np.array(seen, np.float32)
    ends = np.arange(len(seen)) == len(seen) - 1
    log = Episodes.of(seen, np.zeros_like(seen), rewards, ends, info={"qpos": seen})
    asked = bench.singletask(log, NAVIGATE, 3)
    np.testing.assert_array_equal(asked.reward, rewards)
    np.testing.assert_array_equal(asked.terminal, ends)


@needs_package
def test_the_way_is_the_package_s():
    world = bench.kept_world(NAVIGATE)
    free = world.maze_map == 0
    middles = [(int(i), int(j)) for i, j in np.argwhere(free)]
    for goal in middles:
        far = bench.ways(free, goal)
        for cell in middles:
            theirs, _ = world.get_oracle_subgoal(np.array(world.ij_to_xy(cell)), np.array(world.ij_to_xy(goal)))
            np.testing.assert_array_equal(world.ij_to_xy(bench.onwards(far, cell)), theirs)
    assert [cell for cell in middles if bench.corridor(free, cell)] == [(3, 3), (4, 5), (5, 1), (5, 6), (6, 2)]


@needs_package
def test_goals_of_stitch_are_four_cells_away(short):
    short(STITCH, 1)
    world = bench.kept_world(STITCH)
    for number in range(30):
        log = bench.part(STITCH, number, episodes=1, seed=0)
        far = bench.ways(world.maze_map == 0, world.xy_to_ij(log.obs[0]))
        assert far[world.xy_to_ij(world.cur_goal_xy)] == 4


def cells(log: Episodes) -> tuple[np.ndarray, np.ndarray]:
    """The share of the maze's free cells that were visited, and whether each row is in one."""
    free = bench.kept_world(NAVIGATE).maze_map == 0
    j, i = np.floor((log.obs.T + 6) / 4).astype(int)
    seen = np.zeros_like(free)
    seen[i, j] = True
    return seen[free].mean(), free[i, j]


@needs_package
@pytest.mark.parametrize("name", [NAVIGATE, STITCH])
def test_maze_is_like_the_published_recipe_s(name):
    ours, theirs = maze(name), sample(name)
    np.testing.assert_array_equal(np.unique(ours.lengths), np.unique(theirs.lengths))
    np.testing.assert_allclose(ours.action.mean(axis=0), theirs.action.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(ours.action.std(axis=0), theirs.action.std(axis=0), atol=0.05)
    stride = lambda log: np.linalg.norm(log.next_obs - log.obs, axis=1)
    np.testing.assert_allclose(stride(ours).mean(), stride(theirs).mean(), rtol=0.05)
    np.testing.assert_allclose((np.abs(ours.action) == 1).mean(), (np.abs(theirs.action) == 1).mean(), atol=0.03)
    assert abs(cells(ours)[0] - cells(theirs)[0]) < 0.15
    width = lambda log: np.mean([np.ptp(log.obs[a:b], axis=0).max() for a, b in zip(log.starts, log.stops)])  # of where an episode went
    np.testing.assert_allclose(width(ours), width(theirs), rtol=0.15)


# The arm ------------------------------------------------------------------------------------------------------------


@needs_package
@pytest.mark.parametrize(("name", "obs", "qpos"), [(CUBE, 28, 21), (SCENE, 40, 25)])
def test_arm(name, obs, qpos, short):
    short(name, 120)
    before = np.random.get_state()[1].copy()
    log = bench.part(name, 0, episodes=2, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert same(log.take([1]), bench.part(name, 1, episodes=1, seed=0))  # whatever came before
    assert (log.obs.shape, log.action.shape, log.info["qpos"].shape) == ((240, obs), (240, 5), (240, qpos))
    assert log.obs.shape[1] == sample(name).obs.shape[1] and set(log.info) == set(sample(name).info)
    assert np.abs(log.action).max() <= 1 and log.truncated.sum() == 2
    cube = log.info["qpos"][:, 14:17]
    np.testing.assert_allclose((cube - [0.425, 0, 0]) * 10, log.obs[:, 19:22], atol=1e-4)  # the state is that of `obs`
    assert np.ptp(cube, axis=0).max() > 0.03  # it was moved


@needs_package
def test_scenes_whose_cube_was_lost_are_made_anew(short, monkeypatch):
    short(SCENE, 5)
    tried = []
    second = lambda qpos: len(tried.append(1) or tried) > 1
    monkeypatch.setitem(bench.RECIPES, SCENE, dataclasses.replace(bench.RECIPES[SCENE], sound=second))
    again = bench.part(SCENE, 0, episodes=1, seed=0)
    monkeypatch.undo()
    short(SCENE, 5)
    assert len(tried) == 2 and not same(again, bench.part(SCENE, 0, episodes=1, seed=0))
    lost = np.zeros((3, 25))
    assert bench.in_view(lost)
    for y, z, seen in [(0.29, 0.02, False), (-0.3, 0.02, False), (-0.3, 0.07, True), (-0.3, 0.09, False), (-0.29, 0.02, True)]:
        lost[1, 15:17] = y, z
        assert bench.in_view(lost) == seen


# A whole set --------------------------------------------------------------------------------------------------------


@needs_package
def test_regenerate(tmp_path, short):
    short(STITCH, 20)
    told = []
    log = bench.regenerate(STITCH, episodes=20, folder=tmp_path / "train", tell=lambda *now: told.append(now))
    assert (len(log), log.steps) == (20, 400) and told[-1] == (400, 400)
    assert same(log, bench.part(STITCH, 0, episodes=20, seed=0))
    held = bench.regenerate(STITCH, episodes=20, validation=True, folder=tmp_path / "validation")
    assert same(held, bench.part(STITCH, 10, episodes=2, seed=0))
    with pytest.raises(ValueError, match="ten training episodes"):
        bench.regenerate(STITCH, episodes=9, validation=True, folder=tmp_path / "none")
