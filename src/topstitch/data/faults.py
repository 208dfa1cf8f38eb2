"""What can be wrong with a log: one function a fault. Each looks at `Episodes` and yields what it `Seen`, or nothing.

How severe a fault is, and what is to be done, stands in the table of `check`. Thresholds are such that sound logs pass: what a deterministic world,
coarse measurements or a heavy tail look like is not taken for a fault.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.special

from .episodes import Episodes, choices
from .evidence import (
    EXACT,
    by_state,
    chosen,
    codes,
    continuous,
    copies,
    copying,
    counts,
    episode_keys,
    everywhere,
    figures,
    flat,
    followed,
    free,
    halves,
    hashed,
    listed,
    measured,
    numbered,
    predicted,
    source,
    step_keys,
    strays,
    table,
    union,
    unit,
    varied,
    vector,
)

FEW = 20
"Rows, or episodes, without which nothing is said of columns."
SURE = 0.98
"How much of the action, or of the reward, a column may tell of held-out episodes: 1 is all of it."
FOREKNOWN = 0.95
"The same of how an episode ends, told by its first row."
OFTEN = 10
"Visits of a state that was met often."
RULE = 0.995
"The share of actions that a fixed rule may explain."
LEAST = 100
"Episodes below which no interval can be trusted."
HELD = 0.3
"The share of episodes by which a policy is judged."
MODEST = 1.1
"E[ratio²] of a decision under a policy that differs modestly from practice: a χ² distance of 0.1."
WORTH = 10
"Episodes that weights must be worth."


class Seen(NamedTuple):
    """What was found."""

    what: str
    "Numbers and names."
    rows: np.ndarray
    "The rows that are concerned: their numbers, or (steps,) bool."
    columns: tuple[str, ...] = ()
    numbers: dict[str, Any] = {}


# copies --------------------------------------------------------------------------------------------------------------------------


def repeated_episodes(log: Episodes) -> Iterator[Seen]:
    again, _ = copies(log)
    if again.any():
        yield Seen(
            f"{again.sum():,} of {len(log):,} episodes.",
            log.starts[again],
            numbers={"episodes": int(again.sum()), "share": float(again.mean())},
        )


def repeated_steps(log: Episodes) -> Iterator[Seen]:
    """Not where observations come back anyway, as those of coarse measurements do: there equal steps mean nothing."""
    if numbered(log):
        return
    rows = np.flatnonzero(~np.repeat(copies(log)[0], log.lengths))
    twice = np.zeros(log.steps, bool)
    twice[rows] = counts(step_keys(log)[rows]) > 1
    still = followed(log)  # written twice, one below the other: the first of both leads to the second
    same = lambda x: flat(x[still] == x[still + 1]).all(axis=1)
    twice[still[same(log.obs) & same(log.action) & same(log.reward)] + 1] = True
    back = counts(hashed(log.obs)) > 1
    if twice.any() and back.mean() < 0.2 and twice.sum() > 0.4 * back.sum():
        yield Seen(
            f"{twice.sum():,} of {log.steps:,} rows, although observations hardly ever come back.",
            twice,
            numbers={"share": float(twice.mean())},
        )


def pairs(splits: Mapping[str, Episodes]) -> Iterator[tuple[str, str]]:
    names = list(splits)
    yield from ((one, other) for i, one in enumerate(names) for other in names[i + 1 :])


def shared_ids(splits: Mapping[str, Episodes]) -> Iterator[Seen]:
    for one, other in pairs(splits):
        a, b = splits[one], splits[other]
        both = np.isin(b.ids, a.ids) if a.ids is not None and b.ids is not None else np.zeros(0, bool)
        if both.any():
            names = listed(map(str, b.ids[both]), 3)
            yield Seen(
                f"{both.sum():,} episodes of {other} have an id of {one}: {names}.",
                b.starts[both],
                numbers={"episodes": int(both.sum()), "between": [one, other]},
            )


def shared_episodes(splits: Mapping[str, Episodes]) -> Iterator[Seen]:
    _, odd = copies(Episodes.join(*splits.values()))
    for one, other in pairs(splits):
        a, b = (episode_keys(splits[name]) for name in (one, other))
        both = np.isin(b, a[np.isin(a, odd)])
        if both.any():
            yield Seen(
                f"{both.sum():,} episodes of {other} are also in {one}, step by step.",
                splits[other].starts[both],
                numbers={"episodes": int(both.sum()), "between": [one, other]},
            )


def identifier_columns(log: Episodes) -> Iterator[Seen]:
    """Whole numbers that never change within an episode and hardly ever come twice; or numbers that grow from row to row of the whole log, as
    a counter of rows or a clock does."""
    if len(log) < FEW:
        return
    first = log.obs[log.starts]
    fixed = (log.obs == np.repeat(first, log.lengths, axis=0)).all(axis=0) & (first == np.round(first)).all(axis=0)
    unique = np.array([len(np.unique(column)) > 0.95 * len(log) for column in first.T])
    grows = (np.diff(log.obs, axis=0) > 0).mean(axis=0) > 0.999
    names = tuple(log.obs_names[j] for j in np.flatnonzero((fixed & unique) | grows))
    if names:
        yield Seen(f"{listed(names)}.", everywhere(log), names)


# knowing too much ----------------------------------------------------------------------------------------------------------------


def action_copies(log: Episodes) -> list[int]:
    """The columns of observations that go with the action one to one; or one for each action, that says whether it was taken."""
    columns = varied(log)
    if continuous(log):
        return [j for part in log.action.T for j, copy in zip(columns, copying(log.obs[:, columns], part)) if copy]
    found = []
    for part, size in zip(flat(log.action).T, choices(log.spec.action)):
        taken, flags = np.unique(part), {}
        for j in columns if len(taken) > 1 else ():
            values, code = np.unique(log.obs[:, j], return_inverse=True)
            if len(values) > len(taken):
                continue
            met = np.zeros((len(values), size), bool)
            met[code, part] = True
            if met.sum() == len(values) == len(taken):
                found.append(j)
            elif met.sum() == len(taken) and (alone := met.sum(axis=1) == 1).any():
                flags.setdefault(int(met[alone.argmax()].argmax()), j)
        found += flags.values() if len(flags) >= len(taken) - 1 else []
    return found


def copied_action(log: Episodes) -> Iterator[Seen]:
    if log.steps >= FEW and (names := tuple(log.obs_names[j] for j in dict.fromkeys(action_copies(log)))):
        yield Seen(f"{listed(names)}.", everywhere(log), names)


def earlier_actions(log: Episodes) -> set[int]:
    """The columns that hold the action of the step before. They were known, however well they tell the next one."""
    rows, columns = followed(log), varied(log)
    if len(rows) < FEW:
        return set()
    parts = flat(log.action[rows]).T
    seen = log.obs[rows + 1][:, columns]
    return {j for part in parts for j, copy in zip(columns, copying(seen, part, ranks=False)) if copy}


def predicted_action(log: Episodes) -> Iterator[Seen]:
    """A single column that all but says what was done. Copies are another finding."""
    if log.steps < FEW or len(log) < 2:
        return
    (rows, half), known = halves(log), earlier_actions(log) | set(action_copies(log))
    parts = flat(log.action[rows]).T
    score = lambda j: max(predicted(log.obs[rows, j], part, half, classes=not continuous(log)) for part in parts)
    found = {log.obs_names[j]: told for j in varied(log) if j not in known and (told := score(j)) > SURE}
    if found:
        yield Seen(
            f"{listed(f'{name} ({told:.1%} of it)' for name, told in found.items())}, in held-out episodes.",
            everywhere(log),
            tuple(found),
            {"told": found},
        )


def reward_copies(log: Episodes) -> dict[int, str]:
    """Column -> which row's reward it holds: the same, or the next of the episode."""
    inner, columns, found = followed(log), varied(log), {}
    for which, rows, reward in (("same", everywhere(log), log.reward), ("next", inner, log.reward[inner + 1])):
        if len(rows) >= FEW and np.ptp(reward) > 0:
            found = {j: which for j, copy in zip(columns, copying(log.obs[rows][:, columns], reward)) if copy} | found
    return found


