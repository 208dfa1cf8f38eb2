"""Collections: probabilities that are true, logs that can be replayed, and outcomes that no interruption changes."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import supply_test
from gymnasium import spaces
from scipy.stats import chisquare

from topstitch import collection
from topstitch.collection import FACES, OPEN, UNKNOWN, Behaviour, Clipped, Mixture, Random, collect, gather, random_policy
from topstitch.core import Box, Discrete, Markov, Policy, Spec
from topstitch.data import Affine, BadData, Episodes, RawMarkov, View
from topstitch.data.formats.log import read_log
from topstitch.data.view import drawn
from topstitch.disk import BadFile
from topstitch.nets.distributions import Categorical, Delta, Normal, Tanh
from topstitch.supply import read_npz_policy


class Says(Markov):
    """The same distribution everywhere."""

    said: Normal | Tanh | Delta | Categorical

    def __call__(self, obs, mask=None):
        return self.said if mask is None else Categorical(self.said.logits, mask)


class Remembers(Policy):
    """Answers 0 and 1 in turn."""

    def start(self):
        return jnp.int32(0)

    def act(self, carry, obs, reward, *, mask=None, key=None):
        return carry, 1 - carry


# probabilities -------------------------------------------------------------------------------------------------------------

NORMAL = Normal(jnp.array([0.8, -0.3]), jnp.log(jnp.array([0.5, 1.1])))
LOW, HIGH = np.float32([-1, -2]), np.float32([1, 3])
SPEC = Spec(Box(1), Box(2))
VIEW = View(action=Affine(jnp.array([0.25, 0.5]), jnp.array([0.5, 2.0])))  # -0.25 … 0.75 and -1.5 … 2.5, inside the bounds
AS_IS = Behaviour(Says(NORMAL), SPEC, -jnp.ones(2), jnp.ones(2))
BEHAVIOURS = {
    "a clipped normal": AS_IS,
    "narrower than the bounds": Behaviour(RawMarkov(Says(NORMAL), VIEW, SPEC), SPEC, LOW, HIGH),
    "noise": Behaviour(RawMarkov(Says(NORMAL), VIEW, SPEC), SPEC, LOW, HIGH, noise=0.7),
    "noise at a level": Behaviour(RawMarkov(Says(NORMAL), VIEW, SPEC), SPEC, LOW, HIGH, noise=0.7, level=0.6),
    "a normal at a level": Behaviour(RawMarkov(Says(NORMAL), VIEW, SPEC), SPEC, LOW, HIGH, level=0.4),
    "a deterministic policy with noise": Behaviour(Says(Delta(jnp.array([0.9, 2.5]))), SPEC, LOW, HIGH, noise=0.2),
    "squashed": Behaviour(Says(Tanh(NORMAL)), SPEC, -jnp.ones(2), jnp.ones(2)),
    "squashed at a level": Behaviour(RawMarkov(Says(Tanh(NORMAL)), VIEW, SPEC), SPEC, LOW, HIGH, level=0.7),
    "random": Random(SPEC, LOW, HIGH),
}


def faces(said) -> list[list[float]]:
    """By coordinate, the points that have a probability."""
    base = said.base if isinstance(said, Mixture) else said
    return [[float(base.low[j]), float(base.high[j])] if isinstance(base, Clipped) else [] for j in range(2)]


def edges(said) -> list[list[float]]:
    """By coordinate, where the density may jump."""
    ends = [LOW, HIGH, -np.ones(2), np.ones(2), VIEW.action.undo(-jnp.ones(2)), VIEW.action.undo(jnp.ones(2))]
    return [sorted({float(x[j]) for x in ends} | set(points)) for j, points in enumerate(faces(said))]


def cells(said) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """By coordinate, (nodes, weights) of a quadrature: of each interval between the edges, then of each point on a face."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    between = [[((b - a) / 2 * nodes + (a + b) / 2, (b - a) / 2 * weights) for a, b in itertools.pairwise(x)] for x in edges(said)]
    return [[*inner, *((np.array([x]), np.ones(1)) for x in points)] for inner, points in zip(between, faces(said))]


