"""The draws of the FKP protocol's released generator, in its order; the second kernel depends on the first image's size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernelsr.families import AnisotropicGaussian, IsotropicGaussian, gaussian_kernel, variance_range


@dataclass(frozen=True)
class LegacyDraws:
    """The FKP protocol's draws of one image, in its order from NumPy's legacy generator.

    variance_1, variance_2, angle; K*K uniforms of kernel noise; one uniform for sigma; h*w*3 normals, drawn even at zero
    noise and for grey images (which take the first channel's). Isotropic kernels draw one variance and no angle.
    """

    family: AnisotropicGaussian
    scale: int
    kernel_size: int
    centre: str
    noise_std: float
    rng: np.random.RandomState

    def __call__(self, lr_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The kernel (1, 1, K, K) in float64 and the image noise (1, 3, h, w) in float32."""
        low, high = variance_range(self.family.variances, self.scale)
        first = low + self.rng.rand() * (high - low)
        isotropic = isinstance(self.family, IsotropicGaussian)
        second = first if isotropic else low + self.rng.rand() * (high - low)
        angle = 0.0 if isotropic else self.rng.rand() * math.pi
        relative = (2 * self.rng.rand(self.kernel_size, self.kernel_size) - 1) * self.family.noise
        kernel = gaussian_kernel(
            *(torch.tensor([value], dtype=torch.float64) for value in (first, second, angle)),
            kernel_size=self.kernel_size,
            scale=self.scale,
            centre=self.centre,
            noise=torch.from_numpy(relative)[None, None],
        )
        sigma = self.noise_std * self.rng.rand()
        noise = sigma * self.rng.standard_normal((*lr_size, 3))
        return kernel, torch.from_numpy(noise).float().permute(2, 0, 1)[None]
