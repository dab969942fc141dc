"""A run for its reader: one self-contained HTML page, made from the files of the run alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernelsr import pictures
from kernelsr.charts import Line, best_step, lines_chart
from kernelsr.figures import Figure, image_figures, kernel_figure
from kernelsr.files import write_text_atomically
from kernelsr.metrics import FLOORS
from kernelsr.pages import best_shown, date_of, flag_words, render
from kernelsr.results import Row, read_rows, read_trace, safe_name
from kernelsr.tables import columns_known, means, sweep_table, terminal_table

__all__ = ["sweep_table", "terminal_table", "write_report"]

MEAN_KERNEL = FLOORS[0]
MANY = 12  # images from which on a page embeds smaller pictures, as JPEG


def write_report(folder: str | os.PathLike[str], *, title: str, settings: Mapping[str, str]) -> Path:
    """Rebuild report.html from the folder alone: one page that needs no network and no other file.

    Args:
        folder: a run's output folder, with rows.csv and, where there are any, floors.csv and the images' folders.
        title: the page's headline.
        settings: the run's settings, shown as a table in this order.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: there is no rows.csv.
        ValueError: rows.csv or floors.csv is damaged.
        OSError: the page cannot be written.
    """
    folder = Path(folder)
    if not (folder / "rows.csv").is_file():
        raise FileNotFoundError(f"{folder} holds no rows.csv; give the output folder of a run")
    rows = read_rows(folder / "rows.csv")
    floors = read_rows(folder / "floors.csv") if (folder / "floors.csv").is_file() else []
    page = render(
        "report.html.j2",
        title=title,
        date=date_of(folder, [folder / "rows.csv"]),
        settings=settings,
        shown=columns_known([*rows, *floors]),
        **_tables(rows, floors),
        cards=_cards(folder, rows, floors),
    )
    path = folder / "report.html"
    write_text_atomically(path, page)
    return path


def _tables(rows: Sequence[Row], floors: Sequence[Row]) -> dict[str, Any]:
    """What the page's headline and tables show."""
    done = [row for row in rows if not row.get("error")]
    lines = means(rows, floors)
    names = list(dict.fromkeys(row["image"] for row in rows))
    varying = [key for key in ("method", "scale", "seed") if len({row.get(key) for row in rows}) > 1]
    by_image = {name: [row for row in done if row["image"] == name] for name in names}
    return {
        "rows": rows,
        "flagged_words": flag_words(done),
        "failed": [row for row in rows if row.get("error")],
        "names": names,
        "done_names": [name for name in names if by_image[name]],
        "methods": list(dict.fromkeys(row["method"] for row in rows)),
        "scales": sorted({row["scale"] for row in rows if row.get("scale") is not None}),
        "varying": varying,
        "lines": lines,
        "best": best_shown([line.values for line in lines]),
        "best_of": {name: best_shown(group) for name, group in by_image.items()},
        "by_image": by_image,
        "anchors": {name: f"image-{number}" for number, name in enumerate(names, start=1)},
    }


def _cards(folder: Path, rows: Sequence[Row], floors: Sequence[Row]) -> list[dict[str, Any]]:
    """The pictures and curves of each image that has a result."""
    names = list(dict.fromkeys(row["image"] for row in rows if not row.get("error")))
    constant = {row["image"]: row["kernel_psnr"] for row in floors if row["method"] == MEAN_KERNEL}
    limit, encode = (480, pictures.png) if len(names) <= MANY else (320, pictures.jpeg)
    cards = []
    for name in names:
        place = folder / safe_name(name)
        trace = read_trace(place / "trace.csv") if (place / "trace.csv").is_file() else []
        steps, best = [row["step"] for row in trace], best_step(trace)
        losses, scores = ([row[key] for row in trace] for key in ("loss", "kernel_psnr"))
        cards.append(
            {
                "name": name,
                "folder": place.name,
                "figures": list(image_figures(place, limit, encode).values()),
                "kernels": _kernels(place),
                "loss": lines_chart([Line(steps, losses, best=best)], log=True),
                "kernel_psnr": lines_chart([Line(steps, scores, best=best)], level=constant.get(name)),
                "best": None if best is None else trace[steps.index(best)],
            }
        )
    return cards


def _kernels(place: Path) -> list[Figure]:
    """The true and the estimated kernel, of one size and one colour scale."""
    named = (("True kernel", "true_kernel.npy"), ("Estimated kernel", "kernel.npy"))
    found = [(name, kernel) for name, file in named if (kernel := pictures.load_kernel(place / file)) is not None]
    size = max((max(kernel.shape) for _, kernel in found), default=0)
    peak = max((float(np.nan_to_num(kernel).max()) for _, kernel in found), default=0.0)
    return [kernel_figure(name, kernel, size, peak) for name, kernel in found]
