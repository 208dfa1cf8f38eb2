"""What the algorithms learn on the named tasks, and a page that says which of the field's expectations hold in it.

    python benchmarks/learning.py --sources DIR --out runs/learning            # all cells; goes on where it was
    python benchmarks/learning.py --tasks hopper-medium-expert --algorithms td3bc,iql --minutes 5
    python benchmarks/learning.py --page                                       # docs/results.md from benchmarks/results/learning

The cells are those of `topstitch bench`. Each has so many minutes of training on two cores as `--minutes` says: a slow algorithm gets
fewer updates, which its result says. Finished results are copied to benchmarks/results/learning; the page is made from these alone.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results/learning", HERE.parent / "docs/results.md"

SEEDS = 3
UPDATES = {
    "icu-sepsis": None, "cartpole-replay": 20_000, "cartpole-random": 20_000, "pendulum-replay": 20_000, "pendulum-random": 20_000,
    "hopper-medium-expert": 30_000, "hopper-replay-mixture": 30_000, "halfcheetah-medium": 30_000,
    "pointmaze-medium-stitch": 30_000, "door-human": 20_000,
    "hopper-medium@10000": 20_000, "hopper-medium@50000": 20_000, "hopper-medium@200000": 20_000,
    "minatar-breakout-random": 6_000, "minatar-breakout-mixture": 6_000,
}  # fmt: skip
"By task, the updates that every algorithm would have if it were fast enough; None: those of its settings. What iterates over the whole log has its own."
MOST = 12
"Curves in a picture; where there are more, those of the first algorithms, which have colours of their own."
ONLY = {"hopper-medium": ("bc", "td3", "sac", "td3bc")}
"Where not all that fit are run."
RATES = {
    "bc": 1300, "dqn": 1200, "discrete_bcq": 450, "discrete_cql": 700, "td3": 400, "td3bc": 400, "sac": 300, "iql": 300, "awac": 150,
    "rebrac": 150, "sac_n": 40, "cql": 20, "flow_bc": 1200, "rem": 600, "ifql": 280, "sac_rnd": 170, "fql": 140, "mbpo": 130, "mopo": 130,
    "morel": 130, "percentile_bc": 1300, "vae_bc": 600, "reverse_kl": 300, "ccil": 600, "emrl": 1300, "rwr": 1300, "marwil": 600, "awr": 400, "crr": 200,
    "mpo": 60, "brac": 100, "kl_control": 400, "one_step": 400, "emaq": 60, "algae_dice": 200, "plas": 200, "spot": 150, "qr_dqn": 300,
    "discrete_sac": 300, "diffusion_bc": 60, "bcq": 60, "idql": 45, "edac": 25, "bear": 20, "cal_ql": 20, "combo": 20,
}  # fmt: skip
"""Updates per second of all runs together with two layers of 256, on two cores, roughly: from "flow_bc" on they are reckoned from the
arithmetic of an update, and the fitting of a model counts too. An algorithm without an entry counts as the slowest."""
FASTER = {"cartpole": 8, "pendulum": 4, "pointmaze": 3, "locomotion": 3, "adroit": 3, "manipulation": 0.2}
"How much faster the nets of other families are, and those of `INSTEAD`."
LEAN = dict(hidden=(128, 128))
CODED = LEAN | dict(behaviour_hidden=(128, 128))
IMAGINED = LEAN | dict(model_hidden=(128, 128), model_steps=20_000, rollouts=5000)
INSTEAD = {
    "sac_n": LEAN | dict(critics=10), "edac": LEAN | dict(critics=10), "cql": LEAN | dict(actions_sampled=4),
    "cal_ql": LEAN | dict(actions_sampled=4), "rebrac": LEAN | dict(batch_size=256), "sac_rnd": LEAN | dict(batch_size=256),
    "bcq": CODED | dict(candidates=20), "bear": CODED | dict(candidates=20, warmup=2000),
    "idql": CODED | dict(candidates=32, batch_size=256), "mbpo": IMAGINED, "mopo": IMAGINED, "morel": IMAGINED,
    "combo": IMAGINED | dict(actions_sampled=4),
}  # fmt: skip
"Hyperparameters that published settings have too large for two cores, in locomotion, adroit and pointmaze; all others have `LEAN` there."

PREFACE = """Every method on logs that anybody can make again: `topstitch bench TASK --algorithms NAME`. Nothing here was tuned on these
tasks: settings are the published ones where there are any (`src/topstitch/bench/settings.py` has the source of each), and the last
policy counts, not the best one seen, which nobody could pick who has only a log. Both are shown.