def copied_reward(log: Episodes) -> Iterator[Seen]:
    if found := {log.obs_names[j]: which for j, which in reward_copies(log).items()}:
        yield Seen(
            f"{listed(f'{name} (of the {which} row)' for name, which in found.items())}.", everywhere(log), tuple(found), {"row": found}
        )


def predicted_reward(log: Episodes) -> Iterator[Seen]:
    """Copies are another finding."""
    if np.ptp(log.reward) == 0 or len(log) < 2:
        return
    (rows, half), known = halves(log), reward_copies(log)
    two = len(np.unique(log.reward)) == 2
    score = lambda j: predicted(log.obs[rows, j], log.reward[rows], half, classes=two)
    found = {log.obs_names[j]: told for j in varied(log) if j not in known and (told := score(j)) > SURE}
    if found:
        yield Seen(
            f"{listed(f'{name} ({told:.1%} of it)' for name, told in found.items())}, in held-out episodes.",
            everywhere(log),
            tuple(found),
            {"told": found},
        )


def outcomes(log: Episodes) -> dict[str, np.ndarray]:
    """What is known of an episode at its end only, (episodes,) each; those that vary, and of two values both come five times or more."""
    last = log.stops - 1
    ways = {
        "the return": log.returns(),
        "the last reward": log.reward[last],
        "whether it ends": log.terminal[last],
        "its length": log.lengths,
    }
    kinds = {name: np.unique(x, return_counts=True)[1] for name, x in ways.items()}
    return {name: x.astype(np.float64) for name, x in ways.items() if len(kinds[name]) > (2 if kinds[name].min() < 5 else 1)}


