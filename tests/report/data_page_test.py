"""The page of a log: every kind of log has one, its titles say what its numbers say, and names of strangers do nothing."""

import copy
import json
import re

import pytest
from report import described
from report.study_page_test import HOSTILE, sound

from topstitch.report import data_page as pages
from topstitch.report.conclusions import Nouns, conclusions
from topstitch.report.data_page import ANSWERS, data_page, group, picture, steps_of, view
from topstitch.report.kit import Scale, count, pct


@pytest.mark.parametrize("name", described.ALL)
def test_every_kind_of_log_has_a_page(name):
    d = described.ALL[name]()
    html = data_page(d, command="topstitch data report log.csv -o data.html")
    found, text = sound(html)
    assert len(html) < 300_000
    for tag, attributes in found.tags:
        if tag == "svg" and attributes.get("class", "").split()[:1] in (["plot"], ["row"]):
            assert attributes["role"] == "img" and any(letter.isdigit() for letter in attributes["aria-label"]), attributes
    assert [i for i in found.ids if not i.startswith(("i-", "h-"))] == ["theme", "main", "v", "conclusions", "data", "columns", "coverage",
            "practice", "reach", "gains", "limits", "reproduce", "glossary"] + (["card"])  # fmt: skip
    for word in ("nan", "None", "Undefined", "inf"):
        assert not re.search(rf"\b{word}\b", text), text[max(text.find(word) - 80, 0) : text.find(word) + 20]
    card = re.search(r'id="card">(.*?)</script>', html, re.DOTALL)
    assert card and json.loads(card[1]) == d


@pytest.mark.parametrize("name", described.ALL)
def test_the_page_says_each_conclusion_once(name):
    d = described.ALL[name]()
    _, text = sound(data_page(d, command=""))
    plain = " ".join(text.split())
    for each in conclusions(d):
        claim, _, reason = each.text.partition(": ")
        assert plain.count(" ".join(claim.split())) >= 1, claim
        assert " ".join(reason.split())[1:] in plain


def test_titles_say_what_the_numbers_say():
    d = described.numbered()
    seen = view(d, Nouns("stay", "stays", "dose", "doses"))
    returns = d["episodes"]["returns"]
    assert (
        seen["logged"]["returns"]["title"].replace("\u00a0", " ")
        == f"{pct(returns['mean'])} % of the stays have the return 1, all others 0"
    )
    assert seen["logged"]["lengths"]["title"] == "Every stay has 6\u00a0doses"
    assert seen["logged"]["rewards"] is None  # the returns say it
    cover = d["coverage"]
    assert seen["coverage"]["title"] == "Every action was done in every state that was visited" and cover["pairs"][0] == 0
    assert count(d["reach"]["toward"]["random"]["effective"][0][0]) in seen["reach"][0]["table"]
    chosen = next(row for row in d["stitching"]["thresholds"] if row["least"] == 10)
    assert f"{100 * chosen['believed']:+.1f}".replace("-", "−") in seen["gains"]["title"]
    assert [row[2].split("\u00a0")[0] for row in seen["coverage"]["rows"]] == [pct(share) for share in cover["pairs"]]


def test_untried_pairs_are_in_the_title():
    d = copy.deepcopy(described.numbered())
    d["coverage"]["pairs"] = [0.25, 0, 0, 0, 0, 0, 0.75]
    assert view(d)["coverage"]["title"].startswith("75.0")


@pytest.mark.parametrize(("far", "words"), [(0.0, "in 1 % of the decisions leaves fewer than 100"), (0.3, "in up to 30 % of the decisions leaves 100"), (1.0, "always leaves 100 effective episodes or more")])  # fmt: skip
def test_how_far_is_said_in_the_title(far, words):
    d = copy.deepcopy(described.numbered())
    d["reach"]["toward"]["random"]["furthest"]["100"] = far
    title = view(d)["reach"][0]["title"]
    assert title.startswith("Acting at random ") and words in title.replace("\u00a0", " ")


@pytest.mark.parametrize(("far", "code"), [(1.0, "bold"), (0.05, "near"), (0.04, "practice"), (0.0, "practice")])
def test_the_answer_stands_at_the_top(far, code):
    d = copy.deepcopy(described.numbered())
    for way in d["reach"]["toward"].values():
        way["furthest"]["100"] = far
    opening = view(d)["answer"]
    assert opening["code"] == code and opening["word"] == ANSWERS[code]
    assert {1.0: "every decision", 0.05: "5\u00a0%", 0.04: "4\u00a0%", 0.0: "as little as 1\u00a0%"}[far] in opening["sentence"]


def test_without_weights_the_answer_says_why():
    opening = view(described.one_episode())["answer"]
    assert opening["word"] == ANSWERS["unweighed"] and "only 1 episode" in opening["sentence"]


