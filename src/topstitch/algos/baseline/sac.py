r"""Soft actor-critic: maximise reward plus entropy, both critics bootstrapping from actions that the actor samples,

$$ y = r + \gamma\big(\min_i \bar Q_i(s', a') - \alpha \log \pi(a' \mid s')\big), \quad a' \sim \pi(\cdot \mid s'). $$

On a fixed log nothing corrects a critic's guess about an action that was never logged, and the actor is trained to find the
highest guess. It is here as the baseline that fails, and as the machine that CQL, SAC-N, EDAC and MOPO are built on.

Haarnoja et al., *Soft actor-critic algorithms and applications*, 2018, https://arxiv.org/abs/1812.05905. Differs from the
authors' code in: one gradient step on the temperature $\alpha$ itself rather than on its logarithm's product.
"""

from typing import ClassVar

import jax
import optax

from ...core import Algorithm, Box, Paper, static
from .. import steps as shared


class SAC(Algorithm[shared.Soft]):
    paper: ClassVar = Paper(
        "Tuomas Haarnoja and Aurick Zhou and Kristian Hartikainen and others", "Soft actor-critic algorithms and applications",
        "arXiv 1812.05905", 2018, "https://arxiv.org/abs/1812.05905",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")
    fails: ClassVar = ("bait",)

    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        return shared.start_soft(data.spec, self.hidden, self.critics, self.optimiser, self.optimiser, key=key)

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)
        return shared.soft_step(
            state, batch, shared.soft_value(state, batch.next_obs, key=kt), discount=self.discount, target_rate=self.target_rate,
            critic_optimiser=self.optimiser, actor_optimiser=self.optimiser, key=ka,
        )  # fmt: skip

    def policy(self, state):
        return state.actor.model
