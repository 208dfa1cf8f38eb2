"""`topstitch ope`."""

import dataclasses
import functools
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import tyro

from . import Wrong, parse, start_jax
from .roles import Flat, Json, Roles, read_log, role

ABOUT = """How trained policies would do, estimated from a log alone, with intervals; or why the log cannot say.

The log should hold episodes that the policies did not learn from (topstitch data split). Values and the behaviour
that estimators need are learned from it by folds: those of an episode never come from a model that saw it.

examples:
  topstitch ope runs/iql --data held-out.parquet --episode stay … --estimators wis,wdr,fqe
  topstitch ope runs/iql runs/cql --data log.parquet … --behaviour fit --estimators all --confidence 0.9"""

FITTED = ("dm", "fqe", "dr", "wdr", "magic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judging:
    """What policies are judged by."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, role("RUNS…")]
    "Folders of runs, or files of single policies."
    data: Annotated[str, tyro.conf.arg(metavar="FILE")]
    "The log."
    discount: Annotated[float | None, tyro.conf.arg(metavar="γ", help_behavior_hint="(default: that of the runs)")] = None
    "Of rewards, per step, or per unit of time where steps have durations."
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    "Of redraws, folds and nets."
    json: Json = False
    roles: Flat = Roles()  # noqa: RUF009, it is frozen
    "For tables: which column plays which part."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Judging):
    estimators: Annotated[str, tyro.conf.arg(metavar="NAME,…")] = "wis,wdr,fqe"
    "Names with commas: is, wis, pdis, wpdis, clipped; of values dm, fqe, lstdq, forest, model, rollouts; of both dr, wdr, magic, mrdr; weights of steps mwl, bestdice, dualdice, gradientdice, gendice, state; for decisions of one step ips, snips, switch, shrunk, subgaussian, loggers. Or `all` that fit the log and are affordable."
    confidence: Annotated[float, tyro.conf.arg(metavar="P")] = 0.95
    "Of the intervals, which are two-sided."
    interval: Annotated[Literal["bootstrap", "t", "bca", "anderson", "truncated", "betting"], role("METHOD", "(default: bootstrap)")] = (
        "bootstrap"
    )
    "How they are made: bootstrap, t, bca; or anderson, truncated, betting, which are guaranteed, for is and ips, and need --reward-range."
    reward_range: Annotated[tuple[float, float] | None, role("LOW HIGH")] = None
    "The least and the most that a step can earn, as known beforehand."
    behaviour: Annotated[Literal["column", "fit"] | None, role("column|fit")] = None
    "The logger's probabilities: the log's column (the default where there is one), or estimated from it."
    folds: Annotated[int, tyro.conf.arg(metavar="N")] = 2
    "Folds of episodes in which values are learned."
    steps: Annotated[int, tyro.conf.arg(metavar="N")] = 5000
    "Updates of fitted Q evaluation, for each fold and policy."
    control: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    "Another log of the same logger, such as the one learned from: a copy of practice, fitted to it, is judged too. It should gain nothing over what was logged."
    stream: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    "Read a Parquet table in parts, for logs larger than memory: importance sampling, and decisions of one step."
    out: Annotated[
        str | None, tyro.conf.arg(metavar="FOLDER", aliases=["-o"], help_behavior_hint="(default: RUNS, if it is one folder)")
    ] = None
    "Where estimates.json and estimates.png go."


def main(argv: list[str]) -> int:
    options = parse(Options, argv, command="ope", about=ABOUT)
    if not options.runs:
        raise Wrong("Name a folder of runs: topstitch ope runs/iql --data log.parquet …")
    start_jax()
    from rich.console import Console

    from .. import ope
    from ..bench.pictures import forest
    from ..ope.estimate import MARGINAL, ROLLED, UNWEIGHTED, asked_for

    say = Console(file=sys.stderr, highlight=False).print
    policies, discount = read_policies(options.runs, options.discount)
    if options.stream and options.behaviour == "fit":
        raise Wrong("A log that is read in parts must hold the logger's probabilities (--probability): they are fitted to whole logs.")
    names = asked_for(options.estimators if options.estimators == "all" else [name.strip() for name in options.estimators.split(",")])
    log = read_log(options.data, options.roles, parts=options.stream)
    if options.control:
        policies |= copied(read_log(options.control, options.roles), options.seed, say)
    behaviour, long = "column", not options.stream and log.lengths.max() > 1
    weighing = not names or "state" in names or {*names} - {*UNWEIGHTED, *MARGINAL}
    if weighing and not options.stream and (options.behaviour == "fit" or (options.behaviour is None and log.log_prob is None)):
        behaviour = fitted_logger(policies, log, options.seed, say)
    values = {}
    if not options.stream:  # of a log in parts nothing is learned
        values["forest"] = forest_by_folds(policies, discount, options.folds, options.seed)
        values[ROLLED] = functools.cache(lambda: worlds_of(log, options.seed))
    if long:
        values |= dict.fromkeys(FITTED, fitted_by_folds(policies, discount, options.steps, options.folds, options.seed))
    found = ope.estimate(
        policies, log, names or "all", discount=discount, confidence=options.confidence, behaviour=behaviour, interval=options.interval,
        reward_range=options.reward_range, seed=options.seed, values=values or None,
    )  # fmt: skip
    out = Path(options.out or (options.runs[0] if len(options.runs) == 1 and Path(options.runs[0]).is_dir() else "ope"))
    text = found.to_json(out / "estimates.json")
    forest(out / "estimates.png", json.loads(text))
    print(text if options.json else found)
    say(f"{out / 'estimates.json'} and {out / 'estimates.png'} are written.", soft_wrap=True)
    return 0


def read_policies(places: tuple[str, ...], discount: float | None) -> tuple[dict, float]:
    """(policies by name, the discount, which is that of the runs if none is given)."""
    from ..ope.estimate import discount_of, named
    from ..runs import load_runs, name_of
    from ..store import load_policy

    found = {}
    for place in places:
        if not Path(place).exists():
            raise Wrong(f"There is neither a folder of runs nor a policy at {place}.")
        if not Path(place).is_dir():
            found[place] = load_policy(place)
            continue
        for i, run in enumerate(load_runs(place)):
            name = f"{name_of(run.algorithm).split(':')[-1]} seed {run.seed}"
            found[name if len(places) == 1 and name not in found else f"{place} {i}"] = run
    try:
        return named(found), discount_of(found) if discount is None else discount
    except ValueError as error:
        raise Wrong(f"{error} That is --discount.") from None


def copied(log, seed: int, say) -> dict:
    """The negative control: a policy that does what was done, or a word on why there is none. `log`: not the one that it is judged by."""
    from .. import ope
    from ..ope.behaviour import candidates

    try:
        return {"copy of practice": ope.fit_behaviour(log, candidates(log)[0], seed=seed).policy()}
    except ope.Refused as reason:
        say(f"There is no copy of practice: {reason}", soft_wrap=True)
        return {}


def fitted_logger(policies: dict, log, seed: int, say):
    """Log-probabilities of a logger that the log does not tell, and a word on how good they are; not where no policy can be weighed."""
    from .. import ope

    if not any(weighable(policy, log) for policy in policies.values()):
        return "column"
    say(f"fitting the logger to {log.steps:,} steps …")
    fitted = ope.fit_behaviour(log, seed=seed)
    say(f"The logger, estimated by {fitted.kind}: a held-out action has log-likelihood {fitted.score:.3f}; probabilities are off by "
        f"{fitted.calibration().error:.3f} on average. Intervals leave the error of this fit out.", soft_wrap=True)  # fmt: skip
    for note in fitted.notes:
        say(f"note: {note}", soft_wrap=True)
    return fitted.log_prob


def weighable(policy, log) -> bool:
    from ..ope.table import Refused, askable

    try:
        askable(policy, log)
    except Refused:
        return False
    return True


def by_folds(fit, policies: dict, label: str, steps: int, folds: int, seed: int):
    """`fit`(policy, part, bar), as `estimate` takes it, and how far it is: a bar on a terminal for each fold, a line now and then in a pipe."""
    from .. import ope
    from ..listeners import Bar

    names, done = {id(policy): name for name, policy in policies.items()}, Counter[int]()

    def one(policy, part):
        done[id(policy)] += 1
        with Bar([SimpleNamespace(name=names[id(policy)], steps=steps)], 1, f"{label}, fold {done[id(policy)]} of {folds}") as bar:
            return fit(policy, part, bar)

    return ope.Crossfitted(one, folds, seed)


def fitted_by_folds(policies: dict, discount: float, steps: int, folds: int, seed: int):
    """Fitted Q evaluation."""
    from .. import ope

    def fit(policy, part, bar):
        return ope.fqe(policy, part, algorithm=ope.FQE.settled(part, discount, steps=steps), seed=seed, listeners=[bar])

    return by_folds(fit, policies, "fitted Q evaluation", steps, folds, seed)


def forest_by_folds(policies: dict, discount: float, folds: int, seed: int, iterations: int = 50):
    """The same with trees."""
    from .. import ope

    def fit(policy, part, bar):
        tell = lambda step: bar(SimpleNamespace(stage=0, step=step, faults=()), {})
        return ope.tree_fqe(policy, part, discount=discount, iterations=iterations, seed=seed, tell=tell)

    return by_folds(fit, policies, "forest", iterations, folds, seed)


def worlds_of(log, seed: int):
    """Worlds that nets learn from the log, and how far they are."""
    from ..listeners import Bar
    from ..ope.estimate import WORLD
    from ..ope.model import learned_worlds

    with Bar(WORLD.stages(), 1, "learning worlds") as bar:
        return learned_worlds(log, WORLD, seed=seed, listeners=[bar])
