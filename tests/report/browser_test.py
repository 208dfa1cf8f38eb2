"""The pages in a real browser: nothing scrolls sideways, nothing is asked of a network, tables sort, colours switch, axe-core finds no fault."""

import json
import os
import shutil

import pytest
from report import described, studies

from topstitch.report.data_page import data_page
from topstitch.report.runs_page import read_folder, runs_page
from topstitch.report.study_page import study_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("TOPSTITCH_CHROMIUM") or next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH, and TOPSTITCH_CHROMIUM names none")
WIDTHS = (320, 390, 621, 1120, 1121, 1600)
HOSTILE = '\u202e<img src="https://example.org/x.png" onerror="alert(1)">' + "x" * 500


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as run:
        opened = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name -> address of a file."""
    here = tmp_path_factory.mktemp("pages")
    made = {
        "cannot": study_page(studies.study("control", simulated=True)),
        "deploy": study_page(studies.study("shown", share=False, runs=17, actions=25, seeds=3)),
        "stopped": study_page(studies.study("critical")),
        "hostile": study_page(studies.study("promising", names=lambda text: HOSTILE + text, words=dict.fromkeys(("episode", "episodes", "step", "steps", "value"), HOSTILE))),
        "log": data_page(described.vectors(), command="topstitch data report plant.csv"),
        "runs": runs_page([read_folder(studies.runs(here / name)) for name in ("iql", "cql")]),
    }  # fmt: skip
    for name, html in made.items():
        (here / f"{name}.html").write_text(html)
    return {name: (here / f"{name}.html").as_uri() for name in made}


@pytest.fixture
def opened(browser, pages):
    """Open a page by its name; what it logs to the console, and what it asks for beyond itself, is an error when the test ends."""
    contexts, said = [], []

    def open_(name, width=1280, scheme="light", script=True):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: said.append(request.url) if request.url != pages[name] else None)
        page.goto(pages[name])
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


@pytest.mark.parametrize("name", ["cannot", "deploy", "stopped", "hostile", "runs", "log"])
def test_no_page_scrolls_sideways(opened, name):
    page = opened(name)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 900})  # the printable width of A4; a number at the end of an axis may lean out
    assert page.evaluate("document.documentElement.scrollWidth") <= 684


@pytest.mark.parametrize(("name", "width", "scheme"), [("cannot", 1280, "light"), ("cannot", 390, "dark"), ("stopped", 1280, "dark"), ("runs", 390, "light"), ("log", 390, "dark")])  # fmt: skip
def test_axe_finds_nothing(opened, name, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(name, width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert found == [], json.dumps([(v["id"], v["nodes"][0]["html"][:200]) for v in found])


def test_a_table_sorts_both_ways_with_what_is_unknown_last(opened):
    page = opened("cannot")
    table = page.locator("table.forest").first
    head = table.locator("th[data-sort]").nth(1)
    worth = lambda: page.evaluate("[...document.querySelector('table.forest').tBodies[0].rows].map(r => r.cells[3].dataset.v)")
    head.locator("button").click()
    up = worth()
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    down = worth()
    assert head.get_attribute("aria-sort") == "descending"
    numbers = lambda found: [float(v) for v in found if v]
    assert numbers(up) == sorted(numbers(up))
    assert numbers(down) == sorted(numbers(up), reverse=True)
    assert len(set(numbers(up))) > 2
    assert "" not in up[: len(numbers(up))]
    assert "" not in down[: len(numbers(down))]


def test_colours_switch_and_switch_back(opened):
    page = opened("cannot")
    paper = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = paper()
    page.get_by_role("button", name="Dark colours").click()
    assert paper() != light
    page.get_by_role("button", name="Light colours").click()
    assert paper() == light


def test_the_page_is_whole_without_script(opened):
    scripted, plain = opened("cannot"), opened("cannot", script=False)
    assert plain.locator("#theme").is_hidden()
    assert plain.locator("h1").inner_text() == "Cannot tell."
    rows = "table.forest tbody tr"
    assert plain.locator(rows).count() == scripted.locator(rows).count() > 3
    assert plain.locator("figure svg").count() == scripted.locator("figure svg").count()
