"""From what was seen of the columns to the codec: how each becomes an observation or an action. What was found is put into the rules,
so that the same rules encode other rows in the same way."""

import dataclasses
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from ..codec import Codec, Column, Holds
from ..episodes import BadData
from .facts import Facts, key
from .rules import Rules

WORDS = 50
"Categories of a column of words that are made dimensions without being asked for."
MEMBERS = 1000
"Values of a column of whole numbers that are taken as choices without being asked for."

Column_ = Callable[[str], np.ndarray]
"All numbers of a column, or evenly spaced ones of a long one."


class Refuse:
    """Raises `BadData` about a column, at the place of an odd cell where there is one."""

    def __init__(self, name: str, place: Callable[[int, int, str], str]):
        self.name, self.place = name, place

    def __call__(self, facts: Facts, text: str, odd: str | None = None) -> NoReturn:
        at = facts.odd.get(odd) if odd else None
        where = self.place(at[0], at[1], facts.name) if at else f"{self.name}: column {facts.name!r}"
        raise BadData(f"{where}: {text}" if at else f"{where} {text}")


def encoded(
    rules: Rules, facts: Mapping[str, Facts], numbers: Column_, combinations: Callable[[tuple[Column, ...]], np.ndarray], refuse: Refuse
) -> tuple[Codec, Rules]:
    """The codec, and the rules with all that was found spelt out."""
    obs = tuple(observed(rules, facts[name], refuse) for name in rules.obs)
    action, found = decided(rules, facts, numbers, refuse)
    joint = rules.joint if isinstance(rules.joint, tuple) else None
    if rules.joint and (len(action) < 2 or action[0].kind == "number"):
        raise BadData(
            f"{refuse.name}: `joint` makes one choice of several, but the action is {', '.join(c.name for c in action)}. Leave it out."
        )
    if joint and any(len(member) != len(action) or any(i >= len(c.labels) for i, c in zip(member, action)) for member in joint):
        raise BadData(
            f"{refuse.name}: `joint` lists combinations of other choices than {', '.join(c.name for c in action)}. Say only true."
        )
    if rules.joint is True:
        joint = tuple(map(tuple, np.unique(combinations(action), axis=0).tolist()))
    codec = masked(Codec(obs, action, joint, rules.mask, rules.episode, rules.time, rules.na, rules.decimal), refuse)
    told: dict[str, Any] = {"one_hot": dict(rules.one_hot), "fill": dict(rules.fill), "joint": joint or False, "mask": codec.mask} | found
    for column in obs:
        if column.kind == "one-hot":
            told["one_hot"][column.name] = column.levels
        if column.fill is not None:
            told["fill"][column.name] = column.fill
    return codec, dataclasses.replace(rules, **told)


def holding(facts: Facts, levels: tuple[str, ...] = ()) -> Holds:
    """What the cells are when they are decoded: text, where numbers would not give the same words back."""
    if facts.holds not in ("whole", "number", "flag"):
        return "text"
    if facts.holds == "flag":
        return "flag" if set(levels) <= {"true", "false"} else "text"
    back = {"whole": lambda x: str(int(float(x))), "number": lambda x: repr(float(x)).removesuffix(".0")}[facts.holds]
    return facts.holds if all(back(level) == level for level in levels) else "text"


