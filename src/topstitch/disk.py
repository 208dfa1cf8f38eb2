"""Files that are whole or not there: atomic writing, and arrays with JSON in one safetensors file, its JSON in the header, a
checksum over both. Loading never runs code. The same contents are the same bytes.
"""

import hashlib
import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from . import __version__


class BadFile(ValueError):
    """A file that is damaged, foreign, or of another kind than what was asked for. Nothing was loaded from it."""


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Whole or not at all: to a temporary file beside it, flushed to the disk, then renamed over the old one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
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


def checksum(arrays: dict[str, np.ndarray], content: str) -> str:
    digest = hashlib.sha256(content.encode())
    for name, x in sorted(arrays.items()):
        digest.update(f"{name} {x.dtype.str} {x.shape}".encode())
        digest.update(np.ascontiguousarray(x).data)
    return digest.hexdigest()


def write(path: str | os.PathLike, kind: str, arrays: dict[str, np.ndarray], content: dict) -> None:
    """Arrays and JSON as one file of a given kind."""
    arrays = {name: np.ascontiguousarray(x).reshape(np.shape(x)) for name, x in arrays.items()}
    text = json.dumps({"kind": kind, "topstitch": __version__, **content}, allow_nan=False)
    write_bytes(path, save(arrays, metadata={"topstitch": checksum(arrays, text) + text}))  # one entry: several come in any order


def read(path: str | os.PathLike, kind: str) -> tuple[dict[str, np.ndarray], dict]:
    """What `write` wrote; raises `BadFile` where the file is not whole, or not of that kind."""
    path = Path(path)
    if not path.is_file():
        raise BadFile(f"There is no file {path}. Expected a {kind} saved by topstitch.")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
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
    return arrays, content
