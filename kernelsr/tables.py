"""The rows of a run as tables: how each metric is shown, means beside their floors, and the table for the terminal."""

from __future__ import annotations

import math
import statistics
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kernelsr.results import METRICS, Row

NOISE = "noise_std"
WIDEST = 9  # metrics that fit a line of the terminal
# and those it does without where there are more
SPARED = ("ssim_nonblind", "kernel_psnr_shifted", NOISE, "peak_memory_mb", "parameters")
VARIANCE_AIM = 0.05  # relative; below it non-blind restoration loses nothing visible


@dataclass(frozen=True)
class Column:
    """How a metric is shown: headers for terminal and page, unit, decimals, which end is better, and what it means."""

    key: str
    short: str
    name: str
    unit: str
    decimals: int
    better: str
    meaning: str

    def show(self, value: float | None) -> str:
        """The value as text: an en dash where it is unknown, or has no meaning (NaN)."""
        if value is None or math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        shown = value * 100 if self.unit == "%" else value
        return f"{shown:.{0 if self.unit == 's' and shown >= 100 else self.decimals}f}"


SHOWN = (
    Column(
        "psnr", "PSNR", "PSNR", "dB", 2, "high",
        "of the solver's image, on luma (Y), border of s pixels removed, where scoring= says no other",
    ),
    Column("ssim", "SSIM", "SSIM", "", 4, "high", "of the solver's image, on luma; 1 is identical"),
    Column(
        "psnr_nonblind", "nbPSNR", "PSNR, non-blind", "dB", 2, "high",
        "of the image that the non-blind restorer made with the estimated kernel",
    ),
    Column("ssim_nonblind", "nbSSIM", "SSIM, non-blind", "", 4, "high", "of the same image"),
    Column("variance_error", "var%", "Variance error", "%", 1, "low", "relative, of the kernel's variances: its width"),
    Column("kernel_psnr", "kPSNR", "Kernel PSNR", "dB", 2, "high", "of the estimated against the true kernel, peak 1"),
    Column(
        "kernel_psnr_shifted", "kPSNR*", "Kernel PSNR, shifted", "dB", 2, "high",
        "the best kernel PSNR over sub-pixel shifts: shape without position",
    ),
    Column(
        "centroid_error", "centre", "Centre error", "px", 2, "low",
        "distance between the kernels' centres of mass, in pixels of the HR grid",
    ),
    Column(
        "lr_psnr", "LR", "LR PSNR", "dB", 2, "high",
        "of the solver's image, degraded again by the estimated kernel, against the LR image; needs no truth",
    ),
    Column(
        NOISE, "noise%", "Noise", "%", 2, "",
        "standard deviation of the LR image's noise, of the range of values, as it was told or heard; of the papers' draws "
        "half the highest level is told",
    ),
    Column("seconds", "sec", "Time", "s", 1, "", "wall-clock time for the image"),
    Column("peak_memory_mb", "MB", "Memory", "MB", 0, "", "peak memory of the process or, on a GPU, of the device"),
    Column("parameters", "params", "Parameters", "", 0, "", "numbers that are optimised for the image"),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line of a table: by metric the mean and the number of values behind it, and how many images."""

    label: str
    values: dict[str, float | None]
    counts: dict[str, int]
    images: int
    floor: bool = False


def means(rows: Sequence[Row], floors: Sequence[Row]) -> list[Line]:
    """The mean line of each method, then of each floor over the images that have a result, so that they compare.

    Means are over known, finite values; with several scales each has its own lines.
    """
    done = [row for row in rows if not row.get("error")]
    images = {(row["image"], row.get("scale")) for row in done}
    beside = [row for row in floors if not row.get("error") and (row["image"], row.get("scale")) in images]
    several = len({row.get("scale") for row in done}) > 1
    lines = []
    for group, is_floor in ((done, False), (beside, True)):
        for method, scale in dict.fromkeys((row["method"], row.get("scale")) for row in group):
            members = [row for row in group if (row["method"], row.get("scale")) == (method, scale)]
            values = {key: [row[key] for row in members if known(row.get(key))] for key in METRICS}
            lines.append(
                Line(
                    label=f"{method}, x{scale}" if several else method,
                    values={key: statistics.fmean(seen) if seen else None for key, seen in values.items()},
                    counts={key: len(seen) for key, seen in values.items()},
                    images=len(members),
                    floor=is_floor,
                )
            )
    return lines


def columns_known(rows: Sequence[Row]) -> list[Column]:
    """The metrics that any image has: of a photograph without a truth few are left, and lines have no variances.

    Where no image has noise, there is no column of zeros for it.
    """
    return [
        column
        for column in SHOWN
        if any(column.show(row.get(column.key)) != "–" and (row[column.key] or column.key != NOISE) for row in rows)
    ]


def terminal_table(rows: Sequence[Row], floors: Sequence[Row]) -> str:
    """Plain text of at most 100 columns: a line an image, means by method, the floors' means, why images failed."""
    done = [row for row in rows if not row.get("error")]
    failed = [row for row in rows if row.get("error")]
    shown = columns_known([*rows, *floors])  # a method without an image of its own still has bicubic's beside it
    if len(shown) > WIDEST:
        shown = [column for column in shown if column.key not in SPARED]
    rule = "-" * (27 + 8 * len(shown))
    out: list[str] = []
    if done:
        out += [_terminal_line("image", [column.short for column in shown]), rule]
    groups = dict.fromkeys((row["method"], row.get("scale")) for row in done)
    for method, scale in groups:
        if len(groups) > 1:
            out.append(f"{_plain(method)}, x{scale}")
        members = [row for row in done if (row["method"], row.get("scale")) == (method, scale)]
        out += [_terminal_line(row["image"], [c.show(row.get(c.key)) for c in shown]) for row in members]
    if done:
        out.append(rule)
    for line in means(rows, floors):
        label = line.label if line.floor else f"mean {line.label}"
        out.append(_terminal_line(label, [c.show(line.values[c.key]) for c in shown]))
    if done:
        out.append(rule)
    if any(column.key == "kernel_psnr" for column in shown):
        out.append("PSNR of image (nb: non-blind), kernel (k; * shifted), degraded LR: dB. centre: px. var%: aim at 5.")
    for row in failed:
        text = f"failed: {_plain(row['image'])} ({_plain(row['method'])}): {_plain(row['error'])}"
        out += textwrap.wrap(text, width=99, subsequent_indent="        ")
    return "\n".join(out or ["no images yet"])


def sweep_table(runs: Sequence[tuple[str, Sequence[Row], Sequence[Row]]]) -> str:
    """The jobs of a sweep in one table: by data set a mean line for each method, then those of the floors and bounds.

    Args:
        runs: for each job what the data set is called, its rows and its floors.
    """
    rule = "-" * 100
    out: list[str] = []
    for data in dict.fromkeys(data for data, rows, _ in runs if rows):
        members = [run for run in runs if run[0] == data]
        # Every job of a data set has the same floors; the bounds differ where the non-blind restorer does.
        floors = {(row["image"], row["method"], row.get("scale")): row for _, _, floors in members for row in floors}
        rows = [row for _, rows, _ in members for row in rows]
        lines = means(rows, list(floors.values()))
        # What has no meaning on these data, as the variances of lines, is no column.
        told = {column.key for column in SHOWN if any(known(line.values[column.key]) for line in lines)}
        shown = [column for column in SHOWN if column.key in told and column.key not in SPARED]
        width = 100 - 8 * len(shown)  # a method's name with its scale is long
        images = len({row["image"] for row in rows})
        out += [rule, f"{_plain(data)}, {images} image{'' if images == 1 else 's'}"]
        out += [_terminal_line("mean over images", [column.short for column in shown], width)]
        out += [
            _terminal_line(line.label, [column.show(line.values[column.key]) for column in shown], width)
            for line in lines
        ]
        failed = sum(bool(row.get("error")) for row in rows)
        out += [f"{failed} failed and are left out"] if failed else []
    return "\n".join([*out, rule])


def known(value: Any) -> bool:
    """Whether a number is there to be averaged or compared: neither empty nor NaN nor infinite."""
    return value is not None and math.isfinite(value)


def _plain(text: str) -> str:
    """Text without characters that would move the terminal's cursor."""
    return "".join(c if c.isprintable() else " " for c in text)


def _terminal_line(label: str, cells: Sequence[str], width: int = 27) -> str:
    return _fit(_plain(label), width) + "".join(f"{cell:>8}" for cell in cells)


def _fit(text: str, width: int) -> str:
    """Text cut or filled to a width in terminal cells, of which an East Asian character takes two."""
    cells = [2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text]
    if sum(cells) > width:
        keep = next(n for n in range(len(cells), -1, -1) if sum(cells[:n]) <= width - 1)
        return text[:keep] + "…" + " " * (width - 1 - sum(cells[:keep]))
    return text + " " * (width - sum(cells))
