"""Training that is stopped in any way, and taken up again, ends where it would have ended: to the bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import topstitch
from topstitch import store, testing
from topstitch.algos import find
from topstitch.core import Box
from topstitch.disk import BadFile
from topstitch.listeners import checkpoints
from topstitch.runs import load_runs, resume, train

SMALL = find("td3bc")(hidden=(8,), batch_size=8, steps=10)
HOW = dict(seeds=2, every=2, checkpoint_seconds=0.0, keep=3)


@pytest.fixture(scope="module")
def log():
    return testing.tiny(Box)


@pytest.fixture(scope="module")
def whole(log, tmp_path_factory):
    """A folder of runs that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "runs"
    train([SMALL], log, out=folder, **HOW)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Stop(Exception):
    pass


def stop_after(step: int, error=Stop):
    def listen(now, metrics):
        if now.step == step:
            raise error

    return listen


def interrupted(folder: Path, log, step: int = 6, error=Stop, **how) -> Path:
    with pytest.raises(error):
        train([SMALL], log, out=folder, listeners=[stop_after(step, error)], **{**HOW, **how})
    assert not (folder / "finished.json").exists()
    return folder


# in process ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_what_was_stopped_goes_on(tmp_path, log, whole, error, seconds):
    """Also where no checkpoint was due: what was learned when the interruption came is written before it is passed on."""
    folder = interrupted(tmp_path / "runs", log, 6, error, checkpoint_seconds=seconds)
    assert checkpoints(folder / "checkpoints")[-1].stem == "0-0000000006"
    train([SMALL], log, out=folder, resume=True, **HOW)
    left = {name: content for name, content in contents(folder).items() if not name.startswith("checkpoints")}
    assert left == {name: content for name, content in contents(whole).items() if not name.startswith("checkpoints")}


def test_other_chunks_do_not_matter(tmp_path, log, whole):
    folder = interrupted(tmp_path / "runs", log)
    train([SMALL], log, out=folder, resume=True, **{**HOW, "every": 3})
    assert contents(folder / "policy") == contents(whole / "policy")


def test_resume_needs_only_the_folder_and_the_data(tmp_path, log, whole):
    folder = interrupted(tmp_path / "runs", log)
    resume(folder, log, every=2)
    assert contents(folder / "policy") == contents(whole / "policy")
    assert (folder / "finished.json").read_bytes() == (whole / "finished.json").read_bytes()


def test_the_newest_checkpoints_are_kept(whole):
    assert [path.stem for path in checkpoints(whole / "checkpoints")] == ["0-0000000006", "0-0000000008", "0-0000000010"]


def test_metrics_are_the_last_ones(whole):
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [(row["run"], row["step"]) for row in rows] == [(run, step) for step in (2, 4, 6, 8, 10) for run in (0, 1)]
    for run in load_runs(whole):
        last = rows[-2 + run.seed]
        assert run.metrics == {name: last[name] for name in run.metrics} and len(run.metrics) == len(last) - 3


def test_a_finished_run_is_left_alone(tmp_path, log, whole):
    before = contents(whole)
    times = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    runs = train([SMALL], log, out=whole, resume=True, **HOW)
    assert contents(whole) == before and {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == times
    for run, other in zip(runs, load_runs(whole), strict=True):
        assert (run.seed, run.metrics, run.algorithm) == (other.seed, other.metrics, other.algorithm)


def test_a_lost_policy_is_made_again(tmp_path, log, whole, capsys):
    folder = Path(shutil.copytree(whole, tmp_path / "runs"))
    (folder / "policy" / "1.safetensors").write_bytes(b"damaged")
    train([SMALL], log, out=folder, resume=True, **HOW)
    assert contents(folder) == contents(whole)
    assert "Making it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(algorithm=find("td3bc")(hidden=(8,), batch_size=8, steps=10, alpha=1.0)), "alpha = 2.5, alpha = 1.0"),
        (dict(algorithm=find("td3bc")(hidden=(8,), batch_size=8, steps=20)), "steps = 10, steps = 20"),
        (dict(algorithm=find("rebrac")(hidden=(8,), batch_size=8, steps=10)), 'algorithm = "td3bc", algorithm = "rebrac"'),
        (dict(seeds=3), "2 runs, 3 runs"),
        (dict(seeds=[0, 2]), "seed = 1, seed = 2"),
        (dict(data=testing.tiny(Box, kind="constant_reward")), "other data"),
        (dict(data=testing.tiny(Box).normalised(obs="none")), "otherwise normalised"),
    ],
)
def test_what_differs_is_refused_and_nothing_touched(log, whole, change, said):
    before = contents(whole)
    algorithm, data = change.pop("algorithm", SMALL), change.pop("data", log)
    with pytest.raises(BadFile, match="started") as caught:
        train([algorithm], data, out=whole, resume=True, **{**HOW, **change})
    assert said in str(caught.value)
    assert contents(whole) == before


