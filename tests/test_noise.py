"""Noise is heard in an image as loud as it is, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from cases import photograph, rng, true_kernel
from PIL import Image
from torch import Tensor

import kernelsr
from experiments import calibration, camera_noise, noises, smoothed_noises
from kernelsr import data, families, noise
from kernelsr.capture import floor_to_8_bits, jpeg
from kernelsr.configure import compose_config, scenario_of
from kernelsr.data import Scenario
from kernelsr.degradation import degrade
from kernelsr.problem import Problem


def blurred(scale: int = 2, size: int = 192) -> Tensor:
    return degrade(photograph(size).float(), true_kernel().float(), scale)


def with_noise(level: float, image: Tensor, seed: int = 0) -> Tensor:
    drawn = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return floor_to_8_bits(image + level / 255 * drawn)


@pytest.mark.parametrize("level", [1.5, 3.0, 10.0, 25.0])
def test_noise_is_heard_as_loud_as_it_is(level: float) -> None:
    image = blurred().clamp(0.3, 0.7)  # so that 25/255 is not clipped
    assert 255 * noise.heard(with_noise(level, image)) == pytest.approx(level, rel=0.12)


@pytest.mark.parametrize("scale", [2, 4])
def test_nothing_is_heard_in_a_clean_photograph(scale: int) -> None:
    kernel = families.AnisotropicGaussian()(1, Problem(torch.zeros(1, 1, 64, 64), scale), rng())
    assert noise.heard(floor_to_8_bits(degrade(photograph().float(), kernel.float(), scale))) == 0


@pytest.mark.parametrize("quality", [60, 80, 95])
def test_the_errors_of_jpeg_are_not_taken_for_it(quality: int) -> None:
    assert noise.heard(jpeg(blurred(), quality)) == 0


def test_details_that_all_channels_of_a_photograph_have_are_none() -> None:
    image = blurred()
    common = torch.randn(1, 1, *image.shape[2:], generator=rng()) / 20
    assert noise.heard(floor_to_8_bits(image + common)) == 0
    assert noise.heard(floor_to_8_bits(image[:, :1] + common)) > 0.04


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_it_is_heard_in_any_number_of_channels(channels: int) -> None:
    image = with_noise(5, blurred()[:, [0, 1, 2, 0, 1, 2, 0][:channels]])
    assert 255 * noise.heard(image) == pytest.approx(5, rel=0.2)
    assert noise.heard(floor_to_8_bits(blurred()[:, :1]).expand(-1, channels, -1, -1)) == 0


def test_the_quietest_channel_says_how_loud_it_is() -> None:
    image = blurred()
    mixed = torch.cat([with_noise(12, image[:, :1]), with_noise(4, image[:, 1:2], 1), with_noise(8, image, 2)], 1)
    assert 255 * noise.heard(mixed) == pytest.approx(4, rel=0.2)


def test_one_flat_channel_beside_the_quietest_is_enough() -> None:
    image = with_noise(5, blurred())[:, :2]
    place = torch.arange(image.shape[3]) * torch.pi * 4.5 / 8  # a wave that is fine, but none of the finest
    image[:, 1] = floor_to_8_bits(0.95 * image[:, 1] + 0.03 * place.cos() * place.cos()[:, None])
    assert noise.heard(image[:, 1:]) == 0
    assert noise.heard(image) > 0
    image[:, :1] = with_noise(10, blurred()[:, :1])  # which says nothing of the other
    assert noise.heard(image) == 0


def test_grey_in_three_equal_channels_is_heard_as_grey() -> None:
    image = with_noise(5, blurred()[:, :1])
    assert noise.heard(image.expand(-1, 3, -1, -1)) == noise.heard(image) > 0


def test_details_are_not_flat() -> None:
    # Louder the coarser they are, if loud in the finest waves too, as of a photograph that was made small without a filter.
    image = floor_to_8_bits(photograph().float()[:, :1, ::8, ::8])
    finest = noise._quietest(image, noise.waves(*noise.FINEST), torch.ones(25, dtype=torch.bool))
    assert finest.sqrt() > noise.LEAST
    assert noise.heard(image) == 0


def with_smoothed(level: float, image: Tensor, kind: str) -> Tensor:
    drawn = smoothed_noises.KINDS[kind](torch.randn(image.shape, generator=torch.Generator().manual_seed(0)))
    return floor_to_8_bits(image + level / 255 * drawn / drawn.std())


@pytest.mark.parametrize("kind", ["gaussian", "bayer"])
@pytest.mark.parametrize("level", [2.0, 4.0, 10.0])
def test_noise_that_a_camera_has_smoothed_is_heard_in_colours(level: float, kind: str) -> None:
    image = blurred().clamp(0.2, 0.8)
    assert 255 * noise.heard(with_smoothed(level, image, kind)) == pytest.approx(level, rel=0.2)


def test_smoothed_noise_that_is_not_as_loud_everywhere_may_be_details() -> None:
    image = 0.3 + 0.3 * blurred()
    noisy, quiet = (with_smoothed(level, image, "gaussian") for level in (6, 2))
    assert noise.heard(noisy) > 0 and noise.heard(quiet) > 0
    for columns, heard in ((4, True), (18, False)):
        assert (noise.heard(torch.cat([quiet[..., :columns], noisy[..., columns:]], 3)) > 0) is heard
    # Loud enough everywhere, but in one of the differences of colours not as loud everywhere.
    texture = 8 / 255 * torch.randn(1, 1, 96, 78, generator=rng())
    noisy[..., 18:] += torch.cat([texture, -2 * texture, texture], 1)
    assert noise.heard(floor_to_8_bits(noisy)) == 0


def test_smoothed_noise_is_not_heard_in_grey_nor_in_two_channels() -> None:
    image = blurred().clamp(0.2, 0.8)
    grey = with_smoothed(5, image[:, :1].expand(-1, 3, -1, -1), "gaussian")[:, :1]
    for silent in (grey, grey.expand(-1, 3, -1, -1), with_smoothed(5, image, "gaussian")[:, :2]):
        assert noise.heard(silent) == 0


def test_the_bands_of_smoothed_noise_add_up_to_white_noise() -> None:
    white = 0.5 + 0.02 * torch.randn(1, 3, 240, 240, generator=rng())
    parts = noise._differences(white).transpose(0, 1)
    assert noise._smoothed(parts, torch.ones(59 * 59, dtype=torch.bool)) == pytest.approx(0.02, rel=0.03)


def test_tiny_images_say_nothing() -> None:
    assert noise.heard(torch.rand(1, 3, 15, 200)) == 0


def test_what_is_loud_in_one_difference_of_colours_is_colour() -> None:
    # R - B has it, R - 2 G + B has none.
    image = blurred()
    colour = torch.randn(1, 1, *image.shape[2:], generator=torch.Generator().manual_seed(0)) / 20
    assert noise.heard(floor_to_8_bits(image + torch.cat([colour, 0 * colour, -colour], 1))) == 0


def test_what_is_clipped_does_not_hide_it() -> None:
    image = 0.5 * torch.ones(1, 3, 96, 96)
    image[..., 30:] = 2.0
    assert 255 * noise.heard(with_noise(5, image).clamp(0, 1)) == pytest.approx(5, rel=0.12)
    assert noise.heard(with_noise(5, torch.full((1, 3, 96, 96), 2.0))) == 0


def test_white_noise_is_as_loud_in_fine_waves_as_in_the_finest() -> None:
    image, whole = 3 * torch.randn(1, 1, 400, 400, generator=rng()), torch.ones(99 * 99, dtype=torch.bool)
    for band, count in ((noise.FINEST, 10), (noise.FINE, 13)):
        waves = noise.waves(*band)
        torch.testing.assert_close(waves.flatten(1) @ waves.flatten(1).T, torch.eye(count).double())
        assert noise._quietest(image, waves, whole).item() == pytest.approx(9, rel=0.03)


def test_it_is_the_same_in_any_precision_and_orientation() -> None:
    image = with_noise(4, blurred())
    heard = noise.heard(image)
    assert noise.heard(image.double()) == pytest.approx(heard, rel=1e-5)
    assert noise.heard(image.mT) == pytest.approx(heard, rel=1e-5)
    assert noise.heard(image.flip(1)) == pytest.approx(heard, rel=1e-5)


def test_an_image_from_python_is_listened_to_unless_its_noise_is_told() -> None:
    lr = with_noise(6, blurred())
    heard = noise.heard(lr)

    def restored(noise_std: float | None) -> Tensor:
        found = kernelsr.estimate(lr, 2, "spectral", "none", nonblind="usrnet", noise_std=noise_std).nonblind
        assert found is not None
        return found

    assert torch.equal(restored(None), restored(heard)) and not torch.equal(restored(None), restored(0.0))
    hr = photograph().float()
    errors = [(restored(told) - hr).square().mean().item() for told in (None, 0.0)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("draws", ["legacy", "named"])
def test_of_untold_noise_the_problem_has_what_is_heard_and_all_else_is_as_drawn(draws: str) -> None:
    photos = files("kernelsr") / "photos"
    drawn = Scenario(str(photos), 2, noise_std=0.06, rng=draws)
    untold = replace(drawn, noise="untold")
    heard = []
    for case in untold:
        problem, truth = case.load()
        told, same = drawn.load(case.name)
        assert torch.equal(problem.lr, told.lr) and torch.equal(truth.kernel, same.kernel)
        assert told.noise_std == 0.03
        sigma = (problem.lr - degrade(truth.hr, truth.kernel.float(), 2)).std().item()
        assert problem.noise_std == (pytest.approx(sigma, rel=0.2) if sigma > 0.01 else noise.heard(problem.lr))
        heard.append(problem.noise_std)
    assert len(set(heard)) > 2


def test_real_images_and_those_of_an_unknown_degradation_are_listened_to(tmp_path: Path) -> None:
    lr = with_noise(5, blurred())
    Image.fromarray((255 * lr[0]).round().byte().permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    words = ["data=real", f"data.folder={tmp_path}", "scale=2"]
    heard = scenario_of(compose_config(words)).load("a")[0].noise_std
    assert 255 * heard == pytest.approx(5, rel=0.12)
    assert scenario_of(compose_config([*words, "data.noise_std=0"])).load("a")[0].noise_std == 0
    told = Scenario(tmp_path, 2, degradation=lambda hr, scale, rng: hr[..., ::2, ::2], rng="named", centre="aligned")
    problem = told.load("a")[0]
    assert problem.noise_std == noise.heard(problem.lr) > 0


def test_of_images_to_which_no_noise_is_added_nothing_is_told_either(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = str(files("kernelsr") / "photos")
    monkeypatch.setattr(data, "heard", lambda lr: 0.25)
    quiet, heard = (Scenario(photos, 2, noise_std=level).load("coffee")[0] for level in (0.0, None))
    assert torch.equal(quiet.lr, heard.lr)
    assert (quiet.noise_std, heard.noise_std) == (0.0, 0.25)


def test_the_measurement_hears_it_and_its_summary_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noises, "LEVELS", (0, 10))
    rows = list(noises.rows_of(Path(str(files("kernelsr") / "photos")), 128, [2]))  # two of the bundled photographs
    assert [row["level"] for row in rows] == [0, 0, 10, 10]
    for row in rows:
        assert row["heard"] == pytest.approx(row["level"], rel=0.2)
        gain = row["true_heard"] - row["true_nothing"]
        assert gain > 0.5 if row["level"] else gain == 0
    clean, noisy = noises.summary(rows)
    assert clean.startswith("x2, 0/255: heard in 0 of 2") and noisy.startswith("x2, 10/255: heard in 2 of 2")
    gain = sum(row["image_heard"] - row["image_nothing"] for row in rows[2:]) / 2
    assert f"; image, told heard, {gain:+.2f} " in noisy


def test_the_measurement_of_smoothed_noise_hears_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothed_noises, "LEVELS", (8,))
    rows = list(smoothed_noises.rows_of(Path(str(files("kernelsr") / "photos")), 128, [2]))
    assert [row["kind"] for row in rows] == ["gaussian"] * 2 + ["bayer"] * 2
    for row in rows:
        assert row["heard"] == pytest.approx(8, rel=0.2)
    assert sum(row["true_heard"] - row["true_nothing"] for row in rows) > 0.5
    assert [line[:16] for line in smoothed_noises.summary(rows)] == ["gaussian: x2, 8/", "bayer: x2, 8/255"]


def test_bayers_pattern_has_half_of_its_pixels_green_and_fills_the_others_with_their_neighbours() -> None:
    flat = torch.ones(1, 3, 6, 8)
    torch.testing.assert_close(camera_noise.bayer(flat), flat)
    drawn = torch.randn(1, 3, 64, 64, generator=rng())
    filled = camera_noise.bayer(drawn)
    for channel, (row, column) in enumerate([(0, 0), (0, 1), (1, 1)]):
        assert torch.equal(filled[:, channel, row::2, column::2], drawn[:, channel, row::2, column::2])
    assert torch.equal(filled[:, 1, 1::2, ::2], drawn[:, 1, 1::2, ::2])
    torch.testing.assert_close(filled[:, 0, ::2, 1:-1:2], (drawn[:, 0, ::2, :-2:2] + drawn[:, 0, ::2, 2::2]) / 2)


@pytest.mark.parametrize("told", ["mean", "heard", "nothing"])
def test_the_calibration_tells_what_it_says(told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Problem] = []
    monkeypatch.setattr(calibration, "row", lambda problem, *_: seen.append(problem) or {"worn": 0})
    monkeypatch.setattr(calibration, "summary", lambda rows: [])
    words = ["--sets", "demo", "--images", "astronaut", "--scales", "2", "--noise", "10", "--told", told]
    monkeypatch.setattr("sys.argv", ["calibration", str(tmp_path / "rows.csv"), *words])
    calibration.main()
    wanted = {"mean": 5 / 255, "heard": noise.heard(seen[0].lr), "nothing": 0.0}
    assert [problem.noise_std for problem in seen] == [pytest.approx(wanted[told])]
    assert wanted["heard"] > 6 / 255


def test_a_camera_s_noise_has_a_pattern_or_is_smoothed_more_or_less() -> None:
    drawn = [camera_noise.drawn(128, rng(seed)) for seed in range(16)]
    # Of Bayer's pattern green is its own at every other pixel, and a mean of four between.
    uneven = [(noise[..., ::2, 1::2].var() / noise[..., ::2, ::2].var()).item() for noise in drawn]
    beside = [(noise[..., 1:] * noise[..., :-1]).mean().item() for noise in drawn]
    smoothed = [alike for alike, ratio in zip(beside, uneven, strict=True) if ratio < 1.2]
    assert 4 <= len(smoothed) <= 12 and all(ratio > 1.8 for ratio in uneven if ratio >= 1.2)
    assert min(smoothed) < 0.3 and max(smoothed) > 0.6
