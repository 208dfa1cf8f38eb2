"""Each fault planted alone in a sound table is found, and the sound table has none; nor have logs of known origin, beyond what is true of them."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest

from topstitch.bench import icu_sepsis
from topstitch.data import Episodes
from topstitch.data.check import CHECKS, OF_SPLITS, SEVERITIES, check
from topstitch.data.codec import Codec, Column
from topstitch.data.intake import import_table
from topstitch.data.read import read
from topstitch.worlds import gridworld, random_mdp, sample

NAMES = ("glucose", "pressure", "weight", "age", "dose before", "glucose before", "hour", "lactate", "lactate (missing)")


# a sound table -------------------------------------------------------------------------------------------------------------------


def ward(patients: int = 400, *, seed: int = 0, longest: int = 25, leave: float = 0.12, rule: float = 1.0) -> dict:
    """Columns of a log of doses (0, 1, 2) for `Episodes.of`, one row an hour: what a sound table holds, among it what could be taken for a fault:
    values that never change in a stay, values before, the hour, a coarse column, blanks at random, a few stays that the log cuts off."""
    rng, rows = np.random.default_rng(seed), []
    for patient in range(patients):
        glucose, pressure, weight, age, last, before = rng.normal(), rng.normal(), 75 + 15 * rng.normal(), rng.integers(18, 90), 0, 0.0
        hour = 0
        while True:
            chance = np.exp(rule * np.array([-glucose, 0.0, glucose]))
            chance /= chance.sum()
            dose = rng.choice(3, p=chance)
            blank = rng.random() < 0.3
            seen = [glucose, pressure, weight, age, last, before if hour else glucose, hour, 0.0 if blank else rng.normal(), blank]
            after = 0.8 * glucose - 0.3 * (dose - 1) + 0.4 * rng.normal()
            pressure, weight = 0.9 * pressure + 0.4 * rng.normal(), weight + 0.05 * rng.normal()
            reward = -abs(after) + 0.1 * rng.normal()
            gone, cut = rng.random() < leave, hour + 1 == longest or rng.random() < 0.01
            behind = [after, pressure, weight, age, dose, glucose, hour + 1, 0.0, True]
            rows.append((patient, hour, seen, dose, reward, gone, gone or cut, behind, chance[dose]))
            glucose, before, last, hour = after, glucose, dose, hour + 1
            if gone or cut:
                break
    names = ("patient", "time", "obs", "action", "reward", "terminal", "ends", "next_obs", "probability")
    table = dict(zip(names, map(np.array, zip(*rows))))
    return chained(
        table
        | {"obs": table["obs"].astype(np.float32), "next_obs": table["next_obs"].astype(np.float32), "time": table["time"].astype(float)}
    )


def chained(table: dict) -> dict:
    """With the next row of the episode for what came next, where there is one."""
    inner, after = ~table["ends"], table["next_obs"].copy()
    after[inner] = table["obs"][1:][inner[:-1]]
    return table | {"next_obs": after}


def log_of(table: dict, **how) -> Episodes:
    """The episodes of such a table; the names of added columns are those of `extra`."""
    table = dict(table)
    patient, extra = table.pop("patient"), table.pop("extra", ())
    ids = patient[table["ends"]] if "ids" not in table else table.pop("ids")
    log = Episodes.of(**table, ids=ids, source="ward", **how)
    obs = tuple(Column(name, "number") for name in NAMES[:7]) + (Column("lactate", "number", missing="indicator"),)
    obs += tuple(Column(name, "number") for name in extra)
    doses = (
        (Column("dose", "choice", levels=("none", "low", "high")),)
        if table["action"].ndim == 1
        else tuple(Column(f"dose {j}", "number") for j in range(table["action"].shape[1]))
    )
    return dataclasses.replace(log, codec=Codec(obs, doses))


def infusions(table: dict) -> dict:
    """The same with a vector of two rates for the action."""
    rng = np.random.default_rng(1)
    rates = np.clip(0.3 * (table["action"][:, None] - 1) + 0.2 * rng.normal(size=(len(table["reward"]), 2)), -1, 1)
    return {name: x for name, x in table.items() if name != "probability"} | {"action": rates}


def states(patients: int = 1500, seed: int = 0, **changes) -> Episodes:
    """A log of a world of 12 numbered states under a logger that tries everything."""
    mdp = random_mdp(12, 3, ending=0.2, seed=seed)
    table = np.random.default_rng(seed).dirichlet(np.full(3, 3.0), size=12)
    log = sample(mdp, table, patients, horizon=60, key=jax.random.key(seed))
    return dataclasses.replace(log, **changes)


@pytest.fixture(scope="module")
def sound() -> dict:
    return ward()


def codes(log, **how) -> set[str]:
    return {found.code for found in check(log, **how)}


def test_a_sound_table_has_no_fault(sound):
    found = check(log_of(sound))
    assert list(found) == [] and found.worst is None
    assert len(found.passed) + len(found.unasked) == len(CHECKS)
    assert {one.code for one in found.unasked} >= {one.code for one in OF_SPLITS} | {"saturated-actions", "single-action-states"}
    assert codes(log_of(infusions(sound), low=-1, high=1)) == set()
    assert codes(states()) == set()


# each fault alone ----------------------------------------------------------------------------------------------------------------


def add(table: dict, name: str, column, after=0) -> dict:
    """With one more observation, and what it is behind the last row of an episode."""
    behind = np.full(len(column), after, np.float32)
    wide = {
        "obs": np.column_stack([table["obs"], np.asarray(column, np.float32)]),
        "next_obs": np.column_stack([table["next_obs"], behind]),
    }
    return chained(table | wide | {"extra": (*table.get("extra", ()), name)})


def put(table: dict, column: str, rows, values) -> dict:
    """Other values of a known observation in some rows."""
    obs = table["obs"].copy()
    obs[rows, NAMES.index(column)] = values
    return chained(table | {"obs": obs})


def pick(table: dict, rows) -> dict:
    """These rows in this order."""
    return {name: x if name == "extra" else x[rows] for name, x in table.items()}


def stays(table: dict) -> np.ndarray:
    """The number of each row's episode."""
    return np.cumsum(table["ends"]) - table["ends"]


