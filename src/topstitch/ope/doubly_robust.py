r"""Estimators that correct what is believed of a policy by what the log says, step by step.

With the correction $\delta_t = r_t + \gamma V(s_{t+1}) - Q(s_t, a_t)$, V behind a terminal step being 0,

* DM: $\frac1n \sum_i V(s^i_0)$;
* DR: $\frac1n \sum_i [V(s^i_0) + \sum_t \gamma^t \rho^i_{0:t} \delta^i_t]$, the recursion $V(s_t) + \rho_t (r_t + \gamma\, \mathrm{DR}_{t+1} -
  Q(s_t, a_t))$ of Jiang and Li 2016, https://arxiv.org/abs/1511.03722, written as a sum: without bias if the ratios are right, or
  consistent if Q is;
* WDR: the same, ratios divided at each step by their sum over all episodes; and MAGIC, which mixes WDR stopped after j steps, so that
  the mixture has the least estimated squared error: Thomas and Brunskill 2016, https://arxiv.org/abs/1604.00923;
* MRDR: DR with the linear Q that makes its variance least: Farajtabar, Chow and Ghavamzadeh 2018, https://arxiv.org/abs/1802.03493.

Where an episode is truncated, V of what followed stands for the rest: the estimate is then of what `Values` are of.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg

from ..core import Discrete
from ..data import Episodes
from .importance import relative
from .sums import Sums, mean_of
from .table import Refused, Table, Values

Phi = np.ndarray | scipy.sparse.csr_array
MEMBERS = 50
"MAGIC mixes estimates stopped after at most so many different numbers of steps."
MOST = 50_000_000
"Numbers in a table of features."
RESAMPLES = 200
"Bootstraps by which MAGIC knows the interval of WDR; the paper's κ."


def direct(table: Table) -> Sums:
    """DM: the mean of V over first observations. No weights, and no correction."""
    return mean_of(_values(table)[1][:, 0])


def doubly_robust(table: Table) -> Sums:
    """DR."""
    return mean_of(_values(table)[1][:, 0] + (table.ratios() * corrections(table)).sum(axis=1))


def weighted_doubly_robust(table: Table) -> Sums:
    """WDR."""
    weights, (_, v) = relative(table), _values(table)
    top = np.column_stack([v[:, 0], weights * corrections(table)])
    return Sums(top, np.column_stack([np.ones(len(v)), weights]))


class Mixture(NamedTuple):
    """How MAGIC mixed: `shares` (members,), of estimates stopped after `steps` (members,) steps, whose values are `members`."""

    sums: Sums
    steps: np.ndarray
    shares: np.ndarray
    members: np.ndarray


def magic(table: Table) -> Sums:
    """MAGIC. An interval made of these sums takes the shares of the mixture as given, and is far too narrow where values are wrong."""
    return mixed(table).sums


def mixed(table: Table) -> Mixture:
    r"""MAGIC and its parts: shares $x = \arg\min_{x \in \Delta} x^\top (\hat\Omega + b b^\top) x$, Ω̂ the covariance of the members, b how far
    each lies outside the 90% percentile interval of WDR. Stopped after 0 steps a member is DM, after all of them WDR.

    Ω̂ is that of equation 5 of the paper. Its authors' reference code in C++ says that the numbers printed there were made without the factor n,
    and with it takes an interval of 50 %; it has κ = 200, too, and adds 1e-5 to the diagonal. Here 90 % stays: in the world of three steps
    of the tests the root mean square error was the smaller with right, half right and wrong values, at 50 to 1,000 episodes (0.020 to
    0.41, against 0.040 to 0.50 with 50 %). Differs from both in: of many steps some 50 are members, geometrically spaced;
    the model's value of where it thinks that episodes begin is no member.
    """
    sums = weighted_doubly_robust(table)
    n, horizon = len(sums.top), table.reward.shape[1]
    bottom = sums.bottom.sum(axis=0)
    each = np.divide(sums.top, bottom, out=np.zeros(sums.top.shape), where=bottom > 0)
    steps = np.unique(np.concatenate([[0], np.rint(np.geomspace(1, horizon, MEMBERS)).astype(int)]))
    each = np.cumsum(each, axis=1)[:, steps]
    members, centred = each.sum(axis=0), each - each.mean(axis=0)
    low, high = sums.percentiles(0.9, resamples=RESAMPLES)
    low, high = min(low, members[-1]), max(high, members[-1])
    bias = np.maximum(members - high, 0) - np.maximum(low - members, 0)
    shares = least(n / max(n - 1, 1) * centred.T @ centred + np.outer(bias, bias))
    after = np.array([shares[steps > t].sum() for t in range(horizon)])  # how much of the mixture goes on through step t
    return Mixture(Sums(sums.top * np.concatenate([[1.0], after]), sums.bottom), steps, shares, members)


def least(square: np.ndarray) -> np.ndarray:
    """x ≥ 0, Σ x = 1 with the least xᵀ M x, for a symmetric M ≥ 0.

    With M = AᵀA the answer is y / Σ y, where y ≥ 0 has the least |A y|² + (Σ y - 1)²: for any sum of y the best shares are the same.
    """
    size, vectors = np.linalg.eigh(square)
    if size[-1] <= 0:
        return np.eye(len(square))[-1]
    root = np.sqrt(np.maximum(size, 0) / size[-1])[:, None] * vectors.T
    y, _ = scipy.optimize.nnls(np.vstack([root, np.ones(len(square))]), np.append(np.zeros(len(square)), 1.0))
    return y / y.sum()


def more_robust(table: Table, logged: Phi, policy: Phi, *, folds: int = 2, ridge: float = 1e-6, seed: int = 0) -> Sums:
    """MRDR, its Q fitted by `variance_minimising`."""
    return doubly_robust(table.believing(variance_minimising(table, logged, policy, folds=folds, ridge=ridge, seed=seed)))


def variance_minimising(table: Table, logged: Phi, policy: Phi, *, folds: int = 2, ridge: float = 1e-6, seed: int = 0) -> Values:
    r"""Q = φᵀβ with the least variance of DR: of episodes of other folds, so that DR stays without bias,

    $$ \beta = \arg\min \sum_i \sum_t \gamma^{2t} (\rho^i_{0:t-1})^2 \big(\rho_t (\bar R_t - \phi(s_t, a_t)^\top\beta) + \phi_\pi(s_t)^\top\beta\big)^2,
       \qquad \bar R_t = r_t + \gamma \rho_{t+1} \bar R_{t+1}. $$

    `logged` (steps, features) is φ(s, a) of the logged actions, `policy` (steps, features) its mean φ_π(s) over the policy's. `ridge` is
    relative to the mean square of a feature. Values are of the return within the log: 0 behind the last step, truncated or not.

    Differs from the paper in: the mean over the logger's actions is taken over the logged ones, not computed from the logger's
    probabilities of all actions, which a log seldom has. The minimiser is the same but for chance.
    """
    live, (x, y) = table.live, regression(table, logged, policy)
    if not 2 <= folds <= len(live):
        raise Refused(f"{len(live)} episodes cannot be dealt into {folds} folds; expected from 2 folds to as many as episodes.")
    fold = np.repeat(np.random.default_rng(seed).permutation(len(live)) % folds, live.sum(axis=1))
    q, v = np.zeros(len(y)), np.zeros(len(y))
    for k in range(folds):
        mine, others = fold == k, fold != k
        square, right = x[others].T @ x[others], x[others].T @ y[others]
        size = square.shape[0]
        weight = ridge * max(square.trace() / size, np.finfo(np.float64).tiny)
        if scipy.sparse.issparse(square):
            beta = scipy.sparse.linalg.spsolve((square + weight * scipy.sparse.eye_array(size)).tocsc(), right)
        else:
            beta = np.linalg.solve(square + weight * np.eye(size), right)
        q[mine], v[mine] = logged[mine] @ beta, policy[mine] @ beta
    return Values(q, v, np.zeros(len(live)))


def regression(table: Table, logged: Phi, policy: Phi) -> tuple[Phi, np.ndarray]:
    """x (steps, features) and y (steps,), of which Σ (y - xᵀβ)² is what `variance_minimising` minimises."""
    live, rows = table.live, int(table.live.sum())
    for name, phi in (("logged", logged), ("policy", policy)):
        if phi.ndim != 2 or phi.shape[0] != rows:
            raise Refused(f"the features {name!r} have shape {phi.shape}; expected ({rows}, features): one row for each step.")
    step = np.exp(table.target - table.behaviour)
    total, ahead, rate = np.zeros(live.shape), np.zeros(len(live)), table.rate()
    for t in reversed(range(live.shape[1])):
        total[:, t] = np.where(live[:, t], table.reward[:, t] + rate[:, t] * ahead, 0)
        ahead = step[:, t] * total[:, t]
    past = np.concatenate([np.ones((len(live), 1)), table.ratios()[:, :-1]], axis=1)
    scale, step = (table.discount * past)[live], step[live]
    if scipy.sparse.issparse(logged):
        diagonal = scipy.sparse.diags_array
        return (diagonal(scale * step) @ logged - diagonal(scale) @ policy).tocsr(), scale * step * total[live]
    return scale[:, None] * (step[:, None] * logged - policy), scale * step * total[live]


def features(log: Episodes, policy: np.ndarray) -> tuple[Phi, Phi]:
    """(φ(s, a) of the logged actions, φ_π(s)), each (steps, features), for discrete actions and a policy (steps, actions) of
    probabilities: the indicator of state and action, sparse; or, in the place of the action, 1 and the standardised observation."""
    if not isinstance(log.spec.action, Discrete):
        raise Refused(f"MRDR's own features are for discrete actions, but these are {log.spec.action}. Give `variance_minimising` yours.")
    actions, rows = log.spec.action.size, np.arange(log.steps)
    if isinstance(log.spec.obs, Discrete):  # every row has the features of its state only
        place = log.obs.astype(np.int64)[:, None] * actions + np.arange(actions)
        shape, ends = (log.steps, log.spec.obs.size * actions), np.arange(log.steps + 1)
        logged = scipy.sparse.csr_array((np.ones(log.steps), place[rows, log.action], ends), shape=shape)
        return logged, scipy.sparse.csr_array((policy.ravel(), place.ravel(), ends * actions), shape=shape)
    seen = log.obs.reshape(log.steps, -1).astype(np.float64)
    spread = seen.std(axis=0)
    seen = np.column_stack([np.ones(log.steps), (seen - seen.mean(axis=0)) / np.where(spread > 0, spread, 1)])
    if log.steps * (size := actions * seen.shape[1]) > MOST:
        raise Refused(f"{size:,} features at each of {log.steps:,} steps would not fit into memory. Give `variance_minimising` fewer.")
    placed = lambda p: (p[:, :, None] * seen[:, None, :]).reshape(log.steps, size)
    return placed(np.eye(actions)[log.action]), placed(policy)


def corrections(table: Table) -> np.ndarray:
    """(episodes, horizon): γ^t (r_t + γ V(s_{t+1}) - Q(s_t, a_t)); 0 behind an episode's end."""
    q, v = _values(table)
    return np.where(table.live, table.discount * (table.reward - q) + table.ahead() * v[:, 1:], 0)


def _values(table: Table) -> tuple[np.ndarray, np.ndarray]:
    if table.q is None or table.v is None:
        raise Refused("this estimator needs values: what is believed of the policy at the logged steps. Give `values`, as fitted Q "
                      "evaluation makes them.")  # fmt: skip
    return table.q, table.v
