"""`topstitch data check`."""

import dataclasses
import json
import sys
from typing import Annotated

import tyro

from . import parse
from .roles import Flat, Json, Roles, looking, read_log

ABOUT = """What may be wrong with a log: copies, columns that know too much, odd values, ends, times, rewards, decisions, probabilities.

Exit code: 0 where there is nothing above a note, 1 with warnings or cautions, 2 where a finding is critical or the log cannot be read.

example:
  topstitch data check stays.parquet --episode stay --time hour --obs 'obs_*' \\
      --action dose --reward reward --terminal died"""

MARKS = {"critical": "■", "caution": "▲", "warning": "△", "note": "•"}
CODES = {"critical": 2, "caution": 1, "warning": 1, "note": 0, None: 0}


@dataclasses.dataclass(frozen=True)
class Options:
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LOG", help_behavior_hint="")]
    "The log: an imported folder, a table, or any other format that topstitch reads."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "For tables: which column plays which part. Other formats know their own."


def main(argv: list[str]) -> int:
    options = parse(Options, argv, command="data check", about=ABOUT)
    from ..data.check import check
    from ..data.episodes import BadData

    try:
        log = read_log(options.data, options.roles)
    except BadData as error:
        print(f"topstitch data check: {error}", file=sys.stderr)
        return 2
    looking(log)
    found = check(log)
    if options.json:
        print(json.dumps(found.plain(), indent=1, allow_nan=False))
    else:
        show(found, log)
    return CODES[found.worst]


def show(found, log) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    say = lambda text, deep, style="": console.print(Padding(Text(text, style), (0, 0, 0, deep)))
    counts = ", ".join(f"{n} {severity}" for severity, n in found.counts.items())
    say(f"{len(log):,} episodes, {log.steps:,} steps: {counts}", 0, "bold")
    for one in found:
        console.print()
        say(f"{MARKS[one.severity]} {one.title} ({one.severity}, {one.code})", 0, "bold")
        say(one.what, 2)
        if one.count:
            say(f"{one.count:,} row{'s' * (one.count != 1)}: {'; '.join(one.where[:3])}{' …' if one.count > 3 else ''}", 2, "dim")
        say(f"→ {one.remedy}", 2)
    console.print()
    say(f"{len(found.passed)} other checks found nothing; {len(found.unasked)} do not apply here. --json lists them.", 0)
