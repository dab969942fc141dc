"""The data term of a fixed image as a quadratic form in the kernel, so that a kernel's error costs K^4 and no image.

|degrade(x, k) - y|^2 = k'Gk - 2 b'k + c, with the correlations of x with itself in G and with y in b; the
pixels of k are counted row by row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kernelsr.degradation import degrade
from kernelsr.problem import Problem


class Quadratic:
    """Mean squared error of degrade(x, k) against y for one image x and any kernels k, exact but for rounding.

    It is kept about a reference kernel r: with d = k - r and e = degrade(x, r) - y, the error is d'Gd + 2 d'A'e + |e|^2.
    Near r nothing large is subtracted from anything large, so that float32 does as well as ``degrade`` itself.

    ``gram`` is G (K^2, K^2), ``slope`` A'e (K^2,), ``level`` |e|^2, all divided by the number of values of y.

    Args:
        image: x, (1, C, sh, sw); no gradient reaches it.
        problem: with y, the scale and the margin that is left out.
        reference: r, (1, 1, K, K), near the kernels that will be asked for.
    """

    def __init__(self, image: Tensor, problem: Problem, reference: Tensor):
        image, self.reference = image.detach(), reference.detach()
        size, scale, margin = reference.shape[-1], problem.scale, problem.margin
        residual = problem.inside(degrade(image, self.reference, scale) - problem.lr)
        values = residual.numel()
        self.level = residual.square().mean()
        self.slope = _with_each_pixel(image, F.pad(residual, (margin,) * 4), size, scale) / values
        found = patch_correlations(image, size, scale, margin) if margin else correlations(image, size, scale)
        self.gram = found / values

    def __call__(self, kernels: Tensor) -> Tensor:
        """The errors (n,) of kernels (n, 1, K, K); differentiable in them."""
        offset = (kernels - self.reference).flatten(1)
        return ((offset @ self.gram + 2 * self.slope) * offset).sum(1) + self.level


def correlations(image: Tensor, size: int, scale: int) -> Tensor:
    """G (K^2, K^2): how alike the LR images are that any two pixels of a K x K kernel make of an image (1, C, sh, sw).

    A pixel of the kernel takes every s-th pixel of x from some phase and some shift on. So G holds the correlations of the
    s^2 phases at shifts of a few LR pixels, which FFTs on the LR grid give: at x4 that is a thirtieth of the work of the
    patches' products, and the patches are K^2/s^2 times the image.
    """
    phases = phases_of(image, scale)
    height, width = phases.shape[-2:]
    spectra = torch.fft.rfft2(phases)
    phase, shift = _places(size, scale, image.device)
    gram = image.new_empty(len(phase), len(phase))
    for one in range(scale**2):
        # <x_one(. + p), x_other(. + q)> depends on q - p. One phase at a time, so that a large image needs little memory,
        # and only with those that come after it, for G is symmetric.
        products = torch.fft.irfft2((spectra[one].conj() * spectra[one:]).sum(1), s=(height, width))
        rows, columns = (phase == one).nonzero().flatten(), (phase >= one).nonzero().flatten()
        lag = shift[columns] - shift[rows, None]
        block = products[phase[columns] - one, lag[..., 0] % height, lag[..., 1] % width]
        gram[rows[:, None], columns] = block
        gram[columns[:, None], rows] = block.T
    return gram


def patch_correlations(image: Tensor, size: int, scale: int, margin: int) -> Tensor:
    """G where a margin of LR pixels is left out: the products of the patches themselves, a row of LR pixels at a time.

    A window of an image is no circular grid, so no FFT helps; but it is small.
    """
    before = size // 2
    after = max(before - scale + 1, 0)
    padded = F.pad(image, (before, after, before, after), mode="circular")
    rows = padded[0].unfold(1, size, scale)[:, margin : image.shape[-2] // scale - margin]  # (C, h, W, K), a view
    gram = image.new_zeros(size**2, size**2)
    for row in rows.unbind(1):
        patches = row.unfold(1, size, scale)[:, margin : image.shape[-1] // scale - margin]  # (C, w, K, K)
        patches = patches.flatten(2).flatten(0, 1)
        gram.addmm_(patches.T, patches)
    return gram


def phases_of(image: Tensor, scale: int) -> Tensor:
    """The s^2 images (s^2, C, h, w) that decimation makes of an image (1, C, sh, sw) from its different first pixels."""
    blocks = image[0].unflatten(-1, (-1, scale)).unflatten(-3, (-1, scale))  # (C, h, s, w, s)
    return blocks.permute(2, 4, 0, 1, 3).flatten(0, 1)


def _with_each_pixel(image: Tensor, residual: Tensor, size: int, scale: int) -> Tensor:
    """A'e (K^2,): a residual's products (1, C, h, w) with the LR image that each pixel of the kernel makes."""
    kernel = residual.new_zeros(1, 1, size, size).requires_grad_()
    with torch.enable_grad():
        (products,) = torch.autograd.grad(degrade(image, kernel, scale), kernel, residual)
    return products.flatten()


def _places(size: int, scale: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each pixel of a K x K kernel the phase (K^2,) that it takes, and from which LR pixel on (K^2, 2)."""
    offset = torch.arange(size, device=device) - size // 2
    places = torch.cartesian_prod(offset, offset)
    phase = places % scale
    return phase[:, 0] * scale + phase[:, 1], places.div(scale, rounding_mode="floor")
