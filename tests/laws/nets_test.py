"""Distributions are distributions, and one net asked in two ways gives one answer."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from topstitch import nets
from topstitch.core import Box, Discrete, Markov, Spec
from topstitch.data import Episodes
from topstitch.data.view import Rescaled

SMALL = settings(max_examples=20, deadline=None)
means, log_stds, seeds = st.floats(-1.5, 1.5), st.floats(-1.5, 0.3), st.integers(0, 2**16)


def normal(mean, log_std):
    return nets.Normal(jnp.float32(mean), jnp.float32(log_std))


def leaves_close(a, b, **how):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-6} | how)


# densities -----------------------------------------------------------------------------------------------------------------


@SMALL
@given(means, log_stds, means, log_stds)
def test_normal(m0, s0, m1, s1):
    said = normal([m0, m1], [s0, s1])
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    rows = normal(np.tile([m0, m1], (50, 1)), np.tile([s0, s1], (50, 1)))
    want = norm(np.float32([m0, m1]), np.exp(np.float32([s0, s1])))
    np.testing.assert_allclose(rows.log_prob(jnp.asarray(x)), want.logpdf(x).sum(axis=1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(said.entropy(), want.entropy().sum(), rtol=1e-4, atol=1e-4)
    grid = np.linspace(-20, 20, 8001, dtype=np.float32)[:, None]
    one = normal(np.full_like(grid, m0), np.full_like(grid, s0))
    assert np.exp(one.log_prob(jnp.asarray(grid))).sum() * 0.005 == pytest.approx(1, abs=1e-3)
    assert (jnp.abs(one.sample(jax.random.key(0))) <= 1).all() and (jnp.abs(one.mode()) <= 1).all()


@SMALL
@given(st.floats(-0.8, 0.8), st.floats(-1.5, -0.5))
def test_tanh_integrates_to_one_and_is_the_normal_in_new_variables(mean, log_std):
    n = 20_000
    a = ((np.arange(n) + 0.5) / n * 2 - 1)[:, None].astype(np.float32)
    said = nets.Tanh(normal(np.full_like(a, mean), np.full_like(a, log_std)))
    density = np.exp(np.asarray(said.log_prob(jnp.asarray(a)), np.float64))
    assert density.sum() * 2 / n == pytest.approx(1, abs=1e-3)
    inner = np.abs(a[:, 0]) < 0.99
    wide = np.float64(a[inner, 0])
    want = norm.logpdf(np.arctanh(wide), np.float32(mean), np.exp(np.float32(log_std))) - np.log1p(-(wide**2))
    np.testing.assert_allclose(said.log_prob(jnp.asarray(a))[inner], want, rtol=1e-3, atol=1e-3)


def test_tanh_integrates_to_one_over_a_square():
    n = 300
    line = (np.arange(n) + 0.5) / n * 2 - 1
    a = jnp.asarray(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2), jnp.float32)
    said = nets.Tanh(normal(np.broadcast_to([0.3, -0.5], a.shape), np.broadcast_to([-1.0, -0.6], a.shape)))
    assert np.exp(np.float64(said.log_prob(a))).sum() * (2 / n) ** 2 == pytest.approx(1, abs=1e-3)


@SMALL
@given(means, log_stds, seeds)
def test_tanh_samples_say_their_own_density(mean, log_std, seed):
    said = nets.Tanh(normal(np.full((64, 3), mean), np.full((64, 3), log_std)))
    action, log_prob = said.sample_and_log_prob(jax.random.key(seed))
    np.testing.assert_array_equal(action, said.sample(jax.random.key(seed)))
    assert (jnp.abs(action) <= 1).all()
    inner = np.asarray((jnp.abs(action) < 0.99).all(axis=1))  # the inverse of tanh is inexact near the edge
    np.testing.assert_allclose(said.log_prob(action)[inner], log_prob[inner], rtol=2e-3, atol=2e-3)
    assert jnp.isfinite(said.log_prob(jnp.sign(action))).all()


def test_samples_follow_the_density():
    """The share of samples below a point is the integral of the density up to it."""
    n = 20_000
    said = nets.Tanh(normal(np.full((n, 1), 0.4), np.full((n, 1), -0.7)))
    share = (said.sample(jax.random.key(0))[:, 0] < 0.2).mean()
    assert share == pytest.approx(norm.cdf(np.arctanh(0.2), 0.4, np.exp(-0.7)), abs=0.015)
    chosen = nets.Categorical(jnp.log(jnp.broadcast_to(jnp.float32([0.2, 0.5, 0.3]), (n, 3)))).sample(jax.random.key(1))
    np.testing.assert_allclose(np.bincount(chosen, minlength=3) / n, [0.2, 0.5, 0.3], atol=0.015)


# categories ------------------------------------------------------------------------------------------------------------------


@st.composite
def scored(draw):
    """(scores, which are legal, values of actions), (6, 4) each."""
    rng = np.random.default_rng(draw(seeds))
    mask = rng.uniform(size=(6, 4)) < 0.5
    mask[np.arange(6), rng.integers(0, 4, 6)] = True
    return jnp.asarray(rng.normal(size=(6, 4)) * 3, jnp.float32), jnp.asarray(mask), jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)


@SMALL
@given(scored())
def test_categorical_with_masks(drawn):
    scores, mask, values = drawn
    said = nets.Categorical(scores, mask)
    weight = np.where(mask, np.exp(np.float64(scores)), 0)
    p = weight / weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(said.probs(), p, rtol=1e-4, atol=1e-6)
    assert (np.asarray(said.probs())[~np.asarray(mask)] == 0).all()
    np.testing.assert_allclose(said.entropy(), -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(said.mean(jnp.where(mask, values, jnp.inf)), (p * values).sum(axis=1), rtol=1e-3, atol=1e-4)
    action = said.mode()
    np.testing.assert_allclose(said.log_prob(action), np.log(p.max(axis=1)), rtol=1e-4, atol=1e-5)
    rows = np.arange(6)
    assert mask[rows, action].all() and mask[rows, said.sample(jax.random.key(0))].all()


@SMALL
@given(scored())
def test_no_gradient_reaches_an_illegal_action(drawn):
    scores, mask, values = drawn
    action = mask.argmax(axis=1)

    def objective(scores):
        said = nets.Categorical(scores, mask)
        return (said.log_prob(action) + said.entropy() + said.mean(jnp.where(mask, values, -jnp.inf))).sum()

    slope = np.asarray(jax.grad(objective)(scores))
    assert np.isfinite(slope).all() and (slope[~np.asarray(mask)] == 0).all()
    several = np.asarray(mask.sum(axis=1) > 1)
    assert not several.any() or np.abs(slope[several]).max() > 0


@SMALL
@given(scored())
def test_greedy_is_certain_of_the_best_legal_action(drawn):
    scores, mask, _ = drawn
    for legal in (mask, None):
        said = nets.greedy(scores, legal)
        best = np.where(mask if legal is not None else True, scores, -np.inf).argmax(axis=1)
        np.testing.assert_array_equal(said.probs(), np.eye(4)[best])
        np.testing.assert_array_equal(said.mode(), best)
        np.testing.assert_array_equal(said.sample(jax.random.key(0)), best)
        assert (said.entropy() == 0).all()


def test_greedy_breaks_a_tie_one_way():
    np.testing.assert_array_equal(nets.greedy(jnp.zeros(3)).probs(), [1, 0, 0])


# layers ----------------------------------------------------------------------------------------------------------------------


def test_a_layer_asked_about_integers_is_its_product_with_one_hot_vectors():
    layer = nets.linears([(5, 3)], key=jax.random.key(0), bias=0.1)[0]
    rows = jnp.array([[4, 0], [2, 2], [1, 4]])  # repeated rows: gradients add up
    score = lambda layer, x: (layer(x) ** 2 * jnp.arange(18.0).reshape(3, 2, 3)).sum()
    hot = jax.nn.one_hot(rows, 5)
    np.testing.assert_allclose(layer(rows), layer(hot), rtol=1e-6, atol=1e-6)
    leaves_close(jax.grad(score)(layer, rows), jax.grad(score)(layer, hot))
    np.testing.assert_allclose(layer(jnp.int32(3)), layer.weight[3] + 0.1, rtol=1e-6)


@pytest.mark.parametrize("norm", [False, True])
def test_mlp_written_out(norm):
    net = nets.MLP((3, 4, 5, 2), key=jax.random.key(0), activation="silu", norm=norm, bias=0.1, last=0.01)
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    y = np.float64(x)
    for layer in net.layers[:-1]:
        y = y @ np.asarray(layer.weight) + np.asarray(layer.bias)
        y = y / (1 + np.exp(-y))
        if norm:
            y = (y - y.mean(axis=1, keepdims=True)) / np.sqrt(y.var(axis=1, keepdims=True) + 1e-5)
    y = y @ np.asarray(net.layers[-1].weight) + np.asarray(net.layers[-1].bias)
    np.testing.assert_allclose(net(jnp.asarray(x)), y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net(jnp.asarray(x[0])), y[0], rtol=1e-4, atol=1e-5)
    assert len(net.norms) == (2 if norm else 0)
    assert all(np.abs(x).max() <= 0.01 for x in (net.layers[-1].weight, net.layers[-1].bias))
    assert (net.layers[0].bias == np.float32(0.1)).all() and np.abs(net.layers[0].weight).max() <= 1 / np.sqrt(3)


# critics and ensembles -------------------------------------------------------------------------------------------------------

SPECS = [Spec(obs, action) for obs, action in itertools.product((Box(3), Discrete(3)), (Box(2), Discrete(4)))]


def rows_of(spec: Spec, n: int = 6, seed: int = 0):
    one = lambda space, key: (
        jax.random.uniform(key, (n, space.size), minval=-1) if isinstance(space, Box) else jax.random.randint(key, (n,), 0, space.size)
    )
    return tuple(one(space, key) for space, key in zip((spec.obs, spec.action), jax.random.split(jax.random.key(seed))))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_numbered_states_are_one_hot_vectors(spec):
    obs, action = rows_of(spec)
    hot = obs if isinstance(spec.obs, Box) else jax.nn.one_hot(obs, 3)
    q = nets.q_value(spec, (8,), key=jax.random.key(0))
    same = nets.q_value(Spec(Box(3), spec.action), (8,), key=jax.random.key(0))
    np.testing.assert_allclose(q(obs, action), same(hot, action), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(q(obs[0], action[0]), q(obs, action)[0], rtol=1e-5, atol=1e-6)
    if isinstance(spec.action, Discrete):
        np.testing.assert_array_equal(q(obs, action), q.every(obs)[jnp.arange(6), action])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_an_ensemble_computed_either_way_is_the_same(spec, monkeypatch):
    n = 3
    q, (obs, action) = nets.critics(spec, (8,), n, key=jax.random.key(0)), rows_of(spec)
    many_obs, many_action = (jnp.stack([x, x[::-1], jnp.roll(x, 1, axis=0)]) for x in (obs, action))

    def everything():
        said = {"call": q(obs, action), "each": q.each(many_obs, many_action)}
        if isinstance(spec.action, Discrete):
            said["every"] = q.every(obs)
        slope = jax.grad(lambda q: (q(obs, action) ** 2).sum() + q.each(many_obs, many_action)[1].sum())(q)
        return said, slope

    alone = everything()
    monkeypatch.setattr(nets.Ensemble, "unrolled", 0)
    together = everything()
    leaves_close(alone, together)
    said, _ = together
    for i in range(n):
        np.testing.assert_allclose(said["call"][i], q[i](obs, action), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(said["each"][i], q[i](many_obs[i], many_action[i]), rtol=1e-5, atol=1e-6)
        if "every" in said:
            np.testing.assert_allclose(said["every"][i], q[i].every(obs), rtol=1e-5, atol=1e-6)
    elite = q[jnp.array([2, 0])]
    assert elite.n == 2
    np.testing.assert_allclose(elite(obs, action), said["call"][jnp.array([2, 0])], rtol=1e-5, atol=1e-6)
    assert not np.allclose(said["call"][0], said["call"][1]), "members must be independent"


# raw units -------------------------------------------------------------------------------------------------------------------


def log_of(action):
    rng, n = np.random.default_rng(0), 40
    discrete = action is Discrete
    done = rng.integers(0, 3, n) if discrete else rng.uniform([-1, 3], [5, 4], (n, 2))
    bounds = {"actions": 3} if discrete else {"low": [-1, 3], "high": [5, 4]}
    return Episodes.of(7 + 3 * rng.normal(size=(n, 3)), done, rng.normal(size=n), np.arange(n) % 5 == 4, **bounds).normalised()


@pytest.mark.parametrize("action", [Box, Discrete])
def test_a_policy_behind_a_view_speaks_raw_units(action):
    log = log_of(action)
    rows = log.transitions().rows()
    inner = nets.stochastic(log.spec, (8,), key=jax.random.key(0))
    policy, obs = log.policy(inner), jnp.asarray(log.obs)
    assert isinstance(policy, Markov)
    raw, unit = policy(obs), inner(rows.obs)
    undo = (lambda x: x) if action is Discrete else (lambda x: np.asarray(x) * [3, 0.5] + [2, 3.5])
    np.testing.assert_allclose(raw.mode(), undo(unit.mode()), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(raw.sample(jax.random.key(1)), undo(unit.sample(jax.random.key(1))), rtol=1e-4, atol=1e-4)
    shrunk = 0 if action is Discrete else np.log(3 * 0.5)
    np.testing.assert_allclose(raw.log_prob(jnp.asarray(log.action)), unit.log_prob(rows.action) - shrunk, rtol=1e-3, atol=1e-3)
    act = jax.vmap(lambda o, k: policy.act((), o, jnp.float32(0), key=k)[0], in_axes=(0, None))
    np.testing.assert_allclose(act(obs, None), raw.mode(), rtol=1e-4, atol=1e-5)
    sampled = np.asarray(act(obs, jax.random.key(0)))
    assert (sampled < 3).all() if action is Discrete else ((sampled >= [-1 - 1e-5, 3 - 1e-5]) & (sampled <= [5 + 1e-5, 4 + 1e-5])).all()


def test_a_rescaled_density_is_per_raw_unit():
    scale = log_of(Box).view.action
    n = 400
    grid = [low + (np.arange(n) + 0.5) / n * (high - low) for low, high in ((-1, 5), (3, 4))]
    a = jnp.asarray(np.stack(np.meshgrid(*grid), axis=-1).reshape(-1, 2), jnp.float32)
    base = nets.Tanh(normal(np.broadcast_to([0.3, -0.2], a.shape), np.broadcast_to([-0.8, -1.0], a.shape)))
    density = np.exp(np.float64(Rescaled(base, scale).log_prob(a)))
    assert density.sum() * (6 / n) * (1 / n) == pytest.approx(1, abs=2e-3)
