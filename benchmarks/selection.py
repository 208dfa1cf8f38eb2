"""How well estimators choose among policies whose true value is known, and a page of what came out.

    topstitch quickstart -o quickstart                                # the policies of the first task (minutes)
    python benchmarks/selection.py --runs quickstart                  # measures, writes benchmarks/results/selection.json and the page
    python benchmarks/selection.py --tasks worlds,seen                # some tasks; those that are there already stay
    python benchmarks/selection.py --page                             # only docs/selection.md, from that file

* `icu`: 20 policies for intensive-care stays, those of `topstitch quickstart`, estimated by stays that none of them learned from.
* `worlds`: 20 random worlds of 12 states, 16 policies in each, 100 episodes of a logger that is little better than chance.
* `seen`: the same worlds, but of a state only two numbers are seen, so that no value that is linear in them is right.
"""

import argparse
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from topstitch import nets, ope
from topstitch.core import Markov
from topstitch.data import Episodes
from topstitch.disk import plain, write_bytes, write_json
from topstitch.ope.select import bvft, claims, metrics, td_error
from topstitch.worlds import random_mdp, sample

HERE = Path(__file__).resolve().parent
RESULT, PAGE = HERE / "results/selection.json", HERE.parent / "docs/selection.md"
ESTIMATORS = ("wis", "wpdis", "dr", "wdr", "magic", "lstdq", "model", "mwl", "bestdice")
NO_ESTIMATE = ("lower end of wdr", "bvft of lstdq", "error of one step of lstdq")
WORLDS, STATES, ACTIONS, POLICIES, EPISODES, HORIZON, ENDING, DISCOUNT = 20, 12, 3, 16, 100, 60, 0.05, 0.95

SHOWN = {
    "rank_correlation": "rank correlation", "regret@1_normalised": "regret@1", "regret@3_normalised": "regret@3",
    "regret@5_normalised": "regret@5", "absolute_error_normalised": "absolute error",
}  # fmt: skip
PREFACE = """Policies whose true value is known, ranked by a log alone. Every number is a share of the span from the worst to the best policy of its
task (the metrics of DOPE, Fu et al. 2021, https://arxiv.org/abs/2103.16596): regret@k is what is lost by taking the best of the k that rank first,
0 for a perfect choice; absolute error is the mean distance of estimates from the truth. *Answered* is the share of policies that a score answered
for; those that it refused rank last, and are left out of rank correlation and error. *Covered* is the share of 95 % intervals that hold the truth.
Scores that are no estimates have no error.
"""
LESSONS = """## What the numbers teach

- **Where the log covers what policies do, any score with values in it chooses well**: in the random worlds the first by `wdr`, `magic`, `lstdq` or `mwl`
  loses at most 0.06 of the span, even where the values are wrong, since errors are much alike for all policies.
- **A right order is no right value.** On intensive-care stays `lstdq` ranks best and its first is the best there is, while its estimates are off by more
  than eight times the span: what was never logged counts 0. Choose by it, and report something else.
- **Learned policies leave the log, and then weights are silent or short.** Of the 20 policies for stays they answer for 8 to 11. Those that they answer for
  lose some of the weight too, since nets give a little to actions that nobody took: `wis`, normalised as a whole, stands that (its 8 intervals
  hold the truth), `wpdis`, normalised step by step, does not (none of its 11 does).
- **The error of one step ranks backwards** where what follows is random: policies that are alike everywhere look best. The tournament of the same values
  (`bvft`) does not mind, but needs one of them to be right: on the stays none is.
- **Intervals of estimates that rest on values alone hold little**: 52 % with right values, 9 % with wrong ones. Corrected by weights it is 91 to
  95 %; those of weights of whole episodes hold 74 %.
- The lower end of an interval chooses no better than its middle here. It is there to say no, not to rank.
"""
IDEAS = {
    "icu": "Intensive-care stays: 20 policies of five algorithms ([quickstart.md](quickstart.md)), estimated by 6,000 stays that none of them learned from",
    "worlds": "Random worlds with numbered states: means over 20 worlds, 16 policies in each, 100 episodes of some 20 steps",
    "seen": "The same worlds, of which two numbers a state are seen: values that are linear in them and their squares are wrong",
}


def scored(policies: dict, truth: dict, log: Episodes, discount: float) -> list[dict]:
    """One row for each score: its metrics over the policies."""
    values = ope.Crossfitted(lambda policy, part: ope.lstdq(policy, part, discount=discount, ridge=1e-6))
    found = ope.estimate(policies, log, ESTIMATORS, discount=discount, values=dict.fromkeys(("dr", "wdr", "magic", "lstdq"), values))
    said = {kind: {row.policy: row for row in found if row.name == kind and row.refused is None} for kind in ESTIMATORS}
    scores = {kind: {name: row.value for name, row in rows.items()} for kind, rows in said.items()}
    greedy = [values.several(policy, log, lambda found, part: (found.greedy(part),))[0] for policy in policies.values()]
    believed = claims(log, greedy, discount=discount)
    by = ({name: row.low for name, row in said["wdr"].items()}, *(dict(zip(policies, -of(believed))) for of in (bvft, td_error)))
    rows, least = [], min(min(mine.values(), default=0.0) for mine in scores.values())
    for kind, mine in (scores | dict(zip(NO_ESTIMATE, by))).items():
        row = {"score": kind, "answered": len(mine) / len(policies)}
        if len(mine) >= 5:
            last = min(least, *mine.values()) - 1  # a policy without an estimate is taken after all others
            ranked = metrics([mine.get(name, last) for name in policies], list(truth.values()))
            row |= {name: x for name, x in ranked.items() if name.startswith("regret")}
            row |= {name: x for name, x in metrics([*mine.values()], [truth[n] for n in mine]).items() if not name.startswith("regret")}
            covered = [r.low <= truth[n] <= r.high for n, r in said.get(kind, {}).items()]
            row["covered"] = float(np.mean(covered)) if covered else None
        rows.append(row)
    return rows


