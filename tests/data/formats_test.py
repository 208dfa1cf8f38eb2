"""Readers of the files that offline RL publishes."""

import contextlib
import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from topstitch.core import Box, Discrete, Image
from topstitch.data import BadData
from topstitch.data.formats.d3rlpy import read_d3rlpy
from topstitch.data.formats.d4rl import read_d4rl
from topstitch.data.formats.ogbench import read_ogbench


def hdf5(path: Path, columns: dict) -> Path:
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            file[name] = column
    return path


def refused(read, path, *words):
    with pytest.raises(BadData) as caught:
        read(path)
    for word in words:
        assert str(word) in str(caught.value), str(caught.value)


def battered(read, path: Path, flips: int):
    """Files cut short are refused; flipped bits are refused, or fall where they only change a number."""
    data = path.read_bytes()
    for cut in np.linspace(0, len(data) - 1, 12).astype(int):
        path.write_bytes(data[:cut])
        refused(read, path, path.name)
    chance = random.Random(0)
    for _ in range(flips):
        broken = bytearray(data)
        broken[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(broken))
        with contextlib.suppress(BadData), np.errstate(all="ignore"):
            read(path)


# D4RL -------------------------------------------------------------------------------------------------------------------


def d4rl(n: int = 7) -> dict:
    """An episode of three steps that ends, one of two that is cut, and one of two that the file cuts."""
    obs = np.stack([np.arange(n), np.arange(n) ** 2], axis=1).astype(np.float32)
    return {
        "observations": obs,
        "actions": np.linspace(-1, 1, n, dtype=np.float32)[:, None],
        "rewards": np.arange(n, dtype=np.float32),
        "terminals": np.arange(n) == 2,
        "timeouts": np.isin(np.arange(n), [2, 4]),
    }


def test_d4rl_keeps_terminals_and_timeouts_apart(tmp_path):
    log = read_d4rl(hdf5(tmp_path / "a.hdf5", d4rl() | {"infos/action_log_probs": np.full(7, -0.5), "infos/qpos": np.zeros((7, 3))}))
    assert log.lengths.tolist() == [3, 1, 1]
    assert log.reward.tolist() == [0, 1, 2, 3, 5]
    assert log.terminal.tolist() == [False, False, True, False, False]  # both marks in one row: it truly ended
    assert log.next_obs[~log.terminal, 0].tolist() == [1, 2, 4, 6]
    assert (log.log_prob == -0.5).all()
    assert log.spec.action == Box(1)
    assert any("2 of 3" in note for note in log.notes)


def test_d4rl_drops_nothing_where_next_observations_are_stored(tmp_path):
    columns = d4rl()
    columns["next_observations"] = columns["observations"] + 100
    columns["next_observations"][[0, 1, 3, 5]] = columns["observations"][[1, 2, 4, 6]]
    log = read_d4rl(hdf5(tmp_path / "a.hdf5", columns))
    assert log.lengths.tolist() == [3, 2, 2]
    assert log.next_obs[4, 0] == 104
    assert log.terminal.sum() == 1
    del columns["timeouts"]  # the break can be seen in the observations
    other = read_d4rl(hdf5(tmp_path / "b.hdf5", columns))
    assert other.fingerprint() == log.fingerprint()
    assert any("no 'timeouts'" in note for note in other.notes)
    assert any("cut there" in note for note in other.notes)


