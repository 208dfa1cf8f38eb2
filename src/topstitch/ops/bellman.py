"""What a value should be."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Scalars = Float[Array, "*batch"]


def td_target(reward: Scalars, terminal: Scalars, next_value: Scalars, discount) -> Scalars:
    r"""$r + \gamma (1 - d) V(s')$, held constant.

    Sutton 1988, https://doi.org/10.1007/BF00115009.
    """
    return jax.lax.stop_gradient(reward + discount * (1 - terminal) * next_value)


def legal(q: Float[Array, "*batch actions"], mask: Bool[Array, "*batch actions"] | None) -> Float[Array, "*batch actions"]:
    """Q where an action is allowed, -inf where it is not; everything is allowed where there is no mask."""
    return q if mask is None else jnp.where(mask, q, -jnp.inf)


def soft_clipped(q: Float[Array, "critics *batch"], weight) -> Scalars:
    r"""$\lambda \min_i Q_i + (1 - \lambda) \max_i Q_i$ with `weight` $\lambda$.

    Fujimoto et al. 2019, eq. 13, https://arxiv.org/abs/1812.02900.
    """
    return weight * q.min(axis=0) + (1 - weight) * q.max(axis=0)
