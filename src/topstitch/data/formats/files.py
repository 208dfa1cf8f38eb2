"""The files and frames that tables come in. What a decoder would let pass or only count (short rows of a CSV file) is refused here."""

import codecs
import contextlib
import csv
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

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
        return f"row {row + 1:,}" + (f" (line {line_of(*self.csv, row):,})" if self.csv else "")


def is_frame(source) -> bool:
    """Whether it is a Polars, pandas or pyarrow table."""
    return type(source).__module__.split(".")[0] in ("polars", "pandas", "pyarrow")


def parts(source) -> list[Part]:
    if isinstance(source, Part):
        return [source]
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

LONGEST = 1 << 26
"Bytes of a record: what is longer has a quotation mark too few, or is no table."


class Stretch(NamedTuple):
    """Whole records of a CSV file, one behind the other."""

    text: bytes
    "UTF-8."
    rows: int
    ended: bool
    "Whether the last line is ended."
    share: float
    "Of the file that has been read, from 0 to 1."


@contextlib.contextmanager
def _records(path: Path, separator: str, encoding: str = "utf-8"):
    """The header and the rows as lists of cells, and the line where each ends in `line_num`."""
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        with io.TextIOWrapper(file, encoding=encoding, newline="") as text:  # pyright: ignore[reportArgumentType]
            yield csv.reader(text, delimiter=separator, strict=True)


@contextlib.contextmanager
def _is_text(path: Path, encoding: str = "utf-8"):
    """What goes wrong in reading text is `BadData`."""
    try:
        yield
    except UnicodeError as error:
        byte = f"byte {error.start:,} is not" if isinstance(error, UnicodeDecodeError) else f"it is not ({error})"
        raise BadData(f"{path}: expected text in {encoding.upper()}, but {byte}. Save the file as UTF-8, or import it with --encoding, for "
                      "example --encoding latin-1 or utf-16.") from error  # fmt: skip
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path}: the compressed file is damaged or cut short ({error}). Fetch it again.") from error
    except csv.Error as error:
        raise BadData(f"{path}: is not CSV: {error}. Look for a quotation mark that is not closed.") from error


def header(path: Path, separator: str, encoding: str = "utf-8") -> list[str]:
    """The names of the columns, each of them once."""
    with _is_text(path, encoding), _records(path, separator, encoding) as records:
        names = next(records, None)
    if not names or names == [""]:
        raise BadData(f"{path}: the file is empty; expected a header and rows. Fetch or write it again.")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise BadData(f"{path}: the header names {', '.join(map(repr, repeated))} more than once. Give every column a name of its own.")
    return names


