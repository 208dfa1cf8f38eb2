r"""Hierarchical implicit Q-learning: one V for goals, read by two actors. The upper one says in which direction the goal lies, k steps ahead; the lower
one goes there. Near goals are where a noisy value still tells better from worse:

$$ V(s, \phi([s; g])) \text{ as in GCIVL}, \qquad
   L_{hi} = -E\,[e^{\beta_h (V(s_{t+k}, g) - V(s_t, g))} \log \pi_h(\phi([s_t; s_{t+k}]) \mid s_t, g)], $$
$$ L_{lo} = -E\,[e^{\beta (V(s_{t+1}, s_{t+k}) - V(s_t, s_{t+k}))} \log \pi_l(a \mid s_t, \phi([s_t; s_{t+k}]))], $$

with φ a vector of length √d that V learns. It acts by π_l at the direction that π_h thinks likeliest.

Park, Ghosh, Eysenbach and Levine, *HIQL: offline goal-conditioned RL with latent states as actions*, NeurIPS 2023, https://arxiv.org/abs/2307.11949.
Follows the code of Park et al. 2025 (https://github.com/seohongpark/ogbench) in losses, nets, goals and defaults. Differs from it in: the slow copy
of V has a slow φ of its own; V is updated before the actors see it; a random goal that lies within the next k steps is one on the way; means within
the box by tanh; uniform initialisation.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Markov, Paper, Spec, Trained, joined, parted, static
from ...data.device import Batch
from ...data.goals import Aim, Goals, relabelled
from .. import steps as shared


class Plan(Markov):
    """A direction, and how to go there. It is asked about an observation and a goal."""

    upper: nets.MLP
    lower: Markov
    space: Box | Discrete = static()
    "Of observations."

    def __call__(self, obs, mask=None):
        return self.lower(beside(obs, nets.lengthened(self.upper(obs)), self.space), mask)


def beside(both, direction, space):
    """What the lower actor is asked about: an observation as a vector, and a direction."""
    return jnp.concatenate([nets.vector(parted(both, space)[0], space), direction], axis=-1)


def asked(batch: Batch, value: nets.DirectedValue, space) -> Batch:
    """A batch of observations with goals, as the lower actor sees it. It is not told what followed."""
    obs = beside(batch.obs, value.direction(batch.obs), space)
    return dataclasses.replace(batch, obs=obs, next_obs=obs)


class Ways(NamedTuple):
    """Steps with the goals of V, the same with a goal k steps ahead, and pairs for the upper actor: s is the observation, g its goal, and w lies on
    the way, k steps ahead or at g where that comes before."""

    values: Batch
    lower: Batch
    goal: Array
    "[s; g]"
    way: Array
    "[s; w]"
    rest: Array
    "[w; g]"


class State(eqx.Module):
    values: shared.Reached
    upper: Trained[nets.MLP]
    lower: Trained
    aim: Aim


class HIQL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Seohong Park and Dibya Ghosh and Benjamin Eysenbach and Sergey Levine",
        "HIQL: offline goal-conditioned RL with latent states as actions", "NeurIPS", 2023, "https://arxiv.org/abs/2307.11949",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)

    expectile: float = 0.7
    "τ."
    beta: float = 3.0
    "β: sharpness of the lower actor."
    upper_beta: float = 3.0
    "β_h: sharpness of the upper actor."
    max_weight: float = 100.0
    "Ceiling of an imitation weight."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    ahead: int = static(25)
    "k: steps to where the upper actor points."
    embedding: int = static(10)
    "d: numbers of a direction."
    value_goals: tuple[float, ...] = static(Goals(current=0.2, geometric=0.5, random=0.3))
    "Shares of goals: the current observation, later ones (geometric, uniform), the episode's last, any."
    actor_goals: tuple[float, ...] = static(Goals(uniform=1.0))
    "The same for the upper actor; half of them random where episodes are to be joined."
    hidden: tuple[int, ...] = static((512, 512, 512))
    steps: int = static(1_000_000)
    batch_size: int = static(1024)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        return relabelled(episodes)

    def init(self, data, *, key):
        kv, ku, kl = jax.random.split(key, 3)
        spec, hidden, pairs = data.spec, self.hidden, data.paired.obs
        value = nets.DirectedValue(spec, hidden, self.embedding, 2, pairs=pairs, key=kv, **shared.VALUE)
        guided = Spec(Box(spec.obs.size + self.embedding), spec.action)
        return State(
            values=shared.Reached(Trained.start(value, self.optimiser), value),
            upper=Trained.start(nets.reader(pairs, hidden, self.embedding, key=ku, activation="gelu"), self.optimiser),
            lower=shared.start_goal_actor(guided, hidden, self.optimiser, key=kl),
            aim=data.aim,
        )

    def sample(self, state, data, *, key):
        kr, kv, ku = jax.random.split(key, 3)
        row, space, how = data.rows(self.batch_size, key=kr), data.spec.obs, dict(discount=self.discount)
        far, near = data.goals(row, self.value_goals, **how, key=kv), data.ahead(row, self.ahead)
        goal = data.goals(row, self.actor_goals, **how, key=ku)
        before = (goal >= row) & (goal < jnp.minimum(row + self.ahead, data.stop[row]))
        s, w, g = data.flat.all.obs[row], data.seen(jnp.where(before, goal, near)), data.seen(goal)
        pairs = (joined(*two, space) for two in ((s, g), (s, w), (w, g)))
        return Ways(data.towards(row, far, **how), data.towards(row, near, **how), *pairs)

    def update(self, state, batch, *, step, key):
        how = dict(expectile=self.expectile, discount=self.discount, target_rate=self.target_rate, optimiser=self.optimiser)
        values, info = shared.reaching_step(state.values, batch.values, **how)
        value = values.value.model
        upper, up_info = self.point(state.upper, value, batch)
        weight = ops.exp_advantage(shared.nearer(value, batch.lower), self.beta, self.max_weight)
        lower, low_info = shared.imitate(state.lower, asked(batch.lower, value, state.aim.space), weight, self.optimiser)
        return State(values, upper, lower, state.aim), info | up_info | low_info

    def point(self, upper, value, batch):
        """One step of the upper actor: a normal of standard deviation 1 around what it says."""
        before, after = shared.of_both(value, batch.goal, batch.rest).mean(axis=1)
        weight, direction = ops.exp_advantage(after - before, self.upper_beta, self.max_weight), value.direction(batch.way)

        def loss(net):
            loss = (weight * 0.5 * ((net(batch.goal) - direction) ** 2).sum(axis=-1)).mean()
            return loss, {"upper/loss": loss, "upper/weight": weight.mean()}

        return upper.descend(loss, self.optimiser)

    def policy(self, state):
        return state.aim.policy(Plan(state.upper.model, state.lower.model, state.aim.space))
