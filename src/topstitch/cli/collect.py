"""`topstitch collect`."""

import contextlib
import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import tyro

from . import Wrong, parse, start_jax
from .roles import Json, role

ABOUT = """Let a policy act in a Gymnasium environment, and keep the log.

examples:
  topstitch collect --env Hopper-v5 --policy runs/iql --steps 100000 -o hopper/medium-v0
  topstitch collect --env Hopper-v5 --policy expert.npz --noise 0.1 --level 0.9 \\
      --steps 100000 -o expert.log.safetensors
  topstitch data join medium.log.safetensors expert.log.safetensors -o both.parquet

The same command goes on with a collection that was interrupted."""


@dataclasses.dataclass(frozen=True)
class Options:
    env: Annotated[str, tyro.conf.arg(metavar="ID")]
    "The id of an environment that Gymnasium knows."
    policy: Annotated[str, tyro.conf.arg(metavar="WHO")]
    "'random', the folder of a run, a policy (.safetensors), or one of another project as arrays (.npz)."
    steps: Annotated[int, tyro.conf.arg(metavar="N")]
    "Steps to collect, exactly: the last episode is cut there."
    out: Annotated[str, tyro.conf.arg(metavar="PATH", aliases=["-o"])]
    "A log (.log.safetensors), a table (.parquet), or else a Minari data set: a folder, or an id such as name/part-v0."
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    "Episode i starts from seed + i. For logs to be joined, choose seeds that lie far apart."
    noise: Annotated[float | None, role("SHARE")] = None
    "Act greedily with normal noise; its std is this share of half the range of actions."
    level: Annotated[float, tyro.conf.arg(metavar="P")] = 1.0
    "Probability of the policy's own action at a step; else a random one is taken."
    greedy: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Take the most likely action instead of sampling."
    lanes: Annotated[int, tyro.conf.arg(metavar="N")] = 10
    "Environments that run side by side."
    json: Json = False


def main(argv: list[str]) -> None:
    options = parse(Options, argv, command="collect", about=ABOUT)
    if options.policy == "random" and (options.greedy or options.noise is not None or options.level != 1):
        raise Wrong("A random policy has no better action: leave out --greedy, --noise and --level.")
    if options.greedy and options.noise is not None:
        raise Wrong("Noise is added to the greedy action: give --noise, or --greedy, but not both.")
    start_jax()
    from ..collection import collect
    from ..data.write import target, write

    path = target(options.out)
    parts = path.with_name(f"{path.name}.parts")
    policy = find(options.policy)
    with progress(options.env) as tell:
        log = collect(
            policy, options.env, steps=options.steps, seed=options.seed, greedy=options.greedy, noise=options.noise, level=options.level,
            lanes=options.lanes, folder=parts, tell=tell,
        )  # fmt: skip
    who = [] if options.policy == "random" else [f"The policy is {options.policy}."]
    log = dataclasses.replace(log, source=f"{options.env}, {options.policy}", notes=(*who, *log.notes))
    settings = {name: getattr(options, name) for name in ("env", "policy", "steps", "seed", "noise", "level", "greedy", "lanes")}
    about = settings | {"collection": json.loads((parts / "about.json").read_text())}
    roles = write(log, options.out, env=options.env, about=about, seeds=log.ids)
    shutil.rmtree(parts)
    tell_of(log, options.out, roles, options.json)


def find(policy: str):
    """The policy of a command line."""
    if policy == "random":
        return policy
    if policy.endswith(".npz"):
        from ..supply import read_npz_policy

        return read_npz_policy(policy)
    from ..store import load_policy

    if (count := len(list(Path(policy).glob("policy/*.safetensors")))) > 1:
        first = Path(policy) / "policy" / "0.safetensors"
        print(f"note: {policy} holds {count} policies; the first acts ({first}).", file=sys.stderr)
    return load_policy(policy)


@contextlib.contextmanager
def progress(label: str, every: float = 10.0):
    """Steps that are there: a bar on a terminal, a line now and then in a pipe."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn()
        with Progress(*columns, console=Console(file=sys.stderr)) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    last = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > every:
            last = time.monotonic()
            print(f"{label}: {done:,}/{total:,} steps", file=sys.stderr, flush=True)

    yield line


def tell_of(log, out: str, roles: dict, as_json: bool) -> None:
    """What was written, where, and how to read it."""
    from ..data.profile import profile
    from .data import show

    numbers = profile(log)
    if as_json:
        print(json.dumps({"out": out, "roles": roles, **numbers}, indent=1))
        return
    show(numbers)
    called = "".join(f", {name}={value!r}" for name, value in roles.items())
    print(f"Written to {out}. To read it: topstitch.{'read_table' if roles else 'read'}({out!r}{called})")
