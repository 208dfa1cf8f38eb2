"""Estimates of many policies by many estimators from one log: numbers with intervals, or the reason why there is none."""

import functools as ft
import json
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.stats

from ..core import Discrete, Policy
from ..data import Episodes
from ..data.parts import Parts
from ..disk import plain, write_json
from . import bandit, bounds, marginal
from .beliefs import Belief
from .crossfit import Crossfitted
from .diagnostics import SURE, Diagnostics, diagnostics, few, marginal_refusals, missing, refusals, warnings
from .doubly_robust import corrections, direct, doubly_robust, features, magic, variance_minimising, weighted_doubly_robust
from .fqe import FQE, fqe, lstdq, tree_fqe
from .importance import clipped, clipped_away, ordinary, per_decision, returns, weighted, weighted_per_decision
from .model import World, learned_worlds, rolled_out, tabular
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
    "loggers": bandit.by_logger,
    "fqe": direct,
    "lstdq": direct,
    "forest": direct,
    "model": direct,
}
"Name -> estimator of one padded table. The six from `ips` on are for episodes of one step, the last four are `dm` with values of their own."
MARGINAL: tuple[marginal.Method, ...] = ("mwl", "bestdice", "dualdice", "gradientdice", "gendice", "state")
"Names of ways to find weights of single steps that turn the logger's visits into the policy's: `marginal.ratios`."

SHORT = ("ips", "snips", "dm", "dr", "switch", "shrunk", "subgaussian")
LONG = ("is", "wis", "pdis", "wpdis", "clipped", "fqe", "lstdq", "dr", "wdr", "magic", "mrdr", "mwl")
"""What "all" stands for where episodes have one step, and where they have more: one name for each idea, in affordable time. `loggers` comes with
them where the log says which of several acted."""

LEARNED: dict[str, Callable[..., Any]] = {
    "fqe": lambda policy, log, discount, seed: fqe(policy, log, algorithm=FQE.settled(log, discount), seed=seed),
    "lstdq": lambda policy, log, discount, seed: lstdq(policy, log, discount=discount, seed=seed),
    "forest": lambda policy, log, discount, seed: tree_fqe(policy, log, discount=discount, seed=seed),
    "model": lambda policy, log, discount, seed: tabular(policy, log, discount=discount).belief,
}
"Name -> (policy, log, discount, seed) -> what is learned of the policy's values, by folds of episodes."
ROLLED = "rollouts"
"The name of acting in worlds that nets learned: `model.rolled_out`."
VALUED = {"dm", "dr", "wdr", "magic", "switch", "shrunk", *LEARNED}
"Those that need values of the policy. MRDR fits its own."
PER_DECISION = {"pdis", "wpdis", "dr", "wdr", "magic", "mrdr"}
"Those that weight each step by what was done up to it."
UNWEIGHTED = {"dm", ROLLED, *LEARNED}
"Those that need no probability of the logger."
SHRINKING = {"clipped", "switch", "shrunk", "subgaussian"}
"Those that cut weights down."
WORLD = World(hidden=(128, 128), steps=10_000)
"The worlds that `rollouts` learns: smaller than their authors', to be had in minutes."
ROLLOUTS = 1000
"Episodes that a policy acts in each learned world, at most."
UNSETTLED, UNLEARNED = 0.1, 0.25
"Shares of an estimate that its values may leave unexplained over a logged episode before that is said; before nets are refused for it."
MISFIT = "What was fitted does not fit. Use fqe, whose values stay within."
TOP_HEAVY = "A few large weights make it. Use estimators that divide by their weights (wis, wpdis), or log more."
VALUES_ALONE = "an estimate that rests on its values alone: the interval says how first observations differ, not how wrong the values are."
FEATURES = "weights of a linear class of features: the interval takes them as they were found, and leaves out how badly they fit."
INTERVAL_OF = {"magic": "wdr", "switch": "dr", "shrunk": "dr"}
"""Whose interval stands in for an estimator's own, widened to hold its value: those that may come to rest on values alone, of whose error
their own interval knows nothing. MAGIC's own covers the truth in 20% to 55% of logs at a nominal 90% where values are wrong (three steps,
100 to 1,000 episodes), WDR's in 88%."""

