"""Studies as `study.json` has them, made up: one for every step of the rule, dense or sparse, with plain names or hostile ones."""

import copy
import json
import math

LINKS = ("data", "checks", "coverage", "practice", "policies", "estimates", "choice")
NAMES = {link: link.capitalize() for link in LINKS}
STEPS = {
    "critical": "cannot tell", "refused": "cannot tell", "thin": "cannot tell", "control": "cannot tell", "placebo": "cannot tell",
    "harm": "do not", "futile": "do not", "shown": "deploy", "promising": "trial", "unsettled": "cannot tell",
}  # fmt: skip
"The steps of the rule, in order, and the word of each."
ASKS = {
    "critical": "Is the table unsound?", "refused": "Is there no policy that these episodes can judge?",
    "thin": "Are the episodes worth fewer than 100 under the policy?", "control": "Does a copy of practice seem to gain or lose?",
    "placebo": "Do the weights change what was before the first decision?", "harm": "Is the policy worse than practice?",
    "futile": "Is its gain smaller than what matters?", "shown": "Is its gain guaranteed?",
    "promising": "Is a gain likely, and harm that matters excluded?", "unsettled": "Otherwise.",
}  # fmt: skip
GAINS = {  # in margins: gain, control, net, effective
    "critical": (None, None, None, None),
    "refused": (None, None, None, None),
    "thin": ((3.0, -4.0, 11.0), (0.1, -0.6, 0.8), (2.9, -4.4, 11.2), 41.3),
    "control": ((1.55, 0.1, 3.2), (1.15, 0.05, 2.35), (0.4, -0.5, 1.3), 188.1),
    "placebo": ((1.9, 0.6, 3.2), (0.1, -0.4, 0.6), (1.8, 0.4, 3.2), 240.0),
    "harm": ((-2.1, -3.4, -0.8), (0.1, -0.3, 0.5), (-2.2, -3.4, -1.0), 310.0),
    "futile": ((0.1, -0.5, 0.7), (0.05, -0.2, 0.3), (0.05, -0.6, 0.7), 900.0),
    "shown": ((2.6, 1.4, 3.8), (0.1, -0.3, 0.5), (2.5, 1.3, 3.7), 702.0),
    "promising": ((1.2, 0.1, 2.3), (0.1, -0.3, 0.5), (1.1, -0.1, 2.3), 333.0),
    "unsettled": ((0.6, -1.5, 2.7), (0.1, -0.4, 0.6), (0.5, -1.7, 2.7), 150.0),
}
ALSO = {"promising": ("unbounded",), "unsettled": ("gain", "harm")}


def estimate(ends, effective=None, refused=None):
    value, low, high = ends or (None, None, None)
    return {"value": value, "low": low, "high": high, "level": 0.95, "method": "bootstrap", "valid": "approximate",
            "effective": effective, "refused": refused}  # fmt: skip


def scaled(ends, by):
    return None if ends is None else tuple(by * x for x in ends)


def shifted(ends, by):
    return None if ends is None else tuple(by + x for x in ends)


def histogram(low, high, bins=20):
    width = (high - low) / bins
    return {
        "edges": [low + i * width for i in range(bins + 1)],
        "counts": [round(400 * math.exp(-0.5 * ((i - 6) / 4) ** 2)) for i in range(bins)],
    }


