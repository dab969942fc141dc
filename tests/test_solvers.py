"""Schedules, edges and duties of the solver, with parts that count; and every error of a problem."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import normal, photograph, problem, rng, uniform
from torch import Tensor, nn

import kernelsr
from kernelsr import degradation, losses, solvers
from kernelsr.families import AnisotropicGaussian
from kernelsr.learner import KernelPrior, Learner, Restorer, initialised_from
from kernelsr.priors import Dynamic, Softmax
from kernelsr.problem import Estimate, Problem, Progress, fkp_kernel_size


class CountingPrior(KernelPrior):
    """Free kernel pixels that remember at which step they moved, and by which gradient."""

    def __init__(self, problem: Problem, *, start: int = 0, every: int = 1):
        super().__init__()
        self.start, self.every = start, every
        kernel = uniform(1, 1, problem.kernel_size, problem.kernel_size).to(problem.lr)
        self.kernel = nn.Parameter(kernel / kernel.sum())
        self.optimizer = torch.optim.SGD([self.kernel], 1e-3)
        self.now, self.moves, self.projections = -1, [], []

    def forward(self) -> Tensor:
        return self.kernel + 0

    def step(self, i: int) -> None:
        self.now = i
        super().step(i)

    def move(self) -> None:
        self.moves.append((self.now, self.kernel.grad.clone()))
        super().move()

    def project_(self) -> None:
        self.projections.append(self.now)


class FixedImage(Restorer):
    """An image that is given."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.register_buffer("image", image)

    def forward(self, kernel: Tensor) -> Tensor:
        return self.image


def run(prior: KernelPrior, steps: int, ssim_steps: int = 0) -> list[Progress]:
    posed, seen = problem(2), []
    solvers.joint(posed, prior, FixedImage(photograph(48)), steps=steps, ssim_steps=ssim_steps, on_step=seen.append)
    return seen


# --- schedules


@pytest.mark.parametrize("start", [0, 1, 4])
def test_a_learner_rests_until_its_start(start: int) -> None:
    prior = CountingPrior(problem(2), start=start)
    seen = run(prior, 7)
    assert [step for step, _ in prior.moves] == list(range(start, 7))
    assert all(torch.equal(progress.kernel, seen[0].kernel) for progress in seen[: start + 1])
    assert not torch.equal(seen[start + 1].kernel, seen[0].kernel)
    # Projected once a step, also while it rests (FKP's latent is).
    assert prior.projections == list(range(7))


@pytest.mark.parametrize(("every", "start", "expected"), [(3, 0, [2, 5, 8]), (3, 4, [5, 8]), (2, 5, [5, 7, 9])])
def test_a_learner_moves_every_few_steps(every: int, start: int, expected: list[int]) -> None:
    prior = CountingPrior(problem(2), start=start, every=every)
    run(prior, 10)
    assert [step for step, _ in prior.moves] == expected


def test_gradients_accumulate_between_moves() -> None:
    steady, slow = CountingPrior(problem(2)), CountingPrior(problem(2), every=3)
    for prior in (steady, slow):
        prior.optimizer = torch.optim.SGD([prior.kernel], 0.0)  # the kernel stays, so all gradients are alike
        run(prior, 6)
    torch.testing.assert_close(slow.moves[0][1], 3 * steady.moves[0][1])
    torch.testing.assert_close(slow.moves[1][1], 3 * steady.moves[0][1])


def test_what_accumulates_while_a_learner_rests_is_dropped() -> None:
    prior = CountingPrior(problem(2), start=5)
    run(prior, 6)
    steady = CountingPrior(problem(2))
    run(steady, 1)
    torch.testing.assert_close(prior.moves[0][1], steady.moves[0][1])


