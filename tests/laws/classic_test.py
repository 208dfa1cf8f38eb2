"""Fitted and tabular methods: on numbered states each has an exact solution, and finds it."""

import dataclasses
import functools
import itertools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topstitch as ts
from topstitch import nets, ops
from topstitch.algos.classic.fqi import FQI
from topstitch.algos.classic.lspi import LSPI
from topstitch.algos.classic.nfq import NFQ, rprop
from topstitch.algos.classic.spibb import SPIBB
from topstitch.algos.classic.tabular_q import TabularQ
from topstitch.core import Discrete
from topstitch.data import BadData, Episodes
from topstitch.loop import stack, train, unstack
from topstitch.testing import tiny
from topstitch.worlds import MDP, empirical, random_mdp, sample

DISCOUNT = 0.8
SWEEPS = dict(discount=DISCOUNT, steps=80)  # 0.8^80 is 2e-8


def learned(algorithms, log):
    """The last state of each, trained together."""
    out = train([(a, seed) for seed, a in enumerate(algorithms)], log, every=10_000)
    assert not any(out.faults), out.faults
    return unstack(out.states, len(algorithms))


def logged(seed: int, *, states=6, actions=3, episodes=40, horizon=8, even=0.5):
    """A lopsided log of a random world, and what it says of it. Some episodes end, some are cut off, some actions are missing."""
    mdp = random_mdp(states, actions, ending=0.1, seed=seed)
    weights = np.random.default_rng(seed).dirichlet(np.full(actions, even), size=states)
    log = sample(mdp, weights, episodes, horizon=horizon, key=jax.random.key(seed))
    return log, empirical(log)


@pytest.fixture(scope="module")
def covered():
    """A log in which everything was tried in every state but the end."""
    mdp = random_mdp(5, 3, ending=0.1, seed=4)
    log = sample(mdp, mdp.uniform(), 80, horizon=8, key=jax.random.key(0))
    said = empirical(log)
    assert (said.counts[:4] > 0).all() and log.truncated.any() and log.terminal.any()
    return log, said


LIVE = slice(4)  # the states of `covered` in which something is done


def iterated(said, steps: int) -> np.ndarray:
    """Q after so many steps of value iteration in the empirical world, from 0."""
    transition, reward = said.mdp._live()
    q = np.zeros(reward.shape)
    for _ in range(steps):
        best = np.where(said.mdp.legal, q, -np.inf).max(axis=1)
        q = reward + DISCOUNT * transition @ np.where(np.asarray(said.mdp.terminal), 0, best)
    return q


# tabular Q-iteration -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_tabular_q_iteration_finds_the_optimum_of_the_empirical_world(seed):
    log, _ = logged(seed)
    thresholds = (0.0, 1.0, 12.0, 1000.0)
    states = learned([TabularQ(threshold=t, **SWEEPS) for t in thresholds], log)
    worlds = [empirical(log, threshold=max(int(t), 1)) for t in thresholds]
    for threshold, state, said in zip(thresholds, states, worlds):
        want, seen = said.mdp.optimum(DISCOUNT), said.counts[:-1] > 0
        np.testing.assert_allclose(np.asarray(state.q.values)[seen], want.q[:-1][seen], atol=2e-5)
        chosen = np.asarray(TabularQ(threshold=threshold).policy(state)(jnp.arange(6)).probs())
        live = seen.any(axis=1)
        np.testing.assert_array_equal(chosen[live], want.policy[:-1][live])
    assert (worlds[2].mdp.legal != worlds[0].mdp.legal).any() and (worlds[3].mdp.legal != worlds[2].mdp.legal).any()


def test_rewards_count_in_the_units_of_the_view():
    log, _ = logged(0)
    raw, seen = (learned([TabularQ(**SWEEPS)], x)[0].q.values for x in (log, log.normalised(reward="standard")))
    assert np.abs(np.asarray(raw - seen)).max() > 0.01


