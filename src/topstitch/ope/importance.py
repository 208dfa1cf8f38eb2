r"""Importance sampling: what another policy would have earned, from returns weighted by how much likelier they were under it.

With $\rho_{0:t} = \prod_{k \le t} \pi(a_k|s_k) / \mu(a_k|s_k)$ over episodes i of a log by μ,

* IS: $\frac1n \sum_i \rho^i_{0:T_i-1} \sum_t \gamma^t r^i_t$, per decision $\frac1n \sum_i \sum_t \gamma^t \rho^i_{0:t} r^i_t$: without bias;
* weighted, WIS: $\sum_i \rho^i_{0:T_i-1} G^i / \sum_i \rho^i_{0:T_i-1}$, per decision
  $\sum_t \gamma^t \sum_i \rho^i_{0:t} r^i_t / \sum_i \rho^i_{0:t}$: consistent, and bounded by what was earned.

The sum of weights at a step runs over all episodes: those that have ended keep the weight of their last step. Dividing by the weights of
episodes that go on would count long episodes more often than they come.

Precup, Sutton and Singh 2000, https://scholarworks.umass.edu/cs_faculty_pubs/80; Thomas 2015, *Safe reinforcement learning*, chapter 3.
Rewards that a truncated episode would still have earned are not counted: what is estimated is the return within the log.
"""

import numpy as np

from .sums import Sums, mean_of
from .table import Table


def returns(table: Table) -> np.ndarray:
    """(episodes,): the discounted return of each logged episode."""
    return (table.discount * table.reward).sum(axis=1)


def relative(table: Table) -> np.ndarray:
    """(episodes, horizon): `table.ratios()` but for a factor of each step, by which the largest is 1: whatever normalises
    weights step by step cannot overflow."""
    logs = table.log_ratios()
    return np.exp(logs - finite(logs.max(axis=0)))


def finite(logs: np.ndarray) -> np.ndarray:
    """Logarithms to divide by: 0 where nothing is left to be divided."""
    return np.where(np.isfinite(logs), logs, 0)


def ordinary(table: Table) -> Sums:
    """IS: whole returns by whole ratios."""
    return mean_of(table.ratios()[:, -1] * returns(table))


def per_decision(table: Table) -> Sums:
    """PDIS: each reward by the ratio of what was done up to it."""
    return mean_of((table.discount * table.ratios() * table.reward).sum(axis=1))


def weighted(table: Table) -> Sums:
    """WIS: IS, its weights divided by their sum."""
    weights = relative(table)[:, -1:]
    return Sums(weights * returns(table)[:, None], weights)


def weighted_per_decision(table: Table) -> Sums:
    """WPDIS: PDIS, the weights of each step divided by their sum over all episodes."""
    weights = relative(table)
    return Sums(table.discount * weights * table.reward, weights)


def clipped(table: Table, *, limit: float | None = None) -> Sums:
    """IS with no weight above `limit`, by default √episodes (Ionides 2008, https://doi.org/10.1198/106186008X320456).

    Biased, by -E[(ρ - limit)⁺ G]: towards zero where returns are positive. `clipped_away` says how much weight is missing.
    """
    return mean_of(np.minimum(table.ratios()[:, -1], _limit(table, limit)) * returns(table))


def clipped_away(table: Table, *, limit: float | None = None) -> float:
    """E[(ρ - limit)⁺], estimated by 1 - the mean clipped weight: where returns lie in ±G, `clipped` is off by at most G times this."""
    return max(0.0, 1 - float(np.minimum(table.ratios()[:, -1], _limit(table, limit)).mean()))


def _limit(table: Table, limit: float | None) -> float:
    return float(np.sqrt(len(table.reward))) if limit is None else limit
