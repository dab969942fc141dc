"""The middles of photographs, by which limits and factors are chosen that the benchmark sets then test."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from kernelsr.files import read_table, write_table
from kernelsr.images import image_files

Row = dict[str, Any]


def middles(photos: Path, folder: Path, side: int) -> Path:
    """The middle of every third photograph, made smaller by 1 to 3, as PNGs in a folder: ``side`` pixels or what there is."""
    for number, path in enumerate(image_files(photos)[::3]):
        small = smaller(Path(path), 1 + 0.5 * (number % 5))
        left, top = (max(0, (length - side) // 2) for length in small.size)
        small.crop((left, top, min(left + side, small.width), min(top + side, small.height))).save(
            folder / f"{Path(path).stem}.png"
        )
    return folder


def smaller(path: Path, shrink: float) -> Image.Image:
    """A photograph with sides that are smaller by a factor, and so sharper."""
    with Image.open(path) as photograph:
        size = int(photograph.width / shrink), int(photograph.height / shrink)
        return photograph.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def command(
    about: str | None,
    rows_of: Callable[[Path, int, Sequence[int]], Iterator[Row]],
    summary: Callable[[Sequence[Mapping[str, Any]]], Iterable[str]],
    *,
    side: int,
    scales: Sequence[int],
) -> None:
    """A command line that keeps what ``rows_of`` the middles of ``--photos`` makes in a CSV, and sums it up."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--photos", type=Path, help="without, the rows that there are are summed up")
    parser.add_argument("--side", type=int, default=side, help="of the photographs' middles, HR pixels")
    parser.add_argument("--scales", nargs="*", type=int, default=list(scales))
    options = parser.parse_args()
    if options.photos:
        write_table(options.csv, list(rows_of(options.photos, options.side, options.scales)))
    print(*summary(read_table(options.csv)), sep="\n")
