"""The page of a log: what it holds, how its decisions were made, how far from them another policy may go, and what may be concluded.

Everything is made from the numbers of `study.describe`. `view` turns them into the pictures and sentences that the macros of
`data_sections.j2` lay out; the page of a study shows some of them too.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from . import charts
from .conclusions import READ, Answer, Nouns, answer, believable, chosen, conclusions, scale
from .kit import GAP, Scale, called, capitalised, count, listed, num, page, pct, short, some

Numbers = Mapping[str, Any]

ANSWERS = {
    "bold": "It can judge bold changes.",
    "near": "It can judge small changes.",
    "practice": "It can describe practice only.",
    "unweighed": "It cannot weigh other policies.",
}
TOWARD = {"random": "Acting at random", "usual": "Doing what is commonest", "firmer": "Acting with half the spread"}
SHOWN, WIDEST = 12, 10
"Bars of a picture; columns of a table of counts that fits beside the text."


def data_page(d: Numbers, *, command: str, nouns: Nouns = Nouns()) -> str:  # noqa: B008, a constant
    """The HTML. `command` is what made it."""
    seen = view(d, nouns)
    rail = [
        [(name, title, None) for name, title in (("conclusions", "Conclusions"), ("data", "Data"), ("columns", "Columns"), ("coverage", "Coverage"),
                                                 ("practice", "Practice"), ("reach", "Reach"), ("gains", "Gains"))],
        [("limits", "Limits", None), ("reproduce", "Reproduce", None), ("glossary", "Glossary", None)],
    ]  # fmt: skip
    about = f"What {some(d['episodes']['count'], nouns.episode, nouns.episodes)} can say about policies other than the one that made them."
    return page(
        "data.html.j2", title=f"{called(d['source'])} · data report", about=about, what=f"Data report: {called(d['source'])}", badge=None, rail=rail,
        footer=f"Made from {called(d['source'])} by topstitch.", card=d, v=seen, command=command,
    )  # fmt: skip


def view(d: Numbers, nouns: Nouns = Nouns()) -> dict[str, Any]:  # noqa: B008, a constant
    """What the macros need: the numbers `d`, nouns, sentences, and the parts below."""
    say = scale(d)
    return {
        "d": d, "n": nouns, "say": say, "said": conclusions(d, nouns), "answer": opening(d, nouns, say), "logged": logged(d, nouns, say),
        "columns": columns(d, nouns), "coverage": coverage(d, nouns), "practice": practice(d, nouns), "reach": reach(d, nouns),
        "gains": gains(d, nouns, say),
    }  # fmt: skip


# the answer ------------------------------------------------------------------------------------------------------------------


def opening(d: Numbers, nouns: Nouns, say: Scale) -> dict[str, Any]:
    found, episodes, returns = answer(d), d["episodes"], d["episodes"]["returns"]
    worth = d["reach"] and d["reach"]["toward"]["random"]["effective"][-1][-1]
    third = (
        (f"worth {count(worth)}", f"What {some(d['reach']['episodes'], nouns.episode, nouns.episodes)} would be worth for a policy that always acts at random.")
        if d["reach"] else ("unknown", "What they are worth for another policy: how decisions were made is not known.")
    )  # fmt: skip
    return {
        "code": found.code,
        "word": ANSWERS[found.code],
        "sentence": sentence(d, found, nouns, say),
        "facts": [
            (some(episodes["count"], nouns.episode, nouns.episodes), f"with {some(episodes['steps'], nouns.step, nouns.steps)}; {count(episodes['truncated']) if episodes['truncated'] else 'none'} of them cut off by the record."),
            (say.level(returns["mean"]), f"What practice earns in {article(nouns.episode)} {nouns.episode}, on average."),
            third,
        ],
    }  # fmt: skip


def sentence(d: Numbers, found: Answer, nouns: Nouns, say: Scale) -> str:
    n = some(d["reach"]["episodes"], nouns.episode, nouns.episodes) if d["reach"] else ""
    first = {
        "bold": f"Even a policy that departs from practice at every {nouns.step} can be judged: {n} are then still worth {READ} or more",
        "near": f"A policy may depart from practice in up to {pct(found.share, 0)}{GAP}% of the {nouns.steps} before {n} are worth fewer than {READ}",
        "practice": f"A policy that departs from practice in {'more than ' + pct(found.share, 0) if found.share else 'as little as 1'}{GAP}% of the {nouns.steps} leaves fewer than {READ} of {n} to judge it by",
        "unweighed": f"{capitalised(nouns.episodes)} cannot be weighed for another policy: {(d['practice']['refused'] or '').rstrip('.')}",
    }[found.code]  # fmt: skip
    row = chosen(d)
    if row["held_out"] is None or not believable(d):
        return first + "."
    left = sum(row["held_out"]) / 2
    seems = "seems to gain" if d["stitching"]["exact"] else "seems to gain, at most,"
    if min(row["held_out"]) > 0:
        return f"{first}. Doing only what was done before, but better put together, {seems} {say.diff(left)} over practice."
    return f"{first}. No gain is to be seen in putting together better what was done before."


def article(noun: str) -> str:
    return "an" if noun[:1].lower() in "aeiou" else "a"


# 1 what was logged -----------------------------------------------------------------------------------------------------------


def logged(d: Numbers, nouns: Nouns, say: Scale) -> dict[str, Any]:
    lengths, returns = d["episodes"]["lengths"], d["episodes"]["returns"]
    whole = lambda x: num(x, 0)
    one = lengths["high"] == 1
    middle = f"middle half {whole(lengths['q25'])} to {whole(lengths['q75'])}, longest {whole(lengths['high'])}"
    return {
        "lengths": None if one else {
            "title": f"Every {nouns.episode} has {some(lengths['high'], nouns.step, nouns.steps)}" if lengths["low"] == lengths["high"] else
                     f"Half of the {nouns.episodes} have {whole(lengths['median'])} {nouns.steps} or fewer",
            "small": f"Number of {nouns.episodes} by their {nouns.steps}; {middle}{beyond(lengths['histogram'])}",
            "picture": picture(lengths["histogram"], f"{nouns.steps} in the {nouns.episode}", whole, (lengths["median"], f"median {whole(lengths['median'])}"),
                               f"Histogram of {nouns.steps} in the {nouns.episode}: median {whole(lengths['median'])}, {middle}."),
        },
        "returns": spread_of(returns, "return", nouns, say),
        "rewards": None if one or d["rewards"]["last"] > 0.999 or d["rewards"]["low"] == d["rewards"]["high"] else spread_of(d["rewards"], "reward", Nouns(nouns.step, nouns.steps, nouns.step, nouns.steps), Scale.of([d["rewards"]["low"], d["rewards"]["high"]], [d["rewards"]["sd"]])),
        "one": one,
    }  # fmt: skip


def spread_of(x: Numbers, what: str, nouns: Nouns, say: Scale) -> dict[str, Any]:
    """How one quantity is spread over episodes or decisions."""
    values, write = x["histogram"].get("values"), say.level if say.share else short
    if x["low"] == x["high"]:
        title = f"Every {nouns.episode} has the {what} {short(x['low'])}"
    elif values is not None and len(values) == 2:
        share = x["histogram"]["counts"][1] / sum(x["histogram"]["counts"])
        title = f"{pct(share)}{GAP}% of the {nouns.episodes} have the {what} {short(values[1])}, all others {short(values[0])}"
    elif x["q25"] == x["q75"]:
        title = f"More than half of the {nouns.episodes} have the {what} {write(x['median'])}"
    else:
        title = f"Half of the {nouns.episodes} have a {what} between {write(x['q25'])} and {write(x['q75'])}"
    unit = f", {say.label}" if say.label else ""
    label = f"Histogram of the {what}: mean {say.level(x['mean'])}, from {say.level(x['low'])} to {say.level(x['high'])}."
    return {
        "title": title,
        "small": f"Number of {nouns.episodes} by {what}{unit if values is None else ''}; mean {say.level(x['mean'])}{beyond(x['histogram'])}",
        "picture": picture(
            x["histogram"], f"{what} of the {nouns.episode}{unit}", say.bare, (x["mean"], f"mean {say.bare(x['mean'])}"), label
        ),
    }


def beyond(histogram: Numbers) -> str:
    """What a picture does not show."""
    sides = [f"{count(histogram[side])} {word}" for side, word in (("below", "lower"), ("above", "higher")) if histogram.get(side)]
    return f"; {listed(sides)} lie beyond the axis" if sides else ""


def picture(histogram: Numbers, xlabel: str, say, mark: tuple[float, str], label: str) -> Markup:
    """A histogram; of few values that are far apart, bars with their counts."""
    if "edges" in histogram:
        edges, counts = histogram["edges"], histogram["counts"]
        mark = mark if edges[0] <= mark[0] <= edges[-1] else None
        return charts.histogram(edges, counts, label=label, xlabel=xlabel, say=say, mark=mark)
    values, counts = histogram["values"], histogram["counts"]
    if len(values) > 6 and all(v == round(v) for v in values) and values[-1] - values[0] <= 60:
        first, filled = int(values[0]), [0] * (int(values[-1] - values[0]) + 1)
        for v, n in zip(values, counts):
            filled[int(v) - first] = n
        edges = [first - 0.5 + i for i in range(len(filled) + 1)]
        return charts.histogram(edges, filled, label=label, xlabel=xlabel, say=say, mark=mark)
    return bars([short(v) for v in values], counts, xlabel, label)


def bars(names: Sequence[str], counts: Sequence[int], xlabel: str, label: str, width: int = 320, height: int = 190) -> Markup:
    """One bar for each value, with its count over it."""
    top = max(counts) * 1.16
    ys = charts.ticks(0, top, 4)
    plot = charts.Plot(
        width, height, left=14 + 7 * max(len(count(y)) for y in ys), right=8, bottom=44, x=(0, len(names)), y=(0, top)
    ).yticks(ys, count)
    every = max(1, -(-sum(7 * len(name) + 10 for name in names) // int(plot.right - plot.left)))
    for i, (name, n) in enumerate(zip(names, counts)):
        middle, wide = plot.across(i + 0.5), min(60.0, 0.7 * (plot.right - plot.left) / len(names))
        plot.box(middle - wide / 2, plot.up(n), wide, plot.bottom - plot.up(n), "f-prac")
        if len(names) <= 4:
            plot.text(middle, round(plot.up(n) - 5, 1), count(n), "b", "middle")
        if i % every == 0:
            plot.text(middle, plot.bottom + 17, name, "mut", "middle")
    return plot.base().xlabel(xlabel).svg(label)


# 2 columns -------------------------------------------------------------------------------------------------------------------


def columns(d: Numbers, nouns: Nouns) -> dict[str, Any]:
    seen, done = d["observations"], d["actions"]
    return {
        "seen": [column(each) for each in seen.get("columns", ())],
        "done": [column(each) for each in done.get("columns", ())],
        "states": members(seen, nouns, "state") if seen["kind"] == "states" else None,
        "choices": [members(done, nouns, "action")] if done["kind"] == "choice" else [members(each, nouns, f"member of {called(each['name'], 24)}") for each in done.get("parts", ())],
        "grid": grid(done["grid"], nouns) if "grid" in done else None,
    }  # fmt: skip


def column(x: Numbers) -> dict[str, Any]:
    """One row of a table of columns."""
    say = Scale.of([x["low"], x["high"]], [x["sd"]])
    label = f"{called(x['name'])}: from {short(x['low'])} to {short(x['high'])}, median {short(x['median'])}"
    return {"name": x["name"], "say": say, "x": x, "spark": spark(x["histogram"], label), "bounds": x.get("at_low"), "further": beyond(x["histogram"])}  # fmt: skip


def spark(histogram: Numbers, label: str) -> Markup:
    """A histogram in a row of a table: it stretches, and has no numbers of its own."""
    counts, top = histogram["counts"], max(histogram["counts"])
    wide = 100 / len(counts)
    bar = Markup('<rect x="{}%" width="{}%" y="{}%" height="{}%" class="f-prac"/>')
    parts = [
        bar.format(f"{i * wide:.2f}", f"{wide * 0.86:.2f}", f"{96 - 92 * n / top:.1f}", f"{92 * n / top:.1f}")
        for i, n in enumerate(counts)
        if n
    ]
    floor = Markup('<line x1="0" x2="100%" y1="97%" y2="97%" class="axis"/>')
    return charts.row([*parts, floor], label)


def members(x: Numbers, nouns: Nouns, what: str) -> dict[str, Any]:
    """The commonest states or choices."""
    total = sum(each["count"] for each in x["members"]) + x["others"]
    shown = x["members"][:SHOWN]
    first, rest = shown[0], x["seen"] - len(shown)
    top = first["count"] / total
    within = (0.0, top * 1.02)
    marks = charts.ticks(0, within[1], 4)
    digits = 1 if top >= 0.01 else 2
    row = lambda each: (called(each["name"], 24), charts.bar_row(each["count"] / total, within, grid=marks, label=f"{what} {called(each['name'])}: {count(each['count'])} {nouns.steps}, {pct(each['count'] / total, digits)} %"), pct(each["count"] / total, digits))  # fmt: skip
    return {
        "title": f"Half of the {nouns.steps} fall on {count(x['half'])} of {count(x['seen'])} {what}s" if x["seen"] > 4 else f"{pct(top)}{GAP}% of the {nouns.steps} are {what} {called(first['name'], 24)}" if x["seen"] > 1 else f"There is a single {what}, {called(first['name'], 24)}",
        "small": f"Share of {nouns.steps}, %" + (f"; the commonest {len(shown)} of {count(x['seen'])} that occur" if rest > 0 else ""),
        "rows": [row(each) for each in shown],
        "axis": charts.axis_row(marks, within, charts.say_ticks(marks, 100)),
    }  # fmt: skip


def grid(x: Numbers, nouns: Nouns) -> dict[str, Any]:
    total = sum(map(sum, x["counts"]))
    shares = [[n / total for n in row] for row in x["counts"]]
    i, j = max(((i, j) for i, row in enumerate(shares) for j in range(len(row))), key=lambda at: shares[at[0]][at[1]])
    common = f"{called(x['rows'])} {called(x['row_names'][i])} with {called(x['columns'])} {called(x['column_names'][j])}"
    return {
        "title": f"The commonest action is {common}, in {pct(shares[i][j])}{GAP}% of the {nouns.steps}",
        "small": f"Share of all {nouns.steps}, %; rows {called(x['rows'])}, columns {called(x['columns'])}",
        "table": charts.heat(x["row_names"], x["column_names"], shares, pct, corner=called(x["rows"], 12), caption=f"Share of {nouns.steps} by {called(x['rows'])} and {called(x['columns'])}, in percent"),
    }  # fmt: skip


# 3 coverage ------------------------------------------------------------------------------------------------------------------


def group(x: Numbers) -> str:
    """What a number of a state or an action stands for."""
    if "name" in x:
        return called(x["name"], 28)
    if "low" in x:
        return f"{short(x['low'], 2)} to {short(x['high'], 2)}"
    return ", ".join(f"{called(name, 16)} {num(z, 1, sign=True)}" for name, z in x["centre"])


def steps_of(levels: Sequence[int]) -> list[str]:
    """never, once, 2–4, …, 50 or more."""
    ends = [f"{a}–{b - 1}" if b - a > 1 else {0: "never", 1: "once"}.get(a, str(a)) for a, b in pairwise(levels)]
    return [*ends, f"{levels[-1]} or more"]


def coverage(d: Numbers, nouns: Nouns) -> dict[str, Any]:
    x = d["coverage"]
    state = "state" if x["numbered"] else "cell"
    untried = x["pairs"][0]
    within, marks = (0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]
    rows = [
        (name, charts.dots_row([(a, "d-lo"), (b, "d-hi")], within, grid=marks, label=f"{name}: {pct(a)} % of the pairs, {pct(b)} % of the {nouns.steps}"), pct(a), pct(b))
        for name, a, b in zip(steps_of(x["levels"]), x["pairs"], x["decisions"])
    ]  # fmt: skip
    names = [group(each) for each in x["counts"]["actions"]]
    wordy = any("centre" in each for each in x["counts"]["actions"])
    heads = [f"group {i + 1}" for i in range(len(names))] if wordy else names
    states = [group(each) if x["numbered"] else f"cell {i + 1}" for i, each in enumerate(x["counts"]["states"])]
    shares = [[n / each["visits"] for n in row] for row, each in zip(x["counts"]["rows"], x["counts"]["states"])]
    return {
        "state": state,
        "title": f"{pct(1 - untried)}{GAP}% of what could be done was ever done" if untried else f"Every action was done in every {state} that was visited",
        "small": f"Shares of the {count(x['possible'])} pairs of a visited {state} and an action, and of the {nouns.steps}, by how often their pair was logged",
        "rows": rows,
        "axis": charts.axis_row(marks, within, charts.say_ticks(marks, 100)),
        "table": charts.heat(states, heads, shares, lambda v: pct(v, 0) if v >= 0.005 else "<1" if v else "", top=1.0, corner=state, caption=f"Share of {nouns.steps} by action, in percent, in the {len(states)} commonest {state}s"),
        "table_title": f"In the commonest {state}, {'' if wordy else 'action '}{heads[max(range(len(heads)), key=shares[0].__getitem__)]} is done most: {pct(max(shares[0]), 0)}{GAP}% of the time",
        "table_small": f"Share of the {nouns.steps} in that {state} with each action, %; the {len(states)} commonest of {count(x['seen'])} {state}s" + (f" and {len(heads)} of {count(x['actions'])} actions" if len(heads) < x["actions"] else ""),
        "wide": len(heads) > WIDEST,
        "groups": [*(zip(states, map(group, x["counts"]["states"])) if not x["numbered"] else ()), *(zip(heads, names) if wordy else ())],
    }  # fmt: skip


# 4 practice ------------------------------------------------------------------------------------------------------------------


def practice(d: Numbers, nouns: Nouns) -> dict[str, Any]:
    x = d["practice"]
    if x["refused"] is not None:
        return {"refused": x["refused"], "recorded": x["recorded"]}
    choices = d["actions"]["kind"] != "vectors"
    out = {
        "refused": None,
        "recorded": x["recorded"],
        "choices": choices,
        "calibration": calibration(x["calibration"], choices, nouns),
        "done": None,
    }
    if choices:
        names = [f"{short(100 * a, 2)} to {short(100 * b, 2)}{GAP}%" for a, b in zip(x["done"]["edges"], x["done"]["edges"][1:])]
        names[0] = f"below {short(100 * x['done']['edges'][1], 2)}{GAP}%"
        top = max(x["done"]["share"])
        within = (0.0, top * 1.02)
        marks = charts.ticks(0, within[1], 4)
        rare = sum(share for edge, share in zip(x["done"]["edges"][1:], x["done"]["share"]) if edge <= 0.01)
        out["done"] = {
            "title": f"{pct(rare)}{GAP}% of what was done had a probability below 1{GAP}%",
            "small": f"Share of {nouns.steps}, %, by the probability of what was done; the smallest is {short(100 * x['done']['least'], 2)}{GAP}%",
            "rows": [(name, charts.bar_row(share, within, grid=marks, label=f"probability {name}: {pct(share)} % of the {nouns.steps}"), pct(share)) for name, share in zip(names, x["done"]["share"])],
            "axis": charts.axis_row(marks, within, charts.say_ticks(marks, 100)),
        }  # fmt: skip
    return out


def calibration(x: Numbers, choices: bool, nouns: Nouns) -> dict[str, Any]:
    pairs = [(p, o, n) for p, o, n in zip(x["predicted"], x["observed"], x["count"])]
    if not choices:
        marks = [0.0, 0.25, 0.5, 0.75, 1.0]
        plot = charts.Plot(320, 260, left=48, right=16, top=24, bottom=44, x=(0, 1), y=(0, 1))
        plot.yticks(marks, charts.say_ticks(marks, 100)).xticks(marks, charts.say_ticks(marks, 100)).base().line([0, 1], [0, 1], "ref")
        for p, o, _ in pairs:
            plot.dot(p, o, 4, "d-prac")
        plot.text(2, 12, "observed, %", "mut").xlabel("predicted to lie below, %")
        worst = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
        return {
            "title": f"Where {pct(worst[0], 0)}{GAP}% should lie below, {pct(worst[1], 0)}{GAP}% do: the worst of nine levels",
            "small": f"Actions below the quantiles of the model of practice, in {nouns.episodes} that it has not seen",
            "picture": plot.svg("Calibration of the model of practice: " + "; ".join(f"{pct(p, 0)} % predicted below, {pct(o, 0)} % observed" for p, o, _ in pairs)),
        }  # fmt: skip
    positive = [v for p, o, _ in pairs for v in (p, o) if v > 0]
    low = max(min(positive, default=0.1) * 0.6, 1e-6)
    marks = charts.decades(low, 1.0, 5)
    plot = charts.Plot(320, 260, left=58, right=16, top=24, bottom=44, x=(low, 1), y=(low, 1), xlog=True, ylog=True)
    write = lambda v: f"{short(100 * v, 2)}{GAP}%"
    plot.yticks(marks, write).xticks(marks, write).base().line([low, 1], [low, 1], "ref")
    most = max(n for *_, n in pairs)
    for p, o, n in pairs:
        plot.dot(max(p, low), max(o, low), 2.5 + 4 * (n / most) ** 0.5, "d-prac" if o > 0 else "d-lo")
    plot.text(2, 12, "taken", "mut").xlabel("predicted probability of an action")
    p, o, _ = pairs[0]
    times = o / p if p else float("inf")
    rarest = "about as often as predicted" if 0.5 <= times <= 2 else f"{num(times, 1)} times as often as predicted" if times > 2 else "less than half as often as predicted"  # fmt: skip
    return {
        "title": f"The rarest actions are taken {rarest}",
        "small": f"In {nouns.episodes} that the model of practice has not seen; both scales logarithmic; dots grow with the number of pairs of {nouns.step} and action",
        "picture": plot.svg("Calibration of the model of practice, logarithmic scales: " + "; ".join(f"{short(100 * p, 2)} % predicted, {short(100 * o, 2)} % taken" for p, o, _ in pairs)),
    }  # fmt: skip


# 5 reach ---------------------------------------------------------------------------------------------------------------------


def reach(d: Numbers, nouns: Nouns) -> dict[str, Any] | None:
    x = d["reach"]
    if x is None:
        return None
    tables = []
    for name, way in x["toward"].items():
        far = way["furthest"][str(READ)]
        doing = TOWARD["firmer" if name == "usual" and d["actions"]["kind"] == "vectors" else name]
        left = f"leaves {READ} effective {nouns.episodes}"
        title = (f"{doing} in up to {pct(far, 0)}{GAP}% of the {nouns.steps} {left}" if 0 < far < 1 else f"{doing} always {left} or more" if far else
                 f"{doing} in 1{GAP}% of the {nouns.steps} leaves fewer than {READ} effective {nouns.episodes}")  # fmt: skip
        what = f"{doing[:1].lower()}{doing[1:]}"
        tables.append({
            "title": title,
            "small": f"Effective {nouns.episodes}, of {count(x['episodes'])}. Rows: the share of {nouns.steps} that depart from practice, {what}. Columns: {nouns.steps} into the {nouns.episode}",
            "table": charts.heat([f"{pct(share, 0)}{GAP}%" for share in x["shares"]], [count(t) for t in x["steps"]], way["effective"], count, top=float(x["episodes"]),
                                 caption=f"Effective {nouns.episodes} by share of departures and {nouns.steps} into the {nouns.episode}, {what}", corner="share"),
        })  # fmt: skip
    return {"tables": tables}


# 6 gains ---------------------------------------------------------------------------------------------------------------------


def gains(d: Numbers, nouns: Nouns, say: Scale) -> dict[str, Any]:
    x, row = d["stitching"], chosen(d)
    logged = x["logged"]
    points = [
        (f"Worst tenth of the {nouns.episodes}", "as logged", logged["worst_tenth"], None, "oth"),
        ("Practice", "as logged", logged["mean"], None, "prac"),
        (f"Best tenth of the {nouns.episodes}", "as logged", logged["best_tenth"], None, "oth"),
        ("Practice", "in the world of the log", x["practice"], None, "prac"),
        ("At random, among what was done", "in the world of the log", x["uniform"], None, "oth"),
        ("Imitating the best tenth", "in the world of the log", x["imitation"]["value"], x["imitation"]["held_out"], "oth"),
        ("Best of what was done", f"{x['chosen']} times or more", row["value"], row["held_out"], "acc"),
    ]
    left = lambda held: None if held is None else [x["practice"] + gain for gain in held]
    solved = [(value, held) for _, note, value, held, _ in points if note != "as logged"]
    within = charts.around([v for v, _ in solved] + [v for _, held in solved for v in left(held) or ()], [logged["mean"]])
    marks = charts.ticks(*within, 5)
    rows = []
    for name, note, value, held, kind in points:
        halves = left(held)
        ends = (min(halves), max(halves)) if halves else None
        number = (
            say.level(value)
            if halves is None
            else Markup('{} <span class="ci in">believed, {} left</span>').format(say.level(value), say.bare(sum(halves) / 2))
        )
        label = f"{name}, {note}: {say.level(value)}" + (f"; in the other half {say.span(*ends)}" if ends else "")
        drawing = charts.interval_row(value, ends, within, label=label, kind=kind, marks=[(logged["mean"], "pracline")], grid=marks)
        rows.append((name, note, drawing, number, "me" if kind == "acc" else ""))
    held = row["held_out"]
    title = "The world of the log cannot be checked: there are too few " + nouns.episodes
    if not believable(d):
        title = f"The world of the log is no guide: it puts practice at {say.level(x['practice'])}, and the {nouns.episodes} earned {say.level(logged['mean'])}"
    elif held is not None:
        mean = sum(held) / 2
        title = f"Of {say.diff(row['believed'])} that seem to be gained, {say.diff(mean)} are left in {nouns.episodes} that the policy was not found in"
    return {
        "title": title,
        "small": f"Mean return{', ' + say.label if say.label else ''}. Dots: as logged or believed. Bars: practice, and what the policy gains over it in the half of the {nouns.episodes} that it was not found in, for both halves. Dashes: practice as logged",
        "rows": rows,
        "axis": charts.axis_row(marks, within, say.bare),
        "caution": caution(x["thresholds"], say),
        "thresholds": [(each["least"], say.diff(each["believed"]), [say.diff(g) for g in each["held_out"] or ()]) for each in x["thresholds"]],
        "quality": quality(d, nouns, say),
    }  # fmt: skip


def caution(thresholds: Sequence[Numbers], say: Scale) -> str:
    """Which threshold leaves most."""
    if thresholds[0]["held_out"] is None:
        return "What caution costs, in belief"
    best = max(thresholds, key=lambda each: sum(each["held_out"]))
    if min(best["held_out"]) <= 0:
        return (
            "No threshold leaves a gain in both halves"
            if all(min(each["held_out"]) <= 0 for each in thresholds)
            else "The threshold that leaves most leaves nothing in one half"
        )
    return f"Most is left of what was done {'once' if best['least'] == 1 else some(best['least'], 'time')} or more: {say.diff(sum(best['held_out']) / 2)}"


def quality(d: Numbers, nouns: Nouns, say: Scale) -> list[tuple[str, str, str]]:
    """(measure, value, what it is measured by)."""
    found, cover = d["quality"]["trajectory"], d["quality"]["coverage"]
    by = {
        "policies": "from acting at random among what was done to the best of what was done, both in the world of the log",
        "episodes": f"from the worst to the best tenth of the {nouns.episodes}",
        "given": "from the random to the expert return that were given",
    }
    rows = [
        ("Trajectory quality", num(each["value"], 2), f"{by[name]}: {say.level(each['low'])} to {say.level(each['high'])}")
        for name, each in ((n, found[n]) for n in by)
        if each
    ]
    cut = "" if cover["slices"] is None else f", columns cut at {cover['slices']} points"
    rows.append(
        (
            "State-action coverage",
            num(cover["value"], 2),
            f"{count(cover['distinct'])} distinct pairs of {count(cover['reference'])} that as many {nouns.steps} could hold{cut}",
        )
    )
    rows.append(
        ("Effective pairs", count(cover["effective"]), "as many pairs, equally often, would be as mixed (the exponential of the entropy)")
    )
    return rows  # fmt: skip
