"""How policies do in Gymnasium environments, stepped on the host."""

import contextlib
import ctypes.util
import dataclasses
import functools as ft
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .core import Box, Discrete, Image, Markov, MultiDiscrete, Policy, Spec
from .data import Raw, RawMarkov
from .data.episodes import picture
from .data.view import aims, drawn
from .disk import write_bytes
from .loop import Progress, line_up, stack, unstack


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `evaluate` saw: one row per policy, one column per episode."""

    returns: np.ndarray
    "(policies, episodes) float64: undiscounted."
    lengths: np.ndarray
    "(policies, episodes) int."
    success: np.ndarray | None
    "(policies, episodes) bool where the environment reports it, in `info['success']` or `info['is_success']`."


class Step(NamedTuple):
    """One decision, as `play` tells it to whoever watches: raw units, in the order of the episode."""

    policy: int
    episode: int
    obs: Any
    action: Any
    log_prob: float
    "Of `action` (for a `Box`, its density per raw unit); NaN where it is not known: a policy with memory, or the greedy action of a `Box`."
    mask: Any
    "The actions that were allowed, or None."
    reward: float
    terminated: bool
    truncated: bool
    next_obs: Any
    next_mask: Any
    info: dict


def evaluate(
    policies: Policy | Sequence[Policy],
    env: str | Callable[[], Any],
    *,
    episodes: int = 10,
    seed: int = 0,
    greedy: bool = True,
    lanes: int = 10,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Let every policy act for `episodes` whole episodes, all policies and environments in one compiled call a step.

    `env` is a Gymnasium id or a function that makes an environment. Episode i starts from the seed `seed + i` for every
    policy. `greedy=False` samples actions. A policy that can be told goals acts towards `info["goal"]` of the environment's reset, where there is
    one, else towards its own. `lanes` environments run side by side per policy, each with its own share of the
    episodes, fixed beforehand: short episodes are not counted more often. Policies must be of one program, as in `Runs`.
    """
    policies = [policies] if isinstance(policies, Policy) else list(policies)
    if not policies or episodes < 1 or lanes < 1:
        raise ValueError("Nothing to evaluate: give at least one policy, one episode and one lane.")
    make = env if callable(env) else gym_maker(env)
    lanes = min(lanes, episodes)
    with contextlib.ExitStack() as after:
        worlds = [[make() for _ in range(lanes)] for _ in policies]
        for world in (world for row in worlds for world in row):
            after.callback(world.close)
        for policy in policies:
            require_fit(policy, worlds[0][0])
        return play(policies, worlds, episodes, seed, greedy, tell)


