r"""Decision Transformer.

No value is learned. A causal transformer reads steps as (return still to come, observation, action) and says which action came
next, so that asking for a high return is asking for the actions that went with one:

$$ L = E\,[(a_t - \pi(\hat R_{t-K+1}, s_{t-K+1}, a_{t-K+1}, \dots, \hat R_t, s_t))^2] \qquad
   \hat R_t = \sum_{t' \ge t} r_{t'} \qquad \hat R_{t+1} = \hat R_t - r_t\ \text{when acting.} $$

With discrete actions the loss is the cross-entropy. It never compares actions across episodes: where no episode is good it does
not stitch, and where returns are luck it believes them.

Chen et al., *Decision Transformer: reinforcement learning via sequence modeling*, NeurIPS 2021, https://arxiv.org/abs/2106.01345.
Follows the authors' code for Gym (https://github.com/kzl/decision-transformer) in one time embedding for the three tokens of a
step, the norm of the embeddings, the rectified linear units, dropout, weight decay of all parameters and the warm-up. Differs from
it in: padding behind the window instead of before it (the same: nothing sees it); no heads for observations and returns, which it
does not train. Discrete actions share this net: no convolutions, no separate token positions, no sampling by default, which its
code for Atari has.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ... import nets
from ...core import Algorithm, Box, Discrete, Paper, Policy, Trained, static
from ...data import Affine, Windows


class Memory(eqx.Module):
    """The last `context` steps, in order: step t lies in row t until all rows are used, then they move up."""

    to_go: Float[Array, " context"]
    "In raw units."
    obs: Float[Array, "context obs"] | Int[Array, " context"]
    action: Float[Array, "context act"] | Int[Array, " context"]
    time: Int[Array, " context"]
    t: Int[Array, ""]
    "Steps so far."


class Asked(Policy):
    """A decision transformer that is asked for a return."""

    model: nets.ReturnReader
    target: Float[Array, ""]
    scale: Float[Array, ""]
    reward: Affine
    context: int = static()

    def start(self):
        row = lambda space: jnp.zeros(self.context, jnp.int32) if isinstance(space, Discrete) else jnp.zeros((self.context, space.size))
        spec, count = self.model.spec, jnp.zeros(self.context, jnp.int32)
        return Memory(jnp.zeros(self.context), row(spec.obs), row(spec.action), count, jnp.zeros((), jnp.int32))

    def act(self, carry, obs, reward, *, mask=None, key=None):
        seen = self.remember(carry, obs, reward)
        row = jnp.minimum(carry.t, self.context - 1)
        window = jax.tree.map(lambda x: x[None], (seen.to_go / self.scale, seen.obs, seen.action, seen.time))
        said = jax.tree.map(lambda x: x[0, row], self.model(*window))
        said = said if mask is None else nets.Categorical(said.logits, mask)
        action = said.mode() if key is None else said.sample(key)
        return action, eqx.tree_at(lambda m: m.action, seen, seen.action.at[row].set(action))

    def remember(self, carry: Memory, obs, reward) -> Memory:
        """The memory with this step in it; of its action nothing is known yet."""
        full, row = carry.t >= self.context, jnp.minimum(carry.t, self.context - 1)
        before = carry.to_go[jnp.minimum(carry.t, self.context) - 1]
        to_go = jnp.where(carry.t == 0, self.target, before - self.reward.undo(jnp.asarray(reward, jnp.float32)))
        rows = jax.tree.map(lambda x: jnp.where(full, jnp.roll(x, -1, axis=0), x), (carry.to_go, carry.obs, carry.action, carry.time))
        rows = (x.at[row].set(jnp.asarray(new, x.dtype)) for x, new in zip(rows, (to_go, obs, 0, carry.t)))
        return Memory(*rows, carry.t + 1)


class State(eqx.Module):
    actor: Trained[nets.ReturnReader]
    reward: Affine
    "From raw rewards to those that the policy is told."
    best: Float[Array, ""]
    "The best logged return."


class DecisionTransformer(Algorithm[State]):
    paper: ClassVar = Paper(
        "Lili Chen and Kevin Lu and Aravind Rajeswaran and Kimin Lee and Aditya Grover and Michael Laskin and Pieter Abbeel and Aravind "
        "Srinivas and Igor Mordatch", "Decision Transformer: reinforcement learning via sequence modeling", "NeurIPS", 2021,
        "https://arxiv.org/abs/2106.01345",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)
    passes: ClassVar = ("choice", "minority", "delay", "bait")
    fails: ClassVar = ("stitch",)

    target: float = float("inf")
    "The return asked for, in raw rewards (hopper 3600, halfcheetah 12000, walker2d 5000); inf asks for the best that was logged."
    scale: float = 1000.0
    "Raw returns are divided by this: about the largest there are."
    lr: float = 1e-4
    warmup: int = static(10_000)
    "Updates over which the learning rate rises from 0."
    weight_decay: float = 1e-4
    max_gradient: float = 0.25
    "Longer gradients are scaled down to this norm."
    dropout: float = static(0.1)
    context: int = static(20)
    "K: the steps that are seen, the present one included."
    longest: int = static(1000)
    "Steps that have a time embedding of their own; later ones share the last."
    heads: int = static(1)
    hidden: tuple[int, ...] = static((128, 128, 128))
    "The width of every block of the transformer: all the same."
    steps: int = static(100_000)
    batch_size: int = static(64)

    @property
    def optimiser(self):
        rate = lambda count: self.lr * jnp.minimum((count + 1) / self.warmup, 1)
        return optax.chain(optax.clip_by_global_norm(self.max_gradient), optax.adamw(rate, weight_decay=self.weight_decay))

    def prepare(self, episodes) -> Windows:
        windows = episodes.windows(self.context)
        return eqx.tree_at(lambda w: w.to_go, windows, jnp.asarray(episodes.to_go(), jnp.float32))  # raw, whatever the view

    def init(self, data, *, key):
        model = nets.ReturnReader(data.spec, self.hidden, self.heads, self.longest, key=key)
        reward = data.view.reward or Affine(jnp.zeros(()), jnp.ones(()))
        return State(Trained.start(model, self.optimiser), reward, jnp.where(data.time == 0, data.to_go, -jnp.inf).max())

    def update(self, state, batch, *, step, key):
        def loss(model):
            window = batch.to_go / self.scale, batch.obs, batch.action, batch.time
            said = model(*window, dropout=self.dropout, key=key if self.dropout else None)
            if isinstance(said, nets.Delta):
                miss = ((said.mode() - batch.action) ** 2).mean(axis=-1)
            else:
                miss = -said.log_prob(batch.action)
            total = (miss * batch.mask).sum() / batch.mask.sum()
            return total, {"actor/loss": total}

        actor, metrics = state.actor.descend(loss, self.optimiser)
        return State(actor, state.reward, state.best), metrics

    def policy(self, state):
        target = jnp.where(jnp.isfinite(self.target), jnp.asarray(self.target, jnp.float32), state.best)
        return Asked(state.actor.model, target, jnp.asarray(self.scale, jnp.float32), state.reward, self.context)
