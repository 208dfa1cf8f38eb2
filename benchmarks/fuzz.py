"""Coverage-guided fuzzing of everything that reads: only `BadData` may come out, and nothing may hang.

    pip install -e '.[fuzz]'
    python benchmarks/fuzz.py csv -max_total_time=60        any libFuzzer option; the last line says how many runs there were
    python benchmarks/fuzz.py import crash-0123…            one input again

Targets: csv, parquet, arrow, hdf5, npz, log (the readers), import (a CSV file through the whole import), formula, roles. Inputs start from
sound files. https://github.com/google/atheris
"""

import contextlib
import io
import os
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["topstitch"], enable_loader_override=False):
    from topstitch.data.episodes import BadData
    from topstitch.data.formats.log import write_log
    from topstitch.data.formats.table import read_table
    from topstitch.data.intake import import_table
    from topstitch.data.intake.formula import formula
    from topstitch.data.intake.rules import Rules
    from topstitch.data.intake.sources import parts
    from topstitch.data.read import read

import h5py
import numpy as np
import polars as pl

ROLES = dict(obs="obs_*", action="action", reward="reward", episode="stay", time="hour", terminal="done")
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))


def stays() -> pl.DataFrame:
    n = np.arange(6)
    return pl.DataFrame(
        {
            "stay": n // 3,
            "hour": n % 3,
            "obs_1": n / 2,
            "obs_2": [f"w{i % 2}" for i in n],
            "action": n % 2,
            "reward": n * 1.5,
            "done": n % 3 == 2,
        }
    )


def table(ending: str):
    """Through both readers of tables: the strict one, and the batches that an import takes."""
    path = FOLDER / f"log.{ending}"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        for reader in (lambda: read_table(path, **ROLES), batches):
            allowed(reader)

    def batches() -> None:
        for part in parts(path, query=None, separator=None, encoding="utf-8", memory=1 << 24, scratch=FOLDER):
            for frame, share in part.read(part.names, 1 << 16):
                assert frame.columns == part.names and 0 <= share <= 1

    return one


def file(ending: str):
    path = FOLDER / f"log.{ending}"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        allowed(lambda: read(path))

    return one


def imported(data: bytes) -> None:
    path = FOLDER / "log.csv"
    path.write_bytes(data)
    allowed(lambda: import_table(path, **ROLES, missing="forward-fill", repeated="last"))


def formulas(data: bytes) -> None:
    text, frame = data.decode(errors="replace"), pl.DataFrame({"a": [1.0, None], "s": ["x", None], "f": [True, None]})
    allowed(lambda: frame.with_columns(formula(text, {"a": "number", "s": "text", "f": "flag"}, "reward").value.alias("out")))


def roles(data: bytes) -> None:
    (FOLDER / "roles.toml").write_bytes(data)
    allowed(lambda: Rules.read(FOLDER / "roles.toml"))


def allowed(call) -> None:
    with contextlib.suppress(BadData):
        call()


def seeds(target: str) -> list[bytes]:
    """Sound inputs to start from."""
    buffer = io.BytesIO()
    if target in ("csv", "import"):
        return [stays().write_csv().encode(), stays().write_csv().replace(",w1,", ',"w,""1\n",').encode()]
    if target == "parquet":
        stays().write_parquet(buffer, compression="uncompressed")
    elif target == "arrow":
        stays().write_ipc(buffer, compression="uncompressed")
        return [buffer.getvalue(), streamed()]
    elif target == "hdf5":
        with h5py.File(buffer, "w") as file:
            for name, column in {
                "observations": np.zeros((4, 2)),
                "actions": np.zeros((4, 1)),
                "rewards": np.zeros(4),
                "terminals": [0, 1, 0, 0],
                "timeouts": [0, 0, 0, 1],
            }.items():
                file[name] = column
    elif target == "npz":
        np.savez(
            buffer,
            observations=np.zeros((4, 2), np.float32),
            actions=np.zeros((4, 1), np.float32),
            terminals=np.array([0, 1, 0, 1], np.float32),
        )
    elif target == "log":
        write_log(FOLDER / "seed.log.safetensors", read_table(stays().drop("obs_2"), **ROLES))
        return [(FOLDER / "seed.log.safetensors").read_bytes()]
    elif target == "formula":
        return [
            b"where(missing(a), 0, 2 * a - log(1 + abs(a)))",
            b's in ("x", "y") and not f or 0 < a <= 1',
            b'max(a, -1, clip(col("a"), 0, 1))',
        ]
    elif target == "roles":
        return [
            Rules.of({"obs": ["a"], "missing": {"a": "fill:1"}, "bins": {"b": 5}, "one_hot": {"c": ["x"]}, "reward": "a"}).toml().encode()
        ]
    return [buffer.getvalue()]


def streamed() -> bytes:
    buffer = io.BytesIO()
    stays().write_ipc_stream(buffer)
    return buffer.getvalue()


TARGETS = {"csv": table("csv"), "parquet": table("parquet"), "arrow": table("arrow"), "hdf5": file("hdf5"), "npz": file("npz"),
           "log": file("log.safetensors"), "import": imported, "formula": formulas, "roles": roles}  # fmt: skip


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(__doc__)
    target = sys.argv.pop(1)
    warnings.simplefilter("ignore")
    corpus = FOLDER / "seeds"
    corpus.mkdir()
    for i, seed in enumerate(seeds(target)):
        (corpus / str(i)).write_bytes(seed)
    inputs = [] if any(os.path.isfile(argument) for argument in sys.argv[1:]) else [str(corpus)]
    atheris.Setup([*sys.argv, "-timeout=20", "-max_len=8192", *inputs], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
