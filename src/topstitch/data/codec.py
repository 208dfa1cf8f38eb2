"""How the columns of a table become observations and actions, and how actions become the table's words again."""

import dataclasses
import json
import shlex
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

Fail = Callable[[str, int, str], Any]
"Refuses the cell of a column in a row of the frame at hand, counted from 0, with a text: raises."

Kind = Literal["number", "flag", "one-hot", "ordinal", "state", "choice", "bins"]
Holds = Literal["text", "whole", "number", "flag"]
Missing = Literal["refuse", "drop-episode", "forward-fill", "indicator", "fill"]


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of the table.

    As an observation it is a "number", a "flag" (0 or 1), "one-hot" (a dimension for each of `levels`), "ordinal" (the place of its
    cell in `levels`), or the only one, a "state" (the same place, of a `Discrete`). As an action it is a "number" of a vector, a
    "choice" (one of `levels`), or "bins" (an interval between `edges`, decoded as its member of `values`).
    """

    name: str
    kind: Kind
    holds: Holds = "text"
    "What its cells are in the table."
    levels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    "Of bins, increasing, one more than there are bins. A bin holds its lower edge; the last one both."
    values: tuple[float, ...] = ()
    "Of bins: what each is decoded as."
    other: bool = False
    "One-hot: a last dimension for cells that are none of `levels`. Else such a cell is an error."
    missing: Missing = "refuse"
    "What an empty cell means."
    fill: float | str | bool | None = None
    "What stands in an empty cell: always (fill), beside the indicator, or where nothing came before (forward-fill)."

    def __post_init__(self):
        for part, kinds in (("kind", Kind), ("holds", Holds), ("missing", Missing)):
            if getattr(self, part) not in get_args(kinds):
                raise ValueError(f"column {self.name!r}: {part} must be one of {', '.join(get_args(kinds))}, not {getattr(self, part)!r}.")

    @property
    def names(self) -> tuple[str, ...]:
        """One for each dimension of the observation."""
        if self.kind == "one-hot":
            more = ["(missing)"] * (self.missing == "indicator") + ["(other)"] * self.other
            return tuple(f"{self.name}={level}" for level in (*self.levels, *more))
        return (self.name, f"{self.name} (missing)") if self.missing == "indicator" else (self.name,)

    @property
    def unknown(self) -> int:
        """The place of cells that are none of the levels."""
        return len(self.levels) + (self.missing == "indicator")

    @property
    def labels(self) -> tuple[str, ...]:
        """One for each member of a choice; those of bins are intervals."""
        if self.kind != "bins":
            return self.levels
        pairs = list(zip(self.edges, self.edges[1:]))
        return tuple(f"[{a:.4g}, {b:.4g}{']' if i == len(pairs) - 1 else ')'}" for i, (a, b) in enumerate(pairs))


@dataclasses.dataclass(frozen=True)
class Codec:
    """The columns of a table that are seen and decided. Plain data: `plain` for JSON, `Codec.of` back."""

    obs: tuple[Column, ...]
    action: tuple[Column, ...]
    joint: tuple[tuple[int, ...], ...] | None = None
    "Several choices as one: member k of the action stands for these members of each column."
    mask: tuple[str, ...] = ()
    "One true/false column for each member of the action, true where it is allowed."
    episode: tuple[str, ...] = ()
    time: str | None = None
    na: tuple[str, ...] = ()
    "Words that stand for an empty cell."
    decimal: str = "."

    @property
    def obs_names(self) -> tuple[str, ...]:
        return ("state",) if self.obs[0].kind == "state" else tuple(name for column in self.obs for name in column.names)

    @property
    def action_names(self) -> tuple[str, ...]:
        if self.joint is not None:
            return tuple(", ".join(f"{c.name} {c.labels[i]}" for c, i in zip(self.action, member)) for member in self.joint)
        one = self.action[0]
        return one.labels if len(self.action) == 1 and one.kind != "number" else tuple(column.name for column in self.action)

    def plain(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Codec":
        """What `plain` gave. `ValueError`, `KeyError` or `TypeError` if it is not."""
        tuples = lambda fields: {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()}
        columns = {part: tuple(Column(**tuples(column)) for column in plain[part]) for part in ("obs", "action")}
        if not all(columns.values()):
            raise ValueError("a codec without observations or without actions")
        joint = None if plain["joint"] is None else tuple(tuple(map(int, member)) for member in plain["joint"])
        return cls(**{**tuples(plain), **columns, "joint": joint})

    # rows of the table to numbers -----------------------------------------------------------------------------------

    def observe(
        self, frame: pl.DataFrame, fail: Fail, episode: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[tuple[str, str, np.ndarray]]]:
        """(rows, size) float32, or (rows,) int32 of states; and which cells were filled: column, rule, (rows,) bool.

        `frame` holds the raw columns, cleaned (`cells.clean`). `episode` numbers the episode of each row, those of one lying together
        in order of time; without it every row is an episode of its own.
        """
        episode = np.arange(frame.height) if episode is None else episode
        parts, filled = [], []
        for column in self.obs:
            values, empty = values_of(column, frame, fail, self.decimal)
            if empty.any():
                values, said = _filled(column, values, empty, episode, fail)
                filled += said
            parts.append(_dimensions(column, values, empty))
        if self.obs[0].kind == "state":
            return parts[0][:, 0].astype(np.int32), filled
        return np.concatenate(parts, axis=1, dtype=np.float32), filled

    def enact(self, frame: pl.DataFrame, fail: Fail) -> np.ndarray:
        """The decisions of raw rows: (rows,) int32 of a choice, (rows, choices) int32 of several, (rows, size) float32 of a vector."""
        parts = []
        for column in self.action:
            values, empty = values_of(column, frame, fail, self.decimal)
            if empty.any():
                fail(column.name, int(empty.argmax()), "expected a decision, found an empty cell. Fill it in, or leave its episode out.")
            parts.append(values)
        if self.action[0].kind == "number":
            return np.stack(parts, axis=1).astype(np.float32)
        members = np.stack(parts, axis=1).astype(np.int32)
        if self.joint is None:
            return members if len(self.action) > 1 else members[:, 0]
        places = {member: k for k, member in enumerate(self.joint)}
        joined = np.array([places.get(tuple(member), -1) for member in members.tolist()], np.int32)
        if (joined < 0).any():
            row = int(np.argmax(joined < 0))
            fail(self.action[0].name, row, f"the decisions {dict(zip((c.name for c in self.action), members[row].tolist()))} are no known "
                 "combination. Import the table anew.")  # fmt: skip
        return joined

    def allowed(self, frame: pl.DataFrame, fail: Fail) -> tuple[np.ndarray, np.ndarray] | None:
        """(rows, members) bool, twice: the mask of raw rows, if there is one, and which of its cells are empty."""
        from .cells import flags

        if not self.mask:
            return None
        columns = [flags(frame[name], fail) for name in self.mask]
        stacked = lambda part: np.stack([part(column).to_numpy() for column in columns], axis=1)
        return stacked(lambda c: c.fill_null(True)), stacked(lambda c: c.is_null())

    # actions to the words of the table ------------------------------------------------------------------------------

    def decode(self, action: np.ndarray) -> pl.DataFrame:
        """Actions as `enact` gives them, in the table's own words: one column for each that was decided."""
        if self.joint is not None:
            action = np.asarray(self.joint)[action]
        action = np.asarray(action).reshape(len(action), -1)
        return pl.DataFrame([_word(column, action[:, j]) for j, column in enumerate(self.action)])


