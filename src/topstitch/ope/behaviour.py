r"""Who made the log: the logger's probabilities, estimated from what was done,

$$ \hat\mu(a \mid s), \qquad \text{for each episode from the other episodes only.} $$

Importance weights divide by these probabilities, so a model that has seen an episode, and found its actions likely because it has, would make
the weights too small: episodes are dealt into folds, and those of a fold are judged by a model of the others (cross-fitting: Chernozhukov et
al. 2018, https://doi.org/10.1111/ectj.12097; for off-policy evaluation Kallus and Uehara 2020, https://jmlr.org/papers/v21/19-827.html).
A probability that is off by a factor is off by its power along an episode, so what was predicted is compared with what happened, and corrected:
one temperature (Guo et al. 2017, https://arxiv.org/abs/1706.04599), or a monotone map (Zadrozny and Elkan 2002,
https://doi.org/10.1145/775047.775151), each learned on folds other than the one it corrects.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.sparse
from jaxtyping import Array, Float
from scipy.special import log_ndtr, log_softmax, logsumexp, ndtr

from .. import nets
from ..core import Box, Discrete, Markov
from ..data import Episodes
from ..data.view import Affine, RawMarkov, View
from ..nets.distributions import EDGE
from .crossfit import threads
from .table import Refused

How = Literal["auto", "temperature", "isotonic", "none"]
Kind = Literal["auto", "counts", "categorical", "neighbours", "trees", "gaussian", "mixture"]
STEADY = 1e-4
"Halves of the range of actions: who is foreseen to within less is deterministic, and a model that believes in less is too sure."
AT_MOST = 50_000
"Rows on which a calibrating map is fitted."


class Calibration(NamedTuple):
    """What was predicted, and how often it happened; each (bins,).

    Discrete actions: pairs of a step and a legal action, by predicted probability. A `Box`: predicted levels 0.1 … 0.9, and the share of actions
    (all dimensions together) that lie below the quantile of that level.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray
    error: float
    "Expected calibration error: the mean of |predicted - observed|, weighted by `count`."


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """The logger of `log`, as estimated. Made by `fit_behaviour`."""

    log: Episodes
    kind: str
    log_prob: np.ndarray
    """(steps,) float64: of the logged actions; densities per raw unit for a `Box`. Where a coordinate of an action lies on a bound, it
    counts with the probability of that bound, as `collect` logs it."""
    probs: np.ndarray | None
    "(steps, actions) float64, 0 where an action is not legal; None for a `Box`."
    said: "Conditional | None"
    "Of a `Box`: the distributions of actions, in unit scale."
    whole: Any
    "The model of all episodes, and ..."
    correction: "Correction"
    "... what its answers are calibrated by."
    notes: tuple[str, ...] = ()
    "Which kinds were left out, and why."

    @property
    def score(self) -> float:
        """The mean log-likelihood of a step: held out, where the log is the one that was fitted."""
        return float(self.log_prob.mean())

    def calibration(self, bins: int = 10) -> Calibration:
        """How far the estimate can be believed. `bins` hold about as many pairs each (discrete actions)."""
        if self.probs is None:
            levels = np.arange(1, 10) / 10
            unit = _unit_actions(self.log)
            share = self.said.below(unit)[(np.abs(unit) < 1 - EDGE)]
            observed = np.array([(share <= level).mean() for level in levels])
            count = np.full(len(levels), share.size)
            return Calibration(levels, observed, count, float(np.abs(levels - observed).mean()))
        legal = np.ones(self.probs.shape, bool) if self.log.mask is None else self.log.mask
        p = self.probs[legal]
        hit = (np.arange(self.probs.shape[1]) == self.log.action[:, None])[legal]
        edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
        which = np.searchsorted(edges, p, side="right")
        count = np.bincount(which, minlength=len(edges) + 1)
        kept = count > 0
        mean = lambda x: np.bincount(which, weights=x, minlength=len(edges) + 1)[kept] / count[kept]
        predicted, observed = mean(p), mean(hit.astype(float))
        return Calibration(predicted, observed, count[kept], float((np.abs(predicted - observed) * count[kept]).sum() / count.sum()))

    def of(self, other: Episodes) -> "Behaviour":
        """The same for a log that was not fitted (evaluation episodes, say), by the model of all fitted episodes."""
        if other.spec != self.log.spec:
            raise Refused(f"the behaviour was fitted for {self.log.spec}, but this log has {other.spec}.")
        said = self.correction(self.whole.ask(other))
        return dataclasses.replace(self, log=other, **_columns(other, said))

    def attached(self) -> Episodes:
        """The log with these log-probabilities in place of its own: for algorithms that need them."""
        return dataclasses.replace(self.log, log_prob=self.log_prob.astype(np.float32))

    def policy(self) -> Markov:
        """A copy of practice, for raw observations and with raw actions; from the model of all episodes.

        For "counts", "categorical" and "gaussian"; raises `Refused` for other kinds, which are not functions that can be saved.
        """
        if not hasattr(self.whole, "policy"):
            raise Refused(
                f"A behaviour of kind {self.kind!r} is known at logged rows only. Fit counts, categorical or gaussian to have a policy."
            )
        return jax.tree.map(jnp.asarray, self.whole.policy(self.correction, self.log))


