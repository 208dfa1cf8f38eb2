"""Off-policy evaluation: how a policy would do, by a log that others made, and when that cannot be said."""

from . import improvement
from .behaviour import Behaviour, fit_behaviour
from .bounds import Interval, interval
from .crossfit import Crossfitted
from .diagnostics import Diagnostics, diagnostics, refusals
from .estimate import ESTIMATORS, LEARNED, MARGINAL, Estimate, Estimates, estimate
from .fqe import FQE, fqe, lstdq, tree_fqe
from .sums import Sums
from .table import Refused, Table, Values

__all__ = [
    "ESTIMATORS",
    "FQE",
    "LEARNED",
    "MARGINAL",
    "Behaviour",
    "Crossfitted",
    "Diagnostics",
    "Estimate",
    "Estimates",
    "Interval",
    "Refused",
    "Sums",
    "Table",
    "Values",
    "diagnostics",
    "estimate",
    "fit_behaviour",
    "fqe",
    "improvement",
    "interval",
    "lstdq",
    "refusals",
    "tree_fqe",
]
