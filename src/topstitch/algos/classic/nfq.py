r"""Neural fitted Q-iteration: fit a small net to the one-step targets of the whole log, then make new targets, and fit again,

$$ Q_{k+1} = \arg\min_Q \textstyle\sum \big(r + \gamma \max_{a'} Q_k(s', a') - Q(s, a)\big)^2, $$

each fit some hundreds of epochs of Rprop, whose steps see only the signs of gradients, so that no learning rate is to be found.

Riedmiller, *Neural fitted Q iteration: first experiences with a data efficient neural reinforcement learning method*, ECML 2005,
https://doi.org/10.1007/11564096_32. The paper minimises costs in [0, 1], which a sigmoid output bounds; a reward is a negative cost of any
size, so the output is linear here and the maximum is taken: bring rewards near 1 (`normalised(reward="standard")`). There is no authors'
code. Differs from the paper in: one output for each action instead of the action as an input; tanh for the logistic function, which is
the same but for scale; no artificial transitions at the goal ("hint to goal"), no growing log; Rprop without weight backtracking.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Discrete, Paper, Trained, static


class NFQ(Algorithm[nets.DiscreteQ]):
    paper: ClassVar = Paper(
        "Martin Riedmiller", "Neural fitted Q iteration: first experiences with a data efficient neural reinforcement learning method",
        "ECML", 2005, "https://doi.org/10.1007/11564096_32",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")
    fails: ClassVar = ("bait",)
    batch_size: ClassVar = 0
    "Every epoch sees the whole log."

    discount: float = 0.95
    lr: float = 0.01
    "The first step of Rprop, for every weight."
    epochs: int = static(300)
    "Rprop steps in each iteration."
    hidden: tuple[int, ...] = static((20, 20))
    steps: int = static(100)
    "Iterations: how many steps ahead is looked."

    def init(self, data, *, key):
        return nets.DiscreteQ(data.spec, self.hidden, key=key, activation="tanh")

    def sample(self, state, data, *, key):
        return data.rows()

    def update(self, state, batch, *, step, key):
        best = ops.legal(state.every(batch.next_obs), batch.next_mask).max(axis=-1)
        goal = ops.td_target(batch.reward, batch.terminal, best, batch.discount(self.discount))
        optimiser = rprop(self.lr)

        def loss(q):
            loss = ((q(batch.obs, batch.action) - goal) ** 2).mean()
            return loss, {"q/loss": loss}

        epoch = lambda fit, _: fit.descend(loss, optimiser)
        fit, info = jax.lax.scan(epoch, Trained.start(state, optimiser), length=self.epochs)
        return fit.model, {"q/loss": info["q/loss"][-1], "q/target": goal.mean()}

    def policy(self, state):
        return nets.Greedy(state)


def rprop(first, *, shrink=0.5, grow=1.2, least=1e-6, most=50.0) -> optax.GradientTransformation:
    """Each weight has a step of its own, which grows while the sign of its gradient lasts and shrinks when it turns (and then rests once).

    Riedmiller and Braun 1993, https://doi.org/10.1109/ICNN.1993.298623, in the form iRprop- of Igel and Hüsken 2000. Not `optax.rprop`,
    which takes each step one update late.
    """

    def init(model):
        return jax.tree.map(lambda x: jnp.full_like(x, first), model), jax.tree.map(jnp.zeros_like, model)

    def update(grads, state, model=None):
        size, last = state
        turn = jax.tree.map(lambda g, l: jnp.sign(g * l), grads, last)
        factor = lambda s, t: jnp.clip(s * jnp.where(t > 0, grow, jnp.where(t < 0, shrink, 1.0)), least, most)
        size = jax.tree.map(factor, size, turn)
        grads = jax.tree.map(lambda g, t: jnp.where(t < 0, 0, g), grads, turn)
        return jax.tree.map(lambda g, s: -jnp.sign(g) * s, grads, size), (size, grads)

    return optax.GradientTransformation(init, update)
