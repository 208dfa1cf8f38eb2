r"""COMBO: rollouts in a learned model, and critics that pay for valuing them above the log,

$$ \alpha\,\big(E_{s \sim \rho} \log \textstyle\int e^{Q(s, a)}\,da - E_{(s, a) \sim D}\, Q(s, a)\big), $$

the gap of `CQL`, but with its first half over what was imagined (or over the whole mixed batch) and its second over logged
rows only. It needs no measure of uncertainty: where the model goes wrong is where rollouts leave the data, and there Q is low.

Yu, Kumar, Rafailov, Rajeswaran, Levine and Finn, *COMBO: conservative offline model-based policy optimization*, NeurIPS 2021,
https://arxiv.org/abs/2102.08363. The authors published no code; what the paper leaves open follows OfflineRL-Kit
(https://github.com/yihaosun1124/OfflineRL-Kit): the integral by importance sampling, no entropy in the backup, $\rho$ the whole
batch. Differs from it in: an actor of two hidden layers, not three, like the critics; the estimate of the integral is divided by
the number of samples, a constant that changes no gradient; the models, as in `MOPO`.
"""

from typing import ClassVar, Literal

import jax
import optax

from ... import ops
from ...core import Algorithm, Box, Paper, Stage, static
from .. import steps as shared


class COMBO(Algorithm[shared.Dreaming]):
    paper: ClassVar = Paper(
        "Tianhe Yu and Aviral Kumar and Rafael Rafailov and Aravind Rajeswaran and Sergey Levine and Chelsea Finn",
        "COMBO: conservative offline model-based policy optimization", "NeurIPS", 2021, "https://arxiv.org/abs/2102.08363",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    observations: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "bait")

    alpha: float = 1.0
    "Weight of the conservative gap (D4RL: 0.5, 1 or 5)."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actor_lr: float = 1e-4
    model_lr: float = 1e-3
    model_decay: float = 5e-5
    "Weight of the squares of the model's weights."
    real: float = static(0.5)
    "Share of logged rows in a batch."
    horizon: int = static(5)
    "h: steps of a rollout."
    rollouts: int = static(50_000)
    "Rollouts at a time."
    every: int = static(1000)
    "Steps from one set of rollouts to the next."
    retain: int = static(5)
    "Sets of rollouts that are kept."
    termination: str = static("none")
    "When an imagined episode ends: a name in `worlds.terminations`. With the wrong one the method fails."
    pushed: Literal["batch", "imagined"] = static("batch")
    "ρ: the observations at which values are pushed down."
    entropy_backup: bool = static(False)
    "Whether the target counts entropy, as SAC's does."
    actions_sampled: int = static(10)
    "Actions of each of the three kinds in the estimate of the integral."
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
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.actor_lr)}

    def stages(self):
        return shared.model_stage(self), Stage("learn", self.steps, self.update, self.sample, refresh=self.refill)

    def init(self, data, *, key):
        if not 0 < round(self.real * self.batch_size) < self.batch_size + (self.pushed == "batch"):
            raise ValueError(f"real is {self.real}; of a batch of {self.batch_size} at least one row must be logged, and with "
                             'pushed="imagined" one imagined.')  # fmt: skip
        return shared.start_dreaming(self, data, key=key)

    def refill(self, state, data, *, step, key):
        return shared.refill(self, state, data, lambda reward, mean, std: (reward, False), step=step, key=key)

    def sample(self, state, data, *, key):
        return shared.mixed(self, state, data, key=key)

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)  # as in SAC
        agent, logged = state.agent, round(self.real * self.batch_size)
        down, up = batch if self.pushed == "batch" else batch[logged:], batch[:logged]
        values, density = shared.unlogged(agent, down, self.actions_sampled, key=key)

        def penalty(q):
            high = jax.vmap(ops.soft_maximum, in_axes=(0, None))(values(q), density).mean(axis=1)
            gap = high - q(up.obs, up.action).mean(axis=1)
            return self.alpha * gap.sum(), {"critic/gap": gap.mean()}

        next_value = shared.soft_value(agent, batch.next_obs, entropy=self.entropy_backup, key=kt)
        agent, info = shared.soft_step(
            agent, batch, next_value, discount=self.discount, target_rate=self.target_rate, **self.optimisers, key=ka, penalty=penalty
        )
        return shared.Dreaming(agent, state.dynamics, state.imagined), info

    def policy(self, state):
        return state.agent.actor.model
