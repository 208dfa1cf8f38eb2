"""Updates per second, time to the first update and memory of every algorithm, beside other libraries where they are at hand.

    python benchmarks/speed.py --algorithms td3bc,iql --peer corl=PYTHON,CHECKOUT --peer d3rlpy=PYTHON
    python benchmarks/speed.py --table          # docs/speed.md from benchmarks/results/speed.json

Every engine is a live process of its own. In each round each has one short window of work, in an order that turns, while
the others wait: a machine whose speed drifts slows all of them alike, and the ratios of a round stay true. What is compared
is always the median of these ratios, never two rates of different moments.
"""

import argparse
import contextlib
import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import roofline

HERE = Path(__file__).resolve().parent
RESULTS, TABLE = HERE / "results/speed.json", HERE.parent / "docs/speed.md"
SHAPES = {"hopper": (11, 3), "halfcheetah": (17, 6)}
PEERS = {"corl": "CORL", "d3rlpy": "d3rlpy", "jax_corl": "JAX-CORL", "unifloral": "Unifloral", "fql": "FQL agents"}
ROWS, EPISODE, BATCH = 1_000_000, 1000, 256
PAUSE = 0.3
"Seconds between windows, in which the last engine's threads stop spinning."
BUSY = 0.05
"Share of the machine that other programs may use in a round, unless `--busy` says otherwise."
FIELDS = {"bc": {"head": "deterministic"}, "dr_policy_gradient": {"batch_size": 64}}
"Where a paper leaves a choice, the one that the peers made; and 64 episodes of 1000 steps with 10 draws each are all that memory takes."
FEWER = {"fqi": 100_000}
"Rows of the log where an update grows a forest on all of them."
OF_PARTS = dict.fromkeys(("is_policy_gradient", "dr_policy_gradient"), "episodes") | dict.fromkeys(
    ("decision_transformer", "trajectory_transformer"), "windows"
)
"What a batch is made of, where that is not transitions."
LIMIT = "limit"


# workers -------------------------------------------------------------------------------------------------------------------


class Failed(Exception):
    """A worker ended, or said no."""


class Worker:
    """One engine with one job, alive until closed."""

    def __init__(self, name: str, command: list[str], job: dict, env: dict | None = None):
        self.name, self.began = name, time.perf_counter()
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the process)
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.process = subprocess.Popen(command, cwd=HERE, env=os.environ | (env or {}), **pipes)
        self.facts = self.ask(**job)
        self.total_s = time.perf_counter() - self.began
        if not self.facts["ready"]:
            raise Failed(self.facts["why"])

    def ask(self, **question) -> dict:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            raise Failed((self.log.read().strip().splitlines() or ["no word"])[-1])
        return json.loads(answer)

    def window(self, steps: int) -> list[float]:
        answer = self.ask(steps=steps)
        self.facts["peak_mb"] = answer["peak_mb"]
        return [answer["steps"], round(answer["seconds"], 6), round(answer["cpu"], 6)]

    def calibrate(self, seconds: float) -> int:
        """How many updates fill a window."""
        steps, took, _ = self.window(1)
        while took < min(0.3, seconds / 2):
            steps, took, _ = self.window(math.ceil(steps * min(8, 1.2 * seconds / max(took, 1e-4))))
        return max(1, round(steps * seconds / took))

    def close(self):
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()


def engines(options) -> dict[str, list[str]]:
    """The command of every engine."""
    known = {LIMIT: [sys.executable, "-m", "roofline"], "topstitch": [sys.executable, "-m", "worker"]}
    for peer in options.peer:
        name, _, place = peer.partition("=")
        python, _, checkout = place.partition(",")
        known[name] = [python, "-m", f"peers.{name}", *([str(Path(checkout).resolve())] if checkout else [])]
    return known


