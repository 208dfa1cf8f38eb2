"""What a study's page says, chosen by its numbers: a function for every sentence that could be otherwise.

Estimates "are estimated" or "seem"; only a simulator's values "are". Levels are in percent, differences in points with a sign, an interval in
the same breath as its estimate. What is not known is not spoken of. Everything here answers with plain text, which templates escape.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .kit import Number, Scale, called, capitalised, count, listed, num, pct, short, some, spelled, told

VERDICTS = {"deploy": "Deploy", "trial": "Trial", "cannot tell": "Cannot tell", "do not": "Do not"}
"The four words, in the order of the page's scale."
LINKS = ("data", "checks", "coverage", "practice", "policies", "estimates", "choice")
FEW = 100
"Episodes that weights must be worth before an interval is read; below, an estimate is drawn hollow, grey and dashed."
NOUN = 24
"Letters of a noun of strangers."


class Ends(NamedTuple):
    """An estimate and its interval."""

    value: Number
    low: Number
    high: Number

    @property
    def zero(self) -> bool:
        """Whether its interval holds 0."""
        return self.low <= 0 <= self.high


def ends(estimate: Mapping[str, Any] | None) -> Ends | None:
    """Of an estimate as `study.json` has it; None where it was refused or never made."""
    if estimate is None or any(estimate.get(end) is None for end in Ends._fields):
        return None
    return Ends(*(float(estimate[end]) for end in Ends._fields))


@dataclasses.dataclass(frozen=True)
class Terms:
    """What things are called in this log, and how its values are written."""

    episode: str
    episodes: str
    step: str
    steps: str
    value: str
    scale: Scale
    level: Number = 0.95

    @classmethod
    def of(cls, study: Mapping[str, Any]) -> "Terms":
        said, verdict = study["words"] or {}, study["verdict"]
        noun = lambda key, other: called(said[key], NOUN) if said.get(key) else other
        found = {name: ends(verdict.get(name)) for name in ("value", "practice", "gain", "control", "net")}
        values = [found[name].value for name in ("value", "practice") if found[name]]
        widths = [found[name].high - found[name].low for name in ("value", "gain", "net") if found[name]]
        unit = study["unit"] or {}
        scale = Scale.of(values, widths, share=unit.get("kind") == "share", unit=called(unit["name"], NOUN) if unit.get("name") else "")
        episode = noun("episode", "episode")
        return cls(
            episode, noun("episodes", "episodes"), noun("step", "step"), noun("steps", "steps"), noun("value", f"return per {episode}"), scale,
            verdict.get("level") or 0.95,
        )  # fmt: skip

    def of_episodes(self, n: Number) -> str:
        return some(n, self.episode, self.episodes)

    def of_steps(self, n: Number) -> str:
        return some(n, self.step, self.steps)

    @property
    def interval(self) -> str:
        return f"{pct(self.level, 0)}\u00a0% interval"

    def gain(self, e: Ends) -> str:
        """+3.1 points (+0.2 to +6.4)."""
        return f"{self.scale.diff(e.value)} ({self.scale.span(e.low, e.high, sign=True)})"


def spoken(name: str, e: Ends | None, terms: Terms, sign: bool = False) -> str:
    """An estimate for those who hear the page."""
    if e is None:
        return f"{name}: not estimated"
    scale = terms.scale
    return f"{name}: {scale.diff(e.value) if sign else scale.level(e.value)}, {terms.interval} {scale.span(e.low, e.high, sign)}"


# the verdict -----------------------------------------------------------------------------------------------------------------


def why(verdict: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """(the code of the step that decided, what else bears on it)."""
    codes = [reason["code"] for reason in verdict["reasons"] or ()]
    decided = [step["code"] for step in verdict["rule"] or () if step.get("decides")]
    first = (decided or codes or ["unsettled"])[0]
    return first, tuple(code for code in codes if code != first)


def numbers(verdict: Mapping[str, Any], terms: Terms) -> str:
    """Value, interval and practice, as the beginning of a sentence; empty where nothing was estimated."""
    value, practice, scale = ends(verdict.get("value")), ends(verdict.get("practice")), terms.scale
    if value is None:
        return ""
    against = f", against {scale.level(practice.value)} under current practice" if practice else ""
    said = f"{capitalised(terms.value)} under the learned policy is estimated at {scale.level(value.value)}"
    return f"{said} ({terms.interval} {scale.span(value.low, value.high)}){against}"


def headline(verdict: Mapping[str, Any], terms: Terms, checks: Mapping[str, Any] | None = None) -> str:
    """The verdict in one or two sentences: number, interval, comparison with practice, and the reason."""
    code, also = why(verdict)
    said, reason = numbers(verdict, terms), reason_of(code, also, verdict, terms, checks)
    if not said:
        return capitalised(reason) + "."
    joint = {"control": "; but ", "placebo": "; but ", "unsettled": "; but ", "thin": "; but ", "harm": ": ", "futile": "; but "}
    return said + joint[code] + reason + "." if code in joint else f"{said}. {capitalised(reason)}."


def reason_of(code: str, also: Sequence[str], verdict: Mapping[str, Any], terms: Terms, checks: Mapping[str, Any] | None = None) -> str:
    """Why the rule came to its word: a clause without a stop. `code` and `also` are those of `study.verdict`."""
    gain, control, net = (ends(verdict.get(name)) for name in ("gain", "control", "net"))
    scale, margin = terms.scale, verdict.get("margin") or 0.0
    if code == "critical":
        n = ((checks or {}).get("counts") or {}).get("critical") or 0
        found = f"{spelled(n)} critical finding{'s' if n > 1 else ''}" if n else "a critical finding"
        return f"the study ended at the checks, with {found}: whatever is estimated from this table could be wrong in any direction"
    if code == "refused":
        found = next((step["here"] for step in verdict["rule"] or () if step["code"] == code and step.get("here")), "")
        return f"there is no policy that these {terms.episodes} can judge" + (f": {told(found).rstrip('.')}" if found else "")
    if code == "thin":
        n, worth = verdict.get("episodes"), verdict.get("effective")
        if n is None or worth is None:
            return f"the {terms.episodes} are worth too little for the learned policy"
        return (f"the {terms.of_episodes(n)} kept for judging are worth only {count(worth)} for the learned policy, "
                f"fewer than the {FEW} below which intervals cannot be trusted")  # fmt: skip
    if code == "control" and control:
        return control_clause(gain, control, terms)
    if code == "placebo":
        moved = ends(verdict.get("placebo"))
        size = f" by {scale.diff(abs(moved.value), sign=False)}" if moved else ""
        return f"the weights behind this estimate also change{size} what was settled before the first {terms.step}, which no policy can"
    if code == "harm":
        worst = net if net and (gain is None or net.value > gain.value) else gain
        return "it is estimated to do worse than practice" + (f", by {terms.gain(worst)}" if worst else "")
    if code == "futile":
        most = max(e.high for e in (gain, net) if e) if gain or net else None
        at = f", at most {scale.diff(most)}," if most is not None else ""
        return f"what it may gain{at} is less than the {scale.margin(margin)} that matter here"
    if code == "shown":
        bound = (verdict.get("bound") or {}).get("low")
        least = f", and is guaranteed to be at least {scale.diff(bound)}" if bound is not None else ""
        return (f"the gain over practice, {terms.gain(net or gain)} net of the negative control, lies above 0" if net or gain else
                "the gain over practice lies above 0") + least  # fmt: skip
    if code == "promising":
        size = (
            f" ({scale.diff(net.value)} net of the negative control, {terms.interval} {scale.span(net.low, net.high, True)})" if net else ""
        )
        return f"a gain is likely{size} and a loss of {scale.margin(margin)} or more is excluded, but {no_more(also, verdict, terms)}"
    if code == "unsettled":
        e = net or gain
        if e is None:
            return "the gain over practice could not be estimated"
        open_ = f"the gain over practice may be anything from {scale.bare(e.low, True)} to {scale.diff(e.high)}"
        return open_ + (f", and a loss of {scale.margin(margin)} is not excluded" if "harm" in also and margin else "")
    return "the rule of this study did not come to another word"


def control_clause(gain: Ends | None, control: Ends, terms: Terms) -> str:
    """What the negative control shows beside the gain."""
    scale = terms.scale
    does = "gain" if control.value > 0 else "lose"
    start = f"a copy of current practice, measured the same way, seems to {does} {scale.bare(abs(control.value))}"
    if gain and control.value > 0 and gain.value > control.value:
        return f"{start} of those {scale.diff(gain.value, sign=False)}"
    unit = scale.diff(abs(control.value), sign=False)[len(scale.bare(abs(control.value))) :]
    return f"{start}{unit}, which should be 0"


def no_more(also: Sequence[str], verdict: Mapping[str, Any], terms: Terms) -> str:
    """Why a trial is no more than a trial."""
    scale, bound = terms.scale, (verdict.get("bound") or {}).get("low")
    said = {
        "caution": "a finding of the checks allows no more than a trial",
        "unbounded": "nothing guarantees it, as that needs recorded probabilities and a declared range of returns",
        "bound": f"no more than {scale.diff(bound)} is guaranteed" if bound is not None else "no gain is guaranteed",
        "net": "it is not yet shown over the negative control",
    }
    return listed([said[code] for code in also if code in said] or ["it is not yet guaranteed"])


def verdict_title(gain: Ends | None, control: Ends | None, net: Ends | None, terms: Terms, word: str = "") -> str:
    """Of the picture of the three gains."""
    if gain is None:
        return "The gain over practice could not be estimated"
    if control and not control.zero and control.value > 0 and gain.value > 0 and control.value >= 0.5 * gain.value:
        return "Most of the apparent gain is the error of the method"
    if control and not control.zero:
        return f"The method is off by {terms.scale.diff(abs(control.value), sign=False)} where it should find nothing"
    last = net or gain
    if last.low > 0:
        return "The gain stands out from the error of the method" if net else "The gain lies above 0"
    if last.high < 0:
        return "The learned policy is estimated to do worse than practice"
    if word == "trial":
        return "What is left is likely to be a gain, and not a loss that matters"
    return "What is left of the gain cannot be told from none" if net else "The gain cannot be told from none"


def facts(verdict: Mapping[str, Any], same: Number | None, terms: Terms) -> list[tuple[str, str]]:
    """Up to three short numbers under the verdict, each with what it means."""
    found = []
    n, worth, settle, scale = verdict.get("episodes"), verdict.get("effective"), verdict.get("settle") or {}, terms.scale
    if n and worth is not None:
        found.append((f"{count(worth)} of {count(n)}",
                      f"The {terms.of_episodes(n)} kept for judging carry about as much information on the learned policy as "
                      f"{terms.of_episodes(round(worth) if worth >= 10 else worth)} under it would."))  # fmt: skip
    if settle.get("margin") and verdict["word"] in ("cannot tell", "trial") and verdict.get("margin"):
        found.append((terms.of_episodes(settle["margin"]),
                      f"Judging by this many would tell a true gain of {scale.margin(verdict['margin'])} over the control from none, "
                      "four times out of five."))  # fmt: skip
    if same is not None:
        found.append(
            (
                f"{pct(same, 0)}\u00a0% the same",
                f"The learned policy shares this much of its {terms.steps} with practice. {departure(same)}",
            )
        )
    return found


def departure(same: Number) -> str:
    if same >= 0.9:
        return "It is a small change, and hard to see."
    return "It is a clear change." if same >= 0.6 else "It is another way of acting, of which the log has seen little."


# the links -------------------------------------------------------------------------------------------------------------------


def chain_title(states: Mapping[str, str]) -> str:
    """`states`: link -> how it held, as in `study.json`."""
    stopped = [link for link, state in states.items() if state == "critical"]
    capped = [link for link, state in states.items() if state == "caps" and link != "choice"]
    if stopped:
        return f"The chain ends at the {listed(stopped)}"
    if capped:
        return f"The weakest link{'s' if len(capped) > 1 else ''}: {listed(capped)}"
    return "A verdict is no stronger than its weakest link"


def chain_lead(states: Mapping[str, str]) -> str:
    weak = sum(state in ("warn", "caps", "critical") for link, state in states.items() if link != "choice")
    held = (
        "All of the first six are in order."
        if not weak
        else f"Of the first six, {spelled(weak)} {'has' if weak == 1 else 'have'} a weakness."
    )
    return f"Seven links lead from the table to the verdict. Each has its own section; the mark says how it held. {held}"


def data_lead(data: Mapping[str, Any], unit: Mapping[str, Any] | None, terms: Terms, counted: bool = False) -> str:
    """How much there is, unless that is said already (`counted`), and what a value is."""
    once = bool(data.get("lengths")) and data["lengths"].get("high") == 1
    if once:
        much = "" if counted else f"{terms.of_episodes(data['episodes'])}, each a single {terms.step}. "
        return f"{much}The value of a policy is its mean reward{called_value(terms)}."
    discount = (unit or {}).get("discount")
    worth = f", later ones discounted by {short(discount, 4)} each {terms.step}" if discount is not None and discount < 1 else ""
    much = "" if counted else f"{terms.of_episodes(data['episodes'])} with {terms.of_steps(data['steps'])}. "
    value = f"The return of {an(terms.episode)} is the sum of its rewards{worth}; the value of a policy is its mean return"
    return f"{much}{value}{called_value(terms)}."


def called_value(terms: Terms) -> str:
    return "" if terms.value == f"return per {terms.episode}" else f", here called {terms.value}"


def an(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def lengths_title(lengths: Mapping[str, Any], terms: Terms) -> str:
    if lengths["low"] == lengths["high"]:
        return f"Every {terms.episode} has {terms.of_steps(lengths['high'])}"
    middle = lengths["quantiles"][2]
    return f"Half of the {terms.episodes} end within {terms.of_steps(middle)}"


def returns_title(returns: Mapping[str, Any], terms: Terms) -> str:
    mean = terms.scale.level(returns["mean"])
    if terms.scale.share:
        return f"The mean {terms.value} in the log is {mean}"
    low, high = returns["quantiles"][0], returns["quantiles"][4]
    return f"Nine in ten {terms.episodes} return {terms.scale.bare(low)} to {terms.scale.bare(high)}; the mean is {mean}"


def checks_title(counts: Mapping[str, int], stopped: bool) -> str:
    critical, limit = counts.get("critical", 0), counts.get("caution", 0) + counts.get("warning", 0)
    if critical:
        found = f"{capitalised(spelled(critical))} critical finding{'s' if critical > 1 else ''}"
        return f"{found} {'stops' if critical == 1 else 'stop'} the study" if stopped else found
    if limit:
        return f"Nothing stops the study; {spelled(limit)} finding{'s limit' if limit > 1 else ' limits'} it"
    return "Nothing was found that limits the study"


def checks_lead(counts: Mapping[str, int], stopped: bool) -> str:
    start = "Checks run before anything is learned."
    if counts.get("critical", 0):
        return f"{start} A critical finding ends the study here: nothing was learned, and nothing is claimed." if stopped else start
    caps = counts.get("caution", 0)
    capped = f" {capitalised(spelled(caps))} of the findings allow{'s' if caps == 1 else ''} no more than a trial." if caps else ""
    return f"{start} A critical finding would have ended the study; there is none (0 critical).{capped}"


def coverage_lead(verdict: Mapping[str, Any], coverage: Mapping[str, Any], terms: Terms) -> str:
    n, worth = verdict.get("episodes"), verdict.get("effective")
    start = "Logs can only judge what was tried."
    if n is None or worth is None:
        return f"{start} How much these say about the learned policy is not known, as nothing could be weighted."
    if worth < FEW:
        luck = f"averages of so few follow the luck of single {terms.episodes}"
        how = f"They say too little: {terms.of_episodes(n)} are worth {count(worth)}, and {luck}."
    elif worth < 0.2 * n:
        how = f"They say something: {terms.of_episodes(n)} are worth {count(worth)} for it, because its {terms.steps} often differ from those logged."
    else:
        how = f"They say a good deal: {terms.of_episodes(n)} are worth {count(worth)} for it."
    unseen = (coverage.get("support") or {}).get("policy")
    alone = f" {pct(unseen[0], 0)}\u00a0% of what the learned policy does was never seen in training in that state." if unseen else ""
    return f"{start} {how}{alone}"


def support_title(practice: Sequence[Number], policy: Sequence[Number]) -> str:
    """Levels are ordered from never seen; the first two are what experience hardly knows."""
    mine, theirs = sum(policy[:2]), sum(practice[:2])
    if mine > theirs + 0.03 and mine > 1.25 * theirs:
        return f"The policy relies on what was hardly ever seen for {pct(mine, 0)} % of its decisions; practice for {pct(theirs, 0)} %"
    if theirs > mine + 0.03 and theirs > 1.25 * mine:
        return "The policy keeps closer to what was often seen than practice does"
    return "The policy leans on the same experience as practice does"


def effective_title(worth: Number, steps: int, episodes: int, terms: Terms, chosen: bool) -> str:
    """`chosen`: whether there is a chosen policy; else `worth` is that of a copy of practice."""
    policy = "the learned policy" if chosen else "even a copy of practice"
    after = f"After {terms.of_steps(steps)}, " if steps > 1 else ""
    return f"{after}{terms.of_episodes(episodes)} are worth {count(worth)} for {policy}"


def weights_text(chosen: Mapping[str, Any], terms: Terms) -> str:
    """What the weights of the chosen policy look like."""
    said = []
    if chosen.get("top10") is not None:
        said.append(f"The ten heaviest {terms.episodes} carry {pct(chosen['top10'], 0)}\u00a0% of the weight.")
    k = chosen.get("pareto_k")
    if k is not None:
        where = "below" if k < 0.7 else "above"
        said.append(f"The tail index of the weights is k = {num(k, 2)}, {where} the 0.7 above which averages stop settling down.")
    mean, error = chosen.get("mean"), chosen.get("mean_error")
    if mean is not None:
        off = "" if error is None or abs(mean - 1) <= 3 * error else ", further from it than chance allows"
        said.append(f"The mean weight should be 1 and is {num(mean, 2)}{off}.")
    return " ".join(said)


def practice_lead(practice: Mapping[str, Any], terms: Terms) -> str:
    if practice.get("recorded"):
        start = "Every weight divides by the probability of the action that was taken. Those probabilities are recorded in the log."
        return f"{start} The model below is needed only to make the negative control, a copy of practice."
    start = (
        "Every weight divides by the probability of the action that was taken. Those probabilities were not recorded, so they are estimated"
    )
    kind = f" ({practice['kind']})" if practice.get("kind") else ""
    unseen = practice.get("unseen")
    never = f" At {pct(unseen, 0)}\u00a0% of the {terms.steps} judged, it had never seen that action in that state." if unseen else ""
    return f"{start}{kind}, without the {terms.episodes} kept for judging.{never} Whatever is wrong here is wrong in every estimate below."


def calibration_title(pairs: Sequence[tuple[Number, Number, Number]]) -> str:
    """Of (predicted, observed, number of cases); by the least probable ones, which make the large weights."""
    rare = [(p, o) for p, o, _ in pairs if p > 0]
    if not rare:
        return "Probabilities of actions, predicted and observed"
    p, o = min(rare)
    if o > 1.5 * p:
        return f"Rare actions are taken {short(o / p, 2)} times as often as the model says"
    if o < p / 1.5:
        return "Rare actions are rarer than the model says"
    return "Rare actions are about as rare as the model says"


def policies_lead(runs: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]) -> str:
    candidates = {run["id"] for run in runs if run["role"] == "candidate"}
    ways, broken = sum(bool(set(group["ids"]) & candidates) for group in groups), sum(run.get("fault") is not None for run in runs)
    n, of = len(candidates), f" by {spelled(ways)} method{'s' if ways > 1 else ''}" if ways else ""
    were = "candidate was" if n == 1 else "candidates were"
    made = f"{capitalised(spelled(n))} {were} learned{of}; runs of a method differ in their seed or in one setting."
    fault = f" {capitalised(spelled(broken))} of {len(runs)} runs broke off, and {'is' if broken == 1 else 'are'} marked." if broken else ""
    return f"{made}{fault} An algorithm’s own opinion of its policy is never used as evidence on this page."


def curves_title(groups: Sequence[tuple[Sequence[Number | None], Sequence[Number | None]]], exact: bool) -> str:
    """`groups`: for each way of learning, medians over seeds of (belief, selection estimate or true value), in the order of steps."""
    drift = [moved(belief) for belief, seen in groups]
    shift = [moved(seen) for belief, seen in groups]
    known = [(d, s) for d, s in zip(drift, shift) if d is not None and s is not None]
    what = "the truth" if exact else "the estimates"
    if known and sum(d > 3 * max(s, 1e-12) for d, s in known) > len(known) / 2:
        return f"Belief drifts with training; {what} hardly {'moves' if exact else 'move'}"
    late = [fell(seen) for _, seen in groups]
    if any(f is not None for f in late):
        falling = sum(bool(f) for f in late)
        if falling > len(late) / 2:
            return f"More training made most policies worse, by {what}"
        return f"{capitalised(what)} by training step"
    return (
        "What the algorithms believe, by training step; it is no evidence"
        if any(d is not None for d in drift)
        else "No learning curves were kept"
    )


def moved(values: Sequence[Number | None]) -> Number | None:
    found = [v for v in values if v is not None and math.isfinite(v)]
    return abs(found[-1] - found[0]) if len(found) > 1 else None


def fell(values: Sequence[Number | None]) -> bool | None:
    """Whether a curve ends in the lower half of its range, after its highest point."""
    found = [v for v in values if v is not None and math.isfinite(v)]
    if len(found) < 3 or max(found) == min(found):
        return None
    return found[-1] < (max(found) + min(found)) / 2 and found.index(max(found)) < len(found) - 1


def estimates_lead(control: Ends | None, margin: Number | None, n: int | None, terms: Terms, share: Number | None = None) -> str:
    """`share`: of decisions in which the control follows the copy of practice; else practice goes on."""
    of = f" of {terms.of_episodes(n)} that took no part in learning or choosing" if n else ""
    start = f"Estimated {terms.value}{of}. The row of the negative control is a copy of practice: it must come out where practice does."
    if share is not None and share < 1:
        start += f" It is followed in {pct(share, 0)}\u00a0% of the {terms.steps}; in the others practice goes on."
    if control is None:
        return start
    if control.zero:
        return f"{start} It comes out there, within its interval: {terms.gain(control)}."
    size = terms.scale.diff(abs(control.value), sign=False)
    if margin and abs(control.value) <= margin / 2:
        return (
            f"{start} It is off by {size}, more than chance but less than half of what matters, and the gains below are judged net of it."
        )
    return f"{start} It is off by {size}: errors of that size are within reach of the method, and every other row deserves the same doubt."


class Row(NamedTuple):
    """A policy's estimate, as the titles read it."""

    name: str
    value: Number | None
    effective: Number | None
    net: Ends | None


