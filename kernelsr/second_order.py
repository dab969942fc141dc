"""The second-order degradation of Real-ESRGAN: blur, resize, noise, JPEG, all twice, and a sinc filter at the end.

Wang et al. (2021), section 3; every range is the default of their published training options. There is no one kernel
that explains such an image: it is for seeing how far a method holds that believes in one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import j1
from torch import Tensor
from torch.nn import functional as F

from kernelsr.capture import jpeg
from kernelsr.colours import grey

SHAPES = ("gaussian", "generalised", "plateau")


@dataclass(frozen=True)
class Order:
    """The ranges of one round of blur, resize, noise and JPEG.

    Args:
        blur: probability that there is one.
        deviations: of the blur's Gaussians along an axis, pixels.
        resize: probabilities to enlarge, to shrink, to keep the size.
        factors: the least and the greatest factor of the resize.
        gaussian: standard deviations of the Gaussian noise, of 255.
        poisson: factors of the Poisson noise.
        quality: of the JPEG.
    """

    blur: float
    deviations: tuple[float, float]
    resize: tuple[float, float, float]
    factors: tuple[float, float]
    gaussian: tuple[float, float]
    poisson: tuple[float, float]
    quality: tuple[float, float] = (30.0, 95.0)


FIRST = Order(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1.0, 30.0), (0.05, 3.0))
SECOND = Order(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1.0, 25.0), (0.05, 2.5))


@dataclass(frozen=True)
class SecondOrder:
    """(image (1, C, H, W), scale, rng) -> the LR image (1, C, H/s, W/s) in [0, 1], at 8 bits.

    The LR pixels lie on the aligned grid, for every resize keeps the image's edges. What differs from the released
    code: the image is not sharpened first, and JPEG is libjpeg's codec and no differentiable likeness of it.

    Args:
        sinc: probability that a blur is a sinc filter.
        final_sinc: probability of the sinc filter at the end.
        grey: probability that noise is the same in all channels.
    """

    first: Order = FIRST
    second: Order = SECOND
    sinc: float = 0.1
    final_sinc: float = 0.8
    grey: float = 0.4

    def __call__(self, image: Tensor, scale: int, rng: torch.Generator) -> Tensor:
        size = image.shape[2] // scale, image.shape[3] // scale
        image = self._blurred(image, self.first, rng)
        image = _resized(image, tuple(image.shape[2:]), self.first, rng)
        image = _compressed(self._noisy(image, self.first, rng), self.first, rng)
        image = self._blurred(image, self.second, rng)
        # The second round's factors are relative to the final size.
        image = _resized(image, size, self.second, rng)
        image = self._noisy(image, self.second, rng)
        if _uniform(0, 1, rng) < 0.5:
            return _compressed(self._finished(image, size, rng), self.second, rng)
        image = self._finished(_compressed(image, self.second, rng), size, rng)
        return (image.clamp(0, 1) * 255).round() / 255

    def _blurred(self, image: Tensor, order: Order, rng: torch.Generator) -> Tensor:
        if _uniform(0, 1, rng) >= order.blur:
            return image
        size = _odd_size(rng)
        if _uniform(0, 1, rng) < self.sinc:
            return _filtered(image, sinc_kernel(_uniform(math.pi / (3 if size < 13 else 5), math.pi, rng), size))
        shape = SHAPES[_choice((0.7, 0.15, 0.15), rng)]
        isotropic = _uniform(0, 1, rng) < {"gaussian": 0.45 / 0.7}.get(shape, 0.8)
        (low, high), angle = order.deviations, _uniform(0, math.pi, rng)
        first, second = _uniform(low, high, rng), _uniform(low, high, rng)
        power = 1.0
        if shape != "gaussian":
            low, high = {"generalised": (0.5, 4.0), "plateau": (1.0, 2.0)}[shape]
            power = _uniform(low, 1, rng) if _uniform(0, 1, rng) < 0.5 else _uniform(1, high, rng)
        return _filtered(image, blur_kernel(shape, first, first if isotropic else second, angle, power, size))

    def _noisy(self, image: Tensor, order: Order, rng: torch.Generator) -> Tensor:
        colourless = image.shape[1] == 3 and _uniform(0, 1, rng) < self.grey
        if _uniform(0, 1, rng) < 0.5:
            shape = (1, 1 if colourless else image.shape[1], *image.shape[2:])
            noise = _uniform(*order.gaussian, rng) / 255 * torch.randn(shape, generator=rng)
        else:
            clean = grey(image) if colourless else image
            noise = _uniform(*order.poisson, rng) * poisson_noise(clean, rng)
        return (image + noise.to(image)).clamp(0, 1)

    def _finished(self, image: Tensor, size: tuple[int, int], rng: torch.Generator) -> Tensor:
        image = F.interpolate(image, size, mode=("area", "bilinear", "bicubic")[_choice((1, 1, 1), rng)])
        if _uniform(0, 1, rng) < self.final_sinc:
            image = _filtered(image, sinc_kernel(_uniform(math.pi / 3, math.pi, rng), _odd_size(rng)))
        return image.clamp(0, 1)


def blur_kernel(shape: str, first: float, second: float, angle: float, power: float, size: int) -> Tensor:
    """A kernel (size, size) of sum one: exp(-m^p / 2), or the plateau 1 / (1 + m^p), m the squared Mahalanobis distance."""
    place = torch.arange(size, dtype=torch.float64) - size // 2
    x, y = place[None, :], place[:, None]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    distance = ((along / first) ** 2 + (across / second) ** 2) ** power
    kernel = 1 / (1 + distance) if shape == "plateau" else torch.exp(-0.5 * distance)
    return kernel / kernel.sum()


def sinc_kernel(cutoff: float, size: int) -> Tensor:
    """The ideal low-pass of a circular band, cutoff J1(cutoff r) / (2 pi r), cut to (size, size), of sum one: it rings."""
    place = torch.arange(size, dtype=torch.float64) - size // 2
    radius = torch.hypot(place[None, :], place[:, None])
    middle = radius == 0
    kernel = cutoff * torch.from_numpy(j1(cutoff * radius.numpy())) / (2 * math.pi * radius.masked_fill(middle, 1))
    kernel = kernel.masked_fill(middle, cutoff**2 / (4 * math.pi))
    return kernel / kernel.sum()


def poisson_noise(image: Tensor, rng: torch.Generator) -> Tensor:
    """What photon counting adds to an image in [0, 1] if its levels, rounded up to a power of two, are photon counts."""
    image = (image.clamp(0, 1) * 255).round() / 255
    photons = 2 ** math.ceil(math.log2(len(image.unique())))
    return torch.poisson(image * photons, generator=rng) / photons - image


def _filtered(image: Tensor, kernel: Tensor) -> Tensor:
    margin = kernel.shape[-1] // 2
    mode = "reflect" if min(image.shape[2:]) > margin else "replicate"
    padded = F.pad(image, (margin,) * 4, mode=mode).transpose(0, 1)
    return F.conv2d(padded, kernel.to(image)[None, None]).transpose(0, 1)


def _resized(image: Tensor, size: tuple[int, ...], order: Order, rng: torch.Generator) -> Tensor:
    """The image at ``size`` times a random factor, by a random interpolation."""
    low, high = order.factors
    factor = [_uniform(1, high, rng), _uniform(low, 1, rng), 1.0][_choice(order.resize, rng)]
    mode = ("area", "bilinear", "bicubic")[_choice((1, 1, 1), rng)]
    return F.interpolate(image, [max(round(side * factor), 1) for side in size], mode=mode)


def _compressed(image: Tensor, order: Order, rng: torch.Generator) -> Tensor:
    return jpeg(image, round(_uniform(*order.quality, rng)))


def _uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=rng, dtype=torch.float64).item()


def _choice(weights: Sequence[float], rng: torch.Generator) -> int:
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=rng))


def _odd_size(rng: torch.Generator) -> int:
    return 7 + 2 * int(torch.randint(8, (), generator=rng))
