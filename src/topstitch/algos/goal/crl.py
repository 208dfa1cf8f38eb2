r"""Contrastive RL: a classifier tells the observation that did follow from those that followed other steps. Its logit is a value,

$$ L_f = -E_i\Big[\log \sigma(f(s_i, a_i, g_i)) + \sum_{j \ne i} \log \sigma(-f(s_i, a_i, g_j))\Big], \qquad
   f^* = \log \frac{p_\gamma(g \mid s, a)}{(B - 1)\, p(g)}, $$

with $g_i$ a later observation of the episode, drawn as the discount weighs it, and B steps in a batch: f* is the logarithm of how much more of its
discounted future the logger spends at g after a in s than usual. Vectors climb f and stay near what was done; choices are imitated by the advantage over a
second f that is not told the action. Nothing is bootstrapped, so f is the value of the logger, not of the best: it cannot join episodes but by what
φ and ψ have in common between states.

Eysenbach, Zhang, Levine and Salakhutdinov, *Contrastive learning as goal-conditioned reinforcement learning*, NeurIPS 2022,
https://arxiv.org/abs/2206.07568. Follows the code of Park et al. 2025 (https://github.com/seohongpark/ogbench) in losses, nets, goals and defaults.
Differs from it in: the critics are updated before the actor sees them; means within the box by tanh; uniform initialisation.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Paper, Trained, static
from ...data.goals import Aim, Goals, relabelled
from .. import steps as shared


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    value: Trained[nets.Contrast] | None
    "Not told the action; where actions are imitated by weight."
    actor: Trained
    aim: Aim


class CRL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Benjamin Eysenbach and Tianjun Zhang and Sergey Levine and Ruslan Salakhutdinov",
        "Contrastive learning as goal-conditioned reinforcement learning", "NeurIPS", 2022, "https://arxiv.org/abs/2206.07568",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)

    alpha: float = 0.1
    "α: weight of imitation where the actor climbs."
    beta: float = 3.0
    "β: sharpness where it imitates."
    max_weight: float = 100.0
    "Ceiling of an imitation weight."
    discount: float = 0.99
    lr: float = 3e-4
    improvement: Literal["ascent", "weighted"] = static("ascent")
    "How vectors are learned; choices are always weighted."
    embedding: int = static(512)
    "Numbers of φ and of ψ."
    value_goals: tuple[float, ...] = static(Goals(geometric=1.0))
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
        kq, kv, ka = jax.random.split(key, 3)
        make = lambda key, acting=True: nets.Contrast(data.spec, self.hidden, self.embedding, key=key, acting=acting, **shared.VALUE)
        critic = Trained.start(nets.Ensemble.of(make, self.critics, key=kq), self.optimiser)
        actor = shared.start_goal_actor(data.paired, self.hidden, self.optimiser, key=ka)
        value = None if shared.ascends(self, actor) else Trained.start(make(kv, acting=False), self.optimiser)
        return State(critic, value, actor, data.aim)

    def sample(self, state, data, *, key):
        return shared.towards_goals(self, data, key=key)

    def update(self, state, batch, *, step, key):
        batch, own = batch
        critic, info = self.contrast(state.critic, lambda q: q.ask(lambda one: one.crossed(batch.obs, batch.action)), "critic")
        value = state.value
        if value is None:
            q = lambda action: critic(own.obs, action).min(axis=0)
            actor, pi_info = shared.ascend(state.actor, own, q, self.alpha, self.optimiser)
        else:
            value, v_info = self.contrast(value, lambda v: v.crossed(batch.obs)[None], "value")
            advantage = critic(own.obs, own.action).min(axis=0) - value(own.obs)
            weight = ops.exp_advantage(advantage, self.beta, self.max_weight)
            actor, pi_info = shared.imitate(state.actor, own, weight, self.optimiser)
            info |= v_info
        return State(critic, value, actor, state.aim), info | pi_info

    def contrast(self, trained: Trained, crossed, name: str):
        """One step of a classifier: `crossed(model)`, (nets, n, n), should be high on the diagonal and low elsewhere."""

        def loss(model):
            f = crossed(model)
            own = jnp.broadcast_to(jnp.eye(f.shape[1]), f.shape)
            loss = optax.sigmoid_binary_cross_entropy(f, own).mean()
            return loss, {f"{name}/loss": loss, f"{name}/right": ((f > 0) == (own > 0)).mean()}

        return trained.descend(loss, self.optimiser)

    def policy(self, state):
        return state.aim.policy(state.actor.model)
