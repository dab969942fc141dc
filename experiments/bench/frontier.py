"""Accuracy against CPU seconds of the presets: `python -m experiments.bench.frontier CSV --presets draft fast --sets set5`.

Every image is a row of a CSV, and what the CSV has is not computed again. `--report` computes nothing: it prints the means,
the paired differences with their intervals, and draws the figure.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.bench import measure
from kernelsr import metrics
from kernelsr.configure import compose_config, scenario_of, scoring_of, solve
from kernelsr.data import Case
from kernelsr.files import read_table, write_table
from kernelsr.statistics import Difference, paired_difference

PRESETS = ("draft", "fast", "faithful")
PRIORS = ("dkp", "fkp", "gaussian")
SETS = ("set5", "set14", "bsd100")
EVERY = {"bsd100": 5}
"""Of a large set every so manieth image, by name: 20 of BSD100."""
PLACE = ("image", "data", "scale", "seed", "preset", "prior")
"""What tells rows of one table apart; with other --settings they need a table of their own."""
ALONE = ("none", "spectral")
"""Preset and prior of the spectral fit by itself, which every preset's kernel begins at or competes with."""
FEWEST = 3
"""Images of a method, below which a mean says nothing."""
SAME = 1e-3
"""dB by which a row may differ from another of the same place, by rounding."""
MEASURES = {"kernel_psnr": "kernel PSNR, dB", "psnr_nonblind": "image PSNR after USRNet, dB"}

Row = dict[str, Any]


def cases_of(words: Sequence[str], name: str, options: argparse.Namespace) -> list[Case]:
    cases = list(scenario_of(compose_config(words)))[:: EVERY.get(name, 1)]
    found = [case for case in cases if not options.images or case.name in options.images]
    if not found:
        raise SystemExit(f"of {name} none of {', '.join(options.images)} is measured; leave --images out to take all")
    return found[: options.limit]


def rows_of(options: argparse.Namespace, have: set[tuple[str, ...]]) -> Iterator[Row]:
    """The rows that are not there yet: the quick presets and the small sets first."""
    pairs = [ALONE] + [(preset, prior) for preset in options.presets for prior in options.priors]
    for name in options.sets:
        for scale in options.scales:
            for preset, prior in pairs:
                for seed in options.seeds if preset != "none" else options.seeds[:1]:
                    words = [f"prior={prior}", f"data={name}_{options.kernels}", f"scale={scale}", f"seed={seed}"]
                    words += [f"preset={preset}", "nonblind=usrnet", *(options.settings if preset != "none" else ())]
                    for case in cases_of(words, name, options):
                        place = dict(zip(PLACE, (case.name, words[1][5:], scale, seed, preset, prior), strict=True))
                        if tuple(str(place[key]) for key in PLACE) not in have:
                            yield place | scored(words, case)


def scored(words: Sequence[str], case: Case) -> Row:
    """What a preset makes of an image, with the CPU time of all threads; data and scores are not counted."""
    cfg = compose_config(words)
    problem, truth = case.load()
    assert truth.kernel is not None
    began, cpu = time.perf_counter(), time.process_time()
    estimate = solve(cfg, problem, case.name, lambda progress: None)
    cost = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - began}
    score = metrics.score(estimate, problem, truth, scoring_of(cfg))
    kept = {key: score[key] for key in ("kernel_psnr", "variance_error", "psnr_nonblind", "ssim_nonblind")}
    words = [word for word in words if word != "preset=none"]
    return kept | cost | {"command": f"python run.py {' '.join(words)} data.only={case.name}"} | measure.made()


def values(rows: Sequence[dict[str, str]], column: str, preset: str, prior: str, scale: str = "") -> dict[Any, float]:
    """Of one scale or of all, by (set and image, scale, seed), as the statistics take them: a photograph is one image."""
    found: dict[Any, float] = {}
    for row in rows:
        if (row["preset"], row["prior"]) == (preset, prior) and scale in ("", row["scale"]):
            place = (row["data"], row["image"]), row["scale"], int(row["seed"])
            first = found.setdefault(place, float(row[column]))
            if column in MEASURES and abs(first - float(row[column])) > SAME:
                raise SystemExit(f"{preset} {prior} has two rows of {row['image']}, {row['data']} x{row['scale']}")
    return found


def methods(rows: Sequence[dict[str, str]]) -> list[tuple[str, str]]:
    order = ("none", *PRESETS)
    return sorted({(row["preset"], row["prior"]) for row in rows}, key=lambda pair: (order.index(pair[0]), pair[1]))


def mean(found: dict[Any, float]) -> float:
    return sum(found.values()) / len(found) if found else math.nan


