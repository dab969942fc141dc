"""The kernel as a function of position: a small coordinate network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernelsr import kernels
from kernelsr.families import mean_kernel
from kernelsr.learner import KernelPrior, initialised_from
from kernelsr.problem import Problem


class Sine(nn.Module):
    """sin(frequency (W u + b)), a layer of SIREN with its initial weights; Sitzmann et al. (2020), section 3.2."""

    def __init__(self, inputs: int, outputs: int, frequency: float, *, first: bool):
        super().__init__()
        self.linear, self.frequency = nn.Linear(inputs, outputs), frequency
        bound = 1 / inputs if first else (6 / inputs) ** 0.5 / frequency
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, u: Tensor) -> Tensor:
        return torch.sin(self.frequency * self.linear(u))


class Inr(KernelPrior):
    """A softmax of a coordinate network (an implicit neural representation) over the kernel's pixels, for any shape.

    After KernelFusion, Heinimann et al. (2025), section 4.3, which makes kernels this way because networks that make them
    pixel by pixel favour Gaussians. u is the offset from the convention's centre in half supports; the network, of sines,
    adds to the logarithm of the mean kernel. Its last layer starts at zero, so that it starts as the mean kernel.

    Args:
        lr: Adam's step.
        start: the step from which the network moves.
        hidden, layers: width and number of the layers of sines.
        frequency: of the sines; how fine the shapes are that it finds first.
    """

    fit_lr = 3e-3  # sines of 1e-2 lose their way
    replays = True

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        lr: float = 1e-3,
        start: int = 76,
        hidden: int = 64,
        layers: int = 3,
        frequency: float = 6.0,
    ):
        super().__init__()
        for name, value in (("hidden", hidden), ("layers", layers)):
            if value < 1:
                raise ValueError(f"{name} is {value}; prior=inr needs at least 1")
        if frequency <= 0:
            raise ValueError(f"frequency is {frequency}; it must be positive (6 is the default)")
        self.size, self.start = problem.kernel_size, start
        middle = kernels.centre(problem.centre, self.size, problem.scale)
        offset = (torch.arange(self.size, dtype=torch.float64) - middle) / (self.size / 2)
        self.register_buffer("places", torch.cartesian_prod(offset, offset))
        self.register_buffer("mean", mean_kernel(problem).flatten().log())
        with initialised_from(rng):
            sines = [Sine(hidden if i else 2, hidden, frequency, first=not i) for i in range(layers)]
            last = nn.Linear(hidden, 1, bias=False)  # a softmax is blind to a bias
        nn.init.zeros_(last.weight)
        self.network = nn.Sequential(*sines, last)
        self.to(problem.lr)
        self.optimizer = torch.optim.Adam(self.parameters(), lr)

    def forward(self) -> Tensor:
        logits = self.get_buffer("mean") + self.network(self.get_buffer("places"))[:, 0]
        return logits.softmax(0).view(1, 1, self.size, self.size)
