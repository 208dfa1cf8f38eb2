"""Policies that are samplers: any distribution of continuous actions, several modes included, but no density.

Each turns noise of a known shape into an action. What is built of one (the best of many draws, a draw moved a little) is one too.
"""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import ops
from ..core import Box, Discrete, Markov, Spec, static
from .actors import Autoregressive, BoxGaussian, Categories
from .distributions import Categorical
from .ensemble import Ensemble
from .mlp import ACTIVATIONS, MLP, LayerNorm, Linear, linears, vector


class Drawn(eqx.Module):
    """The distribution of a `Generator` at an observation. Like `Delta` it has no density: nothing that needs one accepts it."""

    generator: "Generator"
    obs: Any

    def sample(self, key):
        return self.generator.sample(self.obs, key=key)

    def mode(self):
        """What no noise becomes, the middle of what it draws: the median of one number. Not the likeliest action, which a sampler cannot name."""
        return self.generator.fixed(self.obs)


class Generator(Markov):
    """obs, noise -> action."""

    @property
    @abc.abstractmethod
    def noise(self) -> tuple[int, ...]:
        """The shape of the standard normal numbers that one action is made of."""

    @abc.abstractmethod
    def decode(self, obs, noise) -> Float[Array, "*batch act"]:
        """The actions, in the unit box, that this noise, (*batch, *noise), becomes."""

    def __call__(self, obs, mask=None) -> Drawn:
        return Drawn(self, obs)

    def sample(self, obs, *, key):
        return self.decode(obs, jax.random.normal(key, (*lead(obs), *self.noise)))

    def still(self) -> Float[Array, "*noise"]:
        """The noise of the one action that is asked for: none. Any other, kept at all observations, would lean to the same side at every step."""
        return jnp.zeros(self.noise)

    def fixed(self, obs):
        return self.decode(obs, jnp.broadcast_to(self.still(), (*lead(obs), *self.noise)))


def lead(obs) -> tuple[int, ...]:
    """The leading axes: an observation is a vector, or the number of a state."""
    return obs.shape if jnp.issubdtype(obs.dtype, jnp.integer) else obs.shape[:-1]


def repeated(obs, n: int):
    """The same observations `n` times, along a new first axis."""
    return jnp.broadcast_to(obs, (n, *obs.shape))


def best(actions: Float[Array, "n *batch act"], q: Float[Array, "n *batch"]) -> Float[Array, "*batch act"]:
    """The action of the highest value among the n."""
    return jnp.take_along_axis(actions, q.argmax(axis=0)[None, ..., None], axis=0)[0]


class Anywhere(Generator):
    """Any action of the unit box, all alike."""

    size: int = static()

    @property
    def noise(self):
        return (self.size,)

    def decode(self, obs, noise):
        return jax.scipy.special.erf(noise / math.sqrt(2))


class BestOf(Generator):
    """Draw `n` actions and take the one that the least of the critics says is best."""

    behaviour: Generator | Autoregressive
    critic: Ensemble
    n: int = static()

    @property
    def noise(self):
        return (self.n, *self.behaviour.noise)

    def still(self):
        """The middle, and n - 1 draws that are the same at every observation, to choose among."""
        return jax.random.normal(jax.random.key(0), self.noise).at[0].set(0)

    def decode(self, obs, noise):
        many = repeated(obs, self.n)
        actions = self.behaviour.decode(many, jnp.moveaxis(noise, len(lead(obs)), 0))
        return best(actions, self.critic(many, actions).min(axis=0))


class BestOfDraws(Markov):
    """As `BestOf` for discrete actions, whose draws have a density: the best of `n` draws has one too."""

    behaviour: Categories
    critic: Ensemble
    n: int = static()

    def __call__(self, obs, mask=None):
        chance = ops.best_of(self.critic.every(obs).min(axis=0), self.behaviour(obs, mask).probs(), self.n)
        return Categorical(jnp.log(chance))


class Shift(eqx.Module):
    """A small change of an action, in units of its bound: obs, action -> (-1, 1)."""

    net: MLP
    space: Box | Discrete = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key):
        self.net = MLP((spec.obs.size + spec.action.size, *hidden, spec.action.size), key=key)
        self.space = spec.obs

    def __call__(self, obs, action):
        return jnp.tanh(self.net(jnp.concatenate([vector(obs, self.space), action], axis=-1)))


class Shifted(Generator):
    """Draws from behaviour, each moved by at most `reach` in every dimension."""

    behaviour: Generator
    shift: Shift
    reach: Any

    @property
    def noise(self):
        return self.behaviour.noise

    def decode(self, obs, noise):
        action = self.behaviour.decode(obs, noise)
        return jnp.clip(action + self.reach * self.shift(obs, action), -1, 1)