def study(code="control", *, share=True, simulated=False, long=True, numbered=True, runs=7, actions=6, seeds=1, margin=None, practice=None,
          names=None, words=None, recorded=False, caution=False):  # fmt: skip
    """A study whose rule stops at the step `code`. `runs`: candidates; `names`: a function that spoils every name."""
    name = names or (lambda text: text)
    margin = margin or (0.02 if share else 25.0)
    level = practice if practice is not None else (0.786 if share else 412.0)
    gain, control, net, effective = (scaled(e, margin) if isinstance(e, tuple) else e for e in GAINS[code])
    reached = list(STEPS).index(code)
    early = code in ("critical", "refused")
    ids = ["control", *(f"run{i}" for i in range(runs))]
    chosen = None if early else "run1"
    n = 1185
    value = shifted(gain, level) if gain else None
    if value:
        value = (value[0], value[1] - 0.4 * margin, value[2] + 0.4 * margin)
    verdict = {
        "word": STEPS[code],
        "reasons": [{"code": c, "text": f"Said of {c}."} for c in (code, *ALSO.get(code, ()), *(("caution",) if caution else ()))],
        "rule": [
            {"code": c, "asks": ASKS[c], "here": f"seen at {c}" if i <= reached else None, "holds": (i == reached) if i <= reached else None,
             "decides": i == reached, "word": word} for i, (c, word) in enumerate(STEPS.items())
        ],
        "level": 0.95, "margin": margin, "margin_from": "declared", "errors": {"deploy": 0.05, "trial": 0.1, "do not": 0.05}, "chosen": chosen,
        "value": estimate(value, effective), "practice": estimate((level, level - margin, level + margin)), "gain": estimate(gain),
        "control": estimate(control), "net": estimate(net), "placebo": estimate(scaled((1.1, 0.3, 1.9), margin)) if code == "placebo" else None,
        "bound": {"low": 0.3 * margin if code == "shown" else None, "level": 0.95, "method": "betting",
                  "refused": None if code == "shown" else "no range of returns was declared"},
        "effective": effective, "episodes": n, "settle": {"margin": None if early else 2000, "gain": None if early else 151_000}, "exact": None,
    }  # fmt: skip
    state = dict.fromkeys(LINKS, "ok") | {"checks": "warn", "coverage": "warn"}
    state |= {"critical": {"checks": "critical", "choice": "caps"}, "refused": {"coverage": "caps", "choice": "caps"},
              "thin": {"coverage": "caps", "choice": "caps"}, "control": {"estimates": "caps", "choice": "caps"},
              "placebo": {"estimates": "caps", "choice": "caps"}}.get(code, {})  # fmt: skip
    made = {
        "topstitch": "0.0", "schema": 1, "title": name("Fluid and vasopressor dosing"), "simulated": simulated,
        "question": "Should a policy learned from 4,000 logged stays replace current practice?",
        "words": words or {"episode": "stay", "episodes": "stays", "step": "decision", "steps": "decisions", "value": "survival" if share else None},
        "unit": {"kind": "share" if share else "return", "discount": 1.0, "low": 0.0 if share else None, "high": 1.0 if share else None, "name": None},
        "verdict": verdict,
        "chain": [{"id": id, "name": NAMES[id], "state": state[id], "number": "4,000 stays", "detail": "36,665 decisions"} for id in LINKS],
        "data": data(name, level, margin, share, long, numbered, actions),
        "checks": checks(name, code, caution),
        "coverage": None, "practice": None, "policies": None, "estimates": None, "choice": None, "changes": None,
        "limits": [
            {"code": "confounding", "text": "The columns hold every reason for an action that also affects the outcome.", "tested": False},
            {"code": "support", "text": "Actions of the policy were sometimes taken.", "tested": True},
            {"code": "drift", "text": "Tomorrow's stays resemble these.", "tested": False},
        ],
        "reproduce": {
            "command": "topstitch run log --out study", "commands": [{"what": "the study", "command": "topstitch run log --out study"}],
            "fingerprints": {"data": "dea418284257c016", "study": "36498f924c693c6b", "policy": None}, "seeds": {"deal": 0, "training": 0},
            "settings": {"discount": 1.0, "margin": margin}, "versions": {"topstitch": "0.0", "python": "3.11"}, "seconds": 93.2,
            "finished": "2024-05-01 12:00", "files": [{"path": "study.json", "what": "every number"}],
        },
    }  # fmt: skip
    if code == "critical":
        return made
    made["practice"] = {
        "recorded": recorded, "kind": "counts", "score": -1.52, "score_blind": -2.16, "score_recorded": -1.45 if recorded else None, "top": 0.45,
        "unseen": 0.09 if numbered else None, "spread": 0.0 if recorded else 0.2 * margin, "refused": None,
        "calibration": {"predicted": [0.001, 0.008, 0.02, 0.1, 0.4, 0.9], "observed": [0.004, 0.009, 0.018, 0.11, 0.39, 0.91],
                        "count": [9000, 4000, 2000, 900, 500, 100], "error": 0.007},
    }  # fmt: skip
    made["policies"] = policies(name, ids, level, margin, seeds, simulated)
    steps = 30 if long else 1
    fall = lambda last: [n * (last / n) ** (t / max(steps - 1, 1)) if steps > 1 else last for t in range(steps)]
    worth = [800.0, *(max(2.1, 900.0 / (i + 1) ** 2) for i in range(runs))]
    if effective:
        worth[2] = effective
    made["coverage"] = {
        "support": {"levels": [0, 1, 2, 5, 10, 20, 50], "practice": [0.09, 0.06, 0.12, 0.15, 0.17, 0.2, 0.21],
                    "policy": None if early else [0.1, 0.07, 0.13, 0.14, 0.16, 0.2, 0.2]} if numbered else None,
        "by_step": {"ids": ids[:5], "effective": [fall(w) for w in worth[:5]], "alive": [round(n * 0.93**t) for t in range(steps)]},
        "chosen": None if early else {"effective": effective, "pareto_k": 0.44, "largest": 0.02, "top10": 0.12, "mean": 1.04, "mean_error": 0.05,
                                      "step_mean": 1.0, "step_mean_error": 0.1, "overlap": 0.4, "agreement": 0.9},
        "advice": None,
    }  # fmt: skip
    wide = lambda i: (level + margin * (0.4 + 0.5 * i), level - margin * (1 + i), level + margin * (2 + 1.8 * i))
    rows = [{"id": "control", "value": estimate(shifted(control, level) if control else wide(0), worth[0]), "gain": estimate(control), "net": estimate(None),
             "pareto_k": 0.55, "exact": level if simulated else None, "note": None}]  # fmt: skip
    for i in range(runs):
        told = "Weights are worth fewer than ten stays." if worth[i + 1] < 10 or code == "refused" else None
        mine = estimate(None if told else value if i == 1 else wide(i), None if told else worth[i + 1], told)
        rows.append({"id": f"run{i}", "value": mine, "gain": estimate(gain if i == 1 else None),
                     "net": estimate(net if i == 1 else None if told else scaled((0.4 * i, -1.0 - i, 2.0 + 2 * i), margin)), "pareto_k": 0.4 + 0.1 * i,
                     "exact": level + 0.2 * margin * i if simulated else None, "note": None})  # fmt: skip
    made["estimates"] = {
        "estimator": "wdr", "why": "It is sound if either the probabilities or the values are right.", "rows": rows, "practice": verdict["practice"],
        "others": [] if early else [
            {"name": "weighted importance sampling", "what": "no model of outcomes", "value": estimate(shifted(value, 0.1 * margin), effective)},
            {"name": "fitted Q evaluation", "what": "a model of outcomes only", "value": estimate(shifted(value, -0.3 * margin))},
            {"name": "importance sampling", "what": None, "value": estimate(None, None, "Weights are worth fewer than ten stays.")},
        ],
    }  # fmt: skip
    made["choice"] = {
        "rows": [{"id": f"run{i}", "net": rows[i + 1]["net"], "effective": worth[i + 1], "eligible": worth[i + 1] >= 50 and code != "refused",
                  "why": None if worth[i + 1] >= 50 else "worth too little"} for i in range(runs)],
        "chosen": chosen, "how": "The best lower end among them.", "need": 50.0, "correction": "none (chosen on other episodes)", "holm": None,
    }  # fmt: skip
    if not early:
        made["changes"] = changes(name, actions, numbered)
    if simulated and not early:
        verdict["exact"] = {"value": level + 0.2 * margin, "practice": level, "gain": 0.2 * margin, "control": 0.01 * margin}
    return made


