"""Bicubic enlargement."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kernelsr import kernels
from kernelsr.learner import Restorer
from kernelsr.problem import Problem


class Bicubic(Restorer):
    """Bicubic enlargement of the LR image: the floor of every table. In the loop it is quick, and its own blur makes kernels
    come out too narrow.

    Equals MATLAB's ``imresize``. It ignores the kernel, but not where the convention puts the kernel's centre.

    Args:
        aligned: move the result by the whole HR pixels between the LR grid of the convention and bicubic's own (s - 1 for
            ``fkp``). Unaligned is what the papers' tables call bicubic, and loses 2.6/3.7/5.3 dB on Set5 at x2/x3/x4.
    """

    def __init__(self, problem: Problem, rng: torch.Generator, *, aligned: bool = True):
        super().__init__()
        scale, size = problem.scale, problem.kernel_size
        # A symmetric border: PyTorch clamps at the border, MATLAB mirrors, and the cubic reaches two pixels.
        wide = problem.lr
        for dim in (2, 3):
            before = wide.narrow(dim, 0, 2).flip(dim)
            after = wide.narrow(dim, wide.shape[dim] - 2, 2).flip(dim)
            wide = torch.cat([before, wide, after], dim)
        large = F.interpolate(wide, scale_factor=scale, mode="bicubic", antialias=True)
        height, width = problem.hr_size
        image = large[..., 2 * scale :, 2 * scale :][..., :height, :width]
        if aligned:
            own = kernels.centre("aligned", size, scale)
            offset = round(kernels.centre(problem.centre, size, scale) - own)
            image = image.roll((offset, offset), (2, 3))
        self.register_buffer("image", image.contiguous())

    def forward(self, kernel: Tensor) -> Tensor:
        return self.get_buffer("image")
