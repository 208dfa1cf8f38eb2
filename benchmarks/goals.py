"""Goals that no episode reached: what each method for goals makes of short walks in a maze, and of OGBench's data. The page docs/goals.md.

    python benchmarks/goals.py [--algorithms gcbc,qrl]      # some minutes: benchmarks/results/goals.json and the page
    python benchmarks/goals.py --ogbench pointmaze-medium-navigate --algorithms gcivl,qrl --updates 20000    # results/goals_ogbench.json
    python benchmarks/goals.py --page                       # the page alone, of what was measured

In `worlds.maze` all distances are known, and how often a policy arrives is computed exactly. OGBench's data are made again by its own recipe
(`topstitch.bench.ogbench`, which needs the package `ogbench`) and kept where `topstitch bench` keeps its logs.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import topstitch as ts
from topstitch.algos import find
from topstitch.bench import ogbench, tasks
from topstitch.disk import write_bytes
from topstitch.loop import train, unstack
from topstitch.worlds import arrivals, distances, maze, sample, table

HERE = Path(__file__).resolve().parent
PAGE, RESULTS, OGBENCH = HERE.parent / "docs/goals.md", HERE / "results/goals.json", HERE / "results/goals_ogbench.json"
HORIZON, EPISODES, SEEDS, PATIENCE = 4, 400, 3, 20
BANDS = ((1, 2), (3, 4), (5, 7), (8, 10))
MAZE = dict(hidden=(64,), batch_size=256, steps=3000, lr=1e-3)
HOW = MAZE | dict(actor_goals=ts.Goals(uniform=0.5, random=0.5))
VALUES = dict(discount=0.95, target_rate=0.02, beta=10.0)
METHODS = {
    "gcbc": ts.GCBC(**HOW),
    "crl": ts.CRL(**HOW, discount=0.95, embedding=16),
    "gciql": ts.GCIQL(**HOW, **VALUES),
    "gcivl": ts.GCIVL(**HOW, **VALUES),
    "hiql": ts.HIQL(**HOW, **VALUES, upper_beta=10.0, ahead=3),
    "qrl": ts.QRL(**HOW, embedding=32, dual_lr=1e-2, beta=10.0),
    "actionable_models": ts.ActionableModels(**MAZE, discount=0.95, target_rate=0.02, alpha=0.1),
}


ASKED = dict(hidden=(128, 128), batch_size=128, lr=1e-3)
"In OGBench's worlds, where others have (512, 512, 512), 1024 and 3e-4."
QUICK = dict(target_rate=0.02)
"There 0.005, over fifty times as many updates."
NARROW = {"qrl": dict(embedding=128), "crl": dict(embedding=128), "actionable_models": dict(actions_sampled=8)}
"Where others have 512, 512 and 64."
OURS = dict(alpha=0.01, value_goals=ts.Goals(current=0.2, geometric=0.5, random=0.3))
"Of Actionable Models, which others did not measure there: see what the page says of its α, and goals of values as its neighbours have them."
FIELDS = {
    "pointmaze": {"gciql": dict(alpha=0.003), "qrl": dict(alpha=0.0003), "crl": dict(alpha=0.03), "actionable_models": OURS},
    "cube": {"gciql": dict(alpha=1.0), "qrl": dict(alpha=0.3), "crl": dict(alpha=3.0), "hiql": dict(ahead=10)},
}
"""By the first word of the data: what seohongpark/ogbench @1d4140997, impls/hyperparameters.sh, has other than the defaults of the classes. Where
data are to be stitched, half of the actor's goals are random there."""


def asked(name: str, data: str, updates: int):
    """The method of that name, as it is trained on OGBench's data."""
    kind = find(name)
    known = {field.name for field in dataclasses.fields(kind)}
    stitched = dict(actor_goals=ts.Goals(uniform=0.5, random=0.5)) if "stitch" in data else {}
    fields = {field: value for field, value in (QUICK | stitched).items() if field in known}
    return kind(**ASKED, **fields, **NARROW.get(name, {}), **FIELDS[data.split("-")[0]].get(name, {}), steps=updates)


