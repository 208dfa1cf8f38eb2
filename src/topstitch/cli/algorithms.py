"""`topstitch algorithms`."""

import dataclasses
import inspect
import json
from typing import Literal

from .. import algos
from ..core import Box, Discrete
from . import Wrong, parse

ABOUT = """What there is to choose from: every algorithm with its family, kinds of action and source.

example: topstitch algorithms --family constraint"""


@dataclasses.dataclass(frozen=True)
class Options:
    family: str | None = None
    "Only this family: " + ", ".join(sorted({algos.family(name) for name in algos.ALGORITHMS})) + "."
    action: Literal["discrete", "continuous"] | None = None
    "Only those for this kind of action."
    json: bool = False
    "For scripts."


def table() -> list[dict]:
    rows = []
    for name, place in algos.ALGORITHMS.items():
        kind = algos.find(name)
        actions = [word for word, space in (("discrete", Discrete), ("continuous", Box)) if space in kind.actions]
        source = f"{inspect.getsource(inspect.getmodule(kind))}"
        rows.append({
            "name": name, "class": kind.__name__, "family": algos.family(name), "actions": actions, "paper": kind.paper._asdict(),
            "file": "topstitch/algos/" + place.split(":")[0].replace(".", "/") + ".py", "lines": source.count("\n"),
            "passes": list(kind.passes), "fails": list(kind.fails),
        })  # fmt: skip
    return rows


def main(argv: list[str]) -> None:
    options = parse(Options, argv, command="algorithms", about=ABOUT)
    rows = [row for row in table() if options.family in (None, row["family"]) and (options.action is None or options.action in row["actions"])]
    if not rows:
        raise Wrong(f"There is no such algorithm. Families: {', '.join(sorted({row['family'] for row in table()}))}.")
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table("name", "family", "actions", "paper", "file", box=None, header_style="bold")
    for row in rows:
        paper = row["paper"]
        who = paper["authors"].split(" and ")[0].split()[-1] + (" et al." if " and " in paper["authors"] else "")
        shown.add_row(row["name"], row["family"], ", ".join(row["actions"]), f"{who} {paper['year']}, {paper['url']}", row["file"])
    Console().print(shown)
