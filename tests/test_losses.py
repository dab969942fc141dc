"""The terms of the loss against the authors' number, naive loops and derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import golden, uniform
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from kernelsr import losses


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_ssim_is_the_authors_loss(scale: int) -> None:
    # The stored index is the loss (zero-padded, RGB) between HR and the clipped bicubic enlargement, in float32, whose
    # rounding is amplified by 1/C2: it differs by at most 1.3e-5. Without padding it would be off by 1e-3 or more.
    stored, lr = golden(f"usrnet_tiny_x{scale}"), golden(f"degradation_x{scale}")
    hr = torch.from_numpy(lr["hr_uint8"]).permute(2, 0, 1)[None].double() / 255
    y = torch.from_numpy(stored["lr"]).permute(2, 0, 1)[None].double() / 255
    bicubic = F.interpolate(y, scale_factor=scale, mode="bicubic").clamp(0, 1)
    assert losses.ssim(bicubic, hr).item() == pytest.approx(float(stored["ssim_index_rgb_bicubic_vs_hr"]), abs=2e-5)


def naive_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of two (h, w) images, with sums over an 11x11 window written out by SciPy."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def smooth(image: np.ndarray) -> np.ndarray:
        return ndimage.correlate(image, window, mode="constant")

    m1, m2 = smooth(first), smooth(second)
    v1, v2, cov = smooth(first**2) - m1**2, smooth(second**2) - m2**2, smooth(first * second) - m1 * m2
    similarity = (2 * m1 * m2 + 1e-4) * (2 * cov + 9e-4) / ((m1**2 + m2**2 + 1e-4) * (v1 + v2 + 9e-4))
    return float(similarity.mean())


def test_ssim_is_its_formula() -> None:
    first, second = uniform(2, 3, 17, 14), uniform(2, 3, 17, 14, seed=1)
    planes = zip(first.flatten(0, 1).numpy(), second.flatten(0, 1).numpy(), strict=True)
    expected = np.mean([naive_ssim(a, b) for a, b in planes])
    assert losses.ssim(first, second).item() == pytest.approx(expected, abs=1e-12)


def test_ssim_of_equal_images_is_one_and_no_other_is() -> None:
    image = uniform(1, 3, 16, 16)
    assert losses.ssim(image, image).item() == pytest.approx(1, abs=1e-12)
    assert losses.ssim(image, image.flip(3)).item() < 0.5
    assert losses.ssim(image, (0.9 * image + 0.05)).item() < 0.999


def test_ssim_is_symmetric() -> None:
    first, second = uniform(1, 3, 16, 16), uniform(1, 3, 16, 16, seed=1)
    torch.testing.assert_close(losses.ssim(first, second), losses.ssim(second, first), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_window_has_unit_sum_and_the_images_dtype(dtype: torch.dtype) -> None:
    window = losses._window(3, dtype, torch.device("cpu"))
    assert window.shape == (3, 1, 11, 11)
    assert window.dtype == dtype == losses.ssim(uniform(1, 3, 12, 12).to(dtype), uniform(1, 3, 12, 12).to(dtype)).dtype
    torch.testing.assert_close(window.sum((1, 2, 3)), torch.ones(3, dtype=dtype))


def test_gradients_of_ssim() -> None:
    first, second = uniform(1, 2, 6, 7).requires_grad_(), uniform(1, 2, 6, 7, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(losses.ssim, (first, second))


def naive_hyper_laplacian(image: Tensor, power: float) -> float:
    """The sum over pixels and the neighbours above, left, above left and below left, mirrored without the edge."""
    height, width = image.shape[-2:]

    def mirrored(index: int, size: int) -> int:
        return -index if index < 0 else 2 * (size - 1) - index if index >= size else index

    total = 0.0
    for plane in image.flatten(0, 1).tolist():
        for i in range(height):
            for j in range(width):
                for down, right in ((-1, 0), (0, -1), (-1, -1), (1, -1)):
                    neighbour = plane[mirrored(i + down, height)][mirrored(j + right, width)]
                    total += (abs(neighbour - plane[i][j]) + 1e-8) ** power
    return total


@pytest.mark.parametrize("power", [0.67, 1.0])
def test_hyper_laplacian_is_its_sum(power: float) -> None:
    image = uniform(1, 3, 7, 9)
    assert losses.hyper_laplacian(image, power).item() == pytest.approx(naive_hyper_laplacian(image, power), rel=1e-12)
    assert losses.hyper_laplacian(image).item() == pytest.approx(naive_hyper_laplacian(image, 0.67), rel=1e-12)


def test_gradients_of_hyper_laplacian() -> None:
    assert torch.autograd.gradcheck(losses.hyper_laplacian, (uniform(1, 2, 5, 6).requires_grad_(),))


def test_a_flat_image_has_a_finite_gradient() -> None:
    image = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64, requires_grad=True)
    loss = losses.hyper_laplacian(image)
    loss.backward()
    assert loss.item() == pytest.approx(4 * image.numel() * math.pow(1e-8, 0.67), rel=1e-9)
    assert torch.isfinite(image.grad).all()
