"""The ICU-Sepsis task: 20,000 logged stays, survival as the return, and the truth to compare with."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..core import Markov
from ..data import Episodes
from ..data.read import read
from ..worlds import MDP, empirical, table
from ..worlds.icu_sepsis import clinician, icu_sepsis, stays_path

ROLES = dict(
    episode="stay", time="step", obs="state", states=716, action="action", actions=25, reward="reward", terminal="terminal",
    probability="probability",
)  # fmt: skip
"How the table is read: the same words as on the command line."

COMMON = dict(hidden=(64, 64), lr=1e-3, steps=8000)
"A state is a number without features, so small nets are enough."

SETTINGS: dict[str, dict[str, Any]] = {
    "bc": COMMON,
    "dqn": COMMON | dict(discount=1.0),
    "discrete_bcq": COMMON | dict(discount=1.0, lr=5e-4, batch_size=1024, steps=6000),  # less noise in Q: 0.824 instead of 0.818
    # Why not discount 1, why so small a weight and such a large batch: docs/quickstart.md.
    "discrete_cql": COMMON | dict(discount=0.95, alpha=0.03, lr=3e-4, batch_size=1024, steps=5000),
    "iql": COMMON | dict(discount=1.0, beta=300.0),  # advantages are changes of a survival probability: a hundredth is large
}
"Fields of each algorithm that differ from its paper's defaults."


def log() -> Episodes:
    """The 20,000 stays."""
    return read(stays_path(), **ROLES)


def survival(world: MDP, policies) -> np.ndarray:
    """(n,): the exact probability of survival under each of `n` stacked policies, acting as the distribution that it is."""
    tables = jax.jit(jax.vmap(lambda policy: table(policy, world)))(policies)
    return np.atleast_1d(world.performance(np.asarray(tables), 1.0))


def exact(world: MDP, policies: Sequence[Markov]) -> np.ndarray:
    """(n,): the same of policies of different kinds, each asked for its table, and all solved together."""
    ask = jax.jit(lambda policy: table(policy, world))
    return np.atleast_1d(world.performance(np.stack([np.asarray(ask(policy)) for policy in policies]), 1.0))


def yardsticks(stays: Episodes) -> tuple[MDP, dict[str, float]]:
    """(the world, exact survival of practice, of the naive and of a cautious table learned from the same stays, and the optimum)."""
    world = icu_sepsis(masks=False)
    # Just below 1: where few stays passed, the model of a log may hold a cycle without an end.
    tabular = lambda **how: float(world.performance(empirical(stays, **how).mdp.optimum(0.9999).policy[:-1], 1.0))
    return world, {
        "behaviour": float(world.performance(clinician(), 1.0)),
        "naive": tabular(),
        "cautious": tabular(threshold=20),
        "optimum": float(world.optimum(1.0).v @ np.asarray(world.start)),
    }
