r"""Estimators for decisions of one step: a table of horizon 1, with weights $w = \pi(a|x) / \mu(a|x)$.

* IPS: the mean of $w r$; SNIPS divides by the mean of w (Swaminathan and Joachims 2015, https://proceedings.neurips.cc/paper/2015/hash/39027dfad5138c9ca0c474d71db915c3-Abstract.html);
* DM: the mean of $V(x)$; DR adds that of $w (r - Q(x, a))$ (Dudík, Langford and Li 2011, https://arxiv.org/abs/1103.4601);
* Switch-DR: DR, corrected only where $w \le \tau$ (Wang, Agarwal and Dudík 2017, https://arxiv.org/abs/1612.01205);
* DR with optimistic shrinkage: $\hat w = \lambda w / (w^2 + \lambda)$ (Su, Dimakopoulou, Krishnamurthy and Dudík 2020, https://arxiv.org/abs/1907.09623);
* sub-Gaussian: IPS with $w / (1 - \lambda + \lambda w)$, so that no weight exceeds $1 / \lambda$ (Metelli, Russo and Restelli 2021,
  https://proceedings.neurips.cc/paper/2021/hash/4476b929e30dd0c4e8bdbcc82c6ba23a-Abstract.html).

The same definitions as in the Open Bandit Pipeline (https://github.com/st-tech/zr-obp, obp/ope/estimators.py), which takes every row of a list of
recommendations as a decision of its own, with the policy's probabilities at that position.
"""

from typing import Literal

import numpy as np
import scipy.sparse
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from ..core import Discrete
from ..data import Episodes
from .crossfit import threads
from .doubly_robust import _values
from .sums import Sums, mean_of
from .table import Refused, Table, Values

GRID = 30
"Thresholds and shrinkages among which the data choose."


def ips(table: Table) -> Sums:
    """IPS."""
    w, r = _weights(table)
    return mean_of(w * r)


def snips(table: Table) -> Sums:
    """SNIPS."""
    w, r = _weights(table)
    return Sums((w * r)[:, None], w[:, None])


def direct(table: Table) -> Sums:
    """DM."""
    _weights(table)
    return mean_of(_believed(table)[1])


def doubly_robust(table: Table) -> Sums:
    """DR."""
    w, r = _weights(table)
    q, v = _believed(table)
    return mean_of(v + w * (r - q))


def switch(table: Table, *, threshold: float | None = None, largest: float | None = None) -> Sums:
    r"""Switch-DR. Without a `threshold` the τ with the least estimated squared error, variance plus the square of the bound
    $R_{\max} \frac1n \sum w\, 1(w > \tau)$ on the bias; `largest` is R_max, by default the largest |r| seen.

    Differs from the paper in: the bound's mean over the policy's actions is taken by weighting the logged ones.
    """
    w, r = _weights(table)
    q, v = _believed(table)
    if threshold is None:
        most = np.abs(r).max() if largest is None else largest
        tried = np.append(np.unique(np.quantile(w, np.linspace(0, 1, GRID))), 0.0)
        threshold = _best(tried, lambda tau: (v + np.where(w <= tau, w, 0) * (r - q), most * np.mean(np.where(w > tau, w, 0))))
    return mean_of(v + np.where(w <= threshold, w, 0) * (r - q))


def shrunk(table: Table, *, shrinkage: float | None = None) -> Sums:
    r"""DR with optimistic shrinkage; `shrinkage` λ = 0 is DM, ∞ is DR. Without it the λ with the least estimated squared error,
    variance plus the square of $\frac1n \sum (\hat w - w)(r - Q)$, between 0.01 and 100 times squared quantiles of w as in the paper.

    Differs from the paper in: the bias is estimated as it is, without what a bound would add to it.
    """
    w, r = _weights(table)
    q, v = _believed(table)
    soft = lambda rate: w if np.isinf(rate) else np.divide(rate * w, w**2 + rate, out=np.zeros(len(w)), where=w > 0)
    if shrinkage is None:
        few, many = np.quantile(w[w > 0], [0.05, 0.95]) if (w > 0).any() else (1.0, 1.0)
        tried = np.append(np.geomspace(0.01 * few**2, 100 * many**2, GRID), np.inf)
        shrinkage = _best(tried, lambda rate: (v + soft(rate) * (r - q), np.mean((soft(rate) - w) * (r - q))))
    return mean_of(v + soft(shrinkage) * (r - q))


def subgaussian(table: Table, *, rate: float | None = None, confidence: float = 0.95) -> Sums:
    r"""The sub-Gaussian estimator; without a `rate` that of the paper, $\lambda = \sqrt{2 \ln(1/\delta) / (3 n I_2)}$ for δ = 1 -
    `confidence` and $I_2 = E[w^2]$, here the mean over the log. Biased, by at most $\lambda I_2$ times the largest |r|."""
    w, r = _weights(table)
    if rate is None:
        rate = min(1.0, float(np.sqrt(2 * np.log(1 / (1 - confidence)) / (3 * len(w) * np.mean(w**2)))))
    return mean_of(w / (1 - rate + rate * w) * r) if rate < 1 else mean_of(np.where(w > 0, r, 0.0))


# several loggers -----------------------------------------------------------------------------------------------------------


def balanced(propensities: np.ndarray, logger: np.ndarray) -> np.ndarray:
    r"""(steps,): $\sum_l \frac{n_l}{n} \mu_l(a|x)$ from `propensities` (steps, loggers) of the logged action under every logger: the
    `behaviour` of the balanced estimator of Agarwal, Basu, Schnabel and Joachims 2017, https://arxiv.org/abs/1703.06180, section 5.

    `logger` (steps,) says by its number which one acted. Never of greater variance than each logger's own propensities.
    """
    share = np.bincount(np.asarray(logger), minlength=np.shape(propensities)[1]) / len(logger)
    return np.asarray(propensities, np.float64) @ share


