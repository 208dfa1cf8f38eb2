"""A table larger than memory, as logs of whole episodes that follow one another."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from .episodes import BadData, Episodes
from .formats import suffix
from .formats.columns import Table
from .formats.files import PARQUET, Part, batches, parts
from .formats.table import read_table

ROWS = 200_000
"Rows of a part."
SETTINGS = ("states", "actions", "low", "high")
"Roles that name no column."


class Parts:
    """The episodes of a Parquet table, some at a time: every `for` reads the file once, and holds about `rows` rows or one episode.

    `roles` are those of `read_table`, and what is read is what it reads; a row that is refused is counted from the first row of its part, which
    the message names. Raises `BadData` for other files, and where episodes are not told apart.
    """

    def __init__(self, path: str | os.PathLike, *, rows: int = ROWS, **roles):
        self.path, self.rows, self.roles = Path(path), rows, dict(roles)
        if suffix(self.path) not in PARQUET:
            raise BadData(f"{path}: only Parquet tables are read in parts. Write the table as one, or read it whole.")
        file, named = parts(path)[0], {role: name for role, name in roles.items() if role not in SETTINGS}
        head = Table(Part(str(path), file.names, lambda columns: next(batches(self.path, columns, 1), pl.DataFrame())), named)
        self.columns = head.roles
        if head.said == "always" and "episode" not in self.columns:
            raise BadData(f"{path}: 'always', without a column of episodes, makes the whole table one episode. Name the column 'episode'.")
        self._declare(head)

    def __repr__(self):
        return f"Parts({str(self.path)!r}, rows={self.rows:,})"

    @property
    def source(self) -> str:
        return self.path.name

    def __iter__(self) -> Iterator[Episodes]:
        wanted, names = sorted({name for columns in self.columns.values() for name in columns}), list[np.ndarray]()
        first, rest = 0, pl.DataFrame()
        for frame in batches(self.path, wanted, self.rows):
            rest = pl.concat([rest, frame]) if rest.height else frame
            if rest.height >= self.rows and (cut := self._last_start(rest)):
                yield self._log(rest[:cut], first, names)
                first, rest = first + cut, rest[cut:]
        if rest.height:
            yield self._log(rest, first, names)
        hashes = np.concatenate(names) if names else np.zeros(0)
        if len(np.unique(hashes)) < len(hashes):
            raise BadData(f"{self.path}: an episode comes back after rows of another one. Sort the rows by episode and time, or give each stretch "
                          "its own name.")  # fmt: skip

    def _log(self, frame: pl.DataFrame, first: int, names: list[np.ndarray]) -> Episodes:
        log = read_table(self._part(frame, first), **self.roles)
        if log.ids is not None:
            names.append(pl.Series(log.ids).hash().to_numpy())
        return log

    def _part(self, frame: pl.DataFrame, first: int) -> Part:
        return Part(self.source if not first else f"{self.source} from row {first + 1:,}", frame.columns, frame.select)

    def _last_start(self, frame: pl.DataFrame) -> int:
        """The row in which the last episode begins; it may go on behind the frame."""
        if "episode" in self.columns:
            run = frame[self.columns["episode"][0]].rle_id()
            return int((run == run[-1]).arg_max() or 0)
        ends = np.zeros(frame.height, bool)
        for role in ("terminal", "truncated"):
            if role in self.columns:
                ends |= Table(self._part(frame, 0), {role: self.columns[role][0]}).flags(self.columns[role][0])
        return int(np.flatnonzero(ends)[-1]) + 1 if ends.any() else 0

    def _declare(self, head: Table) -> None:
        """How many actions there are, which no part of the table says alone."""
        names = self.columns["action"]
        whole = all(head.parts[0].frame[name].dtype.is_integer() for name in names)
        if whole and not {"actions", "low", "high", "mask"} & set(self.roles):
            most = pl.concat([frame.select(pl.all().max()) for frame in batches(self.path, names, self.rows)]).max().row(0)
            if all(isinstance(x, int) for x in most):
                self.roles["actions"] = most[0] + 1 if len(names) == 1 else [x + 1 for x in most]
