r"""QR-DQN: Q-learning on the distribution of the return. Each action has N numbers, fitted to be the quantiles
$\hat\tau_i = (i - \tfrac12) / N$ of what it leads to,

$$ L = E\Big[\textstyle\sum_i \tfrac1N \sum_j \rho_{\hat\tau_i}\big(r + \gamma\, \bar\theta_j(s', a^*) - \theta_i(s, a)\big)\Big], \qquad
   \rho_\tau(u) = |\tau - 1\{u < 0\}|\, L_1(u), \qquad a^* = \arg\max_a \tfrac1N \textstyle\sum_j \bar\theta_j(s', a), $$

$L_1$ being the Huber loss. It acts on the means, as Q-learning does, and with the same faith in what was never logged; the richer target
makes learning steadier, which is why offline benchmarks on Atari start from it.

Dabney, Rowland, Bellemare and Munos, *Distributional reinforcement learning with quantile regression*, AAAI 2018,
https://arxiv.org/abs/1710.10044. Follows the authors' code, as in Dopamine and https://github.com/google-research/batch_rl, in 200 quantiles
and κ = 1. Differs from it in: learning rate, batch and target net as in `DQN` (they: Adam at 5e-5 with an epsilon of 0.01 / 32, 32 rows,
copies every 2000 updates); the maximum is over legal actions where the log has masks.
"""

from typing import ClassVar

import optax

from ... import nets
from ...core import Algorithm, Box, Discrete, Image, Paper, static
from .. import steps as shared


class QRDQN(Algorithm[shared.QState]):
    paper: ClassVar = Paper(
        "Will Dabney and Mark Rowland and Marc G. Bellemare and Rémi Munos",
        "Distributional reinforcement learning with quantile regression", "AAAI", 2018, "https://arxiv.org/abs/1710.10044",
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
    quantiles: int = static(200)
    "N. One is the median, rounded."
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        return shared.start_quantiles(data.spec, self.hidden, self.quantiles, self.optimiser, key=key)

    def update(self, state, batch, *, step, key):
        return shared.quantile_step(
            state, batch, discount=self.discount, target_rate=self.target_rate, double=self.double, optimiser=self.optimiser
        )

    def policy(self, state):
        return nets.Greedy(state.critic.model.mean())
