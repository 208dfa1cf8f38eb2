"""Marginal weights against exact occupancies, and what weights must have in common whatever found them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from topstitch import ope
from topstitch.core import Box, Discrete, Spec
from topstitch.data import Episodes
from topstitch.data.codec import Codec, Column
from topstitch.nets import Normal, TablePolicy
from topstitch.ope import marginal as m
from topstitch.ope.dice import DICE, dice
from topstitch.ope.fqe import lstdq
from topstitch.ope.table import Refused, Values
from topstitch.worlds import MDP, empirical, random_mdp, sample

SOLVED = ("mwl", "dualdice", "gradientdice", "gendice", "bestdice")
rng = np.random.default_rng(0)
PI, MU = rng.dirichlet(np.ones(3), 6), rng.dirichlet(5 * np.ones(3), 6)
KEY = jax.random.key(0)


def population(mdp: MDP, policy, data, discount, *, behaviour=None) -> tuple[m.Flow, tuple]:
    """The flow of a whole world: a row for every (state, action, next state), weighted by how often it comes. States with `behaviour`."""
    states, actions = mdp.states, mdp.actions
    move = np.asarray(mdp.transition, np.float64)
    move /= move.sum(axis=-1, keepdims=True)
    policy = mdp.checked(policy)
    s, a, z = np.nonzero(move * data[:, :, None])
    share = data[s, a] * move[s, a, z]
    on = discount * ~np.asarray(mdp.terminal)[z]
    begin = np.asarray(mdp.start, np.float64) / np.asarray(mdp.start, np.float64).sum()
    if behaviour is not None:
        on = on * (policy / behaviour)[s, a]
        phi, then, start = np.eye(states)[s], np.eye(states)[z] * on[:, None], begin
    else:
        phi, then = np.eye(states * actions)[s * actions + a], np.zeros((len(s), states, actions))
        then[np.arange(len(s)), z] = policy[z]
        then, start = then.reshape(len(s), -1) * on[:, None], (begin[:, None] * policy).ravel()
    reward = np.broadcast_to(np.asarray(mdp.reward, np.float64), move.shape)[s, a, z]
    seen = phi.any(axis=0)
    thin = scipy.sparse.csr_array
    return m.Flow(thin(phi[:, seen]), thin(then[:, seen]), start[seen], reward, on, share / share.sum(), discount), (s, a)


def anywhere(mdp: MDP) -> np.ndarray:
    """Data from each state and action, in shares that no policy would visit them."""
    data = rng.dirichlet(np.ones(mdp.states))[:, None] * MU * ~np.asarray(mdp.terminal)[:, None]
    return data / data.sum()


def test_gendice_is_at_the_least_of_its_objective_where_the_flow_cannot_add_up():
    mdp = random_mdp(6, 3, ending=0.15, seed=1)
    data = anywhere(mdp)
    data[2, 1] = 0  # what the policy does there is lost
    flow, _ = population(mdp, PI, data / data.sum(), 0.9)
    phi, then = flow.phi.toarray(), flow.then.toarray()

    def objective(alpha):  # the χ² divergence of what arrives from what is said to be there, pair by pair, and the penalty
        mass = flow.share * (phi @ alpha)
        there, arrives = phi.T @ mass, 0.1 * flow.start + then.T @ mass
        return ((arrives - there) ** 2 / there).sum() + 0.5 * (mass @ flow.normal - 1) ** 2

    found = m.solve(flow, "gendice")
    assert objective(found) > 1e-4 and (found > 0).all()
    for i in range(len(found)):
        for factor in (0.99, 1.01):
            assert objective(np.where(np.arange(len(found)) == i, factor * found, found)) >= objective(found) - 1e-12


WORLDS = [(0.0, 0.9), (0.15, 0.9), (0.15, 1.0)]


@pytest.mark.parametrize("method", SOLVED)
@pytest.mark.parametrize(("ending", "discount"), WORLDS)
def test_weights_of_a_whole_world_are_its_occupancy(method, ending, discount):
    mdp = random_mdp(6, 3, ending=ending, seed=1)
    data, truth = anywhere(mdp), mdp.occupancy(PI, discount)
    flow, at = population(mdp, PI, data, discount)
    w = flow.phi @ m.solve(flow, method)
    np.testing.assert_allclose(w, truth[at] / data[at], rtol=1e-8, atol=1e-8)
    assert (flow.share * w * flow.reward).sum() / flow.scale == pytest.approx(mdp.performance(PI, discount), abs=1e-8)
    assert (flow.share * w * flow.normal).sum() == pytest.approx(1, abs=1e-8)
    if not ending:
        assert (flow.share * w).sum() == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize(("ending", "discount"), WORLDS)
def test_state_weights_times_ratios_are_those_of_pairs(ending, discount):
    mdp = random_mdp(6, 3, ending=ending, seed=1)
    data = anywhere(mdp)
    pairs, at = population(mdp, PI, data, discount)
    states, _ = population(mdp, PI, data, discount, behaviour=MU)
    ratio = (mdp.checked(PI) / MU)[at]
    np.testing.assert_allclose((states.phi @ m.solve(states)) * ratio, pairs.phi @ m.solve(pairs), rtol=1e-8)


@functools.cache
def log_of(ending=0.15, episodes=300, horizon=200, seed=0):
    mdp = random_mdp(6, 3, ending=ending, seed=1)
    return mdp, sample(mdp, MU, episodes, horizon=horizon, key=jax.random.key(seed))


POLICY = TablePolicy(jnp.asarray(PI, jnp.float32))


def in_the_log(log):
    """The world that a log describes, all actions allowed, and the policy in it."""
    model = empirical(log)
    free = MDP(model.mdp.transition, model.mdp.reward, model.mdp.start, model.mdp.terminal)
    return free, model.counts, np.vstack([PI, np.ones((1, 3)) / 3])


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_from_a_log_weights_are_exact_in_the_world_that_it_describes(discount):
    _, log = log_of()
    model, counts, policy = in_the_log(log)
    truth = model.occupancy(policy, discount) / np.maximum(counts, 1) * log.steps
    for method in ("mwl", "bestdice"):
        np.testing.assert_allclose(m.ratios(POLICY, log, discount=discount, method=method), truth[log.obs, log.action], rtol=1e-4)
    found = m.estimate(POLICY, log, discount=discount)
    assert found.value == pytest.approx(model.performance(policy, discount), rel=1e-5) and found.mass == pytest.approx(1, abs=1e-6)
    assert found.sums.contributions.mean() == pytest.approx(found.value) and found.weights.shape == (log.steps,)
    # the values of that world change nothing that these weights say of it
    said = lstdq(POLICY, log, discount=discount, ridge=0.0).values(log)
    assert m.estimate(POLICY, log, discount=discount, values=said).value == pytest.approx(found.value, rel=1e-4)


@pytest.mark.parametrize("method", [*SOLVED, "state", "time"])
def test_the_loggers_own_policy_is_worth_the_mean_return(method):
    _, log = log_of()
    own = TablePolicy(jnp.asarray(empirical(log).behaviour[:-1] if method in SOLVED else MU, jnp.float32))
    found = m.estimate(own, log, discount=1.0, method=method)
    assert found.value == pytest.approx(log.returns().mean(), rel=1e-4)
    np.testing.assert_allclose(found.weights, log.steps / len(log), rtol=1e-3)  # visits: each row stands for what it is
    assert found.mass == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("method", ["mwl", "state", "time"])
def test_estimates_are_near_the_truth(method):
    mdp, log = log_of(episodes=3000)
    assert m.estimate(POLICY, log, discount=0.9, method=method).value == pytest.approx(mdp.performance(PI, 0.9), abs=0.12)


def test_a_table_with_words_for_actions_says_the_same_as_its_numbers():
    _, log = log_of()
    words = Codec((Column("ward", "state"),), (Column("dose", "choice", levels=("none", "low", "high")),))
    told = [m.estimate(POLICY, one, discount=0.9, method="state").value for one in (log, dataclasses.replace(log, codec=words))]
    assert told[0] == told[1]


@pytest.mark.parametrize("right", ["weights", "values"])
def test_doubly_robust_is_right_if_either_is(right):
    mdp, log = log_of(episodes=3000)
    true = mdp.value(PI, 0.9)
    values = Values(true.q[log.obs, log.action], true.v[log.obs], np.where(log.terminal, 0, true.v[log.next_obs])[log.stops - 1])
    if right == "weights":
        wrong = Values(values.q + 1 + log.obs, values.v + 1 + log.obs, values.behind + 3)
        said = m.estimate(POLICY, log, discount=0.9, values=wrong).value
    else:
        said = m.estimate(POLICY, log, discount=0.9, method="mwl", values=values).value
        constant = TablePolicy(jnp.asarray(np.tile([0.0, 0.0, 1.0], (6, 1)), jnp.float32))
        w = m.ratios(constant, log, discount=0.9)  # of another policy: wrong
        gap = log.reward + 0.9 * np.where(log.terminal, 0, true.v[log.next_obs]) - values.q
        said = values.v[log.starts].mean() + (w * gap).mean() / 0.1
    assert said == pytest.approx(mdp.performance(PI, 0.9), abs=0.12)


def test_weights_are_worth_the_episodes_that_they_rest_on():
    """All of them for the logger's own; two episodes of very different weight, by hand: W = Σ w (1 - γ (1 - terminal)) / (1 - γ)."""
    _, log = log_of()
    own = TablePolicy(jnp.asarray(empirical(log).behaviour[:-1], jnp.float32))
    assert m.estimate(own, log, discount=1.0).effective == pytest.approx(len(log), rel=1e-4)
    assert 0.8 * len(log) < m.estimate(own, log, discount=0.9).effective < len(log)
    assert m.estimate(POLICY, log, discount=0.9).effective < 0.8 * len(log)
    two = Episodes.of(np.zeros(3), np.zeros(3, int), np.ones(3), [0, 1, 1])
    w, normal = np.array([1.0, 2.0, 0.5]), np.array([1, 10, 10])
    assert m.summed(two, w, normal, 0.9, None, False).effective == pytest.approx((21 + 5) ** 2 / (21**2 + 5**2))


