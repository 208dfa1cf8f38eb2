"""The verdict, the chain and the limits in words with numbers: what the terminal prints, and what a page may fall back on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..ope.table import Refused
from .evidence import Evidence, gain, gap, settle, value
from .judging import CONTROL, Judged
from .plan import Plan, Unit
from .schema import LINKS
from .sections import estimate
from .verdict import ENOUGH, ERRORS, LEVEL, LIKELY, RULE, Numbers, Verdict, lacking

LACKS = {
    "caution": "a finding of the checks forbids more than a trial",
    "unbounded": "the gain has no guaranteed lower end",
    "bound": "the guaranteed lower end of the gain is not above 0",
    "net": "a gain over the control is likely, not shown",
    "gain": "a gain is not likely enough",
    "harm": "harm that matters is not excluded",
}
"Codes of `Verdict.also`."
OFF_CALIBRATION = 0.05
"From this mean calibration error on the model of practice is a warning."


def here(code: str, x: Numbers, unit: Unit, unbounded: str | None) -> str:
    """What a step of the rule found."""
    between = lambda ends: unit.gain(*ends)
    match code:
        case "critical":
            return f"{x.critical} critical finding{'s' * (x.critical != 1)}."
        case "refused":
            return x.refused or "The chosen policy can be judged."
        case "thin":
            return f"They are worth {x.effective:,.0f}."
        case "control":
            return f"It seems to gain {between(x.control)}; half of the margin is {unit.difference(x.margin / 2)}."
        case "placebo":
            return f"They change it by {between(x.placebo)}; half of the margin is {unit.difference(x.margin / 2)}."
        case "harm":
            return f"The gain is {between(x.gain)}, net of the control {between(x.net)}."
        case "futile":
            return f"At most {unit.difference(x.highest)}; the margin is {unit.difference(x.margin)}."
        case "shown":
            why = {
                "caution": f"{x.cautions} finding{'s forbid' if x.cautions != 1 else ' forbids'} more than a trial",
                "unbounded": unbounded,
                "bound": f"the guaranteed lower end is {unit.difference(x.bound or 0.0)}",
            }
            missing = [str(why[one]) for one in lacking(x)]
            found = f"Guaranteed to be at least {unit.difference(x.bound or 0.0)}" if not missing else f"No: {'; '.join(missing)}"
            return f"{found}. Net of the control the lower end is {unit.difference(x.net.low)}."
        case "promising":
            return f"The lower end at {100 * LIKELY:.0f} %, one-sided, is {unit.difference(x.likely)}; at {100 * LEVEL:.0f} %, two-sided, {unit.difference(x.lowest)}, and the margin is {unit.difference(-x.margin)}."
    return "None of these holds."


def reasons(found: Verdict, x: Numbers, unit: Unit, unbounded: str | None) -> list[dict]:
    """What decided, then what else bears on it."""
    step, told = next(step for step in RULE if step.code == found.code), here(found.code, x, unit, unbounded)
    text = {"unsettled": "The interval holds too much.", "refused": told[:1].upper() + told[1:]}.get(found.code, f"{step.asks} {told}")
    more = [{"code": code, "text": LACKS[code][0].upper() + LACKS[code][1:] + "."} for code in found.also]
    return [{"code": found.code, "text": text}, *more]


def verdict(judged: Judged, unit: Unit, margin_from: str, chosen: str | None, exact: Mapping[str, float]) -> dict:
    x, found = judged.numbers, judged.verdict
    out: dict[str, Any] = dict.fromkeys(
        ("value", "practice", "gain", "control", "net", "placebo", "bound", "effective", "episodes", "settle", "exact")
    )
    rule, open_ = [], True
    for step in RULE:
        holds = bool(step.holds(x)) if open_ else None
        rule.append(
            {
                "code": step.code,
                "asks": step.asks,
                "here": here(step.code, x, unit, judged.unbounded) if open_ else None,
                "holds": holds,
                "decides": step.code == found.code,
                "word": step.word,
            }
        )
        open_ &= step.code != found.code
    best, control, on = judged.found.get(chosen or ""), judged.found.get(CONTROL), judged.evaluation
    if on is not None:
        out |= {"episodes": len(on.log), "practice": estimate(gap(on.logger), effective=float(len(on.log)))}
    if isinstance(control, Evidence) and on is not None:
        out["control"] = estimate(gain(control, on), effective=control.seen.effective)
    if isinstance(best, Evidence) and isinstance(control, Evidence) and on is not None:
        effective = best.seen.effective
        out |= {
            name: estimate(ends, effective=effective)
            for name, ends in (("value", value(best)), ("gain", x.gain), ("net", x.net), ("placebo", x.placebo))
        }
        out |= {
            "bound": {"low": x.bound, "level": LEVEL, "method": None if x.bound is None else "betting", "refused": judged.unbounded}, "effective": effective,
            "settle": {"margin": settle(x.net, len(on.log), x.margin), "gain": settle(x.net, len(on.log), x.net.value)},
        }  # fmt: skip
    if isinstance(best, Refused) and chosen:
        out["value"] = estimate(None, refused=str(best))
    if "practice" in exact and chosen in exact:
        truth = {name: exact[name] for name in (chosen, "practice", CONTROL) if name in exact}
        out["exact"] = {"value": truth[chosen], "practice": truth["practice"], "gain": truth[chosen] - truth["practice"],
                        "control": truth[CONTROL] - truth["practice"] if CONTROL in truth else None}  # fmt: skip
    return {
        "word": found.word, "reasons": reasons(found, x, unit, judged.unbounded), "rule": rule, "level": LEVEL, "margin": x.margin, "margin_from": margin_from,
        "share": judged.share,
        "errors": ERRORS, "chosen": chosen,
    } | out  # fmt: skip


# the chain ---------------------------------------------------------------------------------------------------------------------


def chain(study: Mapping[str, Any], x: Numbers, found: Verdict, unit: Unit, plan: Plan) -> list[dict]:
    """A state, a number and a detail for each of the seven links; all that was not reached says so."""
    words, name = plan.words, {link: link.capitalize() for link in LINKS}
    link = lambda which, state, number, detail: {"id": which, "name": name[which], "state": state, "number": number, "detail": detail}
    data, checks, choice = study["data"], study["checks"], study["choice"]
    counts, accepted = checks["counts"], sum(one["accepted"] for one in checks["findings"])
    cautions = f"{counts['caution']} caution{'s' * (counts['caution'] != 1)}" + (f" ({accepted} accepted)" if accepted else "")
    told = [link("data", "warn" if data["truncated"] > data["episodes"] / 20 else "note" if data["truncated"] else "ok",
                 f"{data['episodes']:,} {words.episodes}", f"{data['steps']:,} {words.steps}" + (f", {data['truncated']:,} cut off" if data["truncated"] else "")),
            link("checks", "critical" if counts["critical"] else "caps" if counts["caution"] > accepted else "warn" if counts["warning"] + accepted else "note" if counts["note"] else "ok",
                 f"{counts['critical']} critical", ", ".join([cautions, *(f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in ("warning", "note"))]))]  # fmt: skip
    coverage, practice, policies, estimates = (study[part] for part in ("coverage", "practice", "policies", "estimates"))
    judged = x.refused is None and not np.isnan(x.effective)
    caps = {"refused": "coverage", "thin": "coverage", "control": "estimates", "placebo": "practice"}.get(found.code)
    of = f"of {study['verdict']['episodes']:,} evaluated" if study["verdict"]["episodes"] else ""
    state = "caps" if caps == "coverage" else "warn" if judged and x.effective < 2 * ENOUGH else "ok"
    told.append(
        link(
            "coverage",
            state if coverage else "note",
            f"worth {x.effective:,.0f} {words.episodes}" if judged else "cannot be judged" if coverage else "not reached",
            of if coverage else "",
        )
    )
    if practice:
        error = practice["calibration"]["error"] if practice["calibration"] else None
        state = (
            "caps"
            if caps == "practice"
            else "ok"
            if practice["recorded"]
            else "warn"
            if error is None or error > OFF_CALIBRATION
            else "note"
        )
        detail = practice["kind"] or "no model" if not practice["recorded"] else "probabilities of the log"
        told.append(link("practice", state, "recorded" if practice["recorded"] else "estimated", detail))
    elif found.code == "refused":  # then it is practice that could not be fitted
        told.append(link("practice", "caps", "cannot be weighed", ""))
    else:
        told.append(link("practice", "note", "not reached", ""))
    if policies:
        runs = [run for run in policies["runs"] if run["role"] == "candidate"]
        faults = sum(run["fault"] is not None for run in runs)
        told.append(
            link(
                "policies",
                "warn" if faults else "ok",
                f"{len(runs)} candidates",
                f"{faults} stopped early" if faults else f"{len(policies['groups'])} methods",
            )
        )
    else:
        told.append(link("policies", "note", "not reached", ""))
    if estimates and judged:
        told.append(link("estimates", "caps" if caps == "estimates" else "warn" if x.control.excludes_zero else "ok", unit.level(study["verdict"]["value"]["value"]),
                         f"control {unit.gain(*x.control).partition(' (')[0]}"))  # fmt: skip
    else:
        told.append(link("estimates", "note", "none", ""))
    last = {"deploy": "ok", "trial": "note", "do not": "warn", "cannot tell": "caps"}[found.word]
    told.append(
        link(
            "choice",
            last,
            found.word,
            study["verdict"]["reasons"][0]["code"]
            if not choice or not choice["chosen"]
            else f"{fit} could be chosen"
            if (fit := sum(row["eligible"] for row in choice["rows"]))
            else "none was worth enough, the nearest was taken",
        )
    )
    return told


# what must be true -------------------------------------------------------------------------------------------------------------


def limits(study: Mapping[str, Any], plan: Plan) -> list[dict]:
    """What cannot be tested comes first."""
    words, practice, data = plan.words, study["practice"], study["data"]
    recorded = bool(practice and practice["recorded"])
    told: list[tuple[str, str, bool]] = [
        ("causes", f"Nothing that is not among the observations both moved the {words.steps} in this log and what came of them." if not recorded else
         f"The recorded probabilities are those with which the {words.steps} were really drawn.", False),
        ("same", f"Future {words.episodes} come from where the logged ones came from, and what follows a {words.step} will follow it again.", False),
        ("others", f"What is done in one {words.episode} changes nothing in another.", False),
        ("reward", "The logged reward is what is wanted, all of it.", False),
    ]  # fmt: skip
    if not recorded:
        told.append(
            (
                "fit",
                "The model of practice is right where the policy goes. Its calibration, the control and the placebo are tests of that; the width of its error is in the intervals.",
                True,
            )
        )
    told.append(
        (
            "support",
            f"The policy does only what was done in such states. The mean weight and the effective number of {words.episodes} are tests of that.",
            True,
        )
    )
    if data and data["truncated"]:
        told.append(
            (
                "cut",
                f"{data['truncated']:,} of {data['episodes']:,} {words.episodes} are cut off: what they would still have earned counts for nothing, for practice and for policies alike.",
                True,
            )
        )
    told.append(
        (
            "approximate",
            "Intervals are approximate but for the guaranteed lower end: docs/verdict.md says how often the rule was wrong in simulated studies.",
            True,
        )
    )
    return [{"code": code, "text": text, "tested": tested} for code, text, tested in told]


def sentence(study: Mapping[str, Any], unit: Unit, plan: Plan) -> str:
    """The verdict as one sentence, for the terminal."""
    told = study["verdict"]
    if told["net"] is None or told["net"]["value"] is None:
        return told["reasons"][0]["text"]
    value, practice, net = told["value"], told["practice"], told["net"]
    return (f"{(plan.words.value or 'return').capitalize()} {unit.level(value['value'])} under the policy, {unit.level(practice['value'])} under practice; "
            f"net of the control {unit.gain(net['value'], net['low'], net['high'])}. {told['reasons'][0]['text']}")  # fmt: skip
