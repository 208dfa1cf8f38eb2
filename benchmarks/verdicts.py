"""How often the verdict is wrong: simulated studies of worlds whose truth is known, and a page of what came out.

python benchmarks/verdicts.py                        # all cases (some minutes on one core), writes benchmarks/results/verdicts.json and the page
python benchmarks/verdicts.py --cases ward-none …    # these alone; the rest of the file stays
python benchmarks/verdicts.py --fresh                # worlds and logs by which no constant of the rule was chosen, into verdicts_fresh.json
python benchmarks/verdicts.py --page                 # only the tables in docs/verdict.md, from both files

A study is dealt out, fitted, chosen and judged by the code of `topstitch.study`; only the algorithms are tables that are learned in a moment.
"""

import argparse
import json
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from topstitch import nets
from topstitch.data import Episodes
from topstitch.disk import plain, write_bytes
from topstitch.ope.table import Refused
from topstitch.study.judging import judge, refused
from topstitch.study.logger import learn
from topstitch.study.plan import Plan, deal, margin_of
from topstitch.study.schema import WORDS
from topstitch.study.verdict import ERRORS
from topstitch.worlds import MDP, sample

HERE = Path(__file__).resolve().parent
RESULTS, FRESH, PAGE = HERE / "results/verdicts.json", HERE / "results/verdicts_fresh.json", HERE.parent / "docs/verdict.md"
BEGIN, END = "<!-- begin of {} -->", "<!-- end of {} -->"
STUDIES, SLOW = 60, 15
"Of each case, and of those with 716 states."


