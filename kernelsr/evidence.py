"""Whether an LR image looks like one that no Gaussian blurred: what its spectrum says of families against one another."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from kernelsr.families import AnisotropicGaussian, Disk, KernelFamily, LinearMotion, RandomMotion
from kernelsr.pool_likelihood import TRUST, WINDOW, PoolLikelihood
from kernelsr.problem import Problem

OTHERS: tuple[KernelFamily, ...] = (Disk(), LinearMotion(length="any"), RandomMotion())
COUNT = 400
"""Kernels of each family up to x4; fewer beyond, where each costs as many more frequencies."""


def against_gaussians(problem: Problem) -> float:
    """The logarithm of how much likelier y is under disks, lines or shakes, one as likely as another, than under Gaussians.

    The ratio of the mean likelihoods of kernels drawn from either, photograph and noise being the likeliest beside each
    kernel and y counting as little as for ``priors.Pool``; but for these two a Bayes factor. Where few kernels suit y,
    another draw gives another by some units. It does not ask which kernel was found.
    """
    grey = problem.lr[0].detach().mean(0).cpu().double()
    count = COUNT * 16 // max(problem.scale, 4) ** 2
    pool = _pool(count, problem.scale, problem.kernel_size, problem.centre)
    window = max(WINDOW, -(-problem.kernel_size // problem.scale))
    loss, _ = PoolLikelihood(grey, problem.scale, window, pool, problem.noise_std).fit(TRUST * math.sqrt(grey.numel()))
    gaussians, *others = (-loss.double()).split(count)
    rest = torch.cat(others)
    return (rest.logsumexp(0) - math.log(len(rest)) - gaussians.logsumexp(0) + math.log(count)).item()


@lru_cache(maxsize=8)
def _pool(count: int, scale: int, kernel_size: int, centre: str) -> Tensor:
    """The same kernels for every image: Gaussians first, then the others, ``count`` of each."""
    posed = Problem(torch.zeros(1, 1, kernel_size, kernel_size), scale, kernel_size=kernel_size, centre=centre)
    rng = torch.Generator().manual_seed(0)
    return torch.cat([family(count, posed, rng) for family in (AnisotropicGaussian(), *OTHERS)])
