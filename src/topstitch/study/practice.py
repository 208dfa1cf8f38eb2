r"""How the logged decisions were made, and how far from that another policy may go.

Practice is fitted by folds of episodes (`ope.fit_behaviour`), so what is said of an episode comes from a model that never saw it. Then
policies are made that do as practice does but for a share ε of their decisions,

$$ \pi_\varepsilon = (1 - \varepsilon)\,\mu + \varepsilon\,\nu, \qquad
   \frac{\pi_\varepsilon}{\mu}(a \mid s) = 1 - \varepsilon + \varepsilon\,\frac{\nu(a \mid s)}{\mu(a \mid s)}, $$

with ν acting at random among the actions that practice takes there at least once in a hundred times, or always as it does most often. The
effective sample size of the episodes under such a policy, (Σ w)² / Σ w² of the products of ratios (Kish 1965), says how many of its own
episodes the log is worth: the distance from practice at which it falls below 100, or 10, is how far this log can see.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from ..core import Discrete, Spec
from ..data import Episodes
from ..nets.distributions import EDGE
from ..ope import Behaviour, Refused, fit_behaviour
from ..ope.diagnostics import ASTRAY, LOST, SURE

ROWS, CHOICES, DIMENSIONS = 50_000, 4_000_000, 100_000
"Rows by which practice is fitted, at most (of numbered states more); rows × choices; and rows × dimensions of an action."
LONGEST = 2_500
"Steps of an episode that enter, at most."
MANY_CHOICES, MANY_DIMENSIONS = 10, 6
"Above these, boosted trees would take minutes: practice is then a logistic regression, or a Gaussian one in two folds."
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
"The ε of the table."
NEEDS = (10, 100)
"Effective sample sizes: below the first estimates are refused (`ope.diagnostics.LEAST`), below the second intervals are too narrow."
EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"Of the probabilities of what was done."
ALONE = 0.99
"From this probability on an action is the only one in play."
IN_PLAY = 0.01
"The probability from which on an action is one that practice takes."
FIRMER = 0.25
"The factor on the variance of a vector's distribution that takes the place of what is done most often."


class Practice(NamedTuple):
    """What was found, and what the rest of a report needs of it."""

    numbers: dict
    log: Episodes
    "The episodes by which it was found."
    log_prob: np.ndarray | None
    "(steps,): of the logged actions under the logger; recorded where the log has them, else fitted."
    toward: dict[str, np.ndarray]
    "(steps,): of the logged actions under each ν."


def part(log: Episodes, rows: int, seed: int) -> Episodes:
    """Whole episodes drawn at random until they hold so many rows; of longer ones than `LONGEST` only their first steps."""
    lengths = np.minimum(log.lengths, LONGEST)
    order = np.random.default_rng(seed).permutation(len(log))
    many = max(2, int(np.searchsorted(np.cumsum(lengths[order]), rows)))
    if log.steps <= rows and lengths.sum() == log.steps:
        return log
    log = log.take(np.sort(order[:many]))
    keep = np.arange(log.steps) - np.repeat(log.starts, log.lengths) < LONGEST
    columns = {name: column[keep] for name, column in log.columns().items() if not name.startswith("info/")}
    return dataclasses.replace(log, **columns, info={}, stops=np.cumsum(np.minimum(log.lengths, LONGEST)))


def practice(log: Episodes, behaviour: Behaviour | None, seed: int) -> Practice:
    """Of a log that is `numbered.simple`. A given `behaviour` is not fitted again: then its own episodes are described."""
    discrete = isinstance(log.spec.action, Discrete)
    size = log.spec.action.size
    if behaviour is None:
        numbered = isinstance(log.spec.obs, Discrete) and discrete
        most = CHOICES // size if discrete else DIMENSIONS // size
        log = part(log, most if numbered else min(ROWS, most), seed)
        kind, folds = "auto", 5
        if discrete and not numbered and size > MANY_CHOICES:
            kind = "categorical"
        if not discrete and size > MANY_DIMENSIONS:
            kind, folds = "gaussian", 2
        try:
            behaviour = fit_behaviour(log, kind, folds, seed=seed)
        except Refused as reason:
            numbers = {"refused": str(reason), "recorded": log.log_prob is not None, "episodes": len(log), "steps": log.steps}
            known = None if log.log_prob is None else log.log_prob.astype(np.float64)
            return Practice(numbers, log, known, {} if known is None or len(log) < 2 else {"random": at_random(log)})
    log = behaviour.log
    recorded = log.log_prob is not None
    log_prob = log.log_prob.astype(np.float64) if recorded else behaviour.log_prob
    curve = behaviour.calibration()
    numbers = {
        "refused": None,
        "recorded": recorded,
        "kind": behaviour.kind,
        "episodes": len(log),
        "steps": log.steps,
        "score": behaviour.score,
        "score_blind": blind(log, seed),
        "score_recorded": float(log_prob.mean()) if recorded else None,
        "calibration": {name: x.tolist() for name, x in curve._asdict().items() if name != "error"} | {"error": curve.error},
    }
    toward = {"random": at_random(log, behaviour.probs)}
    if discrete:
        rows, p = np.arange(log.steps), behaviour.probs
        most = p.argmax(axis=1)
        with np.errstate(divide="ignore"):
            toward["usual"] = np.log((most == log.action).astype(float))
            numbers["in_play"] = float(np.exp(-np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(axis=1)).mean())
        numbers["top"] = float((most == log.action).mean())
        numbers["sure"] = float((p[rows, most] >= ALONE).mean())
        done = np.exp(log_prob)
        numbers["done"] = {"edges": list(EDGES), "share": (np.histogram(done, EDGES)[0] / log.steps).tolist(), "least": float(done.min())}
        if recorded:
            legal = np.full(log.steps, size) if log.mask is None else log.mask.sum(axis=1)
            numbers["inverse"] = {
                "mean": float((1 / (done * legal)).mean()),
                "error": float((1 / (done * legal)).std() / math.sqrt(log.steps)),
            }
    else:
        unit = log.action if log.view.action is None else log.view.action.host(log.action)
        unit, said = unit.astype(np.float64), behaviour.said
        firmer = said.tempered(FIRMER).log_prob(unit) - said.log_prob(unit)
        toward["usual"] = behaviour.log_prob + firmer
        mean = (said.weight[..., None] * said.mean).sum(axis=1, keepdims=True)
        each = np.diagonal(said.cov, axis1=-2, axis2=-1) + (said.mean - mean) ** 2
        numbers["spread"] = np.sqrt((said.weight[..., None] * each).sum(axis=1)).mean(axis=0).tolist()
    return Practice(numbers, log, log_prob, toward)


def blind(log: Episodes, seed: int) -> float:
    """The mean held-out log-likelihood of a step for somebody who does not look at observations."""
    nothing = np.zeros(log.steps, np.int32)
    unseeing = dataclasses.replace(log, spec=Spec(Discrete(1), log.spec.action), obs=nothing, next_obs=nothing, codec=None)
    return fit_behaviour(unseeing, "counts" if isinstance(log.spec.action, Discrete) else "gaussian", seed=seed, calibrate="none").score


def at_random(log: Episodes, probs: np.ndarray | None = None) -> np.ndarray:
    """(steps,): the log-probability of the logged action for somebody who takes all alike: of choices those that `probs` (steps, actions)
    say are in play, or all legal ones; of a `Box` all between its bounds, which have no probability of their own."""
    if isinstance(log.spec.action, Discrete):
        free = np.ones((log.steps, log.spec.action.size), bool) if log.mask is None else log.mask
        free = free if probs is None else probs >= IN_PLAY
        taken = np.take_along_axis(free, log.action[:, None].astype(np.int64), axis=1)[:, 0]
        return np.where(taken, -np.log(np.maximum(free.sum(axis=1), 1)), -np.inf)
    low, high = (np.asarray(bound, np.float64) for bound in log.view.action.bounds())
    inside = np.abs(log.view.action.host(log.action)) < 1 - EDGE
    return np.where(inside.all(axis=1), -np.log(high - low).sum(), -np.inf)


# how far -----------------------------------------------------------------------------------------------------------------------


def reach(found: Practice) -> dict:
    """Effective sample sizes by steps into the episode and by ε, toward each ν, None where weights cannot stand for the policy; the largest ε
    that whole episodes allow; and the `mean` of ν / μ over steps, which is 1 unless ν does what practice never does, with its standard error
    by episodes."""
    log = found.log
    steps = horizons(int(log.lengths.max()))
    out = {
        "episodes": len(log),
        "steps": steps,
        "alive": [int((log.lengths >= t).sum()) for t in steps],
        "shares": list(SHARES),
        "recorded": log.log_prob is not None,
        "toward": {},
    }
    for name, log_nu in found.toward.items():
        ratio = log_nu - found.log_prob
        table = [until_lost([effective(summed(mixed(ratio, share), log, t)) for t in steps]) for share in SHARES]
        grid = np.arange(1, 101) / 100
        whole = np.array([effective(summed(mixed(ratio, share), log, steps[-1])) or 0.0 for share in grid])
        furthest = {str(need): _furthest(whole >= need, grid) for need in NEEDS}
        mean, error = _mean(np.exp(ratio), log)
        out["toward"][name] = {"effective": table, "furthest": furthest, "mean": mean, "error": error}
    return out


def until_lost(row: list[float | None]) -> list[float | None]:
    """What the log lacks of the first steps, it lacks of more steps, too; there a single weight may hide it."""
    return [None if None in row[: i + 1] else worth for i, worth in enumerate(row)]


def _mean(ratio: np.ndarray, log: Episodes) -> tuple[float, float]:
    """(mean over steps, its standard error: steps of one episode are not independent)."""
    mean = ratio.mean()
    each = np.add.reduceat(ratio - mean, log.starts)
    return float(mean), float(np.sqrt((each**2).sum()) / log.steps)


def _furthest(enough: np.ndarray, grid: np.ndarray) -> float:
    """The last share up to which there is enough; 0 if there is not even at the first."""
    short = np.flatnonzero(~enough)
    reached = len(grid) if len(short) == 0 else short[0]
    return float(grid[reached - 1]) if reached else 0.0


def horizons(longest: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, … and the longest."""
    round_ones = [m * 10**k for k in range(6) for m in (1, 2, 5)]
    return [t for t in round_ones if t < longest] + [longest]


