"""Crops of one image, drawn where there is something to see: KernelGAN's data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def importance(image: Tensor) -> Tensor:
    """Where an image (1, C, h, w) has edges: a map (h, w), not negative; Bell-Kligler et al. (2019), released code.

    The gradient's magnitude, and the 3 % of pixels with the steepest rise along either axis, each term of sum 1, averaged
    over 5x5 pixels. A flat image counts as important everywhere.
    """
    down, right = torch.gradient(image[0].mean(0))
    terms = [torch.hypot(down, right)]
    for slope in (down.abs(), right.abs()):
        steep = slope.flatten().kthvalue(1 + int(0.97 * (slope.numel() - 1))).values
        terms.append((slope - steep).clamp(min=0).sign())
    total = sum(term / term.sum() for term in terms if term.any())
    if not isinstance(total, Tensor):
        return torch.ones_like(down)
    return F.avg_pool2d(total[None, None], 5, stride=1, padding=2)[0, 0]


class Crops:
    """Square crops of an image; the chance of each is the mean importance of its middle half.

    Args:
        image: (1, C, h, w).
        side: of the crops.
        importance: (h, w).
    """

    def __init__(self, image: Tensor, side: int, importance: Tensor):
        self.windows = image[0].unfold(1, side, 1).unfold(2, side, 1)  # (C, rows, columns, side, side), a view
        half = max(side // 2, 1)
        first = (side - half) // 2
        rows, columns = self.windows.shape[1:3]
        chances = F.avg_pool2d(importance[None, None], half, stride=1)[0, 0, first:, first:][:rows, :columns]
        self.steps = chances.double().cpu().flatten().cumsum(0)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n crops (n, C, side, side), with replacement."""
        places = torch.searchsorted(self.steps, self.steps[-1] * torch.rand(n, generator=rng, dtype=torch.float64))
        columns = self.windows.shape[2]
        return self.windows[:, places // columns, places % columns].transpose(0, 1)
