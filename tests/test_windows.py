"""The windows of an image that tell most of a kernel."""

from __future__ import annotations

import pytest
import torch
from cases import uniform
from torch import Tensor

from kernelsr.crops import box_sums, informative_windows


def corners(window: Tensor) -> float:
    """The smallest eigenvalue of a window's (C, h, w) mean structure tensor, whose gradients were taken beforehand."""
    down, right = window
    tensor = torch.stack([torch.stack([down**2, down * right]), torch.stack([down * right, right**2])]).mean((2, 3))
    return torch.linalg.eigvalsh(tensor)[0].item()


@pytest.mark.parametrize("shape", [(20, 26), (9, 26), (31, 8)])
def test_the_windows_that_tell_most_come_first_and_overlap_by_half_at_most(shape: tuple[int, int]) -> None:
    image = uniform(1, 1, *shape) * torch.linspace(0, 1, shape[1], dtype=torch.float64)
    image[0, 0, 0] = torch.arange(shape[1])  # so that places are known again
    side = min(10, *shape)
    found = informative_windows(image, side, 4)
    gradients = torch.stack(torch.gradient(image[0, 0]))
    every = {
        (top, left): corners(gradients[:, top : top + side, left : left + side])
        for top in range(shape[0] - side + 1)
        for left in range(shape[1] - side + 1)
    }
    for window in found:
        best = max(every, key=lambda place: every[place])
        assert torch.equal(window, image[0, :, best[0] : best[0] + side, best[1] : best[1] + side])
        every = {p: v for p, v in every.items() if max(abs(p[0] - best[0]), abs(p[1] - best[1])) > side // 2}
    assert len(found) == 4 or not every


def test_a_flat_image_has_windows_too() -> None:
    assert informative_windows(torch.full((1, 3, 30, 30), 0.5), 16, 3).shape == (3, 3, 16, 16)
    assert informative_windows(torch.full((1, 1, 5, 9), 0.5), 16, 3).shape[1:] == (1, 5, 5)


def test_sums_over_windows_of_a_large_image_are_exact() -> None:
    sums = box_sums(torch.full((1, 1500, 1500), 0.1), 8, 5)
    assert sums.shape == (1, 1493, 1496)
    torch.testing.assert_close(sums, torch.full_like(sums, 8 * 5 * torch.tensor(0.1).item()), rtol=1e-6, atol=0)
