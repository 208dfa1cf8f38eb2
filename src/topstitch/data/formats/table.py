"""Tables: CSV, Parquet and Arrow files, and data frames. A table is read as it stands, or refused; nothing is mended in silence."""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from ...core import Discrete, Image, MultiDiscrete
from ...disk import write_bytes
from ..episodes import BadData, Episodes
from .columns import Table

Columns = str | Sequence[str]
MOST_ACTIONS = 1_000_000


def read_table(
    source,
    *,
    obs: Columns,
    action: Columns,
    reward: str,
    episode: str | None = None,
    time: str | None = None,
    duration: str | None = None,
    terminal: str | None = None,
    truncated: str | None = None,
    probability: str | None = None,
    log_probability: str | None = None,
    mask: Columns | None = None,
    states: int | None = None,
    actions: int | Sequence[int] | None = None,
    low=None,
    high=None,
    info: Columns = (),
) -> Episodes:
    """Episodes of a table with one row per decision.

    `source` is a path (.csv .tsv, also .gz; .parquet .pq; .arrow .feather .ipc), a list of paths whose rows follow one another,
    or a Polars, pandas or pyarrow table. Every other argument names a column, or for `obs`, `action`, `mask` and `info` several:
    a list, or a wildcard such as `"obs_*"`, which stands for its columns in natural order (obs_2 before obs_10).

    * `obs`, numbers in raw units. With `states=N` it is one column of integers 0 … N-1.
    * `action`: one column of integers is a choice of 0 … `actions`-1 (default: the largest seen + 1), several columns of integers are as
      many choices at once (`actions`: a list of numbers, one for each); numbers with decimals, or any numbers with `low` and `high`
      given, are a vector between `low` and `high`.
    * `reward`: what the action of the same row earned.
    * `episode`: its rows must lie together. Without it the table is one episode, cut where `terminal` or `truncated` says.
    * `time`: numbers or dates, strictly increasing within an episode. Dates become seconds since 1970.
    * `duration`: how many units of time passed from this step to the next, above 0; discounts are then per unit instead of per step.
    * `terminal`: the column that is true where an episode truly ended (death, cure, goal), not where the log stops; or
      `"always"`: every episode ends for good in its last row; or `"never"`: none does. It has to be said.
    * `truncated`: true where the log cut an episode. A row that is both is terminal.
    * `probability` (or its natural logarithm in `log_probability`) with which the logger took `action`, a density for a vector.
    * `mask`: one true/false column for each action, true where it was allowed; for several choices at once, those of all side by side.
    * `info`: further columns to take along.

    The last step of a truncated episode is dropped, since what it led to is not in the table; `notes` says how many.
    Flags are true/false or 1/0. Any cell that is empty, not a finite number or not of its kind raises `BadData` with the file,
    the column and the row, counted from 1 below the header; nothing is sorted, dropped or filled.
    """
    given = {
        "obs": obs, "action": action, "reward": reward, "episode": episode, "time": time, "duration": duration, "terminal": terminal,
        "truncated": truncated, "probability": probability, "log_probability": log_probability, "mask": mask, "info": info,
    }  # fmt: skip
    table = Table(source, {role: columns for role, columns in given.items() if columns is not None and columns != ()})
    at = {role: columns[0] for role, columns in table.roles.items()}
    notes = list(table.notes)
    if "probability" in at and "log_probability" in at:
        raise BadData(f"{table.name}: both 'probability' and 'log_probability' are given. Give one of them.")

    # where episodes begin and end
    ends, ids = np.arange(1, table.rows + 1) == table.rows, None
    if episode is not None:
        starts, ids = _episodes(table, at["episode"])
        ends[starts[1:] - 1] = True
    marks = {role: table.flags(at[role]) if role in at else np.zeros(table.rows, bool) for role in ("terminal", "truncated")}
    for role, marked in marks.items():
        if episode is None:
            ends |= marked
        elif (stray := marked & ~ends).any():
            table.fail(at[role], int(np.argmax(stray)), "the row is marked as an end, but its episode goes on in the next row. "
                       "Unmark the row, or start a new episode behind it.")  # fmt: skip
    done = ends if table.said == "always" else marks["terminal"]
    moments = _times(table, at["time"], ends, ids) if "time" in at else None
    lasted = table.numbers(at["duration"]) if "duration" in at else None
    if lasted is not None and (lasted <= 0).any():
        row = int(np.argmax(lasted <= 0))
        table.fail(at["duration"], row, f"expected how long the step took, above 0, found {lasted[row]}. Correct the cell.")

    # what was seen, done and earned
    if states is None:
        seen = table.matrix(table.roles["obs"])
        if seen.shape[1] == 1 and (hint := may_be_states(table.roles["obs"][0], *counted(seen[:, 0]), len(seen))):
            notes.append(hint)
    elif len(table.roles["obs"]) == 1:
        seen = _integers(table, at["obs"], states, "state", "states")
    else:
        raise BadData(f"{table.name}: with states={states}, 'obs' must be one column of integers; got {table.roles['obs']}.")
    if mask is not None and actions is None and len(table.roles["action"]) == 1:
        actions = len(table.roles["mask"])
    acted, choices = _actions(table, table.roles["action"], actions, low, high, notes)
    allowed = None if mask is None else _mask(table, table.roles["mask"], acted, choices)
    chance = _probability(table, at["probability"], log=False, choice=choices is not None) if "probability" in at else None
    log_chance = _probability(table, at["log_probability"], log=True, choice=choices is not None) if "log_probability" in at else None
    return Episodes.of(
        seen, acted, table.numbers(at["reward"]), done, ends=ends, states=states, actions=choices, low=low, high=high, mask=allowed,
        probability=chance, log_prob=log_chance, time=moments, duration=lasted, ids=ids,
        info={name: table.anything(name) for name in table.roles.get("info", ())}, source=table.source, notes=notes,
    )  # fmt: skip