class World(NamedTuple):
    """A world whose return is 1 or 0, and who logged it: tables (states, actions), each the logger of as many episodes."""

    mdp: MDP
    loggers: tuple[np.ndarray, ...]
    horizon: int

    def practice(self) -> float:
        return float(np.mean([self.mdp.performance(table, 1.0) for table in self.loggers]))

    def log(self, episodes: int, key) -> Episodes:
        each = [
            sample(self.mdp, table, episodes // len(self.loggers), horizon=self.horizon, key=jax.random.fold_in(key, i))
            for i, table in enumerate(self.loggers)
        ]
        if len(each) == 1:
            return each[0]
        joined = Episodes.join(*each)
        return joined.take(np.random.default_rng(int(jax.random.randint(key, (), 0, 2**30))).permutation(len(joined)))


class Case(NamedTuple):
    """A kind of study."""

    world: Callable[[int], World]
    "Of a seed."
    episodes: int
    recorded: bool
    about: str
    panel: Callable[[Episodes, World], Mapping[str, np.ndarray]]


# worlds ------------------------------------------------------------------------------------------------------------------------


def ward(states: int, actions: int, *, effect: float, ending: float, sure: float = 1.0, loggers: int = 1, seed: int = 0) -> World:
    """Patients move between `states` at random; each step ends, with probability `ending`, in survival or death. Survival depends on the state,
    and, with the standard deviation `effect`, on the last action: with 0 nothing can be gained. `ending` 1 makes a bandit.

    A logger is the softmax of `sure` times normal numbers, so that 1 is varied and 4 all but settled. Several are of one world, and their
    episodes are not told apart in the log.
    """
    rng = np.random.default_rng(seed)
    won, lost, n = states, states + 1, states + 2
    chance = np.clip(rng.uniform(0.4, 0.8, (states, 1)) + effect * rng.normal(size=(states, actions)), 0.02, 0.98)
    transition = np.zeros((n, actions, n))
    transition[:states, :, :states] = (1 - ending) * rng.dirichlet(np.full(states, 0.3), states)[:, None]
    transition[:states, :, won], transition[:states, :, lost] = ending * chance, ending * (1 - chance)
    reward = np.zeros((1, 1, n))
    reward[..., won] = 1
    start = np.append(rng.dirichlet(np.full(states, 2.0)), [0, 0])
    mdp = MDP(transition, reward, start, np.arange(n) >= states)
    softmax = lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    return World(mdp, tuple(softmax(sure * rng.normal(size=(n, actions))) for _ in range(loggers)), 1 if ending == 1 else 60)


def sepsis(seed: int) -> World:
    """There is only one."""
    from topstitch.worlds.icu_sepsis import clinician, icu_sepsis

    return World(icu_sepsis(masks=False), (clinician(),), 60)


# panels ------------------------------------------------------------------------------------------------------------------------


def learned(train: Episodes, world: World) -> dict[str, np.ndarray]:
    """One-step improvements of practice, which is counted: tilted towards what went well, gently and firmly; and the best of what was done
    often enough, with what was not left as it is."""
    shape = world.mdp.states, world.mdp.actions
    count = np.zeros(shape)
    np.add.at(count, (train.obs, train.action), 1)
    seen = count.sum(axis=1, keepdims=True)
    practice = np.where(seen > 0, count / np.maximum(seen, 1), 1 / shape[1])
    q, spread = pooled(train, shape), float(train.returns().std()) or 1.0
    found = {}
    for sharp in (10.0, 40.0):
        tilted = practice * np.exp(sharp / spread * (q - q.max(axis=1, keepdims=True)))
        found[f"tilted {sharp:.0f}"] = tilted / tilted.sum(axis=1, keepdims=True)
    for least in (5, 20, 50):
        often = count >= least
        best = np.where(often, q, -np.inf).argmax(axis=1)
        safe = practice * ~often
        safe[np.arange(len(safe)), best] += (practice * often).sum(axis=1)
        found[f"often {least}"] = safe
    return found


def pooled(train: Episodes, shape: tuple[int, int]) -> np.ndarray:
    """(states, actions): what practice went on to earn, drawn towards the mean of the state."""
    pair, goal = train.obs.astype(np.int64) * shape[1] + train.action, train.to_go()
    count = np.bincount(pair, minlength=shape[0] * shape[1]).reshape(shape)
    total = np.bincount(pair, weights=goal, minlength=shape[0] * shape[1]).reshape(shape)
    state = (total.sum(axis=1) + goal.mean()) / (count.sum(axis=1) + 1)
    return (total + 10 * state[:, None]) / (count + 10)


def harmful(train: Episodes, world: World) -> dict[str, np.ndarray]:
    """Practice tilted towards what is truly worse: as an algorithm would that got the sign of the reward wrong."""
    practice = world.loggers[0]
    q = world.mdp.value(practice, 1.0).q
    found = {}
    for sharp in (2.0, 6.0):
        tilted = practice * np.exp(-sharp * (q - q.min(axis=1, keepdims=True)))
        found[f"tilted -{sharp:.0f}"] = tilted / tilted.sum(axis=1, keepdims=True)
    return found


# cases -------------------------------------------------------------------------------------------------------------------------


def cases() -> dict[str, Case]:
    bandit = lambda **how: lambda seed: ward(10, 4, ending=1.0, seed=seed, **how)
    stays = lambda **how: lambda seed: ward(25, 4, ending=0.25, seed=seed, **how)
    return {
        "bandit-none": Case(bandit(effect=0.0), 4000, True, "one decision, nothing to gain", learned),
        "bandit-none-fit": Case(bandit(effect=0.0), 4000, False, "the same, probabilities estimated", learned),
        "bandit-none-small": Case(bandit(effect=0.0), 500, False, "the same, few episodes", learned),
        "bandit-some": Case(bandit(effect=0.05), 4000, True, "one decision, a small gain", learned),
        "bandit-much": Case(bandit(effect=0.15), 4000, True, "one decision, a large gain", learned),
        "bandit-much-fit": Case(bandit(effect=0.15), 4000, False, "the same, probabilities estimated", learned),
        "bandit-thin": Case(bandit(effect=0.15, sure=4.0), 4000, False, "one decision, a logger all but settled", learned),
        "bandit-harm": Case(bandit(effect=0.15), 4000, True, "one decision, a policy that harms", harmful),
        "ward-none": Case(stays(effect=0.0), 4000, True, "some four decisions, nothing to gain", learned),
        "ward-none-fit": Case(stays(effect=0.0), 4000, False, "the same, probabilities estimated", learned),
        "ward-none-small": Case(stays(effect=0.0), 500, False, "the same, few episodes", learned),
        "ward-some-fit": Case(stays(effect=0.05), 4000, False, "some four decisions, a small gain", learned),
        "ward-much": Case(stays(effect=0.2), 4000, True, "some four decisions, a large gain", learned),
        "ward-much-fit": Case(stays(effect=0.2), 4000, False, "the same, probabilities estimated", learned),
        "ward-thin": Case(stays(effect=0.2, sure=4.0), 4000, False, "some four decisions, a logger all but settled", learned),
        "ward-harm": Case(stays(effect=0.2), 4000, False, "some four decisions, a policy that harms", harmful),
        "ward-two-none": Case(stays(effect=0.0, loggers=2, sure=1.5), 4000, False, "two loggers that the log does not tell apart, nothing to gain", learned),
        "ward-two-much": Case(stays(effect=0.2, loggers=2, sure=1.5), 4000, False, "two loggers that the log does not tell apart, a large gain", learned),
        "sepsis": Case(sepsis, 20_000, True, "ICU-Sepsis", learned),
        "sepsis-fit": Case(sepsis, 20_000, False, "ICU-Sepsis, probabilities estimated", learned),
    }  # fmt: skip


def simulate(case: Case, world: World, truth: float, log: Episodes, seed: int) -> dict:
    """One study: its word, and the true gain of what was chosen."""
    plan = Plan(seed=seed, return_range=(0.0, 1.0), behaviour="column" if case.recorded else "fit")
    parts = deal(log, plan)
    train, rest = log.take(parts["train"]), log.take(np.concatenate([parts["train"], parts["selection"]]))
    margin, _ = margin_of(rest, plan)
    tables = case.panel(train, world)
    policies = {name: nets.TablePolicy(jnp.asarray(table, jnp.float32)) for name, table in tables.items()}
    try:
        judged = judge(log, parts, policies, learn(train, rest, recorded=case.recorded, seed=seed), plan, margin=margin)
    except Refused as reason:
        judged = refused(str(reason), margin)
    chosen = None if judged.choice is None else judged.choice.chosen
    gain = 0.0 if chosen is None else float(world.mdp.performance(tables[chosen], 1.0)) - truth
    x = judged.numbers
    return {"word": judged.verdict.word, "code": judged.verdict.code, "gain": gain, "margin": margin, "effective": x.effective, "estimate": x.gain.value,
            "control": x.control.value, "net": x.net.value, "low": x.net.low, "high": x.net.high, "gain_low": x.gain.low, "gain_high": x.gain.high, "bound": x.bound}  # fmt: skip


def measure(name: str, case: Case, studies: int, fresh: bool) -> list[dict]:
    """Studies of one world, in which cases of the same world have the same logs; or, `fresh`, each of another world and another log."""
    began, rows = time.monotonic(), []
    seed = zlib.crc32(name.encode()) if fresh else 0
    key = jax.random.key(seed if fresh else int.from_bytes(name.encode()[:7], "big") % 2**31)
    for i in range(studies):
        world = case.world(seed + i) if fresh or i == 0 else world
        log = world.log(case.episodes, jax.random.fold_in(key, i))
        rows.append(plain(simulate(case, world, world.practice(), log, seed + i)))
    print(f"{name}: {studies} studies, {(time.monotonic() - began) / studies:.2f} s each", flush=True)
    return rows


# what came out -----------------------------------------------------------------------------------------------------------------


def summed(rows: list[dict]) -> dict:
    """Counts of words, and of wrong ones, of a list of studies."""
    gain, margin = np.round([row["gain"] for row in rows], 9), np.array([row["margin"] for row in rows])
    word, code = np.array([row["word"] for row in rows]), np.array([row["code"] for row in rows])
    judged = np.array([row["net"] is not None for row in rows])
    inside = np.array([bool(j) and row["gain_low"] <= row["gain"] <= row["gain_high"] for j, row in zip(judged, rows)])
    return {
        "studies": len(rows), "words": {w: int((word == w).sum()) for w in WORDS}, "codes": {c: int((code == c).sum()) for c in sorted(set(code))},
        "gain": float(gain.mean()), "useless": int((gain <= 0).sum()), "worth": int((gain >= margin).sum()),
        "wrong deploy": int(((word == "deploy") & (gain <= 0)).sum()), "wrong trial": int(((word == "trial") & (gain <= 0)).sum()),
        "harmful trial": int(((word == "trial") & (gain < -margin)).sum()),
        "wrong do not": int(((word == "do not") & ((gain >= margin) | ((code == "harm") & (gain >= 0)))).sum()),
        "judged": int(judged.sum()), "covered": int(inside.sum()),
    }  # fmt: skip


def rate(k: int, n: int) -> str:
    """A share of n studies in percent, and one standard error of it."""
    if n == 0:
        return "–"
    p = k / n
    error = (max(p, 1 / n) * (1 - min(p, 1 - 1 / n)) / n) ** 0.5
    return f"{100 * p:.1f} ± {100 * error:.1f}"


def page(results: dict) -> str:
    known, rows = cases(), {}
    out = ["| case | episodes | probabilities | true gain, points | deploy | trial | cannot tell | do not | wrong deploy, % | wrong trial, % | wrong do not, % | gain in its interval, % |",
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, case in known.items():
        if name not in results["cases"]:
            continue
        one = rows[name] = summed(results["cases"][name])
        words = " | ".join(str(one["words"][w]) for w in WORDS)
        wrong = " | ".join(rate(one[f"wrong {w}"], one["studies"]) for w in ERRORS)
        out.append(f"| {case.about} | {case.episodes:,} | {'recorded' if case.recorded else 'estimated'} | {100 * one['gain']:+.1f} | {words} | {wrong} | "
                   f"{rate(one['covered'], one['judged'])} |")  # fmt: skip
    every = [row for name in rows for row in results["cases"][name]]
    useless, worth = [row for row in every if row["gain"] <= 1e-9], [row for row in every if row["gain"] >= row["margin"]]
    idle, good = summed(useless), summed(worth)
    lines = [
        "", f"{len(every):,} studies, {len(useless):,} of them of a policy that gains nothing. Of those:", "",
        f"- *deploy* was said in {rate(idle['wrong deploy'], len(useless))} % (built for {100 * ERRORS['deploy']:.0f} % at most),",
        f"- *trial* in {rate(idle['wrong trial'], len(useless))} % (built for {100 * ERRORS['trial']:.0f} %); in {rate(idle['harmful trial'], len(useless))} % the loss was larger than the margin.",
        "", f"Of {len(worth):,} studies of a policy that gains the margin or more, *do not* was said in {rate(good['wrong do not'], len(worth))} % "
        f"(built for {100 * ERRORS['do not']:.0f} %), *deploy* or *trial* in {rate(good['words']['deploy'] + good['words']['trial'], len(worth))} %.",
        "", "Errors are one standard error of a share. A row's shares are of all its studies, whatever the truth of their policies was.",
    ]  # fmt: skip
    return "\n".join(out + lines)


def read(path: Path) -> dict:
    return json.loads(path.read_text()) if path.is_file() else {"cases": {}}


def write_page() -> None:
    text = PAGE.read_text()
    for path in (RESULTS, FRESH):
        begin, end = (mark.format(path.name) for mark in (BEGIN, END))
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{page(read(path))}\n\n{end}{rest.partition(end)[2]}"
    write_bytes(PAGE, text.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=None)
    parser.add_argument("--studies", type=int, default=None)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    path = FRESH if options.fresh else RESULTS
    results = read(path)
    if not options.page:
        for name in options.cases or cases():
            studies = options.studies or (SLOW if name.startswith("sepsis") else STUDIES)
            results["cases"][name] = measure(name, cases()[name], studies, options.fresh)
            print(json.dumps(summed(results["cases"][name])), flush=True)
            if not options.dry:
                write_bytes(path, (json.dumps(plain(results)) + "\n").encode())
    if not options.dry:
        write_page()


if __name__ == "__main__":
    main()
