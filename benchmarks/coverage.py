"""How often intervals hold what they promise: simulated logs of worlds whose truth is known, and a page of what came out.

python benchmarks/coverage.py             # measures (minutes), writes benchmarks/results/coverage.json and the page
python benchmarks/coverage.py --tails     # only what heavy tails say; the rest stays
python benchmarks/coverage.py --page      # only docs/coverage.md, from that file
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from topstitch import nets, ope
from topstitch.disk import write_bytes
from topstitch.ope import bounds
from topstitch.worlds import MDP, chain, random_mdp, sample

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results/coverage.json", HERE.parent / "docs/coverage.md"
LOGS, EPISODES, LEVELS, RESAMPLES = 1000, (50, 200), (0.9, 0.95), 1000
TAILED, KINDS, TAILS = 400, ("wis", "wpdis"), {"to 0.7": (-np.inf, 0.7), "0.7 to 1": (0.7, 1.0), "above 1": (1.0, np.inf)}
APPROXIMATE = ("t", "bootstrap", "bca")
TERMS = {
    "returns": "plain returns of the logger (the mean is the logger's own value)",
    "is": "importance sampling: the ratio of the whole episode times its return",
    "pdis": "per-decision importance sampling: Σ γ^t ρ_{0:t} r_t",
    "wis": "weighted importance sampling: a ratio of two means, biased at every n",
}

PREFACE = """An interval at 95 % should hold the truth in 95 of 100 logs. Here is how often each does, over {logs:,} simulated logs of {episodes}
episodes from worlds whose truth is computed exactly. The Monte-Carlo error of a share is at most {error:.1f} points (one standard error,
at 90 %). Returns lie between 0 and a bound that is known beforehand; ratios have no such bound.

*Guaranteed* methods never fall below what they promise, and pay for that in width: where that width reaches over the whole range of returns
they say nothing, truthfully. Of these, betting is the narrowest in every row. *Approximate* methods are narrow, and promise nothing at a
given n: what they reach is in the table, and **bold** where it is under the nominal level by more than two standard errors.

*Too high* is the share of logs in which the whole 95 % interval lies above the truth: the error that lets a bad policy pass. Importance
weights are skewed, so approximate intervals of plain importance sampling mostly miss on the other side, until the few large weights that would
pull the mean up are seen; self-normalised ones miss on both. *Width* is the median width at 95 % as a share of the range of
returns; of an interval with only a lower end, the median distance from that end to the truth as such a share.
"Both ends" of guaranteed methods on importance-weighted returns are `topstitch.ope.bounds.weighted`.
"""


HEAVY = """## What a heavy tail says

