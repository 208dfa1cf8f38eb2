"""Rows of whole episodes to steps: sorted, repeated ones settled, ends found, empty cells treated by rule, all of it counted."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

import numpy as np
import polars as pl

from ..cells import flags, moments, numbers, words
from ..codec import Codec, values_of
from ..episodes import BadData, Episodes
from .facts import Facts
from .formula import Formula, Type, formula
from .rows import EPISODE, NAME, PART, ROW
from .rules import SINGLE, Rules
from .sources import Part

UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
SECOND = 1e6
"Of the microseconds in which dates come."


class Steps:
    """Makes `Episodes` of frames whose episodes lie together, and keeps account of every row and cell.

    Rows are kept as steps or dropped by a rule: "repeated" (the same episode and time again), "drop-episode: COLUMN", "truncated" (the last
    row of an episode that was cut off: what its decision led to was not logged, it only shows what the one before led to) and
    "outcome" (the last row where rewards stand one row late).
    """

    def __init__(self, rules: Rules, codec: Codec, facts: Mapping[str, Facts], parts: Sequence[Part], name: str, whole_ids: bool):
        self.rules, self.codec, self.facts, self.parts, self.name, self.whole_ids = rules, codec, facts, parts, name, whole_ids
        self.kept, self.dropped, self.filled = Counter(), Counter(), Counter()
        self.gone, self.left_out, self.moved, self.gaps = 0, 0, 0, (np.inf, -np.inf)
        self.empty: dict[str, tuple[str, int, str]] = {}
        "Cells that are empty with no rule for them, by column: its role, how many, where the first is."
        self.again: tuple[int, str] | None = None
        "Rows that repeat an episode and a time with no rule for them: how many, where the first is."
        types: dict[str, Type | None] = {column: typed(one) for column, one in facts.items()}
        self.formulas: dict[str, Formula] = {}
        for role in SINGLE:
            said = getattr(rules, role)
            if said is not None and said not in facts and not (role == "terminal" and said in ("always", "never")):
                self.formulas[role] = formula(said, types, role)
        self.dates = rules.time is not None and 2 * facts[rules.time].numbers < facts[rules.time].present
        self.unit = unit_of(rules, self.dates, name)

    def of(self, frame: pl.DataFrame) -> Episodes | None:
        """The steps of some rows, or None if none is left or something has to be refused, which `check` says when all has been seen."""
        frame, time = self.ordered(frame)
        last, used, single = self.planned(frame)
        if (doomed := self.doomed(frame, used, single)) is not None:
            self.left_out += len(doomed)
            stay = ~np.isin(frame[EPISODE].to_numpy(), doomed)
            frame, time = frame.filter(stay), None if time is None else time[stay]
            last, used, single = self.planned(frame)
            self.doomed(frame, used, single)
        if self.empty or self.again or not frame.height:
            return None
        self.count(frame.filter(~used), "truncated" if self.rules.reward_at == "same" else "outcome")
        if not used.any():
            self.gone += frame[EPISODE].n_unique()
            return None
        return self.made(frame, time, last, used, single)

    # order ----------------------------------------------------------------------------------------------------------

    def ordered(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray | None]:
        """(the rows by episode and time, none of them twice; the times)."""
        if self.rules.time is None:
            return frame, None
        fail, facts = self.fail(frame), self.facts[self.rules.time]
        time = moments(frame[facts.name], fail, dates=self.dates, form=self.rules.time_format)
        time = time.cast(pl.Float64) if facts.holds == "number" else time
        if time.null_count():
            dropping = self.rule("time", facts.name) == "drop-episode"
            if not dropping:
                self.missed("time", facts.name, time.is_null().to_numpy(), frame)
                return frame.filter(~time.is_null()), time.drop_nulls().to_numpy()
            frame, stay = self.without(frame, frame.filter(time.is_null())[EPISODE].unique().to_numpy(), facts.name)
            time = time.filter(stay)
        keyed = frame.with_columns(time.alias("\1time"), pl.int_range(frame.height).alias("\1place"))
        if not keyed.height:
            return frame, time.to_numpy()
        keyed = keyed.sort(EPISODE, "\1time", maintain_order=True)
        self.moved += int((keyed["\1place"].to_numpy() != np.arange(keyed.height)).sum())
        again = (keyed["\1time"] == keyed["\1time"].shift(1)) & (keyed[EPISODE] == keyed[EPISODE].shift(1))
        if again.any():
            keyed = self.settled(keyed, again.fill_null(False))
        return keyed.drop("\1time", "\1place"), keyed["\1time"].to_numpy()

    def settled(self, frame: pl.DataFrame, again: pl.Series) -> pl.DataFrame:
        """The frame without rows that repeat an episode and a time."""
        rule = self.rules.repeated
        if rule == "refuse":
            row = int(again.arg_max() or 0)
            count, where = self.again or (0, f"{self.place(frame, row - 1)} and {self.place(frame, row)}")
            self.again = count + int(again.sum()), where
            return frame
        if rule == "same":
            differ = np.zeros(frame.height, bool)
            for column in frame.columns[: frame.columns.index(PART)]:
                differ |= frame[column].ne_missing(frame[column].shift(1)).to_numpy()
            if (differ & again.to_numpy()).any():
                row = int(np.argmax(differ & again.to_numpy()))
                raise BadData(f"{self.place(frame, row)}: repeats the episode and time of {self.place(frame, row - 1)}, but is not the same in the other columns "
                              "that are used. Correct them, or choose --repeated first or last.")  # fmt: skip
        out = again if rule != "last" else again.shift(-1, fill_value=False)
        self.count(frame.filter(out), "repeated")
        return frame.filter(~out)

    def marked(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Where no column names the episode, the rows behind a marked end begin a new one."""
        before, ended = -1, True
        for frame in frames:
            fail, ends = self.fail(frame), np.zeros(frame.height, bool)
            for role in ("terminal", "truncated"):
                if role in self.formulas or getattr(self.rules, role) in self.facts:
                    cells = self.constant(flags(self.cells(role, frame), fail).alias(self.called(role)), role)
                    if cells.null_count():
                        fail(
                            cells.name,
                            int(cells.is_null().arg_max() or 0),
                            f"expected true or false, found an empty cell. Fill it in, or give --missing {cells.name}=fill:false.",
                        )
                    ends |= cells.to_numpy()
            number = before + np.cumsum(np.append(ended, ends[:-1]))
            before, ended = int(number[-1]), bool(ends[-1])
            yield frame.with_columns(pl.Series(EPISODE, number, dtype=pl.Int64))

    # what is there, and what is empty -------------------------------------------------------------------------------

    def planned(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, dict[str, pl.Series]]:
        """(rows that end episodes, rows that are steps, the columns of single roles aligned with the steps)."""
        episode = frame[EPISODE].to_numpy()
        last = np.append(episode[1:] != episode[:-1], True) if len(episode) else np.zeros(0, bool)
        fail, rules, single = self.fail(frame), self.rules, {}
        for role in SINGLE:
            said = getattr(rules, role)
            if said is None or (
                role == "terminal" and role not in self.formulas and said in ("always", "never") and said not in self.facts
            ):
                continue
            cells, end = self.cells(role, frame), role in ("terminal", "truncated")
            cells = flags(cells, fail) if end or (said in self.facts and self.facts[said].holds == "flag") else cells
            single[role] = (cells if end else numbers(cells, fail, decimal=rules.decimal)).alias(self.called(role))
        for role in ("terminal", "truncated"):
            if role not in single:
                single[role] = pl.Series(role, last & (role == "terminal" and rules.terminal == "always"))
            single[role] = self.constant(single[role], role)
            stray = single[role].fill_null(False).to_numpy() & ~last
            if stray.any():
                fail(single[role].name, int(stray.argmax()), "the row is marked as an end, but its episode goes on in a later row. Unmark the row, "
                     "correct its time, or start a new episode behind it.")  # fmt: skip
        ended = single["terminal"].fill_null(False).to_numpy()
        if rules.reward_at == "same":
            return last, ~last | ended, single
        single |= {role: single[role].shift(-1) for role in ("reward", "terminal")}  # of a last row: the next episode's, never used
        return last, ~last, single

    def cells(self, role: str, frame: pl.DataFrame) -> pl.Series:
        """The column of a single role, or what its formula gives."""
        if role not in self.formulas:
            return frame[getattr(self.rules, role)]
        one = self.formulas[role]
        held = {"number": lambda c: numbers(c, self.fail(frame), decimal=self.rules.decimal), "flag": lambda c: flags(c, self.fail(frame)),
                "text": lambda c: words(c, self.fail(frame))}  # fmt: skip
        cells = pl.DataFrame([held[typed(self.facts[column]) or "text"](frame[column]) for column in one.columns] or frame[[EPISODE]])
        value = cells.with_columns(one.value.alias("\1value"))["\1value"]
        if value.dtype == pl.Float64:
            odd = value.is_nan() | value.is_infinite()
            if odd.fill_null(False).any():
                row = int(odd.fill_null(False).arg_max() or 0)
                shown = ", ".join(f"{column} = {frame[column][row]!r}" for column in one.columns)
                raise BadData(f"{self.place(frame, row)}: the formula {one.text!r} for {role!r} gives {value[row]} ({shown}). Guard it, for example by where(…) or max(…).")  # fmt: skip
        return value.alias(self.called(role))

    def doomed(self, frame: pl.DataFrame, used: np.ndarray, single: dict[str, pl.Series]) -> np.ndarray | None:
        """The episodes to be dropped; if there are none, None, and empty cells without a rule are noted."""
        needed: list[tuple[str, str, np.ndarray]] = []
        fail, found = self.fail(frame), np.zeros(frame.height, bool)
        for column in self.codec.obs:
            if column.missing in ("refuse", "drop-episode") and self.facts[column.name].empty:
                needed.append(("obs", column.name, values_of(column, frame, fail, self.codec.decimal)[1]))
        for column in self.codec.action:
            if self.facts[column.name].empty:
                needed.append(("action", column.name, values_of(column, frame, fail, self.codec.decimal)[1] & used))
        for name in self.codec.mask:
            if self.facts[name].empty:
                needed.append(("mask", name, frame[name].is_null().to_numpy() & used))
        for role, cells in single.items():
            where = np.ones(frame.height, bool) if role in ("terminal", "truncated") and self.rules.reward_at == "same" else used
            if cells.null_count():
                needed.append((role, cells.name, cells.is_null().to_numpy() & where))
        for name in (*self.rules.info, *([self.rules.logger] if self.rules.logger else [])):
            if self.facts[name].holds not in ("text", "nothing"):
                needed.append(("info", name, self.info(name, frame).is_null().to_numpy() & used))
        for role, name, empty in needed:
            if empty.any() and self.rule(role, name) == "drop-episode":
                episode = frame[EPISODE].to_numpy()
                doomed = np.isin(episode, episode[empty]) & ~found
                self.count(frame.filter(doomed), f"drop-episode: {name}")
                found |= doomed
        if found.any():
            return np.unique(frame[EPISODE].to_numpy()[found])
        for role, name, empty in needed:
            if empty.any() and self.rule(role, name) == "refuse":
                self.missed(role, name, empty, frame)
        return None

    def rule(self, role: str, name: str) -> str:
        """For an empty cell outside the observations nothing may be made up: refuse, drop-episode, or fill with a value that was given."""
        rules = self.rules.missing
        if role == "obs":
            return self.rules.rule(name)
        rule = rules.get(name) or rules.get(role) or rules.get("*", "refuse")
        return rule if rule == "drop-episode" or (rule == "fill" and role in FILLABLE and (name in rules or role in rules)) else "refuse"

    def constant(self, cells: pl.Series, role: str) -> pl.Series:
        """Empty cells of a single role replaced by the value that was given for them."""
        if not cells.null_count() or self.rule(role, cells.name) != "fill":
            return cells
        value = self.rules.fill.get(cells.name, self.rules.fill.get(role))
        if cells.dtype == pl.Boolean:
            return cells.fill_null(str(value).lower() in ("true", "1", "1.0", "yes"))
        if isinstance(value, str) or value is None:
            raise BadData(f"{self.name}: empty cells of {cells.name!r} cannot become {value!r}; a number is expected.")
        return cells.fill_null(float(value))

    def missed(self, role: str, name: str, empty: np.ndarray, frame: pl.DataFrame) -> None:
        _, count, where = self.empty.get(name) or (role, 0, self.place(frame, int(empty.argmax())))
        self.empty[name] = role, count + int(empty.sum()), where

    def check(self) -> None:
        """Refuse what has no rule, all of it at once."""
        if self.again:
            count, where = self.again
            raise BadData(f"{where}: the same episode and time, as in {count:,} rows in all. Correct them, give the episode a further column, or "
                          "choose a rule: --repeated same (drop rows that are the same in every column), first or last.")  # fmt: skip
        if not self.empty:
            return
        called = lambda name, role: f"{role}, by its formula" if role in self.formulas else f"{name} ({role})"
        lines = [f"  {called(name, role)}: {count:,} empty, the first in {where}" for name, (role, count, where) in self.empty.items()]
        remedy = ("Nothing is filled in silence. Choose a rule for each column, or for all, by --missing COLUMN=RULE: drop-episode leaves out every episode with "
                  "such a cell; fill:VALUE puts a value there; for observations also forward-fill (the last value of the same episode) "
                  "and indicator (the mean, and a dimension that says so).")  # fmt: skip
        raise BadData(f"{self.name}: empty cells, and no rule for them:\n" + "\n".join(lines) + f"\n{remedy}")

    # the steps ------------------------------------------------------------------------------------------------------

    def made(
        self, frame: pl.DataFrame, time: np.ndarray | None, last: np.ndarray, used: np.ndarray, single: dict[str, pl.Series]
    ) -> Episodes:
        rules, codec, fail = self.rules, self.codec, self.fail(frame)
        rows = np.arange(frame.height)
        follow = np.where(last, rows, rows + 1)[used]  # where the next observation of a step stands; of a terminal one, nowhere
        step, acts = rows[used], frame.filter(used)
        obs, filled = codec.observe(frame, fail, frame[EPISODE].to_numpy())
        for column, rule, where in filled:
            self.tally(self.filled, (column, rule), frame.filter(where))
        terminal = single["terminal"].fill_null(False).to_numpy()[used]
        action = codec.enact(acts, self.fail(acts))
        columns = {role: self.constant(cells, role).to_numpy()[used] for role, cells in single.items()}
        self.tally(self.kept, (), acts)
        heads = np.flatnonzero(np.diff(frame[EPISODE].to_numpy()[step], prepend=-1))
        self.gone += frame[EPISODE].n_unique() - len(heads)
        ends = np.append(np.diff(heads), len(step) - heads[-1]).cumsum() - 1
        log = dict(ends=np.isin(np.arange(len(step)), ends), next_obs=obs[follow], terminal=terminal, reward=columns["reward"])
        if codec.mask:
            log |= self.masks(frame, step, follow, terminal, action)
        if "probability" in columns or "log_probability" in columns:
            log["log_prob"] = self.log_prob(acts, columns, single)
        if time is not None:
            log["time"] = time[used] / SECOND if self.dates else time[used].astype(float)
            gap, known = time[follow] - time[step], follow > step
            if known.any():
                self.gaps = min(self.gaps[0], gap[known].min()), max(self.gaps[1], gap[known].max())
            if self.unit is not None:
                log["duration"] = np.where(known, gap / self.unit, 1.0)  # behind an end there is nothing to discount
        if "duration" in columns:
            if (wrong := ~(columns["duration"] > 0)).any():
                self.fail(acts)(
                    single["duration"].name,
                    int(wrong.argmax()),
                    f"expected how long the step took, above 0, found {columns['duration'][wrong.argmax()]:g}. Correct it.",
                )
            log["duration"] = columns["duration"]
        if NAME in acts.columns:
            names = acts[NAME].gather(heads)
            log["ids"] = names.cast(pl.Int64).to_numpy() if self.whole_ids else np.asarray(names.to_list(), dtype=str)
        info = {
            "logger" if name == rules.logger else name: plain(self.info(name, acts))
            for name in (*rules.info, *([rules.logger] if rules.logger else []))
        }
        space = codec.action[0].kind
        size = len(codec.joint) if codec.joint else [len(column.labels) for column in codec.action]
        return Episodes.of(
            obs[step], action, states=len(codec.obs[0].levels) if codec.obs[0].kind == "state" else None,
            actions=None if space == "number" else size if isinstance(size, int) else size[0] if len(size) == 1 else size,
            low=rules.low or None, high=rules.high or None, info=info, source=self.name, **log,
        )  # fmt: skip

    def masks(
        self, frame: pl.DataFrame, step: np.ndarray, follow: np.ndarray, terminal: np.ndarray, action: np.ndarray
    ) -> dict[str, np.ndarray]:
        allowed, empty = self.codec.allowed(frame, self.fail(frame)) or (np.empty((0, 0)), np.empty((0, 0)))
        if (lost := empty[follow[~terminal]]).any():
            row, member = np.argwhere(lost)[0]
            self.fail(frame)(
                self.codec.mask[member], int(follow[~terminal][row]), "expected true or false, found an empty cell. Fill it in."
            )
        sizes = (
            [allowed.shape[1]] if self.codec.joint or len(self.codec.action) == 1 else [len(column.labels) for column in self.codec.action]
        )
        places = action.reshape(len(action), -1) + np.cumsum(sizes) - sizes
        taken = np.take_along_axis(allowed[step], places, axis=1)
        if not taken.all():
            row, choice = (int(i) for i in np.argwhere(~taken)[0])
            self.fail(frame)(
                self.codec.mask[places[row, choice]],
                int(step[row]),
                "the action was taken, but its mask forbids it. Correct the mask: what was done was possible.",
            )
        for rows in (step, follow[~terminal]):
            parts = np.split(allowed[rows], np.cumsum(sizes)[:-1], axis=1)
            if not (some := np.all([part.any(axis=1) for part in parts], axis=0)).all():
                self.fail(frame)(self.codec.mask[0], int(rows[some.argmin()]), "the mask forbids every action. Allow at least one.")
        return {"mask": allowed[step], "next_mask": np.where(terminal[:, None], True, allowed[follow])}

    def log_prob(self, acts: pl.DataFrame, columns: dict[str, np.ndarray], single: dict[str, pl.Series]) -> np.ndarray:
        log, choice = "log_probability" in columns, self.codec.action[0].kind != "number"
        role = "log_probability" if log else "probability"
        given = columns[role]
        wrong = (given > 0) & choice if log else (given <= 0) | ((given > 1) & choice)
        if wrong.any():
            row = int(wrong.argmax())
            kind = "probability above 0 and at most 1" if choice else "density above 0"
            self.fail(acts)(single[role].name, row, f"expected a {'natural logarithm of a probability, at most 0' if log else kind}, found {given[row]:g}. "
                            "Correct the cell: the logger took this action, so it was possible.")  # fmt: skip
        return given if log else np.log(given)

    def info(self, name: str, frame: pl.DataFrame) -> pl.Series:
        """A column that travels along: numbers, flags, or texts, of which empty ones stay so."""
        facts, fail = self.facts[name], self.fail(frame)
        if facts.holds in ("whole", "number"):
            cells = numbers(frame[name], fail, decimal=self.rules.decimal)
        elif facts.holds == "flag":
            cells = flags(frame[name], fail)
        elif facts.holds == "date":
            cells = moments(frame[name], fail, dates=True).cast(pl.Float64) / SECOND
        else:
            return words(frame[name], fail).fill_null("")
        return self.constant(cells, "info")

    # account --------------------------------------------------------------------------------------------------------

    def tally(self, counter: Counter, rule: tuple, frame: pl.DataFrame) -> None:
        for part, count in frame[PART].value_counts().iter_rows():
            counter[*rule, part] += count

    def count(self, frame: pl.DataFrame, rule: str) -> None:
        self.tally(self.dropped, (rule,), frame)

    def without(self, frame: pl.DataFrame, episodes: np.ndarray, name: str) -> tuple[pl.DataFrame, np.ndarray]:
        stay = ~np.isin(frame[EPISODE].to_numpy(), episodes)
        self.left_out += len(episodes)
        self.count(frame.filter(~stay), f"drop-episode: {name}")
        return frame.filter(stay), stay

    def called(self, role: str) -> str:
        """What a person calls the cells of a role: their column, or the role of a formula."""
        return role if role in self.formulas else getattr(self.rules, role)

    def place(self, frame: pl.DataFrame, row: int) -> str:
        part = self.parts[frame[PART][row]]
        return f"{part.name}: {part.place(frame[ROW][row])}"

    def fail(self, frame: pl.DataFrame):
        def refuse(column: str, row: int, text: str) -> NoReturn:
            part = self.parts[frame[PART][row]]
            raise BadData(f"{part.name}: column {column!r}, {part.place(frame[ROW][row])}: {text}")

        return refuse


