"""What a study's page shows of its policies: links 5 to 7, policies, estimates and choice, and what the chosen one would change."""

import dataclasses
import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from . import charts, policy_words, words
from .kit import Number, called, capitalised, count, known, listed, named, num, pct, short, told
from .words import FEW, Ends, Terms, ends

Part = Mapping[str, Any]
MOST_ROWS, MOST_MINIS, MOST_ACTIONS, MOST_COLUMNS = 14, 9, 12, 6
"What is drawn at once; the rest stands in tables."


# policies ----------------------------------------------------------------------------------------------------------------------


def policies_part(study: Part, terms: Terms, names: Mapping[str, str]) -> dict:
    policies, verdict, scale = study["policies"], study["verdict"], terms.scale
    runs = {run["id"]: run for run in policies.get("runs") or ()}
    groups = [(group, [runs[id] for id in group["ids"] if id in runs]) for group in policies.get("groups") or ()]
    drawn = [(group, members) for group, members in groups if any(seen_steps(run) for run in members)]
    exact = any(curve(run, "exact") for _, members in drawn for run in members)
    seen = "exact" if exact else "selection"
    medians = [(median([curve(run, "believes") for run in members]), median([curve(run, seen) for run in members])) for _, members in drawn]
    practice = ends(verdict.get("practice"))
    level = (verdict.get("exact") or {}).get("practice") if exact else practice.value if practice else None
    within = curves_axis(medians, level)
    minis = [
        (named(group["name"], 34), curves_mini(members, seen, within, level, verdict.get("chosen"), terms, called(group["name"])),
         any(run["id"] == verdict.get("chosen") for run in members))
        for group, members in drawn[:MOST_MINIS]
    ]  # fmt: skip
    return {
        "lead": policy_words.policies_lead(list(runs.values()), policies.get("groups") or ()), "safe": safe_name(policies),
        "minis": minis, "more": max(len(drawn) - MOST_MINIS, 0), "title": policy_words.curves_title(medians, exact), "exact": exact,
        "level": scale.level(level) if level is not None else None, "seeds": any(len(members) > 1 for _, members in drawn),
        "believes": any(known(v) for line, _ in medians for v in line),
        "rows": [run_row(run, names, verdict.get("chosen"), terms) for run in runs.values()],
        "groups": [group_row(group, members) for group, members in groups],
    }  # fmt: skip


def safe_name(policies: Part) -> str | None:
    """The safe default, by the name of its group."""
    safe = policies.get("safe")
    return called(next((group["name"] for group in policies.get("groups") or () if group.get("algorithm") == safe), safe)) if safe else None


def run_row(run: Part, names: Mapping[str, str], chosen: str | None, terms: Terms) -> dict:
    """A run in the table of all runs."""
    last = lambda key: next((v for v in reversed(curve(run, key)) if known(v)), None)
    exact = run["exact"] if run.get("exact") is not None else last("exact")
    numbers = [(terms.scale.bare(x), "" if x is None else x) for x in (last("selection"), run.get("believes"), exact)]
    remark = f"broke off: {told(run['fault'])}" if run.get("fault") is not None else told(run["what"]) if run.get("what") else ""
    return {"name": names[run["id"]], "seed": run.get("seed"), "me": run["id"] == chosen, "numbers": numbers, "remark": remark}


def group_row(group: Part, members: Sequence[Part]) -> tuple[str, str, str, str, str]:
    """(name, algorithm, settings, why it was tried, source); of a setting that differs between its runs all values."""
    fields = [run.get("fields") or {} for run in members]
    say = lambda v: short(v, 4) if isinstance(v, (int, float)) and not isinstance(v, bool) else called(v, 40)
    values = {
        key: list(dict.fromkeys(say(one[key]) for one in fields if key in one))
        for key in dict.fromkeys(key for one in fields for key in one)
    }
    text = lambda key, most: told(group[key], most) if group.get(key) else ""
    settings = "; ".join(f"{called(key, 40)}\u00a0{listed(found, 'or')}" for key, found in values.items())
    return called(group["name"]), text("algorithm", 40), settings, text("why", 300), text("source", 160)


def curve(run: Part, key: str) -> list[Number | None]:
    return list((run.get("curve") or {}).get(key) or ())


def seen_steps(run: Part) -> list[Number]:
    return [step for step in curve(run, "step") if step is not None]


