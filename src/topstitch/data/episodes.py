"""What was logged: columns on the host, in raw units, episodes one after another."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..core import Box, Discrete, Image, MultiDiscrete, Policy, Spec
from .codec import Codec
from .device import Batch, Transitions, Windows
from .view import Affine, View


class BadData(ValueError):
    """Data that cannot be used as it is. The message says where, what was expected, what came, and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class Episodes:
    """Logged decisions. Row i of every column is one step; episode k is rows `starts[k]` to `stops[k]`.

    An episode ends in a `terminal` step (it truly ended: nothing follows) or is `truncated` (the log stops, the world goes
    on: the value of `next_obs` still counts). Everything is in raw units; `view` says how algorithms will see it.
    Made by the readers (`topstitch.read`) or from arrays by `Episodes.of`.
    """

    spec: Spec
    obs: np.ndarray
    "(n, size) float32, (n,) int32 for a `Discrete`, (n, height, width, channels) uint8."
    action: np.ndarray
    "(n, size) float32, (n,) int32, or (n, choices) int32 for a `MultiDiscrete`."
    reward: np.ndarray
    "(n,) float32: what the action of the same row earned."
    terminal: np.ndarray
    "(n,) bool."
    next_obs: np.ndarray
    "As `obs`; where `terminal`, a value that is never used."
    stops: np.ndarray
    "(episodes,) int64: the first row behind each episode."
    mask: np.ndarray | None = None
    "(n, actions) bool: the actions that were allowed; for a `MultiDiscrete` the members of each choice, side by side."
    next_mask: np.ndarray | None = None
    log_prob: np.ndarray | None = None
    "(n,) float32: log-probability (for a `Box`, log-density per raw unit) with which the logger took `action`."
    time: np.ndarray | None = None
    "(n,): when, strictly increasing within an episode."
    duration: np.ndarray | None = None
    "(n,) float32, above 0: how many units of time passed from this step to the next; discounts are per unit. `None` is 1."
    ids: np.ndarray | None = None
    "(episodes,): their names in the source."
    info: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    "Further columns of n rows that travel along."
    view: View = dataclasses.field(default_factory=View)
    source: str = "arrays"
    notes: tuple[str, ...] = ()
    "What the reader did that its user should know."
    codec: Codec | None = None
    "Of an imported table: what its columns and the members of its actions are called, and how they were encoded."

    def __post_init__(self):
        n = len(self.reward)
        if n == 0 or len(self.stops) == 0:
            raise BadData(f"{self.source}: expected at least one episode of at least one step, but there is none.")
        for name, column in self.columns().items():
            if len(column) != n:
                raise BadData(
                    f"{self.source}: column {name!r} has {len(column):,} rows where 'reward' has {n:,}. Give columns of one length."
                )
            if np.issubdtype(column.dtype, np.floating) and not _finite(column):
                row = int(np.argmin(np.isfinite(column).reshape(n, -1).all(axis=1)))
                raise BadData(f"{self.source}: column {name!r} is not a finite number in row {row:,} ({column[row]}). "
                              "Correct it, or leave that episode out.")  # fmt: skip
        if self.duration is not None and (self.duration <= 0).any():
            row = int(np.argmax(self.duration <= 0))
            raise BadData(f"{self.source}: the step in row {row:,} takes {self.duration[row]} units of time; expected more than 0. "
                          "Correct it, or leave that episode out.")  # fmt: skip
        if (np.diff(self.stops, prepend=0) <= 0).any() or self.stops[-1] != n:
            raise BadData(f"{self.source}: 'stops' must increase from above 0 to the number of rows, {n:,}. Every episode needs a step.")
        inner = self.terminal.copy()
        inner[self.stops - 1] = False
        if inner.any():
            row = int(np.argmax(inner))
            raise BadData(f"{self.source}: row {row:,} is terminal, but its episode goes on in row {row + 1:,}. "
                          "Start a new episode there, or unmark the row.")  # fmt: skip
        if isinstance(self.spec.action, (Discrete, MultiDiscrete)):
            sizes = choices(self.spec.action)
            done, bound = self.action.reshape(n, -1), np.array(sizes)
            if done.shape[1] != len(sizes):
                raise BadData(f"{self.source}: actions have {done.shape[1]} columns where {self.spec.action} has {len(sizes)} choices.")
            outside = ((done < 0) | (done >= bound)).any(axis=1)
            if outside.any():
                row = int(np.argmax(outside))
                raise BadData(f"{self.source}: action {self.action[row]} in row {row:,} is outside the declared set "
                              f"0 … {', 0 … '.join(str(size - 1) for size in sizes)}. Declare more actions, or correct the row.")  # fmt: skip
            first = np.cumsum(sizes) - sizes  # the column of each choice's first member
            for name, mask in (("mask", self.mask), ("next_mask", self.next_mask)):
                if mask is not None and not (some := np.logical_or.reduceat(mask, first, axis=1).all(axis=1)).all():
                    raise BadData(f"{self.source}: {name!r} forbids every action in row {int(np.argmin(some)):,}. Allow at least one.")
            if self.mask is not None and not (legal := np.take_along_axis(self.mask, done + first, axis=1).all(axis=1)).all():
                row = int(np.argmin(legal))
                raise BadData(f"{self.source}: action {self.action[row]} was taken in row {row:,}, where its mask forbids it. "
                              "Correct the mask: what was done was possible.")  # fmt: skip
        if self.codec is not None:
            sizes = (self.spec.obs.size if isinstance(self.spec.obs, Box) else 1,
                     len(self.spec.action.sizes) if isinstance(self.spec.action, MultiDiscrete) else self.spec.action.size)  # fmt: skip
            if (named := (len(self.codec.obs_names), len(self.codec.action_names))) != sizes:
                raise BadData(f"{self.source}: the codec names {named[0]} dimensions of observations and {named[1]} of actions where "
                              f"the log has {sizes[0]} and {sizes[1]}. Import the table again.")  # fmt: skip

    # shape ----------------------------------------------------------------------------------------------------------

    def columns(self) -> dict[str, np.ndarray]:
        """Every column with one row per step, by name."""
        names = ("obs", "action", "reward", "terminal", "next_obs", "mask", "next_mask", "log_prob", "time", "duration")
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return own | {f"info/{name}": column for name, column in self.info.items()}

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.stops)

    @property
    def steps(self) -> int:
        return len(self.reward)

    @property
    def obs_names(self) -> tuple[str, ...]:
        """One for each dimension of a vector; ("state",) for a `Discrete`, ("picture",) for an `Image`."""
        if self.codec is not None:
            return self.codec.obs_names
        if isinstance(self.spec.obs, Box):
            return tuple(f"obs_{j}" for j in range(self.spec.obs.size))
        return ("state",) if isinstance(self.spec.obs, Discrete) else ("picture",)

    @property
    def action_names(self) -> tuple[str, ...]:
        """One for each member of a `Discrete`, else one for each dimension or choice."""
        if self.codec is not None:
            return self.codec.action_names
        space = self.spec.action
        if isinstance(space, Discrete):
            return tuple(map(str, range(space.size)))
        return tuple(f"action_{j}" for j in range(len(space.sizes) if isinstance(space, MultiDiscrete) else space.size))

    @property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], self.stops[:-1]])

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.stops, prepend=0)

    @property
    def truncated(self) -> np.ndarray:
        """(n,) bool: the last step of each episode that the log cut off."""
        ends = np.zeros(self.steps, bool)
        ends[self.stops - 1] = True
        return ends & ~self.terminal

    def discount(self, gamma: float) -> np.ndarray:
        """(n,) float64: γ^Δt, by which what follows each step counts; γ where every step takes one unit of time."""
        return np.full(self.steps, gamma) if self.duration is None else gamma ** self.duration.astype(np.float64)

    def to_go(self, discount: float = 1.0) -> np.ndarray:
        """(n,) float64: the discounted sum of logged rewards from each step to the end of its episode."""
        out, rate = np.array(self.reward, np.float64), self.discount(discount)
        rows, lengths = self.stops - 1, self.lengths
        for back in range(1, int(lengths.max())):  # from the ends backwards, all episodes at once
            rows, lengths = rows[lengths > back] - 1, lengths[lengths > back]
            out[rows] += rate[rows] * out[rows + 1]
        return out

    def returns(self, discount: float = 1.0) -> np.ndarray:
        """(episodes,) float64: the discounted return of each episode."""
        return self.to_go(discount)[self.starts]

    def __repr__(self):
        return f"Episodes({len(self):,} episodes, {self.steps:,} steps, {self.spec}, source={self.source!r})"

    def fingerprint(self) -> str:
        """A hash of everything that learning can see, columns, episode bounds, spaces and view, and of the codec, which policies keep."""
        digest = hashlib.sha256(repr(self.spec).encode())
        scales = [s for a in (self.view.obs, self.view.action, self.view.reward) if a is not None for s in (a.shift, a.scale)]
        for name, column in [*self.columns().items(), ("stops", self.stops), *((f"view{i}", s) for i, s in enumerate(scales))]:
            column = np.ascontiguousarray(column)
            digest.update(f"{name} {column.dtype.str} {column.shape}".encode())
            digest.update(column.view(np.uint8) if column.dtype != object else repr(column.tolist()).encode())
        if self.codec is not None:
            digest.update(repr(self.codec).encode())
        return digest.hexdigest()[:16]

    # parts ----------------------------------------------------------------------------------------------------------

    def take(self, which: Sequence[int] | np.ndarray) -> "Episodes":
        """These episodes, in this order."""
        which = np.asarray(which)
        lengths = self.lengths[which]
        stops = np.cumsum(lengths)
        rows = np.arange(stops[-1] if len(stops) else 0) + np.repeat(self.starts[which] - (stops - lengths), lengths)
        picked = {name: column[rows] for name, column in self.columns().items() if not name.startswith("info/")}
        info = {name: column[rows] for name, column in self.info.items()}
        ids = None if self.ids is None else self.ids[which]
        return dataclasses.replace(self, **picked, stops=stops, ids=ids, info=info)

    def split(self, share: float, *, seed: int = 0) -> "tuple[Episodes, Episodes]":
        """Episodes dealt at random into two: (the rest, `share` of them). Steps of one episode stay together."""
        held = round(share * len(self))
        if not 0 < held < len(self):
            raise BadData(f"{self.source}: a share of {share} of {len(self)} episodes leaves one side empty. "
                          "Choose a share between 0 and 1 that gives each side an episode.")  # fmt: skip
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))

    @classmethod
    def join(cls, *logs: "Episodes", source: str | None = None) -> "Episodes":
        """One log after another. They must be of the same spaces, seen the same way, and hold the same columns.

        Episodes keep their `ids` where all logs have them and none comes twice; else they are numbered anew.
        """
        first, where = logs[0], source or " + ".join(dict.fromkeys(log.source for log in logs))
        for log in logs[1:]:
            for what, a, b in (
                ("spaces", first.spec, log.spec),
                ("columns", sorted(first.columns()), sorted(log.columns())),
                ("words", first.codec, log.codec),
                ("view", [np.asarray(x).tolist() for x in jax.tree.leaves(first.view)], [np.asarray(x).tolist() for x in jax.tree.leaves(log.view)]),
            ):  # fmt: skip
                if a != b:
                    raise BadData(f"{where}: logs to be joined must have the same {what}, but {first.source} has {a} and {log.source} has {b}. "
                                  "Read them with the same roles and bounds, and normalise after joining.")  # fmt: skip
        columns = {name: np.concatenate([log.columns()[name] for log in logs]) for name in first.columns()}
        info = {name.removeprefix("info/"): columns.pop(name) for name in list(columns) if name.startswith("info/")}
        before = np.cumsum([0, *(log.steps for log in logs[:-1])])
        ids = None
        if all(log.ids is not None for log in logs):
            ids = np.concatenate([log.ids for log in logs])
            ids = ids if len(np.unique(ids)) == len(ids) else None
        notes = tuple(dict.fromkeys(note for log in logs for note in log.notes))
        return dataclasses.replace(
            first, **columns, stops=np.concatenate([log.stops + start for log, start in zip(logs, before)]), ids=ids, info=info, source=where, notes=notes
        )  # fmt: skip

    def head(self, steps: int) -> "Episodes":
        """The first `steps` steps. An episode that is cut there counts as truncated: what came next is still known."""
        if steps >= self.steps:
            return self
        whole = int(np.searchsorted(self.stops, steps))  # episodes that end before the cut, which falls into the next
        columns = {name: column[:steps] for name, column in self.columns().items()}
        info = {name.removeprefix("info/"): columns.pop(name) for name in list(columns) if name.startswith("info/")}
        ids = None if self.ids is None else self.ids[: whole + 1]
        return dataclasses.replace(self, **columns, stops=np.append(self.stops[:whole], steps), ids=ids, info=info)

    # views ----------------------------------------------------------------------------------------------------------

    def normalised(
        self, *, obs: Literal["standard", "none"] = "standard", reward: Literal["standard", "range", "none"] = "none"
    ) -> "Episodes":
        """The same log, to be seen in other units: `obs` with mean 0 and std 1 per dimension (std + 1e-3, as in TD3+BC; numbers of states
        and pictures stay as they are), `reward` likewise or, by `"range"`, times 1000 / (best - worst return) (as in IQL on locomotion).

        Saved policies undo it: they always take raw observations. Use `viewed` to see held-out episodes the same way.
        """
        seen = None
        if obs == "standard" and isinstance(self.spec.obs, Box):
            mean, std = self.obs.mean(axis=0, dtype=np.float64), self.obs.std(axis=0, dtype=np.float64)
            seen = Affine(np.float32(mean), np.float32(std + 1e-3))
        earned = None
        if reward == "standard":
            mean, std = self.reward.mean(dtype=np.float64), self.reward.std(dtype=np.float64)
            earned = Affine(np.asarray(mean, np.float32), np.asarray(std + 1e-3, np.float32))
        elif reward == "range":
            span = np.ptp(self.returns())
            if span == 0:
                raise BadData(f"{self.source}: all episodes have the same return, so rewards cannot be scaled by the range of returns. "
                              'Use reward="standard" or reward="none".')  # fmt: skip
            earned = Affine(np.asarray(0, np.float32), np.asarray(span / 1000, np.float32))
        return self.viewed(View(seen, self.view.action, earned))

    def viewed(self, view: View) -> "Episodes":
        """The same log under a given view."""
        return dataclasses.replace(self, view=view)

    def labelled(self, known: bool = True) -> "Episodes":
        """The same log with a column `labelled`, which says whether its rewards are known: what `UDS` and `CDS` read of logs joined afterwards.

        Of a log without rewards give them as 0.
        """
        return dataclasses.replace(self, info={**self.info, "labelled": np.full(self.steps, known)})

    def policy(self, policy: Policy) -> Policy:
        """What an algorithm learned from this log, for raw observations and with raw actions."""
        return jax.tree.map(jnp.asarray, self.view.policy(policy, self.spec))

    def transitions(self, *, next_action: bool = False, returns: float | None = None) -> Transitions:
        """One row per step on the device, in unit scale.

        `next_action` adds the action logged at `next_obs`; a truncated episode's last step has none, and is left out.
        `returns` adds the logged return from each step on, at that discount and in unit rewards.
        """
        view = self.view
        seen = lambda x: x if view.obs is None else view.obs.host(x)
        action = self.action if view.action is None else view.action.host(self.action)
        reward = self.reward if view.reward is None else view.reward.host(self.reward)
        columns = dict(
            obs=seen(self.obs), action=action, reward=reward, terminal=self.terminal.astype(np.float32),
            next_obs=seen(self.next_obs), mask=self.mask, next_mask=self.next_mask,
            duration=self.duration,
        )  # fmt: skip
        if returns is not None:
            columns["returns"] = dataclasses.replace(self, reward=reward).to_go(returns).astype(np.float32)
        if next_action:
            columns["next_action"] = np.concatenate([action[1:], action[-1:]])
            keep = ~self.truncated
            if not keep.any():
                raise BadData(f"{self.source}: no step is followed by another in its episode, so no next action is known.")
            columns = {name: None if x is None else x[keep] for name, x in columns.items()}
        copies = jax.tree.map(np.array, (columns, view))
        columns, view = jax.device_put(copies)  # `jnp.asarray` would compile a program for every shape
        return Transitions(Batch(**columns), view, self.spec)

    def windows(self, length: int, *, discount: float = 1.0) -> Windows:
        """Stretches of `length` steps on the device, in unit scale, with the return to go at a discount."""
        if isinstance(self.spec.obs, Image) or isinstance(self.spec.action, MultiDiscrete):
            raise BadData(f"{self.source}: stretches of steps are for observations that are vectors or numbers of states, and actions that are "
                          f"vectors or one choice; these are {self.spec.obs} and {self.spec.action}. Use a method of single steps.")  # fmt: skip
        time = np.arange(self.steps) - np.repeat(self.starts, self.lengths)
        reward = self.reward if self.view.reward is None else self.view.reward.host(self.reward)
        to_go = dataclasses.replace(self, reward=reward).to_go(discount)
        i = lambda x: jnp.asarray(x, jnp.int32)
        rows = dataclasses.replace(self, mask=None, next_mask=None).transitions()  # windows have no masks
        return Windows(rows, jnp.asarray(to_go, jnp.float32), i(time), i(np.repeat(self.stops, self.lengths)), length)

    # from arrays ----------------------------------------------------------------------------------------------------

    @classmethod
    def of(
        cls,
        obs,
        action,
        reward,
        terminal,
        *,
        ends=None,
        next_obs=None,
        states: int | None = None,
        peak: int | None = None,
        actions: int | Sequence[int] | None = None,
        low=None,
        high=None,
        mask=None,
        next_mask=None,
        probability=None,
        log_prob=None,
        time=None,
        duration=None,
        ids=None,
        info: Mapping[str, np.ndarray] | None = None,
        source: str = "arrays",
        notes: Sequence[str] = (),
    ) -> "Episodes":
        """Episodes from arrays of one row per step.

        `ends` (n, bool) marks the last step of every episode; without it episodes end where `terminal` is set, and at the
        last row. `next_obs` is needed only where an episode is truncated: without it the last step of a truncated episode
        is dropped, since what came of it was not logged, and `notes` says so. Integer actions are a `Discrete` of `actions`
        members (default: the largest seen + 1), or with several columns a `MultiDiscrete` (`actions`: a number for each), others a `Box`
        between `low` and `high` (default: -1 and 1 if all lie there, else the smallest and largest seen). With `states`, observations
        are integers below it. Observations (n, height, width, channels) of uint8 or bool are pictures, whose values nets divide by `peak`
        (default: 255, or 1 if none is above 1).
        """
        obs, action, reward = np.asarray(obs), np.asarray(action), np.asarray(reward)
        terminal = np.asarray(terminal).astype(bool)
        n = len(reward)
        for name, column in {"obs": obs, "action": action, "terminal": terminal}.items():
            if len(column) != n:
                raise BadData(f"{source}: column {name!r} has {len(column):,} rows where 'reward' has {n:,}. Give columns of one length.")
        if n == 0:
            raise BadData(f"{source}: expected at least one episode of at least one step, but there is none.")
        ends = terminal.copy() if ends is None else np.asarray(ends).astype(bool)
        ends[-1] = True
        if (stray := terminal & ~ends).any():
            row = int(np.argmax(stray))
            raise BadData(f"{source}: row {row:,} is terminal, but its episode goes on in row {row + 1:,}. "
                          "Start a new episode there, or unmark the row.")  # fmt: skip
        notes = list(notes)
        obs, space = _observations(obs, states, peak, source)
        action, kind, scale = _actions(action, actions, low, high, source, notes)
        mask = None if mask is None else np.asarray(mask).astype(bool)
        if mask is not None and mask.shape != (n, kind.size):
            raise BadData(
                f"{source}: the mask has shape {mask.shape}; expected one column for each of {kind.size} actions: {(n, kind.size)}."
            )
        if probability is not None:
            log_prob = _log_of(np.asarray(probability, np.float64), not isinstance(kind, Box), source)
        follow = lambda x: np.concatenate([x[1:], x[-1:]])  # at an end this is another episode's: used only where terminal
        rows = dict(obs=obs, action=action, reward=reward.astype(np.float32), terminal=terminal)
        rows["next_obs"] = (
            follow(obs) if next_obs is None else _observations(np.asarray(next_obs), states, getattr(space, "peak", None), source)[0]
        )
        if next_obs is None:
            rows["next_obs"][terminal] = obs[terminal]
        if mask is not None:
            rows["mask"], rows["next_mask"] = mask, follow(mask) if next_mask is None else np.asarray(next_mask).astype(bool)
            rows["next_mask"][terminal] = True
        rows |= {
            "log_prob": None if log_prob is None else np.asarray(log_prob, np.float32),
            "time": None if time is None else np.asarray(time),
            "duration": None if duration is None else np.asarray(duration, np.float32),
        }
        rows |= {f"info/{name}": np.asarray(column) for name, column in (info or {}).items()}
        ids = None if ids is None else np.asarray(ids)
        unknown = ends & ~terminal
        if (next_obs is None or (mask is not None and next_mask is None)) and unknown.any():
            rows = {name: None if x is None else x[~unknown] for name, x in rows.items()}
            notes.append(f"{int(unknown.sum()):,} of {int(ends.sum()):,} episodes are truncated and lack the observation behind their last "
                         "step; that step was dropped, since what it led to is not known.")  # fmt: skip
            before, number = ends, np.cumsum(ends) - ends  # the episode of every row
            left = np.bincount(number[~unknown], minlength=int(before.sum()))
            if (gone := left == 0).any():
                notes.append(f"{int(gone.sum()):,} of these episodes had no other step, and are gone.")
            ids, stops = None if ids is None else ids[~gone], np.cumsum(left[~gone])
        else:
            stops = np.flatnonzero(ends) + 1
        info = {name.removeprefix("info/"): rows.pop(name) for name in list(rows) if name.startswith("info/")}  # pyright: ignore[reportAssignmentType]
        view = View(action=scale)
        return cls(Spec(space, kind), **rows, stops=stops, ids=ids, info=info, view=view, source=source, notes=tuple(notes))


