"""Rescoring: the same estimates under every protocol agree with their rows, and damaged folders are skipped in words."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import photograph, rng, true_kernel

from experiments import rescore
from experiments.saved import estimates, runs_in
from kernelsr import metrics
from kernelsr.degradation import degrade
from kernelsr.families import mean_kernel
from kernelsr.metrics import Scoring
from kernelsr.paths import CONF
from kernelsr.problem import Estimate, Problem, Truth
from kernelsr.results import save_estimate

PROTOCOLS = {path.stem for path in (CONF / "protocol").glob("*.yaml")} - {"none"}


def made(
    hr: torch.Tensor, name: str, folder: Path, *, nonblind: bool = False, move: int = 0, noise: float = 0.04
) -> dict:
    """One image's folder of a run at x2, and its row."""
    problem = Problem(degrade(hr, true_kernel(), 2), 2)
    image = (hr + noise * torch.randn(hr.shape, generator=rng(), dtype=hr.dtype)).clamp(0, 1).roll((move, move), (2, 3))
    estimate = Estimate(image, mean_kernel(problem), (image + 0.02).clamp(0, 1) if nonblind else None)
    truth = Truth(hr, true_kernel())
    save_estimate(folder / name, estimate, problem, truth, [])
    row = {"image": name, "data": "photos_aniso", "method": "noise", "scale": 2, "error": ""}
    return row | metrics.score(estimate, problem, truth, Scoring(2))


def write(folder: Path, rows: list[dict]) -> None:
    with open(folder / "rows.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    hr = photograph(64)
    write(tmp_path, [made(hr, "first", tmp_path), made(hr, "second", tmp_path, noise=0.1)])
    return tmp_path


def scored(folder: Path, scale: int = 2) -> list[dict]:
    ways = rescore.protocols(scale) | rescore.elsewhere(scale)
    return [row for saved in estimates(folder) for row in rescore.scores(saved, ways)]


def called(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["rescore", *map(str, words)])
    rescore.main()


def one(rows: list[dict], scoring: str, image: str = "first") -> dict:
    (found,) = [row for row in rows if row["scoring"] == scoring and row["image"] == image]
    return found


def test_a_runs_own_scoring_gives_its_rows_again(run: Path) -> None:
    rows = scored(run)
    for image in ("first", "second"):
        own, again = one(rows, rescore.OWN, image), one(rows, "fkp2021", image)
        for key in ("psnr", "ssim", "kernel_psnr"):
            assert again[key] == pytest.approx(own[key], abs=1e-9)
        assert (again["data"], again["method"], again["scale"]) == ("photos_aniso", "noise", 2)


def test_every_protocol_stands_beside_the_others(run: Path) -> None:
    rows = scored(run)
    assert PROTOCOLS | {rescore.OWN, rescore.MOVED} <= {row["scoring"] for row in rows}
    (saved, _) = estimates(run)
    assert saved.sr is not None and saved.hr is not None
    assert one(rows, "kernelgan")["psnr"] == metrics.psnr(saved.sr, saved.hr, border=2, channel="y_8bit")
    assert one(rows, "DKP's log of each step")["psnr"] == metrics.psnr(saved.sr, saved.hr, border=4)
    assert one(rows, "all three channels")["ssim"] == metrics.ssim(saved.sr, saved.hr, border=2, channel="rgb")
    assert len({round(row["psnr"], 6) for row in rows if row["image"] == "first"}) >= 6


def test_kernels_are_compared_in_the_protocols_support(tmp_path: Path) -> None:
    assert rescore.protocols(4)["div2krk"].kernel_size == 31 and rescore.protocols(2)["div2krk"].kernel_size == 11
    assert rescore.protocols(3)["div2krk"].kernel_size is None  # it has no kernels for x3; the images can be scored
    write(tmp_path, [made(photograph(64), "first", tmp_path)])
    (saved,) = estimates(tmp_path)
    found = rescore.scores(saved, {"wide": Scoring(2, kernel_size=31), "own": Scoring(2)})
    assert one(found, "wide")["kernel_psnr"] - one(found, "own")["kernel_psnr"] == pytest.approx(9.0, abs=0.01)  # 31/11


def test_the_image_after_the_solver_is_held_against_its_own_columns(tmp_path: Path) -> None:
    row = made(photograph(64), "first", tmp_path, nonblind=True)
    write(tmp_path, [row])
    rows = scored(tmp_path)
    assert one(rows, rescore.OWN)["psnr"] == pytest.approx(row["psnr_nonblind"]) != pytest.approx(row["psnr"])
    assert one(rows, "fkp2021")["psnr"] == pytest.approx(row["psnr_nonblind"], abs=1e-9)


@pytest.mark.parametrize("move", [0, 1, -2])
def test_an_image_on_another_grid_is_moved_back(tmp_path: Path, move: int) -> None:
    write(tmp_path, [made(photograph(64), "first", tmp_path, move=move)])
    found = one(scored(tmp_path), rescore.MOVED)
    assert (found["down"], found["right"]) == (-move, -move)
    assert found["gain"] > 5 if move else found["gain"] == 0
    assert found["psnr"] == pytest.approx(32.8, abs=0.3)  # that of its noise on Y


def test_the_grid_is_spoken_of(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    hr = photograph(64)
    write(
        tmp_path, [made(hr, "first", tmp_path, move=1), made(hr, "second", tmp_path, move=2), made(hr, "o", tmp_path)]
    )
    called(monkeypatch, tmp_path)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("moved 1", "moved 2"))]
    assert len(told) == 2
    assert "moved 1 up, 1 left" in told[0] and "kernels of another centre (first)" in told[0]
    assert "moved 2 up, 2 left" in told[1] and "centre" not in told[1]  # at x2 the grids are one pixel apart


