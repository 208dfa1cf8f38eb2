"""How unsure an ensemble of Gaussian models is about one step, in the units of what it predicts."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Predicted = Float[Array, "model *batch out"]
Scalars = Float[Array, "*batch"]


def largest_noise(std: Predicted) -> Scalars:
    r"""$\max_i \lVert \sigma_i(s, a) \rVert_2$: the noise that the noisiest model expects.

    Yu et al. 2020, section 4.3, https://arxiv.org/abs/2005.13239.
    """
    return jnp.linalg.norm(std, axis=-1).max(axis=0)


def spread(mean: Predicted) -> Scalars:
    r"""$\lVert \mathrm{std}_i\, \mu_i(s, a) \rVert_2$: how far the models' means scatter.

    Lu et al. 2022, section 3, https://arxiv.org/abs/2110.04135, who compare such measures.
    """
    return jnp.linalg.norm(mean.std(axis=0), axis=-1)


def discrepancy(mean: Predicted) -> Scalars:
    r"""$\max_{i, j} \lVert \mu_i(s, a) - \mu_j(s, a) \rVert_2$: how far apart the two models are that agree least.

    Kidambi et al. 2020, section 4.2, https://arxiv.org/abs/2005.05951.
    """
    return jnp.linalg.norm(mean[:, None] - mean[None], axis=-1).max(axis=(0, 1))
