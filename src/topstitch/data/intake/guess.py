"""Roles guessed from names, types and behaviour of columns: each with its reason, to be shown and confirmed, never acted on in silence."""

import dataclasses
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from ..cells import clean, flags, moments, numbers, words
from ..episodes import BadData
from . import formula
from .encoding import WORDS, short
from .facts import Facts
from .rules import EACH, SINGLE, Rules
from .sources import Part, natural

SAMPLE = 100_000
"Rows that are looked at."
FEW = 0.1
"The share of rows that may repeat the episode and time of another: an import refuses them, and says what to do."

NAMES = {
    "episode": "episode ep stay session trajectory traj patient subject encounter visit admission hadm icustay case batch lot trip conversation game run user customer order",
    "time": "time timestamp datetime date hour minute second day week month t step timestep tick seq sequence charttime",
    "reward": "reward rewards r rew payoff utility profit revenue margin yield click clicked converted conversion",
    "cost": "cost costs loss penalty",
    "terminal": "terminal terminals terminated done died dead death expired absorbing end ended last final",
    "truncated": "truncated truncation timeout timeouts censored",
    "probability": "probability prob p propensity pscore pi",
    "log_probability": "logp logprob",
    "action": "action actions act a dose bolus treatment treat decision choice arm variant chosen intervention setpoint offer ad recommendation recommended item",
    "mask": "mask allowed legal available may can",
    "logger": "logger policy clinician doctor nurse operator agent",
    "outcome": "outcome outcomes result results response accepted purchased bought sold returned churned success survived",
    "obs": "obs observation observations state states s feature features x",
}
"Words in the names of columns of each role, the likeliest first."
BESIDE = "id ids no nr num number name key code is was score log logged taken value type index at b behavior behaviour mg ml kg usd eur total net m d w day days week weeks month months year years"
"Words that may stand beside them."


@dataclasses.dataclass(frozen=True)
class Guess:
    rules: Rules
    why: dict[str, str]
    "By role: why."
    left: dict[str, str]
    "By column that got no role: why."
    rows: int
    "That were looked at."


def guess(parts: Sequence[Part], said: Rules, memory: int = 64 << 20) -> Guess:
    """Rules for the roles that `said` leaves open, and for the decimal sign, from the first rows of the parts."""
    frame, facts = _sample(parts, said, memory)
    why = {}
    if said.decimal == "." and (name := _decimal(frame, facts)):
        said = dataclasses.replace(said, decimal=",")
        why["decimal"] = f"the cells of {name!r} are numbers with a comma before their decimals"
        frame, facts = _sample(parts, said, memory)
    found = _Guesser(frame, facts, said.spelt(parts[0].names, parts[0].name)).guess()
    return dataclasses.replace(found, why=found.why | why)


def _decimal(frame: pl.DataFrame, facts: dict[str, Facts]) -> str | None:
    """A column whose numbers have commas that do not part thousands, behind which three digits would always stand."""
    return next((name for name, one in facts.items() if one.comma and frame[name].str.contains(r",(\d{1,2}|\d{4,})$").any()), None)


