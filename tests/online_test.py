"""Learning by acting: the ring holds what was seen, in unit scale; what was seen is kept; a killed run goes on."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import topstitch as ts
from topstitch import SAC, TD3, BadData, online
from topstitch.core import Box, Discrete
from topstitch.disk import BadFile
from topstitch.online import Acting

SMALL = dict(hidden=(8,), batch_size=16)


def life(env="Pendulum-v1", total=300, capacity=300, algorithm=None):
    units = online.Units.of(env)
    return online.Life(online.gym_maker(env)(), units, algorithm or SAC(), 0, Acting(capacity=capacity), total)


def test_units_are_those_of_the_environment():
    spec, view = online.Units.of("Pendulum-v1")
    assert (spec.obs, spec.action) == (Box(3), Box(1))
    assert (view.action.shift, view.action.scale) == (0, 2)
    spec, view = online.Units.of("CartPole-v1")
    assert (spec.obs, spec.action) == (Box(4), Discrete(2)) and view.action is None
    assert online.Units.of("FrozenLake-v1").spec.obs == Discrete(16)


def test_the_ring_holds_what_was_seen_in_unit_scale():
    lived = life()
    lived.play(online.random_policy(lived.world), 250)
    log = lived.log(0, 250)
    assert log.steps == 250 and log.lengths.tolist() == [200, 50] and not log.terminal.any()
    np.testing.assert_array_equal(lived.ring.store.obs[:250], log.obs)
    np.testing.assert_allclose(np.asarray(lived.ring.store.action)[:250] * 2, log.action, atol=1e-6)
    assert 1.5 < np.abs(log.action).max() <= 2 and int(lived.ring.size) == 250
    np.testing.assert_allclose(log.log_prob, -np.log(4), atol=1e-6)  # uniform over an interval of length 4
    np.testing.assert_array_equal(log.obs[1:200], log.next_obs[:199])


def test_a_small_ring_forgets():
    lived = life(capacity=100)
    lived.play(online.random_policy(lived.world), 250)
    log = lived.log(0, 250)
    assert sorted(np.asarray(lived.ring.store.reward).tolist()) == sorted(log.reward[150:].tolist())


@pytest.mark.parametrize(("algorithm", "env"), [(SAC(steps=60, **SMALL), "Pendulum-v1"), (ts.DQN(steps=60, **SMALL), "CartPole-v1")])
def test_it_learns_and_keeps(tmp_path, algorithm, env):
    acting = Acting(warmup=40, block=20, noise=0.1 if env[0] == "P" else None, level=0.9)
    runs = online.train_online(algorithm, env, seeds=2, acting=acting, every=20, levels=40, out=tmp_path / "runs")
    assert len(runs) == 2 and all(run.fault is None for run in runs)
    for seed in range(2):
        log = ts.read(tmp_path / "runs" / "replay" / f"{seed}.log.safetensors")
        assert log.steps == 100 and log.log_prob is not None
    assert sorted(p.name for p in (tmp_path / "runs" / "levels").iterdir()) == [f"{seed}-{40:010d}.safetensors" for seed in range(2)]
    rows = [json.loads(line) for line in (tmp_path / "runs" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["run"], row["step"]) for row in rows] == [(run, step) for step in (20, 40, 60) for run in range(2)]
    again = ts.load_runs(tmp_path / "runs")
    obs = jnp.zeros(again[0].policy.spec.obs.size)
    np.testing.assert_array_equal(again[1].policy(obs).mode(), runs[1].policy(obs).mode())
    alone = online.train_online(algorithm, env, seeds=[1], acting=acting, every=20)
    np.testing.assert_allclose(alone[0].policy(obs).mode(), runs[1].policy(obs).mode(), atol=1e-5)  # runs together are runs apart


def test_a_killed_run_goes_on(tmp_path):
    script = """if True:
        import os, sys
        from topstitch import SAC, online
        calls = []
        def die(now, metrics):
            if now.step == 40:
                os._exit(9)
        online.train_online(SAC(steps=80, hidden=(8,), batch_size=16), "Pendulum-v1", seeds=2, acting=online.Acting(warmup=40, block=20),
                            every=20, checkpoint_seconds=0, listeners=[die], out=sys.argv[1])
    """
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "runs")]).returncode == 9
    parts = sorted(p.name for p in (tmp_path / "runs" / "replay").iterdir())
    assert parts == [f"{run}-{a:010d}-{b:010d}.log.safetensors" for run in range(2) for a, b in ((0, 60), (60, 80))]
    before = ts.read(tmp_path / "runs" / "replay" / parts[0])
    algorithm = SAC(steps=80, **SMALL)
    how = dict(seeds=2, acting=Acting(warmup=40, block=20), every=20, out=tmp_path / "runs")
    online.train_online(algorithm, "Pendulum-v1", resume=True, **how)
    log = ts.read(tmp_path / "runs" / "replay" / "0.log.safetensors")
    assert log.steps == 120 and log.lengths.tolist() == [80, 40]  # a new episode where it went on
    np.testing.assert_array_equal(log.obs[:60], before.obs)
    rows = [json.loads(line) for line in (tmp_path / "runs" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["run"] == 0] == [20, 40, 60, 80]
    assert len(online.train_online(algorithm, "Pendulum-v1", resume=True, **how)) == 2  # finished: given back
    with pytest.raises(BadFile, match="other data"):
        online.train_online(algorithm, "Pendulum-v1", resume=True, **{**how, "acting": Acting(warmup=50)})


def test_what_cannot_learn_by_acting_is_refused(tmp_path):
    with pytest.raises(ValueError, match="TD3 is defined for Box actions, but those of CartPole-v1 are"):
        online.train_online(TD3(), "CartPole-v1")
    with pytest.raises(ValueError, match="needs a folder"):
        online.train_online(SAC(), "Pendulum-v1", resume=True)


def test_only_sound_logs_are_recalled(tmp_path):
    lived = life(total=100)
    (tmp_path / "0-0000000000-0000000050.log.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadData, match="cannot be read as a log"):
        lived.recall(tmp_path, 0, 50)


# columns that the end of an episode tells -----------------------------------------------------------------------------------


def test_rows_that_wait_for_the_end_of_their_episode():
    lived = life(total=700, capacity=700, algorithm=ts.ReBRAC())
    assert lived.waits
    for steps, rows in ((50, 49), (100, 49), (50, 49 + 149), (150, 49 + 149), (100, 49 + 149 + 199)):  # a last step has no next action
        lived.play(online.random_policy(lived.world), steps)
        assert int(lived.ring.size) == rows
    log = lived.log(0, 450)
    held = jax.tree.map(lambda x: np.asarray(x[: int(lived.ring.size)]), lived.ring.store)
    for row in range(49 + 149):
        place = int(np.flatnonzero((log.obs == held.obs[row]).all(axis=1))[0])
        np.testing.assert_allclose(held.next_action[row] * 2, log.action[place + 1], atol=1e-6)


# from offline to online ------------------------------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path):
    from topstitch.collection import collect

    log = collect("random", "Pendulum-v1", steps=400, lanes=1).normalised(reward="standard")
    before = ts.train(ts.IQL(steps=40, **SMALL), log, seeds=2, out=tmp_path / "offline", every=20)
    return log, before


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_finetuning_goes_on_from_what_was_learned(tmp_path, offline, share):
    log, before = offline
    told = []

    def listen(now, metrics):
        told.append((now.step, jax.device_get(now.states)))

    acting = Acting(warmup=30, block=20, logged=share)
    runs = online.finetune(
        tmp_path / "offline", log, "Pendulum-v1", steps=40, acting=acting, every=20, listeners=[listen], out=tmp_path / "on"
    )
    assert [step for step, _ in told] == [0, 20, 40]
    for i in range(2):  # at first, exactly what offline training ended with
        ended = before[i].algorithm.policy(jax.tree.map(lambda x, i=i: x[i], told[0][1]))
        raw = log.policy(ended)
        np.testing.assert_array_equal(raw(jnp.ones(3)).mode(), before[i].policy(jnp.ones(3)).mode())
        assert (np.asarray(runs[i].policy(jnp.ones(3)).mode()) != np.asarray(before[i].policy(jnp.ones(3)).mode())).all()
    assert runs[0].algorithm.steps == 80 and ts.load_runs(tmp_path / "on")[0].algorithm.steps == 80
    seen = ts.read(tmp_path / "on" / "replay" / "0.log.safetensors")
    assert seen.steps == 70


def test_what_is_seen_is_brought_to_the_units_of_the_log(offline):
    log, _ = offline
    lived = online.Life(online.gym_maker("Pendulum-v1")(), online.Units(log.spec, log.view), SAC(), 0, Acting(), 100)
    lived.play(online.random_policy(lived.world), 50)
    seen = lived.log(0, 50)
    np.testing.assert_allclose(lived.ring.store.obs[:50], log.view.obs.host(seen.obs), atol=1e-6)
    np.testing.assert_allclose(lived.ring.store.reward[:50], log.view.reward.host(seen.reward), atol=1e-6)


def test_finetuning_with_other_settings(tmp_path, offline):
    log, _ = offline
    how = dict(steps=20, acting=Acting(warmup=20, block=20), every=20)
    runs = online.finetune(tmp_path / "offline", log, "Pendulum-v1", fields={"decay": False, "beta": 5.0}, **how)
    assert not runs[0].algorithm.decay and runs[0].algorithm.beta == 5
    with pytest.raises(BadFile, match="the nets are others"):
        online.finetune(tmp_path / "offline", log, "Pendulum-v1", fields={"hidden": (4,)}, **how)
    with pytest.raises(BadFile, match="other data, or the same ones otherwise normalised"):
        online.finetune(tmp_path / "offline", log.viewed(type(log.view)(action=log.view.action)), "Pendulum-v1", **how)
    with pytest.raises(ValueError, match="not the environment that the policy was learned for"):
        online.finetune(tmp_path / "offline", log, "MountainCarContinuous-v0", **how)


def test_half_of_every_batch_from_the_log(offline):
    """Of the log, whose steps take two units of time; a step that is lived takes one."""
    log, _ = offline
    seen = []

    class Spy(SAC):
        def update(self, state, batch, *, step, key):
            jax.debug.callback(lambda x: seen.append(sorted(x.tolist())), batch.duration)
            return super().update(state, batch, step=step, key=key)

    timed = dataclasses.replace(log, duration=np.full(log.steps, 2, np.float32))
    runs = online.train_online(Spy(steps=20, **SMALL), "Pendulum-v1", log=timed, acting=Acting(warmup=20, block=20), every=20)
    jax.effects_barrier()
    assert seen == [[1.0] * 8 + [2.0] * 8] * 20 and runs[0].policy.view.obs is not None


def test_a_method_whose_states_are_made_from_a_log_can_go_on(tmp_path):
    """SAC-RND measures the log when it starts, which a ring does not let it do."""
    from topstitch.collection import collect

    log = collect("random", "Pendulum-v1", steps=200, lanes=1)
    algorithm = ts.SACRND(steps=10, novelty_steps=5, embedding=4, **SMALL)
    before = ts.train(algorithm, log, out=tmp_path / "offline", every=5)
    after = online.finetune(tmp_path / "offline", log, "Pendulum-v1", steps=20, acting=Acting(warmup=20, block=10), every=10)
    assert after[0].fault is None and after[0].algorithm.steps == 30
    assert (np.asarray(after[0].policy(jnp.ones(3)).mode()) != np.asarray(before[0].policy(jnp.ones(3)).mode())).all()
