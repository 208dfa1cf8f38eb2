"""`topstitch quickstart`: the main job on the shipped table."""

import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import tyro

from . import parse, start_jax
from .roles import Json, role

ABOUT = """From a table of 20,000 logged intensive-care stays to policies, a verdict, and how good they truly are.

The stays were sampled from ICU-Sepsis, a simulation estimated from hospital records, under its recorded clinicians. A study, as made
by `topstitch run`: five algorithms learn with four seeds each, and a safe default, from half of the stays; others choose one policy
and judge it. The simulation is used only for the truth beside the estimates, the exact probability of survival. A benchmark, not
medical advice.

example: topstitch quickstart -o quickstart"""


@dataclasses.dataclass(frozen=True)
class Options:
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER", aliases=["-o"])] = "quickstart"
    "Folder for the study, the table and the picture. What is already in it is gone on with."
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 4
    "Seeds per algorithm."
    steps: Annotated[int | None, role("N", "(default: 5,000 to 8,000)")] = None
    "Updates per run."
    json: Json = False


def main(argv: list[str]) -> None:
    options = parse(Options, argv, command="quickstart", about=ABOUT)
    start_jax()
    began, out = time.monotonic(), Path(options.out)
    from rich.console import Console

    from ..bench import icu_sepsis as task
    from ..disk import plain, write_json
    from ..study.panel import Truth, group
    from ..study.plan import Plan, Words, deal
    from ..study.run import study
    from .run import show as show_verdict
    from .run import written

    say = Console(file=sys.stderr, highlight=False).print
    say(f"[bold]Reading[/] {task.stays_path().name} by its columns: " + ", ".join(f"{role}={name}" for role, name in task.ROLES.items()))
    stays = task.log()
    say(f"  {len(stays):,} stays, {stays.steps:,} decisions, {100 * stays.returns().mean():.1f} % survived")
    plan = Plan(
        title="Fluids and vasopressors in sepsis",
        return_range=(0.0, 1.0),
        words=Words("stay", "stays", "decision", "decisions", "survival"),
    )
    world, known = task.yardsticks(stays.take(deal(stays, plan)["train"]))
    panel = [group(name, settings, seeds=options.seeds, updates=options.steps) for name, settings in task.SETTINGS.items()]
    panel.append(group("spibb", {}, seeds=1, why="the safe default for numbered states"))
    truth = Truth(lambda policies: task.exact(world, policies), known["behaviour"])
    command = "topstitch quickstart" + (f" {shlex.join(argv)}" if argv else "")
    told = study(stays, out / "study", plan=plan, panel=panel, truth=truth, command=command, progress=True)
    rows, curve = tabled(told), told["policies"]["runs"]
    page = written(told, out / "study")
    seconds = time.monotonic() - began
    splits = {split["name"]: split["episodes"] for split in told["data"]["splits"]}
    result = {"yardsticks": known, "algorithms": rows, "stays": splits, "verdict": told["verdict"]["word"], "seconds": seconds}
    write_json(out / "result.json", plain(result))
    picture(out / "survival.png", known, rows, [run["curve"] for run in curve if run["algorithm"] == "dqn"])
    if options.json:
        print(json.dumps(plain(result), indent=1))
    else:
        show(known, rows)
        show_verdict(told, page)
    say(f"The study, [bold]result.json[/] and [bold]survival.png[/] are in {out}/. {seconds:.0f} seconds.")


def tabled(told: dict) -> list[dict]:
    """A row for each algorithm: exact values over its seeds, beliefs, and what the log says of the first of them."""
    from ..stats import mean_interval

    runs = {run["id"]: run for run in told["policies"]["runs"]}
    values = {row["id"]: row["value"] for row in told["estimates"]["rows"]}
    rows = []
    for one in told["policies"]["groups"]:
        every = [runs[name] for name in one["ids"]]
        parts = [[run] for run in every] if one["algorithm"] == "spibb" else [every]  # its runs differ in what they trust, not in the seed
        for part in parts:
            exact = [run["exact"] for run in part]
            found = mean_interval(exact)
            name = one["algorithm"] + part[0]["name"].partition(",")[2].removesuffix(" times") * (one["algorithm"] == "spibb")
            rows.append({"name": name, "survival": found.value, "low": found.low, "high": found.high, "seeds": exact,
                         "believes": [run["believes"] for run in part] if one["algorithm"] != "bc" else [], "estimate": values.get(part[0]["id"])})  # fmt: skip
    return rows