def fit_behaviour(log: Episodes, kind: Kind = "auto", folds: int = 5, seed: int = 0, calibrate: How = "auto") -> Behaviour:
    """Estimate who made `log`, cross-fitted by episode.

    Discrete actions: "counts" (numbered states; smoothed towards how often actions are taken at all), "categorical" (multinomial logistic
    regression), "neighbours", "trees" (boosted). A `Box`: "gaussian" (linear mean and log standard deviation, clipped at the bounds), "mixture"
    (of Gaussians, over observation and action), "neighbours", "trees". "auto" takes the kind that finds held-out actions most likely, of
    counts; or of categorical and trees; or of gaussian and trees; it leaves out a kind that does not fit the log, and says so in `notes`.
    `calibrate`: by a temperature, by a monotone map (discrete actions), by whichever of these finds held-out actions more likely, or not at
    all. Masks of the log are respected.

    Raises `Refused` where there are fewer than two episodes, for a kind that does not fit the spaces or the log, and where the logger looks
    deterministic: then nothing else was ever tried, and no weighting can say what it would have done.
    """
    if len(log) < 2:
        raise Refused(f"{log.source}: a behaviour is estimated for each episode from the others, but there is only {len(log)} episode.")
    if kind == "auto":
        return _likeliest(log, folds, seed, calibrate)
    make = _kind(kind, log)
    if calibrate == "isotonic" and isinstance(log.spec.action, Box):
        raise Refused("isotonic calibration is for discrete actions; densities are calibrated by a temperature.")
    folds = min(folds, len(log))
    fold_of_episode = np.random.default_rng(seed).permutation(len(log)) % folds
    fold = np.repeat(fold_of_episode, log.lengths)
    raw = None
    for k in range(folds):
        inside = np.flatnonzero(fold_of_episode == k)
        said = make(log.take(np.flatnonzero(fold_of_episode != k)), seed).ask(log.take(inside))
        raw = said.like(log.steps) if raw is None else raw
        raw.put(fold == k, said)
    if isinstance(raw, Conditional):
        _no_rule(raw, kind, log)
    ways = ("temperature", "isotonic") if isinstance(raw, Chances) else ("temperature",)
    found = []
    for way in ways if calibrate == "auto" else (calibrate,):
        final = raw.like(log.steps)
        for k in range(folds):  # each fold is corrected as the others ask for
            final.put(fold == k, _correction(way, raw, log, fold != k)(raw.at(fold == k)))
        found.append((way, _columns(log, final)))
    way, columns = max(found, key=lambda each: each[1]["log_prob"].mean())
    correction = _correction(way, raw, log, np.ones(log.steps, bool))
    return Behaviour(log, kind, **columns, whole=make(log, seed), correction=correction)


class Deterministic(Refused):
    """A logger that follows a rule. Where one kind of model foresees it, no other kind may weigh it."""


def _likeliest(log: Episodes, folds: int, seed: int, calibrate: How) -> Behaviour:
    """Of the kinds that "auto" tries."""
    found, refused = list[Behaviour](), dict[str, str]()
    for kind in candidates(log):
        try:
            found.append(fit_behaviour(log, kind, folds, seed, calibrate))
        except Deterministic:
            raise
        except Refused as reason:
            refused[kind] = str(reason)
    if not found:
        raise Refused(" ".join(dict.fromkeys(refused.values())))
    notes = tuple(f"behaviours of kind {kind!r} are left out. {reason}" for kind, reason in refused.items())
    return dataclasses.replace(max(found, key=lambda each: each.score), notes=notes)


