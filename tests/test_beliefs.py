"""Shapes, beliefs about them, and the penalty that holds a loop to a belief."""

from __future__ import annotations

import math

import pytest
import torch
from cases import normal, problem, rng, uniform

from kernelsr import kernels, metrics, priors, restorers, solvers
from kernelsr.beliefs import Belief, Believed, covariance_of, gaussian, shape_of
from kernelsr.families import gaussian_kernel

SHAPE = torch.tensor([0.8, 0.3, -0.2], dtype=torch.float64)
PRECISION = torch.tensor([[40.0, 5, -3], [5, 60, 8], [-3, 8, 30]], dtype=torch.float64)


def believer(weight: float = 1.0, scale: int = 3) -> Believed:
    held = Believed()
    held.believe(Belief(SHAPE[None], PRECISION[None]), problem(scale), weight)
    return held


def test_a_shape_is_its_covariance() -> None:
    shapes = normal(20, 3)
    covariance = covariance_of(shapes)
    assert torch.linalg.eigvalsh(covariance).min() > 0
    torch.testing.assert_close(shape_of(covariance), shapes)
    error = torch.tensor([[0.01, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(covariance_of(shapes + error), covariance * 1.01, rtol=1e-4, atol=0)


def test_a_belief_is_a_gaussian() -> None:
    roots = normal(4, 3, 3)
    belief = Belief(normal(4, 3, seed=1), roots @ roots.mT + torch.eye(3))
    there = torch.distributions.MultivariateNormal(belief.mean, precision_matrix=belief.precision)
    shapes = normal(4, 3, seed=2)
    constant = (torch.logdet(belief.precision) - 3 * math.log(2 * math.pi)) / 2
    torch.testing.assert_close(constant - belief.distance(shapes) / 2, there.log_prob(shapes))
    torch.testing.assert_close(belief.spread(), there.stddev)


def test_the_mean_is_the_kernel() -> None:
    held = believer()
    assert held.optimizer is None and held().dtype == torch.float64
    # The support cuts off little of this kernel.
    torch.testing.assert_close(kernels.moments(held())[0], covariance_of(SHAPE), rtol=1e-2, atol=1e-2)


WIDE = {"size": math.log(4.0), "stretch": 0.2, "skew": 0.15}


@pytest.mark.parametrize("centre", ["fkp", "aligned"])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_wide_gaussian_lies_about_the_centre(scale: int, centre: str) -> None:
    posed = problem(scale, centre=centre)
    found = gaussian(covariance_of(torch.tensor([*WIDE.values()], dtype=torch.float64)), posed)
    middle = kernels.centre(centre, posed.kernel_size, scale)
    torch.testing.assert_close(kernels.centroid(found), torch.full((1, 2), middle, dtype=torch.float64))
    learned = priors.Gaussian(posed, rng())()
    torch.testing.assert_close(kernels.centroid(learned), torch.full((1, 2), middle, dtype=torch.float64))
    assert ((learned == 0) == (found == 0)).all()


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_wide_gaussian_ends_where_the_protocol_s_do(scale: int) -> None:
    posed = problem(scale)
    covariance = covariance_of(torch.tensor([*WIDE.values()], dtype=torch.float64))
    found = gaussian(covariance, posed)
    # The same covariance in the protocol's words: variances along axes, the first one's angle from the columns.
    bend = math.hypot(WIDE["stretch"], WIDE["skew"])
    variances = (torch.tensor([math.exp(WIDE["size"] + sign * bend)], dtype=torch.float64) for sign in (1, -1))
    angle = torch.tensor([math.atan2(WIDE["skew"], -WIDE["stretch"]) / 2], dtype=torch.float64)
    true = gaussian_kernel(*variances, angle, kernel_size=posed.kernel_size, scale=scale)
    place = torch.arange(posed.kernel_size, dtype=torch.float64) - kernels.centre("fkp", posed.kernel_size, scale)
    offset = torch.cartesian_prod(place, place)
    whole = (-(offset @ torch.linalg.inv(covariance) * offset).sum(1) / 2).softmax(0).view_as(found)
    assert metrics.kernel_psnr(found, true) > metrics.kernel_psnr(whole, true) + 2
    assert abs(true[found == 0]).sum() < 0.01


def test_the_penalty_is_the_belief_s_about_kernels_near_by() -> None:
    held = believer(weight=0.5)
    assert held.penalty(held()).item() == pytest.approx(0, abs=1e-20)
    for direction in normal(5, 3):
        step = 0.02 * direction / direction.norm()
        kernel = gaussian(covariance_of(SHAPE + step), problem(3))
        assert held.penalty(kernel).item() == pytest.approx((0.5 * step @ PRECISION @ step / 2).item(), rel=0.05)


def test_the_penalty_leaves_alone_what_is_no_gaussian_s() -> None:
    held = believer()
    grain = 1e-3 * normal(*held().shape)
    slopes = torch.linalg.pinv(held.get_buffer("distance"))
    odd = grain.flatten() - slopes @ (held.get_buffer("distance") @ grain.flatten())
    for added in (torch.full_like(grain, 1e-3), odd.view_as(grain)):
        assert held.penalty(held() + added).item() < 1e-16


def test_a_start_holds_the_loop_as_firmly_as_it_is_told() -> None:
    posed = problem(3)

    def moved(weight: float) -> float:
        prior = priors.Gaussian(posed, rng(), lr=0.05, start=0)
        prior.follow(believer(weight))
        restorer = restorers.Dip(posed, rng(), channels=8, skip=4)
        found = solvers.joint(posed, prior, restorer, steps=12, ssim_steps=4).kernel
        return (found - believer()()).abs().sum().item()

    free, held, firm = moved(0.0), moved(0.1), moved(10.0)
    assert free > 2 * held and held > firm


def test_a_wrapper_is_held_too() -> None:
    posed = problem(3)
    prior = priors.Dynamic(posed, rng(), rehearsal=2, base=lambda p, r: priors.Gaussian(p, r))
    prior.follow(believer(2.0))
    kernel = uniform(*prior().shape)
    torch.testing.assert_close(prior.penalties(kernel), prior.penalty(kernel) + believer(2.0).penalty(kernel))


def test_without_weight_nothing_is_held() -> None:
    held = believer(0.0)
    assert held.penalty(uniform(*held().shape)).item() == 0
    prior = priors.Gaussian(problem(3), rng())
    prior.follow(held)
    assert prior.holding is None
    with pytest.raises(ValueError, match="weight is -1"):
        believer(-1)
