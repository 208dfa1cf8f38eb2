r"""Conservative Q-learning for discrete actions: Q-learning that also pays for values above those of the data,

$$ L_Q = L_{TD} + \alpha\, E\,\big[\log \textstyle\sum_a e^{Q(s, a)} - Q(s, a_{\text{logged}})\big]. $$

Kumar, Zhou, Tucker and Levine, *Conservative Q-learning for offline reinforcement learning*, NeurIPS 2020,
https://arxiv.org/abs/2006.04779, equation 4. Differs from the authors' code in: one value per action instead of 200 quantiles;
a target net that follows by moving average; the sum is over legal actions where the log has masks.
"""

from typing import ClassVar

import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, Paper, static
from .. import steps as shared


class DiscreteCQL(Algorithm[shared.QState]):
    paper: ClassVar = Paper(
        "Aviral Kumar and Aurick Zhou and George Tucker and Sergey Levine", "Conservative Q-learning for offline reinforcement learning",
        "NeurIPS", 2020, "https://arxiv.org/abs/2006.04779",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 1.0
    "Weight of the conservative gap (the paper: 4 for 1 % of Atari's replay, 1 for 10 %)."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    double: bool = static(True)
    "Whether the online net chooses the action that the target net values."
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        return shared.start_q(data.spec, self.hidden, self.optimiser, key=key)

    def update(self, state, batch, *, step, key):
        def penalty(every):
            taken = jnp.take_along_axis(every, batch.action[:, None], axis=-1)[:, 0]
            gap = ops.gap(every, taken, batch.mask).mean()
            return self.alpha * gap, {"critic/gap": gap}

        return shared.q_step(
            state, batch, discount=self.discount, target_rate=self.target_rate, double=self.double, optimiser=self.optimiser,
            penalty=penalty,
        )  # fmt: skip

    def policy(self, state):
        return nets.Greedy(state.critic.model[0])
