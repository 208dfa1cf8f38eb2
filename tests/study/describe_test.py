"""The numbers of the data report, against exact solutions and independent counts."""

import collections
import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from topstitch.core import Box, Discrete
from topstitch.data import Episodes
from topstitch.ope import diagnostics, fit_behaviour
from topstitch.ope.diagnostics import ASTRAY, SURE
from topstitch.ope.table import of
from topstitch.study import numbered as tables
from topstitch.study import practice as practices
from topstitch.study.describe import BARS, commonest, describe, distinct, histogram, summary
from topstitch.study.numbered import Groups, numbered, pooled, simple
from topstitch.study.practice import LONGEST, effective, horizons, part, practice, reach, until_lost
from topstitch.study.stitching import LEAST, imitated, stitching, tenth, world
from topstitch.worlds import MDP, empirical, random_mdp, sample
from topstitch.worlds.examples import gridworld

WORLD = random_mdp(6, 3, ending=0.3, seed=1)
LOGGER = WORLD.checked(np.random.default_rng(0).dirichlet(np.ones(3), WORLD.states))
LONG = 400


@pytest.fixture(scope="module")
def log() -> Episodes:
    return sample(WORLD, LOGGER, 800, horizon=60, key=jax.random.key(0))


@pytest.fixture(scope="module")
def numbers(log) -> dict:
    return describe(log)


def table_of(log: Episodes):
    flat, seen, done = simple(log)
    return numbered(flat, seen, done, 0)


def bandit(action, reward, p) -> Episodes:
    """One state, one step."""
    n = len(action)
    return Episodes.of(np.zeros(n, int), np.asarray(action), np.asarray(reward, float), np.ones(n), states=1, actions=len(p), probability=np.asarray(p)[action])  # fmt: skip


# counts ----------------------------------------------------------------------------------------------------------------------


def test_all_is_plain_and_small(numbers):
    text = json.dumps(numbers, allow_nan=False)
    assert len(text) < 30_000
    assert json.loads(text) == numbers


def test_episodes_and_returns(log, numbers):
    found, returns = numbers["episodes"], log.returns()
    assert (found["count"], found["steps"], found["terminal"], found["truncated"]) == (800, log.steps, 800, 0)
    assert found["returns"]["mean"] == pytest.approx(np.add.reduceat(log.reward.astype(float), log.starts).mean())
    assert found["returns"]["q95"] == pytest.approx(np.sort(returns)[int(0.95 * 799)], abs=0.05)
    assert sum(found["lengths"]["histogram"]["counts"]) == 800
    assert found["return_by_end"] == {"terminal": pytest.approx(returns.mean()), "truncated": None}
    assert found["unit"] == "return"
    last = [abs(log.reward[stop - 1]) for stop in log.stops]
    assert numbers["rewards"]["last"] == pytest.approx(sum(last) / np.abs(log.reward).sum(), rel=1e-5)


def test_returns_of_two_kinds_of_ends_and_shares():
    log = Episodes.of(np.zeros(6, int), np.zeros(6, int), [0, 1, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1], ends=[0, 1, 0, 1, 0, 1], next_obs=np.zeros(6, int), states=1)  # fmt: skip
    found = describe(log)["episodes"]
    assert (found["terminal"], found["truncated"], found["return_by_end"], found["unit"]) == (
        2,
        1,
        {"terminal": 1, "truncated": 0},
        "share",
    )


@pytest.mark.parametrize(
    ("x", "keys"),
    [
        (np.array([0, 1, 1.0]), {"values": [0, 1], "counts": [1, 2]}),
        (np.arange(40.0), {"values": list(range(40)), "counts": [1] * 40}),
    ],
)
def test_few_values_are_counted_one_by_one(x, keys):
    assert histogram(x) == keys


