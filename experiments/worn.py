"""Which LR images count as noisy or as JPEGs for prior=amortised: `python -m experiments.worn CSV --photos FOLDER`.

On the middles of photographs, made smaller by 1 to 3 and blurred by kernels of FKP: a row an image, level of noise, of which
nothing is told, and quality; JPEGs once whole, and once with a few rows and columns cut off, so that their grid may begin
anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from experiments.bench import measure
from experiments.middles import command, middles
from kernelsr import priors
from kernelsr.blocks import Blocks
from kernelsr.capture import jpeg
from kernelsr.colours import grey
from kernelsr.data import Scenario
from kernelsr.problem import Problem

LEVELS = (0, 2, 5, 10)  # 255ths
QUALITIES = (60, 80, 90, 95, 98)
CUT = 3, 5  # pixels more from image to image


def rows_of(photos: Path, side: int, scales: Sequence[int]) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        middles(photos, Path(folder), side)
        for scale in scales:
            for level in LEVELS:
                scenario = Scenario(folder, scale, rng="named", noise_std=level / 255, noise="fixed")
                for number, case in enumerate(tqdm(scenario, desc=f"x{scale}, noise {level}", mininterval=30)):
                    lr = case.load()[0].lr
                    jpegs = product(QUALITIES, (0, 1)) if level in (0, 10) else ()
                    for quality, cut in (("none", 1), *jpegs):
                        down, right = (cut * number * step % 8 for step in CUT)
                        seen = (lr if quality == "none" else jpeg(lr, quality))[..., down:, right:].contiguous()
                        found = priors.Amortised(Problem(seen, scale), torch.Generator())
                        place = {"image": case.name, "side": side, "scale": scale, "level": level}
                        place |= {"quality": quality, "cut": cut}
                        said = {"blockiness": Blocks(grey(seen)).blockiness, "noise": 255 * found.noise_std}
                        yield place | said | {"worn": int(found.worn)} | measure.made()


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How many images of each kind go to the network for noise and JPEG."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row in rows:
        groups[tuple(str(row[key]) for key in ("side", "scale", "level", "quality", "cut"))].append(int(row["worn"]))
    for (side, scale, level, quality, cut), found in groups.items():
        form = "cut" if int(cut) else "whole"
        yield f"{side} px x{scale}, noise {level}, quality {quality}, {form}: {sum(found)} of {len(found)}"


if __name__ == "__main__":
    command(__doc__, rows_of, summary, side=320, scales=(2, 3, 4, 8))
