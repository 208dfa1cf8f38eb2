"""Our own file of a log: every column of `Episodes` as it is, its view and its notes. For caches, shards and handing logs on."""

import dataclasses
import os
from typing import Any

import numpy as np

from ...core import Box, Discrete, Image, MultiDiscrete, Spec
from ...disk import BadFile, read, write
from ..codec import Codec
from ..episodes import BadData, Episodes
from ..view import Affine, View
from . import existing

SPACES = {kind.__name__: kind for kind in (Box, Discrete, MultiDiscrete, Image)}


def write_log(path: str | os.PathLike, log: Episodes) -> None:
    """All of a log in one file, whole or not at all. The same log gives the same bytes. Columns of text and dates are kept as text."""
    arrays = {name: np.asarray(column) for name, column in log.columns().items()} | {"stops": log.stops}
    words = {name: arrays.pop(name).astype(str).tolist() for name, column in list(arrays.items()) if column.dtype.kind in "OUSMm"}
    for name, affine in _views(log.view).items():
        arrays |= {f"view/{name}/shift": np.asarray(affine.shift), f"view/{name}/scale": np.asarray(affine.scale)}
    ids = None
    if log.ids is not None:
        ids = [x.item() if isinstance(x, np.generic) else x for x in log.ids]
    space = lambda kind: [type(kind).__name__, *dataclasses.astuple(kind)]
    spec = {"obs": space(log.spec.obs), "action": space(log.spec.action)}
    header = {"spec": spec, "ids": ids, "source": log.source, "notes": list(log.notes), "words": words}
    write(path, "log", arrays, header | ({} if log.codec is None else {"codec": log.codec.plain()}))


def read_log(path: str | os.PathLike) -> Episodes:
    """What `write_log` wrote. Raises `BadData` where the file is damaged, foreign, or does not hold a sound log."""
    path = existing(path)
    try:
        arrays, content = read(path, "log")
        whole = lambda x: tuple(int(n) for n in x) if isinstance(x, list) else int(x)
        spec = Spec(**{part: SPACES[kind](*map(whole, fields)) for part, (kind, *fields) in content["spec"].items()})
        arrays |= {name: np.asarray(column) for name, column in content.get("words", {}).items()}
        info = {name.removeprefix("info/"): arrays.pop(name) for name in list(arrays) if name.startswith("info/")}
        parts = {name: Affine(arrays.pop(f"view/{name}/shift"), arrays.pop(f"view/{name}/scale")) for name in _seen(arrays)}
        ids, notes = content["ids"], tuple(map(str, content["notes"]))
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


def _views(view: View) -> dict[str, Any]:
    return {name: affine for name in ("obs", "action", "reward") if (affine := getattr(view, name)) is not None}


def _seen(arrays) -> list[str]:
    return [name.split("/")[1] for name in arrays if name.startswith("view/") and name.endswith("/shift")]