def observed(rules: Rules, facts: Facts, refuse: Refuse) -> Column:
    """A column as an observation."""
    name, holds, rule = facts.name, facts.holds, rules.rule(facts.name)
    if holds == "nothing":
        refuse(facts, "is empty in every row, and says nothing. Leave it out of the observations.")
    if holds == "other":
        refuse(
            facts,
            f"holds {' and '.join(sorted(map(str, facts.dtypes)))}: several values a cell. Take them apart into columns of their own, or leave it out.",
        )
    if holds == "date" and name not in rules.one_hot and name not in rules.other:
        refuse(facts, "holds dates or times, which are no observation by themselves. Turn them into numbers first, such as hours since the start; or "
               f"take them as categories (--one-hot {shlex.quote(name)}); or leave them out.")  # fmt: skip
    if rules.states is not None:
        if len(rules.obs) > 1:
            raise BadData(f"{refuse.name}: with states={rules.states}, 'obs' must be one column of integers; got {', '.join(rules.obs)}.")
        column = Column(name, "state", "whole", tuple(map(str, range(rules.states))))
    elif name in rules.order:
        column = Column(name, "ordinal", holding(facts, rules.order[name]), rules.order[name])
    elif name in rules.one_hot or name in rules.other or holds == "text":
        column = categories(rules, facts, refuse)
    else:
        column = Column(name, "flag" if holds == "flag" else "number", holding(facts))
    if rule == "indicator" and not facts.empty:
        rule = "refuse"  # a dimension that is never 1 would not be learned
    if rule in ("refuse", "drop-episode"):
        return dataclasses.replace(column, missing=rule)
    fill = rules.fill.get(name, rules.fill.get("*"))
    if rule == "fill" and fill is None:
        refuse(facts, f"the rule for its empty cells is 'fill', without a value. Give one: --missing {name}=fill:VALUE.")
    if column.kind == "state" and rule == "indicator":
        refuse(facts, "the number of a state has no place for an indicator. Choose forward-fill, fill:VALUE or drop-episode.")
    if fill is None and not (column.kind == "one-hot" and rule == "indicator"):
        fill = facts.mean if column.kind == "number" else facts.common()[0]
        fill = fill in ("true", "yes", "t", "y", "1") if column.kind == "flag" else fill
    if column.levels and fill is not None:
        fill = str(int(fill)) if isinstance(fill, float) and fill.is_integer() else str(fill)
        if fill not in column.levels:
            refuse(facts, f"its empty cells cannot become {fill!r}, which is none of its categories ({', '.join(column.levels[:8])}).")
    elif fill is not None:
        try:
            fill = bool(fill) if column.kind == "flag" else float(fill)
        except ValueError:
            refuse(facts, f"its empty cells cannot become {fill!r} where numbers are expected.")
    return dataclasses.replace(column, missing=rule, fill=fill)


COMMAS = ("expected numbers or words, found {!r}, which may be either. If the comma stands before decimals, give --decimal ,; if it parts thousands, "
          "take it out of the cells; if these are words, give {}.")  # fmt: skip


def categories(rules: Rules, facts: Facts, refuse: Refuse) -> Column:
    """A column of words, or of numbers that stand for such, as one dimension for each."""
    name, asked = facts.name, facts.name in rules.one_hot or facts.name in rules.other
    if not asked and (cell := facts.nested):
        part = re.search(r'"(\w+)"\s*:', cell)
        example = f"SELECT *, TRY_CAST({name}->>'{part[1]}' AS DOUBLE) AS {part[1]} FROM 'FILE'" if part and name.isidentifier() else ""
        how = f', for example by --query "{example}"' if example else ""
        refuse(facts, f"found several values: {short(cell)}. Take them apart into columns of their own{how}.", "number")
    if not asked and facts.comma:
        refuse(facts, COMMAS.format(facts.odd["number"][2], f"--one-hot {name!r}"), "number")
    if not asked and 2 * facts.numbers > facts.present:
        odd, strange = facts.odd["number"][2], facts.strange()
        refuse(facts, f"expected a number, as in most rows, found {odd!r} ({facts.present - facts.numbers - facts.nan:,} such cells). Correct them; "
               f"if they stand for empty ones, give --na {' '.join(map(repr, strange[:5] or [odd]))}; if the column holds categories, give --one-hot {name!r}.", "number")  # fmt: skip
    given = rules.one_hot.get(name, ())
    if given:
        return Column(name, "one-hot", holding(facts, given), given, other=name in rules.other)
    many = "more than 10,000" if facts.levels is None else f"{len(facts.levels):,}"
    if facts.levels is None or (name not in rules.other and len(facts.levels) > (MEMBERS if asked else WORDS)):
        refuse(facts, f"has {many} different words{f', such as {facts.common()[0]!r}' if facts.levels else ''}, and each would be a dimension. Keep the commonest, "
               f"with one dimension for all others (--other {shlex.quote(f'{name}=20')}), or leave the column out.")  # fmt: skip
    common = facts.common()
    kept = tuple(sorted(common[: rules.other.get(name, len(common))], key=key))
    return Column(name, "one-hot", holding(facts, kept), kept, other=name in rules.other)


