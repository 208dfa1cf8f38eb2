"""Policies that are one network: obs -> distribution."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from ..core import Box, Discrete, Image, Markov, MultiDiscrete, Spec, static
from .distributions import Categorical, Choices, Delta, Normal, NormalMixture, Tanh
from .encoder import Sight, ask, reader
from .ensemble import Ensemble
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


class BoxMixture(Markov):
    """obs -> NormalMixture of `modes` normals, all of them read off the observation, their means within the box. `bounds` hold log std."""

    net: MLP | Sight
    modes: int = static()
    bounds: tuple[float, float] = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, modes: int = 5, bounds=(-5.0, 2.0), **how):
        self.net = reader(spec.obs, hidden, modes * (1 + 2 * spec.action.size), key=key, **how)
        self.modes, self.bounds = modes, bounds

    def __call__(self, obs, mask=None):
        said = self.net(obs)
        said = said.reshape(*said.shape[:-1], self.modes, -1)
        mean, log_std = jnp.split(said[..., 1:], 2, axis=-1)
        return NormalMixture(said[..., 0], jnp.tanh(mean), jnp.clip(log_std, *self.bounds))


class Autoregressive(Markov):
    """obs -> Stepwise: the dimensions of an action one after another, each among `bins` of equal width, told the bins of those before it.

    One net for each dimension. As models of text choose words; of actions: Metz et al. 2017, https://arxiv.org/abs/1705.05035.
    """

    each: Ensemble
    space: Box | Discrete | Image = static()
    bins: int = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, bins: int = 64, **how):
        size = spec.action.size
        self.each = Ensemble.of(lambda key: reader(spec.obs, hidden, bins, key=key, beside=size, **how), size, key=key)
        self.space, self.bins = spec.obs, bins

    def __call__(self, obs, mask=None):
        return Stepwise(self, obs)

    def logits(self, net, obs, known):
        """Log-probabilities of the bins of the dimension that `net` is for; in `known` (*batch, act) the later dimensions must be 0."""
        return jax.nn.log_softmax(ask(net, self.space, obs, known), axis=-1)

    def middle(self, chosen):
        """Of a bin, in the unit box."""
        return (2 * chosen + 1) / self.bins - 1

    @property
    def noise(self) -> tuple[int, ...]:
        """The shape of the standard normal numbers that one action is made of, as for a `Generator`."""
        return 2, self.each.n

    def decode(self, obs, noise):
        """The actions, in the unit box, that this noise, (*batch, *noise), becomes: one number for the bin of a dimension, by its quantile, and one for
        the place within."""
        bin, place = jnp.moveaxis(ndtr(noise), -2, 0)
        below = lambda logits: jnp.cumsum(jnp.exp(logits), axis=-1)[..., :-1]
        chosen = lambda j, logits: (jnp.take(bin, j, axis=-1)[..., None] > below(logits)).sum(axis=-1)
        return self.unrolled(obs, chosen) + (2 * place - 1) / self.bins

    def lead(self, obs) -> tuple[int, ...]:
        """The leading axes of observations."""
        return jnp.shape(obs)[: jnp.ndim(obs) - {Box: 1, Discrete: 0, Image: 3}[type(self.space)]]

    def unrolled(self, obs, choose):
        """The middles of the bins that `choose(dimension, log-probabilities)` chooses, dimension after dimension."""
        lead = self.lead(obs)

        def step(known, now):
            j, net = now
            chosen = self.middle(choose(j, self.logits(net, obs, known)))
            at = jnp.expand_dims(jnp.arange(self.each.n) == j, tuple(range(len(lead))))
            return jnp.where(at, chosen[..., None], known), None

        return jax.lax.scan(step, jnp.zeros((*lead, self.each.n)), (jnp.arange(self.each.n), self.each.members))[0]


class Stepwise(eqx.Module):
    """The distribution of an `Autoregressive` at an observation: a density that is flat within each cell of bins."""

    policy: Autoregressive
    obs: Any

    def mode(self):
        """The middle of the likeliest bin, dimension after dimension."""
        return self.policy.unrolled(self.obs, lambda j, logits: logits.argmax(axis=-1))

    def sample(self, key):
        return self.policy.decode(self.obs, jax.random.normal(key, (*self.policy.lead(self.obs), *self.policy.noise)))

    def log_prob(self, action):
        bins, size = self.policy.bins, self.policy.each.n
        chosen = jnp.clip(jnp.floor((action + 1) / 2 * bins).astype(jnp.int32), 0, bins - 1)
        before = jnp.expand_dims(jnp.tril(jnp.ones((size, size)), -1), tuple(range(1, action.ndim)))
        known = self.policy.middle(chosen)[None] * before
        logits = self.policy.each.ask(lambda net, known: self.policy.logits(net, self.obs, known), known)
        chance = jnp.take_along_axis(logits, jnp.moveaxis(chosen, -1, 0)[..., None], axis=-1)[..., 0]
        return (chance + math.log(bins / 2)).sum(axis=0)


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
