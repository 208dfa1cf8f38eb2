"""Files: what was saved comes back, and whatever is not whole and ours is refused in words, without anything being run."""

import contextlib
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from small import SMALL, small

from topstitch import store, testing
from topstitch.algos import ALGORITHMS, find
from topstitch.core import Box, Discrete, Policy
from topstitch.disk import BadFile
from topstitch.loop import Progress, begin, line_up
from topstitch.runs import algorithm_of, fields_of
from topstitch.store import load_checkpoint, load_policy, save_checkpoint, save_policy

CASES = [(name, action) for name in ALGORITHMS for action in find(name).actions]
MANY = settings(deadline=None, database=None, max_examples=200, suppress_health_check=list(HealthCheck))


def maker(name: str, action: type):
    """A log, and what makes a policy for it out of a key; it is traced once, whether for shapes or for numbers."""
    algorithm = small(name)
    log = testing.tiny(action, obs=algorithm.observations[0])
    data = algorithm.prepare(log)
    return log, jax.jit(lambda key: log.policy(algorithm.policy(algorithm.init(data, key=key))))


def fresh_policy(name: str, action: type) -> Policy:
    return maker(name, action)[1](jax.random.key(0))


def of_each_structure() -> list[tuple]:
    """(name, log, what makes a policy) of algorithms and actions whose policies have different structures; most share theirs with others."""
    found = {}
    for name, action in CASES:
        log, make = maker(name, action)
        policy = jax.eval_shape(make, jax.random.key(0))
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(policy))
        found.setdefault((jax.tree.structure(policy), shapes), (f"{name}-{action.__name__}", log, make))
    return list(found.values())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_hyperparameters_come_back_from_a_configuration(name):
    algorithm = find(name)()
    line = json.dumps({"algorithm": name, "fields": fields_of(algorithm), "seed": 0}, allow_nan=False)
    assert algorithm_of(json.loads(line)) == algorithm


@jax.jit
def act(policy, obs):
    return policy.act(policy.start(), obs, 0.0)[0]


