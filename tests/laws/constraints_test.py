"""What theory says of methods that keep the policy near behaviour: identities of distances, limits, exact fixed points, and which of them can
leave a bad habit."""

import dataclasses
import functools as ft

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.stats import norm, wasserstein_distance

import topstitch as ts
from topstitch import nets, ops
from topstitch.core import Box, Discrete
from topstitch.data.device import Transitions
from topstitch.loop import one_step, stage_key, train, unstack
from topstitch.testing import tiny
from topstitch.worlds import MDP, baited_line, empirical, lineworld, sample, table

SMALL = settings(max_examples=30, deadline=None)
N, A = 5, 4


def numbers(shape, low=-3.0, high=3.0):
    return arrays(np.float32, shape, elements=st.floats(low, high, width=32, allow_subnormal=False)).map(jnp.asarray)


chances = arrays(np.float32, (N, A), elements=st.floats(0.0625, 1, width=32)).map(lambda p: jnp.asarray(p / p.sum(axis=1, keepdims=True)))

# the best of several draws -------------------------------------------------------------------------------------------------


@SMALL
@given(numbers((N, A)), chances, st.integers(1, 3))
def test_the_best_of_several_draws_is_what_enumeration_says(q, p, n):
    said = np.asarray(ops.best_of(q, p, n))
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
    draws = np.stack(np.meshgrid(*[np.arange(A)] * n, indexing="ij"), axis=-1).reshape(-1, n)
    for row, chance, value in zip(said, np.float64(p), np.asarray(q)):
        most = (chance[draws].prod(axis=1) * value[draws].max(axis=1)).sum()
        assert (row * value).sum() == pytest.approx(most, abs=1e-4)
    np.testing.assert_allclose(ops.best_of(q, p, 1), p, atol=1e-6)


@SMALL
@given(numbers((N, A)), chances)
def test_more_draws_are_worth_more_up_to_the_best_of_what_is_drawn_at_all(q, p):
    p = jnp.where(jnp.arange(A)[None] == 1, 0, p)
    p = p / p.sum(axis=1, keepdims=True)
    worth = [(ops.best_of(q, p, n) * q).sum(axis=1) for n in (1, 2, 5, 500)]
    assert (np.diff(worth, axis=0) >= -1e-5).all()
    np.testing.assert_allclose(worth[-1], jnp.where(p > 0, q, -jnp.inf).max(axis=1), atol=1e-3)
    assert (ops.best_of(q, p, 500)[:, 1] == 0).all()


# distances -----------------------------------------------------------------------------------------------------------------


@SMALL
@given(chances, chances, numbers((N, A), 0.125, 5.0))
def test_the_variational_divergence_is_at_most_the_true_one_and_reaches_it(p, b, g):
    def estimate(g):
        pairs = ops.variational_kl(jnp.broadcast_to(g[:, :, None], (N, A, A)), jnp.broadcast_to(g[:, None, :], (N, A, A)))
        return np.asarray((p[:, :, None] * b[:, None, :] * pairs).sum(axis=(1, 2)))

    true = (np.float64(p) * np.log(np.float64(p) / b)).sum(axis=1)
    assert (estimate(g) <= true + 1e-4).all()
    np.testing.assert_allclose(estimate(p / b), true, atol=1e-4)


@SMALL
@given(numbers(2, -1.0, 1.0), numbers(2, -1.0, 0.5))
def test_the_divergence_of_normals_is_that_from_the_standard_one_in_other_units(mean, log_std):
    x = np.linspace(-15, 15, 20_001)
    one, two = (norm(float(m), np.exp(float(s))) for m, s in zip(mean, log_std))
    want = np.trapezoid(one.pdf(x) * (one.logpdf(x) - two.logpdf(x)), x)
    said = ops.kl_to_standard((mean[0] - mean[1]) * jnp.exp(-log_std[1]), log_std[0] - log_std[1])
    assert float(said) == pytest.approx(want, abs=2e-3)


