"""Rows on the disk: kept there as they come, and given back by whole episodes, which need not have lain together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

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
    """Which episode every row belongs to, found while rows pass by: episodes are numbered as they first appear."""

    def __init__(self):
        self.last: str | None = None
        self.rows, self.stretches = 0, 0
        self.hashes, self.starts, self.parts = [np.empty((0, 2), np.uint64)], [np.empty(0, np.int64)], [np.empty((0, 2), np.int64)]

    def see(self, names: pl.Series, part: int) -> pl.Series:
        """The number of the stretch of equal names that each row is part of, counted over all calls. Costs 40 bytes a stretch."""
        new = (names != names.shift(1, fill_value=self.last)).fill_null(True).to_numpy()
        first = np.flatnonzero(new)
        heads = names.gather(first)
        self.hashes.append(np.stack([heads.hash(1).to_numpy(), heads.hash(2).to_numpy()], axis=1))
        self.starts.append(first + self.rows)
        number = self.stretches - 1 + np.cumsum(new)
        heads_of = number[np.union1d([0], first).astype(int)]  # a stretch may go on in the next part
        self.parts.append(np.stack([heads_of, np.full(len(heads_of), part)], axis=1))
        self.last, self.rows, self.stretches = names[-1], self.rows + len(names), self.stretches + len(first)
        return pl.Series(EPISODE, number, dtype=pl.Int64)

    def in_several_parts(self, episode: np.ndarray) -> int:
        """How many episodes have rows in more than one part."""
        stretch, part = np.concatenate(self.parts).T
        return int((np.bincount(np.unique(np.stack([episode[stretch], part]), axis=1)[0]) > 1).sum())

    def episodes(self) -> tuple[np.ndarray, np.ndarray]:
        """(the episode of each stretch, the number of rows of each episode)."""
        hashes, starts = np.concatenate(self.hashes), np.concatenate(self.starts)
        pairs = np.ascontiguousarray(hashes).view([("a", np.uint64), ("b", np.uint64)])[:, 0]
        _, first, number = np.unique(pairs, return_index=True, return_inverse=True)
        place = np.empty(len(first), np.int64)
        place[np.argsort(first)] = np.arange(len(first))
        return place[number], np.bincount(place[number], np.diff(starts, append=self.rows)).astype(np.int64)


def together(frames: Iterator[pl.DataFrame], episode: np.ndarray, lengths: np.ndarray, folder: Path, rows: int) -> Iterator[pl.DataFrame]:
    """Rows by whole episodes, some `rows` at a time, in the order in which episodes first appear.

    `episode` and `lengths` as `Order.episodes` gives them: where an episode is in several stretches, rows are dealt out to files first.
    """
    if len(episode) == len(lengths):
        yield from whole(frames)
        return
    bucket = (np.cumsum(lengths) - lengths) // rows
    stacks = [Stack(folder / f"{i}.rows") for i in range(int(bucket[-1]) + 1)]
    for frame in frames:
        frame = frame.with_columns(pl.Series(EPISODE, episode[frame[EPISODE].to_numpy()]))
        for (i,), part in frame.with_columns(pl.Series("\1bucket", bucket[frame[EPISODE].to_numpy()])).group_by(
            "\1bucket", maintain_order=True
        ):
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
