"""A log that comes in parts says what the whole log says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from topstitch import Parts, ope
from topstitch.data import BadData, Episodes
from topstitch.data.formats.table import read_table, write_table
from topstitch.nets.tables import TablePolicy
from topstitch.ope.sums import GROUPS
from topstitch.worlds import random_mdp, sample

WORLD = random_mdp(5, 3, ending=0.3, seed=1)
RNG = np.random.default_rng(0)
LOGGER = WORLD.checked(RNG.dirichlet(3 * np.ones(3), WORLD.states))
POLICIES = {name: TablePolicy(jnp.asarray(WORLD.checked(x), jnp.float32)) for name, x in
            (("near", (LOGGER + RNG.dirichlet(np.ones(3), WORLD.states)) / 2), ("far", np.tile([0.02, 0.02, 0.96], (WORLD.states, 1))))}  # fmt: skip
NUMBERS = ("value", "low", "high", "effective")


def written(log: Episodes, path, rows: int):
    """(the log as a table gives it back, the same in parts)."""
    roles = write_table(log, path)
    return read_table(path, **roles), Parts(path, rows=rows, **roles)


def same(parts: ope.Estimates, whole: ope.Estimates) -> None:
    for a, b in zip((parts.logged, *parts), (whole.logged, *whole), strict=True):
        assert (a.policy, a.name, a.interval, a.refused) == (b.policy, b.name, b.interval, b.refused)
        for x, y in zip([getattr(a, n) for n in NUMBERS], [getattr(b, n) for n in NUMBERS]):
            np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12, err_msg=f"{a.policy} {a.name}")
        assert a.diagnostics.keys() == b.diagnostics.keys()
        for name in a.diagnostics.keys() - {"notes"}:
            np.testing.assert_allclose(a.diagnostics[name], b.diagnostics[name], rtol=1e-10, err_msg=name)
        assert a.diagnostics.get("notes") == b.diagnostics.get("notes")


@pytest.mark.parametrize(("episodes", "rows", "durations"), [(300, 70, True), (GROUPS + 900, 1500, False)])
def test_parts_say_what_the_whole_says(tmp_path, episodes, rows, durations):
    log = sample(WORLD, LOGGER, episodes, horizon=12, key=jax.random.key(0))
    assert log.truncated.any() and log.lengths.max() > log.lengths.min()
    if durations:
        log = dataclasses.replace(log, duration=RNG.uniform(0.5, 2, log.steps).astype(np.float32))
    whole, parts = written(log, tmp_path / "log.parquet", rows)
    sizes = [part.steps for part in parts]
    assert len(sizes) > 3 and max(sizes) <= rows + log.lengths.max() and sum(sizes) == whole.steps
    for how in (dict(resamples=100), dict(interval="bca", resamples=100), dict(interval="betting", reward_range=(-10.0, 10.0))):
        names = ("is", "wis", "pdis", "clipped", "wpdis") if how.get("interval") is None else ("is", "wis", "pdis")
        same(ope.estimate(POLICIES, parts, names, discount=0.9, **how), ope.estimate(POLICIES, whole, names, discount=0.9, **how))


def test_decisions_of_one_step(tmp_path):
    rng, n = np.random.default_rng(1), 900
    logger, obs = rng.integers(2, size=n), rng.normal(size=(n, 3))
    chance = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])[logger]
    action = (rng.random(n)[:, None] > np.cumsum(chance, axis=1)).sum(axis=1)
    log = Episodes.of(obs, action, obs[:, 0] * action + rng.normal(size=n), np.ones(n, bool), actions=3, ids=np.arange(n),
                      probability=chance[np.arange(n), action], info={"logger": np.array(["ward a", "ward b"])[logger]})  # fmt: skip
    whole, parts = written(log, tmp_path / "log.parquet", 200)
    policy = {"flat": Flat(jnp.ones((1, 3)) / 3)}
    fitted = ope.lstdq(policy["flat"], whole, discount=1.0)
    names = ("ips", "snips", "subgaussian", "loggers", "dm", "dr", "switch", "shrunk", "wis")
    found = ope.estimate(policy, parts, names, discount=1.0, values=fitted, resamples=100)
    same(found, ope.estimate(policy, whole, names, discount=1.0, values=lambda policy, log: fitted, resamples=100))
    assert not any(row.refused for row in found)
    by = {row.name: row for row in found}
    for kind in (
        "switch",
        "shrunk",
    ):  # however near to the values alone they come, their interval is that of who weighs what these get wrong
        assert by[kind].low == min(by["dr"].low, by[kind].value) and by[kind].high == max(by["dr"].high, by[kind].value)
    assert [row.name for row in ope.estimate(policy, parts, "all", discount=1.0)] == ["ips", "snips", "subgaussian", "loggers"]
    assert [row.name for row in ope.estimate(policy, whole, "all", discount=1.0)][-1] == "loggers"
    said = ope.estimate(policy, parts, ["dr"], discount=1.0)[0].refused
    assert "give what was learned as `values`" in said


class Flat(TablePolicy):
    """The same whatever it sees."""

    def __call__(self, obs, mask=None):
        return TablePolicy(self.probabilities)(jnp.zeros(obs.shape[:-1], jnp.int32))


def test_what_parts_cannot_say(tmp_path):
    log = sample(WORLD, LOGGER, 60, horizon=12, key=jax.random.key(0))
    _, parts = written(log, tmp_path / "log.parquet", 50)
    found = ope.estimate(POLICIES["near"], parts, ["fqe", "ips", "wis"], discount=0.9)
    assert ["all steps at once" in (row.refused or "") for row in found] == [True, True, False]
    with pytest.raises(ValueError, match="name their column"):
        ope.estimate(POLICIES["near"], parts, discount=0.9, behaviour=np.zeros(3))
    _, silent = written(dataclasses.replace(log, log_prob=None), tmp_path / "silent.parquet", 50)
    assert "does not say with which probability" in ope.estimate(POLICIES["near"], silent, discount=0.9)[0].refused
    _, single = written(log.take(np.array([0])), tmp_path / "alone.parquet", 50)
    assert "only one episode" in ope.estimate(POLICIES["near"], single, discount=0.9)[0].refused


def test_tables_that_do_not_come_in_parts(tmp_path):
    log = sample(WORLD, LOGGER, 60, horizon=12, key=jax.random.key(0))
    roles = write_table(log, tmp_path / "log.parquet")
    table = pl.read_parquet(tmp_path / "log.parquet")
    table.write_csv(tmp_path / "log.csv")
    with pytest.raises(BadData, match="only Parquet"):
        Parts(tmp_path / "log.csv", **roles)
    with pytest.raises(BadData, match="makes the whole table one episode"):
        Parts(tmp_path / "log.parquet", **{k: v for k, v in roles.items() if k not in ("episode", "truncated")} | {"terminal": "always"})
    pl.concat([table, table[:5]]).write_parquet(tmp_path / "again.parquet")
    with pytest.raises(BadData, match="comes back after rows of another"):
        list(Parts(tmp_path / "again.parquet", rows=20, **roles))
    holed = table.with_columns(reward=pl.when(pl.int_range(pl.len()) == 100).then(None).otherwise("reward"))
    holed.write_parquet(tmp_path / "holed.parquet")
    with pytest.raises(BadData, match=r"holed\.parquet from row \d+: .*'reward'"):
        list(Parts(tmp_path / "holed.parquet", rows=20, **roles))


def test_actions_and_ends_are_those_of_the_whole_table(tmp_path):
    """No part has all actions; without a column of episodes they end where the flags say."""
    n = 40
    pl.DataFrame({"x": np.arange(n) / n, "a": np.arange(n) // 10, "r": np.ones(n), "end": np.arange(n) % 4 == 3}).write_parquet(
        tmp_path / "t.parquet"
    )
    parts = list(Parts(tmp_path / "t.parquet", rows=10, obs="x", action="a", reward="r", terminal="end"))
    assert [part.spec.action.size for part in parts] == [4] * len(parts) and len(parts) > 2
    assert sum(len(part) for part in parts) == 10 and all((part.lengths == 4).all() for part in parts)
