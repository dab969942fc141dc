"""Noise that is heard in an image: white noise, and a camera's, which demosaicing has smoothed."""

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
EVEN = 1.2
"""How much louder the waves of the middle are in the quietest three tenths than in the quietest tenth, at most, where it is
noise, which is everywhere alike as details are not."""
MIDDLE, OTHERS = (6, 8), {(4, 6): 21, (8, 11): 18, (11, 15): 10}
"""Waves in which smoothed noise is heard, and how many of the 64 are as loud as others: all the coarser ones, where details
would drown it, as (4, 6)."""
FEW = 16
"""Blocks without clipped pixels, from which on the others are left out."""


def heard(image: Tensor) -> float:
    """The standard deviation of noise in each channel of an image (1, C, h, w) in [0, 1]; 0 where none is heard.

    The channels of a photograph have their details in common, those of noise nothing: what is left of the finest details
    in the differences of colours, where the image is quietest, is noise if it is white, or if it is as loud everywhere.
    Other images than those of three colours are listened to channel by channel, for white noise only; the quietest says how
    loud it is.
    """
    if min(image.shape[-2:]) < 2 * SIDE:
        return 0.0
    clipped = ((image <= 0) | (image >= 1)).any(1, keepdim=True).to(image)
    whole = conv2d(clipped, torch.ones(1, 1, SIDE, SIDE).to(image), stride=STRIDE).flatten() == 0
    whole = whole if whole.sum() >= FEW else torch.ones_like(whole)
    parts = _differences(image.detach()).transpose(0, 1)
    finest, fine = (_quietest(parts, waves(*band), whole) for band in (FINEST, FINE))
    white = math.sqrt(finest.min().item())
    if white > LEAST and (fine < FLAT**2 * finest)[finest <= NEAR**2 * finest.min()].any():
        return white
    colours = image.shape[1] == 3 and len(parts) == 2
    return _smoothed(parts, whole) if colours else 0.0


def _smoothed(parts: Tensor, whole: Tensor) -> float:
    """The standard deviation of smoothed noise, the mean over both differences (2, 1, h, w) of colours; or 0."""
    middle, more = (_quietest(parts, waves(*MIDDLE), whole, share) for share in (QUIETEST, 3 * QUIETEST))
    if middle.min() < LEAST**2 or (more > EVEN**2 * middle).any():
        return 0.0
    total = (SIDE**2 - sum(OTHERS.values())) * middle
    for band, count in OTHERS.items():
        total = total + count * _quietest(parts, waves(*band), whole)
    return math.sqrt(total.mean().item()) / SIDE


def _differences(image: Tensor) -> Tensor:
    """What is listened to: two differences of three colours, each with the noise of one; all channels of another image."""
    if image.shape[1] != 3:
        return image
    weights = image.new_tensor([[1, 0, -1], [1, -2, 1]]) / image.new_tensor([[2.0], [6.0]]).sqrt()
    differences = torch.einsum("dc,nchw->ndhw", weights, image)
    return differences if differences.abs().max() > 1e-6 else image[:, :1]  # grey, in three equal channels


def _quietest(parts: Tensor, waves: Tensor, whole: Tensor, share: float = QUIETEST) -> Tensor:
    """The variance (C,) of the white noise that would have as much power in ``waves`` (n, 8, 8) as the quietest ``share`` of
    the ``whole`` blocks of each part (C, 1, h, w) has."""
    power = conv2d(parts, waves[:, None].to(parts), stride=STRIDE).square().sum(1).flatten(1)[:, whole]
    lowest = power.kthvalue(1 + int(share * (power.shape[1] - 1)), dim=1).values
    return lowest / (2 * gammaincinv(len(waves) / 2, share))  # of chi squared with n degrees of freedom


def waves(low: int, high: int) -> Tensor:
    """The waves (n, 8, 8) of the orthonormal cosine transform with low <= i + j < high."""
    all_waves = idctn(np.eye(SIDE**2).reshape(SIDE, SIDE, SIDE, SIDE), axes=(2, 3), norm="ortho")
    sums = np.add.outer(np.arange(SIDE), np.arange(SIDE))
    return torch.from_numpy(all_waves[(sums >= low) & (sums < high)])