def test_gains_of_a_world_that_is_wrong_are_not_spoken_of():
    d = copy.deepcopy(described.numbered())
    d["stitching"]["practice"] = d["stitching"]["logged"]["mean"] + 0.2
    seen = view(d)
    assert "no guide" in seen["gains"]["title"] and "over practice" not in seen["answer"]["sentence"]
    assert "no guide" in seen["gains"]["caution"] and not any("in the world of the log" in by for _, _, by in seen["gains"]["quality"])


def test_a_cell_without_an_effective_sample_is_empty_and_says_why():
    d = copy.deepcopy(described.numbered())
    random = d["reach"]["toward"]["random"]
    assert "Empty" not in view(d)["reach"][0]["small"]
    random["effective"][-1][-1] = None
    seen = view(d)
    assert 'class="none"' in seen["reach"][0]["table"] and "lack what the policy does" in seen["reach"][0]["small"]
    assert seen["answer"]["facts"][-1][0] == "worth nothing"


@pytest.mark.parametrize(
    ("halves", "words"),
    [
        ([[0.0, -0.1], [-0.1, 0.2]], "No threshold leaves a gain in both halves"),
        ([[0.1, 0.1], [0.3, -0.01]], "The threshold that leaves most leaves nothing in one half"),
        ([[0.1, 0.1], [0.3, 0.2]], "Most is left of what was done 5\u00a0times or more: +0.2"),
    ],
)
def test_what_caution_leaves(halves, words):
    rows = [{"least": least, "held_out": each} for least, each in zip((1, 5), halves)]
    assert pages.caution(rows, Scale(digits=1)).startswith(words)


def test_the_rarest_actions_are_judged_by_their_bin():
    assert pages.often(0.01, 0.02) == pages.often(0.02, 0.01) == "about as often as predicted"
    assert pages.often(0.01, 0.021) == "2.1 times as often as predicted"
    assert pages.often(0.01, 0.0049) == "less than half as often as predicted"
    curve = {"predicted": [0.01, 0.5], "observed": [0.03, 0.5], "count": [9, 9]}
    assert pages.rarity(curve, Nouns())["title"] == "The rarest actions are taken 3.0 times as often as predicted"


def test_levels_are_counted_in_words():
    assert steps_of([0, 1, 2, 5, 50]) == ["never", "once", "2–4", "5–49", "50 or more"]
    assert group({"low": -2.0, "high": 0.5}) == "−2 to 0.5"
    assert group({"centre": [["dose", 1.25], ["age", -0.5]]}) == "dose +1.2, age −0.5"


def test_what_lies_beyond_an_axis_is_counted():
    assert pages.beyond({"below": 3, "above": 1200}) == "; 3 lower and 1,200 higher lie beyond the axis"
    assert pages.beyond({"below": 0, "above": 0}) == "" == pages.beyond({"values": [1]})


def test_whole_numbers_with_gaps_are_drawn_where_they_are():
    svg = picture({"values": [1, 2, 3, 4, 5, 6, 9], "counts": [5, 4, 3, 2, 1, 1, 7]}, "x", str, (3.0, "median"), "label 1")
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" class="f-prac"', svg)]
    assert len(heights) == 9 and heights[6] == heights[7] == 0 and heights[8] == max(heights)


def test_names_of_strangers_do_nothing():
    d = copy.deepcopy(described.vectors())
    d["source"] = d["notes"] = HOSTILE
    d["notes"] = [HOSTILE]
    for part in (d["observations"], d["actions"]):
        for column in part["columns"]:
            column["name"] = HOSTILE + column["name"]
    d["observations"]["further"] = [HOSTILE] * 5
    for each in [*d["coverage"]["counts"]["states"], *d["coverage"]["counts"]["actions"]]:
        each["centre"] = [[HOSTILE, 1.0], [HOSTILE, -1.0]]
    html = data_page(d, command=f"topstitch data report '{HOSTILE}'")
    sound(html, "{{ 7*7 }}")
    html.encode()
    assert "alert(" not in html.replace("&lt;script&gt;alert(", "").replace("\\u003cscript\\u003ealert(", "")
    assert "\u202e" not in html and "\x00" not in html
    choices = copy.deepcopy(described.numbered())
    for member in choices["actions"]["members"]:
        member["name"] = HOSTILE
    _, said = sound(data_page(choices, command=""), "{{ 7*7 }}")
    assert "x" * 100 not in said


def test_a_pair_of_choices_has_a_table():
    d = copy.deepcopy(described.numbered())
    d["actions"]["grid"] = {"rows": "fluid", "columns": "pressor", "row_names": ["none", "some"], "column_names": ["none", "some"], "counts": [[6, 2], [1, 1]]}  # fmt: skip
    seen = view(d)["columns"]["grid"]
    assert seen["title"].replace("\u00a0", " ") == "The commonest action is fluid none with pressor none, in 60.0 % of the decisions"
    sound(data_page(d, command=""))
