"""Scenarios: images x family x scale x noise, whatever the order.

``legacy`` draws retrace the FKP protocol's released generator to the byte; ``named`` draws depend on nothing but the
seed and the image's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernelsr.capture import central_window, floor_to_8_bits, jpeg, qualities
from kernelsr.degradation import degrade
from kernelsr.families import AnisotropicGaussian, IsotropicGaussian, KernelFamily, kernel_size_of
from kernelsr.images import digest, image_size, images_by_name, read_image
from kernelsr.legacy import LegacyDraws, LegacySequence
from kernelsr.noise import heard
from kernelsr.problem import Problem, Truth
from kernelsr.seeds import generator

FAMILIES: dict[str, type[AnisotropicGaussian]] = {"aniso": AnisotropicGaussian, "iso": IsotropicGaussian}


@dataclass(frozen=True)
class Case:
    """One image of a scenario by name, not read yet, so that a bad image can be reported and skipped."""

    name: str
    path: Path
    scenario: Scenario

    def load(self) -> tuple[Problem, Truth]:
        """The problem and its truth. Raises a ValueError that names the file where it cannot be used."""
        return self.scenario.load(self.name)

    def pixels(self) -> int:
        """No fewer HR pixels than the image has, from its file's head; 0 where it cannot be read."""
        try:
            height, width = image_size(self.path)
        except ValueError:
            return 0
        most = height * width * (1 if self.scenario.degrade else self.scenario.scale**2)
        return min(most, self.scenario.window**2) if self.scenario.window else most

    def source(self) -> list[object]:
        """What the problem is made of beside the settings, so that cells of changed images are told apart."""
        return self.scenario.source(self.name)


