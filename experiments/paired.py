"""Rows of the same images side by side: what names an image's row, and what two columns differ by."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import degradations
from kernelsr.files import read_table
from kernelsr.statistics import Difference, paired_difference

PLACE = ("data", "scale", "image", "copy")
Place = tuple[str, ...]
Values = dict[tuple[tuple[str, str], Place], float]
"""Of photographs, by set and name, each at several places."""


def place_of(row: Mapping[str, Any]) -> Place:
    """What names a row; few have a copy, a smaller one of the image, and the others are none, 0."""
    return tuple(str(row.get(key) or 0) for key in PLACE)


def key_of(row: Mapping[str, Any]) -> tuple[tuple[str, str], Place]:
    """What the statistics know a row by: its photograph, which counts once, and its place."""
    return (row["data"], row["image"]), place_of(row)


def by_place(path: Path | None, worse: Mapping[str, Any]) -> dict[Place, Mapping[str, Any]]:
    """The rows of a table, if there is one, that are of images with as much noise and JPEG."""
    rows = read_table(path) if path else []
    return {place_of(row): row for row in rows if degradations.columns_of(row) == worse}


def same_kernel(row: Mapping[str, Any], other: Mapping[str, Any], prior: str) -> bool:
    """Whether both have the same kernel of ``prior``, if the first has any."""
    column = f"kernel_psnr_{prior}"
    return column in row and math.isclose(float(row[column]), other[column], abs_tol=0.01)


def values(rows: Sequence[Mapping[str, Any]], column: str) -> Values:
    """Of a column, as the statistics take them; where there is one."""
    return {key_of(row): float(row[column]) for row in rows if row.get(column)}


def compared(rows: Sequence[dict[str, Any]], column: str, other: str) -> Difference:
    """How much one score is higher than another of the same images, in dB."""
    found = paired_difference(values(rows, column), values(rows, other))
    assert found is not None
    return found


def held(rows: Sequence[Mapping[str, Any]], inside: Sequence[str] = ("narrow_inside", "wide_inside")) -> str:
    """How many of the true numbers the intervals hold, with the share's own interval over photographs.

    Args:
        inside: columns, 1 for a number that is.
    """
    shares = {key_of(row): 100.0 * statistics.mean(int(row[column]) for column in inside) for row in rows}
    found = paired_difference(shares, dict.fromkeys(shares, 0.0))
    assert found is not None
    return f"{found.mean:.0f} %" + ("" if found.low is None else f" [{found.low:.0f}, {found.high:.0f}]")
