"""topstitch run: a study of eighty short stays, from its first interruption to its page."""

import contextlib
import io
import json

import numpy as np
import pytest

from topstitch.cli import main
from topstitch.study import run as studies

ROLES = [
    "--episode",
    "stay",
    "--obs",
    "state",
    "--states",
    "6",
    "--action",
    "dose",
    "--reward",
    "reward",
    "--terminal",
    "always",
    "--probability",
    "p",
]
SMALL = ["--panel", "spibb", "--seeds", "1", "--steps", "16"]


@pytest.fixture(scope="module")
def topstitch():
    """Run a command line: (exit code, standard output, standard error)."""

    def run(*argv) -> tuple[int, str, str]:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            code = main([str(word) for word in argv])
        assert "Traceback" not in err.getvalue()
        return code, out.getvalue(), err.getvalue()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUM_CPU_DEVICES", "1")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        yield run


def stays(path, survived):
    """Two doses in six states, each taken half of the time; `survived` draws the reward of a last step."""
    rng = np.random.default_rng(0)
    rows = ["stay,state,dose,reward,p"]
    for stay, length in enumerate(rng.integers(1, 5, 80)):
        rows += [f"{stay},{rng.integers(6)},{rng.integers(2)},{survived(rng) if k == length - 1 else 0},0.5" for k in range(length)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def begun(topstitch, tmp_path_factory):
    """(the command line, what came of it when it was interrupted behind the training)."""
    home = tmp_path_factory.mktemp("run")
    argv = ["run", stays(home / "stays.csv", lambda rng: rng.integers(2)), *ROLES, *SMALL, "-o", home / "study"]

    def stop(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "judge", stop)
        return argv, topstitch(*argv)


@pytest.fixture(scope="module")
def done(begun, topstitch):
    """(the command line, what came of it the second time, when the last policy was written)."""
    argv, _ = begun
    trained = (argv[-1] / "runs" / "bc" / "finished.json").stat().st_mtime_ns
    return argv, topstitch(*argv), trained


def test_an_interrupted_study_says_how_to_go_on(begun):
    argv, (code, out, err) = begun
    assert (code, out) == (130, "") and "What was learned is kept: the same command goes on" in err
    assert not (argv[-1] / "study.json").exists()


def test_the_same_command_ends_it_with_a_word(done):
    argv, (code, out, err), trained = done
    told = json.loads((argv[-1] / "study.json").read_text())
    assert code == 0 and out.startswith("\nCannot tell. ") and told["verdict"]["word"] == "cannot tell"
    assert [line.split()[1].lower() for line in out.splitlines() if line.startswith("  ")][:7] == [link["id"] for link in told["chain"]]
    assert "report.html" in out and "Cannot tell." in (argv[-1] / "report.html").read_text()
    assert "Judging by 32 other episodes" in err and "report.html" not in err
    assert (argv[-1] / "runs" / "bc" / "finished.json").stat().st_mtime_ns == trained  # nothing was learned twice


def test_a_finished_study_for_scripts(done, topstitch):
    argv, _, _ = done
    code, out, err = topstitch(*argv, "--json")
    assert code == 0 and json.loads(out) == json.loads((argv[-1] / "study.json").read_text()) and "nothing is left to do" in err


def test_cautions_are_accepted_by_name(done, topstitch):
    argv, _, trained = done
    code, out, err = topstitch(*argv, "--accept", "few-episodes,none-such")
    assert (code, out) == (1, "") and "'none-such' cannot be accepted" in err and "few-episodes" in err.partition("accepted here: ")[2]
    code, out, err = topstitch(*argv, "--accept", "few-episodes", "--accepted-by", "Dr. Vane", "--json")
    told = json.loads(out)
    assert code == 0 and told["checks"]["accepted"] == {"codes": ["few-episodes"], "by": "Dr. Vane"} and "judging again" in err
    assert [one["code"] for one in told["checks"]["findings"] if one["accepted"]] == ["few-episodes"]
    assert "1 caution (1 accepted)" in told["chain"][1]["detail"] and told["chain"][1]["state"] == "warn"
    accepted = "Accepted for this study by Dr. Vane: There are few episodes (few-episodes)."
    assert told["verdict"]["reasons"][-1] == {"code": "accepted", "text": accepted} and accepted in (argv[-1] / "report.html").read_text()
    assert (argv[-1] / "runs" / "bc" / "finished.json").stat().st_mtime_ns == trained
    code, _, err = topstitch(*argv, "--accepted-by", "Dr. Vane")
    assert code == 2 and "accepts nothing" in err


def test_a_critical_finding_has_an_exit_code_of_its_own(topstitch, tmp_path):
    code, out, _ = topstitch("run", stays(tmp_path / "stays.csv", lambda rng: 0), *ROLES, *SMALL, "-o", tmp_path / "study")
    assert code == 3 and out.startswith("\nCannot tell. ") and not (tmp_path / "study" / "runs").exists()
    assert "Cannot tell." in (tmp_path / "study" / "report.html").read_text()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["nowhere.csv", *ROLES], 1, "nowhere.csv"),
        (["{log}"], 2, "say which of its columns"),
        (["{log}", *ROLES, "--panel", "iqn"], 2, "iqn"),
        (["{log}", *ROLES, "--words", "stay"], 2, "Give five"),
        (["{log}", *ROLES, "--shares", "0.5", "0.5", "0.5"], 1, "expected three that sum to 1"),
    ],
)
def test_what_cannot_be_studied_is_said(topstitch, tmp_path, argv, code, said):
    log = stays(tmp_path / "stays.csv", lambda rng: rng.integers(2))
    found, out, err = topstitch("run", *(word.format(log=log) for word in argv), "-o", tmp_path / "study")
    assert (found, out) == (code, "") and said in err and not (tmp_path / "study").exists()
