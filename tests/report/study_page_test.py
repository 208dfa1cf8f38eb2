"""The page of a study: every outcome renders, whole in itself, from whatever names and gaps the study has."""

import functools
import json
import re
from html.parser import HTMLParser

import pytest
from report import studies

from topstitch.disk import BadFile
from topstitch.report.study_page import LINKS, PARTS, VERSION, is_study, read_study, stored_page, study_page
from topstitch.study import schema

HOSTILE = '\u202e<script>alert("1")</script>\x00\ud800{{ 7*7 }}&amp;' + "x" * 500
VOID = {"meta", "br", "path", "circle", "line", "rect", "use"}


class Page(HTMLParser):
    """Which elements there are, whether they are closed in order, and the text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.tags, self.text, self.wrong = [], [], [], [], []
        self.refs, self.labels = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.refs += [found[key] for key in ("href", "src", "xlink:href", "action", "data") if key in found]
        self.labels += [found["aria-labelledby"]] if "aria-labelledby" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def said(self):
        return " ".join("".join(self.text).split())


def sound(html, allowed=""):
    """Checks what every page must be; `allowed` is text of strangers that may stand in it. Answers with its elements and its text."""
    page = Page(html)
    assert not page.wrong, page.wrong
    assert not page.open
    assert len(set(page.ids)) == len(page.ids)
    assert all(ref.startswith("#") and ref[1:] in page.ids for ref in page.refs), [r for r in page.refs if r[1:] not in page.ids]
    assert set(page.labels) <= set(page.ids)
    assert not re.search(r"https?://|@import|url\(", re.sub(r"https?://(doi|arxiv)[^ <]*", "", html.split("<body>")[0]))
    assert all(found.get("aria-label") for tag, found in page.tags if tag == "svg" and found.get("role") == "img")
    assert [tag for tag, _ in page.tags if tag == "script"] == ["script", "script"]
    said = page.said().replace(allowed, "") if allowed else page.said()
    assert not re.search(r"\bNone\b|\bnan\b|\{\{|Undefined", said)
    return page, said


CASES = {
    **{code: studies.study(code) for code in studies.STEPS},
    "simulated": studies.study("control", simulated=True),
    "money": studies.study("promising", share=False),
    "huge": studies.study("unsettled", share=False, practice=3.2e12, margin=1e11),
    "tiny": studies.study("unsettled", share=False, practice=3.2e-12, margin=1e-13),
    "bandit": studies.study("shown", long=False, numbered=False, practice=0.0038, margin=0.0005, recorded=True),
    "dense": studies.study("promising", runs=40, actions=25, seeds=4, simulated=True, caution=True),
    "sparse": studies.study("unsettled", runs=2, actions=2),
}


@pytest.mark.parametrize("name", CASES)
def test_every_outcome_is_a_whole_page(name):
    html = study_page(CASES[name])
    page, said = sound(html)
    assert len(html.encode()) < 300_000
    assert html.count("<h1") == 1
    assert f"{CASES[name]['verdict']['word'].capitalize()}." in said
    assert [f"h-{link}" for link in LINKS] == [id for id in page.ids if id in {f"h-{link}" for link in LINKS}]
    card = json.loads(re.search(r'<script type="application/json" id="card">(.*?)</script>', html, re.S)[1])
    assert card["verdict"]["word"] == CASES[name]["verdict"]["word"]


@pytest.mark.parametrize("code", ["critical", "control", "shown"])
def test_names_of_strangers_do_nothing(code):
    nouns = dict.fromkeys(("episode", "episodes", "step", "steps", "value"), HOSTILE)
    html = study_page(studies.study(code, names=lambda text: HOSTILE + text, words=nouns, simulated=True))
    _, said = sound(html, "{{ 7*7 }}")
    html.encode()
    assert "alert(" not in html.replace("&lt;script&gt;alert(", "").replace("\\u003cscript\\u003ealert(", "")
    assert "\u202e" not in html
    assert "\x00" not in html
    assert 'alert("1")</script>··49' not in said
    assert "x" * 100 not in said


SOME = (
    "data.lengths", "data.returns", "data.splits", "data.notes", "coverage.support", "coverage.by_step", "coverage.chosen", "practice.calibration",
    "practice.score", "practice.top", "practice.unseen", "practice.kind", "policies.groups", "policies.safe", "estimates.others", "estimates.why",
    "choice.rows", "choice.how", "choice.need", "changes.actions", "changes.groups", "changes.states", "changes.tree", "changes.same",
    "verdict.gain", "verdict.control", "verdict.net", "verdict.value", "verdict.practice", "verdict.margin", "verdict.effective", "verdict.episodes",
    "verdict.settle", "verdict.exact", "verdict.bound", "verdict.errors", "reproduce.commands", "reproduce.fingerprints", "reproduce.seconds",
    "reproduce.versions", "data", "checks", "coverage", "practice", "policies", "estimates", "choice", "changes", "limits", "reproduce", "words", "unit",
    "question", "title",
)  # fmt: skip


@pytest.mark.parametrize("path", SOME)
def test_any_part_may_be_missing(path):
    sound(study_page(studies.without(studies.study("control", simulated=True), path)))


def test_no_curves_no_propensities_and_all_refused():
    made = studies.study("unsettled")
    for run in made["policies"]["runs"]:
        run["curve"] = None
    for row in made["estimates"]["rows"]:
        row |= {
            "value": studies.estimate(None, refused="Weights are worth fewer than ten stays."),
            "net": studies.estimate(None),
            "gain": None,
        }
    for row in made["choice"]["rows"]:
        row |= {"net": studies.estimate(None, refused="no"), "eligible": False, "effective": None, "why": "no"}
    _, said = sound(study_page(made))
    assert "No policy could be estimated" in said
    assert "Weights are worth fewer than ten stays." in said


def test_curves_may_have_gaps_and_a_single_point():
    made = studies.study("unsettled")
    made["policies"]["runs"][1]["curve"] |= {"selection": [None, 0.8, None, None, 0.9, None, None, None], "believes": None}
    made["policies"]["runs"][2]["curve"] = {"step": [100], "believes": [1e300], "selection": [0.8], "exact": None}
    html = study_page(made)
    sound(html)
    assert "↑" in html


def test_continuous_actions_are_compared_by_their_means():
    made = studies.study("control")
    made["changes"] |= {
        "kind": "means", "same": None, "states": [],
        "actions": [{"name": f"valve {i}", "practice": 0.1 * i, "policy": 0.1 * i + 0.02 * i, "sd": 0.2} for i in range(3)],
        "groups": [{"name": n, "by": "load", "low": 0, "high": 1, "share": 0.5, "same": 0.9, "practice": [0.1, 0.2, 0.3], "policy": [0.1, 0.1, 0.3]}
                   for n in ("low", "high")],
    }  # fmt: skip
    made["changes"]["tree"]["classes"] = ["less valve 2", "as practice", "more valve 2"]
    made["changes"]["tree"]["root"] = {"share": 1.0, "n": 9, "p": [0.2, 0.7, 0.1]}
    _, said = sound(study_page(made))
    assert "The largest shift: valve 2, +0.2\u00a0standard deviations".replace("\u00a0", " ") in said
    assert "less · same · more" in said


def test_what_a_simulator_knows_stands_apart_or_is_absent():
    known, unknown = study_page(studies.study("control", simulated=True)), study_page(studies.study("control"))
    assert 'class="behind"' in known
    assert 'class="truth"' in known
    assert "Simulated data" in known
    assert 'class="behind"' not in unknown
    assert 'class="truth"' not in unknown
    assert "imulated" not in Page(unknown).said()


def test_thin_rows_are_drawn_apart_and_refused_ones_say_so():
    html = study_page(studies.study("unsettled"))
    assert html.count('class="dim"') >= 3
    assert "refused" in study_page(studies.study("refused"))


def test_the_number_of_the_verdict_is_the_policys_colour():
    html = study_page(studies.study("control"))
    assert '<span class="k n">81.7\u00a0%</span>' in html


def test_a_study_is_read_from_its_folder_or_its_file(tmp_path):
    made = studies.study("control")
    (tmp_path / "study.json").write_text(json.dumps(made))
    assert read_study(tmp_path) == read_study(tmp_path / "study.json") == made
    assert is_study(tmp_path)
    assert VERSION == schema.VERSION


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no"),
        ("[]", "does not hold the results of a study"),
        ("{", "does not hold the results of a study"),
        ("[" * 100_000, "does not hold the results of a study"),
        (
            json.dumps(studies.study("control") | {"schema": 99}),
            "has the layout 99, and layout 1 is expected. It was made by topstitch 0.0, and this is",
        ),
        ("{}", "has the layout None.*does not say what made it"),
        (json.dumps(studies.study("control") | {"chain": []}), "is damaged"),
        (json.dumps(studies.study("control") | {"verdict": {"word": "yes"}}), "is damaged"),
    ],
)
def test_what_is_no_study_is_said(tmp_path, content, said):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(BadFile, match=said):
        read_study(tmp_path / "study.json")


@pytest.mark.parametrize("way", [*((part,) for part in PARTS if part != "schema"), ("verdict", "rule"), ("data", "returns", "mean")])
def test_a_study_that_lacks_what_its_layout_has_is_said_to(tmp_path, way):
    """Not null, which says that a part was not reached: not there."""
    made, path = studies.study("control"), tmp_path / "study.json"
    *above, last = way
    del functools.reduce(dict.__getitem__, above, made)[last]
    path.write_text(json.dumps(made))
    with pytest.raises(BadFile, match=f"{last}.*run the study again"):
        stored_page(path)


def test_accepted_cautions_are_named_and_limit_nothing():
    made = studies.study("shown", caution=True)
    late = made["checks"]["findings"][0]
    _, before = sound(study_page(made))
    assert "Accepted" not in before and "One of the findings allows no more than a trial" in before
    late["accepted"], made["checks"]["accepted"] = True, {"codes": ["late"], "by": "Dr. Vane"}
    _, said = sound(study_page(made))
    assert "Accepted for this study by Dr. Vane: Rewards come only at the end (late)." in said
    assert "of the findings allow" not in said and "(caps the verdict)" not in said
