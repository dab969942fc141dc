"""The alternating loop: what it calls and in which order; with the image known it finds the kernel; what it refuses."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import torch
import yaml
from cases import KnownImage, photograph, problem, rng, true_kernel
from torch import Tensor, nn

from kernelsr import degradation, metrics, priors, restorers, solvers
from kernelsr.learner import KernelPrior, Misfit, Restorer
from kernelsr.paths import CONF
from kernelsr.problem import Problem, Progress


class Scripted(KernelPrior):
    """A prior that writes down what happens to it."""

    def __init__(self, posed: Problem, story: list[str]):
        super().__init__()
        size = posed.kernel_size
        self.logits = nn.Parameter(posed.lr.new_zeros(1, 1, size, size))
        self.optimizer = torch.optim.SGD([self.logits], 0.1)
        self.story = story

    def forward(self) -> Tensor:
        return self.logits.flatten().softmax(0).view_as(self.logits)

    def advance(self, misfit: Misfit) -> None:
        assert misfit(self().detach().expand(3, -1, -1, -1)).shape == (3,)
        self.story.append("listen")

    def step(self, i: int) -> None:
        assert self.logits.grad is not None
        self.story.append(f"kernel {i}")
        super().step(i)


class Painter(Restorer):
    """An image that learns."""

    def __init__(self, posed: Problem, story: list[str]):
        super().__init__()
        self.pixels = nn.Parameter(0.5 * torch.ones(1, 3, *posed.hr_size).to(posed.lr))
        self.optimizer = torch.optim.SGD([self.pixels], 1.0)
        self.story = story

    def forward(self, kernel: Tensor) -> Tensor:
        assert not kernel.requires_grad
        self.story.append("image")
        return self.pixels

    def step(self, i: int) -> None:
        assert self.pixels.grad is not None and self.pixels.grad.any()
        self.story.append(f"image {i}")
        super().step(i)


def test_image_and_kernel_take_turns() -> None:
    posed, story, seen = problem(2), [], []
    prior, restorer = Scripted(posed, story), Painter(posed, story)
    start = prior().detach()

    def on_step(progress: Progress) -> None:
        story.append(f"step {progress.step}")
        seen.append(progress)

    estimate = solvers.alternating(posed, prior, restorer, steps=3, kernel_rest=0.34, kernel_steps=2, on_step=on_step)
    assert story == [
        *("image", "image 0", "step 0"),
        *("image", "image 1", "listen", "kernel 0", "kernel 1", "step 1"),
        *("image", "image 2", "listen", "kernel 2", "kernel 3", "step 2"),
    ]
    assert torch.equal(seen[0].kernel, start) and not torch.equal(seen[1].kernel, start)
    assert torch.equal(estimate.kernel, prior()) and not estimate.kernel.requires_grad
    assert estimate.image is not None and not estimate.image.requires_grad
    assert all(progress.loss.dim() == 0 and not progress.loss.requires_grad for progress in seen)


def test_the_kernels_gradient_never_reaches_the_image() -> None:
    posed = problem(2)
    restorer = Painter(posed, [])
    solvers.alternating(posed, Scripted(posed, []), restorer, steps=2, kernel_rest=0)
    assert not restorer.pixels.grad.any() if restorer.pixels.grad is not None else True


ORACLES = {  # kernel PSNR in dB and relative error of the variances: measured, and what is asked for
    "softmax": (partial(priors.Softmax, lr=0.1, start=0), 48, 0.4),
    "gaussian": (partial(priors.Gaussian, start=0), 65, 0.03),
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_prior_that_sees_the_true_image_finds_the_kernel(name: str) -> None:
    prior, least_psnr, most_error = ORACLES[name]
    truth, hr = true_kernel(), photograph(64, torch.float32)
    posed = Problem(degradation.degrade(hr, truth.to(hr), 2).clamp(0, 1), 2)
    estimate = solvers.alternating(posed, prior(posed, rng()), KnownImage(hr), steps=30, kernel_rest=0, kernel_steps=10)
    psnr, error = metrics.kernel_psnr(estimate.kernel, truth), metrics.variance_error(estimate.kernel, truth)
    print(f"{name}: {psnr:.1f} dB, {error:.3f}")
    assert psnr > least_psnr and error < most_error


def test_the_function_has_the_defaults_of_its_configuration() -> None:
    settings = yaml.safe_load((CONF / "solver" / "alternating.yaml").read_text())
    defaults = {name: value.default for name, value in inspect.signature(solvers.alternating).parameters.items()}
    assert {name: defaults[name] for name in settings if not name.startswith("_")} == {
        name: value for name, value in settings.items() if not name.startswith("_")
    }


def test_what_it_cannot_work_with() -> None:
    posed = problem(2)
    prior, restorer = priors.Gaussian(posed, rng()), restorers.Bicubic(posed, rng())
    with pytest.raises(ValueError, match="restorer=diffusion"):
        solvers.alternating(posed, prior, None)
    with pytest.raises(ValueError, match="solver=direct"):
        solvers.alternating(posed, prior.requires_grad_(False), restorer)
    for settings in ({"steps": 0}, {"kernel_steps": 0}, {"kernel_rest": 1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            solvers.alternating(posed, prior, restorer, **settings)


def test_it_ends_where_the_kernel_stands_still() -> None:
    image = photograph(48)
    posed = Problem(degradation.degrade(image, true_kernel(), 2), 2)

    def steps_of(still: float) -> int:
        seen: list[Progress] = []
        prior = priors.Gaussian(posed, rng(), lr=0.05, start=0)
        settings = {"steps": 40, "kernel_rest": 0.1, "kernel_steps": 20, "still": still}
        solvers.alternating(posed, prior, KnownImage(image), **settings, on_step=seen.append)
        return len(seen)

    assert steps_of(0.0) == 40 and 6 < steps_of(1e-3) < 40  # it rests in the first four, and goes on
    assert steps_of(1.0) == 5


@pytest.mark.parametrize(
    ("settings", "ends"),
    [({"start": 76}, 8), ({"start": 0, "every": 30}, 3), ({"start": 0}, 1)],
)
def test_a_kernel_that_rests_by_its_priors_schedule_does_not_stand_still(settings: dict[str, int], ends: int) -> None:
    posed, seen = problem(2), []
    base = priors.Gaussian(posed, rng(), start=settings["start"])
    base.every = settings.get("every", 1)
    for prior in (base, priors.Repeated(posed, rng(), base=lambda *_: base)):
        seen.clear()
        solvers.alternating(
            posed, prior, restorers.Bicubic(posed, rng()), steps=20, kernel_rest=0, still=1.0, on_step=seen.append
        )
        assert len(seen) == ends


def test_the_late_kernels_are_averaged() -> None:
    posed = problem(2)

    def found(average: float, steps: int = 4) -> Tensor:
        prior = Scripted(posed, [])
        settings = {"steps": steps, "kernel_rest": 0.0, "kernel_steps": 2, "average": average}
        return solvers.alternating(posed, prior, KnownImage(photograph(48)), **settings).kernel

    last = [found(0.0, steps) for steps in (1, 2, 3, 4)]
    assert torch.allclose(found(1.0), sum(last) / 4, atol=1e-15) and not torch.equal(*last[2:])
    rested = Scripted(posed, [])
    settings = {"steps": 4, "kernel_rest": 0.75, "kernel_steps": 2, "average": 1.0}
    kernel = solvers.alternating(posed, rested, KnownImage(photograph(48)), **settings).kernel
    assert torch.equal(kernel, rested())  # those of the rest do not count
    with pytest.raises(ValueError, match=r"average is 1\.5"):
        found(1.5)
