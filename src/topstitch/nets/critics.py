"""Values. Every Q is asked the same way, `q(obs, action)`, whatever the spaces."""

import equinox as eqx
import jax.numpy as jnp

from ..core import Box, Discrete, Spec, static
from .ensemble import Ensemble
from .mlp import MLP, vector


class Value(eqx.Module):
    """V(s)."""

    net: MLP

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = MLP((spec.obs.size, *hidden, 1), key=key, **how)

    def __call__(self, obs):
        return self.net(obs)[..., 0]


class BoxQ(eqx.Module):
    """Q(s, a) of a continuous action."""

    net: MLP
    space: Box | Discrete = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = MLP((spec.obs.size + spec.action.size, *hidden, 1), key=key, **how)
        self.space = spec.obs

    def __call__(self, obs, action):
        return self.net(jnp.concatenate([vector(obs, self.space), action], axis=-1))[..., 0]


class DiscreteQ(eqx.Module):
    """Q(s, ·) of all actions at once; `q(obs, action)` picks one of them."""

    net: MLP

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = MLP((spec.obs.size, *hidden, spec.action.size), key=key, **how)

    def every(self, obs):
        return self.net(obs)

    def __call__(self, obs, action):
        return jnp.take_along_axis(self.net(obs), action[..., None], axis=-1)[..., 0]


def q_value(spec: Spec, hidden: tuple[int, ...], *, key, **how):
    """The Q network that fits the action space. `how`: `activation`, `norm`, `bias`, `last` of an `MLP`."""
    kind = BoxQ if isinstance(spec.action, Box) else DiscreteQ
    return kind(spec, hidden, key=key, **how)


def critics(spec: Spec, hidden: tuple[int, ...], n: int, *, key, **how) -> Ensemble:
    """`n` independent Q networks."""
    return Ensemble.of(lambda key: q_value(spec, hidden, key=key, **how), n, key=key)
