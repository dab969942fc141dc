"""Sweeps in any order, in any number of processes, in shards, killed and taken up again: the same rows."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from test_cli import PHOTOS, QUICK, run, start

from experiments.collect import collect
from experiments.make_tables import tables
from experiments.merge import merge
from experiments.tables.layout import text_of
from experiments.tables.records import read
from kernelsr import sweeps
from kernelsr.jobs import Job
from kernelsr.results import Row, read_rows, write_rows
from kernelsr.runs import shard

ROOT = Path(__file__).parents[1]
COST = {"seconds", "peak_memory_mb", "date", "version"}
SMALL = ["restorer.channels=8", "restorer.skip=4", "references=false", "scale=2", *QUICK]
PRIORS = ["gaussian", "softmax"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(PHOTOS / "chelsea.png") as picture:
        for number, name in enumerate("ab"):
            picture.crop((40 * number, 0, 40 * number + 48, 48)).save(folder / f"{name}.png")
    return folder


def words(photos: Path, out: Path, *more: str, priors: list[str] = PRIORS) -> list[str]:
    where = [f"data.folder={photos}", f"hydra.sweep.dir={out}", f"cells={out}-cells"]
    return ["-m", "data=folder", *where, f"prior={','.join(priors)}", *SMALL, *more]


def rows_of(folder: Path) -> dict[tuple[str, str], Row]:
    """A sweep's rows by method and image, each there once, without what a run costs."""
    rows = [row for path in sorted(folder.glob("*/rows.csv")) for row in read_rows(path)]
    found = {(row["method"], row["image"]): {k: v for k, v in row.items() if k not in COST} for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def serial(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Row]:
    """The rows of the undisturbed sweep: four cells."""
    out = tmp_path_factory.mktemp("serial") / "sweep"
    code, _, errors = run(*words(photos, out))
    assert code == 0, errors
    rows = rows_of(out)
    assert len(rows) == 4 and all(row["psnr"] and not row["error"] for row in rows.values())
    return rows


def test_in_reverse_order(photos: Path, tmp_path: Path, serial: dict[tuple[str, str], Row]) -> None:
    code, _, errors = run(*words(photos, tmp_path / "sweep", priors=PRIORS[::-1]))
    assert code == 0 and rows_of(tmp_path / "sweep") == serial, errors


def test_two_processes_share_the_cells(photos: Path, tmp_path: Path, serial: dict[tuple[str, str], Row]) -> None:
    processes = [start(*words(photos, tmp_path / name, f"cells={tmp_path / 'cells'}")) for name in ("one", "two")]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two") == serial
    kept = [path.stat().st_ino for path in (tmp_path / "cells").glob("*/kernel.npy")]
    shown = {path.stat().st_ino for name in ("one", "two") for path in (tmp_path / name).glob("*/*/kernel.npy")}
    assert len(kept) == 4 and shown == set(kept)  # each was computed by one of them


def test_two_processes_in_one_folder_lose_and_double_no_row(
    photos: Path, tmp_path: Path, serial: dict[tuple[str, str], Row]
) -> None:
    processes = [start(*words(photos, tmp_path / "sweep")) for _ in range(2)]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    assert rows_of(tmp_path / "sweep") == serial


def test_two_shards_are_merged(photos: Path, tmp_path: Path, serial: dict[tuple[str, str], Row]) -> None:
    shards = [tmp_path / "one", tmp_path / "two"]
    for number, out in enumerate(shards, 1):
        code, _, errors = run(*words(photos, out, f"shard={number}/2"))
        assert code == 0, errors
    assert [len(rows_of(out)) for out in shards] == [2, 2]
    photos_gone = tmp_path / "elsewhere"  # neither data nor cells are needed
    shutil.move(tmp_path / "one-cells", photos_gone)
    assert merge(tmp_path / "whole", shards) == []
    assert rows_of(tmp_path / "whole") == serial
    for number in "01":
        assert [row["image"] for row in read_rows(tmp_path / "whole" / number / "rows.csv")] == ["a", "b"]
        assert (tmp_path / "whole" / number / "a" / "kernel.npy").exists()
        assert (tmp_path / "whole" / number / "report.html").exists()
    assert "softmax+dip" in (tmp_path / "whole" / "table.txt").read_text()
    assert merge(tmp_path / "whole", shards) == [] and rows_of(tmp_path / "whole") == serial  # again: nothing doubled


def test_a_shard_alone_says_what_is_missing_and_a_later_one_completes_it(photos: Path, tmp_path: Path) -> None:
    shards = [tmp_path / "one", tmp_path / "two"]
    for number, out in enumerate(shards, 1):
        run(*words(photos, out, f"shard={number}/2", priors=["gaussian"]))
    (shards[1] / "0" / "half-written").mkdir()
    assert any("no share has b" in said for said in merge(tmp_path / "whole", shards[:1]))
    assert merge(tmp_path / "whole", shards[1:]) == []
    with pytest.raises(ValueError, match="holds no job.json"):
        merge(tmp_path / "whole", [photos])


def test_shares_that_differ_are_said(photos: Path, tmp_path: Path) -> None:
    code, _, errors = run(*words(photos, tmp_path / "one", priors=["gaussian"]))
    assert code == 0, errors
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    table = tmp_path / "two" / "0" / "rows.csv"
    psnr = str(read_rows(table)[0]["psnr"])
    table.write_text(table.read_text().replace(psnr, "99.5"))
    (said,) = merge(tmp_path / "whole", [tmp_path / "one", tmp_path / "two"])
    assert "a of gaussian+dip differs" in said
    assert str(read_rows(tmp_path / "whole" / "0" / "rows.csv")[0]["psnr"]) == psnr
    whole = read_rows(tmp_path / "one" / "0" / "rows.csv")
    write_rows(table, [row | {"noise_std": None} for row in whole])  # of an earlier version
    assert merge(tmp_path / "again", [tmp_path / "one", tmp_path / "two"]) == []


def test_killed_ten_times_it_ends_with_the_rows_of_an_undisturbed_sweep(
    photos: Path, tmp_path: Path, serial: dict[tuple[str, str], Row]
) -> None:
    rng, kills = random.Random(3), 0
    while kills < 10:
        process = start(*words(photos, tmp_path / "sweep"))
        # From before the first cell to after the last: a run of four cells takes a few seconds beyond its start.
        deadline = time.monotonic() + rng.uniform(1, 9)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        kills += 1
    code, _, errors = run(*words(photos, tmp_path / "sweep"))
    assert code == 0 and rows_of(tmp_path / "sweep") == serial, errors
    assert not list((tmp_path / "sweep-cells").glob(".*.part"))


def test_a_changed_setting_and_a_changed_image_are_new_cells(photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photos, tmp_path / "photos")
    first = words(folder, tmp_path / "sweep", "data.only=a", priors=["gaussian"])

    def cells() -> int:
        code, _, errors = run(*first)
        assert code == 0, errors
        return len(list((tmp_path / "sweep-cells").glob("*/kernel.npy")))

    assert [cells(), cells()] == [1, 1]
    first.append("prior.lr=0.5")
    assert cells() == 2
    shutil.copy(folder / "b.png", folder / "a.png")
    assert cells() == 3


def test_clocks_may_jump(photos: Path, tmp_path: Path) -> None:
    """Nothing is told by times: neither what is finished, nor what was changed, nor which row is the newer."""
    folder = shutil.copytree(photos, tmp_path / "photos")
    command = words(folder, tmp_path / "sweep", priors=["gaussian"])
    code, _, errors = run(*command)
    assert code == 0, errors
    before = rows_of(tmp_path / "sweep")
    inodes = {path.stat().st_ino for path in (tmp_path / "sweep-cells").glob("*/kernel.npy")}
    for moment in (10**9, 4 * 10**9):
        for path in tmp_path.rglob("*"):
            os.utime(path, (moment, moment))
        code, _, errors = run(*command)
        assert code == 0 and rows_of(tmp_path / "sweep") == before, errors
        assert {path.stat().st_ino for path in (tmp_path / "sweep-cells").glob("*/kernel.npy")} == inodes


def test_what_a_run_shows_of_cells_found(photos: Path, tmp_path: Path) -> None:
    base = [word for word in words(photos, tmp_path / "s", priors=["gaussian"])[1:] if not word.startswith("hydra")]
    out = [f"hydra.run.dir={tmp_path / 'run'}", "progress=true"]
    for said in ("", "2 of 2 images were finished before"):
        code, printed, errors = run(*base, *out)
        assert code == 0 and (said in printed) and "another machine" not in errors, errors
    for facts in tmp_path.glob("s-cells/*/cell.json"):
        facts.write_text(re.sub('"machine": "[^"]*"', '"machine": "abacus, 64 threads"', facts.read_text()))
    code, _, errors = run(*base, *out, "progress=false")
    assert code == 0 and "another number of threads (abacus, 64 threads; here " in errors


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", "1/2/3"])
def test_shards_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="shard=2/8"):
        shard(text)


