"""Policies in environments that a person can follow."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from jaxtyping import Array, Float

from topstitch import evaluation
from topstitch.core import Box, Discrete, Markov, Policy
from topstitch.data import Episodes
from topstitch.evaluation import evaluate
from topstitch.nets.distributions import Categorical
from topstitch.testing import tiny


class World(gymnasium.Env):
    """Seed s has an episode of 1 + s % 5 steps. Observation: (seed, step). Reward: the action."""

    observation_space, action_space = spaces.Box(0, 1000, (2,)), spaces.Discrete(6)
    open = 0

    def __init__(self):
        World.open += 1

    def close(self):
        World.open -= 1

    def reset(self, *, seed=None, options=None):
        self.seed_, self.t = seed, 0
        return self.see(), self.info()

    def see(self):
        return np.array([self.seed_, self.t], np.float32)

    def info(self):
        return {}

    def step(self, action):
        assert isinstance(action, int) or action.shape == self.action_space.shape
        self.t += 1
        over = self.t == 1 + self.seed_ % 5
        return self.see(), float(np.sum(action)), over and self.seed_ % 2 == 0, over and self.seed_ % 2 == 1, self.info()


class Masked(World):
    """Only action step % 6 is legal; at the end of an episode nothing is said about it."""

    def info(self):
        return {"action_mask": np.arange(6) == self.t % 6} if self.t < 1 + self.seed_ % 5 else {}

    def step(self, action):
        assert action == self.t % 6
        return super().step(action)


class Succeeds(World):
    """Success is reported in the middle of an episode, and not again."""

    def info(self):
        return {"is_success": self.t == 2}


class Numbered(World):
    """Observation: the step, as a number."""

    observation_space = spaces.Discrete(6)

    def see(self):
        return self.t


class Steered(World):
    """Actions are 2 × 2 matrices."""

    action_space = spaces.Box(-10, 10, (2, 2))


class Constant(Policy):
    action: Float[Array, "..."] | int

    def act(self, carry, obs, reward, *, mask=None, key=None):
        return jnp.asarray(self.action), carry


class Counter(Policy):
    """Answers with the steps and the rewards of the episode so far."""

    def start(self):
        return jnp.int32(0), jnp.float32(0)

    def act(self, carry, obs, reward, *, mask=None, key=None):
        steps, earned = carry
        return steps, (steps + 1, earned + reward)


class Echo(Policy):
    """Answers with what the last action earned, plus one."""

    def act(self, carry, obs, reward, *, mask=None, key=None):
        return reward.astype(jnp.int32) + 1, carry


class Likes(Markov):
    logits: Float[Array, " 6"]

    def __call__(self, obs, mask=None):
        return Categorical(self.logits, mask)


class Looks(Policy):
    """Answers with the state, as a number."""

    def act(self, carry, obs, reward, *, mask=None, key=None):
        assert obs.dtype == jnp.int32 and obs.shape == ()
        return obs, carry


LIKES = Likes(jnp.arange(6.0) / 3)


@pytest.fixture(autouse=True)
def _all_closed():
    World.open = 0
    yield
    assert World.open == 0


def wanted(episodes: int, seed: int = 0) -> np.ndarray:
    return 1 + (seed + np.arange(episodes)) % 5


@pytest.mark.parametrize("lanes", [1, 3, 10, 100])
def test_every_episode_counts_once(lanes):
    """Side by side, short episodes end first; each seed is played once all the same."""
    seen = evaluate(Constant(2), World, episodes=17, seed=3, lanes=lanes)
    assert seen.lengths.tolist() == [wanted(17, 3).tolist()]
    assert seen.returns.tolist() == [(2.0 * wanted(17, 3)).tolist()]
    assert seen.success is None


@pytest.mark.parametrize("lanes", [1, 4])
def test_memory_begins_anew_with_every_episode(lanes):
    seen = evaluate(Counter(), World, episodes=12, lanes=lanes)
    n = wanted(12)
    np.testing.assert_array_equal(seen.returns[0], n * (n - 1) / 2)


def test_the_reward_of_the_last_action_is_told():
    seen = evaluate(Echo(), World, episodes=10, lanes=3)  # 1, 2, 3, ...: at the start of an episode it is 0
    n = wanted(10)
    np.testing.assert_array_equal(seen.returns[0], n * (n + 1) / 2)


def test_numbered_states():
    seen = evaluate(Looks(), Numbered, episodes=10, lanes=3)
    n = wanted(10)
    np.testing.assert_array_equal(seen.returns[0], n * (n - 1) / 2)


def test_actions_get_the_shape_of_the_space():
    seen = evaluate(Constant(jnp.array([1.0, 2.0, 3.0, 4.0])), Steered, episodes=4)
    np.testing.assert_array_equal(seen.returns[0], 10 * wanted(4))


@pytest.mark.parametrize("greedy", [True, False])
def test_masks_reach_the_policy(greedy):
    seen = evaluate([LIKES, LIKES], Masked, episodes=9, lanes=4, greedy=greedy)
    n = wanted(9)
    np.testing.assert_array_equal(seen.returns, np.stack([n * (n - 1) / 2] * 2))


def test_success_at_any_step_is_success():
    seen = evaluate(Constant(0), Succeeds, episodes=10)
    np.testing.assert_array_equal(seen.success[0], wanted(10) >= 2)


def test_the_seed_decides():
    how = dict(episodes=6, lanes=3, greedy=False)
    first = evaluate(LIKES, World, seed=1, **how)
    np.testing.assert_array_equal(evaluate(LIKES, World, seed=1, **how).returns, first.returns)
    assert (evaluate(LIKES, World, seed=6, **how).returns != first.returns).any()  # the same lengths, other actions
    greedy = evaluate(LIKES, World, episodes=6, seed=1)
    np.testing.assert_array_equal(greedy.returns[0], 5 * wanted(6, 1))


def test_all_policies_in_one_compiled_call():
    policies = [Likes((jnp.arange(6) == i).astype(jnp.float32)) for i in range(4)]
    before = evaluation.act._cache_size()
    seen = evaluate(policies, World, episodes=7, lanes=2)
    assert evaluation.act._cache_size() == before + 1
    np.testing.assert_array_equal(seen.returns, np.arange(4)[:, None] * wanted(7))
    evaluate(policies[::-1], World, episodes=9, lanes=2, seed=5)
    assert evaluation.act._cache_size() == before + 1


def test_progress_is_told():
    told = []
    evaluate([LIKES, LIKES], World, episodes=3, tell=lambda done, total: told.append((done, total)))
    assert told == [(i + 1, 6) for i in range(6)]


def test_environments_are_closed_when_something_fails():
    class Broken(World):
        def step(self, action):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        evaluate(LIKES, Broken)


def raw(action: type, size: int = 3, actions: int = 4, width: int = 2):
    """An untrained policy for raw observations of `size` numbers (0: numbered states)."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(20, size)) if size else rng.integers(6, size=20)
    done = rng.integers(actions, size=20) if action is Discrete else rng.uniform(-1, 1, (20, width))
    discrete = action is Discrete
    log = Episodes.of(
        obs, done, np.zeros(20), np.arange(20) % 5 == 4, states=None if size else 6, actions=actions if discrete else None,
        low=None if discrete else -1.0, high=None if discrete else 1.0,
    ).normalised()  # fmt: skip
    from topstitch import BC

    algorithm = BC(hidden=(8,), batch_size=4, steps=1)
    return log.policy(algorithm.policy(jax.jit(algorithm.init)(algorithm.prepare(log), key=jax.random.key(0))))


