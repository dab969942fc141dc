"""Mirrored borders, tiles, and the way between grids, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import normal, problem, uniform
from torch import Tensor
from torch.nn import functional as F

from kernelsr import enlarge
from kernelsr.problem import Problem


def test_beyond_its_border_an_image_is_mirrored() -> None:
    image = uniform(2, 3, 5, 4)
    wanted = np.pad(image.numpy(), ((0, 0), (0, 0), (11, 3), (11, 17)), mode="symmetric")
    assert np.array_equal(enlarge.continued(image, 11, (3, 17)).numpy(), wanted)


def convolved(image: Tensor) -> Tensor:
    """A network that sees two pixels far and enlarges by 3."""
    inner = F.conv2d(image, normal(4, 2, 3, 3, seed=1), padding=1).relu()
    return F.pixel_shuffle(F.conv2d(inner, normal(9, 4, 3, 3, seed=2), padding=1), 3)


@pytest.mark.parametrize(("tile", "halo"), [(7, 2), (5, 3), (1, 2), (40, 6)])
def test_tiles_leave_no_trace_where_the_halo_is_what_the_network_sees(tile: int, halo: int) -> None:
    image = normal(2, 2, 13, 17)
    seen: list[int] = []

    def network(piece: Tensor) -> Tensor:
        seen.append(max(piece.shape[2:]))
        return convolved(piece)

    tiled = enlarge.in_tiles(network, image, tile=tile, halo=halo)
    wide = convolved(enlarge.continued(image, 8, (8, 8)))
    assert tiled.shape == (2, 1, 39, 51)
    assert torch.allclose(tiled, wide[..., 24:-24, 24:-24], atol=1e-12)
    assert max(seen) <= tile + 2 * halo


def test_too_small_a_halo_would_be_seen() -> None:
    image = normal(1, 2, 13, 17)
    apart, whole = (enlarge.in_tiles(convolved, image, tile=tile, halo=1) for tile in (7, 40))
    assert (apart - whole).abs().max() > 1e-3


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("centre", ["fkp", "aligned"])
def test_on_the_conventions_grid_a_ramp_reads_where_lr_pixels_lie(scale: int, centre: str) -> None:
    # On the aligned grid, LR pixel i lies on s i + (s - 1)/2; by FKP's convention, on s i - (s - 1)/2.
    ramp = torch.arange(16.0, dtype=torch.float64)[None, None, None].expand(1, 1, 16, 16) / 16
    posed = Problem(ramp, scale, centre=centre)
    settled = enlarge.settled(enlarge.bicubic(ramp, scale), posed)[0, 0, 8 * scale, 4 * scale : 12 * scale]
    first = (scale - 1) / 2 if centre == "aligned" else -(scale - 1) / 2
    pixels = torch.arange(4 * scale, 12 * scale, dtype=torch.float64)
    assert torch.allclose(settled, (pixels - first) / scale / 16, atol=1e-12)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (1.0, -3.0), (0.3, -0.45), (-2.6, 7.25)])
def test_an_image_moves_by_any_number_of_pixels(offset: tuple[float, float]) -> None:
    # Waves that are even about the border of the image are their own mirror images, so that the phase is exact.
    rows, columns = torch.arange(20.0, dtype=torch.float64), torch.arange(14.0, dtype=torch.float64)
    whole = (round(offset[0]), round(offset[1]))

    def wave(down: float, right: float) -> Tensor:
        first = torch.cos(math.pi * 3 * (rows - down + 0.5) / 20)
        second = torch.cos(math.pi * 2 * (columns - right + 0.5) / 14)
        return torch.outer(first, second)[None, None]

    # What is rolled is no longer even: so the whole pixels by roll, and the rest against the waves.
    rest = (offset[0] - whole[0], offset[1] - whole[1])
    image = wave(0, 0).roll((-whole[0], -whole[1]), (2, 3))
    assert torch.allclose(enlarge.moved(image, offset), wave(*rest), atol=1e-12)


def test_whole_pixels_are_a_roll() -> None:
    image = uniform(1, 3, 9, 12)
    assert torch.allclose(enlarge.moved(image, (-2.0, 5.0)), image.roll((-2, 5), (2, 3)), atol=1e-12)


def test_a_move_there_and_back_keeps_what_is_smooth() -> None:
    posed = problem(2, 24)
    image = enlarge.bicubic(posed.lr, 2)
    there = enlarge.moved(image, (0.4, -0.3))
    inside = (..., slice(8, -8), slice(8, -8))
    assert (there - image)[inside].abs().max() > 1e-2
    assert (enlarge.moved(there, (-0.4, 0.3)) - image)[inside].abs().max() < 1e-2
