"""Seconds and memory of a step against the image's size: `python -m experiments.bench.scaling CSV [--figure PNG]`.

Each point is a process of its own, since a peak is a process's. Points that the file has for this machine, number of threads
and commit are not measured again, so that the command may be stopped and goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.bench import measure
from experiments.bench.step import VARIANTS, run
from kernelsr.files import read_table, write_table
from kernelsr.meter import Meter
from kernelsr.problem import Progress

SIDES = (128, 192, 256, 384, 512, 640, 768, 960)
NAMES = ("float32", "float32, checkpoint", "bf16")
STEPS = 3
PLACE = ("commit", "machine", "torch", "threads", "variant", "side")
"""What a point is told by."""


def point(side: int, name: str) -> dict[str, Any]:
    """Median seconds of a step and the process's peak memory, of the papers' network."""
    meter = Meter(torch.device("cpu"))
    ends: list[float] = []

    def on_step(progress: Progress) -> None:
        ends.append(time.perf_counter())

    run(side, 128, STEPS + 1, on_step, **VARIANTS[name])
    seconds = statistics.median(measure.gaps(ends))
    return {"step_seconds": round(seconds, 4), "peak_mb": round(meter.read()["peak_memory_mb"])}


def measure_all(path: Path, sides: Sequence[int], names: Sequence[str]) -> None:
    """Measure what the file has not, a row a point."""
    for side in sides:
        for name in names:
            place = measure.made() | {"variant": name, "side": side}
            if any(all(row.get(key) == str(place[key]) for key in PLACE) for row in read_table(path)):
                continue
            command = [sys.executable, "-m", "experiments.bench.scaling", "--point", str(side), name]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=measure.ROOT)
            row = place | json.loads(done.stdout.splitlines()[-1])
            print(f"{side:5} {name:20} {row['step_seconds']:8.3f} s {row['peak_mb']:6} MB", flush=True)
            write_table(path, [row], append=True)


def draw(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Time and memory as curves over the number of pixels; of a point that was measured twice, the later row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    columns = (("step_seconds", 1, "seconds a step"), ("peak_mb", 1e-3, "peak memory, GB"))
    for axis, (column, unit, label) in zip(axes, columns, strict=True):
        for name, mark in zip(dict.fromkeys(row["variant"] for row in rows), "os^D", strict=False):
            points = {int(row["side"]): unit * float(row[column]) for row in rows if row["variant"] == name}
            sides = sorted(points)
            axis.plot([side**2 for side in sides], [points[side] for side in sides], f"-{mark}", label=name, ms=4)
        axis.set(xlabel="HR pixels", ylabel=label, xscale="log", yscale="log")
        ticks = [side for side in SIDES if side in (128, 256, 512, 960)]
        axis.set_xticks([side**2 for side in ticks], [f"{side}²" for side in ticks], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    last = rows[-1]
    figure.suptitle(f"DIP-FKP, 128 channels; {last['machine']}, {last['threads']} threads", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path, nargs="?", help="of rows; what it has is not measured again")
    parser.add_argument("--figure", type=Path, help="a picture of the rows")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="pixels")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=NAMES, help="variants")
    parser.add_argument("--point", nargs=2, help="one point, as JSON")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(point(int(options.point[0]), options.point[1])))
        return
    if options.csv is None:
        parser.error("name the CSV of the rows")
    measure_all(options.csv, options.sides, options.only)
    if options.figure:
        draw([row for row in read_table(options.csv) if row["variant"] in NAMES], options.figure)


if __name__ == "__main__":
    main()
