r"""BCQ: Q-learning whose maximum is over actions that a generative model of behaviour draws, each moved by at most a little,

$$ y = r + \gamma \max_{i \le n} \big[\lambda \min_j \bar Q_j(s', a_i) + (1 - \lambda) \max_j \bar Q_j(s', a_i)\big], \quad
   a_i = \hat a_i + \xi(s', \hat a_i), \quad \hat a_i \sim G(s'), \quad |\xi| \le \Phi , $$

with a conditional VAE for G and ξ trained to raise $Q_1$. It acts with the best of many such draws by $Q_1$: what nobody did
is never asked about.

Fujimoto, Meger and Precup, *Off-policy deep reinforcement learning without exploration*, ICML 2019,
https://arxiv.org/abs/1812.02900. Follows the authors' code (https://github.com/sfujim/BCQ) in the loss of the VAE (half the
divergence, means over dimensions) and its latent noise, clipped to ±0.5 for drawing. Differs from it in: observations may be
standardised (theirs are raw).
"""

from typing import ClassVar

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
    behaviour: Trained[nets.VAE]
    shift: Trained[nets.Shift]
    target_shift: nets.Shift


class BCQ(Algorithm[State]):
    paper: ClassVar = Paper(
        "Scott Fujimoto and David Meger and Doina Precup", "Off-policy deep reinforcement learning without exploration", "ICML", 2019,
        "https://arxiv.org/abs/1812.02900",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "delay", "stitch", "bait")
    fails: ClassVar = ("minority",)

    perturbation: float = 0.05
    "Φ: how far a drawn action may be moved. With 0, and one candidate, it acts as behaviour does."
    lower_weight: float = 0.75
    "λ: weight of the lowest critic against the highest."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 1e-3
    candidates: int = static(100)
    "Draws to act with the best of."
    target_candidates: int = static(10)
    "n: draws to value a next state by the best of."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((400, 300))
    behaviour_hidden: tuple[int, ...] = static((750, 750))
    steps: int = static(1_000_000)
    batch_size: int = static(100)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        kq, kb, ks = jax.random.split(key, 3)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        vae, shift = nets.VAE(data.spec, self.behaviour_hidden, key=kb), nets.Shift(data.spec, self.hidden, key=ks)
        start = lambda net: Trained.start(net, self.optimiser)
        return State(start(q), q, start(vae), start(shift), shift)

    def update(self, state, batch, *, step, key):
        kb, kt, ka = jax.random.split(key, 3)

        behaviour, b_info = shared.fit_behaviour(state.behaviour, batch, self.optimiser, key=kb)
        many = nets.repeated(batch.next_obs, self.target_candidates)
        actions = nets.Shifted(behaviour.model, state.target_shift, self.perturbation).sample(many, key=kt)
        next_value = ops.soft_clipped(state.target(many, actions), self.lower_weight).max(axis=0)
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))
        critic, q_info = shared.fit_critics(state.critic, batch, goal, self.optimiser)

        def shift_loss(shift):
            action = nets.Shifted(behaviour.model, shift, self.perturbation).sample(batch.obs, key=ka)
            loss = -critic(batch.obs, action)[0].mean()
            return loss, {"actor/loss": loss}

        shift, s_info = state.shift.descend(shift_loss, self.optimiser)
        target, target_shift = (
            polyak(old, new.model, self.target_rate) for old, new in ((state.target, critic), (state.target_shift, shift))
        )
        return State(critic, target, behaviour, shift, target_shift), b_info | q_info | s_info

    def policy(self, state):
        shifted = nets.Shifted(state.behaviour.model, state.shift.model, jnp.asarray(self.perturbation))
        return nets.BestOf(shifted, state.critic.model[jnp.arange(1)], self.candidates)
