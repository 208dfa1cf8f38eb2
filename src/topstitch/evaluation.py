"""How policies do in Gymnasium environments, stepped on the host."""

import contextlib
import dataclasses
import functools as ft
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .core import Discrete, Policy, Spec
from .data import Raw, RawMarkov
from .loop import stack


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `evaluate` saw: one row per policy, one column per episode."""

    returns: np.ndarray
    "(policies, episodes) float64: undiscounted."
    lengths: np.ndarray
    "(policies, episodes) int."
    success: np.ndarray | None
    "(policies, episodes) bool where the environment reports it, in `info['success']` or `info['is_success']`."


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
    policy. `greedy=False` samples actions. `lanes` environments run side by side per policy, each with its own share of the
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


def play(policies: list[Policy], worlds: list[list], episodes: int, seed: int, greedy: bool, tell: Callable) -> Evaluation:
    """All episodes of `evaluate`; `worlds` are its environments by policy and lane."""
    lanes = len(worlds[0])
    shape = (len(policies), lanes)
    returns, lengths = np.zeros((len(policies), episodes)), np.zeros((len(policies), episodes), int)
    success = np.full((len(policies), episodes), -1)
    obs, masks, reward = np.empty(shape, object), np.empty(shape, object), np.zeros(shape, np.float32)
    current, fresh = np.tile(np.arange(lanes), (len(policies), 1)), np.ones(shape, bool)

    def start(p, lane):
        seen, info = worlds[p][lane].reset(seed=seed + int(current[p, lane]))
        obs[p, lane], masks[p, lane], reward[p, lane], fresh[p, lane] = seen, info.get("action_mask"), 0, True

    for place in np.ndindex(shape):
        start(*place)
    stacked = stack(policies)
    carry, t, done, key = begin(stacked, shape=shape), 0, 0, jax.random.key(seed)
    discrete = isinstance(worlds[0][0].observation_space, gym().spaces.Discrete)
    while (current < episodes).any():
        now = np.array([[int(o) if discrete else np.ravel(o) for o in row] for row in obs.tolist()], np.int32 if discrete else np.float32)
        legal = None if masks[0, 0] is None else np.array(masks.tolist(), bool)
        action, carry = act(stacked, carry, fresh, now, reward, legal, jax.random.fold_in(key, t), greedy=greedy)
        action, t = np.asarray(action), t + 1
        fresh[:] = False
        for p, lane in zip(*np.nonzero(current < episodes)):
            world, i = worlds[p][lane], current[p, lane]
            chosen = action[p, lane] if action.ndim == 2 else action[p, lane].reshape(world.action_space.shape)
            obs[p, lane], earned, terminated, truncated, info = world.step(int(chosen) if chosen.ndim == 0 else chosen)
            reward[p, lane] = earned
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


@ft.partial(jax.jit, static_argnames="greedy")
def act(policies, carry, fresh, obs, reward, mask, key, *, greedy: bool):
    """One action for every policy and lane; where `fresh`, from the memory of a new episode."""

    def one(policy, carry, fresh, obs, reward, mask, key):
        carry = jax.tree.map(lambda new, old: jnp.where(fresh, new, old), policy.start(), carry)
        return policy.act(carry, obs, reward, mask=mask, key=None if greedy else key)

    lanes = jax.vmap(one, in_axes=(None, 0, 0, 0, 0, 0, 0))
    return jax.vmap(lanes)(policies, carry, fresh, obs, reward, mask, jax.random.split(key, fresh.shape))


def gym():
    try:
        import gymnasium
    except ImportError:
        raise ImportError("Evaluation needs Gymnasium: pip install 'topstitch[gym]' (or [mujoco] for MuJoCo tasks)") from None
    return gymnasium


def gym_maker(name: str) -> Callable[[], Any]:
    """Makes environments of a registered id; an error that says what to do where it is not known."""
    gymnasium = gym()
    try:
        gymnasium.make(name).close()
    except gymnasium.error.Error as error:
        raise ValueError(f"Gymnasium cannot make {name!r}: {error}") from None
    except ImportError as error:
        advice = "For MuJoCo tasks: pip install 'topstitch[mujoco]'"
        raise ImportError(f"{name!r} needs a package that is not installed ({error}). {advice}") from None
    return lambda: gymnasium.make(name)


def require_fit(policy: Policy, env) -> None:
    """An error if a saved policy was made for other observations or actions than the environment's."""
    if not isinstance(policy, (Raw, RawMarkov)):
        return
    spaces = gym().spaces
    words = lambda size, whole: f"the numbers 0 to {size - 1}" if whole else f"vectors of {size}"
    spec: Spec = policy.spec
    for part, space, known in (("observations", env.observation_space, spec.obs), ("actions", env.action_space, spec.action)):
        whole = isinstance(known, Discrete)
        if isinstance(space, spaces.Discrete):
            fits, has = whole and (space.n, space.start) == (known.size, 0), f"the numbers {space.start} to {space.start + space.n - 1}"
        elif isinstance(space, spaces.Box):
            fits, has = not whole and int(np.prod(space.shape)) == known.size, words(int(np.prod(space.shape)), False)
        else:
            fits, has = False, str(space)
        if not fits:
            raise ValueError(f"This is not the environment that the policy was learned for: its {part} are {has}, but the policy "
                             f"knows {words(known.size, whole)}.")  # fmt: skip
