"""Logs made on purpose: a policy acts in an environment, and everything that learning and evaluation will ask about is kept.

Log-probabilities are those of what was really done. A normal whose samples are clipped to a box puts mass on the faces of the
box, so its actions have a distribution of a mixed kind: in a coordinate that lies on a bound, `log_prob` is the logarithm of the
probability of that bound, in any other that of a density per raw unit. The two together sum and integrate to one.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from .core import Box, Discrete, Image, Markov, MultiDiscrete, Policy, Spec, static
from .data import BadData, Episodes
from .data.formats.log import read_log, write_log
from .data.view import Rescaled, drawn
from .disk import BadFile, write_json
from .evaluation import Step, flat, gym_maker, known, play, require_fit, row_of
from .nets.actors import greedy as certain
from .nets.distributions import Categorical, Choices, Delta, Normal, Tanh
from .nets.mlp import vector

Bound = Float[Array | np.ndarray, " act"]
Tell = Callable[[int, int], Any]
"Called with the steps that are there and those that were asked for."

# behaviour -----------------------------------------------------------------------------------------------------------------


class Clipped(eqx.Module):
    """Independent normals, clipped to a box: all that would fall outside lies on its faces."""

    mean: Float[Array, "*batch act"]
    std: Float[Array, "*batch act"]
    low: Float[Array, "*batch act"]
    high: Float[Array, "*batch act"]

    def mode(self):
        return jnp.clip(self.mean, self.low, self.high)

    def sample(self, key):
        return jnp.clip(self.mean + self.std * jax.random.normal(key, self.mean.shape), self.low, self.high)

    def log_prob(self, action):
        """Where a coordinate lies on a bound, of the probability of that bound; elsewhere of the density."""
        z = lambda x: (x - self.mean) / self.std
        inside = -0.5 * z(action) ** 2 - jnp.log(self.std) - 0.5 * math.log(2 * math.pi)
        part = jnp.where(action >= self.high, log_ndtr(-z(self.high)), inside)
        part = jnp.where(action <= self.low, log_ndtr(z(self.low)), part)
        return jnp.where((action < self.low) | (action > self.high), -jnp.inf, part).sum(-1)

    def on_face(self, action):
        """Whether an action has a probability, not a density, in one coordinate at least."""
        return ((action == self.low) | (action == self.high)).any(-1)


class Uniform(eqx.Module):
    """Any point inside a box; never one of its faces, which might have a probability of their own."""

    low: Float[Array, "*batch act"]
    high: Float[Array, "*batch act"]

    def mode(self):
        return (self.low + self.high) / 2

    def sample(self, key):
        share = jax.random.uniform(key, self.low.shape, minval=2.0**-24)
        inner = jnp.nextafter(self.low, self.high), jnp.nextafter(self.high, self.low)
        return jnp.clip(self.low + (self.high - self.low) * share, *inner)

    def log_prob(self, action):
        inside = ((action >= self.low) & (action <= self.high)).all(-1)
        return jnp.where(inside, -jnp.log(self.high - self.low).sum(-1), -jnp.inf)


class Mixture(eqx.Module):
    """`base` with probability `level`, else `other`."""

    base: eqx.Module
    other: Uniform | Categorical | Choices
    level: float = static()

    def mode(self):
        """The base's."""
        return self.base.mode()

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        which, own, any_ = jax.random.split(key, 3)
        (mine, log_prob), stray = drawn(self.base, own), self.other.sample(any_)
        pick = jax.random.bernoulli(which, self.level, log_prob.shape)
        action = jnp.where(pick.reshape(pick.shape + (1,) * (mine.ndim - pick.ndim)), mine, stray)
        if not hasattr(self.base, "log_prob"):
            return action, log_prob
        return action, self._log_prob(jnp.where(pick, log_prob, self._of_base(stray)), action)

    def log_prob(self, action):
        return self._log_prob(self._of_base(action), action)

    def _of_base(self, action):
        log_prob, base, unit = self.base.log_prob(action), self.base, action
        if isinstance(base, Rescaled):
            base, unit = base.base, base.action(action)
        if not isinstance(base, Tanh):
            return log_prob
        return jnp.where((abs(unit) <= 1).all(-1), log_prob, -jnp.inf)  # it answers for actions that it cannot take, too

    def _log_prob(self, of_base, action):
        of_other = self.other.log_prob(action)
        if isinstance(self.base, Clipped):  # next to the probability of a face, a density there is nothing
            of_other = jnp.where(self.base.on_face(action), -jnp.inf, of_other)
        return jnp.logaddexp(math.log(self.level) + of_base, math.log1p(-self.level) + of_other)


