"""What is fitted for evaluation: behaviours, values and worlds, each against the truth of a world small enough to know."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from topstitch import nets, ope, ops
from topstitch.algos.classic.dr_policy_gradient import DRPolicyGradient
from topstitch.algos.classic.is_policy_gradient import ISPolicyGradient
from topstitch.core import Box, Discrete, Markov, Policy, Spec
from topstitch.data import BadData, Episodes
from topstitch.data.trajectories import trajectories
from topstitch.ope import behaviour
from topstitch.ope.behaviour import fit_behaviour
from topstitch.ope.crossfit import Crossfitted
from topstitch.ope.fqe import FQE, fqe, lstdq, tree_fqe
from topstitch.ope.model import World, learned_worlds, rolled_out, tabular
from topstitch.ope.table import Refused, log_probs
from topstitch.testing import tiny
from topstitch.worlds import MDP, empirical, random_mdp, sample

DISCOUNT = 0.7
LIVE = 4


@pytest.fixture(scope="module")
def covered():
    """A log in which everything was tried in every state but the end, some episodes cut off; a policy; its exact values in that log's world."""
    mdp = random_mdp(5, 3, ending=0.1, seed=4)
    log = sample(mdp, mdp.uniform(), 150, horizon=8, key=jax.random.key(0))
    said = empirical(log)
    assert (said.counts[:LIVE] > 0).all() and log.truncated.any() and log.terminal.any()
    rows = np.random.default_rng(1).dirichlet(np.ones(3), size=5)
    truth = said.mdp.value(np.concatenate([rows, np.full((1, 3), 1 / 3)]), DISCOUNT)
    return log, nets.TablePolicy(jnp.asarray(rows, jnp.float32)), rows, truth


# values ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fit", "atol"),
    [
        (lambda pi, log: lstdq(pi, log, discount=DISCOUNT), 1e-6),
        (lambda pi, log: tabular(pi, log, discount=DISCOUNT).belief, 1e-6),
        (lambda pi, log: tree_fqe(pi, log, discount=DISCOUNT, trees=1, min_leaf=1, iterations=45), 2e-6),
        (lambda pi, log: fqe(pi, log, algorithm=FQE(discount=DISCOUNT, hidden=(), critics=2, lr=0.02, target_rate=0.05, steps=2000, bootstrap=False)), 0.04),
    ],
    ids=["lstdq", "tabular", "trees", "nets"],
)  # fmt: skip
def test_fitted_values_are_those_of_the_empirical_world(covered, fit, atol):
    log, policy, _, truth = covered
    belief = fit(policy, log)
    np.testing.assert_allclose(np.asarray(belief.every(np.arange(LIVE)))[0], truth.q[:LIVE], atol=atol)
    start = truth.v[log.obs[log.starts]].mean()
    assert belief.estimate(log)[0] == pytest.approx(start, abs=atol / 2) and abs(start) > 0.5
    values, last = belief.values(log), log.stops - 1
    np.testing.assert_allclose(values.q, truth.q[log.obs, log.action], atol=atol)
    np.testing.assert_allclose(values.v, truth.v[log.obs], atol=atol)
    np.testing.assert_allclose(values.behind, np.where(log.terminal[last], 0, truth.v[log.next_obs[last]]), atol=atol)
    assert (values.behind[log.truncated[last]] != 0).all() and log.truncated[last].any()


