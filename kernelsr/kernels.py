"""Kernel arithmetic: conventions of the centre, normalisation, moments, sub-pixel shifts.

A kernel is (n, 1, K, K), row first. Positions are in kernel pixels, counted from the top left; offsets in HR pixels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F


def centre(convention: str, kernel_size: int, scale: int) -> float:
    """Where a kernel's centre of mass lies along each axis.

    ``fkp`` (K-s)/2 puts LR pixel i on HR position s*i - (s-1)/2; ``aligned`` K//2 + (s-1)/2 on s*i + (s-1)/2, the grid
    of bicubic downscaling and of KernelGAN. FKP, Liang et al. (2021), released code; PROTOCOLS of the field differ here
    by s-1 HR pixels.
    """
    if convention == "fkp":
        return (kernel_size - scale) / 2
    if convention == "aligned":
        return kernel_size // 2 + (scale - 1) / 2
    raise ValueError(f"centre is {convention!r}; choose fkp or aligned")


def normalise(kernel: Tensor) -> Tensor:
    """Kernels divided by their sum."""
    return kernel / kernel.sum((-2, -1), keepdim=True)


def centroid(kernel: Tensor) -> Tensor:
    """Centres of mass (row, column) of kernels (n, 1, K, K): (n, 2) in kernel pixels."""
    mass = normalise(kernel)[:, 0]
    rows = torch.arange(kernel.shape[-2], dtype=kernel.dtype, device=kernel.device)
    columns = torch.arange(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    return torch.stack([mass.sum(2) @ rows, mass.sum(1) @ columns], 1)


def moments(kernel: Tensor) -> Tensor:
    """Second central moments of kernels (n, 1, K, K): covariances (n, 2, 2) in HR pixels squared, (row, column)."""
    mass, mean = normalise(kernel)[:, 0], centroid(kernel)
    rows = torch.arange(kernel.shape[-2], dtype=kernel.dtype, device=kernel.device) - mean[:, :1]
    columns = torch.arange(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device) - mean[:, 1:]
    across = torch.einsum("nij,ni,nj->n", mass, rows, columns)
    down = torch.einsum("nij,ni->n", mass, rows**2)
    right = torch.einsum("nij,nj->n", mass, columns**2)
    return torch.stack([torch.stack([down, across], 1), torch.stack([across, right], 1)], 1)


def pad_to(kernel: Tensor, size: int) -> Tensor:
    """Kernels in a larger odd support (zeros around), or cut to a smaller one, about the same middle pixel."""
    margin = (size - kernel.shape[-1]) // 2
    return F.pad(kernel, (margin,) * 4)


@lru_cache(maxsize=32)
def _spline_filter(size: int) -> np.ndarray:
    """The matrix that turns samples into cubic B-spline coefficients (mirror border)."""
    return ndimage.spline_filter1d(np.eye(size), order=3, axis=0, output=np.float64, mode="mirror")


def _spline_matrix(offset: Tensor, size: int) -> Tensor:
    """Sampling of a cubic spline of ``size`` coefficients at i - offset: (n, size, size); rows outside are zero."""
    place = torch.arange(size, dtype=offset.dtype, device=offset.device) - offset[:, None]
    inside = (place >= 0) & (place <= size - 1)
    first = place.detach().floor().long() - 1
    matrix = offset.new_zeros(len(offset), size, size)
    for tap in range(4):
        index = first + tap
        distance = (place - index).abs()
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = (2 - distance).clamp(min=0) ** 3 / 6
        weight = torch.where(distance < 1, near, far) * inside
        period = 2 * (size - 1)
        mirrored = index.remainder(period)
        mirrored = torch.where(mirrored >= size, period - mirrored, mirrored)
        matrix = matrix.scatter_add(2, mirrored[:, :, None], weight[:, :, None])
    return matrix


def shift(kernel: Tensor, offset: Tensor) -> Tensor:
    """Kernels (n, 1, K, K) moved by (row, column) offsets (n, 2) in HR pixels, by cubic splines with zeros outside.

    Equals ``scipy.ndimage.shift(kernel, offset, order=3, mode="constant")`` on each kernel, in one batch on any device
    and differentiable. Spline shifting leaves tiny negatives beside steep edges.
    """
    size = kernel.shape[-1]
    coefficients = torch.as_tensor(_spline_filter(size), dtype=kernel.dtype, device=kernel.device)
    down = _spline_matrix(offset[:, 0], size) @ coefficients
    right = _spline_matrix(offset[:, 1], size) @ coefficients
    return (down @ kernel[:, 0] @ right.mT)[:, None]


def recentre(kernel: Tensor, target: float) -> Tensor:
    """Kernels shifted so that the centre of mass is at ``target`` along both axes (before re-normalisation)."""
    return shift(kernel, target - centroid(kernel))


def convolve_dilated(kernel: Tensor, then: Tensor | None = None) -> Tensor:
    """The x4 kernel that two x2 degradations by ``kernel`` make: k convolved with k dilated by 2; KernelGAN, 2019.

    Args:
        then: of the later degradations together, where they are not by ``kernel`` once more.
    """
    later = kernel if then is None else then
    # A transposed convolution of stride 2 is what puts zeros between the later kernel's pixels and convolves.
    return F.conv_transpose2d(later.transpose(0, 1), kernel, stride=2, groups=len(kernel)).transpose(0, 1)


def repeated(kernel: Tensor, passes: int, size: int) -> Tensor:
    """The kernel of ``passes`` x2 degradations by ``kernel`` in a support of ``size``: x2, x4, x8 for 1, 2, 3 passes.

    A centre of either convention at x2 becomes that of the same convention at the whole scale.
    """
    whole = kernel
    for _ in range(passes - 1):
        whole = convolve_dilated(kernel, whole)
    return pad_to(whole, size)
