"""Goals: how they are drawn, what methods for goals become where the goal is fixed, and what they learn where distances are known."""

import dataclasses
import functools
from importlib.util import find_spec

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import topstitch as ts
from topstitch import nets
from topstitch.algos import steps as shared
from topstitch.algos.weighted.iql import State as IQLState
from topstitch.core import Box, Discrete, Markov, Spec, Trained, joined, pair, parted
from topstitch.data import BadData, Episodes
from topstitch.data.goals import Goals, Towards, relabelled
from topstitch.loop import train, unstack
from topstitch.testing import tiny
from topstitch.worlds import arrivals, distances, maze, sample, table

GAMMA = 0.8
ENDS = np.array([4, 7, 11])
"Three episodes; the second truly ends."


def counting(duration=None) -> Episodes:
    """Row i observes i. What lies behind the first and the last episode is 104 and 111."""
    rows = np.arange(12)
    ends = np.isin(rows, ENDS)
    return Episodes.of(
        rows * 1.0,
        np.zeros(12, int),
        np.zeros(12),
        rows == 7,
        ends=ends,
        next_obs=np.where(ends, rows + 100.0, rows + 1.0),
        duration=duration,
    )


# how goals are drawn -------------------------------------------------------------------------------------------------------


def chances(log: Episodes, shares: Goals) -> np.ndarray:
    """(rows, 2 rows): how likely each observation, before or behind each row, is the goal of each row."""
    n, out = log.steps, np.zeros((log.steps, 2 * log.steps))
    long = np.ones(n) if log.duration is None else log.duration
    for start, stop in zip(log.starts, log.stops):
        ahead = [*range(start + 1, stop), *([] if log.terminal[stop - 1] else [n + stop - 1])]
        for row in range(start, stop):
            later = ahead[row - start :] or [row]
            passed = np.cumsum([0, *long[row : row + len(later)]])[: len(later)]
            out[row, row] += shares.current
            # a goal ahead of the last known observation is that one
            odds = GAMMA**passed - np.append(GAMMA ** passed[1:], 0)
            out[row, later] += shares.geometric * odds
            alike = np.full(len(later), 1 / (stop - row))
            alike[-1] += 1 - alike.sum()
            out[row, later] += shares.uniform * alike
            out[row, later[-1]] += shares.final
            out[row, :n] += shares.random / n
    return out


@pytest.mark.parametrize("shares", [Goals(0.1, 0.3, 0.2, 0.1, 0.3), Goals(geometric=1.0)], ids=["all kinds", "geometric"])
@pytest.mark.parametrize("duration", [None, [1, 2, 0.5, 1, 3] + [2.0] * 7], ids=["", "durations"])
def test_goals_come_in_their_shares_and_those_ahead_stay_in_their_episode(shares, duration):
    log, times = counting(duration), 4000
    data, row = relabelled(log), jnp.tile(jnp.arange(12), times)
    place = jax.jit(functools.partial(data.goals, shares=shares))(row, discount=GAMMA, key=jax.random.key(0))
    counts = np.zeros((12, 24))
    np.add.at(counts, (np.asarray(row), np.asarray(place)), 1 / times)
    wanted = chances(log, shares)
    np.testing.assert_allclose(wanted.sum(axis=1), 1)
    assert (counts[wanted == 0] == 0).all()
    np.testing.assert_allclose(counts, wanted, atol=0.03)


def test_what_a_step_earns_is_said_by_its_goal():
    data = relabelled(counting())
    row, place = jnp.array([0, 4, 4, 7, 7]), jnp.array([3, 4, 12 + 4, 7, 2])
    batch = data.towards(row, place, discount=GAMMA)
    assert np.asarray(parted(batch.obs, data.spec.obs)[1])[:, 0].tolist() == [3, 4, 104, 7, 2]
    np.testing.assert_array_equal(parted(batch.next_obs, data.spec.obs), [[[1], [104], [104], [107], [107]], [[3], [4], [104], [7], [2]]])
    np.testing.assert_allclose(batch.reward, [-1, 0, -1, 0, -1 / (1 - GAMMA)], rtol=1e-6)
    assert batch.terminal.tolist() == [0, 1, 0, 1, 1]
    assert data.aim.goal.tolist() == [111]


