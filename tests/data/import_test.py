"""A stranger's table becomes the log that a tidy one would have given; what was done to get there is counted, or refused in words."""

import dataclasses
import gzip
import json
import sqlite3
import tomllib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_test import stays, write

from topstitch.core import Box, Discrete, MultiDiscrete
from topstitch.data import BadData, Episodes
from topstitch.data.codec import Codec
from topstitch.data.formats.table import read_table
from topstitch.data.intake import import_table, run
from topstitch.data.intake.rules import Rules
from topstitch.data.read import read

ROLES = dict(obs="obs_*", action="action", reward="reward", episode="stay", time="hour", terminal="done")
FEW = settings(max_examples=25, deadline=None)


def same(a: Episodes, b: Episodes) -> None:
    """Equal in all that learning sees, whatever they are called."""
    a, b = (dataclasses.replace(log, codec=None, info={}) for log in (a, b))
    assert (a.spec, a.lengths.tolist()) == (b.spec, b.lengths.tolist())
    assert [str(x) for x in a.ids] == [str(x) for x in b.ids]
    assert set(a.columns()) == set(b.columns())
    for name, column in a.columns().items():
        np.testing.assert_array_equal(column, b.columns()[name], name)


def refused(*words, source, **roles) -> str:
    with pytest.raises(BadData) as caught:
        import_table(source, **(ROLES | roles))
    message = str(caught.value)
    for word in words:
        assert str(word) in message, message
    return message


def mixed() -> pl.DataFrame:
    """Four stays of a made-up ward: words, gaps, doses, dates; the third is cut off."""
    lengths = [3, 2, 4, 3]
    n = sum(lengths)
    stay = np.repeat(["b", "a", "=c", "d"], lengths)
    hours = np.concatenate([np.cumsum([0, 1, 2, 1][:k]) for k in lengths])
    return pl.DataFrame(
        {
            "stay": stay,
            "at": [f"2024-03-{1 + i // 4:02d} {h:02d}:30" for i, h in enumerate(hours)],
            "ward": np.repeat(["east", "west", "east", "north"], lengths),
            "pain": ["mild", "none", "severe", "none"] * 3,
            "lactate": [1.5, None, 2.5, None, 3.0, None, None, 4.0, 1.0, 2.0, None, 3.0],
            "male": np.repeat([True, False, True, True], lengths),
            "dose": [0.0, 0.0, 5.0, 0.0, 2.5, 7.5, 0.0, 10.0, 1.0, 0.0, 3.0, 4.0],
            "drug": ["x", "y", "none"] * 4,
            "cost": np.arange(n) / 2,
            "status": ["", "", "died", "", "home", "", "", "", "", "", "", "died"],
        }
    ).with_columns(at=pl.col("at").str.replace(r"^(.{8})..", "${1}01"))


WARD = dict(episode="stay", time="at", obs=["ward", "lactate", "male"], action="drug", reward="where(missing(status), 0, 10 * (status == 'home')) - cost",
            terminal="not missing(status)", missing={"lactate": "forward-fill"})  # fmt: skip


def test_a_lone_column_of_few_whole_numbers_may_be_a_state(tmp_path):
    rows = pl.DataFrame({"state": np.arange(60) % 6, "action": np.arange(60) // 6 % 2, "reward": 1.0, "age": 0.5 * (np.arange(60) % 6)})
    roles = dict(action="action", reward="reward", terminal="always", episode="row")
    for log in (import_table(rows, obs="state", **roles), read_table(rows.with_row_index("row"), obs="state", **roles)):
        assert [note for note in log.notes if "'state', is taken as an amount" in note and "--states 6" in note]
    for more in ({"obs": "age"}, {"obs": ["state", "age"]}, {"obs": "state", "states": 6}, {"obs": "state", "one_hot": "state"}):
        assert not any("an amount" in note for note in import_table(rows, **roles, **more).notes)


def test_cells_that_hold_several_values_are_named():
    nested = stays().with_columns(obs_2=pl.concat_str(pl.lit('{"hp": '), "obs_1", pl.lit("}")))
    said = refused("column 'obs_2', row 1", 'several values: {"hp": 0.0}', source=nested)
    assert """--query "SELECT *, TRY_CAST(obs_2->>'hp' AS DOUBLE) AS hp FROM 'FILE'\"""" in said
    refused("several values: [1, 2]", source=stays().with_columns(obs_2=pl.lit("[1, 2]")))
    assert import_table(nested, **ROLES, one_hot="obs_2").spec.obs.size == 2 + 9


def test_words_among_numbers_are_all_named():
    strange = stays().with_columns(obs_2=pl.Series(["LOW", "1", "2", "HIGH", "3", "4", "HIGH", "5", "6"]))
    refused("row 1", "found 'LOW' (3 such cells)", "--na 'HIGH' 'LOW'", source=strange)
    assert import_table(strange, **ROLES, na=["HIGH", "LOW"], missing="forward-fill").steps == 8


def test_json_is_read_by_a_query(tmp_path):
    pytest.importorskip("duckdb")
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row | {"state": {"hp": row["obs_1"]}}) for row in stays().to_dicts()))
    refused("--query", "state.hp AS hp", source=tmp_path / "log.jsonl")
    refused("several values a cell", source=(), query=f"SELECT * FROM '{tmp_path}/log.jsonl'", obs="state")
    same(import_table(query=f"SELECT *, state.hp AS hp FROM '{tmp_path}/log.jsonl'", **(ROLES | {"obs": ["hp", "obs_2", "obs_10"]})),
         read_table(stays(), **ROLES))  # fmt: skip


