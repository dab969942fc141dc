"""The degradation y = (x ⋆ k)↓s, its adjoint, and the only statement of its conventions.

Cross-correlation, circular border, and of each s x s block the top-left pixel is kept:
y[i, j] = sum_uv k[u, v] x[(s i + u - K//2) mod H, (s j + v - K//2) mod W].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def degrade(image: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """The low-resolution image that a kernel makes of an image; FKP, Liang et al. (2021), eq. 1 without noise.

    Correlation and decimation are one strided convolution, so the pixels that decimation drops are never computed.

    Args:
        image: (n, C, H, W), or (1, C, H, W) to be degraded by each of n kernels. H and W are multiples of ``scale``.
        kernel: (n, 1, K, K), or (1, 1, K, K) for all images.

    Returns:
        (n, C, H/s, W/s).
    """
    if image.shape[-2] % scale or image.shape[-1] % scale:
        raise ValueError(f"image size {tuple(image.shape[-2:])} is no multiple of the scale {scale}; crop it first")
    margin = kernel.shape[-1] // 2
    images, channels = image.shape[:2]
    # The last row and column that the strided windows reach leave the right and bottom margin short by s - 1.
    after = max(margin - scale + 1, 0)
    padded = F.pad(image, (margin, after, margin, after), mode="circular")
    if images == 1:
        return F.conv2d(padded.transpose(0, 1), kernel, stride=scale).transpose(0, 1)
    if len(kernel) == 1:
        return F.conv2d(padded.flatten(0, 1)[:, None], kernel, stride=scale).unflatten(0, (images, channels))[:, :, 0]
    grouped = F.conv2d(padded.transpose(0, 1), kernel, stride=scale, groups=images)
    return grouped.transpose(0, 1)


def degrade_adjoint(lr: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """The transpose of ``degrade`` in the image: <degrade(x, k), y> = <x, degrade_adjoint(y, k)>.

    Args:
        lr: (1, C, h, w).
        kernel: (1, 1, K, K).

    Returns:
        (1, C, sh, sw).
    """
    margin = kernel.shape[-1] // 2
    height, width = lr.shape[-2] * scale, lr.shape[-1] * scale
    spread = F.conv_transpose2d(lr.transpose(0, 1), kernel, stride=scale).transpose(0, 1)
    # Row r of the spread image lies at r - margin; what falls outside comes back on the other side.
    for dim, size in ((-2, height), (-1, width)):
        place = (torch.arange(spread.shape[dim], device=lr.device) - margin) % size
        shape = [*spread.shape]
        shape[dim] = size
        spread = spread.new_zeros(shape).index_add(dim, place, spread)
    return spread


def transfer(kernel: Tensor, height: int, width: int) -> Tensor:
    """The transfer function H (n, 1, height, width) of kernels (n, 1, K, K): FFT(x ⋆ k) = H FFT(x) on a circular grid."""
    margin = kernel.shape[-1] // 2
    placed = kernel
    for dim, size in ((-2, height), (-1, width)):
        place = (torch.arange(kernel.shape[dim], device=kernel.device) - margin) % size
        shape = [*placed.shape]
        shape[dim] = size
        placed = placed.new_zeros(shape).index_add(dim, place, placed)
    return torch.fft.fft2(placed).conj()


def fold(spectrum: Tensor, scale: int) -> Tensor:
    """The mean over the s*s aliases of each LR frequency: what decimation makes of an HR spectrum (..., sh, sw)."""
    height, width = spectrum.shape[-2] // scale, spectrum.shape[-1] // scale
    return spectrum.unflatten(-1, (scale, width)).unflatten(-3, (scale, height)).mean((-4, -2))


def data_step(image: Tensor, lr: Tensor, kernel: Tensor, scale: int, weight: Tensor | float) -> Tensor:
    """argmin_x |degrade(x, k) - y|^2 + weight |x - image|^2 in closed form; Zhao et al. (2016), as in USRNet's data module.

    By the push-through identity x = image + A' (A A' + weight)^-1 (y - A image), and A A' is circulant on the LR grid. As the
    weight goes to zero it becomes the data step of DDNM, the image nearest to ``image`` that explains y.

    Args:
        image: (n, C, sh, sw).
        lr: y, (n, C, h, w).
        kernel: (n, 1, K, K), or (1, 1, K, K) for all images.
        weight: positive; a number, or (n, 1, 1, 1).
    """
    filters = transfer(kernel, *image.shape[-2:])
    residual = torch.fft.fft2(lr) - fold(filters * torch.fft.fft2(image), scale)
    gain = fold(filters.abs().square(), scale) + weight
    spread = (residual / gain).tile(scale, scale)
    # The adjoint of decimation repeats the spectrum s*s times, once for each alias.
    return image + torch.fft.ifft2(filters.conj() * spread).real
