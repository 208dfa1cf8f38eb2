"""Policies that other projects trained, as plain arrays in an `.npz` file: a ready supply of levels for collecting data.

The array `kind` says how the others make an action a of an observation o. With h = act(W_i h + b_i) for the hidden layers,
μ(h) = W_mu h + b_mu, and ε a standard normal:

* `squashed_gaussian`: a = tanh(μ(h) + exp(clip(W_log_std h + b_log_std, -20, 2)) ε).
* `clipped_gaussian`: a = clip(μ(h) + exp(log_std) ε, ±1), h begins as clip((o - obs_mean) / sqrt(obs_var + obs_eps), ±obs_clip).
* `gaussian_xW`: the same from (o - obs_mean) / (obs_std + 1e-6), with matrices of shape (in, out) instead of (out, in).
* `dapg_…`: a = clip(y out_scale + out_shift + exp(log_std) ε, ±1), where y is the last of the layers W_0, W_1, …, which has no
  activation, and h begins as (o - in_shift) / (in_scale + 1e-8).

All were made for environments whose actions lie in [-1, 1].
"""

import os
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .core import Box, Markov, Spec
from .data import Affine, RawMarkov, View
from .disk import BadFile
from .nets.actors import Squashed
from .nets.distributions import Normal
from .nets.mlp import ACTIVATIONS, MLP, Linear

Layer = tuple[np.ndarray, np.ndarray]
"(weight (in, out), bias (out,))."


class Gaussian(Markov):
    """obs -> Normal: its mean a network of the observation clipped to ±`most`, its std one number per dimension."""

    net: MLP
    log_std: Float[Array, " act"]
    most: Float[Array, ""]

    def __call__(self, obs, mask=None):
        mean = self.net(jnp.clip(obs, -self.most, self.most))
        return Normal(mean, jnp.broadcast_to(self.log_std, mean.shape))


def read_npz_policy(path: str | os.PathLike) -> RawMarkov:
    """The policy of an `.npz` file of one of the kinds above: raw observations in, actions in [-1, 1] out.

    Nothing in the file is run. `BadFile` names what is missing, of another shape, or unknown.
    """
    file = File(path)
    if file.kind == "squashed_gaussian":
        return _squashed(file)
    if file.kind == "clipped_gaussian":
        return _gaussian(file, "obs_mean", lambda size: np.sqrt(file.vector("obs_var", size) + file.vector("obs_eps", 1)), "obs_clip")
    if file.kind == "gaussian_xW":
        return _gaussian(file, "obs_mean", lambda size: file.vector("obs_std", size) + 1e-6)
    if file.kind.startswith("dapg_"):
        return _gaussian(file, "in_shift", lambda size: file.vector("in_scale", size) + 1e-8)
    raise BadFile(
        f"{path}: a policy of kind {file.kind!r} is not known. Known are: squashed_gaussian, clipped_gaussian, gaussian_xW, dapg_…."
    )


def _squashed(file: "File") -> RawMarkov:
    hidden = file.layers()
    width = hidden[-1][1].size
    (w, b), (v, c) = file.layer("W_mu", "b_mu", width), file.layer("W_log_std", "b_log_std", width)
    if b.size != c.size:
        raise BadFile(f"{file.path}: b_mu has {b.size} numbers, but b_log_std has {c.size}. Each has one per dimension of the action.")
    spec = Spec(Box(hidden[0][0].shape[0]), Box(b.size))
    blank = eqx.filter_eval_shape(Squashed, spec, tuple(b.size for _, b in hidden), key=jax.random.key(0))
    net = _net([*hidden, (np.concatenate([w, v], axis=1), np.concatenate([b, c]))], file.activation)
    return RawMarkov(eqx.tree_at(lambda policy: policy.net, blank, net), View(), spec)


