"""A Gaussian with three parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernelsr import kernels
from kernelsr.beliefs import middle
from kernelsr.families import fkp_variances
from kernelsr.learner import KernelPrior
from kernelsr.problem import Problem


class Gaussian(KernelPrior):
    """An anisotropic Gaussian about the convention's centre: the parametric prior, with nothing else to learn.

    The parameters are the Cholesky factor of the covariance (logarithms on its diagonal), so every point is a Gaussian.

    Args:
        lr: Adam's step on the three parameters.
        start: the step from which they move.
    """

    replays = True

    def __init__(self, problem: Problem, rng: torch.Generator, *, lr: float = 0.02, start: int = 76):
        super().__init__()
        self.start = start
        place, self.around = middle(problem)
        self.register_buffer("offsets", torch.cartesian_prod(place, place).T.to(problem.lr))
        log_deviation = 0.5 * torch.tensor(sum(fkp_variances(problem.scale)) / 2).log().item()
        self.log_diagonal = nn.Parameter(problem.lr.new_full((2,), log_deviation))
        self.lower = nn.Parameter(problem.lr.new_zeros(()))
        self.optimizer = torch.optim.Adam(self.parameters(), lr)

    def forward(self) -> Tensor:
        first, second = self.log_diagonal.exp().unbind()
        row, column = self.get_buffer("offsets").unbind()
        whitened = row / first
        distance = whitened**2 + ((column - self.lower * whitened) / second) ** 2
        side = math.isqrt(len(row))
        return F.pad((-0.5 * distance).softmax(0).view(1, 1, side, side), self.around)

    def begin_at(self, kernel: Tensor) -> None:
        """At the Gaussian of the kernel's second moments about its own centre, then fitted by Adam.

        The support cuts off what lies outside, so that a wide kernel's moments are smaller than its Gaussian's.
        """
        covariance = kernels.moments(kernel.detach().clamp(min=0))[0]
        # A line or a point has no width across; a tenth of a pixel stands for it.
        factor = torch.linalg.cholesky(covariance + 0.01 * torch.eye(2).to(covariance))
        with torch.no_grad():
            self.log_diagonal.copy_(factor.diagonal().log())
            self.lower.copy_(factor[1, 0])
        super().begin_at(kernel)