def outcome_told(log: Episodes) -> dict[int, tuple[str, float]]:
    """Column -> what of the outcome its first value tells best, and how well; 1 is a copy."""
    if len(log) < 2 * FEW:
        return {}
    first, half, found = log.obs[log.starts], np.random.default_rng(0).permutation(len(log)) % 2, {}
    columns = varied(log, log.starts)
    for name, x in outcomes(log).items():
        two = len(np.unique(x)) == 2
        for j, copy in zip(columns, copying(first[:, columns], x)):
            told = 1.0 if copy else min(predicted(first[:, j], x, half, classes=two), EXACT)
            if told > max(FOREKNOWN, found.get(j, ("", 0.0))[1]):
                found[j] = name, told
    return found


def copied_outcome(log: Episodes) -> Iterator[Seen]:
    if found := {log.obs_names[j]: name for j, (name, told) in outcome_told(log).items() if told == 1}:
        yield Seen(
            f"{listed(f'{column} ({name})' for column, name in found.items())}, from the first step on.",
            everywhere(log),
            tuple(found),
            {"tells": found},
        )


def told_with_action(log: Episodes) -> dict[str, float]:
    """Of decisions that stand by themselves, in whose row may stand what came of them: column of the table -> how much of the reward all its
    dimensions tell together with what was done, where that alone does not."""
    if len(log) < 2 * FEW or np.ptp(log.reward) == 0:
        return {}
    (rows, half), dimensions = halves(log), {}
    for j in varied(log):
        dimensions.setdefault(source(log.obs_names[j]), []).append(j)
    action, reward, two = flat(log.action[rows]), log.reward[rows], len(np.unique(log.reward)) == 2
    score = lambda columns: predicted(np.column_stack([log.obs[rows][:, columns], action]), reward, half, classes=two)
    return {name: told for name, columns in dimensions.items() if (told := score(columns)) > FOREKNOWN} if score([]) <= FOREKNOWN else {}


def predicted_outcome(log: Episodes) -> Iterator[Seen]:
    if log.lengths.max() == 1:
        if alone := told_with_action(log):
            yield Seen(f"{listed(f'{name} ({told:.1%} of the reward, together with what was done)' for name, told in alone.items())}, in held-out episodes.",
                       everywhere(log), tuple(alone), {"told": alone})  # fmt: skip
    elif found := {log.obs_names[j]: (name, told) for j, (name, told) in outcome_told(log).items() if told < 1}:
        yield Seen(f"{listed(f'{column} ({told:.1%} of {name})' for column, (name, told) in found.items())}, in held-out episodes.", log.starts,
                   tuple(found), {"told": {column: told for column, (_, told) in found.items()}})  # fmt: skip


