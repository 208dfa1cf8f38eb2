"""Laws of `Episodes`, on logs of random shape."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topstitch.core import Box, Discrete
from topstitch.data import BadData, Episodes

SMALL = settings(max_examples=40, deadline=None)


@st.composite
def logs(draw, *, known_next=None):
    """(arguments of `Episodes.of`, the length of each episode, whether it truly ended)."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    ended = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    n, last = sum(lengths), np.cumsum(lengths) - 1
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ends = np.isin(np.arange(n), last)
    terminal = np.isin(np.arange(n), last[np.asarray(ended)])
    episode = np.repeat(np.arange(len(lengths)), lengths)
    # an observation is (episode, step): where it leads can be read off it
    obs = np.stack([episode, np.arange(n) - np.repeat(last + 1 - lengths, lengths)], axis=1).astype(np.float32)
    discrete = draw(st.booleans())
    action = rng.integers(0, 3, n) if discrete else rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    columns = dict(obs=obs, action=action, reward=rng.normal(size=n).astype(np.float32), terminal=terminal, ends=ends)
    columns |= dict(ids=np.arange(len(lengths)) + 100, time=np.arange(n), info={"row": np.arange(n)}, probability=rng.uniform(0.1, 1, n))
    if discrete:
        columns |= dict(actions=3, mask=rng.uniform(size=(n, 3)) < 0.5)
        columns["mask"][np.arange(n), action] = True
    if known_next if known_next is not None else draw(st.booleans()):
        columns["next_obs"] = obs + np.float32([0, 1])
        if discrete:
            columns["next_mask"] = np.ones((n, 3), bool)
    return columns, np.asarray(lengths), np.asarray(ended)


def made(columns, lengths, ended) -> Episodes | None:
    """The episodes, or None where every step had to be dropped."""
    if "next_obs" not in columns and (lengths[~ended] == 1).sum() == len(lengths):
        with pytest.raises(BadData, match="at least one"):
            Episodes.of(**columns)
        return None
    return Episodes.of(**columns)


@SMALL
@given(logs())
def test_steps_are_counted_and_only_unknown_ends_are_dropped(drawn):
    columns, lengths, ended = drawn
    if (log := made(*drawn)) is None:
        return
    kept = lengths - (0 if "next_obs" in columns else ~ended)
    assert log.lengths.tolist() == kept[kept > 0].tolist()
    assert log.steps == kept.sum()
    assert log.ids.tolist() == (100 + np.flatnonzero(kept)).tolist()
    assert log.terminal.sum() == ended.sum()
    assert log.truncated.sum() == (~ended & (kept > 0)).sum()
    assert np.array_equal(log.info["row"], log.time)
    assert np.array_equal(log.obs, columns["obs"][log.info["row"]])
    assert np.array_equal(log.reward, columns["reward"][log.info["row"]])
    assert any("dropped" in note for note in log.notes) == (("next_obs" not in columns) and not ended.all())


@SMALL
@given(logs())
def test_next_observations_never_cross_an_episode(drawn):
    if (log := made(*drawn)) is None:
        return
    goes_on = ~log.terminal
    assert (log.next_obs[goes_on] == log.obs[goes_on] + [0, 1]).all()
    assert (log.next_obs[:, 0] == log.obs[:, 0]).all()


@SMALL
@given(logs(known_next=True), st.floats(0, 1))
def test_to_go_is_the_sum_of_what_follows(drawn, discount):
    log = Episodes.of(**drawn[0])
    expected, rows = [], iter(range(log.steps))
    for start, stop in zip(log.starts, log.stops):
        for row in range(start, stop):
            assert row == next(rows)
            expected.append(sum(discount**k * float(r) for k, r in enumerate(log.reward[row:stop])))
    assert np.allclose(log.to_go(discount), expected)
    assert np.allclose(log.returns(discount), np.asarray(expected)[log.starts])


@SMALL
@given(logs(known_next=True), st.floats(0.1, 0.9), st.integers(0, 5))
def test_split_partitions_episodes(drawn, share, seed):
    log = Episodes.of(**drawn[0])
    if not 0 < round(share * len(log)) < len(log):
        with pytest.raises(BadData, match="share"):
            log.split(share, seed=seed)
        return
    rest, held = log.split(share, seed=seed)
    assert sorted([*rest.ids, *held.ids]) == log.ids.tolist()
    assert len(held) == round(share * len(log))
    assert rest.steps + held.steps == log.steps
    assert held.fingerprint() == log.split(share, seed=seed)[1].fingerprint()


