"""topstitch data import and topstitch decide, as a person types them."""

import io
import json
import tomllib

import pytest

from topstitch.store import load_policy, policy_about, save_policy

ROWS = """stay,at,age,ward,lactate,dose,alive,cost
a,2024-01-01 00:00,61,east,1.5,low,1,2
a,2024-01-01 01:00,61,east,,high,1,3
a,2024-01-01 03:00,61,east,2.5,none,1,1
b,2024-01-02 00:00,45,west,NA,none,1,0
b,2024-01-02 02:00,45,west,2.0,=1+1,0,4
c,2024-01-03 00:00,70,east,1.0,low,1,1
c,2024-01-03 01:00,70,east,1.1,low,1,1
"""
SAID = ["--episode", "stay", "--time", "at", "--obs", "age", "ward", "lactate", "--action", "dose", "--reward", "10 * alive - cost"]
ENDS = ["--terminal", "alive == 0"]
RULES = ["--na", "NA", "--missing", "lactate=forward-fill"]


@pytest.fixture
def ward(here):
    (here / "ward.csv").write_text(ROWS)
    return here


def test_a_table_becomes_a_log(topstitch, ward):
    code, out, err = topstitch("data", "import", "ward.csv", *SAID, *ENDS, *RULES, "--unit", "1h", "-o", "D")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    said = " ".join(out.split())
    assert "3 episodes; 7 rows = 5 steps + 2 dropped (truncated)" in said
    assert "ward obs 2 dimensions: east, west" in said and "dose action choice of =1+1, high, low, none" in said
    assert (
        "1 empty cells of 'lactate' got the last value before them" in said
        and "had none before them in their episode, and got 1.62" in said
    )
    assert "Next: topstitch data check D" in said
    assert json.loads((ward / "D" / "import.json").read_text())["rows"] == {"read": 7, "kept": 5, "dropped": {"truncated": 2}}
    code, out, _ = topstitch("data", "info", "D")
    assert code == 0 and "4 choices, 1 of them never" not in out and "low (40%)" in out
    code, out, _ = topstitch("data", "import", "ward.csv", "--roles", "D/roles.toml", "--joint", "-o", "E", "--json")
    assert code == 1
    code, out, _ = topstitch("data", "import", "ward.csv", "--roles", "D/roles.toml", "-o", "E", "--json")
    assert code == 0 and json.loads(out)["roles"]["fill"] == {"lactate": pytest.approx(1.62)}


def test_what_is_refused_says_what_to_do(topstitch, ward):
    for more, code, words in [
        ([*SAID, "-o", "D"], 1, ["say which column is 'terminal'", "'always'"]),
        ([*SAID, *ENDS, "-o", "D"], 1, ["column 'lactate', row 4 (line 5)", "found 'NA'", "--na 'NA'"]),
        (
            [*SAID, *ENDS, "--na", "NA", "-o", "D"],
            1,
            ["lactate (obs): 2 empty, the first in ward.csv: row 2 (line 3)", "--missing COLUMN=RULE"],
        ),
        ([*SAID, *ENDS, *RULES], 2, ["-o D"]),
        (["-o", "D", "--guess"], 2, ["cannot be guessed: --terminal", "always or never"]),
        ([*ENDS, "-o", "D", "--guess"], 2, ["have to be confirmed", "--yes"]),
        ([*SAID, *ENDS, *RULES, "-o", "D", "--memory", "much"], 2, ["--memory", "512MB"]),
        ([*SAID, *ENDS, *RULES, "-o", "D", "--bins", "a,b"], 2, ["--bins"]),
        ([*SAID, *ENDS, *RULES, "-o", "D", "--order", "ward"], 2, ["ward=…"]),
        ([*SAID, *ENDS, "--missing", "lactate=guess", "-o", "D"], 1, ["one of refuse, drop-episode"]),
        ([*SAID, *ENDS, *RULES, "--order", "ward=east", "-o", "D"], 1, ["row 4 (line 5)", "'west'", "none of the known categories (east)"]),
        ([*SAID, *ENDS, *RULES, "-o", "ward.csv"], 1, ["there already"]),
        ([*SAID, *ENDS, *RULES, "--reward", "__import__('os')", "-o", "D"], 1, ["cannot be used", "there is no function"]),
    ]:
        given, out, err = topstitch("data", "import", "ward.csv", *more)
        assert given == code, err
        assert not (ward / "D").exists() and not out.strip()
        for word in words:
            assert word in err, err
    assert topstitch("data", "import", "--guess")[0] == 2


def test_guesses_are_shown_with_reasons_and_asked_about(topstitch, ward, monkeypatch):
    code, out, err = topstitch("data", "import", "ward.csv", "--guess", "--na", "NA", "--reward", "10 * alive - cost", *ENDS)
    assert (code, out) == (0, "")
    said = " ".join(err.split())
    for words in ("Guessed from 7 rows", "episode stay 'stay' is called so, and has 3 different values in 7 rows, whose rows lie together", "action dose",
                  "obs age, ward, lactate", "reward 10 * alive - cost as you said"):  # fmt: skip
        assert words in said, said
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr("topstitch.cli.data_import.asking", lambda: True)
    code, _, err = topstitch("data", "import", "ward.csv", "--guess", *RULES, "--reward", "10 * alive - cost", *ENDS, "-o", "D")
    assert code == 2 and "Nothing was imported" in err and not (ward / "D").exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, _, err = topstitch("data", "import", "ward.csv", "--guess", *RULES, "--reward", "10 * alive - cost", *ENDS, "-o", "D")
    assert code == 0, err
    assert "# 'stay' is called so" in (ward / "D" / "roles.toml").read_text()
    code, _, err = topstitch("data", "import", "ward.csv", "--guess", "--yes", *RULES, "--reward", "10 * alive - cost", *ENDS, "-o", "E")
    assert code == 0 and "Guessed from" in err


