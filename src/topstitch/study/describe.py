"""The numbers of a data report: what a log holds, how its decisions were made, how far from them another policy may go, and what could be
gained. Plain for JSON, and bounded in size: histograms and the commonest, never rows.

Trajectory quality and state-action coverage are those of Schweighofer et al. 2022, https://arxiv.org/abs/2111.04714: the mean return
between that of a random policy (0) and that of an expert (1), and the distinct pairs of observation and action over those of a reference.
The paper takes expert and reference from online learning, which a log alone does not have; `docs/data-report.md` says what stands in
their place.
"""

from collections.abc import Sequence

import numpy as np

from ..core import Box, Discrete, Image, MultiDiscrete
from ..data import Episodes
from ..disk import plain
from ..ope import Behaviour
from .numbered import Numbered, numbered, simple
from .practice import practice, reach
from .stitching import stitching, tenth

COLUMNS, NAMES = 30, 200
"Columns that are described, and further ones that are named."
MEMBERS = 50
"States or choices whose counts are given, the commonest first."
BARS = 24
"Intervals of a histogram."
FEW = 12
"As many distinct values (of whole numbers, 40) are counted one by one."
LEVELS = (0, 1, 2, 5, 10, 20, 50)
"Lower ends of how often a pair was logged."
SHOWN = 12, 25
"States and actions in the table of counts."
SLICES = 100
"Where distinct rows are counted, each column is cut at so many equally spaced points, as by the paper's code."


def describe(
    log: Episodes,
    behaviour: Behaviour | None = None,
    seed: int = 0,
    *,
    discount: float = 1.0,
    references: tuple[float, float] | None = None,
) -> dict:
    """All numbers of the report of `log`.

    `behaviour`: the logger as already fitted (`ope.fit_behaviour`), to spare fitting it; the parts on practice then describe its episodes.
    `seed` draws the episodes by which practice is fitted where there are many, halves, and starts of k-means. Returns are at `discount`.
    `references`: the returns of a random and of an expert policy, where they are known, for trajectory quality.
    """
    flat, obs_names, action_names = simple(log)
    table = numbered(flat, obs_names, action_names, seed)
    found = practice(flat, behaviour, seed)
    gains = stitching(table, flat, discount, seed)
    out = {
        "source": log.source,
        "fingerprint": log.fingerprint(),
        "seed": seed,
        "discount": discount,
        "episodes": episodes(log, discount),
        "rewards": rewards(log),
        "observations": observations(log, flat),
        "actions": actions(log),
        "coverage": coverage(table),
        "practice": found.numbers,
        "reach": reach(found) if found.toward else None,
        "quality": quality(log, flat, table, gains, references),
        "stitching": gains,
        "notes": list(log.notes[:20]),
    }
    return plain(out)


# columns ---------------------------------------------------------------------------------------------------------------------


