"""How far a log can answer for another policy: what its weights look like, and when to say that it cannot."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .importance import finite, relative
from .table import Table

LEAST = 10.0
"Episodes that the weights must be worth."
CERTAIN = 1e-6
"How near to 1 the probability of what a logger does may be before it counts as the only thing that it does."
LOST, SURE = 0.05, 4.0
"Where ratios fall short of their mean 1 by this much, and by this many standard errors, the log lacks what the policy does."
ASTRAY = 0.2
"The same for weights of several steps, whose mean falls short by chance, too, while the few large ones have not been seen. Not so above 1."
TOO_LIKELY = ("the propensities are not those with which these actions were taken, or the policy has learned from these very episodes and finds "
              "likely what happened to be done. Correct the propensities, or judge by episodes that it did not learn from.")  # fmt: skip
FEW = 100.0
"Below so many effective episodes a bootstrap is known to be too narrow."
NEGLIGIBLE = 0.01
"The discounted share of steps that may be without any weight."
HEAVY = 0.7
"The Pareto k from which on a sample says little of the mean: Vehtari et al. 2024."


class Diagnostics(NamedTuple):
    """What the weights of a table look like. Weights are ratios of whole episodes unless said otherwise."""

    episodes: int
    effective: float
    "Kish's (Σ w)² / Σ w²: how many episodes under the policy itself would be worth as much."
    effective_by_step: np.ndarray
    "(horizon,): the same of the ratios up to each step."
    effective_per_decision: float
    "The harmonic mean of these, a step counting by its discount and by how many episodes have it: for per-decision estimators."
    largest: float
    "The share of the largest weight in their sum."
    pareto_k: float
    "How heavy the upper tail is: below ½ finite variance, from 1 on not even a mean. NaN where there is no tail."
    mean: float
    "Of the weights; should be 1."
    mean_error: float
    mean_per_decision: float
    "Of the ratios up to each step, steps counting as in `effective_per_decision`; should be 1."
    mean_per_decision_error: float
    step_mean: float
    "Of the ratios of single steps; should be 1, and is below where the policy does what the logger does not."
    step_mean_error: float
    "By episodes, since steps of one are not independent."
    overlap: float
    "Σ_a min(π, μ), estimated by the mean of min(1, ratio) over steps: 1 where they agree, 0 where they have nothing in common."
    certain: float
    "The share of steps at which the logger could do nothing else."
    truncated: float
    "The share of episodes that the log cuts off."

    def plain(self) -> dict:
        """For JSON, and without what has one number a step."""
        return {name: float(x) for name, x in self._asdict().items() if name != "effective_by_step"}


class Weights(NamedTuple):
    """What diagnostics need of the weights of some episodes: all of a log, or a part of it."""

    whole: np.ndarray
    "(episodes,): logarithms of the ratios of whole episodes."
    each: np.ndarray
    "(episodes,): the mean of the ratios up to each step, weighted by how often steps come and how late."
    single: np.ndarray
    "(episodes,): the sum of the ratios of single steps."
    lengths: np.ndarray
    most: np.ndarray
    "(horizon,): logarithms of the largest ratios up to each step."
    total: np.ndarray
    "(horizon,): the sums of these ratios, in units of the largest."
    square: np.ndarray
    "(horizon,): of their squares."
    overlap: float
    "The sum of min(1, ratio) over steps."
    certain: int
    "Steps at which the logger could do nothing else."
    truncated: int
    "Episodes that the log cuts off."


def counted(table: Table) -> np.ndarray:
    """(horizon,): how many episodes have a step, each counting by its discount."""
    return (table.live * table.discount).sum(axis=0)


def weights(table: Table, count: np.ndarray) -> Weights:
    """Of the episodes of a table; `count` (horizon,) is that of the log that it is a part of, which may have longer episodes."""
    live, logs, scaled = table.live, table.log_ratios(), relative(table)
    rest = len(count) - live.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.where(live, np.exp(table.target - table.behaviour), 0)
        share, end = count / count.sum(), live.shape[1] - 1
        share = np.append(share[:end], share[end:].sum()) if rest else share  # what has ended keeps its ratio
        by_step = (np.pad(x, (0, rest), mode="edge") for x in (logs.max(axis=0), scaled.sum(axis=0), (scaled**2).sum(axis=0)))
        overlap, certain = float(np.minimum(step, 1)[live].sum()), int((table.behaviour[live] > -CERTAIN).sum())
        each, single = table.ratios() @ share, step.sum(axis=1)
    return Weights(logs[:, -1], each, single, live.sum(axis=1), *by_step, overlap, certain, int(table.truncated.sum()))


def diagnostics(table: Table) -> Diagnostics:
    """All of it. Nothing overflows: weights are taken relative to the largest where their scale does not matter."""
    count = counted(table)
    return summary([weights(table, count)], count)


def summary(parts: Sequence[Weights], count: np.ndarray) -> Diagnostics:
    """Of a log whose episodes come in parts."""
    together = lambda name: np.concatenate([getattr(part, name) for part in parts])
    top = finite(np.max([part.most for part in parts], axis=0))
    scale = [np.where(np.isfinite(part.most), np.exp(finite(part.most) - top), 0) for part in parts]
    by_step = _effective(sum(part.total * x for part, x in zip(parts, scale)), sum(part.square * x**2 for part, x in zip(parts, scale)))
    logs, lengths = together("whole"), together("lengths")
    n, steps, last = len(logs), int(lengths.sum()), np.exp(logs - finite(logs.max(keepdims=True)))
    with np.errstate(over="ignore", invalid="ignore"):
        single = together("single")
        step_mean = single.sum() / steps
        step_error = np.sqrt(((single - step_mean * lengths) ** 2).sum()) / steps
        (mean, mean_error), (mean_each, each_error) = _mean(np.exp(logs)), _mean(together("each"))
    followed = by_step > 0
    lost = count[~followed].sum() / count.sum()  # at these steps nobody is left who did what the policy does
    per_decision = count[followed].sum() / (count[followed] / by_step[followed]).sum() if lost < NEGLIGIBLE else 0.0
    return Diagnostics(
        episodes=n, effective=float(by_step[-1]), effective_by_step=by_step, effective_per_decision=float(per_decision),
        largest=float(last.max() / last.sum()) if last.any() else np.nan, pareto_k=pareto_k(last),
        mean=float(mean), mean_error=float(mean_error), mean_per_decision=float(mean_each), mean_per_decision_error=float(each_error),
        step_mean=float(step_mean), step_mean_error=float(step_error),
        overlap=sum(part.overlap for part in parts) / steps, certain=sum(part.certain for part in parts) / steps,
        truncated=sum(part.truncated for part in parts) / n,
    )  # fmt: skip


def refusals(table: Table, *, per_decision: bool = False, alone: bool = False, seen: Diagnostics | None = None) -> tuple[str, ...]:
    """Why an estimate that rests on the weights of this table would mean nothing; empty where it may be made.

    `per_decision` asks for estimators that weight each step by what was done up to it, instead of whole episodes. `alone`: there is no other
    estimator to turn to. `seen` spares computing the diagnostics again.
    """
    seen, why = diagnostics(table) if seen is None else seen, []
    if seen.episodes < 2:
        return ("there is only one episode: nothing is known of how others would differ. Give several.",)
    if seen.certain > 0.99 and seen.overlap < 1 - 1e-3:
        why.append(f"the logger is deterministic ({seen.certain:.1%} of its actions had probability 1), but the policy would do something else "
                   f"{1 - seen.overlap:.1%} of the time, and what follows was never seen. Use an estimator that extrapolates (fqe, lstdq), or "
                   "correct the propensities.")  # fmt: skip
    if not np.isfinite([seen.mean, seen.step_mean]).all():
        why.append("ratios overflow: over so many steps the policy and the logger differ too much. Shorten the horizon, or use an estimator "
                   "without ratios of whole episodes.")  # fmt: skip
    elif lost := missing(seen):
        why.append(f"ratios of single steps have the mean {seen.step_mean:.3f} ± {seen.step_mean_error:.3f} instead of 1: about "
                   f"{lost:.0%} of what the policy does, the logger never does there. Restrict the policy to what was done, or "
                   "check that propensities belong to these actions.")  # fmt: skip
    elif seen.step_mean > 1 + max(LOST, SURE * seen.step_mean_error):
        why.append(f"ratios of single steps have the mean {seen.step_mean:.3f} ± {seen.step_mean_error:.3f} instead of 1: {TOO_LIKELY}")
    mean, error = _mean_weight(seen, per_decision)
    if not why and mean > 1 + max(LOST, SURE * error):
        why.append(f"weights have the mean {mean:.2f} ± {error:.2f} instead of 1: {TOO_LIKELY}")
    if not why and mean < 1 - max(ASTRAY, SURE * error):
        why.append(f"weights have the mean {mean:.2f} ± {error:.2f} instead of 1: what the policy would mostly do is not in the log, and the rest "
                   "cannot stand for it. Ask about a policy nearer to the logger, shorten the horizon, or use an estimator that extrapolates "
                   "(fqe, lstdq).")  # fmt: skip
    effective = seen.effective_per_decision if per_decision else seen.effective
    if effective < LEAST:
        else_ = "Shorten the horizon" if per_decision or alone else "Use estimators that weight step by step (wpdis, wdr)"
        why.append(f"the effective sample is {effective:.1f} of {seen.episodes:,} episodes; below {LEAST:.0f} an estimate is the luck of a few. "
                   f"{else_}, log more, or ask about a policy nearer to the logger.")  # fmt: skip
    return tuple(why)


def missing(seen: Diagnostics) -> float:
    """The share of what the policy does that the logger never does there; 0 where that is little, or may be chance."""
    return 1 - seen.step_mean if seen.step_mean < 1 - max(LOST, SURE * seen.step_mean_error) else 0.0


def marginal_refusals(mass: float, effective: float, episodes: int) -> tuple[str, ...]:
    """The same of marginal weights: `mass` is what they say of all the policy's visits, 1 where the log can tell of all of them."""
    why = []
    if abs(mass - 1) > ASTRAY:
        why.append(f"the log can tell of {mass:.0%} of the policy's visits: the rest leads where the log does not, or the features do not fit. "
                   "Ask about a policy nearer to the logger, or use an estimator that extrapolates (fqe, lstdq).")  # fmt: skip
    if effective < LEAST:
        why.append(f"the weights of single steps are worth {effective:.1f} of {episodes:,} episodes; below {LEAST:.0f} an estimate is the luck of "
                   "a few. Log more, or ask about a policy nearer to the logger.")  # fmt: skip
    return tuple(why)