def evaluated(name: str, data: str, *, updates: int, seeds: int, episodes: int, steps: int) -> dict:
    """Trained on whole trajectories without rewards, and asked for OGBench's five goals: the share of episodes that end there, by seed and task."""
    log = tasks.trajectories(data, steps // ogbench.RECIPES[data].steps, tasks.Place()).normalised()
    rule, began = asked(name, data, updates), time.perf_counter()
    out = train([(rule, seed) for seed in range(seeds)], log, every=min(updates, 5000))
    if any(out.faults):
        raise RuntimeError(f"{name} diverged: {out.faults}")
    trained = time.perf_counter()
    policies = [log.policy(rule.policy(state)) for state in unstack(out.states, seeds)]
    seen = ts.evaluate(policies, ogbench.goal_environment(data), episodes=5 * episodes, lanes=10)
    assert seen.success is not None
    rates = seen.success.reshape(seeds, episodes, 5).mean(axis=1)
    return {
        "success": rates.round(4).tolist(), "updates": updates, "steps": log.steps, "episodes": episodes, "hidden": list(rule.hidden),
        "batch": rule.batch_size, "minutes": [round((b - a) / 60, 1) for a, b in ((began, trained), (trained, time.perf_counter()))],
    }  # fmt: skip


def measured(rule) -> list[list[float]]:
    """(seeds, bands): how often the greedy policy arrives within `PATIENCE` steps, over all pairs of cells that far apart."""
    world = maze()
    log, far = sample(world, world.uniform(), EPISODES, horizon=HORIZON, key=jax.random.key(0)), distances(world)
    out, rows = train([(rule, seed) for seed in range(SEEDS)], log, every=rule.steps), []
    if any(out.faults):
        raise RuntimeError(f"{type(rule).__name__} diverged: {out.faults}")
    ask = jax.jit(lambda state: jax.vmap(lambda goal: table(rule.policy(state).towards(goal), world))(jnp.arange(world.states)))
    for state in unstack(out.states, SEEDS):
        arrived = arrivals(world, np.eye(4)[np.asarray(ask(state)).argmax(axis=-1)], PATIENCE)
        rows.append([round(float(arrived[(far >= low) & (far <= high)].mean()), 4) for low, high in BANDS])
    return rows


def shares(rows) -> str:
    """Cells of a table: the mean over `rows`, (seeds, columns), of shares, and their range."""
    ranges = zip(np.mean(rows, axis=0), np.min(rows, axis=0), np.max(rows, axis=0))
    return " | ".join(f"{x:.0%}" if low == high else f"{x:.0%} ({low:.0%}–{high:.0%})" for x, low, high in ranges)


def grid(heads: list[str], rows: list[str]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows])


def far_table(results: dict) -> str:
    heads = [f"{low} to {high} steps" for low, high in BANDS]
    return grid(["method", *heads], [f"| `{name}` | {shares(results[name])} |" for name in METHODS if name in results])


def ogbench_tables(results: dict) -> str:
    """By data: what was measured, task by task, and what others published."""
    published, parts = json.loads((Path(ogbench.__file__).parent / "published.json").read_text()), []
    for data, cells in results.items():
        known, rows = published[f"{data}-v0"], []
        for name in (name for name in METHODS if name in cells):
            cell, theirs = cells[name], known.get(name)
            means = [[x] for x in np.mean(cell["success"], axis=1)]
            by_task = " | ".join(f"{x:.0%}" for x in np.mean(cell["success"], axis=0))
            beside = f"{theirs['mean']:.0f}% ± {theirs['std']:.0f}" if theirs else "–"
            rows.append(f"| `{name}` | {shares(means)} | {by_task} | {len(means)} | {cell['updates']:,} | {beside} |")
        steps = {cell["steps"] for cell in cells.values()}
        heads = ["method", "arrives", *(f"goal {i}" for i in range(1, 6)), "seeds", "updates", "published"]
        parts.append(f"`{data}`, {' or '.join(f'{n:,}' for n in sorted(steps))} logged steps:\n\n{grid(heads, rows)}")
    return "\n\n".join(parts)


