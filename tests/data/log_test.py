"""Our own file of a log, and logs joined and cut."""

import dataclasses

import episodes_test
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topstitch.core import Box, Discrete, Spec
from topstitch.data import BadData, Episodes
from topstitch.data.formats.log import read_log, write_log
from topstitch.data.read import read

FEW = settings(max_examples=25, deadline=None)


def same(a: Episodes, b: Episodes) -> None:
    """To the bit, with all that travels along."""
    assert (a.spec, a.source, a.notes, a.fingerprint()) == (b.spec, b.source, b.notes, b.fingerprint())
    assert (a.ids is None) == (b.ids is None) and (a.ids is None or (a.ids.dtype, a.ids.tolist()) == (b.ids.dtype, b.ids.tolist()))
    assert list(a.info) == list(b.info) and list(a.columns()) == list(b.columns())
    for name, column in [*a.columns().items(), ("stops", a.stops)]:
        other = b.stops if name == "stops" else b.columns()[name]
        assert column.dtype == other.dtype, name
        np.testing.assert_array_equal(column, other, name)


def log(action=None, **change) -> Episodes:
    """Three episodes of 2, 3 and 1 steps; the second is truncated."""
    n = np.arange(6.0)
    columns = dict(
        obs=np.stack([n, -n], axis=1), action=n.astype(int) % 3 if action is None else action, reward=n / 3,
        terminal=np.isin(n, [1, 5]), ends=np.isin(n, [1, 4, 5]), next_obs=np.stack([n + 1, n], axis=1), ids=["b", "a", "c"],
        info={"ward": np.array(["x", "y"] * 3).astype("S"), "row": np.arange(6)}, time=n * 2, log_prob=-n, source="here", notes=["so it is"],
    )  # fmt: skip
    if action is None:
        columns |= {"actions": 3, "mask": np.arange(3) <= n[:, None], "next_mask": np.ones((6, 3), bool)}
    return Episodes.of(**(columns | change))


SCALED = np.stack([np.linspace(-0.3, 0.7, 6), np.linspace(0, 10, 6)], axis=1)
LOGS = {
    "choices": lambda: log(info={"row": np.arange(6)}),
    "numbered episodes": lambda: log(ids=np.array([7, 5, 3]), info={}, duration=np.arange(1, 7) / 2),
    "no names, no columns": lambda: log(ids=None, info={}, time=None, log_prob=None, mask=None, next_mask=None, notes=[]),
    "vectors between bounds": lambda: log(action=SCALED, low=[-0.3, 0], high=[0.7, 10], info={"deep": np.ones((6, 2, 2), np.float16)}),
    "normalised": lambda: log(info={}).normalised(obs="standard", reward="range"),
    "numbered states": lambda: log(obs=np.arange(6), next_obs=np.arange(6), states=7, info={}),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_comes_back_to_the_bit(tmp_path, name):
    path, first = tmp_path / "a.log.safetensors", LOGS[name]()
    write_log(path, first)
    same(read_log(path), first)
    same(read(path), first)
    write_log(tmp_path / "again", read_log(path))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@FEW
@given(episodes_test.logs(known_next=True))
def test_any_log_comes_back(tmp_path_factory, drawn):
    path, first = tmp_path_factory.mktemp("log") / "a.log.safetensors", Episodes.of(**drawn[0])
    write_log(path, first)
    same(read_log(path), first)


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "a.log.safetensors"
    write_log(path, LOGS["choices"]())
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:-1], whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]):
        path.write_bytes(content)
        with pytest.raises(BadData, match=r"a\.log\.safetensors.*Make it again"):
            read_log(path)
    with pytest.raises(BadData, match="no such file"):
        read_log(tmp_path / "b.log.safetensors")


def test_files_that_are_whole_but_no_log(tmp_path):
    from topstitch.disk import write

    path = tmp_path / "a.log.safetensors"
    arrays = {"obs": np.zeros((2, 1), np.float32), "reward": np.zeros(2, np.float32)}
    spec = {"obs": ["Box", 1], "action": ["Discrete", 2]}
    rest = {"spec": spec, "ids": None, "source": "s", "notes": []}
    for kind, held, content in (
        ("policy", arrays, rest),
        ("log", arrays, rest),
        ("log", arrays | {"weather": np.zeros(2)}, rest),
        ("log", arrays, {"ids": None}),
        ("log", arrays, rest | {"spec": {"obs": ["Ball", 1], "action": ["Discrete", 2]}}),
    ):
        write(path, kind, held, content)
        with pytest.raises(BadData, match="Make it again"):
            read_log(path)
    write_log(path, log(info={}))
    broken = dataclasses.replace(log(info={}), terminal=np.zeros(6, bool))
    object.__setattr__(broken, "reward", np.full(6, np.nan, np.float32))
    write_log(path, broken)
    with pytest.raises(BadData, match="'reward' is not a finite number"):
        read_log(path)


# joined and cut -------------------------------------------------------------------------------------------------------------


def test_joined_logs_follow_one_another():
    a = LOGS["numbered episodes"]()
    b = dataclasses.replace(a, ids=np.array([1, 2, 4]), source="there", notes=("so it is", "or not"), reward=a.reward + 1)
    both = Episodes.join(a, b)
    assert (len(both), both.steps, both.source, both.notes) == (6, 12, "here + there", ("so it is", "or not"))
    assert both.ids.tolist() == [7, 5, 3, 1, 2, 4] and both.lengths.tolist() == [2, 3, 1, 2, 3, 1]
    for name, column in both.columns().items():
        np.testing.assert_array_equal(column, np.concatenate([a.columns()[name], b.columns()[name]]))
    for part, which in ((a, [0, 1, 2]), (b, [3, 4, 5])):
        assert both.take(which).fingerprint() == part.fingerprint()
    assert Episodes.join(a, a).ids is None  # names that come twice name nothing
    assert Episodes.join(a, dataclasses.replace(b, ids=None), source="both").source == "both"
    same(Episodes.join(a), a)
    assert Episodes.join(LOGS["choices"](), LOGS["choices"]()).info["row"].tolist() == [*range(6), *range(6)]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"spec": Spec(Box(2), Discrete(4))}, "spaces"),
        ({"log_prob": None}, "columns"),
        ({"info": {"row": np.arange(6)}}, "columns"),
        ({"view": LOGS["normalised"]().view}, "view"),
    ],
)
def test_logs_that_differ_are_not_joined(change, what):
    a = LOGS["numbered episodes"]()
    if "spec" in change:
        change = change | {"mask": None, "next_mask": None}
        a = dataclasses.replace(a, mask=None, next_mask=None)
    with pytest.raises(BadData, match=f"the same {what}, but here has .* and there has"):
        Episodes.join(a, dataclasses.replace(a, source="there", **change))


@FEW
@given(episodes_test.logs(known_next=True), st.data())
def test_a_head_is_what_was_logged_first(drawn, data):
    log = Episodes.of(**drawn[0])
    steps = data.draw(st.integers(1, log.steps + 3))
    head = log.head(steps)
    assert head.steps == min(steps, log.steps)
    for name, column in head.columns().items():
        np.testing.assert_array_equal(column, log.columns()[name][:steps])
    assert head.lengths[:-1].tolist() == log.lengths[: len(head) - 1].tolist() and head.ids.tolist() == log.ids[: len(head)].tolist()
    assert head.truncated[-1] == (not log.terminal[head.steps - 1])
    assert (head is log) == (steps >= log.steps)
