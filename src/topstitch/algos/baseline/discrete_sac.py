r"""Soft actor-critic for discrete actions, whose expectations over actions are sums,

$$ y = r + \gamma \textstyle\sum_a \pi(a \mid s')\big(\min_i \bar Q_i(s', a) - \alpha \log \pi(a \mid s')\big), \qquad
   L_\pi = E\Big[\sum_a \pi(a \mid s)\big(\alpha \log \pi(a \mid s) - \min_i Q_i(s, a)\big)\Big], $$

with α such that the entropy is a given share of the largest that the legal actions allow. As SAC it is here as the baseline that fails:
nothing corrects a guess about an action that was never logged.

Christodoulou, *Soft actor-critic for discrete action settings*, 2019, https://arxiv.org/abs/1910.07207. Follows the author's code
(https://github.com/p-christ/Deep-Reinforcement-Learning-Algorithms-with-PyTorch) in the target of the entropy. Differs from it in: the
target is summed over actions, as in the paper (the code draws one); batches of 256 instead of 64, and the nets of the other methods here.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, Paper, Trained, polyak, static
from .. import steps as shared


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[nets.Categories]
    log_temperature: Trained


class DiscreteSAC(Algorithm[State]):
    paper: ClassVar = Paper(
        "Petros Christodoulou", "Soft actor-critic for discrete action settings", "arXiv 1910.07207", 2019,
        "https://arxiv.org/abs/1910.07207",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")
    fails: ClassVar = ("bait",)

    target_entropy: float = 0.98
    "Share of the largest entropy that the policy should have: 1 acts at random, 0 greedily."
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
        kq, ka = jax.random.split(key)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        pi = nets.Categories(data.spec, self.hidden, key=ka)
        start = lambda model: Trained.start(model, self.optimiser)
        return State(start(q), q, start(pi), start(jnp.zeros(())))

    def update(self, state, batch, *, step, key):
        temperature = jnp.exp(state.log_temperature.model)
        after = state.actor(batch.next_obs, batch.next_mask)
        next_value = after.mean(state.target.every(batch.next_obs).min(axis=0)) + temperature * after.entropy()
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))
        critic, q_info = shared.fit_critics(state.critic, batch, goal, self.optimiser)
        values = critic.model.every(batch.obs).min(axis=0)

        def actor_loss(pi):
            said = pi(batch.obs, batch.mask)
            entropy = said.entropy().mean()
            loss = -said.mean(values).mean() - temperature * entropy
            return loss, {"actor/loss": loss, "actor/entropy": entropy}

        actor, pi_info = state.actor.descend(actor_loss, self.optimiser)
        legal = values.shape[-1] if batch.mask is None else batch.mask.sum(axis=-1)
        wanted = self.target_entropy * jnp.log(legal).mean()

        def temperature_loss(log_t):
            return jnp.exp(log_t) * (pi_info["actor/entropy"] - wanted), {"actor/temperature": jnp.exp(log_t)}

        log_temperature, t_info = state.log_temperature.descend(temperature_loss, self.optimiser)
        target = polyak(state.target, critic.model, self.target_rate)
        return State(critic, target, actor, log_temperature), q_info | pi_info | t_info

    def policy(self, state):
        return state.actor.model
