"""What an import takes of memory: tables several times the budget, in order and shuffled, CSV and Parquet.

    python benchmarks/import_memory.py --kind csv --shuffled [--mb 400] [--memory 64MB]

Writes a table, imports it in a process of its own, prints JSON. `peak_mb` is the most memory that the process ever held (ru_maxrss), `idle_mb`
the same after it has imported a table of a thousand rows.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

COLUMNS = 20
"Of numbers, besides the episode, the time, a word, the action, the reward and the end."


def write(path: Path, megabytes: int, shuffled: bool) -> int:
    """A table of stays of 20 steps of about so many megabytes as CSV; how many rows."""
    rng, rows, block = np.random.default_rng(0), megabytes * 5000 or 1000, 20_000
    order = rng.permutation(rows) if shuffled else np.arange(rows)
    frames = []
    for start in range(0, rows, block):
        at = order[start : start + block]
        frame = pl.DataFrame({"stay": at // 20, "hour": at % 20, "ward": np.array(["east", "west", "north"])[at // 20 % 3], "dose": rng.integers(0, 5, len(at)),
                              "reward": rng.normal(size=len(at)).round(3), "died": at % 20 == 19})  # fmt: skip
        frames.append(frame.with_columns([pl.Series(f"lab_{j}", rng.normal(size=len(at)).round(5)) for j in range(COLUMNS)]))
        if path.suffix == ".csv":
            with path.open("ab") as file:
                frames.pop().write_csv(file, include_header=start == 0)
    if frames:
        pl.concat(frames).write_parquet(path)
    return rows


def imported(path: str, memory: str) -> None:
    """In a process of its own: import, and say what it took."""
    from topstitch.cli.data_import import size
    from topstitch.data.intake import run
    from topstitch.data.intake.rules import Rules

    peak = lambda: round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    rules = Rules.of(
        {"episode": "stay", "time": "hour", "obs": ["ward", "lab_*"], "action": "dose", "reward": "reward", "terminal": "died"}
    )
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        write(Path(folder) / "small.csv", 0, shuffled=False)
        run(f"{folder}/small.csv", rules, f"{folder}/D", memory=size(memory))
    idle, begun = peak(), time.perf_counter()
    account = run(path, rules, f"{path}.log", memory=size(memory))
    print(json.dumps({"idle_mb": idle, "peak_mb": peak(), "seconds": round(time.perf_counter() - begun, 1), **account["rows"]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=["csv", "parquet"], default="csv")
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--mb", type=int, default=400)
    parser.add_argument("--memory", default="64MB")
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file:
        return imported(options.file, options.memory)
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        path = Path(folder) / f"stays.{options.kind}"
        with ProcessPoolExecutor(
            1, mp_context=get_context("spawn")
        ) as apart:  # what a process holds counts as the peak of those that it begins
            rows = apart.submit(write, path, options.mb, options.shuffled).result()
        command = [sys.executable, __file__, "--file", str(path), "--memory", options.memory]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        told = {
            "kind": options.kind,
            "shuffled": options.shuffled,
            "rows": rows,
            "file_mb": path.stat().st_size >> 20,
            "memory": options.memory,
        }
        log = (Path(f"{path}.log") / "log.log.safetensors").stat().st_size >> 20
        print(json.dumps(told | json.loads(done.stdout) | {"log_mb": log}))


if __name__ == "__main__":
    main()
