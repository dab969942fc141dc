"""The posterior over a pool: its likelihood by definition, what it finds, what it cannot tell, what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cases import normal, photograph, problem, rng, uniform
from hydra.utils import instantiate
from scipy.optimize import minimize
from torch import Tensor

from experiments import pool_calibration
from kernelsr import kernels, priors
from kernelsr.configure import compose_config
from kernelsr.data import Scenario
from kernelsr.degradation import degrade
from kernelsr.families import AnisotropicGaussian, Disk, KernelFamily, LinearMotion, Mixture, RandomMotion
from kernelsr.metrics import kernel_psnr
from kernelsr.official import find_image_set
from kernelsr.pool_likelihood import PoolLikelihood
from kernelsr.problem import Problem
from kernelsr.seeds import generator
from kernelsr.whittle import PHOTOGRAPHS, Spectrum, periodogram

BROAD = Mixture({"gaussian": AnisotropicGaussian(), "motion": LinearMotion("any"), "disk": Disk()})


class Of:
    """A pool that is given."""

    def __init__(self, pool: Tensor):
        self.pool = pool

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        return self.pool.to(problem.lr)


def posed(family: KernelFamily, scale: int = 2, seed: int = 5, side: int = 192) -> tuple[Problem, Tensor]:
    """A photograph blurred by a kernel of a family, and the kernel."""
    kernel = family(1, problem(scale), rng(seed))
    lr = degrade(photograph(side - side % scale), kernel, scale)
    return Problem((255 * lr).round() / 255, scale), kernel


def read(given: Problem, family: KernelFamily = BROAD, seed: int = 0, **settings: float) -> priors.Pool:
    return priors.Pool(given, rng(seed), family=family, **({"count": 300} | settings))  # type: ignore[arg-type]


# --- the likelihood


@pytest.mark.parametrize("scale", [2, 3])
def test_aliases_are_found_in_a_transform_of_hr_windows(scale: int) -> None:
    spectrum = Spectrum(normal(70, 50), scale, 32)
    kernel = RandomMotion()(1, problem(scale), rng())[0, 0]
    place = torch.arange(len(kernel), dtype=torch.float64)
    turn = spectrum.down[..., None, None] * place[:, None] + spectrum.right[..., None, None] * place
    by_definition = (kernel * torch.exp(-2j * math.pi * turn)).sum((2, 3))
    gathered = torch.fft.fft2(kernel, s=spectrum.sides).flatten()[spectrum.aliases]
    torch.testing.assert_close(gathered, by_definition)
    # All of them fold onto the LR image's own frequency.
    lr = torch.fft.fftfreq(32, dtype=torch.float64)
    apart = ((scale * spectrum.down)[..., None] - lr + 0.5) % 1 - 0.5
    assert apart.abs().min(2).values.max() < 1e-12


def test_each_kernel_has_the_likeliest_photograph_and_noise() -> None:
    """Against scipy in double precision, from the definition."""
    given, _ = posed(LinearMotion(), side=96)
    grey, pool = given.lr[0].mean(0), BROAD(4, problem(2), rng(1))
    model = PoolLikelihood(grey, 2, 32, pool, given.noise_std)
    losses, unknowns = model.fit(20.0)
    mean, spread = (part.double().numpy() for part in (model.mean, model.spread))
    assert mean[:5].tolist() == pytest.approx([m for m, _ in PHOTOGRAPHS.values()], rel=1e-6)
    power, share, photograph = (part.numpy() for part in (model.power, model.share, model.photograph))
    for kernel, loss, found in zip(pool, losses.tolist(), unknowns, strict=True):
        transfer = torch.fft.fft2(kernel[0], s=model.sides).abs().square().flatten()[model.aliases].numpy()

        def deviance(u: np.ndarray, transfer: np.ndarray = transfer) -> float:
            expected = (np.exp(photograph @ u[:5]) * transfer).mean(1) + np.exp(u[5])
            likelihood = share @ (np.log(expected) + power / expected)
            return float(20 * likelihood + (((u - mean) / spread) ** 2).sum() / 2)

        least = min(minimize(deviance, start).fun for start in (mean, found.double().numpy()))
        assert deviance(found.double().numpy()) == pytest.approx(loss, abs=1e-3)
        assert loss == pytest.approx(least, abs=0.3)  # seven steps; measured 0.1 in the mean


def test_the_share_of_frequencies_is_the_plane_s() -> None:
    grey = normal(64, 64)
    spectrum, power = Spectrum(grey, 2, 32), periodogram(grey, 32)
    along = torch.fft.fftfreq(32, 1 / 32)
    far = along[:, None].square() + along.square() > 1.5**2
    torch.testing.assert_close(spectrum.share @ spectrum.power, power[far].mean())


# --- the posterior


@pytest.mark.parametrize("family", [AnisotropicGaussian(), LinearMotion(), Disk()])
def test_a_kernel_of_any_family_is_found(family: KernelFamily) -> None:
    given, true = posed(family)
    found = read(given, count=600)()
    mean = BROAD(600, given, rng()).mean(0, keepdim=True)
    assert kernel_psnr(found, true) > kernel_psnr(mean, true) + 4
    assert found.sum().item() == pytest.approx(1) and found.min() > -1e-6


def test_the_family_among_others_is_told() -> None:
    """Of as many lines as disks and Gaussians, nearly all the weight is of lines."""
    given, _ = posed(LinearMotion(5.0))
    lines, others = LinearMotion("any")(200, given, rng()), BROAD.families["disk"](200, given, rng(1))
    weights = read(given, Of(torch.cat([lines, others]))).get_buffer("weights")
    assert weights[:200].sum() > 0.95


def test_a_kernel_that_is_upside_down_is_as_likely() -> None:
    given, true = posed(RandomMotion())
    pool = torch.cat([true, true.flip(2, 3), RandomMotion()(60, given, rng(8))])
    weights = read(given, Of(pool)).get_buffer("weights")
    assert weights[0].item() == pytest.approx(weights[1].item(), rel=1e-3) and weights[0] == weights.max()


def test_the_kernel_is_the_mean_of_the_posterior() -> None:
    given, _ = posed(Disk())
    prior = read(given)
    weights, pool = prior.get_buffer("weights"), prior.get_buffer("pool")
    assert weights.sum().item() == pytest.approx(1)
    torch.testing.assert_close(prior()[0], (weights[:, None, None, None] * pool).sum(0))
    centre = kernels.centre(given.centre, given.kernel_size, given.scale)
    torch.testing.assert_close(kernels.centroid(prior()), torch.full((1, 2), centre).double(), atol=0.02, rtol=0)


def test_the_doubt_is_the_spread_of_the_sizes() -> None:
    given, _ = posed(Disk())
    pool = Disk(3.0)(1, given, rng()), Disk(2.0)(1, given, rng())
    prior = read(given, Of(torch.cat(pool)))
    first, second = ((kernels.moments(kernel)[0].trace() / 2).log().item() for kernel in pool)
    odds = [weight ** (1 / 4) for weight in prior.get_buffer("weights").tolist()]
    share = odds[0] / sum(odds)
    assert prior.doubt is not None
    assert prior.doubt.size == pytest.approx(math.sqrt(share * (1 - share)) * abs(first - second), abs=1e-6)
    alone = read(given, Of(pool[0]))
    assert alone.doubt is not None and alone.doubt.size == pytest.approx(0, abs=1e-6)


def test_the_penalty_is_that_of_the_pool_s_moments_and_of_what_lies_between() -> None:
    given, _ = posed(LinearMotion())
    prior = read(given, weight=2.0, count=40)
    share, pool, mean = prior.get_buffer("calibrated"), prior.get_buffer("pool").flatten(1), prior().flatten()
    apart = [
        min((one - other).square().sum().item() for j, other in enumerate(pool) if i != j) for i, one in enumerate(pool)
    ]
    between = sum(w * a for w, a in zip(share.tolist(), apart, strict=True)) / len(mean)
    moments = sum(w * torch.outer(one - mean, one - mean) for w, one in zip(share, pool, strict=True))
    kernel = LinearMotion()(1, given, rng(3))
    d = kernel.flatten() - mean
    expected = d @ torch.linalg.solve(moments + between * torch.eye(len(mean)), d) / 2
    assert prior.penalty(kernel).item() == pytest.approx(2 * expected.item(), rel=1e-6)
    assert prior.penalty(1.2 * kernel).item() == pytest.approx(2 * expected.item(), rel=1e-6), "a flow's sum is another"
    assert prior.penalty(prior()).item() == pytest.approx(0, abs=1e-9)


def test_a_loop_may_go_where_the_pool_is_open_and_not_elsewhere() -> None:
    given, _ = posed(LinearMotion())
    shake, step = RandomMotion()(1, given, rng(2)), 0.02 * normal(1, 1, 11, 11)
    step = step - step.mean()
    near = 0.9 * shake + 0.1 * Disk()(1, given, rng())
    prior = read(given, Of(torch.cat([shake, shake.flip(2, 3), near, near.flip(2, 3)])), weight=1.0)
    # Which of two ways up it is, both as likely, is open.
    assert prior.penalty(shake) < 3 < prior.penalty(prior() + step * (shake - prior()).norm() / step.norm())


def test_a_kernel_that_is_twice_in_the_pool_is_no_other() -> None:
    given, _ = posed(LinearMotion())
    pool = LinearMotion("any")(20, given, rng())
    kernel = LinearMotion()(1, given, rng(3))
    once, twice = read(given, Of(pool), weight=1.0), read(given, Of(torch.cat([pool, pool])), weight=1.0)
    assert twice.penalty(kernel).item() == pytest.approx(once.penalty(kernel).item(), rel=1e-3)
    with pytest.raises(ValueError, match="a pool of one kernel"):
        read(given, Of(pool[:1].repeat(3, 1, 1, 1)), weight=1.0)


def test_it_is_settled_where_the_doubt_is_small_enough() -> None:
    given, _ = posed(Disk())
    doubt = read(given).doubt
    assert doubt is not None and doubt.size > 0
    assert read(given, settled=1.01 * doubt.size).settled and not read(given, settled=0.99 * doubt.size).settled
    assert not read(given, count=1).settled, "0 is never, even where there is no doubt"


def test_as_a_start_it_holds_a_loop_and_settles_it() -> None:
    given = problem(2)
    cfg = compose_config(["start=pool", "start.count=60", "start.weight=0.5", "start.settled=9", "scale=2"])
    start = instantiate(cfg.start)(given, rng())
    prior = priors.Inr(given, rng())
    prior.follow(start)
    assert prior.settled and prior.doubt == start.doubt
    kernel = LinearMotion()(1, given, rng(3))
    assert prior.penalties(kernel).item() == pytest.approx(prior.penalty(kernel).item() + start.penalty(kernel).item())
    assert start.penalty(kernel) > 1


def test_noise_is_seen_and_leaves_more_open() -> None:
    given, _ = posed(LinearMotion())
    noisy = Problem((given.lr + 0.03 * normal(*given.lr.shape)).clamp(0, 1), 2)
    quiet, loud = read(given), read(noisy)
    assert quiet.noise_std < 0.005 and 0.01 < loud.noise_std < 0.03  # of the mean of three channels
    entropy = [-(w * w.clamp(min=1e-30).log()).sum() for w in (prior.get_buffer("weights") for prior in (quiet, loud))]
    assert entropy[1] > entropy[0]


def test_less_trust_leaves_more_open() -> None:
    given, _ = posed(LinearMotion())
    sharp, wide = (read(given, trust=trust).get_buffer("weights") for trust in (8.0, 0.3))
    assert sharp.max() > wide.max()


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(
    "image",
    [torch.full((1, 3, 40, 50), 0.4), torch.zeros(1, 1, 40, 40), torch.ones(1, 5, 40, 40), uniform(1, 3, 11, 6)],
)
def test_an_image_with_little_in_it_has_a_kernel_all_the_same(image: Tensor, scale: int) -> None:
    if min(image.shape[-2:]) * scale < problem(scale).kernel_size:
        pytest.skip("no problem takes it")
    prior = read(Problem(image.double(), scale), count=40)
    assert torch.isfinite(prior()).all() and prior().sum().item() == pytest.approx(1)


def test_device_and_dtype_are_the_problem_s() -> None:
    given = Problem(uniform(1, 3, 40, 40, dtype=torch.float32), 2)
    prior = read(given, count=20, weight=1.0)
    assert prior().dtype == prior.get_buffer("calibrated").dtype == prior.penalty(prior()).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"count": 0}, "count is 0"),
        ({"trust": 0.0}, "trust is 0"),
        ({"window": 4}, "window is 4"),
        ({"weight": -1.0}, "weight is -1"),
        ({"weight": math.inf}, "weight is inf"),
        ({"settled": -1.0}, "settled is -1"),
    ],
)
def test_what_it_cannot_do_is_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(Problem(uniform(1, 3, 40, 40), 2), **settings)


def test_a_window_too_small_for_the_kernels_is_refused() -> None:
    with pytest.raises(ValueError, match="window is 8; kernels of 33 HR pixels need 17 LR pixels at x2"):
        read(Problem(uniform(1, 3, 40, 40), 2, kernel_size=33), window=8, count=5)


# --- how sure it may be


def test_a_row_says_whether_the_tempered_intervals_hold_the_true_size() -> None:
    case = next(iter(Scenario(find_image_set("demo"), 2, BROAD, rng="named", only=["coffee"], window=160)))
    row = pool_calibration.row_of("demo", case)
    given, truth = case.load()
    assert truth.kernel is not None
    prior = instantiate(compose_config(["scale=2", "prior=pool"]).prior)(given, generator(0, "pool"))
    have, true = (
        (kernels.moments(k.double()).diagonal(dim1=1, dim2=2).mean(1)).log() for k in (prior.pool, truth.kernel)
    )
    assert row["true"] == pytest.approx(true.item())
    weights = prior.calibrated.double()
    order = have.argsort()
    reached = weights[order].cumsum(0)
    low, high = (have[order][(reached >= level).nonzero()[0, 0]] for level in (0.05, 0.95))
    assert row["inside_4"] == int(low <= true <= high)
    assert row["spread"] == prior.doubt.size


@pytest.mark.parametrize(
    ("true", "expected"), [(-0.5, False), (0.5, False), (1.5, True), (2.5, True), (3.5, False), (9, False)]
)
def test_the_central_part_of_a_posterior_leaves_as_much_on_either_side(true: float, expected: bool) -> None:
    weights = torch.tensor([0.04, 0.16, 0.6, 0.16, 0.04])
    assert pool_calibration.inside(weights, torch.tensor([0.0, 1, 2, 3, 4]), true) is expected


def test_the_summary_counts_what_each_temper_s_intervals_hold() -> None:
    def row(data: str, image: str, scale: int, spread: float, inside: Callable[[int], bool]) -> dict[str, str]:
        told = {f"inside_{temper}": str(int(inside(temper))) for temper in pool_calibration.TEMPERS}
        told |= {"true": "1.5", "mean": str(1.5 + spread)}
        return {"data": data, "image": image, "scale": str(scale), "spread": str(spread)} | told

    rows = [row("set5", "a", 2, 0.1, lambda t: True), row("set5", "a", 4, 0.3, lambda t: t > 2)]
    lines = {
        line.split(":")[0]: line
        for line in pool_calibration.summary([*rows, row("set14", "b", 4, 0.4, lambda t: False)])
    }
    assert "hold 1: 50 %, 2: 50 %, 3: 100 %" in lines["set5 (2)"] and "1 have a spread" in lines["set5 (2)"]
    assert "hold 1: 0 %" in lines["set5 x4 (1)"] and "4: 100 %" in lines["set5 x4 (1)"]
    assert "2 have a spread above 0.2; the mean is off by 0.30 in the median" in lines["all (3)"]


# --- lines of any length


def test_lines_of_any_length_fill_the_support() -> None:
    given = problem(4)
    drawn = LinearMotion("any")(400, given, rng())
    length = (12 * kernels.moments(drawn).diagonal(dim1=1, dim2=2).sum(1)).sqrt()  # of a line, and its pixels' width
    assert length.min() < 3 and 14 < length.max() < 16.5
    with pytest.raises(ValueError, match="length is 'long'"):
        LinearMotion("long")(1, given, rng())