def _finite(column: np.ndarray, rows: int = 1 << 16) -> bool:
    """Whether all of it is, looked at in pieces: it may lie on the disk and be larger than memory."""
    return all(np.isfinite(column[start : start + rows]).all() for start in range(0, len(column), rows))


def choices(space: Discrete | MultiDiscrete) -> tuple[int, ...]:
    """The members of each choice: a `Discrete` has one."""
    return space.sizes if isinstance(space, MultiDiscrete) else (space.size,)


def _observations(obs: np.ndarray, states: int | None, peak: int | None, source: str):
    if states is not None:
        if obs.ndim == 2 and obs.shape[1] == 1:
            obs = obs[:, 0]
        whole = obs.ndim == 1 and np.isfinite(obs.astype(np.float64)).all() and (obs == np.floor(obs)).all()
        if not whole or obs.min() < 0 or obs.max() >= states:
            raise BadData(f"{source}: with {states} states, observations must be the integers 0 … {states - 1}, one a row; "
                          f"got shape {obs.shape} from {obs.min()} to {obs.max()}.")  # fmt: skip
        return obs.astype(np.int32), Discrete(states)
    if obs.dtype in (np.uint8, bool) and obs.ndim == 4:
        most = int(obs.max())
        space = picture(obs.shape[1:], (255 if most > 1 else 1) if peak is None else peak)
        if isinstance(space, str):
            raise BadData(f"{source}: {space}")
        if most > space.peak:
            raise BadData(f"{source}: with peak={peak}, pictures hold whole numbers up to {peak}, but there is a {most}. Correct the peak.")
        return obs.astype(np.uint8, copy=False), space
    obs = obs[:, None] if obs.ndim == 1 else obs.reshape(len(obs), -1)
    return obs.astype(np.float32), Box(obs.shape[1])