def per_stay(table: dict, values) -> np.ndarray:
    return np.asarray(values)[stays(table)]


def outcome(table: dict) -> np.ndarray:
    return np.bincount(stays(table), weights=table["reward"])


def twice(table: dict) -> dict:
    again = np.flatnonzero(np.isin(stays(table), [3, 50, 120]))
    out = pick(table, np.concatenate([np.arange(len(table["reward"])), again]))
    return out | {"patient": np.concatenate([table["patient"], 1000 + table["patient"][again]])}


def stuttered(table: dict) -> dict:
    at = np.flatnonzero(~table["ends"])[::50]
    out = pick(table, np.sort(np.concatenate([np.arange(len(table["reward"])), at])))
    out["time"] = np.arange(len(out["time"])) - np.concatenate([[0], np.flatnonzero(out["ends"])[:-1] + 1])[stays(out)].astype(float)
    return chained(out)


def shortened(table: dict, longest: int, **marks) -> dict:
    """Every stay cut after `longest` rows, and its new last row marked."""
    hour = table["time"].astype(int)
    out = pick(table, hour < longest)
    last = (out["time"].astype(int) == longest - 1) & ~out["ends"]
    return out | {"ends": out["ends"] | last, **{name: np.where(last, value, out[name]) for name, value in marks.items()}}


def equal(table: dict) -> dict:
    """All stays of eight rows, all marked as ended."""
    long = np.bincount(stays(table))[stays(table)] >= 8
    out = shortened(pick(table, long), 8)
    return out | {"terminal": out["ends"].copy()}


def at_the_end(table: dict, value=None) -> dict:
    paid = np.random.default_rng(0).choice([-1.0, 1.0], len(table["reward"])) if value is None else value
    return table | {"reward": np.where(table["terminal"], paid, 0.0)}


