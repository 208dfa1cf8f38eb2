r"""MPO: maximum a posteriori policy optimisation. Find the best distribution over actions near a prior, then imitate it:

$$ q(a \mid s) \propto p(a \mid s)\, e^{\bar Q(s, a) / \eta}, \quad \eta = \arg\min_\eta\; \eta \epsilon + \eta\, E_s \log E_{a \sim p} e^{\bar Q(s, a) / \eta}
   \qquad \text{(E)} $$
$$ \max_\pi\; E_s E_{a \sim q} \log \pi(a \mid s) \quad\text{so that}\quad E_s D_{KL}(\bar\pi(\cdot \mid s) \,\|\, \pi(\cdot \mid s)) \le \epsilon_\pi \qquad \text{(M)} $$

so that q is ε from p at most, in nats and on average, and π moves slowly. Offline the prior p is a model of whoever made the log; with a slow
copy $\bar\pi$ of the policy itself, as published, one improvement builds on another until they lead away from the log.

Abdolmaleki, Springenberg, Tassa, Munos, Heess and Riedmiller, *Maximum a posteriori policy optimisation*, ICLR 2018,
https://arxiv.org/abs/1806.06920, whose KL for the mean and for the standard deviation of a normal are bound apart; the prior of behaviour is that of
Siegel et al. 2020, https://arxiv.org/abs/2002.08396. Follows the code of the authors' laboratory (https://github.com/google-deepmind/acme) in
bounds, learning rates, number of draws and in valuing them by the slow critic. Differs from it in: one-step targets and a critic of the mean; slow
copies follow at each step; multipliers in logarithms; draws are clipped to the box, instead of penalised; nets without layer norm.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, Paper, Trained, polyak, static
from .. import steps as shared

Actor = nets.BoxGaussian | nets.Categories
START = (10.0, 1000.0)
"η and the multiplier of the mean at first, and the multiplier of the standard deviation."
BOUND = 18.0
"Of the logarithms of η and of the multipliers, either way."


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[Actor]
    target_actor: Actor
    behaviour: Trained[Actor] | None
    log_temperature: Trained
    log_multipliers: Trained
    "Of the parts of the policy: mean and standard deviation, or choices."


class MPO(Algorithm[State]):
    paper: ClassVar = Paper(
        "Abbas Abdolmaleki and Jost Tobias Springenberg and Yuval Tassa and Remi Munos and Nicolas Heess and Martin Riedmiller",
        "Maximum a posteriori policy optimisation", "ICLR", 2018, "https://arxiv.org/abs/1806.06920",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    threshold: float = 0.1
    "ε: how far improvement may lead from the prior, in nats."
    trust: float = 0.0025
    "ε of the M-step: how far the mean, or the probabilities of choices, may be from those of the slow copy."
    trust_std: float = 1e-6
    "The same for the standard deviation."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 1e-4
    dual_lr: float = 1e-2
    "Of the logarithms of η and of the multipliers."
    prior: Literal["behaviour", "policy"] = static("behaviour")
    actions_sampled: int = static(20)
    "Draws that stand for a distribution; of a single choice all members count."
    critics: int = static(1)
    hidden: tuple[int, ...] = static((256, 256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    @property
    def dual_optimiser(self):
        return optax.adam(self.dual_lr)

    def init(self, data, *, key):
        kq, ka, kb = jax.random.split(key, 3)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        make = lambda key: Trained.start(nets.stochastic(data.spec, self.hidden, key=key), self.optimiser)
        actor, behaviour = make(ka), make(kb) if self.prior == "behaviour" else None
        duals = [
            Trained.start(jnp.log(jnp.array(start)), self.dual_optimiser) for start in (START[0], START if normal(data) else START[:1])
        ]
        return State(Trained.start(q, self.optimiser), q, actor, actor.model, behaviour, *duals)

    def update(self, state, batch, *, step, key):
        kt, ke = jax.random.split(key)
        behaviour, info = state.behaviour, {}
        if behaviour is not None:
            behaviour, info = shared.fit_behaviour(behaviour, batch, self.optimiser)
        would = state.target_actor(batch.next_obs, batch.next_mask)
        next_value = shared.considered(state.target, would, batch.next_obs, self.actions_sampled, key=kt).mean()
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))
        critic, q_info = shared.fit_critics(state.critic, batch, goal, self.optimiser)

        prior = (state.target_actor if behaviour is None else behaviour.model)(batch.obs, batch.mask)
        options = shared.considered(state.target, prior, batch.obs, self.actions_sampled, key=ke)
        weight, _ = ops.tilted(options.log_weight, options.values, self.dual(state.log_temperature.model))

        def temperature_loss(log_temperature):
            temperature = self.dual(log_temperature)
            _, level = ops.tilted(options.log_weight, options.values, temperature)
            return temperature * self.threshold + level.mean(), {"actor/temperature": temperature}

        log_temperature, t_info = state.log_temperature.descend(temperature_loss, self.dual_optimiser)

        old, multipliers = state.target_actor(batch.obs, batch.mask), self.dual(state.log_multipliers.model)

        def actor_loss(pi):
            parts = apart(pi(batch.obs, batch.mask), old)
            fit = sum(jnp.where(weight > 0, weight * jax.vmap(part.log_prob)(options.actions), 0).sum(axis=0).mean() for part, _ in parts)
            drift = jnp.stack([kl.mean() for _, kl in parts])
            return (multipliers * drift).sum() - fit, {"actor/loss": -fit, "actor/drift": drift.sum(), "drift": drift}

        actor, a_info = state.actor.descend(actor_loss, self.optimiser)
        room = jnp.array([self.trust, self.trust_std])[: len(multipliers)] - a_info.pop("drift")
        slack = lambda log_multipliers: ((self.dual(log_multipliers) * room).sum(), {"actor/multiplier": self.dual(log_multipliers).mean()})
        log_multipliers, m_info = state.log_multipliers.descend(slack, self.dual_optimiser)
        target, target_actor = (
            polyak(old, new.model, self.target_rate) for old, new in ((state.target, critic), (state.target_actor, actor))
        )
        info |= q_info | t_info | a_info | m_info
        return State(critic, target, actor, target_actor, behaviour, log_temperature, log_multipliers), info

    def dual(self, logarithm):
        return jnp.exp(jnp.clip(logarithm, -BOUND, BOUND))

    def policy(self, state):
        return state.actor.model


def normal(data) -> bool:
    return isinstance(data.spec.action, Box)


def apart(new, old):
    """The new policy by its parts, each with the other parts as they were, and how far each is from the old one: [(distribution, KL by row)]."""
    if not isinstance(new, nets.Normal):
        return [(new, ops.categorical_kl(old.logits, new.logits))]
    parts = nets.Normal(new.mean, old.log_std), nets.Normal(old.mean, new.log_std)
    return [(part, ops.normal_kl(old.mean, old.log_std, part.mean, part.log_std).sum(axis=-1)) for part in parts]
