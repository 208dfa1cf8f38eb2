"""The arithmetic of offline RL: pure, elementwise, unreduced, each with its source."""

from .bellman import best_of, lambda_returns, legal, soft_clipped, td_target
from .conservative import gap, soft_maximum
from .divergence import categorical_kl, kl_to_standard, mmd, normal_kl, steepness, variational_kl
from .diversity import alignment
from .linear import lstd
from .noising import denoised, noised, variance_preserving
from .pessimism import discrepancy, largest_noise, spread
from .ratios import clipped_ratios, to_go
from .regression import expectile_loss, gaussian_nll, quantile_huber
from .safety import at_most_baseline, exactly_baseline, improvement_bound
from .weights import binary_advantage, exp_advantage, positive_advantage, scale_free, tilted, top_fraction

__all__ = [
    "alignment", "at_most_baseline", "best_of", "binary_advantage", "categorical_kl", "clipped_ratios", "denoised", "discrepancy",
    "exactly_baseline", "exp_advantage", "expectile_loss", "gap", "gaussian_nll", "improvement_bound", "kl_to_standard",
    "lambda_returns", "largest_noise", "legal", "lstd", "mmd", "noised", "normal_kl", "positive_advantage", "quantile_huber", "scale_free",
    "soft_clipped", "soft_maximum", "spread", "steepness", "td_target", "tilted", "to_go", "top_fraction",
    "variance_preserving", "variational_kl",
]  # fmt: skip
