"""What the columns of a table are and what is done with them: the options of an import, and the `roles.toml` beside its log."""

import dataclasses
import fnmatch
import itertools
import math
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w

from ..codec import Missing
from ..episodes import BadData
from ..formats import among
from ..formats.files import decoder
from ..formats.table import MOST_ACTIONS
from .sources import hint, natural

Texts = tuple[str, ...]
Repeated = Literal["refuse", "same", "first", "last"]
EACH, FILE = "row", "file"
"Words for `episode`: every row is one, every file is one; the latter also for `logger`."

SINGLE = ("reward", "terminal", "truncated", "probability", "log_probability", "duration")
"Roles of one column, or of a formula of several; that of a formula is called as the role is."


@dataclasses.dataclass(frozen=True)
class Rules:
    """Every field is an option of `import_table`, which describes them."""

    episode: Texts = ()
    time: str | None = None
    obs: Texts = ()
    action: Texts = ()
    reward: str | None = None
    terminal: str | None = None
    truncated: str | None = None
    probability: str | None = None
    log_probability: str | None = None
    mask: Texts = ()
    duration: str | None = None
    logger: str | None = None
    info: Texts = ()
    reward_at: Literal["same", "next"] = "same"
    unit: str | None = None
    one_hot: Mapping[str, Texts] = dataclasses.field(default_factory=dict)
    order: Mapping[str, Texts] = dataclasses.field(default_factory=dict)
    other: Mapping[str, int] = dataclasses.field(default_factory=dict)
    states: int | None = None
    choices: Mapping[str, Texts] = dataclasses.field(default_factory=dict)
    bins: Mapping[str, int | tuple[float, ...]] = dataclasses.field(default_factory=dict)
    values: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    joint: bool | tuple[tuple[int, ...], ...] = False
    actions: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    missing: Mapping[str, Missing] = dataclasses.field(default_factory=dict)
    fill: Mapping[str, float | str | bool] = dataclasses.field(default_factory=dict)
    na: Texts = ()
    repeated: Repeated = "refuse"
    time_format: str | None = None
    separator: str | None = None
    encoding: str = "utf-8"
    decimal: str = "."

    @classmethod
    def of(cls, plain: Mapping[str, Any], where: str = "roles") -> "Rules":
        """From plain values, such as those of a TOML file: a text may stand for a list of one, a rule for a table of rules for all columns."""
        known, out, plain = {f.name for f in dataclasses.fields(cls)}, {}, _filling(plain)
        for name, value in plain.items():
            if name not in known:
                raise BadData(f"{where}: there is no role or rule {name!r}. {among(name, sorted(known), 'There are')}")
            if value is not None:
                out[name] = _checked(name, value, where)
        return cls(**out)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Rules":
        """A `roles.toml`."""
        path = Path(path)
        try:
            plain = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadData(f"{path}: cannot be read as TOML ({error}). Correct it, or name the roles as options.") from error
        return cls.of(plain, str(path))

    def plain(self) -> dict[str, Any]:
        """For TOML and JSON: what was said, and nothing that is as if it had not been."""
        lists = lambda x: (
            [lists(y) for y in x] if isinstance(x, tuple) else {k: lists(v) for k, v in x.items()} if isinstance(x, Mapping) else x
        )
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: lists(value) for name, value in fields.items() if value not in ((), None, {}, False) and (name, value) not in IMPLIED}

    def toml(self, why: Mapping[str, str] | None = None) -> str:
        """The text of a `roles.toml`; `why` gives reasons, by name of a role, as comments above it."""
        rules, tables = [], []
        for name, value in self.plain().items():
            reason = "".join(letter if letter.isprintable() else " " for letter in (why or {}).get(name, ""))
            (tables if isinstance(value, Mapping) else rules).append((f"# {reason}\n" if reason else "") + tomli_w.dumps({name: value}))
        return "\n".join(["".join(rules), *tables])

    def rule(self, column: str) -> Missing:
        """What an empty cell of an observed column means."""
        return self.missing.get(column) or self.missing.get("*") or "refuse"

    def spelt(self, names: Sequence[str], where: str) -> "Rules":
        """With wildcards spelt out, and every name one of the table's. `BadData` where that cannot be."""
        found: dict[str, Any] = {"obs": (), "action": (), "mask": (), "info": ()}
        for role in found:
            columns = [column for pattern in getattr(self, role) for column in fitting(pattern, names, role, where)]
            found[role] = tuple(dict.fromkeys(columns)) if role == "info" else tuple(columns)
        for role in ("one_hot", "order", "other", "choices", "bins", "values", "missing", "fill"):
            table: dict[str, Any] = {}
            for pattern, value in sorted(getattr(self, role).items(), key=lambda item: item[0] in names):  # names prevail over patterns
                formula = pattern in SINGLE and pattern not in names and role in ("missing", "fill")
                table |= dict.fromkeys([pattern] if pattern == "*" or formula else fitting(pattern, names, role, where), value)
            found[role] = table
        spelt = dataclasses.replace(self, **found)
        for role in ("time", "logger"):
            if (column := getattr(self, role)) is not None and (role, column) != ("logger", FILE):
                fitting(column, names, role, where, wild=False)
        for column in self.episode:
            if column not in (FILE, EACH) or column in names:
                fitting(column, names, "episode", where, wild=False)
        spelt._apart(names, where)
        return spelt

    def _apart(self, names: Sequence[str], where: str) -> None:
        """Refuse a column with two roles. Times and loggers may be observed if they are named; anything may be in `info`."""
        owner: dict[str, str] = {}
        single = {role: getattr(self, role) for role in SINGLE}
        roles = {"episode": self.episode, "action": self.action, "mask": self.mask, "obs": self.obs}
        roles = {role: (name,) for role, name in single.items() if name in names} | roles | {"time": (self.time,) if self.time else ()}
        for role, columns in roles.items():
            for column in columns:
                if column in owner and {role, owner[column]} != {"obs", "time"}:
                    what = f"twice in {role!r}" if owner[column] == role else f"as {owner[column]!r} and as {role!r}"
                    raise BadData(
                        f"{where}: column {column!r} is used {what}. Give every column one role, with a narrower wildcard or a list."
                    )
                owner[column] = role


