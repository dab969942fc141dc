"""The files of a run: whole or untouched, exact on the way back, and clear when the disk or a file is not."""

import errno
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from kernelsr.charts import Line, lines_chart
from kernelsr.files import write_bytes_atomically, write_text_atomically
from kernelsr.pictures import VIRIDIS, as_8bit, centre_window, colour, enlarge, pad_centred
from kernelsr.problem import Estimate, Problem, Truth
from kernelsr.results import (
    COLUMNS,
    Row,
    put_rows,
    read_rows,
    read_trace,
    safe_name,
    save_estimate,
)


def row(image: str = "bird", **values: object) -> dict[str, object]:
    return {"image": image, "method": "dkp+dip", "scale": 2, "seed": 3, "error": "", **values}


def case(channels: int = 3) -> tuple[Estimate, Problem, Truth]:
    rng = torch.Generator().manual_seed(1)
    kernel = torch.rand(2, 1, 11, 11, generator=rng)
    kernel /= kernel.sum((2, 3), keepdim=True)
    image = torch.rand(2, channels, 24, 32, generator=rng)
    problem = Problem(torch.rand(1, channels, 12, 16, generator=rng), scale=2)
    return Estimate(image[:1], kernel[:1]), problem, Truth(image[1:], kernel[1:].double())


