"""Our own file of a log: every column of `Episodes` as it is, its view and its notes. For caches, shards and handing logs on."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...core import Box, Discrete, Image, MultiDiscrete, Spec
from ...disk import BadFile, Stored, read, write, write_stored
from ..codec import Codec
from ..episodes import BadData, Episodes
from ..view import Affine, View
from . import existing

SPACES = {kind.__name__: kind for kind in (Box, Discrete, MultiDiscrete, Image)}


def write_log(path: str | os.PathLike, log: Episodes) -> None:
    """All of a log in one file, whole or not at all. The same log gives the same bytes. Columns of text and dates are kept as text."""
    arrays = {name: np.asarray(column) for name, column in log.columns().items()} | {"stops": log.stops}
    words = {name: arrays.pop(name).astype(str).tolist() for name, column in list(arrays.items()) if column.dtype.kind in "OUSMm"}
    arrays |= _views(log.view)
    ids = None
    if log.ids is not None:
        ids = [x.item() if isinstance(x, np.generic) else x for x in log.ids]
    write(path, "log", arrays, _header(log) | {"ids": ids, "words": words})


def _header(log: Episodes) -> dict[str, Any]:
    space = lambda kind: [type(kind).__name__, *dataclasses.astuple(kind)]
    spec = {"obs": space(log.spec.obs), "action": space(log.spec.action)}
    header = {"spec": spec, "source": log.source, "notes": list(log.notes)}
    return header if log.codec is None else header | {"codec": log.codec.plain()}


class LogWriter:
    """The same file for a log that is larger than memory, whole episodes at a time.

    Columns grow in files of their own in `folder` until `finish` puts them together. Texts and the names of episodes, which `write_log`
    keeps in the header, are columns here too.
    """

    def __init__(self, folder: Path):
        self.folder, self.first, self.steps = folder, None, 0
        self.files: dict[str, Stored] = {}

    def append(self, log: Episodes) -> None:
        """The next episodes, of the same spaces and columns as the first."""
        self.first = self.first or log.take([0])
        columns = log.columns() | {"stops": log.stops + self.steps} | ({} if log.ids is None else {"ids": log.ids})
        for name, column in columns.items():
            if column.dtype.kind not in "OUSMm":
                self._write(name, column)
                continue
            texts = [text.encode() for text in column.astype(str).tolist()]
            self._write(f"text/{name}/bytes", np.frombuffer(b"".join(texts), np.uint8))
            self._write(f"text/{name}/lengths", np.array([len(text) for text in texts], np.int32))
        self.steps += log.steps

    def _write(self, name: str, column: np.ndarray) -> None:
        before = self.files.get(name) or Stored(self.folder / f"{len(self.files)}.column", column.dtype, (0, *column.shape[1:]))
        if (before.dtype, before.shape[1:]) != (column.dtype, column.shape[1:]):
            raise ValueError(f"{name!r} is {column.dtype}{column.shape[1:]} here, but was {before.dtype}{before.shape[1:]} before.")
        with open(before.path, "ab") as file:
            np.ascontiguousarray(column).tofile(file)
        self.files[name] = dataclasses.replace(before, shape=(before.shape[0] + len(column), *column.shape[1:]))

    def finish(self, path: str | os.PathLike, **change) -> None:
        """All of it in one file; `change` replaces fields such as `source`, `notes` and `codec`."""
        if self.first is None:
            raise BadData(f"{path}: expected at least one episode, but there is none.")
        for name, x in _views(self.first.view).items():
            self.files[name] = Stored(self.folder / f"{len(self.files)}.column", x.dtype, x.shape)
            x.tofile(self.files[name].path)
        write_stored(path, "log", self.files, _header(dataclasses.replace(self.first, **change)))


def read_log(path: str | os.PathLike, *, mapped: bool = False) -> Episodes:
    """What `write_log` or `LogWriter` wrote. Raises `BadData` where the file is damaged, foreign, or does not hold a sound log.

    `mapped` columns of numbers stay on the disk and are read where they are looked at.
    """
    path = existing(path)
    try:
        arrays, content = read(path, "log", mapped=mapped)
        whole = lambda x: tuple(int(n) for n in x) if isinstance(x, list) else int(x)
        spec = Spec(**{part: SPACES[kind](*map(whole, fields)) for part, (kind, *fields) in content["spec"].items()})
        arrays |= {name: np.asarray(column) for name, column in content.get("words", {}).items()}
        for name in [name.split("/", 1)[1].rsplit("/", 1)[0] for name in arrays if name.startswith("text/") and name.endswith("/bytes")]:
            arrays[name] = _texts(arrays.pop(f"text/{name}/bytes"), arrays.pop(f"text/{name}/lengths"))
        info = {name.removeprefix("info/"): arrays.pop(name) for name in list(arrays) if name.startswith("info/")}
        parts = {name: Affine(arrays.pop(f"view/{name}/shift"), arrays.pop(f"view/{name}/scale")) for name in _seen(arrays)}
        ids, notes = arrays.pop("ids", content.get("ids")), tuple(map(str, content["notes"]))
        codec = None if content.get("codec") is None else Codec.of(content["codec"])
        known = {field.name for field in dataclasses.fields(Episodes)}
        if unknown := set(arrays) - known:
            raise BadFile(f"{path} has columns that a log does not have: {sorted(unknown)}.")
        return Episodes(
            spec, **arrays, ids=None if ids is None else np.asarray(ids), info=info, view=View(**parts), source=str(content["source"]), notes=notes, codec=codec
        )  # fmt: skip
    except (BadFile, KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadData):
            raise
        said = str(error) if isinstance(error, BadFile) else f"{path} is not a log of this version of topstitch ({error!r})."
        raise BadData(f"{said} Make it again.") from None


def _texts(packed: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Texts that lie one behind the other in bytes."""
    whole, stops = packed.tobytes(), np.cumsum(lengths, dtype=np.int64)
    if (lengths < 0).any() or len(whole) != (stops[-1] if len(stops) else 0):
        raise ValueError("texts whose lengths do not fit their bytes")
    return np.asarray([whole[stop - length : stop].decode() for stop, length in zip(stops.tolist(), lengths.tolist())], dtype=str)


def _views(view: View) -> dict[str, np.ndarray]:
    scales = {name: affine for name in ("obs", "action", "reward") if (affine := getattr(view, name)) is not None}
    return {f"view/{name}/{part}": np.asarray(getattr(affine, part)) for name, affine in scales.items() for part in ("shift", "scale")}


def _seen(arrays) -> list[str]:
    return [name.split("/")[1] for name in arrays if name.startswith("view/") and name.endswith("/shift")]