def test_times_of_the_day_are_times():
    clock = stays().with_columns(hour=pl.format("{}:05", pl.col("hour") + 9))
    log = import_table(clock, **ROLES, time_format="%H:%M")
    same(dataclasses.replace(log, time=(log.time - 32700) / 3600), read_table(stays(), **ROLES))
    refused("expected a date", "'9:05'", "--time-format", source=clock)


# the same log from everything that holds it -----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "parquet", "arrow", "feather"])
def test_a_tidy_table_is_read_as_it_stands(tmp_path, ending):
    path = write(stays(), tmp_path / f"log.{ending}")
    log = import_table(path, **ROLES, probability="p", info="name")
    tidy = read_table(path, **ROLES, probability="p", info="name")
    same(log, tidy)
    assert log.ids.dtype == np.int64 and log.source == f"log.{ending}"
    assert log.info["name"].tolist() == tidy.info["name"].tolist()
    assert (log.obs_names, log.action_names) == (("obs_1", "obs_2", "obs_10"), ("0", "1", "2"))


def test_frames_databases_and_queries(tmp_path):
    frame, tidy = stays(), read_table(stays(), **ROLES)
    for source in (frame, frame.lazy(), frame.to_arrow(), frame.to_pandas()):
        same(import_table(source, **ROLES), tidy)
    refused("column 'obs_2' holds objects of Python", source=frame.with_columns(pl.Series("obs_2", [object()] * 9, dtype=pl.Object)))
    with sqlite3.connect(tmp_path / "ward.db") as base:
        base.execute("CREATE TABLE stays (stay, hour, obs_1, obs_2, obs_10, action, reward, done)")
        base.executemany("INSERT INTO stays VALUES (?, ?, ?, ?, ?, ?, ?, ?)", frame.drop("p", "name").rows())
    base.close()
    same(import_table(tmp_path / "ward.db", query="SELECT * FROM stays", **ROLES), tidy)
    with pytest.raises(BadData, match=r"say what to read from it by --query.*FROM stays"):
        import_table(tmp_path / "ward.db", **ROLES)
    for query, words in {
        "SELECT * FROM rooms": "no such table",
        "DELETE FROM stays": "read only",
        "SELECT 1; SELECT 2": "one SELECT",
        "hello": "syntax",
    }.items():
        with pytest.raises(BadData, match=words):
            import_table(tmp_path / "ward.db", query=query, **ROLES)


