"""What it is worth that an image lies within [0, 1]: `python -m experiments.bounds CSV --plain AMORTISED.csv`.

A row an image: scores of prior=amortised's kernel and of start=bounded's, by how many spreads this is smaller than the
posterior's mean, and the PSNR of what the non-blind restorer makes of either and of the true kernel. Those that do not
depend on start=bounded are taken from rows of experiments.calibration, where `--plain` has the image. Images that the CSV has
are not computed again. Degraded as in the papers: FKP's kernels, seed 1; with `--noise` or `--jpeg` if they are given.
`--photos FOLDER` takes the middles of photographs, most of which the amortised network has seen in training.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from experiments import degradations
from experiments.bench import measure
from experiments.calibration import scored
from experiments.middles import middles
from experiments.paired import Place, by_place, compared, place_of, same_kernel
from kernelsr import metrics
from kernelsr.configure import compose_config, part, restore
from kernelsr.data import Case, Scenario
from kernelsr.files import read_table, write_table
from kernelsr.official import find_image_set

SETS = ("set5", "set14", "bsd100")
SIDE = 320  # of the middles, HR pixels
Row = dict[str, Any]


def row_of(
    name: str, case: Case, cfg: DictConfig, plain: Mapping[Place, Mapping[str, Any]], worse: Mapping[str, Any]
) -> Row:
    problem, truth = degradations.load(case, worse["told"])
    assert truth.kernel is not None and truth.hr is not None
    fit, found = (part(cfg, group, problem, torch.Generator()) for group in ("prior", "start"))
    row: Row = {"data": name, "image": case.name, "scale": problem.scale, **worse, "outside": cfg.start.outside}
    row["smaller"] = found.smaller
    used = {"amortised": fit(), "bounded": found(), "true": truth.kernel}
    row |= scored("amortised", used["amortised"], truth.kernel) | scored("bounded", used["bounded"], truth.kernel)
    there = plain.get(place_of(row), {})
    if there and not same_kernel(there, row, "amortised"):
        raise ValueError(
            f"the rows of --plain have another kernel of {case.name}; measure them again, or leave them out"
        )
    for prior, kernel in used.items():
        if (column := f"psnr_{prior}") in there and prior != "bounded":
            row[column] = float(there[column])
            continue
        image = restore(cfg, problem, kernel, case.name)
        assert image is not None
        row[column] = metrics.score_image(image, truth.hr, metrics.Scoring(problem.scale))["psnr"]
    return row | measure.made()


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each set and scale, for each scale, for all, and for kernels that are smaller than the mean or are not."""
    groups: dict[str, list[Row]] = {}
    for data, scale in sorted({(row["data"], str(row["scale"])) for row in rows}):
        groups[f"{data} x{scale}"] = [row for row in rows if (row["data"], str(row["scale"])) == (data, scale)]
    for scale in sorted({str(row["scale"]) for row in rows}):
        groups[f"all x{scale}"] = [row for row in rows if str(row["scale"]) == scale]
    groups |= {"all": list(rows), "smaller": [row for row in rows if float(row["smaller"]) > 0]}
    groups["not smaller"] = [row for row in rows if float(row["smaller"]) == 0]
    for name, group in groups.items():
        if not group:
            continue
        gains = [float(row["psnr_bounded"]) - float(row["psnr_amortised"]) for row in group]
        before, after = (
            100 * statistics.median(float(row[f"variance_error_{prior}"]) for row in group)
            for prior in ("amortised", "bounded")
        )
        yield (
            f"{name}: {sum(float(row['smaller']) > 0 for row in group)} of {len(group)} smaller; image "
            f"{compared(group, 'psnr_bounded', 'psnr_amortised')} dB, from {min(gains):+.2f} to {max(gains):+.2f}; kernel "
            f"{compared(group, 'kernel_psnr_bounded', 'kernel_psnr_amortised')} dB; median variance error {before:.1f} to "
            f"{after:.1f} %; the true kernel's images {compared(group, 'psnr_true', 'psnr_bounded')} dB better, than "
            f"prior=amortised's {compared(group, 'psnr_true', 'psnr_amortised')}"
        )


def scenarios(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Scenario]]:
    for scale in options.scales:
        if options.photos:
            yield "photographs", Scenario(folder, scale, rng="named", **degradations.settings(options))
        else:
            for name in options.sets or SETS:
                yield name, Scenario(find_image_set(name), scale, **degradations.settings(options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--sets", nargs="*", help="all three by default; with --report, all that the rows are of")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    degradations.add_options(parser)
    parser.add_argument("--every", type=int, default=1, help="take each so manieth image")
    parser.add_argument("--plain", type=Path, help="rows of experiments.calibration with images of the same restorer")
    parser.add_argument("--nonblind", nargs="+", default=["usrnet"], help="a restorer, and settings of it")
    parser.add_argument("--start", nargs="*", default=[], help="settings of start=bounded, as start.outside=100")
    parser.add_argument("--report", action="store_true", help="of the rows there are; compute nothing")
    options = parser.parse_args()
    rows: list[Row] = list(read_table(options.csv))
    if options.report:
        print(*summary([row for row in rows if not options.sets or row["data"] in options.sets]), sep="\n")
        return
    cfg = compose_config(
        ["prior=amortised", "start=bounded", f"nonblind={options.nonblind[0]}", *options.nonblind[1:], *options.start]
    )
    worse = degradations.columns(options)
    own = {"outside": float(cfg.start.outside)} | worse
    for row in rows:
        if (others := {"outside": float(row["outside"])} | degradations.columns_of(row)) != own:
            parser.error(f"{options.csv} has rows of {others}, and these would be of {own}; give another file")
    done = {place_of(row) for row in rows}
    plain = by_place(options.plain, worse)
    with TemporaryDirectory() as folder:
        if options.photos:
            middles(options.photos, Path(folder), SIDE)
        for name, scenario in scenarios(options, Path(folder)):
            for case in tqdm(list(scenario)[:: options.every], desc=f"{name} x{scenario.scale}", mininterval=30):
                if (name, str(scenario.scale), case.name) not in done:
                    rows.append(row_of(name, case, cfg, plain, worse))
                    write_table(options.csv, rows)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