def _no_rule(said: "Conditional", kind: str, log: Episodes) -> None:
    """Refuse a logger whose held-out actions are foreseen, and a model that is as sure of them without foreseeing them.

    Actions between the bounds count, if there are any: who is always on a bound has a probability there.
    """
    unit = _unit_actions(log)
    inner = np.abs(unit) < 1 - EDGE
    mean = np.clip((said.weight[..., None] * said.mean).sum(axis=1), -1, 1)
    missed = np.median(np.abs(unit - mean)[inner if inner.any() else ...])
    if missed < STEADY:
        raise Deterministic(f"{log.source}: the logger looks deterministic: its actions follow from the observations but for less than "
                            f"{STEADY} of half their range. What it never tried cannot be weighted; use fitted Q evaluation or a model.")  # fmt: skip
    with np.errstate(divide="ignore"):
        spread = np.exp(0.5 * np.log(np.diagonal(said.cov, axis1=-2, axis2=-1)).mean())
    if spread < STEADY:
        raise Refused(f"{log.source}: a model of kind {kind!r} is sure of actions to within {spread:.1g} of half their range, but misses half "
                      f"of those that it has not seen by more than {missed:.1g}. Use another kind.")  # fmt: skip


# answers -----------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Chances:
    """Probabilities of discrete actions."""

    p: np.ndarray
    "(n, actions)."

    def like(self, n: int) -> "Chances":
        return Chances(np.zeros((n, self.p.shape[1])))

    def at(self, rows) -> "Chances":
        return Chances(self.p[rows])

    def put(self, rows, other: "Chances") -> None:
        self.p[rows] = other.p

    def tempered(self, temperature: float) -> "Chances":
        """p^(1/T), to sum 1."""
        with np.errstate(divide="ignore"):
            return Chances(np.exp(log_softmax(np.log(self.p) / temperature, axis=1)))

    def log_prob(self, action: np.ndarray) -> np.ndarray:
        return np.log(np.take_along_axis(self.p, action[:, None], axis=1)[:, 0])


@dataclasses.dataclass
class Conditional:
    """Mixtures of Gaussians, one for each row, in unit scale, clipped at ±1."""

    weight: np.ndarray
    "(n, parts)."
    mean: np.ndarray
    "(n, parts, size)."
    cov: np.ndarray
    "(n, parts, size, size)."

    def like(self, n: int) -> "Conditional":
        return Conditional(*(np.zeros((n, *x.shape[1:])) for x in (self.weight, self.mean, self.cov)))

    def at(self, rows) -> "Conditional":
        return Conditional(self.weight[rows], self.mean[rows], self.cov[rows])

    def put(self, rows, other: "Conditional") -> None:
        self.weight[rows], self.mean[rows], self.cov[rows] = other.weight, other.mean, other.cov

    def tempered(self, temperature: float) -> "Conditional":
        """Every part as much wider as √T says."""
        return Conditional(self.weight, self.mean, self.cov * temperature)

    def log_prob(self, action: np.ndarray) -> np.ndarray:
        """Density per unit; for coordinates on a bound the probability of that bound (the other coordinates then taken by themselves)."""
        away = action[:, None] - self.mean
        size = action.shape[1]
        chol = np.linalg.cholesky(self.cov)
        z = np.linalg.solve(chol, away[..., None])[..., 0]
        log_det = np.log(np.diagonal(chol, axis1=-2, axis2=-1)).sum(axis=-1)
        each = -0.5 * (z**2).sum(axis=-1) - log_det - size / 2 * math.log(2 * math.pi)
        edge = (np.abs(action) >= 1 - EDGE).any(axis=1)
        if edge.any():
            std = np.sqrt(np.diagonal(self.cov[edge], axis1=-2, axis2=-1))
            z, a = away[edge] / std, action[edge][:, None]
            part = -0.5 * z**2 - np.log(std) - 0.5 * math.log(2 * math.pi)
            part = np.where(a >= 1 - EDGE, log_ndtr(-z), np.where(a <= -1 + EDGE, log_ndtr(z), part))
            each[edge] = part.sum(axis=-1)
        return np.asarray(logsumexp(each, b=self.weight, axis=1))

    def below(self, action: np.ndarray) -> np.ndarray:
        """(n, size): the probability of less, dimension by dimension."""
        std = np.sqrt(np.diagonal(self.cov, axis1=-2, axis2=-1))
        return (self.weight[..., None] * ndtr((action[:, None] - self.mean) / std)).sum(axis=1)