def masses(said) -> np.ndarray:
    """The probability of every pair of cells, by quadrature."""
    log_prob, (first, second) = jax.jit(jax.vmap(said.log_prob)), cells(said)
    mass = np.empty((len(first), len(second)))
    for (i, (x, v)), (j, (y, w)) in itertools.product(enumerate(first), enumerate(second)):
        grid = np.zeros((40_000, 2), np.float32)  # one shape, compiled once
        grid[: len(x) * len(y)] = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
        density = np.exp(np.asarray(log_prob(grid), np.float64))[: len(x) * len(y)].reshape(len(x), len(y))
        mass[i, j] = v @ density @ w
    return mass


def cell_of(said, action: np.ndarray) -> tuple[np.ndarray, ...]:
    """Which pair of cells each action lies in."""
    places = []
    for x, ends, points in zip(action.T, map(np.float32, edges(said)), map(np.float32, faces(said))):
        place = np.clip(np.searchsorted(ends, x, side="right") - 1, 0, len(ends) - 2)
        for number, point in enumerate(points):
            place[x == point] = len(ends) - 1 + number
        places.append(place)
    return tuple(places)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_probabilities_sum_to_one_and_samples_have_them(name):
    said = BEHAVIOURS[name](jnp.zeros(1))
    mass = masses(said)
    assert abs(mass.sum() - 1) < 2e-3
    keys = jax.random.split(jax.random.key(0), 40_000)
    action, log_prob = jax.jit(jax.vmap(lambda key: drawn(said, key)))(keys)
    again = jax.jit(jax.vmap(said.log_prob))(action)
    clear = (abs(action) < 0.999).all(axis=1) | ("squashed" not in name)  # the inverse of tanh is inexact near its ends
    np.testing.assert_allclose(log_prob[clear], again[clear], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(jax.jit(jax.vmap(said.sample))(keys), action)
    seen = np.zeros(mass.shape)
    np.add.at(seen, cell_of(said, np.asarray(action)), 1)
    often = mass * len(keys) > 5
    assert seen[~often].sum() < 40
    assert often.sum() == 1 or chisquare(seen[often], mass[often] * seen[often].sum() / mass[often].sum()).pvalue > 1e-4


def test_the_greedy_action_is_kept():
    inner = RawMarkov(Says(NORMAL), VIEW, SPEC)
    for name in ("narrower than the bounds", "noise", "noise at a level", "a normal at a level"):
        np.testing.assert_allclose(BEHAVIOURS[name](jnp.zeros(1)).mode(), inner(jnp.zeros(1)).mode(), rtol=1e-6)
    greedy = Behaviour(inner, SPEC, LOW, HIGH, greedy=True)(jnp.zeros(1))
    action, log_prob = drawn(greedy, jax.random.key(0))
    np.testing.assert_array_equal(action, inner(jnp.zeros(1)).mode())
    assert np.isnan(log_prob)
    action, log_prob = drawn(Behaviour(Says(Delta(jnp.zeros(2))), SPEC, LOW, HIGH, level=0.5)(jnp.zeros(1)), jax.random.key(0))
    assert action.shape == (2,) and np.isnan(log_prob)


def test_squashed_samples_at_the_ends_have_the_density_that_made_them():
    said = Behaviour(Says(Tanh(Normal(jnp.full(2, 12.0), jnp.zeros(2)))), SPEC, -jnp.ones(2), jnp.ones(2))(jnp.zeros(1))
    action, log_prob = drawn(said, jax.random.key(0))
    assert (action > 0.999999).all() and np.isfinite(log_prob)
    assert log_prob > said.log_prob(action) + 5  # which sees the action only, and its tanh cannot be undone


def test_a_squashed_policy_has_no_part_in_what_it_cannot_do():
    """Its box is smaller than the bounds, and much of its mass lies at the ends of it."""
    inner = RawMarkov(Says(Tanh(Normal(jnp.zeros(2), jnp.full(2, 1.6)))), VIEW, SPEC)
    said = Behaviour(inner, SPEC, LOW, HIGH, level=0.5)(jnp.zeros(1))
    keys = jax.random.split(jax.random.key(0), 2000)
    action, log_prob = jax.jit(jax.vmap(lambda key: drawn(said, key)))(keys)
    outside = (abs(VIEW.action(action)) > 1).any(axis=1)
    assert 0.25 < outside.mean() < 0.35  # 60 % of the bounds, half of the time
    np.testing.assert_allclose(log_prob[outside], np.log(0.5 / 10), rtol=1e-5)
    assert (log_prob[~outside] > np.log(0.5 / 10)).all()


CHOICE = Spec(Box(1), Discrete(5))
MASKS = [None, jnp.array([True, False, True, True, False])]


@pytest.mark.parametrize("mask", MASKS, ids=["all", "some"])
@pytest.mark.parametrize("how", [{}, {"level": 0.3}, {"greedy": True}, {"greedy": True, "level": 0.8}], ids=str)
def test_choices_by_enumeration(how, mask):
    inner = Says(Categorical(jnp.array([0.0, 3.0, 1.0, 1.5, -1.0])))
    said = Behaviour(inner, CHOICE, **how)(jnp.zeros(1), mask)
    p = np.exp(np.array([said.log_prob(jnp.int32(a)) for a in range(5)], np.float64))
    own, legal = inner(jnp.zeros(1), mask), np.ones(5) if mask is None else np.asarray(mask, float)
    base = np.eye(5)[int(own.mode())] if how.get("greedy") else np.asarray(own.probs())
    level = how.get("level", 1.0)
    np.testing.assert_allclose(p, level * base + (1 - level) * legal / legal.sum(), atol=1e-6)
    assert abs(p.sum() - 1) < 1e-6
    action, log_prob = jax.vmap(lambda key: drawn(said, key))(jax.random.split(jax.random.key(0), 20_000))
    np.testing.assert_allclose(np.exp(log_prob), p[action], rtol=1e-5)
    seen = np.bincount(action, minlength=5)
    assert (seen[p == 0] == 0).all()
    assert (p > 0).sum() == 1 or chisquare(seen[p > 0], 20_000 * p[p > 0] / p.sum()).pvalue > 1e-4


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"noise": 0.0}, "above 0"),
        ({"noise": 0.1, "greedy": True}, "not both"),
        ({"level": 0.0}, "random policy"),
        ({"level": 1.5}, "at most 1"),
    ],
)
def test_settings_that_make_no_sense(how, said):
    with pytest.raises(ValueError, match=said):
        Behaviour(Says(NORMAL), SPEC, LOW, HIGH, **how)
    with pytest.raises(ValueError, match="vectors"):
        Behaviour(Says(Categorical(jnp.zeros(5))), CHOICE, noise=0.1)


