"""How often a kernel of another family is noticed: `python -m experiments.family_rates CSV --sets set5 set14`.

The amortised posterior knows Gaussians. Its kernel and the image that a non-blind restorer makes with it are degraded again,
and what they leave of the LR image is a row. Alarms on Gaussians are false, silence on the other families is a miss; the
limit is that of kernelsr.flags.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.bench import measure
from kernelsr.configure import compose_config, scenario_of, solve
from kernelsr.files import write_table
from kernelsr.flags import flags_of, unexplained

OWN = "aniso"


def rows_of(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for name in options.sets:
        for scale in options.scales:
            for family in (OWN, *options.families):
                for nonblind in options.nonblind:
                    words = ["prior=amortised", f"data={name}_{family}", f"scale={scale}", f"nonblind={nonblind}"]
                    cfg = compose_config(words)
                    for case in scenario_of(cfg):
                        problem, _ = case.load()
                        estimate = solve(cfg, problem, case.name, lambda progress: None)
                        yield {
                            "image": case.name,
                            "data": name,
                            "family": family,
                            "scale": scale,
                            "nonblind": nonblind,
                            "rest": 255 * unexplained(estimate, problem) ** 0.5,
                            "doubt": estimate.doubt.size if estimate.doubt else None,
                            "noise": 255 * (estimate.doubt.noise_std or 0) if estimate.doubt else None,
                            "flagged": int("family" in flags_of(estimate, problem, None, [])),
                        } | measure.made()


def summary(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each non-blind restorer, scale and family."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["nonblind"], row["scale"], row["family"]].append(row)
    for (nonblind, scale, family), group in groups.items():
        flagged = sum(row["flagged"] for row in group)
        said = f"{flagged} false alarms" if family == OWN else f"{len(group) - flagged} misses"
        middle = sorted(row["rest"] for row in group)[len(group) // 2]
        yield f"{nonblind} x{scale} {family}: {said} of {len(group)}; median {middle:.2f}/255 unexplained"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("--sets", nargs="*", default=["set5", "set14"])
    parser.add_argument("--scales", nargs="*", type=int, default=[2, 3, 4])
    parser.add_argument("--families", nargs="*", default=["motion", "random_motion", "disk"])
    parser.add_argument("--nonblind", nargs="*", default=["usrnet"])
    options = parser.parse_args()
    rows = list(rows_of(options))
    write_table(options.csv, rows)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
