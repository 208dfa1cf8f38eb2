"""What data on the device promise: nothing crosses an episode, what was pushed last stays, units can be undone."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topstitch.algos import find
from topstitch.core import Algorithm, Box, Discrete, Trained, static
from topstitch.data import BadData, Episodes
from topstitch.data.device import Batch, Mixture, Ring
from topstitch.data.view import Affine
from topstitch.loop import train
from topstitch.testing import tiny

SMALL = settings(max_examples=25, deadline=None)


@st.composite
def logs(draw):
    """Arguments of `Episodes.of`: episodes of 20 steps in all (one shape, one program). Row i observes i, and its `next_obs` is i + 1/2."""
    n = 20
    stops = draw(st.lists(st.integers(1, n - 1), unique=True, max_size=8))
    ends = np.isin(np.arange(n) + 1, [*stops, n])
    terminal = ends & np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return dict(
        obs=np.arange(n) * 1.0, action=rng.uniform(-1, 1, n), reward=rng.normal(size=n), terminal=terminal, ends=ends,
        next_obs=np.arange(n) + 0.5, low=-2, high=2,
    )  # fmt: skip


def episode_of(log: Episodes) -> np.ndarray:
    return np.repeat(np.arange(len(log)), log.lengths)


def ramp(start: int, n: int) -> Batch:
    """Rows that can be told apart by their reward."""
    x = jnp.arange(start, start + n, dtype=jnp.float32)
    return Batch(x[:, None], x[:, None], x, jnp.zeros(n), x[:, None])


# rings -------------------------------------------------------------------------------------------------------------------------


@SMALL
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=6))
def test_a_ring_holds_the_last_valid_rows_in_order(pushes):
    capacity = 5
    data = dataclasses.replace(tiny(Box).transitions(), all=ramp(0, 4))
    ring, pushed = Ring.empty(data, capacity), []
    for i, valid in enumerate(pushes):
        ring = jax.jit(Ring.push)(ring, ramp(10 * i, 4), jnp.array(valid))
        pushed += [10.0 * i + j for j, ok in enumerate(valid) if ok]
        assert int(ring.size) == min(len(pushed), capacity) and int(ring.at) == len(pushed) % capacity
        held = np.asarray(ring.store.reward)
        oldest = held[: int(ring.size)] if len(pushed) < capacity else np.roll(held, -int(ring.at))
        assert oldest.tolist() == pushed[-capacity:]
        np.testing.assert_array_equal(ring.store.obs[:, 0], ring.store.reward)  # all columns move together
    if pushed:
        drawn = np.asarray(ring.draw(64, key=jax.random.key(0)).reward).tolist()
        assert set(drawn) <= set(pushed[-capacity:])


def test_a_full_push_replaces_everything():
    data = dataclasses.replace(tiny(Box).transitions(), all=ramp(0, 4))
    ring = Ring.empty(data, 4).push(ramp(0, 3)).push(ramp(10, 4))
    assert sorted(np.asarray(ring.store.reward)) == [10, 11, 12, 13]


# mixtures ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [(0.05, 0.95), (1 / 3, 1 / 3, 1 / 3), (0.1, 0.2, 0.7)])
@pytest.mark.parametrize("n", [7, 40])
def test_a_mixture_keeps_its_shares(shares, n):
    whole = tiny(Box).transitions()
    parts = tuple(dataclasses.replace(whole, all=ramp(100 * i, 7)) for i in range(len(shares)))
    drawn = Mixture(parts, shares).draw(n, key=jax.random.key(0))
    assert len(drawn) == n
    counts = np.bincount(np.asarray(drawn.reward).astype(int) // 100, minlength=len(shares))
    assert (np.abs(counts - n * np.array(shares)) < 1 + 1e-6).all()


@pytest.mark.parametrize("shares", [(1.0,), (1.0, 0.0), (0.0, 1.0)])
def test_a_mixture_of_one_is_that_one(shares):
    a, key = tiny(Box).transitions(), jax.random.key(3)
    b = dataclasses.replace(a, all=ramp(0, 7)) if shares[0] else a
    parts = ((a, b) if shares[0] else (dataclasses.replace(a, all=ramp(0, 7)), a))[: len(shares)]
    for x, y in zip(jax.tree.leaves(Mixture(parts, shares).draw(9, key=key)), jax.tree.leaves(a.draw(9, key=key))):
        np.testing.assert_array_equal(x, y)
    assert Mixture(parts, shares).spec == a.spec


# episodes are kept apart -----------------------------------------------------------------------------------------------------------


draw = jax.jit(lambda windows, key: windows.draw(64, key=key))


@SMALL
@given(logs(), st.integers(0, 2**16))
def test_windows_never_cross_an_episode(columns, seed):
    log = Episodes.of(**columns)
    length = 4
    drawn = draw(log.windows(length), jax.random.key(seed))
    row, mask, episode = np.asarray(drawn.obs[..., 0]).astype(int), np.asarray(drawn.mask), episode_of(log)
    assert (episode[row] == episode[row[:, :1]]).all()  # padding too
    first = row[:, 0]
    np.testing.assert_array_equal(mask.sum(axis=1), np.minimum(length, log.stops[episode[first]] - first))
    assert (np.diff(mask, axis=1) <= 0).all() and (mask[:, 0] == 1).all()
    ahead = np.where(mask > 0, first[:, None] + np.arange(length), row)
    np.testing.assert_array_equal(row, ahead)
    np.testing.assert_array_equal(drawn.time, row - log.starts[episode[row]])
    np.testing.assert_allclose(drawn.reward, log.reward[row])
    want = [log.reward[i : log.stops[episode[i]]].sum() for i in range(log.steps)]
    np.testing.assert_allclose(drawn.to_go, np.array(want)[row], atol=1e-5)


@SMALL
@given(logs())
def test_next_actions_come_from_the_same_episode(columns):
    log = Episodes.of(**columns)
    if log.truncated.sum() == log.steps:
        return
    rows = log.transitions(next_action=True).rows()
    row, episode = np.asarray(rows.obs[:, 0]).astype(int), episode_of(log)
    np.testing.assert_array_equal(row, np.flatnonzero(~log.truncated))  # a step whose next action is not known is left out
    going = np.asarray(rows.terminal) == 0
    assert (episode[row[going] + 1] == episode[row[going]]).all()
    np.testing.assert_allclose(rows.next_action[going], log.action[row[going] + 1] / 2)
    assert len(log.transitions()) == log.steps


def test_a_log_of_single_truncated_steps_knows_no_next_action():
    log = Episodes.of(np.zeros((3, 1)), np.zeros((3, 1)), np.zeros(3), np.zeros(3), ends=np.ones(3), next_obs=np.ones((3, 1)))
    with pytest.raises(BadData, match="no next action is known"):
        log.transitions(next_action=True)


@SMALL
@given(logs(), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_returns_are_sums_to_the_end_of_the_episode(columns, discount):
    log = Episodes.of(**columns)
    rows = log.transitions(returns=discount).rows()
    reward, want = np.float64(log.reward), np.zeros(log.steps)
    for start, stop in zip(log.starts, log.stops):
        for i in range(start, stop):
            want[i] = sum(discount ** (j - i) * reward[j] for j in range(i, stop))
    np.testing.assert_allclose(rows.returns, want, rtol=1e-4, atol=1e-4)
    assert log.transitions().rows().returns is None


# units -----------------------------------------------------------------------------------------------------------------------------


@SMALL
@given(st.integers(0, 2**16), st.integers(1, 3))
def test_normalising_can_be_undone(seed, leading):
    rng = np.random.default_rng(seed)
    scale = Affine(np.float32(rng.normal(size=3) * 10), np.float32(rng.uniform(0.1, 10, 3)))
    x = np.float32(rng.normal(size=(*range(2, 1 + leading), 3)) * 10)
    unit = jax.tree.map(jnp.asarray, scale)
    np.testing.assert_allclose(unit.undo(unit(jnp.asarray(x))), x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(unit(jnp.asarray(x)), scale.host(x), rtol=1e-5, atol=1e-5)


def test_normalised_observations_are_standard_and_the_next_ones_share_their_units():
    log = tiny(Box)
    rows = log.transitions().rows()
    np.testing.assert_allclose(rows.obs.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.obs.std(axis=0), 1, atol=2e-3)
    np.testing.assert_allclose(log.view.obs.undo(rows.obs), log.obs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log.view.obs.undo(rows.next_obs), log.next_obs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["standard", "range"])
def test_rewards_may_be_seen_in_other_units(how):
    log = tiny(Box).normalised(reward=how)
    rows = log.transitions(returns=0.9).rows()
    np.testing.assert_allclose(log.view.reward.undo(rows.reward), log.reward, rtol=1e-4, atol=1e-4)
    if how == "standard":
        assert abs(float(rows.reward.mean())) < 1e-4 and float(rows.reward.std()) == pytest.approx(1, abs=2e-3)
    else:
        assert np.ptp(dataclasses.replace(log, reward=np.asarray(rows.reward)).returns()) == pytest.approx(1000, rel=1e-4)
    first = log.stops[0]
    want = [sum(0.9 ** (j - i) * float(rows.reward[j]) for j in range(i, first)) for i in range(first)]
    np.testing.assert_allclose(rows.returns[:first], want, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(log.windows(2).to_go[:first], np.cumsum(rows.reward[:first][::-1])[::-1], rtol=1e-3, atol=1e-3)


@SMALL
@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 10)), min_size=2, max_size=2), st.integers(0, 2**16))
def test_actions_are_brought_to_the_unit_box_and_back(bounds, seed):
    low, width = np.float32(bounds).T
    u = np.random.default_rng(seed).uniform(size=(30, 2)).astype(np.float32)
    u[:2] = [[0, 0], [1, 1]]
    log = Episodes.of(np.zeros((30, 1)), low + u * width, np.zeros(30), np.arange(30) == 29, low=low, high=low + width)
    unit = log.transitions().rows().action
    np.testing.assert_allclose(unit, 2 * u - 1, atol=1e-4)
    assert jnp.abs(unit).max() <= 1 + 1e-4
    np.testing.assert_allclose(log.view.action.undo(unit), log.action, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("action", [Box, Discrete])
@pytest.mark.parametrize("obs", [Box, Discrete])
def test_types_on_the_device(action, obs):
    log = tiny(action, obs=obs, masks=action is Discrete)
    rows = log.transitions(returns=0.9).draw(4, key=jax.random.key(0))
    numbers = {Box: jnp.float32, Discrete: jnp.int32}
    assert rows.obs.dtype == rows.next_obs.dtype == numbers[obs] and rows.action.dtype == numbers[action]
    assert rows.reward.dtype == rows.terminal.dtype == rows.returns.dtype == jnp.float32
    assert (rows.mask is None) == (action is Box) and (rows.mask is None or rows.mask.dtype == rows.next_mask.dtype == bool)
    assert len(rows) == 4 and log.transitions().rows() is not None


def test_rows_are_drawn_whole_and_alike():
    """Every column of a drawn row comes from one logged step, and every step is drawn about as often."""
    data = dataclasses.replace(tiny(Box).transitions(), all=ramp(0, 10))
    drawn = data.draw(20_000, key=jax.random.key(0))
    for column in (drawn.obs[:, 0], drawn.action[:, 0], drawn.next_obs[:, 0]):
        np.testing.assert_array_equal(column, drawn.reward)
    np.testing.assert_allclose(np.bincount(np.asarray(drawn.reward).astype(int)) / 20_000, 0.1, atol=0.01)


# time-outs -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dqn", "discrete_bcq", "discrete_cql", "iql", "awac"])
@pytest.mark.parametrize("ended", [False, True], ids=["truncated", "terminal"])
def test_time_outs_are_not_ends(name, ended):
    """A world that pays 1 for ever is worth 1 / (1 - γ), however soon the log was cut off; if it truly ended at once, 1."""
    n, gamma = 8, 0.5
    ends = np.ones(n, bool)
    log = Episodes.of(np.zeros(n), np.zeros(n), np.ones(n), ends & ended, ends=ends, next_obs=np.zeros(n), states=1, actions=1)
    algorithm = find(name)(discount=gamma, lr=0.02, target_rate=0.5, hidden=(), batch_size=4, steps=600)
    out = train([(algorithm, 0)], log, every=600)
    q = jax.tree.map(lambda x: x[0], out.states.critic.model).every(jnp.zeros(1, jnp.int32))
    np.testing.assert_allclose(q, 1.0 if ended else 1 / (1 - gamma), atol=0.02)


# preparation -----------------------------------------------------------------------------------------------------------------------


class Returns(Algorithm[Trained]):
    """Reads a float where the data are made."""

    actions: ClassVar = (Box,)
    discount: float = 0.9
    lr: float = 0.1
    steps: int = static(2)
    batch_size: int = static(4)

    def prepare(self, episodes):
        return episodes.transitions(returns=1.0 * self.discount)

    def init(self, data, *, key):
        return jnp.zeros(())

    def update(self, state, batch, *, step, key):
        return state + self.lr * (batch.returns.mean() - state), {}

    def policy(self, state):
        raise NotImplementedError


def test_a_float_that_shapes_the_data_cannot_be_swept():
    log = tiny(Box)
    out = train([(Returns(lr=0.1), 0), (Returns(lr=0.2), 0)], log)  # another one can
    assert out.states[0] != out.states[1]
    with pytest.raises(ValueError, match=r"Returns\.discount takes the values \[0\.5, 0\.9\]"):
        train([(Returns(discount=0.9), 0), (Returns(discount=0.5), 0)], log)
