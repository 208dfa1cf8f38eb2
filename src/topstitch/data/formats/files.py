"""The files and frames that tables come in. What a decoder would let pass or only count (short rows of a CSV file) is refused here."""

import contextlib
import csv
import gzip
import io
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl

from ..episodes import BadData
from . import existing, suffix, unreadable

CSV = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
PARQUET, ARROW = (".parquet", ".pq"), (".arrow", ".feather", ".ipc")
SUFFIXES = (*CSV, *PARQUET, *ARROW)


class Part:
    """One file or frame: its rows, and how a person finds one of them."""

    def __init__(self, name: str, names: list[str], load: Callable[[list[str]], pl.DataFrame], *, csv: tuple[Path, str] | None = None):
        self.name, self.names, self.load, self.csv = name, names, load, csv
        self.frame = pl.DataFrame()
        self.notes: list[str] = []

    def row(self, row: int) -> str:
        """Row `row` as a person counts it: from 1, and in a CSV file by its line too."""
        return f"row {row + 1:,}" + (f" (line {_line(*self.csv, row):,})" if self.csv else "")


def is_frame(source) -> bool:
    """Whether it is a Polars, pandas or pyarrow table."""
    return type(source).__module__.split(".")[0] in ("polars", "pandas", "pyarrow")


def parts(source) -> list[Part]:
    if is_frame(source):
        return [_frame(source)]
    if isinstance(source, (str, os.PathLike)):
        return [_file(source)]
    if isinstance(source, Sequence) and source and all(isinstance(path, (str, os.PathLike)) for path in source):
        return [_file(path) for path in source]
    raise BadData(f"Expected a path, a list of paths, or a Polars, pandas or pyarrow table, but got {type(source).__name__}.")


def _frame(source) -> Part:
    module = type(source).__module__.split(".")[0]
    with unreadable("table", "a table with one type a column and every column name once"):
        if module == "pandas":
            source = pl.from_pandas(source)
        elif module == "pyarrow":
            source = pl.from_arrow(source)
        elif isinstance(source, pl.LazyFrame):
            source = source.collect()
    if not isinstance(source, pl.DataFrame):
        raise BadData(f"Expected a path, a list of paths, or a Polars, pandas or pyarrow table, but got {type(source).__name__}.")
    return Part("table", source.columns, source.select)


def _file(path) -> Part:
    path = existing(path)
    ending = suffix(path)
    if ending in CSV:
        return _text(path, CSV[ending])
    if path.is_dir() or ending not in SUFFIXES:
        raise BadData(f"{path}: expected a table, one of {' '.join(SUFFIXES)}. Rename or convert the file.")
    head = _head(path)
    if ending in PARQUET:
        kind = "a Parquet file"
        if head[:4] != b"PAR1":
            raise BadData(f"{path}: expected {kind}, but it does not begin like one. Fetch or write it again.")
        load = lambda columns: pl.read_parquet(path, columns=columns, glob=False, hive_partitioning=False)
        return _binary(path, kind, pl.read_parquet_schema, load)
    kind = "an Arrow file"
    if head[:4] == b"FEA1":
        raise BadData(f"{path}: a Feather file of version 1, which is not read. Write it again as version 2 or as Parquet.")
    if head[:6] == b"ARROW1":
        return _binary(path, kind, pl.read_ipc_schema, lambda columns: pl.read_ipc(path, columns=columns))
    load = lambda columns: pl.read_ipc_stream(path, columns=columns)
    return _binary(path, kind, lambda path: pl.read_ipc_stream(path, n_rows=0).schema, load)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        raise BadData(f"{path}: the file is empty. Fetch or write it again.")
    return head


def _binary(path: Path, kind: str, schema: Callable, load: Callable) -> Part:
    names = list(_guarded(path, kind, lambda: schema(path)))
    return Part(str(path), names, lambda columns: _guarded(path, kind, lambda: load(columns)).select(columns))


def _guarded(path: Path, kind: str, call: Callable):
    """The answer of Polars' decoder, or `BadData`."""
    with unreadable(path, kind):
        try:
            return call()
        except pl.exceptions.PanicException as error:  # not an `Exception`: damaged bytes can make the decoder panic
            raise OSError(str(error)) from error


# CSV --------------------------------------------------------------------------------------------------------------------


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