def test_the_same_observation_elsewhere_is_the_goal_too():
    log = Episodes.of([0, 1, 0, 1, 2], np.zeros(5, int), np.zeros(5), np.zeros(5), next_obs=[1, 0, 1, 2, 0], states=3)
    data = relabelled(log)
    batch = data.towards(jnp.array([0, 0, 1]), jnp.array([2, 1, 3]))
    assert batch.terminal.tolist() == [1, 0, 1] and batch.reward.tolist() == [0, -1, 0]
    assert batch.obs.tolist() == [0, 1, 4] and data.paired == Spec(Discrete(9), Discrete(1))


def test_what_cannot_be_a_mixture_of_goals_is_refused():
    data, row = relabelled(counting()), jnp.arange(3)
    with pytest.raises(ValueError, match="sum to 1"):
        data.goals(row, Goals(uniform=0.5), key=jax.random.key(0))
    with pytest.raises(ValueError, match="geometric in a discount"):
        data.goals(row, Goals(geometric=1.0), key=jax.random.key(0))
    with pytest.raises(BadData, match="vectors or numbers of states"):
        relabelled(tiny(Discrete, obs=ts.core.Image))


def test_pairs_are_what_they_were_made_of():
    for space, a, b in ((Box(2), jnp.eye(2), jnp.ones((2, 2))), (Discrete(3), jnp.array([0, 2]), jnp.array([2, 1]))):
        both = joined(a, b, space)
        assert [x.tolist() for x in parted(both, space)] == [a.tolist(), b.tolist()]
        assert pair(space) == (Box(4) if isinstance(space, Box) else Discrete(9))


# policies ------------------------------------------------------------------------------------------------------------------


def test_a_policy_is_told_raw_goals_and_keeps_them():
    log = tiny(Box)
    rule = ts.GCBC(hidden=(8,), batch_size=8, steps=1)
    data = rule.prepare(log)
    policy = log.policy(rule.policy(jax.jit(rule.init)(data, key=jax.random.key(0))))
    obs, goal = jnp.asarray(log.obs[3]), log.obs[7]
    said = policy.towards(goal)(obs).mode()
    both = joined(data.flat.all.obs[3], data.flat.all.obs[7], data.spec.obs)
    np.testing.assert_allclose(said, log.view.action.undo(policy.inner.inner(both).mode()), rtol=1e-5)
    assert not np.allclose(said, policy(obs).mode())
    np.testing.assert_array_equal(policy.towards(log.next_obs[-1])(obs).mode(), policy(obs).mode())  # the goal of one that was told none
    with pytest.raises(ValueError, match=r"shape \(2,\); expected \(3,\)"):
        policy.towards(goal[:2])
    with pytest.raises(TypeError, match="--family goal"):
        log.policy(nets.BoxGaussian(log.spec, (4,), key=jax.random.key(0))).towards(goal)


class Seeker(Markov):
    """Goes to its goal: the action is the way there."""

    def __call__(self, both, mask=None):
        obs, goal = parted(both, Box(2))
        return nets.Delta(jnp.clip(goal - obs, -1, 1))


def test_evaluation_acts_towards_the_goal_of_each_episode():
    gymnasium = pytest.importorskip("gymnasium")

    class Plane(gymnasium.Env):
        observation_space = action_space = gymnasium.spaces.Box(-1, 1, (2,))
        told = True

        def reset(self, *, seed=None, options=None):
            self.at, self.goal = np.zeros(2, np.float32), np.random.default_rng(seed).uniform(-1, 1, 2).astype(np.float32)
            return self.at, {"goal": self.goal} if self.told else {}

        def step(self, action):
            self.at, there = np.float32(self.at + action), np.allclose(self.at + action, self.goal, atol=1e-5)
            return self.at, 0.0, bool(there), True, {"success": there}

    log = Episodes.of(np.eye(2), np.eye(2), np.zeros(2), np.zeros(2), ends=np.ones(2), next_obs=np.eye(2))
    policy = log.policy(Towards(Seeker(), jnp.zeros(2), Box(2)))
    assert ts.evaluate(policy, Plane, episodes=5, lanes=2).success.all()
    Plane.told = False
    assert not ts.evaluate(policy, Plane, episodes=5, lanes=2).success.any()