def names(folder: Path) -> set[str]:
    """Of the files there; the lock beside a table that several processes may write stays."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_failure_in_the_middle_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    write_text_atomically(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk is full; free some space") as caught:
        write_text_atomically(path, "new")
    assert str(tmp_path) in str(caught.value) and "rows.csv" in str(caught.value)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old" and names(tmp_path) == {"rows.csv"}


def test_an_interrupt_before_replacing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    put_rows(path, [row("first")])

    def interrupt(source: Path, target: Path) -> None:
        assert Path(source).parent == tmp_path  # another file system could not be renamed from
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put_rows(path, [row("second")])
    monkeypatch.undo()
    assert [r["image"] for r in read_rows(path)] == ["first"] and names(tmp_path) == {"rows.csv"}


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    replace = os.replace

    def logged_replace(source: Path, target: Path) -> None:
        calls.append(("replace", 0))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(("fsync", os.fstat(descriptor).st_size)))
    monkeypatch.setattr(os, "replace", logged_replace)
    write_bytes_atomically(tmp_path / "x", b"12345")
    assert calls == [("fsync", 5), ("replace", 0)]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose another output folder") as caught:
        put_rows(tmp_path / "file" / "run" / "rows.csv", [row()])
    assert str(tmp_path / "file" / "run") in str(caught.value) and "\n" not in str(caught.value)


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match="the folder is read-only; make it writable or choose another") as caught:
        save_estimate(tmp_path / "bird", *case(), trace=[])
    assert str(tmp_path / "bird") in str(caught.value)


def test_rows_come_back_as_they_went(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    first = row('odd, "name"\nof 夜', psnr=24.123456789012345, ssim=np.float64(1 / 3), lr_psnr=torch.tensor(0.5))
    put_rows(path, [first])
    put_rows(path, [row("b", psnr=math.inf, kernel_psnr=math.nan, seconds=None, error="too small, sorry")])
    one, two = read_rows(path)
    assert path.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert tuple(one) == COLUMNS
    assert one["image"] == 'odd, "name"\nof 夜' and one["scale"] == 2 and one["seed"] == 3
    assert one["psnr"] == 24.123456789012345 and one["ssim"] == 1 / 3 and one["lr_psnr"] == 0.5
    assert one["kernel_psnr"] is None and one["error"] == ""
    assert two["psnr"] == math.inf and math.isnan(two["kernel_psnr"]) and two["seconds"] is None
    assert two["error"] == "too small, sorry"


def test_a_table_of_a_version_that_told_no_noise_is_read_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    put_rows(path, [row("a", psnr=1.0, lr_psnr=40.0, seconds=9.0)])
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    place = COLUMNS.index("noise_std")
    path.write_text("".join(",".join(line[:place] + line[place + 1 :]) + "\n" for line in lines), encoding="utf-8")
    (old,) = read_rows(path)
    assert tuple(old) == COLUMNS and old["noise_std"] is None and (old["lr_psnr"], old["seconds"]) == (40.0, 9.0)
    put_rows(path, [row("b", noise_std=0.02)])
    assert [(each["image"], each["noise_std"]) for each in read_rows(path)] == [("a", None), ("b", 0.02)]
    lines[0].remove("psnr")
    path.write_text(",".join(lines[0]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="where the columns"):
        read_rows(path)


def test_a_row_that_is_there_is_replaced_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    put_rows(path, [row("a", psnr=1.0), row("b", psnr=2.0), row("a", psnr=3.0, seed=4)])
    put_rows(path, [row("b", psnr=5.0), row("a", psnr=6.0, command="python run.py prior=fkp")])
    assert [(each["image"], each["psnr"]) for each in read_rows(path)] == [("a", 1), ("b", 5), ("a", 3), ("a", 6)]


def test_several_processes_put_rows_into_one_table(tmp_path: Path) -> None:
    path, go = tmp_path / "rows.csv", tmp_path / "go"
    script = (
        "import os, sys, time; from kernelsr.results import put_rows\n"
        "print('ready', flush=True)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.001)\n"
        f"for i in range(40): put_rows({str(path)!r}, [dict(image=f'{{sys.argv[1]}}{{i}}', method='m')])"
    )
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "abc"]
    assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * 3
    go.touch()  # all at once, so that without the lock rows would be lost
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert {each["image"] for each in read_rows(path)} == {f"{name}{i}" for name in "abc" for i in range(40)}


def test_an_unknown_column_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown column psnrr; the columns are image, data, method"):
        put_rows(tmp_path / "rows.csv", [row(psnrr=1.0)])
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "begins with 'a,b'"),
        (b"", "begins with 'nothing'"),
        ((",".join(COLUMNS) + "\nbird,dkp+dip,2,3,24.1").encode(), "row 2 .* has 5 cells, not 25, as if cut off"),
        ((",".join(COLUMNS) + '\nbird,"dkp+di').encode(), "not a whole CSV file"),
        ((",".join(COLUMNS) + "\nbird,set5,dkp,2,3,high" + "," * 19 + "\n").encode(), "row 2 .* cannot be read .*high"),
        (b"\x89PNG\xff", "not a whole CSV file"),
    ],
)
def test_a_damaged_or_foreign_table_is_refused_and_kept(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        put_rows(path, [row()])
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content and names(tmp_path) == {"rows.csv"}


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    put_rows(path, [row(psnr=24.5)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_rows(path)[0]["psnr"] == 24.5


def test_every_file_of_an_estimate_comes_back(tmp_path: Path) -> None:
    estimate, problem, truth = case()
    trace: list[Row] = [{"step": 0, "loss": torch.tensor(0.25), "kernel_psnr": 41.5}, {"step": 5, "loss": 1e-12}]
    save_estimate(tmp_path / "bird", estimate, problem, truth, trace)
    folder = tmp_path / "bird"
    assert names(folder) == {
        "kernel.npy", "kernel.mat", "kernel.png", "sr.png", "lr.png", "hr.png", "true_kernel.npy", "trace.csv",
    }  # fmt: skip
    kernel = np.load(folder / "kernel.npy")
    assert kernel.dtype == np.float64 and kernel.shape == (11, 11)
    assert np.array_equal(kernel, estimate.kernel[0, 0].double().numpy())
    assert np.array_equal(scipy.io.loadmat(folder / "kernel.mat")["Kernel"], kernel)  # neither flipped nor transposed
    assert truth.kernel is not None and truth.hr is not None
    assert np.array_equal(np.load(folder / "true_kernel.npy"), truth.kernel[0, 0].numpy())
    for name, image in (("sr", estimate.image), ("lr", problem.lr), ("hr", truth.hr)):
        stored = np.asarray(Image.open(folder / f"{name}.png"))
        expected = (image[0].double() * 255).round().permute(1, 2, 0).numpy()
        assert stored.dtype == np.uint8 and np.array_equal(stored, expected), name
    assert read_trace(folder / "trace.csv") == [
        {"step": 0, "loss": 0.25, "kernel_psnr": 41.5},
        {"step": 5, "loss": 1e-12, "kernel_psnr": None},
    ]


def test_the_kernel_picture_is_the_kernel_enlarged(tmp_path: Path) -> None:
    estimate, problem, _ = case()
    save_estimate(tmp_path, estimate, problem, None, [])
    picture = np.asarray(Image.open(tmp_path / "kernel.png"))
    factor = picture.shape[0] // 11
    assert picture.shape == (11 * factor, 11 * factor, 3) and picture.shape[0] >= 190
    kernel = np.load(tmp_path / "kernel.npy")
    assert np.array_equal(picture[factor // 2 :: factor, factor // 2 :: factor], colour(kernel, kernel.max(), VIRIDIS))


def test_without_a_truth_no_old_truth_stays(tmp_path: Path) -> None:
    estimate, problem, truth = case()
    save_estimate(tmp_path, estimate, problem, truth, [])
    save_estimate(tmp_path, estimate, problem, Truth(kernel=truth.kernel), [])
    assert "hr.png" not in names(tmp_path) and "true_kernel.npy" in names(tmp_path)
    save_estimate(tmp_path, estimate, problem, None, [])
    assert "true_kernel.npy" not in names(tmp_path)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (31, "RGB")])
def test_images_of_any_channel_count_are_saved(tmp_path: Path, channels: int, mode: str) -> None:
    estimate, problem, truth = case(channels)
    save_estimate(tmp_path, estimate, problem, truth, [])
    assert Image.open(tmp_path / "sr.png").mode == mode and Image.open(tmp_path / "sr.png").size == (32, 24)
    assert ("sr.npy" in names(tmp_path)) == (channels not in (1, 3))
    if channels == 31:
        assert np.array_equal(np.load(tmp_path / "hr.npy"), truth.hr[0].numpy())  # type: ignore[index]


def test_safe_names_stay_harmless_readable_and_apart() -> None:
    for name in ("bird", "0801", "img (2)", "夜の写真", "a.b-c_d", "x+y,z=1"):
        assert safe_name(name) == name
    odd = ["../../etc/passwd", "a/b", "a\\b", "a:b", "a b ", ".", "..", "", ".hidden", "x" * 300, "a\nb", "<b>"]
    odd += ["\udcff", "夜" * 300]
    safe = [safe_name(name) for name in odd]
    assert len({*safe}) == len(odd)
    for name in safe:
        assert not set(name) & set('/\\:*?"<>|\n\0') and name.strip(" .") == name and 0 < len(name.encode()) < 255
        assert safe_name(name) == name  # so a folder's name may be read back as a name
    assert safe_name("a/b").startswith("a_b-")


def test_8bit_rounds_and_clips() -> None:
    values = np.array([[[-0.2, 0.0, 0.49 / 255, 0.51 / 255, 1.0, 1.7]]])
    assert as_8bit(values).tolist() == [[0, 0, 0, 1, 255, 255]]


def test_colours_end_where_the_scale_does() -> None:
    ends = colour(np.array([[-1.0, 0.0, 0.3, 0.9, math.nan]]), 0.3, VIRIDIS)[0].tolist()
    assert ends == [[0x44, 0x01, 0x54]] * 2 + [[0xFD, 0xE7, 0x25]] * 2 + [[0x44, 0x01, 0x54]]
    assert colour(np.zeros((2, 2)), 0.0, VIRIDIS).shape == (2, 2, 3)


def test_windows_are_central_and_small_images_whole() -> None:
    assert centre_window((48, 400), 4, 480) == (slice(0, 120), slice(140, 260))
    assert pad_centred(np.ones((1, 1)), 5).tolist() == np.pad(np.ones((1, 1)), 2).tolist()
    assert enlarge(np.array([[1, 2]]), at_least=3).tolist() == [[1, 1, 1, 2, 2, 2]] * 3


def test_a_log_curve_is_straight_for_an_exponential_and_drops_what_has_no_place() -> None:
    chart = lines_chart([Line([0, 1, 2, 3, 4], [1.0, 0.1, math.nan, 0.0, 1e-4])], log=True)
    assert chart is not None
    (drawn,) = chart.lines
    (x0, y0), (x1, y1), (x4, y4) = (map(float, point.split(",")) for point in drawn.points.split())
    assert (y1 - y0) / (x1 - x0) == pytest.approx((y4 - y0) / (x4 - x0), abs=0.01) and y4 > y0
    assert [label for _, label in chart.y_ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert lines_chart([Line([0, 1], [None, math.nan])]) is None and lines_chart([]) is None


@pytest.mark.parametrize("log", [False, True])
def test_degenerate_and_long_curves_are_drawn(log: bool) -> None:
    for values in ([3.0], [2.0] * 1000, [1e-12 + i * 1e-15 for i in range(777)], [1e6, 1e-9]):
        chart = lines_chart([Line(range(len(values)), values)], log=log, level=5.0)
        assert chart is not None and chart.y_ticks and chart.x_ticks
        (drawn,) = chart.lines
        places = drawn.points.split()
        assert len(places) <= 241 and places[-1] == f"{drawn.end[0]:.1f},{drawn.end[1]:.1f}"
        assert all(0 <= float(number) <= chart.WIDTH for place in places for number in place.split(","))
