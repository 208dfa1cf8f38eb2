r"""Flow behaviour cloning: imitate by carrying noise to actions along a learned velocity,

$$ L = E_{t, x_0}\,\lVert v_\theta(s, (1 - t) x_0 + t a,\, t) - (a - x_0) \rVert^2 , \quad x_0 \sim N(0, I). $$

As little averaging as diffusion, with a simpler loss and no schedule of noise.

Lipman, Chen, Ben-Hamu, Nickel and Le, *Flow matching for generative modeling*, ICLR 2023, https://arxiv.org/abs/2210.02747. Net,
loss and Euler's method as in the authors' code of FQL (https://github.com/seohongpark/fql), of which it is the behaviour model.
Differs from the authors' code in: uniform initialisation.
"""

from typing import ClassVar

import optax

from ... import nets
from ...core import Algorithm, Box, Paper, Trained, static


class FlowBC(Algorithm[Trained]):
    paper: ClassVar = Paper(
        "Yaron Lipman and Ricky T. Q. Chen and Heli Ben-Hamu and Maximilian Nickel and Matt Le", "Flow matching for generative modeling",
        "ICLR", 2023, "https://arxiv.org/abs/2210.02747",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("bait",)

    lr: float = 3e-4
    sampling_steps: int = static(10)
    "From noise to action."
    hidden: tuple[int, ...] = static((512, 512, 512, 512))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        return Trained.start(nets.Flow(data.spec, self.hidden, self.sampling_steps, key=key), self.optimiser)

    def update(self, state, batch, *, step, key):
        def loss(flow):
            loss = flow.loss(batch.obs, batch.action, key=key).mean()
            return loss, {"behaviour/loss": loss}

        return state.descend(loss, self.optimiser)

    def policy(self, state):
        return state.model
