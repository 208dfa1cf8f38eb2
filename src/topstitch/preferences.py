r"""Rewards from comparisons: somebody says which of two stretches of a log went better, and a model of rewards is fitted that explains it,

$$ P(1 \succ 2) = \sigma\Big(\sum_{t \in 1} \hat r(s_t, a_t) - \sum_{t \in 2} \hat r(s_t, a_t)\Big). $$

```python
pairs = ts.preferences.ask(log, 500, length=20)             # which stretches to show
model = ts.preferences.fit(log, pairs, answers)             # 1: the first was better, 0: the second, 0.5: neither
runs = ts.train(ts.IQL(), model.label(log))
```

Bradley and Terry 1952, https://doi.org/10.2307/2334029, of rewards as in Christiano, Leike, Brown, Martic, Legg and Amodei 2017,
https://arxiv.org/abs/1706.03741; from logs alone as in Shin, Dragan and Brown 2023, https://arxiv.org/abs/2301.01392. As in the second, the model is the mean
of several nets, each brought to one scale. Ours: each net is fitted without one fold of the pairs, and judged on that fold.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from . import nets
from .core import Algorithm, Box, Discrete, Image, MultiDiscrete, Paper, Spec, Trained, static
from .data import BadData, Episodes
from .data.device import Batch
from .loop import train


class Pairs(NamedTuple):
    """Stretches of `length` steps to be compared two by two. A stretch never crosses an episode."""

    first: np.ndarray
    "(n,) int64: the row at which one begins."
    second: np.ndarray
    "(n,) int64."
    length: int

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, length) rows of the log, of the first and of the second."""
        return self.first[:, None] + np.arange(self.length), self.second[:, None] + np.arange(self.length)


def ask(log: Episodes, n: int, *, length: int, seed: int = 0) -> Pairs:
    """`n` pairs of stretches, drawn alike among all of that length. Raises BadData where no episode is so long."""
    left = np.repeat(log.stops, log.lengths) - np.arange(log.steps)
    begins = np.flatnonzero(left >= length)
    if length < 1 or len(begins) < 2:
        raise BadData(f"{log.source}: there are {len(begins)} stretches of {length} steps, and comparing needs two. The longest episode has "
                      f"{log.lengths.max()} steps; ask for shorter ones.")  # fmt: skip
    return Pairs(*np.random.default_rng(seed).choice(begins, (2, n)), length)