def test_a_histogram_hides_nothing():
    x = np.append(np.random.default_rng(0).normal(size=1000), [1e6, -1e6])
    found = histogram(x)
    assert len(found["counts"]) == BARS and max(map(abs, found["edges"])) < 5
    assert sum(found["counts"]) + found["below"] + found["above"] == len(x)
    assert found["above"] == (x > found["edges"][-1]).sum() >= 1
    even = histogram(np.linspace(0, 1, 1000))
    assert (even["below"], even["above"], even["edges"][0], even["edges"][-1]) == (0, 0, 0, 1)


def test_intervals_of_whole_numbers_hold_equally_many():
    x = np.random.default_rng(0).integers(0, 100, 5000)
    found = histogram(x)
    wide = np.diff(found["edges"])
    assert set(wide) == {5} and found["edges"][0] == -0.5 and (found["below"], found["above"]) == (0, 0)
    assert found["counts"] == [((x > a) & (x < b)).sum() for a, b in zip(found["edges"], found["edges"][1:])]


def test_the_commonest_members():
    assert commonest(np.array([1, 0, 5, 2]), "abcd") == {
        "seen": 3, "half": 1, "members": [{"name": "c", "count": 5}, {"name": "d", "count": 2}, {"name": "a", "count": 1}], "others": 0,
    }  # fmt: skip
    many = commonest(np.full(120, 2), range(120))
    assert (many["half"], len(many["members"]), many["others"]) == (60, 50, 140)


def test_a_constant_column_has_a_summary():
    assert summary(np.full(5, 3.0)) == {"mean": 3, "sd": 0, **dict.fromkeys(("low", "q05", "q25", "median", "q75", "q95", "high"), 3),
                                        "histogram": {"values": [3], "counts": [5]}}  # fmt: skip


def test_coverage_counts_pairs(log, numbers):
    found = numbers["coverage"]
    counts = collections.Counter(zip(log.obs.tolist(), log.action.tolist()))
    visits = collections.Counter(log.obs.tolist())
    assert (found["logged"], found["possible"], found["seen"]) == (len(counts), 3 * len(visits), len(visits))
    many = [sum(low <= n < high for n in counts.values()) for low, high in zip(found["levels"][1:], [*found["levels"][2:], math.inf])]
    np.testing.assert_allclose(found["pairs"], np.array([3 * len(visits) - len(counts), *many]) / (3 * len(visits)))
    decisions = [sum(n for n in counts.values() if low <= n < high) for low, high in zip(found["levels"], [*found["levels"][1:], math.inf])]
    np.testing.assert_allclose(found["decisions"], np.array(decisions) / log.steps)
    commonest = visits.most_common(1)[0]
    assert found["counts"]["states"][0] == {"name": str(commonest[0]), "visits": commonest[1]}
    assert found["counts"]["rows"][0] == [counts[commonest[0], a] for a in range(3)]
    assert sum(map(sum, found["counts"]["rows"])) == log.steps


def test_coverage_respects_masks():
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    state, action = np.array([0, 0, 1]), np.array([0, 1, 0])
    found = describe(Episodes.of(state, action, np.ones(3), np.ones(3), states=2, actions=3, mask=mask[state]))
    assert (found["coverage"]["possible"], found["coverage"]["logged"], found["coverage"]["alone"]) == (3, 3, pytest.approx(1 / 3))
    assert found["quality"]["coverage"] == {"value": 1, "distinct": 3, "reference": 3, "slices": None, "effective": pytest.approx(3)}


# measures of Schweighofer et al. -----------------------------------------------------------------------------------------------


