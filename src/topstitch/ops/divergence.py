"""How far apart two distributions of actions are."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float


def mmd(
    x: Float[Array, "n *batch act"], y: Float[Array, "m *batch act"], bandwidth, kernel: Literal["laplacian", "gaussian"] = "laplacian"
) -> Float[Array, "*batch"]:
    r"""$E\,k(x, x') + E\,k(y, y') - 2 E\,k(x, y)$: the squared maximum mean discrepancy of two samples (along the first axis).

    $k = e^{-d/2\sigma}$ with `bandwidth` $\sigma$ and $d$ the sum over dimensions of absolute (laplacian) or squared (gaussian)
    differences. At least 0, and 0 where the samples are the same. Gretton et al. 2012, eq. 5 (with the diagonal),
    https://jmlr.org/papers/v13/gretton12a.html; the kernels as in Kumar et al. 2019, https://arxiv.org/abs/1906.00949.
    """

    def mean(a, b):
        difference = a[:, None] - b[None]
        distance = jnp.abs(difference) if kernel == "laplacian" else difference**2
        return jnp.exp(-distance.sum(axis=-1) / (2 * bandwidth)).mean(axis=(0, 1))

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


def kl_to_standard(mean: Float[Array, "*batch"], log_std: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    r"""$D_{KL}(N(\mu, \sigma^2) \,\|\, N(0, 1)) = \tfrac12(\mu^2 + \sigma^2 - 1) - \log \sigma$, by dimension.

    Kingma and Welling 2014, appendix B, https://arxiv.org/abs/1312.6114.
    """
    return 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std
