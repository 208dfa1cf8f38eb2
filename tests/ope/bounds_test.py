"""Intervals: cases worked by hand, what they must have in common, and that they hold the truth as often as they say."""

import importlib.util
import itertools
import json
import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from topstitch.ope.bounds import VALID, Interval, Method, ends, interval, weighted
from topstitch.ope.table import Refused
from topstitch.worlds import chain

ROOT = Path(__file__).parents[2]
METHODS = get_args(Method)

spec = importlib.util.spec_from_file_location("coverage", ROOT / "benchmarks/coverage.py")
assert spec is not None and spec.loader is not None
coverage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage)

rng = np.random.default_rng(0)
SAMPLE = rng.beta(2, 5, size=60)


def asked(x, method, **how):
    return interval(x, method=method, resamples=200, **({"low": 0.0, "high": 1.0} | how))


# by hand ----------------------------------------------------------------------------------------------------------------


def test_hoeffding_by_hand():
    x = np.repeat([0.0, 1.0], 50)
    half = math.sqrt(math.log(40) / 200)  # 0.1358: a bound that grows with n, or that ignores the second side, is another
    assert half == pytest.approx(0.13581, abs=1e-5)
    assert asked(x, "hoeffding")[:2] == pytest.approx((0.5 - half, 0.5 + half))
    assert asked(10 * x, "hoeffding", high=10.0)[:2] == pytest.approx((5 - 10 * half, 5 + 10 * half))
    assert asked(x, "hoeffding", side="lower").low == pytest.approx(0.5 - math.sqrt(math.log(20) / 200))


def test_bernstein_by_hand():
    x, log = np.repeat([0.0, 1.0], 500), math.log(80)
    half = math.sqrt(2 * (250 / 999) * log / 1000) + 7 * log / (3 * 999)
    assert asked(x, "bernstein")[:2] == pytest.approx((0.5 - half, 0.5 + half))


def test_anderson_by_hand():
    # n = 8 and an error of exp(-4): the band is 1/2. Half of the mass, that of the four largest terms, is put on 0.
    x, confidence = np.arange(1, 9) / 10, 1 - math.exp(-4)
    assert asked(x, "anderson", confidence=confidence, side="lower").low == pytest.approx((0.1 + 0.2 + 0.3 + 0.4) / 8)
    assert asked(x, "anderson", confidence=confidence, side="upper").high == pytest.approx((0.5 + 0.6 + 0.7 + 0.8) / 8 + 0.5)
    huge = np.append(x[:7], 1e9)  # the largest is taken away, whatever it is
    assert interval(huge, method="anderson", confidence=confidence, low=0.0, side="lower").low == pytest.approx(0.125)


def test_the_threshold_does_not_see_what_the_bound_is_made_of():
    x = rng.exponential(size=400)
    order = np.random.default_rng(3).permutation(400)  # of seed 3; the first 20 choose
    c_of = lambda y: ends(y, method="truncated", confidence=0.95, low=0.0, side="lower", seed=3)[0]
    bigger = x.copy()
    bigger[order[20:]] = np.maximum(x[order[20:]], 1e6)  # all above any threshold: the bound is c - 7 c ln(2/δ) / 3 (m - 1)
    c = float(c_of(bigger)) / (1 - 7 * math.log(40) / (3 * 379))
    cut = np.minimum(x[order[20:]], c)
    by_hand = cut.mean() - math.sqrt(2 * cut.var(ddof=1) * math.log(40) / 380) - 7 * c * math.log(40) / (3 * 379)
    assert 0 < c <= x[order[:20]].max() and float(c_of(x)) == pytest.approx(by_hand)


def test_betting_by_hand():
    # stakes see only what came before: the variance so far, from one term half of the range away, and at most STAKE / m
    x = np.tile([0.2, 0.8, 0.5], 100)
    low = asked(x, "betting", side="lower").low
    wealth, most, total, squares, bound = 0.0, 0.0, 0.5, 0.25, 0
    for t, now in enumerate(x, start=1):
        stake = math.sqrt(2 * math.log(20) / (squares / t * t * math.log(1 + t)))
        bound += stake > 0.5 / low
        wealth += math.log1p(min(stake, 0.5 / low) * (now - low))
        total += now
        squares += (now - total / (t + 1)) ** 2
        most = max(most, wealth)
    assert most == pytest.approx(math.log(20), rel=1e-6) and 0.4 < low < 0.5 and 0 < bound < 300
    # without a range the past is the scale: nothing at stake until something was seen
    y, low = (
        np.array([0.0, 0.0, 3.0, 1.0] + [2.0] * 60),
        interval(np.array([0.0, 0.0, 3.0, 1.0] + [2.0] * 60), method="betting", low=0.0, side="lower").low,
    )
    wealth, most = 0.0, 0.0
    for t in range(1, len(y) + 1):
        past = y[: t - 1]
        variance = (past.mean() ** 2 + ((past - past.mean()) ** 2).sum()) / t if past.any() else 0.0
        stake = math.sqrt(2 * math.log(20) / (variance * t * math.log(1 + t))) if variance else 0.0
        wealth += math.log1p(min(stake, 0.5 / low) * (y[t - 1] - low))
        most = max(most, wealth)
    assert most == pytest.approx(math.log(20), rel=1e-6) and 1 < low < 1.9
    assert interval(np.zeros(9), method="betting", low=0.0, side="lower").low == 0