def forest_title(rows: Sequence[Row], terms: Terms) -> str:
    """`rows`: the learned policies."""
    known = sorted((row for row in rows if row.value is not None), key=lambda row: -row.value)
    if not known:
        return "No policy could be estimated"
    thin = 0
    for row in known:
        if row.effective is None or row.effective >= FEW:
            break
        thin += 1
    if thin == len(known):
        return f"No policy has more than {count(max(row.effective for row in known))} {terms.episodes} behind it" if thin > 1 else (
            f"The only estimate rests on {terms.of_episodes(known[0].effective)}")  # fmt: skip
    if thin:
        most = count(max(row.effective for row in known[:thin]))
        which = "The highest estimate rests" if thin == 1 else f"The {spelled(thin)} highest estimates rest"
        return f"{which} on {'at most ' if thin > 1 else ''}{most} {terms.episodes}{' each' if thin > 1 else ''}"
    judged = [row for row in known if row.net is not None]
    better, worse = sum(row.net.low > 0 for row in judged), sum(row.net.high < 0 for row in judged)
    if better:
        which = f"{capitalised(spelled(better))} of {spelled(len(judged))} policies"
        return f"{which} {'does' if better == 1 else 'do'} better than a copy of practice, by this estimate"
    if worse == len(judged) and judged:
        return "Every policy does worse than a copy of practice, by this estimate"
    return "No policy stands out from a copy of practice"


