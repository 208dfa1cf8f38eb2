"""Which policy to take: metrics of choices, scores of Q functions, curves of runs, and tests of improvement."""

import json
import math

import jax
import numpy as np
import pytest
import scipy.stats

from topstitch.ope.bounds import interval
from topstitch.ope.improvement import Terms, choose, improve
from topstitch.ope.select import Claims, absolute_error, bvft, claims, metrics, rank_correlation, regret, td_error, workflow
from topstitch.ope.table import Refused, Values
from topstitch.worlds import random_mdp, sample

TRUTH = [1.0, 2.0, 3.0, 4.0, 11.0]

# metrics ------------------------------------------------------------------------------------------------------------------


def test_metrics_by_hand():
    estimates = [5.0, 4.0, 3.0, 2.0, 1.0]
    assert rank_correlation(estimates, TRUTH) == pytest.approx(-1) and rank_correlation(TRUTH, np.exp(TRUTH)) == pytest.approx(1)
    assert [regret(estimates, TRUTH, k) for k in (1, 3, 5)] == [10, 8, 0]
    assert regret(estimates, TRUTH, 3, normalised=True) == pytest.approx(0.8)
    assert absolute_error(estimates, TRUTH) == pytest.approx((4 + 2 + 0 + 2 + 10) / 5)
    assert absolute_error(estimates, TRUTH, normalised=True) == pytest.approx(0.36)
    far = [100.0, 2.0, 3.0, 4.0, 11.0]  # counts as twice the span above the worst
    assert absolute_error(far, TRUTH, normalised=True) == pytest.approx(2 / 5) and absolute_error(far, TRUTH) == pytest.approx(99 / 5)
    assert regret([1, 1, 0, 0, 0], TRUTH) == 10  # of equal estimates the first
    alike = metrics(np.ones(4), np.ones(4))
    assert math.isnan(alike["rank_correlation"]) and alike["regret@1_normalised"] == 0 and "regret@5" not in alike
    assert metrics(TRUTH, TRUTH)["regret@1"] == 0
    with pytest.raises(ValueError, match="best 6 of 5"):
        regret(estimates, TRUTH, 6)
    with pytest.raises(ValueError, match="two policies or more"):
        metrics([1.0], [1.0])
    with pytest.raises(ValueError, match="not a finite number"):
        metrics([1.0, np.nan], [1.0, 2.0])


# scores -------------------------------------------------------------------------------------------------------------------


def candidates(scale=1.0):
    """The true Q of the best policy of a noisy world, and others; (true first, claims)."""
    mdp = random_mdp(8, 2, ending=0.1, seed=3)
    log = sample(mdp, mdp.uniform(), 4000, horizon=60, key=jax.random.key(0))
    best = mdp.optimum(0.9)
    rng = np.random.default_rng(0)
    tables = [best.q, np.zeros_like(best.q), best.q + scale * rng.normal(size=best.q.shape), 1.5 * best.q, best.q.mean() + 0 * best.q]
    believed = []
    for q in tables:
        v = np.where(mdp.terminal, 0, q.max(axis=1))
        after = v[log.next_obs] * ~log.terminal
        believed.append(Values(q[log.obs, log.action], v[log.obs], after[log.stops - 1]))
    return claims(log, believed, discount=0.9), log, tables


def test_the_tournament_finds_the_true_values():
    said, log, tables = candidates()
    v = tables[2].max(axis=1)  # what follows is put together from the rows behind and the values behind the ends
    np.testing.assert_allclose(said.after[2], np.where(log.terminal, 0, v[log.next_obs]))
    score = bvft(said)
    assert score.argmin() == 0 and np.delete(score, 0).min() > 2 * score[0]
    beyond = Values(said.q[2], v[log.obs], np.full(len(log), 7.0))  # nothing follows an end, whatever is said of it
    assert not claims(log, [beyond], discount=0.9).after[0][log.terminal].any()
    few = bvft(said, resolutions=[0.5])
    assert few.argmin() == 0 and not np.array_equal(few, score)
    swapped = bvft(said._replace(q=said.q[::-1], after=said.after[::-1]))
    np.testing.assert_allclose(swapped[::-1], score)