def _sample(parts: Sequence[Part], said: Rules, memory: int) -> tuple[pl.DataFrame, dict[str, Facts]]:
    columns, frames, rows = parts[0].names, [], 0
    facts = {name: Facts(name) for name in columns}
    for i, part in enumerate(parts):
        if set(columns) - set(part.names):
            continue
        for frame, _ in part.read(columns, memory // 8):
            frame = clean(frame[: SAMPLE - rows], said.na)
            for name in columns:
                facts[name].see(frame[name], i, 0, decimal=said.decimal, dates=True, form=said.time_format)
            frames.append(frame)
            rows += frame.height
            if rows >= SAMPLE or sum(one.estimated_size() for one in frames) > memory:
                break
        if rows >= SAMPLE or i == 0:  # one file is enough, as a person would look at it
            break
    if not rows:
        raise BadData(f"{parts[0].name}: expected at least one row, but there is none.")
    return pl.concat(frames), facts


class _Guesser:
    def __init__(self, frame: pl.DataFrame, facts: dict[str, Facts], said: Rules):
        self.frame, self.facts, self.said = frame, facts, said
        self.found: dict[str, Any] = {}
        self.why: dict[str, str] = {}
        self.left: dict[str, str] = {}
        taken = {role: getattr(said, role) for role in ("episode", "time", "obs", "action", "mask", "info", "reward", "terminal", "truncated", "probability", "log_probability", "duration", "logger")}  # fmt: skip
        self.taken = {name for value in taken.values() for name in ((value,) if isinstance(value, str) else value or ())}
        self.open = {role for role, value in taken.items() if not value}
        for role in SINGLE:
            made = getattr(said, role)
            if made and made not in frame.columns and not (role == "terminal" and made in ("always", "never")):
                for name in sorted(formula.names(made, role) & set(frame.columns) - self.taken):
                    self.skip(
                        name,
                        f"{role!r} is made of it, so that it may show what came of the decision; if it was known before, name it by --obs",
                    )

    def guess(self) -> Guess:
        for name in self.frame.columns:
            if name not in self.taken and "next" in tokens(name):
                self.skip(name, "its name says that it came afterwards: it would show the future")
        self.episode()
        self.single("terminal", self.is_flag, "holds only true and false")
        self.single("truncated", self.is_flag, "holds only true and false")
        self.last_flag()
        self.time()
        self.reward()
        self.mask()
        self.actions()
        self.single("probability", lambda one: one.low > 0 and one.high <= 1, "lies above 0 and at most at 1")
        self.single("log_probability", lambda one: one.high <= 0, "is never above 0")
        self.single("logger", lambda one: one.levels is not None and len(one.levels) <= WORDS, "names few")
        self.ends()
        self.observations()
        rules = dataclasses.replace(self.said, **self.found)
        return Guess(rules, self.why, self.left, self.frame.height)

    # helpers --------------------------------------------------------------------------------------------------------

    def free(self, role: str) -> list[str]:
        """Columns without a role whose names speak for this one, the likeliest first."""
        said, beside = NAMES[role].split(), BESIDE.split()
        if role in ("probability", "log_probability"):  # that of what was decided: offer_probability
            beside += [word for name in self.found.get("action", self.said.action) for word in tokens(name)]

        def place(name: str) -> int | None:
            words = tokens(name)
            strange = [word for word in words if word not in said and word not in beside and not word.isdecimal()]
            return None if strange and role != "mask" else min((said.index(word) for word in words if word in said), default=None)

        found = [
            (place(name), len(tokens(name)), j, name)
            for j, name in enumerate(self.frame.columns)
            if name not in self.taken and place(name) is not None
        ]
        return [name for *_, name in sorted(found)]

    def take(self, role: str, value: Any, columns: Sequence[str], why: str) -> None:
        self.found[role] = value
        self.why[role] = why
        self.taken |= set(columns)

    def skip(self, name: str, why: str) -> None:
        self.left[name] = why
        self.taken.add(name)

    def is_flag(self, one: Facts) -> bool:
        return one.present > 0 and (one.holds == "flag" or (one.holds == "whole" and one.low >= 0 and one.high <= 1))

    def single(self, role: str, fits: Callable[[Facts], bool], why: str) -> None:
        if role not in self.open:
            return
        for name in self.free(role):
            one = self.facts[name]
            if (
                (role in ("terminal", "truncated", "logger") or one.numbers)
                and fits(one)
                and (role not in ("terminal", "truncated") or self.at_ends(name))
            ):
                self.take(
                    role,
                    name,
                    [name],
                    f"{name!r} is called so, and {why}"
                    + (", and is true only where episodes end" if role in ("terminal", "truncated") and self.names() is not None else ""),
                )
                return

    def names(self) -> pl.Series | None:
        """The episode of every row, if it is known."""
        columns = [name for name in self.found.get("episode", self.said.episode) if name in self.frame.columns]
        if not columns:
            return None
        pieces = [words(self.frame[name], _never).alias(f"{j}") for j, name in enumerate(columns)]
        return pl.DataFrame(pieces).select(pl.concat_str(pl.all(), separator="/")).to_series()

    def at_ends(self, name: str) -> bool:
        """Whether a flag is true only in last rows of episodes, where these lie together."""
        episode = self.names()
        if episode is None or int(episode.rle_id()[-1]) + 1 > episode.n_unique():
            return True
        last = np.append((episode != episode.shift(-1))[:-1].fill_null(True).to_numpy(), True)
        return not (flags(self.frame[name], _never).fill_null(False).to_numpy() & ~last).any()

    # roles ----------------------------------------------------------------------------------------------------------

    def episode(self) -> None:
        if "episode" not in self.open:
            return
        called = sorted(self.free("episode"), key=lambda name: not self.together(name))
        for name in [*called, *(name for name in self.frame.columns if name not in self.taken and name not in called)]:
            one = self.facts[name]
            if one.holds not in ("whole", "text") or one.empty:
                continue
            cells = words(self.frame[name], _never)
            kinds, stretches = cells.n_unique(), int(cells.rle_id()[-1]) + 1
            seen = f"has {kinds:,} different values in {len(cells):,} rows, {'whose' if stretches == kinds else 'not all of whose'} rows lie together"
            if name in called and kinds < len(cells) and (kinds > 1 or "episode" in tokens(name)):
                self.take("episode", (name,), [name], f"{name!r} is called so, and {seen}")
                return
            if name not in called and 1 < kinds == stretches < len(cells) and (clock := self.clock(cells)) is not None:
                self.take("episode", (name,), [name], f"{name!r} {seen}, and {clock!r} begins anew with each")
                return

    def together(self, name: str) -> bool:
        """Whether rows with the same word lie together."""
        if self.facts[name].holds not in ("whole", "text"):
            return False
        cells = words(self.frame[name], _never)
        return int(cells.rle_id()[-1]) + 1 == cells.n_unique()

    def clock(self, episode: pl.Series) -> str | None:
        """A column called like a time that increases in every stretch of an episode, and falls between them."""
        starts = np.flatnonzero((episode != episode.shift(-1)).fill_null(True).to_numpy()[:-1]) + 1
        for name in self.free("time"):
            if self.facts[name].holds in ("whole", "number") and not self.facts[name].empty:
                steps = np.diff(numbers(self.frame[name], _never, decimal=self.said.decimal).to_numpy())
                if (np.delete(steps, starts - 1) > 0).all() and (steps[starts - 1] < 0).any():
                    return name
        return None

    def time(self) -> None:
        if "time" not in self.open:
            return
        episode, called = self.names(), self.free("time")
        dates = [name for name in self.frame.columns if name not in self.taken and self.facts[name].holds == "date"]
        for name in [*called, *(dates if len(dates) == 1 and dates[0] not in called else ())]:
            one = self.facts[name]
            if one.holds not in ("whole", "number", "date") or one.empty:
                continue
            when = moments(self.frame[name], _never, dates=one.holds == "date", form=self.said.time_format)
            again = 0 if episode is None else int(pl.DataFrame({"e": episode, "t": when}).is_duplicated().sum())
            if again <= FEW * len(when) if episode is not None else when.is_sorted():
                seen = "increases" if episode is None else "differs between the rows of every episode"
                why = "is called so" if name in called else "is the only column of dates"
                self.take("time", name, [name], f"{name!r} {why}, and {seen}{f', but for {again:,} rows' if again else ''}")
                return
        for name in called:
            if (why := self.strange_date(name)) is not None:
                self.skip(name, why)

    def strange_date(self, name: str) -> str | None:
        """Why a column that looks like dates is no time."""
        _, row, odd = self.facts[name].odd.get("date", (0, 0, ""))
        if self.facts[name].holds != "text" or not re.match(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}", odd):
            return None
        return f"it looks like dates, but {odd!r} in row {row + 1:,} is not written as {self.said.time_format or '2024-01-31 12:00'}; see --time-format"

    def reward(self) -> None:
        if "reward" not in self.open:
            return
        for role in ("reward", "cost"):
            for name in self.free(role):
                if (one := self.facts[name]).holds in ("whole", "number", "flag"):
                    called = name if role == "reward" else f"-{name}" if name.isidentifier() else f"-col({name!r})"
                    seen = f"holds numbers from {one.low:g} to {one.high:g}" if one.numbers else "holds true and false"
                    self.take(
                        "reward",
                        called,
                        [name],
                        f"{name!r} is called {'so' if role == 'reward' else 'a cost, whose opposite is a reward'}, and {seen}",
                    )
                    return

    def last_flag(self) -> None:
        """The only flag that is true in last rows of episodes alone, whatever it is called."""
        if "terminal" not in self.open or "terminal" in self.found or self.names() is None:
            return
        fits = [
            name
            for name in self.frame.columns
            if name not in self.taken
            and self.is_flag(one := self.facts[name])
            and one.levels
            and len(one.levels) == 2
            and self.at_ends(name)
        ]
        if len(fits) == 1:
            self.take("terminal", fits[0], fits, f"{fits[0]!r} holds only true and false, and is true only where episodes end")

    def mask(self) -> None:
        if "mask" not in self.open:
            return
        fits = sorted(
            (name for name in self.free("mask") if self.is_flag(self.facts[name]) and tokens(name)[0] in NAMES["mask"].split()), key=natural
        )
        if len(fits) > 1:
            self.take("mask", tuple(fits), fits, f"{len(fits)} columns are called so, and hold only true and false")

    def actions(self) -> None:
        if "action" not in self.open:
            return
        named = [name for name in self.free("action") if self.facts[name].holds in ("whole", "number", "flag", "text")]
        if not named:
            return
        first = tokens(named[0])[0]
        alike = (
            sorted((name for name in named if tokens(name)[0] == first and tokens(name)[-1].isdecimal()), key=natural)
            if first in ("action", "actions", "act", "a")
            else []
        )
        chosen = alike if len(alike) > 1 and named[0] in alike else named[:1]
        one = self.facts[chosen[0]]
        seen = (
            f"{len(one.levels):,} different values"
            if one.levels is not None and one.holds != "number"
            else f"numbers from {one.low:g} to {one.high:g}"
        )
        self.take(
            "action",
            tuple(chosen),
            chosen,
            f"{', '.join(map(repr, chosen[:4]))} {'is' if len(chosen) == 1 else 'are'} called so, with {seen}",
        )

    def ends(self) -> None:
        """Where nothing names episodes or marks their ends, every row is a decision by itself."""
        marked = {"terminal", "truncated"} & (set(self.found) | ({"terminal", "truncated"} - self.open))
        if "episode" in self.open and "episode" not in self.found and not marked:
            self.take(
                "episode", (EACH,), [], "no column names episodes and none marks their ends: every row is taken as a decision by itself"
            )
            if "terminal" in self.open:
                self.take("terminal", "always", [], "of decisions that stand by themselves nothing follows")

    def observations(self) -> None:
        if "obs" not in self.open:
            for name in self.frame.columns:
                if name not in self.taken:
                    self.skip(name, "not asked for")
            return
        for role, like in (("reward", "a reward"), ("cost", "a cost"), ("outcome", "an outcome")):
            for name in self.free(role):
                if self.facts[name].holds in ("whole", "number", "flag") or role == "outcome":
                    self.skip(
                        name,
                        f"it is called like {like}, and may show what came of the decision; if it was known before, name it by --obs",
                    )
        rest = [name for name in self.frame.columns if name not in self.taken]
        called = [name for name in rest if tokens(name)[0] in NAMES["obs"].split()]
        called = called if len(called) > 1 or "obs" in "".join(called[:1]) else []  # a lone x is a name like any other
        chosen = []
        for name in called or rest:
            if (why := self.useless(name)) is not None:
                self.skip(name, why)
            else:
                chosen.append(name)
        for name in rest:
            if name not in called and called:
                self.skip(name, f"is not called like the observations ({called[0]!r} …)")
        if chosen:
            self.take(
                "obs",
                tuple(chosen),
                chosen,
                "they are called so" if called else "they are what is left, and known when deciding, as far as names tell",
            )

    def useless(self, name: str) -> str | None:
        """Why a column is no observation, if it is none."""
        one = self.facts[name]
        if one.holds in ("nothing", "date", "other"):
            return {"nothing": "it is empty", "date": "it holds dates", "other": "it holds neither numbers nor words"}[one.holds]
        if one.levels is not None and len(one.levels) == 1 and not one.empty:
            return f"it is {next(iter(one.levels))!r} in every row that was looked at"
        if (why := self.strange_date(name)) is not None:
            return why
        if one.nested:
            return f"its cells hold several values each, as in {short(one.nested, 30)}: take these apart, and they can be observed"
        if one.comma:
            return f"its numbers have commas between thousands, as in {one.odd['number'][2]!r}: take these out, and it can be observed"
        if one.holds == "text" and 2 * one.numbers > one.present:
            odd, count = " ".join(map(repr, one.strange()[:3])), one.present - one.numbers - one.nan
            return f"most of its cells are numbers, but {count:,} are not; if these stand for empty ones, give --na {odd}"
        kinds, named = len(one.levels) if one.levels is not None else one.rows, "id" in tokens(name)
        if 2 * kinds > one.rows > 2 and ((one.holds == "text" and (named or kinds > WORDS)) or (one.holds == "whole" and named)):
            return f"it differs in most rows, as names do: {self.frame[name].drop_nulls()[0]!r} …"
        if named and one.holds == "whole":
            return f"its numbers are names; with --obs and --one-hot {shlex.quote(name)} it could be observed"
        if one.holds == "text" and kinds > WORDS:
            return f"it holds more than {WORDS} different words; with --other {shlex.quote(f'{name}=20')} it could be observed"
        if one.holds == "whole" and one.present == one.rows > 2:
            counted = numbers(self.frame[name], _never, decimal=self.said.decimal).to_numpy()
            if (np.diff(counted) == 1).all():
                return "it numbers the rows"
        return None


def tokens(name: str) -> list[str]:
    """The words of a name: heartRate_2 is heart, rate, 2."""
    return re.findall(r"[a-z]+|\d+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()) or [""]


def _never(column: str, row: int, text: str):
    raise BadData(f"column {column!r}: {text}")
