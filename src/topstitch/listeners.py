"""Who may listen to a training loop: a progress bar, a file of metrics, TensorBoard, checkpoints."""

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .disk import BadFile, write_bytes
from .loop import Progress
from .store import load_checkpoint, save_checkpoint


class Bar:
    """Progress with updates per second and time left: a bar on a terminal, a line now and then in a pipe."""

    def __init__(self, stages, runs: int, label: str, every: float = 10.0, stream=None):
        self.total = sum(stage.steps for stage in stages)
        self.before = np.cumsum([0, *(stage.steps for stage in stages)])
        self.names = [stage.name for stage in stages]
        self.runs, self.label, self.every, self.stream = runs, label, every, stream or sys.stderr
        self.live, self.task, self.last, self.first = None, None, 0.0, None

    def __enter__(self):
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
            )  # fmt: skip
            self.live = Progress(*columns, console=Console(file=self.stream))
            self.task = self.live.add_task(self.label, total=self.total, rate="compiling", note="")
            self.live.start()
        return self

    def __exit__(self, *_):
        if self.live is not None:
            self.live.stop()

    def __call__(self, now: Progress, metrics):
        done, clock = int(self.before[now.stage] + now.step), time.monotonic()
        if self.first is None:
            self.first = (done, clock)  # the first chunk is mostly compilation: rates are measured from its end
        rate = (done - self.first[0]) / (clock - self.first[1]) if clock > self.first[1] else 0.0
        stopped = sum(fault is not None for fault in now.faults)
        note = f"{stopped} of {self.runs} runs stopped" if stopped else ""
        speed = f"{rate:,.0f} steps/s" if rate >= 10 else f"{rate:.1f} steps/s" if rate else ""
        if self.live is not None:
            self.live.update(self.task, completed=done, rate=speed or "…", note=note)
        elif done == self.total or clock - self.last > self.every:
            self.last = clock
            left = f"{(self.total - done) / rate:,.0f} s left" if rate and done < self.total else ""
            more = "".join(f", {said}" for said in (speed, left, note) if said)
            print(f"{self.label}: {self.names[now.stage]} {done:,}/{self.total:,}{more}", file=self.stream, flush=True)


class Rows:
    """The metrics of a chunk by run, to six digits (None: not finite), of the runs that learned in it: one that broke speaks once more."""

    def __init__(self, now: Progress | None = None):
        self.over = set() if now is None else {run for run, fault in enumerate(now.faults) if fault is not None}

    def __call__(self, now: Progress, metrics) -> list[tuple[int, dict[str, float | None]]]:
        number = lambda x: float(f"{x:.6g}") if math.isfinite(x) else None
        broken = {run for run, fault in enumerate(now.faults) if fault is not None}
        learned = [run for run, alive in enumerate(np.asarray(now.alive)) if alive or run in broken - self.over]
        self.over = broken
        return [(run, {name: number(float(x[run])) for name, x in metrics.items() if not np.isnan(x[run])}) for run in learned]


