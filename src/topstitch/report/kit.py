"""What every page is made of: its frame, how numbers are written, and how the names of strangers are made harmless.

A page is one file: style, script and pictures are inside it, and its policy forbids the browser to load anything else. Templates escape
whatever they are given; only `Markup` made here, in `charts` and by templates is taken as it is.
"""

import base64
import dataclasses
import hashlib
import json
import math
import os
import re
import statistics
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from .. import __version__
from ..disk import write_bytes

HERE = Path(__file__).parent
MINUS, THIN, GAP = "−", "\u2009", "\u00a0"
Number = float | int
UNKNOWN = "–"
"What stands for a number that is not there."


@cache
def environment() -> Environment:
    """The templates, which escape what they are given and fail at a name that is missing."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {
        "num": num, "pct": pct, "count": count, "short": short, "some": some, "named": named, "called": called, "told": told, "embed": embed,
        "cap": capitalised,
    }  # fmt: skip
    made.globals |= {"version": __version__}
    return made


def page(template: str, **context) -> str:
    """The HTML of a page whose template extends `page.html.j2`. Its script is named by its hash, so that no other one can run."""
    style, script = (HERE / "style.css").read_text(), (HERE / "script.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment().get_template(template).render(style=Markup(style), script=Markup(script), digest=digest, **context)


def write_page(path: str | os.PathLike, html: str) -> None:
    """Whole or not at all, as UTF-8."""
    write_bytes(path, html.encode())


# numbers ---------------------------------------------------------------------------------------------------------------------


def known(x: Number | None) -> bool:
    return x is not None and not math.isnan(x)


def num(x: Number | None, digits: int = 1, sign: bool = False) -> str:
    """With a fixed number of decimals, thousands set apart, a real minus and, if `sign`, a plus: `num(-0.04)` is 0.0, not −0.0."""
    if not known(x):
        return UNKNOWN
    if math.isinf(x):
        return (MINUS if x < 0 else "+" if sign else "") + "∞"
    text = f"{abs(round(x, digits)):,.{max(digits, 0)}f}"
    zero = not any(c in "123456789" for c in text)
    return ("" if zero else MINUS if x < 0 else "+" if sign else "") + text


def pct(x: Number | None, digits: int = 1, sign: bool = False) -> str:
    """A share in percent, without its sign of percent."""
    return num(100 * x, digits, sign) if known(x) else UNKNOWN


def count(n: Number | None) -> str:
    """A number of things: 1,185. Fractions, as of effective sample sizes, show only below ten."""
    return num(n, 1 if known(n) and n != int(n) and abs(n) < 9.95 else 0) if known(n) and not math.isinf(n) else num(n)


def some(n: Number, one: str, many: str | None = None) -> str:
    """A number and its noun: 1 episode, 1,185 episodes."""
    return f"{count(n)}{GAP}{one if n == 1 else many or one + 's'}"


def power(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def short(x: Number | None, figures: int = 3, sign: bool = False) -> str:
    """A number of unknown size in a few significant figures: 0.0123, 4,120, 3.1 × 10⁹."""
    if not known(x) or math.isinf(x) or x == 0:
        return num(x, 0, sign)
    mantissa, exponent = f"{x:.{figures - 1}e}".split("e")
    size = int(exponent)
    plain = -4 <= size < 6
    text = num(float(f"{mantissa}e{exponent}"), max(figures - 1 - size, 0), sign) if plain else num(float(mantissa), figures - 1, sign)
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if plain else f"{text}{GAP}×{GAP}{power(size)}"


@dataclasses.dataclass(frozen=True)
class Scale:
    """How the values of one quantity are written, so that all numbers of a page that measure the same have the same decimals.

    Shares are shown in percent, their differences in points; other quantities in their unit, in thousands, millions, … (`exponent`)
    where they are huge or tiny.
    """

    share: bool = False
    digits: int = 1
    exponent: int = 0
    unit: str = ""

    @classmethod
    def of(cls, values: Iterable[Number | None], widths: Iterable[Number | None] = (), *, share: bool = False, unit: str = "") -> "Scale":
        """For `values`, with the decimals that write half the typical one of the `widths` of intervals in two figures."""
        values = [abs(v) for v in values if known(v) and not math.isinf(v)]
        widths = [w for w in widths if known(w) and not math.isinf(w) and w > 0]
        largest = max(values, default=0.0)
        exponent = 0
        if not share and largest and not 1e-3 <= largest < 1e6:
            exponent = max(3 * math.floor(math.log10(largest) / 3), -300)  # smaller ones have no power of ten to be multiplied by
        half = statistics.median(widths) / 2 if widths else largest / 20
        half *= 100.0 if share else 10.0**-exponent
        digits = 1 - math.floor(math.log10(half)) if 0 < half < math.inf else 1
        return cls(share, min(max(digits, int(share)), 6), exponent, unit)

    @property
    def factor(self) -> Number:
        return 100.0 if self.share else 10.0**-self.exponent

    @property
    def label(self) -> str:
        """What stands beside a quantity in a subtitle: `%`, `kWh`, `10⁹ €`; empty for plain numbers."""
        return "%" if self.share else GAP.join(([power(self.exponent)] if self.exponent else []) + ([self.unit] if self.unit else []))

    @property
    def steps(self) -> str:
        """What stands beside differences."""
        return "percentage points" if self.share else self.label

    def bare(self, x: Number | None, sign: bool = False) -> str:
        """The number alone."""
        return num(x * self.factor, self.digits, sign) if known(x) else UNKNOWN

    def level(self, x: Number | None) -> str:
        """A value with its unit: 81.7 %, 412 kWh."""
        return self.bare(x) + self.after(self.label) if known(x) else UNKNOWN

    def diff(self, x: Number | None, sign: bool = True) -> str:
        """A difference with its unit: +3.1 points."""
        if not known(x):
            return UNKNOWN
        text = self.bare(x, sign)
        return text + ((f"{GAP}point" if text.strip("+−") == "1.0" else f"{GAP}points") if self.share else self.after(self.label))

    def span(self, low: Number | None, high: Number | None, sign: bool = False) -> str:
        """The ends of an interval: 77.9 to 85.5."""
        return f"{self.bare(low, sign)} to {self.bare(high, sign)}"

    def interval(self, e: Sequence[Number] | None, sign: bool = False, refused: str = "not estimated") -> Markup:
        """(value, low, high) for a cell; None is `refused`."""
        if e is None:
            return escape(refused)
        return Markup('{} <span class="ci">({})</span>').format(self.bare(e[0], sign), self.span(e[1], e[2], sign))

    def margin(self, x: Number) -> str:
        """A difference that somebody declared, in no more digits than it has: 2 points."""
        text = short(abs(x) * self.factor)
        return text + (f"{GAP}point{'' if text == '1' else 's'}" if self.share else self.after(self.label))

    def after(self, unit: str) -> str:
        times = f"{GAP}×{GAP}" if self.exponent else GAP
        return f"{times}{unit}" if unit else ""


# names -----------------------------------------------------------------------------------------------------------------------

LONGEST = 60
"Letters of a name that are shown."
MARKS = 2
"Combining marks on one letter that are shown."


def called(name: object, limit: int = LONGEST) -> str:
    """A name as plain text that cannot disturb what surrounds it.

    Letters without a shape of their own (controls, marks of direction, halves of surrogates) become `·`, white space one blank, a tower
    of combining marks is cut, and the middle of a long name gives way to `…`. An empty name is `(no name)`.
    """
    letters, marks = list[str](), 0
    for letter in str(name)[:10_000]:
        kind = unicodedata.category(letter)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if marks <= MARKS:
            letters.append(" " if letter.isspace() else "·" if kind[0] == "C" and letter != "\u200d" else letter)
    text = " ".join("".join(letters).split())
    if len(text) > limit:
        text = text[: limit * 2 // 3].rstrip() + "…" + text[len(text) - limit // 3 + 1 :].lstrip()
    return text or "(no name)"


def told(text: object, limit: int = 400) -> str:
    """The same for a sentence of another part of the package, which may hold names: cut at its end, with real minus signs."""
    said = re.sub(r"(?<![\w.)])-(?=\d)", MINUS, called(text, 10_000))
    return said if len(said) <= limit else said[:limit].rsplit(" ", 1)[0].rstrip(" ,;:.") + " …"


def named(name: object, limit: int = LONGEST) -> Markup:
    """The same for HTML, set apart from the direction of the text around it; the whole of a long name is its title."""
    text, whole = called(name, limit), called(name, 500)
    title = Markup(' title="{}"').format(whole) if whole != text else ""
    return Markup("<bdi{}>{}</bdi>").format(title, text)


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def embed(content: object) -> Markup:
    """JSON for a `script` element: nothing in it can end the element."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def listed(parts: Iterable[object], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    parts = [str(part) for part in parts]
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def spelled(n: int) -> str:
    """Small numbers as words."""
    return WORDS[n] if 0 <= n < len(WORDS) else count(n)
