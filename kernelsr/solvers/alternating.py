"""The alternating loop: a step of the image with the kernel fixed, then steps of the kernel with the image fixed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch.nn.functional import mse_loss

from kernelsr.degradation import degrade
from kernelsr.learner import KernelPrior, Misfit, Restorer
from kernelsr.problem import Estimate, Problem, Progress
from kernelsr.quadratic import Quadratic
from kernelsr.solvers.iterates import Late
from kernelsr.solvers.joint import misfit, refuse_unfinished

MANY = 4
"""Kernel steps on one image from which on the quadratic form is the cheaper way; experiments/bench/quadratic.py."""


def alternating(
    problem: Problem,
    prior: KernelPrior,
    restorer: Restorer | None,
    *,
    steps: int = 100,
    kernel_rest: float = 0.75,
    kernel_steps: int = 10,
    still: float = 0.0,
    average: float = 0.0,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Estimate:
    """Estimate kernel and image in turns; Diff-DKP, Yang et al. (2024): one reverse step of the diffusion, then the kernel.

    A restorer that learns (a deep image prior) takes a step on the squared data error instead.

    Args:
        steps: image steps.
        kernel_rest: the share of the steps for which the kernel rests first, as the image means little at the beginning.
        kernel_steps: gradient steps of the kernel on the squared data error after each image step. The prior's own ``start``
            and ``every`` count these.
        still: it ends where the kernel, once it moves, moves less than this share of its mass in an image step; 0: never.
        average: the share of the steps after that rest, the last ones, over which the kernel is averaged, the later
            counting more; 0 takes the last.
        on_step: called after each image step.

    Returns:
        The last image, and the kernel after its last step or the mean of the late ones.
    """
    _refuse(prior, restorer, steps, kernel_rest, kernel_steps, still)
    assert restorer is not None
    refuse_unfinished(restorer, steps)
    y, s, seen, first = problem.lr, problem.scale, problem.inside, int(kernel_rest * steps)
    late = Late(average)
    for step in range(steps):
        before = kernel = prior().detach()
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
            turns = range((step - first) * kernel_steps, (step - first + 1) * kernel_steps)
            for turn in turns:
                kernel = prior()
                loss = error(kernel)[0] + prior.penalties(kernel)
                loss.backward()
                prior.step(turn)
            late.add(prior().detach())
        on_step(Progress(step, loss.detach(), image, kernel.detach()))
        # While a prior rests by its own schedule, or gathers gradients, that it stands still tells nothing.
        moves = step >= first and any(prior.duty(turn) == "move" for turn in turns)
        if still and moves and (prior().detach() - before).abs().sum() < 2 * still * before.abs().sum():
            break
    (kernel,) = late.mean
    return Estimate(image, kernel)


def _refuse(
    prior: KernelPrior, restorer: Restorer | None, steps: int, kernel_rest: float, kernel_steps: int, still: float
) -> None:
    if steps < 1:
        raise ValueError(f"steps is {steps}; a solver needs at least one")
    if not 0 <= kernel_rest < 1:
        raise ValueError(
            f"kernel_rest is {kernel_rest}; it is the share of the steps for which the kernel rests, below 1"
        )
    if still < 0:
        raise ValueError(f"still is {still}; it is a share of the kernel's mass, or 0 for never")
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
