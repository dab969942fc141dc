"""Failure flags: true kernels pass, broken ones do not, and a loss that rests is told from one that has converged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kernelsr import families, flags, kernels
from kernelsr.capture import jpeg
from kernelsr.configure import compose_config, solve
from kernelsr.degradation import degrade
from kernelsr.families.family import spread
from kernelsr.flags import FLAGS, flags_of, kernel_flags, posterior_flags, stopped_falling
from kernelsr.problem import Doubt, Estimate, Problem, Truth
from tests.cases import photograph, problem, rng, uniform

SCALES = pytest.mark.parametrize("scale", [2, 3, 4, 8])


def small(scale: int, centre: str = "fkp") -> Problem:
    return problem(scale, 12, centre=centre)


def middle(p: Problem) -> float:
    return kernels.centre(p.centre, p.kernel_size, p.scale)


def flat(p: Problem) -> Tensor:
    return torch.full((1, 1, p.kernel_size, p.kernel_size), p.kernel_size**-2.0, dtype=torch.float64)


@SCALES
@pytest.mark.parametrize("centre", ["fkp", "aligned"])
def test_true_kernels_pass(scale: int, centre: str) -> None:
    p = small(scale, centre)
    full_line = 2 * min(middle(p), p.kernel_size - 1 - middle(p))
    drawn: list[families.KernelFamily] = [
        families.AnisotropicGaussian(),
        families.AnisotropicGaussian(noise=0.4),
        families.IsotropicGaussian(),
        families.LinearMotion(),
        families.LinearMotion(length=full_line),
        families.Noisy(families.LinearMotion(), 0.4),
        families.Disk(),
        families.RandomMotion(anxiety=0.002, exposures=(0.5, 1.0)),
    ]
    if scale < 8:
        drawn.append(families.GaussianSet())
    for family in drawn:
        for kernel in family(40, p, rng(scale)):
            assert kernel_flags(kernel[None], p) == [], family


def test_the_narrowest_gaussian_is_no_delta() -> None:
    p = small(2)
    variance = torch.tensor([0.35], dtype=torch.float64)
    narrow = families.gaussian_kernel(variance, variance, 0 * variance, kernel_size=11, scale=2)
    assert kernel_flags(narrow, p) == []


@SCALES
def test_deltas_at_any_place_have_collapsed(scale: int) -> None:
    p = small(scale)
    points = middle(p) + uniform(20, 1, 2, seed=scale) - 0.5
    for kernel in spread(points, p.kernel_size):
        assert "collapsed" in kernel_flags(kernel[None], p)
        assert "collapsed" in kernel_flags(0.95 * kernel[None] + 0.05 * flat(p), p)


@SCALES
def test_flat_kernels_have_collapsed(scale: int) -> None:
    p = small(scale)
    assert kernel_flags(flat(p), p) == ["collapsed", "off-centre", "border"]
    speckled = flat(p) * (0.1 + 1.8 * uniform(1, 1, p.kernel_size, p.kernel_size, seed=1))
    assert "collapsed" in kernel_flags(speckled, p) and "border" in kernel_flags(speckled, p)


def test_nothing_has_collapsed() -> None:
    p = small(2)
    assert kernel_flags(-flat(p), p) == ["collapsed"]


@SCALES
def test_the_other_conventions_centre_is_off(scale: int) -> None:
    p, other = small(scale), small(scale, "aligned")
    for kernel in families.AnisotropicGaussian()(10, p, rng(1)):
        assert kernel_flags(kernel[None], other) == ["off-centre"]
    near = families.gaussian_kernel(
        *(torch.tensor([v], dtype=torch.float64) for v in (2.0, 2.0, 0.0)), kernel_size=p.kernel_size, scale=scale
    )
    for share, found in ((0.24, []), (0.26, ["off-centre"])):
        moved = kernels.shift(near, torch.tensor([[share * scale, 0.0]], dtype=torch.float64))
        assert kernel_flags(moved, p) == found


def test_mass_on_the_border_is_seen() -> None:
    p = small(4)
    kernel = families.mean_kernel(p)
    kernel[..., 0, :] += 0.1 / p.kernel_size
    assert "border" in kernel_flags(kernels.normalise(kernel), p)


def estimate_of(p: Problem, kernel: Tensor, *, fit: bool) -> Estimate:
    """An estimate whose image explains y, or has nothing of it."""
    hr = torch.nn.functional.interpolate(p.lr, scale_factor=p.scale) if fit else torch.full((1, 3, *p.hr_size), 0.5)
    return Estimate(hr.to(p.lr), kernel)


def trace(*losses: float) -> list[dict[str, Any]]:
    return [{"step": step, "loss": loss, "kernel_psnr": ""} for step, loss in enumerate(losses)]


def smooth_problem() -> Problem:
    """An image that is constant, so that any kernel explains it."""
    return Problem(torch.full((1, 3, 24, 24), 0.25, dtype=torch.float64), 2)


def test_a_true_kernel_excuses_its_own_oddities() -> None:
    p = small(2)
    delta = spread(middle(p) + torch.zeros(1, 1, 2, dtype=torch.float64), p.kernel_size)
    found = Estimate(None, delta)
    assert flags_of(found, p, None, []) == flags_of(found, p, Truth(), []) == ["collapsed"]
    assert flags_of(found, p, Truth(kernel=delta), []) == []
    # What the true kernel has not, is still said.
    assert flags_of(Estimate(None, flat(p)), p, Truth(kernel=delta), []) == ["off-centre", "border"]


def test_a_loss_that_rests_far_from_the_image_is_a_plateau() -> None:
    p = small(2)
    kernel = families.mean_kernel(p)
    rests, falls = trace(*[0.05] * 60), trace(*[0.95**step for step in range(60)])
    assert flags_of(estimate_of(p, kernel, fit=False), p, None, rests) == ["plateau"]
    assert flags_of(estimate_of(p, kernel, fit=False), p, None, falls) == []
    assert flags_of(Estimate(None, kernel), p, None, rests) == []  # a game's loss need not fall


def test_a_loss_that_has_converged_is_no_plateau() -> None:
    p = smooth_problem()
    kernel = families.mean_kernel(p)
    estimate = Estimate(torch.full((1, 3, 48, 48), 0.25, dtype=torch.float64), kernel)
    assert float((degrade(estimate.image, kernel, 2) - p.lr).abs().max()) < 1e-9  # type: ignore[arg-type]
    assert flags_of(estimate, p, None, trace(*[0.05] * 60)) == []


def test_the_change_of_loss_hides_no_plateau() -> None:
    ssim_then_mse = [0.7] * 80 + [0.08] * 20
    assert stopped_falling(ssim_then_mse)
    falling = [0.7 * 0.98**i for i in range(80)] + [0.08 * 0.97**i for i in range(20)]
    assert not stopped_falling(falling)
    assert not stopped_falling([0.7] * 95 + [0.08] * 5)  # too few rows to tell


def test_short_traces_and_noise_on_a_fall_are_no_plateau() -> None:
    assert not stopped_falling([1.0] * 9) and stopped_falling([1.0] * 10)
    noise = uniform(100, seed=3).tolist()
    assert not stopped_falling([0.98**i * (1 + 0.3 * n) for i, n in enumerate(noise)])
    assert stopped_falling([0.5 + 0.3 * n for n in noise])


@pytest.mark.parametrize(("doubt", "found"), [(None, []), (Doubt(0.1), []), (Doubt(0.3), ["ambiguous"])])
def test_a_wide_posterior_is_ambiguous(doubt: Doubt | None, found: list[str]) -> None:
    p = small(4)
    kernel = families.mean_kernel(p)
    assert flags_of(Estimate(None, kernel, doubt=doubt), p, None, []) == found


def test_a_spectrum_that_no_gaussian_suits_is_of_another_family(monkeypatch: pytest.MonkeyPatch) -> None:
    p = small(4)
    kernel = families.mean_kernel(p)
    for evidence, found in ((flags.UNLIKE - 0.1, []), (flags.UNLIKE + 0.1, ["family"])):
        monkeypatch.setattr(flags, "against_gaussians", lambda problem, evidence=evidence: evidence)
        assert posterior_flags(Estimate(None, kernel, doubt=Doubt(0.1, gaussian=True)), p) == found
        compressed = replace(p, lr=jpeg(photograph(96, torch.float32), 70))
        assert posterior_flags(Estimate(None, kernel, doubt=Doubt(0.1, gaussian=True)), compressed) == []
        assert posterior_flags(Estimate(None, kernel), p) == []
        assert posterior_flags(Estimate(None, kernel, doubt=Doubt(0.1)), p) == []  # not of Gaussians only


@pytest.mark.parametrize(
    ("words", "doubted"),
    [
        ("prior=amortised nonblind=wiener", True),
        ("prior=pool prior.count=30", True),
        ("prior=gaussian start=amortised solver=direct restorer=none", True),
        ("prior=gaussian solver=direct restorer=none", False),
        ("prior=amortised nonblind=bicubic", True),
        (
            "prior=gaussian start=amortised solver=joint solver.steps=2 restorer=bicubic",
            False,
        ),  # a loop moved the kernel
    ],
)
def test_the_doubt_reaches_the_estimate_where_the_kernel_is_the_posterior_s(words: str, doubted: bool) -> None:
    posed = problem(2, 40, dtype=torch.float32)
    estimate = solve(compose_config(["scale=2", *words.split()]), posed, "image", lambda progress: None)
    assert (estimate.doubt is not None) == doubted


def test_every_flag_is_explained() -> None:
    p = small(4)
    found = set(kernel_flags(flat(p), p)) | {"plateau", "ambiguous", "family"}
    assert found == set(FLAGS) and all(FLAGS.values())
