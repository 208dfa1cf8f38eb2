"""From what a study found to what `study.json` says, one function for each section of the page. Layout: `schema`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Box, Discrete, MultiDiscrete
from ..data import Episodes
from ..data.check import Findings
from ..ope import bandit, importance
from ..ope.doubly_robust import direct, doubly_robust
from ..ope.improvement import Tested
from ..ope.table import Refused
from ..runs import fields_of
from .accepted import Accepted
from .evidence import Bench, Choice, Evidence, gain, gap, net, spread, value
from .judging import CONTROL, Judged
from .logger import Logger
from .panel import Made
from .plan import FOR, Plan
from .verdict import ENOUGH, LEVEL, LIKELY, Ends

BARS = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SUPPORT = (0, 1, 2, 5, 10, 20, 50)
LINES = 6
"Policies whose effective sample size is told by step."
HEAVIEST = 10


def estimate(
    ends: Ends | None,
    *,
    level: float = LEVEL,
    method: str = "bootstrap",
    valid: bool = False,
    effective: float | None = None,
    refused: str | None = None,
) -> dict:
    """An estimate as `schema` has it."""
    value, low, high = (None, None, None) if ends is None else ends
    return {
        "value": value,
        "low": low,
        "high": high,
        "level": level,
        "method": method if ends is not None else None,
        "valid": valid,
        "effective": effective,
        "refused": refused,
    }


# data --------------------------------------------------------------------------------------------------------------------------


def data(log: Episodes, parts: Mapping[str, np.ndarray], plan: Plan, description: dict | None) -> dict:
    returns, spec = log.returns(plan.discount), log.spec
    actions = (
        spec.action.size
        if isinstance(spec.action, (Discrete, Box))
        else len(spec.action.sizes)
        if isinstance(spec.action, MultiDiscrete)
        else None
    )
    return {
        "episodes": len(log), "steps": log.steps, "actions": actions, "numbered": isinstance(spec.obs, Discrete),
        "observations": spec.obs.size if isinstance(spec.obs, (Box, Discrete)) else None,
        "obs_names": list(log.obs_names), "action_names": list(log.action_names),
        "returns": summary(returns), "lengths": summary(log.lengths), "truncated": int(log.truncated.sum()),
        "splits": [{"name": name, "episodes": len(part), "steps": int(log.lengths[part].sum()), "return": float(returns[part].mean()) if len(part) else None,
                    "seed": plan.seed, "for": FOR[name]} for name, part in parts.items()],
        "description": description, "notes": list(log.notes),
    }  # fmt: skip


def summary(x: np.ndarray) -> dict:
    counts, edges = np.histogram(x, bins=min(BARS, max(1, len(np.unique(x)))))
    return {"mean": float(x.mean()), "sd": float(x.std()), "low": float(x.min()), "high": float(x.max()),
            "quantiles": np.quantile(x, QUANTILES).tolist(), "histogram": {"edges": edges.tolist(), "counts": counts.tolist()}}  # fmt: skip


def checks(found: Findings, accepted: Accepted) -> dict:
    return {
        "findings": [one.plain() | {"accepted": one.code in accepted.codes} for one in found],
        "passed": [one.fine for one in found.passed],
        "counts": found.counts,
        "stopped": found.counts["critical"] > 0,
        "accepted": accepted.plain(),
    }


# coverage and practice ---------------------------------------------------------------------------------------------------------


def coverage(log: Episodes, parts, judged: Judged, chosen: str | None, policies: Mapping[str, Any], advice: dict | None) -> dict:
    found = {name: one for name, one in judged.found.items() if isinstance(one, Evidence)}
    out: dict[str, Any] = {"support": None, "by_step": None, "chosen": None, "advice": advice}
    if not found or judged.evaluation is None:
        return out
    others = sorted((name for name in found if name not in (CONTROL, chosen)), key=lambda name: -found[name].seen.effective)
    ids = [name for name in (CONTROL, chosen, *others) if name in found][:LINES]
    alive = next(iter(found.values())).table.live.sum(axis=0)
    out["by_step"] = {"ids": ids, "effective": [found[name].seen.effective_by_step.tolist() for name in ids], "alive": alive.tolist()}
    if chosen in found:
        best = found[chosen]
        weights = np.sort(importance.relative(best.table)[:, -1])
        out["chosen"] = {name: x for name, x in best.seen.plain().items() if name in (
            "effective", "pareto_k", "largest", "mean", "mean_error", "step_mean", "step_mean_error", "overlap")} | {
            "top10": float(weights[-HEAVIEST:].sum() / weights.sum()), "agreement": best.seen.overlap}  # fmt: skip
        if isinstance(log.spec.obs, Discrete) and isinstance(log.spec.action, Discrete):
            out["support"] = support(log.take(parts["train"]), judged.evaluation.log, policies[chosen])
    return out


def support(train: Episodes, judges: Episodes, probs: np.ndarray) -> dict:
    """How often train episodes hold, in that state, the actions that practice took and those that a policy would take ((steps, actions) `probs`)."""
    count = np.zeros((train.spec.obs.size, train.spec.action.size), np.int64)
    np.add.at(count, (train.obs, train.action), 1)
    level = np.searchsorted(SUPPORT, count, side="right") - 1
    here = level[judges.obs]
    share = lambda weight: (np.bincount(here.ravel(), weights=weight.ravel(), minlength=len(SUPPORT)) / weight.sum()).tolist()
    return {"levels": list(SUPPORT), "practice": share(np.eye(train.spec.action.size)[judges.action]), "policy": share(probs)}


def practice(log: Episodes, parts, logger: Logger, judged: Judged, chosen: str | None) -> dict:
    out: dict[str, Any] = {
        "recorded": logger.recorded, "kind": logger.model.kind, "score": None, "score_blind": None, "score_recorded": None, "top": None, "unseen": None,
        "calibration": None, "spread": None, "refused": None,
    }  # fmt: skip
    judges, rest = log.take(parts["evaluation"]), logger.model.log
    there = logger.model.of(judges)
    curve = there.calibration()
    out |= {
        "score": there.score,
        "calibration": {
            "predicted": curve.predicted.tolist(),
            "observed": curve.observed.tolist(),
            "count": curve.count.tolist(),
            "error": curve.error,
        },
    }
    if logger.recorded:
        out["score_recorded"] = float(np.mean(judges.log_prob, dtype=np.float64))
    if there.probs is not None:
        usual = (np.bincount(rest.action, minlength=there.probs.shape[1]) + 1) / (rest.steps + there.probs.shape[1])
        out |= {
            "score_blind": float(np.log(usual[judges.action]).mean()),
            "top": float((there.probs.argmax(axis=1) == judges.action).mean()),
        }
        if isinstance(log.spec.obs, Discrete):
            seen = np.zeros((log.spec.obs.size, there.probs.shape[1]), bool)
            seen[rest.obs, rest.action] = True
            out["unseen"] = float((~seen[judges.obs, judges.action]).mean())
    best, control = judged.found.get(chosen or ""), judged.found.get(CONTROL)
    if isinstance(best, Evidence) and isinstance(control, Evidence):
        out["spread"] = spread(best.side, control.side)
    return out


# policies and estimates --------------------------------------------------------------------------------------------------------


def policies(made: Sequence[Made], exact: Mapping[str, float], advised: Sequence[str] | None, safe: str | None) -> dict:
    control = {"id": CONTROL, "name": "Copy of practice", "algorithm": None, "seed": None, "fields": None, "role": "control", "what": "changes nothing: the negative control",
               "believes": None, "curve": None, "fault": None, "folder": None, "file": None, "exact": exact.get(CONTROL)}  # fmt: skip
    runs = [{"id": one.id, "name": one.name, "algorithm": one.group.name, "seed": one.seed, "fields": fields_of(one.algorithm), "role": one.group.role,
             "what": one.group.what, "believes": one.believes, "curve": {name: x or None for name, x in one.curve.items()},
             "fault": None if one.fault is None else str(one.fault), "folder": one.folder, "file": one.file, "exact": exact.get(one.id)} for one in made]  # fmt: skip
    groups = {one.group.name: one.group for one in made}
    return {
        "runs": [control, *runs],
        "groups": [{"name": group.title, "algorithm": name, "ids": [one.id for one in made if one.group.name == name], "why": group.why, "source": group.source}
                   for name, group in groups.items()],
        "advised": None if advised is None else list(advised), "safe": safe,
    }  # fmt: skip


def estimates(judged: Judged, made: Sequence[Made], chosen: str | None, exact: Mapping[str, float]) -> dict:
    on, control = judged.evaluation, judged.found.get(CONTROL)
    out: dict[str, Any] = {"estimator": "wdr", "why": WHY, "rows": [], "others": [], "practice": None}
    if on is None or not isinstance(control, Evidence):
        return out
    notes = {one.id: "imitation: nothing to gain" if one.group.role == "copy" else "" for one in made}
    for name, one in judged.found.items():
        row = {"id": name, "pareto_k": None, "exact": exact.get(name), "note": notes.get(name, "")}
        if isinstance(one, Refused):
            nothing = estimate(None, refused=str(one))
            out["rows"].append(row | {"value": nothing, "gain": nothing, "net": nothing})
            continue
        effective = one.seen.effective
        say = lambda ends, effective=effective: estimate(ends, effective=effective)
        out["rows"].append(
            row
            | {
                "pareto_k": one.seen.plain()["pareto_k"],
                "value": say(value(one)),
                "gain": say(gain(one, on)),
                "net": say(net(one, control)),
            }
        )
    out["practice"] = estimate(gap(on.logger), effective=float(len(on.log)))
    if isinstance(best := judged.found.get(chosen or ""), Evidence):
        out["others"] = others(best, on)
    return out


WHY = ("weighted doubly robust: each step counts by how much likelier the policy makes what was done up to it, and what practice goes on to earn, "
       "learned from other episodes, takes out what weights alone would leave to chance")  # fmt: skip


def others(best: Evidence, on: Bench) -> list[dict]:
    """What other estimators say of the same policy: how much hangs on the choice of one."""
    known = {
        "dr": ("the same, weights not normalised", doubly_robust),
        "wis": ("weighted importance sampling of whole episodes: no values", importance.weighted),
        "wpdis": ("the same, step by step", importance.weighted_per_decision),
        "clipped": ("importance sampling, its weights cut off: less chance, some bias", importance.clipped),
        "dm": ("values of practice alone, met by the policy's next action: no weights", direct),
    }
    if best.table.reward.shape[1] == 1:
        known = {
            "dr": known["dr"],
            "snips": ("weighted importance sampling", bandit.snips),
            "switch": ("values instead of large weights", bandit.switch),
        } | {"dm": known["dm"]}
    return [{"name": name, "what": what, "value": estimate(gap(on.side(best.table, how)), effective=None if name == "dm" else best.seen.effective)}
            for name, (what, how) in known.items()]  # fmt: skip


def choice(found: Choice | None, tested: Sequence[Tested] | None) -> dict:
    how = (f"the greatest lower end ({100 * LIKELY:.0f} %, one-sided) of the gain over the control, as it would be on as many episodes as judge, among policies "
           f"under which those would be worth {ENOUGH:.0f} or more")  # fmt: skip
    out: dict[str, Any] = {
        "rows": [],
        "chosen": None,
        "how": how,
        "need": None,
        "correction": "none (chosen on other episodes)",
        "holm": None,
    }
    if tested is not None:
        out |= {
            "correction": "holm",
            "holm": [{"id": t.name, "accepted": t.accepted, "low": t.low, "p": t.p, "reason": t.reason} for t in tested],
        }
    if found is not None:
        rows = []
        for row in found.rows:
            one, same = found.found[row.id], {"id": row.id, "effective": row.effective, "eligible": row.eligible, "why": row.why}
            known = isinstance(one, Evidence)
            rows.append(
                same | {"net": estimate(net(one, found.control), effective=row.effective) if known else estimate(None, refused=row.why)}
            )
        out |= {"rows": rows, "chosen": found.chosen, "need": found.need}
    return out