def picture(shape: Sequence[int], peak: int) -> Image | str:
    """The space of pictures of this shape, or why it cannot be that of a picture."""
    height, width, channels = (int(length) for length in shape)
    if height <= 4 < channels:
        return (f"pictures of shape {(height, width, channels)} would be {height} pixels high; expected (height, width, channels), so their "
                f"channels seem to come first. Move them to the end: np.moveaxis(obs, -3, -1).")  # fmt: skip
    return Image(height, width, channels, peak)


def _actions(action: np.ndarray, actions, low, high, source: str, notes: list[str]):
    """(the column, its space, the map from raw to [-1, 1])."""
    sizes = None if actions is None or isinstance(actions, (int, np.integer)) else tuple(int(size) for size in actions)
    columns = action.shape[1] if action.ndim == 2 else 1
    undeclared = actions is None and low is None and np.issubdtype(action.dtype, np.integer) and columns > 1
    if sizes is not None or undeclared:
        sizes = tuple(int(most) + 1 for most in action.max(axis=0)) if sizes is None else sizes
        finite = action.ndim == 2 and columns == len(sizes) and np.isfinite(action.astype(np.float64)).all()
        if not finite or (action != np.floor(action)).any() or action.min() < 0:
            raise BadData(f"{source}: {len(sizes)} choices at once must be as many integers from 0 a row; got shape {action.shape}, for "
                          f"example {action[0]}. Code them as 0 … n-1, or give the bounds of a vector.")  # fmt: skip
        return action.astype(np.int32), MultiDiscrete(sizes), None
    if actions is not None or np.issubdtype(action.dtype, np.integer):
        action = action[:, 0] if action.ndim == 2 and action.shape[1] == 1 else action
        if action.ndim != 1 or not (np.isfinite(action.astype(np.float64)).all() and (action == np.floor(action)).all()):
            raise BadData(f"{source}: discrete actions must be one integer a row; got shape {action.shape}, for example {action[0]}.")
        size = int(actions) if actions is not None else int(action.max()) + 1
        return action.astype(np.int32), Discrete(size), None
    action = (action[:, None] if action.ndim == 1 else action.reshape(len(action), -1)).astype(np.float32)
    size = action.shape[1]
    if not np.isfinite(action).all():
        row = int(np.argmin(np.isfinite(action).all(axis=1)))
        raise BadData(
            f"{source}: column 'action' is not a finite number in row {row:,} ({action[row]}). Correct it, or leave that episode out."
        )
    declared = low is not None and high is not None
    if declared:
        low, high = np.broadcast_to(np.float32(low), (size,)), np.broadcast_to(np.float32(high), (size,))
    elif np.abs(action).max() <= 1:
        low, high = -np.ones(size, np.float32), np.ones(size, np.float32)
    else:
        low, high = action.min(axis=0), action.max(axis=0)
        notes.append("No bounds of actions were declared, and some lie outside [-1, 1]: the smallest and largest seen are taken as bounds.")
    outside = ((action < low - 1e-5 * (high - low)) | (action > high + 1e-5 * (high - low))).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        raise BadData(f"{source}: action {action[row]} in row {row:,} is outside the declared bounds {low} … {high}. "
                      "Widen the bounds, or correct the row.")  # fmt: skip
    half = (high - low) / 2
    return action, Box(size), Affine(np.float32((high + low) / 2), np.float32(np.where(half > 0, half, 1)))


def _log_of(p: np.ndarray, discrete: bool, source: str) -> np.ndarray:
    wrong = ~(p > 0) | (discrete & (p > 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadData(f"{source}: the behaviour probability in row {row:,} is {p[row]}; expected a number above 0"
                      f"{' and at most 1' if discrete else ''}: the logger took this action, so it was possible.")  # fmt: skip
    return np.log(p).astype(np.float32)
