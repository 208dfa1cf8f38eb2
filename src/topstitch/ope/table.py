"""What estimators read: one padded table per policy and log, in float64 on the host."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

from ..core import Box, Discrete, Markov, Policy
from ..data import Episodes, RawMarkov
from ..data.view import Rescaled
from ..nets.distributions import EDGE, Normal, Tanh

ROWS, BLOCK = 65_536, 4096
"Rows that are asked about at once, and in blocks of one size."
WASTE, CELLS = 20, 20_000_000
"A table of more than so many cells, of which fewer than one in `WASTE` holds a step, is refused."
TRACE = 1e-6
"A policy may do so little of what the logger never does."
SLACK = 1e-4
"How far above 1 a probability that was kept in float32 may be."


class Refused(ValueError):
    """A question that the log cannot answer. The message says why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Values:
    """What somebody believes of a policy at the rows of a log, in raw rewards: float64.

    `q` (steps,): Q(s, a) of the logged action; `v` (steps,): the mean of Q(s, ·) under the policy; `behind` (episodes,): V of the
    observation behind the last step of each episode, 0 where that step is terminal.
    """

    q: np.ndarray
    v: np.ndarray
    behind: np.ndarray


class Table(NamedTuple):
    """Episodes one a row, steps one a column, zeros behind an episode's end. All float64 but `live` and `truncated`.

    `target` and `behaviour` are the logarithms of the probability (density, for a `Box`, per raw unit) with which the policy in
    question and the logger take the logged action.
    """

    reward: np.ndarray
    "(episodes, horizon)."
    discount: np.ndarray
    "(episodes, horizon): γ^t, t being the time since the start: the number of the step, or what durations add up to."
    live: np.ndarray
    "(episodes, horizon) bool: whether there is such a step."
    truncated: np.ndarray
    "(episodes,) bool: whether the log stops while the world goes on."
    target: np.ndarray
    behaviour: np.ndarray
    q: np.ndarray | None = None
    "(episodes, horizon): Q(s_t, a_t)."
    v: np.ndarray | None = None
    "(episodes, horizon + 1): V(s_t), at the column behind the last step that of what followed: 0 if that step was terminal."
    gamma: float | None = None
    "γ, which `discount` does not tell where the horizon is 1."
    duration: np.ndarray | None = None
    "(episodes, horizon): how many units of time each step takes, where that is not 1; 1 behind an episode's end."
    logger: np.ndarray | None = None
    "(episodes,): who acted, where several did."

    def ratios(self) -> np.ndarray:
        """(episodes, horizon): ρ_{0:t} = Π_{k ≤ t} π(a_k|s_k) / μ(a_k|s_k); behind an episode's end the one of its last step."""
        with np.errstate(over="ignore"):  # an infinite one is refused by `diagnostics.refusals`
            return np.exp(self.log_ratios())

    def log_ratios(self) -> np.ndarray:
        """The logarithms of `ratios`: -inf where the policy would not have done what was done."""
        return np.cumsum(self.target - self.behaviour, axis=1)

    def rate(self) -> np.ndarray:
        """(episodes, horizon): γ^Δt, by which what follows each step counts. Refused where γ is not known and a value asks for it."""
        gamma, unit = self.gamma, self.duration is None
        if gamma is None and unit and self.discount.shape[1] > 1:
            gamma = self.discount[0, 1]
        if gamma is None:
            if not unit or (self.v is not None and self.v[:, 1].any()):
                raise Refused("episodes of one step that go on need the discount: make the table with `gamma`.")
            gamma = 1.0
        return np.broadcast_to(gamma, self.live.shape) if unit else gamma**self.duration

    def ahead(self) -> np.ndarray:
        """(episodes, horizon): γ to the power of the time at which the next step comes."""
        return self.discount * self.rate()

    def believing(self, values: Values) -> "Table":
        """The same table with these values."""
        live, lengths = self.live, self.live.sum(axis=1)
        for name, x, n in (("q", values.q, live.sum()), ("v", values.v, live.sum()), ("behind", values.behind, len(live))):
            if np.shape(x) != (n,):
                raise Refused(f"{name} has shape {np.shape(x)}; expected {(int(n),)}: one number for each "
                              f"{'episode' if name == 'behind' else 'step'}.")  # fmt: skip
            if not np.isfinite(x).all():
                raise Refused(f"{name} is {x[(i := int(np.argmin(np.isfinite(x))))]} in row {i:,}. Values must be finite numbers.")
        q, v = np.zeros(live.shape), np.zeros((len(live), live.shape[1] + 1))
        q[live], v[:, :-1][live] = values.q, values.v
        v[np.arange(len(live)), lengths] = values.behind
        return self._replace(q=q, v=v)


