"""`topstitch data`."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

from . import Wrong, parse, verbatim
from .data_report import report
from .roles import Flat, Json, Roles, read_log, role

INFO = """What is in a log: episodes, returns, spaces, and what the reader had to say about it.

example:
  topstitch data info stays.parquet --episode stay --time hour --obs 'obs_*' \\
      --action dose --reward reward --terminal died"""

JOIN = """Several logs as one, one behind the other: mixtures of levels, collections from several machines.

example:
  topstitch data join medium.log.safetensors expert.log.safetensors -o medium-expert.log.safetensors"""

SPLIT = """Two logs of one: episodes to learn from, and episodes to judge by that no policy has seen.

example:
  topstitch data split icu --share 0.3 -o learn.log.safetensors held-out.log.safetensors
  topstitch train iql --data learn.log.safetensors -o runs/iql
  topstitch ope runs/iql --data held-out.log.safetensors"""


@dataclasses.dataclass(frozen=True)
class Info:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    "A CSV, Parquet or Arrow table, a D4RL or d3rlpy HDF5 file, an OGBench .npz, or a Minari data set."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "For tables: which column plays which part. Other formats know their own."


@dataclasses.dataclass(frozen=True)
class Join:
    files: Annotated[tuple[str, ...], tyro.conf.Positional, role("FILE…")]
    "Logs of the same spaces. Roles of columns are for the tables among them."
    out: Annotated[str, tyro.conf.arg(metavar="PATH", aliases=["-o"])]
    "A log (.log.safetensors), a table (.parquet), or else a Minari data set: a folder, or an id such as name/part-v0."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "For tables: which column plays which part. Other formats know their own."


@dataclasses.dataclass(frozen=True)
class Split:
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    "A log."
    out: Annotated[tuple[str, str], tyro.conf.arg(metavar="LEARN HELD-OUT", aliases=["-o"])]
    "Where the two go: logs (.log.safetensors), tables (.parquet), or Minari data sets."
    share: Annotated[float, tyro.conf.arg(metavar="P")] = 0.3
    "Of the episodes, to be held out."
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    "Another seed deals them otherwise."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "For tables: which column plays which part. Other formats know their own."


WHAT = {
    "import": ("FILE … -o D", "a table becomes a log: roles, words, gaps, order"),
    "info": ("FILE …", "what is in a log"),
    "check": ("FILE …", "what may be wrong with it"),
    "report": ("FILE … -o PAGE", "what it can say, as a page"),
    "join": ("FILE FILE … -o PATH", "several logs as one"),
    "split": ("FILE -o LEARN HELD-OUT", "episodes to learn from, and others to judge by"),
}


def main(argv: list[str]) -> int | None:
    if not argv or argv[0] not in (*WHAT, "-h", "--help"):
        usage = [f"`topstitch data {name} {how}`" for name, (how, _) in WHAT.items()]
        raise Wrong(f"Say what to do with the data: {', '.join(usage[:-1])}, or {usage[-1]}.")
    if argv[0] not in WHAT:
        usage = "\n       ".join(f"topstitch data {name} {how}" for name, (how, _) in WHAT.items())
        says = "\n".join(f"  {name:<8}{what}" for name, (_, what) in WHAT.items())
        print(f"usage: {usage}\n\n{says}\n\n  topstitch data import --help says more.")
        return None
    if argv[0] == "check":
        from .data_check import main as check

        return check(argv[1:])
    if argv[0] == "import":
        from .data_import import main as import_

        return import_(argv[1:])
    return {"info": info, "report": report, "join": join, "split": split}[argv[0]](argv[1:])


def info(argv: list[str]) -> None:
    options = parse(Info, argv, command="data info", about=INFO)
    from ..data.profile import profile

    numbers = profile(read_log(options.file, options.roles))
    if options.json:
        print(json.dumps(numbers, indent=1))
    else:
        show(numbers)


def join(argv: list[str]) -> None:
    options = parse(Join, argv, command="data join", about=JOIN)
    if len(options.files) < 2:
        raise Wrong("Name the logs to be joined: `topstitch data join FILE FILE … -o PATH`.")
    from ..data.episodes import Episodes
    from ..data.formats import suffix
    from ..data.formats.files import SUFFIXES
    from ..data.write import target, write
    from .collect import tell_of

    target(options.out)
    logs = [read_log(file, options.roles if suffix(Path(file)) in SUFFIXES else Roles()) for file in options.files]
    if any(log.log_prob is None for log in logs) and any(log.log_prob is not None for log in logs):
        lacks = ", ".join(file for file, log in zip(options.files, logs) if log.log_prob is None)
        print(f"note: log-probabilities are left out, since they are not known in {lacks}.", file=sys.stderr)
        logs = [dataclasses.replace(log, log_prob=None) for log in logs]
    log = Episodes.join(*logs)
    roles = write(log, options.out, about={"joined": list(options.files)})
    tell_of(log, options.out, roles, options.json)


def split(argv: list[str]) -> None:
    options = parse(Split, argv, command="data split", about=SPLIT)
    from ..data.write import target, write

    for place in options.out:
        target(place)
    parts = read_log(options.file, options.roles).split(options.share, seed=options.seed)
    told = []
    for log, place, what in zip(parts, options.out, ("learn from", "judge by")):
        roles = write(log, place, about={"split": options.file, "share": options.share, "seed": options.seed})
        told.append({"out": place, "roles": roles, "episodes": len(log), "steps": log.steps})
        if not options.json:
            print(f"{len(log):,} episodes of {log.steps:,} steps to {what} are in {place}.")
    if options.json:
        print(json.dumps(told, indent=1))


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
        "durations": numbers["durations"] and spread(numbers["durations"]) + ", of steps",
        "observations": column(numbers["obs"], spaces["obs"], "states"),
        "actions": column(numbers["action"], spaces["action"], "choices", numbers["names"]["action"]),
        "also logged": ", ".join(also),
        "fingerprint": numbers["fingerprint"],
    }
    shown, console = Table(box=None, show_header=False, pad_edge=False), Console(highlight=False)
    for name, value in rows.items():
        if value:
            shown.add_row(name, verbatim(value))
    console.print(shown)
    for note in numbers["notes"]:
        console.print(verbatim(f"note: {note}"))


def plain(x: float) -> str:
    return f"{x:,.0f}" if x == round(x) and abs(x) < 1e15 else f"{x:,.4g}"


def column(numbers: dict, space: dict, members: str, names: list[str] | None = None) -> str:
    """A column in words."""
    if "choices" in numbers:
        sizes = ", ".join(map(str, space["sizes"]))
        return f"{len(space['sizes'])} choices at once, of {sizes} members; {sum(part['unseen'] for part in numbers['choices'])} never seen"
    if space["kind"] == "Image":
        shape = " × ".join(str(space[side]) for side in ("height", "width", "channels"))
        return f"pictures of {shape}, from {plain(min(numbers['min']))} to {plain(max(numbers['max']))}"
    if "counts" not in numbers:
        return f"vectors of {space['size']}, from {plain(min(numbers['min']))} to {plain(max(numbers['max']))}"
    often = sorted(range(space["size"]), key=lambda i: -numbers["counts"][i])[:3]
    called = names if names and len(names) == space["size"] else range(space["size"])
    most = ", ".join(f"{called[i]} ({numbers['shares'][i]:.0%})" for i in often)
    unseen = f"{numbers['unseen']:,} of them never" if numbers["unseen"] else "all of them seen"
    return f"{space['size']:,} {members}, {unseen}; most often {most}"
