"""MinAtar: Atari's games as pictures of 10 × 10 flags, one channel for each kind of thing.

Young and Tian 2019, https://arxiv.org/abs/1903.03176, package `minatar` (GPL). It is imported where it is needed:
`pip install 'topstitch[minatar]'`. Settings are the authors': a tenth of all actions is replaced by the action before it.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ..core import Markov
from ..evaluation import gym
from ..nets import Categorical, greedy

LIMIT = 500
"Steps after which an episode is cut: who plays well is never done."


def environment(game: str) -> Callable[[], Any]:
    """Makes the environment of a game such as "Breakout", with the actions that do something in it.

    Ours: an episode is cut after `LIMIT` steps, and the action that its first one may be replaced by is no action, not the last one of
    the episode before; so an episode depends on its seed and on what is done, and on nothing else.
    """
    gymnasium = gym()
    try:
        from minatar.gym import register_envs  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("The games of MinAtar need the package `minatar`: pip install 'topstitch[minatar]'") from error
    if f"MinAtar/{game}-v1" not in gymnasium.registry:
        register_envs()

    class Fresh(gymnasium.Wrapper):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
            self.unwrapped.game.last_action = 0
            return self.env.reset(seed=seed, options=options)

    return lambda: Fresh(gymnasium.make(f"MinAtar/{game}-v1", max_episode_steps=LIMIT, disable_env_checker=True))


class BreakoutPlayer(Markov):
    """Goes, one column a step, to where the ball will come down; while the ball rises, to where it is. It reads the picture.

    Bricks are not thought of. The trail marks where the ball was: beside a wall it may be in the same column, and below a brick in the
    same row, and the ball has just turned.
    """

    def __call__(self, obs, mask=None) -> Categorical:
        (_, paddle), (y, x), (before_y, before_x) = (place(obs[..., channel]) for channel in range(3))
        across = jnp.where(x == before_x, jnp.where(x == 0, 1, -1), x - before_x)
        falls = (y > before_y) | ((y == before_y) & (y < 8))
        there = x + across * (8 - y)
        landing = jnp.where(there < 0, -1 - there, jnp.where(there > 9, 19 - there, there))  # at a wall it stays in the column for a step
        target = jnp.where(falls, landing, x)
        wanted = jnp.stack([target == paddle, target < paddle, target > paddle], axis=-1)  # stay, left, right
        return greedy(wanted.astype(jnp.float32), mask)


def place(plane):
    """(row, column) of the first flag."""
    return jnp.divmod(plane.reshape(*plane.shape[:-2], -1).argmax(axis=-1), plane.shape[-1])
