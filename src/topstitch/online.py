"""Learning while acting: the same updates, on a ring of data that grows, from nothing or from where offline training ended."""

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .collection import Behaviour, declared, random_policy, row, spaces_of
from .core import Algorithm, Markov, Policy, Spec
from .data import Affine, BadData, Batch, Episodes, Mixture, Ring, Transitions, View
from .data.formats.log import read_log, write_log
from .disk import BadFile
from .evaluation import act, gym_maker, require_fit, row_of
from .evaluation import begin as memory
from .listeners import Bar, Checkpoints, Jsonl, Last, checkpoints, newest
from .loop import CEILING, Listener, Progress, add, advance, average, begin, line_up, read_faults, stack, unstack
from .runs import Runs, algorithm_of, claim, described, load_runs, outcome, read_config
from .store import adopt, save_policy

push = jax.jit(Ring.push, donate_argnums=0)


@dataclasses.dataclass(frozen=True)
class Acting:
    """How a learner acts, and what it learns from. One update follows each step in the environment, behind the first `warmup` steps."""

    warmup: int = 1000
    "Steps before the first update: uniformly random ones where learning starts from nothing."
    block: int = 50
    "It acts so many steps, then learns as often."
    capacity: int = 1_000_000
    "Of its own steps, the last so many are learned from."
    noise: float | None = None
    "It acts greedily with normal noise, whose std is this share of half the range of actions, instead of by its own chance."
    level: float = 1.0
    "The share of steps that are its own; the others are uniformly random."
    logged: float = 0.5
    "The share of every batch that is drawn from the log, where there is one; half is the symmetric sampling of RLPD."


class Units(NamedTuple):
    """How learning sees an environment."""

    spec: Spec
    view: View

    def policy(self, policy: Policy) -> Policy:
        """What was learned, for raw observations and with raw actions."""
        return self.view.policy(policy, self.spec)

    def bounds(self):
        """(low, high) of a `Box` of raw actions."""
        scale = self.view.action
        return (None, None) if scale is None else scale.bounds()

    @classmethod
    def of(cls, env: str) -> "Units":
        """Observations and rewards as they are, actions in unit scale."""
        with contextlib.closing(gym_maker(env)()) as world:
            spec, low, high = spaces_of(world)
        return cls(spec, View() if low is None else View(action=Affine((high + low) / 2, (high - low) / 2)))


def train_online(
    algorithm: Algorithm,
    env: str,
    *,
    log: Episodes | None = None,
    expert: Markov | Callable | None = None,
    acting: Acting = Acting(),
    seeds: int | Sequence[int] = 1,
    out: str | Path | None = None,
    resume: bool = False,
    **how,
) -> Runs:
    """Learn by acting in a Gymnasium environment, from nothing: `algorithm.steps` updates, one for each step behind the warm-up.

    With a `log`, a share of every batch is drawn from it: Ball et al. 2023, https://arxiv.org/abs/2302.02948. An `expert`, a policy for raw
    observations or a function from one to a raw action, acts in the warm-up, and what it would do is kept beside what was done at every step,
    as the column `expert` of the log: what DAgger learns from. With `out`, the folder gets what `train` writes, and under `replay/` all that
    was seen, one log per seed, to be read as data (`topstitch.read`).
    `resume=True` goes on from the newest checkpoint: with the same nets and the same ring, but in a new episode, so not to the bit.

    `how`: `every`, `keep`, `checkpoint_seconds`, `listeners`, `progress` and `ceiling` as in `train`; with `levels`, the policy of every
    so many updates is kept in `levels/SEED-UPDATES.safetensors`, to collect logs of several levels from.
    """
    seeds = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if len(algorithm.stages()) != 1:
        raise ValueError(f"{type(algorithm).__name__} needs a log before it starts, so it cannot learn by acting alone. "
                         "Train it on one, and go on from there with `finetune`.")  # fmt: skip
    runs = [(algorithm, seed) for seed in seeds]
    return live(runs, env, Start(log, expert=expert), acting, out=out, resume=resume, **how)


