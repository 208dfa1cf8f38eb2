"""A log as a table: numbered situations, numbered actions.

Numbered states and single choices are taken as they are. Everything else is put into *cells*, so that coverage can be counted and the
world of the log be solved: vectors by k-means of standardised columns, one continuous action by ten equal intervals between its bounds,
several by k-means; pictures by the means over 8 × 8 fields of each channel, several choices at once by the combinations that were made.
Rows of one cell count as alike, which they are not: what is solved in such a table is an approximation, and mostly too hopeful.
"""

import dataclasses
import math

import numpy as np

from ..core import Box, Discrete, Image, MultiDiscrete, Spec
from ..data import Episodes

CELLS = 200
"Cells of observations, at most."
ROWS_A_PAIR = 50
"Rows that a pair of a cell and an action should hold on average: fewer rows, fewer cells."
INTERVALS = 10
"Cells of continuous actions."
LEARN = 20_000
"Rows by which k-means finds its centres."
FIELDS = 8
"Fields along each side of a picture."


@dataclasses.dataclass(frozen=True, eq=False)
class Numbered:
    """Every step of a log as numbers. `groups` say what a number stands for: {"name"}, {"low", "high"}, or the two columns in which a
    centre differs most from the mean, {"centre": [[name, standard deviations], …]}."""

    state: np.ndarray
    "(steps,) int64."
    action: np.ndarray
    "(steps,) int64."
    after: np.ndarray
    "(steps,) int64: the state that followed; -1 where the step was terminal."
    states: int
    actions: int
    state_groups: list[dict] | None
    "None where states are named by their numbers."
    action_groups: list[dict]
    exact: bool
    "Whether states and actions are those of the log."
    legal: np.ndarray | None
    "(states, actions) bool: what was ever marked legal; None where everything is."

    def state_group(self, number: int) -> dict:
        return {"name": str(number)} if self.state_groups is None else self.state_groups[number]


def simple(log: Episodes) -> tuple[Episodes, tuple[str, ...], tuple[str, ...]]:
    """(the log with vectors or numbers for observations, and for actions; what its observations are called; its actions)."""
    spec, seen, names = log.spec, log.obs_names, log.action_names
    if isinstance(spec.obs, Image):
        obs = pooled(log.obs)
        spec, seen = Spec(Box(obs.shape[1]), spec.action), tuple(f"field {j}" for j in range(obs.shape[1]))
        log = dataclasses.replace(log, spec=spec, obs=obs, next_obs=pooled(log.next_obs), codec=None)
    if isinstance(spec.action, MultiDiscrete):
        made, action = np.unique(log.action, axis=0, return_inverse=True)
        names = tuple(", ".join(map(str, one)) for one in made.tolist())
        first = np.cumsum(spec.action.sizes) - spec.action.sizes
        joint = lambda mask: None if mask is None else np.stack([mask[:, first + one].all(axis=1) for one in made], axis=1)
        next_mask = joint(log.next_mask)
        if next_mask is not None:
            next_mask[~next_mask.any(axis=1)] = True  # none of what was ever done is allowed: nothing is known of it
        log = dataclasses.replace(
            log, spec=Spec(spec.obs, Discrete(len(made))), action=action.reshape(-1).astype(np.int32), mask=joint(log.mask),
            next_mask=next_mask, codec=None,
        )  # fmt: skip
    return log, seen, names


def pooled(pictures: np.ndarray) -> np.ndarray:
    """(n, height, width, channels) -> (n, fields · fields · channels) float32: the mean of each field."""
    n, height, width, channels = pictures.shape
    rows, columns = (np.arange(min(FIELDS, side)) * side // min(FIELDS, side) for side in (height, width))
    area = np.diff(rows, append=height)[:, None] * np.diff(columns, append=width)
    out = np.empty((n, len(rows) * len(columns) * channels), np.float32)
    for i in range(0, n, 1024):
        sums = np.add.reduceat(np.add.reduceat(pictures[i : i + 1024].astype(np.float32), rows, axis=1), columns, axis=2)
        out[i : i + 1024] = (sums / area[..., None]).reshape(len(sums), -1)
    return out


def numbered(log: Episodes, obs_names: tuple[str, ...], action_names: tuple[str, ...], seed: int) -> Numbered:
    """The table of what `simple` gives."""
    if isinstance(log.spec.action, Discrete):
        action, actions = log.action.astype(np.int64), log.spec.action.size
        action_groups = [{"name": name} for name in action_names]
    elif log.spec.action.size == 1:
        low, high = (float(np.ravel(bound)[0]) for bound in log.view.action.bounds())
        edges = np.linspace(low, high, INTERVALS + 1).round(6 - math.ceil(math.log10(high - low)))  # where 0 is an edge, it is 0
        action, actions = np.clip(np.searchsorted(edges, log.action[:, 0], side="right") - 1, 0, INTERVALS - 1), INTERVALS
        action_groups = [{"low": a, "high": b} for a, b in zip(edges[:-1].tolist(), edges[1:].tolist())]
    else:
        groups = Groups(log.view.action.host(log.action), INTERVALS, seed)
        action, actions, action_groups = groups.of(log.view.action.host(log.action)), groups.count, groups.described(action_names)
    exact = isinstance(log.spec.obs, Discrete) and isinstance(log.spec.action, Discrete)
    if isinstance(log.spec.obs, Discrete):
        state, states, state_groups = log.obs.astype(np.int64), log.spec.obs.size, None
        after = log.next_obs.astype(np.int64)
    else:
        groups = Groups(log.obs, int(np.clip(log.steps // (ROWS_A_PAIR * actions), 2, CELLS)), seed)
        state, states, state_groups = groups.of(log.obs), groups.count, groups.described(obs_names)
        after = np.append(state[1:], 0)
        apart = np.append((log.next_obs[:-1] != log.obs[1:]).any(axis=1), True) & ~log.terminal
        after[apart] = groups.of(log.next_obs[apart])
    after = np.where(log.terminal, -1, after)
    legal = None
    if log.mask is not None:
        legal = np.zeros((states, actions), bool)
        np.logical_or.at(legal, state, log.mask)
    return Numbered(state, action, after, states, actions, state_groups, action_groups, exact, legal)


class Groups:
    """Vectors put together by k-means; the commonest group is number 0."""

    def __init__(self, x: np.ndarray, count: int, seed: int):
        from sklearn.cluster import KMeans

        self.mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
        self.std = np.where(std > 1e-8, std, 1)
        some = self._seen(x[np.sort(np.random.default_rng(seed).permutation(len(x))[:LEARN])])
        self.count = min(count, len(np.unique(some, axis=0)))
        found = KMeans(self.count, n_init=1, max_iter=30, random_state=seed).fit(some)
        order = np.argsort(-np.bincount(found.labels_, minlength=self.count), kind="stable")
        self.found, self.rank, self.centres = found, np.argsort(order), found.cluster_centers_[order]

    def _seen(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray((x - self.mean) / self.std, np.float32)

    def of(self, x: np.ndarray) -> np.ndarray:
        """(n,) int64: the group of the nearest centre."""
        return self.rank[self.found.predict(self._seen(x))] if len(x) else np.zeros(0, np.int64)

    def described(self, names: tuple[str, ...]) -> list[dict]:
        far = np.argsort(-np.abs(self.centres), axis=1, kind="stable")[:, :2]
        return [{"centre": [[names[j], float(centre[j])] for j in row]} for row, centre in zip(far, self.centres)]
