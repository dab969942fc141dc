"""What a loop makes of its iterates: how old their mean is, and when a kernel stands still."""

from __future__ import annotations

import pytest
import torch
from cases import KnownImage, photograph, problem, rng, true_kernel
from torch import Tensor

from kernelsr import degradation, priors, restorers, solvers
from kernelsr.problem import Problem, Progress
from kernelsr.solvers.iterates import SPAN, Late, Standing


def weights(average: float, count: int) -> Tensor:
    """What each of ``count`` iterates counts in the mean."""
    late = Late(average)
    for one in torch.eye(count, dtype=torch.float64):
        late.add(one)
    return late.mean[0]


@pytest.mark.parametrize("average", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_the_mean_is_as_old_as_that_of_the_last_share(average: float) -> None:
    found, age = weights(average, 400), torch.arange(399, -1, -1, dtype=torch.float64)
    assert found.min() >= 0 and found.sum() == pytest.approx(1)
    assert found @ age == pytest.approx(400 * average / 2, abs=1)
    assert (found.diff() >= -1e-15).all()


def test_the_ends_are_the_last_iterate_and_the_plain_mean() -> None:
    assert weights(0.0, 5).tolist() == [0, 0, 0, 0, 1]
    torch.testing.assert_close(weights(1.0, 5), torch.full((5,), 0.2).double())
    with pytest.raises(ValueError, match=r"average is 1\.5"):
        Late(1.5)


def test_the_last_forgets_whatever_came_before() -> None:
    late = Late(0.0)
    late.add(torch.tensor([torch.nan]))
    late.add(torch.ones(1))
    assert late.mean[0].tolist() == [1]


def test_iterates_may_be_overwritten() -> None:
    late, value = Late(0.0), torch.ones(2)
    late.add(value)
    value.zero_()
    assert late.mean[0].tolist() == [1, 1]


def ends(still: float, moves: list[bool], step: float) -> int | None:
    """After how many steps a kernel ends that moves ``step`` of its mass a step, back and forth on the way."""
    standing = Standing(still)
    for number, moving in enumerate(moves):
        place = step * number + (0.3 if number % 2 else 0.0)
        if standing.still_at(torch.tensor([1 - place, place]).double(), moving):
            return number + 1
    return None


def test_it_stands_still_where_its_mean_does() -> None:
    moves = [True] * 200
    assert ends(0.01, moves, 0.0) == 2 * SPAN  # whatever it jumps from step to step
    assert ends(0.01, moves, 0.00049) == 2 * SPAN and ends(0.01, moves, 0.00051) is None
    assert ends(0.0, moves, 0.0) is None
    with pytest.raises(ValueError, match="still is -1"):
        Standing(-1.0)


def test_a_kernel_that_rests_does_not_stand_still() -> None:
    assert ends(0.01, [False] * 200, 0.0) is None
    assert ends(0.01, [False] * 29 + [True] + [False] * 200, 0.0) is None
    # It has to be seen moving in two spans that follow one another.
    assert ends(0.01, [False] * 75 + [True] * 100, 0.0) == 5 * SPAN


def test_the_joint_loop_ends_and_averages() -> None:
    image = photograph(48)
    posed = Problem(degradation.degrade(image, true_kernel(), 2), 2)

    def run(**settings: float) -> tuple[list[Progress], Tensor]:
        seen: list[Progress] = []
        prior = priors.Gaussian(posed, rng(), lr=0.05, start=0)
        estimate = solvers.joint(
            posed, prior, KnownImage(image), steps=200, ssim_steps=0, on_step=seen.append, **settings
        )
        return seen, estimate.kernel

    whole, last = run()
    assert len(whole) == 200 and torch.equal(last, whole[-1].kernel)
    short, _ = run(still=0.01)
    assert 2 * SPAN <= len(short) < 200 and len(short) % SPAN == 0
    _, mean = run(average=1.0)
    torch.testing.assert_close(mean, torch.cat([step.kernel for step in whole]).mean(0, keepdim=True))


def test_a_prior_that_does_not_learn_does_not_stand_still_and_images_are_averaged() -> None:
    posed, seen = problem(2, 40, dtype=torch.float32), []
    restorer = restorers.Dip(posed, rng(), channels=4, skip=2, scales=2)
    settings = {"steps": 3 * SPAN, "ssim_steps": 0, "still": 0.9, "average": 1.0}
    estimate = solvers.joint(posed, priors.Spectral(posed, rng()), restorer, **settings, on_step=seen.append)
    assert len(seen) == 3 * SPAN
    assert estimate.image is not None
    torch.testing.assert_close(estimate.image, torch.cat([step.image for step in seen]).mean(0, keepdim=True))


def test_the_steps_by_ssim_do_not_count() -> None:
    image, seen = photograph(48), []
    posed = Problem(degradation.degrade(image, true_kernel(), 2), 2)
    prior = priors.Gaussian(posed, rng(), lr=1e-9, start=0)
    solvers.joint(posed, prior, KnownImage(image), steps=200, ssim_steps=80, still=0.5, on_step=seen.append)
    assert len(seen) == 80 + 2 * SPAN