# fitted Q-iteration ------------------------------------------------------------------------------------------------------------


def test_a_forest_answers_as_scikit_learn_does():
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 4)).astype("f4"), rng.normal(size=300)
    x[:, 2] = rng.integers(3, size=300)  # ties with thresholds
    for least in (1, 3, 400):
        fitted = ExtraTreesRegressor(5, min_samples_leaf=least, random_state=0).fit(x, y)
        nodes = nets.Forest.nodes(300, least)
        assert max(tree.tree_.node_count for tree in fitted.estimators_) <= nodes
        forest = nets.Forest.of(fitted, nodes)
        np.testing.assert_allclose(jax.jit(nets.Forest.__call__)(forest, x), fitted.predict(x), atol=1e-5)
        cut = np.asarray(forest.threshold)[np.asarray(forest.left) != np.arange(nodes)]  # rows that lie on a threshold
        edge = np.repeat(cut[:50, None], 4, axis=1).astype("f4")
        if len(edge):
            np.testing.assert_allclose(jax.jit(nets.Forest.__call__)(forest, edge), fitted.predict(edge), atol=1e-5)


def test_fitted_q_iteration_with_full_trees_is_value_iteration(covered):
    log, said = covered
    algorithm = FQI(discount=DISCOUNT, trees=2, min_leaf=1, steps=25)
    seen = []
    out = train([(algorithm, 0)], log, every=5, listeners=[lambda now, _: seen.append(now)])
    every = jax.jit(lambda q: q.every(jnp.arange(4)))
    for now in seen:
        [state] = unstack(now.states, 1)
        np.testing.assert_allclose(every(state), iterated(said, now.step)[LIVE], atol=2e-5)
    [state] = unstack(out.states, 1)
    np.testing.assert_array_equal(algorithm.policy(state)(jnp.arange(4)).mode(), said.mdp.optimum(DISCOUNT).policy[LIVE].argmax(axis=1))


def test_forests_of_several_runs_resume_to_the_bit_and_their_policies_are_ordinary(covered, tmp_path):
    log, _ = covered
    algorithms = [FQI(discount=d, trees=2, steps=6) for d in (0.9, 0.5)]
    whole = ts.train(algorithms, log, seeds=2, out=tmp_path / "whole", every=2, checkpoint_seconds=0.0)

    def stop(now, metrics):
        if now.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ts.train(algorithms, log, seeds=2, out=tmp_path / "parts", every=2, checkpoint_seconds=0.0, listeners=[stop])
    parts = ts.train(algorithms, log, seeds=2, out=tmp_path / "parts", every=3, resume=True)
    assert not np.array_equal(whole[0].policy.inner.q.forest.value, whole[1].policy.inner.q.forest.value)
    ask = jax.jit(jax.vmap(lambda policy: policy(jnp.arange(4)).probs()))
    saved = [ts.load_policy(tmp_path / "parts" / "policy" / f"{i}.safetensors") for i in range(4)]
    for a, b, c in zip(whole, parts, saved):
        for x, y, z in zip(jax.tree.leaves(a.policy), jax.tree.leaves(b.policy), jax.tree.leaves(c), strict=True):
            np.testing.assert_array_equal(x, y)
            np.testing.assert_array_equal(x, z)
    np.testing.assert_array_equal(ask(stack([run.policy for run in whole])), ask(stack(saved)))


# neural fitted Q-iteration -----------------------------------------------------------------------------------------------------