@contextlib.contextmanager
def _records(path: Path, separator: str):
    """The header and the rows as lists of cells, and the line where each ends in `line_num`."""
    with _open(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        yield csv.reader(text, delimiter=separator, strict=True)


def _text(path: Path, separator: str) -> Part:
    """A CSV file. Its types are inferred from all rows, so that one bad cell leaves a column as text, where it can be named."""
    if path.is_dir():
        raise BadData(f"{path}: expected a file, but it is a folder.")
    try:
        with _records(path, separator) as records:
            names = next(records, None)
        if not names or names == [""]:
            raise BadData(f"{path}: the file is empty; expected a header and rows. Fetch or write it again.")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise BadData(f"{path}: the header names {', '.join(map(repr, repeated))} more than once. Give every column a name of its own.")
        rows, whole = _shape(path, separator, len(names))
    except UnicodeDecodeError as error:
        raise BadData(f"{path}: expected text in UTF-8, but byte {error.start:,} is not. Save the file as UTF-8.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path}: the compressed file is damaged or cut short ({error}). Fetch it again.") from error
    except csv.Error as error:
        raise BadData(f"{path}: is not CSV: {error}. Look for a quotation mark that is not closed.") from error

    def load(columns: list[str]) -> pl.DataFrame:
        if not rows:
            return pl.DataFrame()
        read = lambda: pl.read_csv(path, columns=columns, separator=separator, infer_schema_length=None, glob=False)
        frame = _guarded(path, "a CSV file", read)
        if rows > frame.height:
            raise BadData(f"{path}: expected {rows:,} rows, but only {frame.height:,} can be read. Write it without control characters.")
        return frame.head(rows).select(columns)

    part = Part(str(path), names, load, csv=(path, separator))
    if not whole:
        part.notes.append(f"{path.name} does not end with the end of a line: make sure that it was not cut short.")
    return part


def _shape(path: Path, separator: str, fields: int) -> tuple[int, bool]:
    """(rows, whether the last line is ended) of a CSV file whose every row has as many fields as its header.

    The reader would fill short rows with empty cells, and what is missing in the middle shifts the rest: that must not pass.
    """
    lines, blank, rest, mark = 0, None, b"", separator.encode()[0]
    with _open(path) as file:
        while chunk := file.read(1 << 24):
            if b'"' in chunk:
                return _quoted(path, separator, fields)
            data = rest + chunk
            body = data[: data.rfind(b"\n") + 1]
            rest = data[len(body) :]
            lines, blank = _count(path, body, fields, mark, lines, blank)
    whole = not rest
    if rest:
        lines, blank = _count(path, rest + b"\n", fields, mark, lines, blank)
    return (lines if blank is None else blank) - 1, whole


def _count(path: Path, body: bytes, fields: int, mark: int, lines: int, blank: int | None) -> tuple[int, int | None]:
    """Lines so far and the first of the blank ones at the end; refuses a line with another number of fields."""
    text = np.frombuffer(body, np.uint8)
    breaks = np.flatnonzero(text == ord("\n"))
    found = 1 + np.diff(np.searchsorted(np.flatnonzero(text == mark), breaks), prepend=0)
    length = np.diff(breaks, prepend=-1) - 1
    if len(text) > 1:
        length -= (length > 0) & (text[np.maximum(breaks - 1, 0)] == ord("\r"))
    empty = length == 0
    if not empty.all():
        last = int(np.flatnonzero(~empty)[-1])
        if blank is not None:
            _ragged(path, blank, 0, fields)
        wrong = (found != fields) | (empty & (np.arange(len(empty)) < last))
        wrong[last + 1 :] = False
        if wrong.any():
            line = int(np.argmax(wrong))
            _ragged(path, lines + line, 0 if empty[line] else int(found[line]), fields)
        blank = None if last == len(empty) - 1 else lines + last + 1
    elif blank is None and len(empty):
        blank = lines
    return lines + len(empty), blank


def _quoted(path: Path, separator: str, fields: int) -> tuple[int, bool]:
    """The same where cells are quoted and may hold separators and line ends."""
    rows, blank = -1, None
    with _records(path, separator) as records:
        for number, cells in enumerate(records):
            if not cells:
                blank = number if blank is None else blank
                continue
            if blank is not None:
                _ragged(path, blank, 0, fields, blank)
            if len(cells) != fields:
                _ragged(path, number, len(cells), fields, number)
            rows = number
    with _open(path) as file:
        last = b""
        while chunk := file.read(1 << 24):
            last = chunk[-1:]
    return rows, last == b"\n"


def _ragged(path: Path, line: int, found: int, fields: int, row: int | None = None) -> NoReturn:
    """Refuse a line counted from 0, the header being line 0."""
    where = f"row {line:,} (line {line + 1:,})" if row is None else f"row {row:,}"
    what = "it is blank" if found == 0 else f"found {found}"
    raise BadData(f"{path}: {where}: expected {fields} fields as in the header, {what}. "
                  "Look there for a separator too many or too few, or a line broken in two.")  # fmt: skip


def _line(path: Path, separator: str, row: int) -> int:
    """The line, counted from 1, in which a row counted from 0 begins."""
    with _records(path, separator) as records:
        before = 0
        for number, _ in enumerate(records):
            if number == row + 1:
                return before + 1
            before = records.line_num
    return row + 2
