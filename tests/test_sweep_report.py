"""A sweep's page says what the files of its jobs hold, whatever is missing, odd, damaged or failed."""

import base64
import hashlib
import html
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page, add, fail, floor, job
from PIL import Image

from kernelsr import sweep_cards
from kernelsr.charts import scatter_chart
from kernelsr.results import COLUMNS
from kernelsr.sweep_files import read_sweep
from kernelsr.sweep_report import write_sweep_report


def build(folder: Path) -> Page:
    path = write_sweep_report(folder)
    assert path == folder / "report.html"
    return Page(path)


def two_methods(folder: Path, **values: Any) -> Path:
    """Two jobs on one image, the second of which has a page of its own."""
    for number, (method, psnr) in enumerate((("fkp+dip", 24.0), ("dkp+dip", 26.0))):
        place = job(folder / str(number), method, images=["bird"])
        add(place, "bird", method=method, psnr=psnr, **values)
    (folder / "1" / "report.html").write_text("<p>a run</p>")
    return folder


def table(page: Page, label: str) -> list[list[str]]:
    """The cells' texts of the table in the box of that name, a list a row, tags left out."""
    box = page.source.split(f'aria-label="{label}"')[1].split("</table>")[0].replace("<wbr>", "")
    rows = re.findall(r"<tr.*?</tr>", box, re.DOTALL)
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in rows]
    return [[" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in row] for row in cells]


def shown(page: Page) -> dict[str, np.ndarray]:
    """The pictures of a page by their alternative texts."""
    pairs = zip(page.values("img", "alt"), page.values("img", "src"), strict=True)
    return {alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))) for alt, uri in pairs}


def test_the_overview_holds_means_deviations_flags_failures_and_floors(tmp_path: Path) -> None:
    place = job(tmp_path / "0", images=["a", "b", "c", "d"])
    for name, psnr, flags in (("a", 20.0, "collapsed border"), ("b", 26.0, "collapsed")):
        add(place, name, psnr=psnr, flags=flags)
        floor(place, name, "floor: mean kernel", kernel_psnr=51.5)
    fail(place, "c", "out of memory")
    floor(place, "c", "floor: mean kernel", kernel_psnr=99.0)
    page = build(tmp_path)
    head, own, beside = table(page, "Overview")
    assert head[:4] == ["Method", "Images", "Failed", "Flags"] and "PSNR dB" in head
    assert own[:4] == ["dkp+dip", "2", "1", "2 collapsed, 1 border"]
    assert own[head.index("PSNR dB")] == "23.00 ± 4.24"  # the deviation of 20 and 26 is 3 √2
    assert beside[0] == "floor: mean kernel" and beside[head.index("Kernel PSNR dB")] == "51.50 ± 0.00"
    assert "1 failed" in page.text and "1 not done" in page.text and "2 estimates" in page.text
    noted = {row[0]: row[-1] for row in table(page, "Flagged and failed")[1:]}
    assert noted == {"a": "collapsed, border", "b": "collapsed", "c": "failed: out of memory"}
    assert "the kernel is nearly a delta, or nearly flat" in page.text


def test_bicubic_stands_beside_methods_that_make_no_image(tmp_path: Path) -> None:
    place = job(tmp_path / "0", "kernelgan+zssr")
    add(place, "a", method="kernelgan+zssr", psnr=None, ssim=None, psnr_nonblind=24.0, variance_error=float("nan"))
    floor(place, "a", "floor: bicubic, aligned", psnr=19.5)
    page = build(tmp_path)
    head, own, beside = table(page, "Overview")
    assert (own[head.index("PSNR dB")], beside[head.index("PSNR dB")]) == ("–", "19.50")
    assert "Variance error %" not in head and "nan" not in page.text  # a line has no variances


def test_data_sets_and_scales_have_lines_of_their_own_and_seeds_have_not(tmp_path: Path) -> None:
    for number, (data, scale, seed) in enumerate((("x", 2, 0), ("x", 2, 1), ("y", 2, 0), ("x", 3, 0))):
        add(job(tmp_path / str(number), data=data), "a", scale=scale, seed=seed, psnr=20.0 + 2 * number)
    rows = table(build(tmp_path), "Overview")
    assert rows[0][:5] == ["Method", "Data", "Scale", "Estimates", "PSNR dB"]
    assert [row[1:5] for row in rows[1:]] == [
        ["x", "×2", "2", "21.00"],  # two seeds of one image
        ["x", "×3", "1", "26.00"],
        ["y", "×2", "1", "24.00"],
    ]
    assert [row[-1] for row in rows[1:]] == ["0, 1", "3", "2"]


