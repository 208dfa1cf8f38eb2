r"""Fitted Q evaluation: what a policy is worth, learned from somebody else's log as one learns to regress,

$$ Q_{k+1} = \arg\min_Q E\big[(r + \gamma\, E_{a' \sim \pi(\cdot \mid s')}\, Q_k(s', a') - Q(s, a))^2\big], \qquad
   \hat v(\pi) = E_{s_0} E_{a \sim \pi} Q(s_0, a). $$

No probability of the logger is needed, and a policy without density can be judged; what is paid is the error of the regression where the
policy goes and the log does not. Three regressions: an ensemble of nets (`fqe`), features in closed form (`lstdq`) and forests (`tree_fqe`).

Le, Voloshin and Yue 2019, *Batch policy learning under constraints*, https://arxiv.org/abs/1903.08738; the nets as in Paine et al. 2020,
https://arxiv.org/abs/2007.09055, and Fu et al. 2021, https://arxiv.org/abs/2103.16596.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse.linalg
import scipy.spatial.distance
from jaxtyping import Array, Float, Int

from .. import nets, ops
from ..core import Algorithm, Box, Discrete, Paper, Policy, Spec, Trained, polyak, static
from ..data import Episodes
from ..data.device import Batch
from ..loop import Listener, train
from .beliefs import Belief, doing, seen_standardised
from .table import Refused, in_parts

PRODUCTS = 1000
"With a sparse matrix, after which it is factorised instead."
MOMENTS = 50
"At which listeners of `fqe` are told how far it is."
STORED = 16
"Actions that a policy is asked for at each next observation of a `Box`; learning draws one of them at each step."


class Asked(eqx.Module):
    """A log on the device, and what a policy would do in it."""

    all: Batch
    next_doing: Float[Array, "n actions"] | Float[Array, "n draws act"]
    "At `next_obs`: probabilities of all actions, or drawn actions of a `Box`."
    episode: Int[Array, " n"]
    least: Float[Array, ""]
    "Of the rewards."
    most: Float[Array, ""]
    shortest: Float[Array, ""] | None
    "Of the durations."
    episodes: int = static()
    spec: Spec = static()

    def __len__(self):
        return len(self.all)

    def draw(self, n: int, *, key) -> "tuple[Batch, Array, Array]":
        """(rows, what the policy would do at `next_obs`, their episodes)."""
        row, which = jax.random.split(key)
        index = jax.random.randint(row, (n,), 0, len(self))
        done = self.next_doing[index]
        if isinstance(self.spec.action, Box):
            done = done[jnp.arange(n), jax.random.randint(which, (n,), 0, done.shape[1])]
        return self.all[index], done, self.episode[index]

    def reach(self, gamma) -> "tuple[Array, Array]":
        """The least and the largest value that rewards like the logged ones can add up to."""
        for_ever = 1 / (1 - (gamma if self.shortest is None else gamma**self.shortest))
        low, high = jnp.where(self.least < 0, self.least * for_ever, self.least), jnp.where(self.most > 0, self.most * for_ever, self.most)
        return low, high


def ask(policy: Policy, log: Episodes, *, scale: float = 1.0, draws: int = STORED, seed: int = 0) -> Asked:
    """What FQE learns from: the log, rewards divided by `scale`, and what `policy` does at each next observation."""
    rows = log.transitions().rows()
    done = doing(policy, log.next_obs, log.next_mask, log.spec, log.view, draws=draws, seed=seed)
    reward = log.reward.astype(np.float64) / scale
    number = jnp.asarray(np.repeat(np.arange(len(log)), log.lengths), jnp.int32)
    f = lambda x: jnp.asarray(x, jnp.float32)
    rows = eqx.tree_at(lambda r: r.reward, rows, f(reward))
    return Asked(rows, f(done), number, f(reward.min()), f(reward.max()), None if log.duration is None else f(log.duration.min()),
                 len(log), log.spec)  # fmt: skip


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    weights: Float[Array, "critics episodes"]
    "How much each critic makes of each episode."


class FQE(Algorithm[State]):
    """The nets. Every critic bootstraps from itself, and weighs episodes in its own way: by Exp(1), which is the Bayesian bootstrap
    (Rubin 1981, https://doi.org/10.1214/aos/1176345338), drawn once. Targets are held between the least and the largest value that rewards like
    the logged ones can add up to. Settings as in https://github.com/google-research/google-research/tree/master/policy_eval but for: a learning
    rate that falls along a cosine, several critics, fewer steps (hence `settled`), no weight decay (there 1e-5)."""

    paper: ClassVar = Paper(
        "Hoang M. Le and Cameron Voloshin and Yisong Yue", "Batch policy learning under constraints", "ICML", 2019,
        "https://arxiv.org/abs/1903.08738",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)

    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    decay: bool = static(True)
    "Whether the learning rate falls to 0 along a cosine over `steps`."
    bootstrap: bool = static(True)
    "Whether critics weigh episodes differently. Without, they differ in their first weights only."
    critics: int = static(5)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(30_000)
    batch_size: int = static(256)

    @classmethod
    def settled(cls, log: Episodes, discount: float, **fields) -> "FQE":
        r"""Settings whose slow copies follow fast enough for the number of steps: $e^{-5}$ of the first guess is left at the end.

        What a critic says of the future reaches the present by the slow copy, of which a step replaces a share τ, and shrinks by γ each time: after
        k steps about $e^{-k \tau / H}$ of the first guess is left, H being how far ahead rewards count, 1 / (1 - γ) or the longest episode, if all
        of them truly end. With 0.005 and γ = 0.99 that takes 100,000 steps, with fewer the values are too near to 0, in silence.
        Numbered states have nothing in common that a net could find, so small nets do for them, in an eighth of the time.
        """
        made = cls(discount=discount, **({"hidden": (64, 64)} if isinstance(log.spec.obs, Discrete) else {}) | fields)
        ahead = 1 / (1 - discount) if discount < 1 else float("inf")
        if discount == 1 or not log.truncated.any():
            ahead = min(ahead, int(log.lengths.max()))
        return dataclasses.replace(made, target_rate=min(1.0, max(made.target_rate, 5 * ahead / made.steps)))

    @property
    def optimiser(self):
        return optax.adam(optax.cosine_decay_schedule(self.lr, self.steps) if self.decay else self.lr)

    def prepare(self, episodes):
        raise TypeError(
            "FQE judges a policy, and so a log alone is not enough. Call topstitch.ope.fqe.fqe(policy, log), or train on ask(policy, log)."
        )

    def init(self, data, *, key):
        kq, kw = jax.random.split(key)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        shape = (self.critics, data.episodes)
        return State(Trained.start(q, self.optimiser), q, jax.random.exponential(kw, shape) if self.bootstrap else jnp.ones(shape))

    def sample(self, state, data, *, key):
        return *data.draw(self.batch_size, key=key), *data.reach(self.discount)

    def update(self, state, batch, *, step, key):
        rows, next_doing, episode, low, high = batch
        value = expected(state.target, rows.next_obs, next_doing)
        goal = jax.vmap(lambda v: ops.td_target(rows.reward, rows.terminal, v, rows.discount(self.discount)))(value)
        goal, weight = jnp.clip(goal, low, high), state.weights[:, episode]

        def loss(q):
            taken = q(rows.obs, rows.action)
            loss = (weight * (taken - goal) ** 2).sum(axis=0).mean()
            return loss, {"critic/loss": loss, "critic/q": taken.mean(), "critic/target": goal.mean()}

        critic, info = state.critic.descend(loss, self.optimiser)
        return State(critic, polyak(state.target, critic.model, self.target_rate), state.weights), info

    def value(self, state: State) -> nets.Ensemble:
        """Q of the policy as each critic sees it: the slow copies, which are less noisy."""
        return state.target

    def policy(self, state):
        raise TypeError("FQE judges a policy and learns none: ask it for `value`.")


def expected(q: nets.Ensemble, obs, done) -> Float[Array, "critics n"]:
    """The mean of every critic's Q(s, ·): over probabilities of all actions, or at one drawn action of a `Box`."""
    if isinstance(q.members, nets.DiscreteQ):
        return (q.every(obs) * done[None]).sum(axis=-1)
    return q(obs, done)


def fqe(
    policy: Policy, log: Episodes, *, algorithm: FQE | None = None, seed: int = 0, draws: int = STORED, listeners: Sequence[Listener] = ()
) -> Belief:
    """Fit an ensemble of nets to the value of `policy` on `log`.

    `policy` takes raw observations and answers with raw actions, as saved policies do. `listeners` are told how far it is.
    Raises `Refused` where learning diverges, and for policies with a memory.
    """
    algorithm = algorithm or FQE.settled(log, 0.99)
    log = seen_standardised(log)
    scale = unit(log, algorithm.discount)
    often = max(1, algorithm.steps // MOMENTS) if listeners else algorithm.steps
    out = train([(algorithm, seed)], ask(policy, log, scale=scale, draws=draws, seed=seed), every=often, listeners=listeners)
    if out.faults[0] is not None:
        raise Refused(f"Fitted Q evaluation diverged: {out.faults[0]}. The log may not cover what the policy does; lower the learning rate "
                      "(lr) or the discount, or trust an estimator that does not bootstrap.")  # fmt: skip
    q = algorithm.value(jax.tree.map(lambda x: x[0], out.states))
    every = (lambda obs: _every(q, obs, scale)) if isinstance(log.spec.action, Discrete) else (lambda obs, a: _each(q, obs, a, scale))
    return Belief(policy, algorithm.discount, every, log.spec, log.view, seed)


def unit(log: Episodes, discount: float) -> float:
    """The root mean square of logged returns from each step on: what rewards are divided by, so that values are near 1."""
    size = float(np.sqrt((log.to_go(discount) ** 2).mean()))
    return size if size > 1e-8 else 1.0


@jax.jit
def _every(q, obs, scale):
    return scale * q.every(obs)


@jax.jit
def _each(q, obs, action, scale):
    return scale * q(obs, action)


# features in closed form -------------------------------------------------------------------------------------------------------


def lstdq(
    policy: Policy,
    log: Episodes,
    *,
    discount: float,
    features: Literal["polynomial", "radial"] = "polynomial",
    degree: int = 2,
    centres: int = 100,
    ridge: float = 1e-9,
    seed: int = 0,
) -> Belief:
    r"""Q linear in fixed features, in closed form and in float64: $\Phi^\top (\Phi - \Phi') w + n \lambda w = \Phi^\top r$, where
    $\Phi'$ is γ times the mean of features of the next step under the policy, 0 where a step is terminal.

    One-hot features of numbered states: then this is the exact value in the empirical world, and 0 for pairs that were never logged.
    Else polynomials, or radial features whose centres are logged and whose width is the median distance between them. Features of a `Discrete`
    action lie in a block of its own; those of a `Box` are of the pair. Lagoudakis and Parr 2003, section 5.2,
    https://jmlr.org/papers/v4/lagoudakis03a.html. Raises `Refused` where the system has no solution.
    """
    log = seen_standardised(log)
    phi = basis(log, features, degree=degree, centres=centres, seed=seed)
    matrix: Any = 0.0  # dense or sparse
    given: Any = 0.0
    met: Any = 0.0
    for now, after, reward in linear_rows(policy, log, phi, discount=discount, seed=seed):
        matrix, given, met = matrix + now.T @ (now - after), given + now.T @ reward, met + abs(now).sum(axis=0)
    known = np.flatnonzero(met)  # what was never met has weight 0: the limit of a small ridge
    weights = np.zeros(len(met))
    weights[known] = solve(matrix[known][:, known] / log.steps, given[known] / log.steps, ridge)
    seen = lambda x: np.asarray(phi(jnp.asarray(x)), np.float64)
    if isinstance(log.spec.action, Box):
        every = lambda obs, action: (in_parts(seen, np.asarray(paired(obs, action, log.spec)), filled=False) @ weights)[None]
    elif isinstance(log.spec.obs, Discrete):
        table = weights.reshape(log.spec.action.size, -1).T
        every = lambda obs: table[obs][None]
    else:
        every = lambda obs: (in_parts(seen, obs, filled=False) @ weights.reshape(log.spec.action.size, -1).T)[None]
    return Belief(policy, discount, every, log.spec, log.view, seed)


def solve(matrix: Any, given: np.ndarray, ridge: float, why: str = "") -> np.ndarray:
    """x with (A + λ) x = b, dense or sparse. Raises `Refused`, saying `why`, where there is none.

    A sparse A is nearly its diagonal: some tens of products solve in a moment what a factorisation, which fills up, takes half a minute for.
    """
    sparse, found = scipy.sparse.issparse(matrix), None
    matrix = matrix + ridge * (scipy.sparse.eye_array if sparse else np.eye)(len(given))
    if sparse:
        diagonal = matrix.diagonal()
        guess = scipy.sparse.diags_array(1 / np.where(diagonal, diagonal, 1))
        with np.errstate(all="ignore"):  # where it diverges, the factorisation has to do
            found, _ = scipy.sparse.linalg.bicgstab(matrix, given, rtol=1e-12, atol=0, M=guess, maxiter=PRODUCTS)
            if np.abs(matrix @ found - given).max() <= 1e-10 * np.abs(given).max():
                return found
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return np.asarray(scipy.sparse.linalg.spsolve(matrix.tocsc(), given)) if sparse else np.linalg.solve(matrix, given)
        except (np.linalg.LinAlgError, scipy.sparse.linalg.MatrixRankWarning):
            raise Refused(why or "Least squares found no single value: the features of logged pairs are dependent. Raise ridge, or lower degree or "
                          "centres.") from None  # fmt: skip


def basis(log: Episodes, kind: str, *, degree: int, centres: int, seed: int) -> nets.Features:
    """Features of observations (Discrete actions), or of pairs of unit observation and action (`Box`)."""
    if isinstance(log.spec.obs, Discrete) and isinstance(log.spec.action, Discrete):
        return nets.OneHot(log.spec.obs.size)
    rows = log.transitions().rows()
    x = rows.obs if isinstance(log.spec.action, Discrete) else paired(rows.obs, rows.action, log.spec)
    if kind == "polynomial":
        return nets.Polynomial(x.shape[1], degree)
    rng = np.random.default_rng(seed)
    chosen = x[np.sort(rng.choice(len(x), min(centres, len(x)), replace=False))]
    apart = scipy.spatial.distance.pdist(np.asarray(chosen, np.float64))
    return nets.Radial(jnp.asarray(chosen), jnp.asarray(np.median(apart[apart > 0]) if (apart > 0).any() else 1.0, jnp.float32))


def paired(obs, action, spec: Spec):
    """(observation, action) of a `Box` as one vector."""
    return jnp.concatenate([nets.vector(jnp.asarray(obs), spec.obs), jnp.asarray(action)], axis=-1)


def linear_rows(policy: Policy, log: Episodes, phi: nets.Features, *, discount: float, seed: int, part: int = 4096):
    """(features of logged pairs, discounted mean features of what the policy does next, rewards), a part of the rows at a time, in float64."""
    done = doing(policy, log.next_obs, log.next_mask, log.spec, log.view, draws=STORED, seed=seed)
    rows, spec = log.transitions().rows(), log.spec
    discrete, tabular = isinstance(spec.action, Discrete), isinstance(phi, nets.OneHot)
    part, counts = log.steps if tabular else part, log.discount(discount) * ~log.terminal
    for at in range(0, log.steps, part):
        row = slice(at, at + part)
        on, then, reward = counts[row], done[row].astype(np.float64), log.reward[row].astype(np.float64)
        obs, action, after = (np.asarray(x[row]) for x in (rows.obs, rows.action, rows.next_obs))
        if tabular:
            actions = spec.action.size
            then = then * on[:, None]
            shape, steps = (len(on), actions * phi.size), np.arange(len(on))
            place = np.arange(actions)[None] * phi.size + after[:, None]
            now = scipy.sparse.csr_array((np.ones(len(on)), (steps, action * phi.size + obs)), shape)
            later = scipy.sparse.csr_array((then.ravel(), (np.repeat(steps, actions), place.ravel())), shape)
        elif discrete:
            blocks = lambda p, x: (p[:, :, None] * np.asarray(phi(jnp.asarray(x)), np.float64)[:, None, :]).reshape(len(p), -1)
            now, later = blocks(np.eye(spec.action.size)[action], obs), blocks(then * on[:, None], after)
        else:
            at_pairs = lambda x, a: np.asarray(phi(paired(x, a, spec)), np.float64)
            later = np.mean([at_pairs(after, then[:, k].astype(np.float32)) for k in range(then.shape[1])], axis=0) * on[:, None]
            now = at_pairs(obs, action)
        yield now, later, reward


# forests -----------------------------------------------------------------------------------------------------------------------


def tree_fqe(
    policy: Policy, log: Episodes, *, discount: float, trees: int = 50, min_leaf: int = 5, iterations: int = 50, seed: int = 0,
    tell: Callable[[int], Any] = lambda done: None,
) -> Belief:  # fmt: skip
    """Q as a forest of extremely randomised trees over pairs, fitted `iterations` times to its own one-step targets, in float64 targets.

    Numbered states and actions are split by their numbers; of a `Box`, each iteration takes one drawn action a row. With `min_leaf` 1 and every
    pair that the policy meets logged, this is iterated policy evaluation in the empirical world, which begins with what the logger earned:
    discount^iterations of that error is left. The forest is that of Ernst et al. 2005, https://jmlr.org/papers/v6/ernst05a.html; that its value
    may be evaluated rather than maximised, Le et al. 2019. `tell` hears after each iteration how many there have been.
    """
    from sklearn.ensemble import ExtraTreesRegressor  # slow to import

    log = seen_standardised(log)
    spec, rows = log.spec, log.transitions().rows()
    done = doing(policy, log.next_obs, log.next_mask, spec, log.view, draws=STORED, seed=seed)
    column = lambda x: np.asarray(x, np.float32).reshape(len(x), -1)
    x = np.concatenate([column(rows.obs), column(rows.action)], axis=1)
    after, back = np.unique(column(rows.next_obs), axis=0, return_inverse=True)
    reward, counts = log.reward.astype(np.float64), log.discount(discount) * ~log.terminal
    goal = log.to_go(discount)  # what the logger earned is nearer to the truth than nothing is
    for i in range(iterations):
        forest = ExtraTreesRegressor(trees, min_samples_leaf=min_leaf, random_state=seed + i).fit(x, goal)
        if isinstance(spec.action, Discrete):
            value = (_forest_every(forest, after, spec.action.size)[back.ravel()] * done).sum(axis=1)
        else:
            value = forest.predict(np.concatenate([column(rows.next_obs), done[:, i % done.shape[1]]], axis=1))
        goal = reward + counts * value
        tell(i + 1)
    forest = ExtraTreesRegressor(trees, min_samples_leaf=min_leaf, random_state=seed + iterations).fit(x, goal)
    if isinstance(spec.action, Discrete):
        every = lambda obs: _forest_every(forest, column(obs), spec.action.size)[None]
    else:
        every = lambda obs, action: forest.predict(np.concatenate([column(obs), column(action)], axis=1))[None]
    return Belief(policy, discount, every, spec, log.view, seed)


def _forest_every(forest, obs: np.ndarray, actions: int) -> np.ndarray:
    """(n, actions)."""
    each = [forest.predict(np.concatenate([obs, np.full((len(obs), 1), a, np.float32)], axis=1)) for a in range(actions)]
    return np.stack(each, axis=1)
