"""What a study's page says of its log: data, checks, coverage, practice. Rules of style are those of `words`."""

from collections.abc import Mapping, Sequence
from typing import Any

from .kit import Number, capitalised, count, num, pct, short, spelled
from .words import FEW, Terms, an


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
