"""Worlds with exact solutions. `icu_sepsis` is a module of its own: its tables come with the extra `icu`."""

from . import icu_sepsis
from .examples import Example, Stitching, Triad, baited_line, chain, deadly_triad, gridworld, lineworld, random_mdp
from .tabular import MDP, Empirical, Optimum, Values, empirical, sample, table

__all__ = [
    "MDP", "Empirical", "Example", "Optimum", "Stitching", "Triad", "Values", "baited_line", "chain", "deadly_triad", "empirical",
    "gridworld", "icu_sepsis", "lineworld", "random_mdp", "sample", "table",
]  # fmt: skip
