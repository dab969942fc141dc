"""What is heard of a camera's noise, and what that is worth: `python -m experiments.smoothed_noises CSV --photos FOLDER`.

As experiments.noises, but the noise is not white: smoothed by a Gaussian, or of a colour filter array of Bayer's pattern
whose gaps were filled bilinearly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad
from tqdm import tqdm

from experiments import noises
from experiments.bench import measure
from experiments.middles import command, middles
from kernelsr.capture import floor_to_8_bits
from kernelsr.data import Scenario
from kernelsr.seeds import generator

LEVELS = (2, 5)  # 255ths
WIDTH = 0.6  # of the Gaussian, LR pixels


def gaussian(noise: Tensor) -> Tensor:
    """White noise (1, 3, h, w), smoothed."""
    along = torch.exp(-((torch.arange(-3, 4) / WIDTH) ** 2) / 2)
    return _filtered(noise, (along[:, None] * along).expand(3, 1, 7, 7))


def bayer(noise: Tensor) -> Tensor:
    """White noise (1, 3, h, w) at the pixels of Bayer's pattern, and bilinear means of the nearest of them elsewhere."""
    green = (torch.arange(noise.shape[2])[:, None] + torch.arange(noise.shape[3])) % 2 == 1
    rows = torch.arange(noise.shape[2])[:, None] % 2 == 0
    pattern = torch.stack([~green & rows, green, ~green & ~rows]).to(noise)
    across = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    corners = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    return _filtered(noise * pattern, torch.stack([corners, across, corners])[:, None])


def _filtered(noise: Tensor, filters: Tensor) -> Tensor:
    margin = filters.shape[-1] // 2
    return conv2d(pad(noise, (margin,) * 4, mode="circular"), filters, groups=3)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {"gaussian": gaussian, "bayer": bayer}


def rows_of(photos: Path, side: int, scales: Sequence[int]) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        middles(photos, Path(folder), side)
        for scale in scales:
            for kind, smooth in KINDS.items():
                for level in LEVELS:
                    for case in tqdm(
                        Scenario(folder, scale, rng="named", quantise=False),
                        desc=f"x{scale}, {kind} {level}",
                        mininterval=30,
                    ):
                        clean, truth = case.load()
                        noise = smooth(torch.randn(clean.lr.shape, generator=generator(0, case.name)))
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