def test_few_and_missing_visits_are_refused():
    _, log = log_of()
    far = TablePolicy(jnp.asarray(np.tile([0.0, 0.0, 1.0], (6, 1)), jnp.float32))
    some = log.take(np.arange(12))
    said = ope.estimate({"far": far, "near": POLICY}, some, ["mwl", "gendice"], discount=0.9)
    assert "worth" in said[1].refused and "of 12 episodes" in said[1].refused
    without = log.take(np.flatnonzero(np.add.reduceat((log.obs == 2) & (log.action == 2), log.starts) == 0))
    assert "% of the policy's visits" in ope.estimate(far, without, ["mwl"], discount=0.9)[0].refused
    assert ope.estimate(POLICY, log, ["mwl"], discount=0.9)[0].effective > 100


def test_what_the_log_lacks_is_counted_as_lost():
    _, log = log_of()
    without = log.take(np.flatnonzero(np.add.reduceat((log.obs == 2) & (log.action == 1), log.starts) == 0))
    whole, less = (m.estimate(POLICY, x, discount=0.9) for x in (log, without))
    assert whole.mass == pytest.approx(1, abs=1e-6) and 0.3 < less.mass < 0.99
    again = m.estimate(POLICY, without, discount=0.9, normalise=True)
    assert again.value == pytest.approx(less.value / less.mass)
    for method in ("gradientdice", "bestdice", "gendice"):  # these spread the rest over what there is
        assert less.mass < m.estimate(POLICY, without, discount=0.9, method=method).mass < 1.01


