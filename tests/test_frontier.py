"""The frontier's report: means, paired differences on the images that both have, one spectral fit for all seeds."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from experiments.bench import frontier
from kernelsr.files import read_table, write_table


def row(image: str, preset: str, prior: str, kernel: float, psnr: float, seed: int = 0) -> dict[str, object]:
    place = dict(zip(frontier.PLACE, (image, "set5_aniso", 4, seed, preset, prior), strict=True))
    made = {"machine": "a machine", "threads": 1}
    return place | {"kernel_psnr": kernel, "psnr_nonblind": psnr, "cpu_seconds": 2.0} | made


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [row(image, "none", "spectral", 60.0 + place, 30.0) for place, image in enumerate("abcd")]
    for seed in (0, 1):
        rows += [row(image, "fast", "dkp", 61.0 + place + 2 * seed, 29.0, seed) for place, image in enumerate("abc")]
    rows += [row(image, "faithful", "dkp", 59.0 + place, 28.0) for place, image in enumerate("abc")]
    write_table(tmp_path / "rows.csv", rows)
    return tmp_path / "rows.csv"


def test_differences_are_of_the_same_images_and_the_spectral_fit_has_one_seed(table: Path) -> None:
    lines = frontier.report(read_table(table)).splitlines()
    fast, together = (line for line in lines if "| fast |" in line)
    cells = [cell.strip() for cell in fast.strip("|").split("|")]
    assert cells[:8] == ["set5_aniso", "x4", "fast", "dkp", "3", "63.00", "29.00", "2.0"]
    assert cells[8] == "+2.00 [+2.00, +2.00], -1.00 [-1.00, -1.00]"  # of two seeds above the fit by 1 and 3
    assert cells[9].startswith("+2.00 ")  # the faithful run's seed 0 only: 61 - 59
    assert together == fast.replace("set5_aniso | x4", "all | ")  # there is one set at one scale
    spectral, _ = (line for line in lines if "| spectral |" in line)
    assert "| 4 | 61.50 | 30.00 |" in spectral


def test_a_photograph_at_several_scales_is_one_image() -> None:
    """Of 40 at three scales, half of which gain 1 dB: an interval as of 40 images, not of 120."""
    rows = [
        {key: str(value) for key, value in row(str(image), *method, 60.0 + gain, 30.0).items()} | {"scale": str(scale)}
        for image in range(40)
        for scale in (2, 3, 4)
        for method, gain in ((("none", "spectral"), 0), (("fast", "dkp"), image % 2))
    ]
    fast = [line for line in frontier.report(rows).splitlines() if "| fast |" in line]
    assert len(fast) == 4 and "| 40 |" in fast[-1]
    at_one_scale, together = (line.split("|")[9].split(",")[0] for line in (fast[0], fast[-1]))
    assert at_one_scale == together


def test_only_images_that_all_methods_have_are_drawn(table: Path) -> None:
    rows = read_table(table)
    assert {line["image"] for line in frontier.shared(rows)} == {"a", "b", "c"}
    few = [rows[0] | {"preset": "faithful", "image": image} for image in "ab"]
    assert frontier.shared([*rows, *few]) == frontier.shared(rows)  # two images are too few to compare


def test_the_figure_is_drawn(table: Path, tmp_path: Path) -> None:
    frontier.draw(read_table(table), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_what_the_table_has_is_not_computed_again(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        def __init__(self, name: str):
            self.name = name

    monkeypatch.setattr(frontier, "cases_of", lambda words, name, limit: [Named(image) for image in "abcde"])
    monkeypatch.setattr(frontier, "scored", lambda words, case: {"words": words})
    have = {tuple(str(line[key]) for key in frontier.PLACE) for line in read_table(table)}
    settings = {"sets": ["set5"], "kernels": "aniso", "presets": ["fast"], "priors": ["dkp"], "scales": [4]}
    options = argparse.Namespace(**settings, seeds=[0, 1], settings=["solver.steps=7"])
    found = list(frontier.rows_of(options, have))
    left = [(row["image"], row["preset"], row["seed"]) for row in found]
    assert left == [("e", "none", 0), *((image, "fast", seed) for seed in (0, 1) for image in "de")]
    # The spectral fit by itself has no loop to set.
    assert ["solver.steps=7" in row["words"] for row in found] == [False, True, True, True, True]


def test_images_are_chosen_by_name_and_by_number() -> None:
    words = ["data=demo_aniso", "scale=4"]

    def chosen(images: list[str] | None, limit: int | None) -> list[str]:
        options = argparse.Namespace(images=images, limit=limit)
        return [case.name for case in frontier.cases_of(words, "demo", options)]

    assert chosen(None, 2) == ["astronaut", "camera"]
    assert chosen(["coffee", "astronaut"], None) == ["astronaut", "coffee"]
    with pytest.raises(SystemExit, match="none of bird"):
        chosen(["bird"], None)


def test_two_rows_of_one_place_are_refused(table: Path) -> None:
    rows = read_table(table)
    other = rows[0] | {"kernel_psnr": str(float(rows[0]["kernel_psnr"]) + 1)}
    with pytest.raises(SystemExit, match="two rows"):
        frontier.report([*rows, other])
    frontier.report([*rows, rows[0]])  # the same, read twice
