"""Colour: the brightness of an image, and images of any number of channels in threes, for networks of colour images."""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue: Y of full-range YCbCr, ITU-R BT.601, as JPEG and Pillow have it."""


def grey(image: Tensor) -> Tensor:
    """The brightness (n, 1, h, w) of colour images, in their own units; of any other number of channels the mean."""
    if image.shape[1] != 3:
        return image.mean(1, keepdim=True)
    return torch.einsum("c,nchw->nhw", image.new_tensor(LUMA), image)[:, None]


def in_threes(image: Tensor) -> Tensor:
    """The channels of an image (1, C, H, W) in threes, (ceil(C/3), 3, H, W); the last channel fills the last group."""
    return image[:, _filled(image.shape[1])].unflatten(1, (-1, 3))[0]


def from_threes(groups: Tensor, channels: int) -> Tensor:
    """The image (1, C, H, W) of groups (ceil(C/3), 3, H, W); where a channel was repeated, the mean of its copies."""
    flat = groups.flatten(0, 1)
    return torch.cat([flat[: channels - 1], flat[channels - 1 :].mean(0, keepdim=True)])[None]


def _filled(channels: int) -> list[int]:
    return [min(channel, channels - 1) for channel in range(-(-channels // 3) * 3)]
