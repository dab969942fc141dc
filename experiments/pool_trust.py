"""How far prior=pool should trust a spectrum, and how large its pool should be: `python -m experiments.pool_trust CSV`.

On the middles of photographs (`--photos FOLDER`), made smaller by 1 to 3, each blurred by a kernel of the pool's family,
though none of the pool: a row an image and setting. Sizes that
are there are not computed again; without photographs the rows that there are are summed up.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.utils import instantiate
from tqdm import tqdm

from experiments.bench import measure
from experiments.middles import middles
from kernelsr import metrics
from kernelsr.configure import compose_config
from kernelsr.data import Case, Scenario
from kernelsr.files import read_table, write_table
from kernelsr.seeds import generator
from kernelsr.statistics import paired_difference

USUAL = (1.6, 2000)
SETTINGS = [(trust, 2000) for trust in (0.4, 0.8, 1.6, 3.2, 6.4)] + [(1.6, count) for count in (500, 5000)]


def rows_of(case: Case, side: int) -> Iterator[dict[str, Any]]:
    problem, truth = case.load()
    assert truth.kernel is not None
    for trust, count in SETTINGS:
        words = [f"scale={problem.scale}", "prior=pool", f"prior.trust={trust}", f"prior.count={count}"]
        kernel = instantiate(compose_config(words).prior)(problem, generator(0, "pool"))()
        place = {"image": case.name, "side": side, "scale": problem.scale, "trust": trust, "count": count}
        yield place | {"kernel_psnr": metrics.kernel_psnr(kernel.double(), truth.kernel.double())} | measure.made()


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each size, scale and setting, and for all of them, paired with the usual setting."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[f"{row['side']} px x{row['scale']}"].append(row)
    for name, group in [*groups.items(), ("all", rows)]:
        scores: dict[tuple[float, int], dict[tuple[str, tuple[str, str]], float]] = defaultdict(dict)
        for row in group:  # a photograph at several sizes and scales is one image
            place = str(row["image"]), (str(row["side"]), str(row["scale"]))
            scores[float(row["trust"]), int(row["count"])][place] = float(row["kernel_psnr"])
        for (trust, count), values in scores.items():
            more = paired_difference(values, scores.get(USUAL, {}))
            if more is None:
                raise SystemExit(
                    f"there is no row of the usual setting, trust {USUAL[0]} and {USUAL[1]} kernels; give --photos"
                )
            yield f"{name}, trust {trust}, {count} kernels: {statistics.mean(values.values()):.2f} dB, {more}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--sides", nargs="*", type=int, default=[160, 320, 640], help="of the middles, HR pixels")
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 4])
    options = parser.parse_args()
    rows: list[Any] = list(read_table(options.csv))
    if not (rows or options.photos):
        raise SystemExit(f"{options.csv} has no rows; give --photos FOLDER")
    if options.photos:
        have = {(row["side"], row["scale"]) for row in rows}
        family = instantiate(compose_config(["family@data.family=broad"]).data.family)
        for side, scale in [(side, scale) for side in options.sides for scale in options.scales]:
            if (str(side), str(scale)) in have:
                continue
            with TemporaryDirectory() as folder:
                middles(options.photos, Path(folder), side)
                for case in tqdm(list(Scenario(folder, scale, family, rng="named")), desc=f"{side} px x{scale}"):
                    rows += rows_of(case, side)
            write_table(options.csv, rows)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
