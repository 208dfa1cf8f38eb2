"""Steps that several actor-critics share, as plain functions of what they need."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from .. import nets, ops
from ..core import Box, Metrics, Spec, Stage, Trained, polyak, sometimes
from ..data import BadData, Episodes
from ..data.device import Batch, Mixture, Ring
from ..data.goals import Relabelled
from ..data.trajectories import EDGE
from ..worlds.imagined import imagine
from ..worlds.terminations import ends

# Q-learning over discrete actions ---------------------------------------------------------------------------------------


class QState(eqx.Module):
    """Q and its target."""

    critic: Trained
    target: nets.Ensemble | nets.Heads


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
    goal = ops.td_target(batch.reward, batch.terminal, state.target(batch.next_obs, best)[0], batch.discount(discount))

    def loss(q):
        every = q.every(batch.obs)[0]
        taken = jnp.take_along_axis(every, batch.action[:, None], axis=-1)[:, 0]
        td = optax.huber_loss(taken, goal).mean()
        extra, info = penalty(every)
        return td + extra, {"critic/loss": td, "critic/q": taken.mean(), "critic/target": goal.mean()} | info

    critic, info = state.critic.descend(loss, optimiser)
    return QState(critic, polyak(state.target, critic.model, target_rate)), info


def start_quantiles(spec: Spec, hidden, quantiles: int, optimiser, *, key) -> QState:
    q = nets.Heads(spec, hidden, quantiles, key=key)
    return QState(Trained.start(q, optimiser), q)


def quantile_step(state: QState, batch, *, discount, target_rate, double: bool, optimiser, penalty: Callable = lambda q: (0.0, {})):
    r"""One step of Q-learning on the quantiles of returns: those of an action towards $r + \gamma$ those of the next, greedy in their means.

    Dabney et al. 2018, algorithm 1, https://arxiv.org/abs/1710.10044. `double` and `penalty`, which is told the means, as in `q_step`.
    """
    chooser = state.critic.model if double else state.target
    best = nets.greedy(chooser.mean().every(batch.next_obs), batch.next_mask).mode()
    ahead = state.target(batch.next_obs, best)
    goal = jax.vmap(ops.td_target, in_axes=(None, None, 1, None), out_axes=1)(batch.reward, batch.terminal, ahead, batch.discount(discount))
    middles = (jnp.arange(state.target.n) + 0.5) / state.target.n

    def loss(q):
        taken = q(batch.obs, batch.action)
        error = goal[:, None, :] - taken[:, :, None]  # (rows, quantiles, quantiles of the target)
        td = ops.quantile_huber(error, middles[None, :, None]).mean(axis=-1).sum(axis=-1).mean()
        extra, info = penalty(q.mean().every(batch.obs))
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


def start_soft(spec: Spec, hidden, critics: int, critic_optimiser, actor_optimiser, *, key, actor_net=None, **how) -> Soft:
    """`how`: `norm`, `bias`, `last` of the critics' nets; `actor_net`: the same of the actor's, and its `bounds`."""
    kq, ka = jax.random.split(key)
    q = nets.critics(spec, hidden, critics, key=kq, **how)
    pi = nets.Squashed(spec, hidden, key=ka, **(actor_net or {}))
    return Soft(Trained.start(q, critic_optimiser), q, Trained.start(pi, actor_optimiser), Trained.start(jnp.zeros(()), actor_optimiser))


def soft_value(state: Soft, obs, *, entropy: bool = True, cost: Callable = lambda action: 0.0, key):
    r"""$\min_i \bar Q_i(s, a) - \alpha \log \pi(a \mid s)$ at one sampled action; without the second term if not `entropy`.

    `cost(action)` is subtracted: what SAC-RND is.
    """
    action, log_prob = state.actor(obs).sample_and_log_prob(key)
    value = state.target(obs, action).min(axis=0) - cost(action)
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
    actor_penalty: Callable = lambda action, said: (0.0, {}),
    entropy: bool = True,
    trust=1.0,
) -> tuple[Soft, Metrics]:
    r"""One step of SAC towards $r + \gamma$ `next_value`, with the entropy target $-|A|$.

    Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905. `penalty(q) -> (scalar, metrics)` is added to the loss of
    the critics: what CQL and COMBO are. `actor_penalty(action, the actor's distribution) -> (scalar, metrics)` is added to that of the
    actor, in which Q has the weight `trust`. Without `entropy` the actor is only told to earn, and the temperature stays.
    """
    temperature = jnp.exp(state.log_temperature.model) if entropy else 0.0
    goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(discount))

    def critic_loss(q):
        taken = q(batch.obs, batch.action)
        td = ((taken - goal[None]) ** 2).mean(axis=-1)
        extra, info = penalty(q)
        return td.sum() + extra, {"critic/loss": td.mean(), "critic/q": taken.mean(), "critic/target": goal.mean()} | info

    critic, q_info = state.critic.descend(critic_loss, critic_optimiser)

    def actor_loss(pi):
        said = pi(batch.obs)
        action, log_prob = said.sample_and_log_prob(key)
        extra, info = actor_penalty(action, said)
        loss = (temperature * log_prob - trust * critic(batch.obs, action).min(axis=0)).mean() + extra
        return loss, {"actor/loss": loss, "actor/entropy": -log_prob.mean()} | info

    actor, pi_info = state.actor.descend(actor_loss, actor_optimiser)
    target = polyak(state.target, critic.model, target_rate)
    if not entropy:
        return Soft(critic, target, actor, state.log_temperature), q_info | pi_info

    def temperature_loss(log_t):
        loss = jnp.exp(log_t) * (pi_info["actor/entropy"] + batch.action.shape[-1])
        return loss, {"actor/temperature": jnp.exp(log_t)}

    log_temperature, t_info = state.log_temperature.descend(temperature_loss, actor_optimiser)
    return Soft(critic, target, actor, log_temperature), q_info | pi_info | t_info


class Conservative(eqx.Module):
    """What CQL learns."""

    agent: Soft
    log_multiplier: Trained


def start_conservative(algorithm, spec: Spec, *, key) -> Conservative:
    agent = start_soft(spec, algorithm.hidden, algorithm.critics, **algorithm.optimisers, key=key)
    return Conservative(agent, Trained.start(jnp.zeros(()), optax.adam(algorithm.lr)))


def unlogged(agent: Soft, batch, n: int, *, key, own: bool = False) -> tuple[Callable, jax.Array]:
    """Actions by which to estimate the integral of e^Q at the batch's observations: `n` uniform ones, `n` of the actor's, and `n` that it
    takes at the next observations. Returns (q -> their values, (critics, 3 n, rows)), and their log-densities, (3 n, rows).
    With `own` the actor's n at the observations themselves, and nothing else.
    """
    k_now, k_later, k_any = jax.random.split(jax.random.fold_in(key, 1), 3)
    several = lambda obs, k: jax.vmap(agent.actor(obs).sample_and_log_prob)(jax.random.split(k, n))
    now, later = several(batch.obs, k_now), several(batch.next_obs, k_later)
    anywhere = jax.random.uniform(k_any, now[0].shape, minval=-1, maxval=1)
    flat = jnp.full(now[1].shape, -math.log(2) * batch.action.shape[-1])
    tried, density = now if own else (jnp.concatenate([anywhere, now[0], later[0]]), jnp.concatenate([flat, now[1], later[1]]))
    rows = tried.reshape(-1, tried.shape[-1])  # one large product is faster than a batch of small ones
    obs = jnp.broadcast_to(batch.obs, (len(tried), *batch.obs.shape)).reshape(-1, *batch.obs.shape[1:])
    return lambda q: q(obs, rows).reshape(-1, *density.shape), density


def conservative_step(algorithm, state: Conservative, batch, *, key, variant: str = "H", least=None) -> tuple[Conservative, Metrics]:
    r"""One step of CQL with the hyperparameters of `algorithm`: Kumar et al. 2020, https://arxiv.org/abs/2006.04779.

    `variant`: what is pressed down, see `CQL`. With `least`, (rows), values of the actor's actions count in the gap as no less than that: what
    Cal-QL is.
    """
    kt, ka = jax.random.split(key)  # as in SAC
    agent, n = state.agent, algorithm.actions_sampled
    values, density = unlogged(agent, batch, n, key=key, own=variant != "H")
    weight = algorithm.alpha * jnp.clip(jnp.exp(state.log_multiplier.model), 0, 1e6)

    def penalty(q):
        every = values(q)
        if least is not None:
            every = jnp.concatenate([every[:, :n], jnp.maximum(every[:, n:], least[None, None])], axis=1)
        if variant in ("H", "rho"):
            high = jax.vmap(ops.soft_maximum, in_axes=(0, None))(every, density if variant == "H" else jnp.zeros_like(density))
        else:
            high = every.mean(axis=1)
        gap = high if variant == "eq1" else high - q(batch.obs, batch.action)
        gap = gap if algorithm.gap_floor is None else jnp.maximum(gap, algorithm.gap_floor)
        return weight * gap.mean(axis=1).sum(), {"critic/gap": gap.mean()}

    if algorithm.max_backup:
        next_actions = jax.vmap(agent.actor(batch.next_obs).sample)(jax.random.split(kt, n))
        next_value = jax.vmap(lambda a: agent.target(batch.next_obs, a).min(axis=0))(next_actions).max(axis=0)
    else:
        next_value = soft_value(agent, batch.next_obs, entropy=algorithm.entropy_backup, key=kt)
    how = dict(discount=algorithm.discount, target_rate=algorithm.target_rate, **algorithm.optimisers)
    agent, info = soft_step(agent, batch, next_value, **how, key=ka, penalty=penalty)
    if algorithm.gap is None:
        return Conservative(agent, state.log_multiplier), info

    def multiplier_loss(log_m):
        m = jnp.clip(jnp.exp(log_m), 0, 1e6)
        excess = info["critic/gap"] + (math.log(len(density)) if variant in ("H", "rho") else 0.0) - algorithm.gap
        return -m * algorithm.alpha * excess, {"critic/multiplier": m}

    log_multiplier, m_info = state.log_multiplier.descend(multiplier_loss, optax.adam(algorithm.lr))
    return Conservative(agent, log_multiplier), info | m_info


def zero_where_unlabelled(episodes: Episodes) -> tuple[Episodes, np.ndarray]:
    """The log with a reward of 0, in raw units, wherever its column `labelled` is false; and that column, (n,) bool."""
    if "labelled" not in episodes.info:
        raise BadData(f"{episodes.source}: nothing says which rewards are known. Mark logs by `labelled()` and `labelled(False)` before joining "
                      "them, or name a column 'labelled' among `info`, true where the reward is known.")  # fmt: skip
    known = np.asarray(episodes.info["labelled"], bool)
    return dataclasses.replace(episodes, reward=np.where(known, episodes.reward, np.float32(0))), known


# models of behaviour -------------------------------------------------------------------------------------------------------


def fit_behaviour(behaviour: Trained, batch, optimiser, *, key=None) -> tuple[Trained, Metrics]:
    """One step of a model of what was done: a sampler on its own loss (which needs a key), a distribution on -log π(a|s)."""

    def loss(net):
        if isinstance(net, nets.Generator):
            loss = net.loss(batch.obs, batch.action, key=key).mean()
        else:
            loss = -net(batch.obs, batch.mask).log_prob(batch.action).mean()
        return loss, {"behaviour/loss": loss}

    return behaviour.descend(loss, optimiser)


# values of what was logged -------------------------------------------------------------------------------------------------


def fit_critics(critic: Trained[nets.Ensemble], batch, goal, optimiser) -> tuple[Trained[nets.Ensemble], Metrics]:
    """One step of every critic on the squared distance from `goal`, (n), at the logged actions."""

    def loss(q):
        taken = q(batch.obs, batch.action)
        loss = ((taken - goal[None]) ** 2).sum(axis=0).mean()
        return loss, {"critic/loss": loss, "critic/q": taken.mean(), "critic/target": goal.mean()}

    return critic.descend(loss, optimiser)


class Implicit(eqx.Module):
    """The values of IQL."""

    value: Trained[nets.Value]
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble


def start_implicit(spec: Spec, hidden, critics: int, optimiser, *, key, critic_net=None, **how) -> Implicit:
    """`how`: `activation`, `norm` of the net of V; `critic_net`: of those of Q."""
    kv, kq = jax.random.split(key)
    q = nets.critics(spec, hidden, critics, key=kq, **(critic_net or {}))
    return Implicit(Trained.start(nets.Value(spec, hidden, key=kv, **how), optimiser), Trained.start(q, optimiser), q)


def implicit_step(state: Implicit, batch, *, expectile, discount, target_rate, optimiser):
    r"""V towards the upper expectile of $\bar Q$ over logged actions, then Q towards $r + \gamma V(s')$.

    Kostrikov et al. 2022, eq. 5 and 6, https://arxiv.org/abs/2110.06169. Also answers the advantage $\bar Q - V$ of what was logged.
    """
    q = state.target(batch.obs, batch.action).min(axis=0)

    def value_loss(v):
        loss = ops.expectile_loss(q - v(batch.obs), expectile).mean()
        return loss, {"value/loss": loss}

    value, v_info = state.value.descend(value_loss, optimiser)
    goal = ops.td_target(batch.reward, batch.terminal, value(batch.next_obs), batch.discount(discount))
    critic, q_info = fit_critics(state.critic, batch, goal, optimiser)
    target = polyak(state.target, critic.model, target_rate)
    return Implicit(value, critic, target), q - value(batch.obs), v_info | q_info


# imitation, weighted -----------------------------------------------------------------------------------------------------


def imitate(actor: Trained, batch, weight, optimiser) -> tuple[Trained, Metrics]:
    r"""One step on $-E[w \log \pi(a \mid s)]$ of logged actions, one weight a row. A weight of 1 throughout is behaviour cloning, to the bit."""

    def loss(pi):
        loss = -(weight * pi(batch.obs, batch.mask).log_prob(batch.action)).mean()
        return loss, {"actor/loss": loss, "actor/weight": weight.mean()}

    return actor.descend(loss, optimiser)


def fit_value(value: Trained[nets.Value], batch, goal, optimiser) -> tuple[Trained[nets.Value], Metrics]:
    """One step of V on half the squared distance from `goal`, (n)."""

    def loss(v):
        loss = 0.5 * ((v(batch.obs) - goal) ** 2).mean()
        return loss, {"value/loss": loss, "value/target": goal.mean()}

    return value.descend(loss, optimiser)


class Considered(NamedTuple):
    """Actions that a policy might take, how likely each is, and what the least critic thinks of them; all (options, rows, …)."""

    actions: Array
    log_weight: Float[Array, "options rows"]
    values: Float[Array, "options rows"]

    def mean(self) -> Float[Array, " rows"]:
        """The policy's value."""
        return (jnp.exp(self.log_weight) * self.values).sum(axis=0)


def considered(q: nets.Ensemble, said, obs, n: int, *, key) -> Considered:
    """`said` is the policy's answer at `obs`. A single choice is not drawn: all its members count, by their probabilities. Else `n` draws."""
    if isinstance(said, nets.Categorical):
        values = q.every(obs).min(axis=0).T
        members = jnp.broadcast_to(jnp.arange(len(values), dtype=jnp.int32)[:, None], values.shape)
        return Considered(members, said.logits.T, values)
    actions = jax.vmap(said.sample)(jax.random.split(key, n))
    values = q(nets.repeated(obs, n), actions).min(axis=0)
    return Considered(actions, jnp.full_like(values, -math.log(n)), values)


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
    goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(discount))

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


