r"""Q-iteration on the world that the log describes, for numbered states:

$$ Q(s, a) \leftarrow \operatorname{mean}_{(s, a, r, s')} \big[r + \gamma \max_{a' \in A(s')} Q(s', a')\big], \qquad
   A(s) = \{a : n(s, a) \ge \tau\} \cup \{\arg\max_a n(s, a)\}. $$

Its fixed point is the optimum of the empirical world among actions that were logged often enough; with τ = 1, among all that were
logged at all. The yardstick of all methods where states can be counted. A state in which nothing was ever done is worth 0.

Fujimoto, Meger and Precup, *Off-policy deep reinforcement learning without exploration*, ICML 2019, https://arxiv.org/abs/1812.02900,
section 4.1 and theorem 1 (batch-constrained Q-learning). Differs from the paper in: whole sweeps instead of one row at a time, so that
no learning rate is left; the threshold (τ = 1 is the paper's). Of the tabular method there is no authors' code.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ... import nets, ops
from ...core import Algorithm, Discrete, Paper, static


class State(eqx.Module):
    q: nets.Table
    count: Float[Array, "states actions"]


class TabularQ(Algorithm[State]):
    paper: ClassVar = Paper(
        "Scott Fujimoto and David Meger and Doina Precup", "Off-policy deep reinforcement learning without exploration", "ICML", 2019,
        "https://arxiv.org/abs/1812.02900",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    observations: ClassVar = (Discrete,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")
    batch_size: ClassVar = 0
    "Every update sees the whole log."

    threshold: float = 1.0
    "τ: how often an action must have been logged in a state to be considered there; the most frequent one always is."
    discount: float = 0.99
    steps: int = static(1000)
    "Sweeps. What is left of the error after k of them is discount^k of it."

    def init(self, data, *, key):
        rows, shape = data.rows(), (data.spec.obs.size, data.spec.action.size)
        zero, count = nets.means(jnp.zeros(len(rows)), rows.obs, rows.action, shape)
        return State(nets.Table(zero), count)

    def able(self, count):
        """A(s): the actions that are considered."""
        often = count >= jnp.maximum(self.threshold, 1)
        return often | ((count > 0) & (count == count.max(axis=-1, keepdims=True)))

    def sample(self, state, data, *, key):
        return data.rows()

    def update(self, state, batch, *, step, key):
        able = self.able(state.count)
        best = ops.legal(state.q.values, able).max(axis=-1)
        value = jnp.where(able.any(axis=-1), best, 0)
        goal = ops.td_target(batch.reward, batch.terminal, value[batch.next_obs], batch.discount(self.discount))
        q, _ = nets.means(goal, batch.obs, batch.action, state.count.shape)
        return State(nets.Table(q), state.count), {"q/change": jnp.abs(q - state.q.values).max(), "q/target": goal.mean()}

    def policy(self, state):
        return nets.TableGreedy(state.q, self.able(state.count))