def values_of(column: Column, frame: pl.DataFrame, fail: Fail, decimal: str) -> tuple[np.ndarray, np.ndarray]:
    """(rows,) float64: numbers, or places in the levels (behind the last: other), or numbers of bins; and where cells are empty."""
    from .cells import flags, numbers, parsed, words

    cells = frame[column.name]
    if column.kind in ("number", "bins"):
        read = numbers(cells, fail, decimal=decimal)
    elif column.kind == "flag":
        read = flags(cells, fail)
    else:
        if column.holds in ("whole", "number") and cells.dtype == pl.String:
            cells = cells.set(parsed(cells, decimal).is_nan().fill_null(False), None)
        read, known = words(cells, fail), column.levels
        codes = read.replace_strict(list(known), range(len(known)), default=column.unknown, return_dtype=pl.Int32)
        if not column.other and (odd := (codes == column.unknown) & read.is_not_null()).any():
            row, some = odd.arg_max(), ", ".join(known[:8]) + (f" and {len(known) - 8:,} more" if len(known) > 8 else "")
            fail(column.name, row, f"found {read[row]!r}, which is none of the known categories ({some}). Correct the cell, or import the "
                 f"table anew with this category; --other {shlex.quote(f'{column.name}=K')} keeps the K commonest, and one dimension for rare and new ones.")  # fmt: skip
        read = codes.set(read.is_null(), None)
    empty = read.is_null().to_numpy()
    values = read.cast(float).fill_null(0.0).to_numpy()
    if column.kind == "bins":
        low, high = column.edges[0], column.edges[-1]
        if (outside := ((values < low) | (values > high)) & ~empty).any():
            row = int(outside.argmax())
            fail(column.name, row, f"{values[row]:g} lies in none of the bins, which go from {low:g} to {high:g}. Widen the edges.")
        values = np.searchsorted(column.edges[1:-1], values, side="right").astype(float)
    return values, empty