def finetune(
    folder: str | Path,
    log: Episodes,
    env: str,
    *,
    steps: int,
    acting: Acting = Acting(),
    fields: dict[str, Any] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    **how,
) -> Runs:
    """Go on from offline runs by acting: `steps` further updates of the last stage, on a mixture of the log and what is being seen.

    `folder` holds the runs, `log` is what they were trained on, in the same units. The algorithm is the same with `steps` more to go, which
    a schedule over its steps sees; `fields` changes further hyperparameters. What `env` shows is brought to the units of the log.
    Everything else as in `train_online`; the warm-up is the policy's own.
    """
    config = read_config(folder)
    if config["data"]["fingerprint"] != log.fingerprint():
        raise BadFile(f"The runs in {folder} were trained on {config['data']['source']}, fingerprint {config['data']['fingerprint']}, but this "
                      f"log, {log.source}, has {log.fingerprint()}: other data, or the same ones otherwise normalised.")  # fmt: skip
    found = checkpoints(Path(folder) / "checkpoints")
    if not found or not (Path(folder) / "finished.json").is_file():
        raise BadFile(f"The runs in {folder} have not been trained to their end, or their last checkpoint is gone. Finish them first.")
    runs = continued(config, steps, fields)
    start = Start(log, str(folder), found[-1], algorithm_of(config["runs"][0]).stages()[-1].steps, steps)
    return live(runs, env, start, acting, out=out, resume=resume, **how)


def continued(config: dict, steps: int, fields: dict[str, Any] | None = None) -> list[tuple[Algorithm, int]]:
    """The runs of a configuration, with `steps` more to go and other values of `fields`. `ValueError` names a field that is none."""
    runs = []
    for run in config["runs"]:
        algorithm = algorithm_of(run)
        known = {field.name for field in dataclasses.fields(algorithm)} - {"steps"}
        if unknown := set(fields or {}) - known:
            raise ValueError(f"{type(algorithm).__name__} has no hyperparameter {sorted(unknown)}. It has {', '.join(sorted(known))}.")
        given = {name: like(getattr(algorithm, name), value) for name, value in (fields or {}).items()}
        runs.append((dataclasses.replace(algorithm, steps=algorithm.steps + steps, **given), run["seed"]))
    return runs


def like(old, value):
    """A value from JSON, of the kind of the one that it replaces: 1 for a float, a list for a tuple."""
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return tuple(value) if isinstance(value, list) else value


class Start(NamedTuple):
    """Where learning by acting starts from."""

    log: Episodes | None = None
    folder: str | None = None
    checkpoint: Path | None = None
    first: int = 0
    "The updates of the last stage that lie behind."
    steps: int | None = None
    "Updates to come; by default all that the algorithm has."
    expert: Markov | Callable | None = None


