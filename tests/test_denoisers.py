"""The small denoiser: its preconditioning, its file, its training, and what the bundled one takes off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import normal, rng, uniform
from omegaconf import OmegaConf

from experiments import train_denoiser
from experiments.patches import Patches
from kernelsr import denoisers
from kernelsr.denoisers import small
from kernelsr.learner import initialised_from
from kernelsr.official import find_image_set
from kernelsr.paths import CONF


def tiny(seed: int = 0) -> small.Small:
    """A denoiser at random weights, those that start at zero included."""
    with initialised_from(rng(seed)):
        denoiser = small.Small((8, 12), 1).double()
    with torch.no_grad():
        for number, parameter in enumerate(denoiser.parameters()):
            parameter += 0.1 * normal(*parameter.shape, seed=number)
    return denoiser.requires_grad_(False)


def level(sigma: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), sigma, dtype=torch.float64)


def test_no_noise_is_left_alone_and_pure_noise_says_nothing() -> None:
    denoiser, clean, noise = tiny(), 2 * uniform(1, 3, 16, 16) - 1, normal(1, 3, 16, 16, seed=1)
    assert (denoiser(clean + 1e-6 * noise, level(1e-6)) - clean).abs().max() < 1e-5
    hidden = denoiser(clean + 1e6 * noise, level(1e6)) - denoiser(1e6 * noise, level(1e6))
    assert hidden.abs().max() < 1e-4


def test_a_pixel_does_not_depend_on_the_size_of_the_image() -> None:
    denoiser, image = tiny(), normal(1, 3, 96, 96)
    part = denoiser(image[..., :64, :64], level(0.3))
    torch.testing.assert_close(part[..., :32, :32], denoiser(image, level(0.3))[..., :32, :32])


def test_each_image_has_its_own_noise_level() -> None:
    denoiser, images = tiny(), normal(2, 3, 16, 16)
    sigma = torch.cat([level(0.1), level(2.0)])
    both = denoiser(images, sigma)
    for number in (0, 1):
        torch.testing.assert_close(both[number], denoiser(images[[number]], sigma[[number]])[0])
    assert (denoiser(images[:1], level(0.1)) - denoiser(images[:1], level(0.2))).abs().max() > 1e-3


def test_a_file_holds_the_denoiser_in_half_precision(tmp_path: Path) -> None:
    denoiser, path = tiny().float(), tmp_path / "denoiser.safetensors"
    small.save(denoiser, path, steps=3)
    again = denoisers.load(str(path))
    assert (again.channels, again.blocks) == ((8, 12), 1)
    for mine, theirs in zip(denoiser.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-6)
        assert theirs.dtype == torch.float32 and not theirs.requires_grad
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="experiments/train_denoiser.py"):
        denoisers.load(str(path))


# --- the bundled one


def test_the_bundled_denoiser_does_what_its_card_says() -> None:
    path = Path(denoisers.__file__).parents[1] / "weights" / "denoiser_small.safetensors"
    assert path.stat().st_size < 8e6
    denoiser = denoisers.load()
    assert sum(parameter.numel() for parameter in denoiser.parameters()) == 3_718_636
    measured = [43.07, 33.33, 27.78, 22.54, 18.49, 14.57]
    assert train_denoiser.validate(denoiser) == pytest.approx(measured, abs=0.02)


# --- training


class Killed(Exception):
    """What stops a training here."""


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int | None = None) -> small.Small:
    """A training of six steps in rounds of two, which may be killed at a patch."""
    cfg = OmegaConf.load(CONF / "train_denoiser.yaml")
    settings = {"channels": [8, 12], "blocks": 1, "steps": 6, "batch": 2, "side": 16, "round": 2, "lr": 0.1}
    draw, drawn = Patches.draw, []

    def interrupted(self: Patches, *arguments: object) -> torch.Tensor:
        drawn.append(arguments)
        if len(drawn) == killed_after:
            raise Killed
        return draw(self, *arguments)

    monkeypatch.setattr(Patches, "draw", interrupted)
    monkeypatch.setattr(train_denoiser, "validate", lambda denoiser: [0.0])
    try:
        patches = Patches(find_image_set("demo"))
        return train_denoiser.train(OmegaConf.merge(cfg, settings), patches, folder / "a.checkpoint", "cpu")[0]
    finally:
        monkeypatch.setattr(Patches, "draw", draw)


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    whole = trained(tmp_path / "whole", monkeypatch)
    with pytest.raises(Killed):
        trained(tmp_path, monkeypatch, killed_after=4)  # in the second round, which is then done again
    resumed = trained(tmp_path, monkeypatch)
    for first, second in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(first, second)
    with initialised_from(torch.Generator().manual_seed(0)):
        start = small.Small((8, 12), 1)
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(whole.parameters(), start.parameters(), strict=True))


def test_noise_levels_cover_the_diffusion() -> None:
    levels = train_denoiser.noise_levels(20000, rng()).log()
    assert levels.shape == (20000, 1, 1, 1)
    assert levels.min().exp() < 0.007 and levels.max().exp() > 150
    assert levels.median().item() == pytest.approx(-1.1, abs=0.1)
