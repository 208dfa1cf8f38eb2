"""What the training loop promises whatever it trains."""

import os
import subprocess
import sys
import textwrap
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import topstitch as ts
from topstitch import testing
from topstitch.core import Algorithm, Box, Markov, Paper, Stage, static
from topstitch.loop import Progress, first, read_faults, sound, train, unstack
from topstitch.nets import Delta

NETS = dict(hidden=(4,), batch_size=4)
LOG = testing.tiny(Box)


def run(state, i: int):
    return jax.tree.map(lambda x: np.asarray(x[i]), state)


def same(a, b):
    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(place))


# one small algorithm, whose every number can be foretold ------------------------------------------------------------------------


class Still(Markov):
    """The same action everywhere."""

    action: jax.Array

    def __call__(self, obs, mask=None):
        return Delta(jnp.broadcast_to(self.action, (*obs.shape[: obs.ndim - (obs.dtype == jnp.float32)], *self.action.shape)))


class Tally(Algorithm[dict]):
    """Two stages. The first, compiled, adds up draws; the second, on the host, follows the mean action with the first one's sum as a rate.

    `host` is what a forest would be: NumPy, which cannot be traced.
    """

    paper: ClassVar = Paper("A. Author", "Tallies", "Nowhere", 2024, "https://example.org")
    actions: ClassVar = (Box,)
    lr: float = 0.1
    hosted: bool = static(True)
    steps: int = static(5)
    batch_size: int = static(4)

    def init(self, data, *, key):
        return {"sum": jnp.zeros(()), "fresh": jnp.zeros((), jnp.int32), "ended": jnp.zeros(()), "mean": jnp.zeros(data.spec.action.size)}

    def update(self, state, batch, *, step, key):
        noise = jax.random.uniform(key)
        total = state["sum"] + self.lr * (1 + noise)
        return state | {"sum": total}, {"tally/sum": total, "tally/step": step.astype(jnp.float32)}

    def refresh(self, state, data, *, step, key):
        return state | {"fresh": state["fresh"] + (step % 2 == 0).astype(jnp.int32)}

    def finish(self, state, data, *, key):
        return state | {"ended": state["ended"] + 1 + state["sum"] * 0}

    def host(self, state, batch, *, step, key):
        if self.hosted:
            batch, step = jax.tree.map(np.asarray, batch), int(step)
        mean = state["mean"] + self.lr * (batch.action.mean(axis=0) - state["mean"])
        return state | {"mean": jnp.asarray(mean)}, {"tally/mean": jnp.asarray(mean).mean(), "tally/step": jnp.asarray(step, jnp.float32)}

    def stages(self):
        first = Stage("add", self.steps, self.update, self.sample, self.refresh, self.finish)
        return first, Stage("follow", self.steps, self.host, self.sample, self.refresh, self.finish, compiled=not self.hosted)

    def policy(self, state):
        return Still(jnp.clip(state["mean"], -1, 1))


def test_a_stage_on_the_host_keeps_the_contract():
    testing.check(Tally())


@pytest.mark.parametrize("hosted", [True, False])
def test_stages_refresh_and_finish(hosted):
    seen = []
    out = train([(Tally(hosted=hosted), 0), (Tally(hosted=hosted, lr=0.2), 1)], LOG, every=2, listeners=[lambda *now: seen.append(now)])
    assert [(now.stage, now.step) for now, _ in seen] == [(0, 2), (0, 4), (0, 5), (1, 2), (1, 4), (1, 5)]
    assert out[:2] == (2, 0) and out.faults == (None, None)
    np.testing.assert_array_equal(out.states["fresh"], [6, 6])  # steps 0, 2 and 4 of both stages
    np.testing.assert_array_equal(out.states["ended"], [2, 2])
    np.testing.assert_array_equal([now.states["ended"][0] for now, _ in seen], [0, 0, 0, 1, 1, 1])  # not before a stage is over
    for _, metrics in seen:
        assert {key.split("/")[0] for key in metrics} == {"tally"} and all(value.shape == (2,) for value in metrics.values())
    np.testing.assert_allclose([m["tally/step"][0] for _, m in seen], [0.5, 2.5, 4, 0.5, 2.5, 4])  # means over a chunk


