"""Defocus: the evenly lit disk of a lens that is out of focus."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.families.family import bounds, room_around_centre, uniform
from kernelsr.families.gaussian import fkp_variances
from kernelsr.problem import Problem

ROWS = 16  # on which a pixel's share of the disk is measured


@dataclass(frozen=True)
class Disk:
    """Disks of random radius, antialiased: a pixel gets the area that the disk covers of it, its edges included.

    The area is exact along columns and the mean of 16 rows along rows. An axis variance is radius^2 / 4, to which
    a pixel's own width adds 1/12.

    Args:
        radius: HR pixels, a number or a range (low, high); where it is None, the radii of the FKP protocol's variances.
    """

    radius: float | tuple[float, float] | None = None

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        radius = uniform((n, 1, 1), *self._radii(problem), rng)
        size, centre = problem.kernel_size, kernels.centre(problem.centre, problem.kernel_size, problem.scale)
        row = (torch.arange(size * ROWS, dtype=torch.float64, device=rng.device) + 0.5) / ROWS - 0.5 - centre
        column = torch.arange(size, dtype=torch.float64, device=rng.device) - centre
        half = (radius**2 - row[:, None] ** 2).clamp(min=0).sqrt()
        chord = torch.minimum(column + 0.5, half) - torch.maximum(column - 0.5, -half)
        covered = chord.clamp(min=0).unflatten(1, (size, ROWS)).mean(2)
        return kernels.normalise(covered)[:, None].to(problem.lr)

    def _radii(self, problem: Problem) -> tuple[float, float]:
        # The disk may reach the outer edge of the border's pixels.
        room = room_around_centre(problem) + 0.5
        if self.radius is None:
            low, high = (2 * math.sqrt(variance) for variance in fkp_variances(problem.scale))
            return min(low, room), min(high, room)
        low, high = bounds(self.radius, "radius")
        if high > room:
            raise ValueError(
                f"radius is {high:g}; about its centre a {problem.kernel_size}x{problem.kernel_size} kernel at "
                f"x{problem.scale} holds {room:g} HR pixels: choose a smaller radius or a larger kernel_size"
            )
        return low, high