def test_duckdb_reads_and_nothing_else(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    tidy, path = read_table(stays(), **ROLES), write(stays(), tmp_path / "log.parquet")
    same(import_table(query=f"SELECT * FROM '{path}' ORDER BY stay, hour DESC", **ROLES), tidy)
    with duckdb.connect(str(tmp_path / "ward.duckdb")) as base:
        base.execute(f"CREATE TABLE stays AS SELECT * FROM '{path}'")
    same(import_table(tmp_path / "ward.duckdb", query="SELECT * FROM stays -- all", **ROLES), tidy)
    for query, words in {
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'": "one SELECT", "DROP TABLE stays": "one SELECT", "SELECT 1; SELECT 2": "one SELECT",
        "SELECT * FROM rooms": "rooms", "SELECT * FROM 'https://example.org/a.parquet'": "cannot be answered", "SELEKT": "cannot be answered",
    }.items():  # fmt: skip
        with pytest.raises(BadData, match=words):
            import_table(tmp_path / "ward.duckdb", query=query, **ROLES)
    assert not (tmp_path / "out.csv").exists()


def test_folders_patterns_and_many_files(tmp_path):
    frame = stays()
    (tmp_path / "more").mkdir()
    for i, part in enumerate((frame[:4], frame[4:7], frame[7:])):  # cuts go through stays
        write(part, tmp_path / ("more" if i else ".") / f"day {(2, 10, 11)[i]}.{('csv', 'parquet', 'csv')[i]}")
    (tmp_path / "more" / "README.md").write_text("not a table")
    (tmp_path / ".hidden.csv").write_text("a,b\n")
    log = import_table(tmp_path, **ROLES)
    same(log, read_table(frame, **ROLES))
    assert any("1 files" in note and "README.md" in note for note in log.notes)
    assert any("2 episodes have rows in more than one file" in note and "--episode file stay" in note for note in log.notes)
    same(import_table([tmp_path / "day 2.csv", f"{tmp_path}/more/*.[cp]*"], **ROLES), read_table(frame, **ROLES))
    refused("given 2 times", source=[tmp_path / "day 2.csv", f"{tmp_path}/*.csv"])
    refused("no file fits", source=f"{tmp_path}/*.tsv")
    (tmp_path / "empty").mkdir()
    refused("no table in this folder", source=tmp_path / "empty")
    write(frame[:3].drop("obs_2"), tmp_path / "more" / "day 12.csv")
    refused("day 12.csv", "'obs'", "obs_2", source=tmp_path)


def test_columns_in_the_names_of_folders(tmp_path):
    frame = stays()
    for year, rows in {"2023": frame[:5], "__HIVE_DEFAULT_PARTITION__": frame[5:]}.items():
        (tmp_path / f"year={year}" / "ward=a%20b").mkdir(parents=True)
        write(rows, tmp_path / f"year={year}" / "ward=a%20b" / "part-0.parquet")
    log = import_table(tmp_path, **(ROLES | {"obs": ["year", "obs_1"]}), info="ward", missing={"year": "fill:0"})
    assert log.obs[:, 0].tolist() == [2023] * 4 + [0] * 4 and set(log.info["ward"]) == {"a b"}
    assert [note for note in log.notes if "names of folders" in note] == [
        "Taken from the names of folders, for every row of the files within: year, ward."
    ]


def test_every_file_an_episode_every_row_an_episode(tmp_path):
    for name in ("east 2", "east 10"):
        write(stays()[:3], tmp_path / f"{name}.csv")
    log = import_table(tmp_path, **(ROLES | {"episode": "file"}))
    assert log.ids.tolist() == ["east 2", "east 10"] and log.lengths.tolist() == [3, 3]
    log = import_table(tmp_path, **(ROLES | {"episode": ["file", "stay"]}))
    assert log.ids.tolist() == ["east 2/10", "east 10/10"]
    log = import_table(stays(), **(ROLES | {"episode": "row", "time": None, "terminal": "always"}))
    assert log.lengths.tolist() == [1] * 9 and log.terminal.all() and log.ids is None
    log = import_table(stays(), **(ROLES | {"episode": None, "time": None}))
    tidy = read_table(stays(), **(ROLES | {"episode": None, "time": None}))
    assert log.lengths.tolist() == tidy.lengths.tolist() and np.array_equal(log.next_obs, tidy.next_obs)


@FEW
@given(st.data(), st.sampled_from(["csv", "parquet"]), st.integers(1, 4), st.integers(1 << 20, 1 << 21))
def test_order_and_cuts_change_nothing_but_the_account(tmp_path_factory, data, ending, files, memory):
    """Rows in any order, in any number of files, read in batches of any size."""
    frame = stays((3, 2, 4, 1, 5))
    order = data.draw(st.permutations(range(frame.height)))
    folder, cuts = (
        tmp_path_factory.mktemp("import"),
        sorted(data.draw(st.lists(st.integers(1, 14), min_size=files - 1, max_size=files - 1, unique=True))),
    )
    shuffled = frame[order]
    for i, (a, b) in enumerate(zip([0, *cuts], [*cuts, frame.height])):
        write(shuffled[a:b], folder / f"{i}.{ending}")
    log = import_table(folder, **ROLES, out=folder / "D", memory=memory)
    first = list(dict.fromkeys(shuffled["stay"].to_list()))
    tidy = read_table(frame, **ROLES)
    same(log, tidy.take([tidy.ids.tolist().index(stay) for stay in first]))
    account = json.loads((folder / "D" / "import.json").read_text())
    assert account["rows"]["read"] == frame.height == account["rows"]["kept"] + sum(account["rows"]["dropped"].values())
    assert account["rows"]["kept"] == log.steps and account["episodes"] == {"kept": 5, "dropped": 0, "without a step": 0}


# what is done with gaps and repetitions ---------------------------------------------------------------------------------


def test_gaps_are_refused_with_their_counts():
    words = refused("lactate (obs): 5 empty, the first in table: row 2", "terminal, by its formula: 9 empty, the first in table: row 1", "--missing COLUMN=RULE", source=mixed(),
                    **(WARD | {"missing": None, "terminal": "status == 'died'"}))  # fmt: skip
    assert "Nothing is filled in silence" in words


def test_rules_for_gaps():
    log = import_table(mixed(), **WARD)
    lactate = log.obs[:, log.obs_names.index("lactate")]
    mean = np.float32(mixed()["lactate"].mean())
    assert lactate.tolist() == [1.5, 1.5, 2.5, mean, 3.0, mean, mean, 4.0, 2.0, 2.0, 3.0]  # of "=c" the last row is gone
    assert log.next_obs[7, 3] == 1.0
    assert any("2 empty cells of 'lactate' got the last value before them" in note for note in log.notes)
    assert any("3 empty cells of 'lactate' had none before them in their episode" in note for note in log.notes)
    log = import_table(mixed(), **(WARD | {"missing": {"lactate": "indicator"}}))
    assert log.obs_names == ("ward=east", "ward=north", "ward=west", "lactate", "lactate (missing)", "male")
    assert log.obs[:, 4].sum() == 5 and log.obs[1, 3] == mean
    log = import_table(mixed(), **(WARD | {"missing": {"lactate": "fill:-1"}}))
    assert (log.obs[:, 3] == -1).sum() == 5
    whole = mixed().with_columns(lactate=pl.when(pl.col("stay") == "d").then(None).otherwise(pl.col("lactate").fill_null(0)))
    log = import_table(whole, **(WARD | {"missing": "drop-episode"}))
    assert log.ids.tolist() == ["b", "a", "=c"]
    assert any("3 dropped (in an episode with an empty cell in 'lactate')" in note for note in log.notes)


@FEW
@given(
    st.lists(st.sampled_from([1.0, 2.0, None, float("nan")]), min_size=9, max_size=9),
    st.sampled_from(["forward-fill", "indicator", "drop-episode", "fill:7"]),
    st.booleans(),
)
def test_rows_in_are_rows_kept_and_rows_dropped_by_name(tmp_path_factory, cells, rule, known):
    frame = stays().with_columns(pl.Series("obs_2", cells, strict=False))
    folder = tmp_path_factory.mktemp("import")
    roles = ROLES | {"terminal": "done" if known else "never"}
    doomed = [stay for stay, part in frame.group_by("stay", maintain_order=True) if part["obs_2"].fill_nan(None).null_count()]
    if all(cell != cell or cell is None for cell in cells) or (rule == "drop-episode" and len(doomed) == 3):
        refused("obs_2" if len(doomed) == 3 and rule != "drop-episode" else "", source=frame, **roles, missing=rule)
        return
    log = import_table(frame, **roles, missing={"obs_2": rule}, out=folder / "D")
    account = json.loads((folder / "D" / "import.json").read_text())
    (source,) = account["sources"]
    assert 9 == source["rows"] == source["kept"] + sum(source["dropped"].values())
    assert source["kept"] == log.steps
    gone = sum((3, 2, 4)[stay - 10] for (stay,) in doomed) if rule == "drop-episode" else 0
    assert source["dropped"].get("drop-episode: obs_2", 0) == gone
    gaps = sum(cell is None or cell != cell for cell in cells)
    assert sum(source["filled"].values()) == (0 if rule == "drop-episode" else gaps)


def test_other_roles_are_never_made_up():
    gap = lambda column, row: stays().with_columns(pl.when(pl.int_range(9) == row).then(None).otherwise(pl.col(column)).alias(column))
    for column, role in {"action": "action", "reward": "reward", "done": "terminal", "hour": "time", "p": "probability"}.items():
        refused(
            f"{column} ({role}): 1 empty, the first in table: row 6",
            source=gap(column, 5),
            probability="p",
            missing={"obs_*": "forward-fill"},
        )
        log = import_table(gap(column, 5), **ROLES, probability="p", missing="drop-episode")
        assert log.ids.tolist() == [10, 11], column
    refused("table: column 'stay', row 6", "belongs nowhere", source=gap("stay", 5), missing="drop-episode")
    assert import_table(gap("reward", 5), **ROLES, missing={"reward": "fill:0"}).reward[4] == 0
    assert import_table(gap("done", 8), **ROLES, missing={"done": "fill:true"}).terminal[-1]
    import_table(gap("action", 4), **ROLES)  # the last row of the stay that was cut: its decision led to nothing known
    refused("reward", source=gap("reward", 5), missing="indicator")
    died = WARD | {"terminal": "status == 'died'", "missing": {"lactate": "forward-fill", "terminal": "fill:false"}}
    assert import_table(mixed(), **died).terminal.sum() == 2  # where the status is empty, nobody died


def test_repeated_rows_need_a_rule():
    frame = pl.concat([stays(), stays()[1:2]])
    refused("table: row 2 and table: row 10", "1 rows in all", "--repeated same", source=frame)
    for rule in ("same", "first", "last"):
        log = import_table(frame, **ROLES, repeated=rule)
        same(log, read_table(stays(), **ROLES))
        assert any("1 dropped (same episode and time as another row)" in note for note in log.notes)
    other = pl.concat([stays(), stays()[1:2].with_columns(reward=pl.lit(9.0))])
    refused("row 10", "repeats the episode and time of table: row 2", source=other, repeated="same")
    assert [import_table(other, **ROLES, repeated=rule).reward[1] for rule in ("first", "last")] == [-0.5, 9]


def test_words_that_stand_for_nothing(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(stays().write_csv().replace(",2.0,-1.5", ",NA,-1.5").replace(",4.0,-3", ",  ,-3").replace(",6.0,-4", ",nan,-4"))
    refused("'obs_2'", "row 2 (line 3)", "'NA'", "--na 'NA'", source=path)
    refused("obs_2 (obs): 3 empty", source=path, na="NA")
    log = import_table(path, **ROLES, na="NA", missing="forward-fill")
    assert log.obs[:4, 1].tolist() == [0, 0, 0, pytest.approx(np.mean([0, 8, 10, 12, 14, 16]))]


# rewards, ends and times ------------------------------------------------------------------------------------------------


def test_a_reward_may_be_true_or_false(tmp_path):
    frame = stays().with_columns(reward=pl.col("action") == 1)
    for source in (frame, write(frame, tmp_path / "log.csv")):
        assert import_table(source, **ROLES).reward.tolist() == [0, 1, 0, 0, 0, 0, 1, 0]


def test_a_reward_may_stand_in_the_next_row():
    frame = pl.DataFrame({"run": [1, 1, 1, 2, 2, 3], "t": [0, 1, 2, 0, 1, 0], "x": [0.0, 1, 2, 3, 4, 5], "a": [0, 1, None, 1, None, None],
                          "r": [None, 0.5, 1.5, None, 2.5, None], "end": [0, 0, 1, 0, 0, 0]})  # fmt: skip
    log = import_table(frame, episode="run", time="t", obs="x", action="a", reward="r", terminal="end", reward_at="next")
    assert log.lengths.tolist() == [2, 1] and log.ids.tolist() == [1, 2]
    assert log.reward.tolist() == [0.5, 1.5, 2.5]
    assert log.terminal.tolist() == [False, True, False] and log.truncated.tolist() == [False, False, True]
    assert log.next_obs.ravel().tolist() == [1, 2, 4]
    assert any("3 dropped (last row of an episode, which only shows" in note for note in log.notes)
    assert any("1 episodes had no row that is a step" in note for note in log.notes)
    with pytest.raises(BadData, match=r"r \(reward\): 1 empty"):
        import_table(
            frame.with_columns(r=pl.Series([None, None, 1.5, None, 2.5, None])),
            episode="run",
            time="t",
            obs="x",
            action="a",
            reward="r",
            terminal="end",
            reward_at="next",
        )


def test_steps_last_as_long_as_their_times_say():
    log = import_table(mixed(), **WARD, unit="1h")
    assert log.duration.tolist() == [1, 2, 1, 1, 1, 1, 2, 1, 1, 2, 1]  # behind an end: 1
    assert log.time[1] - log.time[0] == 3600
    assert import_table(mixed(), **WARD, unit="30min").duration[0] == 2
    plain = import_table(mixed(), **WARD)
    assert plain.duration is None and any("from 3600 to 7200 seconds" in note and "--unit" in note for note in plain.notes)
    assert import_table(stays(), **ROLES, unit="2").duration[0] == 0.5
    assert import_table(stays(), **ROLES, duration="obs_1 + 1").duration[1] == 1.25
    for unit, words in {"fortnight": "expected a duration", "0h": "expected a duration", "1": "expected a duration"}.items():
        with pytest.raises(BadData, match=words):
            import_table(mixed(), **WARD, unit=unit)
    refused("expected a number", source=stays(), unit="1h")
    refused("no column of times", source=stays(), unit="1", time=None)
    refused("duration", "row 1", "above 0", source=stays(), duration="p - 0.25")


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["2024-01-31", "2024-02-01", "2024-02-02"], None), (["2024-01-31T00:00Z", "2024-02-01 00:00:00", "2024-02-02 00:00:00.0 UTC"], None),
        (["2024-01-31 02:00:00+02:00", "2024-02-01 00:00:00Z", "2024-02-01T23:30:00-00:30"], None), (["31.01.2024", "01.02.2024", "02.02.2024"], "%d.%m.%Y"),
    ],
)  # fmt: skip
def test_dates_of_many_spellings(cells, form):
    log = import_table(stays()[:3].with_columns(hour=pl.Series(cells)), **ROLES, time_format=form)
    assert np.diff(log.time).tolist() == [86400, 86400] and log.time[0] == 1706659200


