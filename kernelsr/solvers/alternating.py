"""The alternating loop: a step of the image with the kernel fixed, then steps of the kernel with the image fixed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch.nn.functional import mse_loss

from kernelsr.degradation import degrade
from kernelsr.learner import KernelPrior, Misfit, Restorer
from kernelsr.problem import Estimate, Problem, Progress
from kernelsr.quadratic import Quadratic
from kernelsr.solvers.joint import misfit, refuse_unfinished

MANY = 10
"""Kernel steps on one image from which on making the quadratic form pays."""


def alternating(
    problem: Problem,
    prior: KernelPrior,
    restorer: Restorer | None,
    *,
    steps: int = 100,
    kernel_rest: float = 0.75,
    kernel_steps: int = 10,
    counts: float | None = None,
    known: KernelPrior | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Estimate:
    """Estimate kernel and image in turns; Diff-DKP, Yang et al. (2024): one reverse step of the diffusion, then the kernel.

    A restorer that learns (a deep image prior) takes a step on the squared data error instead.

    Args:
        steps: image steps.
        kernel_rest: the share of the steps for which the kernel rests first, as the image means little at the beginning.
        kernel_steps: gradient steps of the kernel on the squared data error after each image step. The prior's own ``start``
            and ``every`` count these.
        counts: of so many independent Gaussian numbers the data error is the variance, for the kernel's steps: its logarithm,
            times counts/2, is then the loss, beside which a penalty that is a likelihood has a meaning. None: the error itself.
        known: its penalty is one more term of the kernel's loss: what is known besides, as by the spectral fit that the prior
            begins at.
        on_step: called after each image step.

    Returns:
        The last image, and the kernel after its last step.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; a solver needs at least one")
    if not 0 <= kernel_rest < 1:
        raise ValueError(
            f"kernel_rest is {kernel_rest}; it is the share of the steps for which the kernel rests, below 1"
        )
    if kernel_steps < 1:
        raise ValueError(f"kernel_steps is {kernel_steps}; the kernel needs at least one step for each of the image")
    if restorer is None:
        raise ValueError(
            "solver=alternating fits the kernel to the restorer's image, and restorer=none makes none; "
            "choose restorer=diffusion"
        )
    if not any(parameter.requires_grad for parameter in prior.parameters()):
        raise ValueError(
            "solver=alternating has no kernel to move, for this prior does not learn; choose solver=direct with "
            "nonblind=diffusion"
        )
    refuse_unfinished(restorer, steps)
    y, s, seen, first = problem.lr, problem.scale, problem.inside, int(kernel_rest * steps)
    for step in range(steps):
        kernel = prior().detach()
        image = restorer(kernel)
        if restorer.optimizer is not None:
            (mse_loss(seen(degrade(image, kernel, s)), seen(y)) + restorer.penalty(image)).backward()
            restorer.step(step)
        image = image.detach()
        loss = mse_loss(seen(degrade(image, kernel, s)), seen(y))
        if step >= first:
            error: Misfit = partial(misfit, image, problem)
            if kernel_steps >= MANY:
                error = Quadratic(image, problem, kernel)
            prior.advance(error)
            for inner in range(kernel_steps):
                kernel = prior()
                loss = error(kernel)[0]
                data = loss if counts is None else counts / 2 * loss.log()
                besides = 0 if known is None else known.penalty(kernel)
                (data + prior.penalty(kernel) + besides).backward()
                prior.step((step - first) * kernel_steps + inner)
        on_step(Progress(step, loss.detach(), image, kernel.detach()))
    return Estimate(image, prior().detach())
