"""What is guessed of a table that nobody described, and what a person then reads."""

import pytest

from topstitch.data.intake.guess import Guess, guess
from topstitch.data.intake.rules import Rules
from topstitch.data.intake.sources import parts


def guessed(path, content: str, **said) -> Guess:
    path.write_text(content)
    found = parts(path, query=None, separator=said.get("separator"), encoding="utf-8", memory=1 << 24, scratch=path.parent)
    return guess(found, Rules.of(said))


def test_decimal_commas_are_told_from_thousands(tmp_path):
    plant = "batch;step;heat;valve;reward;done\n1;1;70,5;open;1,25;0\n1;2;68;shut;-0,5;1\n2;1;71,25;shut;2;0\n2;2;70,125;open;0,75;1\n"
    found = guessed(tmp_path / "a.csv", plant, separator=";", action="valve")
    assert (found.rules.decimal, found.rules.obs, found.rules.reward) == (",", ("heat",), "reward")
    assert "'heat'" in found.why["decimal"]
    shop = 'batch;step;heat;valve;reward;done\n1;1;"1,234";open;1;0\n1;2;"23,456";shut;2;1\n'
    assert guessed(tmp_path / "a.csv", shop, separator=";", action="valve").rules.decimal == "."


@pytest.mark.parametrize(
    ("cells", "time", "left"),
    [
        (
            ["2024-01-01 08:00:00.5 UTC", "2024-01-01T09:00+01:00", "2024-01-02T07:00Z"],
            "at",
            None,
        ),  # 8:00, 8:00, 7:00 of the next day, in UTC
        (["2024-01-31", "31/01/2024", "2024-02-01"], None, "'31/01/2024' in row 2 is not written as 2024-01-31 12:00; see --time-format"),
        (["early", "late", "later"], None, None),
    ],
)
def test_times_that_are_none_are_named(tmp_path, cells, time, left):
    rows = [f"{stay},{cell},{j / 2},{j % 2},{j},0" for stay in "ab" for j, cell in enumerate(cells)]
    found = guessed(tmp_path / "a.csv", "\n".join(["stay,at,heat,action,reward,done", *rows]).replace(",at,", ",datetime,"))
    assert found.rules.time == (time and "datetime")
    assert (left or "nothing") in found.left.get("datetime", "nothing")


def test_a_few_repeated_times_are_still_times(tmp_path):
    """The import refuses them, and says what to do; without a time it would not see that rows come twice."""
    rows = [f"{i // 5},{i % 5},{i / 2},{i % 2},{i},{int(i % 5 == 4)}" for i in range(40)]
    header = "stay,hour,heat,action,reward,done"
    found = guessed(tmp_path / "a.csv", "\n".join([header, *rows, rows[3]]))
    assert found.rules.time == "hour" and "but for 2 rows" in found.why["time"]
    assert guessed(tmp_path / "a.csv", "\n".join([header, *rows, *rows])).rules.time is None


def test_what_may_show_the_outcome_is_left_out(tmp_path):
    rows = [f"{i // 4},{i % 4},{40 + i % 7},{i // 8},{i % 2},{i % 3},{i % 5},{int(i % 4 == 3)}" for i in range(40)]
    shop = "\n".join(["visit,step,age,shop_id,offer,clicked,profit,done", *rows])
    found = guessed(tmp_path / "a.csv", shop)
    assert (found.rules.obs, found.rules.reward) == (("age",), "profit")
    assert "called like a reward" in found.left["clicked"] and "--one-hot shop_id" in found.left["shop_id"]
    found = guessed(tmp_path / "a.csv", shop, reward="clicked - profit / 10")
    assert found.rules.obs == ("age",) and "'reward' is made of it" in found.left["clicked"]


def test_masks_are_told_by_their_names_and_nested_cells_named(tmp_path):
    rows = [f"{i // 4},{i % 4},\"{{'hp': {i}}}\",{i % 7},1,{i % 2},{i % 2},{i % 3},{int(i % 4 == 3)}" for i in range(40)]
    found = guessed(tmp_path / "a.csv", "\n".join(["match,tick,state,gold,can_wait,can_run,action,reward,done", *rows]))
    assert (found.rules.mask, found.rules.obs) == (("can_run", "can_wait"), ("gold",))
    assert "hold several values each, as in {'hp': 0}" in found.left["state"]


def test_what_came_of_a_decision_is_told_by_its_name(tmp_path):
    rows = [
        f"{600 + i % 7},{i % 3},{0.3 + i % 2 / 10},{'yes' if i % 2 else 'no'},{i % 5},{'HIGH' if i % 9 == 0 else i / 2}" for i in range(40)
    ]
    found = guessed(tmp_path / "a.csv", "\n".join(["score,offer,offer_probability,accepted,profit_12m,glucose", *rows]))
    rules = found.rules
    assert (rules.obs, rules.action, rules.reward, rules.probability) == (("score",), ("offer",), "profit_12m", "offer_probability")
    assert "like an outcome" in found.left["accepted"] and found.left["glucose"].endswith(
        "5 are not; if these stand for empty ones, give --na 'HIGH'"
    )


def test_of_columns_called_like_episodes_the_one_in_order_is_taken(tmp_path):
    rows = [f"{i // 4},{i % 4},{40 + i % 7},{i % 2},{i % 3},{int(i % 4 == 3)}" for i in range(40)]
    assert guessed(tmp_path / "a.csv", "\n".join(["order,visit,age,offer,profit,done", *rows])).rules.episode == ("order",)
