"""What every algorithm must hold to, for authors of algorithms anywhere.

`check(algorithm)` runs the contract: the promises that the training loop, checkpoints and saved policies rest on.
`probe(algorithm, name)` trains it on a data set that a person can solve, and says whether it did.
"""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .core import Algorithm, Box, Discrete, Image, Markov, Mean, MultiDiscrete, Policy
from .data import Episodes
from .loop import Progress, advance, begin, finish, line_up, one_step, stage_key, train, unstack
from .store import load_checkpoint, load_policy, save_checkpoint, save_policy

EVERY = 2
VOCABULARY = {
    "action_weight", "actions_sampled", "actor_bc", "actor_goals", "actor_lr", "actor_novelty", "aggregate", "ahead", "alpha",
    "average_rate", "bandwidth", "baseline", "batch_size", "beam", "behaviour_hidden", "behaviour_lr", "behaviour_steps", "beta",
    "binning", "bins", "candidates", "centres", "constraint", "context", "critic_bc", "critic_novelty", "critics", "decay",
    "degree", "delay", "discount", "divergence", "double", "dropout", "dual_lr", "elites", "embedding", "entropy", "entropy_backup",
    "epochs", "eta", "every", "expand", "expectile", "features", "gap", "gap_floor", "head", "heads", "held_out", "hidden",
    "horizon", "implicit", "improvement", "kernel", "labels", "longest", "lower_weight", "lr", "max_backup", "max_gradient",
    "max_weight", "min_leaf", "mixing", "model_decay", "model_hidden", "model_lr", "model_steps", "models", "modes", "noise",
    "noise_clip", "norm", "normalise_q", "novelty_lr", "novelty_steps", "patience", "penalty", "perturbation", "pool", "power",
    "prior", "pushed", "quantile", "quantiles", "reach", "real", "retain", "ridge", "rollouts", "sampling_steps", "scale", "share",
    "slope", "steps", "tail", "target", "target_candidates", "target_entropy", "target_rate", "terminal_penalty", "termination",
    "threshold", "trace", "trees", "trust", "trust_std", "uncertainty", "upper_beta", "value_goals", "value_steps", "variant",
    "warmup", "weight_decay", "weights", "where", "width", "window",
}  # fmt: skip
"One word for one thing, in all algorithms of this package."


def tiny(action: type, *, obs: type = Box, kind: str = "plain", masks: bool = False) -> Episodes:
    """A log of 48 steps, of one shape whatever it says. `kind`: plain, constant_reward, all_terminal, one_episode, constant_obs."""
    rng, n = np.random.default_rng(0), 48
    stops = {"all_terminal": np.arange(1, n + 1), "one_episode": np.array([n])}.get(kind, np.arange(6, n + 1, 6))
    terminal = np.zeros(n, bool)
    terminal[stops[::2] - 1] = True
    if kind == "all_terminal":
        terminal[:] = True
    seen = rng.integers(5, size=n) if obs is Discrete else 3 + 2 * rng.normal(size=(n, 3))
    seen = rng.integers(256, size=(n, 5, 6, 2), dtype=np.uint8) if obs is Image else seen
    done = rng.integers(4, size=n) if action is Discrete else rng.uniform(-1, 1, (n, 2))
    done = rng.integers((4, 3), size=(n, 2)) if action is MultiDiscrete else done
    mask = None
    if masks:
        mask = rng.random((n, 7 if action is MultiDiscrete else 4)) < 0.5
        np.put_along_axis(mask, columns_of(done), True, axis=1)
    ends = np.zeros(n, bool)
    ends[stops - 1] = True
    return Episodes.of(
        np.ones_like(seen) if kind == "constant_obs" else seen, done, np.ones(n) if kind == "constant_reward" else rng.normal(size=n), terminal,
        ends=ends, next_obs=np.roll(seen, -1, axis=0), next_mask=None if mask is None else np.roll(mask, -1, axis=0), mask=mask,
        states=5 if obs is Discrete else None, actions={Discrete: 4, MultiDiscrete: (4, 3)}.get(action), low=-2.0 if action is Box else None,
        high=4.0 if action is Box else None, log_prob=np.full(n, -np.log(12 if action is MultiDiscrete else 4)),
        info={"labelled": np.arange(n) % 4 > 0}, source=f"tiny {kind} data",
    ).normalised()  # fmt: skip


