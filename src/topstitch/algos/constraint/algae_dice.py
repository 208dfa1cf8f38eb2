r"""AlgaeDICE: the policy whose states and actions, as often as it meets them, earn the most less their distance from the log's,

$$ \max_\pi \min_\nu\; (1 - \gamma)\, \alpha\, E_{s_0, a_0 \sim \pi}\big[\nu(s_0, a_0)\big] + E_D\big[f(\delta)\big], \qquad
   \delta = r + \gamma\, E_{a' \sim \pi}[\nu(s', a')] - \nu(s, a), \quad f(x) = |x|^p / p. $$

Unlike the constraints on what is done in a state, it binds which states are visited. For p = 2 the minimum over ν, divided by α, is
$E_{d^\pi}[r] - \tfrac{\alpha}{2} E_D[(d^\pi / d^D)^2]$, with $d^\pi$ the discounted share of each pair among those that π meets: ν is Q with the
reward lowered by $\alpha\, d^\pi / d^D$, and δ is that. No importance weight and no model of behaviour is needed.

Nachum, Dai, Kostrikov, Chow, Li and Schuurmans, *AlgaeDICE: policy gradient from arbitrary experience*, 2019, https://arxiv.org/abs/1912.02074.
Follows the authors' code (https://github.com/google-research/google-research/tree/master/algae_dice) in p = 1.5, in what of δ moves the actor (its
positive part), in the next value being mostly that of the target nets, the least of two, and in the bonus for entropy. Differs from it in: no
orthogonal initialisation and regularisation. Discrete actions, for which expectations are sums, are ours.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from ... import nets
from ...core import Algorithm, Box, Discrete, Paper, Trained, polyak, sometimes, static
from ...data.device import Transitions


class Begun(eqx.Module):
    """The log, and where its episodes begin."""

    flat: Transitions
    starts: Int[Array, " n"]
    "The first rows; 0 behind the last of them, so that every log of so many rows has one shape."
    episodes: Int[Array, ""]

    @property
    def spec(self):
        return self.flat.spec

    def draw(self, n: int, *, key):
        """(n rows, n first rows of episodes)."""
        kr, ks = jax.random.split(key)
        return self.flat.draw(n, key=kr), self.flat.all[self.starts[jax.random.randint(ks, (n,), 0, self.episodes)]]


class State(eqx.Module):
    nu: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[nets.Squashed | nets.Categories]
    log_temperature: Trained


class AlgaeDICE(Algorithm[State]):
    paper: ClassVar = Paper(
        "Ofir Nachum and Bo Dai and Ilya Kostrikov and Yinlam Chow and Lihong Li and Dale Schuurmans",
        "AlgaeDICE: policy gradient from arbitrary experience", "arXiv 1912.02074", 2019, "https://arxiv.org/abs/1912.02074",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)
    passes: ClassVar = ("choice", "context", "minority", "delay", "bait")

    alpha: float = 0.01
    "How much distance from the log costs. 0 is an actor-critic on the squared (p = 2) error."
    power: float = 1.5
    "p, above 1."
    mixing: float = 0.05
    "Share of the online nets in the next value. 1 is the objective above; the rest is held constant, which is steadier."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 1e-3
    actor_lr: float = 1e-3
    entropy: bool = static(True)
    "Whether entropy is earned too, as in SAC."
    delay: int = static(2)
    "Steps of ν for one of the actor."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(500_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return optax.adam(self.lr), optax.adam(self.actor_lr)

    def prepare(self, episodes):
        starts = jnp.zeros(episodes.steps, jnp.int32).at[: len(episodes)].set(episodes.starts)
        return Begun(episodes.transitions(), starts, jnp.int32(len(episodes)))

    def init(self, data, *, key):
        kq, ka = jax.random.split(key)
        of_nu, of_actor = self.optimisers
        nu = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        make = nets.Squashed if isinstance(data.spec.action, Box) else nets.Categories
        start = lambda model: Trained.start(model, of_actor)
        return State(Trained.start(nu, of_nu), nu, start(make(data.spec, self.hidden, key=ka)), start(jnp.zeros(())))

    def update(self, state, batch, *, step, key):
        (rows, first), of_nu, of_actor = batch, *self.optimisers
        kn, ka = jax.random.split(key)
        start_weight = (1 - self.discount) * self.alpha

        def nu_loss(nu):
            error, begun, _ = self.errors(nu, state.actor.model, state, rows, first, kn)
            loss = (jnp.abs(error) ** self.power / self.power + start_weight * begun).mean(axis=1).sum()
            return loss, {"critic/loss": loss, "critic/error": error.mean(), "critic/start": begun.mean()}

        nu, info = state.nu.descend(nu_loss, of_nu)

        def actor_loss(pi):
            error, begun, entropy = self.errors(nu.model, pi, state, rows, first, ka)
            weight = jax.lax.stop_gradient(jnp.maximum(error, 0) ** (self.power - 1))
            loss = -(weight * error + start_weight * begun).mean()
            return loss, {"actor/loss": loss, "actor/entropy": entropy.mean(), "actor/weight": weight.mean()}

        def slowly(slow):
            actor, log_temperature = slow
            actor, pi_info = actor.descend(actor_loss, of_actor)
            wanted = -rows.action.shape[-1] if rows.action.ndim > 1 else 0
            log_temperature, t_info = log_temperature.descend(
                lambda log_t: (jnp.exp(log_t) * (pi_info["actor/entropy"] - wanted), {"actor/temperature": jnp.exp(log_t)}), of_actor
            )
            return (actor, log_temperature), pi_info | t_info

        (actor, log_temperature), pi_info = sometimes(step % self.delay == 0, slowly, (state.actor, state.log_temperature))
        return State(nu, polyak(state.target, nu.model, self.target_rate), actor, log_temperature), info | pi_info

    def errors(self, nu, actor, state, rows, first, key):
        """δ and ν where episodes begin, both (critics, rows), and the entropy of what `actor` does next, (rows)."""
        kn, kf = jax.random.split(key)
        temperature = jnp.exp(state.log_temperature.model) if self.entropy else 0.0
        (online, slow), entropy = valued((nu, state.target), actor(rows.next_obs, rows.next_mask), rows.next_obs, kn)
        ahead = self.mixing * online + ((1 - self.mixing) * slow.min(axis=0) + temperature * entropy)[None]
        rate = rows.discount(self.discount) * (1 - rows.terminal)
        (begun,), _ = valued((nu,), actor(first.obs, first.mask), first.obs, kf)
        return rows.reward[None] + rate[None] * ahead - nu(rows.obs, rows.action), begun, entropy

    def policy(self, state):
        return state.actor.model


def valued(critics, said, obs, key):
    """What a policy is worth to each ensemble, (critics, rows), and its entropy, (rows): of choices exactly, of vectors at one draw."""
    if isinstance(said, nets.Categorical):
        return [jax.vmap(said.mean)(q.every(obs)) for q in critics], said.entropy()
    action, log_prob = said.sample_and_log_prob(key)
    return [q(obs, action) for q in critics], -log_prob
