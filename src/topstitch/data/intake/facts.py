"""What is seen of every column while its rows pass by, and how that makes it an observation or an action."""

import dataclasses
import math
from collections import Counter
from typing import Any, Literal

import polars as pl

from ..cells import COMMA, FALSE, TRUE, WIDEST, dated, parsed, words

Holds = Literal["number", "whole", "flag", "text", "date", "nothing", "other"]
LEVELS = 10_000
"Different cells that are counted; of a column with more, only numbers are known."


@dataclasses.dataclass
class Facts:
    """Of one column, over all rows so far."""

    name: str
    rows: int = 0
    blank: int = 0
    nan: int = 0
    "Texts that say so: empty cells, where all others are numbers."
    numbers: int = 0
    whole: int = 0
    flags: int = 0
    dates: int = 0
    commas: int = 0
    "Texts that would be numbers if a comma stood before decimals."
    dtypes: set[Any] = dataclasses.field(default_factory=set)
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    levels: Counter | None = dataclasses.field(default_factory=Counter)
    "How often each cell comes; None if there are more than `LEVELS`."
    odd: dict[str, tuple[int, int, str]] = dataclasses.field(default_factory=dict)
    'The first cell that is not a "number", "flag" or "date": (part, row, text).'

    def see(self, cells: pl.Series, part: int, start: int, *, decimal: str = ".", dates: bool = False, form: str | None = None) -> None:
        """Some more cells, cleaned, from row `start` of a part on. `dates`: whether texts may be such, of a `form`."""
        kind, present = cells.dtype, len(cells) - cells.null_count()
        self.rows, self.blank = self.rows + len(cells), self.blank + cells.null_count()
        if not present:
            return
        self.dtypes.add(kind)
        if kind.is_temporal():
            self.dates += present
        elif kind == pl.String:
            read, lower = parsed(cells, decimal), cells.str.to_lowercase()
            self._numbers(read)
            self.nan += int(read.is_nan().sum() or 0)
            strange = read.is_null() & cells.is_not_null()
            self._odd("number", strange, cells, part, start)
            self.commas += int(cells.filter(strange).str.contains(f"^{COMMA.pattern}$").sum() or 0)
            known = lower.is_in([*TRUE, *FALSE])
            self.flags += int(known.sum() or 0)
            self._odd("flag", ~known & cells.is_not_null(), cells, part, start)
            if dates:
                moments = dated(cells, form)
                self.dates += len(moments) - moments.null_count()
                self._odd("date", moments.is_null() & cells.is_not_null(), cells, part, start)
        elif kind == pl.Boolean:
            self._numbers(cells.cast(pl.Float64))
            self.flags += present
        elif kind.is_numeric():
            read = cells.cast(pl.Float64)
            self._numbers(read)
            self.flags += int(((read == 0) | (read == 1)).sum() or 0)
        if not (kind.is_nested() or kind == pl.Binary):
            self._count(cells)

    def _numbers(self, read: pl.Series) -> None:
        sound = read.filter(read.abs() <= WIDEST)
        self.numbers += int((read.is_not_null() & read.is_not_nan()).sum() or 0)
        self.whole += int((sound == sound.floor()).sum() or 0)
        if len(sound):
            self.low, self.high = min(self.low, float(sound.min())), max(self.high, float(sound.max()))  # pyright: ignore
            self.total += float(sound.sum())

    def _count(self, cells: pl.Series) -> None:
        if self.levels is None:
            return
        counts = words(cells, _unreachable).drop_nulls().value_counts()
        self.levels.update(dict(zip(counts.to_series(0).to_list(), counts.to_series(1).to_list())))
        if len(self.levels) > LEVELS:
            self.levels = None

    def _odd(self, kind: str, wrong: pl.Series, cells: pl.Series, part: int, start: int) -> None:
        if kind not in self.odd and wrong.any():
            row = int(wrong.arg_max() or 0)
            self.odd[kind] = part, start + row, str(cells[row])

    @property
    def empty(self) -> int:
        return self.blank + (self.nan if self.numbers and self.numbers + self.nan == self.rows - self.blank else 0)

    @property
    def present(self) -> int:
        return self.rows - self.empty

    @property
    def holds(self) -> Holds:
        """What all cells are."""
        if not self.present:
            return "nothing"
        if self.numbers == self.present:
            flagged = self.dtypes == {pl.Boolean()}
            return "flag" if flagged else "whole" if self.whole == self.present and max(-self.low, self.high) < 2**53 else "number"
        if self.flags == self.present:
            return "flag"
        if self.dates == self.present:
            return "date"
        return "text" if self.levels is None or self.levels else "other"

    @property
    def comma(self) -> bool:
        """Whether all cells are numbers once a comma may stand before decimals, or between thousands."""
        return self.commas > 0 and self.commas + self.numbers == self.present

    @property
    def nested(self) -> str | None:
        """The first cell, where it is a list or an object written as text."""
        text = self.odd.get("number", (0, 0, ""))[2]
        return text if self.holds == "text" and text[:1] + text[-1:] in ("{}", "[]") else None

    @property
    def mean(self) -> float:
        return self.total / self.numbers

    def strange(self) -> list[str]:
        """The words among numbers, the commonest first; none where cells are too many to be counted."""
        return [level for level in self.common() if key(level)[0]]

    def common(self) -> list[str]:
        """Levels, the commonest first; of equals the first in natural order."""
        return sorted(self.levels or (), key=lambda level: (-(self.levels or {})[level], key(level)))


def _unreachable(*_):
    raise AssertionError("cells of such a column are not counted")


def key(level: str) -> tuple:
    """Sorts numbers by size, then words, of which those that end in numbers naturally."""
    from .sources import natural

    try:
        return 0, float(level), []
    except ValueError:
        return 1, 0.0, natural(level)
