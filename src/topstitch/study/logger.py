r"""What the logger did, and what that went on to earn: the two models that every estimate of a study rests on.

The probabilities of the logger come from the log, or from a model of episodes that are not judged by it. Values are those of practice,

$$ \hat Q(s, a) \approx E\big[\textstyle\sum_{k \ge t} \gamma^{k-t} r_k \mid s_t = s, a_t = a\big], $$

a regression of what was logged to be earned from each step on. One fit serves every policy, as for a doubly robust estimate any values will do, and
those of practice are near those of policies that the log can judge at all. They are learned by folds of the episodes that are judged, never from
those that algorithms learned from: an algorithm prefers what happened to go well there, and values from there would agree with it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core import Box, Discrete, Policy
from ..data import Episodes
from ..ope.behaviour import Behaviour, Conditional, Counts, fit_behaviour
from ..ope.beliefs import doing
from ..ope.table import Values, log_probs, probabilities

GROUPS = 8
"Each of so many fits leaves out another part of the episodes, to see how far estimates hang on them."
FOLDS = 5
DRAWS = 8
"Actions of a `Box` by which the mean of a value over a policy's actions is taken."
STATE_ROWS, PAIR_ROWS = 1.0, 10.0
"A state is judged as if so many rows more had shown what is usual, a pair as if they had shown what is usual in its state."
CLASSES = 255
"The most members of a category that scikit-learn's trees split by."


# what is done ------------------------------------------------------------------------------------------------------------------


class Acts(NamedTuple):
    """What somebody does at the rows of a log."""

    log_prob: np.ndarray
    "(steps,) float64: of the logged actions."
    probs: np.ndarray | None = None
    "(steps, actions), discrete actions."
    draws: np.ndarray | None = None
    "(steps, draws, size), actions of a `Box` in unit scale."


def acts_of(policy: Policy, log: Episodes, *, seed: int = 0) -> Acts:
    """Raises `Refused` for policies without probabilities."""
    if isinstance(log.spec.action, Discrete):
        return _chosen(chances(policy, log), log)
    said = log_probs(policy, log)
    if not isinstance(log.spec.action, Box):
        return Acts(said)
    return Acts(said, draws=doing(policy, log.obs, log.mask, log.spec, log.view, draws=DRAWS, seed=seed))


def chances(policy: Policy, log: Episodes) -> np.ndarray:
    """(steps, actions) float64: as `ope.table.probabilities`; of numbered states each is asked about once."""
    if not isinstance(log.spec.obs, Discrete) or log.mask is not None:
        return probabilities(policy, log)
    p = doing(policy, np.arange(log.spec.obs.size, dtype=np.int32), None, log.spec, log.view).astype(np.float64)
    return (p / p.sum(axis=1, keepdims=True))[log.obs]


def acts_in(model: Behaviour, log: Episodes, *, seed: int = 0) -> Acts:
    """The same of a model of practice."""
    said = model.of(log)
    if said.said is None:
        return _chosen(np.asarray(said.probs), log)
    return Acts(said.log_prob, draws=_drawn(said.said, np.random.default_rng(seed)))


def partly(share: float, other: Acts, logged: np.ndarray, practice: Acts) -> Acts:
    """Whoever does as `other` in a `share` of the decisions, and else as practice does: with `logged` (steps,) log-probabilities."""
    mix = lambda a, b: (1 - share) * a + share * b
    with np.errstate(divide="ignore"):
        log_prob = np.logaddexp(np.log1p(-share) + logged, np.log(share) + other.log_prob) if share < 1 else other.log_prob
    probs = None if other.probs is None or practice.probs is None else mix(practice.probs, other.probs)
    if other.draws is None or practice.draws is None:
        return Acts(log_prob, probs)
    often = np.arange(DRAWS) < round(share * DRAWS)
    return Acts(log_prob, probs, np.where(often[:, None], other.draws, practice.draws))


def _chosen(probs: np.ndarray, log: Episodes) -> Acts:
    with np.errstate(divide="ignore"):
        return Acts(np.log(np.take_along_axis(probs, log.action[:, None].astype(np.int64), axis=1)[:, 0]), probs)


def _drawn(said: Conditional, rng: np.random.Generator) -> np.ndarray:
    n, parts, size = said.mean.shape
    part = (said.weight.cumsum(axis=1)[:, None, :] < rng.random((n, DRAWS, 1))).sum(axis=-1).clip(0, parts - 1)
    root, rows = np.linalg.cholesky(said.cov), np.arange(n)[:, None]
    noise = rng.normal(size=(n, DRAWS, size, 1))
    return np.clip(said.mean[rows, part] + (root[rows, part] @ noise)[..., 0], -1, 1).astype(np.float32)


# who did it --------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Logger:
    """Whoever made the log, as a study knows him."""

    recorded: bool
    "Whether the log's own probabilities are used."
    model: Behaviour
    "Fitted to train and selection episodes; those of selection are asked by folds."
    copy: Behaviour
    "Fitted to train episodes alone: the negative control."
    without: tuple[Behaviour, ...]
    "Models that each leave out one of `GROUPS` parts of train and selection episodes; none where probabilities are recorded."


def learn(train: Episodes, rest: Episodes, *, recorded: bool, seed: int = 0) -> Logger:
    """`rest`: train and selection episodes. Raises `Refused` where there is no model of such actions."""
    model = fit_behaviour(rest, seed=seed)
    kind: Any = model.kind
    copy = fit_behaviour(train, kind, seed=seed) if len(train) < len(rest) else model
    if recorded and isinstance(copy.whole, Counts):
        copy = dataclasses.replace(copy, whole=Seen(copy.whole))
    return Logger(recorded, model, copy, () if recorded else tuple(_without(model, rest, seed)))


class Seen(Counts):
    """Counts, of which nothing is done that was not seen in its state. A model that divides must leave room for what it has not seen; a copy of
    practice that does as well does what practice may never do, and true probabilities would find it out."""

    def __init__(self, counts: Counts):
        self.__dict__.update(vars(counts))

    def table(self) -> np.ndarray:
        p = super().table() * (self.count > 0)
        total = p.sum(axis=1, keepdims=True)
        return np.where(total > 0, p / np.where(total > 0, total, 1), self.usual)


def _without(model: Behaviour, log: Episodes, seed: int):
    kind: Any = model.kind
    group = np.random.default_rng(seed).permutation(len(log)) % min(GROUPS, len(log) // 2)
    for k in range(group.max() + 1):
        part = fit_behaviour(log.take(np.flatnonzero(group != k)), kind, folds=2, seed=seed, calibrate="none")
        yield dataclasses.replace(model, whole=part.whole)


def jackknife(values: np.ndarray) -> float:
    """The standard error of an estimate, from what it is without each of some groups of what it was learned from (0 for none).

    The delete-a-group jackknife: Kott 2001, https://www.rti.org/publication/delete-group-jackknife.
    """
    n = len(values)
    return float(np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())) if n > 1 else 0.0


# what it earned ----------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Worth:
    """What practice goes on to earn at the rows of a log, each learned from other episodes of it."""

    logged: np.ndarray
    "(steps,): after the logged action."
    every: np.ndarray | None = None
    "(steps, actions): after each action, discrete ones."
    ask: Callable[[np.ndarray], np.ndarray] | None = None
    "(steps, size) actions of a `Box` in unit scale -> (steps,)."

    def under(self, acts: Acts, episodes: int) -> Values:
        """Values of practice, met by somebody else's next action. Behind a truncated episode nothing counts: returns are those within the log."""
        v = self.logged
        if self.every is not None and acts.probs is not None:
            v = (acts.probs * self.every).sum(axis=1)
        elif self.ask is not None and acts.draws is not None:
            v = np.mean([self.ask(acts.draws[:, k]) for k in range(acts.draws.shape[1])], axis=0)
        return Values(self.logged, v, np.zeros(episodes))


