r"""Discrete BCQ: Q-learning whose maximum is over actions that a behaviour model finds likely enough,

$$ \{a : G(a \mid s) / \textstyle\max_{\hat a} G(\hat a \mid s) > \tau\}. $$

Fujimoto, Conti, Ghavamzadeh and Pineau, *Benchmarking batch deep reinforcement learning algorithms*, 2019,
https://arxiv.org/abs/1910.01708. Differs from the authors' code in: separate nets for Q and G (no shared convolution), no
penalty on the logits of G, illegal actions are never plausible where the log has masks.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, Markov, Paper, Trained, polyak, static
from .. import steps as shared


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    behaviour: Trained[nets.Categories]


class Plausible(Markov):
    """Greedy among the actions that behaviour takes more than `threshold` times as often as its favourite."""

    critic: nets.Ensemble
    behaviour: nets.Categories
    threshold: Float[Array, ""]

    def __call__(self, obs, mask=None):
        log_g = self.behaviour(obs, mask).logits
        likely = jnp.exp(log_g - log_g.max(axis=-1, keepdims=True)) > self.threshold
        return nets.greedy(self.critic.every(obs)[0], likely)


class DiscreteBCQ(Algorithm[State]):
    paper: ClassVar = Paper(
        "Scott Fujimoto and Edoardo Conti and Mohammad Ghavamzadeh and Joelle Pineau",
        "Benchmarking batch deep reinforcement learning algorithms", "arXiv 1910.01708", 2019, "https://arxiv.org/abs/1910.01708",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "delay", "stitch", "bait")
    fails: ClassVar = ("minority",)

    threshold: float = 0.3
    "τ: how likely an action must be, as a share of the likeliest. 0 is Q-learning, towards 1 imitation."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        kq, kg = jax.random.split(key)
        q = nets.critics(data.spec, self.hidden, 1, key=kq)
        g = nets.Categories(data.spec, self.hidden, key=kg)
        return State(Trained.start(q, self.optimiser), q, Trained.start(g, self.optimiser))

    def update(self, state, batch, *, step, key):
        best = self.policy(state)(batch.next_obs, batch.next_mask).mode()
        goal = ops.td_target(batch.reward, batch.terminal, state.target(batch.next_obs, best)[0], batch.discount(self.discount))

        def critic_loss(q):
            taken = q(batch.obs, batch.action)[0]
            loss = optax.huber_loss(taken, goal).mean()
            return loss, {"critic/loss": loss, "critic/q": taken.mean(), "critic/target": goal.mean()}

        critic, q_info = state.critic.descend(critic_loss, self.optimiser)
        behaviour, g_info = shared.fit_behaviour(state.behaviour, batch, self.optimiser)
        return State(critic, polyak(state.target, critic.model, self.target_rate), behaviour), q_info | g_info

    def policy(self, state):
        return Plausible(state.critic.model, state.behaviour.model, jnp.asarray(self.threshold))
