"""Advice on logs whose answer is known."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from topstitch.algos import ALGORITHMS, find
from topstitch.bench import icu_sepsis
from topstitch.core import Box, Discrete, Image, MultiDiscrete
from topstitch.data import Episodes
from topstitch.ope import ESTIMATORS, MARGINAL
from topstitch.study.advice import CANDIDATES, advise, fits
from topstitch.testing import tiny
from topstitch.worlds import gridworld, random_mdp, sample

WORLD = random_mdp(20, 4, ending=0.15, seed=0)
BEST, ANY = WORLD.optimum(0.95).policy, WORLD.uniform()


def logged(policy, episodes: int = 1000, seed: int = 0, horizon: int = 100) -> Episodes:
    return sample(WORLD, policy, episodes, horizon=horizon, key=jax.random.key(seed))


def trusted(advice, name: str) -> set[str]:
    return {one.trusted for one in advice.estimators if name in one.names}


@pytest.fixture(scope="module")
def random():
    return advise(logged(ANY))


# imitation or offline RL ----------------------------------------------------------------------------------------------------------


def test_an_expert_is_imitated():
    said = advise(logged(BEST))
    assert said.answer == "imitation" and [one.code for one in said.reasons if one.decides] == ["choice"]
    assert [one.name for one in said.algorithms] == ["bc", "spibb"]


def test_random_decisions_are_improved_on(random):
    assert random.answer == "offline RL" and random.facts.z > 5 and min(random.facts.stitched) > 1
    assert [one.code for one in random.reasons if one.decides] == ["gain"]


def test_of_a_mixture_the_better_part_is_found():
    log = Episodes.join(logged(ANY, 600), logged(0.9 * BEST + 0.1 * ANY, 300, 1))
    assert advise(log).answer == "offline RL"


def test_parts_of_episodes_are_stitched():
    assert advise(gridworld(episodes=400, good=0.3).log).answer == "offline RL"
    hospital = advise(icu_sepsis.log())
    assert hospital.answer == "offline RL" and [one.code for one in hospital.reasons if one.decides] == [
        "stitch"
    ]  # no single decision shows it
    assert {"bc", "spibb", "discrete_bcq", "iql"} == {one.name for one in hospital.algorithms}
    low, middle, high = next(one.sweep["beta"] for one in hospital.algorithms if one.name == "iql")
    assert low < middle < high


def test_choices_without_consequence_show_no_gain():
    log = logged(ANY)
    luck = dataclasses.replace(log, reward=np.random.default_rng(0).normal(size=log.steps).astype(np.float32))
    said = advise(luck)
    assert abs(said.facts.z) < 3 and max(said.facts.stitched) < 0.5
    assert "gain" not in [one.code for one in said.reasons if one.decides]


def test_few_episodes_are_imitated():
    assert advise(logged(ANY, 30)).answer == "imitation"


def test_a_critical_finding_comes_first():
    said = advise(dataclasses.replace(logged(ANY, 200), reward=np.zeros(logged(ANY, 200).steps, np.float32)), data=("icu",))
    assert said.answer == "neither" and said.next == ["topstitch", "data", "check", "icu"] and said.algorithms == ()


# estimators ----------------------------------------------------------------------------------------------------------------------


def test_a_fixed_rule_allows_no_weights():
    said = advise(logged(BEST))
    assert trusted(said, "wis") == {"no"} and trusted(said, "fqe") == {"with care"}


def test_one_step_asks_for_estimators_of_bandits():
    log = logged(ANY, 3000)
    one = Episodes.of(log.obs[log.starts], log.action[log.starts], log.reward[log.starts], np.ones(len(log), bool), states=20, actions=4,
                      log_prob=log.log_prob[log.starts])  # fmt: skip
    said = advise(one)
    assert said.facts.one_step and trusted(said, "dr") == {"yes"} and trusted(said, "dm") == {"with care"}
    assert not trusted(said, "wis") and not trusted(said, "fqe")
    unknown = advise(dataclasses.replace(one, log_prob=None))
    assert trusted(unknown, "dr") == {"with care"} and "--behaviour fit" in unknown.estimators[0].reason


def test_long_episodes_forbid_weights():
    world = random_mdp(20, 4, seed=0)
    said = advise(sample(world, world.uniform(), 150, horizon=150, key=jax.random.key(0)))
    assert trusted(said, "wis") == trusted(said, "wdr") == {"no"} and said.facts.worth < 10
    assert trusted(said, "fqe") == {"with care"}


def test_short_episodes_with_known_probabilities_allow_weights():
    said = advise(logged(0.5 * BEST + 0.5 * ANY, 4000, horizon=2))
    assert trusted(said, "wis") == {"yes"} and said.facts.worth > 100


# algorithms ----------------------------------------------------------------------------------------------------------------------


def test_only_algorithms_that_there_are_and_that_fit(random):
    assert {one.name for one in CANDIDATES} <= set(ALGORITHMS)
    for log in (logged(ANY, 200), tiny(Box), tiny(MultiDiscrete, obs=Image), tiny(Discrete)):
        for one in advise(log).algorithms:
            assert fits(one.name, log)
            find(one.name)(**one.settings, steps=one.steps)
    names = {name for one in random.estimators for name in one.names}
    assert names <= {*ESTIMATORS, *MARGINAL}


def test_answers_are_plain_with_reasons_and_sources(random):
    plain = json.loads(json.dumps(random.plain(), allow_nan=False))
    assert plain["algorithms"][0]["name"] == "bc" and plain["safe"] == "spibb"
    for part in ("reasons", "algorithms", "estimators"):
        assert all(one["source"] for one in plain[part])
    assert sum(one["decides"] for one in plain["reasons"]) == 1
