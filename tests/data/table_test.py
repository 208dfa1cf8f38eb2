"""A table is read as it stands, or refused with the place of the fault."""

import contextlib
import gzip
import random
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topstitch.core import Box, Discrete
from topstitch.data import BadData
from topstitch.data.formats.table import read_table

ROLES = dict(obs="obs_*", action="action", reward="reward", episode="stay", time="hour", terminal="done")


def stays(lengths=(3, 2, 4)) -> pl.DataFrame:
    """Three stays; the second is cut off."""
    n = sum(lengths)
    last = np.cumsum(lengths) - 1
    done = np.isin(np.arange(n), np.delete(last, 1) if len(last) > 1 else last)
    return pl.DataFrame(
        {
            "stay": np.repeat(np.arange(len(lengths)) + 10, lengths),
            "hour": np.concatenate([np.arange(k) for k in lengths]),
            "obs_1": np.arange(n) / 4,
            "obs_2": np.arange(n) * 2.0,
            "obs_10": -np.arange(n) * 1.5,
            "action": np.arange(n) % 3,
            "reward": np.arange(n) / 2 - 1,
            "done": done,
            "p": np.full(n, 0.25),
            "name": [f"row {i}" for i in range(n)],
        }
    )


def write(frame: pl.DataFrame, path):
    path = str(path)
    if path.endswith((".csv.gz", ".tsv.gz")):
        with gzip.open(path, "wb") as file:
            file.write(frame.write_csv(separator="\t" if ".tsv" in path else ",").encode())
    elif path.endswith((".csv", ".tsv")):
        frame.write_csv(path, separator="\t" if path.endswith("tsv") else ",")
    elif path.endswith((".parquet", ".pq")):
        frame.write_parquet(path)
    elif path.endswith(".arrow"):
        frame.write_ipc_stream(path)
    else:
        frame.write_ipc(path)
    return path


def equal(a, b) -> bool:
    return a.fingerprint() == b.fingerprint() and np.array_equal(a.ids, b.ids)


def refused(*words, source, **roles):
    """Reading fails, and the message has all the words."""
    with pytest.raises(BadData) as caught:
        read_table(source, **(ROLES | roles))
    message = str(caught.value)
    for word in words:
        assert str(word) in message, message
    return message


def with_cell(column: str, row: int, cell: str, frame=None) -> pl.DataFrame:
    frame = stays() if frame is None else frame
    cells = frame[column].cast(pl.String).to_list()
    cells[row] = cell
    return frame.with_columns(pl.Series(column, cells, dtype=pl.String))


# what is read -----------------------------------------------------------------------------------------------------------


def test_a_table_becomes_episodes():
    log = read_table(stays(), **ROLES, probability="p", info="name")
    assert log.spec.obs == Box(3)
    assert log.spec.action == Discrete(3)
    assert log.ids.tolist() == [10, 11, 12]
    assert log.lengths.tolist() == [3, 1, 4]  # the last step of the stay that was cut led to nothing known
    assert log.terminal.tolist() == [False, False, True, False, False, False, False, True]
    assert log.obs[:, 2].tolist() == [-1.5 * i for i in (0, 1, 2, 3, 5, 6, 7, 8)]  # obs_10 comes last
    assert log.next_obs[3].tolist() == [1.0, 8.0, -6.0]
    assert log.reward[:3].tolist() == [-1.0, -0.5, 0.0]
    assert np.allclose(log.log_prob, np.log(0.25))
    assert log.info["name"].tolist() == [f"row {i}" for i in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert log.time.tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert any("1 of 3 episodes" in note for note in log.notes)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "tsv.gz", "parquet", "pq", "arrow", "feather", "ipc"])
def test_every_file_holds_the_same(tmp_path, ending):
    path = write(stays(), tmp_path / f"log.{ending}")
    log = read_table(path, **ROLES, probability="p", info=["name"])
    assert equal(log, read_table(stays(), **ROLES, probability="p", info=["name"]))
    assert log.source == f"log.{ending}"


