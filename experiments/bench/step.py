"""What a step of DIP-FKP costs, and what the reference costs in the same run: `python -m experiments.bench.step`.

Each variant lives in a process of its own and they take turns, a step each, the others asleep; so a machine that drifts
drifts for all. GFLOP/s stand beside those of a large matrix product of the same type.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from experiments.bench import measure, reference
from kernelsr import convolution, priors, restorers, solvers
from kernelsr.memory import keep_freed_memory
from kernelsr.meter import Meter
from kernelsr.problem import Progress

VARIANTS: dict[str, dict[str, Any]] = {
    "reference": {"plain": True},
    "reference, freed memory kept": {"plain": True, "kept": True},
    "float32, freed memory not kept": {},
    "float32": {"kept": True},
    "float32, oneDNN's gradients": {"kept": True, "taps": False},
    "float32, checkpoint": {"kept": True, "checkpoint": True},
    "float32, checkpoint, freed memory not kept": {"checkpoint": True},
    "bf16": {"kept": True, "precision": "bf16"},
}
MOST = 10**6
"""Steps that a worker would make; it is ended before."""


def run(
    side: int,
    channels: int,
    steps: int,
    on_step: Any,
    *,
    plain: bool = False,
    kept: bool = False,
    taps: bool = True,
    **dip: Any,
) -> None:
    """Steps of DIP-FKP as a variant makes them; without ``taps`` this process takes weights' gradients from oneDNN."""
    if kept:
        keep_freed_memory()
    if not taps:
        convolution.FEWEST = sys.maxsize
    problem, rng = measure.blurred(side), torch.Generator().manual_seed(0)
    size: dict[str, Any] = {"channels": channels, "skip": channels // 8}
    prior, restorer = priors.Flow(problem, rng, start=0), restorers.Dip(problem, rng, **size, **dip)
    if plain:
        slow = reference.PlainDip(problem, restorer, **size)
        del restorer
        reference.joint(problem, prior, slow, steps=steps, on_step=on_step)
    else:
        solvers.joint(problem, prior, restorer, steps=steps, on_step=on_step)


def serve(connection: Connection, side: int, channels: int, threads: int, settings: dict[str, Any]) -> None:
    """A worker: at each request, the seconds of one more step and the peak memory in MB so far."""
    torch.set_num_threads(threads)
    meter = Meter(torch.device("cpu"))
    began = 0.0

    def wait(progress: Progress) -> None:
        nonlocal began
        connection.send((time.perf_counter() - began, meter.read()["peak_memory_mb"]))
        if not connection.recv():
            sys.exit()
        began = time.perf_counter()

    connection.recv()
    began = time.perf_counter()
    run(side, channels, MOST, wait, **settings)


def interleaved(names: Sequence[str], side: int, channels: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and peak memory of ``rounds`` steps of each variant, taken in turn after two steps that are not counted."""
    spawn, threads = get_context("spawn"), torch.get_num_threads()
    workers = {}
    for name in names:
        here, there = spawn.Pipe()
        worker = spawn.Process(target=serve, args=(there, side, channels, threads, VARIANTS[name]), daemon=True)
        worker.start()
        workers[name] = here
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(rounds + 2):
        for name, connection in workers.items():
            connection.send(True)
            answer = connection.recv()
            if turn >= 2:
                found[name].append(answer)
    for connection in workers.values():
        connection.send(False)
    return found


def rows(side: int, channels: int, rounds: int, names: Sequence[str] = tuple(VARIANTS)) -> list[dict[str, Any]]:
    """A row a variant."""
    operations = measure.gflop(lambda: run(side, channels, 1, lambda progress: None))
    types = {name: torch.bfloat16 if name.startswith("bf16") else torch.float32 for name in names}
    before = {dtype: measure.matrix_product_rate(dtype) for dtype in set(types.values())}
    found = interleaved(names, side, channels, rounds)
    rates = {dtype: (rate + measure.matrix_product_rate(dtype)) / 2 for dtype, rate in before.items()}
    seconds = {name: statistics.median(time for time, _ in steps) for name, steps in found.items()}
    return [
        {
            "variant": name,
            "side": side,
            "channels": channels,
            "step_seconds": round(seconds[name], 4),
            "faster": round(seconds[names[0]] / seconds[name], 2),
            "gflop": round(operations, 1),
            "gflops": round(operations / seconds[name], 1),
            "matmul_gflops": round(rates[types[name]], 1),
            "share": round(operations / seconds[name] / rates[types[name]], 3),
            "peak_mb": round(max(peak for _, peak in found[name])),
        }
        for name in names
    ]


def main() -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--size", type=int, default=252, help="HR pixels a side")
    parser.add_argument("--channels", type=int, default=128, help="of the hourglass; an eighth as many for the skips")
    parser.add_argument("--rounds", type=int, default=12, help="steps of each variant")
    parser.add_argument(
        "--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="the first is compared with"
    )
    options = parser.parse_args()
    found = rows(options.size, options.channels, options.rounds, options.only)
    print(measure.table(found))
    measure.keep(options.append, found)


if __name__ == "__main__":
    main()
