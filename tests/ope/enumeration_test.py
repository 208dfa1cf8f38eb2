"""Estimators against exact expectations: every trajectory of a small MDP is a row, and its probability is known."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import scipy.optimize

from topstitch.ope import importance as imp
from topstitch.ope.doubly_robust import (
    corrections,
    direct,
    doubly_robust,
    features,
    least,
    magic,
    mixed,
    more_robust,
    regression,
    variance_minimising,
    weighted_doubly_robust,
)  # fmt: skip
from topstitch.ope.sums import Sums
from topstitch.ope.table import Refused, Table, Values, of

GAMMA, HORIZON, STATES, ACTIONS, END = 0.9, 3, 3, 2, 2
RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.ones(STATES), (STATES, ACTIONS))  # state 2 is the end
R = RNG.normal(size=(STATES, ACTIONS, STATES))
START = np.array([0.6, 0.4, 0.0])
LOGGER, TARGET = (RNG.dirichlet(np.ones(ACTIONS) * 2, STATES) for _ in range(2))
BEYOND = np.array([1.5, -0.7, 0.0])
"What the two live states are worth behind the horizon."


class Solved(NamedTuple):
    value: float
    v: np.ndarray
    "(horizon + 1, states)."
    q: np.ndarray
    "(horizon, states, actions)."


def solve(policy, beyond=BEYOND) -> Solved:
    """What a policy earns in three steps and behind them, backwards."""
    v, q = [beyond], []
    for _ in range(HORIZON):
        q.insert(0, (P * (R + GAMMA * v[0])).sum(axis=-1))
        v.insert(0, np.where(np.arange(STATES) == END, 0, (policy * q[0]).sum(axis=-1)))
    return Solved(float(START @ v[0]), np.array(v), np.array(q))


class World(NamedTuple):
    """All trajectories: the columns of their steps, and how likely each trajectory is under the logger."""

    p: np.ndarray
    state: np.ndarray
    action: np.ndarray
    after: np.ndarray
    reward: np.ndarray
    time: np.ndarray
    ends: np.ndarray
    truncated: np.ndarray

    def table(self, target=TARGET, logger=LOGGER, values: Values | None = None, truth=True) -> Table:
        truncated = self.truncated if truth else np.zeros(len(self.p), bool)
        more = dict(action=self.action, ends=self.ends, truncated=truncated, discount=GAMMA, values=values)
        return of(self.reward, target[self.state], logger[self.state], **more)

    def values(self, q, v, beyond) -> Values:
        """By time and state, as (horizon, states, actions) and (horizon + 1, states)."""
        last = self.after[np.flatnonzero(self.ends)]
        return Values(q[self.time, self.state, self.action], v[self.time, self.state], np.where(self.truncated, beyond[last], 0.0))

    def exact(self, sums: Sums) -> float:
        """E[estimate of one episode] for a plain mean; for a ratio what it becomes as episodes grow without end."""
        return Sums(sums.top * self.p[:, None], sums.bottom * self.p[:, None]).value


def enumerate_all() -> World:
    columns, likely, cut = [], [], []
    for path in itertools.product(range(STATES), *[range(ACTIONS), range(STATES)] * HORIZON):
        state, p, steps = path[0], START[path[0]], []
        for t in range(HORIZON):
            action, after = path[1 + 2 * t], path[2 + 2 * t]
            if state == END:
                p *= (action, after) == (0, END)  # one way to stand still, so that none is counted twice
            else:
                p *= LOGGER[state, action] * P[state, action, after]
                steps.append((state, action, after, R[state, action, after], t))
            state = after
        if p > 0:
            likely.append(p)
            cut.append(state != END)
            columns += [(*step, i == len(steps) - 1) for i, step in enumerate(steps)]
    state, action, after, reward, time, ends = map(np.array, zip(*columns))
    return World(np.array(likely), state, action, after, reward, time, ends, np.array(cut))


ALL = enumerate_all()
TRUE = solve(TARGET)
WITHIN = solve(TARGET, np.zeros(STATES))
EXACT = ALL.values(TRUE.q, TRUE.v, BEYOND)
NOISE = RNG.normal(size=TRUE.q.shape)
WRONG = ALL.values(NOISE, (TARGET * NOISE).sum(axis=-1), BEYOND)
"Values of nothing; but V is the mean of Q under the policy, or no correction could make up for it."


def sampled(n: int, seed: int, **more) -> tuple[Table, np.ndarray]:
    """A table of n episodes drawn from all, and which they are."""
    which = np.random.default_rng(seed).choice(len(ALL.p), n, p=ALL.p / ALL.p.sum())
    table = ALL.table(**more)
    rows = {name: x[which] for name, x in table._asdict().items() if isinstance(x, np.ndarray)}
    return table._replace(**rows), which


def test_all_trajectories_are_there():
    np.testing.assert_allclose(ALL.p.sum(), 1, rtol=1e-12)
    assert ALL.truncated.any() and not ALL.truncated.all()
    np.testing.assert_allclose(ALL.p @ imp.returns(ALL.table()), solve(LOGGER, np.zeros(STATES)).value, rtol=1e-12)


@pytest.mark.parametrize("estimator", [imp.ordinary, imp.per_decision])
def test_importance_sampling_is_without_bias(estimator):
    assert abs(ALL.exact(estimator(ALL.table())) - WITHIN.value) < 1e-10


def test_doubly_robust_is_without_bias_whatever_is_believed():
    for values in (EXACT, WRONG):
        assert abs(ALL.exact(doubly_robust(ALL.table(values=values))) - TRUE.value) < 1e-10


def test_doubly_robust_is_right_if_only_the_values_are():
    mistaken = RNG.dirichlet(np.ones(ACTIONS), STATES)
    table = ALL.table(logger=mistaken, values=EXACT)
    assert abs(ALL.exact(doubly_robust(table)) - TRUE.value) < 1e-10
    assert abs(ALL.exact(direct(table)) - TRUE.value) < 1e-10
    assert abs(ALL.exact(imp.per_decision(table)) - WITHIN.value) > 0.01  # the law can fail
    assert abs(ALL.exact(doubly_robust(ALL.table(logger=mistaken, values=WRONG))) - TRUE.value) > 0.01


@pytest.mark.parametrize("estimator", [imp.weighted, imp.weighted_per_decision])
def test_weighted_importance_sampling_is_consistent(estimator):
    table = ALL.table()
    assert abs(ALL.exact(estimator(table)) - WITHIN.value) < 1e-10
    assert abs(estimator(table).value - WITHIN.value) > 1e-3  # every trajectory once is another distribution


@pytest.mark.parametrize("values", [EXACT, WRONG])
def test_weighted_doubly_robust_is_consistent(values):
    assert abs(ALL.exact(weighted_doubly_robust(ALL.table(values=values))) - TRUE.value) < 1e-10


def test_one_episode_weighted_by_itself_is_what_the_logger_earns():
    """E at n = 1, where every weight is 1: the bias of self-normalisation at its largest."""
    table = ALL.table()
    alone = [imp.weighted(table._replace(**{k: x[[i]] for k, x in table._asdict().items() if isinstance(x, np.ndarray)})).value
             for i in range(len(ALL.p))]  # fmt: skip
    np.testing.assert_allclose(ALL.p @ alone, solve(LOGGER, np.zeros(STATES)).value, rtol=1e-10)


def test_estimates_are_the_mean_return_when_policies_agree():
    flat = np.repeat(RNG.normal(size=(HORIZON, STATES, 1)), ACTIONS, axis=-1)  # with Q(s, a) = V(s) corrections telescope
    values = ALL.values(flat, flat[..., 0].repeat(2, axis=0)[:HORIZON], np.zeros(STATES))
    values = Values(values.q, values.q, np.zeros(len(ALL.p)))
    table = ALL.table(target=LOGGER, values=values)
    mean = imp.returns(table).mean()
    for estimator in (
        imp.ordinary,
        imp.per_decision,
        imp.weighted,
        imp.weighted_per_decision,
        imp.clipped,
        doubly_robust,
        weighted_doubly_robust,
    ):
        np.testing.assert_allclose(estimator(table).value, mean, rtol=1e-12, err_msg=estimator.__name__)


def test_episodes_that_have_ended_keep_their_weight():
    table = of(np.ones(3), np.ones(3), np.ones(3), ends=np.array([True, False, True]))
    for estimator in (imp.per_decision, imp.weighted_per_decision):
        assert estimator(table).value == pytest.approx(1.5)


# by hand, slowly ------------------------------------------------------------------------------------------------------------


def loops(table: Table, kind: str) -> float:
    """The papers' sums, one term at a time."""
    n, lengths, gamma = len(table.live), table.live.sum(axis=1), GAMMA
    rho = lambda i, t: np.prod([np.exp(table.target[i, k] - table.behaviour[i, k]) for k in range(min(t + 1, lengths[i]))])
    steps = range(lengths.max())
    if kind == "pdis":
        return sum(gamma**t * rho(i, t) * table.reward[i, t] for i in range(n) for t in range(lengths[i])) / n
    if kind == "wpdis":
        return sum(gamma**t * sum(rho(i, t) * table.reward[i, t] for i in range(n)) / sum(rho(i, t) for i in range(n)) for t in steps)
    if kind == "dr":
        total = 0.0
        for i in range(n):
            later = table.v[i, lengths[i]]
            for t in reversed(range(lengths[i])):
                one = np.exp(table.target[i, t] - table.behaviour[i, t])
                later = table.v[i, t] + one * (table.reward[i, t] + gamma * later - table.q[i, t])
            total += later / n
        return total
    w = lambda i, t: 1 / n if t < 0 else rho(i, t) / sum(rho(j, t) for j in range(n))  # wdr: Thomas & Brunskill, equation 5
    total = 0.0
    for i in range(n):
        for t in range(lengths[i]):
            total += gamma**t * (w(i, t) * table.reward[i, t] - (w(i, t) * table.q[i, t] - w(i, t - 1) * table.v[i, t]))
        t = lengths[i]  # w(i, t - 1) of the first column behind the last step: what followed, as believed
        total += gamma**t * w(i, t - 1) * table.v[i, t]
    return total


