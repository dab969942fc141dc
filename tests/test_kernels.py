"""Kernel arithmetic against SciPy, analytic Gaussians and explicit degradations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import normal, uniform
from scipy import ndimage
from torch import Tensor

from kernelsr import degradation, kernels

OFFSETS = [(0.0, 0.0), (0.3, -0.7), (-2.4, 3.1), (1.0, -2.0), (0.5, 0.5), (7.6, -9.2), (-14.0, 25.3), (1e-9, -1e-9)]


def gaussian(covariance: Tensor, size: int, row: float, column: float) -> Tensor:
    """An analytic Gaussian (1, 1, size, size) about (row, column); axes are (row, column)."""
    place = torch.arange(size, dtype=torch.float64)
    offset = torch.stack(torch.meshgrid(place - row, place - column, indexing="ij"), -1)
    distance = (offset @ covariance.inverse() * offset).sum(-1)
    return kernels.normalise(torch.exp(-distance / 2)[None, None])


@pytest.mark.parametrize("size", [3, 5, 11, 12, 21])
def test_shift_is_scipys(size: int) -> None:
    kernel = uniform(len(OFFSETS), 1, size, size)
    shifted = kernels.shift(kernel, torch.tensor(OFFSETS, dtype=torch.float64))
    for got, before, offset in zip(shifted[:, 0], kernel[:, 0], OFFSETS, strict=True):
        expected = ndimage.shift(before.numpy(), offset, order=3, mode="constant")
        np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12, err_msg=str(offset))


def test_shift_by_random_offsets_is_scipys() -> None:
    kernel, offset = uniform(40, 1, 11, 11), 24 * uniform(40, 2, seed=1) - 12
    shifted = kernels.shift(kernel, offset)
    expected = [
        ndimage.shift(k.numpy(), o.numpy(), order=3, mode="constant") for k, o in zip(kernel[:, 0], offset, strict=True)
    ]
    np.testing.assert_allclose(shifted[:, 0].numpy(), np.stack(expected), rtol=0, atol=1e-12)


def test_shift_is_differentiable_in_kernel_and_offset() -> None:
    kernel = uniform(2, 1, 5, 5).requires_grad_()
    offset = torch.tensor([[0.3, -1.2], [-0.6, 2.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(kernels.shift, (kernel, offset))


def test_moments_of_analytic_gaussians() -> None:
    covariances = torch.tensor(
        [[[2.0, 0.0], [0.0, 5.0]], [[4.0, 1.5], [1.5, 1.5]], [[1.0, -0.6], [-0.6, 3.0]]], dtype=torch.float64
    )
    batch = torch.cat([gaussian(covariance, 41, 19.3, 21.2) for covariance in covariances])
    torch.testing.assert_close(kernels.moments(batch), covariances, rtol=0, atol=1e-6)
    # Moments are those of the normalised kernel.
    torch.testing.assert_close(kernels.moments(3 * batch), covariances, rtol=0, atol=1e-6)


def test_centroid_is_row_then_column() -> None:
    delta = torch.zeros(2, 1, 7, 9, dtype=torch.float64)
    delta[0, 0, 2, 8], delta[1, 0, 6, 1] = 1.0, 0.25
    torch.testing.assert_close(kernels.centroid(delta), torch.tensor([[2.0, 8.0], [6.0, 1.0]], dtype=torch.float64))


def test_recentre_puts_the_centroid_on_its_target() -> None:
    kernel = gaussian(torch.diag(torch.tensor([2.0, 3.0], dtype=torch.float64)), 41, 21.7, 18.4)
    moved = kernels.recentre(kernel, 20.25)
    torch.testing.assert_close(kernels.centroid(moved), torch.full((1, 2), 20.25).double(), rtol=0, atol=1e-9)


def test_normalise_makes_the_sum_one() -> None:
    torch.testing.assert_close(kernels.normalise(uniform(3, 1, 5, 5)).sum((1, 2, 3)), torch.ones(3).double())


def test_pad_to_keeps_the_middle_pixel_and_the_degradation() -> None:
    kernel, image = uniform(2, 1, 7, 7), normal(1, 1, 24, 24)
    wide = kernels.pad_to(kernel, 13)
    assert wide.shape == (2, 1, 13, 13)
    assert torch.equal(wide[..., 6, 6], kernel[..., 3, 3])
    assert wide.sum() == pytest.approx(kernel.sum().item())
    torch.testing.assert_close(degradation.degrade(image, wide, 3), degradation.degrade(image, kernel, 3))
    assert torch.equal(kernels.pad_to(wide, 7), kernel)


def test_two_degradations_at_x2_are_one_at_x4_by_the_dilated_convolution() -> None:
    image, kernel = normal(1, 2, 48, 40), normal(3, 1, 7, 7, seed=1)
    once = kernels.convolve_dilated(kernel)
    assert once.shape == (3, 1, 19, 19)
    for x2, x4 in zip(kernel.split(1), once.split(1), strict=True):
        twice = degradation.degrade(degradation.degrade(image, x2, 2), x2, 2)
        torch.testing.assert_close(degradation.degrade(image, x4, 4), twice)


@pytest.mark.parametrize(
    ("convention", "kernel_size", "scale", "expected"),
    [("fkp", 11, 2, 4.5), ("fkp", 15, 3, 6.0), ("fkp", 19, 4, 7.5), ("fkp", 21, 8, 6.5)]
    + [("aligned", 11, 2, 5.5), ("aligned", 15, 3, 8.0), ("aligned", 19, 4, 10.5), ("aligned", 21, 8, 13.5)],
)
def test_centre(convention: str, kernel_size: int, scale: int, expected: float) -> None:
    assert kernels.centre(convention, kernel_size, scale) == expected


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_conventions_lie_a_scale_less_one_apart(scale: int) -> None:
    assert kernels.centre("aligned", 21, scale) - kernels.centre("fkp", 21, scale) == scale - 1


def test_an_unknown_convention_is_an_error() -> None:
    with pytest.raises(ValueError, match="choose fkp or aligned"):
        kernels.centre("middle", 11, 2)


def test_a_shift_keeps_the_second_moments() -> None:
    angle = math.pi / 5
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    covariance = turn @ torch.diag(torch.tensor([1.5, 4.0], dtype=torch.float64)) @ turn.T
    moved = kernels.shift(gaussian(covariance, 41, 20, 20), torch.tensor([[1.4, -2.7]], dtype=torch.float64))
    torch.testing.assert_close(kernels.moments(moved)[0], covariance, rtol=0, atol=1e-5)
