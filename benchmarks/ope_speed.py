"""A million logged steps through every estimator, with diagnostics and bootstrap intervals.

    python benchmarks/ope_speed.py              # benchmarks/results/ope_speed.json

Seconds are the least of `ROUNDS`, since whatever else the machine does can only add to them. What a policy is asked first, the
log-probabilities of the logged actions, depends on the policy: it is measured apart, for two hidden layers of 256.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import jax
import numpy as np

from topstitch import nets
from topstitch.data import Episodes
from topstitch.disk import write_json
from topstitch.ope.diagnostics import diagnostics
from topstitch.ope.doubly_robust import more_robust
from topstitch.ope.estimate import ESTIMATORS
from topstitch.ope.table import Values, log_probs, of

RESULTS = Path(__file__).resolve().parent / "results/ope_speed.json"
STEPS, ROUNDS, FEATURES = 1_000_000, 3, 8
HORIZONS = (1, 10, 100, 1000)
SHORT = ("ips", "snips", "switch", "shrunk", "subgaussian", "loggers")
LOGGERS = 3


def made(horizon: int):
    """Episodes of up to `horizon` steps, `STEPS` in all, by a logger from whom the policy differs little."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(max(1, horizon // 2), horizon + 1, 2 * STEPS // max(1, horizon // 2))
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), STEPS)) + 1]
    lengths[-1] -= lengths.sum() - STEPS
    ends = np.zeros(STEPS, bool)
    ends[np.cumsum(lengths) - 1] = True
    behaviour = rng.uniform(0.2, 0.8, STEPS)
    values = Values(rng.normal(size=STEPS), rng.normal(size=STEPS), np.zeros(len(lengths)))
    columns = rng.normal(size=STEPS), behaviour * np.exp(rng.normal(scale=0.3 / np.sqrt(horizon), size=STEPS)), behaviour
    return columns, dict(ends=ends, discount=0.99, values=values), rng.normal(size=(2, STEPS, FEATURES))


def seconds(work) -> float:
    spent = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return round(min(spent), 4)


def main(horizons=HORIZONS) -> dict:
    found = {}
    for horizon in horizons:
        columns, more, phi = made(horizon)
        table = of(*columns, **more)._replace(logger=np.arange(STEPS) % LOGGERS if horizon == 1 else None)
        parts = {"table": seconds(lambda: of(*columns, **more)), "diagnostics": seconds(lambda: diagnostics(table))}
        for name, estimator in ESTIMATORS.items():
            if horizon > 1 and name in SHORT:
                continue
            parts[name] = seconds(lambda: more_robust(table, *phi) if name == "mrdr" else estimator(table))
            sums = more_robust(table, *phi) if name == "mrdr" else estimator(table)
            parts[f"{name} interval"] = seconds(lambda: sums.percentiles(0.95))
        found[str(horizon)] = {"episodes": len(table.live), "seconds": parts, "total": round(sum(parts.values()), 3)}
        print(f"horizon {horizon:5d}: {len(table.live):9,} episodes, {found[str(horizon)]['total']:7.3f} s", flush=True)
    rng = np.random.default_rng(0)
    log = Episodes.of(
        rng.normal(size=(STEPS, 17)).astype(np.float32), rng.uniform(-0.99, 0.99, (STEPS, 6)), rng.normal(size=STEPS), np.ones(STEPS, bool)
    )
    policy = log.policy(nets.BoxGaussian(log.spec, (256, 256), key=jax.random.key(0)))
    asked = seconds(lambda: log_probs(policy, log))
    return {
        "steps": STEPS,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "horizons": found,
        "policy": asked,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--horizons", type=lambda text: tuple(map(int, text.split(","))), default=HORIZONS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    measured = main(options.horizons)
    write_json(options.out, measured)
    print(json.dumps(measured, indent=1))