def others_title(values: Sequence[Ends], exact: Number | None, terms: Terms) -> str:
    """Of several estimators of the chosen policy."""
    n = len(values)
    if n < 2:
        return "The chosen policy, by one method"
    if exact is not None:
        over, held = sum(v.value > exact for v in values), sum(v.low <= exact <= v.high for v in values)
        side = (
            f"All {spelled(n)} methods overshoot"
            if over == n
            else f"All {spelled(n)} methods fall short"
            if over == 0
            else f"{capitalised(spelled(over))} of {spelled(n)} methods overshoot"
        )
        return f"{side}; {spelled(held) if held < n else 'all'} of the intervals hold{'s' if held == 1 else ''} the truth"
    spread = max(v.value for v in values) - min(v.value for v in values)
    meet = max(v.low for v in values) <= min(v.high for v in values)
    apart = "" if meet else ", and their intervals do not all meet"
    return f"{capitalised(spelled(n))} methods lie within {terms.scale.diff(spread, sign=False)} of one another{apart}"


def choice_lead(choice: Mapping[str, Any], n: int | None, terms: Terms) -> str:
    rows = choice.get("rows") or ()
    fit = sum(bool(row.get("eligible")) for row in rows)
    on = f"on the {terms.of_episodes(n)} kept for choosing" if n else f"on the {terms.episodes} kept for choosing"
    need = (
        f"worth at least {count(choice['need'])} {terms.episodes} there" if choice.get("need") is not None else "with enough overlap there"
    )
    if not rows:
        return f"Nothing could be chosen {on}."
    if not fit:
        return f"Choosing was to be done {on}, among candidates {need}; none was."
    return f"The policy was chosen {on}, among the {spelled(fit)} of {spelled(len(rows))} candidates {need}."


