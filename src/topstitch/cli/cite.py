"""`topstitch cite`."""

import dataclasses
from typing import Annotated

import tyro

from .. import algos
from ..runs import read_config
from . import parse

ABOUT = """BibTeX of the methods that runs used.

example: topstitch cite runs/iql >> paper.bib"""


@dataclasses.dataclass(frozen=True)
class Options:
    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    "Folders of runs, or names of algorithms."


def main(argv: list[str]) -> None:
    options = parse(Options, argv, command="cite", about=ABOUT)
    named = [name for run in options.runs for name in ([run] if run in algos.ALGORITHMS else [r["algorithm"] for r in read_config(run)["runs"]])]
    for entry in dict.fromkeys(algos.find(name).paper.bibtex() for name in named):
        print(entry, end="\n\n")
