"""Families: distributions over kernels that one *draws* from; (n, problem, rng) -> (n, 1, K, K)."""

from kernelsr.families.family import KernelFamily
from kernelsr.families.gaussian import (
    AnisotropicGaussian,
    IsotropicGaussian,
    dkp_released_variances,
    fkp_variances,
    gaussian_kernel,
    mean_kernel,
    variance_range,
)
from kernelsr.families.motion import LinearMotion, RandomMotion

__all__ = [
    "AnisotropicGaussian",
    "IsotropicGaussian",
    "KernelFamily",
    "LinearMotion",
    "RandomMotion",
    "dkp_released_variances",
    "fkp_variances",
    "gaussian_kernel",
    "mean_kernel",
    "variance_range",
]
