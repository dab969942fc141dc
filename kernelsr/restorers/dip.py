"""The deep image prior of DIP-FKP and DIP-DKP: an hourglass network that makes the image out of fixed noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernelsr.learner import Restorer, initialised_from
from kernelsr.losses import hyper_laplacian
from kernelsr.problem import Problem


def _activated(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(0.2, inplace=True))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, padding_mode="reflect")


class NonLocal(nn.Module):
    """A dot-product non-local block with pooled keys and values; Wang et al. (2018). Starts as the identity.

    Without a softmax the product is associative: keys times values first costs N C^2, not N^2 C.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.value = nn.Conv2d(channels, channels // 2, 1)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.out = nn.Sequential(nn.Conv2d(channels // 2, channels, 1), norm)
        self.query = nn.Conv2d(channels, channels // 2, 1)
        self.key = nn.Conv2d(channels, channels // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2)
        key = F.max_pool2d(self.key(x), 2).flatten(2)
        value = F.max_pool2d(self.value(x), 2).flatten(2)
        mixed = (value @ key.mT / key.shape[2]) @ query
        return x + self.out(mixed.unflatten(2, x.shape[2:]))


class Scale(nn.Module):
    """One scale of the hourglass with all coarser ones inside: down, the coarser scales, up, joined with the skip."""

    def __init__(self, inputs: int, channels: int, skip: int, depth: int, scales: int):
        super().__init__()
        self.skip = nn.Sequential(nn.Conv2d(inputs, skip, 1), _activated(skip))
        attention = [NonLocal(channels)] if depth >= 3 else []
        self.down = nn.Sequential(_convolution(inputs, channels, 2), _activated(channels), *attention)
        self.down2 = nn.Sequential(_convolution(channels, channels), _activated(channels))
        self.coarser = Scale(channels, channels, skip, depth + 1, scales) if depth < scales else nn.Identity()
        self.join = nn.BatchNorm2d(skip + channels)
        self.up = nn.Sequential(_convolution(skip + channels, channels), _activated(channels))
        self.up2 = nn.Sequential(nn.Conv2d(channels, channels, 1), _activated(channels))

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.coarser(self.down2(self.down(x)))
        coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear")[..., : x.shape[2], : x.shape[3]]
        return self.up2(self.up(self.join(torch.cat([self.skip(x), coarse], 1))))


class Dip(Restorer):
    """The image as the output of an untrained hourglass; Ulyanov et al. (2018), in the form of FKP, Liang et al. (2021).

    Five scales of 128 channels, 16-channel skips, non-local blocks at scales 3 to 5; 2,359,939 parameters for colour.

    Args:
        lr: Adam's step.
        sparsity: weight of the hyper-Laplacian penalty, a sum over HR pixels divided by the number of LR values; DIP-DKP
            uses 0.001 * 0.2, DIP-FKP none.
        noise_seed: draw the input noise from PyTorch's generator with this seed (the released code: 1), not from ``rng``.

    Raises:
        ValueError: the image is too small for the coarsest scale.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        lr: float = 5e-3,
        sparsity: float = 0.0,
        channels: int = 128,
        skip: int = 16,
        scales: int = 5,
        noise_seed: int | None = None,
    ):
        super().__init__()
        smallest = 2**scales + 1
        if min(problem.hr_size) < smallest:
            raise ValueError(
                f"the HR image of {problem.hr_size[1]}x{problem.hr_size[0]} is too small for a hourglass of {scales} "
                f"scales, which needs {smallest} pixels a side; use a larger image, fewer scales or restorer=bicubic"
            )
        self.sparsity, self.values = sparsity, problem.lr.numel()
        colours = problem.lr.shape[1]
        source = rng if noise_seed is None else torch.Generator().manual_seed(noise_seed)
        noise = 0.1 * torch.rand(1, colours, *problem.hr_size, generator=source)
        with initialised_from(rng):
            self.hourglass = Scale(colours, channels, skip, 1, scales)
            self.colour = nn.Conv2d(channels, colours, 1)
        self.register_buffer("noise", noise)
        # Channels last is the layout of the fast convolutions of CPUs and tensor cores; results differ by rounding only.
        self.to(problem.lr).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.parameters(), lr, fused=True)

    def forward(self, kernel: Tensor) -> Tensor:
        return self.colour(self.hourglass(self.get_buffer("noise"))).sigmoid()

    def penalty(self, image: Tensor) -> Tensor:
        if not self.sparsity:
            return super().penalty(image)
        return self.sparsity * hyper_laplacian(image) / self.values
