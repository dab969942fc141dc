"""experiments.calibration: how right the amortised posterior is, how sure, and rows of the same images side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cases import normal, problem, rng
from PIL import Image

from experiments import calibration, caution, paired
from experiments.lr_patches import photographs
from kernelsr.beliefs import Belief, covariance_of, gaussian
from kernelsr.configure import restore
from kernelsr.data import Scenario
from kernelsr.files import read_table, write_table


def test_images_that_another_network_does_not_change_are_taken_from_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(calibration, "restore", lambda *args: made.append(args) or restore(*args))

    def run(*words: str) -> dict[str, str]:
        row = ["--sets", "demo", "--images", "astronaut", "--scales", "4", "--nonblind", "wiener", *words]
        monkeypatch.setattr("sys.argv", ["calibration", str(tmp_path / "rows.csv"), *row])
        calibration.main()
        return read_table(tmp_path / "rows.csv")[0]

    first = run()
    assert len(made) == 3
    kept = first | {"psnr_spectral": "20.0", "psnr_true": "21.0", "psnr_amortised": "22.0"}
    other = kept | {"kernel_psnr_spectral": str(float(first["kernel_psnr_spectral"]) + 0.02)}
    for row, taken in ((kept, True), (other, False), (kept | {"level": "10"}, False)):
        made.clear()
        write_table(tmp_path / "plain.csv", [row])
        again = run("--plain", str(tmp_path / "plain.csv"))
        for column in ("psnr_spectral", "psnr_true"):
            assert again[column] == (kept if taken else first)[column]
        assert again["psnr_amortised"] == first["psnr_amortised"] and len(made) == (1 if taken else 3)
    same, other = (run("--network", name)["kernel_psnr_amortised"] for name in ("clean", "worn"))
    assert same == first["kernel_psnr_amortised"] != other
    # The prior's own caution is 0.25; its image is of another kernel then.
    usual, mean = (run("--caution", word) for word in ("0.25", "0"))
    assert usual["kernel_psnr_amortised"] == first["kernel_psnr_amortised"] and mean["caution"] == "0.0"
    assert all(mean[key] != usual[key] for key in ("kernel_psnr_amortised", "psnr_amortised"))
    assert all(mean[key] == usual[key] for key in ("narrow_inside", "wide_inside", "psnr_spectral"))


def test_photographs_that_were_held_out_come_in_each_of_the_training_s_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    monkeypatch.setattr(calibration, "photographs", lambda folder, _: photographs(folder, held_out=3))
    for number in range(5):
        waves = 127 + 127 * torch.sin(torch.arange(480.0).outer(torch.linspace(0.01, 0.02 + number / 40, 640)))
        Image.fromarray(waves.byte().numpy()).save(photos / f"{number:02}.png")
    words = ["--sets", "--photos", str(photos), "--scales", "4"]

    def rows(name: str, *more: str) -> list[dict[str, str]]:
        monkeypatch.setattr("sys.argv", ["calibration", str(tmp_path / name), *words, *more])
        calibration.main()
        return read_table(tmp_path / name)

    made: list[Any] = []
    monkeypatch.setattr(
        calibration, "Scenario", lambda *args, **more: made.append(more["seed"]) or Scenario(*args, **more)
    )
    alone, copies = rows("alone.csv"), rows("copies.csv", "--copies")
    assert made == [1, *range(1, 8)]  # the papers', and another kernel for each copy
    assert [row["image"] for row in alone] == ["02", "03", "04"]
    assert [row["copy"] for row in copies] == [str(copy) for copy in range(7) for _ in range(3)]
    score = "kernel_psnr_amortised"
    assert [row[score] for row in copies[:3]] == [row[score] for row in alone]
    pixels = [int(row["pixels"]) for row in copies[::3]]
    assert pixels == sorted(pixels, reverse=True) and pixels[0] == pytest.approx(16 * pixels[-1], rel=0.1)
    # Rows of before there were copies are of the photographs themselves.
    older = [{key: value for key, value in row.items() if key != "copy"} for row in alone]
    assert paired.values(older, score) == paired.values(alone, score)
    assert paired.values(alone, score).items() < paired.values(copies, score).items()
    # All copies of a photograph are one image.
    found = paired.compared(copies, score, "kernel_psnr_spectral")
    assert (found.images, found.pairs) == (3, 21)


def test_a_report_of_no_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["calibration", str(tmp_path / "none.csv"), "--report"])
    with pytest.raises(SystemExit):
        calibration.main()
    assert "none.csv has no rows" in capsys.readouterr().err


def test_a_report_is_of_the_sets_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "rows.csv")
    row = {"scale": 2, "image": "a", "kernel_psnr_amortised": 50.0}
    write_table(path, [row | {"data": name} for name in ("set5", "set14")])
    for words, count in (([], 2), (["--sets", "set14"], 1)):
        monkeypatch.setattr("sys.argv", ["calibration", path, "--report", "--against", path, *words])
        calibration.main()
        assert capsys.readouterr().out.splitlines()[-1] == f"all: kernel PSNR +0.00 dB ({count})"
    other = str(tmp_path / "other.csv")
    write_table(other, [row | {"data": "bsd100"}])
    monkeypatch.setattr("sys.argv", ["calibration", path, "--report", "--against", other])
    with pytest.raises(SystemExit):
        calibration.main()
    assert "no image is in both tables" in capsys.readouterr().err


def test_the_caution_s_intervals_are_over_photographs() -> None:
    """Of 40 photographs at three scales each, where 120 would have a shorter one."""
    rows = [
        {"image": str(number), "scale": scale, "caution": spreads, "lost": (number % 2) * (spreads > 0)}
        for number in range(40)
        for scale in (2, 3, 4)
        for spreads in (0.0, 0.5)
    ]
    *scales, _, last = caution.summary(rows)
    assert last == scales[1].replace("2 caution", "all caution").replace("mean of 40", "mean of 120")


def test_gains_are_of_the_images_that_both_tables_have() -> None:
    def table(*scores: float, scale: str = "2") -> list[dict[str, str]]:
        return [
            {"data": "set5", "scale": scale, "image": str(number), "kernel_psnr_amortised": str(score)}
            for number, score in enumerate(scores)
        ]

    lines = list(
        calibration.gains(table(51, 53, 99) + table(40, 41, scale="4"), table(50, 50) + table(40, 40, scale="4"))
    )
    # Two photographs, whatever the scales, are too few for an interval.
    assert lines == ["x2: kernel PSNR +2.00 dB (2)", "x4: kernel PSNR +0.50 dB (2)", "all: kernel PSNR +1.25 dB (4)"]


def test_the_share_that_intervals_hold_has_an_interval_over_photographs_at_all_scales() -> None:
    def row(image: int, scale: int, narrow: int, wide: int) -> dict[str, Any]:
        return {"data": "x", "image": str(image), "scale": scale, "narrow_inside": narrow, "wide_inside": wide}

    both = [row(0, scale, 1, 1) for scale in (2, 3)] + [row(1, 2, 0, 1)]
    assert paired.held(both) == "75 %"  # of the mean of 100 and 50; two photographs have no interval
    many = [row(number, scale, number % 2, number % 2) for number in range(40) for scale in (2, 3, 4)]
    share, low, high = map(int, paired.held(many).translate({ord(c): " " for c in "%[],"}).split())
    assert share == 50 and 31 <= low <= 38 and 62 <= high <= 69  # of 40 photographs, where 120 would have [41, 59]


def test_intervals_hold_what_the_belief_says() -> None:
    belief = Belief(torch.tensor([[1.0, 0.2, 0.1]]).double(), 50 * torch.eye(3).double()[None])
    low, high = calibration.intervals(belief, rng())
    root = torch.linalg.inv(torch.linalg.cholesky(belief.precision[0])).T
    variances = torch.linalg.eigvalsh(covariance_of(belief.mean + normal(4000, 3) @ root.T))
    inside = ((low <= variances) & (variances <= high)).double().mean(0)
    assert (inside - calibration.LEVEL).abs().max() < 0.02


@pytest.mark.parametrize("scale", [2, 4])
def test_the_shape_of_a_kernel_that_its_support_cuts_off_is_found(scale: int) -> None:
    posed = problem(scale)
    shape = torch.tensor([1.2, 0.4, -0.3], dtype=torch.float64)
    found = calibration.fitted_shape(gaussian(covariance_of(shape), posed), posed)
    torch.testing.assert_close(found, shape, rtol=1e-5, atol=1e-5)
