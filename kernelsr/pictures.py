"""Arrays as pictures: 8-bit images, kernels and error maps in colour, curves as SVG; for people, never for metrics."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88, subsampling=0)
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


@dataclass(frozen=True)
class Curve:
    """A curve ready to draw in a box of WIDTH x HEIGHT units: SVG points, and ticks as (place, label)."""

    points: str
    end: tuple[float, float]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    level: float | None

    WIDTH = 320
    HEIGHT = 250
    LEFT, RIGHT, TOP, BOTTOM = 46, 16, 10, 30


def curve(
    steps: Sequence[float], values: Sequence[float | None], *, log: bool = False, level: float | None = None
) -> Curve | None:
    """Values over steps; what has no place on the axis (None, NaN, 0 on a log axis) is left out; None if that is all.

    ``level`` is a value to compare with, drawn as a horizontal line.
    """
    finite = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None and math.isfinite(v)]
    pairs = [(s, v) for s, v in finite if v > 0] if log else finite
    if not pairs:
        return None
    stride = math.ceil(len(pairs) / 240)
    pairs = [*pairs[:-1:stride], pairs[-1]]
    level = level if level is not None and math.isfinite(level) else None
    seen = [v for _, v in pairs] + ([] if level is None else [level])
    low, high = _span(min(seen), max(seen), log)
    first, last = min(s for s, _ in pairs), max(s for s, _ in pairs)
    last = last if last > first else first + 1

    def x(step: float) -> float:
        return Curve.LEFT + (step - first) / (last - first) * (Curve.WIDTH - Curve.LEFT - Curve.RIGHT)

    def y(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return Curve.HEIGHT - Curve.BOTTOM - share * (Curve.HEIGHT - Curve.TOP - Curve.BOTTOM)

    return Curve(
        points=" ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in pairs),
        end=(x(pairs[-1][0]), y(pairs[-1][1])),
        x_ticks=[(x(t), f"{t:g}") for t in _linear_ticks(first, last)],
        y_ticks=[(y(t), f"{t:.4g}") for t in (_log_ticks(low, high) if log else _linear_ticks(low, high))],
        level=None if level is None else y(level),
    )


def _span(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        margin = max((high / low) ** 0.06, 1.05)
        return low / margin, high * margin
    margin = max(0.06 * (high - low), 1e-3 * abs(high), 1e-9)
    return low - margin, high + margin


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    tick = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [float(f"{i * tick:.12g}") for i in range(math.ceil(low / tick), math.floor(high / tick) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for numbers in ((1, 2, 5), (1,)):
        ticks = [n * 10.0**p for p in powers for n in numbers if low <= n * 10.0**p <= high]
        if len(ticks) <= 6:
            break
    if len(ticks) < 2:
        return _linear_ticks(low, high)
    return ticks[:: math.ceil(len(ticks) / 6)]
