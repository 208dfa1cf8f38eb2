"""A ward: patients move between a few states, and each step ends, a quarter of the time, in survival (1) or death (0)."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from topstitch.data import Episodes
from topstitch.worlds import MDP, sample

STATES, ACTIONS = 5, 3


class Ward(NamedTuple):
    mdp: MDP
    practice: np.ndarray
    better: np.ndarray
    "The best action more often."
    log: Episodes


def world(effect: float) -> MDP:
    rng, n = np.random.default_rng(0), STATES + 2
    chance = np.linspace(0.4, 0.7, STATES)[:, None] + effect * np.array([-1, 0, 1.0])
    transition = np.zeros((n, ACTIONS, n))
    transition[:STATES, :, :STATES] = 0.75 * rng.dirichlet(np.ones(STATES), STATES)[:, None]
    transition[:STATES, :, STATES], transition[:STATES, :, STATES + 1] = 0.25 * chance, 0.25 * (1 - chance)
    reward = np.zeros((1, 1, n))
    reward[..., STATES] = 1
    return MDP(transition, reward, np.append(np.full(STATES, 1 / STATES), [0, 0]), np.arange(n) >= STATES)


def ward(effect: float, episodes: int, seed: int = 0) -> Ward:
    mdp = world(effect)
    practice = np.tile([0.3, 0.4, 0.3], (mdp.states, 1))
    better = practice + 0.15 * np.array([-1, 0, 1])
    return Ward(mdp, practice, better, sample(mdp, practice, episodes, horizon=40, key=jax.random.key(seed)))


@pytest.fixture(scope="session")
def gaining() -> Ward:
    """Much can be gained."""
    return ward(0.3, 3000)


@pytest.fixture(scope="session")
def idle() -> Ward:
    """Nothing can."""
    return ward(0.0, 3000, seed=1)
