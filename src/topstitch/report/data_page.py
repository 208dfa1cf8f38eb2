"""The page of a log: what it holds, how its decisions were made, how far from them another policy may go, and what may be concluded.

Everything is made from the numbers of `study.describe`. `view` turns them into the pictures and sentences that the macros of
`data_sections.j2` lay out; the page of a study shows some of them too.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from . import charts
from .conclusions import READ, Answer, Nouns, answer, believable, chosen, conclusions, scale, weighed
from .kit import GAP, Number, Scale, called, capitalised, count, listed, num, page, pct, short, some

Numbers = Mapping[str, Any]

ANSWERS = {
    "bold": "It can judge bold changes.",
    "near": "It can judge small changes.",
    "practice": "It can describe practice only.",
    "unweighed": "It cannot weigh other policies.",
}
TOWARD = {"random": "Acting at random", "usual": "Doing what is commonest", "firmer": "Acting with half the spread"}
SHOWN = 12
"Bars of a picture."
FEW = 4
"Members of a choice that are so few that one may stand in a title."
QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]
RAIL = ("Conclusions", "Data", "Columns", "Coverage", "Practice", "Reach", "Gains"), ("Limits", "Reproduce", "Glossary")


def data_page(d: Numbers, *, command: str, nouns: Nouns = Nouns()) -> str:  # noqa: B008, a constant
    """The HTML. `command` is what made it."""
    name = called(d["source"])
    return page(
        "data.html.j2",
        title=f"{name} · data report",
        about=f"What {nouns.of(d['episodes']['count'])} can say about policies other than the one that made them.",
        what=f"Data report: {name}",
        badge=None,
        rail=[[(title.lower(), title, None) for title in group] for group in RAIL],
        footer=f"Made from {name} by topstitch.",
        card=d,
        v=view(d, nouns),
        command=command,
    )


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
    found, episodes, x = answer(d), d["episodes"], d["reach"]
    cut = count(episodes["truncated"]) if episodes["truncated"] else "none"
    if x is None:
        worth = "unknown", "What they are worth for another policy: they cannot be weighed."
    else:
        left = x["toward"]["random"]["effective"][-1][-1]
        worth = f"worth {count(left)}", f"What {weighed(d, nouns)} would be worth for a policy that always acts at random."
        if left is None:
            worth = "worth nothing", f"For a policy that always acts at random: {weighed(d, nouns)} lack what it would do."
    return {
        "code": found.code,
        "word": ANSWERS[found.code],
        "sentence": sentence(d, found, nouns, say),
        "facts": [
            (nouns.of(episodes["count"]), f"with {nouns.of_steps(episodes['steps'])}; {cut} of them cut off by the record."),
            (say.level(episodes["returns"]["mean"]), f"What practice earns in {nouns.one}, on average."),
            worth,
        ],
    }


def sentence(d: Numbers, found: Answer, nouns: Nouns, say: Scale) -> str:
    n = weighed(d, nouns) if d["reach"] else ""
    share = f"{pct(found.share, 0)}{GAP}% of the {nouns.steps}"
    least = f"more than {share}" if found.share else f"as little as 1{GAP}% of the {nouns.steps}"
    first = {
        "bold": f"Even a policy that departs from practice at every {nouns.step} can be judged: {n} are then still worth {READ} or more",
        "near": f"A policy may depart from practice in up to {share} before {n} are worth fewer than {READ}",
        "practice": f"A policy that departs from practice in {least} leaves fewer than {READ} of {n} to judge it by",
        "unweighed": f"{capitalised(nouns.episodes)} cannot be weighed for another policy: {(d['practice']['refused'] or '').rstrip('.')}",
    }[found.code]
    if d["reach"] and d["reach"]["episodes"] < READ:
        first = f"{n} are fewer than the {READ} that are needed to judge a policy which departs from practice"
    held = chosen(d)["held_out"]
    if held is None or not believable(d):
        return f"{first}."
    if min(held) <= 0:
        return f"{first}. No gain is to be seen in putting together better what was done before."
    seems = "seems to gain" if d["stitching"]["exact"] else "seems to gain, at most,"
    return f"{first}. Doing only what was done before, but better put together, {seems} {say.diff(sum(held) / 2)} over practice."


# 1 what was logged -----------------------------------------------------------------------------------------------------------


def logged(d: Numbers, nouns: Nouns, say: Scale) -> dict[str, Any]:
    rewards, one = d["rewards"], d["episodes"]["lengths"]["high"] == 1
    steps = Nouns(nouns.step, nouns.steps, nouns.step, nouns.steps)
    told = one or rewards["last"] > 0.999 or rewards["low"] == rewards["high"]  # returns say the same
    return {
        "one": one,
        "lengths": None if one else lengths(d["episodes"]["lengths"], nouns),
        "returns": spread(d["episodes"]["returns"], "return", nouns, say),
        "rewards": None if told else spread(rewards, "reward", steps, Scale.of([rewards["low"], rewards["high"]], [rewards["sd"]])),
    }


def lengths(x: Numbers, nouns: Nouns) -> dict[str, Any]:
    whole = lambda v: num(v, 0)
    what, median = f"{nouns.steps} in the {nouns.episode}", f"median {whole(x['median'])}"
    middle = f"middle half {whole(x['q25'])} to {whole(x['q75'])}, longest {whole(x['high'])}"
    title = f"Half of the {nouns.episodes} have {whole(x['median'])} {nouns.steps} or fewer"
    if x["median"] == x["high"]:
        title = f"{'Every' if x['low'] == x['high'] else 'The median'} {nouns.episode} has {nouns.of_steps(x['high'])}"
    return {
        "title": title,
        "small": f"Number of {nouns.episodes} by their {nouns.steps}; {middle}{beyond(x['histogram'])}",
        "picture": picture(x["histogram"], what, whole, (x["median"], median), f"Histogram of {what}: {median}, {middle}."),
    }


def spread(x: Numbers, what: str, nouns: Nouns, say: Scale) -> dict[str, Any]:
    """How one quantity is spread over episodes or decisions."""
    histogram, write = x["histogram"], say.level if say.share else short
    values, counts = histogram.get("values"), histogram["counts"]
    if x["low"] == x["high"]:
        title = f"Every {nouns.episode} has the {what} {short(x['low'])}"
    elif values is not None and len(values) == 2:
        share = pct(counts[1] / sum(counts))
        title = f"{share}{GAP}% of the {nouns.episodes} have the {what} {short(values[1])}, all others {short(values[0])}"
    elif x["q25"] == x["q75"]:
        title = f"More than half of the {nouns.episodes} have the {what} {write(x['median'])}"
    else:
        title = f"Half of the {nouns.episodes} have a {what} between {write(x['q25'])} and {write(x['q75'])}"
    unit = f", {say.label}" if say.label and values is None else ""
    label = f"Histogram of the {what}: mean {say.level(x['mean'])}, from {say.level(x['low'])} to {say.level(x['high'])}."
    mark = x["mean"], f"mean {say.bare(x['mean'])}"
    return {
        "title": title,
        "small": f"Number of {nouns.episodes} by {what}{unit}; mean {say.level(x['mean'])}{beyond(histogram)}",
        "picture": picture(histogram, f"{what} of the {nouns.episode}{unit}", say.bare, mark, label),
    }


def beyond(histogram: Numbers) -> str:
    """What a picture does not show."""
    sides = [f"{count(histogram[side])} {word}" for side, word in (("below", "lower"), ("above", "higher")) if histogram.get(side)]
    return f"; {listed(sides)} lie beyond the axis" if sides else ""


def picture(histogram: Numbers, xlabel: str, say: Callable[[Number], str], mark: tuple[Number, str], label: str) -> Markup:
    """A histogram; of few values that are far apart, bars with their counts."""
    counts = histogram["counts"]
    if "edges" in histogram:
        edges = histogram["edges"]
        seen = mark if edges[0] <= mark[0] <= edges[-1] else None
        return charts.histogram(edges, counts, label=label, xlabel=xlabel, say=say, mark=seen)
    values = histogram["values"]
    if len(values) <= 6 or values[-1] - values[0] > 60 or any(v != round(v) for v in values):
        return bars([short(v) for v in values], counts, xlabel, label)
    first, filled = int(values[0]), [0] * (int(values[-1] - values[0]) + 1)
    for v, n in zip(values, counts):
        filled[int(v) - first] = n
    edges = [first - 0.5 + i for i in range(len(filled) + 1)]
    return charts.histogram(edges, filled, label=label, xlabel=xlabel, say=say, mark=mark)


def bars(names: Sequence[str], counts: Sequence[int], xlabel: str, label: str) -> Markup:
    """One bar for each value; few have their counts over them."""
    top = max(counts) * 1.16
    ys = charts.ticks(0, top, 4)
    left = 14 + 7 * max(len(count(y)) for y in ys)
    plot = charts.Plot(320, 190, left=left, right=8, bottom=44, x=(0, len(names)), y=(0, top)).yticks(ys, count)
    room = plot.right - plot.left
    every = max(1, -(-sum(7 * len(name) + 10 for name in names) // int(room)))
    for i, (name, n) in enumerate(zip(names, counts)):
        middle, wide = plot.across(i + 0.5), min(60.0, 0.7 * room / len(names))
        plot.box(middle - wide / 2, plot.up(n), wide, plot.bottom - plot.up(n), "f-prac")
        if len(names) <= FEW:
            plot.text(middle, round(plot.up(n) - 5, 1), count(n), "b", "middle")
        if i % every == 0:
            plot.text(middle, plot.bottom + 17, name, "mut", "middle")
    return plot.base().xlabel(xlabel).svg(label)


# 2 columns -------------------------------------------------------------------------------------------------------------------


def columns(d: Numbers, nouns: Nouns) -> dict[str, Any]:
    seen, done = d["observations"], d["actions"]
    parts = done.get("parts", ())
    return {
        "seen": [column(each) for each in seen.get("columns", ())],
        "done": [column(each) for each in done.get("columns", ())],
        "states": members(seen, nouns, "state") if seen["kind"] == "states" else None,
        "choices": [members(done, nouns, "action")] if done["kind"] == "choice" else
                   [members(each, nouns, f"member of {called(each['name'], 24)}") for each in parts],
        "grid": grid(done["grid"], nouns) if "grid" in done else None,
    }  # fmt: skip


def column(x: Numbers) -> dict[str, Any]:
    """One row of a table of columns."""
    label = f"{called(x['name'])}: from {short(x['low'])} to {short(x['high'])}, median {short(x['median'])}"
    drawn = spark(x["histogram"]["counts"], label)
    return {"name": x["name"], "x": x, "spark": drawn, "bounds": x.get("at_low"), "further": beyond(x["histogram"])}


def spark(counts: Sequence[int], label: str) -> Markup:
    """A histogram in a row of a table: it stretches, and has no numbers of its own."""
    wide, tall = 100 / len(counts), [92 * n / max(counts) for n in counts]
    bar = Markup('<rect x="{}%" width="{}%" y="{}%" height="{}%" class="f-prac"/>')
    parts = [bar.format(f"{i * wide:.2f}", f"{wide * 0.86:.2f}", f"{96 - h:.1f}", f"{h:.1f}") for i, h in enumerate(tall) if h]
    return charts.row([*parts, Markup('<line x1="0" x2="100%" y1="97%" y2="97%" class="axis"/>')], label)


def shares(named: Sequence[tuple[str, float]], nouns: Nouns, what: str) -> dict[str, Any]:
    """Rows of bars (name, bar, percent) and their axis."""
    top = max(share for _, share in named)
    digits, within = 1 if top >= 0.01 else 2, (0.0, top * 1.02)
    marks = charts.ticks(0, within[1], 4)
    label = lambda name, share: f"{what} {name}: {pct(share, digits)} % of the {nouns.steps}"
    rows = [(name, charts.bar_row(share, within, grid=marks, label=label(name, share)), pct(share, digits)) for name, share in named]
    return {"rows": rows, "axis": charts.axis_row(marks, within, charts.say_ticks(marks, 100))}


def members(x: Numbers, nouns: Nouns, what: str) -> dict[str, Any]:
    """The commonest states or choices."""
    total = sum(each["count"] for each in x["members"]) + x["others"]
    named = [(called(each["name"], 24), each["count"] / total) for each in x["members"][:SHOWN]]
    first, top = named[0]
    if x["seen"] > FEW:
        title = f"Half of the {nouns.steps} fall on {count(x['half'])} of {count(x['seen'])} {what}s"
    else:
        title = f"{pct(top)}{GAP}% of the {nouns.steps} are {what} {first}" if x["seen"] > 1 else f"There is a single {what}, {first}"
    rest = f"; the commonest {len(named)} of {count(x['seen'])} that occur" if x["seen"] > len(named) else ""
    return {"title": title, "small": f"Share of {nouns.steps}, %{rest}", **shares(named, nouns, what)}


def grid(x: Numbers, nouns: Nouns) -> dict[str, Any]:
    total = sum(map(sum, x["counts"]))
    cells = [[n / total for n in row] for row in x["counts"]]
    i, j = max(((i, j) for i, row in enumerate(cells) for j in range(len(row))), key=lambda at: cells[at[0]][at[1]])
    rows, across = called(x["rows"]), called(x["columns"])
    common = f"{rows} {called(x['row_names'][i])} with {across} {called(x['column_names'][j])}"
    what = f"Share of {nouns.steps} by {rows} and {across}, in percent"
    return {
        "title": f"The commonest action is {common}, in {pct(cells[i][j])}{GAP}% of the {nouns.steps}",
        "small": f"Share of all {nouns.steps}, %; rows {rows}, columns {across}",
        "table": charts.heat(x["row_names"], x["column_names"], cells, pct, corner=called(x["rows"], 12), caption=what),
    }


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
    x, counts = d["coverage"], d["coverage"]["counts"]
    state, within = "state" if x["numbered"] else "cell", (0.0, 1.0)
    label = lambda name, a, b: f"{name}: {pct(a)} % of the pairs, {pct(b)} % of the {nouns.steps}"
    dots = lambda name, a, b: charts.dots_row([(a, "d-lo"), (b, "d-hi")], within, grid=QUARTERS, label=label(name, a, b))
    levels = list(zip(steps_of(x["levels"]), x["pairs"], x["decisions"]))
    tried = f"{pct(1 - x['pairs'][0])}{GAP}% of what could be done was ever done"
    return {
        "state": state,
        "title": tried if x["pairs"][0] else f"Every action was done in every {state} that was visited",
        "small": f"Shares of the {count(x['possible'])} pairs of a visited {state} and an action, and of the {nouns.steps}, "
                 "by how often their pair was logged",
        "rows": [(name, dots(name, a, b), pct(a), pct(b)) for name, a, b in levels],
        "axis": charts.axis_row(QUARTERS, within, charts.say_ticks(QUARTERS, 100)),
        "counts": table_of_counts(x, counts, state, nouns),
    }  # fmt: skip


def table_of_counts(x: Numbers, counts: Numbers, state: str, nouns: Nouns) -> dict[str, Any]:
    """Actions in the commonest states. Cells and groups of actions have numbers there, and `groups` says what they are."""
    said, done = [group(each) for each in counts["states"]], [group(each) for each in counts["actions"]]
    grouped = any("centre" in each for each in counts["actions"])
    states = said if x["numbered"] else [f"cell {i + 1}" for i in range(len(said))]
    heads = [f"group {i + 1}" for i in range(len(done))] if grouped else done
    cells = [[n / each["visits"] for n in row] for row, each in zip(counts["rows"], counts["states"])]
    most = max(range(len(heads)), key=cells[0].__getitem__)
    usual = heads[most] if grouped else f"action {heads[most]}"
    fewer = f" and {len(heads)} of {count(x['actions'])} actions" if len(heads) < x["actions"] else ""
    write = lambda v: pct(v, 0) if v >= 0.005 else "<1" if v else ""
    caption = f"Share of {nouns.steps} by action, in percent, in the {len(states)} commonest {state}s"
    return {
        "title": f"In the commonest {state}, {usual} is done most: {pct(cells[0][most], 0)}{GAP}% of the time",
        "small": f"Share of the {nouns.steps} in a {state}, %; the {len(states)} commonest of {count(x['seen'])} {state}s{fewer}",
        "table": charts.heat(states, heads, cells, write, top=1.0, corner=state, caption=caption),
        "groups": [*([] if x["numbered"] else zip(states, said)), *(zip(heads, done) if grouped else [])],
    }


# 4 practice ------------------------------------------------------------------------------------------------------------------


def practice(d: Numbers, nouns: Nouns) -> dict[str, Any]:
    x, choices = d["practice"], d["actions"]["kind"] != "vectors"
    out: dict[str, Any] = {"refused": x["refused"], "recorded": x["recorded"], "choices": choices, "done": None}
    if x["refused"] is not None:
        return out
    out["calibration"] = (rarity if choices else levels)(x["calibration"], nouns)
    if choices:
        edges = x["done"]["edges"]
        names = [f"{short(100 * a, 2)} to {short(100 * b, 2)}{GAP}%" for a, b in pairwise(edges)]
        names[0] = f"below {short(100 * edges[1], 2)}{GAP}%"
        rare = sum(share for edge, share in zip(edges[1:], x["done"]["share"]) if edge <= 0.01)
        least = f"{short(100 * x['done']['least'], 2)}{GAP}%"
        out["done"] = {
            "title": f"{pct(rare)}{GAP}% of what was done had a probability below 1{GAP}%",
            "small": f"Share of {nouns.steps}, %, by the probability of what was done; the smallest is {least}",
            **shares(list(zip(names, x["done"]["share"])), nouns, "probability"),
        }
    return out


def levels(x: Numbers, nouns: Nouns) -> dict[str, Any]:
    """Calibration of vectors: shares of actions below quantiles."""
    pairs = list(zip(x["predicted"], x["observed"]))
    say = charts.say_ticks(QUARTERS, 100)
    plot = charts.Plot(320, 260, left=48, right=16, top=24, bottom=44, x=(0, 1), y=(0, 1)).yticks(QUARTERS, say).xticks(QUARTERS, say)
    plot.base().line([0, 1], [0, 1], "ref").text(2, 12, "observed, %", "mut").xlabel("predicted to lie below, %")
    for p, o in pairs:
        plot.dot(p, o, 4, "d-prac")
    p, o = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    told = "; ".join(f"{pct(p, 0)} % predicted below, {pct(o, 0)} % observed" for p, o in pairs)
    return {
        "title": f"Where {pct(p, 0)}{GAP}% should lie below, {pct(o, 0)}{GAP}% do: the worst of nine levels",
        "small": f"Actions below the quantiles of the model of practice, in {nouns.episodes} that it has not seen",
        "picture": plot.svg(f"Calibration of the model of practice: {told}"),
    }


def rarity(x: Numbers, nouns: Nouns) -> dict[str, Any]:
    """Calibration of choices, on logarithmic scales: what is rare makes the largest weights."""
    pairs = list(zip(x["predicted"], x["observed"], x["count"]))
    low = max(0.6 * min([v for p, o, _ in pairs for v in (p, o) if v > 0], default=0.1), 1e-6)
    marks, percent = charts.decades(low, 1.0, 5), lambda v: f"{short(100 * v, 2)}{GAP}%"
    plot = charts.Plot(320, 260, left=58, right=16, top=24, bottom=44, x=(low, 1), y=(low, 1), xlog=True, ylog=True)
    plot.yticks(marks, percent).xticks(marks, percent).base().line([low, 1], [low, 1], "ref")
    plot.text(2, 12, "taken", "mut").xlabel("predicted probability of an action")
    most = max(x["count"])
    for p, o, n in pairs:
        plot.dot(max(p, low), max(o, low), 2.5 + 4 * (n / most) ** 0.5, "d-prac" if o > 0 else "d-lo")
    told = "; ".join(f"{short(100 * p, 2)} % predicted, {short(100 * o, 2)} % taken" for p, o, _ in pairs)
    return {
        "title": f"The rarest actions are taken {often(*pairs[0][:2])}",
        "small": f"In {nouns.episodes} that the model of practice has not seen; both scales logarithmic; dots grow with the number "
                 f"of pairs of {nouns.step} and action",
        "picture": plot.svg(f"Calibration of the model of practice, logarithmic scales: {told}"),
    }  # fmt: skip


def often(predicted: Number, observed: Number) -> str:
    if observed > 2 * predicted:
        return f"{num(observed / predicted, 1)} times as often as predicted" if predicted else "though they were predicted never to be"
    return "about as often as predicted" if observed >= predicted / 2 else "less than half as often as predicted"


# 5 reach ---------------------------------------------------------------------------------------------------------------------


def reach(d: Numbers, nouns: Nouns) -> list[dict[str, Any]] | None:
    """A table for each way to depart from practice."""
    x = d["reach"]
    if x is None:
        return None
    rows, across = [pct(share, 0) for share in x["shares"]], [count(t) for t in x["steps"]]
    tables, left = [], f"{READ} effective {nouns.episodes}"
    for name, way in x["toward"].items():
        doing, far = TOWARD["firmer" if name == "usual" and d["actions"]["kind"] == "vectors" else name], way["furthest"][str(READ)]
        title = f"{doing} in up to {pct(far, 0)}{GAP}% of the {nouns.steps} leaves {left}"
        if far in (0, 1):
            title = f"{doing} always leaves {left} or more" if far else f"{doing} in 1{GAP}% of the {nouns.steps} leaves fewer than {left}"
        what = f"{doing[0].lower()}{doing[1:]}"
        caption = f"Effective {nouns.episodes} by share of departures and {nouns.steps} into the {nouns.episode}, {what}"
        small = (f"Effective {nouns.episodes}, of {count(x['episodes'])}. Rows: the share of {nouns.steps} that depart from practice, {what}, "
                 f"in percent. Columns: {nouns.steps} into the {nouns.episode}")  # fmt: skip
        if any(cell is None for line in way["effective"] for cell in line):
            small += f". Empty: {nouns.episodes} lack what the policy does, and those that are left cannot stand for it"
        cells = charts.heat(rows, across, way["effective"], count, top=float(x["episodes"]), caption=caption, corner="%")
        tables.append({"title": title, "small": small, "table": cells})
    return tables


# 6 gains ---------------------------------------------------------------------------------------------------------------------


def gains(d: Numbers, nouns: Nouns, say: Scale) -> dict[str, Any]:
    x, row = d["stitching"], chosen(d)
    logged, world, copied = x["logged"], "in the world of the log", x["imitation"]
    points = [  # name, what it is, value, gains in other halves, look
        (f"Worst tenth of the {nouns.episodes}", "as logged", logged["worst_tenth"], None, "oth"),
        ("Practice", "as logged", logged["mean"], None, "prac"),
        (f"Best tenth of the {nouns.episodes}", "as logged", logged["best_tenth"], None, "oth"),
        ("Practice", world, x["practice"], None, "prac"),
        ("At random, among what was done", world, x["uniform"], None, "oth"),
        ("Imitating the best tenth", world, copied["value"], copied["held_out"], "oth"),
        ("Best of what was done", f"{x['chosen']} times or more", row["value"], row["held_out"], "acc"),
    ]
    left = lambda held: [x["practice"] + gain for gain in held or ()]
    solved = [v for _, note, value, held, _ in points if note != "as logged" for v in (value, *left(held))]
    within = charts.around(solved, [logged["mean"]])
    marks = charts.ticks(*within, 5)
    rows = []
    for name, note, value, held, look in points:
        ends = (min(left(held)), max(left(held))) if held else None
        label = f"{name}, {note}: {say.level(value)}" + (f"; in the other half {say.span(*ends)}" if ends else "")
        practice = [(logged["mean"], "pracline")]
        drawing = charts.interval_row(value, ends, within, label=label, kind=look, marks=practice, grid=marks)
        number = believed(value, left(held), say) if held else say.level(value)
        rows.append((name, note, drawing, number, "me" if look == "acc" else ""))
    unit = f", {say.label}" if say.label else ""
    return {
        "title": left_over(d, nouns, say),
        "small": f"Mean return{unit}. Dots: as logged or believed. Bars: practice, and what the policy gains over it in the half of the "
                 f"{nouns.episodes} that it was not found in, for both halves. Dashes: practice as logged",
        "rows": rows,
        "axis": charts.axis_row(marks, within, say.bare),
        "caution": caution(x["thresholds"], say) if believable(d) else "Gains in a world that is no guide",
        "thresholds": [(r["least"], say.diff(r["believed"]), list(map(say.diff, r["held_out"] or ()))) for r in x["thresholds"]],
        "quality": quality(d, nouns, say),
    }  # fmt: skip


def believed(value: Number, left: Sequence[Number], say: Scale) -> Markup:
    return Markup('{} <span class="ci in">believed, {} left</span>').format(say.level(value), say.bare(sum(left) / len(left)))


def left_over(d: Numbers, nouns: Nouns, say: Scale) -> str:
    """What of the believed gain is left where the policy was not found."""
    x, row = d["stitching"], chosen(d)
    if not believable(d):
        earned = say.level(x["logged"]["mean"])
        return f"The world of the log is no guide: it puts practice at {say.level(x['practice'])}, and the {nouns.episodes} earned {earned}"
    if row["held_out"] is None:
        return f"The world of the log cannot be checked: there are too few {nouns.episodes}"
    left = say.diff(sum(row["held_out"]) / 2)
    return f"Of {say.diff(row['believed'])} that seem to be gained, {left} are left in {nouns.episodes} that the policy was not found in"


def caution(thresholds: Sequence[Numbers], say: Scale) -> str:
    """Which threshold leaves most."""
    if thresholds[0]["held_out"] is None:
        return "What caution costs, in belief"
    best = max(thresholds, key=lambda each: sum(each["held_out"]))
    if all(min(each["held_out"]) <= 0 for each in thresholds):
        return "No threshold leaves a gain in both halves"
    if min(best["held_out"]) <= 0:
        return "The threshold that leaves most leaves nothing in one half"
    times = "once" if best["least"] == 1 else some(best["least"], "time")
    return f"Most is left of what was done {times} or more: {say.diff(sum(best['held_out']) / 2)}"


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
        for name in by if (each := found[name]) and (name != "policies" or believable(d))
    ]  # fmt: skip
    cut = "" if cover["slices"] is None else f", columns cut at {cover['slices']} points"
    pairs = f"{count(cover['distinct'])} distinct pairs of {count(cover['reference'])} that as many {nouns.steps} could hold{cut}"
    mixed = "as many pairs, equally often, would be as mixed (the exponential of the entropy)"
    return [*rows, ("State-action coverage", num(cover["value"], 2), pairs), ("Effective pairs", count(cover["effective"]), mixed)]