# environments --------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(collection, "SAVE", 200)


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    """An untrained policy for Pendulum, whose actions lie in [-2, 2]: torques up to 1."""
    held = supply_test.arrays("clipped_gaussian")
    cut = {"W0": held["W0"][:, :3], "W_mu": held["W_mu"][:1], "b_mu": held["b_mu"][:1], "log_std": held["log_std"][:1]}
    path = tmp_path_factory.mktemp("policy") / "p.npz"
    np.savez(path, **(held | cut | {name: held[name][:3] for name in ("obs_mean", "obs_var")}))
    return path


def replay(log: Episodes, env: str) -> None:
    """Every episode again, from its seed and with its actions."""
    world = gymnasium.make(env)
    for number, (start, stop) in enumerate(zip(log.starts, log.stops)):
        obs, _ = world.reset(seed=int(log.ids[number]))
        for row in range(start, stop):
            np.testing.assert_array_equal(log.obs[row], np.float32(obs))
            obs, reward, terminated, _, _ = world.step(int(log.action[row]) if log.action.ndim == 1 else log.action[row])
            np.testing.assert_array_equal(log.next_obs[row], np.float32(obs))
            assert (log.reward[row], log.terminal[row]) == (np.float32(reward), terminated)
    world.close()


def test_a_log_can_be_replayed():
    told = []
    log = collect("random", "CartPole-v1", steps=510, seed=7, lanes=3, tell=lambda done, total: told.append((done, total)))
    assert (log.steps, log.ids.tolist()) == (510, list(range(7, 7 + len(log))))
    assert log.truncated.tolist() == [False] * 509 + [True]  # cut there; all others fell
    np.testing.assert_array_equal(log.log_prob, np.log(np.float32([0.5] * 510)))
    assert told == sorted(told) and told[-1] == (510, 510) and [done for done, _ in told].count(510) == 1 and len(told) > 10
    assert any("CartPole-v1, acting at random, episode i from seed 7 + i, with topstitch" in note for note in log.notes)
    replay(log, "CartPole-v1")


