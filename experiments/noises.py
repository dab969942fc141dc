"""What is heard of noise that nothing is told of, and what that is worth: `python -m experiments.noises CSV --photos FOLDER`.

On the middles of photographs, made smaller by 1 to 3 and blurred by kernels of FKP: a row an image and level, with what is
heard, and the PSNR of prior=amortised's kernel, of USRNet's image with it and of that with the true kernel, where the
problem is told nothing, what is heard, and the truth.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from experiments.bench import measure
from experiments.middles import command, middles
from kernelsr import metrics, priors
from kernelsr.capture import floor_to_8_bits
from kernelsr.colours import grey
from kernelsr.configure import compose_config, restore
from kernelsr.data import Scenario
from kernelsr.noise import heard
from kernelsr.problem import Problem, Truth
from kernelsr.statistics import paired_difference

LEVELS = (0, 2, 5, 10)  # 255ths
TOLD = ("nothing", "heard", "truth")
SCORES = {"kernel": "kernel", "image": "image", "true": "image with the true kernel"}


def rows_of(photos: Path, side: int, scales: Sequence[int]) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        middles(photos, Path(folder), side)
        for scale in scales:
            for level in LEVELS:
                scenario = Scenario(folder, scale, rng="named", noise_std=level / 255, noise="fixed")
                for case in tqdm(scenario, desc=f"x{scale}, {level}/255", mininterval=30):
                    place = {"image": case.name, "side": side, "scale": scale, "level": level}
                    yield place | scored(case.name, *case.load()) | measure.made()


def scored(name: str, problem: Problem, truth: Truth) -> dict[str, float]:
    told = {"nothing": 0.0, "heard": heard(problem.lr), "truth": problem.noise_std}
    scores = {
        noise_std: of_told(replace(problem, noise_std=noise_std), truth, name) for noise_std in set(told.values())
    }
    row = {f"{score}_{words}": scores[noise_std][score] for words, noise_std in told.items() for score in SCORES}
    alone = heard(floor_to_8_bits(grey(problem.lr)))
    return {"heard": 255 * told["heard"], "heard_in_grey": 255 * alone} | row


def of_told(problem: Problem, truth: Truth, name: str) -> dict[str, float]:
    assert truth.kernel is not None and truth.hr is not None
    kernel = priors.Amortised(problem, torch.Generator())()
    found = {"kernel": metrics.kernel_psnr(kernel.double(), truth.kernel)}
    for score, used in (("image", kernel), ("true", truth.kernel)):
        image = restore(compose_config(["nonblind=usrnet"]), problem, used, name)
        assert image is not None
        found[score] = metrics.score_image(image, truth.hr, metrics.Scoring(problem.scale))["psnr"]
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of each scale and level: what is heard, and the gain of being told that, or the truth."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[str(row["scale"]), str(row["level"])].append(row)
    for (scale, level), group in groups.items():
        levels = [float(row["heard"]) for row in group]
        line = f"x{scale}, {level}/255: heard in {sum(value > 0 for value in levels)} of {len(group)}, in the median "
        line += (
            f"{statistics.median(levels):.2f}/255, in grey in {sum(float(row['heard_in_grey']) > 0 for row in group)}"
        )
        for name, words in SCORES.items():
            for told in TOLD[1:]:
                found = paired_difference(column(group, f"{name}_{told}"), column(group, f"{name}_nothing"))
                line += f"; {words}, told {told}, {found} dB"
        yield line


def column(rows: Sequence[Mapping[str, Any]], name: str) -> dict[tuple[str, int | None], float]:
    return {(str(row["image"]), None): float(row[name]) for row in rows}


if __name__ == "__main__":
    command(__doc__, rows_of, summary, side=256, scales=(2, 3, 4))
