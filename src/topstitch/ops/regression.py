"""Losses whose least point is something other than the mean."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Scalars = Float[Array, "*batch"]


def expectile_loss(error: Scalars, tau) -> Scalars:
    r"""$|\tau - 1\{u < 0\}|\, u^2$, whose mean is least at the $\tau$-expectile.

    Half the squared error at $\tau = 1/2$; tends to the maximum as $\tau \to 1$.
    Kostrikov et al. 2022, eq. 4, https://arxiv.org/abs/2110.06169.
    """
    return jnp.where(error < 0, 1 - tau, tau) * error**2
