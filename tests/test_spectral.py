"""The spectral fit: its model against random fields, its kernel where the model is true, and on a photograph."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from cases import normal, photograph, problem, rng, uniform
from torch import Tensor

from kernelsr import degradation, families, kernels, metrics
from kernelsr.beliefs import covariance_of, gaussian
from kernelsr.configure import compose_config, solve
from kernelsr.priors import Spectral, spectral
from kernelsr.problem import EIGHT_BITS, Problem
from kernelsr.whittle import PHOTOGRAPHS, SHAPE, Whittle, periodogram

SHAPES = {2: (0.7, 0.5, -0.4), 4: (1.2, -0.4, 0.4)}  # logarithm of the covariance


def field(scale: int, side: int, slope: float, seed: int) -> Tensor:
    """A Gaussian random image (1, 1, side, side) with the spectrum 0.01 |10 f|^slope, stretched along the rows."""
    waves = torch.fft.fftfreq(side, dtype=torch.float64)
    down, right = torch.meshgrid(waves, waves, indexing="ij")
    length, angle = torch.hypot(down, right), torch.atan2(down, right)
    length[0, 0] = 1 / side
    spectrum = 0.01 * (10 * length) ** slope * (0.5 * (2 * angle).cos() - 0.3 * (2 * angle).sin()).exp()
    return torch.fft.ifft2(torch.fft.fft2(normal(1, 1, side, side, seed=seed)) * spectrum.sqrt()).real


def observed(scale: int, seed: int, noise: float = 0.01, side: int = 192) -> tuple[Tensor, Tensor]:
    """y of a random image and a Gaussian kernel, and the kernel."""
    blank = problem(scale)
    kernel = gaussian(covariance_of(torch.tensor(SHAPES[scale], dtype=torch.float64)), blank)
    lr = degradation.degrade(field(scale, side, -2.5, seed), kernel, scale)
    return lr + noise * normal(*lr.shape, seed=seed + 100), kernel


def test_the_periodogram_of_white_noise_is_its_variance() -> None:
    noise = 0.3 * normal(150, 131)
    assert periodogram(noise, 32).shape == (32, 32)
    far = periodogram(noise + 5, 32)[2:-1, 2:-1]  # a constant is taken out
    assert far.mean().item() == pytest.approx(0.09, rel=0.03)
    assert periodogram(noise[:20], 32).shape == (20, 32)
    # Each window about its mean under the taper, so that nothing is left at DC.
    assert periodogram(noise + torch.arange(150.0)[:, None], 32)[0, 0] < 1e-20


@pytest.mark.parametrize("scale", SHAPES)
def test_the_model_expects_what_random_images_show(scale: int) -> None:
    truth = torch.tensor(
        [math.log(0.01), -2.5, 0.5, -0.3, 0.0, *SHAPES[scale], 2 * math.log(0.01)], dtype=torch.float64
    )
    known = PHOTOGRAPHS | {name: (0.0, 1.0) for name in ("size", "stretch", "skew", "noise")}
    models = [Whittle(observed(scale, seed)[0][0, 0], scale, 32, known) for seed in range(12)]
    ratio = torch.stack([model.power for model in models]).mean(0) / models[0].expected(truth)
    # Hann's window mixes a frequency with its neighbours: near DC, and where the spectrum bends, by a few percent.
    assert ratio.mean().item() == pytest.approx(1, abs=0.08)
    assert ratio.quantile(0.02) > 0.6 and ratio.quantile(0.98) < 1.6


def test_the_fit_is_the_summit_of_likelihood_times_what_is_known() -> None:
    known = PHOTOGRAPHS | {"size": (0.5, 0.5), "stretch": (0.0, 0.35), "skew": (0.0, 0.35), "noise": (-9.0, 2.0)}
    model = Whittle(observed(2, 0)[0][0, 0], 2, 32, known)
    # All frequencies but DC and its neighbours; of f and -f one, but for the three that are their own.
    assert len(model.power) == (32 * 32 - 9 - 3) // 2 + 3
    found = model.fit(50.0).requires_grad_()
    expected = model.expected(found)
    mean, spread = torch.tensor(list(known.values()), dtype=torch.float64).unbind(1)
    posterior = (
        50 * model.share @ (expected.log() + model.power / expected) + ((found - mean) / spread).square().sum() / 2
    )
    (slope,) = torch.autograd.grad(posterior, found)
    # Either term alone has the slope of its deviation there.
    assert (slope * spread).abs().max() < 0.02 < 0.5 < ((found - mean) / spread).abs().max()


@pytest.mark.parametrize("shape", [(8, 8), (9, 12), (12, 9), (11, 11)])
def test_the_periodogram_of_one_window_is_its_transform_s_power(shape: tuple[int, int]) -> None:
    image = uniform(*shape)
    taper = torch.outer(*(torch.hann_window(side, dtype=torch.float64) for side in shape))
    rest = (image - (image * taper).sum() / taper.sum()) * taper
    torch.testing.assert_close(periodogram(image, 32), torch.fft.fft2(rest).abs() ** 2 / taper.square().sum())


@pytest.mark.parametrize("window", [31, 32])
def test_a_frequency_stands_for_its_opposite(window: int) -> None:
    grey = observed(2, 0)[0][0, 0]
    power = periodogram(grey, window)
    along = torch.fft.fftfreq(window, 1 / window)
    far = along[:, None].square() + along.square() > 1.5**2
    known = PHOTOGRAPHS | {name: (0.0, 1.0) for name in ("size", "stretch", "skew", "noise")}
    model = Whittle(grey, 2, window, known)
    torch.testing.assert_close(model.share @ model.power.log(), power[far].log().mean())


@pytest.mark.parametrize("shape", [(0.5, 0.3, -0.4), (0.2, 0.0, 0.0), (-0.3, 1e-6, 2e-6)])
def test_the_slope_by_hand_is_autograd_s(shape: tuple[float, float, float]) -> None:
    known = (
        PHOTOGRAPHS
        | dict(zip(("size", "stretch", "skew"), [(v, 0.4) for v in shape], strict=True))
        | {"noise": (-9.0, 2.0)}
    )
    model = Whittle(observed(4, 0)[0][0, 0], 4, 32, known)
    deviation = normal(9, seed=3)
    deviation[SHAPE] = 0
    deviation.requires_grad_()
    loss = model.loss(deviation, 50.0)
    (slope,) = torch.autograd.grad(loss, deviation)
    found, by_hand = model._loss_and_slope(50.0)(deviation.detach().numpy())
    assert found == pytest.approx(loss.item())
    torch.testing.assert_close(torch.from_numpy(by_hand), slope)


def test_the_precision_is_the_curvature_once_the_other_unknowns_follow() -> None:
    known = PHOTOGRAPHS | {name: (0.1, 0.4) for name in ("size", "stretch", "skew")} | {"noise": (-9.0, 2.0)}
    model, numbers = Whittle(observed(2, 0)[0][0, 0], 2, 32, known), 5000.0
    unknowns = model.fit(numbers)
    curvature = torch.autograd.functional.hessian(
        lambda u: numbers * model.loss((u - model.mean) / model.spread, numbers), unknowns
    )
    wanted = torch.linalg.inv(torch.linalg.inv(curvature)[SHAPE, SHAPE])
    torch.testing.assert_close(model.precision(unknowns, numbers), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("noise_std", [0.0, 0.1])
def test_what_is_known_beforehand_is_the_protocols(monkeypatch: pytest.MonkeyPatch, noise_std: float) -> None:
    seen: dict[str, tuple[float, float]] = {}

    class Recorded(Whittle):
        def __init__(self, grey: Tensor, scale: int, window: int, known: dict[str, tuple[float, float]]):
            seen.update(known)
            super().__init__(grey, scale, window, known)

    monkeypatch.setattr(spectral, "Whittle", Recorded)
    Spectral(replace(problem(4), noise_std=noise_std), rng())
    assert seen["noise"][0] == pytest.approx(2 * math.log(noise_std or EIGHT_BITS))
    low, high = families.fkp_variances(4)
    logarithms = torch.linspace(low, high, 10001, dtype=torch.float64).log()
    assert seen["size"][0] == pytest.approx(logarithms.mean().item(), abs=0.05)


def test_the_covariance_is_the_exponential() -> None:
    values = torch.tensor([0.4, 0.6, -0.7], dtype=torch.float64)
    principal = torch.linalg.eigvalsh(covariance_of(values)).log()
    stretch = math.hypot(0.6, 0.7)
    torch.testing.assert_close(principal, torch.tensor([0.4 - stretch, 0.4 + stretch], dtype=torch.float64))
    wide = problem(2, 40, kernel_size=41, centre="aligned")
    kernel = gaussian(covariance_of(values), wide)
    torch.testing.assert_close(kernels.moments(kernel)[0], covariance_of(values), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(kernels.centroid(kernel)[0], torch.full((2,), 20.5).double())


@pytest.mark.parametrize("scale", SHAPES)
def test_it_finds_the_kernel_where_its_model_is_true(scale: int) -> None:
    errors = []
    for seed in range(3):
        lr, kernel = observed(scale, seed, noise=0.002, side=192 * scale)
        lr = 0.5 + 0.4 * lr / lr.abs().max()
        # All that is known beforehand counts for nothing against the likelihood of Gaussian fields.
        prior = Spectral(Problem(lr, scale), rng(), trust=0.5, spread=(3.0, 3.0))
        errors.append(metrics.variance_error(prior(), kernel))
    print(f"x{scale}: {errors}")
    assert max(errors) < 0.2 and sum(errors) / 3 < 0.12


@pytest.mark.parametrize(("scale", "level"), [(2, 3 / 255), (2, 8 / 255), (4, 10 / 255)])
def test_it_tells_noise_from_aliases(scale: int, level: float) -> None:
    hr, kernel = photograph(), families.mean_kernel(problem(scale))
    lr = degradation.degrade(hr, kernel, scale)
    noisy = Problem((lr + level * normal(*lr.shape, seed=7)).clamp(0, 1), scale)
    for posed in (noisy, replace(noisy, noise_std=level / 2)):
        prior = Spectral(posed, rng())
        # The spectrum is that of the mean over three channels. From little noise alone, the last case ends at 0.3/255.
        assert prior.noise_std == pytest.approx(level / math.sqrt(3), rel=0.2)
        assert metrics.variance_error(prior(), kernel) < 0.3


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("centre", ["fkp", "aligned"])
def test_it_reads_the_kernel_off_a_photograph(scale: int, centre: str) -> None:
    hr = photograph(192, torch.float32)
    numbers = (torch.tensor([value], dtype=torch.float64) for value in (0.3 * scale, 1.2 * scale, 2.2))
    kernel = families.gaussian_kernel(*numbers, kernel_size=4 * scale + 3, scale=scale, centre=centre)
    lr = (degradation.degrade(hr, kernel.float(), scale).clamp(0, 1) * 255).floor() / 255
    posed = Problem(lr, scale, centre=centre)
    prior, mean = Spectral(posed, rng()), families.mean_kernel(posed)
    psnr, floor = metrics.kernel_psnr(prior(), kernel), metrics.kernel_psnr(mean, kernel)
    error, its = metrics.variance_error(prior(), kernel), metrics.variance_error(mean, kernel)
    print(f"x{scale} {centre}: {psnr:.1f} dB, {error:.3f}; mean kernel {floor:.1f} dB, {its:.3f}")
    assert prior.optimizer is None and not list(prior.parameters())
    # Measured: 61.8/65.3/58.2 dB, 0.055/0.051/0.198; the mean kernel 38.3/42.7/46.0 dB, 1.8.
    assert psnr > floor + 9 and error < 0.3 < its
    # A turned photograph has a turned kernel.
    turned = Spectral(Problem(lr.transpose(2, 3).contiguous(), scale, centre=centre), rng())()
    torch.testing.assert_close(turned, prior().transpose(2, 3), rtol=0, atol=1e-3)


def test_any_image_has_a_spectrum() -> None:
    ramp = (torch.arange(40.0)[:, None] / 40).expand(1, 1, 40, 40).contiguous()
    for lr in (
        torch.zeros(1, 3, 24, 24),
        torch.full((1, 1, 24, 30), 0.3),
        ramp,
        torch.rand(1, 7, 6, 50, generator=rng()),
    ):
        kernel = Spectral(Problem(lr, 2), rng())()
        assert kernel.dtype == torch.float32 and torch.isfinite(kernel).all()
    with pytest.raises(ValueError, match="window is 4"):
        Spectral(problem(2), rng(), window=4)
    with pytest.raises(ValueError, match="trust is 0; it must be positive"):
        Spectral(problem(2), rng(), trust=0)
    with pytest.raises(ValueError, match=r"spread is \(0.5, 0\); give two positive numbers"):
        Spectral(problem(2), rng(), spread=(0.5, 0))


def test_the_command_line_needs_no_loop() -> None:
    seen: list[int] = []
    posed = problem(2, dtype=torch.float32)
    estimate = solve(
        compose_config(["prior=spectral", "scale=2"]), posed, "a", lambda progress: seen.append(progress.step)
    )
    assert seen == [0] and estimate.image is not None
    torch.testing.assert_close(estimate.kernel, Spectral(posed, rng())())