def _columns(log: Episodes, said) -> dict[str, Any]:
    if isinstance(said, Chances):
        with np.errstate(divide="ignore"):
            return dict(log_prob=said.log_prob(log.action), probs=said.p, said=None)
    return dict(log_prob=said.log_prob(_unit_actions(log)) - _per_raw_unit(log), probs=None, said=said)


def _unit_actions(log: Episodes) -> np.ndarray:
    return (log.action if log.view.action is None else log.view.action.host(log.action)).astype(np.float64)


def _per_raw_unit(log: Episodes) -> np.ndarray:
    """(steps,): log of the raw units in a unit of an algorithm's scale, over the coordinates that are not on a bound."""
    if log.view.action is None:
        return np.zeros(log.steps)
    inner = np.abs(_unit_actions(log)) < 1 - EDGE
    return (inner * np.log(np.asarray(log.view.action.scale, np.float64))).sum(axis=1)


# calibration -------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Correction:
    """A temperature; or, of probabilities, a monotone map: linear between the points (x, y)."""

    temperature: float = 1.0
    x: np.ndarray | None = None
    y: np.ndarray | None = None

    def __call__(self, said):
        if self.x is None:
            return said.tempered(self.temperature)
        p = np.where(said.p > 0, np.interp(said.p, self.x, self.y), 0)
        return Chances(p / p.sum(axis=1, keepdims=True))


def _correction(how: str, raw, log: Episodes, rows: np.ndarray) -> Correction:
    """Learned on `rows`."""
    rows = np.flatnonzero(rows)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), AT_MOST)).astype(int)]
    some = raw.at(rows)
    if how == "none":
        return Correction()
    if how == "temperature":
        action = log.action[rows] if isinstance(raw, Chances) else _unit_actions(log)[rows]
        loss = lambda t: -some.tempered(math.exp(t)).log_prob(action).mean()
        return Correction(math.exp(scipy.optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-3}).x))
    from sklearn.isotonic import IsotonicRegression

    legal = some.p > 0
    hit = np.arange(some.p.shape[1]) == log.action[rows][:, None]
    monotone = IsotonicRegression(y_min=1 / (1 + legal.sum()), out_of_bounds="clip").fit(some.p[legal], hit[legal].astype(float))
    return Correction(x=monotone.X_thresholds_, y=monotone.y_thresholds_)


class Corrected(Markov):
    """A policy over discrete actions whose probabilities go through a monotone map."""

    base: nets.Categories
    x: Float[Array, " points"]
    y: Float[Array, " points"]

    def __call__(self, obs, mask=None):
        p = self.base(obs, mask).probs()
        return nets.Categorical(jnp.log(jnp.where(p > 0, jnp.interp(p, self.x, self.y), 0)))


# models ------------------------------------------------------------------------------------------------------------------------


def candidates(log: Episodes) -> tuple[Kind, ...]:
    """The kinds that "auto" tries. The first is one whose `policy` can be had."""
    if isinstance(log.spec.action, Box):
        return ("gaussian",) if isinstance(log.spec.obs, Discrete) else ("gaussian", "trees")
    return ("counts",) if isinstance(log.spec.obs, Discrete) else ("categorical", "trees")


def _kind(kind: str, log: Episodes) -> Callable:
    if not (isinstance(log.spec.action, (Box, Discrete)) and isinstance(log.spec.obs, (Box, Discrete))):
        raise Refused(
            f"behaviours are estimated for single choices or vectors of actions, and numbered states or vectors; this log has {log.spec}."
        )
    discrete = isinstance(log.spec.action, Discrete)
    table = {
        "counts": Counts if discrete else None, "categorical": Logistic if discrete else None, "gaussian": None if discrete else Gaussian,
        "mixture": None if discrete else Mixture, "neighbours": Neighbours, "trees": Trees,
    }  # fmt: skip
    fits = [name for name, make in table.items() if make is not None]
    numbered = isinstance(log.spec.obs, Discrete)
    fits = [name for name in fits if name in ("counts", "categorical", "gaussian")] if numbered else [n for n in fits if n != "counts"]
    if kind not in fits:
        raise Refused(f"there is no behaviour of kind {kind!r} for {log.spec}; there are: auto, {', '.join(fits)}.")
    return table[kind]