@SMALL
@given(logs(known_next=True), st.data())
def test_take_keeps_rows_together(drawn, data):
    log = Episodes.of(**drawn[0])
    which = data.draw(st.lists(st.integers(0, len(log) - 1), min_size=1, max_size=8))
    taken = log.take(which)
    rows = np.concatenate([np.arange(log.starts[k], log.stops[k]) for k in which])
    for name, column in log.columns().items():
        assert np.array_equal(taken.columns()[name], column[rows]), name
    assert taken.ids.tolist() == log.ids[which].tolist()
    assert taken.lengths.tolist() == log.lengths[which].tolist()


@SMALL
@given(logs(known_next=True), st.data())
def test_the_fingerprint_sees_every_value(drawn, data):
    log = Episodes.of(**drawn[0])
    assert log.fingerprint() == Episodes.of(**drawn[0]).fingerprint()
    name = data.draw(st.sampled_from(sorted(log.columns())))
    column = log.columns()[name].copy()
    place = tuple(data.draw(st.integers(0, size - 1)) for size in column.shape)
    column[place] = not column[place] if column.dtype == bool else column[place] + 1
    changed = log.columns() | {name: column}
    # around the checks: some of these logs are not legal, and still must not look alike
    other = object.__new__(Episodes)
    fields = {field.name: getattr(log, field.name) for field in dataclasses.fields(log)}
    fields |= {key: value for key, value in changed.items() if not key.startswith("info/")}
    fields["info"] = {key.removeprefix("info/"): value for key, value in changed.items() if key.startswith("info/")}
    other.__dict__.update(fields)
    assert other.fingerprint() != log.fingerprint()


def two() -> dict:
    return dict(obs=np.arange(4.0), action=np.array([0, 1, 0, 1]), reward=np.ones(4), terminal=np.array([0, 1, 0, 1]))


def test_bounds_of_episodes_are_part_of_the_fingerprint():
    columns = two() | {"terminal": np.zeros(4), "next_obs": np.arange(4.0) + 1}
    one = Episodes.of(**columns, ends=[0, 0, 0, 1])
    assert one.fingerprint() != Episodes.of(**columns, ends=[0, 1, 0, 1]).fingerprint()
    assert one.fingerprint() != Episodes.of(**columns, ends=[0, 0, 0, 1], actions=3).fingerprint()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"terminal": [1, 1, 0, 1], "ends": [0, 1, 0, 1]}, ["row 0", "goes on"]),
        ({"reward": [0, np.nan, 0, 0]}, ["'reward'", "row 1"]),
        ({"obs": [0, 0, np.inf, 0]}, ["'obs'", "row 2"]),
        ({"action": [0.0, 0.5, np.nan, 0]}, ["'action'", "row 2"]),
        ({"action": [0, 1, 2, 3], "actions": 3}, ["action 3", "row 3"]),
        ({"action": [0, -1, 0, 0]}, ["action -1", "row 1"]),
        ({"action": [0.5, 1.5, 0, 0], "actions": 3}, ["one integer a row"]),
        ({"action": [0.5, 2.5, 0, 0], "low": 0, "high": 1}, ["row 1", "bounds"]),
        ({"action": [0, 1]}, ["'action'", "2 rows"]),
        ({"mask": np.ones((4, 3))}, ["mask", "(4, 3)"]),
        ({"mask": np.array([[1, 1], [1, 0], [1, 1], [1, 1]])}, ["action 1", "row 1"]),
        ({"probability": [0.5, 0, 1, 1]}, ["row 1", "probability"]),
        ({"probability": [0.5, 0.5, 2, 1]}, ["row 2", "at most 1"]),
        ({"states": 3}, ["3 states"]),
        ({"obs": np.zeros((4, 3, 8, 8), np.uint8)}, ["channels", "first"]),
        ({"obs": [], "action": [], "reward": [], "terminal": []}, ["at least one"]),
    ],
)
def test_faults_are_named(change, words):
    with pytest.raises(BadData) as caught:
        Episodes.of(**{name: np.asarray(value) if isinstance(value, list) else value for name, value in (two() | change).items()})
    for word in words:
        assert word in str(caught.value)


def test_spaces():
    log = Episodes.of(**(two() | {"obs": np.array([0, 1, 2, 3])}), states=5, actions=4)
    assert log.spec.obs == Discrete(5)
    assert log.spec.action == Discrete(4)
    log = Episodes.of(**(two() | {"action": np.array([-2.0, 0, 1, 4])}))
    assert log.spec.action == Box(1)
    assert log.view.action.shift.tolist() == [1]
    assert log.view.action.scale.tolist() == [3]
    assert any("bounds" in note for note in log.notes)
