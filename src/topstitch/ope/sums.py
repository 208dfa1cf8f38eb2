"""What estimators answer: sums over episodes, of which an estimate is made, and its bootstrap in two matrix products."""

import functools
from typing import NamedTuple

import numpy as np

GROUPS = 2048
"A bootstrap of more episodes redraws this many groups of them, dealt at random: sums of groups scatter as sums of episodes do."


class Sums(NamedTuple):
    """An estimate Σ_k Σ_i top[i, k] / Σ_i bottom[i, k], where i is an episode; a term 0/0 counts 0.

    A plain mean is one column over ones; a self-normalised estimator divides by its weights, at each step by those of that step.
    """

    top: np.ndarray
    "(episodes, terms)."
    bottom: np.ndarray
    "(episodes, terms), none negative; (episodes, 1) where all terms share one."

    @property
    def value(self) -> float:
        return float(_divided(self.top.sum(axis=0), self.bottom.sum(axis=0)).sum())

    @property
    def plain(self) -> bool:
        """Whether this is a mean over episodes, of which nothing is normalised by chance."""
        return self.bottom.shape[1] == 1 and bool((self.bottom == 1).all())

    @property
    def contributions(self) -> np.ndarray:
        """(episodes,): independent but for what they share, with the estimate as their mean. For a plain mean the numbers that it
        is the mean of; for a ratio its linearisation, whose spread is that of the estimate to first order (the delta method)."""
        bottom = np.broadcast_to(self.bottom.sum(axis=0), self.top.shape[1])
        share = _divided(self.top.sum(axis=0), bottom)
        scale = _divided(np.full(len(bottom), float(len(self.top))), bottom)
        linear = self.top @ scale - (self.bottom * (scale * share)).sum(axis=1)
        return share.sum() + linear

    def resampled(self, resamples: int = 2000, *, seed: int = 0) -> np.ndarray:
        """(resamples,) float64: the estimate from as many redraws of the episodes. The same seed redraws the same."""
        top, bottom = _grouped(self.top, seed), _grouped(self.bottom, seed)
        draws = _draws(len(top), resamples, seed)
        return _divided(draws @ top, draws @ bottom).sum(axis=1)

    def percentiles(self, confidence: float, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
        """The percentile bootstrap's bounds: Efron 1981, https://doi.org/10.2307/3314608."""
        low, high = np.quantile(self.resampled(resamples, seed=seed), [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)


def mean_of(x: np.ndarray) -> Sums:
    """The plain mean of numbers, one an episode."""
    return Sums(x[:, None], np.ones((len(x), 1)))


def _divided(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.zeros(np.broadcast_shapes(top.shape, bottom.shape)), where=bottom != 0)


def _grouped(x: np.ndarray, seed: int) -> np.ndarray:
    n = len(x)
    if n <= GROUPS:
        return x
    return np.add.reduceat(x[_order(n, seed)], _starts(n))


def groups(n: int, seed: int) -> np.ndarray:
    """(n,): the group of each episode, by which `_grouped` sums; itself where there are few."""
    if n <= GROUPS:
        return np.arange(n, dtype=np.uint16)
    group = np.empty(n, np.uint16)
    group[_order(n, seed)] = np.repeat(np.arange(GROUPS, dtype=np.uint16), np.diff(_starts(n), append=n))
    return group


def _starts(n: int) -> np.ndarray:
    return np.linspace(0, n, GROUPS, endpoint=False).astype(int)


@functools.lru_cache(maxsize=1)
def _order(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n)


@functools.lru_cache(maxsize=1)
def _draws(n: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, n): how often each of n comes in each redraw."""
    drawn = np.random.default_rng(seed).integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
