"""The page of plain runs: from whatever their folders hold."""

import json

import pytest
from report import studies
from report.study_page_test import sound

from topstitch.disk import BadFile
from topstitch.report.runs_page import read_folder, runs_page, thinned


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("evaluated", [True, False])
@pytest.mark.parametrize("estimated", [True, False])
def test_every_folder_has_a_page(tmp_path, finished, evaluated, estimated):
    folder = studies.runs(tmp_path / "iql", finished=finished, evaluated=evaluated, estimated=estimated)
    page, said = sound(runs_page([read_folder(folder)]))
    assert ("returns" in page.ids) == evaluated
    assert ("estimates" in page.ids) == estimated
    assert ("did best" in said) == evaluated
    assert ("neither tried" in said) == (not evaluated and not estimated)
    assert ("broke off" in said) == finished
    assert ("Training has not ended" in said) == (not finished)
    assert "1 line of the metrics" in said


def test_several_folders_share_a_page_and_the_best_is_named(tmp_path):
    folders = [studies.runs(tmp_path / name) for name in ("a", "b")]
    _, said = sound(runs_page([read_folder(folder) for folder in folders]))
    assert said.count("Metrics by training step") == 2
    assert "iql beta=10 (a) did best at the end of training: its mean return in the environment is 204" in said
    assert "; runs overlap" in said


def test_a_refused_estimate_and_a_thin_one_are_told_apart(tmp_path):
    html = runs_page([read_folder(studies.runs(tmp_path / "iql"))])
    assert "The policy has no density." in html
    assert html.count('class="dim"') == 2
    assert "The only readable estimate lies above what was logged" in html


def test_what_is_no_folder_of_runs_is_said(tmp_path):
    with pytest.raises(BadFile, match="neither a folder of runs nor of a study"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"runs": []}))
    with pytest.raises(BadFile, match="is damaged"):
        read_folder(tmp_path)


def test_damaged_lines_are_counted_and_damaged_files_passed_over(tmp_path):
    folder = studies.runs(tmp_path / "iql")
    (folder / "metrics.jsonl").write_bytes(
        b'\xff\n[]\n{"run": 0, "stage": "x", "step": "ten", "loss": 1}\n{"run": 0, "stage": "x", "step": 1, "loss": 1}\n'
    )
    (folder / "evaluations.jsonl").write_text('{"step": 1, "returns": 3}\n')
    (folder / "estimates.json").write_text("{")
    read = read_folder(folder)
    assert read.skipped == 2
    assert read.estimates is None
    sound(runs_page([read]))


def test_curves_are_thinned_but_keep_their_end():
    line = [(float(i), 0.0) for i in range(1001)]
    found = thinned(line)
    assert len(found) <= 82
    assert found[0] == line[0]
    assert found[-1] == line[-1]