def choice_title(rows: Sequence[Mapping[str, Any]], chosen: str | None, names: Mapping[str, str]) -> str:
    if chosen is None:
        return "No candidate could be chosen"
    best = max((row for row in rows if ends(row.get("net"))), key=lambda row: ends(row["net"]).value, default=None)
    if best is not None and best["id"] != chosen and not best.get("eligible"):
        return f"The highest estimate has too little behind it; {names.get(chosen, chosen)} was chosen"
    return f"{names.get(chosen, chosen)} was chosen"


def right(word: str, gain: Number, margin: Number, terms: Terms) -> str:
    """Where a simulator knows: whether the verdict was right."""
    size = terms.scale.diff(gain)
    start = f"This can be answered only because the data are simulated. The true gain is {size}"
    if word in ("deploy", "trial"):
        return f"{start}: the word was right." if gain > 0 else f"{start}: the word was wrong."
    if word == "do not":
        return f"{start}: the word was right, as this is less than what matters." if gain < margin else f"{start}: the word was wrong."
    if gain <= 0:
        return f"{start}: nothing was missed."
    return f"{start}: {'real, and too small for these data' if gain < margin else 'a gain that matters, which these data cannot show'}."


def bears(verdict: Mapping[str, Any]) -> list[str]:
    """What else bears on the verdict, as the study says it."""
    first, _ = why(verdict)
    return [told(reason["text"]) for reason in verdict["reasons"] or () if reason["code"] != first and reason.get("text")]