def race(workers: dict[str, Worker], rounds: int, seconds: float, busy_at: float = BUSY) -> tuple[dict[str, list], list[float]]:
    """The windows of each, taken in turns, and how much of the machine other programs used in each round.

    A round in which that was over `busy_at` is taken again, at most `rounds` times in all.
    """
    steps = {name: worker.calibrate(seconds) for name, worker in workers.items()}
    taken, order = [], list(workers)
    for _ in range(2 * rounds):
        before, windows = usage(workers), {}
        for name in order:
            time.sleep(PAUSE)
            windows[name] = workers[name].window(steps[name])
        wall, busy, own = (b - a for a, b in zip(before, usage(workers)))
        taken.append((max(0.0, (busy - own) / (wall * os.cpu_count())), windows))
        order = order[1:] + order[:1]
        if sum(others <= busy_at for others, _ in taken) == rounds:
            break
    kept = sorted(taken, key=lambda round: round[0])[:rounds]
    return {name: [windows[name] for _, windows in kept] for name in workers}, [round(others, 3) for others, _ in kept]


def usage(workers) -> tuple[float, float, float]:
    """Now, and the seconds of processor time that all programs, and the workers with this one, have used."""
    tick = os.sysconf("SC_CLK_TCK")
    try:
        user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
        lines = [Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split() for worker in workers.values()]
        own = sum(int(line[11]) + int(line[12]) for line in lines)
    except OSError:  # not Linux: not known
        return time.perf_counter(), 0.0, 0.0
    return time.perf_counter(), (user + nice + system) / tick, own / tick + time.process_time()


def rates(windows) -> list[float]:
    """Updates per second. (The third number of a window, processor seconds, is kept for whoever asks why.)"""
    return [steps / seconds for steps, seconds, _ in windows]


def ratio(windows, base) -> float:
    """How much faster than `base`: the median over rounds."""
    return statistics.median(a / b for a, b in zip(rates(windows), rates(base)))


# what is measured ------------------------------------------------------------------------------------------------------------


def synthetic(folder: Path, obs: int, act: int, discrete: bool) -> Path:
    """Columns that every engine reads: episodes of 1000 steps, one in two ending in a terminal step."""
    folder = folder / f"{obs}-{act}-{discrete}"
    if folder.exists():
        return folder
    folder.mkdir()
    rng, row = np.random.default_rng(0), np.arange(ROWS)
    states = rng.standard_normal((ROWS, obs), np.float32)
    ends = row % EPISODE == EPISODE - 1
    columns = {
        "obs": states, "next_obs": np.roll(states, -1, axis=0), "reward": rng.standard_normal(ROWS, np.float32),
        "action": rng.integers(0, act, ROWS) if discrete else np.tanh(rng.standard_normal((ROWS, act), np.float32)) * np.float32(0.99),
        "terminal": ends & (row % (2 * EPISODE) == EPISODE - 1), "ends": ends,
    }  # fmt: skip
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)
    return folder


def job(options, folder: Path, algorithm: str, shape: str, discrete: bool, **more) -> dict:
    obs, act = SHAPES[shape]
    data = str(synthetic(folder, obs, act, discrete))
    about = dict(algorithm=algorithm, obs=obs, act=act, discrete=discrete, batch=BATCH, data=data, rows=FEWER.get(algorithm, ROWS))
    return about | dict(threads=options.cores) | more


def cell(algorithm: str, shape: str, discrete: bool, options, folder: Path) -> dict:
    """One algorithm at one shape: every engine that has it, in turns."""
    alive, absent, known = {}, {}, engines(options)
    task = job(options, folder, algorithm, shape, discrete, fields={"batch_size": BATCH} | FIELDS.get(algorithm, {}))
    try:
        for name in ("topstitch", LIMIT, *(n for n in known if n not in ("topstitch", LIMIT))):
            try:
                alive[name] = Worker(name, known[name], task)
            except Failed as failed:
                absent[name] = str(failed)
                if name == "topstitch":
                    raise
                continue
            if name == "topstitch":
                facts = alive[name].facts["facts"]
                task |= {"hidden": facts.get("hidden", [256, 256]), "critics": facts.get("critics", 1)}
        windows, others = race(alive, options.rounds, options.seconds, options.busy)
        found = {name: engine(worker, windows[name], windows["topstitch"]) for name, worker in alive.items()}
    finally:
        for worker in alive.values():
            worker.close()
    obs, act = SHAPES[shape]
    least = roofline.flops(algorithm, obs, act, facts)
    if least:
        for name, windows_of in windows.items():
            if name != LIMIT:
                found[name]["share_of_limit"] = ratio(windows_of, windows[LIMIT]) * least / roofline.FLOPS
    found[LIMIT]["gflops"] = found[LIMIT].pop("per_s") * roofline.FLOPS / 1e9
    about = dict(algorithm=algorithm, shape=shape, discrete=discrete, batch=BATCH, rows=task["rows"], cores=options.cores)
    about |= dict(mflop=least and least / 1e6)
    return about | dict(facts=facts, others=others, engines=found, absent=absent) | stamp()


