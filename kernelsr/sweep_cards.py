"""A sweep's images one by one, all methods beside one another: pictures, kernels and curves within a budget of bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernelsr import pictures
from kernelsr.charts import Line, best_step, lines_chart
from kernelsr.figures import Encoder, Figure, image_figures, kernel_figure
from kernelsr.metrics import FLOORS
from kernelsr.results import Row, read_trace, safe_name
from kernelsr.tables import known

PIXELS = 8_000_000  # of all pictures together: some megabytes of JPEG
LARGEST, SMALLEST = 480, 128  # pixels a side of a picture
FEW, MANY = 8, 24  # pictures up to which they are lossless, and from which on they are small
POINTS = 60_000  # of all curves together


@dataclass(frozen=True)
class Place:
    """What belongs together in a sweep: one data set at one scale, the rows of all methods, and the floors."""

    data: str
    scale: int | None
    rows: list[Row]
    floors: list[Row]


def final(row: Row, metric: str) -> float | None:
    """PSNR or SSIM of the image that comes out: the non-blind one where there is one, else the solver's."""
    beside: float | None = row[f"{metric}_nonblind"]
    return beside if beside is not None else row[metric]


def cards(places: Sequence[Place], styles: Mapping[str, int]) -> list[dict[str, Any]]:
    """Pictures and curves of the images of a sweep; where there are too many for one page, those with flags come first.

    Args:
        styles: of each method the number of its colour.
    """
    found = [group for place in places for group in _groups(place)]
    ranked = sorted(found, key=lambda group: not any(row["flags"] for row in group[2]))
    kept: list[int] = []
    count = 0
    for group in ranked:
        # LR and HR are of the image; SR and the error map of each method; a kernel weighs little.
        count += 2 + 2 * len(group[2])
        if kept and count * SMALLEST**2 > PIXELS:
            break
        kept.append(id(group))
    chosen = [group for group in found if id(group) in kept]
    pictured = sum(2 + 2 * len(group[2]) for group in chosen)
    limit = max(SMALLEST, min(LARGEST, math.isqrt(PIXELS // max(1, pictured))))
    encode = pictures.png if pictured <= FEW else pictures.jpeg if pictured < MANY else pictures.small_jpeg
    points = max(30, min(240, POINTS // max(1, sum(2 * len(group[2]) for group in chosen))))
    return [
        _card(place, name, rows, styles, limit, encode, points) | {"anchor": f"image-{number}"}
        for number, (place, name, rows) in enumerate(chosen, 1)
    ]


def _groups(place: Place) -> list[tuple[Place, str, list[Row]]]:
    """For each image with a result the rows to show, one a method: that of its lowest seed, a failed one if need be."""
    groups = []
    for name in dict.fromkeys(row["image"] for row in place.rows if not row["error"]):
        mine = [row for row in place.rows if row["image"] == name]
        mine.sort(key=lambda row: (bool(row["error"]), row["seed"] or 0))
        first = {method: next(row for row in mine if row["method"] == method) for method in _methods(place, mine)}
        groups.append((place, name, list(first.values())))
    return groups


def _methods(place: Place, rows: Sequence[Row]) -> list[str]:
    """The methods of some rows, in the order of the sweep."""
    here = {row["method"] for row in rows}
    return [method for method in dict.fromkeys(row["method"] for row in place.rows) if method in here]


def _card(
    place: Place, name: str, rows: Sequence[Row], styles: Mapping[str, int], limit: int, encode: Encoder, points: int
) -> dict[str, Any]:
    folders = [row["job"].folder / safe_name(name) for row in rows]
    kernels = [pictures.load_kernel(folder / "kernel.npy") for folder in folders]
    truths = (pictures.load_kernel(folder / "true_kernel.npy") for folder in folders)
    true = next((kernel for kernel in truths if kernel is not None), None)
    size = max((max(kernel.shape) for kernel in [true, *kernels] if kernel is not None), default=0)
    traces = [_trace(folder / "trace.csv") for folder in folders]
    bests = [best_step(trace) for trace in traces]
    columns = [
        {
            "row": row,
            "style": styles[row["method"]],
            "psnr": final(row, "psnr"),
            "ssim": final(row, "ssim"),
            "variance_error": row["variance_error"] if known(row["variance_error"]) else None,
            "figures": image_figures(folder, limit, encode, ("sr", "error")),
            "kernel": _kernel("Estimated kernel", kernel, size, true),
            "best": next((point for point in trace if point["step"] == best), None) if best is not None else None,
            "last": trace[-1] if trace else None,
        }
        for row, folder, kernel, trace, best in zip(rows, folders, kernels, traces, bests, strict=True)
    ]
    level = [row["kernel_psnr"] for row in place.floors if (row["image"], row["method"]) == (name, FLOORS[0])]

    def lines(key: str) -> list[Line]:
        return [
            Line([point["step"] for point in trace], [point[key] for point in trace], styles[row["method"]], best)
            for row, trace, best in zip(rows, traces, bests, strict=True)
        ]

    return {
        "name": name,
        "place": place,
        "given": next(filter(None, (image_figures(folder, limit, encode, ("lr", "hr")) for folder in folders)), {}),
        "true_kernel": _kernel("True kernel", true, size, true),
        "columns": columns,
        "loss": lines_chart(lines("loss"), log=True, points=points),
        "kernel_psnr": lines_chart(lines("kernel_psnr"), level=level[0] if level else None, points=points),
    }


def _kernel(name: str, kernel: np.ndarray | None, size: int, true: np.ndarray | None) -> Figure | None:
    """A kernel in the colours of the true one, so that kernels compare; in its own where none is known."""
    if kernel is None:
        return None
    peak = float(np.nan_to_num(kernel if true is None else true).max())
    return kernel_figure(name, kernel, size, peak)


def _trace(path: Path) -> list[Row]:
    """The rows of a trace.csv with a step; none where the file is missing or damaged."""
    try:
        return [row for row in read_trace(path) if known(row["step"])]
    except (OSError, ValueError):
        return []
