"""What a part of the log says of a policy: its value by a weighted doubly robust estimate, and its gain over practice, net of the negative control.

Weights are normalised (`wdr`) and plain (`dr`), and an interval holds what either says: where few weights are large, a normalised estimate leans to
the episodes that happen to have weight and its interval lies too high as often as too low, while a plain one misses the large weights and lies
too low. Where they agree this costs nothing.

A gain is a difference on the same episodes: their redraws are shared, so that what both sides have in common cancels. Where the logger's
probabilities are estimated, redrawing episodes leaves out the error of that fit, which is independent of it; it is known by the delete-a-group
jackknife, and moves the ends of an interval out by squares: Zou and Donner 2008, https://doi.org/10.1002/sim.3095.
"""

import dataclasses
import functools as ft
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from ..core import Discrete
from ..data import Episodes
from ..ope import bounds
from ..ope.diagnostics import Diagnostics, diagnostics, refusals
from ..ope.doubly_robust import doubly_robust, weighted_doubly_robust
from ..ope.importance import relative, returns
from ..ope.improvement import Terms, Tested, improve
from ..ope.sums import Sums, mean_of
from ..ope.table import SLACK, Refused, Table, padded, table
from .logger import Acts, Logger, Worth, acts_in, jackknife, partly, worth
from .verdict import ENOUGH, LEVEL, LIKELY, Ends, Numbers

