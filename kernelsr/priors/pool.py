"""A kernel of any family that is read off the spectrum of the LR image, without a loop or a training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.beliefs import Posterior, Settled
from kernelsr.families import KernelFamily
from kernelsr.pool_likelihood import NOISE, TRUST, WINDOW, PoolLikelihood
from kernelsr.problem import Doubt, Problem

TEMPER = 4.0
"""The posterior to the power 1/TEMPER is as sure as it may be: experiments/pool_calibration.py."""


class Pool(Posterior):
    """The mean of the posterior over a pool of kernels, drawn from any family; nothing learns afterwards.

    Each kernel of the pool is as likely as the periodogram of y is with it and the photograph and noise that suit it best,
    by the model of ``Spectral``. A spectrum tells neither a kernel's position, which is the convention's, nor whether it is
    upside down: of two kernels that are turned by half a circle, both are equally likely.

    ``pool`` (n, 1, K, K) are its kernels, ``weights`` (n,) the posterior's, by which the mean is taken. These tempered are
    ``calibrated`` (n,): by them the central 90 % hold about 90 % of the true sizes, and ``doubt`` is the spread of the size.
    ``noise_std`` is the noise of the channels' mean beside the likeliest kernel.

    As a start it may hold a loop, as firmly as the second moments of the pool about the mean say, by ``calibrated``, and what
    lies between its kernels: how far the next one is away, in their mean square, spread over all pixels.

    Args:
        family: of the pool.
        count: how many are drawn, by ``rng``; more come nearer to the true one.
        trust: y is worth so many independent numbers times the root of its pixels. The windows of one photograph err alike,
            so that twice the pixels tell less than twice as much.
        window: side of the windows, half overlapping, whose periodograms are averaged; LR pixels.
        weight: of the penalty that holds a loop to the posterior, beside a mean squared error of images in [0, 1].
        settled: the spread of the size's logarithm up to which the kernel is settled, so that no loop begins there, or such
            spreads by scale.

    Raises:
        ValueError: no kernel, no trust, a window too small for a spectrum or for the kernels, a negative weight or spread,
            or a pool of one kernel that is to hold a loop.
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
        weight: float = 0.0,
        settled: Settled = 0.0,
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
        self.register_buffer("mean", torch.einsum("n,nchw->chw", weights.to(drawn), drawn)[None])
        self.noise_std = (unknowns[loss.argmin(), NOISE] / 2).exp().item()
        calibrated, sizes = tempered(weights, TEMPER), log_sizes(drawn.cpu().double())
        self.register_buffer("calibrated", calibrated.to(drawn))
        self.doubt = Doubt((calibrated @ (sizes - calibrated @ sizes).square()).sqrt().item())
        self.as_start(weight, settled, problem.scale)
        if self.holds:
            self.register_buffer("precision", _precision(drawn.cpu().double(), weights, calibrated).to(drawn))

    def forward(self) -> Tensor:
        return self.get_buffer("mean")

    def away(self, kernel: Tensor) -> Tensor:
        return (kernel / kernel.sum() - self()).flatten()  # a flow's kernels do not sum to one


def log_sizes(pool: Tensor) -> Tensor:
    """The logarithms (n,) of the variances of kernels (n, 1, K, K)."""
    return (kernels.moments(pool).diagonal(dim1=1, dim2=2).sum(1) / 2).clamp(min=1e-3).log()


def tempered(weights: Tensor, temper: float) -> Tensor:
    """Weights to the power 1/temper, which sum to one again."""
    return (weights.log() / temper).softmax(0)


def _precision(pool: Tensor, weights: Tensor, calibrated: Tensor) -> Tensor:
    """That (K*K, K*K) of a kernel's pixels about the mean by ``weights``."""
    flat = pool.flatten(1)
    away = flat - weights @ flat
    apart = torch.cdist(flat, flat).square()
    nearest = apart.masked_fill(apart < 1e-12, math.inf).amin(1)  # what is twice in the pool is no other
    if nearest.isinf().any():
        raise ValueError("a pool of one kernel says nothing of how far others may be; leave out weight, or draw more")
    between = (calibrated @ nearest) / flat.shape[1] * torch.eye(flat.shape[1], dtype=flat.dtype)
    return torch.linalg.inv(away.T * calibrated @ away + between)