def test_a_folder_in_use_is_refused_and_nothing_touched(tmp_path, log, whole):
    before = contents(whole)
    with pytest.raises(FileExistsError, match="already holds runs"):
        train([SMALL], log, out=whole, **HOW)
    assert contents(whole) == before
    (tmp_path / "thesis.tex").write_text("x")
    for again in (False, True):
        with pytest.raises((FileExistsError, BadFile), match=r"not empty|nothing to resume"):
            train([SMALL], log, out=tmp_path, resume=again, **HOW)
    assert contents(tmp_path) == {"thesis.tex": b"x"}
    with pytest.raises(BadFile, match="nothing to resume"):
        train([SMALL], log, out=tmp_path / "new", resume=True, **HOW)
    assert not (tmp_path / "new").exists()
    with pytest.raises(FileExistsError):
        train([SMALL], log, out=tmp_path / "thesis.tex", **HOW)


def test_a_folder_claimed_and_left_can_be_resumed(tmp_path, log, whole):
    """Killed between the first file and the first checkpoint; and before the first file, which leaves only its temporary name."""
    (tmp_path / ".config.json.abc").write_text("{")
    with pytest.raises(Stop):
        train([SMALL], log, out=tmp_path, listeners=[stop_after(2)], **HOW)
    for path in checkpoints(tmp_path / "checkpoints"):
        path.unlink()
    train([SMALL], log, out=tmp_path, resume=True, **HOW)
    assert contents(tmp_path / "policy") == contents(whole / "policy")
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_damaged_checkpoint_is_passed_over(tmp_path, log, whole, capsys):
    folder = interrupted(tmp_path / "runs", log)
    bad = folder / "checkpoints" / "0-0000000006.safetensors"
    bad.write_bytes(bad.read_bytes()[:-1])
    (folder / "checkpoints" / ".0-0000000008.safetensors.xyz").write_bytes(b"half")
    train([SMALL], log, out=folder, resume=True, **HOW)
    said = capsys.readouterr().err
    assert str(bad) in said and "Going on from 0-0000000004.safetensors" in said
    assert contents(folder / "policy") == contents(whole / "policy")
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["0-0000000006.damaged", *(f"0-{step:010d}.safetensors" for step in (6, 8, 10))]


def test_where_every_checkpoint_is_damaged_nothing_is_thrown_away(tmp_path, log):
    folder = interrupted(tmp_path / "runs", log)
    for path in checkpoints(folder / "checkpoints"):
        path.write_bytes(b"damaged")
    before = contents(folder)
    with pytest.raises(BadFile, match="No checkpoint is left"):
        train([SMALL], log, out=folder, resume=True, **HOW)
    assert contents(folder) == before


def test_torn_and_foreign_lines_of_metrics_are_dropped(tmp_path, log, whole):
    folder = interrupted(tmp_path / "runs", log)
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'[]\n\xff\xfe\n{"run": 0, "stage": "dream", "step": 1}\n{"run": 1, "stage": "learn", "st')
    train([SMALL], log, out=folder, resume=True, **HOW)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_run_that_broke_is_told_once(tmp_path, log):
    """Its neighbour goes on; resumed or not, the outcome is the same."""
    both = [SMALL, find("td3bc")(hidden=(8,), batch_size=8, steps=10, lr=1e30)]
    how = dict(HOW, seeds=1)
    runs = train(both, log, out=tmp_path / "a", **how)
    assert runs[0].fault is None and runs[1].fault is not None
    rows = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    steps = lambda run: [row["step"] for row in rows if row["run"] == run]
    assert steps(0) == [2, 4, 6, 8, 10]
    assert steps(1) == [step for step in (2, 4, 6, 8, 10) if step - 2 <= runs[1].fault.step]
    with pytest.raises(Stop):
        train(both, log, out=tmp_path / "b", listeners=[stop_after(8)], **how)
    train(both, log, out=tmp_path / "b", resume=True, **how)
    kept = lambda name: {file: content for file, content in contents(tmp_path / name).items() if not file.startswith("checkpoints")}
    assert kept("a") == kept("b")
    assert load_runs(tmp_path / "b")[1].fault == runs[1].fault


