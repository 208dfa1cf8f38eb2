"""Steps that take longer than one unit of time: what follows one counts by the discount to the power of its duration, everywhere."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small

from topstitch import nets, ope, ops
from topstitch.algos import ALGORITHMS, find
from topstitch.core import Discrete
from topstitch.data import BadData, Episodes
from topstitch.data.trajectories import trajectories
from topstitch.loop import begin, line_up, one_step, unstack
from topstitch.ope.fqe import FQE, ask
from topstitch.ope.model import learned_worlds, tabular
from topstitch.ope.table import of, table
from topstitch.testing import tiny
from topstitch.worlds import random_mdp, sample

GAMMA = 0.5
"Its square is a number of float32, so that equal is equal to the bit, whichever way it is reached."
DISCOUNTED = [name for name in ALGORITHMS if "discount" in {field.name for field in dataclasses.fields(find(name))}]
PLANS = ("trajectory_transformer",)
"Count rewards ahead by steps of one unit of time, and say so."
SHARES = ("algae_dice",)
"Count visits in units of 1 - γ, so that a discount means something beside what follows: for these only that durations matter is shown."


def lasting(log: Episodes, duration) -> Episodes:
    return dataclasses.replace(log, duration=np.broadcast_to(np.float32(duration), log.steps).copy())


# learning --------------------------------------------------------------------------------------------------------------------


def judged(log: Episodes):
    """What fitted Q evaluation learns from: a log, and what a policy does in it."""
    return ask(log.policy(nets.Categories(log.spec, (4,), key=jax.random.key(0))), log)


@pytest.mark.parametrize("name", [*(name for name in DISCOUNTED if name not in PLANS), "fqe"])
def test_steps_of_two_units_are_steps_of_one_whose_discount_is_squared(name):
    """One program, as the discount is one of its arguments; a third run, of shorter steps, shows that they matter."""
    algorithm = FQE(hidden=(4,), batch_size=8, steps=5) if name == "fqe" else small(name)
    prepared = lambda rule, log: judged(log) if name == "fqe" else rule.prepare(log)
    log, key = tiny(algorithm.actions[0], obs=algorithm.observations[0]), jax.random.key(0)
    algos, keys = line_up([(algorithm, 0)])
    [state] = unstack(begin(algos, prepared(algorithm, lasting(log, 1)), keys), 1)

    def learned(step, discount, duration):
        rule, now = dataclasses.replace(algorithm, discount=discount), state
        data = prepared(rule, lasting(log, duration))
        for i in range(3):
            now = step(rule, now, data, jnp.int32(i))
        return now

    for stage in reversed(range(len(algorithm.stages()))):
        step = lambda rule, state, data, i, k=stage: one_step(rule.stages()[k], state, data, i, key)[0]
        step = jax.jit(step) if algorithm.stages()[stage].compiled else step
        long, squared, short = learned(step, GAMMA, 2), learned(step, GAMMA**2, 1), learned(step, GAMMA, 1)
        matters = False
        for (place, a), b, c in zip(jax.tree_util.tree_leaves_with_path(long), *map(jax.tree.leaves, (squared, short)), strict=True):
            if "duration" not in jax.tree_util.keystr(place):  # imagined steps hold theirs
                if name not in SHARES:
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=jax.tree_util.keystr(place))
                matters |= not np.allclose(a, c, rtol=1e-3, atol=1e-4)
        if matters:
            return
    raise AssertionError(f"{name} has a discount, but what it learns does not depend on it")


@pytest.mark.parametrize("name", PLANS)
def test_plans_say_that_they_count_steps(name):
    algorithm = small(name)
    with pytest.raises(BadData, match="have durations"):
        algorithm.prepare(lasting(tiny(algorithm.actions[0]), 2))


def test_without_durations_the_discount_is_what_was_given():
    rows = tiny(Discrete).transitions().rows()
    assert rows.duration is None and rows.discount(gamma := object()) is gamma
    assert dataclasses.replace(rows[:2], duration=jnp.array([1.0, 3.0])).discount(0.5).tolist() == [0.5, 0.125]


def test_returns_to_go_by_hand():
    log = Episodes.of(np.zeros(5), np.zeros(5, int), [1, 2, 4, 8, 16], [0, 0, 1, 0, 1], duration=[1, 2, 9, 0.5, 9])
    np.testing.assert_allclose(log.to_go(0.25), [1 + 0.25 * (2 + 0.0625 * 4), 2 + 0.0625 * 4, 4, 8 + 0.5 * 16, 16])
    np.testing.assert_allclose(log.returns(0.25), [1.5625, 16])
    rows = log.transitions(returns=0.25).rows()
    np.testing.assert_allclose(rows.returns, log.to_go(0.25))
    np.testing.assert_allclose(rows.duration, log.duration)
    with_chances = dataclasses.replace(log, log_prob=np.zeros(5, np.float32))
    episodes = trajectories(with_chances).take(jnp.arange(2))
    np.testing.assert_allclose((episodes.elapsed() * episodes.live)[:, :3], [[0, 1, 3], [0, 0.5, 0]])
    earned = ops.to_go(episodes.rows.reward * episodes.live, episodes.rows.discount(0.25))
    np.testing.assert_allclose(earned * episodes.live, [[1.5625, 2.25, 4], [16, 16, 0]])


def test_durations_are_above_zero():
    with pytest.raises(BadData, match=r"row 1 takes 0\.0 units of time; expected more than 0"):
        lasting(tiny(Discrete), [1, 0] + [1] * 46)


# judging ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    mdp = random_mdp(5, 3, ending=0.2, seed=4)
    log = sample(mdp, mdp.uniform(), 200, horizon=8, key=jax.random.key(0))
    assert log.truncated.any() and log.terminal.any()
    rows = np.random.default_rng(1).dirichlet(5 * np.ones(3), size=5)
    return log, nets.TablePolicy(jnp.asarray(rows, jnp.float32))


def test_estimates_of_long_steps_are_those_of_a_squared_discount(world):
    log, policy = world
    names = ("is", "wis", "pdis", "wpdis", "clipped", "dr", "wdr", "magic", "mrdr", "lstdq", *ope.MARGINAL)
    asked = lambda duration, discount: ope.estimate(
        policy, lasting(log, duration), names, discount=discount, resamples=50,
        values=lambda policy, log: ope.lstdq(policy, log, discount=discount),
    )  # fmt: skip
    long, squared, short = asked(2, 0.9), asked(1, 0.81), asked(1, 0.9)
    assert not any(row.refused for row in long)
    for a, b, c in zip(long, squared, short):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-6), a.name
        assert a.value != pytest.approx(c.value, rel=1e-3), a.name
    assert long.logged.value == pytest.approx(squared.logged.value) != short.logged.value


def test_forests_of_long_steps_are_those_of_a_squared_discount(world):
    log, policy = world
    fit = lambda duration, discount: ope.tree_fqe(policy, lasting(log, duration), discount=discount, trees=1, iterations=3).estimate(log)
    assert fit(2, 0.9) == pytest.approx(fit(1, 0.81)) and fit(2, 0.9) != pytest.approx(fit(1, 0.9))


def test_estimates_are_the_mean_return_when_policies_agree_whatever_steps_take():
    rng, lengths = np.random.default_rng(0), (3, 1, 4, 2)
    n, ends = sum(lengths), np.isin(np.arange(sum(lengths)) + 1, np.cumsum(lengths))
    reward, duration, q = rng.normal(size=n), rng.uniform(0.2, 3, n), rng.normal(size=n)
    made = of(reward, np.full(n, 0.5), np.full(n, 0.5), ends=ends, discount=0.8, duration=duration, values=ope.Values(q, q, np.zeros(4)))
    wanted, start = [], 0
    for length in lengths:
        wanted.append(sum(0.8 ** duration[start : start + t].sum() * reward[start + t] for t in range(length)))
        start += length
    for name in ("is", "wis", "pdis", "wpdis", "dr", "wdr"):
        assert ope.ESTIMATORS[name](made).value == pytest.approx(np.mean(wanted)), name
    np.testing.assert_allclose(made.ahead()[made.live][~ends], made.discount[:, 1:][made.live[:, 1:]])


def test_learned_worlds_do_not_know_how_long_steps_take(world):
    log, policy = world
    with pytest.raises(ope.Refused, match="has durations"):
        tabular(policy, lasting(log, 2), discount=0.9)
    with pytest.raises(ope.Refused, match="has durations"):
        learned_worlds(lasting(log, 2))
    long = int(log.lengths.argmax())
    assert table(policy, lasting(log, 2), discount=0.9).discount[long, 3] == pytest.approx(0.9**6)