def counted(x: np.ndarray) -> tuple[int, float, float]:
    """(how many different numbers there are, the least, the greatest); no numbers where some are not whole."""
    if (x != np.round(x)).any():
        return 0, 0.0, 0.0
    return len(np.unique(x)), float(x.min()), float(x.max())


def may_be_states(name: str, kinds: int, low: float, high: float, rows: int) -> str | None:
    """What to say where the only observation has so many different whole numbers, each some ten times: it may be the number of a state."""
    if not (2 < kinds <= rows / 10 and low >= 0 and high < min(10 * kinds, MOST_ACTIONS)):
        return None
    return (f"The only observation, {name!r}, is taken as an amount. If its whole numbers, {low:g} to {high:g}, stand for states, say how many "
            f"there are (--states {high + 1:.0f}; in Python states={high + 1:.0f}): then methods that count in each state can be used.")  # fmt: skip


def write_table(log: Episodes, path: str | os.PathLike) -> dict[str, Any]:
    """A log as a Parquet table of one row per step, in raw units, whole or not at all.

    The columns: `episode`, `time` (the number of the step where the log has no times), `obs` or `obs_0` …, `action` or
    `action_0` …, `reward`, `terminal`, `truncated`, `probability` (of a choice) or `log_prob` (of a vector), `mask_0` …, `duration`,
    and what the log has in `info`. Answers with the roles by which `read_table` gives the log back. A table does not hold what came
    behind the last step of a truncated episode, so that step will be dropped on reading.
    """
    from ..write import bounds

    if isinstance(log.spec.obs, Image):
        raise BadData(
            f"{log.source}: a table has no place for pictures ({log.spec.obs}). Write the log as .log.safetensors, or for Minari."
        )
    number, discrete = np.repeat(np.arange(len(log)), log.lengths), isinstance(log.spec.action, (Discrete, MultiDiscrete))
    named = log.ids is not None and len(np.unique(log.ids)) == len(log)
    columns: dict[str, np.ndarray] = {"episode": log.ids[number] if named else number}
    columns["time"] = np.arange(log.steps) - log.starts[number] if log.time is None else log.time
    roles: dict[str, Any] = {"episode": "episode"} | ({} if log.time is None else {"time": "time"})

    def put(role: str, column: np.ndarray) -> None:
        roles[role] = role if column.ndim == 1 else f"{role}_*"
        columns.update({role: column} if column.ndim == 1 else {f"{role}_{j}": column[:, j] for j in range(column.shape[1])})

    for role in ("obs", "action", "reward", "terminal", "truncated"):
        put(role, getattr(log, role))
    if log.log_prob is not None and discrete:
        put("probability", np.minimum(np.exp(log.log_prob.astype(np.float64)), 1))
    elif log.log_prob is not None:
        columns["log_prob"], roles["log_probability"] = log.log_prob, "log_prob"
    for role, column in (("mask", log.mask), ("duration", log.duration)):
        if column is not None:
            put(role, column)
    if isinstance(log.spec.obs, Discrete):
        roles["states"] = log.spec.obs.size
    many = list(log.spec.action.sizes) if isinstance(log.spec.action, MultiDiscrete) else log.spec.action.size
    roles |= {"actions": many} if discrete else dict(zip(("low", "high"), (x.tolist() for x in bounds(log))))
    kept = {name if name not in columns and not name.startswith(("obs_", "action_", "mask_")) else f"info_{name}": column
            for name, column in log.info.items()}  # fmt: skip
    roles |= {"info": list(kept)} if kept else {}
    text = lambda column: column.astype(str).tolist() if column.dtype.kind in "UO" else column
    buffer = io.BytesIO()
    pl.DataFrame({name: text(column) for name, column in (columns | kept).items()}).write_parquet(buffer)
    write_bytes(path, buffer.getvalue())
    return roles