def test_neural_fitted_q_iteration_with_a_table_is_value_iteration(covered):
    log, said = covered
    [state] = learned([NFQ(discount=DISCOUNT, hidden=(), epochs=150, steps=12)], log)
    start = NFQ(hidden=()).init(log.transitions(), key=jax.random.key(0))
    distance = np.abs(np.asarray(state.every(jnp.arange(4))) - said.mdp.optimum(DISCOUNT).q[LIVE]).max()
    # its first targets come from a net that is not 0, so what is known is how fast that is forgotten
    first = np.abs(np.asarray(start.every(jnp.arange(4)))).max() + np.abs(said.mdp.optimum(DISCOUNT).q).max()
    assert distance < 1.05 * DISCOUNT**12 * first
    [longer] = learned([NFQ(discount=DISCOUNT, hidden=(), epochs=150, steps=60)], log)
    np.testing.assert_allclose(longer.every(jnp.arange(4)), said.mdp.optimum(DISCOUNT).q[LIVE], atol=1e-3)


def test_rprop_by_hand():
    """Steps grow by 1.2 while the gradient keeps its sign, halve when it turns, and then rest once."""
    optimiser = rprop(0.1)
    state = optimiser.init(jnp.zeros(()))
    moves = []
    for gradient in (1.0, 5.0, 0.01, -1.0, -1.0, -3.0, 0.0):
        move, state = optimiser.update(jnp.asarray(gradient), state)
        moves.append(float(move))
    np.testing.assert_allclose(moves, [-0.1, -0.12, -0.144, 0, 0.072, 0.0864, 0], rtol=1e-6)


def test_rprop_does_not_see_the_scale_of_a_loss():
    def fit(scale):
        state, x = rprop(0.1).init(jnp.zeros(3)), jnp.zeros(3)
        for _ in range(60):
            move, state = rprop(0.1).update(scale * 2 * (x - jnp.array([1.0, -20.0, 0.01])) * jnp.array([1.0, 1e-3, 1e3]), state)
            x = x + move
        return np.asarray(x)

    np.testing.assert_array_equal(fit(1.0), fit(2.0**-10))
    np.testing.assert_allclose(fit(1.0), [1.0, -20.0, 0.01], atol=5e-3)


# least squares -----------------------------------------------------------------------------------------------------------------


def test_least_squares_with_one_hot_features_is_exact_evaluation(covered):
    log, said = covered
    policy = np.random.default_rng(0).dirichlet(np.ones(3), size=6)
    rows = log.transitions().rows()
    pair = lambda obs, probs: (jax.nn.one_hot(obs, 5)[:, :, None] * probs[:, None, :]).reshape(len(obs), -1)
    phi = pair(rows.obs, jax.nn.one_hot(rows.action, 3))
    next_phi = (1 - rows.terminal)[:, None] * pair(rows.next_obs, jnp.asarray(policy, jnp.float32)[rows.next_obs])
    w = ops.lstd(phi, DISCOUNT * next_phi, rows.reward, 1e-9).reshape(5, 3)
    np.testing.assert_allclose(w[LIVE], said.mdp.value(policy, DISCOUNT).q[LIVE], atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([1, 4]))
def test_least_squares_is_the_projected_fixed_point(seed, k):
    """What is left of the one-step error is orthogonal to every feature."""
    rng = np.random.default_rng(seed)
    phi, next_phi = rng.normal(size=(2, 40, k)).astype("f4")
    reward = rng.normal(size=40).astype("f4")
    w = np.asarray(ops.lstd(jnp.asarray(phi), jnp.asarray(0.9 * 0.3 * next_phi), jnp.asarray(reward)))
    error = reward + 0.9 * 0.3 * next_phi @ w - phi @ w
    np.testing.assert_allclose(phi.T @ error / 40, 0, atol=1e-4 * (1 + np.abs(w).max()))


def test_least_squares_policy_iteration_ends_in_the_optimum(covered):
    log, said = covered
    algorithm = LSPI(discount=DISCOUNT, ridge=1e-9, steps=10)
    seen = []
    out = train([(algorithm, 0)], log, every=1, listeners=[lambda now, metrics: seen.append(metrics)])
    [state] = unstack(out.states, 1)
    np.testing.assert_allclose(state.every(jnp.arange(4)), said.mdp.optimum(DISCOUNT).q[LIVE], atol=1e-4)
    turned = np.array([metrics["policy/turned"][0] for metrics in seen])
    assert turned[0] > 0 and turned[-1] == 0


