"""White noise that is heard in an image's colours."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d

LEAST = 1 / 255
"""Standard deviation from which on noise counts as heard; rounding to 8 bits alone is 0.29/255. experiments/noises.py."""
SIDE, STRIDE, FINEST = 8, 4, 11
"""Blocks of 8x8 pixels, and the frequencies (i, j) of their cosine transform that are listened to, those of i + j >= 11."""
QUIETEST, SHARE = 0.1, 0.4865
"""Of the blocks the quantile of whose power is taken, and the share of the noise's variance that it is: the same quantile of
chi squared with 10 degrees of freedom, over 10."""
FEW = 16
"""Blocks without clipped pixels, from which on the others are left out."""


def heard(image: Tensor) -> float:
    """The standard deviation of white noise in each channel of an image (1, C, h, w) in [0, 1]; 0 where none is heard.

    The channels of a photograph have their details in common, and those of noise nothing: what is left of the finest
    details in the differences of colours, where the image is quietest, is noise. Images in other than three colours
    are not listened to, nor is grey in three equal channels, nor what is no larger than a few blocks.
    """
    height, width = image.shape[-2:]
    if image.shape[1] != 3 or min(height, width) < 2 * SIDE:
        return 0.0
    image = image.detach()
    differences = image.new_tensor([[1, 0, -1], [1, -2, 1]]) / image.new_tensor([[2.0], [6.0]]).sqrt()
    colours = torch.einsum("dc,nchw->dnhw", differences, image)
    waves = finest_waves().to(image)
    # The whole image with each wave, a row and a column of blocks every half block.
    power = conv2d(colours, waves[:, None], stride=STRIDE).square().mean(1).flatten(1)
    clipped = ((image <= 0) | (image >= 1)).any(1, keepdim=True).to(image)
    whole = conv2d(clipped, torch.ones_like(waves[:1, None]), stride=STRIDE).flatten() == 0
    power = power[:, whole] if whole.sum() >= FEW else power
    # torch.quantile bears no more than 16 million numbers; the tenth of them is one of them.
    lowest = power.kthvalue(1 + int(QUIETEST * (power.shape[1] - 1)), dim=1).values
    found = math.sqrt(lowest.min().item() / SHARE)
    return found if found > LEAST else 0.0


def finest_waves() -> Tensor:
    """The waves (10, 8, 8) of the orthonormal cosine transform that change the fastest."""
    index = torch.arange(SIDE, dtype=torch.float64)
    waves = (math.pi / SIDE * index[:, None] * (index + 0.5)).cos() * math.sqrt(2 / SIDE)
    both = torch.einsum("iy,jx->ijyx", waves, waves)
    return both[index[:, None] + index >= FINEST]