class Random(Markov):
    """Every legal action is as likely as any other."""

    spec: Spec = static()
    low: Bound | None = None
    "The bounds of a `Box` of actions, in raw units."
    high: Bound | None = None

    def __call__(self, obs, mask=None):
        lead = jnp.shape(obs)[: jnp.ndim(obs) - len(row(self.spec.obs).shape)]
        if isinstance(self.spec.action, MultiDiscrete):
            return Choices(jnp.zeros((*lead, self.spec.action.size)), self.spec.action.sizes, mask)
        if self.low is None:
            return Categorical(jnp.zeros((*lead, self.spec.action.size)), mask)
        wide = lambda x: jnp.broadcast_to(x, (*lead, self.spec.action.size))
        return Uniform(wide(self.low), wide(self.high))


class Behaviour(Markov):
    """What `inner` does when it is made to explore or to err, with the true log-probability of what was done.

    It samples as `inner` does; or, with `noise`, takes its greedy action plus a normal whose std is that share of half the range
    of actions, clipped to their bounds; or, with `greedy`, takes its greedy action. At each step, with probability 1 - `level`,
    a uniformly random legal action is taken instead.
    """

    inner: Markov
    spec: Spec = static()
    low: Bound | None = None
    "The bounds of a `Box` of actions, in raw units."
    high: Bound | None = None
    noise: float | None = static(None)
    level: float = static(1.0)
    greedy: bool = static(False)

    def __check_init__(self):
        if self.noise is not None and not 0 < self.noise < math.inf:
            raise ValueError(f"The noise is a share of half the range of actions, above 0, but it is {self.noise}.")
        if not 0 < self.level <= 1:
            raise ValueError(f"The level is the probability of the policy's own action, above 0 and at most 1, but it is {self.level}. "
                             "For random actions alone, let the random policy act.")  # fmt: skip
        if self.noise is not None and self.greedy:
            raise ValueError("Noise is added to the greedy action: give noise, or greedy, but not both.")
        if self.noise is not None and self.low is None:
            raise ValueError("Noise is for actions that are vectors. Let a policy that chooses among actions err by its level.")

    def __call__(self, obs, mask=None):
        said = self._own(self.inner(obs, mask))
        return said if self.level == 1 else Mixture(said, Random(self.spec, self.low, self.high)(obs, mask), self.level)

    def _own(self, said):
        if self.low is None and self.greedy:
            chosen = vector(said.mode(), self.spec.action)
            return Choices(jnp.log(chosen), said.sizes) if isinstance(said, Choices) else certain(chosen)
        if self.low is None:
            return said
        if self.greedy:
            return Delta(said.mode())
        if self.noise is None:
            return truth(said, self.low, self.high)
        mean = said.mode()
        wide = lambda x: jnp.broadcast_to(x, mean.shape)
        return Clipped(mean, wide(self.noise * (self.high - self.low) / 2), wide(self.low), wide(self.high))