def test_noise_and_level_in_an_environment(pendulum):
    inner = read_npz_policy(pendulum)
    log = collect(inner, "Pendulum-v1", steps=500, noise=0.3, level=0.8, lanes=1)
    assert log.lengths.tolist() == [200, 200, 100] and log.truncated.sum() == 3 and not log.terminal.any()
    assert log.view.action.scale.tolist() == [2] and FACES in log.notes
    behaviour = Behaviour(inner, log.spec, np.float32([-2]), np.float32([2]), noise=0.3, level=0.8)
    said = behaviour(jnp.asarray(log.obs))
    np.testing.assert_allclose(log.log_prob, said.log_prob(jnp.asarray(log.action)), rtol=1e-4, atol=1e-4)
    far = abs(log.action - np.asarray(said.mode())).max(axis=1) > 1.9  # more than three standard deviations
    assert 0.02 < far.mean() < 0.2
    replay(log, "Pendulum-v1")


def test_the_policy_as_it_is(pendulum):
    inner = read_npz_policy(pendulum)
    log = collect(inner, "Pendulum-v1", steps=200, lanes=1)
    assert (abs(log.action) <= 1).all() and 0.01 < (abs(log.action) == 1).mean() < 0.99
    said = Behaviour(inner, log.spec, np.float32([-2]), np.float32([2]))(jnp.asarray(log.obs))
    np.testing.assert_allclose(log.log_prob, said.log_prob(jnp.asarray(log.action)), rtol=1e-4, atol=1e-4)
    assert (log.log_prob[abs(log.action[:, 0]) == 1] < 0).all()  # probabilities
    greedy = collect(inner, "Pendulum-v1", steps=200, lanes=1, greedy=True)
    np.testing.assert_allclose(greedy.action, inner(jnp.asarray(greedy.obs)).mode(), rtol=1e-5, atol=1e-5)
    assert greedy.log_prob is None and UNKNOWN in greedy.notes and FACES not in greedy.notes


def test_policies_with_a_memory():
    log = collect(Remembers(), "CartPole-v1", steps=60, lanes=2)
    time = np.arange(60) - np.repeat(log.starts, log.lengths)
    np.testing.assert_array_equal(log.action, time % 2)
    assert log.log_prob is None and UNKNOWN in log.notes
    with pytest.raises(ValueError, match="memory"):
        collect(Remembers(), "CartPole-v1", steps=60, level=0.5)


class Parts(gymnasium.Env):
    """Observations in parts; only action t % 3 and 2 are legal; an episode of seed s is cut after 2 + s % 3 steps."""

    observation_space = spaces.Dict({"b": spaces.Box(-9, 9, (2, 1), np.float64), "a": spaces.Discrete(3)})
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        self.seed_, self.t = seed, 0
        return self.see(), self.info()

    def see(self):
        return {"a": self.t % 3, "b": np.full((2, 1), self.t + 0.5)}

    def info(self):
        over = self.t == 2 + self.seed_ % 3
        return {} if over else {"action_mask": np.isin(np.arange(3), [self.t % 3, 2])}

    def step(self, action):
        self.t += 1
        over = self.t == 2 + self.seed_ % 3
        return self.see(), float(action), over and self.seed_ % 2 == 0, over and self.seed_ % 2 == 1, self.info()


