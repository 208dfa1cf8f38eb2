r"""Safe policy improvement with baseline bootstrapping: where the log is thin, do as the baseline does; elsewhere, the best.

An action is trusted in a state where it was logged at least N times. Of all policies that agree with the baseline $\pi_b$ on what is not
trusted, the best in the empirical world is found by sweeps of

$$ \pi(\cdot \mid s) = \arg\max_{\pi \in \Pi} \textstyle\sum_a \pi(a \mid s)\, Q(s, a), \qquad
   Q(s, a) \leftarrow \operatorname{mean}_{(s, a, r, s')} \big[r + \gamma \textstyle\sum_{a'} \pi(a' \mid s')\, Q(s', a')\big], $$

with $\Pi = \Pi_b$ ("equal": $\pi = \pi_b$ on what is not trusted) or $\Pi_{\le b}$ ("below": $\pi \le \pi_b$ there). For $\Pi_b$ and the
true baseline, `ops.improvement_bound` says how much worse than it the result can be.

Laroche, Trichelair and Tachet des Combes, *Safe policy improvement with baseline bootstrapping*, ICML 2019,
https://arxiv.org/abs/1712.06924. Differs from the authors' code (https://github.com/RomainLaroche/SPIBB) in: sweeps to the same fixed point
instead of policy iteration with exact solutions; trusted from N rows on, as in the paper, not above N; the baseline is read off the log
(counted, as in Simão et al. 2020, https://arxiv.org/abs/1909.05236, or from recorded probabilities) instead of given. As there, what was
never logged has Q = 0.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ... import nets, ops
from ...core import Algorithm, Discrete, Paper, static
from ...data import BadData
from ...data.device import Transitions

PROJECTIONS = {"equal": ops.exactly_baseline, "below": ops.at_most_baseline}


class Logged(eqx.Module):
    """The log, and the policy that made it."""

    flat: Transitions
    baseline: Float[Array, "states actions"]


class State(eqx.Module):
    q: nets.Table
    count: Float[Array, "states actions"]
    baseline: Float[Array, "states actions"]


class SPIBB(Algorithm[State]):
    paper: ClassVar = Paper(
        "Romain Laroche and Paul Trichelair and Rémi Tachet des Combes", "Safe policy improvement with baseline bootstrapping", "ICML", 2019,
        "https://arxiv.org/abs/1712.06924",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    observations: ClassVar = (Discrete,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")
    batch_size: ClassVar = 0
    "Every update sees the whole log."

    threshold: float = 20.0
    "N: from how many rows on an action is trusted in a state (the authors try 5 to 100). 0 is tabular Q-iteration, infinity the baseline."
    discount: float = 0.99
    constraint: Literal["equal", "below"] = static("equal")
    "On actions not trusted: exactly what the baseline does (Π_b), or at most that (Π_≤b: no guarantee, less caution)."
    baseline: Literal["counted", "recorded"] = static("counted")
    "How often each action was taken in each state; or the probabilities in the log, what they leave shared by the actions never taken."
    steps: int = static(1000)
    "Sweeps. What is left of the error after k of them is discount^k of it."

    def prepare(self, episodes):
        shape = (episodes.spec.obs.size, episodes.spec.action.size)
        total, count = np.zeros(shape), np.zeros(shape)
        if self.baseline == "recorded" and episodes.log_prob is None:
            raise BadData(f'{episodes.source}: baseline="recorded" needs the probabilities with which actions were taken, and there are none. '
                          'Name their column, or use baseline="counted".')  # fmt: skip
        chance = np.ones(episodes.steps) if self.baseline == "counted" else np.exp(episodes.log_prob, dtype=np.float64)
        np.add.at(total, (episodes.obs, episodes.action), chance)
        np.add.at(count, (episodes.obs, episodes.action), 1)
        if self.baseline == "recorded":
            total /= np.maximum(count, 1)
            unseen = count == 0
            total += unseen * np.maximum(1 - total.sum(axis=1), 0)[:, None] / np.maximum(unseen.sum(axis=1), 1)[:, None]
        total[count.sum(axis=1) == 0] = 1  # where nothing was done, nothing is known
        return Logged(episodes.transitions(), jnp.asarray(total / total.sum(axis=1, keepdims=True), jnp.float32))

    def init(self, data, *, key):
        rows = data.flat.rows()
        zero, count = nets.means(jnp.zeros(len(rows)), rows.obs, rows.action, data.baseline.shape)
        return State(nets.Table(zero), count, data.baseline)

    def improved(self, state):
        """π: (states, actions)."""
        trusted = state.count >= jnp.maximum(self.threshold, 1)
        return PROJECTIONS[self.constraint](state.q.values, state.baseline, trusted)

    def sample(self, state, data, *, key):
        return data.flat.rows()

    def update(self, state, batch, *, step, key):
        value = (self.improved(state) * state.q.values).sum(axis=-1)
        goal = ops.td_target(batch.reward, batch.terminal, value[batch.next_obs], batch.discount(self.discount))
        q, _ = nets.means(goal, batch.obs, batch.action, state.count.shape)
        change = {"q/change": jnp.abs(q - state.q.values).max(), "q/target": goal.mean()}
        return State(nets.Table(q), state.count, state.baseline), change

    def policy(self, state):
        return nets.TablePolicy(self.improved(state))
