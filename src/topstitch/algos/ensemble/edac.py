r"""EDAC: SAC-N whose critics are also pushed to disagree about which way to go,

$$ L_Q = \sum_i L_{TD}(Q_i) + \eta\, E\Big[\tfrac{1}{N-1} \textstyle\sum_{i \ne j}
   \cos\big(\nabla_a Q_i(s, a), \nabla_a Q_j(s, a)\big)\Big] \quad \text{at logged } (s, a). $$

Critics whose gradients with respect to the action point one way rise together along it, and their minimum with them; where the
gradients scatter, whichever way the actor leaves the data some critic falls. So far fewer critics give the same pessimism.

An, Moon, Kim and Song, *Uncertainty-based offline reinforcement learning with diversified Q-ensemble*, NeurIPS 2021,
https://arxiv.org/abs/2110.01548. Follows the authors' code as `SACN` does, in adding ordered pairs, and in taking the gradients at
logged actions. Differs from it in: the step on the temperature, as in `SAC`. Where actions have one dimension a direction is a sign,
which has no slope: there it is `SACN` whatever η.
"""

from typing import ClassVar

import jax
import optax

from ... import ops
from ...core import Algorithm, Box, Paper, static
from .. import steps as shared


class EDAC(Algorithm[shared.Soft]):
    paper: ClassVar = Paper(
        "Gaon An and Seungyong Moon and Jang-Hyun Kim and Hyun Oh Song",
        "Uncertainty-based offline reinforcement learning with diversified Q-ensemble", "NeurIPS", 2021, "https://arxiv.org/abs/2110.01548",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")

    eta: float = 1.0
    "η: weight of diversity (medium-expert 5, Adroit 10 to 1000)."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actor_lr: float = 3e-4
    "Adroit: 3e-5."
    critics: int = static(10)
    "N (hopper and most of Adroit 50)."
    hidden: tuple[int, ...] = static((256, 256, 256))
    steps: int = static(3_000_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.actor_lr)}

    def init(self, data, *, key):
        return shared.start_soft(data.spec, self.hidden, self.critics, **self.optimisers, key=key, bias=0.1, last=3e-3)

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)

        def penalty(q):
            slope = q.ask(lambda member: jax.grad(lambda action: member(batch.obs, action).sum())(batch.action))
            alignment = ops.alignment(slope).mean()
            return self.eta * alignment, {"critic/cosine": alignment / self.critics}

        return shared.soft_step(
            state, batch, shared.soft_value(state, batch.next_obs, key=kt), discount=self.discount, target_rate=self.target_rate,
            **self.optimisers, key=ka, penalty=penalty,
        )  # fmt: skip

    def policy(self, state):
        return state.actor.model
