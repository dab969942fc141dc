"""Metrics: how good an estimate is, and the floors that every method has to clear.

Image metrics are of 8-bit images, border shaved, peak 255; the rest a ``Scoring`` says. In the papers that is Y by MATLAB's
studio-range coefficients, in float. Kernel metrics compare raw kernels (not normalised by peak); positions in HR pixels,
variances in HR pixels squared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kernelsr import kernels
from kernelsr.colours import grey
from kernelsr.degradation import degrade
from kernelsr.families import delta_kernel, mean_kernel
from kernelsr.problem import Estimate, Problem, Truth
from kernelsr.restorers import Bicubic

FLOORS = ("floor: mean kernel", "floor: bicubic, unaligned", "floor: bicubic, aligned")
LINE = 0.26  # HR pixels squared: above the variance 0.25 of two pixels, and so of any line; FKP's kernels begin at 0.35
BOUND = "bound: true kernel"
DELTA = "floor: delta"
BASELINE = "baseline: Real-ESRGAN"
CHANNELS = ("y", "y_8bit", "y_full_range", "rgb")


@dataclass(frozen=True)
class Scoring:
    """What a protocol leaves open in "PSNR and SSIM", and what it compares kernels in.

    Args:
        border: pixels shaved on each side of the images; s in the papers.
        channel: ``y``, MATLAB's studio range in float, as in the papers; ``y_8bit``, the same rounded, which is what MATLAB
            makes of an 8-bit image; ``y_full_range``, 0 to 255 as in JPEG, OpenCV and kornia; ``rgb``, the mean over all.
        kernel_size: support in which kernel PSNR is taken; None is the kernels' own, the larger of the two. Zeros around
            both kernels raise it: by 4.25 dB from 19x19 to 31x31.
    """

    border: int
    channel: str = "y"
    kernel_size: int | None = None

    def __post_init__(self) -> None:
        if type(self.border) is not int or self.border < 0:
            raise ValueError(f"scoring.border is {self.border!r}; it must be a number of pixels, s in the papers")
        if self.channel not in CHANNELS:
            raise ValueError(f"scoring.channel is {self.channel!r}; choose one of {', '.join(CHANNELS)}")
        size = self.kernel_size
        if size is not None and (type(size) is not int or size < 3 or size % 2 == 0):
            raise ValueError(f"scoring.kernel_size is {size!r}; it must be odd and at least 3, or null")


def luma(image: Tensor) -> Tensor:
    """Y of YCbCr (n, 1, H, W), studio range 16 to 235, of images (n, C, H, W) in [0, 1] rounded to 8 bits first.

    Grey images count as RGB of equal channels, as in the papers. Other channel counts have no Y: their channels are
    scaled by 255 and kept.
    """
    levels = _levels(image)
    if image.shape[1] == 3:
        weights = levels.new_tensor([65.481, 128.553, 24.966]) / 255
        return 16 + torch.einsum("c,nchw->nhw", weights, levels)[:, None]
    return 16 + 219 * levels / 255 if image.shape[1] == 1 else levels


def channel_of(image: Tensor, channel: str) -> Tensor:
    """What is compared of images (n, C, H, W) in [0, 1] by name, as ``Scoring`` says: levels of 0 to 255."""
    if channel == "y":
        return luma(image)
    if channel == "y_8bit":
        return luma(image).round()
    levels = _levels(image)
    if channel == "rgb" or image.shape[1] != 3:
        return levels
    return grey(levels)


def psnr(image: Tensor, reference: Tensor, *, border: int, channel: str = "y") -> float:
    """PSNR in dB, ``border`` pixels shaved, peak 255."""
    return _psnr(*_shaved(image, reference, border, channel), peak=255)


def ssim(image: Tensor, reference: Tensor, *, border: int, channel: str = "y") -> float:
    """SSIM, ``border`` pixels shaved, 11x11 Gaussian window of std 1.5 over its valid area; on Y it equals MATLAB's."""
    from kornia.metrics import ssim as ssim_map

    first, second = _shaved(image, reference, border, channel)
    if min(first.shape[2:]) < 11:
        raise ValueError(
            f"SSIM needs 11x11 pixels inside the border; {tuple(first.shape[2:])} are left at border {border}"
        )
    return ssim_map(first, second, 11, max_val=255.0, eps=0.0, padding="valid").mean().item()


