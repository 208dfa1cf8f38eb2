"""Pictures as inline SVG, of two kinds.

`Plot` has a fixed frame and is drawn near its natural size, so that text of 12 px stays 12 px on a phone. Rows (`interval_row`,
`dots_row`, `bar_row`) have coordinates in percent: they stretch with their column and never scale text. Colour comes from the classes of
`style.css` alone, so light, dark and paper need no second drawing. Every picture says in `aria-label` what it shows, with numbers.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from .kit import Number, called, count, known, num, short

Range = tuple[Number, Number]


# axes ------------------------------------------------------------------------------------------------------------------------


def ticks(low: Number, high: Number, about: int = 5) -> list[Number]:
    """Round numbers from `low` to `high`, some `about` of them: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low] if math.isfinite(low) else []
    rough = (high - low) / max(about, 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = min((m * unit for m in (1, 2, 2.5, 5, 10)), key=lambda step: abs(math.log(step / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def decades(low: Number, high: Number, about: int = 6) -> list[Number]:
    """Powers of ten from `low` to `high`, with threes between them where there is room; every second or third where there is none."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    every = max(1, math.ceil((last - first + 1) / about))
    found = [10.0**k for k in range(first, last + 1, every)]
    if last - first <= about // 2:
        found = sorted([*found, *(3 * x for x in found)])
    return [x for x in found if low * 0.999 <= x <= high * 1.001]


def around(values: Iterable[Number | None], include: Iterable[Number] = (), room: Number = 0.06) -> Range:
    """A range that holds all values, with some room at the ends; never empty."""
    held = [v for v in [*values, *include] if v is not None and math.isfinite(v)]
    if not held:
        return 0.0, 1.0
    low, high = min(held), max(held)
    if low == high:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    return low - room * (high - low), high + room * (high - low)


def fair(intervals: Iterable[Sequence[Number] | None], include: Iterable[Number] = (), most: Number = 3.0) -> Range:
    """An axis for (value, low, high): all values, and of intervals no more than some typical lengths; what is left out gets arrows."""
    found = [e for e in intervals if e is not None]
    low, high = around([e[0] for e in found], include, 0)
    room = most * statistics.median([e[2] - e[1] for e in found]) if found else 0
    return around([low, high, *(min(max(x, low - room), high + room) for e in found for x in e[1:])])


def spread(places: Sequence[Number], gap: Number, low: Number, high: Number) -> list[Number]:
    """Places for labels, near those given and `gap` apart, in the same order."""
    order, found, last = sorted(range(len(places)), key=lambda i: places[i]), dict[int, Number](), low - gap
    for i in order:
        found[i] = last = max(places[i], last + gap)
    last = high + gap
    for i in reversed(order):
        found[i] = last = min(found[i], last - gap)
    return [found[i] for i in range(len(places))]


def digits_of(values: Sequence[Number], factor: Number = 1.0) -> int:
    """The decimals that tell neighbouring ticks apart."""
    for digits in range(7):
        if all(abs(round(v * factor, digits) - v * factor) < 1e-6 * max(abs(v * factor), 1e-300) for v in values if v):
            return digits
    return 7


# plots -----------------------------------------------------------------------------------------------------------------------


class Plot:
    """A frame of `width` × `height` with an axis each way, filled by calls that can be chained; `svg` gives the picture."""

    def __init__(
        self, width: int, height: int, *, left: Number = 36, right: Number = 10, top: Number = 10, bottom: Number = 30, x: Range = (0, 1),
        y: Range = (0, 1), xlog: bool = False, ylog: bool = False,
    ):  # fmt: skip
        self.width, self.height = width, height
        self.left, self.right, self.top, self.bottom = left, width - right, top, height - bottom
        self.x, self.y, self.xlog, self.ylog = x, y, xlog, ylog
        self.parts = list[Markup]()

    def across(self, v: Number) -> Number:
        return round(self.left + share(v, self.x, self.xlog) * (self.right - self.left), 1)

    def up(self, v: Number) -> Number:
        return round(self.bottom - share(v, self.y, self.ylog) * (self.bottom - self.top), 1)

    def add(self, template: str, **values) -> "Plot":
        """A piece of SVG; `values` are escaped."""
        self.parts.append(Markup(template).format(**values))
        return self

    def text(self, x: Number, y: Number, text: str, kind: str = "", anchor: str = "start") -> "Plot":
        said = '<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{text}</text>'
        return self.add(said, x=round(x, 1), y=round(y, 1), anchor=anchor, kind=kind, text=text)

    def level(self, y: Number, kind: str = "grid", x0: Number | None = None, x1: Number | None = None) -> "Plot":
        """A horizontal line; `y` in pixels."""
        x0, x1 = self.left if x0 is None else x0, self.right if x1 is None else x1
        return self.add('<line x1="{x0}" x2="{x1}" y1="{y}" y2="{y}" class="{kind}"/>', x0=x0, x1=x1, y=y, kind=kind)

    def upright(self, x: Number, kind: str = "grid", y0: Number | None = None, y1: Number | None = None) -> "Plot":
        """A vertical line; `x` in pixels."""
        y0, y1 = self.top if y0 is None else y0, self.bottom if y1 is None else y1
        return self.add('<line x1="{x}" x2="{x}" y1="{y0}" y2="{y1}" class="{kind}"/>', x=x, y0=y0, y1=y1, kind=kind)

    def yticks(self, values: Iterable[Number], say: Callable[[Number], str], grid: bool = True) -> "Plot":
        for v in values:
            if grid:
                self.level(self.up(v))
            self.text(round(self.left - 6, 1), round(self.up(v) + 4, 1), say(v), "mut", "end")
        return self

    def xticks(self, values: Iterable[Number], say: Callable[[Number], str]) -> "Plot":
        for v in values:
            self.upright(self.across(v), "axis", self.bottom, self.bottom + 4)
            self.text(self.across(v), self.bottom + 17, say(v), "mut", "middle")
        return self

    def base(self) -> "Plot":
        return self.level(self.bottom, "axis")

    def xlabel(self, text: str) -> "Plot":
        return self.text(round((self.left + self.right) / 2, 1), self.height - 6, text, "mut", "middle")

    def line(self, xs: Sequence[Number], ys: Sequence[Number | None], kind: str) -> "Plot":
        """A path; where a value is missing it is interrupted. A point without neighbours is a dot."""
        pieces, piece = [], []
        for x, y in [*zip(xs, ys), (0, None)]:
            if y is not None and math.isfinite(y):
                piece.append((x, y))
            elif piece:
                pieces.append(piece)
                piece = []
        for piece in pieces:
            if len(piece) == 1:
                self.dot(*piece[0], 2.2, f"dot {kind}")
            else:
                self.add('<path d="{d}" class="{kind}"/>', d="M" + "L".join(f"{self.across(a)},{self.up(b)}" for a, b in piece), kind=kind)
        return self

    def dot(self, x: Number, y: Number, r: Number, kind: str) -> "Plot":
        return self.add('<circle cx="{x}" cy="{y}" r="{r}" class="{kind}"/>', x=self.across(x), y=self.up(y), r=round(r, 1), kind=kind)

    def box(self, x: Number, y: Number, width: Number, height: Number, kind: str) -> "Plot":
        """A rectangle in pixels."""
        w, h = round(max(width, 0), 1), round(max(height, 0), 1)
        return self.add(
            '<rect x="{x}" y="{y}" width="{w}" height="{h}" class="{kind}"/>', x=round(x, 1), y=round(y, 1), w=w, h=h, kind=kind
        )

    def svg(self, label: str, kind: str = "") -> Markup:
        return Markup('<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}" class="plot {}">{}</svg>').format(
            self.width, self.height, self.width, self.height, label, kind, Markup("").join(self.parts)
        )


def share(v: Number, within: Range, log: bool = False) -> Number:
    """Where `v` lies, 0 at the start of a range and 1 at its end."""
    low, high = within
    if log:
        v, low, high = math.log(max(v, low * 1e-3)), math.log(low), math.log(high)
    return (v - low) / (high - low)


def both(draw: Callable[[int, int, str], Markup], wide: tuple[int, int] = (660, 300), narrow: tuple[int, int] = (340, 290)) -> Markup:
    """The same picture twice, for wide columns and for phones: `draw(width, height, kind)`."""
    return draw(*wide, "wide") + draw(*narrow, "narrow")


def inside(xs: Sequence[Number], ys: Sequence[Number | None], within: Range) -> tuple[list[Number], list[Number | None]]:
    """The part of a line that lies within, up to the edge where it leaves; elsewhere None."""
    low, high = within
    path, before = [], None
    for x, y in zip(xs, ys):
        here = y if known(y) and low <= y <= high else None
        if before is not None and known(y) and known(before[1]) and (here is None) != (before[2] is None):
            edge = high if max(y, before[1]) > high else low
            path.append((before[0] + (edge - before[1]) / (y - before[1]) * (x - before[0]), edge))
        path.append((x, here))
        before = x, y, here
    return [x for x, _ in path], [y for _, y in path]


def mini(steps: Sequence[Number], within: Range, factor: Number = 1.0) -> Plot:
    """The frame of a small plot over training steps, with room for a number at the right."""
    low, high = steps[0], steps[-1] if steps[-1] > steps[0] else steps[0] + 1
    marks = ticks(*within, 4)
    say = compact(marks, factor)
    plot = Plot(212, 144, left=12 + 7 * max(len(say(v)) for v in marks), right=46, top=8, bottom=24, x=(low, high), y=within).yticks(
        marks, say
    )
    plot.text(plot.left, plot.height - 7, short(low), "mut")
    return plot.text(plot.right, plot.height - 7, short(high), "mut", "end") if steps[-1] > steps[0] else plot


def histogram(
    edges: Sequence[Number], counts: Sequence[Number], *, label: str, xlabel: str, say: Callable[[Number], str] = count,
    mark: tuple[Number, str] | None = None, width: int = 320, height: int = 190,
) -> Markup:  # fmt: skip
    """Bars between `edges` (n + 1) as high as `counts` (n). `mark` is a value to point at, and what it is: (6, "median 6")."""
    top = max([*counts, 1])
    ys = ticks(0, top * 1.08, 4)
    left = 14 + 7 * max(len(count(v)) for v in ys)
    low, high = edges[0], edges[-1] if edges[-1] > edges[0] else edges[0] + 1
    plot = Plot(width, height, left=left, right=12, bottom=44, x=(low, high), y=(0, top * 1.08)).yticks(ys, count)
    for a, b, n in zip(edges, edges[1:], counts):
        x0, x1 = plot.across(a), plot.across(b)
        gap = min(1.0, (x1 - x0) / 4)
        plot.box(x0 + gap / 2, plot.up(n), x1 - x0 - gap, plot.bottom - plot.up(n), "f-prac")
    plot.base().xticks(fitting(ticks(low, high, 4), say, width - left), say).xlabel(xlabel)
    if mark:
        x = plot.across(mark[0])
        late = x > (plot.left + plot.right) / 2
        plot.upright(x, "mark", plot.top + 4).text(x + (-5 if late else 5), plot.top + 14, mark[1], "", "end" if late else "start")
    return plot.svg(label)


def fitting(values: list[Number], say: Callable[[Number], str], width: Number) -> list[Number]:
    """As many of the ticks as have room beside one another."""
    while len(values) > 2 and sum(7 * len(say(v)) + 12 for v in values) > width:
        values = values[::2]
    return values


# rows ------------------------------------------------------------------------------------------------------------------------


def place(v: Number, within: Range) -> Number:
    """Percent along the row; what lies beyond an end is put just beyond it."""
    return max(-1.0, min(101.0, 100 * share(v, within)))


def upright(v: Number, within: Range, kind: str) -> Markup:
    return Markup('<line x1="{x}%" x2="{x}%" y1="0" y2="100%" class="{kind}"/>').format(x=f"{place(v, within):.2f}", kind=kind)


def row(parts: Iterable[Markup], label: str) -> Markup:
    return Markup('<svg class="row" role="img" aria-label="{}">{}</svg>').format(label, Markup("").join(parts))


def arrow(at: int, kind: str) -> Markup:
    """What lies beyond the end (`at` 0 or 100 percent) of a row."""
    path = "M-7,-4L-1,0L-7,4" if at else "M7,-4L1,0L7,4"
    return Markup('<svg x="{}%" y="50%" overflow="visible"><path d="{}" class="arrow {}"/></svg>').format(at, path, kind)


DIAMOND = Markup('<path d="M0,-5L5,0L0,5L-5,0Z" class="truth"/>')


def interval_row(
    value: Number | None, interval: tuple[Number | None, Number | None] | None, within: Range, *, label: str, kind: str = "acc",
    exact: Number | None = None, marks: Iterable[tuple[Number, str]] = (), grid: Iterable[Number] = (), band: Range | None = None,
) -> Markup:  # fmt: skip
    """A point and its interval. `exact` is drawn as an open diamond, `marks` are lines (where, class), `band` is a shaded region.

    An end beyond the range gets an arrow. Kinds: acc (the learned policy), prac (practice), oth (others); dim and "acc thin" for too
    little evidence.
    """
    parts = list[Markup]()
    if band and band[1] > within[0] and band[0] < within[1]:
        a, b = max(place(band[0], within), 0), min(place(band[1], within), 100)
        parts.append(Markup('<rect x="{}%" width="{}%" y="0" height="100%" class="band"/>').format(f"{a:.2f}", f"{b - a:.2f}"))
    parts += [upright(v, within, "grid") for v in grid]
    parts += [upright(v, within, mark) for v, mark in marks if within[0] <= v <= within[1]]
    low, high = interval or (None, None)
    if low is not None and high is not None:
        a, b = place(low, within), place(high, within)
        parts.append(
            Markup('<line x1="{}%" x2="{}%" y1="50%" y2="50%" class="iv {}"/>').format(f"{max(a, 0):.2f}", f"{min(b, 100):.2f}", kind)
        )
        parts += ([arrow(100, kind)] if high > within[1] else []) + ([arrow(0, kind)] if low < within[0] else [])
    if value is not None and within[0] <= value <= within[1]:
        parts.append(Markup('<circle cx="{}%" cy="50%" r="4.5" class="pt {}"/>').format(f"{place(value, within):.2f}", kind))
    elif value is not None and low is None:
        parts.append(arrow(100 if value > within[1] else 0, kind))
    if exact is not None:
        parts.append(Markup('<svg x="{}%" y="50%" overflow="visible">{}</svg>').format(f"{place(exact, within):.2f}", DIAMOND))
    return row(parts, label)


def dots_row(points: Sequence[tuple[Number, str]], within: Range, *, label: str, grid: Iterable[Number] = (), link: bool = True) -> Markup:
    """Points (value, class) on one line, joined. Classes: d-prac, d-acc, d-lo, d-mid, d-hi."""
    parts, xs = [upright(v, within, "grid") for v in grid], [place(v, within) for v, _ in points]
    if link and len(xs) > 1:
        parts.append(Markup('<line x1="{}%" x2="{}%" y1="50%" y2="50%" class="link"/>').format(f"{min(xs):.2f}", f"{max(xs):.2f}"))
    parts += [Markup('<circle cx="{}%" cy="50%" r="4.5" class="{}"/>').format(f"{x:.2f}", kind) for x, (_, kind) in zip(xs, points)]
    return row(parts, label)


def bar_row(
    value: Number, within: Range, *, label: str, kind: str = "f-prac", grid: Iterable[Number] = (), mark: Number | None = None
) -> Markup:
    """A bar from the start of the range; `mark` is a line across it."""
    parts = [upright(v, within, "grid") for v in grid]
    parts.append(
        Markup('<rect x="0" y="25%" width="{}%" height="50%" class="{}"/>').format(f"{max(min(place(value, within), 100), 0):.2f}", kind)
    )
    return row(parts + ([upright(mark, within, "mark")] if mark is not None else []), label)


def axis_row(values: Iterable[Number], within: Range, say: Callable[[Number], str]) -> Markup:
    """The numbers under (or above) rows of the same range."""
    text = Markup('<text x="{}%" y="14" text-anchor="middle" class="mut">{}</text>')
    parts = [text.format(f"{place(v, within):.2f}", say(v)) for v in values]
    return Markup('<svg class="axisrow" width="100%" height="20" aria-hidden="true">{}</svg>').format(Markup("").join(parts))


# tables ----------------------------------------------------------------------------------------------------------------------


def heat(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Number | None]], say: Callable[[Number], str], *, caption: str,
    corner: str = "", top: Number | None = None, diverging: bool = False, over: Sequence[tuple[str, int]] = (),
) -> Markup:  # fmt: skip
    """A table whose cells carry their number and a tint that grows with it; diverging: blue above 0, brown below.

    `top` is the size with the full tint (default: the largest one). `over` are heads of so many columns each, over those of the columns.
    A cell that is None is empty.
    """
    top = top or max((abs(v) for line in cells for v in line if v is not None), default=1.0) or 1.0
    body = list[Markup]()
    for name, line in zip(rows, cells):
        body.append(Markup('<tr><th scope="row"><bdi>{}</bdi></th>').format(called(name, 28)))
        for v in line:
            if v is None:
                body.append(Markup('<td class="none"></td>'))
                continue
            tint = round(100 * min(1.0, abs(v) / top) ** 0.6)
            body.append(Markup('<td class="{}" style="--k:{}%">{}</td>').format("neg" if v < 0 else "pos", tint, say(v)))
        body.append(Markup("</tr>"))
    head = Markup("").join(Markup('<th scope="col"><bdi>{}</bdi></th>').format(called(name, 16)) for name in columns)
    above = Markup("").join(
        Markup('<th colspan="{}" scope="colgroup"><bdi>{}</bdi></th>').format(n, called(name, 12 * n + 8)) for name, n in over
    )
    first = Markup('<tr><td class="corner"></td>{}</tr>').format(above) if over else ""
    return Markup(
        '<table class="heat {}"><caption class="sr">{}</caption><thead>{}<tr><td class="corner">{}</td>{}</tr></thead><tbody>{}</tbody></table>'
    ).format("div" if diverging else "seq", caption, first, corner, head, Markup("").join(body))


def compact(values: Sequence[Number], factor: Number = 1.0, sign: bool = False) -> Callable[[Number], str]:
    """How to write the ticks of one axis, in few letters also where they are huge or tiny."""
    largest = max((abs(v * factor) for v in values), default=0.0)
    if largest >= 1e5 or 0 < largest < 1e-3:
        return lambda v: short(v * factor, 2, sign).replace("\u00a0", "")
    return say_ticks(values, factor, sign)


def say_ticks(values: Sequence[Number], factor: Number = 1.0, sign: bool = False, after: str = "") -> Callable[[Number], str]:
    """How to write the ticks of one axis, with the decimals that they need."""
    digits = digits_of(values, factor)
    return lambda v: (num(v * factor, digits, sign) if abs(v * factor) > 1e-12 else "0") + after
