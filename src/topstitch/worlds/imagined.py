"""Steps in a learned model of the world."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..core import Markov
from ..data.device import Batch
from ..data.view import View
from .terminations import ends


def imagine(
    dynamics: Any,
    policy: Markov,
    obs: Float[Array, "n obs"],
    *,
    horizon: int,
    termination: str,
    view: View,
    judge: Callable,
    key,
    duration=None,
) -> tuple[Batch, Bool[Array, " rows"]]:
    """`horizon` steps of `policy` from each of `obs` -> (rows, time by time; which of them happened).

    `dynamics` answers as `nets.Dynamics` does. Each step is drawn from an elite drawn anew. `judge(reward, mean, std) -> (reward, halt)` sees what all models say (model, n, out)
    and may lower the reward or end the episode, as may `termination`, which is asked about raw observations.
    `duration` (n,): how long each step of a rollout takes, where that is not 1.
    Janner et al. 2019, algorithm 2, https://arxiv.org/abs/1906.08253.
    """
    n, ended = len(obs), ends(termination)

    def step(carry, key):
        obs, alive = carry
        ka, ke, kn = jax.random.split(key, 3)
        action = policy(obs).sample(ka)
        mean, std = dynamics(obs, action)
        who = dynamics.elites[jax.random.bits(ke, (n,)) % len(dynamics.elites)]
        pick = lambda x: jnp.take_along_axis(x, who[None, :, None], axis=0)[0]
        drawn = pick(mean) + pick(std) * jax.random.normal(kn, mean.shape[1:])
        next_obs = dynamics.land(obs, drawn[:, :-1])
        reward, halt = judge(drawn[:, -1], mean, std)
        over = halt | ended(next_obs if view.obs is None else view.obs.undo(next_obs))
        return (next_obs, alive & ~over), (Batch(obs, action, reward, over.astype(jnp.float32), next_obs, duration=duration), alive)

    _, steps = jax.lax.scan(step, (obs, jnp.ones(n, bool)), jax.random.split(key, horizon))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