def jumping(table: dict) -> dict:
    inner = np.flatnonzero(~table["ends"] & (table["time"] > 2))[::150]
    obs = table["obs"][:, NAMES.index("weight")].copy()
    for row in inner:  # from here on another patient's weight
        mine = (np.arange(len(obs)) >= row) & (stays(table) == stays(table)[row])
        obs[mine] += 25.0
    return put(table, "weight", slice(None), obs)


def shown(table: dict, name: str) -> np.ndarray:
    return table["obs"][:, NAMES.index(name)]


def noise(table: dict, scale: float) -> np.ndarray:
    return scale * np.random.default_rng(3).normal(size=len(table["reward"]))


def gaps(table: dict) -> dict:
    later = np.isin(np.arange(len(table["time"])), np.flatnonzero(table["time"] == 4)[:6]).astype(float)
    late = np.cumsum(later) - per_stay(table, np.concatenate([[0], np.cumsum(later)[table["ends"]][:-1]]))
    return table | {"time": table["time"] + 100 * late}


def uneven(table: dict) -> dict:
    passed = np.random.default_rng(0).exponential(size=len(table["time"])) + 0.01
    total = np.cumsum(passed)
    return table | {"time": total - per_stay(table, np.concatenate([[0], total[table["ends"]][:-1]]))}


def ruled(table: dict) -> dict:
    """Doses by a rule of two columns, and no recorded probabilities."""
    dose = (shown(table, "glucose") > 0).astype(int) + (shown(table, "pressure") > 0)
    out = {name: x for name, x in table.items() if name != "probability"} | {"action": dose}
    return put(out, "dose before", ~np.concatenate([[True], table["ends"][:-1]]), out["action"][:-1][~table["ends"][:-1]])


PLANTED = {
    "repeated-episodes": twice,
    "repeated-steps": stuttered,
    "identifier-column": lambda t: add(t, "case", per_stay(t, 5000 + np.random.default_rng(0).permutation(400))),
    "copied-action": lambda t: add(t, "given", t["action"] * 2.5),
    "predicted-action": lambda t: add(t, "pump", t["action"] + 0.3 * np.random.default_rng(0).random(len(t["reward"]))),
    "copied-reward": lambda t: add(t, "score", 3 * t["reward"] + 1),
    "predicted-reward": lambda t: add(t, "score", t["reward"] + noise(t, 0.03)),
    "copied-outcome": lambda t: add(t, "days", per_stay(t, np.bincount(stays(t)))),
    "predicted-outcome": lambda t: add(t, "result", per_stay(t, outcome(t)) + noise(t, 0.2)),
    "future-column": lambda t: add(t, "glucose next", t["next_obs"][:, 0]),
    "constant-columns": lambda t: add(t, "unit", np.full(len(t["reward"]), 7), after=7),
    "nearly-constant-columns": lambda t: add(t, "alarm", np.arange(len(t["reward"])) == 700),
    "missing-codes": lambda t: put(t, "pressure", slice(None, None, 90), -999),
    "outliers": lambda t: put(t, "glucose", [100, 900], [4000, -3500]),
    "jumps": jumping,
    "telling-blanks": lambda t: put(t, "lactate (missing)", slice(None), shown(t, "glucose") > 0.5),
    "broken-chain": lambda t: t | {"next_obs": t["next_obs"] + (np.arange(len(t["reward"])) % 500 == 3)[:, None]},
    "one-length": equal,
    "limit-as-end": lambda t: shortened(t, 11, terminal=True),
    "never-ended": lambda t: t | {"terminal": np.zeros(len(t["reward"]), bool)},
    "ends-disagree": lambda t: at_the_end(t) | {"terminal": t["terminal"] & (stays(t) % 9 > 0)},
    "paid-at-the-end": at_the_end,
    "equal-returns": lambda t: t | {"reward": np.zeros(len(t["reward"]))},
    "large-rewards": lambda t: t | {"reward": 500 * t["reward"]},
    "tiny-rewards": lambda t: t | {"reward": t["reward"] / 1000},
    "time-gaps": gaps,
    "uneven-steps": uneven,
    "one-action": lambda t: put(t | {"action": np.ones_like(t["action"]), "probability": np.ones(len(t["reward"]))}, "dose before", slice(None), 1),
    "deterministic-logger": ruled,
    "wrong-propensities": lambda t: t | {"probability": t["probability"] / 3},
    "few-episodes": lambda t: pick(t, stays(t) < 60),
    "long-episodes": lambda t: ward(110, longest=200, leave=0.005),
    "drifting-practice": lambda t: t | {"reward": t["reward"] + np.where(stays(t) < 200, 0, 0.4)},
}  # fmt: skip
"Code of a fault -> what plants it in the ward's table."