def by_logger(table: Table, logger: np.ndarray | None = None) -> Sums:
    r"""IPS within each logger, combined by weights $\lambda_l \propto 1 / \sigma_l^2$ for each step, σ_l² the variance of w r under logger l:
    the weighted estimator, section 6 of the same paper, its variances estimated from the log. `table` holds each logger's own propensities.
    `logger` (steps,) says which one acted, by default what the table says."""
    w, r = _weights(table)
    if (logger := table.logger if logger is None else logger) is None:
        raise Refused("the log does not say which of several loggers acted: a column `logger` among its further columns (info) would.")
    kinds, number = np.unique(np.asarray(logger), return_inverse=True)
    each = number[:, None] == np.arange(len(kinds))
    count = each.sum(axis=0)
    if (few := count < 2).any():
        raise Refused(f"logger {kinds[int(np.argmax(few))]} has {count[int(np.argmax(few))]} step: its variance is not known. "
                      "Leave it out, or join it with another.")  # fmt: skip
    variance = np.array([(w * r)[mine].var(ddof=1) for mine in each.T])
    if (variance == 0).any():
        raise Refused(f"what logger {kinds[int(np.argmin(variance))]} saw does not vary, so it would count for everything. Use `balanced`.")
    share = count / variance
    return Sums(np.where(each, (w * r)[:, None], 0) * (share / share.sum()), each.astype(np.float64))


# outcome models --------------------------------------------------------------------------------------------------------------


def outcome(log: Episodes, policy: np.ndarray, *, model: Literal["ridge", "boosting"] = "ridge", folds: int = 5, seed: int = 0) -> Values:
    """What each action would earn, learned by regression from the other folds; values of a policy (steps, actions) of probabilities.

    For discrete actions and episodes of one step. "ridge" has weights of its own for each action on the standardised observation
    (penalty 1), "boosting" is scikit-learn's histogram gradient boosting. Raises `Refused` for other logs.
    """
    if not isinstance(log.spec.action, Discrete) or int(log.lengths.max()) > 1:
        raise Refused(f"an outcome model is for discrete actions and episodes of one step; this log has {log.spec.action} and up to "
                      f"{int(log.lengths.max())} steps. Fit values by fitted Q evaluation.")  # fmt: skip
    n, actions = log.steps, log.spec.action.size
    if policy.shape != (n, actions):
        raise Refused(f"policy has shape {policy.shape}; expected {(n, actions)}: a probability for each action at each step.")
    if not 2 <= folds <= n:
        raise Refused(f"{n} episodes cannot be dealt into {folds} folds; expected from 2 folds to as many as episodes.")
    obs = np.eye(log.spec.obs.size)[log.obs] if isinstance(log.spec.obs, Discrete) else np.asarray(log.obs, np.float64)
    spread = obs.std(axis=0)
    obs = (obs - obs.mean(axis=0)) / np.where(spread > 0, spread, 1)
    reward, fold = log.reward.astype(np.float64), np.random.default_rng(seed).permutation(n) % folds
    q = np.zeros((n, actions))
    for k in range(folds):
        mine, others = fold == k, fold != k
        q[mine] = FIT[model](obs[others], log.action[others], reward[others], obs[mine], actions)
    return Values(q[np.arange(n), log.action], (policy * q).sum(axis=1), np.zeros(n))


def _ridge(obs, action, reward, asked, actions: int) -> np.ndarray:
    """φ(x, a) is (1, x) in the place of a, zero elsewhere; the intercept is shared and free."""
    x = np.column_stack([np.ones(len(obs)), obs])
    size = x.shape[1]
    place = action.astype(np.int64)[:, None] * size + np.arange(size)
    phi = scipy.sparse.csr_matrix((x.ravel(), place.ravel(), np.arange(len(x) + 1) * size), shape=(len(x), actions * size))
    fitted = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-10).fit(phi, reward)
    return np.column_stack([np.ones(len(asked)), asked]) @ fitted.coef_.reshape(actions, size).T + fitted.intercept_


def _boosting(obs, action, reward, asked, actions: int) -> np.ndarray:
    categorical = [0] if actions <= 255 else None  # the most that scikit-learn has
    model = HistGradientBoostingRegressor(max_iter=100, early_stopping=False, categorical_features=categorical, random_state=0)
    with threads(len(obs)):
        fitted = model.fit(np.column_stack([action, obs]), reward)
        each = [fitted.predict(np.column_stack([np.full(len(asked), a), asked])) for a in range(actions)]
    return np.column_stack(each)


FIT = {"ridge": _ridge, "boosting": _boosting}


# -----------------------------------------------------------------------------------------------------------------------------


def _weights(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """(w, r), each (episodes,)."""
    if table.reward.shape[1] != 1:
        raise Refused(f"this estimator is for decisions of one step, but episodes here have up to {table.reward.shape[1]}. Use wis, wpdis, "
                      "dr, wdr or magic.")  # fmt: skip
    return table.ratios()[:, 0], table.reward[:, 0]


def _believed(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """(Q(x, a), V(x)), each (episodes,)."""
    q, v = _values(table)
    return q[:, 0], v[:, 0]


def _best(tried: np.ndarray, of) -> float:
    """The one with the least variance + bias², where `of` tells (the terms of the mean, the bias)."""
    error = lambda terms, bias: terms.var() / len(terms) + bias**2
    return float(tried[int(np.argmin([error(*of(one)) for one in tried]))])
