"""The two passes of an import: all rows to the disk while facts about their columns are gathered; then, episode by episode, to the log."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..cells import clean, numbers, words
from ..codec import Column, values_of
from ..episodes import BadData
from ..formats import among, suffix
from ..formats.log import LogWriter
from . import formula
from .account import account, dropped, notes
from .encoding import Refuse, encoded
from .facts import Facts
from .rows import EPISODE, NAME, PART, ROW, Order, Stack, pieces, together, whole
from .rules import EACH, FILE, SINGLE, Rules
from .sources import Part, hint
from .steps import Steps

Tell = Callable[[str, int, int], None]
"Is told what is done, how much of it, and of how much."


@dataclasses.dataclass(frozen=True)
class Agreed:
    """Rules whose names are those of every part."""

    rules: Rules
    columns: tuple[str, ...]
    "All that the rules need; `file` is made, if there is none."
    each: bool
    "Whether every row is an episode."


def agreed(rules: Rules, found: Sequence[Part]) -> Agreed:
    """The rules with wildcards spelt out; all parts must have the columns that they need."""
    first = found[0]
    for role in ("obs", "action", "reward", "terminal"):
        if not getattr(rules, role):
            raise BadData(f"{first.name}: say which column is {role!r}{ENDS if role == 'terminal' else ''}. {among('', first.names, 'There are')} "
                          f"Or let roles be guessed: --guess.{hint(first.names)}")  # fmt: skip
    spelt = rules.spelt(first.names, first.name)
    for part in found[1:]:
        theirs = rules.spelt(part.names, part.name)
        for role in ("obs", "action", "mask", "info"):
            if (here := getattr(theirs, role)) != (there := getattr(spelt, role)):
                raise BadData(f"{part.name}: {role!r} stands for the columns {', '.join(here)} here, and for {', '.join(there)} in {first.name}. "
                              "Give files with the same columns.")  # fmt: skip
    several = [name for role in ("obs", "action", "mask", "info") for name in getattr(spelt, role)]
    single = [name for name in (spelt.time, spelt.logger) if name]
    wanted = dict.fromkeys([name for name in spelt.episode if name in first.names or name == FILE] + several + single)
    for role in SINGLE:
        said = getattr(spelt, role)
        if said is None or (role == "terminal" and said in ("always", "never") and said not in first.names):
            continue
        asked = {said} if said in first.names else formula.names(said, role)
        wanted |= dict.fromkeys(sorted(asked))
        for part in found:
            if unknown := sorted(asked - set(part.names)):
                what = f"no column is called {said!r}, asked for as {role!r}" if asked == {said} else (
                    f"the formula {said!r} for {role!r} asks for a column {unknown[0]!r}, which is not there")  # fmt: skip
                raise BadData(f"{part.name}: {what}. {among(unknown[0], part.names, 'There are')} Correct the name.")
    for part in found:
        if lacking := [name for name in wanted if name not in part.names and (name != FILE or name in first.names)]:
            raise BadData(f"{part.name}: there is no column {lacking[0]!r}, which {first.name} has. Give files with the same columns.")
    return Agreed(spelt, tuple(wanted), spelt.episode == (EACH,) and EACH not in first.names)


ENDS = (", the column that is true where an episode truly ended, or 'always' (every episode ends for good in its last row) or 'never' (the log "
        "only stops there): whether there is a future behind the last row decides what it is worth")  # fmt: skip


def imported(found: Sequence[Part], asked: Agreed, out: Path, work: Path, memory: int, tell: Tell) -> tuple[dict[str, Any], Rules]:
    """Write the log of these parts to `out`; the account of it, and the rules with all that was found spelt out."""
    name = found[0].name + (f" and {len(found) - 1} more" if len(found) > 1 else "")
    kept = read(found, asked, work, memory, tell)
    place = lambda part, row, column: f"{found[part].name}: column {column!r}, {found[part].place(row)}"
    refuse = Refuse(name, place)
    data = lambda columns: alike(kept.stack.frames(columns), kept.facts)
    codec, rules = encoded(
        asked.rules, kept.facts, lambda column: all_numbers(data, column, asked.rules, kept.stack.rows, memory),
        lambda action: combinations(data, action, asked.rules), refuse,
    )  # fmt: skip
    short = Path(name).name if found[0].path else name
    steps, writer = Steps(rules, codec, kept.facts, found, short, kept.whole_ids), LogWriter(work)
    rows = max(1000, memory // (16 * kept.width + 100 * len(codec.obs_names) + 800))
    joined = several = 0
    if kept.order is not None:
        joined, several = (int(x[: kept.order.count].sum()) for x in (kept.order.stretches > 1, kept.order.several))
        frames = together(data(None), kept.order, work, max(1000, memory // (20 * kept.width)))
    else:
        frames = whole(data(None) if asked.each else steps.marked(data(None)))
    taken, done, episodes = np.zeros(len(codec.action_names), np.int64), 0, 0
    for piece in (piece for frame in frames for piece in pieces(frame, rows)):
        log = steps.of(piece)
        if log is not None:
            writer.append(log)
            episodes += len(log)
            if log.action.ndim == 1:
                taken += np.bincount(log.action, minlength=len(taken))
        done += piece.height
        tell("importing rows", done, kept.stack.rows)
    steps.check()
    if writer.first is None:
        raise BadData(
            f"{name}: of {kept.stack.rows:,} rows no step is left: {dropped(steps.dropped)}. Choose other rules, or correct the table."
        )
    said = notes(steps, found, codec, joined, several, taken)
    writer.finish(out, source=short, notes=said, codec=codec)
    return account(steps, found, kept.facts, codec, kept.rows, episodes, joined, said, tell), rules


@dataclasses.dataclass(frozen=True)
class Kept:
    """What the first pass leaves."""

    stack: Stack
    facts: Mapping[str, Facts]
    order: Order | None
    "None where nothing names the episodes."
    rows: tuple[int, ...]
    "Of each part."
    whole_ids: bool
    "Whether all names of episodes are whole numbers as Python writes them."
    width: int
    "Bytes of a row in memory."


def read(found: Sequence[Part], asked: Agreed, work: Path, memory: int, tell: Tell) -> Kept:
    """The first pass: every row to the disk, cleaned, with where it came from and which episode it belongs to."""
    rules, labels = asked.rules, _file_names(found)
    facts, stack = {name: Facts(name) for name in asked.columns}, Stack(work / "all.rows")
    order = Order() if rules.episode and not asked.each else None
    counts, before, whole_ids, width, total = [], 0, True, 1, sum(part.bytes for part in found)
    for i, part in enumerate(found):
        row = 0
        for frame, share in part.read([name for name in asked.columns if name in part.names], max(1 << 16, memory // 48)):
            if not frame.height:
                continue
            frame = clean(frame, rules.na)
            if FILE in asked.columns and FILE not in part.names:
                frame = frame.with_columns(pl.lit(labels[i]).alias(FILE))
            for name, one in facts.items():
                one.see(frame[name], i, row, decimal=rules.decimal, dates=name == rules.time, form=rules.time_format)
            here = pl.int_range(row, row + frame.height, eager=True)
            beside = [pl.repeat(i, frame.height, dtype=pl.Int32, eager=True).alias(PART), here.alias(ROW)]
            if asked.each:
                beside.append((here + stack.rows - row).alias(EPISODE))
            elif order is not None:
                called = _names(frame, rules, part, here)
                beside += [order.see(called, i), called.alias(NAME)]
                whole_ids &= bool((called.cast(pl.Int64, strict=False).cast(pl.String) == called).fill_null(False).all())
            frame = frame.with_columns(beside)
            stack.add(frame)
            width, row = max(width, int(frame.estimated_size()) // frame.height), row + frame.height
            tell("reading", before + int(part.bytes * share), total)
        if row == 0:
            raise BadData(f"{part.name}: expected at least one row, but there is none. Leave it out, or write it again.")
        counts.append(row)
        before += part.bytes
    return Kept(stack, facts, order, tuple(counts), whole_ids, width)


def _names(frame: pl.DataFrame, rules: Rules, part: Part, rows: pl.Series) -> pl.Series:
    """The name of the episode of every row: its columns' words, with strokes between them that no two names can share."""

    def fail(column: str, row: int, text: str):
        raise BadData(f"{part.name}: column {column!r}, {part.place(rows[row])}: {text}")

    pieces = []
    for j, name in enumerate(rules.episode):
        cells = words(frame[name], fail)
        if cells.null_count():
            fail(name, int(cells.is_null().arg_max() or 0), f"expected the name of an episode, found an empty cell ({cells.null_count():,} nearby). "
                 "A row without one belongs nowhere: fill it in, or leave the row out.")  # fmt: skip
        if len(rules.episode) > 1:
            cells = cells.str.replace_all("\\", "\\\\", literal=True)
            cells = cells if name == FILE and FILE not in part.names else cells.str.replace_all("/", "\\/", literal=True)
        pieces.append(cells.alias(str(j)))
    return pl.DataFrame(pieces).select(pl.concat_str(pl.all(), separator="/")).to_series()


