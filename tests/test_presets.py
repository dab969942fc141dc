"""The presets compose with every prior that learns; a crop's margin is left out; what the spectrum knows weighs in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from cases import KnownImage, photograph, rng, true_kernel, uniform
from omegaconf import OmegaConf
from scipy.optimize import minimize
from torch import Tensor

import kernelsr
from kernelsr import cli, configure, flags, priors, restorers, solvers
from kernelsr.configure import compose_config
from kernelsr.crops import informative_crop, informative_window
from kernelsr.degradation import degrade
from kernelsr.metrics import kernel_psnr
from kernelsr.priors import spectral
from kernelsr.problem import Problem, Progress
from kernelsr.whittle import PHOTOGRAPHS, Whittle

OTHERS = (0, 1, 2, 3, 4, 8)
"""Of Whittle's unknowns those that are not of the kernel."""
LEARNING = ("dkp", "double_dip", "fkp", "gaussian", "inr", "repeated", "softmax")


@pytest.mark.parametrize("prior", LEARNING)
def test_fast_composes_with_every_prior_that_learns(prior: str) -> None:
    cfg = compose_config(["preset=fast", f"prior={prior}"])
    assert cfg.start._target_.endswith("Amortised") and cfg.nonblind._target_.endswith("Usrnet")
    assert cfg.solver._target_.endswith("direct") and "_target_" not in cfg.restorer


