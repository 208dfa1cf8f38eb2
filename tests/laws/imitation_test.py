"""Imitation: heads with several modes, both divergences, the best episodes, experts who are asked, discriminators, corrective labels."""

import dataclasses

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generative_test import TINY, divided, learned, shares
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.stats import norm

import topstitch as ts
from topstitch import nets, online
from topstitch.core import Box, Discrete, Spec
from topstitch.data import Episodes
from topstitch.loop import one_step, stage_key, train, unstack
from topstitch.testing import tiny

SMALL = settings(max_examples=20, deadline=None)


def numbers(*shape, low=-2, high=2):
    return arrays(np.float32, shape, elements=st.floats(low, high, width=32)).map(jnp.asarray)


# distributions ---------------------------------------------------------------------------------------------------------------


@SMALL
@given(numbers(3, 4), numbers(3, 4, 2, low=-1, high=1), numbers(3, 4, 2, low=-1, high=0), numbers(3, 2, low=-1, high=1))
def test_a_mixture_of_normals_is_the_sum_of_its_parts(logits, mean, log_std, action):
    said = nets.NormalMixture(logits, mean, log_std)
    weight = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    parts = norm.pdf(np.asarray(action)[:, None], np.asarray(mean), np.exp(np.asarray(log_std))).prod(axis=-1)
    np.testing.assert_allclose(np.exp(said.log_prob(action)), (weight * parts).sum(axis=1), rtol=1e-3, atol=1e-6)
    density = np.stack([said.log_prob(mean[:, k]) for k in range(4)])
    np.testing.assert_allclose(said.log_prob(said.mode()), density.max(axis=0), rtol=1e-4, atol=1e-4)
    one = nets.NormalMixture(logits[:, :1], mean[:, :1], log_std[:, :1])
    np.testing.assert_allclose(one.log_prob(action), nets.Normal(mean[:, 0], log_std[:, 0]).log_prob(action), rtol=1e-5, atol=1e-5)


def test_draws_of_a_mixture_follow_its_density():
    said = nets.NormalMixture(jnp.log(jnp.array([0.7, 0.3])), jnp.array([[-0.5], [0.4]]), jnp.log(jnp.array([[0.1], [0.2]])))
    density = lambda a: float(np.exp(said.log_prob(jnp.float32([a]))))
    assert quad(density, -2, 2, points=[-0.5, 0.4])[0] == pytest.approx(1, abs=1e-4)
    drawn = np.asarray(jax.jit(jax.vmap(said.sample))(jax.random.split(jax.random.key(0), 20_000)))[:, 0]
    for low, high in ((-0.7, -0.4), (-0.1, 0.3), (0.3, 0.9)):
        share = ((drawn > low) & (drawn < high)).mean()
        assert share == pytest.approx(quad(density, low, high)[0], abs=0.012)


def test_bins_after_bins_are_a_density_and_draws_follow_it():
    policy = nets.Autoregressive(Spec(Box(3), Box(2)), (8,), key=jax.random.key(0), bins=4)
    policy = jax.tree.map(lambda x: 3 * x, policy)  # so that the second dimension heeds the first
    obs = jax.random.normal(jax.random.key(1), (3,))
    middles = jnp.array([-0.75, -0.25, 0.25, 0.75])
    grid = jnp.stack(jnp.meshgrid(middles, middles, indexing="ij"), axis=-1).reshape(-1, 2)
    many = jnp.broadcast_to(obs, (16, 3))
    log_prob = policy(many).log_prob(grid)
    chance = np.exp(np.float64(log_prob)) * 0.25
    assert chance.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(policy(many).log_prob(grid + 0.2), log_prob, atol=1e-6)  # flat within a bin
    table = chance.reshape(4, 4)
    conditional = table / table.sum(axis=1, keepdims=True)
    assert np.abs(conditional - conditional[:1]).max() > 0.05
    drawn = np.asarray(policy(jnp.broadcast_to(obs, (20_000, 3))).sample(jax.random.key(2)))
    where = np.floor((drawn + 1) * 2).astype(int)
    seen = np.histogram2d(where[:, 0], where[:, 1], bins=[range(5), range(5)])[0] / len(drawn)
    np.testing.assert_allclose(seen, table, atol=0.015)
    first = table.sum(axis=1).argmax()
    np.testing.assert_allclose(policy(obs).mode(), middles[jnp.array([first, conditional[first].argmax()])], atol=1e-6)


# divided practice --------------------------------------------------------------------------------------------------------------