def mixed(log_ratio: np.ndarray, share: float) -> np.ndarray:
    """log(1 - ε + ε · ratio)."""
    with np.errstate(divide="ignore"):
        return np.logaddexp(np.log(1 - share), np.log(share) + log_ratio)


def summed(log_ratio: np.ndarray, log: Episodes, steps: int) -> np.ndarray:
    """(episodes,): over the first so many steps of each."""
    time = np.arange(log.steps) - np.repeat(log.starts, log.lengths)
    return np.bincount(np.repeat(np.arange(len(log)), log.lengths), weights=np.where(time < steps, log_ratio, 0), minlength=len(log))


def effective(log_weight: np.ndarray) -> float | None:
    """Kish's (Σ w)² / Σ w²; None where the mean weight is so far from 1 that no estimate would be made (`ope.refusals`): many weights, small and
    alike, have a large effective sample, and stand for nothing."""
    top = log_weight.max()
    if top == -np.inf:
        return None
    with np.errstate(over="ignore"):
        w, one = np.exp(log_weight - top), np.exp(-top)  # in units of the largest
    by_chance = SURE * w.std(ddof=1) / math.sqrt(len(w))
    if one - w.mean() > max(ASTRAY * one, by_chance) or w.mean() - one > max(LOST * one, by_chance) or np.isinf(one):
        return None
    return float(w.sum() ** 2 / (w**2).sum())
