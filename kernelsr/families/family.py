"""What a kernel family is, and what families share: uniform draws, and points of light spread over pixels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from kernelsr.problem import Problem


class KernelFamily(Protocol):
    """A distribution over kernels."""

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        """n random kernels (n, 1, K, K) for a problem's scale, support, centre, device and dtype."""
        ...


def uniform(size: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    """Numbers from U(low, high), float64, on the generator's device."""
    return low + (high - low) * torch.rand(size, generator=rng, dtype=torch.float64, device=rng.device)


def spread(points: Tensor, kernel_size: int) -> Tensor:
    """Kernels (n, 1, K, K) that points (n, m, 2) (row, column) of equal light make, each spread over its four pixels.

    The weights are bilinear, so a kernel is non-negative, sums to one, and its centre of mass is its points' mean exactly,
    at any sub-pixel place. That is why thin kernels are drawn in place: moving them by a spline would make them ring.
    Points lie within [0, K-1].
    """
    first = points.floor().clamp(0, kernel_size - 2)
    share = points - first
    row, column = first.long().unbind(2)
    kernel = points.new_zeros(len(points), kernel_size**2)
    for down in (0, 1):
        for right in (0, 1):
            rows = share[..., 0] if down else 1 - share[..., 0]
            columns = share[..., 1] if right else 1 - share[..., 1]
            place = (row + down) * kernel_size + column + right
            kernel = kernel.scatter_add(1, place, rows * columns / points.shape[1])
    return kernel.view(-1, 1, kernel_size, kernel_size)
