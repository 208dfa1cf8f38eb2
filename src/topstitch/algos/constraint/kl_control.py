r"""KL-control: earn as much as possible, and pay for every departure from a model of behaviour,

$$ \max_\pi\, E\Big[\textstyle\sum_t \gamma^t \big(r_t - \alpha\, D_{KL}(\pi(\cdot \mid s_t) \,\|\, \beta(\cdot \mid s_t))\big)\Big]. $$

For discrete actions the best policy for given values is known, so that the maximum is a soft one, weighted by behaviour (the Ψ-learning
of the paper, with $\Psi = Q / \alpha + \log \beta$):

$$ y = r + \gamma\, \alpha \log \textstyle\sum_a \beta(a \mid s')\, e^{\min_i \bar Q_i(s', a) / \alpha}, \qquad
   \pi(a \mid s) \propto \beta(a \mid s)\, e^{\min_i Q_i(s, a) / \alpha}. $$

It must match the distribution of behaviour, not only stay within its support: where practice is mostly bad, α decides between following it
and trusting guesses about what it never did.

Jaques, Ghandeharioun, Shen, Ferguson, Lapedriza, Jones, Gu and Picard, *Way off-policy batch deep reinforcement learning of implicit human
preferences in dialog*, 2019, https://arxiv.org/abs/1907.00456. Differs from the authors' code (https://github.com/natashamjaques/neural_chat) in:
the KL is summed over actions in the soft maximum, where theirs adds $\log \beta - \log \pi$ of the logged action to its reward; the least of
`critics` nets instead of that of dropout masks; Q does not start from the model of behaviour; no clipping of gradients.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, Markov, Paper, Stage, Trained, polyak, static
from .. import steps as shared


class State(eqx.Module):
    behaviour: Trained[nets.Categories]
    critic: Trained[nets.Ensemble]
    target: nets.Ensemble


class Tilted(Markov):
    """Behaviour, tilted towards what is worth more."""

    behaviour: nets.Categories
    critic: nets.Ensemble
    alpha: Float[Array, ""]

    def __call__(self, obs, mask=None):
        return nets.Categorical(self.behaviour(obs, mask).logits + self.critic.every(obs).min(axis=0) / self.alpha)


class KLControl(Algorithm[State]):
    paper: ClassVar = Paper(
        "Natasha Jaques and Asma Ghandeharioun and Judy Hanwen Shen and Craig Ferguson and Agata Lapedriza and Noah Jones and Shixiang Gu and "
        "Rosalind Picard", "Way off-policy batch deep reinforcement learning of implicit human preferences in dialog", "arXiv 1907.00456", 2019,
        "https://arxiv.org/abs/1907.00456",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch", "bait")

    alpha: float = 0.5
    "What a unit of divergence from behaviour costs, in the unit of rewards. 0 is Q-learning among what behaviour does at all, infinity behaviour."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 1e-4
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    behaviour_steps: int = static(100_000)
    "Steps of the model of behaviour, before those of the values."
    steps: int = static(1_000_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def stages(self):
        return Stage("behaviour", self.behaviour_steps, self.imitate, self.sample), Stage("learn", self.steps, self.update, self.sample)

    def init(self, data, *, key):
        kb, kq = jax.random.split(key)
        q = nets.critics(data.spec, self.hidden, self.critics, key=kq)
        behaviour = nets.Categories(data.spec, self.hidden, key=kb)
        return State(Trained.start(behaviour, self.optimiser), Trained.start(q, self.optimiser), q)

    def imitate(self, state, batch, *, step, key):
        behaviour, info = shared.fit_behaviour(state.behaviour, batch, self.optimiser)
        return State(behaviour, state.critic, state.target), info

    def update(self, state, batch, *, step, key):
        prior = state.behaviour(batch.next_obs, batch.next_mask).logits
        values = state.target.every(batch.next_obs).min(axis=0)
        _, next_value = ops.tilted(prior.T, values.T, self.alpha)
        goal = ops.td_target(batch.reward, batch.terminal, next_value, batch.discount(self.discount))

        def loss(q):
            taken = q(batch.obs, batch.action)
            loss = optax.huber_loss(taken, jnp.broadcast_to(goal, taken.shape)).mean()
            return loss, {"critic/loss": loss, "critic/q": taken.mean(), "critic/target": goal.mean()}

        critic, info = state.critic.descend(loss, self.optimiser)
        return State(state.behaviour, critic, polyak(state.target, critic.model, self.target_rate)), info

    def policy(self, state):
        return Tilted(state.behaviour.model, state.critic.model, jnp.asarray(self.alpha))
