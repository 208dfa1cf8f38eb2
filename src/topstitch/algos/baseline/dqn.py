r"""Deep Q-learning: regress $Q(s, a)$ on $r + \gamma \max_{a'} \bar Q(s', a')$ and act greedily.

Nothing keeps the maximum away from actions that were never logged, whose values are guesses: on a fixed log the highest
guess wins, is believed, and is bootstrapped from. It is here as the baseline that fails.

Mnih et al., *Human-level control through deep reinforcement learning*, Nature 2015. Differs from the authors' code in: a
target net that follows by moving average instead of being copied now and then; Adam instead of RMSProp; the maximum
is over legal actions where the log has masks. `double=True` is double DQN.
"""

from typing import ClassVar

import optax

from ... import nets
from ...core import Algorithm, Box, Discrete, Image, Paper, static
from .. import steps as shared


class DQN(Algorithm[shared.QState]):
    paper: ClassVar = Paper(
        "Volodymyr Mnih and Koray Kavukcuoglu and David Silver and others",
        "Human-level control through deep reinforcement learning", "Nature 518", 2015, "https://doi.org/10.1038/nature14236",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")
    fails: ClassVar = ("bait",)

    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    double: bool = static(False)
    "Whether the online net chooses the action that the target net values."
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        return shared.start_q(data.spec, self.hidden, self.optimiser, key=key)

    def update(self, state, batch, *, step, key):
        return shared.q_step(
            state, batch, discount=self.discount, target_rate=self.target_rate, double=self.double, optimiser=self.optimiser
        )

    def policy(self, state):
        return nets.Greedy(state.critic.model[0])
