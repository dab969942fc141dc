"""How right the amortised posterior is, and how sure: `python -m experiments.calibration CSV --sets set5 set14 bsd100`.

A row an image: kernel PSNR and variance error of prior=amortised's kernel and of the spectral fit's; whether the
central 90 % of each principal variance hold the true one; the milliseconds of a look, the median of three after the first.
With `--nonblind usrnet`, and settings of it, also the PSNR of the images that it makes with these kernels and the true one;
of the spectral fit's and the true one they are taken from rows that another network has made, if `--plain` has the image.
The network is that for clean or that for worn images, as the prior chooses; `--network` asks one of them always.
`--photos FOLDER` takes the photographs that the training held out, and with `--copies` also smaller ones, as training does.
Degraded as in the papers: FKP's kernels, seed 1.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from experiments import degradations
from experiments.bench import measure
from experiments.lr_patches import factors, photographs
from experiments.middles import smaller
from experiments.paired import by_place, compared, held, place_of, same_kernel, values
from kernelsr import amortised, kernels, metrics, priors
from kernelsr.beliefs import Belief, covariance_of, gaussian, shape_of
from kernelsr.configure import compose_config, restore
from kernelsr.data import Scenario
from kernelsr.files import read_table, write_table
from kernelsr.official import find_image_set
from kernelsr.paths import CONF
from kernelsr.problem import Problem, Truth
from kernelsr.seeds import generator
from kernelsr.statistics import paired_difference

LEVEL = 0.9
DRAWS = 20_000
SETS = ("set5", "set14", "bsd100")
NETWORKS = {"clean": False, "worn": True}
Make = Callable[[Problem, torch.Generator], priors.Amortised]


def fitted_shape(kernel: Tensor, problem: Problem) -> Tensor:
    """The shape (3,) of the Gaussian next to a kernel, which the support may cut off: Gauss-Newton on squares."""
    shape = shape_of(kernels.moments(kernel))[0]
    for _ in range(20):
        slopes = torch.func.jacfwd(lambda s: gaussian(covariance_of(s), problem))(shape)
        rest = kernel - gaussian(covariance_of(shape), problem)
        shape = shape + torch.linalg.lstsq(slopes.reshape(-1, 3), rest.reshape(-1, 1)).solution[:, 0]
    return shape


def intervals(belief: Belief, rng: torch.Generator) -> Tensor:
    """The central 90 % (2, 2) of the smaller and the larger principal variance: lower ends, then upper ends."""
    root = torch.linalg.inv(torch.linalg.cholesky(belief.precision[0])).T
    shapes = belief.mean + torch.randn(DRAWS, 3, generator=rng, dtype=root.dtype) @ root.T
    variances = torch.linalg.eigvalsh(covariance_of(shapes))
    return variances.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=root.dtype), dim=0)


def row(problem: Problem, kernel: Tensor, make: Make) -> dict[str, Any]:
    """What the posterior says of one image whose kernel (1, 1, K, K) is known."""
    took = []
    for _ in range(4):
        began = time.perf_counter()
        prior = make(problem, torch.Generator())
        took.append(1e3 * (time.perf_counter() - began))
    milliseconds = statistics.median(took[1:])
    shape = fitted_shape(kernel.double(), problem)
    true = torch.linalg.eigvalsh(covariance_of(shape))
    low, high = intervals(prior.belief, generator(0, "calibration"))
    inside = (low <= true) & (true <= high)
    fit = priors.Spectral(problem, torch.Generator())
    said = {
        "narrow_inside": int(inside[0]),
        "wide_inside": int(inside[1]),
        "worn": int(prior.worn),
        "size_spread": prior.belief.spread()[0, 0].item(),
        "size_true": shape[0].item(),
        "size_amortised": prior.belief.mean[0, 0].item(),
        "size_spectral": fit.belief.mean[0, 0].item(),
        "milliseconds": milliseconds,
        "pixels": problem.lr.shape[-1] * problem.lr.shape[-2],
    }
    return scored("amortised", prior(), kernel) | scored("spectral", fit(), kernel) | said


def scored(name: str, found: Tensor, kernel: Tensor) -> dict[str, float]:
    """A kernel's scores."""
    found, kernel = found.double(), kernel.double()
    return {
        f"kernel_psnr_{name}": metrics.kernel_psnr(found, kernel),
        f"variance_error_{name}": metrics.variance_error(found, kernel),
    }


def images(
    cfg: DictConfig, problem: Problem, truth: Truth, name: str, make: Make, plain: Mapping[str, Any]
) -> dict[str, float]:
    """The PSNR of what the non-blind restorer of ``cfg`` makes with each of the kernels, but for those that ``plain`` has."""
    assert truth.kernel is not None and truth.hr is not None
    used = {
        "amortised": make(problem, torch.Generator())(),
        "spectral": priors.Spectral(problem, torch.Generator())(),
        "true": truth.kernel,
    }
    found = {}
    for prior, kernel in used.items():
        if prior != "amortised" and (column := f"psnr_{prior}") in plain:
            found[column] = float(plain[column])
            continue
        image = restore(cfg, problem, kernel, name)
        assert image is not None
        found[f"psnr_{prior}"] = metrics.score_image(image, truth.hr, metrics.Scoring(problem.scale))["psnr"]
    return found