HEADS = {
    "mixture": ts.BC(head="mixture", **TINY),
    "autoregressive": ts.BC(head="autoregressive", bins=16, **TINY),
    "latent": ts.VAEBC(alpha=0.02, **TINY),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_with_several_modes_keep_both_ways_of_a_divided_practice(name):
    """One Gaussian goes between them: `generative_test`."""
    said = shares(HEADS[name].policy(learned(HEADS[name], divided())))
    assert abs(said["common"] - 0.7) < 0.12 and abs(said["rare"] - 0.3) < 0.12 and said["between"] < 0.15, said
    assert said["second"] > 0.85, said


def test_one_divergence_covers_modes_and_the_other_seeks_one():
    """A Gaussian on two narrow ways: the forward one has the moments of the log, the reverse one lies on one way and misses the other."""
    rng, n = np.random.default_rng(0), 2000
    way = np.where(rng.random(n) < 0.5, -0.6, 0.6)
    action = (way + 0.05 * rng.normal(size=n))[:, None]
    log = Episodes.of(np.zeros(n, int), action, np.zeros(n), np.ones(n, bool), states=1, low=-1.0, high=1.0)
    how = dict(hidden=(), batch_size=128, steps=900, lr=0.02)
    forward = ts.BC(**how)
    said = forward.policy(learned(forward, log))(jnp.int32(0))
    np.testing.assert_allclose(said.mean[0], action.mean(), atol=0.1)
    np.testing.assert_allclose(np.exp(said.log_std[0]), action.std(), atol=0.05)
    reverse, seen = ts.ReverseKL(model_hidden=(), model_steps=600, modes=3, actions_sampled=4, **how), []
    out = train([(reverse, seed) for seed in range(2)], log, every=300, listeners=[lambda now, metrics: seen.append(metrics)])
    for state, divergence in zip(unstack(out.states, 2), seen[-1]["actor/divergence"]):
        said = reverse.policy(state)(jnp.int32(0))
        assert abs(abs(float(said.mean[0])) - 0.6) < 0.05 and np.exp(said.log_std[0]) < 0.1
        assert divergence == pytest.approx(np.log(2), abs=0.2)  # half of the log is left out, and that is all


# the best episodes ---------------------------------------------------------------------------------------------------------------


def test_all_of_the_best_episodes_are_the_log():
    log = tiny(Discrete)
    how = dict(hidden=(8,), batch_size=16, lr=1e-2, steps=5)
    this, that = (learned(algorithm, log) for algorithm in (ts.PercentileBC(share=1.0, **how), ts.BC(**how)))
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(jax.tree.leaves(this), jax.tree.leaves(that), strict=True))


@settings(max_examples=20, deadline=None)
@given(arrays(np.int64, 12, elements=st.integers(-3, 3)), st.floats(0.01, 1))
def test_the_best_episodes_are_no_worse_than_the_others(returns, share):
    log = Episodes.of(np.arange(12.0), np.arange(12) % 2, returns, np.ones(12, bool), actions=2)
    kept = np.asarray(ts.PercentileBC(share=share).prepare(log).rows().obs)[:, 0].astype(int)
    others = np.setdiff1d(np.arange(12), kept)
    assert len(kept) >= np.floor(share * 12) and returns[kept].min() > returns[others].max(initial=-9)


def test_what_shapes_the_data_cannot_be_swept():
    with pytest.raises(ValueError, match=r"PercentileBC\.share takes the values"):
        ts.train([ts.PercentileBC(share=s, steps=2, hidden=(8,)) for s in (0.1, 0.5)], tiny(Discrete))


# an expert who is asked -----------------------------------------------------------------------------------------------------------

EPSILON = 0.01
"How often a foot slips."