def test_settings_that_vary_tell_methods_and_data_apart(tmp_path: Path) -> None:
    words = ("solver.steps=40 data.noise=0", "solver.steps=80 data.noise=0", "solver.steps=40 data.noise=5")
    for number, word in enumerate(words):
        add(job(tmp_path / str(number), command=f"python run.py prior=dkp progress=false {word}"), "a")
    assert [(one.method, one.data) for one in read_sweep(tmp_path)] == [
        ("dkp+dip solver.steps=40", "set5_aniso data.noise=0"),
        ("dkp+dip solver.steps=80", "set5_aniso data.noise=0"),
        ("dkp+dip solver.steps=40", "set5_aniso data.noise=5"),
    ]
    assert [row[0] for row in table(build(tmp_path), "Overview")[1:]] == [
        "dkp+dip solver.steps=40",
        "dkp+dip solver.steps=80",
        "dkp+dip solver.steps=40",
    ]


def test_settings_are_told_only_where_namesakes_differ(tmp_path: Path) -> None:
    words = (("fkp", "prior=fkp x=1"), ("dkp", "prior=dkp x=2 seed=1"), ("dkp", "prior=dkp x=2 seed=2"))
    words += (("paper", "experiment=paper prior=fkp"), ("paper", "experiment=paper prior=dkp"))
    for number, (method, said) in enumerate(words):
        job(tmp_path / str(number), method, command=f"python run.py {said}")
    names = [one.method for one in read_sweep(tmp_path)]
    assert names == ["fkp", "dkp", "dkp", "paper prior=fkp", "paper prior=dkp"]


def test_shards_are_one_method_and_an_estimate_of_two_jobs_counts_once(tmp_path: Path) -> None:
    for number, names in enumerate((["a"], ["b"])):
        place = job(tmp_path / str(number), images=["a", "b", "c"])
        for name in names:
            add(place, name, psnr=20.0 + 4 * number)
    page = build(tmp_path)
    assert [row[:3] for row in table(page, "Overview")[1:]] == [["dkp+dip", "2", "22.00 ± 2.83"]]
    assert "1 not done" in page.text  # c, of which no shard has a row
    add(job(tmp_path / "2", images=["a", "b", "c"]), "a", psnr=22.0)
    fail(tmp_path / "2", "b", "broken")
    page = build(tmp_path)
    assert [row[:3] for row in table(page, "Overview")[1:]] == [["dkp+dip", "2", "23.00 ± 1.41"]]


def test_jobs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "0", "extra"):
        job(tmp_path / name)
    (tmp_path / "cells").mkdir()  # no job
    (tmp_path / "11").mkdir()  # a job that was killed before its first word
    assert [one.folder.name for one in read_sweep(tmp_path)] == ["0", "9", "10", "11", "extra"]


def test_the_pictures_are_those_of_the_folders(tmp_path: Path) -> None:
    pictures = shown(build(two_methods(tmp_path)))
    assert set(pictures) == {"LR of bird", "HR, true of bird", "True kernel of bird"} | {
        f"{what} of bird by {method}"
        for what in ("SR, estimated", "Error |SR − HR|", "Estimated kernel")
        for method in ("fkp+dip", "dkp+dip")
    }
    for alt, file in (("LR of bird", "0/bird/lr.png"), ("SR, estimated of bird by dkp+dip", "1/bird/sr.png")):
        assert np.array_equal(pictures[alt], np.asarray(Image.open(tmp_path / file))), alt


def test_kernels_share_the_colours_of_the_true_one(tmp_path: Path) -> None:
    two_methods(tmp_path)
    for number, peak in (("0", 1.0), ("1", 9.0)):
        np.save(tmp_path / number / "bird" / "true_kernel.npy", np.full((5, 5), 2.0))
        np.save(tmp_path / number / "bird" / "kernel.npy", np.full((3, 3), peak))
    pictures = shown(build(tmp_path))
    assert {picture.shape for alt, picture in pictures.items() if "kernel" in alt} == {(5, 5, 3)}
    assert pictures["Estimated kernel of bird by fkp+dip"][2, 2].tolist() == [0x21, 0x91, 0x8C]
    assert pictures["Estimated kernel of bird by dkp+dip"][2, 2].tolist() == [0xFD, 0xE7, 0x25]


def test_curves_of_all_methods_share_a_box_and_have_their_best_step_marked(tmp_path: Path) -> None:
    two_methods(tmp_path)
    for number, best in ((0, 5), (1, 9)):
        lines = [f"{step},{1 / step},{52 - abs(step - best)}" for step in (1, 5, 9)]
        (tmp_path / str(number) / "bird" / "trace.csv").write_text("\n".join(["step,loss,kernel_psnr", *lines]) + "\n")
    page = build(tmp_path)
    assert len(page.values("polyline", "points")) == 4
    rings = [attrs for name, attrs in page.attributes if name == "circle" and attrs["class"] == "best"]
    kernel, loss = rings[:2], rings[2:]
    assert [float(ring["cx"] or 0) for ring in kernel] == [float(ring["cx"] or 0) for ring in loss] == [175.0, 304.0]
    assert kernel[0]["cy"] == kernel[1]["cy"] and loss[0]["cy"] != loss[1]["cy"]
    assert "best 52.00 dB at step 5, 48.00 at the end" in page.text and "best 52.00 dB at step 9" in page.text


