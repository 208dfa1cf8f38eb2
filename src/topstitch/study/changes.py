"""Where a policy differs from practice: shares of actions, groups of states, the states that change most, and a small tree that says where.

Discrete actions are compared by their probabilities, vectors by their means. A state is described by what the log tells of it: by its columns, or, where
it is a number, by what practice goes on to earn there, how often it was seen, how late in an episode, and how settled practice is.
"""

from typing import NamedTuple

import numpy as np

from ..core import Box, Discrete, Policy
from ..data import Episodes
from ..ope.beliefs import doing
from ..ope.table import Refused
from .logger import DRAWS, Logger, acts_in, chances

TOP = 12
"States that are shown."
CHANGED = 0.1
"A state counts as changed from this much of the decisions on, or of the range of a vector's dimension."
DEPTH, LEAF, FOLDS = 3, 0.05, 10
"Of the tree; a leaf holds at least so much of the decisions."
CLASSES = 3
"Kinds of change that the tree tells apart; all others are one more."
ROWS = 20_000
"Decisions that the tree sees, at most."
NUMBERED = ("expected value", "times seen", "step in the episode", "share of the usual action")
"What is known of a numbered state."


class Features(NamedTuple):
    """What the tree may ask."""

    names: tuple[str, ...]
    x: np.ndarray
    "(steps, names), or (states, names) for numbered states."


def changes(policy: Policy, log: Episodes, logger: Logger, *, discount: float, features: Features | None = None, seed: int = 0) -> dict:
    """What `schema` calls changes, over all decisions of `log`. `features` (states, …) describe numbered states better than the log does."""
    kind = "means" if isinstance(log.spec.action, Box) else "shares"
    empty = {"kind": kind, "actions": [], "same": None, "groups": [], "states": [], "tree": None}
    if not isinstance(log.spec.action, (Box, Discrete)):
        return empty | {"refused": f"changes are told of one choice, or of vectors; these actions are {log.spec.action}"}
    try:
        return _changes(policy, log, logger, discount, features, seed, empty)
    except Refused as reason:
        return empty | {"refused": str(reason)}


def _changes(policy, log, logger, discount, features, seed, empty) -> dict:
    names = list(log.action_names)
    if isinstance(log.spec.action, Discrete):
        before, after = np.asarray(acts_in(logger.model, log).probs), chances(policy, log)
        same = np.minimum(before, after).sum(axis=1)
        overall = [{"name": n, "practice": float(b), "policy": float(a)} for n, b, a in zip(names, before.mean(axis=0), after.mean(axis=0))]
        moved, labels = 1 - same, _toward(after - before, same, names)
    else:
        raw = (lambda x: x) if log.view.action is None else (lambda x: np.asarray(log.view.action.undo(x)))
        said = logger.model.of(log).said
        before = raw(np.clip((said.weight[..., None] * said.mean).sum(axis=1), -1, 1))
        draws = doing(policy, log.obs, log.mask, log.spec, log.view, draws=DRAWS, seed=seed)
        after = raw(draws.mean(axis=1, dtype=np.float64))
        spread = log.action.std(axis=0, dtype=np.float64)
        overall = [
            {"name": n, "practice": float(b), "policy": float(a), "sd": float(s)}
            for n, b, a, s in zip(names, before.mean(axis=0), after.mean(axis=0), spread)
        ]
        width = np.ptp(log.action, axis=0).astype(np.float64)
        away = (after - before) / np.where(width > 0, width, 1)
        most = int(np.abs(away).mean(axis=0).argmax())
        same, moved, labels = None, np.abs(away).mean(axis=1), _less_or_more(away[:, most], names[most])
    numbered = isinstance(log.spec.obs, Discrete)
    known = _features(log, before, discount) if features is None or not numbered else Features(features.names, features.x[log.obs])
    tree = _tree(known, labels, log, numbered, seed) if known is not None else None
    groups = _groups(before, after, moved, tree, known)
    return empty | {
        "actions": overall, "same": None if same is None else float(same.mean()), "groups": groups,
        "states": _states(log, before, after, moved, known, names) if numbered and same is not None else [], "tree": tree, "refused": None,
    }  # fmt: skip


# kinds of change ---------------------------------------------------------------------------------------------------------------


def _toward(change: np.ndarray, same: np.ndarray, names: list[str]) -> tuple[list[str], np.ndarray]:
    """(classes, the class of each row): as practice, or towards the action that gains most."""
    most, moved = change.argmax(axis=1), 1 - same >= CHANGED
    often = np.bincount(most[moved], minlength=len(names))
    shown = [int(a) for a in np.argsort(-often, kind="stable")[:CLASSES] if often[a]]
    place = np.full(len(names), len(shown) + 1)
    place[shown] = np.arange(1, len(shown) + 1)
    kinds = np.where(moved, place[most], 0)
    return ["as practice", *(f"more {names[a]}" for a in shown), "another change"], kinds


def _less_or_more(away: np.ndarray, name: str) -> tuple[list[str], np.ndarray]:
    return [f"less {name}", "as practice", f"more {name}"], np.digitize(away, [-CHANGED, CHANGED])


# states ------------------------------------------------------------------------------------------------------------------------