# what changes, and the rest --------------------------------------------------------------------------------------------------


def changes_lead(same: Number | None, terms: Terms) -> str:
    if same is None:
        return "Shares of actions under the learned policy and in the log."
    how = "Little" if same >= 0.9 else "Something" if same >= 0.7 else "Much" if same >= 0.4 else "Nearly everything"
    return f"{how} would change: averaged over {terms.steps}, {pct(1 - same, 0)}\u00a0% of the actions would be others."


def shift_title(actions: Sequence[Mapping[str, Any]]) -> str:
    """Of the shares of actions."""
    known = [(a["policy"] - a["practice"], a["name"]) for a in actions if a.get("policy") is not None and a.get("practice") is not None]
    if not known:
        return "Shares of actions"
    size, name = max(known, key=lambda pair: abs(pair[0]))
    if abs(size) < 0.005:
        return "Overall, each action keeps its share"
    points = num(100 * size, 1, True)
    return f"The largest shift: {action(name)}, {points}\u00a0point{'' if points.strip('+−') == '1.0' else 's'}"


def mean_title(name: str, shift: Number) -> str:
    """Of mean actions; `shift` in standard deviations of the log."""
    if abs(shift) < 0.05:
        return "Mean actions stay where they are"
    return f"The largest shift: {action(name)}, {num(shift, 1, True)}\u00a0standard deviations"


