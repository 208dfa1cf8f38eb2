r"""Goal-conditioned implicit Q-learning: `IQL` on steps that are given goals and -1 until these are reached,

$$ L_V = E\,[L_2^\tau(\bar Q(s, a, g) - V(s, g))] \qquad L_Q = E\,[(r_g + \gamma V(s', g) - Q(s, a, g))^2], $$

so that V is minus the discounted number of steps to the goal, over actions of the log. The actor climbs Q and stays near what was done, or
imitates what was done by its advantage, as in IQL:

$$ L_\pi = -E\,[Q(s, \pi(s, g), g)] / E|Q| - \alpha E\,[\log \pi(a \mid s, g)] \quad\text{or}\quad
   -E\,[e^{\beta (\bar Q - V)} \log \pi(a \mid s, g)]. $$

Park, Frans, Eysenbach and Levine, *OGBench: benchmarking offline goal-conditioned RL*, ICLR 2025, https://arxiv.org/abs/2410.20092, after Kostrikov
et al. 2022. Follows the authors' code (https://github.com/seohongpark/ogbench) in losses, nets, goals and defaults, β being what it takes where
actions are choices. Differs from it in: V is updated first and the others see it; advantages are those of the slow critics, as in IQL; means
within the box by tanh; uniform initialisation.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import optax

from ... import ops
from ...core import Algorithm, Box, Discrete, Paper, Trained, static
from ...data.goals import Aim, Goals, relabelled
from .. import steps as shared


class State(eqx.Module):
    values: shared.Implicit
    actor: Trained
    aim: Aim


class GCIQL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Seohong Park and Kevin Frans and Benjamin Eysenbach and Sergey Levine",
        "OGBench: benchmarking offline goal-conditioned RL", "ICLR", 2025, "https://arxiv.org/abs/2410.20092",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)

    expectile: float = 0.9
    "τ."
    alpha: float = 0.3
    "α: weight of imitation where the actor climbs."
    beta: float = 3.0
    "β: sharpness where it imitates."
    max_weight: float = 100.0
    "Ceiling of an imitation weight."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    improvement: Literal["ascent", "weighted"] = static("ascent")
    "How vectors are learned; choices are always weighted."
    value_goals: tuple[float, ...] = static(Goals(current=0.2, geometric=0.5, random=0.3))
    "Shares of goals: the current observation, later ones (geometric, uniform), the episode's last, any."
    actor_goals: tuple[float, ...] = static(Goals(uniform=1.0))
    "The same for the actor; half of them random where episodes are to be joined."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((512, 512, 512))
    steps: int = static(1_000_000)
    batch_size: int = static(1024)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        return relabelled(episodes)

    def init(self, data, *, key):
        kv, ka = jax.random.split(key)
        values = shared.start_implicit(
            data.paired, self.hidden, self.critics, self.optimiser, key=kv, critic_net=shared.VALUE, **shared.VALUE
        )
        actor = shared.start_goal_actor(data.paired, self.hidden, self.optimiser, key=ka)
        return State(values, actor, data.aim)

    def sample(self, state, data, *, key):
        return shared.towards_goals(self, data, key=key)

    def update(self, state, batch, *, step, key):
        batch, own = batch
        how = dict(expectile=self.expectile, discount=self.discount, target_rate=self.target_rate, optimiser=self.optimiser)
        values, _, info = shared.implicit_step(state.values, batch, **how)
        if shared.ascends(self, state.actor):
            q = lambda action: values.critic(own.obs, action).min(axis=0)
            actor, pi_info = shared.ascend(state.actor, own, q, self.alpha, self.optimiser)
        else:
            advantage = state.values.target(own.obs, own.action).min(axis=0) - values.value(own.obs)
            weight = ops.exp_advantage(advantage, self.beta, self.max_weight)
            actor, pi_info = shared.imitate(state.actor, own, weight, self.optimiser)
        return State(values, actor, state.aim), info | pi_info

    def policy(self, state):
        return state.aim.policy(state.actor.model)
