"""Images side by side: the same rows as one after another; failures, locks, interruption and progress as ever."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import rng
from PIL import Image
from test_cli import PHOTOS, QUICK, configured, job_of, rows_of, start

from kernelsr import composition, configure, runs, worker
from kernelsr.abreast import FULL_PIXELS, LANE_BYTES, MOST, PIXEL_BYTES, Lanes, Stopped, fitting, lanes_of
from kernelsr.cells import Cell
from kernelsr.data import Scenario
from kernelsr.files import locked
from kernelsr.learner import BUILDING, initialised_from
from kernelsr.progress import Overall
from kernelsr.results import put_rows, read_rows
from kernelsr.worker import Worker

CPU = torch.device("cpu")
CELL = Cell("key", Path(), {}, found=True)
COST = {"seconds", "peak_memory_mb", "date", "version"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six small photographs of three sizes, and a truncated one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open(PHOTOS / "chelsea.png") as picture:
        for number, name in enumerate("abcdef"):
            side = 48 + 12 * (number % 3)
            picture.crop((40 * number, 0, 40 * number + side, side)).save(folder / f"{name}.png")
    (folder / "bad.png").write_bytes((folder / "a.png").read_bytes()[:900])
    return folder


def words(photos: Path, *more: str) -> list[str]:
    small = ["restorer.channels=8", "restorer.skip=4", "references=false", *QUICK]
    return ["data=folder", f"data.folder={photos}", "scale=2", *small, *more]


def made(photos: Path, out: Path, *more: str) -> tuple[dict[str, Any], list[str]]:
    """A run's rows by image without what they cost, with the kernels, and what failed."""
    failures = runs.run(configured(*words(photos, *more)), out, job_of(), "")
    rows = {row["image"]: {key: row[key] for key in row if key not in COST} for row in read_rows(out / "rows.csv")}
    kernels = {name: np.load(out / name / "kernel.npy") for name in rows if (out / name / "kernel.npy").exists()}
    return {name: (row, kernels[name].tobytes() if name in kernels else None) for name, row in rows.items()}, failures


# --- lanes


def test_results_come_in_order_from_as_many_threads_as_lanes() -> None:
    at_once, most, seen = [0], [0], set()

    def work(item: int) -> int:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        seen.add(threading.current_thread().name)
        time.sleep(0.05 if item % 2 else 0.01)
        at_once[0] -= 1
        return item**2

    assert Lanes(3, CPU).each(work, range(9)) == [item**2 for item in range(9)]
    assert most == [3] and len(seen) == 3 and threading.current_thread().name not in seen
    seen.clear()
    assert Lanes(1, CPU).each(work, range(3)) == [0, 1, 4] and seen == {threading.current_thread().name}


def test_threads_compute_with_as_many_threads_as_the_caller() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert Lanes(2, CPU).each(lambda _: torch.get_num_threads(), range(2)) == [2, 2]
    finally:
        torch.set_num_threads(before)


def test_an_error_ends_what_the_others_do() -> None:
    lanes, begun, stopped = Lanes(2, CPU), [], []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise FileNotFoundError("gone")
        try:
            for _ in range(300):
                lanes.check()
                time.sleep(0.01)
        except Stopped:
            stopped.append(item)
            raise

    with pytest.raises(FileNotFoundError, match="gone"):
        lanes.each(work, range(6))
    assert len(begun) <= 3 and 0 in stopped


def test_parts_are_built_one_at_a_time() -> None:
    """Layers draw from PyTorch's global generator; a second thread waits until the first one's are drawn."""
    inside, go = threading.Event(), threading.Event()
    drawn: dict[str, torch.Tensor] = {}

    def slow() -> None:
        with initialised_from(rng(5)):
            inside.set()
            go.wait(5)
            drawn["slow"] = torch.rand(3)

    def quick() -> None:
        inside.wait(5)
        with initialised_from(rng(6)):
            drawn["quick"] = torch.rand(3)

    threads = [threading.Thread(target=each) for each in (slow, quick)]
    for thread in threads:
        thread.start()
    inside.wait(5)
    assert not BUILDING.acquire(blocking=False)
    time.sleep(0.05)
    assert not drawn
    go.set()
    for thread in threads:
        thread.join()
    for name, seed in (("slow", 5), ("quick", 6)):
        with initialised_from(rng(seed)):
            assert torch.equal(drawn[name], torch.rand(3))


def test_building_holds_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    def free() -> bool:
        """Whether another thread could build now."""
        return Lanes(2, CPU).each(lambda _: BUILDING.acquire(blocking=False) and not BUILDING.release(), range(2))[0]

    found = []
    monkeypatch.setattr(configure, "_built", lambda *_: lambda *_: found.append(free()))
    cfg = configured("prior=softmax")
    configure.part(cfg, "prior", None, None)  # type: ignore[arg-type]
    monkeypatch.setattr(composition, "compose", lambda *_: found.append(free()))
    composition.compose_config([])
    assert found == [False, False] and free()


