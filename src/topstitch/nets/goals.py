"""Networks of observations and goals. They are asked, as all others, about both together: a member of `core.pair` of the space of observations."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import Box, Discrete, Spec, parted, static
from .encoder import ask, reader
from .ensemble import Ensemble
from .mlp import MLP, vector

Both = Array
"Observations with goals."


class Contrast(eqx.Module):
    r"""$f(s, a, g) = \phi(s, a)^\top \psi(g) / \sqrt{d}$, or $\phi(s)^\top \psi(g) / \sqrt d$ if not `acting`; d is `width`.

    Eysenbach et al. 2022, section 4, https://arxiv.org/abs/2206.07568.
    """

    phi: MLP
    psi: MLP
    spec: Spec = static()
    "Of single observations."
    acting: bool = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], width: int, *, key, acting: bool = True, **how):
        kp, kg = jax.random.split(key)
        self.phi = reader(spec.obs, hidden, width, key=kp, beside=spec.action.size if acting else 0, **how)
        self.psi = reader(spec.obs, hidden, width, key=kg, **how)
        self.spec, self.acting = spec, acting

    def features(self, both: Both, action=None):
        """φ and ψ of each row, so scaled that f is their product."""
        obs, goal = parted(both, self.spec.obs)
        phi = ask(self.phi, self.spec.obs, obs, vector(action, self.spec.action)) if self.acting else self.phi(obs)
        return phi / math.sqrt(phi.shape[-1]), self.psi(goal)

    def __call__(self, both: Both, action=None) -> Float[Array, "*n"]:
        phi, psi = self.features(both, action)
        return (phi * psi).sum(axis=-1)

    def crossed(self, both: Both, action=None) -> Float[Array, "n n"]:
        """f of the observation and the action of row i with the goal of row j."""
        phi, psi = self.features(both, action)
        return phi @ psi.T


class Quasimetric(eqx.Module):
    r"""$d(s, g)$, a distance that need not be the same there and back: 0 from s to s, and never longer than by way of a third state.

    Embeddings are parts of `each` numbers; a part spans one interval from x to y for each of its numbers where x < y, and what all of
    them cover together is how far apart s and g are in that part. $d = \alpha\,\mathrm{mean} + (1 - \alpha) \max$ over the parts, α learned.
    The interval quasimetric embedding of Wang and Isola 2022, https://arxiv.org/abs/2211.15120, reduced as in their `maxmean`.
    """

    net: MLP
    mixture: Float[Array, ""]
    "α before the logistic function."
    space: Box | Discrete = static()
    each: int = static()

    def __init__(self, space: Box | Discrete, hidden: tuple[int, ...], width: int, *, key, each: int = 8, **how):
        if width % each:
            raise ValueError(f"An embedding of {width} numbers has no whole parts of {each}. Choose a multiple of {each}.")
        self.net = reader(space, hidden, width, key=key, **how)
        self.mixture, self.space, self.each = jnp.zeros(()), space, each

    def embed(self, obs) -> Float[Array, "*n width"]:
        return self.net(obs)

    def between(self, x: Float[Array, "*n width"], y: Float[Array, "*n width"]) -> Float[Array, "*n"]:
        """The distance from one embedding to another."""
        x, y = (z.reshape(*z.shape[:-1], -1, self.each) for z in (x, y))
        order = jnp.argsort(x, axis=-1)
        start, end = (jnp.take_along_axis(z, order, axis=-1) for z in (x, jnp.maximum(x, y)))
        # in order of their starts, each interval adds what lies beyond the farthest end before it
        before = jnp.concatenate([start[..., :1], jax.lax.cummax(end, axis=end.ndim - 1)[..., :-1]], axis=-1)
        covered = jnp.maximum(end - jnp.maximum(start, before), 0).sum(axis=-1)
        alpha = jax.nn.sigmoid(self.mixture)
        return alpha * covered.mean(axis=-1) + (1 - alpha) * covered.max(axis=-1)

    def __call__(self, both: Both) -> Float[Array, "*n"]:
        obs, goal = parted(both, self.space)
        return self.between(self.embed(obs), self.embed(goal))


class Direction(eqx.Module):
    r"""$\phi([s; g])$, a vector of length $\sqrt d$: where a goal lies, seen from a state. Park et al. 2023, https://arxiv.org/abs/2307.11949."""

    net: MLP

    def __init__(self, pairs: Box | Discrete, hidden: tuple[int, ...], width: int, *, key, **how):
        self.net = reader(pairs, hidden, width, key=key, **how)

    def __call__(self, both: Both) -> Float[Array, "*n width"]:
        return lengthened(self.net(both))


def lengthened(x: Float[Array, "*n width"]) -> Float[Array, "*n width"]:
    r"""The same direction, of length $\sqrt d$."""
    return x * jax.lax.rsqrt((x**2).mean(axis=-1, keepdims=True) + 1e-8)


class DirectedValue(eqx.Module):
    """V(s, φ([s; g])) of `n` nets that share φ, stacked on a new leading axis."""

    direction: Direction
    each: Ensemble
    space: Box | Discrete = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], width: int, n: int, *, pairs: Box | Discrete, key, **how):
        kd, kv = jax.random.split(key)
        self.direction = Direction(pairs, hidden, width, key=kd, **how)
        self.each = Ensemble.of(lambda key: reader(spec.obs, hidden, 1, key=key, beside=width, **how), n, key=kv)
        self.space = spec.obs

    def __call__(self, both: Both) -> Float[Array, "nets *n"]:
        obs, where = parted(both, self.space)[0], self.direction(both)
        return self.each.ask(lambda net: ask(net, self.space, obs, where)[..., 0])
