r"""The policy gradient, off-policy: REINFORCE on episodes of somebody else, each weighted by how much likelier the policy would make it.

With $w_{0:t} = \prod_{k \le t} \pi(a_k \mid s_k) / \mu(a_k \mid s_k)$ and a baseline b,

$$ \nabla J = E_\mu \textstyle\sum_t \nabla \log \pi(a_t \mid s_t)\, \gamma^t
   \big[\sum_{t' \ge t} \gamma^{t' - t}\, w_{0:t'}\, r_{t'} - w_{0:t}\, b(s_t)\big], $$

by decision; or with the weight $w_{0:T}$ of the whole episode everywhere. Unbiased whatever the log, while weights are not clipped, and of a
variance that grows with every step: for short episodes, and policies near to the logger.

Precup, Sutton and Singh, *Eligibility traces for off-policy policy evaluation*, ICML 2000, for the weights; Levine, Kumar, Tucker and Fu,
*Offline reinforcement learning: tutorial, review, and perspectives on open problems*, 2020, section 3.2, https://arxiv.org/abs/2005.01643, for the
gradient. There is no authors' code. Differs from the survey in: a ceiling of the weights; the baseline is a net, fitted to the weighted returns themselves: then a number added to all
rewards of a state does not send the policy to actions, or away from them, that were never logged. Episodes that were cut off count as far as
they were logged. Logs must hold the probabilities of their actions.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Paper, Trained, static
from ...data.trajectories import trajectories
from .. import steps as shared


class State(eqx.Module):
    actor: Trained[nets.BoxGaussian | nets.Categories]
    baseline: Trained[nets.Value]


class ISPolicyGradient(Algorithm[State]):
    paper: ClassVar = Paper(
        "Sergey Levine and Aviral Kumar and George Tucker and Justin Fu",
        "Offline reinforcement learning: tutorial, review, and perspectives on open problems", "arXiv", 2020,
        "https://arxiv.org/abs/2005.01643",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)
    passes: ClassVar = ("choice", "context", "minority", "delay")
    fails: ClassVar = ("stitch",)

    max_weight: float = 100.0
    "Ceiling of w: what it takes from the variance it adds to the bias."
    discount: float = 0.99
    lr: float = 3e-4
    weights: Literal["per_decision", "trajectory"] = static("per_decision")
    "Whether a reward is weighted by what was done until then, or by the whole episode."
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(100_000)
    batch_size: int = static(64)
    "Episodes."

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        return trajectories(episodes)

    def init(self, data, *, key):
        ka, kv = jax.random.split(key)
        actor, baseline = nets.stochastic(data.spec, self.hidden, key=ka), nets.Value(data.spec, self.hidden, key=kv)
        return State(Trained.start(actor, self.optimiser), Trained.start(baseline, self.optimiser))

    def weighted(self, log_prob, batch):
        """(w at every step, Σ γ^{t' - t} w r from every step on), each (episodes, time), held constant."""
        w = ops.clipped_ratios(batch.live * (log_prob - batch.log_prob), self.max_weight)
        if self.weights == "trajectory":
            w = jnp.broadcast_to(w[:, -1:], w.shape)
        w = w * batch.live
        return jax.lax.stop_gradient((w, ops.to_go(w * batch.rows.reward, batch.rows.discount(self.discount))))

    def surrogate(self, pi, baseline, batch):
        """(episodes,): what has the gradient above, with respect to `pi`."""
        log_prob = shared.likelihood(pi, batch.rows)
        w, earned = self.weighted(log_prob, batch)
        at = self.discount ** batch.elapsed()
        weight = jax.lax.stop_gradient(at * (earned - w * baseline(batch.rows.obs)))
        return (weight * batch.live * log_prob).sum(axis=1)

    def update(self, state, batch, *, step, key):
        w, earned = self.weighted(shared.likelihood(state.actor.model, batch.rows), batch)

        def actor_loss(pi):
            loss = -self.surrogate(pi, state.baseline.model, batch).mean()
            return loss, {"actor/loss": loss, "actor/weight": batch.last(w).mean(), "actor/value": earned[:, 0].mean()}

        def baseline_loss(v):  # least where v is the w-weighted mean of what was earned, without a division by w
            value = v(batch.rows.obs)
            loss = (0.5 * w * value**2 - earned * value).sum(axis=1).mean()
            return loss, {"baseline/loss": loss}

        actor, info = state.actor.descend(actor_loss, self.optimiser)
        baseline, b_info = state.baseline.descend(baseline_loss, self.optimiser)
        return State(actor, baseline), info | b_info

    def policy(self, state):
        return state.actor.model
