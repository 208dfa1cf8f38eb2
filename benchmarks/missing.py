"""How much of a log's worth is left where its rewards or its actions were not written down. The page docs/missing.md.

    python benchmarks/missing.py [--parts rewards,actions]    # some minutes: benchmarks/results/missing.json and the page

The worlds are small enough that what a policy is worth is computed exactly, or by walking it a thousand times.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

import topstitch as ts
from topstitch.data import Episodes
from topstitch.disk import write_bytes
from topstitch.loop import train, unstack
from topstitch.worlds import MDP, maze, random_mdp, sample, table
from topstitch.worlds.mazes import ROOMS

HERE = Path(__file__).resolve().parent
PAGE, RESULTS = HERE.parent / "docs/missing.md", HERE / "results/missing.json"
DISCOUNT, SEEDS, LENGTH, NOISE = 0.9, 5, 3, 0.5
WORLD, EPISODES, HORIZON = random_mdp(20, 4, branching=2, seed=3), 200, 20
COMPARISONS, SHOWN = (30, 100, 300, 1000, 3000), (2, 5, 10, 20, 50)
REWARD = ts.preferences.BradleyTerry(hidden=(), lr=0.02, batch_size=64, steps=1500)
INVERSE = ts.BC(hidden=(), lr=0.03, batch_size=64, steps=1000)
CLONE = ts.BC(hidden=(), lr=0.03, batch_size=64, steps=1000)
BY_PLACE = ts.BC(hidden=(64,), lr=3e-3, batch_size=64, steps=1000)
"The inverse model where a state is a place: two coordinates."
PLACES = np.array([(i, j) for i, row in enumerate(ROOMS) for j, cell in enumerate(row) if cell == "."], np.float32)


def rooms(goal: int = 16) -> MDP:
    """`maze`, where each step costs 1 until a corner is reached."""
    plain, there = maze(), np.arange(len(PLACES)) == goal
    return MDP(plain.transition, np.full((plain.states, plain.actions), -1.0), ~there / (~there).sum(), there)


def learned(rule, log, world: MDP = WORLD) -> float:
    """The exact value of what an algorithm makes of a log."""
    state = unstack(train([(rule, 0)], log, every=rule.steps).states, 1)[0]
    return float(world.performance(np.asarray(table(rule.policy(state), world)), DISCOUNT))


def improved(log, world: MDP = WORLD) -> float:
    return learned(ts.TabularQ(discount=DISCOUNT, steps=100), log, world)


def rewards(log, gain) -> dict:
    """By comparisons and whether answers err, (seeds): the share of the gain, correlation with the true rewards, held-out accuracy."""
    out = {}
    for noise in (0.0, NOISE):
        for n in COMPARISONS:
            rows = []
            for seed in range(SEEDS):
                pairs = ts.preferences.ask(log, n, length=LENGTH, seed=seed)
                model = ts.preferences.fit(
                    log, pairs, ts.preferences.judged(log, pairs, noise=noise, seed=seed), algorithm=REWARD, seed=seed
                )
                told = model.label(log)
                rows.append([gain(improved(told)), float(np.corrcoef(told.reward, log.reward)[0, 1]), model.accuracy])
            out[f"{noise:g}/{n}"] = rows
            print("rewards", noise, n, np.mean(rows, axis=0).round(3), flush=True)
    return out


def dealt(log, n: int):
    """By seed: the seed, `n` episodes that have actions, and all others."""
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(log))
        yield seed, log.take(order[:n]), log.take(order[n:])


def actions(log, gain) -> dict:
    """By episodes that have actions, (seeds): the share of the gain from all others, from these alone, and the share of actions that is told."""
    out = {}
    for n in SHOWN:
        rows = []
        for seed, shown, rest in dealt(log, n):
            told = ts.watching.label(blind(rest), shown, algorithm=INVERSE, seed=seed)
            rows.append([gain(improved(told)), gain(improved(shown)), float((told.action == rest.action).mean())])
        out[str(n)] = rows
        print("actions", n, np.mean(rows, axis=0).round(3), flush=True)
    return out


def moves(log, gain) -> dict:
    """As `actions`, in the maze, where the inverse model is shown places instead of numbers."""
    world = rooms()
    log = sample(world, world.uniform(), EPISODES, horizon=HORIZON, key=jax.random.key(0))
    level, best = float(world.performance(world.uniform(), DISCOUNT)), improved(log, world)
    share = lambda value: (value - level) / (best - level)
    out = {}
    for n in SHOWN:
        rows = []
        for seed, shown, rest in dealt(log, n):
            told = placed(rest, shown, seed)
            moved = rest.obs != rest.next_obs
            rows.append([share(improved(told, world)), share(improved(shown, world)), float((told.action == rest.action)[moved].mean())])
        out[str(n)] = rows
        print("moves", n, np.mean(rows, axis=0).round(3), flush=True)
    return out


def demonstrations(log, gain) -> dict:
    """By episodes of practice in the maze that have actions, (seeds): the share of the gain by cloning twenty demonstrations whose actions were told, and
    by cloning them with their own."""
    world = rooms()
    level, optimum = float(world.performance(world.uniform(), DISCOUNT)), world.optimum(DISCOUNT)
    best = float(world.performance(optimum.policy, DISCOUNT))
    share = lambda value: (value - level) / (best - level)
    out = {}
    for n in SHOWN:
        rows = []
        for seed in range(SEEDS):
            shown = sample(world, world.uniform(), n, horizon=HORIZON, key=jax.random.key(seed))
            demonstrated = sample(world, optimum.policy, 20, horizon=HORIZON, key=jax.random.key(100 + seed))
            rows.append([share(learned(CLONE, one, world)) for one in (placed(demonstrated, shown, seed), demonstrated)])
        out[str(n)] = rows
        print("demonstrations", n, np.mean(rows, axis=0).round(3), flush=True)
    return out


# a world of numbers ----------------------------------------------------------------------------------------------------------

STRIDE, ARM, GOAL, PRIZE, WALKS, FEW = 0.15, 0.3, 0.9, 10, 1000, 3
CONSERVATIVE = dict(alpha=0.1, discount=DISCOUNT, lr=1e-3, actor_lr=1e-3, hidden=(64, 64), batch_size=128, actions_sampled=4, steps=6000)


def inside(at) -> np.ndarray:
    """Whether places (n, 2) lie in two corridors that meet: one along y, and from its end one along x."""
    x, y = at.T
    return (at >= 0).all(axis=1) & (at <= 1).all(axis=1) & ((x <= ARM) | (y >= 1 - ARM))


def walk(at, act, rng, *, steps: int = HORIZON) -> Episodes:
    """Walks from places (n, 2): what would leave the corridors stays where it is; 10 are earned where the far end is reached, which ends a walk."""
    going, rows = np.ones(len(at), bool), []
    for _ in range(steps):
        action = np.clip(act(at, rng), -1, 1).astype(np.float32)
        there = (at + STRIDE * action + 0.01 * rng.normal(size=at.shape)).astype(np.float32)
        there = np.where(inside(there)[:, None], there, at)
        done = there[:, 0] >= GOAL
        rows.append((at, action, PRIZE * done.astype(np.float32), done, there, going))
        at, going = there, going & ~done
    obs, action, reward, done, after, alive = (np.stack(column, axis=1) for column in zip(*rows))  # (walks, steps, ...)
    last = alive & (done | (np.arange(steps) == steps - 1))
    kept = lambda column: column[alive]
    return Episodes.of(kept(obs), kept(action), kept(reward), kept(done), ends=kept(last), next_obs=kept(after), source="corridors")


def starts(rng, n: int, low, high) -> np.ndarray:
    return rng.uniform(low, high, size=(n, 2)).astype(np.float32)


def unlabelled(log, gain) -> dict:
    """By method, (seeds): the share of walks from the far end of the first corridor that arrive, where rewards are known of walks in the second alone."""
    chance = lambda at, rng: rng.uniform(-1, 1, size=at.shape)
    out = {"alone": [], "uds": [], "cds": [], "all": []}
    for seed in range(FEW):
        rng = np.random.default_rng(seed)
        task = walk(starts(rng, 100, (ARM, 1 - ARM), (GOAL, 1)), chance, rng)
        prior = walk(starts(rng, 300, (0, 0), (ARM, 1)), chance, rng)
        half = Episodes.join(task.labelled(), prior.labelled(False))
        whole = Episodes.join(task, prior)
        cql = ts.CQL(**CONSERVATIVE)
        for name, rule, known in (
            ("alone", cql, task),
            ("uds", ts.UDS(**CONSERVATIVE), half),
            ("cds", ts.CDS(**CONSERVATIVE), half),
            ("all", cql, whole),
        ):
            policy = known.policy(rule.policy(unstack(train([(rule, seed)], known, every=rule.steps).states, 1)[0]))
            greedy = jax.jit(lambda at, policy=policy: policy(at).mode())
            walked = walk(starts(rng, WALKS, (0, 0), (ARM, 0.2)), lambda at, _: np.asarray(greedy(at)), rng)
            out[name].append(float(walked.terminal.sum() / WALKS))
        print("unlabelled", seed, {name: shares[-1] for name, shares in out.items()}, flush=True)
    return out


def placed(seen, shown, seed: int):
    """`seen` with actions told from places."""
    told = ts.watching.label(blind(by_place(seen)), by_place(shown), algorithm=BY_PLACE, seed=seed)
    return dataclasses.replace(seen, action=told.action, log_prob=None)


def by_place(log):
    """The same log, a state being two coordinates."""
    ends = np.isin(np.arange(log.steps), log.stops - 1)
    return Episodes.of(
        PLACES[log.obs], log.action, log.reward, log.terminal, ends=ends, next_obs=PLACES[log.next_obs], actions=4, source="places"
    )


def blind(log):
    """Without its actions."""
    return dataclasses.replace(log, action=np.zeros_like(log.action), log_prob=None)


def page(results: dict) -> str:
    mean = lambda rows, j: f"{np.mean([row[j] for row in rows]):.2f}"
    least = lambda rows, j: f"{mean(rows, j)} ({min(row[j] for row in rows):.2f})"
    said = [
        f"| {n:,} | {least(results['rewards'][f'0/{n}'], 0)} | {mean(results['rewards'][f'0/{n}'], 1)} | {mean(results['rewards'][f'0/{n}'], 2)} | "
        f"{least(results['rewards'][f'{NOISE:g}/{n}'], 0)} | {mean(results['rewards'][f'{NOISE:g}/{n}'], 1)} | {mean(results['rewards'][f'{NOISE:g}/{n}'], 2)} |"
        for n in COMPARISONS
    ]
    done = [
        f"| {n} | {least(rows, 0)} | {mean(rows, 1)} | {mean(rows, 2)} |" for n, rows in ((n, results["actions"][str(n)]) for n in SHOWN)
    ]
    moved = [
        f"| {n} | {least(rows, 0)} | {mean(rows, 1)} | {mean(rows, 2)} |" for n, rows in ((n, results["moves"][str(n)]) for n in SHOWN)
    ]
    shown = [f"| {n} | {least(rows, 0)} | {mean(rows, 1)} |" for n, rows in ((n, results["demonstrations"][str(n)]) for n in SHOWN)]
    called = {"alone": "`cql`, on the walks with rewards alone", "uds": "`uds`", "cds": "`cds`", "all": "`cql`, told every reward"}
    walked = [
        f"| {called[name]} | {np.mean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}) |"
        for name, shares in results["unlabelled"].items()
    ]
    tables = {"rewards": said, "actions": done, "moves": moved, "demonstrations": shown, "unlabelled": walked}
    numbers = dict(
        seeds=SEEDS, few=FEW, length=LENGTH, noise=NOISE, states=WORLD.states, choices=WORLD.actions, episodes=EPISODES, horizon=HORIZON
    )
    return TEXT.format(**{name: "\n".join(rows) for name, rows in tables.items()}, **numbers)


TEXT = """# What is missing

