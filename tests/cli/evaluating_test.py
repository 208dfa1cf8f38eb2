"""topstitch evaluate."""

import json

import pytest

from topstitch import load_runs


@pytest.fixture
def runs(train):
    assert train("bc", "choices.csv", "-o", "runs", "--seeds", "3")[0] == 0
    return "runs"


def test_evaluate_a_folder(topstitch, runs):
    code, out, err = topstitch("evaluate", runs, "--env", "CartPole-v1", "--episodes", "2")
    assert (code, err) == (0, "")
    header, row = out.splitlines()
    assert header.split()[:2] == ["runs", "return"] and row.split()[0] == "runs"
    assert max(len(header), len(row)) <= 80


def test_evaluate_for_scripts(topstitch, runs):
    argv = ["evaluate", runs, f"{runs}/policy/1.safetensors", "--env", "CartPole-v1", "--episodes", "3", "--seed", "4", "--json"]
    code, out, _ = topstitch(*argv)
    folder, single = json.loads(out)
    assert code == 0
    assert (folder["policies"], single["policies"], folder["episodes"]) == (3, 1, 3)
    assert folder["low"] <= folder["mean"] <= folder["high"] and single["low"] is None
    assert folder["per_policy"][1] == single["mean"] and folder["success"] is None
    assert topstitch(*argv)[1] == out
    assert json.loads(topstitch(*argv, "--stochastic")[1]) != json.loads(out)


def test_the_wrong_environment(topstitch, runs):
    code, out, err = topstitch("evaluate", runs, "--env", "MountainCar-v0")
    assert (code, out) == (1, "")
    assert "observations are vectors of 2, but the policy knows vectors of 4" in err
    code, _, err = topstitch("evaluate", runs, "--env", "CartPool-v1")
    assert code == 1
    assert "cannot make 'CartPool-v1'" in err


def test_runs_that_are_not_finished(topstitch, runs, here):
    (here / "runs" / "finished.json").unlink()
    code, _, err = topstitch("evaluate", runs, "--env", "CartPole-v1")
    assert code == 1
    assert "--resume" in err
    with pytest.raises(ValueError, match="not been trained to their end"):
        load_runs("runs")
