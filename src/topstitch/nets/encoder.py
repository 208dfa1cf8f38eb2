"""Nets that read observations of any kind: an MLP of vectors and of numbers of states, convolutions and an MLP of pictures."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from ..core import Box, Discrete, Image, static
from .mlp import MLP, Linear, linears, vector

LAYERS: tuple[tuple[int, tuple[tuple[int, int, int], ...]], ...] = (
    (36, ((32, 8, 4), (64, 4, 2), (64, 3, 1))),
    (16, ((32, 3, 2), (32, 3, 1), (32, 3, 1), (32, 3, 1))),
    (3, ((16, 3, 1),)),
)
"""(least side of a picture, its convolutions: channels, side of the window, stride).

From 36 pixels on (the fewest that the last window fits into) those of DQN: Mnih et al. 2015, https://doi.org/10.1038/nature14236. From 16
on those of SAC+AE and DrQ: Yarats et al. 2019, https://arxiv.org/abs/1910.01741. Below, that of MinAtar: Young and Tian 2019,
https://arxiv.org/abs/1903.03176. The dense layers behind them are the net's `hidden`: DQN has (512,) and MinAtar (128,).
"""


class Convolution(eqx.Module):
    """The same linear layer of every window, without padding. A window lies in its rows as (row, column, channel).

    It is a product of gathered windows: inside a compiled loop on a CPU, XLA's own convolution took 3 to 12 times as long.
    """

    layer: Linear
    side: int = static()
    stride: int = static()

    def __call__(self, x: Float[Array, "n height width channels"]) -> Float[Array, "n high wide out"]:
        high, wide = ((length - self.side) // self.stride + 1 for length in x.shape[1:3])
        every = lambda first, count: slice(first, first + self.stride * (count - 1) + 1, self.stride)
        offsets = itertools.product(range(self.side), repeat=2)
        return self.layer(jnp.concatenate([x[:, every(i, high), every(j, wide)] for i, j in offsets], axis=-1))


class Sight(eqx.Module):
    """Convolutions with ReLU, and an MLP of what they find and of what lies beside the picture, such as an action."""

    convolutions: tuple[Convolution, ...]
    head: MLP
    peak: int = static()

    def __init__(self, space: Image, hidden: tuple[int, ...], out: int, *, key, beside: int = 0, **how):
        least = min(space.height, space.width)
        chosen = next((layers for bound, layers in LAYERS if least >= bound), None)
        if chosen is None:
            raise ValueError(
                f"Pictures must be of {LAYERS[-1][0]} × {LAYERS[-1][0]} pixels at least, but these are {space}. Give them as vectors."
            )
        kc, kh = jax.random.split(key)
        shapes, high, wide, channels = [], space.height, space.width, space.channels
        for out_, side, stride in chosen:
            shapes.append((side * side * channels, out_))
            high, wide, channels = (high - side) // stride + 1, (wide - side) // stride + 1, out_
        drawn = linears(shapes, key=kc)
        self.convolutions = tuple(Convolution(layer, side, stride) for layer, (_, side, stride) in zip(drawn, chosen))
        self.head = MLP((high * wide * channels + beside, *hidden, out), key=kh, **how)
        self.peak = space.peak

    @property
    def layers(self) -> tuple[Linear, ...]:
        """The dense ones, as those of an MLP."""
        return self.head.layers

    def __call__(self, obs: UInt8[Array, "*n height width channels"], *beside: Float[Array, "*n numbers"]) -> Float[Array, "*n out"]:
        lead = obs.shape[:-3]
        x = obs.reshape(-1, *obs.shape[-3:]).astype(jnp.float32) / self.peak
        for convolution in self.convolutions:
            x = jax.nn.relu(convolution(x))
        return self.head(jnp.concatenate([x.reshape(*lead, -1), *beside], axis=-1))


def reader(space: Box | Discrete | Image, hidden: tuple[int, ...], out: int, *, key, beside: int = 0, **how) -> MLP | Sight:
    """The net from an observation, and `beside` further numbers, to `out` numbers. `how`: `activation`, `norm`, `bias`, `last` of an `MLP`."""
    if isinstance(space, Image):
        return Sight(space, hidden, out, key=key, beside=beside, **how)
    return MLP((space.size + beside, *hidden, out), key=key, **how)


def ask(net: Any, space: Box | Discrete | Image, obs, beside):
    """What such a net says of an observation and of the numbers beside it."""
    return net(obs, beside) if isinstance(space, Image) else net(jnp.concatenate([vector(obs, space), beside], axis=-1))
