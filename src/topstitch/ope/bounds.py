"""Intervals for the mean of independent per-episode terms.

Every method is one function, the lower end at an error probability α; the upper end is that of -x, turned round, and a two-sided interval
gives α / 2 to each. What holds at every n needs a range, which must be known before the data are seen: the sample's own is not one, and
asking without it is refused. Three methods need only the side towards which they look: a lower end nothing but `low`. That is
what importance weights call for, whose largest value is unknown or astronomical.

| method | holds at every n | lower end needs | source |
|---|---|---|---|
| hoeffding | yes | low, high | Hoeffding 1963, https://doi.org/10.1080/01621459.1963.10500830 |
| bernstein | yes | low, high | Maurer & Pontil 2009, theorem 4, https://arxiv.org/abs/0907.3740 |
| anderson | yes | low | Anderson 1969; band: Massart 1990, https://doi.org/10.1214/aop/1176990746 |
| truncated | yes | low | Thomas, Theocharous & Ghavamzadeh 2015, theorem 1, https://doi.org/10.1609/aaai.v29i1.9541 |
| betting | yes, and at all n together | low | Waudby-Smith & Ramdas 2023, https://doi.org/10.1093/jrsssb/qkad009 |
| t, bootstrap, bca | approximate | | Student 1908; Efron 1987, https://doi.org/10.1080/01621459.1987.10478410 |
"""

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import scipy.special
import scipy.stats

from .table import Refused

Method = Literal["hoeffding", "bernstein", "anderson", "truncated", "betting", "t", "bootstrap", "bca"]
Side = Literal["two", "lower", "upper"]
VALID = ("hoeffding", "bernstein", "anderson", "truncated", "betting")
"Guaranteed at every n, if the declared range is right and episodes are independent."
RESAMPLES = 2000


class Interval(NamedTuple):
    """Where the mean lies. A side that was not asked for is infinite; `valid` says whether the confidence holds at every n."""

    low: float
    high: float
    method: str
    valid: bool

    def __str__(self):
        return f"[{self.low:.3f}, {self.high:.3f}] ({self.method}, {'guaranteed' if self.valid else 'approximate'})"


def interval(
    x, *, method: Method, confidence: float = 0.95, low: float | None = None, high: float | None = None, side: Side = "two",
    denominator=None, resamples: int = RESAMPLES, seed: int = 0,
) -> Interval:  # fmt: skip
    """An interval for the mean of which `x` (n,) are independent draws, or for mean(x) / mean(denominator) of n independent pairs.

    `low` and `high` are what a single term can be at least and at most. `confidence` is that of the whole: a one-sided interval at 95 %
    ends where the two-sided one at 90 % does. `seed` draws resamples and the part of the data that chooses a truncation.
    Raises `Refused` where the question has no answer: no range, terms outside of it, a ratio without approximation, too few terms.
    """
    x, d = np.asarray(x, np.float64), None if denominator is None else np.asarray(denominator, np.float64)
    if x.ndim != 1 or (d is not None and d.shape != x.shape):
        raise ValueError(f"expected one term for each episode, and as many denominators if any; got shapes {x.shape} and {np.shape(d)}.")
    a, b = ends(x, method=method, confidence=confidence, low=low, high=high, side=side, denominator=d, resamples=resamples, seed=seed)
    return Interval(float(a), float(b), method, method in VALID)


def weighted(
    ratio, returns, *, method: Method, confidence: float = 0.95, low: float | None = None, high: float | None = None, side: Side = "two",
    resamples: int = RESAMPLES, seed: int = 0,
) -> Interval:  # fmt: skip
    r"""An interval for E[ρ G], ρ (n,) being ratios of whole episodes and G (n,) their returns, which lie between `low` and `high`.

    $E[\rho] = 1$, so $E[\rho G] = l + E[\rho (G - l)] = h - E[\rho (h - G)]$: the first has terms of at least l however large ρ is,
    the second terms of at most h. So both ends have a guarantee, from the range of *returns* alone. It survives a log that lacks
    some of what the policy does: then E[ρ] < 1, and both means move outwards. Refuses what needs a range of ρ.
    """
    rho, g = np.asarray(ratio, np.float64), np.asarray(returns, np.float64)
    more = dict(method=method, resamples=resamples, seed=seed)
    if method in ("hoeffding", "bernstein"):
        raise Refused(f"{method!r} needs the largest possible ratio of an episode, which grows exponentially with its length, so its "
                      "interval would say nothing. Use 'anderson', 'truncated' or 'betting'.")  # fmt: skip
    if method not in VALID:
        return interval(rho * g, confidence=confidence, side=side, **more)
    if (rho < 0).any():
        raise ValueError(f"ratios must not be negative; the smallest is {rho.min()}.")
    each = 1 - (1 - confidence) / (2 if side == "two" else 1)
    a, b = -np.inf, np.inf
    if side != "upper":
        _need(method, "lower", low=low)
        _within(g, low, high)
        a = interval(low + rho * (g - low), confidence=each, low=low, side="lower", **more).low
    if side != "lower":
        _need(method, "upper", high=high)
        _within(g, low, high)
        b = interval(high - rho * (high - g), confidence=each, high=high, side="upper", **more).high
    return Interval(a, b, method, True)


