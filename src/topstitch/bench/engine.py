"""The same cells, spread over a Ray cluster (extra `topstitch[ray]`).

Every worker needs the package and the same folders: `out`, the cache and the sources on storage that all of them share. A cell whose
worker dies is started again, on whichever worker is free, and goes on from its folder.
"""

import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from .runner import Asked, attempt
from .tasks import Place, Task

RETRIES = 5
"How often a cell is started again after its worker died."


def run(cells: Iterable[tuple[Task, str, Asked]], *, place: Place, out: str | Path, cpus: int = 1, gpus: float = 0.0,
        tell: Callable[[str], None] = lambda text: None) -> list[dict]:  # fmt: skip
    """As `runner.run`, on the cluster that Ray is connected to, that RAY_ADDRESS names, or else on one that is started on this machine.

    Each cell takes `cpus` and `gpus`. The logs of all tasks are made first, one task at a time on each worker.
    """
    ray = library()
    start()
    # a copy of the folders' places only: what hears of progress lives here
    there = Place(place.cache.absolute(), None if place.sources is None else place.sources.absolute())
    env = {"JAX_NUM_CPU_DEVICES": str(cpus), "JAX_COMPILATION_CACHE_DIR": str(place.cache.absolute() / "xla")}
    env |= {name: os.environ[name] for name in ("JAX_PLATFORMS", "XLA_FLAGS") if name in os.environ}
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, runtime_env={"env_vars": env})
    cells = list(cells)
    tasks = list({task.name: task for task, _, _ in cells}.values())
    making = [remote(make).remote(task, there) for task in tasks]
    ray.wait(making, num_returns=len(making))
    work = remote(cell)
    asked = {work.remote(*one, there, str(Path(out).absolute())): i for i, one in enumerate(cells)}
    results: list[dict | None] = [None] * len(cells)
    while asked:
        ready, _ = ray.wait(list(asked), num_returns=1)
        for handle in ready:
            i = asked.pop(handle)
            task, algorithm, _ = cells[i]
            try:
                results[i] = ray.get(handle)
            except ray.exceptions.RayError as error:  # the worker died once too often
                results[i] = {
                    "task": task.name,
                    "algorithm": algorithm,
                    "failed": f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}",
                }
            said = f"failed: {results[i]['failed']}" if "failed" in results[i] else "done"
            tell(f"{len(cells) - len(asked)}/{len(cells)}  {task.name}  {algorithm}  {said}")
    return [result for result in results if result is not None]


def make(task: Task, place: Place) -> None:
    """The log of a task, into the cache. An error is told by the cells that need it."""
    try:
        task.read(place)
    except Exception:
        return


def cell(task: Task, algorithm: str, asked: Asked, place: Place, out: str) -> dict:
    return attempt(task, algorithm, asked, place=place, out=out, progress=False)


def library():
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("The engine `ray` needs Ray: pip install 'topstitch[ray]'") from None
    return ray


def start(**how) -> None:
    """Connect to a cluster, or start one on this machine, unless that has been done. `how` is for `ray.init`."""
    ray = library()
    if not ray.is_initialized():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX's; what is forked becomes another program at once
            ray.init(log_to_driver=False, include_dashboard=False, **how)
