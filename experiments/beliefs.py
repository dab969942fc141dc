"""How far a truth surprises a belief: for training the amortised networks."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelsr.beliefs import Belief

TAILS = 4.0  # degrees of freedom


def surprise(belief: Belief, truth: Tensor) -> Tensor:
    """Minus the log-density (n,), but for a constant, of truths (n, D), with Student's tails instead of the Gaussian's.

    By the Gaussian's, one patch with JPEG's blocks outweighs a batch of those that the network has understood.
    """
    tails = (TAILS + truth.shape[1]) / 2 * torch.log1p(belief.distance(truth) / TAILS)
    return tails - torch.logdet(belief.precision) / 2
