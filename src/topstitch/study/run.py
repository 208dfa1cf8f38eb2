"""A study from beginning to end: deal out, check, learn, choose, judge, and write `study.json`.

A study is a folder. What it was started with stands in `plan.json`; runs are folders in `runs/`, and other parts that take time are kept in `parts/`:
the same call goes on where it was stopped, and gives back what is finished.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..core import Discrete
from ..data import Episodes
from ..data.check import check
from ..disk import BadFile, plain, write_json
from ..ope.table import Refused
from ..runs import fields_of
from ..store import save_policy
from . import saying, sections
from .accepted import Accepted
from .advice import advise, safe
from .changes import Features, changes
from .describe import describe
from .judging import CONTROL, Judged, choosing, judge, refused
from .logger import Logger, chances, learn
from .panel import Group, Made, Truth, advised, trained, usual
from .plan import Plan, Unit, deal, kind_of, margin_of
from .schema import VERSION
from .verdict import Numbers, verdict

LIBRARIES = ("jax", "equinox", "optax", "numpy", "scipy", "scikit-learn")
POLICY = "policy/0.safetensors"
"Where `topstitch.load_policy(folder)` looks."


@dataclasses.dataclass(frozen=True)
class Found:
    """What came of learning and judging."""

    judged: Judged
    logger: Logger | None = None
    made: Sequence[Made] = ()
    exact: Mapping[str, float] = dataclasses.field(default_factory=dict)
    "Values by id, and of practice."

    @property
    def chosen(self) -> Made | None:
        choice = self.judged.choice
        return next((one for one in self.made if choice is not None and one.id == choice.chosen), None)


def study(
    log: Episodes,
    out: str | Path,
    *,
    plan: Plan | None = None,
    panel: Sequence[Group] | None = None,
    seeds: int = 4,
    updates: int | None = None,
    truth: Truth | None = None,
    features: Features | None = None,
    accepted: Accepted = Accepted(),  # noqa: B008, a constant
    command: str = "",
    tell: Callable[[str], None] | None = None,
    progress: bool | None = None,
) -> dict:
    """May a policy learned from `log` take the place of practice? Writes `out/study.json` and the chosen policy, and answers with the former.

    `panel`: what is trained, by default what the advice asks for, with `seeds` seeds and `updates` updates. `truth`: exact values, where a
    simulator has them, to stand beside the estimates; nothing is decided by them. `features` describe numbered states. `accepted` are cautions that
    somebody has looked at; a finished study is judged again where they are others than before. `command` is what a person typed. `tell` is told what is
    being done; `progress` shows bars (by default on a terminal).
    Raises `BadFile` if the folder holds another study, `BadData` for too few episodes, or if what is accepted is no caution that was found.
    """
    began, out, plan = time.monotonic(), Path(out), plan or Plan()
    tell = tell or (lambda text: print(text, file=sys.stderr, flush=True))
    parts = deal(log, plan)
    margin, margin_from = margin_of(log.take(np.concatenate([parts["train"], parts["selection"]])), plan)
    started = {"topstitch": __version__, "data": log.fingerprint(), "source": log.source, "plan": dataclasses.asdict(plan), "seeds": seeds, "updates": updates,
               "panel": None if panel is None else [_group(group) for group in panel]}  # fmt: skip
    if (done := claim(out, started)) is not None:
        if done.get("schema") == VERSION and done["checks"].get("accepted") == accepted.plain():
            tell(f"{out / 'study.json'} is finished: nothing is left to do.")
            return done
        tell(
            f"{out / 'study.json'} is finished, but with other findings accepted, or in another layout: judging again by what was learned."
        )
    keep = lambda name, make: kept(out / "parts" / f"{name}.json", make)
    tell(f"Checking {len(log):,} {plan.words.episodes}, {log.steps:,} {plan.words.steps}")
    looked = check(log, splits={name: log.take(part) for name, part in parts.items() if len(part)})
    counts, cautions, advice = looked.counts, accepted.left(looked), None
    if counts["critical"]:
        tell("A finding is critical: nothing is learned from this table.")
        stopped = Numbers(margin, critical=counts["critical"])
        found = Found(refused("", margin)._replace(verdict=verdict(stopped), numbers=stopped))
    else:
        advice = keep("advice", lambda: advise(log, findings=looked).plain())
        panel = panel or usual(log, seeds=seeds, updates=updates, discount=plan.discount, asked=advised(advice))
        found = learned(log, parts, out, plan, panel, margin=margin, cautions=cautions, truth=truth, tell=tell, progress=progress)
    tell("Describing")
    description = keep("data", lambda: describe(log, seed=plan.seed, discount=plan.discount))
    unit, best, judged = Unit(kind_of(log, plan)), found.chosen, found.judged
    name = None if best is None else best.id
    told: dict[str, Any] = heading(log, plan, unit, truth is not None) | {
        "verdict": saying.verdict(judged, unit, margin_from, name, found.exact),
        "data": sections.data(log, parts, plan, description),
        "checks": sections.checks(looked, accepted),
        "coverage": None, "practice": None, "policies": None, "estimates": None, "choice": None, "changes": None,
    }  # fmt: skip
    if found.logger is not None:
        acts = (
            {}
            if best is None or not isinstance(log.spec.action, Discrete) or judged.evaluation is None
            else {name: chances(best.policy, judged.evaluation.log)}
        )
        told |= {
            "practice": sections.practice(log, parts, found.logger, judged, name),
            "changes": None if best is None else changes(best.policy, log, found.logger, discount=plan.discount, features=features, seed=plan.seed),
            "coverage": sections.coverage(log, parts, judged, name, acts, advice),
        }  # fmt: skip
    if found.made:
        told |= {
            "policies": sections.policies(found.made, found.exact, None if advice is None else list(advised(advice)), safe(log)),
            "estimates": sections.estimates(judged, found.made, name, found.exact),
            "choice": sections.choice(judged.choice, judged.tested),
        }  # fmt: skip
    if best is not None:
        save_policy(
            out / POLICY,
            best.policy,
            {
                "study": _hash(started),
                "algorithm": best.group.name,
                "fields": fields_of(best.algorithm),
                "seed": best.seed,
                "verdict": judged.verdict.word,
                **({} if log.codec is None else {"codec": log.codec.plain()}),
            },
        )
    if accepted.codes:
        told["verdict"]["reasons"].append({"code": "accepted", "text": accepted.sentence(looked)})
    told["verdict"]["sentence"] = saying.sentence(told, unit, plan)
    told["chain"] = saying.chain(told, judged.numbers, judged.verdict, unit, plan)
    told["limits"] = saying.limits(told, plan)
    told["reproduce"] = reproduce(log, out, plan, started, command, best, time.monotonic() - began)
    told = plain(told)
    write_json(out / "study.json", told)
    return told


def learned(
    log, parts, out: Path, plan: Plan, panel: Sequence[Group], *, margin: float, cautions: int, truth: Truth | None, tell, progress
) -> Found:
    """Practice, the panel, and what the rule says of it."""
    train, rest = log.take(parts["train"]), log.take(np.concatenate([parts["train"], parts["selection"]]))
    recorded = log.log_prob is not None if plan.behaviour is None else plan.behaviour == "column"
    tell("Fitting practice, a copy of it" + ("" if recorded else ", and it without each of some groups of episodes"))
    try:
        logger = learn(train, rest, recorded=recorded, seed=plan.seed)
        for note in logger.model.notes:
            tell(f"note: {note}")
        selection = choosing(log, parts, logger, plan)
    except Refused as reason:
        return Found(refused(str(reason), margin, cautions))
    made = trained(panel, train, out / "runs", selection=selection, truth=truth, tell=tell, progress=progress)
    policies = {one.id: one.policy for one in made}
    candidates = tuple(one.id for one in made if one.group.role == "candidate" and one.fault is None)
    judged = judge(
        log, parts, policies, logger, plan, margin=margin, candidates=candidates, cautions=cautions, selection=selection, tell=tell
    )
    exact = {}
    if truth is not None:
        tell("Solving for the truth, which nothing is decided by")
        values = truth.of([*policies.values(), logger.copy.policy()])
        exact = dict(zip([*policies, CONTROL], map(float, values))) | {"practice": truth.practice}
    return Found(judged, logger, made, exact)


# the folder --------------------------------------------------------------------------------------------------------------------


def claim(out: Path, started: Mapping[str, Any]) -> dict | None:
    """Make the folder this study's, or make sure that it is; what it holds, if it is finished. Raises `BadFile` if it holds something else."""
    path, now = out / "plan.json", json.loads(json.dumps(started))
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(not inner.name.startswith(".") for inner in out.iterdir())):
            raise BadFile(f"{out} is not empty, and is not a study. Choose another folder.")
        write_json(path, started)
        return None
    then = stored(path, "choose another folder")
    changed = [key for key in now if then.get(key) != now[key]]
    if changed:
        key = changed[0]
        raise BadFile(f"{out} holds a study that was started otherwise: {key} was {json.dumps(then.get(key))}, and is {json.dumps(now[key])}. "
                      "Give the same settings and data, or choose another folder.")  # fmt: skip
    return stored(out / "study.json", "remove it, and it is made again") if (out / "study.json").is_file() else None