Method = Literal["bootstrap", "t", "bca", "hoeffding", "bernstein", "anderson", "truncated", "betting"]
Believed = Values | Belief | Callable[[Policy, Episodes], Any] | Literal["ridge", "boosting"]


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
    """Estimates, policy by policy: of the return of an episode, in the units of the rewards, discounted by `discount`. Prints as a table."""

    def __init__(self, rows: Sequence[Estimate], logged: Estimate, confidence: float, source: str, discount: float):
        self.rows, self.logged, self.confidence, self.source, self.discount = tuple(rows), logged, confidence, source, discount

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if not isinstance(index, slice):
            return self.rows[index]
        return Estimates(self.rows[index], self.logged, self.confidence, self.source, self.discount)

    def __str__(self):
        head = ("policy", "estimator", "value", f"{self.confidence:.0%} interval", "effective", "notes")
        lines, notes = [head], dict[str, int]()
        for row in (self.logged, *self.rows):
            said = "refused" if row.refused else f"{row.value:.4g}"
            bounds = "" if row.refused or np.isnan(row.low) else f"[{row.low:.4g}, {row.high:.4g}] {row.interval}"
            why = [notes.setdefault(note, len(notes) + 1) for note in ((row.refused,) if row.refused else row.diagnostics.get("notes", ()))]
            worth = "" if np.isnan(row.effective) else f"{row.effective:,.0f}"
            lines.append((row.policy, row.name, said, bounds, worth, " ".join(map(str, why))))
        wide = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = ["  ".join(cell.ljust(w) for cell, w in zip(line, wide)).rstrip() for line in lines]
        rule = "-" * (sum(wide) + 2 * len(wide) - 2)
        below = [textwrap.fill(f"{number:>2}  {note}", max(len(rule), 100), subsequent_indent="    ") for note, number in notes.items()]
        about = f"{self.source}: the return of an episode, discounted by {self.discount:g}; effective: episodes that the weights are worth"
        return "\n".join([about, "", text[0], rule, *text[1:], *([""] * bool(below)), *below])

    __repr__ = __str__

    def plain(self) -> dict:
        """For JSON."""
        return {
            "source": self.source,
            "discount": self.discount,
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
    log: Episodes | Parts,
    estimators: str | Sequence[str] = ("wis", "wpdis"),
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

    `policies`: one, a sequence, a mapping from names, or what `train` returns; for raw observations. `estimators`: names in `ESTIMATORS` or
    `MARGINAL`, "rollouts", or "all" (`SHORT`, `LONG`). A log larger than memory comes in `Parts`: see `stream`. `discount`: by default that of
    the runs.
    `behaviour`: log-probabilities of the logged actions, by default the log's column; see `table`. `values`: for estimators that need them, by
    default fitted Q evaluation by two folds of episodes (ridge regression where episodes have one step); `Values`, a `Belief` learned elsewhere, or
    anything called with (policy, log) that answers with one of these; "ridge" or "boosting" where episodes have one step; a mapping from the
    names of policies, or of estimators, where they differ; for "rollouts", what is called to have the learned worlds. Values learned from
    the same episodes make intervals too narrow: learn them from others, or by folds.

    `interval`: "bootstrap" (percentile, any estimator), "t", "bca", or one that is guaranteed ("anderson", "truncated",
    "betting": for is and ips, from `reward_range`, the least and the most that one step can earn).
    Raises ValueError for an unknown estimator. All else that cannot be answered is a refusal in the row that asked.
    """
    if not 0.5 <= confidence < 1:
        raise ValueError(f"the confidence is {confidence}; expected a number from 0.5 to below 1, for example 0.95.")
    gamma = discount_of(policies) if discount is None else discount
    how = _How(confidence, interval, reward_range, resamples, seed)
    if isinstance(log, Parts):
        from .stream import estimate_in_parts

        if not isinstance(behaviour, str):
            raise ValueError("a log that comes in parts must hold the logger's probabilities: name their column.")
        return estimate_in_parts(named(policies), log, asked_for(estimators), gamma, values, how)
    estimators = asked_for(estimators) or everything(log)
    base = table(None, log, discount=gamma)
    learned = {kind: Crossfitted(ft.partial(fit, discount=base.gamma, seed=seed), seed=seed) for kind, fit in LEARNED.items()}
    usual = "ridge" if log.lengths.max() == 1 and isinstance(log.spec.action, Discrete) else learned["fqe"]
    worlds, rows = ft.cache(lambda: learned_worlds(log, WORLD, seed=seed)), []
    for name, policy in named(policies).items():
        mine = values.get(name, values) if isinstance(values, Mapping) else values
        if not isinstance(mine, Mapping):
            mine = {} if mine is None else dict.fromkeys(VALUED - {*LEARNED}, mine)
        mine = dict.fromkeys(VALUED, usual) | learned | {ROLLED: worlds} | mine
        rows += _of_policy(name, policy, log, estimators, base, behaviour, mine, how)
    return Estimates(rows, how.logged(returns(base)), confidence, log.source, gamma)


def asked_for(estimators: str | Sequence[str]) -> tuple[str, ...]:
    """Names, checked; none for "all"."""
    names = () if estimators == "all" else (estimators,) if isinstance(estimators, str) else tuple(estimators)
    if unknown := [name for name in names if name not in (*ESTIMATORS, *MARGINAL, ROLLED)]:
        raise ValueError(f"There is no estimator {unknown[0]!r}. There are: {', '.join((*ESTIMATORS, *MARGINAL, ROLLED))}.")
    return names


def everything(log: Episodes) -> tuple[str, ...]:
    """What "all" stands for."""
    if log.lengths.max() > 1:
        return LONG
    return (*SHORT, "loggers") if len(np.unique(log.info.get("logger", ()))) > 1 else SHORT


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
        return {name: getattr(one, "policy", one) for name, one in policies.items()}
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

    def logged(self, earned: np.ndarray) -> Estimate:
        """What the logger itself earned: `earned` (episodes,) are its returns."""
        low, high = self.approximate(mean_of(earned), "t") if len(earned) > 1 else (np.nan, np.nan)
        return Estimate("mean return", float(earned.mean()), low, high, "t", float(len(earned)), {}, None, "the logger")

    def ends(self, kind: str, sums: Sums, other: Callable[[str], Sums], table: Table, span: "Span | None" = None) -> tuple[float, float]:
        """`interval`, or that of the estimator which stands in for this one: `other(name)` are the sums of an estimator."""
        if kind not in INTERVAL_OF:
            return self.interval(kind, sums, table, span)
        low, high = self.interval(kind, other(INTERVAL_OF[kind]), table, span)
        return min(low, sums.value), max(high, sums.value)

    def interval(self, name: str, sums: Sums, table: Table, span: "Span | None" = None) -> tuple[float, float]:
        """`span` is that of the steps, where `table` holds whole episodes only."""
        if self.method in ("bootstrap", "t"):
            return self.approximate(sums, self.method)
        how: dict[str, Any] = dict(method=self.method, confidence=self.confidence, resamples=self.resamples, seed=self.seed)
        if self.method in bounds.VALID:
            if name not in ("is", "ips"):
                raise Refused(f"no guaranteed interval is known for {name!r}: it is biased, or its terms have no range. Ask for 'is' ('ips' at one "
                              "step), or for an approximation ('bootstrap', 't', 'bca').")  # fmt: skip
            low, high = (None, None) if self.reward_range is None else _range(self.reward_range, span or Span.of(table))
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


class Span(NamedTuple):
    """Of the rewards of a log: the least, the largest, and the most that discounts of an episode add up to: of a logged one, and of any."""

    least: float
    largest: float
    most: float
    ever: float

    @classmethod
    def of(cls, table: Table) -> "Span":
        reward, rate = table.reward[table.live], float(table.rate()[table.live].max())
        ever = 1 / (1 - rate) if rate < 1 else np.inf
        return cls(float(reward.min()), float(reward.max()), float((table.live * table.discount).sum(axis=1).max()), ever)

    def possible(self, value: float, *, fitted: bool = True) -> None:
        """Raises `Refused` for a value that no policy can have, if rewards are like the logged ones; `fitted`: by what it rests on."""
        low = self.least * self.ever if self.least < 0 else self.least
        high = self.largest * self.ever if self.largest > 0 else self.largest
        slack = 1e-6 * (1 + max(abs(x) for x in (self.least, self.largest)))
        if not low - slack <= value <= high + slack:
            within = f"from {low:.4g} to {high:.4g}".replace("inf", "∞")
            raise Refused(f"{value:.4g} is no value that a policy can have: rewards go from {self.least:.4g} to {self.largest:.4g}, so values "
                          f"go {within}. {MISFIT if fitted else TOP_HEAVY}")  # fmt: skip


def _range(reward: tuple[float, float], seen: Span) -> tuple[float, float]:
    """What an episode can earn at least and at most; it has at least one step."""
    low, high = reward
    if seen.least < low or seen.largest > high:
        raise Refused(f"rewards go from {seen.least:.6g} to {seen.largest:.6g}, outside the declared range {low} … {high}. Correct it.")
    return min(low, low * seen.most), max(high, high * seen.most)


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
            if why := marginal_refusals(found.mass, found.effective, len(log)):
                raise Refused(" Also, ".join(why))
            Span.of(base).possible(found.value)
            low, high = how.interval(kind, found.sums, base)
            notes = [f"the log can tell of {found.mass:.1%} of the policy's visits."] if abs(found.mass - 1) > 0.01 else []
            if not tabular_log(log):
                notes.append(FEATURES)
            notes += few(found.effective, len(log)) + _cut(kind, float(base.truncated.mean()))
            return Estimate(kind, found.value, low, high, how.method, found.effective, {"mass": found.mass, "notes": notes}, None, name)
        if kind == ROLLED:
            out = rolled_out(policy, values[kind](), discount=gamma, rollouts=min(len(log), ROLLOUTS), seed=how.seed)
            sums, each = mean_of(out.returns.mean(axis=0)), out.estimates.tolist()
            about = (
                f"the {len(each)} worlds say from {min(each):.4g} to {max(each):.4g}; what comes after {out.horizon} steps does not count."
            )
            said = {"worlds": each, "notes": [VALUES_ALONE, about]}
            return Estimate(kind, sums.value, *how.interval(kind, sums, base), how.method, float(len(log)), said, None, name)
        if kind not in UNWEIGHTED:
            if blocked is not None or seen is None:
                raise Refused(blocked or "")
            require(kind, weights, seen)
        asked = base if kind in UNWEIGHTED else weights
        if kind in VALUED:
            asked = asked.believing(believed(kind))
        if kind == "mrdr":
            asked = asked.believing(variance_minimising(asked, *features(log, probabilities(policy, log)), seed=how.seed))
        sums = ESTIMATORS[kind](asked)
        Span.of(base).possible(sums.value, fitted=kind in (*UNWEIGHTED, "mrdr"))
        low, high = how.ends(kind, sums, lambda name: ESTIMATORS[name](asked), asked)
        if kind == "mrdr" and sums.top.var() > per_decision(asked).top.var():
            raise Refused("mrdr's own values make it vary more than pdis, which has none: too many features for so few episodes. Use dr or wdr with "
                          "values of another kind, or pdis.")  # fmt: skip
        made = answer(kind, name, sums, (low, high), asked, None if kind in UNWEIGHTED else seen, how)
        if kind in UNWEIGHTED and seen is not None and (lost := missing(seen)):
            guess = "0, as that of every pair that was never logged" if kind == "lstdq" and tabular_log(log) else "extrapolated"
            made.diagnostics["notes"].append(
                f"about {lost:.0%} of what the policy does, the logger never does there: its value is {guess}."
            )
        return made

    rows = [answered(kind, name, lambda kind=kind: one(kind), None if kind in (*UNWEIGHTED, *MARGINAL) else seen) for kind in estimators]
    return compared(rows)


def tabular_log(log: Episodes) -> bool:
    """Whether states and actions are numbered."""
    return isinstance(log.spec.obs, Discrete) and isinstance(log.spec.action, Discrete)


def contradiction(rows: Sequence[Estimate]) -> tuple[set[str], str]:
    """(names of estimates of one policy that contradict another one, what is to be said): intervals that do not meet, and values far apart."""
    told = [row for row in rows if row.refused is None]
    apart = lambda a, b: (a.high < b.low or b.high < a.low) and abs(a.value - b.value) > UNLEARNED * max(abs(a.value), abs(b.value))
    against = [row for row in told if any(apart(row, other) for other in told)]
    if not against:
        return set(), ""
    least, most = (pick(against, key=lambda row: row.value) for pick in (min, max))
    return {row.name for row in against}, (
        f"estimates of this policy contradict one another, from {least.value:.4g} by {least.name} to {most.value:.4g} by {most.name}: their intervals do "
        "not meet, so some of them are wrong. Those that use both weights and values (dr, wdr) need only one of these to be right."
    )


def compared(rows: list[Estimate]) -> list[Estimate]:
    """The same, with a note at those that contradict another one."""
    names, note = contradiction(rows)
    more = lambda row: row._replace(diagnostics=row.diagnostics | {"notes": [*row.diagnostics["notes"], note]})
    return [more(row) if row.name in names else row for row in rows]


def require(kind: str, weights: Table, seen: Diagnostics) -> None:
    """Raises `Refused` where weights cannot bear this estimator."""
    if why := refusals(weights, per_decision=kind in PER_DECISION, seen=seen):
        raise Refused(" Also, ".join(why))


def answered(kind: str, name: str, ask: Callable[[], Estimate], seen: Diagnostics | None) -> Estimate:
    """What `ask` answers, or its refusal."""
    try:
        return ask()
    except Refused as reason:
        return Estimate(kind, np.nan, np.nan, np.nan, "none", np.nan, {} if seen is None else seen.plain(), str(reason), name)


def answer(kind: str, name: str, sums: Sums, ends: tuple[float, float], table: Table, seen: Diagnostics | None, how: _How) -> Estimate:
    """An estimate with all that should be known with it; `seen` of the weights, if it rests on any."""
    worth = float(len(table.live)) if seen is None else seen.effective_per_decision if kind in PER_DECISION else seen.effective
    notes, about = _notes(kind, table, seen)
    return Estimate(kind, sums.value, *ends, how.method, worth, {**about, "notes": notes}, None, name)


def _notes(kind: str, table: Table, seen: Diagnostics | None) -> tuple[list[str], dict]:
    if seen is None:
        return [VALUES_ALONE, *_settled(kind, table), *_cut(kind, float(table.truncated.mean()))], {}
    notes, about = [*warnings(seen, per_decision=kind in PER_DECISION), *_cut(kind, seen.truncated)], seen.plain()
    if kind == "magic":
        notes.append("magic's interval is that of wdr: its own mixture leans to the values, and would leave out how wrong they are.")
    if kind in SHRINKING:
        notes.append(f"{kind} is biased for the sake of less variance, and its interval leaves that bias out.")
    if kind == "clipped":
        about["clipped_away"] = away = clipped_away(table)
        notes.append(f"clipped leaves out {away:.1%} of the weight: it is off by up to that share of the largest return.")
    return notes, about


def _settled(kind: str, table: Table) -> list[str]:
    """What is said of values that do not explain the log: r + γ V(s') - Q(s, a) is 0 in the mean for right values of any policy.

    Raises `Refused` where nets are far from it: too few updates leave them near their first guess, with narrow intervals.
    """
    left, value = corrections(table).sum(axis=1), float(direct(table).value)
    off, error, size = left.mean(), left.std() / np.sqrt(len(left)), max(abs(value), abs(returns(table).mean()))
    if abs(off) <= max(UNSETTLED * size, SURE * error):
        return []
    why = (f"logged steps earn and lead to {abs(off):.3g} {'more' if off > 0 else 'less'} over an episode than was believed of them, beside an "
           f"estimate of {value:.4g}: the values have not settled, or cannot fit. Learn longer (--steps), from more episodes, or with other "
           "features.")  # fmt: skip
    if kind == "fqe" and abs(off) > UNLEARNED * size:
        raise Refused(why)
    return [why]


def _cut(kind: str, share: float) -> list[str]:
    """What is said of episodes that the log cuts off."""
    if share == 0:
        return []
    if kind in VALUED or kind in MARGINAL:
        what = "what would have followed counts too, as if the world never stopped there. The logger's mean return leaves it out."
    else:
        what = "rewards count up to there, as they do in the logger's mean return."
    return [f"{share:.1%} of the episodes are cut off by the log: {what}"]


def _believed(values: Believed, policy: Policy, log: Episodes, seed: int) -> Values:
    if isinstance(values, str):
        return bandit.outcome(log, probabilities(policy, log), model=values, seed=seed)
    if callable(values):
        values = values(policy, log)
    return values if isinstance(values, Values) else values.values(log)
