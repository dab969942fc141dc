"""The quadratic form against what it stands for: its matrix by brute force, its errors and gradients by degrading."""

from __future__ import annotations

import pytest
import torch
from cases import normal, rng, uniform
from torch import Tensor

from kernelsr.degradation import degrade
from kernelsr.kernels import normalise
from kernelsr.problem import fkp_kernel_size
from kernelsr.quadratic import Quadratic, correlations

SIZES = [(2, 9, 8, 3), (3, 6, 7, 1), (4, 5, 6, 3), (8, 4, 3, 3), (5, 3, 3, 1)]
"""scale, LR height and width, colours; the smallest images that Problem takes, so that kernels reach around the border."""
every_size = pytest.mark.parametrize(("scale", "height", "width", "colours"), SIZES)


def posed(
    scale: int, height: int, width: int, colours: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """An image, an LR image that has nothing to do with it, and a kernel."""
    image = uniform(1, colours, scale * height, scale * width, seed=1, dtype=dtype)
    size = fkp_kernel_size(scale)
    return (
        image,
        uniform(1, colours, height, width, seed=2, dtype=dtype),
        normalise(uniform(1, 1, size, size)).to(dtype),
    )


@every_size
def test_the_matrix_is_that_of_the_lr_images_of_single_pixels(
    scale: int, height: int, width: int, colours: int
) -> None:
    image, _, kernel = posed(scale, height, width, colours)
    size = kernel.shape[-1]
    pixels = torch.eye(size**2, dtype=torch.float64).view(-1, 1, size, size)
    images = degrade(image, pixels, scale).flatten(1)
    assert torch.allclose(correlations(image, size, scale), images @ images.T, rtol=0, atol=1e-11)


@every_size
def test_errors_and_gradients_are_those_of_degrading(scale: int, height: int, width: int, colours: int) -> None:
    image, lr, reference = posed(scale, height, width, colours)
    quadratic = Quadratic(image, lr, scale, reference)
    # Far from the reference, of any sign and sum: it is no approximation.
    for kernels in (reference, reference + 0.1 * normal(7, *reference.shape[1:]), normal(2, *reference.shape[1:])):
        plain, form = (kernels.clone().requires_grad_() for _ in range(2))
        errors = ((degrade(image, plain, scale) - lr) ** 2).mean((1, 2, 3))
        assert torch.allclose(quadratic(form), errors, rtol=1e-11, atol=1e-13)
        errors.sum().backward()
        quadratic(form).sum().backward()
        assert torch.allclose(form.grad, plain.grad, rtol=1e-10, atol=1e-12)


def test_float32_keeps_the_small_errors_near_the_reference() -> None:
    image, _, reference = posed(4, 24, 20, 3)
    true = normalise(reference + 0.002 * uniform(*reference.shape, seed=5))
    lr = degrade(image, true, 4)
    exact = Quadratic(image, lr, 4, reference)
    rounded = Quadratic(image.float(), lr.float(), 4, reference.float())
    steps = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None, None, None]
    kernels = reference + steps * (true - reference)
    assert exact(kernels)[-1] < 1e-12 < exact(kernels)[0]  # down to nothing, as at the true kernel
    assert torch.allclose(rounded(kernels.float()).double(), exact(kernels), rtol=1e-3, atol=1e-9)


def test_its_minimum_is_the_kernel_that_made_y() -> None:
    image = uniform(1, 3, 96, 96, seed=3)
    true = normalise(torch.rand(1, 1, 11, 11, generator=rng(4), dtype=torch.float64))
    start = torch.full_like(true, 1 / 121)
    form = Quadratic(image, degrade(image, true, 2), 2, start)
    step = torch.linalg.solve(form.gram, form.slope).view_as(true)
    assert torch.allclose(start - step, true, atol=1e-10)


def test_no_gradient_reaches_the_image() -> None:
    image, lr, reference = posed(2, 9, 8, 3)
    image.requires_grad_()
    form = Quadratic(image, lr, 2, reference.requires_grad_())
    assert not form.gram.requires_grad and not form.slope.requires_grad and not form.reference.requires_grad