def report(rows: Sequence[dict[str, str]]) -> str:
    """A table of means, and of differences on the same images to the spectral fit and to the same prior's faithful run.

    Last of all rows together: differences are paired, the means of different images do not compare.
    """
    lines = [
        "| data | scale | preset | prior | images | kernel PSNR | image PSNR | CPU s | minus spectral | minus faithful |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for data, scale in [*sorted({(row["data"], row["scale"]) for row in rows}), ("all", "")]:
        mine = [row for row in rows if data in ("all", row["data"])]
        for preset, prior in methods(mine):
            kernel, image, cost = (values(mine, column, preset, prior, scale) for column in (*MEASURES, "cpu_seconds"))
            if not kernel:
                continue
            against = []
            for other in (ALONE, ("faithful", prior)):
                pairs = [compared(mine, column, (preset, prior), other, scale) for column in MEASURES]
                against.append("" if (preset, prior) == other else ", ".join(pairs))
            numbers = f"{mean(kernel):.2f} | {mean(image):.2f} | {mean(cost):.1f}"
            images = len({key[0] for key in kernel})
            lines.append(
                f"| {data} | {scale and f'x{scale}'} | {preset} | {prior} | {images} | {numbers} | {' | '.join(against)} |"
            )
    return "\n".join(lines)


def compared(
    rows: Sequence[dict[str, str]], column: str, method: tuple[str, str], other: tuple[str, str], scale: str
) -> str:
    """A mean difference with its interval, in words."""
    ours, theirs = values(rows, column, *method, scale), values(rows, column, *other, scale)
    if other == ALONE:  # the same for every seed
        once = {key[:2]: value for key, value in theirs.items()}
        theirs = {key: once[key[:2]] for key in ours if key[:2] in once}
    found: Difference | None = paired_difference(ours, theirs)
    return "–" if found is None else str(found)


def shared(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of images that all methods have at their scale, as means over different images do not compare.

    A method of fewer than ``FEWEST`` images at a scale is left out there.
    """
    having: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    for row in rows:
        having.setdefault((row["scale"], row["preset"], row["prior"]), set()).add((row["data"], row["image"]))
    having = {method: images for method, images in having.items() if len(images) >= FEWEST}
    every: dict[str, set[tuple[str, str]]] = {}
    for (scale, *_), images in having.items():
        every[scale] = every.get(scale, images) & images
    return [
        row
        for row in rows
        if (row["scale"], row["preset"], row["prior"]) in having and (row["data"], row["image"]) in every[row["scale"]]
    ]


def draw(rows: Sequence[dict[str, str]], path: Path) -> None:
    """A panel a scale and measure, a point a method: mean accuracy over mean CPU seconds on what all methods have."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scales = sorted({row["scale"] for row in rows})
    figure, axes = pyplot.subplots(2, len(scales), figsize=(10, 5.6), layout="constrained", sharex=True, squeeze=False)
    marks = {"none": "x", "draft": "o", "fast": "^", "faithful": "s"}
    priors = sorted({prior for _, prior in methods(rows)})
    shades = {prior: f"C{place}" for place, prior in enumerate(priors)}
    for panels, (column, label) in zip(axes, MEASURES.items(), strict=True):
        panels[0].set_ylabel(label)
        for axis, scale in zip(panels, scales, strict=True):
            for preset, prior in methods(rows):
                found = values(rows, column, preset, prior, scale)
                if found:
                    cost = mean(values(rows, "cpu_seconds", preset, prior, scale))
                    axis.plot(cost, mean(found), marks[preset], color=shades[prior], ms=7, alpha=0.8)
            axis.set(xscale="log", title=f"x{scale}" if column == "kernel_psnr" else "")
            axis.grid(alpha=0.3)
            axis.margins(0.15)
    for axis in axes[1]:
        axis.set_xlabel("CPU seconds an image")
    shown = [(preset, prior) for preset, prior in methods(rows)]
    handles = [
        pyplot.Line2D(
            [], [], color=shades[prior], marker=marks[preset], ls="", label=f"{prior} {preset}".removesuffix(" none")
        )
        for preset, prior in shown
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
    names = ", ".join(sorted({row["data"] for row in rows}))
    figure.suptitle(f"{names}; {rows[-1]['machine']}, {rows[-1]['threads']} thread", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path, help="of rows; what it has is not computed again")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=PRESETS[:2])
    parser.add_argument("--priors", nargs="+", default=PRIORS)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--kernels", default="aniso", help="the family in the data's name")
    parser.add_argument("--scales", nargs="+", type=int, default=(2, 3, 4))
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--images", nargs="+", help="these alone")
    parser.add_argument("--limit", type=int, help="images of a set at most")
    parser.add_argument("--settings", nargs="+", default=(), help="of the presets' runs: restorer.precision=bf16")
    parser.add_argument("--report", action="store_true", help="compute nothing")
    parser.add_argument("--beside", nargs="+", type=Path, default=(), help="other CSVs whose rows are reported too")
    parser.add_argument("--figure", type=Path, help="a picture of the rows")
    options = parser.parse_args()
    if not options.report:
        have = {tuple(row[key] for key in PLACE) for row in read_table(options.csv)}
        for row in rows_of(options, have):
            shown = " ".join(str(row[key]) for key in PLACE)
            print(
                f"{shown}: {row['kernel_psnr']:.2f} {row['psnr_nonblind']:.2f} {row['cpu_seconds']:.1f} s", flush=True
            )
            write_table(options.csv, [row], append=True)
    rows = [row for table in (options.csv, *options.beside) for row in read_table(table)]
    print(report(rows))
    if options.figure:
        draw(shared(rows), options.figure)


if __name__ == "__main__":
    main()
