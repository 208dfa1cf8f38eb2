"""One door to all readers."""

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path

from .episodes import BadData, Episodes
from .formats import existing, hdf5, suffix

LOG = ".log.safetensors"
IMPORTED = f"log{LOG}"
"The log in a folder of an import."
HDF5 = (".hdf5", ".h5", ".hdf")
MINARI_ID = re.compile(r"([-\w]+/)*[-\w]+-v\d+")


def read(source, **roles) -> Episodes:
    """Logged episodes from whatever holds them; the reader is chosen by the name and the content of the file.

    * Tables (.csv .tsv, also .gz; .parquet .pq; .arrow .feather .ipc; a list of such; a data frame): `roles` name the columns,
      see `formats.table.read_table`.
    * HDF5 (.hdf5 .h5): the layout of D4RL, or that of d3rlpy 1, told apart by the names of their arrays.
    * .npz: OGBench; `reward=` gives its rewards.
    * .log.safetensors: a log that topstitch wrote, as it was; or the folder that `topstitch data import` made.
    * A Minari id such as `"D4RL/door/human-v2"`, or the folder of one; `download=True` fetches what is not there.

    Formats other than tables know their own columns: roles are an error there. Anything that cannot be read raises `BadData`.
    """
    reader, source = _reader(source)
    allowed = inspect.signature(reader).parameters
    known = [name for name, parameter in allowed.items() if parameter.kind is parameter.KEYWORD_ONLY]
    if unknown := [name for name in roles if name not in known]:
        if reader.__name__ == "read_table":
            raise BadData(f"{_named(source)}: {', '.join(map(repr, unknown))} is no role of a column. The roles are: {', '.join(known)}.")
        raise BadData(f"{_named(source)}: this format tells its own columns, so {', '.join(map(repr, unknown))} cannot be given. "
                      + (f"Only {', '.join(map(repr, known))} can." if known else "Leave it out."))  # fmt: skip
    if missing := [name for name in known if allowed[name].default is inspect.Parameter.empty and name not in roles]:
        raise BadData(f"{_named(source)}: a table needs to know which columns are {', '.join(map(repr, missing))}. "
                      "Name them, for example obs='obs_*', action='dose', reward='reward', terminal='died'.")  # fmt: skip
    return reader(source, **roles)


def _named(source) -> str:
    return str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


def _reader(source) -> tuple[Callable[..., Episodes], object]:
    """(the reader, what to give it)."""
    if not isinstance(source, (str, os.PathLike)):
        from .formats.table import read_table

        return read_table, source
    called = MINARI_ID.fullmatch(str(source))
    path = Path(source) if called else existing(source)
    ending = suffix(path)
    if (path / IMPORTED).is_file():
        return _of_import, path
    if path.is_dir() or (called and not path.exists()):
        from .formats.minari import read_minari

        return read_minari, source
    path = existing(path)
    if ending in HDF5:
        return _of_hdf5(path)
    if ending == ".npz":
        from .formats.ogbench import read_ogbench

        return read_ogbench, path
    if path.name.endswith(LOG):
        from .formats.log import read_log

        return read_log, path
    from .formats.files import SUFFIXES
    from .formats.table import read_table

    if ending in SUFFIXES:
        return read_table, path
    raise BadData(f"{path}: files that end in {ending or 'nothing'!r} are not read. Read are tables ({' '.join(SUFFIXES)}), "
                  f"HDF5 of D4RL or d3rlpy ({' '.join(HDF5)}), OGBench (.npz), logs of topstitch ({LOG}), and Minari ids or folders.")  # fmt: skip


def _of_import(folder: Path) -> Episodes:
    from .formats.log import read_log

    return read_log(folder / IMPORTED, mapped=True)


def _of_hdf5(path: Path) -> tuple[Callable[..., Episodes], object]:
    with hdf5(path) as file:
        names = set(file.names)
    if any(name.startswith("episode_0/") for name in names):
        from .formats.minari import read_minari

        return read_minari, path.parent
    if names & {"episode_terminals", "observations_0"}:
        from .formats.d3rlpy import read_d3rlpy

        return read_d3rlpy, path
    from .formats.d4rl import read_d4rl

    return read_d4rl, path
