"""Learning in a learned world: what the model must know, what rollouts may do, and what each method becomes without its own term."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topstitch as ts
from topstitch import ops
from topstitch.core import Box, Markov, Spec
from topstitch.data import Affine, Episodes, View
from topstitch.data.device import Ring
from topstitch.loop import one_step, stage_key, train, unstack
from topstitch.nets import Dynamics
from topstitch.nets.dynamics import counts
from topstitch.testing import tiny
from topstitch.worlds.imagined import imagine
from topstitch.worlds.terminations import TERMINATIONS, ends

SMALL = settings(max_examples=20, deadline=None)
NETS = dict(hidden=(8, 8), batch_size=16, lr=1e-2, steps=5)
DREAM = dict(NETS, model_hidden=(8,), model_steps=3, models=5, elites=2, held_out=8, rollouts=6, horizon=2, every=3, retain=2)
CAUTION = dict(actor_lr=NETS["lr"], actions_sampled=2)

# limits ------------------------------------------------------------------------------------------------------------------------


@jax.jit
def learn(algorithm, state, data):
    """Five steps of the last stage from here."""
    stage = algorithm.stages()[-1]
    key = stage_key(jax.random.key(7), stage)
    return jax.lax.fori_loop(0, 5, lambda step, state: one_step(stage, state, data, step, key)[0], state)


begin = jax.jit(lambda algorithm, data, key: algorithm.init(data, key=key))


@pytest.fixture(scope="module")
def data():
    return tiny(Box).transitions()


def equal(a, b, rtol=0.0, atol=0.0):
    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(place))


def differ(a, b):
    return any(not np.allclose(x, y, rtol=1e-4, atol=1e-6) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# The same arithmetic is equal to the bit; a penalty of 0 is one more sum in the gradient.
WITHOUT_IMAGINATION = {
    "MOPO(penalty=0, real=1)=SAC": (ts.MOPO(penalty=0.0, real=1.0, **DREAM), ts.SAC(**NETS), dict(discount=0.5), 0.0),
    "MOReL(real=1)=SAC": (ts.MOReL(real=1.0, **DREAM), ts.SAC(**NETS), dict(discount=0.5), 0.0),
    "COMBO(alpha=0, real=1)=SAC": (ts.COMBO(alpha=0.0, real=1.0, entropy_backup=True, **DREAM, **CAUTION), ts.SAC(**NETS), dict(alpha=1.0), 1e-5),
    "COMBO(real=1)=CQL": (ts.COMBO(alpha=2.0, real=1.0, **DREAM, **CAUTION), ts.CQL(alpha=2.0, **NETS, **CAUTION), dict(alpha=1.0), 1e-5),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_IMAGINATION)
def test_without_imagination(name, data):
    this, that, away, rtol = WITHOUT_IMAGINATION[name]
    agent = lambda state: getattr(state, "agent", state)
    start = begin(this, data, jax.random.key(1))
    other = begin(that, data, jax.random.key(1))
    equal(start.agent, agent(other))  # one key, one agent
    want = agent(learn(that, other, data))
    assert differ(want, start.agent), "nothing was learned"
    equal(learn(this, start, data).agent, want, rtol, rtol / 10)
    assert differ(learn(dataclasses.replace(this, **away), start, data).agent, want), f"{away} makes no difference"


def test_without_penalty_and_without_halting_all_are_mbpo(data):
    start = begin(ts.MBPO(**DREAM), data, jax.random.key(1))
    want = learn(ts.MBPO(**DREAM), start, data)
    assert int(want.imagined.size) == 2 * DREAM["rollouts"] * DREAM["horizon"]  # filled at steps 0 and 3
    equal(learn(ts.MOPO(penalty=0.0, **DREAM), start, data), want)
    assert differ(learn(ts.MOPO(penalty=1.0, **DREAM), start, data), want)
    morel = begin(ts.MOReL(**DREAM), data, jax.random.key(1))
    take = lambda state: (state.agent, state.dynamics, state.imagined)
    never, always = (learn(ts.MOReL(**DREAM), dataclasses.replace(morel, known=jnp.float32(x)), data) for x in (1e9, -1.0))
    equal(take(never), take(want))
    # known nowhere: every rollout halts at its first step, at the same price
    assert int(always.imagined.size) == 2 * DREAM["rollouts"]
    rows = always.imagined.store[: int(always.imagined.size)]
    np.testing.assert_allclose(rows.reward, float(data.all.reward.min()) / (1 - 0.99) - 50.0, rtol=1e-5)
    assert (np.asarray(rows.terminal) == 1).all()


def test_combo_needs_a_logged_row_and_something_to_push_down(data):
    for wrong in (dict(real=0.0), dict(real=1.0, pushed="imagined")):
        with pytest.raises(ValueError, match="real is"):
            ts.COMBO(**DREAM, **wrong).init(data, key=jax.random.key(0))


# the model ---------------------------------------------------------------------------------------------------------------------

NOISE = np.array([0.3, 0.1, 0.2])
STEP = np.array([[0.9, 0.2, 0.5], [-0.2, 0.9, 0.0], [0.3, -0.5, 1.0]])


def linear(n: int, seed: int = 0):
    """(obs, action), (change of obs, reward) without noise, and the noise: the answer is linear in the question."""
    rng = np.random.default_rng(seed)
    asked = np.concatenate([2 + 3 * rng.normal(size=(n, 2)), rng.uniform(-1, 1, (n, 1))], axis=1)
    return asked, asked @ STEP - np.pad(asked[:, :2], ((0, 0), (0, 1))), NOISE * rng.normal(size=(n, 3))


@pytest.fixture(scope="module")
def fitted():
    """A model of a linear world with Gaussian noise, fitted until no member improves."""
    asked, mean, noise = linear(4000)
    told = mean + noise
    log = Episodes.of(asked[:, :2], asked[:, 2:], told[:, 2], np.zeros(4000), ends=np.ones(4000), next_obs=asked[:, :2] + told[:, :2], low=-1.0, high=1.0)  # fmt: skip
    algorithm = ts.MOPO(
        **{**DREAM, "model_hidden": (32,), "model_steps": 2400, "batch_size": 128, "held_out": 500, "model_lr": 3e-3, "steps": 0}
    )
    seen = []
    out = train([(algorithm, 0)], log, every=100, listeners=[lambda now, metrics: seen.append(metrics)])
    assert not any(out.faults)
    return log, unstack(out.states, 1)[0].dynamics, seen


def test_the_model_knows_the_mean_and_the_noise_of_a_linear_world(fitted):
    _, model, _ = fitted
    asked, want, _ = linear(500, seed=1)
    mean, std = jax.jit(Dynamics.__call__)(model, jnp.float32(asked[:, :2]), jnp.float32(asked[:, 2:]))
    mean, std = np.asarray(mean[model.elites]), np.asarray(std[model.elites])
    off = np.sqrt(((mean - want) ** 2).mean(axis=1))
    assert (off < 0.35 * NOISE).all(), off / NOISE
    np.testing.assert_allclose(std.mean(axis=1), np.tile(NOISE, (len(std), 1)), rtol=0.3)


def test_fitting_stops_keeps_the_best_and_elects_the_best(fitted):
    log, model, seen = fitted
    nll = np.array([float(m["model/nll"][0]) for m in seen])
    done = np.isnan(nll)
    assert done.any() and not done[:5].any() and (np.diff(done.astype(int)) >= 0).all()  # once it has stopped it measures no more
    error = np.asarray(model.error)
    np.testing.assert_array_equal(np.sort(error)[: len(model.elites)], error[np.asarray(model.elites)])
    rows = log.transitions().all
    fresh = lambda m: np.asarray(
        dataclasses.replace(model, trained=dataclasses.replace(model.trained, model=m), error=jnp.full(5, 1e30)).measured(rows).error
    )
    np.testing.assert_allclose(fresh(model.best), error, rtol=1e-4)
    assert (fresh(model.trained.model) > 0.99 * error - 1e-6).all()


def test_held_out_rows_are_never_learned_from_and_bootstraps_stay_the_same():
    rows = tiny(Box).transitions().all
    rows = dataclasses.replace(rows, reward=jnp.arange(48.0))
    model = Dynamics.start(rows, Spec(Box(3), Box(2)), (4,), 5, 2, optax.adam(1e-3), held_out=1000, key=jax.random.key(0))
    assert model.held_out == 9 and model.learned_from == 39 and model.epoch(10) == 4
    drawn = [np.asarray(model.draw(rows, 400, key=jax.random.key(i)).reward) for i in range(2)]
    out = set(np.asarray(model.order[-9:]).tolist())
    kinds = [[set(x.tolist()) for x in batch] for batch in drawn]
    assert all(not kind & out for kind in kinds[0])
    assert all(a == b for a, b in zip(*kinds)), "a bootstrap changes between draws"
    assert len({frozenset(kind) for kind in kinds[0]}) == 5 and all(15 < len(kind) < 35 for kind in kinds[0])  # about 1 - 1/e of 39


def test_what_was_not_logged_is_not_learned():
    rows = tiny(Box).transitions().all
    rows = dataclasses.replace(
        rows, next_obs=rows.next_obs.at[0].set(rows.obs[0]).at[1].set(rows.obs[1]), terminal=jnp.zeros(48).at[0].set(1.0).at[2].set(1.0)
    )
    weight = np.asarray(counts(rows, jnp.zeros((48, 4))))
    np.testing.assert_array_equal(weight[0], [0, 0, 0, 1])  # terminal, and nothing seen behind it
    assert (weight[1:] == 1).all()  # standing still is an observation, and so is a terminal step that led elsewhere


@SMALL
@given(st.integers(0, 2**16))
def test_measures_of_doubt(seed):
    x = jax.random.normal(jax.random.key(seed), (4, 3, 2))
    same = jnp.broadcast_to(x[:1], x.shape)
    for doubt in (ops.discrepancy, ops.spread):
        np.testing.assert_allclose(doubt(same), 0, atol=1e-6)
        np.testing.assert_allclose(doubt(x[::-1]), doubt(x), rtol=1e-5)
        np.testing.assert_allclose(doubt(3 * x + 1), 3 * doubt(x), rtol=1e-4)
    assert (np.asarray(ops.discrepancy(x)) >= np.asarray(ops.spread(x)) * np.sqrt(2) - 1e-5).all()
    brute = np.max([[np.linalg.norm(a - b, axis=-1) for a in np.asarray(x)] for b in np.asarray(x)], axis=(0, 1))
    np.testing.assert_allclose(ops.discrepancy(x), brute, rtol=1e-5)
    np.testing.assert_allclose(ops.largest_noise(jnp.abs(x)), np.linalg.norm(np.asarray(x), axis=-1).max(axis=0), rtol=1e-5)


@SMALL
@given(st.floats(-3, 3), st.floats(-2, 2))
def test_the_likelihood_is_that_of_a_normal_and_is_best_at_the_truth(mean, log_var):
    from scipy.stats import norm

    y = np.linspace(-2, 2, 5, dtype=np.float32)
    m, v = jnp.full(5, mean, jnp.float32), jnp.full(5, log_var, jnp.float32)
    np.testing.assert_allclose(ops.gaussian_nll(m, v, jnp.asarray(y)), -norm.logpdf(y, mean, np.exp(log_var / 2)), rtol=1e-4, atol=1e-5)


# rollouts ----------------------------------------------------------------------------------------------------------------------


class Walk(eqx.Module):
    """A world that moves by its action, exactly; the first model claims noise, and is no elite."""

    elites: jax.Array

    def __call__(self, obs, action):
        mean = jnp.concatenate([action, action * 0, action.sum(axis=-1, keepdims=True)], axis=-1)
        return jnp.stack([mean + 9, mean]), jnp.stack([jnp.ones_like(mean), jnp.zeros_like(mean)])

    def land(self, obs, change):
        return obs + change


class Right(Markov):
    """A policy that goes right."""

    def __call__(self, obs, mask=None):
        return self

    def sample(self, key):
        return jnp.full((40, 1), 0.1)


def test_rollouts_never_leave_the_termination_and_are_counted():
    start = jnp.stack([jax.random.uniform(jax.random.key(0), (40,)), jnp.zeros(40)], axis=-1)
    view = View(obs=Affine(jnp.array([-1.0, 0.0]), jnp.array([2.0, 1.0])))  # raw = 2 unit - 1, and the car is there at raw 0.45
    seen = []

    def judge(reward, mean, std):
        seen.append((mean.shape, std.shape))
        return reward - std.max(axis=(0, 2)), False

    how = dict(horizon=6, termination="mountain_car", view=view, judge=judge, key=jax.random.key(1))
    rows, valid = imagine(Walk(jnp.array([1])), Right(), start, **how)
    assert seen[0] == ((2, 40, 3), (2, 40, 3)) and len(rows) == 240
    obs, there, ok = np.asarray(rows.obs)[:, 0], np.asarray(rows.next_obs)[:, 0], np.asarray(valid)
    np.testing.assert_allclose(there, obs + 0.1, atol=1e-6)
    np.testing.assert_allclose(rows.reward, 0.1 - 1, atol=1e-6)
    np.testing.assert_array_equal(rows.terminal, np.asarray(ends("mountain_car")(view.obs.undo(rows.next_obs))))
    inside = 2 * obs - 1 < 0.45
    assert (inside | np.isin(obs, np.asarray(start)[:, 0]))[ok].all()  # nothing goes on from behind the goal
    alive = np.ones(40, bool)
    for steps, ended in zip(ok.reshape(6, 40), np.asarray(rows.terminal).reshape(6, 40)):
        np.testing.assert_array_equal(steps, alive)
        alive &= ended == 0
    assert 40 < ok.sum() < 240
    like = dataclasses.replace(tiny(Box).transitions(), all=rows)
    ring = Ring.empty(like, 300).push(rows, valid)
    assert int(ring.size) == ok.sum()
    np.testing.assert_array_equal(ring.store.obs[: ok.sum(), 0], obs[ok])


def test_terminations_are_named():
    with pytest.raises(ValueError, match="hopper"):
        ts.MOPO(termination="hoper", **DREAM).init(tiny(Box).transitions(), key=jax.random.key(0))


@pytest.mark.parametrize("name", ["Hopper", "Walker2d", "Ant", "Humanoid"])
def test_terminations_are_those_of_gymnasium(name):
    pytest.importorskip("mujoco")
    import gymnasium

    env = gymnasium.make(f"{name}-v5").unwrapped
    env.reset(seed=0)
    rng, rest = np.random.default_rng(0), env.init_qpos.copy()
    height = 1 if name in ("Hopper", "Walker2d") else 2
    said, want = [], []
    for _ in range(60):
        q, v = rest.copy(), rng.normal(size=env.model.nv)
        q[height] = rng.uniform(0.0, 2.4)
        if height == 1:
            q[2] = rng.uniform(-0.3, 0.3) * (1 if name == "Hopper" else 5)
        env.set_state(q, v)
        said.append(bool(TERMINATIONS[name.lower()](jnp.asarray(env._get_obs(), jnp.float32))))
        want.append(not env.is_healthy)
    env.close()
    assert said == want and 0 < sum(want) < 60


# exploitation ------------------------------------------------------------------------------------------------------------------


def ledge(n: int = 2000) -> Episodes:
    """Going right pays, and above -0.2 steps get shaky; behind 0.2 lies a cliff that the log, which ends at 0.1, never met."""
    rng = np.random.default_rng(0)
    action, obs = rng.uniform(-1, 0.1, (n, 1)), rng.normal(size=(n, 2))
    next_obs = 0.5 * obs + (0.05 + 2 * np.maximum(action + 0.2, 0)) * rng.normal(size=(n, 2))
    reward = action[:, 0] + 0.05 * rng.normal(size=n)
    return Episodes.of(
        obs, action, reward, np.zeros(n), ends=np.arange(1, n + 1) % 20 == 0, next_obs=next_obs, low=-1.0, high=1.0
    ).normalised()


WORLD = dict(model_hidden=(32, 32), model_steps=400, models=5, elites=3, rollouts=200, every=100, horizon=2, retain=2)
AGENT = dict(hidden=(32, 32), batch_size=64, lr=3e-3, steps=1500)
SOON = dict(discount=0.8, target_rate=0.05)


def walk(x, action):
    """(where a step leads, what it earns): observations are a place and a goal, both in [-1, 1], and only the place moves."""
    there = np.clip(x[:, :1] + 0.4 * action, -1, 1)
    return np.concatenate([there, x[:, 1:]], axis=1), -((there - x[:, 1:])[:, 0] ** 2)


def wander(share: float, n: int = 2000) -> Episodes:
    """Steps of 20 at a time towards random goals: a `share` of them in the right direction, the others in any."""
    rng = np.random.default_rng(0)
    x, rows = rng.uniform(-1, 1, (n // 20, 2)), []
    for _ in range(20):
        right = np.clip((x[:, 1:] - x[:, :1]) / 0.4, -1, 1)
        action = np.where(rng.random((len(x), 1)) < share, right, rng.uniform(-1, 1, (len(x), 1)))
        there, reward = walk(x, action)
        rows.append((x, action, reward, there))
        x = there
    obs, action, reward, next_obs = (np.stack(column, axis=1).reshape(n, *column[0].shape[1:]) for column in zip(*rows))
    return Episodes.of(
        obs, action, reward, np.zeros(n), ends=np.arange(1, n + 1) % 20 == 0, next_obs=next_obs, low=-1.0, high=1.0
    ).normalised()


act = jax.jit(lambda policy, obs: policy(obs).mode())


def learned(algorithm, log):
    """(the greedy policies as functions of arrays, the mean Q of what was drawn last), by seed."""
    metrics = {}
    out = train([(algorithm, seed) for seed in range(2)], log, every=500, listeners=[lambda now, m: metrics.update(m)])
    assert not any(out.faults), out.faults
    policies = [log.policy(algorithm.policy(state)) for state in unstack(out.states, 2)]
    return [lambda obs, p=p: np.asarray(act(p, jnp.float32(obs))) for p in policies], np.asarray(metrics.get("critic/q", np.nan))


def outcome(algorithm):
    """On the ledge: (what the policy earns a step, what it thinks it earns), by seed."""
    log = ledge()
    policies, q = learned(algorithm, log)
    action = [policy(log.obs)[:, 0] for policy in policies]
    earned = np.array([np.where(a <= 0.2, a, -3.0).mean() for a in action])
    return earned, (1 - SOON["discount"]) * q


def progress(algorithm, log):
    """What the policy truly earns a step in the first ten of a walk, by seed."""
    earned = []
    for policy in learned(algorithm, log)[0]:
        x, rewards = np.stack(np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)), axis=-1).reshape(-1, 2), []
        for _ in range(10):
            x, reward = walk(x, policy(x))
            rewards.append(reward.mean())
        earned.append(np.mean(rewards))
    return np.array(earned)


@pytest.fixture(scope="module")
def imitation():
    return outcome(ts.BC(**AGENT))[0]


def test_a_model_that_is_believed_is_exploited(imitation):
    earned, believed = outcome(ts.MBPO(**WORLD, **AGENT, **SOON))
    assert (believed > 0.1).all(), believed  # better than anything logged
    assert (earned < -2.5).all() and (earned < imitation - 1).all(), earned


CAREFUL = {
    "mopo": ts.MOPO(penalty=15.0, uncertainty="spread", **WORLD, **AGENT, **SOON),
    "morel": ts.MOReL(penalty=1.0, threshold=3.0, **WORLD, **AGENT, **SOON),
    "combo": ts.COMBO(actor_lr=3e-3, actions_sampled=4, **WORLD, **AGENT, **SOON),
}  # fmt: skip


@pytest.mark.parametrize("name", CAREFUL)
def test_a_model_that_is_doubted_beats_imitation(name, imitation):
    earned, believed = outcome(CAREFUL[name])
    assert (earned > imitation + 0.05).all(), (earned, imitation)
    assert (believed < earned + 0.05).all(), (believed, earned)


def test_the_penalty_for_noise_keeps_away_from_the_cliff_but_not_from_caution():
    """Noise that models expect says little about what they do not know: where it is as large as it gets, going on is free again."""
    earned, believed = outcome(ts.MOPO(penalty=3.0, **WORLD, **AGENT, **SOON))
    assert (earned > -1).all() and (believed < earned).all(), (earned, believed)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_pessimism_in_a_learned_world_beats_imitation_of_random_and_mixed_walks(share):
    """The best policy earns -0.06 a step, standing still -0.83."""
    log = wander(share)
    imitation = progress(ts.BC(**AGENT), log)
    mopo = progress(ts.MOPO(penalty=1.0, uncertainty="spread", **WORLD, **AGENT, **SOON), log)
    assert (imitation < -0.2).all() and (mopo > -0.14).all(), (imitation, mopo)