def test_trajectory_quality(log, numbers):
    found, ordered = numbers["quality"]["trajectory"], np.sort(log.returns())
    low, high = ordered[:80].mean(), ordered[-80:].mean()
    assert found["episodes"] == {"value": pytest.approx((ordered.mean() - low) / (high - low)), "low": pytest.approx(low), "high": pytest.approx(high)}  # fmt: skip
    assert found["given"] is None
    said = empirical(log, threshold=10)
    start = np.asarray(said.mdp.start, float)
    uniform = (said.counts > 0) / np.maximum((said.counts > 0).sum(axis=1, keepdims=True), 1)
    uniform[said.counts.sum(axis=1) == 0] = 1 / 3
    loose = empirical(log)
    worst, best = loose.mdp.performance(uniform, 1.0), said.mdp.optimum(1.0).v @ start
    expected = (loose.mdp.performance(loose.behaviour, 1.0) - worst) / (best - worst)
    assert found["policies"]["value"] == pytest.approx(expected, abs=2e-3)  # the world is solved for as many steps as were logged


def test_given_references_are_those_of_the_paper(log):
    mean = log.returns().mean()
    found = describe(log, references=(-1.0, 3.0))["quality"]["trajectory"]["given"]
    assert found == {"value": pytest.approx((mean + 1) / 4), "low": -1, "high": 3}


def test_state_action_coverage(log, numbers):
    counts = collections.Counter(zip(log.obs.tolist(), log.action.tolist()))
    shares = np.array(list(counts.values())) / log.steps
    found = numbers["quality"]["coverage"]
    assert (found["distinct"], found["reference"]) == (len(counts), WORLD.states * 3)
    assert found["effective"] == pytest.approx(math.prod(p**-p for p in shares))


def test_distinct_rows_of_vectors_are_cut_as_by_the_paper():
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(500, 2)).round(1), rng.integers(2, size=500)
    log = Episodes.of(obs, action, np.zeros(500), np.ones(500))
    cut = [np.digitize(x, np.linspace(x.min(), x.max(), 100)) for x in obs.astype(np.float32).astype(float).T]
    expected = collections.Counter(zip(*map(list, cut), action.tolist()))
    assert sorted(distinct(log)) == sorted(expected.values())


# practice, and how far -------------------------------------------------------------------------------------------------------


def test_practice_is_what_the_fit_says(log):
    unknown = dataclasses.replace(log, log_prob=None)
    fitted = fit_behaviour(unknown)
    found = practice(unknown, None, 0)
    said = found.numbers
    assert (said["kind"], said["recorded"], said["score"]) == ("counts", False, fitted.score)
    assert said["calibration"]["observed"] == fitted.calibration().observed.tolist()
    np.testing.assert_array_equal(found.log_prob, fitted.log_prob)
    assert said["top"] == np.mean([p.argmax() == a for p, a in zip(fitted.probs, log.action)])
    assert said["in_play"] == pytest.approx(np.mean([math.prod(x**-x for x in p) for p in fitted.probs]))
    assert sum(said["done"]["share"]) == pytest.approx(1)
    again = practice(unknown, fitted, 0)
    assert again.numbers == said


def test_the_blind_score_is_that_of_the_shares_of_other_episodes(log):
    fold = np.repeat(np.random.default_rng(0).permutation(len(log)) % 5, log.lengths)
    each = [np.log(np.bincount(log.action[fold != k], minlength=3) / (fold != k).sum())[log.action[fold == k]] for k in range(5)]
    found = practice(log, None, 0).numbers
    assert found["score_blind"] == pytest.approx(np.concatenate(each).mean(), abs=1e-4)
    assert found["score"] > found["score_blind"] + 0.1  # the logger looks at the state


def test_recorded_probabilities_are_used_and_checked(log):
    found = practice(log, None, 0)
    assert found.numbers["recorded"] and found.numbers["score_recorded"] == pytest.approx(
        np.log(LOGGER[log.obs, log.action]).mean(), abs=1e-5
    )
    inverse = 1 / (3 * LOGGER[log.obs, log.action])
    assert found.numbers["inverse"]["mean"] == pytest.approx(inverse.mean(), rel=1e-5)
    np.testing.assert_array_equal(found.log_prob, log.log_prob.astype(float))


