"""No loop: the prior's kernel as it stands, and the image that goes with it."""

from __future__ import annotations

from collections.abc import Callable

from kernelsr.degradation import degrade
from kernelsr.learner import KernelPrior, Restorer
from kernelsr.problem import Estimate, Problem, Progress
from kernelsr.solvers.nonblind import nonblind


def direct(
    problem: Problem,
    prior: KernelPrior,
    restorer: Restorer | None,
    *,
    steps: int = 1,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Estimate:
    """Take the kernel that the prior begins with: of a spectral fit, or of what ``start=`` names.

    Args:
        steps: there is one, whatever this says; here so that every solver has it.
        on_step: called once.

    Returns:
        The kernel, the restorer's finished image with it where there is a restorer, and the prior's doubt.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; a solver needs at least one")
    kernel = prior().detach()
    image = None if restorer is None else nonblind(problem, kernel, restorer)
    loss = kernel.new_zeros(())
    if image is not None:
        loss = (degrade(image, kernel, problem.scale) - problem.lr).square().mean()
    on_step(Progress(0, loss, image, kernel))
    return Estimate(image, kernel, doubt=prior.doubt)
