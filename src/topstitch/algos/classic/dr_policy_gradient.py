r"""The doubly robust policy gradient: what a fitted Q already says is taken from it, and only what it gets wrong is weighted.

The gradient is that of the doubly robust estimate of the policy's value, with $v(s) = E_{a \sim \pi} q(s, a)$ and q held constant,

$$ J = E_\mu\big[v(s_0) + \textstyle\sum_t \gamma^t w_{0:t}\, (r_t + \gamma v(s_{t+1}) - q(s_t, a_t))\big], \qquad
   w_{0:t} = \prod_{k \le t} \pi(a_k \mid s_k) / \mu(a_k \mid s_k), $$

so it is unbiased for any q while weights are not clipped, and q is what brings its variance down. With q = 0 it is `ISPolicyGradient` by
decision and without a baseline. q is fitted to its own one-step target under the policy as it is.

Huang and Jiang, *From importance sampling to doubly robust policy gradient*, ICML 2020, https://arxiv.org/abs/1910.09066; the estimate: Jiang and Li
2016, https://arxiv.org/abs/1511.03722. Differs from the paper in: q's own dependence on the policy is left out, which is the
special case of its equation that Cheng et al. 2019 (https://arxiv.org/abs/1908.03263) found; q is learned from the same episodes;
episodes that were cut off end in v of what they led to.
"""

from typing import ClassVar

import equinox as eqx
import jax
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Paper, Trained, polyak, static
from ...data.trajectories import trajectories
from .. import steps as shared


class State(eqx.Module):
    actor: Trained[nets.BoxGaussian | nets.Categories]
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble


class DRPolicyGradient(Algorithm[State]):
    paper: ClassVar = Paper(
        "Jiawei Huang and Nan Jiang", "From importance sampling to doubly robust policy gradient", "ICML", 2020,
        "https://arxiv.org/abs/1910.09066",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")

    max_weight: float = 100.0
    "Ceiling of w: what it takes from the variance it adds to the bias."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actions_sampled: int = static(10)
    "For the mean of q over continuous actions; of discrete ones it is exact."
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
        ka, kq = jax.random.split(key)
        q = nets.critics(data.spec, self.hidden, 1, key=kq)
        return State(Trained.start(nets.stochastic(data.spec, self.hidden, key=ka), self.optimiser), Trained.start(q, self.optimiser), q)

    def mean(self, q, pi, obs, mask, key):
        """v(s) = E q(s, ·) under `pi`; by draws that carry its gradient where actions are continuous."""
        said = pi(obs, mask)
        if isinstance(said, nets.Categorical):
            return said.mean(q.every(obs)[0])
        return jax.vmap(lambda k: q(obs, said.sample(k))[0])(jax.random.split(key, self.actions_sampled)).mean(axis=0)

    def surrogate(self, pi, q, batch, *, key):
        """(episodes,): what has the gradient of J, with respect to `pi`; and J, and w, (episodes, time)."""
        rows, live = batch.rows, batch.live
        log_prob = shared.likelihood(pi, rows)
        w = live * ops.clipped_ratios(jax.lax.stop_gradient(live * (log_prob - batch.log_prob)), self.max_weight)
        now, after = jax.random.split(key)
        v, next_v = self.mean(q, pi, rows.obs, rows.mask, now), self.mean(q, pi, rows.next_obs, rows.next_mask, after)
        rate, goes_on = rows.discount(self.discount), 1 - rows.terminal
        at = live * self.discount ** batch.elapsed()
        error = w * (rows.reward + rate * goes_on * next_v - q(rows.obs, rows.action)[0])
        estimate = v[:, 0] + (at * error).sum(axis=1)
        by_doing = jax.lax.stop_gradient(at * ops.to_go(error, rate)) * log_prob
        by_value = v[:, 0] + (jax.lax.stop_gradient(at * w * rate * goes_on) * next_v).sum(axis=1)
        return by_doing.sum(axis=1) + by_value, estimate, w

    def update(self, state, batch, *, step, key):
        ka, kq = jax.random.split(key)
        rows = batch.rows

        def actor_loss(pi):
            gain, estimate, w = self.surrogate(pi, state.critic.model, batch, key=ka)
            loss = -gain.mean()
            return loss, {"actor/loss": loss, "actor/weight": batch.last(w).mean(), "actor/value": estimate.mean()}

        next_value = self.mean(state.target, state.actor.model, rows.next_obs, rows.next_mask, kq)
        goal = ops.td_target(rows.reward, rows.terminal, next_value, rows.discount(self.discount))

        def critic_loss(q):
            loss = (batch.live * (q(rows.obs, rows.action)[0] - goal) ** 2).sum() / batch.live.sum()
            return loss, {"critic/loss": loss}

        actor, info = state.actor.descend(actor_loss, self.optimiser)
        critic, q_info = state.critic.descend(critic_loss, self.optimiser)
        return State(actor, critic, polyak(state.target, critic.model, self.target_rate)), info | q_info

    def policy(self, state):
        return state.actor.model