@pytest.mark.skipif(find_spec("ogbench") is None, reason="ogbench is not installed: pip install 'topstitch[ogbench]'")
def test_a_point_walks_to_the_goal_that_ogbench_tells():
    from topstitch.bench import ogbench as bench

    log = Episodes.of(np.zeros((1, 2)), np.zeros((1, 2)), [0.0], [0.0], next_obs=np.ones((1, 2)), low=-1, high=1)
    policy = log.policy(Towards(Seeker(), jnp.zeros(2), Box(2)))

    class Near:
        """A task whose goal lies in the cell where it starts."""

        def __init__(self):
            self.env = bench.gym().make("pointmaze-medium-v0", disable_env_checker=True, max_episode_steps=50)
            self.observation_space, self.action_space = self.env.observation_space, self.env.action_space
            self.step, self.close = self.env.step, self.env.close

        def reset(self, *, seed=None):
            return self.env.reset(seed=seed, options={"task_info": {"init_ij": (1, 1), "goal_ij": (1, 2)}})

    assert ts.evaluate(policy, Near, episodes=2, lanes=1).success.all()


# limits --------------------------------------------------------------------------------------------------------------------

NETS = dict(hidden=(8,), batch_size=16, lr=1e-2, steps=5)


def began(rule, log, seed=0):
    data, key = rule.prepare(log), jax.random.key(seed)
    draw = jax.jit(lambda i: rule.sample(None, data, key=jax.random.fold_in(key, i)))
    return data, jax.jit(lambda: rule.init(data, key=key))(), jax.jit(rule.update), draw


def same(a, b, **within):
    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, err_msg=jax.tree_util.keystr(place), **(within or dict(rtol=0, atol=0)))


def followed(this, that, state, other, draw, seen, steps=3):
    """Both learn from the same batches; `seen(batch)` is what the other one sees."""
    for i in range(steps):
        batch, how = draw(i), dict(step=jnp.int32(i), key=jax.random.key(i))
        state, other = this(state, batch, **how)[0], that(other, seen(batch), **how)[0]
    return state, other


def test_gcbc_is_cloning_of_steps_with_goals():
    rule = ts.GCBC(**NETS)
    _, state, update, draw = began(rule, tiny(Box))
    state, other = followed(update, jax.jit(ts.BC(**NETS).update), state, state.actor, draw, lambda batch: batch)
    same(state.actor, other)


def test_gciql_with_one_goal_is_iql_on_its_reward():
    """Every episode ends in state 4, which is the goal of all: IQL sees the log in which that goal is written beside every state."""
    states = np.array([0, 1, 2, 3, 3, 2, 4, 1, 4])
    after = np.array([1, 2, 4, 3, 2, 4, 4, 4, 4])
    ends = np.isin(np.arange(9), [2, 6, 8])
    log = Episodes.of(states, states % 3, np.zeros(9), np.zeros(9), ends=ends, next_obs=after, states=5, actions=3)
    one, shared = Goals(final=1.0), dict(NETS, expectile=0.9, beta=2.0, discount=0.9)
    rule = ts.GCIQL(**shared, value_goals=one, actor_goals=one)
    data, state, update, draw = began(rule, log)
    there = states == 4
    written = Episodes.of(
        states * 5 + 4, states % 3, np.where(there, 0.0, -1.0), there, ends=ends | there, next_obs=after * 5 + 4, states=25, actions=3
    )
    rows = written.transitions().rows()
    every = data.towards(jnp.arange(9), data.last)
    same(every, rows)
    iql = ts.IQL(**shared, decay=False)
    other = IQLState(state.values.value, state.values.critic, state.values.target, state.actor)
    state, other = followed(update, jax.jit(iql.update), state, other, draw, lambda batch: batch[0])
    same(IQLState(state.values.value, state.values.critic, state.values.target, state.actor), other, rtol=1e-5, atol=1e-7)


