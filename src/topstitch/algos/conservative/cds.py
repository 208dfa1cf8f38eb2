r"""CDS: of what was not labelled, learn from what looks at least as good as the best of what was,

$$ w(s, a) = \sigma\big(\Delta(s, a) / \tau\big), \qquad
   \Delta(s, a) = Q(s, a) - P_{90\,\%}\{Q(s', a') : (s', a') \text{ labelled}\}, $$

with the conservative values of `UDS`, which it is but for the weight w of unlabelled steps; labelled ones have weight 1. So the log that is learned
from stays near what is known to be good, where `UDS` may be drawn away by much that is poor.

Yu, Kumar, Chebotar, Hausman, Levine and Finn, *Conservative data sharing for multi-task offline reinforcement learning*, NeurIPS 2021,
https://arxiv.org/abs/2109.08128, for steps of other tasks with their rewards recomputed; with rewards of 0 it is the CDS + UDS of
https://arxiv.org/abs/2202.01741. Differs from the paper, whose code is not public, in: a batch is drawn by the weights, of `pool` times as many rows,
instead of weighing its losses; τ is the mean of |Δ| over that pool instead of a running average; and in what `CQL` does.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from ...core import Algorithm, Box, Paper, static
from ...data.device import Transitions
from .. import steps as shared


class Shared(eqx.Module):
    """The log, and which of its rewards are known."""

    flat: Transitions
    labelled: Bool[Array, " n"]

    @property
    def spec(self):
        return self.flat.spec

    def draw(self, n: int, *, key):
        """(n rows, whether each is labelled)."""
        index = jax.random.randint(key, (n,), 0, len(self.flat))
        return self.flat.all[index], self.labelled[index]


class CDS(Algorithm[shared.Conservative]):
    paper: ClassVar = Paper(
        "Tianhe Yu and Aviral Kumar and Yevgen Chebotar and Karol Hausman and Sergey Levine and Chelsea Finn",
        "Conservative data sharing for multi-task offline reinforcement learning", "NeurIPS", 2021, "https://arxiv.org/abs/2109.08128",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    quantile: float = 0.9
    "Of the values of labelled steps, which those of unlabelled ones are measured against."
    alpha: float = 5.0
    "Weight of the conservative gap."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actor_lr: float = 3e-5
    pool: int = static(4)
    "Rows that are looked at for one that is learned from."
    gap: float | None = static(None)
    "With a number, `alpha` is multiplied by a Lagrange multiplier that holds the gap below it."
    gap_floor: float | None = static(None)
    "Gaps below it are no longer pushed down."
    max_backup: bool = static(False)
    "Whether the target is the best of `actions_sampled` samples instead of one sample."
    entropy_backup: bool = static(False)
    "Whether the target counts entropy, as SAC's does."
    actions_sampled: int = static(10)
    "Actions of each of the three kinds in the estimate of the integral."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.actor_lr)}

    def prepare(self, episodes):
        episodes, labelled = shared.zero_where_unlabelled(episodes)
        return Shared(episodes.transitions(), jnp.asarray(labelled))

    def init(self, data, *, key):
        return shared.start_conservative(self, data.spec, key=key)

    def sample(self, state, data, *, key):
        rows, labelled = data.draw(self.pool * self.batch_size, key=key)
        weight = self.weights(state, rows, labelled)
        noise = jax.random.gumbel(jax.random.fold_in(key, 1), weight.shape)
        _, chosen = jax.lax.top_k(jnp.log(weight) + noise, self.batch_size)  # without replacement, by weight
        return rows[chosen]

    def weights(self, state, rows, labelled):
        """(rows,): w."""
        value = state.agent.critic(rows.obs, rows.action).min(axis=0)
        level = jnp.nanquantile(jnp.where(labelled, value, jnp.nan), self.quantile)
        ahead = value - jnp.where(labelled.any(), level, value.max())
        return jnp.where(labelled, 1.0, jax.nn.sigmoid(ahead / (jnp.abs(ahead).mean() + 1e-6)))

    def update(self, state, batch, *, step, key):
        return shared.conservative_step(self, state, batch, key=key)

    def policy(self, state):
        return state.agent.actor.model