def test_frames_of_all_kinds_hold_the_same():
    frame = stays()
    expected = read_table(frame, **ROLES, info="name")
    for other in (frame.to_arrow(), frame.to_pandas(), frame.lazy()):
        assert equal(read_table(other, **ROLES, info="name"), expected)


def test_files_follow_one_another(tmp_path):
    frame = stays()
    paths = [write(frame[:4], tmp_path / "a.csv"), write(frame[4:], tmp_path / "b.parquet")]  # the cut goes through a stay
    assert equal(read_table(paths, **ROLES), read_table(frame, **ROLES))
    broken = [paths[0], write(with_cell("reward", 2, "oops", frame[4:]), tmp_path / "c.csv")]
    refused("c.csv", "'reward'", "row 3 (line 4)", "'oops'", source=broken)
    refused("b.parquet", "'stay'", "row 1: episode 11 comes back", source=[paths[1], paths[1]], terminal="never")
    other = write(frame[4:].drop("obs_2"), tmp_path / "d.csv")
    refused("d.csv", "'obs'", "obs_2", source=[paths[0], other])


def test_without_an_episode_column_flags_cut():
    frame = stays().drop("stay")
    log = read_table(frame, **(ROLES | {"episode": None, "time": None}))
    assert len(log) == 2
    assert log.ids is None
    cut = frame.with_columns(truncated=pl.Series([0, 0, 0, 0, 1, 0, 0, 0, 1]))
    log = read_table(cut, **(ROLES | {"episode": None, "truncated": "truncated"}))
    assert log.lengths.tolist() == [3, 1, 4]
    assert log.terminal[-1]  # both marks in one row: it truly ended


def test_ends_said_in_words():
    always = read_table(stays(), **(ROLES | {"terminal": "always"}))
    assert always.lengths.tolist() == [3, 2, 4]
    assert always.terminal[always.stops - 1].all()
    never = read_table(stays(), **(ROLES | {"terminal": "never"}))
    assert never.lengths.tolist() == [2, 1, 3]
    assert not never.terminal.any()
    refused("'terminal' is not given", 'terminal="always"', source=stays(), terminal=None)
    refused("truncated", source=stays().with_columns(cut=False), terminal="always", truncated="cut")


def test_kinds_of_actions():
    frame = stays().with_columns(x=pl.Series(np.linspace(-3, 3, 9)), y=pl.Series(np.linspace(0, 1, 9)))
    log = read_table(frame, **(ROLES | {"action": ["x", "y"], "low": [-4, 0], "high": [4, 1]}))
    assert log.spec.action == Box(2)
    assert log.view.action.scale.tolist() == [4, 0.5]
    assert read_table(frame, **(ROLES | {"action": "x"})).spec.action == Box(1)
    assert read_table(frame, **ROLES, actions=7).spec.action == Discrete(7)
    assert read_table(frame, **ROLES, low=0, high=2).spec.action == Box(1)
    decimals = frame.with_columns(action=pl.col("action").cast(pl.Float64))
    assert read_table(decimals, **ROLES, actions=3).spec.action == Discrete(3)
    log = read_table(decimals, **ROLES)
    assert log.spec.action == Box(1)
    assert any("actions=N" in note for note in log.notes)


def test_states_and_masks():
    frame = stays().with_columns(state=pl.col("hour"), m_0=pl.lit(True), m_1=pl.lit(True), m_2=pl.lit(True), m_10=pl.lit(False))
    log = read_table(frame, **(ROLES | {"obs": "state"}), states=4, mask="m_*")
    assert log.spec.obs == Discrete(4)
    assert log.spec.action == Discrete(4)
    assert log.mask.tolist() == [[True, True, True, False]] * 8
    refused("'state'", "row 9", "3", "states=4", source=frame, obs="state", states=3)
    forbidden = frame.with_columns(m_1=pl.Series([True] * 4 + [False] * 5))
    refused("'m_1'", "row 5", "action 1", source=forbidden, mask="m_*")
    refused("each of 3 actions", source=frame, mask="m_*", actions=3)
    refused("'m_1'", "row 2", "2", source=frame.with_columns(m_1=pl.Series([1, 2] + [1] * 7)), mask="m_*")
    refused("mask belongs to a choice", source=frame, mask="m_*", action=["action", "p"])


