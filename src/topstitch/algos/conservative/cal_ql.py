r"""Cal-QL: CQL whose gap stops pushing where a value has come down to what the log is known to have earned,

$$ \alpha\,\big(\log \textstyle\int e^{\max(Q(s, a),\, R(s))}\,da - Q(s, a_{\text{logged}})\big) \quad \text{for the actor's actions } a, $$

with R the logged return from that step on. CQL's values may end far below all that is true, and when learning goes on by acting, whatever
is tried then looks better than what was learned, which is forgotten; calibrated values are at the scale of what is seen.

Nakamoto, Zhai, Singh, Mark, Ma, Finn, Kumar and Levine, *Cal-QL: calibrated offline RL pre-training for efficient online fine-tuning*,
NeurIPS 2023, https://arxiv.org/abs/2303.05479. Follows the authors' code (https://github.com/nakamotoo/Cal-QL) in which actions are held
up (the actor's at both observations, not the uniform ones). Differs from it in what `CQL` does, and in: returns of truncated episodes
stop at their end, where theirs go on in tasks with a reward of -1 a step.
"""

from typing import ClassVar

import optax

from ...core import Algorithm, Box, Paper, static
from .. import steps as shared


class CalQL(Algorithm[shared.Conservative]):
    paper: ClassVar = Paper(
        "Mitsuhiko Nakamoto and Simon Zhai and Anikait Singh and Max Sobol Mark and Yi Ma and Chelsea Finn and Aviral Kumar and Sergey Levine",
        "Cal-QL: calibrated offline RL pre-training for efficient online fine-tuning", "NeurIPS", 2023, "https://arxiv.org/abs/2303.05479",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 5.0
    "Weight of the conservative gap."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actor_lr: float = 1e-4
    gap: float | None = static(None)
    "With a number (AntMaze: 0.8), `alpha` is multiplied by a Lagrange multiplier that holds the gap below it."
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

    def prepare(self, episodes):
        return episodes.transitions(returns=self.discount)

    def init(self, data, *, key):
        return shared.start_conservative(self, data.spec, key=key)

    def update(self, state, batch, *, step, key):
        return shared.conservative_step(self, state, batch, key=key, least=batch.returns)

    def policy(self, state):
        return state.agent.actor.model
