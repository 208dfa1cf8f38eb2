"""HDF5 files in the layout of D4RL: one row per step, `terminals` apart from `timeouts`."""

import os
from collections.abc import Sequence

import numpy as np

from ..episodes import BadData, Episodes
from . import Columns, existing, flags, hdf5


def read_d4rl(path: str | os.PathLike, *, info: Sequence[str] = ()) -> Episodes:
    """Episodes of a D4RL file: `observations`, `actions`, `rewards` (row i belongs to action i), `terminals`, `timeouts`,
    and, where the file has them, `next_observations` and `infos/action_log_probs` (natural logarithms of densities).

    * A row marked in `terminals` truly ends its episode, whether or not `timeouts` marks it too. A row marked in `timeouts`
      alone cuts it: the episode is truncated. So does the end of the file, and, where next observations are stored, every
      place where the next row does not continue this one; without `timeouts` those are the only cuts, and `notes` says so.
    * Without `next_observations` the last step of a truncated episode is dropped, since what came of it is not in the file.
    * Everything stays in raw units; rewards are as stored.

    The `timeouts` of maze2d mark goals reached in one long walk, which are read as cuts: each loses one step. The first
    version (v0) of antmaze is known to have `timeouts` out of step with its episodes; prefer v2.

    `info` names further arrays to take along, for example `"infos/qpos"`. Anything damaged, missing, not finite or of the
    wrong length raises `BadData`.
    """
    path = existing(path)
    with hdf5(path) as file:
        return _episodes(file, info)


def _episodes(file: Columns, info: Sequence[str]) -> Episodes:
    path, notes = file.path, []
    reward = file.get("rewards", flat=True)
    n = len(reward)
    if n == 0:
        raise BadData(f"{path}: expected at least one step, but its arrays are empty.")
    obs, action = file.get("observations", n), file.get("actions", n)
    terminal = flags(file.get("terminals", n, flat=True), "terminals", path)
    next_obs = file.get("next_observations", n) if "next_observations" in file else None
    if next_obs is not None and next_obs.shape != obs.shape:
        raise BadData(f"{path}: 'next_observations' has shape {next_obs.shape} where 'observations' has {obs.shape}. Write the file again.")
    ends = terminal.copy()
    if "timeouts" in file:
        ends |= flags(file.get("timeouts", n, flat=True), "timeouts", path)
    else:
        seen = "next observations show a break" if next_obs is not None else "the file ends"
        notes.append(f"The file has no 'timeouts': episodes end where 'terminals' says so and where {seen}.")
    if next_obs is not None:
        gaps = np.append(~_follows(obs, next_obs), True) & ~ends
        if gaps[:-1].any():
            notes.append(f"{int(gaps[:-1].sum()):,} steps lead to an observation other than that of the next row; "
                         "their episodes were cut there, as truncated.")  # fmt: skip
        ends |= gaps
    log_prob = None
    if "infos/action_log_probs" in file:
        # the logger's own numbers may overflow where its actions saturate; the rest of the file is still good
        log_prob = file.raw("infos/action_log_probs").reshape(-1)
        if log_prob.dtype.kind != "f" or len(log_prob) != n or not (np.abs(log_prob) <= np.finfo(np.float32).max).all():
            notes.append("'infos/action_log_probs' is not one finite number per step, and was left out.")
            log_prob = None
    further = {name.removeprefix("infos/"): file.get(name, n) for name in info}
    return Episodes.of(obs, action, reward, terminal, ends=ends, next_obs=next_obs, log_prob=log_prob,
                       info=further, source=path.name, notes=notes)  # fmt: skip


def _follows(obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
    """(n - 1,) whether each row's next observation is the observation of the next row, up to rounding."""
    here, there = next_obs[:-1].reshape(len(obs) - 1, -1), obs[1:].reshape(len(obs) - 1, -1)
    return np.all(np.isclose(here, there, rtol=1e-5, atol=1e-6), axis=1)