def test_weights_by_time_by_hand():
    # two episodes of two steps in state 0, then 1; the second episode has the ratio 3 at first, the first one 1
    log = Episodes.of(
        np.array([0, 1, 0, 1]), np.array([0, 0, 1, 0]), np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True]),
        ends=np.array([False, True, False, True]), states=2, actions=2, probability=np.array([0.75, 1.0, 0.25, 1.0]),
    )  # fmt: skip
    policy = TablePolicy(jnp.asarray([[0.25, 0.75], [1.0, 0.0]]))
    found = m.estimate(policy, log, discount=0.5, method="time")
    first = np.array([1 / 3, 3]) / 2  # of d_0(0) = 1, halved between two rows
    arrived = first.sum()  # all of it is in state 1 then, which again two rows share
    assert found.value == pytest.approx(first @ [1, 3] + 0.5 * arrived / 2 * (2 + 4))
    np.testing.assert_allclose(found.weights, 0.5 * 4 * np.array([first[0], 0.25 * arrived, first[1], 0.25 * arrived]))


# features -----------------------------------------------------------------------------------------------------------------


def vectors(n=60, *, discrete: bool, seed=0):
    """Walks on a line: a step is what the action says and noise; the reward is nearness to 0. Truncated."""
    r = np.random.default_rng(seed)
    obs, action = np.zeros((n, 21)), np.zeros((n, 20))
    obs[:, 0] = r.normal(size=n)
    for t in range(20):
        action[:, t] = r.integers(2, size=n) if discrete else np.clip(r.normal(0, 0.6, size=n), -1, 1)
        push = 2 * action[:, t] - 1 if discrete else action[:, t]
        obs[:, t + 1] = 0.8 * obs[:, t] + 0.3 * push + 0.1 * r.normal(size=n)
    ends = np.tile(np.arange(20) == 19, n)
    column = action.reshape(-1).astype(np.int32 if discrete else np.float32)
    return Episodes.of(
        obs[:, :-1].reshape(-1, 1), column, -np.abs(obs[:, :-1].reshape(-1)), np.zeros(20 * n, bool), ends=ends, next_obs=obs[:, 1:].reshape(-1, 1),
        probability=np.full(20 * n, 0.5) if discrete else None, **(dict(actions=2) if discrete else dict(low=-1, high=1)),
    )  # fmt: skip


