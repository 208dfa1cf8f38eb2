"""Values of each episode learned from other episodes, so that an estimate does not judge by what it has seen."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import Policy
from ..data import Episodes
from .table import Refused, Values

PARALLEL = 50_000
"Rows from which on a model is worth several threads."


@dataclasses.dataclass(frozen=True)
class Crossfitted:
    """`fit` once a fold: on all other episodes, to be asked about the fold's own (Chernozhukov et al. 2018, https://doi.org/10.1111/ectj.12097).

    To be handed to `estimate` as `values`.
    """

    fit: Callable[[Policy, Episodes], Any]
    "(policy, log) -> `Values`, or something whose `values(log)` are, such as `ope.fqe`."
    folds: int = 2
    seed: int = 0

    def __call__(self, policy: Policy, log: Episodes) -> Values:
        """Raises `Refused` where there are fewer episodes than folds."""
        return self.several(policy, log, lambda found, part: (found.values(part),))[0]

    def several(self, policy: Policy, log: Episodes, ask: Callable[[Any, Episodes], tuple[Values, ...]]) -> tuple[Values, ...]:
        """Several answers of what `fit` found, which is learned once: `ask` is told that, and the episodes of a fold."""
        if len(log) < self.folds:
            raise Refused(f"{log.source}: values are learned in {self.folds} folds of episodes, but there are only {len(log)}.")
        fold = np.random.default_rng(self.seed).permutation(len(log)) % self.folds
        out = list[Values]()
        for k in range(self.folds):
            own = fold == k
            answers = ask(self.fit(policy, log.take(np.flatnonzero(~own))), log.take(np.flatnonzero(own)))
            out = out or [Values(np.zeros(log.steps), np.zeros(log.steps), np.zeros(len(log))) for _ in answers]
            rows = np.repeat(own, log.lengths)
            for whole, part in zip(out, answers, strict=True):
                whole.q[rows], whole.v[rows], whole.behind[own] = part.q, part.v, part.behind
        return tuple(out)


def threads(rows: int):
    """In this context a few rows are fitted by one thread: several would mostly wait for one another, the more so on a busy machine."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if rows < PARALLEL else None)
