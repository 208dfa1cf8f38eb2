"""The page of plain runs: how they were configured, how training went, and what was seen of their policies, as far as their folders hold it."""

import dataclasses
import json
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..disk import BadFile
from . import charts
from .kit import Number, Scale, called, capitalised, count, listed, named, page, pct, short, some, spelled
from .words import FEW

POINTS = 80
"Of a curve, at most."
MOST_METRICS = 12
NOT_METRICS = ("run", "stage", "step")


@dataclasses.dataclass(frozen=True)
class Folder:
    """What a folder of runs holds."""

    path: str
    config: dict
    metrics: list[dict]
    "Lines of metrics.jsonl."
    evaluations: list[dict]
    "Lines of evaluations.jsonl."
    finished: dict | None
    estimates: dict | None
    skipped: int
    "Lines that could not be read."

    @property
    def settings(self) -> list[tuple[str, list[int]]]:
        """(name, numbers of its runs) of every setting: runs that differ in the seed alone."""
        found: dict[str, list[int]] = {}
        for i, run in enumerate(self.config["runs"]):
            found.setdefault(json.dumps([run["algorithm"], run["fields"]], sort_keys=True), []).append(i)
        swept = self.swept
        name = lambda run: " ".join([run["algorithm"].split(":")[-1], *(f"{key}={plain(run['fields'].get(key))}" for key in swept)])
        return [(name(self.config["runs"][numbers[0]]), numbers) for numbers in found.values()]

    @property
    def swept(self) -> list[str]:
        """Hyperparameters that differ between runs."""
        fields = [run["fields"] for run in self.config["runs"]]
        return [key for key in fields[0] if any(other.get(key) != fields[0][key] for other in fields)]


def plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_folder(path: str | os.PathLike) -> Folder:
    """Raises `BadFile` where there is no configuration; everything else may be missing."""
    path = Path(path)
    file = path / "config.json"
    if not file.is_file():
        raise BadFile(f"{path} is neither a folder of runs nor of a study: there is no {file} and no {path / 'study.json'}.")
    try:
        config = json.loads(file.read_bytes())
        runs = config["runs"]
        sound = all(isinstance(run["fields"], dict) and isinstance(run["algorithm"], str) and "seed" in run for run in runs)
        if not runs or not sound or not {"source", "fingerprint"} <= config["data"].keys():
            raise KeyError("runs")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadFile(f"{file} is not a configuration of runs, or is damaged.") from None
    metrics, lost = lines_of(path / "metrics.jsonl", {"run", "stage", "step"})
    evaluations, more = lines_of(path / "evaluations.jsonl", {"step", "returns"})
    finished, estimates = object_of(path / "finished.json", "faults"), object_of(path / "estimates.json", "estimates")
    return Folder(str(path), config, metrics, evaluations, finished, estimates, lost + more)


def lines_of(path: Path, needed: set[str]) -> tuple[list[dict], int]:
    """(lines of JSON, how many could not be read): the last one may have been cut short by the end of the process."""
    if not path.is_file():
        return [], 0
    found, lost = [], 0
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            if not needed <= row.keys():
                raise KeyError
            found.append(row)
        except (ValueError, KeyError, AttributeError, RecursionError):
            lost += 1
    return found, lost


def object_of(path: Path, key: str) -> dict | None:
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and key in found else None


def runs_page(folders: Sequence[Folder]) -> str:
    """The whole page."""
    names = [called(Path(folder.path).name or folder.path, 40) for folder in folders]
    several = len(folders) > 1
    total = sum(len(folder.config["runs"]) for folder in folders)
    algorithms = list(dict.fromkeys(run["algorithm"].split(":")[-1] for folder in folders for run in folder.config["runs"]))
    title = f"{some(total, 'run')} of {listed([called(name, 30) for name in algorithms[:4]])}{' and others' if len(algorithms) > 4 else ''}"
    returns = returns_part(folders, names)
    estimates = [part for folder, name in zip(folders, names) if (part := estimates_part(folder, name, several))]
    training = [part for folder, name in zip(folders, names) if (part := training_part(folder, name, several))]
    remarks = [remark for folder, name in zip(folders, names) for remark in remarks_of(folder, name)]
    parts = [("configuration", "Configuration", True), ("returns", "Returns", bool(returns)), ("estimates", "Estimates", bool(estimates)),
             ("training", "Training", bool(training)), ("remarks", "Remarks", bool(remarks)), ("reproduce", "Reproduce", True)]  # fmt: skip
    shown = [(id, name) for id, name, there in parts if there]
    return page(
        "runs.html.j2",
        title=f"{title} · topstitch",
        about=headline(returns, estimates, total),
        what="Report of runs",
        badge=None,
        rail=[[(id, name, None) for id, name in shown]],
        footer="Made by topstitch.",
        card={"runs": [{"folder": one.path, "config": one.config, "finished": one.finished, "estimates": one.estimates} for one in folders]},
        heading=title,
        headline=headline(returns, estimates, total),
        order={id: i for i, (id, _) in enumerate(shown, 1)},
        configuration=[row for folder, name in zip(folders, names) for row in configuration(folder, name)],
        data=data_rows(folders, names),
        returns=returns,
        estimates=estimates,
        training=training,
        remarks=remarks,
    )  # fmt: skip


