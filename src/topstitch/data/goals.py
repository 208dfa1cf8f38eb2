"""Steps towards goals: every observation of a log is a goal that somebody reached, and rewards follow from which one a step is asked about."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..core import Box, Discrete, Markov, Spec, joined, pair, static
from .device import Batch, Obs, Transitions
from .episodes import BadData, Episodes

Rows = Int[Array, " n"]
Places = Int[Array, " n"]
"Observations of a log of n rows: row i is the one that step i begins with, n + i the one that it led to."


class Goals(NamedTuple):
    """What the goals of steps are, in shares that sum to 1. Those ahead never lie beyond the episode."""

    current: float = 0.0
    "The step's own observation: the goal is reached."
    geometric: float = 0.0
    "A later observation of the episode, drawn as the discount weighs it: what is more than t ahead comes with probability γ^t."
    uniform: float = 0.0
    "A later observation of the episode, all alike."
    final: float = 0.0
    "The last observation of the episode."
    random: float = 0.0
    "Any observation of the log."


class Relabelled(eqx.Module):
    """A log whose steps are given goals as they are drawn.

    A step earns 0 and is terminal where its observation is its goal, and earns -1 elsewhere: an optimal value is minus the discounted number
    of steps to the goal. A step that truly ended its episode elsewhere earns all that would have followed, -1 / (1 - γ): it never gets there.
    As in the code of Park et al. 2025, https://arxiv.org/abs/2410.20092 (https://github.com/seohongpark/ogbench), whose logs have no true
    ends. Differs from it in: goals ahead are drawn alike, where rounding there makes the nearest and the farthest half as likely; an
    observation equal to the goal has reached it, whichever row it is of.
    """

    flat: Transitions
    stop: Rows
    "The first row behind the row's episode."
    last: Places
    "The last observation of the row's episode that was logged: behind its last step, unless that was terminal."
    clock: Float[Array, " n"] | None
    "When each step began, since its episode did; `None` where every step takes one unit of time."

    def __len__(self):
        return len(self.flat)

    @property
    def view(self):
        return self.flat.view

    @property
    def spec(self) -> Spec:
        """Of single observations."""
        return self.flat.spec

    @property
    def paired(self) -> Spec:
        """Of observations with goals: what nets are made from."""
        return Spec(pair(self.spec.obs), self.spec.action)

    @property
    def aim(self) -> "Aim":
        """What policies are made with: their goal is at first the last observation of the log."""
        return Aim(self.seen(self.last[-1:])[0], self.spec.obs)

    def seen(self, place: Places) -> Obs:
        """The observations."""
        n, rows = len(self), self.flat.all
        here, behind = rows.obs[jnp.minimum(place, n - 1)], rows.next_obs[jnp.maximum(place - n, 0)]
        return jnp.where(jnp.expand_dims(place < n, tuple(range(1, here.ndim))), here, behind)

    def rows(self, n: int, *, key) -> Rows:
        """`n` steps, uniformly and with replacement."""
        return jax.random.randint(key, (n,), 0, len(self))

    def ahead(self, row: Rows, steps) -> Places:
        """So many steps later; the end of the episode where that comes before."""
        return jnp.where(row + steps < self.stop[row], row + steps, self.last[row])

    def later(self, row: Rows, wait: Float[Array, " n"]) -> Places:
        """The first observation later than `wait` units of time from the start of each step."""
        if self.clock is None:
            return self.ahead(row, 1 + jnp.minimum(wait, len(self)).astype(jnp.int32))
        due, clock = self.clock[row] + wait, self.clock

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) // 2
            late = clock[jnp.minimum(middle, len(self) - 1)] > due
            search = low < high
            return jnp.where(search & ~late, middle + 1, low), jnp.where(search & late, middle, high)

        first, _ = jax.lax.fori_loop(0, len(self).bit_length(), halve, (row + 1, self.stop[row]))
        return self.ahead(row, first - row)

    def goals(self, row: Rows, shares: tuple[float, ...], *, discount=None, key) -> Places:
        """A goal for each step. `discount` is for geometric ones."""
        if len(shares) != len(Goals._fields) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(
                f"shares of goals are {tuple(shares)}; expected one each for {', '.join(Goals._fields)}, none negative, that sum to 1."
            )
        if (shares := Goals(*shares)).geometric and discount is None:
            raise ValueError("Goals are geometric in a discount, and none was given. Take `uniform` ones.")
        own, where = jax.random.split(key)
        u, dice = jax.random.uniform(own, (2, *row.shape))
        wait = lambda: jnp.log1p(-u) / jnp.minimum(jnp.log(discount), -1e-9)  # exponential: at γ = 1 beyond every end
        draw = {
            "current": lambda: row,
            "geometric": lambda: self.later(row, wait()),
            "uniform": lambda: self.ahead(row, 1 + (u * (self.stop[row] - row)).astype(jnp.int32)),
            "final": lambda: self.last[row],
            "random": lambda: self.rows(len(row), key=where),
        }
        wanted = [(share, draw[name]()) for name, share in zip(Goals._fields, shares) if share]
        edges, place = np.cumsum([share for share, _ in wanted]), wanted[-1][1]
        for edge, (_, other) in reversed(list(zip(edges, wanted[:-1]))):
            place = jnp.where(dice < float(edge), other, place)
        return place

    def towards(self, row: Rows, place: Places, *, discount=0.0) -> Batch:
        """The steps, each with its goal: `obs` and `next_obs` are of `paired`, rewards and ends those of the goal."""
        rows, goal, space = self.flat.all[row], self.seen(place), self.spec.obs
        there = same(rows.obs, goal, space)
        lost = (rows.terminal > 0) & ~there
        reward = jnp.where(there, 0.0, jnp.where(lost, -1 / (1 - rows.discount(discount)), -1.0)).astype(jnp.float32)
        both = dict(obs=joined(rows.obs, goal, space), next_obs=joined(rows.next_obs, goal, space))
        return dataclasses.replace(rows, **both, reward=reward, terminal=(there | lost).astype(jnp.float32))

    def draw(self, n: int, *shares: tuple[float, ...], discount=None, key) -> tuple[Batch, ...]:
        """`n` steps, once for each mixture of goals."""
        first, *keys = jax.random.split(key, 1 + len(shares))
        row, gamma = self.rows(n, key=first), 0.0 if discount is None else discount
        places = [self.goals(row, mixture, discount=discount, key=k) for mixture, k in zip(shares, keys)]
        return tuple(self.towards(row, place, discount=gamma) for place in places)


def same(obs: Obs, goal: Obs, space: Box | Discrete) -> Bool[Array, " n"]:
    """Where an observation is the goal."""
    return obs == goal if isinstance(space, Discrete) else (obs == goal).all(axis=-1)


def relabelled(log: Episodes) -> Relabelled:
    """A log, to be given goals. Its rewards are not looked at. Raises BadData for pictures, which are no vectors to compare."""
    if not isinstance(log.spec.obs, (Box, Discrete)):
        raise BadData(f"{log.source}: goals are observations that are vectors or numbers of states; these are {log.spec.obs}.")
    flat = log.transitions()
    ends = log.stops - 1
    last = np.repeat(np.where(log.terminal[ends], ends, log.steps + ends), log.lengths)
    clock = None
    if log.duration is not None:
        passed = np.cumsum(log.duration, dtype=np.float64) - log.duration
        clock = jnp.asarray(passed - np.repeat(passed[log.starts], log.lengths), jnp.float32)
    i = lambda x: jnp.asarray(x, jnp.int32)
    return Relabelled(flat, i(np.repeat(log.stops, log.lengths)), i(last), clock)


class Aim(eqx.Module):
    """What an algorithm keeps in its state to make policies with a goal."""

    goal: Float[Array, "*runs obs"] | Int[Array, "*runs"]
    space: Box | Discrete = static()

    def policy(self, inner: Markov) -> "Towards":
        """Of a policy that is asked about observations and goals together."""
        return Towards(inner, self.goal, self.space)


class Towards(Markov):
    """A policy for one goal, made of one that is asked about observations and goals together. Where the goal is a leaf, another one makes
    no other program."""

    inner: Markov
    goal: Float[Array, "*runs obs"] | Int[Array, "*runs"]
    space: Box | Discrete = static()
    "Of observations."

    def __call__(self, obs, mask=None):
        goal = jnp.broadcast_to(self.goal, jnp.shape(obs)).astype(jnp.asarray(obs).dtype)
        return self.inner(joined(obs, goal, self.space), mask)

    def towards(self, goal) -> "Towards":
        """The same for another goal, in the units that it observes in."""
        return dataclasses.replace(self, goal=goal)
