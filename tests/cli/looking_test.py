"""Commands that only look: data info, algorithms, cite."""

import json

from typed import ROLES

from topstitch.algos import ALGORITHMS, family


def test_data_info_reads_well(topstitch):
    code, out, err = topstitch("data", "info", "choices.csv", *ROLES)
    assert (code, err) == (0, "")
    rows = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    rows = {name: value.strip() for name, value in rows.items()}
    assert rows["episodes"] == "10: 5 ended, 5 were cut short"
    assert rows["steps"] == "55: 5 to 6 an episode, median 5.5"  # a cut-off episode loses its last row
    assert rows["actions"].startswith("2 choices, all of them seen; most often ")
    assert rows["observations"].startswith("vectors of 4, from -")
    assert rows["also logged"] == "time"
    assert max(map(len, out.splitlines())) <= 80


def test_data_info_of_numbered_states(topstitch, here):
    (here / "states.csv").write_text("state,act,reward,p\n" + "".join(f"{i % 3},{i % 2},{i},{0.5}\n" for i in range(8)))
    roles = "--obs state --states 5 --action act --actions 3 --reward reward --terminal always --probability p"
    code, out, _ = topstitch("data", "info", "states.csv", *roles.split())
    assert code == 0
    assert "5 states, 2 of them never; most often 0 (38%)" in out
    assert "3 choices, 1 of them never; most often 0 (50%), 1 (50%), 2 (0%)" in out
    assert "probabilities" in out


def test_data_info_for_scripts(topstitch):
    code, out, _ = topstitch("data", "info", "doses.csv", "--json", *ROLES)
    numbers = json.loads(out)
    assert code == 0
    assert (numbers["episodes"], numbers["steps"], numbers["spaces"]["action"]) == (10, 55, {"kind": "Box", "size": 1})


def test_data_alone_says_how(topstitch):
    code, out, _ = topstitch("data", "--help")
    assert code == 0
    assert "info" in out


def test_algorithms_fit_80_columns(topstitch):
    code, out, _ = topstitch("algorithms")
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == ["name", *ALGORITHMS]
    assert max(map(len, lines)) <= 80 and "…" not in out
    assert "Kumar et al. 2006.04779" in out and "Ernst et al. 2005, JMLR" in out


def test_algorithms_by_family_and_action(topstitch):
    names = lambda *argv: [line.split()[0] for line in topstitch("algorithms", *argv)[1].splitlines()[1:]]
    assert names("--family", "conservative") == [name for name in ALGORITHMS if family(name) == "conservative"]
    assert names("--family", "conservative", "--action", "discrete") == ["discrete_cql"]
    assert "iql" in names("--action", "discrete") and "iql" in names("--action", "continuous")


def test_algorithms_for_scripts(topstitch):
    rows = json.loads(topstitch("algorithms", "--json")[1])
    assert [row["name"] for row in rows] == list(ALGORITHMS)
    assert all(row["file"].endswith(".py") and row["paper"]["url"].startswith("https://") and row["lines"] > 10 for row in rows)


def test_cite(topstitch, train):
    code, out, _ = topstitch("cite", "cql", "discrete_cql", "td3bc")
    assert code == 0
    assert out.count("@inproceedings") == 2  # both CQLs come from one paper
    assert "2006.04779" in out and "2106.06860" in out
    train("td3bc", "doses.csv", "-o", "runs")
    assert "2106.06860" in topstitch("cite", "runs")[1]
