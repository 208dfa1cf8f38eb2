"""Every sentence about a log, at both sides of its threshold."""

import copy
import json
import math

import pytest

from topstitch.report import conclusions as c
from topstitch.report.conclusions import READ, Nouns, answer, conclusions

WAY = {"effective": [[900.0, 800.0]] * 4 + [[400.0, 50.0]], "furthest": {"10": 0.9, "100": 0.4}, "mean": 1.0, "error": 0.01}
LOG = {
    "episodes": {
        "count": 1000, "steps": 4000, "truncated": 0, "unit": "share",
        "returns": {"mean": 0.8, "sd": 0.4, "low": 0.0, "high": 1.0},
    },
    "actions": {"kind": "choice"},
    "practice": {
        "recorded": False, "refused": None, "score": -1.0, "score_blind": -1.5, "sure": 0.2,
        "calibration": {"predicted": [0.01, 0.5], "observed": [0.01, 0.5], "error": 0.01},
    },
    "reach": {"episodes": 1000, "steps": [1, 4], "toward": {"random": WAY, "usual": WAY}},
    "coverage": {"exact": True, "levels": [0, 1, 2, 5, 10, 20, 50], "decisions": [0.0, 0.01, 0.04, 0.05, 0.1, 0.3, 0.5]},
    "stitching": {
        "exact": True, "practice": 0.8, "chosen": 10, "logged": {"mean": 0.8, "best_tenth": 1.0, "worst_tenth": 0.0},
        "imitation": {"held_out": [0.01, 0.01]},
        "thresholds": [{"least": 1, "believed": 0.2, "held_out": [0, 0]}, {"least": 10, "believed": 0.1, "held_out": [0.08, 0.06]}],
    },
}  # fmt: skip
BOX = {"actions/kind": "vectors", "practice/calibration": {"predicted": [0.5], "observed": [0.5], "error": 0.01}, "practice/sure": None, "practice/spread": [0.2, 0.4]}  # fmt: skip
RECORDED = {"practice/recorded": True, "practice/inverse": {"mean": 0.9, "error": 0.001}}


def changed(**paths) -> dict:
    """LOG with other numbers at some paths; None removes one."""
    made = json.loads(json.dumps(LOG))
    for path, value in paths.items():
        *way, last = path.split("/")
        place = made
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return made


def one(numbers: dict, code: str):
    return {each.code: each for each in conclusions(numbers)}.get(code)


BOTH = [  # code, path, a value that passes, one that does not, what is said of each, other changes
    ("mean", "episodes/count", 30, 29, "30 episodes", "29 episodes, fewer than 30", {}),
    ("spread", "episodes/returns", {"mean": 0.5, "sd": 0.1, "low": 0.0, "high": 0.6}, {"mean": 0.5, "sd": 0.0, "low": 0.5, "high": 0.5}, "60.0 %", "earned 50.0 %", {}),
    ("ends", "episodes/truncated", 100, 101, "10.0 %", "10.1 %", {}),
    ("recorded", "practice/inverse", {"mean": 1.0499, "error": 0.001}, {"mean": 1.051, "error": 0.001}, "105.0 %", "105.1 % (± 0.2)", RECORDED),
    ("recorded", "practice/inverse", {"mean": 1.39, "error": 0.1}, {"mean": 1.41, "error": 0.1}, "139.0 %", "141.0 % (± 19.6)", RECORDED),
    ("calibrated", "practice/calibration", {"predicted": [0.02], "observed": [0.01], "error": 0.5}, {"predicted": [0.021], "observed": [0.01], "error": 0.0}, "2 %", "2.1 %", {}),
    ("calibrated", "practice/calibration", {"predicted": [0.01], "observed": [0.02], "error": 0.5}, {"predicted": [0.01], "observed": [0.021], "error": 0.0}, "2 %", "2.1 %", {}),
    ("calibrated", "practice/calibration", {"predicted": [0.5], "observed": [0.1], "error": 0.05}, {"predicted": [0.5], "observed": [0.5], "error": 0.051}, "5.0 points", "5.1 points", BOX),
    ("varied", "practice/sure", 0.5, 0.501, "50.0 %", "50.1 %", {}),
    ("varied", "practice/spread", [0.04, 0.06], [0.04, 0.0598], "5.0 %", "5.0 %", BOX),
    ("near", "reach/toward/random/furthest", {"10": 0.5, "100": 0.05}, {"10": 0.5, "100": 0.04}, "up to 5 %", "only up to 4 %", {}),
    ("free", "reach/toward/random/effective", [[400.0, 10.0]], [[400.0, 9.9]], "worth 10", "fewer than 10 after 4 decisions", {}),
    ("free", "reach/toward/random/effective", [[400.0, 10.0]], [[400.0, None]], "worth 10", "after 4 decisions, 1,000 episodes lack", {}),
    ("free", "reach/toward/random/mean", 0.951, 0.94, "worth 50", "6 % of what", {}),
    ("free", "reach/toward/random/error", 0.03, 0.02, "worth 50", "11 % of what", {"reach/toward/random/mean": 0.89}),
    ("supported", "coverage/decisions", [0.0, 0.05, 0.05, 0.9, 0, 0, 0], [0.0, 0.05, 0.051, 0.899, 0, 0, 0], "10.0 %", "10.1 %", {}),
    ("faithful", "stitching/practice", 0.9, 0.901, "90.0 %", "90.1 %", {}),
    ("gain", "stitching/thresholds/1/held_out", [0.01, 0.001], [0.01, 0.0], "+1.0 point and +0.1 points", "+1.0 point and 0.0 points", {}),
    ("lucky", "stitching/thresholds/1/held_out", [0.05, 0.05], [0.05, 0.048], "+5.0 points in others", "+4.9 points in others", {}),
    ("stitched", "stitching/imitation/held_out", [0.06, 0.078], [0.06, 0.08], "against +6.9 points", "against +7.0 points", {}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "path", "right", "wrong", "yes", "no", "more"), BOTH)
