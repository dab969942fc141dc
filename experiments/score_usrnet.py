"""How good USRNets are with the true kernels: `python -m experiments.score_usrnet TABLE.csv [--sets set5]`.

The FKP protocol's kernels and LR images, without noise; a row for each set, scale and network, and for aligned bicubic.
Rows are appended, and what the table has already is not computed again.
"""

from __future__ import annotations

import argparse
import csv
from functools import partial
from pathlib import Path

import torch

from kernelsr import metrics, official_usrnet
from kernelsr.data import Scenario
from kernelsr.files import write_table
from kernelsr.official import find_image_set
from kernelsr.restorers import Bicubic, Usrnet

COLUMNS = ["set", "scale", "restorer", "images", "psnr", "ssim"]


def mean_scores(images: str, scale: int, name: str) -> tuple[int, float, float]:
    """Number of images, mean PSNR and mean SSIM of a restorer (``bicubic``, or a USRNet's weights) on a set."""
    make = Bicubic if name == "bicubic" else partial(Usrnet, network=partial(official_usrnet.load, name))
    found = []
    for case in Scenario(find_image_set(images), scale):
        problem, truth = case.load()
        assert truth.hr is not None and truth.kernel is not None
        with torch.no_grad():
            image = make(problem, torch.Generator())(truth.kernel.to(problem.lr))
        found.append(metrics.score_image(image, truth.hr, metrics.Scoring(scale)))
    psnr, ssim = (sum(row[key] for row in found) / len(found) for key in ("psnr", "ssim"))
    return len(found), psnr, ssim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--sets", nargs="+", default=["set5", "bsd100"])
    parser.add_argument("--scales", nargs="+", type=int, default=[2, 3, 4])
    parser.add_argument("--weights", nargs="+", default=["bicubic", "bundled", "official"])
    wanted = parser.parse_args()
    done = set()
    if wanted.table.exists():
        with open(wanted.table, newline="") as file:
            done = {(row["set"], int(row["scale"]), row["restorer"]) for row in csv.DictReader(file)}
    for images in wanted.sets:
        for scale in wanted.scales:
            for name in wanted.weights:
                if (images, scale, name) in done:
                    continue
                row = [images, scale, name, *mean_scores(images, scale, name)]
                print(*row)
                write_table(wanted.table, [dict(zip(COLUMNS, row, strict=True))], append=True)


if __name__ == "__main__":
    main()
