"""The arithmetic of offline RL: pure, elementwise, unreduced, each with its source."""

from .bellman import legal, soft_clipped, td_target
from .conservative import gap, soft_maximum
from .divergence import kl_to_standard, mmd
from .diversity import alignment
from .linear import lstd
from .noising import denoised, noised, variance_preserving
from .pessimism import discrepancy, largest_noise, spread
from .ratios import clipped_ratios, to_go
from .regression import expectile_loss, gaussian_nll
from .safety import at_most_baseline, exactly_baseline, improvement_bound
from .weights import exp_advantage, scale_free

__all__ = [
    "alignment", "at_most_baseline", "clipped_ratios", "denoised", "discrepancy", "exactly_baseline", "exp_advantage", "expectile_loss", "gap", "gaussian_nll",
    "improvement_bound", "kl_to_standard", "largest_noise", "legal", "lstd", "mmd", "noised", "scale_free", "soft_clipped",
    "soft_maximum", "spread", "td_target", "to_go", "variance_preserving",
]  # fmt: skip
