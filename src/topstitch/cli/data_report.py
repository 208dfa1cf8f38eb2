"""`topstitch data report`."""

import dataclasses
import json
import shlex
import sys
from typing import Annotated

import tyro

from . import parse, start_jax
from .roles import Flat, Json, Roles, read_log, role

ABOUT = """What a log can and cannot say, as one HTML page that needs no network.

Episodes and returns, every column, which actions were tried where, how well practice can be predicted, how far from it
another policy can be judged, and how much could be gained by putting good parts together. Every number is explained in
docs/data-report.md.

examples:
  topstitch data report icu -o data.html
  topstitch data report stays.parquet --episode stay --time hour --obs 'obs_*' \\
      --action dose --reward reward --terminal died"""


@dataclasses.dataclass(frozen=True)
class Options:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    "A log of any kind that `topstitch data info` reads, or the folder of an imported one."
    out: Annotated[str, tyro.conf.arg(metavar="FILE", aliases=["-o"])] = "data.html"
    "The page."
    discount: Annotated[float, tyro.conf.arg(metavar="γ")] = 1.0
    "Of rewards, per unit of time."
    references: Annotated[tuple[float, float] | None, role("RANDOM EXPERT")] = None
    "Returns of a random and of an expert policy, if they are known: then trajectory quality is measured by them too."
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "For tables: which column plays which part. Other formats know their own."


def report(argv: list[str]) -> None:
    options = parse(Options, argv, command="data report", about=ABOUT)
    start_jax()
    from rich.console import Console

    from ..report.conclusions import answer, conclusions
    from ..report.data_page import ANSWERS, data_page
    from ..report.kit import write_page
    from ..study.describe import describe

    log = read_log(options.file, options.roles)
    numbers = describe(log, seed=options.seed, discount=options.discount, references=options.references)
    write_page(options.out, data_page(numbers, command=f"topstitch data report {shlex.join(argv)}"))
    if options.json:
        said = [{"code": each.code, "allowed": each.allowed, "text": each.text, "numbers": each.numbers} for each in conclusions(numbers)]
        print(json.dumps(numbers | {"conclusions": said}, indent=1, allow_nan=False))
        return
    say = Console(highlight=False, soft_wrap=True, markup=False).print
    say(f"{log.source}: {ANSWERS[answer(numbers).code]}")
    for each in conclusions(numbers):
        say(f"  {'+' if each.allowed else '-'} {each.text}")
    print(f"{options.out} is written.", file=sys.stderr)