def headline(returns: dict | None, estimates: Sequence[dict], total: int) -> str:
    """What is known of how well the policies do."""
    if returns:
        best = returns["best"]
        return (f"{best['name']} did best at the end of training: its mean return in the environment is {returns['scale'].level(best['mean'])}"
                + (f" (runs {returns['scale'].span(min(best['each']), max(best['each']))})." if len(best["each"]) > 1 else "."))  # fmt: skip
    made = sum(part["made"] for part in estimates)
    if made:
        return (
            f"{capitalised(some(made, 'estimate'))} of how the policies would do, from a log alone; none of them acted in an environment."
        )
    refused = sum(part["refused"] for part in estimates)
    if refused:
        return "The log could not say how these policies would do: every estimate was refused."
    which = "This run has" if total == 1 else "These runs have"
    return f"{which} been neither tried in an environment nor judged by a log. Curves of training say nothing of how well a policy does."


def configuration(folder: Folder, name: str) -> Iterable[tuple[str, str, str, str, str]]:
    """(folder, algorithm, settings, seeds, state) of every setting."""
    broken = faults(folder)
    for label, numbers in folder.settings:
        first = folder.config["runs"][numbers[0]]
        fields = ", ".join(f"{called(key, 40)}\u00a0{called(plain(value), 40)}" for key, value in first["fields"].items())
        stopped = sum(broken.get(i) is not None for i in numbers)
        state = "in training" if folder.finished is None else f"{stopped} of {len(numbers)} broke off" if stopped else "finished"
        yield name, called(label, 80), fields, ", ".join(str(folder.config["runs"][i]["seed"]) for i in numbers), state


def faults(folder: Folder) -> dict[int, Any]:
    return {i: fault for i, fault in enumerate((folder.finished or {}).get("faults") or ()) if fault is not None}


def data_rows(folders: Sequence[Folder], names: Sequence[str]) -> list[tuple[str, Any]]:
    """Where the runs come from."""
    rows = list[tuple[str, Any]]()
    for folder, name in zip(folders, names):
        data, versions = (
            folder.config["data"],
            [f"{key} {called(folder.config[key], 30)}" for key in ("topstitch", "jax", "backend") if folder.config.get(key)],
        )
        size = ", ".join(f"{count(data[key])} {key}" for key in ("episodes", "steps") if isinstance(data.get(key), (int, float)))
        where = Markup("{}{} <code>{}</code>").format(
            called(data["source"], 120), f" ({size})" if size else "", called(data["fingerprint"], 70)
        )
        rows.append((name, where + Markup("<br>{}").format(", ".join(versions))))
    return rows


def remarks_of(folder: Folder, name: str) -> Iterable[tuple[str, str, str, str, str]]:
    """Findings for `parts.findings`."""
    for i, fault in faults(folder).items():
        run = folder.config["runs"][i]
        stage, step, quantity = fault if isinstance(fault, list) and len(fault) == 3 else ("?", 0, str(fault))
        told = f"{called(quantity)} stopped being a finite number of sensible size at step {count(step)} of stage {called(stage, 30)}."
        yield (
            "warning",
            f"A run broke off: {called(run['algorithm'].split(':')[-1], 40)}, seed {run['seed']}",
            told,
            name,
            "Its policy is the last sound one. Lower the learning rate, or check the scale of rewards.",
        )
    if folder.finished is None:
        yield (
            "note",
            "Training has not ended",
            "There is no finished.json: what is shown is what was written so far.",
            name,
            "Go on with topstitch train … --resume.",
        )
    if folder.skipped:
        yield "note", "Lines could not be read", f"{some(folder.skipped, 'line')} of the metrics or evaluations.", name, ""


# returns -----------------------------------------------------------------------------------------------------------------------


