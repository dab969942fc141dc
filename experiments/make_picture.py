"""The README's pictures, from runs' folders: `python -m experiments.make_picture outputs/<date>/<time> ... picture.png`.

A row an image: LR, restored by each run, true image; true kernel, estimated by each run. With --kernels the photographs
are left out, for sets whose licence does not allow to show them here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from kernelsr.results import Row, read_rows, safe_name

PHOTOGRAPHS = ("lr", "sr", "hr")


def title(name: str, row: Row) -> str:
    """What stands above a picture of a row."""
    if name == "lr":
        return f"{row['image']}, LR (x{row['scale']})"
    if name == "sr":
        return f"{row['method']}  {row['psnr']:.2f} dB"
    if name == "hr":
        return "true image"
    if name == "true_kernel":
        return "true kernel"
    return f"{row['method']}  {row['kernel_psnr']:.1f} dB\nvariances off by {100 * row['variance_error']:.0f} %"


def draw(axes: Axes, folder: Path, name: str, row: Row, peak: float) -> None:
    """One picture: a photograph from its PNG, or a kernel on the row's colour scale."""
    axes.set_axis_off()
    axes.set_title(title(name, row), fontsize=9)
    if name in PHOTOGRAPHS:
        with Image.open(folder / f"{name}.png") as picture:
            axes.imshow(np.asarray(picture.convert("RGB")), interpolation="nearest")
    else:
        axes.imshow(np.load(folder / f"{name}.npy"), vmin=0, vmax=peak, cmap="viridis")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="output folders")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--kernels", action="store_true", help="leave the photographs out")
    options = parser.parse_args()
    runs = [
        (run, {row["image"]: row for row in read_rows(run / "rows.csv") if not row["error"]}) for run in options.runs
    ]
    images = [name for name in runs[0][1] if all(name in rows for _, rows in runs)]
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
            draw(axes, run / folder, name, rows[image], peak)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=110)


if __name__ == "__main__":
    main()
