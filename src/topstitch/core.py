"""The contracts. Nothing here knows a single algorithm, and no algorithm knows who calls it."""

import abc
import dataclasses
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

M = TypeVar("M")
S = TypeVar("S")


def static(default=dataclasses.MISSING):
    """A hyperparameter that shapes the program: changing it recompiles, and `vmap` cannot sweep it."""
    return eqx.field(static=True, default=default)


@dataclasses.dataclass(frozen=True)
class Box:
    """Vectors of `size` numbers. To an algorithm every action of a `Box` lies in [-1, 1]; a `View` knows the raw scale."""

    size: int


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0 .. size - 1."""

    size: int


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """Several choices at once: choice j is one of 0 .. sizes[j] - 1. An action is a vector of integers."""

    sizes: tuple[int, ...]

    def __post_init__(self):
        if not self.sizes or not all(isinstance(n, int) and n > 0 for n in self.sizes):
            raise ValueError(f"A MultiDiscrete needs whole numbers above 0, as many as there are choices; got {self.sizes}.")

    @property
    def size(self) -> int:
        """Columns of masks and of one-hot vectors, those of all choices side by side."""
        return sum(self.sizes)


@dataclasses.dataclass(frozen=True)
class Image:
    """Pictures of whole numbers, 0 .. peak, in uint8. `peak` is what nets see as 1: that of a picture of flags is 1."""

    height: int
    width: int
    channels: int
    peak: int = 255


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a network must fit: the space of observations and that of actions. Hashable, hence static in data."""

    obs: Box | Discrete | Image
    action: Box | Discrete | MultiDiscrete


# A goal is an observation. What is asked about an observation and a goal is asked about both together, a member of one space.


def pair(space: Box | Discrete) -> Box | Discrete:
    """The space of an observation together with a goal: vectors side by side, numbered states as a number for each pair."""
    return Box(2 * space.size) if isinstance(space, Box) else Discrete(space.size**2)


def joined(obs, goal, space: Box | Discrete):
    """An observation and a goal of `space`, of any and equal leading axes, as a member of `pair(space)`."""
    return jnp.concatenate([obs, goal], axis=-1) if isinstance(space, Box) else obs * space.size + goal


def parted(both, space: Box | Discrete):
    """(observation, goal): what `joined` joined."""
    return jnp.split(both, 2, axis=-1) if isinstance(space, Box) else divmod(both, space.size)


class Paper(NamedTuple):
    """The source of a method."""

    authors: str
    title: str
    where: str
    year: int
    url: str

    def bibtex(self) -> str:
        """A BibTeX entry, keyed by the first author's family name and the year."""
        first = self.authors.split(",")[0].split(" and ")[0].split()[-1].lower()
        rows = {"author": self.authors, "title": f"{{{self.title}}}", "booktitle": self.where, "year": self.year, "url": self.url}
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in rows.items())
        return f"@inproceedings{{{first}{self.year},\n{body}\n}}"


class Mean(NamedTuple):
    """A metric that was not measured at every step: what was measured, summed, and how often."""

    total: Float[Array, "*runs"]
    count: Float[Array, "*runs"]


Metrics = dict[str, Float[Array, ""] | Mean]


def as_it_is(state, data, **_):
    """The `refresh` and the `finish` of a stage that has none."""
    return state


class Stage(NamedTuple):
    """A phase of learning. The loop calls, at each step, `refresh`, then `sample`, then `update`; at the end `finish`.

    All four are pure and keep the structure of the state, so that one state type lasts for the whole run and a
    checkpoint needs only (state, stage, step). `compiled=False` runs the same body in a Python loop, run by run.
    Stages draw from keys of their own, folded from `name`: adding a stage before another does not disturb it.
    """

    name: str
    steps: int
    update: Callable  # (state, batch, *, step, key) -> (state, metrics)
    sample: Callable  # (state, data, *, key) -> batch
    refresh: Callable = as_it_is  # (state, data, *, step, key) -> state
    finish: Callable = as_it_is  # (state, data, *, key) -> state
    compiled: bool = True


