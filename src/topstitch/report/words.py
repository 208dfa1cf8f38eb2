"""What a study's page says, chosen by its numbers: a function for every sentence that could be otherwise. Here the verdict, the chain and the
glossary; `log_words` has what is said of the log, `policy_words` what is said of policies.

Estimates "are estimated" or "seem"; only a simulator's values "are". Levels are in percent, differences in points with a sign, an interval in
the same breath as its estimate. What is not known is not spoken of. Everything here answers with plain text, which templates escape.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .kit import Number, Scale, called, capitalised, count, listed, pct, some, spelled, told

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
    joint = {"control": "; but ", "placebo": "; but ", "unsettled": "; but ", "thin": "; but ", "harm": ": ", "futile": ": "}
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
        reason = told(found).rstrip(".") if found else ""
        return f"there is no policy that these {terms.episodes} can judge" + (f": {reason[:1].lower()}{reason[1:]}" if reason else "")
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
        "bound": "no gain is guaranteed"
        + (f" (at worst a loss of {scale.diff(-bound, sign=False)})" if bound is not None and bound < 0 else ""),
        "net": "it is not yet shown over the negative control",
    }
    return listed([said[code] for code in also if code in said] or ["it is not yet guaranteed"])


def verdict_title(gain: Ends | None, control: Ends | None, net: Ends | None, terms: Terms, word: str = "", thin: bool = False) -> str:
    """Of the picture of the three gains; `thin`: too few episodes stand behind them."""
    if gain is None:
        return "The gain over practice could not be estimated"
    if thin:
        return f"Too few {terms.episodes} stand behind this gain for its interval to be read"
    if control and not control.zero and control.value > 0 and gain.value > 0 and control.value >= 0.5 * gain.value:
        return "Most of the apparent gain is the error of the method"
    if control and not control.zero:
        return f"The method is off by {terms.scale.diff(abs(control.value), sign=False)} where it should find nothing"
    last = net or gain
    if last.low > 0:
        return "The gain stands out from the error of the method" if net else "The gain lies above 0"
    if last.high < 0:
        return "The learned policy is estimated to do worse than practice"
    if word == "do not":
        return "What may be left of a gain is less than what matters"
    if word == "trial":
        return "What is left is likely to be a gain, and not a loss that matters"
    return "What is left of the gain cannot be told from none" if net else "The gain cannot be told from none"


def accepted(checks: Mapping[str, Any] | None) -> str:
    """Which cautions somebody has looked at, and who; empty where there are none."""
    by, found = ((checks or {}).get("accepted") or {}).get("by"), (checks or {}).get("findings") or ()
    titles = dict.fromkeys(
        f"{called(one.get('title') or one['code'], 120)} ({called(one['code'])})" for one in found if one.get("accepted")
    )
    return f"Accepted for this study{f' by {called(by)}' if by else ''}: {'; '.join(titles)}." if titles else ""


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
                f"The learned policy shares this much of its {terms.steps} with practice. {departure(same, rare=not n or (worth or 0) < n / 10)}",
            )
        )
    return found


def departure(same: Number, rare: bool) -> str:
    """`rare`: what is judged rests on few of the episodes."""
    if same >= 0.9:
        return "It is a small change, and hard to see."
    if same >= 0.6:
        return "It is a clear change."
    return f"It is another way of acting{', of which the log has seen little' if rare else ''}."


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


def errors_text(errors: Mapping[str, Number] | None) -> str:
    """How often the words of the rule may be wrong."""
    parts = (
        [f"{VERDICTS[word].lower()} {pct(errors[word], 0)}\u00a0%" for word in VERDICTS if errors.get(word) is not None] if errors else []
    )
    return f"The rule is built so that its words are wrong no more often than this: {listed(parts)}." if parts else ""


# the chain -------------------------------------------------------------------------------------------------------------------


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


# the glossary ----------------------------------------------------------------------------------------------------------------


def an(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


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
