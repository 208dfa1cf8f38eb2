"""Policies of other projects: their formulas written out in NumPy, damaged files, and what those we have are known to earn."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from topstitch.core import Box, Spec
from topstitch.disk import BadFile
from topstitch.evaluation import evaluate
from topstitch.nets.distributions import Normal, Tanh
from topstitch.store import load_policy, save_policy
from topstitch.supply import read_npz_policy

OBS, ACT, WIDTH = 5, 2, 7
DAPG = "dapg_out=mlp((o-in_shift)/(in_scale+1e-8))*out_scale+out_shift"


def arrays(kind: str, activation: str = "tanh") -> dict[str, np.ndarray]:
    """An untrained policy of a kind."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape)
    held = {"kind": np.array(kind), "activation": np.array(activation)}
    held |= {"W0": draw(WIDTH, OBS), "b0": draw(WIDTH), "W1": draw(WIDTH, WIDTH), "b1": draw(WIDTH)}
    head = {"W_mu": draw(ACT, WIDTH) / 3, "b_mu": draw(ACT) / 3}
    if kind == "squashed_gaussian":
        return held | head | {"W_log_std": draw(ACT, WIDTH), "b_log_std": draw(ACT)}
    if kind == "clipped_gaussian":
        seen = {"obs_mean": draw(OBS), "obs_var": draw(OBS) ** 2, "obs_eps": np.array(1e-8), "obs_clip": np.array(1.5)}
        return held | head | seen | {"log_std": draw(ACT)}
    if kind == "gaussian_xW":
        row = lambda x: x[None]
        seen = {"obs_mean": row(draw(OBS)), "obs_std": row(draw(OBS) ** 2), "log_std": row(draw(ACT))}
        return {name: x.T if name[0] == "W" else x if x.ndim == 0 else row(x) for name, x in (held | head).items()} | seen
    last = {"W2": draw(ACT, WIDTH) / 3, "b2": draw(ACT) / 3, "out_scale": draw(ACT), "out_shift": draw(ACT) / 3}
    return held | last | {"in_shift": draw(OBS), "in_scale": draw(OBS) ** 2, "log_std": draw(ACT)}


