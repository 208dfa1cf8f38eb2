r"""Imitation by the reverse divergence: do nothing that was not done, even if that leaves out some of what was,

$$ \min_\pi\; E_s D_{KL}(\pi(\cdot \mid s) \,\|\, \mu(\cdot \mid s)) = E_s E_{a \sim \pi} [\log \pi(a \mid s) - \log \mu(a \mid s)] . $$

Cloning minimises $D_{KL}(\mu \| \pi)$, which is infinite where π misses what was done: it covers modes. This one is infinite where π does what was
never done: it seeks one. It needs the density μ of the log, so there are two stages: a mixture of normals is fitted to the log by maximum
likelihood, then a single normal to the mixture, by draws through which the gradient passes.

Ke, Choudhury, Barnes, Sun, Lee and Srinivasa, *Imitation learning as f-divergence minimization*, WAFR 2020, https://arxiv.org/abs/1905.12888. Differs
from the paper in: a fitted density where theirs is a discriminator between states and actions of expert and learner, for which the learner must act
(that is what `GAIL` does); divergence of actions, given logged observations. There is no code of the authors.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets
from ...core import Algorithm, Box, Discrete, Image, Paper, Stage, Trained, static
from .. import steps as shared

NARROW = -1.5
"The policy's log std at first: between two ways a wide normal can be at rest, a narrow one is drawn to the nearer."


class State(eqx.Module):
    density: Trained[nets.BoxMixture]
    actor: Trained[nets.BoxGaussian]


class ReverseKL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Liyiming Ke and Sanjiban Choudhury and Matt Barnes and Wen Sun and Gilwoo Lee and Siddhartha Srinivasa",
        "Imitation learning as f-divergence minimization", "WAFR", 2020, "https://arxiv.org/abs/1905.12888",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("bait",)

    lr: float = 3e-4
    modes: int = static(5)
    "Normals in the mixture that stands for the log."
    actions_sampled: int = static(8)
    "Draws of the policy at each observation."
    hidden: tuple[int, ...] = static((256, 256))
    model_hidden: tuple[int, ...] = static((256, 256))
    model_steps: int = static(50_000)
    "Of the mixture."
    steps: int = static(50_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def stages(self):
        return Stage("density", self.model_steps, self.fit, self.sample), Stage("learn", self.steps, self.update, self.sample)

    def init(self, data, *, key):
        kd, ka = jax.random.split(key)
        density = nets.BoxMixture(data.spec, self.model_hidden, key=kd, modes=self.modes)
        actor = nets.BoxGaussian(data.spec, self.hidden, key=ka)
        actor = eqx.tree_at(lambda pi: pi.log_std, actor, actor.log_std + NARROW)
        return State(Trained.start(density, self.optimiser), Trained.start(actor, self.optimiser))

    def fit(self, state, batch, *, step, key):
        density, info = shared.fit_behaviour(state.density, batch, self.optimiser)
        return dataclasses.replace(state, density=density), info

    def update(self, state, batch, *, step, key):
        logged = state.density(batch.obs)

        def loss(pi):
            said = pi(batch.obs)
            noise = jax.random.normal(key, (self.actions_sampled, *said.mean.shape))
            drawn = said.mean[None] + jnp.exp(said.log_std)[None] * noise
            likely = jax.vmap(logged.log_prob)(drawn).mean()
            entropy = said.entropy().mean()
            return -entropy - likely, {"actor/divergence": -entropy - likely, "actor/entropy": entropy}

        actor, info = state.actor.descend(loss, self.optimiser)
        return dataclasses.replace(state, actor=actor), info

    def policy(self, state):
        return state.actor.model
