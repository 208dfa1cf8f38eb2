"""Estimates of many policies by many estimators from one log: numbers with intervals, or the reason why there is none."""

import functools as ft
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.stats

from ..core import Discrete, Policy
from ..data import Episodes
from ..disk import plain, write_json
from . import bandit, bounds, marginal
from .crossfit import Crossfitted
from .diagnostics import Diagnostics, diagnostics, refusals, warnings
from .doubly_robust import direct, doubly_robust, features, magic, variance_minimising, weighted_doubly_robust
from .fqe import FQE, fqe, lstdq, tree_fqe
from .importance import clipped, clipped_away, ordinary, per_decision, returns, weighted, weighted_per_decision
from .model import tabular
from .sums import Sums, mean_of
from .table import Refused, Table, Values, probabilities, table

ESTIMATORS: dict[str, Callable[[Table], Sums]] = {
    "is": ordinary,
    "wis": weighted,
    "pdis": per_decision,
    "wpdis": weighted_per_decision,
    "clipped": clipped,
    "dm": direct,
    "dr": doubly_robust,
    "wdr": weighted_doubly_robust,
    "magic": magic,
    "mrdr": doubly_robust,
    "ips": bandit.ips,
    "snips": bandit.snips,
    "switch": bandit.switch,
    "shrunk": bandit.shrunk,
    "subgaussian": bandit.subgaussian,
    "fqe": direct,
    "lstdq": direct,
    "forest": direct,
    "model": direct,
}
"Name -> estimator of one padded table. The five from `ips` on are for episodes of one step, the last four are `dm` with values of their own."
MARGINAL: tuple[marginal.Method, ...] = ("mwl", "bestdice", "dualdice", "gradientdice", "gendice", "state")
"Names of ways to find weights of single steps that turn the logger's visits into the policy's: `marginal.ratios`."

LEARNED: dict[str, Callable[..., Any]] = {
    "fqe": lambda policy, log, discount, seed: fqe(policy, log, algorithm=FQE(discount=discount), seed=seed),
    "lstdq": lambda policy, log, discount, seed: lstdq(policy, log, discount=discount, seed=seed),
    "forest": lambda policy, log, discount, seed: tree_fqe(policy, log, discount=discount, seed=seed),
    "model": lambda policy, log, discount, seed: tabular(policy, log, discount=discount).belief,
}
"Name -> (policy, log, discount, seed) -> what is learned of the policy's values, by folds of episodes."
VALUED = {"dm", "dr", "wdr", "magic", "switch", "shrunk", *LEARNED}
"Those that need values of the policy. MRDR fits its own."
PER_DECISION = {"pdis", "wpdis", "dr", "wdr", "magic", "mrdr"}
"Those that weight each step by what was done up to it."
UNWEIGHTED = {"dm", *LEARNED}
"Those that need no probability of the logger."
SHRINKING = {"clipped", "switch", "shrunk", "subgaussian"}
"Those that cut weights down."
INTERVAL_OF: dict[str, Callable[[Table], Sums]] = {"magic": weighted_doubly_robust}
"""Whose interval stands in for an estimator's own, widened to hold its value. MAGIC's own covers the truth in 20% to 55% of logs at a
nominal 90% where values are wrong (three steps, 100 to 1,000 episodes), WDR's in 88%."""

Method = Literal["bootstrap", "t", "bca", "hoeffding", "bernstein", "anderson", "truncated", "betting"]
Believed = Values | Callable[[Policy, Episodes], Any] | Literal["ridge", "boosting"]


class Estimate(NamedTuple):
    """What one estimator says of one policy. Refused: the reason, and NaN for every number."""

    name: str
    "Of the estimator."
    value: float
    low: float
    high: float
    interval: str
    "How the bounds were found."
    effective: float
    "How many episodes the weights are worth."
    diagnostics: dict
    "What the weights look like, and `notes` in words."
    refused: str | None
    policy: str = ""

    def plain(self) -> dict:
        """For JSON: what is not a finite number as null."""
        return plain(self._asdict())


