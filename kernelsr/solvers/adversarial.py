"""The internal game: the kernel by which an image's patches, degraded once more, look like its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from kernelsr import kernels
from kernelsr.adversaries import Adversary, Discriminator
from kernelsr.crops import Crops, importance
from kernelsr.learner import KernelPrior, Restorer
from kernelsr.problem import Estimate, Problem, Progress


def adversarial(
    problem: Problem,
    prior: KernelPrior,
    restorer: Restorer | None,
    *,
    adversary: Callable[[Problem, torch.Generator, int], Adversary] = Discriminator,
    steps: int = 3000,
    crop: int = 64,
    patch: int = 7,
    batch: int = 1,
    adversary_moves: int = 1,
    prior_moves: int = 1,
    significant: int = 0,
    seed: int = 0,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Estimate:
    """Estimate the kernel from the image's own patches; KernelGAN (2019), section 3, and KernelGAN-FKP (2021), section 4.3.

    Patches of a photograph recur at smaller scales of it, and most alike where the downscaling is by the camera's own
    kernel. So y itself is the high-resolution image of a game: the prior degrades crops of y by its kernel, and an adversary
    learns to tell the result from crops of y. A prior of several passes plays for one of them. No image is made.

    Args:
        adversary: (problem, rng, patch) -> the other player.
        steps: of the game, each on new crops.
        crop: side of the crops of y that are degraded, LR pixels.
        patch: side of what the adversary looks at, odd.
        batch: crops a step.
        adversary_moves, prior_moves: of each player a step.
        significant: pixels of the kernel that count at the end: three quarters of the next one's value is taken off every
            pixel, and what is then negative is 0. 0 keeps all.
        seed: of crops, noise and the adversary's first weights.
        on_step: called after each step.

    Returns:
        The last kernel, of unit sum and at the convention's centre, which the game leaves free; no image.
    """
    _refuse(prior, restorer)
    for name, value in (("steps", steps), ("batch", batch), ("prior_moves", prior_moves)):
        if value < 1:
            raise ValueError(f"{name} is {value}; the game needs at least one")
    if patch < 3 or patch % 2 == 0:
        raise ValueError(f"patch is {patch}; it must be odd and at least 3")
    rng, player = torch.Generator().manual_seed(seed), prior.one_pass()
    scale = round(problem.scale ** (1 / prior.passes))
    size = player().shape[-1]
    y, crop, side, patch = _fitted(problem, crop, patch, size, scale)
    judge = adversary(problem, rng, patch)
    sources, reals = Crops(y, crop, _important_below(y, scale)), Crops(y, side, importance(y))
    own = [parameter for parameter in player.parameters() if parameter.requires_grad]
    for step in range(steps):
        source, real = sources.draw(batch, rng), reals.draw(batch, rng)
        fake = degrade_crops(source, player().detach(), scale)
        for turn in range(adversary_moves):
            judge.loss(real, fake).backward()
            judge.step(step * adversary_moves + turn)
        for turn in range(prior_moves):
            player.advance(partial(_exposures, judge, source, scale))
            kernel = player()
            loss = judge.exposure(degrade_crops(source, kernel, scale)) + player.penalty(kernel)
            loss.backward(inputs=own)
            player.step(step * prior_moves + turn)
        whole = kernels.repeated(kernel.detach(), prior.passes, problem.kernel_size)
        on_step(Progress(step, loss.detach(), None, whole))
    found = finished(kernel.detach(), significant, kernels.centre(problem.centre, size, scale))
    return Estimate(None, kernels.normalise(kernels.repeated(found, prior.passes, problem.kernel_size)))


def degrade_crops(source: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Crops (n, C, h, w) degraded by a kernel (1, 1, K, K) where it lies inside them: (n, C, (h - K)//s + 1, ...)."""
    return F.conv2d(source.flatten(0, 1)[:, None], kernel, stride=scale).unflatten(0, source.shape[:2])[:, :, 0]


def finished(kernel: Tensor, significant: int, middle: float) -> Tensor:
    """A kernel (1, 1, K, K) without negative and insignificant values, its centre of mass at ``middle``, of sum 1.

    The game sees the distribution of patches only, which a shift does not change; the convention decides where it lies.
    """
    if 0 < significant < kernel.numel():
        kernel = kernel - 0.75 * kernel.flatten().sort(descending=True).values[significant]
    return kernels.normalise(kernels.recentre(kernel.clamp(min=0), middle))


@torch.no_grad()
def _exposures(judge: Adversary, source: Tensor, scale: int, candidates: Tensor) -> Tensor:
    """How fake (n,) each of n candidate kernels makes the crops look: what a dynamic prior listens to."""
    return torch.stack([judge.exposure(degrade_crops(source, kernel[None], scale)) for kernel in candidates])


def _important_below(y: Tensor, scale: int) -> Tensor:
    """The importance, on y's grid, of what is left of y after downscaling."""
    small = F.interpolate(y, scale_factor=1 / scale, mode="bicubic", antialias=True)
    return importance(small).repeat_interleave(scale, 0).repeat_interleave(scale, 1)


def _fitted(problem: Problem, crop: int, patch: int, size: int, scale: int) -> tuple[Tensor, int, int, int]:
    """What of y is played with; sides of crop, degraded crop and patch that fit into it.

    What a circular blur may have carried across y's border is cut off, where enough is left.
    """
    y = 2 * problem.lr - 1
    least = size + 4 * scale  # so that patches of three pixels still have neighbours to be normalised with
    shorter = min(y.shape[-2:])
    if shorter < least:
        passes = " or prior=repeated" if scale == problem.scale and scale in (4, 8) else ""
        raise ValueError(
            f"solver=adversarial needs {least} pixels a side to degrade them by a {size}x{size} kernel at scale={scale}, "
            f"the image has {shorter}; use a larger image, or choose solver=joint restorer=dip{passes}"
        )
    if crop < least:
        raise ValueError(
            f"solver.crop is {crop}; a {size}x{size} kernel at scale={scale} needs crops of at least {least} pixels"
        )
    margin = min(-(-(problem.kernel_size // 2) // problem.scale), (shorter - least) // 2)
    height, width = ((n - 2 * margin) // scale * scale for n in y.shape[-2:])
    y = y[..., margin : margin + height, margin : margin + width]
    played = min(crop, height, width)
    side = (played - size) // scale + 1
    seen = min(patch, (side - 2) // 2 * 2 + 1)
    if (played, seen) != (crop, patch):
        warnings.warn(
            f"the image is small for crops of {crop} pixels and patches of {patch}: "
            f"the game is played with crops of {played} and patches of {seen}",
            stacklevel=3,
        )
    return y, played, side, seen


def _refuse(prior: KernelPrior, restorer: Restorer | None) -> None:
    """What this solver cannot work with, in a sentence."""
    if restorer is not None:
        raise ValueError(
            "solver=adversarial makes no image while it seeks the kernel; choose restorer=none, and nonblind=usrnet for an "
            "image afterwards"
        )
    if not any(parameter.requires_grad for parameter in prior.parameters()):
        raise ValueError(
            f"solver=adversarial moves the prior's kernel, and {type(prior).__name__} learns nothing; choose "
            f"prior=deep_linear, or solver=direct"
        )
    if prior.holding is not None:
        raise ValueError(
            "solver=adversarial has no data loss beside which a start could hold the kernel; set start.weight=0, or choose "
            "solver=joint"
        )