def formula(held: dict, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, log std) as the other projects compute them."""
    kind, act = str(held["kind"]), {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}[str(held["activation"])]
    if kind == "squashed_gaussian":
        h = obs
    elif kind == "clipped_gaussian":
        h = np.clip((obs - held["obs_mean"]) / np.sqrt(held["obs_var"] + held["obs_eps"]), -held["obs_clip"], held["obs_clip"])
    elif kind == "gaussian_xW":
        h = (obs - held["obs_mean"][0]) / (held["obs_std"][0] + 1e-6)
        held = {name: x.T if name[0] == "W" else x for name, x in held.items()}
    else:
        h = (obs - held["in_shift"]) / (held["in_scale"] + 1e-8)
    for i in range(2):
        h = act(held[f"W{i}"] @ h + held[f"b{i}"].reshape(-1))
    if kind == "squashed_gaussian":
        return held["W_mu"] @ h + held["b_mu"], np.clip(held["W_log_std"] @ h + held["b_log_std"], -20, 2)
    if "W_mu" in held:
        return held["W_mu"] @ h + held["b_mu"].reshape(-1), held["log_std"].reshape(-1)
    return (held["W2"] @ h + held["b2"]) * held["out_scale"] + held["out_shift"], held["log_std"]


KINDS = ["squashed_gaussian", "clipped_gaussian", "gaussian_xW", DAPG]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[:8])
def test_every_kind_is_its_formula(tmp_path, kind, activation):
    held = arrays(kind, activation)
    np.savez(tmp_path / "p.npz", **held)
    policy = read_npz_policy(tmp_path / "p.npz")
    assert policy.spec == Spec(Box(OBS), Box(ACT))
    for obs in np.random.default_rng(1).normal(size=(10, OBS)):
        said = policy(jnp.asarray(obs, jnp.float32))
        normal = said.base if isinstance(said, Tanh) else said
        assert isinstance(normal, Normal) and isinstance(said, Tanh) == (kind == "squashed_gaussian")
        mean, log_std = formula(held, obs)
        np.testing.assert_allclose(normal.mean, mean, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(normal.log_std, log_std, rtol=2e-5, atol=2e-5)
        greedy = np.tanh(mean) if isinstance(said, Tanh) else np.clip(mean, -1, 1)
        np.testing.assert_allclose(policy.act((), jnp.asarray(obs, jnp.float32), 0.0)[0], greedy, rtol=2e-5, atol=2e-5)
    many = policy(jnp.zeros((3, 2, OBS))).sample(jax.random.key(0))
    assert many.shape == (3, 2, ACT) and (abs(many) <= 1).all()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[:8])
def test_a_saved_copy_is_the_policy(tmp_path, kind):
    np.savez(tmp_path / "p.npz", **arrays(kind))
    policy = read_npz_policy(tmp_path / "p.npz")
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(policy))
    save_policy(tmp_path / "p.safetensors", policy)
    copy, obs = load_policy(tmp_path / "p.safetensors"), jnp.linspace(-1, 1, OBS)
    for key in (None, jax.random.key(0)):
        np.testing.assert_array_equal(copy.act((), obs, 0.0, key=key)[0], policy.act((), obs, 0.0, key=key)[0])


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("clipped_gaussian", {"kind": np.array("deep_thought")}, "'deep_thought' is not known"),
        ("clipped_gaussian", {"activation": np.array("sine")}, "'sine' is not known"),
        ("clipped_gaussian", {"kind": np.array(3)}, "'kind' must be one word"),
        ("clipped_gaussian", {"kind": None}, "no array 'kind'"),
        ("clipped_gaussian", {"W0": None}, "no array 'W0'"),
        ("clipped_gaussian", {"obs_var": None}, "no array 'obs_var'"),
        ("clipped_gaussian", {"obs_var": -np.ones(OBS)}, "column 0"),
        ("clipped_gaussian", {"obs_mean": np.zeros(OBS + 1)}, "'obs_mean' must hold 5 numbers"),
        ("clipped_gaussian", {"W1": np.zeros((WIDTH, WIDTH + 1))}, r"'W1' has shape \(7, 8\)"),
        ("clipped_gaussian", {"W1": np.zeros(WIDTH)}, r"'W1' has shape \(7,\)"),
        ("clipped_gaussian", {"W_mu": np.zeros((ACT + 1, WIDTH))}, "'W_mu'.* 7 inputs and 2 outputs"),
        ("clipped_gaussian", {"log_std": np.full(ACT, np.nan)}, "'log_std' must hold finite numbers"),
        ("clipped_gaussian", {"log_std": np.array(["a", "b"])}, "'log_std' must hold finite numbers"),
        ("clipped_gaussian", {"log_std": np.array([None, 1])}, "plain arrays"),
        ("squashed_gaussian", {"W_log_std": np.zeros((3, WIDTH)), "b_log_std": np.zeros(3)}, "b_log_std has 3"),
        (DAPG, {"out_scale": np.ones(3)}, "'out_scale' must hold 2 numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
def test_what_is_wrong_is_named(tmp_path, kind, change, said):
    held = {name: x for name, x in (arrays(kind) | change).items() if x is not None}
    np.savez(tmp_path / "p.npz", **held)
    with pytest.raises(BadFile, match=said):
        read_npz_policy(tmp_path / "p.npz")


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(BadFile, match="no file"):
        read_npz_policy(path)
    np.savez(path, **arrays("clipped_gaussian"))
    whole = path.read_bytes()
    for content in (b"", b"arrays", whole[:100], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(BadFile, match="cannot be read"):
            read_npz_policy(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(BadFile, match="cannot be read"):
        read_npz_policy(path)


@pytest.fixture(scope="module")
def supply() -> Path:
    folder = Path(os.environ.get("TOPSTITCH_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")) / "policies"
    if not folder.is_dir():
        pytest.skip(f"policies of other projects are not in {folder} (set TOPSTITCH_SHARED_DATA)")
    return folder


def test_all_that_we_have_can_be_read(supply):
    for path in sorted(supply.glob("*.npz")):
        policy = read_npz_policy(path)
        said = jax.eval_shape(policy, jax.ShapeDtypeStruct((policy.spec.obs.size,), jnp.float32))
        assert isinstance(said, Normal | Tanh)


@pytest.mark.parametrize(
    ("name", "env", "known"),
    [("berkeley_Hopper", "Hopper-v5", 3723), ("sb3_ppo_Hopper-v3", "Hopper-v5", 2438), ("sb3_sac_HalfCheetah-v3", "HalfCheetah-v5", 9446)],
)
def test_returns_are_those_that_were_measured(supply, tmp_path, monkeypatch, name, env, known):
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio", reason="gymnasium's MuJoCo environments import it")
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log where it runs
    seen = evaluate(read_npz_policy(supply / f"{name}.npz"), env, episodes=3, lanes=3)
    assert abs(seen.returns.mean() / known - 1) < 0.05
