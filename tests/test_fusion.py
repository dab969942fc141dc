"""The fusion of an image's patches and its spectrum: the pool, its symmetries, and its training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from cases import normal, photograph, rng, true_kernel, uniform
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from experiments import train_fusion
from kernelsr import amortised, priors
from kernelsr.beliefs import Belief
from kernelsr.degradation import degrade
from kernelsr.fusion import CORRECTION, Fusion, Witnesses, stacked
from kernelsr.learner import initialised_from
from kernelsr.paths import CONF
from kernelsr.problem import Problem

SCALES = (2, 4)


def settings(**more: object) -> DictConfig:
    cfg = OmegaConf.load(CONF / "train_amortised.yaml")
    cfg.patches = None
    merged = OmegaConf.merge(cfg, {"patches": dict.fromkeys(SCALES, 1), "whole": more})
    assert isinstance(merged, DictConfig)
    return merged


def heard(count: int, spread: tuple[float, float] = (0.1, 0.1), claimed: float = 0.1) -> tuple[Witnesses, Tensor]:
    """Of kernels drawn from what is known beforehand, by patches and a spectrum that err by ``spread``, as ``claimed``."""
    scale = torch.tensor(SCALES).repeat(count // 2 + 1)[:count]
    before = amortised.known(scale)
    true = before.mean + before.spread() * normal(count, 3, dtype=torch.float32)
    noise = torch.zeros(count)
    told = [
        amortised.Evidence(
            true + far * normal(count, 3, seed=seed, dtype=torch.float32),
            torch.eye(3).expand(count, 3, 3) / claimed**2,
            noise,
        )
        for seed, far in enumerate(spread, 1)
    ]
    patches, spectrum = (amortised.combined(before, evidence) for evidence in told)
    return Witnesses(scale, before, patches, spectrum, torch.zeros(count, 5), torch.ones(count)), true


def fusion(silent: bool = False) -> Fusion:
    """With random weights, or with none."""
    with initialised_from(rng()):
        made = Fusion(SCALES)
    for weight in made.parameters():
        torch.nn.init.zeros_(weight) if silent else weight.data.mul_(2)
    return made.requires_grad_(False)


def test_untrained_it_is_a_logarithmic_opinion_pool() -> None:
    said, _ = heard(6)
    said = said._replace(facts=said.facts + torch.tensor([2.0, 0, 0, 0, 0]))
    pooled = fusion(silent=True)(said)
    share = torch.exp(torch.tensor(-1.0))  # of either: of the patches their number's root, e^2
    for image in range(6):

        def minus_log(shape: Tensor, image: int = image) -> Tensor:
            """Of p^(1-2a) q^a r^a, but for a constant: p is known beforehand, q and r are the witnesses."""
            parts = (said.before, 1 - 2 * share), (said.patches, share), (said.spectrum, share)
            return sum(
                (
                    (shape - b.mean[image]) @ b.precision[image] @ (shape - b.mean[image]) * weight / 2
                    for b, weight in parts
                ),
                torch.tensor(0.0),
            )

        mean = pooled.mean[image]
        curvature = torch.autograd.functional.hessian(minus_log, mean)
        torch.testing.assert_close(curvature, pooled.precision[image], rtol=1e-4, atol=1e-3)
        slope = torch.func.grad(minus_log)(mean)
        assert torch.linalg.solve(curvature, slope).abs().max() < 1e-4


@pytest.mark.parametrize("sign", [(1, -1, 1), (1, 1, -1), (1, -1, -1)])
def test_what_is_mirrored_gives_the_mirrored_belief(sign: tuple[int, int, int]) -> None:
    said, _ = heard(5, (0.4, 0.3))
    mirror = torch.tensor(sign).float()

    def mirrored(belief: Belief) -> Belief:
        return Belief(belief.mean * mirror, belief.precision * mirror[:, None] * mirror)

    asked = said._replace(patches=mirrored(said.patches), spectrum=mirrored(said.spectrum))
    made = fusion()
    there, back = made(said), mirrored(made(asked))
    torch.testing.assert_close(back.mean, there.mean)
    torch.testing.assert_close(back.precision, there.precision)
    # And the network has a say in it.
    plain = fusion(silent=True)(said)
    assert (there.mean - plain.mean).abs().max() > 0.05 * CORRECTION


def test_of_a_flat_image_is_known_what_was_known_beforehand() -> None:
    said, _ = heard(4)
    made = fusion()
    made.get_buffer("temper").fill_(0.3)
    blind = made(said._replace(seen=torch.zeros(4)))
    torch.testing.assert_close(blind.mean, said.before.mean)
    torch.testing.assert_close(blind.precision, said.before.precision)


def test_images_may_be_asked_one_by_one() -> None:
    said, _ = heard(4)
    parts = [said.at(torch.tensor([number])) for number in range(4)]
    made = fusion()
    together = made(stacked(parts))
    for number, part in enumerate(parts):
        torch.testing.assert_close(made(part).mean[0], together.mean[number])
        torch.testing.assert_close(made(part).precision[0], together.precision[number], rtol=1e-4, atol=1e-3)


def test_training_finds_whom_to_trust_and_how_far() -> None:
    """The patches err by 0.1 and say so; the spectrum errs by 1 and says 0.1."""
    said, true = heard(600, (0.1, 1.0))
    trained = train_fusion.fitted((said, true, torch.arange(600)), settings())
    found, plain = trained(said), fusion(silent=True)(said)
    error, before = ((belief.mean - true).square().mean().sqrt().item() for belief in (found, plain))
    assert error < 0.12 < 0.2 < before
    inside = (found.distance(true) < train_fusion.NINETY).float().mean()
    assert 0.8 < inside < 0.97


def test_spreads_are_tempered_on_photographs_that_were_not_trained_on() -> None:
    """The truths of an image's kernels differ from what is said by what is the photograph's own."""
    said, true = heard(400)
    numbers = torch.arange(400) % 8
    own = 0.5 * normal(8, 3, seed=9, dtype=torch.float32)
    temper = train_fusion.tempered((said, true + own[numbers], numbers), settings(folds=4, epochs=15))
    straight = train_fusion.tempered((said, true, numbers), settings(folds=4, epochs=15))
    # Facts by which a photograph is known again would tell what is its own, had it been trained on.
    known = said._replace(facts=3 * normal(8, 5, seed=4, dtype=torch.float32)[numbers])
    again = train_fusion.tempered((known, true + own[numbers], numbers), settings(folds=4, epochs=60))
    assert (again < 0.1).all()
    assert temper.shape == (2,) and (temper < 0.6).all() and ((straight > 0.6) & (straight < 1.6)).all()


# --- images


def test_images_are_drawn_on_after_a_kill(tmp_path: Path) -> None:
    class Photographs:
        def draw(self, kernel: Tensor, side: int, scale: int, rng: torch.Generator, cfg: DictConfig) -> object:
            from experiments.lr_patches import Degraded

            assert len(kernel) == 1 and cfg.sides[0] <= side * scale + 8 * scale and side * scale <= cfg.sides[1]
            patches = torch.rand(1, 1, side, side, generator=rng)
            return Degraded(patches, torch.zeros(1), torch.zeros(1), torch.tensor([3]))

    with initialised_from(rng()):
        network = amortised.PosteriorNetwork((8, 8, 8), 16, SCALES).eval()
    cfg, seen = settings(sides=[80, 120]), Photographs()
    whole = train_fusion.draw(network, seen, cfg, 2, tmp_path / "a.witnesses")  # type: ignore[arg-type]
    train_fusion.draw(network, seen, cfg, 1, tmp_path / "b.witnesses")  # type: ignore[arg-type]
    again = train_fusion.draw(network, seen, cfg, 2, tmp_path / "b.witnesses")  # type: ignore[arg-type]
    assert whole[0].scale.tolist() == [2, 4, 2, 4]
    torch.testing.assert_close(again[0].facts, whole[0].facts)
    torch.testing.assert_close(again[0].patches.mean, whole[0].patches.mean)


def test_the_witnesses_are_the_network_s_and_the_spectral_fit_s() -> None:
    posed = Problem(degrade(photograph(192), true_kernel(), 2), 2)
    with initialised_from(rng()):
        network = amortised.PosteriorNetwork((8, 8, 8), 16, SCALES).eval().requires_grad_(False)
    fit = priors.Spectral(posed, rng())
    said = priors.amortised.witnesses(posed, fit, network)
    gained = (said.spectrum.precision - said.before.precision)[0].double()
    torch.testing.assert_close(gained, fit.belief.precision[0] - torch.diag(fit.before), rtol=1e-3, atol=1e-2)
    # The same shape in LR pixels, drawn towards what is known beforehand.
    found = fit.belief.mean[0] - torch.tensor([2 * math.log(2), 0, 0])
    gained_pull = gained @ (found - said.before.mean[0].double())
    moved = (said.spectrum.precision[0] @ (said.spectrum.mean - said.before.mean)[0]).double()
    torch.testing.assert_close(moved, gained_pull, rtol=1e-2, atol=1e-2)
    assert said.seen.item() > 0.99


def test_evidence_of_an_image_too_small_is_not_heard() -> None:
    with initialised_from(rng()):
        network = amortised.PosteriorNetwork((8, 8, 8), 16, SCALES).eval().requires_grad_(False)
    posed = Problem(uniform(1, 3, 7, 90, dtype=torch.float32), 2, kernel_size=7)
    said = priors.amortised.witnesses(posed, priors.Spectral(posed, rng()), network)
    assert said.seen.item() == 0