def test_what_the_best_action_promises(covered):
    """In place of the policy's mean, and behind a cut too; both from one fit a fold, which is the answer of a call."""
    log, policy, _, _ = covered
    belief = lstdq(policy, log, discount=DISCOUNT)
    q, last = belief.every(np.arange(5))[0], log.stops - 1
    found = belief.greedy(log)
    np.testing.assert_allclose(found.v, q.max(axis=1)[log.obs])
    np.testing.assert_allclose(found.behind, np.where(log.terminal[last], 0, q.max(axis=1)[log.next_obs[last]]))
    mask = (np.arange(3) != q.argmax(axis=1)[:, None])[log.obs] | np.eye(3, dtype=bool)[log.action]
    legal = dataclasses.replace(log, mask=mask, next_mask=np.ones_like(mask))
    np.testing.assert_allclose(belief.greedy(legal).v, np.where(mask, q[log.obs], -np.inf).max(axis=1))
    fits = []
    learned = Crossfitted(lambda policy, part: fits.append(len(part)) or lstdq(policy, part, discount=DISCOUNT), folds=3)
    both = learned.several(policy, log, lambda found, part: (found.values(part), found.greedy(part)))
    assert len(fits) == 3 and (both[1].v >= both[0].v - 1e-9).all()
    for a, b in zip(dataclasses.astuple(learned(policy, log)), dataclasses.astuple(both[0])):
        np.testing.assert_array_equal(a, b)


def test_slow_copies_are_fast_enough_for_the_steps_there_are(covered):
    """With the authors' rate, made for a million steps, a thousand say next to nothing."""
    log, policy, _, truth = covered
    how = dict(hidden=(), critics=2, lr=0.02, steps=800, bootstrap=False)
    off = lambda algorithm: abs(fqe(policy, log, algorithm=algorithm).estimate(log).mean() - truth.v[log.obs[log.starts]].mean())
    assert off(FQE.settled(log, DISCOUNT, **how)) < 0.04 < 0.2 < off(FQE(discount=DISCOUNT, **how | dict(steps=200)))
    ended = log.take(np.flatnonzero(log.terminal[log.stops - 1]))
    assert FQE.settled(ended, 1.0, steps=1000).target_rate == pytest.approx(5 * ended.lengths.max() / 1000)
    assert FQE.settled(log, 0.99, steps=1000).target_rate == pytest.approx(0.5) and FQE.settled(log, 0.99, steps=10).target_rate == 1
    assert FQE.settled(ended, 0.99, steps=1_000_000).target_rate == 0.005
    assert FQE.settled(log, 0.9).hidden == (64, 64) and FQE.settled(rows_of(5), 0.9).hidden == (256, 256)  # numbered states; vectors


def test_members_scatter_as_bootstraps_of_episodes_do(covered):
    log, policy, rows, _ = covered
    how = dict(discount=DISCOUNT, hidden=(), critics=12, lr=0.02, target_rate=0.05, steps=1500)
    found = fqe(policy, log, algorithm=FQE(**how)).estimate(log).std()
    rng = np.random.default_rng(0)
    full = np.concatenate([rows, np.full((1, 3), 1 / 3)])
    worlds = [empirical(log.take(np.sort(rng.integers(len(log), size=len(log))))).mdp.value(full, DISCOUNT).v for _ in range(40)]
    wanted = np.std([v[log.obs[log.starts]].mean() for v in worlds])
    assert wanted / 2 < found < 2 * wanted


def rows_of(n: int):
    """Episodes of one step, which earns s + 2 a; raw actions lie in [-2, 4]."""
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(n, 1)), rng.uniform(-2, 4, size=n)
    return Episodes.of(obs, action, obs[:, 0] + 2 * action, np.ones(n, bool), low=-2.0, high=4.0)


class Fixed(Markov):
    """Always does the same."""

    action: jax.Array

    def __call__(self, obs, mask=None):
        return nets.Delta(jnp.broadcast_to(self.action, (*obs.shape[:-1], 1)))


def test_continuous_actions_are_judged_in_raw_rewards_and_seen_in_unit_scale():
    log = rows_of(400)
    policy = log.policy(Fixed(jnp.float32(0.5)))  # half way up in [-2, 4]: 2.5
    for belief, atol in (
        (lstdq(policy, log, discount=0.5, degree=1), 1e-4),
        (fqe(policy, log, algorithm=FQE(discount=0.5, hidden=(), critics=2, lr=0.05, steps=800, target_rate=0.05)), 0.1),
    ):
        values = belief.values(log)
        np.testing.assert_allclose(values.q, log.reward, atol=atol)
        np.testing.assert_allclose(values.v, log.obs[:, 0] + 5, atol=atol)
        assert (values.behind == 0).all() and (np.abs(belief.mean(log.next_obs)) > 1).any()  # all episodes truly end
    forest = tree_fqe(policy, log, discount=0.5, trees=5, min_leaf=3, iterations=1)
    assert np.corrcoef(forest.values(log).v, log.obs[:, 0] + 5)[0, 1] > 0.9