def action(name: object) -> str:
    """An action in a sentence: numbers get the noun."""
    said = called(name, 40)
    return f"action {said}" if said.lstrip("−-").isdigit() else said


def where_title(moves: Sequence[Sequence[Number | None]], actions: Sequence[str], groups: Sequence[str], means: bool) -> str:
    """`moves`: by action and group, in points or standard deviations."""
    cells = [(v, a, g) for line, a in zip(moves, actions) for v, g in zip(line, groups) if v is not None]
    if not cells:
        return "Changes by groups"
    size, name, group = max(cells, key=lambda cell: abs(cell[0]))
    others = [v for v, a, _ in cells if a == name]
    unit = "standard deviations" if means else "points"
    if max(others) - min(others) < 0.25 * abs(size):
        return "The change is much the same in every group"
    return f"The largest change: {action(name)}, {num(size, 1, True)}\u00a0{unit} ({called(group, 40)})"


def tree_title(fidelity: Number | None, constant: Number | None) -> str:
    if fidelity is None or constant is None:
        return "A short summary of what changes"
    gained = (fidelity - constant) / max(1 - constant, 1e-9)
    if fidelity - constant <= 0.02 or gained <= 0.1:
        return "No short rule describes it"
    return "A short rule describes part of it" if gained < 0.6 else "A short rule describes most of it"


