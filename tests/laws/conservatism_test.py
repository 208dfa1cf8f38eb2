"""What theory says of conservative values, of quantiles of returns, and of learning from steps whose rewards nobody recorded."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import topstitch as ts
from topstitch import ops
from topstitch.core import Box, Discrete
from topstitch.data import BadData, Episodes
from topstitch.data.device import Transitions
from topstitch.loop import one_step, stage_key, train, unstack
from topstitch.testing import tiny
from topstitch.worlds import empirical, random_mdp, sample

SMALL = settings(max_examples=30, deadline=None)
NETS = dict(hidden=(8, 8), batch_size=16, lr=1e-2, steps=5)


@jax.jit
def begin(algorithm, data, key):
    return algorithm.init(data, key=key)


@jax.jit
def learn(algorithm, state, data):
    stage = algorithm.stages()[0]
    step = lambda i, state: one_step(stage, state, data, i, stage_key(jax.random.key(7), stage))[0]
    return jax.lax.fori_loop(0, algorithm.steps, step, state)


def same(a, b, **within):
    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, err_msg=jax.tree_util.keystr(place), **(within or dict(rtol=0, atol=0)))


def differ(a, b) -> bool:
    return any(not np.allclose(x, y, rtol=1e-5) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


class Whole(Transitions):
    """Every batch is the whole log."""

    def draw(self, n, *, key):
        return self.all


def settled(algorithms, log):
    """The last states of algorithms that differ in floats only, trained together on the whole log at every step."""
    rows = log.transitions()
    out = train([(a, 0) for a in algorithms], Whole(rows.all, rows.view, rows.spec), every=100_000)
    assert not any(out.faults), out.faults
    return unstack(out.states, len(algorithms))


# quantiles -----------------------------------------------------------------------------------------------------------------

numbers = arrays(np.float32, 8, elements=st.floats(-5, 5, width=32, allow_subnormal=False)).map(jnp.asarray)


@jax.jit
def quantile(x, tau, kappa):
    """Where the mean loss is least, by bisection on its slope."""
    slope = jax.grad(lambda m: ops.quantile_huber(x - m, tau, kappa).mean())

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        up = slope(middle) < 0
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    return sum(jax.lax.fori_loop(0, 40, halve, (x.min() - 1, x.max() + 1))) / 2


@SMALL
@given(numbers, st.floats(0.05, 0.95), st.floats(0.01, 0.5))
def test_the_quantile_loss_is_least_within_kappa_of_the_quantile(x, tau, kappa):
    low, high = np.quantile(x, tau, method="inverted_cdf"), np.quantile(x, tau, method="higher")
    assert min(low, high) - kappa - 1e-2 <= float(quantile(x, tau, kappa)) <= max(low, high) + kappa + 1e-2


@SMALL
@given(numbers, st.floats(0.05, 0.95))
def test_the_quantile_loss_of_small_errors_is_half_that_of_the_expectile(x, tau):
    np.testing.assert_allclose(ops.quantile_huber(x, tau, 6.0), 0.5 * ops.expectile_loss(x, tau), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ops.quantile_huber(x, tau, 1.0), ops.quantile_huber(-x, 1 - tau, 1.0), rtol=1e-4, atol=1e-6)


def test_quantile_q_learning_finds_the_quantiles_of_returns():
    """One choice; it leads to 0, 100, 200 or 300 alike, now or (twice as often) after a step that earns 100 too."""
    reward = np.repeat([0.0, 100, 200, 300], 10)
    ends = np.ones(40, bool)
    first = Episodes.of(np.zeros(40, int), np.zeros(40, int), reward, ends, ends=ends, states=2, actions=2)
    second = Episodes.of(
        np.ones(40, int), np.zeros(40, int), np.full(40, 50.0), ~ends, ends=ends, next_obs=np.zeros(40, int), states=2, actions=2
    )
    log = Episodes.join(first, second)
    method = ts.QRDQN(quantiles=8, hidden=(), batch_size=1, discount=0.5, target_rate=0.5, lr=0.5, steps=3000)
    [state] = settled([method], log)
    returns = np.quantile(reward, (np.arange(8) + 0.5) / 8)
    said = np.sort(state.critic.model(jnp.arange(2), jnp.zeros(2, jnp.int32)), axis=1)
    np.testing.assert_allclose(said[0], returns, atol=2)
    np.testing.assert_allclose(said[1], 50 + 0.5 * returns, atol=3)
    np.testing.assert_allclose(state.critic.model.mean().every(jnp.arange(2))[:, 0], said.mean(axis=1), rtol=1e-4)


# limits --------------------------------------------------------------------------------------------------------------------


def of_one(state):
    """The state of Q-learning with one critic, as one of a single head."""
    return jax.tree.map(lambda x: x[0] if jnp.ndim(x) else x, state)


def test_a_single_quantile_is_the_value_of_q_learning():
    """Half its loss: what Adam does not see, but for its epsilon."""
    data = tiny(Discrete, masks=True).transitions()
    dqn, one = ts.DQN(**NETS), ts.QRDQN(quantiles=1, **NETS)
    start = begin(dqn, data, jax.random.key(1))
    own = jax.tree.unflatten(jax.tree.structure(begin(one, data, jax.random.key(1))), jax.tree.leaves(of_one(start)))
    wanted = learn(dqn, start, data)
    same(learn(one, own, data).critic.model.q, jax.tree.unflatten(jax.tree.structure(own.critic.model.q), jax.tree.leaves(of_one(wanted.critic.model))),
         rtol=1e-3, atol=1e-5)  # fmt: skip
    assert differ(wanted, start)


@pytest.mark.parametrize("variant", ["H", "eq1", "eq2"])
@pytest.mark.parametrize("quantiles", [None, 3])
def test_discrete_conservatism_without_weight_is_q_learning(variant, quantiles):
    data = tiny(Discrete, masks=True).transitions()
    plain = ts.DQN(double=True, **NETS) if quantiles is None else ts.QRDQN(double=True, quantiles=3, **NETS)
    start = begin(plain, data, jax.random.key(1))
    wanted = learn(plain, start, data)
    cql = ts.DiscreteCQL(alpha=0.0, variant=variant, quantiles=quantiles, **NETS)
    same(learn(cql, start, data), wanted, rtol=1e-5, atol=1e-7)
    assert differ(learn(dataclasses.replace(cql, alpha=1.0), start, data), wanted)


@pytest.mark.parametrize("variant", ["rho", "eq1", "eq2"])
def test_conservatism_without_weight_is_sac(variant):
    data = tiny(Box).transitions()
    sac = ts.SAC(**NETS)
    cql = ts.CQL(alpha=0.0, entropy_backup=True, actor_lr=NETS["lr"], actions_sampled=2, variant=variant, gap=0.5, **NETS)
    start = begin(sac, data, jax.random.key(1))
    own = eqx.tree_at(lambda s: s.agent, begin(cql, data, jax.random.key(2)), start)
    same(learn(cql, own, data).agent, learn(sac, start, data), rtol=1e-4, atol=1e-6)
    pressed = learn(dataclasses.replace(cql, alpha=1.0), own, data)
    assert differ(pressed.agent, learn(cql, own, data).agent)


def test_variants_press_down_what_they_say():
    """On a critic without hidden layers, Q(s, a) = a, the pressed-down term is an expectation that can be found by drawing."""
    from topstitch.algos import steps as shared

    data = tiny(Box).transitions()
    cql = ts.CQL(alpha=1.0, actions_sampled=400, hidden=(), batch_size=16, lr=1e-2, steps=1)
    state = begin(cql, data, jax.random.key(0))
    layer = lambda s: s.agent.critic.model.members.net.layers[0]
    weight = jnp.zeros((2, 5, 1)).at[:, 3].set(1.0)
    state = eqx.tree_at(lambda s: (layer(s).weight, layer(s).bias), state, (weight, jnp.zeros((2, 1))))
    batch = data.rows()
    drawn = jax.vmap(state.agent.actor(batch.obs).sample)(jax.random.split(jax.random.key(5), 4000))[..., 0]
    logged = batch.action[:, 0]
    want = {"eq1": drawn.mean(), "eq2": (drawn.mean(axis=0) - logged).mean(), "rho": (jnp.log(jnp.exp(drawn).mean(axis=0)) - logged).mean()}
    step = jax.jit(shared.conservative_step, static_argnames="variant")
    for variant, value in want.items():
        _, info = step(cql, state, batch, key=jax.random.key(1), variant=variant)
        assert float(info["critic/gap"]) == pytest.approx(float(value), abs=0.03), variant


@pytest.mark.parametrize(("gap", "sign"), [(1e3, -1), (-1e3, 1)])
def test_the_multiplier_holds_the_gap_of_equation_1_too(gap, sign):
    data = tiny(Box).transitions()
    cql = ts.CQL(variant="eq1", gap=gap, actions_sampled=2, **NETS)
    state = learn(cql, begin(cql, data, jax.random.key(0)), data)
    assert float(state.log_multiplier.model) == pytest.approx(sign * 5 * NETS["lr"], rel=0.05)


# bounds --------------------------------------------------------------------------------------------------------------------

DISCOUNT = 0.8
Q = dict(hidden=(), batch_size=1, discount=DISCOUNT, target_rate=0.5, lr=0.004, steps=2500)


@pytest.fixture(scope="module")
def covered():
    """A log of a random world, in which everything was tried, and what it says of the world."""
    mdp = random_mdp(5, 3, ending=0.1, seed=4)
    mdp = type(mdp)(mdp.transition, 0.1 * mdp.reward, mdp.start, mdp.terminal, mdp.mask)
    log = sample(mdp, np.tile([0.5, 0.3, 0.2], (5, 1)), 60, horizon=8, key=jax.random.key(0))
    said = empirical(log)
    assert (said.counts[:4] > 0).all()
    return log, said


@pytest.mark.parametrize("variant", ["eq1", "eq2"])
def test_conservative_values_bound_what_their_equation_says(covered, variant):
    r"""$Q = y - \alpha\,\mu / \hat\beta$ for equation 1 and $y - \alpha\,(\mu / \hat\beta - 1)$ for 2, μ being greedy: all on the best actions.

    Where pressing the best one down makes another best, both are, and share μ. So 1 bounds every value from below, and 2 that of μ alone: what
    it does not take it values too highly, as shows where little is discounted from later. Kumar et al. 2020, theorems 3.1 and 3.2.
    """
    log, said = covered
    discount, alphas = 0.1, (0.02, 0.05)
    methods = [ts.DiscreteCQL(alpha=a, variant=variant, **dict(Q, discount=discount, lr=0.001, steps=4000)) for a in alphas]
    transition, reward = np.float64(said.mdp.transition)[:4, :, :4], np.float64(said.mdp.reward)[:4, :, 0]
    for method, state in zip(methods, settled(methods, log)):
        q = np.float64(state.critic.model.every(jnp.arange(4))[0])
        goal = reward + discount * transition @ q.max(axis=1)
        mu = said.behaviour[:4] * ((goal - q) / method.alpha + (variant == "eq2"))
        assert (mu > -0.02).all() and ((mu < 0.02) | (q > q.max(axis=1, keepdims=True) - 4e-3)).all()
        np.testing.assert_allclose(mu.sum(axis=1), 1, atol=0.02)
        mu = np.maximum(mu, 0) / np.maximum(mu, 0).sum(axis=1, keepdims=True)
        true = said.mdp.value(np.concatenate([mu, np.full((2, 3), 1 / 3)]), discount)
        assert (q.max(axis=1) < true.v[:4]).all() and (q < true.q[:4]).all() == (variant == "eq1")


def test_discrete_sac_is_at_its_soft_fixed_point(covered):
    """Whatever its temperature became: Q is reward plus what the policy will earn, entropy included, and the policy a softmax of Q."""
    log, said = covered
    method = ts.DiscreteSAC(critics=1, target_entropy=0.6, **dict(Q, steps=6000))
    [state] = settled([method], log)
    heat = float(jnp.exp(state.log_temperature.model))
    q = np.float64(state.critic.model.every(jnp.arange(4))[0])
    probs = np.float64(method.policy(state)(jnp.arange(4)).probs())
    soft = np.exp(q / heat) / np.exp(q / heat).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probs, soft, atol=0.03)
    v = (probs * (q - heat * np.log(probs))).sum(axis=1)
    transition, reward = np.float64(said.mdp.transition)[:4, :, :4], np.float64(said.mdp.reward)[:4, :, 0]
    np.testing.assert_allclose(q, reward + DISCOUNT * transition @ v, atol=5e-3)
    entropy = -(probs * np.log(probs)).sum(axis=1) @ said.counts[:4].sum(axis=1) / said.counts.sum()
    assert entropy == pytest.approx(0.6 * np.log(3), abs=0.02)


# unlabelled steps ----------------------------------------------------------------------------------------------------------

CONSERVATIVE = dict(actions_sampled=2, actor_lr=NETS["lr"], **NETS)


def test_uds_is_cql_on_what_counts_as_nothing():
    log = tiny(Box)  # a quarter of it unlabelled
    known = log.info["labelled"]
    cql, uds = ts.CQL(**CONSERVATIVE), ts.UDS(**CONSERVATIVE)

    def learned(method, log):
        data = method.prepare(log)
        return learn(method, begin(method, data, jax.random.key(1)), data)

    zeroed = dataclasses.replace(log, reward=np.where(known, log.reward, np.float32(0)))
    same(learned(uds, log), learned(cql, zeroed))
    same(learned(uds, log.labelled()), learned(cql, log))
    assert differ(learned(uds, log), learned(cql, log))
    scaled = log.normalised(reward="standard")  # 0 in raw units, however rewards are seen
    shift, scale = (float(x) for x in (scaled.view.reward.shift, scaled.view.reward.scale))
    np.testing.assert_allclose(uds.prepare(scaled).all.reward[~known], -shift / scale, rtol=1e-5)
    with pytest.raises(BadData, match="labelled"):
        uds.prepare(dataclasses.replace(log, info={}))


def test_cds_weighs_what_is_not_labelled_by_how_good_it_looks():
    log = tiny(Box)
    cds, uds = ts.CDS(pool=1, **CONSERVATIVE), ts.UDS(**CONSERVATIVE)
    data = cds.prepare(log)
    state = begin(cds, data, jax.random.key(1))
    rows, known = data.draw(48, key=jax.random.key(0))
    weight = np.asarray(cds.weights(state, rows, known))
    value = np.asarray(state.agent.critic(rows.obs, rows.action).min(axis=0))
    known = np.asarray(known)
    ahead = value - np.quantile(value[known], 0.9)
    assert (weight[known] == 1).all() and (~known).any()
    np.testing.assert_allclose(weight[~known], 1 / (1 + np.exp(-ahead / np.abs(ahead).mean()))[~known], rtol=1e-4)
    drawn = cds.sample(state, data, key=jax.random.key(3)), uds.prepare(log).draw(16, key=jax.random.key(3))
    same(*(rows[np.argsort(rows.obs[:, 0])] for rows in drawn))  # with nothing to choose from, what UDS draws, in another order


def passage(labelled: int, prior: int) -> tuple[Episodes, Episodes]:
    """Rewards were recorded in the second state only, where going up pays; the prior log shows that up leads from the first to it."""
    rng = np.random.default_rng(0)
    side = lambda n: rng.choice([-0.5, 0.5], n) + rng.uniform(-0.3, 0.3, n)
    done, way = side(labelled), side(prior)
    task = Episodes.of(np.eye(2)[np.ones(labelled, int)], done, 1.0 * (done > 0), np.ones(labelled, bool), low=-1.0, high=1.0)
    ends, up = np.ones(prior, bool), way > 0
    known = Episodes.of(
        np.eye(2)[np.zeros(prior, int)],
        way,
        np.full(prior, 7.0),
        ~up,
        ends=ends,
        next_obs=np.eye(2)[np.ones(prior, int)],
        low=-1.0,
        high=1.0,
    )
    return task, known


TRIED = dict(hidden=(32,), batch_size=64, steps=600, lr=3e-3, actor_lr=3e-3, discount=0.9, target_rate=0.05, actions_sampled=4)


def acts(method, log, obs) -> np.ndarray:
    data = method.prepare(log)
    state = learn(method, begin(method, data, jax.random.key(0)), data)
    return np.asarray(method.policy(state)(jnp.asarray(obs, jnp.float32)).mode())[..., 0]


def test_unlabelled_steps_show_the_way_to_what_was_labelled():
    task, prior = passage(400, 400)
    log = Episodes.join(task.labelled(), prior.labelled(False))
    up = acts(ts.UDS(alpha=0.3, **TRIED), log, np.eye(2))
    assert (up > 0.2).all(), up


def test_cds_is_not_drawn_away_by_much_that_is_poor():
    """A hundred labelled steps that pay, and fifteen hundred unlabelled ones that do not, done in the same state."""
    rng = np.random.default_rng(0)
    log = lambda n, centre: Episodes.of(
        np.ones((n, 1)), centre + rng.uniform(-0.3, 0.3, n), np.full(n, 1.0 * (centre > 0)), np.ones(n, bool), low=-1.0, high=1.0
    )
    both = Episodes.join(log(100, 0.5).labelled(), log(1500, -0.5).labelled(False))
    drawn = [acts(kind(alpha=0.4, **TRIED, **more), both, np.ones((1, 1)))[0] for kind, more in ((ts.UDS, {}), (ts.CDS, dict(pool=4)))]
    assert drawn[0] < 0 < drawn[1], drawn
