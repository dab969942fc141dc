"""Draw kernels of every family into one picture: `python -m experiments.show_families` (docs/images/families.png)."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch

from kernelsr import families
from kernelsr.problem import Problem

matplotlib.use("Agg")
OUT = Path("docs/images/families.png")
SHOWN: dict[str, tuple[families.KernelFamily, int]] = {
    "aniso": (families.AnisotropicGaussian(), 19),
    "aniso, noise 0.4": (families.AnisotropicGaussian(noise=0.4), 19),
    "iso8": (families.GaussianSet(), 19),
    "div2krk": (families.Div2krk(), 31),
    "disk": (families.Disk(), 19),
    "motion": (families.LinearMotion(), 19),
    "random_motion": (families.RandomMotion(), 19),
    "noisy, random_motion": (families.Noisy(families.RandomMotion()), 19),
}


def main(columns: int = 10, scale: int = 4) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(SHOWN), columns, figsize=(columns, 1.12 * len(SHOWN)))
    for row, (name, (family, size)) in zip(axes, SHOWN.items(), strict=True):
        problem = Problem(torch.zeros(1, 1, 64, 64), scale, size)
        drawn = family(columns, problem, torch.Generator().manual_seed(1))
        for place, kernel in zip(row, drawn[:, 0], strict=True):
            place.imshow(kernel, cmap="magma")
            place.set_axis_off()
        row[0].set_title(f"{name}, {size}x{size}", fontsize=8, loc="left")
    figure.tight_layout(pad=0.3)
    figure.savefig(OUT, dpi=80)


if __name__ == "__main__":
    main()