def future_columns(log: Episodes) -> Iterator[Seen]:
    """A column that is another one a step ahead. Seen from the other side, that is a column of values before; such a one is known by its
    first values: nothing came before, so that they are all alike, or those of the other column. Dimensions of one column of the table, such as
    the hours of a clock, are not looked at together."""
    rows, columns, first = followed(log), varied(log), log.obs[log.starts]
    if len(rows) < FEW:
        return
    ahead, found = {log.obs[rows, j].tobytes(): j for j in columns if np.ptp(log.obs[rows, j]) > 0}, {}
    for k in columns:
        j = ahead.get(log.obs[rows + 1, k].tobytes(), k)
        alike = max(counts(first[:, k]).max() / len(log), (first[:, k] == first[:, j]).mean())
        if source(log.obs_names[j]) != source(log.obs_names[k]) and alike < 0.99:
            found[log.obs_names[j]] = log.obs_names[k]
    if found:
        yield Seen(f"{listed(f'{a} is {b} of the next row' for a, b in found.items())}.", rows, tuple(found), {"ahead of": found})


# columns -------------------------------------------------------------------------------------------------------------------------


def constant_columns(log: Episodes) -> Iterator[Seen]:
    names = tuple(log.obs_names[j] for j in np.setdiff1d(np.arange(log.obs.shape[1]), varied(log)))
    if names and log.steps > 1:
        yield Seen(f"{len(names):,} of {log.obs.shape[1]:,}: {listed(names)}.", everywhere(log), names)


def nearly_constant_columns(log: Episodes) -> Iterator[Seen]:
    other = log.obs != np.median(log.obs, axis=0)
    rare = other.any(axis=0) & (other.mean(axis=0) < 1e-3)
    names = tuple(log.obs_names[j] for j in np.flatnonzero(rare))
    if names:
        yield Seen(f"{len(names):,} of {log.obs.shape[1]:,}: {listed(names)}.", other[:, rare].any(axis=1), names)


def missing_codes(log: Episodes) -> Iterator[Seen]:
    columns = measured(log)
    if found := {name: rows for name, column in columns.items() if (rows := codes(column)).any()}:
        value = {name: float(columns[name][rows][0]) for name, rows in found.items()}
        yield Seen(
            f"{listed(f'{name} is {value[name]:g} in {rows.sum():,} rows' for name, rows in found.items())}.",
            union(found, log.steps),
            tuple(found),
            {"code": value},
        )


def stray_values(log: Episodes) -> dict[str, np.ndarray]:
    """Column -> (steps,) bool: values far from all others, codes of missing ones aside."""
    found = {}
    for name, column in measured(log).items():
        plain = ~codes(column)
        rows = np.zeros(log.steps, bool)
        rows[plain] = strays(column[plain])
        found[name] = rows
    return found


def outliers(log: Episodes) -> Iterator[Seen]:
    columns = measured(log)
    if found := {name: rows for name, rows in stray_values(log).items() if rows.any()}:
        far = {name: float(columns[name][rows][0]) for name, rows in found.items()}
        yield Seen(
            f"{listed(f'{name} in {rows.sum():,} rows (for example {figures(far[name])})' for name, rows in found.items())}.",
            union(found, log.steps),
            tuple(found),
            {"example": far},
        )


def jumps(log: Episodes) -> Iterator[Seen]:
    """Between neighbouring rows of an episode. To an outlier and back is another finding."""
    rows, odd, found = followed(log), stray_values(log), {}
    for j in varied(log):
        name = log.obs_names[j]
        apart = odd[name] | codes(log.obs[:, j])
        sound = rows[~(apart[rows] | apart[rows + 1])]
        far = strays(log.obs[sound + 1, j] - log.obs[sound, j])
        if far.any():
            found[name] = np.zeros(log.steps, bool)
            found[name][sound[far] + 1] = True
    if found:
        yield Seen(f"{listed(f'{name} in {at.sum():,} rows' for name, at in found.items())}.", union(found, log.steps), tuple(found))


def telling_blanks(log: Episodes) -> Iterator[Seen]:
    """Columns that say whether another one was missing, where that goes with what was done or with what was still earned."""
    to_go, found = log.to_go(), {}
    spread = max(float(to_go.std()), 1e-12)
    for j in varied(log):
        name, gone = log.obs_names[j], log.obs[:, j] > 0.5
        if not name.endswith("(missing)") or min(gone.sum(), (~gone).sum()) < FEW:
            continue
        apart = abs(to_go[gone].mean() - to_go[~gone].mean()) / spread
        if chosen(log):
            share = lambda rows: np.bincount(log.action[rows], minlength=log.spec.action.size) / rows.sum()
            apart = max(apart, np.abs(share(gone) - share(~gone)).sum() / 2)
        if apart > 0.25:
            found[name.removesuffix("(missing)").rstrip(" =")] = gone
    if found:
        share = {name: float(gone.mean()) for name, gone in found.items()}
        yield Seen(
            f"{listed(f'{name} (missing in {share[name]:.0%} of the rows)' for name in found)}.",
            union(found, log.steps),
            tuple(found),
            {"missing": share},
        )


