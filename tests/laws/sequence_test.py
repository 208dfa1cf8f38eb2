"""What sequence models promise: the future is not seen, padding is not seen, what is remembered when acting is what was seen in
training, and a plan is what the model says."""

import dataclasses
import functools as ft
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topstitch import nets
from topstitch.algos.sequence.decision_transformer import DecisionTransformer
from topstitch.algos.sequence.trajectory_transformer import TrajectoryTransformer
from topstitch.core import Box, Discrete, Spec
from topstitch.data import Episodes
from topstitch.evaluation import evaluate
from topstitch.loop import train, unstack
from topstitch.store import load_policy, save_policy
from topstitch.testing import tiny

SMALL = settings(max_examples=25, deadline=None)
COLUMNS, WORDS, STEPS = 5, 7, 4


@ft.cache
def model(steps=STEPS) -> nets.TokenModel:
    """Louder than a fresh one, so that what is seen matters."""
    fresh = nets.TokenModel(COLUMNS, WORDS, steps, (8, 8), 2, key=jax.random.key(0))
    noise = iter(jax.random.split(jax.random.key(1), 100))
    return jax.tree.map(lambda x: x + 0.5 * jax.random.normal(next(noise), x.shape), fresh)


def speech(seed: int, n=2, steps=STEPS):
    return jnp.asarray(np.random.default_rng(seed).integers(WORDS, size=(n, steps, COLUMNS)), jnp.int32)


# transformers --------------------------------------------------------------------------------------------------------------


def test_no_token_sees_a_later_one():
    who, tokens = model(), speech(0)
    ask = jax.jit(lambda t: who(t))
    said = np.asarray(ask(tokens)).reshape(2, -1, WORDS)
    for at in range(STEPS * COLUMNS):
        other = tokens.reshape(2, -1).at[:, at].add(1) % WORDS
        again = np.asarray(ask(other.reshape(tokens.shape))).reshape(2, -1, WORDS)
        np.testing.assert_array_equal(again[:, :at], said[:, :at])
        later = (again != said).any(axis=(0, 2))
        assert later[at], "a token sees itself"
        assert later[at + 1 :].all() if at % COLUMNS < COLUMNS - 1 else not later[at + 1 :].any(), "returns to go are seen by nobody else"


@pytest.mark.parametrize("known", [7, 12])
def test_reading_token_by_token_is_reading_at_once(known):
    """`known` tokens in common, then each twin's own; returns to go, which nobody sees, are left out."""
    tokens, total = speech(1), STEPS * COLUMNS
    whole, seen = model().read(tokens.at[1].set(tokens[0].reshape(-1).at[known:].set(tokens[1].reshape(-1)[known:]).reshape(STEPS, -1)))
    own_words = tokens.reshape(2, -1)
    common, place = jax.tree.map(lambda x: x[0], seen), np.arange(total)
    valid = jnp.asarray((place < known) & (place % COLUMNS < COLUMNS - 1))
    depth, heads, size = model().body.shape
    empty = jnp.zeros((1, heads, 0, size))
    past, own = ((nets.Seen(x, x),) * depth for x in (empty, jnp.zeros((1, 2, heads, total, size))))
    who = model()
    step = jax.jit(lambda *args: who.body.step(*args))
    for slot, at in enumerate(i for i in range(known, total) if i % COLUMNS < COLUMNS - 1):
        x = model().embed(own_words[None, :, at], at % COLUMNS, jnp.array([at]))
        out, own = step(x, common, valid, past, jnp.zeros(0, bool), own, slot)
        np.testing.assert_allclose(out[0], whole[:, at], rtol=1e-5, atol=1e-5)


def planner(**how):
    spec = Spec(Box(2), Discrete(WORDS - 1))
    bins = jax.tree.map(lambda *x: jnp.concatenate(x), *[nets.Bins.whole(WORDS - 1)] * COLUMNS)
    sizes = dict(horizon=6, beam=4, expand=3, context=3, window=4) | how
    return nets.Planner(model(sizes["window"]), bins, jnp.float32(0.9), jnp.float32(0.0), spec, **sizes)


