"""The deep image prior of DIP-FKP and DIP-DKP: an hourglass network that makes the image out of fixed noise."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kernelsr.convolution import convolve
from kernelsr.learner import Restorer, initialised_from
from kernelsr.losses import hyper_laplacian
from kernelsr.precision import multiplies_bf16
from kernelsr.problem import Problem


def _activated(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(0.2, inplace=True))


class Reflected(nn.Conv2d):
    """A 3x3 convolution with reflected borders."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(inputs, outputs, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        # Autocast pads in float32, which would take every bf16 image there and back.
        with torch.autocast(x.device.type, enabled=False):
            padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return convolve(padded, self.weight, self.bias, self.stride[0])


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
    """One scale of the hourglass with all coarser ones inside: down, the coarser scales, up, joined with the skip.

    With ``recompute``, backward computes what is inside a block anew from its input, which alone is kept. Batch norm's
    running statistics then move twice a step; training mode never reads them.
    """

    def __init__(self, inputs: int, channels: int, skip: int, depth: int, scales: int, *, recompute: bool = False):
        super().__init__()
        self.recompute = recompute
        self.skip = nn.Sequential(nn.Conv2d(inputs, skip, 1), _activated(skip))
        attention = [NonLocal(channels)] if depth >= 3 else []
        self.down = nn.Sequential(Reflected(inputs, channels, 2), _activated(channels), *attention)
        self.down2 = nn.Sequential(Reflected(channels, channels), _activated(channels))
        deeper = (channels, channels, skip, depth + 1, scales)
        self.coarser = Scale(*deeper, recompute=recompute) if depth < scales else nn.Identity()
        self.join = nn.BatchNorm2d(skip + channels)
        self.up = nn.Sequential(Reflected(skip + channels, channels), _activated(channels))
        self.up2 = nn.Sequential(nn.Conv2d(channels, channels, 1), _activated(channels))

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.coarser(self._run(self.down2, self._run(self.down, x)))
        return self._run(self.up2, self._run(self._joined, self._run(self.skip, x), coarse))

    def _joined(self, skip: Tensor, coarse: Tensor) -> Tensor:
        larger = F.interpolate(coarse, scale_factor=2, mode="bilinear")
        for part in (skip, larger):
            if part.requires_grad:
                # Some channels of the joined gradient, with the others between them, take several times as long from here on.
                part.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return self.up(self.join(torch.cat([skip, larger[..., : skip.shape[2], : skip.shape[3]]], 1)))

    def _run(self, block: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if not self.recompute:
            return block(*inputs)
        # Nothing in a block draws, so that no generator's state need be kept.
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)


class Dip(Restorer):
    """The image as the output of an untrained hourglass; Ulyanov et al. (2018), in the form of FKP, Liang et al. (2021).

    Five scales of 128 channels, 16-channel skips, non-local blocks at scales 3 to 5; 2,359,939 parameters for colour.

    Args:
        lr: Adam's step.
        sparsity: weight of the hyper-Laplacian penalty, a sum over HR pixels divided by the number of LR values; DIP-DKP
            uses 0.001 * 0.2, DIP-FKP none.
        noise_seed: draw the input noise from PyTorch's generator with this seed (the released code: 1), not from ``rng``.
        precision: ``float32`` computes in the LR image's type; ``bf16`` has the hourglass in bfloat16, and weights, their
            steps, image and loss as they were.
        checkpoint: keep the blocks' inputs only and compute the rest again in backward; the same numbers, in less memory.

    Raises:
        ValueError: the image is too small for the coarsest scale, or there is no such precision.
    """

    replays = True

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
        precision: str = "float32",
        checkpoint: bool = False,
    ):
        super().__init__()
        smallest = 2**scales + 1
        if min(problem.hr_size) < smallest:
            raise ValueError(
                f"the HR image of {problem.hr_size[1]}x{problem.hr_size[0]} is too small for a hourglass of {scales} "
                f"scales, which needs {smallest} pixels a side; use a larger image, fewer scales or restorer=bicubic"
            )
        if precision not in ("float32", "bf16"):
            raise ValueError(f"restorer.precision is {precision!r}; choose float32, or bf16 for speed")
        self.sparsity, self.values = sparsity, problem.lr.numel()
        self.bf16 = precision == "bf16"
        if self.bf16 and problem.lr.device.type == "cpu" and not multiplies_bf16():
            warnings.warn(
                "this processor has no instructions for bfloat16, which is then several times as slow as float32; leave "
                "restorer.precision at float32",
                stacklevel=2,
            )
        colours = problem.lr.shape[1]
        source = rng if noise_seed is None else torch.Generator().manual_seed(noise_seed)
        noise = 0.1 * torch.rand(1, colours, *problem.hr_size, generator=source)
        with initialised_from(rng):
            self.hourglass = Scale(colours, channels, skip, 1, scales, recompute=checkpoint)
            self.colour = nn.Conv2d(channels, colours, 1)
        self.register_buffer("noise", noise)
        # Channels last is the layout of the fast convolutions of CPUs and tensor cores; results differ by rounding only.
        self.to(problem.lr).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.parameters(), lr, fused=True)

    def forward(self, kernel: Tensor) -> Tensor:
        noise = self.get_buffer("noise")
        with torch.autocast(noise.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.hourglass(noise)
        # An image of bfloat16 would have steps of a grey level and more.
        return self.colour(features.to(noise)).sigmoid()

    def penalty(self, image: Tensor) -> Tensor:
        if not self.sparsity:
            return super().penalty(image)
        return self.sparsity * hyper_laplacian(image) / self.values
