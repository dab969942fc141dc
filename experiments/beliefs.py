"""How far a truth surprises a belief: for training the amortised network."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelsr.beliefs import Belief

TAILS = 4.0  # degrees of freedom


def surprise(belief: Belief, shape: Tensor) -> Tensor:
    """Minus the log-density (n,), but for a constant, of shapes (n, 3), with Student's tails instead of the Gaussian's.

    By the Gaussian's, one patch with JPEG's blocks outweighs a batch of those that the network has understood.
    """
    tails = (TAILS + 3) / 2 * torch.log1p(belief.distance(shape) / TAILS)
    return tails - torch.logdet(belief.precision) / 2