@pytest.mark.parametrize("preset", ["draft", "fast", "refined"])
def test_without_a_prior_the_quick_presets_take_the_gaussian_that_their_start_is(preset: str) -> None:
    chosen = [
        compose_config([f"preset={preset}", *words]).prior._target_ for words in ([], ["prior=gaussian"], ["prior=inr"])
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_draft_begins_at_the_spectral_fit_and_the_command_line_wins() -> None:
    assert compose_config(["preset=draft", "prior=inr"]).start._target_.endswith("Spectral")
    cfg = compose_config(["preset=fast", "solver=joint", "restorer=dip", "start=own", "nonblind=wiener"])
    assert cfg.solver._target_.endswith("joint") and cfg.restorer._target_.endswith("Dip")
    assert "_target_" not in cfg.start and cfg.nonblind._target_.endswith("Wiener")


def test_refined_is_the_loop_that_was_measured_and_takes_other_priors() -> None:
    words = ["prior=gaussian", "start=amortised", "start.weight=1e-4", "nonblind=usrnet"]
    words += ["start.settled={x3:0.2,x4:0.2}", "restorer.channels=16", "crop=192", "solver.steps=150", "threads=1"]
    cfg, measured = compose_config(["preset=refined"]), compose_config(words)
    assert set(cfg.start.settled.values()) == {flags.DOUBT}
    assert OmegaConf.to_container(cfg, resolve=True) == OmegaConf.to_container(measured, resolve=True)
    cfg = compose_config(["preset=refined", "prior=fkp", "crop=null", "start.weight=0"])
    assert cfg.prior._target_.endswith("Flow") and cfg.crop is None and cfg.start.weight == 0


def test_refined_takes_what_is_sure_and_sends_what_is_not_through_the_loop() -> None:
    lr = degrade(photograph(96).float(), true_kernel().float(), 2)
    short = ["solver.steps=2", "solver.ssim_steps=0", "prior.start=0"]
    steps: list[list[Progress]] = [[], [], []]
    fast = kernelsr.estimate(lr, 2, "gaussian", preset="fast")
    assert fast.doubt is not None
    for seen, doubt in zip(steps, (2 * fast.doubt.size, 0.5 * fast.doubt.size, 0), strict=True):
        words = [*short, f"start.settled={doubt}"]
        found = kernelsr.estimate(lr, 2, preset="refined", overrides=words, on_step=seen.append)
        taken = len(seen) == 1
        assert torch.equal(found.kernel, fast.kernel) == taken == (found.doubt == fast.doubt)
        assert found.nonblind is not None
    assert [len(seen) for seen in steps] == [1, 2, 2]
    with pytest.raises(ValueError, match="settled is -1"):
        kernelsr.estimate(lr, 2, preset="refined", overrides=["start.settled=-1"])


def test_refined_has_no_loop_where_that_gains_nothing() -> None:
    lr = degrade(photograph(96).float(), true_kernel().float(), 2)
    short = ["solver.steps=2", "solver.ssim_steps=0", "prior.start=0"]
    for words, taken in (([], True), (["+start.settled.x2=1e-3"], False), (["+start.settled.x2=9"], True)):
        steps: list[Progress] = []
        found = kernelsr.estimate(lr, 2, preset="refined", overrides=[*short, *words], on_step=steps.append)
        assert (len(steps) == 1) == taken == (found.doubt is not None)
    for wrong in ("+start.settled.2=0.1", "start.settled.x4=-1"):
        with pytest.raises(ValueError, match="settled is .* by scale"):
            kernelsr.estimate(lr, 2, preset="refined", overrides=[*short, wrong])


@pytest.mark.parametrize("words", [["solver=alternating"], ["solver=direct"], ["restorer=bicubic"], ["nonblind=none"]])
def test_refined_goes_with_other_solvers_and_restorers(words: list[str]) -> None:
    lr = degrade(photograph(96).float(), true_kernel().float(), 2)
    for settled in (0, 9):  # through the solver, and not
        found = kernelsr.estimate(
            lr, 2, preset="refined", overrides=[*words, "crop=null", f"start.settled={settled}", "solver.steps=2"]
        )
        assert found.image is not None or found.nonblind is not None


def test_refined_moves_no_further_than_it_is_sure() -> None:
    lr = degrade(photograph(96).float(), true_kernel().float(), 2)
    short = ["solver.steps=30", "solver.ssim_steps=0", "start.settled=0", "prior.start=0"]
    free, held, fast = (
        kernelsr.estimate(lr, 2, preset=preset, prior="gaussian", overrides=words).kernel
        for preset, words in (
            ("refined", [*short, "start.weight=0"]),
            ("refined", [*short, "start.weight=0.1"]),
            ("fast", []),
        )
    )
    assert (held - fast).abs().sum() < 0.5 * (free - fast).abs().sum()


@pytest.mark.parametrize(
    ("experiment", "prior"),
    [
        ("dip_fkp", "fkp"),
        ("dip_dkp", "dkp"),
        ("dip_softmax", "softmax"),
        ("double_dip", "double_dip"),
        ("dip_fkp", "full/fkp"),
        ("dip_dkp", "full/dkp"),
    ],
)
def test_faithful_is_the_papers_experiment_with_usrnet(experiment: str, prior: str) -> None:
    cfg, theirs = (compose_config(w) for w in (["preset=faithful", f"prior={prior}"], [f"experiment={experiment}"]))
    theirs.nonblind = cfg.nonblind
    assert OmegaConf.to_container(cfg, resolve=True) == OmegaConf.to_container(theirs, resolve=True)


def test_faithful_takes_other_proposals_with_the_papers_prior() -> None:
    words = ["preset=faithful", "prior=full/dkp", "restorer=dip", "family@prior.family=motion", "solver.steps=1"]
    posed = Problem(uniform(1, 3, 24, 24), 2)
    assert configure.solve(compose_config([*words, "scale=2", "prior.rehearsal=2"]), posed, "a", print).kernel.any()
    with pytest.raises(ValueError, match="under preset=faithful prior=full/dkp takes any"):
        configure.solve(compose_config(["prior=dkp", *words[:1], *words[2:]]), posed, "a", print)


def test_a_preset_shows_in_the_methods_name() -> None:
    usual = {"experiment": None, "prior": "dkp", "restorer": "none", "nonblind": "usrnet", "solver": "direct"}
    assert cli.method_name({**usual, "start": "amortised", "preset": "fast"}) == "dkp@amortised+usrnet fast"


def test_a_preset_beside_an_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="preset=fast and experiment=dip_fkp are two schedules"):
        kernelsr.estimate(np.zeros((24, 24, 3)), preset="fast", experiment="dip_fkp")
    with pytest.raises(ValueError, match="preset=draft and experiment=dip_fkp are two schedules"):
        kernelsr.estimate(np.zeros((24, 24, 3)), experiment="dip_fkp", overrides=["preset=draft"])


@pytest.mark.parametrize("more", [[], ["start=explained", "start.crop=64", "start.evaluations=2"], ["start=bounded"]])
def test_fast_makes_a_kernel_and_an_image(more: list[str]) -> None:
    lr = degrade(photograph(96).float(), true_kernel().float(), 2)
    found = kernelsr.estimate(lr, 2, "gaussian", preset="fast", overrides=more)
    assert found.image is None and found.nonblind is not None and found.nonblind.shape == (1, 3, 96, 96)


