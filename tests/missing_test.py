"""Rewards from comparisons, and actions from what was seen: both give back most of what was taken away."""

import dataclasses

import jax
import numpy as np
import pytest

import topstitch as ts
from topstitch import preferences, watching
from topstitch.core import Box, Discrete, MultiDiscrete
from topstitch.data import BadData, Episodes
from topstitch.loop import train, unstack
from topstitch.testing import tiny
from topstitch.worlds import maze, random_mdp, sample, table

REWARD = preferences.BradleyTerry(hidden=(), models=4, lr=0.02, weight_decay=0.0, batch_size=256, steps=600)
INVERSE = ts.BC(hidden=(), lr=0.1, batch_size=64, steps=300)


@pytest.fixture(scope="module")
def world():
    """Six states, three actions and rewards of actions; what is best depends on what follows."""
    return random_mdp(6, 3, branching=2, seed=3)


@pytest.fixture(scope="module")
def log(world):
    return sample(world, world.uniform(), 60, horizon=20, key=jax.random.key(0))


# comparisons ---------------------------------------------------------------------------------------------------------------


def test_stretches_stay_within_their_episode():
    log = tiny(Box)
    pairs = preferences.ask(log, 500, length=4)
    episode = np.repeat(np.arange(len(log)), log.lengths)
    for rows in pairs.rows():
        assert rows.shape == (500, 4) and (episode[rows] == episode[rows[:, :1]]).all()
        assert set(rows[:, 0].tolist()) == {start + i for start in log.starts for i in range(3)}
    with pytest.raises(BadData, match=r"there are 0 stretches of 7 steps.*longest episode has 6"):
        preferences.ask(log, 5, length=7)


def test_answers_of_somebody_who_knows_the_rewards():
    log = Episodes.of(np.zeros(4), np.zeros(4, int), [1, 2, 0, 3], [0, 0, 0, 1])
    pairs = preferences.Pairs(np.array([0, 1, 0]), np.array([2, 2, 0]), 2)
    assert preferences.judged(log, pairs).tolist() == [0.5, 0, 0.5]
    many = preferences.Pairs(np.full(20_000, 1), np.full(20_000, 0), 2)
    np.testing.assert_allclose(preferences.judged(log, many, noise=0.5).mean(), 1 / (1 + np.exp(2)), atol=0.01)


def test_many_comparisons_give_back_rewards_up_to_scale_and_shift(world, log):
    pairs = preferences.ask(log, 3000, length=3)
    model = preferences.fit(log, pairs, preferences.judged(log, pairs, noise=0.5), algorithm=REWARD)
    told = model.label(log, mean=0.25)
    assert np.corrcoef(told.reward, log.reward)[0, 1] > 0.99
    np.testing.assert_allclose([told.reward.mean(), told.reward.std()], [0.25, 1], atol=0.02)
    assert model.compared == 3000 and 0.75 < model.accuracy < 0.95
    assert "3,000 comparisons" in told.notes[-1] and told.view.reward is None
    # the scale is the model's own where answers err as it says
    gains = np.polyfit(log.reward, model.each(log).mean(axis=0), 1)[0]
    np.testing.assert_allclose(gains, 1 / 0.5, rtol=0.1)

    kept = {"true": log, "told": told, "none": dataclasses.replace(log, reward=np.zeros_like(log.reward))}
    worth = {name: value(world, one) for name, one in kept.items()}
    level = world.performance(world.uniform(), 0.9)
    assert worth["told"] - level > 0.9 * (worth["true"] - level) and worth["none"] - level < 0.5 * (worth["true"] - level), (worth, level)


def value(world, log) -> float:
    """The exact value of what tabular Q-learning makes of a log."""
    rule = ts.TabularQ(discount=0.9, steps=100)
    state = unstack(train([(rule, 0)], log, every=100).states, 1)[0]
    return world.performance(np.asarray(table(rule.policy(state), world)), 0.9)