# soft actor-critics in learned worlds --------------------------------------------------------------------------------------

# These read the fields of the algorithm that is handed to them: what the methods of this kind have in common.


class Dreaming(eqx.Module):
    """An agent, a model of its world, and what was imagined in it."""

    agent: Soft
    dynamics: nets.Dynamics
    imagined: Ring


def start_dreaming(algorithm, data, *, key) -> Dreaming:
    """The agent starts as SAC's would from the same key."""
    ends(algorithm.termination)  # a name that does not exist is better refused now than after the first stage
    rows, optimisers = data.rows(), algorithm.optimisers
    return Dreaming(
        agent=start_soft(data.spec, algorithm.hidden, algorithm.critics, **optimisers, key=key),
        dynamics=nets.Dynamics.start(
            rows, data.spec, algorithm.model_hidden, algorithm.models, algorithm.elites, optax.adam(algorithm.model_lr),
            held_out=algorithm.held_out, key=jax.random.fold_in(key, 1),
        ),
        imagined=Ring.empty(data, algorithm.rollouts * algorithm.horizon * algorithm.retain),
    )  # fmt: skip


def model_stage(algorithm, finish: Callable | None = None) -> Stage:
    """The stage that fits `state.dynamics`. It ends by choosing elites, and then by `finish(state, data, *, key)`."""
    put = lambda state, dynamics: dataclasses.replace(state, dynamics=dynamics)

    def measure(state, data, *, step, key):
        due = step % state.dynamics.epoch(algorithm.batch_size) == 0
        return put(state, jax.lax.cond(due, lambda: state.dynamics.measured(data.rows()), lambda: state.dynamics))

    def sample(state, data, *, key):
        return state.dynamics.draw(data.rows(), algorithm.batch_size, key=key)

    def update(state, batch, *, step, key):
        optimiser = optax.adam(algorithm.model_lr)
        dynamics, info = state.dynamics.fit(batch, optimiser, decay=algorithm.model_decay, patience=algorithm.patience)
        return put(state, dynamics), info

    def choose(state, data, *, key):
        state = put(state, state.dynamics.measured(data.rows()).chosen())
        return state if finish is None else finish(state, data, key=key)

    return Stage("model", algorithm.model_steps, update, sample, refresh=measure, finish=choose)


