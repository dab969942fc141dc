"""The papers' tables from rows made by hand: each number recomputed, each row once, each odd image named."""

from __future__ import annotations

import csv
import io
import math
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import make_tables
from experiments.make_tables import tables
from experiments.tables import readme as readme_tables
from experiments.tables.differences import differences
from experiments.tables.kinds import KINDS
from experiments.tables.layout import Cell, Head, Table, csv_text, latex, markdown, tex, text_of
from experiments.tables.naming import NOISY
from experiments.tables.records import Record, read, read_file

OLD = ["command", "version", "date", "image", "method", "scale", "seed", "psnr", "ssim", "kernel_psnr", "error"]
NEW = [
    *OLD,
    "data",
    "psnr_nonblind",
    "variance_error",
    "seconds",
    "peak_memory_mb",
    "parameters",
    "flags",
    "cell",
    "machine",
]
BUTTERFLY = "python run.py experiment=dip_fkp data=set5_aniso data.only=butterfly"


def row(
    image: str, psnr: float | str = "", *, method: str = "fkp+dip", words: str = "prior=fkp", **others: object
) -> dict:
    """A row of Set5 at x4, with what is not said as usual."""
    usual = {"command": f"python run.py data=set5_aniso {words}", "version": "v1", "date": "2026-01-01", "scale": 4}
    return {**usual, "image": image, "psnr": psnr, "method": method, "seed": 0, **others}


def floor(image: str, psnr: float, method: str = "floor: bicubic, aligned", **others: object) -> dict:
    return row(image, psnr, method=method, **{"seed": "", **others})


