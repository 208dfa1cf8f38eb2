"""Where rows come from: files, folders and patterns of them, answers to SQL, frames. Each gives its rows in batches, so that none need fit into memory."""

import contextlib
import dataclasses
import glob
import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import polars as pl
import pyarrow as pa

from ..episodes import BadData
from ..formats import existing, suffix, unreadable
from ..formats.files import ARROW, CSV, PARQUET, arrow, framed, header, is_frame, line_of, named, once, parquet, stretches

TABLES = (*CSV, *PARQUET, *ARROW)
JSON = (".json", ".jsonl", ".ndjson")
DATABASES = {b"SQLite format 3\0": "SQLite", b"DUCK": "DuckDB"}

Batches = Iterator[tuple[pl.DataFrame, float]]
"Rows, and which share of the part has then been read."


@dataclasses.dataclass(frozen=True)
class Part:
    """One file, frame or answer."""

    name: str
    kind: str
    names: list[str]
    read: Callable[[list[str], int], Batches]
    "Some of its columns, in batches of about so many bytes."
    path: Path | None = None
    line: Callable[[int], int] | None = None
    "Of CSV: the line in which a row counted from 0 begins."
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return 0 if self.path is None else self.path.stat().st_size

    def place(self, row: int) -> str:
        """Row `row`, counted from 0, as a person counts it: from 1, and in a CSV file by its line too."""
        return f"row {row + 1:,}" + (f" (line {self.line(row):,})" if self.line else "")

    def sha256(self) -> str | None:
        if self.path is None:
            return None
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def parts(source: Any, *, query: str | None, separator: str | None, encoding: str, memory: int, scratch: Path) -> list[Part]:
    """All parts of a source, in the order in which they were given; files of a folder in natural order (2 before 10)."""
    if is_frame(source):
        if query is not None:
            raise BadData("A query is for a database, but a frame was given. Leave the query out, and select in the frame.")
        return [_frame(source)]
    given = [source] if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(given, Sequence) or not all(isinstance(path, (str, os.PathLike)) for path in given):
        raise BadData(f"Expected a path, a list of paths, or a Polars, pandas or pyarrow table, but got {type(source).__name__}.")
    if query is not None:
        if len(given) > 1:
            raise BadData(
                f"A query is for one database, but {len(given)} files were given. Name one; or none, and the files within the query."
            )
        path = _regular(existing(given[0])) if given else None
        return [_sqlite(path, query) if path and _database(path) == "SQLite" else _duckdb(path, query, memory, scratch)]
    if not given:
        raise BadData("There is no file to import. Name files, folders or patterns such as 'stays/*.csv', or give a query.")
    paths, notes = _files(given)
    found = [_in_folders(_file(path, separator, encoding), path) for path in paths]
    return [dataclasses.replace(found[0], notes=(*notes, *found[0].notes)), *found[1:]]


# files ------------------------------------------------------------------------------------------------------------------