def broken_chain(log: Episodes) -> Iterator[Seen]:
    rows = followed(log)
    broken = flat(log.next_obs[rows] != log.obs[rows + 1]).any(axis=1)
    if broken.any():
        yield Seen(f"After {broken.sum():,} of {log.steps:,} steps.", rows[broken])


# ends, rewards, time -------------------------------------------------------------------------------------------------------------


def otherwise(log: Episodes, cut: np.ndarray) -> tuple[str, dict[str, float]]:
    """What it would mean if these episodes had been cut instead of ended, and had gone on for as long again: the mean return at worst and at
    best, at the least and the greatest reward (of 98 in 100)."""
    low, high = np.quantile(log.reward, [0.01, 0.99])
    more, mean = log.lengths[cut].sum() / len(log), float(log.returns().mean())
    worst, best = mean + float(more * min(low, 0)), mean + float(more * max(high, 0))
    ends = f"from {figures(worst)} to {figures(best)} instead of {figures(mean)}"
    text = f"Had they been cut, and gone on for as long again, the mean return would be {ends}."
    return text, {"mean": mean, "worst": worst, "best": best}


def one_length(log: Episodes) -> Iterator[Seen]:
    """Only where something is earned on the way: an outcome at the end is a reason to end."""
    length, last = int(log.lengths[0]), log.stops - 1
    if len(log) >= FEW and np.ptp(log.lengths) == 0 and length > 1 and log.terminal[last].all() and log.reward[followed(log)].any():
        text, numbers = otherwise(log, np.arange(len(log)))
        yield Seen(f"All have {length:,} steps. {text}", last, numbers=numbers | {"length": length})


def limit_as_end(log: Episodes) -> Iterator[Seen]:
    """The greatest length comes far oftener than those just below it, and its episodes are marked as ended."""
    longest = int(log.lengths.max())
    at, below = log.lengths == longest, ((log.lengths >= 0.9 * longest) & (log.lengths < longest)).sum()
    ended = at & log.terminal[log.stops - 1]
    if longest >= 10 and not at.all() and ended.sum() >= max(5, 0.01 * len(log), 5 * below):
        text, numbers = otherwise(log, np.flatnonzero(ended))
        yield Seen(f"{ended.sum():,} of {len(log):,} episodes have exactly {longest:,} steps, the most there are, and {below:,} nearly as many. {text}", log.stops[ended] - 1,
                   numbers=numbers | {"length": longest, "episodes": int(ended.sum())})  # fmt: skip


def never_ended(log: Episodes) -> Iterator[Seen]:
    if not log.terminal.any():
        yield Seen(f"{len(log):,} of {len(log):,} episodes are cut, after {log.lengths.mean():,.1f} steps in the mean.", log.stops - 1)


def ends_disagree(log: Episodes) -> Iterator[Seen]:
    """Where rewards are paid in last steps only: cut episodes that were paid; ended ones that were not, though nearly all are."""
    last = log.stops - 1
    ended, paid = log.terminal[last], log.reward[last] != 0
    if log.reward[followed(log)].any() or not (ended & paid).any():
        return
    if (cut := ~ended & paid).any():
        yield Seen(
            f"{cut.sum():,} of {(~ended).sum():,} episodes marked as cut have the reward of an end.",
            last[cut],
            numbers={"episodes": int(cut.sum())},
        )
    if (unpaid := ended & ~paid).any() and unpaid.sum() < 0.05 * ended.sum() and len(np.unique(log.reward[last[ended & paid]])) > 1:
        yield Seen(
            f"{unpaid.sum():,} of {ended.sum():,} episodes marked as ended have no outcome: a reward of 0.",
            last[unpaid],
            numbers={"episodes": int(unpaid.sum())},
        )