def test_effective_episodes_equal_those_of_the_diagnostics(log):
    found = practice(log, None, 0)
    said = reach(found)
    mu, fitted = np.exp(log.log_prob.astype(float)), fit_behaviour(log).probs
    rows, in_play = np.arange(log.steps), fitted >= 0.01
    assert said["steps"] == horizons(int(log.lengths.max())) and said["alive"][0] == 800 and said["recorded"]
    random = in_play[rows, log.action] / in_play.sum(axis=1)
    for name, nu in (("random", random), ("usual", fitted.argmax(axis=1) == log.action)):
        ratio = nu / mu
        each = [(ratio[a:b] - ratio.mean()).sum() for a, b in zip(log.starts, log.stops)]
        assert said["toward"][name]["mean"] == pytest.approx(ratio.mean())
        assert said["toward"][name]["error"] == pytest.approx(math.sqrt(sum(x**2 for x in each)) / log.steps)
        for share, row in zip(said["shares"], said["toward"][name]["effective"]):
            target = (1 - share) * mu + share * nu
            ends = np.zeros(log.steps, bool)
            ends[log.stops - 1] = True
            exact = diagnostics(of(log.reward, target, mu, ends=ends))
            shown = [worth is not None for worth in row]
            assert shown == sorted(shown, reverse=True)
            assert shown[-1] == (all(shown[:-1]) and exact.mean >= 1 - max(ASTRAY, SURE * exact.mean_error))
            each = exact.effective_by_step[np.array(said["steps"]) - 1]
            np.testing.assert_allclose(np.array(row, float)[shown], each[shown], rtol=1e-9)


def test_what_is_done_most_often(log):
    found = practice(log, None, 0)
    most = fit_behaviour(log).probs.argmax(axis=1)
    np.testing.assert_array_equal(np.exp(found.toward["usual"]), most == log.action)


def test_effective_sample_size_in_closed_form():
    found = describe(bandit([0] * 80 + [1] * 20, np.zeros(100), [0.8, 0.2]))
    w = np.array([0.5 / 0.8] * 80 + [0.5 / 0.2] * 20)
    random = found["reach"]["toward"]["random"]
    assert random["effective"][-1] == [pytest.approx(w.sum() ** 2 / (w @ w))]  # 64
    half = 0.5 + 0.5 * w
    assert random["effective"][3] == [pytest.approx(half.sum() ** 2 / (half @ half))]
    assert random["furthest"] == {"10": 1.0, "100": 0.0}  # 100 episodes are worth less than 100 as soon as weights differ


def test_a_uniform_logger_can_be_asked_about_anything():
    action = np.arange(400) % 4
    found = describe(bandit(action, action == 1, np.full(4, 0.25)))["reach"]["toward"]["random"]
    assert np.ravel(found["effective"]) == pytest.approx(400) and found["furthest"] == {"10": 1.0, "100": 1.0}


def test_how_far_is_the_last_share_with_enough(log):
    found = practice(log, None, 0)
    said = reach(found)["toward"]["random"]["furthest"]
    ratio = np.exp(found.toward["random"] - found.log_prob)
    worth = lambda share: effective(np.array([np.log(1 - share + share * ratio[a:b]).sum() for a, b in zip(log.starts, log.stops)]))
    for need in (10, 100):
        assert worth(said[str(need)]) >= need
        assert said[str(need)] == 1 or worth(said[str(need)] + 0.01) < need


def test_horizons():
    assert horizons(1) == [1] and horizons(7) == [1, 2, 5, 7] and horizons(50) == [1, 2, 5, 10, 20, 50]


@pytest.mark.parametrize(
    ("weight", "shown"), [(0.81, True), (0.79, False), (1.04, True), (1.06, False), (0.0, False), (1e-300, False), (1e300, False)]
)
def test_weights_that_do_not_average_one_stand_for_nothing(weight, shown):
    """Small and alike where the policy does what the log lacks: Kish would say that all episodes are worth something."""
    with np.errstate(divide="ignore"):
        found = effective(np.log(np.full(100, weight)))
    assert found == (pytest.approx(100) if shown else None)


