"""Is a log sound? A table of faults, and what was found of them.

`check(log)` asks each question of the table that applies to the log. A finding says how bad it is, which rows and columns it concerns, and what to
do: *critical* ones stop a study, a *caution* allows no verdict above a trial, a *warning* should be looked into, a *note* should be known.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from . import evidence as e
from . import faults as f
from .episodes import Episodes
from .faults import Seen

Severity = Literal["critical", "caution", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("critical", "caution", "warning", "note")
"From worst to least."
EXAMPLES = 5
"Rows that a finding shows."


class Check(NamedTuple):
    """A row of the table."""

    code: str
    severity: Severity
    title: str
    "What is wrong, if it is."
    looks: str
    "What is looked for, and what not."
    fine: str
    "What can be said where nothing is found."
    remedy: str
    find: Callable[..., Iterator[Seen]]
    "Of a log, or of all splits."
    needs: Callable[[Episodes], bool] = e.any_log
    "Whether the question can be asked of a log."


class Finding(NamedTuple):
    """One fault of a log."""

    severity: Severity
    code: str
    title: str
    what: str
    "Numbers and names."
    count: int
    "How many rows it concerns."
    rows: tuple[int, ...]
    "Examples, counted from 0, at most five."
    where: tuple[str, ...]
    "The same rows as episode and step."
    columns: tuple[str, ...]
    remedy: str
    "A sentence that says what to do."
    numbers: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {name: list(x) if isinstance(x, tuple) else x for name, x in self._asdict().items()}


class Findings(list[Finding]):
    """What was found, worst first, and which questions found nothing, or could not be asked."""

    def __init__(self, found: list[Finding], passed: tuple[Check, ...] = (), unasked: tuple[Check, ...] = ()):
        super().__init__(found)
        self.passed, self.unasked = passed, unasked

    @property
    def worst(self) -> Severity | None:
        return self[0].severity if self else None

    @property
    def counts(self) -> dict[str, int]:
        """Severity -> number of findings."""
        count = Counter(found.severity for found in self)
        return {severity: count[severity] for severity in SEVERITIES}

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "findings": [found.plain() for found in self],
            "counts": self.counts,
            "passed": [{"code": one.code, "fine": one.fine} for one in self.passed],
            "unasked": [one.code for one in self.unasked],
        }


def check(log: Episodes, *, splits: Mapping[str, Episodes] | None = None) -> Findings:
    """Findings on a log, worst first; `splits` (name -> part of it) are looked at for what they share.

    The rows of findings on splits are those of the second one named. A million steps take seconds. Nothing is changed.
    """
    found, passed, unasked = [], [], []
    for one in CHECKS:
        asked = one.needs(log) if one not in OF_SPLITS else splits is not None and len(splits) > 1
        seen = [] if not asked else list(one.find(log) if one not in OF_SPLITS else one.find(splits))
        found += [_finding(one, each, log if one not in OF_SPLITS else splits[each.numbers["between"][1]]) for each in seen]
        if not seen:
            (passed if asked else unasked).append(one)
    return Findings(sorted(found, key=lambda each: SEVERITIES.index(each.severity)), tuple(passed), tuple(unasked))


def _finding(one: Check, seen: Seen, log: Episodes) -> Finding:
    rows = np.flatnonzero(seen.rows) if seen.rows.dtype == bool else np.sort(seen.rows)
    shown = rows[:EXAMPLES]
    return Finding(one.severity, one.code, one.title, seen.what, len(rows), tuple(shown.tolist()), tuple(place(log, row) for row in shown.tolist()),
                   tuple(seen.columns), one.remedy, dict(seen.numbers))  # fmt: skip


def place(log: Episodes, row: int) -> str:
    """A row as episode and step, by the episode's own name where it has one; steps are counted from 1."""
    episode = int(np.searchsorted(log.stops, row, side="right"))
    return f"episode {episode if log.ids is None else log.ids[episode]}, step {row - int(log.starts[episode]) + 1}"