def write(path: Path, rows: list[dict], columns: list[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns or NEW)
        writer.writeheader()
        writer.writerows(rows)
    return path


def records(folder: Path, *rows: dict) -> list[Record]:
    return read([write(folder / "rows.csv", list(rows))])[0]


def shown(table: Table) -> list[list[str]]:
    """Every line in full."""
    return [[cell.text for cell in line] for group in table.groups for line in group]


def column(table: Table, title: str) -> list[str]:
    place = [head.title for head in table.heads].index(title)
    return [line[place] for line in shown(table)]


# Records


@pytest.mark.parametrize(
    ("command", "data", "noise", "family"),
    [
        ("python run.py", "demo_aniso", ("", ""), "aniso"),
        ("python run.py data=demo", "demo_aniso", ("", ""), "aniso"),
        ("python run.py data=set5_random_motion scale=2", "set5_random_motion", ("", ""), "random_motion"),
        ("python run.py data=div2k_crop256_iso8 data.only=[a,b]", "div2k_crop256_iso8", ("", ""), "iso8"),
        ("python run.py data=set5_aniso data.family.noise=0.4", "set5_aniso", ("0.4", ""), "aniso"),
        ("python run.py data=set5_aniso data.noise_std=0.0392", "set5_aniso", ("", "0.0392"), "aniso"),
        ("python run.py data=set5_aniso data.noise_std=0.0", "set5_aniso", ("", ""), "aniso"),
        ("python run.py data=set5_aniso data.jpeg=40", "set5_aniso", ("", "jpeg=40"), "aniso"),
        (
            "python run.py data=set5_aniso family@data.family=motion",
            "set5_aniso family@data.family=motion",
            ("", ""),
            "motion",
        ),
        ("python run.py data=set5_motion family@data.family=noisy", "set5_motion", ("0.4", ""), "motion"),
        (
            "python run.py data=set5_motion family@data.family=noisy data.family.level=0",
            "set5_motion",
            ("", ""),
            "motion",
        ),
        (
            "python run.py data=set5_disk family@data.family=noisy family@data.family.family=disk"
            " data.family.family.radius=[2,3] data.family.level=0.2",
            "set5_disk data.family.radius=[2,3]",
            ("0.2", ""),
            "disk",
        ),
        (
            "python run.py data=set5_aniso data.rng=named family@data.family=noisy",
            "set5_aniso data.rng=named family@data.family=motion",
            ("0.4", ""),
            "motion",
        ),
        ("python run.py data=set5_aniso protocol=dkp2024_motion", "set5_dkp2024_motion", ("", ""), "motion"),
        ("python run.py data=set5_motion protocol=fkp2021", "set5_fkp2021", ("", ""), "aniso"),
    ],
)
def test_an_older_row_says_its_data_in_its_command(
    tmp_path: Path, command: str, data: str, noise: tuple[str, str], family: str
) -> None:
    old = {key: value for key, value in row("bird", 25.0).items() if key in OLD} | {"command": command}
    (found,) = read_file(write(tmp_path / "old.csv", [old], OLD))
    assert (found.data, found.noise, found.family) == (data, noise, family)
    assert found.values == {"psnr": 25.0} and found.made == ("v1", "", "2026-01-01")


@pytest.mark.parametrize(
    ("method", "words", "name"),
    [
        ("fkp+dip", "prior=fkp progress=false references=false data.only=bird seed=1", "fkp+dip"),
        ("fkp+dip", "prior=fkp solver.steps=1000", "fkp+dip solver.steps=1000"),
        ("fkp+dip", "experiment=dip_fkp", "dip_fkp"),
        ("dip_fkp+usrnet", "experiment=dip_fkp nonblind=usrnet seeds=own", "dip_fkp+usrnet seeds=own"),
        ("fkp+dip", "experiment=dip_fkp nonblind=usrnet", "dip_fkp+usrnet"),
        ("dip_fkp", "experiment=dip_fkp prior=dkp solver=alternating", "dip_fkp prior=dkp solver=alternating"),
        ("dkp+dip", "prior=dkp prior@prior.base=softmax", "dkp+dip prior@prior.base=softmax"),
        ("dkp@explained+usrnet fast", "preset=fast batch=2", "dkp@explained+usrnet fast"),
        ("floor: mean kernel", "experiment=dip_fkp solver.steps=3", "floor: mean kernel"),
        ("floor: bicubic", "prior=fkp scoring.border=16", "floor: bicubic scoring.border=16"),
        ("floor: bicubic", "nonblind=diffusion nonblind.steps=9", "floor: bicubic"),
        ("bound: k + diffusion", "nonblind=diffusion nonblind.steps=9", "bound: k + diffusion nonblind.steps=9"),
    ],
)
def test_settings_make_another_method(tmp_path: Path, method: str, words: str, name: str) -> None:
    (found,) = records(tmp_path, row("bird", 25.0, method=method, words=words))
    assert found.method == name


def test_a_row_counts_once_wherever_it_lies(tmp_path: Path) -> None:
    rows = [row("bird", 25.0), row("head", 27.0)]
    for place in ("a/0", "a/1/deep", "b"):
        write(tmp_path / place / "rows.csv", rows)
    write(tmp_path / "a" / "floors.csv", [floor("bird", 20.0), floor("bird", 20.0, words="prior=dkp")])
    found, said = read([tmp_path, tmp_path / "a"])
    assert len(found) == 3 and not said
    # Another seed, scale or kernel noise is another measurement.
    changed = [row("bird", 25.0, seed=1), row("bird", 25.0, scale=2), row("bird", 25.0, words="data.family.noise=0.4")]
    assert len(read([write(tmp_path / "c.csv", rows + changed)])[0]) == 5


def test_of_two_rows_of_the_same_the_later_counts_and_is_spoken_of(tmp_path: Path) -> None:
    late, early = row("bird", 24.0, date="2026-02-01"), row("bird", 25.0, version="v2")
    failed = row("bird", error="the disk was full", date="2026-03-01")
    for order in ([late, early, failed], [failed, early, late]):
        found, said = read([write(tmp_path / "rows.csv", order)])
        assert [each.values["psnr"] for each in found] == [24.0] and not found[0].error
        assert said == ["there again with other numbers, the latest counts: fkp+dip, set5_aniso x4"]


def test_of_one_day_the_later_hour_counts_whatever_the_versions_are_called(tmp_path: Path) -> None:
    rows = [row("bird", 25.0, version="f00", date="2026-01-01 09:00:00"), row("bird", 26.0, date="2026-01-01")]
    rows += [row("bird", 24.0, version="a00", date="2026-01-01 10:00:00")]
    for order in (rows, rows[::-1]):
        (found,) = read([write(tmp_path / "rows.csv", order)])[0]
        assert found.values["psnr"] == 24.0 and found.made == ("a00", "", "2026-01-01")


def test_a_bound_is_the_same_in_whichever_columns_a_run_put_it(tmp_path: Path) -> None:
    name = "bound: true kernel + usrnet"
    beside = floor("bird", 30.0, name)
    chosen = floor("bird", "", name, words="nonblind=usrnet", psnr_nonblind=29.0)
    found, said = read([write(tmp_path / "rows.csv", [chosen, beside])])
    assert [each.values for each in found] == [{"psnr": 29.0}] and len(said) == 1


def test_foreign_and_damaged_files_of_a_folder_are_left_out_by_name(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv", [row("bird", 25.0)])
    write(tmp_path / "bird" / "trace.csv", [], ["step", "loss", "kernel_psnr"])
    (tmp_path / "photo.csv").write_bytes(b"\xff\xd8\xff\x00\x01")
    (tmp_path / "empty.csv").touch()
    cut = write(tmp_path / "cut.csv", [row("head", 25.0)])
    cut.write_text(cut.read_text()[:-12])
    wrong = write(tmp_path / "wrong.csv", [row("head", "high")])
    found, said = read([tmp_path])
    assert [each.image for each in found] == ["bird"]
    assert len(said) == 2 and "cut.csv has more or fewer cells" in said[0] and "row 2 of" in said[1]
    for path, message in (
        (cut, "mend or delete it"),
        (wrong, "could not convert"),
        (tmp_path / "bird" / "trace.csv", "no column"),
    ):
        with pytest.raises(ValueError, match=message):
            read([path])
    with pytest.raises(FileNotFoundError, match="name folders of runs"):
        read([tmp_path / "nothing"])


# Tables


def test_mean_and_spread_over_images_and_seeds(tmp_path: Path) -> None:
    rows = [row("bird", 24.0, seed=0), row("bird", 26.0, seed=1), row("head", 29.0, seed=0), row("head", 29.0, seed=1)]
    (line,) = shown(KINDS["gaussian"](records(tmp_path, *rows)))
    # Images 25 and 29: mean 27, standard deviation sqrt(8); within images variances 2 and 0: sqrt(1).
    assert line == ["set5_aniso", "x4", "fkp+dip", "2", "2", "27.00 ± 2.83 (seeds ± 1.00)", "bird 24.00"]


def test_the_image_to_look_at_is_the_non_blind_one(tmp_path: Path) -> None:
    rows = [row(name, 20.0, psnr_nonblind=psnr, method="fkp+dip+usrnet") for name, psnr in (("a", 22.0), ("b", 24.0))]
    table = KINDS["gaussian"](records(tmp_path, *rows))
    assert column(table, "PSNR") == ["23.00 ± 1.41"] and column(table, "PSNR of the solver") == ["20.00 ± 0.00"]


def test_failed_and_odd_images_are_named_and_not_averaged_away(tmp_path: Path) -> None:
    odd = row("head", 15.0, flags="collapsed border")
    floors = [floor("bird", 20.0), floor("head", 21.0)]  # a failed image has none
    found = records(tmp_path, row("bird", 25.0), odd, row("woman", 1.0, error="it diverged"), *floors)
    table = KINDS["gaussian"](found)
    assert column(table, "images") == ["2 of 3", "2"]
    assert column(table, "lowest PSNR") == ["head 15.00", "bird 20.00"]
    assert "failed: woman (fkp+dip, set5_aniso x4, seed 0): it diverged" in table.notes
    assert "flagged: fkp+dip, set5_aniso x4: head at 15.00 dB (collapsed, border)" in table.notes
    for text in (markdown(table), latex(table)):
        assert "it diverged" in text and "head at 15.00 dB" in text


def test_floors_are_those_of_the_groups_images(tmp_path: Path) -> None:
    partial = floor("a", 99.0, "bound: true kernel + zssr")
    found = records(
        tmp_path,
        *(row(name, psnr) for name, psnr in (("a", 25.0), ("b", 27.0))),
        row("b", 28.0, method="dkp+dip", words="prior=dkp"),
        *(floor(name, psnr) for name, psnr in (("a", 20.0), ("b", 22.0), ("c", 90.0))),
        partial,
    )
    lines = [line[:4] + line[5:6] for line in shown(KINDS["gaussian"](found))]
    assert lines == [
        ["set5_aniso", "x4", "fkp+dip", "2", "26.00 ± 1.41"],
        ["set5_aniso", "x4", "floor: bicubic, aligned", "2", "21.00 ± 1.41"],
        ["set5_aniso: b", "x4", "dkp+dip", "1", "28.00"],
        ["set5_aniso: b", "x4", "floor: bicubic, aligned", "1", "22.00"],
    ]


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    alone = KINDS["gaussian"](records(tmp_path, row("butterfly", 23.5, command=BUTTERFLY)))
    names = column(alone, "method")
    assert names[0] == "dip_fkp" and "published: DIP-FKP + USRNet (authors' code, one run)" in names
    assert (
        column(alone, "PSNR of the solver")[names.index("published: DIP-FKP + USRNet (authors' code, one run)")]
        == "23.54"
    )
    rows = [
        row(name, 23.5, command="python run.py experiment=dip_fkp data=set5_aniso") for name in ("butterfly", "head")
    ]
    several = KINDS["gaussian"](records(tmp_path, *rows))
    assert column(several, "method") == ["dip_fkp"]  # a number of one image is no target of a mean
    note = "butterfly, set5_aniso x4, PSNR: DIP-FKP + USRNet 23.54 (authors' code, one run), here dip_fkp 23.50"
    assert note in several.notes
    noisy = records(tmp_path, row("butterfly", 23.5, command=f"{BUTTERFLY} data.noise_std=0.0392"))
    assert not any("published" in line for line in column(KINDS["robustness"](noisy), "method"))


def test_each_table_has_its_rows(tmp_path: Path) -> None:
    found = records(
        tmp_path,
        *(row(name, 25.0, kernel_psnr=50.0, variance_error=0.25, seconds=120.0, parameters=7) for name in "ab"),
        *(row(name, 24.0, words="prior=fkp data.noise_std=0.0392156862745098") for name in "ab"),
        *(
            row(name, 23.0, method="dkp@spectral+dip", words="prior=dkp start=spectral data.family.noise=0.4")
            for name in "ab"
        ),
        *(row(name, 22.0, command="python run.py prior=fkp data=set5_motion") for name in "ab"),
        *(row(name, 21.0, command="python run.py prior=fkp data=set5_disk") for name in "ab"),
        *(row(name, 20.0, method="dkp+dip", words="prior=dkp prior@prior.base=softmax") for name in "ab"),
        *(row(name, 20.0, method="dip_fkp", words="experiment=dip_fkp prior=full/dkp") for name in "ab"),
        *(floor(name, 19.0) for name in "ab"),
    )
    lines = {name: shown(make(found)) for name, make in KINDS.items()}
    assert [line[0] for line in lines["motion"]] == ["set5_motion"] and [line[0] for line in lines["other"]] == [
        "set5_disk"
    ]
    assert [(line[2], *line[3:5]) for line in lines["robustness"]] == [
        ("dkp@spectral+dip", "0.4", "none"),
        ("fkp+dip", "none", "none"),
        ("fkp+dip", "none", "10/255"),
    ]
    assert ["double_dip", "yes", "own", "dip_fkp prior=full/dkp"] in [line[2:6] for line in lines["ablation"]]
    assert ["softmax", "yes", "own"] in [line[2:5] for line in lines["ablation"]]
    assert ["fkp", "no", "own"] in [line[2:5] for line in lines["ablation"]]
    assert lines["kernel"] == [["set5_aniso", "x4", "fkp+dip", "2", "1", "50.00 ± 0.00", "25.0 ± 0.0"]]
    assert ["set5_aniso", "x4", "fkp+dip", "2", "1", "7 ± 0", "120 ± 0.0"] in [line[:7] for line in lines["cost"]]
    everything = tables(found, "all", "fkp+dip")
    assert [table.title for table in everything][-1] == "Paired differences, against fkp+dip"
    assert len(everything) == len(KINDS) + 1
    with pytest.raises(ValueError, match="no row for --table motion; --table all"):
        tables([each for each in found if each.family == "aniso"], "motion")


def test_noise_of_any_familys_kernels_stands_beside_none(tmp_path: Path) -> None:
    words = ("", " family@data.family=noisy", " family@data.family=noisy data.family.level=0.1")
    commands = [f"python run.py prior=fkp data=set5_motion{word}" for word in words]
    found = records(tmp_path, *(row(image, 22.0, command=command) for command in commands for image in "ab"))
    lines = shown(KINDS["robustness"](found))
    assert [line[:4] for line in lines] == [["set5_motion", "x4", "fkp+dip", level] for level in ("none", "0.1", "0.4")]
    assert len(shown(KINDS["motion"](found))) == 1


def test_the_usual_noise_of_kernels_is_that_of_the_configuration() -> None:
    from kernelsr.configure import compose_config

    family = compose_config(["data=set5_motion", "family@data.family=noisy"]).data.family
    assert NOISY["data.family.level"] == str(family.level) and "LinearMotion" in family.family._target_


def test_differences_are_paired_over_image_seed_data_and_scale(tmp_path: Path) -> None:
    def both(image: str, first: float, second: float, **others: object) -> list[dict]:
        return [row(image, first, **others), row(image, second, method="dkp+dip", **others)]

    rows = (
        both("a", 25, 26) + both("a", 25, 28, seed=1) + both("b", 30, 30) + both("c", 20, 21) + both("a", 9, 8, scale=2)
    )
    rows += [row("d", 99.0, method="dkp+dip"), row("e", 1.0), floor("a", 5.0)]
    found = records(tmp_path, *rows)
    table = differences(found, "fkp+dip", "D")
    lines = {line[0]: line[1:] for line in shown(table)}
    # Over seeds a: 2, b: 0, c: 1.
    assert lines["set5_aniso x4"][:3] == ["dkp+dip", "3", "4"]
    assert lines["set5_aniso x4"][3] == "+1.00 [0.00, +2.00] 2/3"
    assert lines["set5_aniso x2"][3] == "-1.00 0/1"  # no interval of one image
    # The same photograph at two scales is one image; a: 2 and -1, whatever the seeds at either.
    assert lines["all of these, 2"][1:4] == ["3", "5", "+0.50 [0.00, +1.00] 2/3"]
    others = [line | {"data": "set5_motion"} for line in both("c", 20, 24)]
    table = differences(records(tmp_path, *rows, *others), "fkp+dip", "D")
    lines = {line[0]: line[1:] for line in shown(table)}
    # So it is with kernels of another family; c: 1 and 4.
    assert lines["all of these, 3"][1:3] == ["3", "6"] and lines["all of these, 3"][3].startswith("+1.00 [")
    with pytest.raises(ValueError, match="no method 'dkp'.*choose one of: dkp\\+dip; fkp\\+dip"):
        differences(found, "dkp", "D")


def test_settings_that_all_methods_have_are_said_once(tmp_path: Path) -> None:
    words = "restorer.channels=8 solver.steps=30"
    rows = [
        row("a", 25.0, words=f"prior=fkp {words}"),
        row("a", 26.0, method="dkp+dip", words=f"prior=dkp {words} prior.lr=1"),
    ]
    for table in tables(records(tmp_path, *rows), "gaussian", "fkp+dip"):
        assert table.notes[0] == "all methods with restorer.channels=8 solver.steps=30"
        assert "dkp+dip prior.lr=1" in column(table, "method")
    found = records(tmp_path, *rows, row("a", 27.0, method="dkp+dip", words=f"prior=dkp {words}"))
    with pytest.raises(ValueError, match="choose one of: dkp\\+dip; dkp\\+dip prior.lr=1; fkp\\+dip"):
        tables(found, "gaussian", "dkp")
    assert "against dkp+dip prior.lr=1" in tables(found, "gaussian", "dkp+dip prior.lr=1")[-1].title


def test_the_order_of_rows_and_files_changes_nothing(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [
        row(image, rng.uniform(20, 30), method=method, seed=seed, kernel_psnr=rng.uniform(40, 60), scale=scale)
        for image in "abcd"
        for method in ("fkp+dip", "dkp+dip")
        for seed in (0, 1)
        for scale in (2, 4)
    ] + [floor(image, 20.0, scale=scale) for image in "abcd" for scale in (2, 4)]
    rows += [{**each, "psnr": 1.0, "version": "v0"} for each in rows[:5]]
    texts = set()
    for _ in range(3):
        rng.shuffle(rows)
        first, second = write(tmp_path / "1.csv", rows[:20]), write(tmp_path / "2.csv", rows[20:])
        for places in ([first, second], [second, first]):
            texts.add(text_of(tables(read(places)[0], "all", "dkp+dip"), "csv"))
    assert len(texts) == 1


# Layout

ODD = Table(
    "50 % & more_of $x^2$ {~}\\",
    [Head("a|b", ("a",), False), Head("value", ("value", "sd"))],
    [
        [
            [Cell.of("x_1 *bold* <b>"), Cell("1.00 ± 0.50", ("1.0", "0.5"))],
            [Cell.of("x_1 *bold* <b>"), Cell("∞", ("inf", ""))],
        ],
        [[Cell.of("[c]"), Cell("2.00 × 3", ("2.0", ""))]],
    ],
    ["`code`, 100 %"],
    repeated=1,
)


def test_markdown_shows_text_as_it_is() -> None:
    lines = markdown(ODD).splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[:5]} == {3}
    assert lines[0] == r"| a\|b | value |" and lines[1] == "|---|---:|"
    assert lines[2] == r"| x\_1 \*bold\* \<b\> | 1.00 ± 0.50 |" and lines[3] == "|  | ∞ |"
    assert lines[-1] == r"- \`code\`, 100 %"


def test_latex_is_sound() -> None:
    text = latex(ODD)
    assert tex("50 % & a_b $x^2$ {~}\\") == (
        r"50 \% \& a\_b \$x\textasciicircum{}2\$ \{\textasciitilde{}\}\textbackslash{}"
    )
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 4 and {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {1}
    assert body.count(r"\midrule") == 2 and r"\begin{tabular}{@{}lr@{}}" in text
    assert r"$\pm$" in text and r"$\infty$" in text and "\n{}[c] &" in text  # [c] after \\ would be its argument
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    depth = 0
    for sign in plain:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"]
    assert not re.search(r"(?<!\\)[%#]", text)
    assert text_of([ODD], "latex").startswith("% \\usepackage{booktabs}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_is_set(tmp_path: Path) -> None:
    document = [
        "\\documentclass{article}",
        "\\usepackage{booktabs}",
        "\\begin{document}",
        latex(ODD),
        "\\end{document}",
    ]
    (tmp_path / "table.tex").write_text("\n".join(document))
    done = subprocess.run(["pdflatex", "-halt-on-error", "table.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_csv_has_numbers_in_full(tmp_path: Path) -> None:
    lines = list(csv.reader(io.StringIO(csv_text(ODD))))
    assert lines[0] == ["table", "a", "value", "sd"]
    assert lines[2] == ["50 % & more_of $x^2$ {~}\\", "x_1 *bold* <b>", "inf", ""]  # what repeats is there
    third = 1 / 3
    found = records(tmp_path, row("a", 25 + third), row("b", 26 + third))
    (line,) = csv.DictReader(io.StringIO(csv_text(KINDS["gaussian"](found))))
    assert (line["images"], line["tried"], line["lowest_image"]) == ("2", "2", "a")
    assert float(line["psnr"]) == pytest.approx(25.5 + third, abs=1e-14)
    assert float(line["psnr_sd"]) == pytest.approx(math.sqrt(0.5)) and line["psnr_seed_sd"] == ""


# The command and README


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["make_tables", *map(str, words)])
    make_tables.main()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "run" / "rows.csv", [row("bird", 25.0), row("bird", 26.0, method="dkp+dip", words="prior=dkp")])
    run(monkeypatch, tmp_path, "--table", "gaussian", "--against", "fkp+dip")
    printed = capsys.readouterr().out
    assert "### Gaussian kernels" in printed and "+1.00 1/1" in printed
    run(monkeypatch, tmp_path, "--format", "latex", "--output", tmp_path / "tables" / "all.tex")
    assert r"\toprule" in (tmp_path / "tables" / "all.tex").read_text() and not capsys.readouterr().out
    wrong: list[tuple[list[object], str]] = [
        ([tmp_path / "none"], "does not exist"),
        ([tmp_path, "--table", "motion"], "no row for --table motion"),
        ([tmp_path, "--against", "usrnet"], "there is no method 'usrnet'"),
        ([write(tmp_path / "floors" / "floors.csv", [floor("bird", 20.0)])], "there are no rows in"),
    ]
    for words, message in wrong:
        with pytest.raises(SystemExit, match=message):
            run(monkeypatch, *words)


def test_readme_is_rewritten_between_its_markers_alone(tmp_path: Path) -> None:
    rows = [row(name, 25.0, variance_error=0.5) for name in "ab"] + [row(name, 26.0, scale=2) for name in "ab"]
    rows += [row(name, 24.0, command="python run.py prior=fkp data=set5_motion") for name in "ab"]
    rows += [row("a", 99.0, method="dkp+dip", words="prior=dkp")]  # of one image, beside means of two
    rows += [row(name, 77.0, method="fkp+dip", words="prior=fkp prior.lr=9") for name in "ab"]  # not the usual settings
    rows += [row(name, 66.0, method="fkp@pool+dip", words="prior=fkp start=pool start.weight=9") for name in "ab"]
    rows += [
        row(name, 23.0, method="inr+dip", words="prior=inr prior.lr=9") for name in "ab"
    ]  # but there are no usual ones
    rows += [row(name, 55.0, scale=8, flags="plateau") for name in "ab"]  # no column of README's, and so no note
    write(tmp_path / "results" / "rows.csv", rows)
    readme = tmp_path / "README.md"
    readme.write_text(f"# before\n\n{readme_tables.BEGIN}\nold numbers\n{readme_tables.END}\n\nafter\n")
    assert readme_tables.rewrite(readme, tmp_path / "results") == []
    text = readme.read_text()
    assert text.startswith("# before\n\n<!--") and text.endswith("-->\n\nafter\n") and "old numbers" not in text
    assert (
        not any(score in text for score in ("99.00", "77.00", "66.00", "55.00", "x8"))
        and "| inr+dip prior.lr=9 |" in text
    )
    assert "| fkp+dip | 26.00 ± 0.00 | 25.00 ± 0.00 | 50.0 ± 0.0 |" in text and "#### Set5, linear motion" in text
    readme_tables.rewrite(readme, tmp_path / "results")
    assert readme.read_text() == text
    with pytest.raises(ValueError, match="no place for the tables"):
        readme_tables.replaced("# nothing", "")


def test_readme_is_up_to_date_with_the_rows() -> None:
    readme = readme_tables.README.read_text(encoding="utf-8")
    expected, _ = readme_tables.generated(readme)
    assert readme == expected, "write README's tables anew: python -m experiments.make_tables --readme"


def test_the_repositorys_rows_make_every_table() -> None:
    found, said = read([readme_tables.RESULTS])
    assert not [line for line in said if line.startswith("left out")]
    for table in tables(found, "all"):
        assert all(len(line) == len(table.heads) for line in shown(table))
    for form in ("markdown", "latex", "csv"):
        assert "dip_fkp" in text_of(tables(found, "gaussian"), form).replace("\\", "")
