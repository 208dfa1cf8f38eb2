"""The few distributions that offline RL needs. Each answers `mode`, `sample` and `log_prob` over any leading axes."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from ..core import static

EDGE = 1e-6  # how near to ±1 an action may be before the inverse of tanh is asked about it


class Normal(eqx.Module):
    """Independent normals over action dimensions, clipped to the unit box when acted upon."""

    mean: Float[Array, "*batch act"]
    log_std: Float[Array, "*batch act"]

    def mode(self):
        return jnp.clip(self.mean, -1, 1)

    def sample(self, key):
        return jnp.clip(self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape), -1, 1)

    def log_prob(self, action):
        """The density of the normal itself: the mass that clipping piles up on the faces of the box is not in it."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self):
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class NormalMixture(eqx.Module):
    """One of several normals, of independent dimensions each, clipped to the unit box when acted upon. Bishop 1994,
    https://publications.aston.ac.uk/id/eprint/373/."""

    logits: Float[Array, "*batch modes"]
    "Log-weights."
    mean: Float[Array, "*batch modes act"]
    log_std: Float[Array, "*batch modes act"]

    def mode(self):
        """The densest of the centres: the highest point of the density if they lie apart, and near it if they do not."""
        centres = jnp.moveaxis(self.mean, -2, 0)
        best = jax.vmap(self.log_prob)(centres).argmax(axis=0)
        return jnp.clip(jnp.take_along_axis(centres, best[None, ..., None], axis=0)[0], -1, 1)

    def sample(self, key):
        which, own = jax.random.split(key)
        one = jax.random.categorical(which, self.logits)[..., None, None]
        mean, log_std = (jnp.take_along_axis(x, one, axis=-2)[..., 0, :] for x in (self.mean, self.log_std))
        return Normal(mean, log_std).sample(own)

    def log_prob(self, action):
        """Of the mixture itself, as `Normal` answers."""
        each = Normal(self.mean, self.log_std).log_prob(jnp.broadcast_to(action[..., None, :], self.mean.shape))
        return logsumexp(jax.nn.log_softmax(self.logits, axis=-1) + each, axis=-1)


class Tanh(eqx.Module):
    """A squashed normal: Haarnoja et al. 2018, appendix C, https://arxiv.org/abs/1812.05905."""

    base: Normal

    def mode(self):
        return jnp.tanh(self.base.mean)

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """Without the inverse of tanh, which is inexact near ±1."""
        u = self.base.mean + jnp.exp(self.base.log_std) * jax.random.normal(key, self.base.mean.shape)
        return jnp.tanh(u), self._log_prob(u)

    def log_prob(self, action):
        return self._log_prob(jnp.arctanh(jnp.clip(action, -1 + EDGE, 1 - EDGE)))

    def _log_prob(self, u):
        return self.base.log_prob(u) - (2 * (math.log(2) - u - jax.nn.softplus(-2 * u))).sum(-1)


class Delta(eqx.Module):
    """All mass on one action. It has no density, so nothing that needs one (importance sampling) accepts it."""

    action: Float[Array, "*batch act"]

    def mode(self):
        return self.action

    def sample(self, key):
        return self.action


class Categorical(eqx.Module):
    """Over the actions of a `Discrete`; an illegal action has probability 0, and no gradient reaches its logit."""

    logits: Float[Array, "*batch actions"]
    "Log-probabilities."

    def __init__(self, logits, mask: Bool[Array, "*batch actions"] | None = None):
        logits = logits if mask is None else jnp.where(mask, logits, -jnp.inf)
        self.logits = jax.nn.log_softmax(logits, axis=-1)

    def mode(self) -> Int[Array, "*batch"]:
        return self.logits.argmax(axis=-1).astype(jnp.int32)

    def sample(self, key) -> Int[Array, "*batch"]:
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def log_prob(self, action):
        return jnp.take_along_axis(self.logits, action[..., None], axis=-1)[..., 0]

    def probs(self):
        return jnp.exp(self.logits)

    def mean(self, values: Float[Array, "*batch actions"]):
        """The expectation of values of actions; an illegal action's value does not matter, be it infinite."""
        p = self.probs()
        return (p * jnp.where(p > 0, values, 0)).sum(-1)

    def entropy(self):
        return -self.mean(self.logits)


class Choices(eqx.Module):
    """Independent categoricals over the choices of a `MultiDiscrete`. With a single choice it is `Categorical`, to the bit."""

    logits: Float[Array, "*batch columns"]
    "Log-probabilities of every choice's members, those of all choices side by side."
    sizes: tuple[int, ...] = static()

    def __init__(self, logits, sizes: tuple[int, ...], mask: Bool[Array, "*batch columns"] | None = None):
        parts = [split(x, sizes) for x in (logits, jnp.ones(logits.shape, bool) if mask is None else mask)]
        self.logits = jnp.concatenate([Categorical(*part).logits for part in zip(*parts)], axis=-1)
        self.sizes = sizes

    def mode(self) -> Int[Array, "*batch choices"]:
        return self._best(self.logits)

    def sample(self, key) -> Int[Array, "*batch choices"]:
        """The largest of logits with Gumbel noise, drawn at once for all choices."""
        return self._best(self.logits + jax.random.gumbel(key, self.logits.shape))

    def _best(self, values):
        return jnp.stack([part.argmax(axis=-1).astype(jnp.int32) for part in split(values, self.sizes)], axis=-1)

    def log_prob(self, action):
        """Of all choices together: the sum of theirs."""
        parts = enumerate(split(self.logits, self.sizes))
        return sum(jnp.take_along_axis(part, action[..., j, None], axis=-1)[..., 0] for j, part in parts)

    def probs(self):
        """Of every choice's members, side by side: each choice's sum to one."""
        return jnp.exp(self.logits)

    def entropy(self):
        """The sum of those of the choices."""
        p = self.probs()
        return -(p * jnp.where(p > 0, self.logits, 0)).sum(-1)


def split(columns: Float[Array, "*batch columns"] | Bool[Array, "*batch columns"], sizes: tuple[int, ...]) -> list:
    """The columns of each choice."""
    return jnp.split(columns, list(itertools.accumulate(sizes))[:-1], axis=-1)