ALSO = {
    "one-action": {"constant-columns", "unused-actions"},
    "ends-disagree": {"paid-at-the-end"},
}
"What is then also true."


@pytest.mark.parametrize("code", PLANTED)
def test_each_fault_alone_is_found_and_no_other(sound, code):
    log = log_of(PLANTED[code](sound), actions=3)
    found = check(log)
    assert {one.code for one in found} == {code} | ALSO.get(code, set())
    one = next(each for each in found if each.code == code)
    row = next(each for each in CHECKS if each.code == code)
    assert (one.severity, one.title, one.remedy) == (row.severity, row.title, row.remedy)
    assert one.what.endswith(".") and one.count >= len(one.rows) == len(one.where) <= 5
    assert all(0 <= at < log.steps for at in one.rows)
    if extra := set(log.obs_names) - set(NAMES):
        assert set(one.columns) == extra


# other faces of them -------------------------------------------------------------------------------------------------------------


def in_states(**changes) -> Episodes:
    """A log of numbered states, changed: `action` and `log_prob` may be functions of the log."""
    log = states()
    return dataclasses.replace(log, **{name: x(log) if callable(x) else x for name, x in changes.items()})


def flags_of_doses(table: dict) -> dict:
    for dose, name in enumerate(("none", "low", "high")):
        table = add(table, f"gave {name}", table["action"] == dose)
    return table


def unpaid(table: dict) -> dict:
    table = at_the_end(table)
    return table | {"reward": table["reward"] * (stays(table) % 60 > 0)}


VECTORS = {
    "out-of-range-actions": lambda log: dataclasses.replace(log, action=log.action * np.where(np.arange(log.steps) == 77, 3, 1)[:, None].astype(np.float32)),
    "saturated-actions": lambda log: dataclasses.replace(log, action=np.clip(3 * log.action, -1, 1)),
    "few-valued-actions": lambda log: dataclasses.replace(log, action=np.round(2 * log.action) / 2),
    "copied-action": lambda log: seeing(log, log.action[:, 1] / 7 + 2),
    "deterministic-logger": lambda log: dataclasses.replace(log, action=0.1 * log.obs[:, :2] @ np.float32([[1, 1], [1, -1]])),
}  # fmt: skip


def seeing(log: Episodes, column) -> Episodes:
    """With another observation in the place of the pressure."""
    obs, after = log.obs.copy(), log.next_obs.copy()
    obs[:, 1] = column
    inner = np.delete(np.arange(log.steps), log.stops - 1)
    after[inner] = obs[inner + 1]
    return dataclasses.replace(log, obs=obs, next_obs=after)


@pytest.mark.parametrize("code", VECTORS)
def test_faults_of_vectors_of_actions(sound, code):
    log = VECTORS[code](log_of(infusions(sound), low=-1, high=1))
    found = check(log)
    assert code in {one.code for one in found} <= {code, "saturated-actions"}
    one = next(each for each in found if each.code == code)
    assert one.columns if code != "deterministic-logger" else one.numbers["share"] > 0.99
    if code == "out-of-range-actions":
        assert one.rows == (77,) and one.where[0].startswith("episode ")


def test_bounds_that_were_read_off_the_log(sound):
    table = infusions(sound)
    rates = 5 * table["action"] * np.random.default_rng(0).uniform(0.5, 1, table["action"].shape)
    assert codes(log_of(table | {"action": rates})) == {"guessed-bounds"}
    assert codes(log_of(table | {"action": rates}, low=-6, high=6)) == set()


