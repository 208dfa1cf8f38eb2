r"""Behaviour cloning: do what was done. Maximum likelihood of the logged actions,

$$ L_\pi = -E\,[\log \pi(a \mid s)], \quad\text{or}\quad E\,[(\pi(s) - a)^2]\ \text{for the deterministic head.} $$

The yardstick: an offline method that does not beat it has learned nothing from the rewards. Maximum likelihood is the forward divergence
$D_{KL}(\mu \,\|\, \pi)$: π must cover all that was done, and where practice was divided one normal lies between its ways. The heads with several
modes cover each way with its own: a mixture of normals, or one dimension after another in bins, as models of text choose words.
`ReverseKL` is the other divergence; `VAEBC`, `FlowBC` and `DiffusionBC` draw, and have no density.

Pomerleau, *ALVINN: an autonomous land vehicle in a neural network*, NeurIPS 1988. The Gaussian head has a mean within the box and one learned
standard deviation per dimension; the mixture is that of Bishop 1994 (https://publications.aston.ac.uk/id/eprint/373/), with as many modes as
in robomimic (https://arxiv.org/abs/2108.03298); bins one after another: Metz et al. 2017, https://arxiv.org/abs/1705.05035. Differs from
the first work in all but the idea: there is no authors' code, and optimiser and nets are those of the other algorithms here.
"""

import functools
from typing import ClassVar, Literal

import optax

from ... import nets
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Trained, static


class BC(Algorithm[Trained]):
    paper: ClassVar = Paper(
        "Dean A. Pomerleau", "ALVINN: an autonomous land vehicle in a neural network", "NeurIPS", 1988,
        "https://proceedings.neurips.cc/paper/1988/hash/812b4ba287f5ee0bc9d43bbf5bbe87fb-Abstract.html",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("bait",)
    fails: ClassVar = ("choice", "context", "minority", "delay", "stitch")

    lr: float = 3e-4
    head: Literal["gaussian", "deterministic", "mixture", "autoregressive"] = static("gaussian")
    "What continuous actions are answered with; choices always with a categorical distribution."
    modes: int = static(5)
    "Normals of the mixture."
    bins: int = static(64)
    "Of each dimension, one dimension after another."
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(100_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        make = nets.stochastic
        if isinstance(data.spec.action, Box) and self.head != "gaussian":
            make = {
                "deterministic": nets.Deterministic,
                "mixture": functools.partial(nets.BoxMixture, modes=self.modes),
                "autoregressive": functools.partial(nets.Autoregressive, bins=self.bins),
            }[self.head]
        return Trained.start(make(data.spec, self.hidden, key=key), self.optimiser)

    def update(self, state, batch, *, step, key):
        def loss(pi):
            said = pi(batch.obs, batch.mask)
            if isinstance(said, nets.Delta):
                loss = ((said.mode() - batch.action) ** 2).mean()
            else:
                loss = -said.log_prob(batch.action).mean()
            return loss, {"actor/loss": loss}

        return state.descend(loss, self.optimiser)

    def policy(self, state):
        return state.model
