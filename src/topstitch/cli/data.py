"""`topstitch data`."""

import dataclasses
import json
from typing import Annotated

import tyro

from . import Wrong, parse
from .roles import Flat, Roles

ABOUT = """What is in a log: episodes, returns, spaces, and what the reader had to say about it.

example: topstitch data info stays.parquet --episode stay --time step --obs state --states 716 \\
             --action action --reward reward --terminal terminal --probability probability"""


@dataclasses.dataclass(frozen=True)
class Options:
    file: Annotated[str, tyro.conf.Positional]
    "A CSV, Parquet or Arrow table, a D4RL or d3rlpy HDF5 file, an OGBench .npz, or a Minari data set."
    roles: Flat = Roles()
    json: bool = False
    "For scripts."


def main(argv: list[str]) -> None:
    if not argv or argv[0] not in ("info", "-h", "--help"):
        raise Wrong("Say what to do with the data: `topstitch data info FILE …`.")
    if argv[0] != "info":
        print("usage: topstitch data info FILE …\n\n  info    what is in a log\n\n  topstitch data info --help says more.")
        return
    options = parse(Options, argv[1:], command="data info", about=ABOUT)
    from ..data.profile import profile
    from ..data.read import read

    numbers = profile(read(options.file, **options.roles.given()))
    if options.json:
        print(json.dumps(numbers, indent=1))
    else:
        show(numbers)


def show(numbers: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    console, plain = Console(highlight=False), lambda x: f"{x:,.4g}" if isinstance(x, float) else f"{x:,}" if isinstance(x, int) else str(x)
    shown = Table(box=None, show_header=False)
    for name, value in numbers.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {plain(x)}" for key, x in value.items() if not isinstance(x, (dict, list)))
        if name != "notes" and not isinstance(value, list):
            shown.add_row(name.replace("_", " "), plain(value))
    console.print(shown)
    for note in numbers.get("notes", []):
        console.print(f"note: {note}")