@pytest.mark.parametrize(
    ("policy", "world", "said"),
    [
        (lambda: raw(Discrete), World, "observations are vectors of 2, but the policy knows vectors of 3"),
        (lambda: raw(Discrete, 2), World, "actions are the numbers 0 to 5, but the policy knows the numbers 0 to 3"),
        (lambda: raw(Box, 2), World, "actions are the numbers 0 to 5, but the policy knows vectors of 2"),
        (lambda: raw(Box, 2), Steered, "actions are vectors of 4, but the policy knows vectors of 2"),
        (lambda: raw(Discrete, 0, 6), World, "observations are vectors of 2, but the policy knows the numbers 0 to 5"),
        (lambda: raw(Discrete, 2, 6), Numbered, "observations are the numbers 0 to 5, but the policy knows vectors of 2"),
    ],
)
def test_the_wrong_environment_is_refused(policy, world, said):
    with pytest.raises(ValueError, match=said):
        evaluate(policy(), world)


def test_spaces_beyond_vectors_and_numbers_are_refused():
    class Odd(World):
        observation_space = spaces.Text(3)

    class Shifted(World):
        action_space = spaces.Discrete(4, start=1)

    with pytest.raises(ValueError, match="observations are Text"):
        evaluate(raw(Discrete, 2), Odd)
    with pytest.raises(ValueError, match="actions are the numbers 1 to 4"):
        evaluate(raw(Discrete, 2), Shifted)


