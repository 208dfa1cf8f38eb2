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


def lambda_returns(
    reward: Float[Array, " n"], terminal: Float[Array, " n"], next_value: Float[Array, " n"], ends: Float[Array, " n"], discount, trace
) -> Float[Array, " n"]:
    r"""$G_t = r_t + \gamma (1 - d_t)\,[(1 - \lambda) V(s_{t+1}) + \lambda G_{t+1}]$ over a whole log, held constant.

    Rows lie one after another; `ends` is 1 at the last row of each episode, where $G_{t+1}$ is $V(s_{t+1})$: what an episode that was cut
    off would still have earned. λ = 0 is `td_target`, λ = 1 the logged return. `discount` may differ by row. Sutton and Barto 2018, eq. 12.20.
    """
    rate = discount * (1 - terminal)
    trust = trace * (1 - ends)
    # G_t = a_t + b_t G_{t+1} is a product of affine maps, so all of it takes log n steps
    chain = lambda later, now: (now[0] + now[1] * later[0], now[1] * later[1])
    return jax.lax.stop_gradient(jax.lax.associative_scan(chain, (reward + rate * (1 - trust) * next_value, rate * trust), reverse=True)[0])


def best_of(q: Float[Array, "*batch actions"], probs: Float[Array, "*batch actions"], n) -> Float[Array, "*batch actions"]:
    r"""How likely each action is to be the best by Q of `n` independent draws from `probs`.

    $F(a)^n - F(a^-)^n$, F(a) being the probability of a draw no better than a, and F(a^-) of one worse (of actions of equal value the later
    counts as better). The draws' own probabilities for n = 1; towards all mass on the best of what is drawn at all as n grows.
    $\sum_a Q(a)$ times it is the operator of Ghasemipour et al. 2021, https://arxiv.org/abs/2007.11091.
    """
    order = jnp.argsort(q, axis=-1)
    below = jnp.cumsum(jnp.take_along_axis(probs, order, axis=-1), axis=-1)
    most = jnp.minimum(below / below[..., -1:], 1.0) ** n
    chance = jnp.diff(most, axis=-1, prepend=0)
    return jnp.take_along_axis(chance, jnp.argsort(order, axis=-1), axis=-1)
