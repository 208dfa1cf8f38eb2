"""ICU-Sepsis: the treatment of sepsis as a table estimated from hospital records.

716 states: 713 clusters of patients, then death, survival and what follows both. 25 actions, 5 levels of one drug × 5 of another
(fluids and vasopressors; the package does not say which of them is `action // 5`). A step is a window of four hours.
Surviving earns 1, all else 0, and the discount is 1, so that a value is a probability of survival. A benchmark: nothing here is
medical advice. Source: Choudhary, Gupta & Thomas 2024, https://arxiv.org/abs/2406.05646, package `icu-sepsis` (MIT licence).

An action that was rarely taken in a state is *inadmissible* there; the package gives it the mean dynamics of the admissible ones, so it is
never better than the best of them, and the uniform policy is worth the same over all actions as over the admissible.
"""

import functools
import importlib.resources
import importlib.util
from pathlib import Path

import numpy as np

from .tabular import MDP

DEATH, SURVIVAL, AFTER = 713, 714, 715


def icu_sepsis(*, masks: bool = True) -> MDP:
    """The world: transition (716, 25, 716), three terminal states, and masks of admissible actions (1 to 13 in a state) unless
    `masks=False`: then all 25 are allowed everywhere, as they were to the clinicians.

    Read from the arrays that the package `icu-sepsis` installs (`numpy.load` without pickle; the package itself is not imported).
    Raises ImportError, with the command that installs it, where it is absent.
    """
    reward = np.zeros((1, 1, AFTER + 1))
    reward[..., SURVIVAL] = 1
    terminal = np.arange(AFTER + 1) >= DEATH
    return MDP(_array("tx_mat"), reward, _array("d_0"), terminal, _admissible() if masks else None)


def clinician(*, admissible: bool = False) -> np.ndarray:
    """The recorded clinicians' policy table (716, 25) float64.

    It gives 0.16 of an average state's probability to inadmissible actions, so it belongs to `icu_sepsis(masks=False)`; with
    `admissible=True` these are left out and rows sum to 1 again. Raises as `icu_sepsis` does.
    """
    policy = np.asarray(_array("expert_policy"), np.float64) * (_admissible() if admissible else 1)
    policy[DEATH:] = 1
    return policy / policy.sum(axis=1, keepdims=True)


def stays_path() -> Path:
    """The table of 20,000 stays that ships with this package, Parquet; it needs no `icu-sepsis`.

    Sampled from `icu_sepsis(masks=False)` under `clinician()`. Columns: stay, step (of four hours, from 0), state, action (0 to 24),
    reward (1 on survival), terminal (the end of the stay, alive or not), probability (with which the clinicians took the action).
    Made by `examples/make_icu_stays.py`.
    """
    return Path(str(importlib.resources.files("topstitch.worlds") / "icu_stays.parquet"))


def _assets() -> Path:
    found = importlib.util.find_spec("icu_sepsis")  # ours is topstitch.worlds.icu_sepsis: no clash
    if found is None or found.origin is None:
        raise ImportError("ICU-Sepsis needs the package that holds its tables. Install it: pip install 'topstitch[icu]'")
    return Path(found.origin).parent / "envs" / "assets"


def _array(name: str) -> np.ndarray:
    with np.load(_assets() / "dynamics.npz", allow_pickle=False) as arrays:
        return arrays[name]


@functools.cache
def _admissible() -> np.ndarray:
    """(716, 25) bool. The file: a line of counts, then for every state a line of its admissible actions."""
    mask = np.zeros((AFTER + 1, 25), bool)
    for state, line in enumerate((_assets() / "admissible_actions.txt").read_text().splitlines()[1:]):
        mask[state, [int(action) for action in line.split()]] = True
    return mask
