"""Named tasks and the grid over them: what is interrupted goes on to the same numbers, what fails is said, tables are right."""

import dataclasses
import functools
import http.server
import importlib.util
import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from topstitch.bench import runner, tasks
from topstitch.bench.runner import Asked, aggregate, attempt, in_raw_rewards, run, run_cell, table, worth
from topstitch.bench.tasks import Missing, Place, Task, cached, d4rl_url, download, find
from topstitch.core import Box, Discrete
from topstitch.data import Episodes

SAME = ("last", "best", "curve", "believes", "worth", "data", "settings")


def log_of(place, size) -> Episodes:
    rng, n = np.random.default_rng(0), 200
    obs = rng.normal(size=(n + 1, 4))
    ends = np.arange(n) % 20 == 19
    return Episodes.of(obs[:-1], rng.integers(2, size=n), np.ones(n), ends & (rng.random(n) < 0.5), ends=ends, next_obs=obs[1:], actions=2)


TINY = Task("tiny", "a log of chance", "cartpole", Discrete(2), log_of, env="CartPole-v1", steps=60, episodes=2)
ASKED = Asked(seeds=2, every=20, fields={"hidden": (8,), "batch_size": 8})


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "cache", None)


@pytest.fixture
def cell(place):
    return functools.partial(run_cell, TINY, "dqn", ASKED, place=place, progress=False)


# cells ---------------------------------------------------------------------------------------------------------------------


def test_a_cell_is_trained_scored_and_written_down(cell, tmp_path, monkeypatch):
    result = cell(out=tmp_path / "out")
    assert json.loads((tmp_path / "out/tiny/dqn/result.json").read_text()) == result
    assert [point["step"] for point in result["curve"]] == [20, 40, 60]
    assert result["last"] == result["curve"][-1]["scores"] and len(result["last"]) == 2
    assert result["best"] == np.max([point["scores"] for point in result["curve"]], axis=0).tolist()
    assert all(1 <= length <= 500 for length in result["last"]) and all(0 < w <= 100 for w in result["worth"])
    assert result["believes"] == result["curve"][-1]["believes"] and all(map(np.isfinite, result["believes"]))
    assert result["data"]["steps"] == 200 and result["data"]["score"] == 20 and result["faults"] == [None, None]
    assert result["settings"]["double"] is True and result["settings"]["hidden"] == [8] and "ours" in result["source"]
    assert result["published"] == [] and result["updates_per_s"] > 0 and "jax" in result["versions"]
    monkeypatch.setattr(runner, "train", None)  # a finished cell is not run again
    assert cell(out=tmp_path / "out") == result
    with pytest.raises(ValueError, match=r"holds a result for seeds = \[0, 1\]; now it is \[0, 1, 2\]"):
        run_cell(TINY, "dqn", dataclasses.replace(ASKED, seeds=3), place=Place(tmp_path, None), out=tmp_path / "out")