def test_the_lower_actor_of_hiql_without_values_clones_steps_with_directions():
    rule = ts.HIQL(**NETS, beta=0.0, upper_beta=0.0, embedding=4, ahead=3, target_rate=0.0)
    from topstitch.algos.goal.hiql import asked

    _, state, update, draw = began(rule, tiny(Discrete))
    bc, other = jax.jit(ts.BC(**NETS).update), state.lower
    for i in range(3):
        batch, how = draw(i), dict(step=jnp.int32(i), key=jax.random.key(i))
        state, _ = update(state, batch, **how)
        other, _ = bc(other, asked(batch.lower, state.values.value.model, state.aim.space), **how)
    same(state.lower, other, rtol=1e-5, atol=1e-7)


def test_actionable_models_without_negatives_are_q_learning_of_arriving():
    """Every value begins at 0 and is a chance, so that no error leaves the range where Huber's loss of DQN is a square."""
    states, after = np.array([0, 1, 2, 3, 3, 2, 4, 1, 4]), np.array([1, 2, 4, 3, 2, 4, 4, 4, 1])
    log = Episodes.of(
        states, states % 3, np.zeros(9), np.arange(9) == 8, ends=np.isin(np.arange(9), [2, 6, 8]), next_obs=after, states=5, actions=3
    )
    how = dict(NETS, hidden=(), discount=0.9)
    rule, goals = ts.ActionableModels(**how, alpha=0.0), Goals(uniform=0.5, random=0.5)
    data, state, update, draw = began(dataclasses.replace(rule, value_goals=goals), log)
    state = dataclasses.replace(state, critic=jax.tree.map(jnp.zeros_like, state.critic), target=jax.tree.map(jnp.zeros_like, state.target))

    def seen(batch):
        (obs, goal), (then, _) = (parted(x, data.spec.obs) for x in (batch.obs, batch.next_obs))
        there = ((obs == goal) | (then == goal)).astype(jnp.float32)
        return dataclasses.replace(batch, reward=there, terminal=jnp.maximum(there, batch.terminal))

    assert len({float(seen(draw(i)).reward.sum()) for i in range(3)}) > 1
    state, other = followed(update, jax.jit(ts.DQN(**how).update), state, shared.QState(state.critic, state.target), draw, seen)
    assert float(state.critic.model.every(jnp.arange(25)).max()) > 0.02
    same((state.critic.model, state.target), (other.critic.model, other.target), rtol=1e-4, atol=1e-6)


# distances -----------------------------------------------------------------------------------------------------------------


def test_a_quasimetric_covers_what_its_intervals_cover_and_obeys_the_triangle():
    net = nets.Quasimetric(Box(3), (8,), 12, key=jax.random.key(0), each=3)
    x, y, z = (net.embed(o) for o in jax.random.normal(jax.random.key(1), (3, 50, 3)))
    d = np.asarray(net.between(x, y))
    points = np.linspace(-5, 5, 20001)
    parts = [a.reshape(50, 4, 3, 1) for a in (np.asarray(x), np.asarray(y))]
    covered = np.stack([((parts[0][i] <= points) & (points < parts[1][i])).any(axis=1).mean(axis=-1) * 10 for i in range(50)])
    np.testing.assert_allclose(d, (covered.mean(axis=1) + covered.max(axis=1)) / 2, atol=3e-3)
    assert (np.asarray(net.between(x, x)) == 0).all() and not np.allclose(d, net.between(y, x))
    assert (d <= net.between(x, z) + net.between(z, y) + 1e-5).all()


