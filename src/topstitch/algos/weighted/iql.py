r"""Implicit Q-learning.

Dynamic programming that never asks about an action outside the data. A state value is fitted to an upper expectile of $Q$
over logged actions, $Q$ is fitted to that value, and the policy imitates logged actions in proportion to
$e^{\beta (Q - V)}$:

$$ L_V = E\,[L_2^\tau(\bar Q(s, a) - V(s))] \qquad
   L_Q = E\,[(r + \gamma V(s') - Q(s, a))^2] \qquad
   L_\pi = -E\,[e^{\beta(\bar Q - V)} \log \pi(a \mid s)] $$

Kostrikov, Nair and Levine, *Offline reinforcement learning with implicit Q-learning*, ICLR 2022,
https://arxiv.org/abs/2110.06169. Follows the authors' code (https://github.com/ikostrikov/implicit_q_learning) in updating V
first, then the policy, then Q, and in the cosine decay of the actor's learning rate. Differs from it in: uniform rather than
orthogonal initialisation. The same class serves continuous and discrete actions: only the nets differ, and the data's `spec`
chooses them.
"""

from typing import ClassVar

import equinox as eqx
import jax
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Trained, static
from .. import steps as shared


class State(eqx.Module):
    value: Trained[nets.Value]
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[nets.BoxGaussian | nets.Categories | nets.Several]


class IQL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Ilya Kostrikov and Ashvin Nair and Sergey Levine", "Offline reinforcement learning with implicit Q-learning", "ICLR", 2022,
        "https://arxiv.org/abs/2110.06169",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    expectile: float = 0.7
    "τ: how far above the mean of Q the value sits (0.9 for AntMaze)."
    beta: float = 3.0
    "β: how sharply imitation prefers good actions (10 for AntMaze)."
    max_weight: float = 100.0
    "Ceiling of an imitation weight."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    decay: bool = static(True)
    "Whether the actor's learning rate falls to 0 along a cosine over `steps`."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    @property
    def actor_optimiser(self):
        return optax.adam(optax.cosine_decay_schedule(self.lr, self.steps)) if self.decay else self.optimiser

    def init(self, data, *, key):
        kv, kq, ka = jax.random.split(key, 3)
        spec, hidden = data.spec, self.hidden
        q = nets.critics(spec, hidden, self.critics, key=kq)
        return State(
            value=Trained.start(nets.Value(spec, hidden, key=kv), self.optimiser),
            critic=Trained.start(q, self.optimiser),
            target=q,
            actor=Trained.start(nets.stochastic(spec, hidden, key=ka), self.actor_optimiser),
        )

    def update(self, state, batch, *, step, key):
        values, advantage, info = shared.implicit_step(
            shared.Implicit(state.value, state.critic, state.target), batch, expectile=self.expectile, discount=self.discount,
            target_rate=self.target_rate, optimiser=self.optimiser,
        )  # fmt: skip
        weight = ops.exp_advantage(advantage, self.beta, self.max_weight)
        actor, pi_info = shared.imitate(state.actor, batch, weight, self.actor_optimiser)
        return State(values.value, values.critic, values.target, actor), info | pi_info | {"actor/advantage": advantage.mean()}

    def policy(self, state):
        return state.actor.model