def test_parts_of_observations_and_masks():
    log = collect("random", Parts, steps=40, lanes=2)
    t = np.arange(40) - np.repeat(log.starts, log.lengths)
    np.testing.assert_array_equal(log.obs, np.concatenate([np.eye(3)[t % 3], np.stack([t + 0.5] * 2, axis=1)], axis=1))
    np.testing.assert_array_equal(log.next_obs[:, 3], t + 1.5)
    np.testing.assert_array_equal(log.mask, np.isin(np.arange(3), 2) | (np.arange(3) == t[:, None] % 3))
    choices = np.where(t % 3 == 2, 1, 2)
    np.testing.assert_allclose(log.log_prob, -np.log(choices), rtol=1e-6)
    ends = log.stops[:-1] - 1
    assert log.next_mask[ends].all() and OPEN in log.notes
    np.testing.assert_array_equal(log.terminal[ends], log.ids[:-1] % 2 == 0)
    assert log.source == "Parts" and log.reward.tolist() == log.action.tolist()


class Odd(gymnasium.Env):
    def __init__(self, seen=None, acted=None):
        self.observation_space, self.action_space = seen or spaces.Box(-1, 1, (2,)), acted or spaces.Discrete(2)


@pytest.mark.parametrize(
    ("world", "said"),
    [
        (lambda: Odd(seen=spaces.Box(0, 255, (3, 8, 8), np.uint8)), "channels seem to come first"),
        (lambda: Odd(acted=spaces.MultiBinary(2)), "actions are MultiBinary"),
        (lambda: Odd(acted=spaces.Discrete(2, start=1)), "whole numbers from 0"),
        (lambda: Odd(acted=spaces.Box(-np.inf, np.inf, (2,))), "no bounds"),
        (lambda: Odd(acted=spaces.Box(np.float32([0, 0]), np.float32([1, 0]))), "none that differ"),
    ],
)
def test_environments_that_are_refused(world, said):
    with pytest.raises(ValueError, match=said):
        collect("random", world, steps=10)
    with pytest.raises(ValueError, match=said):
        random_policy(world())


def test_wrong_requests(pendulum):
    inner = read_npz_policy(pendulum)
    with pytest.raises(ValueError, match="not the environment that the policy was learned for"):
        collect(inner, "CartPole-v1", steps=10)
    with pytest.raises(ValueError, match="cannot make 'CartPool-v1'"):
        collect("random", "CartPool-v1", steps=10)
    with pytest.raises(ValueError, match="0 steps"):
        collect("random", "CartPole-v1", steps=0)
    with pytest.raises(ValueError, match="one lane"):
        collect("random", "CartPole-v1", steps=10, lanes=0)


# parts and interruptions ---------------------------------------------------------------------------------------------------


def numbers(number: int) -> Episodes:
    """Two episodes of 2 and 3 steps that tell which part they are from."""
    n = 10 * number + np.arange(5.0)
    return Episodes.of(
        n, np.zeros(5, int), n, np.arange(5) == 1, ends=[0, 1, 0, 0, 1], next_obs=n + 1, actions=2, ids=[2 * number, 2 * number + 1]
    )


def same(a: Episodes, b: Episodes) -> None:
    assert (a.fingerprint(), a.notes, a.source, a.spec) == (b.fingerprint(), b.notes, b.source, b.spec)
    assert a.ids.tolist() == b.ids.tolist() and a.ids.dtype == b.ids.dtype
    for name, column in a.columns().items():
        assert column.dtype == b.columns()[name].dtype
        np.testing.assert_array_equal(column, b.columns()[name])


