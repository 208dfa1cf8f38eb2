"""From raw units to the units that algorithms see, and back."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import Box, Markov, Policy, Spec, static

Numbers = Float[Array | np.ndarray, "*shape"]


class Affine(eqx.Module):
    """x -> (x - shift) / scale over the last axis, and `undo`."""

    shift: Numbers
    scale: Numbers

    def __call__(self, x):
        lead = tuple(range(jnp.ndim(x) - jnp.ndim(self.scale)))
        return (x - jnp.expand_dims(self.shift, lead)) / jnp.expand_dims(self.scale, lead)

    def undo(self, x):
        lead = tuple(range(jnp.ndim(x) - jnp.ndim(self.scale)))
        return x * jnp.expand_dims(self.scale, lead) + jnp.expand_dims(self.shift, lead)

    def bounds(self):
        """What becomes -1 and what becomes 1: the lowest and the highest raw action, where actions are brought to unit scale."""
        return self.shift - self.scale, self.shift + self.scale

    def host(self, x: np.ndarray) -> np.ndarray:
        """The same for a whole column, in NumPy."""
        return ((x - np.asarray(self.shift)) / np.asarray(self.scale)).astype(np.float32)


class View(eqx.Module):
    """How logged data were brought to unit scale; `None` where they were left alone.

    Data carries its view: policies, rollouts and termination functions that need raw units get them by `undo`.
    """

    obs: Affine | None = None
    action: Affine | None = None
    reward: Affine | None = None

    def policy(self, policy: Policy, spec: Spec) -> "Raw | RawMarkov":
        """The same policy for raw observations, answering with raw actions: the one to evaluate, save and hand on."""
        return RawMarkov(policy, self, spec) if isinstance(policy, Markov) else Raw(policy, self, spec)


def drawn(distribution, key):
    """A sample and its log-probability, found without undoing what made the sample; NaN where a distribution has none (`Delta`)."""
    if hasattr(distribution, "sample_and_log_prob"):
        return distribution.sample_and_log_prob(key)
    action = distribution.sample(key)
    if hasattr(distribution, "log_prob"):
        return action, distribution.log_prob(action)
    return action, jnp.full(action.shape[:-1], jnp.nan)


class Rescaled(eqx.Module):
    """A distribution over unit actions, seen in raw units."""

    base: eqx.Module
    action: Affine

    def mode(self):
        return self.action.undo(self.base.mode())

    def sample(self, key):
        return self.action.undo(self.base.sample(key))

    def sample_and_log_prob(self, key):
        action, log_prob = drawn(self.base, key)
        return self.action.undo(action), log_prob - jnp.log(jnp.asarray(self.action.scale)).sum()

    def log_prob(self, action):
        """Density per raw unit."""
        return self.base.log_prob(self.action(action)) - jnp.log(jnp.asarray(self.action.scale)).sum()


class Raw(Policy):
    """A policy with memory behind a view."""

    inner: Policy
    view: View
    spec: Spec = static()

    def start(self):
        return self.inner.start()

    def act(self, carry, obs, reward, *, mask=None, key=None):
        obs = obs if self.view.obs is None else self.view.obs(obs)
        reward = reward if self.view.reward is None else self.view.reward(reward)
        action, carry = self.inner.act(carry, obs, reward, mask=mask, key=key)
        return (action if self.view.action is None else self.view.action.undo(action)), carry

    def towards(self, goal):
        """As `aimed`."""
        return aimed(self, goal)


class RawMarkov(Markov):
    """A Markov policy behind a view."""

    inner: Markov
    view: View
    spec: Spec = static()

    def __call__(self, obs, mask=None):
        said = self.inner(obs if self.view.obs is None else self.view.obs(obs), mask)
        return said if self.view.action is None else Rescaled(said, self.view.action)

    def towards(self, goal):
        """As `aimed`."""
        return aimed(self, goal)


def aims(policy: Policy) -> bool:
    """Whether it is a policy for raw observations that can be told a goal."""
    return isinstance(policy, (Raw, RawMarkov)) and hasattr(policy.inner, "towards")


def aimed(policy: Raw | RawMarkov, goal):
    """The same policy towards another goal, a raw observation. An error where the method that learned it knows no goals, or the goal does not fit."""
    if not aims(policy):
        raise TypeError(
            f"{type(policy.inner).__name__} has no goal. `topstitch algorithms --family goal` lists the methods that learn to reach any."
        )
    space, goal = policy.spec.obs, jnp.asarray(goal)
    if goal.shape != (wanted := (space.size,) if isinstance(space, Box) else ()):
        raise ValueError(f"The goal has the shape {goal.shape}; expected {wanted}, that of one observation.")
    seen = goal if policy.view.obs is None else policy.view.obs(goal)
    return dataclasses.replace(policy, inner=policy.inner.towards(seen))
