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
import pyarrow as pa
import pyarrow.parquet as pq

from ..episodes import BadData
from . import existing, suffix, unreadable

CSV = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
PARQUET, ARROW = (".parquet", ".pq"), (".arrow", ".feather", ".ipc")
SUFFIXES = (*CSV, *PARQUET, *ARROW)
BUFFER = 1 << 20
"Bytes of a column of Parquet that are read at once."


class Part:
    """One file or frame: its rows, and how a person finds one of them."""

    def __init__(self, name: str, names: list[str], load: Callable[[list[str]], pl.DataFrame], *, csv: Path | None = None):
        self.name, self.names, self.load, self.csv = name, names, load, csv
        self.frame = pl.DataFrame()
        self.notes: list[str] = []

    def row(self, row: int) -> str:
        """Row `row` as a person counts it: from 1, and in a CSV file by its line too."""
        return f"row {row + 1:,}" + (f" (line {line_of(self.csv, row):,})" if self.csv else "")


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
    kind, opened = ("a Parquet file", parquet) if ending in PARQUET else ("an Arrow file", arrow)
    with opened(path) as file:
        names = _guarded(path, kind, lambda: file.schema_arrow.names if ending in PARQUET else file.schema.names)
    once(path, names)

    def load(columns: list[str]) -> pl.DataFrame:
        with opened(path) as file:
            return _guarded(path, kind, lambda: framed(file.read(columns) if ending in PARQUET else file.read_all(), columns))

    return Part(str(path), names, load)


# Parquet and Arrow, by pyarrow: a damaged file makes the decoders of Polars end the process ------------------------------


@contextlib.contextmanager
def parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """An open Parquet file, whose columns are read a little at a time."""
    _head(path)
    with contextlib.ExitStack() as after:
        yield _guarded(path, "a Parquet file", lambda: after.enter_context(pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)))


@contextlib.contextmanager
def arrow(path: Path) -> Iterator[pa.RecordBatchFileReader | pa.RecordBatchStreamReader]:
    """An open Arrow file, or a file of an Arrow stream."""
    head = _head(path)
    if head[:4] == b"FEA1":
        raise BadData(f"{path}: a Feather file of version 1, which is not read. Write it again as version 2 or as Parquet.")
    with pa.OSFile(str(path)) as file:
        yield _guarded(path, "an Arrow file", lambda: (pa.ipc.open_file if head[:6] == b"ARROW1" else pa.ipc.open_stream)(file))


def batches(path: Path, columns: list[str], rows: int) -> Iterator[pl.DataFrame]:
    """The rows of a Parquet file, so many at a time."""
    with parquet(path) as file:
        found = file.iter_batches(rows, columns=columns)
        while (batch := _guarded(path, "a Parquet file", lambda: next(found, None))) is not None:
            yield _guarded(path, "a Parquet file", lambda batch=batch: framed(batch, columns))


def framed(batch: pa.RecordBatch | pa.Table, columns: list[str]) -> pl.DataFrame:
    """As a frame of Polars, which believes what it is given: so offsets and texts are checked first."""
    batch = batch.select(columns)
    batch.validate(full=True)
    return pl.DataFrame(pl.from_arrow(batch))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        raise BadData(f"{path}: the file is empty. Fetch or write it again.")
    return head


def _guarded(path: Path, kind: str, call: Callable):
    """The answer of a decoder, or `BadData`."""
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


def decoder(encoding: str):
    """Of pieces of text; `BadData` where Python knows no such encoding, or none of text."""
    try:
        made = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)()
        text = made.decode(b"", True)
    except (LookupError, TypeError, ValueError, AssertionError):
        text = None
    if not isinstance(text, str):
        raise BadData(f"{encoding!r} is no encoding of text that Python knows. Give one such as utf-8, latin-1 or utf-16.")
    made.reset()
    return made


