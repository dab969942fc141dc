"""Bicubic enlargement."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelsr.enlarge import bicubic, settled
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
        image = bicubic(problem.lr, problem.scale)
        self.register_buffer("image", (settled(image, problem) if aligned else image).contiguous())

    def forward(self, kernel: Tensor) -> Tensor:
        return self.get_buffer("image")
