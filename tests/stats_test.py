"""Means and intervals against arithmetic, SciPy, and their own promise of coverage."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from topstitch.stats import D4RL, Interval, d4rl_scale, d4rl_score, interquartile_mean, mean_interval, stratified_interval


def test_mean_interval_by_hand():
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])  # standard error sqrt(2.5 / 5), Student's 0.975 quantile with 4 degrees: 2.776445
    assert found.value == 3
    assert found.high - 3 == pytest.approx(2.7764451 * math.sqrt(0.5), rel=1e-6)
    assert 3 - found.low == pytest.approx(found.high - 3)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_mean_interval_is_scipys(confidence):
    x = np.random.default_rng(0).normal(size=9)
    wanted = scipy.stats.ttest_1samp(x, 0).confidence_interval(confidence)
    np.testing.assert_allclose(mean_interval(x, confidence)[1:], wanted)


def test_one_number_has_no_interval():
    value, low, high = mean_interval([4.0])
    assert value == 4
    assert math.isnan(low) and math.isnan(high)


def test_equal_numbers_have_an_interval_of_no_width():
    assert mean_interval([2.0, 2.0, 2.0]) == (2, 2, 2)


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        ([1, 2, 3, 4], 2.5),
        ([100, 1, 3, -50], 2),
        ([1, 2, 3, 4, 5, 6, 7, 8], 4.5),
        ([1, 2, 3], 2),  # a quarter of three is less than one: nothing is cut
        ([7], 7),
        ([0, 0, 0, 1, 1, 1, 1, 1], 0.75),
    ],
)
def test_interquartile_mean_by_hand(x, wanted):
    assert interquartile_mean(x) == wanted


def test_interquartile_mean_along_an_axis():
    x = np.arange(24.0).reshape(2, 12)
    np.testing.assert_allclose(interquartile_mean(x), [5.5, 17.5])
    np.testing.assert_allclose(interquartile_mean(x.T, axis=0), [5.5, 17.5])


def test_stratified_interval_redraws_within_tasks():
    """Between two tasks of no variance there is a gap, but no uncertainty: redrawing across tasks would see some."""
    mean = lambda x, axis: x.mean(axis=axis)
    assert stratified_interval([[0.0, 0.0], [1.0, 1.0]], mean) == (0.5, 0.5, 0.5)


def test_stratified_interval_by_enumeration():
    """Two runs, 0 and 1: the redrawn mean is 0, 0.5, 1 with probabilities 1/4, 1/2, 1/4."""
    mean = lambda x, axis: x.mean(axis=axis)
    assert stratified_interval([[0.0, 1.0]], mean, confidence=0.95) == (0.5, 0, 1)
    assert stratified_interval([[0.0, 1.0]], mean, confidence=0.4) == (0.5, 0.5, 0.5)


def test_stratified_interval_is_scipys():
    rng = np.random.default_rng(0)
    tasks = [rng.normal(size=8), rng.normal(3, size=6)]
    joined = lambda *parts, axis: interquartile_mean(np.concatenate(parts, axis=axis), axis=axis)
    wanted = scipy.stats.bootstrap(tasks, joined, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    found = stratified_interval(tasks, resamples=20_000)
    np.testing.assert_allclose(found[1:], wanted, atol=0.03)
    assert found.value == interquartile_mean(np.concatenate(tasks))


def test_stratified_interval_depends_on_nothing_but_the_seed():
    tasks = [np.random.default_rng(0).normal(size=5) for _ in range(3)]
    assert stratified_interval(tasks) == stratified_interval(tasks)
    assert stratified_interval(tasks) != stratified_interval(tasks, seed=1)


def test_tasks_with_one_run():
    value, low, high = stratified_interval([[1.0], [2.0]])
    assert value == 1.5
    assert math.isnan(low) and math.isnan(high)
    value, low, high = stratified_interval([[1.0], [1.0, 2.0, 3.0]], lambda x, axis: x.mean(axis=axis))
    assert low < value < high


def coverage(interval, truth: float, trials: int) -> float:
    return sum(low <= truth <= high for _, low, high in (interval() for _ in range(trials))) / trials


def test_intervals_cover():
    rng = np.random.default_rng(0)
    assert coverage(lambda: mean_interval(rng.normal(1, 2, 5), 0.9), 1, 1000) == pytest.approx(0.9, abs=0.025)
    draw = lambda: [rng.normal(task, 1, 30) for task in (0, 0.5)]
    truth = interquartile_mean(np.concatenate([rng.normal(task, 1, 500_000) for task in (0, 0.5)]))
    assert coverage(lambda: stratified_interval(draw(), confidence=0.9, resamples=400), truth, 400) == pytest.approx(0.9, abs=0.04)


def test_intervals_read_well():
    assert str(Interval(1.23456, 1, 2)) == "1.235 [1.000, 2.000]"


# D4RL's scale ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "task"),
    [
        ("Hopper-v5", "hopper"), ("HalfCheetah-v2", "halfcheetah"), ("gymnasium_robotics:AdroitHandDoor-v1", "door"), ("Ant-v5", "ant"),
        ("D4RL/door/human-v2", "door"), ("mujoco/walker2d/medium-v0", "walker2d"), ("FrankaKitchen-v1", "kitchen"), ("AdroitHandPenSparse-v1", None),
        ("CartPole-v1", None), ("AntMaze_UMaze-v4", None), ("InvertedPendulum-v5", None),
    ],
)  # fmt: skip
def test_environments_of_d4rl_are_known(env, task):
    assert d4rl_scale(env) == (None if task is None else D4RL[task])


def test_d4rl_scores():
    low, high = D4RL["hopper"]
    np.testing.assert_allclose(d4rl_score("Hopper-v5", [low, high, (low + high) / 2]), [0, 100, 50])
    assert d4rl_score("CartPole-v1", [1.0]) is None


def test_d4rl_scale_is_that_of_the_reference(shared_reference):
    for name, entry in shared_reference.items():
        if name.split("-")[0] in D4RL:
            assert D4RL[name.split("-")[0]] == (entry["ref_min"], entry["ref_max"]), name


@pytest.fixture
def shared_reference():
    path = Path(__file__).parents[2] / "shared" / "reference" / "d4rl_reference_scores.json"
    if not path.is_file():
        pytest.skip("the reference scores are not here")
    return json.loads(path.read_text())
