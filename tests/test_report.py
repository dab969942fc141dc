"""The table and the page say what the files of a run hold, whatever is missing, odd or failed."""

import base64
import io
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page, add, fail, floor
from PIL import Image

from kernelsr.charts import Line, lines_chart
from kernelsr.report import sweep_table, terminal_table, write_report
from kernelsr.results import COLUMNS, METRICS, read_rows
from kernelsr.tables import SHOWN, means

SETTINGS = {"prior": "dkp", "images": "<photos> & more"}


def build(folder: Path) -> Page:
    path = write_report(folder, title="A run", settings=SETTINGS)
    assert path == folder / "report.html"
    return Page(path)


def test_every_metric_is_shown() -> None:
    assert {column.key for column in SHOWN} == set(METRICS) < set(COLUMNS)


def test_the_page_shows_names_numbers_floors_failures_and_settings(tmp_path: Path) -> None:
    folder = tmp_path / "2025-11-20" / "13-03-59"
    for name, error in (("bird", 0.02), ("<script>alert('x')</script> & co", 0.3)):
        add(folder, name, psnr=24.126, ssim=0.81234, variance_error=error)
        floor(folder, name, "floor: mean kernel", kernel_psnr=51.5, variance_error=0.4)
    fail(folder, "hug<e>", "needs 12 GB; use a <smaller> image")
    page = build(folder)
    for word in ("A run", "bird", "<script>alert('x')</script> & co", "hug<e>"):
        assert word in page.text, word
    for word in ("24.13", "0.8123", "2.0", "16.0", "51.50"):
        assert word in page.text, word
    for word in ("needs 12 GB; use a <smaller> image", "1 failed", "3 images", "dkp+dip", "×2", "2025-11-20 13:03"):
        assert word in page.text, word
    assert "<photos> & more" in page.text and "46–54 dB" in page.text and "floor: mean kernel" in page.text
    assert "<script" not in page.source and "hug<e>" not in page.source


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    add(tmp_path, "bird")
    page = build(tmp_path)
    written = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page.source)
    assert not re.findall(r"https?:|//[a-z]|url\(|@import|<script|<iframe", written)
    assert all(address.startswith("data:image/") for address in page.values("img", "src"))
    ids = set(page.values("article", "id")) | set(page.values("section", "id"))
    assert all(address.startswith("#") and address[1:] in ids for address in page.values("a", "href"))
    assert "default-src 'none'" in page.values("meta", "content")[-1]


def test_the_pictures_are_those_of_the_folder(tmp_path: Path) -> None:
    add(tmp_path, "bird")
    page = build(tmp_path)
    pictures = dict(zip(page.values("img", "alt"), page.values("img", "src"), strict=True))
    for name, file in (("LR of bird", "lr.png"), ("SR, estimated of bird", "sr.png"), ("HR, true of bird", "hr.png")):
        shown = Image.open(io.BytesIO(base64.b64decode(pictures[name].split(",")[1])))
        assert np.array_equal(np.asarray(shown), np.asarray(Image.open(tmp_path / "bird" / file))), name
    assert {"Error |SR − HR| of bird", "True kernel of bird", "Estimated kernel of bird"} < set(pictures)
    assert page.source.count("<polyline") == 2


def test_kernels_of_different_size_share_size_and_scale(tmp_path: Path) -> None:
    add(tmp_path, "bird")
    np.save(tmp_path / "bird" / "kernel.npy", np.full((3, 3), 1.0))
    np.save(tmp_path / "bird" / "true_kernel.npy", np.full((5, 5), 2.0))
    page = build(tmp_path)
    pictures = dict(zip(page.values("img", "alt"), page.values("img", "src"), strict=True))
    true, estimated = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[f"{name} kernel of bird"].split(",")[1]))))
        for name in ("True", "Estimated")
    )
    assert true.shape == estimated.shape == (5, 5, 3)
    assert true[2, 2].tolist() == [0xFD, 0xE7, 0x25] and estimated[2, 2].tolist() == [0x21, 0x91, 0x8C]