class Estimates(Sequence[Estimate]):
    """Estimates, policy by policy. Prints as a table."""

    def __init__(self, rows: Sequence[Estimate], logged: Estimate, confidence: float, source: str):
        self.rows, self.logged, self.confidence, self.source = tuple(rows), logged, confidence, source

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return Estimates(self.rows[index], self.logged, self.confidence, self.source) if isinstance(index, slice) else self.rows[index]

    def __str__(self):
        head = ("policy", "estimator", "value", f"{self.confidence:.0%} interval", "effective")
        lines, notes = [head], []
        for row in (self.logged, *self.rows):
            said = "refused" if row.refused else f"{row.value:.4g}"
            bounds = "" if row.refused else f"[{row.low:.4g}, {row.high:.4g}] {row.interval}"
            lines.append((row.policy, row.name, said, bounds, "" if np.isnan(row.effective) else f"{row.effective:,.0f}"))
            for why in (row.refused,) if row.refused else row.diagnostics.get("notes", ()):
                notes.append(why)
        wide = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = ["  ".join(cell.ljust(w) for cell, w in zip(line, wide)).rstrip() for line in lines]
        return "\n".join([text[0], "-" * (sum(wide) + 2 * len(wide) - 2), *text[1:], *(f"· {note}" for note in dict.fromkeys(notes))])

    __repr__ = __str__

    def plain(self) -> dict:
        """For JSON."""
        return {
            "source": self.source,
            "confidence": self.confidence,
            "logged": self.logged.plain(),
            "estimates": [row.plain() for row in self.rows],
        }

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """As text; with `path` also written there, whole or not at all."""
        if path is not None:
            write_json(path, self.plain())
        return json.dumps(self.plain(), indent=1, allow_nan=False)


def estimate(
    policies,
    log: Episodes,
    estimators: Sequence[str] = ("wis", "wpdis"),
    *,
    discount: float | None = None,
    confidence: float = 0.95,
    behaviour: Literal["column"] | np.ndarray = "column",
    values: Believed | Mapping[str, Any] | None = None,
    reward_range: tuple[float, float] | None = None,
    interval: Method = "bootstrap",
    resamples: int = 2000,
    seed: int = 0,
) -> Estimates:
    """How policies would do, by a log that others made: one estimate for each policy and estimator, or why there is none.

    `policies`: one, a sequence, a mapping from names, or what `train` returns; for raw observations. `estimators`: names in
    `ESTIMATORS` or `MARGINAL`. `discount`: by default that of the runs. `behaviour`: log-probabilities of the logged actions, by default
    the log's column; see `table`. `values`: for estimators that need them, by default fitted Q evaluation by two folds of episodes (ridge
    regression where episodes have one step); `Values`, or anything called with (policy, log) that answers with `Values` or with something
    whose `values(log)` are; "ridge" or "boosting" where episodes have one step; a mapping from the names of policies, or of estimators,
    where they differ. Values learned from the same episodes make intervals too narrow: learn them from others, or by folds.

    `interval`: "bootstrap" (percentile, any estimator), "t", "bca", or one that is guaranteed ("anderson", "truncated",
    "betting": for is and ips, from `reward_range`, the least and the most that one step can earn).
    Raises ValueError for an unknown estimator. All else that cannot be answered is a refusal in the row that asked.
    """
    estimators = (estimators,) if isinstance(estimators, str) else tuple(estimators)
    if unknown := [name for name in estimators if name not in (*ESTIMATORS, *MARGINAL)]:
        raise ValueError(f"There is no estimator {unknown[0]!r}. There are: {', '.join((*ESTIMATORS, *MARGINAL))}.")
    if not 0.5 <= confidence < 1:
        raise ValueError(f"the confidence is {confidence}; expected a number from 0.5 to below 1, for example 0.95.")
    base = table(None, log, discount=discount_of(policies) if discount is None else discount)
    how = _How(confidence, interval, reward_range, resamples, seed)
    learned = {kind: Crossfitted(ft.partial(fit, discount=base.gamma, seed=seed), seed=seed) for kind, fit in LEARNED.items()}
    usual = "ridge" if log.lengths.max() == 1 and isinstance(log.spec.action, Discrete) else learned["fqe"]
    rows = []
    for name, policy in named(policies).items():
        mine = values.get(name, values) if isinstance(values, Mapping) else values
        if not isinstance(mine, Mapping):
            mine = {} if mine is None else dict.fromkeys(VALUED - {*LEARNED}, mine)
        mine = dict.fromkeys(VALUED, usual) | learned | mine
        rows += _of_policy(name, policy, log, estimators, base, behaviour, mine, how)
    earned = mean_of(returns(base))
    low, high = how.approximate(earned, "t") if len(log) > 1 else (np.nan, np.nan)
    logged = Estimate("mean return", earned.value, low, high, "t", float(len(log)), {}, None, "the logger")
    return Estimates(rows, logged, confidence, log.source)


