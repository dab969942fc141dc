"""Metrics against stored scores, scikit-image, closed forms, and the floors of the papers' protocol."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from kernelsr import families, kernels, metrics
from kernelsr.colours import grey
from kernelsr.data import Scenario
from kernelsr.degradation import degrade
from kernelsr.families import AnisotropicGaussian, LinearMotion, gaussian_kernel
from kernelsr.images import read_image
from kernelsr.problem import Estimate, Problem, Truth

GOLDEN = Path(__file__).parent / "golden"


def gaussian(first: float, second: float, angle: float = 0.0, size: int = 21, centre: str = "aligned") -> torch.Tensor:
    values = (torch.tensor([value], dtype=torch.float64) for value in (first, second, angle))
    return gaussian_kernel(*values, kernel_size=size, scale=3, centre=centre)


def wide_problem(scale: int) -> Problem:
    return Problem(torch.zeros(1, 1, 32, 32, dtype=torch.float64), scale)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 14, generator=rng), (48, 56), mode="bilinear")
    return image, (image + 0.05 * torch.randn(image.shape, generator=rng)).clamp(0, 1)


# --- images


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_stored_bicubic_scores(scale: int) -> None:
    stored = np.load(GOLDEN / f"usrnet_tiny_x{scale}.npz")
    image = torch.nn.functional.interpolate(read_image(stored["lr"]), scale_factor=scale, mode="bicubic")
    top, bottom, left, right = stored["crop_of_stored_images"]
    np.testing.assert_allclose(image[..., top:bottom, left:right], stored["torch_bicubic"], atol=1e-5)
    hr = read_image(np.load(GOLDEN / f"degradation_x{scale}.npz")["hr_uint8"])
    expected_psnr, expected_ssim = stored["psnr_y_ssim_y_bicubic"]
    assert metrics.psnr(image, hr, border=scale) == pytest.approx(expected_psnr, abs=1e-4)
    assert metrics.ssim(image, hr, border=scale) == pytest.approx(expected_ssim, abs=1e-5)


def test_ssim_equals_scikit_images(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    first, second = (metrics.luma(image)[0, 0, 3:-3, 3:-3].numpy() for image in pair)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "full": True}
    _, full = skimage.structural_similarity(first, second, **settings)
    assert metrics.ssim(*pair, border=3) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-9)


def test_brightness_weighs_the_colours_and_no_other_channels() -> None:
    red, green, blue = grey(torch.eye(3).view(3, 3, 1, 1)).flatten().tolist()
    assert (red, green, blue) == pytest.approx((0.299, 0.587, 0.114))
    image = torch.linspace(0, 1, 240).view(2, 5, 4, 6)
    torch.testing.assert_close(grey(image), image.mean(1, keepdim=True))


def test_luma_has_the_studio_range() -> None:
    corners = torch.eye(3)[..., None, None]
    y = metrics.luma(corners.reshape(3, 3, 1, 1))[:, 0, 0, 0]
    torch.testing.assert_close(y, torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64) + 16)
    assert metrics.luma(torch.zeros(1, 3, 1, 1)).item() == 16
    assert metrics.luma(torch.ones(1, 3, 1, 1)).item() == pytest.approx(235)
    half_level = torch.full((1, 1, 1, 1), 100.4 / 255)
    assert metrics.luma(half_level).item() == pytest.approx(16 + 219 * 100 / 255)  # rounded to 8 bits


def test_grey_scores_as_its_colour_copy(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    first, second = (image[:, :1] for image in pair)
    for metric in (metrics.psnr, metrics.ssim):
        colour = metric(first.expand(-1, 3, -1, -1), second.expand(-1, 3, -1, -1), border=2)
        assert metric(first, second, border=2) == pytest.approx(colour, abs=1e-9)


def test_the_border_is_shaved_on_every_side(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image = pair[0]
    for place in ((0, 5), (47, 5), (5, 0), (5, 55)):
        spoilt = image.clone()
        spoilt[..., place[0], place[1]] = 1 - image[..., place[0], place[1]].round()
        assert metrics.psnr(spoilt, image, border=1) == math.inf
        assert metrics.psnr(spoilt, image, border=0) < 100


def test_what_cannot_be_compared_is_refused(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="differ in size"):
        metrics.psnr(pair[0], pair[1][..., 1:], border=0)
    with pytest.raises(ValueError, match="leaves nothing"):
        metrics.psnr(*pair, border=24)
    with pytest.raises(ValueError, match="11x11"):
        metrics.ssim(*pair, border=20)


# --- kernels


def test_kernel_psnr_is_of_raw_kernels() -> None:
    kernel = gaussian(2, 5, 0.3)
    assert metrics.kernel_psnr(kernel + 0.001, kernel) == pytest.approx(60)
    assert metrics.kernel_psnr(kernel, kernel) == math.inf
    padded = kernels.pad_to(kernel, 25)
    assert metrics.kernel_psnr(kernel, padded) == metrics.kernel_psnr(padded, kernel) == math.inf


def test_centroid_error_is_a_distance_in_pixels() -> None:
    kernel = gaussian(1, 2, size=31)
    assert metrics.centroid_error(kernel.roll((3, 4), (2, 3)), kernel) == pytest.approx(5, abs=1e-3)
    assert metrics.centroid_error(2 * kernels.pad_to(kernel, 25), kernel) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("factor", [0.8, 1.05, 1.2])
def test_variance_error_is_the_relative_error_of_a_scaled_kernel(factor: float) -> None:
    for angle in (0.0, 0.7, 2.0):
        wide, truth = (gaussian(4 * f, 1.5 * f, angle, size=31) for f in (factor, 1.0))
        assert metrics.variance_error(wide, truth) == pytest.approx(abs(factor - 1), abs=5e-3)


def test_variance_error_sees_each_axis_and_the_angle() -> None:
    truth = gaussian(4, 2, size=31)
    assert metrics.variance_error(gaussian(4, 2.4, size=31), truth) == pytest.approx(0.1, abs=5e-3)
    # Turned by a right angle: ratios 2/4 and 4/2.
    assert metrics.variance_error(gaussian(2, 4, size=31), truth) == pytest.approx(0.75, abs=0.01)
    assert metrics.variance_error(truth, truth) == pytest.approx(0, abs=1e-12)
    delta = torch.zeros(1, 1, 31, 31)
    delta[..., 15, 15] = 1
    assert math.isnan(metrics.variance_error(truth, delta))
    for seed in range(20):
        posed = Problem(torch.zeros(1, 1, 32, 32), 4)
        line = LinearMotion()(1, posed, torch.Generator().manual_seed(seed))
        assert math.isnan(metrics.variance_error(truth, line))
    narrowest = gaussian(0.35, 0.35)
    assert metrics.variance_error(narrowest, narrowest) == pytest.approx(0, abs=1e-9)


def test_shift_tolerance_forgives_position_and_nothing_else() -> None:
    truth = gaussian(3, 5, 0.5, size=31)
    moved = kernels.shift(truth, torch.tensor([[0.37, -1.61]], dtype=torch.float64))
    assert metrics.kernel_psnr(moved, truth) < 55
    assert metrics.kernel_psnr_shifted(moved, truth) > 80
    wider = gaussian(3.6, 6, 0.5, size=31)
    assert metrics.kernel_psnr_shifted(wider, truth) < 70
    noisy = truth + 1e-3 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    assert metrics.kernel_psnr_shifted(noisy, truth) >= metrics.kernel_psnr(noisy, truth)


def test_correlation_is_one_for_moved_and_scaled_copies_only() -> None:
    truth = gaussian(3, 5, 0.5, size=31)
    assert metrics.kernel_correlation(2 * truth.roll((2, -1), (2, 3)), truth) == pytest.approx(1, abs=1e-6)
    assert 0.5 < metrics.kernel_correlation(gaussian(8, 1, size=31), truth) < 0.95


# --- rows


def test_a_perfect_estimate_scores_perfectly(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    hr, kernel = pair[0], gaussian(1, 2, 0.4, size=11)
    problem = Problem(degrade(hr, kernel.float(), 2).clamp(0, 1), 2)
    row = metrics.score(Estimate(hr, kernel), problem, Truth(hr, kernel), metrics.Scoring(2))
    assert list(row) == [
        *(
            "noise_std",
            "psnr",
            "ssim",
            "kernel_psnr",
            "centroid_error",
            "variance_error",
            "kernel_psnr_shifted",
            "lr_psnr",
        )
    ]
    assert row["psnr"] == row["kernel_psnr"] == row["kernel_psnr_shifted"] == math.inf
    assert row["ssim"] == pytest.approx(1)
    assert row["centroid_error"] == pytest.approx(0, abs=1e-9)
    assert row["variance_error"] == pytest.approx(0, abs=1e-9)
    assert row["lr_psnr"] > 100


def test_what_is_unknown_is_absent(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    kernel = gaussian(1, 2, size=11).float()
    problem = Problem((degrade(pair[0], kernel, 2) + 0.01).clamp(0, 1), 2)
    row = metrics.score(Estimate(pair[0], kernel), problem, Truth(), metrics.Scoring(2))
    assert list(row) == ["noise_std", "lr_psnr"] and row["noise_std"] == 0
    assert row["lr_psnr"] == pytest.approx(40, abs=0.2)
    assert metrics.floors(problem, Truth(), metrics.Scoring(2)) == []
    assert [r["method"] for r in metrics.floors(problem, Truth(kernel=kernel), metrics.Scoring(2))] == [
        *("floor: mean kernel", "floor: delta")
    ]


@pytest.mark.parametrize(("scale", "expected"), [(2, 46.3), (3, 50.9), (4, 54.3)])
def test_the_mean_kernels_floor(scale: int, expected: float) -> None:
    problem = wide_problem(scale)
    drawn = AnisotropicGaussian()(200, problem, torch.Generator().manual_seed(1))
    constant = families.mean_kernel(problem)
    assert constant.sum().item() == pytest.approx(1)
    mean = sum(metrics.kernel_psnr(constant, kernel[None]) for kernel in drawn) / 200
    # Standard deviation 6 over 200 kernels: standard error 0.44 dB.
    assert mean == pytest.approx(expected, abs=1.2)


@pytest.mark.parametrize("centre", ["fkp", "aligned"])
def test_the_mean_kernel_is_at_the_conventions_centre(centre: str) -> None:
    problem = Problem(torch.zeros(1, 1, 32, 32), 2, kernel_size=31, centre=centre)
    constant = families.mean_kernel(problem)
    target = torch.full((1, 2), kernels.centre(centre, 31, 2), dtype=torch.float64)
    torch.testing.assert_close(kernels.centroid(constant), target)
    torch.testing.assert_close(
        kernels.moments(constant)[0], 2.675 * torch.eye(2, dtype=torch.float64), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("centre", ["fkp", "aligned"])
@pytest.mark.parametrize("scale", [2, 3])
def test_the_delta_is_at_the_conventions_centre_and_as_narrow_as_can_be(scale: int, centre: str) -> None:
    problem = Problem(torch.zeros(1, 1, 32, 32), scale, centre=centre)
    delta = families.delta_kernel(problem)
    target = kernels.centre(centre, problem.kernel_size, scale)
    assert kernels.centroid(delta)[0].tolist() == pytest.approx([target, target]) and delta.sum().item() == 1
    assert int((delta > 0).sum()) == (1 if target == int(target) else 4)


def test_alignment_lifts_the_bicubic_floor_on_the_bundled_photos() -> None:
    photos = Path(metrics.__file__).parent / "photos"
    for case in Scenario(photos, scale=4, only=["astronaut", "camera"]):
        _, _, unaligned, aligned = metrics.floors(*case.load(), metrics.Scoring(4))
        assert (unaligned["method"], aligned["method"]) == metrics.FLOORS[1:]
        assert float(aligned["psnr"]) > float(unaligned["psnr"]) + 1
        assert float(aligned["ssim"]) > float(unaligned["ssim"])


@pytest.mark.skipif("KERNELSR_DATA" not in os.environ, reason="needs Set5: set KERNELSR_DATA")
@pytest.mark.parametrize(("scale", "unaligned", "aligned"), [(2, 26.40, 29.03), (3, 23.43, 27.11), (4, 21.42, 26.72)])
def test_bicubic_on_set5(scale: int, unaligned: float, aligned: float) -> None:
    folder = Path(os.environ["KERNELSR_DATA"]) / "Set5" / "HR"
    rows = [metrics.floors(*case.load(), metrics.Scoring(scale)) for case in Scenario(folder, scale=scale)]
    means = [sum(float(row[i]["psnr"]) for row in rows) / 5 for i in (2, 3)]
    # Our figures. Another count has 29.08, 27.16 and 26.76 aligned, and the same as here unaligned: moving an image leaves a
    # border, and what is shaved of it is not standardised. Shaving 3s or 4s pixels here, not s, gives 0.03 to 0.06 more.
    assert means == pytest.approx([unaligned, aligned], abs=0.006)


def test_a_diverged_estimate_is_scored_as_nan_and_breaks_nothing(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    kernel = gaussian(1, 2, size=11)
    problem = Problem(degrade(pair[0], kernel.float(), 2).clamp(0, 1), 2)
    diverged = Estimate(torch.full_like(pair[0], torch.nan), torch.full_like(kernel, torch.nan))
    row = metrics.score(diverged, problem, Truth(pair[0], kernel), metrics.Scoring(2))
    assert row.pop("noise_std") == 0 and len(row) == 7
    assert all(math.isnan(value) for value in row.values())