def test_signs_of_another_country_are_named_and_guessed(topstitch, here):
    (here / "plant.csv").write_text("lot;step;heat;valve;reward;done\n1;1;70,5;open;1,25;0\n1;2;68;shut;-0,5;1\n")
    code, _, err = topstitch("data", "import", "plant.csv", "--obs", "heat", "--action", "valve", "--reward", "reward", *ENDS, "-o", "D")
    assert code == 1 and "give --separator ';'" in err
    code, _, err = topstitch("data", "import", "plant.csv", "--guess", "--yes", "--action", "valve", "-o", "D")
    said = " ".join(err.split())
    assert code == 0 and "separator ';' without it" in said and "decimal ',' the cells of 'heat'" in said, err
    rules = tomllib.loads((here / "D" / "roles.toml").read_text())
    assert (rules["separator"], rules["decimal"], rules["obs"]) == (";", ",", ["heat"])


def test_a_policy_decides_in_the_words_of_the_table(topstitch, ward):
    topstitch("data", "import", "ward.csv", *SAID, *ENDS, *RULES, "-o", "D")
    code, _, err = topstitch(
        "train", "bc", "--data", "D", "--hidden", "8", "--batch-size", "4", "--steps", "20", "--every", "20", "-o", "runs"
    )
    assert code == 0, err
    new = "lactate,ward,age,at,stay\n1.5,east,60,2024-05-01 01:00,x\n,east,60,2024-05-01 02:00,x\nNA,west,30,2024-05-01 01:00,@y\n"
    (ward / "new.csv").write_text(new)
    code, out, err = topstitch("decide", "runs", "--data", "new.csv", "-o", "out.csv")
    assert (code, out) == (0, "") and "3 decisions are in out.csv" in err
    header, *rows = [line.split(",") for line in (ward / "out.csv").read_text().splitlines()]
    assert header == ["stay", "at", "dose", "probability"]
    assert [row[0] for row in rows] == ["x", "x", "'@y"]
    assert {row[2] for row in rows} <= {"'=1+1", "high", "low", "none"} and all(0 < float(row[3]) <= 1 for row in rows)
    code, out, _ = topstitch("decide", "runs", "--data", "new.csv", "--json")
    assert code == 0 and [row["stay"] for row in json.loads(out)] == ["x", "x", "@y"]
    code, out, _ = topstitch("decide", "runs", "--data", "new.csv")
    assert code == 0 and "dose" in out
    save_policy(ward / "chosen.safetensors", load_policy("runs"), policy_about("runs") | {"study": "one"})
    said = [topstitch("decide", "chosen.safetensors", "--data", "new.csv", *more)[2] for more in ((), ("--draw", "0"))]
    assert "the study judged drawn ones" in said[0] and said[1] == ""
    (ward / "many.csv").write_text(new + "1.5,east,60,2024-05-01 01:00,z\n" * 30)
    drawn = [json.loads(topstitch("decide", "runs", "--data", "many.csv", "--json", "--draw", seed)[1]) for seed in "001"]
    assert drawn[0] == drawn[1] != drawn[2] and len({row["dose"] for row in drawn[0][3:]}) > 1
    assert len({(row["dose"], row["probability"]) for row in drawn[0][3:]}) == len({row["dose"] for row in drawn[0][3:]})
    for text, words in {
        new.replace(",", ";"): ["no column 'age'", "give --separator ';'"],
        new.replace("west", "north"): ["bad.csv: column 'ward', row 3 (line 4)", "'north'", "none of the known categories (east, west)", "--other ward=K"],
        new.replace("ward", "wing"): ["no column 'ward'", "lactate"], new.replace("60,", "old,"): ["'age', row 1 (line 2)", "'old'"],
        new.replace("30", ""): ["'age', row 3", "empty cell"], "lactate,ward,age\n": ["at least one row"],
    }.items():  # fmt: skip
        (ward / "bad.csv").write_text(text)
        code, _, err = topstitch("decide", "runs", "--data", "bad.csv")
        assert code == 1
        assert all(word in err for word in words), err
    assert topstitch("decide", "runs", "--data", "new.csv", "-o", "out.csv")[0] == 2
    assert topstitch("decide", "runs", "--data", "new.csv", "-o", "out.xlsx")[0] == 2


def test_a_policy_of_another_log_has_no_words(topstitch, train, here):
    train("bc", "choices.csv", "-o", "runs")
    code, _, err = topstitch("decide", "runs", "--data", "choices.csv")
    assert code == 1 and "was not learned from an imported table" in err
