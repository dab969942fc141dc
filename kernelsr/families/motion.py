"""Motion kernels: straight lines, and the random walks of a hand that shakes; drawn in place, so that nothing rings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.families.family import bounds, room_around_centre, spread, uniform
from kernelsr.problem import Problem

DENSITY = 16  # points of light on one HR pixel of a line
SAMPLES = 256  # of a random trajectory
ORIGINAL_SAMPLES = 2000  # of Boracchi and Foi's; anxiety is on their scale


@dataclass(frozen=True)
class LinearMotion:
    """A straight line, evenly lit: the motion kernels of DKP, Yang et al. (2024), section 4.1.

    The line is as thin as bilinear weights allow, with its middle at the problem's centre to rounding. DKP turns a row of
    pixels about the kernel's middle by bilinear interpolation, which is the same up to the softness of the ends.

    Args:
        length: HR pixels: a number, a range (low, high), ``any`` from one pixel to what the support holds, or None for DKP's
            2 int(K/4) + 1 (Diff-DKP has 7).
        angles: degrees to choose from (Diff-DKP: 0, 30, ..., 150), or None for any.
    """

    length: float | tuple[float, float] | str | None = None
    angles: Sequence[float] | None = None

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        low, high = self._lengths(problem)
        length = uniform((n, 1), low, high, rng)
        if self.angles is None:
            angle = uniform((n, 1), 0, 2 * math.pi, rng)
        elif not self.angles:
            raise ValueError("angles is empty; give at least one, in degrees, or leave it out for any")
        else:
            choice = torch.randint(len(self.angles), (n, 1), generator=rng, device=rng.device)
            angle = torch.tensor(list(self.angles), dtype=torch.float64, device=rng.device).deg2rad()[choice]
        points = math.ceil(DENSITY * high)
        along = (torch.arange(points, dtype=torch.float64, device=rng.device) + 0.5) / points - 0.5
        line = torch.stack([along * length * angle.sin(), along * length * angle.cos()], 2)
        centre = kernels.centre(problem.centre, problem.kernel_size, problem.scale)
        return spread(centre + line, problem.kernel_size).to(problem.lr)

    def _lengths(self, problem: Problem) -> tuple[float, float]:
        room = 2 * room_around_centre(problem)
        if self.length is None:
            low = high = min(2.0 * (problem.kernel_size // 4) + 1, room)
        elif self.length == "any":
            low, high = min(1.0, room), room
        elif isinstance(self.length, str):
            raise ValueError(f"length is {self.length!r}; give HR pixels, a range, any, or nothing for DKP's")
        else:
            low, high = bounds(self.length, "length")
        if high > room:
            raise ValueError(
                f"length is {high:g}; about its centre a {problem.kernel_size}x{problem.kernel_size} kernel at "
                f"x{problem.scale} holds {room:g} HR pixels: choose a shorter length or a larger kernel_size"
            )
        return low, high


@dataclass(frozen=True)
class RandomMotion:
    """The trajectories of a shaking camera, cut by the exposure; after Boracchi and Foi (2012), section III.

    A point moves at constant speed. Its velocity has inertia and is disturbed at each moment by Gaussian tremor and by a
    pull back to where it set out, both in proportion to the anxiety; now and then an impulse throws it back. The
    kernel is the light along the part of the trajectory that the exposure covers, its centre of mass at the problem's
    centre. A trajectory that would leave the support is made smaller.

    Args:
        length: of the whole trajectory, HR pixels; K where it is None.
        exposures: the shares of the trajectory to choose from.
        anxiety: a number, or a range (low, high) drawn evenly on a logarithmic scale: 0.001 is almost a line, 0.02 a tremble
            on the spot.
    """

    length: float | None = None
    exposures: Sequence[float] = (0.25, 0.5, 1.0)
    anxiety: float | tuple[float, float] = (0.001, 0.02)

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        low, high = bounds(self.anxiety, "anxiety")
        if not self.exposures or not all(0 < share <= 1 for share in self.exposures):
            raise ValueError(f"exposures are {list(self.exposures)}; give shares above 0 and at most 1")
        if self.length is not None and self.length <= 0:
            raise ValueError(f"length is {self.length}; give a positive number of HR pixels, or leave it out for K")
        anxiety = uniform((n, 1), math.log(low), math.log(high), rng).exp()
        path = trajectories(anxiety, self.length or problem.kernel_size, rng)
        choice = torch.randint(len(self.exposures), (n,), generator=rng, device=rng.device)
        drawn = path.new_empty(n, 1, problem.kernel_size, problem.kernel_size)
        for number, share in enumerate(self.exposures):
            covered = path[choice == number, : max(round(share * SAMPLES), 1)]
            drawn[choice == number] = lit(covered, problem)
        return drawn.to(problem.lr)


def lit(path: Tensor, problem: Problem) -> Tensor:
    """The kernels of trajectories (n, m, 2), each centred, and made smaller where it would leave the support."""
    path = path - path.mean(1, keepdim=True)
    reach = path.abs().amax((1, 2), keepdim=True).clamp(min=1e-9)
    path = path * (room_around_centre(problem) / reach).clamp(max=1)
    return spread(kernels.centre(problem.centre, problem.kernel_size, problem.scale) + path, problem.kernel_size)


def trajectories(anxiety: Tensor, length: float, rng: torch.Generator) -> Tensor:
    """Random trajectories (n, SAMPLES, 2) of one length in HR pixels for anxieties (n, 1), starting at the origin.

    Tremor, pull and rate of impulses are U(0, 10), U(0, 0.7) and U(0, 0.2) for each trajectory, times its anxiety, at each
    of the original's 2000 samples; for fewer samples they are scaled as a diffusion, a drift and a rate scale. An impulse
    has twice the speed and points back, up to half a radian aside.
    """
    n, coarser = len(anxiety), ORIGINAL_SAMPLES / SAMPLES
    tremor = uniform((n, 1), 0, 10, rng) * anxiety * math.sqrt(coarser)
    pull = uniform((n, 1), 0, 0.7, rng) * anxiety * coarser
    impulses = uniform((n, 1), 0, 0.2, rng) * anxiety * coarser
    heading = uniform((n, 1), 0, 2 * math.pi, rng)
    velocity = torch.cat([heading.sin(), heading.cos()], 1)
    noise = torch.randn(SAMPLES, n, 2, generator=rng, dtype=torch.float64, device=rng.device)
    thrown = uniform((SAMPLES, n, 1), 0, 1, rng) < impulses
    aside = uniform((SAMPLES, n, 1), -0.5, 0.5, rng)
    place, path = torch.zeros_like(velocity), []
    for moment in range(SAMPLES):
        path.append(place)
        turned = torch.stack([velocity[:, 1], -velocity[:, 0]], 1)
        throw = -2 * thrown[moment] * (velocity * aside[moment].cos() + turned * aside[moment].sin())
        velocity = velocity + throw + tremor * noise[moment] - pull * place
        velocity = velocity / velocity.norm(dim=1, keepdim=True)
        place = place + velocity * length / SAMPLES
    return torch.stack(path, 1)
