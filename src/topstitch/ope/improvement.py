"""High-confidence policy improvement: a policy takes the place of practice only if the data say, at a confidence, that it is better.

Two ways to guard against having looked at many candidates. Either one of them is chosen on episodes that are then put aside (`choose`),
and it alone is tested; or all are tested on the same episodes, and the error is shared out between them (Bonferroni, or Holm's
step-down, which accepts all that Bonferroni does and sometimes more). Terms must come from episodes on which no candidate was trained.

Sources: Thomas, Theocharous & Ghavamzadeh 2015, *High confidence policy improvement*, ICML, https://proceedings.mlr.press/v37/thomas15.html;
Holm 1979, https://www.jstor.org/stable/4615733.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import scipy.stats

from .bounds import VALID, Method, interval
from .table import Refused

LEAST = 1e-9  # the smallest error probability that is looked at


class Terms(NamedTuple):
    """Independent terms, one an episode, whose mean is what a policy is worth, and what a single one can be at least and at most."""

    x: np.ndarray
    "(n,)."
    low: float | None = None
    high: float | None = None
    denominator: np.ndarray | None = None
    "(n,), where the value is mean(x) / mean(denominator)."

    @property
    def value(self) -> float:
        x = np.asarray(self.x, np.float64)
        return float(x.mean() if self.denominator is None else x.mean() / np.mean(self.denominator))


class Tested(NamedTuple):
    """What became of one candidate."""

    name: str
    accepted: bool
    value: float
    low: float
    "Of its value, or of its gain over practice where both were compared by episode: the lower end at the level of its test."
    p: float
    "The smallest error probability at which it would be accepted if it were the only candidate."
    reason: str


class Decision(NamedTuple):
    """Which candidates may take the place of practice. `valid` says whether the confidence is guaranteed or approximate."""

    accepted: tuple[str, ...]
    best: str | None
    "The accepted one with the greatest lower end; None: practice stays."
    tested: tuple[Tested, ...]
    valid: bool
    reason: str


def choose(candidates: Mapping[str, Terms], *, tests: int, confidence: float = 0.95) -> str:
    """The candidate whose lower end promises to be the greatest on `tests` other episodes, judged by Student's t on these.

    These episodes must not be used to test it: hand `improve` the terms of the others (the paper keeps a fifth for choosing).
    """

    def promise(terms: Terms) -> float:
        x = np.asarray(terms.x, np.float64)
        if terms.denominator is not None:
            share = np.mean(terms.denominator)
            x = terms.value + (x - terms.value * terms.denominator) / share
        if len(x) < 2:
            raise Refused(f"{len(x)} episode cannot tell candidates apart. Keep more of the log for choosing.")
        return x.mean() - scipy.stats.t.ppf(confidence, tests - 1) * x.std(ddof=1) / np.sqrt(tests)

    return max(candidates, key=lambda name: promise(candidates[name]))


def improve(
    candidates: Mapping[str, Terms],
    practice: Terms | float,
    *,
    method: Method,
    confidence: float = 0.95,
    against: Literal["paired", "bound"] = "paired",
    correction: Literal["holm", "bonferroni", "none"] = "holm",
    chosen_on: int | None = None,
    seed: int = 0,
) -> Decision:
    """Which candidates are better than practice, all of these statements being right together with probability `confidence`.

    `practice` is a number that is known, or the terms of its own returns: then a candidate must have a positive lower end of the mean
    *difference* on the same episodes ("paired"), or a lower end above practice's upper end, half of the error going to each ("bound").
    `chosen_on`: how many other episodes chose the candidates, for the record.
    `correction="none"` is right only for a single candidate, chosen on other episodes, and is refused for more.
    """
    if not candidates:
        raise ValueError("there is no candidate. Give at least one.")
    if correction == "none" and len(candidates) > 1:
        raise Refused(f"{len(candidates)} candidates on the same episodes need a correction: the best of many looks good by luck. Use 'holm', "
                      "or `choose` one on other episodes.")  # fmt: skip
    how = dict(method=method, seed=seed)
    compare = {name: _comparison(name, terms, practice, against, how) for name, terms in candidates.items()}
    ps = {name: _least_error(test) for name, test in compare.items()}
    error, k, going = 1 - confidence, len(candidates), True
    order, levels, passed = sorted(ps, key=lambda name: ps[name]), {}, {}
    for i, name in enumerate(order):
        levels[name] = error / (k - i if correction == "holm" else k)
        won = compare[name](levels[name])[1] > 0  # asked anew: `ps` is only as fine as its search
        passed[name] = won and (going or correction == "bonferroni")
        going &= won
    tested = []
    for name in candidates:
        low, gap, what = compare[name](levels[name])
        level = f"at {1 - levels[name]:.4g}" + (f" ({correction}, {k} candidates)" if k > 1 else "")
        if passed[name]:
            word = "accepted"
        else:
            word = "not accepted" if gap <= 0 else "not accepted, since one with a smaller p was not"
        tested.append(Tested(name, passed[name], candidates[name].value, low, ps[name], f"{name}: {word}; {what} {level}."))
    sizes = sorted({len(terms.x) for terms in candidates.values()})
    split = f" Tested on {' to '.join(f'{n:,}' for n in sizes[:: max(1, len(sizes) - 1)])} episodes"
    split += "." if chosen_on is None else f"; chosen on {chosen_on:,} others, which count no more."
    accepted = tuple(t.name for t in tested if t.accepted)
    best = max((t for t in tested if t.accepted), key=lambda t: t.low).name if accepted else None
    kind = "guaranteed" if method in VALID else "approximate"
    reason = (
        f"{len(accepted)} of {k} candidates are better than practice at {confidence:.4g} ({method}, {kind})."
        if accepted
        else f"No candidate is shown to be better than practice at {confidence:.4g} ({method}, {kind}): practice stays. That is not proof that "
        "none is better; more episodes, or policies nearer to practice, would tell."
    )
    return Decision(accepted, best, tuple(tested), method in VALID, reason + split)


def _comparison(name: str, terms: Terms, practice: Terms | float, against: str, how: dict):
    """error probability -> (lower end, by how much it clears what it must clear, in words)."""
    x = np.asarray(terms.x, np.float64)
    lower = lambda error: (
        interval(x, confidence=1 - error, low=terms.low, high=terms.high, denominator=terms.denominator, side="lower", **how).low
    )
    if not isinstance(practice, Terms):
        return lambda error: ((low := lower(error)), low - practice, f"worth at least {low:.4g}, practice {practice:.4g}")
    if against == "bound":

        def bound(error):
            y = np.asarray(practice.x, np.float64)
            high = interval(
                y, confidence=1 - error / 2, low=practice.low, high=practice.high, denominator=practice.denominator, side="upper", **how
            ).high
            low = lower(error / 2)
            return low, low - high, f"worth at least {low:.4g}, practice at most {high:.4g}"

        return bound
    if terms.denominator is not None or practice.denominator is not None:
        raise Refused(f"{name} is a ratio of means, which has no difference by episode. Use against='bound'.")
    if np.shape(practice.x) != x.shape:
        raise Refused(f"{name} has {len(x):,} terms and practice {len(practice.x):,}; a difference by episode needs the same episodes. "
                      "Use against='bound'.")  # fmt: skip
    ends = [None if a is None or b is None else a - b for a, b in ((terms.low, practice.high), (terms.high, practice.low))]

    def paired(error):
        gain = x - np.asarray(practice.x, np.float64)
        low = interval(gain, confidence=1 - error, low=ends[0], high=ends[1], side="lower", **how).low
        return low, low, f"a gain of at least {low:.4g}"

    return paired


def _least_error(test) -> float:
    """The smallest error probability at which a test is passed, 1 if none up to 1/2 is; lower ends rise with it."""
    if test(0.5)[1] <= 0:
        return 1.0
    if test(LEAST)[1] > 0:
        return LEAST
    a, b = np.log(LEAST), np.log(0.5)
    for _ in range(24):
        middle = (a + b) / 2
        a, b = (a, middle) if test(float(np.exp(middle)))[1] > 0 else (middle, b)
    return float(np.exp(b))
