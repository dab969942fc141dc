"""Families: distributions over kernels that one *draws* from; (n, problem, rng) -> (n, 1, K, K)."""

from kernelsr.families.benchmarks import Div2krk, GaussianSet, TwiceGaussian
from kernelsr.families.disk import Disk
from kernelsr.families.family import KernelFamily, delta_kernel, kernel_size_of
from kernelsr.families.folder import KernelFolder
from kernelsr.families.gaussian import (
    AnisotropicGaussian,
    IsotropicGaussian,
    dkp_released_variances,
    fkp_variances,
    gaussian_kernel,
    mean_kernel,
    variance_range,
)
from kernelsr.families.mixture import Mixture, Noisy
from kernelsr.families.motion import LinearMotion, RandomMotion

__all__ = [
    "AnisotropicGaussian",
    "Disk",
    "Div2krk",
    "GaussianSet",
    "IsotropicGaussian",
    "KernelFamily",
    "KernelFolder",
    "LinearMotion",
    "Mixture",
    "Noisy",
    "RandomMotion",
    "TwiceGaussian",
    "delta_kernel",
    "dkp_released_variances",
    "fkp_variances",
    "gaussian_kernel",
    "kernel_size_of",
    "mean_kernel",
    "variance_range",
]