def test_distances_in_a_maze_are_those_of_the_best_policies():
    world = maze()
    far = distances(world)
    assert far.max() == 10 and (far == far.T).all()
    for goal in (0, 9):
        terminal = np.arange(world.states) == goal
        v = type(world)(world.transition, np.full((world.states, 4), -1.0), ~terminal / (world.states - 1), terminal).optimum(GAMMA).v
        np.testing.assert_allclose(v, -(1 - GAMMA ** far[:, goal]) / (1 - GAMMA), rtol=1e-6)
    best = np.zeros((world.states, world.states, 4))
    after = np.asarray(world.transition).argmax(axis=-1)
    for goal in range(world.states):
        best[goal, np.arange(world.states), far[after, goal].argmin(axis=1)] = 1
    for steps in (3, 10):
        np.testing.assert_array_equal(arrivals(world, best, steps), far <= steps)
    alike = arrivals(world, np.broadcast_to(world.uniform(), best.shape), 1)
    np.testing.assert_allclose(alike[0, :2], [1, 0.25])
    with pytest.raises(ValueError, match="cannot be reached"):
        maze((".#.",))
    with pytest.raises(ValueError, match="steps of this world are random"):
        distances(ts.worlds.random_mdp(4, 2))


@functools.cache
def walks() -> Episodes:
    """Random walks of four steps: no episode shows a way of more."""
    world = maze()
    return sample(world, world.uniform(), 400, horizon=4, key=jax.random.key(0))


def learned(rule, log):
    out = train([(rule, 0)], log, every=rule.steps)
    assert out.faults == (None,), out.faults
    return unstack(out.states, 1)[0]


TABLE = dict(hidden=(), batch_size=256, lr=0.05, steps=1500, actor_goals=Goals(uniform=0.5, random=0.5))
VALUES = dict(TABLE, discount=0.9, target_rate=0.2, beta=10.0)


ACTIONABLE = dict(hidden=(), batch_size=256, lr=0.003, steps=1500, discount=0.9, target_rate=0.2, alpha=0.1)
JOINING = {
    "GCBC": (ts.GCBC(**TABLE), False),
    "GCIQL": (ts.GCIQL(**VALUES), True),
    "GCIVL": (ts.GCIVL(**VALUES), True),
    "Actionable Models": (ts.ActionableModels(**ACTIONABLE), True),
    "Actionable Models, not chained": (ts.ActionableModels(**ACTIONABLE, value_goals=Goals(uniform=1.0)), False),
}


@pytest.mark.parametrize(("rule", "joins"), JOINING.values(), ids=JOINING)
def test_ways_longer_than_any_episode_are_joined_by_values_and_not_by_cloning(rule, joins):
    world, log = maze(), walks()
    far, state = distances(world), learned(rule, log)
    tables = jax.jit(jax.vmap(lambda goal: table(rule.policy(state).towards(goal), world)))(jnp.arange(world.states))
    arrived = arrivals(world, np.eye(4)[np.asarray(tables).argmax(axis=-1)], 20)
    assert arrived[far <= 1].mean() > 0.95
    if joins:
        assert arrived[far > 4].mean() > 0.9, arrived[far > 4].mean()
    else:
        assert arrived[far > 4].mean() < 0.1, arrived[far > 4].mean()