class Leaning(TablePolicy):
    """Steps towards 0 more often than not, whatever the table says."""

    def __call__(self, obs, mask=None):
        up = jnp.where(obs[..., :1] < 0, 0.8, 0.2)
        return type(TablePolicy(self.probabilities)(jnp.zeros(obs.shape[:-1], jnp.int32)))(jnp.log(jnp.concatenate([1 - up, up], axis=-1)))


LEANING = Leaning(jnp.ones((1, 2)) / 2)


@pytest.mark.parametrize("features", ["polynomial", "radial"])
def test_with_the_same_features_weights_and_values_say_the_same(features):
    log = vectors(discrete=True)
    how = dict(features=features, degree=3, centres=12, seed=0)
    weighted = m.estimate(LEANING, log, discount=0.9, ridge=1e-9, **how)
    fitted = lstdq(LEANING, log, discount=0.9, ridge=1e-9, **how)
    assert weighted.value == pytest.approx(float(fitted.estimate(log)[0]), rel=1e-4)
    assert weighted.mass == pytest.approx(1, abs=1e-4)  # the constant is one of them
    truth = vectors(n=4000, discrete=True, seed=5)
    for method in ("mwl", "gradientdice", "bestdice", "state"):
        assert abs(m.estimate(LEANING, log, discount=0.9, method=method, **how).value - better(truth)) < 0.8, method
    assert better(truth) > truth.returns(0.9).mean() + 0.4


def better(log):
    """What the leaning policy earns on the line, simulated, with the rest of its future as far as the discount sees."""
    r = np.random.default_rng(1)
    x, total = log.obs[log.starts][:, 0].astype(np.float64), 0.0
    for t in range(150):
        total = total - 0.9**t * np.abs(x)
        up = r.uniform(size=len(x)) < np.where(x < 0, 0.8, 0.2)
        x = 0.8 * x + 0.3 * (2 * up - 1) + 0.1 * r.normal(size=len(x))
    return float(np.mean(total))


class Still(TablePolicy):
    """A normal around 0, as the logger's is."""

    def __call__(self, obs, mask=None):
        zero = jnp.zeros((*obs.shape[:-1], 1))
        return Normal(zero, zero + jnp.log(0.6))


def test_actions_of_a_box_are_drawn():
    log = vectors(discrete=False)
    assert log.spec == Spec(Box(1), Box(1))
    found = m.estimate(Still(jnp.ones((1, 1))), log, discount=0.9)
    assert found.mass == pytest.approx(1, abs=1e-3)
    assert found.value == pytest.approx(log.returns(0.9).mean() - 0.9**20 / 0.1 * np.abs(log.obs[log.stops - 1]).mean(), abs=0.4)


