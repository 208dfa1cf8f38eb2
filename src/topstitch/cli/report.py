"""`topstitch report`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from . import Wrong, parse
from .roles import role

ABOUT = """One page of HTML, whole in itself, from stored results: of a study, or of plain runs.

examples:
  topstitch report study -o page.html
  topstitch report runs/iql runs/cql -o report.html"""


@dataclasses.dataclass(frozen=True)
class Options:
    places: Annotated[tuple[str, ...], tyro.conf.Positional, role("FOLDER…")]
    "The folder of a study (or its study.json), or folders of runs."
    out: Annotated[
        str | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="(default: report.html in the folder, if it is one)")
    ] = None
    "Where the page goes; what is there is replaced."


def main(argv: list[str]) -> int:
    options = parse(Options, argv, command="report", about=ABOUT)
    if not options.places:
        raise Wrong("Name the folder of a study, or folders of runs: topstitch report study -o page.html")
    from ..report.kit import write_page
    from ..report.runs_page import read_folder, runs_page
    from ..report.study_page import is_study, stored_page

    places = [Path(place) for place in options.places]
    studies = [place for place in places if is_study(place)]
    if studies and len(places) > 1:
        raise Wrong(f"{studies[0]} is a study, which has a page of its own: name it alone.")
    html = stored_page(studies[0]) if studies else runs_page([read_folder(place) for place in places])
    home = places[0] if places[0].is_dir() else places[0].parent
    out = Path(options.out) if options.out else (home if len(places) == 1 else Path()) / "report.html"
    write_page(out, html)
    print(f"{out} ({len(html.encode()) / 1000:,.0f} kB)")
    return 0
