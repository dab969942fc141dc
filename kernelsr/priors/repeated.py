"""KernelGAN's analytic kernel: one x2 kernel, applied twice at x4."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.learner import KernelPrior, Misfit
from kernelsr.problem import Problem, fkp_kernel_size


class Repeated(KernelPrior):
    """A prior over x2 kernels that stands for x4 by two passes, for x8 by three; Bell-Kligler et al. (2019), supplement.

    The x4 kernel is the x2 kernel convolved with itself dilated by 2, cut to the problem's support. At scales that are no
    power of two there is one pass, and this prior is its base.

    Args:
        base: (problem, rng) -> the prior over x2 kernels of FKP's support, 11x11; it keeps its own optimiser and schedule.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        base: Callable[[Problem, torch.Generator], KernelPrior],
    ):
        super().__init__()
        self.size = problem.kernel_size
        if problem.scale in (4, 8):
            self.passes = problem.scale.bit_length() - 1
            problem = replace(problem, scale=2, kernel_size=fkp_kernel_size(2))
        self.middle = kernels.centre(problem.centre, problem.kernel_size, problem.scale)
        self.base = base(problem, rng)
        self.replays = self.base.replays

    def forward(self) -> Tensor:
        return kernels.repeated(self.base(), self.passes, self.size)

    def one_pass(self) -> KernelPrior:
        return self.base

    def penalty(self, kernel: Tensor) -> Tensor:
        """The base's, of its own kernel."""
        return self.base.penalty(self.base())

    def prepare(self) -> None:
        self.base.prepare()

    def listen(self, misfit: Misfit) -> None:
        """The base listens; its candidates are judged by what they make of the whole kernel."""
        self.base.listen(lambda candidates: misfit(kernels.repeated(candidates, self.passes, self.size)))

    def begin_at(self, kernel: Tensor) -> None:
        """The base begins at the Gaussian of one pass whose repetition has the whole kernel's second moments."""
        if self.passes > 1:
            # Pass by pass the variances are 1, 4, 16 times the first one's.
            covariance = kernels.moments(kernel)[0] * 3 / (4**self.passes - 1)
            offset = torch.arange(fkp_kernel_size(2)).to(kernel) - self.middle
            offsets = torch.cartesian_prod(offset, offset)
            distances = (offsets @ torch.linalg.inv(covariance) * offsets).sum(1)
            kernel = (-distances / 2).softmax(0).view(1, 1, len(offset), len(offset))
        self.base.begin_at(kernel)

    def duty(self, i: int) -> str:
        return self.base.duty(i)

    def phase(self, i: int) -> Hashable:
        return self.base.phase(i)

    def step(self, i: int) -> None:
        self.base.step(i)

    def move(self) -> None:
        self.base.move()

    def project_(self) -> None:
        self.base.project_()
