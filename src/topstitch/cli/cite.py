"""`topstitch cite`."""

import dataclasses
from typing import Annotated

import tyro

from .. import algos
from ..runs import read_config
from . import Wrong, parse
from .roles import role

ABOUT = """BibTeX of the methods that runs used.

example:
  topstitch cite runs/iql >> paper.bib"""


@dataclasses.dataclass(frozen=True)
class Options:
    runs: Annotated[tuple[str, ...], tyro.conf.Positional, role("RUNS…")]
    "Folders of runs, or names of algorithms."


def main(argv: list[str]) -> None:
    options = parse(Options, argv, command="cite", about=ABOUT)
    if not options.runs:
        raise Wrong("Name a folder of runs or an algorithm: topstitch cite runs/iql")
    used = lambda place: [place] if place in algos.ALGORITHMS else [run["algorithm"] for run in read_config(place)["runs"]]
    named = [name for place in options.runs for name in used(place)]
    for entry in dict.fromkeys(algos.find(name).paper.bibtex() for name in named):
        print(entry, end="\n\n")
