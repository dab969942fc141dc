"""How much of the kernel's error is the photograph's own softness: `python -m experiments.softness CSV`.

Of rows of experiments.calibration, where each photograph is blurred by an independent kernel at every scale. How soft it was
before that adds as much to the kernel's variance at all scales; so how alike the errors of one photograph's scales are says
how much of them is the photograph's, and not this kernel's or this LR image's. For each prior also the median error of the
mean variance, as it is and less what the errors at the photograph's other scales say of it, which is about what would be
left if its softness were known.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from kernelsr.files import read_table

PRIORS = ("amortised", "spectral")


def errors(rows: Sequence[Mapping[str, Any]], prior: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The scales, and errors and truth (photographs, scales) of the mean variance, HR pixels squared."""
    sizes: dict[tuple[str, str], dict[int, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        found, true = (float(np.exp(float(row[column]))) for column in (f"size_{prior}", "size_true"))
        sizes[row["data"], row["image"]][int(row["scale"])] = found - true, true
    scales = sorted({int(row["scale"]) for row in rows})
    whole = [[at[scale] for scale in scales] for at in sizes.values() if len(at) == len(scales)]
    if len(scales) < 2 or len(whole) < 3:
        raise SystemExit("the rows have no three photographs at two scales each")
    error, true = np.moveaxis(np.array(whole), 2, 0)
    return scales, error, true


def alike(error: np.ndarray) -> float:
    """The mean correlation of a photograph's errors (photographs, scales) at two scales."""
    correlation = np.corrcoef(error.T)
    return float(np.mean([correlation[pair] for pair in combinations(range(len(correlation)), 2)]))


def less_the_photographs(error: np.ndarray) -> np.ndarray:
    """Errors (photographs, scales) less what is linear in the mean one at the other scales."""
    others = (error.sum(1, keepdims=True) - error) / (error.shape[1] - 1)
    return error - others * (error * others).sum(0) / (others**2).sum(0)


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each prior, and one for each scale of it."""
    for prior in PRIORS:
        scales, error, true = errors(rows, prior)
        found = bootstrap(
            (np.arange(len(error)),),
            lambda chosen, error=error: alike(error[chosen]),
            vectorized=False,
            n_resamples=2000,
            rng=np.random.default_rng(0),
        ).confidence_interval
        yield (
            f"{prior} ({len(error)} photographs): correlation of a photograph's errors at two scales "
            f"{alike(error):.2f} [{found.low:.2f}, {found.high:.2f}]"
        )
        left = less_the_photographs(error)
        for scale, *columns in zip(scales, error.T, left.T, true.T, strict=True):
            as_it_is, without, size = columns
            before, after = (100 * np.median(np.abs(part) / size) for part in (as_it_is, without))
            yield f"{prior} x{scale}: median error of the mean variance {before:.1f} %, less its own {after:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    print(*summary(read_table(parser.parse_args().csv)), sep="\n")


if __name__ == "__main__":
    main()
