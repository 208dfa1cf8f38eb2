"""One door to all writers."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from .episodes import Episodes
from .formats import suffix
from .read import HDF5, LOG

TABLES = (".parquet", ".pq")


def write(log: Episodes, place: str | os.PathLike, *, env: str | None = None, about: dict | None = None, seeds=None) -> dict[str, Any]:
    """A log where its name says, whole or not at all; answers with the roles that `topstitch.read` needs to read it back.

    * `.log.safetensors`: the log as it is. No roles.
    * `.parquet`: a table, see `formats.table.write_table`.
    * Anything else: a Minari data set, see `formats.minari.write_minari`, which takes `env`, `about` and `seeds`. No roles.

    What is there already is not overwritten: `FileExistsError`.
    """
    path = target(place)
    if path.name.endswith(LOG):
        from .formats.log import write_log

        write_log(path, log)
        return {}
    if suffix(path) in TABLES:
        from .formats.table import write_table

        return write_table(log, path)
    from .formats.minari import write_minari

    write_minari(log, place, env=env, about=about, seeds=seeds)
    return {}


def target(place: str | os.PathLike) -> Path:
    """Where `write` would put a log. `FileExistsError` if something is there, `ValueError` if the name asks for what is not written."""
    from .formats.files import SUFFIXES
    from .formats.minari import place_of

    path, ending = Path(place), suffix(Path(place))
    if not path.name.endswith(LOG) and ending not in TABLES:
        if ending in (*SUFFIXES, *HDF5, ".npz", ".safetensors"):
            raise ValueError(f"{place}: logs are written as {LOG}, as a table (.parquet), or as a Minari data set (a folder, or an id "
                             f"such as hopper/medium-v0), not as {ending}.")  # fmt: skip
        path = place_of(place)
    if path.exists():
        raise FileExistsError(f"{path} is there already, and is not overwritten. Choose another name, or remove it.")
    return path


def bounds(log: Episodes) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest action of a `Box`, in raw units: what its view maps to -1 and 1."""
    if (scale := log.view.action) is None:
        return -np.ones(log.spec.action.size, np.float32), np.ones(log.spec.action.size, np.float32)
    low, high = scale.bounds()
    return np.asarray(low, np.float32), np.asarray(high, np.float32)