def live(
    runs: list[tuple[Algorithm, int]],
    env: str,
    start: Start,
    acting: Acting,
    *,
    out: str | Path | None,
    resume: bool,
    every: int = 1000,
    levels: int | None = None,
    keep: int = 3,
    checkpoint_seconds: float = 60.0,
    listeners: Sequence[Listener] = (),
    progress: bool | None = None,
    ceiling: float = CEILING,
) -> Runs:
    """All runs, each in an environment of its own, in turns."""
    algorithm, log = runs[0][0], start.log
    if resume and out is None:
        raise ValueError("`resume` needs a folder: give `out`.")
    units = Units.of(env) if log is None else Units(log.spec, log.view)
    for what, space, known in (("actions", units.spec.action, algorithm.actions), ("observations", units.spec.obs, algorithm.observations)):
        if not isinstance(space, known):
            kinds = " or ".join(kind.__name__ for kind in known)
            raise ValueError(f"{type(algorithm).__name__} is defined for {kinds} {what}, but those of {env} are {space}.")
    if log is not None and log.mask is not None:
        raise ValueError("Learning by acting does not know masks of allowed actions, but the log has some.")
    steps, name = start.steps or algorithm.steps, algorithm.stages()[-1].name
    data = {"env": env, "from": start.folder, "first": start.first, "log": log and log.fingerprint(), **dataclasses.asdict(acting)}
    if start.expert is not None:
        data["expert"] = getattr(start.expert, "__qualname__", type(start.expert).__qualname__)
    mark = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    config = described(runs, {"source": env, "fingerprint": mark, "episodes": 0, "steps": 0, **data})
    folder, now, own, kept, make = None if out is None else Path(out), None, list[Listener](), [], gym_maker(env)
    with contextlib.ExitStack() as after:
        worlds = [after.enter_context(contextlib.closing(make())) for _ in runs]
        timed = log is not None and log.duration is not None
        total, told = acting.warmup + steps, advice(start.expert)
        lives = [Life(world, units, algorithm, seed, acting, total, timed, told) for world, (_, seed) in zip(worlds, runs)]
        logged = None if log is None else algorithm.prepare(log)
        for life in lives:
            require_fit(units.policy(random_policy(life.world)), life.world)
            if logged is not None and acting.logged > 0:
                life.data = lambda ring: Mixture((logged, ring), (acting.logged, 1 - acting.logged))
        blank = lives[0].ring if logged is None else logged  # what states are made for
        if folder is not None:
            claim(folder, config, resume)
            if resume and (folder / "finished.json").is_file():
                return load_runs(folder)
            if resume:
                now = newest(folder / "checkpoints", runs, blank, mark, lambda text: print(text, file=sys.stderr))
                for i, life in enumerate(lives):
                    life.recall(folder / "replay", i, 0 if now is None else acting.warmup + now.step)
            own.append(lines := Jsonl(folder / "metrics.jsonl", [name], now))
            kept = lines.kept
            at_end = lambda now: now.step == steps
            own.append(keeper := Keeper(folder, lives, acting.warmup, keep=keep, seconds=checkpoint_seconds, config=mark, last=at_end))
            after.callback(keeper.save)  # also of what an error or an interruption has stopped
            if levels is not None:
                own.append(Levels(folder / "levels", runs, units, levels))
        last = Last(len(runs), now, kept)
        shown = list[Listener]()
        if progress or (progress is None and sys.stderr.isatty()):
            bar = Bar([algorithm.stages()[-1]._replace(steps=steps)], len(runs), f"{type(algorithm).__name__} in {env}")
            shown.append(after.enter_context(bar))
        algorithms, keys = line_up(runs)
        if now is None:
            now = Progress(0, 0, begin(algorithms, blank, keys), jnp.ones(len(runs), bool), (None,) * len(runs))
            if start.checkpoint is not None:
                now = now._replace(**adopt(start.checkpoint, now.states))
        low, high = units.bounds()
        explore = lambda policy: Behaviour(policy, units.spec, low, high, noise=acting.noise, level=acting.level)
        explorer = jax.jit(lambda algorithms, states: explore(units.policy(only(algorithms).policy(only(states)))))
        for i, life in enumerate(lives):
            life.settle(
                *(jax.tree.map(lambda x, i=i: x[i : i + 1], tree) for tree in (algorithms, keys, now.states, now.alive)), now.faults[i]
            )
            if life.steps < acting.warmup:
                policy = random_policy(life.world) if start.checkpoint is None else explorer(life.algorithm, life.states)
                life.play(policy, acting.warmup - life.steps)
        if now.step == 0 and start.checkpoint is not None:
            for listener in listeners:
                listener(now, {})  # how it was before
        while now.step < steps and np.asarray(now.alive).any():
            length = min(acting.block, every - now.step % every, steps - now.step)
            for life in lives:
                life.go_on(explorer, start.first + now.step, length, ceiling)
            now = now._replace(step=now.step + length)
            if now.step % every == 0 or now.step == steps:
                now, metrics = gathered(lives, now)
                for listener in [*own, last, *shown, *listeners]:
                    listener(now, metrics)
        if folder is not None:
            keeper.save()
            keeper.close()
    return outcome(runs, now, last.of, units.policy, folder, config)


def ring_alone(ring: Ring) -> Any:
    return ring


def gathered(lives: "Sequence[Life]", now: Progress) -> tuple[Progress, dict[str, np.ndarray]]:
    """Where all runs stand, and their metrics since the last time."""
    joined = lambda parts: jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    some = next(life.sums for life in lives if life.sums is not None)
    sums = joined([jax.tree.map(jnp.zeros_like, some) if life.sums is None else life.sums for life in lives])
    for life in lives:
        life.sums = None
    states, alive = joined([life.states for life in lives]), joined([life.alive for life in lives])
    faults = tuple(life.fault for life in lives)
    return now._replace(states=states, alive=alive, faults=faults), {name: average(value) for name, value in sums.items()}


def advice(expert: Markov | Callable | None) -> Callable | None:
    """From one raw observation to the raw action that the expert would take there."""
    if not isinstance(expert, Markov):
        return expert
    ask = jax.jit(lambda policy, obs: policy(obs).mode())
    return lambda obs: ask(expert, obs)


def only(tree):
    """The one run of a stack of one."""
    return jax.tree.map(lambda x: x[0], tree)


