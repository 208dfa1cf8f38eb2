"""Logs of tabular worlds, the shipped examples, and what bad input is told."""

import importlib.util

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from topstitch.core import Discrete, Markov, Spec
from topstitch.data import Episodes
from topstitch.nets import Categorical, stochastic
from topstitch.worlds import MDP, chain, empirical, gridworld, random_mdp, sample, table
from topstitch.worlds.icu_sepsis import clinician, icu_sepsis, stays_path

needs_icu = pytest.mark.skipif(importlib.util.find_spec("icu_sepsis") is None, reason="the extra `icu` is not installed")
KEY = jax.random.key(0)


def small(seed=1, *, ending=0.15) -> MDP:
    mdp = random_mdp(6, 3, ending=ending, seed=seed)
    mask = np.ones((6, 3), bool)
    mask[0, 1] = mask[3, 2] = mask[4, 0] = False
    return MDP(mdp.transition, np.random.default_rng(seed).normal(size=(6, 3, 6)), mdp.start, mdp.terminal, mask)


# sampling -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_sampled_returns_average_to_the_exact_value(discount):
    mdp = small()
    returns = sample(mdp, mdp.uniform(), 4000, horizon=150, key=KEY).returns(discount)
    assert abs(returns.mean() - mdp.performance(mdp.uniform(), discount)) < 4 * returns.std() / len(returns) ** 0.5


def test_a_log_is_faithful_to_its_world():
    mdp = small()
    policy = mdp.uniform() * [1, 2, 3]
    policy /= policy.sum(axis=1, keepdims=True)
    log = sample(mdp, policy, 3000, horizon=100, key=KEY)
    np.testing.assert_allclose(np.exp(log.log_prob), policy[log.obs, log.action], rtol=1e-6)
    assert log.spec == Spec(Discrete(6), Discrete(3)) and len(log) == 3000
    assert (log.mask == mdp.legal[log.obs]).all() and log.mask[np.arange(log.steps), log.action].all()
    assert (log.next_mask == mdp.legal[log.next_obs]).all()
    assert (log.terminal == (log.next_obs == 5)).all() and (log.obs != 5).all()
    np.testing.assert_array_equal(log.reward, np.asarray(mdp.reward)[log.obs, log.action, log.next_obs])
    inner = np.delete(np.arange(log.steps), log.stops - 1)
    assert (log.next_obs[inner] == log.obs[inner + 1]).all()
    assert (log.time == np.arange(log.steps) - np.repeat(log.starts, log.lengths)).all()
    visits = mdp.occupancy(policy, 1.0)
    np.testing.assert_allclose(np.bincount(log.obs * 3 + log.action, minlength=18).reshape(6, 3) / 3000, visits, atol=0.12)
    assert (np.asarray(mdp.transition)[log.obs, log.action, log.next_obs] > 0).all()


def test_truncation_is_not_termination():
    mdp = small(ending=0.01)
    log = sample(mdp, mdp.uniform(), 50, horizon=5, key=KEY)
    assert log.truncated.any() and log.lengths.max() == 5
    assert not (log.truncated & log.terminal).any() and (log.next_obs[log.truncated] != 5).all()
    last = log.stops - 1
    assert (log.truncated[last] | log.terminal[last]).all() and (log.lengths[~log.terminal[last]] == 5).all()
    forever = random_mdp(4, 2)
    assert sample(forever, forever.uniform(), 3, horizon=7, key=KEY).lengths.tolist() == [7, 7, 7]


def test_the_key_decides_the_log():
    mdp = small()
    logs = [sample(mdp, mdp.uniform(), 20, horizon=20, key=jax.random.key(seed)).fingerprint() for seed in (0, 0, 1)]
    assert logs[0] == logs[1] != logs[2]


# what a log says ------------------------------------------------------------------------------------------------------


def test_the_empirical_world_tends_to_the_true_one():
    mdp = small()
    model = empirical(sample(mdp, mdp.uniform(), 20_000, horizon=150, key=KEY))
    live = slice(0, 5)
    np.testing.assert_allclose(model.mdp.transition[live, :, :5][mdp.legal[live]], mdp.transition[live, :, :5][mdp.legal[live]], atol=0.03)
    np.testing.assert_allclose(model.behaviour[live], mdp.uniform()[live], atol=0.02)
    assert (model.mdp.legal[live] == mdp.legal[live]).all()
    assert mdp.performance(model.mdp.optimum(0.9).policy[:-1], 0.9) == pytest.approx(mdp.optimum(0.9).v @ np.asarray(mdp.start), abs=0.02)


def test_behaviour_under_the_empirical_world_earns_what_was_logged():
    """The maximum-likelihood world with the counted behaviour has the log's own mean return, exactly, if every episode ended."""
    mdp = small()
    log = sample(mdp, mdp.uniform(), 200, horizon=1000, key=KEY)
    assert not log.truncated.any()
    model = empirical(log)
    assert model.mdp.performance(model.behaviour, 1.0) == pytest.approx(log.returns().mean(), abs=1e-4)
    assert model.counts.sum() == log.steps


