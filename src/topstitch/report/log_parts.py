"""What a study's page shows of its log: links 1 to 4, data, checks, coverage and practice. Each function takes a part of `study.json`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from . import charts, log_words
from .conclusions import Nouns
from .data_page import view
from .kit import UNKNOWN, Number, called, capitalised, count, known, named, num, pct, short, told
from .words import FEW, Terms

Part = Mapping[str, Any]
RARE = 0.05
"Where a predicted share is below, calibration is drawn on logarithmic scales: rare actions make the large weights."


# data --------------------------------------------------------------------------------------------------------------------------


def data_part(study: Part, terms: Terms) -> dict:
    data, described = study["data"], study["data"].get("description")
    nouns = Nouns(terms.episode, terms.episodes, terms.step, terms.steps)
    return {
        "lead": log_words.data_lead(data, study["unit"], terms, bool(described)), "truncated": data.get("truncated"),
        "view": view(described, nouns) if described else None,
        "pictures": [] if described else [picture for picture in (lengths(data, terms), returns(data, terms)) if picture],
        "notes": [told(note) for note in data.get("notes") or ()],
        "splits": [(split["name"], split["episodes"], split["steps"], split["return"], split.get("for") or "") for split in data.get("splits") or ()],
    }  # fmt: skip


def lengths(data: Part, terms: Terms) -> tuple[str, str, Markup] | None:
    """(title, subtitle, picture), as for returns."""
    found = data.get("lengths")
    if not found or not found.get("histogram") or found["high"] <= 1:
        return None
    _, low, middle, high, _ = found["quantiles"]
    said = f"median {count(middle)}, middle half {count(low)} to {count(high)}, longest {count(found['high'])}"
    drawn = charts.histogram(
        found["histogram"]["edges"], found["histogram"]["counts"], label=f"Histogram of the number of {terms.steps}: {said}.",
        xlabel=f"{terms.steps} in the {terms.episode}", mark=(middle, f"median {count(middle)}"),
    )  # fmt: skip
    return (
        log_words.lengths_title(found, terms),
        f"Number of {terms.episodes} by length; middle half {count(low)} to {count(high)} {terms.steps}",
        drawn,
    )


def returns(data: Part, terms: Terms) -> tuple[str, str, Markup] | None:
    found, scale = data.get("returns"), terms.scale
    if not found or not found.get("histogram"):
        return None
    edges = found["histogram"]["edges"]
    drawn = charts.histogram(
        edges, found["histogram"]["counts"], xlabel=f"{terms.value}, {scale.label}" if scale.label else terms.value,
        label=f"Histogram of returns: mean {scale.level(found['mean'])}, from {scale.level(found['low'])} to {scale.level(found['high'])}.",
        say=charts.compact(charts.ticks(edges[0], edges[-1], 4), scale.factor), mark=(found["mean"], f"mean {scale.bare(found['mean'])}"),
    )  # fmt: skip
    return log_words.returns_title(found, terms), f"Number of {terms.episodes} by return", drawn


# checks ------------------------------------------------------------------------------------------------------------------------


def checks_part(checks: Part) -> dict:
    counts, stopped, findings = dict(checks.get("counts") or {}), bool(checks.get("stopped")), checks.get("findings") or ()
    counts["caution"] = counts.get("caution", 0) - sum(bool(found.get("accepted")) for found in findings)
    return {
        "title": log_words.checks_title(counts, stopped), "lead": log_words.checks_lead(counts, stopped),
        "findings": [finding(found) for found in findings], "passed": [told(name) for name in checks.get("passed") or ()],
    }  # fmt: skip


def finding(found: Part) -> tuple[str, str, Markup, str, str]:
    """For `parts.findings`: severity, title, what was seen and in which columns, in how many rows, what to do."""
    columns = [named(column, 40) for column in found.get("columns") or ()]
    what = Markup("{}").format(told(found["what"], 600)) if found.get("what") else Markup("")
    if columns:
        more = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
        what += Markup(" Column{}: {}{}.").format("s" if len(columns) > 1 else "", Markup(", ").join(columns[:8]), more)
    if found.get("where"):
        what += Markup(" For example {}.").format(called(found["where"][0], 80))
    n = found.get("count")
    rows = f"{count(n)} row{'' if n == 1 else 's'}" if n else ""
    return (
        "warning" if found.get("accepted") else found["severity"],
        called(found.get("title") or found["code"], 200),
        what,
        rows,
        ("Accepted for this study. " if found.get("accepted") else "") + (told(found["remedy"]) if found.get("remedy") else ""),
    )


# coverage ----------------------------------------------------------------------------------------------------------------------


def coverage_part(study: Part, terms: Terms, names: Mapping[str, str]) -> dict:
    coverage, verdict = study["coverage"], study["verdict"]
    by, support = coverage.get("by_step"), coverage.get("support")
    return {
        "lead": log_words.coverage_lead(verdict, coverage, terms),
        "weights": log_words.weights_text(coverage["chosen"], terms) if coverage.get("chosen") else "",
        "support": support_part(support) if support else None, "steps": effective_part(by, verdict, terms, names) if by and by.get("ids") else None,
    }  # fmt: skip


def support_part(support: Part) -> dict:
    """Shares of decisions by how often their action was seen, of practice and of the policy."""
    practice, policy = support["practice"], support.get("policy")
    marks = charts.ticks(0, max([*practice, *(policy or ()), 0.05]), 4)
    within, rows = (0.0, max(1.04 * max([*practice, *(policy or ())]), marks[-1])), []
    for name, a, b in zip(level_names(support["levels"]), practice, policy or [None] * len(practice)):
        label = f"{name}: practice {pct(a, 0)} %" + (f", learned policy {pct(b, 0)} %" if b is not None else "")
        points = [(a, "d-prac")] + ([(b, "d-acc")] if b is not None else [])
        rows.append((name, charts.dots_row(points, within, grid=marks, label=label), pct(a, 0), pct(b, 0)))
    title = log_words.support_title(practice, policy) if policy else "How often what practice does was seen"
    return {"rows": rows, "axis": charts.axis_row(marks, within, charts.say_ticks(marks, 100.0)), "title": title}


def level_names(levels: Sequence[int]) -> list[str]:
    """never, 1×, 2–4×, 5–9×, …, 50× or more."""
    above = [*levels[1:], None]
    return [
        "never" if a == 0 else f"{a}× or more" if b is None else f"{a}×" if b == a + 1 else f"{a}–{b - 1}×" for a, b in zip(levels, above)
    ]


def effective_part(by: Part, verdict: Part, terms: Terms, names: Mapping[str, str]) -> dict | None:
    """Effective sample size by step: rows of bars where there is one step, else curves."""
    chosen = verdict.get("chosen")
    alive = [x or None for x in by.get("alive") or ()]
    n = verdict.get("episodes") or max((x for x in alive if x), default=0)
    lines = [(id, [x if x and x > 0 else None for x in values]) for id, values in zip(by["ids"], by["effective"])]
    lines = [(id, values) for id, values in lines if any(values)]
    if not lines or not n:
        return None
    longest, last = max(len(values) for _, values in lines), {id: next(x for x in reversed(values) if x) for id, values in lines}
    mine = chosen if chosen in last else lines[0][0]
    title = log_words.effective_title(last[mine], longest, n, terms, chosen in last)
    label = f"{title}. " + "; ".join(f"{names.get(id, called(id))} {count(last[id])}" for id, _ in lines) + "."
    if longest > 1:
        draw = lambda width, height, kind: effective_plot(lines, alive, n, chosen, terms, names, label, width, height, kind)
        return {"title": title, "drawn": charts.both(draw, (660, 320), (340, 300)), "rows": None, "axis": None}
    marks, rows = charts.ticks(0, n, 4), []
    for id, _ in lines:
        said = f"{names.get(id, called(id))}: {count(last[id])}"
        drawn = charts.bar_row(last[id], (0, n), kind="f-acc" if id == chosen else "f-prac", grid=marks, label=said)
        rows.append((named(names.get(id, id), 30), drawn, count(last[id])))
    return {"title": title, "drawn": None, "rows": rows, "axis": charts.axis_row(marks, (0, n), count)}


def effective_plot(
    lines: Sequence[tuple[str, list]], alive: Sequence[Number | None], n: Number, chosen: str | None, terms: Terms, names: Mapping[str, str],
    label: str, width: int, height: int, kind: str,
) -> Markup:  # fmt: skip
    """The chosen policy among others and the control; dotted, how many episodes are that long. Logarithmic upwards."""
    longest, wide = max(len(values) for _, values in lines), width > 400
    seen = lambda values: [x if x is not None and x >= bottom else None for x in values]
    least = min(x for _, values in lines for x in values if x)
    bottom = 10.0 ** math.floor(math.log10(max(1.0, min(least, 30.0))))
    letters = 22 if wide else 12
    plot = charts.Plot(
        width, height, left=46, right=16 + 6.4 * (letters + 6), top=14, bottom=46, x=(1, longest), y=(bottom, n * 1.1), ylog=True
    )
    if bottom < FEW < n:
        plot.box(plot.left, plot.up(FEW), plot.right - plot.left, plot.bottom - plot.up(FEW), "band")
    plot.yticks(charts.decades(bottom, n * 1.1), count)
    if bottom < FEW < n:
        plot.text(plot.left + 8, plot.bottom - 8, f"fewer than {FEW}: too few to judge" if wide else f"fewer than {FEW}", "mut")
    plot.line(range(1, longest + 1), seen(alive[:longest]), "ref")
    look = lambda id: "acc" if id == chosen else "prac" if id == "control" else "oth"
    for id, values in sorted(lines, key=lambda line: line[0] == chosen):
        plot.line(range(1, len(values) + 1), values, f"l-{look(id)}")
    last = [next(x for x in reversed(values) if x) for _, values in lines]
    for (id, _), x, y in zip(lines, last, charts.spread([plot.up(x) for x in last], 14, plot.top, plot.bottom)):
        text = f"{called(names.get(id, id), letters)}: {count(x)}"
        plot.text(plot.right + 6, y + 4, text, {"acc": "b acc-t", "prac": "", "oth": "mut"}[look(id)])
    marks = sorted(
        {1, longest, *(round(v) for v in charts.ticks(1, longest, 5 if wide else 3) if 1 < v < (0.94 if wide else 0.85) * longest)}
    )
    return plot.base().xticks(marks, count).xlabel(f"{terms.steps} into the {terms.episode}").svg(label, kind)


# practice ----------------------------------------------------------------------------------------------------------------------


def practice_part(practice: Part, terms: Terms) -> dict:
    calibration = practice.get("calibration") or {}
    percent = lambda key: f"{pct(practice[key], 0)}\u00a0%" if known(practice.get(key)) else UNKNOWN
    rows = [
        (f"Log-likelihood per {terms.step}", num(practice.get("score"), 2)),
        ("if the situation is ignored", num(practice.get("score_blind"), 2)),
        ("by the recorded probabilities", num(practice.get("score_recorded"), 2)),
        ("The most likely action was taken", percent("top")),
        ("Mean calibration error", f"{short(100 * calibration['error'], 2)}\u00a0points" if known(calibration.get("error")) else UNKNOWN),
        (f"{capitalised(terms.steps)} whose action was never seen in that state", percent("unseen")),
        ("What the fit adds to the standard error of the net gain", terms.scale.diff(practice.get("spread") or None, sign=False)),
    ]  # fmt: skip
    columns = [calibration.get(key) or () for key in ("predicted", "observed", "count")]
    pairs = [(p, o, n) for p, o, n in zip(*columns) if known(p) and known(o)]
    return {
        "lead": log_words.practice_lead(practice, terms), "rows": [row for row in rows if row[1] != UNKNOWN],
        "drawn": calibration_plot(pairs) if pairs else None,
        "title": log_words.calibration_title(pairs), "log": bool(pairs) and min(p for p, _, _ in pairs) < RARE,
        "refused": told(practice["refused"]) if practice.get("refused") else None,
    }  # fmt: skip


def calibration_plot(pairs: Sequence[tuple[Number, Number, Number]]) -> Markup:
    """Predicted and observed shares of actions; dots grow with the number of cases."""
    log = min(p for p, _, _ in pairs) < RARE
    positive = [x for p, o, _ in pairs for x in (p, o) if x > 0]
    low = 10.0 ** math.floor(math.log10(max(min(positive), 1e-5))) if log and positive else 0.0 if not log else 1e-3
    marks = charts.decades(low, 1.0, 5) if log else charts.ticks(0, 1, 4)
    say = lambda v: f"{short(100 * v)}\u00a0%"
    plot = charts.Plot(320, 260, left=58, right=24, top=26, bottom=44, x=(low, 1.0), y=(low, 1.0), xlog=log, ylog=log).yticks(marks, say)
    plot.xticks(charts.fitting(marks, say, 240), say).base().line([low, 1.0], [low, 1.0], "ref")
    most = max(n for _, _, n in pairs) or 1
    for p, o, n in pairs:
        if p > 0 or not log:
            plot.dot(max(p, low), max(o, low), 2.5 + 4 * math.sqrt(max(n, 0) / most), "d-prac")
    plot.text(8, 12, "observed", "mut").xlabel("predicted probability of an action")
    said = "; ".join(f"{short(100 * p)} % predicted, {short(100 * o)} % observed" for p, o, _ in pairs)
    return plot.svg(f"Calibration of the model of practice: {said}.")