# --- runs


@pytest.mark.parametrize(
    ("more", "count"),
    [
        (["prior=dkp", "prior.rehearsal=4", "references=true", "data.only=[a,b,bad]"], 3),
        (["prior=double_dip"], 7),
        (["prior=fkp", "data.rng=named"], 7),
    ],
)
def test_the_rows_are_the_same_to_the_last_digit(photos: Path, tmp_path: Path, more: list[str], count: int) -> None:
    one, failed = made(photos, tmp_path / "one", *more)
    assert len(one) == count and len(failed) == 1 and failed[0].startswith("bad: ") and one["bad"][0]["error"]
    assert made(photos, tmp_path / "three", *more, "batch=3") == (one, failed)
    if "references=true" in more:
        floors = [read_rows(tmp_path / name / "floors.csv") for name in ("one", "three")]
        numbers = [sorted((row["image"], row["method"], row["psnr"]) for row in rows) for rows in floors]
        assert numbers[0] == numbers[1] and len(numbers[0]) >= 4 * 2


def test_the_papers_draws_are_one_sequence_whoever_asks(photos: Path) -> None:
    (photos / "bad.png").unlink()

    def kernels(lanes: int) -> list[torch.Tensor]:
        scenario = Scenario(photos, scale=2, noise_std=0.04)
        cases = [case for _ in range(20) for case in scenario]
        problems = Lanes(lanes, CPU).each(lambda case: case.load(), cases)
        return [values for problem, truth in problems for values in (problem.lr, truth.kernel)]

    assert all(map(torch.equal, kernels(1), kernels(4)))


def test_a_setting_wrong_for_every_image_ends_the_run(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="range= is for prior=dkp|samples is 0"):
        made(photos, tmp_path / "out", "prior=dkp", "+prior.variances=matched", "batch=2")
    assert not list((tmp_path / "out").glob("*/kernel.npy"))


