"""The README's pictures, from runs' folders: `python -m experiments.make_picture outputs/<date>/<time> ... picture.png`.

A row an image: LR, restored by each run, true image; true kernel, estimated by each run. With --kernels the photographs
are left out, for sets whose licence does not allow to show them here.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from kernelsr.results import Row, read_rows, safe_name

PHOTOGRAPHS = ("lr", "sr", "hr")


def restored_psnr(row: Row) -> float:
    """Of the image that the run keeps: the non-blind one where it made one."""
    return float(row["psnr_nonblind"] if row.get("psnr_nonblind") not in (None, "") else row["psnr"])


def title(name: str, row: Row, method: str) -> str:
    """What stands above a picture of a row."""
    if name == "lr":
        return f"{row['image']}, LR (x{row['scale']})"
    if name == "sr":
        return f"{method}  {restored_psnr(row):.2f} dB"
    if name == "hr":
        return "true image"
    if name == "true_kernel":
        return "true kernel"
    off = row["variance_error"]
    variances = "" if off in (None, "") or math.isnan(off) else f"\nvariances off by {100 * off:.0f} %"
    return f"{method}  {row['kernel_psnr']:.1f} dB{variances}"


def draw(axes: Axes, folder: Path, name: str, row: Row, method: str, peak: float) -> None:
    """One picture: a photograph from its PNG, or a kernel on the row's colour scale."""
    axes.set_axis_off()
    axes.set_title(title(name, row, method), fontsize=9)
    if name in PHOTOGRAPHS:
        with Image.open(folder / f"{name}.png") as picture:
            axes.imshow(np.asarray(picture.convert("RGB")), interpolation="nearest")
    else:
        axes.imshow(np.load(folder / f"{name}.npy"), vmin=0, vmax=peak, cmap="viridis")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="output folders")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--names", nargs="+", help="of the runs, as they are to be read; their methods by default")
    parser.add_argument("--images", nargs="+", help="those to show; all by default")
    parser.add_argument("--kernels", action="store_true", help="leave the photographs out")
    options = parser.parse_args()
    runs = [
        (run, {row["image"]: row for row in read_rows(run / "rows.csv") if not row["error"]}) for run in options.runs
    ]
    if options.names and len(options.names) != len(runs):
        parser.error(f"there are {len(runs)} runs and {len(options.names)} names")
    names = dict(zip(options.runs, options.names or [], strict=False))
    images = [name for name in runs[0][1] if all(name in rows for _, rows in runs)]
    if unknown := set(options.images or []) - set(images):
        parser.error(f"not every run has {', '.join(sorted(unknown))}; there are {', '.join(images)}")
    images = options.images or images
    estimated = [(name, run, rows) for name in ("sr", "kernel") for run, rows in runs]
    known = [(name, *runs[0]) for name in ("lr", "hr", "true_kernel")]
    panels = [known[0], *estimated[: len(runs)], known[1]] if not options.kernels else []
    panels += [known[2], *estimated[len(runs) :]]
    size = (2.1 * len(panels), 2.3 * len(images))
    figure, grid = plt.subplots(len(images), len(panels), figsize=size, squeeze=False, layout="constrained")
    for line, image in zip(grid, images, strict=True):
        folder = safe_name(image)
        shown = [runs[0][0] / folder / "true_kernel.npy", *(run / folder / "kernel.npy" for run, _ in runs)]
        peak = max(np.load(path).max() for path in shown)
        for axes, (name, run, rows) in zip(line, panels, strict=True):
            draw(axes, run / folder, name, rows[image], names.get(run, rows[image]["method"]), peak)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=110)


if __name__ == "__main__":
    main()