def ends(
    x: np.ndarray, *, method: Method, confidence: float, low: float | None = None, high: float | None = None, side: Side = "two",
    denominator: np.ndarray | None = None, resamples: int = RESAMPLES, seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The ends of `interval` for samples along the last axis of `x` (…, n), all at once: (…,) each."""
    if method not in get_args(Method):
        raise ValueError(f"There is no method {method!r}. There are: {', '.join(get_args(Method))}.")
    if not 0.5 <= confidence < 1:
        raise ValueError(f"the confidence is {confidence}; expected a number from 0.5 to below 1, for example 0.95.")
    if (n := x.shape[-1]) < 2:
        raise Refused(f"{n} episode says nothing about the spread of others; an interval needs two at least.")
    if not np.isfinite(x).all():
        raise ValueError("a term is not a finite number. Look for overflowing ratios (their logarithms are in the table).")
    alpha = (1 - confidence) / (2 if side == "two" else 1)
    if method not in VALID:
        return _approximate(x, denominator, method, alpha, side, resamples, seed)
    if denominator is not None:
        raise Refused(f"{method!r} bounds a mean. An estimate that divides by its own weights is a ratio of means, biased at every n: no bound "
                      "for it is guaranteed. Use 't', 'bootstrap' or 'bca', or the estimator without self-normalisation.")  # fmt: skip
    bound = lambda x, low, high: np.clip(LOWER[method](x, alpha, low, high, seed), low, high)
    _within(x, low, high)
    none = np.full(x.shape[:-1], np.inf)  # where a side was not asked for
    both = dict(low=low, high=high)
    for end, other in (("lower", "low"), ("upper", "high")):
        if side in ("two", end):
            _need(method, end, **(both if method in ("hoeffding", "bernstein") else {other: both[other]}))
    turned = lambda end: None if end is None else -end
    lower = -none if side == "upper" else bound(x, low, high)
    upper = none if side == "lower" else -bound(-x, turned(high), turned(low))
    return np.asarray(lower), np.asarray(upper)


# lower ends: (x (…, n), α, low, high, seed) -> (…,) ----------------------------------------------------------------------------


def _hoeffding(x, alpha, low, high, seed):
    r"""$\bar x - (h - l) \sqrt{\ln(1/\alpha) / 2n}$."""
    return x.mean(axis=-1) - (high - low) * np.sqrt(np.log(1 / alpha) / (2 * x.shape[-1]))


def _bernstein(x, alpha, low, high, seed):
    r"""$\bar x - \sqrt{2 V_n \ln(2/\alpha) / n} - 7 (h - l) \ln(2/\alpha) / 3 (n - 1)$, $V_n$ with n - 1 in the denominator."""
    n, log = x.shape[-1], np.log(2 / alpha)
    return x.mean(axis=-1) - np.sqrt(2 * x.var(axis=-1, ddof=1) * log / n) - 7 * (high - low) * log / (3 * (n - 1))


def _anderson(x, alpha, low, high, seed):
    r"""The least mean of a distribution whose CDF is nowhere more than $\epsilon = \sqrt{\ln(1/\alpha) / 2n}$ above the sample's.

    That takes ε of mass from the largest terms and puts it on `low`. One-sided band with Massart's constant, proven for α up to 1/2.
    """
    n = x.shape[-1]
    band = np.sqrt(np.log(1 / alpha) / (2 * n))
    steps = np.diff(np.sort(x, axis=-1), axis=-1, prepend=low)
    return low + (steps * np.maximum(0, 1 - np.arange(n) / n - band)).sum(axis=-1)


SHARE, LEAST = 0.05, 5  # of the episodes that choose the threshold; the paper takes a twentieth


def _truncated(x, alpha, low, high, seed):
    r"""Bernstein's bound of min(x, low + c), of which the mean can only be smaller, so x needs no upper range.

    c is the one that promises most for the m other episodes, judged by a twentieth of them, which then count no more:
    $\bar y_c - 7 c \ln(2/\alpha) / 3 (m - 1) - \sqrt{2 V \ln(2/\alpha) / m}$, mean and variance V of the twentieth. With one c for all terms
    theorem 1 of the paper is this bound; constants and share as in its authors' https://github.com/yashchandak/UnO, Src/HCOPE.jl, which tries
    100 thresholds drawn between the least and the largest term.
    """
    n, y = x.shape[-1], x - low
    first = max(LEAST, round(SHARE * n))
    if n < first + LEAST:
        raise Refused(f"'truncated' chooses its threshold by {first} episodes and needs {LEAST} more to bound by; there are {n} in all.")
    order = np.random.default_rng(seed).permutation(n)
    choose, rest = np.sort(y[..., order[:first]], axis=-1), y[..., order[first:]]
    log, m = np.log(2 / alpha), rest.shape[-1]
    # candidates: what was seen, and between: c (…, candidates); sums of min(y, c) and of its square for each
    grid = choose[..., -1:] * np.geomspace(1e-4, 1, 200)
    c = np.concatenate([choose, grid], axis=-1)
    cut = np.minimum(choose[..., None, :], c[..., None])
    promise = cut.mean(axis=-1) - np.sqrt(2 * cut.var(axis=-1, ddof=1) * log / m) - 7 * c * log / (3 * (m - 1))
    c = np.take_along_axis(c, promise.argmax(axis=-1)[..., None], axis=-1)
    return low + _bernstein(np.minimum(rest, c), alpha, 0.0, c[..., 0], seed)


STAKE = 0.5  # of the most that can be put at risk, as in the paper's experiments


def _betting(x, alpha, low, high, seed):
    r"""The least m against which a gambler has not won: $\max_t \prod_{i \le t} (1 + \lambda_i (y_i - m)) < 1/\alpha$, y = x - low.

    If m is the mean, that product is a non-negative martingale from 1, whatever λ is, so it ever reaches 1/α with probability α
    (Ville). $\lambda_t = \sqrt{2 \ln(1/\alpha) / (\hat\sigma^2_{t-1}\, t \ln(1 + t))}$ and at most `STAKE` / m. Episodes count in
    the order in which they stand. Without `high` the past is the only scale: nothing is staked before a term above `low` was seen.
    """
    y = x - low
    t = np.arange(1, y.shape[-1] + 1)
    past = lambda z: np.concatenate([np.zeros((*z.shape[:-1], 1)), np.cumsum(z, axis=-1)[..., :-1]], axis=-1)
    if high is None:
        mean = past(y) / np.maximum(t - 1, 1)
        variance = (mean**2 + np.maximum(past(y**2) - (t - 1) * mean**2, 0)) / t  # one observation more, as far off as the mean is from low
    else:
        scale = (high - low) / 2
        mean = (scale + np.cumsum(y, axis=-1)) / (t + 1)
        variance = (scale**2 + past((y - mean) ** 2)) / t
    with np.errstate(divide="ignore"):
        stake = np.where(variance > 0, np.sqrt(2 * np.log(1 / alpha) / (variance * t * np.log(1 + t))), 0)
    a, b = np.zeros(y.shape[:-1]), y.max(axis=-1)  # every factor falls with m, so where winning ends is found by halving
    for _ in range(60):
        m = ((a + b) / 2)[..., None]
        with np.errstate(divide="ignore"):
            wealth = np.cumsum(np.log1p(np.minimum(stake, STAKE / m) * (y - m)), axis=-1).max(axis=-1)
        won = wealth >= np.log(1 / alpha)
        a, b = np.where(won, m[..., 0], a), np.where(won, b, m[..., 0])
    return low + a


LOWER: dict[str, Callable] = {
    "hoeffding": _hoeffding, "bernstein": _bernstein, "anderson": _anderson, "truncated": _truncated, "betting": _betting
}  # fmt: skip


# approximations -----------------------------------------------------------------------------------------------------------------


def _approximate(x, d, method: str, alpha: float, side: Side, resamples: int, seed: int):
    """Student's t (of a ratio: of its linear terms), or SciPy's bootstrap of the mean (of the ratio of means, pairs drawn together)."""
    n, none = x.shape[-1], np.full(x.shape[:-1], np.inf)
    value = x.mean(axis=-1) if d is None else x.mean(axis=-1) / d.mean(axis=-1)
    if d is not None and not np.isfinite(value).all():
        raise Refused("all denominators are 0: no episode bears on the question.")
    if method == "t":
        linear = x if d is None else (x - value[..., None] * d) / d.mean(axis=-1)[..., None]
        half = scipy.stats.t.ppf(1 - alpha, n - 1) * linear.std(axis=-1, ddof=1) / np.sqrt(n)
        lower, upper = value - half, value + half
    else:
        flat = (np.ptp(x, axis=-1) == 0) if d is None else np.isclose(np.abs(x - value[..., None] * d).max(axis=-1), 0, atol=1e-12)
        lower, upper = _bootstrap(x, d, method, alpha, resamples, seed)
        lower, upper = np.where(flat, value, lower), np.where(flat, value, upper)
    return np.asarray(-none if side == "upper" else lower), np.asarray(none if side == "lower" else upper)


def _bootstrap(x, d, method: str, alpha: float, resamples: int, seed: int):
    def statistic(x, d=None, axis=-1):
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample may hold no weight at all
            return x.mean(axis=axis) if d is None else np.nan_to_num(x.mean(axis=axis) / d.mean(axis=axis), posinf=np.inf, neginf=-np.inf)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns of data that do not vary, for which the caller has an answer
        drawn = scipy.stats.bootstrap((x,) if d is None else (x, d), statistic, n_resamples=resamples, rng=np.random.default_rng(seed), axis=-1,
                                      confidence_level=1 - 2 * alpha, vectorized=True, paired=d is not None,
                                      batch=max(1, 2**22 // x.size), method="percentile")  # fmt: skip
    found = drawn.confidence_interval
    if method == "bootstrap":
        return np.asarray(found.low), np.asarray(found.high)
    # bias-corrected and accelerated: SciPy has it too, but leaves out one episode at a time by drawing all others again, n² numbers in all
    said, value = drawn.bootstrap_distribution, statistic(x, d)[..., None]
    bias = scipy.special.ndtri(((said < value).mean(axis=-1) + (said <= value).mean(axis=-1)) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = (x.sum(axis=-1, keepdims=True) - x) / (x.shape[-1] - 1 if d is None else d.sum(axis=-1, keepdims=True) - d)
        off = without.mean(axis=-1, keepdims=True) - without
        bend = (off**3).sum(axis=-1) / (6 * (off**2).sum(axis=-1) ** 1.5)
    ordered, at = np.sort(said, axis=-1), []
    for z, plain in ((scipy.special.ndtri(alpha), found.low), (-scipy.special.ndtri(alpha), found.high)):
        level = scipy.special.ndtr(bias + (bias + z) / (1 - bend * (bias + z)))
        place = np.where(np.isfinite(level), level, 0.5) * (resamples - 1)
        below = np.floor(place).astype(int)
        pick = lambda i: np.take_along_axis(ordered, np.minimum(i, resamples - 1)[..., None], axis=-1)[..., 0]
        end = pick(below) + (place - below) * (pick(below + 1) - pick(below))
        at.append(np.where(np.isfinite(level) & np.isfinite(bias), end, plain))
    return at[0], at[1]


# --------------------------------------------------------------------------------------------------------------------------------


def _need(method: str, end: str, **declared) -> None:
    if missing := [name for name, value in declared.items() if value is None]:
        least = {"low": "the least", "high": "the most"}
        raise Refused(f"the {end} end of {method!r} needs {' and '.join(missing)}: {' and '.join(least[m] for m in missing)} that a term can be, "
                      "known before the data are seen. Declare it, ask for the other side alone, or use an approximation ('t', 'bca').")  # fmt: skip


def _within(x, low, high) -> None:
    if low is not None and high is not None and not low < high:
        raise ValueError(f"the range goes from low = {low} to high = {high}; expected low < high.")
    slack = 1e-9 * (1 + np.abs(x).max())
    if (low is not None and x.min() < low - slack) or (high is not None and x.max() > high + slack):
        raise Refused(f"terms go from {x.min():.6g} to {x.max():.6g}, outside the declared range {low} … {high}: the range is wrong, "
                      "and a bound from it would be too.")  # fmt: skip
