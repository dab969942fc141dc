"""The Wiener filter against the dense Gaussian model that it solves, and on a photograph."""

from __future__ import annotations

import pytest
import torch
from cases import normal, photograph, problem, rng, uniform
from torch import Tensor

from kernelsr import degradation, families, kernels, metrics
from kernelsr.problem import Problem
from kernelsr.restorers import Bicubic, Wiener
from kernelsr.restorers.wiener import WEIGHTS


def true_kernel(scale: int, size: int = 0) -> Tensor:
    numbers = (torch.tensor([value], dtype=torch.float64) for value in (0.6 * scale, 1.8 * scale, 2.0))
    return families.gaussian_kernel(*numbers, kernel_size=size or 4 * scale + 3, scale=scale)


class Dense:
    """y = A x + n with x a Gaussian of covariance c S about m, as matrices over the pixels of a 16x16 image."""

    def __init__(self, posed: Problem, kernel: Tensor, slope: float):
        side = posed.hr_size[0]
        waves = torch.fft.fftfreq(side, dtype=torch.float64)
        spectrum = (waves[:, None] ** 2 + waves**2 + 1 / side**2) ** (-slope / 2)
        pixels = torch.eye(side**2, dtype=torch.float64).view(side**2, 1, side, side)
        covariance = torch.fft.ifft2(torch.fft.fft2(pixels) * spectrum).real
        self.covariance = covariance.view(side**2, side**2)
        self.matrix = degradation.degrade(pixels, kernel, posed.scale).flatten(1).T
        self.observed = self.matrix @ self.covariance @ self.matrix.T
        self.mean = posed.lr.mean((-2, -1), keepdim=True)
        self.lr = (posed.lr - self.mean)[0].flatten(1).T  # (pixels, C)

    def image(self, weight: float, like: Tensor) -> Tensor:
        gain = torch.linalg.solve(self.observed + weight * torch.eye(len(self.lr)), self.lr)
        return self.mean + (self.covariance @ self.matrix.T @ gain).T.reshape(like.shape)

    def deviance(self, c: Tensor, weight: Tensor) -> Tensor:
        """-2 log likelihood a channel of what is orthogonal to the constant image."""
        rest = torch.linalg.qr(torch.cat([torch.ones(len(self.lr), 1), torch.eye(len(self.lr))[:, 1:]], 1).double())[0]
        rest = rest[:, 1:]
        model = rest.T @ (c * (self.observed + weight * torch.eye(len(self.lr)))) @ rest
        seen = rest.T @ self.lr
        return torch.logdet(model) + (seen * torch.linalg.solve(model, seen)).sum() / seen.shape[1]


def small(scale: int = 2, slope: float = 2.0, noise_std: float | None = None) -> tuple[Wiener, Dense, Problem, Tensor]:
    posed = problem(scale, 16 // scale, kernel_size=5)
    kernel = kernels.normalise(uniform(1, 1, 5, 5, seed=3))  # nothing symmetric about it
    return Wiener(posed, rng(), noise_std=noise_std, slope=slope), Dense(posed, kernel, slope), posed, kernel


@pytest.mark.parametrize(("scale", "slope"), [(2, 2.0), (4, 2.0), (2, 3.0)])
def test_it_equals_a_dense_solve(monkeypatch: pytest.MonkeyPatch, scale: int, slope: float) -> None:
    restorer, dense, _, kernel = small(scale, slope)
    for weight in (1e-3, 1.0, 50.0):
        monkeypatch.setattr(restorer, "_weight", lambda *_, weight=weight: torch.tensor(weight))
        image = restorer(kernel)
        torch.testing.assert_close(image, dense.image(weight, image), rtol=0, atol=1e-10)


@pytest.mark.parametrize("noise_std", [None, 0.1])
def test_the_weight_is_the_likeliest_of_the_dense_model(noise_std: float | None) -> None:
    restorer, dense, posed, kernel = small(noise_std=noise_std)
    expected = degradation.fold(degradation.transfer(kernel, 16, 16).abs() ** 2 * restorer.spectrum, 2)
    chosen = restorer._weight(expected, torch.fft.fft2(restorer.lr))
    tried = WEIGHTS * restorer.spectrum.median()
    assert (tried == chosen).any()
    if noise_std is None:  # the level that each weight makes likeliest
        deviances = []
        for weight in tried[::8]:
            power = torch.stack([dense.deviance(c, weight) for c in torch.logspace(-4, 2, 40, dtype=torch.float64)])
            deviances.append(power.min())
    else:
        deviances = [dense.deviance(noise_std**2 / weight, weight) for weight in tried[::8]]
    best = tried[::8][torch.stack(deviances).argmin()]
    assert best / 4 < chosen < best * 4  # half a decade is the step of this search


def test_it_is_differentiable_in_the_kernel() -> None:
    restorer, _, _, kernel = small(noise_std=0.05)
    weights = normal(1, 3, 16, 16, seed=4)
    torch.autograd.gradcheck(lambda k: (restorer(k) * weights).sum(), [kernel.requires_grad_()])


# dB above aligned bicubic on the golden photograph.
MEASURED = {2: 4.06, 3: 3.14, 4: 2.27}


@pytest.mark.parametrize("scale", MEASURED)
def test_the_true_kernel_beats_bicubic_and_a_wrong_kernel(scale: int) -> None:
    hr, kernel = photograph(192, torch.float32), true_kernel(scale).float()
    posed = Problem((degradation.degrade(hr, kernel, scale).clamp(0, 1) * 255).floor() / 255, scale)
    restorer = Wiener(posed, rng())
    bicubic, right, wrong = (
        metrics.psnr(image, hr, border=scale)
        for image in (Bicubic(posed, rng())(kernel), restorer(kernel), restorer(kernel.roll((1, 1), (2, 3))))
    )
    print(f"x{scale}: bicubic {bicubic:.2f}, true kernel {right - bicubic:+.2f}, a pixel off {wrong - bicubic:+.2f}")
    assert right > bicubic + 0.8 * MEASURED[scale]
    assert wrong < right - 2
    # A kernel's sum says nothing: the mean colour is kept.
    torch.testing.assert_close(restorer(0.7 * kernel), restorer(kernel), rtol=0, atol=1e-4)


@pytest.mark.parametrize("noise", [0.0, 5 / 255])
def test_the_estimated_noise_does_as_well_as_the_known(noise: float) -> None:
    hr, kernel = photograph(192), true_kernel(2)
    lr = degradation.degrade(hr, kernel, 2)
    posed = Problem((lr + noise * normal(*lr.shape, seed=5)).clamp(0, 1), 2)
    known, estimated = (
        metrics.psnr(Wiener(posed, rng(), noise_std=std)(kernel), hr, border=2) for std in (noise or 0.2 / 255, None)
    )
    print(f"noise {255 * noise:.0f}/255: known {known:.2f}, estimated {estimated:.2f}")
    assert estimated > known - 0.2


def test_a_wrong_noise_level_is_refused() -> None:
    with pytest.raises(ValueError, match="null to estimate"):
        Wiener(problem(2), rng(), noise_std=0.0)
