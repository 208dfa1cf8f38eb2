"""Losses whose least point is something other than the mean."""

import math

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Scalars = Float[Array, "*batch"]


def expectile_loss(error: Scalars, tau) -> Scalars:
    r"""$|\tau - 1\{u < 0\}|\, u^2$, whose mean is least at the $\tau$-expectile.

    Half the squared error at $\tau = 1/2$; tends to the maximum as $\tau \to 1$.
    Kostrikov et al. 2022, eq. 4, https://arxiv.org/abs/2110.06169.
    """
    return jnp.where(error < 0, 1 - tau, tau) * error**2


def quantile_huber(error: Scalars, tau, kappa=1.0) -> Scalars:
    r"""$|\tau - 1\{u < 0\}|\, L_\kappa(u)$ with the Huber loss $L_\kappa$: a square up to κ, straight beyond.

    Its mean over y of u = y - m is least where m is the τ-quantile, but for a rounding within κ of it; for κ above all errors it is half the
    loss of the τ-expectile. Dabney et al. 2018, eq. 10, https://arxiv.org/abs/1710.10044.
    """
    return jnp.where(error < 0, 1 - tau, tau) * optax.huber_loss(error, delta=kappa)


def gaussian_nll(mean: Scalars, log_var: Scalars, y: Scalars) -> Scalars:
    r"""$-\log N(y; \mu, \sigma^2)$, whose mean is least where $\mu$ is the mean of y and $\sigma^2$ its variance.

    Nix and Weigend 1994, https://doi.org/10.1109/ICNN.1994.374138.
    """
    return 0.5 * ((y - mean) ** 2 * jnp.exp(-log_var) + log_var + math.log(2 * math.pi))