def random_table(seed: int, n=7) -> Table:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, n)
    steps, ends = lengths.sum(), np.zeros(lengths.sum(), bool)
    ends[np.cumsum(lengths) - 1] = True
    cut = rng.random(n) < 0.5
    values = Values(rng.normal(size=steps), rng.normal(size=steps), np.where(cut, rng.normal(size=n), 0))
    return of(
        rng.normal(size=steps),
        rng.uniform(0.1, 1, steps),
        rng.uniform(0.1, 1, steps),
        ends=ends,
        truncated=cut,
        discount=GAMMA,
        values=values,
    )


NAMES = {"pdis": imp.per_decision, "wpdis": imp.weighted_per_decision, "dr": doubly_robust}


@pytest.mark.parametrize("kind", list(NAMES))
def test_as_the_papers_write_it(kind):
    for seed in range(5):
        table = random_table(seed)
        np.testing.assert_allclose(NAMES[kind](table).value, loops(table, kind), rtol=1e-10)


def test_weighted_doubly_robust_as_the_paper_writes_it():
    """The paper's weights of ended episodes sum with the others; a term w_{t-1} v(s_t) has the weight of the step before."""
    for seed in range(5):
        table = random_table(seed)
        np.testing.assert_allclose(weighted_doubly_robust(table).value, loops(table, "wdr"), rtol=1e-10)