@jax.jit
def search(who, past, count):
    return who.plan(past, count, jnp.array([1, 4]), key=jax.random.key(0))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_plan_is_what_the_model_says(count):
    """Every imagined token is the likeliest one behind the steps in the window, also where the window was full and the plan went on
    from its last steps."""
    who, past = planner(), speech(3, n=1)[0, :2]
    plan = np.asarray(search(who, past, jnp.int32(count)))
    assert plan.shape == (6, COLUMNS) and plan[0, :2].tolist() == [1, 4]
    window, slots = list(np.asarray(past[:count])) + [plan[0]], 3
    for row in plan[1:]:
        if slots == 4:
            window, slots = window[-2:], 2
        rows = np.array([*window, row, *[np.zeros_like(row)] * (4 - len(window) - 1)])
        said = np.asarray(who.model(jnp.asarray(rows)[None]))[0].argmax(axis=-1)
        i, before = len(window), len(window) - 1
        assert [said[before, -1], said[i, 0]] == row[:2].tolist(), "the observation"
        assert [said[i, 2], said[i, 3]] == row[3:].tolist(), "reward and return to go"
        window, slots = [*window, row], slots + 1


# tokens --------------------------------------------------------------------------------------------------------------------


@SMALL
@given(st.integers(0, 2**16), st.booleans(), st.sampled_from([1, 3, 10]), st.booleans())
def test_a_number_and_what_its_token_stands_for_share_a_bin(seed, quantile, count, coarse):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(40, 2)) * 10 ** rng.uniform(-2, 3), jnp.float32)
    x = jnp.round(x) if coarse else x
    bins = nets.Bins.fit(x, count, quantile)
    tokens = bins.tokens(x)
    back = bins.numbers(tokens)
    low, high = (np.take_along_axis(np.asarray(bins.edges), np.asarray(tokens).T + i, axis=1).T for i in (0, 1))
    slack = 1e-5 * np.abs(x).max()
    assert ((low - slack <= back) & (back <= high + slack)).all() and ((low - slack <= x) & (x <= high + slack)).all()
    assert (np.abs(back - x) <= high - low + slack).all()
    assert (tokens >= 0).all() and (tokens < count).all()
    far = jnp.asarray([[-1e9, 1e9]], jnp.float32)
    assert bins.tokens(far).tolist() == [[bins.tokens(jnp.full((1, 2), bins.edges.min() - 1))[0, 0].item(), count - 1]]
    np.testing.assert_allclose(back.mean(axis=0), x.mean(axis=0), rtol=1e-3, atol=slack)  # nothing is gained or lost on average


def test_few_values_are_exact_and_bins_hold_about_as_many():
    x = jnp.asarray(np.repeat([0.0, 1.0, -7.0], [90, 9, 1]), jnp.float32)[:, None]
    for quantile in (True, False):
        bins = nets.Bins.fit(x, 100, quantile)
        np.testing.assert_allclose(bins.numbers(bins.tokens(x)), x, atol=1e-5)
    many = jax.random.normal(jax.random.key(0), (1000, 1))
    counts = np.bincount(np.asarray(nets.Bins.fit(many, 10, True).tokens(many))[:, 0], minlength=10)
    assert (np.abs(counts - 100) <= 1).all()
    whole = nets.Bins.whole(5)
    assert whole.tokens(jnp.arange(5.0)[:, None])[:, 0].tolist() == whole.numbers(jnp.arange(5)[:, None])[:, 0].tolist() == list(range(5))


def test_the_unlikely_tail_is_left_out():
    p = jnp.array([0.1, 0.6, 0.3])
    kept = lambda tail: jnp.isfinite(nets.likely(jnp.log(p), jnp.float32(tail))).tolist()
    assert kept(0.0) == [True] * 3 and kept(0.2) == [False, True, True] and kept(0.5) == kept(1.0) == [False, True, False]
    assert jnp.isfinite(nets.likely(jnp.zeros(4), jnp.float32(0.9))).all()  # equally likely words stay together


# training ------------------------------------------------------------------------------------------------------------------

DT = DecisionTransformer(hidden=(8,), batch_size=8, steps=4, context=4, longest=9, dropout=0.0, scale=4.0)
TT = TrajectoryTransformer(hidden=(8,), batch_size=8, steps=4, context=2, window=4, horizon=2, beam=3, bins=5, dropout=0.0, warmup=1)