def test_parts_are_gathered_until_there_are_enough(tmp_path):
    asked = []

    def part(number):
        asked.append(number)
        return numbers(number)

    log = gather(tmp_path / "parts", 13, part, about={"seed": 1})
    assert asked == [0, 1, 2] and log.reward.tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 20, 21, 22]
    assert log.stops.tolist() == [2, 5, 7, 10, 12, 13] and log.ids.tolist() == [0, 1, 2, 3, 4, 5]
    same(gather(tmp_path / "parts", 13, part, about={"seed": 1}), log)
    assert asked == [0, 1, 2]  # all are there
    (tmp_path / "parts" / "000001.log.safetensors").write_bytes(b"damaged")
    same(gather(tmp_path / "parts", 13, part, about={"seed": 1}), log)
    assert asked == [0, 1, 2, 1]
    gather(tmp_path / "parts", 18, part, about={"seed": 1})  # more than before
    assert asked == [0, 1, 2, 1, 3]
    same(gather(None, 13, part, about={"seed": 1}), log)


def test_folders_of_others(tmp_path):
    gather(tmp_path / "parts", 3, numbers, about={"seed": 1, "level": 1.0})
    with pytest.raises(BadFile, match=r"seed was 1, now it is 2; noise was null, now it is 0\.5"):
        gather(tmp_path / "parts", 3, numbers, about={"seed": 2, "level": 1.0, "noise": 0.5})
    (tmp_path / "parts" / "about.json").write_text("{")
    with pytest.raises(BadFile, match="damaged"):
        gather(tmp_path / "parts", 3, numbers, about={"seed": 1, "level": 1.0})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years")
    with pytest.raises(FileExistsError, match="not empty"):
        gather(tmp_path / "other", 3, numbers, about={})


HOW = dict(env="Pendulum-v1", steps=300, seed=5, noise=0.2, level=0.9, lanes=1)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_collection_goes_on_to_the_bit(pendulum, tmp_path):
    """Parts of one episode of 200 steps; killed where the first is kept, while the second is played, and where it is kept."""
    long = dict(HOW, steps=500)
    whole = collect(read_npz_policy(pendulum), **long)
    script = f"""if True:
        import os, sys
        from topstitch import collection
        from topstitch.supply import read_npz_policy
        collection.SAVE, said = 200, []
        def stop(done, total):
            said.append(done)
            if str(said) == sys.argv[1]:
                os.kill(os.getpid(), 9)
        collection.collect(read_npz_policy({str(pendulum)!r}), **{long}, folder="parts", tell=stop)
    """
    for said, parts in (("[200, 200]", 1), ("[200, 400]", 1), ("[200, 400, 400]", 2)):
        done = subprocess.run([sys.executable, "-c", script, said], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len(list((tmp_path / "parts").glob("*.log.safetensors"))) == parts
    same(collect(read_npz_policy(pendulum), **long, folder=tmp_path / "parts"), whole)
    assert len(list((tmp_path / "parts").glob("*.log.safetensors"))) == 3
    assert read_log(tmp_path / "parts" / "000002.log.safetensors").ids.tolist() == [7]


def test_what_the_outcome_depends_on(pendulum, tmp_path):
    inner = read_npz_policy(pendulum)
    one = collect(inner, **HOW, folder=tmp_path / "parts")
    same(collect(inner, **HOW), one)
    same(collect(inner, **(HOW | {"steps": 250})), one.head(250))
    for change in ({"seed": 6}, {"noise": 0.3}, {"level": 0.5}, {"lanes": 2}, {"noise": None, "greedy": True}):
        other = collect(inner, **(HOW | {"steps": 100} | change))
        assert other.fingerprint() != one.head(100).fingerprint()
        with pytest.raises(BadFile, match=next(iter(change))):
            collect(inner, **(HOW | change), folder=tmp_path / "parts")
    changed = jax.tree.map(lambda x: x + 1e-3, inner)
    with pytest.raises(BadFile, match="policy was"):
        collect(changed, **HOW, folder=tmp_path / "parts")


def test_parts_of_other_spaces_cannot_be_one_log():
    wide = dataclasses.replace(numbers(1), spec=Spec(Box(1), Discrete(3)))
    with pytest.raises(BadData, match="spaces"):
        gather(None, 9, lambda number: [numbers(0), wide][number], about={})