ALL_ESTIMATORS = (
    imp.ordinary, imp.per_decision, imp.weighted, imp.weighted_per_decision, imp.clipped, direct, doubly_robust, weighted_doubly_robust, magic
)  # fmt: skip


def test_padding_does_not_matter():
    table = random_table(3, n=30)
    more = lambda x: np.concatenate([x, np.zeros((len(x), 4), x.dtype)], axis=1)
    longer = {name: more(x) for name, x in table._asdict().items() if isinstance(x, np.ndarray) and x.ndim == 2}
    longer["discount"] = np.broadcast_to(GAMMA ** np.arange(table.live.shape[1] + 4), longer["live"].shape)
    wider = table._replace(**longer)
    for estimator in ALL_ESTIMATORS:
        np.testing.assert_allclose(estimator(wider).value, estimator(table).value, rtol=1e-9, err_msg=estimator.__name__)


def test_one_longer_episode_changes_only_what_it_adds():
    rewards, ends = np.array([1.0, 2.0, 3.0]), np.array([True, True, True])
    short = of(rewards, np.full(3, 0.5), np.full(3, 0.25), ends=ends)
    more = of(
        np.append(rewards, np.zeros(4)),
        np.full(7, 0.5),
        np.append(np.full(3, 0.25), np.full(4, 0.5)),
        ends=np.append(ends, [False] * 3 + [True]),
    )
    assert imp.ordinary(more).value == pytest.approx(imp.ordinary(short).value * 3 / 4)
    np.testing.assert_array_equal(more.ratios()[:3, -1], short.ratios()[:, -1])


