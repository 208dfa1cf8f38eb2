"""Descriptions of small logs of every kind, as `study.describe` makes them."""

import functools

import numpy as np

from topstitch.data import Episodes
from topstitch.study.describe import describe


def rows(n=240, length=8, seed=0):
    """(generator, observations, last rows, terminal ones)."""
    rng = np.random.default_rng(seed)
    ends = np.arange(n) % length == length - 1
    return rng, rng.normal(size=(n, 3)), ends, ends & (np.arange(n) % (2 * length) == length - 1)


def of(obs, action, reward, ends, terminal, **more) -> Episodes:
    return Episodes.of(obs, action, reward, terminal, ends=ends, next_obs=np.concatenate([obs[1:], obs[:1]]), **more)


@functools.cache
def numbered() -> dict:
    """Four states, three choices, recorded probabilities; a return of 0 or 1."""
    rng, _, ends, _ = rows(600, 6)
    state = rng.integers(4, size=600)
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4], [0.05, 0.05, 0.9]])
    action = (p[state].cumsum(axis=1) < rng.random((600, 1))).sum(axis=1)
    reward = ends * (rng.random(600) < 0.7)
    return describe(of(state, action, reward, ends, ends, states=4, actions=3, probability=p[state, action], source="stays.csv"))


@functools.cache
def vectors() -> dict:
    """35 columns and two continuous actions; half of the episodes are cut off."""
    rng, _, ends, terminal = rows()
    obs = rng.normal(size=(240, 35))
    action = np.clip(0.2 * obs[:, :2] + 0.3 * rng.normal(size=(240, 2)), -1, 1)
    return describe(of(obs, action, rng.normal(size=240), ends, terminal, low=-1.0, high=1.0, source="plant"))


@functools.cache
def one_step() -> dict:
    rng = np.random.default_rng(0)
    action = rng.integers(4, size=400)
    return describe(Episodes.of(rng.normal(size=(400, 2)), action, (action == 1) * rng.normal(size=400), np.ones(400), probability=np.full(400, 0.25), source="ads"))  # fmt: skip


@functools.cache
def choices() -> dict:
    rng, obs, ends, terminal = rows()
    return describe(of(obs, rng.integers([2, 3], size=(240, 2)), rng.normal(size=240), ends, terminal, actions=(2, 3)))


@functools.cache
def pictures() -> dict:
    rng, _, ends, terminal = rows()
    obs = rng.integers(256, size=(240, 9, 9, 1), dtype=np.uint8)
    return describe(of(obs, rng.integers(2, size=240), rng.normal(size=240), ends, terminal))


@functools.cache
def one_episode() -> dict:
    rng, obs, ends, _ = rows(20, 20)
    return describe(of(obs, rng.integers(2, size=20), rng.normal(size=20), ends, ends))


@functools.cache
def one_row() -> dict:
    return describe(Episodes.of(np.zeros((1, 1)), np.zeros((1, 1)), [0.0], [1]))


ALL = {each.__name__: each for each in (numbered, vectors, one_step, choices, pictures, one_episode, one_row)}