def play(
    policies: list[Policy],
    worlds: list[list],
    episodes: int,
    seed: int,
    greedy: bool,
    tell: Callable = lambda done, total: None,
    watch: Callable[[Step], None] | None = None,
) -> Evaluation:
    """All episodes of `evaluate`; `worlds` are its environments by policy and lane. `watch` is told every step."""
    lanes = len(worlds[0])
    shape = (len(policies), lanes)
    returns, lengths = np.zeros((len(policies), episodes)), np.zeros((len(policies), episodes), int)
    success = np.full((len(policies), episodes), -1)
    obs, masks, reward = np.empty(shape, object), np.empty(shape, object), np.zeros(shape, np.float32)
    goals = np.empty(shape, object)
    current, fresh = np.tile(np.arange(lanes), (len(policies), 1)), np.ones(shape, bool)

    def start(p, lane):
        seen, info = worlds[p][lane].reset(seed=seed + int(current[p, lane]))
        obs[p, lane], masks[p, lane], reward[p, lane], fresh[p, lane] = seen, info.get("action_mask"), 0, True
        goals[p, lane] = info.get("goal") if aims(policies[p]) else None

    for place in np.ndindex(shape):
        start(*place)
    stacked = stack(policies)
    carry, t, done, key = begin(stacked, shape=shape), 0, 0, jax.random.key(seed)
    seen = known(worlds[0][0].observation_space)
    while (current < episodes).any():
        now = np.array([[row_of(seen, o) for o in row] for row in obs])
        legal = None if masks[0, 0] is None else np.array(masks.tolist(), bool)
        goal = None if goals[0, 0] is None else np.array([[row_of(seen, g) for g in row] for row in goals])
        told = jax.random.fold_in(key, t)
        action, log_prob, carry = act(stacked, carry, fresh, now, reward, legal, told, goal, greedy=greedy, logged=watch is not None)
        action, log_prob, t = np.asarray(action), np.asarray(log_prob), t + 1
        fresh[:] = False
        for p, lane in zip(*np.nonzero(current < episodes)):
            world, i = worlds[p][lane], current[p, lane]
            chosen = action[p, lane] if action.ndim == 2 else action[p, lane].reshape(world.action_space.shape)
            chosen = int(chosen) if chosen.ndim == 0 else chosen
            before, allowed = obs[p, lane], masks[p, lane]
            obs[p, lane], earned, terminated, truncated, info = world.step(chosen)
            reward[p, lane] = earned
            if watch is not None:
                after = obs[p, lane], info.get("action_mask")
                watch(
                    Step(p, int(i), before, chosen, float(log_prob[p, lane]), allowed, float(earned), terminated, truncated, *after, info)
                )
            if "action_mask" in info or not (terminated or truncated):  # nothing needs to be legal behind the end
                masks[p, lane] = info.get("action_mask")
            returns[p, i] += float(earned)
            lengths[p, i] += 1
            for name in ("success", "is_success"):
                if name in info:
                    success[p, i] = max(success[p, i], int(bool(info[name])))
            if terminated or truncated:
                done += 1
                tell(done, returns.size)
                current[p, lane] += lanes
                if current[p, lane] < episodes:
                    start(p, lane)
    return Evaluation(returns, lengths, None if (success < 0).any() else success.astype(bool))


@ft.partial(jax.jit, static_argnames="shape")
def begin(policies, *, shape: tuple[int, int]):
    """The memory at the start of an episode, for every policy and lane."""
    lanes = lambda x: jnp.broadcast_to(x, (shape[1], *jnp.shape(x)))
    return jax.vmap(lambda policy: jax.tree.map(lanes, policy.start()), axis_size=shape[0])(policies)  # a policy may hold no array


@ft.partial(jax.jit, static_argnames=("greedy", "logged"))
def act(policies, carry, fresh, obs, reward, mask, key, goal=None, *, greedy: bool, logged: bool = False):
    """One action for every policy and lane, and its log-probability if `logged`; where `fresh`, from the memory of a new episode. With `goal`,
    one for each, towards it."""

    def one(policy, carry, fresh, obs, reward, mask, key, goal):
        policy = policy if goal is None else policy.towards(goal)
        carry = jax.tree.map(lambda new, old: jnp.where(fresh, new, old), policy.start(), carry)
        if logged and not greedy and isinstance(policy, Markov):
            return *drawn(policy(obs, mask), key), carry
        action, carry = policy.act(carry, obs, reward, mask=mask, key=None if greedy else key)
        certain = logged and isinstance(policy, Markov) and jnp.issubdtype(action.dtype, jnp.integer)
        return action, jnp.float32(0 if certain else jnp.nan), carry

    lanes = jax.vmap(one, in_axes=(None, 0, 0, 0, 0, 0, 0, 0))
    return jax.vmap(lanes)(policies, carry, fresh, obs, reward, mask, jax.random.split(key, fresh.shape), goal)


