r"""GAIL: generative adversarial imitation. A discriminator learns to tell the expert's steps from the learner's, and the learner is rewarded for
deceiving it, by acting:

$$ \max_D\; E_{\text{expert}} \log D(s, a) + E_\pi \log (1 - D(s, a)), \qquad r(s, a) = -\log(1 - D(s, a)) . $$

What is matched is where the learner goes, not only what it does where the expert went, so errors do not add up as a clone's do; and few
demonstrations suffice, since the world itself says what follows from what.

`topstitch.train_online(GAIL(), env, log=demonstrations)`: the log holds what the expert did, the ring what the learner does; rewards of either are
not looked at. On a log alone both sides are the log, and there is nothing to tell apart: imitate that with `BC`.

The reward is never negative, so it also says that going on is good: where episodes end early, that is more than the expert said.

Ho and Ermon, *Generative adversarial imitation learning*, NeurIPS 2016, https://arxiv.org/abs/1606.03476. Differs from the authors' code
(https://github.com/openai/imitation) in: soft actor-critic on a ring of all that was seen for a trust region on the newest steps, and a bound on the
discriminator's slope for one on its entropy, both as in Kostrikov et al. 2019, https://arxiv.org/abs/1809.02925, whose bound is on both sides; two
layers of 256 for two of 100; steps are not standardised but by the view of the log.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Paper, Trained, static
from ...data.device import Mixture
from .. import steps as shared


class State(eqx.Module):
    agent: shared.Soft
    discriminator: Trained[nets.BoxQ]
    "The logit of D."


class GAIL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Jonathan Ho and Stefano Ermon", "Generative adversarial imitation learning", "NeurIPS", 2016, "https://arxiv.org/abs/1606.03476",
    )  # fmt: skip
    actions: ClassVar = (Box,)

    penalty: float = 10.0
    "Weight of what the discriminator is steeper than 1, squared, between expert and learner."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    critics: int = static(2)
    hidden: tuple[int, ...] = static((256, 256))
    "Of all nets."
    steps: int = static(1_000_000)
    batch_size: int = static(256)
    "Steps of the learner, and as many of the expert."

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def init(self, data, *, key):
        ka, kd = jax.random.split(key)
        agent = shared.start_soft(data.spec, self.hidden, self.critics, self.optimiser, self.optimiser, key=ka)
        return State(agent, Trained.start(nets.q_value(data.spec, self.hidden, key=kd), self.optimiser))

    def sample(self, state, data, *, key):
        """(the expert's steps, the learner's)."""
        expert, own = data.parts if isinstance(data, Mixture) else (data, data)
        ke, ko = jax.random.split(key)
        return expert.draw(self.batch_size, key=ke), own.draw(self.batch_size, key=ko)

    def update(self, state, batch, *, step, key):
        expert, own = batch
        kd, kt, ka = jax.random.split(key, 3)
        discriminator, d_info = self.discern(state.discriminator, expert, own, key=kd)
        own = dataclasses.replace(own, reward=jax.nn.softplus(discriminator(own.obs, own.action)))  # -log(1 - D)
        agent, info = shared.soft_step(
            state.agent, own, shared.soft_value(state.agent, own.next_obs, key=kt), discount=self.discount, target_rate=self.target_rate,
            critic_optimiser=self.optimiser, actor_optimiser=self.optimiser, key=ka,
        )  # fmt: skip
        return State(agent, discriminator), d_info | info | {"discriminator/reward": own.reward.mean()}

    def discern(self, discriminator, expert, own, *, key):
        """One step of the discriminator: a logistic regression that is nowhere steep between the two sides."""
        space = discriminator.model.space
        real, fake = (jnp.concatenate([nets.vector(rows.obs, space), rows.action], axis=-1) for rows in (expert, own))
        share = jax.random.uniform(key, (len(real), 1))
        between = share * real + (1 - share) * fake

        def loss(d):
            logit = lambda x: d.net(x)[..., 0]
            wrong = (jax.nn.softplus(-logit(real)) + jax.nn.softplus(logit(fake))).mean()
            steep = ops.steepness(jax.vmap(jax.grad(logit))(between)).mean()
            right = ((logit(real) > 0).mean() + (logit(fake) < 0).mean()) / 2
            return wrong + self.penalty * steep, {"discriminator/loss": wrong, "discriminator/right": right}

        return discriminator.descend(loss, self.optimiser)

    def policy(self, state):
        return state.agent.actor.model
