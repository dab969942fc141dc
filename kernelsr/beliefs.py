"""Kernels of which a posterior says how sure they are; and what is believed of a Gaussian kernel, a Gaussian over its shape.

A kernel's *shape* is (size, stretch, skew), its covariance in HR pixels squared having the logarithm
[[size + stretch, skew], [skew, size - stretch]] in (row, column): any three numbers are a covariance, and an error of e in
one of them is an error of 100 e % in a variance.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kernelsr import kernels
from kernelsr.learner import KernelPrior
from kernelsr.problem import Problem

Settled = float | Mapping[str, float]
"""Up to which spread of its size's logarithm a kernel is settled, so that no loop begins there; 0 for never. Or such spreads
by scale, {"x4": 0.2}, where a loop is worth its time: at others every kernel that has a doubt is settled."""
STEP = 1e-5
"""Of the central differences by which a kernel's slopes are taken, in the shape's numbers."""


class Belief(NamedTuple):
    """A Gaussian over shapes: mean (n, 3) and precision (n, 3, 3)."""

    mean: Tensor
    precision: Tensor

    def distance(self, shape: Tensor) -> Tensor:
        """Mahalanobis' distance squared (n,) of shapes (n, 3)."""
        error = shape - self.mean
        return torch.einsum("ni,nij,nj->n", error, self.precision, error)

    def spread(self) -> Tensor:
        """Standard deviations (n, 3) of size, stretch and skew."""
        return torch.linalg.inv(self.precision).diagonal(dim1=1, dim2=2).sqrt()


class Posterior(KernelPrior):
    """A kernel that was read off y, with how sure it is; nothing learns.

    As a start it may also hold the loop: its penalty is ``weight`` times d'Pd/2, beside a mean squared error of images in
    [0, 1], P the precision of what is known of the kernel (the buffer ``precision``, where it holds) and d how far ``away``
    from its own another kernel is, so that the loop is held as firmly as the kernel is known.
    """

    weight: float = 0.0

    def as_start(self, weight: float, settled: Settled, scale: int) -> None:
        """How it deals with a loop, as a start; once, by the constructor.

        The kernel is settled where its ``doubt``, if the constructor has set one, is ``settled`` at most, and where the
        constructor has said so, as a start does of one that its fit has settled.
        """
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight is {weight}; a penalty has a positive weight, or 0 for none")
        limits = settled if isinstance(settled, Mapping) else {f"x{scale}": settled}
        if not all(0 <= limit < math.inf and re.fullmatch(r"x\d+", place) for place, limit in limits.items()):
            raise ValueError(
                f"settled is {settled}; it is a spread, or 0 for a kernel that is never settled, or by scale {{x4: 0.2}}"
            )
        limit = limits.get(f"x{scale}", math.inf)
        self.settled = self.settled or (limit > 0 and self.doubt is not None and self.doubt.size <= limit)
        self.weight, self.holds = weight, weight > 0

    @abstractmethod
    def away(self, kernel: Tensor) -> Tensor:
        """How far (m,) a kernel (1, 1, K, K) that a loop has come to is from its own."""

    def penalty(self, kernel: Tensor) -> Tensor:
        if not self.holds:
            return kernel.new_zeros(())
        d = self.away(kernel)
        return self.weight * (d @ self.get_buffer("precision") @ d) / 2


class Believed(Posterior):
    """The kernel that a belief about its shape has for its mean, or nearby.

    It holds a loop by the shape: that of the Gaussian which is next to the loop's kernel to first order, so that what no
    Gaussian is near to, a pedestal or grain, costs nothing.

    Args:
        belief: about one shape, in HR pixels.
        chosen: the kernel's shape (3,).
    """

    belief: Belief
    chosen: Tensor

    def believe(
        self,
        belief: Belief,
        problem: Problem,
        weight: float = 0.0,
        chosen: Tensor | None = None,
        settled: Settled = 0.0,
    ) -> None:
        """Take a belief, and the shape (3,) of the kernel that is chosen for it, the mean; once, by the constructor."""
        self.as_start(weight, settled, problem.scale)
        self.belief = Belief(*(part.detach().cpu().double() for part in belief))

        def kernel(shape: Tensor) -> Tensor:
            return gaussian(covariance_of(shape), problem)

        self.chosen = self.belief.mean[0] if chosen is None else chosen.detach().cpu().double()
        self.register_buffer("kernel", kernel(self.chosen).to(problem.lr))
        if self.holds:
            # Right to 1e-9 in float64, and torch's forward mode takes two seconds to import.
            steps = STEP * torch.eye(3, dtype=torch.float64)
            slopes = torch.stack([kernel(self.chosen + h) - kernel(self.chosen - h) for h in steps], -1) / (2 * STEP)
            self.register_buffer("distance", torch.linalg.pinv(slopes.reshape(-1, 3)).to(problem.lr))
            self.register_buffer("precision", self.belief.precision[0].to(problem.lr))

    def forward(self) -> Tensor:
        return self.get_buffer("kernel")

    def away(self, kernel: Tensor) -> Tensor:
        return self.get_buffer("distance") @ (kernel - self()).flatten()


def covariance_of(shape: Tensor) -> Tensor:
    """The covariances (..., 2, 2) of shapes (..., 3)."""
    size, stretch, skew = shape.unbind(-1)
    rows = torch.stack([size + stretch, skew], -1), torch.stack([skew, size - stretch], -1)
    return torch.linalg.matrix_exp(torch.stack(rows, -2))


def shape_of(covariance: Tensor) -> Tensor:
    """The shapes (n, 3) of covariances (n, 2, 2), as their logarithms."""
    values, axes = torch.linalg.eigh(covariance)
    logarithm = axes @ torch.diag_embed(values.log()) @ axes.mT
    down, right = logarithm[:, 0, 0], logarithm[:, 1, 1]
    return torch.stack([(down + right) / 2, (down - right) / 2, logarithm[:, 0, 1]], 1)


def gaussian(covariance: Tensor, problem: Problem) -> Tensor:
    """The Gaussian kernel (1, 1, K, K) of a covariance (2, 2), about the convention's centre, zero outside ``middle``."""
    place, around = middle(problem)
    offset = torch.cartesian_prod(place, place).to(covariance)
    distance = (offset @ torch.linalg.inv(covariance) * offset).sum(1)
    return F.pad((-distance / 2).softmax(0).view(1, 1, len(place), len(place)), around)


def middle(problem: Problem) -> tuple[Tensor, tuple[int, int, int, int]]:
    """The part of the support that is symmetric about the convention's centre: offsets (m,) from it, the zeros around.

    A wide Gaussian that went on to the farther border would have its centre of mass beside the centre. The kernels of the
    FKP protocol, which are moved to it, end here too but for a spline's leak.
    """
    size, centre = problem.kernel_size, kernels.centre(problem.centre, problem.kernel_size, problem.scale)
    reach = min(centre, size - 1 - centre)
    before, side = round(centre - reach), round(2 * reach) + 1
    after = size - side - before
    return torch.arange(side, dtype=torch.float64) - reach, (before, after, before, after)
