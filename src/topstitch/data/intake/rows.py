"""Rows on the disk: kept there as they come, and given back by whole episodes, which need not have lain together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from ..episodes import BadData

PART, ROW, EPISODE, NAME = "\1part", "\1row", "\1episode", "\1name"
"Beside the table's columns: the number of the part that a row came from, its row there from 0, the number of its episode, and its name."


class Stack:
    """Frames in a file, one behind the other. Their columns may change their types from one to the next."""

    def __init__(self, path: Path):
        self.path, self.rows = path, 0

    def add(self, frame: pl.DataFrame) -> None:
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        with self.path.open("ab") as file, pa.ipc.new_stream(file, table.schema, options=OPTIONS) as stream:
            stream.write_table(table)
        self.rows += frame.height

    def frames(self, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        if not self.rows:
            return
        with pa.OSFile(str(self.path)) as file:
            while file.tell() < file.size():
                with pa.ipc.open_stream(file) as stream:
                    table = stream.read_all()
                yield pl.from_arrow(table if columns is None else table.select(columns))  # pyright: ignore[reportReturnType]


OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4" if pa.Codec.is_available("lz4") else None)


class Order:
    """Which episode every row belongs to, found while rows pass by: episodes are numbered as they first appear.

    Costs some 60 bytes an episode, however its rows are scattered: names are known by their hashes, sorted, of which the newest wait in a
    smaller table.
    """

    def __init__(self):
        self.known, self.fresh = _Table(), _Table()
        self.count = 0
        self.last: tuple[str, int] | None = None
        "Name and number of the last row's episode."
        self.second, self.lengths = np.empty(0, np.uint64), np.empty(0, np.int64)
        self.stretches, self.part, self.several = np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, bool)

    def see(self, names: pl.Series, part: int) -> pl.Series:
        """The number of the episode of each row."""
        name, number = self.last or (None, -1)
        first = np.flatnonzero((names != names.shift(1, fill_value=name)).fill_null(True).to_numpy())
        heads = names.gather(first)
        found = self._numbers(heads.hash(1).to_numpy(), heads.hash(2).to_numpy())
        np.add.at(self.stretches, found, 1)
        runs = found if len(first) and first[0] == 0 else np.append(number, found)  # the first rows may go on with the last episode
        lengths = np.diff(np.append(first if len(runs) == len(first) else np.append(0, first), len(names)))
        np.add.at(self.lengths, runs, lengths)
        self.several[runs] |= (self.part[runs] >= 0) & (self.part[runs] != part)
        self.part[runs] = part
        self.last = names[-1], int(runs[-1])
        return pl.Series(EPISODE, np.repeat(runs, lengths), dtype=pl.Int64)

    def _numbers(self, hashes: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The number of the episode of each hash; new ones get the next."""
        kinds, at, back = np.unique(hashes, return_index=True, return_inverse=True)
        number = np.maximum(self.known.find(kinds), self.fresh.find(kinds))
        new = np.flatnonzero(number < 0)
        new = new[np.argsort(at[new])]
        number[new] = self.count + np.arange(len(new))
        self.fresh = self.fresh.with_(kinds[new], number[new])
        if len(self.fresh.hashes) > max(1 << 14, len(self.known.hashes) // 8):
            self.known, self.fresh = self.known.with_(self.fresh.hashes, self.fresh.numbers), _Table()
        before, self.count = self.count, self.count + len(new)
        for name, value in {"second": 0, "lengths": 0, "stretches": 0, "part": -1, "several": False}.items():
            setattr(self, name, _longer(getattr(self, name), self.count, value))
        self.second[before : self.count] = second[at[new]]
        if (self.second[number[back]] != second).any():
            raise BadData("Two names of episodes have the same hash, which happens once in a million million tables. Rename an episode.")
        return number[back]

    @property
    def together(self) -> bool:
        """Whether the rows of every episode lie together."""
        return self.count == 0 or int(self.stretches[: self.count].max()) == 1


class _Table:
    """Numbers by hash, sorted by it."""

    def __init__(self, hashes=np.empty(0, np.uint64), numbers=np.empty(0, np.int64)):  # noqa: B008, they are never written to
        self.hashes, self.numbers = hashes, numbers

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """-1 where there is none."""
        if not len(self.hashes):
            return np.full(len(hashes), -1)
        place = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[place] == hashes, self.numbers[place], -1)

    def with_(self, hashes: np.ndarray, numbers: np.ndarray) -> "_Table":
        hashes, numbers = np.append(self.hashes, hashes), np.append(self.numbers, numbers)
        order = np.argsort(hashes, kind="stable")
        return _Table(hashes[order], numbers[order])


def _longer(x: np.ndarray, least: int, value) -> np.ndarray:
    """The array, with room for so many; what is new holds a value."""
    if len(x) >= least:
        return x
    return np.append(x, np.full(max(least, 2 * len(x)) - len(x), value, x.dtype))


def together(frames: Iterator[pl.DataFrame], order: Order, folder: Path, rows: int) -> Iterator[pl.DataFrame]:
    """Rows by whole episodes, some `rows` at a time, in the order in which episodes first appear; those that do not lie together are dealt
    out to files first."""
    if order.together:
        yield from whole(frames)
        return
    lengths = order.lengths[: order.count]
    bucket = (np.cumsum(lengths) - lengths) // rows
    stacks = [Stack(folder / f"{i}.rows") for i in range(int(bucket[-1]) + 1)]
    for frame in frames:
        places = pl.Series("\1bucket", bucket[frame[EPISODE].to_numpy()])
        for (i,), part in frame.with_columns(places).group_by("\1bucket", maintain_order=True):
            stacks[i].add(part.drop("\1bucket"))
    for one in stacks:
        if one.rows:
            yield pl.concat(one.frames()).sort(EPISODE, maintain_order=True)
            one.path.unlink()


def whole(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Frames whose episodes lie together, cut anew between episodes."""
    rest = None
    for frame in frames:
        frame = frame if rest is None else pl.concat([rest, frame])
        ends = int(frame[EPISODE].search_sorted(frame[EPISODE][-1], side="left"))
        if ends:
            yield frame[:ends]
        rest = frame[ends:]
    if rest is not None and rest.height:
        yield rest


def pieces(frame: pl.DataFrame, rows: int) -> Iterator[pl.DataFrame]:
    """The frame in pieces of whole episodes, of at most so many rows unless an episode has more."""
    episode = frame[EPISODE].to_numpy()
    starts = np.append(np.flatnonzero(np.diff(episode, prepend=-1)), len(episode))
    at = 0
    while at < len(episode):
        stop = int(starts[max(np.searchsorted(starts, at + rows, side="right") - 1, np.searchsorted(starts, at, side="right"))])
        yield frame[at:stop]
        at = stop
