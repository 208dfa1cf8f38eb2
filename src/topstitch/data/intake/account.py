"""What was done to every row and cell, in numbers for `import.json` and in sentences for people."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..codec import Codec
from ..formats.table import may_be_states
from .facts import Facts
from .rules import FILE, SINGLE
from .sources import Part
from .steps import SECOND, Steps

WHY = {
    "truncated": "last row of an episode that was cut off: what its decision led to is not in the table, it shows what the decision before led to",
    "outcome": "last row of an episode, which only shows what the last decision led to",
    "repeated": "same episode and time as another row",
}


def account(
    steps: Steps, found: Sequence[Part], facts: Mapping[str, Facts], codec: Codec, rows: Sequence[int], episodes: int, joined: int,
    said: Sequence[str], tell: Callable[[str, int, int], None],
) -> dict[str, Any]:  # fmt: skip
    """Everything, plain for JSON. Rows read are rows kept and rows dropped by a rule, in all and in every part."""
    sources, done, all_bytes = [], 0, sum(part.bytes for part in found)
    for i, part in enumerate(found):
        lost = {rule: count for (rule, at), count in steps.dropped.items() if at == i}
        filled = {f"{column}: {rule}": count for (column, rule, at), count in sorted(steps.filled.items()) if at == i}
        one = {"name": part.name, "kind": part.kind, "bytes": part.bytes, "sha256": part.sha256(), "rows": rows[i], "kept": steps.kept[i,],
               "dropped": lost, "filled": filled}  # fmt: skip
        if rows[i] != steps.kept[i,] + sum(lost.values()):
            raise RuntimeError(f"Rows of {part.name} are not accounted for: {one}. This is a fault of topstitch; nothing was written.")
        sources.append(one)
        done += part.bytes
        tell("hashing", done, all_bytes)
    return {
        "sources": sources,
        "rows": {"read": sum(rows), "kept": sum(steps.kept.values()), "dropped": summed(steps.dropped)},
        "episodes": {"kept": episodes, "dropped": steps.left_out, "without a step": steps.gone},
        "sorted": {"rows moved by time": steps.moved, "episodes brought together": joined},
        "columns": columns(steps, facts, codec),
        "notes": list(said),
    }


def summed(counter: Counter) -> dict[Any, int]:
    """Counts over all parts, which are the last of each key."""
    total = Counter()
    for (*rule, _), count in counter.items():
        total[rule[0] if len(rule) == 1 else tuple(rule)] += count
    return dict(total)


def columns(steps: Steps, facts: Mapping[str, Facts], codec: Codec) -> list[dict[str, Any]]:
    """One entry for each column and role."""
    rules, filled, out = steps.rules, summed(steps.filled), []

    def put(name: str, role: str, **more) -> None:
        one = facts.get(name)
        seen = (
            {}
            if one is None
            else {"holds": one.holds, "empty": one.empty} | ({"low": one.low, "high": one.high} if one.low <= one.high else {})
        )
        out.append({"column": name, "role": role, **seen, **more})

    for name in rules.episode:
        put(name, "episode")
    if rules.time:
        put(rules.time, "time")
    for column in codec.obs:
        done = {rule: count for (name, rule), count in filled.items() if name == column.name}
        names = [f"{len(column.levels)} states"] if column.kind == "state" else list(column.names)
        put(column.name, "obs", kind=column.kind, dimensions=names, missing=column.missing, fill=column.fill, filled=done)
    for column in codec.action:
        put(column.name, "action", kind=column.kind, members=list(column.labels), decoded=list(column.values))
    for name in codec.mask:
        put(name, "mask")
    for role in SINGLE:
        if (said := getattr(rules, role)) is not None:
            put(said, role, formula=role in steps.formulas)
    for name in rules.info:
        put(name, "info")
    if rules.logger:
        put(rules.logger, "logger")
    return out


def dropped(counter: Counter) -> str:
    """What was dropped, in words."""
    why = lambda rule: WHY.get(rule) or f"in an episode with an empty cell in {rule.removeprefix('drop-episode: ')!r}"
    return "; ".join(f"{count:,} dropped ({why(rule)})" for rule, count in summed(counter).items()) or "none dropped"


def notes(steps: Steps, found: Sequence[Part], codec: Codec, joined: int, several: int, taken: np.ndarray) -> tuple[str, ...]:
    """What the user of the log should know."""
    out = list(dict.fromkeys(note for part in found for note in part.notes))
    say = out.append
    if joined:
        say(f"The rows of {joined:,} episodes did not lie together, and were brought together.")
    if several and FILE not in steps.rules.episode:
        say(f"{several:,} episodes have rows in more than one file. If names begin anew in every file, tell them apart: "
            f"--episode file {' '.join(steps.rules.episode)}.")  # fmt: skip
    if steps.moved:
        say(f"{steps.moved:,} rows were not in order of time within their episode, and were sorted.")
    if steps.dropped:
        kept = sum(steps.kept.values())
        say(f"Of {kept + sum(steps.dropped.values()):,} rows, {kept:,} are steps; {dropped(steps.dropped)}.")
    if steps.gone:
        say(f"{steps.gone:,} episodes had no row that is a step, and are gone.")
    values = {column.name: f"{column.fill:.6g}" if isinstance(column.fill, float) else column.fill for column in codec.obs}
    for (column, rule), count in summed(steps.filled).items():
        got = f"got {values[column]}"
        beside = "are marked by a dimension of their own" + ("" if values[column] is None else f", and {got}")
        told = {"forward-fill": "got the last value before them in their episode", "indicator": beside, "fill": got,
                "forward-fill, nothing before": f"had none before them in their episode, and {got}"}  # fmt: skip
        say(f"{count:,} empty cells of {column!r} {told[rule]}.")
    low, high = steps.gaps
    if steps.unit is None and steps.rules.duration is None and high > low * (1 + 1e-9):
        scale, unit = (SECOND, " seconds") if steps.dates else (1.0, "")
        say(f"Times between steps differ, from {low / scale:g} to {high / scale:g}{unit}: discounting treats all steps alike unless a unit of time "
            "is given (--unit).")  # fmt: skip
    if (never := [name for name, count in zip(codec.action_names, taken) if not count]) and taken.any():
        some = ", ".join(never[:5]) + (" …" if len(never) > 5 else "")
        say(f"{len(never):,} of {len(taken):,} actions are never taken in a step that is kept: {some}.")
    if len(codec.obs) == 1 and codec.obs[0].kind == "number" and (one := steps.facts[codec.obs[0].name]).holds == "whole" and one.levels:
        out += filter(None, [may_be_states(one.name, len(one.levels), one.low, one.high, one.rows)])
    return tuple(out)