def worth(log: Episodes, *, discount: float, seed: int = 0) -> Worth:
    """Numbered states and actions: means, drawn towards those of the state. Else boosted trees. What neither is for (pictures, several
    choices at once): the mean of all."""
    goal, fit = log.to_go(discount), _regression(log)
    fold_of = np.random.default_rng(seed).permutation(len(log)) % min(FOLDS, len(log))
    fold = np.repeat(fold_of, log.lengths)
    asks = [(fold == k, fit(log, fold != k, goal)) for k in range(fold_of.max() + 1)]
    if isinstance(log.spec.action, Discrete):
        every = np.zeros((log.steps, log.spec.action.size))
        for own, model in asks:
            every[own] = model(own, None)
        return Worth(np.take_along_axis(every, log.action[:, None].astype(np.int64), axis=1)[:, 0], every)

    def ask(action):
        out = np.zeros(log.steps)
        for own, model in asks:
            out[own] = model(own, action[own])
        return out

    unit = log.action if log.view.action is None else log.view.action.host(log.action)
    return Worth(ask(unit), ask=ask if isinstance(log.spec.action, Box) else None)


def _regression(log: Episodes) -> Callable:
    """(log, rows to learn from, what they earned) -> (rows, their actions) -> (rows, actions), or (rows,) for other than discrete actions."""
    discrete, vector = isinstance(log.spec.action, Discrete), isinstance(log.spec.action, Box)
    if isinstance(log.spec.obs, Discrete) and discrete:
        return _means
    if isinstance(log.spec.obs, (Box, Discrete)) and (discrete or vector):
        return _boosted
    return _flat


