"""How often a kernel of another family is noticed: `python -m experiments.family_rates CSV --sets set5 set14`.

The amortised posterior knows Gaussians. A row an image: how much likelier its spectrum is under disks, lines or camera shakes
than under Gaussians (kernelsr.evidence). Alarms on Gaussians are false, silence on the other families is a miss; the limit
is that of kernelsr.flags, chosen on the middles of photographs (`--photos FOLDER`), made smaller by 1 to 3.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from experiments.bench import measure
from experiments.middles import middles
from kernelsr.configure import compose_config, scenario_of
from kernelsr.evidence import against_gaussians
from kernelsr.files import read_table, write_table
from kernelsr.flags import UNLIKE

OWN = "aniso"
LIMITS = (0.0, UNLIKE, 1.0, 2.0, 3.0)


def rows_of(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        sets: list[tuple[str, str, list[str]]] = [(name, name, []) for name in options.sets]
        if options.photos:
            middles(options.photos, Path(folder), options.side)
            sets.append(("photographs", "demo", [f"data.folder={folder}", "data.rng=named"]))
        for (shown, name, more), scale, family in product(sets, options.scales, (OWN, *options.families)):
            words = [f"data={name}_{family}", f"scale={scale}", f"data.noise_std={options.noise / 255}", *more]
            words += [f"data.jpeg=[{options.jpeg[0]},{options.jpeg[1]}]"] if options.jpeg else []
            for case in tqdm(scenario_of(compose_config(words)), desc=f"{shown} x{scale} {family}", mininterval=30):
                place = {"image": case.name, "data": shown, "family": family, "scale": scale, "level": options.noise}
                found = {
                    "jpeg": " to ".join(map(str, options.jpeg or [])),
                    "evidence": against_gaussians(case.load()[0]),
                }
                yield place | found | measure.made()


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """For each set, scale and family the false alarms, or misses, at some limits."""
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in rows:
        for scale in (f"x{row['scale']}", "all scales"):
            groups[str(row["data"]), scale, str(row["family"])].append(float(row["evidence"]))
    for (data, scale, family), found in sorted(groups.items()):
        alarms = {limit: sum(value > limit for value in found) for limit in LIMITS}
        wrong = alarms if family == OWN else {limit: len(found) - alarms[limit] for limit in LIMITS}
        counted = ", ".join(f"{count} at {limit:g}" for limit, count in wrong.items())
        yield f"{data} {scale} {family}: {'false alarms' if family == OWN else 'misses'} of {len(found)}: {counted}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--sets", nargs="*", default=["set5", "set14"])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--side", type=int, default=320, help="of the photographs' middles, HR pixels")
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    parser.add_argument("--families", nargs="*", default=["motion", "random_motion", "disk"])
    parser.add_argument("--noise", type=float, default=0.0, help="up to so many 255ths")
    parser.add_argument("--jpeg", nargs=2, type=int, metavar=("LOW", "HIGH"), help="qualities")
    parser.add_argument("--report", action="store_true", help="of the rows there are; compute nothing")
    options = parser.parse_args()
    if not options.report:
        write_table(options.csv, list(rows_of(options)))
    print(*summary(read_table(options.csv)), sep="\n")


if __name__ == "__main__":
    main()