How to read the columns. *Last* and *best* are means over seeds, in the unit that stands above the table, with Student's 95 % interval.
*Believes* is the mean Q of logged actions at the end, in raw rewards. *Is worth* is the discounted return that the last policy truly
has, averaged over the steps of its own episodes; where the world is known it is exact. These are not the same states, so the two
tell a factor from another, not a decimal. Tasks named after D4RL's are collected with other policies in today's environments, and
scores are on D4RL's scale only to have a scale: they are not D4RL's numbers. *Updates/s* are those of all seeds together on a machine
that did other work too; speed is measured in [speed.md](speed.md). Where a belief still rises at the end of its picture, learning was not
finished (CartPole and Pendulum at 20,000 updates), and what is said of beliefs there is said of that moment.

Hopper, HalfCheetah and the point maze have nets of two layers of 128 and 20,000 to 30,000 updates, where publications have 256 and a million; each
table says so. What that does not show: in the point maze nobody reaches the goal, so nothing is decided there. On hopper-medium-expert and
halfcheetah-medium methods that weight or constrain imitation are below plain imitation, and it is because values are not settled yet. On
hopper-medium-expert IQL without weights (β = 0, observations standardised; two seeds) scores 40 and 66 after 20,000 updates, with them (β = 3) 1.3
and 1.3, or 12 and 10 where observations are as they are. On halfcheetah-medium Q rises by 27 in every 2,000 updates towards the some 480 that it
settles at after 50,000; TD3+BC divides by it, and so listens too much to it until then. One seed that went on had 3 points after 20,000
updates, 14 after 50,000 and 26 after 80,000; one with a tenth of the weight (α = 0.25) had 49 after 15,000, as imitation has.

CQL and SAC-N had 6,000 to 8,000 updates on the hopper, the cheetah and the door, and SAC-N 10 critics, where publications have a million or three and, on
the hopper, 200 to 500 critics: nothing is decided about either there. What CQL believes is of logged steps; what its policy is worth is of its own. Where
the log was made by far better policies than what 7,000 updates gave (hopper-replay-mixture, halfcheetah-medium: steps of the log earned 218 and 546), the
two statements that go against expectation compare values of good places with what a policy earns that falls or stands still at once. In the point maze
its values, 0 at first, had not come down yet to the some -76 that the log earned.

