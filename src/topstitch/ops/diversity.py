"""How much the members of an ensemble agree."""

import jax
from jaxtyping import Array, Float


def alignment(gradients: Float[Array, "critic *batch act"]) -> Float[Array, "*batch"]:
    r"""$\frac{1}{N-1} \sum_{i \ne j} \cos(g_i, g_j)$ over the gradients of N critics: N where all point one way, 0 or less where they scatter.

    Found as $\lVert \sum_i u_i \rVert^2 - \sum_i \lVert u_i \rVert^2$ of the unit vectors, in time linear in N; a gradient of 0 has no
    direction and adds nothing. In one dimension a unit vector is a sign, and nothing can be learned from the result.
    An et al. 2021, https://arxiv.org/abs/2110.01548.
    """
    unit = gradients * jax.lax.rsqrt((gradients**2).sum(axis=-1, keepdims=True) + 1e-12)
    return ((unit.sum(axis=0) ** 2).sum(axis=-1) - (unit**2).sum(axis=(0, -1))) / max(len(gradients) - 1, 1)