<!-- generated by benchmarks/missing.py -->

A log may lack its rewards, or its actions. What is missing can often be told from what is there.

| missing | there is | use |
|---|---|---|
| rewards of some steps | that most earn nothing | `UDS`, `CDS` ([algorithms](algorithms.md)) |
| all rewards | somebody who says which of two stretches went better | `ts.preferences` |
| all rewards | a goal | [methods for goals](goals.md) |
| actions | a log of the same world with actions | `ts.watching` |
| actions of demonstrations | the same | `ts.watching`, then cloning |

## Rewards from comparisons

```python
import topstitch as ts

pairs = ts.preferences.ask(log, 500, length=20)             # rows of the log: pairs.rows()
model = ts.preferences.fit(log, pairs, answers)             # 1: the first was better, 0: the second, 0.5: neither
runs = ts.train(ts.IQL(), model.label(log).normalised())
```

The Bradley-Terry model: the odds that a stretch is preferred grow with the difference of the rewards that both earned. Five nets, each fitted without a fifth
of the pairs; `model.accuracy` is the share of answers that nets foresee which were not told them. Labels are the mean of the nets, brought to a mean of 0 and a
standard deviation of 1 over the log. **Comparisons of stretches of one length say nothing of a constant that is earned at every step.** Where episodes truly
end early or late that constant decides whether to end them: give it as `model.label(log, mean=...)`. The scale is known only as far as answers
err as the model says.

