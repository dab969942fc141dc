"""K*K free logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernelsr.learner import KernelPrior
from kernelsr.problem import Problem


class Softmax(KernelPrior):
    """A softmax over K*K logits, no prior but positivity and unit sum: DIP-Softmax; FKP, Liang et al. (2021), sec. 4.2.

    Args:
        lr: Adam's step; the released code uses 0.5 from logits of 1.
        start: the step from which the logits move.
    """

    replays = True

    def __init__(self, problem: Problem, rng: torch.Generator, *, lr: float = 0.5, start: int = 76):
        super().__init__()
        self.size, self.start = problem.kernel_size, start
        logits = torch.ones(self.size**2, dtype=problem.lr.dtype, device=problem.lr.device)
        self.logits = nn.Parameter(logits)
        self.optimizer = torch.optim.Adam([self.logits], lr)

    def forward(self) -> Tensor:
        return self.logits.softmax(0).view(1, 1, self.size, self.size)

    def begin_at(self, kernel: Tensor) -> None:
        """At the kernel's logarithm. Empty and negative pixels get a millionth of the peak, for a softmax has no zeros."""
        with torch.no_grad():
            self.logits.copy_(kernel.clamp(min=1e-6 * kernel.max().item()).log().flatten())