def test_a_missing_truth_leaves_out_what_needs_it(tmp_path: Path) -> None:
    add(tmp_path, "0001", truth=False)
    page = build(tmp_path)
    assert page.values("img", "alt") == ["LR of 0001", "SR, estimated of 0001", "Estimated kernel of 0001"]
    assert page.source.count("<polyline") == 1 and "44.00" in page.text
    assert page.values("th", "scope").count("col") == 3  # image, LR PSNR, time: no column of dashes


def test_a_run_of_failures_only_and_an_empty_run(tmp_path: Path) -> None:
    fail(tmp_path, "a", "broken file")
    page = build(tmp_path)
    assert "broken file" in page.text and "1 failed" in page.text and not page.values("img", "src")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "rows.csv").write_text(",".join(COLUMNS) + "\n")
    assert "No image has been finished yet" in build(tmp_path / "empty").text


def test_values_that_are_not_numbers(tmp_path: Path) -> None:
    add(tmp_path, "a", psnr=math.inf, kernel_psnr=math.nan, variance_error=math.nan)
    add(tmp_path, "b", psnr=30.0, kernel_psnr=50.0, variance_error=0.2)
    floor(tmp_path, "a", "floor: mean kernel", kernel_psnr=math.nan)
    page = build(tmp_path)
    assert "∞" in page.text and "nan" not in page.text and "of 1" in page.text
    line = means(read_rows(tmp_path / "rows.csv"), [])[0]
    assert line.values["variance_error"] == 0.2 and line.counts["variance_error"] == 1 and line.images == 2


def test_an_image_folder_that_is_gone_does_not_stop_the_page(tmp_path: Path) -> None:
    add(tmp_path, "a")
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    assert "24.00" in build(tmp_path).text


def test_large_and_many_images_stay_small(tmp_path: Path) -> None:
    add(tmp_path / "large", "a", size=400)
    page = build(tmp_path / "large")
    assert "centre 480 × 480 of 800 × 800 px" in page.text and len(page.source) < 4e6
    shown = Image.open(io.BytesIO(base64.b64decode(page.values("img", "src")[0].split(",")[1])))
    lr = np.asarray(Image.open(tmp_path / "large" / "a" / "lr.png"))
    assert np.array_equal(np.asarray(shown), lr[80:320, 80:320])
    for number in range(14):
        add(tmp_path / "many", f"{number:04d}", size=90)
    page = build(tmp_path / "many")
    assert len(page.values("article", "id")) == 14 and len(page.source) < 14 * 0.5e6


def test_several_methods_have_their_own_means_and_lines(tmp_path: Path) -> None:
    for method, value in (("fkp+dip", 0.5), ("dkp+dip", 0.25)):
        add(tmp_path, "a", method=method, variance_error=value)
    page = build(tmp_path)
    assert page.values("article", "id") == ["image-1"] and "Method" in page.text
    assert re.findall(r"<b>(25\.0|50\.0)</b>", page.source) == ["25.0", "25.0"]  # best mean, best of the image


def test_floors_are_averaged_over_the_images_that_have_a_result() -> None:
    rows = [
        {"image": "a", "method": "m", "scale": 2, "psnr": 20.0},
        {"image": "b", "method": "m", "scale": 2, "error": "x"},
    ]
    floors = [
        {"image": name, "method": "floor", "scale": 2, "psnr": value} for name, value in (("a", 10.0), ("b", 90.0))
    ]
    assert [(line.label, line.values["psnr"], line.floor) for line in means(rows, floors)] == [
        ("m", 20.0, False),
        ("floor", 10.0, True),
    ]


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no rows.csv; give the output folder of a run") as caught:
        write_report(tmp_path, title="", settings={})
    assert str(tmp_path) in str(caught.value)


def test_the_page_is_the_same_when_rebuilt(tmp_path: Path) -> None:
    add(tmp_path, "bird")
    assert build(tmp_path).source == build(tmp_path).source


