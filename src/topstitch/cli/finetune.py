"""`topstitch finetune`."""

import dataclasses
from typing import Annotated, Literal

import tyro

from . import Wrong, parse, start_jax
from .roles import Flat, Json, Roles, read_log, role

ABOUT = """Go on from offline runs by acting in an environment: the same updates, on a mixture of the
log and what is being seen.

examples:
  topstitch finetune runs/iql --data hopper.hdf5 --env Hopper-v5 --steps 100000 -o runs/iql-online
  topstitch finetune runs/awac --data log.parquet --obs 'obs_*' … --env Pendulum-v1 --logged 0.25"""


@dataclasses.dataclass(frozen=True)
class Options:
    runs: Annotated[str, tyro.conf.Positional, role("RUNS")]
    "The folder of runs that were trained on the log."
    data: Annotated[str, tyro.conf.arg(metavar="FILE")]
    "That log."
    env: Annotated[str, tyro.conf.arg(metavar="ID")]
    "The Gymnasium environment to act in."
    steps: Annotated[int, tyro.conf.arg(metavar="N")] = 100_000
    "Steps in the environment behind the warm-up, and updates."
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", aliases=["-o"], help_behavior_hint="(default: RUNS-online)")] = None
    "Where configuration, metrics, checkpoints, policies and what was seen go."
    logged: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.5
    "The share of every batch that is drawn from the log."
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], role("NAME=VALUE")] = ()
    "Another value of a hyperparameter: --set beta=1 --set decay=false."
    warmup: Annotated[int, tyro.conf.arg(metavar="STEPS")] = 1000
    "Steps before the first update."
    explore_noise: Annotated[float | None, tyro.conf.arg(metavar="S", help_behavior_hint="")] = None
    "Explore by Gaussian noise on the best action, of S times half its range."
    explore_level: Annotated[float, tyro.conf.arg(metavar="P")] = 1.0
    "The share of steps that are not uniformly random."
    evaluate_every: Annotated[int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="(default: a tenth of all)")] = None
    "Steps between evaluations; what they find goes to evaluations.jsonl."
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 10
    "Episodes of an evaluation."
    every: Annotated[int, tyro.conf.arg(metavar="STEPS")] = 1000
    "Steps over which metrics are averaged."
    normalise: Literal["standard", "none"] = "standard"
    "As in the training of the runs."
    normalise_reward: Literal["none", "standard", "range"] = "none"
    "As in the training of the runs."
    checkpoint_seconds: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 60.0
    "Least time between two checkpoints."
    resume: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Go on from the newest checkpoint in FOLDER."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "For tables: which column plays which part."


def main(argv: list[str]) -> int:
    options = parse(Options, argv, command="finetune", about=ABOUT)
    start_jax()
    from ..evaluation import Evaluations
    from ..online import Acting, continued, finetune
    from ..runs import read_config
    from .train import between, told

    log = read_log(options.data, options.roles).normalised(obs=options.normalise, reward=options.normalise_reward)
    out = options.out or f"{options.runs.rstrip('/')}-online"
    fields = dict(field(text) for text in options.set)
    runs = continued(read_config(options.runs), options.steps, fields)
    every = between(options, options.steps)
    watch = Evaluations(
        runs, log, options.env, episodes=options.episodes, every=every, steps=options.steps, path=f"{out}/evaluations.jsonl"
    )
    acting = Acting(warmup=options.warmup, noise=options.explore_noise, level=options.explore_level, logged=options.logged)
    done = finetune(
        options.runs, log, options.env, steps=options.steps, acting=acting, fields=fields, out=out, resume=options.resume,
        every=options.every, checkpoint_seconds=options.checkpoint_seconds, listeners=[watch], progress=True,
    )  # fmt: skip
    return told(done, out, json_wanted=options.json)


def field(text: str) -> tuple[str, float | int | bool | str]:
    """NAME=VALUE, the value as JSON where it is some."""
    import json

    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise Wrong(f"--set {text!r} was not understood. Write --set NAME=VALUE.")
    try:
        return name.strip().replace("-", "_"), json.loads(value)
    except ValueError:
        return name.strip().replace("-", "_"), value.strip()
