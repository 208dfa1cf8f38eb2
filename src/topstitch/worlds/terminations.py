"""When an episode ends, for worlds whose rule is known: a learned model of the world needs to be told."""

from collections.abc import Callable

import jax.numpy as jnp


def between(x, low, high):
    return (low < x) & (x < high)


def hopper(obs):
    moving = between(obs[..., 1:], -100, 100).all(axis=-1)
    return ~(moving & (obs[..., 0] > 0.7) & between(obs[..., 1], -0.2, 0.2))


def walker2d(obs):
    return ~(between(obs[..., 0], 0.8, 2.0) & between(obs[..., 1], -1, 1))


def ant(obs):
    return ~(jnp.isfinite(obs).all(axis=-1) & (obs[..., 0] >= 0.2) & (obs[..., 0] <= 1.0))


def humanoid(obs):
    return ~between(obs[..., 0], 1.0, 2.0)


def inverted_pendulum(obs):
    return ~jnp.isfinite(obs).all(axis=-1) | (jnp.abs(obs[..., 1]) > 0.2)


def mountain_car(obs):
    return (obs[..., 0] >= 0.45) & (obs[..., 1] >= 0)


def never(obs):
    return jnp.zeros(obs.shape[:-1], bool)


TERMINATIONS: dict[str, Callable] = {
    "none": never, "halfcheetah": never, "swimmer": never, "reacher": never, "pendulum": never, "hopper": hopper, "walker2d": walker2d,
    "ant": ant, "humanoid": humanoid, "inverted_pendulum": inverted_pendulum, "mountain_car": mountain_car,
}  # fmt: skip
"""By name: raw observation (…, size) -> whether a step that led there ended the episode (…). Gymnasium 1.x, `terminated` of the
environments of these names with their default arguments (positions excluded from observations). Add a rule of your own under a new name."""


def ends(name: str) -> Callable:
    """The rule of a name. Raises ValueError that lists the names."""
    if name not in TERMINATIONS:
        raise ValueError(f'There is no termination {name!r}. There are: {", ".join(TERMINATIONS)}. "none" is for worlds that never end; add '
                         "your own rule to topstitch.worlds.terminations.TERMINATIONS.")  # fmt: skip
    return TERMINATIONS[name]
