"""Noise as a camera leaves it, which is not white: smoothed, or of a colour filter array whose gaps were filled.

It is quieter than the white noise that it is made of, or louder; to be divided by its deviation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from kernelsr.colours import grey


def gaussian(noise: Tensor, width: float = 0.6) -> Tensor:
    """White noise (1, 3, h, w), smoothed by a Gaussian of so many LR pixels."""
    along = torch.exp(-((torch.arange(-3, 4) / width) ** 2) / 2)
    return _filtered(noise, (along[:, None] * along).expand(3, 1, 7, 7))


def bayer(noise: Tensor) -> Tensor:
    """White noise (1, 3, h, w) at the pixels of Bayer's pattern, and bilinear means of the nearest of them elsewhere."""
    green = (torch.arange(noise.shape[2])[:, None] + torch.arange(noise.shape[3])) % 2 == 1
    rows = torch.arange(noise.shape[2])[:, None] % 2 == 0
    pattern = torch.stack([~green & rows, green, ~green & ~rows]).to(noise)
    across = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    corners = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    return _filtered(noise * pattern, torch.stack([corners, across, corners])[:, None])


def drawn(side: int, rng: torch.Generator) -> Tensor:
    """Some camera's grey noise (1, 1, side, side) of unit variance: of Bayer's pattern, or of a Gaussian, as often."""
    noise = torch.randn(1, 3, side, side, generator=rng)
    coin, place = torch.rand(2, generator=rng).tolist()
    noise = grey(bayer(noise) if coin < 0.5 else gaussian(noise, 0.4 + 0.5 * place))
    return noise / noise.std()


def _filtered(noise: Tensor, filters: Tensor) -> Tensor:
    margin = filters.shape[-1] // 2
    return conv2d(pad(noise, (margin,) * 4, mode="circular"), filters, groups=3)