def test_d4rl_takes_further_arrays_along(tmp_path):
    path = hdf5(tmp_path / "a.hdf5", d4rl() | {"infos/qpos": np.arange(21.0).reshape(7, 3), "infos/action_log_probs": np.full(7, np.nan)})
    log = read_d4rl(path, info=["infos/qpos"])
    assert log.info["qpos"][:, 0].tolist() == [0, 3, 6, 9, 15]
    assert log.log_prob is None
    assert any("action_log_probs" in note for note in log.notes)
    refused(lambda p: read_d4rl(p, info=["infos/qvel"]), path, "'infos/qvel'", "'infos/qpos'")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rewards": np.array([0, 0, np.nan, 0, 0, 0, 0])}, ["'rewards'", "row 3"]),
        ({"observations": np.full((7, 2), np.inf)}, ["'observations'", "row 1"]),
        ({"rewards": np.full(7, 1e200)}, ["'rewards'", "row 1"]),
        ({"actions": np.zeros((6, 1))}, ["'actions'", "6 rows", "7"]),
        ({"terminals": np.array([0, 0, 2, 0, 0, 0, 0])}, ["'terminals'", "row 3", "0 or 1"]),
        ({"rewards": np.zeros((7, 2))}, ["'rewards'", "(7, 2)"]),
        ({"actions": np.array([b"left"] * 7)}, ["'actions'", "numbers"]),
        ({"next_observations": np.zeros((7, 3))}, ["'next_observations'", "(7, 3)"]),
        ({name: column[:0] for name, column in d4rl().items()}, ["empty"]),
    ],
)
def test_d4rl_faults_are_named(tmp_path, change, words):
    refused(read_d4rl, hdf5(tmp_path / "a.hdf5", d4rl() | change), "a.hdf5", *words)


@pytest.mark.parametrize("missing", ["observations", "actions", "rewards", "terminals"])
def test_d4rl_names_what_is_missing(tmp_path, missing):
    columns = d4rl()
    del columns[missing]
    refused(read_d4rl, hdf5(tmp_path / "a.hdf5", columns), repr(missing))


def test_damaged_hdf5(tmp_path):
    battered(read_d4rl, hdf5(tmp_path / "a.hdf5", d4rl()), flips=80)
    (tmp_path / "b.hdf5").write_bytes(b"no HDF5 at all")
    refused(read_d4rl, tmp_path / "b.hdf5", "HDF5", "b.hdf5")
    refused(read_d4rl, tmp_path / "c.hdf5", "no such file", "b.hdf5")


# d3rlpy -----------------------------------------------------------------------------------------------------------------


def d3rlpy() -> dict:
    return {
        "observations": np.arange(12, dtype=np.float32).reshape(6, 2),
        "actions": np.array([0, 1, 2, 0, 1, 0], np.int32),
        "rewards": np.arange(6, dtype=np.float32),
        "terminals": np.float32([0, 1, 1, 0, 0, 0]),
        "episode_terminals": np.float32([0, 0, 1, 0, 0, 1]),
        "discrete_action": True,
        "version": "1.0",
    }


def test_d3rlpy(tmp_path):
    log = read_d3rlpy(hdf5(tmp_path / "a.h5", d3rlpy()))
    assert log.lengths.tolist() == [3, 2]
    assert log.terminal.tolist() == [False, False, True, False, False]
    assert log.spec.action == Discrete(3)
    assert any("row before the last in 1 episodes" in note for note in log.notes)


def test_d3rlpy_faults_are_named(tmp_path):
    refused(read_d3rlpy, hdf5(tmp_path / "a.h5", d3rlpy() | {"terminals": np.float32([1, 0, 1, 0, 0, 0])}), "row 1", "goes on")
    refused(read_d3rlpy, hdf5(tmp_path / "b.h5", {"observations_0": np.zeros(3)}), "d3rlpy 2")
    refused(read_d3rlpy, hdf5(tmp_path / "c.h5", d4rl()), "'episode_terminals'")
    battered(read_d3rlpy, hdf5(tmp_path / "d.h5", d3rlpy()), flips=60)


@pytest.mark.parametrize("name", ["pendulum_v1.1.0.h5", "pendulum_random_v1.1.0.h5"])
def test_pendulum_obeys_its_formula(shared, name):
    """The reward of a row is that of its observation and action, and the action leads to the next observation."""
    log = read_d3rlpy(shared / "d3rlpy_h5" / name)
    angle, speed, torque = np.arctan2(log.obs[:, 1], log.obs[:, 0]), log.obs[:, 2], log.action[:, 0]
    assert np.allclose(log.reward, -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2), atol=1e-4)
    assert np.allclose(log.next_obs[:, 2], np.clip(speed + 0.05 * (15 * np.sin(angle) + 3 * torque), -8, 8), atol=1e-4)
    assert len(log) == 500
    assert not log.terminal.any()


