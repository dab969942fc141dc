"""start=bounded: a kernel as wide as lets a restorer's image stay within the range of images."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from cases import KnownImage, photograph, problem, rng
from torch import Tensor

from experiments import bounds
from experiments.paired import place_of
from kernelsr import kernels, priors, restorers
from kernelsr.beliefs import Belief, Believed, covariance_of, gaussian, shape_of
from kernelsr.configure import compose_config, restore
from kernelsr.data import Case, Scenario
from kernelsr.degradation import degrade
from kernelsr.files import write_table
from kernelsr.learner import Restorer
from kernelsr.official import find_image_set
from kernelsr.priors.bounded import LOOKS, NEAR, excess
from kernelsr.problem import Doubt, Problem

SPREADS = torch.tensor([[0.09, 0.03, -0.02], [0.03, 0.05, 0.01], [-0.02, 0.01, 0.04]], dtype=torch.float64)
"""Of a belief: its covariance."""
COFFEE = place_of({"data": "demo", "scale": 4, "image": "coffee"})


class Told(Believed):
    """A belief that is given."""

    def __init__(self, posed: Problem, rng: torch.Generator, *, shape: Tensor, settled: bool = False):
        super().__init__()
        self.doubt, self.settled = Doubt(0.3, gaussian=True), settled
        belief = Belief(shape[None], torch.linalg.inv(SPREADS)[None])
        # Its kernel is not that of the mean, which is where a kernel is made smaller from.
        self.believe(belief, posed, chosen=shape - torch.tensor([0.05, 0, 0], dtype=torch.float64))


class Overshooting(Restorer):
    """Grey, but for the middle, as much brighter than white as the kernel's size is above a limit."""

    def __init__(self, posed: Problem, rng: torch.Generator, *, limit: float):
        super().__init__()
        self.size, self.limit, self.looks = posed.hr_size, limit, 0

    def forward(self, kernel: Tensor) -> Tensor:
        self.looks += 1
        image = torch.full((1, 3, *self.size), 0.5, dtype=kernel.dtype)
        size = shape_of(kernels.moments(kernel.double()))[0, 0].item()
        image[..., 31:33, 31:33] = 1 + max(size - self.limit, 0)
        return image


def bounded(posed: Problem, shape: Tensor, limit: float = 0.0, **settings: float) -> priors.Bounded:
    restorer = partial(Overshooting, limit=limit)
    return priors.Bounded(posed, rng(), fit=partial(Told, shape=shape), restorer=restorer, **settings)


SHAPE = torch.tensor([1.0, 0.2, -0.1], dtype=torch.float64)


def mean_of(posed: Problem) -> Tensor:
    """The kernel of the belief's mean."""
    return gaussian(covariance_of(SHAPE), posed).to(posed.lr)


def test_where_nothing_is_outside_the_kernel_is_the_means() -> None:
    posed = problem(2, 32)
    fit = Told(posed, rng(), shape=SHAPE)
    found = bounded(posed, SHAPE, limit=2.0)
    assert torch.equal(found(), mean_of(posed)) and torch.equal(found.chosen, SHAPE)
    assert torch.equal(found.belief.mean, fit.belief.mean) and found.doubt == fit.doubt
    assert torch.equal(bounded(posed, SHAPE, outside=0.0)(), mean_of(posed))


def test_the_size_shrinks_until_what_is_outside_is_worth_the_way() -> None:
    """|outside| rises in proportion to the size from a limit on, so that the least is where its slope ends, or is t."""
    posed = problem(2, 32)
    spread, share = math.sqrt(0.09), math.sqrt(4 / 40**2)  # of the size; of the inner pixels that are outside, its root
    for outside, limit in ((200.0, 0.5), (200.0, -2.0), (2000.0, 0.7)):
        slope = outside * share * spread
        wanted = min(slope, (SHAPE[0].item() - limit) / spread)
        found = bounded(posed, SHAPE, limit=limit, outside=outside)
        t = ((SHAPE - found.chosen)[0] / spread).item()
        assert wanted > 0.5 and t == pytest.approx(wanted, abs=1.5 * NEAR) and found.smaller == pytest.approx(t)