def test_a_threshold_leaves_out_what_was_rarely_done():
    obs, action = [0] * 10, [0] * 5 + [1] * 3 + [2] * 2
    log = Episodes.of(obs, action, np.float32(action), np.ones(10), states=2, actions=4)
    assert empirical(log).mdp.legal[0].tolist() == [True, True, True, False]
    assert empirical(log, threshold=3).mdp.legal[0].tolist() == [True, True, False, False]
    assert empirical(log, threshold=50).mdp.legal[0].tolist() == [True, False, False, False]
    q = empirical(log, pessimism=1.0).mdp.optimum(1.0).q
    np.testing.assert_allclose(q[0, :3], [0 - 5**-0.5, 1 - 3**-0.5, 2 - 2**-0.5], rtol=1e-6)
    assert np.asarray(empirical(log).mdp.terminal).tolist() == [False, True, True]  # state 1 was never seen: nothing is known of it


def test_only_tables_have_an_empirical_world():
    with pytest.raises(ValueError, match="discrete observations"):
        empirical(Episodes.of(np.zeros((3, 2)), [0, 1, 0], np.zeros(3), [0, 0, 1]))


# policies of networks -------------------------------------------------------------------------------------------------


class Logits(Markov):
    logits: jax.Array

    def __call__(self, obs, mask=None):
        return Categorical(self.logits[obs], mask)


def test_any_policy_becomes_a_table():
    mdp = small()
    policies = Logits(jax.random.normal(KEY, (4, 6, 3)))
    tables = jax.jit(lambda p: jax.vmap(lambda one: table(one, mdp))(p))(policies)
    assert (np.asarray(tables)[:, ~mdp.legal] == 0).all()
    one_by_one = [mdp.performance(table(Logits(logits), mdp), 0.9) for logits in policies.logits]
    np.testing.assert_allclose(mdp.performance(tables, 0.9), one_by_one, rtol=1e-6)
    net = stochastic(Spec(Discrete(6), Discrete(3)), (8,), key=KEY)
    np.testing.assert_allclose(table(net, mdp).sum(axis=1), 1, rtol=1e-5)


def test_worlds_are_arrays_all_the_way():
    mdp = small()
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(mdp))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), mdp, small(2))
    assert jax.vmap(lambda m: m.start.sum())(stacked).shape == (2,)


# stitching ------------------------------------------------------------------------------------------------------------


def test_no_logged_episode_shows_the_way_and_dynamic_programming_finds_it():
    mdp, log = gridworld(5, episodes=40)
    a, c = 10, 22
    assert int(np.argmax(mdp.start)) == a
    for first, last in zip(log.starts, log.stops - 1):
        assert not (log.obs[first] == a and log.next_obs[last] == c)
    assert log.terminal[log.stops - 1].all() and sorted(set(log.returns())) == [0, 1] and log.returns().mean() == pytest.approx(0.1)
    learned = empirical(log)
    policy = np.where(np.asarray(learned.mdp.terminal)[:-1, None], 0.25, learned.mdp.optimum(0.9).policy[:-1])
    assert mdp.performance(policy, 0.9) == pytest.approx(0.9**3) == mdp.optimum(0.9).v[a]
    assert mdp.performance(learned.behaviour[:-1], 0.9) == pytest.approx(0.1 * 0.9**3)  # imitation turns as seldom as the log
    for size, share, message in [(4, 0.1, "odd"), (5, 0.0, "of each kind")]:
        with pytest.raises(ValueError, match=message):
            gridworld(size, good=share)


# bad input ------------------------------------------------------------------------------------------------------------


def parts():
    mdp = chain(2)
    return {name: np.array(getattr(mdp, name)) for name in ("transition", "reward", "start", "terminal")} | {"mask": np.ones((3, 2), bool)}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("transition", lambda x: x * 0.9, r"transition row \(0, 0\) sums to 0.9"),
        ("transition", lambda x: x * np.nan, "transition row"),
        ("transition", lambda x: x - 2 * np.eye(3)[:, None], "holds -"),
        ("transition", lambda x: x[:, :, :2], r"expected \(states, actions, states\)"),
        ("reward", lambda x: np.zeros((3, 3)), "reward has shape"),
        ("reward", lambda x: x - np.inf, "by `mask`"),
        ("start", lambda x: x * 2, "start sums to 2"),
        ("start", lambda x: x[:2], "start has shape"),
        ("start", lambda x: np.eye(3)[2], "terminal states"),
        ("mask", lambda x: x & False, "no admissible action in state 0"),
        ("mask", lambda x: x[:, :1], "mask has shape"),
    ],
)
def test_a_world_that_is_none_is_refused(name, change, message):
    MDP(**parts())
    with pytest.raises(ValueError, match=message):
        MDP(**parts() | {name: change(parts()[name])})