@dataclass(frozen=True)
class Scenario:
    """Images x family x scale x noise: the problems of one experiment, as cases to be loaded one by one.

    Args:
        folder: a folder with images, one image, or a list of images. Names are file names without the ending.
        scale: s.
        family: ``aniso`` or ``iso`` (the FKP protocol's Gaussians), or any KernelFamily (then ``rng`` is ``named``).
        kernel_size: K; where it is None, the family's own where it has one, else FKP's rule.
        centre: the convention of the kernels' centre of mass, ``fkp`` or ``aligned``.
        seed: of the degradation, not of the estimator; 1 in the papers.
        noise_std: level of the image noise on the [0, 1] scale; None adds none and tells nothing.
        noise: ``drawn``, each image draws its sigma from U(0, level) as in the papers and the problem is told the mean,
            level / 2, never the draw; ``untold``, the same, and the problem has what is ``heard`` of it; or ``fixed``,
            every sigma is the level, and the problem is told.
        jpeg: quality of a JPEG compression after the noise, a number or a range (low, high) to draw from; it takes the
            place of ``quantise``.
        rng: ``legacy``, the papers' draws (see ``LegacyDraws``), or ``named``, draws by image name.
        quantise: the LR image is clipped and floored to 8 bits, as in the papers.
        crop: HR sides are cropped from the top left to a multiple of this; of lcm(12, s) where it is None, as the
            authors' images are.
        window: HR side of the central square that is kept of a larger image after it was degraded; 960 for DIV2K in FKP.
        degradation: (hr, scale, rng) -> lr instead of kernel, noise and JPEG; what then made the image is no one kernel, so
            the truth has none.
        degrade: False takes the images as real LR images of unknown truth; ``noise_std`` is then what the problem is told,
            and None what is heard.
        only: names of the images to yield. What they draw does not depend on this choice.
    """

    folder: str | Path | Sequence[str | Path]
    scale: int = 2
    family: str | KernelFamily | None = "aniso"
    kernel_size: int | None = None
    centre: str = "fkp"
    seed: int = 1
    noise_std: float | None = 0.0
    noise: str = "drawn"
    jpeg: int | tuple[int, int] | None = None
    rng: str = "legacy"
    quantise: bool = True
    crop: int | None = None
    window: int | None = None
    degradation: Callable[[Tensor, int, torch.Generator], Tensor] | None = None
    degrade: bool = True
    only: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.rng not in ("legacy", "named"):
            raise ValueError(f"rng is {self.rng!r}; choose legacy (the papers' draws) or named (draws by image name)")
        if isinstance(self.family, str) and self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}; choose one of {', '.join(FAMILIES)}, or give a kernel family")
        drawn = self.degradation or self._family
        if self.degrade and drawn is None:
            raise ValueError("neither a kernel family nor a degradation is given; set family, or degrade=False")
        if self.degrade and self.rng == "legacy" and not isinstance(drawn, AnisotropicGaussian):
            raise ValueError(
                f"the papers have no legacy draws of {type(drawn).__name__}; set rng=named (data.rng=named)"
            )
        if self.noise not in ("drawn", "untold", "fixed"):
            raise ValueError(
                f"noise is {self.noise!r}; choose drawn or untold (from U(0, noise_std)), or fixed (noise_std)"
            )
        if self.noise_std is not None and not (isinstance(self.noise_std, (int, float)) and 0 <= self.noise_std <= 1):
            raise ValueError(
                f"noise_std is {self.noise_std!r}; it is on the [0, 1] scale (the papers use 10/255 = 0.039)"
            )
        if self.jpeg is not None:
            qualities(self.jpeg)
            if not self.degrade:
                raise ValueError("jpeg is set, but degrade=false takes the images as they are; leave jpeg out")
        if self.degrade and self.degradation and (self.noise_std or self.jpeg is not None):
            raise ValueError(
                "noise_std and jpeg are part of the degradation that is given (Real-ESRGAN's draws its own); leave them out"
            )
        side = max(self._size, 64)
        Problem(torch.zeros(1, 1, side, side), self.scale, self._size, self.centre)  # a Problem checks these
        if self.window is not None and self.window < 2 * self.scale:
            raise ValueError(f"window is {self.window}; it must be at least twice the scale {self.scale}")
        if self.crop is not None and (self.crop < 1 or self.crop % self.scale):
            raise ValueError(f"crop is {self.crop}; it must be a multiple of the scale {self.scale}")

    def __len__(self) -> int:
        return len(self._selected)

    def __iter__(self) -> Iterator[Case]:
        return (Case(name, self._files[name], self) for name in self._selected)

    def load(self, name: str) -> tuple[Problem, Truth]:
        """The problem of one image and what made it: hr (1, C, sh, sw) float32, kernel (1, 1, K, K) float64."""
        image = read_image(self._files[name])
        if not self.degrade:
            return self._problem(image, self.noise_std, name), Truth()
        height, width = self._cropped(tuple(image.shape[2:]), name)
        hr = image[..., :height, :width].contiguous()
        lr, kernel = self._degraded(name, hr)
        if self.window is not None:
            lr, hr = central_window(lr, hr, self.window, self.scale)
        told = self._level if self.noise == "fixed" else self._level / 2
        unknown = self.degradation or self.noise == "untold" or self.noise_std is None
        return self._problem(lr, None if unknown else told, name), Truth(hr=hr, kernel=kernel)

    def source(self, name: str) -> list[object]:
        """An image's name and file, and in the papers' draws the LR sizes of the images before it, as plain data."""
        before: list[object] = []
        if self.degrade and self.rng == "legacy":
            names = list(self._files)
            before = [self._sizes[other] for other in names[: names.index(name)]]
        return [name, digest(self._files[name]), *before]

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int] | None]:
        """LR sizes by name; None of an image that draws nothing."""
        sizes: dict[str, tuple[int, int] | None] = dict.fromkeys(self._files)
        for name in sizes:
            with suppress(ValueError):
                sizes[name] = self._lr_size(name)
        return sizes

    def _degraded(self, name: str, hr: Tensor) -> tuple[Tensor, Tensor | None]:
        """The whole image's LR image, and the kernel where one kernel made it."""
        if self.degradation:
            return self.degradation(hr, self.scale, generator(self.seed, name, "degradation")), None
        kernel, noise = self._draw(name, hr)
        # float32 from here on: it reproduces the papers' LR images to the byte, float64 does not.
        lr = degrade(hr, kernel.to(hr), self.scale) + noise
        if self.jpeg is not None:
            low, high = qualities(self.jpeg)
            quality = torch.randint(low, high + 1, (), generator=generator(self.seed, name, "jpeg"))
            return jpeg(lr, int(quality)), kernel
        return floor_to_8_bits(lr) if self.quantise else lr.clamp(0, 1), kernel

    def _draw(self, name: str, hr: Tensor) -> tuple[Tensor, Tensor]:
        lr_size = hr.shape[2] // self.scale, hr.shape[3] // self.scale
        if self.rng == "legacy":
            kernel, noise = self._legacy(name, lr_size)
            return kernel, noise[:, : hr.shape[1]]
        # What a family is told: a problem of this geometry, in float64, that has no image yet.
        blank = self._problem(hr.new_zeros(1, 1, *lr_size, dtype=torch.float64), 0.0, name)
        assert self._family is not None
        kernel = self._family(1, blank, generator(self.seed, name, "kernel"))
        rng = generator(self.seed, name, "noise")
        share = torch.rand((), generator=rng)
        sigma = self._level if self.noise == "fixed" else self._level * share
        return kernel, sigma * torch.randn(1, hr.shape[1], *lr_size, generator=rng)

    @cached_property
    def _legacy(self) -> LegacySequence:
        assert isinstance(self._family, AnisotropicGaussian)
        size, rng, fixed = self._size, np.random.RandomState(self.seed), self.noise == "fixed"
        draws = LegacyDraws(self._family, self.scale, size, self.centre, self._level, rng, fixed)
        return LegacySequence(draws, list(self._files), self._lr_size)

    def _lr_size(self, name: str) -> tuple[int, int]:
        height, width = self._cropped(image_size(self._files[name]), name)
        return height // self.scale, width // self.scale

    def _problem(self, lr: Tensor, noise_std: float | None, name: str) -> Problem:
        told = heard(lr) if noise_std is None else noise_std
        try:
            return Problem(lr, self.scale, self._size, self.centre, told)
        except ValueError as error:
            raise ValueError(f"{self._files[name]}: {error}") from error

    def _cropped(self, size: tuple[int, ...], name: str) -> tuple[int, int]:
        multiple = self.crop or math.lcm(12, self.scale)
        height, width = (side // multiple * multiple for side in size)
        if not height or not width:
            raise ValueError(
                f"{self._files[name]} has {size[1]}x{size[0]} pixels, too few to crop to a multiple of {multiple}; "
                f"use a larger image or set data.crop={self.scale}"
            )
        return height, width

    @property
    def _level(self) -> float:
        return self.noise_std or 0.0

    @cached_property
    def _size(self) -> int:
        if self.kernel_size or self._family is None or not self.degrade:
            return self.kernel_size or 0  # FKP's rule
        return kernel_size_of(self._family, self.scale)

    @cached_property
    def _family(self) -> KernelFamily | None:
        return FAMILIES[self.family]() if isinstance(self.family, str) else self.family

    @cached_property
    def _files(self) -> dict[str, Path]:
        return images_by_name(self.folder)

    @cached_property
    def _selected(self) -> list[str]:
        if self.only is None:
            return list(self._files)
        unknown = [name for name in self.only if name not in self._files]
        if unknown:
            raise ValueError(f"no image is called {', '.join(unknown)}; choose from {', '.join(self._files)}")
        return [name for name in self._files if name in self.only]