def paid_at_the_end(log: Episodes) -> Iterator[Seen]:
    last, mean = log.stops - 1, float(log.lengths.mean())
    if not log.reward[followed(log)].any() and log.reward[last].any():
        yield Seen(f"In the last step only; episodes have {mean:,.1f} steps in the mean.", last, numbers={"length": mean})


def equal_returns(log: Episodes) -> Iterator[Seen]:
    """With a discount too: then what comes sooner is worth more."""
    same = lambda x: np.ptp(x) <= 1e-6 * max(1e-6, np.abs(x).max())
    if len(log) > 1 and same(log.returns()) and same(log.returns(0.99)):
        yield Seen(
            f"All {len(log):,} episodes earned {figures(log.returns()[0])}.", everywhere(log), numbers={"return": float(log.returns()[0])}
        )


def large_rewards(log: Episodes) -> Iterator[Seen]:
    size = float(np.quantile(np.abs(log.reward), 0.99))
    if size > 100:
        yield Seen(f"One in a hundred is {figures(size)} or more.", np.abs(log.reward) >= size, ("reward",), {"size": size})


def tiny_rewards(log: Episodes) -> Iterator[Seen]:
    paid = np.abs(log.reward[log.reward != 0])
    if len(paid) and (size := float(np.quantile(paid, 0.99))) < 0.01:
        yield Seen(f"Hardly any is larger than {size:.2g}.", log.reward != 0, ("reward",), {"size": size})


def passing(log: Episodes) -> tuple[np.ndarray, np.ndarray, float]:
    """(the rows that have a next one, how much time passes until then, the usual time)."""
    rows = followed(log)
    taken = log.time[rows + 1].astype(np.float64) - log.time[rows].astype(np.float64)
    return rows, taken, float(np.median(taken))


def time_gaps(log: Episodes) -> Iterator[Seen]:
    rows, taken, _ = passing(log)
    most = float(np.quantile(taken, 0.95))
    gap = taken > 10 * most
    if gap.any():
        yield Seen(f"{gap.sum():,} of {log.steps:,} steps take more than ten times the {figures(most)} that 95 in 100 keep within, one of them {figures(taken.max())}.", rows[gap], ("time",),
                   {"usual": most, "longest": float(taken.max())})  # fmt: skip


def uneven_steps(log: Episodes) -> Iterator[Seen]:
    rows, taken, usual = passing(log)
    off = np.abs(taken - usual) > 0.05 * usual
    if log.duration is None and off.mean() > 0.05:
        low, high = np.quantile(taken, [0.05, 0.95])
        yield Seen(
            f"{off.mean():.0%} of the steps do not take the usual {figures(usual)}; nine in ten take {figures(low)} to {figures(high)}.",
            rows[off],
            ("time",),
            {"share": float(off.mean())},
        )


# decisions -----------------------------------------------------------------------------------------------------------------------


def one_action(log: Episodes) -> Iterator[Seen]:
    if log.steps > 1 and (log.action == log.action[:1]).all():
        yield Seen("There is no decision to learn or to judge.", everywhere(log))


def unused_actions(log: Episodes) -> Iterator[Seen]:
    count = np.bincount(log.action, minlength=log.spec.action.size)
    if names := tuple(log.action_names[a] for a in np.flatnonzero(count == 0)):
        yield Seen(f"{len(names):,} of {len(count):,}: {listed(names)}.", np.zeros(0, int), names, {"actions": len(names)})


def single_action_states(log: Episodes) -> Iterator[Seen]:
    taken = by_state(log)
    often = taken.sum(axis=1) >= OFTEN
    rows = (often & ((taken > 0).sum(axis=1) == 1))[log.obs] & free(log)
    if rows.any():
        states = len(np.unique(log.obs[rows]))
        yield Seen(
            f"{states:,} of {often.sum():,} states that were met {OFTEN} times or more, {rows.mean():.1%} of the rows.",
            rows,
            numbers={"states": states, "share": float(rows.mean())},
        )