def judged(log: Episodes, pairs: Pairs, *, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """(n,) float: the answers of somebody who knows the log's rewards, for trials: 1 where the first stretch earned more, 0.5 where both earned
    alike. With `noise` above 0, draws from the model above, of rewards divided by it."""
    gain = np.subtract(*(log.reward[rows].sum(axis=1, dtype=np.float64) for rows in pairs.rows()))
    if noise == 0:
        return (1 + np.sign(gain)) / 2
    return (np.random.default_rng(seed).random(len(gain)) < 1 / (1 + np.exp(-gain / noise))).astype(np.float64)


class Compared(eqx.Module):
    """Answers on the device, with the steps that they are about."""

    all: Batch
    first: Int[Array, "n length"]
    second: Int[Array, "n length"]
    answer: Float[Array, " n"]
    spec: Spec = static()

    def draw(self, n: int, *, key):
        """(numbers of pairs, steps of the first stretches, of the second, answers)."""
        index = jax.random.randint(key, (n,), 0, len(self.answer))
        return index, self.all[self.first[index]], self.all[self.second[index]], self.answer[index]


class BradleyTerry(Algorithm[Trained]):
    """The nets. Net k learns nothing from pairs k, k + nets, k + 2 nets, …"""

    paper: ClassVar = Paper(
        "Paul Christiano and Jan Leike and Tom B. Brown and Miljan Martic and Shane Legg and Dario Amodei",
        "Deep reinforcement learning from human preferences", "NeurIPS", 2017, "https://arxiv.org/abs/1706.03741",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box, MultiDiscrete)
    observations: ClassVar = (Box, Discrete, Image)

    lr: float = 3e-4
    weight_decay: float = 1e-4
    "Of AdamW: what keeps rewards small where comparisons do not."
    models: int = static(5)
    "Nets, and folds: two at least."
    hidden: tuple[int, ...] = static((256, 256))
    steps: int = static(5_000)
    batch_size: int = static(64)

    @property
    def optimiser(self):
        return optax.adamw(self.lr, weight_decay=self.weight_decay)

    def prepare(self, episodes):
        raise TypeError("A model of rewards learns from comparisons. Call topstitch.preferences.fit(log, pairs, answers).")

    def init(self, data, *, key):
        return Trained.start(nets.critics(data.spec, self.hidden, self.models, key=key), self.optimiser)

    def update(self, state, batch, *, step, key):
        index, first, second, answer = batch
        known = (index[None] % self.models != jnp.arange(self.models)[:, None]).astype(jnp.float32)

        def loss(reward):
            gain = earned(reward, first) - earned(reward, second)
            each = optax.sigmoid_binary_cross_entropy(gain, jnp.broadcast_to(answer, gain.shape))
            loss = (known * each).sum() / jnp.maximum(known.sum(), 1)
            return loss * self.models, {"reward/loss": loss}

        return state.descend(loss, self.optimiser)

    def policy(self, state):
        raise TypeError("A model of rewards is no policy: label a log with it, and train on that.")


def earned(reward: nets.Ensemble, stretch: Batch) -> Float[Array, "models n"]:
    """What each net says that stretches, (n, length) steps, earn."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stretch)
    return reward(flat.obs, flat.action).reshape(reward.n, *stretch.reward.shape).sum(axis=-1)


@dataclasses.dataclass(frozen=True)
class RewardModel:
    """What comparisons say of rewards."""

    reward: nets.Ensemble
    seen: Episodes
    "The log it was fitted on, in the units that it sees."
    accuracy: float
    "The share of answers other than 0.5 that nets foresee which were not told them: 0.5 is a coin."
    compared: int
    "How many those answers are."

    def each(self, log: Episodes) -> np.ndarray:
        """(models, steps) float32: what each net says, as it says it."""
        if log.spec != self.seen.spec:
            raise BadData(f"{log.source}: this model of rewards was fitted on {self.seen.spec}, and the log has {log.spec}.")
        rows = log.viewed(self.seen.view).transitions().rows()
        return np.concatenate([said(self.reward, rows[at : at + BLOCK]) for at in range(0, log.steps, BLOCK)], axis=1)

    def label(self, log: Episodes, *, mean: float = 0.0) -> Episodes:
        """The log with predicted rewards in place of its own: the mean of the nets, each brought to a mean of `mean` and a standard deviation of 1 over
        the log that they were fitted on.

        Comparisons of stretches of one length say nothing of a constant that is earned at every step. Where episodes truly end early or late it matters:
        above 0 it rewards length, below 0 it punishes it. The scale is arbitrary too, unless answers err as the model says.
        """
        known = self.each(self.seen)
        shift, scale = known.mean(axis=1), known.std(axis=1)
        reward = ((self.each(log) - shift[:, None]) / np.maximum(scale, 1e-8)[:, None]).mean(axis=0) + mean
        note = f"Rewards were predicted from {self.compared:,} comparisons, of which held out {self.accuracy:.0%} are foreseen."
        view = dataclasses.replace(log.view, reward=None)
        return dataclasses.replace(log, reward=reward.astype(np.float32), view=view, notes=(*log.notes, note))


BLOCK = 1 << 16
"Rows that are labelled at once."


@jax.jit
def said(reward: nets.Ensemble, rows: Batch) -> Float[Array, "models n"]:
    return reward(rows.obs, rows.action)


def fit(log: Episodes, pairs: Pairs, answers, *, algorithm: BradleyTerry | None = None, seed: int = 0) -> RewardModel:
    """A model of rewards from `answers` (n,): 1 where the first stretch of a pair was better, 0 the second, 0.5 neither; numbers between are probabilities.

    The log's own rewards are not looked at. Raises BadData for answers that are none, or all 0.5.
    """
    answers, algorithm = np.asarray(answers, np.float64), algorithm or BradleyTerry()
    if answers.shape != pairs.first.shape or not ((answers >= 0) & (answers <= 1)).all():
        raise BadData(f"There are answers of shape {answers.shape} for {len(pairs.first)} pairs; expected one number from 0 to 1 for each pair: 1 where "
                      "the first stretch was better, 0 where the second was, 0.5 where neither.")  # fmt: skip
    if algorithm.models < 2:
        raise ValueError(f"models is {algorithm.models}; expected two at least: each net is judged by the answers that it was not told.")
    decided = answers != 0.5
    if decided.sum() < algorithm.models:
        raise BadData(
            f"Only {decided.sum()} of {len(answers)} answers prefer one stretch; expected {algorithm.models} at least, one for each net."
        )
    seen = log if log.view.obs is not None else log.normalised()
    first, second = (jnp.asarray(rows, jnp.int32) for rows in pairs.rows())
    data = Compared(seen.transitions().rows(), first, second, jnp.asarray(answers, jnp.float32), seen.spec)
    out = train([(algorithm, seed)], data, every=algorithm.steps)
    if out.faults[0] is not None:
        raise BadData(f"{log.source}: the model of rewards diverged: {out.faults[0]}. Lower its learning rate.")
    model = RewardModel(jax.tree.map(lambda x: x[0], out.states.model), seen, float("nan"), int(decided.sum()))
    gain = np.subtract(*(model.each(log)[:, rows].sum(axis=-1) for rows in pairs.rows()))
    own = gain[np.arange(len(answers)) % algorithm.models, np.arange(len(answers))]
    right = ((own > 0) == (answers > 0.5))[decided]
    return dataclasses.replace(model, accuracy=float(right.mean()))
