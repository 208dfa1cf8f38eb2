r"""BEAR: an actor that may do whatever behaviour might have done, however rarely: only the support binds it, not the frequencies.

$$ \max_\pi\; E_{a \sim \pi}\,[\min_j Q_j(s, a)] \quad \text{so that} \quad \mathrm{MMD}(\beta(\cdot \mid s), \pi(\cdot \mid s)) \le \epsilon , $$

the discrepancy being taken between a few draws of each, which sees supports rather than densities. A multiplier α rises while
the constraint is broken and falls while it holds; targets are those of BCQ, over draws of the actor.

Kumar, Fu, Tucker and Levine, *Stabilizing off-policy Q-learning via bootstrapping error reduction*, NeurIPS 2019,
https://arxiv.org/abs/1906.00949. Follows the authors' code (https://github.com/aviralkumar2907/BEAR) in comparing actions before
tanh, in a VAE of BCQ for β, trained along, and in the actor only matching for the first `warmup` steps; learning rates as in their
later release for D4RL. Differs from it in: the actor's noise is not clipped, no variance of the ensemble in the actor's loss (they
advise against it).
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Paper, Trained, polyak, static
from .. import steps as shared

LOG_BOUNDS = (-5.0, 10.0)
"Of the logarithm of the multiplier, as in the authors' code."


class Reparameterised(nets.Generator):
    """Draws from a squashed normal, known by the noise that they are made of."""

    actor: nets.Squashed

    @property
    def noise(self):
        return (self.actor.net.layers[-1].bias.shape[-1] // 2,)

    def raw(self, obs, noise):
        base = self.actor(obs).base
        return base.mean + jnp.exp(base.log_std) * noise

    def decode(self, obs, noise):
        return jnp.tanh(self.raw(obs, noise))


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[nets.Squashed]
    target_actor: nets.Squashed
    behaviour: Trained[nets.VAE]
    log_multiplier: Trained


class BEAR(Algorithm[State]):
    paper: ClassVar = Paper(
        "Aviral Kumar and Justin Fu and George Tucker and Sergey Levine",
        "Stabilizing off-policy Q-learning via bootstrapping error reduction", "NeurIPS", 2019, "https://arxiv.org/abs/1906.00949",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "delay", "stitch", "bait")

    threshold: float = 0.05
    "ε: how far from behaviour the actor may be, as a discrepancy."
    bandwidth: float = 20.0
    "σ of the kernel."
    lower_weight: float = 0.75
    "λ: weight of the lowest critic against the highest."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actor_lr: float = 1e-4
    dual_lr: float = 1e-3
    "Of the multiplier's logarithm."
    kernel: Literal["laplacian", "gaussian"] = static("laplacian")
    actions_sampled: int = static(10)
    "Draws of either side that the discrepancy is taken from."
    candidates: int = static(10)
    "Draws to act with the best of, by the first critic."
    target_candidates: int = static(10)
    "Draws to value a next state by the best of."
    warmup: int = static(20_000)
    "Steps at first in which the actor matches behaviour and nothing else."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((400, 300))
    behaviour_hidden: tuple[int, ...] = static((750, 750))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return optax.adam(self.lr), optax.adam(self.actor_lr), optax.adam(self.dual_lr)

    def init(self, data, *, key):
        kq, ka, kb = jax.random.split(key, 3)
        critic_optimiser, actor_optimiser, dual_optimiser = self.optimisers
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        pi = nets.Squashed(data.spec, self.hidden, key=ka)
        vae = Trained.start(nets.VAE(data.spec, self.behaviour_hidden, key=kb), critic_optimiser)
        dual = Trained.start(jnp.zeros(()), dual_optimiser)
        return State(Trained.start(q, critic_optimiser), q, Trained.start(pi, actor_optimiser), pi, vae, dual)

    def update(self, state, batch, *, step, key):
        kt, ka, kb, km = jax.random.split(key, 4)
        critic_optimiser, actor_optimiser, dual_optimiser = self.optimisers

        behaviour, b_info = shared.fit_behaviour(state.behaviour, batch, critic_optimiser, key=kb)
        many = nets.repeated(batch.next_obs, self.target_candidates)
        q = state.target(many, Reparameterised(state.target_actor).sample(many, key=kt))
        next_value = ops.soft_clipped(q, self.lower_weight).max(axis=0)
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))
        critic, q_info = shared.fit_critics(state.critic, batch, goal, critic_optimiser)

        many = nets.repeated(batch.obs, self.actions_sampled)
        logged = behaviour.model.raw_sample(many, key=km)
        noise = jax.random.normal(ka, (*many.shape[:2], batch.action.shape[-1]))
        multiplier = jnp.exp(state.log_multiplier.model)

        def actor_loss(pi):
            raw = Reparameterised(pi).raw(many, noise)
            q = critic(many, jnp.tanh(raw)).mean(axis=1).min(axis=0).mean()
            apart = jnp.sqrt(jnp.maximum(ops.mmd(logged, raw, self.bandwidth, self.kernel), 0) + 1e-6).mean()
            loss = multiplier * apart - jnp.where(step < self.warmup, 0, q)
            return loss, {"actor/loss": loss, "actor/q": q, "actor/distance": apart}

        actor, pi_info = state.actor.descend(actor_loss, actor_optimiser)

        def dual_loss(log_multiplier):
            multiplier = jnp.exp(log_multiplier)
            return multiplier * (self.threshold - pi_info["actor/distance"]), {"actor/multiplier": multiplier}

        dual, d_info = state.log_multiplier.descend(dual_loss, dual_optimiser)
        dual = Trained(jnp.clip(dual.model, *LOG_BOUNDS), dual.moments)
        target, target_actor = (
            polyak(old, new.model, self.target_rate) for old, new in ((state.target, critic), (state.target_actor, actor))
        )
        return State(critic, target, actor, target_actor, behaviour, dual), b_info | q_info | pi_info | d_info

    def policy(self, state):
        return nets.BestOf(Reparameterised(state.actor.model), state.critic.model[jnp.arange(1)], self.candidates)