def natural(name: str) -> list:
    """The key that sorts a2 before a10."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", name)]


def within(names: Sequence[str]) -> str | None:
    """The sign that separates the cells, where a header was taken for a single name."""
    lone = names[0] if len(names) == 1 else ""
    sign = max(";\t|,", key=lone.count)
    return sign if sign in lone else None


def hint(names: Sequence[str]) -> str:
    """A sentence on the separator, where that is the trouble."""
    return f" The header is one name with {sign!r} in it: give --separator {sign!r}." if (sign := within(names)) else ""


def _files(given: Sequence[str | os.PathLike]) -> tuple[list[Path], list[str]]:
    """Every file that is meant, each once, and what was left alone in folders."""
    found, notes = [], []
    for path in given:
        text = str(path)
        if any(sign in text for sign in "*?[") and not os.path.exists(text):
            inside = sorted((Path(name) for name in glob.glob(text, recursive=True)), key=lambda p: natural(str(p)))
            inside = [path for path in inside if path.is_file()]
            if not inside:
                raise BadData(f"{text}: no file fits this pattern. Correct it.")
            found += inside
        elif existing(path).is_dir():
            inside, other = _folder(Path(path))
            found += inside
            if other:
                notes.append(f"{len(other):,} files in {text} are no tables, and were left alone: {', '.join(p.name for p in other[:5])}"
                             f"{' …' if len(other) > 5 else ''}.")  # fmt: skip
        else:
            found.append(Path(path))
    real = [os.path.realpath(path) for path in found]
    if twice := [str(path) for path, name in zip(found, real) if real.count(name) > 1] if len(set(real)) < len(real) else []:
        raise BadData(f"{twice[0]} is given {len(twice)} times ({', '.join(twice[:4])}), so that its rows would count more than once. Name every file once.")  # fmt: skip
    return found, notes


def _folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """(tables, other files) in a folder and those within it; links to folders are not followed, hidden names not looked at."""
    names = [Path(root) / name for root, folders, files in os.walk(folder) if not folders.sort() for name in files]
    names = sorted(
        (p for p in names if not any(piece.startswith(".") for piece in p.relative_to(folder).parts)), key=lambda p: natural(str(p))
    )
    tables = [path for path in names if suffix(path) in TABLES and path.is_file()]
    if not tables:
        raise BadData(f"{folder}: there is no table in this folder ({' '.join(TABLES)}). Correct the path.")
    return tables, [path for path in names if path not in set(tables)]


def _regular(path: Path) -> Path:
    if not path.is_file():
        raise BadData(f"{path}: expected a file, but it is a folder.")
    return path


def called(path: Path) -> str:
    """The path as text that can be written anywhere: bytes that are no letters are shown as such."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _database(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(16)
    return next((kind for mark, kind in DATABASES.items() if mark in (head, head[8:12])), None)


def _file(path: Path, separator: str | None, encoding: str) -> Part:
    path, ending = _regular(existing(path)), suffix(path)
    if path.stat().st_size == 0:
        raise BadData(f"{path}: the file is empty. Fetch or write it again.")
    if (kind := _database(path)) is not None:
        raise BadData(f"{path} is a {kind} database: say what to read from it by --query, for example --query 'SELECT * FROM {_some_table(path, kind)}'.")  # fmt: skip
    if ending in CSV:
        return _csv(path, separator or CSV[ending], encoding)
    if ending in PARQUET:
        return _parquet(path)
    if ending in ARROW:
        return _arrow(path)
    if ending in JSON:
        raise BadData(
            f"{path}: JSON is read by a query, which can also take nested values apart: --query \"SELECT *, state.hp AS hp FROM '{path}'\"."
        )
    raise BadData(f"{path}: files that end in {ending or 'nothing'!r} are not imported. Imported are {' '.join(TABLES)}, and SQLite and "
                  "DuckDB databases with --query. Rename or convert the file.")  # fmt: skip


def _told_by_folders(path: Path) -> dict[str, str | None]:
    """Columns that stand in the names of folders, as Hive, Spark and Polars write them: year=2024/month=1/part.parquet."""
    pairs = (piece.split("=", 1) for piece in path.parts[:-1] if "=" in piece)
    return {unquote(name): None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value) for name, value in pairs if name}


def _in_folders(part: Part, path: Path) -> Part:
    """The part with the columns that its folders tell. Those of the file itself prevail."""
    told = {name: value for name, value in _told_by_folders(path).items() if name not in part.names}
    if not told:
        return part

    def read(columns: list[str], size: int) -> Batches:
        for frame, share in part.read([name for name in columns if name not in told] or part.names[:1], size):
            beside = [pl.lit(told[name], pl.String).alias(name) for name in columns if name in told]
            yield frame.with_columns(beside).select(columns), share

    apart(part.name, names := [*part.names, *told])
    note = f"Taken from the names of folders, for every row of the files within: {', '.join(told)}."
    return dataclasses.replace(part, names=names, read=read, notes=(*part.notes, note))


def _some_table(path: Path, kind: str) -> str:
    if kind == "SQLite":
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(path)) as base:
            rows = base.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name").fetchall()
            return str(rows[0][0]) if rows else "stays"
    return "stays"