@SMALL
@given(numbers((N, 2)))
def test_steepness_counts_only_what_is_above_one(gradient):
    length = np.linalg.norm(np.float64(gradient), axis=1)
    np.testing.assert_allclose(ops.steepness(gradient), np.maximum(length - 1, 0) ** 2, atol=1e-3)
    slope = jax.grad(lambda g: ops.steepness(g).sum())(jnp.zeros((N, 2)))
    assert (slope == 0).all()


@SMALL
@given(numbers(8), numbers(8), numbers(3, -1.0, 1.0))
def test_judges_no_steeper_than_one_see_at_most_the_wasserstein_distance(x, y, slopes):
    distance = wasserstein_distance(np.asarray(x), np.asarray(y))

    def seen(f):
        assert (ops.steepness(jax.vmap(jax.grad(f))(jnp.linspace(-3, 3, 61))[:, None]) < 1e-4).all()
        return float(jax.vmap(f)(x).mean() - jax.vmap(f)(y).mean())

    assert (
        seen(lambda a: slopes[0] * a + jnp.sum(slopes[1:] * jnp.maximum(a - jnp.array([-1.0, 1.0]), 0)) / 3 * (1 - jnp.abs(slopes[0])))
        <= distance + 1e-3
    )
    if (jnp.sort(x) >= jnp.sort(y)).all():  # one lies above the other: then the line itself is the best judge
        assert seen(lambda a: a) == pytest.approx(distance, abs=1e-3)


# limits --------------------------------------------------------------------------------------------------------------------

NETS = dict(hidden=(8, 8), batch_size=8, lr=1e-2, steps=5)
BEFORE = dict(behaviour_hidden=(8,), behaviour_steps=5)


class First(Transitions):
    """Draws are the first rows, whatever the key, so that methods that draw more rows than others see the same ones first."""

    def draw(self, n, *, key):
        return self.all[jnp.arange(n) % len(self)]


def first(algorithm, action) -> First:
    rows = algorithm.prepare(tiny(action, masks=action is Discrete))
    return First(rows.all, rows.view, rows.spec)


@jax.jit
def begin(algorithm, data, key):
    return algorithm.init(data, key=key)


@ft.partial(jax.jit, static_argnames="name")
def learn(algorithm, state, data, name="learn"):
    """Five steps of the stage of that name."""
    [stage] = [stage for stage in algorithm.stages() if stage.name == name]
    step = lambda i, state: one_step(stage, state, data, i, stage_key(jax.random.key(7), stage))[0]
    return jax.lax.fori_loop(0, 5, step, state)


def same(a, b, **within):
    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        (np.testing.assert_allclose if within else np.testing.assert_array_equal)(x, y, err_msg=jax.tree_util.keystr(place), **within)


