r"""CCIL: cloning with corrective labels. The dynamics are nearly continuous where the expert went, so a model of them, learned from the
demonstrations alone and made as smooth as they allow, can be believed a little beside their path, and says what leads back onto it:

$$ \min_f\; E\,\lVert f(s, a) - (s' - s) \rVert^2 + \lambda\, E_v \max(\lVert J_f(s, a)\, v \rVert - L, 0)^2, \qquad v \text{ a random direction}, $$
$$ \text{labels}\quad (\hat s, \hat a) = (s - f(s, a),\; a) \;\text{(backtrack)}, \qquad (s' - f(s', a + \delta),\; a + \delta),\ \delta \sim N(0, \sigma^2)
   \;\text{(disturbed)}, $$

from which the expert's state s, or s', is reached in one step, by the implicit Euler rule. Labels farther than ε from where they were made are not
believed. Cloning then learns from what was logged and from the labels.

Ke, Zhang, Deshpande, Srinivasa and Gupta, *CCIL: continuity-based data augmentation for corrective imitation learning*, ICLR 2024,
https://arxiv.org/abs/2310.12972. Follows the authors' code (https://github.com/personalrobotics/CCIL) in the rules for labels, net of the model, batch
and learning rate. Differs from it in: the slope of the model along a random direction is its derivative, where theirs is the difference to
a disturbed point, of predictions in other units; labels are made anew for every batch; ε is in standardised observations (theirs is set by task).
"""

import dataclasses
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets
from ...core import Algorithm, Box, Paper, Stage, Trained, static
from ...data.view import Affine


class State(eqx.Module):
    dynamics: Trained[nets.MLP]
    asked: Affine
    told: Affine
    "To standard units: observations and actions, changes of observations."
    actor: Trained[nets.Deterministic]


class CCIL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Liyiming Ke and Yunchu Zhang and Abhay Deshpande and Siddhartha Srinivasa and Abhishek Gupta",
        "CCIL: continuity-based data augmentation for corrective imitation learning", "ICLR", 2024, "https://arxiv.org/abs/2310.12972",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    observations: ClassVar = (Box,)
    passes: ClassVar = ("bait",)
    fails: ClassVar = ("choice", "minority")

    threshold: float = 1.0
    "ε: how far from where it was made a label may lie."
    slope: float = 2.0
    "L: how steep the model may be."
    penalty: float = 0.5
    "λ: weight of what is steeper."
    noise: float = 0.1
    "σ, where labels are disturbed."
    lr: float = 1e-3
    model_lr: float = 1e-3
    model_decay: float = 1e-5
    labels: Literal["backtrack", "disturbed"] = static("backtrack")
    model_hidden: tuple[int, ...] = static((512, 512))
    model_steps: int = static(50_000)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(100_000)
    batch_size: int = static(512)

    @property
    def optimisers(self):
        return optax.adamw(self.model_lr, weight_decay=self.model_decay), optax.adam(self.lr)

    def stages(self):
        return Stage("model", self.model_steps, self.fit, self.sample), Stage("learn", self.steps, self.update, self.sample)

    def init(self, data, *, key):
        km, ka = jax.random.split(key)
        rows, spec = data.rows(), data.spec
        model_optimiser, actor_optimiser = self.optimisers
        net = nets.MLP((spec.obs.size + spec.action.size, *self.model_hidden, spec.obs.size), key=km)
        actor = nets.Deterministic(spec, self.hidden, key=ka)
        asked, told = standard(question(rows.obs, rows.action)), standard(rows.next_obs - rows.obs)
        return State(Trained.start(net, model_optimiser), asked, told, Trained.start(actor, actor_optimiser))

    def fit(self, state, batch, *, step, key):
        x = question(batch.obs, batch.action)
        direction = jax.random.normal(key, x.shape)
        direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
        known = followed(batch)

        def loss(net):
            f = lambda x: state.told.undo(net(state.asked(x)))
            said, steep = jax.jvp(f, (x,), (direction,))
            error = (known[:, None] * (state.told(said) - state.told(batch.next_obs - batch.obs)) ** 2).mean()
            excess = jnp.maximum(jnp.linalg.norm(steep, axis=-1) - self.slope, 0)
            return error + self.penalty * (excess**2).mean(), {"model/error": error, "model/steepness": excess.mean()}

        dynamics, info = state.dynamics.descend(loss, self.optimisers[0])
        return dataclasses.replace(state, dynamics=dynamics), info

    def corrected(self, state, batch, *, key):
        """(observations, actions, 1 where they are to be believed): what leads onto the expert's path."""
        change = lambda obs, action: state.told.undo(state.dynamics(state.asked(question(obs, action))))
        if self.labels == "backtrack":
            action, onto, made = batch.action, batch.obs, batch.obs
        else:
            action = jnp.clip(batch.action + self.noise * jax.random.normal(key, batch.action.shape), -1, 1)
            onto, made = batch.next_obs, batch.obs
        obs = onto - change(onto, action)
        near = jnp.linalg.norm(obs - made, axis=-1) < self.threshold
        return obs, action, near * (followed(batch) if self.labels == "disturbed" else 1.0)

    def update(self, state, batch, *, step, key):
        obs, action, believed = self.corrected(state, batch, key=key)

        def loss(pi):
            error = lambda obs, action: ((pi(obs).mode() - action) ** 2).mean(axis=-1)
            logged, labelled = error(batch.obs, batch.action), believed * error(obs, action)
            loss = (logged.sum() + labelled.sum()) / (len(batch) + believed.sum())
            return loss, {"actor/loss": logged.mean(), "labels/believed": believed.mean()}

        actor, info = state.actor.descend(loss, self.optimisers[1])
        return dataclasses.replace(state, actor=actor), info

    def policy(self, state):
        return state.actor.model


def question(obs, action):
    return jnp.concatenate([obs, action], axis=-1)


def standard(x) -> Affine:
    """To mean 0 and std 1 by column; one that does not vary is only shifted."""
    std = x.std(axis=0)
    return Affine(x.mean(axis=0), jnp.where(std > 1e-6, std, 1.0))


def followed(batch):
    """1 where it was logged what came of a step: a log without what follows a terminal step repeats its observation there."""
    return 1.0 - ((batch.terminal > 0) & (batch.next_obs == batch.obs).all(axis=-1))
