"""From policies and a log to estimates, and everything that is refused on the way."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from topstitch import nets, ope
from topstitch.core import Box, Discrete, Policy, Spec
from topstitch.data import Episodes
from topstitch.nets.tables import TablePolicy
from topstitch.ope import table as tables
from topstitch.ope.diagnostics import diagnostics, pareto_k, refusals, warnings
from topstitch.ope.estimate import ESTIMATORS, LEARNED, MARGINAL, VALUED, named
from topstitch.ope.table import Refused, Values, log_probs, of, probabilities, table
from topstitch.worlds import MDP, random_mdp, sample

GAMMA = 0.9
WORLD = random_mdp(5, 3, ending=0.3, seed=1)
RNG = np.random.default_rng(0)
LOGGER = WORLD.checked(RNG.dirichlet(3 * np.ones(3), WORLD.states))
TARGET = WORLD.checked((LOGGER + RNG.dirichlet(np.ones(3), WORLD.states)) / 2)
POLICY = TablePolicy(jnp.asarray(TARGET, jnp.float32))


@pytest.fixture(scope="module")
def log() -> Episodes:
    return sample(WORLD, LOGGER, 3000, horizon=60, key=jax.random.key(0))


def exact(policy, log: Episodes) -> Values:
    """What the world says of a policy."""
    v, q = WORLD.value(np.asarray(policy.probabilities), GAMMA)
    last = log.stops - 1
    return Values(q[log.obs, log.action], v[log.obs], np.where(log.terminal[last], 0, v[log.next_obs[last]]))


def gaussian_log(n=40, seed=0, size=2) -> Episodes:
    """Episodes of four steps whose actions lie in [-2, 4], some on a bound; the log's own units differ from [-1, 1]."""
    rng = np.random.default_rng(seed)
    action = np.clip(rng.normal(1, 2, (n, size)), -2, 4)
    ends = np.arange(n) % 4 == 3
    return Episodes.of(rng.normal(size=(n, 3)), action, rng.normal(size=n), ends, ends=ends, low=-2.0, high=4.0, log_prob=np.full(n, -3.0))


# the table ------------------------------------------------------------------------------------------------------------------


def test_a_table_holds_what_the_log_and_the_policy_say(log, monkeypatch):
    made = table(POLICY, log, discount=GAMMA, values=exact(POLICY, log))
    np.testing.assert_array_equal(made.live.sum(axis=1), log.lengths)
    np.testing.assert_array_equal(made.reward[made.live], log.reward)
    np.testing.assert_allclose(made.target[made.live], np.log(TARGET[log.obs, log.action]), atol=1e-5)
    np.testing.assert_allclose(made.behaviour[made.live], np.log(LOGGER[log.obs, log.action]), atol=1e-5)
    np.testing.assert_allclose(made.ratios()[5, log.lengths[5] :], made.ratios()[5, log.lengths[5] - 1])
    np.testing.assert_array_equal(made.truncated, ~log.terminal[log.stops - 1])
    np.testing.assert_allclose(probabilities(POLICY, log), TARGET[log.obs], atol=1e-6)
    assert all(x.dtype in (np.float64, bool) for x in made[:8])
    monkeypatch.setattr(tables, "BLOCK", 1000)  # asked in parts
    np.testing.assert_allclose(table(POLICY, log, discount=GAMMA).target, made.target, rtol=1e-6)


def test_masks_are_respected():
    mask = np.ones((5, 3), bool)
    mask[:, 2] = False
    world = MDP(WORLD.transition[:5, :, :5] / np.asarray(WORLD.transition[:5, :, :5]).sum(axis=-1, keepdims=True), np.ones((5, 3)),
                np.full(5, 0.2), np.zeros(5, bool), mask)  # fmt: skip
    log = sample(world, world.uniform(), 20, horizon=5, key=jax.random.key(0))
    p = probabilities(POLICY, log)
    assert (p[:, 2] == 0).all() and np.allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(log_probs(POLICY, log), np.log(p[np.arange(log.steps), log.action]), atol=1e-5)