Methods beyond the first twelve have been given the small tasks alone, with 1,000 to 10,000 updates (cloning has 20,000): enough to see that they
learn, not to rank them. `morel` on pendulum-replay believes -149 and falls; on the random log it swings up as all others that learn a world. Why was not looked
into. Cloning by whatever density (`flow_bc`, `diffusion_bc`) of a random log acts at random, as it should. On MinAtar values are not settled after 10,000
updates of 32 steps: only `crr` is above plain imitation, with 2,000, and what is said of the others there is said of that moment. Where an algorithm
iterates over the whole log (`fqi`, `nfq`, `lspi`), its updates are these iterations.
`percentile_bc` on pendulum-replay fails for a reason: the best
tenth of the episodes are those that began upright (the cosine of the first angle is 0.97 in the mean, and in none of their steps the pendulum hangs), so it has never
seen how to swing up. Where episodes begin differently, a return measures luck before skill. On CartPole, where all begin alike, it is far above plain cloning."""

NAIVE = ("dqn", "qr_dqn", "discrete_sac", "td3", "sac", "mbpo")
CAUTIOUS_VALUES = ("cql", "discrete_cql")
NARROW = ("icu-sepsis", "hopper-medium", "hopper-expert", "hopper-medium-expert", "halfcheetah-medium", "halfcheetah-expert",
          "halfcheetah-medium-expert", "door-human", "door-expert")  # fmt: skip
"Logs of few policies: what the naive baselines are expected to fail on."
EXPERT = ("hopper-expert", "halfcheetah-expert", "door-expert", "door-human")
MIXED = ("icu-sepsis", "cartpole-replay", "cartpole-random", "pendulum-replay", "pendulum-random", "hopper-medium-expert", "hopper-replay-mixture",
         "halfcheetah-medium-expert", "halfcheetah-replay-mixture", "pointmaze-medium-navigate", "pointmaze-medium-stitch",
         "minatar-breakout-mixture")  # fmt: skip
"Logs with good and bad in them: what offline RL is expected to beat imitation on."


# running -------------------------------------------------------------------------------------------------------------------


def cells(options) -> list:
    """(task, algorithm, how it is to be run)."""
    from topstitch import algos
    from topstitch.bench import runner, tasks

    chosen = []
    for name in options.tasks.split(",") if options.tasks else UPDATES:
        task, updates = tasks.find(name), options.updates or UPDATES.get(name, 100_000)
        wanted = options.algorithms.split(",") if options.algorithms else ONLY.get(name.split("@")[0], runner.fitting(task))
        for algorithm in wanted:
            if algorithm not in runner.fitting(task):
                continue
            rate = RATES.get(algorithm, min(RATES.values())) * FASTER.get(task.family, 1)
            steps, why = None if runner.iterates(algos.find(algorithm)) else updates, []
            fields = INSTEAD.get(algorithm, LEAN) if task.family in ("locomotion", "adroit", "pointmaze") else {}
            why += [", ".join(f"{name} = {value}" for name, value in fields.items()) + " for time's sake"] if fields else []
            if steps is not None and (most := max(1000, int(options.minutes * 60 * rate / SEEDS) // 1000 * 1000)) < steps:
                steps, why = most, [*why, f"{most:,} of {updates:,} updates for time's sake"]
            every = None if steps is None else max(1, steps // options.evaluations)
            chosen.append((task, algorithm, runner.Asked(SEEDS, steps, every, fields=fields, why="; ".join(why))))
    return chosen


def measure(options) -> list[dict]:
    from topstitch.bench import runner, tasks
    from topstitch.cli import start_jax
    from topstitch.cli.bench import Told

    start_jax()
    place = tasks.Place(tell=Told())
    if options.sources:
        place = dataclasses.replace(place, sources=options.sources)
    results = []
    for cell in cells(options):
        result = runner.run([cell], place=place, out=options.out, progress=True, tell=lambda text: print(text[5:], flush=True))[0]
        results.append(result)
        if "failed" not in result:
            keep(result)
    return results


def keep(result: dict) -> None:
    """A copy for the repository: one line per entry, six digits."""
    from topstitch.bench.runner import slug
    from topstitch.disk import write_bytes

    lines = [f" {json.dumps(name)}: {json.dumps(rounded(value), ensure_ascii=False)}" for name, value in result.items()]
    path = RESULTS / f"{slug(result['task'])}--{result['algorithm']}.json"
    write_bytes(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def rounded(x):
    if isinstance(x, dict):
        return {name: rounded(value) for name, value in x.items()}
    if isinstance(x, list):
        return [rounded(value) for value in x]
    return float(f"{x:.6g}") if isinstance(x, float) else x


# what holds ----------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is what the field would expect; None: neither."""

    text: str
    expected: bool | None

    def __str__(self):
        return f"- {self.text}: {'as expected' if self.expected else '**against expectation**' if self.expected is False else 'undecided'}."


def said(x: float | None) -> str:
    """A number in words of few digits."""
    return (
        "–"
        if x is None
        else f"{x:,.0f}"
        if 1000 <= abs(x) < 1e6
        else f"{x:.1e}"
        if abs(x) >= 1e6
        else f"{x:.1f}"
        if abs(x) >= 10
        else f"{x:.2f}"
    )


