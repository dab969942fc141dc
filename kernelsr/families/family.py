"""What a kernel family is, and what families share: draws, and the three ways to put a kernel at its centre of mass.

Thin kernels are drawn in place (``spread``), Gaussians moved by the protocol's spline (``kernels.recentre``), and stored
or noisy kernels moved so that they stay non-negative and keep their width (``recentred``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.problem import Problem, fkp_kernel_size


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


def delta_kernel(problem: Problem) -> Tensor:
    """No blur: all light at the convention's centre, (1, 1, K, K) in float64; between pixels shared by those around it."""
    centre = kernels.centre(problem.centre, problem.kernel_size, problem.scale)
    return spread(torch.full((1, 1, 2), centre, dtype=torch.float64), problem.kernel_size)


def recentred(kernel: Tensor, target: float) -> Tensor:
    """Kernels (n, 1, K, K) moved so that their centre of mass is at ``target``: non-negative, sum one.

    Each is moved in the way that changes its width less. A cubic spline, as in the FKP protocol, keeps the width of smooth
    kernels; but it rings beside thin strokes, and with the negatives clipped it widens a camera shake's variance by up to a
    pixel squared. Bilinear weights widen anything by up to a quarter.
    """
    kernel = kernel.clamp(min=0)
    smooth, soft = (_moved(kernel, target, way) for way in (kernels.shift, _shift_bilinear))
    width, first, second = (kernels.moments(k).diagonal(dim1=1, dim2=2).sum(1) for k in (kernel, smooth, soft))
    better = (first - width).abs() <= (second - width).abs()
    return torch.where(better[:, None, None, None], smooth, soft)


def _moved(kernel: Tensor, target: float, way: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Kernels moved to a centre of mass, negatives clipped: that moves the centre, so the offset is corrected three times."""
    offset = target - kernels.centroid(kernel)
    for _ in range(4):
        moved = kernels.normalise(way(kernel, offset).clamp(min=0))
        offset = offset + target - kernels.centroid(moved)
    return moved


def _shift_bilinear(kernel: Tensor, offset: Tensor) -> Tensor:
    """Kernels moved by offsets (n, 2) in HR pixels, each pixel's light shared by the four it comes to lie on."""
    place = torch.arange(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    down, right = ((1 - (place[:, None] - place - offset[:, axis, None, None]).abs()).clamp(min=0) for axis in (0, 1))
    return (down @ kernel[:, 0] @ right.mT)[:, None]


def room_around_centre(problem: Problem) -> float:
    """HR pixels from the centre of mass to the nearest border of the support."""
    centre = kernels.centre(problem.centre, problem.kernel_size, problem.scale)
    return min(centre, problem.kernel_size - 1 - centre)


def kernel_size_of(family: KernelFamily, scale: int) -> int:
    """The support K that a family's kernels need: its ``kernel_size(scale)`` where it has one, else FKP's rule.

    Stored kernels have a size of their own, which FKP's rule would cut.
    """
    own = getattr(family, "kernel_size", None)
    return own(scale) if own else fkp_kernel_size(scale)


def bounds(value: float | tuple[float, float], name: str) -> tuple[float, float]:
    """A setting that is one number or a range, as (low, high); it must be positive and ascending."""
    low, high = (value, value) if isinstance(value, (int, float)) else value
    if not 0 < low <= high:
        raise ValueError(f"{name} is {value}; give one positive number, or an ascending range (low, high)")
    return float(low), float(high)
