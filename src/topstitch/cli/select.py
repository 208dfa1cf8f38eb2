"""`topstitch select`."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

from . import Wrong, parse, start_jax
from .ope import Judging, fitted_by_folds, fitted_logger, read_policies
from .roles import read_log

ABOUT = """Rank policies by a log, without an environment: by several scores side by side, as none is right on every task.

The log should hold episodes that the policies did not learn from (topstitch data split). What ranks first is not
what it is estimated to be worth: of many, the luckiest looks best. Estimate the chosen one again, by episodes that
did not choose it.

example:
  topstitch select runs/iql runs/cql --data held-out.parquet --episode stay … --by fqe"""

SCORES = {
    "fqe": "estimate by fitted Q evaluation",
    "wdr": "weighted doubly robust estimate",
    "lower": "lower end of that one's interval",
    "mwl": "estimate by marginal weights",
    "td": "how far the fitted Q is from what the best action promises a step later, the least first",
    "bvft": "the same in the tournament of the fitted Qs, the least first",
}
LEAST_FIRST = ("td", "bvft")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Judging):
    by: Annotated[str | None, tyro.conf.arg(metavar="SCORE", help_behavior_hint="(default: wdr, or fqe where it answers for nobody)")] = (
        None
    )
    "What decides: fqe, wdr, lower, mwl, td or bvft. Policies that it has no answer for come last."
    confidence: Annotated[float, tyro.conf.arg(metavar="P")] = 0.95
    "Of the lower end, one-sided."
    steps: Annotated[int, tyro.conf.arg(metavar="N")] = 5000
    "Updates of fitted Q evaluation, in each of two folds, for each policy."
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")] = None
    "Also write the table as JSON."


def main(argv: list[str]) -> int:
    options = parse(Options, argv, command="select", about=ABOUT)
    if not options.runs:
        raise Wrong("Name folders of runs: topstitch select runs/iql runs/cql --data log.parquet …")
    if options.by not in (None, *SCORES):
        raise Wrong(f"There is no score {options.by!r}. There are: {', '.join(SCORES)}.")
    start_jax()
    from rich.console import Console

    from ..disk import plain, write_json

    policies, discount = read_policies(options.runs, options.discount)
    log = read_log(options.data, options.roles)
    say = Console(file=sys.stderr, highlight=False).print
    say(f"{len(policies)} policies, {len(log):,} episodes")
    behaviour = fitted_logger(policies, log, options.seed, say) if log.log_prob is None else "column"
    rows, remarks = scored(policies, log, behaviour, discount, options)
    by = options.by or ("wdr" if any(row["wdr"] is not None for row in rows) else "fqe")
    found = {"data": options.data, "discount": discount, "by": by, "policies": ranked(rows, by), "remarks": remarks + watched(options.runs)}
    if options.out:
        write_json(options.out, plain(found))
    print(json.dumps(plain(found), indent=1)) if options.json else show(found)
    return 0


def ranked(rows: list[dict], by: str) -> list[dict]:
    """The best first; those without an answer last, by fitted Q evaluation."""

    def place(row: dict) -> tuple[int, float]:
        if row[by] is not None:
            return 0, float(row[by] if by in LEAST_FIRST else -row[by])
        return (2, 0.0) if row["fqe"] is None else (1, -float(row["fqe"]))

    return sorted(rows, key=place)


def scored(policies: dict, log, behaviour, discount: float, options: Options) -> tuple[list[dict], list[str]]:
    """(a row for each policy with all scores; why scores are missing, and what contradicts)."""
    from .. import ope
    from ..core import Discrete
    from ..ope.estimate import contradiction
    from ..ope.select import bvft, claims, td_error

    remarks, values, greedy = [], {}, {}
    if closed := log.lengths.max() == 1 and isinstance(log.spec.action, Discrete):
        values = dict.fromkeys(policies, "ridge")
        remarks.append("What a decision of one step earns is the same whoever decides, and is learned once, by ridge regression: td and bvft do not "
                       "tell policies apart.")  # fmt: skip
    else:
        learned = fitted_by_folds(policies, discount, options.steps, 2, options.seed)
        for name, policy in policies.items():
            try:
                values[name], greedy[name] = learned.several(policy, log, lambda found, part: (found.values(part), found.greedy(part)))
            except ope.Refused as reason:
                remarks.append(f"{name}: {reason}")
    level = 2 * options.confidence - 1  # the lower end of a two-sided interval at this level is one-sided at `confidence`
    names = {"dm" if closed else "fqe": "fqe", "wdr": "wdr", "mwl": "mwl"}
    rows = {name: dict.fromkeys(SCORES) | {"policy": name} for name in policies}
    for name, mine in values.items():
        found = ope.estimate(
            {name: policies[name]}, log, tuple(names), discount=discount, confidence=level, behaviour=behaviour,
            values=dict.fromkeys(("dm", "fqe", "wdr"), mine), seed=options.seed,
        )  # fmt: skip
        for one in found:
            if one.refused:
                remarks.append(f"{name}, {names[one.name]}: {one.refused}")
                continue
            rows[name][names[one.name]] = one.value
            if one.name == "wdr":
                rows[name]["lower"] = one.low
        if said := contradiction(found)[1]:
            remarks.append(f"{name}: {said}")
    if len(greedy) > 1:
        said = claims(log, list(greedy.values()), discount=discount)
        for name, td, loss in zip(greedy, td_error(said), bvft(said)):
            rows[name] |= {"td": float(td), "bvft": float(loss)}
    return [*rows.values()], remarks


def watched(places: tuple[str, ...]) -> list[str]:
    """What the curves of conservative runs say of too much and too little learning."""
    from ..ope import Refused
    from ..ope.select import workflow
    from ..runs import load_runs, name_of

    said = []
    for place in places:
        path = Path(place) / "metrics.jsonl"
        if not path.is_file():
            continue
        for i, run in enumerate(load_runs(place)):
            if "cql" not in name_of(run.algorithm):
                continue
            try:
                found = workflow(path, run=i)
            except Refused as reason:
                said.append(f"{place}, seed {run.seed}: {reason}")
            else:
                said.append(f"{place}, seed {run.seed}: {found.verdict}. {found.reason} {found.remedy}")
    return said


def show(found: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("policy", box=None, header_style="bold", pad_edge=False)
    for name in SCORES:
        shown.add_column(f"{name} ↓" if name == found["by"] else name, justify="right")
    for row in found["policies"]:
        shown.add_row(row["policy"], *("–" if row[name] is None else f"{row[name]:.4g}" for name in SCORES))
    console = Console(highlight=False)
    console.print(shown)
    for name, what in SCORES.items():
        console.print(f"[dim]{name:>5}  {what}[/]", soft_wrap=True)
    for remark in found["remarks"]:
        console.print(f"· {remark}", markup=False, soft_wrap=True)
