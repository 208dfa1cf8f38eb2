"""Fixed features of observations, and values that are linear in them."""

import itertools
import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import Discrete, static


class OneHot(eqx.Module):
    """A number as a vector with a single 1."""

    size: int = static()

    def __call__(self, obs):
        return jax.nn.one_hot(obs, self.size)


class Polynomial(eqx.Module):
    """All products of at most `degree` coordinates, the empty one (1) first."""

    factors: tuple[tuple[int, ...], ...] = static()
    "The coordinates that each feature multiplies."

    def __init__(self, coordinates: int, degree: int):
        kinds = [itertools.combinations_with_replacement(range(coordinates), d) for d in range(degree + 1)]
        self.factors = tuple(tuple(factors) for kind in kinds for factors in kind)

    @property
    def size(self) -> int:
        return len(self.factors)

    def __call__(self, obs: Float[Array, "*n obs"]) -> Float[Array, "*n features"]:
        one = jnp.ones(obs.shape[:-1])
        return jnp.stack([math.prod((obs[..., i] for i in factors), start=one) for factors in self.factors], axis=-1)


class Radial(eqx.Module):
    r"""1, and $e^{-|s - c|^2 / 2 \sigma^2}$ of every centre c."""

    centres: Float[Array, "centres obs"]
    width: Float[Array, ""]
    "σ, in the units of the observations."

    @property
    def size(self) -> int:
        return len(self.centres) + 1

    def __call__(self, obs: Float[Array, "*n obs"]) -> Float[Array, "*n features"]:
        centres = jnp.expand_dims(self.centres, tuple(range(obs.ndim - 1)))
        near = jnp.exp(-((obs[..., None, :] - centres) ** 2).sum(axis=-1) / (2 * self.width**2))
        return jnp.concatenate([jnp.ones((*obs.shape[:-1], 1)), near], axis=-1)


Features = OneHot | Polynomial | Radial


def features(data, kind: Literal["radial", "polynomial"], *, centres: int, degree: int, key) -> Features:
    """Features that fit the observations of `data`: one-hot for a `Discrete` whatever the `kind`. Centres are logged observations; σ is 1."""
    space = data.spec.obs
    if isinstance(space, Discrete):
        return OneHot(space.size)
    if kind == "polynomial":
        return Polynomial(space.size, degree)
    rows = jax.random.permutation(key, len(data))[jnp.arange(centres) % len(data)]
    return Radial(data.rows().obs[rows], jnp.ones(()))


class LinearQ(eqx.Module):
    """Q(s, a) = w_a · φ(s)."""

    features: Features
    weights: Float[Array, "actions features"]

    def every(self, obs):
        return self.features(obs) @ self.weights.T

    def __call__(self, obs, action):
        return jnp.take_along_axis(self.every(obs), action[..., None], axis=-1)[..., 0]

    def pairs(self, obs, action) -> Float[Array, "n features_of_pairs"]:
        """φ(s, a): φ(s) in the block of the action, 0 in those of the others. Its product with the flat weights is Q(s, a)."""
        chosen = jax.nn.one_hot(action, len(self.weights))
        return (chosen[:, :, None] * self.features(obs)[:, None, :]).reshape(len(chosen), -1)