def summary(x: np.ndarray) -> dict:
    """Mean, spread and quantiles of numbers, and their histogram."""
    x = np.asarray(x, np.float64)
    names = ("low", "q05", "q25", "median", "q75", "q95", "high")
    cuts = np.quantile(x, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
    return {"mean": float(x.mean()), "sd": float(x.std()), **dict(zip(names, cuts.tolist())), "histogram": histogram(x)}


def histogram(x: np.ndarray) -> dict:
    """{"values", "counts"} of a few distinct values, else {"edges", "counts", "below", "above"} of equal intervals, between whole numbers
    if all values are whole. Where the range is more than
    twice that of the middle 99 %, the intervals cover only these, and `below` and `above` count what lies beyond."""
    values, counts = np.unique(x, return_counts=True)
    if len(values) <= FEW or (len(values) <= 40 and (values == np.round(values)).all()):
        return {"values": values.tolist(), "counts": counts.tolist()}
    low, high = np.quantile(x, [0.005, 0.995])
    if np.ptp(x) <= 2 * (high - low) or low == high:
        low, high = values[0], values[-1]
    edges = np.linspace(low, high, BARS + 1)
    if (values == np.round(values)).all():  # an interval holds as many whole numbers as any other
        wide = -(-(high - low + 1) // BARS)
        low = np.floor(low)
        edges = np.arange(low, high + wide + 1, wide) - 0.5
        high = edges[-1]
    counts, _ = np.histogram(x, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "below": int((x < low).sum()), "above": int((x > high).sum())}


def episodes(log: Episodes, discount: float) -> dict:
    """Counts, lengths, returns, and how episodes end. `unit` is "share" where every undiscounted return lies in 0 … 1."""
    returns, ended = log.returns(discount), log.terminal[log.stops - 1]
    by_end = {name: float(returns[which].mean()) if which.any() else None for name, which in (("terminal", ended), ("truncated", ~ended))}
    share = discount == 1 and returns.min() >= 0 and returns.max() <= 1
    return {
        "count": len(log), "steps": log.steps, "lengths": summary(log.lengths), "returns": summary(returns),
        "terminal": int(ended.sum()), "truncated": int((~ended).sum()), "return_by_end": by_end, "unit": "share" if share else "return",
    }  # fmt: skip


def rewards(log: Episodes) -> dict:
    """Of single steps; `last` is the share of what was earned or lost that came with the last step of an episode."""
    total = np.abs(log.reward, dtype=np.float64).sum()
    last = np.abs(log.reward[log.stops - 1], dtype=np.float64).sum() / total if total else 0.0
    return {**summary(log.reward), "zero": float((log.reward == 0).mean()), "last": float(last)}


def observations(log: Episodes, flat: Episodes) -> dict:
    space = log.spec.obs
    if isinstance(space, Discrete):
        return {"kind": "states", "size": space.size, **commonest(np.bincount(log.obs, minlength=space.size), range(space.size))}
    if isinstance(space, Image):
        channels = [summary(log.obs[..., c].reshape(log.steps, -1).mean(axis=1)) for c in range(space.channels)]
        return {"kind": "pictures", "height": space.height, "width": space.width, "peak": space.peak,
                "columns": [{"name": f"channel {c}, mean of a picture", **each} for c, each in enumerate(channels)][:COLUMNS],
                "further": [], "left_out": max(space.channels - COLUMNS, 0)}  # fmt: skip
    return {"kind": "vectors", "size": space.size, **described(flat.obs, log.obs_names)}


def actions(log: Episodes) -> dict:
    space = log.spec.action
    if isinstance(space, Discrete):
        out = {"kind": "choice", "size": space.size, **commonest(np.bincount(log.action, minlength=space.size), log.action_names)}
        return out | ({"grid": grid} if (grid := _grid(log)) else {})
    if isinstance(space, MultiDiscrete):
        parts = [{"name": name, **commonest(np.bincount(column, minlength=size), range(size))}
                 for name, column, size in zip(log.action_names, log.action.T, space.sizes)]  # fmt: skip
        return {
            "kind": "choices",
            "size": len(parts),
            "parts": parts[:COLUMNS],
            "further": list(log.action_names[COLUMNS : COLUMNS + NAMES]),
        }
    out = {"kind": "vectors", "size": space.size, **described(log.action, log.action_names)}
    unit = log.view.action.host(log.action)[:, :COLUMNS]
    low, high = ((side >= 1 - 1e-6).mean(axis=0) for side in (-unit, unit))
    for column, at_low, at_high in zip(out["columns"], low, high):
        column |= {"at_low": float(at_low), "at_high": float(at_high)}
    return out


def commonest(counts: np.ndarray, names: Sequence) -> dict:
    """The counts of the commonest members with their names, how many were ever seen, how many of the commonest it takes to hold `half` of
    all, and what the others have together."""
    order = np.argsort(-counts, kind="stable")
    half = int(np.searchsorted(2 * np.cumsum(counts[order]), counts.sum())) + 1
    order = order[:MEMBERS][counts[order[:MEMBERS]] > 0]
    return {"seen": int((counts > 0).sum()), "half": half, "members": [{"name": str(names[i]), "count": int(counts[i])} for i in order],
            "others": int(counts.sum() - counts[order].sum())}  # fmt: skip


def described(x: np.ndarray, names: Sequence[str]) -> dict:
    columns = [{"name": name, **summary(column)} for name, column in zip(names, x[:, :COLUMNS].T)]
    return {"columns": columns, "further": list(names[COLUMNS : COLUMNS + NAMES]), "left_out": max(len(names) - COLUMNS, 0)}


def _grid(log: Episodes) -> dict | None:
    """Counts by both choices, where an action stands for a pair of them."""
    codec = log.codec
    if codec is None or codec.joint is None or len(codec.action) != 2:
        return None
    first, second = codec.action
    counts = np.zeros((len(first.labels), len(second.labels)), int)
    np.add.at(counts, tuple(np.array(codec.joint)[log.action].T), 1)
    if max(counts.shape) > SHOWN[0]:
        return None
    return {"rows": first.name, "columns": second.name, "row_names": list(first.labels), "column_names": list(second.labels),
            "counts": counts.tolist()}  # fmt: skip


# coverage --------------------------------------------------------------------------------------------------------------------


def coverage(table: Numbered) -> dict:
    """Which actions were taken in which states (or cells), and how often.

    `pairs` are shares, by `levels`, of the pairs of a visited state and a legal action; `decisions` are shares of the decisions, by how
    often their pair was logged. `alone`: the share of decisions in states where only one action was ever taken; `tried`: how many were, for
    a decision, on average. `counts` has the commonest states and actions.
    """
    pair, count = np.unique(table.state * table.actions + table.action, return_counts=True)
    visits = np.bincount(table.state, minlength=table.states)
    seen = np.flatnonzero(visits)
    legal = len(seen) * table.actions if table.legal is None else int(table.legal[seen].sum())
    which = np.searchsorted(LEVELS, count, side="right") - 1
    pairs = np.bincount(which, minlength=len(LEVELS)).astype(float)
    pairs[0] = legal - len(pair)
    tried = np.bincount(pair // table.actions, minlength=table.states)
    rows, columns = (
        np.argsort(-visits, kind="stable")[: SHOWN[0]],
        np.argsort(-np.bincount(table.action, minlength=table.actions), kind="stable"),
    )
    rows, columns = rows[visits[rows] > 0], np.sort(columns[: SHOWN[1]])
    counts = np.zeros((len(rows), len(columns)), int)
    for i, state in enumerate(rows):
        counts[i] = np.bincount(table.action[table.state == state], minlength=table.actions)[columns]
    return {
        "exact": table.exact, "numbered": table.state_groups is None, "states": table.states, "seen": len(seen), "actions": table.actions,
        "logged": len(pair), "possible": legal, "levels": list(LEVELS), "pairs": (pairs / legal).tolist(),
        "decisions": (np.bincount(which, weights=count, minlength=len(LEVELS)) / count.sum()).tolist(),
        "alone": float(visits[tried == 1].sum() / visits.sum()), "tried": float((tried * visits).sum() / visits.sum()),
        "counts": {"states": [table.state_group(int(i)) | {"visits": int(visits[i])} for i in rows],
                   "actions": [table.action_groups[i] for i in columns], "rows": counts.tolist()},
    }  # fmt: skip


def quality(log: Episodes, flat: Episodes, table: Numbered, gains: dict, references: tuple[float, float] | None) -> dict:
    """Trajectory quality, by what stands for the random and for the expert policy, and state-action coverage.

    `episodes`: between the worst and the best tenth of the episodes. `policies`: between acting at random among the actions that were taken
    and the best policy within them, in the world of the log (see `stitching`). `given`: between the returns that were given. The reference
    of coverage is a log of the same length that never does the same twice, as far as there are different things to do.
    """
    returns = log.returns(gains["discount"])
    low, high = (float(returns[tenth(returns, best)].mean()) for best in (False, True))
    between = lambda x, low, high: (x - low) / (high - low) if high > low else None
    best = next(row["value"] for row in gains["thresholds"] if row["least"] == gains["chosen"])
    quality = {
        "episodes": {"value": between(float(returns.mean()), low, high), "low": low, "high": high},
        "policies": {"value": between(gains["practice"], gains["uniform"], best), "low": gains["uniform"], "high": best},
        "given": references and {"value": between(float(returns.mean()), *references), "low": references[0], "high": references[1]},
    }
    if table.exact:
        possible = table.states * table.actions if table.legal is None else int(table.legal.sum())
        count = np.unique(table.state * table.actions + table.action, return_counts=True)[1]
    else:
        possible, count = log.steps, distinct(flat)
    reference = min(log.steps, possible)
    share = count / count.sum()
    return {
        "trajectory": quality,
        "coverage": {
            "value": len(count) / reference,
            "distinct": len(count),
            "reference": reference,
            "slices": None if table.exact else SLICES,
            "effective": float(np.exp(-(share * np.log(share)).sum())),
        },
    }


def distinct(log: Episodes) -> np.ndarray:
    """How often each distinct pair of observation and action occurs, columns of vectors cut into intervals."""
    columns = [column.reshape(log.steps, -1) for column in (log.obs, log.action)]
    key, rng = np.zeros(log.steps, np.uint64), np.random.default_rng(0)
    for column, space in zip(columns, (log.spec.obs, log.spec.action)):
        for x in column.T:
            if isinstance(space, Box):
                x = (x - x.min()).astype(np.float64)
                x *= (SLICES - 1) / (x.max() or 1)
            key += x.astype(np.uint64) * rng.integers(
                2**64, dtype=np.uint64
            )  # a sum by random numbers: equal for equal rows, and only for these
    return np.unique(key, return_counts=True)[1]