@pytest.mark.parametrize(("listen_every", "expected"), [(5, [0, 5, 10]), (1, list(range(12))), (7, [0, 7])])
def test_a_dynamic_prior_listens_every_few_steps(listen_every: int, expected: list[int]) -> None:
    drawn: list[tuple[int, int]] = []
    seen: list[Progress] = []

    def family(n: int, problem: Problem, source: torch.Generator) -> Tensor:
        drawn.append((len(seen), n))
        return AnisotropicGaussian()(n, problem, source)

    posed = problem(2)
    prior = Dynamic(posed, rng(), base=Softmax, family=family, rehearsal=4, listen_every=listen_every, samples=6)
    assert drawn == [(0, 1)] * 4
    drawn.clear()
    restorer = FixedImage(photograph(48))
    solvers.joint(posed, prior, restorer, steps=12, ssim_steps=0, on_step=seen.append)
    assert drawn == [(step, 6) for step in expected]


@pytest.mark.parametrize(("every", "listen_every"), [(3, 5), (2, 4), (1, 6)])
def test_a_dynamic_priors_base_moves_when_it_listens_and_every_few_steps(every: int, listen_every: int) -> None:
    posed, moves = problem(2), []
    base = CountingPrior(posed)
    base.move = lambda: moves.append(None)
    prior = Dynamic(posed, rng(), base=lambda *_: base, rehearsal=7, listen_every=listen_every, every=every)
    assert len(moves) == 7
    moves.clear()
    run(prior, 12)
    assert len(moves) == -(-12 // listen_every) + 12 // every


def test_what_a_dynamic_prior_accumulated_is_dropped_when_it_listens() -> None:
    posed = problem(2)
    base = CountingPrior(posed)
    proposal = uniform(1, 1, 11, 11, seed=3)
    prior = Dynamic(
        posed, rng(), base=lambda *_: base, family=lambda n, *_: proposal.expand(n, -1, -1, -1), rehearsal=0
    )
    kernel = base.kernel.detach().clone()
    base.kernel.grad = normal(1, 1, 11, 11)
    prior.advance(lambda kernels: torch.zeros(len(kernels)).double())
    # All errors alike: weights of -log(1e-3), and the gradient of the mean square alone.
    expected = -5 * torch.log(torch.tensor(1e-3)).double() * 2 * (kernel - proposal) / kernel.numel()
    torch.testing.assert_close(base.moves[0][1], expected, rtol=1e-6, atol=0)


# --- the loop


@pytest.mark.parametrize("ssim_steps", [0, 3, 6])
def test_the_loss_changes_at_its_edge(ssim_steps: int) -> None:
    posed, image = problem(2), photograph(48)
    for progress in run(CountingPrior(posed), 6, ssim_steps):
        lr = degradation.degrade(image, progress.kernel, 2)
        expected = 1 - losses.ssim(lr, posed.lr) if progress.step < ssim_steps else ((lr - posed.lr) ** 2).mean()
        torch.testing.assert_close(progress.loss, expected, rtol=0, atol=1e-14)


def test_the_loss_holds_both_penalties() -> None:
    posed = problem(2)
    prior, restorer = CountingPrior(posed), FixedImage(photograph(48))
    seen: list[Progress] = []
    prior.penalty = lambda kernel: 2 * kernel[0, 0, 0, 0]
    restorer.penalty = lambda image: image.new_tensor(3.0)
    solvers.joint(posed, prior, restorer, steps=1, ssim_steps=0, on_step=seen.append)
    steady = CountingPrior(posed)
    (plain,) = run(steady, 1)
    torch.testing.assert_close(seen[0].loss, plain.loss + 3 + 2 * plain.kernel[0, 0, 0, 0])
    pull = prior.moves[0][1] - steady.moves[0][1]
    assert pull[0, 0, 0, 0].item() == pytest.approx(2) and pull.sum().item() == pytest.approx(2)


def test_it_returns_the_last_iterate_and_shows_every_step() -> None:
    posed, seen = problem(2), []
    prior = CountingPrior(posed)
    estimate = solvers.joint(posed, prior, FixedImage(photograph(48)), steps=9, ssim_steps=4, on_step=seen.append)
    assert [progress.step for progress in seen] == list(range(9))
    assert torch.equal(estimate.kernel, seen[-1].kernel) and torch.equal(estimate.image, seen[-1].image)
    assert not estimate.kernel.requires_grad and not estimate.image.requires_grad
    for progress in seen:
        assert progress.loss.shape == () and not progress.loss.requires_grad
        assert not progress.kernel.requires_grad and not progress.image.requires_grad
    # As they entered the last loss, before the last move.
    assert not torch.equal(estimate.kernel, prior.kernel)


def test_the_restorer_sees_the_kernel_but_no_gradient_flows_through_it() -> None:
    posed, prior = problem(2), CountingPrior(problem(2))
    given: list[Tensor] = []

    class Listening(FixedImage):
        def forward(self, kernel: Tensor) -> Tensor:
            given.append(kernel)
            return self.image + 1e3 * kernel.sum() * 0

    solvers.joint(posed, prior, Listening(photograph(48)), steps=2, ssim_steps=0)
    assert not any(kernel.requires_grad for kernel in given)
    assert torch.equal(given[0], CountingPrior(posed).kernel.detach())


def test_the_misfit_is_the_squared_error_of_each_candidate_with_the_current_image() -> None:
    posed, image = problem(2), photograph(48)
    candidates, heard = uniform(4, 1, 11, 11, seed=8), []

    class Asking(CountingPrior):
        def advance(self, misfit: object) -> None:
            heard.append(misfit(candidates))

    run(Asking(posed), 1)
    expected = [((degradation.degrade(image, k[None], 2) - posed.lr) ** 2).mean() for k in candidates]
    torch.testing.assert_close(heard[0], torch.stack(expected))


def test_layers_draw_from_the_given_generator_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with initialised_from(rng(5)):
        first = nn.Linear(4, 4).weight.detach()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    with initialised_from(rng(5)):
        assert torch.equal(nn.Linear(4, 4).weight, first)
    with initialised_from(rng(6)):
        assert not torch.equal(nn.Linear(4, 4).weight, first)


# --- no waiting for the device inside the loop

PACKAGE = Path(kernelsr.__file__).parent
LOOP_FILES = [PACKAGE / "solvers" / "joint.py", PACKAGE / "losses.py", PACKAGE / "degradation.py"]
LOOP_FILES += sorted(path for folder in ("priors", "restorers") for path in (PACKAGE / folder).glob("*.py"))
# What fits in the constructor; and a zero-shot network, which trains inside one call and decides on the way when to end.
LOOP_FILES = [
    path
    for path in LOOP_FILES
    if path.name not in ("spectral.py", "explained.py", "bounded.py", "amortised.py", "pool.py", "zssr.py")
]
WAITING_METHODS = {"item", "cpu", "numpy", "tolist", "nonzero"}
WAITING_FUNCTIONS = {"float", "int", "bool", "print"}
# What does not run inside the loop, constructors and where a prior begins, may wait; and what reads a size, not a value.
ONCE = {"__init__", "begin_at"}
READS_A_SIZE = {("gaussian.py", "int(len(row) ** 0.5)"), ("diffusion.py", "int(self.denoiser.multiple)")}


def waits(source: str) -> list[str]:
    """Calls in a file's functions, constructors apart, that make the host wait for the device."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.name not in ONCE:
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                method = isinstance(call.func, ast.Attribute) and call.func.attr in WAITING_METHODS
                if method or isinstance(call.func, ast.Name) and call.func.id in WAITING_FUNCTIONS:
                    found.append(ast.unparse(call))
    return found


@pytest.mark.parametrize("path", LOOP_FILES, ids=lambda path: path.name)
def test_nothing_in_the_loop_waits_for_the_device(path: Path) -> None:
    assert [call for call in waits(path.read_text()) if (path.name, call) not in READS_A_SIZE] == []


def test_waiting_would_be_seen() -> None:
    source = "def __init__(s):\n    x.item()\ndef forward(s):\n    y = x.item()\n    return float(y) + x.cpu()"
    assert sorted(waits(source)) == ["float(y)", "x.cpu()", "x.item()"]


# --- the problem's errors

GOOD = torch.full((1, 3, 24, 24), 0.5)
BAD = {
    "scale 1": (dict(scale=1), r"scale is 1; it must be an integer from 2 to 16"),
    "scale 17": (dict(scale=17), r"scale is 17"),
    "scale 2.0": (dict(scale=2.0), r"scale is 2.0"),
    "scale True": (dict(scale=True), r"scale is True"),
    "scale '2'": (dict(scale="2"), r"scale is '2'"),
    "support below the scale": (dict(scale=4, kernel_size=3), r"kernel_size is 3 at x4; it must be the scale at least"),
    "even support": (dict(kernel_size=10), r"kernel_size is 10; it must be odd and at least 3"),
    "tiny support": (dict(kernel_size=1), r"kernel_size is 1"),
    "negative support": (dict(kernel_size=-3), r"kernel_size is -3"),
    "centre": (dict(centre="middle"), r"centre is 'middle'; choose one of fkp, aligned"),
    "two images": (dict(lr=GOOD.expand(2, -1, -1, -1)), r"shape \(2, 3, 24, 24\); it must be one image"),
    "no batch": (dict(lr=GOOD[0]), r"shape \(3, 24, 24\)"),
    "NaN": (dict(lr=GOOD.clone().index_fill_(3, torch.tensor(3), torch.nan)), r"NaN or infinite"),
    "infinite": (dict(lr=GOOD.clone().index_fill_(3, torch.tensor(3), torch.inf)), r"NaN or infinite"),
    "8 bits": (dict(lr=255 * GOOD), r"ranges over \[128, 128\]; it must lie in \[0, 1\]"),
    "negative": (dict(lr=GOOD - 1), r"ranges over \[-0.5, -0.5\]"),
    "small": (dict(lr=GOOD[..., :5]), r"smaller than the kernel: 5x24 LR pixels give 10x48 at x2, the kernel has 11"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_problem_says_what_is_wrong(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        Problem(**{"lr": GOOD, "scale": 2, **changes})


@pytest.mark.parametrize(("scale", "size"), [(2, 11), (3, 15), (4, 19), (8, 21)])
def test_a_problem_has_fkps_support_and_knows_the_hr_size(scale: int, size: int) -> None:
    posed = Problem(GOOD[..., :20], scale)
    assert posed.kernel_size == size == fkp_kernel_size(scale)
    assert posed.hr_size == (24 * scale, 20 * scale)
    assert Problem(GOOD, scale, 9).kernel_size == 9


def test_rounding_beyond_the_range_is_no_error() -> None:
    Problem(GOOD + 0.5 + 5e-4, 2)


def test_a_learner_without_an_optimizer_only_projects() -> None:
    projected = []

    class Still(Learner):
        def project_(self) -> None:
            projected.append(None)

    still = Still()
    still.step(0)
    still.move()
    assert len(projected) == 2


@pytest.mark.parametrize("solver", [solvers.joint, solvers.alternating])
def test_an_image_that_would_not_be_finished_is_refused(solver: Callable[..., Estimate]) -> None:
    class Slow(FixedImage):
        calls = 5

    posed = problem(2, 24)
    for steps in (4, 5):
        prior, restorer = Softmax(posed, rng()), Slow(photograph(48))
        if steps < 5:
            with pytest.raises(ValueError, match="solver.steps is 4, .* after 5 only; set restorer.steps=4"):
                solver(posed, prior, restorer, steps=steps)
        else:
            assert torch.isfinite(solver(posed, prior, restorer, steps=steps).kernel).all()