@pytest.mark.parametrize("algorithm", [DT, TT], ids=["dt", "tt"])
def test_padding_is_not_seen(algorithm):
    data = algorithm.prepare(tiny(Box))
    state = jax.jit(algorithm.init)(data, key=jax.random.key(0))
    batch = data.draw(32, key=jax.random.key(1))
    ended = (batch.terminal * batch.mask).max(axis=1) > 0
    assert ((batch.mask.sum(axis=1) < 4) & ended).any() and ((batch.mask.sum(axis=1) < 4) & ~ended).any()
    noise = lambda x: jnp.where((batch.mask > 0).reshape(*batch.mask.shape, *[1] * (x.ndim - 2)), x, 3)
    other = eqx.tree_at(
        lambda b: (b.obs, b.action, b.reward, b.to_go), batch, tuple(map(noise, (batch.obs, batch.action, batch.reward, batch.to_go)))
    )
    update = jax.jit(lambda batch: algorithm.update(state, batch, step=jnp.int32(0), key=jax.random.key(2)))
    for x, y in zip(jax.tree.leaves(update(batch)), jax.tree.leaves(update(other))):
        np.testing.assert_array_equal(x, y)
    seen = eqx.tree_at(lambda b: b.obs, batch, batch.obs.at[:, 0].add(1.0))
    assert any((x != y).any() for x, y in zip(jax.tree.leaves(update(batch)), jax.tree.leaves(update(seen))))


@pytest.mark.parametrize("action", [Box, Discrete])
@pytest.mark.parametrize("scaled", [False, True], ids=["raw rewards", "scaled rewards"])
def test_acting_sees_what_training_saw(action, scaled):
    """A logged episode told step by step fills the memory with the window that training reads; rewards are whole, so sums are exact."""
    log = dataclasses.replace(tiny(action, kind="one_episode"), reward=np.random.default_rng(0).integers(-3, 4, 48).astype(np.float32))
    log = dataclasses.replace(log, terminal=np.arange(48) == 47)
    if scaled:
        shift, scale = np.asarray(2, np.float32), np.asarray(4, np.float32)
        log = log.viewed(eqx.tree_at(lambda v: v.reward, log.view, type(log.view.obs)(shift, scale), is_leaf=lambda x: x is None))
    data = DT.prepare(log)
    state = jax.jit(DT.init)(data, key=jax.random.key(0))
    assert float(state.best) == float(log.to_go()[0])
    policy, rows = DT.policy(state), data.flat.all
    remember, carry = jax.jit(lambda c, o, r: policy.remember(c, o, r)), policy.start()
    for t in range(12):
        carry = remember(carry, rows.obs[t], rows.reward[t - 1] if t else jnp.float32(0))
        first = max(0, t - DT.context + 1)
        n = t + 1 - first
        want = data.to_go[first : t + 1], rows.obs[first : t + 1], data.time[first : t + 1]
        for x, y in zip((carry.to_go, carry.obs, carry.time), want):
            np.testing.assert_array_equal(x[:n], y)
        np.testing.assert_array_equal(carry.action[: n - 1], rows.action[first:t])
        assert (np.asarray(carry.action[n - 1]) == 0).all()  # not known yet
        carry = eqx.tree_at(lambda c: c.action, carry, carry.action.at[n - 1].set(rows.action[t]))


def test_a_planner_remembers_the_steps_that_training_saw():
    log = tiny(Box, kind="one_episode")
    data = TT.prepare(log)
    state = jax.jit(TT.init)(data, key=jax.random.key(0))
    policy, rows = dataclasses.replace(TT, context=3).policy(state), data.flat.all
    tokens = np.asarray(state.bins.tokens(nets.columns(rows.obs, rows.action, rows.reward, data.to_go)))
    carry = policy.start()
    for t in range(5):
        carry = policy.remember(carry, rows.reward[t - 1])
        n = min(t, 2)
        assert int(carry.count) == n
        np.testing.assert_array_equal(np.asarray(carry.past)[:n, :-1], tokens[t - n : t, :-1])  # nobody sees the return to go
        carry = carry._replace(last=jnp.asarray(tokens[t, :5]), time=carry.time + 1)


# what is learned -----------------------------------------------------------------------------------------------------------


@jax.jit
def move(policy, carry, obs, reward):
    return policy.act(carry, obs, reward)


def follow(policy, world, start, steps: int) -> float:
    """The return of an episode in `world: (state, action, t) -> (reward, next state)`."""
    carry, state, reward, total = policy.start(), start, 0.0, 0.0
    for t in range(steps):
        action, carry = move(policy, carry, jnp.asarray(state), jnp.float32(reward))
        reward, state = world(state, np.asarray(action), t)
        total += reward
    return total