def _csv(path: Path, separator: str, encoding: str) -> Part:
    written = header(path, separator, encoding)
    names = named(path, written)
    apart(path, names)

    def read(columns: list[str], size: int) -> Batches:
        places = sorted((names.index(column), column) for column in columns)
        for stretch in stretches(path, separator, len(names), encoding, size):
            with _sound(path, "a CSV file"):
                some = [j for j, _ in places]
                frame = pl.read_csv(stretch.text, has_header=False, separator=separator, infer_schema=False, columns=some)
                frame = frame.rename(dict(zip(frame.columns, (name for _, name in places), strict=True)))
            if frame.height != stretch.rows:
                raise BadData(
                    f"{path}: expected {stretch.rows:,} rows, but {frame.height:,} can be read. Write it without control characters."
                )
            yield frame.select(columns), stretch.share

    unnamed = [name for name, said in zip(names, written) if not said.strip()]
    notes = (f"{path.name}: the header leaves {len(unnamed)} name{'s' if len(unnamed) > 1 else ''} empty; called {', '.join(unnamed[:5])}.",) if unnamed else ()  # fmt: skip
    return Part(called(path), "CSV", names, read, path, lambda row: line_of(path, row, encoding), notes)


def _parquet(path: Path) -> Part:
    with _sound(path, "a Parquet file"):
        with parquet(path) as file:
            names, rows, width = file.schema_arrow.names, file.metadata.num_rows, _width(file.metadata)
    apart(path, names)

    def read(columns: list[str], size: int) -> Batches:
        with contextlib.ExitStack() as after:
            with _sound(path, "a Parquet file"):
                file = after.enter_context(parquet(path))
                batches = file.iter_batches(max(1, size // width), columns=columns, use_threads=False)
            yield from _of_arrow(path, "a Parquet file", batches, columns, rows)

    return Part(called(path), "Parquet", names, read, path)


def _width(metadata) -> int:
    """Bytes of a row of a Parquet file, as it is in memory."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return 16 * metadata.num_columns + sum(group.total_byte_size for group in groups) // max(1, metadata.num_rows)


def _arrow(path: Path) -> Part:
    kind = "an Arrow file"
    with arrow(path) as reader, _sound(path, kind):
        names = reader.schema.names
    apart(path, names)

    def read(columns: list[str], size: int) -> Batches:
        with arrow(path) as reader:
            whole = (
                (reader.get_batch(i) for i in range(reader.num_record_batches)) if isinstance(reader, pa.RecordBatchFileReader) else reader
            )
            for frame, _ in _of_arrow(
                path, kind, (piece for batch in whole for piece in _sliced(batch.select(columns), size)), columns, None
            ):
                yield frame, 0.0

    return Part(called(path), "Arrow", names, read, path)


def _sliced(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    rows = max(1, size * max(1, batch.num_rows) // max(1, batch.nbytes))
    return (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))


def _of_arrow(name, kind: str, batches: Iterator[pa.RecordBatch], columns: list[str], rows: int | None) -> Batches:
    done = 0
    while True:
        with _sound(name, kind):
            batch = next(batches, None)
            frame = None if batch is None else framed(batch, columns)
        if frame is None:
            return
        done += frame.height
        yield frame, min(1.0, done / rows) if rows else 0.0


@contextlib.contextmanager
def _sound(name, kind: str):
    """Whatever a decoder makes of a damaged file is `BadData`."""
    with unreadable(name, kind):
        try:
            yield
        except pl.exceptions.PanicException as error:  # not an `Exception`: damaged bytes can make the decoder panic
            raise OSError(str(error)) from error


def apart(name, names: Sequence[str]) -> None:
    """`BadData`, if names are the same, or cannot be used beside ours."""
    once(name, names)
    if odd := [column for column in names if "\0" in column or "\1" in column]:
        raise BadData(f"{name}: the name {odd[0]!r} holds a control character. Rename the column.")


# frames and databases ---------------------------------------------------------------------------------------------------


def _frame(source) -> Part:
    module = type(source).__module__.split(".")[0]
    if module == "pandas":
        apart("table", [str(name) for name in source.columns])
    with _sound("table", "a table with one type a column and every column name once"):
        if module == "pandas":
            source = pl.from_pandas(source)
        elif module == "pyarrow":
            apart("table", source.column_names)
            source = pl.from_arrow(source)
        elif isinstance(source, pl.LazyFrame):
            source = source.collect(engine="streaming")
    if not isinstance(source, pl.DataFrame):
        raise BadData(f"Expected a path, a list of paths, or a Polars, pandas or pyarrow table, but got {type(source).__name__}.")
    apart("table", source.columns)

    def read(columns: list[str], size: int) -> Batches:
        if objects := [name for name in columns if source.schema[name] == pl.Object]:
            raise BadData(f"table: column {objects[0]!r} holds objects of Python. Turn them into numbers or words.")
        rows = max(1, size * max(1, source.height) // max(1, int(source.estimated_size())))
        return ((source[columns][start : start + rows], start / source.height) for start in range(0, source.height, rows))

    return Part("table", "frame", source.columns, read)


def _connect(path: Path) -> sqlite3.Connection:
    """Read only: anything but a query is refused by the database itself."""
    base = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
    allowed = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
    base.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY)
    return base


def _sqlite(path: Path, query: str) -> Part:
    """Cells of SQLite have no type but their own, so they travel as text, as those of a CSV file do."""
    name = f"{path} (query)"

    def rows(base):
        try:
            cursor = base.execute(query)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise BadData(f"{path}: the query cannot be answered: {error}. It must be one SELECT; the database is opened read only.") from error  # fmt: skip
        if cursor.description is None:
            raise BadData(f"{path}: the query answers with no table. It must be one SELECT.")
        return cursor

    with contextlib.closing(_connect(path)) as base:
        names = [column[0] for column in rows(base).description]
    apart(name, names)

    def read(columns: list[str], size: int) -> Batches:
        places, count = [(names.index(column), column) for column in columns], max(1, size // (64 * len(names)))
        with contextlib.closing(_connect(path)) as base:
            cursor, done = rows(base), 0
            while True:
                with _sound(name, "rows of text and numbers"):
                    batch = cursor.fetchmany(count)
                if not batch:
                    return
                yield (
                    pl.DataFrame({column: _texts([row[j] for row in batch], f"{name}: column {column!r}", done) for j, column in places}),
                    0.0,
                )
                done += len(batch)

    return Part(name, "SQLite", names, read, path)


def _texts(cells: list, where: str, done: int) -> pl.Series:
    for row, cell in enumerate(cells):
        if isinstance(cell, bytes):
            raise BadData(
                f"{where}, row {done + row + 1:,}: expected text or a number, found bytes. Leave the column out of the query, or cast it."
            )
    return pl.Series([None if cell is None else cell if isinstance(cell, str) else repr(cell) for cell in cells], dtype=pl.String)


def _duckdb(path: Path | None, query: str, memory: int, scratch: Path) -> Part:
    """One SELECT, on a database that is opened read only, or on the files that the query names. Nothing is fetched from a network."""
    try:
        import duckdb
    except ImportError as error:
        raise BadData("Queries need DuckDB, unless the file is a SQLite database: pip install 'topstitch[sql]'.") from error
    name = f"{path} (query)" if path else "query"
    settings = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "temp_directory": str(scratch / "duckdb"),
                "memory_limit": f"{max(memory // 2, 64 << 20) >> 20}MB", "threads": "1"}  # fmt: skip

    @contextlib.contextmanager
    def opened():
        try:
            with duckdb.connect(str(path or ":memory:"), read_only=path is not None, config=settings) as base:
                asked = duckdb.extract_statements(query)
                if len(asked) != 1 or asked[0].type != duckdb.StatementType.SELECT:
                    raise BadData(f"{name}: expected one SELECT, but the query is something else. Nothing but reading is allowed.")
                yield base
        except duckdb.Error as error:
            raise BadData(f"{name}: the query cannot be answered: {str(error).strip().splitlines()[0]}. Correct it.") from error

    with opened() as base:
        names = [column[0] for column in base.execute(f"SELECT * FROM ({query.strip().rstrip(';')}\n) LIMIT 0").description or ()]
    apart(name, names)

    def read(columns: list[str], size: int) -> Batches:
        with opened() as base:
            answer = base.sql(query)
            reader = answer.to_arrow_reader if hasattr(answer, "to_arrow_reader") else answer.fetch_arrow_reader
            for batch in reader(max(1024, size // (32 * len(names)))):
                yield pl.from_arrow(pa.Table.from_batches([batch])).select(columns), 0.0  # pyright: ignore

    return Part(name, "DuckDB", names, read, path)