def test_what_the_log_lacks_once_it_lacks_from_there_on():
    assert until_lost([9.0, 4.0, None, 1.0]) == [9.0, 4.0, None, None] and until_lost([3.0, 2.0]) == [3.0, 2.0]


def test_chance_is_no_reason_to_leave_a_cell_empty():
    assert effective(np.log([50.0, *np.full(99, 1e-6)])) == pytest.approx(
        1, rel=1e-4
    )  # a mean of ½, by a single weight: the error is as large
    assert effective(np.array([900.0, *np.zeros(99)])) == 1  # nothing overflows
    assert effective(np.full(100, -900.0)) is None


def test_a_deterministic_logger_is_said_to_be_one():
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(200, 2))
    log = Episodes.of(obs, obs[:, :1] / 10, rng.normal(size=200), np.arange(200) % 10 == 9, low=-1.0, high=1.0)
    found = describe(log)
    assert "deterministic" in found["practice"]["refused"] and found["reach"] is None


def test_many_steps_are_drawn_by_whole_episodes(log, monkeypatch):
    some = part(log, 500, seed=3)
    assert 400 < some.steps <= 500 and set(some.ids) < set(log.ids)
    np.testing.assert_array_equal(some.reward, np.concatenate([log.reward[log.starts[i] : log.stops[i]] for i in some.ids]))
    assert part(log, 500, seed=3).fingerprint() == some.fingerprint() != part(log, 500, seed=4).fingerprint()
    assert part(log, log.steps, seed=0) is log
    monkeypatch.setattr(practices, "LONGEST", 2)
    cut = part(log, 10**9, seed=0)
    assert cut.lengths.max() == 2 and len(cut) == len(log)
    np.testing.assert_array_equal(cut.obs[cut.starts], log.obs[log.starts])
    assert LONGEST > 60


# stitching -------------------------------------------------------------------------------------------------------------------


def stationary(said, policy, discount) -> float:
    return float(said.mdp.performance(policy, discount))


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_the_world_of_a_log_is_solved_exactly(log, discount):
    table = table_of(log)
    made, start = world(table, log, discount), np.asarray(empirical(log).mdp.start, float)
    loose = empirical(log)
    assert made.value(made.count, LONG) == pytest.approx(stationary(loose, loose.behaviour, discount), abs=1e-5)
    for least in LEAST:
        said = empirical(log, threshold=least)
        assert made.best(least, LONG) == pytest.approx(said.mdp.optimum(discount).v @ start, abs=1e-5)


def test_a_policy_of_one_half_is_valued_in_the_other(log):
    table = table_of(log)
    half = np.arange(len(log)) % 2 == 0
    sides = [log.take(np.flatnonzero(side)) for side in (half, ~half)]
    here, there = (world(table, log, 1.0, side) for side in (half, ~half))
    found, other = empirical(sides[0], threshold=5), empirical(sides[1])
    policy = found.mdp.optimum(1.0).policy
    visits = (policy * other.counts).sum(axis=1, keepdims=True)
    done = (visits * policy + other.behaviour) / (visits + 1)
    assert here.tried(5, LONG, there) == pytest.approx(stationary(other, done, 1.0), abs=1e-5)
    whole = world(table_of(sides[1]), sides[1], 1.0)
    np.testing.assert_array_equal(whole.count, there.count)


