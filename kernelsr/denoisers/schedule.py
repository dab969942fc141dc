"""The linear schedule of DDPM in terms of noise levels; the only statement of how times and noise levels belong together.

A denoiser is asked for the clean image behind clean + sigma * noise, on [-1, 1]. DDPM's x_t, sqrt(alpha_bar) * clean +
sqrt(1 - alpha_bar) * noise, is that divided by sqrt(1 + sigma^2), with sigma^2 = (1 - alpha_bar) / alpha_bar.
"""

from __future__ import annotations

import torch
from torch import Tensor

TIMES = 1000


def noise_levels() -> Tensor:
    """sigma (1000,), float64, at each time of DDPM's linear schedule, Ho et al. (2020): betas from 1e-4 to 0.02."""
    betas = torch.linspace(1e-4, 0.02, TIMES, dtype=torch.float64)
    alpha_bar = (1 - betas).cumprod(0)
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def respaced(steps: int) -> Tensor:
    """The times (steps,) that a diffusion of fewer steps visits, evenly from the last to 0; Nichol & Dhariwal (2021)."""
    if not 1 <= steps <= TIMES:
        raise ValueError(f"steps is {steps}; a diffusion takes from 1 to {TIMES}")
    times = torch.linspace(0, TIMES - 1, steps, dtype=torch.float64) if steps > 1 else torch.tensor([TIMES - 1.0])
    return times.round().long().flip(0)
