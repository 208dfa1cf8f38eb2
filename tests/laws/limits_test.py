"""Where one method becomes another, both learn the same: equal states after a few updates from equal parameters, batches and keys."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import topstitch as ts
from topstitch.core import Algorithm, Box, Discrete, polyak
from topstitch.loop import one_step, stage_key
from topstitch.testing import tiny

STEPS = 5
NETS = dict(hidden=(8, 8), batch_size=16, lr=1e-2, steps=STEPS)
STEADY = dict(NETS, delay=1)


class Limit(NamedTuple):
    this: Algorithm
    that: Algorithm
    away: dict
    "Hyperparameters of `this` under which it is no longer `that`: what shows that the law can fail."
    part: Callable = lambda state: state
    "What of `this` one's state starts as, and stays equal to ..."
    of: Callable = lambda state: state
    "... what of `that` one's."
    seen: Callable = lambda part: part
    "What of the two is compared."
    action: type = Box
    rtol: float = 0.0
    "0 where both are the same arithmetic: then the states are equal to the bit."
    atol: float = 0.0
    steps: int = STEPS


actor = lambda state: state.actor
q_and_target = lambda state: (state.critic, state.target)
LIMITS = {
    "IQL(beta=0)=BC, box": Limit(ts.IQL(beta=0.0, decay=False, **NETS), ts.BC(**NETS), dict(beta=3.0), part=actor),
    "IQL(beta=0)=BC, discrete": Limit(ts.IQL(beta=0.0, decay=False, **NETS), ts.BC(**NETS), dict(beta=3.0), part=actor, action=Discrete),
    "AWAC(beta=0)=BC, box": Limit(ts.AWAC(beta=0.0, **NETS), ts.BC(**NETS), dict(beta=3.0), part=actor),
    "AWAC(beta=0)=BC, discrete": Limit(ts.AWAC(beta=0.0, **NETS), ts.BC(**NETS), dict(beta=3.0), part=actor, action=Discrete),
    "RWR(beta=0)=BC": Limit(ts.RWR(beta=0.0, **NETS), ts.BC(**NETS), dict(beta=3.0), part=actor),
    "MARWIL(beta=0)=BC": Limit(ts.MARWIL(beta=0.0, **NETS), ts.BC(**NETS), dict(beta=3.0), part=actor),
    "AWR(beta=0)=BC": Limit(ts.AWR(beta=0.0, **NETS), ts.BC(**NETS), dict(beta=3.0), part=actor),
    "CRR(beta=0)=BC": Limit(ts.CRR(beta=0.0, **NETS), ts.BC(**NETS), dict(beta=3.0), part=actor),
    # slow copies that are not slow are the nets themselves
    "CRR(target_rate=1, exp, mean)=AWAC(target_rate=1)": Limit(
        ts.CRR(target_rate=1.0, critics=2, beta=3.0, max_weight=100.0, **NETS), ts.AWAC(target_rate=1.0, **NETS), dict(beta=1.0),
        part=lambda s: (s.critic, s.actor, s.target, s.target_actor), of=lambda s: (s.critic, s.actor, s.target, s.actor.model),
        action=Discrete, rtol=1e-4, atol=1e-6,
    ),
    "TD3BC(alpha=0)=BC": Limit(ts.TD3BC(alpha=0.0, **STEADY), ts.BC(head="deterministic", **NETS), dict(alpha=2.5), part=actor),
    # Adam's first step does not see the scale of a loss (but for its epsilon), later ones see how mean |Q| has changed
    "TD3BC(alpha=inf)=TD3": Limit(
        ts.TD3BC(alpha=1e7, **STEADY), ts.TD3(**STEADY), dict(alpha=1.0), seen=lambda s: s.actor.model, rtol=1e-4, atol=1e-3 * NETS["lr"],
        steps=1,
    ),
    "CQL(alpha=0)=SAC": Limit(
        ts.CQL(alpha=0.0, entropy_backup=True, actor_lr=NETS["lr"], actions_sampled=2, **NETS), ts.SAC(**NETS), dict(alpha=1.0),
        part=lambda s: s.agent, rtol=1e-5, atol=1e-7,
    ),
    "SACN(critics=2)=SAC": Limit(ts.SACN(critics=2, **NETS), ts.SAC(**NETS), dict(discount=0.5)),
    "ReBRAC(actor_bc=0, critic_bc=0)=TD3": Limit(
        ts.ReBRAC(actor_bc=0.0, critic_bc=0.0, normalise_q=False, norm=False, critics=1, actor_lr=NETS["lr"], **NETS),
        ts.TD3(critics=1, **NETS), dict(critic_bc=0.1),
    ),
    "DiscreteCQL(alpha=0)=DQN": Limit(ts.DiscreteCQL(alpha=0.0, double=False, **NETS), ts.DQN(**NETS), dict(alpha=1.0), action=Discrete),
    "DiscreteCQL(alpha=0, double)=DQN(double)": Limit(
        ts.DiscreteCQL(alpha=0.0, **NETS), ts.DQN(double=True, **NETS), dict(alpha=1.0), action=Discrete
    ),
    "DiscreteBCQ(threshold=0)=DQN(double)": Limit(
        ts.DiscreteBCQ(threshold=0.0, **NETS), ts.DQN(double=True, **NETS), dict(threshold=0.95),
        part=q_and_target, of=q_and_target, action=Discrete,
    ),
}  # fmt: skip


@jax.jit
def begin(algorithm: Algorithm, data, key):
    return algorithm.init(data, key=key)


@jax.jit
def learn(algorithm: Algorithm, state, data, steps):
    stage = algorithm.stages()[0]
    key = stage_key(jax.random.key(7), stage)
    return jax.lax.fori_loop(0, steps, lambda step, state: one_step(stage, state, data, step, key)[0], state)


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name):
    limit = LIMITS[name]
    data = limit.this.prepare(tiny(limit.action, masks=limit.action is Discrete))
    start = begin(limit.that, data, jax.random.key(1))
    wanted = limit.seen(limit.of(learn(limit.that, start, data, limit.steps)))
    assert any((x != y).any() for x, y in zip(jax.tree.leaves(wanted), jax.tree.leaves(limit.seen(limit.of(start))))), "nothing was learned"

    def learned(algorithm):
        own = begin(algorithm, data, jax.random.key(2))
        return limit.seen(limit.part(learn(algorithm, eqx.tree_at(limit.part, own, limit.of(start)), data, limit.steps)))

    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(wanted)[0], jax.tree.leaves(learned(limit.this)), strict=True):
        np.testing.assert_allclose(y, x, rtol=limit.rtol, atol=limit.atol, err_msg=jax.tree_util.keystr(place))
    other = learned(dataclasses.replace(limit.this, **limit.away))
    near = [np.allclose(x, y, rtol=max(limit.rtol, 1e-5), atol=limit.atol) for x, y in zip(jax.tree.leaves(wanted), jax.tree.leaves(other))]
    assert not all(near), f"{limit.away} makes no difference"


@pytest.mark.parametrize("double", [False, True])
def test_double_q_learning_lets_the_online_net_choose_and_the_target_net_value(double):
    log = tiny(Discrete, masks=True)
    data, algorithm = log.transitions(), ts.DQN(double=double, **NETS)
    state, other = (begin(algorithm, data, jax.random.key(i)) for i in range(2))
    state = eqx.tree_at(lambda s: s.target, state, other.target)  # so that the two nets disagree
    rows = data.rows()
    _, metrics = jax.jit(algorithm.update)(state, rows, step=jnp.int32(0), key=jax.random.key(0))
    online, target = (np.asarray(q.every(rows.next_obs)[0]) for q in (state.critic.model, state.target))
    choice = np.where(log.next_mask, online if double else target, -np.inf).argmax(axis=1)
    goal = log.reward + 0.99 * ~log.terminal * target[np.arange(log.steps), choice]
    np.testing.assert_allclose(metrics["critic/target"], goal.mean(), rtol=1e-5)
    other_choice = np.where(log.next_mask, target if double else online, -np.inf).argmax(axis=1)
    assert (choice != other_choice).any()


def test_polyak_at_one_copies_and_at_zero_leaves():
    a, b = (dict(x=jax.random.normal(jax.random.key(i), (5,))) for i in range(2))
    np.testing.assert_array_equal(polyak(a, b, 0.0)["x"], a["x"])
    np.testing.assert_allclose(polyak(a, b, 1.0)["x"], b["x"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(polyak(a, b, 0.25)["x"], 0.75 * a["x"] + 0.25 * b["x"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("earned", "same"), [(-1e9, True), (1e3, False)])
def test_cal_ql_is_cql_where_the_log_earned_nothing(earned, same):
    """Values are held up by logged returns only: where these lie below all values, nothing is."""
    from topstitch.loop import train

    how = dict(actions_sampled=2, actor_lr=1e-3, hidden=(8, 8), batch_size=16, steps=STEPS)
    log = tiny(Box)
    data = ts.CalQL().prepare(log)
    low = dataclasses.replace(data, all=dataclasses.replace(data.all, returns=jnp.full_like(data.all.returns, earned)))
    this, that = train([(ts.CalQL(**how), 0)], low).states, train([(ts.CQL(**how), 0)], log).states
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(jax.tree.leaves(this), jax.tree.leaves(that), strict=True)) == same