def test_numbers_that_make_no_sense_are_refused():
    for wrong in (dict(policies=[]), dict(episodes=0), dict(lanes=0)):
        with pytest.raises(ValueError, match="Nothing to evaluate"):
            evaluate(**{"policies": LIKES, "env": World, **wrong})


def test_a_registered_environment():
    policy = raw(Discrete, 4, 2)
    seen = evaluate([policy, policy], "CartPole-v1", episodes=3, seed=5)
    assert seen.returns.shape == (2, 3)
    np.testing.assert_array_equal(seen.returns, seen.lengths)  # one per step
    np.testing.assert_array_equal(seen.returns[0], seen.returns[1])
    alone = gymnasium.make("CartPole-v1")
    obs, _ = alone.reset(seed=6)
    total, over = 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = alone.step(int(policy.act((), obs, 0.0)[0]))
        total, over = total + reward, terminated or truncated
    assert seen.returns[0, 1] == total


def test_mujoco():
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio", reason="gymnasium's MuJoCo environments import it")
    seen = evaluate(raw(Box, 11, width=3), "Hopper-v5", episodes=2)
    assert np.isfinite(seen.returns).all() and (seen.lengths > 1).all()


def test_unknown_environments_are_named():
    with pytest.raises(ValueError, match="cannot make 'Cartpool-v1'"):
        evaluate(LIKES, "Cartpool-v1")


def test_a_saved_policy_acts_as_it_did(tmp_path):
    from topstitch.store import load_policy, save_policy

    policy = raw(Discrete, 2, 6)
    save_policy(tmp_path / "p", policy)
    np.testing.assert_array_equal(evaluate(load_policy(tmp_path / "p"), World).returns, evaluate(policy, World).returns)


# watching -----------------------------------------------------------------------------------------------------------------


def watched(policy, world=World, greedy=False, episodes=6):
    steps = []
    worlds = [[world() for _ in range(3)]]
    evaluation.play([policy], worlds, episodes, 0, greedy, watch=steps.append)
    [world.close() for world in worlds[0]]
    return steps


def test_whoever_watches_is_told_every_step_in_the_order_of_its_episode():
    steps = watched(LIKES)
    for episode in range(6):
        mine = [step for step in steps if step.episode == episode]
        assert [tuple(step.obs) for step in mine] == [(episode, t) for t in range(1 + episode % 5)]
        assert [tuple(step.next_obs) for step in mine] == [(episode, t + 1) for t in range(1 + episode % 5)]
        assert [step.terminated or step.truncated for step in mine] == [False] * (len(mine) - 1) + [True]
        assert mine[-1].terminated == (episode % 2 == 0)
        assert all(step.reward == step.action for step in mine)