def kept(path: Path, make: Callable[[], dict]) -> dict:
    """What a file holds, or what is made now and put there."""
    if path.is_file():
        return stored(path, "remove it, and it is made again")
    made = plain(make())
    write_json(path, made)
    return made


def stored(path: Path, remedy: str) -> dict:
    """The object in a file of the study. Raises `BadFile` where there is none."""
    try:
        return {**json.loads(path.read_text())}
    except (ValueError, TypeError) as error:
        raise BadFile(f"{path} is damaged ({error}): {remedy}.") from None


def _group(group: Group) -> dict:
    return {"name": group.name, "fields": [fields_of(algorithm) for algorithm in group.algorithms], "seeds": group.seeds}


def _hash(started: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(started, sort_keys=True).encode()).hexdigest()[:16]


# head and foot -----------------------------------------------------------------------------------------------------------------


def heading(log: Episodes, plan: Plan, unit: Unit, simulated: bool) -> dict:
    low, high = plan.return_range or (None, None)
    title = plan.title or Path(log.source).stem
    return {
        "topstitch": __version__, "schema": VERSION, "title": title,
        "question": f"Should a policy learned from {len(log):,} logged {plan.words.episodes} replace current practice?",
        "words": dataclasses.asdict(plan.words), "unit": {"kind": unit.kind, "name": plan.unit, "discount": plan.discount, "low": low, "high": high}, "simulated": simulated,
    }  # fmt: skip


