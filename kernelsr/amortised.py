"""Amortised inference of Gaussian kernels: a network that reads a belief about the kernel's shape off LR patches.

Shapes are those of ``beliefs``, here of covariances in LR pixels squared, so that the scales have much in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
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
from kernelsr.patch_features import SMALLEST, PatchFeatures, seen
from kernelsr.precision import multiplies_bf16
from kernelsr.problem import EIGHT_BITS
from kernelsr.symmetries import TURNS, turned

SHAPE = ("widths", "features", "scales")


class Evidence(NamedTuple):
    """What patches tell of the shape beyond what is known beforehand, and of the noise.

    ``shape`` (n, 3) with ``precision`` (n, 3, 3), positive semi-definite; ``noise`` (n,), the logarithm of the root mean
    square, on the [0, 1] scale, of all that was added to the blurred image: noise, rounding, JPEG.
    """

    shape: Tensor
    precision: Tensor
    noise: Tensor


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
    # In bfloat16, as it was trained, where that is quicker: kernels of 357 images change by 0.04 dB at most.
    quicker = patches.device.type == "cpu" and multiplies_bf16(unknown=False)
    with torch.autocast(patches.device.type, torch.bfloat16, enabled=quicker):
        of_views = network(views, torch.full_like(turns, scale))
    evidence = straightened(of_views, turns)
    # What there is in a patch no brighter than the rounding to 8 bits is that rounding.
    evidence = evidence._replace(precision=seen(square)[:, None, None] * evidence.precision)
    return combined(before, evidence, 1 / often), evidence.noise.mean().exp().item()


@cache
def bundled(worn: bool = False) -> PosteriorNetwork:
    """Our networks for x2 to x8, trained by experiments/train_amortised.py on synthetic Gaussian kernels and photographs.

    Read from its file once, and then the same network for every image: callers must not train it.

    Args:
        worn: that for images with noise or JPEG, which is worse on others.
    """
    name = "amortised_noisy" if worn else "amortised_gaussian"
    path = Path(str(files("kernelsr") / "weights" / f"{name}.safetensors"))
    return stored.load(PosteriorNetwork, SHAPE, path, "network that experiments/train_amortised.py wrote").folded()


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


class PosteriorNetwork(PatchFeatures):
    """From grey LR patches and their scale to evidence of the kernel's shape, by two linear layers.

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
        super().__init__(widths)
        self.features, self.scales = features, tuple(scales)
        self.head = nn.Sequential(nn.Linear(self.outputs, features), nn.ReLU(inplace=True), nn.Linear(features, 10))
        self.fusion = Fusion(self.scales)

    def forward(self, patches: Tensor, scale: Tensor) -> Evidence:
        """patches (n, 1, h, w) in [0, 1], scale (n,)."""
        looks = self.look(patches, scale)
        with torch.autocast(patches.device.type, enabled=False):
            said = self.head(looks)
        shape, diagonal, lower, noise = said.split([3, 3, 3, 1], 1)
        factor = torch.diag_embed(F.softplus(diagonal + 2))
        rows, columns = torch.tril_indices(3, 3, -1)
        factor = factor.index_put((torch.arange(len(said))[:, None], rows[None], columns[None]), lower)
        return Evidence(shape - torch.tensor([1.5, 0, 0]).to(shape), factor @ factor.mT, noise[:, 0] - 5)


def straightened(evidence: Evidence, turns: Tensor) -> Evidence:
    """Evidence of patches that were turned by ``turns`` (n,), as of the patches themselves.

    A mirror changes the sign of the skew, a transposition that of the stretch.
    """
    mirrored = ((turns & 1) ^ (turns >> 1 & 1)).to(evidence.shape)
    transposed = (turns >> 2 & 1).to(evidence.shape)
    sign = torch.stack([torch.ones_like(mirrored), 1 - 2 * transposed, 1 - 2 * mirrored], 1)
    return Evidence(evidence.shape * sign, evidence.precision * sign[:, :, None] * sign[:, None, :], evidence.noise)
