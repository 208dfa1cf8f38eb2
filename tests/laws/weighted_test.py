"""Imitation by weights: what the equations promise for any numbers, and where learning ends in a table, against exact solutions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

import topstitch as ts
from topstitch import nets, ops
from topstitch.core import Box
from topstitch.data import Episodes
from topstitch.online import Acting
from topstitch.testing import tiny
from topstitch.worlds import empirical, random_mdp, sample

SMALL = settings(max_examples=30, deadline=None)
N, A = 8, 4


def numbers(shape, low=-5.0, high=5.0):
    return arrays(np.float32, shape, elements=st.floats(low, high, width=32, allow_subnormal=False)).map(jnp.asarray)


# the family ----------------------------------------------------------------------------------------------------------------


@SMALL
@given(numbers(N), st.floats(0.1, 4))
def test_binary_and_positive_weights_are_what_exponential_ones_are_not(advantage, ceiling):
    a = np.asarray(advantage)
    np.testing.assert_array_equal(ops.binary_advantage(advantage), a >= 0)
    np.testing.assert_allclose(ops.positive_advantage(advantage, ceiling), np.clip(a, 0, np.float32(ceiling)), rtol=1e-6)
    np.testing.assert_array_equal(ops.positive_advantage(advantage) > 0, a > 0)
    np.testing.assert_array_equal(ops.binary_advantage(3 * advantage), ops.binary_advantage(advantage))  # blind to the unit
    for weigh in (ops.binary_advantage, ops.positive_advantage, lambda x: ops.top_fraction(x, 0.3)):
        assert (jax.grad(lambda x, weigh=weigh: weigh(x).sum())(advantage) == 0).all()


@SMALL
@given(numbers(N), st.floats(0, 1))
def test_the_top_fraction_is_the_best_of_them(advantage, share):
    chosen = np.asarray(ops.top_fraction(advantage, share)) > 0
    a = np.asarray(advantage)
    assert chosen.any() and chosen.sum() >= np.floor(share * N)
    assert not chosen.all() or share > 0.85 or len(set(a)) < N
    assert a[chosen].min() > a[~chosen].max(initial=-np.inf)  # ties are on one side
    assert ops.top_fraction(advantage, 1.0).all()


@SMALL
@given(numbers((A, N)), numbers((A, N)), st.floats(0.1, 10))
def test_the_tilted_prior_is_the_best_that_there_is_at_its_price(logits, values, temperature):
    log_prior = jax.nn.log_softmax(logits, axis=0)
    weight, level = ops.tilted(log_prior, values, temperature)
    p, v = np.exp(np.float64(log_prior)), np.float64(values)
    np.testing.assert_allclose(weight, softmax(np.log(p) + v / temperature, axis=0), atol=1e-5)
    gain = lambda q: (q * v).sum(axis=0) - temperature * (q * np.log(q / p)).sum(axis=0)
    np.testing.assert_allclose(gain(np.float64(weight) + 1e-30), level, rtol=1e-4, atol=2e-4)
    assert (gain(p) <= np.asarray(level) + 1e-4).all()
    # the slope of the dual in the temperature is what the constraint leaves: threshold - KL
    slope = jax.grad(lambda t: 0.1 * t + ops.tilted(log_prior, values, t)[1].mean())(jnp.float32(temperature))
    w = np.float64(weight) + 1e-30
    np.testing.assert_allclose(slope, 0.1 - (w * np.log(w / p)).sum(axis=0).mean(), atol=2e-3)


@SMALL
@given(numbers(N), numbers(N), arrays(bool, N), arrays(bool, N), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_lambda_returns_are_those_of_the_loop(reward, value, terminal, cut, discount, trace, timed):
    ends = terminal | cut | (np.arange(N) == N - 1)
    rate = np.full(N, discount) ** (np.arange(N) % 3 if timed else 1)
    want, after = np.zeros(N), 0.0
    for t in reversed(range(N)):
        after = value[t] if ends[t] else (1 - trace) * value[t] + trace * after
        want[t] = after = reward[t] + rate[t] * (1 - terminal[t]) * after
    f = lambda x: jnp.asarray(x, jnp.float32)
    said = ops.lambda_returns(reward, f(terminal), value, f(ends), f(rate), trace)
    np.testing.assert_allclose(said, want, rtol=1e-4, atol=1e-4)
    plain = ops.td_target(reward, f(terminal), value, f(rate))
    np.testing.assert_allclose(ops.lambda_returns(reward, f(terminal), value, f(ends), f(rate), 0.0), plain, rtol=1e-5, atol=1e-5)


def test_lambda_returns_of_one_are_the_logged_ones():
    log = tiny(Box)
    rows = log.transitions(returns=0.9).rows()
    ends = jnp.float32(log.terminal | log.truncated)
    said = ops.lambda_returns(rows.reward, rows.terminal, jnp.zeros(len(rows)), ends, 0.9, 1.0)
    np.testing.assert_allclose(said, rows.returns, rtol=1e-5, atol=1e-5)


@SMALL
@given(numbers((N,), -2, 2), numbers((N,), -1, 1), numbers((N,), -2, 2), numbers((N,), -1, 1))
def test_the_divergence_of_normals(mean, log_std, to_mean, to_log_std):
    said = ops.normal_kl(mean, log_std, to_mean, to_log_std)
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)  # exact: the integrand is a square
    x = np.asarray(mean)[:, None] + np.exp(np.asarray(log_std))[:, None] * nodes
    log_p = lambda m, s: -0.5 * ((x - np.asarray(m)[:, None]) / np.exp(np.asarray(s))[:, None]) ** 2 - np.asarray(s)[:, None]
    want = ((log_p(mean, log_std) - log_p(to_mean, to_log_std)) * weights).sum(axis=1) / weights.sum()
    np.testing.assert_allclose(said, want, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        ops.normal_kl(mean, log_std, jnp.zeros(N), jnp.zeros(N)), ops.kl_to_standard(mean, log_std), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(ops.normal_kl(mean, log_std, mean, log_std), 0, atol=1e-6)


@SMALL
@given(numbers((N, A)), numbers((N, A)), arrays(bool, (N, A)))
def test_the_divergence_of_choices(p, q, mask):
    mask = jnp.asarray(mask).at[:, 0].set(True)
    p, q = (nets.Categorical(x, mask).logits for x in (p, q))
    a, b = np.exp(np.float64(p)), np.exp(np.float64(q))
    want = np.where(a > 0, a * np.log(np.where(a > 0, a, 1) / np.where(a > 0, b, 1)), 0).sum(axis=1)
    np.testing.assert_allclose(ops.categorical_kl(p, q), want, atol=1e-4)
    assert (ops.categorical_kl(p, q) > -1e-5).all()
    assert jnp.isfinite(jax.grad(lambda q: ops.categorical_kl(p, nets.Categorical(q, mask).logits).sum())(q)).all()


# where learning ends in a table ------------------------------------------------------------------------------------------------

DISCOUNT = 0.8
TABLE = dict(hidden=(), batch_size=1, steps=2500, lr=0.01, discount=DISCOUNT)
LIVE = slice(4)


@jax.jit
def learn(algorithm, data):
    """The last state, where every batch is the whole log."""
    stage, rows, key = algorithm.stages()[0], data.rows(), jax.random.key(1)

    def step(i, state):
        state = stage.refresh(state, data, step=i, key=key)
        batch = (rows, state.returns) if isinstance(algorithm, ts.AWR) else rows
        return stage.update(state, batch, step=i, key=jax.random.fold_in(key, i))[0]

    return jax.lax.fori_loop(0, stage.steps, step, algorithm.init(data, key=key))


def learned(algorithm, log: Episodes):
    """(the probabilities of its policy, its last state)."""
    state = learn(algorithm, algorithm.prepare(log))
    return np.asarray(algorithm.policy(state)(jnp.arange(5)).probs())[LIVE], state


def values(state) -> np.ndarray:
    return np.asarray(state.value(jnp.arange(5)))[LIVE]


@pytest.fixture(scope="module")
def finished():
    """A log of a random world by a lopsided logger that tries everything. All episodes are over."""
    mdp = random_mdp(5, 3, ending=0.35, seed=4)
    weights = np.array([np.roll([0.6, 0.3, 0.1], state) for state in range(5)])
    log = sample(mdp, weights, 150, horizon=60, key=jax.random.key(0))
    assert not log.truncated.any() and (empirical(log).counts[LIVE] > 0).all()
    return log


def share(log: Episodes, weight) -> np.ndarray:
    """(states, actions): the weight of what was done there, of all that was done there."""
    total = np.zeros((5, 3))
    np.add.at(total, (log.obs, log.action), weight)
    return total[LIVE] / total[LIVE].sum(axis=1, keepdims=True)


def means(log: Episodes, x) -> np.ndarray:
    """By state, the mean of x over the rows in which it was seen."""
    return (np.bincount(log.obs, weights=x, minlength=4) / np.bincount(log.obs, minlength=4))[LIVE]


def test_relative_payoffs_and_exponential_ones(finished):
    returns = finished.to_go(DISCOUNT)
    said, _ = learned(ts.EMRL(**TABLE), finished)
    np.testing.assert_allclose(said, share(finished, returns - returns.min()), atol=2e-3)
    for beta in (0.0, 1.0):
        said, _ = learned(ts.RWR(beta=beta, max_weight=1e9, **TABLE), finished)
        np.testing.assert_allclose(said, share(finished, np.exp(beta * returns)), atol=2e-3)


def test_marwil_and_long_traces_weigh_by_the_logged_advantage(finished):
    """AWR with λ = 1 is MARWIL, and the unit of β the standard deviation of the advantage: its mean is 0 in every state."""
    returns = finished.to_go(DISCOUNT)
    v = means(finished, returns)
    advantage = returns - v[finished.obs]
    want = share(finished, np.exp(advantage / advantage.std()))
    for algorithm in (ts.MARWIL(average_rate=0.02, max_weight=1e9, **TABLE), ts.AWR(trace=1.0, max_weight=1e9, every=1, **TABLE)):
        said, state = learned(algorithm, finished)
        np.testing.assert_allclose(values(state), v, atol=5e-3)
        np.testing.assert_allclose(said, want, atol=3e-3)
    plain = share(finished, np.ones(finished.steps))
    assert np.abs(want - plain).max() > 0.1


@pytest.mark.parametrize("trace", [0.0, 0.7])
def test_the_value_of_awr_is_that_of_the_log(finished, trace):
    """λ = 0 is the value of practice in the empirical world; in between, that of the equation by iteration."""
    _, state = learned(ts.AWR(trace=trace, every=1, **TABLE), finished)
    said, v = empirical(finished), np.zeros(5)
    if trace == 0:
        v = said.mdp.value(said.behaviour, DISCOUNT).v[:5]
    else:
        f = lambda x: jnp.asarray(x, jnp.float32)
        for _ in range(200):
            g = ops.lambda_returns(f(finished.reward), f(finished.terminal), f(v[finished.next_obs]), f(finished.terminal), DISCOUNT, trace)
            v[LIVE] = means(finished, np.asarray(g))
    np.testing.assert_allclose(values(state), v[LIVE], atol=5e-3)
    assert np.abs(v[LIVE] - means(finished, finished.to_go(DISCOUNT))).max() > 0.02


def test_crr_of_the_best_draws_finds_the_optimum_of_the_log(finished):
    """Whoever imitates only what no draw of its own beats, and values what it would do, iterates on its policy."""
    said = empirical(finished)
    best = said.mdp.optimum(DISCOUNT)
    crr = ts.CRR(weights="binary", aggregate="max", actions_sampled=6, target_rate=0.1, **dict(TABLE, lr=0.03))
    policy, state = learned(crr, finished)
    assert (policy.argmax(axis=1) == best.policy[LIVE].argmax(axis=1)).all() and policy.max(axis=1).min() > 0.95
    np.testing.assert_allclose(np.asarray(state.critic.model.every(jnp.arange(5))[0])[LIVE], best.q[LIVE], atol=0.1)


# in a bandit, the E-step and the M-step of MPO are sums -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bandit():
    """Four contexts, three actions, rewards that do not vary; one step an episode."""
    rng = np.random.default_rng(0)
    obs, action = rng.integers(4, size=400), rng.choice(3, size=400, p=[0.6, 0.3, 0.1])
    payoff = rng.normal(size=(4, 3))
    return Episodes.of(obs, action, payoff[obs, action], np.ones(400, bool), states=5, actions=3), payoff


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5])
def test_mpo_is_the_tilted_behaviour_at_its_price(bandit, threshold):
    log, payoff = bandit
    how = dict(TABLE, lr=0.02, discount=0.0)
    policy, state = learned(ts.MPO(threshold=threshold, trust=1.0, target_rate=0.05, dual_lr=0.02, **how), log)
    behaviour, seen = share(log, np.ones(log.steps)), np.bincount(log.obs, minlength=4)[LIVE] / log.steps
    temperature = float(np.exp(state.log_temperature.model))
    want = behaviour * np.exp(payoff / temperature)
    want /= want.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(policy, want, atol=0.01)
    price = (seen * (want * np.log(want / behaviour)).sum(axis=1)).sum()
    np.testing.assert_allclose(price, threshold, atol=0.01)
    if threshold == 0:  # no room to improve: η grows without bound, and what remains is practice
        np.testing.assert_allclose(policy, behaviour, atol=0.01)


def test_an_mpo_of_its_own_prior_leaves_the_log_behind(bandit):
    log, payoff = bandit
    how = dict(TABLE, lr=0.02, discount=0.0, threshold=0.1, trust=0.1, target_rate=0.05)
    policy, _ = learned(ts.MPO(prior="policy", **how), log)
    assert (policy.argmax(axis=1) == payoff.argmax(axis=1)).all() and policy.max(axis=1).min() > 0.9


def test_the_mean_and_the_deviation_of_a_normal_are_bound_apart():
    from topstitch.algos.weighted.mpo import apart

    old = nets.Normal(jnp.zeros((3, 2)), jnp.zeros((3, 2)))
    new = nets.Normal(jnp.full((3, 2), 0.5), jnp.full((3, 2), -1.0))
    (mean, far), (std, wide) = apart(new, old)
    np.testing.assert_array_equal(mean.log_std, old.log_std)
    np.testing.assert_array_equal(std.mean, old.mean)
    np.testing.assert_allclose(far, 2 * 0.5 * 0.25, rtol=1e-6)
    np.testing.assert_allclose(wide, 2 * (0.5 * (np.exp(2) - 1) - 1), rtol=1e-5)


def test_what_weighs_a_whole_log_does_not_learn_by_acting():
    for algorithm in (ts.AWR(), ts.RWR(), ts.EMRL()):
        with pytest.raises(ValueError, match="looks at a whole log"):
            ts.train_online(dataclasses.replace(algorithm, hidden=(4,), steps=10), "Pendulum-v1", acting=Acting(warmup=10, block=10))
