"""CartPole as a stranger's table: a recorded replay written as CSV, to be studied without its environment.

python examples/cartpole_csv.py cartpole_v1.1.0.h5 cartpole.csv
topstitch run cartpole.csv --episode episode --time step --obs 'obs_*' --action push --reward reward --terminal fell \\
    --panel discrete_bcq,iql --seeds 2 --steps 3000 -o study

A minute on one core. What comes of it is told in docs/strangers.md.
"""

import sys

import numpy as np
import polars as pl

import topstitch as ts


def main(source: str, out: str) -> None:
    log = ts.read(source)
    step = np.arange(log.steps) - np.repeat(log.starts, log.lengths)
    names = ("position", "speed", "angle", "turning")
    columns = {"episode": np.repeat(np.arange(len(log)), log.lengths), "step": step}
    columns |= {f"obs_{name}": log.obs[:, i] for i, name in enumerate(names)}
    columns |= {"push": log.action, "reward": log.reward, "fell": log.terminal.astype(int)}
    pl.DataFrame(columns).write_csv(out)
    print(f"{out}: {len(log):,} episodes, {log.steps:,} steps")


if __name__ == "__main__":
    main(*sys.argv[1:])