def differ(a, b) -> bool:
    return any(not np.allclose(x, y, rtol=1e-5) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize(("divergence", "where"), [("kl", "value"), ("mmd", "policy"), ("kl_dual", "policy"), ("wasserstein", "value")])
def test_brac_that_pays_nothing_is_sac(divergence, where):
    brac = ts.BRAC(
        alpha=0.0,
        entropy=True,
        warmup=0,
        actor_lr=NETS["lr"],
        behaviour_steps=5,
        actions_sampled=2,
        divergence=divergence,
        where=where,
        **NETS,
    )
    data, sac = first(brac, Box), ts.SAC(**NETS)
    start = begin(sac, data, jax.random.key(1))
    wanted = learn(sac, start, data)
    own = eqx.tree_at(lambda s: s.agent, begin(brac, data, jax.random.key(2)), start)
    done = learn(brac, own, data)
    same(done.agent, wanted, rtol=1e-5, atol=1e-7)
    assert differ(wanted, start)
    assert differ(learn(dataclasses.replace(brac, alpha=1.0), own, data).agent, wanted)
    assert differ(done.rival, own.rival) == brac.judged


def test_brac_only_matches_during_its_warmup():
    brac = ts.BRAC(warmup=5, behaviour_steps=5, actions_sampled=2, actor_lr=1e-2, **NETS)
    data = first(brac, Box)
    punished = eqx.tree_at(lambda d: d.all.reward, data, -5 * data.all.reward)
    start = begin(brac, data, jax.random.key(1))
    one, two = (learn(brac, start, d).agent for d in (data, punished))
    same(one.actor, two.actor)
    assert differ(one.actor.model, start.agent.actor.model) and differ(one.critic.model, two.critic.model)
    same(one.log_temperature, start.agent.log_temperature)  # nothing is earned by entropy


def test_spot_without_density_is_td3():
    spot, td3 = ts.SPOT(alpha=0.0, normalise_q=False, actor_lr=NETS["lr"], **BEFORE, **NETS), ts.TD3(**NETS)
    data = first(spot, Box)
    start = begin(td3, data, jax.random.key(1))
    wanted = learn(td3, start, data)
    own = eqx.tree_at(lambda s: s.agent, begin(spot, data, jax.random.key(2)), start)
    done = learn(spot, own, data)
    same(done.agent, wanted)
    same(done.behaviour, own.behaviour)
    assert differ(wanted, start) and differ(learn(dataclasses.replace(spot, alpha=1.0), own, data).agent, wanted)


def test_plas_acts_within_what_its_decoder_makes():
    plas = ts.PLAS(actor_lr=1e-2, **BEFORE, **NETS)
    data = first(plas, Box)
    state = learn(plas, learn(plas, begin(plas, data, jax.random.key(1)), data, "behaviour"), data)
    obs, vae = data.all.obs, state.behaviour.model
    middle = vae.decode(obs, jnp.zeros((len(data), vae.size)))
    acted = plas.policy(state)(obs).mode()
    corners = jax.vmap(lambda z: vae.decode(obs, jnp.broadcast_to(z, (len(data), vae.size))))(
        2 * jax.random.uniform(jax.random.key(0), (2000, vae.size), minval=-1)
    )
    assert differ(acted, middle) and ((acted >= corners.min(axis=0) - 0.02) & (acted <= corners.max(axis=0) + 0.02)).all()
    still = ts.PLAS(reach=0.0, **BEFORE, **NETS)  # nowhere to go: the middle of behaviour
    start = begin(still, data, jax.random.key(1))
    done = learn(still, start, data)
    np.testing.assert_array_equal(still.policy(done)(obs).mode(), done.behaviour.model.decode(obs, jnp.zeros((len(data), vae.size))))
    moved = dataclasses.replace(plas, perturbation=0.05).policy(state)(obs).mode() - acted
    assert 0 < jnp.abs(moved).max() <= 0.05 + 1e-6


def test_emaq_with_one_candidate_acts_as_behaviour():
    for action, act in (
        (Box, lambda policy, obs: policy(obs).sample(jax.random.key(3))),
        (Discrete, lambda policy, obs: policy(obs).probs()),
    ):
        emaq = ts.EMaQ(candidates=1, bins=4, **BEFORE, **NETS)
        data = first(emaq, action)
        state = learn(emaq, learn(emaq, begin(emaq, data, jax.random.key(1)), data, "behaviour"), data)
        np.testing.assert_allclose(act(emaq.policy(state), data.all.obs), act(state.behaviour.model, data.all.obs), atol=1e-6)


@pytest.mark.parametrize("action", [Box, Discrete])
def test_one_step_without_sharpness_goes_on_cloning(action):
    how = dict(improvement="exponential", behaviour_steps=5, value_steps=5, candidates=3)
    method, bc = ts.OneStep(beta=0.0, **how, **NETS), ts.BC(**NETS)
    data = first(method, action)
    state = learn(method, begin(method, data, jax.random.key(1)), data, "behaviour")
    state = learn(method, method.begin(state, data, key=jax.random.key(0)), data, "value")
    same(state.actor.model, state.behaviour.model)
    wanted = learn(bc, state.actor, data)
    done = learn(method, state, data)
    same(done.actor, wanted)
    same((done.critic, done.behaviour), (state.critic, state.behaviour))
    assert differ(wanted.model, state.actor.model)
    assert differ(learn(dataclasses.replace(method, beta=3.0), state, data).actor, wanted)


def test_a_cheap_enough_departure_from_behaviour_is_q_learning():
    cheap, dqn = ts.KLControl(alpha=1e-6, critics=1, behaviour_steps=5, **NETS), ts.DQN(**NETS)
    data = first(cheap, Discrete)
    start = begin(dqn, data, jax.random.key(1))
    own = eqx.tree_at(lambda s: (s.critic, s.target), begin(cheap, data, jax.random.key(2)), (start.critic, start.target))
    done, wanted = learn(cheap, own, data), learn(dqn, start, data)
    same((done.critic.model, done.target), (wanted.critic.model, wanted.target), rtol=1e-3, atol=1e-5)
    dear = dataclasses.replace(cheap, alpha=1e6)
    assert differ(learn(dear, own, data).critic.model, wanted.critic.model)
    obs, mask = data.all.obs, data.all.mask
    np.testing.assert_allclose(dear.policy(own)(obs, mask).probs(), own.behaviour(obs, mask).probs(), atol=1e-5)
    np.testing.assert_array_equal(cheap.policy(own)(obs, mask).mode(), nets.greedy(own.critic.model.every(obs)[0], mask).mode())


# a line, exactly -----------------------------------------------------------------------------------------------------------

DISCOUNT = 0.8
TABLE = dict(hidden=(), batch_size=1, discount=DISCOUNT, target_rate=0.5)
BAIT = 2


class Whole(Transitions):
    """Every batch is the whole log."""

    def draw(self, n, *, key):
        return self.all


NEVER = 3e-4
"How likely a model of behaviour believes what was never done to be: a net is never sure."


def settled(algorithm, log):
    """Its state when it has learned all that the log says, given how often each action was taken as its model of behaviour."""
    rows = algorithm.prepare(log)
    data = Whole(rows.all, rows.view, rows.spec)
    state = begin(algorithm, data, jax.random.key(0))
    if not isinstance(algorithm, ts.DiscreteBCQ):
        layer = lambda s: s.behaviour.model.net.layers[0]
        given = jnp.log(behaviour_of(empirical(log)))
        state = eqx.tree_at(lambda s: (layer(s).weight, layer(s).bias), state, (jnp.float32(given), jnp.zeros(3)))
    return go(algorithm, state, data, "value" if isinstance(algorithm, ts.OneStep) else "learn")


@ft.partial(jax.jit, static_argnames="name")
def go(algorithm, state, data, name):
    [stage] = [stage for stage in algorithm.stages() if stage.name == name]
    step = lambda i, state: one_step(stage, state, data, i, jax.random.key(0))[0]
    return jax.lax.fori_loop(0, stage.steps, step, state)


def behaviour_of(said) -> np.ndarray:
    """(6, 3)."""
    return said.behaviour[:6] * (1 - NEVER) + NEVER * np.eye(3)[BAIT]


LIVE = slice(5)
HOW = dict(steps=4000, lr=0.001, **TABLE)  # at larger steps Adam circles around the fixed points of maxima
METHODS = {
    "close": ts.KLControl(alpha=0.3, critics=1, **HOW),
    "loose": ts.KLControl(alpha=0.01, critics=1, **HOW),
    "behaviour": ts.EMaQ(candidates=1, critics=1, behaviour_hidden=(), **HOW),
    "many": ts.EMaQ(candidates=32, critics=1, behaviour_hidden=(), **HOW),
    "once": ts.OneStep(improvement="best", candidates=32, value_steps=4000, **HOW),
    "likely": ts.DiscreteBCQ(threshold=0.15, **HOW),
}


@pytest.fixture(scope="module")
def line():
    """(the world, its log, what the log says of it, {name: state})."""
    world, behaviour = baited_line(5)
    log = sample(world, behaviour, 150, horizon=8, key=jax.random.key(0))
    said = empirical(log)
    assert (said.counts[LIVE, 1] > 0.2 * said.counts[LIVE, 0]).all() and (said.counts[:, BAIT] == 0).all() and log.terminal.any()
    return world, log, said, {name: settled(algorithm, log) for name, algorithm in METHODS.items()}


def values_of(state) -> np.ndarray:
    return np.float64(state.critic.model.every(jnp.arange(5))[0])


def fixed_point(said, state, backup) -> np.ndarray:
    """Q = r + γ P backup(Q, behaviour), by iteration in the world that the log describes. What was never done keeps the value it began with."""
    transition, reward = np.float64(said.mdp.transition)[:5, :2, :5], np.float64(said.mdp.reward)[:5, :2, 0]
    q = values_of(state)
    for _ in range(400):
        q[:, :2] = reward + DISCOUNT * transition @ backup(q, behaviour_of(said)[:5])
    return q


@pytest.mark.parametrize("name", ["close", "loose"])
def test_kl_control_finds_the_soft_fixed_point(line, name):
    _, _, said, states = line
    alpha = METHODS[name].alpha
    want = fixed_point(said, states[name], lambda q, b: alpha * np.log((b * np.exp(q / alpha)).sum(axis=1)))
    np.testing.assert_allclose(values_of(states[name]), want, atol=1e-3)
    tilted = behaviour_of(said)[:5] * np.exp(want / alpha)
    acted = METHODS[name].policy(states[name])(jnp.arange(5)).probs()
    np.testing.assert_allclose(acted, tilted / tilted.sum(axis=1, keepdims=True), atol=0.02)


@pytest.mark.parametrize("name", ["behaviour", "many"])
def test_emaq_finds_its_fixed_point(line, name):
    _, _, said, states = line
    n = METHODS[name].candidates

    def backup(q, b):
        order = np.argsort(q, axis=1)
        at_most = np.cumsum(np.take_along_axis(b, order, axis=1), axis=1)
        chance = np.diff(at_most**n, axis=1, prepend=0)
        return (chance * np.take_along_axis(q, order, axis=1)).sum(axis=1)

    want = fixed_point(said, states[name], backup)
    np.testing.assert_allclose(values_of(states[name]), want, atol=1e-3)
    if name == "behaviour":
        np.testing.assert_allclose(want[:, :2], said.mdp.value(said.behaviour, DISCOUNT).q[LIVE, :2], atol=5e-3)  # but for NEVER
    else:
        np.testing.assert_allclose(want[:, :2], said.mdp.optimum(DISCOUNT).q[LIVE, :2], atol=0.03)


def test_one_step_values_what_was_done_next(line):
    """Exactly: the chain of logged pairs, each followed by the pairs that followed it. Then the best of behaviour, once."""
    _, log, _, states = line
    keep = ~log.truncated
    pair, after = (log.obs * 3 + log.action)[keep], np.roll(log.obs * 3 + log.action, -1)[keep]
    chain, earned, seen = np.zeros((18, 18)), np.zeros(18), np.zeros(18)
    np.add.at(chain, (pair, after), ~log.terminal[keep])
    np.add.at(earned, pair, log.reward[keep])
    np.add.at(seen, pair, 1)
    often = np.maximum(seen, 1)
    q = np.linalg.solve(np.eye(18) - DISCOUNT * chain / often[:, None], earned / often).reshape(6, 3)
    np.testing.assert_allclose(values_of(states["once"])[:, :2], q[LIVE, :2], atol=2e-3)
    np.testing.assert_array_equal(METHODS["once"].policy(states["once"])(jnp.arange(5)).mode(), q[LIVE, :2].argmax(axis=1))


def test_only_support_leaves_a_bad_habit_and_stays_clear_of_what_nobody_did(line):
    """Kumar et al. 2019: behaviour walks left, three times in four, and the goal is right. All that is near it in divergence inherits the habit."""
    world, _, _, states = line

    def worth(name):
        probs = np.asarray(table(METHODS[name].policy(states[name]), world), np.float64)
        probs /= probs.sum(axis=1, keepdims=True)
        return float(world.performance(probs, DISCOUNT)), probs[LIVE]

    best, behaviour = world.performance(world.optimum(DISCOUNT).policy, DISCOUNT), world.performance(baited_line(5).behaviour, DISCOUNT)
    share = lambda name: (worth(name)[0] - behaviour) / (best - behaviour)
    for name in ("likely", "many", "once"):
        assert share(name) > 0.9, (name, share(name))
    assert share("close") < 0.5 and worth("close")[1][:, 1].mean() < 0.5  # near in divergence: still walks left
    assert share("loose") < 0 and worth("loose")[1][:, BAIT].max() > 0.5  # cheap to leave: takes what nobody did
    right = np.log(4)  # what always going right diverges from behaviour: no bound below that admits it
    divergence = (worth("many")[1][:, :2] * np.log(np.maximum(worth("many")[1][:, :2], 1e-9) / [0.75, 0.25])).sum(axis=1)
    np.testing.assert_allclose(divergence, right, atol=0.1)


# states and actions together -----------------------------------------------------------------------------------------------


def test_algae_dice_finds_the_best_occupancy_less_its_distance_from_the_log():
    r"""max over flows d of $\sum d\, r - 	frac{lpha}{2} \sum d^2 / d^D$: a quadratic program."""
    line, behaviour = lineworld(4, right=0.3)
    live = ~np.asarray(line.terminal)
    world = MDP(line.transition, line.reward, live / live.sum(), line.terminal)
    log = sample(world, behaviour, 40, horizon=15, key=jax.random.key(0))
    said, alpha = empirical(log), 0.05
    share = said.counts[:4] / said.counts.sum()
    transition, reward = np.float64(said.mdp.transition)[:4, :, :4], np.float64(said.mdp.reward)[:4, :, 0]
    start = np.bincount(log.obs[log.starts], minlength=4) / len(log)

    def flow(d):
        d = d.reshape(4, 2)
        return d.sum(axis=1) - (1 - DISCOUNT) * start - DISCOUNT * np.einsum("sa,saz->z", d, transition)

    worth = lambda d: (d * reward.ravel()).sum() - alpha / 2 * (d**2 / share.ravel()).sum()
    best = minimize(lambda d: -worth(d), np.full(8, 0.1), bounds=[(0, None)] * 8, constraints={"type": "eq", "fun": flow}, tol=1e-12)
    assert best.success
    method = ts.AlgaeDICE(
        alpha=alpha, power=2.0, mixing=1.0, entropy=False, critics=1, delay=1, hidden=(), batch_size=1, discount=DISCOUNT, lr=0.01,
        actor_lr=0.002, steps=6000,
    )  # fmt: skip

    class Everything(type(method.prepare(log))):
        def draw(self, n, *, key):
            rows = self.flat.all
            return rows, rows[self.starts[jnp.arange(len(rows)) % self.episodes]]

    data = method.prepare(log)
    out = train([(method, 0)], Everything(data.flat, data.starts, data.episodes), every=10_000)
    [state] = unstack(out.states, 1)
    probs = np.asarray(table(method.policy(state), world), np.float64)[:4]
    probs /= probs.sum(axis=1, keepdims=True)
    follow = np.einsum("sa,saz->sz", probs, transition)
    d = np.linalg.solve(np.eye(4) - DISCOUNT * follow.T, (1 - DISCOUNT) * start)[:, None] * probs
    assert worth(d.ravel()) > -best.fun - 0.002 * abs(best.fun)
    as_logged = said.behaviour[:4]
    follow = np.einsum("sa,saz->sz", as_logged, transition)
    b = np.linalg.solve(np.eye(4) - DISCOUNT * follow.T, (1 - DISCOUNT) * start)[:, None] * as_logged
    assert worth(d.ravel()) > worth(b.ravel()) + 0.1 * abs(best.fun)
    nu = np.float64(state.nu.model.every(jnp.arange(4))[0])
    ahead = np.einsum("saz,z->sa", transition, (probs * nu).sum(axis=1))
    np.testing.assert_allclose(reward + DISCOUNT * ahead - nu, alpha * d / share, atol=0.02)  # what is left over says how often
