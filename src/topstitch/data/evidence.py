"""What faults of a log are told by: which questions it can be asked, its repetitions, and how much one column says of another."""

from collections.abc import Iterable

import numpy as np
import scipy.stats

from ..core import Box, Discrete
from .episodes import Episodes, choices

SOME = 10_000
"About how many rows it is tried on to predict something; they are of whole episodes."
EXACT = 0.99999
"The correlation from which on a column counts as a copy (observations are kept in single precision)."
RARE = 1e-3
"The probability at which chance is ruled out."


# what a check can be asked of ----------------------------------------------------------------------------------------------------


def vector(log: Episodes) -> bool:
    return isinstance(log.spec.obs, Box)


def numbered(log: Episodes) -> bool:
    return isinstance(log.spec.obs, Discrete)


def continuous(log: Episodes) -> bool:
    return isinstance(log.spec.action, Box)


def chosen(log: Episodes) -> bool:
    return isinstance(log.spec.action, Discrete)


def several(log: Episodes) -> bool:
    """Whether some episode has more than one step."""
    return bool(log.lengths.max() > 1)


def table(log: Episodes) -> bool:
    return numbered(log) and chosen(log)


def recorded(log: Episodes) -> bool:
    return log.log_prob is not None and chosen(log)


def timed(log: Episodes) -> bool:
    return log.time is not None and log.time.dtype.kind in "iufM" and several(log)


def any_log(log: Episodes) -> bool:
    return True


# what several faults ask ---------------------------------------------------------------------------------------------------------


def everywhere(log: Episodes) -> np.ndarray:
    return np.arange(log.steps)


def followed(log: Episodes) -> np.ndarray:
    """(n,): the rows that have a next row in their episode."""
    inner = np.ones(log.steps, bool)
    inner[log.stops - 1] = False
    return np.flatnonzero(inner)


def flat(x: np.ndarray) -> np.ndarray:
    """One row a row, however many there are."""
    return x.reshape(len(x), int(np.prod(x.shape[1:])))