def _gaussian(file: "File", shift: str, scale, most: str | None = None) -> RawMarkov:
    layers = file.layers()
    seen = layers[0][0].shape[0]
    if file.kind.startswith("dapg_"):  # the last layer is the mean, and its scale and shift are one more linear map
        w, b = layers[-1]
        by = file.vector("out_scale", b.size)
        layers[-1] = (w * by, b * by + file.vector("out_shift", b.size))
    else:
        layers.append(file.layer("W_mu", "b_mu", layers[-1][1].size))
    size = layers[-1][1].size
    if not ((scale := scale(seen)) > 0).all():
        raise BadFile(
            f"{file.path}: column {int(np.argmin(scale > 0))} of the observation would be divided by a number that is not above 0."
        )
    limit = np.inf if most is None else file.vector(most, 1)[0]
    inner = Gaussian(_net(layers, file.activation), _single(file.vector("log_std", size)), _single(limit))
    return RawMarkov(inner, View(obs=Affine(_single(file.vector(shift, seen)), _single(scale))), Spec(Box(seen), Box(size)))


def _single(x) -> Array:
    return jnp.asarray(x, jnp.float32)


def _net(layers: list[Layer], activation: str) -> MLP:
    sizes = (layers[0][0].shape[0], *(b.size for _, b in layers))
    blank = eqx.filter_eval_shape(MLP, sizes, key=jax.random.key(0), activation=activation)  # its shape, without drawing weights
    return eqx.tree_at(lambda net: net.layers, blank, tuple(Linear(_single(w), _single(b)) for w, b in layers))


class File:
    """The arrays of an `.npz` file, checked as they are asked for."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise BadFile(f"There is no file {path}. Expected an .npz file of a policy.")
        try:
            with self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                self.arrays = {name: file[name] for name in file.files}
        except Exception as error:  # damaged archives fail in many ways
            raise BadFile(f"{path} cannot be read as an .npz file of plain arrays: it is cut short, damaged, or of another kind "
                          f"({type(error).__name__}: {error}).") from None  # fmt: skip
        self.kind, self.activation = self.word("kind"), self.word("activation")
        if self.activation not in ACTIVATIONS:
            raise BadFile(f"{path}: the activation {self.activation!r} is not known. Known are: {', '.join(ACTIVATIONS)}.")

    def array(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise BadFile(f"{self.path} has no array {name!r}. It holds: {', '.join(sorted(self.arrays)) or 'nothing'}.")
        return self.arrays[name]

    def word(self, name: str) -> str:
        value = self.array(name)
        if value.size != 1 or value.dtype.kind != "U":
            raise BadFile(f"{self.path}: {name!r} must be one word, but it is an array of {value.dtype} and shape {value.shape}.")
        return str(value.reshape(-1)[0])

    def numbers(self, name: str) -> np.ndarray:
        value = self.array(name)
        if value.dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise BadFile(f"{self.path}: {name!r} must hold finite numbers.")
        return value.astype(np.float64)

    def vector(self, name: str, size: int) -> np.ndarray:
        value = self.numbers(name)
        if value.size != size:
            raise BadFile(f"{self.path}: {name!r} must hold {size} numbers, but its shape is {value.shape}.")
        return value.reshape(-1)

    def layer(self, weight: str, bias: str, inputs: int | None = None) -> Layer:
        w, b = self.numbers(weight), self.numbers(bias).reshape(-1)
        w = w if self.kind == "gaussian_xW" else w.T
        if w.ndim != 2 or w.shape[1] != b.size or w.shape[0] != (inputs or w.shape[0]):
            needed = f"{'' if inputs is None else f'{inputs} inputs and '}{b.size} outputs"
            raise BadFile(f"{self.path}: {weight!r} has shape {self.array(weight).shape}, which is no matrix of {needed}.")
        return w, b

    def layers(self) -> list[Layer]:
        """W0, W1, …, at least one."""
        found = [self.layer("W0", "b0")]
        for i in range(1, sum(re.fullmatch(r"W\d+", name) is not None for name in self.arrays)):
            found.append(self.layer(f"W{i}", f"b{i}", found[-1][1].size))
        return found
