"""Networks in which one input changes what is made of another. Their leaves are drawn at random, biases too: a net that stays as it is
drawn must depend on its inputs in every way."""

import itertools
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .mlp import Linear


def drawn(shapes: Sequence[tuple[int, int]], fans: Sequence[int], *, key) -> tuple[Linear, ...]:
    """Layers of these (in, out) shapes, weights and biases uniform in ±1/sqrt(fan)."""
    sizes = [(i + 1) * o for i, o in shapes]
    parts = jnp.split(jax.random.uniform(key, (sum(sizes),), minval=-1, maxval=1), list(itertools.accumulate(sizes))[:-1])
    bounded = [part / math.sqrt(fan) for part, fan in zip(parts, fans, strict=True)]
    return tuple(Linear(part[: i * o].reshape(i, o), part[i * o :]) for part, (i, o) in zip(bounded, shapes, strict=True))


class Bilinear(eqx.Module):
    r"""An MLP whose first layer is bilinear: unit k of it is $x^\top W_k z + b_k$.

    Nikulin et al. 2023, https://arxiv.org/abs/2301.13616; in their code, as here, weights of that layer are in ±1/sqrt(size of x).
    """

    layers: tuple[Linear, ...]

    def __init__(self, x: int, z: int, hidden: tuple[int, ...], out: int, *, key):
        shapes = list(itertools.pairwise((x * z, *hidden, out)))
        self.layers = drawn(shapes, [x, *hidden], key=key)

    def __call__(self, x: Float[Array, "*batch x"], z: Float[Array, "*batch z"]) -> Float[Array, "*batch out"]:
        h = (x[..., :, None] * z[..., None, :]).reshape(*x.shape[:-1], -1)
        for layer in self.layers[:-1]:
            h = jax.nn.relu(layer(h))
        return self.layers[-1](h)


class Film(eqx.Module):
    r"""An MLP of x whose last hidden layer is modulated by z: $\mathrm{relu}(\gamma(z) \odot (W h + b) + \beta(z))$, γ and β linear.

    Feature-wise linear modulation: Perez et al. 2018, https://arxiv.org/abs/1709.07871.
    """

    layers: tuple[Linear, ...]
    film: Linear

    def __init__(self, x: int, z: int, hidden: tuple[int, ...], out: int, *, key):
        sizes = (x, *hidden)
        shapes = [*itertools.pairwise((*sizes, out)), (z, 2 * sizes[-1])]
        *self.layers, self.film = drawn(shapes, [i for i, _ in shapes], key=key)
        self.layers = tuple(self.layers)

    def __call__(self, x: Float[Array, "*batch x"], z: Float[Array, "*batch z"]) -> Float[Array, "*batch out"]:
        for layer in self.layers[:-2]:
            x = jax.nn.relu(layer(x))
        scale, shift = jnp.split(self.film(z), 2, axis=-1)
        return self.layers[-1](jax.nn.relu(scale * self.layers[-2](x) + shift))