FILLABLE = ("reward", "terminal", "truncated", "duration", "info")


def typed(facts: Facts) -> Type | None:
    """What a formula sees in a column."""
    kinds: dict[str, Type] = {"whole": "number", "number": "number", "flag": "flag", "text": "text", "nothing": "number"}
    return kinds.get(facts.holds)


def plain(cells: pl.Series) -> np.ndarray:
    """A column to be kept as it is: texts as such, all else as numbers."""
    return np.asarray(cells.to_list(), dtype=str) if cells.dtype == pl.String else cells.to_numpy()


def unit_of(rules: Rules, dates: bool, name: str) -> float | None:
    """The unit of durations, in what times are counted in: microseconds for dates."""
    if rules.unit is None:
        return None
    if rules.time is None:
        raise BadData(f"{name}: a unit of time is given ({rules.unit}), but no column of times. Name it by --time.")
    if rules.duration is not None:
        raise BadData(f"{name}: durations come from a column or from a unit of time, but both are given. Give one.")
    found = re.fullmatch(r"(\d*\.?\d*)\s*(ms|s|min|h|d|w)?", rules.unit)
    number = float(found[1] or 1) if found and found[1] != "." else 0.0
    if found is None or number <= 0 or bool(found[2]) != dates:
        expected = (
            "a duration such as 1h, 15min or 1d"
            if dates
            else f"a number, since {rules.time!r} holds numbers: how many of them make one unit"
        )
        raise BadData(f"{name}: the unit of time is {rules.unit!r}; expected {expected}.")
    return number * UNITS[found[2]] * SECOND if dates else number
