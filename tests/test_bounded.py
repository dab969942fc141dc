"""start=bounded: a kernel as wide as lets a restorer's image stay within the range of images."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from cases import KnownImage, photograph, problem, rng
from torch import Tensor

from kernelsr import kernels, priors, restorers
from kernelsr.beliefs import Belief, Believed, covariance_of, gaussian, shape_of
from kernelsr.degradation import degrade
from kernelsr.learner import Restorer
from kernelsr.priors.bounded import LOOKS, NEAR, excess
from kernelsr.problem import Doubt, Problem

SPREADS = torch.tensor([[0.09, 0.03, -0.02], [0.03, 0.05, 0.01], [-0.02, 0.01, 0.04]], dtype=torch.float64)
"""Of a belief: its covariance."""


class Told(Believed):
    """A belief that is given."""

    def __init__(self, posed: Problem, rng: torch.Generator, *, shape: Tensor, settled: bool = False):
        super().__init__()
        self.doubt, self.settled = Doubt(0.3, gaussian=True), settled
        belief = Belief(shape[None], torch.linalg.inv(SPREADS)[None])
        # Its kernel is not that of the mean.
        self.believe(belief, posed, chosen=shape - torch.tensor([0.05, 0, 0], dtype=torch.float64))


class Overshooting(Restorer):
    """Grey, but for one corner, as much brighter than white as the kernel's size is above a limit."""

    def __init__(self, posed: Problem, rng: torch.Generator, *, limit: float, steep: float = 1.0):
        super().__init__()
        self.size, self.limit, self.steep, self.looks = posed.hr_size, limit, steep, 0

    def forward(self, kernel: Tensor) -> Tensor:
        self.looks += 1
        image = torch.full((1, 3, *self.size), 0.5, dtype=kernel.dtype)
        size = shape_of(kernels.moments(kernel.double()))[0, 0].item()
        image[..., :2, :2] = 1 + self.steep * max(size - self.limit, 0)
        return image


def bounded(
    posed: Problem, shape: Tensor, limit: float = 0.0, *, steep: float = 1.0, **settings: float
) -> priors.Bounded:
    return priors.Bounded(
        posed,
        rng(),
        fit=partial(Told, shape=shape),
        restorer=partial(Overshooting, limit=limit, steep=steep),
        **settings,
    )


SHAPE = torch.tensor([1.0, 0.2, -0.1], dtype=torch.float64)


def test_where_nothing_is_outside_the_kernel_stands() -> None:
    posed = problem(2, 32)
    fit = Told(posed, rng(), shape=SHAPE)
    found = bounded(posed, SHAPE, limit=2.0)
    assert torch.equal(found(), fit()) and torch.equal(found.chosen, fit.chosen)
    assert torch.equal(found.belief.mean, fit.belief.mean) and found.doubt == fit.doubt
    assert torch.equal(bounded(posed, SHAPE, outside=0.0)(), fit())


def test_the_size_shrinks_until_what_is_outside_is_worth_the_way() -> None:
    """|outside| rises in proportion to the size from a limit on, so that the least is where its slope ends, or is t."""
    posed = problem(2, 32)
    fit = Told(posed, rng(), shape=SHAPE)
    spread, share = math.sqrt(0.09), math.sqrt(4 / 64**2)  # of the size; of the pixels that are outside, its root
    for outside, limit in ((200.0, 0.5), (200.0, -2.0), (2000.0, 0.7)):
        slope = outside * share * spread
        wanted = min(slope, (fit.chosen[0].item() - limit) / spread)
        found = bounded(posed, SHAPE, limit=limit, outside=outside)
        t = ((fit.chosen - found.chosen)[0] / spread).item()
        assert wanted > 0.5 and t == pytest.approx(wanted, abs=1.5 * NEAR)