def test_actionable_models_rest_where_values_and_negatives_balance():
    r"""$Q = \mu y / (\mu + \alpha \nu)$, with μ the share of an action among those logged in a state and ν its share of the negatives. The steps of the maze are
    certain, so y is too. One update with every logged step and every goal does not move that point; and it acts by the shortest ways."""
    world, log, alpha = maze(), walks(), 0.5
    n, after, far = world.states, np.asarray(world.transition).argmax(axis=-1), distances(world)
    mu = np.zeros((n, 4))
    np.add.at(mu, (log.obs, log.action), 1)
    mu = (mu / mu.sum(axis=1, keepdims=True))[:, None]  # (states, goals, actions)
    there = (after[:, None] == np.arange(n)[None, :, None]) | np.eye(n, dtype=bool)[..., None]
    q = np.zeros((n, n, 4))
    for _ in range(100):
        y = np.where(there, 1.0, GAMMA * q.max(axis=-1)[after].swapaxes(1, 2))
        e = np.exp(q)
        nu = sum(mu[..., a, None] * e * (np.arange(4) != a) / (e.sum(axis=-1) - e[..., a])[..., None] for a in range(4))
        q = mu * y / (mu + alpha * nu)
    rule = ts.ActionableModels(hidden=(), alpha=alpha, discount=GAMMA, steps=1)
    data = rule.prepare(log)
    row, goal = (x.ravel() for x in np.meshgrid(np.arange(log.steps), [np.flatnonzero(log.obs == g)[0] for g in range(n)]))
    batch = data.towards(jnp.asarray(row), jnp.asarray(goal))
    state = jax.jit(rule.init)(data, key=jax.random.key(0))
    layer = lambda net: net.members.net.layers[0]
    put = lambda net, table: eqx.tree_at(lambda m: (layer(m).weight, layer(m).bias), net, (jnp.float32(table)[None], jnp.zeros((1, 4))))

    @jax.jit
    def pull(table):
        """How hard the loss pulls at each value: Adam's first moment is a tenth of the slope."""
        net = put(state.critic.model, table.reshape(n * n, 4))
        own = dataclasses.replace(state, critic=Trained.start(net, rule.optimiser), target=net)
        moved, _ = rule.update(own, batch, step=jnp.int32(0), key=jax.random.key(0))
        return 10 * layer(moved.critic.moments[0].mu).weight

    assert jnp.abs(pull(q)).max() < 1e-3 * jnp.abs(pull(0.9 * q)).max()
    greedy = np.eye(4)[q.argmax(axis=-1)].swapaxes(0, 1)  # (goals, states, actions)
    np.testing.assert_array_equal(arrivals(world, greedy, 10), far <= 10)


def test_contrasts_are_how_much_likelier_a_goal_follows_than_usual():
    world = ts.worlds.random_mdp(3, 2, branching=2, seed=1)
    log = sample(world, world.uniform(), 100, horizon=8, key=jax.random.key(0))
    rule = ts.CRL(hidden=(16,), embedding=8, critics=1, discount=GAMMA, batch_size=64, lr=1e-2, steps=1000)
    state, data = learned(rule, log), rule.prepare(log)
    said = np.array(state.critic.model(*(x.reshape(-1) for x in jnp.meshgrid(jnp.arange(9), jnp.arange(2)))))[0].reshape(2, 3, 3)
    follows = chances(log, Goals(geometric=1.0)) @ np.eye(3)[np.asarray(data.seen(jnp.arange(2 * log.steps)))]
    for action in range(2):
        for obs in range(3):
            here = (log.obs == obs) & (log.action == action)
            ratio = np.log(follows[here].mean(axis=0) / follows.mean(axis=0)) - np.log(rule.batch_size - 1)
            often = follows[here].mean(axis=0) > 0.05
            np.testing.assert_allclose(said[action, obs][often], ratio[often], atol=0.3)


def test_quasimetrics_learn_the_shortest_ways_and_that_there_and_back_differ():
    """A ring of one-way streets; the other action stays."""
    step = np.stack([np.roll(np.eye(5), 1, axis=1), np.eye(5)], axis=1)
    world = ts.worlds.MDP(step, np.zeros((5, 2)), np.full(5, 0.2), np.zeros(5, bool))
    log = sample(world, world.uniform(), 50, horizon=4, key=jax.random.key(0))
    rule = ts.QRL(hidden=(32,), embedding=32, threshold=0.01, dual_lr=0.03, lr=3e-3, batch_size=64, steps=1000, beta=10.0)
    state, far = learned(rule, log), distances(world)
    assert far[0].tolist() == [0, 1, 2, 3, 4]
    said = np.asarray(state.world.model.distance(jnp.arange(25))).reshape(5, 5)
    np.testing.assert_allclose(said, far, rtol=0.2, atol=0.02)
    act = jax.jit(lambda obs, goal: rule.policy(state).towards(goal)(obs).mode())
    assert all(int(act(jnp.int32(s), jnp.int32(g))) == 0 for s in range(5) for g in range(5) if s != g)


