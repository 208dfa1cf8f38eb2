"""`topstitch data import`."""

import contextlib
import dataclasses
import itertools
import json
import math
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from . import Wrong, parse, verbatim
from .roles import Column, Columns, Json, Number, Numbers, role

ABOUT = """A table with one row per decision becomes a log that every other command takes: --data D.

Rows may come in any order, from many files, and need not fit into memory. Words become numbers and back; empty cells
need a rule; nothing is filled, dropped or sorted without being counted and said. D holds the log, roles.toml (the roles
and rules, to be edited and given back with --roles) and import.json (the account of every row). See docs/import.md.

examples:
  topstitch data import stays.csv --guess -o icu
  topstitch data import stays/*.parquet --episode stay --time charttime --unit 1h \\
      --obs age sex 'lab_*' --missing 'lab_*=forward-fill' --action dose --bins dose=5 \\
      --reward '100 * survived - cost' --terminal died -o icu
  topstitch data import icu.db --query 'SELECT * FROM stays' --roles roles.toml -o icu"""

FORMULAS = ("reward", "terminal", "truncated", "probability", "log_probability", "duration")
COLUMN_OR_FORMULA = role("COLUMN|FORMULA")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are read."""

    query: Annotated[str | None, role("SQL")] = None
    "One SELECT: of FILE if it is a SQLite or DuckDB database, else of DuckDB over files that the query names. Read only."
    separator: Annotated[str | None, role("SIGN", "(default: comma, tab for .tsv)")] = None
    "Between the cells of CSV files."
    decimal: Annotated[str | None, role("SIGN", "(default: .)")] = None
    "Before the decimals of numbers in text."
    encoding: Annotated[str | None, role("NAME", "(default: utf-8)")] = None
    "Of text files, such as latin-1 or utf-16."
    na: Annotated[tuple[str, ...], role("WORD…")] = ()
    "Words that stand for an empty cell, besides nothing, NaN and null."
    time_format: Annotated[str | None, role("FORMAT", "(default: ISO 8601)")] = None
    "How dates are written, such as '%d.%m.%Y %H:%M'."
    memory: Annotated[str, tyro.conf.arg(metavar="SIZE")] = "512MB"
    "What batches of rows may take, besides the program itself."


@dataclasses.dataclass(frozen=True)
class Played:
    """Which column plays which part."""

    episode: Columns = ()
    "Columns that name the episode (a stay, a session) together; 'file': every file is one; 'row': every row is one."
    time: Column = None
    "Numbers or dates by which the rows of an episode are put in order."
    obs: Columns = ()
    "What was known when deciding; a wildcard such as 'obs_*' stands for many."
    action: Columns = ()
    "The decision: words or whole numbers are a choice, numbers with decimals a vector; several columns are made at once."
    reward: Annotated[str | None, COLUMN_OR_FORMULA] = None
    "What the decision earned, such as '100 * survived - 0.1 * cost'."
    reward_at: Annotated[Literal["same", "next"] | None, role("{same,next}", "(default: same)")] = None
    "Where the reward of a decision stands: in its own row, or in the next one, so that a last row only shows what came of it."
    terminal: Annotated[str | None, COLUMN_OR_FORMULA] = None
    "True where the episode truly ended, such as 'status == \"died\"'; or 'always' or 'never' for all last rows."
    truncated: Annotated[str | None, COLUMN_OR_FORMULA] = None
    "True where only the log ended."
    probability: Annotated[str | None, COLUMN_OR_FORMULA] = None
    "The probability (of vectors: density) with which the logger took the decision."
    log_probability: Annotated[str | None, COLUMN_OR_FORMULA] = None
    "Its natural logarithm, instead."
    mask: Columns = ()
    "One true/false column for each choice, true where it was allowed."
    duration: Annotated[str | None, COLUMN_OR_FORMULA] = None
    "How many units of time the step took; or --unit."
    unit: Annotated[str | None, role("1h|15min|1d|N")] = None
    "The unit of time that discounts count in: steps last as long as their times say."
    logger: Column = None
    "Who decided, where several did: kept for the evaluation. 'file': every file has its own."
    info: Columns = ()
    "Further columns to take along."


@dataclasses.dataclass(frozen=True)
class Coded:
    """How columns become numbers. Without these: numbers as they are, words as one dimension each."""

    one_hot: Annotated[tuple[str, ...], role("COLUMN[=A,B,…]")] = ()
    "Numbers that stand for categories; or the categories themselves."
    order: Annotated[tuple[str, ...], role("COLUMN=A,B,…")] = ()
    "Categories in their order, as one number; of the action, the order of its members."
    other: Annotated[tuple[str, ...], role("COLUMN=K")] = ()
    "Keep the K commonest categories, and one dimension for rare and new ones."
    bins: Annotated[tuple[str, ...], role("N|COLUMN=N|COLUMN=A,B,…")] = ()
    "Cut numbers of the action into N parts of equally many rows, or at edges."
    joint: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Several columns of the action are one choice: of all combinations that were seen."
    states: Number = None
    "The observation is the number of a state, from 0, and there are so many states."
    actions: Annotated[tuple[int, ...], role("N…")] = ()
    "How many choices there are, 0 … N-1, if not those that were seen."
    low: Numbers = ()
    "Lower bounds of a vector of decisions."
    high: Numbers = ()
    "Upper bounds of the same."


@dataclasses.dataclass(frozen=True)
class Settled:
    """What is done with gaps and repetitions. Without these: they are refused, and the message counts them."""

    missing: Annotated[tuple[str, ...], role("RULE|COLUMN=RULE")] = ()
    "Empty cells: forward-fill, indicator, drop-episode, fill:VALUE, refuse; for all columns, or by column or wildcard."
    repeated: Annotated[Literal["refuse", "same", "first", "last"] | None, role("{same,first,last}")] = None
    "Rows of one episode and time: drop those that are the same, keep the first, or the last."


part = lambda title: (tyro.conf.OmitArgPrefixes, tyro.conf.arg(name=title))


@dataclasses.dataclass(frozen=True)
class Options:
    files: Annotated[tuple[str, ...], tyro.conf.Positional, role("FILE…")] = ()
    "Tables (.csv .tsv, also .gz; .parquet; .arrow .feather), folders of them, patterns, or one database with --query."
    out: Annotated[
        str | None, tyro.conf.arg(metavar="D", aliases=["-o"], help_behavior_hint="(required, but for looking with --guess)")
    ] = None
    "The new folder."
    roles: Annotated[str | None, role("FILE")] = None
    "A roles.toml of an earlier import; options override it."
    guess: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Guess the roles that are not given, show them with reasons, and ask."
    yes: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Do not ask: the guesses, which are still shown, are right."
    json: Json = False
    played: Annotated[Played, *part("role")] = Played()
    coded: Annotated[Coded, *part("encoding")] = Coded()
    settled: Annotated[Settled, *part("rule")] = Settled()
    reading: Annotated[Reading, *part("reading")] = Reading()


def main(argv: list[str]) -> int:
    options = parse(Options, joined(argv), command="data import", about=ABOUT)
    if not options.files and options.reading.query is None:
        raise Wrong("Name the tables: topstitch data import stays.csv --guess -o D.")
    if options.out is None and not options.guess:
        raise Wrong("Say where the log goes: -o D, a new folder.")
    memory, said = size(options.reading.memory), rules(options)
    from ..data.intake import rules_of, run

    given, source = rules_of(options.roles, said), list(options.files)
    why = None
    if options.guess:
        found = guessed(source, given, options.reading.query, memory)
        given, why = found.rules, found.why
        show_guess(found)
        if options.out is None:
            return 0
        confirmed(options.yes)
    with progress() as tell:
        account = run(source, given, options.out, query=options.reading.query, memory=memory, tell=tell, why=why)
    print(json.dumps(account | {"out": options.out}, indent=1)) if options.json else show(account, options.out)
    return 0


def joined(argv: list[str]) -> list[str]:
    """`--reward -cost` as `--reward=-cost`: a formula may begin with a minus, which would be taken for the next option."""
    out: list[str] = []
    for word in argv:
        minus = word.startswith("-") and not word.startswith("--") and word not in ("-o", "-h")
        if minus and out and out[-1].removeprefix("--").replace("-", "_") in FORMULAS:
            out[-1] += f"={word}"
        else:
            out.append(word)
    return out


def rules(options: Options) -> dict[str, Any]:
    """The options as `Rules` takes them: what was not given is left out."""
    played = {name: value for name, value in vars(options.played).items() if value not in (None, ())}
    reading = {name: getattr(options.reading, name) for name in ("separator", "decimal", "encoding", "na", "time_format")}
    coded = options.coded
    tables: dict[str, Any] = {
        "one_hot": {column: listed(value) if value is not None else [] for column, value in map(pair, coded.one_hot)},
        "order": {column: listed(needed(value, "order", column)) for column, value in map(pair, coded.order)},
        "other": {column: counted(needed(value, "other", column), "other") for column, value in map(pair, coded.other)},
        "bins": {"*" if value is None else column: edges(column if value is None else value) for column, value in map(pair, coded.bins)},
        "missing": {"*" if value is None else column: value or column for column, value in map(pair, options.settled.missing)},
    }
    single = {name: getattr(coded, name) for name in ("joint", "states", "actions", "low", "high")} | {"repeated": options.settled.repeated}
    said = played | reading | tables | single
    return {name: value for name, value in said.items() if value is not None and value is not False and value not in ((), {})}


def pair(text: str) -> tuple[str, str | None]:
    """COLUMN=VALUE, split at the first sign of equality."""
    column, sign, value = text.partition("=")
    return column, value if sign else None


def needed(value: str | None, option: str, column: str) -> str:
    if value is None:
        raise Wrong(f"--{option} {column}: expected {column}=…, as `topstitch data import --help` shows.")
    return value


def listed(value: str) -> list[str]:
    return [piece.strip() for piece in value.split(",")]


def counted(value: str, option: str) -> int:
    if not value.isdecimal():
        raise Wrong(f"--{option}: {value!r} is no whole number.")
    return int(value)


def edges(value: str) -> int | list[float]:
    if value.isdecimal():
        return int(value)
    try:
        return [float(piece) for piece in listed(value)]
    except ValueError:
        raise Wrong(f"--bins: {value!r} is neither a number of bins nor a list of edges such as 0,1,5.") from None


def size(text: str) -> int:
    """Bytes: 512MB, 2GB, 1.5G."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])(?:i?B)?", text.strip(), re.I)
    least = 1 << 20
    if found is None or (number := float(found[1]) * 1024 ** ("KMGT".index(found[2].upper()) + 1)) < least or not math.isfinite(number):
        raise Wrong(f"--memory {text}: expected a size from 1MB on, such as 512MB or 2GB.")
    return int(number)