def test_moves_are_searched_by_brute_force() -> None:
    hr = photograph(40)
    sr = (hr.roll((2, -1), (2, 3)) + 0.05 * torch.randn(hr.shape, generator=rng(), dtype=hr.dtype)).clamp(0, 1)
    found = rescore.moved(sr, hr, 2, 4)
    assert (found["down"], found["right"]) == (-2, 1)
    moved = sr.roll((-2, 1), (2, 3))
    assert found["psnr"] == pytest.approx(metrics.psnr(moved, hr, border=4))
    assert found["gain"] == pytest.approx(metrics.psnr(moved, hr, border=4) - metrics.psnr(sr, hr, border=4))


def test_the_table_has_means_and_protocols_that_score_alike_in_one_line(run: Path) -> None:
    rows = scored(run)
    table = rescore.table(rows)
    assert "photos_aniso, noise x2: mean over 2 images" in table
    mean = (one(rows, "fkp2021")["psnr"] + one(rows, "fkp2021", "second")["psnr"]) / 2
    (line,) = [line for line in table.splitlines() if line.startswith("fkp2021")]
    assert f"{mean:.2f}" in line and "+0.00" in line
    (above,) = [line for line in table.splitlines() if line.startswith("aligned")]
    assert "dkp2024" in above and "kernelgan" not in above.replace("fkp2021_kernelgan", "")
    assert max(map(len, table.splitlines())) <= 100


def test_rows_of_every_image_go_into_a_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    called(monkeypatch, run, "--csv", tmp_path / "found.csv")
    assert "found.csv" in capsys.readouterr().out
    with open(tmp_path / "found.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    again = scored(run)
    assert len(rows) == len(again) and tuple(rows[0]) == rescore.COLUMNS
    assert [float(row["psnr"]) for row in rows] == [row["psnr"] for row in again]


def test_folders_are_found_below_those_given(run: Path, tmp_path: Path) -> None:
    for job in ("0", "1"):
        (tmp_path / "sweep" / job).mkdir(parents=True)
        (tmp_path / "sweep" / job / "rows.csv").write_text("image,method,scale\n")
    assert [path.name for path in runs_in([tmp_path / "sweep"])] == ["0", "1"]
    assert len(runs_in([tmp_path / "sweep", tmp_path / "sweep" / "0"])) == 2


def test_what_is_no_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SystemExit, match="rescore: .*there is no rows.csv in it or below it; give outputs/<date>/<time>"
    ):
        called(monkeypatch, tmp_path)
    with pytest.raises(SystemExit, match="there is no such folder"):
        called(monkeypatch, tmp_path / "nowhere")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_first_row(folder: Path, before: str, after: str) -> None:
    lines = (folder / "rows.csv").read_text().splitlines()
    lines[1] = lines[1].replace(before, after) if before else after
    (folder / "rows.csv").write_text("\n".join(lines))


def save_another_size(folder: Path) -> None:
    problem = Problem(torch.zeros(1, 3, 32, 32, dtype=torch.float64), 2)
    estimate, truth = Estimate(photograph(64), true_kernel()), Truth(photograph(48), true_kernel())
    save_estimate(folder / "first", estimate, problem, truth, [])