def table_rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    base = {"method": "dkp+dip", "scale": 4, "seed": 0, "error": ""}
    keys = [key for key in METRICS if not key.endswith("nonblind")]
    rows = [
        {**base, "image": "bird", "psnr": 29.876, "ssim": 0.84567, "variance_error": 0.08, "kernel_psnr": 50.8},
        {**base, "image": "夜" * 40, "psnr": 23.5, "ssim": 0.79, "variance_error": 0.12, "kernel_psnr": math.nan},
        {**base, "image": "huge", "error": "out of memory " * 20 + "\x1b[2J"},
    ]
    for row in rows[:2]:
        row |= {key: 1234.5678 for key in keys if key not in row}
    return rows, [{**base, "image": "bird", "method": "floor: bicubic, unaligned", "psnr": 21.4}]


def test_the_terminal_table_holds_images_means_floors_and_failures() -> None:
    lines = terminal_table(*table_rows()).splitlines()
    words = {line.split()[0]: line.split()[1:] for line in lines if line.strip("-")}
    assert words["image"][:4] == ["PSNR", "SSIM", "var%", "kPSNR"]
    assert words["bird"][:4] == ["29.88", "0.8457", "8.0", "50.80"]
    assert words["mean"][:5] == ["dkp+dip", "26.69", "0.8178", "10.0", "50.80"]
    assert words["floor:"][:4] == ["bicubic,", "unaligned", "21.40", "–"]
    assert words["failed:"][:2] == ["huge", "(dkp+dip):"]
    assert "\x1b" not in "".join(lines)


def test_the_terminal_table_is_aligned_and_fits() -> None:
    lines = terminal_table(*table_rows()).splitlines()
    wide = [sum(2 if c == "夜" else 1 for c in line) for line in lines]
    assert max(wide) <= 100
    assert wide[0] == wide[1] == wide[2] == wide[3]


def test_the_terminal_table_fits_with_the_non_blind_image_too() -> None:
    rows, floors = table_rows()
    lines = terminal_table([{**row, "psnr_nonblind": 30.0, "ssim_nonblind": 0.9} for row in rows], floors).splitlines()
    assert lines[0].split()[1:5] == ["PSNR", "SSIM", "nbPSNR", "var%"] and lines[2].split()[3] == "30.00"
    assert max(sum(2 if c == "夜" else 1 for c in line) for line in lines) <= 100


def test_a_method_without_an_image_of_its_own_has_bicubics_beside_it() -> None:
    rows, floors = table_rows()
    rows = [{**row, "psnr": None, "ssim": None, "psnr_nonblind": 30.0, "ssim_nonblind": 0.9} for row in rows]
    lines = terminal_table(rows, floors).splitlines()
    (bicubic,) = (line for line in lines if line.startswith("floor: bicubic"))
    assert "21.40" in bicubic and len(bicubic) <= 100


def test_the_terminal_table_of_nothing_and_of_several_methods() -> None:
    assert terminal_table([], []) == "no images yet"
    rows = [{"image": "a", "method": m, "scale": 2, "psnr": p} for m, p in (("fkp+dip", 20.0), ("dkp+dip", 30.0))]
    text = terminal_table(rows, [])
    assert (
        "fkp+dip, x2" in text and re.search(r"mean fkp\+dip +20.00", text) and re.search(r"mean dkp\+dip +30.00", text)
    )


def test_the_report_needs_no_matplotlib() -> None:
    code = "import sys, kernelsr.report; sys.exit('matplotlib' in sys.modules)"
    root = Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_single_tiny_loss_has_a_curve() -> None:
    """A solver without a loop shows one step, and its closed form explains y to rounding."""
    drawn = lines_chart([Line([1], [1.9e-13])], log=True)
    assert drawn is not None and all(0 < float(text) < 1e-11 for _, text in drawn.y_ticks)


