"""Cells: computed once, whole or not there, told apart by everything that changes a number and by nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch

from kernelsr import cells
from kernelsr.cells import Cells, code, code_of, key_of


class Maker:
    """Writes two files and counts how often it was asked."""

    def __init__(self, text: str = "made"):
        self.text, self.calls = text, 0

    def __call__(self, part: Path) -> dict[str, Any]:
        self.calls += 1
        (part / "kernel.npy").write_text(self.text)
        (part / "lr.png").write_text("picture")
        return {"row": {"psnr": float("inf"), "ssim": 0.1}}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != ".locks"}


def test_a_finished_cell_is_found_and_never_made_again(tmp_path: Path) -> None:
    make, store = Maker(), Cells(tmp_path)
    first, second = (store.get("a1", make, wait=True) for _ in range(2))
    assert first and second and make.calls == 1 and (first.found, second.found) == (False, True)
    assert (
        first.facts
        == second.facts
        == {"row": {"psnr": float("inf"), "ssim": 0.1}, "files": {"kernel.npy": 4, "lr.png": 7}}
    )
    assert (second.folder / "kernel.npy").read_text() == "made" and names(tmp_path) == {"a1"}


def test_a_cell_appears_by_one_rename_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        if Path(target) == tmp_path / "a1":
            assert not Path(target).exists()
            seen.append(names(Path(source)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    Cells(tmp_path).get("a1", Maker(), wait=True)
    assert seen == [{"kernel.npy", "lr.png", "cell.json"}]


def test_without_resume_it_is_made_anew_and_replaced(tmp_path: Path) -> None:
    Cells(tmp_path).get("a1", Maker("old"), wait=True)
    cell = Cells(tmp_path, resume=False).get("a1", Maker("new one"), wait=True)
    assert cell and not cell.found and (tmp_path / "a1" / "kernel.npy").read_text() == "new one"
    assert names(tmp_path) == {"a1"}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("kernel.npy", "half"[:2]),
        ("kernel.npy", None),
        ("cell.json", "{"),
        ("cell.json", "[]"),
        ("cell.json", '{"row": 1}'),
    ],
)
def test_a_damaged_cell_is_made_anew_and_said(tmp_path: Path, capsys: Any, file: str, content: str | None) -> None:
    store = Cells(tmp_path)
    store.get("a1", Maker(), wait=True)
    path = tmp_path / "a1" / file
    path.unlink() if content is None else path.write_text(content)
    assert store.find("a1") is None
    cell = store.get("a1", Maker("again"), wait=True)
    assert cell and not cell.found and (tmp_path / "a1" / "kernel.npy").read_text() == "again"
    assert "a1 was damaged" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def fail(part: Path) -> dict[str, Any]:
        (part / "half.png").write_text("half")
        raise error

    with pytest.raises(type(error)):
        Cells(tmp_path).get("a1", fail, wait=True)
    assert names(tmp_path) == set()
    assert Cells(tmp_path).get("a1", Maker(), wait=False)  # and no lock


def test_a_disk_that_fills_up_while_the_facts_are_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cells, "write_text_atomically", full)
    with pytest.raises(OSError, match="No space"):
        Cells(tmp_path).get("a1", Maker(), wait=True)
    assert names(tmp_path) == set()


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write a1 in .*file.*choose another output folder"):
        Cells(tmp_path / "file").get("a1", Maker(), wait=True)


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    make = Maker()
    with pytest.raises(OSError, match="no locks; choose another folder"):
        Cells(tmp_path).get("a1", make, wait=True)
    assert make.calls == 0


WORKER = """
import sys, time
from pathlib import Path
from kernelsr.cells import Cells
def make(part):
    (part / "half").write_text("half")
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))
    return {"row": {"who": sys.argv[3]}}
