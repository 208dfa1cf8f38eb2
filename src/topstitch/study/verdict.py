"""The rule: numbers in, one of four words out.

Steps are asked in order, and the first that holds decides. `docs/verdict.md` gives the reason of each, what rate of wrong words it is built to stay
below, and what came of it in simulated studies whose truth is known (`benchmarks/verdicts.py`).
"""

from collections.abc import Callable
from typing import NamedTuple

from .schema import WORDS

LEVEL = 0.95
"Of two-sided intervals, and of the guaranteed lower end."
LIKELY = 0.95
"Of the one-sided lower end above 0 that a trial asks for."
ENOUGH = 100.0
"Episodes that the weights must be worth: below, approximate intervals are known to be too narrow (`ope.diagnostics.FEW`)."
ERRORS = {"deploy": 0.05, "trial": 0.1, "do not": 0.05}
"""How often a word may be wrong: deploy where practice is as good or better; trial likewise; do not where the gain is as large as the margin, or
where harm is said of a policy that gains."""


class Ends(NamedTuple):
    """A difference of values, and the ends of its two-sided interval at `LEVEL`."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


UNKNOWN = Ends(float("nan"), float("nan"), float("nan"))


class Numbers(NamedTuple):
    """All that the rule reads. Gains are over current practice, on episodes that neither learned nor chose."""

    margin: float
    "The smallest gain or loss that matters."
    critical: int = 0
    "Findings of the checks that make the table unsound, ..."
    cautions: int = 0
    "... and that forbid more than a trial."
    refused: str | None = None
    "Why no policy could be judged."
    effective: float = float("nan")
    "How many episodes the weights of the chosen policy are worth."
    gain: Ends = UNKNOWN
    control: Ends = UNKNOWN
    "What a copy of practice seems to gain, by the same estimator."
    placebo: Ends = UNKNOWN
    "By how much the weights of the chosen policy change what was expected before the first decision."
    net: Ends = UNKNOWN
    "The gain of the chosen policy over that of the control."
    likely: float = float("nan")
    "The lower end at `LIKELY`, one-sided, of the gain and of the net gain: the lesser."
    bound: float | None = None
    "The guaranteed lower end of the gain; None where there is none."

    @property
    def lowest(self) -> float:
        return min(self.gain.low, self.net.low)

    @property
    def highest(self) -> float:
        return max(self.gain.high, self.net.high)


class Step(NamedTuple):
    """One step of the rule."""

    code: str
    asks: str
    holds: Callable[[Numbers], bool]
    word: str


RULE = (
    Step("critical", "Is the table unsound?", lambda x: x.critical > 0, "cannot tell"),
    Step("refused", "Is there no policy that these episodes can judge?", lambda x: x.refused is not None, "cannot tell"),
    Step("thin", f"Are the episodes worth fewer than {ENOUGH:.0f} under the policy?", lambda x: not x.effective >= ENOUGH, "cannot tell"),
    Step("control", "Does a copy of practice seem to gain or lose?", lambda x: off(x.control, x.margin), "cannot tell"),
    Step("placebo", "Do the weights change what was before the first decision?", lambda x: off(x.placebo, x.margin), "cannot tell"),
    Step("harm", "Is the policy worse than practice?", lambda x: x.highest < 0, "do not"),
    Step("futile", "Is its gain smaller than what matters?", lambda x: x.highest < x.margin, "do not"),
    Step("shown", "Is its gain guaranteed?", lambda x: not lacking(x) and x.net.low > 0, "deploy"),
    Step("promising", "Is a gain likely, and harm that matters excluded?", lambda x: x.likely > 0 and x.lowest > -x.margin, "trial"),
    Step("unsettled", "Otherwise.", lambda x: True, "cannot tell"),
)
"In this order."
assert {step.word for step in RULE} == set(WORDS)


def off(control: Ends, margin: float) -> bool:
    """Whether what must gain nothing is found to gain or lose, and as much as half of what matters."""
    return control.excludes_zero and abs(control.value) > margin / 2


def lacking(x: Numbers) -> tuple[str, ...]:
    """What a guarantee lacks; empty where there is one."""
    return tuple(
        code for code, missing in (("caution", x.cautions > 0), ("unbounded", x.bound is None), ("bound", x.bound is not None and not x.bound > 0)) if missing
    )  # fmt: skip


class Verdict(NamedTuple):
    word: str
    code: str
    "Of the step that decided."
    also: tuple[str, ...]
    """What else bears on it, as codes: of a trial, why it is no more (`lacking`, or "net" where the gain over the control is not shown); of what is
    unsettled, what an interval still holds ("gain", "harm")."""


def verdict(x: Numbers) -> Verdict:
    """The word, the step that gave it, and what else bears on it."""
    step = next(step for step in RULE if step.holds(x))
    also = ()
    if step.code == "promising":
        also = lacking(x) or ("net",)
    elif step.code == "unsettled":
        also = tuple(code for code, still in (("gain", not x.likely > 0), ("harm", not x.lowest > -x.margin)) if still)
    return Verdict(step.word, step.code, also)
