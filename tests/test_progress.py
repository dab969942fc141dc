"""What a run shows on its way: how far it is, from files; a bar on terminals only; TensorBoard where it is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import PHOTOS, QUICK, run

from kernelsr import progress, track
from kernelsr.problem import Estimate, Progress, Truth
from kernelsr.progress import JOBS, WORKERS, Overall, Recorder
from kernelsr.results import put_rows


def finish(folder: Path, *names: str, error: str = "") -> None:
    put_rows(folder / "rows.csv", [{"image": name, "method": "dkp+dip", "error": error} for name in names])


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (JOBS, WORKERS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Overall, "seconds", [])


def test_a_run_alone_counts_its_own_images(tmp_path: Path) -> None:
    overall = Overall(tmp_path / "run", 5)
    assert str(overall) == "0/5 done, 5 left"
    finish(tmp_path / "run", "a", "b")
    finish(tmp_path / "run", "c", error="too small")
    finish(tmp_path / "other run", "a")
    overall.seconds.append(30.0)
    assert str(overall) == "2/5 done, 1 failed, 2 left, 60 s"


def test_a_sweep_counts_the_images_of_all_jobs_whoever_ran_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOBS, "4")
    monkeypatch.setenv(WORKERS, "2")
    finish(tmp_path / "0", "a", "b")
    finish(tmp_path / "1", "a")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "rows.csv").write_text("just being ma")
    Overall.seconds += [100.0, 300.0]
    assert str(Overall(tmp_path / "1", 2)) == "3/8 done, 5 left, 8 min"  # 5 of 200 s, two at a time


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert progress._duration(seconds) == text


def recorded(steps: int, **settings: object) -> Recorder:
    recorder = Recorder(steps, Truth(kernel=torch.full((1, 1, 3, 3), 1 / 9)), "bird", **settings)  # type: ignore[arg-type]
    with recorder:
        for step in range(steps):
            recorder(Progress(step, torch.tensor(1.0 / (step + 1)), None, torch.full((1, 1, 3, 3), 1 / 9)))
    return recorder


def test_there_is_a_bar_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    recorded(3)
    assert "bird: 100%" in capsys.readouterr().err
    recorded(3, shown=False)
    assert capsys.readouterr().err == ""


def test_rows_of_the_trace_are_tracked_as_they_come() -> None:
    seen: list[dict[str, object]] = []
    recorder = recorded(250, track=seen.append)
    assert seen == recorder.trace and [row["step"] for row in seen][:3] == [1, 2, 4] and seen[-1]["step"] == 250


def test_tensorboard_gets_curves_image_and_kernel(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with track.tracker("tensorboard")(tmp_path) as tracker:
        for step, loss in ((1, 0.5), (40, 0.25)):
            tracker.row({"step": step, "loss": loss, "kernel_psnr": "" if step == 1 else 50.0})
        tracker.estimate(
            Estimate(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.full((1, 1, 5, 5), 0.04))
        )
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (40, 0.25)]
    assert [(event.step, event.value) for event in events.Scalars("kernel_psnr")] == [(40, 50.0)]
    (kernel,) = events.Images("kernel")
    assert (kernel.width, kernel.height, kernel.step) == (5, 5, 40) and events.Images("image")


def test_trackers_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose tensorboard"):
        track.tracker("wandb")
    monkeypatch.setattr(track.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"kernelsr\[track\]"):
        track.tracker("tensorboard")
    with track.tracker(None)(tmp_path / "nothing") as nothing:
        nothing.row({"step": 1})
    assert not (tmp_path / "nothing").exists()


def test_without_a_terminal_there_is_a_line_an_image(tmp_path: Path) -> None:
    words = ["prior=gaussian", "restorer=bicubic", "scale=2", "references=false", "data=folder", *QUICK]
    words += [f"data.folder={PHOTOS}", "data.only=[coffee,chelsea]", "progress=true", "prior.lr=0.1,0.2"]
    code, printed, errors = run("-m", *words, f"hydra.sweep.dir={tmp_path}")
    assert code == 0
    lines = errors.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["1/4 done", "2/4 done", "3/4 done", "4/4 done"]
    assert lines[2].startswith("3/4 done, 1 left, ") and lines[2].endswith(": gaussian+bicubic of chelsea")
    assert np.all(["\r" not in line for line in lines]) and "finished before" not in printed


def test_jobs_on_other_data_have_their_own_number_of_images(tmp_path: Path) -> None:
    """Three images, then one, and a third job that cannot run: nothing is left in the end."""
    words = [
        "prior=gaussian",
        "restorer=bicubic",
        "scale=2",
        "references=false",
        "data=folder",
        *QUICK,
        "progress=true",
    ]
    some = "data.only=[coffee,chelsea,camera],coffee,nobody"
    code, _, errors = run("-m", *words, f"data.folder={PHOTOS}", some, f"hydra.sweep.dir={tmp_path}")
    assert code == 1
    said = [", ".join(line.split(", ")[:2]).partition(":")[0] for line in errors.splitlines() if " done, " in line]
    assert said == ["1/9 done, 8 left", "2/9 done, 7 left", "3/9 done, 6 left", "4/5 done, 1 left"]
    assert Overall._share(tmp_path / "1" / "job.json") == 1 and Overall._share(tmp_path / "2" / "job.json") == 0