def test_dates_are_times():
    start = datetime(2024, 1, 1)
    frame = stays().with_columns(hour=pl.Series([start + timedelta(hours=i) for i in range(9)]))
    log = read_table(frame, **ROLES)
    assert np.diff(log.time[:3]).tolist() == [3600, 3600]
    text = frame.with_columns(hour=pl.col("hour").dt.to_string("%Y-%m-%d %H:%M:%S"))
    assert equal(read_table(text, **ROLES), log)
    refused("'hour'", "row 4", "'soon'", source=with_cell("hour", 3, "soon", text))
    back = frame.with_columns(hour=pl.Series([start + timedelta(hours=i) for i in (0, 2, 1, 3, 4, 5, 6, 7, 8)]))
    refused("'hour'", "row 3", "episode 10", "02:00", "01:00", source=back)


def test_quoted_cells_may_hold_commas_and_lines(tmp_path):
    frame = stays().with_columns(name=pl.Series(["a, b", "two\nlines"] + ["c"] * 7))
    path = write(frame, tmp_path / "log.csv")
    assert read_table(path, **ROLES, info="name").info["name"][:2].tolist() == ["a, b", "two\nlines"]
    path = write(with_cell("reward", 5, "?", frame), tmp_path / "bad.csv")
    refused("row 6 (line 8)", "'?'", source=path)


def test_harmless_habits_of_csv(tmp_path):
    text = stays().write_csv()
    for name, data in {
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "windows": text.replace("\n", "\r\n").encode(),
        "blank lines behind": (text + "\n\n").encode(),
        "spaces": "\n".join([text.splitlines()[0], *(line.replace(",", ", ") for line in text.splitlines()[1:]), ""]).encode(),
    }.items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(data)
        assert equal(read_table(path, **ROLES), read_table(stays(), **ROLES)), name
    path = tmp_path / "open.csv"
    path.write_text(text.rstrip("\n"))
    assert any("cut short" in note for note in read_table(path, **ROLES).notes)


# what is refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["obs_2", "reward", "hour", "p", "stay", "done", "action"])
def test_empty_cells_are_named(tmp_path, column, ending):
    frame = stays().with_columns(pl.when(pl.int_range(pl.len()) == 6).then(None).otherwise(pl.col(column)).alias(column))
    where = "row 7 (line 8)" if ending == "csv" else "row 7:"
    refused(f"log.{ending}", repr(column), where, "empty", source=write(frame, tmp_path / f"log.{ending}"), probability="p")


@pytest.mark.parametrize("cell", ["n/a", "NaN", "inf", "1,5", "1_000", "--", "1e400"])
@pytest.mark.parametrize("column", ["obs_10", "reward", "p"])
def test_cells_that_are_no_number_are_named(tmp_path, column, cell):
    refused(repr(column), "row 4 (line 5)", source=write(with_cell(column, 3, cell), tmp_path / "log.csv"), probability="p")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_numbers_that_are_not_finite_are_named(value):
    frame = stays().with_columns(pl.Series("obs_2", [0.0] * 5 + [value] + [0.0] * 3))
    refused("table", "'obs_2'", "row 6", "finite", source=frame)
    if not np.isinf(value):  # pandas writes a missing number as NaN
        refused("'obs_2'", "row 6", source=frame.to_pandas())


def test_words_for_actions_need_a_code(tmp_path):
    frame = stays().with_columns(action=pl.Series(["low", "high", "low"] * 3))
    for source in (frame, write(frame, tmp_path / "log.csv"), frame.with_columns(pl.col("action").cast(pl.Categorical))):
        refused("'action'", "row 1", "'low'", "integers 0 … n-1", source=source)
    refused("'name'", "0/1 column", source=frame, obs=["obs_1", "name"], action="p")