class Remembers(Policy):
    def act(self, carry, obs, reward, *, mask=None, key=None):
        return jnp.zeros((), jnp.int32), carry


def test_what_cannot_be_judged_is_refused(covered):
    log, policy, _, _ = covered
    with pytest.raises(Refused, match="remembers"):
        lstdq(Remembers(), log, discount=0.9)
    with pytest.raises(Refused, match="numbered states"):
        tabular(policy, tiny(Discrete), discount=0.9)
    never = nets.TablePolicy(jnp.asarray(np.eye(3)[[2] * 5], jnp.float32))
    thin = Episodes.of(
        *(x[log.action != 2] for x in (log.obs, log.action, log.reward)), np.ones((log.action != 2).sum(), bool), states=5, actions=3
    )
    with pytest.raises(Refused, match=r"100\.0% of the policy's decisions"):
        tabular(never, thin, discount=0.9)
    assert tabular(never, thin, discount=0.9, most_left_out=1.0).left_out == pytest.approx(1)
    with pytest.raises(TypeError, match="a log alone is not enough"):
        FQE().prepare(log)


# learned worlds ----------------------------------------------------------------------------------------------------------------


def test_a_learned_world_is_worth_what_the_true_one_is():
    """s' = s / 2 + a, reward s, start 1 or so, a = 0.1 always: linear, so the value is a sum."""
    rng, n, horizon = np.random.default_rng(0), 150, 4
    obs, action, after = np.zeros((n, horizon, 1)), rng.uniform(-0.5, 0.5, (n, horizon)), np.zeros((n, horizon, 1))
    state = 1 + 0.2 * rng.normal(size=n)
    for t in range(horizon):
        obs[:, t, 0] = state
        state = 0.5 * state + action[:, t]
        after[:, t, 0] = state
    ends = np.tile(np.arange(horizon) == horizon - 1, n)
    columns = obs.reshape(-1, 1), action.ravel(), obs.ravel(), np.zeros(n * horizon, bool)
    log = Episodes.of(*columns, ends=ends, next_obs=after.reshape(-1, 1), low=-1.0, high=1.0)
    want, s = 0.0, obs[:, 0, 0].mean()
    for t in range(horizon):
        want, s = want + 0.9**t * s, 0.5 * s + 0.1
    small = World(hidden=(16,), models=2, elites=2, steps=700, lr=1e-2, batch_size=64, held_out=60, patience=50)
    policy = Fixed(jnp.float32(0.1))
    worlds = learned_worlds(log, small)
    out = rolled_out(policy, worlds, discount=0.9, rollouts=150)
    assert out.horizon == horizon and out.returns.shape == (2, 150)
    np.testing.assert_allclose(out.estimates, want, atol=0.08)
    first = rolled_out(policy, worlds, discount=0.9, horizon=1, rollouts=150)
    np.testing.assert_allclose(first.estimates, obs[:, 0, 0].mean(), atol=0.05)
    (said,) = ope.estimate(policy, log, "rollouts", discount=0.9, values={"rollouts": lambda: worlds})
    assert said.value == pytest.approx(out.estimates.mean()) and said.low < said.value < said.high
    assert said.diagnostics["worlds"] == pytest.approx(out.estimates.tolist())
    (said,) = ope.estimate(Remembers(), log, "rollouts", discount=0.9, values={"rollouts": lambda: worlds})
    assert "remembers" in said.refused and np.isnan(said.value)


# behaviours --------------------------------------------------------------------------------------------------------------------


