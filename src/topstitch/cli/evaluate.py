"""`topstitch evaluate`."""

import dataclasses
import json
import sys
from typing import Annotated

import numpy as np
import tyro

from . import Wrong, parse, start_jax
from .roles import Json, role

ABOUT = """Let trained policies act in a Gymnasium environment, and report their returns.

examples:
  topstitch evaluate runs/iql runs/td3bc --env Hopper-v5 --episodes 20
  topstitch evaluate runs/iql --env Hopper-v5 --video films"""


@dataclasses.dataclass(frozen=True)
class Options:
    runs: Annotated[tuple[str, ...], tyro.conf.Positional, role("RUNS…")]
    "Folders of runs, or files of single policies."
    env: Annotated[str, tyro.conf.arg(metavar="ID")]
    "The id of an environment that Gymnasium knows."
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 10
    "Episodes per policy."
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    "Episode i starts from seed + i, for every policy."
    stochastic: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Sample actions instead of taking the most likely."
    video: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    "Also film the first episode of every policy (GIF), where the environment renders."
    json: Json = False


def main(argv: list[str]) -> None:
    options = parse(Options, argv, command="evaluate", about=ABOUT)
    if not options.runs:
        raise Wrong("Name a folder of runs: topstitch evaluate runs/iql --env Hopper-v5")
    start_jax()
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

    from ..evaluation import evaluate, film, last_and_best, read_lines
    from ..runs import load_runs
    from ..stats import d4rl_score, interquartile_mean, mean_interval, stratified_interval
    from ..store import load_policy

    rows, filmed = [], []
    for place in options.runs:
        found = load_runs(place) if Path(place).is_dir() else None
        policies = [run.policy for run in found] if found else [load_policy(place)]
        with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty(), transient=True) as bar:
            task = bar.add_task(place, total=len(policies) * options.episodes)
            seen = evaluate(
                policies, options.env, episodes=options.episodes, seed=options.seed, greedy=not options.stochastic,
                tell=lambda done, total: bar.update(task, completed=done),
            )  # fmt: skip
        each, known = seen.returns.mean(axis=1), lambda x: None if np.isnan(x) else float(x)
        interval, middle = mean_interval(each), stratified_interval([each])
        row = {
            "runs": place, "env": options.env, "episodes": options.episodes, "policies": len(policies), "mean": interval.value,
            "low": known(interval.low), "high": known(interval.high), "interquartile_mean": float(interquartile_mean(each)),
            "interquartile_low": known(middle.low), "interquartile_high": known(middle.high), "per_policy": each.tolist(),
            "length": float(seen.lengths.mean()), "success": None if seen.success is None else float(seen.success.mean()),
        }  # fmt: skip
        if (scores := d4rl_score(options.env, each)) is not None:
            row |= {"normalised": float(scores.mean()), "normalised_per_policy": scores.tolist()}
        if Path(place).is_dir() and (points := read_lines(Path(place) / "evaluations.jsonl")):
            last, best = last_and_best(points)
            row |= {"during_training": {"last": last.tolist(), "best": best.tolist()}}
        rows.append(row)
        filmed += [(policy, f"{Path(place).stem}-{i}.gif") for i, policy in enumerate(policies)]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows)
    for policy, name in filmed if options.video is not None else ():
        path = Path(options.video) / name
        frames = film(policy, options.env, path, seed=options.seed, greedy=not options.stochastic)
        print(f"{path}: {frames} frames", file=sys.stderr)


def show(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    columns = [Column("runs", overflow="fold"), "return", "95 % over policies", "middle half", "by policy", "length"]
    extra = {"success": lambda row: f"{row['success']:.0%}", "normalised": lambda row: f"{row['normalised']:.1f}"}
    extra = {name: show for name, show in extra.items() if any(row.get(name) is not None for row in rows)}
    shown = Table(*columns, *(name if name == "success" else "D4RL scale" for name in extra), box=None, header_style="bold", pad_edge=False)
    for row in rows:
        between = "one policy" if row["low"] is None else f"{row['low']:,.1f} to {row['high']:,.1f}"
        more = ["" if row.get(name) is None else show(row) for name, show in extra.items()]
        by = " ".join(f"{x:,.1f}" for x in row["per_policy"])
        shown.add_row(row["runs"], f"{row['mean']:,.1f}", between, f"{row['interquartile_mean']:,.1f}", by, f"{row['length']:,.0f}", *more)
    console = Console(highlight=False)
    console.print(shown)
    for row in rows:
        if during := row.get("during_training"):
            mean = lambda which, during=during: sum(during[which]) / len(during[which])
            console.print(f"{row['runs']}, during its training: last {mean('last'):,.1f}; best {mean('best'):,.1f}, chosen by the same episodes "
                          "that score it, so too high.", markup=False)  # fmt: skip
