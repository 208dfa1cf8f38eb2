"""How the columns of a table became observations and actions, and how actions become the table's words again."""

import dataclasses
import json
from typing import Any, Literal, get_args

Cell = str | int | float | bool
Kind = Literal["number", "flag", "one-hot", "ordinal", "state", "choice", "bins"]


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of the table.

    As an observation it is a "number", a "flag" (0 or 1), "one-hot" (a dimension for each of `levels`), "ordinal" (the place of its
    cell in `levels`), or the only one, a "state" (the same place, of a `Discrete`). As an action it is a "number" of a vector, a
    "choice" (one of `levels`), or "bins" (an interval between `edges`, decoded as its representative in `levels`).
    """

    name: str
    kind: Kind
    levels: tuple[Cell, ...] = ()
    edges: tuple[float, ...] = ()
    "Of bins, increasing, one more than levels. A bin holds its lower edge; the last one both."
    other: bool = False
    "One-hot: a last dimension for cells that are none of `levels`. Else such a cell is an error."
    missing: str = "refuse"
    "What an empty cell means: refuse, drop-episode, forward-fill, indicator, fill."
    fill: Cell | None = None
    "What stands in an empty cell: always (fill), beside the indicator, or where nothing came before (forward-fill)."

    def __post_init__(self):
        if self.kind not in get_args(Kind):
            raise ValueError(f"column {self.name!r}: {self.kind!r} is no kind of column; expected one of {', '.join(get_args(Kind))}.")
        for part in ("levels", "edges"):
            object.__setattr__(self, part, tuple(getattr(self, part)))

    @property
    def names(self) -> tuple[str, ...]:
        """One for each dimension of the observation."""
        if self.kind == "one-hot":
            more = ["(missing)"] * (self.missing == "indicator") + ["(other)"] * self.other
            return tuple(f"{self.name}={word(level)}" for level in (*self.levels, *more))
        return (self.name, f"{self.name} (missing)") if self.missing == "indicator" else (self.name,)

    @property
    def labels(self) -> tuple[str, ...]:
        """One for each member of a choice; those of bins are intervals."""
        if self.kind == "bins":
            pairs = list(zip(self.edges, self.edges[1:]))
            return tuple(f"[{a:.4g}, {b:.4g}{']' if (a, b) == pairs[-1] else ')'}" for a, b in pairs)
        return tuple(map(word, self.levels))


@dataclasses.dataclass(frozen=True)
class Codec:
    """The columns of a table that are seen and decided. Plain data: `plain` for JSON, `Codec.of` back."""

    obs: tuple[Column, ...]
    action: tuple[Column, ...]
    joint: tuple[tuple[int, ...], ...] | None = None
    "Several choices as one: member k of the action stands for these members of each column."
    mask: tuple[str, ...] = ()
    "One true/false column for each member of the action, true where it is allowed."
    episode: str | None = None
    time: str | None = None

    @property
    def obs_names(self) -> tuple[str, ...]:
        return ("state",) if self.obs[0].kind == "state" else tuple(name for column in self.obs for name in column.names)

    @property
    def action_names(self) -> tuple[str, ...]:
        if self.joint is not None:
            labels = [column.labels for column in self.action]
            return tuple(
                ", ".join(f"{c.name} {labels[j][i]}" for j, (c, i) in enumerate(zip(self.action, member))) for member in self.joint
            )
        one = self.action[0]
        return one.labels if len(self.action) == 1 and one.kind != "number" else tuple(column.name for column in self.action)

    def plain(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Codec":
        """What `plain` gave. `ValueError` or `TypeError` if it is not."""
        columns = {part: tuple(Column(**column) for column in plain[part]) for part in ("obs", "action")}
        if not all(columns.values()):
            raise ValueError("a codec without observations or without actions")
        joint = None if plain.get("joint") is None else tuple(tuple(map(int, member)) for member in plain["joint"])
        return cls(**{**plain, **columns, "joint": joint, "mask": tuple(plain.get("mask", ()))})


def word(cell: Cell) -> str:
    """A cell as text: true and false, whole numbers without a point."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return repr(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    return str(cell)
