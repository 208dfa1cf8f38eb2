"""Several choices at once: distributions, logs, files, environments, and learning from them."""

import itertools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small

import topstitch as ts
from topstitch import testing
from topstitch.collection import Behaviour
from topstitch.core import Box, Discrete, Image, MultiDiscrete, Spec
from topstitch.data.episodes import BadData
from topstitch.data.formats.log import read_log, write_log
from topstitch.data.write import write
from topstitch.loop import train
from topstitch.nets import Categorical, Choices, MultiDiscreteQ, stochastic, vector

SIZES = (3, 1, 4)
EVERY = jnp.array(list(itertools.product(*map(range, SIZES))), jnp.int32)
"All actions."
COLUMNS = np.array([0, 3, 4])
"Of a mask, where each choice begins."


def said(mask=None, rows: int = 1):
    return Choices(jax.random.normal(jax.random.key(0), (rows, 8)), SIZES, mask)


# distributions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_choices_are_a_distribution_over_all_actions(masked):
    mask = jnp.array([[True, False, True, True, False, True, True, False]]) if masked else None
    actions = said(mask)
    log_prob = np.array([actions.log_prob(action[None])[0] for action in EVERY], np.float64)
    p = np.exp(log_prob)
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert float(actions.entropy()[0]) == pytest.approx(-sum(p[p > 0] * log_prob[p > 0]), abs=1e-4)
    assert actions.mode()[0].tolist() == EVERY[p.argmax()].tolist()
    for j, size in enumerate(SIZES):  # the marginals
        for member in range(size):
            assert float(actions.probs()[0, COLUMNS[j] + member]) == pytest.approx(p[np.asarray(EVERY)[:, j] == member].sum(), abs=1e-5)
    if masked:
        legal = np.asarray(mask)[0][np.asarray(EVERY) + COLUMNS].all(axis=1)
        assert (p[~legal] == 0).all() and (p[legal] > 0).all()


def test_samples_follow_the_probabilities():
    n = 20_000
    drawn = np.asarray(said(rows=1).sample(jax.random.key(1)))
    many = jax.jit(jax.vmap(lambda key: said(rows=1).sample(key)[0]))(jax.random.split(jax.random.key(2), n))
    assert drawn.shape == (1, 3) and drawn.dtype == np.int32
    share = np.array([(np.asarray(many) == np.asarray(action)).all(axis=1).mean() for action in EVERY])
    p = np.exp([float(said().log_prob(action[None])[0]) for action in EVERY])
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / n)).all()  # of the pairs, not of the parts alone: they are independent


def test_a_single_choice_is_a_categorical():
    logits, mask, key = jax.random.normal(jax.random.key(0), (50, 4)), jnp.arange(4)[None] < jnp.full((50, 1), 3), jax.random.key(1)
    one, same = Choices(logits, (4,), mask), Categorical(logits, mask)
    np.testing.assert_array_equal(one.logits, same.logits)
    np.testing.assert_array_equal(one.sample(key)[:, 0], same.sample(key))
    np.testing.assert_array_equal(one.mode()[:, 0], same.mode())
    np.testing.assert_array_equal(one.log_prob(same.mode()[:, None]), same.log_prob(same.mode()))


def test_imitation_of_a_single_choice_is_imitation_of_a_discrete_action():
    log = testing.tiny(Discrete)
    alone = ts.Episodes.of(log.obs, log.action[:, None], log.reward, log.terminal, ends=np.isin(np.arange(log.steps), log.stops - 1),
                           next_obs=log.next_obs, actions=(4,)).viewed(log.view)  # fmt: skip
    assert alone.spec.action == MultiDiscrete((4,))
    states = [train([(small("bc"), 0)], data, every=7).states for data in (log, alone)]
    for x, y in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(x, y)


def test_actions_enter_a_critic_one_hot():
    space = MultiDiscrete(SIZES)
    assert vector(jnp.array([2, 0, 1]), space).tolist() == [0, 0, 1, 1, 0, 1, 0, 0]
    q, obs = MultiDiscreteQ(Spec(Box(2), space), (8,), key=jax.random.key(0)), jnp.ones((len(EVERY), 2))
    assert len(np.unique(q(obs, EVERY))) == len(EVERY)


# logs ----------------------------------------------------------------------------------------------------------------------


def test_integers_in_several_columns_are_several_choices():
    done = np.array([[0, 2], [1, 0], [0, 1]])
    log = ts.Episodes.of(np.zeros((3, 2)), done, np.zeros(3), np.ones(3, bool))
    assert log.spec.action == MultiDiscrete((2, 3)) and log.action.dtype == np.int32 and log.view.action is None
    assert ts.Episodes.of(np.zeros((3, 2)), done, np.zeros(3), np.ones(3, bool), actions=(5, 3)).spec.action.sizes == (5, 3)
    assert ts.Episodes.of(np.zeros((3, 2)), done / 2, np.zeros(3), np.ones(3, bool)).spec.action == Box(2)


