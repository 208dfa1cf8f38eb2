"""Numbered states: one row of an array each."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..core import Markov
from .actors import greedy
from .distributions import Categorical


class Table(eqx.Module):
    """Q(s, ·) as the rows of an array."""

    values: Float[Array, "states actions"]

    def every(self, obs: Int[Array, "*n"]) -> Float[Array, "*n actions"]:
        return self.values[obs]

    def __call__(self, obs, action):
        return self.values[obs, action]


class TableGreedy(Markov):
    """All mass on the best of the actions marked in `able`; on the best legal one where none of these is legal."""

    q: Table
    able: Bool[Array, "states actions"]

    def __call__(self, obs, mask=None):
        able = self.able[obs] if mask is None else self.able[obs] & mask
        legal = jnp.ones_like(able) if mask is None else mask
        return greedy(self.q.every(obs), jnp.where(able.any(axis=-1, keepdims=True), able, legal))


class TablePolicy(Markov):
    """The rows of an array of probabilities, over legal actions; all of these alike where none has any."""

    probabilities: Float[Array, "states actions"]

    def __call__(self, obs, mask=None):
        p = self.probabilities[obs]
        p = p if mask is None else p * mask
        legal = jnp.ones_like(p, bool) if mask is None else mask
        return Categorical(jnp.log(jnp.where((p > 0).any(axis=-1, keepdims=True), p, legal)))


def means(
    values: Float[Array, " n"], obs: Int[Array, " n"], action: Int[Array, " n"], shape: tuple[int, int]
) -> tuple[Float[Array, "states actions"], Float[Array, "states actions"]]:
    """The mean of `values` over the rows of each (state, action), 0 where there are none; and how many rows there are."""
    count = jnp.zeros(shape).at[obs, action].add(1.0)
    return jnp.zeros(shape).at[obs, action].add(values) / jnp.maximum(count, 1), count
