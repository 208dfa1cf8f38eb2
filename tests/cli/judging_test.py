"""topstitch ope and topstitch select."""

import contextlib
import json

import numpy as np
import polars as pl
import pytest

from topstitch.bench import pictures
from topstitch.cli import select
from topstitch.data import Episodes
from topstitch.data.formats.log import write_log
from topstitch.data.read import read
from topstitch.ope import FQE

ROLES = ["--episode", "stay", "--time", "hour", "--obs", "obs_*", "--action", "dose", "--reward", "reward", "--terminal", "died"]
QUICK = ["--steps", "20"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Nets that compile and learn in a moment."""
    settled = FQE.settled
    monkeypatch.setattr(FQE, "settled", lambda log, discount, **how: settled(log, discount, hidden=(8,), critics=2, lr=0.02, **how))


@pytest.fixture
def judged(train, here):
    """Two runs of imitation, and known.csv: 100 episodes of 3 steps under a fair coin that is paid for."""
    assert train("bc", "choices.csv", "-o", "runs", "--seeds", "2")[0] == 0
    rng = np.random.default_rng(1)
    rows = []
    for i in range(300):
        seen, dose = ",".join(f"{x:.3f}" for x in rng.normal(size=4)), rng.integers(2)
        rows.append(f"{i // 3},{i % 3},{seen},{dose},{dose + rng.normal() / 10:.3f},{int(i % 3 == 2)},0.5")
    (here / "known.csv").write_text("\n".join(["stay,hour,obs_a,obs_b,obs_c,obs_d,dose,reward,died,p", *rows]) + "\n")
    return ["runs", "--data", "known.csv", *ROLES, "--probability", "p", "--discount", "0.9", *QUICK]


def test_estimates_are_printed_drawn_and_kept(topstitch, judged, here):
    code, out, err = topstitch("ope", *judged[:-1], "3", "--estimators", "is,wis,wdr,fqe", "--json")
    found = json.loads(out)
    assert code == 0 and "estimates.png" in err
    assert "fitted Q evaluation, fold 2 of 2: bc seed 1 3/3" in err
    assert json.loads((here / "runs/estimates.json").read_text()) == found
    assert (here / "runs/estimates.png").read_bytes()[:4] == b"\x89PNG"
    rows = {(row["policy"], row["name"]): row for row in found["estimates"]}
    assert len(rows) == 8 and all((row["refused"] is None) == (name != "fqe") for (_, name), row in rows.items())
    assert "have not settled" in rows["bc seed 0", "fqe"]["refused"]  # after three updates
    # a policy near a fair coin earns about half of 1 + 0.9 + 0.81
    assert all(abs(rows[policy, "wis"]["value"] - 1.36) < 0.4 for policy in ("bc seed 0", "bc seed 1"))
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows.values() if not row["refused"])


def test_a_copy_of_practice_gains_nothing(topstitch, judged, here):
    head, *rows = (here / "known.csv").read_text().splitlines()
    for name, half in (("known.csv", rows[150:]), ("learned.csv", rows[:150])):
        (here / name).write_text("\n".join([head, *half]) + "\n")
    code, out, _ = topstitch("ope", *judged, "--estimators", "wis", "--control", "learned.csv", "--json")
    found = json.loads(out)
    (copy,) = (row for row in found["estimates"] if row["policy"] == "copy of practice")
    assert code == 0 and copy["low"] <= found["logged"]["value"] <= copy["high"]


def test_what_is_refused_has_no_place_on_the_axis(tmp_path, monkeypatch):
    """Of the picture: strips and words, but no point; an interval that would squeeze the others ends in an arrow at the edge."""
    said = lambda name, value, low, high, refused=None: dict(policy="iql", name=name, value=value, low=low, high=high, refused=refused)
    rows = [said("fqe", 2.0, 1.8, 2.2), said("wis", None, None, None, "no"), said("wdr", 1.0, 0.9, 1.1), said("is", 1.5, -90.0, 3.0)]
    seen, panels = [], pictures.panels

    @contextlib.contextmanager
    def watched(*how):
        with panels(*how) as (figure, axes):
            seen.append(axes)
            yield figure, axes

    monkeypatch.setattr(pictures, "panels", watched)
    logged = dict(value=0.8, low=0.7, high=0.9)
    pictures.forest(tmp_path / "a.png", dict(estimates=rows, logged=logged, confidence=0.95, discount=0.99))
    places = [label.get_text() for label in seen[0].get_yticklabels()]
    assert places == ["iql", "fqe", "wis", "wdr", "is"]
    marks = {(places[int(line.get_ydata()[0])], line.get_marker()) for line in seen[0].lines if len(line.get_ydata()) == 1}
    assert marks == {("fqe", "o"), ("wdr", "o"), ("is", "o"), ("is", "<")}
    assert {text.get_text(): text.get_position()[0] > 1 for text in seen[0].texts}["refused"]
    assert -3 < seen[0].get_xlim()[0] < 0


def test_episodes_to_judge_by_are_none_to_learn_from(topstitch, judged, here):
    split = ["data", "split", "known.csv", *ROLES, "--probability", "p", "--share", "0.25", "-o"]
    code, out, _ = topstitch(*split, "learn.log.safetensors", "held.parquet", "--json")
    found = json.loads(out)
    assert code == 0 and [part["episodes"] for part in found] == [75, 25]
    learn, held = read("learn.log.safetensors"), read("held.parquet", **found[1]["roles"])
    assert {*learn.ids.tolist(), *held.ids.tolist()} == {*range(100)} and held.log_prob is not None
    code, _, err = topstitch(*split, "again.log.safetensors", "held.parquet")
    assert code == 1 and "is there already" in err and not (here / "again.log.safetensors").exists()


def test_all_estimators_answer_or_say_why(topstitch, judged):
    code, out, _ = topstitch("ope", *judged, "--estimators", "all", "--behaviour", "fit")
    assert code == 0
    assert all(f"  {name} " in out for name in ("is", "pdis", "clipped", "lstdq", "mrdr", "mwl"))


def test_too_little_is_refused_in_words(topstitch, judged):
    code, out, err = topstitch("ope", "runs", "--data", "choices.csv", *ROLES, "--discount", "0.9", "--estimators", "wis")
    assert code == 0 and "refused" in out and "effective sample" in out
    assert "fitting the logger to 55 steps" in err and "The logger, estimated by" in err and "fitted Q" not in err


def test_no_logger_is_fitted_for_a_policy_that_cannot_be_weighed(train, topstitch):
    assert train("bc", "doses.csv", "-o", "certain", "--head", "deterministic")[0] == 0
    code, out, err = topstitch("ope", "certain", "--data", "doses.csv", *ROLES, "--discount", "0.9", "--estimators", "wis,lstdq")
    assert code == 0 and "has no density" in out and "fitting the logger" not in err


def test_what_cannot_be_meant(topstitch, judged):
    assert topstitch("ope", "--data", "known.csv")[0] == 2
    code, _, err = topstitch("ope", "runs", "--data", "known.csv", *ROLES)
    assert code == 2 and "--discount" in err  # imitation has none
    code, _, err = topstitch("ope", *judged, "--estimators", "magik")
    assert code == 1 and "magik" in err
    code, _, err = topstitch("select", *judged, "--by", "luck")
    assert code == 2 and "bvft" in err


def test_selection_ranks(topstitch, judged, here, capsys):
    code, out, err = topstitch("select", *judged[:-1], "200", "--json", "-o", "ranks.json")
    found = json.loads(out)
    assert "fitted Q evaluation, fold 2 of 2: bc seed 1 200/200" in err
    assert code == 0 and json.loads((here / "ranks.json").read_text()) == found
    scores = [row["wdr"] for row in found["policies"]]
    assert scores == sorted(scores, reverse=True) and all(row["lower"] < row["wdr"] for row in found["policies"])
    assert all(row[name] is not None for row in found["policies"] for name in ("fqe", "mwl", "td", "bvft"))
    assert found["by"] == "wdr"
    said = [dict(fqe=-1, wdr=None), dict(fqe=2, wdr=3), dict(fqe=None, wdr=None), dict(fqe=3, wdr=None), dict(fqe=0, wdr=4)]
    assert [row["fqe"] for row in select.ranked(said, "wdr")] == [0, 2, 3, -1, None]  # answers first, then what values say
    select.show(found)
    assert capsys.readouterr().out.splitlines()[0].split()[:4] == ["policy", "fqe", "wdr", "↓"]


def test_a_table_in_parts_says_what_it_says_as_a_whole(topstitch, judged, here):
    pl.read_csv(here / "known.csv").write_parquet(here / "known.parquet")
    judged[judged.index("known.csv")] = "known.parquet"
    names = ["--estimators", "is,wis,pdis,wpdis,clipped", "--json"]
    parts, whole = (json.loads(topstitch("ope", *judged, *names, *more)[1]) for more in (["--stream"], []))
    assert [row["value"] for row in parts["estimates"]] == pytest.approx([row["value"] for row in whole["estimates"]], rel=1e-9)
    code, out, _ = topstitch("ope", *judged, "--estimators", "all", "--stream")
    assert code == 0 and "wpdis" in out and "refused" not in out
    alone = pl.read_csv(here / "known.csv").with_columns(stay=pl.int_range(pl.len()), hour=0, died=1)
    alone.write_parquet(here / "known.parquet")  # of decisions of one step too, nothing that needs values is asked for
    code, out, _ = topstitch("ope", *judged, "--estimators", "all", "--stream")
    assert code == 0 and "ips" in out and "refused" not in out
    code, _, err = topstitch("ope", *judged, "--stream", "--behaviour", "fit")
    assert code == 2 and "fitted to whole logs" in err


def test_several_loggers_of_one_step(topstitch, judged, here):
    rng = np.random.default_rng(0)
    logger, obs = rng.integers(2, size=400), rng.normal(size=(400, 4))
    often = np.where(logger, 0.7, 0.4)
    dose = (rng.random(400) < often).astype(int)
    log = Episodes.of(obs, dose, dose + rng.normal(size=400), np.ones(400, bool), actions=2, source="two wards",
                      probability=np.where(dose, often, 1 - often), info={"logger": np.array(["ward a", "ward b"])[logger]})  # fmt: skip
    write_log(here / "two.log.safetensors", log)
    asked = ["runs", "--data", "two.log.safetensors", "--discount", "1"]
    code, out, _ = topstitch("ope", *asked, "--estimators", "all")
    assert code == 0 and "  loggers " in out and "refused" not in out
    code, out, err = topstitch("select", *asked, "--json")
    found = json.loads(out)
    assert code == 0 and "fitted Q" not in err and "by ridge regression" in found["remarks"][0]
    for row in found["policies"]:  # a near copy of two wards that give the dose in 0.7 and 0.4 of all cases, and are paid for it
        assert row["td"] is None and abs(row["fqe"] - 0.55) < 0.25 and row["lower"] < row["wdr"]
