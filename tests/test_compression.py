"""What JPEG left in an image: its quality, its error, and what a restorer is told of it."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import photograph, rng, true_kernel, uniform
from PIL import Image
from scipy import stats
from torch import Tensor

from kernelsr import metrics, restorers
from kernelsr.blocks import Blocks
from kernelsr.capture import jpeg
from kernelsr.colours import grey
from kernelsr.compression import (
    LOUDEST,
    OUTLIERS,
    ROUNDING,
    WORSE,
    coefficients,
    compression_error,
    noise_level,
    quality_of,
    steps_of,
    was_jpeg,
)
from kernelsr.degradation import degrade
from kernelsr.problem import Problem

IMAGE = photograph(192, torch.float32)


@pytest.mark.parametrize("quality", [5, 49, 50, 75, 99])
def test_the_steps_are_those_that_an_encoder_writes(quality: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    written = Image.open(file).quantization[0]  # type: ignore[attr-defined]
    assert steps_of(quality).ravel().tolist() == list(written)


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("quality", [10, 40, 60, 80, 90, 95, 98])
def test_the_quality_is_read_off_the_image(quality: int, colour: bool) -> None:
    compressed = jpeg(IMAGE if colour else grey(IMAGE), quality)
    found, evidence = quality_of(coefficients(compressed, (0, 0)))
    assert found == quality and evidence > 100


@pytest.mark.parametrize("quality", [40, 60, 80, 90])
def test_its_error_is_about_the_true_one(quality: int) -> None:
    compressed = jpeg(IMAGE, quality)[..., 3:, 6:]
    error = (grey(compressed) - grey(IMAGE)[..., 3:, 6:]).square().mean().sqrt().item()
    assert 0.8 * error < compression_error(compressed) < 1.8 * error


def text() -> Tensor:
    """Black on white, mostly white, sharp."""
    page = np.ones((96, 96), np.float32)
    page[10:80:9, 8:70:2] = 0
    page[12:80:9, 9:60:5] = 0
    return torch.from_numpy(page)[None, None]


@pytest.mark.parametrize("quality", [60, 90])
def test_channels_that_are_no_colours_are_read_by_themselves(quality: int) -> None:
    image = torch.cat([IMAGE, IMAGE.flip(3)], 1)[:, :4]
    assert compression_error(jpeg(image, quality)) == compression_error(jpeg(image[:, :1], quality)) > 0


def test_a_jpeg_is_known_by_its_blocks_or_by_its_coefficients() -> None:
    strong, weak = jpeg(IMAGE, 60)[..., 3:, 6:], jpeg(IMAGE, 97)
    assert Blocks(grey(strong)).visible and was_jpeg(strong)
    assert not Blocks(grey(weak)).visible and was_jpeg(weak)
    assert was_jpeg(weak[..., 3:, 6:]) and not was_jpeg(weak[..., :24])
    assert was_jpeg(torch.cat([jpeg(grey(IMAGE), 97), IMAGE], 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_quality_is_read_in_any_precision(dtype: torch.dtype) -> None:
    assert compression_error(IMAGE.to(dtype)) == 0 and not was_jpeg(IMAGE.to(dtype))
    levels = jpeg(IMAGE, 60).to(dtype)
    assert was_jpeg(levels) and compression_error(levels) > 0


def test_the_evidence_is_of_rounded_laplace_variables() -> None:
    steps = steps_of(85)
    found = np.round(np.random.default_rng(0).laplace(scale=15, size=(30, 8, 8)) / steps) * steps + 0.1
    values, steps = np.abs(found.reshape(30, 64)[:, 1:]), steps.ravel()[1:]
    number, laplace = np.round(values / steps), stats.laplace(scale=values.mean(0))
    # Zero is of both signs, as the values are; of the others, one.
    mass = laplace.cdf((number + 0.5) * steps) - laplace.cdf((number - 0.5) * steps)
    share = mass * stats.norm(scale=ROUNDING).pdf(values - number * steps) / laplace.pdf(values)
    gain = np.log((1 - OUTLIERS) * share + OUTLIERS)
    assert quality_of(found, [85]) == (85, pytest.approx(gain[number != 0].sum(), rel=1e-4))
    assert quality_of(found)[0] == 85


def test_of_a_weak_jpeg_of_faint_details_what_became_zero_tells_the_quality() -> None:
    """Of coarser steps nothing but zeros would be left, and no evidence of the others against them."""
    random, steps = np.random.default_rng(0), steps_of(98)
    spread = 4 / (1 + np.hypot(*np.mgrid[:8, :8]))
    found = np.round(random.laplace(scale=spread, size=(20, 8, 8)) / steps) * steps
    assert quality_of(found + random.normal(scale=ROUNDING, size=found.shape))[0] == 98


def repeated() -> list[Tensor]:
    """Stripes of two widths, and a ramp: every block is like another."""
    column = torch.arange(96)
    stripes = [(80 + 100.0 * (column % period < period // 2)) for period in (4, 8)]
    return [(row / 255).expand(1, 3, 96, 96) for row in (*stripes, (20 + 1.5 * column).floor())]


def test_an_image_that_was_no_jpeg_has_no_such_error() -> None:
    for image in repeated():
        assert compression_error(image) == 0
    flat = torch.full((1, 3, 64, 64), 0.4)
    blurred = degrade(photograph(192), true_kernel(), 2).float()
    for image in (
        IMAGE,
        blurred,
        flat,
        text(),
        uniform(1, 1, 64, 64),
        0 * flat,
        flat / flat,
        jpeg(IMAGE, 60)[..., :24],
    ):
        assert compression_error(image) == 0 and not was_jpeg(image)


def test_a_restorer_is_told_of_noise_and_of_jpeg() -> None:
    clean = Problem(IMAGE, 2)
    assert noise_level(clean) == 0 and noise_level(replace(clean, noise_std=0.02)) == 0.02
    posed = replace(clean, lr=jpeg(IMAGE, 60), noise_std=0.02)
    assert noise_level(posed) == pytest.approx(math.hypot(0.02, WORSE * compression_error(posed.lr)))
    assert restorers.Usrnet(posed, rng()).get_buffer("level").item() == pytest.approx(noise_level(posed))
    assert noise_level(Problem(jpeg(IMAGE, 12), 2)) <= LOUDEST
    assert restorers.Usrnet(posed, rng(), noise_std=0.0).get_buffer("level").item() == 0


def test_usrnet_is_better_for_it() -> None:
    hr, kernel = photograph(192), true_kernel()
    posed = Problem(jpeg(degrade(hr, kernel, 2).float(), 60), 2)
    told, untold = (
        metrics.score_image(restorers.Usrnet(posed, rng(), noise_std=level)(kernel.float()), hr, metrics.Scoring(2))[
            "psnr"
        ]
        for level in (None, 0.0)
    )
    assert told > untold + 0.3
