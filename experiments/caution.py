"""How cautious prior=amortised should be: `python -m experiments.caution CSV --photos FOLDER`.

Too wide a kernel costs the image more than too narrow a one, so the posterior's mean is not the kernel that costs least.
On the middles of photographs, made smaller by 1 to 3: a row an image and caution, with the decibels that USRNet's image lies
below the one with the true kernel. Every third photograph, most of which the network has seen in training; with `--noise` or
`--jpeg` if they are given.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from experiments import degradations
from experiments.bench import measure
from experiments.middles import middles
from experiments.paired import Values, key_of
from kernelsr import metrics, priors
from kernelsr.configure import compose_config, restore
from kernelsr.data import Case, Scenario
from kernelsr.files import read_table, write_table
from kernelsr.statistics import paired_difference

SIDE = 320  # of the middles, HR pixels
CAUTIONS = (-0.25, 0.0, 0.25, 0.5, 0.75, 1.0)


def rows_of(case: Case, worse: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    problem, truth = degradations.load(case, worse["told"])
    assert truth.kernel is not None and truth.hr is not None
    scores = {}
    cfg = compose_config([f"scale={problem.scale}", "nonblind=usrnet"])
    for caution in (None, *CAUTIONS):
        kernel = truth.kernel
        if caution is not None:
            kernel = priors.Amortised(problem, torch.Generator(), caution=caution)()
        image = restore(cfg, problem, kernel, case.name)
        assert image is not None
        scores[caution] = metrics.score_image(image, truth.hr, metrics.Scoring(problem.scale))["psnr"]
    for caution in CAUTIONS:
        lost = scores[None] - scores[caution]
        place = {"image": case.name, "scale": problem.scale} | dict(worse)
        yield place | {"caution": caution, "lost": lost} | measure.made()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--photos", type=Path, help="without, the rows that there are are summed up")
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    degradations.add_options(parser)
    options = parser.parse_args()
    if options.photos is None:
        print(*summary(read_table(options.csv)), sep="\n")
        return
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        middles(options.photos, Path(folder), SIDE)
        for scale in options.scales:
            cases = list(Scenario(Path(folder), scale, rng="named", **degradations.settings(options)))
            for case in tqdm(cases, desc=f"x{scale}", mininterval=30):
                rows += rows_of(case, degradations.columns(options))
            write_table(options.csv, rows)
    print(*summary(rows), sep="\n")


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each scale and caution, and one for all scales, paired with no caution."""
    for scale in [*sorted({str(row["scale"]) for row in rows}), "all"]:
        lost: dict[float, Values] = defaultdict(dict)
        for row in rows:
            if scale in ("all", str(row["scale"])):
                lost[float(row["caution"])][key_of({"data": "", **row})] = float(row["lost"])
        for caution, values in lost.items():
            more = paired_difference(values, lost.get(0.0, {}))
            assert more is not None
            lost_here = f"{statistics.mean(values.values()):.3f} dB lost in the mean of {len(values)}"
            yield f"{scale} caution {caution}: {lost_here}, {more} against none"


if __name__ == "__main__":
    main()
