"""What exact solutions must satisfy, whatever the world."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topstitch.worlds import MDP, chain, deadly_triad, empirical, lineworld, random_mdp, sample

worlds = st.builds(
    lambda states, actions, branching, ending, seed: masked(random_mdp(states, actions, branching=branching, ending=ending, seed=seed)),
    st.integers(4, 9), st.integers(2, 4), st.integers(1, 3), st.sampled_from([0.1, 0.3]), st.integers(0, 2**16),
)  # fmt: skip
discounts = st.sampled_from([0.0, 0.9, 1.0])


def masked(mdp: MDP, seed: int = 0) -> MDP:
    mask = np.random.default_rng(seed).uniform(size=(mdp.states, mdp.actions)) < 0.6
    mask[np.arange(mdp.states), np.arange(mdp.states) % mdp.actions] = True
    return MDP(mdp.transition, mdp.reward, mdp.start, mdp.terminal, mask)


def random_policies(mdp: MDP, n: int, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).exponential(size=(n, mdp.states, mdp.actions)) * mdp.legal
    return weights / weights.sum(axis=-1, keepdims=True)


def dynamics(mdp: MDP):
    """(transition, expected reward) in float64, written out again: terminal states lead nowhere and earn nothing."""
    live = ~np.asarray(mdp.terminal)[:, None, None]
    transition = np.asarray(mdp.transition, np.float64)
    transition = live * transition / transition.sum(axis=-1, keepdims=True)
    return transition, (transition * np.asarray(mdp.reward, np.float64)).sum(axis=-1)


@settings(max_examples=30, deadline=None)
@given(worlds, discounts)
def test_values_satisfy_the_bellman_equation(mdp, discount):
    policies, (transition, reward) = random_policies(mdp, 3), dynamics(mdp)
    v, q = mdp.value(policies, discount)
    live = ~np.asarray(mdp.terminal)
    np.testing.assert_allclose(q, reward + discount * np.einsum("saz,pz->psa", transition, v), atol=1e-9)
    np.testing.assert_allclose(v[:, live], (policies * q).sum(axis=-1)[:, live], atol=1e-9)
    assert (v[:, ~live] == 0).all() and (q[:, ~live] == 0).all()


@settings(max_examples=30, deadline=None)
@given(worlds, discounts)
def test_the_optimum_satisfies_its_equation_and_no_policy_beats_it(mdp, discount):
    (v, q, policy), live = mdp.optimum(discount), ~np.asarray(mdp.terminal)
    np.testing.assert_allclose(v[live], np.where(mdp.legal, q, -np.inf).max(axis=1)[live], atol=1e-8)
    np.testing.assert_allclose(mdp.value(policy, discount).v, v, atol=1e-8)
    assert (policy[~mdp.legal] == 0).all() and (policy.max(axis=1) == 1).all()
    assert (mdp.value(random_policies(mdp, 20), discount).v <= v + 1e-8).all()


@settings(max_examples=30, deadline=None)
@given(worlds, discounts)
def test_occupancy_flows(mdp, discount):
    policy, (transition, reward) = random_policies(mdp, 1)[0], dynamics(mdp)
    occupancy, live = mdp.occupancy(policy, discount), ~np.asarray(mdp.terminal)
    scale = 1.0 if discount == 1 else 1 - discount
    start = np.asarray(mdp.start, np.float64) / np.asarray(mdp.start, np.float64).sum()
    inflow = scale * start + discount * np.einsum("sa,saz->z", occupancy, transition)
    np.testing.assert_allclose(occupancy.sum(axis=1)[live], inflow[live], atol=1e-9)
    np.testing.assert_allclose(occupancy[live], (occupancy.sum(axis=1, keepdims=True) * policy)[live], atol=1e-9)
    np.testing.assert_allclose(mdp.performance(policy, discount), (occupancy * reward).sum() / scale, atol=1e-8)
    counter = MDP(mdp.transition, np.ones((mdp.states, mdp.actions)), mdp.start, mdp.terminal, mdp.mask)
    np.testing.assert_allclose(occupancy.sum(), scale * counter.performance(policy, discount), atol=1e-8)  # 1 - E γ^length, or E length


def test_without_an_end_occupancy_sums_to_one():
    mdp = random_mdp(6, 3, seed=2)
    np.testing.assert_allclose(mdp.occupancy(random_policies(mdp, 4), 0.95).sum(axis=(1, 2)), 1, atol=1e-9)


def test_the_optimum_is_the_best_of_all_deterministic_policies():
    mdp = masked(random_mdp(5, 3, ending=0.2, seed=5))
    choices = np.stack(np.meshgrid(*[np.arange(3)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    choices = np.concatenate([choices, np.zeros_like(choices[:, :1])], axis=1)
    choices = choices[mdp.legal[np.arange(5), choices].all(axis=1)]
    values = mdp.value(np.eye(3)[choices], 1.0).v
    np.testing.assert_allclose(mdp.optimum(1.0).v, values.max(axis=0), atol=1e-9)


def test_values_do_not_depend_on_how_rewards_are_written():
    base = random_mdp(6, 2, ending=0.1, seed=3)
    full = np.random.default_rng(0).normal(size=(6, 2, 6))
    by_pair = MDP(base.transition, (np.asarray(base.transition) * full).sum(axis=-1), base.start, base.terminal)
    by_next = MDP(base.transition, full, base.start, base.terminal)
    np.testing.assert_allclose(by_pair.value(by_pair.uniform(), 0.9).v, by_next.value(by_next.uniform(), 0.9).v, atol=1e-5)


# discount 1 -----------------------------------------------------------------------------------------------------------


def test_a_policy_that_never_ends_has_no_value_at_discount_one():
    mdp = chain(4)
    left = np.tile([1.0, 0.0], (5, 1))
    with pytest.raises(ValueError, match="at discount 1 a policy must end, but from 4 of 5 states"):
        mdp.value(left, 1.0)
    with pytest.raises(ValueError, match="must end"):
        mdp.occupancy(left, 1.0)
    assert mdp.performance(left, 0.9) == 0


def test_ties_do_not_lead_in_circles():
    """Everything that ends is worth 1 at discount 1, also a step back: the solver must still return a policy that ends."""
    v, _, policy = chain(6).optimum(1.0)
    np.testing.assert_allclose(v, [1] * 6 + [0])
    assert chain(6).performance(policy, 1.0) == pytest.approx(1)


def test_a_cycle_that_earns_for_ever_has_no_optimum():
    mdp = chain(3)
    paid = MDP(mdp.transition, np.ones((4, 2)), mdp.start, mdp.terminal)
    with pytest.raises(ValueError, match="must end"):
        paid.optimum(1.0)
    assert paid.optimum(0.9).v[0] == pytest.approx(10)


def test_a_world_without_an_end_has_no_value_at_discount_one():
    with pytest.raises(ValueError, match="must end"):
        random_mdp(4, 2).optimum(1.0)


# examples with closed forms -------------------------------------------------------------------------------------------


def test_chain():
    v, _, policy = chain(5).optimum(0.9)
    np.testing.assert_allclose(v, [0.9**4, 0.9**3, 0.9**2, 0.9, 1, 0], atol=1e-9)
    assert (policy[:5, 1] == 1).all()
    slipping = chain(5, slip=0.2).optimum(0.9)
    assert (slipping.v[:5] < v[:5] + 1e-12).all() and slipping.v[0] < v[0]


def test_lineworld_rewards_leaving_the_distribution_within_the_support():
    """The best policy within a distance ε of the logger in total variation stays near it; the best within its support is optimal."""
    mdp, behaviour = lineworld()
    best = mdp.optimum(0.95)
    near = behaviour + 0.1 * np.array([-1, 1])
    assert mdp.performance(near, 0.95) < 0.25 * best.v[0] < best.v[0] == pytest.approx(0.95**7)
    log = sample(mdp, behaviour, 100, horizon=100, key=jax.random.key(0))
    learned = empirical(log).mdp.optimum(0.95).policy[:-1]
    assert mdp.performance(learned, 0.95) == pytest.approx(best.v[0])


@pytest.mark.parametrize("ending", [0.0, 0.1])
def test_the_deadly_triad_diverges_and_two_of_three_do_not(ending):
    mdp, behaviour, target, features = deadly_triad(ending=ending)
    transition, _ = dynamics(mdp)
    follow = np.einsum("saz,zb->sazb", transition, target)
    x = features[..., 0]

    def growth(weights, discount):
        """What one fit of w to the targets γ E[Q_w(s', a')] multiplies w by."""
        return discount * (weights * x * np.einsum("sazb,zb->sa", follow, x)).sum() / (weights * x**2).sum()

    seen_alike = behaviour * (np.arange(mdp.states) < 2)[:, None]
    np.testing.assert_allclose(growth(seen_alike, 0.95), 0.95 * (6 - 4 * ending) / 5)
    assert growth(seen_alike, 0.95) > 1 > growth(seen_alike, 5 / (6 - 4 * ending) - 0.01)
    assert growth(mdp.occupancy(target, 0.95), 0.95) < 1  # on-policy
    assert (mdp.value(target, 0.95).v == 0).all()  # a table
