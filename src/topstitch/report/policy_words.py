"""What a study's page says of its policies: training, estimates, choice, what changes. Rules of style are those of `words`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .kit import Number, called, capitalised, count, num, pct, short, spelled
from .words import FEW, Ends, Terms, ends


def branch(column: str, threshold: Number, above: bool) -> str:
    """What a branch of the tree asks for: of a category whether it is there, of a number on which side it lies."""
    name, sign, member = column.partition("=")
    if sign and 0 < threshold < 1:
        return f"{called(name, 40)} is {'' if above else 'not '}{called(member, 40)}"
    return f"{called(column, 40)} {'>' if above else '≤'} {short(threshold)}"


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
