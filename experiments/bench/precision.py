"""What bfloat16 does to the result: `python -m experiments.bench.precision CSV`, a row an image, seed and way.

The middles of the bundled photographs, x2, `prior=fkp` and the reduced hourglass. A deep image prior is chaotic, so another
number of threads, which changes nothing but rounding, says how far two runs of the same may be apart. The last lines are the
paired differences with their 95 % intervals. Rows that the file has are not computed again.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from experiments.bench import measure
from kernelsr import metrics, priors, restorers, solvers
from kernelsr.data import Scenario
from kernelsr.files import read_table
from kernelsr.memory import keep_freed_memory
from kernelsr.official import find_image_set
from kernelsr.problem import Problem, Truth
from kernelsr.seeds import generator

WAYS: dict[str, tuple[int, dict[str, str]]] = {
    "float32": (2, {}),
    "float32, other threads": (1, {}),
    "bf16": (2, {"precision": "bf16"}),
}
SEEDS, STEPS, SIDE = (0, 1, 2), 200, 128
SCORES = ("kernel_psnr", "psnr")


def scores(problem: Problem, truth: Truth, rng: torch.Generator, settings: dict[str, Any]) -> dict[str, float]:
    """PSNR of the kernel and of the loop's image after the reduced schedule."""
    prior, restorer = priors.Flow(problem, rng), restorers.Dip(problem, rng, channels=32, skip=4, **settings)
    estimate = solvers.joint(problem, prior, restorer, steps=STEPS)
    assert estimate.image is not None and truth.hr is not None and truth.kernel is not None
    image = metrics.psnr(estimate.image, truth.hr, border=problem.scale)
    return {"kernel_psnr": metrics.kernel_psnr(estimate.kernel, truth.kernel), "psnr": image}


def difference(rows: list[dict[str, str]], way: str, score: str) -> str:
    """The mean of way - float32 over images and seeds, with its interval."""
    values = {(row["image"], row["seed"], row["way"]): float(row[score]) for row in rows}
    pairs = [value - values[image, seed, "float32"] for (image, seed, own), value in values.items() if own == way]
    reach = float(stats.t.ppf(0.975, len(pairs) - 1)) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    middle = statistics.mean(pairs)
    spread = f"{middle:+.2f} dB [{middle - reach:+.2f}, {middle + reach:+.2f}], SD {statistics.stdev(pairs):.2f}"
    return f"{way:24} {score:12} {spread}, n = {len(pairs)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path, help="of rows; what it has is not computed again")
    path = parser.parse_args().csv
    keep_freed_memory()
    for case in Scenario(find_image_set("demo"), scale=2, rng="named", window=SIDE):
        for seed in SEEDS:
            for way, (threads, settings) in WAYS.items():
                row = {"image": case.name, "seed": seed, "way": way}
                if any(all(old[key] == str(value) for key, value in row.items()) for old in read_table(path)):
                    continue
                torch.set_num_threads(threads)
                found = scores(*case.load(), generator(seed, case.name), settings)
                measure.keep(path, [row | {name: round(value, 3) for name, value in found.items()}])
    for way in list(WAYS)[1:]:
        for score in SCORES:
            print(difference(read_table(path), way, score))


if __name__ == "__main__":
    main()