def test_an_estimate_on_a_crop_has_a_kernel_and_the_nonblind_image_of_the_whole() -> None:
    seen: list[Progress] = []
    lr = degrade(photograph(96).float(), true_kernel().float(), 2)
    words = ["crop=64", "solver=alternating", "solver.kernel_rest=0"]
    parts = {"restorer": "wiener", "nonblind": "wiener", "steps": 2}
    found = kernelsr.estimate(lr, 2, "gaussian", **parts, overrides=words, on_step=seen.append)
    assert found.image is None and found.nonblind is not None and found.nonblind.shape == (1, 3, 96, 96)
    assert [progress.image for progress in seen] == [None, None]
    whole = kernelsr.estimate(lr, 2, "gaussian", **parts, overrides=["crop=96", *words[1:]])
    assert whole.image is not None and whole.image.shape == (1, 3, 96, 96)


# --- crops


def test_the_window_with_edges_of_all_directions_is_taken() -> None:
    image = torch.zeros(1, 3, 40, 60, dtype=torch.float64)
    image[..., :30:4] = 1  # strong edges, but of one direction
    image[..., 15:35, 35:55] = 0.5 * uniform(20, 20)
    top, left = informative_window(image, 20, 20)
    assert abs(top - 15) <= 2 and abs(left - 35) <= 2


def test_a_crop_is_a_window_of_y_with_the_margin_that_its_kernel_reaches_over() -> None:
    image, kernel = photograph(128), true_kernel()
    whole = Problem(degrade(image, kernel, 2), 2)
    part = informative_crop(whole, 64)
    assert part.lr.shape == (1, 3, 32, 32) and part.margin == 3 and part.scale == 2
    assert informative_crop(whole, 128) is whole and informative_crop(whole, 500) is whole
    assert informative_crop(whole, 128).margin == 0
    for side in (0, 43, 64.0):
        with pytest.raises(ValueError, match="four times the kernel's 11"):
            informative_crop(whole, side)


def cropped(image: Tensor, kernel: Tensor) -> tuple[Tensor, Problem]:
    """A known part of an image, and the problem of the LR pixels over it."""
    lr = degrade(image, kernel, 2)
    part = Problem(lr[..., 10:42, 6:38].contiguous(), 2, margin=3)
    return image[..., 20:84, 12:76].contiguous(), part


def test_what_blurs_into_a_crop_from_outside_is_in_the_margin_only() -> None:
    window, part = cropped(photograph(96), true_kernel())
    error = (degrade(window, true_kernel(), 2) - part.lr).abs()
    assert part.inside(error).max() < 1e-14 < 1e-3 < error.max()
    with pytest.raises(ValueError, match="margin is 16"):
        replace(part, margin=16)


