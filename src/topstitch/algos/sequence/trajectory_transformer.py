r"""Trajectory Transformer.

Every number of a step (observation, action, reward and return to go) becomes a token, and a causal transformer learns to say the
next one: model, policy and value are one. To act it plans: beam search keeps the continuations that promise most,

$$ L = -\sum_i w_i \log p(x_i \mid x_{<i}) \qquad
   \text{score of a plan of } h \text{ steps} = \sum_{i < h} \gamma^{i-1} \hat r_i + \gamma^{h-1} \hat R_h, \qquad
   \hat R_t = \sum_{t' \ge t} \gamma^{t'-t} r_{t'}. $$

Janner, Li and Levine, *Offline reinforcement learning as one big sequence modeling problem*, NeurIPS 2021,
https://arxiv.org/abs/2106.02039. Follows the authors' code (https://github.com/jannerm/trajectory-transformer) in hiding tokens of
the return to go from attention, weight decay of matrices only, a token for what is behind a true end, expected rewards and returns
to go from the whole distribution, sampled actions without their unlikely tail, and the likeliest observations. Differs from it in:
the return to go holds the present reward, as in the paper; a token stands for the mean of its bin, not the middle (rewards of 0 and
1 stay 0 and 1); equal plans count once; the warm-up is a number of updates and the cosine ends with the last; the penalty of true
ends is added to the reward, and off by default. Keys and values of a plan are kept until the window is full; then its last
`context - 1` steps are read afresh, where the code reads the last 4 to 5 steps afresh for every token.
"""

import dataclasses
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ... import nets
from ...core import Algorithm, Box, Discrete, Paper, Spec, Trained, static
from ...data import BadData, Windows


class State(eqx.Module):
    model: Trained[nets.TokenModel]
    bins: nets.Bins
    spec: Spec = static()


class TrajectoryTransformer(Algorithm[State]):
    paper: ClassVar = Paper(
        "Michael Janner and Qiyang Li and Sergey Levine", "Offline reinforcement learning as one big sequence modeling problem", "NeurIPS",
        2021, "https://arxiv.org/abs/2106.02039",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)
    passes: ClassVar = ("choice", "context", "minority", "delay", "bait")
    fails: ClassVar = ("stitch",)

    discount: float = 0.99
    action_weight: float = 5.0
    "How much the tokens of actions weigh in the loss."
    terminal_penalty: float = 0.0
    "Subtracted from the reward where an episode truly ends (100 on locomotion)."
    tail: float = 0.6
    "The probability of the unlikeliest action tokens, which plans leave out."
    horizon: int = static(15)
    "Steps of a plan (halfcheetah 5)."
    beam: int = static(128)
    "Plans that are kept (halfcheetah 32)."
    expand: int = static(2)
    "Continuations that are tried of each."
    context: int = static(5)
    "Steps that are seen when acting, the present one included."
    window: int = static(10)
    "Steps of a training sequence."
    bins: int = static(100)
    binning: Literal["quantile", "uniform"] = static("quantile")
    lr: float = 6e-4
    warmup: int = static(4000)
    "Updates over which the learning rate rises from 0; then it falls to a tenth along a cosine over `steps`."
    weight_decay: float = 0.1
    max_gradient: float = 1.0
    "Longer gradients are scaled down to this norm."
    dropout: float = static(0.1)
    heads: int = static(4)
    hidden: tuple[int, ...] = static((128, 128, 128, 128))
    "The width of every block of the transformer: all the same."
    steps: int = static(200_000)
    batch_size: int = static(256)

    def __check_init__(self):
        if not self.context >= 2 or 2 * (self.context - 1) > self.window or min(self.horizon, self.beam, self.expand) < 1:
            raise ValueError(f"A plan needs a context of 2 or more steps and a window of at least twice the steps before the present one, but "
                             f"context={self.context} and window={self.window}; horizon, beam and expand are at least 1.")  # fmt: skip

    @property
    def optimiser(self):
        def rate(count):
            done = (count - self.warmup) / max(self.steps - self.warmup, 1)
            late = jnp.maximum(0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1))), 0.1)
            return self.lr * jnp.where(count < self.warmup, (count + 1) / self.warmup, late)

        matrices = lambda model: jax.tree_util.tree_map_with_path(lambda path, _: path[-1].name in ("weight", "heads"), model)
        adam = optax.adamw(rate, b2=0.95, weight_decay=self.weight_decay, mask=matrices)
        return optax.chain(optax.clip_by_global_norm(self.max_gradient), adam)

    def prepare(self, episodes) -> Windows:
        if episodes.duration is not None:
            raise BadData(f"{episodes.source}: a plan counts rewards by steps of one unit of time, but these have durations. Use a method that "
                          "learns values, or read the log without its durations to count steps.")  # fmt: skip
        reward = episodes.reward - np.float32(self.terminal_penalty) * episodes.terminal
        return dataclasses.replace(episodes, reward=reward).windows(self.window, discount=self.discount)

    def words(self, spec: Spec) -> int:
        """How many tokens a column has: never fewer than there are numbered states or actions."""
        return max([self.bins, *(space.size for space in (spec.obs, spec.action) if isinstance(space, Discrete))])

    def init(self, data, *, key):
        rows, spec, words = data.flat.all, data.spec, self.words(data.spec)
        fit = lambda x: nets.Bins.fit(x, words, self.binning == "quantile")
        parts = [nets.Bins.whole(words) if isinstance(space, Discrete) else fit(x) for x, space in
                 ((rows.obs, spec.obs), (rows.action, spec.action))]  # fmt: skip
        parts += [fit(rows.reward[:, None]), fit(data.to_go[:, None])]
        bins = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
        model = nets.TokenModel(len(bins.edges), words + 1, self.window, self.hidden, self.heads, key=key)
        return State(Trained.start(model, self.optimiser), bins, data.spec)

    def update(self, state, batch, *, step, key):
        inside, ended = batch.mask > 0, (batch.terminal * batch.mask).max(axis=1, keepdims=True) > 0
        tokens = state.bins.tokens(nets.columns(batch.obs, batch.action, batch.reward, batch.to_go))
        tokens = jnp.where(inside[..., None], tokens, state.bins.centres.shape[1])  # the stop token
        known = (inside | ended).astype(jnp.float32)  # behind a truncated episode nothing is
        n, acts = tokens.shape[-1], 1 if batch.action.ndim == 2 else batch.action.shape[-1]
        weight = jnp.where((jnp.arange(n) >= n - 2 - acts) & (jnp.arange(n) < n - 2), self.action_weight, 1.0)
        weight = (known[..., None] * weight[None, None]).reshape(len(known), -1)[:, 1:]

        def loss(model):
            scores = model(tokens, dropout=self.dropout, key=key if self.dropout else None)
            said = nets.Categorical(scores.reshape(len(tokens), -1, scores.shape[-1])[:, :-1])
            miss = -said.log_prob(tokens.reshape(len(tokens), -1)[:, 1:])
            total = (miss * weight).mean()
            return total, {"model/loss": total, "model/surprise": (miss * (weight > 0)).sum() / (weight > 0).sum()}

        model, metrics = state.model.descend(loss, self.optimiser)
        return State(model, state.bins, state.spec), metrics

    def policy(self, state):
        number = lambda x: jnp.asarray(x, jnp.float32)
        sizes = self.horizon, self.beam, self.expand, self.context, self.window
        return nets.Planner(state.model.model, state.bins, number(self.discount), number(self.tail), state.spec, *sizes)
