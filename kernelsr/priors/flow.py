"""FKP: a latent of a trained normalizing flow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kernelsr import flows
from kernelsr.families import mean_kernel
from kernelsr.learner import KernelPrior
from kernelsr.problem import Problem


class Flow(KernelPrior):
    """A latent on the typical sphere of a frozen flow; FKP, Liang et al. (2021), section 3.3.

    Most of a D-dimensional Gaussian's mass lies about radius sqrt(D) = K; after each move, and while it rests, the
    latent is projected onto the sphere of radius K - 1.

    Args:
        flow: scale -> the trained flow; ours by default.
        lr, beta1: Adam's step on the latent, and its first momentum.
        start: the step from which the latent moves. The paper says 75; the released code's count makes it 76.
        initial: ``mean``, the latent of the mean kernel, or ``random``, a draw from the latent's Gaussian as in the paper.
            The loop corrects a bad start slowly, as the image settles around it; the released code fixes a draw that
            happens to be smooth.
        latent_seed: of a ``random`` start: draw it from PyTorch's generator with this seed (the released code: 5), not
            from ``rng``.
    """

    replays = True

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        flow: Callable[[int], flows.KernelFlow] = flows.bundled,
        lr: float = 0.5,
        beta1: float = 0.9,
        start: int = 76,
        initial: str = "mean",
        latent_seed: int | None = None,
    ):
        super().__init__()
        self.start = start
        self.flow = flow(problem.scale).to(problem.lr).eval().requires_grad_(False)
        size = self.flow.kernel_size
        if size != problem.kernel_size:
            raise ValueError(
                f"the flow makes {size}x{size} kernels, the problem has kernel_size {problem.kernel_size}; "
                f"set kernel_size={size} or train a flow of that size"
            )
        if self.flow.centre != problem.centre:
            raise ValueError(
                f"the flow makes kernels of centre {self.flow.centre}, the problem has {problem.centre}; "
                f"set centre={self.flow.centre} or train a flow for the other"
            )
        if initial == "mean":
            latent = self.flow.encode(mean_kernel(problem).to(problem.lr))
        elif initial == "random":
            source = rng if latent_seed is None else torch.Generator().manual_seed(latent_seed)
            latent = torch.randn(1, size**2, generator=source).to(problem.lr)
        else:
            raise ValueError(f"initial is {initial!r}; choose mean or random")
        self.latent = nn.Parameter(latent)
        self.optimizer = torch.optim.Adam([self.latent], lr, betas=(beta1, 0.999))
        self.project_()

    def forward(self) -> Tensor:
        return self.flow.decode(self.latent)

    @torch.no_grad()
    def project_(self) -> None:
        self.latent.mul_((self.flow.kernel_size - 1) / self.latent.norm())

    def begin_at(self, kernel: Tensor) -> None:
        """At the kernel's code, then fitted by Adam on the sphere, onto which the code was projected."""
        with torch.no_grad():
            self.latent.copy_(self.flow.encode(kernel))
        self.project_()
        super().begin_at(kernel)