@pytest.mark.parametrize("kernel_steps", [5, 25])  # by degrading, and by the quadratic form
def test_on_a_crop_the_known_image_tells_the_kernel_if_the_margin_is_left_out(kernel_steps: int) -> None:
    window, part = cropped(photograph(96), true_kernel())

    def found(posed: Problem) -> float:
        prior = priors.Gaussian(posed, rng(), lr=0.05, start=0)
        settings = {"steps": 250 // kernel_steps, "kernel_rest": 0.0, "kernel_steps": kernel_steps}
        return kernel_psnr(solvers.alternating(posed, prior, KnownImage(window), **settings).kernel, true_kernel())

    assert found(part) > 70 > found(replace(part, margin=0)) + 10


# --- what the spectrum knows


def test_the_spectral_penalty_is_the_fall_of_the_likelihood() -> None:
    lr = degrade(photograph(128), true_kernel(), 2)
    kernel = {"size": (0.5, 0.5), "stretch": (0.0, 0.35), "skew": (0.0, 0.35)}
    likelihood = Whittle(lr[0].mean(0), 2, 32, PHOTOGRAPHS | kernel | {"noise": (-13.0, 2.0)})
    weight = 200.0
    best = (likelihood.fit(weight) - likelihood.mean) / likelihood.spread
    precision = likelihood.precision(likelihood.mean + likelihood.spread * best, weight)
    for axis in range(3):
        place = spectral.SHAPE.start + axis
        step = 0.03 / likelihood.spread[place]

        def fallen(others: np.ndarray, place: int = place, step: Tensor = step) -> float:
            """With this unknown of the shape held aside, and the other two where they were."""
            point = best.clone()
            point[list(OTHERS)] = torch.from_numpy(others)
            point[place] += step
            return float(weight * (likelihood.loss(point, weight) - likelihood.loss(best, weight)))

        least = minimize(fallen, best[list(OTHERS)].numpy(), method="L-BFGS-B").fun
        assert least == pytest.approx(precision[axis, axis].item() * 0.03**2 / 2, rel=0.15)


# --- the explained start


class Following(KnownImage):
    """The true image, as if it depended on the kernel."""

    def forward(self, kernel: Tensor) -> Tensor:
        return self.image + 0 * kernel.sum()


def test_with_the_true_image_the_explained_fit_finds_the_kernel_that_the_spectrum_misses() -> None:
    image = photograph(128)
    posed = Problem(degrade(image, true_kernel(), 2), 2)

    def found(counts: float) -> Tensor:
        settings = {"counts": counts, "crop": None, "evaluations": 60}
        return priors.Explained(
            posed, rng(), fit=priors.Spectral, restorer=lambda problem, rng: Following(image), **settings
        )()

    fit = priors.Spectral(posed, rng())()
    assert torch.allclose(found(1e-9), fit, atol=1e-7)
    assert kernel_psnr(found(1e4), true_kernel()) > kernel_psnr(fit, true_kernel()) + 10


def test_the_explained_fit_is_settled_where_its_fit_is_sure_of_the_size() -> None:
    image = photograph(96)
    posed = Problem(degrade(image, true_kernel(), 2), 2)
    there = {"fit": priors.Amortised, "restorer": lambda problem, rng: Following(image), "crop": None, "evaluations": 1}
    plain = priors.Amortised(posed, rng())
    assert plain.doubt is not None and not plain.settled
    for settled in (0.99 * plain.doubt.size, 1.01 * plain.doubt.size):
        found = priors.Explained(posed, rng(), settled=settled, **there)
        assert found.doubt == plain.doubt and found.settled == (settled > plain.doubt.size)
    sure = {**there, "fit": partial(priors.Amortised, settled=9.0)}
    assert priors.Explained(posed, rng(), **sure).settled
    with pytest.raises(ValueError, match="settled is -1"):
        priors.Explained(posed, rng(), settled=-1, **there)
    cfg = compose_config(["preset=refined", "start=explained", "start@start.fit=amortised"])
    assert cfg.start.settled.x4 == flags.DOUBT and cfg.start.weight == 1e-4 and cfg.start.fit.settled == 0


@pytest.mark.parametrize("scale", [2, 4])
def test_an_image_of_one_edge_has_an_explained_fit_too(scale: int) -> None:
    """Its likelihood is greatest at a bound of the search, where it does not fall off."""
    lr = torch.zeros(1, 3, 24, 24)
    lr[..., 12:] = 1
    posed = Problem(lr, scale)
    assert torch.linalg.eigvalsh(priors.Spectral(posed, rng()).belief.precision).min() > 0.99 / 0.5**2
    kernel = priors.Explained(posed, rng(), fit=priors.Spectral, restorer=restorers.Usrnet, crop=None, evaluations=2)()
    assert torch.isfinite(kernel).all()


def test_the_explained_fit_refuses_what_explains_nothing() -> None:
    posed = Problem(uniform(1, 3, 32, 32), 2)
    with pytest.raises(ValueError, match="ignores the kernel"):
        priors.Explained(posed, rng(), fit=priors.Spectral, restorer=lambda p, r: KnownImage(photograph(64)), crop=None)
    with pytest.raises(ValueError, match="Dip learns"):
        priors.Explained(posed, rng(), fit=priors.Spectral, restorer=partial(restorers.Dip, channels=8), crop=None)
    slow = KnownImage(photograph(64))
    slow.calls = 5
    with pytest.raises(ValueError, match="takes several calls"):
        priors.Explained(posed, rng(), fit=priors.Spectral, restorer=lambda p, r: slow, crop=None)
    with pytest.raises(ValueError, match="counts is 0"):
        priors.Explained(posed, rng(), fit=priors.Spectral, restorer=restorers.Usrnet, counts=0)
