"""What somebody believes of a policy: how it was asked, and what that says about a log."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ..core import Box, Discrete, Markov, Policy, Spec
from ..data import Episodes
from ..data.view import View
from .table import ROWS, Refused, Values, chances, in_parts

DRAWS = 32
"Actions of a `Box` by which the mean of Q(s, ·) under a policy is taken."


def doing(
    policy: Policy, obs: np.ndarray, mask: np.ndarray | None, spec: Spec, view: View, *, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """What a policy does at raw observations: (n, actions) probabilities, or (n, draws, size) drawn actions of a `Box` in unit scale.

    A policy that always answers the same is drawn from once. Raises `Refused` for a policy with a memory: what it would do depends on a past
    that it does not share with the logger.
    """
    if not isinstance(policy, Markov):
        raise Refused(f"{type(policy).__name__} remembers what it has seen, so there is no saying what it would do at a single logged "
                      "observation. Values can be fitted for policies that look at one observation; evaluate this one in a simulator.")  # fmt: skip
    if not isinstance(spec.action, (Box, Discrete)):
        raise Refused(f"Values are fitted for single choices and for vectors, but actions are {spec.action}.")
    if isinstance(spec.action, Discrete):
        return in_parts(lambda *rows: chances(policy, *rows), obs, mask)
    keys = jax.random.split(jax.random.key(seed), draws)
    trial = np.asarray(_drawn(policy, jnp.asarray(obs[:256]), keys[:2]))
    keys = keys[:1] if (trial[:, 0] == trial[:, 1]).all() else keys
    said, part = [], max(1, ROWS // len(keys))
    for i, at in enumerate(range(0, len(obs), part)):
        fresh = jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys)
        said.append(np.asarray(_drawn(policy, jnp.asarray(obs[at : at + part]), fresh)))
    action = np.concatenate(said)
    action = action if view.action is None else view.action.host(action)
    return np.clip(action, -1, 1).astype(np.float32)


@jax.jit
def _drawn(policy, obs, keys):
    return jnp.swapaxes(jax.vmap(policy(obs).sample)(keys), 0, 1)


@dataclasses.dataclass(frozen=True)
class Belief:
    """Q of a policy, as several members see it. Rewards are raw, discounted by `discount`.

    Members learned from bootstraps of their own (or there is one): how far they scatter says how much hangs on the episodes that happened to
    be logged, not how wrong the method is.
    """

    policy: Policy
    discount: float
    every: Callable
    """For a `Discrete`: unit observations (n, …) -> (members, n, actions). For a `Box`: (observations (n, …), actions (n, size)), both in unit
    scale, -> (members, n)."""
    spec: Spec
    view: View
    "How what was learned sees a log, whatever the view of the log itself."
    seed: int = 0

    def values(self, log: Episodes) -> Values:
        """What the members believe on average, at the rows of any log of the same spaces: see `Values`."""
        return self._values(log, self.mean)

    def greedy(self, log: Episodes) -> Values:
        """The same, but V is what the best legal action promises: what Q would have to say if its policy were the best there is. For a `Box`,
        whose best action is not known, V stays that of the policy."""
        return self._values(log, self.best if isinstance(self.spec.action, Discrete) else self.mean)

    def _values(self, log: Episodes, value: Callable) -> Values:
        last = log.stops - 1
        behind = np.zeros(len(log))
        cut = ~log.terminal[last]
        if cut.any():
            behind[cut] = value(log.next_obs[last[cut]], None if log.next_mask is None else log.next_mask[last[cut]]).mean(axis=0)
        return Values(self.logged(log).mean(axis=0), value(log.obs, log.mask).mean(axis=0), behind)

    def logged(self, log: Episodes) -> np.ndarray:
        """(members, steps): Q(s, a) of the logged actions."""
        obs = self._seen(log.obs)
        if isinstance(self.spec.action, Discrete):
            pick = lambda part, chosen: np.take_along_axis(part, chosen[None, :, None], axis=-1)[..., 0]
            return _members(lambda o, a: pick(np.asarray(self.every(o)), a), obs, log.action)
        action = log.action if self.view.action is None else self.view.action.host(log.action)
        return _members(self.every, obs, action)

    def mean(self, obs: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """(members, n): V(s), the mean of Q(s, ·) under the policy, at raw observations."""
        done, seen = doing(self.policy, obs, mask, self.spec, self.view, seed=self.seed), self._seen(obs)
        if isinstance(self.spec.action, Discrete):
            return _members(lambda o, p: (np.asarray(self.every(o), np.float64) * p[None]).sum(axis=-1), seen, done)
        each = [_members(self.every, seen, done[:, k]) for k in range(done.shape[1])]
        return np.mean(each, axis=0)

    def best(self, obs: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """(members, n): the largest Q(s, ·) of a legal action, at raw observations; for discrete actions."""
        legal = np.ones((len(obs), self.spec.action.size), bool) if mask is None else mask
        return _members(lambda o, m: np.where(m[None], np.asarray(self.every(o)), -np.inf).max(axis=-1), self._seen(obs), legal)

    def starts(self, log: Episodes) -> np.ndarray:
        """(members, episodes): V of each first observation."""
        first = log.starts
        return self.mean(log.obs[first], None if log.mask is None else log.mask[first])

    def estimate(self, log: Episodes) -> np.ndarray:
        """(members,): the value of the policy, by each member: the mean of V over the first observations of the log."""
        return self.starts(log).mean(axis=1)

    def _seen(self, obs: np.ndarray) -> np.ndarray:
        return obs if self.view.obs is None else self.view.obs.host(obs)


def _members(ask: Callable, *columns: np.ndarray) -> np.ndarray:
    """(members, n) float64."""
    return in_parts(ask, *columns, axis=1, filled=False).astype(np.float64)


def seen_standardised(log: Episodes) -> Episodes:
    """The log with observations in units of their spread, unless it has a view of them already; rewards raw, as estimates are."""
    view = log.view
    if view.obs is None and isinstance(log.spec.obs, Box):
        view = log.normalised().view
    return log.viewed(View(view.obs, view.action, None))
