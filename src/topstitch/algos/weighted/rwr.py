r"""RWR: reward-weighted regression. Imitate every logged action in proportion to the exponential of what it led to,

$$ L_\pi = -E\,[w \log \pi(a \mid s)], \qquad w = e^{\beta R} / E_D\, e^{\beta R}, \qquad R = \textstyle\sum_{t' \ge t} \gamma^{t' - t} r_{t'} . $$

It is the M-step of an EM algorithm that takes $e^{\beta R}$ for the likelihood of success; in a table
$\pi(a \mid s) \propto \mu(a \mid s)\, E[e^{\beta R} \mid s, a]$. Returns of different states are compared with each other, and so states from
which more can be earned count more; `MARWIL` and `AWR` subtract what is usual in a state.

Peters and Schaal, *Reinforcement learning by reward-weighted regression for operational space control*, ICML 2007,
https://doi.org/10.1145/1273496.1273590. There is no authors' code. Differs from the paper in: one step, from the logger's policy; returns of
episodes for immediate rewards, as in the comparison of Peng et al. 2019 (https://arxiv.org/abs/1910.00177); β is given, where the paper
adapts it from step to step; nets.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import optax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Trained, static
from .. import steps as shared


class State(eqx.Module):
    actor: Trained[nets.BoxGaussian | nets.Categories | nets.Several]
    level: Float[Array, ""]
    "log E exp(β R) over the log: weights are 1 on average, and none overflows."


class RWR(Algorithm[State]):
    paper: ClassVar = Paper(
        "Jan Peters and Stefan Schaal", "Reinforcement learning by reward-weighted regression for operational space control", "ICML", 2007,
        "https://doi.org/10.1145/1273496.1273590",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "bait")
    fails: ClassVar = ("stitch",)

    beta: float = 1.0
    "β: how sharply imitation prefers high returns, per unit of return."
    max_weight: float = 100.0
    "Ceiling of an imitation weight; their mean is 1."
    discount: float = 0.99
    lr: float = 3e-4
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(100_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        return episodes.transitions(returns=self.discount)

    def init(self, data, *, key):
        logits = self.beta * data.rows().returns
        level = logsumexp(logits) - jnp.log(jnp.float32(len(logits)))
        actor = Trained.start(nets.stochastic(data.spec, self.hidden, key=key), self.optimiser)
        return State(actor, jnp.nan_to_num(level))  # states are finite; where β is not, the first step says so

    def update(self, state, batch, *, step, key):
        weight = ops.exp_advantage(self.beta * batch.returns - state.level, 1.0, self.max_weight)
        actor, info = shared.imitate(state.actor, batch, weight, self.optimiser)
        return State(actor, state.level), info

    def policy(self, state):
        return state.actor.model
