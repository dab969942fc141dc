"""The README's first picture: `python -m experiments.first_picture outputs/<run> ... PNG --image chelsea --names A B`.

One photograph: what is given, what each run makes of it with its kernel in the corner, and the truth; decibels and seconds
of the runs beneath. The seconds are those of the rows, so run on quiet cores.
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

from experiments.make_picture import restored_psnr
from kernelsr.results import Row, read_rows, safe_name


def panel(axes: Axes, picture: Path, kernel: Path | None, peak: float, above: str, below: str) -> None:
    """A photograph with a kernel in its corner and a line above and beneath."""
    axes.set_axis_off()
    axes.set_title(above, fontsize=10)
    axes.text(0.5, -0.02, below, transform=axes.transAxes, ha="center", va="top", fontsize=9)
    with Image.open(picture) as photograph:
        axes.imshow(np.asarray(photograph.convert("RGB")), interpolation="nearest")
    if kernel is not None:
        corner = axes.inset_axes((0.0, 0.0, 0.3, 0.3))
        corner.imshow(np.load(kernel), vmin=0, vmax=peak, cmap="viridis")
        corner.set_xticks([])
        corner.set_yticks([])


def said(row: Row) -> str:
    """Decibels and seconds of a row."""
    spent = float(row["seconds"])
    scores = f"image {restored_psnr(row):.2f} dB, kernel {float(row['kernel_psnr']):.1f} dB"
    return f"{scores}\n{spent:.{1 if spent < 10 else 0}f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="output folders")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--image", required=True)
    parser.add_argument("--names", nargs="+", required=True, help="of the runs, as they are to be read")
    options = parser.parse_args()
    folders = [run / safe_name(options.image) for run in options.runs]
    rows = [next(row for row in read_rows(run / "rows.csv") if row["image"] == options.image) for run in options.runs]
    peak = max(np.load(folder / name).max() for folder in folders for name in ("kernel.npy", "true_kernel.npy"))
    figure, grid = plt.subplots(1, len(rows) + 2, figsize=(2.7 * (len(rows) + 2), 3.5), layout="constrained")
    panel(grid[0], folders[0] / "lr.png", None, peak, f"given: the LR image, x{rows[0]['scale']}", "")
    for axes, folder, row, name in zip(grid[1:-1], folders, rows, options.names, strict=True):
        panel(axes, folder / "sr.png", folder / "kernel.npy", peak, name, said(row))
    panel(grid[-1], folders[0] / "hr.png", folders[0] / "true_kernel.npy", peak, "true image, true kernel", "")
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=110)


if __name__ == "__main__":
    main()
