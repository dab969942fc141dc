"""Gaussian kernels: the FKP protocol's, their ranges of variances, and the mean kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.families.family import uniform
from kernelsr.problem import Problem


def fkp_variances(scale: int) -> tuple[float, float]:
    """The range of a Gaussian kernel's variances in the FKP protocol, HR pixels squared: 0.175 s to min(2.5 s, 10)."""
    return 0.175 * scale, min(2.5 * scale, 10.0)


def dkp_released_variances(scale: int) -> tuple[float, float]:
    """The range that DKP's released code samples its random kernels from: FKP's moved up by s - 1 and s + 6.

    22/29/32 % of the test kernels' variances at x2/x3/x4 lie below it, that is below the prior's support.
    """
    low, high = fkp_variances(scale)
    return low + 3 + (scale - 4), high + 10 + (scale - 4)


def variance_range(variances: str | tuple[float, float], scale: int) -> tuple[float, float]:
    """A range of variances by name (``matched`` to the FKP protocol, ``released`` by DKP) or as (low, high)."""
    if variances == "matched":
        return fkp_variances(scale)
    if variances == "released":
        return dkp_released_variances(scale)
    if isinstance(variances, str):
        raise ValueError(f"variances is {variances!r}; choose matched, released or two numbers (low, high)")
    low, high = variances
    if not 0 < low <= high:
        raise ValueError(f"variances is {low, high}; the range must be positive and ascending")
    return float(low), float(high)


def gaussian_kernel(
    variance_1: Tensor,
    variance_2: Tensor,
    angle: Tensor,
    *,
    kernel_size: int,
    scale: int,
    centre: str = "fkp",
    noise: Tensor | None = None,
) -> Tensor:
    """Anisotropic Gaussian kernels of the FKP protocol, (n, 1, K, K); Liang et al. (2021), section 4.1.

    Drawn around K//2 + (s - K%2)/2, multiplied by 1 + noise, moved by a cubic spline shift so that the centre of mass is
    the convention's, and divided by the sum. In float64 it equals the protocol's kernels to rounding.

    Args:
        variance_1, variance_2: (n,) along the principal axes, HR pixels squared.
        angle: (n,) of the first axis, radians.
        noise: (n, 1, K, K) relative error of each pixel, or None.
    """
    place = torch.arange(kernel_size, dtype=angle.dtype, device=angle.device)
    place = place - (kernel_size // 2 + 0.5 * (scale - kernel_size % 2))
    x, y = place[None, None, :], place[None, :, None]
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = x * cosine + y * sine, y * cosine - x * sine
    kernel = torch.exp(-0.5 * (along**2 / variance_1[:, None, None] + across**2 / variance_2[:, None, None]))[:, None]
    if noise is not None:
        kernel = kernel * (1 + noise)
    return kernels.normalise(kernels.recentre(kernel, kernels.centre(centre, kernel_size, scale)))


def mean_kernel(problem: Problem) -> Tensor:
    """The isotropic Gaussian of the FKP range's mean variance, (1, 1, K, K) in float64: what is known before looking.

    The start of priors that may choose theirs, and the floor that an estimate has to clear.
    """
    size = problem.kernel_size
    place = torch.arange(size, dtype=torch.float64) - kernels.centre(problem.centre, size, problem.scale)
    profile = torch.exp(-(place**2) / sum(fkp_variances(problem.scale)))  # exp(-d^2 / 2v), v half the sum
    return kernels.normalise(torch.outer(profile, profile)[None, None])


@dataclass(frozen=True)
class AnisotropicGaussian:
    """Anisotropic Gaussian kernels, variances and angle uniform: the family that FKP and DKP are tested on.

    Args:
        variances: ``matched`` (the FKP protocol's range for the scale), ``released`` (DKP's sampling range) or (low, high).
        noise: each pixel is multiplied by 1 + U(-noise, noise) before the shift (0.4 for the papers' non-Gaussian kernels).
    """

    variances: str | tuple[float, float] = "matched"
    noise: float = 0.0

    def __post_init__(self) -> None:
        # Here, since the papers' legacy draws take the noise without a call.
        if not 0 <= self.noise < 1:
            raise ValueError(f"noise is {self.noise}; it must lie in [0, 1), the papers use 0.4")

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        low, high = variance_range(self.variances, self.drawn_at(problem.scale, problem.kernel_size)[0])
        first, second = uniform((n,), low, high, rng), uniform((n,), low, high, rng)
        return self._render(first, second, uniform((n,), 0, math.pi, rng), problem, rng)

    def drawn_at(self, scale: int, kernel_size: int) -> tuple[int, int]:
        """The scale and support for which the numbers of a kernel are drawn."""
        return scale, kernel_size

    def rendered(
        self,
        first: Tensor,
        second: Tensor,
        angle: Tensor,
        noise: Tensor | None,
        *,
        scale: int,
        kernel_size: int,
        centre: str,
    ) -> Tensor:
        """The kernels (n, 1, K, K) of drawn variances, angles and noise."""
        return gaussian_kernel(first, second, angle, kernel_size=kernel_size, scale=scale, centre=centre, noise=noise)

    def _render(self, first: Tensor, second: Tensor, angle: Tensor, problem: Problem, rng: torch.Generator) -> Tensor:
        _, size = self.drawn_at(problem.scale, problem.kernel_size)
        noise = uniform((len(first), 1, size, size), -self.noise, self.noise, rng) if self.noise else None
        shape = {"scale": problem.scale, "kernel_size": problem.kernel_size}
        return self.rendered(first, second, angle, noise, **shape, centre=problem.centre).to(problem.lr)


@dataclass(frozen=True)
class IsotropicGaussian(AnisotropicGaussian):
    """Isotropic Gaussian kernels: one variance, no angle."""

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        variance = uniform((n,), *variance_range(self.variances, problem.scale), rng)
        return self._render(variance, variance, torch.zeros_like(variance), problem, rng)
