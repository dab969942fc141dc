"""Families made of families: mixtures, and any family with noisy pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.families.family import KernelFamily, kernel_size_of, recentred, uniform
from kernelsr.problem import Problem


@dataclass(frozen=True)
class Mixture:
    """Each kernel is drawn from one of several families, chosen at random by weight.

    Args:
        families: by names of one's own.
        weights: of the families by the same names, not negative; they need not sum to one. Equal where it is None.
    """

    families: Mapping[str, KernelFamily]
    weights: Mapping[str, float] | None = None

    def kernel_size(self, scale: int) -> int:
        """The largest that one of its families needs."""
        return max(kernel_size_of(self.families[name], scale) for name in self._shares())

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        shares = self._shares()
        weights = torch.tensor(list(shares.values()), dtype=torch.float64, device=rng.device)
        chosen = torch.multinomial(weights, n, replacement=True, generator=rng)
        drawn = problem.lr.new_empty(n, 1, problem.kernel_size, problem.kernel_size)
        for number, name in enumerate(shares):
            place = (chosen == number).nonzero()[:, 0]
            if len(place):
                drawn[place.to(drawn.device)] = self.families[name](len(place), problem, rng)
        return drawn

    def _shares(self) -> dict[str, float]:
        """The weights above zero, by name."""
        weights = dict.fromkeys(self.families, 1.0) if self.weights is None else dict(self.weights)
        if set(weights) != set(self.families):
            raise ValueError(f"weights are of {', '.join(weights)}, the families are {', '.join(self.families)}")
        shares = {name: weight for name, weight in weights.items() if weight > 0}
        if not shares or min(weights.values()) < 0:
            raise ValueError(f"weights are {weights}; give none below zero and at least one above")
        return shares


@dataclass(frozen=True)
class Noisy:
    """Any family with noisy pixels: each is multiplied by 1 + U(-level, level), the centre of mass put back.

    So do the papers draw their non-Gaussian kernels, with level 0.4, from Gaussians (whose families have a ``noise`` of
    their own, applied before the one shift as in the papers).
    """

    family: KernelFamily
    level: float = 0.4

    def kernel_size(self, scale: int) -> int:
        """What its family needs."""
        return kernel_size_of(self.family, scale)

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        if not 0 <= self.level < 1:
            raise ValueError(f"level is {self.level}; it must lie in [0, 1), the papers use 0.4")
        clean = self.family(n, problem, rng).double()
        noise = uniform(tuple(clean.shape), -self.level, self.level, rng).to(clean.device)
        target = kernels.centre(problem.centre, problem.kernel_size, problem.scale)
        return recentred(clean * (1 + noise), target).to(problem.lr)
