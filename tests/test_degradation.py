"""The degradation against the authors' numbers, SciPy's, and the properties that fix its conventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import golden, normal, problem, uniform
from scipy import ndimage
from torch import Tensor

from kernelsr import degradation, families, legacy

GEOMETRIES = [  # scale, kernel_size, height, width: supports below, at and above the scale, images below the support
    (2, 3, 8, 6),
    (2, 11, 24, 26),
    (2, 21, 12, 14),
    (3, 5, 9, 12),
    (3, 15, 24, 18),
    (4, 3, 8, 12),
    (4, 9, 12, 16),
    (4, 19, 24, 28),
    (5, 7, 15, 20),
    (8, 3, 16, 24),
    (8, 15, 16, 24),
    (8, 21, 24, 32),
    (16, 3, 16, 32),
]
FORMS = [(3, 3), (1, 3), (3, 1)]  # images, kernels


def wrapped_correlation(image: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """The degradation of one image (1, C, H, W) by one kernel (1, 1, K, K), as SciPy says it."""
    planes = [
        ndimage.correlate(plane, kernel[0, 0].numpy(), mode="wrap")[::scale, ::scale] for plane in image[0].numpy()
    ]
    return torch.from_numpy(np.stack(planes))[None]


# --- golden


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_kernels_are_the_authors(scale: int) -> None:
    stored = golden(f"degradation_x{scale}")
    variance_1, variance_2, angle = torch.from_numpy(stored["params_lambda1_lambda2_theta"]).unbind(1)
    size = stored["kernels"].shape[-1]
    kernels = families.gaussian_kernel(variance_1, variance_2, angle, kernel_size=size, scale=scale)
    np.testing.assert_allclose(kernels[:, 0].numpy(), stored["kernels"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_noisy_kernel_is_the_authors(scale: int) -> None:
    stored = golden(f"degradation_x{scale}")["noisy_kernel_seed7_level04"]
    family = families.AnisotropicGaussian("matched", noise=0.4)
    draws = legacy.LegacyDraws(family, scale, len(stored), "fkp", 0.0, np.random.RandomState(7))
    kernel, _ = draws((4, 4))
    np.testing.assert_allclose(kernel[0, 0].numpy(), stored, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_lr_image_is_the_authors(scale: int) -> None:
    stored = golden(f"degradation_x{scale}")
    hr = torch.from_numpy(stored["hr_uint8"]).permute(2, 0, 1)[None].double() / 255
    lr = degradation.degrade(hr, torch.from_numpy(stored["kernels"][:1])[None], scale)
    np.testing.assert_allclose(lr[0].permute(1, 2, 0).numpy(), stored["lr_float"], rtol=0, atol=1e-6)


# --- properties


@pytest.mark.parametrize(("scale", "kernel_size", "height", "width"), GEOMETRIES)
def test_it_is_a_wrapped_correlation_of_which_the_top_left_pixel_is_kept(
    scale: int, kernel_size: int, height: int, width: int
) -> None:
    image, kernel = normal(1, 3, height, width), normal(1, 1, kernel_size, kernel_size, seed=1)
    lr = degradation.degrade(image, kernel, scale)
    assert lr.shape == (1, 3, height // scale, width // scale)
    torch.testing.assert_close(lr, wrapped_correlation(image, kernel, scale), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("scale", "kernel_size", "height", "width"), GEOMETRIES)
def test_the_adjoint_passes_the_dot_test(scale: int, kernel_size: int, height: int, width: int) -> None:
    image, kernel = normal(1, 3, height, width), normal(1, 1, kernel_size, kernel_size, seed=1)
    other = normal(1, 3, height // scale, width // scale, seed=2)
    adjoint = degradation.degrade_adjoint(other, kernel, scale)
    assert adjoint.shape == image.shape
    left, right = (degradation.degrade(image, kernel, scale) * other).sum(), (image * adjoint).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_is_linear_in_the_image_and_in_the_kernel(scale: int) -> None:
    images, kernels = normal(2, 3, 24, 24).split(1), normal(2, 1, 9, 9, seed=1).split(1)

    def blurred(image: Tensor, kernel: Tensor) -> Tensor:
        return degradation.degrade(image, kernel, scale)

    both = blurred(2 * images[0] - images[1], kernels[0])
    torch.testing.assert_close(both, 2 * blurred(images[0], kernels[0]) - blurred(images[1], kernels[0]))
    both = blurred(images[0], 2 * kernels[0] - kernels[1])
    torch.testing.assert_close(both, 2 * blurred(images[0], kernels[0]) - blurred(images[0], kernels[1]))


@pytest.mark.parametrize(("scale", "kernel_size", "height", "width"), GEOMETRIES)
def test_it_commutes_with_circular_shifts_by_the_scale(scale: int, kernel_size: int, height: int, width: int) -> None:
    image, kernel = normal(1, 2, height, width), normal(1, 1, kernel_size, kernel_size, seed=1)
    moved = degradation.degrade(image.roll((scale, -scale), (2, 3)), kernel, scale)
    torch.testing.assert_close(moved, degradation.degrade(image, kernel, scale).roll((1, -1), (2, 3)))


@pytest.mark.parametrize(("images", "kernels"), FORMS)
@pytest.mark.parametrize("scale", [2, 3])
def test_a_batch_equals_its_loop(scale: int, images: int, kernels: int) -> None:
    image, kernel = normal(images, 2, 18, 24), normal(kernels, 1, 7, 7, seed=1)
    lr = degradation.degrade(image, kernel, scale)
    loop = [wrapped_correlation(image[i % images][None], kernel[i % kernels][None], scale) for i in range(3)]
    torch.testing.assert_close(lr, torch.cat(loop), rtol=0, atol=1e-12)


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize(("centre", "side_of_the_grid"), [("aligned", 1), ("fkp", -1)])
def test_on_a_ramp_lr_pixel_i_lies_where_the_convention_says(
    centre: str, side_of_the_grid: int, scale: int, axis: int
) -> None:
    posed = problem(scale, 24, centre=centre)
    kernel = families.AnisotropicGaussian((0.2 * scale, 0.4 * scale))(1, posed, torch.Generator().manual_seed(0))
    pixels = 20
    length = pixels * scale
    ramp = torch.arange(length, dtype=torch.float64).view((length, 1) if axis == 2 else (1, length))
    lr = degradation.degrade(ramp.expand(1, 1, length, length), kernel, scale)
    reach = -(-posed.kernel_size // scale)
    middle = lr.transpose(axis, 3)[0, 0, 5, reach:-reach]
    expected = scale * torch.arange(pixels, dtype=torch.float64)[reach:-reach] + side_of_the_grid * (scale - 1) / 2
    assert len(middle) > 5
    # What the shift misses of the centre of mass where the border cuts a narrow Gaussian's tail: 3e-4 pixels at most.
    torch.testing.assert_close(middle, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("images", "kernels"), FORMS)
@pytest.mark.parametrize(("scale", "kernel_size"), [(2, 5), (3, 3), (4, 3)])
def test_gradients_of_image_and_kernel(scale: int, kernel_size: int, images: int, kernels: int) -> None:
    image = normal(images, 2, 12, 12).requires_grad_()
    kernel = normal(kernels, 1, kernel_size, kernel_size, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, k: degradation.degrade(x, k, scale), (image, kernel), fast_mode=True)


def test_an_image_that_the_scale_does_not_divide_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(10, 9\) is no multiple of the scale 2"):
        degradation.degrade(uniform(1, 1, 10, 9), uniform(1, 1, 3, 3), 2)