def returns_part(folders: Sequence[Folder], names: Sequence[str]) -> dict | None:
    """How policies did in the environment at the end of training, and on the way there."""
    rows = []
    for folder, name in zip(folders, names):
        points = [p for p in folder.evaluations if isinstance(p["returns"], list) and len(p["returns"]) == len(folder.config["runs"])]
        for label, numbers in folder.settings:
            curve = [(p["step"], [mean(p["returns"][i]) for i in numbers]) for p in points]
            each = [v for v in curve[-1][1] if v is not None] if curve else []
            if each:
                full = f"{called(label, 40)} ({name})" if len(folders) > 1 else called(label, 40)
                rows.append(
                    {
                        "name": full,
                        "curve": curve,
                        "each": each,
                        "mean": statistics.fmean(each),
                        "episodes": len(points[-1]["returns"][numbers[0]]),
                    }
                )
    if not rows:
        return None
    scale = Scale.of([row["mean"] for row in rows], [max(row["each"]) - min(row["each"]) for row in rows])
    within = charts.around([v for row in rows for v in row["each"]])
    marks = charts.ticks(*within, 5)
    rows.sort(key=lambda row: -row["mean"])
    for i, row in enumerate(rows):
        kind = "d-acc" if i == 0 else "d-prac"
        label = f"{row['name']}: mean {scale.level(row['mean'])}, runs {', '.join(scale.bare(v) for v in row['each'])}"
        row["drawn"] = charts.dots_row([(v, kind) for v in row["each"]], within, grid=marks, label=label)
    over = charts.around([v for row in rows for _, values in row["curve"] for v in values])
    minis = [
        (named(row["name"], 40), minis_of(row["curve"], over, scale, row["name"], i == 0), i == 0)
        for i, row in enumerate(rows[:9])
        if len(row["curve"]) > 1
    ]
    runs = max(len(row["each"]) for row in rows)
    gap = len(rows) > 1 and min(rows[0]["each"]) > max(rows[1]["each"])
    title = f"{rows[0]['name']} has the highest mean return" + (
        "" if len(rows) == 1 or runs == 1 else ", in every run" if gap else "; runs overlap"
    )
    return {
        "rows": [(named(row["name"], 40), row["drawn"], scale.bare(row["mean"])) for row in rows],
        "axis": charts.axis_row(marks, within, charts.say_ticks(marks, scale.factor)),
        "title": title, "scale": scale, "best": rows[0], "minis": minis, "more": max(len(rows) - 9, 0), "episodes": rows[0]["episodes"],
    }  # fmt: skip


def mean(values: Any) -> Number | None:
    found = [float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v)] if isinstance(values, list) else []
    return statistics.fmean(found) if found else None


def minis_of(curve: Sequence[tuple[Number, list[Number | None]]], within: charts.Range, scale: Scale, name: str, best: bool) -> Markup:
    """Curves of the runs of one setting, and their mean."""
    steps, rows = [step for step, _ in curve], [values for _, values in curve]
    lines = [list(line) for line in zip(*rows)]
    middle = [mean(list(values)) for values in rows]
    colour = "s-acc" if best else "s-oth"
    plot = charts.mini(steps, within, scale.factor)
    for line in lines if len(lines) > 1 else ():
        plot.line(steps, line, f"seed {colour}")
    plot.line(steps, middle, f"med {colour}")
    last = next((v for v in reversed(middle) if v is not None), None)
    if last is not None:
        plot.text(plot.right + 4, round(plot.up(last) + 4, 1), scale.bare(last), "b acc-t" if best else "b")
    return plot.svg(f"{name}: {scale.level(last)} after {count(steps[-1])} steps; from {scale.bare(middle[0])}.", "mini")


# estimates -------------------------------------------------------------------------------------------------------------------