def listed(names: Iterable[str], most: int = 6) -> str:
    """a, b, c and 4 more."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def figures(x: float, least: int = 4, sign: str = "") -> str:
    """A number in so many figures, and not as a power of ten where it can be read: 0.001234, 12.34, 12,345. With `sign` "+" also that above 0."""
    return f"{x:{sign},.0f}" if 10**least <= abs(x) < 1e12 else f"{x:{sign},.{least}g}"


def union(found: dict[str, np.ndarray], steps: int) -> np.ndarray:
    """(steps,) bool: rows of any column."""
    out = np.zeros(steps, bool)
    for rows in found.values():
        out |= rows
    return out


def hashed(*columns: np.ndarray) -> np.ndarray:
    """(n,) uint64: the same for rows that are the same in all columns."""
    import polars as pl

    parts = {}
    for i, column in enumerate(columns):
        if column.dtype == np.uint8 and column.ndim > 2:
            parts[f"{i}"] = pl.Series([row.tobytes() for row in column])
        else:
            parts |= {f"{i} {j}": part for j, part in enumerate(flat(column).T)}
    return pl.DataFrame(parts).hash_rows().to_numpy()


def step_keys(log: Episodes) -> np.ndarray:
    """(steps,): the same for steps in which the same was seen, done, earned and followed."""
    ended = log.terminal.reshape(-1, *(1,) * (log.obs.ndim - 1))
    return hashed(log.obs, log.action, log.reward, log.terminal, np.where(ended, log.obs, log.next_obs))


def episode_keys(log: Episodes) -> np.ndarray:
    """(episodes,): the same for episodes whose steps are the same, in order."""
    place = np.arange(log.steps) - np.repeat(log.starts, log.lengths)
    return np.add.reduceat(hashed(step_keys(log), place), log.starts)


def counts(keys: np.ndarray) -> np.ndarray:
    """(n,): how often each key comes."""
    _, which, count = np.unique(keys, return_inverse=True, return_counts=True)
    return count[which]


def copies(log: Episodes) -> tuple[np.ndarray, np.ndarray]:
    """(which episodes repeat an earlier one, which keys repeated ones have), as far as chance does not explain it.

    In a world of few states episodes are equal by chance. How often to expect that is read off all *other* episodes: the product over steps
    of how often, in the same state, the same was done and followed; or in the same state at the same step, where that explains more, as it does
    where episodes end by the clock. States that no other episode met count as states do on average. Episodes of one step can always be equal by chance.
    """
    keys = episode_keys(log)
    unique, first, which, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero((count > 1) & (log.lengths[first] > 1))
    if not len(repeated):
        return np.zeros(len(log), bool), unique[:0]
    order = np.argsort(first)
    only = log.take(first[order])  # one of each kind, ...
    kind = np.repeat(np.arange(len(only)), only.lengths)
    weight = count[order].astype(np.float64)  # ... and how many there are of it

    def elsewhere(x: np.ndarray, kind: np.ndarray) -> np.ndarray:
        """In how many rows of other kinds each row's x comes."""
        (_, all_of), (_, own) = (np.unique(v, return_inverse=True) for v in (x, hashed(x, kind)))
        return np.bincount(all_of, weights=weight[kind])[all_of] - np.bincount(own)[own] * weight[kind]

    def agreement(x: np.ndarray, of: np.ndarray, kind: np.ndarray) -> np.ndarray:
        """The logarithm of how likely another row of the same `of` has the same x."""
        same, rows = elsewhere(x, kind), elsewhere(of, kind)
        mean = (same @ weight[kind]) / max(rows @ weight[kind], 1)
        with np.errstate(divide="ignore"):
            return np.log((same + mean) / (rows + 1))

    seen, kinds, done = hashed(only.obs), np.arange(len(only)), step_keys(only)
    at = np.arange(only.steps) - np.repeat(only.starts, only.lengths)
    ways = (done, seen), (hashed(done, at), hashed(seen, at))
    path = np.max([np.add.reduceat(agreement(x, of, kind), only.starts) for x, of in ways], axis=0)
    path += agreement(seen[only.starts], np.zeros(len(only)), kinds)
    expected = np.zeros(len(unique))
    expected[order] = len(log) * np.exp(path)
    chance = scipy.stats.poisson.sf(count[repeated] - 2, expected[repeated])
    odd = repeated[chance < RARE / len(unique)]  # one of so many that could have looked odd
    again = np.isin(which, odd)
    again[first[odd]] = False
    return again, unique[odd]


def halves(log: Episodes) -> tuple[np.ndarray, np.ndarray]:
    """(rows, the half that each is in, 0 or 1): of whole episodes, always the same ones."""
    order = np.random.default_rng(0).permutation(len(log))
    taken = order[: max(2, int(np.searchsorted(np.cumsum(log.lengths[order]), SOME)) + 1)]
    half = np.full(len(log), -1)
    half[taken] = np.arange(len(taken)) % 2
    half = np.repeat(half, log.lengths)
    rows = np.flatnonzero(half >= 0)
    return rows, half[rows]


def source(name: str) -> str:
    """The column of the table that a dimension comes from: ward of ward=east, lactate of lactate (missing)."""
    return name.partition("=")[0].removesuffix(" (missing)")


def predicted(x: np.ndarray, y: np.ndarray, half: np.ndarray, *, classes: bool) -> float:
    """How much one column, or several (rows, columns), tells of another, by trees grown on the other half: 1 is all of it, 0 no more than the commonest value (the mean)."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    missed, blind, x = 0.0, 0.0, flat(x)
    for part in (0, 1):
        learn, ask = half != part, half == part
        if not learn.any() or not ask.any():
            return 0.0
        tree = (DecisionTreeClassifier if classes else DecisionTreeRegressor)(max_leaf_nodes=32, min_samples_leaf=5, random_state=0)
        said = tree.fit(x[learn], y[learn]).predict(x[ask])
        if classes:
            values, count = np.unique(y[learn], return_counts=True)
            missed, blind = missed + (said != y[ask]).sum(), blind + (values[count.argmax()] != y[ask]).sum()
        else:
            missed, blind = missed + ((said - y[ask]) ** 2).sum(), blind + ((y[learn].mean() - y[ask]) ** 2).sum()
        if missed > 0.5 * blind:  # the other half will not save it
            break
    return float(1 - missed / blind) if blind > 0 else 0.0


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(columns of x,): with y; 0 where one of both never changes."""
    x, y = x - x.mean(axis=0, dtype=np.float64), y - y.mean(dtype=np.float64)
    size = np.sqrt((x**2).sum(axis=0) * (y**2).sum())
    return np.divide(x.T @ y, size, out=np.zeros(x.shape[1]), where=size > 0)


