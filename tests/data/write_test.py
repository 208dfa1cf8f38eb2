"""Logs as tables and as Minari data sets, and read back."""

import dataclasses
import json
import os

import numpy as np
import pytest
from log_test import LOGS, log, same

from topstitch.data import BadData, Episodes
from topstitch.data.formats.table import read_table, write_table
from topstitch.data.read import read
from topstitch.data.write import target, write

VECTORS = LOGS["vectors between bounds"]


def chained(made: Episodes, **change) -> Episodes:
    """The same log where every row sees what the row before it led to."""
    inner = np.setdiff1d(np.arange(made.steps), made.stops - 1)
    next_obs, more = made.next_obs.copy(), {}
    next_obs[inner] = made.obs[inner + 1]
    if made.mask is not None:
        more["next_mask"] = made.next_mask.copy()
        more["next_mask"][inner] = made.mask[inner + 1]
    return dataclasses.replace(made, next_obs=next_obs, **(more | change))


# tables --------------------------------------------------------------------------------------------------------------------


def without_unknown_ends(made: Episodes) -> Episodes:
    """What a table can hold: no last step of a truncated episode, whose outcome it does not tell."""
    keep = ~made.truncated
    columns = {name: column[keep] for name, column in made.columns().items() if not name.startswith("info/")}
    info = {name: column[keep] for name, column in made.info.items()}
    return dataclasses.replace(made, **columns, info=info, stops=np.cumsum(made.lengths - made.truncated[made.stops - 1]))


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("choices", {"episode", "time", "obs", "action", "reward", "terminal", "truncated", "probability", "mask", "actions", "info"}),
        ("no names, no columns", {"episode", "obs", "action", "reward", "terminal", "truncated", "actions"}),
        ("numbered states", {"episode", "time", "obs", "action", "reward", "terminal", "truncated", "probability", "mask", "states", "actions"}),
        ("vectors", {"episode", "time", "obs", "action", "reward", "terminal", "truncated", "log_probability", "low", "high", "info"}),
    ],
)  # fmt: skip
def test_a_table_gives_the_log_back(tmp_path, name, roles):
    path = tmp_path / "log.parquet"
    first = chained(VECTORS() if name == "vectors" else LOGS[name]())
    if name == "vectors":
        first = dataclasses.replace(first, info={"ward": np.array(["x", "y"] * 3)})
    said = write_table(first, path)
    assert set(said) == roles
    back, wanted = read_table(path, **said), without_unknown_ends(first)
    json.dumps(said)
    assert any("1 of 3 episodes are truncated" in note for note in back.notes)
    if first.ids is None:
        wanted = dataclasses.replace(wanted, ids=np.arange(3))
    if "time" in said:
        assert back.time.tolist() == wanted.time.tolist()
    terminal = wanted.terminal
    for column in ("obs", "action", "reward", "terminal", "mask", "log_prob", "stops", "ids"):
        np.testing.assert_array_equal(getattr(back, column), getattr(wanted, column), column)
    np.testing.assert_array_equal(back.next_obs[~terminal], wanted.next_obs[~terminal])
    assert back.spec == wanted.spec and list(back.info) == list(wanted.info)
    if name == "vectors":
        np.testing.assert_array_equal([back.view.action.shift, back.view.action.scale], [first.view.action.shift, first.view.action.scale])


def test_names_of_columns_do_not_clash(tmp_path):
    made = log(info={"reward": np.arange(6), "obs_2": np.arange(6), "ward": np.arange(6)})
    said = write_table(made, tmp_path / "log.parquet")
    assert said["info"] == ["info_reward", "info_obs_2", "ward"]
    assert read_table(tmp_path / "log.parquet", **said).spec == made.spec


def test_steps_are_numbered_where_there_are_no_times(tmp_path):
    said = write_table(LOGS["no names, no columns"](), tmp_path / "log.parquet")
    assert read_table(tmp_path / "log.parquet", **said, time="time").time.tolist() == [0, 1, 0, 1, 0]


# Minari --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["choices", "no names, no columns", "numbered states", "vectors"])
def test_minari_gives_the_log_back(root, name):
    first = chained(VECTORS() if name == "vectors" else LOGS[name](), info={}, time=None, ids=np.arange(3), source="probe/log-v0", notes=())
    assert write(first, "probe/log-v0") == {}
    same(read("probe/log-v0"), first)
    write(first, "./folder")
    same(dataclasses.replace(read("folder"), source="probe/log-v0"), first)


