"""Random patches of photographs, decoded once and kept as bytes: what image networks are trained on."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from kernelsr.images import image_files, read_image


class Patches:
    """Square patches of the colour photographs in a folder, shrunk and mirrored at random.

    Args:
        folder: photographs, directly in it.
        shrink: each patch is a larger square of a photograph, reduced by up to this factor (antialiased bicubic), so that
            patches are as sharp as photographs made small usually are.
    """

    def __init__(self, folder: str | Path, shrink: float = 4.0):
        self.names = [path.name for path in image_files(folder)]
        photographs = [(255 * read_image(Path(folder) / name)[0]).round().byte() for name in self.names]
        self.photographs = [p if len(p) == 3 else p.expand(3, -1, -1).contiguous() for p in photographs]
        self.shrink = shrink

    def draw(self, count: int, side: int, rng: torch.Generator) -> Tensor:
        """Patches (count, 3, side, side) in [0, 1], on the CPU."""
        return torch.cat([self._one(side, rng) for _ in range(count)])

    def _one(self, side: int, rng: torch.Generator) -> Tensor:
        which = int(torch.randint(len(self.photographs), (), generator=rng))
        zoom, across, down, *turns = torch.rand(6, generator=rng).tolist()
        photograph = self.photographs[which]
        height, width = photograph.shape[-2:]
        square = min(round(side * math.exp(zoom * math.log(self.shrink))), height, width)
        top, left = int(down * (height - square + 1)), int(across * (width - square + 1))
        patch = photograph[None, :, top : top + square, left : left + square].float() / 255
        if square != side:
            patch = F.interpolate(patch, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        flips = [dim for dim, turn in zip((2, 3), turns, strict=False) if turn < 0.5]
        patch = patch.flip(flips)
        return patch.transpose(2, 3) if turns[2] < 0.5 else patch