@pytest.mark.parametrize("at", [40, 60])
def test_what_was_interrupted_goes_on_to_the_same_numbers(cell, tmp_path, monkeypatch, at):
    """Between a checkpoint and the evaluation that belongs to it: neither is lost."""
    whole, listen = cell(out=tmp_path / "whole"), runner.Clock.__call__

    def stop(self, now, metrics):
        if now.step == at:
            raise KeyboardInterrupt
        listen(self, now, metrics)

    monkeypatch.setattr(runner.Clock, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        cell(out=tmp_path / "out")
    assert f"0-{at:010d}.safetensors" in os.listdir(tmp_path / "out/tiny/dqn/runs/checkpoints")
    monkeypatch.undo()
    again = cell(out=tmp_path / "out")
    assert {name: again[name] for name in SAME} == {name: whole[name] for name in SAME}


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(place, tmp_path):
    def gone(place, size):
        raise Missing("there is no log")

    broken = dataclasses.replace(TINY, name="broken", log=gone)
    heard = []
    results = run([(broken, "bc", ASKED), (TINY, "bc", ASKED)], place=place, out=tmp_path, progress=False, tell=heard.append)
    assert results[0] == {"task": "broken", "algorithm": "bc", "failed": "there is no log"}
    assert json.loads((tmp_path / "broken/bc/failed.json").read_text()) == results[0]
    assert "last" in results[1] and "failed: there is no log" in heard
    mended = dataclasses.replace(TINY, name="broken")
    assert "last" in attempt(mended, "bc", ASKED, place=place, out=tmp_path, progress=False)
    assert not (tmp_path / "broken/bc/failed.json").exists()


def test_a_run_that_diverges_is_a_result(place, tmp_path):
    asked = dataclasses.replace(ASKED, fields=ASKED.fields | {"lr": 1e30})
    result = run_cell(TINY, "dqn", asked, place=place, out=tmp_path, progress=False)
    assert all("stopped being a finite number" in fault for fault in result["faults"]) and len(result["curve"]) == 3
    assert table([result])[0]["diverged"] == 2


def test_survival_is_exact(place, tmp_path):
    task = find("icu-sepsis@2000")
    result = run_cell(task, "bc", Asked(seeds=2, steps=4, every=2), place=place, out=tmp_path, progress=False)
    assert result["unit"] == "survival %" and all(70 < score < 88 for score in result["last"]) and result["data"]["steps"] == 2000
    assert [point["step"] for point in result["curve"]] == [2, 4] and result["believes"] is None and result["worth"] is None


def test_chunks_divide_the_time_between_evaluations():
    assert runner.chunks(20) == (20, 20) and runner.chunks(5000) == (1000, 5000) and runner.chunks(2500) == (833, 2499)


# numbers -------------------------------------------------------------------------------------------------------------------


def test_worth_by_hand():
    assert worth([np.array([1.0, 1.0, 1.0])], [True], 0.5) == pytest.approx((1.75 + 1.5 + 1) / 3)
    assert worth([np.array([1.0, 1.0, 1.0, 1.0])], [False], 0.5) == pytest.approx((1.875 + 1.75) / 2)  # the rest does not show its future
    assert worth([np.ones(2), np.array([4.0])], [True, True], 1.0) == pytest.approx((2 + 1 + 4) / 3)


def test_beliefs_are_told_in_raw_rewards():
    log = log_of(None, None)
    log = dataclasses.replace(log, reward=np.arange(200, dtype=np.float32))
    assert in_raw_rewards([1.0, None], log, 0.9) == [1.0, None]
    seen = log.normalised(reward="standard")
    raw = 7.0 / (1 - 0.9)  # a reward of 7 for ever
    unit = (7.0 - float(seen.view.reward.shift)) / float(seen.view.reward.scale) / (1 - 0.9)
    assert in_raw_rewards([unit], seen, 0.9) == [pytest.approx(raw, rel=1e-4)]
    assert in_raw_rewards([unit], seen, 1.0) is None


def result_of(task, algorithm, last, unit="D4RL-normalised", **more) -> dict:
    """What a finished cell looks like."""
    curve = [{"step": step, "scores": [x * step / 20 for x in last], "believes": more.get("believes")} for step in (10, 20)]
    return {"task": task, "algorithm": algorithm, "about": "made up", "unit": unit, "last": last, "best": last, "curve": curve, "believes": None,
            "worth": None, "published": [], "steps": 20, "seeds": list(range(len(last))), "faults": [None] * len(last), "why": "",
            "updates_per_s": 100.0, "versions": {"topstitch": "0"}, "device": "a machine",
            "data": {"score": 30.0, "worth": 25.0, "episodes": 10, "steps": 100}} | more  # fmt: skip


def test_the_table_by_hand():
    beside = [{"mean": 50.0, "source": "a paper"}]
    rows = table([
        result_of("a", "iql", [1.0, 2.0, 3.0], best=[2.0, 2.0, 5.0], believes=[1.0, None, 3.0], worth=[4.0, 5.0, 6.0], published=beside),
        result_of("a", "bc", [7.0]), {"task": "b", "algorithm": "bc", "failed": "no"},
    ])  # fmt: skip
    half = 4.302652729911275 / np.sqrt(3)  # Student's t with two degrees of freedom, std 1
    assert rows[0]["mean"] == 2 and rows[0]["low"] == pytest.approx(2 - half) and rows[0]["high"] == pytest.approx(2 + half)
    assert rows[0]["best"] == 3 and rows[0]["believes"] == 2 and rows[0]["worth"] == 5 and rows[0]["published"] == beside
    assert rows[1]["mean"] == 7 and rows[1]["low"] is None and rows[2] == {"task": "b", "algorithm": "bc", "failed": "no"}


def test_the_aggregate_by_hand():
    results = [result_of("a", "iql", [0.0, 10.0]), result_of("b", "iql", [20.0, 100.0]), result_of("b", "bc", [5.0, 5.0]),
               result_of("c", "iql", [400.0, 500.0], unit="return")]  # fmt: skip
    iql, bc = aggregate(results)
    assert (iql["iqm"], iql["tasks"], iql["of"]) == (15.0, 2, 2)  # the middle half of 0, 10, 20, 100; returns are of another scale
    assert (bc["iqm"], bc["low"], bc["high"], bc["tasks"], bc["of"]) == (5.0, 5.0, 5.0, 1, 2)
    assert iql["low"] < 15 < iql["high"]


# the table of tasks --------------------------------------------------------------------------------------------------------


def test_every_task_has_settings_and_algorithms():
    from topstitch.bench.settings import setting

    for name, task in tasks.TASKS.items():
        assert name == task.name and (task.env is None) != (task.value is None) and task.published is None
        assert {"bc", "iql"} <= set(runner.fitting(task))
        setting(task.family, name, "bc")
    assert {"dqn"} <= set(runner.fitting(tasks.TASKS["cartpole-random"])) and "dqn" not in runner.fitting(tasks.TASKS["hopper-medium"])


def test_names_of_tasks():
    assert find("hopper-medium@5000").size == 5000 and find("hopper-medium@full").size == "full"
    assert find("hopper-medium@5000").like == "hopper-medium" and find("hopper-medium@5000").name == "hopper-medium@5000"
    original = find("d4rl:hopper-medium-v2")
    assert (original.env, original.published, original.like, original.family) == (
        "Hopper-v5",
        "hopper-medium-v2",
        "hopper-medium-v2",
        "locomotion",
    )
    assert find("d4rl:hopper-medium-v2@1000").published is None  # a part of it is not what the numbers are of
    assert runner.published(original, "td3bc")[0]["mean"] > 40 and runner.published(find("hopper-medium"), "td3bc") == []
    minari = find("minari:D4RL/door/human-v2")
    assert (minari.env, minari.published, minari.actions) == ("gymnasium_robotics:AdroitHandDoor-v1", None, Box(28))
    with pytest.raises(ValueError, match="Did you mean hopper-medium"):
        find("hoper-medium")
    for wrong in ("hopper-medium@0", "hopper-medium@many", "d4rl:hopper-mediocre-v2", "d4rl:kitchen-mixed-v0", "minari:atari/breakout-v0"):
        with pytest.raises(ValueError, match=r"size|known|Known"):
            find(wrong)


def test_scores_in_the_units_of_tasks():
    assert find("hopper-medium").scores([[3234.3, 3234.3], [-20.272305, -20.272305]]) == pytest.approx([100, 0])
    assert find("icu-sepsis").scores([[0.5], [0.75]]).tolist() == [50, 75]
    assert find("pointmaze-medium-stitch").scores([[-3.0, -5.0]], [[True, False]]).tolist() == [50]
    with pytest.raises(ValueError, match="does not report any"):
        find("pointmaze-medium-stitch").scores([[-3.0, -5.0]], None)


def test_where_d4rl_keeps_its_files():
    base = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
    assert d4rl_url("hopper-medium-expert-v2") == f"{base}/gym_mujoco_v2/hopper_medium_expert-v2.hdf5"
    assert d4rl_url("walker2d-full-replay-v1") == f"{base}/gym_mujoco_v1/walker2d_full_replay-v1.hdf5"
    assert d4rl_url("halfcheetah-medium-replay-v0") == f"{base}/gym_mujoco/halfcheetah_mixed.hdf5"
    assert d4rl_url("door-human-v1") == f"{base}/hand_dapg_v1/door-human-v1.hdf5"


def test_a_missing_source_is_named_with_what_to_do(tmp_path):
    with pytest.raises(Missing, match=r"needs d3rlpy_h5/cartpole_v1.1.0.h5, and no folder of sources is named"):
        find("cartpole-replay").read(Place(tmp_path, None))
    with pytest.raises(Missing, match=r"policies/sb3_sac_Hopper-v3.npz, which is not there.*topstitch train sac --env Hopper-v5"):
        find("hopper-medium").read(Place(tmp_path, tmp_path))
    with pytest.raises(Missing, match="minari download"):
        find("door-human").read(Place(tmp_path, tmp_path))


def test_a_recipe_is_made_once_and_again_if_it_is_damaged(place):
    made = []

    def make(folder):
        made.append(folder)
        return log_of(None, None)

    first = cached(place, "tiny", {"steps": 200}, make)
    (path,) = (place.cache / "logs").glob("tiny-*.log.safetensors")
    assert cached(place, "tiny", {"steps": 200}, make).fingerprint() == first.fingerprint() and len(made) == 1
    cached(place, "tiny", {"steps": 300}, make)
    assert len(made) == 2 and made[0] != made[1]
    path.write_bytes(path.read_bytes()[:-9])
    assert cached(place, "tiny", {"steps": 200}, make).fingerprint() == first.fingerprint() and len(made) == 3


# download ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """Files of 3 MB by their names; `cut.hdf5` is announced whole, and ends early."""

    class Files(http.server.BaseHTTPRequestHandler):
        asked: list[str] = []

        def do_GET(self):
            self.asked.append(self.path)
            body = b"x" * 3_000_000
            self.send_response(404 if "gone" in self.path else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:1_500_000] if "cut" in self.path else body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", Files.asked
        serving.shutdown()
        thread.join()


def test_a_download_is_whole_or_not_there(server, tmp_path):
    url, asked = server
    heard: list = []
    path = download(f"{url}/whole.hdf5", tmp_path / "d4rl/whole.hdf5", lambda *said: heard.append(said))
    assert path.stat().st_size == 3_000_000 and heard[0] == ("whole.hdf5", 1 << 20, 3_000_000) and heard[-1][1] == 3_000_000
    download(f"{url}/whole.hdf5", path)
    assert asked == ["/whole.hdf5"]  # kept, not fetched again
    for name, said in (("cut", "1,500,000 of 3,000,000 bytes came|1500000 bytes read"), ("gone", "404")):
        with pytest.raises(OSError, match=f"could not be downloaded.*({said}).*save it as"):
            download(f"{url}/{name}.hdf5", tmp_path / "d4rl" / f"{name}.hdf5")
    assert os.listdir(tmp_path / "d4rl") == ["whole.hdf5"]
    with pytest.raises(OSError, match="could not be downloaded"):
        download("http://127.0.0.1:9/nobody.hdf5", tmp_path / "nobody.hdf5")


# the page ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learning():
    path = Path(__file__).parents[1] / "benchmarks/learning.py"
    spec = importlib.util.spec_from_file_location("learning", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["learning"] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_of_stored_results_alone(learning, tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "RESULTS", tmp_path / "results")
    task = "hopper-medium-expert"
    learning.keep(result_of(task, "bc", [40.0, 41.0, 42.0]))
    learning.keep(result_of(task, "td3", [3.0, 4.0, 5.0], believes=[9e5, 9e5, 9e5], worth=[30.0, 31.0, 32.0]))
    learning.keep(result_of(task, "iql", [90.0, 91.0, 92.0], believes=[30.0] * 3, worth=[31.0] * 3, why="fewer updates"))
    learning.keep(result_of(task, "cql", [10.0, 11.0, 12.0], believes=[300.0] * 3, worth=[100.0] * 3, faults=["Q broke", None, None]))
    learning.write_page(tmp_path / "results", tmp_path / "docs/results.md")
    text = (tmp_path / "docs/results.md").read_text()
    assert text == learning.page(learning.load(tmp_path / "results"))
    assert "Of 4 statements, 2 hold as expected, 2 go against expectation, 0 are undecided." in text
    assert "`td3` on hopper-medium-expert: scores 4.00 where `bc` has 41.0, believes 900,000 and is worth 31.0: as expected." in text
    assert "`iql` on hopper-medium-expert: 91.0 beats `bc`, 41.0: as expected." in text
    assert "`cql` on hopper-medium-expert: 11.0 is below `bc`, 41.0: **against expectation**." in text
    assert "believes 300.0, is worth 100.0 (the log earned 25.0): **against expectation**." in text
    assert "| `bc` | 41.0 [38.5 to 43.5] | 41.0 | – | – | 20 | 3 | 100 |" in text
    assert "- `iql`: fewer updates." in text and "- `cql`: 1 of 3 diverged." in text and "published |" not in text
    assert "| `iql` | 91.0 | " in text and "Made on a machine." in text
    picture = tmp_path / "docs/pictures/results-hopper-medium-expert.png"
    assert picture.read_bytes()[:4] == b"\x89PNG" and "(pictures/results-hopper-medium-expert.png)" in text


def test_more_data_is_judged_over_sizes(learning):
    rows = [{"task": f"hopper-medium@{n}", "algorithm": a, "mean": m, "low": None, "high": None, "believes": 1e4, "worth": 50.0, "log_worth": 60.0,
             "log_steps": n, "diverged": 0, "seeds": 3} for n in (10_000, 200_000) for a, m in (("td3", 2.0), ("bc", 40.0))]  # fmt: skip
    (finding,) = learning.more(rows)
    assert finding.expected and "2.00 (believes 10,000) with 10,000 steps, 2.00 (believes 10,000) with 200,000 steps" in finding.text


# Ray -----------------------------------------------------------------------------------------------------------------------


def test_a_cluster_whose_worker_is_killed_completes_the_table(tmp_path):
    """Two workers; one is killed in the middle of its cell, which goes on where it was and ends at the numbers of an undisturbed one."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'topstitch[ray]'")
    from topstitch.bench import engine

    steps = tmp_path / "steps"

    def value(policies):
        steps.parent.mkdir(exist_ok=True)
        with open(steps, "a") as file:
            file.write(f"{os.getpid()}\n")
        if (tmp_path / "armed").exists() and len(steps.read_text().split()) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.array([float(policy(np.ones(4, np.float32)).log_prob(np.asarray(0))) for policy in policies])

    exact = dataclasses.replace(TINY, env=None, value=value)
    cells, place = [(exact, "bc", ASKED), (dataclasses.replace(TINY, name="other"), "bc", ASKED)], Place(tmp_path / "cache", None)
    whole = [attempt(*one, place=place, out=tmp_path / "here", progress=False) for one in cells]
    assert "failed" not in str(whole), whole
    steps.unlink()
    (tmp_path / "armed").touch()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    engine.start(num_cpus=2)
    try:
        results = engine.run(cells, place=place, out=tmp_path / "there")
    finally:
        ray.shutdown()
    assert "failed" not in str(results), results
    assert len(set(steps.read_text().split())) == 2  # the first worker, and the one that went on
    assert [{name: result[name] for name in SAME} for result in results] == [{name: result[name] for name in SAME} for result in whole]