def refill(algorithm, state, data, judge: Callable, *, step, key):
    """Every `every` steps: rollouts of the policy as it is, from logged observations, into the ring. `judge` as in `imagine`."""
    if round(algorithm.real * algorithm.batch_size) == algorithm.batch_size:  # nothing imagined is ever drawn
        return state

    def dream():
        start, go = jax.random.split(key)
        rows, how = data.draw(algorithm.rollouts, key=start), dict(horizon=algorithm.horizon, termination=algorithm.termination)
        how |= dict(view=data.view, judge=judge, duration=rows.duration)  # a step takes as long as the logged one that its rollout began at
        return state.imagined.push(*imagine(state.dynamics, state.agent.actor.model, rows.obs, **how, key=go))

    imagined = jax.lax.cond(step % algorithm.every == 0, dream, lambda: state.imagined)
    return dataclasses.replace(state, imagined=imagined)


def mixed(algorithm, state, data, *, key) -> Batch:
    """A batch of which a share `real` was logged, those rows first, and the rest imagined."""
    return Mixture((data, state.imagined), (algorithm.real, 1 - algorithm.real)).draw(algorithm.batch_size, key=key)


# policy gradients from whole episodes --------------------------------------------------------------------------------------


def likelihood(pi, rows):
    """log π(a|s) of logged actions. A normal is clipped when it acts, so a coordinate on a bound counts with the probability of that bound."""
    said, action = pi(rows.obs, rows.mask), rows.action
    if not isinstance(said, nets.Normal):
        return said.log_prob(action)
    z = lambda x: (x - said.mean) * jnp.exp(-said.log_std)
    part = -0.5 * z(action) ** 2 - said.log_std - 0.5 * math.log(2 * math.pi)
    part = jnp.where(action >= 1 - EDGE, log_ndtr(-z(1.0)), part)
    return jnp.where(action <= -1 + EDGE, log_ndtr(z(-1.0)), part).sum(axis=-1)