def test_a_betting_bound_only_grows_and_holds_at_every_time_at_once():
    many = rng.exponential(size=(400, 300)) * (rng.uniform(size=(400, 300)) < 0.5)
    at = [ends(many[:, :n], method="betting", confidence=0.9, low=0.0, side="lower")[0] for n in (5, 20, 80, 300)]
    assert all((a <= b + 1e-12).all() for a, b in itertools.pairwise(at))
    assert (at[-1] <= 0.5).mean() > 0.9 - 2 * math.sqrt(0.09 / 400)  # the last is the largest of all times


def test_t_and_the_bootstrap_are_scipys():
    half = scipy.stats.t.ppf(0.975, 59) * SAMPLE.std(ddof=1) / math.sqrt(60)
    assert asked(SAMPLE, "t")[:2] == pytest.approx((SAMPLE.mean() - half, SAMPLE.mean() + half))
    for method, name in (("bootstrap", "percentile"), ("bca", "BCa")):
        want = scipy.stats.bootstrap((SAMPLE,), np.mean, n_resamples=200, method=name, rng=np.random.default_rng(0)).confidence_interval
        assert asked(SAMPLE, method)[:2] == pytest.approx((want.low, want.high))


def test_bca_of_a_ratio_is_scipys_and_all_rows_are_done_at_once():
    top, bottom = rng.exponential(size=(3, 40)), rng.exponential(size=(3, 40))
    ratio = lambda x, y, axis=-1: x.mean(axis=axis) / y.mean(axis=axis)
    want = scipy.stats.bootstrap((top, bottom), ratio, n_resamples=300, method="BCa", paired=True, axis=-1, rng=np.random.default_rng(0))
    got = ends(top, method="bca", confidence=0.95, denominator=bottom, resamples=300)
    np.testing.assert_allclose(got, want.confidence_interval, rtol=1e-9)
    one = np.eye(1, 40)[0]  # all weight on one episode, without which there is nothing: no jackknife, so the percentiles
    assert interval(one, method="bca", denominator=one)[:2] == (1, 1)
    assert np.isfinite(interval(one * 2, method="bca", denominator=one + 1e-300)[:2]).all()


@pytest.mark.parametrize("method", ["t", "bootstrap", "bca"])
def test_ratios_of_means(method):
    top, bottom = rng.exponential(size=80), rng.exponential(size=80)
    ratio = interval(top, method=method, denominator=bottom)
    assert ratio.low < top.mean() / bottom.mean() < ratio.high and not ratio.valid
    scaled = interval(3 * top, method=method, denominator=bottom)
    assert scaled[:2] == pytest.approx((3 * ratio.low, 3 * ratio.high))
    plain, ones = interval(top, method=method), interval(top, method=method, denominator=np.ones(80))
    assert ones[:2] == pytest.approx(plain[:2])
    same = interval(2 * bottom, method=method, denominator=bottom)  # no spread at all
    assert same[:2] == pytest.approx((2, 2))


# in common ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_an_end_of_95_is_that_of_both_at_90(method):
    two = asked(SAMPLE, method, confidence=0.9)
    lower, upper = asked(SAMPLE, method, side="lower"), asked(SAMPLE, method, side="upper")
    assert (lower.low, upper.high) == pytest.approx(two[:2]) and (lower.high, upper.low) == (math.inf, -math.inf)
    assert two.valid == (method in VALID) and isinstance(two, Interval)


@pytest.mark.parametrize("method", METHODS)
def test_turned_round_the_ends_change_places(method):
    a, b = asked(SAMPLE, method), asked(-SAMPLE, method, low=-1.0, high=0.0)
    assert (a.low, a.high) == pytest.approx((-b.high, -b.low), rel=1e-6)


terms = st.lists(st.floats(0, 1, width=32), min_size=12, max_size=40)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "bca"])
@settings(max_examples=25, deadline=None)
@given(x=terms, levels=st.tuples(st.floats(0.5, 0.99), st.floats(0.5, 0.99)))
def test_wider_with_confidence_and_around_the_mean(method, x, levels):
    x, (less, more) = np.array(x, np.float64), sorted(levels)
    a, b = (asked(x, method, confidence=c) for c in (less, more))
    slack = 1e-9
    if method != "truncated":  # which may choose another threshold, and looks at a part of the terms only
        assert b.low <= a.low + slack and a.high <= b.high + slack
        assert a.low - slack <= a.high
    if method in ("hoeffding", "bernstein", "anderson", "t"):
        assert a.low - slack <= x.mean() <= a.high + slack
    if method in VALID:
        assert 0 <= a.low <= 1 and 0 <= a.high <= 1


# importance weights ------------------------------------------------------------------------------------------------------