def truth(said, low: Bound, high: Bound):
    """The same distribution over raw actions, between `low` and `high`, with the mass that clipping puts on the faces."""
    base = said.base if isinstance(said, Rescaled) else said
    if not hasattr(base, "log_prob"):
        return Delta(said.mode())
    if not isinstance(base, Normal):
        return said
    raw, one = said.action.undo if isinstance(said, Rescaled) else (lambda x: x), jnp.ones_like(base.mean)
    floor, roof = raw(-one), raw(one)
    wide = lambda x: jnp.broadcast_to(x, one.shape)
    return Clipped(raw(base.mean), jnp.exp(base.log_std) * (roof - floor) / 2, jnp.maximum(floor, wide(low)), jnp.minimum(roof, wide(high)))


def random_policy(env) -> Random:
    """Any legal action of a Gymnasium environment, all as likely: uniform over the `Discrete` or the bounded `Box` of its actions."""
    return Random(*spaces_of(env))


# parts ---------------------------------------------------------------------------------------------------------------------


def gather(
    folder: str | os.PathLike | None,
    steps: int,
    part: Callable[[int], Episodes],
    *,
    about: dict,
    tell: Tell = lambda done, total: None,
) -> Episodes:
    """The first `steps` steps of part(0), part(1), …, as many as it takes.

    Each part is kept in `folder` as it is made, so that a collection that was killed goes on where it was; `folder=None` keeps
    none. `about` is all that the parts depend on: it is written to `about.json`, and must be the same when the folder is used
    again (`BadFile` says what differs), so the outcome does not depend on how often the collection was interrupted.
    """
    if steps < 1:
        raise ValueError(f"Nothing to collect: asked for {steps} steps.")
    if folder is not None:
        _claim(Path(folder), json.loads(json.dumps(about)))
    parts, have = [], 0
    while have < steps:
        parts.append(_kept(folder, len(parts), part))
        have += parts[-1].steps
        tell(min(have, steps), steps)
    return Episodes.join(*parts).head(steps)


def _kept(folder, number: int, part: Callable[[int], Episodes]) -> Episodes:
    if folder is None:
        return part(number)
    path = Path(folder) / f"{number:06d}.log.safetensors"
    if path.is_file():
        with contextlib.suppress(BadData):  # damaged: made again, as it was
            return read_log(path)
    made = part(number)
    write_log(path, made)
    return made


def _claim(folder: Path, about: dict) -> None:
    """Make the folder ours, or make sure that it already is."""
    path = folder / "about.json"
    if not path.is_file():
        if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise FileExistsError(f"{folder} is not empty, and holds no part of a collection. Choose another folder.")
        write_json(path, about)
        return
    try:
        then = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise BadFile(f"{path} is damaged. Remove the folder to collect anew.") from None
    if differ := [name for name in dict.fromkeys([*then, *about]) if then.get(name) != about.get(name)]:
        said = "; ".join(f"{name} was {json.dumps(then.get(name))}, now it is {json.dumps(about.get(name))}" for name in differ)
        raise BadFile(f"{folder} holds parts of another collection: {said}. Use the same settings, or remove the folder to collect anew.")


# collection ----------------------------------------------------------------------------------------------------------------

SAVE = 1000
"About so many steps of each lane go into one part."

UNKNOWN = "Log-probabilities are not known: the policy is greedy, deterministic, or has a memory."
FACES = "Where a coordinate of an action lies on a bound, its log-probability is that of the bound, elsewhere that of a density."
OPEN = "At the end of a truncated episode the environment did not say which actions are allowed; all of them are taken to be."


