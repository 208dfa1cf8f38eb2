r"""Quasimetric RL: steps to a goal are a distance that obeys the triangle inequality. So push all distances apart, and hold only those of single
logged steps at 1; what the inequality then allows is the shortest way:

$$ \max_d\; E_{s, g}\,[\varphi(d(s, g))] \quad\text{subject to}\quad E\,[\max(d(s, s') - 1, 0)^2] \le \varepsilon, \qquad
   \varphi(d) = -100\, \mathrm{softplus}(5 - d / 100), $$

over all pairs of logged observations, by a Lagrange multiplier λ. d is a quasimetric by the form of its net, which alone joins what was logged apart: no
value is bootstrapped. A model of the next embedding lets vectors climb -d,

$$ L_T = E\,[d(z', \hat z) + d(\hat z, z')] / 2, \quad \hat z = z + T(z, a), \qquad L_\pi = E\,[d(z + T(z, \pi(s, g)), z_g)] / E|d| - \alpha E\,[\log \pi(a \mid s, g)], $$

and choices are imitated by how much nearer they led. It is for worlds that answer an action always alike.

Wang, Torralba, Isola and Zhang, *Optimal goal-reaching reinforcement learning via quasimetric learning*, ICML 2023, https://arxiv.org/abs/2304.01203.
Follows the code of Park et al. 2025 (https://github.com/seohongpark/ogbench) in losses, nets, goals and defaults. Differs from it in: a step
that takes longer is held at how long it takes; what truly ended an episode leads nowhere, and is left out of the steps; the distance is updated
before the actor sees it; means within the box by tanh; uniform initialisation.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Paper, Trained, parted, static
from ...data.goals import Aim, Goals, relabelled
from .. import steps as shared


class Space(eqx.Module):
    """The distance, and where in it an action leads."""

    distance: nets.Quasimetric
    move: nets.MLP | None
    "T: from an embedding and an action to the change of the embedding. `None` where actions are imitated by weight."

    def after(self, z, action):
        """The embedding that follows."""
        return z + self.move(jnp.concatenate([z, action], axis=-1))  # pyright: ignore[reportOptionalCall]


class State(eqx.Module):
    world: Trained[Space]
    log_multiplier: Trained[Array]
    actor: Trained
    aim: Aim


class QRL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Tongzhou Wang and Antonio Torralba and Phillip Isola and Amy Zhang",
        "Optimal goal-reaching reinforcement learning via quasimetric learning", "ICML", 2023, "https://arxiv.org/abs/2304.01203",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)

    threshold: float = 0.05
    "ε: the mean square of how much longer than 1 a single step may be."
    alpha: float = 0.003
    "α: weight of imitation where the actor climbs."
    beta: float = 3.0
    "β: sharpness where it imitates."
    max_weight: float = 100.0
    "Ceiling of an imitation weight."
    lr: float = 3e-4
    dual_lr: float = 3e-4
    "Of λ."
    improvement: Literal["ascent", "weighted"] = static("ascent")
    "How vectors are learned; choices are always weighted."
    embedding: int = static(512)
    "Numbers of an embedding, in parts of 8."
    actor_goals: tuple[float, ...] = static(Goals(uniform=1.0))
    "Shares of the actor's goals: the current observation, later ones (geometric, uniform), the episode's last, any."
    hidden: tuple[int, ...] = static((512, 512, 512))
    steps: int = static(1_000_000)
    batch_size: int = static(1024)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        return relabelled(episodes)

    def init(self, data, *, key):
        kd, km, ka = jax.random.split(key, 3)
        actor = shared.start_goal_actor(data.paired, self.hidden, self.optimiser, key=ka)
        distance = nets.Quasimetric(data.spec.obs, self.hidden, self.embedding, key=kd, **shared.VALUE)
        sizes = (self.embedding + data.spec.action.size, *self.hidden, self.embedding)
        move = nets.MLP(sizes, key=km, **shared.VALUE) if shared.ascends(self, actor) else None
        multiplier = Trained.start(jnp.zeros(()), optax.adam(self.dual_lr))
        return State(Trained.start(Space(distance, move), self.optimiser), multiplier, actor, data.aim)

    def sample(self, state, data, *, key):
        """(steps, any observations, the same steps with the actor's goals)."""
        kr, kf, ka = jax.random.split(key, 3)
        row = data.rows(self.batch_size, key=kr)
        far = data.seen(data.rows(self.batch_size, key=kf))
        return data.flat.all[row], far, data.towards(row, data.goals(row, self.actor_goals, key=ka))

    def update(self, state, batch, *, step, key):
        rows, far, own = batch
        leads = 1 - rows.terminal
        long = 1.0 if rows.duration is None else rows.duration
        multiplier = jnp.exp(state.log_multiplier.model)

        def loss(world):
            d = world.distance
            here, there = d.embed(rows.obs), d.embed(rows.next_obs)
            apart, near = d.between(here, d.embed(far)), d.between(here, there)
            spread = (100 * jax.nn.softplus(5 - apart / 100)).mean()
            excess = (leads * jnp.maximum(near - long, 0) ** 2).mean()
            info = {"critic/spread": apart.mean(), "critic/near": near.mean(), "critic/excess": excess, "critic/multiplier": multiplier}
            missed = 0.0
            if world.move is not None:
                said = world.after(here, rows.action)
                missed = (leads * (d.between(there, said) + d.between(said, there))).mean() / 2
                info["critic/missed"] = missed
            return spread + multiplier * excess + missed, info

        world, info = state.world.descend(loss, self.optimiser)
        dual = lambda log: (jnp.exp(log) * (self.threshold - info["critic/excess"]), {})
        log_multiplier, _ = state.log_multiplier.descend(dual, optax.adam(self.dual_lr))
        actor, pi_info = self.improve(state.actor, world.model, own)
        return State(world, log_multiplier, actor, state.aim), info | pi_info

    def improve(self, actor, world, batch):
        """One step of the actor."""
        d = world.distance
        if world.move is not None:
            here, goal = (d.embed(x) for x in parted(batch.obs, d.space))
            return shared.ascend(actor, batch, lambda action: -d.between(world.after(here, action), goal), self.alpha, self.optimiser)
        lost = (batch.terminal > 0) & (batch.reward < 0)
        weight = jnp.where(lost, 0.0, ops.exp_advantage(d(batch.obs) - d(batch.next_obs), self.beta, self.max_weight))
        return shared.imitate(actor, batch, weight, self.optimiser)

    def policy(self, state):
        return state.aim.policy(state.actor.model)