def test_durations_count_in_seconds():
    frame = stays().with_columns(hour=pl.duration(hours="hour"), obs_1=pl.duration(minutes="hour"))
    log = import_table(frame, **ROLES)
    assert log.time[:3].tolist() == [0, 3600, 7200] and log.obs[:3, 0].tolist() == [0, 60, 120]
    assert read_table(stays().with_columns(stay=pl.duration(hours="stay")), **ROLES).lengths.tolist() == [3, 1, 4]


def test_dates_that_could_be_mistaken():
    odd = stays()[:3].with_columns(hour=pl.Series(["01/02/2024", "02/02/2024", "03/02/2024"]))
    refused("'hour'", "row 1", "'01/02/2024'", "--time-format", source=odd)
    assert np.diff(import_table(odd, **ROLES, time_format="%d/%m/%Y").time).tolist() == [86400, 86400]
    refused("expected a date such as %Q", source=odd, time_format="%Q")


def test_ends():
    refused("'done'", "row 2", "goes on in a later row", source=stays().with_columns(done=pl.Series([0, 1] + [0] * 7)))
    refused("say which column is 'terminal'", "'always'", source=stays(), terminal=None)
    log = import_table(stays(), **(ROLES | {"terminal": "obs_1 >= 2"}))
    assert log.terminal.sum() == 1 and log.truncated.sum() == 2
    refused("row 4", "goes on", source=stays(), terminal="obs_1 == 0.75")


