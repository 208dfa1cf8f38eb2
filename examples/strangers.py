"""Six tables as strangers bring them, from worlds whose truth is known. What a study says of each is told in docs/strangers.md.

    python examples/strangers.py loans FOLDER                the table, its import, the study, and what is true of it
    python examples/strangers.py all FOLDER RESULTS.json     all of them: loans, calls, variants, glucose, dungeon, greenhouse

Nothing in them was measured: they have the form of such tables, and not their content.
"""

import json
import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

State = dict[str, Any]
"Columns of what is going on, (episodes,) each."
Choose = Callable[[State, pl.DataFrame, np.random.Generator], tuple[Any, Any]]
"(what goes on, what is seen of it) -> (the decision of every episode, its probability or None)."


class World(NamedTuple):
    """How episodes go. All of them are played side by side."""

    episodes: int
    steps: int
    start: Callable[[np.random.Generator, int], State]
    see: Callable[[State], dict[str, Any]]
    "The columns that a policy may look at, masks included."
    practice: Choose
    step: Callable[[State, Any, np.random.Generator], tuple[np.ndarray, np.ndarray, dict[str, Any]]]
    "Goes on, and answers (reward, whether the episode is over, further columns)."
    written: Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]
    "The table as its owner writes it."
    roles: str
    "What is typed behind `topstitch data import`, ..."
    study: str
    "... and behind `topstitch run`."


def play(world: World, choose: Choose, episodes: int, seed: int) -> pl.DataFrame:
    """One row a decision: `episode`, `step`, what was seen, `action`, `p`, `reward`, `done` and further columns."""
    rng = np.random.default_rng(seed)
    state, alive, frames = world.start(rng, episodes), np.ones(episodes, bool), []
    for t in range(world.steps):
        seen = pl.DataFrame(world.see(state))
        action, p = choose(state, seen, rng)
        reward, done, more = world.step(state, action, rng)
        acts = {"action": action} if np.ndim(action) == 1 else {f"action_{j}": part for j, part in enumerate(np.transpose(action))}
        rows = seen.with_columns(episode=pl.int_range(episodes), step=t, p=pl.Series(p, dtype=pl.Float64) if p is not None else None,
                                 **{name: pl.Series(x) for name, x in ({"reward": reward, "done": done} | acts | more).items()})  # fmt: skip
        frames.append(rows.filter(pl.Series(alive)))
        alive = alive & ~done
    return pl.concat(frames).sort("episode", "step")


