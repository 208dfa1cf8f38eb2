r"""Percentile behaviour cloning: imitate the best episodes, and forget the others,

$$ L_\pi = -E\,[\log \pi(a \mid s)] \quad\text{over the episodes whose return is among the best } x\,\%. $$

The simplest use of rewards that there is, and hard to beat where a share of the log is good from its beginning to its end. Parts of episodes
it cannot join.

Chen, Lu, Rajeswaran, Lee, Grover, Laskin, Abbeel, Srinivas and Mordatch, *Decision transformer: reinforcement learning via sequence modeling*,
NeurIPS 2021, section 5, https://arxiv.org/abs/2106.01345. Differs from their code (https://github.com/kzl/decision-transformer) in: episodes are
counted, not steps; episodes with the same return as the last of the best are among them; a plain net of one observation.
"""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Trained, static
from .. import steps as shared


class PercentileBC(Algorithm[Trained]):
    paper: ClassVar = Paper(
        "Lili Chen and Kevin Lu and Aravind Rajeswaran and Kimin Lee and Aditya Grover and others",
        "Decision transformer: reinforcement learning via sequence modeling", "NeurIPS", 2021, "https://arxiv.org/abs/2106.01345",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "bait")

    share: float = 0.1
    "x: the share of the episodes that is imitated; 1 is cloning."
    lr: float = 3e-4
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(100_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        best = ops.top_fraction(jnp.asarray(episodes.returns(), jnp.float32), self.share)
        return episodes.take(np.flatnonzero(np.asarray(best))).transitions()

    def init(self, data, *, key):
        return Trained.start(nets.stochastic(data.spec, self.hidden, key=key), self.optimiser)

    def update(self, state, batch, *, step, key):
        return shared.imitate(state, batch, jnp.ones(len(batch)), self.optimiser)

    def policy(self, state):
        return state.model
