"""What theory says of methods that live on disagreement: limits between them, exact fixed points, and who is carried away by a guess."""

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

import topstitch as ts
from topstitch import nets, ops
from topstitch.core import Box, Discrete, Spec
from topstitch.data import Episodes
from topstitch.data.device import Transitions
from topstitch.loop import one_step, stage_key, train, unstack
from topstitch.testing import tiny
from topstitch.worlds import empirical, random_mdp, sample

SMALL = settings(max_examples=30, deadline=None)
NETS = dict(hidden=(8, 8), batch_size=16, lr=1e-2, steps=5)
RND = ts.SACRND(norm=False, embedding=4, novelty_steps=5, **NETS)


def same(a, b):
    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.squeeze(x), np.squeeze(y), err_msg=jax.tree_util.keystr(place))


def differ(a, b) -> bool:
    return any(
        not np.allclose(np.squeeze(x), np.squeeze(y), rtol=1e-5) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@ft.partial(jax.jit, static_argnames="index")
def learn(algorithm, state, data, index=0):
    """Five steps of a stage."""
    stage = algorithm.stages()[index]
    key = stage_key(jax.random.key(7), stage)
    return jax.lax.fori_loop(0, 5, lambda step, state: one_step(stage, state, data, step, key)[0], state)


@jax.jit
def begin(algorithm, data):
    return algorithm.init(data, key=jax.random.key(1))


# limits --------------------------------------------------------------------------------------------------------------------


def test_edac_without_diversity_is_sac_n():
    data = tiny(Box).transitions()
    sac_n, edac = ts.SACN(critics=5, **NETS), ts.EDAC(eta=0.0, critics=5, actor_lr=NETS["lr"], **NETS)
    start = begin(sac_n, data)
    same(begin(edac, data), start)
    wanted = learn(sac_n, start, data)
    assert differ(wanted, start)
    same(learn(edac, start, data), wanted)
    assert differ(learn(dataclasses.replace(edac, eta=1.0), start, data), wanted)


def test_sac_rnd_without_penalties_is_sac():
    data = tiny(Box).transitions()
    rnd = dataclasses.replace(RND, actor_novelty=0.0, critic_novelty=0.0)
    sac, own = ts.SAC(**NETS), learn(rnd, begin(rnd, data), data, 0)
    start = begin(sac, data)
    own = eqx.tree_at(lambda s: s.agent, own, start)
    wanted = learn(sac, start, data)
    assert differ(wanted, start)
    same(learn(rnd, own, data, 1).agent, wanted)
    for away in (dict(actor_novelty=1.0), dict(critic_novelty=1.0)):
        assert differ(learn(dataclasses.replace(rnd, **away), own, data, 1).agent, wanted)


def test_a_mixture_of_one_head_is_q_learning():
    data = tiny(Discrete, masks=True).transitions()
    dqn = ts.DQN(**NETS)
    start = begin(dqn, data)
    wanted = learn(dqn, start, data)
    assert differ(wanted, start)
    alone = jax.tree.map(lambda x: x[0] if jnp.ndim(x) else x, start)

    def learned(heads):
        rem = ts.REM(heads=heads, **NETS)
        own = begin(rem, data)
        if heads > 1:
            return learn(rem, own, data)
        return learn(rem, jax.tree.unflatten(jax.tree.structure(own), jax.tree.leaves(alone)), data)

    same(learned(1), wanted)
    two, one = learned(2).critic.model.q.net.layers[-1].weight, wanted.critic.model.members.net.layers[-1].weight
    assert two.shape[-1] == 2 * one.shape[-1]


# equations -----------------------------------------------------------------------------------------------------------------


gradients = arrays(np.float32, (4, 3, 2), elements=st.floats(-2, 2, width=32)).map(
    lambda x: x + np.where(np.abs(x).sum(-1, keepdims=True) < 0.1, 0.5, 0)
)


@SMALL
@given(gradients.map(np.float32), st.floats(0.1, 10))
def test_alignment_is_the_sum_over_pairs_of_cosines(g, scale):
    said = np.asarray(ops.alignment(jnp.asarray(g)))
    unit = np.float64(g) / np.linalg.norm(np.float64(g), axis=-1, keepdims=True)
    cosines = np.einsum("ibd,jbd->bij", unit, unit)
    np.testing.assert_allclose(said, (cosines.sum((1, 2)) - 4) / 3, atol=1e-4)
    np.testing.assert_allclose(ops.alignment(jnp.asarray(g * np.float32(scale))), said, atol=1e-4)
    assert (said >= -4 / 3 - 1e-4).all() and (said <= 4 + 1e-4).all()


def test_alignment_at_its_ends():
    one = jnp.ones((5, 1, 3))
    np.testing.assert_allclose(ops.alignment(one), 5, rtol=1e-5)
    np.testing.assert_allclose(ops.alignment(jnp.eye(3)[:, None]), 0, atol=1e-5)
    spread = jnp.array([[1.0, 0], [-0.5, 3**0.5 / 2], [-0.5, -(3**0.5) / 2]])[:, None]
    np.testing.assert_allclose(ops.alignment(spread), -1.5, rtol=1e-5)
    slope = jax.grad(lambda g: ops.alignment(g).sum())
    assert jnp.isfinite(slope(jnp.zeros((3, 1, 2)))).all()
    flat = jax.random.normal(jax.random.key(0), (5, 7, 1))
    assert jnp.abs(slope(flat)).max() < 1e-3 < jnp.abs(slope(jax.random.normal(jax.random.key(0), (5, 7, 2)))).max()  # signs have no slope


@SMALL
@given(arrays(np.float32, 3, elements=st.floats(0, 1, width=32)))
def test_a_mixture_of_heads_is_the_mixture_of_their_answers(weights):
    heads = nets.Heads(Spec(Box(2), Discrete(4)), (6,), 3, key=jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (5, 2))
    each = jnp.stack([heads.mixed(row).every(obs) for row in jnp.eye(3)])
    np.testing.assert_allclose(heads.mixed(jnp.asarray(weights)).every(obs), jnp.einsum("hba,h->ba", each, weights), atol=1e-5)
    assert all(jnp.abs(each[0] - other).max() > 0.01 for other in each[1:])


def test_the_conditioned_nets_are_what_they_say():
    kx, kz, kn = jax.random.split(jax.random.key(0), 3)
    x, z = jax.random.normal(kx, (5, 2)), jax.random.normal(kz, (5, 3))
    bilinear = nets.Bilinear(2, 3, (6, 4), 7, key=kn)
    first, second, last = bilinear.layers
    h = jnp.einsum("bi,ijk,bj->bk", x, first.weight.reshape(2, 3, 6), z) + first.bias[None]
    np.testing.assert_allclose(bilinear(x, z), last(jax.nn.relu(second(jax.nn.relu(h)))), atol=1e-5)
    film = nets.Film(2, 3, (6, 4), 7, key=kn)
    scale, shift = z @ film.film.weight[:, :4] + film.film.bias[None, :4], z @ film.film.weight[:, 4:] + film.film.bias[None, 4:]
    h = jax.nn.relu(film.layers[0](x))
    np.testing.assert_allclose(film(x, z), film.layers[2](jax.nn.relu(scale * film.layers[1](h) + shift)), atol=1e-5)
    assert all((jnp.abs(layer.bias) > 0).all() for layer in (*bilinear.layers, *film.layers, film.film))


# fixed points --------------------------------------------------------------------------------------------------------------


class Whole(Transitions):
    """Every batch is the whole log."""

    def draw(self, n, *, key):
        return self.all


def test_every_head_of_a_random_mixture_is_the_optimal_value():
    """Proposition 1 of Agarwal et al.: all mixtures satisfy Bellman's equation only where all heads do."""
    mdp = random_mdp(5, 3, ending=0.1, seed=4)
    mdp = type(mdp)(mdp.transition, 0.1 * mdp.reward, mdp.start, mdp.terminal, mdp.mask)
    log = sample(mdp, np.tile([0.5, 0.3, 0.2], (5, 1)), 150, horizon=8, key=jax.random.key(0))
    said = empirical(log)
    assert (said.counts[:4] > 0).all()
    rows = log.transitions()
    rem = ts.REM(heads=4, hidden=(), batch_size=1, discount=0.8, target_rate=0.5, lr=0.004, steps=4000)
    out = train([(rem, 0)], Whole(rows.all, rows.view, rows.spec), every=10_000)
    [state] = unstack(out.states, 1)
    want = said.mdp.optimum(0.8)
    for head in jnp.eye(4):
        q = state.critic.model.mixed(head).every(jnp.arange(5))
        np.testing.assert_allclose(q[:4], want.q[:4], atol=2e-3)
    chosen = np.asarray(rem.policy(state)(jnp.arange(4)).mode())
    np.testing.assert_array_equal(chosen, want.q[:4].argmax(axis=1))
    assert (want.v[:4] > said.mdp.value(said.behaviour, 0.8).v[:4] + 0.01).all()  # the logger does not act so


# novelty -------------------------------------------------------------------------------------------------------------------


def test_the_spread_of_errors_is_that_of_all_errors_met():
    data = tiny(Box).transitions()
    rnd = dataclasses.replace(RND, novelty_lr=0.0)
    state, met = begin(rnd, data), []
    distil = jax.jit(lambda state, batch: rnd.distil(state, batch, step=jnp.int32(0), key=jax.random.key(0))[0])
    for i in range(3):
        batch = data.draw(16, key=jax.random.key(i))
        met.append(state.novelty.error(state.novelty.predictor.model, batch.obs, batch.action))
        state = distil(state, batch)
    met = np.concatenate(met)
    np.testing.assert_allclose([state.novelty.count, state.novelty.mean, state.novelty.variance], [48, met.mean(), met.var()], rtol=1e-4)
    np.testing.assert_allclose(state.novelty(batch.obs, batch.action), met[-16:] / met.std(), rtol=1e-4)


def test_each_stage_of_sac_rnd_leaves_the_other_half_alone():
    data = tiny(Box).transitions()
    start = begin(RND, data)
    fitted = learn(RND, start, data, 0)
    same(fitted.agent, start.agent)
    same(fitted.novelty.prior, start.novelty.prior)
    assert differ(fitted.novelty.predictor, start.novelty.predictor)
    done = learn(RND, fitted, data, 1)
    same(done.novelty, fitted.novelty)
    assert differ(done.agent, fitted.agent)


# who is carried away -------------------------------------------------------------------------------------------------------


def rising(rows: int = 800) -> Episodes:
    """Actions of three numbers within ±0.3, and rewards that rise along all of them, yet are losses on average even at the edge."""
    rng = np.random.default_rng(0)
    action, obs = rng.uniform(-0.3, 0.3, (rows, 3)), rng.uniform(-1, 1, (rows, 2))
    reward = -1 + action.sum(axis=1) + 0.3 * rng.normal(size=rows)
    ends = np.arange(rows) % 10 == 9
    return Episodes.of(obs, action, reward, np.zeros(rows, bool), ends=ends, next_obs=np.roll(obs, -1, axis=0), low=-1.0, high=1.0)


SOARING = dict(hidden=(32, 32), batch_size=64, steps=1000, lr=3e-3, discount=0.95, target_rate=0.05)


@pytest.fixture(scope="module")
def carried():
    """By name: Q at logged actions, how far from 0 the policy acts, and the mean cosine of the critics' gradients."""
    log = rising()
    rows = log.transitions().all

    @jax.jit
    def look(agent):
        slope = agent.critic.model.ask(lambda q: jax.grad(lambda a: q(rows.obs, a).sum())(rows.action))
        cosine = ops.alignment(slope).mean() / agent.critic.model.n
        return agent.critic.model(rows.obs, rows.action).mean(), jnp.abs(agent.actor(rows.obs).mode()).max(axis=-1).mean(), cosine

    edac = ts.EDAC(critics=4, actor_lr=3e-3, **SOARING)
    learned = {
        "SAC": [ts.SAC(**SOARING)], "SAC-N of 4, EDAC of 4": [dataclasses.replace(edac, eta=eta) for eta in (0.0, 0.1, 1.0)],
        "SAC-N of 20": [ts.SACN(critics=20, **SOARING)],
        "SAC-RND": [ts.SACRND(novelty_steps=500, novelty_lr=3e-3, embedding=8, actor_novelty=5.0, critic_novelty=5.0, **SOARING)],
    }  # fmt: skip
    said = {}
    for name, algorithms in learned.items():
        out = train([(a, 0) for a in algorithms], log, every=10_000)
        assert not any(out.faults), out.faults
        seen = [look(getattr(state, "agent", state)) for state in unstack(out.states, len(algorithms))]
        said[name] = np.array(seen).squeeze()
        if name == "SAC-RND":
            said["novelty"] = unstack(out.states, 1)[0].novelty
    return said


BEST = (-1 + 0.9) / (1 - SOARING["discount"])
"What the best of the logged actions would earn if it were taken for ever: -2."


def test_who_believes_in_what_was_never_logged(carried):
    few, _, _ = carried["SAC-N of 4, EDAC of 4"][:, 0]
    sac, many, rnd, edac = carried["SAC"], carried["SAC-N of 20"], carried["SAC-RND"], carried["SAC-N of 4, EDAC of 4"][2]
    assert sac[0] > few > many[0] > BEST + 10 and sac[1] > 0.8  # every critic shares the trend: more of them only soar less
    assert edac[0] < BEST and edac[1] < 0.5  # four that look different ways do what twenty cannot
    assert rnd[0] < BEST and rnd[1] < 0.8


def test_gradients_scatter_as_eta_grows(carried):
    cosine = carried["SAC-N of 4, EDAC of 4"][:, 2]
    assert cosine[0] > 0.5 and (np.diff(cosine) < 0).all()
    assert cosine[2] == pytest.approx(-1 / 3, abs=0.1)  # the least that four directions can have
    assert carried["SAC-N of 20"][2] > 0.5


def test_novelty_is_small_where_actions_were_logged(carried):
    rows, novelty = rising().transitions().all, carried["novelty"]
    at = [float(novelty(rows.obs, jnp.sign(rows.action) * r).mean()) for r in (0.15, 0.6, 1.0)]
    assert at[0] < 1.5 and at[1] > 5 * at[0] and at[2] > 2 * at[1], at