def reproduce(log: Episodes, out: Path, plan: Plan, started: Mapping[str, Any], command: str, best: Made | None, seconds: float) -> dict:
    policy = out / POLICY
    files = [
        ("study.json", "everything on this page"),
        ("plan.json", "what the study was started with"),
        ("runs", "training: settings, metrics, policies"),
        ("parts", "parts that were kept"),
    ]
    commands = [{"what": "this study", "command": command}] if command else []
    if best is not None:
        files.insert(1, (POLICY, "the chosen policy"))
        commands.append({"what": "the policy, in Python", "command": f'topstitch.load_policy("{out}")'})
        if log.codec is not None:
            decide = f"topstitch decide {shlex.quote(str(out))} --data new.csv --draw 0"
            commands.append({"what": "its decisions for new rows, drawn as it was judged", "command": decide})
    return {
        "command": command, "commands": commands,
        "fingerprints": {"data": started["data"], "study": _hash(started), "policy": hashlib.sha256(policy.read_bytes()).hexdigest()[:16] if best is not None else None},
        "seeds": {"split": plan.seed, "training": sorted({best.seed}) if best else []}, "settings": started["plan"] | {"panel": started["panel"]},
        "versions": {"python": platform.python_version(), "topstitch": __version__} | {name: importlib.metadata.version(name) for name in LIBRARIES},
        "seconds": round(seconds, 1), "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": [{"path": path, "what": what} for path, what in files],
    }  # fmt: skip