DAMAGE = {
    "cut-off picture": (lambda run: cut_off(run / "first" / "sr.png"), "first: cannot read .*damaged, truncated"),
    "cut-off kernel": (lambda run: cut_off(run / "first" / "kernel.npy"), "first: "),
    "empty kernel": (lambda run: (run / "first" / "kernel.npy").write_bytes(b""), "first: "),
    "foreign kernel": (lambda run: (run / "first" / "kernel.npy").write_bytes(b"no array"), "first: "),
    "another run's picture": (save_another_size, "first: sr.png has 64x64 pixels of 3 channels and hr.png 48x48"),
    "missing folder": (lambda run: (run / "first").rename(run / "other"), "first: neither sr.png and hr.png nor"),
    "cut-off row": (lambda run: change_first_row(run, "", "first,photos_an"), "row 2 of its rows.csv is damaged"),
    "failed image": (lambda run: change_first_row(run, "2,,", "2,it diverged,"), r"first: it failed \(it diverged\)"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_skipped_in_words_and_the_rest_is_scored(
    run: Path, damage: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    do, said = DAMAGE[damage]
    do(run)
    called(monkeypatch, run)
    out, errors = capsys.readouterr()
    assert "noise x2: mean over 1 image\n" in out
    assert len(errors.splitlines()) == 1 and errors.startswith(f"skipped {run}") and re.search(said, errors)


def test_a_foreign_table_is_skipped_too(
    run: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "notes").mkdir()
    (run / "notes" / "rows.csv").write_text("name,price\nbread,2\n")
    called(monkeypatch, run)
    assert "notes: its rows.csv is not a run's" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="there is nothing to score; the lines above say why"):
        called(monkeypatch, run / "notes")


def test_other_settings_are_another_table_and_seeds_are_counted(tmp_path: Path) -> None:
    row = made(photograph(64), "first", tmp_path / "0")
    words = ("prior.lr=0.1", "prior.lr=0.5 seed=0", "prior.lr=0.5 seed=1", "data.noise_std=0.1 prior.lr=0.5")
    for number, said in enumerate(words):
        made(photograph(64), "first", tmp_path / str(number))
        write(tmp_path / str(number), [row | {"command": f"python run.py {said}"}])
    text = rescore.table([score for run in runs_in([tmp_path]) for score in scored(run)])
    assert [line for line in text.splitlines() if "mean over" in line] == [
        "photos_aniso, noise prior.lr=0.1 x2: mean over 1 image",
        "photos_aniso, noise prior.lr=0.5 x2: mean over 1 image (2 estimates)",
        "photos_aniso, image noise 0.1, noise prior.lr=0.5 x2: mean over 1 image",
    ]


def test_an_estimate_that_lies_in_two_folders_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """As where a run was taken up again into another folder; of another seed, or with other numbers, it is another one."""
    hr = photograph(64)
    for place, noise, seed in (("0", 0.04, 0), ("1", 0.04, 0), ("2", 0.04, 1), ("3", 0.05, 0)):
        write(tmp_path / place, [made(hr, "first", tmp_path / place, noise=noise) | {"seed": seed}])
    called(monkeypatch, tmp_path / "0", tmp_path / "1")
    assert "mean over 1 image\n" in capsys.readouterr().out
    called(monkeypatch, tmp_path)
    assert "mean over 1 image (3 estimates)\n" in capsys.readouterr().out


def test_kernels_alone_are_scored(tmp_path: Path) -> None:
    """KernelGAN makes no image."""
    row = made(photograph(64), "first", tmp_path)
    for name in ("sr.png", "hr.png"):
        (tmp_path / "first" / name).unlink()
    write(tmp_path, [row | {"psnr": "", "ssim": ""}])
    rows = scored(tmp_path)
    assert one(rows, "div2krk")["kernel_psnr"] == pytest.approx(row["kernel_psnr"])
    assert "psnr" not in one(rows, "fkp2021") and rescore.table(rows)


def test_small_images_leave_wide_borders_out(tmp_path: Path) -> None:
    write(tmp_path, [made(photograph(64), "first", tmp_path)])
    (saved,) = estimates(tmp_path)
    rows = rescore.scores(replace(saved, scale=8), rescore.elsewhere(8))
    assert "psnr" not in one(rows, "DKP's log of each step")  # a border of 64 pixels
    assert "psnr" in one(rows, "no border") and rescore.table(rows)
