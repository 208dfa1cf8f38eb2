"""Cells of a table as numbers, flags, words or moments, whatever kind of column they were stored in. Empty cells are null."""

import re
from collections.abc import Collection

import numpy as np
import polars as pl

from .codec import Fail
from .episodes import BadData

SMALL = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
WIDEST = float(np.finfo(np.float32).max)
TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
COMMA = re.compile(r"[+-]?\d+,\d+")
"A number with a decimal comma, or with a comma between its thousands."
FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
"Dates that cannot be mistaken: ISO 8601, with a space or a T, with or without an offset from UTC, or the word UTC."
CLOCK = set("HIklMSpPTRrXf")
"Signs of a format that has the time of the day alone."


def clean(frame: pl.DataFrame, empty: Collection[str] = ()) -> pl.DataFrame:
    """Texts without spaces around them; blank ones, NaN and the words of `empty` as null; dates in UTC; durations as numbers of seconds; rare kinds of numbers as text."""

    def one(column: pl.Series) -> pl.Series:
        kind = column.dtype
        if kind.is_float():
            return column.cast(pl.Float64).fill_nan(None)
        if kind in SMALL:
            return column.cast(pl.Int64)
        if isinstance(kind, pl.Datetime):
            column = column if kind.time_zone is None else column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            return column.cast(pl.Datetime("us"))
        if isinstance(kind, pl.Duration):
            return column.dt.total_microseconds() / 1e6
        if kind == pl.Date:
            return column.cast(pl.Datetime("us"))
        if kind == pl.String or isinstance(kind, (pl.Categorical, pl.Enum, pl.Decimal)) or kind.is_integer() or kind == pl.Null:
            text = column.cast(pl.String).str.strip_chars()
            return text.set(text.is_in(["", *empty]), None)
        return column

    return frame.with_columns([one(column) for column in frame])


def numbers(cells: pl.Series, fail: Fail, *, decimal: str = ".") -> pl.Series:
    """Float64, all of them finite and within single precision."""
    kind = cells.dtype
    if kind == pl.String:
        out = parsed(cells, decimal)
        if (wrong := out.is_null() & cells.is_not_null()).any():
            row = wrong.arg_max()
            fail(cells.name, row, f"expected a number, found {cells[row]!r}. Correct the cell; if it stands for an empty one, give "
                 f"--na {cells[row]!r}{'; if its comma stands before decimals, --decimal ,' if COMMA.fullmatch(cells[row]) else ''}.")  # fmt: skip
    elif kind.is_numeric() or kind == pl.Boolean:
        out = cells.cast(pl.Float64)
    else:
        row = cells.is_not_null().arg_max()
        remedy = "Give each number a column of its own." if kind.is_nested() else "Turn it into numbers first."
        fail(cells.name, row, f"expected numbers, found {kind} ({cells.gather([row]).to_list()[0]}). {remedy}")
    out = out.fill_nan(None)
    if (wide := (out.abs() > WIDEST)).any():
        row = wide.arg_max()
        fail(cells.name, row, f"expected a finite number (below {WIDEST:.1e}), found {cells[row]}. Correct the cell; if such cells stand "
             f"for empty ones, give --na {cells[row]!r}.")  # fmt: skip
    return out


def parsed(cells: pl.Series, decimal: str = ".") -> pl.Series:
    """Texts as Float64: null where they are none, NaN where they say so."""
    return (cells if decimal == "." else cells.str.replace(decimal, ".", literal=True)).cast(pl.Float64, strict=False)


def flags(cells: pl.Series, fail: Fail) -> pl.Series:
    """Boolean: of true and false, yes and no, 1 and 0."""
    if cells.dtype == pl.Boolean:
        return cells
    if cells.dtype.is_numeric():
        out, known = cells == 1, (cells == 0) | (cells == 1)
    elif cells.dtype == pl.String:
        text = cells.str.to_lowercase().str.replace(r"^([01])\.0*$", "$1")
        out, known = text.is_in(TRUE), text.is_in([*TRUE, *FALSE])
    else:
        fail(cells.name, cells.is_not_null().arg_max(), f"expected true or false, found {cells.dtype}. Give true and false, or 1 and 0.")
    if (wrong := ~known & cells.is_not_null()).any():
        row = wrong.arg_max()
        fail(cells.name, row, f"expected true or false, yes or no, 1 or 0, found {cells[row]!r}. Correct the cell, or say what counts as "
             f"true by a formula, such as '{cells.name} == \"{cells[row]}\"'.")  # fmt: skip
    return out.set(cells.is_null(), None)


def words(cells: pl.Series, fail: Fail) -> pl.Series:
    """String: numbers that are equal are the same word (1.0 and 1), true and false are words."""
    kind = cells.dtype
    if kind == pl.Boolean or kind.is_integer():
        return cells.cast(pl.String)
    if kind.is_float():
        whole = cells.cast(pl.Int64, strict=False)
        return whole.cast(pl.String).zip_with((whole.cast(pl.Float64) == cells).fill_null(False), cells.cast(pl.String))
    if kind == pl.String:
        point = cells.str.extract(r"^(-?\d+)\.0*$", 1)
        return point.zip_with(point.is_not_null(), cells)
    if kind.is_temporal():
        return cells.cast(pl.String)
    return fail(cells.name, cells.is_not_null().arg_max(), f"expected one value a cell, found {kind}. Give each value a column of its own.")


def moments(cells: pl.Series, fail: Fail, *, dates: bool, form: str | None = None) -> pl.Series:
    """Whole microseconds since 1970 of `dates` (those without an offset as if in UTC), else numbers; Int64 or Float64.

    `form` is the format of dates in text, as of strftime; without it ISO 8601.
    """
    kind = cells.dtype
    if kind == pl.String and dates:
        out = dated(cells, form)
        if (wrong := out.is_null() & cells.is_not_null()).any():
            row = wrong.arg_max()
            fail(cells.name, row, f"expected a date such as {'2024-01-31 12:00' if form is None else form}, found {cells[row]!r}. Correct "
                 "the cell, or say how dates are written, for example --time-format '%d.%m.%Y %H:%M'.")  # fmt: skip
        return out
    if kind == pl.String:
        whole = cells.cast(pl.Int64, strict=False)
        return numbers(cells, fail) if whole.null_count() > cells.null_count() else whole
    if kind == pl.Datetime:
        return cells.dt.timestamp("us")
    if kind == pl.Time:
        return cells.cast(pl.Duration("us")).dt.total_microseconds()
    return cells if kind.is_integer() else numbers(cells, fail)


def dated(cells: pl.Series, form: str | None = None) -> pl.Series:
    """Texts as whole microseconds since 1970, or since midnight where `form` has no day; null where they are no dates."""
    text = pl.col(cells.name)
    if form is None:
        text = text.str.replace(r"^(\d{4}-\d\d-\d\d)T", "$1 ").str.replace(" ?(Z|UTC|GMT)$", "+00:00")
    if form is not None and set(re.findall("%[-_0.]*([A-Za-z+])", form)) <= CLOCK:
        read = [text.str.to_time(form, strict=False).cast(pl.Duration("us")).dt.total_microseconds()]
    else:
        forms = [form] if form else [*(f"{f}%#z" for f in FORMATS[:2]), *FORMATS]
        read = [text.str.to_datetime(f, strict=False, time_unit="us").dt.timestamp("us") for f in forms]
    try:
        return cells.to_frame().select(pl.coalesce(*read).alias(cells.name)).to_series()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        said = str(error).strip().splitlines()[0]
        raise BadData(f"{form!r} is no format of dates ({said}). Give one such as '%d.%m.%Y %H:%M'.") from error
