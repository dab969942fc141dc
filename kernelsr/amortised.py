"""Amortised inference of Gaussian kernels: a network that reads a belief about the kernel's shape off LR patches.

Shapes are those of ``beliefs``, here of covariances in LR pixels squared, so that the scales have much in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernelsr import stored
from kernelsr.beliefs import Belief
from kernelsr.families import fkp_variances
from kernelsr.fusion import Fusion
from kernelsr.problem import EIGHT_BITS

SHAPE = ("widths", "features", "scales")
TURNS = 8
"""The symmetries of a square."""
SMALLEST = 8
"""The side of a patch, LR pixels, below which nothing is to be seen."""
FLAT = 1e-3
"""What is added to the standard deviation of a patch, so that a flat one is not divided by zero."""


class Evidence(NamedTuple):
    """What patches tell of the shape beyond what is known beforehand, and of the noise.

    ``shape`` (n, 3) with ``precision`` (n, 3, 3), positive semi-definite; ``noise`` (n,), the logarithm of the root mean
    square, on the [0, 1] scale, of all that was added to the blurred image: noise, rounding, JPEG.
    """

    shape: Tensor
    precision: Tensor
    noise: Tensor


LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue: what JPEG keeps at full resolution, ITU-R BT.601."""


def luma(image: Tensor) -> Tensor:
    """The grey image (n, 1, h, w) that the network looks at, of a colour image; of any other number of channels the mean."""
    if image.shape[1] != 3:
        return image.mean(1, keepdim=True)
    return torch.einsum("nchw,c->nhw", image, image.new_tensor(LUMA))[:, None]


