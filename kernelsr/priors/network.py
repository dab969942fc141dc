"""A small network that makes a kernel out of fixed noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernelsr.learner import KernelPrior, initialised_from
from kernelsr.problem import Problem


class Network(KernelPrior):
    """A fully connected network from fixed noise to a softmax over the kernel: Double-DIP's, and DKP's kernel network.

    Ren et al. (2020), SelfDeblur, as FKP and DKP use it: 200 - 1000 (ReLU6) - K*K (softmax), input U(0, 0.1).

    Args:
        lr: Adam's step.
        start: the step from which the network moves. FKP's released Double-DIP means to rest 75 iterations but freezes
            an input, not the network; 0 is what it does.
    """

    replays = True

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        lr: float = 1e-4,
        start: int = 0,
        inputs: int = 200,
        hidden: int = 1000,
    ):
        super().__init__()
        self.size, self.start = problem.kernel_size, start
        self.register_buffer("noise", 0.1 * torch.rand(inputs, generator=rng))
        with initialised_from(rng):
            self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU6(), nn.Linear(hidden, self.size**2))
        self.to(problem.lr)
        self.optimizer = torch.optim.Adam(self.parameters(), lr, fused=True)

    def forward(self) -> Tensor:
        return self.layers(self.noise).softmax(0).view(1, 1, self.size, self.size)