def test_imitation_of_the_best_tenth(log):
    table, made, said = table_of(log), world(table_of(log), log, 1.0), empirical(log)
    best = tenth(log.returns(), True)
    assert len(best) == 80 and log.returns()[best].min() >= np.delete(log.returns(), best).max()
    counts = np.zeros((WORLD.states + 1, 3))
    for i in best:
        for row in range(log.starts[i], log.stops[i]):
            counts[log.obs[row], log.action[row]] += 1
    total = counts.sum(axis=1, keepdims=True)
    policy = np.where(total > 0, counts / np.maximum(total, 1), said.behaviour)
    assert made.value(imitated(made, table, log, best), LONG) == pytest.approx(stationary(said, policy, 1.0), abs=1e-5)


def test_stitching_in_closed_form():
    """Ten of a hundred episodes come from above and go down, which earns 1; ninety come from the left and go on, which earns nothing.
    Whoever stands at the crossing may go down; that was done ten times there."""
    log = gridworld(5, episodes=100, good=0.1).log
    found = stitching(table_of(log), log)
    assert found["exact"] and found["horizon"] == 4
    assert (found["practice"], found["logged"]["mean"]) == (pytest.approx(0.1), 0.1)
    assert [row["value"] for row in found["thresholds"]] == pytest.approx([1, 1, 1, 0, 0])
    assert [row["believed"] for row in found["thresholds"]] == pytest.approx([0.9, 0.9, 0.9, -0.1, -0.1])
    assert found["logged"]["best_tenth"] == 1 and found["logged"]["worst_tenth"] == 0
    assert found["imitation"]["value"] == pytest.approx(1)  # of the crossing; before it, what was done
    half = np.random.default_rng(0).permutation(100) % 2 == 0
    for gain, there in zip(found["thresholds"][0]["held_out"], (~half, half)):
        went = log.returns()[there].sum()  # who went down there; the policy does so as often in one time more
        assert gain == pytest.approx((went + went / there.sum()) / (went + 1) - went / there.sum())


def test_worlds_are_solved_until_practice_has_ended():
    """Every episode has six steps, but the state does not tell how many are left: in the world of the log each step ends with probability 1/6."""
    ends = np.arange(600) % 6 == 5
    log = Episodes.of(np.zeros(600, int), np.zeros(600, int), ends, ends, states=1)
    found = stitching(table_of(log), log)
    steps = math.ceil(math.log(0.01) / math.log(5 / 6))
    assert found["horizon"] == steps and found["practice"] == pytest.approx(1 - (5 / 6) ** steps)
    cut = dataclasses.replace(log, terminal=ends & (np.arange(600) > 5))  # the first episode is cut off: six steps may be a limit of time
    assert stitching(table_of(cut), cut)["horizon"] == 6


def test_a_circle_that_was_seen_once_holds_nobody():
    """In state 0, action 1 ends with 1; in the second half it led back to state 0 the only time it was taken, in an episode that went on."""
    first = Episodes.of([0] * 4, [0, 0, 1, 1], [0, 0, 1, 1], np.ones(4), states=1)
    second = Episodes.of([0] * 5, [0, 0, 0, 1, 0], [1, 1, 1, 0, 1], [1, 1, 1, 0, 1], states=1)
    here, there = (world(table_of(log), log, 1.0) for log in (first, second))
    assert here.best(1, 9) == 1 and there.value(there.count, 50) == pytest.approx(1)
    assert here.tried(1, 50, there) == pytest.approx(1)  # half of the time it does as practice does, and gets out


def test_luck_is_found_out():
    """Forty actions that all earn the same on average: what is best among them in one half is nothing special in the other."""
    rng = np.random.default_rng(0)
    action = rng.integers(40, size=1200)
    found = describe(bandit(action, rng.normal(size=1200), np.full(40, 1 / 40)))["stitching"]
    row = found["thresholds"][2]
    assert row["least"] == 10 and row["believed"] > 0.25 > abs(np.mean(row["held_out"]))


