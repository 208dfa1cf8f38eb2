r"""Logs of which nobody wrote down the actions: what was seen, and a log of the same world with actions, say what must have been done,

$$ \hat a = \arg\max_a\, q(a \mid s, s'), \qquad q = \arg\max E\,[\log q(a \mid s, s')] \text{ over the log with actions}. $$

```python
seen = ts.watching.watch(log, obs, reward, terminal, ends=ends)   # spaces and units as in `log`, which has actions
runs = ts.train(ts.IQL(), ts.watching.label(seen, log))           # any method, on what was seen
```

With demonstrations in place of `seen`, and cloning in place of the method, this is behaviour cloning from observation: Torabi, Warnell and Stone 2018,
https://arxiv.org/abs/1805.01954. Labels of logs in which rewards are known are what Baker et al. 2022 made of videos, https://arxiv.org/abs/2206.11795.
The inverse model is `BC` that is shown what followed.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array

from .algos.imitation.bc import BC
from .core import Box, Discrete, MultiDiscrete, Spec, joined, pair
from .data import BadData, Episodes, Transitions
from .data.episodes import choices
from .loop import train

BLOCK = 1 << 16
"Rows that are labelled at once."


def watch(
    like: Episodes,
    obs,
    reward,
    terminal,
    *,
    ends=None,
    next_obs=None,
    mask=None,
    time=None,
    duration=None,
    ids=None,
    source: str = "watched",
) -> Episodes:
    """A log without actions, from arrays as in `Episodes.of`, with the spaces, bounds and units of the log `like`.

    Its actions stand in for ones that nobody knows, and `info["acted"]` is false throughout: `label` it before learning from it.
    """
    space, n = like.spec.action, len(np.asarray(reward))
    low, high = (None, None) if like.view.action is None else like.view.action.bounds()
    if isinstance(space, Box):
        action, members = np.broadcast_to((np.asarray(low) + np.asarray(high)) / 2, (n, space.size)), None
    else:
        action, members = (
            np.zeros((n, *like.action.shape[1:]), np.int32),
            choices(space) if isinstance(space, MultiDiscrete) else space.size,
        )
        if mask is not None:  # what stands in must be allowed
            parts = np.split(np.asarray(mask, bool), np.cumsum(choices(space))[:-1], axis=1)
            action = np.stack([part.argmax(axis=1) for part in parts], axis=1).reshape(action.shape)
    states = like.spec.obs.size if isinstance(like.spec.obs, Discrete) else None
    seen = Episodes.of(
        obs, action, reward, terminal, ends=ends, next_obs=next_obs, states=states, actions=members, low=low, high=high, mask=mask, time=time,
        duration=duration, ids=ids, info={"acted": np.zeros(n, bool)}, source=source,
    )  # fmt: skip
    if seen.spec != like.spec:
        raise BadData(f"{source}: what was seen is {seen.spec.obs}, but {like.source}, whose actions are to be told, has {like.spec.obs}.")
    return seen.viewed(like.view)


def label(seen: Episodes, shown: Episodes, *, algorithm: BC | None = None, share: float = 0.1, seed: int = 0) -> Episodes:
    """`seen` with the actions that most likely led from each observation to the next, learned from `shown`, a log of the same world with actions.

    A note says how well the same model tells the actions of a `share` of the episodes of `shown` that it did not learn from: the share that is
    right, or for vectors what of their variance is told (R²). A step that truly ended its episode, behind which nothing was logged, is labelled as one that
    changed nothing; the notes count such steps. Where what follows a step is the same whatever is done, labels are practice in `shown`.
    """
    if seen.spec != shown.spec or not isinstance(seen.spec.obs, (Box, Discrete)):
        raise BadData(f"{seen.source} has {seen.spec} and {shown.source} has {shown.spec}; expected the same spaces, and observations that are vectors or "
                      "numbers of states.")  # fmt: skip
    shown = shown if shown.view.obs is not None else shown.normalised()
    learned, held = shown.split(share, seed=seed) if 0 < round(share * len(shown)) < len(shown) else (shown, None)
    algorithm = algorithm or BC(head="deterministic", steps=20_000, lr=1e-3)
    out = train([(algorithm, seed)], pairs(learned, known=True), every=algorithm.steps)
    if out.faults[0] is not None:
        raise BadData(f"{shown.source}: the inverse model diverged: {out.faults[0]}. Lower its learning rate.")
    model = algorithm.policy(jax.tree.map(lambda x: x[0], out.states))
    told = lambda log: raw(model, log)
    ended = unseen(seen)
    notes = [
        f"Actions were told from what followed, by a model that was shown {learned.steps:,} steps of {shown.source}. {found(told, held)}"
    ]
    if ended.any():
        notes.append(
            f"Nothing was logged behind {ended.sum():,} of {seen.steps:,} steps that truly ended an episode: their actions are guesses."
        )
    info = {**seen.info, "acted": np.zeros(seen.steps, bool)}
    return dataclasses.replace(seen, action=told(seen.viewed(shown.view)), log_prob=None, info=info, notes=(*seen.notes, *notes))


def unseen(log: Episodes) -> np.ndarray:
    """(n,) bool: truly ended, and the observation behind it is not known, or the same."""
    same = log.next_obs == log.obs
    return log.terminal & (same if same.ndim == 1 else same.all(axis=1))


def pairs(log: Episodes, *, known: bool = False) -> Transitions:
    """Steps as an inverse model sees them: an observation with the next in place of a goal. With `known`, only those behind which one was logged."""
    flat = log.transitions()
    rows = flat.all[np.flatnonzero(~unseen(log))] if known else flat.all
    if len(rows) == 0:
        raise BadData(f"{log.source}: behind no step is it known what followed.")
    both = joined(rows.obs, rows.next_obs, log.spec.obs)
    return Transitions(dataclasses.replace(rows, obs=both, next_obs=both), log.view, Spec(pair(log.spec.obs), log.spec.action))


@jax.jit
def likeliest(model, obs, mask) -> Array:
    return model(obs, mask).mode()


def raw(model, log: Episodes) -> np.ndarray:
    """The likeliest actions, as the log has actions."""
    rows = pairs(log).all
    said = [np.asarray(likeliest(model, part.obs, part.mask)) for part in (rows[at : at + BLOCK] for at in range(0, log.steps, BLOCK))]
    action = np.concatenate(said)
    scale = log.view.action
    return action if scale is None else np.asarray(scale.undo(action), np.float32)


def found(told: Callable, held: Episodes | None) -> str:
    """How well actions are told of a log that has them."""
    known = None if held is None else ~unseen(held)
    if held is None or known is None or not known.any():
        return "None was held out to say how well."
    said, done = told(held)[known], held.action[known]
    if isinstance(held.spec.action, Box):
        wrong, spread = ((said - done) ** 2).mean(), done.var(axis=0).mean()
        return f"Of the variance of {len(done):,} held-out ones it tells {max(0.0, 1 - wrong / max(spread, 1e-12)):.0%}."
    return f"Of {len(done):,} held-out ones it tells {(said == done).mean():.0%}."
