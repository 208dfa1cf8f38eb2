"""The page of a study: `study.json` in, one HTML file out. The verdict is the page; everything else is evidence for it.

What is said is chosen by `words`, what is drawn by `charts`; here, in `log_parts` and in `policy_parts` one is laid beside the other. Parts
that a study did not reach are null there and absent from the page.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError
from markupsafe import Markup

from .. import __version__
from ..disk import BadFile
from . import charts, words
from .kit import called, capitalised, count, known, page, pct, short, told
from .log_parts import checks_part, coverage_part, data_part, practice_part
from .policy_parts import changes_part, choice_part, estimates_part, policies_part
from .words import LINKS, Terms, ends

VERSION = 1
"Of the layout of `study.json`."
SEVERITY = {"ok": "ok", "note": "note", "warn": "warning", "caps": "caution", "critical": "critical"}
"How a link held, and its mark."
AFTER = (("changes", "What changes"), ("limits", "Limits"), ("reproduce", "Reproduce"))
CARD = ("topstitch", "schema", "title", "question", "words", "unit", "simulated", "verdict", "chain", "estimates", "choice", "reproduce")
"What the page keeps as JSON."
PARTS = (*CARD, "data", "checks", "coverage", "practice", "policies", "changes", "limits")
"What a study has; a part that was not reached is null."


def is_study(path: str | os.PathLike) -> bool:
    """Whether a place is a study rather than runs: a folder with `study.json`, or a file."""
    return Path(path).is_file() or (Path(path) / "study.json").is_file()


def read_study(path: str | os.PathLike) -> dict:
    """The results of a study: its folder, or its `study.json`. Raises `BadFile` where there are none, or of another layout."""
    path = Path(path) / "study.json" if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise BadFile(f"There is no {path}. Expected the folder of a study, as `topstitch run LOG --out FOLDER` makes it.")
    try:
        study = {**json.loads(path.read_bytes())}
    except (ValueError, TypeError, RecursionError) as error:
        raise BadFile(f"{path} does not hold the results of a study, or is damaged ({type(error).__name__}: {error}).") from None
    if (layout := study.get("schema")) != VERSION:
        raise unread(path, study, f"has the layout {layout!r}, and layout {VERSION} is expected")
    if lacks := [part for part in PARTS if part not in study]:
        raise unread(path, study, f"lacks {', '.join(lacks)}, which layout {VERSION} has")
    try:
        sound = study["verdict"]["word"] in words.VERDICTS and [link["id"] for link in study["chain"]] == list(LINKS)
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise BadFile(f"{path} is damaged: its verdict or its chain of {len(LINKS)} links is not one of a study. Run the study again.")
    return study


def stored_page(path: str | os.PathLike) -> str:
    """The page of a stored study. Raises `BadFile` where it is of another layout, in whatever part of it."""
    study = read_study(path)
    try:
        return study_page(study)
    except (KeyError, IndexError, TypeError, AttributeError, UndefinedError) as error:
        raise unread(path, study, f"is not laid out as expected ({type(error).__name__}: {error})") from error


def unread(path: str | os.PathLike, study: Mapping[str, Any], why: str) -> BadFile:
    made = f"It was made by topstitch {called(study['topstitch'], 40)}" if study.get("topstitch") else "It does not say what made it"
    return BadFile(f"{path} {why}. {made}, and this is {__version__}: make the page with the version that made it, or run the study again.")


def study_page(study: Mapping[str, Any]) -> str:
    """The whole page. `study` is laid out as `study.schema` says."""
    terms, verdict, reproduce = Terms.of(study), study["verdict"], study["reproduce"] or {}
    names = {run["id"]: called(run["name"]) for run in (study["policies"] or {}).get("runs") or ()}
    word, title = words.VERDICTS[verdict["word"]], called(study["title"] or "Study", 120)
    states = {link["id"]: link["state"] for link in study["chain"]}
    after = [(id, name, None) for id, name in AFTER if study.get(id)]
    finished = f", {called(reproduce['finished'])}" if reproduce.get("finished") else ""
    return page(
        "study.html.j2",
        title=f"{word}: {title} · topstitch study",
        about=words.headline(verdict, terms, study["checks"]),
        what=f"Study report: {title}",
        badge="Simulated data" if study["simulated"] else None,
        rail=[[(id, capitalised(id), SEVERITY[states[id]]) for id in LINKS], [*after, ("glossary", "Glossary", None)]],
        footer=f"Made by topstitch {called(study['topstitch'])}{finished}.",
        card=rounded({key: study.get(key) for key in CARD}),
        question=called(study["question"] or title, 300),
        word=word,
        verdicts=words.VERDICTS.values(),
        terms=terms,
        scale=terms.scale,
        chain=[(one["id"], capitalised(one["id"]), said(one["number"], 40), said(one["detail"], 60), SEVERITY[one["state"]]) for one in study["chain"]],
        chain_title=words.chain_title(states),
        chain_lead=words.chain_lead(states),
        order={id: i for i, (id, _, _) in enumerate(after, len(LINKS) + 1)},
        verdict=verdict_part(study, terms),
        data=study["data"] and data_part(study, terms),
        checks=study["checks"] and checks_part(study["checks"]),
        coverage=study["coverage"] and coverage_part(study, terms, names),
        practice=study["practice"] and practice_part(study["practice"], terms),
        policies=study["policies"] and policies_part(study, terms, names),
        estimates=study["estimates"] and estimates_part(study, terms, names),
        choice=choice_part(study, terms, names),
        changes=study["changes"] and changes_part(study["changes"], terms),
        limits=[(told(one["text"], 800), bool(one.get("tested"))) for one in study["limits"] or ()],
        reproduce=reproduce and reproduce_part(reproduce),
        glossary=words.glossary(study, terms),
    )  # fmt: skip


def said(text: str | None, most: int) -> str:
    return told(text, most) if text else ""


def verdict_part(study: Mapping[str, Any], terms: Terms) -> dict:
    """The sentence, the three gains, and the facts under them."""
    verdict, scale = study["verdict"], terms.scale
    gain, control, net = (ends(verdict.get(name)) for name in ("gain", "control", "net"))
    thin = verdict.get("effective") is not None and verdict["effective"] < words.FEW
    sentence, value, n = words.headline(verdict, terms, study["checks"]), ends(verdict.get("value")), verdict.get("episodes")
    before, number, rest = sentence.partition(scale.level(value.value)) if value else (sentence, "", "")
    quantity = f"Change in {terms.value}" + (f", {scale.steps}" if scale.steps else "") + f", with {pct(terms.level, 0)}\u00a0% intervals"
    return {
        "before": before, "number": number, "after": rest, "title": words.verdict_title(gain, control, net, terms, verdict["word"], thin),
        "gains": gains_part(verdict, terms, thin) if gain else None,
        "quantity": f"{quantity}; {terms.of_episodes(n)} the policy has never seen" if n else quantity,
        "facts": words.facts(verdict, (study["changes"] or {}).get("same"), terms), "accepted": words.accepted(study["checks"]),
    }  # fmt: skip


def gains_part(verdict: Mapping[str, Any], terms: Terms, thin: bool) -> dict:
    """The gain as measured, that of the negative control, and what is left."""
    scale, exact, margin = terms.scale, verdict.get("exact") or {}, verdict.get("margin") or 0.0
    of, mine = (exact.get("gain"), exact.get("control")), "acc thin" if thin else "acc"
    true = (*of, of[0] - of[1] if known(of[0]) and known(of[1]) else None)
    three = [
        (name, ends(verdict.get(key)), kind, truth, last)
        for (name, key, kind, last), truth in zip(
            (("Gain over practice, as measured", "gain", mine, ""), ("The same for a copy of practice, which should be 0", "control", "prac", ""),
             ("What is left, first minus second", "net", mine, "last")), true)
    ]  # fmt: skip
    within = charts.fair([e for _, e, _, _, _ in three], [0.0, -margin, *(t for t in true if known(t))])
    marks = charts.ticks(*within)
    look = {"grid": marks, "marks": [(0.0, "zero")], "band": (within[0], -margin) if margin else None}
    rows = [
        (name, "", charts.interval_row(e.value, e[1:], within, kind=kind, exact=truth, label=words.spoken(name, e, terms, sign=True), **look),
         scale.interval(e, sign=True), last)
        for name, e, kind, truth, last in three if e
    ]  # fmt: skip
    axis = charts.axis_row(marks, within, charts.compact(marks, scale.factor, True))
    return {"rows": rows, "axis": axis, "truth": any(known(t) for t in true), "margin": scale.margin(margin) if margin else ""}


def reproduce_part(reproduce: Mapping[str, Any]) -> dict:
    commands = reproduce.get("commands") or ([{"what": "", "command": reproduce["command"]}] if reproduce.get("command") else [])
    say = lambda v: short(v, 6) if isinstance(v, float) else called(v, 160)
    shown = lambda part: [
        (key, v) for key, v in (reproduce.get(part) or {}).items() if v is not None and not isinstance(v, Mapping) and len(str(v)) < 80
    ]
    pairs = lambda part: ", ".join(f"{called(key, 40)}\u00a0{say(value)}" for key, value in shown(part))
    code = Markup("<code>{}</code>")
    rows = [
        (capitalised(called(key, 40)), code.format(called(value, 80)))
        for key, value in (reproduce.get("fingerprints") or {}).items()
        if value
    ]
    rows += [(capitalised(part), text) for part in ("seeds", "settings", "versions") if (text := pairs(part))]
    rows += [("Took", f"{count(round(reproduce['seconds']))} seconds")] if reproduce.get("seconds") is not None else []
    rows += [("Finished", called(reproduce["finished"]))] if reproduce.get("finished") else []
    return {
        "commands": [(said(c.get("what"), 120), called(c["command"], 600)) for c in commands], "rows": rows,
        "files": [(called(file["path"], 80), said(file.get("what"), 160)) for file in reproduce.get("files") or ()],
    }  # fmt: skip


def rounded(x: Any) -> Any:
    """For JSON, to six figures."""
    if isinstance(x, Mapping):
        return {str(key): rounded(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [rounded(value) for value in x]
    return (float(f"{x:.6g}") if math.isfinite(x) else None) if isinstance(x, float) else x