def discount_of(policies) -> float:
    """That with which runs were trained."""
    each = policies.values() if isinstance(policies, Mapping) else [policies] if isinstance(policies, Policy) else policies
    known = {float(one.algorithm.discount) for one in each if hasattr(getattr(one, "algorithm", None), "discount")}
    if len(known) != 1:
        raise ValueError(f"Say with which `discount` returns are to be estimated: that of the policies is {sorted(known) or 'not known'}.")
    return known.pop()


def named(policies) -> dict[str, Policy]:
    """Policies by name: those of a mapping, else the algorithm and seed of a run, else their kind, numbered where it comes twice."""
    if isinstance(policies, Mapping):
        return dict(policies)
    found = []
    for one in [policies] if isinstance(policies, Policy) or hasattr(policies, "policy") else policies:
        run = hasattr(one, "algorithm")
        policy = one.policy if hasattr(one, "policy") else one
        found.append(
            (f"{type(one.algorithm).__name__} seed {one.seed}" if run else type(getattr(policy, "inner", policy)).__name__, policy)
        )
    kinds = [kind for kind, _ in found]
    return {kind if kinds.count(kind) == 1 else f"{kind} {i}": policy for i, (kind, policy) in enumerate(found)}


# ---------------------------------------------------------------------------------------------------------------------------


