"""topstitch bench."""

import json

import pytest

SMALL = ["--seeds", "2", "--steps", "4", "--every", "2"]


@pytest.fixture(autouse=True)
def folders(here, monkeypatch):
    monkeypatch.setenv("TOPSTITCH_CACHE", str(here / "cache"))
    monkeypatch.delenv("TOPSTITCH_SOURCES", raising=False)


def test_the_list(topstitch):
    code, out, _ = topstitch("bench", "--list")
    assert code == 0 and out.splitlines()[0].split() == ["task", "score", "log"]
    assert "hopper-medium-expert" in out and "d4rl:hopper-medium-v2" in out and max(map(len, out.splitlines())) <= 80
    names = [task["name"] for task in json.loads(topstitch("bench", "--list", "--json")[1])]
    assert {"icu-sepsis", "cartpole-random", "halfcheetah-replay-mixture", "scene-play", "door-human"} <= set(names)


def test_a_grid_its_table_its_pictures_and_once_more(topstitch, here):
    argv = ["bench", "icu-sepsis@2000", "cartpole-replay", "--algorithms", "BC,dqn", *SMALL, "-o", "grid"]
    code, out, err = topstitch(*argv, "--json")
    assert code == 1  # cartpole-replay has no source
    said = json.loads(out)
    assert [(row["task"], row["algorithm"], "failed" in row) for row in said["cells"]] == [
        ("icu-sepsis@2000", "bc", False), ("icu-sepsis@2000", "dqn", False), ("cartpole-replay", "bc", True), ("cartpole-replay", "dqn", True),
    ]  # fmt: skip
    assert said["aggregate"] == [] and said["pictures"] == ["grid/icu-sepsis@2000/curves.png"]
    assert (here / "grid/icu-sepsis@2000/curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "2/4  icu-sepsis@2000  dqn" in err and "--sources" in err
    code, out, err = topstitch(*argv)
    assert code == 1 and "learn" not in err  # nothing was trained again
    assert "icu-sepsis@2000: survival %; the log's mean is" in out and "cartpole-replay bc failed: This task needs d3rlpy_h5" in out
    assert out.splitlines()[1].split()[:2] == ["algorithm", "last"] and max(map(len, out.splitlines())) <= 80
    code, _, err = topstitch("bench", "icu-sepsis@2000", "--algorithms", "bc", *SMALL[:4], "--every", "4", "-o", "grid")
    assert code == 1 and "holds a result for every = 2; now it is 4. Choose another folder." in err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "Name a task"),
        (["hoper-medium"], "Did you mean hopper-medium"),
        (["icu-sepsis", "--algorithms", "td3bc"], "td3bc is not defined for the actions of icu-sepsis"),
        (["icu-sepsis", "--algorithms", "bcc"], "There is no algorithm 'bcc'"),
        (["icu-sepsis", "--size", "much"], "a size is a number of steps"),
        (["icu-sepsis", "--seeds", "0"], "count from 1"),
        (["d4rl:hopper-mediocre-v2"], "no data set of D4RL"),
    ],
)
def test_what_cannot_be_meant(topstitch, argv, said):
    code, _, err = topstitch("bench", *argv)
    assert code == 2 and said in err