def softmax(x: np.ndarray) -> np.ndarray:
    p = np.exp(x - x.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def drawn(p: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(rows,) members drawn from (rows, members) probabilities, and theirs."""
    member = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(max=p.shape[1] - 1)
    return member, p[np.arange(len(p)), member]


def place(action: Any, members: np.ndarray) -> np.ndarray:
    """(rows,): which member each decision is."""
    return (np.asarray(action)[:, None] == members).argmax(axis=1)


def chance(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# loans: one offer, drawn with known probabilities, and what it brought in a year -------------------------------------------------

RATES = np.array([0.0, 5.9, 8.9, 12.9])
OFFERS = np.array(["none", "5.9 %", "8.9 %", "12.9 %"])


def loans_start(rng, n):
    return {"age": rng.integers(21, 75, n), "income": rng.lognormal(10.2, 0.4, n).round(-2), "score": rng.normal(620, 70, n).clip(350, 850).round(),
            "employed": rng.choice(["salaried", "self-employed", "not"], n, p=[0.7, 0.2, 0.1]), "region": rng.integers(1, 13, n)}  # fmt: skip


def loans_practice(state, seen, rng):
    """Cheaper for better scores, and otherwise at random."""
    wish = (state["score"] - 620)[:, None] / 120 * np.array([-1.0, 1.0, 0.3, -0.3])
    member, p = drawn(0.2 / len(OFFERS) + 0.8 * softmax(wish), rng)
    return OFFERS[member], p


def loans_step(state, action, rng):
    rate = RATES[place(action, OFFERS)]
    accepted = (rate > 0) & (rng.random(len(rate)) < chance(2.5 - 0.28 * rate + (620 - state["score"]) / 100))
    risk = chance(-(state["score"] - 520) / 40 + 0.8 * (state["employed"] == "not") + 0.05 * rate - 1)
    lost = accepted & (rng.random(len(rate)) < risk)
    profit = np.where(lost, -900.0, accepted * 50 * rate - 20 * accepted).round(2)
    status = np.where(lost, "default", np.where(accepted, "paid", ""))
    return profit, np.ones(len(rate), bool), {"accepted": np.where(accepted, "yes", "no"), "status": status}


def loans_written(rows, rng):
    days = [datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=int(x)) for x in rng.integers(0, 365, rows.height)]
    return rows.select(
        pl.format("A-{}", pl.col("episode").cast(pl.String).str.zfill(6)).alias("application"), pl.Series("applied", [d.strftime("%d/%m/%Y") for d in days]),
        "age", "income", "score", "employed", "region", pl.col("action").alias("offer"), pl.col("p").round(4).alias("offer_probability"), "accepted",
        "status", pl.col("reward").alias("profit_12m"),
    )  # fmt: skip


# calls: what an agent does in up to four calls of a customer, with masks, and many agents ----------------------------------------

MOVES = np.array(["nothing", "callback", "survey", "gift", "discount 10", "discount 20", "upgrade", "retention team"])
AGENTS = np.array(["K. Meyer", "M. Nowak", "A. Sato", "S. Lind", "L. Rossi", "J. Klein", "T. Adler", "R. Brandt", "P. Costa", "D. Dupont"])


def calls_start(rng, n):
    return {"tenure": rng.integers(1, 96, n), "plan": rng.choice(["basic", "plus", "max"], n, p=[0.5, 0.35, 0.15]), "complaints": rng.poisson(0.7, n),
            "mood": rng.integers(1, 6, n).astype(float), "agent": rng.integers(0, len(AGENTS), n)}  # fmt: skip


def calls_see(state):
    allowed = np.ones((len(state["tenure"]), len(MOVES)), bool)
    allowed[:, 5] = state["tenure"] > 12
    allowed[:, 6] = state["plan"] != "max"
    allowed[:, 7] = state["complaints"] > 0
    masks = {f"can_{move}": allowed[:, k].astype(int) for k, move in enumerate(MOVES)}
    return {name: state[name] for name in ("tenure", "plan", "complaints", "mood")} | masks


def calls_practice(state, seen, rng):
    """Every agent has habits, which the customer's mood bends a little."""
    habits = np.random.default_rng(7).normal(size=(len(AGENTS), len(MOVES)))
    wish = 0.7 * habits[state["agent"]] + (3 - state["mood"])[:, None] * np.array([-0.3, 0, 0, 0.1, 0.1, 0.2, 0, 0.2])
    allowed = seen.select("^can_.*$").to_numpy() > 0
    member, p = drawn(softmax(np.where(allowed, wish, -np.inf)), rng)
    return MOVES[member], p


def calls_step(state, action, rng):
    k = place(action, MOVES)
    lift = np.array([0.0, 0.3, -0.1, 0.4, 0.4, 0.9, 0.1, 0.8])[k]
    worth = np.select([state["plan"] == "basic", state["plan"] == "plus"], [12.0, 20.0], 32.0)
    bought = (action == "upgrade") & (rng.random(len(k)) < chance(state["mood"] - 4.2))
    cost = np.array([0, 2, 0.5, 6, 3, 8, 1, 5])[k]
    left = rng.random(len(k)) < chance(-2.2 + 0.5 * (2.5 - state["mood"]) + 0.4 * state["complaints"] - lift)
    margin = np.where(left, -40.0, worth + 15 * bought) - cost + rng.normal(0, 2, len(k))
    state["mood"] = (state["mood"] + lift + rng.normal(0, 0.6, len(k)) - 0.4).clip(1, 5).round(1)
    state["complaints"] = np.where(action == "retention team", 0, state["complaints"] + (rng.random(len(k)) < 0.15))
    state["tenure"] = state["tenure"] + 1
    return margin.round(2), left, {"agent": AGENTS[state["agent"]], "left": left.astype(int)}


def calls_written(rows, rng):
    begin = datetime(2024, 1, 8, 9, tzinfo=UTC)
    at = [(begin + timedelta(days=30 * t, minutes=int(e) % 480)).isoformat() for e, t in rows.select("episode", "step").iter_rows()]
    rows = rows.select(pl.col("episode").alias("customer"), pl.Series("called_at", at), "agent", "tenure", "plan", "complaints", "mood", "^can_.*$",
                       "action", pl.col("reward").alias("margin"), "left")  # fmt: skip
    return rows.sort("called_at")


# variants: an A/B/C test with texts for variants, and no column of probabilities -------------------------------------------------

VARIANTS = np.array(["A", "B: green button", 'C: "Buy now, pay later"'])


def variants_start(rng, n):
    return {"device": rng.choice(["mobile", "desktop", "tablet"], n, p=[0.6, 0.35, 0.05]), "country": rng.choice(["DE", "FR", "PL", "NO"], n),
            "visits_before": rng.poisson(1.5, n)}  # fmt: skip


def variants_practice(state, seen, rng):
    n = len(state["device"])
    return VARIANTS[rng.integers(0, 3, n)], np.full(n, 1 / 3)


def variants_step(state, action, rng):
    k, mobile = place(action, VARIANTS), state["device"] == "mobile"
    p = (
        0.05
        + np.where(mobile, np.array([0, 0.03, -0.01])[k], np.array([0, -0.01, 0.02])[k])
        + 0.004 * np.minimum(state["visits_before"], 5)
    )
    return (rng.random(len(p)) < p).astype(int), np.ones(len(p), bool), {}


def variants_written(rows, rng):
    at = [datetime(2024, 5, 1, tzinfo=UTC) + timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, 14 * 86400, rows.height))]
    return rows.select(pl.Series("at", [a.isoformat().replace("+00:00", "Z") for a in at]), pl.Series("visitor", [f"{v:016x}" for v in rng.integers(0, 2**60, rows.height)]),
                       "device", "country", "visits_before", pl.col("action").alias("variant"), pl.col("reward").alias("converted"))  # fmt: skip