def tree_text(fidelity: Number | None, constant: Number | None) -> str:
    if fidelity is None or constant is None:
        return ""
    agrees = f"The tree agrees with the policy on {pct(fidelity, 0)}\u00a0% of decisions"
    start = f"{agrees}; always giving its commonest answer agrees on {pct(constant, 0)}\u00a0%."
    if tree_title(fidelity, constant) == "No short rule describes it":
        return f"{start} So it explains nothing about where actions change, and should not be taught as a rule."
    return f"{start} The difference is what it explains; it is a summary, and not the policy."


def errors_text(errors: Mapping[str, Number] | None) -> str:
    """How often the words of the rule may be wrong."""
    parts = (
        [f"{VERDICTS[word].lower()} {pct(errors[word], 0)}\u00a0%" for word in VERDICTS if errors.get(word) is not None] if errors else []
    )
    return f"The rule is built so that its words are wrong no more often than this: {listed(parts)}." if parts else ""


ESTIMATORS = {
    "is": "importance sampling", "wis": "weighted importance sampling", "pdis": "importance sampling by decision", "dm": "the direct method",
    "wpdis": "weighted importance sampling by decision", "clipped": "importance sampling, clipped", "fqe": "fitted Q evaluation",
    "dr": "doubly robust", "wdr": "weighted doubly robust", "magic": "MAGIC", "mrdr": "more robust doubly robust", "ips": "inverse propensity scoring",
    "snips": "self-normalised inverse propensity scoring", "switch": "switch doubly robust", "shrunk": "doubly robust with shrinkage",
    "subgaussian": "subgaussian importance sampling", "lstdq": "least-squares temporal differences", "forest": "fitted Q evaluation with trees",
    "model": "the model of the table", "mwl": "minimax weight learning",
}  # fmt: skip