def data(name, level, margin, share, long, numbered, actions):
    low, high = (0.0, 1.0) if share else (level - 12 * margin, level + 12 * margin)
    return {
        "episodes": 4000, "steps": 36_665 if long else 4000, "actions": actions, "observations": 716 if numbered else 47, "numbered": numbered,
        "obs_names": [name("state")], "action_names": [name(f"dose {i}") for i in range(actions)],
        "returns": {"mean": level, "sd": 6 * margin, "low": low, "high": high, "quantiles": [low, level - margin, level, level + margin, high],
                    "histogram": histogram(low, high)},
        "lengths": {"mean": 9.2 if long else 1.0, "low": 1, "high": 84 if long else 1, "quantiles": [1, 2, 6, 13, 30] if long else [1] * 5,
                    "histogram": histogram(0.5, 84.5 if long else 1.5)},
        "truncated": 40, "notes": ["40 episodes lack their last observation: their last steps were dropped."], "description": None,
        "splits": [{"name": s, "episodes": n, "steps": 9 * n, "return": level, "seed": 0, "for": "learned from"}
                   for s, n in (("train", 2000), ("selection", 800), ("evaluation", 1185))],
    }  # fmt: skip


def checks(name, code, caution):
    found = [
        {"severity": "warning", "code": "once", "title": "Many actions were seen once", "what": "1,798 of 6,000 pairs occur a single time.",
         "count": 1798, "rows": [3, 8], "where": ["episode 1, step 3", "episode 2, step 1"], "columns": [name("state"), name("dose")],
         "remedy": "Averages over them are noise; prefer methods that keep to what was often seen.", "numbers": {}},
        {"severity": "note", "code": "duplicates", "title": "Rows occur twice", "what": "18 rows are exact copies.", "count": 18, "rows": [], "where": [],
         "columns": [], "remedy": "They were removed.", "numbers": {}},
    ]  # fmt: skip
    if caution:
        found.insert(0, found[0] | {"severity": "caution", "code": "late", "title": "Rewards come only at the end"})
    if code == "critical":
        found.insert(0, {"severity": "critical", "code": "future", "title": "A column knows the future", "what": "It predicts the reward.", "count": 36_665,
                         "rows": [0], "where": ["episode 0, step 1"], "columns": [name("outcome")], "remedy": "Remove the column and import again.",
                         "numbers": {"r2": 0.999}})  # fmt: skip
    counts = {s: sum(f["severity"] == s for f in found) for s in ("critical", "caution", "warning", "note")}
    return {"findings": found, "passed": ["no duplicates", "time runs forward"], "counts": counts, "stopped": code == "critical"}


