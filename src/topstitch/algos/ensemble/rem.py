r"""Random ensemble mixture: Q-learning on a convex mixture of K heads that is drawn anew at every step,

$$ L_Q = E\Big[\ell\Big(r + \gamma \max_{a'} \textstyle\sum_k \alpha_k \bar Q_k(s', a') - \sum_k \alpha_k Q_k(s, a)\Big)\Big],
   \qquad \alpha_k = u_k / \textstyle\sum_j u_j, \quad u_k \sim U(0, 1). $$

Every mixture has to satisfy the Bellman equation, which only heads that each satisfy it can do; the policy is greedy in their mean.
It is more robust Q-learning, not pessimistic: what was never logged can still look best.

Agarwal, Schuurmans and Norouzi, *An optimistic perspective on offline reinforcement learning*, ICML 2020,
https://arxiv.org/abs/1907.04543. Follows the authors' code in one mixture a batch, the same for Q and its target, and in heads on one
body. Differs from it in: learning rate, batch and target net as in `DQN` (they: Adam at
5e-5 with an epsilon of 0.01 / 32, 32 rows, copies every 2000 updates); the maximum is over legal actions where the log has masks.
"""

from typing import ClassVar

import equinox as eqx
import jax
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, Paper, Trained, polyak, static


class State(eqx.Module):
    critic: Trained[nets.Heads]
    target: nets.Heads


class REM(Algorithm[State]):
    paper: ClassVar = Paper(
        "Rishabh Agarwal and Dale Schuurmans and Mohammad Norouzi", "An optimistic perspective on offline reinforcement learning", "ICML",
        2020, "https://arxiv.org/abs/1907.04543",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")
    fails: ClassVar = ("bait",)

    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    heads: int = static(200)
    "K."
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        q = nets.Heads(data.spec, self.hidden, self.heads, key=key)
        return State(Trained.start(q, self.optimiser), q)

    def update(self, state, batch, *, step, key):
        drawn = 1 - jax.random.uniform(key, (self.heads,))  # in (0, 1]: a single head has weight 1
        weights = drawn / drawn.sum()
        target = state.target.mixed(weights)
        best = nets.greedy(target.every(batch.next_obs), batch.next_mask).mode()
        goal = ops.td_target(batch.reward, batch.terminal, target(batch.next_obs, best), batch.discount(self.discount))

        def loss(heads):
            taken = heads.mixed(weights)(batch.obs, batch.action)
            td = optax.huber_loss(taken, goal).mean()
            return td, {"critic/loss": td, "critic/q": taken.mean(), "critic/target": goal.mean()}

        critic, info = state.critic.descend(loss, self.optimiser)
        return State(critic, polyak(state.target, critic.model, self.target_rate)), info

    def policy(self, state):
        return nets.Greedy(state.critic.model.mean())
