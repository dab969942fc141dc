"""Arrays as pictures: 8-bit images, kernels and error maps in colour; for people, never for metrics."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

# Nine samples each of matplotlib's colour maps of these names (CC0): enough for the eye, and no matplotlib to import.
VIRIDIS = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")
INFERNO = ("000004", "1f0c48", "550f6d", "88226a", "ba3655", "e35933", "f98c0a", "f9c932", "fcffa4")


def as_8bit(image: np.ndarray) -> np.ndarray:
    """An image (C, H, W) in [0, 1] as 8 bits, rounded: (H, W) grey, or (H, W, 3) from the first three channels."""
    levels = np.rint(np.clip(np.nan_to_num(image.astype(np.float64)), 0, 1) * 255)
    if levels.shape[0] < 3:
        return np.rint(levels.mean(axis=0)).astype(np.uint8)
    return np.ascontiguousarray(levels[:3].transpose(1, 2, 0)).astype(np.uint8)


def colour(values: np.ndarray, peak: float, colours: Sequence[str]) -> np.ndarray:
    """Values (H, W) in colour, (H, W, 3) uint8: 0 and below is the first colour, ``peak`` and above the last."""
    table = np.array([[int(name[i : i + 2], 16) for i in (0, 2, 4)] for name in colours], dtype=np.float64)
    share = np.clip(np.nan_to_num(values / peak), 0, 1) if peak > 0 else np.zeros_like(values)
    places = np.linspace(0, 1, len(colours))
    return np.rint(np.stack([np.interp(share, places, table[:, c]) for c in range(3)], axis=-1)).astype(np.uint8)


def enlarge(picture: np.ndarray, *, at_least: int) -> np.ndarray:
    """Repeat pixels a whole number of times until the shorter side has ``at_least`` pixels."""
    factor = max(1, math.ceil(at_least / min(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def png(picture: np.ndarray) -> bytes:
    """A picture, (H, W) or (H, W, 3) uint8, as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def jpeg(picture: np.ndarray) -> bytes:
    """The same as a JPEG file of good quality, colours at full resolution: for pages of many images."""
    return _jpeg(picture, quality=88, subsampling=0)


def small_jpeg(picture: np.ndarray) -> bytes:
    """The same at half the bytes, colours at half the resolution: for pages of hundreds of pictures."""
    return _jpeg(picture, quality=78, subsampling=2)


def _jpeg(picture: np.ndarray, *, quality: int, subsampling: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.getvalue()


def data_uri(data: bytes) -> str:
    """The bytes of a PNG or JPEG file as an address that needs no file."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def centre_window(lr_size: tuple[int, int], scale: int, limit: int) -> tuple[slice, slice]:
    """The middle of an LR image, at most ``limit`` pixels a side once enlarged by ``scale``: (rows, columns)."""
    side = max(1, limit // scale)
    starts = [max(0, (size - side) // 2) for size in lr_size]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def pad_centred(kernel: np.ndarray, size: int) -> np.ndarray:
    """A kernel (K, K) in the middle of zeros, (size, size)."""
    before = [(size - side) // 2 for side in kernel.shape]
    return np.pad(kernel, [(b, size - side - b) for b, side in zip(before, kernel.shape, strict=True)])


def load_picture(path: Path) -> np.ndarray | None:
    """A picture, (H, W) or (H, W, 3) uint8; None where the file is missing or damaged."""
    try:
        with Image.open(path) as image:
            return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError):  # Pillow's words for a PNG that ends too early or breaks off inside
        return None


def load_kernel(path: Path) -> np.ndarray | None:
    """A kernel, (K, K); None where the file is missing, damaged or holds something else."""
    try:
        kernel = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = isinstance(kernel, np.ndarray) and kernel.ndim == 2 and kernel.size and kernel.dtype.kind == "f"
    return kernel if whole else None