IMPLIED = [("reward_at", "same"), ("repeated", "refuse"), ("encoding", "utf-8"), ("decimal", ".")]
WORDS = {"reward_at": ("same", "next"), "repeated": get_args(Repeated)}
LISTS = ("episode", "obs", "action", "mask", "info", "na")


def _filling(plain: Mapping[str, Any]) -> dict[str, Any]:
    """`fill:VALUE` among the rules for empty cells is the rule `fill` and a value."""
    missing = plain.get("missing")
    rules = {"*": missing} if isinstance(missing, str) else missing
    if not isinstance(rules, Mapping) or not isinstance(plain.get("fill") or {}, Mapping):
        return dict(plain)
    given = {column: rule.partition(":")[2] for column, rule in rules.items() if isinstance(rule, str) and rule.startswith("fill:")}
    fill = {column: _number(value) for column, value in given.items()} | dict(plain.get("fill") or {})
    return {**plain, "missing": {**rules, **dict.fromkeys(given, "fill")}, "fill": fill}


def _number(text: str) -> float | str:
    try:
        return float(text) if math.isfinite(float(text)) else text
    except ValueError:
        return text


def text(x: Any) -> bool:
    return isinstance(x, str) and x != ""


def number(x: Any) -> bool:
    """Whether it is a number that a float can hold, and finite."""
    return isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) <= sys.float_info.max


