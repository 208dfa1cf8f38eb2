"""Decisions of one step: numbers worked by hand, equalities, and real logs."""

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from topstitch.data import Episodes
from topstitch.ope import bandit, doubly_robust, importance
from topstitch.ope.table import Refused, Values, of

W, R, Q, V = np.array([2.0, 0.5, 0.0, 4.0]), np.array([1.0, 3.0, 5.0, -1.0]), np.array([0.5, 2.0, 3.0, 1.0]), np.array([2.0, 1.0, 0.0, 1.0])
BY_HAND = of(R, W * 0.1, np.full(4, 0.1), values=Values(Q, V, np.zeros(4)))


def test_numbers_worked_by_hand():
    assert bandit.ips(BY_HAND).value == pytest.approx((2 + 1.5 + 0 - 4) / 4)
    assert bandit.snips(BY_HAND).value == pytest.approx((2 + 1.5 + 0 - 4) / 6.5)
    assert bandit.direct(BY_HAND).value == pytest.approx(1.0)
    assert bandit.doubly_robust(BY_HAND).value == pytest.approx((3 + 1.5 + 0 + (1 - 8)) / 4)
    assert bandit.switch(BY_HAND, threshold=3.0).value == pytest.approx((3 + 1.5 + 0 + 1) / 4)
    assert bandit.switch(BY_HAND, threshold=1.0).value == pytest.approx((2 + 1.5 + 0 + 1) / 4)
    soft = np.array([2 * 2 / (4 + 2), 2 * 0.5 / (0.25 + 2), 0, 2 * 4 / (16 + 2)])
    assert bandit.shrunk(BY_HAND, shrinkage=2.0).value == pytest.approx(np.mean(V + soft * (R - Q)))
    assert bandit.subgaussian(BY_HAND, rate=0.5).value == pytest.approx((2 / 1.5 * 1 + 0.5 / 0.75 * 3 + 0 - 4 / 2.5) / 4)
    rate = np.sqrt(2 * np.log(20) / (3 * 4 * np.mean(W**2)))
    assert bandit.subgaussian(BY_HAND).value == pytest.approx(np.mean(W / (1 - rate + rate * W) * R))


def test_limits():
    assert bandit.switch(BY_HAND, threshold=np.inf).value == bandit.doubly_robust(BY_HAND).value
    assert bandit.switch(BY_HAND, threshold=-1.0).value == bandit.direct(BY_HAND).value
    assert bandit.shrunk(BY_HAND, shrinkage=np.inf).value == bandit.doubly_robust(BY_HAND).value
    assert bandit.shrunk(BY_HAND, shrinkage=0.0).value == bandit.direct(BY_HAND).value
    assert bandit.subgaussian(BY_HAND, rate=0.0).value == bandit.ips(BY_HAND).value


def test_they_are_the_sequential_ones_at_horizon_one():
    pairs = [(bandit.ips, importance.ordinary), (bandit.ips, importance.per_decision), (bandit.snips, importance.weighted),
             (bandit.snips, importance.weighted_per_decision), (bandit.direct, doubly_robust.direct),
             (bandit.doubly_robust, doubly_robust.doubly_robust)]  # fmt: skip
    for one, many in pairs:
        np.testing.assert_allclose(one(BY_HAND).value, many(BY_HAND).value, rtol=1e-12)


def test_longer_episodes_are_refused():
    with pytest.raises(Refused, match="up to 2"):
        bandit.ips(of(np.ones(2), np.ones(2), np.ones(2), ends=np.array([False, True])))


# drawn from a known problem ---------------------------------------------------------------------------------------------------

LOGGER, TARGET = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
MEANS = np.array([0.2, 0.5, 0.8])


def drawn(n: int, seed: int, logger=LOGGER) -> Episodes:
    rng = np.random.default_rng(seed)
    action, obs = rng.choice(3, n, p=logger), rng.normal(size=(n, 2))
    reward = MEANS[action] + 0.3 * obs[:, 0] * (action == 2) + 0.1 * rng.normal(size=n)
    return Episodes.of(obs, action, reward, np.ones(n, bool), actions=3, log_prob=np.log(logger[action]))


def as_table(log: Episodes, values: Values | None = None):
    n = log.steps
    return of(log.reward, np.tile(TARGET, (n, 1)), np.exp(log.log_prob), action=log.action, values=values)


@pytest.mark.parametrize("model", ["ridge", "boosting"])
def test_outcome_models_make_estimates_better(model):
    """Over 20 logs DR with cross-fitted outcomes misses the truth by less than IPS does, and by no more than chance."""
    truth, misses, rows = TARGET @ MEANS, [], 600
    for seed in range(20 if model == "ridge" else 3):
        log = drawn(rows, seed)
        table = as_table(log, bandit.outcome(log, np.tile(TARGET, (rows, 1)), model=model))
        found = (bandit.ips, bandit.doubly_robust, bandit.shrunk, bandit.switch)
        misses.append([estimator(table).value - truth for estimator in found])
        assert bandit.doubly_robust(table).top.std() < 0.8 * bandit.ips(table).top.std()
    error = np.sqrt(np.mean(np.square(misses), axis=0))
    assert (error[1:] < error[0]).all(), error


def test_outcomes_of_an_episode_are_learned_from_others():
    """With noise for rewards and as many features as rows, what a row would learn from itself shows."""
    rng = np.random.default_rng(0)
    log = Episodes.of(rng.normal(size=(60, 40)), rng.integers(2, size=60), rng.normal(size=60), np.ones(60, bool), actions=2)
    values = bandit.outcome(log, np.full((60, 2), 0.5))
    assert np.corrcoef(values.q, log.reward)[0, 1] < 0.3


