"""How much a logged action is worth imitating, and how losses are brought to one unit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalars = Float[Array, "*batch"]


def exp_advantage(advantage: Scalars, beta, ceiling) -> Scalars:
    r"""$\min(e^{\beta A}, w_{\max})$, held constant.

    Peng et al. 2019, https://arxiv.org/abs/1910.00177; the ceiling as in Kostrikov et al. 2022.
    """
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(beta * advantage), ceiling))


def scale_free(q: Scalars) -> Scalars:
    r"""$Q / \mathrm{mean}|Q|$ with the denominator held constant, so that losses are in the same units.

    Fujimoto and Gu 2021, eq. 5, https://arxiv.org/abs/2106.06860.
    """
    return q / jax.lax.stop_gradient(jnp.abs(q).mean() + 1e-6)