def policies(name, ids, level, margin, seeds, simulated):
    runs = [{"id": "control", "name": name("copy of practice"), "algorithm": "bc", "seed": 0, "fields": {}, "role": "control", "what": "changes nothing",
             "believes": None, "curve": None, "fault": None, "folder": None, "file": None, "exact": level if simulated else None}]  # fmt: skip
    kinds = ["discrete_bcq", "spibb", "discrete_cql", "iql", "dqn"]
    at = [2000 * k for k in range(1, 9)]
    for i, id in enumerate(ids[1:]):
        rise = [level + margin * (0.1 * i + 0.05 * k) for k in range(8)]
        runs.append({
            "id": id, "name": name(f"{kinds[(i // seeds) % 5]} {i}"), "algorithm": kinds[(i // seeds) % 5], "seed": i % seeds,
            "fields": {"alpha": 0.5 + i // seeds, "steps": 16_000}, "role": "candidate", "what": "tilts doses towards better outcomes", "fault": None,
            "believes": rise[-1] + margin * i * 3, "folder": "runs/x", "file": f"{i}.safetensors", "exact": level + 0.2 * margin * i if simulated else None,
            "curve": {"step": at, "believes": [v + margin * i * 0.4 * k for k, v in enumerate(rise)], "selection": rise,
                      "exact": [v - 0.3 * margin for v in rise] if simulated else None},
        })  # fmt: skip
    groups = [
        {"name": name(f"{kinds[g % 5]} {g}"), "algorithm": kinds[g % 5], "ids": ids[1 + g * seeds : 1 + (g + 1) * seeds], "why": "It was advised.",
         "source": "Fujimoto et al. 2019"} for g in range(math.ceil((len(ids) - 1) / seeds))
    ]  # fmt: skip
    return {"runs": runs, "groups": groups, "advised": ["spibb"], "safe": "spibb"}


def changes(name, actions, numbered):
    total = sum(range(1, actions + 1))
    was = [(actions - i) / total for i in range(actions)]
    will = [w + (0.03 if i == 0 else -0.03 / max(actions - 1, 1)) for i, w in enumerate(was)]
    leaf = lambda share, p: {"share": share, "n": round(36_665 * share), "p": p}
    return {
        "actions": [{"name": name(f"dose {i}"), "practice": a, "policy": b} for i, (a, b) in enumerate(zip(was, will))], "same": 0.94, "kind": "shares",
        "groups": [{"name": None, "by": name("SOFA"), "low": low, "high": high, "share": 0.33, "same": 0.9, "practice": was, "policy": will}
                   for low, high in ((None, 4.0), (4.0, 8.0), (8.0, None))],
        "states": [{"name": name(f"state {i}"), "visits": 78 + i, "same": 0.61 + i / 50, "about": {"expected value": 0.71, "times seen": 78.0}, "practice": {"action": name("dose 2"), "share": 0.39},
                    "policy": {"action": name("dose 3"), "share": 0.62, "before": 0.23}} for i in range(8)],
        "tree": {"asks": "what does the policy do otherwise, and where?", "classes": ["as practice", "more dose 3", "more dose 1", "another change"], "fidelity": 0.70, "constant": 0.71,
                 "folds": 10, "depth": 2, "leaves": 3,
                 "root": leaf(1.0, [0.7, 0.2, 0.08, 0.02]) | {"column": name("potassium"), "threshold": 3.8512, "left": leaf(0.4, [0.96, 0.03, 0.01, 0.0]),
                         "right": leaf(0.6, [0.5, 0.3, 0.1, 0.1]) | {"column": name("SOFA"), "threshold": 7.0, "left": leaf(0.3, [0.8, 0.1, 0.1, 0.0]),
                                                                "right": leaf(0.3, [0.2, 0.5, 0.2, 0.1])}}},
        "refused": None,
    }  # fmt: skip


def without(made, *paths):
    """A copy in which the parts named are null: `without(study, "coverage.support", "changes")`."""
    made = copy.deepcopy(made)
    for path in paths:
        *way, last = path.split(".")
        part = made
        for key in way:
            part = part[key]
        part[last] = None
    return made


def runs(folder, seeds=2, finished=True, evaluated=True, estimated=True):
    """A folder of plain runs, as `topstitch train` leaves it."""
    folder.mkdir(parents=True)
    settings = [{"algorithm": "iql", "fields": {"beta": beta, "steps": 2000, "hidden": [64, 64]}, "seed": seed} for beta in (1.0, 10.0) for seed in range(seeds)]  # fmt: skip
    config = {"topstitch": "0.0", "jax": "0.10", "backend": "cpu", "runs": settings,
              "data": {"source": "log.csv", "fingerprint": "dea418284257c016", "episodes": 100, "steps": 900}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    lines = [{"run": run, "stage": "learn", "step": step, "critic/loss": 2.0 / step + run, "critic/q": 0.1 * step, "actor/entropy": None}
             for step in range(100, 2001, 100) for run in range(len(settings))]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"run": 0, "st')
    if evaluated:
        points = [{"step": step, "returns": [[step / 10 + run + e for e in range(5)] for run in range(len(settings))], "lengths": [], "believes": None}
                  for step in (1000, 2000)]  # fmt: skip
        (folder / "evaluations.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    if finished:
        faults = [["learn", 1200, "critic/loss"], *[None] * (len(settings) - 1)]
        (folder / "finished.json").write_text(json.dumps({"faults": faults, "metrics": [{} for _ in settings]}))
    if estimated:
        row = {"policy": "iql seed 0", "name": "wdr", "value": 210.0, "low": 190.0, "high": 230.0, "interval": "bootstrap", "effective": 140.0,
               "diagnostics": {"notes": ["A note."]}, "refused": None}  # fmt: skip
        rows = [row, row | {"name": "wis", "value": 260.0, "low": 150.0, "high": 370.0, "effective": 31.0},
                row | {"name": "fqe", "value": None, "low": None, "high": None, "effective": None, "refused": "The policy has no density."}]  # fmt: skip
        logged = row | {"policy": "logged", "name": "mean", "value": 188.0, "low": 180.0, "high": 196.0}
        (folder / "estimates.json").write_text(json.dumps({"source": "log.csv", "confidence": 0.95, "logged": logged, "estimates": rows}))
    return folder