NUMBERED = {
    "unused-actions": lambda: Episodes.of(**columns_of(states()), actions=5, states=12),
    "single-action-states": lambda: in_states(action=lambda log: np.where(log.obs == 4, 1, log.action).astype(np.int32), log_prob=None),
    "deterministic-logger": lambda: in_states(action=lambda log: (log.obs % 3).astype(np.int32), log_prob=None),
    "certain-and-varied": lambda: in_states(log_prob=lambda log: np.zeros(log.steps, np.float32)),
}  # fmt: skip


def columns_of(log: Episodes) -> dict:
    return {name: x for name, x in log.columns().items() if name not in ("mask", "next_mask")} | {
        "ends": np.isin(np.arange(log.steps), log.stops - 1)
    }


@pytest.mark.parametrize("code", NUMBERED)
def test_faults_of_numbered_states(code):
    also = {"deterministic-logger": {"single-action-states"}, "certain-and-varied": {"deterministic-logger"}}
    assert codes(NUMBERED[code]()) == {code} | also.get(code, set())


def test_probabilities_of_other_rows_are_told_from_the_right_ones():
    log = states()
    assert codes(log) == set()
    shifted = dataclasses.replace(log, log_prob=np.roll(log.log_prob, 1))
    found = next(one for one in check(shifted) if one.code == "wrong-propensities")
    assert found.severity == "critical" and found.count > 0


def test_several_loggers_are_no_fault():
    world = random_mdp(12, 3, ending=0.2, seed=0)
    best = world.optimum(0.9).policy
    logs = [
        sample(world, policy, 800, horizon=60, key=jax.random.key(k))
        for k, policy in enumerate((world.uniform(), 0.9 * best + 0.1 * world.uniform()))
    ]
    assert codes(Episodes.join(*logs)) <= {"drifting-practice"}


def test_more_ways_of_knowing_too_much(sound):
    def found(table, code):
        return next(one for one in check(log_of(table)) if one.code == code)

    assert found(flags_of_doses(sound), "copied-action").columns == ("gave none", "gave low", "gave high")
    assert found(add(sound, "twice", np.exp(sound["reward"])), "copied-reward").numbers == {"row": {"twice": "same"}}  # in its own scale
    echo = add(sound, "echo", np.append(sound["reward"][1:], 0))
    assert found(echo, "copied-reward").numbers == {"row": {"echo": "next"}}
    left = per_stay(sound, np.bincount(stays(sound))) - sound["time"]
    assert found(add(sound, "hours left", left), "copied-outcome").numbers == {"tells": {"hours left": "its length"}}
    died = per_stay(sound, sound["terminal"][sound["ends"]])
    assert found(add(sound, "died", died), "copied-outcome").numbers == {"tells": {"died": "whether it ends"}}
    assert found(add(sound, "row", np.arange(len(died))), "identifier-column").columns == ("row",)


def test_ends_without_an_outcome(sound):
    (one,) = (each for each in check(log_of(unpaid(sound))) if each.code == "ends-disagree")
    assert one.severity == "caution" and "have no outcome" in one.what


def test_the_best_and_the_worst_case_of_a_wrong_end_are_given(sound):
    (one,) = (each for each in check(log_of(PLANTED["limit-as-end"](sound))) if each.code == "limit-as-end")
    assert one.numbers["worst"] < one.numbers["mean"] <= one.numbers["best"]
    assert one.numbers["length"] == 11 and one.count == one.numbers["episodes"]


def test_steps_of_unequal_time_are_fine_with_durations(sound):
    table = uneven(sound)
    duration = np.where(table["ends"], 1, np.append(np.diff(table["time"]), 1))
    assert codes(log_of(table | {"duration": duration})) == set()


