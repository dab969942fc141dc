"""DKP: a prior that is trained on random kernels while it listens to the image."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import torch
from torch import Tensor

from kernelsr.families import AnisotropicGaussian, KernelFamily
from kernelsr.learner import KernelPrior, Learner, Misfit
from kernelsr.priors.network import Network
from kernelsr.problem import Problem


class Dynamic(KernelPrior):
    """The dynamic kernel prior: random kernels, weighted by how well they explain the image, teach a base prior.

    Yang et al. (2024), DKP, sections 3.2-3.3. A rehearsal fits the base to random kernels. Then, at every
    ``listen_every``-th step, ``samples`` random kernels are scored by re-degrading the current image, and the base takes
    one step towards them by their weights (Monte-Carlo kernel sampling); between these steps the loss's gradient
    accumulates and moves it every ``every`` steps (kernel estimation). What has accumulated is dropped at a listening
    step, as in the released code.

    Args:
        base: (problem, rng) -> the prior that is made dynamic; it keeps its own optimiser and feasible set.
        family: where the random kernels are drawn from. The released code's range of variances is the default.
        rehearsal: steps of the warm-up, one random kernel each.
        listen_every: solver steps from one Monte-Carlo step to the next.
        samples: random kernels in each Monte-Carlo step.
        every: solver steps whose gradients make one kernel step.

    Raises:
        ValueError: the base learns nothing, or a count is less than one.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        base: Callable[[Problem, torch.Generator], KernelPrior] = Network,
        family: KernelFamily | None = None,
        rehearsal: int = 200,
        listen_every: int = 5,
        samples: int = 5,
        every: int = 3,
    ):
        super().__init__()
        for name, value in (("samples", samples), ("listen_every", listen_every), ("every", every)):
            if value < 1:
                raise ValueError(f"{name} is {value}; prior=dkp needs at least 1")
        self.base = base(problem, rng)
        if not any(parameter.requires_grad for parameter in self.base.parameters()):
            raise ValueError(
                f"prior=dkp teaches its base random kernels, and {type(self.base).__name__} learns nothing; choose another "
                "with prior@prior.base= (and start=spectral to begin at the spectral fit)"
            )
        self.family = family or AnisotropicGaussian("released")
        self.problem, self.rng = problem, rng
        self.listen_every, self.samples, self.every = listen_every, samples, every
        self.replays = self.base.replays
        # Proposals are drawn on the CPU, whatever the device, and come over without making it wait.
        self.drawn_for = replace(problem, lr=problem.lr.cpu())
        self.steps, self.listening, self.proposals = 0, False, problem.lr.new_empty(0)
        for _ in range(rehearsal):
            self._learn(self.family(1, problem, rng), torch.ones(1).to(problem.lr))

    def forward(self) -> Tensor:
        return self.base()

    def penalty(self, kernel: Tensor) -> Tensor:
        return self.base.penalty(kernel)

    def phase(self, i: int) -> Hashable:
        return self.duty(i), self.steps % self.listen_every == 0

    def prepare(self) -> None:
        """Whether this step listens, and then the random kernels."""
        self.listening = self.steps % self.listen_every == 0
        self.steps += 1
        if self.listening:
            drawn = self.family(self.samples, self.drawn_for, self.rng)
            if self.proposals.shape != drawn.shape:
                self.proposals = self.problem.lr.new_empty(drawn.shape)
            on_gpu = self.proposals.is_cuda
            self.proposals.copy_(drawn.pin_memory() if on_gpu else drawn, non_blocking=on_gpu)

    def listen(self, misfit: Misfit) -> None:
        """At a listening step, one step of the base towards the random kernels that explain the image."""
        if self.listening:
            self.base.zero_grad()
            self._learn(self.proposals, monte_carlo_weights(misfit(self.proposals)))

    def begin_at(self, kernel: Tensor) -> None:
        """After the rehearsal, whose momentum is forgotten."""
        self.base.begin_at(kernel)
        for learner in self.base.modules():  # a wrapper's optimiser is inside it
            if isinstance(learner, Learner) and learner.optimizer is not None:
                learner.optimizer.state.clear()

    def move(self) -> None:
        self.base.move()

    def _learn(self, proposals: Tensor, weights: Tensor) -> None:
        squares = ((self.base() - proposals) ** 2).mean((1, 2, 3))
        (weights * squares).sum().backward()
        self.base.move()


def monte_carlo_weights(errors: Tensor) -> Tensor:
    """DKP's weights (n,) of random kernels with data errors (n,): -(1-p)^2 log(p + 1e-3), the least error the heaviest.

    p is each error above the least, as a share of their sum; Yang et al. (2024), released code.
    """
    above = errors - errors.min()
    p = above / (above.sum() + 1e-5)
    return -((1 - p) ** 2) * torch.log(p + 1e-3)
