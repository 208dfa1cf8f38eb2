"""The one training loop. It knows no algorithm: only stages, runs and listeners."""

import dataclasses
import functools as ft
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .core import Algorithm, Mean, as_it_is
from .data import Episodes

CEILING = 1e12
"The absolute value of a metric above which a run counts as diverged."
LARGE = 4096
"Numbers from which on a part of a state is looked at as a whole for those that are not finite."


class Fault(NamedTuple):
    """Why a run was stopped: the first metric, or else the first part of the state, that broke, and when."""

    stage: str
    step: int
    quantity: str

    def __str__(self):
        return f"{self.quantity} stopped being a finite number of sensible size at step {self.step:,} of stage {self.stage!r}"


class Progress(NamedTuple):
    """All that a checkpoint must hold. Runs lie along the leading axis of `states` and `alive`."""

    stage: int
    step: int
    states: Any
    alive: Any
    "bool: False once a run has been frozen."
    faults: tuple[Fault | None, ...]
    "By run: what broke, if it broke."


Listener = Callable[[Progress, dict[str, np.ndarray]], Any]


def train(
    runs: Sequence[tuple[Algorithm, int]],
    data,
    *,
    every: int = 1000,
    listeners: Sequence[Listener] = (),
    resume: Progress | None = None,
    together: str = "auto",
    ceiling: float = CEILING,
) -> Progress:
    """Train `runs`, a list of (algorithm, seed), through all stages of the algorithm, in one compiled program a stage.

    `data` is `Episodes`, or what the algorithm's `prepare` made of them. Every `every` steps each listener gets
    `(progress, metrics)`, metrics by name with one number per run (NaN: not measured); it may return a mask of runs to
    freeze. `resume` is a `Progress` from any earlier moment. `together` is how runs share a device: side by side
    (`"vmap"`), one after another (`"map"`), or `"auto"`: the first on accelerators, the second on a CPU.
    """
    algos, keys = line_up(runs)
    if isinstance(data, Episodes):
        data = common(runs).prepare(data)
    if together == "auto":
        together = "map" if jax.default_backend() == "cpu" else "vmap"
    n, stages = len(runs), runs[0][0].stages()
    devices = min(n, len(jax.devices()))
    idle = -n % devices  # frozen copies, so that every device gets as many runs
    spread = lambda tree: tree  # every array by run goes through here, so that `advance` always meets the same layout
    if devices > 1:
        mesh = mesh_of(devices)
        data = jax.device_put(data, jax.NamedSharding(mesh, jax.P()))
        spread = lambda tree: jax.device_put(tree, jax.NamedSharding(mesh, jax.P("run")))
    algos, keys = spread((pad(algos, idle), pad(keys, idle)))
    now = resume or Progress(0, 0, None, jnp.ones(n, bool), (None,) * n)
    states = spread(begin(algos, data, keys) if resume is None else pad(now.states, idle))
    trim = (lambda tree: jax.tree.map(lambda x: x[:n], tree)) if idle else lambda tree: tree
    alive = spread(jnp.concatenate([now.alive, jnp.zeros(idle, bool)]))
    for index in range(now.stage, len(stages)):
        stage = stages[index]
        go = advance if stage.compiled else advance_on_host
        while now.step < stage.steps:
            length = min(every - now.step % every, stage.steps - now.step)
            moment = jnp.int32(now.step), jnp.int32(length), jnp.float32(ceiling)
            how = dict(index=index, together=together, devices=devices)
            states, alive, broken, sums = go(algos, states, alive, data, keys, *moment, **how)
            faults = tuple(old or new for old, new in zip(now.faults, read_faults(broken, sums, states, stage.name)))
            now = Progress(index, now.step + length, trim(states), alive[:n], faults)
            metrics = {name: average(value)[:n] for name, value in sums.items()}
            for listener in listeners:
                halt = listener(now, metrics)
                if halt is not None:
                    alive = spread(alive & ~jnp.concatenate([jnp.asarray(halt), jnp.zeros(idle, bool)]))
                    now = now._replace(alive=alive[:n])
        if stage.finish is not as_it_is:
            end = finish if stage.compiled else finish_on_host
            states = spread(end(algos, states, alive, data, keys, index=index))
        now = Progress(index + 1, 0, trim(states), now.alive, now.faults)
    return now


# one program -----------------------------------------------------------------------------------------------------------


