"""Models of behaviour that are samplers, and the methods that are built on them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from topstitch import nets, ops
from topstitch.algos.baseline.sac import SAC
from topstitch.algos.constraint import bear
from topstitch.algos.constraint.bcq import BCQ
from topstitch.algos.constraint.bear import BEAR
from topstitch.algos.constraint.fql import FQL
from topstitch.algos.constraint.idql import IDQL, Weighted
from topstitch.algos.constraint.ifql import IFQL
from topstitch.algos.imitation.bc import BC
from topstitch.algos.imitation.diffusion_bc import DiffusionBC
from topstitch.algos.imitation.flow_bc import FlowBC
from topstitch.algos.weighted.iql import IQL
from topstitch.core import Box, Spec, Trained
from topstitch.data import Episodes
from topstitch.loop import one_step, stage_key, train, unstack
from topstitch.testing import probe_data, tiny

SMALL = settings(max_examples=20, deadline=None)
SPEC = Spec(Box(1), Box(1))


def numbers(*shape):
    return arrays(np.float32, shape, elements=st.floats(-3, 3, width=32)).map(jnp.asarray)


# divergences -------------------------------------------------------------------------------------------------------------


@SMALL
@given(numbers(4, 3, 2), numbers(5, 3, 2), st.floats(0.2, 20), st.sampled_from(["laplacian", "gaussian"]))
def test_the_discrepancy_is_its_two_sums(x, y, bandwidth, kernel):
    power = 1 if kernel == "laplacian" else 2

    def mean(a, b, row):
        return np.mean([[np.exp(-(np.abs(p - q) ** power).sum() / (2 * bandwidth)) for q in b[:, row]] for p in a[:, row]])

    a, b = np.float64(x), np.float64(y)
    want = [mean(a, a, i) + mean(b, b, i) - 2 * mean(a, b, i) for i in range(3)]
    said = ops.mmd(x, y, bandwidth, kernel)
    np.testing.assert_allclose(said, want, atol=1e-5)
    np.testing.assert_allclose(ops.mmd(y, x, bandwidth, kernel), said, atol=1e-6)
    np.testing.assert_allclose(ops.mmd(x, x[::-1], bandwidth, kernel), 0, atol=1e-6)
    assert (said > -1e-6).all()


@SMALL
@given(st.floats(-2, 2), st.floats(-1.5, 1.0))
def test_the_divergence_from_the_standard_normal_is_an_integral(mean, log_std):
    x = mean + np.exp(log_std) * np.linspace(-9, 9, 4001)
    q = norm.pdf(x, mean, np.exp(log_std))
    want = np.trapezoid(q * (norm.logpdf(x, mean, np.exp(log_std)) - norm.logpdf(x)), x)
    assert float(ops.kl_to_standard(jnp.float32(mean), jnp.float32(log_std))) == pytest.approx(want, abs=1e-3)


@SMALL
@given(numbers(3, 6), st.floats(0, 1))
def test_soft_clipping_goes_from_the_highest_to_the_lowest(q, weight):
    said = ops.soft_clipped(q, weight)
    np.testing.assert_allclose(said, q.max(axis=0) - weight * (q.max(axis=0) - q.min(axis=0)), atol=1e-5)
    np.testing.assert_array_equal(ops.soft_clipped(q, 1.0), q.min(axis=0))
    np.testing.assert_array_equal(ops.soft_clipped(q, 0.0), q.max(axis=0))


@pytest.mark.parametrize("steps", [1, 5, 100])
def test_noising_keeps_the_variance_and_ends_in_the_same_noise_however_many_its_steps(steps):
    beta, kept = ops.variance_preserving(steps)
    np.testing.assert_allclose(kept[-1], np.exp(-5.05), rtol=1e-4)
    np.testing.assert_allclose(kept, np.cumprod(1 - np.float64(beta)), rtol=1e-4)
    rng = np.random.default_rng(0)
    action, noise = rng.normal(size=(2, 20_000))
    for k in kept[[0, -1]]:
        assert ops.noised(action, noise, k).std() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(ops.denoised(ops.noised(action, noise, kept[0]), noise, beta[0], kept[0]), action, atol=1e-5)


# models of behaviour -------------------------------------------------------------------------------------------------------


def test_the_bound_of_the_auto_encoder_is_the_evidence_less_the_error_of_its_encoder():
    r"""$\log p(a \mid s) = \mathrm{ELBO} + D_{KL}(q(z) \| p(z \mid s, a))$, by quadrature over both latent numbers."""
    vae = nets.VAE(SPEC, (8,), key=jax.random.key(3))
    obs, action = jnp.array([0.4]), jnp.array([0.7])
    line = np.linspace(-7, 7, 141)
    noise = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    mean, log_std = (np.float64(x) for x in vae.encode(obs, action))
    z, cell = mean + np.exp(log_std) * noise, 0.1**2 * np.exp(log_std.sum())
    rows = lambda x: jnp.broadcast_to(x, (len(noise), 1))
    log_q = norm.logpdf(z, mean, np.exp(log_std)).sum(axis=1)
    decoded = np.tanh(np.float64(vae.raw(rows(obs), jnp.asarray(z, jnp.float32))))
    log_joint = norm.logpdf(z).sum(axis=1) + norm.logpdf(float(action[0]), decoded[:, 0], np.sqrt(1 / 8))
    log_evidence = np.log(np.exp(log_joint).sum() * cell)
    error = (np.exp(log_q) * (log_q - (log_joint - log_evidence))).sum() * cell
    bound = (np.exp(log_q) * np.float64(vae.bound(rows(obs), rows(action), jnp.asarray(noise, jnp.float32)))).sum() * cell
    assert error > 0.01
    assert -4 * bound - 0.5 * np.log(2 * np.pi / 8) == pytest.approx(log_evidence - error, abs=2e-3)


MEAN, STD = 0.2, 0.1


class ExactFlow(nets.Flow):
    """The velocity between standard noise and normal actions."""

    def velocity(self, obs, x, time):
        t = time[..., None]
        return MEAN + (t * STD**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * STD**2) * (x - t * MEAN)


class ExactDiffusion(nets.Diffusion):
    """The expected noise in noised normal actions."""

    def predict(self, obs, x, time):
        kept = jnp.asarray(ops.variance_preserving(self.steps)[1])[time][..., None]
        return jnp.sqrt(1 - kept) / (kept * STD**2 + 1 - kept) * (x - jnp.sqrt(kept) * MEAN)


def test_samplers_of_exact_nets_find_the_distribution():
    obs, key = jnp.zeros((4000, 1)), jax.random.key(0)
    flow = ExactFlow(SPEC, (4,), 200, key=key)
    noise = jnp.linspace(-2, 2, 9)[:, None]
    np.testing.assert_allclose(flow.decode(obs[:9], noise), MEAN + STD * noise, atol=0.01)
    drawn = ExactDiffusion(SPEC, (4,), 200, key=key).sample(obs, key=key)
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [MEAN, STD], atol=0.01)


def divided(rows: int = 1000) -> Episodes:
    """Seven in ten do one thing in the first state, three its opposite, which pays; all do alike in the second."""
    rng = np.random.default_rng(0)
    second, rare = rng.random(rows) < 0.3, rng.random(rows) < 0.3
    centre = np.where(second[:, None], [0.6, 0.6], np.where(rare[:, None], [0.6, -0.6], [-0.6, 0.6]))
    return Episodes.of(
        np.eye(2, dtype=np.float32)[second.astype(int)], centre + 0.05 * rng.normal(size=(rows, 2)), 1.0 * (rare & ~second),
        np.ones(rows, bool), low=-1.0, high=1.0, source="divided practice",
    )  # fmt: skip


def shares(policy) -> dict[str, float]:
    """Where a thousand draws in each state lie: about the common mode, the rare one, the second state's, or none of the first's."""
    draw = jax.jit(lambda p, state: p(jnp.tile(jnp.eye(2)[state], (1000, 1))).sample(jax.random.key(1)))
    first, second = np.asarray(draw(policy, 0)), np.asarray(draw(policy, 1))
    near = lambda a, centre: float((np.linalg.norm(a - centre, axis=1) < 0.25).mean())
    common, rare = near(first, [-0.6, 0.6]), near(first, [0.6, -0.6])
    return dict(common=common, rare=rare, second=near(second, [0.6, 0.6]), between=1 - common - rare)


TINY = dict(hidden=(48, 48), batch_size=128, steps=1200, lr=3e-3)


def learned(algorithm, log: Episodes):
    out = train([(algorithm, 0)], log, every=10_000)
    assert out.faults == (None,), out.faults
    return unstack(out.states, 1)[0]


@pytest.mark.parametrize(
    "algorithm", [DiffusionBC(average_rate=0.02, sampling_steps=20, **TINY), FlowBC(**TINY)], ids=["diffusion", "flow"]
)
def test_samplers_keep_both_ways_of_a_divided_practice(algorithm):
    policy = algorithm.policy(learned(algorithm, divided()))
    said = shares(policy)
    assert abs(said["common"] - 0.7) < 0.12 and abs(said["rare"] - 0.3) < 0.12 and said["between"] < 0.12, said
    assert said["second"] > 0.85, said
    np.testing.assert_allclose(policy(jnp.eye(2)).mode(), [[-0.6, 0.6], [0.6, 0.6]], atol=0.2)  # one action: the common way


def test_a_gaussian_goes_between_them():
    algorithm = BC(**TINY)
    policy = algorithm.policy(learned(algorithm, divided()))
    said = shares(policy)
    assert said["between"] > 0.6, said
    assert np.abs(np.asarray(policy(jnp.eye(2)[0]).mode())).max() < 0.4  # what nobody did


def test_values_choose_among_the_ways_of_a_divided_practice():
    algorithm = IFQL(candidates=32, **TINY)
    said = shares(algorithm.policy(learned(algorithm, divided())))
    assert said["rare"] > 0.9 and said["second"] > 0.8, said


# policies made of samplers ---------------------------------------------------------------------------------------------------


def q_is_the_action() -> nets.Ensemble:
    """A critic without hidden layers: Q(s, a) = a."""
    q, layer = nets.critics(SPEC, (), 1, key=jax.random.key(0)), lambda q: q.members.net.layers[0]
    return eqx.tree_at(lambda q: (layer(q).weight, layer(q).bias), q, (jnp.array([[[0.0], [1.0]]]), jnp.zeros((1, 1))))


def test_the_best_of_many_is_one_of_them_and_of_one_is_it():
    flow, key = nets.Flow(SPEC, (8,), 5, key=jax.random.key(0)), jax.random.key(1)
    obs = jax.random.normal(key, (6, 1))
    best = nets.BestOf(flow, q_is_the_action(), 16)
    noise = jax.random.normal(key, (6, 16, 1))
    many = jax.jit(jax.vmap(flow.decode, in_axes=(None, 1)))(obs, noise)
    decode, drawn, mode = (
        jax.jit(f) for f in (lambda p, *x: p.decode(*x), lambda p, obs: p(obs).sample(key), lambda p, obs: p(obs).mode())
    )
    np.testing.assert_allclose(decode(best, obs, noise), many.max(axis=0), atol=1e-6)
    one = nets.BestOf(flow, q_is_the_action(), 1)
    np.testing.assert_array_equal(drawn(one, obs), drawn(flow, obs))
    np.testing.assert_array_equal(mode(one, obs), mode(flow, obs))
    np.testing.assert_array_equal(mode(flow, obs), decode(flow, obs, jnp.zeros_like(obs)))  # leans to no side
    np.testing.assert_allclose(mode(best, obs), [mode(best, o) for o in obs], atol=1e-6)  # the fixed noise does not depend on the batch


def test_the_implied_policy_draws_by_expectile_weights():
    flow = nets.Flow(SPEC, (8,), 5, key=jax.random.key(0))
    value = nets.Value(SPEC, (), key=jax.random.key(0))
    obs, key = jnp.zeros((4000, 1)), jax.random.key(1)
    level = float(jnp.median(flow.sample(obs, key=key)))
    value = eqx.tree_at(lambda v: v.net.layers[0], value, nets.Linear(jnp.zeros((1, 1)), jnp.full(1, level)))
    for tau in (0.5, 0.9):
        policy = Weighted(nets.BestOf(flow, q_is_the_action(), 64), value, jnp.float32(tau))
        assert float((policy(obs).sample(key) > level).mean()) == pytest.approx(tau, abs=0.03)  # half of all draws are better
    np.testing.assert_array_equal(policy(obs).mode(), policy.best(obs).mode())


# limits ----------------------------------------------------------------------------------------------------------------------

STEPS = 4
NETS = dict(hidden=(8, 8), batch_size=16, lr=1e-2, steps=STEPS)


@jax.jit
def begin(algorithm, data, key):
    return algorithm.init(data, key=key)


@jax.jit
def run(algorithm, state, data):
    stage = algorithm.stages()[0]
    key = stage_key(jax.random.key(7), stage)
    return jax.lax.fori_loop(0, STEPS, lambda step, state: one_step(stage, state, data, step, key)[0], state)


def equal(a, b, **how):
    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, err_msg=jax.tree_util.keystr(place), **{"rtol": 0, "atol": 0} | how)


def differ(a, b):
    return any(not np.allclose(x, y, rtol=1e-3, atol=1e-5) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


@pytest.fixture(scope="module")
def data():
    return tiny(Box).transitions()


def both(this, that, graft, data):
    """The states of two algorithms after a few steps; `graft(own, other)` puts into the first's what the second's starts with."""
    other = begin(that, data, jax.random.key(1))
    return run(this, graft(begin(this, data, jax.random.key(2)), other), data), run(that, other, data)


def test_idql_is_the_values_of_iql_beside_diffusion_cloning(data):
    idql = IDQL(candidates=1, norm=False, behaviour_hidden=(8, 8), average_rate=0.1, **NETS)
    put = lambda mine, other: eqx.tree_at(lambda s: (s.behaviour, s.average), mine, (other.behaviour, other.average))
    cloning = DiffusionBC(average_rate=0.1, **NETS)
    mine, other = both(idql, cloning, put, data)
    equal((mine.behaviour, mine.average), (other.behaviour, other.average))
    assert differ(mine.average, mine.behaviour.model)
    obs, key = data.all.obs, jax.random.key(3)
    np.testing.assert_array_equal(idql.policy(mine)(obs).sample(key), cloning.policy(other)(obs).sample(key))
    values = lambda s: (s.values.value, s.values.critic, s.values.target)
    put = lambda mine, other: eqx.tree_at(values, mine, (other.value, other.critic, other.target))
    mine, other = both(idql, IQL(**NETS), put, data)
    equal(values(mine), (other.value, other.critic, other.target))
    away, _ = both(dataclasses.replace(idql, expectile=0.9), IQL(**NETS), put, data)
    assert differ(values(away), values(mine))


def test_ifql_with_one_candidate_and_the_flow_of_fql_are_flow_cloning(data):
    cloning, key, obs = FlowBC(**NETS), jax.random.key(3), data.all.obs
    put = lambda mine, other: eqx.tree_at(lambda s: s.behaviour, mine, other)
    for algorithm in (IFQL(candidates=1, **NETS), FQL(**NETS)):
        mine, other = both(algorithm, cloning, put, data)
        equal(mine.behaviour, other)
        if isinstance(algorithm, IFQL):
            np.testing.assert_array_equal(algorithm.policy(mine)(obs).sample(key), cloning.policy(other)(obs).sample(key))


def test_fql_with_great_alpha_distils_the_flow_whatever_the_rewards(data):
    punished = eqx.tree_at(lambda d: d.all.reward, data, -5 * data.all.reward)
    for alpha, apart in ((1e8, False), (1.0, True)):
        algorithm = FQL(alpha=alpha, **NETS)
        start = begin(algorithm, data, jax.random.key(1))
        one, two = (run(algorithm, start, d).actor.model for d in (data, punished))
        assert differ(one, two) == apart and differ(one, start.actor.model)


def test_fql_with_great_alpha_is_the_flow_in_one_step():
    algorithm = FQL(alpha=1e4, **TINY)
    state = learned(algorithm, divided())
    obs, noise = jnp.tile(jnp.eye(2)[0], (500, 1)), jax.random.normal(jax.random.key(2), (500, 2))
    flow, one = state.behaviour.model.decode(obs, noise), state.actor.model.decode(obs, noise)
    assert float(jnp.abs(flow - one).mean()) < 0.12 < 0.5 < float(jnp.abs(flow - flow[::-1]).mean())
    said = shares(algorithm.policy(state))
    assert abs(said["common"] - 0.7) < 0.15 and said["rare"] < 0.45, said  # rewards do not matter


def test_bear_without_its_constraint_is_sac_without_entropy(data, monkeypatch):
    """One draw instead of many, the lowest critic, targets that are copies; multiplier and temperature as good as 0."""
    monkeypatch.setattr(bear, "LOG_BOUNDS", (-60.0, 10.0))
    loose = BEAR(
        threshold=1e6, lower_weight=1.0, target_candidates=1, actions_sampled=1, warmup=0, target_rate=1.0, actor_lr=NETS["lr"],
        behaviour_hidden=(8,), dual_lr=0.0, **NETS,
    )  # fmt: skip
    sac = SAC(target_rate=1.0, **NETS)
    other = eqx.tree_at(lambda s: s.log_temperature.model, begin(sac, data, jax.random.key(1)), jnp.float32(-50.0))
    want = run(sac, other, data)

    def learned_under(log_multiplier):
        parts = lambda s: (s.critic, s.target, s.actor, s.target_actor, s.log_multiplier.model)
        start = (other.critic, other.target, other.actor, other.actor.model, jnp.float32(log_multiplier))
        return run(loose, eqx.tree_at(parts, begin(loose, data, jax.random.key(2)), start), data)

    free = learned_under(-50.0)
    equal((free.critic, free.target, free.actor.model), (want.critic, want.target, want.actor.model), rtol=2e-3, atol=2e-4)
    assert differ(learned_under(5.0).actor.model, want.actor.model)


WARMING = dict(behaviour_hidden=(8,), warmup=STEPS, actions_sampled=4, **NETS)


@pytest.mark.parametrize(("threshold", "sign"), [(1e3, -1), (1e-4, 1)])
def test_the_multiplier_of_bear_rises_while_the_constraint_is_broken(data, threshold, sign):
    algorithm = BEAR(threshold=threshold, **WARMING)
    moved = run(algorithm, begin(algorithm, data, jax.random.key(1)), data).log_multiplier.model
    assert sign * float(moved) == pytest.approx(STEPS * algorithm.dual_lr, rel=0.05)


def test_bear_only_matches_during_its_warmup(data):
    punished = eqx.tree_at(lambda d: d.all.reward, data, -5 * data.all.reward)
    algorithm = BEAR(**WARMING)
    start = begin(algorithm, data, jax.random.key(1))
    one, two = (run(algorithm, start, d) for d in (data, punished))
    equal(one.actor, two.actor)
    assert differ(one.actor.model, start.actor.model) and differ(one.critic.model, two.critic.model)


# batch constraint --------------------------------------------------------------------------------------------------------------


def test_bcq_with_one_candidate_and_no_perturbation_is_its_model_of_behaviour(data):
    algorithm = BCQ(perturbation=0.0, candidates=1, behaviour_hidden=(8,), **NETS)
    state = run(algorithm, begin(algorithm, data, jax.random.key(1)), data)
    obs, key = data.all.obs, jax.random.key(2)
    np.testing.assert_array_equal(algorithm.policy(state)(obs).sample(key), state.behaviour.model(obs).sample(key))


def test_what_is_shifted_moves_by_at_most_its_reach():
    vae, shift = nets.VAE(SPEC, (8,), key=jax.random.key(0)), nets.Shift(SPEC, (8,), key=jax.random.key(1))
    shift = eqx.tree_at(lambda s: s.net.layers[-1].bias, shift, jnp.full(1, 50.0))
    obs, key = jax.random.normal(jax.random.key(2), (64, 1)), jax.random.key(3)
    moved = nets.Shifted(vae, shift, jnp.float32(0.05)).sample(obs, key=key) - vae.sample(obs, key=key)
    np.testing.assert_allclose(moved, 0.05, atol=1e-6)


class Logged(nets.Generator):
    """A perfect model of the probes' logger: ±0.5 give or take 0.3, and in the bait what was logged there. It has nothing to learn."""

    low: jax.Array
    high: jax.Array

    @property
    def noise(self):
        return (2,)

    def decode(self, obs, noise):
        u, side = jax.scipy.stats.norm.cdf(noise[..., :1]), noise[..., 1:] > 0
        return jnp.where(side, self.high + (2 * u - 1) * 0.3, self.low + (2 * u - 1) * 0.3)

    def loss(self, obs, action, *, key):
        return jnp.zeros(len(action)) * (self.low + self.high)