# glucose: days of patients, with gaps, rows that come twice, and words among the numbers -----------------------------------------


def glucose_start(rng, n):
    return {"glucose": rng.normal(150, 40, n).clip(50, 350), "active": np.zeros(n), "carbs": np.zeros(n), "weight": rng.normal(72, 12, n).round(),
            "hour": np.full(n, 7)}  # fmt: skip


def glucose_see(state):
    return {"time": [f"{hour}:00" for hour in state["hour"]]} | {name: state[name] for name in ("glucose", "active", "carbs", "weight")}


def glucose_practice(state, seen, rng):
    """A bolus for carbohydrates and for what is above 150, in half units, and too little of it."""
    wish = (state["carbs"] / 14 + (state["glucose"] - 150).clip(0) / 60 - 0.5 * state["active"]) * rng.uniform(0.4, 1.0, len(state["hour"]))
    return np.where(rng.random(len(wish)) < 0.15, 0.0, (2 * wish.clip(0)).round() / 2), None


def glucose_step(state, action, rng):
    n, dose = len(state["hour"]), np.asarray(action, float)
    state["active"] = (0.6 * state["active"] + dose).round(2)
    rise = 2 * state["carbs"] - 12 * state["active"] + 6
    state["glucose"] = (state["glucose"] + rise + rng.normal(0, 12, n)).clip(30, 500).round()
    state["hour"] = state["hour"] + 1
    meal = np.isin(state["hour"], (8, 13, 19))
    state["carbs"] = np.where(meal | (rng.random(n) < 0.1), rng.integers(1, 7, n) * 5.0 * (1 + meal), 0.0)
    good = (state["glucose"] >= 70) & (state["glucose"] <= 180)
    return good.astype(float), state["hour"] > 22, {}


