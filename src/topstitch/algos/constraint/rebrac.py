r"""ReBRAC: TD3+BC with the penalty for leaving the data in the actor and in the critic's target, each with its own weight,

$$ y = r + \gamma \big(\min_i \bar Q_i(s', a') - \beta_2 \lVert a' - \hat a' \rVert^2\big), \qquad
   L_\pi = -\frac{Q(s, \pi(s))}{\mathrm{mean}|Q|} + \beta_1 \lVert \pi(s) - a \rVert^2, $$

$\hat a'$ being the action logged at $s'$, with deeper nets, layer norm in the critics and large batches.

Tarasov, Kurenkov, Nikulin and Kolesnikov, *Revisiting the minimalist approach to offline reinforcement learning*, NeurIPS
2023, https://arxiv.org/abs/2305.09836. Follows the authors' code in the sum (not mean) over action dimensions, in the
minimum over critics in the actor's loss, and in the initialisation. Differs from it in: the last step of a truncated episode,
whose next action was not logged, is left out.
"""

from typing import ClassVar

import optax

from ... import ops
from ...core import Algorithm, Box, Paper, static
from .. import steps as shared


class ReBRAC(Algorithm[shared.Steady]):
    paper: ClassVar = Paper(
        "Denis Tarasov and Vladislav Kurenkov and Alexander Nikulin and Sergey Kolesnikov",
        "Revisiting the minimalist approach to offline reinforcement learning", "NeurIPS", 2023, "https://arxiv.org/abs/2305.09836",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")

    actor_bc: float = 0.01
    "β₁: weight of imitation in the actor's loss."
    critic_bc: float = 0.01
    "β₂: weight of the distance from the logged next action in the critic's target."
    noise: float = 0.2
    "Standard deviation of the jitter on target actions."
    noise_clip: float = 0.5
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 1e-3
    actor_lr: float = 1e-3
    normalise_q: bool = static(True)
    "Whether the actor's Q is divided by the mean of its absolute value."
    norm: bool = static(True)
    "Whether the critics have layer norm."
    delay: int = static(2)
    "Steps of the critics for one of the actor."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(1024)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.actor_lr)}

    def prepare(self, episodes):
        return episodes.transitions(next_action=True)

    def init(self, data, *, key):
        critic_net = dict(norm=self.norm, bias=0.1, last=3e-3)
        actor_net = dict(bias=0.1, last=1e-3)
        return shared.start_steady(
            data.spec, self.hidden, self.critics, **self.optimisers, key=key, critic_net=critic_net, actor_net=actor_net
        )

    def update(self, state, batch, *, step, key):
        next_action = shared.smoothed_action(state, batch.next_obs, self.noise, self.noise_clip, key=key)
        strayed = ((next_action - batch.next_action) ** 2).sum(axis=-1)
        next_value = state.target_critic(batch.next_obs, next_action).min(axis=0) - self.critic_bc * strayed

        def actor_loss(action, q):
            q = q.min(axis=0)
            imitation = ((action - batch.action) ** 2).sum(axis=-1).mean()
            loss = self.actor_bc * imitation - (ops.scale_free(q) if self.normalise_q else q).mean()
            return loss, {"actor/loss": loss, "actor/imitation": imitation, "actor/q": q.mean()}

        return shared.steady_step(
            state, batch, next_value, actor_loss, discount=self.discount, target_rate=self.target_rate, **self.optimisers,
            delay=self.delay, step=step,
        )  # fmt: skip

    def policy(self, state):
        return state.actor.model
