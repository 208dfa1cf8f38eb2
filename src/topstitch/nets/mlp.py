"""Linear layers and their stack."""

import itertools
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import Discrete, MultiDiscrete, static

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "silu": jax.nn.silu, "gelu": jax.nn.gelu, "elu": jax.nn.elu}


class Linear(eqx.Module):
    """x W + b. Asked about integers, it reads the rows of W: the product with one-hot vectors, without making them."""

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"]

    def __call__(self, x: Float[Array, "*batch in"] | Int[Array, "*batch"]) -> Float[Array, "*batch out"]:
        if jnp.issubdtype(x.dtype, jnp.integer):
            y = self.weight[x]
        else:
            y = x @ self.weight
        return y + jnp.expand_dims(self.bias, tuple(range(y.ndim - 1)))


def linears(shapes: Sequence[tuple[int, int]], *, key: PRNGKeyArray, bias=0.0, last: float | None = None) -> tuple[Linear, ...]:
    """Layers of these (in, out) shapes: weights uniform in ±1/sqrt(in), biases `bias`.

    `last` is the bound of the weights and biases of the last layer instead, where a paper asks for one.
    One draw for all of them: compiling many small draws costs more than compiling the update.
    """
    sizes = [i * o for i, o in shapes] + [shapes[-1][1]]
    drawn = jax.random.uniform(key, (sum(sizes),), minval=-1, maxval=1)
    layers, at = [], 0
    for i, o in shapes:
        layers.append(Linear(drawn[at : at + i * o].reshape(i, o) / math.sqrt(i), jnp.full(o, bias)))
        at += i * o
    if last is not None:
        i, o = shapes[-1]
        layers[-1] = Linear(layers[-1].weight * math.sqrt(i) * last, drawn[at:] * last)
    return tuple(layers)


class LayerNorm(eqx.Module):
    """To mean 0 and variance 1 over the last axis, then a learned scale and shift."""

    scale: Float[Array, " width"]
    shift: Float[Array, " width"]

    def __init__(self, width: int):
        self.scale, self.shift = jnp.ones(width), jnp.zeros(width)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        lead = tuple(range(x.ndim - 1))
        x = (x - x.mean(axis=-1, keepdims=True)) * jax.lax.rsqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return x * jnp.expand_dims(self.scale, lead) + jnp.expand_dims(self.shift, lead)


class MLP(eqx.Module):
    """Linear layers with an activation, and on request a layer norm behind it, between them."""

    layers: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...]
    activation: str = static()

    def __init__(self, sizes: tuple[int, ...], *, key: PRNGKeyArray, activation="relu", norm=False, bias=0.0, last=None):
        self.layers = linears(list(itertools.pairwise(sizes)), key=key, bias=bias, last=last)
        self.norms = tuple(LayerNorm(width) for width in sizes[1:-1]) if norm else ()
        self.activation = activation

    def __call__(self, x) -> Float[Array, "*batch out"]:
        for i, layer in enumerate(self.layers[:-1]):
            x = ACTIVATIONS[self.activation](layer(x))
            x = self.norms[i](x) if self.norms else x
        return self.layers[-1](x)


def vector(x, space):
    """Members of a space as vectors: those of a `Discrete` become one-hot, those of a `MultiDiscrete` so choice by choice."""
    if isinstance(space, MultiDiscrete):
        return jnp.concatenate([jax.nn.one_hot(x[..., j], n) for j, n in enumerate(space.sizes)], axis=-1)
    return jax.nn.one_hot(x, space.size) if isinstance(space, Discrete) else x
