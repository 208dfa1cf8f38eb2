r"""Twin delayed deep deterministic policy gradient,

$$ y = r + \gamma \min_i \bar Q_i(s', \bar\pi(s') + \epsilon), \qquad L_\pi = -Q_1(s, \pi(s)), $$

the actor and the targets moving every other step only. On a fixed log it climbs wherever its critics guess high; it is
here as the baseline that fails, and as the machine that TD3+BC and ReBRAC restrain.

Fujimoto, van Hoof and Meger, *Addressing function approximation error in actor-critic methods*, ICML 2018,
https://arxiv.org/abs/1802.09477. Differs from the authors' code in: batches of 256 instead of 100 (their later code too).
"""

from typing import ClassVar

import optax

from ...core import Algorithm, Box, Paper, static
from .. import steps as shared


class TD3(Algorithm[shared.Steady]):
    paper: ClassVar = Paper(
        "Scott Fujimoto and Herke van Hoof and David Meger", "Addressing function approximation error in actor-critic methods",
        "ICML", 2018, "https://arxiv.org/abs/1802.09477",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")
    fails: ClassVar = ("bait",)

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
            loss = -q[0].mean()
            return loss, {"actor/loss": loss}

        return shared.steady_step(
            state, batch, state.target_critic(batch.next_obs, next_action).min(axis=0), actor_loss, discount=self.discount,
            target_rate=self.target_rate, critic_optimiser=self.optimiser, actor_optimiser=self.optimiser, delay=self.delay, step=step,
        )  # fmt: skip

    def policy(self, state):
        return state.actor.model