RESAMPLES = 2000
SHARES = (1.0, 0.5, 0.25, 0.1)
"Of decisions, in which the copy of practice is followed."
POWER = 0.8
"With which `settle` wants a gain to be found."


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a difference: an estimate, as it is, and as it might be. The latter is found out when it is asked for."""

    sums: Sums
    seed: int
    otherwise: Callable[[], Sequence[Sums]] = tuple
    "The same by models of practice that each leave out a group of episodes."

    @property
    def value(self) -> float:
        return self.sums.value

    @ft.cached_property
    def draws(self) -> np.ndarray:
        """(RESAMPLES,): from redraws of the episodes, the same for all sides of a bench."""
        return self.sums.resampled(RESAMPLES, seed=self.seed)

    @ft.cached_property
    def without(self) -> np.ndarray:
        """(groups,)."""
        return np.array([sums.value for sums in self.otherwise()])


class Evidence(NamedTuple):
    """What a bench says of one policy."""

    side: Side
    "By normalised weights, ..."
    plain: Side
    "... and by plain ones."
    placebo: Side
    seen: Diagnostics
    table: Table
    "With values."


@dataclasses.dataclass(frozen=True)
class Bench:
    """Episodes to judge policies by, and all that does not depend on the policy."""

    log: Episodes
    discount: float
    logged: np.ndarray
    "(steps,): log-probabilities of the logged actions under the logger."
    without: tuple[np.ndarray, ...]
    "The same by models that leave out groups."
    worth: Worth
    practice: Acts
    "By the model of practice."
    seed: int = 0

    def table(self, acts: Acts) -> Table:
        """Of whoever acts so, with values."""
        made = self._base._replace(target=padded(self.log, acts.log_prob), behaviour=padded(self.log, self.logged))
        return made.believing(self.worth.under(acts, len(self.log)))

    def side(self, made: Table, how: Callable[[Table], Sums]) -> Side:
        return Side(how(made), self.seed, lambda: [how(made._replace(behaviour=padded(self.log, logged))) for logged in self.without])

    @ft.cached_property
    def _base(self) -> Table:
        return table(None, self.log, discount=self.discount)

    @ft.cached_property
    def returns(self) -> np.ndarray:
        """(episodes,)."""
        return returns(self._base)

    @ft.cached_property
    def logger(self) -> Side:
        """Practice itself: the mean of what it earned, which needs no weights."""
        return self.side(self._base, lambda made: mean_of(self.returns))

    @ft.cached_property
    def before(self) -> np.ndarray:
        """(episodes,): what was expected of practice before its first decision."""
        return self.worth.under(self.practice, len(self.log)).v[self.log.starts]


def bench(part: Episodes, logger: Logger, *, discount: float, seed: int = 0, rows: np.ndarray | None = None) -> Bench:
    """`rows`: where the part stands in what the model of practice was fitted to, if it does; it is then asked by folds.

    Raises `Refused` where recorded probabilities are none.
    """
    practice = acts_in(logger.model, part, seed=seed)
    logged = practice.log_prob
    if rows is not None:
        logged = logger.model.log_prob[rows]
    if logger.recorded:
        logged = np.asarray(part.log_prob, np.float64)
        if isinstance(part.spec.action, Discrete) and logged.max() > SLACK:
            raise Refused(f"{part.source}: a recorded probability is {np.exp(logged.max()):.4g}; expected at most 1. Correct the column, or "
                          "have probabilities estimated (--behaviour fit).")  # fmt: skip
    without = () if rows is not None else tuple(acts_in(model, part).log_prob for model in logger.without)
    return Bench(part, discount, logged, without, worth(part, discount=discount, seed=seed), practice, seed)


def weigh(acts: Acts, on: Bench) -> Evidence:
    """Raises `Refused` where these episodes cannot speak of who acts so."""
    made = on.table(acts)
    seen = diagnostics(made)
    if why := refusals(made, alone=True, seen=seen):
        raise Refused(" Also, ".join(why))
    return Evidence(
        on.side(made, weighted_doubly_robust),
        on.side(made, doubly_robust),
        on.side(made, lambda made: _placebo(made, on.before)),
        seen,
        made,
    )


def control(logger: Logger, on: Bench) -> tuple[Evidence, float]:
    """(what is said of a copy of practice, which gains nothing; the share of decisions in which it is followed).

    Where the copy goes too far from true probabilities to be weighed, because few episodes made it, it is followed in part, and else practice goes on:
    that gains nothing either. Raises `Refused` where the least share cannot be weighed.
    """
    copy, reason = acts_in(logger.copy, on.log, seed=on.seed), Refused("")
    for share in SHARES:
        try:
            found = weigh(partly(share, copy, on.logged, on.practice), on)
        except Refused as why:
            reason = why
            continue
        if found.seen.effective >= ENOUGH or share == SHARES[-1]:
            return found, share
    raise Refused(f"A copy of practice cannot be weighed: {reason_alone(reason)}")


def reason_alone(reason: Refused | str) -> str:
    """Why something was refused, without the advice that follows: a study chooses its estimators itself."""
    return str(reason).partition(". ")[0].rstrip(".") + "."


def _placebo(made: Table, before: np.ndarray) -> Sums:
    """By how much the weights of whole episodes move the mean of something that was settled before the first decision: they must not."""
    weights = relative(made)[:, -1]
    return Sums(np.column_stack([weights * before, -before]), np.column_stack([weights, np.ones(len(weights))]))


# differences -------------------------------------------------------------------------------------------------------------------


def gap(a: Side, b: Side | None = None, level: float = LEVEL) -> Ends:
    """a - b, or a, and a two-sided interval."""
    value, draws, without = a.value, a.draws, a.without
    if b is not None:
        value, draws, without = value - b.value, draws - b.draws, without - b.without
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    extra = scipy.stats.norm.ppf((1 + level) / 2) * jackknife(without)
    return Ends(float(value), float(value - np.hypot(max(value - low, 0), extra)), float(value + np.hypot(max(high - value, 0), extra)))


def value(one: Evidence, level: float = LEVEL) -> Ends:
    """The value of a policy."""
    return _either(gap(one.side, level=level), gap(one.plain, level=level))


def gain(one: Evidence, on: Bench, level: float = LEVEL) -> Ends:
    """Over practice."""
    return _either(gap(one.side, on.logger, level), gap(one.plain, on.logger, level))


def net(one: Evidence, control: Evidence, level: float = LEVEL) -> Ends:
    """Over the gain of the control."""
    return _either(gap(one.side, control.side, level), gap(one.plain, control.plain, level))


def _either(a: Ends, b: Ends) -> Ends:
    return Ends(a.value, min(a.low, b.low), max(a.high, b.high))


def spread(a: Side, b: Side) -> float:
    """What the fit of the logger's probabilities adds to the standard error of a difference."""
    return jackknife(a.without - b.without)


