"""How much a logged action is worth imitating, and how losses are brought to one unit."""

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

Scalars = Float[Array, "*batch"]


def exp_advantage(advantage: Scalars, beta, ceiling) -> Scalars:
    r"""$\min(e^{\beta A}, w_{\max})$, held constant.

    Peng et al. 2019, https://arxiv.org/abs/1910.00177; the ceiling as in Kostrikov et al. 2022.
    """
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(beta * advantage), ceiling))


def binary_advantage(advantage: Scalars) -> Scalars:
    r"""$1\{A \ge 0\}$, held constant: imitate what is no worse than usual, and nothing else.

    Wang et al. 2020, eq. 3, https://arxiv.org/abs/2006.15134. At A = 0 it is 1, so that all is imitated where nothing makes a difference.
    """
    return jax.lax.stop_gradient((advantage >= 0).astype(advantage.dtype))


def positive_advantage(advantage: Scalars, ceiling=jnp.inf) -> Scalars:
    r"""$\min(\max(A, 0), w_{\max})$, held constant: imitate in proportion to the gain.

    The weight of Dayan and Hinton 1997, https://doi.org/10.1162/neco.1997.9.2.271, for payoffs A; clipped as in Oh et al. 2018,
    https://arxiv.org/abs/1806.05635.
    """
    return jax.lax.stop_gradient(jnp.clip(advantage, 0, ceiling))


def top_fraction(advantage: Float[Array, " batch"], share) -> Float[Array, " batch"]:
    r"""1 for the best `share` of a batch, else 0, held constant; all that equals the last of them is among them.

    The selection of Chen et al. 2020 (BAIL), https://arxiv.org/abs/1910.12179, within a batch.
    """
    return jax.lax.stop_gradient((advantage >= jnp.quantile(advantage, 1 - share)).astype(advantage.dtype))


def tilted(log_prior: Float[Array, "options *batch"], values: Float[Array, "options *batch"], temperature):
    r"""$q \propto p\, e^{Q / \eta}$ over the options (the first axis), and $\eta \log \sum p\, e^{Q / \eta}$, the soft maximum that makes it sum to one.

    Of all q, this one has the greatest $E_q Q - \eta D_{KL}(q \| p)$. The weights are held constant, the soft maximum is not.
    Abdolmaleki et al. 2018, section 3.2, https://arxiv.org/abs/1806.06920.
    """
    logits = log_prior + values / temperature
    level = logsumexp(logits, axis=0)
    return jax.lax.stop_gradient(jnp.exp(logits - level[None])), temperature * level


def scale_free(q: Scalars) -> Scalars:
    r"""$Q / \mathrm{mean}|Q|$ with the denominator held constant, so that losses are in the same units.

    Fujimoto and Gu 2021, eq. 5, https://arxiv.org/abs/2106.06860.
    """
    return q / jax.lax.stop_gradient(jnp.abs(q).mean() + 1e-6)