class _How(NamedTuple):
    """How intervals are made."""

    confidence: float
    method: Method
    reward_range: tuple[float, float] | None
    resamples: int
    seed: int

    def interval(self, name: str, sums: Sums, table: Table) -> tuple[float, float]:
        if self.method in ("bootstrap", "t"):
            return self.approximate(sums, self.method)
        how: dict[str, Any] = dict(method=self.method, confidence=self.confidence, resamples=self.resamples, seed=self.seed)
        if self.method in bounds.VALID:
            if name not in ("is", "ips"):
                raise Refused(f"no guaranteed interval is known for {name!r}: it is biased, or its terms have no range. Ask for 'is' ('ips' at one "
                              "step), or for an approximation ('bootstrap', 't', 'bca').")  # fmt: skip
            low, high = (None, None) if self.reward_range is None else _range(self.reward_range, table)
            found = bounds.weighted(table.ratios()[:, -1], returns(table), low=low, high=high, **how)
        elif sums.plain:
            found = bounds.interval(sums.top[:, 0], **how)
        elif sums.top.shape[1] == 1:
            found = bounds.interval(sums.top[:, 0], denominator=sums.bottom[:, 0], **how)
        else:
            raise Refused(
                f"{self.method!r} is for means and single ratios, but {name!r} is normalised step by step. Use 'bootstrap' or 't'."
            )
        return found.low, found.high

    def approximate(self, sums: Sums, method: str) -> tuple[float, float]:
        if method == "bootstrap":
            return sums.percentiles(self.confidence, resamples=self.resamples, seed=self.seed)
        x = sums.contributions
        half = scipy.stats.t.ppf((1 + self.confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
        return sums.value - float(half), sums.value + float(half)


def _range(reward: tuple[float, float], table: Table) -> tuple[float, float]:
    """What an episode can earn at least and at most; it has at least one step."""
    low, high = reward
    if (table.reward[table.live] < low).any() or (table.reward[table.live] > high).any():
        seen = table.reward[table.live]
        raise Refused(
            f"rewards go from {seen.min():.6g} to {seen.max():.6g}, outside the declared range {low} … {high}. Correct the range."
        )
    most = float(table.discount.sum(axis=1).max())
    return min(low, low * most), max(high, high * most)


def _of_policy(name, policy, log, estimators, base, behaviour, values, how: _How) -> list[Estimate]:
    """All estimates of one policy. What several estimators share is made once, and so is the reason why it cannot be made."""
    gamma = base.gamma
    try:
        weights, blocked = table(policy, log, discount=gamma, behaviour=None if isinstance(behaviour, str) else behaviour), None
        seen: Diagnostics | None = diagnostics(weights)
    except Refused as reason:
        weights, blocked, seen = base, str(reason), None
    kept: dict[int, Values | Refused] = {}

    def believed(kind: str) -> Values:
        """By this estimator; what several share is learned once."""
        mine = values[kind]
        if id(mine) not in kept:
            try:
                kept[id(mine)] = _believed(mine, policy, log, how.seed)
            except Refused as reason:
                kept[id(mine)] = reason
        if isinstance(found := kept[id(mine)], Refused):
            raise found
        return found

    def one(kind: str) -> Estimate:
        if len(log) < 2:
            raise Refused("there is only one episode: nothing is known of how others would differ. Give several.")
        if kind in MARGINAL:
            given = None if isinstance(behaviour, str) else behaviour
            found = marginal.estimate(policy, log, discount=gamma, method=kind, behaviour=given, seed=how.seed)
            low, high = how.interval(kind, found.sums, base)
            notes = [f"the log can tell of {found.mass:.1%} of the policy's visits."] if abs(found.mass - 1) > 0.01 else []
            return Estimate(kind, found.value, low, high, how.method, np.nan, {"mass": found.mass, "notes": notes}, None, name)
        if kind not in UNWEIGHTED:
            if blocked is not None or seen is None:
                raise Refused(blocked or "")
            if why := refusals(weights, per_decision=kind in PER_DECISION, seen=seen):
                raise Refused(" Also, ".join(why))
        asked = base if kind in UNWEIGHTED else weights
        if kind in VALUED:
            asked = asked.believing(believed(kind))
        if kind == "mrdr":
            asked = asked.believing(variance_minimising(asked, *features(log, probabilities(policy, log)), seed=how.seed))
        sums = ESTIMATORS[kind](asked)
        low, high = how.interval(kind, INTERVAL_OF[kind](asked) if kind in INTERVAL_OF else sums, asked)
        if kind == "mrdr" and sums.top.var() > per_decision(asked).top.var():
            raise Refused("mrdr's own values make it vary more than pdis, which has none: too many features for so few episodes. Use dr or wdr with "
                          "values of another kind, or pdis.")  # fmt: skip
        if kind in INTERVAL_OF:
            low, high = min(low, sums.value), max(high, sums.value)
        notes, about = _notes(kind, asked, seen)
        effective = (
            float(len(log))
            if kind in UNWEIGHTED or seen is None
            else seen.effective_per_decision
            if kind in PER_DECISION
            else seen.effective
        )
        return Estimate(kind, sums.value, low, high, how.method, effective, {**about, "notes": notes}, None, name)

    rows = []
    for kind in estimators:
        try:
            rows.append(one(kind))
        except Refused as reason:
            about = {} if seen is None or kind in UNWEIGHTED or kind in MARGINAL else seen.plain()
            rows.append(Estimate(kind, np.nan, np.nan, np.nan, "none", np.nan, about, str(reason), name))
    return rows


def _notes(kind: str, table: Table, seen: Diagnostics | None) -> tuple[list[str], dict]:
    if kind in UNWEIGHTED or seen is None:
        return [f"{kind} rests on its values alone: its interval says how first observations differ, not how wrong the values are."], {}
    notes, about = list(warnings(seen, per_decision=kind in PER_DECISION)), seen.plain()
    if kind == "magic":
        notes.append("magic's interval is that of wdr: its own mixture leans to the values, and would leave out how wrong they are.")
    if kind in SHRINKING:
        notes.append(f"{kind} is biased for the sake of less variance, and its interval leaves that bias out.")
    if kind == "clipped":
        about["clipped_away"] = away = clipped_away(table)
        notes.append(f"clipped leaves out {away:.1%} of the weight: it is off by up to that share of the largest return.")
    return notes, about


def _believed(values: Believed, policy: Policy, log: Episodes, seed: int) -> Values:
    if isinstance(values, str):
        return bandit.outcome(log, probabilities(policy, log), model=values, seed=seed)
    if callable(values):
        values = values(policy, log)
    return values if isinstance(values, Values) else values.values(log)
