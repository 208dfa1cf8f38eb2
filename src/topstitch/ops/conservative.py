"""How far Q rises above the data."""

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float

from .bellman import legal

Scalars = Float[Array, "*batch"]


def soft_maximum(q: Float[Array, "sample *batch"], log_density: Float[Array, "sample *batch"]) -> Scalars:
    r"""$\log \int e^{Q(s,a)} da$ by importance sampling from actions of the given densities.

    Kumar et al. 2020, appendix F, https://arxiv.org/abs/2006.04779.
    """
    return logsumexp(q - log_density, axis=0) - jnp.log(q.shape[0])


def gap(q: Float[Array, "*batch actions"], taken: Scalars, mask: Bool[Array, "*batch actions"] | None = None) -> Scalars:
    r"""$\log \sum_a e^{Q(s,a)} - Q(s, a_{\text{logged}})$ over the allowed actions; `taken` is the second term.

    At least 0, and unchanged when a number is added to all of Q(s, ·). Kumar et al. 2020, eq. 4.
    """
    return logsumexp(legal(q, mask), axis=-1) - taken
