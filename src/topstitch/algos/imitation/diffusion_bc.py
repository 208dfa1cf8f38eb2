r"""Diffusion behaviour cloning: imitate with a diffusion model, which has no single mean to which it must average what was done.

$$ L = E_{t, \epsilon}\,\lVert \epsilon - \epsilon_\theta(s, \sqrt{\bar\alpha_t}\, a + \sqrt{1 - \bar\alpha_t}\, \epsilon,\, t) \rVert^2 . $$

It acts by drawing: where practice was divided, so is it. Asked for one action it answers with what no noise becomes.

Wang, Hunt and Zhou, *Diffusion policies as an expressive policy class for offline reinforcement learning*, ICLR 2023,
https://arxiv.org/abs/2208.06193, whose behaviour model is this; net, optimiser and average of weights as in IDQL
(https://arxiv.org/abs/2304.10573), so that it is IDQL without values. Differs from the authors' code in: that net in place of a
plain one, no dropout.
"""

from typing import ClassVar

import equinox as eqx
import optax

from ... import nets
from ...core import Algorithm, Box, Paper, Trained, polyak, static


class State(eqx.Module):
    behaviour: Trained[nets.Diffusion]
    average: nets.Diffusion


class DiffusionBC(Algorithm[State]):
    paper: ClassVar = Paper(
        "Zhendong Wang and Jonathan J. Hunt and Mingyuan Zhou",
        "Diffusion policies as an expressive policy class for offline reinforcement learning", "ICLR", 2023,
        "https://arxiv.org/abs/2208.06193",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("bait",)

    lr: float = 3e-4
    average_rate: float = 0.001
    "How fast the averaged weights, which act, follow the learned ones."
    sampling_steps: int = static(5)
    "From noise to action. Where ways lie far apart 5 leave some draws between them; 20 leave few."
    decay: bool = static(True)
    "Whether the learning rate falls to 0 along a cosine over `steps`."
    hidden: tuple[int, ...] = static((256, 256, 256))
    "One residual block for each; all of one width."
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adamw(optax.cosine_decay_schedule(self.lr, self.steps) if self.decay else self.lr)

    def init(self, data, *, key):
        net = nets.Diffusion(data.spec, self.hidden, self.sampling_steps, key=key)
        return State(Trained.start(net, self.optimiser), net)

    def update(self, state, batch, *, step, key):
        def loss(net):
            loss = net.loss(batch.obs, batch.action, key=key).mean()
            return loss, {"behaviour/loss": loss}

        behaviour, info = state.behaviour.descend(loss, self.optimiser)
        return State(behaviour, polyak(state.average, behaviour.model, self.average_rate)), info

    def policy(self, state):
        return state.average
