"""Arrays and structure on disk: one safetensors file, its JSON in the header, a checksum over both. Loading never runs code.
The same contents are the same bytes.

A checkpoint is restored into the structure that its algorithm gives; a policy file carries its own structure and needs
nothing but this package.
"""

import dataclasses
import hashlib
import importlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from . import __version__
from .core import Box, Discrete, Policy, Spec
from .loop import Fault, Progress, begin, line_up


class BadFile(ValueError):
    """A file that is damaged, foreign, or of another kind than what was asked for. Nothing was loaded from it."""


# files -------------------------------------------------------------------------------------------------------------------


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Whole or not at all: to a temporary file beside it, flushed to the disk, then renamed over the old one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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


# checkpoints ---------------------------------------------------------------------------------------------------------------


def save_checkpoint(path: str | os.PathLike, now: Progress, config: str = "") -> None:
    """All of a `Progress`. `config` is any text that must be the same when it is loaded."""
    arrays = {"alive": np.asarray(now.alive)}
    for place, x in jax.tree_util.tree_flatten_with_path(now.states)[0]:
        arrays["states" + jax.tree_util.keystr(place)] = np.asarray(x)
    faults = [None if fault is None else list(fault) for fault in now.faults]
    write(path, "checkpoint", arrays, {"stage": now.stage, "step": now.step, "faults": faults, "config": config})


