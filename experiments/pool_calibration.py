"""How sure prior=pool may be of a kernel's size: `python -m experiments.pool_calibration CSV --sets set5 set14 bsd100`.

A row an image, blurred by a kernel of the pool's family, though none of the pool: the logarithm of the kernel's variance,
true and as the pool has it, and for several tempers t, whether the central 90 % of the posterior to the power 1/t hold the
true one. `--photos FOLDER` takes the middles of photographs, made smaller by 1 to 3; from these the temper was chosen.
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
from torch import Tensor
from tqdm import tqdm

from experiments.bench import measure
from experiments.calibration import LEVEL
from experiments.middles import middles
from experiments.paired import held
from kernelsr.configure import compose_config
from kernelsr.data import Case, Scenario
from kernelsr.files import read_table, write_table
from kernelsr.flags import DOUBT
from kernelsr.official import find_image_set
from kernelsr.priors.pool import log_sizes, tempered
from kernelsr.seeds import generator

TEMPERS = (1, 2, 3, 4, 6, 8)


def row_of(name: str, case: Case) -> dict[str, Any]:
    problem, truth = case.load()
    assert truth.kernel is not None
    prior = instantiate(compose_config([f"scale={problem.scale}", "prior=pool"]).prior)(problem, generator(0, "pool"))
    true, have = log_sizes(truth.kernel.double()).item(), log_sizes(prior.get_buffer("pool").cpu().double())
    weights = prior.get_buffer("weights").cpu().double()
    row: dict[str, Any] = {"data": name, "image": case.name, "scale": problem.scale, "true": true}
    row |= {"mean": (weights @ have).item(), "spread": prior.doubt.size}
    row |= {f"inside_{temper}": int(inside(tempered(weights, temper), have, true)) for temper in TEMPERS}
    return row | measure.made()


def inside(weights: Tensor, have: Tensor, true: float) -> bool:
    """Whether a number lies within the central 90 % of those (n,) that one has, by their weights."""
    return (1 - LEVEL) / 2 <= weights[have < true].sum().item() <= (1 + LEVEL) / 2


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each data set and scale, for each data set, and for all."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        for group in (f"{row['data']} x{row['scale']}", row["data"], "all"):
            groups[group].append(row)
    for name, group in sorted(groups.items()):
        shares = ", ".join(f"{temper}: {held(group, [f'inside_{temper}'])}" for temper in TEMPERS)
        unsure = sum(float(row["spread"]) > DOUBT for row in group)
        off = statistics.median(abs(float(row["mean"]) - float(row["true"])) for row in group)
        yield (
            f"{name} ({len(group)}): 90 % intervals by temper hold {shares}; {unsure} have a spread above {DOUBT}; the mean "
            f"is off by {off:.2f} in the median"
        )


def scenarios(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Scenario]]:
    family = instantiate(compose_config(["family@data.family=broad"]).data.family)
    for scale in options.scales:
        places: dict[str, Path | str] = {name: find_image_set(name) for name in options.sets}
        places |= {f"photographs {options.side}": str(folder)} if options.photos else {}
        yield from ((name, Scenario(place, scale, family, rng="named")) for name, place in places.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--side", type=int, default=320, help="of the photographs' middles, HR pixels")
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    options = parser.parse_args()
    rows: list[Any] = list(read_table(options.csv))
    done = {(row["data"], row["image"], str(row["scale"])) for row in rows}
    with TemporaryDirectory() as folder:
        if options.photos:
            middles(options.photos, Path(folder), options.side)
        for name, scenario in scenarios(options, Path(folder)):
            for case in tqdm(list(scenario), desc=f"{name} x{scenario.scale}", mininterval=30):
                if (name, case.name, str(scenario.scale)) not in done:
                    rows.append(row_of(name, case))
                    write_table(options.csv, rows)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