def test_images_that_another_process_has_are_left_for_the_end(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.png").unlink()
    one = configured(*words(photos, "prior=gaussian", "progress=true"))
    runs.run(one, tmp_path / "one", job_of(), "")
    key = next(row["cell"] for row in read_rows(tmp_path / "one" / "rows.csv") if row["image"] == "b")
    capsys.readouterr()
    shutil.rmtree(Path(one.cells) / key)
    other = configured(*words(photos, "prior=gaussian", "progress=true", "batch=2"))
    other.cells = one.cells
    begun = threading.Event()

    def hold() -> None:
        with locked(Path(one.cells) / ".locks" / key):
            begun.set()
            time.sleep(1.5)

    holder = threading.Thread(target=hold)
    holder.start()
    begun.wait(5)
    runs.run(other, tmp_path / "two", job_of(), "")
    holder.join()
    errors = capsys.readouterr().err
    assert "waiting for what another process computes: b\n" in errors
    assert [line.partition(",")[0] for line in errors.splitlines() if " done" in line] == [
        f"{number}/6 done" for number in range(1, 7)
    ]
    assert errors.splitlines()[-1].endswith(" of b")


def test_an_image_without_memory_beside_others_is_made_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.png").unlink()
    estimate, tried = Worker._estimate, []

    def short(worker: Worker, case: Any, part: Path) -> Any:
        tried.append(case.name)
        if case.name in "bd" and tried.count(case.name) == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return estimate(worker, case, part)

    monkeypatch.setattr(Worker, "_estimate", short)
    monkeypatch.setattr(Lanes, "crowded", property(lambda lanes: lanes.count > 1))
    rows, failures = made(photos, tmp_path / "two", "prior=gaussian", "batch=2")
    assert len(rows) == 6 and not failures and sorted(tried) == sorted("abcdefbd") and tried[-2:] == ["b", "d"]
    assert "waiting" not in capsys.readouterr().err
    tried.clear()
    _, failures = made(photos, tmp_path / "one", "prior=gaussian", "batch=1")
    assert failures == ["b: CUDA out of memory", "d: CUDA out of memory"]


def test_interrupted_all_lanes_end_and_nothing_that_was_done_is_lost(photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").unlink()
    out, cells = tmp_path / "out", tmp_path / "cells"
    more = ["prior=gaussian", "solver.steps=100", "batch=2", f"cells={cells}", f"hydra.run.dir={out}"]
    process = start(*words(photos, *more))
    deadline = time.monotonic() + 100
    while not (out / "rows.csv").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and (out / "report.html").exists(), errors
    done = rows_of(out)
    assert 1 <= len(done) < 6 and all(float(row["psnr"]) > 0 for row in done)
    assert not [path for path in cells.iterdir() if path.name.endswith(".part")]


def test_every_step_asks_whether_to_go_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []

    def check(lanes: Lanes) -> None:
        asked.append(None)
        if len(asked) == 3:
            raise Stopped

    monkeypatch.setattr(Lanes, "check", check)
    cfg = configured(*words(photos, "prior=gaussian"))
    with pytest.raises(Stopped):
        runs.run(cfg, tmp_path / "out", job_of(), "")
    assert [path.name for path in Path(cfg.cells).iterdir()] == [".locks"]


# --- how many


@pytest.mark.parametrize("batch", [0, -1, 1.5, "many", True, None])
def test_what_is_no_number_of_images_is_said(batch: Any) -> None:
    with pytest.raises(ValueError, match=f"batch is {batch!r}; choose auto, or how many images"):
        lanes_of(batch, CPU, pixels=int, channels=128)


def test_by_itself_a_cpu_has_one_lane_and_looks_at_no_image() -> None:
    assert lanes_of("auto", CPU, pixels=lambda: 1 // 0, channels=128).count == 1
    assert lanes_of(5, CPU, pixels=lambda: 1 // 0, channels=0).count == 5


def test_a_card_takes_what_fits_into_its_memory_and_no_more_than_fill_it() -> None:
    assert fitting(140_000_000_000, 252 * 252, 128) == MOST
    assert fitting(140_000_000_000, 500 * 500, 128) == 4 == FULL_PIXELS // 500**2
    assert fitting(140_000_000_000, 960 * 960, 128) == 1
    each = LANE_BYTES + PIXEL_BYTES * 252**2
    assert fitting(int(3.01 * each / 0.8), 252**2, 128) == 3 and fitting(0, 252**2, 128) == 1
    assert fitting(int(3.01 * each / 0.8), 252**2, 32) > 3


def test_a_case_tells_its_hr_pixels_from_the_files_head(photos: Path) -> None:
    pixels = {case.name: case.pixels() for case in Scenario(photos, scale=2)}
    assert (pixels["a"], pixels["b"], pixels["bad"]) in {(48**2, 60**2, 48**2), (48**2, 60**2, 0)}
    (real, *_) = Scenario(photos, scale=4, degrade=False)
    assert real.pixels() == (4 * 48) ** 2
    (cut, *_) = Scenario(photos, scale=2, window=24)
    assert cut.pixels() == 24**2
    loaded = {case.name: case.load()[0].hr_size for case in Scenario(photos, scale=2) if case.name != "bad"}
    assert all(height * width <= pixels[name] for name, (height, width) in loaded.items())


def test_the_time_left_is_shared_by_the_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_rows(tmp_path / "rows.csv", [{"image": "a"}])
    monkeypatch.setattr(Overall, "seconds", [60.0])
    assert str(Overall(tmp_path, 5)) == "1/5 done, 4 left, 4 min"
    assert str(Overall(tmp_path, 5, 2)) == "1/5 done, 4 left, 2 min"


def test_ten_bits_are_in_a_gpus_keys_and_in_no_cpus(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: dict[str, list[Any]] = {}

    def key(device: str, tf32: str) -> list[Any]:
        monkeypatch.setattr(worker, "device_of", lambda name: torch.device(device))
        monkeypatch.setattr(worker, "key_of", lambda what, *parts: keys.setdefault(what, [what, *parts])[0])
        monkeypatch.setattr(
            worker.Cells, "get", lambda cells, key, make, *, wait: None if key == "references" else CELL
        )
        keys.clear()
        cfg = configured(*words(photos, "prior=gaussian", tf32))
        lanes = Lanes(1, CPU)
        with pytest.raises(AssertionError):  # there are no references here
            Worker(cfg, tmp_path, job_of(), {}, Overall(tmp_path, 1), lanes).take(
                next(iter(Scenario(photos))), wait=True
            )
        return [keys["estimate"][1:], keys["references"][1:]]

    estimate, references = zip(key("cuda", "tf32=false"), key("cuda", "tf32=true"), strict=True)
    assert estimate[0] != estimate[1] and references[0] != references[1]
    assert key("cpu", "tf32=false") == key("cpu", "tf32=true")


@pytest.mark.parametrize("word", ["batch=4", "threads=3"])
def test_how_it_is_spread_changes_no_number_and_no_key(photos: Path, word: str) -> None:
    from kernelsr.cli import command_of
    from kernelsr.worker import settings_of

    first, second = (configured(*words(photos, "prior=dkp", *more)) for more in ([], [word]))
    assert settings_of(first) == settings_of(second)
    assert command_of(["prior=dkp", word]) == "python run.py prior=dkp"
