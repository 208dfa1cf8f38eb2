r"""One-step RL: value behaviour, improve on it once, and stop there.

$$ y = r + \gamma\, \bar Q(s', a'_{\text{logged}}), \qquad \pi = \mathcal{I}(\hat\beta, \hat Q^\beta). $$

Nothing is ever asked about actions that were not logged while values are learned, so that no error is compounded by bootstrapping. A model of
behaviour and its values are fitted first; then one improvement, of three:

| `improvement` | policy |
|---|---|
| `"reverse_kl"` | least $-E_{a \sim \pi} \hat Q(s, a) + \alpha D_{KL}(\pi \| \hat\beta)$ |
| `"exponential"` | imitation of logged actions with weights $e^{\beta (\hat Q(s, a) - E_{\hat\beta} \hat Q)}$ |
| `"best"` | the best of N draws from the model of behaviour (the authors' Easy BCQ); nothing more is fitted |

Brandfonbrener, Whitney, Ranganath and Bruna, *Offline RL without off-policy evaluation*, NeurIPS 2021, https://arxiv.org/abs/2106.08909.
Follows the authors' code (https://github.com/davidbrandfonbrener/onestep-rl) in the policy starting from the model of behaviour, in weights clipped
at 100, and in sizes, rates and numbers of steps. Differs from it in: the KL of normals in closed form instead of 10 draws; normals, whose std
does not depend on the observation, clipped to the box instead of truncated; the target net follows at every step. Discrete actions, for which
all expectations are sums, are ours.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Paper, Stage, Trained, polyak, static
from .. import steps as shared


class State(eqx.Module):
    behaviour: Trained[nets.BoxGaussian | nets.Categories]
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[nets.BoxGaussian | nets.Categories]


class OneStep(Algorithm[State]):
    paper: ClassVar = Paper(
        "David Brandfonbrener and William F. Whitney and Rajesh Ranganath and Joan Bruna", "Offline RL without off-policy evaluation",
        "NeurIPS", 2021, "https://arxiv.org/abs/2106.08909",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)
    passes: ClassVar = ("choice", "context", "minority", "delay", "bait")
    fails: ClassVar = ("stitch",)

    alpha: float = 1.0
    "Weight of the divergence, for `reverse_kl`."
    beta: float = 0.01
    "β: sharpness of the weights, for `exponential`. In the unit of returns: for rewards of about 1 take 1 to 10."
    max_weight: float = 100.0
    "Ceiling of a weight, for `exponential`."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 1e-4
    improvement: Literal["reverse_kl", "exponential", "best"] = static("reverse_kl")
    "How behaviour is improved on: see above."
    candidates: int = static(10)
    "N: draws from behaviour: to take the best of, or to find its value by."
    critics: int = static(1)
    hidden: tuple[int, ...] = static((1024, 1024))
    behaviour_steps: int = static(500_000)
    value_steps: int = static(2_000_000)
    steps: int = static(100_000)
    "Of the improvement; the model of behaviour and its values come before, with `behaviour_steps` and `value_steps`."
    batch_size: int = static(512)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def stages(self):
        behaviour = Stage("behaviour", self.behaviour_steps, self.imitate, self.sample, finish=self.begin)
        value = Stage("value", self.value_steps, self.evaluate, self.sample)
        learn = Stage("learn", self.steps, self.update, self.sample)
        return (behaviour, value) if self.improvement == "best" else (behaviour, value, learn)

    def prepare(self, episodes):
        return episodes.transitions(next_action=True)

    def init(self, data, *, key):
        kb, kq = jax.random.split(key)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        behaviour = Trained.start(nets.stochastic(data.spec, self.hidden, key=kb), self.optimiser)
        return State(behaviour, Trained.start(q, self.optimiser), q, behaviour)

    def imitate(self, state, batch, *, step, key):
        behaviour, info = shared.fit_behaviour(state.behaviour, batch, self.optimiser)
        return State(behaviour, state.critic, state.target, state.actor), info

    def begin(self, state, data, *, key):
        """The policy starts as behaviour."""
        return State(state.behaviour, state.critic, state.target, Trained.start(state.behaviour.model, self.optimiser))

    def evaluate(self, state, batch, *, step, key):
        next_value = state.target(batch.next_obs, batch.next_action).min(axis=0)
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))
        critic, info = shared.fit_critics(state.critic, batch, goal, self.optimiser)
        return State(state.behaviour, critic, polyak(state.target, critic.model, self.target_rate), state.actor), info

    def update(self, state, batch, *, step, key):
        behaviour, q = state.behaviour(batch.obs, batch.mask), state.critic.model
        if self.improvement == "exponential":
            level = shared.considered(q, behaviour, batch.obs, self.candidates, key=key).mean()
            weight = ops.exp_advantage(q(batch.obs, batch.action).min(axis=0) - level, self.beta, self.max_weight)
            actor, info = shared.imitate(state.actor, batch, weight, self.optimiser)
            return State(state.behaviour, state.critic, state.target, actor), info

        def loss(pi):
            value, divergence = expected(q, pi(batch.obs, batch.mask), behaviour, batch.obs, key=key)
            loss = (self.alpha * divergence - value).mean()
            return loss, {"actor/loss": loss, "actor/q": value.mean(), "actor/divergence": divergence.mean()}

        actor, info = state.actor.descend(loss, self.optimiser)
        return State(state.behaviour, state.critic, state.target, actor), info

    def policy(self, state):
        if self.improvement != "best":
            return state.actor.model
        if isinstance(state.behaviour.model, nets.Categories):
            return nets.BestOfDraws(state.behaviour.model, state.critic.model, self.candidates)
        return nets.BestOf(nets.Noised(state.behaviour.model), state.critic.model, self.candidates)


def expected(q: nets.Ensemble, said, behaviour, obs, *, key):
    """The value of what a policy says, and its divergence from behaviour, by row: summed over choices; of vectors, the value of one draw."""
    if isinstance(said, nets.Categorical):
        return said.mean(q.every(obs).min(axis=0)), said.mean(jnp.where(said.probs() > 0, said.logits - behaviour.logits, 0))
    narrow = jnp.exp(-behaviour.log_std)
    divergence = ops.kl_to_standard((said.mean - behaviour.mean) * narrow, said.log_std - behaviour.log_std).sum(axis=-1)
    return q(obs, said.sample(key)).min(axis=0), divergence