def soars(row: dict) -> bool | None:
    """Whether a policy believes itself far above what it is worth: by half of the larger of what it and the log are worth, or it diverged."""
    if row["diverged"]:
        return True
    if row["believes"] is None or row["worth"] is None:
        return None
    return row["believes"] - row["worth"] > 0.5 * max(abs(row["worth"]), abs(row["log_worth"] or 0))


def clear(a: dict, b: dict) -> bool:
    """Whether the intervals of two rows do not touch."""
    return None not in (a["low"], a["high"], b["low"], b["high"]) and (a["low"] > b["high"] or a["high"] < b["low"])


def naive(rows: Sequence[dict]) -> list[Finding]:
    """On narrow logs the naive baselines diverge, or gain nothing over imitation while they think well of themselves."""
    found = []
    for row in rows:
        base = other(rows, row["task"], "bc")
        if row["algorithm"] not in NAIVE or plain(row["task"]) not in NARROW or base is None:
            continue
        gains = row["mean"] > base["mean"] and clear(row, base)
        broke = f"{row['diverged']} of {row['seeds']} runs diverged; " if row["diverged"] else ""
        text = (f"`{row['algorithm']}` on {row['task']}: {broke}scores {said(row['mean'])} where `bc` has {said(base['mean'])}, believes "
                f"{said(row['believes'])} and is worth {said(row['worth'])}")  # fmt: skip
        found.append(Finding(text, bool(row["diverged"]) or (not gains and soars(row) is True)))
    return found


def offline(rows: Sequence[dict]) -> list[Finding]:
    """Offline RL beats imitation on mixed logs, and does not lose to it on expert ones."""
    from topstitch import algos

    found = []
    for row in rows:
        base, task = other(rows, row["task"], "bc"), plain(row["task"])
        if row["algorithm"] in NAIVE or algos.family(row["algorithm"]) == "imitation" or base is None or task not in (*MIXED, *EXPERT):
            continue
        apart = clear(row, base)
        how = "beats" if row["mean"] > base["mean"] and apart else "is above, within the intervals," if row["mean"] > base["mean"] else (
            "is below" if apart else "is level with")  # fmt: skip
        text = f"`{row['algorithm']}` on {row['task']}: {said(row['mean'])} {how} `bc`, {said(base['mean'])}"
        good = row["mean"] > base["mean"] if task in MIXED else not (apart and row["mean"] < base["mean"])
        ceiling = (most := top(rows, row["task"])) - 0.02 * abs(most)
        alike = all(r["mean"] == most for r in rows if r["task"] == row["task"])
        best = min(row["mean"], base["mean"]) >= ceiling and not alike  # nothing left to gain
        found.append(Finding(text, True if good or best else False if apart else None))
    return found


def cautious(rows: Sequence[dict]) -> list[Finding]:
    """CQL's values lie below the true ones."""
    found = []
    for row in rows:
        if row["algorithm"] in CAUTIOUS_VALUES and row["believes"] is not None and row["worth"] is not None:
            text = (f"`{row['algorithm']}` on {row['task']}: believes {said(row['believes'])}, is worth {said(row['worth'])} "
                    f"(the log earned {said(row['log_worth'])})")  # fmt: skip
            found.append(Finding(text, row["believes"] < row["worth"]))
    return found


def more(rows: Sequence[dict]) -> list[Finding]:
    """More data does not cure the naive baseline."""
    found, sized = [], {}
    for row in rows:
        if row["algorithm"] in NAIVE and "@" in row["task"]:
            sized.setdefault((plain(row["task"]), row["algorithm"]), []).append(row)
    for (task, algorithm), of in sized.items():
        of = sorted(of, key=lambda row: row["log_steps"])
        base = other(rows, of[-1]["task"], "bc")
        if len(of) < 2 or base is None:
            continue
        story = ", ".join(f"{said(row['mean'])} (believes {said(row['believes'])}) with {row['log_steps']:,} steps" for row in of)
        text = f"`{algorithm}` on {task}: {story}; `bc` has {said(base['mean'])} with the most"
        found.append(Finding(text, of[-1]["mean"] < base["mean"]))
    return found