def estimates_part(folder: Folder, name: str, several: bool) -> dict | None:
    """What `topstitch ope` wrote beside the runs."""
    found = folder.estimates
    rows = [row for row in (found or {}).get("estimates") or () if isinstance(row, dict) and "policy" in row and "name" in row]
    if not found or not rows:
        return None
    logged = found.get("logged") or {}
    number = lambda row, key: row.get(key) if isinstance(row.get(key), (int, float)) else None
    sound = [row for row in rows if number(row, "value") is not None and not row.get("refused")]
    readable = [row for row in sound if (number(row, "effective") or math.inf) >= FEW] or sound
    scale = Scale.of(
        [number(row, "value") for row in [*sound, logged]],
        [row["high"] - row["low"] for row in readable if number(row, "low") is not None and number(row, "high") is not None],
    )
    within = charts.around([v for row in [*readable, logged] for key in ("value", "low", "high") if (v := number(row, key)) is not None])
    marks = charts.ticks(*within, 5)
    line = [(logged["value"], "pracline")] if number(logged, "value") is not None else []
    level = pct(found.get("confidence") or 0.95, 0)
    made = []
    for row in rows:
        value, low, high, worth = (number(row, key) for key in ("value", "low", "high", "effective"))
        refused = called(row["refused"], 240) if row.get("refused") else None
        thin = worth is not None and worth < FEW
        said = "refused" if refused else f"{scale.level(value)}, {level} % interval {scale.span(low, high)}"
        drawn = charts.interval_row(
            None if refused else value, None if low is None or high is None else (low, high), within, kind="dim" if thin or refused else "acc",
            marks=line, grid=marks, label=f"{called(row['policy'])} by {called(row['name'])}: {said}",
        )  # fmt: skip
        notes = refused or " ".join(called(note, 200) for note in (row.get("diagnostics") or {}).get("notes") or ())
        made.append({"policy": called(row["policy"]), "name": called(row["name"], 30), "note": notes, "drawn": drawn, "dim": bool(thin or refused), "worth": worth,
                     "value": None if refused else value, "text": "refused" if refused else scale.bare(value), "ci": "" if refused or low is None else scale.span(low, high)})  # fmt: skip
    above = sum(number(row, "low") is not None and number(logged, "value") is not None and row["low"] > logged["value"] for row in readable)
    lie = f"readable estimate{'s lie' if above != 1 else ' lies'} above what was logged"
    title = (
        "Every estimate was refused"
        if not sound
        else "Estimates by the log"
        if not line
        else f"The only readable estimate {'lies' if above else 'does not lie'} above what was logged"
        if len(readable) == 1
        else f"{capitalised(spelled(above))} of {spelled(len(readable))} {lie}"
    )
    return {
        "heading": name if several else "", "rows": made, "axis": charts.axis_row(marks, within, charts.say_ticks(marks, scale.factor)), "title": title, "scale": scale,
        "source": called(found.get("source") or "a log", 120), "level": level, "logged": scale.level(logged["value"]) if line else None,
        "dim": any(row["dim"] for row in made), "made": len(sound), "refused": len(rows) - len(sound),
    }  # fmt: skip


# training ----------------------------------------------------------------------------------------------------------------------


def training_part(folder: Folder, name: str, several: bool) -> dict | None:
    """Curves of metrics: all runs thin, their median thick."""
    curves: dict[tuple[str, str], dict[int, list[tuple[Number, Number]]]] = {}
    for row in folder.metrics:
        if not isinstance(row["step"], (int, float)) or not isinstance(row["run"], int):
            continue
        for key, value in row.items():
            if key not in NOT_METRICS and isinstance(value, (int, float)):
                curves.setdefault((str(row["stage"]), key), {}).setdefault(row["run"], []).append((row["step"], float(value)))
    if not curves:
        return None
    stages = {stage for stage, _ in curves}
    minis = []
    for (stage, metric), runs in list(curves.items())[:MOST_METRICS]:
        label = f"{metric} ({stage})" if len(stages) > 1 else metric
        minis.append((named(label, 34), metric_mini(list(runs.values()), called(label))))
    rows = [
        (named(f"{metric} ({stage})" if len(stages) > 1 else metric, 50), *(f(sorted(line[-1][1] for line in runs.values())) for f in (statistics.median, min, max)))
        for (stage, metric), runs in curves.items()
    ]  # fmt: skip
    return {
        "heading": name if several else "",
        "minis": minis,
        "more": max(len(curves) - MOST_METRICS, 0),
        "rows": rows,
        "runs": len({run for runs in curves.values() for run in runs}),
    }


def metric_mini(lines: Sequence[list[tuple[Number, Number]]], name: str) -> Markup:
    thin = [thinned(sorted(line)) for line in lines]
    steps = sorted({step for line in thin for step, _ in line})
    middle = [statistics.median(found) if (found := [v for line in thin for s, v in line if s == step]) else None for step in steps]
    within = charts.around([v for line in thin for _, v in line])
    plot = charts.mini(steps, within, 1.0)
    for line in thin if len(thin) > 1 else ():
        plot.line([s for s, _ in line], [v for _, v in line], "seed s-oth")
    plot.line(steps, middle, "med s-oth")
    if middle[-1] is not None:
        nothing = abs(middle[-1]) < 1e-3 * (within[1] - within[0])
        plot.text(plot.right + 4, round(plot.up(middle[-1]) + 4, 1), "≈ 0" if nothing else short(middle[-1], 2), "b")
    return plot.svg(f"{name}: {short(middle[0])} at step {count(steps[0])}, {short(middle[-1])} at step {count(steps[-1])}.", "mini")


def thinned(line: list[tuple[Number, Number]]) -> list[tuple[Number, Number]]:
    """Every n-th point, and the last one."""
    every = math.ceil(len(line) / POINTS)
    return [*line[:-1:every], line[-1]]
