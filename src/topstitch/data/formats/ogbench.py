"""The `.npz` files of OGBench: trajectories without rewards."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..episodes import BadData, Episodes
from . import among, checked, existing, flags, unreadable


def read_ogbench(path: str | os.PathLike, *, reward: np.ndarray | Callable | None = None, info: Sequence[str] = ()) -> Episodes:
    """Episodes of an OGBench file: `observations`, `actions`, and `terminals`, which mark the last row of each trajectory.

    That last row is an observation only: a trajectory of T + 1 rows is an episode of T steps, and its action is not used.
    No trajectory truly ends (`terminals` there is a bound, not a state without future), so all episodes are truncated; nothing
    is dropped, since the observation behind the last step is stored. Actions are bounded by -1 and 1.

    The file has no rewards: they belong to a goal. `reward` is an array with one number per row of the file (those of the last
    rows are not used) or a function of (obs, action, next_obs), each with one row per step, that returns one number per step;
    without it every reward is 0, and `notes` says so. `info` names further arrays to take along, such as `"qpos"`.
    """
    path = existing(path)
    names, arrays = _arrays(path, ("observations", "actions", "terminals", *info))
    n = len(arrays["terminals"]) if arrays["terminals"].ndim else 0
    if n == 0:
        raise BadData(f"{path}: expected at least one trajectory, but its arrays are empty. "
                      "Some validation files are published empty: read the training file and split it.")  # fmt: skip
    columns = {name: checked(array, name, path, n) for name, array in arrays.items()}
    last = flags(checked(columns.pop("terminals"), "terminals", path, n, flat=True), "terminals", path)
    if not last[-1]:
        raise BadData(f"{path}: 'terminals' does not mark the last row, so the last trajectory is cut off. Fetch or write the file again.")
    lengths = np.diff(np.flatnonzero(last), prepend=-1)
    if (lengths < 2).any():
        row = int(np.flatnonzero(last)[np.argmax(lengths < 2)])
        raise BadData(f"{path}: row {row + 1:,} is a trajectory of its own; expected at least a step and the observation behind it. "
                      "Leave it out.")  # fmt: skip
    step = ~last
    obs, action = columns["observations"][step], columns["actions"][step]
    next_obs = columns["observations"][1:][step[:-1]]
    ends = np.append(last[1:], True)[step]
    notes = ["Each trajectory's last row is an observation only: it ends the step before it."]
    if unread := sorted(set(names) - set(arrays)):
        notes.append(f"Not read from the file: {', '.join(unread)}.")
    if reward is None:
        earned = np.zeros(len(obs), np.float32)
        notes.append("The file has no rewards that were asked for: every reward is 0. Give `reward=` for a task.")
    elif callable(reward):
        earned = checked(np.asarray(reward(obs, action, next_obs)), "reward", path, len(obs), flat=True)
    else:
        earned = checked(np.asarray(reward), "reward", path, n, flat=True)[step]
    bounds = {} if action.dtype.kind in "iu" else {"low": -1, "high": 1}
    return Episodes.of(obs, action, earned, np.zeros(len(obs), bool), ends=ends, next_obs=next_obs, **bounds,
                       info={name: columns[name][step] for name in info}, source=path.name, notes=notes)  # fmt: skip


def _arrays(path: Path, wanted: Sequence[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """All names in the file, and the wanted arrays. Pickled objects are refused: loading a file must not run code."""
    kind = "an .npz file of plain arrays (no pickled objects)"
    with path.open("rb") as raw:  # opened here: `np.load` leaves a damaged file open
        with unreadable(path, kind):
            file = np.load(raw, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise BadData(f"{path}: expected {kind}, found a single array. Is it a file of another kind?")
        with file:
            names = list(file.files)
            for name in wanted:
                if name not in names:
                    raise BadData(
                        f"{path}: there is no array {name!r}. {among(name, names, 'The file holds')} Is it a file of another kind?"
                    )
            with unreadable(path, kind):
                return names, {name: np.asarray(file[name]) for name in wanted}
