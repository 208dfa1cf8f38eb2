"""HDF5 files that d3rlpy 1 writes (`MDPDataset.dump`)."""

import os

import numpy as np

from ..episodes import BadData, Episodes
from . import existing, flags, hdf5


def read_d3rlpy(path: str | os.PathLike) -> Episodes:
    """Episodes of a d3rlpy 1 file: `observations`, `actions`, `rewards`, `terminals`, `episode_terminals`, `discrete_action`.

    Which reward belongs to which action was settled from the Pendulum files that d3rlpy published: there
    `-(θ² + 0.1 θ'² + 0.001 action²)` of row i is the reward of row i to 1e-6 in all 99,500 rows, and the equations of motion
    lead from row i under action i to row i + 1. So row i is (observation, the action taken there, what it earned).

    * `episode_terminals` marks the last row of every episode. Where `terminals` marks that row too the episode truly ended,
      otherwise it was cut, and its last step is dropped: the observation behind it is not in the file.
    * Published CartPole files also mark the row before a terminal last row, though the pole still stands in the row after it.
      Such a mark is ignored and counted in `notes`. Any other mark inside an episode raises `BadData`.
    * Pictures have their channels first there, (n, channels, height, width), and last here.
    * Discrete actions are 0 … the largest seen; bounds of continuous ones are not in the file, so `Episodes.of` takes
      -1 … 1, or the extremes seen.
    """
    path = existing(path)
    with hdf5(path) as file:
        if "observations_0" in file:
            raise BadData(f"{path}: written by d3rlpy 2, which stores episode by episode; files of d3rlpy 1 are read. "
                          "Load it there and write its steps as a table, or in the layout of D4RL.")  # fmt: skip
        reward = file.get("rewards", flat=True)
        n = len(reward)
        if n == 0:
            raise BadData(f"{path}: expected at least one step, but its arrays are empty.")
        obs, action = file.get("observations", n), file.get("actions", n)
        marked = flags(file.get("terminals", n, flat=True), "terminals", path)
        ends = flags(file.get("episode_terminals", n, flat=True), "episode_terminals", path)
        discrete = "discrete_action" in file and bool(file.raw("discrete_action").all())
    terminal, notes = marked & ends, []
    early = marked & ~ends
    stray = early & ~np.append(terminal[1:], False)
    if stray.any():
        row = int(np.argmax(stray))
        raise BadData(f"{path}: 'terminals' marks row {row + 1:,}, but by 'episode_terminals' its episode goes on. "
                      "Unmark it there, or end the episode there.")  # fmt: skip
    if early.any():
        notes.append(f"'terminals' also marks the row before the last in {int(early.sum()):,} episodes; only the last row counts.")
    if obs.dtype == np.uint8 and obs.ndim == 4:
        obs = np.moveaxis(obs, 1, -1)
    actions = None
    if discrete:
        actions = int(action.max()) + 1
        notes.append(f"The number of actions is not in the file: {actions} is the largest seen, plus one.")
    return Episodes.of(obs, action, reward, terminal, ends=ends, actions=actions, source=path.name, notes=notes)
