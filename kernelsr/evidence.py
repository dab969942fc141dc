"""Whether an LR image looks like one that no Gaussian blurred: what its spectrum says of families against one another."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from kernelsr.families import AnisotropicGaussian, Disk, KernelFamily, LinearMotion, RandomMotion
from kernelsr.pool_likelihood import PoolLikelihood
from kernelsr.problem import Problem

OTHERS: tuple[KernelFamily, ...] = (Disk(), LinearMotion(length="any"), RandomMotion())
COUNT = 400
"""Kernels of each family; an image takes half a second."""
TRUST, WINDOW = 1.6, 32
"""As prior=pool has them, where they were chosen."""


def against_gaussians(problem: Problem) -> float:
    """The logarithm of how much likelier y is under disks, lines or shakes, one as likely as another, than under Gaussians.

    A Bayes factor by plain Monte Carlo: a family's likelihood is the mean over ``COUNT`` kernels drawn from it, of y's
    periodogram and tempered as the posterior of ``priors.Pool`` is. It does not ask which kernel was found.
    """
    grey = problem.lr[0].detach().mean(0).cpu().double()
    pool = _pool(problem.scale, problem.kernel_size, problem.centre)
    window = max(WINDOW, -(-problem.kernel_size // problem.scale))
    loss, _ = PoolLikelihood(grey, problem.scale, window, pool, problem.noise_std).fit(TRUST * math.sqrt(grey.numel()))
    gaussians, *others = (-loss.double()).split(COUNT)
    rest = torch.cat(others)
    return (rest.logsumexp(0) - math.log(len(rest)) - gaussians.logsumexp(0) + math.log(COUNT)).item()


@lru_cache(maxsize=8)
def _pool(scale: int, kernel_size: int, centre: str) -> Tensor:
    """The same kernels for every image: Gaussians first, then the others, ``COUNT`` of each."""
    posed = Problem(torch.zeros(1, 1, kernel_size, kernel_size), scale, kernel_size=kernel_size, centre=centre)
    rng = torch.Generator().manual_seed(0)
    return torch.cat([family(COUNT, posed, rng) for family in (AnisotropicGaussian(), *OTHERS)])
