"""The columns of a table by the roles they play, checked cell by cell."""

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl

from ..episodes import BadData
from . import among
from .files import Part, is_frame, parts

WIDEST = float(np.finfo(np.float32).max)


class Table:
    """The columns of all parts, one part behind the other, checked as they are asked for."""

    def __init__(self, source, roles: dict):
        self.parts = parts(source)
        self.name = self.parts[0].name + (f" and {len(self.parts) - 1} more" if len(self.parts) > 1 else "")
        self.source = self.name if is_frame(source) else Path(self.parts[0].name).name + self.name.removeprefix(self.parts[0].name)
        self.said = _said(self.parts[0], roles)
        self.roles = _resolve(self.parts[0], roles)
        wanted = sorted({column for columns in self.roles.values() for column in columns})
        for part in self.parts:
            if part is not self.parts[0] and (theirs := _resolve(part, roles)) != self.roles:
                role = next(role for role in self.roles if self.roles[role] != theirs[role])
                raise BadData(f"{part.name}: {role!r} stands for the columns {theirs[role]} here, and for {self.roles[role]} in "
                              f"{self.parts[0].name}. Give files with the same columns.")  # fmt: skip
            part.frame = part.load(wanted)
            if part.frame.height == 0:
                raise BadData(f"{part.name}: expected at least one row, but there is only a header. Leave the file out, or write it again.")
        self.stops = np.cumsum([part.frame.height for part in self.parts])
        self.rows = int(self.stops[-1])
        self.notes = [note for part in self.parts for note in part.notes]

    def fail(self, column: str, row: int, text: str) -> NoReturn:
        """Refuse the cell of a row counted from 0 over all parts."""
        part = int(np.searchsorted(self.stops, row, side="right"))
        _fail(self.parts[part], column, row - (int(self.stops[part - 1]) if part else 0), text)

    def where(self, row: int) -> str:
        part = int(np.searchsorted(self.stops, row, side="right"))
        local = self.parts[part].row(row - (int(self.stops[part - 1]) if part else 0))
        return local if len(self.parts) == 1 else f"{local} of {self.parts[part].name}"

    def numbers(self, column: str, *, action: bool = False) -> np.ndarray:
        """(rows,) int64 or float64, all finite and within single precision."""
        return np.concatenate([_numbers(part, column, action) for part in self.parts])

    def matrix(self, columns: Sequence[str], *, action: bool = False) -> np.ndarray:
        """(rows, columns) float32, filled column by column."""
        out = np.empty((self.rows, len(columns)), np.float32)
        for j, column in enumerate(columns):
            out[:, j] = self.numbers(column, action=action)
        return out

    def flags(self, column: str) -> np.ndarray:
        """(rows,) bool."""
        return np.concatenate([_flags(part, column) for part in self.parts])

    def series(self, column: str) -> pl.Series:
        """The cells of all parts, none of them empty, in one type: text where the parts differ."""
        cells = [_full(part, column, "a value") for part in self.parts]
        if len({cell.dtype for cell in cells}) > 1:
            cells = [cell.cast(pl.String) for cell in cells]
        return pl.concat(cells)

    def anything(self, column: str) -> np.ndarray:
        """(rows,) of any kind, none empty and none NaN."""
        cells = self.series(column)
        if cells.dtype.is_numeric():
            return self.numbers(column)
        if cells.dtype == pl.Boolean:
            return cells.to_numpy()
        if cells.dtype.is_temporal() and cells.dtype != pl.Time:
            return cells.to_numpy()
        if cells.dtype.is_nested():
            raise BadData(f"{self.name}: column {column!r} holds {cells.dtype}; expected one value per row. Give each its own column.")
        return np.asarray(cells.cast(pl.String).to_list(), dtype=str)


def _fail(part: Part, column: str, row: int, text: str) -> NoReturn:
    raise BadData(f"{part.name}: column {column!r}, {part.row(row)}: {text}")


def _full(part: Part, column: str, expected: str) -> pl.Series:
    """The column, if no cell is empty."""
    cells = part.frame[column]
    if cells.null_count():
        row = int(cells.is_null().arg_max() or 0)
        _fail(part, column, row, f"expected {expected}, found an empty cell ({cells.null_count():,} in this column). "
              "Fill it in, or leave its episode out.")  # fmt: skip
    return cells


def _numbers(part: Part, column: str, action: bool = False) -> np.ndarray:
    cells = _full(part, column, "a number")
    kind = cells.dtype
    if kind == pl.Boolean:
        return cells.cast(pl.Int64).to_numpy()
    if kind in (pl.String, pl.Categorical, pl.Enum):
        text = cells.cast(pl.String).str.strip_chars()
        for number in (pl.Int64, pl.Float64):
            parsed = text.cast(number, strict=False)
            if parsed.null_count() == 0 and part.csv:
                return _finite(part, column, parsed)
        wrong = parsed.is_null()
        if 2 * parsed.null_count() > len(cells) or not part.csv:
            examples = ", ".join(map(repr, cells.unique(maintain_order=True).head(3).to_list()))
            remedy = "Code the actions as integers 0 … n-1." if action else "Code it as numbers, for example one 0/1 column for each word."
            row = int(wrong.arg_max() or 0)
            _fail(part, column, row, f"expected numbers, found {'text' if kind == pl.String else 'categories'} ({examples} …). {remedy}")
        row = int(wrong.arg_max() or 0)
        _fail(part, column, row, f"expected a number, found {cells[row]!r}. Correct the cell, or leave its episode out.")
    if kind.is_integer():
        whole = cells.cast(pl.Int64, strict=False)
        cells = cells.cast(pl.Float64) if whole.null_count() else whole
    elif isinstance(kind, pl.Decimal):
        cells = cells.cast(pl.Float64)
    elif not kind.is_numeric():
        remedy = "Give each number its own column." if kind.is_nested() else "Turn it into numbers."
        _fail(part, column, 0, f"expected numbers, found {kind} ({cells[0]}). {remedy}")
    return _finite(part, column, cells)


