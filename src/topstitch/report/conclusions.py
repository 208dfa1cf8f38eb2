"""What may be concluded from a log, and what may not: sentences chosen by the numbers of `study.describe`, each with its number.

Every rule looks at one thing, has one threshold, and says one of two sentences. What no number can show (hidden reasons, tomorrow's
episodes) is not here: the page says it whatever the numbers are.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .kit import GAP, Number, Scale, count, listed, num, pct, short, some

EPISODES = 30
"From so many on, a normal interval for the mean return is fair."
CUT = 0.1
"The share of cut-off episodes above which returns are not outcomes."
WRONG, SURE = 0.05, 4.0
"How far, and by how many standard errors, the mean of turned-round recorded probabilities must be from 1 before they count as wrong."
OFF, ERROR = 2.0, 0.05
"A rare choice predicted so many times too often or too rarely; of vectors, the calibration error."
ALONE = 0.5
"The share of decisions at which only one action is in play."
NARROW = 0.05
"Of vectors: the spread of practice in halves of the range."
NEAR = 0.05
"The share of decisions that may depart from practice."
REFUSED, READ = 10, 100
"Effective sample sizes: below the first estimates are refused, below the second intervals cannot be read."
LOST = 0.05
"The share of what a policy does that practice never does, from which on weights are refused (`ope.diagnostics`)."
RARE, THIN = 5, 0.1
"Decisions logged fewer times than this in their state, and the share of them above which estimates rest on single cases."
MISFIT = 0.1
"The error of the world's value of practice, in distances of the best from the worst tenth of the episodes."
LUCK = 0.5
"The share of a believed gain that must be left in the other half of the episodes."

Numbers = Mapping[str, Any]


class Nouns(NamedTuple):
    """What things are called in this log."""

    episode: str = "episode"
    episodes: str = "episodes"
    step: str = "decision"
    steps: str = "decisions"

    def of(self, n: Number) -> str:
        """1,185 episodes."""
        return some(n, self.episode, self.episodes)

    def of_steps(self, n: Number) -> str:
        return some(n, self.step, self.steps)

    @property
    def one(self) -> str:
        """With its article."""
        return f"{'an' if self.episode[:1].lower() in 'aeiou' else 'a'} {self.episode}"


class Said(NamedTuple):
    """One conclusion."""

    code: str
    allowed: bool
    "Whether it says what may be concluded, or what may not."
    text: str
    numbers: dict[str, Any]

    @property
    def severity(self) -> str:
        return "ok" if self.allowed else "warning"


def conclusions(numbers: Numbers, nouns: Nouns = Nouns()) -> list[Said]:  # noqa: B008, a constant
    """Of the rules that apply, in the order of a study."""
    return [said for rule in RULES if (said := rule(numbers, nouns)) is not None]


class Answer(NamedTuple):
    """What a log can do, in a word, and the largest share of decisions that may depart from practice, whichever way."""

    code: str
    "bold, near, practice or unweighed."
    share: float


def answer(numbers: Numbers) -> Answer:
    if numbers["reach"] is None:
        return Answer("unweighed", 0.0)
    share = min(way["furthest"][str(READ)] for way in numbers["reach"]["toward"].values())
    return Answer("bold" if share == 1 else "near" if share >= NEAR else "practice", share)


def scale(numbers: Numbers) -> Scale:
    """How returns are written: shares in percent."""
    returns, share = numbers["episodes"]["returns"], numbers["episodes"]["unit"] == "share"
    width = min(returns["mean"], 1 - returns["mean"]) if share else returns["sd"]
    return Scale.of([returns["low"], returns["high"]], [width], share=share)


def chosen(numbers: Numbers) -> Numbers:
    """The threshold of visits by which gains are judged."""
    found = numbers["stitching"]
    return next(row for row in found["thresholds"] if row["least"] == found["chosen"])


def said(code: str, allowed: bool, yes: str, no: str, **numbers) -> Said:
    return Said(code, bool(allowed), yes if allowed else no, numbers)


# what was earned -------------------------------------------------------------------------------------------------------------


def mean(d: Numbers, nouns: Nouns) -> Said:
    returns, n, say = d["episodes"]["returns"], d["episodes"]["count"], scale(d)
    earned = say.level(returns["mean"])
    if n < 2:
        no = f"What practice earns is not known: there is only one {nouns.episode}, which earned {earned}."
        return said("mean", False, "", no, mean=returns["mean"], episodes=n)
    half = 1.96 * returns["sd"] / math.sqrt(n - 1)
    interval = say.span(returns["mean"] - half, returns["mean"] + half)
    found = f"{earned} on average (95{GAP}% interval {interval}), by {nouns.of(n)}"
    yes, no = f"What practice earns is known: {found}.", f"What practice earns is hardly known: {found}, fewer than {EPISODES}."
    return said("mean", n >= EPISODES, yes, no, mean=returns["mean"], half=half, episodes=n)


def spread(d: Numbers, nouns: Nouns) -> Said:
    returns, say = d["episodes"]["returns"], scale(d)
    low, high = returns["low"], returns["high"]
    yes = f"Some {nouns.episodes} went better than others: they earned from {say.level(low)} to {say.level(high)}."
    no = f"Nothing can be learned about better and worse: all {nouns.episodes} earned {say.level(low)}."
    return said("spread", high > low, yes, no, low=low, high=high)


def ends(d: Numbers, nouns: Nouns) -> Said:
    cut, n = d["episodes"]["truncated"], d["episodes"]["count"]
    share = f"{pct(cut / n)}{GAP}% of the {nouns.episodes}"
    yes = f"Returns are outcomes: every {nouns.episode} truly ends."
    if cut:
        yes = f"Returns are outcomes, but for {share} that the record cuts off."
    no = f"Returns are not outcomes: the record cuts off {share}, and what came later does not count in them."
    return said("ends", cut <= CUT * n, yes, no, share=cut / n)


# how decisions were made -----------------------------------------------------------------------------------------------------


def recorded(d: Numbers, nouns: Nouns) -> Said:
    """1 / (probability · number of legal actions) has the share of actions that were possible for its mean."""
    found = d["practice"]
    if not found["recorded"]:
        return unrecorded(found, nouns)
    check = found.get("inverse")
    if check is None:
        return said("recorded", True, "Weights can rest on recorded probabilities.", "")
    possible, error = f"{pct(check['mean'])}{GAP}%", f"±{GAP}{num(196 * check['error'])}"
    yes = f"Weights can rest on recorded probabilities: by them {possible} of the actions were possible at a {nouns.step}, on average."
    no = f"The recorded probabilities are not those of these actions: by them {possible} ({error}) of the actions were possible."
    right = check["mean"] - 1 <= max(WRONG, SURE * check["error"])
    return said("recorded", right, yes, no, mean=check["mean"], error=check["error"])


def unrecorded(found: Numbers, nouns: Nouns) -> Said:
    if found["refused"] is not None:
        return said("recorded", False, "", f"How {nouns.steps} were made was not recorded, and cannot be estimated: {found['refused']}")
    better = math.exp(found["score"] - found["score_blind"])
    times = num(better, 2) if better < 100 else short(better, 2)
    no = (f"Weights cannot be exact: probabilities were not recorded. The model of practice finds {nouns.steps} that it has not seen "
          f"{times} times as likely as their overall shares do.")  # fmt: skip
    return said("recorded", False, "", no, score=found["score"], blind=found["score_blind"])


def calibrated(d: Numbers, nouns: Nouns) -> Said | None:
    curve = d["practice"].get("calibration")
    if curve is None:
        return None
    if d["actions"]["kind"] == "vectors":
        off = f"predicted shares are off by {num(100 * curve['error'])}{GAP}points on average"
        yes, no = (f"The model of practice {knows} how {nouns.steps} scatter: {off}." for knows in ("knows", "does not know"))
        return said("calibrated", curve["error"] <= ERROR, yes, no, error=curve["error"])
    predicted, observed = curve["predicted"][0], curve["observed"][0]
    found = f"{short(100 * observed, 2)}{GAP}% were taken where it predicts {short(100 * predicted, 2)}{GAP}%"
    yes = f"The model of practice knows the rarest actions: {found}."
    no = f"The model of practice does not know the rarest actions, which make the largest weights: {found}."
    right = predicted <= OFF * observed and observed <= OFF * predicted
    return said("calibrated", right, yes, no, predicted=predicted, observed=observed)


def varied(d: Numbers, nouns: Nouns) -> Said | None:
    found, yes, no = d["practice"], "Practice varied, so actions can be compared: ", "There is little to compare: "
    if "sure" in found:
        alone = f"{pct(found['sure'])}{GAP}% of the {nouns.steps}"
        yes, no = f"{yes}it was sure to do one thing at only {alone}.", f"{no}practice was sure to do one thing at {alone}."
        return said("varied", found["sure"] <= ALONE, yes, no, sure=found["sure"])
    if "spread" in found:
        wide = sum(found["spread"]) / len(found["spread"])
        each = f"where the same was observed, actions spread by {pct(wide)}{GAP}% of half their range."
        return said("varied", wide >= NARROW, yes + each, no + each, spread=wide)
    return None


# what another policy may do --------------------------------------------------------------------------------------------------


def weighed(d: Numbers, nouns: Nouns) -> str:
    """The episodes whose weights were looked at: all of them, or those by which practice was fitted."""
    drawn, every = d["reach"]["episodes"], d["episodes"]["count"]
    return nouns.of(every) if drawn == every else f"{count(drawn)} of {nouns.of(every)}"


def near(d: Numbers, nouns: Nouns) -> Said | None:
    if d["reach"] is None:
        return None
    share, episodes = answer(d).share, d["reach"]["episodes"]
    n, few = weighed(d, nouns), f"{pct(NEAR, 0)}{GAP}% of the {nouns.steps}"
    if episodes < READ:
        no = f"Policies that depart from practice cannot be judged: {n} are fewer than {READ} to begin with."
        return said("near", False, "", no, episodes=episodes)
    many = f"{pct(share, 0)}{GAP}% of the {nouns.steps}"
    until = f"are worth {READ} only up to {pct(share, 0)}{GAP}%" if share else f"are worth fewer than {READ} already at 1{GAP}%"
    yes = f"Policies that depart from practice in up to {many} can be judged: {n} are then still worth {READ}."
    no = f"Policies that depart from practice in {few} cannot be judged: {n} {until}."
    return said("near", share >= NEAR, yes, no, share=share, episodes=episodes)


def free(d: Numbers, nouns: Nouns) -> Said | None:
    if d["reach"] is None:
        return None
    reach, random = d["reach"], d["reach"]["toward"]["random"]
    n, worth, lost = weighed(d, nouns), random["effective"][-1], 1 - random["mean"]
    no = "Policies that owe nothing to practice cannot be judged by weights: "
    if lost > max(LOST, SURE * random["error"]):
        no += f"{pct(lost, 0)}{GAP}% of what one that acts at random would do was never done there."
        return said("free", False, "", no, lost=lost)
    yes = f"Policies that owe nothing to practice can be judged: for one that acts at random, {n} are worth {num(worth[-1], 0)}."
    short_of = next((i for i, each in enumerate(worth) if each is None or each < REFUSED), None)
    if short_of is None:
        return said("free", True, yes, "", effective=worth[-1], steps=None)
    after = nouns.of_steps(reach["steps"][short_of])
    if worth[short_of] is None:
        no += f"after {after}, {n} lack what one that acts at random would do."
    else:
        no += f"for one that acts at random, {n} are worth fewer than {REFUSED} after {after}."
    return said("free", False, "", no, effective=worth[-1], steps=reach["steps"][short_of])


def supported(d: Numbers, nouns: Nouns) -> Said | None:
    covered = d["coverage"]
    if not covered["exact"]:
        return None
    thin = sum(share for level, share in zip(covered["levels"], covered["decisions"]) if level < RARE)
    found = f"{pct(thin)}{GAP}% of the {nouns.steps} were logged fewer than {RARE} times in their state"
    yes = f"Most {nouns.steps} have company: only {found}."
    no = f"Many {nouns.steps} stand alone: {found}, and what is learned there is the luck of single cases."
    return said("supported", thin <= THIN, yes, no, share=thin)


# what could be gained --------------------------------------------------------------------------------------------------------


def believable(d: Numbers) -> bool:
    """Whether the world of the log puts practice where the episodes were."""
    found, logged = d["stitching"], d["stitching"]["logged"]
    return abs(found["practice"] - logged["mean"]) <= MISFIT * (logged["best_tenth"] - logged["worst_tenth"])


def faithful(d: Numbers, nouns: Nouns) -> Said:
    world, logged, say = d["stitching"]["practice"], d["stitching"]["logged"]["mean"], scale(d)
    values = f"it puts practice at {say.level(world)}, where the {nouns.episodes} earned {say.level(logged)}"
    yes = f"The world made of the log can be reasoned with: {values}."
    no = f"The world made of the log cannot be trusted, nor any gain that it promises: {values}."
    return said("faithful", believable(d), yes, no, world=world, logged=logged)


def gain(d: Numbers, nouns: Nouns) -> Said | None:
    row, say = chosen(d), scale(d)
    if row["held_out"] is None or not believable(d):
        return None
    gains = listed(say.diff(x) for x in row["held_out"])
    halves = f"{gains} over practice, each in the half of the {nouns.episodes} that it was not found in"
    hope = "" if d["stitching"]["exact"] else ". That is too hopeful, as situations that differ were put together"
    yes = f"There may be something to gain by doing only what was done before: {halves}{hope}."
    no = f"No gain is to be seen in doing only what was done before: {halves}."
    return said("gain", min(row["held_out"]) > 0, yes, no, halves=row["held_out"])


def lucky(d: Numbers, nouns: Nouns) -> Said | None:
    row, say = chosen(d), scale(d)
    if row["held_out"] is None or row["believed"] <= 0 or not believable(d):
        return None
    left = sum(row["held_out"]) / 2
    both = f"{say.diff(row['believed'])} in the {nouns.episodes} that it was found in, {say.diff(left)} in others"
    yes, no = f"That gain is not mostly luck: {both}.", f"A gain found in this log is mostly luck: {both}."
    return said("lucky", left >= LUCK * row["believed"], yes, no, believed=row["believed"], left=left)


def stitched(d: Numbers, nouns: Nouns) -> Said | None:
    row, say, copied = chosen(d), scale(d), d["stitching"]["imitation"]["held_out"]
    if copied is None or not believable(d):
        return None
    left, imitation = sum(row["held_out"]) / 2, sum(copied) / 2
    both = f"than imitating the best tenth of them: {say.diff(left)} over practice against {say.diff(imitation)}."
    yes, no = (f"Putting parts of {nouns.episodes} together promises {more} {both}" for more in ("more", "no more"))
    return said("stitched", left > imitation, yes, no, stitching=left, imitation=imitation)


RULES: tuple[Callable[[Numbers, Nouns], Said | None], ...] = (
    mean, spread, ends, recorded, calibrated, varied, near, free, supported, faithful, gain, lucky, stitched,
)  # fmt: skip