def _filled(
    column: Column, values: np.ndarray, empty: np.ndarray, episode: np.ndarray, fail: Fail
) -> tuple[np.ndarray, list[tuple[str, str, np.ndarray]]]:
    """The values, none of them empty, and what was done: column, rule, (rows,) bool."""
    if column.missing in ("refuse", "drop-episode"):
        fail(column.name, int(empty.argmax()), f"expected a value, found an empty cell ({int(empty.sum()):,} in this column). Fill it in, or "
             f"choose a rule: --missing {column.name}=forward-fill, =indicator, =drop-episode or =fill:VALUE.")  # fmt: skip
    start = column.fill
    if column.levels:
        start = column.levels.index(str(start)) if start is not None else len(column.levels)
    if column.missing != "forward-fill":
        return np.where(empty, float(start), values), [(column.name, column.missing, empty)]
    rows = np.arange(len(values))
    first = np.maximum.accumulate(np.where(np.diff(episode, prepend=-1) != 0, rows, 0))
    last = np.maximum.accumulate(np.where(empty, -1, rows))  # the newest row that has a value
    known = last >= first
    done = [(column.name, "forward-fill", empty & known), (column.name, "forward-fill, nothing before", empty & ~known)]
    return np.where(known, values[last], float(start)), done


def _dimensions(column: Column, values: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """(rows, dimensions) of an observation."""
    if column.kind == "one-hot":
        return values[:, None] == np.arange(len(column.names))
    return np.stack([values, empty], axis=1) if column.missing == "indicator" else values[:, None]


def _word(column: Column, action: np.ndarray) -> pl.Series:
    """Decisions as cells of their column."""
    if column.kind == "number":
        return pl.Series(column.name, action, dtype=pl.Float64)
    if column.kind == "bins":
        return pl.Series(column.name, np.asarray(column.values)[action], dtype=pl.Float64)
    texts = pl.Series(column.name, np.asarray(column.levels, dtype=object)[action], dtype=pl.String)
    if column.holds == "flag":
        return texts == "true"
    return texts.cast({"text": pl.String, "whole": pl.Int64, "number": pl.Float64}[column.holds])
