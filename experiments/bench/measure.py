"""What the benchmarks share: the small problem they solve, the machine's own rate, and what a row says of its making."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from kernelsr.files import write_table
from kernelsr.problem import Problem

ROOT = Path(__file__).parents[2]


def arguments(about: str) -> argparse.ArgumentParser:
    """A parser with the option that all have."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--append", type=Path, help="a CSV to add the rows to")
    return parser


def blurred(side: int, scale: int = 4, dtype: torch.dtype = torch.float32) -> Problem:
    """A problem whose HR image has about ``side`` pixels a side; what is in the image changes no time."""
    small = round(side / scale)
    lr = torch.rand(1, 3, small, small, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return Problem(lr, scale)


def made() -> dict[str, Any]:
    """When, of which commit (+ where the tree had changes), and on what."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+"]
    return {
        "date": date.today().isoformat(),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's name, and what of its instructions decides the rates of float32 and bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "avx512")
    has = " with avx512_bf16" if "avx512_bf16" in flags else "" if "avx512" in flags else " without AVX-512"
    return fields.get("model name", platform.machine()) + has


def keep(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a file, where one was asked for."""
    if path is not None:
        write_table(path, [made() | dict(row) for row in rows], append=True)


def matrix_product_rate(dtype: torch.dtype = torch.float32, size: int = 4096, repeats: int = 5) -> float:
    """GFLOP/s of a large matrix product, the median of some."""
    first, second = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    _ = first @ second
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        _ = first @ second
        times.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(times) / 1e9


def gflop(run: Callable[[], object]) -> float:
    """10^9 operations of the convolutions and matrix products in a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def gaps(ends: Sequence[float]) -> list[float]:
    """Seconds of each step from the times at which they ended, without the first one, which warms up."""
    return [later - earlier for earlier, later in zip(ends, ends[1:], strict=False)]


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as text in columns."""
    rows = [
        {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in row.items()} for row in rows
    ]
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    lines = [dict(zip(widths, widths, strict=True)), *rows]
    return "\n".join("  ".join(line[key].rjust(width) for key, width in widths.items()) for line in lines)
