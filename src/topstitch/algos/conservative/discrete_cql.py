r"""Conservative Q-learning for discrete actions: Q-learning that also pays for values above those of the data,

$$ L_Q = L_{TD} + \alpha\, E\,\big[\log \textstyle\sum_a e^{Q(s, a)} - Q(s, a_{\text{logged}})\big]. $$

`variant` "eq1" presses down $\max_a Q(s, a)$ and pushes nothing up, which bounds the value of every action; "eq2" the same less
$Q(s, a_{\text{logged}})$, which bounds that of the policy: equations 1 and 2 of the paper for the greedy policy.
With `quantiles`, Q is the mean of so many quantiles of the return, as in the paper's experiments on Atari.

Kumar, Zhou, Tucker and Levine, *Conservative Q-learning for offline reinforcement learning*, NeurIPS 2020,
https://arxiv.org/abs/2006.04779, equation 4. Differs from the authors' code in: one value per action unless `quantiles` are asked for;
a target net that follows by moving average; the sum is over legal actions where the log has masks.
"""

from typing import ClassVar, Literal

import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, Paper, static
from .. import steps as shared


class DiscreteCQL(Algorithm[shared.QState]):
    paper: ClassVar = Paper(
        "Aviral Kumar and Aurick Zhou and George Tucker and Sergey Levine", "Conservative Q-learning for offline reinforcement learning",
        "NeurIPS", 2020, "https://arxiv.org/abs/2006.04779",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 1.0
    "Weight of the conservative gap (the paper: 4 for 1 % of Atari's replay, 1 for 10 %)."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    double: bool = static(True)
    "Whether the online net chooses the action that the target net values."
    variant: Literal["H", "eq1", "eq2"] = static("H")
    "What is pressed down: see above."
    quantiles: int | None = static(None)
    "With a number (the paper: 200), actions are valued by the mean of so many quantiles."
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        if self.quantiles is None:
            return shared.start_q(data.spec, self.hidden, self.optimiser, key=key)
        return shared.start_quantiles(data.spec, self.hidden, self.quantiles, self.optimiser, key=key)

    def update(self, state, batch, *, step, key):
        def penalty(every):
            taken = jnp.take_along_axis(every, batch.action[:, None], axis=-1)[:, 0]
            best = ops.legal(every, batch.mask).max(axis=-1)
            gap = {"H": ops.gap(every, taken, batch.mask), "eq1": best, "eq2": best - taken}[self.variant].mean()
            return self.alpha * gap, {"critic/gap": gap}

        learn = shared.q_step if self.quantiles is None else shared.quantile_step
        return learn(
            state, batch, discount=self.discount, target_rate=self.target_rate, double=self.double, optimiser=self.optimiser,
            penalty=penalty,
        )  # fmt: skip

    def policy(self, state):
        q = state.critic.model
        return nets.Greedy(q[0] if self.quantiles is None else q.mean())