class Evaluations:
    """Listens to training: how the policies of all runs do in an environment, every `every` steps of the last stage and at its end.

    `runs` and `log` are those of the training (of the log, only `policy` is used). `points` holds one dict a moment: `step`, `returns`
    and `lengths` (runs, episodes), `success` where the environment reports it, and `believes`, what the critics say ("critic/q"), where
    there is one. Kept in the file `path`, one JSON line a moment: training that goes on forgets what came after the step from which it
    does. `steps` is for training that consists of so many steps of the last stage alone.
    """

    def __init__(self, runs, log: Any, env: str | Callable[[], Any], *, every: int, episodes: int = 10, seed: int = 0,
                 greedy: bool = True, lanes: int = 10, path: str | Path | None = None, steps: int | None = None):  # fmt: skip
        self.log, self.env, self.every = log, env, every
        self.how = dict(episodes=episodes, seed=seed, greedy=greedy, lanes=lanes)
        stages = runs[0][0].stages()
        self.last = (len(stages) - 1, stages[-1].steps) if steps is None else (0, steps)
        self.algorithms, _ = line_up(runs)
        self.policies_of = jax.jit(jax.vmap(lambda algorithm, state: algorithm.policy(state)))
        self.path = None if path is None else Path(path)
        self.points: list[dict] = read_lines(self.path) if self.path is not None else []

    def __call__(self, now: Progress, metrics):
        stage, steps = self.last
        if now.stage != stage or (now.step % self.every and now.step != steps):
            return
        policies = jax.device_get(unstack(self.policies_of(self.algorithms, jax.device_get(now.states)), len(now.faults)))
        seen = self.see([self.log.policy(policy) for policy in policies])
        believes = metrics.get("critic/q")
        said = None if believes is None else [float(b) if np.isfinite(b) else None for b in believes]
        point = {"step": now.step, **seen, "believes": said}
        self.points = [*(p for p in self.points if p["step"] < now.step), point]
        if self.path is not None:
            write_bytes(self.path, "".join(json.dumps(p) + "\n" for p in self.points).encode())

    def see(self, policies: list[Policy]) -> dict[str, list | None]:
        """How policies in raw units do: `returns`, `lengths` and `success`."""
        seen = evaluate(policies, self.env, **self.how)
        success = None if seen.success is None else seen.success.tolist()
        return {"returns": seen.returns.tolist(), "lengths": seen.lengths.tolist(), "success": success}