EXPECTATIONS = {
    "Naive value learning breaks on narrow data": (
        "A learner that asks its own critic about actions that were never taken diverges, or gains nothing over imitation while it thinks "
        "well of itself.", naive),
    "Offline RL beats imitation on mixed data, and does not lose to it on an expert's": (
        "Where the log holds good and bad, choosing is worth more than copying; where it holds only good, copying is hard to beat.", offline),
    "CQL believes less than is true": ("Its loss pushes values down until they are lower bounds.", cautious),
    "More data does not cure the naive baseline": ("More of the same policy does not show what other actions would have done.", more),
}  # fmt: skip


def plain(task: str) -> str:
    return task.split("@")[0]


def other(rows: Sequence[dict], task: str, algorithm: str) -> dict | None:
    return next((row for row in rows if (row["task"], row["algorithm"]) == (task, algorithm)), None)


def top(rows: Sequence[dict], task: str) -> float:
    return max(row["mean"] for row in rows if row["task"] == task)


# the page ------------------------------------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows))


def page(results: Sequence[dict], pictures: str = "pictures") -> str:
    """docs/results.md."""
    from topstitch.bench import runner

    rows = [row | {"log_worth": result["data"]["worth"], "log_steps": result["data"]["steps"]}
            for row, result in zip(runner.table(results), results, strict=True)]  # fmt: skip
    found = {title: judge(rows) for title, (_, judge) in EXPECTATIONS.items()}
    every = [finding for findings in found.values() for finding in findings]
    held, against = (sum(finding.expected is wanted for finding in every) for wanted in (True, False))
    devices = " and ".join(dict.fromkeys(result["device"] for result in results))
    parts = [
        "# Results", "<!-- generated by benchmarks/learning.py --page -->", PREFACE, f"Made on {devices}.", "## What the numbers say",
        f"Of {len(every)} statements, {held} hold as expected, {against} go against expectation, {len(every) - held - against} are undecided.",
    ]  # fmt: skip
    for title, (idea, _) in EXPECTATIONS.items():
        if found[title]:
            parts += [f"### {title}", idea, "\n".join(map(str, found[title]))]
    if together := runner.aggregate(results):
        lines = [[f"`{row['algorithm']}`", f"{row['iqm']:.1f}", between(row), f"{row['tasks']} of {row['of']}"] for row in together]
        parts += [
            "## Together",
            "Interquartile mean of the last policies over tasks with normalised scores, and its stratified bootstrap interval. Compare only "
            "algorithms that have all tasks.",
            table(["algorithm", "IQM", "95 %", "tasks"], lines),
        ]
    for task in dict.fromkeys(row["task"] for row in rows):
        parts += section(task, [(row, result) for row, result in zip(rows, results, strict=True) if row["task"] == task], pictures)
    used = dict.fromkeys(f"{name} {version}" for result in results for name, version in result["versions"].items())
    return "\n\n".join([*parts, "## Versions", ", ".join(used) + "."]) + "\n"


def between(row: dict) -> str:
    return "" if row["low"] is None else f"{row['low']:,.1f} to {row['high']:,.1f}"


