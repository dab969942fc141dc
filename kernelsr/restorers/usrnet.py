"""USRNet: one pass of an unrolled network that was trained once, for any kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernelsr import unrolled
from kernelsr.colours import from_threes, in_threes
from kernelsr.compression import noise_level
from kernelsr.kernels import normalise
from kernelsr.learner import Restorer
from kernelsr.problem import Problem


class Usrnet(Restorer):
    """The image that a frozen USRNet makes with a kernel; Zhang et al. (2020).

    Differentiable in the kernel. The network takes colour images, so other images are restored in groups of three channels:
    the last group repeats the last channel, and of a channel's copies the mean is taken (a grey image has three).

    The kernel is divided by its sum first, for a blur keeps an image's brightness, and the network has seen no other: those
    of a flow sum to 0.7 to 1.3, and their images would be too bright or too dark by the inverse.

    Args:
        network: makes the trained network; ours by default.
        noise_std: of y on the [0, 1] scale, which decides how much the network smooths; None takes the problem's, and more
            where y was a JPEG. The networks were trained on 0 to 10/255 (ours) and 0 to 25/255 (the authors').
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        network: Callable[[], unrolled.UnrolledNetwork] = unrolled.bundled,
        noise_std: float | None = None,
    ):
        super().__init__()
        level = noise_level(problem) if noise_std is None else noise_std
        if level < 0:
            raise ValueError(f"noise_std is {level}; it is a standard deviation on the [0, 1] scale, or null")
        self.scale, self.channels = problem.scale, problem.lr.shape[1]
        # Channels last is the layout of the fast convolutions; results differ by rounding only.
        self.network = network().to(problem.lr).to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
        self.register_buffer("lr", in_threes(problem.lr))
        self.register_buffer("level", problem.lr.new_full((1, 1, 1, 1), level))

    def forward(self, kernel: Tensor) -> Tensor:
        kernel, level = normalise(kernel), self.get_buffer("level")
        # One group after the other: two hundred channels at once would need the memory of seventy images.
        groups = [self.network(group, kernel, self.scale, level) for group in self.get_buffer("lr").split(1)]
        return from_threes(torch.cat(groups), self.channels)