@pytest.mark.parametrize("name", ["cartpole_v1.1.0.h5", "cartpole_random_v1.1.0.h5"])
def test_cartpole_falls_where_it_is_terminal(shared, name):
    log = read_d3rlpy(shared / "d3rlpy_h5" / name)
    here, there = log.obs + 0.02 * np.roll(log.obs, -1, axis=1), ~log.terminal  # position and angle move by their speeds
    assert np.allclose(log.next_obs[there][:, [0, 2]], here[there][:, [0, 2]], atol=1e-5)
    fallen = (np.abs(here[:, 0]) > 2.4) | (np.abs(here[:, 2]) > np.radians(12))
    assert np.array_equal(log.terminal, fallen)


# OGBench ----------------------------------------------------------------------------------------------------------------


def ogbench() -> dict:
    """A trajectory of three steps and one of two; each has an observation more."""
    return {
        "observations": np.arange(14, dtype=np.float32).reshape(7, 2),
        "actions": np.linspace(-1, 1, 7, dtype=np.float32)[:, None],
        "terminals": np.array([0, 0, 0, 1, 0, 0, 1], bool),
        "qpos": np.arange(7.0),
    }


def npz(path: Path, columns: dict) -> Path:
    np.savez_compressed(path, **columns)
    return path


def test_ogbench_trajectories_have_one_observation_more(tmp_path):
    log = read_ogbench(npz(tmp_path / "a.npz", ogbench()), info=["qpos"])
    assert log.lengths.tolist() == [3, 2]
    assert log.obs[:, 0].tolist() == [0, 2, 4, 8, 10]
    assert log.next_obs[:, 0].tolist() == [2, 4, 6, 10, 12]
    assert not log.terminal.any()
    assert not log.reward.any()
    assert any("every reward is 0" in note for note in log.notes)
    assert log.info["qpos"].tolist() == [0, 1, 2, 4, 5]
    assert log.view.action.scale.tolist() == [1]


def test_ogbench_rewards_are_given(tmp_path):
    path = npz(tmp_path / "a.npz", ogbench())
    assert read_ogbench(path, reward=np.arange(7)).reward.tolist() == [0, 1, 2, 4, 5]
    assert read_ogbench(path, reward=lambda obs, action, next_obs: next_obs[:, 0]).reward.tolist() == [2, 4, 6, 10, 12]
    refused(lambda p: read_ogbench(p, reward=np.arange(5)), path, "'reward'", "5 rows", "7")
    refused(lambda p: read_ogbench(p, reward=np.full(7, np.nan)), path, "'reward'", "row 1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"terminals": np.zeros(7, bool)}, ["last row"]),
        ({"terminals": np.array([1, 0, 0, 1, 0, 0, 1])}, ["row 1", "of its own"]),
        ({"actions": np.full((7, 1), 2.0)}, ["outside"]),
        ({"actions": np.zeros((6, 1))}, ["'actions'", "6 rows"]),
        ({"observations": np.full((7, 2), np.nan)}, ["'observations'", "row 1"]),
        ({"terminals": np.zeros(0)}, ["empty"]),
        ({"observations": np.array([{}] * 7, dtype=object)}, ["pickled"]),
    ],
)
def test_ogbench_faults_are_named(tmp_path, change, words):
    refused(read_ogbench, npz(tmp_path / "a.npz", ogbench() | change), *words)


def test_damaged_npz(tmp_path):
    battered(read_ogbench, npz(tmp_path / "a.npz", ogbench()), flips=150)
    np.save(tmp_path / "b.npy", np.zeros(3))
    refused(read_ogbench, (tmp_path / "b.npy").rename(tmp_path / "b.npz"), "single array")
    refused(read_ogbench, npz(tmp_path / "c.npz", {"W_0": np.zeros(3)}), "'observations'", "W_0")


def test_ogbench_samples(shared):
    for path in sorted((shared / "ogbench_samples").glob("*.npz")):
        with np.load(path) as file:
            n, ends = len(file["terminals"]), int(file["terminals"].sum())
            image = file["observations"].ndim == 4
        if n == 0:
            refused(read_ogbench, path, "empty")
        else:
            log = read_ogbench(path)
            assert (log.steps, len(log)) == (n - ends, ends)
            assert isinstance(log.spec.obs, Image) == image