def padded(log: Episodes, column: np.ndarray, *, fill: float = 0.0) -> np.ndarray:
    """A column of one entry per step as (episodes, horizon)."""
    return _padded(log.lengths, column, fill)


def table(
    policy: Policy | None,
    log: Episodes,
    *,
    discount: float,
    behaviour: np.ndarray | None = None,
    values: Values | None = None,
) -> Table:
    """What is known of `policy` from `log`: for raw observations, with raw actions, as saved policies and `Runs` hold them.

    `behaviour` (steps,) are log-probabilities of the logged actions under the logger (densities per raw unit for a `Box`), or
    (steps, actions) those of all actions; `None` takes the log's own. Without a policy all ratios are 1: enough for what asks
    for values only. Raises `Refused` where the policy has memory or no density, where a probability is missing, zero, infinite
    or not a number, and where the policy acts as the logger never does; the message names the row.
    """
    live = _padded(log.lengths, np.ones(log.steps, bool), False)
    gamma = _discount(discount)
    if policy is None:
        target = logged = np.zeros(log.steps)
    else:
        askable(policy, log)  # what cannot be weighed is told so first, and not to fit a logger
        logged = _logged(log, behaviour)
        target = log_probs(policy, log)
        if np.ndim(behaviour) == 2 and isinstance(log.spec.action, Discrete):
            _support(probabilities(policy, log), np.exp(np.asarray(behaviour, np.float64)))
    made = _table(live, log.reward, target, logged, log.truncated[log.stops - 1], gamma, values, log.duration)
    return made._replace(logger=log.info["logger"][log.starts]) if "logger" in log.info else made


def of(
    reward: np.ndarray,
    target: np.ndarray,
    behaviour: np.ndarray,
    *,
    action: np.ndarray | None = None,
    ends: np.ndarray | None = None,
    truncated: np.ndarray | None = None,
    discount: float = 1.0,
    duration: np.ndarray | None = None,
    values: Values | None = None,
) -> Table:
    """A table from plain arrays of one row per step: probabilities, not their logarithms.

    `target` and `behaviour` are (steps,) of the logged actions, or (steps, actions) of all, with the logged `action` (steps,).
    `ends` (steps,) bool marks the last step of each episode; without it every row is one: the log of a bandit. `truncated`
    (episodes,) bool marks episodes that go on behind their last step; `duration` (steps,) says how long steps take. Raises `Refused` as `table` does.
    """
    reward = np.asarray(reward, np.float64)
    n = len(reward)
    both = {"target": np.asarray(target, np.float64), "behaviour": np.asarray(behaviour, np.float64)}
    for name, p in both.items():
        if p.ndim not in (1, 2) or len(p) != n or (p.ndim == 2 and action is None):
            raise Refused(f"{name} has shape {p.shape}; expected ({n},), or ({n}, actions) together with the logged `action`.")
        if (wrong := ~(p >= 0).reshape(n, -1).all(axis=1) | ~np.isfinite(p).reshape(n, -1).all(axis=1)).any():
            raise Refused(f"{name} in row {(row := int(np.argmax(wrong))):,} is {p[row]}; expected probabilities: numbers from 0 on.")
    if both["target"].ndim == both["behaviour"].ndim == 2:
        _support(both["target"], both["behaviour"])
    with np.errstate(divide="ignore"):
        target, logged = (np.log(p if p.ndim == 1 else p[np.arange(n), np.asarray(action)]) for p in both.values())
    ends = np.ones(n, bool) if ends is None else np.array(ends, bool)
    ends[-1] = True
    lengths = np.diff(np.flatnonzero(ends) + 1, prepend=0)
    live = _padded(lengths, np.ones(n, bool), False)
    truncated = np.zeros(len(lengths), bool) if truncated is None else np.asarray(truncated, bool)
    _sound(logged, 0.0 if both["behaviour"].ndim == 2 else None, "the propensity", "row")
    return _table(live, reward, target, logged, truncated, _discount(discount), values, duration)


def log_probs(policy: Policy, log: Episodes) -> np.ndarray:
    """(steps,) float64: the log-probability with which a Markov policy takes the logged actions; for a `Box` per raw unit.

    A normal is clipped when it acts, so where a coordinate of a logged action lies on a bound the logarithm is that of the
    probability of that bound, in other coordinates that of a density: as `collect` logs it. Raises `Refused`.
    """
    askable(policy, log)
    said = in_parts(lambda *rows: _log_prob(policy, *rows), log.obs, log.action, log.mask).astype(np.float64)
    if isinstance(_core(_said(policy, log)), Tanh) and (edge := said == np.inf).any():
        raise Refused(f"{edge.sum():,} of {log.steps:,} logged actions lie on a bound (the first in row {int(np.argmax(edge)):,}), where "
                      "a policy squashed by tanh has no probability and its density cannot be computed. Use estimators that need "
                      "none (fqe, lstdq), or a policy whose actions are clipped.")  # fmt: skip
    if (wrong := np.isnan(said) | (said == np.inf)).any():
        raise Refused(f"the policy's log-probability of the logged action is {said[(row := int(np.argmax(wrong)))]} in row {row:,}; expected a "
                      "finite number or -inf. Has its training diverged?")  # fmt: skip
    return said