# words, numbers and masks ----------------------------------------------------------------------------------------------


def test_categories_of_observations():
    log = import_table(mixed(), **(WARD | {"obs": ["ward", "pain", "male"]}), order={"pain": ["none", "mild", "severe"]})
    assert log.obs_names == ("ward=east", "ward=north", "ward=west", "pain", "male")
    assert log.obs[:3].tolist() == [[1, 0, 0, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 2, 1]]
    log = import_table(mixed(), **(WARD | {"obs": ["ward", "cost"]}), other={"ward": 1}, one_hot={"cost": ()})
    assert log.obs_names[:2] == ("ward=east", "ward=(other)") and log.obs_names[2:5] == ("cost=0", "cost=0.5", "cost=1")
    assert log.obs[:, :2].sum(axis=0).tolist() == [6, 5]
    assert (log.obs.sum(axis=1) == 2).all()
    with pytest.raises(BadData, match=r"'severe', which is none of the known categories \(none, mild\)"):
        import_table(mixed(), **(WARD | {"obs": ["pain"]}), order={"pain": ["none", "mild"]})
    many = stays((60,)).with_columns(pl.Series("obs_1", [f"word {i}" for i in range(60)]))
    refused("'obs_1' has 60 different words", "--other obs_1=20", source=many)
    bad = stays().with_columns(pl.Series("obs_1", ["1", "2", "x", "4", "5", "6", "7", "8", "9"]))
    refused("column 'obs_1', row 3", "expected a number, as in most rows, found 'x'", "--na 'x'", source=bad)
    assert import_table(bad, **ROLES, one_hot="obs_1").spec.obs == Box(11)


def test_numbered_states():
    log = import_table(stays(), **(ROLES | {"obs": "hour"}), states=4)
    assert log.spec.obs == Discrete(4) and log.obs[:3].tolist() == [0, 1, 2] and log.obs_names == ("state",)
    refused("'hour'", "row 9", "'3'", source=stays(), obs="hour", states=3)


def test_kinds_of_decisions():
    log = import_table(mixed(), **WARD)
    assert log.spec.action == Discrete(3) and log.action_names == ("none", "x", "y")
    assert log.codec.decode(log.action)["drug"].to_list()[:3] == ["x", "y", "none"]
    log = import_table(mixed(), **WARD, order={"drug": ["none", "y", "x"]})
    assert log.action_names == ("none", "y", "x")
    codes = stays().with_columns(action=pl.Series([5, 20, 100] * 3))
    log = import_table(codes, **ROLES)
    assert log.action_names == ("5", "20", "100") and log.codec.decode(np.array([2, 0]))["action"].to_list() == [100, 5]
    assert import_table(stays(), **ROLES, actions=7).spec.action == Discrete(7)
    log = import_table(mixed(), **(WARD | {"action": "dose"}), low=0, high=10)
    assert log.spec.action == Box(1) and log.view.action.scale.tolist() == [5]
    assert log.codec.decode(log.action)["dose"].to_list()[2] == 5
    refused("goes from 0 to 10, beyond the bounds", source=mixed(), **(WARD | {"action": "dose"}), low=0, high=9)
    refused("mixes choices with numbers (dose)", "--bins dose=5", source=mixed(), **(WARD | {"action": ["drug", "dose"]}))
    refused(
        "mixes choices with numbers (obs_2)",
        "--low, --high",
        source=stays().with_columns(obs_2=pl.col("obs_2") + 0.5),
        **(ROLES | {"obs": "obs_1", "action": ["action", "obs_2"]}),
    )
    both = WARD | {"action": ["drug", "male"], "obs": "cost", "missing": None}
    log = import_table(mixed(), **both)
    assert log.spec.action == MultiDiscrete((3, 2)) and log.action_names == ("drug", "male")
    assert log.codec.decode(log.action).row(0) == ("x", True)
    joint = import_table(mixed(), **both, joint=True)
    assert joint.action_names[0] == "drug none, male true" and joint.spec.action == Discrete(len(joint.action_names))
    assert joint.codec.decode(joint.action).rows() == log.codec.decode(log.action).rows()