def test_densities_are_per_raw_unit_and_bounds_have_their_mass():
    log = gaussian_log()
    policy = log.policy(nets.BoxGaussian(log.spec, (4,), key=jax.random.key(1)))
    said = policy.inner(jnp.asarray(log.obs))
    mean, std = 1 + 3 * np.asarray(said.mean, np.float64), 3 * np.exp(np.asarray(said.log_std, np.float64))
    a = np.asarray(log.action, np.float64)
    assert (a == 4).any() and (a == -2).any()
    part = scipy.stats.norm.logpdf(a, mean, std)
    part = np.where(a >= 4, scipy.stats.norm.logsf(4, mean, std), part)
    part = np.where(a <= -2, scipy.stats.norm.logcdf(-2, mean, std), part)
    np.testing.assert_allclose(log_probs(policy, log), part.sum(axis=1), rtol=1e-4, atol=1e-4)


def test_tables_from_probabilities_take_the_logged_action():
    p, mu = np.array([[0.1, 0.9], [0.5, 0.5]]), np.array([[0.4, 0.6], [0.2, 0.8]])
    made = of(np.ones(2), p, mu, action=np.array([1, 0]))
    np.testing.assert_allclose(made.ratios()[:, 0], [1.5, 2.5])


# refusals -------------------------------------------------------------------------------------------------------------------


class Remembers(Policy):
    """Has a memory."""

    def act(self, carry, obs, reward, *, mask=None, key=None):
        return jnp.zeros((), jnp.int32), carry


def refused(why: str, call, *args, **kwargs):
    with pytest.raises(Refused, match=why):
        call(*args, **kwargs)


def test_policies_without_a_density_are_refused(log):
    box = gaussian_log()
    deterministic = nets.Deterministic(box.spec, (4,), key=jax.random.key(0))
    refused("Deterministic has no density", table, deterministic, box, discount=GAMMA)
    refused("Deterministic has no density", table, box.policy(deterministic), box, discount=GAMMA)
    flow = nets.OneStep(box.spec, (4,), key=jax.random.key(0))
    refused("known by draws only", table, flow, box, discount=GAMMA)
    refused("Remembers has memory", table, Remembers(), log, discount=GAMMA)
    refused("was learned for", table, box.policy(deterministic), log, discount=GAMMA)
    squashed = nets.Squashed(box.spec, (4,), key=jax.random.key(0))
    refused("lie on a bound", table, box.policy(squashed), box, discount=GAMMA)


@pytest.mark.parametrize(("bad", "why"), [(np.nan, "not a number"), (np.inf, "infinite"), (-np.inf, "zero, though"), (0.5, "at most 1")])
def test_propensities_that_are_none_are_refused_by_row(log, bad, why):
    wrong = np.array(log.log_prob, np.float64)
    wrong[17] = bad
    refused(f"row 17 .*{why}", table, POLICY, log, discount=GAMMA, behaviour=wrong)


def test_what_else_a_table_refuses(log):
    silent = dataclasses.replace(log, log_prob=None)
    refused("does not say with which probability", table, POLICY, silent, discount=GAMMA)
    refused(r"expected \(\d+,\)", table, POLICY, log, discount=GAMMA, behaviour=np.zeros(3))
    refused("reward in row 1 is nan", of, np.array([1.0, np.nan]), np.ones(2), np.ones(2))
    refused("propensity in row 1 is zero", of, np.ones(2), np.ones(2), np.array([0.5, 0.0]))
    refused("behaviour in row 0 is inf", of, np.ones(2), np.ones(2), np.array([np.inf, 0.5]))
    refused("target in row 0 is -1", of, np.ones(2), np.array([-1.0, 1.0]), np.ones(2))
    never = np.log(np.full((log.steps, 3), 0.5))
    never[:, 2] = -np.inf
    kept = log.action != 2
    refused("acts where the logger never does: in 100.0% .* action 2", of, log.reward[kept], TARGET[log.obs[kept]], np.exp(never[kept]), action=log.action[kept])  # fmt: skip
    broken = jax.tree.map(lambda x: x * jnp.nan, nets.Categories(log.spec, (4,), key=jax.random.key(0)))
    refused("log-probability of the logged action is nan", table, broken, log, discount=GAMMA)
    values = exact(POLICY, log)
    refused("v is nan in row 3", table, POLICY, log, discount=GAMMA, values=values.__class__(values.q, np.where(np.arange(log.steps) == 3, np.nan, values.v), values.behind))  # fmt: skip
    refused("q has shape", table, POLICY, log, discount=GAMMA, values=Values(values.q[:5], values.v, values.behind))
    with pytest.raises(ValueError, match=r"discount is 1\.5"):
        table(POLICY, log, discount=1.5)


