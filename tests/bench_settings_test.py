"""The tables of settings and of published scores."""

import json
import math
from pathlib import Path

import pytest

from topstitch import algos, bench
from topstitch.bench.settings import SETTINGS, setting
from topstitch.core import Box, Discrete

KINDS = {"cartpole": Discrete, "icu-sepsis": Discrete, "minatar": Discrete}
ENTRIES = [(key, name) for key, entry in SETTINGS.items() for name in entry]
PUBLISHED = json.loads((Path(bench.__file__).parent / "published.json").read_text())
PLANNED = {
    "edac", "decision_transformer", "trajectory_transformer", "mopo", "morel", "combo", "fql", "ifql", "bear",
    "gcbc", "gcivl", "gciql", "qrl", "crl", "hiql",
}  # fmt: skip
YARDSTICKS = {"random", "clinician", "optimum"}


@pytest.mark.parametrize(("key", "name"), ENTRIES)
def test_a_setting_makes_an_algorithm_of_the_right_kind(key, name):
    family, _, task = key.partition("/")
    found = setting(family, task.replace("*", "any"), name)
    algorithm = algos.find(name)(**found.fields)
    assert KINDS.get(family, Box) in algorithm.actions
    assert SETTINGS[key][name].source.strip() and SETTINGS[key][name].source in found.source
    assert found.normalise in ("standard", "none") and found.reward in ("standard", "range", "none")
    iterations = getattr(algorithm, "batch_size", None) == 0  # each over the whole log: what a family can afford
    assert algorithm.steps == algos.find(name)().steps or iterations or family == "icu-sepsis"


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, name in ENTRIES if "/" not in key and key != "icu-sepsis"])
def test_a_family_lists_only_what_differs_from_the_defaults(key, name):
    default = algos.find(name)()
    assert not {field for field, value in SETTINGS[key][name].fields.items() if getattr(default, field) == value}


def test_a_task_goes_over_its_family_and_wider_patterns():
    assert setting("locomotion", "halfcheetah-medium", "sac_n").fields == {}
    assert setting("locomotion", "hopper-expert", "sac_n").fields == {"critics": 200}
    assert setting("locomotion", "hopper-medium", "sac_n").fields == {"critics": 500}
    family, task = setting("locomotion", "hopper-random", "cql"), setting("locomotion", "hopper-medium", "cql")
    assert task.fields == family.fields and (family.reward, task.reward) == ("none", "range") and task.normalise == "standard"
    scene = setting("manipulation", "scene-play-singletask-task2-v0", "rebrac")
    assert scene.fields["actor_bc"] == 0.1 and scene.fields["lr"] == 3e-4 and scene.normalise == "none"
    assert setting("adroit", "door-human-v1", "rebrac") == setting("adroit", "door-human", "rebrac")


def test_no_entry_means_the_defaults_and_unknown_names_are_errors():
    assert setting("locomotion", "hopper-medium", "sac") == ({}, "the class's defaults", "standard", "none", "column")
    with pytest.raises(ValueError, match=r"no family of tasks 'atari'.*cartpole"):
        setting("atari", "pong", "dqn")
    with pytest.raises(ValueError, match=r"no algorithm 'sacn'.*sac_n"):
        setting("locomotion", "hopper-medium", "sacn")


def test_asking_does_not_change_the_table():
    before = {key: dict(entry["rebrac"].fields) for key, entry in SETTINGS.items() if "rebrac" in entry}
    setting("manipulation", "scene", "rebrac").fields["actor_bc"] = 9.0
    setting("locomotion", "hopper-medium", "sac").fields["lr"] = 9.0
    assert before == {key: entry["rebrac"].fields for key, entry in SETTINGS.items() if "rebrac" in entry}
    assert setting("locomotion", "hopper-medium", "sac").fields == {}


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_published_scores_are_numbers_with_a_source(dataset):
    known = YARDSTICKS if dataset == "icu-sepsis" else set(algos.ALGORITHMS) | PLANNED
    assert PUBLISHED[dataset] and set(PUBLISHED[dataset]) <= known
    for found in PUBLISHED[dataset].values():
        for score in found if isinstance(found, list) else [found]:
            assert set(score) == {"mean", "std", "seeds", "what", "source"}
            assert isinstance(score["mean"], float) and math.isfinite(score["mean"]) and -50 <= score["mean"] <= 200
            assert score["std"] is None or 0 <= score["std"] < 100
            assert score["seeds"] is None or score["seeds"] in range(1, 100)
            assert score["what"].strip() and score["source"].strip()