## Actions from what was seen

```python
seen = ts.watching.watch(log, obs, reward, terminal, ends=ends)   # spaces and units of `log`, which has actions
told = ts.watching.label(seen, log)                               # told.notes[-1]: how well, on held-out episodes
runs = ts.train(ts.IQL(), told.normalised())
runs = ts.train(ts.BC(), ts.watching.label(demonstrations, log))  # behaviour cloning from observation
```

An inverse model says which action led from an observation to the next, learned where both are known. Where several actions lead to the same place it says
the one that was usual there. Probabilities of the logger are not kept: of told actions nobody knows them, so estimators that need them refuse.

## What was measured

A random world of {states} states and {choices} actions, each of which leads to one of two states (`worlds.random_mdp`), and {episodes} episodes of {horizon} steps
by a logger that does everything alike. *Gain* is what tabular Q-learning makes of a log, from 0, the logger, to 1, what it makes of the whole log, exactly;
the mean of {seeds} seeds (and the least).

Comparisons of stretches of {length} steps; answers of somebody who never errs, and of somebody who errs as the model says, of rewards divided by {noise}:

| comparisons | gain | correlation | held-out accuracy | gain, with errors | correlation | held-out accuracy |
|---|---|---|---|---|---|---|
{rewards}

Episodes that have actions; all others have rewards alone, and the inverse model sees numbers of states. Nothing that it learns of one state is true of
another, so it needs as much as learning itself does: **told actions gave no more than the episodes that have them, alone.**

