r"""DAgger: imitate the expert where the learner itself goes. A clone is trained on the states of the expert and errs into others, of which it has
seen nothing: what it loses grows with the square of the horizon. Here the learner acts, the expert says what it would have done, and the learner is
trained on all states that were ever seen,

$$ \pi_{n+1} = \arg\min_\pi\; -E_{s \sim D_n} \log \pi(\pi^*(s) \mid s), \qquad D_n = D_{n-1} \cup \{s : s \text{ seen by } \pi_n\}, \qquad \pi_1 = \pi^* , $$

so that what it loses grows with the horizon, times what one error costs an expert to mend.

`topstitch.train_online(DAgger(), env, expert=…)`, the expert being any policy for raw observations, or any function from a raw observation to a raw
action: it acts in the warm-up, and labels all steps. What was seen is kept with the labels, in the column `expert`, as a log: on such a log, joined
with others if one likes, DAgger learns by `topstitch.train`. On a log without that column what was done counts as the expert's, and DAgger is `BC`.

Ross, Gordon and Bagnell, *A reduction of imitation learning and structured prediction to no-regret online learning*, AISTATS 2011,
https://arxiv.org/abs/1011.0686. There is no authors' code. Differs from the paper in: learning goes on from step to step, where theirs begins anew
with every iteration; after the first iteration the learner acts alone (the paper's $\beta_i = 1\{i = 1\}$).
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import optax

from ... import nets
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Trained, static
from .. import steps as shared


class DAgger(Algorithm[Trained]):
    paper: ClassVar = Paper(
        "Stephane Ross and Geoffrey J. Gordon and J. Andrew Bagnell",
        "A reduction of imitation learning and structured prediction to no-regret online learning", "AISTATS", 2011,
        "https://arxiv.org/abs/1011.0686",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("bait",)
    fails: ClassVar = ("choice", "context", "minority", "delay", "stitch")

    lr: float = 3e-4
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(100_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        told = episodes.info.get("expert")
        return (episodes if told is None else dataclasses.replace(episodes, action=told, log_prob=None)).transitions()

    def init(self, data, *, key):
        return Trained.start(nets.stochastic(data.spec, self.hidden, key=key), self.optimiser)

    def update(self, state, batch, *, step, key):
        return shared.imitate(state, batch, jnp.ones(len(batch)), self.optimiser)

    def policy(self, state):
        return state.model
