"""The numbers that describe a log."""

import dataclasses

import numpy as np

from ..core import Discrete, Image, MultiDiscrete
from .episodes import Episodes

MOST = 50


def profile(episodes: Episodes) -> dict:
    """What is in a log, as numbers, strings and lists that JSON can hold. All in raw units.

    `returns` are undiscounted. Columns of more than 50 dimensions are described by their first 50; `dimensions` counts them all.
    """
    spec, returns, lengths, duration = episodes.spec, episodes.returns(), episodes.lengths, episodes.duration
    summary = lambda x: {name: float(of(x.astype(np.float64))) for name, of in _SUMMARY.items()}
    ended = int(episodes.terminal[episodes.stops - 1].sum())
    return {
        "source": episodes.source,
        "fingerprint": episodes.fingerprint(),
        "episodes": len(episodes),
        "steps": int(episodes.steps),
        "lengths": {"min": int(lengths.min()), "median": float(np.median(lengths)), "max": int(lengths.max())},
        "returns": summary(returns),
        "rewards": summary(episodes.reward),
        "durations": None if duration is None else summary(duration),
        "ends": {"terminal": ended, "truncated": len(episodes) - ended},
        "names": {"obs": list(episodes.obs_names[:MOST]), "action": list(episodes.action_names[:MOST])},
        "spaces": {"obs": _space(spec.obs), "action": _space(spec.action)},
        "obs": _column(episodes.obs, spec.obs),
        "action": _column(episodes.action, spec.action),
        "probabilities": episodes.log_prob is not None,
        "masks": episodes.mask is not None,
        "time": episodes.time is not None,
        "info": sorted(episodes.info),
        "notes": list(episodes.notes),
    }


_SUMMARY = {"min": np.min, "mean": np.mean, "median": np.median, "max": np.max}


def _space(space) -> dict:
    return {"kind": type(space).__name__, **dataclasses.asdict(space)}


def _column(column: np.ndarray, space) -> dict:
    """Frequencies of the members of a `Discrete`, or of each choice of a `MultiDiscrete`; smallest, mean and largest of each dimension of a
    `Box`, or of each channel of an `Image`."""
    if isinstance(space, MultiDiscrete):
        return {"choices": [_column(column[:, j], Discrete(size)) for j, size in enumerate(space.sizes)]}
    if isinstance(space, Discrete):
        counts = np.bincount(column, minlength=space.size)
        return {"counts": counts.tolist(), "shares": (counts / len(column)).tolist(), "unseen": int((counts == 0).sum())}
    column = column.reshape(-1, space.channels) if isinstance(space, Image) else column
    shown = column[:, :MOST]
    return {
        "dimensions": column.shape[1],
        "min": shown.min(axis=0).tolist(),
        "mean": shown.mean(axis=0, dtype=np.float64).tolist(),
        "max": shown.max(axis=0).tolist(),
    }