def test_features_beyond_the_memory_are_refused():
    log = Episodes.of(np.arange(400) % 20_000, np.arange(400) % 300, np.zeros(400), np.ones(400, bool), states=20_000, actions=300)
    with pytest.raises(ValueError, match=r"6,000,000 features of each of 400 steps twice, 18 GiB; expected 8 at most"):
        LSPI().init(LSPI().prepare(log), key=jax.random.key(0))


def test_features():
    obs = jnp.array([[2.0, 3.0], [-1.0, 0.5]])
    np.testing.assert_allclose(nets.Polynomial(2, 2)(obs), [[1, 2, 3, 4, 6, 9], [1, -1, 0.5, 1, -0.5, 0.25]])
    radial = nets.Radial(obs, jnp.asarray(2.0))(obs)
    near = np.exp(-(9 + 6.25) / 8)
    np.testing.assert_allclose(radial, [[1, 1, near], [1, near, 1]], rtol=1e-6)
    np.testing.assert_array_equal(nets.OneHot(3)(jnp.array([2, 0])), [[0, 0, 1], [1, 0, 0]])
    for make in (nets.Polynomial(2, 3), nets.Radial(obs, jnp.asarray(1.0))):
        assert make(obs[0]).shape == (make.size,) and make(obs[None]).shape == (1, 2, make.size)


# safe policy improvement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constraint", ["equal", "below"])
def test_spibb_lies_between_tabular_q_iteration_and_the_baseline(constraint):
    """Everything trusted: the same Q and the same policy, to the bit. Nothing trusted: the baseline, and its exact value."""
    log, said = logged(3)
    make = lambda threshold: SPIBB(threshold=threshold, constraint=constraint, **SWEEPS)
    all_in, some, none = learned([make(0.0), make(6.0), make(np.inf)], log)
    [q] = learned([TabularQ(**SWEEPS)], log)
    ask = lambda algorithm, state: np.asarray(algorithm.policy(state)(jnp.arange(6)).probs())
    live = said.counts[:-1].sum(axis=1) > 0
    np.testing.assert_array_equal(all_in.q.values, q.q.values)
    np.testing.assert_array_equal(ask(make(0.0), all_in)[live], ask(TabularQ(), q)[live])
    np.testing.assert_allclose(ask(make(np.inf), none), said.behaviour[:-1], atol=1e-6)
    want = said.mdp.value(said.behaviour, DISCOUNT).q[:-1]
    np.testing.assert_allclose(none.q.values, np.where(said.counts[:-1] > 0, want, 0), atol=2e-5)
    assert np.abs(some.q.values - none.q.values).max() > 0.01 and np.abs(some.q.values - q.q.values).max() > 0.01


def test_spibb_is_the_best_of_all_policies_that_keep_to_the_baseline():
    log, said = logged(7, states=4, actions=3, episodes=25, even=2.0)
    threshold = float(np.sort(said.counts[:3].ravel())[4])  # one that is reached exactly
    trusted = said.counts[:-1] >= threshold
    live = np.flatnonzero(said.counts[:-1].sum(axis=1))
    options = []
    for s in live:
        kept = np.where(trusted[s], 0, said.behaviour[s])
        best = [kept + (1 - kept.sum()) * np.eye(3)[a] for a in np.flatnonzero(trusted[s])]
        options.append(best or [said.behaviour[s]])
    policies = np.repeat(said.behaviour[None], np.prod([len(o) for o in options]), axis=0)
    for policy, rows in zip(policies, itertools.product(*options)):
        policy[live] = rows
    want = said.mdp.value(policies, DISCOUNT).v.max(axis=0)
    got = {}
    for constraint in ("equal", "below"):
        algorithm = SPIBB(threshold=threshold, constraint=constraint, **SWEEPS)
        [state] = learned([algorithm], log)
        probs = np.asarray(algorithm.policy(state)(jnp.arange(4)).probs(), np.float64)
        got[constraint] = said.mdp.value(np.vstack([probs, said.behaviour[-1:]]), DISCOUNT).v
    assert len(policies) > 3 and (trusted[live].sum(axis=1) < (said.counts[live] > 0).sum(axis=1)).any()
    np.testing.assert_allclose(got["equal"], want, atol=1e-5)
    assert (got["below"] >= want - 1e-5).all() and (got["below"] > want + 1e-3).any()  # it may also do less of what is bad


