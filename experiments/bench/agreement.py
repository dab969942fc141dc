"""Whether a device finds what the CPU finds: short runs from the same start, then longer ones within the CPU's own spread.

A deep image prior is chaotic: a rounding grows to another image within a hundred steps, while the kernel's accuracy stays.
So short runs are compared number by number, and longer ones by their kernels' PSNR, with the spread over seeds and thread
counts that the CPU shows itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kernelsr import priors, restorers, solvers
from kernelsr.data import Scenario
from kernelsr.metrics import kernel_psnr
from kernelsr.official import find_image_set
from kernelsr.precision import multiplying
from kernelsr.problem import Problem, Progress

SHORT = 10
"""Steps in which a rounding does not grow much."""
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-2}
"""Of the loss, relative to it, and of the kernel, relative to its peak, in every one of the short run's steps.

A CPU with other threads or other convolutions is 1e-13 and 4e-3 off; with bfloat16 5e-2, from another seed 1e-1.
"""
LEAST_BAND = 0.5
"""dB of kernel PSNR: what the CPU's spread over few runs may miss."""
PRIORS: dict[str, Callable[..., Any]] = {
    "fkp": lambda problem, rng: priors.Flow(problem, rng, start=2),
    "dkp": lambda problem, rng: priors.Dynamic(problem, rng, rehearsal=50),
}


def photograph(side: int) -> tuple[Problem, Tensor]:
    """A part of a photograph at x2, and the kernel that blurred it."""
    (case, *_) = Scenario(find_image_set("demo"), scale=2, rng="named", window=side, quantise=False)
    problem, truth = case.load()
    assert truth.kernel is not None
    return problem, truth.kernel


def path(
    problem: Problem, device: torch.device, prior: str, steps: int, *, seed: int = 0, graph: bool = False, **dip: Any
) -> list[tuple[Tensor, Tensor]]:
    """Loss and kernel of each step, on the CPU."""
    problem = Problem(problem.lr.to(device), problem.scale, problem.kernel_size, problem.centre, problem.noise_std)
    rng, found = torch.Generator().manual_seed(seed), []

    def keep(progress: Progress) -> None:
        found.append((progress.loss.clone(), progress.kernel.clone()))

    learned, restorer = PRIORS[prior](problem, rng), restorers.Dip(problem, rng, **dip)
    solvers.joint(problem, learned, restorer, steps=steps, ssim_steps=steps // 2, graph=graph, on_step=keep)
    return [(loss.cpu(), kernel.cpu()) for loss, kernel in found]


def farthest(first: Sequence[tuple[Tensor, Tensor]], second: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The largest difference of a loss, relative to it, or of a kernel, relative to its peak."""
    largest = [
        max((loss - other).abs() / loss.abs(), (kernel - another).abs().max() / kernel.max())
        for (loss, kernel), (other, another) in zip(first, second, strict=True)
    ]
    return float(max(largest))


def short_runs(device: torch.device, side: int, graphs: Sequence[bool], **dip: Any) -> list[dict[str, Any]]:
    """A row for each prior, type and way of running the steps: how far it is from the CPU, and whether that will do."""
    rows = []
    for dtype, tolerance in TOLERANCES.items():
        problem, _ = photograph(side)
        problem = Problem(problem.lr.to(dtype), problem.scale, problem.kernel_size, problem.centre)
        for prior in PRIORS:
            expected = path(problem, torch.device("cpu"), prior, SHORT, **dip)
            for graph in graphs:
                far = farthest(expected, path(problem, device, prior, SHORT, graph=graph, **dip))
                name = f"{SHORT} steps of {prior}, {str(dtype)[6:]}{', graph' if graph else ''}"
                rows.append({"check": name, "found": far, "at_most": tolerance, "ok": far <= tolerance})
    return rows


def long_runs(
    device: torch.device, side: int, steps: int, ways: dict[str, dict[str, Any]], **dip: Any
) -> list[dict[str, Any]]:
    """A row a way: how far its mean kernel PSNR is from the CPU's, against the CPU's spread over seeds and threads."""
    problem, kernel = photograph(side)

    def score(on: torch.device, seed: int, tf32: bool = False, **way: Any) -> float:
        with multiplying(tf32=tf32):
            return kernel_psnr(path(problem, on, "dkp", steps, seed=seed, **dip, **way)[-1][1], kernel)

    seeds, threads = (0, 1, 2), torch.get_num_threads()
    cpu = [score(torch.device("cpu"), seed) for seed in seeds]
    torch.set_num_threads(1 if threads > 1 else 2)
    others = [score(torch.device("cpu"), seed) for seed in seeds]
    torch.set_num_threads(threads)
    band = max(max(cpu + others) - min(cpu + others), LEAST_BAND)
    rows = []
    for name, way in ways.items():
        far = statistics.mean(score(device, seed, **way) for seed in seeds) - statistics.mean(cpu + others)
        rows.append({"check": f"{steps} steps, {name}: dB", "found": far, "at_most": band, "ok": abs(far) <= band})
    return rows
