"""The files of one image as the pictures of a page: LR, SR, HR, error map and kernels, each with its caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernelsr import pictures
from kernelsr.pictures import INFERNO, VIRIDIS

ERROR_PEAK = 32  # of 255; where the error map's colours end
CRISP = 256  # pixels a side up to which an image is shown with its pixels

Encoder = Callable[[np.ndarray], bytes]


@dataclass(frozen=True)
class Figure:
    """A picture of a page: what it shows, a note, its address, its size, and whether its pixels are to be seen."""

    name: str
    note: str
    uri: str
    width: int
    height: int
    crisp: bool
    error: bool = False


def image_figures(
    place: Path, limit: int, encode: Encoder, wanted: Sequence[str] = ("lr", "sr", "hr", "error")
) -> dict[str, Figure]:
    """LR, SR, HR and error map of an image's folder, cropped alike to the middle where they are large.

    A file that is missing or damaged leaves out what needs it.

    Args:
        limit: pixels a side from which on SR and HR are cropped.
        encode: makes a file of SR, HR and error map; LR stays lossless.
    """
    lr, sr, hr = (pictures.load_picture(place / f"{name}.png") for name in ("lr", "sr", "hr"))
    full = sr if sr is not None else hr if hr is not None else lr
    if lr is None or full is None:
        return {}
    scale = max(1, full.shape[0] // lr.shape[0])
    window = pictures.centre_window((lr.shape[0], lr.shape[1]), scale, limit)
    wide = tuple(slice(part.start * scale, part.stop * scale) for part in window)
    height, width = full[wide].shape[:2]
    crisp = max(height, width) <= CRISP
    note = f"centre {width} × {height} of " if (height, width) != full.shape[:2] else ""
    size = f"{note}{full.shape[1]} × {full.shape[0]} px"

    def figure(name: str, text: str, data: bytes, *, pixels: bool = crisp, error: bool = False) -> Figure:
        return Figure(name, text, pictures.data_uri(data), width, height, pixels, error)

    figures = {}
    if "lr" in wanted:
        # a small picture stays lossless: JPEG would smear the very pixels that are shown enlarged
        text = f"{note and 'centre of '}{lr.shape[1]} × {lr.shape[0]} px, enlarged"
        figures["lr"] = figure("LR", text, pictures.png(lr[window]), pixels=True)
    if "sr" in wanted and sr is not None:
        figures["sr"] = figure("SR, estimated", size, encode(sr[wide]))
    if "hr" in wanted and hr is not None and hr.shape[:2] == full.shape[:2]:
        figures["hr"] = figure("HR, true", size, encode(hr[wide]))
    if "error" in wanted and sr is not None and hr is not None and hr.shape == sr.shape:
        # 8-bit images differ by whole levels; uint8 would wrap around
        error = np.abs(sr[wide].astype(np.float64) - hr[wide].astype(np.float64))
        error = error.mean(axis=2) if error.ndim == 3 else error
        text = f"mean {error.mean():.1f} of 255{note and ' in this crop'}"
        figures["error"] = figure(
            "Error |SR − HR|", text, encode(pictures.colour(error, ERROR_PEAK, INFERNO)), error=True
        )
    return figures


def kernel_figure(name: str, kernel: np.ndarray, size: int, peak: float) -> Figure:
    """A kernel in the middle of a square of ``size`` pixels, its colours from 0 to ``peak``."""
    picture = pictures.png(pictures.colour(pictures.pad_centred(kernel, size), peak, VIRIDIS))
    note = f"{kernel.shape[1]} × {kernel.shape[0]}, peak {float(kernel.max()):.4f}"
    return Figure(name, note, pictures.data_uri(picture), size, size, True)