cell = Cells(sys.argv[1]).get("a1", make, wait=True)
print(cell.facts["row"]["who"], flush=True)
"""


def worker(folder: Path, seconds: float, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(folder), str(seconds), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_cell_in_work_elsewhere_is_left_or_waited_for(tmp_path: Path) -> None:
    process = worker(tmp_path, 3, "other")
    assert process.stdout and process.stdout.readline() == "begun\n"
    make = Maker()
    assert Cells(tmp_path).get("a1", make, wait=False) is None
    cell = Cells(tmp_path).get("a1", make, wait=True)
    assert cell and cell.facts["row"] == {"who": "other"} and cell.found and make.calls == 0
    assert process.wait(timeout=60) == 0


def test_a_killed_process_leaves_neither_a_lock_nor_half_a_cell(tmp_path: Path) -> None:
    process = worker(tmp_path, 600, "killed")
    assert process.stdout and process.stdout.readline() == "begun\n"
    process.kill()
    process.wait(timeout=60)
    assert Cells(tmp_path).find("a1") is None and names(tmp_path) == {".a1.part"}
    cell = Cells(tmp_path).get("a1", Maker(), wait=False)
    assert cell and names(cell.folder) == {"kernel.npy", "lr.png", "cell.json"} and names(tmp_path) == {"a1"}


def test_killed_between_the_two_renames_the_cell_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cells(tmp_path).get("a1", Maker("old"), wait=True)
    os.replace(tmp_path / "a1", tmp_path / ".a1.old")
    cell = Cells(tmp_path).get("a1", Maker("new"), wait=True)
    assert cell and (cell.folder / "kernel.npy").read_text() == "new" and names(tmp_path) == {"a1"}


def test_a_runs_folder_shows_the_cells_files_and_no_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cells(tmp_path / "cells").get("a1", Maker(), wait=True)
    assert cell
    run = tmp_path / "run" / "bird"
    run.mkdir(parents=True)
    (run / "stale.png").write_text("of an earlier run")
    (run / "kernel.npy").write_text("of an earlier run")
    cell.link_into(run)
    assert names(run) == {"kernel.npy", "lr.png"} and (run / "kernel.npy").read_text() == "made"

    def refuse(*paths: Path) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    cell.link_into(tmp_path / "copied")
    assert (tmp_path / "copied" / "kernel.npy").read_text() == "made"


def test_two_processes_show_their_files_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, run = Cells(tmp_path / "cells").get("a1", Maker(), wait=True), tmp_path / "run" / "coffee"
    assert cell
    second, link = threading.Thread(target=cell.link_into, args=(run,)), os.link

    def link_while_the_other_comes(*names: Path) -> None:
        link(*names)
        if not second.ident:
            second.start()
            second.join(0.3)

    monkeypatch.setattr(os, "link", link_while_the_other_comes)
    cell.link_into(run)
    second.join()
    assert names(run) == {"kernel.npy", "lr.png"}


def test_keys_tell_values_apart_and_not_their_order() -> None:
    assert key_of({"a": 1, "b": [2.0, None]}) == key_of({"b": [2.0, None], "a": 1})
    different = [{"a": 1}, {"a": 1.5}, {"a": "x"}, {"a": True}, {"a": None}, {"b": 1}, {"a": [1]}, {"a": [1, 1]}, {}]
    assert len({key_of(each) for each in different}) == len(different)
    assert len(key_of("x")) == 16 and key_of("x") != key_of("x", "y")


def test_a_file_counts_by_its_contents_wherever_it_lies(tmp_path: Path) -> None:
    one, two = tmp_path / "weights.pt", tmp_path / "elsewhere" / "copy.pt"
    two.parent.mkdir()
    for path in (one, two):
        path.write_bytes(b"weights")
    before = key_of({"weights": str(one)})
    assert before == key_of({"weights": str(two)}) != key_of({"weights": str(tmp_path / "missing.pt")})
    pool = key_of({"folder": str(two.parent)})
    two.write_bytes(b"trained anew")
    os.utime(two, ns=(time.time_ns() + 10**9,) * 2)
    assert key_of({"weights": str(two)}) != before and key_of({"folder": str(two.parent)}) != pool


def test_odd_strings_are_no_files() -> None:
    for text in ("", "\0", "a" * 5000, "nowhere/at/all", "\udcff"):
        assert key_of(text)


def test_changed_code_is_another_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code()
    assert before == code()
    package = tmp_path / "kernelsr"
    (package / "priors").mkdir(parents=True)
    (package / "weights").mkdir()
    (package / "weights" / "flow.safetensors").write_bytes(b"1")
    for name in ("problem.py", "priors/mine.py", "report.py"):
        (package / name).write_text("one = 1\n")
    monkeypatch.setattr(cells, "__file__", str(package / "cells.py"))

    def now() -> str:
        code.cache_clear()
        return code()

    keys = [now()]
    for name in ("problem.py", "priors/mine.py", "weights/flow.safetensors", "report.py"):
        with (package / name).open("ab") as file:
            file.write(b"# changed\n")
        keys.append(now())
    assert len(set(keys[:4])) == 4 and keys[4] == keys[3]  # a page shows numbers, and makes none
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert now() not in keys
    monkeypatch.undo()
    code.cache_clear()
    assert code() == before


def test_a_part_of_the_users_own_counts_by_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_priors.py").write_text("class Mine: ...\n")
    settings = {"prior": {"base": [{"_target_": "my_priors.Mine"}]}, "restorer": {"_target_": "kernelsr.restorers.Dip"}}
    before = code_of(settings)
    assert len(before) == 1 and code_of({"prior": {"_target_": "nowhere.at.all.Mine"}}) == []
    (tmp_path / "my_priors.py").write_text("class Mine: changed = True\n")
    assert code_of(settings) != before


def test_facts_are_plain_json(tmp_path: Path) -> None:
    cell = Cells(tmp_path).get("a1", Maker(), wait=True)
    assert cell and json.loads((cell.folder / "cell.json").read_text()) == cell.facts