def test_stretch_and_skew_go_with_the_size_as_the_belief_says() -> None:
    posed = problem(2, 32)
    found, fit = bounded(posed, SHAPE, limit=0.5), Told(posed, rng(), shape=SHAPE)
    moved = found.chosen - SHAPE
    assert moved[0] < -0.1
    assert torch.allclose(moved / moved[0], SPREADS[:, 0] / SPREADS[0, 0])
    assert torch.allclose(found.belief.mean - fit.belief.mean, moved[None])
    assert torch.allclose(found.belief.precision, fit.belief.precision)
    assert torch.allclose(found(), gaussian(covariance_of(found.chosen), posed))


def test_it_looks_a_few_times_only_and_once_where_there_is_nothing_to_see() -> None:
    posed = problem(2, 32)
    for limit, outside, most in ((2.0, 200.0, 1), (0.5, 200.0, LOOKS + 1), (0.0, 2000.0, LOOKS + 1)):
        made: list[Overshooting] = []

        def restorer(
            posed: Problem, rng: torch.Generator, limit: float = limit, made: list[Overshooting] = made
        ) -> Restorer:
            made.append(Overshooting(posed, rng, limit=limit))
            return made[-1]

        priors.Bounded(posed, rng(), fit=partial(Told, shape=SHAPE), restorer=restorer, outside=outside)
        assert min(most, 3) <= made[0].looks <= most


def test_an_image_that_leaves_the_range_with_every_kernel_moves_none() -> None:
    posed = problem(2, 32)
    image = torch.full((1, 3, 64, 64), 1.1)
    found = priors.Bounded(posed, rng(), fit=partial(Told, shape=SHAPE), restorer=lambda p, r: KnownImage(image))
    assert torch.equal(found(), mean_of(posed))


def test_a_loop_is_held_to_the_corrected_kernel_and_made_only_where_the_fit_wants_one() -> None:
    posed = problem(2, 32)
    found = bounded(posed, SHAPE, limit=0.5, weight=1e-3)
    assert found.holds and found.penalty(found()) == 0
    assert found.penalty(mean_of(posed)) > 0
    for settled in (False, True):
        fit = partial(Told, shape=SHAPE, settled=settled)
        assert priors.Bounded(posed, rng(), fit=fit, restorer=partial(Overshooting, limit=0.5)).settled is settled
    assert not bounded(posed, SHAPE, settled=0.29).settled and bounded(posed, SHAPE, settled=0.31).settled


def test_what_is_outside_counts_on_either_side_and_nothing_inside_does() -> None:
    image = torch.tensor([0.0, 0.3, 1.0, 1.3, -0.4, 0.5, 1.0, 0.0]).view(1, 1, 2, 4)
    assert excess(image) == pytest.approx(math.sqrt((0.09 + 0.16) / 8))
    assert excess(image.clamp(0, 1)) == 0


def test_a_way_shorter_than_the_search_can_tell_is_not_gone() -> None:
    posed = problem(2, 32)
    spread = math.sqrt(0.09)
    near, far = (bounded(posed, SHAPE, limit=SHAPE[0].item() - t * spread, outside=3000.0) for t in (0.15, 0.6))
    assert torch.equal(near(), mean_of(posed)) and (SHAPE - far.chosen)[0] > NEAR * spread


def stretched(side: int = 192) -> Tensor:
    """The photograph from black to white."""
    image = photograph(side).float()
    return (image - image.min()) / (image.max() - image.min())


def blurred(size: float, scale: int) -> tuple[Problem, Tensor]:
    """A photograph's LR image and the shape of its kernel."""
    true = torch.tensor([math.log(size * scale**2), 0.0, 0.0], dtype=torch.float64)
    blank = Problem(torch.zeros(1, 3, 192 // scale, 192 // scale), scale)
    return Problem(degrade(stretched(), gaussian(covariance_of(true), blank).float(), scale).clamp(0, 1), scale), true


@pytest.mark.parametrize("scale", [2, 4])
def test_usrnet_tells_a_kernel_that_is_much_too_wide_by_what_is_beyond_black_and_white(scale: int) -> None:
    posed, true = blurred(0.2, scale)
    wide = true + torch.tensor([0.8, 0.0, 0.0], dtype=torch.float64)

    def found(shape: Tensor) -> Tensor:
        fit = partial(Told, shape=shape)
        return (priors.Bounded(posed, rng(), fit=fit, restorer=restorers.Usrnet).chosen - true)[0]

    assert 0 < found(wide) < 0.6  # of 0.8
    assert found(true) == 0


@pytest.mark.parametrize("scale", [2, 4])
def test_the_border_of_an_image_that_is_not_periodic_says_nothing(scale: int) -> None:
    whole, true = blurred(0.2, scale)
    cut = Problem(whole.lr[..., 4:-4, 4:-4].contiguous(), scale)
    image = restorers.Usrnet(cut, rng())(gaussian(covariance_of(true), cut).float())
    border = 2 * scale * -(-(cut.kernel_size // 2) // scale)
    assert excess(image) > 5 * excess(image, border)
    found = priors.Bounded(cut, rng(), fit=partial(Told, shape=true), restorer=restorers.Usrnet)
    assert torch.equal(found.chosen, true)
    assert excess(image, 96) == 0  # no inside, and nothing to say


def test_grey_images_and_fits_without_doubt_are_taken() -> None:
    posed = Problem(photograph(64)[:, :1].contiguous(), 2)
    found = priors.Bounded(posed, rng(), fit=priors.Spectral, restorer=restorers.Usrnet, settled=0.5)
    assert found().shape == (1, 1, 11, 11) and found().dtype == posed.lr.dtype and not found.settled


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"outside": -1.0}, "outside is -1"),
        ({"outside": math.nan}, "outside is nan"),
        ({"outside": math.inf}, "outside is inf"),
    ]
    + [({"settled": -0.1}, "settled is -0.1"), ({"weight": -1.0}, "weight is -1")],
)
def test_wrong_settings_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bounded(problem(2, 32), SHAPE, **settings)


