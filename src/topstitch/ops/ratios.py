"""How much more likely one policy is than another to have done what was done."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Steps = Float[Array, "n time"]


def clipped_ratios(log_ratio: Steps, ceiling) -> Steps:
    r"""$\min(\prod_{k \le t} \pi(a_k \mid s_k) / \mu(a_k \mid s_k),\ c)$ from the logarithms of the single ratios (0 behind an episode's end).

    Precup, Sutton and Singh 2000, https://scholarworks.umass.edu/cs_faculty_pubs/80; clipped as in Ionides 2008,
    https://doi.org/10.1198/106186008X320456.
    """
    return jnp.exp(jnp.minimum(jnp.cumsum(log_ratio, axis=1), jnp.log(ceiling)))


def to_go(earned: Steps, discount) -> Steps:
    r"""$\sum_{t' \ge t} \gamma^{t' - t} x_{t'}$; with `discount` (n, time) that of each step, by which what follows it counts."""
    rates = jnp.broadcast_to(discount, earned.shape)
    step = lambda after, now: ((now[0] + now[1] * after),) * 2
    return jax.lax.scan(step, jnp.zeros_like(earned[:, 0]), (earned.T, rates.T), reverse=True)[1].T
