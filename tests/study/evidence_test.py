"""From policies to a verdict, where the truth is known: `benchmarks/verdicts.py` does this thousands of times."""

import jax.numpy as jnp
import numpy as np
import pytest

from topstitch import nets
from topstitch.data import BadData
from topstitch.ope.table import Refused
from topstitch.study.evidence import Ends, bench, gain, gap, guaranteed, net, reason_alone, settle, value, weigh
from topstitch.study.judging import CONTROL, judge
from topstitch.study.logger import acts_of, jackknife, learn, worth
from topstitch.study.plan import Plan, deal, margin_of, shares_of

policy = lambda table: nets.TablePolicy(jnp.asarray(table, jnp.float32))


def asked(ward, tables, **how):
    plan = Plan(**{"return_range": (0.0, 1.0), **how})
    parts = deal(ward.log, plan)
    train, rest = ward.log.take(parts["train"]), ward.log.take(np.concatenate([parts["train"], parts["selection"]]))
    logger = learn(train, rest, recorded=plan.behaviour != "fit")
    return judge(ward.log, parts, {name: policy(table) for name, table in tables.items()}, logger, plan, margin=margin_of(rest, plan)[0])


def test_a_large_gain_with_recorded_probabilities_is_deployed(gaining):
    found = asked(gaining, {"better": gaining.better, "practice": gaining.practice})
    truth = gaining.mdp.performance(gaining.better, 1.0) - gaining.mdp.performance(gaining.practice, 1.0)
    assert (found.verdict.word, found.choice.chosen) == ("deploy", "better")
    assert 0 < found.numbers.bound < truth and found.numbers.gain.low < truth < found.numbers.gain.high


def test_with_estimated_probabilities_it_is_a_trial(gaining):
    found = asked(gaining, {"better": gaining.better}, behaviour="fit")
    assert (found.verdict.word, found.verdict.also, found.numbers.bound) == ("trial", ("unbounded",), None)
    assert (found.found[CONTROL].side.without != found.found[CONTROL].side.value).all()


def test_a_harmful_policy_is_told(gaining):
    worse = gaining.practice + 0.15 * np.array([1, 0, -1])
    found = asked(gaining, {"worse": worse})
    assert (found.verdict.word, found.verdict.code) == ("do not", "harm")


def test_where_nothing_can_be_gained_nothing_is_promised(idle):
    found = asked(idle, {"other": idle.better}, margin=0.2)
    assert (found.verdict.word, found.verdict.code) == ("do not", "futile")
    assert asked(idle, {"other": idle.better}, margin=0.005).verdict.word == "cannot tell"


def test_a_policy_that_leaves_the_log_is_refused(idle):
    only = np.tile([1.0, 0, 0], (idle.mdp.states, 1))
    found = asked(idle, {"only": only})
    assert found.verdict.word == "cannot tell" and found.verdict.code in ("refused", "thin")


def test_without_selection_episodes_the_error_is_shared_out(gaining):
    tables = {"better": gaining.better, "practice": gaining.practice}
    alone, both = (asked(gaining, tables, shares=shares) for shares in ((0.4, 0.2, 0.4), (0.6, 0.0, 0.4)))
    assert alone.tested is None and {t.name: t.accepted for t in both.tested} == {"better": True, "practice": False}
    one = both.found["better"]
    assert both.numbers.gain == gain(one, both.evaluation, 0.975) and both.numbers.gain.low < gain(one, both.evaluation).low


