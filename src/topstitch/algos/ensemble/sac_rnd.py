r"""SAC-RND: a soft actor-critic that pays for what a network has not learned,

$$ b(s, a) = \frac{\lVert f(s, a) - \bar f(s, a) \rVert^2}{\sigma}, \qquad
   y = r + \gamma\big(\min_i \bar Q_i(s', a') - \alpha \log \pi(a' \mid s') - \beta_2\, b(s', a')\big), \qquad
   L_\pi = E\big[\alpha \log \pi + \beta_1\, b(s, a) - \min_i Q_i(s, a)\big], \quad a \sim \pi. $$

First a predictor $f$ is fitted, on logged pairs, to a random network $\bar f$ (the prior): it errs where none were logged. Then it stays
as it is, and its error, over the spread σ that the errors had in training, is the penalty of an agent without an ensemble. For an actor
to be able to lower it, state and action must not merely be joined: the prior modulates a net of the action by the state (FiLM, at the last
hidden layer), the predictor begins with a layer bilinear in both.

Nikulin, Kurenkov, Tarasov and Kolesnikov, *Anti-exploration by random network distillation*, ICML 2023,
https://arxiv.org/abs/2301.13616. Follows the authors' code (https://github.com/tinkoff-ai/sac-rnd) and its settings for locomotion, in the
initialisations, and in standardising states and actions for $f$ and $\bar f$ only. Differs from it in: the critics step before the actor,
as in `SAC`; the moments for standardising are those of next states too; a column that does not vary, and numbered states, are not
standardised. β is chosen by task: the authors searched 0.001 to 25 for locomotion, one weight for both; for AntMaze, with rewards times
100 and a discount of 0.999, 0.5 to 1.5 for β₁ and 0.001 to 0.1 for β₂.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ... import nets
from ...core import Algorithm, Box, Discrete, Paper, Stage, Trained, static
from ...data import Affine
from .. import steps as shared


class Novelty(eqx.Module):
    """How badly one net predicts another, which is random."""

    predictor: Trained[nets.Bilinear]
    prior: nets.Film
    obs: Affine
    action: Affine
    count: Float[Array, ""]
    mean: Float[Array, ""]
    variance: Float[Array, ""]
    "Of the errors met in training, and how many they were."
    space: Box | Discrete = static()

    def error(self, predictor, obs, action):
        action, obs = self.action(action), self.obs(nets.vector(obs, self.space))
        return ((predictor(action, obs) - self.prior(action, obs)) ** 2).sum(axis=-1)

    def __call__(self, obs, action):
        return self.error(self.predictor.model, obs, action) / jnp.sqrt(self.variance + 1e-12)

    def learned(self, batch, optimiser):
        """After one step on logged pairs."""
        errors, n = self.error(self.predictor.model, batch.obs, batch.action), len(batch)
        predictor, _ = self.predictor.descend(lambda f: (self.error(f, batch.obs, batch.action).mean(), {}), optimiser)
        total, off = self.count + n, errors.mean() - self.mean
        variance = (self.count * self.variance + n * errors.var() + off**2 * self.count * n / total) / total
        mean = self.mean + off * n / total
        return Novelty(predictor, self.prior, self.obs, self.action, total, mean, variance, self.space), {"novelty/loss": errors.mean()}


def standard(x) -> Affine:
    """To mean 0 and std 1 by column; one that does not vary is only shifted."""
    std = x.std(axis=0)
    return Affine(x.mean(axis=0), jnp.where(std > 1e-3, std, 1.0))


class State(eqx.Module):
    agent: shared.Soft
    novelty: Novelty


class SACRND(Algorithm[State]):
    paper: ClassVar = Paper(
        "Alexander Nikulin and Vladislav Kurenkov and Denis Tarasov and Sergey Kolesnikov",
        "Anti-exploration by random network distillation", "ICML", 2023, "https://arxiv.org/abs/2301.13616",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    actor_novelty: float = 1.0
    "β₁: weight of novelty in the actor's loss."
    critic_novelty: float = 1.0
    "β₂: weight of novelty in the critics' target."
    novelty_lr: float = 3e-4
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 1e-3
    "AntMaze: 3e-4."
    norm: bool = static(True)
    "Whether the critics have layer norm."
    critics: int = static(2)
    embedding: int = static(32)
    "Numbers that the predictor predicts."
    hidden: tuple[int, ...] = static((256, 256, 256))
    "Of all nets."
    novelty_steps: int = static(1000)
    "Steps of the predictor, before the agent's."
    steps: int = static(3_000_000)
    batch_size: int = static(1024)
    "AntMaze: 256."

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        ka, kf, kp = jax.random.split(key, 3)
        rows, space = data.rows(), data.spec.obs
        agent = shared.start_soft(
            data.spec, self.hidden, self.critics, self.optimiser, self.optimiser, key=ka, norm=self.norm, bias=0.1, last=3e-3,
            actor_net=dict(bias=0.1, last=1e-3, bounds=(-5.0, 2.0)),
        )  # fmt: skip
        shape = dict(x=data.spec.action.size, z=space.size, hidden=self.hidden, out=self.embedding)
        predictor = Trained.start(nets.Bilinear(**shape, key=kf), optax.adam(self.novelty_lr))
        alone = Affine(jnp.zeros(space.size), jnp.ones(space.size))
        seen, zero = standard(jnp.concatenate([rows.obs, rows.next_obs])) if isinstance(space, Box) else alone, jnp.zeros(())
        return State(agent, Novelty(predictor, nets.Film(**shape, key=kp), seen, standard(rows.action), zero, zero, zero, space))

    def stages(self):
        return Stage("distil", self.novelty_steps, self.distil, self.sample), Stage("learn", self.steps, self.update, self.sample)

    def distil(self, state, batch, *, step, key):
        novelty, info = state.novelty.learned(batch, optax.adam(self.novelty_lr))
        return State(state.agent, novelty), info

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)

        def actor_penalty(action, said):
            novelty = state.novelty(batch.obs, action).mean()
            return self.actor_novelty * novelty, {"actor/novelty": novelty}

        cost = lambda action: self.critic_novelty * state.novelty(batch.next_obs, action)
        agent, info = shared.soft_step(
            state.agent, batch, shared.soft_value(state.agent, batch.next_obs, cost=cost, key=kt), discount=self.discount,
            target_rate=self.target_rate, critic_optimiser=self.optimiser, actor_optimiser=self.optimiser, key=ka,
            actor_penalty=actor_penalty,
        )  # fmt: skip
        return State(agent, state.novelty), info

    def policy(self, state):
        return state.agent.actor.model