@ft.partial(jax.jit, static_argnames=("index", "together", "devices"))
def advance(algos, states, alive, data, keys, start, length, ceiling, *, index: int, together: str, devices: int = 1):
    """`length` steps of stage `index` for every run. Returns states, alive, (first bad step, what broke), sums of metrics.

    Runs are dealt out to `devices` (on a CPU one per core: `jax_num_cpu_devices`), and on each of them go side by side
    (`together="vmap"`) or one after another (`"map"`).

    `start` and `length` are data, not program: one executable serves every chunk, the remainder and a resumed run,
    which is why resuming is exact to the bit. A run whose state or metrics stop being finite gets back the state that it
    had at `start`: one check and one choice for a whole chunk, where a check at every step would cost at every step.
    Nothing is donated (the old state is kept anyway), so whoever was handed a state may keep it.
    """

    def run(data, start, ceiling, algo, state, alive, key, length):
        stage = algo.stages()[index]
        key = stage_key(key, stage)

        traced_once = jax.jit(lambda state, step: one_step(stage, state, data, step, key), inline=True)

        def body(step, carry):
            state, total, broken = carry
            state, metrics = traced_once(state, step)
            return state, add(total, metrics), first(broken, step, sound(totals(metrics), ceiling))

        shapes = jax.eval_shape(traced_once, state, start)[1]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        after, total, broken = jax.lax.fori_loop(start, start + length, body, (state, zeros, (jnp.int32(-1), jnp.int32(-1))))
        step, what = first(broken, start + length - 1, sound(jax.tree.leaves(after), jnp.inf), offset=len(total))
        alive = alive & (step < 0)
        kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, state)
        return kept, alive, (step, what), total

    def on_device(algos, states, alive, keys, data, start, length, ceiling):
        if together == "vmap":  # one trip count for all, so the loop and every `cond` on the step stay unbatched
            return jax.vmap(ft.partial(run, data, start, ceiling), in_axes=(0, 0, 0, 0, None))(algos, states, alive, keys, length)
        lengths = jnp.where(alive, length, 0)  # one after another, a frozen run costs nothing
        return jax.lax.map(lambda args: run(data, start, ceiling, *args), (algos, states, alive, keys, lengths))

    each, same = jax.P("run"), jax.P()
    if devices > 1:
        specs = (each, each, each, each, same, same, same, same)
        on_device = jax.shard_map(on_device, mesh=mesh_of(devices), in_specs=specs, out_specs=each, check_vma=False)
    return on_device(algos, states, alive, keys, data, start, length, ceiling)


def advance_on_host(algos, states, alive, data, keys, start, length, ceiling, *, index: int, **_):
    """The same for a stage that is not compiled: the same body, run by run, step by step, in Python."""
    outcomes = []
    for algo, state, ok, key in zip(unstack(algos, len(keys)), unstack(states, len(keys)), np.asarray(alive), keys):
        stage, total, broken = algo.stages()[index], None, (jnp.int32(-1), jnp.int32(-1))
        key, before = stage_key(key, stage), state
        for step in range(int(start), int(start) + int(length) if ok else int(start)):
            state, metrics = one_step(stage, state, data, jnp.int32(step), key)
            total = metrics if total is None else add(total, metrics)
            broken = first(broken, step, sound(totals(metrics), ceiling))
            broken = first(broken, step, sound(jax.tree.leaves(state), jnp.inf), offset=len(metrics))
            if broken[0] >= 0:
                state, ok = before, False
                break
        outcomes.append((state, jnp.asarray(ok), jax.tree.map(jnp.int32, broken), total))
    blank = next((jax.tree.map(jnp.zeros_like, m) for *_, m in outcomes if m is not None), {})
    return stack([(s, a, b, blank if m is None else m) for s, a, b, m in outcomes])


@jax.jit
def begin(algos, data, keys):
    """The first states. Without weak types, which `update` would lose: `advance` would compile a second time for them."""
    firm = lambda x: jax.lax.convert_element_type(x, x.dtype)
    return jax.tree.map(firm, jax.vmap(lambda algo, key: algo.init(data, key=key))(algos, keys))


@ft.partial(jax.jit, static_argnames="index")
def finish(algos, states, alive, data, keys, *, index: int):
    """The end of stage `index` for every run that is alive."""

    def run(algo, state, alive, key):
        stage = algo.stages()[index]
        done = stage.finish(state, data, key=end_key(key, stage))
        return jax.tree.map(lambda new, old: jnp.where(alive, new, old), done, state)

    return jax.vmap(run)(algos, states, alive, keys)


def finish_on_host(algos, states, alive, data, keys, *, index: int):
    """The same for a stage that is not compiled."""
    done = []
    for algo, state, ok, key in zip(unstack(algos, len(keys)), unstack(states, len(keys)), np.asarray(alive), keys):
        stage = algo.stages()[index]
        done.append(stage.finish(state, data, key=end_key(key, stage)) if ok else state)
    return stack(done)


# one step --------------------------------------------------------------------------------------------------------------


def one_step(stage, state, data, step, key):
    """refresh, sample, update. `key` is the run's key for this stage. Every metric comes back as a `Mean`."""
    fresh, draw, learn = jax.random.split(jax.random.fold_in(key, step), 3)
    state = stage.refresh(state, data, step=step, key=fresh)
    state, metrics = stage.update(state, stage.sample(state, data, key=draw), step=step, key=learn)
    return state, {name: m if isinstance(m, Mean) else Mean(m, jnp.ones(())) for name, m in sorted(metrics.items())}


def stage_key(key, stage):
    return jax.random.fold_in(key, zlib.crc32(stage.name.encode()) & 0x7FFFFFFF)


def end_key(key, stage):
    return jax.random.fold_in(stage_key(key, stage), 0x7FFFFFFF)


def add(a, b):
    return jax.tree.map(jnp.add, a, b)


