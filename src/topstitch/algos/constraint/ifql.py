r"""IFQL: IDQL with a flow in place of the diffusion model: the values of IQL, and the best of N draws from a flow of behaviour,

$$ a = \arg\max_{a_i} \min_j Q_j(s, a_i), \quad a_1 \dots a_N \sim \mu_\theta(\cdot \mid s). $$

Park, Li and Levine, *Flow Q-learning*, ICML 2025, https://arxiv.org/abs/2502.02538, who compare FQL with it. Follows the authors'
code in deep nets, layer norm in both values, and the online critics for choosing. Differs from it in: Q learns towards V as it is
after its step, as in IQL.
"""

from typing import ClassVar

import equinox as eqx
import jax
import optax

from ... import nets
from ...core import Algorithm, Box, Paper, Trained, static
from .. import steps as shared


class State(eqx.Module):
    values: shared.Implicit
    behaviour: Trained[nets.Flow]


class IFQL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Seohong Park and Qiyang Li and Sergey Levine", "Flow Q-learning", "ICML", 2025, "https://arxiv.org/abs/2502.02538"
    )
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    expectile: float = 0.9
    "τ: how far above the mean of Q the value sits."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    candidates: int = static(32)
    "N: draws from behaviour to choose from. 1 is imitation."
    sampling_steps: int = static(10)
    "From noise to action."
    norm: bool = static(True)
    "Whether the values have layer norm."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((512, 512, 512, 512))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        kv, kb = jax.random.split(key)
        how = dict(activation="gelu", norm=self.norm)
        flow = nets.Flow(data.spec, self.hidden, self.sampling_steps, key=kb)
        values = shared.start_implicit(data.spec, self.hidden, self.critics, self.optimiser, key=kv, critic_net=how, **how)
        return State(values, Trained.start(flow, self.optimiser))

    def update(self, state, batch, *, step, key):
        values, _, info = shared.implicit_step(
            state.values, batch, expectile=self.expectile, discount=self.discount, target_rate=self.target_rate, optimiser=self.optimiser
        )
        behaviour, b_info = shared.fit_behaviour(state.behaviour, batch, self.optimiser, key=key)
        return State(values, behaviour), info | b_info

    def policy(self, state):
        return nets.BestOf(state.behaviour.model, state.values.critic.model, self.candidates)
