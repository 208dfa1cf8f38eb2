r"""MOReL: rollouts in a learned model that end, badly, wherever the models disagree,

$$ \text{halt at } (s, a) \iff \max_{i, j} \lVert \mu_i(s, a) - \mu_j(s, a) \rVert_2 > m_D + \beta\, \mathrm{sd}_D, $$

$m_D$ and $\mathrm{sd}_D$ being the mean and the standard deviation of the left side over the log. A policy does no worse in the
world than in this pessimistic copy of it, whatever it does outside the known: so the best there is safe to take.

Kidambi, Rajeswaran, Netrapalli and Joachims, *MOReL: model-based offline reinforcement learning*, NeurIPS 2020,
https://arxiv.org/abs/2005.05951. Differs from the authors' code (https://github.com/aravindr93/mjrl) in: our soft actor-critic on
short rollouts from logged states learns the policy, where theirs is a natural policy gradient on 500 steps from the start, warm
started by imitation; the ensemble is that of `MOPO`, where theirs has 4 deterministic models and is given the reward; halting
earns the least logged reward for ever and costs `penalty` once, so that it is worst also where rewards are negative (the paper's
halted state pays a penalty for ever, its code cuts the rollout off and pays it once).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ... import ops
from ...core import Algorithm, Box, Paper, Stage, static
from .. import steps as shared


class State(shared.Dreaming):
    known: Float[Array, ""]
    "The largest discrepancy that counts as known."


class MOReL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Rahul Kidambi and Aravind Rajeswaran and Praneeth Netrapalli and Thorsten Joachims",
        "MOReL: model-based offline reinforcement learning", "NeurIPS", 2020, "https://arxiv.org/abs/2005.05951",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    observations: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "bait")

    threshold: float = 5.0
    "β: standard deviations above the mean at which a discrepancy is no longer known (the paper searches from 0 to the largest seen)."
    penalty: float = 50.0
    "What halting costs, in unit rewards (the paper: 30 to 200)."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    model_lr: float = 1e-3
    model_decay: float = 5e-5
    "Weight of the squares of the model's weights."
    real: float = static(0.05)
    "Share of logged rows in a batch."
    horizon: int = static(5)
    "h: steps of a rollout."
    rollouts: int = static(50_000)
    "Rollouts at a time."
    every: int = static(1000)
    "Steps from one set of rollouts to the next."
    retain: int = static(5)
    "Sets of rollouts that are kept."
    termination: str = static("none")
    "When an imagined episode ends: a name in `worlds.terminations`. With the wrong one the method fails."
    models: int = static(7)
    elites: int = static(5)
    "Models, best on rows held out, that rollouts are drawn from."
    held_out: int = static(1000)
    "Rows, but at most a fifth of the log, that measure the models."
    patience: int = static(5)
    "Passes over the log without an improvement after which the models are done."
    model_hidden: tuple[int, ...] = static((200, 200, 200, 200))
    model_steps: int = static(300_000)
    "At most: the models may be done before."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(500_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.lr)}

    def stages(self):
        return shared.model_stage(self, self.survey), Stage("learn", self.steps, self.update, self.sample, refresh=self.refill)

    def init(self, data, *, key):
        start = shared.start_dreaming(self, data, key=key)
        return State(start.agent, start.dynamics, start.imagined, known=jnp.zeros(()))

    def survey(self, state, data, *, key):
        """How far the models disagree on the log: on rows drawn from it, as many as one set of rollouts."""
        rows = data.draw(self.rollouts, key=key)
        apart = ops.discrepancy(state.dynamics(rows.obs, rows.action)[0])
        return dataclasses.replace(state, known=apart.mean() + self.threshold * apart.std())

    def refill(self, state, data, *, step, key):
        rows = data.rows()
        least = rows.reward.min() / (1 - jnp.mean(rows.discount(self.discount)))  # what it is worth to earn the least for ever

        def judge(reward, mean, std):
            unknown = ops.discrepancy(mean) > state.known
            return jnp.where(unknown, least - self.penalty, reward), unknown

        return shared.refill(self, state, data, judge, step=step, key=key)

    def sample(self, state, data, *, key):
        return shared.mixed(self, state, data, key=key)

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)
        agent, info = shared.soft_step(
            state.agent, batch, shared.soft_value(state.agent, batch.next_obs, key=kt), discount=self.discount,
            target_rate=self.target_rate, **self.optimisers, key=ka,
        )  # fmt: skip
        return dataclasses.replace(state, agent=agent), info

    def policy(self, state):
        return state.agent.actor.model
