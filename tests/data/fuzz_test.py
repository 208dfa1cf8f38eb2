"""Whatever a file holds: it is read, or refused in our words; it never stops the program, hangs it, or loses rows in silence."""

import csv
import io
import json
import os
from pathlib import Path

import formats_test as published
import log_test
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from table_test import stays, write

from topstitch.data import BadData
from topstitch.data.formats.log import write_log
from topstitch.data.intake import import_table
from topstitch.data.intake.formula import formula
from topstitch.data.intake.guess import guess
from topstitch.data.intake.rules import Rules
from topstitch.data.intake.sources import parts
from topstitch.data.read import read
from topstitch.decisions import safe

SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ROLES = dict(obs="obs_*", action="action", reward="reward", episode="stay", time="hour", terminal="done")


def whole_files(folder) -> dict[str, bytes]:
    """A sound file of every kind that is read."""
    files = {ending: write(stays(), folder / f"log.{ending}") for ending in ("csv", "csv.gz", "tsv", "parquet", "arrow", "feather")}
    files |= {
        "d4rl.hdf5": published.hdf5(folder / "d4rl.hdf5", published.d4rl()),
        "d3rlpy.h5": published.hdf5(folder / "d3rlpy.h5", published.d3rlpy()),
    }
    files["npz"] = published.npz(folder / "log.npz", published.ogbench())
    write_log(folder / "a.log.safetensors", log_test.LOGS["choices"]())
    files["log.safetensors"] = folder / "a.log.safetensors"
    return {ending: Path(path).read_bytes() for ending, path in files.items()}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return whole_files(tmp_path_factory.mktemp("sound"))


def tried(path) -> None:
    """Read and import; only our own errors may come out."""
    table = not str(path).endswith((".hdf5", ".h5", ".npz", ".safetensors"))
    for reader in (read, import_table) if table else (read,):
        try:
            log = reader(path, **(ROLES if table else {}))
        except BadData:
            continue
        assert log.steps > 0 and np.isfinite(log.reward).all()


ENDINGS = ["csv", "csv.gz", "tsv", "parquet", "arrow", "feather", "d4rl.hdf5", "d3rlpy.h5", "npz", "log.safetensors"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_any_bytes(tmp_path, ending, sound):
    path = tmp_path / f"log.{ending}"

    @settings(max_examples=25, deadline=None)
    @given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: sound[ending][:12] + tail)))
    def fuzz(data):
        path.write_bytes(data)
        tried(path)

    fuzz()


@pytest.mark.parametrize("ending", ENDINGS)
def test_sound_files_with_something_changed(tmp_path, ending, sound):
    path, whole = tmp_path / f"log.{ending}", sound[ending]
    place = st.integers(0, len(whole) - 1)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.tuples(place, st.binary(min_size=1, max_size=4), st.booleans()), min_size=1, max_size=3), st.none() | place)
    def fuzz(edits, cut):
        data = bytearray(whole)
        for at, piece, insert in edits:
            data[at : at if insert else at + len(piece)] = piece
        path.write_bytes(bytes(data[:cut]))
        tried(path)

    fuzz()


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "damaged").iterdir()), ids=lambda path: path.name)
def test_what_fuzzing_has_found(path):
    """Inputs that once ended the program, or came through as an error that is not ours (`benchmarks/fuzz.py`)."""
    with pytest.raises(BadData):
        read(path, **(ROLES if path.suffix in (".parquet", ".arrow") else {}))
    tried(path)