def test_nothing_is_told_by_answers_of_a_coin(log):
    pairs = preferences.ask(log, 400, length=3)
    coin = np.random.default_rng(0).integers(2, size=400)
    few = dataclasses.replace(REWARD, steps=300)
    model = preferences.fit(log, pairs, coin, algorithm=few)
    assert abs(model.accuracy - 0.5) < 0.1
    with pytest.raises(BadData, match="one number from 0 to 1 for each pair"):
        preferences.fit(log, pairs, coin[:-1])
    with pytest.raises(BadData, match="Only 0 of 400 answers prefer"):
        preferences.fit(log, pairs, np.full(400, 0.5))
    with pytest.raises(BadData, match="was fitted on"):
        model.label(tiny(Box))


# actions -------------------------------------------------------------------------------------------------------------------


def seen(log: Episodes) -> Episodes:
    """The same log to somebody who did not write down what was done."""
    ends = np.isin(np.arange(log.steps), log.stops - 1)
    how = dict(ends=ends, next_obs=log.next_obs, mask=log.mask)
    return watching.watch(log, log.obs, log.reward, log.terminal, **{k: v for k, v in how.items() if v is not None})


def test_actions_in_a_maze_are_told_from_where_they_led():
    world = maze()
    shown = sample(world, world.uniform(), 100, horizon=8, key=jax.random.key(1))
    told = watching.label(seen(shown), shown, algorithm=INVERSE)
    moved = shown.obs != shown.next_obs  # against a wall every action that leads into it leads the same way
    assert (told.action == shown.action)[moved].mean() > 0.99
    assert not told.info["acted"].any() and "held-out ones it tells" in told.notes[-1]
    assert told.log_prob is None and (told.reward == shown.reward).all() and (told.stops == shown.stops).all()


def test_vectors_are_told_from_where_they_led():
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(800, 2)) * 3 + 5, rng.uniform(-2, 2, (800, 2))
    ends = np.arange(800) % 20 == 19
    log = Episodes.of(obs, action, np.zeros(800), ends, ends=ends, next_obs=obs + action @ [[1, 0.5], [0, 1]], low=-2, high=2)
    inverse = ts.BC(head="deterministic", hidden=(32,), lr=1e-2, batch_size=64, steps=800)
    told = watching.label(seen(log), log, algorithm=inverse)
    assert 1 - ((told.action - log.action) ** 2).mean() / log.action.var() > 0.95
    assert "Of the variance of 80 held-out ones it tells 9" in told.notes[-1]


def test_what_truly_ended_unseen_is_said_to_be_a_guess():
    log = tiny(Discrete)
    blind = dataclasses.replace(log, next_obs=np.where(log.terminal[:, None], log.obs, log.next_obs))
    told = watching.label(seen(blind), blind, algorithm=dataclasses.replace(INVERSE, steps=5))
    assert f"behind {log.terminal.sum()} of 48 steps" in told.notes[-1]
    with pytest.raises(BadData, match="expected the same spaces"):
        watching.label(tiny(Box), log)


@pytest.mark.parametrize("action", [Discrete, MultiDiscrete, Box])
def test_what_was_seen_stands_in_the_units_of_the_log(action):
    log = tiny(action, masks=action is not Box)
    one = seen(log)
    assert one.spec == log.spec and one.view is log.view and not one.info["acted"].any()
    with pytest.raises(BadData, match="what was seen is"):
        watching.watch(log, log.obs[:, :2], log.reward, log.terminal, next_obs=log.next_obs[:, :2], ends=~log.terminal | True)


def test_learning_from_what_was_seen_is_nearly_as_good_as_from_what_was_done(world, log):
    """Two hundred steps with actions, and a log of which only observations and rewards are known."""
    shown = log.take(np.arange(10))
    told = watching.label(seen(log), shown, algorithm=INVERSE)
    level, best = world.performance(world.uniform(), 0.9), value(world, log)
    blind = dataclasses.replace(log, action=np.zeros_like(log.action), log_prob=None)
    gain = [(value(world, one) - level) / (best - level) for one in (told, blind)]
    assert gain[0] > 0.7 and gain[1] < 0.5, gain
