"""Protocols: one switch sets kernels, grid, crop, draws and scores; and each way of scoring against its definition."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import photograph, rng, uniform
from PIL import Image

from experiments.saved import estimates
from kernelsr import kernels, metrics, runs
from kernelsr.cli import data_name
from kernelsr.configure import compose_config, scenario_of
from kernelsr.degradation import degrade
from kernelsr.families import AnisotropicGaussian, TwiceGaussian, mean_kernel
from kernelsr.jobs import Job
from kernelsr.legacy import LegacyDraws
from kernelsr.metrics import Scoring
from kernelsr.paths import CONF
from kernelsr.problem import Problem
from kernelsr.results import Row, read_rows

FACTS = {
    # family, centre, draws, window of DIV2K, channel and support of the scores at x4
    "none": ("AnisotropicGaussian", "fkp", "legacy", 960, "y", None),
    "fkp2021": ("AnisotropicGaussian", "fkp", "legacy", 960, "y", None),
    "fkp2021_kernelgan": ("TwiceGaussian", "fkp", "legacy", None, "y", None),
    "dkp2024": ("AnisotropicGaussian", "fkp", "legacy", 800, "y", None),
    "dkp2024_motion": ("LinearMotion", "fkp", "named", 800, "y", None),
    "kernelgan": ("Div2krk", "aligned", "named", None, "y_8bit", 31),
    "div2krk": ("Div2krk", "aligned", "named", None, "y", 31),
    "aligned": ("AnisotropicGaussian", "aligned", "legacy", 960, "y", None),
}


# --- the switch


def test_every_protocol_is_held_to_its_facts() -> None:
    assert {path.stem for path in (CONF / "protocol").glob("*.yaml")} == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_a_protocol_sets_the_papers_facts(name: str) -> None:
    family, centre, draws, window, channel, size = FACTS[name]
    cfg = compose_config([f"protocol={name}", "data=div2k_aniso", "scale=4"])
    assert cfg.data.family._target_ == f"kernelsr.families.{family}"
    assert (cfg.data.centre, cfg.data.rng, cfg.data.window) == (centre, draws, window)
    assert (cfg.data.seed, cfg.data.quantise, cfg.data.jpeg, cfg.data.noise_std) == (1, True, None, 0.0)
    assert Scoring(**cfg.scoring) == Scoring(4, channel, size)


@pytest.mark.parametrize("name", sorted(set(FACTS) - {"none"}))
@pytest.mark.parametrize("data", ["set5_aniso", "set5_motion", "set5_div2krk", "set5_levin", "folder"])
def test_a_protocol_is_the_same_whatever_data_group_brings_the_images(name: str, data: str) -> None:
    """But for the images; and the window is of DIV2K alone."""
    here, there = (compose_config([f"protocol={name}", f"data={group}", "scale=2"]) for group in (data, "set14_disk"))
    settings = [dict(cfg.data, images=None, folder=None) for cfg in (here, there)]
    assert settings[0] == settings[1] and here.data.window is None
    assert here.scoring == there.scoring


def test_the_command_line_wins() -> None:
    words = ["protocol=dkp2024", "family@data.family=disk", "data.rng=named", "data.window=400", "scoring.border=16"]
    cfg = compose_config([*words, "data=div2k_aniso"])
    assert cfg.data.family._target_ == "kernelsr.families.Disk"
    assert (cfg.data.rng, cfg.data.window, cfg.scoring.border) == ("named", 400, 16)


def test_fkps_protocol_makes_the_papers_images_of_any_group() -> None:
    plain, switched = (
        next(iter(scenario_of(compose_config(words)))).load()
        for words in (["data=demo_aniso", "scale=2"], ["data=demo_div2krk", "protocol=fkp2021", "scale=2"])
    )
    assert torch.equal(plain[0].lr, switched[0].lr) and torch.equal(plain[1].kernel, switched[1].kernel)
    assert plain[0].centre == switched[0].centre == "fkp"


def test_aligned_moves_the_same_kernels_to_bicubics_grid() -> None:
    made = {}
    for name in ("fkp2021", "aligned"):
        problem, truth = next(iter(scenario_of(compose_config([f"protocol={name}", "scale=4"])))).load()
        made[name] = truth.kernel
        assert problem.centre == ("aligned" if name == "aligned" else "fkp")
    offset = kernels.centroid(made["aligned"]) - kernels.centroid(made["fkp2021"])
    torch.testing.assert_close(offset, torch.full((1, 2), 3.0, dtype=torch.float64), atol=0.02, rtol=0)
    # The same widths, but for what the support's border cuts.
    widths = [kernels.moments(kernel) for kernel in made.values()]
    torch.testing.assert_close(*widths, atol=0.15, rtol=0)


@pytest.mark.parametrize("name", ["kernelgan", "div2krk", "fkp2021_kernelgan"])
def test_protocols_of_two_scales_refuse_others(name: str) -> None:
    with pytest.raises(ValueError, match="not for x3|only for x2 and x4"):
        next(iter(scenario_of(compose_config([f"protocol={name}", "scale=3"])))).load()


def test_what_has_no_kernel_has_no_protocol() -> None:
    with pytest.raises(ValueError, match="a protocol sets the kernels, and this data group has none"):
        compose_config(["protocol=fkp2021", "data=demo_realesrgan"])


# --- FKP's kernels for KernelGAN


def drawn(family: AnisotropicGaussian, scale: int, size: int, centre: str = "fkp") -> torch.Tensor:
    return LegacyDraws(family, scale, size, centre, 0.0, np.random.RandomState(1))((16, 16))[0]


def test_at_x2_they_are_the_protocols() -> None:
    assert torch.equal(drawn(TwiceGaussian(), 2, 11), drawn(AnisotropicGaussian(), 2, 11))


@pytest.mark.parametrize("centre", ["fkp", "aligned"])
def test_at_x4_an_x2_kernel_is_applied_twice(centre: str) -> None:
    small = drawn(AnisotropicGaussian(), 2, 11, centre)
    big = drawn(TwiceGaussian(), 4, 21, centre)
    image = photograph()
    twice = degrade(degrade(image, small, 2), small, 2)
    # What is cut off at the support's border is all that tells them apart.
    assert (degrade(image, big, 4) - twice).abs().max() < 0.02
    assert (degrade(image, big.mT, 4) - twice).abs().max() > 0.05
    assert (kernels.centroid(big) - kernels.centre(centre, 21, 4)).abs().max() < 0.01
    assert big.sum().item() == pytest.approx(1)


def test_at_x4_they_equal_the_sum_over_pixels_cut_and_moved() -> None:
    small, big = drawn(AnisotropicGaussian(noise=0.4), 2, 11)[0, 0], drawn(TwiceGaussian(noise=0.4), 4, 21)
    whole = torch.zeros(31, 31, dtype=torch.float64)
    for row in range(11):
        for column in range(11):
            whole[2 * row : 2 * row + 11, 2 * column : 2 * column + 11] += small[row, column] * small
    cut = kernels.normalise(whole[5:-5, 5:-5][None, None])
    torch.testing.assert_close(big, kernels.normalise(kernels.recentre(cut, 8.5)))


def test_named_draws_follow_the_same_definition() -> None:
    problem = Problem(torch.zeros(1, 1, 16, 16, dtype=torch.float64), 4, 21)
    kernel = TwiceGaussian()(40, problem, rng())
    torch.testing.assert_close(kernel.sum((1, 2, 3)), torch.ones(40, dtype=torch.float64))
    # Twice the variance U(0.35, 5): v + 4 v, less what the border cuts.
    mean = kernels.moments(kernel).diagonal(dim1=1, dim2=2).mean().item()
    assert 5 * 2.0 < mean < 5 * 2.9


# --- scores


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    hr = photograph(48)
    return (hr + 0.05 * torch.randn(hr.shape, generator=rng(), dtype=hr.dtype)).clamp(0, 1), hr


def test_full_range_is_kornias_and_reads_lower_by_the_ranges(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    from kornia.color import rgb_to_y

    levels = [(image * 255).round() for image in pair]
    ours = [metrics.channel_of(image, "y_full_range") for image in pair]
    for mine, level in zip(ours, levels, strict=True):
        torch.testing.assert_close(mine, rgb_to_y(level), atol=0.02, rtol=0)
    studio, full = (metrics.psnr(*pair, border=2, channel=channel) for channel in ("y", "y_full_range"))
    assert studio - full == pytest.approx(20 * math.log10(255 / 219), abs=0.01)


def test_eight_bits_round_what_the_papers_keep(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    y, rounded = (metrics.channel_of(pair[0], channel) for channel in ("y", "y_8bit"))
    assert torch.equal(rounded, rounded.round()) and not torch.equal(y, rounded)
    assert (y - rounded).abs().max() <= 0.5


def test_all_three_channels_are_the_mean_over_them(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, hr = ((x * 255).round()[..., 3:-3, 3:-3] for x in pair)
    expected = 10 * math.log10(255**2 / (image - hr).square().mean().item())
    assert metrics.psnr(*pair, border=3, channel="rgb") == pytest.approx(expected)
    # Of one channel, "rgb" is that channel.
    each = [metrics.ssim(*(x[:, c : c + 1] for x in pair), border=3, channel="rgb") for c in range(3)]
    assert metrics.ssim(*pair, border=3, channel="rgb") == pytest.approx(sum(each) / 3)


@pytest.mark.parametrize("channel", metrics.CHANNELS)
def test_grey_scores_as_its_colour_copy_in_every_channel(pair: tuple[torch.Tensor, torch.Tensor], channel: str) -> None:
    grey = [image[:, :1] for image in pair]
    for metric in (metrics.psnr, metrics.ssim):
        colour = metric(*(image.expand(-1, 3, -1, -1) for image in grey), border=2, channel=channel)
        assert metric(*grey, border=2, channel=channel) == pytest.approx(colour, abs=1e-6)


def test_zeros_around_kernels_raise_their_psnr_by_the_areas_ratio() -> None:
    first, second = (kernels.normalise(uniform(1, 1, 19, 19, seed=seed)) for seed in (1, 2))
    raised = metrics.kernel_psnr(first, second, 31) - metrics.kernel_psnr(first, second)
    assert raised == pytest.approx(20 * math.log10(31 / 19)) == pytest.approx(4.25, abs=0.005)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"border": -1}, "scoring.border is -1; it must be a number of pixels"),
        ({"border": 2.5}, "scoring.border is 2.5"),
        ({"border": 4, "channel": "luma"}, "scoring.channel is 'luma'; choose one of y, y_8bit, y_full_range, rgb"),
        ({"border": 4, "kernel_size": 20}, "scoring.kernel_size is 20; it must be odd"),
    ],
)
def test_a_way_of_scoring_that_is_none(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scoring(**settings)


# --- in a run


def ran(folder: Path, name: str, *words: str) -> tuple[list[Row], list[Row], bool]:
    """Rows and floors of a quick run on one photograph, and whether its cell was there before."""
    quick = ["prior=spectral", "restorer=bicubic", "references=false", "progress=false", "scale=2"]
    cfg = compose_config([*quick, f"data.folder={folder / 'images'}", f"cells={folder / 'cells'}", *words])
    before = {path.name for path in (folder / "cells").glob("*")}
    assert runs.run(cfg, folder / name, Job("photos", "method", "command"), "version") == []
    rows, floors = (read_rows(folder / name / f"{table}.csv") for table in ("rows", "floors"))
    return rows, floors, rows[0]["cell"] in before


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    pixels = (photograph(96)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "images" / "first.png")
    return tmp_path


def test_rows_and_floors_are_scored_as_the_protocol_says(photos: Path) -> None:
    rows, floors, _ = ran(photos, "run", "protocol=div2krk", "scoring.channel=rgb", "scoring.kernel_size=31")
    (saved,) = estimates(photos / "run")
    assert saved.sr is not None and saved.hr is not None and saved.kernel is not None and saved.true_kernel is not None
    assert rows[0]["psnr"] == pytest.approx(metrics.psnr(saved.sr, saved.hr, border=2, channel="rgb"))
    assert rows[0]["kernel_psnr"] == pytest.approx(metrics.kernel_psnr(saved.kernel, saved.true_kernel, 31))
    problem = Problem(torch.zeros(1, 1, 48, 48), 2, centre="aligned")
    mean = metrics.kernel_psnr(mean_kernel(problem), saved.true_kernel, 31)
    assert next(row["kernel_psnr"] for row in floors if row["method"] == metrics.FLOORS[0]) == pytest.approx(mean)


def test_another_scoring_is_another_cell_and_a_protocols_name_is_none(photos: Path) -> None:
    words = ["family@data.family=aniso", "data.rng=legacy"]
    first, floors, found = ran(photos, "own", *words)
    same, _, again = ran(photos, "protocol", "protocol=fkp2021")
    assert not found and again and same[0]["psnr"] == first[0]["psnr"]
    wide, other, found = ran(photos, "wide", *words, "scoring.border=20")
    assert not found and wide[0]["psnr"] != first[0]["psnr"]
    psnr = [[row["psnr"] for row in table if row["psnr"] is not None] for table in (floors, other)]
    assert psnr[0] != psnr[1]


def test_a_wrong_scoring_is_said_before_the_first_image(photos: Path) -> None:
    with pytest.raises(ValueError, match="scoring.channel is 'luma'"):
        ran(photos, "run", "scoring.channel=luma")
    assert not (photos / "cells").exists()


def test_rows_call_the_data_by_images_and_protocol() -> None:
    assert data_name({"data": "set5_motion", "protocol": "none"}, "set5") == "set5_motion"
    assert data_name({"data": "set5_motion", "protocol": "fkp2021"}, "set5") == "set5_fkp2021"
    assert data_name({"data": "folder", "protocol": "aligned"}, None) == "folder_aligned"