def practice(n: int = 1500, *, masks: bool = False):
    """A log of vectors and four actions in episodes of six steps, and the probabilities that made it."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(n, 2)) * [1, 5] + [0, 2]
    z = (obs - [0, 2]) / [1, 5]
    logits = np.stack([z[:, 0], z[:, 1], 0 * z[:, 0], -z[:, 0] - 1], axis=1)
    mask = rng.random((n, 4)) < 0.6
    mask[:, 2] = True
    p = np.exp(logits) * (mask if masks else 1)
    p /= p.sum(axis=1, keepdims=True)
    action = (rng.random((n, 1)) > p.cumsum(axis=1)[:, :3]).sum(axis=1)
    ends = np.arange(n) % 6 == 5
    return Episodes.of(obs, action, np.zeros(n), ends, actions=4, mask=mask if masks else None, next_mask=mask if masks else None), p


@pytest.mark.parametrize(("kind", "error"), [("categorical", 0.03), ("neighbours", 0.06), ("trees", 0.065)])
def test_probabilities_are_those_of_a_known_logger(kind, error):
    log, p = practice()
    found = fit_behaviour(log, kind)
    np.testing.assert_allclose(found.probs.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(found.log_prob, np.log(found.probs[np.arange(log.steps), log.action]))
    assert found.calibration().error < 0.02
    assert np.abs(found.probs - p).mean() < error
    assert found.score > -np.log(4) + 0.05


def test_masks_are_respected_and_learned_with():
    log, p = practice(masks=True)
    found = fit_behaviour(log, "categorical")
    assert (found.probs[~log.mask] == 0).all() and np.abs(found.probs - p).mean() < 0.03
    np.testing.assert_allclose(found.probs.sum(axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("calibrate", ["temperature", "isotonic"])
def test_an_episode_is_judged_by_models_that_never_saw_it(calibrate):
    """Every episode has a state of its own in which it always does the same, at random: only memory could foresee its actions."""
    rng = np.random.default_rng(0)
    state, action = np.repeat(np.arange(60), 5), np.repeat(rng.integers(2, size=60), 5)
    log = Episodes.of(state, action, np.zeros(300), np.arange(300) % 5 == 4, states=60, actions=2)
    found = fit_behaviour(log, "counts", calibrate=calibrate)
    assert np.exp(found.log_prob).max() < 0.7 and found.score < -0.6
    assert found.whole.ask(log).log_prob(log.action).mean() > -0.3  # the model of all episodes does remember


def test_calibration_corrects_what_is_too_sure():
    """Trees that are asked about few rows say too much."""
    log, _ = practice(300)
    plain, warm, steps = (fit_behaviour(log, "trees", folds=3, calibrate=how) for how in ("none", "temperature", "isotonic"))
    assert warm.correction.temperature > 1.1 and warm.score > plain.score + 0.01 and steps.score > plain.score
    assert warm.calibration().error < plain.calibration().error


def test_the_shipped_stays_are_read_as_they_were_made():
    """20,000 stays; a quarter of them here. What the clinicians' table says stands in the log."""
    from topstitch.bench.icu_sepsis import log as stays

    log = stays().take(np.arange(5000))
    found = fit_behaviour(log)
    assert found.kind == "counts" and found.calibration().error < 0.01
    away = found.log_prob - log.log_prob
    assert -0.15 < away.mean() < 0 and np.sqrt((away**2).mean()) < 0.5
    known = np.corrcoef(np.exp(found.log_prob), np.exp(log.log_prob))[0, 1]
    assert known > 0.9


