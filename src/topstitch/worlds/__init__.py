"""Worlds with exact solutions. `icu_sepsis` is a module of its own: its tables come with the extra `icu`."""

from . import icu_sepsis
from .examples import Example, Stitching, Triad, baited_line, chain, deadly_triad, gridworld, lineworld, random_mdp
from .mazes import arrivals, distances, maze
from .tabular import MDP, Empirical, Optimum, Values, empirical, sample, table

__all__ = [
    "MDP", "Empirical", "Example", "Optimum", "Stitching", "Triad", "Values", "arrivals", "baited_line", "chain", "deadly_triad",
    "distances", "empirical", "gridworld", "icu_sepsis", "lineworld", "maze", "random_mdp", "sample", "table",
]  # fmt: skip