def scenarios(options: argparse.Namespace, folder: Path) -> Iterator[tuple[dict[str, Any], Scenario]]:
    """With columns of their rows; ``folder`` takes the copies of photographs, which have another kernel each."""
    worse = degradations.settings(options)
    for scale in options.scales:
        for name in SETS if options.sets is None else options.sets:
            yield {"data": name}, Scenario(find_image_set(name), scale, only=options.images, **worse)
        if options.photos:
            cfg = OmegaConf.load(CONF / "train_amortised.yaml")
            assert isinstance(cfg, DictConfig)
            paths = photographs(options.photos, cfg.held_out)[1]
            for copy, shrink in enumerate(factors(cfg.shrink) if options.copies else [1.0]):
                there = copied(paths, shrink, folder / str(copy)) if shrink > 1 else paths
                yield {"data": "held-out", "copy": copy}, Scenario(there, scale, rng="named", seed=1 + copy, **worse)


def copied(paths: Sequence[Path], shrink: float, folder: Path) -> Path:
    """The folder with photographs made smaller by a factor, which are not made twice."""
    if not folder.exists():
        folder.mkdir()
        for path in paths:
            smaller(path, shrink).save(folder / f"{path.stem}.png")
    return folder


def summary(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each set and scale, and one for all."""
    groups: dict[tuple[str, Any], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["data"], row["scale"]].append(row)
        groups["all", row["scale"]].append(row)
    groups["all", ""] = list(rows)
    for (name, scale), group in sorted(groups.items(), key=str):

        def of(key: str, group: list[dict[str, Any]] = group) -> list[float]:
            return [float(row[key]) for row in group]

        spent = statistics.median(of("milliseconds"))
        line = f"{name}{scale and f' x{scale}'} ({len(group)}): 90 % intervals hold {held(group)}, {spent:.0f} ms"
        for prior in ("amortised", "spectral"):
            middle = 100 * statistics.median(of(f"variance_error_{prior}"))
            line += f"; {prior} {statistics.mean(of(f'kernel_psnr_{prior}')):.2f} dB, variances {middle:.1f} %"
            if f"psnr_{prior}" in group[0]:
                line += f", the true kernel's image {compared(group, 'psnr_true', f'psnr_{prior}')}"
        for what, score in (("kernel", "kernel_psnr"), ("image", "psnr")):
            if f"{score}_spectral" in group[0]:
                found = compared(group, f"{score}_amortised", f"{score}_spectral")
                line += f"; {what} {found} against the spectral fit's"
        yield line


def gains(rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How much better these rows' posterior is than others' on the images that both have, at each scale and in all."""
    for scale in [*sorted({row["scale"] for row in rows}), ""]:
        mine = [row for row in rows if scale in ("", row["scale"])]
        for what, column in (("kernel", "kernel_psnr_amortised"), ("image", "psnr_amortised")):
            ours, theirs = values(mine, column), values(others, column)
            found = paired_difference(ours, theirs)
            if found is not None:
                yield f"{f'x{scale}' if scale else 'all'}: {what} PSNR {found} dB ({len(ours.keys() & theirs.keys())})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--sets", nargs="*", help="all three by default; with --report, all that the rows are of")
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--copies", action="store_true", help="of photographs, in each of the training's sizes")
    degradations.add_options(parser)
    parser.add_argument("--nonblind", nargs="+", help="a restorer, and settings of it")
    parser.add_argument("--plain", type=Path, help="rows with images of the same restorer")
    parser.add_argument("--images", nargs="+", help="these alone")
    parser.add_argument("--network", choices=NETWORKS, help="the one for clean or for worn images, whatever these are")
    parser.add_argument("--patches", type=int, help="windows that are looked at; the prior's own by default")
    parser.add_argument("--caution", type=float, help="spreads by which the kernel is smaller than the mean, likewise")
    parser.add_argument("--report", action="store_true", help="of the rows there are; compute nothing")
    parser.add_argument("--against", type=Path, help="with --report: rows of the same images to be compared with")
    options = parser.parse_args()
    if options.report:
        if not (rows := read_table(options.csv)):
            parser.error(f"{options.csv} has no rows; without --report they are made")
        rows = [row for row in rows if not options.sets or row["data"] in options.sets]
        lines = list(gains(rows, read_table(options.against)) if options.against else summary(rows))
        if not lines:
            parser.error(f"no image is in both tables, {options.csv} and {options.against}")
        print(*lines, sep="\n")
        return
    rows = []

    def network(worn: bool) -> amortised.PosteriorNetwork:
        return amortised.bundled(NETWORKS[options.network] if options.network else worn)

    asked = {"patches": options.patches, "caution": options.caution}
    settings = {key: value for key, value in asked.items() if value is not None}
    make: Make = partial(priors.Amortised, network=network, **settings)
    cfg = compose_config([f"nonblind={options.nonblind[0]}", *options.nonblind[1:]]) if options.nonblind else None
    worse = degradations.columns(options)
    plain = by_place(options.plain, worse)
    with TemporaryDirectory() as folder:
        for columns, scenario in scenarios(options, Path(folder)):
            for case in tqdm(list(scenario), desc=f"{columns['data']} x{scenario.scale}", mininterval=30):
                problem, truth = degradations.load(case, options.told)
                assert truth.kernel is not None
                place = {"image": case.name} | columns | {"scale": problem.scale} | worse
                found = row(problem, truth.kernel, make)
                found = {"network": options.network or ("worn" if found["worn"] else "clean")} | settings | found
                there = plain.get(place_of(place), {})
                there = there if same_kernel(there, found, "spectral") else {}
                found |= images(cfg, problem, truth, case.name, make, there) if cfg else {}
                rows.append(place | found | measure.made())
            write_table(options.csv, rows)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