@pytest.mark.parametrize(("change", "why"), [
    (dict(actions=(2, 2)), r"action \[0 2\] in row 0 is outside the declared set 0 … 1, 0 … 1"),
    (dict(actions=(2, 3, 2)), "3 choices at once must be as many integers"),
    (dict(action=np.array([[0, 2], [1, -1], [0, 1]])), "integers from 0 a row"),
    (dict(mask=np.ones((3, 4), bool)), r"expected one column for each of 5 actions"),
    (dict(mask=np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])), "forbids every action in row 1"),
    (dict(mask=np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 1]])), "taken in row 2, where its mask forbids it"),
])  # fmt: skip
def test_wrong_choices_are_refused(change, why):
    given = dict(action=np.array([[0, 2], [1, 0], [0, 1]])) | change
    with pytest.raises(BadData, match=why):
        ts.Episodes.of(np.zeros((3, 2)), given.pop("action"), np.zeros(3), np.ones(3, bool), **given)


def test_what_values_every_action_is_refused_by_name():
    with pytest.raises(ValueError, match=r"DQN is defined for Discrete actions.*Algorithms that fit: bc, .*iql, awac, "):
        ts.train(small("dqn"), testing.tiny(MultiDiscrete))
    assert stochastic(Spec(Image(5, 6, 2), MultiDiscrete((2, 3))), (8,), key=jax.random.key(0)).space.size == 5


def test_what_has_another_form_for_such_actions_names_it():
    with pytest.raises(ValueError, match=r"CQL is defined for Box actions.*There its form is discrete_cql\."):
        ts.train(small("cql"), testing.tiny(Discrete))


def alike(a, b):
    assert a.spec == b.spec and a.steps == b.steps
    for name, column in a.columns().items():
        np.testing.assert_allclose(column, b.columns()[name], rtol=1e-6, err_msg=name)


def test_files_give_choices_back(tmp_path):
    log = testing.tiny(MultiDiscrete, kind="all_terminal", masks=True)
    write_log(tmp_path / "a.log.safetensors", log)
    alike(read_log(tmp_path / "a.log.safetensors"), log)
    roles = write(log, tmp_path / "a.parquet")
    back = ts.read(tmp_path / "a.parquet", **roles)
    assert roles["actions"] == [4, 3] and back.spec == log.spec
    for name in ("obs", "action", "mask"):
        np.testing.assert_array_equal(getattr(back, name), getattr(log, name))
    del roles["actions"], roles["mask"]
    assert ts.read(tmp_path / "a.parquet", **roles).spec.action == MultiDiscrete((4, 3))
    assert ts.read(tmp_path / "a.parquet", **roles, low=0, high=3).spec.action == Box(2)
    with pytest.raises(BadData, match="expected action 0 … 1"):
        ts.read(tmp_path / "a.parquet", **roles, actions=[2, 3])
    pytest.importorskip("minari")
    write(log, tmp_path / "set")
    alike(ts.read(tmp_path / "set"), log)


# acting --------------------------------------------------------------------------------------------------------------------


class Locks(gymnasium.Env):
    """Two dials to be set right at once; some positions are blocked at times."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([4, 3])
    mask = np.array([1, 1, 1, 0, 1, 1, 1], bool)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(2, np.float32), {"action_mask": self.mask}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, np.int64)) and action[0] < 3
        self.t += 1
        return np.zeros(2, np.float32), float(action[0] == 1 and action[1] == 2), self.t == 3, False, {"action_mask": self.mask}


def test_random_actions_know_their_probability():
    log = ts.collect("random", Locks, steps=30, lanes=2)
    assert log.spec == Spec(Box(2), MultiDiscrete((4, 3))) and log.mask.shape == (30, 7)
    np.testing.assert_allclose(log.log_prob, -np.log(9), rtol=1e-5)
    policy = testing.tiny(MultiDiscrete).policy(stochastic(Spec(Box(3), MultiDiscrete((4, 3))), (8,), key=jax.random.key(0)))
    with pytest.raises(ValueError, match="observations are vectors of 2, but the policy knows vectors of 3"):
        ts.evaluate(policy, Locks)


@pytest.mark.parametrize("greedy", [False, True])
def test_erring_is_still_a_distribution(greedy):
    spec = Spec(Box(2), MultiDiscrete(SIZES))
    acting = Behaviour(stochastic(spec, (8,), key=jax.random.key(0)), spec, level=0.7, greedy=greedy)
    actions = acting(jnp.ones((len(EVERY), 2)))
    p = np.exp(np.asarray(actions.log_prob(EVERY), np.float64))
    assert p.sum() == pytest.approx(1, abs=1e-5)
    if greedy:
        np.testing.assert_allclose(np.sort(p), [0.3 / 12] * 11 + [0.7 + 0.3 / 12], rtol=1e-4)
    drawn, log_prob = actions.sample_and_log_prob(jax.random.key(1))
    np.testing.assert_allclose(log_prob, actions.log_prob(drawn), rtol=1e-5)


@pytest.mark.parametrize(("name", "probe"), [("iql", "context"), ("awac", "stitch"), ("bc", "bait")])
def test_what_is_right_can_be_learned(name, probe):
    how = dict(discount=0.9, target_rate=0.05) if name != "bc" else {}
    algorithm = small(name, hidden=(32, 32), batch_size=64, steps=400, lr=3e-3, **how)
    assert testing.probe(algorithm, probe, MultiDiscrete, seeds=2) == 1
