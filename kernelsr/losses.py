"""Terms of the loss: FKP's structural similarity, DKP's hyper-Laplacian, the gradient penalty of Wasserstein critics."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


@lru_cache(maxsize=16)
def _window(channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An 11x11 Gaussian window of standard deviation 1.5, one copy a channel: (channels, 1, 11, 11)."""
    weights = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
    line = torch.tensor(weights, dtype=torch.float64) / math.fsum(weights)
    return torch.outer(line, line).expand(channels, 1, 11, 11).to(dtype=dtype, device=device)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Mean structural similarity of images (n, C, h, w) in [0, 1]: a scalar, the loss of DIP-FKP's first iterations.

    Wang et al. (2004) with C1 = 0.01^2, C2 = 0.03^2; borders are padded with zeros, as FKP's loss does and its metric
    does not (the metric is ``metrics.ssim``).
    """
    channels = first.shape[1]
    window = _window(channels, first.dtype, first.device)
    stacked = torch.cat([first, second, first * first, second * second, first * second])
    smooth = F.conv2d(stacked, window, padding=5, groups=channels)
    mean_1, mean_2, square_1, square_2, product = smooth.chunk(5)
    variances = square_1 + square_2 - mean_1**2 - mean_2**2
    covariance = product - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_1 * mean_2 + c1) / (mean_1**2 + mean_2**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean()


def hyper_laplacian(image: Tensor, power: float = 0.67) -> Tensor:
    """Sum of |gradients|^power over four directions, the image prior of DIP-DKP (Yang et al., 2024); a scalar.

    One-sided differences to the pixel above, left, above left and below left, on the image padded by reflection. 1e-8 inside
    the power keeps its derivative finite where the image is flat.
    """
    padded = F.pad(image, (1, 1, 1, 1), mode="reflect")
    height, width = image.shape[-2:]
    neighbours = ((0, 1), (0, 0), (1, 0), (2, 0))
    gradients = [padded[..., i : i + height, j : j + width] - image for i, j in neighbours]
    return ((torch.stack(gradients).abs() + 1e-8) ** power).sum()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean (|gradient| - 1)^2 of a critic between real and fake images, a scalar; Gulrajani et al. (2017), WGAN-GP.

    The gradient is that of the sum over the critic's map, and its norm is taken over the channels, pixel by pixel, as in
    KernelGAN-FKP's released code.

    Args:
        real, fake: (n, C, h, w).
        share: (n, 1, 1, 1) in [0, 1], of ``real`` in the mixture where the gradient is taken.
    """
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.norm(dim=1) - 1).square().mean()