def answers(policy, log) -> np.ndarray:
    return np.stack([np.asarray(act(policy, o)) for o in jnp.asarray(log.obs[:3])])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file of a policy, and of a checkpoint of the same algorithm, as bytes."""
    folder = tmp_path_factory.mktemp("saved")
    save_policy(folder / "policy.safetensors", fresh_policy("td3bc", Box))
    runs, data = checkpoint_of()
    states = begin(*(lambda a, k: (a, data, k))(*line_up(runs)))
    save_checkpoint(folder / "checkpoint.safetensors", Progress(0, 3, states, jnp.ones(2, bool), (None, None)))
    return {kind: (folder / f"{kind}.safetensors").read_bytes() for kind in ("policy", "checkpoint")}


def checkpoint_of():
    algorithm = find("bc")(**SMALL)
    return [(algorithm, 0), (algorithm, 1)], algorithm.prepare(testing.tiny(Discrete))


def refused(path, content: bytes | None = None, load=load_policy, match: str = ".") -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile, match=match) as caught:
        load(path)
    text = str(caught.value)
    assert str(path) in text and text.endswith((".", "?")), text
    return text


def crafted(path, structure, arrays=None, kind="policy", **more):
    """A file with a valid checksum, by somebody who means harm."""
    store.write(path, kind, arrays or {}, {"structure": structure, "about": {}, **more})
    return path


# round trips ---------------------------------------------------------------------------------------------------------------


def test_policies_come_back_here_and_in_a_fresh_process(tmp_path):
    """Raw observations in, raw actions out, the same; without what trained them. One policy of each structure."""
    for name, log, make in of_each_structure():
        policy, path = make(jax.random.key(0)), tmp_path / f"{name}.safetensors"
        save_policy(path, policy, {"note": name})
        back = load_policy(path)
        assert jax.tree.structure(back) == jax.tree.structure(policy)
        testing.same(back, policy, "a policy")
        np.testing.assert_array_equal(answers(back, log), answers(policy, log))
        testing.legal(answers(policy, log), log)
        np.savez(path.with_suffix(".npz"), obs=log.obs[:3], said=answers(policy, log))
    script = """if True:
        import pathlib, sys
        import numpy as np
        import topstitch
        assert "jax" not in sys.modules
        import jax
        act = jax.jit(lambda policy, obs: policy.act(policy.start(), obs, 0.0)[0])
        for path in sorted(pathlib.Path(sys.argv[1]).glob("*.safetensors")):
            policy, seen = topstitch.load_policy(path), np.load(path.with_suffix(".npz"))
            for obs, said in zip(seen["obs"], seen["said"]):
                np.testing.assert_allclose(act(policy, obs), said, rtol=1e-5, atol=1e-6, err_msg=str(path))
        used = [name for name in sys.modules if name.startswith(("topstitch.runs", "topstitch.cli", "topstitch.listeners"))]
        assert not used, used
        print("fine")
    """
    out = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert out.stdout == "fine\n", out.stderr


def test_checkpoints_come_back(tmp_path, saved):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(saved["checkpoint"])
    runs, data = checkpoint_of()
    now = load_checkpoint(path, runs, data)
    assert (now.stage, now.step, now.faults) == (0, 3, (None, None))
    save_checkpoint(tmp_path / "again.safetensors", now)
    assert (tmp_path / "again.safetensors").read_bytes() == saved["checkpoint"]


def test_the_same_is_the_same_bytes(tmp_path, saved):
    """In any process: whoever compares files by their hashes is not misled."""
    for i in range(8):
        arrays, content = store.read(store_at(tmp_path / "a", saved["policy"]), "policy")
        store.write(tmp_path / "b", "policy", arrays, content)
        assert (tmp_path / "b").read_bytes() == saved["policy"], i


def store_at(path, content: bytes):
    path.write_bytes(content)
    return path


def test_a_folder_of_runs_is_its_first_policy(tmp_path, saved):
    refused(tmp_path, match="holds no policy")
    (tmp_path / "study.json").write_text("{}")
    refused(tmp_path, match="chose no policy; its page says why")
    (tmp_path / "policy").mkdir()
    for name in ("0", "10", "2"):
        (tmp_path / "policy" / f"{name}.safetensors").write_bytes(saved["policy"])
    assert isinstance(load_policy(tmp_path), Policy)


def test_what_cannot_be_found_again_is_not_saved(tmp_path):
    class Inner(Policy):
        def act(self, carry, obs, reward, *, mask=None, key=None):
            return 0, carry

    with pytest.raises(TypeError, match="top of its module"):
        save_policy(tmp_path / "policy.safetensors", Inner())
    assert not list(tmp_path.iterdir())


# damage --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["policy", "checkpoint"])
def test_a_file_cut_short_is_refused(tmp_path, saved, kind):
    whole = saved[kind]
    load = (lambda path: store.read(path, kind)) if kind == "checkpoint" else load_policy
    header = 8 + int.from_bytes(whole[:8], "little")
    for size in {0, 1, 7, 8, 9, header - 1, header, header + 1, len(whole) - 1, *range(0, len(whole), len(whole) // 40)}:
        refused(tmp_path / "cut.safetensors", whole[:size], load)
    refused(tmp_path / "cut.safetensors", whole + b"\0", load)


@pytest.mark.parametrize("kind", ["policy", "checkpoint"])
def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path, saved, kind):
    whole = saved[kind]
    header = 8 + int.from_bytes(whole[:8], "little")
    path = tmp_path / "flipped.safetensors"

    @MANY
    @given(st.one_of(st.integers(0, header - 1), st.integers(0, len(whole) - 1)), st.integers(0, 7))
    def flip(place, bit):
        bad = bytearray(whole)
        bad[place] ^= 1 << bit
        path.write_bytes(bad)
        with pytest.raises(BadFile):
            store.read(path, kind)

    flip()


@MANY
@given(content=st.binary(max_size=200))
def test_noise_is_refused(tmp_path_factory, content):
    refused(tmp_path_factory.getbasetemp() / "noise.safetensors", content)


FOREIGN = {
    "empty": b"",
    "text": b"episode,reward\n1,2\n",
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(200),
    "pickle": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
    "JSON": json.dumps({"structure": {}}).encode(),
    "a header that is longer than the file": (10**6).to_bytes(8, "little") + b"{}",
    "a header that is longer than any": (2**63).to_bytes(8, "little") + b"{}",
    "deep header": (200_008).to_bytes(8, "little") + b"[" * 100_004 + b"]" * 100_004,
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_files_are_refused(tmp_path, what):
    refused(tmp_path / "foreign", FOREIGN[what], match="damaged|topstitch")


def test_other_safetensors_are_refused(tmp_path):
    refused(tmp_path / "weights", save({"w": np.zeros(3)}), match="not one of topstitch's")
    refused(tmp_path / "weights", save({"w": np.zeros(3)}, metadata={"format": "pt"}), match="not one of topstitch's")
    refused(tmp_path / "weights", save({"w": np.zeros(3)}, metadata={"topstitch": "[" * 100_000}), match="cannot be read")
    refused(tmp_path / "weights", save({"w": np.zeros(3)}, metadata={"topstitch": "x" * 64}), match="not one of topstitch's")
    refused(tmp_path / "weights", save({"w": np.zeros(3)}, metadata={"topstitch": "x" * 64 + "3"}), match="not one of topstitch's")
    refused(tmp_path / "weights", save({"w": np.zeros(3)}, metadata={"topstitch": "x" * 64 + "{}"}), match="checksum")


def test_paths_that_are_no_files_are_refused(tmp_path):
    refused(tmp_path / "nothing", match="There is no file")
    refused(tmp_path, load=lambda path: store.read(path, "policy"), match="There is no file")


def test_one_kind_is_not_the_other(tmp_path, saved):
    runs, data = checkpoint_of()
    refused(tmp_path / "a", saved["checkpoint"], match="is a checkpoint; expected a policy")
    refused(tmp_path / "b", saved["policy"], lambda path: load_checkpoint(path, runs, data), match="is a policy; expected a checkpoint")


def test_checkpoints_of_something_else_are_refused(tmp_path, saved):
    runs, data = checkpoint_of()
    wrong = lambda runs, config="": lambda path: load_checkpoint(path, runs, data, config)
    refused(tmp_path / "c", saved["checkpoint"], wrong(runs, "other"), match="another configuration")
    refused(tmp_path / "c", saved["checkpoint"], wrong(runs[:1]), match="this algorithm and data need|runs")
    wider = find("bc")(**{**SMALL, "hidden": (9,)})
    refused(tmp_path / "c", saved["checkpoint"], wrong([(wider, 0), (wider, 1)]), match="this algorithm and data need")
    other = find("dqn")(**SMALL)
    refused(tmp_path / "c", saved["checkpoint"], wrong([(other, 0), (other, 1)]), match="another algorithm or version")
    arrays, content = store.read(tmp_path / "c", "checkpoint")
    for change in ({"stage": None}, {"step": "x"}, {"faults": [1, 2]}, {"faults": [None]}, {"faults": None}):
        store.write(tmp_path / "c", "checkpoint", arrays, {**content, **change})
        refused(tmp_path / "c", load=wrong(runs))
    for change in ({"alive": np.ones(3, bool)}, {"alive": np.ones(2)}):
        store.write(tmp_path / "c", "checkpoint", arrays | change, content)
        refused(tmp_path / "c", load=wrong(runs), match="runs")
    del arrays["alive"]
    store.write(tmp_path / "c", "checkpoint", arrays, content)
    refused(tmp_path / "c", load=wrong(runs))


# harm ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        "os:system", "subprocess:Popen", "builtins:eval", "builtins:exec", "pickle:loads", "os", "", ":", "os:path.join", "topstitch",
        "topstitch:__import__", "topstitch.store:os", "topstitch.store:Path", "topstitch.core:jax", "topstitch.cli:main",
        "topstitch.core:Policy.act", "topstitch..core:Policy", "topstitch.nothing:Policy", "topstitchy.core:Policy", ".core:Policy",
        "topstitch.core:Nothing", "topstitch.core:Policy", 3, None, ["os:system"],
    ],
)  # fmt: skip
def test_no_class_from_elsewhere_is_built(tmp_path, place):
    refused(crafted(tmp_path / "evil", {"module": place, "fields": {}}))
    refused(crafted(tmp_path / "evil", {"tuple": [{"module": place, "fields": {}}]}))


def test_nothing_is_imported_for_a_stranger(tmp_path, monkeypatch):
    """A module of policies is imported where the caller trusts its package, and not before."""
    text = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\nfrom topstitch.core import Policy\n"
    text += "class Still(Policy):\n    def act(self, carry, obs, reward, *, mask=None, key=None):\n        return 0, carry\n"
    (tmp_path / "stranger.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    path = crafted(tmp_path / "evil", {"module": "stranger:Still", "fields": {}})
    refused(path, match="not topstitch's")
    assert not (tmp_path / "stranger.ran").exists() and "stranger" not in sys.modules
    assert type(load_policy(path, trust=("stranger",))).__name__ == "Still"
    sys.modules.pop("stranger")


def test_a_policy_is_what_it_must_be(tmp_path, saved):
    path = tmp_path / "p"
    path.write_bytes(saved["policy"])
    arrays, content = store.read(path, "policy")
    whole = content["structure"]
    fields = whole["fields"]
    refused(crafted(path, {**whole, "fields": {**fields, "more": {"value": 1}}}, arrays), match="has the fields")
    refused(crafted(path, {**whole, "fields": {"inner": fields["inner"]}}, arrays), match="has the fields")
    refused(crafted(path, fields["view"], arrays), match="not a policy")
    refused(crafted(path, whole, {}), match="cannot build")
    refused(crafted(path, {"value": {"nested": 1}}), match="cannot build")
    deep = {"value": 1}
    for _ in range(300):
        deep = {"tuple": [deep]}
    refused(crafted(path, deep), match="not a policy|cannot build")
    assert isinstance(load_policy(crafted(path, whole, arrays)), Policy)


WORDS = ["module", "plain", "tuple", "array", "value", "fields", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=8,
)


@MANY
@given(structure=JSON, at=st.integers(0, 10_000))
def test_no_structure_does_more_than_be_refused(tmp_path_factory, saved, structure, at):
    """Any JSON for a structure, and any in the place of some part of a good one."""
    path = tmp_path_factory.getbasetemp() / "structure.safetensors"
    with pytest.raises(BadFile):
        load_policy(crafted(path, structure))
    path.write_bytes(saved["policy"])
    arrays, content = store.read(path, "policy")
    places = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(content["structure"])
    node, key = places[at % len(places)]
    node[key] = structure
    with contextlib.suppress(BadFile):
        assert isinstance(load_policy(crafted(path, content["structure"], arrays)), Policy)


# atomic writes -------------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The end of the process, as far as the code below it can tell."""


@pytest.mark.parametrize("moment", ["replace", "fsync"])
def test_a_crash_leaves_the_old_file_whole(tmp_path, monkeypatch, moment):
    path = tmp_path / "policy.safetensors"
    policy = fresh_policy("bc", Discrete)
    save_policy(path, policy, {"version": 1})
    before = path.read_bytes()

    def die(*_):
        raise Crash

    monkeypatch.setattr(os, moment, die)
    with pytest.raises(Crash):
        save_policy(path, policy, {"version": 2})
    with pytest.raises(Crash):
        save_policy(tmp_path / "new.safetensors", policy)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_killed_write_leaves_nothing_under_the_name(tmp_path):
    """The process ends at once, nobody cleans up: what is left behind has a name that nobody reads."""
    script = """if True:
        import os, sys
        from topstitch.disk import write_bytes
        os.replace = lambda *_: os._exit(9)
        write_bytes(sys.argv[1], b"half")
    """
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")]).returncode == 9
    assert [p.name.startswith(".file.") for p in tmp_path.iterdir()] == [True]