def _checked(name: str, value: Any, where: str) -> Any:
    """A plain value as its field holds it."""

    def wrong(expected: str):
        return BadData(f"{where}: {name!r} must be {expected}, but it is {value!r}. Correct it.")

    several = lambda x: isinstance(x, (list, tuple))
    if name in LISTS:
        value = [value] if isinstance(value, str) else value
        if not several(value) or not all(map(text, value)):
            raise wrong("a text or a list of texts")
        return tuple(value)
    if name in WORDS and value not in WORDS[name]:
        raise wrong(f"one of {', '.join(WORDS[name])}")
    if name in ("separator", "decimal") and not (text(value) and len(value) == 1 and value.isascii() and value not in '"\r\n'):
        raise wrong("one character")
    if name == "encoding":
        import codecs

        try:
            decoder(value if text(value) else "")
        except BadData:
            raise wrong("an encoding that Python knows, such as latin-1 or utf-16") from None
        return "utf-8" if codecs.lookup(value).name in ("utf-8", "ascii", "utf-8-sig") else value
    count = lambda x: isinstance(x, int) and not isinstance(x, bool) and 0 < x <= MOST_ACTIONS
    if name == "states":
        if not count(value):
            raise wrong(f"a whole number from 1 to {MOST_ACTIONS:,}")
        return value
    if name == "actions":
        value = [value] if isinstance(value, int) else value
        if not several(value) or not all(map(count, value)):
            raise wrong(f"a whole number from 1 to {MOST_ACTIONS:,}, or one for each column of the action")
        return tuple(value)
    if name in ("low", "high"):
        value = [value] if number(value) else value
        if not several(value) or not all(map(number, value)):
            raise wrong("a number, or one for each column of the action")
        return tuple(map(float, value))
    place = lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= 0
    if name == "joint":
        if isinstance(value, bool):
            return value
        if not several(value) or not value or not all(several(member) and member and all(map(place, member)) for member in value):
            raise wrong("true, false, or a list of combinations")
        return tuple(map(tuple, value))
    if name in ("one_hot", "order", "choices", "other", "bins", "values", "missing", "fill"):
        return _table(name, value, wrong)
    if not text(value):
        raise wrong("a text")
    return value


def _table(name: str, value: Any, wrong) -> dict:
    """A table of one entry a column."""
    if name == "one_hot" and (isinstance(value, str) or (isinstance(value, (list, tuple)) and all(map(text, value)))):
        value = dict.fromkeys([value] if isinstance(value, str) else value, ())
    if name in ("missing", "bins") and not isinstance(value, Mapping):
        value = {"*": value}
    if not isinstance(value, Mapping) or not all(map(text, value)):
        raise wrong("a table of one entry a column")
    if name in ("one_hot", "order", "choices"):
        if not all(isinstance(x, (list, tuple)) and all(map(text, x)) and len(set(x)) == len(x) for x in value.values()):
            raise wrong("a list of different categories, as texts, for each column")
        return {column: tuple(x) for column, x in value.items()}
    if name == "other" and not all(isinstance(x, int) and not isinstance(x, bool) and x > 0 for x in value.values()):
        raise wrong("for each column how many categories to keep, from 1")
    if name in ("bins", "values"):
        lists = {column: tuple(map(float, x)) if isinstance(x, (list, tuple)) and all(map(number, x)) else x for column, x in value.items()}
        edges = lambda x: (
            isinstance(x, tuple)
            and (name == "values" or (len(x) > 1 and all(a < b for a, b in itertools.pairwise(x[:-1])) and x[-2] <= x[-1]))
        )
        count = lambda x: name == "bins" and isinstance(x, int) and not isinstance(x, bool) and 1 < x <= 1000
        if not all(edges(x) or count(x) for x in lists.values()):
            raise wrong(
                "for each column the number of bins, from 2, or their increasing edges, none of them infinite"
                if name == "bins"
                else "numbers for each column"
            )
        return lists
    if name == "missing" and not all(x in get_args(Missing) for x in value.values()):
        raise wrong(f"one of {', '.join(get_args(Missing))} (with 'fill' naming the value) for each column, or for all")
    if name == "fill" and not all(isinstance(x, (str, bool)) or number(x) for x in value.values()):
        raise wrong("one value for each column")
    return dict(value)


def fitting(pattern: str, names: Sequence[str], role: str, where: str, *, wild: bool = True) -> list[str]:
    """The columns that a name or wildcard stands for, in natural order."""
    if pattern in names:
        return [pattern]
    wild = wild and any(sign in pattern for sign in "*?[")
    columns = sorted(fnmatch.filter(names, pattern), key=natural) if wild else []
    if not columns:
        raise BadData(f"{where}: no column {'fits' if wild else 'is called'} {pattern!r}, asked for as {role!r}. "
                      f"{among(pattern, names, 'There are')}{hint(names)}")  # fmt: skip
    return columns
