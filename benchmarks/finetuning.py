"""What becomes of offline runs when they go on by acting: curves before and after the switch, and a page about them.

    python benchmarks/finetuning.py --sources DIR --out runs/finetuning     # all cells; goes on where it was
    python benchmarks/finetuning.py --tasks pendulum-random --algorithms iql,cal_ql
    python benchmarks/finetuning.py --page                                  # docs/finetuning.md from benchmarks/results/finetuning

Half of every batch is drawn from the log and half from what is being seen. Beside the runs that start from offline ones stands `rlpd`:
a soft actor-critic that starts from nothing, with the same batches (Ball et al. 2023, https://arxiv.org/abs/2302.02948, in kind: without
their layer norm and their many critics).
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results/finetuning", HERE.parent / "docs/finetuning.md"
SEEDS, EPISODES = 3, 10
TASKS = {
    "pendulum-random": (5_000, 5_000, {}), "pendulum-replay": (2_000, 3_000, {}),
    "hopper-replay-mixture": (8_000, 8_000, dict(hidden=(128, 128))),
}  # fmt: skip
"Updates on the log, then steps in the environment with an update each; hyperparameters that published settings have too large for a CPU."
LEAN = {"cql": dict(actions_sampled=4), "cal_ql": dict(actions_sampled=4)}
ALGORITHMS = ("iql", "awac", "cal_ql", "cql", "rlpd")
LOGGED = 0.5
BELOW = 0.2
"Of the way from the worst score of a task to that before the switch: what is lost beyond it is a collapse."


# running -------------------------------------------------------------------------------------------------------------------


def measure(name: str, algorithm: str, options) -> dict:
    from topstitch import algos
    from topstitch.bench import runner, tasks
    from topstitch.bench.settings import setting
    from topstitch.evaluation import Evaluations
    from topstitch.online import Acting, continued, finetune, train_online
    from topstitch.runs import read_config, train

    place = tasks.Place() if options.sources is None else dataclasses.replace(tasks.Place(), sources=options.sources)
    task, (offline, online, small) = tasks.find(name), TASKS[name]
    kind = "sac" if algorithm == "rlpd" else algorithm
    found = setting(task.family, task.like or task.name, "cql" if kind == "cal_ql" else kind)
    rule = algos.find(kind)(**(found.fields | small | LEAN.get(kind, {}) | {"steps": online if algorithm == "rlpd" else offline}))
    log = task.read(place).normalised(obs=found.normalise, reward=found.reward)
    folder, how = options.out / name / algorithm, dict(episodes=EPISODES, every=max(offline, online) // 10)
    runs = [(rule, seed) for seed in range(SEEDS)]
    before = []
    if algorithm == "rlpd":
        after = Evaluations(runs, log, task.env, **how, steps=online, path=folder / "online.jsonl")
        train_online(rule, task.env, log=log, seeds=SEEDS, acting=Acting(logged=LOGGED), out=folder / "online", listeners=[after],
                     resume=(folder / "online").exists())  # fmt: skip
    else:
        watch = Evaluations(runs, log, task.env, **how, path=folder / "offline.jsonl")
        again = (folder / "offline").exists()
        train(rule, log, seeds=SEEDS, out=folder / "offline", every=500, listeners=[watch], resume=again)
        before, runs = watch.points, continued(read_config(folder / "offline"), online)
        after = Evaluations(runs, log, task.env, **how, steps=online, path=folder / "online.jsonl")
        finetune(folder / "offline", log, task.env, steps=online, acting=Acting(logged=LOGGED), out=folder / "online", listeners=[after],
                 resume=(folder / "online").exists())  # fmt: skip
    points = lambda found: [{"step": p["step"], "scores": task.scores(p["returns"], p["success"]).tolist()} for p in found]
    return {"task": name, "algorithm": algorithm, "unit": task.unit, "seeds": SEEDS, "episodes": EPISODES, "logged": LOGGED,
            "settings": json.loads(json.dumps(runner.fields_of(runs[0][0]))), "log": runner.behaviour(task, log),
            "offline": points(before), "online": points(after.points), "device": runner.device()}  # fmt: skip


# the page ------------------------------------------------------------------------------------------------------------------


def mean(point: dict) -> float:
    return float(np.mean(point["scores"]))


def row(result: dict, worst: float) -> dict:
    """Before the switch, the lowest just behind it (the first third), and at the end; whether that was a collapse."""
    curve = [p for p in result["online"] if p["step"] > 0]
    start = mean(result["offline"][-1]) if result["offline"] else None
    lowest = min(mean(p) for p in curve[: max(1, len(curve) // 3)])
    fell = None if start is None else lowest < start - BELOW * (start - worst)
    return {"algorithm": result["algorithm"], "before": start, "lowest": lowest, "after": mean(curve[-1]), "fell": fell}


def page() -> None:
    from topstitch.disk import write_bytes

    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    about, rlpd = __doc__.split("\n\n")[-1].strip().split(" Beside the runs")
    about += " Beside the runs" + rlpd if any(result["algorithm"] == "rlpd" for result in results) else ""
    text = ["# From offline to online", "", about, "",
            "*Before* is the score of the runs that learned from the log alone, *lowest* the least mean score in the first third of acting, "
            "*after* that at the end; means over seeds. A fall by more than a fifth of the way down to the worst score seen in the task is "
            "called a collapse; where *before* is near the mean of the log, little had been learned, and a fall says little. Made by `benchmarks/finetuning.py`, which has the numbers of updates; settings are in "
            "`benchmarks/results/finetuning`."]  # fmt: skip
    for name in dict.fromkeys(result["task"] for result in results):
        mine = [result for result in results if result["task"] == name]
        worst = min(min(p["scores"]) for result in mine for p in (*result["offline"], *result["online"]))
        rows = [row(result, worst) for result in mine]
        offline, online = (max(len(r[part]) and r[part][-1]["step"] for r in mine) for part in ("offline", "online"))
        said = lambda x: "" if x is None else f"{x:,.1f}"
        text += ["", f"## {name}", "", f"{offline:,} updates on the log (whose mean is {said(mine[0]['log'])}), then {online:,} steps in the "
                 f"environment; {mine[0]['seeds']} seeds, {mine[0]['episodes']} episodes an evaluation; in {mine[0]['unit']}.", "",
                 f"![curves](pictures/finetuning-{name}.png)", "", "| algorithm | before | lowest | after | collapse |",
                 "| --- | --- | --- | --- | --- |"]  # fmt: skip
        text += [f"| {r['algorithm']} | {said(r['before'])} | {said(r['lowest'])} | {said(r['after'])} | "
                 f"{'' if r['fell'] is None else 'yes' if r['fell'] else 'no'} |" for r in rows]  # fmt: skip
        picture(HERE.parent / f"docs/pictures/finetuning-{name}.png", mine)
    write_bytes(PAGE, ("\n".join(text) + "\n").encode())


def picture(path: Path, results: list[dict]) -> None:
    """One line per algorithm: to the left of 0 what learning from the log did, to the right what acting did."""
    from topstitch.bench.pictures import COLOURS, GREY, OTHERS, panels

    others = iter(OTHERS * 10)
    with panels(path, (1.0,), (8.0, 4.0)) as (figure, axes):
        for result in results:
            length = result["offline"][-1]["step"] if result["offline"] else 0
            step = [p["step"] - length for p in result["offline"]] + [p["step"] for p in result["online"] if p["step"] > 0]
            table = np.array([p["scores"] for p in (*result["offline"], *(p for p in result["online"] if p["step"] > 0))])
            colour = COLOURS.get(result["algorithm"]) or next(others)
            axes.plot(step, table.mean(axis=1), color=colour, lw=2, label=result["algorithm"])
            axes.fill_between(step, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.12, lw=0)
        axes.axvline(0, color=GREY, lw=1)
        axes.axhline(results[0]["log"], color=GREY, lw=1, ls="--")
        axes.set_xlabel("updates on the log  |  steps in the environment")
        axes.set_ylabel(results[0]["unit"])
        axes.set_title("Before and after the switch (band: least to most of the seeds)", loc="left", fontweight="bold")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS), help="names with commas")
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS), help="names with commas")
    parser.add_argument("--sources", type=Path, help="where policies/ and d3rlpy_h5/ lie (default: TOPSTITCH_SOURCES)")
    parser.add_argument("--out", type=Path, default=Path("runs/finetuning"), help="where the runs are kept, to go on from")
    parser.add_argument("--page", action="store_true", help="only write docs/finetuning.md and its pictures")
    options = parser.parse_args()
    if not options.page:
        from topstitch.cli import start_jax
        from topstitch.disk import write_json

        start_jax()
        for name in options.tasks.split(","):
            for algorithm in options.algorithms.split(","):
                result = measure(name, algorithm, options)
                write_json(RESULTS / f"{name}--{algorithm}.json", result)
                print(name, algorithm, [round(mean(p), 1) for p in (*result["offline"], *result["online"])], flush=True)
    page()


if __name__ == "__main__":
    main()