def collect(
    policy: Policy | Literal["random"],
    env: str | Callable[[], Any],
    *,
    steps: int,
    seed: int = 0,
    greedy: bool = False,
    noise: float | None = None,
    level: float = 1.0,
    lanes: int = 10,
    folder: str | os.PathLike | None = None,
    tell: Tell = lambda done, total: None,
) -> Episodes:
    """A log of exactly `steps` steps of a policy in a Gymnasium environment (an id, or a function that makes one).

    Episodes 0, 1, … start from the seeds `seed`, `seed` + 1, …, which are their `ids`; they follow one another in this order,
    and the last is cut, as truncated, where the steps are full. To join logs of one policy, choose seeds that lie far apart.
    `noise`, `level` and `greedy` say how the policy acts, see `Behaviour`; `"random"` is `random_policy`.

    Observations of a Dict or Tuple space are laid side by side in the order of the space. `next_obs` is kept, terminal and
    truncated stay apart, masks are kept where the environment gives `info["action_mask"]`, log-probabilities where they exist;
    `notes` say what was not known, and with which versions the log was made.

    `lanes` environments run side by side. With `folder`, parts of the log are kept there, and a collection that was killed goes
    on: see `gather`. The outcome depends on everything but `folder`, and not on how often it was interrupted.
    """
    if lanes < 1:
        raise ValueError(f"Environments run in one lane at least, but asked for are {lanes}.")
    make = (lambda: flat(env())) if callable(env) else gym_maker(env)
    with contextlib.closing(make()) as world:
        spec, low, high = spaces_of(world)
        name = env if isinstance(env, str) else world.spec.id if world.spec is not None else type(world.unwrapped).__name__
        limit = world.spec.max_episode_steps if world.spec is not None else None
        versions = _versions(world)
        inner = random_policy(world) if isinstance(policy, str) else policy
        require_fit(inner, world)
    if isinstance(inner, Markov):
        acting: Policy = Behaviour(inner, spec, low, high, noise=noise, level=float(level), greedy=greedy)
    elif noise is None and level == 1:
        acting = inner
    else:
        raise ValueError("Noise and level are for policies without a memory. Let this one act greedily, or sample.")
    episodes = lanes * max(1, SAVE // (limit or SAVE))
    how = "greedily" if greedy else "at random" if isinstance(inner, Random) else "by sampling"
    how = how if noise is None else f"greedily with noise {noise:g}"
    notes = [f"Collected in {name}, acting {how}{f', at level {level:g}' if level < 1 else ''}, episode i from seed {seed} + i, with "
             f"{', '.join(f'{package} {version}' for package, version in versions.items())}.",
             *([FACES] if _has_faces(acting, spec) else [])]  # fmt: skip
    have = 0

    def told(done, total):
        nonlocal have
        have = done
        tell(done, total)

    def part(number: int) -> Episodes:
        first, kept, seen = seed + number * episodes, [[] for _ in range(episodes)], 0

        def watch(step: Step):
            nonlocal seen
            kept[step.episode].append(step._replace(info={}))
            seen += 1
            if step.terminated or step.truncated:
                tell(min(have + seen, steps - 1), steps)

        with contextlib.ExitStack() as after:
            worlds = [make() for _ in range(lanes)]
            for world in worlds:
                after.callback(world.close)
            play([acting], [worlds], episodes, first, greedy and acting is inner, watch=watch)
        return _log(kept, first, spec, low, high, name, notes)

    about = {"env": name, "policy": _mark(inner), "seed": seed, "greedy": greedy, "noise": noise, "level": level, "lanes": lanes}
    return gather(folder, steps, part, about=about | {"versions": versions}, tell=told)


def _log(kept: list[list[Step]], first: int, spec: Spec, low, high, source: str, notes: list[str]) -> Episodes:
    """Whole episodes as a log."""
    steps, notes = [step for episode in kept for step in episode], list(notes)
    ends = np.array([step.terminated or step.truncated for step in steps])
    terminal = np.array([step.terminated for step in steps])
    seen = lambda rows: np.array([row_of(spec.obs, row) for row in rows])
    chosen = np.array([step.action if isinstance(spec.action, Discrete) else np.ravel(step.action) for step in steps])
    log_prob = np.array([step.log_prob for step in steps], np.float32)
    if np.isnan(log_prob).any():
        log_prob = None
        notes.append(UNKNOWN)
    masks: dict = {}
    if steps[0].mask is not None:
        any_ = np.ones(spec.action.size, bool)
        masks = {
            "mask": np.array([step.mask for step in steps], bool),
            "next_mask": np.array([any_ if step.next_mask is None else step.next_mask for step in steps], bool),
        }
        if any(step.next_mask is None and not step.terminated for step in steps):
            notes.append(OPEN)
    return Episodes.of(
        seen(step.obs for step in steps), chosen, np.array([step.reward for step in steps]), terminal, ends=ends,
        next_obs=seen(step.next_obs for step in steps), **declared(spec), low=low, high=high, log_prob=log_prob, **masks,
        ids=first + np.arange(len(kept)), source=source, notes=notes,
    )  # fmt: skip


def spaces_of(env) -> tuple[Spec, np.ndarray | None, np.ndarray | None]:
    """(its spaces, the bounds of a `Box` of actions)."""
    obs, action = known(env.observation_space), known(env.action_space)
    if not isinstance(obs, (Box, Discrete, Image)):
        raise ValueError(
            f"The environment's observations are {obs}; expected vectors, whole numbers from 0, or pictures. Wrap the environment."
        )
    if not isinstance(action, (Box, Discrete, MultiDiscrete)):
        raise ValueError(f"The environment's actions are {action}; expected vectors, or whole numbers from 0. Wrap the environment.")
    spec = Spec(obs, action)
    if not isinstance(action, Box):
        return spec, None, None
    low, high = (np.asarray(x, np.float32).reshape(-1) for x in (env.action_space.low, env.action_space.high))
    if not (np.isfinite([low, high]).all() and (low < high).all()):
        raise ValueError(f"The environment's actions have no bounds, or none that differ: {env.action_space}. Wrap the environment.")
    return spec, low, high


def row(space: Box | Discrete | MultiDiscrete | Image) -> jax.ShapeDtypeStruct:
    """The shape and the type of a member of a space, as a log has it."""
    match space:
        case Box(size):
            return jax.ShapeDtypeStruct((size,), np.float32)
        case Image(height, width, channels):
            return jax.ShapeDtypeStruct((height, width, channels), np.uint8)
        case MultiDiscrete(sizes):
            return jax.ShapeDtypeStruct((len(sizes),), np.int32)
    return jax.ShapeDtypeStruct((), np.int32)


def declared(spec: Spec) -> dict[str, Any]:
    """What `Episodes.of` must be told of spaces, since it cannot be read off the rows."""
    told = {"states": spec.obs.size} if isinstance(spec.obs, Discrete) else {"peak": spec.obs.peak} if isinstance(spec.obs, Image) else {}
    match spec.action:
        case Discrete(n):
            return told | {"actions": n}
        case MultiDiscrete(sizes):
            return told | {"actions": sizes}
    return told


def _has_faces(policy: Policy, spec: Spec) -> bool:
    """Whether the policy's actions are of the mixed kind."""
    if not isinstance(policy, Markov) or not isinstance(spec.action, Box):
        return False
    said = jax.eval_shape(policy, row(spec.obs))
    return isinstance(said.base if isinstance(said, Mixture) else said, Clipped)


def _versions(env) -> dict[str, str]:
    """What the outcome depends on, beside the settings: this package, what computes, and what simulates."""
    kinds = [f"{kind.__module__}.{kind.__qualname__}".lower() for kind in type(env.unwrapped).__mro__]
    packages = ["topstitch", "jax", "numpy", "gymnasium", *(["mujoco"] if any("mujoco" in kind for kind in kinds) else [])]
    packages.append(type(env.unwrapped).__module__.split(".")[0])
    found = {}
    for package in dict.fromkeys(packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found | {"backend": jax.default_backend()}


def _mark(policy: Policy) -> str:
    """A hash of all of its numbers, behind its name."""
    digest = hashlib.sha256()
    for place, x in jax.tree_util.tree_flatten_with_path(policy)[0]:
        x = np.ascontiguousarray(x)
        digest.update(f"{jax.tree_util.keystr(place)} {x.dtype.str} {x.shape}".encode() + x.tobytes())
    return f"{type(policy).__name__} {digest.hexdigest()[:16]}"