def engine(worker: Worker, windows, ours) -> dict:
    facts = {name: worker.facts[name] for name in ("compile_s", "peak_mb", "note", "versions")}
    return facts | {"windows": windows, "per_s": statistics.median(rates(windows)), "times_slower": ratio(ours, windows)}


def together(options, folder: Path) -> list[dict]:
    """Total throughput of several runs at once, dealt out to one XLA device per core, against one run in one process."""
    rows, cores = [], options.cores
    for hidden, batch in ((256, 256), (32, 64)):
        fields = {"hidden": [hidden, hidden], "batch_size": batch}
        ways = {"one run": {}} | {f"{n} runs, {cores} devices": dict(runs=n, devices=cores) for n in (2, 4) if n % cores == 0}
        ways["4 runs, 1 device"] = dict(runs=4)
        alive = {}
        try:
            for name, how in ways.items():
                task = job(options, folder, "td3bc", "hopper", False, fields=fields, **how)
                alive[name] = Worker(name, [sys.executable, "-m", "worker"], task)
            windows, others = race(alive, options.rounds, options.seconds, options.busy)
        finally:
            for worker in alive.values():
                worker.close()
        ways = {name: dict(windows=w, per_s=statistics.median(rates(w)), ratio=ratio(w, windows["one run"]),
                           compile_s=alive[name].facts["compile_s"]) for name, w in windows.items()}  # fmt: skip
        rows.append(dict(algorithm="td3bc", hidden=hidden, batch=batch, ways=ways, others=others) | stamp())
    return rows


def starting(options, folder: Path) -> dict:
    """Seconds of the imports, and to the first update of TD3+BC without and with a filled cache of compiled programs."""
    task, times = job(options, folder, "td3bc", "hopper", False), {"cold": [], "cached": [], "import": [], "train": [], "bare": []}
    for _ in range(2 if options.quick else 5):
        with tempfile.TemporaryDirectory() as cache:
            env = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            for name in ("cold", "cached"):
                worker = Worker(name, [sys.executable, "-m", "worker"], task, env)
                times[name].append({"first_update": worker.facts["compile_s"], "process": worker.total_s})
                worker.close()
        for name, line in (("import", "import topstitch"), ("train", "from topstitch import train, IQL"), ("bare", "pass")):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", line], check=True)
            times[name].append(time.perf_counter() - began)
    median = lambda name, part: statistics.median(t[part] for t in times[name])
    importing = {f"{name}_s": statistics.median(a - b for a, b in zip(times[name], times["bare"])) for name in ("import", "train")}
    parts = {f"{name}_{part}_s": median(name, part) for name in ("cold", "cached") for part in ("first_update", "process")}
    return parts | importing | {"windows": times} | stamp()


def stamp() -> dict:
    """When, and which code."""
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True)
    return {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "commit": said.stdout.strip() or "none"}


def machine() -> dict:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory), "system": platform.system()}