def test_what_came_of_a_single_decision_is_found():
    """Accepted or not, and paid back or not: with the offer they say what was earned, and neither says it alone."""
    rng, n = np.random.default_rng(0), 600
    offer, score, good = rng.integers(3, size=n), rng.normal(size=n), rng.random(n)
    status = np.where(good < 0.3, "default", np.where(good < 0.7, "paid", "refused"))
    reward = np.select([status == "default", status == "paid"], [-2.0, 1.0 + offer], 0.0)
    table = pl.DataFrame({"score": score, "status": status, "offer": offer, "reward": reward})
    read = lambda *obs: import_table(table, episode="row", obs=list(obs), action="offer", reward="reward", terminal="always")
    (found,) = check(read("score", "status"))
    assert (found.code, found.columns) == (
        "predicted-outcome",
        ("status",),
    ) and "100.0% of the reward, together with what was done" in found.what
    assert codes(read("score")) == set()


def test_a_clock_in_words_shows_no_future():
    """Its hours follow one another, from whatever hour a day begins with; the last is never left, the first never reached."""
    rng = np.random.default_rng(0)
    hours = np.concatenate([np.arange(start, end) for start, end in zip(rng.integers(7, 9, 200), rng.integers(11, 15, 200))])
    day = np.cumsum(np.append(0, np.diff(hours) < 0))
    table = pl.DataFrame({"day": day, "time": [f"{hour}:00" for hour in hours], "x": rng.normal(size=len(day)), "act": rng.integers(2, size=len(day)), "reward": rng.normal(size=len(day))})  # fmt: skip
    log = import_table(table, episode="day", obs=["time", "x"], action="act", reward="reward", terminal="always")
    assert codes(log) == set()
    log = import_table(table.with_columns(then=pl.col("x").shift(-1).fill_null(0)), episode="day", obs=["time", "x", "then"], action="act", reward="reward", terminal="always")  # fmt: skip
    assert codes(log) == {"future-column"}


def test_angles_that_wrap_around_are_jumps_and_values_before_are_no_future(sound):
    turn = np.mod(0.01 * np.cumsum(np.random.default_rng(0).normal(size=len(sound["reward"]))), 1)
    assert codes(log_of(add(sound, "heading", turn))) == {"jumps"}
    kept = {one.code: one for one in check(log_of(add(sound, "glucose next", sound["next_obs"][:, 0])))}
    assert kept["future-column"].numbers == {
        "ahead of": {"glucose next": "glucose"}
    }  # and not "glucose", which is one step ahead of "glucose before"


# splits --------------------------------------------------------------------------------------------------------------------------


def test_splits_may_share_neither_names_nor_episodes(sound):
    log = log_of(sound)
    train, held_out = log.split(0.3)
    assert not {"shared-ids", "shared-episodes"} & codes(log, splits={"train": train, "evaluation": held_out})
    both = Episodes.join(held_out, train.take(np.flatnonzero(train.lengths > 4)[:2]))
    found = [one for one in check(log, splits={"train": train, "evaluation": both}) if one.severity == "critical"]
    assert [one.code for one in found] == ["shared-ids", "shared-episodes"]
    assert all(one.count == 2 and one.numbers["between"] == ["train", "evaluation"] for one in found)
    assert found[1].rows == tuple(both.starts[-2:].tolist())
    renamed = dataclasses.replace(both, ids=np.arange(10_000, 10_000 + len(both)))
    assert [one.code for one in check(log, splits={"train": train, "evaluation": renamed}) if one.severity == "critical"] == [
        "shared-episodes"
    ]


# logs of known origin ------------------------------------------------------------------------------------------------------------


def test_worlds_of_few_states_have_copies_by_chance():
    found = {one.code: one.what for one in check(icu_sepsis.log())}
    assert set(found) == {"paid-at-the-end", "single-action-states"}
    assert found["paid-at-the-end"] == "In the last step only; episodes have 9.2 steps in the mean."
    world = random_mdp(5, 2, ending=0.4, seed=1)
    log = sample(world, world.uniform(), 1500, horizon=50, key=jax.random.key(1))
    assert codes(log) == set()
    doubled = Episodes.join(log, log.take([i for i in range(len(log)) if log.lengths[i] > 6]))
    assert "repeated-episodes" in codes(doubled)
    assert "repeated-episodes" in codes(gridworld().log)  # two walks, a hundred times: that is true


