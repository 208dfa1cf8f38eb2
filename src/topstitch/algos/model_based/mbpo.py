r"""MBPO: learn a model of the world from the log, and train a soft actor-critic mostly on short rollouts inside it,

$$ s_0 \sim D, \quad a_t \sim \pi(\cdot \mid s_t), \quad (s_{t+1}, r_t) \sim \hat p_i(\cdot \mid s_t, a_t), \quad t < h, $$

each step from a random elite $i$ of an ensemble of Gaussians. Online, the world corrects the model where the policy goes. On a
fixed log nothing does, and the actor is trained to find where the model errs in its favour: the baseline that MOPO, MOReL and
COMBO each repair in their own way.

Janner, Fu, Zhang and Levine, *When to trust your model: model-based policy optimization*, NeurIPS 2019,
https://arxiv.org/abs/1906.08253. Here as the offline version of Yu et al. 2020 (https://arxiv.org/abs/2005.13239): one model
fitted to the log before the policy, and their settings; it is `MOPO` without the penalty. Differs from the authors' code in:
what `MOPO` differs in.
"""

from typing import ClassVar

import jax
import optax

from ...core import Algorithm, Box, Paper, Stage, static
from .. import steps as shared


class MBPO(Algorithm[shared.Dreaming]):
    paper: ClassVar = Paper(
        "Michael Janner and Justin Fu and Marvin Zhang and Sergey Levine", "When to trust your model: model-based policy optimization",
        "NeurIPS", 2019, "https://arxiv.org/abs/1906.08253",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    observations: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority")
    fails: ClassVar = ("bait",)

    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    model_lr: float = 1e-3
    model_decay: float = 5e-5
    "Weight of the squares of the model's weights."
    real: float = static(0.05)
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
        return shared.refill(self, state, data, lambda reward, mean, std: (reward, False), step=step, key=key)

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
