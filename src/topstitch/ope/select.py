r"""Choosing among policies without an environment, and how well a choice was made where the truth is known.

Scores of Q functions at a log: the error of one step (`td_error`), which noise in what follows raises for a right Q as for a wrong one,
and the batch value-function tournament (`bvft`), which needs only that some candidate is right. Curves of a training run say whether it learned
too little or too much (`workflow`).

Sources: metrics of DOPE: Fu et al. 2021, https://arxiv.org/abs/2103.16596. BVFT: Xie & Jiang 2021, https://arxiv.org/abs/2008.04990;
in practice: Zhang & Jiang 2021, https://arxiv.org/abs/2110.14000. Workflow: Kumar et al. 2021, https://arxiv.org/abs/2109.10813.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats

from ..data import Episodes
from .table import Refused, Values

CAP = 2.0
"Where estimates are cut off above the worst truth, in units of best - worst."

# how well estimates choose ----------------------------------------------------------------------------------------------------------


def rank_correlation(estimates, truth) -> float:
    """Spearman's: of the ranks by estimate and by truth. NaN where all estimates, or all truths, are alike."""
    estimates, truth = _pair(estimates, truth)
    if np.ptp(estimates) == 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(scipy.stats.spearmanr(estimates, truth).statistic)


def regret(estimates, truth, k: int = 1, *, normalised: bool = False) -> float:
    """How much better the best policy is than the best of the k with the greatest estimates; `normalised` by best - worst.

    Of equal estimates the first are taken. With all policies alike a normalised regret is 0.
    """
    estimates, truth = _pair(estimates, truth)
    if not 1 <= k <= len(truth):
        raise ValueError(f"asked for the best {k} of {len(truth)} policies.")
    lost = truth.max() - truth[np.argsort(-estimates, kind="stable")[:k]].max()
    return float(lost / (np.ptp(truth) or 1.0) if normalised else lost)


def absolute_error(estimates, truth, *, normalised: bool = False) -> float:
    """The mean of |estimate - truth| over policies; `normalised` by best - worst truth.

    Normalised as in the authors' code (https://github.com/google-research/deep_ope, plots.ipynb): an estimate further above the worst truth than
    twice that span counts as that high, so that one that diverged does not drown the others; below nothing is cut.
    """
    estimates, truth = _pair(estimates, truth)
    if not normalised:
        return float(np.abs(estimates - truth).mean())
    span = np.ptp(truth) or 1.0
    return float(np.abs(np.minimum(estimates, truth.min() + CAP * span) - truth).mean() / span)


def metrics(estimates, truth, *, top: Sequence[int] = (1, 3, 5)) -> dict[str, float]:
    """All of these by name; regrets of as many as there are policies for."""
    n = len(np.asarray(truth))
    out = {"rank_correlation": rank_correlation(estimates, truth)}
    out |= {f"{name}{'_normalised' * norm}": regret(estimates, truth, k, normalised=norm)
            for k in top if k <= n for name in (f"regret@{k}",) for norm in (False, True)}  # fmt: skip
    out |= {f"absolute_error{'_normalised' * norm}": absolute_error(estimates, truth, normalised=norm) for norm in (False, True)}
    return out


def _pair(estimates, truth) -> tuple[np.ndarray, np.ndarray]:
    estimates, truth = np.asarray(estimates, np.float64), np.asarray(truth, np.float64)
    if estimates.shape != truth.shape or estimates.ndim != 1 or len(truth) < 2:
        raise ValueError(
            f"expected one estimate and one true value for each of two policies or more; got shapes {estimates.shape}, {truth.shape}."
        )
    if not (np.isfinite(estimates).all() and np.isfinite(truth).all()):
        raise ValueError("an estimate or a true value is not a finite number. Leave out the policies that an estimator refused.")
    return estimates, truth


# scores of Q functions ---------------------------------------------------------------------------------------------------------------


class Claims(NamedTuple):
    """What candidates say of the rows of a log, and what the log says.

    To choose among policies, `after` is the largest Q(s', ·) (`Belief.greedy`): the Q of the best policy alone says what follows from it then.
    With the mean under each candidate's own policy every right Q does, however bad the policy: that compares guesses at the Q of one policy.
    """

    q: np.ndarray
    "(candidates, n): Q(s, a) of the logged action."
    after: np.ndarray
    "(candidates, n): V(s'), the largest Q(s', ·) or its mean under a policy; 0 where the step is terminal."
    reward: np.ndarray
    "(n,)."
    discount: float | np.ndarray
    "Of all rows, or (n,)."

    def targets(self) -> np.ndarray:
        return self.reward + self.discount * self.after


def claims(log: Episodes, believed: Sequence[Values], *, discount: float) -> Claims:
    """Of `Values` of several Q functions at the same log."""
    return Claims(
        np.array([v.q for v in believed]),
        np.array([following(log, v) for v in believed]),
        log.reward.astype(np.float64),
        log.discount(discount),
    )


def following(log: Episodes, values: Values) -> np.ndarray:
    """(steps,): V of what comes behind each step, 0 where nothing does."""
    after = np.append(values.v[1:], 0.0)
    after[log.stops - 1] = values.behind
    return np.where(log.terminal, 0.0, after)


def td_error(said: Claims) -> np.ndarray:
    r"""(candidates,): the mean of $(r + \gamma V(s') - Q(s, a))^2$; it holds the variance of what follows, which favours candidates for whom
    everything is alike."""
    return ((said.targets() - said.q) ** 2).mean(axis=1)