def columns_of(done: np.ndarray) -> np.ndarray:
    """(n, choices): where a mask of tiny data speaks of what was done."""
    return done[:, None] if done.ndim == 1 else done + np.array([0, 4])


# the contract --------------------------------------------------------------------------------------------------------------


def check(algorithm: Algorithm, *, actions: tuple[type, ...] = ()) -> None:
    """Raise an `AssertionError` that names the first promise the algorithm breaks. Give it small nets and 6 steps or so.

    `actions` are the kinds of action to try it with, all that it is defined for if none are named. Choices have masks; several at once are
    tried without them, too.
    """
    actions = actions or algorithm.actions
    for action in actions:
        tries = {action is not Box: PROMISES} | ({False: (trains, policies_act)} if action is MultiDiscrete else {})
        for masks, promises in tries.items():
            trial = Trial(algorithm, tiny(action, obs=algorithm.observations[0], masks=masks), first=action is actions[0])
            for promise in promises:
                try:
                    promise(trial)
                except Exception as error:
                    error.add_note(
                        f"{type(algorithm).__name__} with {action.__name__} actions breaks the contract: {(promise.__doc__ or '').strip()}"
                    )
                    raise


class Trial:
    """An algorithm, data that suit it, and two of its runs trained once for all promises to look at."""

    def __init__(self, algorithm: Algorithm, episodes: Episodes, *, first: bool = True):
        self.algorithm, self.episodes = algorithm, episodes
        self.first = first  # of the kinds of action: what needs a program of its own is tried for this one only
        self.runs = [(algorithm, 0), (algorithm, 1)]
        self.data = algorithm.prepare(episodes)
        self.compiled = all(stage.compiled for stage in algorithm.stages())
        self.seen: list[tuple[Progress, dict]] = []
        before = advance._cache_size()
        self.whole = self.train(listeners=[lambda now, metrics: self.seen.append((now, metrics))])
        self.programs = advance._cache_size() - before

    def train(self, runs=None, **how) -> Progress:
        return train(runs or self.runs, self.data, **{"every": EVERY, "together": "map"} | how)

    @functools.cached_property
    def policies(self) -> list[Policy]:
        return [self.episodes.policy(self.algorithm.policy(state)) for state in unstack(self.whole.states, 2)]

    @functools.cached_property
    def acts(self) -> dict:
        return asked(self.policies, self.episodes)

    def tiny(self, **how) -> Episodes:
        """Other data of the same kinds."""
        spec, masks = self.episodes.spec, self.episodes.mask is not None
        return tiny(type(spec.action), **{"obs": type(spec.obs), "masks": masks} | how)


def same(a, b, what: str) -> None:
    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        assert np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True), f"{what}: {jax.tree_util.keystr(place)} differs"


