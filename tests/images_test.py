"""Observations that are pictures: nets, logs, files, environments, and learning from them."""

import dataclasses

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small

import topstitch as ts
from topstitch import nets, testing
from topstitch.algos import ALGORITHMS, find
from topstitch.core import Box, Discrete, Image, Spec
from topstitch.data.episodes import BadData
from topstitch.data.formats.log import read_log, write_log
from topstitch.data.write import write
from topstitch.nets.encoder import LAYERS
from topstitch.online import Acting

FIT = [name for name in ALGORITHMS if Image in find(name).observations and Discrete in find(name).actions]


def pictures(*shape, most=255, seed=0):
    return np.random.default_rng(seed).integers(most + 1, size=shape, dtype=np.uint8)


def lamps(n: int, seed: int = 0):
    """Noise, and a bright lamp in the upper or the lower half: (pictures, which)."""
    rng = np.random.default_rng(seed)
    shown, which = pictures(n, 6, 6, 1, most=100, seed=seed), rng.integers(2, size=n)
    shown[np.arange(n), rng.integers(3, size=n) + 3 * which, rng.integers(6, size=n)] = 255
    return shown, which


class Lamps(gymnasium.Env):
    """Say where the lamp is, five times."""

    observation_space = gymnasium.spaces.Box(0, 255, (6, 6, 1), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.shown, self.which = lamps(6, seed or 0)
        self.at = 0
        return self.shown[0], {}

    def step(self, action):
        right, self.at = float(action == self.which[self.at]), self.at + 1
        return self.shown[self.at], right, self.at == 5, False, {}


gymnasium.register("Lamps-v0", entry_point=Lamps)


# nets ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "bound"), [((37, 40, 2), 36), ((17, 16, 3), 16), ((5, 6, 2), 3)])
def test_the_net_is_the_convolutions_of_its_paper(shape, bound):
    """Against XLA's own convolution, layer by layer."""
    layers = dict(LAYERS)[bound]
    net = jax.jit(lambda key: nets.reader(Image(*shape), (7,), 4, key=key))(jax.random.key(0))
    net = eqx.tree_at(lambda net: [c.layer.bias for c in net.convolutions], net, replace_fn=lambda bias: bias + 0.1)
    seen = jnp.asarray(pictures(2, *shape))

    def expected(net):
        x = seen.astype(jnp.float32) / 255
        for convolution, (channels, side, stride) in zip(net.convolutions, layers, strict=True):
            weight = convolution.layer.weight.reshape(side, side, x.shape[-1], channels)
            x = jax.lax.conv_general_dilated(x, weight, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x + convolution.layer.bias[None, None, None])
        return net.head(x.reshape(len(x), -1))

    np.testing.assert_allclose(jax.jit(lambda net: net(seen))(net), jax.jit(expected)(net), rtol=1e-4, atol=1e-5)


def test_pictures_may_have_any_leading_axes():
    spec = Spec(Image(5, 6, 2), Box(3))
    q, seen, done = nets.q_value(spec, (8,), key=jax.random.key(0)), jnp.asarray(pictures(2, 4, 5, 6, 2)), jnp.ones((2, 4, 3))
    said = q(seen, done)
    assert said.shape == (2, 4)
    np.testing.assert_allclose(q(seen[1, 2], done[1, 2]), said[1, 2], rtol=1e-5)
    assert not np.allclose(q(seen, -done), said)  # the action is heard


def test_flags_are_not_squashed_to_a_255th():
    flags = pictures(6, 5, 5, 3, most=1)
    dim, bright = ({"peak": 1}, flags), ({"peak": 255}, flags * np.uint8(255))
    said = [nets.reader(Image(5, 5, 3, **how), (8,), 2, key=jax.random.key(0))(jnp.asarray(seen)) for how, seen in (dim, bright)]
    np.testing.assert_array_equal(*said)


def test_pictures_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="at least"):
        nets.reader(Image(2, 9, 1), (8,), 2, key=jax.random.key(0))


# logs ----------------------------------------------------------------------------------------------------------------------


def log_of(seen, **how):
    n = len(seen)
    return ts.Episodes.of(seen, np.arange(n) % 3, np.arange(n), np.arange(n) % 4 == 3, **how)


def test_a_log_of_pictures_stays_in_bytes():
    log = log_of(pictures(8, 5, 6, 2)).normalised(reward="standard")
    rows = log.transitions().all
    assert log.spec.obs == Image(5, 6, 2, 255) and log.view.obs is None
    assert rows.obs.dtype == rows.next_obs.dtype == jnp.uint8 and rows.obs.shape == (8, 5, 6, 2)
    np.testing.assert_array_equal(rows.obs, log.obs)


@pytest.mark.parametrize(("seen", "peak"), [
    (pictures(8, 5, 6, 2, most=1), 1), (pictures(8, 5, 6, 2, most=1).astype(bool), 1), (pictures(8, 5, 6, 2, most=2), 255),
])  # fmt: skip
def test_the_peak_is_fitted_or_told(seen, peak):
    assert log_of(seen).spec.obs.peak == peak
    assert log_of(seen, peak=200).spec.obs.peak == 200 and log_of(seen).obs.dtype == np.uint8