def short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def decided(rules: Rules, facts: Mapping[str, Facts], numbers: Column_, refuse: Refuse) -> tuple[tuple[Column, ...], dict[str, Any]]:
    """The columns of the action, and what was found of them."""
    found: dict[str, Any] = {"choices": dict(rules.choices), "bins": dict(rules.bins), "values": dict(rules.values)}
    if (rules.low or rules.high) and not (rules.low and rules.high):
        raise BadData(f"{refuse.name}: only one of 'low' and 'high' is given. Give both bounds of the action.")
    if rules.low and (rules.actions or rules.mask):
        raise BadData(f"{refuse.name}: 'low' and 'high' belong to a vector, 'actions' or a mask to a choice. Give one or the other.")
    if rules.actions and len(rules.actions) != len(rules.action):
        raise BadData(f"{refuse.name}: 'actions' must be one number for each column of actions, but there are {len(rules.actions)} for {', '.join(rules.action)}.")  # fmt: skip
    columns = []
    for j, name in enumerate(rules.action):
        one, bins = facts[name], rules.bins.get(name, rules.bins.get("*"))
        numeric = one.holds in ("whole", "number")
        if one.holds == "nothing":
            refuse(one, "is empty in every row. Name the column of the decision.")
        if one.holds in ("date", "other"):
            refuse(one, f"holds {' and '.join(sorted(map(str, one.dtypes)))}, which is no decision. Turn it into numbers or words first.")
        if name in rules.bins and not numeric:
            refuse(one, "only numbers can be put into bins.", "number")
        if bins is not None and numeric:
            edges, values = binned(numbers(name), bins, rules.values.get(name), one, refuse)
            columns.append(Column(name, "bins", "number", edges=edges, values=values))
            found["bins"][name], found["values"][name] = edges, values
        elif numeric and (rules.low or (one.holds == "number" and not (rules.actions or name in rules.choices))):
            columns.append(Column(name, "number", "number"))
        else:
            levels = members(rules, one, j, refuse)
            columns.append(Column(name, "choice", holding(one, levels), levels))
            found["choices"][name] = levels
    found["bins"].pop("*", None)
    kinds = {"number" if column.kind == "number" else "choice" for column in columns}
    if len(kinds) > 1:
        loose = ", ".join(column.name for column in columns if column.kind == "number")
        vector = (
            "; or take all as a vector, and give its bounds (--low, --high)" if all(facts[name].numbers for name in rules.action) else ""
        )
        raise BadData(f"{refuse.name}: the decision mixes choices with numbers ({loose}). Put the numbers into bins, for example --bins {loose.split(', ')[0]}=5{vector}.")  # fmt: skip
    if kinds == {"number"}:
        found |= bounds(rules, facts, refuse)
    elif rules.low:
        raise BadData(f"{refuse.name}: 'low' and 'high' are bounds of numbers, but the action is a choice. Leave them out.")
    return tuple(columns), found


def bounds(rules: Rules, facts: Mapping[str, Facts], refuse: Refuse) -> dict[str, tuple[float, ...]]:
    """The bounds of a vector: as said, or -1 and 1 if all lie there, or else the smallest and largest seen."""
    seen = [facts[name] for name in rules.action]
    if rules.low:
        if {len(rules.low), len(rules.high)} - {1, len(seen)}:
            raise BadData(f"{refuse.name}: 'low' and 'high' must be one number, or one for each of {len(seen)} columns.")
        low, high = (np.broadcast_to(x, len(seen)).tolist() for x in (rules.low, rules.high))
        if not all(a < b for a, b in zip(low, high)):
            raise BadData(f"{refuse.name}: 'low' must lie below 'high'; got {low} and {high}.")
        for one, a, b in zip(seen, low, high):
            if one.low < a or one.high > b:
                refuse(
                    one,
                    f"goes from {one.low:g} to {one.high:g}, beyond the bounds {a:g} and {b:g}. Widen 'low' and 'high', or correct the cells.",
                )
    elif all(one.low >= -1 and one.high <= 1 for one in seen):
        low, high = [-1.0] * len(seen), [1.0] * len(seen)
    else:
        low, high = [one.low for one in seen], [one.high if one.high > one.low else one.low + 1 for one in seen]
    return {"low": tuple(low), "high": tuple(high)}


