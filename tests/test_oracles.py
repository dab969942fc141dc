"""Given one unknown, the other must be found: priors that see the true image, and DIP that sees the true kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from cases import KnownImage, photograph, rng, true_kernel
from torch import Tensor

from kernelsr import degradation, families, kernels, metrics, priors, restorers, solvers
from kernelsr.learner import KernelPrior
from kernelsr.problem import Problem

# A kernel that the mean kernel, which never looks, misses by far: kernel PSNR 41.7, relative error of the variances 1.34.
FLOOR_PSNR, FLOOR_VARIANCE_ERROR = 41.7, 1.34
MATCHED = families.AnisotropicGaussian("matched")


class KnownKernel(KernelPrior):
    """A kernel that is given."""

    def __init__(self, kernel: Tensor):
        super().__init__()
        self.register_buffer("kernel", kernel)

    def forward(self) -> Tensor:
        return self.kernel


def posed(kernel: Tensor) -> tuple[Problem, Tensor]:
    """The middle of the golden photograph degraded by a kernel at x2, and itself."""
    hr = photograph(64, torch.float32)
    return Problem(degradation.degrade(hr, kernel.to(hr), 2).clamp(0, 1), 2), hr


@dataclass(frozen=True)
class Oracle:
    """A prior in a form that is cheap on a CPU; what was measured after 300 steps, and what is asked for."""

    prior: Callable[[Problem, torch.Generator], KernelPrior]
    ssim_steps: int
    measured: tuple[float, float]  # kernel PSNR in dB, relative error of the variances
    least_psnr: float
    most_variance_error: float


SMALL_NETWORK = partial(priors.Network, lr=1e-3, hidden=100)
ORACLES = {
    "softmax": Oracle(partial(priors.Softmax, lr=0.1), 0, (52.1, 0.172), 48, 0.4),
    "gaussian": Oracle(priors.Gaussian, 0, (71.5, 0.011), 65, 0.03),
    "network": Oracle(partial(priors.Network, lr=1e-3, hidden=200), 0, (52.1, 0.161), 48, 0.4),
    "inr": Oracle(partial(priors.Inr, lr=3e-3), 0, (68.3, 0.022), 58, 0.15),
    "flow": Oracle(priors.Flow, 300, (68.7, 0.031), 58, 0.15),
    "dynamic": Oracle(
        partial(priors.Dynamic, base=SMALL_NETWORK, family=MATCHED, rehearsal=50), 300, (56.8, 0.220), 50, 0.5
    ),
    "dynamic gaussian": Oracle(
        partial(priors.Dynamic, base=priors.Gaussian, family=MATCHED, rehearsal=20), 300, (68.4, 0.022), 58, 0.1
    ),
}


def find_kernel(name: str) -> tuple[float, float]:
    """Kernel PSNR and variance error of a prior that saw the true image."""
    oracle, truth = ORACLES[name], true_kernel()
    problem, hr = posed(truth)
    prior = oracle.prior(problem, rng())
    prior.start = 0
    estimate = solvers.joint(problem, prior, KnownImage(hr), steps=300, ssim_steps=oracle.ssim_steps)
    return metrics.kernel_psnr(estimate.kernel, truth), metrics.variance_error(estimate.kernel, truth)


def test_the_floor_is_far_below() -> None:
    mean, truth = families.mean_kernel(posed(true_kernel())[0]), true_kernel()
    assert metrics.kernel_psnr(mean, truth) == pytest.approx(FLOOR_PSNR, abs=0.1)
    assert metrics.variance_error(mean, truth) == pytest.approx(FLOOR_VARIANCE_ERROR, abs=0.01)


@pytest.mark.parametrize("name", ORACLES)
def test_a_prior_that_sees_the_true_image_finds_the_kernel(name: str) -> None:
    psnr, variance_error = find_kernel(name)
    print(f"{name}: {psnr:.1f} dB, {variance_error:.3f}")
    assert psnr > ORACLES[name].least_psnr > FLOOR_PSNR + 5
    assert variance_error < ORACLES[name].most_variance_error < FLOOR_VARIANCE_ERROR / 2


@pytest.mark.parametrize("family", [families.LinearMotion(), families.RandomMotion()])
def test_a_coordinate_network_finds_kernels_of_any_shape(family: families.KernelFamily) -> None:
    blank = Problem(torch.zeros(1, 1, 32, 32, dtype=torch.float64), 2)
    truth = family(1, blank, rng(1))
    problem, hr = posed(truth)
    prior = priors.Inr(problem, rng(), lr=3e-3, start=0)
    before = metrics.kernel_psnr(prior(), truth)
    found = metrics.kernel_psnr(solvers.joint(problem, prior, KnownImage(hr), steps=300, ssim_steps=0).kernel, truth)
    # Measured: a line 33.4 -> 65.1, a random walk 30.5 -> 70.0 dB; free logits end at 53-55.
    print(f"{type(family).__name__}: {before:.1f} -> {found:.1f} dB")
    assert found > 57 > before + 15


def restore(kernel: Tensor, problem: Problem, steps: int = 200) -> Tensor:
    dip = restorers.Dip(problem, rng(), channels=16, skip=4, scales=3, lr=1e-2)
    return solvers.joint(problem, KnownKernel(kernel.to(problem.lr)), dip, steps=steps, ssim_steps=50).image


def test_dip_that_sees_the_true_kernel_beats_bicubic_and_a_wrong_kernel() -> None:
    numbers = (torch.tensor([value], dtype=torch.float64) for value in (2.0, 3.5, 0.7))
    truth = families.gaussian_kernel(*numbers, kernel_size=11, scale=2)
    problem, hr = posed(truth)
    bicubic = metrics.psnr(restorers.Bicubic(problem, rng())(truth), hr, border=2)
    right = metrics.psnr(restore(truth, problem), hr, border=2)
    shifted = kernels.normalise(kernels.shift(truth, torch.tensor([[1.0, 1.0]], dtype=torch.float64)))
    wrong = metrics.psnr(restore(shifted, problem), hr, border=2)
    # Measured: bicubic 26.85, DIP with 16 channels 27.45 dB after 200 steps.
    print(f"bicubic {bicubic:.2f}, true kernel {right:.2f}, kernel a pixel off {wrong:.2f}")
    assert right > bicubic + 0.3
    assert wrong < right - 1
