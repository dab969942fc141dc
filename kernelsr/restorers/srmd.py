"""SRMD: a feed-forward network that is told the kernel, pretrained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernelsr import kernels, srmd
from kernelsr.colours import from_threes, in_threes
from kernelsr.enlarge import in_tiles, moved
from kernelsr.learner import Restorer
from kernelsr.problem import Problem


class Srmd(Restorer):
    """The image that a frozen SRMD makes with a kernel; Zhang et al. (2018).

    It was trained on Gaussian kernels before bicubic downscaling, so a kernel enters as the Gaussian that comes nearest to
    it there (``srmd.equivalent``): right for blur, and for motion no more than its length and direction. Its output lies
    on bicubic's grid about the kernel's centre and is moved to where the kernel says. No gradient reaches the kernel. On
    the CPU in float32; other than colour images are restored in groups of three channels.

    Args:
        network: makes the network for a scale and a noise level.
        noise_std: of y on the [0, 1] scale; None takes the problem's. Trained on 0 to 75/255.
        tile: LR pixels a side up to which an image is restored at once; tiles leave no trace.

    Raises:
        ValueError: there is no network for this scale.
        FileNotFoundError: the packages or the file that it needs are not here.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        network: Callable[[int, float], srmd.Network],
        noise_std: float | None = None,
        tile: int = 256,
    ):
        super().__init__()
        level = problem.noise_std if noise_std is None else noise_std
        if level < 0:
            raise ValueError(f"noise_std is {level}; it is a standard deviation on the [0, 1] scale, or null")
        if tile < 1:
            raise ValueError(f"tile is {tile}; set restorer.tile to at least 1")
        self.scale, self.channels, self.tile = problem.scale, problem.lr.shape[1], tile
        self.network = network(problem.scale, level)
        self.register_buffer("lr", in_threes(problem.lr))

    def forward(self, kernel: Tensor) -> Tensor:
        blur = srmd.equivalent(kernel, self.scale)
        lr = self.get_buffer("lr")
        large = in_tiles(lambda piece: self.network(piece, blur), lr, tile=self.tile, halo=srmd.MARGIN)
        own = kernels.centre("aligned", kernel.shape[-1], self.scale)
        row, column = blur.centre
        return moved(from_threes(large, self.channels), (row - own, column - own)).clamp(0, 1)
