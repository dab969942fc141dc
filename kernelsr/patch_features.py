"""What a network sees in grey LR patches that may tell of their blur."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kernelsr.problem import EIGHT_BITS

FLAT = 1e-3
"""What is added to the standard deviation of a patch, so that a flat one is not divided by zero."""
SMALLEST = 8
"""The side of a patch, LR pixels, below which nothing is to be seen."""
BINS = 16
"""Of the rows' frequencies; half as many and one of the columns'."""


def local_contrast(patches: Tensor) -> Tensor:
    """Patches (n, 1, h, w) less their mean over 7 x 7 pixels, in units of the deviation from it: weak edges like strong."""

    def mean(image: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(image, (3, 3, 3, 3), mode="reflect"), 7, 1)

    rest = patches - mean(patches)
    return rest / (mean(rest.square()).sqrt() + 10 * FLAT)


def spectrum(patches: Tensor) -> Tensor:
    """Logarithm of the power of patches (n, 1, h, w) in bins of frequency, half a plane of them."""
    down, across = (torch.hann_window(side, periodic=False, device=patches.device) for side in patches.shape[-2:])
    power = torch.fft.rfft2(patches * down[:, None] * across).abs().square() / (down.sum() * across.sum())
    power = torch.fft.fftshift(power, 2)
    return (F.adaptive_avg_pool2d(power, (BINS, BINS // 2 + 1)) + 1e-4).log().flatten(1) / 3


def seen(patches: Tensor) -> Tensor:
    """How much (n,) of patches (n, C, h, w) is not rounding to 8 bits."""
    power = patches.var((1, 2, 3), correction=0)
    return power / (power + EIGHT_BITS**2)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class PatchFeatures(nn.Module):
    """Convolutions at three resolutions, then attention and mean pooling; the patch's spectrum, contrast and size besides.

    A patch counts relative to its mean and contrast, since both say nothing of the blur; the contrast is given besides, as
    noise is relative to it.

    Args:
        widths: channels at full, half and quarter resolution.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.widths = tuple(widths)
        first, second, third = widths
        self.layers = nn.Sequential(
            _block(3, first),
            _block(first, first),
            _block(first, second, 2),
            _block(second, second),
            _block(second, second),
            _block(second, third, 2),
            _block(third, third),
            _block(third, third),
        )
        self.attention = nn.Conv2d(third, 1, 1)
        self.outputs = 2 * third + 3 + BINS * (BINS // 2 + 1)

    def folded(self) -> Self:
        """The same network with its batch norms within the convolutions before them, for use and not for training."""
        folded, looks = copy.deepcopy(self), []
        for block in self.layers:
            convolution, norm, rectifier = block.children()
            assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            looks.append(nn.Sequential(fuse_conv_bn_eval(convolution, norm), rectifier))
        # Weights that lie as the images do are not brought there anew at every look.
        folded.layers = nn.Sequential(*looks).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return folded

    def look(self, patches: Tensor, scale: Tensor) -> Tensor:
        """The features (n, outputs) of patches (n, 1, h, w) in [0, 1] at scales (n,)."""
        mean = patches.mean((2, 3), keepdim=True)
        contrast = (patches - mean).square().mean((2, 3), keepdim=True).sqrt() + FLAT
        size = scale.to(patches).log2()[:, None, None, None] - 1.5
        whole = (patches - mean) / contrast
        looks = torch.cat([whole, local_contrast(patches), size.expand_as(patches)], 1)
        maps = self.layers(looks.contiguous(memory_format=torch.channels_last))
        weight = self.attention(maps).float().flatten(2).softmax(2)
        maps = maps.float().flatten(2)
        pooled = torch.cat([maps.mean(2), (maps * weight).sum(2)], 1)
        area = torch.full_like(size, math.log2(patches.shape[-2] * patches.shape[-1]) - 12)
        facts = torch.cat([size, contrast.log() + 2, area], 1).flatten(1).float()
        return torch.cat([pooled, facts, spectrum(whole.float())], 1)
