r"""SAC-N: soft actor-critic that believes the least of N critics,

$$ y = r + \gamma\big(\min_{i \le N} \bar Q_i(s', a') - \alpha \log \pi(a' \mid s')\big). $$

Where data are many the critics agree and the minimum costs little; where there are none they scatter, and the minimum of many
is low: pessimism in proportion to ignorance, and nothing else is changed. Needs many critics: 10 to 500 in the paper.

An, Moon, Kim and Song, *Uncertainty-based offline reinforcement learning with diversified Q-ensemble*, NeurIPS 2021,
https://arxiv.org/abs/2110.01548. Follows the authors' code in the initialisation of the critics and three hidden layers.
Differs from it in: the step on the temperature, as in `SAC`.
"""

from typing import ClassVar

import jax
import optax

from ...core import Algorithm, Box, Paper, static
from .. import steps as shared


class SACN(Algorithm[shared.Soft]):
    paper: ClassVar = Paper(
        "Gaon An and Seungyong Moon and Jang-Hyun Kim and Hyun Oh Song",
        "Uncertainty-based offline reinforcement learning with diversified Q-ensemble", "NeurIPS", 2021, "https://arxiv.org/abs/2110.01548",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")

    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    critics: int = static(10)
    "N (halfcheetah 10, walker2d 20, hopper 200 to 500)."
    hidden: tuple[int, ...] = static((256, 256, 256))
    steps: int = static(3_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        return shared.start_soft(data.spec, self.hidden, self.critics, self.optimiser, self.optimiser, key=key, bias=0.1, last=3e-3)

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)
        return shared.soft_step(
            state, batch, shared.soft_value(state, batch.next_obs, key=kt), discount=self.discount, target_rate=self.target_rate,
            critic_optimiser=self.optimiser, actor_optimiser=self.optimiser, key=ka,
        )  # fmt: skip

    def policy(self, state):
        return state.actor.model
