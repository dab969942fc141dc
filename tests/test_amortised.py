"""Amortised inference: what is known before, how patches add up, the eight symmetries, and the training."""

from __future__ import annotations

import csv
import inspect
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import normal, photograph, problem, rng, true_kernel, uniform
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from experiments import calibration, camera_noise, train_amortised
from experiments.lr_patches import LrPatches, gaussians, photographs
from experiments.training import Training
from kernelsr import amortised, kernels, metrics, priors
from kernelsr.beliefs import Belief, covariance_of, gaussian, shape_of
from kernelsr.capture import floor_to_8_bits, jpeg
from kernelsr.configure import compose_config, part
from kernelsr.data import Scenario
from kernelsr.degradation import degrade
from kernelsr.families import fkp_variances, gaussian_kernel
from kernelsr.learner import initialised_from
from kernelsr.official import find_image_set
from kernelsr.patch_features import local_contrast
from kernelsr.paths import CONF
from kernelsr.problem import Problem, fkp_kernel_size
from kernelsr.symmetries import TURNS, turned

ROOT = Path(__file__).parents[1]
SCALES = (2, 3, 4, 8)
TURNED = 0.5
"""Of the spread, how far a turned image may turn the belief another way."""


def network(widths: tuple[int, int, int] = (8, 8, 8)) -> amortised.PosteriorNetwork:
    with initialised_from(rng()):
        return amortised.PosteriorNetwork(widths, 16).eval()


@pytest.mark.parametrize("scale", SCALES)
def test_what_is_known_before_are_the_moments_of_the_protocol_s_kernels(scale: int) -> None:
    low, high = fkp_variances(scale)
    variances = low + (high - low) * uniform(200_000, 2)
    angle = torch.pi * uniform(200_000, seed=1)
    logarithms = (variances / scale**2).log()
    size, half = logarithms.mean(1), (logarithms[:, 0] - logarithms[:, 1]) / 2
    drawn = torch.stack([size, half * (2 * angle).cos(), half * (2 * angle).sin()], 1)
    before = amortised.known(torch.tensor([scale]))
    torch.testing.assert_close(before.mean[0].double(), drawn.mean(0), atol=5e-3, rtol=0)
    torch.testing.assert_close(before.spread()[0].double(), drawn.std(0), rtol=1e-2, atol=0)


def evidence(count: int) -> amortised.Evidence:
    roots = normal(count, 3, 3)
    return amortised.Evidence(normal(count, 3, seed=1), roots @ roots.mT, torch.zeros(count))


def test_evidence_adds_up_by_its_certainty() -> None:
    before = Belief(normal(2, 3, seed=2), torch.eye(3, dtype=torch.float64).expand(2, 3, 3))
    told = evidence(6)
    both = amortised.combined(before, told, 0.5)
    for kernel in range(2):
        patches = slice(3 * kernel, 3 * kernel + 3)
        parts = [(before.mean[kernel], before.precision[kernel], 1.0)]
        parts += [(m, p, 0.5) for m, p in zip(told.shape[patches], told.precision[patches], strict=True)]

        def minus_log(shape: Tensor, parts: list[tuple[Tensor, Tensor, float]] = parts) -> Tensor:
            """Of the product of the densities, but for a constant."""
            return torch.stack([share * (shape - mean) @ p @ (shape - mean) / 2 for mean, p, share in parts]).sum()

        shape = both.mean[kernel].clone().requires_grad_()
        (slope,) = torch.autograd.grad(minus_log(shape), shape)
        assert slope.abs().max() < 1e-9
        curvature = torch.autograd.functional.hessian(minus_log, both.mean[kernel])
        torch.testing.assert_close(curvature, both.precision[kernel])
    nothing = amortised.combined(before, told, 0.0)
    torch.testing.assert_close(nothing.mean, before.mean)


@pytest.mark.parametrize("turn", range(TURNS))
def test_evidence_is_turned_back_as_kernels_are(turn: int) -> None:
    variances = torch.tensor([1.5], dtype=torch.float64), torch.tensor([6.0], dtype=torch.float64)
    kernel = gaussian_kernel(*variances, torch.tensor([0.7], dtype=torch.float64), kernel_size=21, scale=2)
    mirrored = turned(kernel, turn)
    seen = amortised.Evidence(shape_of(kernels.moments(mirrored)), torch.eye(3).double()[None], torch.zeros(1))
    back = amortised.straightened(seen, torch.tensor([turn]))
    torch.testing.assert_close(back.shape, shape_of(kernels.moments(kernel)))