def test_damaged_descriptions_are_refused(tmp_path, log, whole):
    folder = Path(shutil.copytree(whole, tmp_path / "runs"))
    (folder / "finished.json").write_text('{"faults": [null]}')
    with pytest.raises(BadFile, match=r"finished\.json"):
        load_runs(folder)
    for text in ("", "[]", "{}", '{"runs": [1], "data": {}}'):
        (folder / "config.json").write_text(text)
        with pytest.raises(BadFile, match=r"config\.json"):
            resume(folder, log)
    with pytest.raises(BadFile, match="not a folder of runs"):
        load_runs(tmp_path)
    with pytest.raises(BadFile, match="not been trained to their end"):
        load_runs(interrupted(tmp_path / "half", log))


def test_numbers_that_make_no_sense_are_refused(tmp_path, log):
    for wrong in (dict(every=0), dict(keep=0), dict(seeds=0)):
        with pytest.raises(ValueError, match=r"count from 1|Nothing to train"):
            train([SMALL], log, out=tmp_path / "runs", **{**HOW, **wrong})
    with pytest.raises(ValueError, match="need a folder"):
        train([SMALL], log, resume=True)
    assert not (tmp_path / "runs").exists()


def test_tensorboard_goes_on(tmp_path, log):
    from tensorboardX.proto.event_pb2 import Event

    folder = interrupted(tmp_path / "runs", log, 6, tensorboard=True)
    train([SMALL], log, out=folder, resume=True, tensorboard=True, **HOW)
    events = []
    for path in sorted((folder / "tensorboard" / "0").iterdir(), key=lambda path: path.stat().st_mtime):
        content = path.read_bytes()
        while content:  # length, checksum, event, checksum
            size = int.from_bytes(content[:8], "little")
            events.append(Event.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
    assert [e.step for e in events for v in e.summary.value if v.tag == "critic/loss"] == [2, 4, 6, 8, 10]
    assert [e.step for e in events if e.session_log.status] == [7], "what lies behind the checkpoint is to be purged"


# killed --------------------------------------------------------------------------------------------------------------------


def test_killed_again_and_again(tmp_path):
    """A process of the command line, killed at random moments and resumed, writes what an undisturbed one writes."""
    rng = np.random.default_rng(0)
    rows = [f"{i // 10},{i % 10},{a:.3f},{b:.3f},{c:.3f},{int(i % 10 == 9)}" for i, (a, b, c) in enumerate(rng.uniform(-1, 1, (200, 3)))]
    (tmp_path / "log.csv").write_text("\n".join(["episode,time,obs,action,reward,died", *rows]) + "\n")
    chunks, every = 60, 50
    command = [
        sys.executable, "-m", "topstitch", "train", "td3bc", "--data", "log.csv", "--episode", "episode", "--time", "time", "--obs", "obs",
        "--action", "action", "--reward", "reward", "--terminal", "died", "--hidden", "8", "--batch-size", "8",
        "--steps", str(chunks * every), "--every", str(every), "--checkpoint-seconds", "0", "--seeds", "2", "--sweep", "alpha=1,2.5",
    ]  # fmt: skip
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    env |= {"JAX_NUM_CPU_DEVICES": "2"}
    subprocess.run([*command, "-o", "whole"], cwd=tmp_path, env=env, check=True, capture_output=True)
    folder, chance, kills = tmp_path / "killed", random.Random(0), 0
    while not (folder / "finished.json").exists():
        more = ["--resume"] if (folder / "config.json").exists() else []
        with open(tmp_path / "err", "wb") as err:
            process = subprocess.Popen([*command, "-o", "killed", *more], cwd=tmp_path, env=env, stdout=err, stderr=err)
            before, until = set(checkpoints(folder / "checkpoints")), time.monotonic() + 60
            if kills < 5:
                while kills and process.poll() is None and set(checkpoints(folder / "checkpoints")) <= before and time.monotonic() < until:
                    time.sleep(0.002)
                try:
                    process.wait(chance.uniform(0, 0.15) if kills else chance.uniform(0.5, 1.5))  # the first while it is still starting
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
            process.wait()
        assert process.returncode in (0, -signal.SIGKILL), (tmp_path / "err").read_text()
    assert kills >= 3, "the machine was too fast for the test: nothing was interrupted"
    whole = tmp_path / "whole"
    assert contents(folder / "policy") == contents(whole / "policy")
    assert (folder / "finished.json").read_bytes() == (whole / "finished.json").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["run"]) for row in rows] == [((i + 1) * every, run) for i in range(chunks) for run in range(4)]
    last = [store.read(checkpoints(place / "checkpoints")[-1], "checkpoint") for place in (folder, whole)]
    assert last[0][1] == last[1][1]
    for name, x in last[1][0].items():
        np.testing.assert_array_equal(last[0][0][name], x)
    assert isinstance(topstitch.load_policy(folder), topstitch.core.Policy)
