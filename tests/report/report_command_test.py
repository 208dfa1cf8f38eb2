"""`topstitch report`."""

import json

import pytest
from report import studies

from topstitch.cli import Wrong
from topstitch.cli.report import main


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(studies.study("control")))
    return folder


def test_a_study_is_rendered_beside_its_results_or_where_asked(study, tmp_path, capsys):
    assert main([str(study)]) == 0
    first = (study / "report.html").read_text()
    assert "Cannot tell." in first
    assert main([str(study / "study.json"), "-o", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == first
    assert "page.html (" in capsys.readouterr().out


def test_runs_are_rendered_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = [str(studies.runs(tmp_path / name)) for name in ("a", "b")]
    assert main(places) == 0
    assert "8\u00a0runs of iql" in (tmp_path / "report.html").read_text()


def test_what_cannot_be_meant_is_said(study, tmp_path):
    with pytest.raises(Wrong, match="Name the folder"):
        main([])
    with pytest.raises(Wrong, match="name it alone"):
        main([str(study), str(tmp_path)])