def guessed(source: list[str], given, query: str | None, memory: int):
    import tempfile

    from ..data.intake.guess import guess
    from ..data.intake.sources import parts, within

    with tempfile.TemporaryDirectory(prefix="topstitch-") as folder:
        opened = lambda sign: parts(source, query=query, separator=sign, encoding=given.encoding, memory=memory, scratch=Path(folder))
        found, why = opened(given.separator), {}
        if given.separator is None and found[0].kind == "CSV" and (sign := within(found[0].names)):
            found, given = opened(sign), dataclasses.replace(given, separator=sign)
            why["separator"] = "without it, the header would be a single name"
        done = guess(found, given)
        return dataclasses.replace(done, why=done.why | why)


def show_guess(found) -> None:
    """What was guessed and why, and what was left out and why; on standard error, where questions are asked."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stderr, highlight=False)
    table = Table("role", "column", "why", box=None, header_style="bold", pad_edge=False)
    for name in ("episode", "time", "obs", "action", "reward", "terminal", "truncated", "probability", "log_probability", "mask", "logger"):
        value = getattr(found.rules, name)
        if value:
            told = value if isinstance(value, str) else ", ".join(value[:6]) + (f" and {len(value) - 6} more" if len(value) > 6 else "")
            table.add_row(name, verbatim(told), verbatim(found.why.get(name, "as you said")))
    for name in ("separator", "decimal"):
        if name in found.why:
            table.add_row(name, verbatim(repr(getattr(found.rules, name))), verbatim(found.why[name]))
    console.print(f"Guessed from {found.rows:,} rows:", table, sep="\n")
    if found.left:
        left = Table("left out", "why", box=None, header_style="bold", pad_edge=False)
        for why in dict.fromkeys(found.left.values()):
            names = [name for name in found.left if found.left[name] == why]
            left.add_row(verbatim(", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")), verbatim(why))
        console.print("", left, sep="\n")
    lacking = [name for name in ("obs", "action", "reward", "terminal") if not getattr(found.rules, name)]
    if lacking:
        raise Wrong(f"These roles cannot be guessed: {', '.join(f'--{name}' for name in lacking)}. Say which columns they are"
                    f"{'; --terminal may be always or never' if 'terminal' in lacking else ''}.")  # fmt: skip


def confirmed(yes: bool) -> None:
    if yes:
        return
    if not asking():
        raise Wrong("Guessed roles have to be confirmed: look at them, then add --yes, or name the roles.")
    print("\nImport with these roles? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Wrong("Nothing was imported. Give the roles that were guessed wrongly as options, and the others with --guess.")


def asking() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextlib.contextmanager
def progress(patience: float = 2.0):
    """What is being done, where that takes longer than a moment: a bar on a terminal, a line now and then in a pipe."""
    from .bench import Told

    begun = time.monotonic()
    with contextlib.closing(Told()) as told:
        yield lambda what, done, total: told(what, done, total) if time.monotonic() - begun > patience else None


def show(account: dict[str, Any], out: str | None) -> None:
    """What was made of which column, what became of the rows, and what to do next."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("column", "role", "as", box=None, header_style="bold", pad_edge=False)
    for same in alike(account["columns"]):
        many = len(same) > MANY
        names = f"{same[0]['column']} … {same[-1]['column']} ({len(same)} columns)" if many else same[0]["column"]
        spans = [one for one in same if one.get("low") is not None]
        first = same[0] | ({"low": min(one["low"] for one in spans), "high": max(one["high"] for one in spans)} if spans else {})
        first["empty"] = sum(one.get("empty", 0) for one in same)
        table.add_row(verbatim(names), same[0]["role"], verbatim(described(first)))
    rows, episodes = account["rows"], account["episodes"]
    console.print(table)
    lost = "".join(f" + {count:,} dropped ({rule})" for rule, count in rows["dropped"].items())
    console.print(f"\n{episodes['kept']:,} episodes; {rows['read']:,} rows = {rows['kept']:,} steps{lost}", markup=False)
    for note in account["notes"]:
        console.print(verbatim(f"· {note}"))
    console.print(f"Written to {out}. Next: topstitch data check {shlex.quote(str(out))}", markup=False)