def warnings(seen: Diagnostics, *, per_decision: bool = False) -> tuple[str, ...]:
    """What does not forbid an estimate, but should be known with it."""
    said = few(seen.effective_per_decision if per_decision else seen.effective, seen.episodes)
    if seen.pareto_k > HEAVY:
        said.append(f"weights have a heavy tail (Pareto k = {seen.pareto_k:.2f}, above {HEAVY}): intervals are likely too narrow.")
    mean, error = _mean_weight(seen, per_decision)
    if abs(mean - 1) > max(LOST, SURE * error):
        said.append(f"the mean weight is {mean:.3f} ± {error:.3f} instead of 1: about {abs(1 - mean):.0%} of what the policy does is "
                    f"{'missing' if mean < 1 else 'counted too often'}, which the interval does not know.")  # fmt: skip
    return tuple(said)


def _mean_weight(seen: Diagnostics, per_decision: bool) -> tuple[float, float]:
    return (seen.mean_per_decision, seen.mean_per_decision_error) if per_decision else (seen.mean, seen.mean_error)


def few(effective: float, episodes: int) -> list[str]:
    """What to know of an effective sample that is small, but no reason to refuse."""
    if effective >= FEW:
        return []
    return [f"the effective sample is {effective:.0f} of {episodes:,} episodes: below {FEW:.0f} bootstrap and t intervals are too narrow."]