def median(lines: Sequence[Sequence[Number | None]]) -> list[Number | None]:
    """By step, over the runs that have it."""
    longest = max((len(line) for line in lines), default=0)
    columns = [[v for line in lines if i < len(line) and known(v := line[i])] for i in range(longest)]
    return [statistics.median(column) if column else None for column in columns]


def curves_axis(medians: Sequence[tuple[Sequence[Number | None], Sequence[Number | None]]], level: Number | None) -> charts.Range:
    """All that was seen, and beliefs no further away than the length of that; what lies beyond is told by an arrow."""
    seen = [v for _, line in medians for v in line if known(v)]
    within = charts.around(seen or [v for line, _ in medians for v in line], [level] if level is not None else [])
    span = within[1] - within[0]
    near = [v for line, _ in medians for v in line if known(v) and within[0] - span <= v <= within[1] + span]
    return charts.around([*within, *near], room=0)


def curves_mini(
    members: Sequence[Part], seen: str, within: charts.Range, level: Number | None, chosen: str | None, terms: Terms, name: str
) -> Markup:
    """One way of learning: what its runs believe, and what is seen of them, by training step."""
    steps = max((seen_steps(run) for run in members), key=len)
    scale, mine = terms.scale, any(run["id"] == chosen for run in members)
    plot = charts.mini(steps, within, scale.factor)
    if level is not None and within[0] <= level <= within[1]:
        plot.level(plot.up(level), "pracline")
    tips, said = [], []
    for key, look, tip in (("believes", "believed", "mut"), (seen, "s-acc" if mine else "s-oth", "b acc-t" if mine else "b")):
        lines = [curve(run, key) for run in members]
        middle = median(lines)
        last = next((v for v in reversed(middle) if known(v)), None)
        if last is None:
            continue
        for line in lines if len(lines) > 1 else ():
            plot.line(*charts.inside(steps, line, within), f"seed {look}")
        plot.line(*charts.inside(steps, middle, within), f"med {look}")
        beyond = "↑" if last > within[1] else "↓" if last < within[0] else ""
        text = beyond + short(last * scale.factor, 2).replace("\u00a0", "") if beyond else scale.bare(last)
        tips.append((plot.up(min(max(last, within[0]), within[1])), text, tip))
        said.append(f"{ {'believes': 'believed', 'exact': 'true'}.get(key, 'estimated') } {scale.level(last)}")
    for y, (_, text, kind) in zip(charts.spread([y for y, *_ in tips], 13, plot.top, plot.bottom), tips):
        plot.text(plot.right + 4, y + 4, text, kind)
    return plot.svg(f"{name}: {', '.join(said) or 'nothing'} at the end of training.", "mini")


# estimates ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Judged:
    """A row of the forest."""

    id: str
    name: str
    note: str
    role: str
    value: Ends | None
    net: Ends | None
    effective: Number | None
    k: Number | None
    exact: Number | None
    kind: str
    "How it is drawn: acc, acc thin, prac, oth, dim."
    refused: str = ""
    "Why there is no estimate."


def estimates_part(study: Part, terms: Terms, names: Mapping[str, str]) -> dict:
    estimates, verdict, scale = study["estimates"], study["verdict"], terms.scale
    runs = {run["id"]: run for run in (study["policies"] or {}).get("runs") or ()}
    rows = [judged(found, runs.get(found["id"]) or {}, names, verdict.get("chosen")) for found in estimates.get("rows") or ()]
    rows.sort(
        key=lambda row: (
            row.role != "control",
            row.id != verdict.get("chosen"),
            row.value is None,
            row.kind == "dim",
            -(row.value.value if row.value else 0),
        )
    )
    n = verdict.get("episodes")
    practice = Judged(
        "practice", "Current practice", f"observed in {terms.of_episodes(n)}" if n else "as observed", "practice",
        ends(estimates.get("practice") or verdict.get("practice")), None, n, None, (verdict.get("exact") or {}).get("practice"), "prac",
    )  # fmt: skip
    truths = [row.exact for row in (practice, *rows) if row.exact is not None]
    sound = [row.value for row in (practice, *rows) if row.kind != "dim" and row.value] or [row.value for row in rows]
    within = charts.fair(sound, truths)
    marks = charts.ticks(*within)
    line = [(practice.value.value, "pracline")] if practice.value else []
    drawn = lambda row: charts.interval_row(
        row.value and row.value.value, row.value and row.value[1:], within, kind=row.kind, exact=row.exact, marks=line, grid=marks,
        label=words.spoken(row.name, row.value, terms) + (f"; true value {scale.level(row.exact)}" if row.exact is not None else ""),
    )  # fmt: skip
    shown = rows[:MOST_ROWS] if len(rows) > MOST_ROWS + 2 else rows
    learned = [policy_words.Row(row.name, row.value and row.value.value, row.effective, row.net) for row in rows if row.role != "control"]
    return {
        "lead": policy_words.estimates_lead(ends(verdict.get("control")), verdict.get("margin"), n, terms, verdict.get("share")),
        "title": policy_words.forest_title(learned, terms),
        "rows": [(row, drawn(row)) for row in (practice, *shown)], "rest": [(row, drawn(row)) for row in rows[len(shown) :]],
        "axis": charts.axis_row(marks, within, charts.compact(marks, scale.factor)), "truth": bool(truths),
        "dim": any(row.kind in ("dim", "acc thin") for row in shown),
        "refused": [(row.name, row.refused) for row in rows if row.refused],
        "why": capitalised(told(estimates["why"], 600)).rstrip(".") + "." if estimates.get("why") else "",
        "estimator": policy_words.estimator(estimates.get("estimator")), "others": others_part(estimates, verdict, terms),
    }  # fmt: skip