def test_a_table_that_would_be_nearly_empty_is_refused():
    ends = np.ones(60_000, bool)
    ends[-5001:-1] = False
    refused("nearly empty", of, np.zeros(60_000), np.ones(60_000), np.ones(60_000), ends=ends)


def test_weights_that_mean_nothing_are_refused():
    rng = np.random.default_rng(0)
    n = 2000
    two = of(np.ones(1), np.ones(1), np.ones(1))
    assert refusals(two) and "only one episode" in refusals(two)[0]
    certain = of(rng.normal(size=n), rng.choice([0.2, 1.0], n), np.ones(n))
    assert "deterministic" in refusals(certain)[0]
    assert not refusals(of(rng.normal(size=n), np.ones(n), np.ones(n)))
    chosen = rng.choice(2, n, p=[0.5, 0.5])  # a third action has 30% of the policy, and nobody knows that it was never taken
    lacking = of(rng.normal(size=n), np.array([0.3, 0.4])[chosen], np.full(n, 0.5))
    assert "about 30% of what the policy does" in refusals(lacking)[0]
    assert "not those with which" in refusals(of(np.ones(n), np.full(n, 0.9), np.full(n, 0.5)))[0]
    # what single steps hardly show adds up over an episode: a policy that has learned from these very episodes
    many = of(np.ones(4 * n), np.full(4 * n, 0.515), np.full(4 * n, 0.5), ends=np.arange(4 * n) % 4 == 3)
    for per_decision in (False, True):
        assert "learned from these very episodes" in refusals(many, per_decision=per_decision)[0]
    few_percent = of(np.ones(4 * n), np.full(4 * n, 0.505), np.full(4 * n, 0.5), ends=np.arange(4 * n) % 4 == 3)
    assert not refusals(few_percent)
    slow = of(np.ones(4000), np.full(4000, 0.485), np.full(4000, 0.5), ends=np.arange(4000) % 20 == 19)  # 3% lost at each of 20 steps
    for per_decision, mean in ((False, "0.54"), (True, "0.74")):
        assert f"weights have the mean {mean}" in refusals(slow, per_decision=per_decision)[0]
    ends = np.arange(20 * 60) % 60 == 59
    far = of(np.ones(1200), rng.choice([0.2, 1.8], 1200) * 0.5, np.full(1200, 0.5), ends=ends)
    assert "effective sample" in refusals(far)[-1]
    assert "Use estimators" in refusals(far)[-1] and "Shorten the horizon, log more" in refusals(far, alone=True)[-1]
    huge = of(np.ones(4000), np.ones(4000), np.full(4000, 1e-200), ends=np.arange(4000) % 4 == 3)
    assert "overflow" in refusals(huge)[0]


def test_diagnostics_are_what_they_say():
    ratio = np.array([4.0, 1, 1, 1, 1, 0, 0, 0])
    seen = diagnostics(of(np.ones(8), ratio * 0.1, np.full(8, 0.1)))
    assert seen.effective == pytest.approx(64 / 20) and seen.largest == pytest.approx(0.5) and seen.mean == pytest.approx(1)
    assert seen.mean_error == pytest.approx(ratio.std(ddof=1) / np.sqrt(8)) and seen.step_mean == pytest.approx(1)
    assert seen.overlap == pytest.approx(5 / 8) and seen.effective_per_decision == pytest.approx(seen.effective)
    json.dumps(seen.plain())
    heavy = of(np.ones(4000), np.minimum(scipy.stats.pareto.rvs(1.1, size=4000, random_state=0), 1e8) * 1e-9, np.full(4000, 1e-9))
    assert "heavy tail" in " ".join(warnings(diagnostics(heavy))) and pareto_k(heavy.ratios()[:, -1]) > 0.7


# estimates ------------------------------------------------------------------------------------------------------------------


def test_three_lines(log):
    """Every estimator that fits the log is near the truth, says how it came to its interval, and prints."""
    slow, short = ("fqe", "forest"), ("ips", "snips", "switch", "shrunk", "subgaussian", "loggers")
    names = tuple(name for name in (*ESTIMATORS, *MARGINAL) if name not in (*slow, *short))
    found = ope.estimate({"mine": POLICY}, log, names, discount=GAMMA, values=exact, resamples=500)
    truth = float(WORLD.performance(TARGET, GAMMA))
    for row in found:
        assert row.refused is None, row
        assert row.low <= row.value <= row.high and abs(row.value - truth) < 1.5 * (row.high - row.low) + 0.02, (row, truth)
        assert row.policy == "mine" and row.interval == "bootstrap" and row.effective > 10
    assert abs(found.logged.value - float(WORLD.performance(LOGGER, GAMMA))) < 0.1
    text = str(found)
    assert "95% interval" in text and all(name in text for name in names) and "contradict" not in text
    kept = json.loads(found.to_json())
    assert [row["name"] for row in kept["estimates"]] == list(names)