# the page --------------------------------------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def page(results: dict) -> str:
    """docs/speed.md."""
    about = results["machine"]
    cells = sorted(results["cells"].values(), key=lambda c: (c["discrete"], list(SHAPES).index(c["shape"]), c["algorithm"]))
    where = lambda c: [c["algorithm"], c["shape"] + ", discrete" * c["discrete"]]
    alone = []
    for c in cells:
        ours = c["engines"]["topstitch"]
        share = f"{ours['share_of_limit']:.0%}" if "share_of_limit" in ours else ""
        hidden = "×".join(map(str, c["facts"].get("hidden", [])))
        alone.append([*where(c), hidden, batch(c), f"{ours['per_s']:.4g}", share, f"{ours['compile_s']:.1f}", f"{ours['peak_mb']}"])
    parts = [
        "# Speed",
        "<!-- generated by benchmarks/speed.py --table -->",
        f"Measured on {about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, float32, no accelerator: {ROWS:,} synthetic "
        f"transitions in episodes of {EPISODE}, batch {BATCH}, the papers' nets, sampling included, no evaluation and no logging. Each "
        "engine is a live process; they take turns in short windows, and a ratio is the median over rounds of two windows of the same "
        "round. Rates drift with the machine, so compare only within a row.",
        "## topstitch",
        "Share of limit: the rate, times the matrix products that an update cannot do without, over the machine's rate of products of "
        f"{roofline.SIDE} × {roofline.SIDE} matrices in the same round. First update: building, compiling and running one update in a "
        "fresh process. Batch: transitions where nothing else is said; methods that count a whole policy iteration as one update take the log.",
        table(["algorithm", "shape", "hidden", "batch", "updates/s", "share of limit", "first update (s)", "peak memory (MB)"], alone),
    ]
    paired = [c for c in cells if set(c["engines"]) - {"topstitch", LIMIT}]
    present = [name for name in PEERS if any(name in c["engines"] for c in paired)]
    if paired:
        notes, ratios, firsts = [], [], []
        for c in paired:
            ratios.append(where(c))
            for name in present:
                found = c["engines"].get(name)
                said = found and found["note"] and f"{PEERS[name]}, {c['algorithm']}: {found['note']}."
                if said and said not in notes:
                    notes.append(said)
                ratios[-1].append((found and f"{found['times_slower']:.2f}" + (f" ({notes.index(said) + 1})" if said else "")) or "")
            seconds = [c["engines"].get(name, {}).get("compile_s") for name in ("topstitch", *present)]
            firsts.append([*where(c), *("" if s is None else f"{s:.1f}" for s in seconds)])
        names = [PEERS[name] for name in present]
        parts += [
            "## Beside other libraries",
            "How many times as many updates per second topstitch does (above 1: topstitch is faster).",
            table(["algorithm", "shape", *names], ratios),
            "\n".join(f"{i}. {note}" for i, note in enumerate(notes, 1)),
            "Seconds to the first update, of the same processes:",
            table(["algorithm", "shape", "topstitch", *names], firsts),
        ]
    if "together" in results:
        rows = []
        for size in results["together"]:
            for name, way in size["ways"].items():
                nets = f"2×{size['hidden']}, {size['batch']}"
                rows.append([nets, name, f"{way['per_s']:.4g}", f"{way['ratio']:.2f}", f"{way['compile_s']:.1f}"])
        parts += [
            "## Several runs at once",
            "Total updates per second of all runs of TD3+BC in one process, against those of one run.",
            table(["nets, batch", "runs", "total updates/s", "ratio", "first update (s)"], rows),
        ]
    if "starting" in results:
        s = results["starting"]
        rows = [
            ["`import topstitch`", f"{s['import_s']:.2f}"],
            ["`from topstitch import train, IQL`, which brings JAX", f"{s['train_s']:.2f}"],
            ["first update of TD3+BC, nothing cached", f"{s['cold_first_update_s']:.1f}"],
            ["first update of TD3+BC, persistent compilation cache filled", f"{s['cached_first_update_s']:.1f}"],
            ["the same two from the start of the process, data included", f"{s['cold_process_s']:.1f}, {s['cached_process_s']:.1f}"],
        ]
        parts += ["## Starting", table(["", "seconds"], rows)]
    used = {name: found["versions"] for c in cells for name, found in c["engines"].items() if name != LIMIT}
    lines = [f"- {PEERS.get(name, name)}: {', '.join(f'{k} {v}' for k, v in found.items())}" for name, found in used.items()]
    lines += [f"- checkout of {PEERS[name]}: {commit}" for name, commit in results.get("checkouts", {}).items()]
    return "\n\n".join([*filter(None, parts), "## Versions", "\n".join(lines)]) + "\n"


# command line ----------------------------------------------------------------------------------------------------------------