# nets --------------------------------------------------------------------------------------------------------------------


def test_nets_find_the_saddle_point():
    _, log = log_of()
    small = DICE(discount=0.9, lr=3e-3, dual=1.0, reward=0.0, normal=0.0, positive=False, hidden=(), steps=4000, batch_size=256)
    found, exact = dice(POLICY, log, algorithm=small, normalise=False), m.estimate(POLICY, log, discount=0.9)
    assert np.sqrt(((found.weights - exact.weights) ** 2).mean() / (exact.weights**2).mean()) < 0.06
    assert found.value == pytest.approx(exact.value, abs=0.1) and found.mass == pytest.approx(1, abs=0.05)


def test_the_lagrangian_of_nets_is_the_papers():
    # one state that goes on for ever, two rows, tables with known entries: every term by hand
    log = Episodes.of(
        np.zeros(2),
        np.array([0, 1]),
        np.array([1.0, 3.0]),
        np.zeros(2, bool),
        ends=np.ones(2, bool),
        next_obs=np.zeros(2),
        states=1,
        actions=2,
        duration=[1, 2],
    )
    algorithm = DICE(discount=0.5, primal=0.3, dual=0.7, reward=2.0, normal=1.0, hidden=(), batch_size=2)
    half = jnp.ones((2, 2)) / 2
    batch = (log.transitions().rows(), half, jnp.zeros(2, jnp.int32), half)
    state = algorithm.init(log.transitions(), key=KEY)
    nu, zeta = np.asarray(state.nu.model.every(jnp.int32(0))), np.asarray(state.zeta.model.every(jnp.int32(0))) ** 2
    gap = 2 * np.array([1, 3]) + np.array([0.5, 0.25]) * nu.mean() - nu
    mass = (zeta * [1, 1.5]).mean()  # (1 - 0.5^Δt) / (1 - 0.5)
    by_hand = 0.5 * nu.mean() + (zeta * gap).mean() + 0.15 * (nu**2).mean() - 0.35 * (zeta**2).mean()
    price = 0.4 * (1 - mass)
    said, info = algorithm.lagrangian(state.nu.model, state.zeta.model, jnp.float32(0.4), batch)
    assert float(said) == pytest.approx(by_hand + price, rel=1e-5) and float(info["dice/mass"]) == pytest.approx(mass)
    moved, _ = jax.jit(algorithm.update)(state, batch, step=jnp.int32(0), key=KEY)
    after = lambda nu, zeta, price: float(algorithm.lagrangian(nu, zeta, price, batch)[0])
    now = (state.nu.model, state.zeta.model, state.price.model)
    assert after(moved.nu.model, *now[1:]) < after(*now) < after(now[0], moved.zeta.model, now[2])
    assert float(moved.price.model) * float(1 - mass) < 0  # λ descends too


# refusals -----------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_answered_is_refused():
    _, log = log_of(ending=0.0, episodes=10, horizon=20)
    with pytest.raises(Refused, match="cut off"):
        m.ratios(POLICY, log, discount=1.0)
    line = vectors(discrete=True)
    with pytest.raises(Refused, match="numbered state"):
        m.ratios(LEANING, line, discount=0.9, method="time")
    with pytest.raises(Refused, match="radial"):
        m.ratios(LEANING, line, discount=0.9, method="gendice")
    with pytest.raises(ValueError, match="must not be divided"):
        m.estimate(POLICY, log, discount=0.9, normalise=True, values=Values(np.zeros(200), np.zeros(200), np.zeros(10)))
    with pytest.raises(ValueError, match="no method"):
        m.solve.__wrapped__(m.Flow(np.eye(2), np.zeros((2, 2)), np.ones(2), np.ones(2), np.ones(2), np.ones(2) / 2, 0.9), "dice")
    big = m.Flow(*(scipy.sparse.eye_array(3000).tocsr(),) * 2, np.ones(3000), np.ones(3000), np.ones(3000), np.ones(3000) / 3000, 0.9)
    with pytest.raises(Refused, match="at once"):
        m.solve(big, "bestdice")
    assert isinstance(log.spec.action, Discrete)
