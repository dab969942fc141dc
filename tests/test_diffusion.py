"""The diffusion restorer against the known posterior of a Gaussian image, its data step, its schedule; the denoisers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import normal, photograph, rng, uniform
from torch import Tensor, nn

from kernelsr import denoisers, families, kernels, metrics, restorers, solvers
from kernelsr.colours import from_threes, in_threes
from kernelsr.degradation import degrade
from kernelsr.denoisers import guided
from kernelsr.denoisers.schedule import noise_levels, respaced
from kernelsr.problem import EIGHT_BITS, Problem
from kernelsr.restorers import diffusion

MEAN, SPREAD = 0.1, 0.2


class Ideal(nn.Module):
    """The ideal denoiser of images whose pixels are independent and Gaussian, with MEAN and SPREAD on [-1, 1]."""

    multiple = 1

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        return MEAN + SPREAD**2 / (SPREAD**2 + sigma.square()) * (noisy - MEAN)


def kernel_of(first: float, second: float, angle: float, scale: int) -> Tensor:
    numbers = (torch.tensor([value], dtype=torch.float64) for value in (first, second, angle))
    return families.gaussian_kernel(*numbers, kernel_size=min(4 * scale + 3, 21), scale=scale)


def posed(hr: Tensor, kernel: Tensor, scale: int) -> Problem:
    return Problem(degrade(hr, kernel.to(hr), scale).clamp(0, 1), scale)


# --- schedule


def test_the_schedule_is_ddpms() -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    kept, expected = 1.0, []
    for beta in betas:
        kept *= 1 - beta
        expected.append(np.sqrt((1 - kept) / kept))
    np.testing.assert_allclose(noise_levels().numpy(), expected, rtol=1e-12)
    assert noise_levels()[0].item() == pytest.approx(0.0100005, abs=1e-6)
    assert noise_levels()[-1].item() == pytest.approx(157.4, abs=0.1)


def test_fewer_steps_visit_evenly_spaced_times() -> None:
    assert respaced(1000).tolist() == list(range(999, -1, -1))
    times = respaced(100)  # as guided-diffusion's timestep_respacing="100"
    assert times[:4].tolist() == [999, 989, 979, 969] and times[-4:].tolist() == [30, 20, 10, 0]
    assert len(set(times.tolist())) == 100 and respaced(1).tolist() == [999]
    with pytest.raises(ValueError, match="1 to 1000"):
        respaced(1001)


# --- sampling


def sampled_spread(steps: int, eta: float) -> float:
    """Standard deviation of what y does not say in a sample: the steps' recursion, pixel by pixel, from DDPM's x_t.

    DDIM's update, Song et al. (2021), eq. 12, written with alpha_bar, for the ideal denoiser.
    """
    alpha_bar = [*(1 / (1 + noise_levels()[respaced(steps)] ** 2)).tolist(), 1.0]
    variance = 1.0
    for now, following in zip(alpha_bar[:-1], alpha_bar[1:], strict=True):
        clean = now**0.5 * SPREAD**2 / (now * SPREAD**2 + 1 - now)  # x0 is so many x_t
        noise = (1 - now**0.5 * clean) / (1 - now) ** 0.5
        fresh = eta * ((1 - following) / (1 - now) * (1 - now / following)) ** 0.5
        share = following**0.5 * clean + (1 - following - fresh**2) ** 0.5 * noise
        last, variance = clean**2 * variance, share**2 * variance + fresh**2
    return last**0.5


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_gaussian_image_is_sampled_from_its_posterior(eta: float) -> None:
    """The mean of each block is y's; the rest, of which y says nothing, has the prior's mean and spread."""
    kernel = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    kernel[0, 0, 1:, 1:] = 0.25  # the mean of 2x2 blocks
    problem = Problem(0.5 + 0.05 * normal(1, 3, 48, 48).clamp(-4, 4), 2, 3)
    restorer = restorers.Diffusion(problem, rng(1), denoiser=Ideal, steps=60, eta=eta, noise_std=0)
    blocks = (2 * solvers.nonblind(problem, kernel, restorer) - 1).unfold(2, 2, 2).unfold(3, 2, 2)
    torch.testing.assert_close(blocks.mean((4, 5)), 2 * problem.lr - 1, rtol=0, atol=1e-8)
    unknown = blocks - blocks.mean((4, 5), keepdim=True)
    # Of four independent pixels whose mean is known, three degrees of freedom are left.
    spread = (unknown.square().sum((4, 5)).mean() / 3).sqrt().item()
    assert spread == pytest.approx(sampled_spread(60, eta), rel=0.02)
    assert sampled_spread(1000, eta) == pytest.approx(SPREAD, rel=0.05)
    assert unknown.mean((0, 1, 2, 3)).abs().max() < 4 * SPREAD / 6912**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("variances", "scale"), [((0.5, 2.0), 2), ((1.0, 6.0), 4), ((9.0, 10.0), 4)])
def test_without_noise_every_step_explains_the_lr_image(
    variances: tuple[float, float], scale: int, dtype: torch.dtype
) -> None:
    hr, kernel = photograph(96, dtype), kernel_of(*variances, 0.6, scale)
    problem = posed(hr, kernel, scale)
    restorer = restorers.Diffusion(problem, rng(), denoiser=Ideal, steps=20, noise_std=0)
    for _ in range(21):
        image = restorer(kernel.to(hr))
        assert image.dtype == dtype
        assert (degrade(image.double(), kernel, scale) - problem.lr.double()).abs().max() < 1e-5


def test_a_step_is_the_mean_of_a_gaussian_posterior() -> None:
    """The guess and y, each with its uncertainty, against a dense solve."""
    kernel, noise_std = kernel_of(1.0, 2.0, 0.3, 2), 0.05
    problem = Problem(uniform(1, 3, 6, 6), 2)
    restorer = restorers.Diffusion(problem, rng(), denoiser=Ideal, noise_std=noise_std)
    guess, sigma = uniform(1, 3, 12, 12, seed=2), 0.3
    basis = torch.eye(144, dtype=torch.float64).view(144, 1, 12, 12)
    matrix = degrade(basis, kernel, 2).flatten(1).T
    certain, trust = 1 / noise_std**2, 4 * (1 + sigma**2) / sigma**2
    normal_matrix = certain * matrix.T @ matrix + trust * torch.eye(144, dtype=torch.float64)
    right = certain * problem.lr[0].flatten(1) @ matrix + trust * guess[0].flatten(1)
    expected = torch.linalg.solve(normal_matrix, right.T).T.view(1, 3, 12, 12)
    torch.testing.assert_close(restorer._consistent(guess, kernel, sigma), expected)


def test_the_generator_alone_decides() -> None:
    problem, kernel = Problem(uniform(1, 3, 16, 16), 2), kernel_of(1, 2, 0, 2)
    samples = []
    for seed in (4, 4, 5):
        torch.manual_seed(len(samples))
        restorer = restorers.Diffusion(problem, rng(seed), denoiser=Ideal, steps=5)
        samples.append(solvers.nonblind(problem, kernel, restorer))
    assert torch.equal(samples[0], samples[1]) and not torch.equal(samples[0], samples[2])


def test_the_last_image_stays() -> None:
    problem, kernel = Problem(uniform(1, 3, 16, 16), 2), kernel_of(1, 2, 0, 2)
    restorer = restorers.Diffusion(problem, rng(), denoiser=Ideal, steps=3)
    images = [restorer(kernel) for _ in range(5)]
    assert not torch.equal(images[1], images[2])
    assert torch.equal(images[2], images[3]) and torch.equal(images[2], images[4])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels_and_any_size(channels: int) -> None:
    image = uniform(1, channels, 5, 6)
    assert in_threes(image).shape == (-(-channels // 3), 3, 5, 6)
    torch.testing.assert_close(from_threes(in_threes(image), channels), image)
    copies = normal(-(-channels // 3), 3, 5, 6)
    mean = copies.flatten(0, 1)[channels - 1 :].mean(0)
    torch.testing.assert_close(from_threes(copies, channels)[0, -1], mean)
    problem = Problem(uniform(1, channels, 13, 7), 3, 11)
    restorer = restorers.Diffusion(problem, rng(), steps=2, noise_std=0)
    kernel = kernel_of(1, 2, 0, 2)
    restored = solvers.nonblind(problem, kernel, restorer)
    assert restored.shape == (1, channels, 39, 21)
    assert (degrade(restored, kernel, 3) - problem.lr).abs().max() < 1e-5


def test_a_kernels_sum_does_not_matter() -> None:
    problem, kernel = Problem(uniform(1, 3, 16, 16), 2), kernel_of(1, 2, 0, 2)
    one, other = (restorers.Diffusion(problem, rng(), denoiser=Ideal, steps=3)(k) for k in (kernel, 0.7 * kernel))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_guess_is_an_image() -> None:
    class Wild(Ideal):
        def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
            return 3 * noisy

    problem = Problem(uniform(1, 3, 16, 16), 2)
    restorer = restorers.Diffusion(problem, rng(), denoiser=Wild, steps=3)
    assert restorer._denoised(1.0).abs().max() == 1


def test_the_noise_is_the_problems_and_at_least_that_of_8_bits() -> None:
    problem = Problem(uniform(1, 3, 16, 16), 2)
    for stated, used in ((0.0, EIGHT_BITS), (0.1, 0.1)):
        assert restorers.Diffusion(replace(problem, noise_std=stated), rng(), denoiser=Ideal).noise_std == used


def test_the_border_is_mirrored_up_to_the_denoisers_size() -> None:
    def place(side: int, multiple: int) -> list[int]:
        return diffusion._mirrored(side, multiple, torch.device("cpu")).tolist()

    assert place(5, 8) == [0, 1, 2, 3, 4, 3, 2, 1]
    assert place(3, 8) == [0, 1, 2, 1, 0, 1, 2, 1]
    assert place(8, 4) == list(range(8))


def test_settings_that_do_not_fit() -> None:
    problem = Problem(uniform(1, 3, 16, 16), 2)
    for settings in ({"eta": 1.5}, {"noise_std": -0.1}, {"steps": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            restorers.Diffusion(problem, rng(), denoiser=Ideal, **settings)


# Measured with 20 steps: 30.9 dB where bicubic, aligned, has 27.3; 26.1 to 26.3 where it has 25.0.
@pytest.mark.parametrize(("variances", "scale", "margin"), [((2.0, 3.5), 2, 2.5), ((4.0, 8.0), 4, 0.5)])
def test_the_true_kernel_beats_bicubic(variances: tuple[float, float], scale: int, margin: float) -> None:
    hr, kernel = photograph(96, torch.float32), kernel_of(*variances, 0.7, scale)
    problem = posed(hr, kernel, scale)
    bicubic = metrics.psnr(restorers.Bicubic(problem, rng())(kernel), hr, border=scale)
    right = metrics.psnr(restored(problem, kernel), hr, border=scale)
    shifted = kernels.normalise(kernels.shift(kernel, torch.tensor([[1.5, 1.5]], dtype=torch.float64)))
    wrong = metrics.psnr(restored(problem, shifted), hr, border=scale)
    print(f"bicubic {bicubic:.2f}, true kernel {right:.2f}, kernel off by a pixel and a half {wrong:.2f}")
    assert right > bicubic + margin and right > wrong + margin


def restored(problem: Problem, kernel: Tensor) -> Tensor:
    return solvers.nonblind(problem, kernel, restorers.Diffusion(problem, rng(), steps=20)).clamp(0, 1)


# --- the published network


SHAPES = {
    "time_embed.2.weight": (1024, 1024),
    "input_blocks.0.0.weight": (256, 3, 3, 3),
    "input_blocks.3.0.in_layers.2.weight": (256, 256, 3, 3),
    "input_blocks.7.0.skip_connection.weight": (512, 256, 1, 1),
    "input_blocks.10.1.qkv.weight": (1536, 512, 1),
    "input_blocks.13.0.emb_layers.1.weight": (2048, 1024),
    "input_blocks.17.1.norm.weight": (1024,),
    "middle_block.1.proj_out.weight": (1024, 1024, 1),
    "output_blocks.0.0.in_layers.2.weight": (1024, 2048, 3, 3),
    "output_blocks.2.2.out_layers.3.weight": (1024, 1024, 3, 3),
    "output_blocks.5.0.in_layers.0.weight": (1536,),
    "output_blocks.11.1.in_layers.2.weight": (512, 512, 3, 3),
    "output_blocks.17.0.skip_connection.weight": (256, 512, 1, 1),
    "out.2.weight": (6, 256, 3, 3),
}


def test_the_guided_network_is_the_published_one() -> None:
    with torch.device("meta"):
        network = denoisers.Guided()
    assert sum(parameter.numel() for parameter in network.parameters()) == 552_814_086
    state = network.state_dict()
    assert {name: tuple(state[name].shape) for name in SHAPES} == SHAPES
    assert (len(network.input_blocks), len(network.output_blocks)) == (18, 18)
    attending = {name.split(".norm")[0] for name in state if name.endswith("qkv.weight")}
    places = {f"input_blocks.{n}.1" for n in (10, 11, 13, 14, 16, 17)} | {f"output_blocks.{n}.1" for n in range(9)}
    assert {name.removesuffix(".qkv.weight") for name in attending} == places | {"middle_block.1"}
    with torch.device("meta"):
        assert network(torch.empty(2, 3, 64, 96), torch.empty(2, 1, 1, 1)).shape == (2, 3, 64, 96)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> guided.Guided:
    """The published network an eighth as wide, at random weights."""
    for name, value in {"WIDTH": 32, "CODE": 128, "HEAD": 16}.items():
        monkeypatch.setattr(guided, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return guided.Guided().eval()


def test_the_guided_network_takes_the_noise_off(narrow: guided.Guided, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, noise, seen = uniform(3, 3, 8, 8), normal(3, 3, 8, 8), {}

    def predict(x: Tensor, times: Tensor) -> Tensor:
        seen.update(x=x, times=times.tolist())
        return torch.cat([noise, noise], 1)

    monkeypatch.setattr(narrow, "predict", predict)
    sigma = noise_levels()[[0, 500, 999]].view(3, 1, 1, 1)
    torch.testing.assert_close(narrow(clean + sigma * noise, sigma), clean, atol=1e-10, rtol=0)
    assert seen["times"] == [0, 500, 999]
    alpha_bar = 1 / (1 + sigma.square())
    torch.testing.assert_close(seen["x"], alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise)


def test_attention_is_the_definitions(narrow: guided.Guided) -> None:
    block, x = narrow.middle_block[1].double(), normal(1, 128, 3, 4)
    rows = block.qkv(block.norm(x.flatten(2)))[0]
    expected = torch.empty(128, 12, dtype=torch.float64)
    for head in range(8):  # the released order: query, key, value of the first head, then of the next
        query, key, value = rows[48 * head : 48 * head + 48].split(16)
        expected[16 * head : 16 * head + 16] = value @ ((query.T @ key) / 4).softmax(1).T
    expected = x + block.proj_out(expected[None]).view_as(x)
    torch.testing.assert_close(block(x, None), expected)


def test_a_checkpoint_is_read_by_name_and_shape(narrow: guided.Guided, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    state = narrow.state_dict()
    torch.save(state, path)
    again = denoisers.load(str(path))
    noisy, sigma = uniform(1, 3, 32, 32, dtype=torch.float32), torch.full((1, 1, 1, 1), 0.5)
    with torch.no_grad():
        assert torch.equal(again(noisy, sigma), narrow(noisy, sigma))
    state["out.2.weight"] = state["out.2.weight"][:3]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"1 tensors differ, such as out.2.weight \(there \(3, 32, 3, 3\)"):
        denoisers.load(str(path))
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="no checkpoint"):
        denoisers.load(str(path))
    with pytest.raises(FileNotFoundError, match="256x256_diffusion_uncond.pt"):
        denoisers.load(str(tmp_path / "absent.pt"))
