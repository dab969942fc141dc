"""The quadratic form against what it stands for: its matrix by brute force, its errors and gradients by degrading."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cases import normal, problem, rng, uniform
from torch import Tensor

from kernelsr.degradation import degrade
from kernelsr.kernels import normalise
from kernelsr.problem import Problem
from kernelsr.quadratic import Quadratic, correlations, patch_correlations

SIZES = [(2, 9, 3), (3, 6, 1), (4, 5, 3), (8, 3, 3), (5, 5, 1)]
"""scale, LR side, colours; as small as Problem takes them, so that kernels reach around the border."""
every_size = pytest.mark.parametrize(("scale", "side", "colours"), SIZES)


def posed(scale: int, side: int, colours: int, margin: int = 0) -> tuple[Tensor, Problem, Tensor]:
    """An image that is wider than high, a problem that has nothing to do with it, and a kernel."""
    image = uniform(1, colours, scale * side, scale * (side + 2), seed=1)
    lr = uniform(1, colours, side, side + 2, seed=2)
    case = replace(problem(scale, side, colours=colours), lr=lr, margin=margin)
    return image, case, normalise(uniform(1, 1, case.kernel_size, case.kernel_size))


def lr_images_of_single_pixels(image: Tensor, size: int, scale: int) -> Tensor:
    return degrade(image, torch.eye(size**2, dtype=torch.float64).view(-1, 1, size, size), scale)


@every_size
def test_the_matrix_is_that_of_the_lr_images_of_single_pixels(scale: int, side: int, colours: int) -> None:
    image, case, _ = posed(scale, side, colours)
    size = case.kernel_size
    images = lr_images_of_single_pixels(image, size, scale).flatten(1)
    assert torch.allclose(correlations(image, size, scale), images @ images.T, rtol=0, atol=1e-11)
    assert torch.allclose(patch_correlations(image, size, scale, 0), images @ images.T, rtol=0, atol=1e-11)


@every_size
def test_a_margin_is_left_out_of_the_matrix(scale: int, side: int, colours: int) -> None:
    image, case, _ = posed(scale, side, colours, margin=1)
    images = case.inside(lr_images_of_single_pixels(image, case.kernel_size, scale)).flatten(1)
    assert images.shape[1] == colours * (side - 2) * side
    found = patch_correlations(image, case.kernel_size, scale, 1)
    assert torch.allclose(found, images @ images.T, rtol=0, atol=1e-11)


@pytest.mark.parametrize("margin", [0, 1])
@every_size
def test_errors_and_gradients_are_those_of_degrading(scale: int, side: int, colours: int, margin: int) -> None:
    image, case, reference = posed(scale, side, colours, margin)
    quadratic = Quadratic(image, case, reference)
    # Far from the reference, of any sign and sum: it is no approximation.
    for kernels in (reference, reference + 0.1 * normal(7, *reference.shape[1:]), normal(2, *reference.shape[1:])):
        plain, form = (kernels.clone().requires_grad_() for _ in range(2))
        errors = case.inside((degrade(image, plain, scale) - case.lr) ** 2).mean((1, 2, 3))
        assert torch.allclose(quadratic(form), errors, rtol=1e-11, atol=1e-13)
        errors.sum().backward()
        quadratic(form).sum().backward()
        assert form.grad is not None and plain.grad is not None
        assert torch.allclose(form.grad, plain.grad, rtol=1e-10, atol=1e-12)


def test_float32_keeps_the_small_errors_near_the_reference() -> None:
    image = uniform(1, 3, 96, 80, seed=3)
    reference = normalise(uniform(1, 1, 19, 19))
    true = normalise(reference + 0.002 * uniform(1, 1, 19, 19, seed=5))
    lr = degrade(image, true, 4)
    exact = Quadratic(image, Problem(lr, 4), reference)
    rounded = Quadratic(image.float(), Problem(lr.float(), 4), reference.float())
    steps = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None, None, None]
    kernels = reference + steps * (true - reference)
    assert exact(kernels)[-1] < 1e-12 < exact(kernels)[0]  # down to nothing, as at the true kernel
    assert torch.allclose(rounded(kernels.float()).double(), exact(kernels), rtol=1e-3, atol=1e-9)


def test_its_minimum_is_the_kernel_that_made_y() -> None:
    image = uniform(1, 3, 96, 96, seed=3)
    true = normalise(torch.rand(1, 1, 11, 11, generator=rng(4), dtype=torch.float64))
    start = torch.full_like(true, 1 / 121)
    form = Quadratic(image, Problem(degrade(image, true, 2), 2), start)
    step = torch.linalg.solve(form.gram, form.slope).view_as(true)
    assert torch.allclose(start - step, true, atol=1e-10)


def test_no_gradient_reaches_the_image() -> None:
    image, case, reference = posed(2, 9, 3)
    form = Quadratic(image.requires_grad_(), case, reference.requires_grad_())
    assert not form.gram.requires_grad and not form.slope.requires_grad and not form.reference.requires_grad
