"""What is heard of a camera's noise, and what that is worth: `python -m experiments.smoothed_noises CSV --photos FOLDER`.

As experiments.noises, but the noise is not white: smoothed by a Gaussian of 0.6 LR pixels, or of a colour
filter array of Bayer's pattern whose gaps were filled bilinearly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from experiments import camera_noise, noises
from experiments.bench import measure
from experiments.middles import command, middles
from kernelsr.capture import floor_to_8_bits
from kernelsr.data import Scenario
from kernelsr.seeds import generator

LEVELS = (2, 5)  # 255ths
KINDS: dict[str, Callable[[Tensor], Tensor]] = {"gaussian": camera_noise.gaussian, "bayer": camera_noise.bayer}


def rows_of(photos: Path, side: int, scales: Sequence[int]) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        middles(photos, Path(folder), side)
        for scale, kind, level in product(scales, KINDS, LEVELS):
            scenario = Scenario(folder, scale, rng="named", quantise=False)
            for case in tqdm(scenario, desc=f"x{scale}, {kind} {level}", mininterval=30):
                clean, truth = case.load()
                noise = KINDS[kind](torch.randn(clean.lr.shape, generator=generator(0, case.name)))
                lr = floor_to_8_bits(clean.lr + level / 255 * noise / noise.std())
                place = {"image": case.name, "side": side, "scale": scale, "kind": kind, "level": level}
                scores = noises.scored(case.name, replace(clean, lr=lr, noise_std=level / 255), truth)
                yield place | scores | measure.made()


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of each kind, scale and level: what is heard, and the gain of being told that, or the truth."""
    for kind in KINDS:
        for line in noises.summary([row for row in rows if row["kind"] == kind]):
            yield f"{kind}: {line}"


if __name__ == "__main__":
    command(__doc__, rows_of, summary, side=256, scales=(2, 4))
