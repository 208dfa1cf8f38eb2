"""What a person sees first: help, versions, mistakes."""

import re
import subprocess
import sys

import pytest

import topstitch as package
from topstitch import cli
from topstitch.cli import COMMANDS
from topstitch.ope.estimate import ESTIMATORS, MARGINAL, ROLLED

SHOWN = ("train", "train td3bc", "evaluate", "collect", "bench", "algorithms", "data info", "report", "cite")
HELP = [[*command.split(), "--help"] for command in SHOWN]


def test_help_names_every_command(topstitch):
    code, out, _ = topstitch("--help")
    assert code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert topstitch() == (2, out, "")
    assert topstitch("-h") == topstitch("help") == (0, out, "")


def test_version(topstitch):
    assert topstitch("--version") == (0, package.__version__ + "\n", "")


@pytest.mark.parametrize("argv", HELP, ids=" ".join)
def test_every_help_has_an_example_that_fits_the_screen(topstitch, argv):
    code, out, err = topstitch(*argv)
    assert (code, err) == (0, "")
    assert "example" in out and out.count("topstitch " + argv[0]) >= 2
    assert "{None}" not in out and "None)" not in out and "--no-" not in out and "(default: )" not in out
    body = out.split("\n", 1)[1]
    assert max(map(len, body.splitlines())) <= 96, max(body.splitlines(), key=len)


def test_help_of_an_algorithm_lists_its_hyperparameters(topstitch):
    _, out, _ = topstitch("train", "TD3+BC", "--help")
    assert "td3bc options" in out and "column options" in out and "--sweep NAME=VALUES" in out
    assert all(f"--{name} " in out for name in ("alpha", "noise-clip", "hidden", "steps", "batch-size", "episode", "checkpoint-seconds"))
    assert "--expectile" not in out
    assert "--expectile" in topstitch("train", "iql", "--help")[1]


def test_the_help_of_ope_names_every_estimator(topstitch):
    said = set(re.findall(r"\w+", topstitch("ope", "--help")[1]))
    assert said >= {*ESTIMATORS, *MARGINAL, ROLLED}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["evalute"], "Did you mean 'evaluate'?"),
        (["frobnicate"], "there is no command 'frobnicate'. See topstitch --help."),
        (["train", "td3bx"], "Did you mean 'td3bc'?"),
        (["train"], ""),
        (["train", "td3bc"], "--data"),
        (["train", "td3bc", "--data", "doses.csv", "--alhpa", "1"], "--alhpa"),
        (["train", "td3bc", "--data", "doses.csv", "--alpha", "much"], "--alpha"),
        (["train", "td3bc", "--data", "doses.csv"], "say which of its columns play the part of --obs, --action, --reward, --terminal"),
        (["data"], "topstitch data import"),
        (["data", "import"], "topstitch data import"),
        (["data", "info"], "FILE"),
        (["evaluate", "--env", "CartPole-v1"], "Name a folder of runs"),
        (["evaluate", "runs"], "--env"),
        (["cite"], "Name a folder of runs or an algorithm"),
        (["algorithms", "--family", "royal"], "Families: baseline, "),
        (["algorithms", "--action", "dance"], "dance"),
    ],
)  # fmt: skip
def test_mistakes_in_a_command_exit_with_2(topstitch, argv, said):
    code, out, err = topstitch(*argv)
    assert code == 2
    assert said in err or said in " ".join(out.split())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["data", "info", "nothing.csv"], "nothing.csv: there is no such file"),
        (["evaluate", "nothing", "--env", "CartPole-v1"], "There is no file nothing"),
        (["evaluate", "choices.csv", "--env", "CartPole-v1"], "choices.csv cannot be read as a policy"),
        (["evaluate", ".", "--env", "CartPole-v1"], "not a folder of runs"),
        (["cite", "nothing"], "nothing is not a folder of runs"),
        (["data", "info", "doses.csv", "--obs", "opps_*", "--action", "dose", "--reward", "reward", "--terminal", "died"], "opps_"),
    ],
)
def test_what_cannot_be_done_exits_with_1(topstitch, argv, said):
    code, out, err = topstitch(*argv)
    assert (code, out) == (1, "")
    assert err.startswith(f"topstitch {argv[0]}: ") and said in err


def test_tracebacks_on_demand(topstitch, monkeypatch):
    monkeypatch.setenv("TOPSTITCH_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no such file"):
        topstitch("data", "info", "nothing.csv")


def test_interruption(topstitch, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("topstitch.algos.find", interrupt)
    assert topstitch("cite", "iql") == (130, "", "\ntopstitch cite: interrupted.\n")


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m topstitch algorithms --json | head -1; exit ${{PIPESTATUS[0]}}"
    out = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (out.returncode, out.stdout, out.stderr) == (0, "[\n", "")


def test_nothing_is_imported_that_is_not_needed():
    script = """if True:
        import sys
        import topstitch
        from topstitch.cli import main
        slow = {"jax", "numpy", "tyro", "rich", "polars", "scipy", "gymnasium"}
        assert not slow & set(sys.modules), slow & set(sys.modules)
        main(["--help"]); main(["--version"]); main(["evalute"]); main(["train", "--help"])
        assert not {"jax", "numpy", "polars", "gymnasium"} & set(sys.modules)
        topstitch.ALGORITHMS
        assert "jax" not in sys.modules
        sys.exit(main([]))
    """
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert out.returncode == 2, out.stderr


def test_the_module_is_the_command():
    out = subprocess.run([sys.executable, "-m", "topstitch", "--version"], capture_output=True, text=True)
    assert (out.returncode, out.stdout) == (0, package.__version__ + "\n")
    assert cli.__doc__
