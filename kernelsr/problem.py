"""What a solver is given (Problem), must never see (Truth), returns (Estimate) and shows on the way (Progress)."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

CENTRES = ("fkp", "aligned")
EIGHT_BITS = 1 / (255 * 12**0.5)
"""Standard deviation of rounding to 8 bits, on the [0, 1] scale: the noise of an image that is said to have none."""


def fkp_kernel_size(scale: int) -> int:
    """FKP's support of the kernel on the HR grid, min(4s+3, 21): 11, 15, 19, 21 for x2, x3, x4, x8."""
    return min(4 * scale + 3, 21)


@dataclass(frozen=True)
class Problem:
    """One low-resolution image y = (x ⋆ k)↓s + n, of which neither x nor k is known.

    Args:
        lr: y, (1, C, h, w) in [0, 1]. Its device and dtype are those of everything made for this problem.
        scale: s, the integer decimation factor.
        kernel_size: K, the odd support of k in HR pixels; 0 takes FKP's rule.
        centre: where k's centre of mass lies by convention: ``fkp`` (K-s)/2 or ``aligned`` K//2 + (s-1)/2.
        noise_std: standard deviation of n on the [0, 1] scale, if known.
        margin: so many LR pixels along each border the circular degradation does not explain, as those of a crop: what they
            are made of lies outside. Data errors leave them out.

    Raises:
        ValueError: what is wrong, its value, and the remedy.
    """

    lr: Tensor
    scale: int
    kernel_size: int = 0
    centre: str = "fkp"
    noise_std: float = 0.0
    margin: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.scale, Integral) and not isinstance(self.scale, bool):
            object.__setattr__(self, "scale", int(self.scale))  # NumPy's integers too
        if type(self.scale) is not int or not 2 <= self.scale <= 16:
            raise ValueError(f"scale is {self.scale!r}; it must be an integer from 2 to 16 (the papers use 2, 3, 4, 8)")
        if not self.kernel_size:
            object.__setattr__(self, "kernel_size", fkp_kernel_size(self.scale))
        if self.kernel_size < 3 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {self.kernel_size}; it must be odd and at least 3")
        if self.kernel_size < self.scale:  # the centre of either convention would lie outside
            raise ValueError(f"kernel_size is {self.kernel_size} at x{self.scale}; it must be the scale at least")
        if self.centre not in CENTRES:
            raise ValueError(f"centre is {self.centre!r}; choose one of {', '.join(CENTRES)}")
        lr = self.lr
        if lr.dim() != 4 or lr.shape[0] != 1:
            raise ValueError(f"lr has shape {tuple(lr.shape)}; it must be one image, (1, C, h, w)")
        if not torch.isfinite(lr).all():
            raise ValueError("lr contains NaN or infinite values; replace them before estimating a kernel")
        if lr.min() < -1e-3 or lr.max() > 1 + 1e-3:
            raise ValueError(f"lr ranges over [{lr.min():.3g}, {lr.max():.3g}]; it must lie in [0, 1]")
        height, width = self.hr_size
        if not 0 <= 2 * self.margin < min(lr.shape[2:]):
            raise ValueError(
                f"margin is {self.margin}, and y has {lr.shape[3]}x{lr.shape[2]} pixels; something must be left between"
            )
        if min(height, width) < self.kernel_size:
            raise ValueError(
                f"the image is smaller than the kernel: {lr.shape[3]}x{lr.shape[2]} LR pixels give {width}x{height} "
                f"at x{self.scale}, the kernel has {self.kernel_size}; use a larger image or a smaller kernel_size"
            )

    @property
    def hr_size(self) -> tuple[int, int]:
        """(sh, sw), the size of the unknown image."""
        return self.lr.shape[2] * self.scale, self.lr.shape[3] * self.scale

    def inside(self, lr: Tensor) -> Tensor:
        """An LR image (n, C, h, w) without the margin."""
        height, width = lr.shape[-2:]
        return lr[..., self.margin : height - self.margin, self.margin : width - self.margin]


@dataclass(frozen=True)
class Truth:
    """What made the LR image, where it is known; only metrics and reports may hold one.

    Args:
        hr: x, (1, C, sh, sw) in [0, 1], or None.
        kernel: k, (1, 1, K, K) with sum 1, or None.
    """

    hr: Tensor | None = None
    kernel: Tensor | None = None


class Doubt(NamedTuple):
    """How unsure a posterior over kernels is.

    ``size`` is the standard deviation of the logarithm of the kernel's variances, 0.1 for 10 %; ``gaussian``, whether it is
    over Gaussians only.
    """

    size: float
    gaussian: bool = False


@dataclass(frozen=True)
class Estimate:
    """What a solver returns: image (1, C, sh, sw) and kernel (1, 1, K, K), both detached.

    ``image`` is None where only the kernel was sought. ``nonblind`` is the image that a non-blind restorer made with the
    kernel afterwards, where one was chosen. ``doubt`` is what a posterior over kernels says besides, where the kernel is of
    one and no loop has moved it.
    """

    image: Tensor | None
    kernel: Tensor
    nonblind: Tensor | None = None
    doubt: Doubt | None = None

    @property
    def restored(self) -> Tensor | None:
        """The image to look at: the non-blind one where there is one."""
        return self.image if self.nonblind is None else self.nonblind


@dataclass(frozen=True)
class Progress:
    """What a solver shows after each step, detached and still on its device, so that showing costs no synchronisation.

    ``loss`` is a scalar tensor: ``float(loss)`` waits for the device, so call it only when someone looks. ``image`` is None
    where only the kernel is sought. On a GPU the next step may write into the same tensors (a replayed one does): copy what
    is to be kept.
    """

    step: int
    loss: Tensor
    image: Tensor | None
    kernel: Tensor
