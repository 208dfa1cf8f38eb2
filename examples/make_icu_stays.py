"""Make the table of ICU stays that ships with topstitch: python examples/make_icu_stays.py [stays.parquet]

20,000 stays of the ICU-Sepsis world under the recorded clinicians' policy, sampled with a fixed seed: on one version of JAX, NumPy and
Polars the same bytes every time. Needs `pip install 'topstitch[icu]'`.
"""

import sys

import jax
import numpy as np
import polars as pl

from topstitch.worlds import sample
from topstitch.worlds.icu_sepsis import clinician, icu_sepsis, stays_path

STAYS, HORIZON, SEED = 20_000, 200, 0


def main(path=None):
    policy = clinician()
    log = sample(icu_sepsis(masks=False), policy, STAYS, horizon=HORIZON, key=jax.random.key(SEED))
    assert not log.truncated.any(), "a stay outlasted the horizon; raise it: every stay of the table must have an outcome"
    columns = {
        "stay": np.repeat(np.arange(STAYS, dtype=np.int32), log.lengths),
        "step": log.time.astype(np.int32),
        "state": log.obs,
        "action": log.action,
        "reward": log.reward,
        "terminal": log.terminal,
        "probability": policy[log.obs, log.action].astype(np.float32),
    }
    pl.DataFrame(columns).write_parquet(path or stays_path(), compression="zstd", compression_level=19)
    print(f"{len(log):,} stays, {log.steps:,} steps of four hours, {100 * log.returns().mean():.2f} % survive")


if __name__ == "__main__":
    main(*sys.argv[1:])