def test_refusals_stand_in_the_row_that_asked(log, tmp_path):
    certain = nets.Greedy(nets.Table(jnp.asarray(RNG.normal(size=(WORLD.states, 3)), jnp.float32)))
    policies = [POLICY, certain, Remembers()]
    found = ope.estimate(policies, log, ["wis", "dr", "ips", "dm"], discount=GAMMA, values={"TablePolicy": exact(POLICY, log), "Greedy": exact(POLICY, log), "Remembers": None})  # fmt: skip
    rows = {(row.policy, row.name): row for row in found}
    assert rows["TablePolicy", "wis"].refused is None and rows["TablePolicy", "dm"].refused is None
    assert "one step" in rows["TablePolicy", "ips"].refused
    assert "has memory" in rows["Remembers", "wis"].refused and "remembers what it has seen" in rows["Remembers", "dm"].refused
    assert np.isnan(rows["Remembers", "dr"].value)
    found.to_json(tmp_path / "estimates.json")
    assert json.loads((tmp_path / "estimates.json").read_text())["estimates"][0]["policy"] == "TablePolicy"
    assert "refused" in str(found)
    few = ope.estimate(POLICY, log.take([0]), ["wis", "dm"], discount=GAMMA, values=lambda policy, log: exact(policy, log))
    assert all("only one episode" in row.refused for row in few) and "nan" not in str(few)
    silent = ope.estimate(POLICY, dataclasses.replace(log, log_prob=None), ["wis", "dm"], discount=GAMMA, values=exact(POLICY, log))
    assert "which probability" in silent[0].refused and silent[1].refused is None
    with pytest.raises(ValueError, match="no estimator 'magik'"):
        ope.estimate(POLICY, log, ["magik"], discount=GAMMA)


def test_values_may_differ_between_estimators_and_are_learned_once(log):
    asked = []

    def learn(policy, log):
        asked.append(policy)
        return exact(policy, log)

    low = Values(np.zeros(log.steps), np.zeros(log.steps), np.zeros(len(log)))
    dm, dr, wdr, model = ope.estimate(
        POLICY, log, ["dm", "dr", "wdr", "model"], discount=GAMMA, values={"dm": low, "dr": learn, "wdr": learn}
    )
    assert dm.value == 0 and dr.refused is None and wdr.refused is None and len(asked) == 1
    unsettled = [any("have not settled" in note for note in row.diagnostics["notes"]) for row in (dm, dr, model)]
    assert unsettled == [True, False, False]  # what the log earns is no part of those of dm
    for row in (dm, dr, wdr, model):
        assert "contradict one another" in row.diagnostics["notes"][-1] and "0 by dm" in row.diagnostics["notes"][-1]
    assert abs(model.value - float(WORLD.performance(TARGET, GAMMA))) < 0.2  # with values of its own


def test_values_say_where_they_are_guesses(log):
    """Of a policy that does 2 half of the time, where 2 is never logged."""
    never = log.take(np.flatnonzero([(log.action[a:b] != 2).all() for a, b in zip(log.starts, log.stops)]))
    never = dataclasses.replace(never, log_prob=np.full(never.steps, np.log(0.5), np.float32))
    policy = TablePolicy(jnp.asarray(np.tile([0.25, 0.25, 0.5], (WORLD.states, 1)), jnp.float32))
    dm, lstdq, wis = ope.estimate(policy, never, ["dm", "lstdq", "wis"], discount=GAMMA, values=exact)
    assert any(
        "about 50% of what the policy does, the logger never does there: its value is extrapolated" in x for x in dm.diagnostics["notes"]
    )
    assert any("its value is 0, as" in note for note in lstdq.diagnostics["notes"]) and "about 50%" in wis.refused