REAL = {
    "d3rlpy_h5/cartpole_v1.1.0.h5": {"long-episodes"},
    "d3rlpy_h5/cartpole_random_v1.1.0.h5": set(),
    "d3rlpy_h5/pendulum_v1.1.0.h5": {"long-episodes", "never-ended"},
    "d3rlpy_h5/pendulum_random_v1.1.0.h5": {"long-episodes", "never-ended", "saturated-actions"},
    "minari/D4RL/door/human-v2": {"few-episodes", "never-ended", "saturated-actions", "predicted-reward"},
}
"Nothing but what is true of them: a hinge's angle all but says the reward of the door."


@pytest.mark.parametrize("name", REAL)
def test_real_logs_raise_no_false_alarm(shared, name):
    assert codes(read(shared / name)) == REAL[name]


def test_logs_of_a_shop_raise_no_false_alarm(shared):
    import polars as pl

    table = pl.read_csv(shared / "open_bandit" / "bts_men.csv.gz")
    table = table.with_columns(pl.int_range(pl.len()).alias("visit")).to_dummies(
        [name for name in table.columns if name.startswith("user_feature")]
    )
    log = read(
        table,
        episode="visit",
        obs=["position", "user*"],
        action="item_id",
        reward="click",
        terminal="always",
        probability="propensity_score",
    )
    assert codes(log) == {"constant-columns", "nearly-constant-columns"}


# the table and its answers -------------------------------------------------------------------------------------------------------


def test_the_table_is_complete():
    assert len({one.code for one in CHECKS}) == len(CHECKS)
    assert {*PLANTED, *VECTORS, *NUMBERED, "guessed-bounds", "shared-ids", "shared-episodes"} == {
        one.code for one in CHECKS
    }  # each has its test
    for one in CHECKS:
        assert one.severity in SEVERITIES and one.remedy.endswith(".") and not one.title.endswith(".") and one.looks and one.fine


def test_findings_are_plain_and_sorted(sound):
    table = put(add(sound, "given", sound["action"]), "pressure", slice(None, None, 90), -999)
    found = check(log_of(table | {"terminal": np.zeros(len(table["reward"]), bool)}))
    assert [one.severity for one in found] == ["critical", "warning", "note"] and found.worst == "critical"
    plain = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert plain["counts"] == {"critical": 1, "caution": 0, "warning": 1, "note": 1}
    assert plain["findings"][1]["code"] == "missing-codes" and plain["findings"][1]["numbers"] == {"code": {"pressure": -999.0}}
    assert len(plain["passed"]) + len(plain["unasked"]) + len(plain["findings"]) == len(CHECKS)


@pytest.mark.parametrize("kind", ["plain", "constant_reward", "all_terminal", "one_episode", "constant_obs"])
def test_any_log_can_be_asked(kind):
    from topstitch.core import Box, Discrete, Image, MultiDiscrete
    from topstitch.testing import tiny

    for obs in (Box, Discrete) if kind == "constant_obs" else (Box, Discrete, Image):
        for action in (Box, Discrete, MultiDiscrete):
            found = check(tiny(action, obs=obs, kind=kind))
            assert "few-episodes" in {one.code for one in found}
            assert ("equal-returns" in {one.code for one in found}) == (kind == "constant_reward")


def test_the_page_says_what_the_table_says():
    page = (Path(__file__).parents[2] / "docs/check.md").read_text()
    for one in CHECKS:
        assert f"| `{one.code}` | {one.severity} | {one.looks} | {one.remedy} |" in page
    assert page.count("\n| `") == len(CHECKS)


def test_few_states_and_a_clock_are_no_copies():
    rng, n = np.random.default_rng(0), 1000
    state, action = np.repeat(rng.integers(2, size=n), 4), rng.integers(3, size=4 * n)
    ends = np.arange(4 * n) % 4 == 3
    log = Episodes.of(
        state[:, None].astype(np.float32), action, ends * (rng.random(4 * n) < 0.6), ends, ends=ends, next_obs=np.roll(state, -1)[:, None].astype(np.float32)
    )  # fmt: skip
    train, judge = log.split(0.4)
    assert not {"repeated-episodes", "shared-episodes"} & codes(log, splits={"train": train, "evaluation": judge})
