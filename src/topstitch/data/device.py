"""Logged experience on the device, in unit scale. A data type owns how its rows are drawn; algorithms only say how many."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from ..core import Spec, static
from .view import View

Obs = Float[Array, "*n obs"] | Int[Array, "*n"] | UInt8[Array, "*n height width channel"]
Act = Float[Array, "*n act"] | Int[Array, "*n"] | Int[Array, "*n choices"]


class Batch(eqx.Module):
    """Steps. `terminal` is 1 only where the episode truly ended. Masks mark the legal actions of a `Discrete`, or the legal members
    of each choice of a `MultiDiscrete` side by side."""

    obs: Obs
    action: Act
    reward: Float[Array, "*n"]
    terminal: Float[Array, "*n"]
    next_obs: Obs
    mask: Bool[Array, "*n actions"] | None = None
    next_mask: Bool[Array, "*n actions"] | None = None
    next_action: Act | None = None
    "What was done at `next_obs`; anything where the step is terminal."
    returns: Float[Array, "*n"] | None = None
    "The discounted return from this step to the end of its episode."
    duration: Float[Array, "*n"] | None = None
    "How many units of time pass until the next step; `None` is 1."

    def __len__(self):
        return self.reward.shape[0]

    def discount(self, gamma):
        r"""$\gamma^{\Delta t}$, by which what follows each step counts: `gamma` itself where every step takes one unit of time."""
        return gamma if self.duration is None else gamma**self.duration

    def __getitem__(self, index) -> "Batch":
        return jax.tree.map(lambda x: x[index], self)


class Transitions(eqx.Module):
    """The whole log, one row per step."""

    all: Batch
    view: View
    spec: Spec = static()

    def __len__(self):
        return len(self.all)

    def draw(self, n: int, *, key) -> Batch:
        """`n` rows, uniformly and with replacement."""
        return self.all[jax.random.randint(key, (n,), 0, len(self))]

    def rows(self) -> Batch:
        """The whole set, for methods whose batch is everything."""
        return self.all


class Window(eqx.Module):
    """Consecutive steps of one episode. `mask` is 0 on the padding behind its end."""

    obs: Float[Array, "*n time obs"] | Int[Array, "*n time"]
    action: Float[Array, "*n time act"] | Int[Array, "*n time"]
    reward: Float[Array, "*n time"]
    terminal: Float[Array, "*n time"]
    to_go: Float[Array, "*n time"]
    time: Int[Array, "*n time"]
    mask: Float[Array, "*n time"]


class Windows(eqx.Module):
    """Windows of `length` steps that start at a uniformly drawn row and never cross an episode. Gathered on device."""

    flat: Transitions
    to_go: Float[Array, " n"]
    "The return from here to the end of the episode."
    time: Int[Array, " n"]
    stop: Int[Array, " n"]
    "The first row behind the row's episode."
    length: int = static()

    @property
    def spec(self):
        return self.flat.spec

    @property
    def view(self):
        return self.flat.view

    def draw(self, n: int, *, key) -> Window:
        first = jax.random.randint(key, (n,), 0, len(self.flat))
        index = first[:, None] + jnp.arange(self.length)[None]
        inside = index < self.stop[first][:, None]
        index = jnp.where(inside, index, first[:, None])  # padding repeats a row of the same episode; the mask hides it
        rows, mask = self.flat.all, inside.astype(jnp.float32)
        columns = rows.obs, rows.action, rows.reward, rows.terminal, self.to_go, self.time
        return Window(*(column[index] for column in columns), mask)


class Ring(eqx.Module):
    """The last `capacity` rows pushed. All shapes are fixed, so it lives in a compiled state."""

    store: Batch
    at: Int[Array, ""]
    "Where the next row goes."
    size: Int[Array, ""]
    view: View
    spec: Spec = static()

    @classmethod
    def empty(cls, like, capacity: int) -> "Ring":
        """A ring for rows like those that `like` draws."""
        row = jax.eval_shape(lambda: like.draw(1, key=jax.random.key(0)))
        store = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), row)
        return cls(store, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), like.view, like.spec)

    def push(self, rows: Batch, valid: Bool[Array, " n"] | None = None) -> "Ring":
        """Write the rows marked valid, in order; at most `capacity` at a time."""
        capacity = len(self.store)
        valid = jnp.ones(len(rows), bool) if valid is None else valid
        place = jnp.where(valid, (self.at + jnp.cumsum(valid) - 1) % capacity, capacity)  # one past the end is dropped
        store = jax.tree.map(lambda x, new: x.at[place].set(new, mode="drop"), self.store, rows)
        count = valid.sum(dtype=jnp.int32)
        return Ring(store, (self.at + count) % capacity, jnp.minimum(self.size + count, capacity), self.view, self.spec)

    def draw(self, n: int, *, key) -> Batch:
        return self.store[jax.random.randint(key, (n,), 0, jnp.maximum(self.size, 1))]

    def rows(self) -> Batch:
        raise ValueError(GROWING)


GROWING = (
    "This method looks at a whole log, and what is being seen while acting is not one yet. Train it on a log, for example on the replay of a method "
    "that learns by acting (SAC, TD3, DQN, IQL)."
)


class Mixture(eqx.Module):
    """Rows of several sources in fixed shares, with the spec and the view of the first.

    A part whose share rounds to no row is not drawn at all, and the only part left gets the key itself:
    a mixture of one *is* that one.
    """

    parts: tuple
    shares: tuple[float, ...] = static()

    @property
    def spec(self):
        return self.parts[0].spec

    @property
    def view(self):
        return self.parts[0].view

    def draw(self, n: int, *, key) -> Batch:
        ends = [round(n * sum(self.shares[: i + 1])) for i in range(len(self.shares))]
        counts = [b - a for a, b in zip([0, *ends], ends)]
        wanted = [(part, count) for part, count in zip(self.parts, counts) if count]
        if len(wanted) == 1:
            return wanted[0][0].draw(n, key=key)
        drawn = [part.draw(count, key=k) for (part, count), k in zip(wanted, jax.random.split(key, len(wanted)))]
        return jax.tree.map(lambda *rows: jnp.concatenate(rows), *drawn)

    def rows(self) -> Batch:
        raise ValueError(GROWING)
