"""Policies that are one network: obs -> distribution."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import Box, Discrete, Markov, MultiDiscrete, Spec, static
from .distributions import Categorical, Choices, Delta, Normal, Tanh
from .encoder import Sight, reader
from .mlp import MLP


class BoxGaussian(Markov):
    """obs -> Normal(tanh mean, one learned std per dimension), as in IQL. `bounds` hold log std."""

    net: MLP | Sight
    log_std: Float[Array, " act"]
    bounds: tuple[float, float] = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, bounds=(-5.0, 2.0), **how):
        self.net = reader(spec.obs, hidden, spec.action.size, key=key, **how)
        self.log_std = jnp.zeros(spec.action.size)
        self.bounds = bounds

    def __call__(self, obs, mask=None):
        mean = jnp.tanh(self.net(obs))
        return Normal(mean, jnp.broadcast_to(jnp.clip(self.log_std, *self.bounds), mean.shape))


class Squashed(Markov):
    """obs -> Tanh(Normal), mean and std both read off the observation, as in SAC."""

    net: MLP | Sight
    bounds: tuple[float, float] = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, bounds=(-20.0, 2.0), **how):
        self.net = reader(spec.obs, hidden, 2 * spec.action.size, key=key, **how)
        self.bounds = bounds

    def __call__(self, obs, mask=None):
        mean, log_std = jnp.split(self.net(obs), 2, axis=-1)
        return Tanh(Normal(mean, jnp.clip(log_std, *self.bounds)))


class Deterministic(Markov):
    """obs -> one action."""

    net: MLP | Sight

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = reader(spec.obs, hidden, spec.action.size, key=key, **how)

    def __call__(self, obs, mask=None):
        return Delta(jnp.tanh(self.net(obs)))


class Categories(Markov):
    """obs -> Categorical over the legal actions."""

    net: MLP | Sight

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = reader(spec.obs, hidden, spec.action.size, key=key, **how)

    def __call__(self, obs, mask=None):
        return Categorical(self.net(obs), mask)


class Several(Markov):
    """obs -> Choices: one categorical distribution for each choice, independent of one another given the observation."""

    net: MLP | Sight
    space: MultiDiscrete = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = reader(spec.obs, hidden, spec.action.size, key=key, **how)
        self.space = spec.action

    def __call__(self, obs, mask=None):
        return Choices(self.net(obs), self.space.sizes, mask)


class Greedy(Markov):
    """All mass on the best legal action of anything that has `every(obs)`: a network, a table, a forest."""

    q: Any

    def __call__(self, obs, mask=None):
        return greedy(self.q.every(obs), mask)


def greedy(q: Float[Array, "*batch actions"], mask=None) -> Categorical:
    """The distribution that is certain of the best legal action."""
    q = q if mask is None else jnp.where(mask, q, -jnp.inf)
    actions = jnp.expand_dims(jnp.arange(q.shape[-1]), tuple(range(q.ndim - 1)))
    return Categorical(jnp.where(q.argmax(axis=-1)[..., None] == actions, 0.0, -jnp.inf))


def stochastic(spec: Spec, hidden: tuple[int, ...], *, key, **how):
    """The actor with a density that fits the action space: `BoxGaussian`, `Categories` or `Several`."""
    kind = {Box: BoxGaussian, Discrete: Categories, MultiDiscrete: Several}[type(spec.action)]
    return kind(spec, hidden, key=key, **how)