def test_shards_share_every_image_once() -> None:
    parts = [shard(f"{part}/3") for part in (1, 2, 3)]
    for job in range(4):
        assert sorted(i for part, n in parts for i in range(5) if (job + i) % n == part) == [0, 1, 2, 3, 4]
    assert shard(None) == (0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A sweep's folder with a job that is whole, one that is damaged, one that never ended, and foreign files."""
    for number, method in enumerate(("fkp+dip", "prior_that_is_gone+dip", "dkp+dip")):
        job = Job("set5_aniso", method, f"python run.py prior={method}", number, ["bird"], finished=number < 2)
        job.save(tmp_path / str(number))
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "job.json").write_text('{"data": "set5')
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "rows.csv").write_text("image,psnr\nbird")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".rows.csv.77.part").write_text("")
    yield tmp_path


def test_a_folder_of_half_written_and_foreign_files(folder: Path) -> None:
    failures = sweeps.finish(folder)
    assert (folder / "table.txt").exists() and (folder / "report.html").exists()
    assert [line.partition(":")[0] for line in failures] == ["job 2", "job 3", "job 4", "job 4"]
    assert "did not come to its end" in failures[0] and "damaged" in failures[1]
    assert any("rows.csv" in line for line in failures[2:])
    assert all(f"\njob {number}: " in (folder / "table.txt").read_text() for number in (2, 3, 4))