CELL = st.one_of(
    st.sampled_from(["", " ", "1", "0", "-1", "1.5", "NaN", "nan", "inf", "-Infinity", "1e400", "99999999999999999999999", "0x10", "1_000", "1,5", "TRUE", "yes", "null", "NA",
                     '"', '""', "a\nb", "\r", "=1+1", "@SUM(A1)", "\ufeff", "é", "🙂", "..", "/etc/passwd", "2024-01-01", "24:61", "\x1b[31m"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5), st.integers(-3, 3).map(str), st.floats(-9, 9).map(repr),
)  # fmt: skip


IMPORTED = []
"How many rows of fuzzed tables were imported: some have to be."
KINDS = {
    "stay": st.integers(0, 2).map(str), "hour": st.integers(0, 9).map(str), "obs_1": st.floats(-9, 9).map(repr), "action": st.sampled_from(["a", "=b", "2"]),
    "reward": st.integers(-3, 3).map(str), "done": st.sampled_from(["0", "0", "1", "false"]),
}  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_table_is_imported_with_an_account_or_refused(tmp_path_factory, data):
    """Odd names, odd cells, odd line ends: rows in are rows kept and rows dropped by name."""
    folder = tmp_path_factory.mktemp("fuzz")
    odd = data.draw(st.sets(st.sampled_from(list(KINDS)), max_size=2))
    names = [data.draw(CELL) if name in odd and data.draw(st.booleans()) else name for name in KINDS] + data.draw(
        st.lists(CELL, max_size=2)
    )
    kinds = [CELL if name in odd else kind for name, kind in KINDS.items()] + [CELL] * (len(names) - len(KINDS))
    rows = data.draw(st.lists(st.tuples(*kinds), max_size=8))
    text = io.StringIO()
    csv.writer(text, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"]))).writerows([names, *rows])
    path = folder / "log.csv"
    path.write_bytes(data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.getvalue().encode())
    stay, hour, seen, did, got, done = [name.strip() or f"column {j + 1}" for j, name in enumerate(names[:6])]
    roles = dict(obs=data.draw(st.sampled_from([seen, [seen, *names[6:]]])), action=did, reward=data.draw(st.sampled_from([got, f"-abs(col({got!r}))"])),
                 episode=data.draw(st.sampled_from(["row", stay, stay, [stay, "file"]])), terminal=data.draw(st.sampled_from(["always", "never", done])),
                 time=data.draw(st.sampled_from([None, hour])), missing=data.draw(st.sampled_from([None, "drop-episode", "indicator", "forward-fill", "fill:0"])),
                 repeated=data.draw(st.sampled_from(["same", "first", "last"])), bins=data.draw(st.none() | st.integers(2, 5)), reward_at=data.draw(st.sampled_from(["same", "next"])))  # fmt: skip
    try:
        log = import_table(path, **roles, out=folder / "D")
    except BadData:
        log = None
    if log is None:
        assert [p.name for p in folder.iterdir()] == ["log.csv"]
        return
    IMPORTED.append(len(rows))
    account = json.loads((folder / "D" / "import.json").read_text())
    assert account["rows"]["read"] == len(rows) == account["rows"]["kept"] + sum(account["rows"]["dropped"].values())
    assert log.steps == account["rows"]["kept"] and log.codec.decode(log.action).height == log.steps
    assert len(log.obs_names) == log.spec.obs.size


def test_some_fuzzed_tables_were_imported():
    assert sum(IMPORTED) > 20


@SOME
@given(st.data())
def test_any_table_can_be_guessed_about(tmp_path_factory, data):
    names = data.draw(
        st.lists(
            st.one_of(CELL, st.sampled_from(["t", "stay_id", "reward", "action", "action_2", "done", "next_obs", "p"])),
            min_size=1,
            max_size=6,
        )
    )
    rows = data.draw(st.lists(st.lists(CELL, min_size=len(names), max_size=len(names)), min_size=1, max_size=6))
    path = tmp_path_factory.mktemp("fuzz") / "log.csv"
    text = io.StringIO()
    csv.writer(text).writerows([names, *rows])
    path.write_text(text.getvalue(), newline="")
    try:
        found = guess(parts(path, query=None, separator=None, encoding="utf-8", memory=1 << 24, scratch=path.parent), Rules())
    except BadData:
        return
    taken = [name for role in ("episode", "obs", "action", "mask") for name in getattr(found.rules, role) if name != "row"]
    assert len(set(taken)) == len(taken) and not set(taken) & set(found.left)


PIECES = st.sampled_from(["a", "b", "s", "f", "'x'", "1", "2.5", "+", "-", "*", "/", "**", "%", "<", "==", "in", "and", "or", "not ", "(", ")", ",", "where", "min", "max", "clip", "log", "missing",
                          "col", "[", "]", ".", "__class__", "lambda x:", "1e999", "import", "é", "\\", "#", "\n", "\x00", "if", "else", ":="])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map(" ".join)))