def close(a, b, what: str) -> None:
    for (place, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        least = 1e-4 + 1e-5 * float(np.abs(y).max(initial=0)) if np.issubdtype(np.asarray(y).dtype, np.inexact) else 0
        np.testing.assert_allclose(x, y, rtol=2e-3, atol=least, err_msg=f"{what}: {jax.tree_util.keystr(place)}")


def leaves_are_arrays(trial: Trial) -> None:
    """Every leaf of a state is a strongly typed array, and every leaf of an algorithm a float."""
    state = jax.eval_shape(begin, *(lambda a, k: (a, trial.data, k))(*line_up(trial.runs)))
    for place, x in jax.tree_util.tree_flatten_with_path(state)[0]:
        assert isinstance(x, jax.ShapeDtypeStruct) and not x.weak_type, f"{jax.tree_util.keystr(place)} is {x}"
    assert all(isinstance(x, float) for x in jax.tree.leaves(trial.algorithm)), "declare hyperparameters that are no floats with `static`"


def stages_are_static(trial: Trial) -> None:
    """The names, lengths and number of stages depend on static fields only; steps and batch size are static."""
    shape = lambda a: [(s.name, s.steps, s.compiled) for s in a.stages()]
    assert shape(trial.algorithm) == shape(jax.tree.map(lambda x: x + 1.0, trial.algorithm))
    assert isinstance(trial.algorithm.steps, int) and isinstance(trial.algorithm.batch_size, int)


def update_keeps_structure(trial: Trial) -> None:
    """No step changes the structure, the shapes or the types of the state: with every kind of observation it is defined for, without masks."""
    trained = type(trial.episodes.spec.obs) if trial.episodes.mask is None and trial.compiled else None  # a compiled loop asks for as much
    for log in [trial.tiny(obs=kind, masks=False) for kind in trial.algorithm.observations if kind is not trained]:
        data, key = trial.algorithm.prepare(log), jax.random.key(0)
        state = jax.eval_shape(lambda k, data=data: trial.algorithm.init(data, key=k), key)
        for stage in trial.algorithm.stages():
            if stage.compiled:
                step = lambda s, k, stage=stage, data=data: one_step(stage, s, data, jnp.int32(0), stage_key(k, stage))
                after, metrics = jax.eval_shape(step, state, key)
                assert jax.tree.structure(after) == jax.tree.structure(state), f"stage {stage.name} changes the structure"
                for x, y in zip(jax.tree.leaves(after), jax.tree.leaves(state)):
                    assert (x.shape, x.dtype) == (y.shape, y.dtype), f"stage {stage.name} turns {y} into {x}"
                assert all(isinstance(m, Mean) and m.total.shape == m.count.shape == () for m in metrics.values()), (
                    "metrics must be scalars"
                )
        if trial.compiled:
            policy = lambda s, log=log: log.policy(trial.algorithm.policy(s))
            said = jax.eval_shape(lambda s, o, policy=policy: greedy(policy(s), o), state, jnp.asarray(log.obs[:1]))
            assert said.shape == log.action[:1].shape, f"a policy for {log.spec} says {said}"


def trains(trial: Trial) -> None:
    """All runs reach the end, finite; what listeners are handed stays readable; metrics are numbers with names; the learned changes."""
    assert trial.whole.faults == (None, None) and np.asarray(trial.whole.alive).all(), trial.whole.faults
    steps = [stage.steps for stage in trial.algorithm.stages()]
    assert len(trial.seen) == sum(-(-n // EVERY) for n in steps)
    for _, metrics in trial.seen:
        assert all(value.shape == (2,) for value in metrics.values()), "metrics must be scalars"
        assert all(name.count("/") == 1 for name in metrics), f"name metrics 'part/quantity', not {sorted(metrics)}"
    first, last = trial.seen[0][0], trial.seen[-1][0]
    assert any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(first.states), jax.tree.leaves(last.states))), "nothing was learned"


def compiles_once(trial: Trial) -> None:
    """One program a stage, whatever the chunk, the remainder, the seeds and the float hyperparameters."""
    if trial.compiled:
        stages = len(trial.algorithm.stages())
        assert trial.programs <= stages, f"{trial.programs} programs for {stages} stages"
        sizes = advance._cache_size(), begin._cache_size(), finish._cache_size()
        other = jax.tree.map(lambda x: x * 0.5, trial.algorithm)
        trial.train([(other, 3), (trial.algorithm, 4)], every=3)
        assert (advance._cache_size(), begin._cache_size(), finish._cache_size()) == sizes, "changed floats, seeds or chunks compiled again"


def chunks_do_not_matter(trial: Trial) -> None:
    """2 + 2 updates are 4 updates, and the same again is the same: to the bit."""
    same(trial.train(every=5).states, trial.whole.states, "other chunks")


def resumes_anywhere(trial: Trial) -> None:
    """From a checkpoint in the middle of any stage, read from disk, training ends where it would have ended: to the bit."""
    with tempfile.TemporaryDirectory() as folder:
        for now, _ in trial.seen[:: max(1, len(trial.seen) // 3)]:
            path = Path(folder) / "now.safetensors"
            save_checkpoint(path, now)
            back = load_checkpoint(path, trial.runs, trial.data)
            same(back.states, now.states, "a checkpoint")
            same(trial.train(resume=back).states, trial.whole.states, f"resumed at {now.stage}, {now.step}")


def together_is_apart(trial: Trial) -> None:
    """Two runs in one program are the two runs with the other one frozen; side by side is one after another."""
    algos, keys = line_up(trial.runs)
    for i in range(len(trial.runs)):
        alone = Progress(0, 0, begin(algos, trial.data, keys), jnp.arange(len(trial.runs)) == i, trial.whole.faults)
        pick = lambda now, i=i: unstack(now.states, 2)[i]
        same(pick(trial.train(resume=alone, every=100)), pick(trial.whole), "a run alone")
    for stage in range(len(trial.algorithm.stages()) if trial.compiled and trial.first else 0):
        chunks, reached = [now for now, _ in trial.seen if now.stage == stage], []
        if len(chunks) > 1:
            trial.train(together="vmap", resume=chunks[0], listeners=[lambda now, metrics, reached=reached: reached.append(now)])
            close(reached[0].states, chunks[1].states, f"side by side in stage {stage}")


def a_broken_run_breaks_alone(trial: Trial) -> None:
    """A run that turns to NaN is frozen in its last sound state and named; its neighbour does not notice."""
    bad = jax.tree.map(lambda x: float("nan"), trial.algorithm)
    out = trial.train([(trial.algorithm, 0), (bad, 1)])
    if out.faults[1] is None:  # nothing that it reads is a float
        return
    assert out.faults[0] is None and np.asarray(out.alive).tolist() == [True, False]
    assert out.faults[1].step < EVERY and out.faults[1].quantity, out.faults
    same(unstack(out.states, 2)[0], unstack(trial.whole.states, 2)[0], "the neighbour")
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(out.states) if jnp.issubdtype(x.dtype, jnp.inexact))


def policies_act(trial: Trial) -> None:
    """A policy takes raw observations and answers with legal raw actions, alone, over environments and over runs; its saved copy too."""
    log = trial.episodes
    for actions in (trial.acts["greedy"], trial.acts["drawn"]):
        assert actions.shape == (2, *log.action.shape), f"two policies for {log.spec} at {log.steps} observations say {actions.shape}"
        legal(np.asarray(actions), log)
    with tempfile.TemporaryDirectory() as folder:
        save_policy(Path(folder) / "policy.safetensors", trial.policies[0])
        back = load_policy(Path(folder) / "policy.safetensors", trust=(type(trial.algorithm).__module__.split(".")[0],))
    assert jax.tree.structure(back) == jax.tree.structure(trial.policies[0])
    for again, what in ((trial.policies, "the greedy action"), ([back, trial.policies[1]], "the saved policy")):
        same(asked(again, log)["greedy"], trial.acts["greedy"], what)


def asked(policies: list[Policy], log: Episodes) -> dict:
    """What each of them does at the observations of the log, in one program; each (policies, steps, ...).

    `greedy` and `drawn`; if the log has masks `allowed`, greedy among what they allow, and the probabilities `probs` (None: it has none).
    """
    keys = jax.random.split(jax.random.key(0), log.steps)
    return _asked(jax.tree.map(lambda *x: np.stack(x), *jax.device_get(policies)), log.obs, log.mask, keys)


@jax.jit
def _asked(policies, obs, masks, keys):
    def at(policy, obs, mask, key):
        act = lambda **how: policy.act(policy.start(), obs, jnp.float32(0), **how)[0]
        told = {} if mask is None else dict(allowed=act(mask=mask), probs=policy(obs, mask).probs() if isinstance(policy, Markov) else None)
        return dict(greedy=act(), drawn=act(key=key), **told)

    return jax.vmap(lambda policy: jax.vmap(lambda *row: at(policy, *row))(obs, masks, keys))(policies)


def legal(actions: np.ndarray, log: Episodes) -> None:
    if isinstance(log.spec.action, Discrete):
        assert np.issubdtype(actions.dtype, np.integer) and (actions >= 0).all() and (actions < log.spec.action.size).all()
    elif isinstance(log.spec.action, MultiDiscrete):
        sizes = np.array(log.spec.action.sizes)
        assert np.issubdtype(actions.dtype, np.integer) and actions.shape[-1:] == sizes.shape and ((actions >= 0) & (actions < sizes)).all()
    else:
        scale = log.view.action
        assert actions.shape[-1] == log.spec.action.size and np.abs((actions - scale.shift) / scale.scale).max() <= 1 + 1e-5


def masks_are_respected(trial: Trial) -> None:
    """Where the log marks legal actions, a Markov policy gives illegal ones no probability, and none is taken."""
    if isinstance(trial.episodes.spec.action, Box):
        return
    log = trial.episodes
    if trial.acts["probs"] is not None:
        assert (np.asarray(trial.acts["probs"])[:, ~log.mask] == 0).all()
    for action in np.asarray(trial.acts["allowed"]):
        assert np.take_along_axis(log.mask, columns_of(action), axis=1).all()


def degenerate_data_do_not_break_it(trial: Trial) -> None:
    """Constant reward, all steps terminal, one endless episode, observations that never vary: everything stays finite."""
    for kind in ("constant_reward", "all_terminal", "one_episode", "constant_obs"):
        out = train(trial.runs, trial.tiny(kind=kind), every=100, together="map")
        assert out.faults == (None, None), f"{kind}: {out.faults}"


def is_described(trial: Trial) -> None:
    """Its source is given, its settings survive JSON, its words are those of the house."""
    algorithm = trial.algorithm
    assert algorithm.paper.url.startswith("https://") and "@" in algorithm.paper.bibtex()
    fields = {f.name: getattr(algorithm, f.name) for f in dataclasses.fields(algorithm)}
    back = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(json.dumps(fields)).items()}
    assert type(algorithm)(**back) == algorithm
    if type(algorithm).__module__.startswith("topstitch."):
        assert set(fields) <= VOCABULARY, f"new words: {sorted(set(fields) - VOCABULARY)}"


PROMISES: tuple[Callable[[Trial], None], ...] = (
    is_described, leaves_are_arrays, stages_are_static, update_keeps_structure, trains, compiles_once, chunks_do_not_matter, resumes_anywhere,
    together_is_apart, a_broken_run_breaks_alone, policies_act, masks_are_respected, degenerate_data_do_not_break_it,
)  # fmt: skip


# probes --------------------------------------------------------------------------------------------------------------------


class Probe(NamedTuple):
    """A small log, and what its solution does: `right` maps a state to the choice that solves it there."""

    idea: str
    episodes: list[list[tuple[int, int, float]]]
    "Steps of (state, choice, reward); every episode truly ends. The log repeats the list."
    right: dict[int, int]
    choices: int = 2


PROBES = {
    "choice": Probe("one state; the action that earns more is logged less often", [[(0, 0, 0.0)]] * 6 + [[(0, 1, 1.0)]] * 4, {0: 1}),
    "context": Probe(
        "what is best depends on the state, and is logged less often",
        [[(0, 0, 0.0)], [(1, 1, 0.0)]] * 3 + [[(0, 1, 1.0)], [(1, 0, 1.0)]] * 2, {0: 1, 1: 0},
    ),
    "minority": Probe("one step in ten is good", [[(0, 0, -1.0)]] * 9 + [[(0, 1, 1.0)]], {0: 1}),
    "delay": Probe("a small reward now, or a large one a step later", [[(0, 0, 0.3)]] * 6 + [[(0, 1, 0.0), (1, 0, 1.0)], [(0, 1, 0.0), (1, 1, 1.0)]] * 2, {0: 1}),
    "stitch": Probe(
        "no episode is good: the good one is the first half of one and the second half of another",
        [[(0, 0, 0.3)]] * 7 + [[(0, 1, 0.0), (1, 0, 0.0)]] * 5 + [[(1, 1, 1.0)]] * 4, {0: 1, 1: 1},
    ),
    "bait": Probe("what was never logged looks better than all that was: every guess beats a loss", [[(0, 0, -1.0)]] * 3 + [[(0, 1, -2.0)]], {0: 0}, 3),
}  # fmt: skip
"Data sets that a person can solve."


def probe_data(name: str, action: type, rows: int = 840, *, obs: type = Box) -> Episodes:
    """The log of a probe; all have the same number of rows, so that one program serves all.

    A state is a vector with a single 1, or with `obs=Discrete` its number. A `Box` action says its choice by its sign, ±0.5 give or take
    0.3; the bait lies beyond the logged range. A `MultiDiscrete` action is the choice, and another one that does not matter.
    """
    probe, rng = PROBES[name], np.random.default_rng(0)
    once = [(*step, i == len(episode) - 1) for episode in probe.episodes for i, step in enumerate(episode)]
    state, done, reward, terminal = (np.array(column) for column in zip(*once * (rows // len(once))))
    pair = state * probe.choices + done
    if action is Box:
        done = np.where(done == 1, 0.5, -0.5) + rng.uniform(-0.3, 0.3, len(done))
        if name == "bait":  # the reward rises towards the edge of what was logged, and falls off a cliff behind it
            done = rng.uniform(-0.9, 0.1, len(done))
            reward = -1.5 + 0.5 * done
    if action is MultiDiscrete:
        done = np.stack([done, rng.integers(2, size=len(done))], axis=1)
    members = {Discrete: probe.choices, MultiDiscrete: (probe.choices, 2)}.get(action)
    share = np.bincount(pair, minlength=pair.max() + 1)[pair] / np.bincount(state)[state]  # how often this was done there
    spread = 1.0 if action is Box and name == "bait" else share * {Box: 1 / 0.6, MultiDiscrete: 0.5}.get(action, 1.0)
    return Episodes.of(
        np.eye(3, dtype=np.float32)[state] if obs is Box else state, done, reward, terminal, actions=members,
        states=None if obs is Box else 3, low=-1.0 if action is Box else None, high=1.0 if action is Box else None,
        probability=np.broadcast_to(spread, len(done)), info={"labelled": np.ones(len(done), bool)}, source=f"probe {name!r}",
    )  # fmt: skip


def probe(algorithm: Algorithm, name: str, action: type, *, seeds: int = 3) -> float:
    """The share of seeds with which the algorithm, trained on the probe, acts right in every state that counts."""
    kind, wanted = algorithm.observations[0], PROBES[name].right
    log = probe_data(name, action, obs=kind)
    out = train([(algorithm, seed) for seed in range(seeds)], log, every=10_000)
    solved, states = 0, jnp.eye(3) if kind is Box else jnp.arange(3)
    for state, fault in zip(unstack(out.states, seeds), out.faults):
        said = np.asarray(greedy(log.policy(algorithm.policy(state)), states))[sorted(wanted)]
        said = said[:, 0] if action is MultiDiscrete else said
        if action is Box and name == "bait":
            right = bool((said < 0.35).all())
        elif action is Box:
            right = [int(a[0] > 0) for a in said] == [wanted[s] for s in sorted(wanted)]
        else:
            right = said.tolist() == [wanted[s] for s in sorted(wanted)]
        solved += right and fault is None
    return solved / seeds


@jax.jit
def greedy(policy: Policy, obs):
    """What it does first at each of `obs`."""
    return jax.vmap(lambda o: policy.act(policy.start(), o, jnp.float32(0))[0])(obs)


__all__ = ["PROBES", "PROMISES", "VOCABULARY", "check", "probe", "probe_data", "tiny"]