def test_weighted_returns_are_bounded_on_both_sides_by_the_range_of_returns():
    ratio, returns = rng.lognormal(-0.5, 1, size=300), rng.uniform(-2, 3, size=300)
    two = weighted(ratio, returns, method="betting", low=-2.0, high=3.0)
    assert two.low == interval(-2 + ratio * (returns + 2), method="betting", confidence=0.975, low=-2.0, side="lower").low
    assert two.high == interval(3 - ratio * (3 - returns), method="betting", confidence=0.975, high=3.0, side="upper").high
    assert two.low < (ratio * returns).mean() < two.high and two.valid
    assert weighted(ratio, returns, method="anderson", low=-2.0, side="lower").high == math.inf


def test_episodes_outside_the_log_only_widen():
    ratio, returns = rng.lognormal(-0.5, 1, size=200), rng.uniform(size=200)
    whole, less = (weighted(r, returns, method="anderson", low=0.0, high=1.0) for r in (ratio, ratio * (np.arange(200) % 4 > 0)))
    assert less.low < whole.low and less.high > whole.high
    nothing = weighted(0 * ratio, returns, method="anderson", low=0.0, high=1.0)
    assert nothing[:2] == (0, 1)


# refusals ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (dict(method="hoeffding"), "needs low and high"),
        (dict(method="bernstein", low=0.0, side="lower"), "needs high"),
        (dict(method="anderson", low=0.0), "upper end of 'anderson' needs high"),
        (dict(method="betting", high=1.0), "lower end of 'betting' needs low"),
        (dict(method="hoeffding", low=0.0, high=0.3), "outside the declared range"),
        (dict(method="anderson", low=0.1, side="lower"), "outside the declared range"),
        (dict(method="anderson", low=0.0, high=1.0, denominator=np.ones(60)), "ratio of means"),
    ],
)
def test_what_cannot_be_answered_is_refused(how, says):
    with pytest.raises(Refused, match=says):
        interval(SAMPLE, **how)


def test_other_bad_questions():
    with pytest.raises(Refused, match="1 episode"):
        interval(np.ones(1), method="t")
    with pytest.raises(Refused, match="there are 8 in all"):
        interval(np.ones(8), method="truncated", low=0.0, side="lower")
    with pytest.raises(Refused, match="grows exponentially"):
        weighted(np.ones(9), np.ones(9), method="hoeffding", low=0.0, high=1.0)
    with pytest.raises(ValueError, match=r"from 0\.5 to below 1"):
        interval(SAMPLE, method="t", confidence=95.0)
    with pytest.raises(ValueError, match="no method 'clt'"):
        ends.__wrapped__(SAMPLE, method="clt", confidence=0.9)
    with pytest.raises(ValueError, match="not a finite number"):
        interval(np.array([1.0, np.nan]), method="t")


# coverage ----------------------------------------------------------------------------------------------------------------


def test_guaranteed_intervals_hold_the_truth():
    line = chain(3, slip=0.1)
    row = lambda *p: np.tile(p, (line.states, 1))
    world = coverage.World(line, row(0.4, 0.6), row(0.2, 0.8), 0.9, 15, 1.0, "three states")
    drawn = coverage.terms(world, 200, 25, seed=0)
    assert abs((drawn["ratio"] * drawn["returns"]).mean() - coverage.value(world, world.target)) < 0.03
    assert coverage.value(world._replace(horizon=500), world.target) == pytest.approx(line.performance(world.target, 0.9), abs=1e-6)
    rows = coverage.measure({"line": world}, logs=200, episodes=(25,), only=(*VALID, "t"))
    assert {row["method"] for row in rows if row["valid"]} == set(VALID) and len(rows) == 15
    for row in rows:
        for level in coverage.LEVELS if row["valid"] else ():
            assert row[f"coverage_{level:.0%}"] >= level - 3 * coverage.error(level, 200), row
    plain = next(row for row in rows if (row["method"], row["terms"]) == ("t", "returns"))
    assert 0.84 < plain["coverage_90%"] < 0.96 and plain["width"] < 0.5


def test_the_committed_coverage_keeps_its_word_and_the_page_is_made_of_it():
    kept = json.loads((ROOT / "benchmarks/results/coverage.json").read_text())
    rows = kept["rows"]
    assert (ROOT / "docs/coverage.md").read_text() == coverage.page(rows, kept["ideas"], kept["tails"])
    assert len({row["world"] for row in rows}) == 3 and {row["terms"] for row in rows} == set(coverage.TERMS)
    for row in rows:
        assert row["logs"] >= 1000 and row["valid"] == (row["method"] in VALID)
        for level in coverage.LEVELS if row["valid"] else ():
            assert row[f"coverage_{level:.0%}"] >= level - 3 * coverage.error(level, row["logs"]), row
        alike = [r for r in rows if r["valid"] and all(r[x] == row[x] for x in ("world", "terms", "episodes", "side"))]
        assert min(alike or [row], key=lambda r: r["width"])["method"] == "betting" or not row["valid"]