def page(results: dict, others: dict) -> str:
    """The page, whose tables are what was measured."""
    each = " or ".join(str(n) for n in sorted({cell["episodes"] for cells in others.values() for cell in cells.values()}))
    return TEXT.format(rows=far_table(results), ogbench=ogbench_tables(others), asked_episodes=each, horizon=HORIZON, episodes=EPISODES,
                       seeds=SEEDS, patience=PATIENCE, steps=MAZE["steps"])  # fmt: skip


TEXT = """# Goals

<!-- generated by benchmarks/goals.py -->

A log without rewards still shows how to get from one observation to another. Methods for goals learn to reach any observation of the log, and are told
afterwards which.

```python
import topstitch as ts

log = ts.read("walks.npz")                                  # rewards are not looked at
runs = ts.train(ts.GCIVL(actor_goals=ts.Goals(uniform=0.5, random=0.5)), log.normalised(), seeds=4)
policy = runs[0].policy.towards(goal)                       # a raw observation; a policy like any other from here on
```

A policy has one goal at a time. `towards` answers with the same policy for another one, without compiling again; one that was told none has the last
observation of the log for its goal. `ts.evaluate` (and `topstitch evaluate`) acts towards `info["goal"]` of the environment's reset where there is one, as
OGBench's environments have.

## What is learned from

Every step that is drawn gets a goal: with the shares of `ts.Goals`, its own observation (`current`), a later one of its episode (`geometric` in the
discount, or `uniform`), its `final` one, or any of the log (`random`). It earns 0 and is terminal where its observation is the goal, and -1 elsewhere, so
that an optimal value is minus the discounted number of steps. Goals ahead never lie beyond an episode. A step that truly ended its episode elsewhere
never gets to its goal. Observations are vectors or numbered states; a goal is reached where all of the observation is equal, so leave out what a goal is not
about (a clock, a velocity) or give it a coarser state.

Values and actor have mixtures of their own (`value_goals`, `actor_goals`). Where ways of several episodes are to be joined, half of the actor's goals
should be random, as in OGBench's settings for its `stitch` data: with goals of the same episode alone the actor is never asked about any other.

## Which method

| method | values | joins episodes | is for |
|---|---|---|---|
| `gcbc` | none | no | the yardstick |
| `crl` | of the logger, by telling what followed from what did not | by likeness only | many long episodes |
| `gciql` | of steps, from step to step | yes | worlds with luck: it tells it from skill |
| `gcivl` | of states, from step to step | yes | worlds without much luck |
| `hiql` | as `gcivl`, read by two actors | yes | goals that are far |
| `qrl` | a distance that obeys the triangle inequality | yes | worlds that answer an action always alike |
| `actionable_models` | the chance to arrive, 0 by what nobody did | by its random goals | logs in which most of what was done led somewhere |

Actions may be vectors or choices. With vectors, `gciql`, `crl` and `qrl` climb what they learned and stay near the log; α says how near, in
units that differ between data sets by a factor of ten thousand (OGBench: 0.0003 to 3). With choices they imitate by weight. `actionable_models` has no actor:
it does what looks best, among all choices or among vectors drawn anywhere.

## What was measured

Two rooms with a door between them (`worlds.maze`, 17 cells), and {episodes} random walks of {horizon} steps each: no episode shows a way of more. How often
a policy arrives within {patience} steps, over all pairs of cells by how far they are apart; {steps} updates of nets with 64 units, the mean of {seeds} seeds (least–most).

{rows}

Nobody is asked here for a goal that is really far: `hiql`, whose lower actor is told a direction and not a goal, pays for that and cannot gain by it. To
`actionable_models` a log of random walks is foreign: its negatives (α = 0.1 here) discount every step once more, and far values are too small to compare.

`tests/laws/goals_test.py` holds that cloning fails and values succeed beyond {horizon} steps, and what each method becomes where the answer is known: `gciql` with
one goal is `iql`, `crl` the logarithm of how much likelier a goal follows than usual, `qrl` the shortest ways of a ring of one-way streets, and
`actionable_models` Q-learning without its negatives, and with them at rest where both balance. It cannot join episodes without its random goals.

## Beside OGBench's table

The same methods in OGBench's protocol (Park et al. 2025, https://arxiv.org/abs/2410.20092): data made again by its own controllers, its five goals, and the
share of {asked_episodes} episodes for each goal that arrive in the environment's time. *Published* is its table 2: the mean of eight seeds ± their standard
deviation, after a million updates of three layers of 512 with batches of 1,024 from a million logged steps. Ours are the mean over seeds (least–most) of what
two layers of 128 know after so many updates with batches of 128, learned three times as fast (1e-3, slow copies by 0.02) from a fifth of the steps: what
fits a core for some minutes. α and the goals of the actor are those of its authors; observations are standardised.

{ogbench}

As there, `qrl`, `hiql` and `gcivl` are ahead by either kind of walks, and cloning is among the last. `crl`, which bootstraps nothing, is better by the
navigating walks after so few updates, and joins no stitched ones, as there. Two seeds decide nothing between neighbours. `cube-single-play` has not been
measured.

`gciql` is behind its published number by the navigating walks. Its losses, nets and goals were compared line by line with its authors' code. Its actor is not
the reason: whoever takes the best of 64 draws by its critic arrives at the same goals. Nor are the ways in which ours differs: a mean that no tanh bounds, raw
observations, and ten times the α left goals 3 to 5 at 0%. Its values are: they fall with the distance until 8 cells of the maze (-8, -19, -30, -40, -48,
-54, -59, -63 and -66 from 0 to 8), and are flat beyond (-67, -66 and -62 at 9, 10 and 11, where the fastest way is worth about -89), so that nothing says
which way to go. Their mean moved by 1% between 20,000 and 50,000 updates, so more of these alone will not do; larger nets, batches and logs were not tried.

`actionable_models` arrived nowhere with its α of 1 and uniform goals. Of goals 1, 10 and 100 logged steps ahead it believed 0.03, 0.03 and 0.01 after 6,000
updates, where γ to that power is 0.99, 0.90 and 0.37; without negatives it believed 0.93 to 0.99 of all. A goal that is drawn uniformly from what follows
in 1,000 steps is the next observation once in 130 draws, so next to nothing was learned of arriving. And the walker's noise makes what it did little denser
than what it did not, so that the negatives take their share at every step. With the goals of its neighbours, of which a fifth is the observation itself, it
believed 0.91, 0.43 and 0.16 at an α of 0.1, and 0.99, 0.91 and 0.51 at 0.01 (9,000 updates): the row above has these goals and this α. What keeps it from
the other goals was not looked into: it still acts by the best of 8 actions drawn anywhere, and learns from the best of as many.

Not done: pictures as goals, and goals that are parts of observations.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", default=",".join(METHODS), help="names with commas; results of others are kept")
    parser.add_argument("--ogbench", choices=[name for name in ogbench.RECIPES if name.split("-")[0] in FIELDS], help="data of OGBench")
    parser.add_argument("--updates", type=int, default=20_000, help="with --ogbench (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="with --ogbench (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=20, help="with --ogbench: for each goal (default: %(default)s; the authors: 50)")
    parser.add_argument(
        "--size", type=int, default=200_000, help="with --ogbench: logged steps (default: %(default)s; the authors: 1,000,000)"
    )
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args()
    results, others = (json.loads(path.read_text()) if path.is_file() else {} for path in (RESULTS, OGBENCH))
    for name in [] if given.page else given.algorithms.split(","):
        if given.ogbench is None:
            results[name] = found = measured(METHODS[name])
        else:
            how = dict(updates=given.updates, seeds=given.seeds, episodes=given.episodes, steps=given.size)
            others.setdefault(given.ogbench, {})[name] = found = evaluated(name, given.ogbench, **how)
        print(name, found, flush=True)
        path, kept = (RESULTS, results) if given.ogbench is None else (OGBENCH, others)
        write_bytes(path, (json.dumps(kept, indent=1) + "\n").encode())
    write_bytes(PAGE, page(results, others).encode())


if __name__ == "__main__":
    main()