def test_the_scatter_has_a_point_for_every_image_and_method(tmp_path: Path) -> None:
    two_methods(tmp_path, kernel_psnr=48.0)
    add(tmp_path / "1", "b", kernel_psnr=50.0, psnr_nonblind=30.0)
    add(tmp_path / "1", "c", kernel_psnr=None)
    titles = [word for word in build(tmp_path).words if ": kernel" in word]
    assert titles == [
        "bird, fkp+dip: kernel 48.00 dB, image 24.00 dB",
        "bird, dkp+dip: kernel 48.00 dB, image 26.00 dB",
        "b, dkp+dip: kernel 50.00 dB, image 30.00 dB",
    ]


def test_points_of_a_scatter_lie_where_their_values_are() -> None:
    chart = scatter_chart([(50.0, 20.0, 0, ""), (54.0, 30.0, 1, ""), (52.0, 25.0, 2, ""), (float("nan"), 1.0, 0, "")])
    assert chart is not None and len(chart.marks) == 3
    places = [tuple(map(float, re.findall(r"[\d.]+", path)[:2])) for path, _, _ in chart.marks]
    assert places[0][0] < places[2][0] < places[1][0] and places[0][1] > places[2][1] > places[1][1]
    assert places[2] == pytest.approx((175.0, 115.0))  # the middle of the box
    assert scatter_chart([(float("inf"), 1.0, 0, "")]) is None


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    page = build(two_methods(tmp_path))
    written = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page.source)
    assert not re.findall(r"https?:|//[a-z]|url\(|@import|<iframe|<link", written)
    assert not [name for _, attrs in page.attributes for name in attrs if name.startswith("on") or name == "style"]
    assert all(address.startswith("data:image/") for address in page.values("img", "src"))
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.values("meta", "content")[-1]
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_links_lead_to_places_of_the_page_or_to_pages_that_are_there(tmp_path: Path) -> None:
    two_methods(tmp_path, flags="border")
    page = build(tmp_path)
    ids = {attrs["id"] for _, attrs in page.attributes if "id" in attrs}
    links = set(page.values("a", "href"))
    assert {link for link in links if not link.startswith("#")} == {"./1/report.html"}  # job 0 has no page
    assert {link[1:] for link in links if link.startswith("#")} <= ids


def test_odd_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script> & \"co\""
    place = job(tmp_path / "a b#?%&'\"<i>", evil, data="<u>data", command=f"python run.py x='{evil}'", images=[evil])
    add(place, evil, method=evil, flags="<b>odd</b>")
    fail(place, "gone", "<img src=x onerror=alert(1)>")
    (place / "report.html").write_text("")
    page = build(tmp_path)
    assert page.text.count(evil) > 5 and "<img src=x onerror=alert(1)>" in page.text and "<b>odd</b>" in page.text
    assert page.source.count("<script") == 1 and "<u>" not in page.source and "<i>" not in page.source
    assert "./a%20b%23%3F%25%26%27%22%3Ci%3E/report.html" in page.values("a", "href")


def test_what_is_damaged_or_missing_is_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    add(job(tmp_path / "0", "good+dip"), "bird", method="good+dip")
    (tmp_path / "1").mkdir()
    add(tmp_path / "2", "bird", method="old+dip")  # no job.json
    add(job(tmp_path / "3", "torn+dip"), "bird", method="torn+dip")
    (tmp_path / "3" / "job.json").write_text('{"data": "set5')
    job(tmp_path / "4", "cut+dip", images=["bird"])
    (tmp_path / "4" / "rows.csv").write_text(",".join(COLUMNS) + "\nbird,set5")
    job(tmp_path / "5", "stopped+dip", error="prior=x is unknown")
    (tmp_path / "6").mkdir()
    (tmp_path / "6" / "job.json").write_text("[1, 2]")
    page = build(tmp_path)
    said = {row[0]: row[-1] for row in table(page, "Jobs")[1:]}
    assert list(said) == ["0", "1", "2", "3", "4", "5", "6"]
    assert "has no job.json" in said["1"] and "has no job.json" in said["2"] and "prior=x is unknown" in said["5"]
    assert "job.json is damaged" in said["3"] and "job.json is damaged" in said["6"]
    assert "as if cut off" in said["4"] and "1 not done" in page.text
    assert [row[0] for row in table(page, "Overview")[1:]] == ["good+dip", "old+dip", "torn+dip"]