def section(task: str, mine: list[tuple[dict, dict]], pictures: str) -> list[str]:
    """One task: its log, its table, its picture."""
    from topstitch.bench.runner import slug

    first, data = mine[0][1], mine[0][1]["data"]
    score = "" if data["score"] is None else f", mean score {data['score']:,.1f}"
    worth = next((f", {said(row['log_worth'])} discounted from a step on" for row, _ in mine if row["log_worth"] is not None), "")
    public = any(row["published"] for row, _ in mine)
    lines, notes = [], []
    for row, result in mine:
        marks = [f"{row['diverged']} of {row['seeds']} diverged"] if row["diverged"] else []
        name = f"`{row['algorithm']}`"
        if result["why"] or marks:
            notes.append(f"`{row['algorithm']}`: {'; '.join([*marks, *([result['why']] if result['why'] else [])])}.")
        beside = [" / ".join(f"{p['mean']:g}" for p in row["published"])] if public else []
        lines.append([name, f"{row['mean']:,.1f}" + (f" [{between(row)}]" if between(row) else ""), f"{row['best']:,.1f}", said(row["believes"]),
                      said(row["worth"]), *beside, f"{row['steps']:,}", f"{row['seeds']}", "–" if row["updates_per_s"] is None else f"{row['updates_per_s']:,.0f}"])  # fmt: skip
    head = ["algorithm", "last [95 %]", "best", "believes", "is worth", *(["published"] if public else []), "updates", "seeds", "updates/s"]
    sources = dict.fromkeys(f"- {p['mean']:g}: {p['source']}" for row, _ in mine for p in row["published"])
    return [
        f"## {task}",
        f"{first['about'][0].upper()}{first['about'][1:]}. Log: {data['episodes']:,} episodes, {data['steps']:,} steps{score}{worth}. "
        f"Score: {first['unit']}.",
        table(head, lines),
        *(["\n".join(f"- {note}" for note in notes)] if notes else []),
        *(["Published:\n\n" + "\n".join(sources)] if sources else []),
        f"![{task}: how well each does, and how well it thinks it does]({pictures}/results-{slug(task)}.png)",
    ]


def load(folder: Path) -> list[dict]:
    """The stored results, in the order of the tasks above and of the table of algorithms."""
    from topstitch.algos import ALGORITHMS

    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    tasks, names = list(UPDATES), list(ALGORITHMS)
    place = lambda known, name: (known.index(name) if name in known else len(known), name)
    return sorted(results, key=lambda result: (place(tasks, result["task"]), place(names, result["algorithm"])))


def write_page(folder: Path, target: Path) -> None:
    """The page and its pictures, from the results in `folder`."""
    from topstitch.bench import pictures
    from topstitch.bench.runner import slug
    from topstitch.disk import write_bytes

    results = load(folder)
    if not results:
        sys.exit(f"There are no results in {folder}.")
    for task in dict.fromkeys(result["task"] for result in results):
        mine = [result for result in results if result["task"] == task]
        shown = [result for result in mine if len(mine) <= MOST or result["algorithm"] in pictures.COLOURS]
        pictures.curves(target.parent / "pictures" / f"results-{slug(task)}.png", shown)
    write_bytes(target, page(results).encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", help="names with commas (default: all of the plan)")
    parser.add_argument("--algorithms", help="names with commas (default: all that fit)")
    parser.add_argument("--minutes", type=float, default=20, help="training of one cell on two cores, about")
    parser.add_argument("--evaluations", type=int, default=20, help="of each cell")
    parser.add_argument("--updates", type=int, help="of each cell, in the place of the plan's")
    parser.add_argument("--sources", type=Path, help="where policies/, d3rlpy_h5/ and minari/ lie (default: TOPSTITCH_SOURCES)")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"), help="where the runs are kept, to go on from")
    parser.add_argument("--plan", action="store_true", help="only show what would be run")
    parser.add_argument("--page", action="store_true", help="only write docs/results.md and its pictures from the stored results")
    options = parser.parse_args()
    if options.plan:
        for task, algorithm, asked in cells(options):
            print(f"{task.name:26} {algorithm:14} {'its own' if asked.steps is None else f'{asked.steps:,}':>9} updates  {asked.why}")
        return
    results = [] if options.page else measure(options)
    write_page(RESULTS, PAGE)
    for result in results:
        if "failed" in result:
            print(f"failed: {result['task']} {result['algorithm']}: {result['failed']}", file=sys.stderr)
    sys.exit(1 if any("failed" in result for result in results) else 0)


if __name__ == "__main__":
    main()