def box_practice(n: int = 1200, *, clipped: bool = True):
    """Two-dimensional actions, normal given the observation, clipped at the bounds [-2, 4] and [-2, 2]; and their log-probabilities."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(n, 2))
    mean = np.stack([0.4 * obs[:, 0], 0.1 - 0.2 * obs[:, 1]], axis=1)
    std = np.exp(np.stack([-1.2 + 0.3 * obs[:, 1], np.full(n, -2.0)], axis=1)) * (1 if clipped else 0.3)
    unit = np.clip(mean + std * rng.normal(size=(n, 2)), -1, 1)
    inner = norm.logpdf(unit, mean, std) - np.log([3, 2])
    part = np.where(unit >= 1, norm.logsf(1, mean, std), np.where(unit <= -1, norm.logcdf(-1, mean, std), inner))
    log = Episodes.of(obs, unit * [3, 2] + [1, 0], np.zeros(n), np.arange(n) % 6 == 5, low=[-2, -2], high=[4, 2])
    return log, part.sum(axis=1)


def test_densities_are_per_raw_unit_and_bounds_have_probabilities():
    log, want = box_practice()
    assert (np.abs(log.view.action.host(log.action)) >= 1).any()
    found = fit_behaviour(log, "gaussian")
    assert abs(found.score - want.mean()) < 0.05 and np.sqrt(((found.log_prob - want) ** 2).mean()) < 0.15
    assert found.calibration().error < 0.02


@pytest.mark.parametrize("kind", ["gaussian", "mixture", "neighbours", "trees"])
def test_densities_integrate_to_one(kind):
    log, _ = box_practice(600, clipped=False)
    found = fit_behaviour(log, kind, folds=2)
    assert found.calibration().error < 0.05
    x, y = np.linspace(-1.99, 3.99, 120), np.linspace(-1.99, 1.99, 120)
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    there = Episodes.of(
        np.tile(log.obs[:1], (len(grid), 1)), grid, np.zeros(len(grid)), np.ones(len(grid), bool), low=[-2, -2], high=[4, 2]
    )
    density = np.exp(found.of(there).log_prob)
    assert density.sum() * (x[1] - x[0]) * (y[1] - y[0]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("kind", "log"), [("categorical", practice(300)[0]), ("gaussian", box_practice(300)[0]), ("counts", None)])
def test_a_copy_of_practice_acts_as_was_found(kind, log):
    log = sample(mdp := random_mdp(5, 3, ending=0.1, seed=4), mdp.uniform(), 40, horizon=8, key=jax.random.key(0)) if log is None else log
    found = fit_behaviour(log, kind)
    np.testing.assert_allclose(log_probs(found.policy(), log), found.of(log).log_prob, atol=2e-5)
    np.testing.assert_allclose(found.attached().log_prob, found.log_prob, atol=1e-5)


def test_what_cannot_be_estimated_is_refused():
    log, _ = practice(60)
    with pytest.raises(Refused, match="only 1 episode"):
        fit_behaviour(log.take([0]))
    with pytest.raises(Refused, match="no behaviour of kind 'counts'"):
        fit_behaviour(log, "counts")
    with pytest.raises(Refused, match="looks deterministic"):
        fit_behaviour(Episodes.of(log.obs, np.clip(log.obs[:, 0] / 10, -1, 1), log.reward, log.terminal, low=-1, high=1), "gaussian")
    with pytest.raises(Refused, match="lie on a bound"):
        fit_behaviour(Episodes.of(log.obs, np.sign(log.obs[:, 0]), log.reward, log.terminal, low=-1, high=1), "mixture")
    with pytest.raises(Refused, match="logged rows only"):
        fit_behaviour(log, "neighbours").policy()


def test_a_kind_that_does_not_fit_is_left_out_and_a_rule_is_not():
    """A valve is shut nine times in ten, which is a bound: trees are then sure beyond measure, and a Gaussian that is clipped is not."""
    rng, n = np.random.default_rng(0), 3000
    obs = rng.uniform(-1, 1, (n, 2))
    valve = np.where(obs[:, 0] > 0.8, 0.5 * obs[:, 0] + 0.1 * rng.normal(size=n), -1)
    heat = 0.3 * obs[:, 1] + 0.1 * rng.normal(size=n)
    logged = lambda *action: Episodes.of(obs, np.clip(np.stack(action, axis=1), -1, 1), np.zeros(n), np.arange(n) % 10 == 9, low=-1, high=1)
    log = logged(valve, heat)
    with pytest.raises(Refused, match="'trees' is sure of actions to within"):
        fit_behaviour(log, "trees")
    found = fit_behaviour(log)
    assert found.kind == "gaussian" and len(found.notes) == 1 and "'trees' are left out" in found.notes[0]
    assert fit_behaviour(logged(heat, heat + 0.1 * rng.normal(size=n))).notes == ()
    with pytest.raises(Refused, match="looks deterministic"):  # a line, which trees do not see
        fit_behaviour(logged(0.5 * obs[:, 0], 0.2 - 0.3 * obs[:, 1]))


def test_where_every_kind_is_refused_all_the_reasons_are_given(monkeypatch):
    log, _ = practice(60)
    log = Episodes.of(log.obs, np.sign(log.obs[:, 0]), log.reward, log.terminal, low=-1, high=1)
    monkeypatch.setattr(behaviour, "candidates", lambda log: ("mixture", "counts"))
    with pytest.raises(Refused, match=r"lie on a bound.*no behaviour of kind 'counts'"):
        fit_behaviour(log)


# learning from importance weights ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def enumerated():
    """A world of three states and two actions, every episode of it of three steps at most, their probabilities under a logger, and a policy."""
    rng = np.random.default_rng(0)
    transition, reward = rng.dirichlet(np.ones(3), size=(3, 2)), rng.normal(size=(3, 2))
    transition[2] = [0, 0, 1]
    mdp = MDP(transition, reward, [0.7, 0.3, 0], [False, False, True])
    p, logger = np.asarray(mdp.transition, np.float64), rng.dirichlet(np.ones(2), size=3)
    ways = []

    def go(state, steps, chance):
        if len(steps) == 3 or (steps and state == 2):
            ways.append((steps, chance))
            return
        for a, z in itertools.product(range(2), range(3)):
            if p[state, a, z] > 0:
                go(z, [*steps, (state, a, reward[state, a], z)], chance * logger[state, a] * p[state, a, z])

    go(0, [], 0.7)
    go(1, [], 0.3)
    flat = [step for steps, _ in ways for step in steps]
    state, action, earned, after = (np.array(column) for column in zip(*flat))
    ends = np.concatenate([np.arange(len(steps)) == len(steps) - 1 for steps, _ in ways])
    how = dict(ends=ends, next_obs=after, states=3, actions=2, log_prob=np.log(logger[state, action]))
    log = Episodes.of(state, action, earned, after == 2, **how)
    return trajectories(log).take(jnp.arange(len(ways))), np.array([chance for _, chance in ways]), (p, reward, logger)


def exact(world, discount, behind=0.0):
    """logits -> the value of three steps, `behind` what a state is worth after them."""
    p, reward, _ = world

    def value(logits):
        pi, v = jax.nn.softmax(logits), jnp.zeros(3) + behind
        for _ in range(3):
            v = (pi * (jnp.asarray(reward) + discount * jnp.einsum("saz,z->sa", jnp.asarray(p), v))).sum(axis=1).at[2].set(0)
        return 0.7 * v[0] + 0.3 * v[1]

    return value


def head(logits):
    """The table of logits as a net of this package."""
    made = nets.Categories(Spec(Discrete(3), Discrete(2)), (), key=jax.random.key(0))
    return eqx.tree_at(lambda m: (m.net.layers[0].weight, m.net.layers[0].bias), made, (logits, jnp.zeros(2)))


LOGITS = jnp.array([[0.3, -0.4], [-1.0, 0.2], [0.0, 0.0]])


@pytest.mark.parametrize("weights", ["per_decision", "trajectory"])
def test_the_weighted_gradient_is_that_of_the_value(enumerated, weights):
    batch, chance, world = enumerated
    algorithm = ISPolicyGradient(weights=weights, discount=0.8, max_weight=1e6)
    baseline = lambda obs: jnp.array([0.7, -1.3, 5.0])[obs]  # any
    slope = jax.jit(jax.grad(lambda x, algorithm: (chance * algorithm.surrogate(head(x), baseline, batch)).sum()))
    gradient = slope(LOGITS, algorithm)
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(exact(world, 0.8)))(LOGITS), atol=1e-5)
    assert np.abs(gradient).max() > 0.05
    assert np.abs(slope(LOGITS, dataclasses.replace(algorithm, max_weight=0.5)) - gradient).max() > 0.01


@pytest.mark.parametrize("weights", ["per_decision", "trajectory"])
def test_on_its_own_episodes_it_is_reinforce(enumerated, weights):
    batch, _, _ = enumerated
    pi = head(LOGITS)
    own = dataclasses.replace(batch, log_prob=batch.live * pi(batch.rows.obs).log_prob(batch.rows.action))
    algorithm, baseline = ISPolicyGradient(weights=weights, discount=0.8), lambda obs: jnp.array([0.7, -1.3, 5.0])[obs]

    def reinforce(x):
        pi, time = head(x), jnp.arange(3)
        log_prob = pi(batch.rows.obs).log_prob(batch.rows.action)
        earned = jnp.stack([(0.8 ** (time[t:] - t)[None] * (batch.live * batch.rows.reward)[:, t:]).sum(axis=1) for t in range(3)], axis=1)
        return (batch.live * 0.8 ** time[None] * (earned - baseline(batch.rows.obs)) * log_prob).sum(axis=1)

    a, b = (jax.jit(jax.jacobian(f))(LOGITS) for f in (lambda x: algorithm.surrogate(head(x), baseline, own), reinforce))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_doubly_robust_gradient_is_unbiased_for_any_q(enumerated):
    batch, chance, world = enumerated
    guess = nets.critics(Spec(Discrete(3), Discrete(2)), (), 1, key=jax.random.key(3))
    table = np.asarray(guess.every(jnp.arange(3))[0], np.float64)
    algorithm, key = DRPolicyGradient(discount=0.8, max_weight=1e6), jax.random.key(0)
    of = lambda q: lambda x: (chance * algorithm.surrogate(head(x), q, batch, key=key)[0]).sum()
    value = lambda x: exact(world, 0.8, (jax.nn.softmax(x) * table).sum(axis=1).at[2].set(0))(x)  # what is cut off ends in the guess
    np.testing.assert_allclose(*(jax.jit(jax.grad(f))(LOGITS) for f in (of(guess), value)), atol=1e-5)
    estimate = jax.jit(lambda x: (chance * algorithm.surrogate(head(x), guess, batch, key=key)[1]).sum())(LOGITS)
    assert estimate == pytest.approx(float(jax.jit(value)(LOGITS)), abs=1e-5)
    nothing = jax.tree.map(jnp.zeros_like, guess)
    plain = ISPolicyGradient(discount=0.8, max_weight=1e6)
    alone = lambda x: plain.surrogate(head(x), lambda obs: jnp.zeros(obs.shape), batch)
    both = lambda x: algorithm.surrogate(head(x), nothing, batch, key=key)[0]
    np.testing.assert_allclose(*(jax.jit(jax.jacobian(f))(LOGITS) for f in (both, alone)), atol=1e-6)


def test_weights_need_probabilities_in_unit_scale():
    log = tiny(Box)
    data = trajectories(log)
    np.testing.assert_allclose(data.log_prob, np.log(9 / 4), atol=1e-5)  # uniform over [-1, 1]² of raw units, of which 3 make one
    with pytest.raises(BadData, match="fit_behaviour"):
        trajectories(dataclasses.replace(log, log_prob=None))


def test_ratios_are_products_and_sums_go_on():
    log_ratio = jnp.log(jnp.array([[2.0, 0.5, 4.0]]))
    np.testing.assert_allclose(ops.clipped_ratios(log_ratio, 3.0), [[2, 1, 3]], rtol=1e-6)
    np.testing.assert_allclose(ops.to_go(jnp.array([[1.0, 2.0, 4.0]]), 0.5), [[3, 4, 4]])