class Tightrope(gymnasium.Env):
    """Action 0 walks on along the rope, or stays on the ground; 1 falls off it, or climbs back. Being on the ground costs 1."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.down, self.at = 0, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.down, self.at = (1 - self.down if action == 1 else self.down), self.at + 1
        return np.full(1, self.down, np.float32), -float(self.down), False, self.at == 20, {}


def expert(obs):
    return int(obs[0])


def fall(policy, horizon: int) -> float:
    """The expected cost of a greedy policy whose foot slips, exactly."""
    acts = np.asarray(policy(jnp.array([[0.0], [1.0]])).mode())
    changes = np.where(acts == 1, 1 - EPSILON, EPSILON)  # off the rope, and back onto it
    down, cost = 0.0, 0.0
    for _ in range(horizon):
        down = (1 - down) * changes[0] + down * (1 - changes[1])
        cost += down
    return cost


@pytest.fixture
def tightrope():
    gymnasium.register("Tightrope-v0", Tightrope)
    yield "Tightrope-v0"
    del gymnasium.registry["Tightrope-v0"]


LINEAR = dict(hidden=(), batch_size=32, lr=0.05)
SHAKY = online.Acting(warmup=60, block=20, level=0.8)


def growth(policy) -> tuple[float, np.ndarray]:
    """(the power of the horizon with which the cost grows, the costs)."""
    horizons = np.array([4, 8, 16, 32])
    costs = np.array([fall(policy, t) for t in horizons])
    return np.polyfit(np.log(horizons), np.log(costs), 1)[0], costs


def test_a_clone_loses_with_the_square_of_the_horizon_and_dagger_linearly(tightrope):
    """Ross and Bagnell 2010, and Ross, Gordon and Bagnell 2011. The expert never falls, so its log does not say how to get up."""
    walked = Episodes.of(np.zeros((60, 1)), np.zeros(60, int), np.zeros(60), np.arange(1, 61) % 20 == 0, actions=2)
    clone = ts.train(ts.BC(steps=300, **LINEAR), walked)[0].policy
    power, costs = growth(clone)
    np.testing.assert_allclose(costs, [sum((1 - (1 - 2 * EPSILON) ** t) / 2 for t in range(1, n + 1)) for n in (4, 8, 16, 32)], rtol=1e-6)
    assert 1.7 < power < 2.05
    asked = online.train_online(ts.DAgger(steps=300, **LINEAR), tightrope, expert=expert, acting=SHAKY, every=100)[0].policy
    power, costs = growth(asked)
    assert 0.9 < power < 1.1 and costs[-1] < 2 * EPSILON * 32


def test_what_the_expert_said_is_kept_and_can_be_learned_from(tightrope, tmp_path):
    """The expert may be a policy. It led in the warm-up; afterwards its word stands beside what was done."""
    first = online.train_online(ts.DAgger(steps=40, **LINEAR), tightrope, expert=expert, acting=SHAKY, every=20)[0].policy
    how = dict(expert=first, acting=SHAKY, every=20, out=tmp_path / "runs")
    online.train_online(ts.DAgger(steps=40, **LINEAR), tightrope, **how)
    log = ts.read(tmp_path / "runs" / "replay" / "0.log.safetensors")
    said = np.asarray(first(jnp.asarray(log.obs)).mode())
    np.testing.assert_array_equal(log.info["expert"], said)
    np.testing.assert_array_equal(log.action[:60], said[:60])
    assert (log.action[60:] != said[60:]).any() and log.log_prob is None
    told = dataclasses.replace(log, action=said.astype(np.int32))
    this, that = learned(ts.DAgger(steps=20, **LINEAR), log), learned(ts.BC(steps=20, **LINEAR), told)
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(jax.tree.leaves(this), jax.tree.leaves(that), strict=True))


# a discriminator ------------------------------------------------------------------------------------------------------------------


def test_the_discriminator_finds_the_ratio_of_densities():
    """Of two normals of one width a logistic regression on the action alone is right: log p/q = a (m - n) / σ², plus a constant."""
    rng, n = np.random.default_rng(0), 4000
    side = lambda mean: Episodes.of(
        np.zeros(n, int), mean + 0.3 * rng.normal(size=(n, 1)), np.zeros(n), np.ones(n, bool), states=1, low=-3.0, high=3.0
    )
    expert_rows, own = (side(mean).transitions().rows() for mean in (0.5, -0.25))
    gail = ts.GAIL(penalty=0.0, hidden=(), lr=0.1)
    state = jax.jit(gail.init)(side(0.0).transitions(), key=jax.random.key(0))
    step = lambda i, d: gail.discern(d, expert_rows, own, key=jax.random.fold_in(jax.random.key(1), i))[0]
    found = jax.jit(lambda d: jax.lax.fori_loop(0, 800, step, d))(state.discriminator)
    at = lambda a: float(found(jnp.int32(0), jnp.array([a / 3])))
    assert at(1.0) - at(0.0) == pytest.approx(0.75 / 0.09, rel=0.1)
    assert at(0.125) == pytest.approx(0, abs=0.4)  # half way between them


class Once(gymnasium.Env):
    """One step an episode, and nothing that is earned."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, True, False, {}


def test_gail_does_what_the_expert_did_without_being_told_what_for():
    gymnasium.register("Once-v0", Once)
    rng, n = np.random.default_rng(0), 200
    demonstrations = Episodes.of(
        np.zeros((n, 1)), 0.6 + 0.05 * rng.normal(size=(n, 1)), rng.normal(size=n), np.ones(n, bool), low=-1.0, high=1.0
    )
    how = dict(hidden=(16,), batch_size=32, lr=3e-3, target_rate=0.05, steps=600)
    acting = online.Acting(warmup=50, block=50, capacity=200)
    run = online.train_online(ts.GAIL(penalty=1.0, **how), "Once-v0", log=demonstrations, acting=acting, every=300)[0]
    del gymnasium.registry["Once-v0"]
    assert run.fault is None and float(run.policy(jnp.zeros(1)).mode()[0]) == pytest.approx(0.6, abs=0.2)


