"""Means and intervals over seeds and tasks."""

import re
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


D4RL = {
    "halfcheetah": (-280.178953, 12135.0), "hopper": (-20.272305, 3234.3), "walker2d": (1.629008, 4592.3), "ant": (-325.6, 3879.7),
    "door": (-56.512833, 2880.5693087298737), "hammer": (-274.856578, 12794.134825156867), "pen": (96.262799, 3076.8331017826877),
    "relocate": (-6.425911, 4233.877797728884), "kitchen": (0.0, 4.0),
}  # fmt: skip
"The returns of a random and of an expert policy that D4RL scores by: `infos.py` of https://github.com/Farama-Foundation/D4RL."


def d4rl_scale(env: str) -> tuple[float, float] | None:
    """(random, expert) return of the D4RL task that an environment's id names: "Hopper-v5", "AdroitHandDoor-v1", "D4RL/door/human-v2"."""
    words = re.findall(r"[a-z]+[a-z0-9]*", env.split(":")[-1].lower().replace("adroithand", "").replace("franka", ""))
    return next((D4RL[word] for word in words if word in D4RL), None)


def d4rl_score(env: str, returns) -> np.ndarray | None:
    """100 × (return - random) / (expert - random): Fu et al. 2020, https://arxiv.org/abs/2004.07219. None where D4RL has no such task.

    D4RL's returns were measured in older versions of the environments: with others the score is a scale, not a comparison.
    """
    scale = d4rl_scale(env)
    return None if scale is None else 100 * (np.asarray(returns, np.float64) - scale[0]) / (scale[1] - scale[0])
