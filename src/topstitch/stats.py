"""Means and intervals over seeds and tasks."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats


class Interval(NamedTuple):
    """An estimate between two bounds."""

    value: float
    low: float
    high: float

    def __str__(self):
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(x, confidence: float = 0.95) -> Interval:
    """The mean of independent numbers and Student's two-sided interval. One number has no interval: its bounds are NaN."""
    x = np.asarray(x, np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half)


def interquartile_mean(x, axis: int = -1) -> np.ndarray:
    """The mean of the middle half: Agarwal et al. 2021, https://arxiv.org/abs/2108.13264."""
    return scipy.stats.trim_mean(np.asarray(x, np.float64), 0.25, axis=axis)


def stratified_interval(
    scores, statistic: Callable = interquartile_mean, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """`statistic(all scores, axis)` and its percentile bootstrap interval, runs being redrawn within each task.

    `scores` is a sequence of one array of runs per task.
    """
    tasks = [np.asarray(task, np.float64) for task in scores]
    joined = lambda *parts, axis: statistic(np.concatenate(parts, axis=axis), axis=axis)
    value = float(joined(*tasks, axis=-1))
    if sum(len(task) for task in tasks) < 2 or all(np.ptp(task) == 0 for task in tasks):
        return Interval(value, value, value)
    found = scipy.stats.bootstrap(
        tasks, joined, confidence_level=confidence, n_resamples=resamples, method="percentile", vectorized=True, rng=np.random.default_rng(seed)
    )
    return Interval(value, float(found.confidence_interval.low), float(found.confidence_interval.high))
