"""`topstitch advise`."""

import dataclasses
import json
import shlex
import sys
from typing import Annotated

import tyro

from . import parse, start_jax
from .roles import Flat, Json, Roles, looking, read_log

ABOUT = """What to do with a log: imitation or offline RL, which algorithms with which settings, which estimators, and the command to run next.

Every answer has its reason, the numbers behind it, and a source. Nothing is trained.

examples:
  topstitch advise icu                                       a folder made by `topstitch data import`
  topstitch advise stays.parquet --episode stay --time hour --obs 'obs_*' \\
      --action dose --reward reward --terminal died"""


@dataclasses.dataclass(frozen=True)
class Options:
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LOG", help_behavior_hint="")]
    "The log: an imported folder, a table, or any other format that topstitch reads."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "For tables: which column plays which part. Other formats know their own."


def main(argv: list[str]) -> int:
    options = parse(Options, argv, command="advise", about=ABOUT)
    start_jax()
    from ..disk import plain
    from ..study.advice import advise

    log = read_log(options.data, options.roles)
    for note in log.notes:
        print(f"note: {note}", file=sys.stderr)
    looking(log)
    said = advise(log, data=[options.data, *words(options.roles)])
    print(json.dumps(plain(said.plain()), indent=1, allow_nan=False)) if options.json else show(said)
    return 0


def words(roles: Roles) -> list[str]:
    """Roles as a command line takes them."""
    out = []
    for name, value in roles.given().items():
        out += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, (list, tuple)) else (value,))]
    return out


def show(said) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    say = lambda text, deep=0, style="": console.print(Padding(Text(text, style), (0, 0, 0, deep)))
    say(f"Imitation or offline RL? {said.answer.capitalize() if said.answer != 'offline RL' else 'Offline RL'}.", 0, "bold")
    say(said.why, 2)
    for one in said.reasons:
        if not one.decides and one.code != "else":
            say(
                f"{'+' if one.speaks_for != 'neither' else '·'} {one.says}{f' Speaks for {one.speaks_for}.' if one.speaks_for != 'neither' else ''}",
                2,
                "dim",
            )
    if said.algorithms:
        console.print()
        say("Which algorithms?", 0, "bold")
        for one in said.algorithms:
            say(f"{one.name} ({one.role}): {one.reason}.", 2)
            console.print(Text(f"      {shlex.join(one.command)}", "dim"), soft_wrap=True)
    if said.estimators:
        console.print()
        say("Which estimators can be trusted?", 0, "bold")
        for one in said.estimators:
            say(f"{', '.join(one.names)}: {one.trusted}. {one.reason}", 2)
    console.print()
    say("Next:", 0, "bold")
    console.print(f"  {shlex.join(said.next)}", soft_wrap=True, markup=False)
    sources = dict.fromkeys(one.source for one in (*said.reasons, *said.algorithms, *said.estimators))
    if sources:
        console.print()
        say("Sources: " + "; ".join(sources) + ".", 0, "dim")
