"""Policies that may be trusted as far as the log reaches, and how far that is."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Rows = Float[Array, "*batch actions"]


def exactly_baseline(q: Rows, baseline: Rows, trusted: Bool[Array, "*batch actions"]) -> Rows:
    r"""The best policy for Q that equals the baseline on every action not trusted: the trusted ones' mass goes to the best of them.

    $\Pi_b$ of Laroche et al. 2019, https://arxiv.org/abs/1712.06924.
    """
    kept = jnp.where(trusted, 0, baseline)
    best = jax.nn.one_hot(jnp.where(trusted, q, -jnp.inf).argmax(axis=-1), q.shape[-1])
    moved = kept + (1 - kept.sum(axis=-1, keepdims=True)) * best
    return jnp.where(trusted.any(axis=-1, keepdims=True), moved, baseline)


def at_most_baseline(q: Rows, baseline: Rows, trusted: Bool[Array, "*batch actions"]) -> Rows:
    r"""The best policy for Q that takes no action more often than the baseline, unless that action is trusted.

    From the best action down, each takes what it may of the mass that is left. $\Pi_{\le b}$ of Laroche et al. 2019.
    """
    order = jnp.argsort(-q, axis=-1)
    may = jnp.take_along_axis(jnp.where(trusted, 1, baseline), order, axis=-1)
    taken = jnp.clip(1 - (jnp.cumsum(may, axis=-1) - may), 0, may)
    moved = jnp.take_along_axis(taken, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(trusted.any(axis=-1, keepdims=True), moved, baseline)


def improvement_bound(threshold, *, states: int, actions: int, largest, discount, delta) -> float:
    r"""$\frac{4 V_{max}}{1 - \gamma} \sqrt{\frac{2}{N} \log \frac{2 |S| |A| 2^{|S|}}{\delta}}$: what Π_b-SPIBB may lose.

    With probability 1 - δ its return is at least that of the true baseline, plus what it gains on the baseline in the empirical world, less this.
    `threshold` is N, `largest` the greatest absolute value of any policy. Laroche et al. 2019, theorem 2.
    """
    odds = math.log(2 * states * actions / delta) + states * math.log(2)
    return 4 * largest / (1 - discount) * math.sqrt(2 / threshold * odds)
