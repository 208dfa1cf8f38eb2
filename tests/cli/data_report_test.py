"""`topstitch data report`."""

import json

import numpy as np
import pytest
from typed import ROLES

import topstitch as ts
from topstitch.report.data_page import ANSWERS
from topstitch.study.describe import describe


def test_a_page_and_its_sentences(topstitch, here):
    code, out, err = topstitch("data", "report", "choices.csv", *ROLES)
    assert (code, err) == (0, "data.html is written.\n")
    first, *said = out.splitlines()
    assert first.removeprefix("choices.csv: ") in ANSWERS.values()
    assert len(said) > 6 and {line[2] for line in said} == {"+", "-"}
    html = (here / "data.html").read_text()
    assert "topstitch data report choices.csv --episode stay" in html and "https://" not in html.split("<main")[1]


def test_the_same_numbers_for_scripts(topstitch, here):
    code, out, _ = topstitch("data", "report", "choices.csv", "-o", "pages/a.html", "--seed", "1", "--discount", "0.9", "--references", "-1", "2", "--json", *ROLES)  # fmt: skip
    numbers = json.loads(out)
    log = ts.read_table("choices.csv", episode="stay", time="hour", obs="obs_*", action="dose", reward="reward", terminal="died")
    said = numbers.pop("conclusions")
    assert code == 0 and (here / "pages" / "a.html").is_file()
    assert numbers == describe(log, seed=1, discount=0.9, references=(-1.0, 2.0))
    assert all(each.keys() == {"code", "allowed", "text", "numbers"} for each in said)
    assert numbers["quality"]["trajectory"]["given"]["value"] == pytest.approx((np.mean(log.returns(0.9)) + 1) / 3)


def test_what_cannot_be_read_is_said(topstitch, here):
    code, _, err = topstitch("data", "report", "nothing.csv", *ROLES)
    assert code == 1 and "no such file" in err and not (here / "data.html").exists()