def stretches(path: Path, separator: str, fields: int, encoding: str = "utf-8", size: int = 1 << 23) -> Iterator[Stretch]:
    """The rows of a CSV file whose every row has as many fields as its header, some `size` bytes at a time.

    A decoder would fill short rows with empty cells, and what is missing in the middle shifts the rest; a quotation mark that is not
    closed swallows rows. All that is refused here, with its row and line.
    """
    mark, rest, row, line, blank = ord(separator), b"", 0, 1, None
    with _is_text(path, encoding):
        for chunk, share in _utf8(path, encoding, size):
            data = rest + chunk if chunk is not None else rest + b"\n" if rest else b""
            text = np.frombuffer(data, np.uint8)
            quotes = text == ord('"')
            inside = np.cumsum(quotes, dtype=np.uint8) % 2 == 1  # wraps, which leaves odd odd
            breaks = np.flatnonzero((text == ord("\n")) & ~inside)
            starts = np.concatenate([[0], breaks + 1])
            end = int(starts[-1])
            rest = data[end:]

            def where(i: int) -> str:
                return f"{path}: row {row + i:,} (line {line + int(np.count_nonzero(text[: starts[i]] == 10)):,})"

            over = len(rest) > LONGEST or (chunk is None and rest)
            odd = _misplaced(text if over else text[:end], np.flatnonzero(quotes if over else quotes[:end]), inside, mark)
            if odd is not None:
                raise BadData(f"{where(int(np.searchsorted(breaks, odd)))}: is not CSV: a quotation mark in the middle of a cell. Put the whole "
                              "cell in quotation marks and double those within, or look for one that is not closed.")  # fmt: skip
            if over:
                raise BadData(
                    f"{where(len(breaks))}: is not CSV: the row does not end. Look there for a quotation mark that is not closed."
                )
            if not end:
                continue
            if not text[:end].all():
                raise BadData(f"{where(int(np.searchsorted(breaks, int(np.argmin(text[:end])))))}: expected text, found a byte of value 0. "
                              "Write it without control characters.")  # fmt: skip
            data[:end].decode()
            found = 1 + np.diff(np.searchsorted(np.flatnonzero((text == mark) & ~inside), breaks), prepend=0)
            length = breaks - starts[:-1]
            length -= (length > 0) & (text[np.maximum(breaks - 1, 0)] == ord("\r"))
            filled = np.flatnonzero(length)
            if len(filled) and blank is not None:
                raise BadData(f"{blank}: expected {fields} fields as in the header, it is blank. {LOOK}")
            last = int(filled[-1]) if len(filled) else -1
            wrong = ((found != fields) | (length == 0))[: last + 1]
            if wrong.any():
                i = int(np.argmax(wrong))
                what = "it is blank" if length[i] == 0 else f"found {found[i]}"
                raise BadData(f"{where(i)}: expected {fields} fields as in the header, {what}. {LOOK}")
            if last + 1 < len(breaks) and blank is None:
                blank = where(last + 1)
            first, stop = (int(breaks[0]) + 1 if row == 0 else 0), (int(breaks[last]) + 1 if last >= 0 else 0)
            if stop > first:
                yield Stretch(data[first:stop], last + (row > 0), chunk is not None, share)
            row, line = row + len(breaks), line + int(np.count_nonzero(text[:end] == 10))


LOOK = "Look there for a separator too many or too few, or a line broken in two."


def _utf8(path: Path, encoding: str, size: int) -> Iterator[tuple[bytes | None, float]]:
    """The file in pieces of UTF-8 without a byte order mark, and how much of it has been read; at the end None."""
    total, decoder = max(path.stat().st_size, 1), codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)()
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else contextlib.nullcontext(raw) as file:
        first = True
        while chunk := file.read(size):
            if encoding != "utf-8":
                chunk = decoder.decode(chunk).removeprefix("\ufeff" if first else "").encode()
            elif first:
                chunk = chunk.removeprefix(codecs.BOM_UTF8)
            first = False
            yield chunk, min(raw.tell() / total, 1.0)
        if encoding != "utf-8":
            yield decoder.decode(b"", True).encode(), 1.0
    yield None, 1.0


def _misplaced(text: np.ndarray, quotes: np.ndarray, inside: np.ndarray, mark: int) -> int | None:
    """The first quotation mark that neither begins nor ends a cell nor is doubled; the text ends with the end of a line."""
    around = np.isin(np.arange(256), [mark, ord("\n"), ord("\r"), ord('"')])
    opens = inside[quotes]
    fits = np.where(opens, around[text[np.maximum(quotes - 1, 0)]] | (quotes == 0), around[text[np.minimum(quotes + 1, len(text) - 1)]])
    return None if fits.all() else int(quotes[np.argmin(fits)])


def _text(path: Path, separator: str) -> Part:
    """A CSV file. Its types are inferred from all rows, so that one bad cell leaves a column as text, where it can be named."""
    if path.is_dir():
        raise BadData(f"{path}: expected a file, but it is a folder.")
    names, rows, whole = header(path, separator), 0, True
    for stretch in stretches(path, separator, len(names)):
        rows, whole = rows + stretch.rows, stretch.ended

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


def line_of(path: Path, separator: str, row: int, encoding: str = "utf-8") -> int:
    """The line, counted from 1, in which a row counted from 0 begins."""
    with _records(path, separator, encoding) as records:
        before = 0
        for number, _ in enumerate(records):
            if number == row + 1:
                return before + 1
            before = records.line_num
    return row + 2