def glucose_written(rows, rng):
    """A sensor says HIGH and LOW instead of what it cannot measure; 2 rows in 100 are lost, 1 in 100 comes twice; a last row shows the day's end."""
    day = datetime(2024, 1, 1, tzinfo=UTC)
    dates = [(day + timedelta(days=int(e) % 60)).strftime("%d.%m.%Y") for e in rows["episode"]]
    value = rows["glucose"].round().cast(pl.Int64)
    shown = pl.select(
        pl.when(value > 400).then(pl.lit("HIGH")).when(value < 40).then(pl.lit("LOW")).otherwise(value.cast(pl.String))
    ).to_series()
    table = rows.select((pl.col("episode") // 60 + 1).alias("patient"), pl.Series("date", dates), "time", shown.alias("glucose"), "active", pl.col("carbs"), "weight", pl.col("action").alias("bolus"))  # fmt: skip
    table = table.filter(pl.Series(rng.random(table.height) > 0.02))
    return pl.concat([table, table.sample(fraction=0.01, seed=1)]).sort("date", maintain_order=True)


# dungeon: a game's export, whose state is one nested cell ------------------------------------------------------------------------

DEEDS = np.array(["attack", "flee", "potion"])


def dungeon_start(rng, n):
    return {"hp": rng.integers(40, 100, n), "gold": np.zeros(n, int), "enemy": rng.integers(10, 60, n), "potions": rng.integers(0, 3, n)}


def dungeon_practice(state, seen, rng):
    member, p = drawn(
        0.3 / 3 + 0.7 * softmax(np.stack([state["hp"] / 40, 1.5 - state["hp"] / 60, state["potions"] / 2 - 0.5], axis=1)), rng
    )
    return DEEDS[member], p


def dungeon_step(state, action, rng):
    k, n = place(action, DEEDS), len(state["hp"])
    drink = (k == 2) & (state["potions"] > 0)
    struck, hurt = rng.integers(10, 30, n) * (k == 0), rng.integers(5, 25, n) * (k != 1)
    state["enemy"], state["potions"] = state["enemy"] - struck, state["potions"] - drink
    won, fled = (state["enemy"] <= 0) & (k == 0), (k == 1) & (rng.random(n) < 0.8)
    state["hp"] = np.minimum(state["hp"] - hurt * ~won + 40 * drink, 100)
    dead, loot = state["hp"] <= 0, won * rng.integers(5, 15, n)
    state["gold"] = state["gold"] + loot
    state["enemy"] = np.where(won | fled, rng.integers(10, 60, n), state["enemy"])
    return (loot - 20 * dead).astype(float), dead, {}


def dungeon_written(rows, rng):
    nested = [json.dumps({"hp": hp, "gold": gold, "bag": {"potions": bag}, "enemies": [{"kind": "orc", "hp": enemy}]})
              for hp, gold, enemy, bag in rows.select("hp", "gold", "enemy", "potions").iter_rows()]  # fmt: skip
    return rows.select(
        pl.col("episode").alias("match"), pl.col("step").alias("tick"), pl.Series("state", nested), "action", "reward", "done"
    )


# greenhouse: three set points every five minutes ---------------------------------------------------------------------------------


def greenhouse_start(rng, n):
    return {"minute": np.zeros(n, int), "inside": rng.normal(17, 1, n), "humid": rng.normal(75, 5, n), "co2": rng.normal(450, 20, n),
            "outside": rng.normal(8, 4, n), "sun": np.zeros(n), "cloud": rng.uniform(0.3, 1, n)}  # fmt: skip


def greenhouse_see(state):
    return {"inside_c": state["inside"].round(1), "humidity": state["humid"].round(), "co2_ppm": state["co2"].round(), "outside_c": state["outside"].round(1),
            "sun_w": state["sun"].round(), "minute_of_day": state["minute"]}  # fmt: skip


def greenhouse_practice(state, seen, rng):
    n, day = len(state["sun"]), state["sun"] > 50
    heat = 30 + 6 * (np.where(day, 21, 17) - state["inside"]) + rng.normal(0, 2, n)
    vent = 8 * (state["inside"] - np.where(day, 24, 19)) + 1.5 * (state["humid"] - 80) + rng.normal(0, 4, n)
    return np.stack(
        [heat.clip(20, 70).round(1), vent.clip(0, 100).round(), np.where(day, 6 + rng.normal(0, 1, n), 0).clip(0, 12).round(2)], axis=1
    ), None


def greenhouse_step(state, action, rng):
    heat, vent, gas = np.transpose(action)
    state["minute"] = state["minute"] + 5
    state["sun"] = state["cloud"] * 700 * np.sin(np.pi * (state["minute"] - 360) / 720).clip(0)
    flow = 0.002 + 0.004 * vent / 100 * 10
    state["inside"] = (
        state["inside"] + 0.006 * (heat - state["inside"]) + 0.0008 * state["sun"] - flow * (state["inside"] - state["outside"])
    )
    state["humid"] = (state["humid"] + 0.3 - 3 * flow * (state["humid"] - 60) / 10 + rng.normal(0, 0.3, len(flow))).clip(20, 100)
    state["co2"] = (state["co2"] + 5 * gas - 5 * flow * (state["co2"] - 410) - 0.01 * state["sun"]).clip(200, 2000)
    grown = state["sun"] / 700 * np.minimum(state["co2"] / 800, 1.2) * np.exp(-(((state["inside"] - 22) / 7) ** 2))
    cost = 0.001 * (heat - 20) + 0.003 * gas + 0.05 * (state["humid"] > 92)
    return (grown - cost).round(4), state["minute"] >= 1440, {}


def greenhouse_written(rows, rng):
    """Times of a clock that is put forward in March; two in a hundred readings of humidity are missing."""
    begin = datetime(2024, 3, 1, tzinfo=timezone(timedelta(hours=1)))
    moments = [begin + timedelta(days=int(e), minutes=5 * int(t)) for e, t in rows.select("episode", "step").iter_rows()]
    summer = datetime(2024, 3, 31, 2, tzinfo=begin.tzinfo)
    at = [(m if m < summer else m.astimezone(timezone(timedelta(hours=2)))).isoformat() for m in moments]
    humid = pl.when(pl.Series(rng.random(rows.height) > 0.02)).then("humidity").alias("humidity")
    return rows.select((pl.col("episode") + 1).alias("day"), pl.Series("timestamp", at), "inside_c", humid, "co2_ppm", "outside_c", "sun_w", "minute_of_day",
                       pl.col("action_0").alias("heating_c"), pl.col("action_1").alias("vent_pct"), pl.col("action_2").alias("co2_kg_h"), "reward")  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------------------

ALL = lambda state: dict(state)
WORLDS = {
    "loans": World(
        20_000, 1, loans_start, ALL, loans_practice, loans_step, loans_written,
        """{csv} --episode application --obs age income score employed region --one-hot region --action offer --reward profit_12m --terminal always
        --probability offer_probability""",
        "--return-range -900 625 --words application,applications,offer,offers,profit --unit €",
    ),
    "calls": World(
        8_000, 4, calls_start, calls_see, calls_practice, calls_step, calls_written,
        """{csv} --episode customer --time called_at --obs tenure plan complaints mood --action action --mask can_* --reward margin --terminal always
        --logger agent""",
        "--words customer,customers,call,calls,margin --unit €",
    ),
    "variants": World(
        60_000, 1, variants_start, ALL, variants_practice, variants_step, variants_written,
        "{csv} --episode visitor --obs device country visits_before --action variant --reward converted --terminal always --probability 1/3",
        "--return-range 0 1 --words visit,visits,variant,variants,conversion",
    ),
    "glucose": World(
        2_400, 16, glucose_start, glucose_see, glucose_practice, glucose_step, glucose_written,
        """{csv} --episode patient date --time time --time-format %H:%M --obs time glucose active carbs weight --one-hot time --action bolus
        --bins bolus=0,0.5,2,4,20 --reward 'where(missing(glucose), 0, 70 <= glucose <= 180)' --reward-at next --terminal always --na HIGH LOW
        --missing glucose=forward-fill --repeated same""",
        "--words day,days,bolus,boluses,'hours in range'",
    ),
    "dungeon": World(
        3_000, 30, dungeon_start, ALL, dungeon_practice, dungeon_step, dungeon_written,
        """--query "SELECT *, CAST(state->>'hp' AS INT) AS hp, CAST(state->>'gold' AS INT) AS gold, CAST(state->>'$.enemies[0].hp' AS INT) AS enemy,
        CAST(state->>'$.bag.potions' AS INT) AS potions FROM '{csv}'"
        --episode match --time tick --obs hp gold enemy potions --action action --reward reward --terminal done""",
        "--words match,matches,move,moves,gold",
    ),
    "greenhouse": World(
        120, 288, greenhouse_start, greenhouse_see, greenhouse_practice, greenhouse_step, greenhouse_written,
        """{csv} --episode day --time timestamp --obs inside_c humidity co2_ppm outside_c sun_w minute_of_day --action heating_c vent_pct co2_kg_h
        --low 20 0 0 --high 70 100 12 --reward reward --terminal always --missing humidity=forward-fill""",
        "--words day,days,'set point','set points',growth",
    ),
}  # fmt: skip
EFFORT = "--seeds 2 --steps 3000"


def learned(study: str) -> Choose:
    """The policy that a study chose, asked in the words of its table, and drawn from as the study judged it."""
    import topstitch as ts

    def choose(state, seen, rng):
        decided = ts.decide(study, seen, draw=int(rng.integers(2**31))).drop("row", "time", "probability", strict=False)
        return decided.to_numpy() if decided.width > 1 else decided.to_series().to_numpy(), None

    return choose


def truth(world: World, choose: Choose, episodes: int = 40_000) -> tuple[float, float]:
    """(what an episode earns, standard error): of what the import takes as steps, which is one less where a reward stands in the next row."""
    steps = world.steps - ("--reward-at next" in world.roles)
    rows = play(world, choose, episodes, seed=1).filter(pl.col("step") < steps)
    each = rows.group_by("episode").agg(pl.col("reward").sum())["reward"].to_numpy()
    return float(each.mean()), float(each.std() / len(each) ** 0.5)


def chain(name: str, folder: Path) -> dict[str, Any]:
    """From the table to the verdict by the commands that a person types, and what is true of it."""
    from topstitch.cli import main as topstitch

    world, csv, began = WORLDS[name], folder / f"{name}.csv", time.monotonic()
    world.written(play(world, world.practice, world.episodes, seed=0), np.random.default_rng(1)).write_csv(csv)
    for words in (f"data import {world.roles.format(csv=csv)} -o {folder / name}", f"data check {folder / name}",
                  f"run {folder / name} {world.study} {EFFORT} -o {folder / name}-study"):  # fmt: skip
        print(f"\n$ topstitch {' '.join(words.split())}", flush=True)
        if topstitch(shlex.split(words)) and words.startswith("data import"):
            sys.exit(1)
    told = json.loads((folder / f"{name}-study" / "study.json").read_text())["verdict"]
    found = {key: told[key] for key in ("word", "margin", "chosen", "effective", "episodes")} | {"code": told["reasons"][0]["code"]}
    found |= {key: told[key] and [told[key][end] for end in ("value", "low", "high")] for key in ("value", "practice", "control", "net")}
    found |= {"bound": told["bound"] and told["bound"]["low"], "seconds": round(time.monotonic() - began)}
    found["true"] = {"practice": truth(world, world.practice)}
    if told["chosen"]:
        found["true"]["policy"] = truth(world, learned(str(folder / f"{name}-study")))
    return found


def main(names: str, folder: str, results: str | None = None) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in WORLDS if names == "all" else names.split(","):
        found = chain(name, Path(folder))
        print(f"\nIn truth: {found['true']}")
        if results is not None:
            from topstitch.disk import write_json

            path = Path(results)
            write_json(path, (json.loads(path.read_text()) if path.is_file() else {}) | {name: found})


if __name__ == "__main__":
    main(*sys.argv[1:])
