"""Many values on one body."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import Discrete, Spec, static
from .critics import DiscreteQ
from .mlp import Linear


class Heads(eqx.Module):
    """`n` values Q(s, ·) that share all layers but the last."""

    q: DiscreteQ
    n: int = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], n: int, *, key, **how):
        self.q = DiscreteQ(Spec(spec.obs, Discrete(n * spec.action.size)), hidden, key=key, **how)
        self.n = n

    def __call__(self, obs, action) -> Float[Array, "*n heads"]:
        """Q_k(s, a) of every head."""
        every = self.q.every(obs)
        each = every.reshape(*every.shape[:-1], self.n, -1)
        return jnp.take_along_axis(each, action[..., None, None], axis=-1)[..., 0]

    def mean(self) -> DiscreteQ:
        """The mean of all heads."""
        return self.mixed(jnp.full(self.n, 1 / self.n))

    def mixed(self, weights: Float[Array, " n"]) -> DiscreteQ:
        """Their weighted sum. It is a head itself, whose layer is the weighted sum of theirs: the price of one, however many they are."""
        last = self.q.net.layers[-1]
        mix = lambda x: jnp.einsum("...ha,h->...a", x.reshape(*x.shape[:-1], self.n, -1), weights)
        return eqx.tree_at(lambda q: q.net.layers[-1], self.q, Linear(mix(last.weight), mix(last.bias)))