def estimator(name: str | None) -> str:
    return ESTIMATORS.get(name or "", called(name) if name else "")


def glossary(study: Mapping[str, Any], terms: Terms) -> list[tuple[str, str]]:
    """The terms that this page uses, in the order of the alphabet."""
    found = {
        "Behaviour policy": "The rule, written or not, by which the logged actions were chosen. Here called practice.",
        "Policy": "For each situation, the probability of each action.",
        "Value": f"The expected return: what {an(terms.episode)} earns on average under a policy.",
        "Terminal, truncated": f"A terminal {terms.step} truly ends its {terms.episode}; a truncated {terms.episode} is only cut off by the record.",
    }
    if study["estimates"]:
        found |= {
            "Bootstrap": f"Redrawing the {terms.episodes} with replacement, many times, to see how much an estimate varies.",
            "Doubly robust": "A model of outcomes, corrected by weighted residuals. Weighted: weights sum to one at each step (Thomas and Brunskill 2016).",
            "Negative control": "A comparison known to have no effect, run to expose the errors of the method.",
            "Off-policy evaluation": "Estimating how a policy would do from data gathered under another.",
        }
    if study["coverage"]:
        found["Effective sample size"] = f"How many equally weighted {terms.episodes} the weighted ones are worth: (Σw)² / Σw² (Kish)."
        found["Importance weight"] = f"How much more likely the learned policy is than practice to act as in {an(terms.episode)}."
        found["Tail index k"] = (
            "The shape of a generalised Pareto distribution fitted to the largest weights (PSIS). Below 0.5 good, above 0.7 unreliable."
        )
    if study["practice"] and not study["practice"].get("recorded"):
        found["Propensity"] = "The probability with which practice takes an action. Estimated here, as the log does not record it."
    if study["changes"] and study["changes"].get("tree"):
        found["Fidelity"] = "How often a simple summary says what the policy does. It must be compared with the best constant answer."
    return sorted(found.items())
