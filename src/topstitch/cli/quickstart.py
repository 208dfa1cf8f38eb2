"""`topstitch quickstart`: the main job on the shipped table."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Annotated

import tyro

from . import parse, start_jax

ABOUT = """From a table of 20,000 logged intensive-care stays to policies, and how good they truly are.

The stays were sampled from ICU-Sepsis, a simulation estimated from hospital records, under its recorded clinicians. Five
algorithms learn from seven tenths of the table, with four seeds each. The other stays estimate what the policies are worth, and
the simulation is used only for the truth beside that, the exact probability of survival. A benchmark, not medical advice.

example: topstitch quickstart -o quickstart"""


@dataclasses.dataclass(frozen=True)
class Options:
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])] = "quickstart"
    "Folder for runs, metrics, the table and the picture. What is already in it is gone on with."
    seeds: int = 4
    "Seeds per algorithm."
    steps: int | None = None
    "Updates per run (default: 8,000)."
    json: bool = False
    "Print the table as JSON."


def main(argv: list[str]) -> None:
    options = parse(Options, argv, command="quickstart", about=ABOUT)
    start_jax()
    began, out = time.monotonic(), Path(options.out)
    from rich.console import Console

    from .. import algos
    from ..bench import icu_sepsis as task
    from ..disk import plain, write_json
    from ..loop import stack
    from ..ope import estimate
    from ..runs import train
    from ..stats import mean_interval

    say = Console(file=sys.stderr, highlight=False).print
    say(f"[bold]Reading[/] {task.stays_path().name} by its columns: " + ", ".join(f"{role}={name}" for role, name in task.ROLES.items()))
    stays = task.log()
    say(f"  {len(stays):,} stays, {stays.steps:,} decisions, {100 * stays.returns().mean():.1f} % survived")
    stays, held_out = stays.split(task.HELD_OUT)
    say(f"  {len(stays):,} of them to learn from, {len(held_out):,} to estimate by")
    world, known = task.yardsticks(stays)
    say(f"[bold]Learning[/]: {', '.join(task.SETTINGS)}, {options.seeds} seeds each, all seeds of one algorithm in one program")
    rows, first, believed = [], [], {}
    for name, settings in task.SETTINGS.items():
        settings = settings | ({} if options.steps is None else {"steps": options.steps})
        algorithm = algos.find(name)(**settings)
        folder = out / name
        again = (folder / "config.json").is_file()
        watch = [Curve(folder / "curve.json", algorithm, world, task.survival)] if name == "dqn" else []
        runs = train(algorithm, stays, seeds=options.seeds, out=folder, every=500, listeners=watch, progress=True, resume=again)
        exact = task.survival(world, stack([run.policy for run in runs]))
        interval = mean_interval(exact)
        first.append(runs[0].policy)
        rows.append({"name": name, "survival": interval.value, "low": interval.low, "high": interval.high, "seeds": exact.tolist(),
                     "believes": [run.metrics.get("critic/q") for run in runs]})  # fmt: skip
        believed[name] = watch[0].points if watch else []
    found = estimate({row["name"]: policy for row, policy in zip(rows, first)}, held_out, ["wis"], discount=1.0)
    for row, one in zip(rows, found):
        row["estimate"] = one.plain()
    found.to_json(out / "estimates.json")
    seconds = time.monotonic() - began
    result = {"yardsticks": known, "algorithms": rows, "stays": len(stays), "held_out": len(held_out), "seconds": seconds}
    write_json(out / "result.json", plain(result))
    picture(out / "survival.png", known, rows, believed)
    print(json.dumps(plain(result), indent=1)) if options.json else show(known, rows)
    say(f"Runs, metrics, [bold]result.json[/] and [bold]survival.png[/] are in {out}/. {seconds:.0f} seconds.")


class Curve:
    """Listens to training: what each policy is worth, and what its critic believes, every now and then.

    Kept in a file, so that the picture of a resumed or a finished run is whole.
    """

    def __init__(self, path: Path, algorithm, world, survival):
        self.path, self.algorithm, self.world, self.survival = path, algorithm, world, survival
        self.points = json.loads(path.read_text()) if path.is_file() else []

    def __call__(self, now, metrics):
        import jax

        from ..disk import write_json

        policies = jax.vmap(self.algorithm.policy)(now.states)
        believes = metrics.get("critic/q")
        value = self.survival(self.world, policies)
        before = [point for point in self.points if point[0] < now.step]
        self.points = [*before, [now.step, value.tolist(), None if believes is None else believes.tolist()]]
        write_json(self.path, self.points)


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
                  "the first seed, estimated by weighted importance sampling of stays that no policy learned from. Tables: the best policy in "
                  "the model of the log; the cautious one takes only what was done 20 times or more.")  # fmt: skip
    for row in rows:
        if row["estimate"]["refused"]:
            console.print(f"{row['name']} cannot be judged by this log: {row['estimate']['refused']}", markup=False)


def said(one: dict) -> str:
    """An estimate in a cell."""
    return "refused" if one["refused"] else f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"


def picture(path: Path, known: dict, rows: list[dict], curves: dict) -> None:
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
        points = curves["dqn"]
        steps = [p[0] for p in points]
        if points and points[0][2] is not None:
            right.plot(steps, np.mean([p[2] for p in points], axis=1), color=WARM, lw=2)
            right.plot(steps, np.mean([p[1] for p in points], axis=1), color=ACCENT, lw=2)
            right.axhline(1, color=GREY, lw=1, ls=":")
            right.annotate(
                "what DQN believes", (steps[-1], np.mean(points[-1][2])), xytext=(-4, 6), textcoords="offset points", ha="right", color=WARM
            )
            right.annotate(
                "what it is worth",
                (steps[-1], np.mean(points[-1][1])),
                xytext=(-4, -14),
                textcoords="offset points",
                ha="right",
                color=ACCENT,
            )
            right.annotate("certain survival", (0, 1), xytext=(4, 3), textcoords="offset points", fontsize=9, color=GREY)
        right.set_xlabel("updates")
        right.set_ylim(0, 1.15 * max(1.0, right.get_ylim()[1]))
        right.set_title("Naive Q-learning deceives itself", loc="left", fontweight="bold")