| episodes with actions | gain | from these alone | actions told |
|---|---|---|---|
{actions}

Two rooms, where each step costs 1 until a corner is reached, and as many random walks; the inverse model sees places, two coordinates. What it learns in one
place is true in all, and a few episodes are enough (*told*: of steps that moved; against a wall there is nothing to see):

| episodes with actions | gain | from these alone | actions told |
|---|---|---|---|
{moves}

There, twenty demonstrations of the best policy without actions, told by random walks, and cloned; from 0, random walks, to 1, the best there is; the last
column has the true actions:

| episodes of practice | gain | with true actions |
|---|---|---|
{demonstrations}

Rewards of some steps: two corridors that meet at a corner, in two coordinates; 10 are earned at the end of the second. A hundred random walks in the second
have rewards, three hundred in the first have none, and none of either goes all the way. Share of walks that arrive from the beginning of the first, greedily,
within {horizon} steps; the mean of {few} seeds (and the least and most):

| method | arrive |
|---|---|
{unlabelled}

`tests/missing_test.py` holds this: rewards come back up to scale and shift where comparisons are many, and by the right scale where answers err as the model
says; answers of a coin tell nothing, and the accuracy says so.
"""


PARTS = {"rewards": rewards, "actions": actions, "moves": moves, "demonstrations": demonstrations, "unlabelled": unlabelled}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default=",".join(PARTS), help="names with commas; results of others are kept")
    log = sample(WORLD, WORLD.uniform(), EPISODES, horizon=HORIZON, key=jax.random.key(0))
    level, best = float(WORLD.performance(WORLD.uniform(), DISCOUNT)), improved(log)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in parser.parse_args().parts.split(","):
        results[name] = PARTS[name](log, lambda value: (value - level) / (best - level))
        write_bytes(RESULTS, (json.dumps(results, indent=1) + "\n").encode())
    if results.keys() >= PARTS.keys():
        write_bytes(PAGE, page(results).encode())


if __name__ == "__main__":
    main()
