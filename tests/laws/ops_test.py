"""What each equation of `ops` promises, for any numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.stats import norm

from topstitch import ops

SMALL = settings(max_examples=30, deadline=None)
N, A = 8, 4  # one shape, so that each operation compiles once


def numbers(shape, low=-5.0, high=5.0):
    return arrays(np.float32, shape, elements=st.floats(low, high, width=32, allow_subnormal=False)).map(jnp.asarray)


@st.composite
def masks(draw):
    """At least one action is allowed in each row."""
    mask = draw(arrays(bool, (N, A)))
    mask[np.arange(N), draw(arrays(np.int64, N, elements=st.integers(0, A - 1)))] = True
    return jnp.asarray(mask)


taus = st.floats(0.02, 0.98).map(float)

# expectiles --------------------------------------------------------------------------------------------------------------


@jax.jit
def expectile(x, tau):
    """Where the mean loss is least, by bisection on its slope."""
    slope = jax.grad(lambda m: ops.expectile_loss(x - m, tau).mean())

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        up = slope(middle) < 0
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    return sum(jax.lax.fori_loop(0, 40, halve, (x.min() - 1, x.max() + 1))) / 2


@SMALL
@given(numbers(N))
def test_the_half_expectile_is_the_mean(x):
    np.testing.assert_array_equal(ops.expectile_loss(x, 0.5), 0.5 * x**2)
    np.testing.assert_allclose(expectile(x, 0.5), x.mean(), atol=1e-4)


@SMALL
@given(numbers(N), taus, taus)
def test_expectiles_rise_with_tau_and_stay_among_the_numbers(x, a, b):
    low, high = expectile(x, min(a, b)), expectile(x, max(a, b))
    assert x.min() - 1e-4 <= low <= high + 1e-4 <= x.max() + 2e-4


@SMALL
@given(numbers(N))
def test_expectiles_tend_to_the_extremes(x):
    spread = float(jnp.ptp(x))
    np.testing.assert_allclose(expectile(x, 1 - 1e-3), x.max(), atol=N * 1e-3 * spread + 1e-3)
    np.testing.assert_allclose(expectile(x, 1e-3), x.min(), atol=N * 1e-3 * spread + 1e-3)


@SMALL
@given(numbers(N), taus, st.floats(0.1, 3), st.floats(-3, 3))
def test_expectiles_move_with_the_numbers(x, tau, scale, shift):
    m = float(expectile(x, tau))
    np.testing.assert_allclose(expectile(scale * x + shift, tau), scale * m + shift, atol=1e-3)
    np.testing.assert_allclose(expectile(-x, tau), -float(expectile(x, 1 - tau)), atol=1e-3)


@SMALL
@given(numbers(N), taus)
def test_expectile_loss_is_nowhere_negative_and_is_least_at_no_error(x, tau):
    assert (ops.expectile_loss(x, tau) >= 0).all() and (ops.expectile_loss(jnp.zeros(N), tau) == 0).all()


# conservatism ------------------------------------------------------------------------------------------------------------


@SMALL
@given(numbers((N, A)), numbers((N,)), masks(), st.booleans())
def test_the_gap_is_at_least_zero_and_blind_to_the_level_of_q(q, level, mask, masked):
    mask = mask if masked else None
    allowed = np.asarray(mask) if masked else np.ones((N, A), bool)
    action = allowed.argmax(axis=1)
    taken = q[jnp.arange(N), action]
    gap = ops.gap(q, taken, mask)
    assert (gap >= -1e-5).all()
    np.testing.assert_allclose(ops.gap(q + level[:, None], taken + level, mask), gap, atol=1e-4)
    np.testing.assert_allclose(gap, np.log(np.where(allowed, np.exp(q), 0).sum(axis=1)) - taken, atol=1e-4)
    assert (gap <= np.where(allowed, q, -np.inf).max(axis=1) + np.log(allowed.sum(axis=1)) - taken + 1e-4).all()
    only = jnp.asarray(np.eye(A, dtype=bool)[action])
    np.testing.assert_allclose(ops.gap(q, taken, only), 0, atol=1e-5)  # where only what was done is allowed


@SMALL
@given(numbers((N, A)), masks())
def test_what_is_not_allowed_gets_no_gradient_from_the_gap(q, mask):
    slope = jax.grad(lambda q: ops.gap(q, jnp.where(mask, q, 0).sum(axis=1), mask).sum())(q)
    assert jnp.isfinite(slope).all() and (jnp.where(mask, 0, slope) == 0).all()


@SMALL
@given(numbers((N, A)), st.floats(-3, 3))
def test_the_soft_maximum_lies_below_the_maximum_by_at_most_a_logarithm(q, density):
    q = q.T  # samples first
    soft = ops.soft_maximum(q, jnp.full((A, N), density)) + density
    assert (soft <= q.max(axis=0) + 1e-4).all() and (soft >= q.max(axis=0) - np.log(A) - 1e-4).all()
    np.testing.assert_allclose(soft, np.log(np.exp(np.float64(q)).mean(axis=0)), atol=1e-4)


@pytest.mark.parametrize("logger", ["uniform", "normal"])
def test_the_soft_maximum_is_an_integral(logger):
    """Whatever drew the actions: evenly spread samples of either density give the integral over the box."""
    q = lambda a: 2 * np.sin(3 * a) + a**2
    u = (np.arange(20_000) + 0.5) / 20_000
    if logger == "uniform":
        a, log_density = 2 * u - 1, np.full(len(u), -np.log(2))
    else:  # a normal within the box, off centre: its density counts
        low, high = norm.cdf([-1, 1], 0.3, 0.7)
        a = norm.ppf(low + u * (high - low), 0.3, 0.7)
        log_density = norm.logpdf(a, 0.3, 0.7) - np.log(high - low)
    said = ops.soft_maximum(jnp.float32(q(a))[:, None], jnp.float32(log_density)[:, None])[0]
    assert float(said) == pytest.approx(np.log(quad(lambda a: np.exp(q(a)), -1, 1)[0]), abs=1e-4)


# weights -----------------------------------------------------------------------------------------------------------------


@SMALL
@given(numbers(N, -50, 50), st.floats(0, 10), st.floats(0.5, 200))
def test_weights(advantage, beta, ceiling):
    weight = ops.exp_advantage(advantage, beta, ceiling)
    assert (weight >= 0).all() and (weight <= np.float32(ceiling)).all()
    want = np.minimum(np.exp(np.float64(advantage) * np.float32(beta)), np.float32(ceiling))
    np.testing.assert_allclose(weight, want, rtol=1e-3, atol=1e-30)
    order = np.argsort(advantage)
    assert (np.diff(np.asarray(weight)[order]) >= 0).all()
    np.testing.assert_array_equal(ops.exp_advantage(advantage, 0.0, 100.0), 1)


@SMALL
@given(numbers(N))
def test_weights_are_constants(advantage):
    for slope in jax.grad(lambda *args: ops.exp_advantage(*args).sum(), argnums=(0, 1, 2))(advantage, 1.0, 100.0):
        assert (slope == 0).all()


@SMALL
@given(numbers(N), st.floats(0.1, 1000))
def test_scale_free_has_no_unit(q, scale):
    assume(float(jnp.abs(q).mean()) > 0.1)
    np.testing.assert_allclose(ops.scale_free(q * np.float32(scale)), ops.scale_free(q), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(jnp.abs(ops.scale_free(q)).mean(), 1, rtol=1e-3)
    slope = jax.grad(lambda q: ops.scale_free(q).sum())(q)
    np.testing.assert_allclose(slope, 1 / (np.abs(q).mean() + 1e-6), rtol=1e-5)  # of the numerator alone
    assert jnp.isfinite(ops.scale_free(jnp.zeros(N))).all()


# targets -----------------------------------------------------------------------------------------------------------------


@SMALL
@given(numbers(N), numbers(N), arrays(bool, N), st.floats(0, 1))
def test_only_an_end_cuts_the_target(reward, value, ended, discount):
    target = ops.td_target(reward, jnp.float32(ended), value, discount)
    np.testing.assert_array_equal(np.asarray(target)[ended], np.asarray(reward)[ended])
    np.testing.assert_allclose(np.asarray(target)[~ended], (reward + np.float32(discount) * value)[~ended], rtol=1e-5, atol=1e-5)


@SMALL
@given(numbers(N), numbers(N), arrays(bool, N))
def test_targets_are_constants(reward, value, ended):
    slopes = jax.grad(lambda *args: ops.td_target(*args).sum(), argnums=(0, 1, 2, 3))(reward, jnp.float32(ended), value, 0.9)
    assert all((slope == 0).all() for slope in slopes)


@SMALL
@given(numbers((N, A)), masks())
def test_legal_hides_what_is_not_allowed_and_nothing_else(q, mask):
    assert ops.legal(q, None) is q
    said = np.asarray(ops.legal(q, mask))
    np.testing.assert_array_equal(said[mask], np.asarray(q)[mask])
    assert (said[~np.asarray(mask)] == -np.inf).all()
