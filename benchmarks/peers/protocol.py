"""What every worker of `speed.py` does: take one job, make it ready, then work exactly when asked to.

A job is one JSON line: algorithm, obs, act, discrete, batch, hidden, critics, threads, and the folder of the columns.
The answer to it says how long the first update took; each later line {"steps": n} is answered {"steps", "seconds", "cpu"}.
Between lines a worker waits for its standard input, so that many of them can be alive while only one works.
"""

import importlib.metadata
import importlib.util
import json
import os
import resource
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

COLUMNS = ("obs", "action", "reward", "terminal", "next_obs", "ends")
PACKAGES = ("topstitch", "jax", "jaxlib", "equinox", "optax", "flax", "distrax", "torch", "d3rlpy", "numpy")


class Missing(Exception):
    """The engine has no such algorithm."""


def serve(load):
    """Answer on standard output for ever. What the engine prints goes to standard error.

    `load(job, columns, checkout)` imports the engine and hands it the data; it returns (start, facts). `start()` builds
    nets and optimisers and returns `run`; `run(steps)` does at least that many updates, waits for them, and returns
    how many they were. `facts` are words and numbers about the engine's version of the work, such as `note`.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**answer):
        print(json.dumps(answer | {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}), file=answers, flush=True)

    checkout, sys.argv = Path(*sys.argv[1:2]), sys.argv[:1]
    job = json.loads(sys.stdin.readline())
    if job["threads"] < os.cpu_count():
        os.sched_setaffinity(0, range(job["threads"]))
    columns = {name: np.load(Path(job["data"]) / f"{name}.npy") for name in COLUMNS}
    try:
        start, facts = load(job, columns, checkout)
    except Missing as missing:
        say(ready=False, why=str(missing))
        return
    began = time.perf_counter()
    run = start()
    run(1)
    say(ready=True, compile_s=time.perf_counter() - began, versions=versions(), **facts)
    for line in sys.stdin:
        steps = json.loads(line)["steps"]
        began, used = time.perf_counter(), time.process_time()
        done = run(steps)
        say(steps=done, seconds=time.perf_counter() - began, cpu=time.process_time() - used)


def versions() -> dict[str, str]:
    """Of the packages that this process has imported."""
    known = {}
    for name in PACKAGES:
        if name in sys.modules:
            try:
                known[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                known[name] = "source"
    return {"python": sys.version.split()[0]} | known


def stub(*names):
    """Stand-ins for modules that the peer imports and that its updates do not use: simulators, loggers, command lines."""
    for name in names:
        sys.modules[name] = MagicMock()


def module(path: Path):
    """A module of the checkout, by its file."""
    if not path.exists():
        raise Missing(f"no {path.name}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