rows = st.integers(0, 2**16).map(np.random.default_rng)


@settings(max_examples=50, deadline=None)
@given(rows)
def test_projections_keep_to_the_baseline_and_nothing_beats_them(rng):
    q, baseline, trusted = rng.normal(size=(6, 4)), rng.dirichlet(np.full(4, 0.7), size=6), rng.random((6, 4)) < 0.5
    given_ = [jnp.asarray(x, jnp.float32) for x in (q, baseline)] + [jnp.asarray(trusted)]
    equal, below = (np.asarray(f(*given_), np.float64) for f in (ops.exactly_baseline, ops.at_most_baseline))
    for policy in (equal, below):
        np.testing.assert_allclose(policy.sum(axis=1), 1, atol=1e-5)
        assert (policy >= 0).all()
    np.testing.assert_allclose(equal[~trusted], baseline[~trusted], atol=1e-6)
    some = trusted.any(axis=1)
    assert (below[~trusted] <= baseline[~trusted] + 1e-6).all()
    np.testing.assert_allclose(below[~some], baseline[~some], atol=1e-6)
    value = lambda policy: (policy * q).sum(axis=-1)
    assert (value(below) >= value(equal) - 1e-5).all() and (value(equal) >= value(baseline) - 1e-5).all()
    less = baseline * np.where(trusted, 1, rng.random((200, 6, 4)))  # other policies of the larger set
    share = rng.dirichlet(np.ones(4), size=(200, 6)) * trusted
    share /= np.maximum(share.sum(axis=-1, keepdims=True), 1e-12)
    others = np.where(trusted, 0, less) + (1 - np.where(trusted, 0, less).sum(axis=-1, keepdims=True)) * share
    assert (value(below)[some] >= value(others)[:, some] - 1e-5).all()


def test_the_recorded_baseline():
    """What was seen has its recorded probability, the rest is shared by what was not; without probabilities the error says so."""
    probability = np.array([0.5, 0.2, 0.5, 0.2, 0.9])
    log = Episodes.of(
        np.array([0, 0, 0, 0, 2]), np.array([0, 1, 0, 1, 2]), np.zeros(5), np.ones(5, bool), probability=probability, states=4, actions=4
    )
    table = np.asarray(SPIBB(baseline="recorded").prepare(log).baseline)
    np.testing.assert_allclose(table, [[0.5, 0.2, 0.15, 0.15], [0.25] * 4, [0.1 / 3, 0.1 / 3, 0.9, 0.1 / 3], [0.25] * 4], atol=1e-6)
    np.testing.assert_allclose(SPIBB().prepare(log).baseline, [[0.5, 0.5, 0, 0], [0.25] * 4, [0, 0, 1, 0], [0.25] * 4])
    with pytest.raises(BadData, match="needs the probabilities with which actions were taken"):
        SPIBB(baseline="recorded").prepare(dataclasses.replace(tiny(Discrete, obs=Discrete), log_prob=None))


class Trial(NamedTuple):
    """What came out of many worlds, true returns and (of the last two) empirical ones; each (worlds,)."""

    uniform: np.ndarray
    q_iteration: np.ndarray
    best: np.ndarray
    baseline: np.ndarray
    spibb: np.ndarray
    said_baseline: np.ndarray
    said_spibb: np.ndarray
    bound: float
    largest: float
    "The greatest absolute value of a policy."