def test_a_policy_without_density_can_be_judged_by_values_alone():
    box = gaussian_log()
    policy = box.policy(nets.Deterministic(box.spec, (4,), key=jax.random.key(0)))
    values = Values(np.ones(box.steps), np.ones(box.steps), np.zeros(len(box)))
    wis, dm = ope.estimate(policy, box, ["wis", "dm"], discount=GAMMA, values=values)
    assert "no density" in wis.refused and dm.value == 1.0 and "rests on its values" in dm.diagnostics["notes"][0]
    refused("no density", table, policy, dataclasses.replace(box, log_prob=None), discount=GAMMA)  # and not that a logger should be fitted


def test_bandits_and_their_outcome_models():
    rng = np.random.default_rng(0)
    action, obs = rng.integers(3, size=1500), rng.normal(size=(1500, 2))
    log = Episodes.of(
        obs, action, action + 0.1 * rng.normal(size=1500), np.ones(1500, bool), actions=3, log_prob=np.full(1500, np.log(1 / 3))
    )
    policy = log.policy(nets.Categories(log.spec, (8,), key=jax.random.key(0)))
    names = [name for name in ESTIMATORS if name not in ("mrdr", "loggers", *LEARNED)]
    found = ope.estimate(policy, log, names, discount=1.0, values="ridge", resamples=200)
    truth = (probabilities(policy, log) @ np.arange(3.0)).mean()
    assert all(abs(row.value - truth) < 0.15 for row in found), found
    assert {row.name for row in found if row.high - row.low < 0.15} >= VALUED - {*LEARNED}


def test_intervals_by_other_methods(log):
    kinds = ["is", "pdis", "wis", "wpdis"]
    t = ope.estimate(POLICY, log, kinds, discount=GAMMA, interval="t")
    bootstrap = ope.estimate(POLICY, log, kinds, discount=GAMMA)
    for a, b in zip(t, bootstrap):
        np.testing.assert_allclose([a.low, a.high], [b.low, b.high], atol=0.3 * (b.high - b.low))
    low, high = float(log.reward.min()), float(log.reward.max())
    sure = ope.estimate(POLICY, log, kinds, discount=GAMMA, interval="anderson", reward_range=(low, high))
    assert sure[0].low < bootstrap[0].low and sure[0].high > bootstrap[0].high and "no guaranteed" in sure[3].refused
    narrow = ope.estimate(POLICY, log, ["is"], discount=GAMMA, interval="anderson", reward_range=(low, (low + high) / 2))
    assert "outside the declared range" in narrow[0].refused


def test_no_number_is_given_that_no_policy_can_have():
    """Half of its weights are half, the others nearly five: they average to 2.2, which chance may do, and rewards of 1 are worth 2 at most."""
    weight, n = np.repeat([0.5, 4.75], [24, 16]), 40
    log = Episodes.of(np.zeros(n, int), np.zeros(n, int), np.ones(n), np.ones(n, bool), states=1, actions=2, probability=0.5 / weight)
    ips, snips = ope.estimate(TablePolicy(jnp.ones((1, 2)) / 2), log, ["ips", "snips"], discount=0.5)
    assert "2.2 is no value that a policy can have" in ips.refused and "divide by their weights" in ips.refused
    assert snips.value == pytest.approx(1)


def test_the_interval_of_magic_is_not_narrower_than_that_of_weighted_doubly_robust(log):
    wrong = lambda policy, log: Values(*(x * 0 for x in dataclasses.astuple(exact(policy, log))))
    wdr, magic = ope.estimate(POLICY, log, ["wdr", "magic"], discount=GAMMA, values=wrong)
    assert magic.low <= wdr.low and magic.high >= wdr.high and magic.low <= magic.value <= magic.high


def test_own_values_that_only_add_noise_are_refused():
    rng = np.random.default_rng(0)
    log = Episodes.of(rng.integers(100, size=400), rng.integers(3, size=400), rng.normal(size=400), np.ones(400, bool), states=100, actions=3,
                      log_prob=np.full(400, np.log(1 / 3)))  # fmt: skip
    policy = TablePolicy(jnp.asarray(rng.dirichlet(np.ones(3), 100), jnp.float32))
    (row,) = ope.estimate(policy, log, ["mrdr"], discount=1.0)
    assert "vary more than pdis" in row.refused


def test_names():
    spec = Spec(Box(2), Discrete(3))
    one = nets.Categories(spec, (4,), key=jax.random.key(0))
    assert list(named(one)) == ["Categories"] and list(named([one, one])) == ["Categories 0", "Categories 1"]
    run = type("Run", (), {"algorithm": spec, "seed": 3, "policy": one})()
    assert list(named([run])) == list(named(run)) == ["Spec seed 3"]
