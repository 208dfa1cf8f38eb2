"""Minari data sets, written by Minari itself."""

import json
import sys

import numpy as np
import pytest

from topstitch.core import Box, Discrete
from topstitch.data import BadData
from topstitch.data.formats.minari import read_minari

minari = pytest.importorskip("minari")
spaces = pytest.importorskip("gymnasium").spaces

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def write(name, seen, acted, *, lengths=(3, 2), ended=(True, False), obs=None, **change):
    from minari.data_collector import EpisodeBuffer

    rng = np.random.default_rng(0)
    seen.seed(0)
    acted.seed(0)
    buffers = []
    for number, (n, terminal) in enumerate(zip(lengths, ended)):
        last = np.arange(n) == n - 1
        columns = dict(
            observations=[seen.sample() for _ in range(n + 1)] if obs is None else obs(n + 1),
            actions=[acted.sample() for _ in range(n)],
            rewards=list(rng.normal(size=n)),
            terminations=list(last & terminal),
            truncations=list(last & (not terminal)),
        )
        buffers.append(EpisodeBuffer(id=number, **(columns | {key: value(n) for key, value in change.items()})))
    minari.create_dataset_from_buffers(name, buffers, observation_space=seen, action_space=acted)
    return buffers


BOX, CHOICE = spaces.Box(-2, 3, (2,), np.float32), spaces.Discrete(4)


def test_nothing_is_dropped_and_ends_stay_apart(root):
    buffers = write("probe/box-v0", BOX, BOX)
    log = read_minari("probe/box-v0")
    assert log.lengths.tolist() == [3, 2]
    assert log.terminal.tolist() == [False, False, True, False, False]
    assert np.allclose(log.obs[:3], np.asarray(buffers[0].observations)[:3])
    assert np.allclose(log.next_obs[3:], np.asarray(buffers[1].observations)[1:])
    assert log.view.action.shift.tolist() == [0.5, 0.5]
    assert log.view.action.scale.tolist() == [2.5, 2.5]
    assert log.ids.tolist() == [0, 1]
    assert read_minari(root / "probe" / "box-v0").fingerprint() == log.fingerprint()
    assert read_minari(root / "probe" / "box-v0" / "data").fingerprint() == log.fingerprint()
    assert read_minari("probe/box-v0", low=-5, high=5).view.action.scale.tolist() == [5, 5]


def test_discrete_spaces_count_from_zero(root):
    shifted = spaces.Discrete(4, start=10)
    buffers = write("probe/discrete-v0", shifted, shifted)
    log = read_minari("probe/discrete-v0")
    assert log.spec.obs == Discrete(4)
    assert log.spec.action == Discrete(4)
    assert (log.action[:3] + 10).tolist() == [int(a) for a in buffers[0].actions]


def test_parts_of_observations_lie_side_by_side(root):
    inner = spaces.Dict(
        {"b": spaces.Box(-1, 1, (2, 2), np.float32), "a": spaces.Discrete(3), "c": spaces.Tuple([BOX, spaces.MultiBinary(2)])}
    )
    seen = inner.sample()

    def obs(n):
        return {
            "a": np.arange(n) % 3,
            "b": np.stack([np.full((2, 2), i / 10, np.float32) for i in range(n)]),
            "c": (np.stack([np.full(2, i, np.float32) / 4 for i in range(n)]), np.ones((n, 2), np.int8)),
        }

    write("probe/dict-v0", inner, CHOICE, obs=obs)
    log = read_minari("probe/dict-v0")
    assert set(seen) == {"a", "b", "c"}
    assert log.spec.obs == Box(11)
    assert np.allclose(log.obs[1], [0, 1, 0, 0.1, 0.1, 0.1, 0.1, 0.25, 0.25, 1, 1])
    assert any("a (3), b (4), c/0 (2), c/1 (2)" in note for note in log.notes)


@pytest.mark.parametrize(
    ("seen", "acted", "words"),
    [
        (spaces.Box(0, 255, (4, 8, 8), np.uint8), CHOICE, ["channels seem to come first"]),
        (spaces.Dict({"view": spaces.Box(0, 255, (4, 4, 3), np.uint8)}), CHOICE, ["view", "image"]),
        (BOX, spaces.MultiBinary(3), ["MultiBinary", "actions"]),
    ],
)
def test_spaces_that_are_refused(root, seen, acted, words):
    name = "probe/refused-v0"
    obs = (lambda n: {"view": np.zeros((n, 4, 4, 3), np.uint8)}) if isinstance(seen, spaces.Dict) else None
    write(name, seen, acted, obs=obs)
    with pytest.raises(BadData) as caught:
        read_minari(name)
    for word in words:
        assert word in str(caught.value)


def test_faults_are_named(root):
    write("probe/nan-v0", BOX, BOX, rewards=lambda n: [0.0, np.nan, 0.0][:n])
    with pytest.raises(BadData, match="episode 0: 'rewards', row 2"):
        read_minari("probe/nan-v0")
    write("probe/goes-on-v0", BOX, BOX, terminations=lambda n: [True] * n)
    with pytest.raises(BadData, match="episode 0: step 1 is marked as an end"):
        read_minari("probe/goes-on-v0")
    write("probe/open-v0", BOX, BOX, truncations=lambda n: [False] * n)
    assert any("1 episodes" in note for note in read_minari("probe/open-v0").notes)


def test_missing_sets_name_the_closest(root):
    write("probe/box-v0", BOX, BOX)
    with pytest.raises(BadData, match=r"'probe/box-v0'.*download=True"):
        read_minari("probe/bix-v0")
    with pytest.raises(BadData, match="folder that holds"):
        read_minari(root)


def test_download_is_asked_for(root, monkeypatch):
    asked = []

    def download(name):
        asked.append(name)
        write(name, BOX, BOX)

    monkeypatch.setattr(minari, "download_dataset", download)
    assert len(read_minari("probe/far-v0", download=True)) == 2
    read_minari("probe/far-v0", download=True)  # it is there now
    assert asked == ["probe/far-v0"]

    def fail(name):
        raise ConnectionError("no route")

    monkeypatch.setattr(minari, "download_dataset", fail)
    with pytest.raises(BadData, match="no route"):
        read_minari("probe/further-v0", download=True)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r"topstitch\[minari\]"):
        read_minari("probe/box-v0")


def test_damaged_sets(root):
    write("probe/box-v0", BOX, BOX)
    folder = root / "probe" / "box-v0" / "data"
    data = (folder / "main_data.hdf5").read_bytes()
    for cut in np.linspace(0, len(data) - 1, 8).astype(int):
        (folder / "main_data.hdf5").write_bytes(data[:cut])
        with pytest.raises(BadData, match="box-v0"):
            read_minari("probe/box-v0")
    (folder / "main_data.hdf5").write_bytes(data)
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps(metadata)[:-20])
    with pytest.raises(BadData, match="metadata"):
        read_minari("probe/box-v0")
    del metadata["observation_space"]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(BadData, match="run the code"):
        read_minari("probe/box-v0")


def test_human_demonstrations(shared, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(shared / "minari"))
    log = read_minari("D4RL/door/human-v2")
    assert (len(log), log.steps) == (25, 6729)
    assert log.spec.obs == Box(39)
    assert log.spec.action == Box(28)
    assert log.truncated.sum() == 25
