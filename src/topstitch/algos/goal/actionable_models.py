r"""Actionable Models: Q-learning towards whatever the log has seen, where a value is the discounted chance to get there: nothing but the goal earns
anything. Actions that were not logged are taken to lead nowhere, and episodes are chained, the end of one being worth what others made of it,

$$ 2 L_Q = E\,[(Q(s, a, g) - y)^2] + \alpha\, E_{\tilde a \propto \exp Q(s, \cdot, g)}\,[Q(s, \tilde a, g)^2], \qquad
   y = 1 \text{ if } s' = g, \text{ else } \gamma \max_{a'} \bar Q(s', a', g). $$

A goal is a later observation of the episode, or, for the share `random`, any of the log: then the last step of an episode that did not get there counts
$\max_a \bar Q$ of where it ended instead of 0. That is the chaining; without random goals there is none. It acts by $\operatorname{argmax}_a Q$.

The negatives press what was seldom done, towards y times its share of what was done and pressed there: in a log of random actions that is one more
discount, and `alpha` should be small. Where episodes are long, a goal drawn uniformly from what follows is hardly ever the next observation, so that
next to nothing is learned of arriving: give a share of `value_goals` to the `current` observation, which is its own goal. Both were measured
(docs/goals.md).

Chebotar, Hausman, Lu, Xiao, Kalashnikov, Varley, Irpan, Eysenbach, Julian, Finn and Levine, *Actionable Models: unsupervised offline reinforcement
learning of robotic skills*, ICML 2021, https://arxiv.org/abs/2104.07749. There is no authors' code that we know of, and of the paper itself only the abstract and
reviews could be read when this was written: the equations are as we know them (that of the negatives agrees with how Yang et al. 2023 draw theirs,
https://github.com/YangRui2015/GOAT), sizes and rates those of the methods beside it. Differs from the paper in:
vectors, not camera pictures; uniform draws stand for all vectors, where the paper searches by the cross-entropy method; the mean over negatives is taken
by their weights rather than by one draw; a choice that was logged is never its own negative.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Paper, Trained, parted, polyak, static
from ...data.goals import Aim, Goals, relabelled, same
from .. import steps as shared


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    draws: nets.Anywhere | None
    "Of vectors; choices are all looked at."
    aim: Aim


class ActionableModels(Algorithm[State]):
    paper: ClassVar = Paper(
        "Yevgen Chebotar and Karol Hausman and Yao Lu and Ted Xiao and Dmitry Kalashnikov and Jake Varley and Alex Irpan and "
        "Benjamin Eysenbach and Ryan Julian and Chelsea Finn and Sergey Levine",
        "Actionable Models: unsupervised offline reinforcement learning of robotic skills", "ICML", 2021, "https://arxiv.org/abs/2104.07749",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)

    alpha: float = 1.0
    "α: weight of the negatives."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actions_sampled: int = static(64)
    "Draws that stand for all vectors: in the maximum, among the negatives, and in acting."
    value_goals: tuple[float, ...] = static(Goals(uniform=0.5, random=0.5))
    "Shares of goals: the current observation, later ones (geometric, uniform), the episode's last, any. Those of any are chained."
    hidden: tuple[int, ...] = static((512, 512, 512))
    steps: int = static(1_000_000)
    batch_size: int = static(1024)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        return relabelled(episodes)

    def init(self, data, *, key):
        q = nets.critics(data.paired, self.hidden, 1, key=key, **shared.VALUE)
        draws = nets.Anywhere(data.spec.action.size) if isinstance(data.spec.action, Box) else None
        return State(Trained.start(q, self.optimiser), q, draws, data.aim)

    def sample(self, state, data, *, key):
        return data.draw(self.batch_size, self.value_goals, discount=self.discount, key=key)[0]

    def update(self, state, batch, *, step, key):
        k_next, k_now = jax.random.split(key)
        goal = self.goal(state, batch, key=k_next)

        def loss(q):
            taken, values = q(batch.obs, batch.action)[0], self.values(q, batch.obs, batch.mask, state.draws, key=k_now)
            weight = negatives(values, batch.action)
            td, pressed = ((taken - goal) ** 2).mean(), (weight * jnp.where(weight > 0, values, 0) ** 2).sum(axis=-1).mean()
            info = {"critic/loss": td, "critic/q": taken.mean(), "critic/target": goal.mean(), "critic/pressed": pressed}
            return (td + self.alpha * pressed) / 2, info

        critic, info = state.critic.descend(loss, self.optimiser)
        return State(critic, polyak(state.target, critic.model, self.target_rate), state.draws, state.aim), info

    def goal(self, state, batch, *, key):
        """(n): y. A step that begins at its goal has got there; one that truly ended its episode elsewhere never does."""
        space = state.aim.space
        there = ((batch.reward == 0) | same(*parted(batch.next_obs, space), space)).astype(jnp.float32)
        best = self.values(state.target, batch.next_obs, batch.next_mask, state.draws, key=key).max(axis=-1)
        return ops.td_target(there, jnp.maximum(there, batch.terminal), best, batch.discount(self.discount))

    def values(self, q, obs, mask, draws, *, key):
        """(n, options): of all choices, an illegal one -inf; or of draws from the box."""
        if draws is None:
            return ops.legal(q.every(obs)[0], mask)
        many = nets.repeated(obs, self.actions_sampled)
        return q(many, draws.sample(many, key=key))[0].T

    def policy(self, state):
        q = state.critic.model
        return state.aim.policy(nets.Greedy(q[0]) if state.draws is None else nets.BestOf(state.draws, q, self.actions_sampled))


def negatives(values, action):
    """(n, options): how likely each is taken as a negative, by exp Q; a logged choice is none, nor is there one where nothing else is legal."""
    weight = jax.nn.softmax(jax.lax.stop_gradient(values), axis=-1)
    if action.ndim == 1:
        weight = jnp.where(jnp.arange(values.shape[-1])[None] == action[:, None], 0.0, weight)
    return weight / jnp.maximum(weight.sum(axis=-1, keepdims=True), 1e-6)
