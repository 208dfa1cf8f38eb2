r"""AWAC: an actor-critic whose actor imitates logged actions in proportion to how much better than itself they are,

$$ y = r + \gamma \min_i \bar Q_i(s', a'),\ a' \sim \pi(\cdot \mid s'), \qquad
   L_\pi = -E\,\big[e^{\beta A(s, a)} \log \pi(a \mid s)\big], \quad A = \min_i Q_i(s, a) - E_{\pi} \min_i Q_i(s, \cdot). $$

The critic asks about the actor's own actions, but the actor is only ever trained on logged ones.

Nair, Gupta, Dalal and Levine, *AWAC: accelerating online reinforcement learning with offline datasets*, 2020,
https://arxiv.org/abs/2006.09359. $\beta = 1/\lambda$ of the paper; the expectation is one sample for continuous actions
and for several choices at once, and exact for a single choice. Differs from the authors' code in: three hidden layers of 256
instead of four, a mean within the box, weights clipped at 100 instead of normalised over the batch.
"""

from typing import ClassVar

import equinox as eqx
import jax
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Trained, polyak, static
from .. import steps as shared


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[nets.BoxGaussian | nets.Categories | nets.Several]


class AWAC(Algorithm[State]):
    paper: ClassVar = Paper(
        "Ashvin Nair and Abhishek Gupta and Murtaza Dalal and Sergey Levine",
        "AWAC: accelerating online reinforcement learning with offline datasets", "arXiv 2006.09359", 2020,
        "https://arxiv.org/abs/2006.09359",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    beta: float = 3.0
    "β = 1/λ: how sharply imitation prefers good actions (10 for AntMaze and Adroit)."
    max_weight: float = 100.0
    "Ceiling of an imitation weight."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        kq, ka = jax.random.split(key)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        actor = nets.stochastic(data.spec, self.hidden, key=ka)
        return State(Trained.start(q, self.optimiser), q, Trained.start(actor, self.optimiser))

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)
        next_value = shared.considered(state.target, state.actor(batch.next_obs, batch.next_mask), batch.next_obs, 1, key=kt).mean()
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))
        critic, q_info = shared.fit_critics(state.critic, batch, goal, self.optimiser)

        own = shared.considered(critic.model, state.actor(batch.obs, batch.mask), batch.obs, 1, key=ka).mean()
        advantage = critic(batch.obs, batch.action).min(axis=0) - own
        weight = ops.exp_advantage(advantage, self.beta, self.max_weight)
        actor, pi_info = shared.imitate(state.actor, batch, weight, self.optimiser)
        info = q_info | pi_info | {"actor/advantage": advantage.mean()}
        return State(critic, polyak(state.target, critic.model, self.target_rate), actor), info

    def policy(self, state):
        return state.actor.model