class Life:
    """One run in its environment: what it has learned, where it stands, and all that it has seen, in raw units.

    Rows reach the ring through `algorithm.prepare`, as those of a log do. Where it asks for columns that only the end of an episode
    tells (`returns`, `next_action`), they get there with the end of theirs, or with that of the warm-up.
    """

    def __init__(
        self,
        world,
        units: Units,
        algorithm: Algorithm,
        seed: int,
        acting: Acting,
        total: int,
        timed: bool = False,
        expert: Callable | None = None,
    ):
        self.world, self.units, self.prepare, self.seed, self.chunk = world, units, algorithm.prepare, seed, acting.block
        column = lambda kind: np.zeros((total, *row(kind).shape), row(kind).dtype)
        spec = units.spec
        self.seen = {"obs": column(spec.obs), "action": column(spec.action), "reward": np.zeros(total, np.float32),
                     "terminal": np.zeros(total, bool), "next_obs": column(spec.obs), "log_prob": np.zeros(total, np.float32),
                     "ends": np.zeros(total, bool)}  # fmt: skip
        if timed:  # as the log is that these rows are mixed with
            self.seen["duration"] = np.ones(total, np.float32)
        self.expert, self.led = expert, 0 if expert is None else acting.warmup
        if expert is not None:
            self.seen["expert"] = column(spec.action)
        stages = algorithm.stages()
        self.stage, self.stage_name = len(stages) - 1, stages[-1].name
        self.steps, self.pushed, self.obs, self.reward, self.carry, self.fresh = 0, 0, None, np.float32(0), None, True
        self.key = jax.random.fold_in(jax.random.key(seed), 0x0411)
        some = self.rows(0, min(2, total))
        if not isinstance(some, Batch):
            raise ValueError(f"{type(algorithm).__name__} learns from {type(some).__name__}s, which do not come one step at a time.")
        self.waits = some.returns is not None or some.next_action is not None
        store = jax.tree.map(lambda x: jnp.zeros((min(acting.capacity, total), *x.shape[1:]), x.dtype), some)
        self.ring = Ring(store, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jax.tree.map(jnp.asarray, units.view), spec)
        self.data: Callable[[Ring], Any] = ring_alone
        self.sums: Any = None
        "Of the metrics since they were last told."

    def settle(self, algorithm, key, states, alive, fault) -> None:
        """What learns here: stacks of one run."""
        self.algorithm, self.run_key, self.states, self.alive, self.fault = algorithm, key, states, alive, fault

    def go_on(self, explorer: Callable, step: int, length: int, ceiling: float) -> None:
        """Act `length` steps, then learn as many, unless the run has broken."""
        if not self.alive[0]:
            return
        self.play(explorer(self.algorithm, self.states), length)
        moment = jnp.int32(step), jnp.int32(length), jnp.float32(ceiling)
        how = dict(index=self.stage, together="map")
        self.states, self.alive, broken, sums = advance(
            self.algorithm, self.states, self.alive, self.data(self.ring), self.run_key, *moment, **how
        )
        self.fault = self.fault or read_faults(broken, sums, self.states, self.stage_name)[0]
        self.sums = sums if self.sums is None else add(self.sums, sums)

    def play(self, policy: Policy, n: int) -> None:
        """`n` more steps, into the ring."""
        stacked, first = stack([policy]), self.steps
        self.carry = memory(stacked, shape=(1, 1)) if self.carry is None else self.carry
        seen = self.units.spec.obs
        for at in range(first, first + n):
            if self.obs is None:
                chance = int(np.random.SeedSequence([self.seed, at]).generate_state(1)[0])
                self.obs, _ = self.world.reset(seed=chance)
                self.reward, self.fresh = np.float32(0), True
            obs = row_of(seen, self.obs)
            told = jax.random.fold_in(self.key, at)
            one = lambda x: np.asarray(x)[None, None]
            action, log_prob, self.carry = act(
                stacked, self.carry, one(self.fresh), one(obs), one(self.reward), None, told, greedy=False, logged=True
            )
            action, log_prob = np.asarray(action)[0, 0], np.asarray(log_prob)[0, 0]
            if self.expert is not None:
                self.seen["expert"][at] = np.reshape(self.expert(obs), action.shape)
            if at < self.led:
                action, log_prob = self.seen["expert"][at], np.nan
            chosen = int(action) if action.ndim == 0 else action.reshape(self.world.action_space.shape)
            after, earned, terminated, truncated, _ = self.world.step(chosen)
            lived = dict(obs=obs, action=action, reward=earned, terminal=terminated, log_prob=log_prob,
                         next_obs=row_of(seen, after), ends=terminated or truncated)  # fmt: skip
            for name, value in lived.items():
                self.seen[name][at] = value
            self.reward, self.fresh = np.float32(earned), False
            self.obs = None if terminated or truncated else after
        self.steps += n
        self.remember()

    def remember(self) -> None:
        """What is ready for the ring, into it: in pieces of one size, the last of which is filled up."""
        stop = self.steps
        if self.waits and self.pushed:
            ended = np.flatnonzero(self.seen["ends"][self.pushed : stop])
            stop = self.pushed + int(ended[-1]) + 1 if len(ended) else self.pushed
        start = max(self.pushed, stop - len(self.ring.store))
        self.pushed = stop
        if start == stop:
            return
        try:
            rows = self.rows(start, stop)
        except BadData:  # no step of it has what the algorithm asks for, such as a next action
            return
        for at in range(0, len(rows), self.chunk):
            place = np.arange(at, at + self.chunk)
            self.ring = push(self.ring, rows[np.minimum(place, len(rows) - 1)], jnp.asarray(place < len(rows)))

    def rows(self, start: int, stop: int) -> Any:
        """What was seen from `start` to `stop`, as the algorithm learns from it: a `Batch`, if it comes in single steps."""
        data = self.prepare(self.log(start, stop).viewed(self.units.view))
        return data.rows() if isinstance(data, Transitions) else data

    def log(self, start: int, stop: int) -> Episodes:
        """The same as a log. An episode that is cut at either end counts as truncated there; `info["end"]` says where one truly ended."""
        part = {name: column[start:stop].copy() for name, column in self.seen.items()}
        if not np.isfinite(part["log_prob"]).all():
            del part["log_prob"]
        info = {"end": part["ends"]} | ({} if self.expert is None else {"expert": part.pop("expert")})
        low, high = self.units.bounds()
        return Episodes.of(**part, **declared(self.units.spec), low=low, high=high, info=info, source=f"replay of seed {self.seed}")

    def recall(self, folder: Path, run: int, steps: int) -> None:
        """Go on behind the first `steps` steps, of which `Keeper` has kept what this run lived through."""
        for path in sorted(folder.glob(f"{run}-*.log.safetensors")):
            start, stop = (int(number) for number in path.name.split(".")[0].split("-")[1:])
            if start != self.steps or stop > steps:
                path.unlink()  # behind the checkpoint: it will be lived again
                continue
            log = read_log(path)
            for name in ("obs", "action", "reward", "terminal", "next_obs"):
                self.seen[name][start:stop] = getattr(log, name)
            self.seen["log_prob"][start:stop] = np.nan if log.log_prob is None else log.log_prob
            self.seen["ends"][start:stop] = log.info["end"]
            if self.expert is not None:
                self.seen["expert"][start:stop] = log.info["expert"]
            self.steps = stop
        if self.steps:
            self.seen["ends"][self.steps - 1] = True  # what came next was not kept
            self.remember()


