"""Scenarios: images x family x scale x noise, and the seeds from names that make them independent of order.

``legacy`` draws retrace the FKP protocol's released generator to the byte; ``named`` draws depend on nothing but the
seed and the image's name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernelsr.degradation import degrade
from kernelsr.families import AnisotropicGaussian, IsotropicGaussian, KernelFamily
from kernelsr.images import image_files, image_size, read_image
from kernelsr.legacy import LegacyDraws
from kernelsr.problem import Problem, Truth, fkp_kernel_size

FAMILIES: dict[str, type[AnisotropicGaussian]] = {"aniso": AnisotropicGaussian, "iso": IsotropicGaussian}


def seed_for(seed: int, *names: str) -> int:
    """A seed from a seed and names, the same on every machine, so that results never depend on order or parallelism."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: str) -> torch.Generator:
    """A CPU generator seeded by ``seed_for``: draw there, then move, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(seed_for(seed, *names))


def floor_to_8_bits(image: Tensor) -> Tensor:
    """An image clipped to [0, 1] and *floored* to multiples of 1/255, as the papers' LR images were saved."""
    return (image.clamp(0, 1) * 255).floor() / 255


@dataclass(frozen=True)
class Case:
    """One image of a scenario by name, not read yet, so that a bad image can be reported and skipped."""

    name: str
    path: Path
    scenario: Scenario

    def load(self) -> tuple[Problem, Truth]:
        """The problem and its truth. Raises a ValueError that names the file where it cannot be used."""
        return self.scenario.load(self.name)


