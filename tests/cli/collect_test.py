"""topstitch collect, topstitch data join."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import topstitch as ts
from topstitch import collection, load_policy
from topstitch.supply import read_npz_policy

PLAYED = [
    "--episode", "episode", "--obs", "obs_*", "--action", "action_*", "--reward", "reward", "--terminal", "terminal", "--low", "-2", "--high", "2",
]  # fmt: skip
CART = ["collect", "--env", "CartPole-v1", "--lanes", "2"]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(collection, "SAVE", 200)


@pytest.fixture
def pendulum(here):
    """A policy for Pendulum, as arrays."""
    rng, path = np.random.default_rng(0), here / "p.npz"
    np.savez(
        path, kind="gaussian_xW", activation="tanh", W0=rng.normal(size=(3, 4)), b0=np.zeros(4), W_mu=rng.normal(size=(4, 1)),
        b_mu=np.zeros(1), log_std=np.zeros(1), obs_mean=np.zeros(3), obs_std=np.ones(3),
    )  # fmt: skip
    return path


@pytest.mark.parametrize("argv", [["collect", "--help"], ["data", "join", "--help"], ["data", "info", "--help"]], ids=" ".join)
def test_help_has_an_example_that_fits_the_screen(topstitch, argv):
    code, out, err = topstitch(*argv)
    assert (code, err) == (0, "")
    assert "example" in out and out.count("topstitch " + argv[0]) >= 2
    assert "None)" not in out and "--no-" not in out and "(default: )" not in out and "noqa" not in out
    assert max(map(len, out.split("\n", 1)[1].splitlines())) <= 102


def test_a_log(topstitch, here):
    code, out, err = topstitch(*CART, "--policy", "random", "--steps", "300", "--seed", "7", "-o", "a.log.safetensors")
    assert code == 0
    assert err == "CartPole-v1: 300/300 steps\n"
    assert "300: " in out and "CartPole-v1, random" in out and "note: Collected in CartPole-v1, acting at random" in out
    assert out.endswith("Written to a.log.safetensors. To read it: topstitch.read('a.log.safetensors')\n")
    log = ts.read("a.log.safetensors")
    assert log.steps == 300 and log.ids[0] == 7 and np.allclose(log.log_prob, np.log(0.5))
    assert log.fingerprint() == collection.collect("random", "CartPole-v1", steps=300, seed=7, lanes=2).fingerprint()
    assert not (here / "a.log.safetensors.parts").exists()
    code, out, err = topstitch(*CART, "--policy", "random", "--steps", "300", "-o", "a.log.safetensors")
    assert (code, out) == (1, "") and "not overwritten" in err


def test_a_table(topstitch, pendulum):
    argv = ["collect", "--env", "Pendulum-v1", "--policy", "p.npz", "--steps", "250", "--lanes", "1", "--noise", "0.1", "--level", "0.9"]
    code, out, _ = topstitch(*argv, "-o", "p.parquet", "--json")
    said = json.loads(out)
    assert code == 0
    log = ts.read_table(said["out"], **said["roles"])
    assert (said["steps"], log.steps, said["probabilities"]) == (250, 248, True)  # two episodes were cut
    whole = collection.collect(read_npz_policy(pendulum), "Pendulum-v1", steps=250, lanes=1, noise=0.1, level=0.9)
    np.testing.assert_array_equal(log.log_prob, whole.log_prob[~whole.truncated])
    np.testing.assert_array_equal(log.action, whole.action[~whole.truncated])
    assert "The policy is p.npz." in said["notes"] and "greedily with noise 0.1, at level 0.9" in said["notes"][1]
    assert topstitch("data", "info", "p.parquet", *PLAYED)[0] == 0
    code, out, _ = topstitch(*argv[:-4], "--greedy", "-o", "q.parquet")
    assert code == 0 and "also logged" not in out and "Log-probabilities are not known" in out
    assert "topstitch.read_table('q.parquet', episode='episode', obs='obs_*', action='action_*'" in out


def test_a_minari_data_set_by_a_run(topstitch, train, here, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(here / "minari"))
    assert train("bc", "choices.csv", "-o", "runs", "--seeds", "2")[0] == 0
    code, _, err = topstitch(*CART, "--policy", "runs", "--steps", "120", "--seed", "3", "-o", "cart/probe-v0")
    assert code == 0
    assert "note: runs holds 2 policies; the first acts" in err
    log = ts.read("cart/probe-v0")
    whole = collection.collect(load_policy("runs"), "CartPole-v1", steps=120, seed=3, lanes=2)
    for name, column in whole.columns().items():
        np.testing.assert_array_equal(log.columns()[name], column)
    stored = minari.load_dataset("cart/probe-v0")
    about = stored.storage.metadata["topstitch"]
    assert stored.env_spec.id == about["env"] == about["collection"]["env"] == "CartPole-v1" and about["policy"] == "runs"
    assert set(about["collection"]["versions"]) == {"topstitch", "jax", "numpy", "gymnasium", "backend"}
    assert [told["seed"] for told in stored.storage.get_episode_metadata([0, 1])] == [3, 4]
    assert sorted(path.name for path in (here / "minari" / "cart").iterdir()) == ["namespace_metadata.json", "probe-v0"]
    assert topstitch(*CART, "--policy", "runs/policy/1.safetensors", "--steps", "50", "-o", "folder")[0] == 0
    assert ts.read("folder").steps == 50


def test_parts_of_other_settings(topstitch, here, monkeypatch):
    argv = [*CART, "--policy", "random", "--steps", "300", "-o", "a.log.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr("topstitch.data.write.write", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            topstitch(*argv)
    kept = sorted((here / "a.log.safetensors.parts").glob("*.log.safetensors"))
    code, _, err = topstitch(*argv, "--seed", "1")
    assert code == 1 and "seed was 0, now it is 1" in err and "remove the folder" in err
    monkeypatch.setattr(collection, "play", None)  # nothing is played again
    assert len(kept) > 1 and topstitch(*argv)[0] == 0


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupted_from_the_keyboard(topstitch, here):
    argv = [*CART, "--policy", "random", "--steps", "100000000", "-o", "a.log.safetensors"]
    process = subprocess.Popen([sys.executable, "-m", "topstitch", *argv], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(here.glob("a.log.safetensors.parts/*.log.safetensors")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted. What was collected is kept: the same command goes on." in err and "Traceback" not in err
    assert not (here / "a.log.safetensors").exists()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--policy", "random", "--steps", "9", "-o", "a.log.safetensors", "--greedy"], 2, "no better action"),
        (["--policy", "random", "--steps", "9", "-o", "a.log.safetensors", "--level", "0.5"], 2, "no better action"),
        (["--policy", "p.npz", "--steps", "9", "-o", "a.log.safetensors", "--greedy", "--noise", "1"], 2, "not both"),
        (["--policy", "random", "-o", "a.log.safetensors"], 2, "--steps"),
        (["--policy", "random", "--steps", "0", "-o", "a.log.safetensors"], 1, "0 steps"),
        (["--policy", "random", "--steps", "9", "-o", "a.csv"], 1, "not as .csv"),
        (["--policy", "nobody", "--steps", "9", "-o", "a.log.safetensors"], 1, "There is no file nobody"),
        (["--policy", "nobody.npz", "--steps", "9", "-o", "a.log.safetensors"], 1, "There is no file nobody.npz"),
        (["--policy", "choices.csv", "--steps", "9", "-o", "a.log.safetensors"], 1, "cannot be read as a policy"),
        (["--policy", "p.npz", "--steps", "9", "-o", "a.log.safetensors"], 1, "observations are vectors of 4, but the policy knows"),
        (["--policy", "p.npz", "--steps", "9", "-o", "a.log.safetensors", "--level", "1.5"], 1, "the policy was learned for"),
    ],
)
def test_mistakes(topstitch, here, pendulum, argv, code, said):
    got, out, err = topstitch(*CART, *argv)
    assert got == code
    assert said in err or said in " ".join(out.split())
    assert not list(here.glob("a.*"))


def test_logs_joined(topstitch, here, pendulum):
    collect = lambda *argv: topstitch("collect", "--env", "Pendulum-v1", "--lanes", "1", "--steps", "210", *argv)[0]
    assert collect("--policy", "random", "-o", "a.log.safetensors") == 0
    assert collect("--policy", "p.npz", "--seed", "100", "-o", "b.parquet") == 0
    assert collect("--policy", "p.npz", "--seed", "200", "--greedy", "-o", "c.log.safetensors") == 0
    code, out, err = topstitch("data", "join", "a.log.safetensors", "b.parquet", "c.log.safetensors", "-o", "d.log.safetensors", *PLAYED)
    assert code == 0
    assert err == "note: log-probabilities are left out, since they are not known in b.parquet, c.log.safetensors.\n"
    both = ts.read("d.log.safetensors")
    assert (both.steps, both.ids.tolist(), both.log_prob) == (628, [0, 1, 100, 101, 200, 201], None)
    assert "Pendulum-v1, random + b.parquet + Pendulum-v1, p.npz" in out
    code, out, _ = topstitch("data", "join", "a.log.safetensors", "a.log.safetensors", "-o", "e.parquet", "--json")
    assert code == 0 and json.loads(out)["probabilities"]
    assert ts.read_table("e.parquet", **json.loads(out)["roles"]).lengths.tolist() == [199, 9, 199, 9]
    assert topstitch("data", "join", "a.log.safetensors", "a.log.safetensors", "-o", "e.parquet")[0] == 1
    code, _, err = topstitch("data", "join", "a.log.safetensors", "-o", "f.parquet")
    assert code == 2 and "Name the logs to be joined" in err
    assert topstitch(*CART, "--policy", "random", "--steps", "9", "-o", "g.log.safetensors")[0] == 0
    code, _, err = topstitch("data", "join", "a.log.safetensors", "g.log.safetensors", "-o", "f.parquet")
    assert code == 1 and "the same spaces" in err and not (here / "f.parquet").exists()