class Keeper(Checkpoints):
    """Checkpoints, and before each of them what was seen until then, in parts."""

    def __init__(self, folder: Path, lives: Sequence[Life], warmup: int, **how):
        super().__init__(folder / "checkpoints", **how)
        self.replay, self.lives, self.warmup = folder / "replay", lives, warmup
        self.kept = [life.steps for life in lives]

    def save(self):
        if self.pending is not None:
            for run, (life, start) in enumerate(zip(self.lives, self.kept)):
                if (stop := min(life.steps, self.warmup + self.pending.step)) > start:
                    write_log(self.replay / f"{run}-{start:010d}-{stop:010d}.log.safetensors", life.log(start, stop))
                    self.kept[run] = stop
        super().save()

    def close(self):
        """One log for each run, in place of its parts."""
        for run, life in enumerate(self.lives):
            write_log(self.replay / f"{run}.log.safetensors", life.log(0, life.steps))
            for part in self.replay.glob(f"{run}-*.log.safetensors"):
                part.unlink()


class Levels:
    """Listens to training: keeps the policy of every `every` updates."""

    def __init__(self, folder: Path, runs, units: Units, every: int):
        self.folder, self.runs, self.units, self.every = folder, list(runs), units, every

    def __call__(self, now: Progress, metrics):
        if now.step % self.every == 0:
            for (algorithm, seed), state in zip(self.runs, unstack(now.states, len(self.runs))):
                policy = jax.device_get(self.units.policy(algorithm.policy(state)))
                save_policy(self.folder / f"{seed}-{now.step:010d}.safetensors", policy, {"seed": seed, "updates": now.step})