@pytest.mark.parametrize("together", ["map", "vmap"])
@pytest.mark.parametrize("algorithm", [Tally(), Tally(hosted=False), ts.TD3(steps=5, **NETS)], ids=["hosted", "compiled", "td3"])
def test_a_program_for_one_run_does_what_one_for_two_does(algorithm, together):
    both = train([(algorithm, 0), (algorithm, 1)], LOG, every=2, together=together)
    for i in range(2):
        alone = train([(algorithm, i)], LOG, every=100, together=together)
        for x, y in zip(jax.tree.leaves(run(both.states, i)), jax.tree.leaves(run(alone.states, 0)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_every_step_of_every_run_and_stage_draws_anew():
    noise = []

    class Noisy(Tally):
        def host(self, state, batch, *, step, key):
            return self.update(state, batch, step=step, key=key)

    def listen(now, metrics):
        noise.append(metrics["tally/sum"])

    train([(Noisy(hosted=False), seed) for seed in range(2)], LOG, every=1, listeners=[listen])
    drawn = np.diff(noise, axis=0, prepend=0)
    assert len(np.unique(drawn.round(6))) == 2 * 5 * 2 and (drawn >= 0.1).all() and (drawn <= 0.2 + 1e-6).all()


def test_a_stage_on_the_host_is_the_stage_compiled():
    a, b = (train([(Tally(hosted=hosted), seed) for seed in range(2)], LOG, every=3) for hosted in (True, False))
    for x, y in zip(jax.tree.leaves(a.states), jax.tree.leaves(b.states)):
        np.testing.assert_allclose(x, y, rtol=1e-6)


class Plain(Algorithm[jax.Array]):
    """Not a float to sweep."""

    actions: ClassVar = (Box,)
    hosted: bool = static(True)
    steps: int = static(2)
    batch_size: int = static(4)

    def init(self, data, *, key):
        return jnp.zeros(())

    def update(self, state, batch, *, step, key):
        return state + 1, {}

    def policy(self, state):
        raise NotImplementedError

    def stages(self):
        return (Stage("count", self.steps, self.update, self.sample, compiled=not self.hosted),)


@pytest.mark.parametrize("hosted", [True, False])
def test_an_algorithm_needs_neither_floats_nor_metrics(hosted):
    assert train([(Plain(hosted=hosted), 0), (Plain(hosted=hosted), 1)], LOG).states.tolist() == [2, 2]


@pytest.mark.parametrize("hosted", [True, False])
def test_a_fault_says_stage_step_and_quantity(hosted):
    """`tally/step` passes 2.5 at step 3: what was learned since the last chunk is taken back."""
    runs = [(Tally(hosted=hosted), 0)]
    out = train(runs, LOG, every=2, ceiling=2.5)
    assert out.faults[0] == ("add", 3, "tally/step") and not out.alive[0]
    assert str(out.faults[0]) == "tally/step stopped being a finite number of sensible size at step 3 of stage 'add'"
    assert int(out.states["fresh"][0]) == 1 and out.states["ended"][0] == 0  # as after step 2; a dead run is not finished
    seen = []
    train(runs, LOG, every=2, listeners=[lambda now, _: seen.append(now)])
    same(run(out.states, 0), run(seen[0].states, 0))
    later = train(runs, LOG, every=2, ceiling=2.5, resume=seen[2]._replace(stage=1, step=0))  # past the fault of the first stage
    assert later.faults[0] == ("follow", 3, "tally/step")
    at_two = []
    train(runs, LOG, every=2, resume=seen[2]._replace(stage=1, step=0), listeners=[lambda now, _: at_two.append(now)])
    same(run(later.states, 0), run(at_two[0].states, 0))
    broken = train([(Tally(hosted=hosted), 0), (Tally(hosted=hosted), 1)], LOG, every=2, resume=poisoned(seen[2]))
    assert broken.faults[1] is None and broken.faults[0].stage == "follow" and broken.faults[0].step == 0
    assert broken.faults[0].quantity == "tally/mean"


@pytest.mark.parametrize("which", ["large", "small", "thin"])
def test_the_part_that_broke_is_named(which):
    states = {"large": jnp.zeros((1, 5000)), "count": jnp.zeros(1, jnp.int32), "small": jnp.zeros((1, 3)), "thin": jnp.zeros((1, 2))}
    states[which] = states[which].at[0, -1].set(jnp.inf)
    step, what = first((jnp.int32(-1), jnp.int32(-1)), 4, sound([x[0] for x in jax.tree.leaves(states)], jnp.inf))
    assert read_faults((step[None], what[None]), {}, states, "learn") == [("learn", 4, f"state['{which}']")]


def poisoned(now: Progress) -> Progress:
    """Two runs of it at the beginning of the second stage, the first with a number that is none."""
    states = jax.tree.map(lambda x: jnp.concatenate([x, x]), now.states)
    states["mean"] = states["mean"].at[0].set(jnp.nan)
    return Progress(1, 0, states, jnp.ones(2, bool), (None, None))


def test_a_number_that_is_none_in_a_state_is_named_by_its_place():
    class Quiet(Tally):
        def update(self, state, batch, *, step, key):
            return state | {"sum": jnp.where(step == 3, jnp.inf, 0.0)}, {"tally/step": jnp.zeros(())}

    out = train([(Quiet(), 0)], LOG, every=4)
    assert out.faults[0] == ("add", 3, "state['sum']")


# runs and listeners -----------------------------------------------------------------------------------------------------------


def test_a_listener_may_freeze_runs():
    """A frozen run keeps its state to the end; the others do not notice."""
    runs = [(ts.BC(steps=9, **NETS), seed) for seed in range(3)]
    whole = train(runs, LOG, every=3)
    seen = []

    def freeze(now, metrics):
        seen.append((now, metrics))
        return np.array([False, now.step == 3, False])

    out = train(runs, LOG, every=3, listeners=[freeze])
    assert np.asarray(out.alive).tolist() == [True, False, True] and out.faults == (None,) * 3
    same(run(out.states, 1), run(seen[0][0].states, 1))
    for i in (0, 2):
        same(run(out.states, i), run(whole.states, i))
    assert np.isnan(seen[-1][1]["actor/loss"][1]) and np.isfinite(seen[-1][1]["actor/loss"][[0, 2]]).all()
    assert np.asarray(seen[0][0].alive).all() and np.asarray(seen[1][0].alive).tolist() == [True, False, True]
    stop = lambda now, metrics: np.array([(now.stage, now.step) == (1, 2), False])
    hosted = train([(Tally(), 0), (Tally(), 1)], LOG, every=2, listeners=[stop])
    np.testing.assert_array_equal(hosted.states["fresh"], [4, 6])
    np.testing.assert_array_equal(hosted.states["ended"], [1, 2])


def test_what_a_listener_was_handed_stays_readable():
    seen, copies = [], []

    def keep(now, metrics):
        seen.append(now)
        copies.append(jax.tree.map(np.array, now.states))

    train([(ts.BC(steps=9, **NETS), 0)], LOG, every=3, listeners=[keep])
    for now, copy in zip(seen, copies, strict=True):
        same(now.states, copy)
    assert any((x != y).any() for x, y in zip(jax.tree.leaves(copies[0]), jax.tree.leaves(copies[-1])))


def test_runs_of_different_programs_are_refused():
    with pytest.raises(ValueError, match=r"BC differs in hidden: \(4,\), \(5,\)\. Train them in separate calls"):
        train([(ts.BC(**NETS), 0), (ts.BC(hidden=(5,), batch_size=4), 0)], LOG)
    with pytest.raises(ValueError, match="these are BC, SAC"):
        train([(ts.BC(**NETS), 0), (ts.SAC(**NETS), 0)], LOG)


def test_metrics_of_skipped_branches_are_means_over_the_steps_that_took_them():
    runs = [(ts.TD3(steps=8, **NETS), 0)]
    single, chunks = [], []
    a = train(runs, LOG, every=1, listeners=[lambda now, m: single.append(m)])
    b = train(runs, LOG, every=4, listeners=[lambda now, m: chunks.append(m)])
    same(a.states, b.states)
    each = {name: np.array([m[name][0] for m in single]) for name in single[0]}
    assert np.isnan(each["actor/loss"]).tolist() == [False, True] * 4  # not measured at all: no number
    for i, chunk in enumerate(chunks):
        part = slice(4 * i, 4 * i + 4)
        np.testing.assert_allclose(chunk["actor/loss"][0], np.nanmean(each["actor/loss"][part]), rtol=1e-5)
        np.testing.assert_allclose(chunk["critic/loss"][0], each["critic/loss"][part].mean(), rtol=1e-5)


def test_a_ceiling_of_ones_own():
    """The same runs under a lower ceiling: what exceeds it is stopped, though it is finite."""
    runs = [(ts.BC(steps=6, lr=lr, **NETS), 0) for lr in (1e-3, 1e3)]
    assert train(runs, LOG, every=3).faults == (None, None)
    out = train(runs, LOG, every=3, ceiling=1e3)
    assert out.faults[0] is None and out.faults[1][::2] == ("learn", "actor/loss") and 0 < out.faults[1].step < 6


# devices ----------------------------------------------------------------------------------------------------------------------

TWO_DEVICES = """
    import jax
    jax.config.update("jax_num_cpu_devices", 2)
    import numpy as np
    import topstitch as ts
    from topstitch.core import Discrete
    from topstitch.loop import train
    from topstitch.testing import tiny

    log, seen = tiny(Discrete), []
    runs = [(ts.DQN(lr=lr, hidden=(4,), batch_size=4, steps=7), seed) for seed, lr in enumerate((1e-2, 1e-3, float("nan")))]
    out = train(runs, log, every=3, listeners=[lambda now, m: seen.append((now, m))])
    leaf = jax.tree.leaves(out.states)[0]
    assert len(jax.devices()) == 2 and leaf.shape[0] == 3 and len(leaf.devices()) == 2, leaf.devices()
    assert out.faults[:2] == (None, None) and out.faults[2].step < 3 and np.asarray(out.alive).tolist() == [True, True, False]
    assert all(value.shape == (3,) for _, metrics in seen for value in metrics.values())
    for i, run in enumerate(runs[:2]):
        alone = train([run], log, every=7)
        for x, y in zip(jax.tree.leaves(out.states), jax.tree.leaves(alone.states)):
            np.testing.assert_array_equal(x[i], y[0])
    host = jax.tree.map(np.asarray, seen[0][0])
    for now in (seen[0][0], host._replace(faults=seen[0][0].faults)):
        again = train(runs, log, every=3, resume=now)
        for x, y in zip(jax.tree.leaves(again.states), jax.tree.leaves(out.states)):
            np.testing.assert_array_equal(x, y)
        assert again.faults == out.faults
    print("done")
"""


def test_two_devices_are_one():
    """Three runs over two devices are the runs alone, resume to the bit, and a broken one breaks alone."""
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(TWO_DEVICES)], capture_output=True, text=True, env=os.environ, timeout=300)
    assert said.returncode == 0 and said.stdout.strip() == "done", said.stderr


def test_unstacking_undoes_stacking():
    out = train([(ts.BC(steps=1, **NETS), seed) for seed in range(2)], LOG)
    for i, state in enumerate(unstack(out.states, 2)):
        same(state, run(out.states, i))
