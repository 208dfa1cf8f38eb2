"""Estimates from a log larger than memory: episodes come in parts, and what each part adds is kept.

Of every episode some numbers are kept (the ratio of the whole, its return, its per-decision sum), of every step of all of them together sums
over the groups of episodes that a bootstrap redraws. That is all that importance sampling needs, so what is answered is what the
whole log in memory would answer, but for the last digits. Estimators with values need the steps themselves; for decisions of one step, where an
episode is a step, values that somebody learned before can be given.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from ..core import Policy
from ..data.parts import Parts
from .diagnostics import Diagnostics, Weights, counted, summary, weights
from .estimate import ESTIMATORS, VALUED, Estimate, Estimates, Span, _How, answer, answered, compared, require
from .importance import finite, returns
from .sums import Sums, groups, mean_of
from .table import Refused, Table, Values, table

STEPWISE = ("is", "wis", "pdis", "wpdis", "clipped")
ONE_STEP = ("ips", "snips", "subgaussian", "loggers", "dm", "dr", "switch", "shrunk")


class Survey(NamedTuple):
    """What a first look at all parts tells."""

    earned: np.ndarray
    "(episodes,): returns."
    count: np.ndarray
    "(horizon,): see `diagnostics.counted`."
    span: Span
    loggers: bool
    "Whether every part says who acted."


def survey(parts: Parts, discount: float) -> Survey:
    earned, counts, spans, loggers = [], list[np.ndarray](), list[Span](), True
    for part in parts:
        base = table(None, part, discount=discount)
        earned.append(returns(base))
        counts.append(counted(base))
        spans.append(Span.of(base))
        loggers &= base.logger is not None
    horizon = max(map(len, counts))
    count = np.sum([np.pad(x, (0, horizon - len(x))) for x in counts], axis=0)
    least, largest, most, ever = zip(*spans)
    return Survey(np.concatenate(earned), count, Span(min(least), max(largest), max(most), max(ever)), loggers)


class Reduced(NamedTuple):
    """What is kept of the weights of one policy."""

    whole: Table
    "Every episode as one step: its ratio, and its return. With one step an episode, this is the table."
    decided: np.ndarray
    "(episodes,): Σ_t γ^t ρ_{0:t} r_t."
    by_step: Sums | None
    "WPDIS, by groups of episodes; None if nobody asks for it."
    seen: Diagnostics

    def sums(self, kind: str) -> Sums:
        if kind == "pdis":
            return mean_of(self.decided)
        if kind == "wpdis" and self.by_step is not None:
            return self.by_step
        return ESTIMATORS[kind](self.whole)


class Reduction:
    """Takes the parts of a log, one after another, for one policy."""

    def __init__(self, policy: Policy, discount: float, known: Survey, *, values: Any, by_step: bool, seed: int):
        self.policy, self.discount, self.known, self.values = policy, discount, known, values
        self.kept, self.decided, self.believed, self.logger = list[Weights](), list[np.ndarray](), list[Values](), list[np.ndarray]()
        self.steps = Steps(groups(len(known.earned), seed), len(known.count)) if by_step else None

    def add(self, part) -> None:
        """Raises `Refused` as `table` does."""
        made = table(self.policy, part, discount=self.discount)
        self.kept.append(weights(made, self.known.count))
        self.decided.append((made.discount * made.ratios() * made.reward).sum(axis=1))
        if made.logger is not None:
            self.logger.append(made.logger)
        if self.values is not None and len(self.known.count) == 1:
            self.believed.append(self.values.values(part))
        if self.steps is not None:
            self.steps.add(made)

    def done(self) -> Reduced:
        n, gamma = len(self.known.earned), self.discount
        column = lambda x: np.asarray(x, np.float64)[:, None]
        ratio = np.concatenate([one.whole for one in self.kept])
        one, none = np.ones((n, 1)), np.zeros((n, 1))
        whole = Table(column(self.known.earned), one, one > 0, np.zeros(n, bool), column(ratio), none, gamma=gamma)
        if self.believed:
            whole = whole.believing(Values(*(np.concatenate(x) for x in zip(*((v.q, v.v, v.behind) for v in self.believed)))))
        if self.known.loggers:
            whole = whole._replace(logger=np.concatenate(self.logger))
        by_step = None if self.steps is None else Sums(self.steps.top, self.steps.bottom)
        return Reduced(whole, np.concatenate(self.decided), by_step, summary(self.kept, self.known.count))


class Steps:
    """Sums of weights, and of weighted rewards, by step and by group of episodes. Weights are in units of the largest yet."""

    def __init__(self, group: np.ndarray, horizon: int):
        self.group, self.at = group, 0
        self.top, self.bottom = np.zeros((2, int(group.max()) + 1, horizon))
        self.largest = np.full(horizon, -np.inf)

    def add(self, made: Table) -> None:
        logs, horizon, n = made.log_ratios(), made.live.shape[1], len(made.live)
        mine = self.group[self.at : self.at + n]
        self.at += n
        by_group = scipy.sparse.csr_array((np.ones(n), (mine, np.arange(n))), (len(self.top), n))
        most = np.pad(logs.max(axis=0), (0, len(self.largest) - horizon), mode="edge")
        largest = np.maximum(self.largest, most)
        before = np.where(np.isfinite(self.largest), np.exp(finite(self.largest) - finite(largest)), 0)
        self.top *= before
        self.bottom *= before
        self.largest = largest
        w = np.exp(logs - finite(largest[:horizon]))
        self.top[:, :horizon] += by_group @ (made.discount * w * made.reward)
        self.bottom[:, :horizon] += by_group @ w
        if horizon < len(largest) and np.isfinite(most[-1]):  # episodes that have ended keep the weight of their last step
            left = by_group @ np.exp(logs[:, -1] - most[-1])
            self.bottom[:, horizon:] += left[:, None] * np.exp(most[-1] - finite(largest[horizon:]))


def estimate_in_parts(
    policies: Mapping[str, Policy], parts: Parts, names: tuple[str, ...], discount: float, values: Any, how: _How
) -> Estimates:
    """What `estimate` answers for a log in `Parts`. `values`: of decisions of one step, what somebody believes (`values(log)`), or a mapping of
    that from the names of policies."""
    known = survey(parts, discount)
    short = len(known.count) == 1
    possible = (*STEPWISE, *ONE_STEP) if short else STEPWISE
    believing = lambda name: values.get(name) if isinstance(values, Mapping) else values
    if not names:
        lacking = (set() if known.loggers else {"loggers"}) | (VALUED if values is None else set())
        names = tuple(kind for kind in (ONE_STEP if short else STEPWISE) if kind not in lacking)
    asked = dict(by_step="wpdis" in names, seed=how.seed)
    reductions = {name: Reduction(policy, discount, known, values=believing(name), **asked) for name, policy in policies.items()}
    refused = dict[str, str]()
    for part in parts:
        for name, reduction in reductions.items():
            try:
                if name not in refused:
                    reduction.add(part)
            except Refused as reason:
                refused[name] = str(reason)
    rows = []
    for name in policies:
        found = None if name in refused else reductions[name].done()

        def one(kind: str, name=name, found=found) -> Estimate:
            if kind not in possible:
                raise Refused(f"{kind!r} needs all steps at once, which a log in parts does not give. There are: {', '.join(possible)}.")
            if kind in VALUED and believing(name) is None:
                raise Refused(f"{kind!r} needs values, which are not learned from a log in parts. Learn them from as much as fits into memory, and "
                              "give what was learned as `values`.")  # fmt: skip
            if len(known.earned) < 2:
                raise Refused("there is only one episode: nothing is known of how others would differ. Give several.")
            if found is None:
                raise Refused(refused[name])
            if kind != "dm":
                require(kind, found.whole, found.seen)
            sums = found.sums(kind)
            known.span.possible(sums.value, fitted=kind == "dm")
            ends = how.ends(kind, sums, found.sums, found.whole, known.span)
            return answer(kind, name, sums, ends, found.whole, None if kind == "dm" else found.seen, how)

        rows += compared([answered(kind, name, lambda kind=kind, one=one: one(kind), found and found.seen) for kind in names])
    return Estimates(rows, how.logged(known.earned), how.confidence, parts.source, discount)