def test_a_word_that_reads_like_infinity(tmp_path):
    frame = stays().with_columns(action=pl.Series(["inf", "x", "x"] * 3))
    assert import_table(frame, **ROLES, out=tmp_path / "D").action_names == ("inf", "x")


def test_bins_of_a_dose():
    log = import_table(mixed(), **(WARD | {"action": "dose"}), bins=4)
    assert log.action_names == ("[0, 1)", "[1, 3)", "[3, 5)", "[5, 10]")  # four doses of 0 have a bin of their own
    assert log.codec.decode(np.arange(4))["dose"].to_list() == [0, 1, 3, 7.5]
    log = import_table(mixed(), **(WARD | {"action": "dose"}), bins={"dose": [0, 4, 20]})
    assert log.action.tolist() == [0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1]
    refused("beyond the edges", source=mixed(), **(WARD | {"action": "dose"}), bins={"dose": [1, 4, 20]})
    refused("only numbers", source=mixed(), **WARD, bins={"drug": 3})


@FEW
@given(st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0, 2.5, 3.0, 8.0, 9.0, 11.0]), min_size=3, max_size=60), st.integers(2, 6))
def test_bins_hold_every_number_once_and_decode_to_one_of_theirs(values, bins):
    from topstitch.data.intake.encoding import cut

    edges = cut(np.array(values), bins)
    inner = edges[1:-1]
    assert all(a < b for a, b in zip(edges[:-1], inner)) and edges[0] == min(values) and edges[-1] == max(values)
    place = np.searchsorted(inner, values, side="right")
    assert set(place) == set(range(len(edges) - 1))  # none is empty
    heavy = [v for v in set(values) if values.count(v) * bins >= len(values)]
    for v in heavy:  # what would fill a bin alone has one alone
        assert {x for x, k in zip(values, place) if k == place[values.index(v)]} == {v}


def test_masks_fit_their_actions():
    frame = stays().with_columns(action=pl.Series(["low", "high", "low"] * 3), may_low=pl.lit(True), may_high=pl.lit(True))
    log = import_table(frame, **ROLES, mask="may_*")
    assert log.action_names == ("high", "low") and log.codec.mask == ("may_high", "may_low") and log.mask.all()
    forbidden = frame.with_columns(may_high=pl.int_range(9) != 1)
    refused("'may_high'", "row 2", "its mask forbids it", source=forbidden, mask="may_*")
    allowed = frame.with_columns(may_high=pl.int_range(9) != 2)
    log = import_table(allowed, **ROLES, mask=["may_low", "may_high"])
    assert log.mask[2].tolist() == [False, True] and log.next_mask[1].tolist() == [False, True] and log.next_mask[2].all()
    refused("one mask column for each of 2 actions", source=frame, mask="may_low")
    refused("mask belongs to a choice", source=frame, action="obs_1", mask="may_*", obs="obs_2")


def test_loggers_and_probabilities():
    log = import_table(mixed(), **WARD, logger="ward", info=["cost", "pain"], probability="0.25 + 0 * cost")
    assert (
        log.info["logger"].tolist()[:4] == ["east"] * 3 + ["west"]
        and log.info["pain"][0] == "mild"
        and log.info["cost"].dtype == np.float64
    )
    assert np.allclose(log.log_prob, np.log(0.25))
    refused("'p'", "row 2", "above 0 and at most 1", source=stays().with_columns(p=pl.Series([0.5, 1.5] + [0.5] * 7)), probability="p")
    refused("'p'", "row 1", "logarithm", source=stays(), log_probability="p")


def test_formulas_read_the_raw_cells():
    log = import_table(mixed(), **WARD)
    assert log.reward.tolist() == [0, -0.5, -1, -1.5, 8, -2.5, -3, -3.5, -4.5, -5, -5.5]
    log = import_table(mixed(), **(WARD | {"reward": "where(missing(lactate), -1, lactate)"}))
    assert log.reward.tolist()[:4] == [1.5, -1, 2.5, -1]  # what was filled for the eye is not paid
    refused("row 1", "gives -inf (cost = 0.0)", source=mixed(), **(WARD | {"reward": "log(cost)"}))
    refused("asks for a column 'costs'", "'cost'", source=mixed(), **(WARD | {"reward": "10 - costs"}))
    refused("no column is called 'costs'", source=mixed(), **(WARD | {"reward": "costs"}))


# what is kept beside the log -------------------------------------------------------------------------------------------


