"""What runs have left in their folders, read again; foreign and half-written folders are skipped with a sentence."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.tables.naming import data_of, method_of, noise_of, words_of
from kernelsr.images import read_image
from kernelsr.results import safe_name


@dataclass(frozen=True)
class Saved:
    """What a run has kept of one image: its row's words and numbers, the estimate and the truth, as far as they are known.

    ``sr`` is the image to look at, the non-blind one where there is one, and ``psnr`` and ``ssim`` are its row's.
    """

    run: str
    data: str
    method: str
    scale: int
    image: str
    seed: str
    psnr: float | None
    ssim: float | None
    kernel_psnr: float | None
    sr: Tensor | None
    hr: Tensor | None
    kernel: Tensor | None
    true_kernel: Tensor | None

    @property
    def what(self) -> tuple[object, ...]:
        """What tells estimates apart: the same one lies in several folders where a run was taken up again, or merged."""
        numbers = (self.psnr, self.ssim, self.kernel_psnr)
        return self.data, self.method, self.scale, self.image, self.seed, *map(str, numbers)  # as text: NaN is NaN


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """The folders with a rows.csv, given or below those given, each once.

    Raises:
        ValueError: one of them has none, or is no folder.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        runs = [path.parent for path in sorted(folder.rglob("rows.csv"))] if folder.is_dir() else []
        if not runs:
            why = "there is no rows.csv in it or below it" if folder.is_dir() else "there is no such folder"
            raise ValueError(f"{folder} is no folder of runs: {why}; give outputs/<date>/<time>")
        found |= dict.fromkeys(runs)
    return list(found)


def estimates(run: Path) -> Iterator[Saved]:
    """What a run's folder holds of each image; a sentence on stderr for each that has nothing to compare."""
    with open(run / "rows.csv", newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if not {"image", "scale", "method"} <= set(reader.fieldnames or ()):
        _skip(f"{run}: its rows.csv is not a run's, it has no columns image, scale and method")
        return
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values() or not row["scale"].isdecimal():
            _skip(f"{run}: row {number} of its rows.csv is damaged, as if cut off")
        elif row.get("error"):
            _skip(f"{run}, {row['image']}: it failed ({row['error']})")
        else:
            try:
                yield _saved(run, row)
            except (ValueError, OSError, EOFError) as error:
                _skip(f"{run}, {row['image']}: {' '.join(str(error).split())}")


def _saved(run: Path, row: dict[str, str]) -> Saved:
    """What one row's folder holds. Raises a ValueError where that is nothing to compare, or half written."""
    folder = run / safe_name(row["image"])
    sr, hr = (_picture(folder / name) for name in ("sr", "hr"))
    kernel, true_kernel = (_kernel(folder / f"{name}.npy") for name in ("kernel", "true_kernel"))
    if (sr is None or hr is None) and (kernel is None or true_kernel is None):
        raise ValueError("neither sr.png and hr.png nor kernel.npy and true_kernel.npy are there, nothing to compare")
    if sr is not None and hr is not None and sr.shape != hr.shape:
        raise ValueError(f"sr.png has {_size(sr)} and hr.png {_size(hr)}; one of them is of another run")
    # sr.png is the non-blind image where there is one.
    after = "_nonblind" if row.get("psnr_nonblind") else ""
    psnr, ssim, kernel_psnr = (_number(row.get(key)) for key in (f"psnr{after}", f"ssim{after}", "kernel_psnr"))
    data, method, scale, image = row.get("data") or "", row["method"], int(row["scale"]), row["image"]
    if row.get("command"):  # other settings make other data, and another method
        parts = words_of(row["command"])
        data, _ = data_of(data or parts.get("data", "demo"), parts)
        noise = zip(("kernel noise", "image noise"), noise_of(parts), strict=True)
        data, method = ", ".join([data, *(f"{of} {level}" for of, level in noise if level)]), method_of(method, parts)
    seed = row.get("seed") or ""
    return Saved(str(run), data, method, scale, image, seed, psnr, ssim, kernel_psnr, sr, hr, kernel, true_kernel)


def _picture(path: Path) -> Tensor | None:
    """An image of a run: its array where it has other than one or three channels, else its picture."""
    array, picture = path.with_suffix(".npy"), path.with_suffix(".png")
    if array.is_file():
        return torch.from_numpy(np.load(array, allow_pickle=False))[None]
    return read_image(picture) if picture.is_file() else None


def _kernel(path: Path) -> Tensor | None:
    if not path.is_file():
        return None
    kernel = np.load(path, allow_pickle=False)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"{path.name} has shape {kernel.shape}; a kernel is square and of odd size")
    return torch.from_numpy(kernel.astype(np.float64))[None, None]


def _number(cell: str | None) -> float | None:
    return float(cell) if cell else None


def _size(image: Tensor) -> str:
    return f"{image.shape[3]}x{image.shape[2]} pixels of {image.shape[1]} channels"


def _skip(why: str) -> None:
    print(f"skipped {why}", file=sys.stderr)