def test_a_policy_that_is_none_is_refused():
    mdp = small()
    for policy, message in [
        (mdp.uniform()[:3], "has shape"),
        (mdp.uniform() * 0.5, "sums to 0.5"),
        (np.full((6, 3), 1 / 3), "takes action 1 in state 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            mdp.value(policy, 0.9)
        with pytest.raises(ValueError, match=message):
            sample(mdp, policy, 2, horizon=2, key=KEY)
    with pytest.raises(ValueError, match=r"discount is 1\.5"):
        mdp.value(mdp.uniform(), 1.5)
    with pytest.raises(ValueError, match="one logger is one table"):
        sample(mdp, np.stack([mdp.uniform()] * 2), 2, horizon=2, key=KEY)
    with pytest.raises(ValueError, match="at least one"):
        sample(mdp, mdp.uniform(), 0, horizon=2, key=KEY)
    with pytest.raises(ValueError, match="branching"):
        random_mdp(3, 2, branching=4)


# ICU-Sepsis -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def icu():
    return icu_sepsis()


@needs_icu
def test_icu_sepsis_has_the_published_values(icu):
    """Choudhary et al. 2024, table 1: returns 0.78, 0.78, 0.88 and lengths 9.45, 9.22, 10.99 for random, clinicians, optimum."""
    best = icu.optimum(1.0)
    policies = np.stack([icu.uniform(), clinician(admissible=True), best.policy])
    np.testing.assert_allclose(icu.performance(policies, 1.0), [0.7801, 0.7820, 0.8751], atol=5e-5)
    np.testing.assert_allclose(icu.occupancy(policies, 1.0).sum(axis=(1, 2)), [9.45, 9.22, 10.99], atol=0.015)
    everything = icu_sepsis(masks=False)
    assert everything.performance(clinician(), 1.0) == pytest.approx(0.782, abs=1e-3)
    uniform = np.full((716, 25), 1 / 25)
    assert everything.performance(uniform, 1.0) == pytest.approx(icu.performance(icu.uniform(), 1.0), abs=1e-7)


@needs_icu
def test_icu_sepsis_pays_for_survival_as_the_package_does(icu):
    from topstitch.worlds.icu_sepsis import _array

    possible = np.asarray(icu.transition) > 0
    possible[np.asarray(icu.terminal)] = False
    assert (_array("r_mat")[possible] == np.broadcast_to(np.asarray(icu.reward), possible.shape)[possible]).all()
    legal = icu.legal[:713].sum(axis=1)
    assert (legal.min(), legal.max()) == (1, 13)


def test_without_the_package_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'topstitch\[icu\]'"):
        icu_sepsis()


def test_shipped_stays_are_a_sound_log():
    assert stays_path().stat().st_size < 2_000_000
    stays = pl.read_parquet(stays_path())
    column = lambda name: stays[name].to_numpy()
    log = Episodes.of(
        column("state"), column("action"), column("reward"), column("terminal"), states=716, actions=25,
        probability=column("probability"), time=column("step"),
    )  # fmt: skip
    assert len(log) == 20_000 == stays["stay"].n_unique() and not log.truncated.any()
    assert (column("stay") == np.repeat(np.arange(20_000), log.lengths)).all()
    assert (column("step") == np.arange(log.steps) - np.repeat(log.starts, log.lengths)).all()
    assert log.returns().mean() == pytest.approx(0.782, abs=4 * (0.782 * 0.218 / 20_000) ** 0.5)
    assert set(log.reward[~log.terminal]) == {0} and set(log.reward) == {0, 1}


@needs_icu
def test_shipped_stays_agree_with_their_world(icu):
    stays = pl.read_parquet(stays_path())
    state, action = stays["state"].to_numpy(), stays["action"].to_numpy()
    np.testing.assert_array_equal(stays["probability"].to_numpy(), clinician()[state, action].astype(np.float32))
    end, reward = stays["terminal"].to_numpy(), stays["reward"].to_numpy()
    after = np.where(end, np.where(reward == 1, 714, 713), np.append(state[1:], 0))
    transition = np.asarray(icu.transition, np.float64)
    assert (transition[state, action, after] > 0).all()

    # Given the states, actions are multinomial: χ² of the counts has mean `freedom` and variance 2 `freedom`.
    counts = np.bincount(state * 25 + action, minlength=716 * 25).reshape(716, 25)
    expected = counts.sum(axis=1, keepdims=True) * clinician()
    possible = expected > 0
    chi = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = (possible.sum(axis=1) - 1)[possible.any(axis=1)].sum()
    assert abs(chi - freedom) < 4 * (2 * freedom) ** 0.5

    # f(next state) - E[f | state, action] is a martingale difference of known variance, whatever f: here signs at random.
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(10, 716))
    mean = np.stack([transition @ f for f in signs])[:, state, action]
    z = (signs[:, after] - mean).sum(axis=1) / np.sqrt((1 - mean**2).sum(axis=1))
    assert np.abs(z).max() < 4
