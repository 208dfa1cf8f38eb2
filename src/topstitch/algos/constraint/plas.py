r"""PLAS: a deterministic policy that names a latent number instead of an action, and a model of behaviour that makes an action of it,

$$ \pi(s) = D\big(s,\, \zeta\, \mu(s)\big), \quad |\mu| \le 1, \qquad L_\mu = -Q_1(s, \pi(s)), \qquad
   y = r + \gamma\,\big[\lambda \min_i \bar Q_i(s', \bar\pi(s')) + (1 - \lambda) \max_i \bar Q_i(s', \bar\pi(s'))\big], $$

D being the decoder of a conditional VAE, fitted first and then left alone. Latent numbers within ±ζ stand for what behaviour does, so that the
policy cannot leave its support, and is free of its frequencies within. With `perturbation` above 0 a second net may move the action by so much,
for logs that are too narrow (PLAS+P).

Zhou, Bajracharya and Held, *PLAS: latent action space for offline reinforcement learning*, CoRL 2020, https://arxiv.org/abs/2011.07213. Follows
the authors' code (https://github.com/Wenxuan-Zhou/PLAS) in ζ = 2 without clipping of the decoder's input, the loss of the VAE, and the settings.
Differs from it in: observations may be standardised (theirs are raw).
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Markov, Paper, Spec, Stage, Trained, polyak, static
from .. import steps as shared


class Actor(eqx.Module):
    """μ, and what moves the action that is made of it."""

    latent: nets.Deterministic
    shift: nets.Shift


class Decoded(Markov):
    """obs -> the action that behaviour's decoder makes of the actor's latent numbers."""

    actor: Actor
    behaviour: nets.VAE
    perturbation: Any

    def __call__(self, obs, mask=None):
        action = self.behaviour.decode(obs, self.behaviour.reach * self.actor.latent(obs).mode())
        return nets.Delta(jnp.clip(action + self.perturbation * self.actor.shift(obs, action), -1, 1))


class State(eqx.Module):
    behaviour: Trained[nets.VAE]
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[Actor]
    target_actor: Actor


class PLAS(Algorithm[State]):
    paper: ClassVar = Paper(
        "Wenxuan Zhou and Sujay Bajracharya and David Held", "PLAS: latent action space for offline reinforcement learning", "CoRL", 2020,
        "https://arxiv.org/abs/2011.07213",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "delay", "stitch", "bait")

    perturbation: float = 0.0
    "How far the decoded action may be moved (PLAS+P: 0.01 to 0.5)."
    lower_weight: float = 0.75
    "λ: weight of the lowest critic against the highest."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 1e-3
    "Of the critics."
    actor_lr: float = 1e-4
    behaviour_lr: float = 1e-4
    reach: float = static(2.0)
    "ζ: the largest latent number that the actor may name. 0 is the middle of behaviour."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((400, 300))
    behaviour_hidden: tuple[int, ...] = static((750, 750))
    behaviour_steps: int = static(500_000)
    "Steps of the model of behaviour, before those of the policy."
    steps: int = static(500_000)
    batch_size: int = static(100)

    @property
    def optimisers(self):
        return optax.adam(self.behaviour_lr), optax.adam(self.lr), optax.adam(self.actor_lr)

    def stages(self):
        return Stage("behaviour", self.behaviour_steps, self.imitate, self.sample), Stage("learn", self.steps, self.update, self.sample)

    def init(self, data, *, key):
        kb, kq, ka, ks = jax.random.split(key, 4)
        of_behaviour, of_critic, of_actor = self.optimisers
        vae = nets.VAE(data.spec, self.behaviour_hidden, key=kb, reach=self.reach)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        latent = nets.Deterministic(Spec(data.spec.obs, Box(vae.size)), self.hidden, key=ka)
        pi = Actor(latent, nets.Shift(data.spec, self.hidden, key=ks))
        return State(Trained.start(vae, of_behaviour), Trained.start(q, of_critic), q, Trained.start(pi, of_actor), pi)

    def imitate(self, state, batch, *, step, key):
        behaviour, info = shared.fit_behaviour(state.behaviour, batch, self.optimisers[0], key=key)
        return State(behaviour, state.critic, state.target, state.actor, state.target_actor), info

    def update(self, state, batch, *, step, key):
        _, of_critic, of_actor = self.optimisers
        acts = lambda actor, obs: Decoded(actor, state.behaviour.model, self.perturbation)(obs).mode()
        next_value = ops.soft_clipped(state.target(batch.next_obs, acts(state.target_actor, batch.next_obs)), self.lower_weight)
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))
        critic, q_info = shared.fit_critics(state.critic, batch, goal, of_critic)

        def actor_loss(actor):
            loss = -critic(batch.obs, acts(actor, batch.obs))[0].mean()
            return loss, {"actor/loss": loss}

        actor, pi_info = state.actor.descend(actor_loss, of_actor)
        target, target_actor = (
            polyak(old, new.model, self.target_rate) for old, new in ((state.target, critic), (state.target_actor, actor))
        )
        return State(state.behaviour, critic, target, actor, target_actor), q_info | pi_info

    def policy(self, state):
        return Decoded(state.actor.model, state.behaviour.model, jnp.asarray(self.perturbation))