VALUES = dict(hidden=(32,), batch_size=64, steps=600, lr=3e-3, discount=0.9, target_rate=0.05, behaviour_hidden=(8,), candidates=32)


@jax.jit
def learn_from(algorithm, given, data):
    state = eqx.tree_at(lambda s: s.behaviour, algorithm.init(data, key=jax.random.key(0)), Trained.start(given, algorithm.optimiser))
    step = lambda i, s: one_step(algorithm.stages()[0], s, data, i, jax.random.key(1))[0]
    return jax.lax.fori_loop(0, algorithm.steps, step, state)


def perfect(log, low, high):
    """BCQ that moves nothing, and whose model of behaviour is given."""
    algorithm = BCQ(perturbation=0.0, **VALUES)
    return algorithm, learn_from(algorithm, Logged(jnp.float32(low), jnp.float32(high)), algorithm.prepare(log))


def test_bcq_over_a_perfect_model_finds_the_best_of_what_was_logged():
    """Stitching: 0.3 at once, or 0 and then the better of 0 and 1, which nobody did in one episode."""
    algorithm, state = perfect(probe_data("stitch", Box), -0.5, 0.5)
    obs, action = jnp.repeat(jnp.eye(3)[:2], 2, axis=0), jnp.array([[-0.5], [0.5]] * 2)
    np.testing.assert_allclose(state.critic(obs, action).mean(axis=0), [0.3, 0.9, 0.0, 1.0], atol=0.07)
    acted = algorithm.policy(state)(jnp.eye(3)[:2]).mode()
    assert ((acted >= 0.2) & (acted <= 0.8)).all()


def test_bcq_without_perturbation_never_leaves_the_log():
    """The bait: reward rises towards the edge of what was logged, at 0.1, and every guess beyond looks better."""
    algorithm, state = perfect(probe_data("bait", Box), -0.6, -0.2)
    q = state.critic(jnp.broadcast_to(jnp.eye(3)[0], (2, 3)), jnp.array([[0.1], [0.9]]))[0]
    assert q[1] > q[0]  # the critic is baited ...
    acted = algorithm.policy(state)(jnp.broadcast_to(jnp.eye(3)[0], (200, 3))).sample(jax.random.key(0))
    assert (acted <= 0.1 + 1e-6).all() and (acted > -0.2).mean() > 0.9  # ... and the policy is not