def bvft(said: Claims, *, resolutions: Sequence[float] | None = None) -> np.ndarray:
    r"""(candidates,): how far a candidate is from what follows from it, in the least favourable company; the smallest is chosen.

    $\max_{f'} \lVert f - \hat T_{f, f'} f \rVert_{2, D}$, where $\hat T_{f, f'} f$ is the mean of $r + \gamma V_f(s')$ over all rows at which f says
    the same and f' says the same, to a resolution ε. A true Q is its own mean in every such partition, and an f that is like it nowhere is
    told from it by the one they make together. Time grows with the square of the number of candidates.

    Of several resolutions the one counts whose winner has the least score + ε, since ε is what rounding costs (the paper has one ε, from
    constants nobody knows). The authors' code (https://github.com/jasonzhang929/BVFT_empirical_experiments, BvftUtil.py) has that winner
    too, but ranks the others by the least score + ε each of them has at any ε; its lists of ε are written by hand for each task, here they are
    2⁻¹ … 2⁻⁷ of the range of Q. Its cells are widened until they divide that range evenly (BVFT.py).
    """
    q, n = said.q, said.q.shape[1]
    if not (np.isfinite(q).all() and np.isfinite(said.after).all()):
        raise Refused("a candidate's Q is not a finite number somewhere in the log. Leave out the runs that diverged.")
    spread = np.ptp(q)
    grid = [spread * 2.0**-i for i in range(1, 8)] if resolutions is None else list(resolutions)
    if not spread or min(grid) <= 0:
        if min(grid) < 0 or (resolutions is not None and min(grid) <= 0):
            raise ValueError(f"resolutions are steps of Q and must be above 0; got {grid}.")
        return np.abs(said.q.mean(axis=1) - said.targets().mean(axis=1))  # all say one and the same number: one cell
    found = []
    for step in grid:
        level = np.floor((q - q.min()) / step).astype(np.int64)
        width, targets = int(level.max()) + 1, said.targets()
        score = np.zeros(len(q))
        for i in range(len(q)):
            for j in range(len(q)):
                cell = np.unique(level[i] * width + level[j], return_inverse=True)[1]
                mean = np.bincount(cell, weights=targets[i]) / np.bincount(cell)
                score[i] = max(score[i], np.sqrt(((q[i] - mean[cell]) ** 2).sum() / n))
        found.append((score.min() + step, score))
    return min(found, key=lambda pair: pair[0])[1]


# curves of a run ----------------------------------------------------------------------------------------------------------------------


class Diagnosis(NamedTuple):
    """What the curves of a conservative method say. `step` is where the policy should be taken from."""

    verdict: str
    "overfitting, underfitting, or neither."
    step: int
    reason: str
    remedy: str


def workflow(
    rows: str | Path | Iterable[Mapping],
    *,
    run: int = 0,
    q: str = "critic/q",
    error: str = "critic/loss",
    fall: float = 0.1,
    drop: float = 0.1,
) -> Diagnosis:
    """Over- or underfitting of a run of CQL or a like method, from its `metrics.jsonl` (or its rows).

    Overfitting: the mean Q of logged actions rises, then falls from its peak by more than `fall` of its range. Underfitting: Q does not
    fall, and the last fifth of the training error is less than a share `drop` under that of the first fifth. Curves are smoothed over a twentieth. The
    signs are the paper's, the two thresholds are ours: look at the curves too. Raises `Refused` where there are too few moments or no such metric.
    """
    if isinstance(rows, (str, Path)):
        rows = [json.loads(line) for line in Path(rows).read_text().splitlines()]
    kept = [row for row in rows if row.get("run", 0) == run and row.get(q) is not None]
    if len(kept) < 10:
        raise Refused(f"run {run} has {len(kept)} moments with {q!r}; expected at least 10. Record metrics more often (train with a smaller "
                      "--every), or name another metric.")  # fmt: skip
    step, value = np.array([row["step"] for row in kept]), _smooth([row[q] for row in kept])
    peak, spread = int(value.argmax()), float(np.ptp(value))
    fallen = float((value[peak] - value[-1]) / spread) if spread else 0.0
    if 0 < peak < len(value) - 1 and fallen > fall:
        return Diagnosis(
            "overfitting", int(step[peak]),
            f"{q} rises to {value[peak]:.4g} at step {step[peak]:,} and has lost {fallen:.0%} of its range by the end.",
            f"Take the policy of step {step[peak]:,}, where Q of the data was highest. To train longer, make the critic less free: dropout, "
            "an information bottleneck, or fewer units.",
        )  # fmt: skip
    errors = _smooth([row[error] for row in kept if row.get(error) is not None])
    fifth = max(1, len(errors) // 5)
    if len(errors) >= 10:
        first, last = errors[:fifth].mean(), errors[-fifth:].mean()
        if last > (1 - drop) * first:
            return Diagnosis(
                "underfitting", int(step[-1]), f"{error} went from {first:.4g} to {last:.4g}, which is hardly less, while {q} did not fall.",
                "Give the critic more capacity (more units or layers, residual blocks), regularise less, or train longer.",
            )  # fmt: skip
    return Diagnosis("neither", int(step[-1]), f"{q} holds its height, and {error} {'fell' if len(errors) >= 10 else 'was not recorded'}.",
                     "Take the last policy.")  # fmt: skip


def _smooth(x) -> np.ndarray:
    x = np.asarray(x, np.float64)
    width = max(1, len(x) // 20)
    pad = np.pad(x, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(pad, np.ones(width) / width, mode="valid")