class Algorithm(eqx.Module, Generic[S]):
    """A learning rule: hyperparameters, and pure functions of them.

    Float fields are leaves, so they may be traced, differentiated and swept by `vmap`;
    everything else is declared with `static`.
    """

    paper: ClassVar[Paper]
    actions: ClassVar[tuple[type, ...]]
    "The kinds of action space that the method is defined for."
    observations: ClassVar[tuple[type, ...]] = (Box, Discrete)
    "The kinds of observation that it is defined for."
    passes: ClassVar[tuple[str, ...]] = ()
    "The probes (`topstitch.testing.PROBES`) that it solves."
    fails: ClassVar[tuple[str, ...]] = ()
    "The probes that theory says it cannot solve, and it does not."

    steps: eqx.AbstractVar[int]
    batch_size: eqx.AbstractVar[int]

    def __init_subclass__(cls, **how):
        super().__init_subclass__(**how)
        if cls.__doc__ is None and cls.__module__ != "__main__":  # one file an algorithm: its page is what `help` shows
            cls.__doc__ = sys.modules[cls.__module__].__doc__

    @abc.abstractmethod
    def init(self, data, *, key: PRNGKeyArray) -> S:
        """Everything that learning will carry from step to step, in all of its stages."""

    @abc.abstractmethod
    def update(self, state: S, batch, *, step: Int[Array, ""], key: PRNGKeyArray) -> tuple[S, Metrics]:
        """One step of learning, and what is worth plotting about it."""

    @abc.abstractmethod
    def policy(self, state: S) -> "Policy":
        """What was learned, at any moment of learning; it speaks the units of the data that it learned from."""

    def prepare(self, episodes):
        """The logged episodes as device data. Runs once, on the host, for all runs of a program at once:
        it may read static fields, and floats that do not differ between the runs."""
        return episodes.transitions()

    def sample(self, state: S, data, *, key: PRNGKeyArray):
        """What one update learns from: any pytree. It sees the state because some data is imagined there."""
        return data.draw(self.batch_size, key=key)

    def stages(self) -> tuple[Stage, ...]:
        """The phases of learning, in order. Names, steps and number depend on static fields only."""
        return (Stage("learn", self.steps, self.update, self.sample),)


class Policy(eqx.Module):
    """What evaluation needs and no more. For one environment; `vmap` over `carry, obs, reward, mask, key` for many."""

    def start(self) -> PyTree:
        """The memory at the first step of an episode."""
        return ()

    @abc.abstractmethod
    def act(self, carry: PyTree, obs, reward, *, mask=None, key=None) -> tuple[Any, PyTree]:
        """`reward` is what the last action earned (0 at first). With `key=None` the most likely action."""


class Markov(Policy):
    """A policy that is a conditional distribution over actions: what losses and off-policy evaluation need."""

    @abc.abstractmethod
    def __call__(self, obs, mask=None):
        """The distribution over actions at `obs` (any leading axes). `mask` marks the legal ones of a `Discrete`."""

    def act(self, carry, obs, reward, *, mask=None, key=None):
        actions = self(obs, mask)
        return (actions.mode() if key is None else actions.sample(key)), carry


class Trained(eqx.Module, Generic[M]):
    """A model, every leaf of which is a parameter, and the moments of the optimiser that trains it."""

    model: M
    moments: optax.OptState

    @classmethod
    def start(cls, model: M, optimiser: optax.GradientTransformation) -> "Trained[M]":
        return cls(model, optimiser.init(model))

    def __call__(self, *args):
        return self.model(*args)

    def descend(self, loss, optimiser: optax.GradientTransformation) -> "tuple[Trained[M], Metrics]":
        """One optimiser step on `loss: model -> (scalar, metrics)`; nothing else that `loss` reads is differentiated."""
        grads, metrics = jax.grad(loss, has_aux=True)(self.model)
        updates, moments = optimiser.update(grads, self.moments, self.model)
        return Trained(optax.apply_updates(self.model, updates), moments), metrics  # pyright: ignore[reportReturnType]


def polyak(target: M, online: M, rate) -> M:
    """target + rate * (online - target), leaf by leaf."""
    return jax.tree.map(lambda t, o: t + rate * (o - t), target, online)


def sometimes(when: Bool[Array, ""], change: Callable, state: S) -> tuple[S, Metrics]:
    """`change(state) -> (state, metrics)` where `when` holds, else the state as it is and metrics that count for nothing.

    A real branch: the step is not batched over runs, so what is skipped costs nothing.
    """
    change = jax.jit(change, inline=True)  # traced once for its metrics and its branch
    names = jax.eval_shape(change, state)[1]

    def do(state):
        state, metrics = change(state)
        return state, {name: Mean(value, jnp.ones(())) for name, value in metrics.items()}

    def leave(state):
        return state, {name: Mean(jnp.zeros(()), jnp.zeros(())) for name in names}

    return jax.lax.cond(when, do, leave, state)