def _flat(log: Episodes, rows: np.ndarray, goal: np.ndarray) -> Callable:
    mean, actions = goal[rows].mean(), log.spec.action.size
    shape = (lambda n: (n, actions)) if isinstance(log.spec.action, Discrete) else (lambda n: (n,))
    return lambda asked, action: np.full(shape(int(asked.sum())), mean)


def _means(log: Episodes, rows: np.ndarray, goal: np.ndarray) -> Callable:
    shape = log.spec.obs.size, log.spec.action.size
    pair = log.obs[rows].astype(np.int64) * shape[1] + log.action[rows]
    count = np.bincount(pair, minlength=shape[0] * shape[1]).reshape(shape)
    total = np.bincount(pair, weights=goal[rows], minlength=shape[0] * shape[1]).reshape(shape)
    state = (total.sum(axis=1) + STATE_ROWS * goal[rows].mean()) / (count.sum(axis=1) + STATE_ROWS)
    q = (total + PAIR_ROWS * state[:, None]) / (count + PAIR_ROWS)
    return lambda asked, action: q[log.obs[asked]]


def _boosted(log: Episodes, rows: np.ndarray, goal: np.ndarray) -> Callable:
    from sklearn.ensemble import HistGradientBoostingRegressor  # slow to import
    from threadpoolctl import threadpool_limits

    obs = log.obs.reshape(log.steps, -1).astype(np.float64)
    discrete = isinstance(log.spec.action, Discrete)
    unit = log.action if log.view.action is None else log.view.action.host(log.action)
    done = unit.reshape(log.steps, -1).astype(np.float64)
    categorical = [0] if discrete and log.spec.action.size <= CLASSES else None
    trees = HistGradientBoostingRegressor(max_iter=100, max_leaf_nodes=15, l2_regularization=1.0, early_stopping=False,
                                          categorical_features=categorical, random_state=0)  # fmt: skip
    with threadpool_limits(1, user_api="openmp"):  # threads that wait for each other at every node
        trees.fit(np.concatenate([done, obs], axis=1)[rows], goal[rows])

    def ask(asked, action):
        n = int(asked.sum())
        each = [np.full((n, 1), a) for a in range(log.spec.action.size)] if discrete else [action.reshape(n, -1)]
        with threadpool_limits(1, user_api="openmp"):
            said = [trees.predict(np.concatenate([one, obs[asked]], axis=1)) for one in each]
        return np.stack(said, axis=1) if discrete else said[0]

    return ask