@pytest.mark.parametrize("name", ["lr.png", "sr.png", "hr.png", "kernel.npy", "true_kernel.npy", "trace.csv"])
@pytest.mark.parametrize("size", [None, 0, 60])
def test_a_half_written_file_leaves_out_what_needs_it(tmp_path: Path, name: str, size: int | None) -> None:
    two_methods(tmp_path)
    path = tmp_path / "0" / "bird" / name
    content = path.read_bytes()
    path.unlink()
    if size is not None:
        path.write_bytes(content[:size])
    pictures = shown(build(tmp_path))
    assert {"SR, estimated of bird by dkp+dip", "LR of bird", "True kernel of bird"} <= set(pictures)
    lost = {"sr.png": "SR, estimated", "kernel.npy": "Estimated kernel", "hr.png": "Error |SR − HR|"}.get(name)
    assert lost is None or f"{lost} of bird by fkp+dip" not in pictures


def test_without_a_truth_no_place_is_left_for_it(tmp_path: Path) -> None:
    add(job(tmp_path / "0", images=["photo"]), "photo", truth=False)
    page = build(tmp_path)
    assert set(shown(page)) == {
        "LR of photo",
        "SR, estimated of photo by dkp+dip",
        "Estimated kernel of photo by dkp+dip",
    }
    assert "Kernel and image" not in page.text and "lowest loss 3.052e-05 at step 15" in page.text
    assert "dkp+dip on set5_aniso" in page.text and not page.source.count('<ul class="legend">')


def test_a_sweep_of_failures_only_and_one_that_just_began(tmp_path: Path) -> None:
    fail(job(tmp_path / "a" / "0"), "bird", "broken file")
    page = build(tmp_path / "a")
    assert "broken file" in page.text and "1 failed" in page.text and not page.values("img", "src")
    job(tmp_path / "b" / "0", images=["bird", "baby"])
    page = build(tmp_path / "b")
    assert "No image has been finished yet" in page.text and "2 not done" in page.text


def test_a_failed_method_keeps_its_place_beside_the_others(tmp_path: Path) -> None:
    two_methods(tmp_path)
    fail(job(tmp_path / "2", "zssr", images=["bird"]), "bird", "out of memory")
    assert table(build(tmp_path), "Pictures of bird")[0][-1] == "zssr failed: out of memory"


def test_with_several_seeds_the_pictures_are_those_of_the_first_that_did_not_fail(tmp_path: Path) -> None:
    for number, seed in enumerate((2, 1, 0)):
        add(job(tmp_path / str(number), images=["bird"]), "bird", seed=seed, psnr=20.0 + seed)
    fail(tmp_path / "2", "bird", "broken")  # of seed 0, as is the row that it follows
    rows = (tmp_path / "2" / "rows.csv").read_text().splitlines()
    (tmp_path / "2" / "rows.csv").write_text("\n".join([rows[0], rows[-1]]) + "\n")
    page = build(tmp_path)
    assert "21.00 dB, SSIM 0.8000" in page.text and "22.00 dB, SSIM" not in page.text
    assert "With several seeds, these are of a method’s first one." in page.text


def test_too_many_images_for_a_page_show_the_flagged_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = job(tmp_path / "0")
    for number in range(6):
        add(place, f"{number}", size=90, flags="border" if number == 4 else "")
    monkeypatch.setattr(sweep_cards, "PIXELS", 12 * sweep_cards.SMALLEST**2)
    page = build(tmp_path)
    assert page.values("article", "id") == ["image-1", "image-2", "image-3"] and "3 of 6 images are shown" in page.text
    assert re.findall(r"<h3>(\d)</h3>", page.source) == ["0", "1", "4"]
    assert {picture.shape[:2] for alt, picture in shown(page).items() if alt.startswith("SR")} == {(128, 128)}


def test_a_large_sweep_is_some_megabytes(tmp_path: Path) -> None:
    for number in range(3):
        place = job(tmp_path / str(number), f"method {number}")
        for image in range(6):
            add(place, f"{image}", size=130, method=f"method {number}")  # noise: what JPEG can do least about
    page = build(tmp_path)
    assert len(page.values("article", "id")) == 6 and len(page.source) < 5e6
    assert set(page.values("img", "loading")) == {"lazy"} and len(page.values("img", "loading")) == 6 * 12


def test_a_folder_that_is_no_sweep_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="holds no jobs; give the output folder of a sweep") as caught:
            write_sweep_report(folder)
        assert str(folder) in str(caught.value)


def test_the_page_is_the_same_when_rebuilt(tmp_path: Path) -> None:
    two_methods(tmp_path)
    assert build(tmp_path).source == build(tmp_path).source
