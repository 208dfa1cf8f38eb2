"""From trained policies to a verdict: choose by some episodes, judge by others. All of it is the same for a person's study and for simulated ones."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..core import Policy
from ..data import Episodes
from ..ope.improvement import Tested
from ..ope.table import Refused
from .evidence import Bench, Choice, Evidence, bench, choose, control, guaranteed, numbers, reason_alone, together, weigh
from .logger import Logger, acts_of
from .plan import Plan
from .verdict import LEVEL, Numbers, Verdict, verdict

CONTROL = "control"
"The name of the copy of practice."


class Judged(NamedTuple):
    """All that was found on the way."""

    verdict: Verdict
    numbers: Numbers
    choice: Choice | None
    "By the selection episodes, or, where there are none, by the evaluation episodes."
    tested: tuple[Tested, ...] | None
    "By Holm's step-down, where no episodes were kept to choose by."
    found: Mapping[str, Evidence | Refused]
    "On the evaluation episodes: the control and every policy."
    selection: Bench | None
    evaluation: Bench | None
    unbounded: str | None
    "Why the gain has no guaranteed lower end."
    share: float = 1.0
    "Of decisions, in which the control follows the copy of practice."


def judge(
    log: Episodes,
    parts: Mapping[str, np.ndarray],
    policies: Mapping[str, Policy],
    logger: Logger,
    plan: Plan,
    *,
    margin: float,
    candidates: tuple[str, ...] | None = None,
    cautions: int = 0,
    selection: Bench | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Judged:
    """Choose one of the `candidates` (by default all policies) on the selection part, and judge it on the evaluation part.

    `selection`: the bench of the former (`choosing`), to spare making it again.
    """
    candidates = tuple(policies) if candidates is None else candidates
    judges, evaluation = log.take(parts["evaluation"]), None
    try:
        selection = selection or choosing(log, parts, logger, plan)
        if selection is not None:
            tell(f"Choosing by {len(selection.log):,} {plan.words.episodes}")
            choice = choose(_weighed(policies, candidates, selection), control(logger, selection)[0], selection, len(judges))
        tell(f"Judging by {len(judges):,} other {plan.words.episodes}")
        evaluation = bench(judges, logger, discount=plan.discount, seed=plan.seed)
        copy, share = control(logger, evaluation)
    except Refused as reason:
        return refused(str(reason), margin, cautions, selection, evaluation)
    found: dict[str, Evidence | Refused] = {CONTROL: copy} | _weighed(policies, tuple(policies), evaluation)
    tests, tested = 1, None
    if selection is None:
        known = {name: one for name in candidates if isinstance(one := found[name], Evidence)}
        choice = choose({name: found[name] for name in candidates}, copy, evaluation, len(judges))
        tests, tested = max(len(known), 1), together(known, evaluation) if known else None
    if choice.chosen is None:
        first = reason_alone(next((row.why for row in choice.rows), "there is no candidate"))
        why = f"None of {len(candidates)} policies can be judged. Of the first: {first}"
        return refused(why, margin, cautions, selection, evaluation, choice, found)
    best = found[choice.chosen]
    if isinstance(best, Refused):
        return refused(f"Of the chosen policy: {reason_alone(best)}", margin, cautions, selection, evaluation, choice, found)
    bound, unbounded = guaranteed(best, evaluation, plan.return_range, recorded=logger.recorded, level=1 - (1 - LEVEL) / tests)
    read = numbers(best, copy, evaluation, margin=margin, tests=tests, cautions=cautions, bound=bound)
    return Judged(verdict(read), read, choice, tested, found, selection, evaluation, unbounded, share)


def choosing(log: Episodes, parts: Mapping[str, np.ndarray], logger: Logger, plan: Plan) -> Bench | None:
    """The bench of the selection part; None where there is none."""
    if not len(parts["selection"]):
        return None
    begin, part = int(log.lengths[parts["train"]].sum()), log.take(parts["selection"])
    return bench(part, logger, discount=plan.discount, seed=plan.seed, rows=np.arange(begin, begin + part.steps))


def refused(why: str, margin: float, cautions: int = 0, selection=None, evaluation=None, choice=None, found=None) -> Judged:
    """The verdict where no policy could be judged."""
    read = Numbers(margin, cautions=cautions, refused=why)
    return Judged(verdict(read), read, choice, None, found or {}, selection, evaluation, "no policy was judged")


def _weighed(policies: Mapping[str, Policy], names: tuple[str, ...], on: Bench) -> dict[str, Evidence | Refused]:
    found: dict[str, Evidence | Refused] = {}
    for name in names:
        try:
            found[name] = weigh(acts_of(policies[name], on.log, seed=on.seed), on)
        except Refused as reason:
            found[name] = reason
    return found
