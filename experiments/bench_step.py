"""What one step of the loop costs: `python -m experiments.bench_step [--append experiments/results/bench_step.csv]`.

The limit is relative, since machines differ and drift: the step's multiplications and additions at 60 % of the rate that
a large float32 matrix product reaches in the same run. Measure with nothing else running.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from kernelsr import priors, restorers, solvers
from kernelsr.files import write_table
from kernelsr.problem import Problem, Progress

SHARE = 0.6
"""Of the matrix product's rate; a step may not be slower."""


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def matrix_product_rate(size: int = 4096) -> float:
    """GFLOP/s of a float32 matrix product."""
    first, second = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / seconds(lambda: first @ second, 5) / 1e9


def step_cost(size: int, channels: int, scale: int = 4, steps: int = 12) -> tuple[float, float]:
    """Median seconds of a step of DIP-FKP on a size x size HR image, and its GFLOP."""
    problem = Problem(torch.rand(1, 3, size // scale, size // scale), scale)
    rng = torch.Generator().manual_seed(0)
    prior, restorer = (
        priors.Flow(problem, rng, start=0),
        restorers.Dip(problem, rng, channels=channels, skip=channels // 8),
    )
    with FlopCounterMode(display=False) as counter:
        solvers.joint(problem, prior, restorer, steps=1)
    ends: list[float] = []

    def on_step(progress: Progress) -> None:
        ends.append(time.perf_counter())

    solvers.joint(problem, prior, restorer, steps=steps + 1, on_step=on_step)
    return statistics.median(later - earlier for earlier, later in zip(ends, ends[1:], strict=False)), (
        counter.get_total_flops() / 1e9
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=252, help="HR pixels a side")
    parser.add_argument("--channels", type=int, default=128, help="of the hourglass; an eighth as many for the skips")
    parser.add_argument("--append", type=Path, help="a CSV to add the result to")
    options = parser.parse_args()
    before = matrix_product_rate()
    step, gflop = step_cost(options.size, options.channels)
    rate = (before + matrix_product_rate()) / 2
    limit = gflop / (SHARE * rate)
    print(f"matrix product    {rate:7.1f} GFLOP/s in float32, {torch.get_num_threads()} threads")
    print(f"step at {options.size}x{options.size}   {step:7.3f} s for {gflop:.1f} GFLOP, {gflop / step:.1f} GFLOP/s")
    print(f"share of the rate {gflop / step / rate:7.2f} (at least {SHARE}); limit {limit:.3f} s")
    if options.append:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        row = {
            "date": date.today().isoformat(),
            "commit": commit,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "size": options.size,
            "channels": options.channels,
            "matmul_gflops": round(rate, 1),
            "step_seconds": round(step, 4),
            "step_gflop": round(gflop, 1),
            "share": round(gflop / step / rate, 3),
        }
        write_table(options.append, [row], append=True)
    # The limit is for the papers' network; a smaller one is bound by memory.
    if step > limit and options.channels >= 128:
        raise SystemExit(f"too slow: {step:.3f} s is over the limit of {limit:.3f} s")


if __name__ == "__main__":
    main()
