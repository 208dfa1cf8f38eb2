"""`topstitch run`."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .. import algos
from . import Wrong, parse, start_jax
from .roles import Flat, Json, Roles, read_log, role

ABOUT = """May a learned policy take the place of current practice? A study of a log, and one word: deploy, trial, do not, or cannot tell.

Episodes are dealt out: by some policies are learned, by others one is chosen, by the rest it is judged, beside a copy of practice
that must gain nothing. The same command goes on with a study that was stopped. Exit code 0: it came to a word; 3: a critical
finding ended it.

examples:
  topstitch run icu -o study                                 a folder made by `topstitch data import`
  topstitch run stays.parquet --episode stay --time hour --obs 'obs_*' --action dose \\
      --reward reward --terminal died --probability p --return-range 0 1 -o study
  topstitch run clicks.csv … --panel iql,discrete_bcq --seeds 4 --steps 20000 -o study"""


@dataclasses.dataclass(frozen=True)
class Options:
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LOG", help_behavior_hint="")]
    "The log: an imported folder, a table, or any other format that topstitch reads."
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER", aliases=["-o"])] = "study"
    "Where the study goes: study.json, report.html, the chosen policy, and all that was trained."
    panel: Annotated[str | None, tyro.conf.arg(metavar="NAME,…", help_behavior_hint="(default: as advised)")] = None
    "Algorithms to train, beside imitation and a safe default."
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 4
    "Seeds of each."
    steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: 10000)")] = None
    "Updates of each run."
    discount: Annotated[float, tyro.conf.arg(metavar="γ")] = 1.0
    "Of rewards, per unit of time: of what the policy is judged by."
    margin: Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="(default: docs/verdict.md)")] = None
    "The smallest gain or loss of return that matters."
    return_range: Annotated[tuple[float, float] | None, role("LOW HIGH")] = None
    "The least and the most that an episode can earn, as known beforehand: with recorded probabilities, the gain then has a guaranteed lower end."
    behaviour: Annotated[Literal["column", "fit"] | None, role("column|fit")] = None
    "The logger's probabilities: the log's column (the default where there is one), or estimated."
    shares: Annotated[tuple[float, float, float] | None, role("TRAIN SELECT JUDGE")] = None
    "Shares of the episodes. Default: 0.5 0.2 0.3, of fewer than 2,000 episodes 0.4 0.2 0.4."
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    "Of the deal."
    accept: Annotated[str | None, role("CODE,…")] = None
    "Cautions of the checks that you have looked at, by their codes: they hold the verdict at a trial no longer, and the page names them."
    accepted_by: Annotated[str | None, role("NAME")] = None
    "Who has looked at them."
    title: Annotated[str | None, role("TEXT")] = None
    "Of the page."
    words: Annotated[str | None, role("A,B,C,D,E")] = None
    "What things are called: episode, episodes, step, steps, value. For example: stay,stays,decision,decisions,survival."
    unit: Annotated[str | None, role("TEXT")] = None
    "What one unit of return is called: €, kWh."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "For tables: which column plays which part."


def main(argv: list[str]) -> int:
    options = parse(Options, argv, command="run", about=ABOUT)
    if options.accepted_by is not None and options.accept is None:
        raise Wrong(f"--accepted-by {options.accepted_by!r} accepts nothing. Say what: --accept CODE,…")
    start_jax()
    from ..study.accepted import Accepted
    from ..study.panel import Asked, usual
    from ..study.plan import Plan
    from ..study.run import study

    plan = Plan(shares=options.shares, discount=options.discount, margin=options.margin, return_range=options.return_range,
                behaviour=options.behaviour, seed=options.seed, title=options.title, unit=options.unit, words=called(options.words))  # fmt: skip
    log = read_log(options.data, options.roles)
    for note in log.notes:
        print(f"note: {note}", file=sys.stderr)
    panel = None
    if options.panel is not None:
        try:
            asked = {name: Asked(why="asked for") for name in options.panel.split(",") if algos.find(name)}
        except ValueError as error:
            raise Wrong(str(error)) from None
        panel = usual(log, seeds=options.seeds, updates=options.steps, discount=plan.discount, asked=asked)
    accepted = Accepted(tuple(code.strip() for code in (options.accept or "").split(",") if code.strip()), options.accepted_by)
    told = study(log, options.out, plan=plan, panel=panel, seeds=options.seeds, updates=options.steps, accepted=accepted, progress=True,
                 command=shlex.join(["topstitch", "run", *argv]))  # fmt: skip
    page = written(told, Path(options.out))
    print(json.dumps(told, indent=1)) if options.json else show(told, page)
    return 3 if told["checks"]["stopped"] else 0


def called(text: str | None):
    """The words of a log."""
    from ..study.plan import Words

    if text is None:
        return Words()
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 5 or not all(parts):
        raise Wrong(f"--words {text!r} was not understood. Give five: --words stay,stays,decision,decisions,survival")
    return Words(*parts)


def written(told: dict, out: Path) -> Path:
    """The page of a study."""
    from ..report.kit import write_page
    from ..report.study_page import study_page

    write_page(out / "report.html", study_page(told))
    return out / "report.html"


def show(told: dict, page: Path) -> None:
    """The verdict, why, and where the page is."""
    from rich.console import Console

    console = Console(highlight=False)
    verdict = told["verdict"]
    console.print(f"\n[bold]{verdict['word'].capitalize()}.[/]", end=" ")
    console.print(verdict["sentence"], markup=False)
    for link in told["chain"]:
        console.print(
            f"  {MARKS[link['state']]} {link['name']:<10} {link['number']}" + (f", {link['detail']}" if link["detail"] else ""),
            markup=False,
        )
    for reason in verdict["reasons"][1:]:
        console.print(f"· {reason['text']}", markup=False)
    console.print(f"The page is {page}.", soft_wrap=True, markup=False)


MARKS = {"ok": "○", "note": "·", "warn": "△", "caps": "▲", "critical": "■"}
"How a link held, as on the page."