@dataclass(frozen=True)
class Scenario:
    """Images x family x scale x noise: the problems of one experiment, as cases to be loaded one by one.

    Args:
        folder: a folder with images, one image, or a list of images. Names are file names without the ending.
        scale: s.
        family: ``aniso`` or ``iso`` (the FKP protocol's Gaussians), or any KernelFamily (then ``rng`` is ``named``).
        kernel_size: K; FKP's rule where it is None.
        centre: the convention of the kernels' centre of mass, ``fkp`` or ``aligned``.
        seed: of the degradation, not of the estimator; 1 in the papers.
        noise_std: level of the image noise on the [0, 1] scale: each image draws its sigma from U(0, level). The problem is
            told the mean, level / 2, and never the draw.
        rng: ``legacy``, the papers' draws (see ``LegacyDraws``), or ``named``, draws by image name.
        quantise: the LR image is clipped and floored to 8 bits, as in the papers.
        crop: HR sides are cropped from the top left to a multiple of this; of lcm(12, s) where it is None, as the
            authors' images are.
        window: HR side of the central square that is kept of a larger image after it was degraded; 960 for DIV2K in FKP.
        degrade: False takes the images as real LR images of unknown truth; ``noise_std`` is then what the problem is told.
        only: names of the images to yield. What they draw does not depend on this choice.
    """

    folder: str | Path | Sequence[str | Path]
    scale: int = 2
    family: str | KernelFamily = "aniso"
    kernel_size: int | None = None
    centre: str = "fkp"
    seed: int = 1
    noise_std: float = 0.0
    rng: str = "legacy"
    quantise: bool = True
    crop: int | None = None
    window: int | None = None
    degrade: bool = True
    only: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.rng not in ("legacy", "named"):
            raise ValueError(f"rng is {self.rng!r}; choose legacy (the papers' draws) or named (draws by image name)")
        if isinstance(self.family, str) and self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}; choose one of {', '.join(FAMILIES)}, or give a kernel family")
        if self.degrade and self.rng == "legacy" and not isinstance(self._family, AnisotropicGaussian):
            raise ValueError(f"the papers have no legacy draws of {type(self._family).__name__}; set rng=named")
        if self.noise_std < 0 or self.noise_std > 1:
            raise ValueError(
                f"noise_std is {self.noise_std}; it is on the [0, 1] scale (the papers use 10/255 = 0.039)"
            )
        side = self.kernel_size or 64
        Problem(
            torch.zeros(1, 1, side, side), self.scale, side if self.kernel_size else 0, self.centre
        )  # a Problem checks these
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
        kernel, noise = self._draw(name, hr)
        # float32 from here on: it reproduces the papers' LR images to the byte, float64 does not.
        lr = degrade(hr, kernel.to(hr), self.scale) + noise
        lr = floor_to_8_bits(lr) if self.quantise else lr.clamp(0, 1)
        lr, hr = self._windowed(lr, hr)
        return self._problem(lr, self.noise_std / 2, name), Truth(hr=hr, kernel=kernel)

    def _windowed(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """The central window of the LR image, and what of the HR image lies under it."""
        if self.window is None:
            return lr, hr
        half, s = self.window // 2 // self.scale, self.scale
        for dim in (2, 3):
            middle = lr.shape[dim] // 2
            first, last = max(middle - half, 0), min(middle + half, lr.shape[dim])
            lr, hr = lr.narrow(dim, first, last - first), hr.narrow(dim, first * s, (last - first) * s)
        return lr.contiguous(), hr.contiguous()

    def _draw(self, name: str, hr: Tensor) -> tuple[Tensor, Tensor]:
        lr_size = hr.shape[2] // self.scale, hr.shape[3] // self.scale
        if self.rng == "legacy":
            kernel, noise = self._legacy(name, lr_size)
            return kernel, noise[:, : hr.shape[1]]
        # What a family is told: a problem of this geometry, in float64, that has no image yet.
        blank = self._problem(hr.new_zeros(1, 1, *lr_size, dtype=torch.float64), 0.0, name)
        kernel = self._family(1, blank, generator(self.seed, name, "kernel"))
        rng = generator(self.seed, name, "noise")
        sigma = self.noise_std * torch.rand((), generator=rng)
        return kernel, sigma * torch.randn(1, hr.shape[1], *lr_size, generator=rng)

    def _legacy(self, name: str, lr_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The draws of one image, from where the images before it left the generator."""
        assert isinstance(self._family, AnisotropicGaussian)
        while name not in self._states:
            before = list(self._states)[-1]
            draws = self._legacy_draws()
            draws.rng.set_state(self._states[before])
            try:
                height, width = self._cropped(image_size(self._files[before]), before)
                draws((height // self.scale, width // self.scale))
            except ValueError:
                pass  # an unusable image draws nothing, as if it were not in the folder
            self._states[list(self._files)[len(self._states)]] = draws.rng.get_state()
        draws = self._legacy_draws()
        draws.rng.set_state(self._states[name])
        return draws(lr_size)

    def _legacy_draws(self) -> LegacyDraws:
        assert isinstance(self._family, AnisotropicGaussian)
        size = self.kernel_size or fkp_kernel_size(self.scale)
        return LegacyDraws(
            self._family, self.scale, size, self.centre, self.noise_std, np.random.RandomState(self.seed)
        )

    def _problem(self, lr: Tensor, noise_std: float, name: str) -> Problem:
        try:
            return Problem(lr, self.scale, self.kernel_size or 0, self.centre, noise_std)
        except ValueError as error:
            raise ValueError(f"{self._files[name]}: {error}") from error

    def _cropped(self, size: tuple[int, ...], name: str) -> tuple[int, int]:
        multiple = self.crop or math.lcm(12, self.scale)
        height, width = (side // multiple * multiple for side in size)
        if not height or not width:
            raise ValueError(
                f"{self._files[name]} has {size[1]}x{size[0]} pixels, too few to crop to a multiple of {multiple}; "
                f"use a larger image or set crop={self.scale}"
            )
        return height, width

    @cached_property
    def _family(self) -> KernelFamily:
        return FAMILIES[self.family]() if isinstance(self.family, str) else self.family

    @cached_property
    def _files(self) -> dict[str, Path]:
        paths = image_files(self.folder) if isinstance(self.folder, (str, Path)) else [Path(p) for p in self.folder]
        if not paths:
            raise ValueError("folder is an empty list; give at least one image")
        stems = [path.stem for path in paths]
        # a.png and a.jpg in one folder keep their endings, so that each has its own name.
        files = {path.stem if stems.count(path.stem) == 1 else path.name: path for path in paths}
        if len(files) < len(paths):
            raise ValueError(f"several images share a name among {', '.join(sorted(set(stems)))}; rename them")
        return files

    @cached_property
    def _selected(self) -> list[str]:
        if self.only is None:
            return list(self._files)
        unknown = [name for name in self.only if name not in self._files]
        if unknown:
            raise ValueError(f"no image is called {', '.join(unknown)}; choose from {', '.join(self._files)}")
        return [name for name in self._files if name in self.only]

    @cached_property
    def _states(self) -> dict[str, dict]:
        """Where the legacy generator stands before each image, as far as it was asked for."""
        state = np.random.RandomState(self.seed).get_state(legacy=False)
        return {next(iter(self._files)): state}
