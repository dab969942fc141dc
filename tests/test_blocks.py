"""JPEG's blocks: seen wherever their grid begins, in both directions, and in no image that has none."""

from __future__ import annotations

import pytest
import torch
from cases import photograph, uniform

from kernelsr.blocks import Blocks
from kernelsr.capture import jpeg
from kernelsr.colours import grey

IMAGE = photograph(192, torch.float32)


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (7, 1)])
def test_a_jpeg_is_seen_by_its_blocks_wherever_they_begin(corner: tuple[int, int]) -> None:
    images = [grey(jpeg(IMAGE, quality))[..., corner[0] :, corner[1] :] for quality in (60, 75, 90, 94)]
    seen = [Blocks(image).blockiness for image in images]
    assert seen == sorted(seen, reverse=True) and all(Blocks(image).visible for image in images)


def test_an_image_without_blocks_has_none() -> None:
    assert Blocks(torch.full((1, 1, 30, 30), 0.3)).blockiness == 0
    assert Blocks(uniform(1, 1, 5, 7)).blockiness == 0
    for image in (
        grey(IMAGE),
        uniform(1, 1, 100, 100),
        *(grey(IMAGE)[..., :side, 50 : 50 + side] for side in (24, 48)),
    ):
        assert not Blocks(image).visible


def test_rows_and_columns_count_alike() -> None:
    compressed = grey(jpeg(IMAGE, 80))[..., :96, :]
    assert Blocks(compressed).blockiness == pytest.approx(Blocks(compressed.mT.contiguous()).blockiness)
