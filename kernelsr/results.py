"""The files of a run: rows.csv and floors.csv, and for each image its kernel, pictures and trace.

Every file is written whole or not at all, so a run that is stopped loses at most the image it was working on.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from torch import Tensor

from kernelsr.files import locked, write_bytes_atomically, write_text_atomically
from kernelsr.pictures import VIRIDIS, as_8bit, colour, enlarge, png
from kernelsr.problem import Estimate, Problem, Truth

Row = dict[str, Any]

NAMES = ("image", "data", "method")
MADE = ("cell", "command", "version", "machine", "date")
WORDS = (*NAMES, "flags", "error", *MADE)
COUNTS = ("scale", "seed")
METRICS = (
    "psnr",
    "ssim",
    "psnr_nonblind",
    "ssim_nonblind",
    "kernel_psnr",
    "centroid_error",
    "variance_error",
    "kernel_psnr_shifted",
    "lr_psnr",
    "noise_std",
    "seconds",
    "peak_memory_mb",
    "parameters",
)
COLUMNS = (*NAMES, *COUNTS, *METRICS, "flags", "error", *MADE)
SAME = ("image", "data", "method", "scale", "seed", "command")
"""What tells rows apart: a row that agrees in all of these with one that is there takes its place."""
LATER = ("noise_std",)
"""Columns that tables of earlier versions may lack."""
TRACE_COLUMNS = ("step", "loss", "kernel_psnr")


def safe_name(name: str) -> str:
    """An image's name as the name of its folder: unchanged where harmless, else cleaned and told apart by a hash."""
    clean = re.sub(r"[^\w.() +=,-]", "_", name).strip(" .")
    if name and clean == name and len(name) <= 60:
        return name
    return f"{clean[:53] or 'image'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def put_rows(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Add rows to rows.csv (or floors.csv), which is made where missing; a row that is there already is replaced.

    Several processes may put rows into one file: each waits for the other.

    Args:
        path: the CSV file.
        rows: values by column of ``COLUMNS``; a missing one or None is an empty cell: unknown.

    Raises:
        ValueError: a column is unknown, or the file there is not such a table; it is then left as it is.
        OSError: the folder cannot be written.
    """
    if unknown := sorted({column for row in rows for column in row} - set(COLUMNS)):
        raise ValueError(f"unknown column {', '.join(unknown)}; the columns are {', '.join(COLUMNS)}")
    path = Path(path)
    with locked(path.with_name(f".{path.name}.lock")):
        there = read_rows(path) if path.exists() else []
        kept = {_same(row): row for row in [*there, *rows]}
        write_rows(path, list(kept.values()))


def write_rows(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Write a whole table, in place of what is there."""
    write_text_atomically(path, _csv_text(COLUMNS, rows))


def _same(row: Row) -> tuple[str, ...]:
    return tuple(_cell(row.get(column)) for column in SAME)


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of rows.csv (or floors.csv): words as str, scale and seed as int, metrics as float, empty cells as None.

    Raises:
        ValueError: the file is not such a table or was cut off; names the line and the remedy.
    """
    return _read(Path(path), COLUMNS)


def read_trace(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of trace.csv: step as int, loss and kernel_psnr as float or None."""
    return _read(Path(path), TRACE_COLUMNS)


def save_estimate(
    folder: str | os.PathLike[str],
    estimate: Estimate,
    problem: Problem,
    truth: Truth | None,
    trace: Sequence[Row],
) -> None:
    """Save what was estimated for one image, and for the report what it was estimated from.

    Writes kernel.npy (K, K) float64, kernel.mat (the same under ``Kernel``; a cross-correlation kernel, as everywhere
    here), kernel.png, lr.png, trace.csv and, where an image was made, sr.png: the non-blind one where there is one, beside
    the solver's in solver.png. Where known, hr.png and true_kernel.npy. An image of neither one nor three channels also
    becomes an .npy (C, H, W): its .png shows only the first three channels (of two, the mean).

    Args:
        folder: the image's own folder, ``safe_name(name)`` in the run's folder; made where missing.
        estimate: what the solver returned.
        problem: what it was given.
        truth: what was withheld, or None.
        trace: dicts of step, loss and, with a true kernel, kernel_psnr.

    Raises:
        OSError: the folder cannot be written; one sentence names it and the remedy.
    """
    folder = Path(folder)
    kernel = _kernel_array(estimate.kernel)
    write_bytes_atomically(folder / "kernel.npy", _npy(kernel))
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"Kernel": kernel})
    write_bytes_atomically(folder / "kernel.mat", mat.getvalue())
    write_bytes_atomically(folder / "kernel.png", png(enlarge(colour(kernel, kernel.max(), VIRIDIS), at_least=192)))
    _save_image(folder / "lr.png", problem.lr)
    for stale in ("sr.png", "sr.npy", "solver.png", "solver.npy", "hr.png", "hr.npy", "true_kernel.npy"):
        with contextlib.suppress(OSError):
            (folder / stale).unlink()
    if estimate.restored is not None:
        _save_image(folder / "sr.png", estimate.restored)
    if estimate.nonblind is not None and estimate.image is not None:
        _save_image(folder / "solver.png", estimate.image)
    if truth is not None and truth.hr is not None:
        _save_image(folder / "hr.png", truth.hr)
    if truth is not None and truth.kernel is not None:
        write_bytes_atomically(folder / "true_kernel.npy", _npy(_kernel_array(truth.kernel)))
    write_text_atomically(folder / "trace.csv", _csv_text(TRACE_COLUMNS, trace))


def _save_image(path: Path, image: Tensor) -> None:
    array = image.detach().cpu().numpy()[0]
    write_bytes_atomically(path, png(as_8bit(array)))
    if array.shape[0] not in (1, 3):
        write_bytes_atomically(path.with_suffix(".npy"), _npy(array))


def _kernel_array(kernel: Tensor) -> np.ndarray:
    return np.ascontiguousarray(kernel.detach().cpu().double().numpy()[0, 0])


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _csv_text(columns: Sequence[str], rows: Sequence[Row]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value.item() if hasattr(value, "item") else value)


def _read(path: Path, columns: Sequence[str]) -> list[Row]:
    remedy = "it was not written by this run; move it away or choose another output folder"
    try:
        text = path.read_bytes().decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a whole CSV file ({error}); {remedy}") from error
    present = [column for column in columns if column not in LATER or (lines and column in lines[0])]
    if not lines or lines[0] != present:
        found = ",".join(lines[0])[:80] if lines else "nothing"
        raise ValueError(f"{path} begins with {found!r} where the columns {','.join(columns)} belong; {remedy}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(present):
            raise ValueError(
                f"row {number} of {path} has {len(line)} cells, not {len(present)}, as if cut off; mend or delete it"
            )
        cells = dict(zip(present, line, strict=True))
        try:
            rows.append({column: _value(column, cells.get(column, "")) for column in columns})
        except ValueError as error:
            raise ValueError(f"row {number} of {path} cannot be read ({error}); mend or delete it") from error
    return rows


def _value(column: str, cell: str) -> str | int | float | None:
    if column in WORDS:
        return cell
    if not cell:
        return None
    return int(cell) if column in (*COUNTS, "parameters", "step") else float(cell)
