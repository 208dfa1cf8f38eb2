"""Readers of files, one format a module; each answers with `Episodes`. This page is what they share."""

import contextlib
import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..episodes import BadData


def existing(path: str | os.PathLike) -> Path:
    """The path, if a file or folder is there; else `BadData` with what is there instead."""
    path = Path(path)
    try:
        there = path.exists()
    except (OSError, ValueError) as error:  # a name that no file can have, a folder that may not be read
        raise BadData(f"{str(path)!r}: cannot be looked at ({error}). Correct the path.") from error
    if there and not (path.is_file() or path.is_dir()):
        raise BadData(f"{path}: expected a file or a folder, but it is a pipe or a device. Write it to a file first.")
    if there:
        return path
    folder = path.parent
    if not folder.is_dir():
        raise BadData(f"{path}: there is no such file, and no folder {str(folder)!r} either. Correct the path.")
    names = sorted(entry.name for entry in folder.iterdir())
    raise BadData(f"{path}: there is no such file. {among(path.name, names, f'The folder {str(folder)!r} holds')} Correct the path.")


def suffix(path: Path) -> str:
    """The suffix in lower case, with what stands before `.gz`."""
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


def among(name: str, names: Sequence[str], holds: str) -> str:
    """A sentence on the names nearest to a mistaken one, or the first few of them all."""
    lowered = {known.lower(): known for known in names}
    near = [lowered[known] for known in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)]
    if near:
        return f"Closest: {', '.join(map(repr, near))}."
    shown = ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")
    return f"{holds}: {shown or 'nothing'}."


@contextlib.contextmanager
def unreadable(path, kind: str) -> Iterator[None]:
    """Whatever a decoder of `kind` makes of a damaged or foreign file is `BadData`.

    Decoders fail in many ways on damaged bytes (`OSError`, `KeyError`, `zlib.error`, even `MemoryError` for an absurd shape),
    so everything is caught: keep nothing but calls of the decoder inside.
    """
    try:
        yield
    except BadData:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise BadData(f"{path}: expected {kind}, but the file is damaged, cut short, or of another kind "
                      f"({type(error).__name__}: {said}). Fetch or write it again.") from error  # fmt: skip


@contextlib.contextmanager
def hdf5(path: Path) -> Iterator["Columns"]:
    """The arrays of an HDF5 file, checked as they are asked for."""
    import h5py

    with unreadable(path, "an HDF5 file"):
        file = h5py.File(path, "r")
    with file:
        yield Columns(path, file)


class Columns:
    """Arrays of an open HDF5 file: one row per step."""

    def __init__(self, path: Path, file):
        self.path, self.file = path, file
        with unreadable(path, "an HDF5 file"):
            self.names = sorted(self._names(file))

    def _names(self, group, prefix=""):
        for name, entry in group.items():
            yield from self._names(entry, f"{prefix}{name}/") if hasattr(entry, "items") else (prefix + name,)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def get(self, name: str, rows: int | None = None, *, flat: bool = False) -> np.ndarray:
        """The array `name`, numeric, with `rows` rows; with `flat`, one number a row."""
        if name not in self:
            raise BadData(f"{self.path}: there is no array {name!r}. {among(name, self.names, 'The file holds')} "
                          "Is it a file of another kind?")  # fmt: skip
        return checked(self.raw(name), name, self.path, rows, flat=flat)

    def raw(self, name: str) -> np.ndarray:
        """The array or single value `name`, whatever it holds."""
        with unreadable(self.path, f"an HDF5 file with numbers in {name!r}"):
            return np.asarray(self.file[name][()])


def checked(array: np.ndarray, name: str, path, rows: int | None = None, *, flat: bool = False) -> np.ndarray:
    """The array, if it is numeric and has `rows` rows (and one number a row if `flat`)."""
    if array.dtype.kind not in "biuf":
        raise BadData(f"{path}: {name!r} holds {array.dtype} where numbers were expected. Is it a file of another kind?")
    if array.ndim == 0:
        raise BadData(f"{path}: {name!r} is a single value where one row per step was expected. Is it a file of another kind?")
    if rows is not None and len(array) != rows:
        raise BadData(f"{path}: {name!r} has {len(array):,} rows where {rows:,} were expected, one per step. Write the file again.")
    if flat:
        if array.size != len(array):
            raise BadData(f"{path}: {name!r} has shape {array.shape} where one number per step was expected: ({len(array)},).")
        array = array.reshape(-1)
    if array.dtype.kind == "f":
        finite = np.abs(array) <= np.finfo(np.float32).max  # false for NaN too; what is larger cannot be kept in single precision
        if not finite.all():
            row = int(np.argmin(finite.reshape(len(array), -1).all(axis=1)))
            raise BadData(f"{path}: {name!r}, row {row + 1:,}: expected finite numbers (of single precision), found {array[row]}. "
                          "Correct it, or leave that episode out.")  # fmt: skip
    return array


def flags(array: np.ndarray, name: str, path) -> np.ndarray:
    """The array as booleans, if it holds only 0 and 1."""
    if array.dtype != bool and (odd := (array != 0) & (array != 1)).any():
        row = int(np.argmax(odd))
        raise BadData(f"{path}: {name!r}, row {row + 1:,}: expected 0 or 1, found {array[row]}. Correct it.")
    return array.astype(bool)
