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


def interquartile_mean(x, axis: int = -1) -> np.ndarray | np.float64:
    """The mean of the middle half: Agarwal et al. 2021, https://arxiv.org/abs/2108.13264."""
    return scipy.stats.trim_mean(np.asarray(x, np.float64), 0.25, axis=axis)


def stratified_interval(
    scores, statistic: Callable = interquartile_mean, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """`statistic(all scores, axis)` and its percentile bootstrap interval, runs being redrawn within each task.

    `scores` is a sequence of one array of runs per task. A task with one run always redraws it, so it adds nothing to the
    width; where no task has more, nothing is known of it, and the bounds are NaN. A sequence of few runs gives too narrow an
    interval, as every bootstrap does.
    """
    tasks = [np.asarray(task, np.float64) for task in scores]
    value = float(statistic(np.concatenate(tasks), axis=-1))
    if all(len(task) < 2 for task in tasks):
        return Interval(value, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)  # SciPy's bootstrap refuses a task with one run
    drawn = [task[rng.integers(len(task), size=(resamples, len(task)))] for task in tasks]
    low, high = np.quantile(statistic(np.concatenate(drawn, axis=-1), axis=-1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