def pareto_k(weights: np.ndarray) -> float:
    """The shape k of a generalised Pareto distribution fitted to the largest min(n / 5, 3 √n) weights; NaN for fewer than 5, or
    where they do not vary.

    Vehtari, Simpson, Gelman, Yao and Gabry 2024, https://arxiv.org/abs/1507.02646, with the fit of Zhang and Stephens 2009,
    https://doi.org/10.1198/tech.2009.08017, drawn towards ½ by ten observations' worth.
    """
    n = len(weights)
    m = int(min(n / 5, 3 * np.sqrt(n)))
    if m < 5:
        return float("nan")
    ordered = np.sort(weights)
    x = ordered[-m:] - ordered[-m - 1]
    quarter = x[int(m / 4 + 0.5) - 1]
    if quarter <= 0 or x[-1] <= quarter:
        return float("nan")
    grid = 30 + int(np.sqrt(m))
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quarter)
    k = np.log1p(-theta[:, None] * x).mean(axis=1)
    likelihood = m * (np.log(-theta / k) - k - 1)
    posterior = np.exp(likelihood - likelihood.max())
    theta = (theta * posterior).sum() / posterior.sum()
    return float((m * np.log1p(-theta * x).mean() + 10 * 0.5) / (m + 10))


def _mean(x: np.ndarray) -> tuple[float, float]:
    """(mean, its standard error)."""
    return float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")


def _effective(total: np.ndarray, square: np.ndarray) -> np.ndarray:
    return np.divide(total**2, square, out=np.zeros(len(total)), where=square > 0)