def over_worlds(
    n: int, *algorithms: SPIBB, states: int, actions: int, sharpness: float, episodes: int, horizon: int, rare: bool = False
) -> list[Trial]:
    """SPIBB told its true baseline, one that prefers good actions and tries them all, on small logs of random worlds."""
    algorithm = algorithms[0]
    worlds, baselines, logs = [], [], []
    for seed in range(n):
        mdp = random_mdp(states, actions, branching=min(states, 5), seed=seed)
        if rare:  # only arriving in the last state earns something
            mdp = MDP(mdp.transition, np.eye(states)[-1][None, None], mdp.start, mdp.terminal)
        q = mdp.optimum(algorithm.discount).q
        odds = np.exp(sharpness * (q - q.max(axis=1, keepdims=True)))
        worlds.append(mdp)
        baselines.append(0.9 * odds / odds.sum(axis=1, keepdims=True) + 0.1 / actions)
        logs.append(sample(mdp, baselines[-1], episodes, horizon=horizon, key=jax.random.key(seed)))

    def solve(algorithm, data):
        state = algorithm.init(data, key=jax.random.key(0))
        sweep = lambda _, state: algorithm.update(state, data.flat.rows(), step=jnp.int32(0), key=jax.random.key(0))[0]
        return algorithm.policy(jax.lax.fori_loop(0, algorithm.steps, sweep, state))(jnp.arange(states)).probs()

    told = stack([dataclasses.replace(algorithm.prepare(log), baseline=jnp.asarray(b, jnp.float32)) for log, b in zip(logs, baselines)])
    found = [np.asarray(jax.jit(jax.vmap(functools.partial(solve, a)))(told)) for a in algorithms]
    discount, rows = algorithm.discount, []
    for mdp, baseline, log, *learned in zip(worlds, baselines, logs, *found):
        said, start = empirical(log).mdp, np.float64(mdp.start)
        free = np.where(said.legal[:-1].any(axis=1)[:, None], said.optimum(discount).policy[:-1], baseline)
        policies = np.stack([mdp.uniform(), free, mdp.optimum(discount).policy, baseline, *learned])
        all_legal = MDP(said.transition, said.reward, said.start, said.terminal)  # what was never done ends, and earns nothing
        whole = np.concatenate([policies[3:], np.full((len(policies) - 3, 1, actions), 1 / actions)], axis=1)
        rows.append([*mdp.performance(policies, discount), *all_legal.value(whole, discount).v[:, :-1] @ start])
    uniform, free, best, baseline, *rest = np.array(rows).T
    learned, (said_baseline, *said) = rest[: len(algorithms)], rest[len(algorithms) :]
    largest = max(float(np.abs(mdp.reward).max()) for mdp in worlds) / (1 - discount)
    sizes = dict(states=states, actions=actions, largest=largest, discount=discount, delta=0.05)
    bound = ops.improvement_bound(algorithm.threshold, **sizes)
    return [Trial(uniform, free, best, baseline, x, said_baseline, y, bound, largest) for x, y in zip(learned, said)]


def test_spibb_is_safe_over_200_random_worlds():
    """Below a good baseline it falls seldom, and not far; Q-iteration on the same logs mostly, and deep. (The bound is vast here.)"""
    both = [SPIBB(threshold=20.0, discount=0.9, constraint=c, steps=120) for c in ("equal", "below")]
    trials = over_worlds(200, *both, states=10, actions=4, sharpness=40.0, episodes=30, horizon=20, rare=True)
    for algorithm, out, allowed, least in zip(both, trials, (0.3, 0.02), (-1e-3, 0.05)):
        gain, free = ((x - out.baseline) / (out.best - out.uniform) for x in (out.spibb, out.q_iteration))  # as shares of what there is
        worse, free_worse = np.mean(gain < -1e-4), np.mean(free < -1e-4)
        print(f"{algorithm.constraint}: worse than the baseline: SPIBB {worse:.3f}, Q-iteration {free_worse:.3f}; gain: mean {gain.mean():.3f} "
              f"and {free.mean():.3f}, worst tenth {np.quantile(gain, 0.1):.3f} and {np.quantile(free, 0.1):.3f}, worst {gain.min():.3f} and "
              f"{free.min():.3f}; bound {out.bound:.0f}")  # fmt: skip
        assert (out.spibb >= out.baseline - out.bound).all()
        assert worse < allowed and free_worse > 0.5
        assert gain.mean() > least > -0.05 > free.mean() and gain.min() > -0.1 > -0.3 > free.min()