def test_noise_deceives_the_td_error_and_not_the_tournament():
    # one state; action 0 earns ±2 by chance, action 1 earns 0.8. True values are (0, 0.8); "swapped" says (0.8, 0.8): both fit
    reward = np.array([2.0, -2.0] * 500 + [0.8] * 1000)
    action = np.repeat([0, 1], 1000)
    right, wrong = np.array([0.0, 0.8])[action], np.array([0.8, 0.8])[action]
    said = Claims(np.stack([right, wrong]), np.zeros((2, 2000)), reward, 0.9)
    np.testing.assert_allclose(td_error(said), [2.0, (1000 * (4 + 0.64)) / 2000])
    np.testing.assert_allclose(bvft(said, resolutions=[0.1]), [0, math.sqrt(0.8**2 / 2)], atol=1e-12)


def test_a_tournament_of_two_by_hand():
    # two rows that f says alike and f' tells apart: together they are two cells of one row each
    f, other, reward = np.array([1.0, 1.0]), np.array([0.0, 2.0]), np.array([0.0, 2.0])
    said = Claims(np.stack([f, other]), np.zeros((2, 2)), reward, 0.9)
    np.testing.assert_allclose(bvft(said, resolutions=[0.5]), [1.0, 0.0])  # alone f would be its own mean
    np.testing.assert_allclose(bvft(Claims(f[None], np.zeros((1, 2)), reward, 0.9)), [0.0])
    with pytest.raises(ValueError, match="above 0"):
        bvft(said, resolutions=[0.0])
    with pytest.raises(Refused, match="diverged"):
        bvft(said._replace(q=said.q * np.nan))


# curves -------------------------------------------------------------------------------------------------------------------


def rows(q, loss):
    return [
        {"run": 0, "stage": "learn", "step": 100 * (i + 1), "critic/q": float(a), "critic/loss": float(b)}
        for i, (a, b) in enumerate(zip(q, loss))
    ]


def test_curves_say_what_went_wrong(tmp_path):
    t = np.linspace(0, 1, 40)
    falling, flat = np.exp(-4 * t), np.ones(40)
    over = workflow(rows(t * np.exp(-4 * t), falling))
    assert over.verdict == "overfitting" and over.step == 100 * (int((t * np.exp(-4 * t)).argmax()) + 1) and "dropout" in over.remedy
    under = workflow(rows(t, flat))
    assert under.verdict == "underfitting" and "capacity" in under.remedy and under.step == 4000
    assert workflow(rows(1 - falling, falling)).verdict == "neither"
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(t * np.exp(-4 * t), falling)))
    assert workflow(path) == over
    with pytest.raises(Refused, match="run 3 has 0 moments"):
        workflow(path, run=3)


# improvement ----------------------------------------------------------------------------------------------------------------

rng = np.random.default_rng(1)
PRACTICE = Terms(rng.uniform(0.3, 0.5, size=400), 0.0, 1.0)
GAIN = {"good": Terms(PRACTICE.x + rng.uniform(0, 0.4, size=400), 0.0, 1.0), "same": PRACTICE, "bad": Terms(PRACTICE.x - 0.2, 0.0, 1.0)}


@pytest.mark.parametrize(
    ("method", "against"), [("betting", "paired"), ("betting", "bound"), ("t", "paired"), ("t", "bound"), ("hoeffding", "bound")]
)
def test_what_is_better_is_accepted_and_nothing_else(method, against):
    said = improve(GAIN, PRACTICE, method=method, against=against)
    assert said.accepted == ("good",) and said.best == "good" and said.valid == (method != "t")
    good, same, bad = said.tested
    assert good.accepted and good.p < 0.05 / 3 and min(same.p, bad.p) > 0.05 and "not accepted" in bad.reason
    if against == "paired":
        level = 0.05 / 3
        gain = interval(GAIN["good"].x - PRACTICE.x, method=method, confidence=1 - level, low=-1.0, high=1.0, side="lower")
        assert good.low == gain.low > 0
    else:  # half of the error goes to each side
        half = dict(method=method, confidence=1 - 0.05 / 6, low=0.0, high=1.0)
        assert good.low == pytest.approx(interval(GAIN["good"].x, side="lower", **half).low)
        assert f"practice at most {interval(PRACTICE.x, side='upper', **half).high:.4g} " in good.reason
    nobody = improve({"same": PRACTICE}, PRACTICE, method=method, against=against)
    assert nobody.accepted == () and nobody.best is None and "practice stays" in nobody.reason


