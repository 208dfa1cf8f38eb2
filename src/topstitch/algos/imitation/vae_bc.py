r"""Cloning by a latent variable: what cannot be seen of why this was done, and not that, becomes a few numbers that are drawn,

$$ L = E\,\big[\tfrac1d \lVert a - \hat a(s, z) \rVert^2 + \tfrac{\alpha}{2d} D_{KL}(q(z \mid s, a) \,\|\, N(0, I))\big], \qquad z \sim q(\cdot \mid s, a), $$

for d dimensions of action and 2d latent numbers. It acts by drawing z from N(0, I): where practice was divided, so is it. Asked for one action it
draws with a fixed z.

Sohn, Lee and Yan, *Learning structured output representation using deep conditional generative models*, NeurIPS 2015,
https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html; net and loss are those by which BCQ knows behaviour
(https://arxiv.org/abs/1812.02900), so that it is BCQ without values. There is no authors' code for actions. Differs from BCQ's model in: a weight
of the divergence that lets the ways of a divided practice stay apart (theirs is 1/2, and its draws lie between them), and latent numbers that
are drawn as they are, not clipped to ±0.5.
"""

from typing import ClassVar

import optax

from ... import nets
from ...core import Algorithm, Box, Paper, Trained, static

REACH = 5.0
"Where latent numbers are clipped: nearly nowhere."


class VAEBC(Algorithm[Trained]):
    paper: ClassVar = Paper(
        "Kihyuk Sohn and Honglak Lee and Xinchen Yan", "Learning structured output representation using deep conditional generative models",
        "NeurIPS", 2015, "https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("bait",)

    alpha: float = 0.05
    "Weight of the divergence: 4 times the variance that the decoder expects of actions."
    lr: float = 1e-3
    hidden: tuple[int, ...] = static((750, 750))
    steps: int = static(100_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        return Trained.start(nets.VAE(data.spec, self.hidden, key=key, reach=REACH), self.optimiser)

    def update(self, state, batch, *, step, key):
        def loss(vae):
            loss = vae.loss(batch.obs, batch.action, key=key, weight=self.alpha).mean()
            return loss, {"behaviour/loss": loss}

        return state.descend(loss, self.optimiser)

    def policy(self, state):
        return state.model
