"""Checkpoints and policies on disk, in files of `disk`.

A checkpoint is restored into the structure that its algorithm gives; a policy file carries its own structure and needs
nothing but this package.
"""

import dataclasses
import importlib
import os
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from . import __version__
from .core import Box, Discrete, Image, MultiDiscrete, Policy, Spec
from .disk import BadFile, read, write
from .loop import Fault, Progress, begin, line_up

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


def adopt(path: str | os.PathLike, states) -> dict[str, Any]:
    """What a checkpoint holds, put into `states`: {"states", "alive", "faults"}. What it lacks stays as it is in `states`.

    For going on with other settings than before: where these changed the optimiser, its memory of that part begins anew.
    """
    arrays, content = read(path, "checkpoint")
    leaves, structure = jax.tree_util.tree_flatten_with_path(states)

    def one(place, x):
        held = arrays.get(name := "states" + jax.tree_util.keystr(place))
        if held is None:
            return x
        if held.shape != x.shape or held.dtype != x.dtype:
            raise BadFile(f"{name!r} is {held.dtype}{held.shape} in {path}, but {x.dtype}{x.shape} is needed: the nets are others.")
        return jnp.asarray(held)

    faults = tuple(None if fault is None else Fault(*fault) for fault in content["faults"])
    return {
        "states": jax.tree.unflatten(structure, [one(place, x) for place, x in leaves]),
        "alive": jnp.asarray(arrays["alive"]),
        "faults": faults,
    }


# policies ------------------------------------------------------------------------------------------------------------------

SPACES = (Box, Discrete, MultiDiscrete, Image)
PLAIN = {kind.__name__: kind for kind in (*SPACES, Spec)}
HOLDS = {"Box": int, "Discrete": int, "MultiDiscrete": tuple, "Image": int, "Spec": SPACES}
CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*")


def save_policy(path: str | os.PathLike, policy: Policy, about: dict | None = None) -> None:
    """A policy as one file that `load_policy` understands without data or training code. `about` is kept beside it."""
    arrays = {jax.tree_util.keystr(place): np.asarray(x) for place, x in jax.tree_util.tree_flatten_with_path(policy)[0]}
    write(path, "policy", arrays, {"structure": describe(policy, []), "about": about or {}})


def find_policy(path: str | os.PathLike) -> Path:
    """The file of a policy: itself, or the first in the folder of runs, or the one that a study chose."""
    path = Path(path)
    if not path.is_dir():
        return path
    found = sorted((path / "policy").glob("*.safetensors"), key=lambda p: (len(p.name), p.name))
    if not found and (path / "study.json").is_file():
        raise BadFile(f"The study in {path} chose no policy; its page says why. Those that it trained are the folders in {path / 'runs'}.")
    if not found:
        first = path / "policy" / "0.safetensors"
        raise BadFile(f"The folder {path} holds no policy: expected {first}. Has the run been trained to its end?")
    return found[0]


def policy_about(path: str | os.PathLike) -> dict[str, Any]:
    """What was kept beside a saved policy: how it came to be, and the codec of its log if that was an imported table."""
    about = read(find_policy(path), "policy")[1].get("about")
    return about if isinstance(about, dict) else {}


def load_policy(path: str | os.PathLike, *, trust: tuple[str, ...] = ()) -> Policy:
    """A saved policy: raw observations in, actions of the environment's scale out.

    `path` is the file, or the folder of a run. Only classes of topstitch are built from it; `trust` names further packages
    whose policy classes may be, for algorithms written elsewhere. Raises `BadFile` for anything damaged or foreign.
    """
    path = find_policy(path)
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
