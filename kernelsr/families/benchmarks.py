"""The kernels of other papers' benchmarks, from their definitions: Gaussian8, DIV2KRK, and FKP's for KernelGAN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.families.family import bounds, uniform
from kernelsr.families.gaussian import AnisotropicGaussian, gaussian_kernel
from kernelsr.problem import Problem

GAUSSIAN8 = {2: (0.8, 1.6), 3: (1.35, 2.4), 4: (1.8, 3.2)}
DIV2KRK_SIZES = {2: 11, 4: 31}
TWICE_SIZES = {2: 11, 4: 21}


@dataclass(frozen=True)
class GaussianSet:
    """Isotropic Gaussians of equally spaced widths: Gaussian8, on which IKC, DAN and DASR are tested.

    Gu et al. (2019), IKC, section 4.1: eight standard deviations over 0.8-1.6, 1.35-2.4 and 1.8-3.2 for x2, x3 and x4.
    There the blurred image is shrunk by bicubic interpolation; here, as everywhere in this house, it is decimated.

    Args:
        deviations: range (low, high) of the standard deviations, HR pixels; Gaussian8's where it is None.
        count: how many kernels the set has.
        index: the one kernel to take, counted from 0 at the narrowest; where it is None, each draw takes any.
    """

    deviations: tuple[float, float] | None = None
    count: int = 8
    index: int | None = None

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        if self.count < 1:
            raise ValueError(f"count is {self.count}; a set has at least one kernel, Gaussian8 has 8")
        if self.deviations is None and problem.scale not in GAUSSIAN8:
            raise ValueError(f"Gaussian8 has no kernels for x{problem.scale}, only for x2, x3 and x4; give deviations")
        low, high = bounds(self.deviations or GAUSSIAN8[problem.scale], "deviations")
        widths = torch.linspace(low, high, self.count, dtype=torch.float64, device=rng.device)
        if self.index is not None:
            if not 0 <= self.index < self.count:
                raise ValueError(f"index is {self.index}; there are {self.count} kernels, counted from 0")
            widths = widths[self.index : self.index + 1]
        variance = widths[torch.randint(len(widths), (n,), generator=rng, device=rng.device)] ** 2
        size, scale, centre = problem.kernel_size, problem.scale, problem.centre
        kernel = gaussian_kernel(variance, variance, 0 * variance, kernel_size=size, scale=scale, centre=centre)
        return kernels.normalise(kernel.clamp(min=0)).to(problem.lr)


@dataclass(frozen=True)
class Div2krk:
    """The kernels of DIV2KRK: Bell-Kligler et al. (2019), KernelGAN, section 5.

    11x11 anisotropic Gaussians at x2, variances U(0.6, 5), any angle, each pixel times 1 + U(-0.25, 0.25), centre of mass
    at the centre; at x4 the kernel of two such degradations by one x2 kernel, 31x31. KernelGAN's generator uses
    the aligned centre.

    Args:
        variances: range (low, high) along the principal axes, HR pixels squared.
        noise: the largest relative error of a pixel.
    """

    variances: tuple[float, float] = (0.6, 5.0)
    noise: float = 0.25

    def kernel_size(self, scale: int) -> int:
        """11 at x2, 31 at x4."""
        if scale not in DIV2KRK_SIZES:
            raise ValueError(f"DIV2KRK has no kernels for x{scale}, only for x2 and x4; choose another family")
        return DIV2KRK_SIZES[scale]

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        own = self.kernel_size(problem.scale)
        low, high = bounds(self.variances, "variances")
        first, second = uniform((n,), low, high, rng), uniform((n,), low, high, rng)
        angle, noise = uniform((n,), 0, math.pi, rng), uniform((n, 1, 11, 11), -self.noise, self.noise, rng)
        kernel = gaussian_kernel(
            first, second, angle, kernel_size=11, scale=2, centre=problem.centre, noise=noise
        ).clamp(min=0)
        kernel = kernels.normalise(kernel)
        if problem.scale == 4:
            kernel = kernels.convolve_dilated(kernel)
        # Both conventions put the centre a fixed way from the middle pixel, so cutting and padding keep it.
        kernel = kernels.pad_to(kernel, problem.kernel_size)
        if kernel.sum((1, 2, 3)).min() < 0.999:
            raise ValueError(
                f"kernel_size is {problem.kernel_size}, which cuts DIV2KRK's {own}x{own} kernels for x{problem.scale}; "
                f"set kernel_size={own}"
            )
        return kernels.normalise(kernel).to(problem.lr)


@dataclass(frozen=True)
class TwiceGaussian(AnisotropicGaussian):
    """The kernels that FKP compares KernelGAN and KernelGAN-FKP on: Liang et al. (2021), released generator.

    At x2 the FKP protocol's. At x4 an 11x11 kernel of the x2 protocol applied twice, cut to 21x21 and moved back to its
    centre, where DIP-FKP has a single Gaussian of 19x19.
    """

    def kernel_size(self, scale: int) -> int:
        """11 at x2, 21 at x4."""
        if scale not in TWICE_SIZES:
            raise ValueError(f"kernels applied twice are for x2 and x4, not for x{scale}; choose another family")
        return TWICE_SIZES[scale]

    def drawn_at(self, scale: int, kernel_size: int) -> tuple[int, int]:
        """x2, 11x11."""
        self.kernel_size(scale)
        return 2, TWICE_SIZES[2]

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
        drawn_scale, drawn_size = self.drawn_at(scale, kernel_size)
        kernel = super().rendered(first, second, angle, noise, scale=drawn_scale, kernel_size=drawn_size, centre=centre)
        if scale == 2:
            return kernels.pad_to(kernel, kernel_size)
        twice = kernels.normalise(kernels.pad_to(kernels.convolve_dilated(kernel), kernel_size))
        return kernels.normalise(kernels.recentre(twice, kernels.centre(centre, kernel_size, scale)))
