"""Whole episodes on the device, and how likely the logger was to act so: what importance weights are made of."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..core import static
from .device import Batch, Transitions
from .episodes import BadData, Episodes

EDGE = 1e-6
"How near to a bound an action lies on it."


class Trajectory(eqx.Module):
    """Episodes from their first step on, one a row. What lies behind an episode's end repeats its first step, and is not `live`."""

    rows: Batch
    "(n, time, …)."
    log_prob: Float[Array, "n time"]
    "Of the logged actions under the logger; for a `Box` per unit of an algorithm's scale, in coordinates that are not on a bound."
    live: Float[Array, "n time"]
    truncated: Float[Array, " n"]
    "1 where the log stops while the world goes on."

    def elapsed(self) -> Float[Array, "#n time"] | Int[Array, "#n time"]:
        """How many units of time have passed before each step."""
        if self.rows.duration is None:
            return jnp.arange(self.live.shape[1])[None]
        return jnp.cumsum(self.rows.duration, axis=1) - self.rows.duration

    def last(self, rows: Float[Array, "n time"]) -> Float[Array, " n"]:
        """Of each episode, the entry of its last step."""
        end = self.live.sum(axis=1).astype(jnp.int32) - 1
        return jnp.take_along_axis(rows, end[:, None], axis=1)[:, 0]


class Trajectories(eqx.Module):
    """All episodes of a log, drawn uniformly. Steps are gathered on the device, so no padding is stored."""

    flat: Transitions
    log_prob: Float[Array, " steps"]
    starts: Int[Array, " episodes"]
    stops: Int[Array, " episodes"]
    horizon: int = static()
    "Of the longest episode."

    @property
    def spec(self):
        return self.flat.spec

    @property
    def view(self):
        return self.flat.view

    def __len__(self):
        return len(self.starts)

    def take(self, which: Int[Array, " n"]) -> Trajectory:
        first, stop = self.starts[which], self.stops[which]
        index = first[:, None] + jnp.arange(self.horizon)[None]
        inside = index < stop[:, None]
        index = jnp.where(inside, index, first[:, None])
        live = inside.astype(jnp.float32)
        return Trajectory(self.flat.all[index], self.log_prob[index] * live, live, 1 - self.flat.all.terminal[stop - 1])

    def draw(self, n: int, *, key) -> Trajectory:
        return self.take(jax.random.randint(key, (n,), 0, len(self)))


def trajectories(log: Episodes) -> Trajectories:
    """The episodes of a log, in unit scale. Raises BadData where it does not say how likely the logged actions were."""
    if log.log_prob is None:
        raise BadData(f"{log.source}: importance weights need the probabilities with which the logged actions were taken, and the log has "
                      "none. Name their column, or have them estimated: `topstitch train … --behaviour fit`, or in Python "
                      "topstitch.ope.fit_behaviour(log).attached().")  # fmt: skip
    log_prob = log.log_prob.astype(np.float64)
    if log.view.action is not None:
        inner = np.abs(log.view.action.host(log.action)) < 1 - EDGE
        log_prob = log_prob + (inner * np.log(np.asarray(log.view.action.scale, np.float64))).sum(axis=1)
    i = lambda x: jnp.asarray(x, jnp.int32)
    return Trajectories(log.transitions(), jnp.asarray(log_prob, jnp.float32), i(log.starts), i(log.stops), int(log.lengths.max()))
