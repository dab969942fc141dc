"""How long should an OpenMP thread spin before it sleeps? `python -m experiments.bench.waiting [--append CSV]`.

A step of DIP-FKP with libgomp's turns from none to its default, with the other cores quiet and with one of them kept busy by
something else. Ways take turns, a fresh process each: libgomp, of Linux's PyTorch, reads its environment when loaded.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from experiments.bench import measure
from experiments.bench.compare import seconds

TURNS = (0, 300, 1000, 3000, 10000, 300000)
"""GOMP_SPINCOUNT: the first is what OMP_WAIT_POLICY=PASSIVE means, the last libgomp's own default."""


@contextmanager
def beside(busy: bool) -> Iterator[None]:
    """Another process that never sleeps, or nothing."""
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def rows(side: int, channels: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each number of threads, of turns, and of busy cores; ratios are to one thread on quiet cores."""
    threads = torch.get_num_threads()
    ways = [(1, 0), *((threads, turns) for turns in TURNS)]
    cells = [(busy, *way) for busy in (False, True) for way in ways]
    found: dict[tuple[bool, int, int], list[float]] = {cell: [] for cell in cells}
    words = ["step", "--size", str(side), "--channels", str(channels)]
    for _ in range(rounds):
        for busy, number, turns in cells:
            with beside(busy):
                way = {"OMP_NUM_THREADS": str(number), "GOMP_SPINCOUNT": str(turns)}
                found[busy, number, turns].append(seconds(measure.ROOT, words, way))
    first = median(found[cells[0]])
    return [
        {
            "side": side,
            "channels": channels,
            "busy": int(busy),
            "omp_threads": number,
            "turns": turns,
            "step_seconds": round(median(times), 4),
            "slower": round(median(times) / first, 2),
        }
        for (busy, number, turns), times in found.items()
    ]


def main() -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--size", type=int, default=192, help="HR pixels a side")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 128], help="of the hourglass")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if torch.get_num_threads() < 2:
        parser.error("one thread waits for nobody: take more, as by OMP_NUM_THREADS=2")
    for channels in options.channels:
        found = rows(options.size, channels, options.rounds)
        print(measure.table(found))
        measure.keep(options.append, found)


if __name__ == "__main__":
    main()
