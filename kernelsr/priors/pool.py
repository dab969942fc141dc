"""A kernel of any family that is read off the spectrum of the LR image, without a loop or a training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.families import KernelFamily
from kernelsr.learner import KernelPrior
from kernelsr.pool_likelihood import NOISE, TRUST, WINDOW, PoolLikelihood
from kernelsr.problem import Doubt, Problem


class Pool(KernelPrior):
    """The mean of the posterior over a pool of kernels, drawn from any family; nothing learns afterwards.

    Each kernel of the pool is as likely as the periodogram of y is with it and the photograph and noise that suit it best,
    by the model of ``Spectral``. A spectrum tells neither a kernel's position, which is the convention's, nor whether it is
    upside down: of two kernels that are turned by half a circle, both are equally likely.

    ``weights`` (n,) are the posterior's, ``pool`` (n, 1, K, K) its kernels; ``doubt`` is the spread of the kernel's size, and
    ``noise_std`` the noise of the channels' mean beside the likeliest.

    Args:
        family: of the pool.
        count: how many are drawn, by ``rng``; more come nearer to the true one.
        trust: y is worth so many independent numbers times the root of its pixels. The windows of one photograph err alike,
            so that twice the pixels tell less than twice as much.
        window: side of the windows, half overlapping, whose periodograms are averaged; LR pixels.

    Raises:
        ValueError: no kernel, no trust, or a window too small for a spectrum or for the kernels.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        family: KernelFamily,
        count: int = 2000,
        trust: float = TRUST,
        window: int = WINDOW,
    ):
        super().__init__()
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"count is {count}; a pool has one kernel at least (2000 is the default)")
        if not trust > 0:
            raise ValueError(f"trust is {trust}; it must be positive (1.6 is the default)")
        grey = problem.lr[0].detach().mean(0).cpu().double()
        drawn = family(count, problem, rng)
        likelihood = PoolLikelihood(grey, problem.scale, window, drawn.detach().cpu(), problem.noise_std)
        loss, unknowns = likelihood.fit(trust * math.sqrt(grey.numel()))
        weights = (-loss.double()).softmax(0)
        self.register_buffer("pool", drawn)
        self.register_buffer("weights", weights.to(drawn))
        self.noise_std = (unknowns[loss.argmin(), NOISE] / 2).exp().item()
        self.doubt = Doubt(_spread(drawn.cpu().double(), weights))

    def forward(self) -> Tensor:
        return torch.einsum("n,nchw->chw", self.get_buffer("weights"), self.get_buffer("pool"))[None]


def _spread(pool: Tensor, weights: Tensor) -> float:
    """The standard deviation of the logarithm of the variance of kernels, by their weights."""
    sizes = (kernels.moments(pool).diagonal(dim1=1, dim2=2).sum(1) / 2).clamp(min=1e-3).log()
    return (weights @ (sizes - weights @ sizes).square()).sqrt().item()
