"""The joint loop: kernel and image descend one loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn.functional import mse_loss

from kernelsr.degradation import degrade
from kernelsr.learner import KernelPrior, Misfit, Restorer
from kernelsr.losses import ssim
from kernelsr.problem import Estimate, Problem, Progress
from kernelsr.replay import own_stream, replay_of
from kernelsr.solvers.iterates import Late, Standing


def misfit(image: Tensor, problem: Problem, kernels: Tensor) -> Tensor:
    """Mean squared error (n,) of the LR images that candidate kernels (n, 1, K, K) make of an image."""
    return (problem.inside(degrade(image, kernels, problem.scale) - problem.lr) ** 2).mean((1, 2, 3))


def refuse_unfinished(restorer: Restorer, steps: int) -> None:
    """A ValueError where a restorer that takes many calls to its image, a diffusion, would be stopped on the way."""
    if restorer.optimizer is None and restorer.calls > steps:
        raise ValueError(
            f"solver.steps is {steps}, and the restorer's image is finished after {restorer.calls} only; set "
            f"restorer.steps={steps}, or more for the solver"
        )


def joint(
    problem: Problem,
    prior: KernelPrior,
    restorer: Restorer | None,
    *,
    steps: int = 1000,
    ssim_steps: int = 80,
    still: float = 0.0,
    average: float = 0.0,
    graph: bool | str = "auto",
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Estimate:
    """Estimate kernel and image together by descending one loss; FKP (2021), Algorithm 1, and DKP (2024), Algorithm 1.

    Which method this is, the parts decide: their schedules are their own.

    Args:
        steps: image steps.
        ssim_steps: the data loss is 1 - SSIM so long, then the mean squared error; 80 in FKP, 405 in DKP.
        still: it ends where the mean of the kernel over 20 steps lies nearer than this share of its mass to that of the 20
            before, in both of which its prior moved it, after ``ssim_steps``; 0: never.
        average: the share of the steps, the last ones, over which kernel and image are averaged, the later counting more;
            0 takes the last.
        graph: replay steps as CUDA graphs: ``auto``, where device and parts allow; true, or an error; false, never.
        on_step: called after each step. What it is shown is overwritten by the next step where steps are replayed.

    Returns:
        Kernel and image as they entered the last loss, or the mean of the late ones.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; a solver needs at least one")
    if restorer is None:
        raise ValueError(
            "solver=joint compares the restorer's image with the LR image, and restorer=none makes none; choose restorer=dip"
        )
    if not any(parameter.requires_grad for part in (prior, restorer) for parameter in part.parameters()):
        raise ValueError(
            "solver=joint has nothing to learn here, for neither prior nor restorer does; choose solver=direct"
        )
    refuse_unfinished(restorer, steps)
    late, standing = Late(average), Standing(still)
    learns = any(parameter.requires_grad for parameter in prior.parameters())
    device = problem.lr.device
    replay = replay_of(graph, device, prior, restorer)
    with own_stream(device):
        for step in range(steps):
            if replay is None:
                shown = _step(step, prior.advance, problem, prior, restorer, ssim_steps)
            else:
                phase = (step < ssim_steps, restorer.phase(step), prior.phase(step))
                prior.prepare()
                shown = replay(phase, partial(_step, step, prior.listen, problem, prior, restorer, ssim_steps))
            on_step(Progress(step, *shown))
            _, image, kernel = shown
            late.add(image, kernel)
            moves = learns and step >= ssim_steps and prior.duty(step) == "move"
            if standing.still_at(kernel, moves):
                break
        image, kernel = late.mean
        return Estimate(image, kernel)


def _step(
    step: int,
    listen: Callable[[Misfit], None],
    problem: Problem,
    prior: KernelPrior,
    restorer: Restorer,
    ssim_steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step: loss, image and kernel as they entered it, detached."""
    y, s, seen = problem.lr, problem.scale, problem.inside
    image = restorer(prior().detach())
    listen(partial(misfit, image.detach(), problem))
    kernel = prior()
    lr, y = seen(degrade(image, kernel, s)), seen(y)
    data = 1 - ssim(lr, y) if step < ssim_steps else mse_loss(lr, y)
    loss = data + restorer.penalty(image) + prior.penalties(kernel)
    loss.backward()
    restorer.step(step)
    prior.step(step)
    return loss.detach(), image.detach(), kernel.detach()
