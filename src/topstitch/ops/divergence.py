"""How far apart two distributions of actions are."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

Rows = Float[Array, "*batch"]


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


def variational_kl(here: Float[Array, "*batch"], there: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    r"""$\log g(a) - g(b) + 1$, whose mean over $a \sim \pi$ and $b \sim \beta$ is at most $D_{KL}(\pi \| \beta)$.

    It is the divergence where $g = \pi / \beta$. `here` is g at the draw of π, `there` at that of β, both above 0.
    Nguyen, Wainwright and Jordan 2010, https://arxiv.org/abs/0809.0853; in this form in Wu et al. 2019, https://arxiv.org/abs/1911.11361.
    """
    return jnp.log(here) - there + 1


def steepness(gradient: Float[Array, "*batch act"]) -> Float[Array, "*batch"]:
    r"""$\max(\lVert g \rVert - 1, 0)^2$: by how much a function is steeper than 1.

    $E_\pi f - E_\beta f$ over functions nowhere steeper than 1 is at most the Wasserstein distance of π and β, and reaches it.
    Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, of one side, as in Wu et al. 2019.
    """
    return jnp.maximum(jnp.sqrt((gradient**2).sum(axis=-1) + 1e-8) - 1, 0) ** 2


def normal_kl(mean: Rows, log_std: Rows, to_mean: Rows, to_log_std: Rows) -> Rows:
    r"""$D_{KL}(N(\mu, \sigma^2) \,\|\, N(m, s^2)) = \log \tfrac{s}{\sigma} + \tfrac{\sigma^2 + (\mu - m)^2}{2 s^2} - \tfrac12$, by dimension.

    Kullback and Leibler 1951, https://doi.org/10.1214/aoms/1177729694.
    """
    narrow = log_std - to_log_std
    return 0.5 * (jnp.exp(2 * narrow) + ((mean - to_mean) * jnp.exp(-to_log_std)) ** 2 - 1) - narrow


def categorical_kl(log_p: Float[Array, "*batch members"], log_q: Float[Array, "*batch members"]) -> Float[Array, "*batch"]:
    r"""$D_{KL}(p \,\|\, q) = \sum p \log (p / q)$ of log-probabilities; what has no probability under p does not matter.

    Of several choices side by side, the sum of theirs. Kullback and Leibler 1951.
    """
    return (jnp.exp(log_p) * jnp.where(jnp.isfinite(log_p), log_p - log_q, 0)).sum(axis=-1)
