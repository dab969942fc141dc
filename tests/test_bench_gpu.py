"""The GPU's benchmark where there is no GPU: its whole path on a CPU, and what it says and does not let pass."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import uniform

from experiments.bench import agreement, gpu
from kernelsr.precision import multiplying

CPU = torch.device("cpu")
TINY: dict[str, Any] = {"channels": 4, "skip": 2}


def test_the_whole_script_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KERNELSR_DATA", raising=False)
    gpu.main(["--device", "cpu", "--small", "--append", str(tmp_path / "rows.csv")])
    printed = capsys.readouterr().out
    for words in (
        "10 steps of dkp, float64",
        "graph, bf16, searched",
        "demo_aniso x4, 4 steps, bf16, batch=auto",
        "in all",
    ):
        assert words in printed
    with open(tmp_path / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [row for row in rows if row["part"] == "a step of DIP-FKP"]
    assert {(row["variant"], row["images"]) for row in steps} == {
        *((name, "1") for name in gpu.VARIANTS),
        *((name, "2") for name in gpu.TOGETHER),
    }
    assert steps[0]["variant"] == "reference" and float(steps[0]["faster"]) == 1
    for row in steps:
        assert float(row["image_seconds"]) == pytest.approx(float(row["step_seconds"]) / int(row["images"]), rel=1e-3)
    whole = [row for row in rows if row["part"] == "a whole run"]
    assert len(whole) == 2 and all(row["images"] == "1" and row["failed"] == "0" for row in whole)
    assert all(row["commit"] and row["torch"] and "gpu" in row for row in rows)


def test_without_a_device_it_says_so_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device is here; run this on a machine with a GPU"):
        gpu.main([])


def test_a_device_that_disagrees_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"check": "10 steps", "found": 1.0, "at_most": 0.1, "ok": False}
    monkeypatch.setattr(gpu, "short_runs", lambda *_, **__: [wrong])
    monkeypatch.setattr(gpu, "step_rows", lambda *_: [{"variant": "none"}])
    monkeypatch.setattr(gpu, "LATEST", -1)
    monkeypatch.setattr(gpu, "LIMIT", -1)
    with pytest.raises(SystemExit, match="does not agree with the CPU: 10 steps"):
        gpu.main(["--device", "cpu", "--small"])


def test_another_start_is_seen_and_other_threads_are_not() -> None:
    problem, _ = agreement.photograph(48)
    first = agreement.path(problem, CPU, "fkp", agreement.SHORT, **TINY)
    assert agreement.farthest(first, agreement.path(problem, CPU, "fkp", agreement.SHORT, **TINY)) == 0
    other = agreement.path(problem, CPU, "fkp", agreement.SHORT, seed=1, **TINY)
    assert agreement.farthest(first, other) > agreement.TOLERANCES[torch.float32]
    kernel = uniform(1, 1, 5, 5)
    moved = kernel.clone()
    moved[0, 0, 1, 1] += 0.3 * kernel.max()
    loss = torch.tensor(2.0)
    assert agreement.farthest([(loss, kernel)] * 2, [(loss, kernel), (loss, moved)]) == pytest.approx(0.3)
    assert agreement.farthest([(loss, kernel)], [(1.5 * loss, kernel)]) == pytest.approx(0.5)


def test_a_failing_image_ends_the_others_that_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = iter([None, ValueError("no memory")])

    def descend(*arguments: Any) -> None:
        if error := next(turn):
            raise error
        arguments[-1](gpu.Progress(gpu.WARM - 1, torch.zeros(()), None, torch.zeros(())))

    monkeypatch.setattr(gpu, "descend", descend)
    with pytest.raises((ValueError, gpu.threading.BrokenBarrierError)):
        gpu.step_row("graph", CPU, {"side": 48, "channels": 8}, 2, together=2)


def test_how_a_gpu_multiplies_is_put_back() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    with multiplying(tf32=not before[0], search=not before[1]):
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == (not before[0], not before[1])
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before
