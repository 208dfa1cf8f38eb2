"""Small logs on disk, and the command line in this process."""

import numpy as np
import pytest
from typed import ROLES, SMALL

from topstitch.cli import main


def write(path, action) -> None:
    rng, n = np.random.default_rng(0), 60
    seen = lambda: ",".join(f"{x:.3f}" for x in rng.normal(size=4))
    rows = [f"{i // 6},{i % 6},{seen()},{action(rng)},{rng.normal():.3f},{int(i % 12 == 11)}" for i in range(n)]
    path.write_text("\n".join(["stay,hour,obs_a,obs_b,obs_c,obs_d,dose,reward,died", *rows]) + "\n")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with choices.csv (0 or 1) and doses.csv (-1 to 1)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")  # JAX has started long ago, and its cache is not the test's business
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path / "choices.csv", lambda rng: rng.integers(2))
    write(tmp_path / "doses.csv", lambda rng: f"{rng.uniform(-1, 1):.3f}")
    return tmp_path


@pytest.fixture
def topstitch(here, capsys):
    """Run a command line: (exit code, standard output, standard error)."""

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(argv))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def train(topstitch):
    return lambda name, log, *more: topstitch("train", name, "--data", log, *ROLES, *SMALL, *more)
