"""From actions to noise and back: the arithmetic of diffusion and flow models."""

import numpy as np


def variance_preserving(steps: int) -> tuple[np.ndarray, np.ndarray]:
    r"""$\beta_t$ and $\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)$ for t = 1 .. `steps`, from little noise to almost nothing else.

    $1 - \beta_t = e^{-b/T - (B - b)(2t - 1) / 2T^2}$ with b = 0.1 and B = 10: the schedule of Xiao et al. 2022, appendix,
    https://arxiv.org/abs/2112.07804, whose end does not depend on how few the steps are.
    """
    t = np.arange(1, steps + 1)
    alpha = np.exp(-0.1 / steps - 0.5 * 9.9 * (2 * t - 1) / steps**2)
    return (1 - alpha).astype(np.float32), np.cumprod(alpha).astype(np.float32)


def noised(action, noise, kept):
    r"""$\sqrt{\bar\alpha}\, a + \sqrt{1 - \bar\alpha}\, \epsilon$. Ho et al. 2020, eq. 4, https://arxiv.org/abs/2006.11239."""
    return kept**0.5 * action + (1 - kept) ** 0.5 * noise


def denoised(x, noise, beta, kept):
    r"""$(x - \beta \epsilon / \sqrt{1 - \bar\alpha}) / \sqrt{1 - \beta}$: the mean one step before. Ho et al. 2020, eq. 11."""
    return (x - beta / (1 - kept) ** 0.5 * noise) / (1 - beta) ** 0.5