def _file_names(found: Sequence[Part]) -> list[str]:
    """What each file is called as an episode: its path, as far as it differs from the others', without its ending."""
    if any(part.path is None for part in found):
        return [part.name for part in found]
    paths = [part.path for part in found if part.path is not None]
    root = os.path.commonpath([path.resolve().parent for path in paths])
    names = [path.resolve().relative_to(root).as_posix() for path in paths]
    bare = [name[: len(name) - len(suffix(path))] for name, path in zip(names, paths)]
    return bare if len(set(bare)) == len(bare) else names


def alike(frames: Iterator[pl.DataFrame], facts: Mapping[str, Facts]) -> Iterator[pl.DataFrame]:
    """Frames whose columns have the same type in all of them: their own, or text where they differ."""
    for frame in frames:
        yield frame.with_columns([_alike(frame[name], facts[name]) for name in frame.columns if name in facts])


def _alike(cells: pl.Series, facts: Facts) -> pl.Series:
    if len(facts.dtypes) == 1:
        return cells.cast(next(iter(facts.dtypes)))
    if cells.dtype == pl.Boolean and any(kind.is_numeric() for kind in facts.dtypes):
        cells = cells.cast(pl.Int8)
    return words(cells, lambda *_: None) if facts.dtypes else cells.cast(pl.String)  # pyright: ignore


def all_numbers(data, column: str, rules: Rules, rows: int, memory: int) -> np.ndarray:
    """The numbers of a column, evenly spaced ones if they are many, in double precision."""
    step = max(1, 64 * rows // memory)
    fail = lambda name, row, text: _fail(name, text)
    return np.concatenate([numbers(one[column], fail, decimal=rules.decimal).drop_nulls()[::step].to_numpy() for one in data([column])])


def combinations(data, action: tuple[Column, ...], rules: Rules) -> np.ndarray:
    """(different ones, columns): the places of decisions that were made together."""
    seen: set[tuple[int, ...]] = set()
    for one in data([column.name for column in action]):
        cells = [values_of(column, one, lambda name, row, text: _fail(name, text), rules.decimal) for column in action]
        full = ~np.any([empty for _, empty in cells], axis=0)
        seen |= set(map(tuple, np.unique(np.stack([values for values, _ in cells], axis=1)[full].astype(int), axis=0).tolist()))
    return np.array(sorted(seen))


def _fail(name: str, text: str):
    raise BadData(f"column {name!r}: {text}")
