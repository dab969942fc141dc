"""Whether an image was a JPEG once: what its blocks of 8 x 8 pixels leave behind, wherever their grid begins."""

from __future__ import annotations

import math

import numpy as np
from scipy.fft import dct
from torch import Tensor

SIDE = 8
SEEN, FEW = 0.1, 12.0
"""Blockiness beyond which an image counts as compressed, and how much more it takes for want of pixels: 12 over the root of
their number; experiments/worn.py."""

FINE = dct(np.eye(SIDE, dtype=np.float32), axis=1, norm="ortho")[:, SIDE // 2 :]


def was_jpeg(image: Tensor) -> bool:
    """Whether an image (1, 1, h, w) in [0, 1] shows the blocks of a JPEG; one of fewer than four a side never does."""
    return min(image.shape[-2:]) >= 4 * SIDE and blockiness(image) > SEEN + FEW / math.sqrt(image.numel())


def blockiness(image: Tensor) -> float:
    """By how much the details of an image (1, 1, h, w) in [0, 1] are weaker within one grid of blocks than within all others.

    The fine half of a discrete cosine transform of every eight pixels in a row, and in a column, from each of eight
    beginnings: the mean logarithm of its power, in units of the 8 bits. JPEG rounds most of them to zero on its own grid
    and thereby makes jumps across it, which any other grid sees as details. A direction without room for eight grids counts
    as 0.
    """
    levels = 255 * image[0, 0].detach().cpu().float().numpy()
    return float(_along_rows(levels) + _along_rows(np.ascontiguousarray(levels.T))) / 2


def _along_rows(levels: np.ndarray) -> float:
    found = []
    for begin in range(SIDE):
        blocks = (levels.shape[1] - begin) // SIDE
        if not blocks:
            return 0.0
        details = levels[:, begin : begin + blocks * SIDE].reshape(-1, SIDE) @ FINE
        found.append(np.log(details**2 + 0.25).mean(dtype=np.float64))
    weakest = min(found)
    return (sum(found) - weakest) / (SIDE - 1) - weakest