def icu(folder: Path) -> dict:
    from topstitch.bench import icu_sepsis as task
    from topstitch.loop import stack
    from topstitch.runs import load_runs

    learn, held_out = task.log().split(task.HELD_OUT)
    world, _ = task.yardsticks(learn)
    policies, truth = {}, {}
    for name in task.SETTINGS:
        runs = load_runs(folder / name)
        for run, exact in zip(runs, task.survival(world, stack([run.policy for run in runs]))):
            policies[f"{name} {run.seed}"], truth[f"{name} {run.seed}"] = run.policy, float(exact)
    return {"policies": len(policies), "truth": sorted(truth.values()), "rows": scored(policies, truth, held_out, 1.0)}


class Seen(Markov):
    """A table of probabilities for states of which two numbers are seen: those of the nearest one."""

    table: nets.TablePolicy
    numbers: jnp.ndarray
    "(states, 2)."

    def __call__(self, obs, mask=None):
        apart = ((jnp.asarray(obs)[..., None, :] - jnp.expand_dims(self.numbers, tuple(range(jnp.ndim(obs) - 1)))) ** 2).sum(axis=-1)
        return self.table(apart.argmin(axis=-1))


def random_world(seed: int, *, seen: bool) -> list[dict]:
    """A logger, other policies on the way from bad to good ones, and how scores rank these."""
    import jax

    rng, mdp = np.random.default_rng(seed), random_mdp(STATES, ACTIONS, ending=ENDING, seed=seed)
    q = mdp.value(mdp.optimum(DISCOUNT).policy, DISCOUNT).q
    soft = lambda x: np.exp(x - x.max(axis=1, keepdims=True)) / np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)
    logger = soft(0.3 * q)
    tables = [0.5 * logger + 0.5 * soft(sharp * q + 1.5 * rng.normal(size=q.shape)) for sharp in np.linspace(-0.5, 2, POLICIES)]
    log = sample(mdp, logger, EPISODES, horizon=HORIZON, key=jax.random.key(seed))
    policies = {f"policy {i}": nets.TablePolicy(jnp.asarray(table, jnp.float32)) for i, table in enumerate(tables)}
    if seen:
        numbers = rng.normal(size=(STATES, 2)).astype(np.float32)
        policies = {name: Seen(table, jnp.asarray(numbers)) for name, table in policies.items()}
        log = Episodes.of(numbers[log.obs], log.action, log.reward, log.terminal, ends=np.isin(np.arange(log.steps), log.stops - 1),
                          next_obs=numbers[log.next_obs], actions=ACTIONS, log_prob=log.log_prob)  # fmt: skip
    truth = {name: float(mdp.performance(table, DISCOUNT)) for name, table in zip(policies, tables)}
    return scored(policies, truth, log, DISCOUNT)


def random_worlds(*, seen: bool) -> dict:
    """Means over worlds; of a metric that a score has in some of them, over these."""
    each = [random_world(seed, seen=seen) for seed in range(WORLDS)]
    rows = []
    for same in zip(*each):
        names = dict.fromkeys(name for row in same for name in row if name != "score")
        known = {name: [x for row in same if (x := row.get(name)) is not None and np.isfinite(x)] for name in names}
        rows.append({"score": same[0]["score"]} | {name: float(np.mean(x)) if x else None for name, x in known.items()})
    return {"worlds": WORLDS, "policies": POLICIES, "episodes": EPISODES, "rows": rows}


def page(result: dict) -> str:
    text = ["# Choosing without an environment", "", "<!-- generated by benchmarks/selection.py -->", "", PREFACE]
    for task, idea in IDEAS.items():
        if task not in result:
            continue
        text += [f"## {task}", "", f"{idea}.", ""]
        if truth := result[task].get("truth"):
            text += [f"They are worth {truth[0]:.3f} to {truth[-1]:.3f} exactly, half of them more than {np.median(truth):.3f}.", ""]
        text += [f"| score | answered | {' | '.join(SHOWN.values())} | covered |", f"| --- |{' ---: |' * (len(SHOWN) + 2)}"]
        for row in result[task]["rows"]:
            number = lambda name, row=row: "" if row.get(name) is None else f"{row[name]:.2f}"
            share = lambda name, row=row: "" if row.get(name) is None else f"{row[name]:.0%}"
            cells = ["" if row["score"] in NO_ESTIMATE and name.startswith("absolute") else number(name) for name in SHOWN]
            text.append(f"| {row['score']} | {share('answered')} | {' | '.join(cells)} | {share('covered')} |")
        text.append("")
    return "\n".join([*text, LESSONS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("quickstart"), help="the folder of `topstitch quickstart`")
    parser.add_argument("--tasks", default="icu,worlds,seen", help="names with commas")
    parser.add_argument("--page", action="store_true", help="only write docs/selection.md")
    options = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    tasks = {"icu": lambda: icu(options.runs), "worlds": lambda: random_worlds(seen=False), "seen": lambda: random_worlds(seen=True)}
    for task in () if options.page else options.tasks.split(","):
        result[task] = plain(tasks[task]())
        write_json(RESULT, {name: result[name] for name in IDEAS if name in result})
    write_bytes(PAGE, page(result).encode())


if __name__ == "__main__":
    main()