# goals ---------------------------------------------------------------------------------------------------------------------

# Batches are of `Relabelled`: observations with goals, -1 a step until the goal is reached.

VALUE = dict(activation="gelu", norm=True)
"How nets of values of goals are made, after the code of Park et al. 2025."


def start_goal_actor(spec: Spec, hidden, optimiser, *, key) -> Trained:
    """As in the code of Park et al. 2025: choices are categorical, vectors normal with a standard deviation of 1, since only the mean is wanted."""
    how = dict(bounds=(0.0, 0.0)) if isinstance(spec.action, Box) else {}
    return Trained.start(nets.stochastic(spec, hidden, key=key, activation="gelu", **how), optimiser)


def towards_goals(algorithm, data: Relabelled, *, key) -> tuple[Batch, ...]:
    """The same steps for values and for the actor, each with goals of its own mixture."""
    return data.draw(algorithm.batch_size, algorithm.value_goals, algorithm.actor_goals, discount=algorithm.discount, key=key)


def ascends(algorithm, actor: Trained) -> bool:
    """Whether the actor climbs a value: choices have no slope, and are always imitated by weight."""
    return algorithm.improvement == "ascent" and isinstance(actor.model, nets.BoxGaussian)


def ascend(actor: Trained, batch: Batch, value: Callable, alpha, optimiser) -> tuple[Trained, Metrics]:
    r"""One step of the actor on $-E[Q(s, \pi(s))] / E|Q| - \alpha E[\log \pi(a \mid s)]$ with Q(s, a) = `value(action)`, (n).

    Called DDPG+BC by Park et al. 2025, section 5, https://arxiv.org/abs/2410.20092.
    """

    def loss(pi):
        said = pi(batch.obs)
        q, cloned = value(said.mode()), said.log_prob(batch.action).mean()
        climbed = q.mean() / (jax.lax.stop_gradient(jnp.abs(q).mean()) + 1e-6)
        return -climbed - alpha * cloned, {"actor/q": q.mean(), "actor/log_prob": cloned}

    return actor.descend(loss, optimiser)


