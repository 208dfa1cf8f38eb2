"""Networks. Every leaf is an array, so `jax.jit/vmap/scan/grad` and optax take these modules as they are."""

from .actors import (
    Autoregressive,
    BoxGaussian,
    BoxMixture,
    Categories,
    Deterministic,
    Greedy,
    Several,
    Squashed,
    Stepwise,
    greedy,
    stochastic,
)
from .conditioned import Bilinear, Film
from .critics import BoxQ, DiscreteQ, MultiDiscreteQ, Value, critics, q_value
from .distributions import Categorical, Choices, Delta, Normal, NormalMixture, Tanh
from .dynamics import Dynamics, GaussianStep
from .encoder import Convolution, Sight, ask, reader
from .ensemble import Ensemble
from .features import Features, LinearQ, OneHot, Polynomial, Radial, features
from .generative import VAE, BestOf, BestOfDraws, Diffusion, Drawn, Flow, Generator, Noised, OneStep, Shift, Shifted, best, repeated
from .goals import Contrast, DirectedValue, Direction, Quasimetric, lengthened
from .heads import Heads
from .mlp import MLP, LayerNorm, Linear, linears, vector
from .planning import Planner, columns, likely
from .sequence import GPT, Bins, ReturnReader, Seen, TokenModel
from .tables import Table, TableGreedy, TablePolicy, means
from .trees import Forest, ForestQ

__all__ = [
    "GPT",
    "MLP",
    "VAE",
    "Autoregressive",
    "BestOf",
    "BestOfDraws",
    "Bilinear",
    "Bins",
    "BoxGaussian",
    "BoxMixture",
    "BoxQ",
    "Categorical",
    "Categories",
    "Choices",
    "Contrast",
    "Convolution",
    "Delta",
    "Deterministic",
    "Diffusion",
    "DirectedValue",
    "Direction",
    "DiscreteQ",
    "Drawn",
    "Dynamics",
    "Ensemble",
    "Features",
    "Film",
    "Flow",
    "Forest",
    "ForestQ",
    "GaussianStep",
    "Generator",
    "Greedy",
    "Heads",
    "LayerNorm",
    "Linear",
    "LinearQ",
    "MultiDiscreteQ",
    "Noised",
    "Normal",
    "NormalMixture",
    "OneHot",
    "OneStep",
    "Planner",
    "Polynomial",
    "Quasimetric",
    "Radial",
    "ReturnReader",
    "Seen",
    "Several",
    "Shift",
    "Shifted",
    "Sight",
    "Squashed",
    "Stepwise",
    "Table",
    "TableGreedy",
    "TablePolicy",
    "Tanh",
    "TokenModel",
    "Value",
    "ask",
    "best",
    "columns",
    "critics",
    "features",
    "greedy",
    "lengthened",
    "likely",
    "linears",
    "means",
    "q_value",
    "reader",
    "repeated",
    "stochastic",
    "vector",
]  # fmt: skip
