r"""CRR: critic-regularised regression. An actor-critic whose actor imitates the logged actions that its critic approves of,

$$ L_\pi = -E\,[f(Q, \pi, s, a) \log \pi(a \mid s)], \qquad f = 1\{A \ge 0\} \;\text{(binary)}, \quad \min(e^{\beta A}, w_{\max}) \;\text{(exp)}, $$
$$ A = Q(s, a) - \operatorname{mean}_i Q(s, a_i) \quad\text{or}\quad Q(s, a) - \max_i Q(s, a_i), \qquad a_i \sim \pi(\cdot \mid s),\ i \le m, $$

and whose critic bootstraps from a slow copy of the actor, $y = r + \gamma\, E_{a' \sim \bar\pi}\, \bar Q(s', a')$. What was logged is all that is ever imitated.

Wang, Novikov, Zolna, Springenberg, Reed, Shahriari, Siegel, Merel, Gulcehre, Heess and de Freitas, *Critic regularized regression*, NeurIPS
2020, https://arxiv.org/abs/2006.15134. Follows the code of the authors' laboratory (https://github.com/google-deepmind/acme) in m, β, the ceiling
and a critic of the mean where the paper's is of the distribution. Differs from it in: slow copies follow a little at each step, where theirs jump
every 100; A = 0 counts as approved, so that all is imitated where nothing makes a difference; the mean over single choices is exact; no second
choice among the actor's draws when it acts.
"""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Trained, polyak, static
from .. import steps as shared


class State(eqx.Module):
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble
    actor: Trained[nets.BoxGaussian | nets.Categories | nets.Several]
    target_actor: nets.BoxGaussian | nets.Categories | nets.Several


class CRR(Algorithm[State]):
    paper: ClassVar = Paper(
        "Ziyu Wang and Alexander Novikov and Konrad Zolna and Jost Tobias Springenberg and Scott Reed and others",
        "Critic regularized regression", "NeurIPS", 2020, "https://arxiv.org/abs/2006.15134",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    beta: float = 1.0
    "β: how sharply imitation prefers good actions, where `weights` is exp; 0 is cloning."
    max_weight: float = 20.0
    "Ceiling of an imitation weight."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    weights: Literal["exp", "binary"] = static("exp")
    aggregate: Literal["mean", "max"] = static("mean")
    "What of the actor's own actions an action is compared with."
    actions_sampled: int = static(4)
    "m: draws of the actor that stand for all it might do."
    critics: int = static(1)
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        kq, ka = jax.random.split(key)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        actor = nets.stochastic(data.spec, self.hidden, key=ka)
        return State(Trained.start(q, self.optimiser), q, Trained.start(actor, self.optimiser), actor)

    def update(self, state, batch, *, step, key):
        kt, ka = jax.random.split(key)
        would = state.target_actor(batch.next_obs, batch.next_mask)
        next_value = shared.considered(state.target, would, batch.next_obs, 1, key=kt).mean()
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))
        critic, q_info = shared.fit_critics(state.critic, batch, goal, self.optimiser)

        advantage = critic(batch.obs, batch.action).min(axis=0) - self.level(critic.model, state.actor, batch, key=ka)
        weight = ops.exp_advantage(advantage, self.beta, self.max_weight) if self.weights == "exp" else ops.binary_advantage(advantage)
        actor, info = shared.imitate(state.actor, batch, weight, self.optimiser)
        target, target_actor = (
            polyak(old, new.model, self.target_rate) for old, new in ((state.target, critic), (state.target_actor, actor))
        )
        return State(critic, target, actor, target_actor), q_info | info | {"actor/advantage": advantage.mean()}

    def level(self, q, pi, batch, *, key):
        """What the actor's own actions are worth."""
        said = pi(batch.obs, batch.mask)
        own = shared.considered(q, said, batch.obs, self.actions_sampled, key=key)
        if self.aggregate == "mean":
            return own.mean()
        if isinstance(said, nets.Categorical):  # not the best that there is, but the best of what the actor would try
            tried = jax.vmap(said.sample)(jax.random.split(key, self.actions_sampled))
            return jnp.take_along_axis(own.values, tried, axis=0).max(axis=0)
        return own.values.max(axis=0)

    def policy(self, state):
        return state.actor.model
