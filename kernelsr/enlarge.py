"""Enlargement: bicubic, or by a network in tiles; and the way from bicubic's grid to that of the problem's convention.

On bicubic's grid, the *aligned* one, LR pixel i lies on HR position s*i + (s-1)/2, as in MATLAB's ``imresize`` and in every
network that was trained on bicubic pairs. Beyond its border an image is continued by its mirror image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from kernelsr import kernels
from kernelsr.problem import Problem


def continued(image: Tensor, before: int, after: tuple[int, int]) -> Tensor:
    """An image (..., H, W) with its mirror image around, the border's pixels repeated; any margin, also beyond its size.

    Args:
        before: pixels above and to the left.
        after: pixels below, and to the right.
    """
    for dim, more in zip((-2, -1), after, strict=True):
        size = image.shape[dim]
        place = torch.arange(-before, size + more, device=image.device).remainder(2 * size)
        image = image.index_select(dim, torch.minimum(place, 2 * size - 1 - place))
    return image


def bicubic(lr: Tensor, scale: int) -> Tensor:
    """Bicubic enlargement of (n, C, h, w), on the aligned grid; equals MATLAB's ``imresize``."""
    # PyTorch clamps at the border, MATLAB mirrors, and the cubic reaches two pixels.
    large = F.interpolate(continued(lr, 2, (2, 2)), scale_factor=scale, mode="bicubic", antialias=True)
    return large[..., 2 * scale : -2 * scale, 2 * scale : -2 * scale]


def in_tiles(network: Callable[[Tensor], Tensor], image: Tensor, *, tile: int, halo: int) -> Tensor:
    """What a network makes of an image (n, C, h, w), tile by tile: (n, C', rh, rw), r being the network's own scale.

    Args:
        network: (n, C, a, b) -> (n, C', ra, rb), for any a and b up to ``tile`` + 2 ``halo``.
        tile: the largest side of a tile; tiles are of about equal size.
        halo: LR pixels around a tile that the network sees too; where it reaches no farther, tiles leave no trace.
    """
    wide = continued(image, halo, (halo, halo))
    rows = []
    for top, bottom in _spans(image.shape[2], tile):
        row = []
        for left, right in _spans(image.shape[3], tile):
            piece = wide[..., top : bottom + 2 * halo, left : right + 2 * halo]
            large = network(piece)
            ratio = large.shape[-1] // piece.shape[-1]
            inside = large[..., halo * ratio :, halo * ratio :]
            row.append(inside[..., : (bottom - top) * ratio, : (right - left) * ratio])
        rows.append(torch.cat(row, 3))
    return torch.cat(rows, 2)


def _spans(size: int, most: int) -> list[tuple[int, int]]:
    count = -(-size // most)
    ends = [size * i // count for i in range(count + 1)]
    return list(zip(ends, ends[1:], strict=False))


def settled(image: Tensor, problem: Problem) -> Tensor:
    """An image (n, C, sh, sw) of the aligned grid on the grid of the problem's convention: rolled by 0 or s - 1 pixels."""
    scale, size = problem.scale, problem.kernel_size
    offset = round(kernels.centre(problem.centre, size, scale) - kernels.centre("aligned", size, scale))
    return image.roll((offset, offset), (2, 3))


def moved(image: Tensor, offset: tuple[float, float]) -> Tensor:
    """An image (n, C, H, W) moved down and right by any number of pixels: rolled by the whole ones, the rest by phases.

    They are those of the image with its mirror image: the image alone is not periodic, and would ring at its border.
    """
    whole = (round(offset[0]), round(offset[1]))
    height, width = image.shape[2:]
    period = continued(image.roll(whole, (2, 3)), 0, (height, width))
    rows = torch.fft.fftfreq(2 * height, dtype=image.dtype, device=image.device)[:, None]
    columns = torch.fft.rfftfreq(2 * width, dtype=image.dtype, device=image.device)
    turns = rows * (offset[0] - whole[0]) + columns * (offset[1] - whole[1])
    spectrum = torch.fft.rfft2(period) * torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
    return torch.fft.irfft2(spectrum, s=period.shape[2:])[..., :height, :width]