def test_what_follows_a_truncated_episode_counts_and_an_end_does_not():
    values = Values(np.array([2.0]), np.array([2.5]), np.array([10.0]))
    kept = of(np.array([1.0]), np.array([0.6]), np.array([0.3]), truncated=np.array([True]), discount=0.9, values=values)
    ended = of(np.array([1.0]), np.array([0.6]), np.array([0.3]), discount=0.9, values=Values(values.q, values.v, np.zeros(1)))
    assert doubly_robust(ended).value == pytest.approx(2.5 + 2 * (1 - 2))
    assert doubly_robust(kept).value == pytest.approx(2.5 + 2 * (1 + 0.9 * 10 - 2))
    assert imp.ordinary(kept).value == imp.ordinary(ended).value == pytest.approx(2.0)
    with pytest.raises(Refused, match="gamma"):
        corrections(kept._replace(gamma=None))


# bootstrap ------------------------------------------------------------------------------------------------------------------


def test_bootstrap_is_the_estimate_of_redrawn_episodes():
    table = random_table(1, n=9)
    rows = {name: x for name, x in table._asdict().items() if isinstance(x, np.ndarray)}
    draws = np.random.default_rng(5).integers(9, size=(20, 9))
    for estimator in (imp.ordinary, imp.weighted, imp.weighted_per_decision, weighted_doubly_robust):
        slow = [estimator(table._replace(**{name: x[d] for name, x in rows.items()})).value for d in draws]
        np.testing.assert_allclose(estimator(table).resampled(20, seed=5), slow, rtol=1e-9)


def test_contributions_have_the_estimate_as_mean_and_its_spread():
    table, _ = sampled(4000, 0, values=WRONG)
    for estimator in (imp.ordinary, imp.weighted, imp.weighted_per_decision, weighted_doubly_robust, magic):
        sums = estimator(table)
        np.testing.assert_allclose(sums.contributions.mean(), sums.value, rtol=1e-9)
        np.testing.assert_allclose(sums.contributions.std() / np.sqrt(4000), sums.resampled(2000).std(), rtol=0.1)


def test_percentiles_cover_the_truth():
    """300 logs of 300 episodes under a policy half way to the logger: at 90% as many intervals hold the truth as chance allows."""
    between = (TARGET + LOGGER) / 2
    truth = solve(between, np.zeros(STATES)).value
    logs = [sampled(300, seed, target=between)[0] for seed in range(300)]
    for estimator in (imp.weighted_per_decision, imp.per_decision, imp.weighted):
        found = [estimator(log).percentiles(0.9, resamples=300) for log in logs]
        share = np.mean([low <= truth <= high for low, high in found])
        assert 0.84 <= share <= 0.95, (estimator.__name__, share)


def test_many_episodes_are_redrawn_in_groups():
    x = np.random.default_rng(0).exponential(size=(20_000, 1))
    sums = Sums(x, np.ones((20_000, 1)))
    np.testing.assert_allclose(sums.resampled(4000).std(), x.std() / np.sqrt(20_000), rtol=0.05)
    np.testing.assert_allclose(sums.resampled(4000).mean(), x.mean(), rtol=1e-3)


# magic, mrdr ----------------------------------------------------------------------------------------------------------------


def test_least_is_the_best_point_of_the_simplex():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a = rng.normal(size=(rng.integers(1, 6), 4)) * 10.0 ** rng.integers(-3, 4)
        x = least(a.T @ a)
        assert (x >= 0).all() and x.sum() == pytest.approx(1)
        square = lambda y, a=a: float(((a @ (np.abs(y) / np.abs(y).sum())) ** 2).sum())
        best = min(
            scipy.optimize.minimize(square, rng.dirichlet(np.ones(4)), method="Nelder-Mead", options={"maxiter": 4000}).fun
            for _ in range(5)
        )
        assert square(x) <= best + 1e-9 * np.trace(a.T @ a)