def test_the_log_probability_is_that_of_the_action():
    known = Categorical(LIKES.logits).logits
    for step in watched(LIKES):
        assert step.log_prob == pytest.approx(float(known[step.action]), abs=1e-6)
    assert {step.log_prob for step in watched(LIKES, greedy=True)} == {0.0}
    assert all(np.isnan(step.log_prob) for step in watched(Echo()))  # a policy with memory has none


def test_masks_are_told():
    for step in watched(LIKES, Masked):
        assert step.mask[step.action] and step.log_prob == pytest.approx(0, abs=1e-6)


# during training ----------------------------------------------------------------------------------------------------------


def curve(tmp_path, out, **how):
    from topstitch import BC, train

    log = tiny(Discrete)
    algorithms = [BC(steps=30, hidden=(4,), batch_size=8)]
    watch = evaluation.Evaluations(
        [(algorithms[0], seed) for seed in range(2)], log, Matching, every=10, episodes=4, path=tmp_path / "e.jsonl"
    )
    return train(algorithms, log, seeds=2, out=tmp_path / out, every=10, listeners=[watch], **how), watch


class Matching(World):
    observation_space, action_space = spaces.Box(0, 1000, (3,)), spaces.Discrete(4)

    def see(self):
        return np.array([self.seed_, self.t, 1], np.float32)


def test_training_is_watched_in_an_environment(tmp_path):
    runs, watch = curve(tmp_path, "a")
    assert [point["step"] for point in watch.points] == [10, 20, 30]
    final = evaluate([run.policy for run in runs], Matching, episodes=4)
    np.testing.assert_array_equal(watch.points[-1]["returns"], final.returns)
    assert evaluation.read_lines(tmp_path / "e.jsonl") == watch.points
    last, best = evaluation.last_and_best(watch.points)
    np.testing.assert_array_equal(last, final.returns.mean(axis=1))
    assert (best >= last).all()


def test_last_and_best_by_hand():
    points = [{"returns": [[1, 3], [0, 0]]}, {"returns": [[5, 7], [4, 2]]}, {"returns": [[2, 2], [9, 1]]}]
    last, best = evaluation.last_and_best(points)
    assert last.tolist() == [2, 5] and best.tolist() == [6, 5]
    last, best = evaluation.last_and_best(points, lambda returns: 10 * returns)
    assert last.tolist() == [20, 50]


class Drawn(World):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def render(self):
        return np.full((4, 6, 3), 40 * self.t, np.uint8)


def test_a_film(tmp_path):
    from PIL import Image

    gymnasium.register("Drawn-v0", Drawn)
    assert evaluation.film(raw(Discrete, 2, 6), "Drawn-v0", tmp_path / "film.gif", seed=2) == 3
    assert evaluation.film(raw(Discrete, 2, 6), "Drawn-v0", tmp_path / "short.gif", seed=4, frames=2) == 2
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.size) == (3, (6, 4))
    gymnasium.register("Silent-v0", lambda render_mode=None: World())
    with pytest.raises(ValueError, match="'Silent-v0' could not be drawn, so there is no film"):
        evaluation.film(raw(Discrete, 2, 6), "Silent-v0", tmp_path / "none.gif")


def test_observations_of_several_parts_lie_side_by_side():
    gymnasium.register("Parts-v0", lambda: Parts())
    world = evaluation.gym_maker("Parts-v0")()
    assert world.observation_space.shape == (3,)
    np.testing.assert_array_equal(world.reset()[0], [1, 5, 6])
    world.close()


class Parts(World):
    observation_space = spaces.Dict({"b": spaces.Box(0, 10, (2,)), "a": spaces.Box(0, 10, (1,))})

    def see(self):
        return {"b": np.array([5, 6], np.float32), "a": np.array([1], np.float32)}
