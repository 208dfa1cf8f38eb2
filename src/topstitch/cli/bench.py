"""`topstitch bench`."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from . import Wrong, parse, start_jax
from .roles import Json, role

ABOUT = """Train algorithms on named tasks, with published settings, and see how they compare.

Every cell is a folder: the same command goes on where it was, and runs only what is missing.

examples:
  topstitch bench --list
  topstitch bench icu-sepsis
  topstitch bench hopper-medium-expert halfcheetah-medium --algorithms td3bc,iql,cql --seeds 4 \\
      --sources DIR -o bench       DIR holds policies/, d3rlpy_h5/, minari/ as far as needed
  topstitch bench d4rl:hopper-medium-v2 --algorithms iql    the original, its numbers beside
  topstitch bench hopper-medium@20000 hopper-medium@200000  one task with logs of two sizes"""


@dataclasses.dataclass(frozen=True)
class Options:
    tasks: Annotated[tuple[str, ...], tyro.conf.Positional, role("TASK…")] = ()
    "Names from --list, d4rl:ID or minari:ID for originals; NAME@STEPS for a log of that many steps."
    algorithms: Annotated[str | None, role("A,B,…", "(default: all that fit)")] = None
    "Which algorithms."
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 3
    "How many seeds, 0, 1, …, all in one program."
    steps: Annotated[int | None, role("N", "(default: the task's)")] = None
    "Updates of each run."
    size: Annotated[str | None, role("STEPS|full", "(default: the task's)")] = None
    "Steps of the logs, or the authors' number."
    every: Annotated[int | None, role("N", "(default: a twentieth of the updates)")] = None
    "Updates between evaluations."
    episodes: Annotated[int | None, role("N", "(default: the task's)")] = None
    "Episodes per evaluation and seed."
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER", aliases=["-o"])] = "bench"
    "Where runs, results and pictures go."
    sources: Annotated[str | None, role("FOLDER", "(default: TOPSTITCH_SOURCES)")] = None
    "Where your files lie: policies/, d3rlpy_h5/, minari/, d4rl/."
    engine: Literal["local", "ray"] = "local"
    "One cell after another here, or spread over a Ray cluster."
    cpus: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    "With Ray: cores of each cell."
    gpus: Annotated[float, tyro.conf.arg(metavar="N")] = 0.0
    "With Ray: GPUs of each cell, or a share of one."
    list: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Show what tasks there are."
    json: Json = False


def main(argv: list[str]) -> int:
    options = parse(Options, argv, command="bench", about=ABOUT)
    if not options.list and not options.tasks:
        raise Wrong("Name a task, for example: topstitch bench icu-sepsis. `topstitch bench --list` shows all.")
    start_jax()
    from ..bench import pictures, runner, tasks

    if options.list:
        return listing(tasks.TASKS.values(), options.json)
    if options.size is not None and options.size != "full" and not options.size.isdigit():
        raise Wrong(f"--size {options.size}: a size is a number of steps, or 'full'.")
    if options.seeds < 1 or any(n is not None and n < 1 for n in (options.steps, options.every, options.episodes)):
        raise Wrong("--seeds, --steps, --every and --episodes count from 1.")
    size = int(options.size) if options.size and options.size.isdigit() else options.size
    chosen = [task if size is None else task.sized(size) for task in map(found, options.tasks)]
    cells = [(task, name, runner.Asked(options.seeds, options.steps, options.every, options.episodes))
             for task in chosen for name in algorithms(options.algorithms, task, runner.fitting(task))]  # fmt: skip
    out, say = Path(options.out), lambda text: print(text, file=sys.stderr, flush=True)
    with contextlib.closing(Told()) as told:
        place = tasks.Place(tell=told)
        if options.sources is not None:
            place = dataclasses.replace(place, sources=Path(options.sources))
        if options.engine == "ray":
            from ..bench import engine

            results = engine.run(cells, place=place, out=out, cpus=options.cpus, gpus=options.gpus, tell=say)
        else:
            results = runner.run(cells, place=place, out=out, progress=True, tell=say)
    drawn = []
    for task in dict.fromkeys(result["task"] for result in results):
        done = [result for result in results if result["task"] == task and "failed" not in result]
        if done:
            drawn.append(str(out / runner.slug(task) / "curves.png"))
            pictures.curves(drawn[-1], done)
    rows, together = runner.table(results), runner.aggregate(results)
    if options.json:
        print(json.dumps({"out": options.out, "cells": rows, "aggregate": together, "pictures": drawn}, indent=1))
    else:
        show(rows, together, drawn, out)
    return 1 if any("failed" in row for row in rows) else 0


def found(name: str):
    from ..bench import tasks

    try:
        return tasks.find(name)
    except ValueError as error:
        raise Wrong(str(error)) from None


def algorithms(asked: str | None, task, fitting: Sequence[str]) -> list[str]:
    """Those that were asked for, by their names in the table; or all that fit."""
    from .. import algos

    if asked is None:
        return [*fitting]
    names = []
    for part in asked.split(","):
        try:
            kind = algos.find(part.strip())
        except ValueError as error:
            raise Wrong(str(error)) from None
        names.append(next(name for name in algos.ALGORITHMS if algos.find(name) is kind))
        if names[-1] not in fitting:
            raise Wrong(
                f"{names[-1]} is not defined for the actions of {task.name} ({task.actions}). Those that are: {', '.join(fitting)}."
            )
    return names


class Told:
    """Progress of making and fetching logs: a bar on a terminal, a line now and then in a pipe."""

    def __init__(self):
        self.bar, self.tasks, self.said = None, {}, 0.0

    def __call__(self, what: str, done: int, total: int):
        import time

        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            if self.bar is None:
                self.bar, self.tasks = Progress(console=Console(file=sys.stderr), transient=True), {}
                self.bar.start()
            if what not in self.tasks:
                self.tasks[what] = self.bar.add_task(what, total=total)
            self.bar.update(self.tasks[what], completed=done, total=total)
            if done >= total:
                self.close()
        elif done >= total or time.monotonic() - self.said > 10:
            self.said = time.monotonic()
            print(f"{what}: {done:,}/{total:,}", file=sys.stderr, flush=True)

    def close(self):
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def listing(tasks, as_json: bool) -> int:
    from rich.console import Console
    from rich.table import Table

    if as_json:
        print(json.dumps([{"name": t.name, "about": t.about, "unit": t.unit, "family": t.family, "steps": t.steps, "episodes": t.episodes}
                          for t in tasks], indent=1))  # fmt: skip
        return 0
    shown = Table("task", "score", "log", box=None, header_style="bold", pad_edge=False)
    for task in tasks:
        shown.add_row(task.name, task.unit, task.about)
    console = Console(highlight=False)
    console.print(shown)
    console.print("\nOriginals by their ids: d4rl:hopper-medium-v2, minari:mujoco/hopper/medium-v0 (downloaded).", markup=False)
    return 0


def show(rows: list[dict], together: list[dict], drawn: list[str], out: Path) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console, number = (
        Console(highlight=False),
        lambda x: "" if x is None else f"{x:.2f}" if abs(x) < 10 else f"{x:,.1f}" if abs(x) < 1e5 else f"{x:.2g}",
    )
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        done = [row for row in mine if "failed" not in row]
        if done:
            log = "" if done[0]["log"] is None else f"; the log's mean is {number(done[0]['log'])}"
            console.print(f"[bold]{task}[/]: {done[0]['unit']}{log}")
            right = [Column(name, justify="right") for name in ("last", "95 % over seeds", "best", "believes", "true")]
            beside = [Column("published", justify="right")] if any(row["published"] for row in done) else []
            shown = Table("algorithm", *right, *beside, Column("", overflow="fold"), box=None, header_style="bold", pad_edge=False)
            for row in done:
                between = "one seed" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
                others = [" / ".join(number(p["mean"]) for p in row["published"])] if beside else []
                broke = f"{row['diverged']} of {row['seeds']} diverged" if row["diverged"] else ""
                shown.add_row(row["algorithm"], number(row["mean"]), between, number(row["best"]), number(row["believes"]),
                              number(row["worth"]), *others, broke)  # fmt: skip
            console.print(shown)
        for row in mine:
            if "failed" in row:
                console.print(f"{task} {row['algorithm']} failed: {row['failed']}", markup=False)
        console.print()
    if len({row["task"] for row in rows}) > 1 and together:
        console.print("[bold]all tasks with normalised scores[/]: interquartile mean of the last policies")
        shown = Table("algorithm", Column("IQM", justify="right"), Column("95 %, bootstrap", justify="right"), "tasks", box=None,
                      header_style="bold", pad_edge=False)  # fmt: skip
        for row in together:
            between = "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
            shown.add_row(row["algorithm"], number(row["iqm"]), between, f"{row['tasks']} of {row['of']}")
        console.print(shown)
        console.print()
    console.print(f"Runs and results are in {out}{'; learning curves: ' + ', '.join(drawn) if drawn else ''}.", markup=False)