def test_the_same_rules_encode_other_rows_in_the_same_way(tmp_path):
    first = import_table(mixed(), **(WARD | {"action": "dose"}), bins=3, unit="1h", other={"ward": 2}, logger="ward", out=tmp_path / "D")
    rules = tomllib.loads((tmp_path / "D" / "roles.toml").read_text())
    assert rules["fill"]["lactate"] == pytest.approx(mixed()["lactate"].mean())
    again = import_table(mixed(), roles=tmp_path / "D" / "roles.toml")
    assert again.fingerprint() == first.fingerprint() and again.codec == first.codec
    part = import_table(mixed()[:5], roles=tmp_path / "D" / "roles.toml")
    assert part.codec == first.codec and Episodes.join(part, first).codec == first.codec
    assert Codec.of(json.loads(json.dumps(first.codec.plain()))) == first.codec
    changed = import_table(mixed(), roles=tmp_path / "D" / "roles.toml", action="drug", unit="2h")
    assert changed.action_names == ("none", "x", "y") and changed.duration[0] == 0.5
    (tmp_path / "roles.toml").write_text((tmp_path / "D" / "roles.toml").read_text().replace("reward =", "rewrd ="))
    refused("no role or rule 'rewrd'", "'reward'", source=mixed(), roles=tmp_path / "roles.toml", **dict.fromkeys(ROLES))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@FEW
@given(
    st.fixed_dictionaries(
        {"obs": st.lists(TEXT, max_size=3), "reward": TEXT, "one_hot": st.dictionaries(TEXT, st.lists(TEXT, unique=True, max_size=3), max_size=2),
         "bins": st.dictionaries(TEXT, st.sampled_from([5, (0.0, 1e-9, 1e22)]), max_size=2), "fill": st.dictionaries(TEXT, st.one_of(TEXT, st.floats(-1e9, 1e9), st.booleans()), max_size=2),
         "joint": st.sampled_from([False, True, ((0, 1), (1, 1))])}
    )
)  # fmt: skip
def test_rules_survive_their_file(plain):
    rules = Rules.of(plain)
    assert Rules.of(tomllib.loads(rules.toml({"obs": "because\nof this"}))) == rules


def test_a_number_too_long_for_python_is_refused(tmp_path):
    (tmp_path / "roles.toml").write_text(f"states = {'9' * 5000}")
    with pytest.raises(BadData, match=r"roles\.toml: cannot be read as TOML"):
        Rules.read(tmp_path / "roles.toml")


def test_a_log_in_stretches_is_the_log(tmp_path):
    import log_test

    from topstitch.data.formats.log import LogWriter, read_log

    for name, make in log_test.LOGS.items():
        log, folder = make(), tmp_path / name
        folder.mkdir()
        writer = LogWriter(folder)
        for k in range(len(log)):
            writer.append(log.take([k]))
        writer.finish(folder / "a.log.safetensors", source=log.source, notes=log.notes)
        for mapped in (False, True):
            log_test.same(read_log(folder / "a.log.safetensors", mapped=mapped), log)


def test_nothing_is_left_of_what_fails(tmp_path):
    def stop(what, done, total):
        raise KeyboardInterrupt

    rules = Rules.of({name: value for name, value in ROLES.items()})
    with pytest.raises(KeyboardInterrupt):
        run(stays(), rules, tmp_path / "D", tell=stop)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadData):
        run(stays().with_columns(reward=pl.lit("x")), rules, tmp_path / "D")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".D.importing-0123" / "work").mkdir(parents=True)  # of one that was killed
    run(stays(), rules, tmp_path / "D")
    assert [path.name for path in tmp_path.iterdir()] == ["D"]
    assert sorted(path.name for path in (tmp_path / "D").iterdir()) == ["import.json", "log.log.safetensors", "roles.toml"]
    assert len(read(tmp_path / "D")) == 3
    with pytest.raises(FileExistsError, match="not overwritten"):
        run(stays(), rules, tmp_path / "D")


# what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]), (b"\n", ["empty"]), (b"stay,hour\n", ["no column fits 'obs_*'"]), (b"\xff\xfea\x00", ["UTF-8", "--encoding"]),
        (b"stay;hour;obs_1\n1;2;3\n", ["one name with ';' in it", "--separator"]),
        (b"stay,hour,obs_1,action,reward,done\n", ["at least one row"]),
        (b"stay,hour,obs_1,action,reward,done\n1,0,1,0,1\n", ["row 1 (line 2)", "expected 6 fields", "found 5"]),
        (b"stay,hour,obs_1,action,reward,done\n1,0,1,0,1,0\n\n1,1,1,0,1,1\n", ["row 2 (line 3)", "blank"]),
        (b'stay,hour,obs_1,action,reward,done\n1,0,1,0,1,0\n1,1,"1,0,1,1\n', ["row 2", "quotation mark"]),
        (b'stay,hour,obs_1,action,reward,done\n1,0,5" pipe,0,1,0\n1,1,"x",0,1,1\n', ["row 1 (line 2)", "quotation mark in the middle"]),
        (b"stay,hour,obs_1,action,reward,done\n1,0,1\x00,0,1,0\n", ["row 1 (line 2)", "value 0"]),
        (b"stay,hour,obs_1,obs_1,reward,done\n1,0,1,0,1,0\n", ["'obs_1'", "more than one column: 3 and 4"]),
        (b"stay,hour,obs_1,action,reward,done\r1,0,1,0,1,0\r1,1,1,0,1,1\r", ["carriage returns"]),
        (b'stay,hour,obs_1,action,reward,done\n1,0,"1,5",0,1,0\n1,1,2,1,1,1\n', ["'obs_1', row 1 (line 2)", "--decimal ,", "--one-hot 'obs_1'"]),
        (b'stay,hour,obs_1,action,reward,done\n1,0,1,"1,5",1,0\n1,1,2,1,1,1\n', ["'action', row 1 (line 2)", "--decimal ,", "--order action"]),
        (b'stay,hour,obs_1,action,reward,done\n1,0,1,0,"1,5",0\n1,1,2,1,1,1\n', ["'reward', row 1 (line 2)", "--decimal ,"]),
        (b"stay,hour,obs_1,action,reward,done\n1,0,inf,0,1,0\n1,1,1,0,1,1\n", ["'obs_1'", "row 1 (line 2)", "finite", "inf"]),
        (b"stay,hour,obs_1,action,reward,done\n1,0,1e999,0,1,0\n1,1,1,0,1,1\n", ["'obs_1'", "row 1 (line 2)", "finite"]),
        (b"stay,hour,obs_1,action,reward,done\n1,0,1,0,one,0\n1,1,1,0,1,1\n", ["'reward'", "row 1 (line 2)", "'one'"]),
        (b'name,stay,hour,obs_1,action,reward,done\n"' + b"x\n" * 70_000 + b'",1,0,1,0,1,0\n,1,1,1,0,one,1\n', ["'reward', row 2 (line 70,003)"]),
        (b"stay,hour,obs_1,action,reward,done\n1,0,1,0,1,0\n1,1,1,0,1,2\n", ["'done'", "row 2 (line 3)", "'2'"]),
    ],
)  # fmt: skip
def test_bad_files_are_named(tmp_path, content, words):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    refused("log.csv", *words, source=path)


