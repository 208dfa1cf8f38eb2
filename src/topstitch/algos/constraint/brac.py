r"""BRAC: an actor-critic that pays for its distance from behaviour, in the actor's loss and, with `where="value"`, also in the value of what follows,

$$ L_\pi = E\big[\alpha\, D(\pi, \beta \mid s) - \min_i Q_i(s, a)\big], \qquad
   y = r + \gamma\,\big(\min_i \bar Q_i(s', a') - \alpha\, D(\pi, \beta \mid s')\big), \quad a, a' \sim \pi. $$

BRAC-p is `where="policy"`, BRAC-v `where="value"`. For the distance there are two ways. Either a model of behaviour is fitted first and compared with
the actor by draws of it, or a judge c learns to tell the actor's actions from logged ones:

| `divergence` | D |
|---|---|
| `"kl"` | $E_\pi[\log \pi - \log \hat\beta]$ |
| `"mmd"` | squared maximum mean discrepancy of draws of both, with a Laplacian kernel |
| `"kl_dual"` | $E_\pi \log g - E_\beta\, g + 1$ with $g = \mathrm{softplus}(c)$ |
| `"wasserstein"` | $E_\pi c - E_\beta\, c$ |

Judges are kept from being steeper than 1, by a penalty half-way between the two actions. What all have in common is that they compare
distributions, not supports: an actor that must be near cannot leave a bad habit of behaviour.

Wu, Tucker and Nachum, *Behavior regularized offline reinforcement learning*, 2019, https://arxiv.org/abs/1911.11361. Follows the authors' code
(https://github.com/google-research/google-research/tree/master/behavior_regularized_offline_rl) in the divergences, in no entropy, in three steps
of the judge for one of the others, and in the actor only matching for the first `warmup` steps. Differs from it in: one size for all nets; the
model of behaviour has no bonus for entropy; distances count in values up to 100; α is fixed (they tried adapting it, and advise against it). Their bandwidth of 20 is 10 here.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Paper, Stage, Trained, static
from .. import steps as shared

BOUNDS = (-5.0, 0.0)
"Of the logarithms of standard deviations, as in the authors' code."
EDGE = 1e-3
"How near to the edge of the box an action may lie when behaviour is asked for its density."
FARTHEST = 100.0
"What a distance may be at most in a value: one observation far from all others must not decide what everything is worth."
JUDGED = 3
"Steps of the judge for one of the others."


class State(eqx.Module):
    agent: shared.Soft
    rival: Trained[nets.Squashed | nets.BoxQ]
    "The model of behaviour, or the judge."


class BRAC(Algorithm[State]):
    paper: ClassVar = Paper(
        "Yifan Wu and George Tucker and Ofir Nachum", "Behavior regularized offline reinforcement learning", "arXiv 1911.11361", 2019,
        "https://arxiv.org/abs/1911.11361",
    )  # fmt: skip
    actions: ClassVar = (Box,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 0.1
    "What a unit of distance costs (the authors try 0.1 to 1000, by divergence)."
    penalty: float = 5.0
    "Weight of steepness in the judge's loss."
    bandwidth: float = 10.0
    "σ of the kernel, for `mmd`."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 1e-3
    actor_lr: float = 3e-4
    where: Literal["policy", "value"] = static("value")
    "What pays: the actor alone (BRAC-p), or the values too (BRAC-v)."
    divergence: Literal["kl", "mmd", "kl_dual", "wasserstein"] = static("kl")
    "How distance is measured: see above."
    entropy: bool = static(False)
    "Whether entropy is earned too, as in SAC."
    actions_sampled: int = static(4)
    "Draws of either side that a distance is taken from, without a judge."
    warmup: int = static(20_000)
    "Steps at first in which the actor matches behaviour and nothing else."
    behaviour_steps: int = static(500_000)
    "Steps of the model of behaviour, before the others."
    critics: int = static(2)
    hidden: tuple[int, ...] = static((300, 300))
    steps: int = static(500_000)
    batch_size: int = static(256)

    @property
    def optimisers(self):
        return {"critic_optimiser": optax.adam(self.lr), "actor_optimiser": optax.adam(self.actor_lr)}

    @property
    def judged(self) -> bool:
        return self.divergence in ("kl_dual", "wasserstein")

    def stages(self):
        learn = Stage("learn", self.steps, self.update, self.sample)
        return (learn,) if self.judged else (Stage("behaviour", self.behaviour_steps, self.imitate, self.sample), learn)

    def prepare(self, episodes):
        return episodes.transitions(next_action=self.judged)

    def sample(self, state, data, *, key):
        return data.draw(self.batch_size * (JUDGED if self.judged else 1), key=key)

    def init(self, data, *, key):
        agent = shared.start_soft(data.spec, self.hidden, self.critics, **self.optimisers, key=key, actor_net=dict(bounds=BOUNDS))
        key = jax.random.fold_in(key, 1)
        make = nets.q_value if self.judged else nets.Squashed
        rival = make(data.spec, self.hidden, key=key, **({} if self.judged else dict(bounds=BOUNDS)))
        return State(agent, Trained.start(rival, optax.adam(self.lr)))

    def imitate(self, state, batch, *, step, key):
        batch = eqx.tree_at(lambda b: b.action, batch, jnp.clip(batch.action, -1 + EDGE, 1 - EDGE))
        rival, info = shared.fit_behaviour(state.rival, batch, optax.adam(self.lr))
        return State(state.agent, rival), info

    def distance(self, rival, said, obs, logged, *, key):
        """(rows,): D of the actor's distribution at `obs`, where `logged` was done."""
        ka, kb = jax.random.split(key)
        if self.judged:
            ours, theirs = rival(obs, said.sample(ka)), rival(obs, logged)
            return ours - theirs if self.divergence == "wasserstein" else ops.variational_kl(*map(ratio, (ours, theirs)))
        several = lambda policy, k: jax.vmap(policy.sample_and_log_prob)(jax.random.split(k, self.actions_sampled))
        behaviour, (actions, log_prob) = rival(obs), several(said, ka)
        if self.divergence == "mmd":
            return ops.mmd(actions, several(behaviour, kb)[0], self.bandwidth)
        return (log_prob - jax.vmap(behaviour.log_prob)(jnp.clip(actions, -1 + EDGE, 1 - EDGE))).mean(axis=0)

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)  # as in SAC
        kn, kd, kj = jax.random.split(jax.random.fold_in(key, 1), 3)
        agent, rows = state.agent, batch[: self.batch_size]
        cost = lambda action: 0.0
        if self.where == "value":
            strayed = self.distance(state.rival.model, agent.actor(rows.next_obs), rows.next_obs, rows.next_action, key=kn)
            cost = lambda action: self.alpha * jnp.minimum(strayed, FARTHEST)

        def actor_penalty(action, said):
            strayed = self.distance(state.rival.model, said, rows.obs, rows.action, key=kd).mean()
            return self.alpha * strayed, {"actor/distance": strayed}

        learned, info = shared.soft_step(
            agent, rows, shared.soft_value(agent, rows.next_obs, entropy=self.entropy, cost=cost, key=kt), discount=self.discount,
            target_rate=self.target_rate, **self.optimisers, key=ka, actor_penalty=actor_penalty, entropy=self.entropy,
            trust=jnp.where(step < self.warmup, 0.0, 1.0),
        )  # fmt: skip
        rival = state.rival
        if self.judged:
            turns = jax.tree.map(lambda x: x.reshape(JUDGED, self.batch_size, *x.shape[1:]), batch)

            def learn(rival, turn):
                i, some = turn
                return rival.descend(lambda judge: self.fooled(judge, agent, some, jax.random.fold_in(kj, i)), optax.adam(self.lr))

            rival, told = jax.lax.scan(learn, rival, (jnp.arange(JUDGED), turns))
            info |= {name: value[-1] for name, value in told.items()}
        return State(learned, rival), info

    def fooled(self, judge, agent, rows, key):
        """The loss of a judge: less the distance that it sees, plus how steep it is."""
        kd, kp, km = jax.random.split(key, 3)
        said = agent.actor(rows.obs)
        seen = self.distance(judge, said, rows.obs, rows.action, key=kd).mean()
        action = said.sample(kp)
        between = action + jax.random.uniform(km, (len(rows), 1)) * (rows.action - action)
        steep = ops.steepness(jax.grad(lambda a: judge(rows.obs, a).sum())(between)).mean()
        return self.penalty * steep - seen, {"judge/distance": seen, "judge/steepness": steep}

    def policy(self, state):
        return state.agent.actor.model


def ratio(c):
    """How much likelier an action is under the actor than under behaviour, as a judge says it."""
    return jax.nn.softplus(c) + 1e-8