def _episodes(table: Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(the first row of each episode, its name); an episode that comes back after another is refused."""
    cells = table.series(column)
    if isinstance(cells.dtype, pl.Duration):
        cells = cells.dt.total_microseconds()
    if cells.dtype.is_float():
        numbers = table.numbers(column)
        if (numbers == np.floor(numbers)).all():
            cells = pl.Series(numbers.astype(np.int64))
    elif cells.dtype.is_nested():
        table.fail(column, 0, f"expected the name or number of an episode, found {cells.dtype}. Give one value per row.")
    starts = np.flatnonzero(np.diff(cells.rle_id().to_numpy().astype(np.int64), prepend=-1))
    names = cells.gather(starts)
    if (again := ~names.is_first_distinct()).any():
        episode = int(again.arg_max() or 0)
        before = int((names == names[episode]).arg_max() or 0)
        ended = table.where(int(starts[before + 1]) - 1)
        table.fail(column, int(starts[episode]), f"episode {names[episode]!r} comes back, after rows of another episode; it had ended in "
                   f"{ended}. Sort the rows by episode and time, or give each stretch its own name.")  # fmt: skip
    whole = names.dtype.is_integer() or names.dtype == pl.Boolean
    return starts, names.to_numpy() if whole else np.asarray(names.cast(pl.String).to_list(), dtype=str)


def _times(table: Table, column: str, ends: np.ndarray, ids: np.ndarray | None) -> np.ndarray:
    """(rows,) strictly increasing within each episode: numbers as they are, dates as seconds since 1970."""
    cells = table.series(column)
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        if text.cast(pl.Float64, strict=False).null_count() * 2 > len(text):  # most are no numbers, so they should be dates
            try:
                dates = text.str.to_datetime(strict=False)
            except pl.exceptions.PolarsError:  # no format fits at all
                dates = pl.Series([None] * len(text), dtype=pl.Datetime)
            if dates.null_count():
                row = int(dates.is_null().arg_max() or 0)
                table.fail(column, row, f"expected a number or a date such as 2024-01-31 12:00, found {cells[row]!r}. Correct the cell.")
            cells = dates
    if cells.dtype in (pl.Date, pl.Datetime, pl.Duration, pl.Time):
        ticks = cells.cast(pl.Datetime("us")).to_physical() if cells.dtype == pl.Date else cells.to_physical()
        unit = {"ms": 1e3, "us": 1e6, "ns": 1e9}[getattr(cells.dtype, "time_unit", "ns") or "us"] if cells.dtype != pl.Date else 1e6
        order, out = ticks.to_numpy(), ticks.to_numpy() / unit
    else:
        order = out = table.numbers(column)
    wrong = ~(order[1:] > order[:-1]) & ~ends[:-1]
    if wrong.any():
        row = int(np.argmax(wrong)) + 1
        where = f" of episode {ids[int(ends[:row].sum())].item()!r}" if ids is not None else ""
        same = order[row] == order[row - 1]
        table.fail(column, row, f"time must increase from row to row{where}, but {cells[row]} {'repeats' if same else 'comes after'} "
                   f"{cells[row - 1]}{'' if same else ', which is later'}. "
                   + ("Merge or correct the rows." if same else "Sort the rows by time within each episode."))  # fmt: skip
    return out


def _integers(table: Table, column: str, size: int | None, what: str, option: str) -> np.ndarray:
    """(rows,) int32 in 0 … size-1."""
    numbers = table.numbers(column, action=what == "action")
    most = MOST_ACTIONS if size is None else size
    wrong = (numbers != np.floor(numbers)) | (numbers < 0) | (numbers >= most)
    if wrong.any():
        row = int(np.argmax(wrong))
        remedy = f"Code the {option} as 0 … n-1."
        if size is not None and numbers[row] >= most and numbers[row] == np.floor(numbers[row]):
            remedy = f"Correct the cell, or give {option}={int(numbers.max()) + 1}."
        table.fail(column, row, f"expected {what} 0 … {most - 1:,}, found {numbers[row]}. {remedy}")
    return numbers.astype(np.int32)


Members = int | list[int] | None


def _actions(
    table: Table, columns: list[str], actions: int | Sequence[int] | None, low, high, notes: list[str]
) -> tuple[np.ndarray, Members]:
    """(the column or matrix, the number of actions: several for several choices at once, None for a vector)."""
    vector = low is not None or high is not None
    if vector and (low is None or high is None):
        raise BadData(f"{table.name}: only one of 'low' and 'high' is given. Give both bounds of the action.")
    if vector and actions is not None:
        raise BadData(f"{table.name}: 'low' and 'high' belong to a vector, 'actions' or a mask to a choice. Give one or the other.")
    sizes = [] if actions is None else [actions] if isinstance(actions, (int, np.integer)) else [int(size) for size in actions]
    if actions is not None and len(sizes) != len(columns):
        raise BadData(f"{table.name}: 'actions' must be one number for each column of actions, but it is {actions} for {columns}.")
    if len(columns) > 1 and not vector:
        cells = [table.numbers(column, action=True) for column in columns]
        if actions is None and all(cell.dtype.kind == "i" and cell.min() >= 0 for cell in cells):
            sizes = [int(cell.max()) + 1 for cell in cells]
            notes.append(f"The columns of actions hold whole numbers, and are taken as {len(columns)} choices at once, of {sizes} members; "
                         "if they are a vector, give 'low' and 'high'.")  # fmt: skip
        if sizes:
            return np.stack([_integers(table, column, size, "action", "actions") for column, size in zip(columns, sizes)], axis=1), sizes
    elif not vector:
        numbers = table.numbers(columns[0], action=True)
        if actions is not None or numbers.dtype.kind == "i":
            chosen = _integers(table, columns[0], sizes[0] if sizes else None, "action", "actions")
            return chosen, sizes[0] if sizes else int(chosen.max()) + 1
        if (numbers == np.floor(numbers)).all():
            notes.append(f"Column {columns[0]!r} holds whole numbers written with decimals, and is taken as a vector; "
                         "if they are choices, give actions=N.")  # fmt: skip
    matrix = table.matrix(columns, action=True)
    if vector:
        try:
            floor, roof = (np.broadcast_to(np.asarray(x, np.float32), (len(columns),)) for x in (low, high))
        except ValueError as error:
            raise BadData(f"{table.name}: 'low' and 'high' must be one number, or one for each of {len(columns)} action columns; "
                          f"got {low} and {high}.") from error  # fmt: skip
        if not (floor < roof).all():
            raise BadData(f"{table.name}: 'low' must lie below 'high'; got {low} and {high}.")
        slack = 1e-5 * (roof - floor)
        for j, column in enumerate(columns):
            if (outside := (matrix[:, j] < floor[j] - slack[j]) | (matrix[:, j] > roof[j] + slack[j])).any():
                row = int(np.argmax(outside))
                table.fail(column, row, f"expected an action from {floor[j]} to {roof[j]}, found {matrix[row, j]}. "
                           "Correct the cell, or widen 'low' and 'high'.")  # fmt: skip
    return matrix, None


def _mask(table: Table, columns: list[str], acted: np.ndarray, actions: Members) -> np.ndarray:
    """(rows, actions) bool: what was allowed, which what was done must be. For several choices at once, those of all side by side."""
    if actions is None:
        raise BadData(f"{table.name}: a mask belongs to a choice of actions, but the action is a vector. Leave the mask out.")
    if len(columns) != np.sum(actions):
        raise BadData(f"{table.name}: expected one mask column for each of {actions} actions, got {len(columns)}: {columns[:8]}.")
    allowed = np.stack([table.flags(column) for column in columns], axis=1)
    place = acted.reshape(len(acted), -1) + np.cumsum(actions) - actions  # the columns of what was done
    taken = np.take_along_axis(allowed, place, axis=1)
    if not taken.all():
        row, choice = (int(i) for i in np.argwhere(~taken)[0])
        table.fail(columns[place[row, choice]], row, f"action {acted[row]} was taken, but its mask forbids it. "
                   "Correct the mask: what was done was possible.")  # fmt: skip
    return allowed


def _probability(table: Table, column: str, *, log: bool, choice: bool) -> np.ndarray:
    """(rows,) probabilities or, of a vector, densities; or their logarithms."""
    numbers = table.numbers(column)
    wrong = (numbers > 0) & choice if log else (numbers <= 0) | ((numbers > 1) & choice)
    if wrong.any():
        row = int(np.argmax(wrong))
        kind = "probability above 0 and at most 1" if choice else "density above 0"
        table.fail(column, row, f"expected a {'natural logarithm of a probability, at most 0' if log else kind}, found {numbers[row]}. "
                   "Correct the cell: the logger took this action, so it was possible.")  # fmt: skip
    return numbers
