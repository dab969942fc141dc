"""A run for its reader: one self-contained HTML page, made from the files of the run alone."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from kernelsr import pictures
from kernelsr.metrics import FLOORS
from kernelsr.pictures import INFERNO, VIRIDIS
from kernelsr.results import Row, read_rows, read_trace, safe_name, write_text_atomically
from kernelsr.tables import SHOWN, VARIANCE_AIM, columns_known, known, means, sweep_table, terminal_table

__all__ = ["sweep_table", "terminal_table", "write_report"]

MEAN_KERNEL = FLOORS[0]
ERROR_PEAK = 32  # of 255; where the error map's colours end
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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kernelsr"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        date=_date(folder),
        settings=settings,
        shown=columns_known(rows),
        every_column=SHOWN,
        aim=VARIANCE_AIM,
        error_peak=ERROR_PEAK,
        inferno=", ".join(f"#{name}" for name in INFERNO),
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
        "failed": [row for row in rows if row.get("error")],
        "names": names,
        "done_names": [name for name in names if by_image[name]],
        "methods": list(dict.fromkeys(row["method"] for row in rows)),
        "scales": sorted({row["scale"] for row in rows if row.get("scale") is not None}),
        "varying": varying,
        "lines": lines,
        "best": _best([line.values for line in lines]),
        "best_of": {name: _best(group) for name, group in by_image.items()},
        "by_image": by_image,
        "anchors": {name: f"image-{number}" for number, name in enumerate(names, start=1)},
    }


def _best(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The best shown value of each metric, as shown; none where fewer than two rows know it."""
    best = {}
    for column in SHOWN:
        values = [row[column.key] for row in rows if known(row.get(column.key))]
        if column.better and len(values) > 1:
            best[column.key] = column.show(max(values) if column.better == "high" else min(values))
    return best


def _cards(folder: Path, rows: Sequence[Row], floors: Sequence[Row]) -> list[dict[str, Any]]:
    """The pictures and curves of each image that has a result."""
    names = list(dict.fromkeys(row["image"] for row in rows if not row.get("error")))
    constant = {row["image"]: row["kernel_psnr"] for row in floors if row["method"] == MEAN_KERNEL}
    limit, encode = (480, pictures.png) if len(names) <= MANY else (320, pictures.jpeg)
    cards = []
    for name in names:
        place = folder / safe_name(name)
        trace = read_trace(place / "trace.csv") if (place / "trace.csv").is_file() else []
        steps = [row["step"] for row in trace]
        cards.append(
            {
                "name": name,
                "folder": place.name,
                "figures": _figures(place, limit, encode),
                "kernels": _kernels(place),
                "loss": pictures.curve(steps, [row["loss"] for row in trace], log=True),
                "kernel_psnr": pictures.curve(steps, [row["kernel_psnr"] for row in trace], level=constant.get(name)),
            }
        )
    return cards


def _figures(place: Path, limit: int, encode: Callable[[np.ndarray], bytes]) -> list[dict[str, Any]]:
    """LR, SR, HR and error map, cropped alike to the middle where they are large."""
    lr, sr, hr = (_picture(place / f"{name}.png") for name in ("lr", "sr", "hr"))
    if lr is None or sr is None:
        return []
    scale = max(1, sr.shape[0] // lr.shape[0])
    window = pictures.centre_window((lr.shape[0], lr.shape[1]), scale, limit)
    rows, columns = (slice(part.start * scale, part.stop * scale) for part in window)
    wide = (rows, columns)
    small, large = lr[window], sr[wide]
    note = f"centre {large.shape[1]} × {large.shape[0]} of " if large.shape[:2] != sr.shape[:2] else ""
    full = f"{note}{sr.shape[1]} × {sr.shape[0]} px"
    # a small picture stays lossless: JPEG would smear the very pixels that are shown enlarged
    shown = [("LR", f"{note and 'centre of '}{lr.shape[1]} × {lr.shape[0]} px, enlarged", pictures.png(small), True)]
    crisp = max(large.shape[:2]) <= 256
    shown.append(("SR, estimated", full, encode(large), crisp))
    if hr is not None and hr.shape == sr.shape:
        # 8-bit images differ by whole levels; uint8 would wrap around
        error = np.abs(large.astype(np.float64) - hr[wide].astype(np.float64))
        error = error.mean(axis=2) if error.ndim == 3 else error
        shown.append(("HR, true", full, encode(hr[wide]), crisp))
        picture = encode(pictures.colour(error, ERROR_PEAK, INFERNO))
        shown.append(("Error |SR − HR|", f"mean {error.mean():.1f} of 255{note and ' in this crop'}", picture, crisp))
    return [
        {
            "name": name,
            "note": text,
            "uri": pictures.data_uri(data),
            "crisp": pixels,
            "error": name.startswith("Error"),
            "width": large.shape[1],
            "height": large.shape[0],
        }
        for name, text, data, pixels in shown
    ]


def _kernels(place: Path) -> list[dict[str, Any]]:
    """The true and the estimated kernel, of one size and one colour scale."""
    named = (("True kernel", "true_kernel.npy"), ("Estimated kernel", "kernel.npy"))
    found = [(name, np.load(place / file, allow_pickle=False)) for name, file in named if (place / file).is_file()]
    if not found:
        return []
    size = max(max(kernel.shape) for _, kernel in found)
    peak = max(float(np.nan_to_num(kernel).max()) for _, kernel in found)
    return [
        {
            "name": name,
            "note": f"{kernel.shape[1]} × {kernel.shape[0]}, peak {float(kernel.max()):.4f}",
            "size": size,
            "uri": pictures.data_uri(pictures.png(pictures.colour(pictures.pad_centred(kernel, size), peak, VIRIDIS))),
        }
        for name, kernel in found
    ]


def _picture(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return np.asarray(image)


def _date(folder: Path) -> str:
    """When the run began, from outputs/<date>/<time>; else when it last wrote a row."""
    resolved = folder.resolve()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", resolved.parent.name) and re.fullmatch(r"\d\d-\d\d-\d\d", resolved.name):
        return f"{resolved.parent.name} {resolved.name[:5].replace('-', ':')}"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / "rows.csv").stat().st_mtime))