def kernel_psnr(kernel: Tensor, truth: Tensor, size: int | None = None) -> float:
    """PSNR of a kernel (1, 1, K, K) in dB, peak 1; supports are padded about their middle pixel to the larger or ``size``."""
    return _psnr(*_same_size(kernel, truth, size), peak=1)


def kernel_psnr_shifted(kernel: Tensor, truth: Tensor, size: int | None = None) -> float:
    """The best kernel PSNR over sub-pixel shifts: what is left of the error once the position is forgiven.

    A grid around the offset of the centroids, zoomed in to 0.01 pixel; never below the unshifted value.
    """
    kernel, truth = _same_size(kernel, truth, size)
    offset = kernels.centroid(truth) - kernels.centroid(kernel)
    best, axis = _psnr(kernel, truth, peak=1), torch.linspace(-1, 1, 9, dtype=truth.dtype)
    grid = torch.cartesian_prod(axis, axis)
    for reach in (2.0, 0.5, 0.125, 0.03125):
        offsets = offset + reach * grid
        errors = (kernels.shift(kernel.expand(len(grid), -1, -1, -1), offsets) - truth).square().mean((1, 2, 3))
        offset = offsets[errors.argmin()]
        best = max(best, -10 * math.log10(max(errors.min().item(), 1e-30)))
    return best


def kernel_correlation(kernel: Tensor, truth: Tensor) -> float:
    """The greatest normalised cross-correlation over whole-pixel shifts, at most 1; Hu and Yang (2012)."""
    kernel, truth = _same_size(kernel, truth)
    products = F.conv2d(kernel, truth, padding=truth.shape[-1] - 1)
    return (products.max() / (kernel.norm() * truth.norm())).item()


def centroid_error(kernel: Tensor, truth: Tensor) -> float:
    """Distance of the centres of mass, HR pixels."""
    kernel, truth = _same_size(kernel, truth)
    return (kernels.centroid(kernel) - kernels.centroid(truth)).norm().item()


def variance_error(kernel: Tensor, truth: Tensor) -> float:
    """Mean relative error of the two principal variances; 0.05 is where nothing visible is lost.

    Of the ratio (u' S u) / (u' T u) of estimated to true variance along a direction u, the two extremes are the
    eigenvalues of T^-1 S; the error is their mean |ratio - 1|. Where the axes agree that is the relative error of each
    variance; kernels turned against each other err though their variances are equal. NaN where the truth is as
    narrow as a line along some direction (a delta, linear motion): of no width there is no relative error.
    """
    estimated, true = (kernels.moments(_exact(k))[0] for k in (kernel, truth))
    if not torch.isfinite(estimated).all() or torch.linalg.eigvalsh(true)[0] < LINE:
        return math.nan
    whitening = torch.linalg.inv(torch.linalg.cholesky(true))
    ratios = torch.linalg.eigvalsh(whitening @ estimated @ whitening.mT)
    return (ratios - 1).abs().mean().item()


def lr_psnr(image: Tensor, kernel: Tensor, problem: Problem) -> float:
    """PSNR of a re-degraded estimate against y in dB, all channels, peak 1: high also for many wrong pairs."""
    return _psnr(degrade(image, kernel.to(image), problem.scale), problem.lr, peak=1)