def copying(x: np.ndarray, y: np.ndarray, *, ranks: bool = True) -> np.ndarray:
    """(columns of x,) bool: which are y in other units, or with `ranks` on any scale that keeps the order. Seen on some rows, then on all."""
    rows = np.linspace(0, len(y) - 1, min(len(y), SOME)).astype(int)
    rows = rows if np.ptp(y[rows]) > 0 else np.arange(len(y))
    linear = np.abs(correlations(x[rows], y[rows])) > EXACT
    if linear.any():
        linear[linear] = np.abs(correlations(x[:, linear], y)) > EXACT
    ranked = lambda v: scipy.stats.rankdata(v[rows], axis=0)
    return linear | (np.abs(correlations(ranked(x), ranked(y))) > EXACT) if ranks else linear


def varied(log: Episodes, rows=slice(None)) -> list[int]:
    """The columns of observations that change at all (in some rows)."""
    return np.flatnonzero(log.obs[rows].min(axis=0) != log.obs[rows].max(axis=0)).tolist()


def strays(x: np.ndarray) -> np.ndarray:
    """(n,) bool: values whose distance from the median is more than ten times what 99 in 100 keep within, and three times that of the next
    nearest: at most one in a hundred, and cut off from the others. Values at the median do not count, as most of a sparse column are; nothing
    is said where fewer than 100 are left."""
    away = np.abs(x - np.median(x))
    off = away[away > 0]
    if len(off) < 100:
        return np.zeros(len(x), bool)
    last = len(off) - len(off) // 100 - 1
    ordered = np.sort(np.partition(off, last)[last:])
    apart = (ordered[1:] > 10 * ordered[0]) & (ordered[1:] > 3 * ordered[:-1])
    return away >= ordered[1:][apart.argmax()] if apart.any() else np.zeros(len(x), bool)


def codes(x: np.ndarray) -> np.ndarray:
    """(n,) bool: a value such as -999 or 9999 that comes three times or more, is the least or the greatest, and lies apart from the others."""
    for end in (x.min(), x.max()):
        rest = x[x != end]
        nines = abs(end) >= 9 and abs(end) + 1 == 10.0 ** round(np.log10(abs(end) + 1))
        if nines and 3 <= len(x) - len(rest) < len(x) and np.abs(rest - end).min() > np.ptp(rest) / 4:
            return x == end
    return np.zeros(len(x), bool)


def measured(log: Episodes) -> dict[str, np.ndarray]:
    """Columns of numbers by name: observations that change, and rewards."""
    return ({log.obs_names[j]: log.obs[:, j] for j in varied(log)} if vector(log) else {}) | {"reward": log.reward}


def by_state(log: Episodes) -> np.ndarray:
    """(states, actions): how often each was taken."""
    out = np.zeros((log.spec.obs.size, log.spec.action.size), int)
    np.add.at(out, (log.obs, log.action), 1)
    return out


def free(log: Episodes) -> np.ndarray:
    """(steps,) bool: where a mask leaves a choice."""
    return np.ones(log.steps, bool) if log.mask is None else log.mask.sum(axis=1) > len(choices(log.spec.action))


def unit(log: Episodes) -> np.ndarray:
    """Actions of a `Box` in unit scale."""
    return log.action if log.view.action is None else log.view.action.host(log.action)