def judged(found: Part, run: Part, names: Mapping[str, str], chosen: str | None) -> Judged:
    value, id = found.get("value") or {}, found["id"]
    role = run.get("role") or ("control" if id == "control" else "candidate")
    worth, e = value.get("effective"), ends(found.get("value"))
    thin = e is None or (worth is not None and worth < FEW)
    kind = ("acc thin" if thin else "acc") if id == chosen else "prac" if role == "control" else "dim" if thin else "oth"
    note = found.get("note") or run.get("what") or ("changes nothing: the negative control" if role == "control" else "")
    name = names.get(id, "Copy of practice" if role == "control" else called(id))
    k = found.get("pareto_k") if e else None
    refused = told(value["refused"], 600) if value.get("refused") else ""
    return Judged(id, name, told(note, 160) if note else "", role, e, ends(found.get("net")), worth, k, found.get("exact"), kind, refused)


def others_part(estimates: Part, verdict: Part, terms: Terms) -> dict | None:
    """The chosen policy by several estimators, the primary one first."""
    exact, first = (verdict.get("exact") or {}).get("value"), ends(verdict.get("value"))
    others = [(policy_words.estimator(one["name"]), one.get("what") or "", ends(one.get("value")), (one.get("value") or {}).get("refused"))
              for one in estimates.get("others") or ()]  # fmt: skip
    if not others:
        return None
    rows = [(policy_words.estimator(estimates.get("estimator")), "the primary estimate", first, None)] * bool(first) + others
    found = [e for _, _, e, _ in rows if e]
    within = charts.fair(found, [exact] if exact is not None else [])
    marks, drawn = charts.ticks(*within, 4), []
    for name, what, e, refused in rows:
        picture = charts.interval_row(
            e and e.value, e and e[1:], within, kind="acc" if e is first and e else "oth", grid=marks, label=words.spoken(name, e, terms),
            marks=[(exact, "truthline")] if exact is not None else [],
        )  # fmt: skip
        note = told(refused) if refused and not e else told(what) if what else ""
        drawn.append((capitalised(name), note, picture, terms.scale.interval(e, refused="refused"), ""))
    axis = charts.axis_row(marks, within, charts.compact(marks, terms.scale.factor))
    return {
        "rows": drawn,
        "axis": axis,
        "title": policy_words.others_title(found, exact, terms),
        "exact": None if exact is None else terms.scale.bare(exact),
    }


# choice ------------------------------------------------------------------------------------------------------------------------


def choice_part(study: Part, terms: Terms, names: Mapping[str, str]) -> dict:
    verdict, choice, scale = study["verdict"], study["choice"] or {}, terms.scale
    rows, chosen = choice.get("rows") or (), choice.get("chosen")
    kept = next((split["episodes"] for split in (study["data"] or {}).get("splits") or () if split["name"] == "selection"), None)
    gain, margin = (verdict.get("exact") or {}).get("gain"), verdict.get("margin")
    text = lambda part, key: told(part[key]) if part.get(key) else ""
    return {
        "lead": policy_words.choice_lead(choice, kept, terms) if study["choice"] else "",
        "how": text(choice, "how").rstrip("."), "correction": text(choice, "correction").rstrip("."),
        "figure": choice_figure(rows, chosen, terms, names) if rows else None, "kept": bool(kept),
        "holm": [(names.get(row["id"], called(row["id"])), row.get("accepted"), scale.bare(row.get("low"), True), row.get("p"), text(row, "reason"))
                 for row in choice.get("holm") or ()],
        "rule": [(words.VERDICTS[step["word"]], called(step["asks"], 300), text(step, "here"), step.get("holds"), bool(step.get("decides")))
                 for step in verdict["rule"] or ()],
        "bears": words.bears(verdict), "errors": words.errors_text(verdict.get("errors")), "margin": scale.margin(margin) if margin else "",
        "margin_from": text(verdict, "margin_from").rstrip("."), "right": "" if gain is None else words.right(verdict["word"], gain, margin or 0.0, terms),
    }  # fmt: skip


