"""What restorers make of a known kernel: `python -m experiments.nonblind_table RESULT.csv [--nonblind wiener srmd ...]`.

A row for each image, restorer and kernel. Rows are appended, and what the table has already is not computed again. The
kernels are the true one; the mean kernel, which never looks; the true one transposed, which is wrong in its angle alone.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import date
from itertools import product
from pathlib import Path

from torch import Tensor

from kernelsr import metrics
from kernelsr.cli import version
from kernelsr.configure import compose_config, restore, scenario_of
from kernelsr.families import mean_kernel
from kernelsr.files import write_table
from kernelsr.problem import Problem

KERNELS: dict[str, Callable[[Problem, Tensor], Tensor]] = {
    "true": lambda problem, kernel: kernel,
    "mean": lambda problem, kernel: mean_kernel(problem),
    "transposed": lambda problem, kernel: kernel.mT,
}
BLIND = ("bicubic", "realesrgan")
"""Restorers that ask for no kernel: one row each."""
KEYS = ("data", "scale", "image", "nonblind", "kernel", "settings")
COLUMNS = (*KEYS, "psnr", "ssim", "seconds", "version", "date")


def rows(data: str, scale: int, nonblind: str, kernel: str, settings: list[str], done: set) -> Iterator[dict]:
    """A row for each image of a scenario that is not done yet."""
    cfg = compose_config([f"data={data}", f"scale={scale}", f"nonblind={nonblind}", *settings])
    for case in scenario_of(cfg):
        names = dict(zip(KEYS, (data, scale, case.name, nonblind, kernel, " ".join(settings)), strict=True))
        if tuple(map(str, names.values())) in done:
            continue
        problem, truth = case.load()
        assert truth.hr is not None and truth.kernel is not None
        since = time.perf_counter()
        image = restore(cfg, problem, KERNELS.get(kernel, KERNELS["true"])(problem, truth.kernel), case.name)
        assert image is not None
        seconds = round(time.perf_counter() - since, 2)
        scores = metrics.score_image(image.cpu(), truth.hr, metrics.Scoring(scale))
        yield names | scores | {"seconds": seconds, "version": version(), "date": date.today().isoformat()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--data", nargs="+", default=["set5_aniso"])
    parser.add_argument("--scales", nargs="+", type=int, default=[2, 3, 4])
    parser.add_argument("--nonblind", nargs="+", default=["bicubic", "wiener", "usrnet"])
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=["true", "mean"])
    parser.add_argument("--settings", nargs="+", default=[], help="further settings as of run.py: data.noise_std=0.04")
    wanted = parser.parse_args()
    done = set()
    if wanted.result.exists():
        with open(wanted.result, newline="") as file:
            done = {tuple(row[key] for key in KEYS) for row in csv.DictReader(file)}
    for data, scale, nonblind in product(wanted.data, wanted.scales, wanted.nonblind):
        for kernel in ["none"] if nonblind in BLIND else wanted.kernels:
            found = []
            for row in rows(data, scale, nonblind, kernel, wanted.settings, done):
                found.append(row)
                write_table(wanted.result, [row], append=True)
            if found:
                psnr, ssim = (statistics.mean(row[key] for row in found) for key in ("psnr", "ssim"))
                print(f"{data} x{scale} {nonblind}, {kernel} kernel: {psnr:.2f} dB, {ssim:.3f}, {len(found)} images")


if __name__ == "__main__":
    main()