def _finite(part: Part, column: str, cells: pl.Series) -> np.ndarray:
    numbers = cells.to_numpy()
    if numbers.dtype.kind != "f":
        return numbers.astype(np.int64)
    numbers = numbers.astype(np.float64)
    fits = np.abs(numbers) <= WIDEST  # false for NaN too
    if not fits.all():
        row = int(np.argmin(fits))
        _fail(part, column, row, f"expected a finite number (below {WIDEST:.1e}), found {part.frame[column][row]}. "
              "Correct the cell, or leave its episode out.")  # fmt: skip
    return numbers


def _flags(part: Part, column: str) -> np.ndarray:
    cells = _full(part, column, "true/false or 1/0")
    if cells.dtype == pl.Boolean:
        return cells.to_numpy()
    if cells.dtype.is_numeric():
        known = (cells == 0) | (cells == 1)
        out = cells == 1
    else:
        text = cells.cast(pl.String, strict=False).str.strip_chars().str.to_lowercase() if not cells.dtype.is_nested() else cells
        known = text.is_in(["true", "false", "1", "0"]) if text.dtype == pl.String else pl.repeat(False, len(cells), eager=True)
        out = text.is_in(["true", "1"]) if text.dtype == pl.String else known
    if not known.all():
        row = int((~known).arg_max() or 0)
        _fail(part, column, row, f"expected true/false or 1/0, found {cells[row]!r}. Correct the cell.")
    return out.to_numpy()


# columns by name --------------------------------------------------------------------------------------------------------


def _said(part: Part, roles: dict) -> str | None:
    """What `terminal` says in words, "always" or "never", and takes it out of the roles."""
    if "terminal" not in roles:
        raise BadData(f"{part.name}: 'terminal' is not given. Name the column that is true where an episode truly ended, or say "
                      'terminal="always" (every episode ends for good in its last row) or terminal="never" (the log only stops there): '
                      "whether there is a future behind the last row decides what it is worth.")  # fmt: skip
    word = roles["terminal"]
    if word not in ("always", "never") or word in part.names:
        return None
    del roles["terminal"]
    if word == "always" and "truncated" in roles:
        raise BadData(f'{part.name}: terminal="always" says that no episode is cut, but a column of cuts is given as \'truncated\'. '
                      "Name the column of true ends, or leave 'truncated' out.")  # fmt: skip
    return word


def _resolve(part: Part, roles: dict) -> dict[str, list[str]]:
    """The columns of every role, with wildcards spelt out."""
    found: dict[str, list[str]] = {}
    owner: dict[str, tuple[str, bool]] = {}
    for role, given in roles.items():
        several = role in ("obs", "action", "mask", "info")
        patterns = [given] if isinstance(given, str) or not several else list(given)
        found[role] = []
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise BadData(f"{part.name}: {role!r} must name columns, but got {pattern!r}. Give names as text.")
            exact = pattern in part.names
            columns = [pattern] if exact else sorted(fnmatch.filter(part.names, pattern), key=_natural) if _wild(pattern) else []
            if not columns:
                raise BadData(f"{part.name}: no column {'matches' if _wild(pattern) else 'is called'} {pattern!r}, asked for as {role!r}. "
                              f"{among(pattern, part.names, 'There are')}{_hint(part)}")  # fmt: skip
            if not several and len(columns) > 1:
                raise BadData(f"{part.name}: {role!r} must be one column, but {pattern!r} names {len(columns)}: {columns[:8]}. Name one.")
            for column in columns:
                other, named = owner.get(column, (None, True))
                # time and step numbers may well be observed, if that is said by name; a wildcard that catches them is an accident
                if other is not None and role != "info" and not ({role, other} == {"obs", "time"} and exact and named):
                    what = f"twice in {role!r}" if other == role else f"as {other!r} and as {role!r}"
                    raise BadData(f"{part.name}: column {column!r} is used {what}. Give every column one role"
                                  f"{'' if exact and named else ', with a narrower wildcard or a list'}.")  # fmt: skip
                owner.setdefault(column, (role, exact))
            found[role] += columns
        if not found[role]:
            raise BadData(f"{part.name}: {role!r} names no column. Give at least one.")
    return found


def _wild(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _natural(name: str) -> list:
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", name)]


def _hint(part: Part) -> str:
    lone = part.names[0] if len(part.names) == 1 else ""
    sign = next((sign for sign in (";", "\t", "|", ",") if sign in lone), None)
    return f" The header is one name with {sign!r} in it; if that is the separator, write the file with commas." if sign else ""
