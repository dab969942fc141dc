"""The spectra of photographs, as prior=spectral knows them: `python -m experiments.measure_spectra FOLDER [OUT.csv]`.

One row a photograph, shrunk to 480 pixels so that the camera's own blur is gone, and last the mean and the spread of all.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kernelsr.files import write_table
from kernelsr.images import image_files
from kernelsr.problem import EIGHT_BITS
from kernelsr.whittle import PHOTOGRAPHS, Whittle

LONG_SIDE, WINDOW = 480, 128


def spectrum(path: Path) -> dict[str, float]:
    """The unknowns of a sharp photograph's spectrum, almost nothing known of them beforehand."""
    image = Image.open(path).convert("RGB")
    share = min(1, LONG_SIDE / max(image.size))
    image = image.resize((round(share * image.width), round(share * image.height)), Image.Resampling.BICUBIC)
    grey = torch.tensor(np.asarray(image), dtype=torch.float64).mean(2) / 255
    anything = {name: (mean, 3 * spread) for name, (mean, spread) in PHOTOGRAPHS.items()}
    # A point of a kernel: the photograph itself is what is looked at.
    point = {"size": (-20.0, 1e-6), "stretch": (0.0, 1e-6), "skew": (0.0, 1e-6)}
    noise = {"noise": (2 * math.log(EIGHT_BITS), 1e-6)}
    model = Whittle(grey, 1, WINDOW, anything | point | noise)
    # An LR image shows waves of four pixels and longer; the shortest of a shrunk photograph are what shrinking left.
    near = model.features[:, 0, 1] < math.log(10 / 4)
    model.power, model.features = model.power[near], model.features[near]
    found = model.fit(grey.numel())
    return dict(zip(PHOTOGRAPHS, found.tolist(), strict=False))


def main() -> None:
    rows = [{"image": path.stem, **spectrum(path)} for path in image_files(sys.argv[1])]
    values = np.array([[row[name] for name in PHOTOGRAPHS] for row in rows])
    for label, numbers in (("mean", values.mean(0)), ("spread", values.std(0))):
        rows.append({"image": label, **dict(zip(PHOTOGRAPHS, numbers.round(3).tolist(), strict=True))})
        print(rows[-1])
    if len(sys.argv) > 2:
        write_table(sys.argv[2], rows)


if __name__ == "__main__":
    main()
