"""A Gaussian kernel that is read off the spectrum of the LR image, without a loop."""

from __future__ import annotations

import math

import torch

from kernelsr.beliefs import Belief, Believed
from kernelsr.families import fkp_variances
from kernelsr.problem import Problem
from kernelsr.whittle import NOISE, PHOTOGRAPHS, SHAPE, Whittle, known_noise


class Spectral(Believed):
    """The Gaussian that explains y's spectrum best, together with a power law for the image; nothing learns afterwards.

    The periodogram of y is expected to be the mean over the s*s aliases of |H|^2 S, plus the noise: H of a Gaussian kernel of
    any covariance, S of a photograph. Its Whittle likelihood times what is known beforehand of all unknowns is maximised by
    L-BFGS in float64. The kernel's position is the convention's: a spectrum tells none.

    ``belief`` is about the kernel's shape, its precision that of the likelihood; ``slope`` and ``noise_std`` are what it
    found besides, ``before`` (3,) the precisions of what it knew of the shape.

    Args:
        trust: how many independent numbers a pixel of y is worth. It would be 1/2 were photographs Gaussian and their
            spectra of this form.
        window: side of the windows, half overlapping, whose periodograms are averaged; LR pixels.
        spread: how well the kernel is known beforehand, about an isotropic one of the FKP range: standard deviation of the
            logarithm of its mean variance, and of the two components of its stretch.
        weight: of the penalty that holds a loop to the belief.

    Raises:
        ValueError: the window is too small for a spectrum, or trust or spread is not positive.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        trust: float = 0.05,
        window: int = 32,
        spread: tuple[float, float] = (0.5, 0.35),
        weight: float = 0.0,
    ):
        super().__init__()
        if trust <= 0:
            raise ValueError(f"trust is {trust}; it must be positive (0.05 is the default)")
        if len(spread) != 2 or min(spread) <= 0:
            raise ValueError(f"spread is {tuple(spread)}; give two positive numbers (0.5 and 0.35 are the default)")
        grey = problem.lr[0].detach().mean(0).cpu().double()
        # The mean of the logarithms of variances lies about 0.2 below the logarithm of their mean.
        size = math.log(sum(fkp_variances(problem.scale)) / 2) - 0.2
        kernel = {"size": (size, spread[0]), "stretch": (0.0, spread[1]), "skew": (0.0, spread[1])}
        noise = {"noise": known_noise(problem.noise_std)}
        likelihood, numbers = Whittle(grey, problem.scale, window, PHOTOGRAPHS | kernel | noise), trust * grey.numel()
        unknowns = likelihood.fit(numbers)
        self.slope, self.noise_std = unknowns[1].item(), (unknowns[NOISE] / 2).exp().item()
        precision = likelihood.precision(unknowns, numbers)
        self.before = torch.tensor([spread[0], spread[1], spread[1]], dtype=torch.float64) ** -2
        self.believe(Belief(unknowns[None, SHAPE], precision[None]), problem, weight)
