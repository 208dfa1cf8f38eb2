r"""IDQL: the values of IQL, and a policy that draws actions from a diffusion model of behaviour and keeps the best by Q.

$$ a = \arg\max_{a_i} \min_j \bar Q_j(s, a_i), \quad a_1 \dots a_N \sim \mu_\theta(\cdot \mid s). $$

IQL's expectile loss implies a policy: behaviour with the weight τ where $Q > V$ and 1 - τ elsewhere. With `implicit` that one acts,
by drawing among the N with those weights; the best of N is its sharper cousin. One model of behaviour serves any N.

Hansen-Estruch, Kostrikov, Janner, Kuba and Levine, *IDQL: implicit Q-learning as an actor-critic method with diffusion policies*,
2023, https://arxiv.org/abs/2304.10573. Follows the authors' code in residual nets with layer norm, AdamW with a cosine decay,
averaged weights for acting, and layer norm in V alone. Differs from it in: no dropout; uniform initialisation.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets
from ...core import Algorithm, Box, Paper, Trained, polyak, static
from .. import steps as shared


class State(eqx.Module):
    values: shared.Implicit
    behaviour: Trained[nets.Diffusion]
    average: nets.Diffusion


class Weighted(nets.Generator):
    """One of n draws from behaviour, with weight τ where it is better than V and 1 - τ elsewhere. Without a key the best of them."""

    best: nets.BestOf
    value: nets.Value
    expectile: Any

    @property
    def noise(self):
        return self.best.noise

    def still(self):
        return self.best.still()

    def decode(self, obs, noise):
        return self.best.decode(obs, noise)

    def sample(self, obs, *, key):
        ka, kw = jax.random.split(key)
        many = nets.repeated(obs, self.best.n)
        actions = self.best.behaviour.sample(many, key=ka)
        better = self.best.critic(many, actions).min(axis=0) > self.value(many)
        log_weight = jnp.log(jnp.where(better, self.expectile, 1 - self.expectile))
        return nets.best(actions, log_weight + jax.random.gumbel(kw, log_weight.shape))


class IDQL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Philippe Hansen-Estruch and Ilya Kostrikov and Michael Janner and Jakub Grudzien Kuba and Sergey Levine",
        "IDQL: implicit Q-learning as an actor-critic method with diffusion policies", "arXiv 2304.10573", 2023,
        "https://arxiv.org/abs/2304.10573",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    expectile: float = 0.7
    "τ: how far above the mean of Q the value sits (0.9 for AntMaze)."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    average_rate: float = 0.001
    "How fast the averaged weights of the behaviour model, which act, follow the learned ones."
    candidates: int = static(64)
    "N: draws from behaviour to choose from. 1 is imitation."
    implicit: bool = static(False)
    "Whether to draw among the candidates by the weights that the expectile implies, instead of taking the best."
    sampling_steps: int = static(5)
    "From noise to action."
    norm: bool = static(True)
    "Whether V has layer norm."
    decay: bool = static(True)
    "Whether the behaviour model's learning rate falls to 0 along a cosine over `steps`."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    behaviour_hidden: tuple[int, ...] = static((256, 256, 256))
    "Of the behaviour model: one residual block for each; all of one width."
    steps: int = static(3_000_000)
    batch_size: int = static(512)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    @property
    def behaviour_optimiser(self):
        return optax.adamw(optax.cosine_decay_schedule(self.lr, self.steps) if self.decay else self.lr)

    def init(self, data, *, key):
        kv, kb = jax.random.split(key)
        net = nets.Diffusion(data.spec, self.behaviour_hidden, self.sampling_steps, key=kb)
        values = shared.start_implicit(data.spec, self.hidden, self.critics, self.optimiser, key=kv, norm=self.norm)
        return State(values, Trained.start(net, self.behaviour_optimiser), net)

    def update(self, state, batch, *, step, key):
        values, _, info = shared.implicit_step(
            state.values, batch, expectile=self.expectile, discount=self.discount, target_rate=self.target_rate, optimiser=self.optimiser
        )
        behaviour, b_info = shared.fit_behaviour(state.behaviour, batch, self.behaviour_optimiser, key=key)
        return State(values, behaviour, polyak(state.average, behaviour.model, self.average_rate)), info | b_info

    def policy(self, state):
        best = nets.BestOf(state.average, state.values.target, self.candidates)
        return Weighted(best, state.values.value.model, jnp.asarray(self.expectile)) if self.implicit else best
