"""Values of each episode learned from other episodes, so that an estimate does not judge by what it has seen."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import Policy
from ..data import Episodes
from .table import Refused, Values


@dataclasses.dataclass(frozen=True)
class Crossfitted:
    """`fit` once a fold: on all other episodes, to be asked about the fold's own (Chernozhukov et al. 2018, https://doi.org/10.1111/ectj.12097).

    To be handed to `estimate` as `values`. What it learned for a policy is kept, as several estimators ask for it.
    """

    fit: Callable[[Policy, Episodes], Any]
    "(policy, log) -> `Values`, or something whose `values(log)` are, such as `ope.fqe`."
    folds: int = 2
    seed: int = 0

    def __call__(self, policy: Policy, log: Episodes) -> Values:
        """Raises `Refused` where there are fewer episodes than folds."""
        if len(log) < self.folds:
            raise Refused(f"{log.source}: values are learned in {self.folds} folds of episodes, but there are only {len(log)}.")
        fold = np.random.default_rng(self.seed).permutation(len(log)) % self.folds
        q, v, behind = np.zeros(log.steps), np.zeros(log.steps), np.zeros(len(log))
        for k in range(self.folds):
            own = fold == k
            found = self.fit(policy, log.take(np.flatnonzero(~own))).values(log.take(np.flatnonzero(own)))
            rows = np.repeat(own, log.lengths)
            q[rows], v[rows], behind[own] = found.q, found.v, found.behind
        return Values(q, v, behind)