class Noised(Generator):
    """Draws from a normal within the box, known by the noise that they are made of."""

    actor: BoxGaussian

    @property
    def noise(self):
        return self.actor.log_std.shape

    def decode(self, obs, noise):
        said = self.actor(obs)
        return jnp.clip(said.mean + jnp.exp(said.log_std) * noise, -1, 1)


class VAE(Generator):
    """A conditional variational auto-encoder of actions, with two latent numbers for each dimension, as in BCQ.

    Kingma and Welling 2014, https://arxiv.org/abs/1312.6114; Sohn, Lee and Yan 2015 (conditional).
    """

    encoder: MLP
    decoder: MLP
    space: Box | Discrete = static()
    size: int = static()
    "Latent numbers."
    reach: float = static()
    "Draws use latent noise clipped to ± this, where actions like the logged ones come from."

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key, reach=0.5):
        ke, kd = jax.random.split(key)
        self.size, self.space, self.reach = 2 * spec.action.size, spec.obs, reach
        self.encoder = MLP((spec.obs.size + spec.action.size, *hidden, 2 * self.size), key=ke)
        self.decoder = MLP((spec.obs.size + self.size, *hidden, spec.action.size), key=kd)

    @property
    def noise(self):
        return (self.size,)

    def encode(self, obs, action):
        """The mean and log std of the latent numbers; the log std between -4 and 15."""
        mean, log_std = jnp.split(self.encoder(jnp.concatenate([vector(obs, self.space), action], axis=-1)), 2, axis=-1)
        return mean, jnp.clip(log_std, -4, 15)

    def raw(self, obs, latent):
        """The action before tanh."""
        return self.decoder(jnp.concatenate([vector(obs, self.space), latent], axis=-1))

    def raw_sample(self, obs, *, key):
        noise = jax.random.normal(key, (*lead(obs), *self.noise))
        return self.raw(obs, jnp.clip(noise, -self.reach, self.reach))

    def decode(self, obs, noise):
        return jnp.tanh(self.raw(obs, jnp.clip(noise, -self.reach, self.reach)))

    def bound(self, obs, action, noise, weight=0.5) -> Float[Array, "*batch"]:
        r"""$\frac1d \lVert a - \hat a(z) \rVert^2 + \frac{w}{2d} D_{KL}(q(z \mid s, a) \| N(0, I))$ at $z = \mu + \sigma$ `noise`, for d dimensions.

        In expectation over the noise, 2d/w times this is the negative evidence lower bound of a decoder with variance w/4, up to a constant.
        """
        mean, log_std = self.encode(obs, action)
        decoded = jnp.tanh(self.raw(obs, mean + jnp.exp(log_std) * noise))
        return ((decoded - action) ** 2).mean(axis=-1) + weight * ops.kl_to_standard(mean, log_std).mean(axis=-1)

    def loss(self, obs, action, *, key, weight=0.5):
        return self.bound(obs, action, jax.random.normal(key, (*lead(obs), *self.noise)), weight)


class Residual(eqx.Module):
    """Blocks x + W₂ σ(W₁ LayerNorm(x)) of one width, W₁ to four times as many units: the net of IDQL."""

    first: Linear
    blocks: tuple[tuple[LayerNorm, Linear, Linear], ...]
    last: Linear
    activation: str = static()

    def __init__(self, size_in: int, hidden: tuple[int, ...], size_out: int, *, key, activation="silu"):
        if len(set(hidden)) != 1:
            raise ValueError(f"Residual blocks have one width: give hidden=(256, 256, 256), not {hidden}.")
        n, blocks = hidden[0], len(hidden)
        layers = linears([(size_in, n), *[(n, 4 * n), (4 * n, n)] * blocks, (n, size_out)], key=key)
        self.first, self.last, self.activation = layers[0], layers[-1], activation
        self.blocks = tuple((LayerNorm(n), layers[1 + 2 * i], layers[2 + 2 * i]) for i in range(blocks))

    def __call__(self, x):
        act = ACTIVATIONS[self.activation]
        x = self.first(x)
        for norm, wide, narrow in self.blocks:
            x = x + narrow(act(wide(norm(x))))
        return self.last(act(x))