def test_stretch_and_skew_go_with_the_size_as_the_belief_says() -> None:
    posed = problem(2, 32)
    found, fit = bounded(posed, SHAPE, limit=0.5), Told(posed, rng(), shape=SHAPE)
    moved = found.chosen - fit.chosen
    assert moved[0] < -0.1
    assert torch.allclose(moved / moved[0], SPREADS[:, 0] / SPREADS[0, 0])
    assert torch.allclose(found.belief.mean - fit.belief.mean, moved[None])
    assert torch.allclose(found.belief.precision, fit.belief.precision)
    assert torch.allclose(found(), gaussian(covariance_of(found.chosen), posed))


def test_it_looks_a_few_times_only_and_once_where_there_is_nothing_to_see() -> None:
    posed = problem(2, 32)
    for limit, most in ((2.0, 1), (0.5, LOOKS + 1)):
        made: list[Overshooting] = []

        def restorer(
            posed: Problem, rng: torch.Generator, limit: float = limit, made: list[Overshooting] = made
        ) -> Restorer:
            made.append(Overshooting(posed, rng, limit=limit))
            return made[-1]

        priors.Bounded(posed, rng(), fit=partial(Told, shape=SHAPE), restorer=restorer)
        assert made[0].looks <= most


def test_an_image_that_leaves_the_range_with_every_kernel_moves_none() -> None:
    posed = problem(2, 32)
    image = torch.full((1, 3, 64, 64), 1.1)
    found = priors.Bounded(posed, rng(), fit=partial(Told, shape=SHAPE), restorer=lambda p, r: KnownImage(image))
    assert torch.equal(found(), Told(posed, rng(), shape=SHAPE)())


def test_a_loop_is_held_to_the_corrected_kernel_and_made_only_where_the_fit_wants_one() -> None:
    posed = problem(2, 32)
    found = bounded(posed, SHAPE, limit=0.5, weight=1e-3)
    assert found.holds and found.penalty(found()) == 0
    assert found.penalty(Told(posed, rng(), shape=SHAPE)()) > 0
    for settled in (False, True):
        fit = partial(Told, shape=SHAPE, settled=settled)
        assert priors.Bounded(posed, rng(), fit=fit, restorer=partial(Overshooting, limit=0.5)).settled is settled
    assert not bounded(posed, SHAPE, settled=0.29).settled and bounded(posed, SHAPE, settled=0.31).settled


def test_what_is_outside_counts_on_either_side_and_nothing_inside_does() -> None:
    image = torch.tensor([0.0, 0.3, 1.0, 1.3, -0.4, 0.5, 1.0, 0.0]).view(1, 1, 2, 4)
    assert excess(image) == pytest.approx(math.sqrt((0.09 + 0.16) / 8))
    assert excess(image.clamp(0, 1)) == 0


@pytest.mark.parametrize("scale", [2, 4])
def test_usrnet_tells_a_kernel_that_is_much_too_wide_by_what_is_beyond_black_and_white(scale: int) -> None:
    image = photograph().float()
    image = (image - image.min()) / (image.max() - image.min())
    true = torch.tensor([math.log(0.2 * scale**2), 0.0, 0.0], dtype=torch.float64)
    blank = Problem(torch.zeros(1, 3, 192 // scale, 192 // scale), scale)
    posed = Problem(degrade(image, gaussian(covariance_of(true), blank).float(), scale).clamp(0, 1), scale)
    wide = true + torch.tensor([0.6, 0.0, 0.0], dtype=torch.float64)

    def found(shape: Tensor) -> priors.Bounded:
        return priors.Bounded(posed, rng(), fit=partial(Told, shape=shape), restorer=restorers.Usrnet)

    assert (found(wide).chosen - true)[0].abs() < 0.75 * (wide - true)[0]
    # The true one is left nearly as it is.
    assert (found(true + torch.tensor([0.05, 0, 0])).chosen - true)[0].abs() < 0.15


def test_what_learns_or_makes_no_sense_is_refused() -> None:
    posed = problem(2, 32)
    with pytest.raises(ValueError, match="Dip learns"):
        priors.Bounded(posed, rng(), fit=partial(Told, shape=SHAPE), restorer=partial(restorers.Dip, channels=8))
    with pytest.raises(ValueError, match="outside is -1"):
        bounded(posed, SHAPE, outside=-1.0)
