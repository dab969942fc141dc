"""Whether a spectrum speaks against Gaussians: the Bayes factor by its definition, and on photographs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from kernelsr import evidence
from kernelsr.data import Scenario
from kernelsr.evidence import against_gaussians
from kernelsr.families import AnisotropicGaussian, Disk, KernelFamily, LinearMotion, RandomMotion
from kernelsr.official import find_image_set
from kernelsr.pool_likelihood import PoolLikelihood
from kernelsr.problem import Problem


def test_it_is_the_ratio_of_the_families_mean_likelihoods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "COUNT", 3)
    evidence._pool.cache_clear()
    posed, _ = next(iter(Scenario(find_image_set("demo"), 4))).load()
    posed = replace(posed, kernel_size=15, noise_std=0.03)
    draws = torch.Generator().manual_seed(0)
    families: list[KernelFamily] = [AnisotropicGaussian(), Disk(), LinearMotion(length="any"), RandomMotion()]
    grey = posed.lr[0].mean(0).double()

    def likelihoods(family: KernelFamily) -> torch.Tensor:
        fit = PoolLikelihood(grey, 4, 32, family(3, posed, draws), 0.03).fit(1.6 * math.sqrt(grey.numel()))
        return (-fit[0].double()).exp()

    own, *others = (likelihoods(family).mean() for family in families)
    found = against_gaussians(posed)
    evidence._pool.cache_clear()
    assert found == pytest.approx((sum(others) / 3 / own).log().item(), abs=1e-3)


def test_it_tells_disks_from_gaussians() -> None:
    """Of the bundled photographs, in the mean; how often it errs is in experiments/results/family_rates.csv."""

    def mean(family: KernelFamily) -> float:
        scenario = Scenario(find_image_set("demo"), 2, family, rng="named")
        found = [against_gaussians(case.load()[0]) for case in scenario]
        return sum(found) / len(found)

    assert mean(AnisotropicGaussian()) < -2 < 2 < mean(Disk())


def test_kernels_larger_than_the_window_need_a_larger_one() -> None:
    lr = next(iter(Scenario(find_image_set("demo"), 2))).load()[0].lr
    assert math.isfinite(against_gaussians(Problem(lr, 2, kernel_size=71)))


@pytest.mark.parametrize("side", [6, 40])
def test_a_flat_image_speaks_for_nobody(side: int) -> None:
    flat = Problem(torch.full((1, 3, side, side), 0.5), 4)
    assert abs(against_gaussians(flat)) < 3
