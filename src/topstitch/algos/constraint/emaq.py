r"""EMaQ: Q-learning whose maximum is over N draws from a model of behaviour, and nothing else,

$$ y = r + \gamma\, E_{a_1 \dots a_N \sim \beta(\cdot \mid s')}\big[\max_{i \le N} \bar Q(s', a_i)\big], \qquad
   \bar Q = \lambda \min_j \bar Q_j + (1 - \lambda) \max_j \bar Q_j , $$

acting with the best of N draws too: BCQ without perturbation. N says how far it may improve on behaviour: 1 evaluates it, infinity is the best
of what it does at all. For discrete actions the expectation over the draws is exact (`ops.best_of`); for continuous ones it is one set of draws
from an autoregressive density, as in the paper: `BC`'s, one dimension after another.

Ghasemipour, Schuurmans and Gu, *EMaQ: expected-max Q-learning operator for simple yet effective offline and online RL*, ICML 2021,
https://arxiv.org/abs/2007.11091. There is no authors' code that we know of, and of the paper's appendix nothing could be read when this was written. Differs
from the paper in: a net of its own for every dimension, of flat bins; two critics; and its sizes and rates.
"""

from typing import ClassVar

import equinox as eqx
import jax
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Paper, Stage, Trained, polyak, static
from .. import steps as shared


class State(eqx.Module):
    behaviour: Trained[nets.Autoregressive | nets.Categories]
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble


class EMaQ(Algorithm[State]):
    paper: ClassVar = Paper(
        "Seyed Kamyar Seyed Ghasemipour and Dale Schuurmans and Shixiang Shane Gu",
        "EMaQ: expected-max Q-learning operator for simple yet effective offline and online RL", "ICML", 2021,
        "https://arxiv.org/abs/2007.11091",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    lower_weight: float = 1.0
    "λ: weight of the lowest critic against the highest."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    candidates: int = static(32)
    "N: draws from behaviour to take the best of, in learning and in acting."
    bins: int = static(64)
    "Of each dimension of behaviour."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    behaviour_hidden: tuple[int, ...] = static((256, 256))
    behaviour_steps: int = static(500_000)
    "Steps of the model of behaviour, before those of the values."
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def stages(self):
        return Stage("behaviour", self.behaviour_steps, self.imitate, self.sample), Stage("learn", self.steps, self.update, self.sample)

    def init(self, data, *, key):
        kb, kq = jax.random.split(key)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        if isinstance(data.spec.action, Box):
            behaviour = nets.Autoregressive(data.spec, self.behaviour_hidden, key=kb, bins=self.bins)
        else:
            behaviour = nets.Categories(data.spec, self.behaviour_hidden, key=kb)
        return State(Trained.start(behaviour, self.optimiser), Trained.start(q, self.optimiser), q)

    def imitate(self, state, batch, *, step, key):
        behaviour, info = shared.fit_behaviour(state.behaviour, batch, self.optimiser, key=key)
        return State(behaviour, state.critic, state.target), info

    def update(self, state, batch, *, step, key):
        goal = ops.td_target(batch.reward, batch.terminal, self.expected_maximum(state, batch, key), batch.discount(self.discount))
        critic, info = shared.fit_critics(state.critic, batch, goal, self.optimiser)
        return State(state.behaviour, critic, polyak(state.target, critic.model, self.target_rate)), info

    def expected_maximum(self, state, batch, key):
        """(rows,): of the target critics over N draws at the next observations."""
        behaviour, obs = state.behaviour.model, batch.next_obs
        if isinstance(behaviour, nets.Categories):
            values = ops.soft_clipped(state.target.every(obs), self.lower_weight)
            return (ops.best_of(values, behaviour(obs, batch.next_mask).probs(), self.candidates) * values).sum(axis=-1)
        many = nets.repeated(obs, self.candidates)
        return ops.soft_clipped(state.target(many, behaviour(many).sample(key)), self.lower_weight).max(axis=0)

    def policy(self, state):
        kind = nets.BestOfDraws if isinstance(state.behaviour.model, nets.Categories) else nets.BestOf
        return kind(state.behaviour.model, state.critic.model, self.candidates)