def test_what_spreadsheets_leave_behind(tmp_path):
    """A byte order mark, a column of row numbers without a name, and empty columns behind the last."""
    lines = stays().write_csv().splitlines()
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([f",{lines[0]},,", *(f"{i},{line},," for i, line in enumerate(lines[1:]))]).encode())
    log = import_table(path, **ROLES)
    same(log, read_table(stays(), **ROLES))
    same(read_table(path, **ROLES), log)
    assert any("leaves 3 names empty; called column 1, column 12, column 13" in note for note in log.notes)


def test_habits_of_other_countries(tmp_path):
    text = stays().write_csv(separator=";").replace(".", ",")
    for encoding in ("latin-1", "utf-16", "utf-8"):
        path = tmp_path / f"{encoding}.csv"
        path.write_bytes(text.replace("row", "Zeile ß").encode(encoding))
        log = import_table(path, **ROLES, info="name", separator=";", decimal=",", encoding=encoding)
        same(log, read_table(stays(), **ROLES))
        assert log.info["name"][0] == "Zeile ß 0"
    with gzip.open(tmp_path / "utf-16.csv.gz", "wb") as file:
        file.write(text.encode("utf-16"))
    same(import_table(tmp_path / "utf-16.csv.gz", **ROLES, separator=";", decimal=",", encoding="utf-16"), read_table(stays(), **ROLES))
    refused("encoding that Python knows", source=path, encoding="klingon")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"obs": "stay"}, "as 'episode' and as 'obs'"), ({"obs": "ob*", "reward": "obs_1"}, "as 'reward' and as 'obs'"), ({"reward_at": "later"}, "one of same, next"),
        ({"missing": "guess"}, "one of refuse"), ({"bins": 1}, "number of bins, from 2"), ({"bins": {"action": [2, 1]}}, "increasing edges"),
        ({"missing": {"nothing": "fill:1"}}, "'nothing'"), ({"low": 0}, "only one of 'low' and 'high'"), ({"separator": ";;"}, "one character"),
        ({"other": {"obs_1": 0}}, "how many categories"), ({"time": "hours"}, "'hour'"), ({"repeated": "all"}, "one of refuse"), ({"na": [1]}, "list of texts"),
        ({"unit": "1", "duration": "1 + obs_1"}, "both are given"), ({"joint": True}, "one choice of several"), ({"bins": {"action": [0, 1, np.inf]}}, "none of them infinite"),
        ({"low": 10**400, "high": 1}, "must be a number"), ({"encoding": "hex"}, "Python knows"), ({"encoding": "a\0b"}, "Python knows"), ({"actions": [2, 2]}, "one number for each column"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_meant(tmp_path, rules, words):
    with pytest.raises(BadData, match=words):
        run(stays(), Rules.of(ROLES | rules), tmp_path / "D")


def test_ids_are_kept_to_the_letter(tmp_path):
    frame = stays().with_columns(stay=pl.Series(["007"] * 3 + ["7"] * 2 + ["12345678901234567890"] * 4))
    log = import_table(write(frame, tmp_path / "log.csv"), **ROLES)
    assert log.ids.tolist() == ["007", "7", "12345678901234567890"]


def test_open_bandit(shared):
    folder = shared / "open_bandit"
    roles = dict(
        episode="row",
        obs=["user_feature_*", "position"],
        one_hot="position",
        action="item_id",
        reward="click",
        terminal="always",
        probability="propensity_score",
    )
    log = import_table([folder / "random_all.csv.gz", folder / "bts_all.csv.gz"], **roles, logger="file")
    assert dict(zip(*np.unique(log.info["logger"], return_counts=True))) == {"random_all": 10_000, "bts_all": 10_000}
    table = pl.concat(
        [pl.read_csv(folder / f"{name}_all.csv.gz").select("item_id", "click", "propensity_score") for name in ("random", "bts")]
    )
    assert log.steps == 20_000 == len(log) and log.spec.action == Discrete(80)
    assert log.codec.decode(log.action)["item_id"].to_list() == table["item_id"].to_list()
    assert np.allclose(np.exp(log.log_prob), table["propensity_score"]) and log.reward.sum() == table["click"].sum()
    assert (log.obs[:, -3:].sum(axis=1) == 1).all()