def members(rules: Rules, facts: Facts, place: int, refuse: Refuse) -> tuple[str, ...]:
    """The members of a choice, in the order of their numbers."""
    name = facts.name
    if given := rules.choices.get(name) or rules.order.get(name):
        return given
    if rules.actions:
        return tuple(map(str, range(rules.actions[place])))
    if facts.comma:
        refuse(facts, COMMAS.format(facts.odd["number"][2], f"their order: --order {name}=A,B,…"), "number")
    if facts.levels is None or len(facts.levels) > MEMBERS:
        count = f"{len(facts.levels):,}" if facts.levels is not None else "more than 10,000"
        refuse(facts, f"has {count} different values: too many for a choice that is not declared. Put them into bins (--bins 5), bound them as a "
               "vector (--low, --high), or declare the choices (--actions N).")  # fmt: skip
    seen = sorted(facts.levels, key=key)
    counted = list(map(str, range(len(rules.mask))))
    return tuple(counted) if rules.mask and len(rules.action) == 1 and set(seen) < set(counted) else tuple(seen)


def masked(codec: Codec, refuse: Refuse) -> Codec:
    """The codec with one column of the mask for each member of the action: in the order in which they are named, or, where they are named
    by the members' words, in theirs."""
    if not codec.mask:
        return codec
    if codec.action[0].kind == "number":
        raise BadData(
            f"{refuse.name}: a mask belongs to a choice of actions, but the action is a vector. Leave the mask out, or put the action into bins."
        )
    labels = codec.action_names if len(codec.action) == 1 or codec.joint else [label for column in codec.action for label in column.labels]
    if len(codec.mask) != len(labels):
        raise BadData(f"{refuse.name}: expected one mask column for each of {len(labels)} actions ({', '.join(labels[:8])}), got "
                      f"{len(codec.mask)}: {', '.join(codec.mask[:8])}.")  # fmt: skip
    for start in range(min(map(len, codec.mask))):
        ends = {name[start:]: name for name in codec.mask}
        if set(ends) == set(labels):
            return dataclasses.replace(codec, mask=tuple(ends[label] for label in labels))
    return codec


def binned(
    values: np.ndarray, bins: int | tuple[float, ...], decoded: tuple[float, ...] | None, facts: Facts, refuse: Refuse
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(edges, what each bin is decoded as: the median of the numbers in it, one of them)."""
    edges = cut(values, bins) if isinstance(bins, int) else bins
    if len(edges) < 3:
        refuse(facts, f"its numbers make only {len(edges) - 1} bin. Give edges, or take it as a choice.")
    if facts.low < edges[0] or facts.high > edges[-1]:
        refuse(facts, f"goes from {facts.low:g} to {facts.high:g}, beyond the edges {edges[0]:g} and {edges[-1]:g}. Widen them.")
    if decoded is not None:
        if len(decoded) != len(edges) - 1:
            refuse(facts, f"has {len(edges) - 1} bins, but {len(decoded)} values to decode them. Give one for each.")
        return edges, decoded
    place = np.searchsorted(edges[1:-1], values, side="right")
    inside = [values[place == k] for k in range(len(edges) - 1)]
    middle = [float(np.quantile(x, 0.5, method="inverted_cdf")) if len(x) else (edges[k] + edges[k + 1]) / 2 for k, x in enumerate(inside)]
    return edges, tuple(middle)


def cut(values: np.ndarray, bins: int) -> tuple[float, ...]:
    """Edges of about `bins` bins of equally many numbers. A number that alone would fill one, as often 0 does, has one of its own."""
    seen, counts = np.unique(values, return_counts=True)
    alone = counts * bins >= len(values)
    starts = {float(seen[0])}
    for place in np.flatnonzero(alone):
        starts |= set(seen[place : place + 2].tolist())
    rest = np.repeat(seen[~alone], counts[~alone])
    share = max(1, bins - int(alone.sum()))
    if len(rest):
        starts |= set(np.quantile(rest, np.arange(1, share) / share, method="inverted_cdf").tolist())
    return (*sorted(starts), float(seen[-1]))