def test_practice_judged_as_a_policy_gains_nothing(gaining):
    part = gaining.log.take(np.arange(300))
    logger = learn(gaining.log.take(np.arange(1000, 1500)), gaining.log.take(np.arange(1000, 2000)), recorded=True)
    on = bench(part, logger, discount=1.0)
    one = weigh(acts_of(policy(gaining.practice), part), on)
    assert gain(one, on).low < 0 < gain(one, on).high and np.isclose(value(one).value - gain(one, on).value, part.returns().mean())
    assert np.allclose(gap(one.placebo), 0, atol=1e-4) and net(one, one) == Ends(0, 0, 0)
    low, why = guaranteed(one, on, (0.0, 1.0), recorded=True)
    assert why is None and -0.1 < low < 1e-6
    assert guaranteed(one, on, None, recorded=True)[0] is None
    assert "outside the declared range" in guaranteed(one, on, (0.0, 0.5), recorded=True)[1]


def test_values_never_come_from_the_episode_they_judge(gaining):
    """Changing one episode's reward changes no value of its own rows."""
    import dataclasses

    log = gaining.log.take(np.arange(200))
    reward = log.reward.copy()
    reward[: log.stops[0]] += 100
    before, after = worth(log, discount=1.0), worth(dataclasses.replace(log, reward=reward), discount=1.0)
    own = slice(0, int(log.stops[0]))
    assert np.array_equal(before.every[own], after.every[own]) and not np.array_equal(before.every, after.every)


def test_the_model_of_practice_has_not_seen_the_judging_episodes(gaining):
    found = asked(gaining, {"better": gaining.better}, behaviour="fit")
    parts = deal(gaining.log, Plan())
    assert set(found.evaluation.log.ids) == set(gaining.log.ids[parts["evaluation"]])
    assert not set(found.evaluation.log.ids) & set(found.selection.log.ids)


def test_jackknife_of_a_mean():
    x = np.random.default_rng(0).normal(size=(8, 50))
    without = np.array([np.delete(x, k, axis=0).mean() for k in range(8)])
    assert np.isclose(jackknife(without), x.mean(axis=1).std(ddof=1) / np.sqrt(8))
    assert jackknife(np.array([])) == 0


def test_episodes_that_would_settle_it():
    assert settle(Ends(0.02, 0.0, 0.04), 1000, 0.04) < settle(Ends(0.02, 0.0, 0.04), 1000, 0.02)
    assert settle(Ends(0.02, 0.0, 0.04), 1000, 0.0) is None
    n = settle(Ends(0.0, -0.04, 0.04), 1000, 0.02)
    half = 0.04 * np.sqrt(1000 / n)  # of the interval on n episodes
    assert np.isclose(0.02, half * (1.96 + 0.8416) / 1.96, rtol=1e-2)


def test_a_refusal_in_a_study_gives_no_advice_on_estimators():
    said = "the effective sample is 1.4 of 316 episodes; below 10 an estimate is the luck of a few. Use others, log more."
    assert reason_alone(Refused(said)) == "the effective sample is 1.4 of 316 episodes; below 10 an estimate is the luck of a few."
    assert reason_alone("there is no candidate") == "there is no candidate."


def test_dealing(idle):
    parts = deal(idle.log, Plan(seed=3))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(idle.log)))
    assert [len(part) for part in parts.values()] == [1500, 600, 900] and shares_of(100) == (0.4, 0.2, 0.4)
    with pytest.raises(BadData, match="sum to 1"):
        Plan(shares=(0.5, 0.5, 0.5))
    with pytest.raises(BadData, match="two at least"):
        deal(idle.log.take([0, 1, 2]), Plan())


def test_what_matters(idle):
    returns = idle.log.returns()
    assert margin_of(idle.log, Plan())[0] == pytest.approx(min(0.05 * returns.std(), 0.05 * returns.mean()))
    assert margin_of(idle.log, Plan(margin=0.1)) == (0.1, "declared")


def test_recorded_probabilities_that_are_none_are_refused(idle):
    import dataclasses

    log = dataclasses.replace(idle.log, log_prob=idle.log.log_prob + 5)
    logger = learn(idle.log.take(np.arange(100)), idle.log.take(np.arange(200)), recorded=True)
    with pytest.raises(Refused, match="at most 1"):
        bench(log, logger, discount=1.0)