def test_pictures_that_cannot_be_meant_are_refused():
    with pytest.raises(BadData, match="channels seem to come first"):
        log_of(pictures(8, 4, 84, 84))
    with pytest.raises(BadData, match="hold whole numbers up to 100, but there is a"):
        log_of(pictures(8, 5, 6, 2), peak=100)
    with pytest.raises(BadData, match="stretches of steps"):
        log_of(pictures(8, 5, 6, 2)).windows(3)


def test_methods_that_are_not_for_pictures_name_those_that_are():
    with pytest.raises(ValueError, match=r"LSPI is defined for Box or Discrete observations.*Image") as refused:
        ts.train(small("lspi"), log_of(pictures(8, 5, 6, 2)))
    assert {"bc", "dqn", "iql", "rem"} < set(FIT) and str(refused.value).endswith(f"Algorithms that fit: {', '.join(FIT)}.")


# files ---------------------------------------------------------------------------------------------------------------------


def alike(a, b):
    assert a.spec == b.spec and a.steps == b.steps
    for name, column in a.columns().items():
        np.testing.assert_array_equal(column, b.columns()[name], err_msg=name)


def test_files_give_pictures_back(tmp_path):
    log = log_of(pictures(8, 5, 6, 2, most=1))
    write_log(tmp_path / "a.log.safetensors", log)
    alike(read_log(tmp_path / "a.log.safetensors"), log)
    pytest.importorskip("minari")
    whole = dataclasses.replace(log, next_obs=np.concatenate([log.obs[1:], log.obs[:1]]))
    write(whole, tmp_path / "set")
    alike(ts.read(tmp_path / "set"), whole)
    with pytest.raises(BadData, match="no place for pictures"):
        write(log, tmp_path / "a.parquet")


def test_ogbenchs_files_hold_pictures(tmp_path):
    seen, ends = pictures(10, 6, 5, 3), np.arange(10) % 5 == 4
    np.savez(tmp_path / "a.npz", observations=seen, actions=np.arange(10) % 4, terminals=ends)
    log = ts.read(tmp_path / "a.npz")
    assert log.spec == Spec(Image(6, 5, 3), Discrete(4))
    np.testing.assert_array_equal(log.next_obs, seen[1:][~ends[:-1]])


# learning and acting -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned():
    seen, which = lamps(600)
    done = np.random.default_rng(1).integers(2, size=600)
    log = ts.Episodes.of(seen, done, done == which, np.ones(600, bool), actions=2)
    kinds = small("discrete_cql", hidden=(32,), batch_size=64, steps=300, lr=3e-3, alpha=0.01)
    return ts.train(kinds, log)[0].policy


def test_where_the_lamp_is_can_be_learned(learned, tmp_path):
    seen, which = lamps(200, seed=9)
    assert (np.asarray(learned(jnp.asarray(seen)).mode()) == which).mean() > 0.9
    ts.save_policy(tmp_path / "p.safetensors", learned)
    back = ts.load_policy(tmp_path / "p.safetensors")
    np.testing.assert_array_equal(back(jnp.asarray(seen)).logits, learned(jnp.asarray(seen)).logits)


def test_policies_act_and_are_logged_in_pictures(learned):
    assert ts.evaluate(learned, "Lamps-v0", episodes=6, lanes=2).returns.mean() > 4
    log = ts.collect(learned, "Lamps-v0", steps=12, lanes=2, greedy=True)
    assert log.spec == Spec(Image(6, 6, 1), Discrete(2)) and log.obs.dtype == np.uint8
    np.testing.assert_array_equal(log.obs[:5], lamps(6, 0)[0][:5])
    np.testing.assert_array_equal(log.next_obs[:5], lamps(6, 0)[0][1:])
    log = testing.tiny(Discrete, obs=Image)
    other = log.policy(nets.Categories(log.spec, (8,), key=jax.random.key(0)))
    with pytest.raises(ValueError, match="observations are pictures of 6 × 6 × 1, but the policy knows pictures of 5 × 6 × 2"):
        ts.evaluate(other, "Lamps-v0")


def test_learning_by_acting_sees_pictures():
    acting = Acting(warmup=10, block=5)
    runs = ts.train_online(small("dqn", steps=10), "Lamps-v0", acting=acting)
    assert runs[0].fault is None and runs[0].policy.spec.obs == Image(6, 6, 1)
    with pytest.raises(ValueError, match="LSPI is defined for Box or Discrete observations"):
        ts.train_online(small("lspi"), "Lamps-v0")


# MinAtar -------------------------------------------------------------------------------------------------------------------


def test_minatars_breakout(tmp_path):
    """Its episodes depend on nothing but their seeds, and the scripted player is far better than chance."""
    pytest.importorskip("minatar")
    from topstitch.bench.minatar import BreakoutPlayer, environment
    from topstitch.bench.tasks import Place, find

    make = environment("Breakout")
    returns = ts.evaluate(BreakoutPlayer(), make, episodes=6, lanes=3).returns
    np.testing.assert_array_equal(returns, ts.evaluate(BreakoutPlayer(), make, episodes=6, lanes=6).returns)
    assert returns.mean() > 5
    task, place = find("minatar-breakout-random@50"), Place(cache=tmp_path, sources=None)
    log = task.read(place)
    assert log.fingerprint() == task.read(place).fingerprint() and log.steps == 50
    assert log.spec == Spec(Image(10, 10, 4, peak=1), Discrete(3))
    assert log.returns().mean() < 2