def test_one_step_worlds_are_means(log):
    rng = np.random.default_rng(1)
    action, reward = rng.integers(3, size=90), rng.normal(size=90)
    found = describe(bandit(action, reward, np.full(3, 1 / 3)))["stitching"]
    means = [reward.astype(np.float32)[action == a].mean() for a in range(3)]
    assert found["horizon"] == 1 and found["thresholds"][0]["value"] == pytest.approx(max(means), abs=1e-6)
    assert found["uniform"] == pytest.approx(np.mean(means), abs=1e-6)


def test_discounts_count_the_time_that_a_step_takes():
    log = Episodes.of([0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 1], states=2, duration=[2, 1, 4, 1])
    found = stitching(table_of(log), log, discount=0.5)
    assert found["practice"] == pytest.approx((0.5**2 + 0.5**4) / 2) == found["logged"]["mean"]


def test_a_cut_off_episode_goes_on_in_the_world():
    """State 0 leads to state 1, which earns 1 and ends; the second episode is cut off before it gets there."""
    log = Episodes.of([0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0], ends=[0, 1, 1], next_obs=[1, 0, 1], states=2)
    found = stitching(table_of(log), log)
    assert found["logged"]["mean"] == 0.5 and found["practice"] == 1


# what is not numbered ----------------------------------------------------------------------------------------------------------


def test_groups_find_what_is_apart():
    rng = np.random.default_rng(0)
    centre = np.array([[0, 0], [10, 0], [0, 10.0]])
    which = rng.permutation(np.repeat([0, 1, 2], [300, 200, 100]))
    x = (centre[which] + rng.normal(size=(600, 2))).astype(np.float32)
    groups = Groups(x, 3, seed=0)
    np.testing.assert_array_equal(groups.of(x), which)  # the commonest is number 0
    assert [each["centre"][0][0] for each in groups.described(("a", "b"))][1:] == ["a", "b"]
    assert Groups(np.zeros((5, 2), np.float32), 3, seed=0).count == 1


def test_cells_know_what_followed():
    rng = np.random.default_rng(0)
    obs, ends = rng.normal(size=(300, 2)).astype(np.float32), np.arange(300) % 10 == 9
    after = np.concatenate([obs[1:], obs[:1]])
    after[ends] = rng.normal(size=(30, 2))
    terminal = ends & (np.arange(300) % 20 == 9)
    log = Episodes.of(obs, rng.integers(2, size=300), np.zeros(300), terminal, ends=ends, next_obs=after)
    table = numbered(log, ("a", "b"), ("0", "1"), 0)
    assert table.states == 300 // (tables.ROWS_A_PAIR * 2) and not table.exact
    groups = Groups(log.obs, table.states, 0)
    np.testing.assert_array_equal(table.after, np.where(terminal, -1, groups.of(log.next_obs)))


def test_one_continuous_action_is_cut_into_equal_intervals():
    rng = np.random.default_rng(0)
    action = rng.uniform(-2, 4, 500).astype(np.float32)
    log = Episodes.of(rng.integers(3, size=500), action[:, None], np.zeros(500), np.ones(500), states=3, low=-2.0, high=4.0)
    table = numbered(log, ("state",), ("dose",), 0)
    np.testing.assert_array_equal(table.action, np.floor((action + 2) / 0.6).astype(int))
    assert table.action_groups[0] == {"low": -2, "high": pytest.approx(-1.4)}


