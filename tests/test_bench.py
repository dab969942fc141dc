"""The benchmarks compare what is equal, the fast step stays fast beside the reference, and verdicts follow the numbers."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases import problem, rng, true_kernel, uniform
from torch import Tensor

from experiments.bench import compare, measure, reference, scaling, startup, step, waiting
from kernelsr import priors, restorers, solvers
from kernelsr.degradation import degrade
from kernelsr.files import read_table
from kernelsr.learner import Restorer
from kernelsr.problem import Problem, Progress

STEP_MFLOP = 125.41
"""Operations of one step of DIP-FKP at 64x64 with 16 channels, in 10^6. More is a regression; less is to be written here."""

# --- the reference is the same method


def pair(posed: Problem, sparsity: float = 0.0) -> tuple[restorers.Dip, reference.PlainDip]:
    dip = restorers.Dip(posed, rng(), channels=16, skip=4, sparsity=sparsity)
    return dip, reference.PlainDip(posed, dip, channels=16, skip=4)


def loss_and_gradients(dip: Restorer, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[Tensor]]:
    value = loss(dip(true_kernel()))
    value.backward()
    return value.detach(), [parameter.grad for parameter in dip.parameters()]


@pytest.mark.parametrize("side", [36, 33])  # 72 and 66 pixels: enlargements that fit, and that are cropped
def test_the_fast_hourglass_has_the_references_gradients(side: int) -> None:
    posed = problem(2, side)
    # Away from the start, where the non-local blocks are switched off.
    fast, _ = pair(posed)
    with torch.no_grad():
        for number, parameter in enumerate(fast.parameters()):
            parameter += 0.05 * uniform(*parameter.shape, seed=number)
    slow = reference.PlainDip(posed, fast, channels=16, skip=4)
    kernel = true_kernel()
    ours, mine = loss_and_gradients(fast, lambda x: (degrade(x, kernel, 2) - posed.lr).square().mean())
    theirs, plain = loss_and_gradients(
        slow, lambda x: (reference.blur_then_subsample(x, kernel, 2) - posed.lr).square().mean()
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for first, second in zip(mine, plain, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sparsity", [0.0, 2e-4])
def test_the_fast_loop_takes_the_references_steps(sparsity: float) -> None:
    posed = problem(2, 36)
    paths: list[list[Progress]] = []
    for plain in (False, True):
        prior, dips = priors.Flow(posed, rng(), start=0), pair(posed, sparsity)
        paths.append([])
        loop = reference.joint if plain else solvers.joint
        loop(posed, prior, dips[plain], steps=4, ssim_steps=2, on_step=paths[-1].append)
    for ours, theirs in zip(*paths, strict=True):
        torch.testing.assert_close(ours.loss, theirs.loss, rtol=0, atol=1e-10)
        torch.testing.assert_close(ours.image, theirs.image, rtol=0, atol=1e-9)
        torch.testing.assert_close(ours.kernel, theirs.kernel, rtol=0, atol=1e-9)


def test_blur_then_subsample_is_the_degradation() -> None:
    image = uniform(1, 3, 24, 36)
    for scale, size in ((2, 11), (3, 15), (4, 19)):
        kernel = uniform(1, 1, size, size, seed=size)
        torch.testing.assert_close(reference.blur_then_subsample(image, kernel, scale), degrade(image, kernel, scale))


# --- no regressions


def test_a_step_counts_no_more_operations() -> None:
    operations = measure.gflop(lambda: step.run(64, 16, 1, lambda progress: None))
    assert 1e3 * operations == pytest.approx(STEP_MFLOP, rel=1e-3)


def test_the_fast_step_is_not_slower_than_the_reference() -> None:
    def seconds(settings: dict[str, bool]) -> float:
        ends: list[float] = []
        step.run(128, 32, 5, lambda progress: ends.append(time.perf_counter()), **settings)
        return min(measure.gaps(ends))

    # Measured: 1.9 times as fast. In turns, since a machine that others use drifts; least of each, since others only add.
    ratios = [seconds({}) / seconds({"plain": True}) for _ in range(5)]
    assert statistics.median(ratios) < 1.15


# --- what benches report


def test_variants_take_turns_and_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "matrix_product_rate", lambda dtype: 100.0)
    rows = step.rows(64, 16, 1, ("reference", "bf16"))
    assert [row["variant"] for row in rows] == ["reference", "bf16"] and rows[0]["faster"] == 1
    assert all(row["step_seconds"] > 0 and row["peak_mb"] > 50 and row["gflop"] == 0.1 for row in rows)
    assert rows[1]["faster"] == pytest.approx(rows[0]["step_seconds"] / rows[1]["step_seconds"], rel=0.02)


def test_ways_to_wait_take_turns_beside_nothing_and_beside_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[subprocess.Popen[bytes]] = []
    began = subprocess.Popen

    def start(*words: Any, **more: Any) -> subprocess.Popen[bytes]:
        others.append(began(*words, **more))
        return others[-1]

    def seconds(tree: Path, words: list[str], way: dict[str, str]) -> float:
        assert words == ["step", "--size", "64", "--channels", "8"]
        busy = bool(others) and others[-1].poll() is None
        turn = 100 * (sum(each == (busy, *way.values()) for each in asked) % 2)
        asked.append((busy, *way.values()))
        return 1 + busy + int(way["OMP_NUM_THREADS"]) + int(way["GOMP_SPINCOUNT"]) + turn

    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(waiting, "seconds", seconds)
    monkeypatch.setattr(waiting.subprocess, "Popen", start)
    monkeypatch.setattr(waiting, "TURNS", (0, 7))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    rows = waiting.rows(64, 8, 3)
    shown = [tuple(row[key] for key in ("busy", "omp_threads", "turns", "step_seconds", "slower")) for row in rows]
    assert shown == [
        *((0, 1, 0, 2, 1), (0, 2, 0, 3, 1.5), (0, 2, 7, 10, 5)),
        *((1, 1, 0, 3, 1.5), (1, 2, 0, 4, 2), (1, 2, 7, 11, 5.5)),
    ]
    assert asked[:6] == asked[6:12] == asked[12:] and len(others) == 9
    assert all(other.poll() is not None for other in others)


def test_rows_say_what_made_them(tmp_path: Path) -> None:
    measure.keep(tmp_path / "rows.csv", [{"what": "step", "seconds": 1.5}])
    measure.keep(tmp_path / "rows.csv", [{"what": "help", "seconds": 0.5}])
    rows = read_table(tmp_path / "rows.csv")
    assert [row["seconds"] for row in rows] == ["1.5", "0.5"]
    assert rows[0]["torch"] == torch.__version__ and rows[0]["threads"] == str(torch.get_num_threads())
    assert {"date", "commit", "machine"} <= rows[0].keys()


def test_points_that_are_known_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps({"step_seconds": 0.1, "peak_mb": 500}) + "\n")

    made = {"date": "today", "commit": "abc", "machine": "one", "torch": "2", "threads": 1}
    monkeypatch.setattr(measure, "made", lambda: dict(made))
    # In the module only: where fonts are not listed yet, the figure asks a process for them.
    monkeypatch.setattr(scaling, "subprocess", SimpleNamespace(run=answer))
    path = tmp_path / "scaling.csv"
    scaling.measure_all(path, [128, 192], ["float32"])
    scaling.measure_all(path, [128, 192, 256], ["float32"])
    assert [command[-2] for command in asked] == ["128", "192", "256"] and len(read_table(path)) == 3
    made["threads"] = 2
    scaling.measure_all(path, [128], ["float32"])
    assert len(asked) == 4
    scaling.draw(read_table(path), tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_a_point_is_measured() -> None:
    words = ["-m", "experiments.bench.scaling", "--point", "64", "float32, checkpoint"]
    said = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, cwd=measure.ROOT).stdout
    found = json.loads(said)
    assert 0 < found["step_seconds"] < 60 and 50 < found["peak_mb"] < 5000


def test_a_start_ends_at_the_first_step(tmp_path: Path) -> None:
    began = time.perf_counter()
    spent = startup.seconds([*startup.command("first step", str(tmp_path)), "prior=softmax", "restorer=bicubic"])
    assert 0 < spent <= time.perf_counter() - began
    assert not list(tmp_path.glob("run/*.html")), "the run should not have come to its report"


def test_imports_are_added_up_by_package() -> None:
    line = "import time:       120 |        500 |     torch.nn"
    assert startup.IMPORTED.findall(f"{line}\nimport time: 7 | 8 | scipy\n") == [("120", "torch"), ("7", "scipy")]


# --- two commits


@pytest.mark.parametrize(
    ("times", "word"),
    [([0.8, 0.82, 0.79, 0.81], "faster"), ([1.2, 1.21, 1.19], "slower"), ([0.9, 1.1, 1.0], "no diff")],
)
def test_a_verdict_follows_the_pairs(times: list[float], word: str) -> None:
    from math import log

    ratio, low, high, said = compare.verdict([log(time) for time in times])
    assert low < ratio < high and said.startswith(word)
    assert ratio == pytest.approx(statistics.geometric_mean(times))


def test_pairs_change_who_begins_and_leave_out_the_first() -> None:
    order: list[str] = []

    def run(name: str, seconds: list[float]) -> Callable[[], float]:
        return lambda: (order.append(name), seconds.pop(0))[1]

    ratios = compare.paired(run("A", [9.0, 1.0, 2.0]), run("B", [1.0, 2.0, 2.0]), 2)
    assert "".join(order) == "ABBAAB"
    assert ratios == pytest.approx([torch.tensor(2.0).log().item(), 0.0])


def test_commits_are_checked_out_beside_each_other_and_taken_away(tmp_path: Path) -> None:
    inside = ["git", "-C", str(measure.ROOT), "rev-parse", "--is-inside-work-tree"]
    if subprocess.run(inside, capture_output=True).returncode:
        pytest.skip("this is no checkout")
    with compare.checked_out("HEAD", tmp_path / "A") as tree:
        assert (tree / "run.py").is_file()
        assert 0 < compare.seconds(tree, ["step", "--size", "64", "--channels", "8"]) < 60
    assert not (tmp_path / "A").exists()
    with (
        pytest.raises(SystemExit, match="cannot check out 'nonsense'"),
        compare.checked_out("nonsense", tmp_path / "B"),
    ):
        pass