def test_magic_mixes_from_the_direct_method_to_weighted_doubly_robust():
    table, _ = sampled(300, 0, values=WRONG)
    parts = mixed(table)
    np.testing.assert_allclose(parts.members[0], direct(table).value, rtol=1e-10)
    np.testing.assert_allclose(parts.members[-1], weighted_doubly_robust(table).value, rtol=1e-10)
    np.testing.assert_allclose(parts.sums.value, parts.shares @ parts.members, rtol=1e-10)
    assert parts.members.min() <= magic(table).value <= parts.members.max()
    np.testing.assert_array_equal(parts.steps, np.arange(HORIZON + 1))


def test_magic_trusts_values_that_are_right_and_leaves_those_that_are_wrong():
    off = Values(EXACT.q + 3, EXACT.v + 3, EXACT.behind)
    right, wrong = sampled(2000, 0, values=EXACT)[0], sampled(2000, 0, values=off)[0]
    assert abs(magic(right).value - TRUE.value) <= abs(weighted_doubly_robust(right).value - TRUE.value) + 0.02
    assert mixed(wrong).shares[-1] > 0.9


def tabular(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """φ of the logged action and of the target, for rows of `ALL`."""
    place = np.eye(STATES * ACTIONS)
    logged = place[ALL.state[rows] * ACTIONS + ALL.action[rows]]
    policy = (TARGET[ALL.state[rows]][:, :, None] * place.reshape(STATES, ACTIONS, -1)[ALL.state[rows]]).sum(axis=1)
    return logged, policy


def test_variance_minimising_values_have_the_least_variance():
    """Exactly: over all trajectories, the regression's loss and the variance of DR are the same but for a constant."""
    table, rows = ALL.table(), np.arange(len(ALL.state))
    logged, policy = tabular(rows)
    p = np.repeat(ALL.p, table.live.sum(axis=1))
    x, y = regression(table, logged, policy)
    loss = lambda beta: p @ (y - x @ beta) ** 2
    none = np.zeros(len(ALL.p))
    variance = lambda beta: (
        ALL.p @ (doubly_robust(table.believing(Values(logged @ beta, policy @ beta, none))).top[:, 0] - WITHIN.value) ** 2
    )
    rng = np.random.default_rng(0)
    tried = [rng.normal(size=x.shape[1]) for _ in range(5)]
    np.testing.assert_allclose([loss(b) - loss(0 * b) for b in tried], [variance(b) - variance(0 * b) for b in tried], rtol=1e-9)
    best = np.linalg.lstsq(np.sqrt(p)[:, None] * x, np.sqrt(p) * y, rcond=None)[0]
    assert variance(best) < 0.92 * variance(0 * best)


def test_doubly_robust_with_its_own_values_finds_them_and_is_without_bias():
    table, which = sampled(20_000, 0)
    lengths = ALL.table().live.sum(axis=1)
    firsts = np.cumsum(lengths) - lengths
    logged, policy = tabular(np.concatenate([np.arange(firsts[i], firsts[i] + lengths[i]) for i in which]))
    fitted = more_robust(table, logged, policy)
    assert fitted.top.var() < 0.95 * imp.per_decision(table).top.var()
    assert abs(fitted.value - WITHIN.value) < 3 * fitted.top.std() / np.sqrt(len(fitted.top))


def test_own_features_are_the_same_for_a_log_with_discrete_states():
    from topstitch.data import Episodes

    terminal = ALL.ends & ~np.repeat(ALL.truncated, ALL.table().live.sum(axis=1))
    log = Episodes.of(ALL.state, ALL.action, ALL.reward, terminal, ends=ALL.ends, next_obs=ALL.after, states=STATES, actions=ACTIONS)
    mine, own = tabular(np.arange(len(ALL.state))), features(log, TARGET[ALL.state])
    for a, b in zip(mine, own):
        np.testing.assert_allclose(a, b.toarray())
    table = ALL.table()
    for a, b in zip(variance_minimising(table, *mine).__dict__.values(), variance_minimising(table, *own).__dict__.values()):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
