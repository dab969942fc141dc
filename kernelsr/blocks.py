"""What the blocks of 8 x 8 pixels of a JPEG leave behind in an image, wherever their grid begins."""

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


class Blocks:
    """What an image (1, 1, h, w) in [0, 1] shows of the blocks of a JPEG.

    The fine half of a discrete cosine transform of every eight pixels in a row, and in a column, from each of eight
    beginnings: the mean logarithm of its power, in units of the 8 bits. JPEG rounds most of them to zero on its own grid
    and thereby makes jumps across it, which any other grid sees as details.
    """

    def __init__(self, image: Tensor):
        levels = 255 * image[0, 0].detach().cpu().float().numpy()
        # Down and across, how strong the details within blocks are for each of eight beginnings; or nothing.
        self.details = _along_rows(np.ascontiguousarray(levels.T)), _along_rows(levels)
        self.pixels = levels.size

    @property
    def blockiness(self) -> float:
        """By how much details are weaker within one grid of blocks than within all others.

        A direction without room for eight grids counts as 0.
        """
        return sum(_strength(details) for details in self.details) / 2

    @property
    def visible(self) -> bool:
        """Whether the blocks are to be seen."""
        return self.blockiness > SEEN + FEW / math.sqrt(self.pixels)

    @property
    def begin(self) -> tuple[int, int]:
        """Row and column at which the blocks begin, less than 8 each, if it was a JPEG."""
        down, across = (details.index(min(details)) if details else 0 for details in self.details)
        return down, across


def _strength(details: list[float]) -> float:
    weakest = min(details, default=0.0)
    return (sum(details) - weakest) / (SIDE - 1) - weakest


def _along_rows(levels: np.ndarray) -> list[float]:
    if levels.shape[1] < 2 * SIDE - 1:
        return []
    found = []
    for begin in range(SIDE):
        blocks = (levels.shape[1] - begin) // SIDE
        details = levels[:, begin : begin + blocks * SIDE].reshape(-1, SIDE) @ FINE
        found.append(float(np.log(details**2 + 0.25).mean(dtype=np.float64)))
    return found
