"""Images of any number of channels as groups of three, for networks that know colour images only."""

from __future__ import annotations

import torch
from torch import Tensor


def in_threes(image: Tensor) -> Tensor:
    """The channels of an image (1, C, H, W) in threes, (ceil(C/3), 3, H, W); the last channel fills the last group."""
    return image[:, _filled(image.shape[1])].unflatten(1, (-1, 3))[0]


def from_threes(groups: Tensor, channels: int) -> Tensor:
    """The image (1, C, H, W) of groups (ceil(C/3), 3, H, W); where a channel was repeated, the mean of its copies."""
    flat = groups.flatten(0, 1)
    return torch.cat([flat[: channels - 1], flat[channels - 1 :].mean(0, keepdim=True)])[None]


def _filled(channels: int) -> list[int]:
    return [min(channel, channels - 1) for channel in range(-(-channels // 3) * 3)]
