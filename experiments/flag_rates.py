"""How often the kernel's flags are right: `python -m experiments.flag_rates experiments/results/flag_rates.csv [n]`.

A row for each kind of kernels and scale: n true kernels of each family in the data groups, which should pass before any
excuse, and kernels that are broken on purpose, which should not.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import torch
from hydra.utils import instantiate
from torch import Tensor

from kernelsr import kernels
from kernelsr.configure import compose_config
from kernelsr.families import AnisotropicGaussian, kernel_size_of
from kernelsr.files import write_table
from kernelsr.flags import kernel_flags
from kernelsr.problem import Problem
from kernelsr.seeds import generator

SCALES = (2, 3, 4, 8)
FAMILIES = ("aniso", "iso", "iso8", "motion", "random_motion", "disk", "div2krk", "usrnet12")


def blank(scale: int, size: int = 0, centre: str = "fkp") -> Problem:
    return Problem(torch.zeros(1, 1, 16, 16, dtype=torch.float64), scale, size, centre)


def true(name: str, scale: int, n: int) -> tuple[Problem, Tensor]:
    """Kernels (n, 1, K, K) of a family; a ValueError where it has none for the scale."""
    noise = name == "aniso, 40 % noise"
    cfg = compose_config([f"+family@drawn={name.partition(',')[0]}", *(["drawn.noise=0.4"] if noise else [])])
    family = instantiate(cfg.drawn)
    problem = blank(scale, kernel_size_of(family, scale))
    return problem, family(n, problem, generator(1, name, str(scale)))


def broken(scale: int, n: int) -> Iterator[tuple[str, Problem, Tensor]]:
    """Kernels broken in ways that have a name."""
    problem, rng = blank(scale), generator(1, "broken", str(scale))
    size = problem.kernel_size
    drawn = AnisotropicGaussian()(n, problem, rng)
    share = torch.rand(n, 2, generator=rng, dtype=torch.float64)
    row_share, column_share = (torch.stack([1 - part, part], 1) for part in share.unbind(1))
    point = torch.zeros_like(drawn)
    middle = slice(size // 2, size // 2 + 2)
    point[..., middle, middle] = (row_share[:, :, None] * column_share[:, None])[:, None]
    yield "delta between four pixels", problem, point
    yield "flat", problem, torch.full((1, 1, size, size), 1 / size**2, dtype=torch.float64)
    yield "other convention's centre", problem, AnisotropicGaussian()(n, blank(scale, size, "aligned"), rng)
    angle = 2 * torch.pi * torch.rand(n, generator=rng, dtype=torch.float64)
    moved = 0.3 * scale * torch.stack([angle.cos(), angle.sin()], 1)
    yield "moved by 0.3 LR pixels", problem, kernels.shift(drawn, moved)
    side = torch.zeros_like(drawn)
    side[..., 0] = 1 / size
    yield "a tenth of the mass on one side", problem, 0.9 * drawn + 0.1 * side
    yield "a pedestal of 30 %", problem, 0.7 * drawn + 0.3 / size**2


def row(kind: str, problem: Problem, drawn: Tensor) -> dict[str, object]:
    flags = [kernel_flags(kernel, problem) for kernel in drawn.split(1)]
    counts = Counter(flag for found in flags for flag in found)
    share = {flag: round(counts[flag] / len(flags), 4) for flag in ("collapsed", "off-centre", "border")}
    return {
        "kernels": kind,
        "scale": problem.scale,
        "number": len(flags),
        "flagged": round(sum(map(bool, flags)) / len(flags), 4),
    } | share


def main() -> None:
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    rows = []
    for scale in SCALES:
        for name in (*FAMILIES, "aniso, 40 % noise"):
            try:
                rows.append(row(name, *true(name, scale, n)))
            except (ValueError, FileNotFoundError) as error:
                print(f"{name} x{scale}: {error}")
        rows += [row(f"broken: {kind}", problem, drawn) for kind, problem, drawn in broken(scale, n)]
    write_table(sys.argv[1], rows)
    for each in rows:
        print(*each.values(), sep="\t")


if __name__ == "__main__":
    main()
