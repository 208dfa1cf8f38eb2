"""The one door, and the numbers of a log."""

import dataclasses
import json

import formats_test as published
import numpy as np
import pytest
from table_test import ROLES, stays, write

from topstitch.data import BadData, Episodes
from topstitch.data.profile import MOST, profile
from topstitch.data.read import read


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "parquet", "feather"])
def test_tables(tmp_path, ending):
    path = write(stays(), tmp_path / f"log.{ending}")
    assert read(path, **ROLES).fingerprint() == read(stays(), **ROLES).fingerprint()
    assert read([path], **ROLES).fingerprint() == read(stays(), **ROLES).fingerprint()


def test_published_files(tmp_path):
    assert len(read(published.hdf5(tmp_path / "a.hdf5", published.d4rl()))) == 3
    assert len(read(str(published.hdf5(tmp_path / "a.h5", published.d3rlpy())))) == 2
    assert len(read(published.npz(tmp_path / "a.npz", published.ogbench()), reward=np.arange(7))) == 2


def test_minari(shared, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(shared / "minari"))
    folder = shared / "minari" / "D4RL" / "door" / "human-v2"
    marks = {read(source).fingerprint() for source in ("D4RL/door/human-v2", folder, folder / "data" / "main_data.hdf5")}
    assert len(marks) == 1


def test_what_cannot_be_read(tmp_path):
    path = write(stays(), tmp_path / "log.csv")
    array = published.npz(tmp_path / "a.npz", published.ogbench())
    file = published.hdf5(tmp_path / "a.h5", published.d3rlpy())
    other = tmp_path / "log.xlsx"
    other.write_bytes(b"x")
    for source, roles, words in [
        (array, {"obs": "obs_*"}, ["'obs'", "tells its own columns"]),
        (file, {"action": "a"}, ["'action'", "Leave it out"]),
        (path, {}, ["'obs', 'action', 'reward'"]),
        (path, ROLES | {"rward": "r"}, ["'rward'", "roles are"]),
        (other, {}, ["'.xlsx'", ".parquet", ".npz", "Minari"]),
        (tmp_path / "lug.csv", ROLES, ["no such file", "'log.csv'"]),
        (tmp_path / "nowhere" / "log.csv", ROLES, ["no folder"]),
        (3, ROLES, ["int"]),
    ]:
        with pytest.raises(BadData) as caught:
            read(source, **roles)
        for word in words:
            assert word in str(caught.value), str(caught.value)


def test_profile_is_plain_numbers():
    log = read(stays(), **ROLES, probability="p", info="name")
    numbers = profile(log)
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers["episodes"] == 3
    assert numbers["steps"] == 8
    assert numbers["lengths"] == {"min": 1, "median": 3.0, "max": 4}
    assert numbers["ends"] == {"terminal": 2, "truncated": 1}
    assert numbers["action"]["counts"] == [3, 2, 3]
    assert numbers["obs"]["dimensions"] == 3
    assert numbers["obs"]["max"] == [2.0, 16.0, 0.0]
    assert numbers["returns"]["min"] == -1.5
    assert numbers["durations"] is None
    lasting = profile(dataclasses.replace(log, duration=np.array([1, 1, 1, 1, 2, 2, 2, 6], np.float32)))["durations"]
    assert lasting == {"min": 1.0, "mean": 2.0, "median": 1.5, "max": 6.0}
    assert numbers["probabilities"] is True
    assert numbers["masks"] is False
    assert numbers["info"] == ["name"]
    assert numbers["notes"] == list(log.notes)
    assert numbers["fingerprint"] == log.fingerprint()


def test_profile_of_wide_and_of_discrete_columns():
    wide = Episodes.of(np.zeros((4, MOST + 10)), np.linspace(0, 1, 4), np.ones(4), [0, 0, 0, 1])
    numbers = profile(wide)
    assert numbers["obs"]["dimensions"] == MOST + 10
    assert len(numbers["obs"]["mean"]) == MOST
    assert numbers["action"]["max"] == [1.0]
    tabular = Episodes.of(np.array([0, 2, 2, 0]), np.array([0, 1, 1, 1]), np.ones(4), [0, 0, 0, 1], states=4)
    assert profile(tabular)["obs"]["counts"] == [2, 0, 2, 0]
    assert profile(tabular)["obs"]["unseen"] == 2
