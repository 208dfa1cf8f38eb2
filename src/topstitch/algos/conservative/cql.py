r"""CQL: a soft actor-critic whose critics also pay for a gap,

$$ \alpha\,\big(\log \textstyle\int e^{Q(s, a)}\,da - Q(s, a_{\text{logged}})\big), $$

so that what was not logged is valued low. The integral is estimated for each critic by importance sampling from uniform
actions, the actor's actions at $s$, and its actions at $s'$, all valued at $s$. With a `gap` the weight is found as the
multiplier of the constraint that the gap stay below it.

| `variant` | what is pressed down | what it bounds |
|---|---|---|
| `"eq1"` | $E_\pi Q$, and nothing is pushed up | $Q^\pi$ at every action, by far more than needed |
| `"eq2"` | $E_\pi Q - Q(s, a_{\text{logged}})$ | $V^\pi$ |
| `"H"` | the gap above: equation 4 with an entropy | $V^\pi$ |
| `"rho"` | $\log E_\pi e^Q - Q(s, a_{\text{logged}})$: equation 4 with the divergence from the actor, CQL(ρ) | $V^\pi$ |

Kumar, Zhou, Tucker and Levine, *Conservative Q-learning for offline reinforcement learning*, NeurIPS 2020,
https://arxiv.org/abs/2006.04779, equations 1, 2 and 4 and appendix F. Follows the authors' code in no entropy in the backup. Differs
from it in: two hidden layers of 256 for all nets; no warm start by imitation; the estimate of the integral is divided by the
number of samples, a constant that changes no gradient (and is added back before a `gap` is compared, so that published
thresholds mean what they meant); for ρ only the actor's actions at $s$ count, as in the paper, where that code takes uniform, next and
logged ones too, all without their densities.
"""

from typing import ClassVar, Literal

import optax

from ...core import Algorithm, Box, Paper, static
from .. import steps as shared


class CQL(Algorithm[shared.Conservative]):
    paper: ClassVar = Paper(
        "Aviral Kumar and Aurick Zhou and George Tucker and Sergey Levine", "Conservative Q-learning for offline reinforcement learning",
        "NeurIPS", 2020, "https://arxiv.org/abs/2006.04779",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 5.0
    "Weight of the conservative gap."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actor_lr: float = 3e-5
    variant: Literal["H", "rho", "eq1", "eq2"] = static("H")
    "What is pressed down: see above."
    gap: float | None = static(None)
    "With a number (AntMaze: 5), `alpha` is multiplied by a Lagrange multiplier that holds the gap below it."
    gap_floor: float | None = static(None)
    "Gaps below it are no longer pushed down (AntMaze: -200)."
    max_backup: bool = static(False)
    "Whether the target is the best of `actions_sampled` samples instead of one sample (AntMaze: yes)."
    entropy_backup: bool = static(False)
    "Whether the target counts entropy, as SAC's does."
    actions_sampled: int = static(10)
    "Actions of each of the three kinds in the estimate of the integral."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.actor_lr)}

    def init(self, data, *, key):
        return shared.start_conservative(self, data.spec, key=key)

    def update(self, state, batch, *, step, key):
        return shared.conservative_step(self, state, batch, key=key, variant=self.variant)

    def policy(self, state):
        return state.agent.actor.model