def test_a_restorer_that_learns_or_has_no_image_at_once_or_an_infinite_one_is_refused() -> None:
    posed, fit = problem(2, 32), partial(Told, shape=SHAPE)
    slow = KnownImage(torch.ones(1, 3, 64, 64))
    slow.calls = 5
    for restorer, said in (
        (partial(restorers.Dip, channels=8), "Dip learns"),
        (lambda posed, rng: slow, "takes several calls"),
        (lambda posed, rng: KnownImage(torch.full((1, 3, 64, 64), math.inf)), "not finite"),
    ):
        with pytest.raises(ValueError, match=said):
            priors.Bounded(posed, rng(), fit=fit, restorer=restorer)


def row(data: str, image: str, scale: int, smaller: float, *images: float) -> dict[str, str]:
    """A measured one."""
    moved = smaller > 0
    scores = dict(zip(("psnr_amortised", "psnr_bounded", "psnr_true"), map(str, images), strict=True))
    scores |= {"kernel_psnr_amortised": "60", "kernel_psnr_bounded": "61" if moved else "60"}
    scores |= {"variance_error_amortised": "0.2", "variance_error_bounded": "0.1" if moved else "0.2"}
    place = {"data": data, "image": image, "scale": str(scale), "outside": "200"}
    return place | {"smaller": str(smaller)} | scores


def test_the_measurement_pairs_by_image_and_counts_the_kernels_that_moved() -> None:
    rows = [
        row("set5", "a", 4, 1.5, 30.0, 30.6, 31.0),
        row("set5", "b", 4, 0.0, 30.0, 30.0, 31.0),
        row("set14", "a", 4, 0.0, 29.0, 29.3, 29.0),
    ]
    one, first, by_scale, whole, moved, unmoved = bounds.summary(rows)
    assert first.startswith("set5 x4: 1 of 2 smaller; image +0.30 dB") and one.startswith("set14 x4: 0 of 1")
    assert "from +0.00 to +0.60; kernel +0.50 dB" in first and "median variance error 20.0 to 15.0 %" in first
    assert "the true kernel's images +0.70 dB" in first and "than prior=amortised's +1.00" in first
    assert by_scale.startswith("all x4: 1 of 3") and whole.startswith("all: 1 of 3")
    assert moved.startswith("smaller: 1 of 1 smaller; image +0.60 dB")
    assert unmoved.startswith("not smaller: 0 of 2 smaller; image +0.15 dB")


def test_what_does_not_depend_on_the_start_is_taken_from_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose_config(["prior=amortised", "start=bounded", "nonblind=wiener"])
    case = next(iter(Scenario(find_image_set("demo"), 4, rng="named", only=["coffee"], window=128)))
    made: list[object] = []
    monkeypatch.setattr(bounds, "restore", lambda *args: made.append(args) or restore(*args))
    clean = {"level": 0.0, "told": "mean", "jpeg": ""}
    computed = bounds.row_of("demo", case, cfg, {}, clean)
    kernel = {"kernel_psnr_amortised": str(computed["kernel_psnr_amortised"])}
    plain = {"psnr_amortised": "21.5", "psnr_true": "22.5", "psnr_bounded": "1"} | kernel
    taken = bounds.row_of("demo", case, cfg, {COFFEE: plain}, clean)
    assert (taken["psnr_amortised"], taken["psnr_true"], len(made)) == (21.5, 22.5, 4)
    with pytest.raises(ValueError, match="another kernel of coffee"):
        bounds.row_of("demo", case, cfg, {COFFEE: plain | {"kernel_psnr_amortised": "40"}}, clean)
    assert computed["psnr_bounded"] == taken["psnr_bounded"] > 15
    assert computed["psnr_true"] != 22.5 and computed["smaller"] >= 0


