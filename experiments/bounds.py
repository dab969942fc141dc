"""What it is worth that an image lies within [0, 1]: `python -m experiments.bounds CSV --sets set5 set14`.

A row an image: scores of prior=amortised's kernel, and of start=bounded's, which is smaller where USRNet's image left that
range. Where it is, also the PSNR of what the non-blind restorer makes of either and of the true kernel; elsewhere they are
one kernel, and nothing is gained. Images that the CSV has are not computed again. Degraded as in the papers: FKP's kernels,
seed 1. `--photos FOLDER` takes the middles of photographs, most of which the amortised network has seen in training.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from experiments.bench import measure
from experiments.calibration import Network, scored
from experiments.middles import middles
from kernelsr import amortised, metrics, priors, restorers
from kernelsr.configure import compose_config, restore
from kernelsr.data import Case, Scenario
from kernelsr.files import read_table, write_table
from kernelsr.official import find_image_set
from kernelsr.statistics import paired_difference

SETS = ("set5", "set14", "bsd100")
SIDE = 320  # of the middles, HR pixels
Row = dict[str, Any]
Place = tuple[str, str, str]


def place(row: Mapping[str, Any]) -> Place:
    return row["data"], str(row["image"]), str(row["scale"])


def row_of(name: str, case: Case, outside: float, cfg: DictConfig, network: Network) -> Row:
    problem, truth = case.load()
    assert truth.kernel is not None and truth.hr is not None
    fit = partial(priors.Amortised, network=network)
    plain = fit(problem, torch.Generator())
    found = priors.Bounded(problem, torch.Generator(), fit=fit, restorer=restorers.Usrnet, outside=outside)
    used = {"amortised": plain(), "bounded": found(), "true": truth.kernel}
    smaller = ((plain.chosen - found.chosen)[0] / plain.belief.spread()[0, 0]).item()
    row: Row = {"data": name, "image": case.name, "scale": problem.scale, "outside": outside, "smaller": smaller}
    row |= scored("amortised", used["amortised"], truth.kernel) | scored("bounded", used["bounded"], truth.kernel)
    if smaller:
        for prior, kernel in used.items():
            image = restore(cfg, problem, kernel, case.name)
            assert image is not None
            row[f"psnr_{prior}"] = metrics.score_image(image, truth.hr, metrics.Scoring(problem.scale))["psnr"]
    return row | measure.made()


def values(rows: Sequence[Mapping[str, Any]], column: str) -> dict[tuple[Place, int | None], float]:
    """Of each image, for the statistics; 0 where there is no value, as there both priors have one kernel."""
    return {(place(row), None): float(row.get(column) or 0) for row in rows}


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each set and scale, and for all of them."""
    for key in [*sorted({(row["data"], str(row["scale"])) for row in rows}), None]:
        group = [row for row in rows if key in (None, (row["data"], str(row["scale"])))]
        ours, theirs = values(group, "psnr_bounded"), values(group, "psnr_amortised")
        gains = [ours[image] - theirs[image] for image in ours]
        kernel = paired_difference(values(group, "kernel_psnr_bounded"), values(group, "kernel_psnr_amortised"))
        before, after = (
            100 * statistics.median(values(group, f"variance_error_{prior}").values())
            for prior in ("amortised", "bounded")
        )
        name = f"{key[0]} x{key[1]}" if key else "all"
        yield (
            f"{name}: {sum(float(row['smaller']) > 0 for row in group)} of {len(group)} smaller; image "
            f"{paired_difference(ours, theirs)} dB, from {min(gains):+.2f} to {max(gains):+.2f}; kernel {kernel} dB; "
            f"median variance error {before:.1f} to {after:.1f} %"
        )


def lost(rows: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How far images are below the true kernel's, those of unchanged kernels by the rows of experiments.calibration."""
    before = {place(row): row for row in plain}
    for scale in [*sorted({str(row["scale"]) for row in rows}), "all"]:
        true: dict[tuple[Place, int | None], float] = {}
        ours, theirs = dict(true), dict(true)
        for row in rows:
            if scale in ("all", str(row["scale"])) and (there := before.get(place(row))):
                key = place(row), None
                true[key], theirs[key] = float(there["psnr_true"]), float(there["psnr_amortised"])
                ours[key] = float(row["psnr_bounded"]) if float(row["smaller"]) else theirs[key]
        if true:
            below, was = paired_difference(true, ours), paired_difference(true, theirs)
            yield f"x{scale} ({len(true)}): the true kernel's images {below} dB better, than prior=amortised's {was}"


def scenarios(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Scenario]]:
    for scale in options.scales:
        if options.photos:
            yield "photographs", Scenario(folder, scale, rng="named")
        else:
            yield from ((name, Scenario(find_image_set(name), scale)) for name in options.sets or SETS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--sets", nargs="*", help="all three by default; with --report, all that the rows are of")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    parser.add_argument("--every", type=int, default=1, help="take each so manieth image")
    parser.add_argument("--outside", type=float, default=200.0, help="start.outside")
    parser.add_argument("--nonblind", nargs="+", default=["usrnet"], help="a restorer, and settings of it")
    parser.add_argument("--report", action="store_true", help="of the rows there are; compute nothing")
    parser.add_argument("--against", type=Path, help="with --report: rows of experiments.calibration with images")
    options = parser.parse_args()
    rows: list[Row] = list(read_table(options.csv))
    if options.report:
        rows = [row for row in rows if not options.sets or row["data"] in options.sets]
        print(*(lost(rows, read_table(options.against)) if options.against else summary(rows)), sep="\n")
        return
    if strange := {row["outside"] for row in rows} - {str(options.outside)}:
        parser.error(f"{options.csv} has rows with --outside {', '.join(sorted(strange))}; give another file")
    network, done = cache(amortised.bundled), {place(row) for row in rows}
    cfg = compose_config([f"nonblind={options.nonblind[0]}", *options.nonblind[1:]])
    with TemporaryDirectory() as folder:
        if options.photos:
            middles(options.photos, Path(folder), SIDE)
        for name, scenario in scenarios(options, Path(folder)):
            for case in tqdm(list(scenario)[:: options.every], desc=f"{name} x{scenario.scale}", mininterval=30):
                if (name, case.name, str(scenario.scale)) not in done:
                    rows.append(row_of(name, case, options.outside, cfg, network))
                    write_table(options.csv, rows)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
