"""`topstitch algorithms`."""

import dataclasses
import inspect
import json
import sys
from typing import Annotated, Literal

import tyro

from .. import algos
from ..core import Box, Discrete, Image, MultiDiscrete, Paper
from . import Wrong, parse
from .roles import Json, role

ABOUT = """What there is to choose from: every algorithm with its family, kinds of action and source.

example:
  topstitch algorithms --family constraint --action continuous"""

FAMILIES = sorted({algos.family(name) for name in algos.ALGORITHMS})


@dataclasses.dataclass(frozen=True)
class Options:
    family: Annotated[str | None, role("FAMILY", f"({', '.join(FAMILIES)})")] = None
    "Only this family."
    action: Annotated[Literal["discrete", "continuous", "multi"] | None, role("{discrete,continuous,multi}")] = None
    "Only those for this kind of action; multi: several choices at once."
    images: Annotated[bool, tyro.conf.arg(help="Only those for pictures.", help_behavior_hint="")] = False
    json: Json = False


def table() -> list[dict]:
    rows, words = [], {"discrete": Discrete, "continuous": Box, "multi": MultiDiscrete}
    for name, place in algos.ALGORITHMS.items():
        kind = algos.find(name)
        actions = [word for word, space in words.items() if space in kind.actions]
        text = inspect.getsource(sys.modules[kind.__module__])
        rows.append({
            "name": name, "class": kind.__name__, "family": algos.family(name), "actions": actions, "images": Image in kind.observations,
            "paper": kind.paper._asdict(), "file": "topstitch/algos/" + place.split(":")[0].replace(".", "/") + ".py", "lines": text.count("\n"),
            "passes": list(kind.passes), "fails": list(kind.fails),
        })  # fmt: skip
    return rows


def main(argv: list[str]) -> None:
    options = parse(Options, argv, command="algorithms", about=ABOUT)
    fits = lambda row: options.family in (None, row["family"]) and (options.action is None or options.action in row["actions"])
    rows = [row for row in table() if fits(row) and (row["images"] or not options.images)]
    if not rows:
        kind = f"{options.action or 'any'} actions{' and pictures' if options.images else ''}"
        raise Wrong(f"There is no algorithm for {kind} in the family {options.family!r}. Families: {', '.join(FAMILIES)}.")
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table("name", "family", "actions", "source, arXiv", box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    for row in rows:
        shown.add_row(
            row["name"], row["family"], {2: "both", 3: "any"}.get(len(row["actions"]), row["actions"][0]), source(Paper(**row["paper"]))
        )
    Console(highlight=False).print(shown)


def source(paper: Paper) -> str:
    """Authors and where to look: Kumar et al. 2006.04779 (a number of arXiv's, which begins with the year), or Riedmiller 2005, ECML."""
    names = [name.split()[-1] for name in paper.authors.split(" and ")]
    who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"{who} {paper.url.split('/')[-1]}" if "arxiv.org" in paper.url else f"{who} {paper.year}, {paper.where}"