def choice_figure(rows: Sequence[Part], chosen: str | None, terms: Terms, names: Mapping[str, str]) -> dict:
    """Gains over the control, by the episodes that chose."""
    name = lambda row: names.get(row["id"], called(row["id"]))
    refused, judged = ([row for row in rows if (ends(row.get("net")) is None) == none] for none in (True, False))
    scale, shown = terms.scale, judged[:MOST_ROWS]
    within = charts.fair([ends(row.get("net")) for row in shown if row.get("eligible")] or [ends(row.get("net")) for row in shown], [0.0])
    marks, drawn = charts.ticks(*within, 4), []
    for row in shown:
        e = ends(row["net"])
        picture = charts.interval_row(
            e.value, e[1:], within, kind="acc" if row["id"] == chosen else "oth" if row.get("eligible") else "dim",
            marks=[(0.0, "zero")], grid=marks, label=words.spoken(name(row), e, terms, sign=True),
        )  # fmt: skip
        number = Markup('lower {} <span class="ci in">· worth {}</span>').format(scale.bare(e.low, True), count(row.get("effective")))
        why = "" if row.get("eligible") else told(row.get("why") or "not eligible", 160)
        drawn.append((named(name(row), 40), why, picture, number, "me" if row["id"] == chosen else ""))
    axis = charts.axis_row(marks, within, charts.compact(marks, scale.factor, True))
    why = [(name(row), told(row.get("why") or "no reason is given")) for row in refused]
    return {
        "rows": drawn,
        "axis": axis,
        "title": policy_words.choice_title(rows, chosen, names),
        "more": len(judged) - len(shown),
        "refused": why,
    }


# what changes ------------------------------------------------------------------------------------------------------------------


def changes_part(changes: Part, terms: Terms) -> dict:
    if changes.get("refused"):
        return {"refused": capitalised(told(changes["refused"]))}
    means, actions = changes.get("kind") == "means", changes.get("actions") or ()
    return {
        "refused": None, "lead": policy_words.changes_lead(changes.get("same"), terms), "means": means,
        "actions": (means_part if means else shares_part)(actions), "groups": groups_part(changes.get("groups") or (), actions, means),
        "states": [state_row(state) for state in changes.get("states") or ()], "tree": tree_part(changes["tree"]) if changes.get("tree") else None,
    }  # fmt: skip


def shares_part(actions: Sequence[Part]) -> dict | None:
    """Shares of decisions, practice and policy; those that change most."""
    found = [a for a in actions if known(a.get("practice")) and known(a.get("policy"))]
    if not found:
        return None
    shown = sorted(found, key=lambda a: -abs(a["policy"] - a["practice"]))[:MOST_ACTIONS]
    top = max(max(a["practice"], a["policy"]) for a in shown)
    marks = charts.ticks(0, max(top, 0.01), 4)
    within, digits, rows = (0.0, max(top * 1.04, marks[-1])), 1 if top > 0.02 else 2, []
    for a in shown:
        label = f"{called(a['name'])}: practice {pct(a['practice'], digits)} %, learned policy {pct(a['policy'], digits)} %"
        drawn = charts.dots_row([(a["practice"], "d-prac"), (a["policy"], "d-acc")], within, grid=marks, label=label)
        rows.append((named(a["name"], 24), drawn, pct(a["practice"], digits), pct(a["policy"], digits)))
    axis = charts.axis_row(marks, within, charts.say_ticks(marks, 100.0))
    return {"rows": rows, "axis": axis, "title": policy_words.shift_title(found), "of": len(found)}