def read_lines(path: Path) -> list[dict]:
    """The points that `Evaluations` kept; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def last_and_best(
    points: Sequence[dict], score: Callable[[np.ndarray], np.ndarray] = lambda returns: returns
) -> tuple[np.ndarray, np.ndarray]:
    """By run, the mean score at the last moment of `Evaluations.points`, and at the best one.

    The best is chosen by the same episodes that score it, in an environment that whoever has only a log does not have: it is too
    high, and stands beside the last for comparison with papers that report it.
    """
    means = np.array([score(np.asarray(point["returns"], np.float64)).mean(axis=1) for point in points])
    return means[-1], means.max(axis=0)


def film(policy: Policy, env: str, path: str | Path, *, seed: int = 0, greedy: bool = True, frames: int = 500) -> int:
    """One episode of a policy as a moving picture (GIF, at most `frames` frames). Returns how many there are.

    An error where the environment does not render. Where there is no screen, MuJoCo is asked to draw without one, by setting `MUJOCO_GL` if it
    is not set: "osmesa" where that library is installed, else "egl".
    """
    import io

    from PIL import Image

    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("MUJOCO_GL", "osmesa" if ctypes.util.find_library("OSMesa") else "egl")
    world = gym_maker(env, render_mode="rgb_array")()
    shown: list = []

    def keep(step: Step):
        if len(shown) < frames:
            try:
                shown.append(Image.fromarray(np.asarray(world.render())))
            except Exception as error:  # whatever a simulator's drawing may raise where there is no screen, no library, or no picture
                raise ValueError(
                    f"{env!r} could not be drawn, so there is no film ({type(error).__name__}: {error}). Where there is no screen, MuJoCo needs "
                    "EGL or OSMesa (Debian: libegl-mesa0 or libosmesa6), and MUJOCO_GL=egl or MUJOCO_GL=osmesa."
                ) from None

    with contextlib.closing(world):
        require_fit(policy, world)
        play([policy], [[world]], 1, seed, greedy, watch=keep)
        rate = world.metadata.get("render_fps", 30)
    content = io.BytesIO()
    shown[0].save(content, format="GIF", save_all=True, append_images=shown[1:], duration=max(20, round(1000 / rate)), loop=0)
    write_bytes(path, content.getvalue())
    return len(shown)


def gym():
    try:
        import gymnasium
    except ImportError:
        raise ImportError("Evaluation needs Gymnasium: pip install 'topstitch[gym]' (or [mujoco] for MuJoCo tasks)") from None
    return gymnasium


def flat(world):
    """The same environment, the parts of a Dict or Tuple observation laid side by side."""
    spaces = gym().spaces
    return gym().wrappers.FlattenObservation(world) if isinstance(world.observation_space, (spaces.Dict, spaces.Tuple)) else world


def known(space) -> Box | Discrete | MultiDiscrete | Image | str:
    """A Gymnasium space as it is called here; for one that is not known here, what it is, in words."""
    spaces = gym().spaces
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and not space.start.any():
        return MultiDiscrete(tuple(int(n) for n in space.nvec.reshape(-1)))
    if isinstance(space, spaces.Box) and space.dtype in (np.uint8, bool) and len(space.shape) == 3:
        return picture(space.shape, int(space.high.max()))
    if isinstance(space, spaces.Box):
        return Box(int(np.prod(space.shape)))
    return f"the numbers {space.start} to {space.start + space.n - 1}" if isinstance(space, spaces.Discrete) else str(space)


def row_of(space: Box | Discrete | MultiDiscrete | Image | str, obs) -> np.ndarray | np.generic:
    """What an environment shows as one row of a log has it."""
    if isinstance(space, Discrete):
        return np.int32(obs)
    return np.asarray(obs, np.uint8) if isinstance(space, Image) else np.ravel(obs).astype(np.float32)


def gym_maker(name: str, **how) -> Callable[[], Any]:
    """Makes environments of a registered id; an error that says what to do where it is not known. Observations of several parts
    are laid side by side, in the order of the space (Gymnasium sorts the keys of a Dict)."""
    gymnasium = gym()
    make = lambda: flat(gymnasium.make(name, **how))

    try:
        make().close()
    except gymnasium.error.Error as error:
        advice = "An id of a package that registers its own is written PACKAGE:ID, for example gymnasium_robotics:AdroitHandDoor-v1."
        raise ValueError(f"Gymnasium cannot make {name!r}: {error} {advice}") from None
    except ImportError as error:
        advice = "For MuJoCo tasks: pip install 'topstitch[mujoco]'"
        raise ImportError(f"{name!r} needs a package that is not installed ({error}). {advice}") from None
    return make


def require_fit(policy: Policy, env) -> None:
    """An error if a saved policy was made for other observations or actions than the environment's."""
    if not isinstance(policy, (Raw, RawMarkov)):
        return
    spec: Spec = policy.spec
    for part, space, wanted in (("observations", env.observation_space, spec.obs), ("actions", env.action_space, spec.action)):
        has = known(space)
        alike = dataclasses.replace(has, peak=wanted.peak) if isinstance(has, Image) and isinstance(wanted, Image) else has
        if alike != wanted:
            raise ValueError(f"This is not the environment that the policy was learned for: its {part} are {words(has)}, but the policy "
                             f"knows {words(wanted)}.")  # fmt: skip


def words(space: Box | Discrete | MultiDiscrete | Image | str) -> str:
    """The members of a space."""
    match space:
        case Discrete(n):
            return f"the numbers 0 to {n - 1}"
        case MultiDiscrete(sizes):
            return f"{len(sizes)} numbers, from 0 to {' and '.join(str(n - 1) for n in sizes)}"
        case Image(height, width, channels):
            return f"pictures of {height} × {width} × {channels}"
        case Box(size):
            return f"vectors of {size}"
    return space