class Jsonl:
    """One line of JSON per run and chunk. Opened for a run that goes on, it forgets what came after `now`; `kept` is the rest."""

    def __init__(self, path: str | os.PathLike, names: Sequence[str], now: Progress | None = None):
        self.path, self.names, self.rows, self.kept = Path(path), list(names), Rows(now), []
        if now is not None and self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                    if row["run"] < len(now.faults) and (self.names.index(row["stage"]), row["step"]) <= (now.stage, now.step):
                        self.kept.append(row)
                except (ValueError, KeyError, TypeError):
                    continue  # a line cut short by the end of the process that wrote it: it is behind every checkpoint
        write_bytes(self.path, "".join(json.dumps(row) + "\n" for row in self.kept).encode())

    def __call__(self, now: Progress, metrics):
        rows = [{"run": run, "stage": self.names[now.stage], "step": now.step, **values} for run, values in self.rows(now, metrics)]
        with open(self.path, "a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))


class Last:
    """The newest value of every metric of every run, also of those `kept` from before."""

    def __init__(self, runs: int, now: Progress | None = None, kept: Sequence[dict] = ()):
        self.rows, self.of = Rows(now), [dict[str, float]() for _ in range(runs)]
        for row in kept:
            self.learn(row["run"], {name: x for name, x in row.items() if name not in ("run", "stage", "step")})

    def __call__(self, now: Progress, metrics):
        for run, values in self.rows(now, metrics):
            self.learn(run, values)

    def learn(self, run: int, values: dict):
        self.of[run] |= {name: x for name, x in values.items() if x is not None}


class TensorBoard:
    """The same for TensorBoard, one folder of events per run. Needs the extra `tensorboard`."""

    def __init__(self, folder: str | os.PathLike, runs: int, before: Sequence[int], now: Progress | None = None):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard events need tensorboardX: pip install 'topstitch[tensorboard]'") from None
        self.before, self.rows = list(before), Rows(now)
        purge = None if now is None else self.before[now.stage] + now.step + 1  # what the process before wrote behind its checkpoint
        suffix = f".{purge or 0}"  # a file is named by the second, and would be written over by a process that resumes within it
        start = lambda run: SummaryWriter(str(Path(folder) / str(run)), purge_step=purge, flush_secs=10, filename_suffix=suffix)
        self.writers = [start(run) for run in range(runs)]

    def __call__(self, now: Progress, metrics):
        for run, values in self.rows(now, metrics):
            for name, value in values.items():
                self.writers[run].add_scalar(name, math.nan if value is None else value, self.before[now.stage] + now.step)

    def close(self):
        """The last events, to the disk."""
        for writer in self.writers:
            writer.close()


class Checkpoints:
    """Checkpoints of which the newest `keep` stay. What came last is found again by `newest`."""

    def __init__(
        self, folder: str | os.PathLike, *, keep: int = 3, seconds: float = 30.0, config: str = "", last: Callable = lambda now: False
    ):
        self.folder, self.keep, self.seconds, self.config, self.last = Path(folder), keep, seconds, config, last
        self.written, self.pending = -math.inf, None
        for lost in self.folder.glob(".*.safetensors.*"):  # what a killed process was writing
            lost.unlink(missing_ok=True)

    def __call__(self, now: Progress, metrics):
        self.pending = now
        if self.last(now) or time.monotonic() - self.written >= self.seconds:
            self.save()

    def save(self):
        """Write what was heard last, if it is not written yet."""
        if (now := self.pending) is not None:
            save_checkpoint(self.folder / f"{now.stage}-{now.step:010d}.safetensors", now, self.config)
            self.written, self.pending = time.monotonic(), None
            for old in checkpoints(self.folder)[: -self.keep]:
                old.unlink(missing_ok=True)


def checkpoints(folder: str | os.PathLike) -> list[Path]:
    """Oldest first. What a killed process left half-written has another name, and is not among them."""
    place = lambda path: tuple(int(part) for part in path.stem.split("-"))
    return sorted((p for p in Path(folder).glob("*.safetensors") if re.fullmatch(r"\d+-\d+", p.stem)), key=place)


def newest(folder: str | os.PathLike, runs, data, config: str = "", tell: Callable = lambda text: None) -> Progress | None:
    """The last checkpoint that is whole, or None if there is none at all. Damaged ones behind it are said, and put aside.

    `BadFile` if no checkpoint is whole: starting again from nothing is for a person to decide.
    """
    damaged = []
    for path in reversed(checkpoints(folder)):
        try:
            now = load_checkpoint(path, runs, data, config)
        except BadFile as error:
            damaged.append((path, error))
            continue
        for bad, error in damaged:
            tell(f"{error} Going on from {path.name}, and calling it {bad.with_suffix('.damaged').name}.")
            bad.rename(bad.with_suffix(".damaged"))
        return now
    if damaged:
        last = f"No checkpoint is left to go on from. To train from the start, remove {folder}."
        raise BadFile("\n".join([*(str(error) for _, error in damaged), last]))
    return None
