r"""AWR: advantage-weighted regression. As MARWIL, but what an action led to is a λ-return, which trusts V beyond the near future,

$$ L_V = E\,[(G^\lambda - V(s))^2], \qquad L_\pi = -E\,[\min(e^{\beta \tilde A}, w_{\max}) \log \pi(a \mid s)], \qquad A = G^\lambda - V(s), $$

$\tilde A$ being A less its mean, divided by its standard deviation over the log. λ = 1 is the logged return, λ = 0 one step of
bootstrapping; V is that of whoever made the log for any λ, so the policy is one step better than practice.

Peng, Kumar, Zhang and Levine, *Advantage-weighted regression: simple and scalable off-policy reinforcement learning*, 2019,
https://arxiv.org/abs/1910.00177. Follows the authors' code (https://github.com/xbpeng/awr) in standardising advantages with β = 1 (the paper:
β = 20, not standardised) and in returns of the whole log computed anew every `every` steps, with V as it was then. Differs from it in: V and the
policy learn at each step, where theirs take turns; Adam instead of momentum; a learned standard deviation; no penalty on means outside of the
box, since there are none.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Stage, Trained, static
from ...data.device import Transitions
from .. import steps as shared


class Followed(Transitions):
    """A log whose rows know where their episodes end."""

    ends: Float[Array, " n"]  # pyright: ignore[reportGeneralTypeIssues] (`spec` has no default)
    "1 at the last step of an episode."


class State(eqx.Module):
    actor: Trained[nets.BoxGaussian | nets.Categories | nets.Several]
    value: Trained[nets.Value]
    returns: Float[Array, " n"]
    "λ-returns of the whole log, as V saw them last."
    mean: Float[Array, ""]
    std: Float[Array, ""]
    "Of the advantages then."


class AWR(Algorithm[State]):
    paper: ClassVar = Paper(
        "Xue Bin Peng and Aviral Kumar and Grace Zhang and Sergey Levine",
        "Advantage-weighted regression: simple and scalable off-policy reinforcement learning", "arXiv 1910.00177", 2019,
        "https://arxiv.org/abs/1910.00177",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "bait")

    beta: float = 1.0
    "β: how sharply imitation prefers good actions, in standard deviations of the advantage."
    max_weight: float = 20.0
    "Ceiling of an imitation weight."
    trace: float = 0.95
    "λ: how long rewards are believed before V is."
    discount: float = 0.99
    lr: float = 3e-4
    every: int = static(1000)
    "Steps from one look at the whole log to the next."
    hidden: tuple[int, ...] = static((128, 64))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        log = episodes.transitions()
        return Followed(log.all, log.view, log.spec, jnp.asarray(episodes.terminal | episodes.truncated, jnp.float32))

    def stages(self):
        return (Stage("learn", self.steps, self.update, self.sample, refresh=self.look),)

    def init(self, data, *, key):
        ka, kv = jax.random.split(key)
        actor, value = nets.stochastic(data.spec, self.hidden, key=ka), nets.Value(data.spec, self.hidden, key=kv)
        zero = jnp.zeros(())
        return State(Trained.start(actor, self.optimiser), Trained.start(value, self.optimiser), jnp.zeros(len(data.rows())), zero, zero)

    def look(self, state, data, *, step, key):
        """Every `every` steps: the returns and the advantages of the whole log."""

        def now():
            rows = data.rows()
            ask = lambda obs: jax.lax.map(state.value.model, obs, batch_size=4096)
            next_value, rate = ask(rows.next_obs), rows.discount(self.discount)
            returns = ops.lambda_returns(rows.reward, rows.terminal, next_value, data.ends, rate, self.trace)
            advantage = returns - ask(rows.obs)
            return dataclasses.replace(state, returns=returns, mean=advantage.mean(), std=advantage.std())

        return jax.lax.cond(step % self.every == 0, now, lambda: state)

    def sample(self, state, data, *, key):
        index = jax.random.randint(key, (self.batch_size,), 0, len(data))
        return data.rows()[index], state.returns[index]

    def update(self, state, batch, *, step, key):
        rows, returns = batch
        value, v_info = shared.fit_value(state.value, rows, returns, self.optimiser)
        advantage = (returns - value(rows.obs) - state.mean) / (state.std + 1e-5)
        weight = ops.exp_advantage(advantage, self.beta, self.max_weight)
        actor, info = shared.imitate(state.actor, rows, weight, self.optimiser)
        return dataclasses.replace(state, actor=actor, value=value), v_info | info

    def policy(self, state):
        return state.actor.model
