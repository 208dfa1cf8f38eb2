"""Who may listen to a training loop: a progress bar, a file of metrics, TensorBoard, checkpoints."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .loop import Progress
from .store import BadFile, load_checkpoint, save_checkpoint, write_bytes


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
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
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
        if self.live is not None:
            self.live.update(self.task, completed=done, rate=f"{rate:,.0f} steps/s" if rate else "…", note=note)
        elif done == self.total or clock - self.last > self.every:
            self.last = clock
            left = f", {(self.total - done) / rate:,.0f} s left" if rate and done < self.total else ""
            speed = f", {rate:,.0f} steps/s" if rate else ""
            print(f"{self.label}: {self.names[now.stage]} {done:,}/{self.total:,}{speed}{left}{', ' + note if note else ''}", file=self.stream, flush=True)


class Jsonl:
    """One line of JSON per run and chunk. Opened for a run that goes on, it forgets what came after `now`."""

    def __init__(self, path: str | os.PathLike, names: Sequence[str], now: Progress | None = None):
        self.path, self.names = Path(path), list(names)
        kept = []
        if now is not None and self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # a line cut short by the end of the process that wrote it: it is behind every checkpoint
                if (self.names.index(row["stage"]), row["step"]) <= (now.stage, now.step):
                    kept.append(line + "\n")
        write_bytes(self.path, "".join(kept).encode())

    def __call__(self, now: Progress, metrics):
        number = lambda x: float(f"{x:.6g}") if math.isfinite(x) else None
        with open(self.path, "a") as file:
            for run in range(len(now.faults)):
                if np.asarray(now.alive)[run] or now.faults[run] is not None:
                    values = {name: number(float(value[run])) for name, value in metrics.items() if not np.isnan(value[run])}
                    file.write(json.dumps({"run": run, "stage": self.names[now.stage], "step": now.step, **values}) + "\n")


class TensorBoard:
    """The same for TensorBoard, one folder of events per run. Needs the extra `tensorboard`."""

    def __init__(self, folder: str | os.PathLike, runs: int, before: Sequence[int]):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard events need tensorboardX: pip install 'topstitch[tensorboard]'") from None
        self.before = list(before)
        self.writers = [SummaryWriter(str(Path(folder) / str(run)), flush_secs=10) for run in range(runs)]

    def __call__(self, now: Progress, metrics):
        for run, writer in enumerate(self.writers):
            for name, value in metrics.items():
                if not np.isnan(value[run]):
                    writer.add_scalar(name, value[run], self.before[now.stage] + now.step)


class Checkpoints:
    """Checkpoints of which the newest `keep` stay. What came last is found again by `newest`."""

    def __init__(self, folder: str | os.PathLike, *, keep: int = 3, seconds: float = 30.0, config: str = "", last: Callable = lambda now: False):
        self.folder, self.keep, self.seconds, self.config, self.last = Path(folder), keep, seconds, config, last
        self.written = -math.inf

    def __call__(self, now: Progress, metrics):
        if self.last(now) or time.monotonic() - self.written >= self.seconds:
            save_checkpoint(self.folder / f"{now.stage}-{now.step:010d}.safetensors", now, self.config)
            self.written = time.monotonic()
            for old in checkpoints(self.folder)[: -self.keep]:
                old.unlink(missing_ok=True)


def checkpoints(folder: str | os.PathLike) -> list[Path]:
    """Oldest first. What a killed process left half-written has another name, and is not among them."""
    place = lambda path: tuple(int(part) for part in path.stem.split("-"))
    return sorted((p for p in Path(folder).glob("*-*.safetensors") if not p.name.startswith(".")), key=place)


def newest(folder: str | os.PathLike, runs, data, config: str = "", tell: Callable = lambda text: None) -> Progress | None:
    """The last checkpoint that is whole; damaged ones behind it are passed over, and said."""
    for path in reversed(checkpoints(folder)):
        try:
            return load_checkpoint(path, runs, data, config)
        except BadFile as error:
            tell(f"{error} Going back to the checkpoint before it.")
    return None