def test_a_known_value_of_practice_and_ratios():
    alone = improve({"good": GAIN["good"]}, 0.4, method="betting", correction="none", chosen_on=100)
    assert alone.reason.endswith("Tested on 400 episodes; chosen on 100 others, which count no more.")
    assert alone.accepted == ("good",)
    assert alone.tested[0].low == interval(GAIN["good"].x, method="betting", low=0.0, high=1.0, side="lower").low
    assert not improve({"good": GAIN["good"]}, 0.7, method="betting").accepted
    ratio = Terms(GAIN["good"].x * 2, denominator=np.full(400, 2.0))
    assert improve({"wis": ratio}, PRACTICE, method="t", against="bound").accepted == ("wis",)
    with pytest.raises(Refused, match="ratio of means"):
        improve({"wis": ratio}, PRACTICE, method="t")
    with pytest.raises(Refused, match="same episodes"):
        improve({"few": Terms(np.ones(3), 0.0, 1.0)}, PRACTICE, method="t")
    with pytest.raises(Refused, match="looks good by luck"):
        improve(GAIN, PRACTICE, method="t", correction="none")


def test_holm_accepts_what_bonferroni_does_and_more():
    base, n = np.zeros(200), 200
    noise = np.random.default_rng(5).normal(size=n)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    at = lambda p: Terms(noise + math.sqrt(1 / n) * scipy.stats.t.isf(p, n - 1))  # its p-value is p
    several = {"a": at(0.01), "b": at(0.02), "c": at(0.04), "d": at(0.3)}
    how = dict(method="t", against="paired")
    some = {c: improve(several, Terms(base), correction=c, **how) for c in ("bonferroni", "holm")}
    np.testing.assert_allclose([t.p for t in some["holm"].tested], [0.01, 0.02, 0.04, 0.3], rtol=1e-4)
    assert some["bonferroni"].accepted == ("a",) and some["holm"].accepted == ("a",)  # 0.02 > 0.05 / 3
    three = {name: several[name] for name in ("a", "b", "c")}
    assert improve(three, Terms(base), correction="bonferroni", **how).accepted == ("a",)
    assert improve(three, Terms(base), correction="holm", **how).accepted == ("a", "b", "c")  # 0.05/3, 0.05/2, 0.05
    blocked = improve({"b": at(0.03), "c": at(0.04)}, Terms(base), correction="holm", **how)
    assert blocked.accepted == () and "one with a smaller p was not" in blocked.tested[1].reason


def test_of_many_that_are_no_better_at_most_the_promised_share_passes():
    r, wrong = np.random.default_rng(7), 0
    for _ in range(80):
        lot = {str(i): Terms(r.normal(size=40)) for i in range(8)}
        wrong += bool(improve(lot, Terms(np.zeros(40)), method="t", confidence=0.9, correction="holm").accepted)
    assert wrong / 80 < 0.1 + 3 * math.sqrt(0.09 / 80)
    naive = np.mean([r.normal(size=(8, 40)).mean(axis=1).max() > 1.304 / math.sqrt(40) for _ in range(150)])
    assert naive > 0.4  # without a correction


def test_one_is_chosen_by_what_it_promises_on_other_episodes():
    r = np.random.default_rng(2)
    steady, wild = Terms(r.normal(1, 0.1, size=50)), Terms(r.normal(1.2, 9, size=50))
    assert choose({"wild": wild, "steady": steady}, tests=200) == "steady"
    more = Terms(wild.x - wild.x.mean() + 1.2)
    assert choose({"wild": more, "steady": steady}, tests=10**8) == "wild"
    assert choose({"ratio": Terms(2 * steady.x, denominator=np.full(50, 1.0)), "steady": steady}, tests=200) == "ratio"
    with pytest.raises(Refused, match="1 episode"):
        choose({"a": Terms(np.ones(1))}, tests=10)
