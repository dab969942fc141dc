"""The README's pictures, from a run's folder: `python -m experiments.make_picture outputs/<date>/<time> picture.png`.

A row an image: LR, restored, true image, true kernel, estimated kernel. With --kernels the photographs are left out, for
sets whose licence does not allow to show them here.
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
    rows = [(run, row) for run in options.runs for row in read_rows(run / "rows.csv") if not row["error"]]
    names = ("true_kernel", "kernel") if options.kernels else (*PHOTOGRAPHS, "true_kernel", "kernel")
    figure, grid = plt.subplots(
        len(rows), len(names), figsize=(2.1 * len(names), 2.2 * len(rows)), squeeze=False, layout="constrained"
    )
    for line, (run, row) in zip(grid, rows, strict=True):
        folder = run / safe_name(row["image"])
        peak = max(np.load(folder / f"{name}.npy").max() for name in ("true_kernel", "kernel"))
        for axes, name in zip(line, names, strict=True):
            draw(axes, folder, name, row, peak)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=110)


if __name__ == "__main__":
    main()
