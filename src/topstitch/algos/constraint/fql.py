r"""Flow Q-learning: a one-step policy that is pulled towards high Q and towards what a flow of behaviour makes of the same noise.

The flow learns from the log alone, and Q never reaches back through its steps:

$$ L_\pi = E_z\,\big[-Q(s, \pi(s, z)) + \alpha \lVert \pi(s, z) - \mu_\theta(s, z) \rVert^2\big], \qquad
   y = r + \gamma\, \bar Q(s', \pi(s', z)), \quad z \sim N(0, I). $$

Park, Li and Levine, *Flow Q-learning*, ICML 2025, https://arxiv.org/abs/2502.02538. Follows the authors' code in holding the
flow's action constant, in the critics as they were before the step for the actor, and in means (not sums) over action dimensions.
Differs from it in: one optimiser for each net, which is the same for Adam; uniform initialisation.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Paper, Trained, polyak, static
from .. import steps as shared


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    behaviour: Trained[nets.Flow]
    actor: Trained[nets.OneStep]


class FQL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Seohong Park and Qiyang Li and Sergey Levine", "Flow Q-learning", "ICML", 2025, "https://arxiv.org/abs/2502.02538"
    )
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 10.0
    "Weight of the distance from behaviour. In the units of Q: the paper goes from 3 to 30,000 (with `normalise_q` from 0.03 to 10)."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    normalise_q: bool = static(False)
    "Whether the actor's Q is divided by the mean of its absolute value."
    aggregate: Literal["mean", "min"] = static("mean")
    "Of the target critics (min for AntMaze and Adroit)."
    sampling_steps: int = static(10)
    "Of the flow, from noise to action."
    norm: bool = static(True)
    "Whether the critics have layer norm."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((512, 512, 512, 512))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        kq, kb, ka = jax.random.split(key, 3)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq, activation="gelu", norm=self.norm)
        flow = nets.Flow(data.spec, self.hidden, self.sampling_steps, key=kb)
        actor = nets.OneStep(data.spec, self.hidden, key=ka)
        return State(Trained.start(q, self.optimiser), q, Trained.start(flow, self.optimiser), Trained.start(actor, self.optimiser))

    def update(self, state, batch, *, step, key):
        _, _, kn, kz = jax.random.split(key, 4)  # the flow's loss uses the first two
        q = state.target(batch.next_obs, state.actor.model.sample(batch.next_obs, key=kn))
        next_value = q.mean(axis=0) if self.aggregate == "mean" else q.min(axis=0)
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))
        critic, q_info = shared.fit_critics(state.critic, batch, goal, self.optimiser)
        behaviour, b_info = shared.fit_behaviour(state.behaviour, batch, self.optimiser, key=key)

        noise = jax.random.normal(kz, batch.action.shape)
        wanted = state.behaviour.model.decode(batch.obs, noise)

        def actor_loss(pi):
            action = pi.raw(batch.obs, noise)
            q = state.critic(batch.obs, jnp.clip(action, -1, 1)).mean(axis=0)
            distance = ((action - wanted) ** 2).mean()
            loss = self.alpha * distance - (ops.scale_free(q) if self.normalise_q else q).mean()
            return loss, {"actor/loss": loss, "actor/distance": distance, "actor/q": q.mean()}

        actor, pi_info = state.actor.descend(actor_loss, self.optimiser)
        return State(critic, polyak(state.target, critic.model, self.target_rate), behaviour, actor), q_info | b_info | pi_info

    def policy(self, state):
        return state.actor.model