Weights whose tail has a Pareto k above 1 may have no mean, so that an interval would say nothing (Vehtari et al. 2024, https://arxiv.org/abs/1507.02646). Whether
that is a reason to refuse: of {logs} logs each, the estimates that nothing else refuses, by the k of their weights. How many they are, how often the
bootstrap's 95 % interval holds the truth, and the mean absolute error as a share of the range of returns.

It is none. On the stays intervals hold as often above 1 as below, and errors are as large: to refuse would cost most answers, and keep others that are as wrong. In
`random`, at 200 episodes, they hold less often (52 against 66 %, 75 against 84 %), at 50 they do not, and errors differ little. What spoils an estimate are
large weights that did not come, and without them k is small. So it is noted.
"""


class World(NamedTuple):
    """A world, its logger, the policy in question, and within which range returns lie."""

    mdp: MDP
    behaviour: np.ndarray
    target: np.ndarray
    discount: float
    horizon: int
    high: float
    idea: str


def worlds() -> dict[str, World]:
    from topstitch.worlds.icu_sepsis import clinician, icu_sepsis

    line = chain(5, slip=0.1)
    row = lambda *p: np.tile(p, (line.states, 1))
    garnet = random_mdp(12, 3, ending=0.15, seed=4)
    garnet = MDP(garnet.transition, np.asarray(garnet.reward) > 0.5, garnet.start, garnet.terminal)
    greedy = garnet.optimum(0.95).policy
    stays = icu_sepsis(masks=False)
    best = 0.75 * clinician() + 0.25 * stays.optimum(1.0).policy
    return {
        "chain": World(line, row(0.4, 0.6), row(0.25, 0.75), 0.95, 30, 1.0, "five states and a goal; the target goes right more often"),
        "random": World(garnet, garnet.uniform(), 0.5 * greedy + 0.5 * garnet.uniform(), 0.9, 20, (1 - 0.9**20) / 0.1,
                        "12 random states, rewards 0 or 1; half uniform, half greedy"),
        "icu-sepsis": World(stays, clinician(), best, 1.0, 40, 1.0, "716 states; the clinicians, a quarter of the time the best action"),
    }  # fmt: skip


def value(world: World, policy: np.ndarray) -> float:
    """The exact discounted return of the first `horizon` steps: what a log of that horizon shows."""
    transition = np.array(world.mdp.transition, np.float64)
    transition[np.asarray(world.mdp.terminal)] = 0
    transition /= np.maximum(transition.sum(axis=-1, keepdims=True), 1e-300)
    reward = np.einsum("saz,saz->sa", transition, np.broadcast_to(np.asarray(world.mdp.reward, np.float64), transition.shape))
    policy = world.mdp.checked(policy)
    follow, earned = np.einsum("sa,saz->sz", policy, transition), (policy * reward).sum(axis=1)
    v = np.zeros(world.mdp.states)
    for _ in range(world.horizon):
        v = earned + world.discount * follow @ v
    return float(np.asarray(world.mdp.start, np.float64) @ v)


def terms(world: World, logs: int, n: int, seed: int) -> dict[str, np.ndarray]:
    """Of `logs` logs of n episodes each, (logs, n): ratios, returns, and per-decision terms."""
    parts, chunk = [], 5_000
    target = np.log(np.maximum(world.mdp.checked(world.target), 1e-300))
    for i in range(-(-logs * n // chunk)):
        log = sample(world.mdp, world.behaviour, chunk, horizon=world.horizon, key=jax.random.fold_in(jax.random.key(seed), i))
        step = target[log.obs, log.action] - log.log_prob.astype(np.float64)
        total = np.cumsum(step)
        so_far = total - np.repeat(total[log.starts] - step[log.starts], log.lengths)
        earned = world.discount ** log.time.astype(np.float64) * log.reward
        episodes = lambda x: np.add.reduceat(x, log.starts)
        parts.append((np.exp(so_far[log.stops - 1]), episodes(earned), episodes(earned * np.exp(so_far))))
    ratio, returns, pdis = (np.concatenate(x)[: logs * n].reshape(logs, n) for x in zip(*parts))
    return {"ratio": ratio, "returns": returns, "pdis": pdis}


def asked(world: World, drawn: dict[str, np.ndarray]):
    """(terms, method, side, what `bounds.ends` is asked at a confidence) of every row of the table."""
    ratio, g, high = drawn["ratio"], drawn["returns"], world.high
    lower, upper = ratio * g, high - ratio * (high - g)

    def both(method):
        def ask(confidence):
            one = dict(method=method, confidence=1 - (1 - confidence) / 2)
            return (bounds.ends(lower, low=0.0, side="lower", **one)[0], bounds.ends(upper, high=high, side="upper", **one)[1])

        return ask

    plain = lambda x, method, **how: lambda confidence: bounds.ends(x, method=method, confidence=confidence, resamples=RESAMPLES, **how)
    for method in (*bounds.VALID, *APPROXIMATE):
        yield "returns", method, "two", plain(g, method, low=0.0, high=high)
    for method in ("anderson", "truncated", "betting"):
        yield "is", method, "two", both(method)
        yield "pdis", method, "lower", plain(drawn["pdis"], method, low=0.0, side="lower")
    for method in APPROXIMATE:
        yield "is", method, "two", plain(lower, method)
        yield "pdis", method, "two", plain(drawn["pdis"], method)
        yield "wis", method, "two", plain(lower, method, denominator=ratio)


def measure(places: dict[str, World], *, logs: int = LOGS, episodes=EPISODES, only=None) -> list[dict]:
    """One row for each world, number of episodes, kind of terms, and method (those in `only`, if given)."""
    rows = []
    for name, world in places.items():
        truths = {"returns": value(world, world.behaviour), "target": value(world, world.target)}
        for n in episodes:
            drawn = terms(world, logs, n, seed=n)
            for kind, method, side, ask in asked(world, drawn):
                if only is not None and method not in only:
                    continue
                truth = truths.get(kind, truths["target"])
                row = {
                    "world": name,
                    "episodes": n,
                    "terms": kind,
                    "method": method,
                    "side": side,
                    "valid": method in bounds.VALID,
                    "logs": logs,
                }
                for level in LEVELS:
                    low, high = ask(level)
                    share = float(((low <= truth) & (truth <= high)).mean())
                    row[f"coverage_{level:.0%}"] = share
                row["too_high"] = float((low > truth).mean())
                row["width"] = float(
                    np.median(np.minimum(high, world.high) - np.maximum(low, 0) if side == "two" else truth - low) / world.high
                )
                rows.append(row)
            print(f"{name}, {n} episodes: {len(rows)} rows", flush=True)
    return rows


def tails(places: dict[str, World], *, logs: int = TAILED) -> list[dict]:
    """One row for each world, number of episodes and estimator: what estimates are worth by the Pareto k of their weights."""
    rows = []
    for name, world in places.items():
        policy, truth = nets.TablePolicy(jnp.asarray(world.mdp.checked(world.target), jnp.float32)), value(world, world.target)
        for n in EPISODES:
            said = {kind: [] for kind in KINDS}
            for i in range(logs):
                log = sample(world.mdp, world.behaviour, n, horizon=world.horizon, key=jax.random.fold_in(jax.random.key(n), i))
                for one in ope.estimate(policy, log, KINDS, discount=world.discount, resamples=RESAMPLES // 2):
                    if one.refused is None:
                        said[one.name].append(
                            (one.diagnostics["pareto_k"], one.low <= truth <= one.high, abs(one.value - truth) / world.high)
                        )
            for kind, found in said.items():
                row = {"world": name, "episodes": n, "estimator": kind, "logs": logs}
                for label, (low, high) in TAILS.items():
                    mine = [x for x in found if low < x[0] <= high]
                    row[label] = [len(mine), *(np.mean([x[1:] for x in mine], axis=0).round(4).tolist() if mine else (None, None))]
                rows.append(row)
            print(f"{name}, {n} episodes: tails", flush=True)
    return rows


def error(share: float, logs: int) -> float:
    """One standard error of a share of `logs` logs."""
    return (share * (1 - share) / logs) ** 0.5


def page(rows: list[dict], ideas: dict[str, str], tailed: list[dict]) -> str:
    """The page of what was measured."""
    logs, sizes = rows[0]["logs"], sorted({row["episodes"] for row in rows})
    out = ["# Coverage of intervals", "", "<!-- generated by benchmarks/coverage.py -->", ""]
    out += [PREFACE.format(logs=logs, episodes=" and ".join(map(str, sizes)), error=100 * error(0.9, logs)).strip(), ""]
    for world in dict.fromkeys(row["world"] for row in rows):
        out += [f"## {world}", "", f"{ideas[world].capitalize()}.", ""]
        for kind in dict.fromkeys(row["terms"] for row in rows if row["world"] == world):
            out += [f"**{kind}**: {TERMS[kind]}.", ""]
            head = ["method", "", "ends", *(f"{level:.0%}, n = {n}" for n in sizes for level in LEVELS)]
            head += [f"{what}, n = {n}" for what in ("too high", "width") for n in sizes]
            out += ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
            here = [row for row in rows if row["world"] == world and row["terms"] == kind]
            for method in dict.fromkeys(row["method"] for row in here):
                of = {row["episodes"]: row for row in here if row["method"] == method}
                first = of[sizes[0]]
                cells = [method, "guaranteed" if first["valid"] else "approximate", {"two": "both", "lower": "lower"}[first["side"]]]
                cells += [shown(of[n][f"coverage_{level:.0%}"], level, logs) for n in sizes for level in LEVELS]
                cells += [f"{100 * of[n]['too_high']:.1f}" for n in sizes] + [f"{of[n]['width']:.3f}" for n in sizes]
                out.append("| " + " | ".join(cells) + " |")
            out.append("")
    out += [
        HEAVY.format(logs=tailed[0]["logs"]),
        "| log | estimator | " + " | ".join(f"k {label}" for label in TAILS) + " |",
        "| --- " * 5 + "|",
    ]
    for row in tailed:
        cells = ["" if not row[label][0] else "{}: {:.0%}, {:.3f}".format(*row[label]) for label in TAILS]
        out.append(f"| {row['world']}, n = {row['episodes']} | {row['estimator']} | " + " | ".join(cells) + " |")
    return "\n".join([*out, ""])


def shown(share: float, level: float, logs: int) -> str:
    under = share < level - 2 * error(level, logs)
    return f"**{100 * share:.1f}**" if under else f"{100 * share:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tails", action="store_true", help="only measure what heavy tails say")
    parser.add_argument("--page", action="store_true", help="only write the page from results that are there")
    asked = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not asked.page:
        places = worlds()
        if not asked.tails:
            kept |= {"ideas": {name: world.idea for name, world in places.items()}, "rows": measure(places)}
        kept["tails"] = tails(places)
        lines = lambda rows: "[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]"
        write_bytes(
            RESULTS,
            f'{{"ideas": {json.dumps(kept["ideas"])},\n"rows": {lines(kept["rows"])},\n"tails": {lines(kept["tails"])}}}\n'.encode(),
        )
    write_bytes(PAGE, page(kept["rows"], kept["ideas"], kept["tails"]).encode())


if __name__ == "__main__":
    main()