# corrective labels ----------------------------------------------------------------------------------------------------------------


def path(episodes: int = 20, steps: int = 20) -> Episodes:
    """A walker goes to the right along a line, swaying a little; whatever it does moves it by a tenth of it."""
    rng = np.random.default_rng(0)
    action = np.stack([rng.uniform(0.5, 1, (episodes, steps)), rng.uniform(-0.3, 0.3, (episodes, steps))], axis=-1)
    action[:, :, 1] -= action[:, :, 1].mean(axis=1, keepdims=True)
    after = 0.1 * np.cumsum(action, axis=1)
    obs = np.concatenate([np.zeros((episodes, 1, 2)), after[:, :-1]], axis=1)
    flat = lambda x: x.reshape(-1, 2)
    ends = np.tile(np.arange(steps) == steps - 1, episodes)
    return Episodes.of(
        flat(obs), flat(action), np.zeros(len(ends)), np.zeros(len(ends), bool), ends=ends, next_obs=flat(after), low=-1.0, high=1.0
    )


CORRECT = dict(hidden=(32,), model_hidden=(32,), batch_size=128, model_steps=500, steps=500, lr=3e-3, model_lr=3e-3, threshold=0.5)


def test_corrective_labels_lead_onto_the_path():
    log, key = path(), jax.random.key(0)
    algorithm = ts.CCIL(labels="disturbed", noise=0.5, **CORRECT)
    state, rows = learned(algorithm, log), log.transitions().rows()
    obs, action, believed = algorithm.corrected(state, rows, key=key)
    assert believed.mean() > 0.95
    np.testing.assert_allclose(obs + 0.1 * action, rows.next_obs, atol=0.05)  # one true step later it is where the expert was
    assert np.abs(obs[:, 1] - rows.obs[:, 1]).mean() > 0.02
    back = dataclasses.replace(algorithm, labels="backtrack")
    obs, action, _ = back.corrected(state, rows, key=key)
    np.testing.assert_array_equal(action, rows.action)
    np.testing.assert_allclose(obs + 0.1 * action, rows.obs, atol=0.05)
    # beside the path a clone goes straight on, and who has seen the labels comes back
    off = jnp.array([[1.0, 0.1], [1.0, -0.1]])
    said = np.asarray(algorithm.policy(state)(off).mode())[:, 1]
    clone = ts.BC(head="deterministic", hidden=(32,), batch_size=128, steps=800, lr=3e-3)
    straight = np.asarray(clone.policy(learned(clone, log))(off).mode())[:, 1]
    assert said[0] < -0.2 and said[1] > 0.2 and np.abs(straight).max() < 0.2


def test_no_label_is_believed_from_afar_and_then_ccil_is_cloning():
    log, how = path(4), dict(batch_size=16, lr=1e-2, steps=5, hidden=(8,))
    this, that = ts.CCIL(threshold=0.0, model_hidden=(8,), model_steps=3, **how), ts.BC(head="deterministic", **how)
    data, key = log.transitions(), jax.random.key(1)
    start, own = (jax.jit(algorithm.init)(data, key=key) for algorithm in (that, this))
    own = eqx.tree_at(lambda s: s.actor, own, start)

    @jax.jit
    def run(algorithm, state):
        stage = algorithm.stages()[-1]
        step = lambda i, s: one_step(stage, s, data, i, stage_key(key, stage))[0]
        return jax.lax.fori_loop(0, 5, step, state)

    clone, cautious, trusting = run(that, start), run(this, own).actor, run(dataclasses.replace(this, threshold=9.0), own).actor
    near = lambda a, b: all(np.allclose(x, y, rtol=1e-4, atol=1e-6) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
    assert near(clone, cautious) and not near(clone, trusting)


def test_a_model_that_must_not_be_steep_is_not():
    log = path()
    flat, free = (learned(ts.CCIL(slope=s, penalty=p, **CORRECT), log) for s, p in ((0.01, 1e4), (2.0, 0.5)))
    x = jnp.concatenate([log.transitions().rows().obs, log.transitions().rows().action], axis=-1)[:50]
    steep = jax.jit(lambda s: jnp.abs(jax.vmap(jax.jacfwd(lambda x: s.told.undo(s.dynamics(s.asked(x)))))(x)).mean())
    assert steep(flat) < 0.3 * steep(free)