def _usual(log: Episodes) -> np.ndarray:
    """(actions,): how often each action was taken, none quite never."""
    count = np.bincount(log.action, minlength=log.spec.action.size) + 1 / log.spec.action.size
    return count / count.sum()


def _allowed(p: np.ndarray, log: Episodes) -> Chances:
    """Over legal actions only."""
    p = p if log.mask is None else p * log.mask
    return Chances(p / p.sum(axis=1, keepdims=True))


def _softened(p: np.ndarray, log: Episodes, usual: np.ndarray, rows: int) -> Chances:
    """With a little of what is usual, so that nothing legal is impossible: what was not seen in n rows may have a probability of 1 / n."""
    share = len(usual) / (len(usual) + rows)
    return _allowed((1 - share) * p + share * usual, log)


class Eye(NamedTuple):
    """Observations as a model sees them: standardised vectors, or sparse one-hot rows."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def on(cls, log: Episodes) -> "Eye":
        if isinstance(log.spec.obs, Discrete):
            return cls(np.zeros(1), np.ones(1))
        mean, std = log.obs.mean(axis=0, dtype=np.float64), log.obs.std(axis=0, dtype=np.float64)
        return cls(mean, np.where(std > 1e-8, std, 1))

    def __call__(self, log: Episodes):
        if isinstance(log.spec.obs, Discrete):
            rows = np.arange(log.steps)
            return scipy.sparse.csr_array((np.ones(log.steps), (rows, log.obs)), (log.steps, log.spec.obs.size))
        return (log.obs - self.mean) / self.std

    def view(self, log: Episodes) -> View:
        seen = None if isinstance(log.spec.obs, Discrete) else Affine(np.float32(self.mean), np.float32(self.std))
        return View(seen, log.view.action, None)


class Counts:
    """How often each action was taken in each state, as if κ more rows had shown what is usual. κ is the one under which each row is most likely
    given the others (leave-one-out, in closed form)."""

    def __init__(self, log: Episodes, seed: int):
        self.count = np.zeros((log.spec.obs.size, log.spec.action.size))
        np.add.at(self.count, (log.obs, log.action), 1)
        self.usual = _usual(log)
        rest = self.count[log.obs, log.action] - 1, self.count.sum(axis=1)[log.obs] - 1, self.usual[log.action]
        tries = 10.0 ** np.arange(-2, 3.25, 0.25)
        self.prior = max(tries, key=lambda k: np.log((rest[0] + k * rest[2]) / (rest[1] + k)).sum())

    def table(self) -> np.ndarray:
        return (self.count + self.prior * self.usual) / (self.count.sum(axis=1, keepdims=True) + self.prior)

    def ask(self, log: Episodes) -> Chances:
        return _allowed(self.table()[log.obs], log)

    def policy(self, correction: Correction, log: Episodes) -> Markov:
        return nets.TablePolicy(jnp.asarray(correction(Chances(self.table())).p, jnp.float32))


class Logistic:
    """Multinomial logistic regression by L-BFGS; illegal actions are left out of the softmax, in learning too."""

    def __init__(self, log: Episodes, seed: int):
        self.eye, actions = Eye.on(log), log.spec.action.size
        x, hit, n = self.eye(log), np.eye(actions)[log.action], log.steps
        size = x.shape[1]

        def loss(w):
            weight, bias = w[:-actions].reshape(size, actions), w[-actions:]
            logits = _masked(x @ weight + bias[None], log.mask)
            said = log_softmax(logits, axis=1)
            slope = np.exp(said) - hit
            value = -said[np.arange(n), log.action].sum() + 0.5 * (weight**2).sum()
            return value / n, np.concatenate([(x.T @ slope + weight).ravel(), slope.sum(axis=0) + 1e-3 * bias]) / n

        found = scipy.optimize.minimize(loss, np.zeros((size + 1) * actions), jac=True, method="L-BFGS-B", options={"maxiter": 300})
        self.weight, self.bias = found.x[:-actions].reshape(size, actions), found.x[-actions:]
        self.usual, self.rows = _usual(log), n

    def ask(self, log: Episodes) -> Chances:
        return Chances(np.exp(log_softmax(_masked(self.eye(log) @ self.weight + self.bias[None], log.mask), axis=1)))

    def policy(self, correction: Correction, log: Episodes) -> Markov:
        net = nets.MLP(self.weight.shape, key=jax.random.key(0))
        layer = nets.Linear(*(jnp.asarray(x / correction.temperature, jnp.float32) for x in (self.weight, self.bias)))
        made = nets.Categories(log.spec, (), key=jax.random.key(0))
        made = eqx.tree_at(lambda p: p.net, made, eqx.tree_at(lambda m: m.layers, net, (layer,)))
        if correction.x is not None:
            made = Corrected(made, *(jnp.asarray(x, jnp.float32) for x in (correction.x, correction.y)))
        return RawMarkov(made, self.eye.view(log), log.spec)


def _masked(logits, mask):
    return logits if mask is None else np.where(mask, logits, -np.inf)


class LinearGaussian(Markov):
    """obs -> Normal whose mean and log std are linear in it."""

    mean: nets.Linear
    log_std: nets.Linear

    def __call__(self, obs, mask=None):
        return nets.Normal(self.mean(obs), jnp.clip(self.log_std(obs), -10.0, 3.0))


class Gaussian:
    """Mean and log standard deviation linear in the observation, by maximum likelihood; an action on a bound says that it would have been there
    or beyond (Tobin 1958, https://doi.org/10.2307/1907382)."""

    def __init__(self, log: Episodes, seed: int):
        self.eye = Eye.on(log)
        x, action, n = self.eye(log), _unit_actions(log), log.steps
        size = x.shape[1]

        def fit(a):
            low, high = a <= -1 + EDGE, a >= 1 - EDGE

            def loss(w):
                mean, raw = x @ w[:size] + w[size], x @ w[size + 1 : -1] + w[-1]
                log_std = np.clip(raw, -10, 3)
                z = (a - mean) * np.exp(-log_std)
                hazard = np.exp(-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - log_ndtr(np.where(low, z, -z)))
                nll = np.where(low, -log_ndtr(z), np.where(high, -log_ndtr(-z), 0.5 * z**2 + log_std + 0.5 * math.log(2 * math.pi)))
                by_z = np.where(low, -hazard, np.where(high, hazard, z))
                to_mean = -by_z * np.exp(-log_std)
                to_log_std = np.where(raw == log_std, -by_z * z + ~(low | high), 0)
                decay = 1e-3 * w
                decay[[size, -1]] = 0
                parts = x.T @ to_mean, [to_mean.sum()], x.T @ to_log_std, [to_log_std.sum()]
                return (nll.sum() + 0.5 * w @ decay) / n, (np.concatenate(parts) + decay) / n

            start = np.zeros(2 * size + 2)
            start[size], start[-1] = a.mean(), math.log(max(a.std(), 1e-6))
            return scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x

        w = np.stack([fit(a) for a in action.T], axis=1)
        self.weight, self.bias, self.wide, self.width = w[:size], w[size], w[size + 1 : -1], w[-1]

    def ask(self, log: Episodes) -> Conditional:
        x = self.eye(log)
        std = np.exp(np.clip(x @ self.wide + self.width[None], -10, 3))
        return _one_part(x @ self.weight + self.bias[None], std**2)

    def policy(self, correction: Correction, log: Episodes) -> Markov:
        linear = lambda w, b: nets.Linear(jnp.asarray(w, jnp.float32), jnp.asarray(b, jnp.float32))
        made = LinearGaussian(linear(self.weight, self.bias), linear(self.wide, self.width + 0.5 * math.log(correction.temperature)))
        return RawMarkov(made, self.eye.view(log), log.spec)


def _one_part(mean: np.ndarray, var: np.ndarray) -> Conditional:
    return Conditional(np.ones((len(mean), 1)), mean[:, None], var[:, None, :, None] * np.eye(mean.shape[1]))


class Mixture:
    """A mixture of Gaussians over (observation, action), and what it says of the action given the observation. Of 1, 2, 4 or 8 parts, those with
    the least BIC."""

    def __init__(self, log: Episodes, seed: int):
        from sklearn.mixture import GaussianMixture

        action = _unit_actions(log)
        if (edge := np.abs(action) >= 1 - EDGE).mean() > 0.01:
            raise Refused(f"{log.source}: {edge.mean():.0%} of action coordinates lie on a bound, which a mixture of densities cannot say. "
                          'Use kind="gaussian", which is clipped there.')  # fmt: skip
        self.eye = Eye.on(log)
        x = np.concatenate([self.eye(log), action], axis=1)
        counts = [n for n in (1, 2, 4, 8) if n * x.shape[1] < len(x)] or [1]
        with threads(log.steps):
            fits = [GaussianMixture(n, reg_covar=1e-5, random_state=seed, max_iter=300).fit(x) for n in counts]
        best = min(fits, key=lambda fit: fit.bic(x))
        self.weight, self.mean, self.cov, self.size = best.weights_, best.means_, best.covariances_, action.shape[1]

    def ask(self, log: Episodes) -> Conditional:
        x, d = self.eye(log), self.mean.shape[1] - self.size
        weight, mean, cov = [], [], []
        for w, m, c in zip(self.weight, self.mean, self.cov):
            gain = np.linalg.solve(c[:d, :d], c[:d, d:])
            away = x - m[:d]
            chol = np.linalg.cholesky(c[:d, :d])
            z = np.linalg.solve(chol, away.T)
            weight.append(np.log(w) - 0.5 * (z**2).sum(axis=0) - np.log(np.diag(chol)).sum())
            mean.append(m[d:] + away @ gain)
            cov.append(np.broadcast_to(c[d:, d:] - c[d:, :d] @ gain, (len(x), self.size, self.size)))
        return Conditional(np.exp(log_softmax(np.stack(weight, axis=1), axis=1)), np.stack(mean, axis=1), np.stack(cov, axis=1))


class Neighbours:
    """What was done at the √n nearest observations (10 to 200 of them). A `Box`: a normal with their mean and variance."""

    def __init__(self, log: Episodes, seed: int):
        from sklearn.neighbors import NearestNeighbors

        self.eye = Eye.on(log)
        self.k = int(min(log.steps, np.clip(round(math.sqrt(log.steps)), 10, 200)))
        self.near, self.log = NearestNeighbors(n_neighbors=self.k).fit(self.eye(log)), log

    def ask(self, log: Episodes) -> Chances | Conditional:
        near = self.near.kneighbors(self.eye(log), return_distance=False)
        if isinstance(log.spec.action, Discrete):
            share = np.stack([(self.log.action[near] == a).mean(axis=1) for a in range(log.spec.action.size)], axis=1)
            return _softened(share, log, _usual(self.log), self.k)
        action = _unit_actions(self.log)
        overall = action.var(axis=0) / self.k  # one neighbour's worth of the whole spread: no variance is 0
        return _one_part(action[near].mean(axis=1), action[near].var(axis=1) * (1 - 1 / self.k) + overall + 1e-12)


class Trees:
    """Gradient-boosted trees: of actions; for a `Box` of the mean in each dimension, and of the squared distance from it (with a logarithmic
    link), measured on a quarter of the episodes that the mean has not seen."""

    def __init__(self, log: Episodes, seed: int):
        from sklearn.ensemble import HistGradientBoostingClassifier as Classifier
        from sklearn.ensemble import HistGradientBoostingRegressor as Regressor

        self.usual = None
        with threads(log.steps):
            self._fit(log, seed, Classifier, Regressor)

    def _fit(self, log, seed, Classifier, Regressor):
        how = dict(max_iter=50, max_leaf_nodes=8, learning_rate=0.1, l2_regularization=1.0, random_state=seed)
        if isinstance(log.spec.action, Discrete):
            self.usual, self.rows = _usual(log), log.steps
            one = len(np.unique(log.action)) == 1
            self.boosted = None if one else Classifier(early_stopping=False, **how).fit(log.obs, log.action)
            return
        rest, aside = log.split(0.25, seed=seed) if len(log) > 3 else (log, log)
        self.means = [Regressor(early_stopping=False, **how).fit(rest.obs, a) for a in _unit_actions(rest).T]
        errors = [(a - m.predict(aside.obs)) ** 2 + 1e-12 for a, m in zip(_unit_actions(aside).T, self.means)]
        self.variances = [Regressor(loss="gamma", early_stopping=False, **how).fit(aside.obs, e) for e in errors]

    def ask(self, log: Episodes) -> Chances | Conditional:
        with threads(log.steps):
            return self._ask(log)

    def _ask(self, log: Episodes) -> Chances | Conditional:
        if self.usual is not None:
            p = np.zeros((log.steps, len(self.usual)))
            if self.boosted is None:
                p[:, self.usual.argmax()] = 1
            else:
                p[:, self.boosted.classes_] = self.boosted.predict_proba(log.obs)
            return _softened(p, log, self.usual, self.rows)
        stack = lambda models: np.stack([m.predict(log.obs).astype(np.float64) for m in models], axis=1)
        return _one_part(stack(self.means), stack(self.variances))
