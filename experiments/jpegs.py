"""What USRNet gains by being told of JPEG's errors: `python -m experiments.jpegs CSV --photos FOLDER`.

On the middles of photographs, made smaller by 1 to 3 and blurred by kernels of FKP: a row an image and quality, with the
error that is read off the LR image, and the PSNR of USRNet's image with the true kernel, told so many times that as noise.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from experiments.bench import measure
from experiments.middles import command, middles
from kernelsr import metrics
from kernelsr.capture import jpeg
from kernelsr.compression import compression_error
from kernelsr.configure import compose_config, restore
from kernelsr.data import Scenario
from kernelsr.statistics import paired_difference

QUALITIES = (60, 80, 95)
TIMES = (0, 1, 1.5, 2)


def rows_of(photos: Path, side: int, scales: Sequence[int]) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        middles(photos, Path(folder), side)
        for scale in scales:
            for case in tqdm(Scenario(folder, scale, rng="named"), desc=f"x{scale}", mininterval=30):
                clean, truth = case.load()
                assert truth.kernel is not None and truth.hr is not None
                for quality in (None, *QUALITIES):
                    posed = clean if quality is None else replace(clean, lr=jpeg(clean.lr, quality))
                    found = compression_error(posed.lr)
                    row = {"image": case.name, "side": side, "scale": scale, "quality": quality or "none"}
                    row |= {"error_found": 255 * found}
                    row |= {"error": 255 * (posed.lr - clean.lr).square().mean().sqrt().item()}
                    for times in TIMES if quality else ():
                        cfg = compose_config(["nonblind=usrnet", f"nonblind.noise_std={times * found}"])
                        image = restore(cfg, posed, truth.kernel, case.name)
                        assert image is not None
                        score = metrics.score_image(image, truth.hr, metrics.Scoring(scale))
                        row |= {f"psnr_{times}": score["psnr"]}
                    yield row | measure.made()


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of each scale and quality: how many are found, and what the image gains by being told of it."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[str(row["scale"]), str(row["quality"])].append(row)
    for (scale, quality), group in groups.items():
        line = (
            f"x{scale}, quality {quality}: {sum(float(row['error_found']) > 0 for row in group)} of {len(group)} found"
        )
        if quality != "none":
            medians = (statistics.median(float(row[key]) for row in group) for key in ("error_found", "error"))
            line += ", error found {:.1f} of {:.1f}".format(*medians)
            for times in TIMES[1:]:
                line += f"; x{times} {paired_difference(scores(group, times), scores(group, 0))} dB"
        yield line


def scores(rows: Sequence[Mapping[str, Any]], times: float) -> dict[tuple[str, int | None], float]:
    return {(str(row["image"]), None): float(row[f"psnr_{times}"]) for row in rows}


if __name__ == "__main__":
    command(__doc__, rows_of, summary, side=192, scales=(2, 4))
