"""Steps that several actor-critics share, as plain functions of what they need."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from .. import nets, ops
from ..core import Metrics, Spec, Trained, polyak, sometimes

# Q-learning over discrete actions ---------------------------------------------------------------------------------------


class QState(eqx.Module):
    """Q and its target."""

    critic: Trained[nets.Ensemble]
    target: nets.Ensemble


def start_q(spec: Spec, hidden, optimiser, *, key) -> QState:
    q = nets.critics(spec, hidden, 1, key=key)
    return QState(Trained.start(q, optimiser), q)


def q_step(state: QState, batch, *, discount, target_rate, double: bool, optimiser, penalty: Callable = lambda q: (0.0, {})):
    r"""One step of Q-learning on the Huber loss of $r + \gamma \max_a \bar Q(s', a)$ over legal actions.

    `double` lets the online net choose the action that the target net values: van Hasselt et al. 2016,
    https://arxiv.org/abs/1509.06461. `penalty(q(s, ·)) -> (scalar, metrics)` is added to the loss: what CQL is.
    """
    chooser = state.critic.model if double else state.target
    best = nets.greedy(chooser.every(batch.next_obs)[0], batch.next_mask).mode()
    goal = ops.td_target(batch.reward, batch.terminal, state.target(batch.next_obs, best)[0], discount)

    def loss(q):
        every = q.every(batch.obs)[0]
        taken = jnp.take_along_axis(every, batch.action[:, None], axis=-1)[:, 0]
        td = optax.huber_loss(taken, goal).mean()
        extra, info = penalty(every)
        return td + extra, {"critic/loss": td, "critic/q": taken.mean(), "critic/target": goal.mean()} | info

    critic, info = state.critic.descend(loss, optimiser)
    return QState(critic, polyak(state.target, critic.model, target_rate)), info


# soft actor-critics ------------------------------------------------------------------------------------------------------


class Soft(eqx.Module):
    """What a soft actor-critic learns."""

    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[nets.Squashed]
    log_temperature: Trained


def start_soft(spec: Spec, hidden, critics: int, critic_optimiser, actor_optimiser, *, key, **how) -> Soft:
    """`how`: `norm`, `bias`, `last` of the critics' nets."""
    kq, ka = jax.random.split(key)
    q = nets.critics(spec, hidden, critics, key=kq, **how)
    pi = nets.Squashed(spec, hidden, key=ka)
    return Soft(Trained.start(q, critic_optimiser), q, Trained.start(pi, actor_optimiser), Trained.start(jnp.zeros(()), actor_optimiser))


def soft_value(state: Soft, obs, *, entropy: bool = True, key):
    r"""$\min_i \bar Q_i(s, a) - \alpha \log \pi(a \mid s)$ at one sampled action; without the second term if not `entropy`."""
    action, log_prob = state.actor(obs).sample_and_log_prob(key)
    value = state.target(obs, action).min(axis=0)
    return value - jnp.exp(state.log_temperature.model) * log_prob if entropy else value


def soft_step(
    state: Soft,
    batch,
    next_value,
    *,
    discount,
    target_rate,
    critic_optimiser,
    actor_optimiser,
    key,
    penalty: Callable = lambda q: (0.0, {}),
) -> tuple[Soft, Metrics]:
    r"""One step of SAC towards $r + \gamma$ `next_value`, with the entropy target $-|A|$.

    Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905. `penalty(q) -> (scalar, metrics)` is added to the loss of
    the critics: what CQL and COMBO are.
    """
    temperature = jnp.exp(state.log_temperature.model)
    goal = ops.td_target(batch.reward, batch.terminal, next_value, discount)

    def critic_loss(q):
        taken = q(batch.obs, batch.action)
        td = ((taken - goal[None]) ** 2).mean(axis=-1)
        extra, info = penalty(q)
        return td.sum() + extra, {"critic/loss": td.mean(), "critic/q": taken.mean(), "critic/target": goal.mean()} | info

    critic, q_info = state.critic.descend(critic_loss, critic_optimiser)

    def actor_loss(pi):
        action, log_prob = pi(batch.obs).sample_and_log_prob(key)
        loss = (temperature * log_prob - critic(batch.obs, action).min(axis=0)).mean()
        return loss, {"actor/loss": loss, "actor/entropy": -log_prob.mean()}

    actor, pi_info = state.actor.descend(actor_loss, actor_optimiser)

    def temperature_loss(log_t):
        loss = jnp.exp(log_t) * (pi_info["actor/entropy"] + batch.action.shape[-1])
        return loss, {"actor/temperature": jnp.exp(log_t)}

    log_temperature, t_info = state.log_temperature.descend(temperature_loss, actor_optimiser)
    target = polyak(state.target, critic.model, target_rate)
    return Soft(critic, target, actor, log_temperature), q_info | pi_info | t_info


# deterministic actor-critics ---------------------------------------------------------------------------------------------


class Steady(eqx.Module):
    """What a deterministic actor-critic learns."""

    critic: Trained[nets.Ensemble]
    actor: Trained[nets.Deterministic]
    target_critic: nets.Ensemble
    target_actor: nets.Deterministic


def start_steady(spec: Spec, hidden, critics: int, critic_optimiser, actor_optimiser, *, key, critic_net=None, actor_net=None) -> Steady:
    """`critic_net`, `actor_net`: `norm`, `bias`, `last` of the nets."""
    kq, ka = jax.random.split(key)
    q = nets.critics(spec, hidden, critics, key=kq, **(critic_net or {}))
    pi = nets.Deterministic(spec, hidden, key=ka, **(actor_net or {}))
    return Steady(Trained.start(q, critic_optimiser), Trained.start(pi, actor_optimiser), q, pi)


def smoothed_action(state: Steady, obs, noise, clip, *, key):
    """The target actor's action, jittered so that the critic cannot be exploited at a sharp peak: Fujimoto et al. 2018."""
    action = state.target_actor(obs).mode()
    return jnp.clip(action + jnp.clip(noise * jax.random.normal(key, action.shape), -clip, clip), -1, 1)


def steady_step(
    state: Steady, batch, next_value, actor_loss: Callable, *, discount, target_rate, critic_optimiser, actor_optimiser, delay: int, step
) -> tuple[Steady, Metrics]:
    r"""One step of TD3 towards $r + \gamma$ `next_value`; every `delay` steps the actor and both targets move too.

    `actor_loss(action, q) -> (scalar, metrics)` is told the actor's actions and what each critic says of them, (critics, n).
    Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477.
    """
    goal = ops.td_target(batch.reward, batch.terminal, next_value, discount)

    def critic_loss(q):
        taken = q(batch.obs, batch.action)
        loss = ((taken - goal[None]) ** 2).sum(axis=0).mean()
        return loss, {"critic/loss": loss, "critic/q": taken.mean(), "critic/target": goal.mean()}

    critic, info = state.critic.descend(critic_loss, critic_optimiser)

    def slowly(slow):
        def loss(pi):
            action = pi(batch.obs).mode()
            return actor_loss(action, critic(batch.obs, action))

        actor, target_critic, target_actor = slow
        actor, pi_info = actor.descend(loss, actor_optimiser)
        return (actor, polyak(target_critic, critic.model, target_rate), polyak(target_actor, actor.model, target_rate)), pi_info

    # Only what may change goes through the branch: on a CPU a branch copies all that it hands on.
    slow, pi_info = sometimes(step % delay == 0, slowly, (state.actor, state.target_critic, state.target_actor))
    return Steady(critic, *slow), info | pi_info
