r"""MOPO: rollouts in a learned model, where every imagined reward is lowered by how unsure the models are,

$$ \tilde r(s, a) = \hat r(s, a) - \lambda\, u(s, a), \qquad u = \max_i \lVert \sigma_i(s, a) \rVert_2, $$

$\sigma_i$ being the noise that model $i$ of the ensemble expects in the next observation and the reward. A soft actor-critic
learns from these rollouts and a few logged rows: it may leave the data where the models are sure, and pays where they are not.

Yu, Thomas, Yu, Ermon, Zou, Levine, Finn and Ma, *MOPO: model-based offline policy optimization*, NeurIPS 2020,
https://arxiv.org/abs/2005.13239. Follows the authors' code in the ensemble (7 models, 5 elites, rollouts from a random elite at
each step, the penalty over all models) and in measuring models on at most 1000 rows. Differs from it in: targets of the
models are standardised, as questions are, and errors compared in those units; bounds of the log variance for each model; one
weight decay for all layers where theirs grows from 2.5e-5 to 1e-4; imagined observations are held within the range of the log
widened by its width; an entropy target of $-|A|$ (theirs: -3) and the step on the temperature, as in `SAC`. Its penalty is in the units in which the data are seen.
"""

from typing import ClassVar, Literal

import jax
import optax

from ... import ops
from ...core import Algorithm, Box, Paper, Stage, static
from .. import steps as shared


class MOPO(Algorithm[shared.Dreaming]):
    paper: ClassVar = Paper(
        "Tianhe Yu and Garrett Thomas and Lantao Yu and Stefano Ermon and James Zou and Sergey Levine and Chelsea Finn and Tengyu Ma",
        "MOPO: model-based offline policy optimization", "NeurIPS", 2020, "https://arxiv.org/abs/2005.13239",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    observations: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority")

    penalty: float = 1.0
    "λ: what a unit of uncertainty costs (D4RL: 0.5 to 5)."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    model_lr: float = 1e-3
    model_decay: float = 5e-5
    "Weight of the squares of the model's weights."
    real: float = static(0.05)
    "Share of logged rows in a batch."
    horizon: int = static(5)
    "h: steps of a rollout (D4RL: 1 or 5)."
    rollouts: int = static(50_000)
    "Rollouts at a time."
    every: int = static(1000)
    "Steps from one set of rollouts to the next."
    retain: int = static(5)
    "Sets of rollouts that are kept."
    termination: str = static("none")
    "When an imagined episode ends: a name in `worlds.terminations`. With the wrong one the method fails."
    uncertainty: Literal["noise", "spread"] = static("noise")
    "u: the largest noise that a model expects, or how far the models' means scatter."
    models: int = static(7)
    elites: int = static(5)
    "Models, best on rows held out, that rollouts are drawn from."
    held_out: int = static(1000)
    "Rows, but at most a fifth of the log, that measure the models."
    patience: int = static(5)
    "Passes over the log without an improvement after which the models are done."
    model_hidden: tuple[int, ...] = static((200, 200, 200, 200))
    model_steps: int = static(300_000)
    "At most: the models may be done before."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(500_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.lr)}

    def stages(self):
        return shared.model_stage(self), Stage("learn", self.steps, self.update, self.sample, refresh=self.refill)

    def init(self, data, *, key):
        return shared.start_dreaming(self, data, key=key)

    def refill(self, state, data, *, step, key):
        def judge(reward, mean, std):
            unsure = ops.largest_noise(std) if self.uncertainty == "noise" else ops.spread(mean)
            return reward - self.penalty * unsure, False

        return shared.refill(self, state, data, judge, step=step, key=key)

    def sample(self, state, data, *, key):
        return shared.mixed(self, state, data, key=key)

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)
        agent, info = shared.soft_step(
            state.agent, batch, shared.soft_value(state.agent, batch.next_obs, key=kt), discount=self.discount,
            target_rate=self.target_rate, **self.optimisers, key=ka,
        )  # fmt: skip
        return shared.Dreaming(agent, state.dynamics, state.imagined), info

    def policy(self, state):
        return state.agent.actor.model
