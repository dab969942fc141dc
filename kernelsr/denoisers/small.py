"""Our small denoiser for every noise level of a diffusion: a U-Net on 2x2 blocks of pixels, and the file it is kept in."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernelsr import stored

SPREAD = 0.5
"""Standard deviation of photographs on [-1, 1], by which the network's input and output are scaled."""
SHAPE = ("channels", "blocks")


class Block(nn.Module):
    """Two convolutions beside the identity; the noise level scales and shifts what is between them."""

    def __init__(self, channels: int, code: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.level = nn.Linear(code, 2 * channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        gain, shift = self.level(code)[:, :, None, None].chunk(2, 1)
        between = F.silu(self.first(F.silu(x)) * (1 + gain) + shift)
        return x + self.second(between)


class Blocks(nn.ModuleList):
    """Blocks in a row."""

    def __init__(self, channels: int, blocks: int, code: int):
        super().__init__(Block(channels, code) for _ in range(blocks))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        for block in self:
            x = block(x, code)
        return x


class Small(nn.Module):
    """The mean of the clean colour images behind a noisy one, with the preconditioning of EDM, Karras et al. (2022), table 1.

    A U-Net without normalisation layers, so that what it makes of a pixel does not depend on the size of the image. Its
    finest grid is that of 2x2 blocks of pixels (as in FFDNet, Zhang et al., 2018), a fourth of the cost.

    Args:
        channels: of each scale, from fine to coarse.
        blocks: residual blocks of each scale, on the way down and again on the way up.
    """

    def __init__(self, channels: tuple[int, ...] = (64, 96, 160), blocks: int = 2):
        super().__init__()
        self.channels, self.blocks = tuple(channels), blocks
        self.multiple = 2 ** len(self.channels)
        first, code = self.channels[0], 4 * self.channels[0]
        self.code = nn.Sequential(nn.Linear(16, code), nn.SiLU(), nn.Linear(code, code), nn.SiLU())
        self.head = nn.Conv2d(12, first, 3, padding=1)
        self.down = nn.ModuleList(Blocks(width, blocks, code) for width in self.channels)
        self.up = nn.ModuleList(Blocks(width, blocks, code) for width in self.channels)
        pairs = list(zip(self.channels[:-1], self.channels[1:], strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in pairs)
        self.tail = nn.Conv2d(first, 12, 3, padding=1)
        nn.init.zeros_(self.tail.weight)

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The clean image (n, 3, H, W) in [-1, 1] behind ``noisy`` = clean + sigma * noise.

        Args:
            noisy: (n, 3, H, W); H and W are multiples of ``multiple``.
            sigma: (n, 1, 1, 1), the standard deviation of the noise.
        """
        total = (sigma.square() + SPREAD**2).sqrt()
        x = self.head(F.pixel_unshuffle(noisy / total, 2))
        code = self.code(_waves(sigma))
        kept = []
        for scale, blocks in enumerate(self.down):
            x = blocks(x, code)
            if scale < len(self.shrink):
                kept.append(x)
                x = self.shrink[scale](x)
        for scale in reversed(range(len(self.up))):
            x = self.up[scale](x, code)
            if scale:
                x = kept[scale - 1] + self.grow[scale - 1](x)
        residual = F.pixel_shuffle(self.tail(F.silu(x)), 2)
        return noisy * (SPREAD / total).square() + residual * (sigma * SPREAD / total)


def _waves(sigma: Tensor) -> Tensor:
    """A noise level as sines and cosines (n, 16) of its logarithm, over wavelengths from 50 down to 2."""
    lengths = torch.logspace(1.7, 0.3, 8, device=sigma.device, dtype=sigma.dtype)
    angle = 2 * torch.pi * sigma.log().flatten()[:, None] / lengths
    return torch.cat([angle.sin(), angle.cos()], 1)


def save(denoiser: Small, path: Path, **metadata: object) -> None:
    """Write a denoiser as safetensors in half precision; its shape and ``metadata`` travel in the header."""
    stored.save(denoiser, SHAPE, path, metadata, half=True)


def load(path: Path) -> Small:
    """A trained denoiser from a file that ``save`` wrote."""
    return stored.load(Small, SHAPE, path, "denoiser that experiments/train_denoiser.py wrote")


def bundled() -> Small:
    """Our denoiser, trained by experiments/train_denoiser.py on photographs of free licences."""
    return load(Path(str(files("kernelsr") / "weights" / "denoiser_small.safetensors")))