def test_what_spibb_gains_is_what_it_says_but_for_the_bound():
    """Many rows: the theorem as it stands, with a bound below what could be lost at all (twice the largest value)."""
    algorithm = SPIBB(threshold=500.0, discount=0.5, steps=30)
    [out] = over_worlds(200, algorithm, states=3, actions=2, sharpness=2.0, episodes=20, horizon=200)
    difference = (out.spibb - out.baseline) - (out.said_spibb - out.said_baseline)
    print(f"largest difference {np.abs(difference).max():.3f}, bound {out.bound:.2f}, largest value {out.largest:.2f}")
    assert out.bound < 2 * out.largest and (difference >= -out.bound).all()
    assert np.abs(difference).max() > 1e-4 and (out.spibb > out.baseline + 1e-3).mean() > 0.3


def test_the_bound_by_hand():
    bound = ops.improvement_bound(50, states=2, actions=3, largest=2.0, discount=0.5, delta=0.1)
    assert bound == pytest.approx(4 * 2 / 0.5 * np.sqrt(2 / 50 * np.log(2 * 2 * 3 * 4 / 0.1)))


# learning --------------------------------------------------------------------------------------------------------------------


def slope(n: int = 1500) -> Episodes:
    """A ball in [-1, 1]. Actions push it left, not at all, or right by 0.15; the reward is minus its square. Mostly pushed right."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, n)
    action = rng.choice(3, n, p=[0.25, 0.25, 0.5])
    after = np.clip(obs + 0.15 * (action - 1) + 0.02 * rng.normal(size=n), -1, 1)
    return Episodes.of(obs[:, None], action, -(after**2), np.zeros(n, bool), ends=np.ones(n, bool), next_obs=after[:, None], actions=3)


@pytest.mark.parametrize(
    "algorithm",
    [
        FQI(discount=0.9, trees=10, min_leaf=10, steps=15),
        NFQ(discount=0.9, epochs=60, steps=15),
        LSPI(discount=0.9, width=0.5),
        LSPI(discount=0.9, features="polynomial", degree=4),
    ],
    ids=["fqi", "nfq", "lspi-radial", "lspi-polynomial"],
)
def test_they_learn_to_hold_a_ball_where_imitation_pushes_it_away(algorithm):
    log = slope()
    obs = jnp.array([[-0.8], [-0.6], [-0.4], [0.4], [0.6], [0.8]])
    act = lambda algorithm: np.asarray(ts.train(algorithm, log)[0].policy(obs).mode())
    np.testing.assert_array_equal(act(algorithm), [2, 2, 2, 0, 0, 0])


def test_imitation_pushes_it_away():
    run = ts.train(ts.BC(hidden=(8,), lr=1e-2, batch_size=64, steps=300), slope())[0]
    assert (np.asarray(run.policy(jnp.array([[0.4], [0.8]])).mode()) == 2).all()


def test_observations_that_do_not_fit_are_refused_with_those_methods_that_do():
    with pytest.raises(
        ValueError, match=re.escape("TabularQ is defined for Discrete observations, but tiny plain data has Box ones (Box(size=3)).")
    ) as said:
        ts.train(TabularQ(), tiny(Discrete))
    fit = str(said.value).split("Algorithms that fit: ")[1]
    assert "discrete_cql" in fit and "tabular_q" not in fit and "td3bc" not in fit
