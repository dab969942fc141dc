"""White noise that is heard in an image."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.fft import idctn
from scipy.special import gammaincinv
from torch import Tensor
from torch.nn.functional import conv2d

LEAST = 1 / 255
"""Standard deviation from which on noise counts as heard; rounding to 8 bits alone is 0.29/255. experiments/noises.py."""
SIDE, STRIDE = 8, 4
"""Of the blocks whose waves are listened to: sides, and how far one is from the next."""
FINEST, FINE = (11, 15), (8, 10)
"""The waves (i, j) of a block's cosine transform in which noise is heard, 11 <= i + j < 15, and coarser ones beside them."""
QUIETEST = 0.1
"""Of the blocks the quantile of whose power is taken."""
FLAT, NEAR = 1.4, 1.1
"""How much louder the fine waves are than the finest, at most, where it is noise, which is white as details are not: in one
of the channels that are at most so many times as loud as the quietest."""
FEW = 16
"""Blocks without clipped pixels, from which on the others are left out."""


def heard(image: Tensor) -> float:
    """The standard deviation of white noise in each channel of an image (1, C, h, w) in [0, 1]; 0 where none is heard.

    The channels of a photograph have their details in common, those of noise nothing: what is left of the finest details
    in the differences of colours, where the image is quietest, is noise. Other images than those of three colours are
    listened to channel by channel; the quietest says how loud it is.
    """
    if min(image.shape[-2:]) < 2 * SIDE:
        return 0.0
    clipped = ((image <= 0) | (image >= 1)).any(1, keepdim=True).to(image)
    whole = conv2d(clipped, torch.ones(1, 1, SIDE, SIDE).to(image), stride=STRIDE).flatten() == 0
    whole = whole if whole.sum() >= FEW else torch.ones_like(whole)
    parts = _differences(image.detach()).transpose(0, 1)
    finest, fine = (_quietest(parts, waves(*band), whole) for band in (FINEST, FINE))
    found = math.sqrt(finest.min().item())
    flat = (fine < FLAT**2 * finest)[finest <= NEAR**2 * finest.min()].any()
    return found if found > LEAST and flat else 0.0


def _differences(image: Tensor) -> Tensor:
    """What is listened to: two differences of three colours, each with the noise of one; all channels of another image."""
    if image.shape[1] != 3:
        return image
    weights = image.new_tensor([[1, 0, -1], [1, -2, 1]]) / image.new_tensor([[2.0], [6.0]]).sqrt()
    differences = torch.einsum("dc,nchw->ndhw", weights, image)
    return differences if differences.abs().max() > 1e-6 else image[:, :1]  # grey, in three equal channels


def _quietest(parts: Tensor, waves: Tensor, whole: Tensor) -> Tensor:
    """The variance (C,) of the white noise that would have as much power in ``waves`` (n, 8, 8) as the quietest of the
    ``whole`` blocks of each part (C, 1, h, w) has."""
    power = conv2d(parts, waves[:, None].to(parts), stride=STRIDE).square().sum(1).flatten(1)[:, whole]
    lowest = power.kthvalue(1 + int(QUIETEST * (power.shape[1] - 1)), dim=1).values
    return lowest / (2 * gammaincinv(len(waves) / 2, QUIETEST))  # of chi squared with n degrees of freedom


def waves(low: int, high: int) -> Tensor:
    """The waves (n, 8, 8) of the orthonormal cosine transform with low <= i + j < high."""
    all_waves = idctn(np.eye(SIDE**2).reshape(SIDE, SIDE, SIDE, SIDE), axes=(2, 3), norm="ortho")
    sums = np.add.outer(np.arange(SIDE), np.arange(SIDE))
    return torch.from_numpy(all_waves[(sums >= low) & (sums < high)])