@pytest.mark.parametrize("action", [Box, Discrete])
def test_who_asks_for_more_gets_more(action):
    """Good and bad episodes of six steps, each of which pays for the action 1 (or for a positive one)."""
    rng, n = np.random.default_rng(0), 200
    done = rng.random((n, 6)) < rng.uniform(size=(n, 1))
    reward = done.astype(np.float32).reshape(-1)
    said = done.reshape(-1).astype(int) if action is Discrete else np.where(done.reshape(-1), 0.5, -0.5)
    log = Episodes.of(np.ones((6 * n, 1), np.float32), said, reward, np.tile(np.arange(6) == 5, n), actions=2 if action is Discrete else None,
                      low=None if action is Discrete else -1, high=None if action is Discrete else 1)  # fmt: skip
    algorithm = DecisionTransformer(
        hidden=(32,), batch_size=64, steps=250, lr=3e-3, warmup=20, context=6, longest=6, scale=6.0, dropout=0.0
    )
    state = unstack(train([(algorithm, 0)], log, every=250).states, 1)[0]
    world = lambda state, a, t: (float(a == 1 if action is Discrete else a[0] > 0), state)
    got = [
        follow(log.policy(dataclasses.replace(algorithm, target=float(g)).policy(state)), world, np.ones(1, np.float32), 6)
        for g in range(7)
    ]
    assert got == sorted(got) and max(abs(x - g) for g, x in enumerate(got)) <= 1 and (got[0], got[6]) == (0, 6), got
    assert follow(log.policy(algorithm.policy(state)), world, np.ones(1, np.float32), 6) == 6  # inf asks for the best


# A tempting reward at once leads nowhere; without it comes a good step or a bad one, as good as nothing on average.
PAYS = {(0, 0): (1.0, 1), (0, 1): (0.0, 2), (1, 0): (0.0, 3), (1, 1): (0.0, 3), (2, 0): (3.0, 3), (2, 1): (-3.0, 3)}


@pytest.fixture(scope="module")
def maze():
    rows = []
    for _ in range(50):
        for plan in itertools.product((0, 1), repeat=2):
            state = 0
            for a in plan:
                reward, after = PAYS[state, a]
                rows.append((state, a, reward))
                state = after
    state, done, reward = (np.array(x) for x in zip(*rows))
    log = Episodes.of(state, done, reward, np.arange(400) % 2 == 1, states=4, actions=2)
    algorithm = TrajectoryTransformer(hidden=(32,), heads=2, batch_size=64, steps=300, lr=1e-2, warmup=20, weight_decay=0.0, dropout=0.0, bins=8,
                                      horizon=2, beam=4, expand=8, context=2, window=2, tail=0.0, discount=1.0)  # fmt: skip
    return log, algorithm, unstack(train([(algorithm, 0)], log, every=300).states, 1)[0]


@pytest.mark.parametrize(("beam", "earned"), [(4, 3.0), (1, 1.0)], ids=["wide", "greedy"])
def test_beam_search_finds_the_best_of_all_plans(maze, beam, earned):
    """As wide as there are plans it finds the best; one that keeps a single plan believes the behaviour's value and does not."""
    log, algorithm, state = maze
    every = {plan: sum(PAYS[s, a][0] for s, a in zip((0, PAYS[0, plan[0]][1]), plan)) for plan in itertools.product((0, 1), repeat=2)}
    assert max(every.values()) == 3
    policy = log.policy(dataclasses.replace(algorithm, beam=beam).policy(state))
    assert follow(policy, lambda s, a, t: PAYS[int(s), int(a)], jnp.int32(0), 2) == earned


@pytest.mark.parametrize("algorithm", [DT, TT], ids=["dt", "tt"])
def test_a_saved_policy_is_evaluated_with_its_memory(algorithm, tmp_path):
    gymnasium = pytest.importorskip("gymnasium")

    class Walk(gymnasium.Env):
        observation_space, action_space = gymnasium.spaces.Box(-9, 9, (3,)), gymnasium.spaces.Box(-2, 4, (2,))

        def reset(self, *, seed=None, options=None):
            self.t = 0
            return np.zeros(3, np.float32), {}

        def step(self, action):
            self.t += 1
            return np.full(3, self.t, np.float32), float(action.sum()), self.t == 6, False, {}

    log = tiny(Box)
    policy = log.policy(algorithm.policy(jax.jit(algorithm.init)(algorithm.prepare(log), key=jax.random.key(0))))
    save_policy(tmp_path / "policy.safetensors", policy)
    back = load_policy(tmp_path / "policy.safetensors")
    seen = evaluate([policy, back], Walk, episodes=3, lanes=2)
    np.testing.assert_array_equal(seen.returns[0], seen.returns[1])
    alone = follow(policy, lambda s, a, t: (float(a.sum()), np.full(3, t + 1, np.float32)), np.zeros(3, np.float32), 6)
    np.testing.assert_allclose(seen.returns, alone, rtol=1e-4, atol=1e-4)