def guaranteed(
    found: Evidence, on: Bench, reach: tuple[float, float] | None, *, recorded: bool, level: float = LEVEL
) -> tuple[float | None, str | None]:
    r"""(a lower end of the gain that holds at every n, or None; why there is none).

    With returns G in [l, h] and ratios ρ of whole episodes, the gain is $E[(\rho - 1)(G - l)]$, whose terms are l - h at least: a lower end needs no
    range of ρ. Where the log lacks some of what the policy does, E[ρ] < 1, and the mean is less than the gain.
    """
    if not recorded:
        return None, "the logger's probabilities are estimated, and the error of that fit has no guarantee"
    if reach is None:
        return None, "no range of returns is declared"
    low, high = reach
    if (on.returns < low).any() or (on.returns > high).any():
        seen = f"{on.returns.min():.6g} to {on.returns.max():.6g}"
        return None, f"returns go from {seen}, outside the declared range {low:g} to {high:g}"
    x = ((found.table.ratios()[:, -1] - 1) * (on.returns - low))[np.random.default_rng(on.seed).permutation(len(on.returns))]
    try:
        return bounds.interval(x, method="betting", confidence=level, low=low - high, side="lower", seed=on.seed).low, None
    except Refused as reason:
        return None, str(reason)


def numbers(
    chosen: Evidence, control: Evidence, on: Bench, *, margin: float, tests: int = 1, cautions: int = 0, bound: float | None = None
) -> Numbers:
    """What the rule reads. With several policies tested on the same episodes the error is shared out between the `tests`."""
    level, likely = 1 - (1 - LEVEL) / tests, 1 - 2 * (1 - LIKELY) / tests
    return Numbers(
        margin=margin, cautions=cautions, effective=chosen.seen.effective, gain=gain(chosen, on, level), control=gain(control, on),
        placebo=gap(chosen.placebo), net=net(chosen, control, level), likely=min(gain(chosen, on, likely).low, net(chosen, control, likely).low),
        bound=bound,
    )  # fmt: skip


def settle(found: Ends, episodes: int, size: float) -> int | None:
    """Episodes that would tell a true net gain of `size` from none with the probability `POWER`, by an interval that narrows with the root of n."""
    if not (size > 0 and found.high > found.low):
        return None
    half = scipy.stats.norm.ppf((1 + LEVEL) / 2)
    error = (found.high - found.low) / (2 * half)
    return int(np.ceil(episodes * (error * (half + scipy.stats.norm.ppf(POWER)) / size) ** 2))


# choosing ----------------------------------------------------------------------------------------------------------------------


class Ranked(NamedTuple):
    """A candidate on the episodes that choose."""

    id: str
    promise: float
    "The lower end at `LIKELY` that its net gain would have on as many episodes as judge it."
    effective: float
    eligible: bool
    why: str


class Choice(NamedTuple):
    rows: tuple[Ranked, ...]
    "The best first; those without evidence last."
    chosen: str | None
    need: float
    "The effective sample size that is asked for."
    found: Mapping[str, Evidence | Refused]
    control: Evidence


def choose(found: Mapping[str, Evidence | Refused], control: Evidence, on: Bench, judged_by: int) -> Choice:
    """The candidate that promises most on `judged_by` other episodes, among those whose weights would there be worth enough of them; if
    there is none such, the one whose weights are worth most, which will not be enough."""
    need, rows = ENOUGH * len(on.log) / judged_by, []
    for name, one in found.items():
        if isinstance(one, Refused):
            rows.append(Ranked(name, -np.inf, np.nan, False, str(one)))
            continue
        x = one.side.sums.contributions - control.side.sums.contributions
        promise = x.mean() - scipy.stats.t.ppf(LIKELY, max(judged_by - 1, 1)) * x.std(ddof=1) / np.sqrt(judged_by)
        enough = one.seen.effective >= need
        why = "" if enough else f"worth {one.seen.effective:.0f} episodes, fewer than {need:.0f}"
        rows.append(Ranked(name, float(promise), one.seen.effective, bool(enough), why))
    rows.sort(key=lambda row: (row.eligible, row.promise if row.eligible else np.nan_to_num(row.effective)), reverse=True)
    known = [row for row in rows if not np.isnan(row.effective)]
    return Choice(tuple(rows), known[0].id if known else None, need, found, control)


def together(found: Mapping[str, Evidence], on: Bench) -> tuple[Tested, ...]:
    """The gains of all candidates tested on the same episodes, by Holm's step-down: where no episodes were kept to choose by."""
    terms = {name: Terms(one.side.sums.contributions - on.returns) for name, one in found.items()}
    return improve(terms, 0.0, method="t", confidence=LEVEL).tested