def test_pictures_are_pooled():
    pictures = np.random.default_rng(0).integers(256, size=(3, 12, 9, 2), dtype=np.uint8)
    found = pooled(pictures).reshape(3, 8, 8, 2)
    rows, columns = ([*(np.arange(8) * side // 8), side] for side in (12, 9))
    for i in range(8):
        for j in range(8):
            field = pictures[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]].astype(float)
            np.testing.assert_allclose(found[:, i, j], field.mean(axis=(1, 2)), rtol=1e-5)


def test_several_choices_become_one():
    rng = np.random.default_rng(0)
    action = rng.integers([2, 3], size=(60, 2))
    mask = np.ones((60, 5), bool)
    mask[action[:, 0] == 0, 1] = False  # where the first was chosen, the second could not be
    log = Episodes.of(np.zeros(60, int), action, np.zeros(60), np.ones(60), states=1, actions=(2, 3), mask=mask)
    flat, _, names = simple(log)
    assert flat.spec.action == Discrete(6) and names == tuple(f"{i}, {j}" for i in range(2) for j in range(3))
    np.testing.assert_array_equal(flat.action, action[:, 0] * 3 + action[:, 1])
    assert (flat.mask.sum(axis=1) == np.where(action[:, 0] == 0, 3, 6)).all()


def wide_box(n=240) -> Episodes:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(n, 35))
    action = np.clip(obs[:, :2] * 0.2 + rng.normal(size=(n, 2)) * 0.3, -1, 1)
    ends = np.arange(n) % 8 == 7
    return Episodes.of(obs, action, rng.normal(size=n), ends, ends=ends, low=-1.0, high=1.0)


def several() -> Episodes:
    rng = np.random.default_rng(0)
    return Episodes.of(rng.normal(size=(120, 2)), rng.integers([2, 3], size=(120, 2)), rng.normal(size=120), np.arange(120) % 6 == 5, actions=(2, 3))  # fmt: skip


def pictured() -> Episodes:
    rng = np.random.default_rng(0)
    return Episodes.of(rng.integers(256, size=(120, 9, 9, 1), dtype=np.uint8), rng.integers(2, size=120), rng.normal(size=120), np.arange(120) % 6 == 5)  # fmt: skip


@pytest.mark.parametrize(("make", "kinds"), [(wide_box, ("vectors", "vectors")), (several, ("vectors", "choices")), (pictured, ("pictures", "choice"))])  # fmt: skip
def test_every_space_has_its_numbers(make, kinds):
    log = make()
    found = describe(log)
    json.dumps(found, allow_nan=False)
    assert (found["observations"]["kind"], found["actions"]["kind"]) == kinds
    assert found["practice"]["refused"] is None and not found["coverage"]["exact"]
    if make is wide_box:
        assert len(found["observations"]["columns"]) == 30 and found["observations"]["further"] == [f"obs_{j}" for j in range(30, 35)]
        edge = (log.action >= 1).mean(axis=0)
        assert [column["at_high"] for column in found["actions"]["columns"]] == pytest.approx(edge)
        assert found["practice"]["spread"] == pytest.approx([0.3, 0.3], abs=0.1)
        assert isinstance(log.spec.action, Box)


def test_a_firmer_policy_has_half_the_spread():
    """Of a clipped normal that is the same everywhere: the ratio of both densities, in closed form."""
    rng = np.random.default_rng(0)
    action = rng.normal(0, 0.2, size=(400, 1))
    log = Episodes.of(np.zeros((400, 1)), action, np.zeros(400), np.ones(400), low=-1.0, high=1.0)
    fitted = fit_behaviour(log, "gaussian", calibrate="none")
    found = practice(log, fitted, 0)
    z = (action[:, 0] - fitted.said.mean[:, 0, 0]) / np.sqrt(fitted.said.cov[:, 0, 0, 0])
    np.testing.assert_allclose(found.toward["usual"] - found.log_prob, math.log(2) - 1.5 * z**2, atol=1e-4)
    np.testing.assert_allclose(found.toward["random"], -math.log(2))


def test_state_of_a_masked_world_stays_legal():
    mask = np.ones((WORLD.states, 3), bool)
    mask[:, 2] = False
    masked = MDP(WORLD.transition, WORLD.reward, WORLD.start, WORLD.terminal, mask)
    log = sample(masked, masked.uniform(), 60, horizon=20, key=jax.random.key(1))
    found = practice(log, None, 0)
    np.testing.assert_allclose(found.toward["random"], -math.log(2))
    assert found.numbers["inverse"]["mean"] == pytest.approx(1, rel=1e-6)