@torch.no_grad()
def infer(network: PosteriorNetwork, patches: Tensor, scale: int, looks: int = 1) -> tuple[Belief, float]:
    """The belief (1, ...) of square patches (n, 1, h, h) of one image as if independent, and the noise's standard deviation.

    Patches are seen turned and mirrored, each another way, so that no direction is preferred; where they are few, several
    times each, up to ``looks`` in all.

    Raises:
        ValueError: the network was not trained for this scale.
    """
    if scale not in network.scales:
        knows = f"the amortised network knows {network.scales}"
        raise ValueError(f"scale is {scale}, and {knows}; choose prior=spectral or start=spectral")
    count = len(patches)
    before = known(torch.tensor([scale], device=patches.device))
    if patches.shape[-1] < SMALLEST:
        return before, EIGHT_BITS
    often = min(TURNS, max(1, looks // count))
    turns = torch.arange(count * often, device=patches.device) % TURNS
    square = patches.repeat_interleave(often, 0)
    views = torch.stack([turned(patch, int(turn)) for patch, turn in zip(square, turns, strict=True)])
    evidence = turned_back(network(views, torch.full_like(turns, scale)), turns)
    # What there is in a patch no brighter than the rounding to 8 bits is that rounding.
    evidence = evidence._replace(precision=seen(square)[:, None, None] * evidence.precision)
    return combined(before, evidence, 1 / often), evidence.noise.mean().exp().item()


def seen(patches: Tensor) -> Tensor:
    """How much (n,) of patches (n, C, h, w) is not rounding to 8 bits."""
    power = patches.var((1, 2, 3), correction=0)
    return power / (power + EIGHT_BITS**2)


def bundled() -> PosteriorNetwork:
    """Our network for x2 to x8, trained by experiments/train_amortised.py on synthetic Gaussian kernels and photographs."""
    path = Path(str(files("kernelsr") / "weights" / "amortised_gaussian.safetensors"))
    return stored.load(PosteriorNetwork, SHAPE, path, "network that experiments/train_amortised.py wrote")


def known(scale: Tensor) -> Belief:
    """What is known of the shape before looking, at scales (n,): the moments of the FKP protocol's kernels.

    With variances uniform over [a, b], their logarithms have the mean m and the variance v; size has m and v / 2, stretch
    and skew, with an angle that may be any, have 0 and v / 4.
    """
    means, precisions = [], []
    for s in scale.tolist():
        low, high = fkp_variances(int(s))
        first, second = (_log_moments(low, high, power) for power in (1, 2))
        mean, variance = first - 2 * math.log(s), second - first**2
        means.append([mean, 0.0, 0.0])
        precisions.append([2 / variance, 4 / variance, 4 / variance])
    centre, sharpness = (torch.tensor(rows, dtype=torch.float32, device=scale.device) for rows in (means, precisions))
    return Belief(centre, torch.diag_embed(sharpness))


def _log_moments(low: float, high: float, power: int) -> float:
    """The mean of log(v)^power for v uniform over [low, high]."""

    def integral(v: float) -> float:
        log = math.log(v)
        return v * (log - 1) if power == 1 else v * (log**2 - 2 * log + 2)

    return (integral(high) - integral(low)) / (high - low)


def combined(before: Belief, evidence: Evidence, share: float = 1.0) -> Belief:
    """The posteriors (n, ...) of n kernels from m patches each, given in turn, of which each counts as a ``share`` of one."""
    count = len(before.mean)
    precision = share * evidence.precision
    pull = torch.einsum("nij,nj->ni", precision, evidence.shape).reshape(count, -1, 3).sum(1)
    total = torch.einsum("nij,nj->ni", before.precision, before.mean) + pull
    sharper = before.precision + precision.reshape(count, -1, 3, 3).sum(1)
    return Belief(torch.linalg.solve(sharper, total), sharper)


BINS = 16  # of the rows' frequencies; half as many and one of the columns'


def local_contrast(patches: Tensor) -> Tensor:
    """Patches (n, 1, h, w) less their mean over 7 x 7 pixels, in units of the deviation from it: weak edges like strong."""

    def mean(image: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(image, (3, 3, 3, 3), mode="reflect"), 7, 1)

    rest = patches - mean(patches)
    return rest / (mean(rest.square()).sqrt() + 10 * FLAT)


def spectrum(patches: Tensor) -> Tensor:
    """Logarithm of the power of patches (n, 1, h, w) in bins of frequency, half a plane of them."""
    down, across = (torch.hann_window(side, periodic=False, device=patches.device) for side in patches.shape[-2:])
    power = torch.fft.rfft2(patches * down[:, None] * across).abs().square() / (down.sum() * across.sum())
    power = torch.fft.fftshift(power, 2)
    return (F.adaptive_avg_pool2d(power, (BINS, BINS // 2 + 1)) + 1e-4).log().flatten(1) / 3


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class PosteriorNetwork(nn.Module):
    """From grey LR patches and their scale to evidence of the kernel's shape.

    Convolutions at three resolutions, then attention and mean pooling and two linear layers. A patch counts relative to
    its mean and contrast, since both say nothing of the blur; the contrast is given besides, as noise is relative to it.

    Args:
        widths: channels at full, half and quarter resolution.
        features: of the layer before the last.
        scales: those it was trained for.
    """

    def __init__(
        self,
        widths: Sequence[int] = (40, 80, 112),
        features: int = 128,
        scales: Sequence[int] = (2, 3, 4, 8),
    ):
        super().__init__()
        self.widths, self.features, self.scales = tuple(widths), features, tuple(scales)
        first, second, third = widths
        self.layers = nn.Sequential(
            _block(3, first),
            _block(first, first),
            _block(first, second, 2),
            _block(second, second),
            _block(second, second),
            _block(second, third, 2),
            _block(third, third),
            _block(third, third),
        )
        self.attention = nn.Conv2d(third, 1, 1)
        self.head = nn.Sequential(
            nn.Linear(2 * third + 3 + BINS * (BINS // 2 + 1), features), nn.ReLU(inplace=True), nn.Linear(features, 10)
        )
        self.fusion = Fusion(self.scales)

    def forward(self, patches: Tensor, scale: Tensor) -> Evidence:
        """patches (n, 1, h, w) in [0, 1], scale (n,)."""
        mean = patches.mean((2, 3), keepdim=True)
        contrast = (patches - mean).square().mean((2, 3), keepdim=True).sqrt() + FLAT
        size = scale.to(patches).log2()[:, None, None, None] - 1.5
        whole = (patches - mean) / contrast
        looks = torch.cat([whole, local_contrast(patches), size.expand_as(patches)], 1)
        seen = self.layers(looks.contiguous(memory_format=torch.channels_last))
        weight = self.attention(seen).float().flatten(2).softmax(2)
        seen = seen.float().flatten(2)
        pooled = torch.cat([seen.mean(2), (seen * weight).sum(2)], 1)
        area = torch.full_like(size, math.log2(patches.shape[-2] * patches.shape[-1]) - 12)
        facts = torch.cat([size, contrast.log() + 2, area], 1).flatten(1).float()
        with torch.autocast(patches.device.type, enabled=False):
            said = self.head(torch.cat([pooled, facts, spectrum(whole.float())], 1))
        shape, diagonal, lower, noise = said.split([3, 3, 3, 1], 1)
        factor = torch.diag_embed(F.softplus(diagonal + 2))
        rows, columns = torch.tril_indices(3, 3, -1)
        factor = factor.index_put((torch.arange(len(said))[:, None], rows[None], columns[None]), lower)
        return Evidence(shape - torch.tensor([1.5, 0, 0]).to(shape), factor @ factor.mT, noise[:, 0] - 5)


def turned(patch: Tensor, turn: int) -> Tensor:
    """A patch (..., h, w) mirrored (bits 0 and 1: rows, columns) and transposed (bit 2)."""
    patch = patch.flip([dim for bit, dim in ((1, -2), (2, -1)) if turn & bit])
    return patch.mT if turn & 4 else patch


def turned_back(evidence: Evidence, turns: Tensor) -> Evidence:
    """Evidence of patches that were turned by ``turns`` (n,), as of the patches themselves.

    A mirror changes the sign of the skew, a transposition that of the stretch.
    """
    mirrored = ((turns & 1) ^ (turns >> 1 & 1)).to(evidence.shape)
    transposed = (turns >> 2 & 1).to(evidence.shape)
    sign = torch.stack([torch.ones_like(mirrored), 1 - 2 * transposed, 1 - 2 * mirrored], 1)
    return Evidence(evidence.shape * sign, evidence.precision * sign[:, :, None] * sign[:, None, :], evidence.noise)