def probabilities(policy: Policy, log: Episodes) -> np.ndarray:
    """(steps, actions) float64: what a Markov policy does at every logged observation of a log with discrete actions."""
    askable(policy, log)
    if not isinstance(log.spec.action, Discrete):
        raise Refused(f"probabilities of all actions exist for discrete actions only, but these are {log.spec.action}.")
    p = in_parts(lambda *rows: chances(policy, *rows), log.obs, log.mask).astype(np.float64)
    return p / p.sum(axis=1, keepdims=True)  # float32 rows miss 1 by some 1e-7


def in_parts(ask: Callable, *columns: np.ndarray | None, axis: int = 0, filled: bool = True) -> np.ndarray:
    """`ask` of some rows of all columns at once; answers are joined along `axis`. What is `None` stays so.

    `filled`: in blocks of one size, the last of them filled up by copies of the last row. So one program is compiled whatever the number of
    rows, and a row is answered alike, to the bit, in whichever company it is asked: a log in parts says what the whole says.
    """
    n, many, said = next(len(column) for column in columns if column is not None), BLOCK if filled else ROWS, list[np.ndarray]()
    for start in range(0, n, many):
        rows = slice(start, start + many)
        if filled and start + many > n:
            rows = np.minimum(np.arange(start, start + many), n - 1)
        said.append(np.asarray(ask(*(None if column is None else column[rows] for column in columns))))
    whole = np.concatenate(said, axis=axis)
    return whole.take(np.arange(n), axis=axis) if filled and n % many else whole


@jax.jit
def chances(policy: Markov, obs, mask):
    """(n, actions): what a Markov policy does, as it answers."""
    return policy(obs, mask).probs()


# ---------------------------------------------------------------------------------------------------------------------------


def _padded(lengths: np.ndarray, column: np.ndarray, fill) -> np.ndarray:
    shape = len(lengths), int(lengths.max())
    if shape[0] * shape[1] > max(CELLS, WASTE * len(column)):
        raise Refused(f"a table of {shape[0]:,} episodes by {shape[1]:,} steps, the longest, would be nearly empty: there are {len(column):,} "
                      f"steps, and half of the episodes have at most {int(np.median(lengths)):,}. Cut the long episodes into their first "
                      "steps, or leave them out.")  # fmt: skip
    out = np.full(shape, fill, column.dtype if column.dtype == bool else np.float64)
    out[np.arange(shape[1]) < lengths[:, None]] = column
    return out


def _table(live, reward, target, behaviour, truncated, gamma, values, duration) -> Table:
    reward = np.asarray(reward, np.float64)
    if (bad := ~np.isfinite(reward)).any():
        raise Refused(f"the reward in row {(row := int(np.argmax(bad))):,} is {reward[row]}; expected a finite number. Correct it, or leave "
                      "that episode out.")  # fmt: skip

    def pad(x, fill=0.0):
        out = np.full(live.shape, fill)
        out[live] = x
        return out

    if duration is None:
        powers = np.broadcast_to(gamma ** np.arange(live.shape[1], dtype=np.float64), live.shape)
    else:
        duration = pad(duration, 1.0)
        powers = gamma ** (np.cumsum(duration, axis=1) - duration)
    made = Table(pad(reward), powers, live, truncated, pad(target), pad(behaviour), gamma=gamma, duration=duration)
    return made if values is None else made.believing(values)


def _discount(discount: float) -> float:
    if not 0 <= discount <= 1:
        raise ValueError(f"the discount is {discount}; expected a number from 0 to 1.")
    return float(discount)


