"""Seconds of one thing, alone on a line: what compare.py runs in two trees. Knows only what old commits have too."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def step(side: int, channels: int, settings: list[str], steps: int = 6) -> float:
    """Median seconds of a step of DIP-FKP at x4, as `python run.py` would make it."""
    import torch

    from kernelsr import priors, restorers, solvers
    from kernelsr.problem import Problem, Progress

    try:
        from kernelsr.memory import keep_freed_memory

        keep_freed_memory()
    except ImportError:  # an older commit
        pass
    words = {"true": True, "false": False}
    pairs = (text.partition("=") for text in settings)
    chosen: dict[str, Any] = {key: words.get(value, value) for key, _, value in pairs}
    problem = Problem(torch.rand(1, 3, side // 4, side // 4), 4)
    rng = torch.Generator().manual_seed(0)
    prior = priors.Flow(problem, rng, start=0)
    restorer = restorers.Dip(problem, rng, channels=channels, skip=channels // 8, **chosen)
    ends: list[float] = []

    def on_step(progress: Progress) -> None:
        ends.append(time.perf_counter())

    solvers.joint(problem, prior, restorer, steps=steps, on_step=on_step)
    return statistics.median(later - earlier for earlier, later in zip(ends[1:], ends[2:], strict=False))


def shown() -> float:
    """Seconds of `python run.py --help`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "run.py", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("step", "help"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--settings", nargs="*", default=[], help="of the restorer, as precision=bf16")
    options = parser.parse_args()
    print(shown() if options.what == "help" else step(options.size, options.channels, options.settings))


if __name__ == "__main__":
    main()