def test_the_best_step_has_a_ring_in_both_curves(tmp_path: Path) -> None:
    add(tmp_path, "bird")
    trace = [(1, 0.5, 40.0), (5, 0.1, 52.25), (9, 0.2, 50.0)]
    lines = ["step,loss,kernel_psnr", *(",".join(map(str, row)) for row in trace)]
    (tmp_path / "bird" / "trace.csv").write_text("\n".join(lines) + "\n")
    page = build(tmp_path)
    assert "ring: the best, 52.25 at step 5" in page.text and "ring: step 5, where the kernel is best" in page.text
    circles = [attrs for name, attrs in page.attributes if name == "circle" and attrs["class"] == "best"]
    assert len(circles) == 2
    points = [attrs["points"].split() for name, attrs in page.attributes if name == "polyline"]
    assert [f"{c['cx']},{c['cy']}" for c in circles] == [line[1] for line in points]  # the second of three points


def test_without_a_true_kernel_the_ring_is_at_the_lowest_loss(tmp_path: Path) -> None:
    add(tmp_path, "bird", truth=False)  # its loss falls to the end
    assert "ring: the lowest, 3.052e-05 at step 15" in build(tmp_path).text


def test_thinning_keeps_the_ends_and_the_best() -> None:
    steps = list(range(1, 1001))
    drawn = lines_chart([Line(steps, [abs(step - 537.5) for step in steps], best=537)], points=10)
    assert drawn is not None and drawn.lines[0].best is not None
    points = drawn.lines[0].points.split()
    assert 10 <= len(points) <= 13 and points[0].startswith("46.0,") and points[-1].startswith("304.0,")
    assert "{:.1f},{:.1f}".format(*drawn.lines[0].best) in points


def test_flags_are_words_beside_the_numbers_and_no_column_where_there_are_none(tmp_path: Path) -> None:
    add(tmp_path, "a", flags="")
    assert "Flags" not in build(tmp_path).text
    add(tmp_path, "b", flags="collapsed off-centre")
    page = build(tmp_path)
    assert page.text.count("collapsed, off-centre") == 2  # in the table and with the image
    assert page.words.count("Flags") == 3 and "Flags" in page.words[: page.words.index("b")]


def test_damaged_pictures_do_not_stop_the_page(tmp_path: Path) -> None:
    add(tmp_path, "a")
    for name in ("sr.png", "kernel.npy"):
        path = tmp_path / "a" / name
        path.write_bytes(path.read_bytes()[:60])
    page = build(tmp_path)
    assert page.values("img", "alt") == ["LR of a", "HR, true of a", "True kernel of a"]


def test_variances_of_lines_are_no_column(tmp_path: Path) -> None:
    """They have none along the line: the metric is NaN, and was printed so in every row."""
    add(tmp_path, "a", variance_error=math.nan)
    floor(tmp_path, "a", "floor: mean kernel", kernel_psnr=50.0, variance_error=math.nan)
    rows, floors = (read_rows(tmp_path / name) for name in ("rows.csv", "floors.csv"))
    table, page = terminal_table(rows, floors), build(tmp_path).text
    assert "var%" not in table.splitlines()[0] and "nan" not in table and "nan" not in page


def test_the_headline_of_a_method_without_an_image_of_its_own_is_the_non_blind_one(tmp_path: Path) -> None:
    """As with preset=fast."""
    add(tmp_path, "a", psnr=None, ssim=None, psnr_nonblind=31.25, ssim_nonblind=0.9)
    page = write_report(tmp_path, title="A run", settings=SETTINGS).read_text()
    headline = page.partition('<dl class="key">')[2].partition("</dl>")[0]
    assert "<dt>PSNR, non-blind</dt>" in headline and "31.25" in headline


def test_a_sweeps_table_has_for_each_data_set_the_columns_that_mean_something_there() -> None:
    rows = [{"image": "a", "method": "m", "psnr": 20.0, "variance_error": 0.5, "error": ""}]
    lines = [{**rows[0], "variance_error": math.nan}]
    text = sweep_table([("aniso", rows, []), ("motion", lines, [])])
    heads = [line for line in text.splitlines() if line.startswith("mean over images")]
    assert ["var%" in head for head in heads] == [True, False] and all("PSNR" in head for head in heads)
    assert "–" not in text and "nan" not in text