OF_SPLITS: tuple[Check, ...] = (
    Check("shared-ids", "critical", "Splits share names of episodes", "an id on both sides of a split",
          "No id is in two splits", "Split by whole episodes, and by patient or customer where one has several.", f.shared_ids),
    Check("shared-episodes", "critical", "Splits share episodes", "the same steps in the same order on both sides, oftener than by chance",
          "No episode is in two splits", "Remove copies before splitting: a policy must not be judged by what it learned from.", f.shared_episodes),
)  # fmt: skip
CHECKS: tuple[Check, ...] = (
    *OF_SPLITS,
    # copies
    Check("repeated-episodes", "warning", "Some episodes come twice", "the same steps in the same order, oftener than chance explains",
          "No episode comes twice", "Remove the copies: they would stand on both sides of a split, and make intervals too narrow.",
          f.repeated_episodes, e.several),
    Check("repeated-steps", "warning", "Some rows come twice", "the same observation, action and reward again, where observations hardly ever come back",
          "No row comes twice", "Remove the copies, or find out what was written twice.", f.repeated_steps),
    Check("identifier-column", "warning", "A column names the episode or the row", "numbers that come only once: ids, counters of rows, clocks",
          "No column names the episode", "Leave it out of the observations: it can be learned by heart, and means nothing in a new episode.",
          f.identifier_columns, e.vector),
    # knowing too much
    Check("copied-action", "critical", "A column repeats the action", "a column that goes with the action of its row one to one",
          "No column repeats the action", "Leave it out of the observations, or give its value before the decision.", f.copied_action, e.vector),
    Check("predicted-action", "warning", "A column all but says what was done",
          f"a column by which trees tell {f.SURE:.0%} of the action of held-out episodes; not the action of the step before",
          "No single column says what was done", "Make sure that it was known before the decision, and leave it out if not. If decisions follow it by rule, expect no overlap.",
          f.predicted_action, e.vector),
    Check("copied-reward", "caution", "A column repeats the reward", "a column that holds the reward of its row, or of the next one, perhaps in other units",
          "No column repeats the reward", "Leave it out of the observations, unless the reward is paid for what was seen before the decision.",
          f.copied_reward, e.vector),
    Check("predicted-reward", "note", "A column all but says what is earned", f"a column by which trees tell {f.SURE:.0%} of the reward of held-out episodes",
          "No single column says what is earned", "Make sure that it was known before the decision.", f.predicted_reward, e.vector),
    Check("copied-outcome", "critical", "A column knows how the episode ends", "a first value that goes with the return, the last reward, the end or the length one to one",
          "No column knows how the episode ends", "Leave it out of the observations: it was not known at the first step.", f.copied_outcome,
          lambda log: e.vector(log) and e.several(log)),
    Check("predicted-outcome", "caution", "A column all but says how the episode ends",
          f"a first value by which trees tell {f.FOREKNOWN:.0%} of these in held-out episodes; of single decisions, a column that tells so much of the reward together with the action",
          "No single column says how the episode ends", "Make sure that it was known at the first step, and leave it out if not.", f.predicted_outcome, e.vector),
    Check("future-column", "caution", "A column shows what another will be", "a column that is another one a step ahead; not a column of values before",
          "No column shows what another will be", "Leave it out of the observations, unless the other one is its value of the step before.",
          f.future_columns, lambda log: e.vector(log) and e.several(log)),
    # columns
    Check("constant-columns", "note", "Some columns never change", "observations with one value", "Every column changes",
          "Leave them out: they cannot tell anything.", f.constant_columns, e.vector),
    Check("nearly-constant-columns", "note", "Some columns hardly ever change", "observations with one value in more than 999 of 1,000 rows",
          "No column is nearly constant", "See whether the other values are errors; standardised, they become very large.", f.nearly_constant_columns,
          lambda log: e.vector(log) and log.steps >= 1000),
    Check("missing-codes", "warning", "A number seems to stand for a missing value", "-999, 9999 and the like: three times or more, at an end of the column and apart from the rest",
          "No number seems to stand for a missing value", "Make these cells empty, and say how empty cells are to be handled.", f.missing_codes),
    Check("outliers", "warning", "Some values lie far from all others", "observations and rewards ten times as far out as 99 in 100, and apart from the next",
          "No value lies far from all others", "Correct them, or leave these episodes out; see whether units were mixed.", f.outliers),
    Check("jumps", "warning", "Some columns jump within an episode", "changes from one row to the next, judged as outliers are",
          "No column jumps within an episode", "See whether rows are missing, or two episodes stand under one name; give angles as sine and cosine.",
          f.jumps, lambda log: e.vector(log) and e.several(log)),
    Check("telling-blanks", "warning", "Blanks carry information", "columns that are missing where something else was done, or earned, than elsewhere",
          "Blanks do not go with what was done or earned", "Keep the column that says what was missing, and ask whether it will be measured alike when a policy decides.",
          f.telling_blanks, e.vector),
    Check("broken-chain", "warning", "Rows seem to be missing within episodes", "next observations that are not those of the next row",
          "Every step leads to the next row", "Start a new episode where rows are missing.", f.broken_chain, e.several),
    # ends
    Check("one-length", "warning", "All episodes are equally long and marked as ended", "one length, all ends true, and rewards on the way: a time limit looks like that",
          "Episodes do not all end after the same number of steps", "Mark them as cut (truncated) if the world went on behind the last step.",
          f.one_length, e.several),
    Check("limit-as-end", "caution", "A time limit seems to be marked as an end", "true ends at the greatest length, which comes far oftener than those just below it",
          "No time limit is marked as an end", "Mark the episodes of that length as cut (truncated): what would have followed still counts.",
          f.limit_as_end, e.several),
    Check("never-ended", "note", "No episode truly ends", "logs without any true end", "Some episodes truly end",
          "Use a discount below 1, and estimators with values: what lies behind the last step is extrapolated.", f.never_ended),
    Check("ends-disagree", "caution", "Ends and outcomes disagree", "where rewards are paid in last steps only: cut episodes with an outcome, ended ones without",
          "Ends and outcomes agree", "Correct the mark of these ends, or their reward.", f.ends_disagree, e.several),
    # rewards
    Check("paid-at-the-end", "note", "Rewards are paid at the end only", "rewards in last steps alone", "Rewards are paid on the way too",
          "Expect slow learning and wide intervals: use a discount near 1, and no importance weights of single steps, which gain nothing here.",
          f.paid_at_the_end, e.several),
    Check("equal-returns", "critical", "All episodes earned the same", "equal returns", "Episodes earned different returns",
          "Give a reward that tells good episodes from bad ones.", f.equal_returns),
    Check("large-rewards", "warning", "Rewards are large", "one in a hundred above 100", "Rewards are not too large",
          "Divide them: losses and step sizes are made for rewards of about 1.", f.large_rewards),
    Check("tiny-rewards", "warning", "Rewards are tiny", "hardly any above 0.01", "Rewards are not too small",
          "Multiply them, or weights that are in units of the reward (alpha, beta) mean something else.", f.tiny_rewards),
    # time
    Check("time-gaps", "warning", "Time has gaps", "few steps that take ten times as long as is usual, or more", "Time has no gaps",
          "See whether rows are missing; start a new episode behind a gap, or give durations.", f.time_gaps, e.timed),
    Check("uneven-steps", "warning", "Steps take unequal times", "one step in twenty that does not take the usual time, without a column of durations",
          "Steps take equal times, or durations are given", "Give durations, so that a discount counts by time; or bring rows to equal steps.",
          f.uneven_steps, e.timed),
    # decisions
    Check("one-action", "critical", "The same was done in every row", "a single action", "More than one thing was done",
          "Check which column is the action: a log without choices teaches nothing.", f.one_action),
    Check("unused-actions", "note", "Some actions were never taken", "declared actions without a row", "Every action was taken",
          "Do not let a policy take them: nothing is known of them.", f.unused_actions, e.chosen),
    Check("single-action-states", "note", "In some states the same was always done", f"states met {f.OFTEN} times or more with one action, where a mask leaves a choice",
          "In no state that was met often was the same always done", "Expect no change there: nothing is known of anything else.", f.single_action_states, e.table),
    Check("deterministic-logger", "caution", "The logger seems to follow a fixed rule", f"actions that recorded probabilities, their state, or trees tell in {f.RULE:.1%} of the rows",
          "The logger varies what it does", "Use no importance weights: what was never tried cannot be weighed. Let the logger try something else now and then.",
          f.deterministic_logger),
    Check("wrong-propensities", "critical", "Probabilities do not belong to these actions", "probabilities so small that, weighted by 1 / p, an action comes more often than there are rows, or visits of a numbered state",
          "Recorded probabilities agree with what was done", "Correct the column of probabilities, or leave it out and have them estimated.", f.wrong_propensities, e.recorded),
    Check("certain-and-varied", "caution", "A probability of 1 is recorded where decisions vary", f"probabilities of 1 in numbered states, met {f.OFTEN} times or more, in which several actions were taken",
          "Where decisions vary, probabilities below 1 are recorded", "Correct the column of probabilities, unless several loggers each follow a rule of their own: then no action can be weighed.",
          f.certain_and_varied, lambda log: e.recorded(log) and e.numbered(log)),
    Check("out-of-range-actions", "caution", "Some actions lie outside their bounds", "actions beyond the declared bounds", "All actions lie within their bounds",
          "Declare wider bounds, or correct these rows: a policy can never answer so.", f.out_of_range, e.continuous),
    Check("saturated-actions", "note", "Actions often lie on a bound", "a dimension that is on a bound in more than a tenth of the rows",
          "Actions seldom lie on a bound", "Prefer methods with a clipped normal or a deterministic policy: a squashed density is infinite there.",
          f.saturated_actions, e.continuous),
    Check("few-valued-actions", "warning", "A continuous action has few values", "a dimension with at most 10 values", "Continuous actions have many values",
          "Code it as a choice: methods for vectors would answer between the values.", f.few_valued_actions, e.continuous),
    Check("guessed-bounds", "note", "Bounds of actions were read off the log", "bounds that one or two rows reach, each of them", "Bounds of actions were declared",
          "Declare what is possible (--low, --high).", f.guessed_bounds, e.continuous),
    # how much of it
    Check("few-episodes", "caution", "There are few episodes", f"fewer than {f.LEAST}", f"There are {f.LEAST} episodes or more",
          "Log more episodes before trusting an interval.", f.few_episodes),
    Check("long-episodes", "warning", "Episodes are long for their number",
          f"a policy that differs modestly from practice would be worth fewer than {f.WORTH} of the episodes kept for judging", "There are enough episodes for their length",
          "Judge by fitted values, shorten episodes, or log more of them: importance weights will be refused.", f.long_episodes, lambda log: len(log) >= f.LEAST),
    Check("drifting-practice", "note", "Practice changed during the log", "the second half of the episodes earned or did something else than the first",
          "Practice did not change during the log", "Expect a mixture of loggers; split by time if the newest practice is the one to be replaced.", f.drifting_practice),
)  # fmt: skip
"Everything that is looked for."
