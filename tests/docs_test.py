"""What the documents say is so: their code runs, their tables and links agree with the package."""

import importlib
import operator
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import topstitch
from topstitch import cli
from topstitch.cli import COMMANDS
from topstitch.cli.algorithms import families, table
from topstitch.cli.algorithms import page as page_of
from topstitch.testing import PROBES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TOLD = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]


def blocks(kind: str) -> list[tuple[str, str]]:
    """(page, block) of what pages set apart as code of a kind."""
    found = [(page.name, *one) for page in TOLD for one in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.S | re.M)]
    return [(page, block) for page, of, block in found if of == kind]


def test_the_python_of_the_readme_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    short = code.replace("steps=2_000", "steps=3")
    assert short != code
    subprocess.run([sys.executable, "-c", short], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    assert (tmp_path / "policy.safetensors").is_file()


def test_the_tables_of_algorithms_are_those_of_the_package():
    rows = table()
    assert families(rows) in README
    assert (ROOT / "docs/algorithms.md").read_text() == page_of(rows), "topstitch algorithms --page > docs/algorithms.md"
    assert all((ROOT / "src" / row["file"]).is_file() for row in rows)


def test_the_readme_has_only_commands_that_exist():
    for command in re.findall(r"^topstitch (\w+)", README, re.M):
        assert command in COMMANDS


def test_the_matrix_of_probes_is_the_declared_one():
    page = (ROOT / "docs/probes.md").read_text()
    for row in table():
        cells = ["solves" if p in row["passes"] else "fails" if p in row["fails"] else "–" for p in PROBES]
        assert f"| `{row['name']}` | {' | '.join(cells)} |" in page
    assert all(f"**{name}**: {probe.idea}." in page for name, probe in PROBES.items())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("name", [n for n in topstitch.PUBLIC if n != "ALGORITHMS"])
def test_every_public_name_is_documented(name):
    said = getattr(topstitch, name).__doc__
    assert said and len(said.strip()) > 20 and not said.startswith(f"{name}("), name  # the last: what a dataclass says of itself


def test_the_readme_leads_to_every_page():
    assert {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")} <= set(re.findall(r"\]\((docs/[^)#]+)", README))


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_the_python_of_a_page_names_what_there_is(page, code):
    compile(code, page, "exec")
    for name in re.findall(r"\bts((?:\.\w+)+)", code):
        operator.attrgetter(name[1:])(topstitch)


@pytest.mark.parametrize("line", [line for _, block in blocks("") for line in re.findall(r"^topstitch [a-z](?:.*\\\n)*.*", block, re.M)])
def test_a_command_of_a_page_is_understood(line, monkeypatch):
    def understand(*args, **how):
        cli.parse(*args, **how)
        raise Understood

    for path in (ROOT / "src/topstitch/cli").glob("[!_]*.py"):
        module = importlib.import_module(f"topstitch.cli.{path.stem}")
        monkeypatch.setattr(module, "parse", understand, raising=False)
        monkeypatch.setattr(module, "start_jax", lambda: None, raising=False)
    command, *words = shlex.split(line.replace("\\\n", " "), comments=True)[1:]
    with pytest.raises(Understood):
        importlib.import_module(f"topstitch.cli.{command}").main([word for word in words if word != "…" and not word.startswith("[")])


class Understood(Exception):
    """The arguments of a command were, and nothing was done."""


def test_every_algorithm_says_how_it_differs_from_the_authors():
    for row in table():
        opening = (ROOT / "src" / row["file"]).read_text().split('"""')[1]
        assert ("iffer" in opening and "http" in opening) or row["name"] in ("bc", "dqn"), row["name"]
        assert "differ" in opening.lower(), row["name"]