def _features(log: Episodes, before: np.ndarray, discount: float) -> Features | None:
    if isinstance(log.spec.obs, Box):
        return Features(log.obs_names, log.obs.astype(np.float64))
    if not isinstance(log.spec.obs, Discrete):
        return None
    n, time = log.spec.obs.size, np.arange(log.steps) - np.repeat(log.starts, log.lengths)
    seen = np.bincount(log.obs, minlength=n)
    mean = lambda column: np.bincount(log.obs, weights=column, minlength=n) / np.maximum(seen, 1)
    settled = before.max(axis=1) if isinstance(log.spec.action, Discrete) else np.zeros(log.steps)
    return Features(NUMBERED, np.stack([mean(log.to_go(discount)), seen, mean(time), mean(settled)], axis=1)[log.obs])


def _states(log: Episodes, before, after, moved, known: Features | None, names: list[str]) -> list[dict]:
    """The numbered states with the most changed decisions."""
    seen = np.bincount(log.obs, minlength=log.spec.obs.size)
    total = np.bincount(log.obs, weights=moved, minlength=log.spec.obs.size)
    first = np.full(len(seen), -1)
    first[log.obs[::-1]] = np.arange(log.steps)[::-1]
    told = []
    for state in np.argsort(-total, kind="stable")[:TOP]:
        if total[state] <= 0:
            break
        row = first[state]
        usual, new = int(before[row].argmax()), int((after[row] - before[row]).argmax())
        about = {} if known is None else dict(zip(known.names, map(float, known.x[row])))
        told.append({
            "name": f"{log.obs_names[0]} {state}", "visits": int(seen[state]), "same": float(1 - total[state] / seen[state]), "about": about,
            "practice": {"action": names[usual], "share": float(before[row, usual])},
            "policy": {"action": names[new], "share": float(after[row, new]), "before": float(before[row, new])},
        })  # fmt: skip
    return told


def _groups(before, after, moved, tree: dict | None, known: Features | None) -> list[dict]:
    """Thirds of the decisions: by what was earned from there on in such states, and by the columns that the tree asks."""
    columns = (
        []
        if known is None
        else [(name, known.x[:, known.names.index(name)]) for name in dict.fromkeys([NUMBERED[0], *asked(tree)]) if name in known.names]
    )
    told = []
    for name, column in columns[:3]:
        flag = bool(np.isin(column, (0, 1)).all())
        cuts = np.array([0.0]) if flag else np.unique(np.quantile(column, [1 / 3, 2 / 3]))
        part = np.digitize(column, cuts, right=True)
        for k in range(len(cuts) + 1):
            rows = part == k
            if not rows.any():
                continue
            told.append({
                "name": f"{name}, {('no', 'yes')[k]}" if flag else None, "by": name,
                "low": float(column[rows].min()), "high": float(column[rows].max()), "share": float(rows.mean()), "same": float(1 - moved[rows].mean()),
                "practice": before[rows].mean(axis=0).tolist(), "policy": after[rows].mean(axis=0).tolist(),
            })  # fmt: skip
    return told


# a tree ------------------------------------------------------------------------------------------------------------------------


def _tree(known: Features, labels: tuple[list[str], np.ndarray], log: Episodes, numbered: bool, seed: int) -> dict | None:
    """Where, and what kind of change: a small tree, and how well it and the constant answer say it of states, or episodes, that they have not seen."""
    from sklearn.model_selection import GroupKFold
    from sklearn.tree import DecisionTreeClassifier

    classes, kind = labels
    rows = np.sort(np.random.default_rng(seed).choice(log.steps, min(ROWS, log.steps), replace=False))
    x, y = known.x[rows], kind[rows]
    episode = np.repeat(np.arange(len(log)), log.lengths)[rows]
    part = log.obs[rows] if numbered else episode
    if len(np.unique(part)) < 2:
        return None
    make = lambda: DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=max(1, int(LEAF * len(rows))), random_state=seed)
    right, constant, folds = 0, 0, min(FOLDS, len(np.unique(part)))
    for a, b in GroupKFold(folds).split(x, y, part):
        right += (make().fit(x[a], y[a]).predict(x[b]) == y[b]).sum()
        constant += (np.bincount(y[a]).argmax() == y[b]).sum()
    found = make().fit(x, y)
    inner, present = found.tree_, found.classes_

    def node(i: int) -> dict:
        p = np.zeros(len(classes))
        p[present] = inner.value[i][0] / inner.value[i][0].sum()
        told = {"share": float(inner.n_node_samples[i] / len(rows)), "n": int(inner.n_node_samples[i]), "p": p.tolist()}
        if inner.children_left[i] >= 0:
            told |= {"column": known.names[inner.feature[i]], "threshold": float(inner.threshold[i]),
                     "left": node(int(inner.children_left[i])), "right": node(int(inner.children_right[i]))}  # fmt: skip
        return told

    return {
        "root": node(0), "asks": "what does the policy do otherwise, and where?", "classes": classes, "fidelity": float(right / len(rows)),
        "constant": float(constant / len(rows)), "folds": folds, "depth": int(found.get_depth()), "leaves": int(found.get_n_leaves()),
    }  # fmt: skip


def asked(tree: dict | None) -> list[str]:
    """The columns that a tree asks, the first ones first."""
    if tree is None:
        return []
    level, names = [tree["root"]], []
    while level:
        names += [node["column"] for node in level if "column" in node]
        level = [node[side] for node in level if "column" in node for side in ("left", "right")]
    return list(dict.fromkeys(names))
