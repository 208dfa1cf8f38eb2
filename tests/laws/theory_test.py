"""What theory says of each method where values are a table: real algorithms on small logs, against exact solutions.

A net without hidden layers over numbered states is a table. Every batch is the whole log, so that nothing but the method decides where
learning ends; rewards are small, so that the Huber loss is a square there and its least point the mean.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import topstitch as ts
from topstitch.data import Episodes
from topstitch.data.device import Transitions
from topstitch.loop import train, unstack
from topstitch.worlds import MDP, empirical, random_mdp, sample, table

TABLE = dict(hidden=(), batch_size=1)
DISCOUNT = 0.8
# Adam circles around a fixed point at a distance that grows with `lr`: at 0.02 by a hundredth, at 0.004 not visibly
Q = dict(TABLE, discount=DISCOUNT, target_rate=0.5, lr=0.004, steps=2500)


class Whole(Transitions):
    """Every batch is the whole log."""

    def draw(self, n, *, key):
        return self.all


def whole(log: Episodes) -> Whole:
    rows = log.transitions()
    return Whole(rows.all, rows.view, rows.spec)


def learned(algorithms, log: Episodes):
    """(algorithm, its last state) of each, trained together."""
    out = train([(a, seed) for seed, a in enumerate(algorithms)], whole(log), every=10_000)
    assert not any(out.faults), out.faults
    return list(zip(algorithms, unstack(out.states, len(algorithms))))


def mild(mdp: MDP) -> MDP:
    return MDP(mdp.transition, 0.1 * mdp.reward, mdp.start, mdp.terminal, mdp.mask)


def q_of(critic, states: int) -> np.ndarray:
    return np.asarray(critic.model.every(jnp.arange(states))[0])


@pytest.fixture(scope="module")
def covered():
    """A log of a random world by a lopsided logger that tries everything, and what it says of the world. Some episodes are cut off."""
    mdp = mild(random_mdp(5, 3, ending=0.1, seed=4))
    weights = np.tile([0.6, 0.35, 0.05], (5, 1))
    for state, row in enumerate(weights):
        weights[state] = np.roll(row, state)
    log = sample(mdp, weights, 150, horizon=8, key=jax.random.key(0))
    said = empirical(log)
    assert (said.counts[:4] > 0).all() and log.truncated.any() and log.terminal.any()
    return log, said


LIVE = slice(4)  # the states of `covered` in which something is done


def test_q_learning_finds_the_fixed_point_of_the_empirical_world(covered):
    log, said = covered
    want = said.mdp.optimum(DISCOUNT)
    for _, state in learned([ts.DQN(**Q)], log) + learned([ts.DQN(double=True, **Q)], log):
        np.testing.assert_allclose(q_of(state.critic, 5)[LIVE], want.q[LIVE], atol=2e-4)


def test_batch_constrained_q_learning_finds_the_constrained_optimum(covered):
    log, free = covered
    kept = free.counts > 0.3 * free.counts.max(axis=1, keepdims=True)
    least = int(free.counts[LIVE][kept[LIVE]].min())
    said = empirical(log, threshold=least)
    assert (np.asarray(said.mdp.mask)[LIVE] == kept[LIVE]).all() and not kept[LIVE].all()  # one constraint, said in two ways
    algorithm = ts.DiscreteBCQ(threshold=0.3, **Q)
    [(_, state)] = learned([algorithm], log)
    want = said.mdp.optimum(DISCOUNT)
    np.testing.assert_allclose(q_of(state.critic, 5)[LIVE], want.q[LIVE], atol=2e-4)
    np.testing.assert_array_equal(table(algorithm.policy(state), random_mdp(5, 3, ending=0.1))[LIVE], want.policy[:5][LIVE])
    assert np.abs(want.q - free.mdp.optimum(DISCOUNT).q)[LIVE].max() > 0.01  # the constraint binds


def test_cloning_finds_the_frequencies(covered):
    log, said = covered
    algorithm = ts.BC(lr=0.01, steps=2500, **TABLE)
    [(_, state)] = learned([algorithm], log)
    probs = algorithm.policy(state)(jnp.arange(5)).probs()
    np.testing.assert_allclose(probs[LIVE], said.behaviour[:5][LIVE], atol=2e-4)


def test_implicit_q_learning_goes_from_the_value_of_the_logger_to_the_optimum(covered):
    """At 1/2 the expectile is the mean over logged actions, and V that of the logger; towards 1 it is the best of them."""
    log, said = covered
    best, mean = said.mdp.optimum(DISCOUNT).v[LIVE], said.mdp.value(said.behaviour, DISCOUNT).v[LIVE]
    taus = (0.5, 0.7, 0.9, 0.98)
    how = dict(Q, critics=1, decay=False)
    values = [np.asarray(state.value(jnp.arange(5)))[LIVE] for _, state in learned([ts.IQL(expectile=e, **how) for e in taus], log)]
    for tau, value in zip(taus, values):
        np.testing.assert_allclose(value, expectile_value(said, tau)[LIVE], atol=2e-4)
    np.testing.assert_allclose(values[0], mean, atol=2e-4)
    assert (np.diff(values, axis=0) > 0).all() and (values[-1] <= best + 3e-3).all()
    distance = np.abs(np.array(values) - best).max(axis=1)
    assert distance[-1] < 0.4 * distance[0]
    np.testing.assert_allclose(expectile_value(said, 1 - 1e-5)[LIVE], best, atol=1e-3)


def expectile_value(said, tau: float) -> np.ndarray:
    """V where V(s) is the τ-expectile of r + γ E V(s') over logged actions, by iteration: the weights make it a mean."""
    transition, reward = np.float64(said.mdp.transition), np.float64(said.mdp.reward)[..., 0]
    live, v = said.counts.sum(axis=1) > 0, np.zeros(len(said.counts))
    for _ in range(400):
        q, m = reward + DISCOUNT * transition @ v, v.copy()
        for _ in range(40):
            w = said.behaviour * np.where(q < m[:, None], 1 - tau, tau)
            m = (w * q).sum(axis=1) / w.sum(axis=1)
        v = np.where(live, m, 0)
    return v


# conservatism ------------------------------------------------------------------------------------------------------------------


def even_log(mdp: MDP, times: int = 20) -> Episodes:
    """Every action of every state of a world as often as any other; each step is an episode of its own, cut off unless it ended."""
    rng = np.random.default_rng(0)
    live = np.flatnonzero(~np.asarray(mdp.terminal))
    state, action, _ = (x.ravel() for x in np.meshgrid(live, np.arange(mdp.actions), np.arange(times), indexing="ij"))
    after = np.array([rng.choice(mdp.states, p=p / p.sum()) for p in np.float64(mdp.transition)[state, action]])
    return Episodes.of(
        state, action, np.asarray(mdp.reward)[state, action, 0], np.asarray(mdp.terminal)[after], ends=np.ones(len(state), bool),
        next_obs=after, states=mdp.states, actions=mdp.actions,
    )  # fmt: skip


def test_conservative_values_are_a_fixed_point_in_closed_form(covered):
    r"""Where the loss is least, $Q = y - \alpha\,(\mu / \hat\pi - 1)$ with $\mu \propto e^Q$.

    So the mean of Q under μ lies below that of its target in every state, by $\alpha\,(\sum_a \mu^2 / \hat\pi - 1)$: Kumar et al.
    2020, theorem 3.2. It holds for the policy μ that was pushed down, not for every action: those rarer under μ than in the log are raised.
    """
    log, said = covered
    for algorithm, state in learned([ts.DiscreteCQL(alpha=a, **Q) for a in (0.01, 0.05)], log):
        q = np.float64(q_of(state.critic, 5))
        v = np.append(np.where(np.arange(5) < 4, q.max(axis=1), 0), 0)
        transition, reward = np.float64(said.mdp.transition), np.float64(said.mdp.reward)[..., 0]
        y = (reward + DISCOUNT * transition @ v)[LIVE]
        mu = np.exp(q[LIVE]) / np.exp(q[LIVE]).sum(axis=1, keepdims=True)
        pressed = mu / said.behaviour[LIVE] - 1
        assert np.abs(algorithm.alpha * pressed).max() < 0.9  # within the square part of the Huber loss
        np.testing.assert_allclose(q[LIVE], y - algorithm.alpha * pressed, atol=2e-4)
        assert ((mu * q[LIVE]).sum(axis=1) < (mu * y).sum(axis=1)).all()
        assert (q[LIVE] > y + 0.3 * algorithm.alpha).any()


def test_conservative_values_lie_below_the_true_ones_and_fall_with_alpha():
    """The bound is for the greedy policy: in a log that takes all actions alike no greedy action is rarer in μ than in the log.

    Elsewhere it need not hold: the greedy value is raised where the log takes the greedy action more often than μ does.
    """
    mdp = mild(random_mdp(5, 2, ending=0.1, seed=1))
    log = even_log(mdp)
    said = empirical(log)
    alphas = (0.0, 0.05, 0.2, 0.4)
    values = []
    for algorithm, state in learned([ts.DiscreteCQL(alpha=a, **Q) for a in alphas], log):
        probs = np.asarray(table(algorithm.policy(state), mdp))
        true = said.mdp.value(np.concatenate([probs, probs[:1]]), DISCOUNT).v[LIVE]
        value = q_of(state.critic, 5).max(axis=1)[LIVE]
        values.append(value)
        if algorithm.alpha == 0:
            np.testing.assert_allclose(value, true, atol=2e-4)
        else:
            assert (value < true - 1e-4).all()
    assert (np.diff(values, axis=0) < 0).all()


# divergence --------------------------------------------------------------------------------------------------------------------


def test_a_diverging_run_is_stopped_and_named_and_its_neighbours_go_on():
    """A discount of 2 has no fixed point: values double until the guard sees them. A step that is too large breaks at once."""
    log = even_log(mild(random_mdp(5, 2, seed=1)), times=2)
    how = dict(TABLE, target_rate=1.0, steps=600)
    sane = ts.DQN(discount=0.5, lr=0.02, **how)
    runs = [sane, ts.DQN(discount=2.0, lr=1.0, **how), ts.DQN(discount=0.5, lr=1e30, **how)]
    data = whole(log)
    metrics = []
    out = train([(a, 0) for a in runs], data, every=200, ceiling=100.0, listeners=[lambda now, m: metrics.append(m)])
    alone = train([(sane, 0)], data, every=200, ceiling=100.0)
    assert out.faults[0] is None and np.asarray(out.alive).tolist() == [True, False, False]
    for x, y in zip(jax.tree.leaves(out.states), jax.tree.leaves(alone.states)):
        np.testing.assert_array_equal(x[0], y[0])
        assert np.isfinite(np.asarray(x)).all()  # what broke is given back the state that it had
    slow, fast = out.faults[1:]
    assert slow.quantity.startswith("critic/") and slow.stage == "learn" and 20 < slow.step < 600
    assert fast.step < 3 and "critic" in fast.quantity
    assert f"{slow.quantity} stopped being a finite number" in str(slow)
    assert np.isfinite(metrics[-1]["critic/loss"][0])