class Reached(eqx.Module):
    """Two values of states, and their slow copies."""

    value: Trained
    target: Any


def reaching_step(state: Reached, batch: Batch, *, expectile, discount, target_rate, optimiser) -> tuple[Reached, Metrics]:
    r"""Both V towards the upper expectile of $r + \gamma \bar V(s')$ over what was logged.

    Each has the goal of its own slow copy; which errors count as upper is said by the lesser copy ahead and the mean of both here. Without
    actions, luck counts as skill: where steps are random the value is too high. Park et al. 2023, https://arxiv.org/abs/2307.11949, and
    their code.
    """
    rate, (here, ahead) = batch.discount(discount), of_both(state.target, batch.obs, batch.next_obs)
    back = lambda value: ops.td_target(batch.reward, batch.terminal, value, rate)
    upper = back(ahead.min(axis=0)) >= here.mean(axis=0)
    goal, weight = jax.vmap(back)(ahead), jnp.where(upper, expectile, 1 - expectile)

    def loss(value):
        said = value(batch.obs)
        loss = (weight[None] * (goal - said) ** 2).mean(axis=1).sum()
        return loss, {"value/loss": loss, "value/v": said.mean()}

    value, info = state.value.descend(loss, optimiser)
    return Reached(value, polyak(state.target, value.model, target_rate)), info


def nearer(value: Callable, batch: Batch):
    r"""$V(s') - V(s)$, (n), by the mean of both values; where nothing follows, by what is known of that instead."""
    here, ahead = of_both(value, batch.obs, batch.next_obs).mean(axis=1)
    return jnp.where(batch.terminal > 0, batch.reward, ahead) - here


def of_both(value: Callable, *obs) -> Float[Array, "2 nets n"]:
    """What values say of the first and of the second observations, asked at once: half the program."""
    return jnp.stack(jnp.split(value(jnp.concatenate(obs)), 2, axis=1))
