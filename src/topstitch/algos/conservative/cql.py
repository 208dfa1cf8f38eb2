r"""CQL(H): a soft actor-critic whose critics also pay for a gap,

$$ \alpha\,\big(\log \textstyle\int e^{Q(s, a)}\,da - Q(s, a_{\text{logged}})\big), $$

so that what was not logged is valued low. The integral is estimated for each critic by importance sampling from uniform
actions, the actor's actions at $s$, and its actions at $s'$, all valued at $s$. With a `gap` the weight is found as the
multiplier of the constraint that the gap stay below it.

Kumar, Zhou, Tucker and Levine, *Conservative Q-learning for offline reinforcement learning*, NeurIPS 2020,
https://arxiv.org/abs/2006.04779, equation 4 and appendix F. Follows the authors' code in no entropy in the backup. Differs
from it in: two hidden layers of 256 for all nets; no warm start by imitation; the estimate of the integral is divided by the
number of samples, a constant that changes no gradient (and is added back before a `gap` is compared, so that published
thresholds mean what they meant).
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import ops
from ...core import Algorithm, Box, Paper, Trained, static
from .. import steps as shared


class State(eqx.Module):
    agent: shared.Soft
    log_multiplier: Trained


class CQL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Aviral Kumar and Aurick Zhou and George Tucker and Sergey Levine", "Conservative Q-learning for offline reinforcement learning",
        "NeurIPS", 2020, "https://arxiv.org/abs/2006.04779",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 5.0
    "Weight of the conservative gap."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    actor_lr: float = 3e-5
    gap: float | None = static(None)
    "With a number (AntMaze: 5), `alpha` is multiplied by a Lagrange multiplier that holds the gap below it."
    gap_floor: float | None = static(None)
    "Gaps below it are no longer pushed down (AntMaze: -200)."
    max_backup: bool = static(False)
    "Whether the target is the best of `actions_sampled` samples instead of one sample (AntMaze: yes)."
    entropy_backup: bool = static(False)
    "Whether the target counts entropy, as SAC's does."
    actions_sampled: int = static(10)
    "Actions of each of the three kinds in the estimate of the integral."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.actor_lr)}

    def init(self, data, *, key):
        agent = shared.start_soft(data.spec, self.hidden, self.critics, **self.optimisers, key=key)
        return State(agent, Trained.start(jnp.zeros(()), optax.adam(self.lr)))

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)  # as in SAC
        k_now, k_later, k_any = jax.random.split(jax.random.fold_in(key, 1), 3)
        agent = state.agent
        several = lambda obs, k: jax.vmap(agent.actor(obs).sample_and_log_prob)(jax.random.split(k, self.actions_sampled))
        now, later = several(batch.obs, k_now), several(batch.next_obs, k_later)
        anywhere = jax.random.uniform(k_any, now[0].shape, minval=-1, maxval=1)
        flat = jnp.full(now[1].shape, -math.log(2) * batch.action.shape[-1])
        tried, density = jnp.concatenate([anywhere, now[0], later[0]]), jnp.concatenate([flat, now[1], later[1]])
        weight = self.alpha * jnp.clip(jnp.exp(state.log_multiplier.model), 0, 1e6)

        rows = tried.reshape(-1, tried.shape[-1])  # one large product is faster than a batch of small ones
        obs = jnp.broadcast_to(batch.obs, (len(tried), *batch.obs.shape)).reshape(-1, *batch.obs.shape[1:])

        def penalty(q):
            every = q(obs, rows).reshape(-1, *density.shape)  # critic, sample, batch
            gap = jax.vmap(ops.soft_maximum, in_axes=(0, None))(every, density) - q(batch.obs, batch.action)
            gap = gap if self.gap_floor is None else jnp.maximum(gap, self.gap_floor)
            return weight * gap.mean(axis=1).sum(), {"critic/gap": gap.mean()}

        if self.max_backup:
            next_value = jax.vmap(lambda a: agent.target(batch.next_obs, a).min(axis=0))(several(batch.next_obs, kt)[0]).max(axis=0)
        else:
            next_value = shared.soft_value(agent, batch.next_obs, entropy=self.entropy_backup, key=kt)
        agent, info = shared.soft_step(
            agent, batch, next_value, discount=self.discount, target_rate=self.target_rate, **self.optimisers, key=ka, penalty=penalty
        )
        if self.gap is None:
            return State(agent, state.log_multiplier), info

        def multiplier_loss(log_m):
            m = jnp.clip(jnp.exp(log_m), 0, 1e6)
            excess = info["critic/gap"] + math.log(len(tried)) - self.gap
            return -m * self.alpha * excess, {"critic/multiplier": m}

        log_multiplier, m_info = state.log_multiplier.descend(multiplier_loss, optax.adam(self.lr))
        return State(agent, log_multiplier), info | m_info

    def policy(self, state):
        return state.agent.actor.model
