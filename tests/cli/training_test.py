"""topstitch train."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typed import ROLES, SMALL

from topstitch import load_policy, load_runs


def test_a_grid_of_runs(topstitch, train, here):
    grid = ["--sweep", "alpha=0.5,1", "--sweep", "noise-clip=0.1,0.2,0.3", "--seeds", "2"]
    code, out, err = train("td3bc", "doses.csv", "-o", "runs", *grid, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["out"] == "runs" and len(said["runs"]) == 12
    assert [(row["run"], row["alpha"], row["noise_clip"], row["seed"]) for row in said["runs"][:7]] == [
        (0, 0.5, 0.1, 0), (1, 0.5, 0.1, 1), (2, 0.5, 0.2, 0), (3, 0.5, 0.2, 1), (4, 0.5, 0.3, 0), (5, 0.5, 0.3, 1), (6, 1.0, 0.1, 0),
    ]  # fmt: skip
    assert all(row["stopped"] is None and "critic/loss" in row for row in said["runs"])
    assert {path.name for path in (here / "runs").iterdir()} == {"checkpoints", "config.json", "finished.json", "metrics.jsonl", "policy"}
    runs = load_runs("runs")
    assert len(runs) == 12 and runs[11].algorithm.alpha == 1 and runs[11].algorithm.hidden == (8,)
    action = load_policy("runs").act((), np.arange(4.0), 0.0)[0]
    assert action.shape == (1,) and abs(action[0]) <= 1
    assert "TD3BC × 12: learn 20/20" in err and "\r" not in err and "\x1b" not in err


def test_the_outcome_in_words(train):
    code, out, _ = train("iql", "choices.csv", "--seeds", "8")
    assert code == 0
    assert out.endswith("Policies, metrics and checkpoints are in runs/iql.\n")
    lines = out.splitlines()
    assert lines[0].split() == ["run", *"012345"] and ["run", "6", "7"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= 80 and "…" not in out and "critic/loss" in out


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("hidden=8,16", "'hidden' cannot be swept: it shapes the program, so train its values one at a time. TD3BC can sweep alpha, noise"),
        ("expectile=0.5", "'expectile' cannot be swept: it is not one of its hyperparameters"),
        ("alpha=a,b", "was not understood. Write --sweep alpha=0.5,1,5"),
        ("alpha", "was not understood"),
    ],
)
def test_sweeps_that_cannot_be(train, here, sweep, said):
    code, _, err = train("td3bc", "doses.csv", "-o", "runs", "--sweep", sweep)
    assert code == 2
    assert said in err
    assert not (here / "runs").exists()


def test_the_wrong_kind_of_action_names_what_fits(train, here):
    code, _, err = train("td3bc", "choices.csv", "-o", "runs")
    assert code == 1
    assert "choices.csv" in err and "discrete_cql" in err and "iql" in err and "sac_n" not in err
    code, _, err = train("dqn", "doses.csv", "-o", "runs")
    assert code == 1
    assert "td3bc" in err and "discrete_cql" not in err
    assert not (here / "runs").exists()


def test_who_made_the_log_can_be_estimated(train):
    weighing = ("is_policy_gradient", "choices.csv", "-o", "runs", "--steps", "4")
    code, _, err = train(*weighing)
    assert code == 1 and "--behaviour fit" in err
    code, _, err = train(*weighing, "--behaviour", "fit")
    assert code == 0 and "estimating who made the log, from 55 steps" in err
    assert train(*weighing, "--behaviour", "fit", "--resume")[0] == 0  # the same estimate: the same log


def test_a_folder_in_use(train):
    assert train("bc", "doses.csv", "-o", "runs")[0] == 0
    code, _, err = train("bc", "doses.csv", "-o", "runs")
    assert code == 1
    assert "--resume" in err
    code, out, _ = train("bc", "doses.csv", "-o", "runs", "--resume", "--json")
    assert code == 0
    assert json.loads(out)["runs"][0]["actor/loss"] == load_runs("runs")[0].metrics["actor/loss"]
    code, _, err = train("bc", "doses.csv", "-o", "runs", "--resume", "--seeds", "2")
    assert code == 1
    assert "1 runs, 2 runs" in err


def test_tensorboard(train, here):
    assert train("bc", "doses.csv", "-o", "runs", "--tensorboard", "--seeds", "2")[0] == 0
    files = [path for run in "01" for path in (here / "runs" / "tensorboard" / run).iterdir()]
    assert len(files) == 2 and all(b"actor/loss" in path.read_bytes() for path in files)


def test_a_run_that_breaks_is_said(train):
    code, out, _ = train("td3bc", "doses.csv", "-o", "runs", "--sweep", "lr=1e-3,1e30")
    assert code == 3
    assert "run 1 was stopped early: " in out and "at step" in out


def test_normalisation_is_in_the_policy(train, here):
    for how in ("standard", "none"):
        assert train("bc", "doses.csv", "-o", how, "--normalise", how)[0] == 0
    assert load_policy("standard").view.obs is not None and load_policy("none").view.obs is None


def test_what_came_of_fine_tuning_is_told(topstitch, train, here, monkeypatch):
    from topstitch import online

    assert train("td3bc", "doses.csv", "-o", "runs")[0] == 0
    asked = {}
    monkeypatch.setattr(online, "finetune", lambda *where, **how: asked.update(how) or load_runs(where[0]))
    code, out, _ = topstitch("finetune", "runs", "--data", "doses.csv", *ROLES, "--env", "Pendulum-v1", "--steps", "20", "--set", "alpha=1")
    assert code == 0 and asked["steps"] == 20 and asked["fields"] == {"alpha": 1} and asked["acting"].logged == 0.5
    assert out.endswith("Policies, metrics and checkpoints are in runs-online.\n") and "critic/loss" in out


def test_who_learns_by_acting_may_ask_or_be_shown(topstitch, train, monkeypatch):
    from topstitch import online

    assert train("bc", "doses.csv", "-o", "clone")[0] == 0
    asked = []
    monkeypatch.setattr(online, "train_online", lambda algorithm, env, **how: asked.append(how) or load_runs("clone"))
    acting = ["--env", "Pendulum-v1", *SMALL]
    assert topstitch("train", "dagger", *acting, "--expert", "clone")[0] == 0
    assert asked[0]["log"] is None and abs(asked[0]["expert"](np.zeros(4, np.float32)).mode()) <= 1
    assert topstitch("train", "gail", *acting, "--demonstrations", "doses.csv", *ROLES)[0] == 0
    assert asked[1]["expert"] is None and len(asked[1]["log"]) == 10 and asked[1]["log"].view.obs is not None
    code, _, err = topstitch("train", "dagger", *acting, "--expert", "random")
    assert code == 2 and "random does not say what it would do" in err and len(asked) == 2


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupted_from_the_keyboard(here):
    """Ctrl-C: a sentence, exit code 130, and all that was learned is kept."""
    command = [sys.executable, "-m", "topstitch", "train", "bc", "--data", "doses.csv", *ROLES, *SMALL, "--steps", "100000000"]
    process = subprocess.Popen([*command, "-o", "runs"], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(here.glob("runs/checkpoints/0-*")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted. What was learned is kept: the same command with --resume goes on." in err and "Traceback" not in err
    last = json.loads((here / "runs" / "metrics.jsonl").read_text().splitlines()[-1])
    kept = [path.name for path in (here / "runs" / "checkpoints").iterdir()]  # the signal may come between a line and its checkpoint
    assert {f"0-{last['step'] - lost:010d}.safetensors" for lost in (0, 10)} & set(kept)
