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

example:
  topstitch evaluate runs/iql runs/td3bc --env Hopper-v5 --episodes 20"""


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
    json: Json = False


def main(argv: list[str]) -> None:
    options = parse(Options, argv, command="evaluate", about=ABOUT)
    if not options.runs:
        raise Wrong("Name a folder of runs: topstitch evaluate runs/iql --env Hopper-v5")
    start_jax()
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Column, Table

    from ..evaluation import evaluate
    from ..runs import load_runs
    from ..stats import mean_interval
    from ..store import load_policy

    rows = []
    for place in options.runs:
        found = load_runs(place) if Path(place).is_dir() else None
        policies = [run.policy for run in found] if found else [load_policy(place)]
        with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty(), transient=True) as bar:
            task = bar.add_task(place, total=len(policies) * options.episodes)
            seen = evaluate(
                policies, options.env, episodes=options.episodes, seed=options.seed, greedy=not options.stochastic,
                tell=lambda done, total: bar.update(task, completed=done),
            )  # fmt: skip
        per_policy = seen.returns.mean(axis=1)
        interval = mean_interval(per_policy)
        rows.append({
            "runs": place, "env": options.env, "episodes": options.episodes, "policies": len(policies), "mean": interval.value,
            "low": None if np.isnan(interval.low) else interval.low, "high": None if np.isnan(interval.high) else interval.high,
            "per_policy": per_policy.tolist(), "length": float(seen.lengths.mean()),
            "success": None if seen.success is None else float(seen.success.mean()),
        })  # fmt: skip
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    columns = [Column("runs", overflow="fold"), "return", "95 % over policies", "by policy", "length"]
    if succeeds := any(row["success"] is not None for row in rows):
        columns.append("success")
    shown = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        between = "one policy" if row["low"] is None else f"{row['low']:,.1f} to {row['high']:,.1f}"
        success = ["" if row["success"] is None else f"{row['success']:.0%}"] if succeeds else []
        each = " ".join(f"{x:,.1f}" for x in row["per_policy"])
        shown.add_row(row["runs"], f"{row['mean']:,.1f}", between, each, f"{row['length']:,.0f}", *success)
    Console(highlight=False).print(shown)
