"""What it is worth that an image lies within [0, 1]: `python -m experiments.bounds CSV --sets set5 set14`.

A row an image and weight: scores of prior=amortised's kernel, and of start=bounded's, which made it smaller where USRNet's
image left that range. Where it did, also the PSNR of what the non-blind restorer makes of either and of the true kernel;
elsewhere they are one kernel, and there is nothing to gain. Images that the CSV has already are not
computed again. `--photos FOLDER` takes the middles of photographs instead, by
which the weight was chosen. Degraded as in the papers, FKP's kernels, or with noise or JPEG of which nothing is told.
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
from experiments.calibration import scored
from experiments.middles import middles
from kernelsr import amortised, metrics, priors, restorers
from kernelsr.configure import compose_config, restore
from kernelsr.data import Case, Scenario
from kernelsr.files import read_table, write_table
from kernelsr.official import find_image_set
from kernelsr.statistics import paired_difference

SIDE = 320  # of the middles, HR pixels
Row = dict[str, Any]


def place(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["data"], str(row["image"]), str(row["scale"])


def rows_of(case: Case, weights: Sequence[float], cfg: DictConfig, network: Any) -> Iterator[Row]:
    problem, truth = case.load()
    assert truth.kernel is not None and truth.hr is not None
    hr = truth.hr
    fit = partial(priors.Amortised, network=network)

    @cache
    def psnr(which: str | float) -> float:
        image = restore(cfg, problem, used[which], case.name)
        assert image is not None
        return metrics.score_image(image, hr, metrics.Scoring(problem.scale))["psnr"]

    plain = fit(problem, torch.Generator())
    used: dict[str | float, torch.Tensor] = {"true": truth.kernel, "amortised": plain()}
    for weight in weights:
        found = priors.Bounded(problem, torch.Generator(), fit=fit, restorer=restorers.Usrnet, outside=weight)
        used[weight] = found()
        moved = ((found.chosen - plain.chosen)[0] / plain.belief.spread()[0, 0]).item()
        row: Row = {"image": case.name, "scale": problem.scale, "outside": weight, "moved": moved}
        row |= scored("amortised", used["amortised"], truth.kernel) | scored("bounded", used[weight], truth.kernel)
        if moved:
            row |= {"psnr_amortised": psnr("amortised"), "psnr_bounded": psnr(weight), "psnr_true": psnr("true")}
        yield row | measure.made()


def values(
    rows: Sequence[Mapping[str, Any]], score: str, prior: str
) -> dict[tuple[tuple[str, ...], int | None], float]:
    """Of each image, for the statistics; where both priors have one kernel and there is no image, zero for either."""
    return {(place(row), None): float(row.get(f"{score}_{prior}") or 0) for row in rows}


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each set, scale and weight, and for all of them."""
    for weight in sorted({float(row["outside"]) for row in rows}):
        mine = [row for row in rows if float(row["outside"]) == weight]
        groups = {(row["data"], str(row["scale"])): f"{row['data']} x{row['scale']}" for row in mine}
        for key, name in [*sorted(groups.items()), (None, "all")]:
            group = [row for row in mine if key in (None, (row["data"], str(row["scale"])))]
            ours, theirs = (values(group, "psnr", prior) for prior in ("bounded", "amortised"))
            gains = [ours[image] - theirs[image] for image in ours]
            kernel = paired_difference(*(values(group, "kernel_psnr", prior) for prior in ("bounded", "amortised")))
            before, after = (
                100 * statistics.median(float(row[f"variance_error_{prior}"]) for row in group)
                for prior in ("amortised", "bounded")
            )
            yield (
                f"outside {weight:g}, {name}: {sum(float(row['moved']) != 0 for row in group)} of {len(group)} moved; image "
                f"{paired_difference(ours, theirs)} dB, from {min(gains):+.2f} to {max(gains):+.2f}; kernel {kernel} dB; "
                f"median variance error {before:.1f} to {after:.1f} %"
            )


def lost(rows: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How far images are below the true kernel's, those that did not move by the rows of experiments.calibration."""
    before = {place(row): row for row in plain}
    for scale in [*sorted({str(row["scale"]) for row in rows}), "all"]:
        ours: dict[Any, float] = {}
        true: dict[Any, float] = {}
        for row in rows:
            key = place(row)
            if scale in ("all", key[2]) and key in before:
                moved = float(row["moved"]) != 0
                ours[key, None] = float(row["psnr_bounded"] if moved else before[key]["psnr_amortised"])
                true[key, None] = float(row["psnr_true"] if moved else before[key]["psnr_true"])
        yield f"x{scale}: the true kernel's images {paired_difference(true, ours)} dB better ({len(ours)})"


def scenarios(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Scenario]]:
    worse: Row = {"noise_std": options.noise / 255, "jpeg": options.jpeg and tuple(options.jpeg)}
    worse |= {"noise": "untold"} if options.noise else {}
    for scale in options.scales:
        if options.photos:
            yield "photographs", Scenario(folder, scale, rng="named", **worse)
        else:
            yield from ((name, Scenario(find_image_set(name), scale, **worse)) for name in options.sets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--sets", nargs="*", default=["set5", "set14", "bsd100"])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    parser.add_argument("--outside", nargs="*", type=float, default=[200.0], help="weights")
    parser.add_argument("--noise", type=float, default=0.0, help="up to so many 255ths")
    parser.add_argument("--jpeg", nargs=2, type=int, metavar=("LOW", "HIGH"), help="qualities")
    parser.add_argument("--nonblind", nargs="+", default=["usrnet"], help="a restorer, and settings of it")
    parser.add_argument("--report", action="store_true", help="of the rows there are; compute nothing")
    parser.add_argument("--against", type=Path, help="with --report: rows of experiments.calibration with images")
    options = parser.parse_args()
    if options.report:
        rows = read_table(options.csv)
        print(*(lost(rows, read_table(options.against)) if options.against else summary(rows)), sep="\n")
        return
    network, rows = cache(amortised.bundled), list[Row](read_table(options.csv))
    done = {place(row) for row in rows}
    cfg = compose_config([f"nonblind={options.nonblind[0]}", *options.nonblind[1:]])
    with TemporaryDirectory() as folder:
        if options.photos:
            middles(options.photos, Path(folder), SIDE)
        for name, scenario in scenarios(options, Path(folder)):
            for case in tqdm(list(scenario), desc=f"{name} x{scenario.scale}", mininterval=30):
                if (name, case.name, str(scenario.scale)) not in done:
                    rows += [{"data": name} | row for row in rows_of(case, options.outside, cfg, network)]
                    write_table(options.csv, rows)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
