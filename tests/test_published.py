"""The registry of published results: what may be shown as a target, and that a wrong line is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.published import PUBLISHED, Published, read, targets

GOOD = "{method: A, set: set5_aniso, scale: 4, metric: psnr, value: 25.5, source: a paper, status: verified}"


def registry(folder: Path, *rows: str) -> Path:
    path = folder / "published.yaml"
    path.write_text("# a comment\n" + "".join(f"- {row}\n" for row in rows))
    return path


def test_the_registry_is_sound_and_holds_what_was_read() -> None:
    values = {row.what: row.value for row in read()}
    assert values["DANv2", "div2krk", None, 4, "psnr"] == 28.74
    assert values["DIP-FKP + USRNet", "set5_aniso", "butterfly", 4, "kernel_psnr"] == 59.86
    assert values["true kernel + USRNet", "set5_aniso", "bird", 4, "ssim_nonblind"] == 0.936


def test_numbers_of_the_authors_code_say_that_they_are_one_run() -> None:
    assert {row.source for row in read() if row.image} == {"authors' code, one run"}


def test_a_row_is_one_line_and_keeps_its_number(tmp_path: Path) -> None:
    path = registry(tmp_path, GOOD, GOOD.replace("A", "B"))
    assert read(path) == [
        Published("A", "set5_aniso", 4, "psnr", 25.5, "a paper", "verified", line=2),
        Published("B", "set5_aniso", 4, "psnr", 25.5, "a paper", "verified", line=3),
    ]


def test_only_verified_rows_are_targets(tmp_path: Path) -> None:
    path = registry(tmp_path, GOOD, GOOD.replace("A", "B").replace("verified", "unverified"))
    assert [row.method for row in targets("set5_aniso", 4, path)] == ["A"]
    assert len(read(path)) == 2
    assert not targets("set5_aniso", 2, path) and not targets("set5_motion", 4, path)


def test_a_protocol_that_makes_the_same_images_has_the_same_targets() -> None:
    assert targets("set5_fkp2021", 4) == targets("set5_dkp2024", 4) == targets("set5_aniso", 4) != []
    # Other kernels, another grid: nothing to hold against each other.
    assert not targets("set5_aligned", 4) and not targets("set5_dkp2024_motion", 4)
    # Kernels drawn anew from DIV2KRK's distribution are not its 100 images.
    assert targets("div2krk", 4) and not targets("div2k_div2krk", 4)


WRONG = {
    GOOD.replace("metric: psnr", "metric: psrn"): r"metric is 'psrn'; choose one of psnr, ssim",
    GOOD.replace("value: 25.5", "value: 25,5"): "there is no 5 in a row",
    GOOD.replace("value: 25.5", "value: high"): "value is 'high'; it must be a number",
    GOOD.replace("value: 25.5", "value: .nan"): "value is nan",
    GOOD.replace("value: 25.5", "value: true"): "value is True",
    GOOD.replace("metric: psnr", "metric: ssim"): r"value is 25.5; an SSIM lies in \[-1, 1\]",
    GOOD.replace("scale: 4", "scale: x4"): "scale is 'x4'; it must be an integer",
    GOOD.replace("verified", "checked"): "status is 'checked'; choose verified",
    GOOD.replace("source: a paper, ", ""): "source is missing",
    GOOD.replace("source: a paper", "source: ''"): "source is ''; it must be a word or a sentence",
    GOOD.replace("set: set5_aniso", "dataset: set5_aniso"): "there is no dataset in a row; its parts are method, set",
    GOOD.replace("status", "image: 3096, status"): 'image is 3096; write it in quotes: image: "3096"',
    GOOD.replace("status", "scale: 2, status"): "scale is given twice",
    GOOD.replace("25.5", "!code 25.5"): "could not determine a constructor",
    "28.74": "this is no row; write {method: ..., set: ...",
    GOOD: "line 3 has this number already; keep one of them",
}


@pytest.mark.parametrize("row", WRONG)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    path = registry(tmp_path, GOOD.replace("A", "first"), GOOD, row)
    with pytest.raises(ValueError, match=rf"published.yaml, line 4: .*{WRONG[row]}"):
        read(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {method: A", "line 1 is no YAML|line 2 is no YAML"),
        ("", "has no rows"),
        ("a: 1", "has no rows; a row is a line"),
    ],
)
def test_a_file_that_is_no_registry(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read(path)


def test_from_the_command_line(tmp_path: Path) -> None:
    def run(path: Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "experiments.published", str(path)]
        return subprocess.run(words, capture_output=True, text=True, cwd=PUBLISHED.parents[1])

    told = run(registry(tmp_path, GOOD, GOOD.replace("A", "B").replace("verified", "unverified")))
    assert told.returncode == 0 and "unverified: never shown" in told.stdout and "2 rows, 1 verified" in told.stdout
    failed = run(registry(tmp_path, GOOD, "{method: A}"))
    assert failed.returncode == 1 and "line 3: set, scale, metric" in failed.stderr and "Traceback" not in failed.stderr
    assert "No such file" in run(tmp_path / "nowhere.yaml").stderr
