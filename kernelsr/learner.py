"""The protocols, nothing else: Learner, and the two kinds of it that a solver couples, KernelPrior and Restorer."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kernelsr.problem import Doubt

Misfit = Callable[[Tensor], Tensor]
"""Candidate kernels (n, 1, K, K) -> their data error (n,) with the current image."""
BUILDING = threading.RLock()
"""Held while a part is built, since layers draw from PyTorch's global generator: images side by side are built in turn."""


class Learner(nn.Module, ABC):
    """An unknown of the problem that learns by gradient steps: made for one problem, run once, thrown away.

    Constructors take ``(problem, rng, *, own settings)``. ``optimizer`` is None where there is nothing to learn.
    It rests until ``start``, then moves at every ``every``-th step and accumulates gradients in between.

    ``replays`` is a promise for GPUs (see ``replay``): steps of one ``phase`` are the same operations on the same storage,
    which neither draw, nor decide by values, nor count in Python. ``held`` is set where gradients must keep their storage.
    """

    optimizer: torch.optim.Optimizer | None = None
    start: int = 0
    every: int = 1
    replays: bool = False
    held: bool = False

    def duty(self, i: int) -> str:
        """What is due at solver step i: ``rest``, ``accumulate`` or ``move``."""
        if i < self.start:
            return "rest"
        return "accumulate" if (i + 1) % self.every else "move"

    def phase(self, i: int) -> Hashable:
        """All that tells solver step i from others, asked before it. Default: its duty."""
        return self.duty(i)

    def step(self, i: int) -> None:
        """Once a solver step, after backward: rest, accumulate or move."""
        duty = self.duty(i)
        if duty == "rest":
            self.zero_grad()
            self.project_()
        elif duty == "move":
            self.move()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; where they are held, by zeros in place."""
        if not self.held:
            super().zero_grad(set_to_none)
        elif gradients := [parameter.grad for parameter in self.parameters() if parameter.grad is not None]:
            torch._foreach_zero_(gradients)

    def move(self) -> None:
        """One step along the accumulated gradient, back to the feasible set."""
        if self.optimizer is not None:
            self.optimizer.step()
            self.zero_grad()
        self.project_()

    def project_(self) -> None:
        """Back to the feasible set, in place (FKP's sphere). Default: every point is feasible."""


class KernelPrior(Learner):
    """A point among kernels, moved by the loss.

    ``passes`` is how many equal degradations at x2 the whole one is thought to be: 1, unless the prior is made so
    (KernelGAN's x4 is two at x2). ``fit_lr`` is Adam's step where ``begin_at`` fits. ``holds``: as a start, it holds the
    loop by its penalty; ``holding`` is the penalty of the start that holds this one, if one does. ``doubt`` is Estimate's;
    ``settled``: the start is so sure of its kernel that no loop is to move it.
    """

    passes: int = 1
    holds: bool = False
    holding: Callable[[Tensor], Tensor] | None = None
    doubt: Doubt | None = None
    settled: bool = False
    fit_lr: float = 1e-2

    @abstractmethod
    def forward(self) -> Tensor:
        """The current kernel, (1, 1, K, K)."""

    def one_pass(self) -> KernelPrior:
        """The prior of one of the passes, which learns in this one's place. Default: there is but one pass."""
        return self

    def penalty(self, kernel: Tensor) -> Tensor:
        """The prior's own term of the loss for this kernel. Default: none."""
        return kernel.new_zeros(())

    def penalties(self, kernel: Tensor) -> Tensor:
        """What solvers add to the loss: the prior's penalty and, where a start holds it, that one's."""
        own = self.penalty(kernel)
        return own if self.holding is None else own + self.holding(kernel)

    def advance(self, misfit: Misfit) -> None:
        """Listen to the image before the step (DKP's Monte-Carlo step): what the host does for it, then the device."""
        self.prepare()
        self.listen(misfit)

    def prepare(self) -> None:
        """The host's part of listening: counts, and draws into storage that stays where it is. Default: nothing."""

    def listen(self, misfit: Misfit) -> None:
        """The device's part, after ``prepare``. Default: silent."""

    def follow(self, start: KernelPrior) -> None:
        """Begin where another prior is, in its doubt and settled if it is, and be held there by its penalty if it holds."""
        self.begin_at(start().detach())
        self.holding, self.doubt = start.penalty if start.holds else None, start.doubt
        self.settled = start.settled

    def begin_at(self, kernel: Tensor) -> None:
        """Put the prior at a kernel (1, 1, K, K), or as near as it comes. Default: a fit of what it learns, by Adam.

        The fit has an optimiser of its own, so that the solver's starts with no momentum.
        """
        own = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not own:
            raise ValueError(f"{type(self).__name__} learns nothing that could start elsewhere; choose start=own")
        target = kernel.detach() / kernel.max()
        fit = torch.optim.Adam(own, self.fit_lr)
        slower = torch.optim.lr_scheduler.CosineAnnealingLR(fit, 300)
        for _ in range(300):
            error = (self() / kernel.max() - target).square().mean()
            fit.zero_grad()
            error.backward()
            fit.step()
            self.project_()
            slower.step()
        self.zero_grad()


class Restorer(Learner):
    """The image that a kernel implies.

    ``calls`` is how many calls make a finished image when the kernel is known: one for a network that is trained, the
    reverse steps of a diffusion, the steps of a deep image prior.
    """

    calls: int = 1

    @abstractmethod
    def forward(self, kernel: Tensor) -> Tensor:
        """The image, (1, C, sh, sw), for a kernel (1, 1, K, K)."""

    def penalty(self, image: Tensor) -> Tensor:
        """A term of the loss for this image (DKP's hyper-Laplacian). Default: none."""
        return image.new_zeros(())


def at_once(restorer: Restorer) -> Restorer:
    """A restorer for a quick look: its image is there at one call, and nothing learns; else a ValueError."""
    if restorer.optimizer is not None or restorer.calls > 1:
        raise ValueError(
            f"{type(restorer).__name__} learns or takes several calls, and a quick look needs a network that is trained; "
            "usrnet is"
        )
    return restorer


@contextmanager
def initialised_from(rng: torch.Generator) -> Iterator[None]:
    """Inside, PyTorch's global generator is seeded from ``rng``: layers draw their initial weights from nothing else."""
    with BUILDING, torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would reseed every CUDA device too, which fork_rng does not restore here.
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        yield
