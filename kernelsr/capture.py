"""What becomes of an LR image after kernel and noise: 8 bits, JPEG by Pillow's codec, the central window."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def floor_to_8_bits(image: Tensor) -> Tensor:
    """An image clipped to [0, 1] and *floored* to multiples of 1/255, as the papers' LR images were saved."""
    return (image.clamp(0, 1) * 255).floor() / 255


def central_window(lr: Tensor, hr: Tensor, side: int, scale: int) -> tuple[Tensor, Tensor]:
    """The central square of the LR image, ``side`` HR pixels wide, and what of the HR image lies under it."""
    half = side // 2 // scale
    for dim in (2, 3):
        middle = lr.shape[dim] // 2
        first, last = max(middle - half, 0), min(middle + half, lr.shape[dim])
        lr, hr = lr.narrow(dim, first, last - first), hr.narrow(dim, first * scale, (last - first) * scale)
    return lr.contiguous(), hr.contiguous()


def qualities(setting: int | tuple[int, int]) -> tuple[int, int]:
    """The least and the greatest JPEG quality, of a setting that is one number or a range (low, high)."""
    pair = tuple(setting) if isinstance(setting, Sequence) else (setting, setting)
    if len(pair) != 2 or any(type(quality) is not int for quality in pair) or not 1 <= pair[0] <= pair[1] <= 100:
        raise ValueError(f"jpeg is {setting!r}; give a quality from 1 to 100, or an ascending range (low, high)")
    return pair[0], pair[1]


def jpeg(image: Tensor, quality: int, subsampling: str = "4:2:0") -> Tensor:
    """An image (1, C, H, W) in [0, 1] after JPEG compression: rounded to 8 bits, chroma at half the resolution.

    Grey images, and each channel of what is neither grey nor RGB, are compressed without chroma.

    Args:
        quality: 1 to 100, as libjpeg counts.
        subsampling: of the chroma, ``4:2:0``, ``4:2:2`` or ``4:4:4``.
    """
    qualities(quality)
    levels = (image[0].detach().cpu().clamp(0, 1) * 255).round().byte().numpy()
    pictures = [levels.transpose(1, 2, 0)] if len(levels) == 3 else list(levels)
    packed = [_through(picture, quality, subsampling) for picture in pictures]
    stacked = packed[0].transpose(2, 0, 1) if len(levels) == 3 else np.stack(packed)
    return torch.from_numpy(stacked.copy()).to(image)[None] / 255


def _through(levels: np.ndarray, quality: int, subsampling: str) -> np.ndarray:
    buffer = BytesIO()
    Image.fromarray(levels).save(buffer, format="JPEG", quality=quality, subsampling=subsampling)
    with Image.open(buffer) as picture:
        return np.asarray(picture)
