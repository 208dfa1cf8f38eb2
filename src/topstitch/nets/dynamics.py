"""Learned models of the world: what follows a step, and how noisy that is."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from .. import ops
from ..core import Metrics, Spec, Trained, sometimes, static
from .ensemble import Ensemble
from .mlp import MLP

NEVER = 1e30
"The error of a model that has not been measured yet: large, and finite, for states must be."


class Standard(eqx.Module):
    """x -> (x - mean) / std over the last axis, as measured on data; what never varies keeps its unit."""

    mean: Float[Array, " x"]
    std: Float[Array, " x"]

    @classmethod
    def of(cls, x: Float[Array, "n x"]) -> "Standard":
        std = x.std(axis=0)
        return cls(x.mean(axis=0), jnp.where(std > 1e-6, std, 1.0))

    def __call__(self, x):
        lead = tuple(range(x.ndim - 1))
        return (x - jnp.expand_dims(self.mean, lead)) / jnp.expand_dims(self.std, lead)

    def undo(self, x):
        lead = tuple(range(x.ndim - 1))
        return x * jnp.expand_dims(self.std, lead) + jnp.expand_dims(self.mean, lead)


class GaussianStep(eqx.Module):
    """x -> (mean, log variance) of y. The log variance is softly held between two learned bounds.

    Chua et al. 2018, appendix A.1, https://arxiv.org/abs/1805.12114.
    """

    net: MLP
    low: Float[Array, " out"]
    high: Float[Array, " out"]

    def __init__(self, size: int, out: int, hidden: tuple[int, ...], *, key):
        self.net = MLP((size, *hidden, 2 * out), key=key, activation="silu")
        self.low, self.high = jnp.full(out, -10.0), jnp.full(out, 0.5)

    def __call__(self, x):
        mean, log_var = jnp.split(self.net(x), 2, axis=-1)
        lead = tuple(range(x.ndim - 1))
        low, high = jnp.expand_dims(self.low, lead), jnp.expand_dims(self.high, lead)
        log_var = high - jax.nn.softplus(high - log_var)
        return mean, low + jax.nn.softplus(log_var - low)


class Dynamics(eqx.Module):
    r"""$p(\Delta s, r \mid s, a)$ as an ensemble of Gaussians, and how far learning it has come.

    Each model learns from a bootstrap of its own. After every pass over the data (`epoch` steps) the models are measured on rows
    held out from all of them, and the best that each has been is kept; learning stops when none has improved by 1 % for
    `patience` passes. Chua et al. 2018, https://arxiv.org/abs/1805.12114; stopping and elites as in Janner et al. 2019,
    https://arxiv.org/abs/1906.08253. Everything it is told and says is in the units of the data; inside, both are standardised.
    """

    trained: Trained[Ensemble]
    best: Ensemble
    "Each model as it was when it did best on the rows held out."
    error: Float[Array, " model"]
    "The mean squared error there, in standard units."
    stale: Int[Array, ""]
    "Measurements since a model last improved."
    elites: Int[Array, " elite"]
    "The models that did best: those that steps are drawn from."
    order: Int[Array, " row"]
    "A permutation of the rows. The last `held_out` are never learned from."
    asked: Standard
    told: Standard
    low: Float[Array, " obs"]
    high: Float[Array, " obs"]
    "Bounds of what can be imagined: the range of the log, widened by its own width on either side."
    held_out: int = static()

    @classmethod
    def start(
        cls,
        rows,
        spec: Spec,
        hidden: tuple[int, ...],
        models: int,
        elites: int,
        optimiser: optax.GradientTransformation,
        *,
        held_out: int,
        key,
    ) -> "Dynamics":
        """`held_out` rows, but no more than a fifth of them (and at least one) are kept for measuring."""
        if not 1 <= elites <= models:
            raise ValueError(f"elites is {elites}; expected 1 to {models}, the number of models.")
        km, ko = jax.random.split(key)
        n = len(rows)
        seen = jnp.concatenate([rows.obs, rows.next_obs])
        low, high = seen.min(axis=0), seen.max(axis=0)
        make = lambda key: GaussianStep(spec.obs.size + spec.action.size, spec.obs.size + 1, hidden, key=key)
        ensemble = Ensemble.of(make, models, key=km)
        return cls(
            trained=Trained.start(ensemble, optimiser), best=ensemble, error=jnp.full(models, NEVER), stale=jnp.zeros((), jnp.int32),
            elites=jnp.arange(elites, dtype=jnp.int32), order=jax.random.permutation(ko, n).astype(jnp.int32),
            asked=Standard.of(question(rows.obs, rows.action)), told=Standard.of(answer(rows)),
            low=2 * low - high, high=2 * high - low,
            held_out=max(1, min(held_out, n // 5)),
        )  # fmt: skip

    @property
    def learned_from(self) -> int:
        """The number of rows that are not held out."""
        return max(1, len(self.order) - self.held_out)

    def epoch(self, batch_size: int) -> int:
        """Steps in a pass over the data."""
        return -(-self.learned_from // batch_size)

    def draw(self, rows, n: int, *, key):
        """`n` rows for each model from its bootstrap, which is never stored: ticket i of model m always stands for the same row."""
        models, size = self.trained.model.n, self.learned_from
        tickets = jax.random.randint(key, (models, n), 0, size)
        row = lambda ticket, key: jax.random.bits(jax.random.fold_in(key, ticket)) % size
        chosen = jax.vmap(jax.vmap(row, in_axes=(0, None)))(tickets, jax.random.split(jax.random.key(0), models))
        return rows[self.order[chosen]]

    def fit(self, batch, optimiser: optax.GradientTransformation, *, decay, patience: int) -> "tuple[Dynamics, Metrics]":
        """One step on the likelihood of `batch`, one row of batches for each model; nothing once learning has stopped."""
        x, y = self.asked(question(batch.obs, batch.action)), self.told(answer(batch))

        def loss(model):
            nll = counts(batch, y) * ops.gaussian_nll(*model.each(x), y)
            squares = sum((layer.weight**2).sum() for layer in model.members.net.layers)
            bounds = model.members.high.sum() - model.members.low.sum()
            # the likelihood counts twice, and so the other two weights mean what they mean in the authors' code
            total = 2 * nll.mean(axis=(1, 2)).sum() + 0.01 * bounds + decay / 2 * squares
            return total, {"model/nll": nll.mean()}

        trained, info = sometimes(self.stale < patience, lambda trained: trained.descend(loss, optimiser), self.trained)
        return dataclasses.replace(self, trained=trained), info | {"model/error": self.error.mean()}

    def measured(self, rows) -> "Dynamics":
        """After a look at the rows held out."""
        rows = rows[self.order[len(self.order) - self.held_out :]]
        mean, _ = self.trained.model(self.asked(question(rows.obs, rows.action)))
        y = self.told(answer(rows))
        error = (counts(rows, y)[None] * (mean - y[None]) ** 2).mean(axis=(1, 2))
        better = error < 0.99 * self.error
        keep = lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        best = jax.tree.map(keep, self.trained.model, self.best)
        return dataclasses.replace(self, best=best, error=keep(error, self.error), stale=jnp.where(better.any(), 0, self.stale + 1))

    def chosen(self) -> "Dynamics":
        """With the models that did best as its elites."""
        return dataclasses.replace(self, elites=jnp.argsort(self.error)[: len(self.elites)].astype(jnp.int32))

    def __call__(self, obs, action) -> tuple[Float[Array, "model *batch out"], Float[Array, "model *batch out"]]:
        """(mean, std) of (change of obs, reward) by each model."""
        mean, log_var = self.best(self.asked(question(obs, action)))
        lead = tuple(range(mean.ndim - 1))
        return self.told.undo(mean), jnp.exp(0.5 * log_var) * jnp.expand_dims(self.told.std, lead)

    def land(self, obs, change):
        """The observation that a change leads to, held within bounds: outside of the log models can do what they like, for ever."""
        lead = tuple(range(obs.ndim - 1))
        return jnp.clip(obs + change, jnp.expand_dims(self.low, lead), jnp.expand_dims(self.high, lead))


def question(obs, action):
    return jnp.concatenate([obs, action], axis=-1)


def answer(rows):
    return jnp.concatenate([rows.next_obs - rows.obs, rows.reward[..., None]], axis=-1)


def counts(rows, y):
    """1 for each part of `answer` that was logged, else 0: a log without what follows a terminal step repeats its observation there."""
    unknown = (rows.terminal > 0) & (rows.next_obs == rows.obs).all(axis=-1)
    reward = jnp.expand_dims(jnp.arange(y.shape[-1]) == y.shape[-1] - 1, tuple(range(y.ndim - 1)))
    return jnp.where(reward | ~unknown[..., None], 1.0, 0.0)