def totals(metrics):
    return [jnp.float32(metric.total) for metric in metrics.values()]


def sound(parts, ceiling):
    """Whether numbers are finite and below `ceiling`: each one of those in small parts, then each large part. Only fractions can fail.

    Small parts are laid end to end: a program that looks at each of the hundreds that a state has takes a fifth longer to compile. Large ones
    would be copied for that.
    """
    real = [part for part in parts if jnp.issubdtype(part.dtype, jnp.inexact)]
    small = [part.ravel() for part in real if part.size < LARGE]
    fine = [jnp.abs(jnp.concatenate(small)) < ceiling] if small else []
    fine += [(jnp.abs(part) < ceiling).all()[None] for part in real if part.size >= LARGE]
    return jnp.concatenate(fine) if fine else jnp.ones(1, bool)


def first(broken, step, fine, offset=0):
    """(step, which number): as it was if something had broken before, else now if not all is `fine`."""
    what = jnp.append(fine, False).argmin()  # a search, because XLA copies the terms of `fine.all()` to wherever it is used
    fresh = (broken[0] < 0) & (what < len(fine))
    return jnp.where(fresh, step, broken[0]), jnp.where(fresh, what + offset, broken[1])


def read_faults(broken, sums, states, stage: str):
    """What `advance` found, in words."""
    steps, whats = np.asarray(broken[0]), np.asarray(broken[1])
    if (steps < 0).all():
        return [None] * len(steps)
    parts = [
        ("state" + jax.tree_util.keystr(path), x.size // len(x), x.dtype) for path, x in jax.tree_util.tree_flatten_with_path(states)[0]
    ]
    parts = sorted(((name, size) for name, size, kind in parts if jnp.issubdtype(kind, jnp.inexact)), key=lambda part: part[1] >= LARGE)
    names = [*sorted(sums), *(name for name, _ in parts)]
    ends = np.cumsum([*(1 for _ in sums), *(size if size < LARGE else 1 for _, size in parts)])
    return [Fault(stage, int(step), names[np.searchsorted(ends, what, "right")]) if step >= 0 else None for step, what in zip(steps, whats)]


def average(mean: Mean) -> np.ndarray:
    """By run; NaN where nothing was measured."""
    total, count = np.asarray(mean.total, np.float64), np.asarray(mean.count, np.float64)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


# many runs -------------------------------------------------------------------------------------------------------------


def line_up(runs):
    """(algorithm, seed) pairs as a stacked algorithm and stacked keys."""
    if len({jax.tree.structure(algo) for algo, _ in runs}) != 1:
        raise ValueError(f"Runs trained together may differ in seed and in float hyperparameters only, but {differences([a for a, _ in runs])}. "
                         "Train them in separate calls.")  # fmt: skip
    return stack([algo for algo, _ in runs]), jnp.stack([jax.random.key(seed) for _, seed in runs])


def differences(algorithms) -> str:
    """What keeps algorithms from being one program, in words."""
    kinds = sorted({type(algorithm).__name__ for algorithm in algorithms})
    if len(kinds) > 1:
        return f"these are {', '.join(kinds)}"
    fields = [f.name for f in dataclasses.fields(algorithms[0]) if f.metadata.get("static", False)]
    values = {name: {repr(getattr(algorithm, name)): None for algorithm in algorithms} for name in fields}
    return f"{kinds[0]} differs in " + "; ".join(f"{name}: {', '.join(seen)}" for name, seen in values.items() if len(seen) > 1)


def common(runs) -> Algorithm:
    """The algorithm of all runs, in which a float that differs between them cannot be read."""

    def same(path, *values):
        swept = any(v != values[0] for v in values)
        return Swept(type(runs[0][0]).__name__, jax.tree_util.keystr(path).lstrip("."), values) if swept else values[0]

    return jax.tree_util.tree_map_with_path(same, *(algo for algo, _ in runs))


class Swept:
    """Stands for a float that differs between runs, where all of them share what is being made."""

    def __init__(self, algorithm: str, name: str, values):
        self._said = (f"{algorithm}.{name} takes the values {sorted(set(values))} in runs trained together, but it shapes the data that "
                      "they share (it is read by `prepare`). Train one value at a time.")  # fmt: skip

    def _refuse(self, *_):
        raise ValueError(self._said)

    __array_priority__ = 1000
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = _refuse
    __neg__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __bool__ = __float__ = __int__ = _refuse
    __array__ = __jax_array__ = __index__ = __round__ = __hash__ = __format__ = _refuse  # pyright: ignore[reportAssignmentType]


def stack(runs):
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *runs)


@ft.partial(jax.jit, static_argnames="n")
def unstack(tree, n: int):
    """The `n` trees that were stacked. One program: taken leaf by leaf, every shape would need three."""
    return [jax.tree.map(lambda x: x[i], tree) for i in range(n)]


def pad(tree, idle: int):
    return jax.tree.map(lambda x: jnp.concatenate([x, *[x[:1]] * idle]), tree) if idle else tree


def mesh_of(devices: int):
    return jax.make_mesh((devices,), ("run",), axis_types=(jax.sharding.AxisType.Auto,))