def means_part(actions: Sequence[Part]) -> dict | None:
    """Mean actions: how far the policy's lies from practice's, in standard deviations of the log; the numbers are in its units."""
    found = [
        (a, (a["policy"] - a["practice"]) / (a.get("sd") or 1.0)) for a in actions if known(a.get("practice")) and known(a.get("policy"))
    ]
    if not found:
        return None
    shown = sorted(found, key=lambda pair: -abs(pair[1]))[:MOST_ACTIONS]
    within = charts.around([0.0, *(x for _, x in shown)], [-0.1, 0.1])
    marks, rows = charts.ticks(*within, 4), []
    for a, x in shown:
        label = f"{called(a['name'])}: practice {short(a['practice'])}, learned policy {short(a['policy'])}"
        drawn = charts.dots_row([(0.0, "d-prac"), (x, "d-acc")], within, grid=marks, label=label)
        rows.append((named(a["name"], 24), drawn, short(a["practice"]), short(a["policy"])))
    axis = charts.axis_row(marks, within, charts.say_ticks(marks, 1.0, True))
    return {"rows": rows, "axis": axis, "title": policy_words.mean_title(shown[0][0]["name"], shown[0][1]), "of": len(found)}


def groups_part(groups: Sequence[Part], actions: Sequence[Part], means: bool) -> dict | None:
    """Where it changes: by action and group of situations, in points, or in standard deviations of continuous actions."""
    groups = [g for g in groups if g.get("practice") and g.get("policy")][:MOST_COLUMNS]
    if len(groups) < 2 or not actions:
        return None
    unit = [(a.get("sd") or 1.0) if means else 0.01 for a in actions]
    change = lambda g, i: (g["policy"][i] - g["practice"][i]) / unit[i] if known(g["policy"][i]) and known(g["practice"][i]) else None
    moves = [[change(g, i) for g in groups] for i in range(len(actions))]
    most = sorted(range(len(actions)), key=lambda i: -max((abs(v) for v in moves[i] if v is not None), default=0))[:MOST_ACTIONS]
    order, heads = sorted(most), [f"{g['by']}, {group_name(g)}" if g.get("by") else group_name(g) for g in groups]
    shown, names = [moves[i] for i in order], [str(actions[i]["name"]) for i in order]
    over = [(by, len(list(same))) for by, same in itertools.groupby(g.get("by") or "" for g in groups)]
    table = charts.heat(
        names, [group_name(g) for g in groups], shown, lambda v: num(v, 1, True), diverging=True, over=over if any(by for by, _ in over) else (),
        caption="Change of each action by groups of situations",
    )  # fmt: skip
    return {"table": table, "title": policy_words.where_title(shown, names, heads, means), "more": len(actions) - len(order)}


def group_name(group: Part) -> str:
    """Its name without the column by which groups are made, or the range of that."""
    low, high = group.get("low"), group.get("high")
    if group.get("name"):
        return str(group["name"]).removeprefix(f"{group.get('by')}, ")
    if low is not None and low == high:
        return short(low)
    return f"up to {short(high)}" if low is None else f"above {short(low)}" if high is None else f"{short(low)} to {short(high)}"


def ruled(node: Part) -> Part:
    """A node of the tree and those below it, each with what its two branches ask for."""
    if not node.get("left"):
        return node
    rules = {name: policy_words.branch(node["column"], node["threshold"], above) for name, above in (("low", False), ("high", True))}
    return {**node, **rules, "left": ruled(node["left"]), "right": ruled(node["right"])}


def state_row(state: Part) -> dict:
    """A situation that changes."""
    about = ", ".join(f"{called(key, 30)} {short(value)}" for key, value in list((state.get("about") or {}).items())[:4])
    old, new = state["practice"], state["policy"]
    return {
        "name": state["name"], "about": about, "visits": state.get("visits"), "moves": None if state.get("same") is None else 1 - state["same"],
        "old": old["action"], "old_share": old.get("share"), "new": new["action"], "before": new.get("before"), "new_share": new.get("share"),
    }  # fmt: skip


def tree_part(tree: Part) -> dict:
    """Classes are "as practice" and kinds of change. Three of them with the former in the middle are drawn as less, same and more."""
    classes = [called(name, 40) for name in tree["classes"]]
    return {
        "root": ruled(tree["root"]), "classes": classes, "three": len(classes) == 3 and classes[1] == "as practice",
        "asks": called(tree["asks"], 200) if tree.get("asks") else "",
        "leaves": tree.get("leaves"), "folds": tree.get("folds"), "same": classes.index("as practice") if "as practice" in classes else 0,
        "title": policy_words.tree_title(tree.get("fidelity"), tree.get("constant")), "text": policy_words.tree_text(tree.get("fidelity"), tree.get("constant")),
    }  # fmt: skip