def test_a_configuration_that_no_longer_exists(tmp_path: Path) -> None:
    """What ran under a name that is gone is told by its files: pages, tables and merges never ask the configuration."""
    command = "python run.py data=gone_aniso protocol=gone experiment=gone prior=gone/too solver.gone=1"
    job = Job("gone_gone", "gone", command, 0, ["bird"], finished=True, settings={"solver._target_": "kernelsr.gone"})
    job.save(tmp_path / "sweep" / "0")
    row = {"image": "bird", "data": job.data, "method": job.method, "scale": 4, "seed": 0, "psnr": 27.5}
    write_rows(tmp_path / "sweep" / "0" / "rows.csv", [row | {"command": command}])
    with pytest.raises(ValueError, match="rows.csv is a file; the first word is the folder to make"):
        merge(tmp_path / "sweep" / "0" / "rows.csv", [tmp_path / "sweep"])
    assert sweeps.finish(tmp_path / "sweep") == merge(tmp_path / "whole", [tmp_path / "sweep"]) == []
    for folder in (tmp_path / "sweep", tmp_path / "whole"):
        assert "gone     " in (folder / "table.txt").read_text() and (folder / "report.html").exists()
    found, said = read([tmp_path])
    assert [(each.method, each.values["psnr"]) for each in found] == [("gone prior=gone/too solver.gone=1", 27.5)]
    assert not said and "27.50" in text_of(tables(found, "all"), "markdown")


def test_jobs_that_never_began_are_no_data_set(folder: Path) -> None:
    sweeps.finish(folder)
    assert "0 images" not in (folder / "table.txt").read_text()


def test_collect_takes_each_row_once_and_keeps_older_files(photos: Path, tmp_path: Path) -> None:
    code, _, errors = run(*words(photos, tmp_path / "sweep"))
    assert code == 0, errors
    result = tmp_path / "result.csv"
    result.write_text(
        "command,version,date,image,method,scale,psnr\npython run.py,old,2026-01-01,bird,fkp+dip,4,27.5\n"
    )
    for _ in range(2):
        command = [sys.executable, "-m", "experiments.collect", str(result), str(tmp_path / "sweep")]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = read_rows(result)
    assert rows[0]["image"] == "bird" and rows[0]["psnr"] == 27.5 and rows[0]["command"] == "python run.py"
    found = {(row["method"], row["image"]) for row in rows[1:] if not row["method"].startswith("floor")}
    assert found == {(f"{prior}+dip", name) for prior in PRIORS for name in "ab"}
    assert len(rows) == 1 + 4 + sum(row["method"].startswith("floor") for row in rows)


def test_collect_keeps_a_number_where_a_later_run_failed_and_names_what_is_no_table(tmp_path: Path) -> None:
    made = {"image": "bird", "data": "set5", "method": "fkp+dip", "scale": 4, "seed": 0, "command": "python run.py"}
    done, failed = made | {"psnr": 27.5}, made | {"error": "out of memory"}
    for name, rows in (("first", [done]), ("second", [failed]), ("other", [failed | {"image": "head"}])):
        write_rows(tmp_path / name / "rows.csv", rows)
    result = tmp_path / "result.csv"
    tables = [tmp_path / name / "rows.csv" for name in ("first", "second", "other")]
    for some in (tables, tables[1:]):
        assert collect(result, some)[1] == 2
        assert [(row["psnr"], row["error"]) for row in read_rows(result)] == [(27.5, ""), (None, "out of memory")]
    before = result.read_bytes()
    for text in ("a,b\n1,2\n", tables[0].read_text()[:-9]):
        (tmp_path / "rows.csv").write_text(text)
        with pytest.raises(ValueError, match="rows.csv"):
            collect(result, [tables[0], tmp_path / "rows.csv"])
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="choose another file"):
        collect(tmp_path / "mine.csv", tables)
    assert result.read_bytes() == before and (tmp_path / "mine.csv").read_text() == "a,b\n1,2\n"
