r"""UDS: learn from steps whose rewards nobody recorded as if they had earned nothing, conservatively.

The log has a column `labelled` that is false where the reward is not known; there it counts as 0, and `CQL` is trained on everything. What is
lost by rewards that are too low is often less than what is gained by knowing more of the world: paths that lead into what was labelled. With
rewards that are 0 everywhere but at success, and prior data of other tasks, this is COG.

```python
log = ts.Episodes.join(task.labelled(), prior.labelled(False))
runs = ts.train([ts.UDS(), ts.CDS()], log)
```

Yu, Kumar, Chebotar, Hausman, Finn and Levine, *How to leverage unlabeled data in offline reinforcement learning*, ICML 2022,
https://arxiv.org/abs/2202.01741; COG: Singh, Yu, Yang, Zhang, Kumar and Levine 2020, https://arxiv.org/abs/2010.14500, of whose code
(https://github.com/avisingh599/cog) this is the mixing of both logs. Differs from the authors' code in what `CQL` does. Any algorithm can be
trained so, on a log whose unknown rewards were set to 0.
"""

from typing import ClassVar

import optax

from ...core import Algorithm, Box, Paper, static
from .. import steps as shared


class UDS(Algorithm[shared.Conservative]):
    paper: ClassVar = Paper(
        "Tianhe Yu and Aviral Kumar and Yevgen Chebotar and Karol Hausman and Chelsea Finn and Sergey Levine",
        "How to leverage unlabeled data in offline reinforcement learning", "ICML", 2022, "https://arxiv.org/abs/2202.01741",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 5.0
    "Weight of the conservative gap."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actor_lr: float = 3e-5
    gap: float | None = static(None)
    "With a number, `alpha` is multiplied by a Lagrange multiplier that holds the gap below it."
    gap_floor: float | None = static(None)
    "Gaps below it are no longer pushed down."
    max_backup: bool = static(False)
    "Whether the target is the best of `actions_sampled` samples instead of one sample."
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
        return shared.zero_where_unlabelled(episodes)[0].transitions()

    def init(self, data, *, key):
        return shared.start_conservative(self, data.spec, key=key)

    def update(self, state, batch, *, step, key):
        return shared.conservative_step(self, state, batch, key=key)

    def policy(self, state):
        return state.agent.actor.model
