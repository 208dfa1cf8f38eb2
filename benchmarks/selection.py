"""How well estimators choose among policies whose true value is known, and a page of what came out.

    topstitch quickstart -o quickstart                                # the policies of the first task (minutes)
    python benchmarks/selection.py --runs quickstart                  # measures, writes benchmarks/results/selection.json and the page
    python benchmarks/selection.py --tasks worlds,seen                # some tasks; those that are there already stay
    python benchmarks/selection.py --page                             # only docs/selection.md, from that file

* `icu`: 24 policies for intensive-care stays, those of `topstitch quickstart`, estimated by stays that none of them learned from.
* `worlds`: 20 random worlds of 12 states, 16 policies in each, 100 episodes of a logger that is little better than chance.
* `seen`: the same worlds, but of a state only two numbers are seen, so that no value that is linear in them is right.
"""

import argparse
import functools as ft
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
WEIGHING, ALONE = ("wis", "wpdis", "dr", "wdr", "magic"), ("lstdq", "model", "mwl", "bestdice")
VALUES = {
    "fqe": lambda policy, part, discount: ope.fqe(policy, part, algorithm=ope.FQE.settled(part, discount, steps=5000)),
    "lstdq": lambda policy, part, discount: ope.lstdq(policy, part, discount=discount, ridge=1e-6),
}
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
- **Values alone choose what was never done.** On the stays the first by `fqe` is worth hardly more than the worst policy, and the tournament and the error of one
  step of these values choose no better. Corrected by weights, and without the policies that weights refuse, the same values lose 0.17 (`wdr`) and 0.04 (`magic`):
  so `topstitch select` ranks by `wdr` where it can. `lstdq`, for which what was never logged counts 0, is off by ten spans.
- **Learned policies leave the log, and then weights are silent.** Of the 24 policies for stays those of whole episodes answer for 11, those by step for 15.
  `wis` stands that nets give a little to actions which nobody took (its 11 intervals hold the truth), `wpdis`, normalised step by step, does not (half of its
  15 do); `dr`, `wdr` and `magic` with values by `fqe` do (14 of 15).
- **The error of one step ranks backwards** where what follows is random: policies that are alike everywhere look best. The tournament of the same values
  (`bvft`) does not mind, but needs one of them to be right: on the stays none is.
- **Intervals of estimates that rest on values alone hold little**: 52 % with right values, 9 % with wrong ones, 25 % on the stays. Corrected by weights it is
  91 to 95 %; those of weights of whole episodes hold 74 %.
- The lower end of an interval chooses no better than its middle, and on the stays worse. It is there to say no, not to rank.
"""
IDEAS = {
    "icu": "Intensive-care stays: 24 policies of six algorithms ([quickstart.md](quickstart.md)), estimated by 6,000 stays that none of them learned from",
    "worlds": "Random worlds with numbered states: means over 20 worlds, 16 policies in each, 100 episodes of some 20 steps",
    "seen": "The same worlds, of which two numbers a state are seen: values that are linear in them and their squares are wrong",
}


def scored(policies: dict, truth: dict, log: Episodes, discount: float, by: str) -> list[dict]:
    """One row for each score: its metrics over the policies. `by` names the values that scores share."""
    values = ope.Crossfitted(ft.partial(VALUES[by], discount=discount))
    learned = {
        name: values.several(policy, log, lambda found, part: (found.values(part), found.greedy(part))) for name, policy in policies.items()
    }
    kinds = [*dict.fromkeys((*WEIGHING, by, *ALONE))]
    said, scores = {kind: {} for kind in kinds}, {kind: {} for kind in (*kinds, "lower end of wdr")}
    for name, policy in policies.items():
        given = dict.fromkeys(("dr", "wdr", "magic", by), learned[name][0])
        for row in ope.estimate({name: policy}, log, kinds, discount=discount, values=given):
            if row.refused is None:
                said[row.name][name], scores[row.name][name] = row, row.value
                if row.name == "wdr":
                    scores["lower end of wdr"][name] = row.low
    believed = claims(log, [greedy for _, greedy in learned.values()], discount=discount)
    for name, of in (("bvft", bvft), ("error of one step", td_error)):
        scores[f"{name} of {by}"] = dict(zip(policies, -of(believed)))
    rows, least = [], min(min(scores[kind].values(), default=0.0) for kind in kinds)
    for kind, mine in scores.items():
        row = {"score": kind, "answered": len(mine) / len(policies)}
        if len(mine) >= 5:
            last = min(least, *mine.values()) - 1  # a policy without an estimate is taken after all others
            ranked = metrics([mine.get(name, last) for name in policies], list(truth.values()))
            row |= {name: x for name, x in ranked.items() if name.startswith("regret")}
            known = metrics([*mine.values()], [truth[name] for name in mine])
            row |= {name: x for name, x in known.items() if name.startswith("rank") or (kind in kinds and name.startswith("absolute"))}
            if kind in kinds:
                row["covered"] = float(np.mean([r.low <= truth[name] <= r.high for name, r in said[kind].items()]))
        rows.append(row)
    return rows


def icu(folder: Path) -> dict:
    from topstitch.bench import icu_sepsis as task
    from topstitch.runs import load_runs
    from topstitch.study.plan import Plan, deal
    from topstitch.worlds.icu_sepsis import icu_sepsis

    stays = task.log()
    judged_by = stays.take(deal(stays, Plan())["evaluation"])
    policies = {
        f"{name} {i}": run.policy for name in (*task.SETTINGS, "spibb") for i, run in enumerate(load_runs(folder / "study/runs" / name))
    }
    truth = dict(zip(policies, task.exact(icu_sepsis(masks=False), [*policies.values()]).tolist()))
    return {"policies": len(policies), "truth": sorted(truth.values()), "rows": scored(policies, truth, judged_by, 1.0, "fqe")}


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
    return scored(policies, truth, log, DISCOUNT, "lstdq")


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
            text.append(f"| {row['score']} | {share('answered')} | {' | '.join(map(number, SHOWN))} | {share('covered')} |")
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