def score(estimate: Estimate, problem: Problem, truth: Truth, scoring: Scoring) -> dict[str, float]:
    """The numbers of one row; what needs an unknown truth, or an image that was not made, is absent."""
    row = {"noise_std": problem.noise_std}
    if truth.hr is not None:
        if estimate.image is not None:
            row |= score_image(estimate.image, truth.hr, scoring)
        if estimate.nonblind is not None:
            row |= score_image(estimate.nonblind, truth.hr, scoring, suffix="_nonblind")
    if truth.kernel is not None:
        row |= score_kernel(estimate.kernel, truth.kernel, scoring.kernel_size)
    image = estimate.restored if estimate.image is None else estimate.image
    if image is not None:
        row["lr_psnr"] = lr_psnr(image, estimate.kernel, problem)
    return row


def score_image(image: Tensor, hr: Tensor, scoring: Scoring, *, suffix: str = "") -> dict[str, float]:
    """The numbers of one row that concern an image; ``_nonblind`` is the suffix of the image made after the solver."""
    border, channel = scoring.border, scoring.channel
    return {
        f"psnr{suffix}": psnr(image, hr, border=border, channel=channel),
        f"ssim{suffix}": ssim(image, hr, border=border, channel=channel),
    }


def score_kernel(kernel: Tensor, truth: Tensor, size: int | None = None) -> dict[str, float]:
    """The numbers of one row that concern the kernel, its PSNR in a support of ``size`` where one is given."""
    return {
        "kernel_psnr": kernel_psnr(kernel, truth, size),
        "centroid_error": centroid_error(kernel, truth),
        "variance_error": variance_error(kernel, truth),
        "kernel_psnr_shifted": kernel_psnr_shifted(kernel, truth, size),
    }


def floors(problem: Problem, truth: Truth, scoring: Scoring) -> list[dict[str, str | float]]:
    """The rows that a method has to clear: the mean kernel, no blur, and bicubic on the protocol's grid and aligned."""
    rows: list[dict[str, str | float]] = []
    size = scoring.kernel_size
    if truth.kernel is not None:
        rows.append({"method": FLOORS[0], **score_kernel(mean_kernel(problem), truth.kernel, size)})
        rows.append({"method": DELTA, **score_kernel(delta_kernel(problem), truth.kernel, size)})
    if truth.hr is not None:
        for method, aligned in ((FLOORS[1], False), (FLOORS[2], True)):
            image = Bicubic(problem, torch.Generator(), aligned=aligned)(mean_kernel(problem).to(problem.lr))
            rows.append({"method": method, **score_image(image, truth.hr, scoring)})
    return rows


def _psnr(image: Tensor, reference: Tensor, *, peak: float) -> float:
    error = (_exact(image) - _exact(reference)).square().mean().item()
    return 10 * math.log10(peak**2 / error) if error else math.inf


def _levels(image: Tensor) -> Tensor:
    """Images in [0, 1] as an 8-bit file holds them, 0 to 255 in float64."""
    return (_exact(image).clamp(0, 1) * 255).round()


def _shaved(image: Tensor, reference: Tensor, border: int, channel: str = "y") -> tuple[Tensor, Tensor]:
    if image.shape != reference.shape:
        raise ValueError(f"images differ in size: {tuple(image.shape)} and {tuple(reference.shape)}; crop one first")
    height, width = image.shape[2] - 2 * border, image.shape[3] - 2 * border
    if border < 0 or height < 1 or width < 1:
        raise ValueError(f"border {border} leaves nothing of an image of {image.shape[3]}x{image.shape[2]} pixels")
    first, second = channel_of(image, channel), channel_of(reference, channel)
    inside = (..., slice(border, border + height), slice(border, border + width))
    return first[inside], second[inside]


def _same_size(kernel: Tensor, truth: Tensor, size: int | None = None) -> tuple[Tensor, Tensor]:
    """Both in one support, the larger of the two where none is given."""
    size = size or max(kernel.shape[-1], truth.shape[-1])
    return kernels.pad_to(_exact(kernel), size), kernels.pad_to(_exact(truth), size)


def _exact(values: Tensor) -> Tensor:
    """In float64 on the CPU, wherever an estimate was made: some devices have no float64."""
    return values.detach().cpu().double()
