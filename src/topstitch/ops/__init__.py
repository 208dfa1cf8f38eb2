"""The arithmetic of offline RL: pure, elementwise, unreduced, each with its source."""

from .bellman import legal, td_target
from .conservative import gap, soft_maximum
from .regression import expectile_loss
from .weights import exp_advantage, scale_free

__all__ = ["exp_advantage", "expectile_loss", "gap", "legal", "scale_free", "soft_maximum", "td_target"]