def deterministic_logger(log: Episodes) -> Iterator[Seen]:
    """By recorded probabilities; else by numbered states that were met often; else by whether trees tell the action of held-out episodes."""
    open_ = free(log)
    if (log.action == log.action[:1]).all() or not open_.any():
        return
    if log.log_prob is not None and not continuous(log):
        share, how = float((log.log_prob[open_] > -1e-6).mean()), "have a recorded probability of 1"
    elif table(log):
        taken = by_state(log)
        often = (taken.sum(axis=1) >= OFTEN)[log.obs] & open_
        share = float((taken.argmax(axis=1)[log.obs] == log.action)[often].mean()) if often.mean() > 0.5 else 0.0
        how = "are the commonest of their state"
    elif vector(log) and log.steps >= 10 * FEW and len(log) >= 4:
        share, how = told_action(log), "can be told from the observation, where they can be told at all, in held-out episodes"
    else:
        return
    if share > RULE:
        yield Seen(f"{share:.1%} of the actions {how}.", everywhere(log), numbers={"share": share})


def told_action(log: Episodes) -> float:
    """The share of held-out actions that boosted trees tell, among the rows of which they are sure (0 where these are less than 8 in 10: what
    is sure nowhere is no rule). Of continuous actions the share of the variance, in the dimension told worst, by a line and by trees on what it
    leaves."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LinearRegression
    from threadpoolctl import threadpool_limits

    rows, half = halves(log)
    (x, there), share = (log.obs[rows[half == part]].astype(np.float64) for part in (0, 1)), 1.0
    how = dict(max_iter=50, max_leaf_nodes=16, early_stopping=False, random_state=0)
    for part in flat(log.action[rows]).T:
        y, asked = part[half == 0], part[half == 1]
        if len(np.unique(y)) < 2 or share <= RULE:  # a dimension that cannot be told decides
            continue
        with threadpool_limits(1):
            if continuous(log):
                line = LinearRegression().fit(x, y)
                left = asked - line.predict(there)
                if left.var() > (1 - RULE) * asked.var():
                    left = left - HistGradientBoostingRegressor(**how).fit(x, y - line.predict(x)).predict(there)
                share = min(share, 1 - float(left.var() / max(asked.var(), 1e-12)))
            else:
                trees = HistGradientBoostingClassifier(**how).fit(x, y)
                said = trees.predict_proba(there)
                sure = said.max(axis=1) > 0.99
                right = trees.classes_[said.argmax(axis=1)] == asked
                share = min(share, float(right[sure].mean()) if sure.mean() > 0.8 else 0.0)
    return share


def wrong_propensities(log: Episodes) -> Iterator[Seen]:
    """An action that is taken with probability p, and weighted by 1 / p, counts once in a row on average, or less where somebody never takes it:
    over all rows, and in each numbered state. More it cannot be, however many loggers there are."""
    p, size, names = np.exp(log.log_prob.astype(np.float64)), log.spec.action.size, log.action_names
    weight = np.zeros((len(log), size))
    np.add.at(weight, (np.repeat(np.arange(len(log)), log.lengths), log.action), 1 / p)
    allowed = np.full(size, log.steps) if log.mask is None else log.mask.sum(axis=0)
    excess = weight.sum(axis=0) - allowed
    error = np.sqrt(len(log)) * weight.std(axis=0)  # by episodes, whose rows are not independent
    over = excess > np.maximum(0.05 * log.steps, 5 * error)
    if over.any():
        times = {names[a]: float(weight[:, a].sum() / allowed[a]) for a in np.flatnonzero(over)}
        yield Seen(
            f"Weighted by 1 / p, {listed(f'{name} comes {x:.2f} times a row' for name, x in times.items())}; at most 1 can be.",
            over[log.action],
            tuple(times),
            {"times": times},
        )
    elif numbered(log):
        _, which, count = np.unique(log.obs.astype(np.int64) * size + log.action, return_inverse=True, return_counts=True)
        total, spread = np.bincount(which, 1 / p), np.sqrt(np.bincount(which, (1 / p - 1) / p))  # Var(1[a] / p) = 1 / p - 1
        visits = np.bincount(which, np.bincount(log.obs)[log.obs]) / count
        off = (count >= OFTEN) & (total - visits > np.maximum(0.05 * visits, 6 * spread))
        if off.sum() > 0.01 * (count >= OFTEN).sum():
            worst = int(np.argmax(total / visits * off))
            yield Seen(f"Weighted by 1 / p, {off.sum():,} of {(count >= OFTEN).sum():,} pairs of state and action that came often come more than once a visit, one of them "
                       f"{total[worst] / visits[worst]:.2f} times.", off[which], numbers={"pairs": int(off.sum())})  # fmt: skip


def certain_and_varied(log: Episodes) -> Iterator[Seen]:
    sure = (log.log_prob > -1e-6) & free(log)
    rows = sure & ((by_state(log) > 0).sum(axis=1) > 1)[log.obs] & (by_state(log).sum(axis=1) >= OFTEN)[log.obs]
    if rows.sum() > 0.01 * log.steps:
        yield Seen(
            f"{rows.sum():,} of {log.steps:,} rows, in states where other actions were taken too.",
            rows,
            numbers={"share": float(rows.mean())},
        )


def out_of_range(log: Episodes) -> Iterator[Seen]:
    outside = (np.abs(unit(log)) > 1 + 1e-4).any(axis=1)
    if outside.any():
        yield Seen(f"{outside.sum():,} of {log.steps:,} actions.", outside, log.action_names)


def saturated_actions(log: Episodes) -> Iterator[Seen]:
    edge = np.abs(unit(log)) > 1 - 1e-4
    share = {name: float(x) for name, x in zip(log.action_names, edge.mean(axis=0)) if x > 0.1}
    if share:
        yield Seen(
            f"{listed(f'{name} in {x:.0%} of the rows' for name, x in share.items())}.", edge.any(axis=1), tuple(share), {"share": share}
        )


def few_valued_actions(log: Episodes) -> Iterator[Seen]:
    values = {name: n for name, column in zip(log.action_names, log.action.T) if 1 < (n := len(np.unique(column))) <= 10}
    if values and log.steps >= 100:
        yield Seen(f"{listed(f'{name} has {n}' for name, n in values.items())}.", everywhere(log), tuple(values), {"values": values})


def guessed_bounds(log: Episodes) -> Iterator[Seen]:
    """Bounds that one or two rows reach, each of them, are those that were seen."""
    reached = np.concatenate([(side * unit(log) > 1 - 1e-6).sum(axis=0) for side in (1, -1)])
    if log.steps >= 100 and ((reached >= 1) & (reached <= 2)).all():
        yield Seen("They are the smallest and the largest seen.", np.zeros(0, int), log.action_names)


# how much of it ------------------------------------------------------------------------------------------------------------------


def few_episodes(log: Episodes) -> Iterator[Seen]:
    if len(log) < LEAST:
        yield Seen(
            f"{len(log):,}, of which a third would have to judge what is learned from the others.",
            log.starts,
            numbers={"episodes": len(log), "least": LEAST},
        )


def long_episodes(log: Episodes) -> Iterator[Seen]:
    """Weights of whole episodes have a second moment of (1 + χ²)^steps, and are worth so many times fewer episodes."""
    spread = scipy.special.logsumexp(log.lengths * np.log(MODEST)) - np.log(len(log))
    worth = float(np.exp(np.log(HELD * len(log)) - spread))
    if worth < WORTH:
        said = f"{worth:.2g}" if worth >= 0.01 else "next to nothing"
        yield Seen(f"Of a policy that differs modestly from practice (by a χ² distance of {MODEST - 1:.1f} in each decision), the {HELD * len(log):,.0f} episodes kept for judging "
                   f"would be worth {said}, as they have {log.lengths.mean():,.1f} steps in the mean.", log.starts, numbers={"worth": worth, "length": float(log.lengths.mean())})  # fmt: skip


def drifting_practice(log: Episodes) -> Iterator[Seen]:
    """The second against the first half of the episodes: returns, and what was done, both in standard deviations (of choices: the share that differs)."""
    if len(log) < 2 * LEAST:
        return
    late, returns = np.arange(len(log)) >= len(log) // 2, log.returns()
    apart = lambda x, rows: np.abs(x[rows].mean(axis=0) - x[~rows].mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    earned, rows = float(apart(returns, late)), np.repeat(late, log.lengths)
    if chosen(log):
        share = lambda at: np.bincount(log.action[at], minlength=log.spec.action.size) / at.sum()
        done = float(np.abs(share(rows) - share(~rows)).sum() / 2)
    else:
        done = float(apart(flat(log.action).astype(np.float64), rows).max())
    if earned > 0.5 or done > 0.25:
        yield Seen(
            f"In the second half of the log, returns differ by {earned:.2f} standard deviations and what was done by {done:.2f}.",
            log.starts[late],
            numbers={"returns": earned, "actions": done},
        )
