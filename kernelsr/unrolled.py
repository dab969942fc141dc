"""USRNet: half-quadratic splitting, unrolled, with a learned denoiser between exact data steps.

It owns the network and the file format of trained ones; kernels are in the house's convention.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernelsr import stored
from kernelsr.degradation import data_step

SHAPE = ("iterations", "channels", "hidden", "blocks")
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"iterations": 6, "channels": (16, 32, 64, 64), "hidden": 32, "blocks": 2},
    "full": {"iterations": 8, "channels": (64, 128, 256, 512), "hidden": 64, "blocks": 2},
}
"""The released networks': the paper's, and the small one that FKP and DKP make their final images with."""


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class Block(nn.Module):
    """A residual block: convolution, ReLU, convolution, without biases: noise of twice the level is noise of twice the level.

    It starts as the identity.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = _convolution(channels, channels), _convolution(channels, channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class ResUNet(nn.Module):
    """The denoiser: a U-Net of residual blocks over four scales; Zhang et al. (2020), section 4.3.

    Each scale is halved by a strided 2x2 convolution and doubled again by a transposed one; skips are added.
    """

    def __init__(self, channels: tuple[int, ...], blocks: int):
        super().__init__()
        self.smallest = 2 ** (len(channels) - 1)
        self.head = _convolution(4, channels[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in zip(channels, channels[1:], strict=False):
            shrink = nn.Conv2d(fine, coarse, 2, stride=2, bias=False)
            enlarge = nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=False)
            self.down.append(nn.Sequential(*[Block(fine) for _ in range(blocks)], shrink))
            self.up.append(nn.Sequential(enlarge, *[Block(fine) for _ in range(blocks)]))
        self.body = nn.Sequential(*[Block(channels[-1]) for _ in range(blocks)])
        self.tail = _convolution(channels[0], 3)

    def forward(self, image: Tensor, level: Tensor) -> Tensor:
        """The image (n, 3, H, W) that lies under noise of standard deviation ``level`` (n, 1, 1, 1)."""
        height, width = image.shape[-2:]
        x = torch.cat([image, level.expand(-1, 1, height, width)], 1)
        # Sizes that the scales do not divide are continued to the right and below, and cut again.
        x = F.pad(x, (0, -width % self.smallest, 0, -height % self.smallest), mode="replicate")
        skips = [self.head(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = self.body(skips[-1])
        for up, skip in zip(reversed(self.up), reversed(skips), strict=False):
            x = up(x + skip)
        return self.tail(x + skips[0])[..., :height, :width]


class UnrolledNetwork(nn.Module):
    """USRNet: data step and denoiser in turns, from the nearest enlargement; Zhang et al. (2020), section 4.2.

    A network of 1x1 convolutions makes the weight alpha of each data step and the noise level beta of each denoising out
    of noise level and scale. So one network serves all scales, kernels and noise levels.

    Args:
        iterations: data steps, each followed by the denoiser, which is the same in all.
        channels: of the denoiser's scales.
        hidden: width of the network that makes the alphas and betas.
        blocks: residual blocks at each scale.
    """

    def __init__(self, iterations: int, channels: tuple[int, ...], hidden: int, blocks: int):
        super().__init__()
        self.iterations, self.channels, self.hidden, self.blocks = iterations, tuple(channels), hidden, blocks
        self.denoiser = ResUNet(self.channels, blocks)
        self.schedule = nn.Sequential(
            nn.Conv2d(2, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, 2 * iterations, 1),
            nn.Softplus(),
        )

    def weights(self, noise_std: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        """The alphas and betas, (n, iterations, 1, 1) each, for noise levels (n, 1, 1, 1)."""
        both = self.schedule(torch.cat([noise_std, torch.full_like(noise_std, scale)], 1)) + 1e-6
        alphas, betas = both.chunk(2, 1)
        return alphas, betas

    def forward(self, lr: Tensor, kernel: Tensor, scale: int, noise_std: Tensor) -> Tensor:
        """The image (n, 3, sh, sw) of LR images (n, 3, h, w) with kernels (n, 1, K, K) of sum 1."""
        alphas, betas = self.weights(noise_std, scale)
        image = F.interpolate(lr, scale_factor=scale, mode="nearest")
        for alpha, beta in zip(alphas.split(1, 1), betas.split(1, 1), strict=True):
            explained = data_step(image, lr, kernel, scale, alpha)
            # A denoiser that computes in bfloat16 answers in it; there are no Fourier transforms of those.
            image = self.denoiser(explained, beta).to(lr.dtype)
        return image


def save(network: UnrolledNetwork, path: Path, **metadata: object) -> None:
    """Write a network as safetensors; what it needs to be rebuilt, and ``metadata``, travel in the header."""
    stored.save(network, SHAPE, path, metadata)


def load(path: Path) -> UnrolledNetwork:
    """A trained network from a file that ``save`` wrote."""
    return stored.load(UnrolledNetwork, SHAPE, path, "USRNet that experiments/train_usrnet.py wrote")


def bundled() -> UnrolledNetwork:
    """Our tiny USRNet, trained by experiments/train_usrnet.py on photographs of free licences."""
    return load(Path(str(files("kernelsr") / "weights" / "usrnet_tiny.safetensors")))