MANY = 4
"Columns of one kind, one behind the other, that are shown as one row if they are more."


def alike(columns: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Columns in runs of the same role, kind and rule, if they are many; else each by itself."""
    kind = lambda one: (one["role"], one.get("kind"), one.get("missing")) if one.get("kind") in (None, "number", "flag") else one["column"]
    runs = [list(run) for _, run in itertools.groupby(columns, kind)]
    return [piece for run in runs for piece in ([run] if len(run) > MANY else [[one] for one in run])]


def described(one: dict[str, Any]) -> str:
    """How a column was encoded, in words."""
    short = lambda name: name if len(name) <= 16 else f"{name[:14]}…"
    some = lambda names: ", ".join(map(short, names[:6])) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    span = f", {one['low']:g} to {one['high']:g}" if one.get("low") is not None else ""
    names = [name.removeprefix(f"{one['column']}=") for name in one.get("dimensions", [])]
    kinds = {
        "number": f"number{span}", "flag": "0 or 1", "one-hot": f"{len(names)} dimensions: {some(names)}", "ordinal": "one number, in the order given",
        "state": "".join(names), "choice": f"choice of {some(one.get('members', []))}", "bins": f"{len(one.get('members', []))} bins: {some(one.get('members', []))}",
    }  # fmt: skip
    holds = {"whole": f"whole numbers{span}", "number": f"numbers{span}", "flag": "true or false", "date": "dates", "text": "words"}
    words = {"row": "every row is one", "file": "every file is one", "always": "every last row", "never": "no row"}
    told = kinds.get(one.get("kind", "")) or (
        "formula" if one.get("formula") else holds.get(one.get("holds", "")) or words.get(one["column"], "")
    )
    return f"{told}; {one['empty']:,} empty: {one.get('missing', 'no rule')}" if one.get("empty") and one["role"] == "obs" else told