@pytest.mark.parametrize("turn", range(1, TURNS))
def test_a_patch_that_is_turned_has_the_turned_belief(turn: int) -> None:
    """Whatever the weights: a patch is seen in all eight ways."""
    patch, eyes = uniform(1, 1, 32, 32, dtype=torch.float32), network()
    straight, _ = amortised.infer(eyes, patch, 2, 8)
    other, _ = amortised.infer(eyes, turned(patch, turn), 2, 8)
    back = amortised.straightened(amortised.Evidence(*other, torch.zeros(1)), torch.tensor([turn]))
    torch.testing.assert_close(back.shape, straight.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(back.precision, straight.precision, rtol=1e-4, atol=1e-4)


def test_a_flat_patch_is_not_heard() -> None:
    patch, eyes = uniform(1, 1, 32, 32, dtype=torch.float32), network()
    alone, _ = amortised.infer(eyes, patch, 2, 1)
    beside, _ = amortised.infer(eyes, torch.cat([patch, torch.full_like(patch, 0.4)]), 2, 2)
    torch.testing.assert_close(beside.mean, alone.mean)
    torch.testing.assert_close(beside.precision, alone.precision)


def test_brightness_and_contrast_say_nothing_of_the_blur() -> None:
    patch = uniform(1, 1, 32, 32, dtype=torch.float32)
    seen = [local_contrast(changed) for changed in (patch, 0.5 * patch + 0.2)]
    torch.testing.assert_close(*seen, atol=0.1, rtol=0)
    torch.testing.assert_close(seen[0].mean(), torch.tensor(0.0), atol=0.02, rtol=0)


def test_a_scale_it_was_not_trained_for_is_refused() -> None:
    with pytest.raises(ValueError, match="scale is 5"):
        amortised.infer(network(), uniform(4, 1, 32, 32, dtype=torch.float32), 5)


# --- images with little in them, by the trained network


def images() -> dict[str, Tensor]:
    noise = uniform(1, 3, 40, 40, dtype=torch.float32)
    edge = torch.zeros(1, 3, 40, 40)
    edge[..., 20:] = 1
    return {
        "constant": torch.full((1, 3, 70, 50), 0.4),
        "white": torch.ones(1, 3, 40, 40),
        "black": torch.zeros(1, 1, 40, 40),
        "rounded": torch.full((1, 3, 40, 40), 0.4) + (noise > 0.5) / 255,
        "tiny": photograph(14, torch.float32)[..., ::2, ::2],
        "a few pixels": uniform(1, 3, 3, 3, dtype=torch.float32),
        "narrow": photograph(192, torch.float32)[..., :7],
        "noise": noise,
        "saturated": (noise > 0.5).float(),
        "edge": edge,
        "grey": photograph(96, torch.float32).mean(1, keepdim=True),
        "five bands": photograph(96, torch.float32)[:, [0, 1, 2, 0, 1]],
    }


FLAT = ("constant", "white", "black", "tiny", "a few pixels", "narrow")
NOISE = ("rounded", "noise", "saturated")
HELD = [
    (name, scale)
    for name, image in images().items()
    for scale in SCALES
    if min(image.shape[-2:]) * scale >= fkp_kernel_size(scale)  # no problem takes the others
]


@pytest.mark.parametrize(("name", "scale"), HELD)
def test_an_image_with_little_in_it_has_a_kernel_of_the_protocol(name: str, scale: int) -> None:
    prior = priors.Amortised(Problem(images()[name], scale), rng())
    before = amortised.known(torch.tensor([scale]))
    spread, wide = prior.belief.spread()[0], before.spread()[0].double()
    assert torch.isfinite(prior()).all() and prior().sum().item() == pytest.approx(1, abs=1e-4)
    centre = before.mean[0].double() + torch.tensor([2 * torch.tensor(scale).log().item(), 0, 0])
    away = (prior.belief.mean[0] - centre).abs() / wide
    # Measured: noise is away by 1.4 at most, its size 1.3 as wide; what has edges is away by 3.1, its size 0.85 as wide.
    farthest, widest = (0.05, 0.95) if name in FLAT else (1.6, 1.2) if name in NOISE else (3.5, 0.8)
    assert away.max() < farthest and spread[0] / wide[0] > widest


def test_the_trained_network_turns_with_the_image() -> None:
    """Windows and turns are others for a turned image, so the beliefs agree but for a share of their spread."""
    lr = degrade(photograph(192, torch.float32), true_kernel().float(), 2)
    straight = priors.Amortised(Problem(lr, 2), rng()).belief
    for turn in range(1, TURNS):
        other = priors.Amortised(Problem(turned(lr, turn).contiguous(), 2), rng()).belief
        back = amortised.straightened(
            amortised.Evidence(other.mean, other.precision, torch.zeros(1)), torch.tensor([turn])
        )
        assert ((back.shape - straight.mean).abs() / straight.spread()).max() < TURNED


def test_the_trained_network_sees_noise() -> None:
    lr = degrade(photograph(192, torch.float32), true_kernel().float(), 2)
    clean, noisy = (
        priors.Amortised(Problem((lr + level * normal(*lr.shape, dtype=torch.float32)).clamp(0, 1), 2), rng())
        for level in (0.0, 0.02)
    )
    # In grey the channels' noise is weaker.
    assert 0.008 < noisy.noise_std < 0.02 and clean.noise_std < noisy.noise_std / 3
    assert (noisy.belief.spread() > clean.belief.spread()).all()


@pytest.mark.parametrize(("kind", "gain"), [("jpeg", 4), ("gaussian", 1.5), ("bayer", 1.5)])
def test_the_second_network_is_for_jpeg_and_a_camera_s_noise(kind: str, gain: float) -> None:
    """With white noise its kernels are better on BSD100, and not on the few photographs here: docs/methods/amortised.md."""
    gains = []
    for scale in (2, 3, 4):
        for case in Scenario(find_image_set("demo"), scale, **({"jpeg": (60, 100)} if kind == "jpeg" else {})):
            posed, truth = case.load()
            assert truth.kernel is not None
            if kind != "jpeg":
                if posed.lr.shape[1] != 3:  # a camera's noise is of colours
                    continue
                noise = getattr(camera_noise, kind)(normal(*posed.lr.shape, dtype=torch.float32))
                posed = replace(posed, lr=floor_to_8_bits(posed.lr + 5 / 255 * noise / noise.std()), noise_std=5 / 255)
            first, second = (
                metrics.kernel_psnr(
                    priors.Amortised(posed, rng(), network=lambda _, w=worn: amortised.bundled(w))().double(),
                    truth.kernel,
                )
                for worn in (False, True)
            )
            gains.append(second - first)
    assert np.mean(gains) > gain


def test_the_constructor_has_the_defaults_of_its_configuration() -> None:
    defaults = inspect.signature(priors.Amortised).parameters
    for group in ("prior", "start"):
        for name, value in OmegaConf.load(CONF / group / "amortised.yaml").items():
            # As a prior there is no loop that it could hold.
            if name != "weight" and not str(name).startswith(("_", "defaults")):
                assert defaults[str(name)].default == value


@pytest.mark.parametrize("start", ["start=amortised", "start=bounded"])
def test_it_holds_a_loop_that_begins_at_it(start: str) -> None:
    posed = problem(2, 40, dtype=torch.float32)
    cfg = compose_config(["scale=2", "prior=gaussian", start])
    loop, held = part(cfg, "prior", posed, rng()), part(cfg, "start", posed, rng())
    loop.follow(held)
    kernel = true_kernel().float()
    assert loop.penalties(kernel) == held.penalty(kernel) > 0
    assert not part(compose_config(["scale=2", "prior=amortised"]), "prior", posed, rng()).holds


def test_a_worn_image_is_read_by_the_network_for_such() -> None:
    lr = degrade(photograph(192, torch.float32), true_kernel().float(), 2).clamp(0, 1)
    noisy = (lr + 0.02 * normal(*lr.shape, dtype=torch.float32)).clamp(0, 1)
    for posed, asked in (
        (Problem(lr, 2), [False]),
        (Problem(lr, 2, noise_std=0.01), [True]),
        (Problem(jpeg(lr, 70), 2), [True]),
        (Problem(jpeg(lr, 97), 2), [True]),  # too weak for its blocks to show
        (Problem(noisy, 2), [False, True]),  # noise has to be heard first
    ):
        seen: list[bool] = []

        def network(worn: bool, seen: list[bool] = seen) -> amortised.PosteriorNetwork:
            seen.append(worn)
            return amortised.bundled(worn)

        assert priors.Amortised(posed, rng(), network=network).worn == asked[-1]
        assert seen == asked


@pytest.mark.parametrize("scale", SCALES)
def test_a_processor_s_bfloat16_changes_no_belief(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    posed = Problem(photograph(96, torch.float32), scale)
    beliefs = []
    for architecture, has in (("x86_64", False), ("x86_64", True), ("aarch64", True)):
        told = {"architecture": architecture, "avx512_bf16": has}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        beliefs.append(priors.Amortised(posed, rng()).belief)
    plain, half, unknown = beliefs
    assert torch.equal(unknown.mean, plain.mean)  # of another architecture nobody knows whether it were quicker
    assert 0 < ((half.mean - plain.mean).abs() / plain.spread()).max() < 5e-3
    torch.testing.assert_close(half.spread(), plain.spread(), rtol=3e-3, atol=0)


def test_the_kernel_is_smaller_than_the_mean_by_a_share_of_the_doubt() -> None:
    posed = Problem(degrade(photograph(192), true_kernel(), 2), 2)
    mean, cautious = (priors.Amortised(posed, rng(), caution=caution) for caution in (0.0, 0.5))
    torch.testing.assert_close(mean(), gaussian(covariance_of(mean.belief.mean[0]), posed))
    shape = cautious.belief.mean[0] - torch.tensor([0.5 * mean.belief.spread()[0, 0].item(), 0, 0])
    torch.testing.assert_close(cautious(), gaussian(covariance_of(shape), posed))
    torch.testing.assert_close(cautious.belief.mean, mean.belief.mean)


# --- the patches and the training


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        image = (255 * photograph(160 + number)[0]).byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(image)).save(tmp_path / f"{number}.png")
    return tmp_path


def settings(**more: object) -> DictConfig:
    cfg = OmegaConf.load(CONF / "train_amortised.yaml")
    cfg.patches = None
    small = {
        "patches": {2: 2, 3: 1},
        "side": 32,
        "steps": 4,
        "round": 2,
        "widths": [8, 8, 8],
        "held_out": 1,
        "shrink": [1, 2],
    }
    merged = OmegaConf.merge(cfg, small, {"noisy": 0.3, "compressed": 0.3}, more)
    assert isinstance(merged, DictConfig)
    return merged


def test_a_patch_s_covariance_is_that_of_the_kernel_that_made_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patches = LrPatches(photographs(folder, 1)[0], (1, 2))

    def point(need: int, *rest: object) -> tuple[Tensor, int]:
        image = torch.zeros(1, 1, need, need)
        image[..., need // 2, need // 2] = 5  # 8 bits then tell more of the tails
        return image, 0

    monkeypatch.setattr(patches, "_crop", point)
    kernel, covariance = gaussians(150, 2, rng())
    drawn = patches.draw(kernel, 32, 2, rng(), settings(), hard=0.0)
    # Of the others the subsamples have other moments, or the support cuts something off.
    values = torch.linalg.eigvalsh(covariance)
    clear = (values[:, 0] > 0.3) & (values[:, 1] < 0.7)
    assert clear.sum() > 5
    # What a point is turned into is the kernel upside down, which has the same second moments.
    torch.testing.assert_close(kernels.moments(drawn.patches[clear]), covariance[clear], atol=0.05, rtol=0.05)


def test_patches_are_as_noisy_as_they_say(folder: Path) -> None:
    patches = LrPatches(photographs(folder, 1)[0], shrink=(1.0, 1.1))
    cfg = settings(noisy=1.0, loudest=40, compressed=0.0, soft=0.0)
    kernel, _ = gaussians(30, 2, rng())
    quiet, noisy = (patches.draw(kernel, 32, 2, rng(5), cfg, hard) for hard in (0.0, 1.0))
    assert quiet.noise_std.max() < 0.5 / 255
    measured = (noisy.patches - quiet.patches).flatten(1).std(1)
    torch.testing.assert_close(measured, noisy.noise_std, atol=8e-3, rtol=0.1)


def test_a_share_of_the_noise_is_smoothed_and_as_loud(folder: Path) -> None:
    patches = LrPatches(photographs(folder, 1)[0], shrink=(1.0, 1.1))
    kernel, _ = gaussians(40, 2, rng())
    alike = []
    for smoothed in (0.0, 0.5, 1.0):
        cfg = settings(noisy=1.0, loudest=40, compressed=0.0, soft=0.0, smoothed=smoothed)
        quiet, noisy = (patches.draw(kernel, 32, 2, rng(5), cfg, hard) for hard in (0.0, 1.0))
        noise = noisy.patches - quiet.patches
        torch.testing.assert_close(noise.flatten(1).std(1), noisy.level, atol=8e-3, rtol=0.1)
        beside = (noise[..., 1:] * noise[..., :-1]).mean((1, 2, 3)) / noise.square().mean((1, 2, 3))
        alike.append(beside[noisy.level > 10 / 255])
    assert alike[0].abs().max() < 0.15 and alike[2].median() > 0.35
    assert 0.3 < (alike[1] > 0.15).float().mean() < 0.7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_patches_made_on_the_device_are_those_of_the_cpu(folder: Path) -> None:
    cfg = settings(noisy=1.0, compressed=0.0, soft=1.0)
    kernel, _ = gaussians(6, 2, rng())
    here, there = (
        LrPatches(photographs(folder, 1)[0], (1, 2), device).draw(kernel, 32, 2, rng(5), cfg)
        for device in ("cpu", "cuda")
    )
    assert there.patches.is_cuda and there.noise_std.is_cuda
    assert (here.patches - there.patches.cpu()).abs().max() < 1.5 / 255, "a level that was rounded otherwise"
    torch.testing.assert_close(there.noise_std.cpu(), here.noise_std, atol=1e-4, rtol=0.02)


def test_a_training_that_was_killed_ends_as_if_it_was_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = settings()
    seen, held = (LrPatches(paths, cfg.shrink) for paths in photographs(folder, 1))
    whole = train_amortised.train(cfg, seen, held, tmp_path / "whole", "cpu")
    saved = Training.save

    def killed(training: Training) -> None:
        saved(training)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Training, "save", killed)
        train_amortised.train(cfg, seen, held, tmp_path / "killed", "cpu")
    again = train_amortised.train(cfg, seen, held, tmp_path / "killed", "cpu")
    assert [row[0] for row in again.curve] == [2, 4]
    for name, value in whole.mean.state_dict().items():
        assert torch.equal(value, again.mean.state_dict()[name]), name


# --- what is stored


def test_batch_norm_within_the_convolutions_changes_nothing() -> None:
    plain = network()
    with torch.no_grad():
        for name, value in plain.layers.named_buffers():
            if value.is_floating_point():
                value.copy_(0.5 + uniform(*value.shape, seed=len(name)))
    patches, scales = uniform(3, 1, 24, 24).float(), torch.tensor([2, 3, 4])
    before = plain(patches, scales)
    folded = plain.folded()
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    torch.testing.assert_close(folded(patches, scales), before)
    torch.testing.assert_close(plain(patches, scales), before)


def test_the_networks_are_read_once() -> None:
    assert amortised.bundled(False) is amortised.bundled(False) is not amortised.bundled(True)


@pytest.mark.parametrize(
    ("table", "worn", "noise"), [("amortised_demo", False, 0.0), ("amortised_demo_noise", True, 10.0)]
)
def test_the_trained_networks_have_their_stored_scores(table: str, worn: bool, noise: float) -> None:
    """`python -m experiments.calibration CSV --sets demo --scales 2 3 4 8`; with noise `--noise 10 --network worn`."""
    with open(ROOT / "experiments" / "results" / f"{table}.csv", newline="") as file:
        stored = {(row["image"], int(row["scale"])): row for row in csv.DictReader(file)}
    assert len(stored) == 16
    make = partial(priors.Amortised, network=lambda _: amortised.bundled(worn))
    for scale in SCALES:
        for case in Scenario(find_image_set("demo"), scale, noise_std=noise / 255):
            posed, truth = case.load()
            assert truth.kernel is not None
            found, then = calibration.row(posed, truth.kernel, make), stored[case.name, scale]
            assert found["kernel_psnr_amortised"] == pytest.approx(float(then["kernel_psnr_amortised"]), abs=0.5)
            assert found["size_spread"] == pytest.approx(float(then["size_spread"]), rel=0.05)