# vectors -------------------------------------------------------------------------------------------------------------------


def test_what_climbs_a_value_rests_where_imitation_holds_it():
    r"""For $Q(a) = -(c - a)^2$ and one action b that was done: $2 / (c - a) = \alpha (a - b)$, which has one solution between the two."""
    c, b, alpha = 2.0, -0.5, 1.5
    spec = Spec(Discrete(1), Box(1))
    actor = shared.start_goal_actor(spec, (), optax.adam(0.02), key=jax.random.key(0))
    log = Episodes.of(
        np.zeros(4, int), np.full((4, 1), b), np.zeros(4), np.zeros(4), states=1, low=-1.0, high=1.0, next_obs=np.zeros(4, int)
    )
    batch = log.transitions().rows()
    step = lambda i, actor: shared.ascend(actor, batch, lambda a: -((c - a[:, 0]) ** 2), alpha, optax.adam(0.02))[0]
    actor = jax.jit(lambda actor: jax.lax.fori_loop(0, 1000, step, actor))(actor)
    said = float(actor.model(jnp.int32(0)).mode()[0])
    assert b < said < 1 and 2 / (c - said) == pytest.approx(alpha * (said - b), rel=1e-2)


LINE = dict(hidden=(32,), batch_size=64, lr=3e-3, steps=600)
"On a line. `GCIQL` takes longer: what bootstraps learns last where to go, after how bad it is to be anywhere."
CLIMBING = {
    "GCIQL": ts.GCIQL(**LINE | dict(steps=5000), alpha=0.03, discount=0.9, target_rate=0.05),
    "CRL": ts.CRL(**LINE, alpha=0.1, discount=0.9, embedding=8),
    "QRL": ts.QRL(**LINE, alpha=0.003, embedding=16, dual_lr=0.03),
    "Actionable Models": ts.ActionableModels(**LINE | dict(steps=1200), alpha=0.1, discount=0.9, target_rate=0.05, actions_sampled=8),
}


@functools.cache
def line() -> Episodes:
    """A point on a line from -1 to 1 that goes a fifth of what it is told, told anything."""
    rng, x, rows = np.random.default_rng(0), 0.0, []
    for _ in range(600):
        action = rng.uniform(-1, 1)
        then = float(np.clip(x + action / 5, -1, 1))
        rows.append((x, action, then))
        x = then
    x, action, then = np.array(rows, np.float32).T[..., None]
    return Episodes.of(x, action, np.zeros(600), np.zeros(600), ends=np.arange(600) % 20 == 19, next_obs=then, low=-1.0, high=1.0)


@pytest.mark.parametrize("name", CLIMBING)
def test_a_point_on_a_line_goes_towards_its_goal(name):
    """Nothing is nearer than going all the way: the best action is ±1, and the log's mean is 0."""
    rule, log = CLIMBING[name], line()
    policy = log.policy(rule.policy(learned(rule, log)))
    x, goal = (a.ravel()[:, None] for a in np.meshgrid(np.linspace(-0.8, 0.8, 9), np.linspace(-0.8, 0.8, 9)))
    act = jax.jit(jax.vmap(lambda x, goal: policy.towards(goal)(x).mode()[0]))
    way = np.sign(goal - x)[:, 0] * np.asarray(act(jnp.float32(x), jnp.float32(goal)))
    apart = np.abs(goal - x)[:, 0] > 0.3
    assert (way[apart] > 0).mean() > 0.9 and way[apart].mean() > 0.5, (way[apart].mean(), (way[apart] > 0).mean())