@pytest.mark.parametrize(("told", "expected"), [("mean", 5 / 255), ("nothing", 0.0)])
def test_what_problems_have_of_the_noise_is_as_asked(
    told: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = next(iter(Scenario(find_image_set("demo"), 4, only=["coffee"], window=128, noise_std=10 / 255)))
    seen: list[float] = []

    def stop(cfg: object, group: str, posed: Problem, generator: object) -> None:
        seen.append(posed.noise_std)
        raise InterruptedError

    monkeypatch.setattr(bounds, "part", stop)
    with pytest.raises(InterruptedError):
        bounds.row_of("demo", case, compose_config([]), {}, {"level": 10.0, "told": told, "jpeg": ""})
    assert seen == [pytest.approx(expected)]


def test_a_report_is_of_the_sets_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(name, "a", 4, 0.0, 30.0, 30.0, 31.0) for name in ("set5", "set14", "photographs")]
    write_table(tmp_path / "rows.csv", rows)
    for words, count in (([], 3), (["--sets", "set5", "set14"], 2)):
        monkeypatch.setattr("sys.argv", ["bounds", str(tmp_path / "rows.csv"), "--report", *words])
        bounds.main()
        assert f"all: 0 of {count} smaller" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "of", "refused"),
    [
        (["--start", "start.outside=200.0"], {}, False),
        (["--start", "start.outside=100"], {}, True),
        (["--noise", "0"], {"level": "0.0", "told": "mean", "jpeg": ""}, False),
        (["--noise", "10"], {}, True),
        (["--jpeg", "60", "100"], {}, True),
        (["--jpeg", "60", "100"], {"jpeg": "60 to 100"}, False),
        (["--noise", "10"], {"level": "10.0", "told": "heard"}, True),
        (["--noise", "10", "--told", "heard"], {"level": "10.0", "told": "heard"}, False),
    ],
)
def test_rows_of_other_settings_are_not_mixed(
    words: list[str],
    of: dict[str, str],
    refused: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_table(tmp_path / "rows.csv", [row("set5", "a", 4, 0.0, 30.0, 30.0, 31.0) | of])
    monkeypatch.setattr(bounds, "scenarios", lambda *args: [])
    monkeypatch.setattr("sys.argv", ["bounds", str(tmp_path / "rows.csv"), *words])
    with pytest.raises(SystemExit) if refused else nullcontext():
        bounds.main()
    assert ("has rows of {'outside': 200.0" in capsys.readouterr().err) is refused


def test_noise_and_jpeg_are_in_the_problems_that_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float | None, object, str]] = []
    taken: list[dict[object, object]] = []

    def measured(
        name: str, case: Case, cfg: object, plain: dict[object, object], worse: dict[str, object]
    ) -> dict[str, object]:
        made = case.scenario
        seen.append((name, made.noise_std, made.jpeg, made.noise))
        taken.append(plain)
        return row(name, case.name, 4, 0.0, 30.0, 30.0, 31.0) | worse

    monkeypatch.setattr(bounds, "row_of", measured)
    jpegs = {"level": "0.0", "told": "mean", "jpeg": "60 to 90"}
    write_table(tmp_path / "plain.csv", [row("demo", "coffee", 4, 0.0, 30.0, 30.0, 31.0) | jpegs])
    for words in (["--noise", "10", "--told", "heard"], ["--jpeg", "60", "90"]):
        words += ["--sets", "demo", "--scales", "4", "--plain", str(tmp_path / "plain.csv")]
        monkeypatch.setattr("sys.argv", ["bounds", str(tmp_path / f"{words[0]}.csv"), *words])
        bounds.main()
    assert not taken[0] and list(taken[-1]) == [COFFEE], "rows of other settings are not taken"
    assert set(seen) == {("demo", 10 / 255, None, "untold"), ("demo", 0.0, (60, 90), "drawn")}
