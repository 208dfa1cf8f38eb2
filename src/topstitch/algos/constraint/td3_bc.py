r"""TD3+BC: the smallest change that makes TD3 an offline method, imitation added to the actor's loss,

$$ L_\pi = -\frac{\alpha}{\mathrm{mean}|Q|}\, Q_1(s, \pi(s)) + (\pi(s) - a)^2 . $$

Dividing by the mean of $|Q|$ keeps the balance whatever the scale of rewards. The paper also standardises observations:
`Episodes.normalised()`, which the command line does by default.

Fujimoto and Gu, *A minimalist approach to offline reinforcement learning*, NeurIPS 2021, https://arxiv.org/abs/2106.06860.
Differs from the authors' code in: the first update of the actor comes at the first step instead of the second.
"""

from typing import ClassVar

import optax

from ... import ops
from ...core import Algorithm, Box, Paper, static
from .. import steps as shared


class TD3BC(Algorithm[shared.Steady]):
    paper: ClassVar = Paper(
        "Scott Fujimoto and Shixiang Shane Gu", "A minimalist approach to offline reinforcement learning", "NeurIPS", 2021,
        "https://arxiv.org/abs/2106.06860",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 2.5
    "Weight of the normalised Q against imitation."
    noise: float = 0.2
    "Standard deviation of the jitter on target actions."
    noise_clip: float = 0.5
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    delay: int = static(2)
    "Steps of the critics for one of the actor."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        return shared.start_steady(data.spec, self.hidden, self.critics, self.optimiser, self.optimiser, key=key)

    def update(self, state, batch, *, step, key):
        next_action = shared.smoothed_action(state, batch.next_obs, self.noise, self.noise_clip, key=key)

        def actor_loss(action, q):
            imitation = ((action - batch.action) ** 2).mean()
            loss = -self.alpha * ops.scale_free(q[0]).mean() + imitation
            return loss, {"actor/loss": loss, "actor/imitation": imitation, "actor/q": q[0].mean()}

        return shared.steady_step(
            state, batch, state.target_critic(batch.next_obs, next_action).min(axis=0), actor_loss, discount=self.discount,
            target_rate=self.target_rate, critic_optimiser=self.optimiser, actor_optimiser=self.optimiser, delay=self.delay, step=step,
        )  # fmt: skip

    def policy(self, state):
        return state.actor.model
