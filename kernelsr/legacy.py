"""The draws of the FKP protocol's released generator, in its order; the second kernel depends on the first image's size."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernelsr.families import AnisotropicGaussian, IsotropicGaussian, variance_range


@dataclass(frozen=True)
class LegacyDraws:
    """The FKP protocol's draws of one image, in its order from NumPy's legacy generator.

    variance_1, variance_2, angle; K*K uniforms of kernel noise; one uniform for sigma; h*w*3 normals, drawn even at zero
    noise and for grey images (which take the first channel's). Isotropic kernels draw one variance and no angle. A fixed
    noise level draws its sigma and does not use it.
    """

    family: AnisotropicGaussian
    scale: int
    kernel_size: int
    centre: str
    noise_std: float
    rng: np.random.RandomState
    fixed: bool = False

    def __call__(self, lr_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The kernel (1, 1, K, K) in float64 and the image noise (1, 3, h, w) in float32."""
        drawn_scale, drawn_size = self.family.drawn_at(self.scale, self.kernel_size)
        low, high = variance_range(self.family.variances, drawn_scale)
        first = low + self.rng.rand() * (high - low)
        isotropic = isinstance(self.family, IsotropicGaussian)
        second = first if isotropic else low + self.rng.rand() * (high - low)
        angle = 0.0 if isotropic else self.rng.rand() * math.pi
        relative = (2 * self.rng.rand(drawn_size, drawn_size) - 1) * self.family.noise
        numbers = torch.tensor([[first], [second], [angle]], dtype=torch.float64)
        noisy = torch.from_numpy(relative)[None, None]
        shape = {"scale": self.scale, "kernel_size": self.kernel_size}
        kernel = self.family.rendered(numbers[0], numbers[1], numbers[2], noisy, **shape, centre=self.centre)
        share = self.rng.rand()
        sigma = self.noise_std * (1.0 if self.fixed else share)
        noise = sigma * self.rng.standard_normal((*lr_size, 3))
        return kernel, torch.from_numpy(noise).float().permute(2, 0, 1)[None]


class LegacySequence:
    """The draws of a folder's images, each from where the images before it left the generator.

    Args:
        names: of the images, in order.
        lr_size: the LR size of an image by name, or a ValueError where it cannot be used.
    """

    def __init__(self, draws: LegacyDraws, names: list[str], lr_size: Callable[[str], tuple[int, int]]):
        self.draws, self.names, self.lr_size = draws, names, lr_size
        self.states = {names[0]: draws.rng.get_state(legacy=False)}
        self.drawing = threading.Lock()  # one generator for all images, which may be at work at once

    def __call__(self, name: str, lr_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What ``LegacyDraws`` says, of one image; those before it are drawn once, and remembered."""
        with self.drawing:
            return self._drawn(name, lr_size)

    def _drawn(self, name: str, lr_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        while name not in self.states:
            before = list(self.states)[-1]
            self.draws.rng.set_state(self.states[before])
            with suppress(ValueError):  # an unusable image draws nothing, as if it were not in the folder
                self.draws(self.lr_size(before))
            self.states[self.names[len(self.states)]] = self.draws.rng.get_state(legacy=False)
        self.draws.rng.set_state(self.states[name])
        return self.draws(lr_size)
