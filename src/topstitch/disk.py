"""Files that are whole or not there: atomic writing, and arrays with JSON in one safetensors file, its JSON in the header, a
checksum over both. Loading never runs code. The same contents are the same bytes.
"""

import dataclasses
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from . import __version__


class BadFile(ValueError):
    """A file that is damaged, foreign, or of another kind than what was asked for. Nothing was loaded from it."""


def write_bytes(path: str | os.PathLike, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Whole or not at all: to a temporary file beside it, flushed to the disk, then renamed over the old one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with open(temporary, "xb") as file:
            for piece in [content] if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def plain(x: Any) -> Any:
    """For JSON: NaN and infinities as null."""
    if isinstance(x, dict):
        return {name: plain(value) for name, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def write_json(path: str | os.PathLike, content: Any) -> None:
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


DIGEST = 64
"The letters of a checksum."
BLOCK = 1 << 22
"Bytes of a `Stored` array that are in memory at a time."


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array that lies in a file, and may be larger than memory."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def blocks(self) -> Iterator[bytes]:
        left = self.nbytes
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            while left and (block := file.read(min(left, BLOCK))):
                left -= len(block)
                yield block

    def mapped(self) -> np.ndarray:
        """Read-only; the system reads what is looked at, and may forget it again."""
        if not self.nbytes:  # nothing cannot be mapped
            return np.empty(self.shape, self.dtype)
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def checksum(arrays: "dict[str, np.ndarray] | dict[str, Stored]", content: str) -> str:
    digest = hashlib.sha256(content.encode())
    for name, x in sorted(arrays.items()):
        digest.update(f"{name} {x.dtype.str} {x.shape}".encode())
        for block in x.blocks() if isinstance(x, Stored) else [np.ascontiguousarray(x).data]:
            digest.update(block)
    return digest.hexdigest()


def write(path: str | os.PathLike, kind: str, arrays: dict[str, np.ndarray], content: dict) -> None:
    """Arrays and JSON as one file of a given kind."""
    arrays = {name: np.ascontiguousarray(x).reshape(np.shape(x)) for name, x in arrays.items()}
    text = _text(kind, content)
    write_bytes(path, save(arrays, metadata={"topstitch": checksum(arrays, text) + text}))  # one entry: several come in any order


DTYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip


def write_stored(path: str | os.PathLike, kind: str, arrays: dict[str, Stored], content: dict) -> None:
    """The same of arrays that lie in files, a block at a time. https://github.com/huggingface/safetensors#format"""
    codes, text, at = {dtype: code for code, dtype in DTYPES.items()}, _text(kind, content), 0
    header: dict[str, Any] = {"__metadata__": {"topstitch": checksum(arrays, text) + text}}
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))  # the widest first, so that all are aligned
    for name in order:
        x = arrays[name]
        header[name] = {"dtype": codes[x.dtype.str], "shape": list(x.shape), "data_offsets": [at, at := at + x.nbytes]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    blocks = (block for name in order for block in arrays[name].blocks())
    write_bytes(path, (piece for pieces in ([len(head).to_bytes(8, "little"), head], blocks) for piece in pieces))


def _text(kind: str, content: dict) -> str:
    return json.dumps({"kind": kind, "topstitch": __version__, **content}, allow_nan=False)


def read(path: str | os.PathLike, kind: str, *, mapped: bool = False) -> tuple[dict[str, np.ndarray], dict]:
    """What `write` wrote; raises `BadFile` where the file is not whole, or not of that kind. `mapped` arrays stay on the disk."""
    path = Path(path)
    if not path.is_file():
        raise BadFile(f"There is no file {path}. Expected a {kind} saved by topstitch.")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = _stored(path) if mapped else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        digest, text = metadata.get("topstitch", "")[:DIGEST], metadata.get("topstitch", "")[DIGEST:]
        content = json.loads(text) if text else None
    except (SafetensorError, ValueError, OSError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadFile(f"{path} cannot be read as a {kind}: it is cut short, damaged, or not a topstitch file ({error}).") from None
    if not isinstance(content, dict):
        raise BadFile(f"{path} is a safetensors file, but not one of topstitch's: expected a {kind}.")
    if checksum(arrays, text) != digest:
        raise BadFile(f"{path} is damaged: its contents do not match its checksum. Restore it from a copy, or make it again.")
    if content.get("kind") != kind:
        raise BadFile(f"{path} is a {content.get('kind')}; expected a {kind}.")
    return {name: x.mapped() if isinstance(x, Stored) else x for name, x in arrays.items()}, content


def _stored(path: Path) -> dict[str, Stored]:
    """Where the arrays of a sound safetensors file lie."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    place = lambda x: Stored(path, np.dtype(DTYPES[x["dtype"]]), tuple(x["shape"]), 8 + length + x["data_offsets"][0])
    return {name: place(x) for name, x in header.items()}
