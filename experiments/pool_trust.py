"""How far prior=pool should trust a spectrum, and how large its pool should be: `python -m experiments.pool_trust CSV`.

On the middles of photographs (`--photos FOLDER`), made smaller by 1 to 3, each blurred by a kernel of the pool's family,
though none of the pool: a row an image and setting. Without photographs the rows that there are are summed up.
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
from experiments.bench.scaling import known
from experiments.caution import middles
from kernelsr import metrics
from kernelsr.configure import compose_config, restore
from kernelsr.data import Case, Scenario, generator
from kernelsr.files import write_table
from kernelsr.statistics import paired_difference

SETTINGS = [(trust, 2000) for trust in (0.003, 0.01, 0.03, 0.1)] + [(0.01, count) for count in (500, 5000)]
USUAL = (0.01, 2000)


def rows_of(case: Case) -> Iterator[dict[str, Any]]:
    problem, truth = case.load()
    assert truth.kernel is not None and truth.hr is not None
    for trust, count in SETTINGS:
        words = [
            f"scale={problem.scale}",
            "prior=pool",
            "nonblind=usrnet",
            f"prior.trust={trust}",
            f"prior.count={count}",
        ]
        cfg = compose_config(words)
        prior = instantiate(cfg.prior)(problem, generator(0, "pool"))
        kernel, weights = prior(), prior.get_buffer("weights")
        image = restore(cfg, problem, kernel, case.name)
        assert image is not None
        found = {
            "kernel_psnr": metrics.kernel_psnr(kernel.double(), truth.kernel.double()),
            "psnr_nonblind": metrics.score_image(image, truth.hr, metrics.Scoring(problem.scale))["psnr"],
            "kernels": 1 / weights.square().sum().item(),
        }
        yield {"image": case.name, "scale": problem.scale, "trust": trust, "count": count} | found | measure.made()


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each setting, paired with the usual one; images and scales are pairs alike."""
    for measured in ("kernel_psnr", "psnr_nonblind"):
        scores: dict[tuple[float, int], dict[tuple[tuple[str, str], int | None], float]] = defaultdict(dict)
        for row in rows:
            setting = float(row["trust"]), int(row["count"])
            scores[setting][(row["image"], str(row["scale"])), None] = float(row[measured])
        for (trust, count), values in scores.items():
            more = paired_difference(values, scores[USUAL])
            assert more is not None
            yield (
                f"{measured}, trust {trust}, {count} kernels: {statistics.mean(values.values()):.2f} dB, "
                f"{more.mean:+.2f} [{more.low or 0:+.2f}, {more.high or 0:+.2f}]"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    options = parser.parse_args()
    rows: list[Any] = list(known(options.csv))
    if options.photos:
        family = instantiate(compose_config(["family@data.family=broad"]).data.family)
        with TemporaryDirectory() as folder:
            middles(options.photos, Path(folder))
            for scale in options.scales:
                for case in tqdm(list(Scenario(folder, scale, family, rng="named")), desc=f"x{scale}", mininterval=30):
                    rows += rows_of(case)
                write_table(options.csv, rows)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
