r"""EMRL: reinforcement learning as expectation maximisation. Read a payoff as the probability that an action was the right one, and fit
the policy to the actions that were: imitation in proportion to what it led to,

$$ L_\pi = -E\,[w \log \pi(a \mid s)], \qquad w \propto R - R_{\min}, \qquad R = \textstyle\sum_{t' \ge t} \gamma^{t' - t} r_{t'} . $$

In a table $\pi(a \mid s) \propto \mu(a \mid s)\, (E[R \mid s, a] - R_{\min})$: Hinton's relative payoff procedure, whose step never makes a
policy worse, however long it is.

Dayan and Hinton, *Using expectation-maximization for reinforcement learning*, Neural Computation 1997,
https://doi.org/10.1162/neco.1997.9.2.271. There is no authors' code. Differs from the paper in: one step, from the logger's policy, since a
log does not say what the next policy would earn; payoffs of single choices are returns of episodes; payoffs may not be negative, so the
least return of the log counts as 0; weights are divided by their mean over the log, and so they have no unit.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Trained, static
from .. import steps as shared


class State(eqx.Module):
    actor: Trained[nets.BoxGaussian | nets.Categories | nets.Several]
    least: Float[Array, ""]
    "The least return of the log."
    unit: Float[Array, ""]
    "How much better than that returns are on average."


class EMRL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Peter Dayan and Geoffrey E. Hinton", "Using expectation-maximization for reinforcement learning", "NECO", 1997,
        "https://doi.org/10.1162/neco.1997.9.2.271",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "bait")
    fails: ClassVar = ("stitch",)

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
        returns = data.rows().returns
        unit = (returns - returns.min()).mean()
        actor = Trained.start(nets.stochastic(data.spec, self.hidden, key=key), self.optimiser)
        return State(actor, returns.min(), jnp.where(unit > 0, unit, 1.0))

    def update(self, state, batch, *, step, key):
        weight = ops.positive_advantage((batch.returns - state.least) / state.unit)
        actor, info = shared.imitate(state.actor, batch, weight, self.optimiser)
        return State(actor, state.least, state.unit), info

    def policy(self, state):
        return state.actor.model