def test_several_loggers():
    loggers = np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]])
    logs = [drawn(3000, 0, loggers[0]), drawn(1000, 1, loggers[1])]
    number, log = np.repeat([0, 1], [3000, 1000]), Episodes.join(*logs)
    target, truth = TARGET[log.action], TARGET @ MEANS
    mixed = bandit.balanced(loggers[:, log.action].T, number)
    np.testing.assert_allclose(mixed, 0.75 * loggers[0, log.action] + 0.25 * loggers[1, log.action])
    naive = bandit.ips(of(log.reward, target, np.exp(log.log_prob)))
    balanced = bandit.ips(of(log.reward, target, mixed))
    weighted = bandit.by_logger(of(log.reward, target, np.exp(log.log_prob)), number)
    assert balanced.contributions.std() < naive.contributions.std()
    assert weighted.contributions.std() < naive.contributions.std()
    for sums in (naive, balanced, weighted):
        assert abs(sums.value - truth) < 4 * sums.contributions.std() / np.sqrt(4000)
    parts = [bandit.ips(of(one.reward, TARGET[one.action], np.exp(one.log_prob))) for one in logs]
    share = np.array([len(part.top) / part.top.var(ddof=1) for part in parts])
    np.testing.assert_allclose(weighted.value, share @ [part.value for part in parts] / share.sum(), rtol=1e-12)


def test_pareto_k_finds_the_shape_of_a_tail():
    from topstitch.ope.diagnostics import pareto_k

    for shape in (0.2, 0.5, 1.0):
        found = [pareto_k(scipy.stats.genpareto.rvs(shape, size=20_000, random_state=seed)) for seed in range(5)]
        assert abs(np.mean(found) - shape) < 0.1, (shape, found)
    assert np.isnan(pareto_k(np.ones(100)))


# Open Bandit data -------------------------------------------------------------------------------------------------------------

DATA = Path(os.environ.get("TOPSTITCH_OPEN_BANDIT", Path(__file__).parents[3] / "shared/data/open_bandit"))
needs_data = pytest.mark.skipif(not (DATA / "bts_men.csv.gz").is_file(), reason=f"no Open Bandit data in {DATA}")


def read(name: str) -> dict[str, np.ndarray]:
    with gzip.open(DATA / f"{name}.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    take = lambda column, kind: np.array([kind(row[column]) for row in rows])
    return dict(item=take("item_id", int), position=take("position", int) - 1, click=take("click", int), p=take("propensity_score", float))


@needs_data
@pytest.mark.parametrize("campaign", ["men", "women"])
@pytest.mark.parametrize("logger", ["random", "bts"])
def test_open_bandit_data(campaign, logger):
    """Thompson sampling, as often as it showed each item at each position, judged by the random log, and the other way round; beside
    sums over items and positions, which share no code with the estimators."""
    bts, random = read(f"bts_{campaign}"), read(f"random_{campaign}")
    items = int(max(bts["item"].max(), random["item"].max())) + 1
    shown = np.zeros((3, items))
    np.add.at(shown, (bts["position"], bts["item"]), 1)
    target = (shown + 1e-3) / (shown + 1e-3).sum(axis=1, keepdims=True) if logger == "random" else np.full((3, items), 1 / items)
    log = random if logger == "random" else bts
    n, policy = len(log["item"]), target[log["position"]]
    seen = Episodes.of(np.eye(3)[log["position"]], log["item"], log["click"], np.ones(n, bool), actions=items, probability=log["p"])
    values = bandit.outcome(seen, policy, folds=5, seed=0)
    table = of(log["click"], policy, log["p"], action=log["item"], values=values)

    fold = np.random.default_rng(0).permutation(n) % 5  # ridge by hand, for each fold one dense system
    x = np.eye(3)[log["position"]]
    x = np.column_stack([np.ones(n), (x - x.mean(axis=0)) / x.std(axis=0)])
    q = np.zeros((n, items))
    for k in range(5):
        mine = fold != k
        square, right = np.zeros((4 * items + 1, 4 * items + 1)), np.zeros(4 * items + 1)
        for a in range(items):
            rows = x[mine & (log["item"] == a)]
            here, clicks = slice(4 * a, 4 * a + 4), log["click"][mine & (log["item"] == a)]
            square[here, here] = rows.T @ rows + np.eye(4)
            square[here, -1] = square[-1, here] = rows.sum(axis=0)
            right[here] = rows.T @ clicks
        square[-1, -1], right[-1] = mine.sum(), log["click"][mine].sum()
        fitted = np.linalg.solve(square, right)
        q[~mine] = x[~mine] @ fitted[:-1].reshape(items, 4).T + fitted[-1]

    w = np.array([target[s, a] / p for s, a, p in zip(log["position"], log["item"], log["p"])])
    r, total = log["click"], np.zeros(2)
    for s in range(3):
        for a in range(items):
            here = (log["position"] == s) & (log["item"] == a)
            total += target[s, a] * np.array([(r[here] / log["p"][here]).sum(), (1 / log["p"][here]).sum()])
    dm, own = (policy * q).sum(axis=1), q[np.arange(n), log["item"]]
    by_hand = dict(ips=total[0] / n, snips=total[0] / total[1], direct=dm.mean(), doubly_robust=(dm + w * (r - own)).mean())
    for name, number in by_hand.items():
        np.testing.assert_allclose(getattr(bandit, name)(table).value, number, atol=1e-6, rtol=1e-6, err_msg=name)
    truth = (bts if logger == "random" else random)["click"].mean()
    low, high = bandit.snips(table).percentiles(0.999)
    assert low <= truth <= high, "the other log's own click rate"