def test_both_sides_of_a_threshold(code, path, right, wrong, yes, no, more):
    said, unsaid = one(changed(**(more | {path: right})), code), one(changed(**(more | {path: wrong})), code)
    assert (said.allowed, unsaid.allowed) == (True, False)
    assert (said.severity, unsaid.severity) == ("ok", "warning")
    assert said.text != unsaid.text
    plain = lambda text: text.replace("\u00a0", " ")
    assert yes in plain(said.text) and no in plain(unsaid.text), (said.text, unsaid.text)
    for text in (said.text, unsaid.text):
        assert text.endswith(".") and any(letter.isdigit() for letter in text)
    assert all(isinstance(x, (int, float, list, type(None))) for x in (said.numbers | unsaid.numbers).values())


def test_every_rule_is_tried_at_both_sides():
    assert {code for code, *_ in BOTH} == {rule.__name__ for rule in c.RULES}


def test_rules_follow_the_order_of_a_study_and_their_numbers():
    found = [each.code for each in conclusions(LOG)]
    assert found == [rule.__name__ for rule in c.RULES]
    assert one(LOG, "mean").numbers == {"mean": 0.8, "half": pytest.approx(1.96 * 0.4 / math.sqrt(999)), "episodes": 1000}
    assert one(LOG, "lucky").numbers == {"believed": 0.1, "left": pytest.approx(0.07)}


def test_estimated_probabilities_are_never_exact():
    said = one(LOG, "recorded")
    assert not said.allowed and "1.65 times as likely" in said.text  # e^½


def test_what_cannot_be_asked_is_not_answered():
    refused = changed(practice={"recorded": False, "refused": "there is only one episode."})
    refused["reach"] = None
    found = {each.code: each for each in conclusions(refused)}
    assert "there is only one episode" in found["recorded"].text and not found["recorded"].allowed
    assert not {"calibrated", "varied", "near", "free"} & found.keys()
    few = copy.deepcopy(LOG)
    few["stitching"]["imitation"]["held_out"] = few["stitching"]["thresholds"][1]["held_out"] = None
    assert not {"gain", "lucky", "stitched"} & {each.code for each in conclusions(few)}
    assert one(changed(**{"coverage/exact": False}), "supported") is None
    assert one(changed(**{"stitching/thresholds/1/believed": 0.0}), "lucky") is None
    for code in ("gain", "lucky", "stitched"):
        assert one(changed(**{"stitching/practice": 0.95}), code) is None
    alone = one(changed(**{"episodes/count": 1}), "mean")
    assert not alone.allowed and "80.0" in alone.text and "interval" not in alone.text


def test_few_episodes_cannot_be_weighed():
    said = one(changed(**{"reach/episodes": 99}), "near")
    assert not said.allowed and "99 of 1,000\u00a0episodes are fewer than 100 to begin with" in said.text
    assert one(changed(**{"reach/episodes": 100}), "near").allowed
    assert "already at 1" in one(changed(**{"reach/toward/random/furthest": {"100": 0.0}}), "near").text


def test_gains_in_cells_are_said_to_be_too_hopeful():
    assert "too hopeful" in one(changed(**{"stitching/exact": False}), "gain").text
    assert "too hopeful" not in one(LOG, "gain").text


def test_probabilities_of_vectors_are_taken_as_they_are():
    assert one(changed(**(BOX | {"practice/recorded": True})), "recorded").allowed


@pytest.mark.parametrize(
    ("random", "usual", "code"),
    [(1.0, 1.0, "bold"), (0.99, 1.0, "near"), (1.0, 0.05, "near"), (0.04, 1.0, "practice"), (0.0, 0.0, "practice")],
)
def test_the_answer_is_that_of_the_narrower_way(random, usual, code):
    found = changed(**{f"reach/toward/{name}/furthest": {str(READ): far} for name, far in (("random", random), ("usual", usual))})
    assert answer(found) == (code, min(random, usual))


def test_nothing_to_weigh_by():
    unweighed = copy.deepcopy(LOG)
    unweighed["reach"] = None
    assert answer(unweighed) == ("unweighed", 0)


def test_words_of_the_log():
    text = " ".join(each.text for each in conclusions(LOG, Nouns("stay", "stays", "dose", "doses")))
    assert "stays" in text and "doses" in text and "episode" not in text and "decision" not in text