def test_actions_outside_their_set():
    refused("'action'", "row 3", "found 2", "actions=3", source=stays(), actions=2)
    frame = stays().with_columns(action=pl.Series([0, -1] * 4 + [0]))
    refused("'action'", "row 2", "-1", source=frame)
    refused("'action'", "row 1", "1.5", source=stays().with_columns(action=pl.lit(1.5)), actions=3)
    refused("'action'", "row 2", "10000000000", source=stays().with_columns(action=pl.Series([0, 10**10] * 4 + [0])))
    refused("'p'", "row 1", "0.25", source=stays(), action="p", low=0.5, high=1)
    refused("one number", source=stays(), action="p", low=[0, 0], high=1)
    refused("'low' must lie below", source=stays(), action="p", low=1, high=0)
    refused("only one", source=stays(), action="p", low=1)


def test_probabilities_of_what_was_done():
    for p in (0.0, 1.5, -0.1):
        refused("'p'", "row 2", p, source=stays().with_columns(p=pl.Series([0.5, p] + [0.5] * 7)), probability="p")
    refused("'p'", "row 1", "logarithm", source=stays(), log_probability="p")
    log = read_table(stays().with_columns(p=pl.lit(-1.5)), **ROLES, log_probability="p")
    assert (log.log_prob == -1.5).all()
    assert (
        read_table(stays().with_columns(p=pl.lit(3.0)), **(ROLES | {"action": "obs_1", "obs": "obs_10"}), probability="p").log_prob > 1
    ).all()
    refused("both", source=stays(), probability="p", log_probability="obs_10", obs="obs_1")


def test_flags_are_strict(tmp_path):
    for cells in (["FALSE"] * 8 + ["TRUE"], ["0"] * 8 + ["1"], ["false"] * 8 + ["true"], ["0.0"] * 8 + ["1.0"]):
        path = write(stays().with_columns(done=pl.Series(cells)), tmp_path / "log.csv")
        assert read_table(path, **ROLES).terminal.sum() == 1
    for cell in ("2", "yes", "-1"):
        refused("'done'", "row 9 (line 10)", cell, source=write(with_cell("done", 8, cell), tmp_path / "log.csv"))
    refused("'done'", "row 2", "goes on", source=stays().with_columns(done=pl.Series([0, 1] + [0] * 7)))
    refused("'cut'", "row 1", "goes on", source=stays().with_columns(cut=pl.Series([1] + [0] * 8)), truncated="cut")


def test_an_episode_may_not_come_back():
    frame = pl.concat([stays()[:5], stays()[:1], stays()[5:]])
    refused("'stay'", "row 6", "episode 10", "row 3", source=frame, terminal="never")


def test_time_must_increase():
    frame = stays().with_columns(hour=pl.Series([0, 2, 2, 0, 1, 0, 1, 2, 3]))
    refused("'hour'", "row 3", "episode 10", "2 repeats 2", source=frame)
    frame = stays().with_columns(hour=pl.Series([0, 1, 2, 0, 1, 0, 5, 2, 3]))
    refused("'hour'", "row 8", "episode 12", "2 comes after 5", source=frame)


def test_columns_that_are_not_there():
    refused("'rewrd'", "'reward'", source=stays(), reward="rewrd")
    refused("'obs-*'", "'obs_1'", source=stays(), obs="obs-*")
    refused("'obs' and as 'reward'", "'obs_1'", source=stays(), reward="obs_1")
    refused("'reward'", "names 3", source=stays(), reward="obs_*")
    refused("one role", "narrower wildcard", source=stays(), obs="*")
    log = read_table(stays(), **(ROLES | {"obs": ["hour", "obs_1"]}))  # by name, time may be observed
    assert log.spec.obs == Box(2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [*lines[:3], lines[3].rsplit(",", 1)[0], *lines[4:]], ["row 3 (line 4)", "10 fields", "found 9"]),
        (lambda lines: [*lines[:3], lines[3] + ",1", *lines[4:]], ["row 3 (line 4)", "10 fields", "found 11"]),
        (lambda lines: [*lines[:3], "", *lines[3:]], ["row 3 (line 4)", "blank"]),
        (lambda lines: [lines[0]], ["only a header"]),
        (lambda lines: [], ["empty"]),
        (lambda lines: [lines[0].replace("obs_2", "obs_1"), *lines[1:]], ["'obs_1'", "more than one column: 3 and 4"]),
        (lambda lines: [line.replace(",", ";") for line in lines], ["';'"]),
        (lambda lines: [*lines[:3], '"' + lines[3], *lines[4:]], ["quotation mark"]),
    ],
)
def test_csv_that_is_no_table(tmp_path, change, words):
    path = tmp_path / "log.csv"
    path.write_text("\n".join(change(stays().write_csv().splitlines())))
    refused("log.csv", *words, source=path)


