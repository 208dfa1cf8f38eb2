"""Networks. Every leaf is an array, so `jax.jit/vmap/scan/grad` and optax take these modules as they are."""

from .actors import BoxGaussian, Categories, Deterministic, Greedy, Squashed, greedy, stochastic
from .critics import BoxQ, DiscreteQ, Value, critics, q_value
from .distributions import Categorical, Delta, Normal, Tanh
from .ensemble import Ensemble
from .mlp import MLP, LayerNorm, Linear, linears, vector

__all__ = [
    "MLP", "BoxGaussian", "BoxQ", "Categorical", "Categories", "Delta", "Deterministic", "DiscreteQ", "Ensemble", "Greedy",
    "LayerNorm", "Linear", "Normal", "Squashed", "Tanh", "Value", "critics", "greedy", "linears", "q_value", "stochastic", "vector",
]  # fmt: skip
