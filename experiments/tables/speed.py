"""README's table of what a step costs, from the rows of experiments/bench/step.py."""

from __future__ import annotations

import csv
from pathlib import Path

from experiments.tables.layout import Cell, Head, Table, markdown

BEGIN = "<!-- speed: begin; python -m experiments.make_tables --readme writes what follows -->"
END = "<!-- speed: end -->"
FILE, SIDE, CHANNELS = "bench_step.csv", 252, (128, 32)


def speed(results: Path) -> str:
    """The latest row of each variant at 252x252: seconds, and how many times as fast as the reference in the same run."""
    with open(results / FILE, newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["side"]) == SIDE]
    latest = {(row["variant"], int(row["channels"])): row for row in rows}
    variants = list(dict.fromkeys(variant for variant, _ in latest))
    heads = [Head("a step at 252x252", ("variant",), False)]
    for channels in CHANNELS:
        heads += [
            Head(f"{channels} channels: s", ("s",)),
            Head("faster", ("faster",)),
            Head("of matmul, %", ("share",)),
        ]
    lines = []
    for variant in variants:
        cells = [Cell.of(variant)]
        for channels in CHANNELS:
            row = latest.get((variant, channels))
            cells.append(Cell.of(f"{float(row['step_seconds']):.3f}" if row else ""))
            cells.append(Cell.of(f"{float(row['faster']):.2f}" if row else ""))
            cells.append(Cell.of(f"{100 * float(row['share']):.0f}" if row else ""))
        lines.append(cells)
    used = sorted({f"{row['machine']}, {row['threads']} threads, torch {row['torch']}" for row in latest.values()})
    return markdown(Table("", heads, [lines], [f"on {'; '.join(used)}"]))
