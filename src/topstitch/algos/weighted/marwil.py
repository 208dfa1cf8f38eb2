r"""MARWIL: monotonic advantage re-weighted imitation. Imitate logged actions in proportion to the exponential of how much more they led to
than is usual in their state,

$$ L_\pi = -E\,[e^{\beta A / c} \log \pi(a \mid s)], \qquad L_V = E\,[(R - V(s))^2], \qquad A = R - V(s), \quad
   R = \textstyle\sum_{t' \ge t} \gamma^{t' - t} r_{t'} , $$

with $c^2$ the running mean of $A^2$, so that β has no unit. Nothing bootstraps: what one episode did not live to see, it cannot know.

Wang, Xiong, Han, Sun, Liu and Zhang, *Exponentially weighted imitation learning for batched historical data*, NeurIPS 2018,
https://proceedings.neurips.cc/paper/2018/hash/4aec1b3435c52abbdf8334ea0e7141e0-Abstract.html. There is no code of the authors; that of RLlib
(https://github.com/ray-project/ray), whose β, learning rate and batch these are, is the usual one. Differs from it in: weights have a ceiling;
$c^2$ starts at the mean square of the returns in the log, and follows faster (RLlib's starts at 100 and moves by a hundred-millionth of the
difference a step); separate nets for π and V.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Trained, static
from .. import steps as shared


class State(eqx.Module):
    actor: Trained[nets.BoxGaussian | nets.Categories | nets.Several]
    value: Trained[nets.Value]
    square: Float[Array, ""]
    "c²."


class MARWIL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Qing Wang and Jiechao Xiong and Lei Han and Peng Sun and Han Liu and Tong Zhang",
        "Exponentially weighted imitation learning for batched historical data", "NeurIPS", 2018,
        "https://proceedings.neurips.cc/paper/2018/hash/4aec1b3435c52abbdf8334ea0e7141e0-Abstract.html",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)
    passes: ClassVar = ("choice", "context", "minority", "delay", "bait")
    fails: ClassVar = ("stitch",)

    beta: float = 1.0
    "β: how sharply imitation prefers good actions; 0 is cloning."
    max_weight: float = 20.0
    "Ceiling of an imitation weight."
    average_rate: float = 1e-3
    "How fast c² follows the squared advantages."
    discount: float = 0.99
    lr: float = 1e-4
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(100_000)
    batch_size: int = static(2000)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        return episodes.transitions(returns=self.discount)

    def init(self, data, *, key):
        ka, kv = jax.random.split(key)
        actor, value = nets.stochastic(data.spec, self.hidden, key=ka), nets.Value(data.spec, self.hidden, key=kv)
        square = (data.rows().returns ** 2).mean()
        return State(Trained.start(actor, self.optimiser), Trained.start(value, self.optimiser), square)

    def update(self, state, batch, *, step, key):
        value, v_info = shared.fit_value(state.value, batch, batch.returns, self.optimiser)
        advantage = batch.returns - value(batch.obs)
        square = state.square + self.average_rate * ((advantage**2).mean() - state.square)
        weight = ops.exp_advantage(advantage / (jnp.sqrt(square) + 1e-8), self.beta, self.max_weight)
        actor, info = shared.imitate(state.actor, batch, weight, self.optimiser)
        return State(actor, value, square), v_info | info | {"value/scale": jnp.sqrt(square)}

    def policy(self, state):
        return state.actor.model
