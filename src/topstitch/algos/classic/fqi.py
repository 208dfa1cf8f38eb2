r"""Fitted Q-iteration with extremely randomised trees: regress the one-step target on the pair, again and again,

$$ Q_{k+1} = \operatorname{forest}\big\{(s, a) \mapsto r + \gamma \max_{a'} Q_k(s', a')\big\}. $$

Each tree splits the whole log by thresholds drawn at random, the best of one draw per input, and answers with the mean target in a
leaf: it can never say more than what was earned, nor say anything new where nothing was logged.

Ernst, Geurts and Wehenkel, *Tree-based batch mode reinforcement learning*, JMLR 2005, https://jmlr.org/papers/v6/ernst05a.html. There is no
authors' code. Differs from the paper in: leaves hold at least `min_leaf` rows, where the paper splits from `n_min` rows on, so that the
largest forest is known in advance; a fixed number of iterations; the maximum is over legal actions where the log has masks.

Trees are grown by scikit-learn on the host, and asked on the device: the policy is like any other.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ... import nets, ops
from ...core import Algorithm, Discrete, Paper, Stage, static


class FQI(Algorithm[nets.ForestQ]):
    paper: ClassVar = Paper(
        "Damien Ernst and Pierre Geurts and Louis Wehenkel", "Tree-based batch mode reinforcement learning", "JMLR", 2005,
        "https://jmlr.org/papers/v6/ernst05a.html",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")
    batch_size: ClassVar = 0
    "Every update sees the whole log."

    discount: float = 0.95
    trees: int = static(50)
    min_leaf: int = static(5)
    "The least number of rows in a leaf. 1 grows trees until rows are alone, or alike."
    steps: int = static(50)
    "Iterations: how many steps ahead is looked."

    def stages(self):
        return (Stage("learn", self.steps, self.update, self.sample, compiled=False),)

    def init(self, data, *, key):
        return nets.ForestQ(nets.Forest.zero(self.trees, nets.Forest.nodes(len(data), self.min_leaf)), data.spec)

    def sample(self, state, data, *, key):
        return data.rows()

    def update(self, state, batch, *, step, key):
        goal = target(state, batch, self.discount)
        fitted = self.grow(state, batch, goal, key) if np.isfinite(goal).all() else state  # the loop names what is not finite
        return fitted, {"q/change": change(fitted, state, batch), "q/target": goal.mean()}

    def grow(self, state, batch, goal, key) -> nets.ForestQ:
        from sklearn.ensemble import ExtraTreesRegressor  # slow to import

        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        forest = ExtraTreesRegressor(self.trees, min_samples_leaf=self.min_leaf, random_state=seed)
        forest.fit(np.asarray(state.inputs(batch.obs, batch.action)), np.asarray(goal))
        return nets.ForestQ(nets.Forest.of(forest, state.forest.value.shape[1]), state.spec)

    def policy(self, state):
        return nets.Greedy(state)


@jax.jit
def target(q: nets.ForestQ, batch, discount):
    """r + γ max Q(s', ·)."""
    best = ops.legal(q.every(batch.next_obs), batch.next_mask).max(axis=-1)
    return ops.td_target(batch.reward, batch.terminal, best, batch.discount(discount))


@jax.jit
def change(q: nets.ForestQ, before: nets.ForestQ, batch):
    """The mean distance of Q(s, a) from what it was."""
    return jnp.abs(q(batch.obs, batch.action) - before(batch.obs, batch.action)).mean()
