"""`topstitch data`."""

import dataclasses
import json
from typing import Annotated

import tyro

from . import Wrong, parse
from .roles import Flat, Json, Roles, read_log

ABOUT = """What is in a log: episodes, returns, spaces, and what the reader had to say about it.

example:
  topstitch data info stays.parquet --episode stay --time hour --obs 'obs_*' \\
      --action dose --reward reward --terminal died"""


@dataclasses.dataclass(frozen=True)
class Options:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    "A CSV, Parquet or Arrow table, a D4RL or d3rlpy HDF5 file, an OGBench .npz, or a Minari data set."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen


def main(argv: list[str]) -> None:
    if not argv or argv[0] not in ("info", "-h", "--help"):
        raise Wrong("Say what to do with the data: `topstitch data info FILE …`.")
    if argv[0] != "info":
        print("usage: topstitch data info FILE …\n\n  info    what is in a log\n\n  topstitch data info --help says more.")
        return
    options = parse(Options, argv[1:], command="data info", about=ABOUT)
    from ..data.profile import profile

    numbers = profile(read_log(options.file, options.roles))
    if options.json:
        print(json.dumps(numbers, indent=1))
    else:
        show(numbers)


def show(numbers: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    spread = lambda x: f"{plain(x['min'])} to {plain(x['max'])}, mean {plain(x['mean'])}, median {plain(x['median'])}"
    lengths, ends, spaces = numbers["lengths"], numbers["ends"], numbers["spaces"]
    also = [name for name in ("time", "probabilities", "masks") if numbers[name]] + numbers["info"]
    rows = {
        "source": numbers["source"],
        "episodes": f"{numbers['episodes']:,}: {ends['terminal']:,} ended, {ends['truncated']:,} were cut short",
        "steps": f"{numbers['steps']:,}: {lengths['min']:,} to {lengths['max']:,} an episode, median {plain(lengths['median'])}",
        "returns": spread(numbers["returns"]),
        "rewards": spread(numbers["rewards"]),
        "observations": column(numbers["obs"], spaces["obs"], "states"),
        "actions": column(numbers["action"], spaces["action"], "choices"),
        "also logged": ", ".join(also),
        "fingerprint": numbers["fingerprint"],
    }
    shown, console = Table(box=None, show_header=False, pad_edge=False), Console(highlight=False)
    for name, value in rows.items():
        if value:
            shown.add_row(name, value)
    console.print(shown)
    for note in numbers["notes"]:
        console.print(f"note: {note}", markup=False)


def plain(x: float) -> str:
    return f"{x:,.0f}" if x == round(x) and abs(x) < 1e15 else f"{x:,.4g}"


def column(numbers: dict, space: dict, members: str) -> str:
    """A column in words."""
    if "counts" not in numbers:
        return f"vectors of {space['size']}, from {plain(min(numbers['min']))} to {plain(max(numbers['max']))}"
    often = sorted(range(space["size"]), key=lambda i: -numbers["counts"][i])[:3]
    most = ", ".join(f"{i} ({numbers['shares'][i]:.0%})" for i in often)
    unseen = f"{numbers['unseen']:,} of them never" if numbers["unseen"] else "all of them seen"
    return f"{space['size']:,} {members}, {unseen}; most often {most}"
