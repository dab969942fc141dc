"""Grey LR patches of photographs, degraded on the fly: what the networks of prior=amortised are trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional as F

from experiments import camera_noise
from kernelsr.capture import jpeg
from kernelsr.colours import grey
from kernelsr.families import fkp_variances, gaussian_kernel
from kernelsr.images import image_files, read_image
from kernelsr.problem import fkp_kernel_size

COPIES = 7


@dataclass(frozen=True)
class Degraded:
    """LR patches (n, 1, side, side) and their noise (n,), where the photographs are.

    The noise is all that was added; ``level`` (n,) is that of the noise among it, white or a camera's, and not of JPEG, and
    ``photograph`` (n,) says which one was degraded; both on the CPU.
    """

    patches: Tensor
    noise_std: Tensor
    level: Tensor
    photograph: Tensor


def gaussians(count: int, scale: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Kernels (n, 1, K, K) of the FKP protocol, and their covariances (n, 2, 2) in LR pixels squared."""
    low, high = fkp_variances(scale)
    variances = low + (high - low) * torch.rand(2, count, generator=rng, dtype=torch.float64)
    angle = math.pi * torch.rand(count, generator=rng, dtype=torch.float64)
    kernel = gaussian_kernel(variances[0], variances[1], angle, kernel_size=fkp_kernel_size(scale), scale=scale)
    cosine, sine = angle.cos(), angle.sin()
    # The first axis of the protocol's angle is (x, y) = (cos, sin), and a covariance is (row, column).
    axes = torch.stack([torch.stack([sine, cosine], 1), torch.stack([cosine, -sine], 1)], 2)
    covariance = axes @ torch.diag_embed(variances.T) @ axes.mT / scale**2
    return kernel.float(), covariance.float()


class LrPatches:
    """Photographs as grey bytes at several sizes, each sharper than the one before; patches are degraded when drawn.

    Args:
        paths: photographs.
        shrink: by how much the largest and the smallest copy are smaller.
        device: where the copies are kept, and patches are made but for JPEG's codec. What is random is drawn on the CPU,
            the same everywhere.
    """

    def __init__(self, paths: list[Path], shrink: Sequence[float] = (1.0, 4.0), device: str = "cpu"):
        self.copies: list[list[Tensor]] = []
        for path in paths:
            bright = grey(read_image(path))
            self.copies.append([_smaller(bright, factor).to(device) for factor in factors(shrink)])

    def draw(
        self, kernel: Tensor, side: int, scale: int, rng: torch.Generator, cfg: DictConfig, hard: float = 1.0
    ) -> Degraded:
        """A patch for each of kernels (n, 1, K, K) at one scale, of a photograph, sharpness and noise each.

        ``hard`` is the share of the noise, JPEG and softness of ``cfg`` that there is.
        """
        count = len(kernel)
        need = (side - 1) * scale + kernel.shape[-1]
        crops, photograph = zip(*(self._crop(need, rng, cfg, hard) for _ in range(count)), strict=True)
        sharp = torch.cat(crops, 1)
        lr = F.conv2d(sharp, kernel.to(sharp), stride=scale, groups=count).transpose(0, 1)
        level = (
            cfg.loudest / 255 * torch.rand(count, generator=rng) * (torch.rand(count, generator=rng) < hard * cfg.noisy)
        )
        clean = lr
        noise = torch.randn(lr.shape, generator=rng)
        if cfg.smoothed:  # or other patches would be drawn than those of a training without
            for place in (torch.rand(count, generator=rng) < cfg.smoothed).nonzero()[:, 0].tolist():
                noise[place] = camera_noise.drawn(side, rng)[0]
        lr = clean + (level[:, None, None, None] * noise).to(lr)
        lr = (lr.clamp(0, 1) * 255).round() / 255
        packed = torch.rand(count, generator=rng) < hard * cfg.compressed
        for place in packed.nonzero()[:, 0].tolist():
            quality = int(torch.randint(cfg.jpeg[0], cfg.jpeg[1] + 1, (), generator=rng))
            lr[place] = jpeg(lr[place : place + 1], quality)[0]
        added = (lr - clean).square().mean((1, 2, 3)).sqrt()
        return Degraded(lr, added, level, torch.tensor(photograph))

    def _crop(self, need: int, rng: torch.Generator, cfg: DictConfig, hard: float) -> tuple[Tensor, int]:
        """A square (1, 1, need, need) of some photograph at some size, turned, and perhaps softened; and which it is."""
        large = [number for number, copies in enumerate(self.copies) if min(copies[0].shape) >= need]
        if not large:
            raise ValueError(f"no photograph has {need} pixels a side; set a smaller side, scale or shrink")
        number = large[int(torch.randint(len(large), (), generator=rng))]
        fitting = [copy for copy in self.copies[number] if min(copy.shape) >= need]
        photograph = fitting[int(torch.randint(len(fitting), (), generator=rng))]
        crop = _lively(photograph, need, rng, cfg.places)[None, None]
        turns = torch.rand(4, generator=rng).tolist()
        crop = crop.flip([2 + dim for dim, turn in enumerate(turns[:2]) if turn < 0.5])
        crop = crop.mT if turns[2] < 0.5 else crop
        softness = torch.rand((), generator=rng).item() * cfg.softest
        if turns[3] < hard * cfg.soft and softness > 0.2:
            place = torch.arange(-4, 5, dtype=torch.float32)
            profile = torch.exp(-(place**2) / (2 * softness**2))
            profile = (profile / profile.sum()).to(crop)
            padded = F.pad(crop, (4, 4, 4, 4), mode="reflect")
            crop = F.conv2d(F.conv2d(padded, profile.view(1, 1, 1, 9)), profile.view(1, 1, 9, 1))
        return crop, number


def _lively(photograph: Tensor, need: int, rng: torch.Generator, places: int) -> Tensor:
    """A square of a photograph: that with most texture of some places, one to ``places``."""
    best, clearest = None, -1.0
    for _ in range(int(torch.randint(1, places + 1, (), generator=rng))):
        down, across = torch.rand(2, generator=rng).tolist()
        top, left = (int(u * (length - need + 1)) for u, length in zip((down, across), photograph.shape, strict=True))
        crop = photograph[top : top + need, left : left + need].float() / 255
        texture = (crop[::2, 2::2] - crop[::2, :-2:2]).abs().mean().item()
        if texture > clearest:
            best, clearest = crop, texture
    assert best is not None
    return best


def factors(shrink: Sequence[float]) -> list[float]:
    """By how much each copy of a photograph is smaller."""
    return (torch.logspace(0, 1, COPIES, shrink[1] / shrink[0]) * shrink[0]).tolist()


def _smaller(grey: Tensor, factor: float) -> Tensor:
    """An image (1, 1, H, W) made smaller, as bytes (h, w)."""
    if factor > 1:
        size = [round(side / factor) for side in grey.shape[-2:]]
        grey = F.interpolate(grey, size, mode="bicubic", antialias=True)
    return (255 * grey.clamp(0, 1)).round().byte()[0, 0]


def photographs(folder: str | Path, held_out: int) -> tuple[list[Path], list[Path]]:
    """Those to train on, and those that are held out: the last by name."""
    paths = [Path(path) for path in image_files(folder)]
    if len(paths) <= held_out:
        raise ValueError(f"{folder} has {len(paths)} photographs, and {held_out} are held out; set held_out")
    return paths[: len(paths) - held_out], paths[len(paths) - held_out :]
