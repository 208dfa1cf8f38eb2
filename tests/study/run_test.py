"""A whole study of a small log: what it writes, that it goes on where it was killed, and what stops it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import topstitch as ts
from topstitch.disk import BadFile
from topstitch.study.panel import Truth, group, usual
from topstitch.study.plan import Plan
from topstitch.study.run import study
from topstitch.study.schema import LINKS, STATES, VERSION, WORDS
from topstitch.worlds import table

PANEL = (group("bc", {"hidden": (4,), "steps": 16}, seeds=1), group("spibb", {"threshold": 320.0}, seeds=1))
PLAN = Plan(return_range=(0.0, 1.0))
BUT = ("seconds", "finished")


def known(ward):
    of = lambda policies: np.array([ward.mdp.performance(np.asarray(table(policy, ward.mdp)), 1.0) for policy in policies])
    return Truth(of, float(ward.mdp.performance(ward.practice, 1.0)))


@pytest.fixture(scope="module")
def done(gaining, tmp_path_factory):
    """(the folder, what it told, what the study said)."""
    out, said = tmp_path_factory.mktemp("study") / "study", []
    return out, study(gaining.log, out, plan=PLAN, panel=PANEL, truth=known(gaining), tell=said.append, progress=False), said


def test_every_part_is_there(done):
    out, told, said = done
    assert json.loads((out / "study.json").read_text()) == told and told["schema"] == VERSION
    assert [link["id"] for link in told["chain"]] == list(LINKS) and all(link["state"] in STATES for link in told["chain"])
    assert (
        told["verdict"]["word"] in WORDS and told["verdict"]["sentence"] and sum(step["decides"] for step in told["verdict"]["rule"]) == 1
    )
    assert told["checks"]["counts"]["critical"] == 0 and told["checks"]["passed"]
    assert sum(split["episodes"] for split in told["data"]["splits"]) == told["data"]["episodes"] == 3000
    ids = [run["id"] for run in told["policies"]["runs"]]
    assert ids == ["control", "bc-0", "spibb-0"] == [row["id"] for row in told["estimates"]["rows"]]
    assert [row["id"] for row in told["choice"]["rows"]] == ["spibb-0"] and told["verdict"]["chosen"] == "spibb-0"
    assert told["practice"]["recorded"] and told["practice"]["score"] <= told["practice"]["score_recorded"] + 0.01
    assert np.isclose(sum(told["coverage"]["support"]["policy"]), 1) and np.isclose(sum(told["coverage"]["support"]["practice"]), 1)
    assert told["verdict"]["exact"]["gain"] > 0 and "Judging by 900 other episodes" in said


def test_the_changes_are_those_of_the_policy(done, gaining):
    """SPIBB has learned that the last action is best, where it was logged often."""
    found = done[1]["changes"]
    last = found["actions"][2]
    assert last["policy"] > last["practice"] + 0.1 and np.isclose(sum(a["policy"] for a in found["actions"]), 1, atol=1e-5)
    assert {"as practice", "more 2"} <= set(found["tree"]["classes"]) and found["tree"]["folds"] == 5
    first = found["states"][0]
    assert (
        first["name"] == "state 4"
        and first["policy"]["action"] == "2"
        and first["policy"]["share"] > 0.99 > 0.4 > first["policy"]["before"]
    )
    assert found["same"] == pytest.approx(sum(s["same"] * s["visits"] for s in found["states"]) / gaining.log.steps, abs=0.05)


def test_the_chosen_policy_is_saved(done, gaining):
    policy = ts.load_policy(done[0])
    assert np.asarray(table(policy, gaining.mdp)).shape == (gaining.mdp.states, 3)


def test_a_page_can_be_made_of_it(done):
    from topstitch.report.study_page import study_page

    html = study_page(done[1])
    assert html.startswith("<!doctype html>") and done[1]["question"] in html


def test_a_finished_study_is_given_back(done, gaining):
    out, told, _ = done
    said = []
    assert study(gaining.log, out, plan=PLAN, panel=PANEL, tell=said.append) == told and "finished" in said[0]
    with pytest.raises(BadFile, match="started otherwise: plan"):
        study(gaining.log, out, plan=Plan(seed=1), panel=PANEL)
    with pytest.raises(BadFile, match="started otherwise: data"):
        study(gaining.log.take(np.arange(500)), out, plan=PLAN, panel=PANEL)


def test_a_folder_with_other_things_is_left_alone(tmp_path, gaining):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(BadFile, match="not a study"):
        study(gaining.log, tmp_path, plan=PLAN, panel=PANEL)


SCRIPT = """if True:
    import os, sys, threading
    import topstitch as ts
    from topstitch.study import run
    from topstitch.study.panel import group
    from topstitch.study.plan import Plan
    panel = (group("bc", {"hidden": (4,), "steps": 16}, seeds=1), group("spibb", {"threshold": 320.0}, seeds=1))
    run.study(ts.read(sys.argv[1]), sys.argv[2], plan=Plan(return_range=(0.0, 1.0)), panel=panel, progress=False)
"""


def test_a_killed_study_goes_on(done, gaining, tmp_path):
    """Killed behind its first group of runs; what it ends with is what it would have been."""
    from topstitch.data.formats.log import write_log

    write_log(tmp_path / "ward.log.safetensors", gaining.log)
    argv = [sys.executable, "-c", SCRIPT, str(tmp_path / "ward.log.safetensors"), str(tmp_path / "study")]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, env=os.environ)
    first = tmp_path / "study" / "runs" / "bc" / "finished.json"
    for _ in range(1200):
        if first.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists() and not (tmp_path / "study" / "study.json").exists()
    before = first.stat().st_mtime_ns
    log = ts.read(tmp_path / "ward.log.safetensors")
    told = study(log, tmp_path / "study", plan=PLAN, panel=PANEL, tell=lambda text: None, progress=False)
    assert first.stat().st_mtime_ns == before  # nothing was trained twice
    there = done[1]
    for part in ("choice", "changes", "coverage", "practice"):
        assert told[part] == there[part]
    assert [row["value"] for row in told["estimates"]["rows"]] == [row["value"] for row in there["estimates"]["rows"]]


def test_a_critical_finding_ends_it(gaining, tmp_path):
    import dataclasses

    twice = dataclasses.replace(gaining.log.take(np.tile(np.arange(200), 2)), ids=np.tile(np.arange(200), 2))
    told = study(twice, tmp_path / "study", plan=PLAN, panel=PANEL, tell=lambda text: None)
    assert told["checks"]["stopped"] and (told["verdict"]["word"], told["verdict"]["reasons"][0]["code"]) == ("cannot tell", "critical")
    assert not (tmp_path / "study" / "runs").exists() and told["policies"] is None
    assert [link["state"] for link in told["chain"]][1] == "critical"


def test_the_usual_panel_has_imitation_and_a_safe_default(gaining):
    names = [one.name for one in usual(gaining.log, seeds=2, updates=10, discount=1.0)]
    assert names == ["bc", "iql", "discrete_bcq", "spibb"]
    panel = {one.name: one for one in usual(gaining.log, seeds=2, updates=10, discount=1.0)}
    assert panel["bc"].role == "copy" and len(panel["iql"].runs) == 4 and len(panel["spibb"].runs) == 4
    assert panel["iql"].names()[:2] == ["Implicit Q, gentle, seed 0", "Implicit Q, gentle, seed 1"]