@contextlib.contextmanager
def _records(path: Path, separator: str, encoding: str = "utf-8"):
    """The text; and the header and the rows as lists of cells."""
    decoder(encoding)
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        with io.TextIOWrapper(file, encoding=encoding, newline="") as text:  # pyright: ignore[reportArgumentType]
            yield text, csv.reader(text, delimiter=separator, strict=True)


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
    """The names of the columns, as they are written."""
    with _is_text(path, encoding), _records(path, separator, encoding) as (text, records):
        names = next(records, None)
        if text.newlines == "\r":
            raise BadData(f"{path}: its lines end in carriage returns alone. Save it with the line ends of Unix or Windows.")
    if not names or names == [""]:
        raise BadData(f"{path}: the file is empty; expected a header and rows. Fetch or write it again.")
    return names


def named(path: Path, written: Sequence[str]) -> list[str]:
    """The names of the columns, each of them once; the third is "column 3" where the header leaves it empty."""
    names = [name.strip() or f"column {j + 1}" for j, name in enumerate(written)]
    once(path, names)
    return names


def once(where, names: Sequence[str]) -> None:
    """`BadData`, if two columns of a table have the same name."""
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        places = [str(j + 1) for j, name in enumerate(names) if name == repeated]
        raise BadData(f"{where}: {repeated!r} is the name of more than one column: {', '.join(places[:-1])} and {places[-1]}. Give each a name of its own.")  # fmt: skip


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
            hollow = length == found - 1  # nothing but separators, which spreadsheets leave behind the last row
            filled = np.flatnonzero(~hollow)
            if len(filled) and blank is not None:
                raise BadData(f"{blank}: expected {fields} fields as in the header, it is blank. {LOOK}")
            last = int(filled[-1]) if len(filled) else -1
            wrong = ((found != fields) | hollow)[: last + 1]
            if wrong.any():
                i = int(np.argmax(wrong))
                what = "it is blank" if hollow[i] else f"found {found[i]}"
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
    total, text = max(path.stat().st_size, 1), decoder(encoding)
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else contextlib.nullcontext(raw) as file:
        first = True
        while chunk := file.read(size):
            if encoding != "utf-8":
                chunk = text.decode(chunk).removeprefix("\ufeff" if first else "").encode()
            elif first:
                chunk = chunk.removeprefix(codecs.BOM_UTF8)
            first = False
            yield chunk, min(raw.tell() / total, 1.0)
        if encoding != "utf-8":
            yield text.decode(b"", True).encode(), 1.0
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
    names, rows, whole = named(path, header(path, separator)), 0, True
    for stretch in stretches(path, separator, len(names)):
        rows, whole = rows + stretch.rows, stretch.ended

    def load(columns: list[str]) -> pl.DataFrame:
        if not rows:
            return pl.DataFrame()
        places = sorted(map(names.index, columns))
        read = lambda: pl.read_csv(path, columns=places, separator=separator, infer_schema_length=None, glob=False)
        frame = _guarded(path, "a CSV file", read)
        frame.columns = [names[place] for place in places]
        if rows > frame.height:
            raise BadData(f"{path}: expected {rows:,} rows, but only {frame.height:,} can be read. Write it without control characters.")
        return frame.head(rows).select(columns)

    part = Part(str(path), names, load, csv=path)
    if not whole:
        part.notes.append(f"{path.name} does not end with the end of a line: make sure that it was not cut short.")
    return part


def line_of(path: Path, row: int, encoding: str = "utf-8") -> int:
    """The line, counted from 1, in which a row counted from 0 begins."""
    records, lines, quotes = 0, 0, 0
    for chunk, _ in _utf8(path, encoding, 1 << 23):
        text = np.frombuffer(chunk or b"", np.uint8)
        inside = (np.cumsum(text == ord('"'), dtype=np.uint8) + quotes) % 2 == 1  # wraps, which leaves odd odd
        breaks = np.flatnonzero((text == ord("\n")) & ~inside)
        if records + len(breaks) > row:  # the header is a record too
            return lines + int(np.count_nonzero(text[: breaks[row - records] + 1] == ord("\n"))) + 1
        records, lines = records + len(breaks), lines + int(np.count_nonzero(text == ord("\n")))
        quotes = (quotes + int(np.count_nonzero(text == ord('"')))) % 2
    return row + 2