class Diffusion(Generator):
    """Noise made into an action in few steps, each taking away what a net believes to be noise.

    Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239; five steps suffice for actions: Wang, Hunt and Zhou 2023,
    https://arxiv.org/abs/2208.06193. What lies between steps is clipped to the unit box, as in IDQL.
    """

    net: Any
    frequencies: Float[Array, " half"]
    clock: MLP
    space: Box | Discrete = static()
    size: int = static()
    steps: int = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], steps: int, *, key):
        kn, kf, kc = jax.random.split(key, 3)
        width, self.size, self.space, self.steps = hidden[0], spec.action.size, spec.obs, steps
        self.frequencies = 0.2 * jax.random.normal(kf, (max(width // 4, 1),))
        self.clock = MLP((2 * max(width // 4, 1), width, width), key=kc, activation="silu")
        self.net = Residual(spec.action.size + spec.obs.size + width, hidden, spec.action.size, key=kn)

    @property
    def noise(self):
        return (self.steps, self.size)

    def predict(self, obs, x, time) -> Float[Array, "*batch act"]:
        """The noise in x, as believed. `time` (*batch) counts steps from 0."""
        turn = 2 * jnp.pi * time[..., None] * jnp.expand_dims(self.frequencies, tuple(range(time.ndim)))
        clock = self.clock(jnp.concatenate([jnp.cos(turn), jnp.sin(turn)], axis=-1))
        return self.net(jnp.concatenate([x, vector(obs, self.space), clock], axis=-1))

    def loss(self, obs, action, *, key) -> Float[Array, "*batch"]:
        """The squared error about the noise that was put in, summed over dimensions, at a time drawn uniformly."""
        kt, kn = jax.random.split(key)
        time = jax.random.randint(kt, lead(obs), 0, self.steps)
        noise = jax.random.normal(kn, action.shape)
        kept = jnp.asarray(ops.variance_preserving(self.steps)[1])[time][..., None]
        return ((self.predict(obs, ops.noised(action, noise, kept), time) - noise) ** 2).sum(axis=-1)

    def decode(self, obs, noise):
        beta, kept = (jnp.asarray(x) for x in ops.variance_preserving(self.steps))
        noise = jnp.moveaxis(noise, -2, 0)  # the first is where it starts, the others are put back after each step but the last

        def back(x, now):
            time, fresh = now
            x = ops.denoised(x, self.predict(obs, x, jnp.full(x.shape[:-1], time)), beta[time], kept[time])
            return jnp.clip(x + jnp.sqrt(beta[time]) * fresh, -1, 1), None

        fresh = jnp.concatenate([noise[1:], jnp.zeros_like(noise[:1])])
        return jax.lax.scan(back, noise[0], (jnp.arange(self.steps - 1, -1, -1), fresh))[0]


class Flow(Generator):
    """Noise carried to an action along a learned velocity, by Euler's method.

    Lipman et al. 2023, https://arxiv.org/abs/2210.02747, with straight paths from noise to actions.
    """

    net: Any
    space: Box | Discrete = static()
    size: int = static()
    steps: int = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], steps: int, *, key):
        self.net = MLP((spec.obs.size + spec.action.size + 1, *hidden, spec.action.size), key=key, activation="gelu")
        self.size, self.space, self.steps = spec.action.size, spec.obs, steps

    @property
    def noise(self):
        return (self.size,)

    def velocity(self, obs, x, time) -> Float[Array, "*batch act"]:
        """`time` (*batch) runs from 0 (noise) to 1 (actions)."""
        return self.net(jnp.concatenate([vector(obs, self.space), x, time[..., None]], axis=-1))

    def loss(self, obs, action, *, key) -> Float[Array, "*batch"]:
        """The squared error about the straight way, at a point of it drawn uniformly; the mean over dimensions."""
        kt, kn = jax.random.split(key)
        time, noise = jax.random.uniform(kt, lead(obs)), jax.random.normal(kn, action.shape)
        point = (1 - time[..., None]) * noise + time[..., None] * action
        return ((self.velocity(obs, point, time) - (action - noise)) ** 2).mean(axis=-1)

    def decode(self, obs, noise):
        def forward(x, i):
            return x + self.velocity(obs, x, jnp.full(x.shape[:-1], i / self.steps)) / self.steps, None

        return jnp.clip(jax.lax.scan(forward, noise, jnp.arange(self.steps))[0], -1, 1)


class OneStep(Generator):
    """Noise made into an action by one call of a net: what FQL distils a flow into."""

    net: MLP
    space: Box | Discrete = static()
    size: int = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], *, key):
        self.net = MLP((spec.obs.size + spec.action.size, *hidden, spec.action.size), key=key, activation="gelu")
        self.size, self.space = spec.action.size, spec.obs

    @property
    def noise(self):
        return (self.size,)

    def raw(self, obs, noise) -> Float[Array, "*batch act"]:
        """Before it is clipped to the unit box."""
        return self.net(jnp.concatenate([vector(obs, self.space), noise], axis=-1))

    def decode(self, obs, noise):
        return jnp.clip(self.raw(obs, noise), -1, 1)