LABELS = {"behaviour": "practice", "naive": "naive table", "cautious": "cautious table", "optimum": "optimum"}


def show(known: dict, rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, header_style="bold")
    shown.add_column("policy")
    shown.add_column("survival", justify="right")
    shown.add_column("95 % over seeds", justify="right")
    shown.add_column("believes", justify="right")
    shown.add_column("by the log, 95 %", justify="right")
    line = lambda name: shown.add_row(f"[dim]{LABELS[name]}[/]", f"{known[name]:.3f}", "", "", "")
    line("behaviour")
    for row in rows:
        beliefs = [b for b in row["believes"] if b is not None]
        between = f"{row['low']:.3f} to {row['high']:.3f}" if row["low"] == row["low"] else "one seed"
        shown.add_row(
            row["name"], f"{row['survival']:.3f}", between, f"{sum(beliefs) / len(beliefs):.2f}" if beliefs else "", said(row["estimate"])
        )
    for name in ("naive", "cautious", "optimum"):
        line(name)
    console = Console(highlight=False)
    console.print()
    console.print(shown)
    console.print("\nSurvival is exact, computed in the simulation; policies saw the log only. Believes: what a critic says of logged actions. By the log: "
                  "the first seed, estimated by weighted doubly robust sums over stays that no policy learned from. Tables: the best policy in "
                  "the model of the log; the cautious one takes only what was done 20 times or more.")  # fmt: skip
    for row in rows:
        if row["estimate"]["refused"]:
            console.print(f"{row['name']} cannot be judged by this log: {row['estimate']['refused']}", markup=False)


def said(one: dict) -> str:
    """An estimate in a cell."""
    return "refused" if one["refused"] else f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"


def picture(path: Path, known: dict, rows: list[dict], curves: list[dict]) -> None:
    """How well each does, beside how well it thinks it does."""
    import numpy as np

    from ..bench.pictures import ACCENT, GREY, INK, WARM, panels

    with panels(path) as (_, (left, right)):
        order = sorted(rows, key=lambda row: row["survival"])
        for y, row in enumerate(order):
            left.plot(row["seeds"], [y] * len(row["seeds"]), "o", ms=4, mfc="none", mec=GREY, zorder=2)
            left.plot([row["low"], row["high"]], [y, y], color=ACCENT, lw=2.5, solid_capstyle="round", zorder=3)
            left.plot(row["survival"], y, "o", color=ACCENT, ms=7, zorder=4)
        left.set_yticks(range(len(order)), [row["name"] for row in order])
        for name, style in (("behaviour", "--"), ("cautious", ":"), ("optimum", "-")):
            left.axvline(known[name], color=INK, lw=1, ls=style, zorder=1)
            label = {"behaviour": "practice", "cautious": "cautious table", "optimum": "optimum"}[name]
            left.annotate(label, (known[name], len(order) - 0.35), xytext=(3, 0), textcoords="offset points", fontsize=9, va="bottom")
        left.set_ylim(-0.6, len(order))
        left.set_xlabel("probability of survival, exact (point: mean of seeds, bar: 95 %, rings: seeds)")
        best = max(rows, key=lambda row: row["survival"])
        left.set_title(
            f"{best['name']} saves {100 * (best['survival'] - known['behaviour']):+.1f} points over practice", loc="left", fontweight="bold"
        )
        points = [curve for curve in curves if curve["believes"] and curve["exact"]]
        if points:
            steps = points[0]["step"]
            believed, worth = (np.mean([curve[name] for curve in points], axis=0) for name in ("believes", "exact"))
            right.plot(steps, believed, color=WARM, lw=2)
            right.plot(steps, worth, color=ACCENT, lw=2)
            right.axhline(1, color=GREY, lw=1, ls=":")
            right.annotate(
                "what DQN believes", (steps[-1], believed[-1]), xytext=(-4, 6), textcoords="offset points", ha="right", color=WARM
            )
            right.annotate(
                "what it is worth",
                (steps[-1], worth[-1]),
                xytext=(-4, -14),
                textcoords="offset points",
                ha="right",
                color=ACCENT,
            )
            right.annotate("certain survival", (0, 1), xytext=(4, 3), textcoords="offset points", fontsize=9, color=GREY)
        right.set_xlabel("updates")
        right.set_ylim(0, 1.15 * max(1.0, right.get_ylim()[1]))
        right.set_title("Naive Q-learning deceives itself", loc="left", fontweight="bold")
