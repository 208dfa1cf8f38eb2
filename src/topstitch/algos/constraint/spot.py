r"""SPOT: TD3 whose actor pays for actions that a model of behaviour finds unlikely,

$$ L_\pi = -\frac{Q_1(s, \pi(s))}{\mathrm{mean}|Q_1|} - \alpha \log \hat\beta(\pi(s) \mid s), $$

so that only the support of behaviour binds the actor: the best of what was done is as good as free, however rare. The density is the evidence
bound of a conditional VAE, fitted first and then left alone (in units in which its decoder has a variance of 1/8, see `nets.VAE.bound`).

Wu, Wu, Qiu, Wang and Long, *Supported policy optimization for offline reinforcement learning*, NeurIPS 2022,
https://arxiv.org/abs/2202.06239. Follows the authors' code (https://github.com/thuml/SPOT) in one draw of the bound, in the VAE, and in the
settings for locomotion. Differs from it in: no dropout in the actor (theirs: 0.1), the first update of the actor comes at the first step
instead of the second.
"""

from typing import ClassVar

import equinox as eqx
import jax
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Paper, Stage, Trained, static
from .. import steps as shared


class State(eqx.Module):
    behaviour: Trained[nets.VAE]
    agent: shared.Steady


class SPOT(Algorithm[State]):
    paper: ClassVar = Paper(
        "Jialong Wu and Haixu Wu and Zihan Qiu and Jianmin Wang and Mingsheng Long",
        "Supported policy optimization for offline reinforcement learning", "NeurIPS", 2022, "https://arxiv.org/abs/2202.06239",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 0.1
    "Weight of the density (locomotion 0.05 to 1; AntMaze 0.025 to 0.25; Adroit 1)."
    noise: float = 0.2
    "Standard deviation of the jitter on target actions."
    noise_clip: float = 0.5
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actor_lr: float = 3e-4
    "AntMaze and Adroit: 1e-4."
    behaviour_lr: float = 1e-3
    normalise_q: bool = static(True)
    "Whether the actor's Q is divided by the mean of its absolute value."
    delay: int = static(2)
    "Steps of the critics for one of the actor."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    behaviour_hidden: tuple[int, ...] = static((750, 750))
    behaviour_steps: int = static(100_000)
    "Steps of the model of behaviour, before those of the policy."
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.actor_lr)}

    def stages(self):
        return Stage("behaviour", self.behaviour_steps, self.imitate, self.sample), Stage("learn", self.steps, self.update, self.sample)

    def init(self, data, *, key):
        kb, ka = jax.random.split(key)
        behaviour = Trained.start(nets.VAE(data.spec, self.behaviour_hidden, key=kb), optax.adam(self.behaviour_lr))
        return State(behaviour, shared.start_steady(data.spec, self.hidden, self.critics, **self.optimisers, key=ka))

    def imitate(self, state, batch, *, step, key):
        behaviour, info = shared.fit_behaviour(state.behaviour, batch, optax.adam(self.behaviour_lr), key=key)
        return State(behaviour, state.agent), info

    def update(self, state, batch, *, step, key):
        agent = state.agent
        next_action = shared.smoothed_action(agent, batch.next_obs, self.noise, self.noise_clip, key=key)

        def actor_loss(action, q):
            strange = state.behaviour.model.loss(batch.obs, action, key=jax.random.fold_in(key, 1)).mean()
            loss = self.alpha * strange - (ops.scale_free(q[0]) if self.normalise_q else q[0]).mean()
            return loss, {"actor/loss": loss, "actor/strangeness": strange, "actor/q": q[0].mean()}

        agent, info = shared.steady_step(
            agent, batch, agent.target_critic(batch.next_obs, next_action).min(axis=0), actor_loss, discount=self.discount,
            target_rate=self.target_rate, **self.optimisers, delay=self.delay, step=step,
        )  # fmt: skip
        return State(state.behaviour, agent), info

    def policy(self, state):
        return state.agent.actor.model