def batch(c: dict) -> str:
    """What one update of a cell sees."""
    size = c["facts"].get("batch_size", c["batch"])
    if size == 0:
        return f"all {c['rows']:,}"
    return f"{size} {OF_PARTS[c['algorithm']]}" if c["algorithm"] in OF_PARTS else f"{size}"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", default="all", help="names as in `topstitch.algos`, with commas")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="with commas")
    known = f"one of {', '.join(PEERS)}; may be repeated"
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON[,CHECKOUT]", help=known)
    parser.add_argument("--busy", type=float, default=BUSY, help="share of the machine that others may use; busier is not kept")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="how many each engine may use, the first ones of the machine")
    parser.add_argument("--sections", default="cells,together,starting", help="what to measure, with commas")
    parser.add_argument("--quick", action="store_true", help="TD3+BC at hopper's shape, 3 rounds of half a second, nothing stored")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results to add to; a cell measured again is replaced")
    parser.add_argument("--table", action="store_true", help="only write docs/speed.md from the results")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.shapes = 3, 0.5, "hopper"
        options.algorithms = "td3bc" if options.algorithms == "all" else options.algorithms
    if unknown := {peer.partition("=")[0] for peer in options.peer} - set(PEERS):
        parser.error(f"unknown peers {sorted(unknown)}; known: {', '.join(PEERS)}")
    return options


def main():
    options = parse()
    results = json.loads(options.out.read_text()) if options.out.exists() else {"cells": {}}

    def keep():
        if not options.quick:
            options.out.parent.mkdir(exist_ok=True)
            options.out.write_text(json.dumps(results, indent=1) + "\n")

    if not options.table:
        results |= {"machine": machine()}
        with tempfile.TemporaryDirectory() as folder:
            measure(options, results, Path(folder), keep)
    if not options.quick and options.out == RESULTS:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(page(results))


def measure(options, results: dict, folder: Path, keep):
    sections = options.sections.split(",")
    for peer in options.peer:
        name, _, checkout = peer.partition(",")
        if checkout:
            said = subprocess.run(["git", "log", "-1", "--format=%h of %cs"], cwd=checkout, capture_output=True, text=True)
            results.setdefault("checkouts", {})[name.partition("=")[0]] = said.stdout.strip()
    for algorithm, discrete in wanted(options.algorithms) if "cells" in sections else []:
        for shape in options.shapes.split(","):
            try:
                found = cell(algorithm, shape, discrete, options, folder)
            except Failed as failed:
                print(f"{algorithm:14} {shape:12} not measured: {failed}", flush=True)
                continue
            ours = found["engines"]["topstitch"]
            others = {n: f"{e['times_slower']:.2f}x" for n, e in found["engines"].items() if n not in ("topstitch", LIMIT)}
            share = f"{ours['share_of_limit']:.0%} of the limit" if "share_of_limit" in ours else ""
            print(f"{algorithm:14} {shape:12} {ours['per_s']:8.4g}/s {share:16} first {ours['compile_s']:.1f} s", others, flush=True)
            for name, why in found["absent"].items():
                print(f"    without {name}: {why}")
            if quiet(found, options):
                results["cells"][f"{algorithm} {shape}"] = found
                keep()
    if "together" in sections:
        rows = together(options, folder)
        for row in rows:
            print(f"2x{row['hidden']}", {name: f"{way['ratio']:.2f}" for name, way in row["ways"].items()}, flush=True)
        if all([quiet(row, options) for row in rows]):
            results["together"] = rows
            keep()
    if "starting" in sections:
        results["starting"] = starting(options, folder)
        print({name: round(value, 2) for name, value in results["starting"].items() if isinstance(value, float)}, flush=True)
        keep()


def quiet(found: dict, options) -> bool:
    """Whether the machine was ours; else says so."""
    most = max(found["others"])
    if most > options.busy:
        print(f"    not kept: other programs used up to {most:.0%} of the machine; measure again on a quiet one", flush=True)
    return most <= options.busy


def wanted(names: str) -> list[tuple[str, bool]]:
    """(algorithm, whether on discrete actions): continuous where a method is for both."""
    from topstitch import algos
    from topstitch.core import Box

    chosen = list(algos.ALGORITHMS) if names == "all" else names.split(",")
    return [(name, Box not in algos.find(name).actions) for name in chosen]


if __name__ == "__main__":
    main()
