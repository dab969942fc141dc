"""The eight symmetries of a square: images mirrored and transposed, and what that makes of their kernels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kernelsr.problem import Problem

TURNS = 8


def turned(image: Tensor, turn: int) -> Tensor:
    """An image (..., H, W) flipped (bits 0 and 1: rows, columns), then transposed (bit 2)."""
    image = _flipped(image, turn)
    return image.mT if turn & 4 else image


def turned_back(image: Tensor, turn: int) -> Tensor:
    """What ``turned`` was made of."""
    return _flipped(image.mT if turn & 4 else image, turn)


def _flipped(image: Tensor, turn: int) -> Tensor:
    return image.flip([dim for bit, dim in ((1, -2), (2, -1)) if turn & bit])


def framed(kernel: Tensor, problem: Problem) -> Tensor:
    """Kernels (n, 1, K, K) with zeros around, (n, 1, K+s-1, K+s-1): the convention's centre is the frame's.

    An image that is turned was blurred by the framed kernel turned likewise.
    """
    more = problem.scale - 1
    ends = (more, 0) if problem.centre == "fkp" else (0, more)
    return F.pad(kernel, ends + ends)
