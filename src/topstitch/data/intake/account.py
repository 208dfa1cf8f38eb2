"""What was done to every row and cell, in numbers for `import.json` and in sentences for people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..codec import Codec
from .facts import Facts
from .rules import FILE
from .sources import Part
from .steps import SECOND, SINGLE, Steps

WHY = {
    "truncated": "last row of an episode that was cut off: what its decision led to is not in the table, it shows what the decision before led to",
    "outcome": "last row of an episode, which only shows what the last decision led to",
    "repeated": "same episode and time as another row",
}


def account(
    steps: Steps, found: Sequence[Part], facts: Mapping[str, Facts], codec: Codec, rows: Sequence[int], episodes: int, joined: int,
    said: Sequence[str], tell,
) -> dict[str, Any]:  # fmt: skip
    """Everything, plain for JSON. Rows read are rows kept and rows dropped by a rule, in all and in every part."""
    of = lambda counter, i: {rule: count for (rule, part), count in counter.items() if part == i}
    sources, done = [], 0
    for i, part in enumerate(found):
        filled = {f"{column}: {rule}": count for (column, rule, at), count in sorted(steps.filled.items()) if at == i}
        one = {"name": part.name, "kind": part.kind, "bytes": part.bytes, "sha256": part.sha256(), "rows": rows[i], "kept": steps.kept[(i,)],
               "dropped": of(steps.dropped, i), "filled": filled}  # fmt: skip
        if one["rows"] != one["kept"] + sum(one["dropped"].values()):
            raise RuntimeError(f"Rows of {part.name} are not accounted for: {one}. This is a fault of topstitch; nothing was written.")
        sources.append(one)
        done += part.bytes
        tell("hashing", done, sum(part.bytes for part in found))
    total = Counter()
    for (rule, _), count in steps.dropped.items():
        total[rule] += count
    return {
        "sources": sources,
        "rows": {"read": sum(rows), "kept": sum(steps.kept.values()), "dropped": dict(total)},
        "episodes": {"kept": episodes, "dropped": steps.left_out, "without a step": steps.gone},
        "sorted": {"rows moved by time": steps.moved, "episodes brought together": joined},
        "columns": columns(steps, facts, codec),
        "notes": list(said),
    }


def columns(steps: Steps, facts: Mapping[str, Facts], codec: Codec) -> list[dict[str, Any]]:
    """One entry for each column and role."""
    rules, out = steps.rules, []

    def put(name: str, role: str, **more) -> None:
        one = facts.get(name)
        seen = {} if one is None else {"holds": one.holds, "empty": one.empty} | ({"low": one.low, "high": one.high} if one.numbers else {})
        out.append({"column": name, "role": role, **seen, **more})

    for name in rules.episode:
        put(name, "episode")
    if rules.time:
        put(rules.time, "time")
    for column in codec.obs:
        filled = Counter()
        for (name, rule, _), count in steps.filled.items():
            if name == column.name:
                filled[rule] += count
        more = {"missing": column.missing, "filled": dict(filled), "fill": column.fill} if filled or column.missing != "refuse" else {}
        put(
            column.name,
            "obs",
            kind=column.kind,
            dimensions=list(column.names) if column.kind != "state" else [f"{len(column.levels)} states"],
            **more,
        )
    for column in codec.action:
        more = {"low": None, "high": None} if column.kind != "number" else {}
        put(
            column.name,
            "action",
            kind=column.kind,
            members=list(column.labels),
            **({"decoded": list(column.values)} if column.values else {}),
            **more,
        )
    for name in codec.mask:
        put(name, "mask")
    for role in SINGLE:
        if (said := getattr(rules, role)) is not None:
            put(said, role, **({"formula": True} if role in steps.formulas else {}))
    for role, names in (("logger", [rules.logger] if rules.logger else []), ("info", rules.info)):
        for name in names:
            put(name, role)
    return out


def dropped(counter: Counter) -> str:
    """What was dropped, in words."""
    total = Counter()
    for (rule, _), count in counter.items():
        total[rule] += count
    why = lambda rule: WHY.get(rule) or f"in an episode with an empty cell in {rule.removeprefix('drop-episode: ')!r}"
    return "; ".join(f"{count:,} dropped ({why(rule)})" for rule, count in total.items()) or "none dropped"


def notes(steps: Steps, found: Sequence[Part], codec: Codec, joined: int, several: int, taken: np.ndarray) -> tuple[str, ...]:
    """What the user of the log should know."""
    out = [note for part in found for note in part.notes]
    if joined:
        out.append(f"The rows of {joined:,} episodes did not lie together, and were brought together.")
    if several and FILE not in steps.rules.episode:
        out.append(f"{several:,} episodes have rows in more than one file. If names begin anew in every file, tell them apart: "
                   f"--episode file {' '.join(steps.rules.episode)}.")  # fmt: skip
    if steps.moved:
        out.append(f"{steps.moved:,} rows were not in order of time within their episode, and were sorted.")
    if steps.dropped:
        out.append(
            f"Of {sum(steps.kept.values()) + sum(steps.dropped.values()):,} rows, {sum(steps.kept.values()):,} are steps; {dropped(steps.dropped)}."
        )
    if steps.gone:
        out.append(f"{steps.gone:,} episodes had no row that is a step, and are gone.")
    filled = Counter()
    for (column, rule, _), count in steps.filled.items():
        filled[column, rule] += count
    values = {column.name: column.fill for column in codec.obs}
    for (column, rule), count in filled.items():
        value = f"{values[column]:.6g}" if isinstance(values[column], float) else values[column]
        what = {"forward-fill": "got the last value before them in their episode", "forward-fill, nothing before": f"had none before them in their episode, and got {value}",
                "indicator": "are marked by a dimension of their own" + ("" if value is None else f", and got {value}"), "fill": f"got {value}"}[rule]  # fmt: skip
        out.append(f"{count:,} empty cells of {column!r} {what}.")
    low, high = steps.gaps
    if steps.unit is None and steps.rules.duration is None and high > low * (1 + 1e-9):
        scale = SECOND if steps.dates else 1.0
        out.append(
            f"Times between steps differ, from {low / scale:g} to {high / scale:g}{' seconds' if steps.dates else ''}: discounting treats all steps alike unless a unit of time is given (--unit)."
        )
    if (never := [name for name, count in zip(codec.action_names, taken) if not count]) and taken.any():
        out.append(
            f"{len(never):,} of {len(taken):,} actions are never taken in a step that is kept: {', '.join(never[:5])}{' …' if len(never) > 5 else ''}."
        )
    return tuple(out)