def _logged(log: Episodes, behaviour: np.ndarray | None) -> np.ndarray:
    """The log-probabilities of the logged actions under the logger, checked."""
    if behaviour is None:
        if log.log_prob is None:
            raise Refused(f"{log.source} does not say with which probability its logger acted. Read the table with a column of "
                          "`probability`, or fit propensities and give them as `behaviour`.")  # fmt: skip
        behaviour = log.log_prob
    behaviour = np.asarray(behaviour, np.float64)
    if behaviour.ndim == 2 and isinstance(log.spec.action, Discrete):
        if behaviour.shape != (log.steps, log.spec.action.size):
            raise Refused(f"behaviour has shape {behaviour.shape}; expected {(log.steps, log.spec.action.size)}: (steps, actions).")
        behaviour = behaviour[np.arange(log.steps), log.action]
    if behaviour.shape != (log.steps,):
        raise Refused(f"behaviour has shape {behaviour.shape}; expected {(log.steps,)}: one log-probability for each step of {log.source}.")
    _sound(behaviour, None if isinstance(log.spec.action, Box) else 0.0, "the logger's log-probability", log.source)
    return behaviour


def _sound(log_prob: np.ndarray, most: float | None, what: str, where: str) -> None:
    if not (ok := np.isfinite(log_prob)).all():
        row = int(np.argmin(ok))
        why = {np.inf: "infinite", -np.inf: "zero, though the action was taken"}.get(log_prob[row], "not a number")
        raise Refused(f"{what} in row {row:,} is {why} ({where}); expected the finite logarithm of a probability above 0: the logger took "
                      "this action, so it was possible. Correct it, or leave that episode out.")  # fmt: skip
    if most is not None and (above := log_prob > most + SLACK).any():
        row = int(np.argmax(above))
        raise Refused(f"{what} in row {row:,} is that of a probability of {np.exp(log_prob[row]):.6g} ({where}); expected at most 1. "
                      "`behaviour` takes logarithms of probabilities.")  # fmt: skip


def _support(target: np.ndarray, behaviour: np.ndarray) -> None:
    """Refuses a policy that does what the logger never does; both (steps, actions), probabilities."""
    lost = np.where(behaviour > 0, 0, target)
    if (mass := lost.sum(axis=1)).mean() > TRACE:
        row = int(np.argmax(mass > 0))
        raise Refused(f"the policy acts where the logger never does: in {np.mean(mass > 0):.1%} of the rows, with a probability of "
                      f"{mass.mean():.3g} overall (first in row {row:,}, action {int(lost[row].argmax())}). What follows such actions is "
                      "not in the log. Restrict the policy to what was done, or use an estimator that extrapolates (fqe, lstdq).")  # fmt: skip


def askable(policy: Policy, log: Episodes) -> None:
    """Raises `Refused` where a policy has no probability of a logged action."""
    kind = type(policy.inner if isinstance(policy, RawMarkov) else policy).__name__
    if not isinstance(policy, Markov):
        raise Refused(f"{kind} has memory: what it does depends on more than the observation, so the log holds no probability of it. "
                      "Use a method that rolls it out in a model, or a Markov policy.")  # fmt: skip
    if isinstance(policy, RawMarkov) and policy.spec != log.spec:
        raise Refused(f"{kind} was learned for {policy.spec}, but {log.source} has {log.spec}. Read the log with the same roles.")
    if not hasattr(_core(_said(policy, log)), "log_prob"):
        raise Refused(f"{kind} has no density: all its mass is on one action, or it is known by draws only, and a ratio to the logger's "
                      "density means nothing. Use estimators that need none (fqe, lstdq), or a stochastic policy.")  # fmt: skip


def _core(said):
    return said.base if isinstance(said, Rescaled) else said


def _said(policy: Markov, log: Episodes):
    """The kind of distribution that the policy answers with."""
    obs = jax.ShapeDtypeStruct((1, *log.obs.shape[1:]), log.obs.dtype)
    mask = None if log.mask is None else jax.ShapeDtypeStruct((1, *log.mask.shape[1:]), bool)
    return jax.eval_shape(lambda policy, obs, mask: policy(obs, mask), policy, obs, mask)


@jax.jit
def _log_prob(policy: Markov, obs, action, mask):
    said = policy(obs, mask)
    base, rescaled = _core(said), isinstance(said, Rescaled)
    unit = said.action(action) if rescaled else action
    if isinstance(base, Tanh):
        return jnp.where((abs(unit) >= 1 - EDGE).any(axis=-1), jnp.inf, said.log_prob(action))
    if not isinstance(base, Normal):
        return said.log_prob(action)
    per_unit = jnp.broadcast_to(jnp.log(jnp.asarray(said.action.scale)) if rescaled else jnp.zeros(()), unit.shape[-1:])
    z = lambda x: (x - base.mean) * jnp.exp(-base.log_std)
    part = Normal(base.mean[..., None], base.log_std[..., None]).log_prob(unit[..., None]) - per_unit[None]
    part = jnp.where(unit >= 1 - EDGE, log_ndtr(-z(1.0)), part)
    return jnp.where(unit <= -1 + EDGE, log_ndtr(z(-1.0)), part).sum(axis=-1)
