r"""How much could be gained by putting good parts of different episodes together: the best policy that does only what was done,

$$ \max_\pi V(\pi) \quad\text{in the world of the log, over actions logged at least } n \text{ times there (and the commonest one)}, $$

against what was earned, and against imitation of the best tenth of the episodes. The world is the maximum-likelihood one of a table
(`numbered`), as in `worlds.empirical`, kept sparse and solved backwards over a horizon, so that returns need no discount and worlds with
circles have an answer: the longest episode if that was cut off (a limit of time), else as many steps more as practice takes to end. It is
the tabular form of batch-constrained Q-learning (Fujimoto et al. 2019, https://arxiv.org/abs/1812.02900).

A maximum over estimates is too high, and the more so the fewer rows stand behind each (Mannor et al. 2007,
https://doi.org/10.1287/mnsc.1060.0614). So the episodes are dealt into two halves, and a policy found in the world of one is valued in
that of the other; the difference between both numbers is optimism. Nothing corrects that cells put together what is not alike.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse

from ..data import Episodes
from .numbered import Numbered

LEAST = (1, 5, 10, 20, 50)
"Times that an action must have been logged in a state to be allowed there."
CHOSEN = 10
"The one of these by which gains are judged."
BEST = 0.1
"The share of episodes that count as the best (worst)."
LONGEST, WORK = 1000, 3e7
"Steps that are solved backwards, at most; and entries of the transition matrix that are read in all."
ENDED = 0.99
"The share of practice that must have ended by then, where no limit of time ends episodes."


class World(NamedTuple):
    """The maximum-likelihood world of a table. One row for each pair of state and action that was logged, sorted by state."""

    pair: np.ndarray
    "(pairs,) int64: state · actions + action."
    count: np.ndarray
    "(pairs,) int64: visits."
    reward: np.ndarray
    "(pairs,) float64: the mean."
    ahead: scipy.sparse.csr_array
    "(pairs, states): how often each state followed, discounted; rows sum to less where some steps were terminal."
    first: np.ndarray
    "(seen states,): the first row of each."
    state: np.ndarray
    "(seen states,): their numbers."
    group: np.ndarray
    "(pairs,): the place of each pair's state in `state`."
    start: np.ndarray
    "(states,): the share of episodes that begin there."

    def q(self, v: np.ndarray) -> np.ndarray:
        """(pairs,): what each pair is worth if what follows is worth `v` (states,)."""
        return self.reward + self.ahead @ v

    def mixed(self, q: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(seen states,): means by weights of pairs, of which each state has some."""
        return np.add.reduceat(weight * q, self.first) / np.add.reduceat(weight, self.first)

    def value(self, weight: np.ndarray, horizon: int) -> float:
        """Of the policy that takes the pairs of a state in proportion to `weight` (pairs,)."""

        def values():
            v = np.zeros(self.ahead.shape[1])
            for _ in range(horizon):
                q = self.q(v)
                v = np.zeros_like(v)
                v[self.state] = self.mixed(q, weight)
                yield v

        return float(self.start @ _settled(values()))

    def allowed(self, least: int) -> np.ndarray:
        """(pairs,) bool: those logged at least so often, and the commonest of each state."""
        return (self.count >= least) | (self.count == np.maximum.reduceat(self.count, self.first)[self.group])

    def improved(self, least: int, horizon: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(values of all states with one step more to go, the best allowed pair of each seen state), step by step backwards: what is best
        depends on how many steps are left."""
        allowed, rows = self.allowed(least), np.arange(len(self.pair))
        v = np.zeros(self.ahead.shape[1])
        for _ in range(horizon):
            q = np.where(allowed, self.q(v), -np.inf)
            top = np.maximum.reduceat(q, self.first)
            v = np.zeros_like(v)
            v[self.state] = top
            yield v, np.minimum.reduceat(np.where(q == top[self.group], rows, len(rows)), self.first)

    def best(self, least: int, horizon: int) -> float:
        """The most that allowed pairs can earn."""
        return float(self.start @ _settled(v for v, _ in self.improved(least, horizon)))

    def tried(self, least: int, horizon: int, other: "World") -> float:
        """What the policy that is best here earns in `other`.

        A pair that was logged n times there is taken n times in n + 1, and else what practice does: if what was logged once leads in a
        circle, it would hold the policy for ever. Never logged, never taken.
        """
        place = np.searchsorted(other.pair, self.pair).clip(max=len(other.pair) - 1)
        there = np.where(other.pair[place] == self.pair, place, -1)

        w = np.zeros(other.ahead.shape[1])
        for _, choice in self.improved(least, horizon):
            q, pair = other.q(w), there[choice]
            known = pair >= 0
            pair, state = pair[known], self.state[known]
            w = np.zeros_like(w)
            w[other.state] = other.mixed(q, other.count)
            w[state] = (other.count[pair] * q[pair] + w[state]) / (other.count[pair] + 1)
        return float(other.start @ w)


def _settled(values: Iterator[np.ndarray]) -> np.ndarray:
    """The last of them, or the first that is as the one before."""
    last = next(values)
    for v in values:
        if np.allclose(v, last, rtol=1e-9, atol=1e-12):
            break
        last = v
    return last


def horizon_of(made: World, log: Episodes) -> int:
    """Steps over which policies are valued: those of the longest episode; where that truly ended, as many as practice takes in this world
    until `ENDED` of it has, if these are more."""
    most = int(max(1, min(LONGEST, WORK // max(made.ahead.nnz, 1))))
    longest = int(log.lengths.max())
    if not log.terminal[log.stops - 1][log.lengths == longest].all():
        return min(longest, most)
    share = made.count / np.add.reduceat(made.count, made.first)[made.group]
    left, steps = made.start, 0
    while steps < longest or left.sum() > 1 - ENDED:
        if steps == most:
            break
        left = made.ahead.T @ (left[made.state][made.group] * share)
        steps += 1
    return steps


def world(table: Numbered, log: Episodes, discount: float, episodes: np.ndarray | None = None) -> World:
    """Of all rows, or of those of some episodes ((episodes,) bool)."""
    rows = np.arange(log.steps) if episodes is None else np.flatnonzero(np.repeat(episodes, log.lengths))
    starts = log.starts if episodes is None else log.starts[episodes]
    pair, which, count = np.unique(table.state[rows] * table.actions + table.action[rows], return_inverse=True, return_counts=True)
    on = table.after[rows] >= 0
    follow = (log.discount(discount)[rows][on] / count[which[on]], (which[on], table.after[rows][on]))
    ahead = scipy.sparse.csr_array(follow, shape=(len(pair), table.states))
    state, first, size = np.unique(pair // table.actions, return_index=True, return_counts=True)
    reward = np.bincount(which, weights=log.reward[rows].astype(np.float64)) / count
    start = np.bincount(table.state[starts], minlength=table.states) / len(starts)
    return World(pair, count, reward, ahead, first, state, np.repeat(np.arange(len(state)), size), start)


def tenth(returns: np.ndarray, best: bool) -> np.ndarray:
    """(episodes,) int: the best (worst) tenth, at least one; of equal ones the first."""
    order = np.argsort(-returns if best else returns, kind="stable")
    return order[: max(1, round(BEST * len(returns)))]


def imitated(made: World, table: Numbered, log: Episodes, which: np.ndarray) -> np.ndarray:
    """(pairs,): how often each was taken in the episodes `which`; where they never were, in all episodes."""
    chosen = np.zeros(len(log), bool)
    chosen[which] = True
    rows = np.repeat(chosen, log.lengths)
    taken = table.state[rows] * table.actions + table.action[rows]
    place = np.searchsorted(made.pair, taken).clip(max=len(made.pair) - 1)
    weight = np.bincount(place[made.pair[place] == taken], minlength=len(made.pair))
    silent = np.add.reduceat(weight, made.first)[made.group] == 0
    return np.where(silent, made.count, weight)


def stitching(table: Numbered, log: Episodes, discount: float = 1.0, seed: int = 0) -> dict:
    """Values of policies in the world of the log, with what was earned beside them; undiscounted unless said otherwise.

    `thresholds` hold for each of `LEAST` the `value` in the world of all episodes, the gain over practice there (`believed`), and the
    gains that are left in the world of the other half (`held_out`, one for each half).
    """
    whole = world(table, log, discount)
    horizon = horizon_of(whole, log)
    time = np.arange(log.steps) - np.repeat(log.starts, log.lengths)
    earned = dataclasses.replace(log, reward=np.where(time < horizon, log.reward, 0)).returns(discount)
    top, bottom = tenth(earned, True), tenth(earned, False)
    practice = whole.value(whole.count, horizon)
    values = [whole.best(n, horizon) for n in LEAST]
    thresholds = [{"least": n, "value": v, "believed": v - practice, "held_out": None} for n, v in zip(LEAST, values)]
    copied = whole.value(imitated(whole, table, log, top), horizon)
    held_out = None
    if len(log) >= 4:
        half = np.random.default_rng(seed).permutation(len(log)) % 2 == 0
        one, other = world(table, log, discount, half), world(table, log, discount, ~half)
        held_out = []
        for here, there, side in ((one, other, half), (other, one, ~half)):
            usual, best = there.value(there.count, horizon), np.flatnonzero(side)[tenth(earned[side], True)]
            held_out.append(there.value(imitated(there, table, log, best), horizon) - usual)
            for row in thresholds:
                row["held_out"] = [*(row["held_out"] or []), here.tried(row["least"], horizon, there) - usual]
    return {
        "exact": table.exact, "states": len(whole.state), "pairs": len(whole.pair), "horizon": horizon,
        "longest": int(log.lengths.max()), "discount": discount,
        "logged": {"mean": float(earned.mean()), "best_tenth": float(earned[top].mean()), "worst_tenth": float(earned[bottom].mean()),
                   "best": float(earned.max()), "worst": float(earned.min()), "episodes": len(top)},
        "practice": practice,
        "uniform": whole.value(np.ones(len(whole.pair)), horizon),
        "imitation": {"value": copied, "believed": copied - practice, "held_out": held_out},
        "thresholds": thresholds,
        "chosen": CHOSEN,
    }  # fmt: skip
