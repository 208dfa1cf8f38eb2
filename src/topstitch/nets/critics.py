"""Values. Every Q is asked the same way, `q(obs, action)`, whatever the spaces."""

import equinox as eqx
import jax.numpy as jnp

from ..core import Box, Discrete, Image, MultiDiscrete, Spec, static
from .encoder import Sight, ask, reader
from .ensemble import Ensemble
from .mlp import MLP, vector


class Value(eqx.Module):
    """V(s)."""

    net: MLP | Sight

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = reader(spec.obs, hidden, 1, key=key, **how)

    def __call__(self, obs):
        return self.net(obs)[..., 0]


class BoxQ(eqx.Module):
    """Q(s, a) of a continuous action."""

    net: MLP | Sight
    space: Box | Discrete | Image = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = reader(spec.obs, hidden, 1, key=key, beside=spec.action.size, **how)
        self.space = spec.obs

    def __call__(self, obs, action):
        return ask(self.net, self.space, obs, action)[..., 0]


class MultiDiscreteQ(eqx.Module):
    """Q(s, a) of several choices at once, which enter one-hot."""

    net: MLP | Sight
    obs: Box | Discrete | Image = static()
    action: MultiDiscrete = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = reader(spec.obs, hidden, 1, key=key, beside=spec.action.size, **how)
        self.obs, self.action = spec.obs, spec.action

    def __call__(self, obs, action):
        return ask(self.net, self.obs, obs, vector(action, self.action))[..., 0]


class DiscreteQ(eqx.Module):
    """Q(s, ·) of all actions at once; `q(obs, action)` picks one of them."""

    net: MLP | Sight

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, **how):
        self.net = reader(spec.obs, hidden, spec.action.size, key=key, **how)

    def every(self, obs):
        return self.net(obs)

    def __call__(self, obs, action):
        return jnp.take_along_axis(self.net(obs), action[..., None], axis=-1)[..., 0]


def q_value(spec: Spec, hidden: tuple[int, ...], *, key, **how):
    """The Q network that fits the action space. `how`: `activation`, `norm`, `bias`, `last` of an `MLP`."""
    kind = {Box: BoxQ, Discrete: DiscreteQ, MultiDiscrete: MultiDiscreteQ}[type(spec.action)]
    return kind(spec, hidden, key=key, **how)


def critics(spec: Spec, hidden: tuple[int, ...], n: int, *, key, **how) -> Ensemble:
    """`n` independent Q networks."""
    return Ensemble.of(lambda key: q_value(spec, hidden, key=key, **how), n, key=key)