def test_foreign_files(tmp_path):
    (tmp_path / "log.parquet").write_bytes(b"not parquet at all")
    refused("log.parquet", "Parquet", source=tmp_path / "log.parquet")
    (tmp_path / "log.csv").write_bytes(stays().write_csv().encode("utf-16"))
    refused("log.csv", "UTF-8", source=tmp_path / "log.csv")
    (tmp_path / "log.csv.gz").write_bytes(b"stay,hour\n1,2\n")
    refused("log.csv.gz", "compressed", source=tmp_path / "log.csv.gz")
    for name in ("log.arrow", "log.pq", "log.csv", "log.csv.gz"):
        (tmp_path / name).write_bytes(b"")
        refused(name, "empty", source=tmp_path / name)
    refused("lgo.csv", "'log.csv'", source=tmp_path / "lgo.csv")
    with pytest.raises(BadData, match="list of paths"):
        read_table(3, **ROLES)


@pytest.mark.parametrize("ending", ["parquet", "feather", "arrow", "csv.gz"])
def test_files_cut_short_or_damaged(tmp_path, ending):
    """What is damaged is refused in our words, or happens to hold a table all the same; nothing else comes out."""
    path = tmp_path / f"log.{ending}"
    data = Path(write(stays((30, 20, 40)), path)).read_bytes()
    for cut in np.linspace(0, len(data) - 1, 15).astype(int):
        path.write_bytes(data[:cut])
        if ending == "arrow":  # a stream has no end mark: what was whole before the cut may stand
            try:
                read_table(path, **ROLES)
            except BadData:
                continue
        else:
            refused(f"log.{ending}", source=path)
    flips = random.Random(0)
    for _ in range(60):
        broken = bytearray(data)
        broken[flips.randrange(len(data))] ^= 1 << flips.randrange(8)
        path.write_bytes(bytes(broken))
        with contextlib.suppress(BadData):
            read_table(path, **ROLES)


# laws -------------------------------------------------------------------------------------------------------------------

CELLS = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.lists(st.integers(1, 6), min_size=1, max_size=6), st.sampled_from(["csv", "parquet", "feather"]))
def test_writing_and_reading_changes_nothing(tmp_path_factory, data, lengths, ending):
    n = sum(lengths)
    rows = st.lists(CELLS, min_size=n, max_size=n)
    frame = pl.DataFrame(
        {
            "stay": np.repeat(np.arange(len(lengths)), lengths),
            "hour": np.arange(n),
            "obs_1": data.draw(rows),
            "obs_2": data.draw(rows),
            "action": data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)),
            "reward": data.draw(rows),
        }
    )
    path = write(frame, tmp_path_factory.mktemp("laws") / f"log.{ending}")
    log = read_table(path, **(ROLES | {"terminal": "always"}))
    assert log.lengths.tolist() == lengths
    assert np.array_equal(log.obs, frame["obs_1", "obs_2"].to_numpy().astype(np.float32))
    assert np.array_equal(log.reward, frame["reward"].to_numpy().astype(np.float32))
    assert np.array_equal(log.action, frame["action"].to_numpy())
    assert equal(log, read_table(frame, **(ROLES | {"terminal": "always"})))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_bad_cell_is_named_wherever_it_stands(tmp_path_factory, data):
    frame = stays((4, 4, 4))
    column = data.draw(st.sampled_from(["obs_1", "obs_2", "obs_10", "reward", "p"]))
    row = data.draw(st.integers(0, frame.height - 1))
    path = write(with_cell(column, row, "bad", frame), tmp_path_factory.mktemp("laws") / "log.csv")
    refused(repr(column), f"row {row + 1} (line {row + 2})", "'bad'", source=path, probability="p")
