"""Logged decisions: on the host as `Episodes`, on the device as what algorithms draw from."""

from .device import Batch, Mixture, Ring, Transitions, Window, Windows
from .episodes import BadData, Episodes
from .view import Affine, Raw, RawMarkov, View

__all__ = ["Affine", "BadData", "Batch", "Episodes", "Mixture", "Raw", "RawMarkov", "Ring", "Transitions", "View", "Window", "Windows"]
