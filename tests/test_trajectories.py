"""`joint` retraces the authors' loops of DIP-Softmax, Double-DIP, DIP-FKP and DIP-DKP in float64, step by step.

Short, for DIP is chaotic: a rounding of 1e-16 grows to 0.1 in 90 steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from cases import golden, released_flow, rng
from torch import Tensor

from kernelsr import priors, restorers, solvers
from kernelsr.learner import KernelPrior
from kernelsr.problem import Problem, Progress

Stored = dict[str, Tensor]


@dataclass(frozen=True)
class Method:
    """How a method's trajectory was recorded."""

    prior: Callable[[Problem, Stored], KernelPrior]
    first: int
    """The step at which the recording begins; schedules count from the method's own beginning."""
    ssim_steps: int = 80
    sparsity: float = 0.0


def _softmax(problem: Problem, stored: Stored) -> KernelPrior:
    return priors.Softmax(problem, rng())


def _network(problem: Problem, source: torch.Generator, *, stored: Stored) -> KernelPrior:
    prior = priors.Network(problem, source)
    own = {"noise": "net_input"}
    own |= {f"layers.{i - 1}.{part}": f"fcn_{i}.{part}" for i in (1, 3) for part in ("weight", "bias")}
    prior.load_state_dict({key: stored[name] for key, name in own.items()})
    return prior


def _double_dip(problem: Problem, stored: Stored) -> KernelPrior:
    return _network(problem, rng(), stored=stored)


def _fkp(problem: Problem, stored: Stored) -> KernelPrior:
    prior = priors.Flow(problem, rng(), flow=released_flow)
    with torch.no_grad():
        prior.latent.copy_(stored["latent_before_first_projection"].view(1, -1))
    return prior


def _dkp(problem: Problem, stored: Stored) -> KernelPrior:
    proposals = iter(stored["kernel_proposals"])

    def family(n: int, problem: Problem, source: torch.Generator) -> Tensor:
        return torch.stack([next(proposals) for _ in range(n)])[:, None]

    return priors.Dynamic(problem, rng(), base=partial(_network, stored=stored), family=family, rehearsal=20)


METHODS = {
    "DIPSoftmax": Method(_softmax, first=70),
    "DoubleDIP": Method(_double_dip, first=70),
    "DIPFKP": Method(_fkp, first=70),
    "DIPDKP": Method(_dkp, first=78 * 5, ssim_steps=81 * 5, sparsity=0.001 * 0.2),
}


def _dip(problem: Problem, stored: Stored, sparsity: float) -> restorers.Dip:
    """An hourglass in the stored state: theirs and ours differ in names, not in order."""
    dip = restorers.Dip(problem, rng(), channels=8, skip=4, sparsity=sparsity)
    own = [key for key in dip.state_dict() if key != "noise" and "num_batches" not in key]
    theirs = [key for key in stored if key.startswith("dip_") and key != "dip_input"]
    state = {key: stored[name] for key, name in zip(own, theirs, strict=True)} | {"noise": stored["dip_input"]}
    missing, unexpected = dip.load_state_dict(state, strict=False)
    assert not unexpected and all("num_batches" in key for key in missing)
    return dip


def retrace(name: str) -> tuple[Stored, list[Progress]]:
    """The stored trajectory and ours."""
    method = METHODS[name]
    stored = {key: torch.from_numpy(np.asarray(value)) for key, value in golden(f"trajectory_{name}").items()}
    problem = Problem(stored["lr"], 2)
    dip, prior = _dip(problem, stored, method.sparsity), method.prior(problem, stored)
    prior.start = prior.start - method.first
    path: list[Progress] = []

    def record(progress: Progress) -> None:
        path.append(Progress(progress.step, *(t.clone() for t in (progress.loss, progress.image, progress.kernel))))

    steps, ssim_steps = len(stored["kernel_per_step"]), method.ssim_steps - method.first
    solvers.joint(problem, prior, dip, steps=steps, ssim_steps=ssim_steps, on_step=record)
    return stored, path


def check_trajectory(name: str) -> None:
    # Measured with 1 and with 2 threads: kernels 5e-12 (DIP-FKP, else 1e-13), losses 3e-13, images 4e-11.
    stored, path = retrace(name)
    kernels = torch.stack([progress.kernel for progress in path])
    torch.testing.assert_close(kernels, stored["kernel_per_step"][:, None].view_as(kernels), rtol=0, atol=1e-10)
    images = torch.stack([progress.image for progress in path[::5]])
    torch.testing.assert_close(images, stored["image_per_step_every5"], rtol=0, atol=1e-9)
    torch.testing.assert_close(path[-1].image, stored["image_last_forward"], rtol=0, atol=1e-9)
    if "data_loss_per_step" in stored:  # none was stored of DIP-DKP
        losses = torch.stack([progress.loss for progress in path])
        torch.testing.assert_close(losses, stored["data_loss_per_step"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_the_joint_solver_retraces_the_authors_loop(name: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check_trajectory(name)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", METHODS)
def test_the_recording_crosses_the_edges_of_its_schedule(name: str) -> None:
    # Without the step at which the kernel starts to move and that at which the loss changes, agreement would prove less.
    stored, method = golden(f"trajectory_{name}"), METHODS[name]
    steps = len(stored["kernel_per_step"])
    assert method.first < method.ssim_steps < method.first + steps
    changes = np.abs(np.diff(stored["kernel_per_step"], axis=0)).reshape(steps - 1, -1).max(1) > 0
    if name in ("DIPSoftmax", "DIPFKP"):
        assert not changes[2:5].any() and changes[6:].all()