@example(f"max({', '.join(['a', '-a'] * 10)})")
def test_any_formula(text):
    frame = pl.DataFrame({"a": [1.0, None, -2.0], "b": [0.0, 1.0, 2.0], "s": ["x", None, "y"], "f": [True, False, None]})
    try:
        made = formula(text, {"a": "number", "b": "number", "s": "text", "f": "flag"}, "reward")
    except BadData:
        return
    value = frame.with_columns(made.value.alias("out"))["out"]
    assert value.dtype == {"number": pl.Float64, "flag": pl.Boolean, "text": pl.String}[made.type] or value.null_count() == 3


@pytest.mark.parametrize(("opened", "closed"), [("max(a, ", ")"), ("where(", ", a, b)"), ("0 < (", ") < 1"), ("(", " in (1, 2))")])
def test_formulas_that_would_grow_without_bounds_are_refused(opened, closed):
    """Each level doubles what Polars would be asked for."""
    made = lambda deep: formula(opened * deep + "a" + closed * deep, {"a": "number", "b": "number"}, "reward")
    assert made(3).columns
    with pytest.raises(BadData, match="repeats its parts too often"):
        made(14)


PLAIN = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*Rules.__dataclass_fields__, "nothing"]), PLAIN, max_size=3))
@example({"encoding": {}})
def test_any_rules(plain):
    try:
        rules = Rules.of(plain)
    except BadData:
        return
    assert rules == Rules.of(rules.plain())


def test_tricks_with_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(stays(), tmp_path / "log.csv")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    os.symlink("loop.csv", tmp_path / "loop.csv")
    os.symlink("log.csv", tmp_path / "link.csv")
    (tmp_path / "round").mkdir()
    os.symlink(tmp_path, tmp_path / "round" / "again", target_is_directory=True)
    write(stays(), tmp_path / "round" / "=cmd|' calc'!A0 \x1b[31m.csv")
    for name in ("pipe.csv", "loop.csv", "folder.csv", "a\0b.csv", "x" * 300 + ".csv", "", "/dev/zero", "/dev/null", "nowhere/../log.tsv"):
        for reader in (read, import_table):
            with pytest.raises(BadData):
                reader(name, **ROLES)
    assert import_table("link.csv", **ROLES).steps == 8
    assert import_table("round", **ROLES).steps == 8  # a link to a folder is not followed
    with pytest.raises(BadData, match="given 2 times"):
        import_table(["log.csv", "link.csv"], **ROLES)
    frame = stays().rename({"obs_1": "obs_../../x", "obs_2": "obs_/etc/passwd", "name": "info/../../name"})
    before = sorted(tmp_path.rglob("*"))
    import_table(frame, **ROLES, info="info/../../name", out=tmp_path / "D")
    assert {path for path in set(tmp_path.rglob("*")) - set(before)} == {tmp_path / "D"} | {
        tmp_path / "D" / name for name in ("import.json", "log.log.safetensors", "roles.toml")
    }
    assert set(read(tmp_path / "D").obs_names) == {"obs_../../x", "obs_/etc/passwd", "obs_10"}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.sampled_from("=+-@\t\r1a.e"), max_size=4), min_size=1, max_size=5))
def test_spreadsheets_run_nothing_that_we_write(cells):
    written = safe(pl.DataFrame({"=cmd": cells, "n": range(len(cells))})).write_csv()
    for row in csv.reader(io.StringIO(written)):
        for cell in row:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or is_number(cell), written


def is_number(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False
