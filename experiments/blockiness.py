"""From which blockiness on an LR image counts as a JPEG: `python -m experiments.blockiness CSV --photos FOLDER`.

On the middles of photographs, made smaller by 1 to 3 and blurred by kernels of FKP: a row an image and quality, with noise or
none before. A few rows and columns are cut off, so that the grid may begin anywhere.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from experiments.bench import measure
from experiments.lr_patches import middles
from kernelsr.blocks import blockiness, was_jpeg
from kernelsr.capture import jpeg
from kernelsr.colours import grey
from kernelsr.data import Scenario
from kernelsr.files import read_table, write_table

SIDE = 320  # of the middles, HR pixels
QUALITIES = (60, 70, 80, 90, 95)
CUT = 3, 5  # pixels


def rows_of(photos: Path, scales: Sequence[int]) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        middles(photos, Path(folder), SIDE)
        for scale in scales:
            for level in (0, 10):
                scenario = Scenario(folder, scale, rng="named", noise_std=level / 255)
                for number, case in enumerate(tqdm(scenario, desc=f"x{scale}, noise {level}", mininterval=30)):
                    lr = case.load()[0].lr
                    down, right = (number * step % 8 for step in CUT)
                    for quality in (None, *QUALITIES):
                        seen = grey(lr if quality is None else jpeg(lr, quality))[..., down:, right:]
                        place = {"image": case.name, "scale": scale, "level": level, "quality": quality or "none"}
                        found = {"blockiness": blockiness(seen), "compressed": int(was_jpeg(seen))}
                        yield place | found | measure.made()


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How many images of each quality count as compressed."""
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in rows:
        groups[row["scale"], row["level"], row["quality"]].append(int(row["compressed"]))
    for (scale, level, quality), found in groups.items():
        yield f"x{scale}, noise {level}, quality {quality}: {sum(found)} of {len(found)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--photos", type=Path, help="without, the rows that there are are summed up")
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    options = parser.parse_args()
    if options.photos:
        write_table(options.csv, list(rows_of(options.photos, options.scales)))
    print(*summary(read_table(options.csv)), sep="\n")


if __name__ == "__main__":
    main()
