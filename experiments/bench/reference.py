"""The reference configuration: DIP-FKP's step as its formulas read, with no thought of speed; for comparisons only.

The same network and numbers as `restorers.Dip` and `solvers.joint`, but in PyTorch's contiguous layout, with every operation
on its own, the non-local blocks' N x N matrix, the blur of every pixel of which most are then dropped, and plain Adam.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernelsr.learner import KernelPrior, Restorer, initialised_from
from kernelsr.losses import hyper_laplacian, ssim
from kernelsr.problem import Estimate, Problem, Progress
from kernelsr.restorers import Dip


def block(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Reflection padding, convolution, batch norm and activation, one after the other."""
    return nn.Sequential(
        nn.ReflectionPad2d(size // 2),
        nn.Conv2d(inputs, outputs, size, stride),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2),
    )


class Attention(nn.Module):
    """A dot-product non-local block: y_i = sum_j (q_i . k_j) v_j / N over the pooled places j."""

    def __init__(self, channels: int):
        super().__init__()
        self.value = nn.Conv2d(channels, channels // 2, 1)
        self.out = nn.Sequential(nn.Conv2d(channels // 2, channels, 1), nn.BatchNorm2d(channels))
        self.query = nn.Conv2d(channels, channels // 2, 1)
        self.key = nn.Conv2d(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.query(x).flatten(2).transpose(1, 2)
        keys = self.pool(self.key(x)).flatten(2)
        values = self.pool(self.value(x)).flatten(2).transpose(1, 2)
        weights = torch.matmul(queries, keys) / keys.shape[-1]
        mixed = torch.matmul(weights, values).transpose(1, 2).contiguous()
        return x + self.out(mixed.view(*mixed.shape[:2], *x.shape[2:]))


class PlainScale(nn.Module):
    """One scale of the hourglass with all coarser ones inside."""

    def __init__(self, inputs: int, channels: int, skip: int, depth: int, scales: int):
        super().__init__()
        self.skip = block(inputs, skip, 1)
        attention = [Attention(channels)] if depth >= 3 else []
        self.down = nn.Sequential(block(inputs, channels, 3, stride=2), *attention)
        self.down2 = block(channels, channels, 3)
        self.coarser = PlainScale(channels, channels, skip, depth + 1, scales) if depth < scales else nn.Identity()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.join = nn.BatchNorm2d(skip + channels)
        self.out = block(skip + channels, channels, 3)
        self.out2 = block(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.up(self.coarser(self.down2(self.down(x))))[..., : x.shape[2], : x.shape[3]]
        return self.out2(self.out(self.join(torch.cat([self.skip(x), coarse], 1))))


class PlainDip(Restorer):
    """The deep image prior of FKP, slowly; it starts at the numbers of a ``Dip``."""

    def __init__(self, problem: Problem, dip: Dip, *, lr: float = 5e-3, channels: int = 128, skip: int = 16):
        super().__init__()
        colours = problem.lr.shape[1]
        with initialised_from(torch.Generator()):
            hourglass = PlainScale(colours, channels, skip, 1, 5)
            self.network = nn.Sequential(hourglass, nn.Conv2d(channels, colours, 1), nn.Sigmoid())
        self.register_buffer("noise", dip.get_buffer("noise").contiguous())
        self.to(problem.lr)
        self.sparsity, self.values = dip.sparsity, dip.values
        # The two differ in names, not in order.
        numbers = [value for name, value in dip.state_dict().items() if name != "noise"]
        own = [name for name in self.state_dict() if name != "noise"]
        contiguous = [value.clone(memory_format=torch.contiguous_format) for value in numbers]
        self.load_state_dict(dict(zip(own, contiguous, strict=True)), strict=False)
        self.optimizer = torch.optim.Adam(self.parameters(), lr, foreach=False)

    def forward(self, kernel: Tensor) -> Tensor:
        return self.network(self.get_buffer("noise"))

    def penalty(self, image: Tensor) -> Tensor:
        if not self.sparsity:
            return super().penalty(image)
        return self.sparsity * hyper_laplacian(image) / self.values


def blur_then_subsample(image: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """The degradation, (x ⋆ k)↓s, in the order of its formula."""
    margin = kernel.shape[-1] // 2
    padded = F.pad(image, (margin, margin, margin, margin), mode="circular")
    blurred = F.conv2d(padded.transpose(0, 1), kernel).transpose(0, 1)
    return blurred[..., ::scale, ::scale]


def joint(
    problem: Problem,
    prior: KernelPrior,
    restorer: Restorer,
    *,
    steps: int,
    ssim_steps: int = 80,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Estimate:
    """The joint loop for priors that do not listen to the image; see `solvers.joint`."""
    for step in range(steps):
        image, kernel = restorer(prior().detach()), prior()
        lr = blur_then_subsample(image, kernel, problem.scale)
        data = 1 - ssim(lr, problem.lr) if step < ssim_steps else F.mse_loss(lr, problem.lr)
        loss = data + restorer.penalty(image) + prior.penalty(kernel)
        loss.backward()
        restorer.step(step)
        prior.step(step)
        on_step(Progress(step, loss.detach(), image.detach(), kernel.detach()))
    return Estimate(image.detach(), kernel.detach())