def load_checkpoint(path: str | os.PathLike, runs, data, config: str = "") -> Progress:
    """The structure comes from the algorithm, traced and not run; names and numbers from the file."""
    arrays, content = read(path, "checkpoint")
    if content.get("config") != config:
        raise BadFile(f"{path} belongs to another configuration: it was written for {content.get('config')!r}, not for {config!r}.")
    algos, keys = line_up(runs)
    leaves, structure = jax.tree_util.tree_flatten_with_path(jax.eval_shape(begin, algos, data, keys))

    def one(place, x):
        name = "states" + jax.tree_util.keystr(place)
        if name not in arrays:
            raise BadFile(f"{path} has no {name!r}: it was written by another algorithm or version.")
        if arrays[name].shape != x.shape or arrays[name].dtype != x.dtype:
            found, needed = f"{arrays[name].dtype}{arrays[name].shape}", f"{x.dtype}{x.shape}"
            raise BadFile(f"{name!r} is {found} in {path}, but this algorithm and data need {needed}.")
        return jnp.asarray(arrays[name])

    states = jax.tree.unflatten(structure, [one(place, x) for place, x in leaves])
    try:
        faults = tuple(None if fault is None else Fault(*fault) for fault in content["faults"])
        stage, step, alive = int(content["stage"]), int(content["step"]), arrays["alive"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(f"{path} does not say where training stood: {error!r}.") from None
    if alive.shape != (len(runs),) or alive.dtype != bool or len(faults) != len(runs):
        raise BadFile(f"{path} was written for {len(faults)} runs, not for {len(runs)}.")
    return Progress(stage, step, states, jnp.asarray(alive), faults)


# policies ------------------------------------------------------------------------------------------------------------------

PLAIN = {kind.__name__: kind for kind in (Box, Discrete, Spec)}
HOLDS = {"Box": int, "Discrete": int, "Spec": (Box, Discrete)}
CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*")


def save_policy(path: str | os.PathLike, policy: Policy, about: dict | None = None) -> None:
    """A policy as one file that `load_policy` understands without data or training code. `about` is kept beside it."""
    arrays = {jax.tree_util.keystr(place): np.asarray(x) for place, x in jax.tree_util.tree_flatten_with_path(policy)[0]}
    write(path, "policy", arrays, {"structure": describe(policy, []), "about": about or {}})


def load_policy(path: str | os.PathLike, *, trust: tuple[str, ...] = ()) -> Policy:
    """A saved policy: raw observations in, actions of the environment's scale out.

    `path` is the file, or the folder of a run. Only classes of topstitch are built from it; `trust` names further packages
    whose policy classes may be, for algorithms written elsewhere. Raises `BadFile` for anything damaged or foreign.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted((path / "policy").glob("*.safetensors"), key=lambda p: (len(p.name), p.name))
        if not found:
            first = path / "policy" / "0.safetensors"
            raise BadFile(f"The folder {path} holds no policy: expected {first}. Has the run been trained to its end?")
        path = found[0]
    arrays, content = read(path, "policy")
    try:
        policy = rebuild(content["structure"], arrays, (__package__ or "topstitch", *trust))
    except BadFile as error:
        raise BadFile(f"{path} cannot be loaded. {error}") from None
    except (KeyError, TypeError, AttributeError, ImportError, IndexError, ValueError, RecursionError) as error:
        raise BadFile(f"{path} describes a policy that this version of topstitch ({__version__}) cannot build: {error!r}.") from None
    if not isinstance(policy, Policy):
        raise BadFile(f"{path} holds a {type(policy).__name__}, which is not a policy.")
    return policy


def describe(node, path: list) -> Any:
    """The structure of a module as JSON; its arrays are named by their paths."""
    if isinstance(node, eqx.Module):
        if "." in type(node).__qualname__:
            raise TypeError(f"{type(node).__qualname__} is defined inside a function or a class, where nobody who loads the file "
                            "can find it. Define it at the top of its module.")  # fmt: skip
        fields = {f.name: describe(getattr(node, f.name), [*path, f".{f.name}"]) for f in dataclasses.fields(node)}
        return {"module": f"{type(node).__module__}:{type(node).__qualname__}", "fields": fields}
    if type(node) in PLAIN.values():
        return {"plain": type(node).__name__, "fields": {f.name: describe(getattr(node, f.name), []) for f in dataclasses.fields(node)}}
    if isinstance(node, (jax.Array, np.ndarray, np.generic)):
        return {"array": "".join(path)}
    if isinstance(node, tuple):
        return {"tuple": [describe(x, [*path, f"[{i}]"]) for i, x in enumerate(node)]}
    if node is None or isinstance(node, (bool, int, float, str)):
        return {"value": node}
    raise TypeError(f"A policy cannot hold a {type(node).__name__} ({''.join(path)}): only modules, arrays, tuples, numbers and text.")


def rebuild(node: Any, arrays: dict[str, np.ndarray], trusted: tuple[str, ...]) -> Any:
    """What `describe` described. Classes come from trusted packages only, and no constructor is called."""
    if not isinstance(node, dict):
        raise TypeError(f"a {type(node).__name__} where a part of a policy should be")
    if "module" in node:
        place = node["module"]
        if not CLASS.fullmatch(place) or place.split(":")[0].split(".")[0] not in trusted:
            raise BadFile(f"The file asks for the class {place!r}, which is not topstitch's. Pass its package in `trust` if you trust it.")
        module, name = place.split(":")
        kind = getattr(importlib.import_module(module), name)
        if not (isinstance(kind, type) and issubclass(kind, eqx.Module)):
            raise BadFile(f"The file asks for {place!r}, which is not a module.")
        if (given := set(node["fields"])) != (known := {f.name for f in dataclasses.fields(kind)}):
            raise BadFile(f"{place} has the fields {sorted(known)} in this version of topstitch, but {sorted(given)} in the file.")
        made = object.__new__(kind)
        for name, field in node["fields"].items():
            object.__setattr__(made, name, rebuild(field, arrays, trusted))
        return made
    if "plain" in node:
        parts = {name: rebuild(field, arrays, trusted) for name, field in node["fields"].items()}
        if not all(isinstance(part, HOLDS[node["plain"]]) for part in parts.values()):
            raise TypeError(f"a {node['plain']} of {parts}")
        return PLAIN[node["plain"]](**parts)
    if "array" in node:
        return jnp.asarray(arrays[node["array"]])
    if "tuple" in node:
        return tuple(rebuild(x, arrays, trusted) for x in node["tuple"])
    if not (node["value"] is None or isinstance(node["value"], (bool, int, float, str))):
        raise TypeError(f"a {type(node['value']).__name__} is no plain value")
    return node["value"]