def test_minari_sees_what_it_should(root):
    import minari

    first = chained(log(info={"ward": np.array(["x", "y"] * 3), "row": np.arange(6)}))
    write(first, "hopper/of/probe-v3", env="CartPole-v1", about={"level": 0.5}, seeds=np.array([7, 8, 9]))
    stored = minari.load_dataset("hopper/of/probe-v3")
    assert (stored.total_episodes, stored.total_steps, stored.env_spec.id) == (3, 6, "CartPole-v1")
    assert stored.storage.metadata["topstitch"] == {"env": "CartPole-v1", "level": 0.5}
    assert stored.storage.metadata["description"] == "so it is"
    assert [told["seed"] for told in stored.storage.get_episode_metadata([0, 1, 2])] == [7, 8, 9]
    episode = stored[1]
    assert episode.infos["ward"].tolist() == [b"x", b"y", b"x"] and episode.infos["row"].tolist() == [2, 3, 4]
    assert episode.infos["action_mask"].shape == (4, 3) and episode.infos["log_prob"].tolist() == [-2, -3, -4]
    assert episode.truncations.tolist() == [False, False, True] and not episode.terminations.any()
    assert "hopper/of/probe-v3" in minari.list_local_datasets() and minari.namespace.list_local_namespaces() == ["hopper", "hopper/of"]
    write(first, "odd name", env="Nowhere-v0")
    assert minari.MinariDataset("odd name/data").spec.dataset_id == "odd-name-v0"


def test_a_chain_that_is_broken_is_refused(root):
    made = chained(log())
    made.next_obs[2] += 1
    with pytest.raises(BadData, match="'next_obs' of row 2"):
        write(made, "probe/log-v0")
    made = chained(log())
    made.next_mask[0] = True
    with pytest.raises(BadData, match="'next_mask' of row 0"):
        write(made, "probe/log-v0")
    assert not (root / "minari").exists()


def test_nothing_half_written_is_left(root, monkeypatch):
    from minari.dataset._storages.hdf5_storage import HDF5Storage

    def fail(self, episodes):
        next(iter(episodes))
        assert not (root / "set").exists()
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(HDF5Storage, "update_episodes", fail)
        with pytest.raises(OSError, match="disk is full"):
            write(chained(log()), "set")
    assert list(root.iterdir()) == []
    (root / f".set.{os.getpid()}").mkdir()  # of a process that was killed
    write(chained(log()), "set")
    assert [path.name for path in root.iterdir()] == ["set"]


def test_infos_that_do_not_fit_are_left_out(root):
    made = chained(log(ids=None, info={}))
    forbids = dataclasses.replace(made, action=made.action.copy())
    forbids.action[0] = 2  # only 0 is allowed there
    write(forbids, "set")
    back = read("set")
    assert back.mask is None and any("action_mask" in note for note in back.notes)
    object.__setattr__(made, "log_prob", np.array([0, np.nan, 0, 0, 0, 0], np.float32))
    write(made, "other")
    assert read("other").log_prob is None and read("other").mask is not None


# names ---------------------------------------------------------------------------------------------------------------------


def test_where_a_log_goes(root):
    assert target("a.log.safetensors").name == "a.log.safetensors" and target("a.parquet").name == "a.parquet"
    assert target("aa/b-v0") == root / "minari" / "aa" / "b-v0"
    assert str(target("a/b")) == "a/b" and str(target("./b-v0")) == "b-v0" and str(target(root / "b-v0")) == str(root / "b-v0")
    with pytest.raises(ValueError, match="two letters"):
        target("a/b-v0")
    for name in ("a.csv", "a.hdf5", "a.npz", "a.safetensors"):
        with pytest.raises(ValueError, match=rf"not as {name[1:]}"):
            target(name)
    made = chained(log(info={}))
    for name in ("a.log.safetensors", "a.parquet", "aa/b-v0", "a/b"):
        write(made, name)
        with pytest.raises(FileExistsError, match="not overwritten"):
            write(made, name)
    from topstitch.data.formats.minari import write_minari

    with pytest.raises(FileExistsError, match="not overwritten"):
        write_minari(made, "aa/b-v0")
