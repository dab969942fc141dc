"""What becomes of an image after the kernel: noise of a fixed level, JPEG, and the second-order degradation."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import photograph, rng, uniform
from PIL import Image
from torch import Tensor

from kernelsr import second_order
from kernelsr.capture import floor_to_8_bits, jpeg
from kernelsr.data import Scenario
from kernelsr.degradation import degrade
from kernelsr.families import Disk, Div2krk, KernelFolder, LinearMotion
from kernelsr.metrics import psnr
from kernelsr.pictures import as_8bit
from kernelsr.second_order import FIRST, SECOND, Order, SecondOrder, blur_kernel, poisson_noise, sinc_kernel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photo = photograph(192)
    for name, image in (("a", photo), ("b", photo[..., :96, :].flip(3)), ("c", photo[..., :120])):
        Image.fromarray(as_8bit(image[0].numpy())).save(tmp_path / f"{name}.png")
    return tmp_path


# --- noise


@pytest.mark.parametrize("rng", ["legacy", "named"])
def test_a_fixed_level_is_every_images_sigma_and_the_problem_is_told(folder: Path, rng: str) -> None:
    settings = {"scale": 2, "quantise": False, "noise_std": 0.02, "rng": rng}
    for case in Scenario(folder, noise="fixed", **settings):
        problem, truth = case.load()
        assert problem.noise_std == 0.02
        noise = problem.lr - degrade(truth.hr, truth.kernel.float(), 2)
        assert noise.std().item() == pytest.approx(0.02, rel=0.04)
        # The kernels, and what the images after draw, are those of the papers' way.
        drawn = Scenario(folder, **settings).load(case.name)
        assert torch.equal(drawn[1].kernel, truth.kernel) and drawn[0].noise_std == 0.01
        other = drawn[0].lr - degrade(truth.hr, truth.kernel.float(), 2)
        assert 0 < other.std().item() < 0.0205
        inside = (problem.lr > 0) & (problem.lr < 1) & (drawn[0].lr > 0) & (drawn[0].lr < 1)
        ratio = noise[inside] @ other[inside] / (other[inside] @ other[inside])
        torch.testing.assert_close(noise[inside], ratio * other[inside], rtol=0, atol=1e-5)


# --- JPEG


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("quality", [10, 60, 95])
def test_jpeg_is_a_file_of_that_quality(tmp_path: Path, quality: int, colours: int) -> None:
    image = photograph(64).float()[:, :colours]
    levels = as_8bit(image[0].numpy())
    Image.fromarray(levels).save(tmp_path / "x.jpg", quality=quality)  # Pillow's default is 4:2:0
    stored = np.asarray(Image.open(tmp_path / "x.jpg"))
    packed = jpeg(image, quality)
    assert packed.shape == image.shape and packed.dtype == image.dtype
    np.testing.assert_array_equal(as_8bit(packed[0].numpy()), stored)
    torch.testing.assert_close(packed * 255, (packed * 255).round(), rtol=0, atol=1e-4)
    # Rounded to 8 bits first, not floored.
    assert torch.equal(jpeg(image - 0.4 / 255, quality), packed) and torch.equal(
        jpeg(image + 0.4 / 255, quality), packed
    )


def test_jpeg_shares_chroma_between_four_pixels() -> None:
    colour = torch.zeros(1, 3, 32, 32)
    colour[:, 0, ::2, ::2] = 1  # red points
    few, all_ = jpeg(colour, 100), jpeg(colour, 100, "4:4:4")
    chroma = [(image[:, 0] - image[:, 1:].mean(1)).std().item() for image in (few, all_)]
    assert chroma[0] < 0.5 * chroma[1]
    with Image.open(BytesIO(_bytes(colour))) as picture:
        assert [layer[1:3] for layer in picture.layer] == [(2, 2), (1, 1), (1, 1)]


def _bytes(image: Tensor) -> bytes:
    buffer = BytesIO()
    Image.fromarray(as_8bit(image[0].numpy())).save(buffer, format="JPEG", subsampling="4:2:0")
    return buffer.getvalue()


def test_other_channels_are_compressed_one_by_one() -> None:
    image = uniform(1, 5, 16, 16, dtype=torch.float32)
    packed = jpeg(image, 50)
    for channel in range(5):
        assert torch.equal(packed[:, channel], jpeg(image[:, channel : channel + 1], 50)[:, 0])


def test_a_scenario_compresses_after_the_noise(folder: Path) -> None:
    settings = {"scale": 2, "noise_std": 0.02}
    clean = Scenario(folder, quantise=False, **settings).load("a")
    packed = Scenario(folder, jpeg=40, **settings).load("a")
    assert torch.equal(packed[0].lr, jpeg(clean[0].lr, 40))
    assert torch.equal(packed[1].kernel, clean[1].kernel)
    ranged = [Scenario(folder, jpeg=(20, 90), seed=seed, **settings).load("a")[0].lr for seed in (1, 1, 2)]
    assert torch.equal(ranged[0], ranged[1])
    floored = Scenario(folder, quantise=False, **settings).load("a")[0].lr
    assert any(torch.equal(ranged[0], jpeg(floored, quality)) for quality in range(20, 91))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "white"}, "choose drawn"),
        ({"jpeg": 0}, "a quality from 1 to 100"),
        ({"jpeg": 101}, "a quality from 1 to 100"),
        ({"jpeg": (90, 30)}, "ascending range"),
        ({"jpeg": "abc"}, "jpeg is 'abc'; give a quality"),
        ({"jpeg": [30, 40, 50]}, "a quality from 1 to 100"),
        ({"jpeg": 75.5}, "jpeg is 75.5; give a quality"),
        ({"jpeg": 50, "degrade": False}, "takes the images as they are; leave jpeg out"),
        ({"noise_std": "abc"}, "noise_std is 'abc'; it is on the"),
        ({"degradation": SecondOrder(), "rng": "named", "noise_std": 0.1}, "are part of the degradation"),
        ({"degradation": SecondOrder(), "rng": "named", "jpeg": 50}, "are part of the degradation"),
        ({"family": None}, "neither a kernel family nor a degradation"),
        ({"degradation": SecondOrder()}, "no legacy draws of SecondOrder; set rng=named"),
        ({"family": LinearMotion()}, "no legacy draws of LinearMotion; set rng=named"),
        ({"family": Div2krk(), "rng": "named", "scale": 3}, "DIV2KRK has no kernels for x3"),
        ({"family": KernelFolder("nowhere"), "rng": "named"}, "there is no folder or file nowhere"),
    ],
    ids=str,
)
def test_wrong_settings_fail_before_any_image_is_read(folder: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenario(folder / "never_read", **settings)


def test_a_family_brings_the_size_that_its_kernels_need(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.ones((19, 19)))
    pool = KernelFolder(tmp_path / "k.npy")
    assert Scenario(folder, family=pool, rng="named").load("a")[0].kernel_size == pool.kernel_size(2) > 20
    assert Scenario(folder, family=pool, rng="named", kernel_size=31).load("a")[0].kernel_size == 31
    assert Scenario(folder, family=Disk(), rng="named").load("a")[0].kernel_size == 11
    problem, truth = Scenario(folder, scale=4, family=Div2krk(), rng="named", centre="aligned").load("a")
    assert problem.kernel_size == 31 and truth.kernel.shape[-1] == 31
    assert torch.equal(problem.lr, floor_to_8_bits(degrade(truth.hr, truth.kernel.float(), 4)))


# --- the second-order degradation


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_second_order_degradation_is_deterministic_and_exact_in_size(scale: int) -> None:
    image = photograph(192)[..., :144, :].float()
    drawn = [SecondOrder()(image, scale, rng(seed)) for seed in (3, 3, 4)]
    for lr in drawn:
        assert lr.shape == (1, 3, 144 // scale, 192 // scale) and lr.dtype == torch.float32
        assert lr.min() >= 0 and lr.max() <= 1
        torch.testing.assert_close(lr * 255, (lr * 255).round(), rtol=0, atol=1e-4)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_it_is_worse_than_clean_shrinking_and_still_the_image() -> None:
    image = photograph(192).float()
    clean = torch.nn.functional.interpolate(image, (48, 48), mode="area")
    scores = torch.tensor([psnr(SecondOrder()(image, 4, rng(seed)), clean, border=4) for seed in range(24)])
    # Measured: 21.3 to 27.5 dB, 24.0 on average.
    assert scores.min() > 18 and scores.max() < 31
    assert 22 < scores.mean() < 26


def test_it_is_blur_resize_noise_jpeg_twice_and_a_sinc_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    blurred, noisy = SecondOrder._blurred, SecondOrder._noisy
    resized, packed, finished = second_order._resized, second_order._compressed, SecondOrder._finished
    number = {id(FIRST): "1", id(SECOND): "2"}

    def recorded(name: str, step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*arguments: object) -> Tensor:
            order = next((number[id(a)] for a in arguments if id(a) in number), "")
            before, after = next(a for a in arguments if isinstance(a, Tensor)), step(*arguments)
            steps.append(name + order)
            if name == "resize":
                relative = after.shape[2] / (before.shape[2] if order == "1" else 48)
                low, high = (0.15, 1.5) if order == "1" else (0.3, 1.2)
                assert low - 0.02 <= relative <= high + 0.02
            return after

        return run

    monkeypatch.setattr(SecondOrder, "_blurred", recorded("blur", blurred))
    monkeypatch.setattr(SecondOrder, "_noisy", recorded("noise", noisy))
    monkeypatch.setattr(SecondOrder, "_finished", recorded("finish", finished))
    monkeypatch.setattr(second_order, "_resized", recorded("resize", resized))
    monkeypatch.setattr(second_order, "_compressed", recorded("jpeg", packed))
    ends = []
    for seed in range(20):
        steps.clear()
        SecondOrder()(photograph(192).float(), 4, rng(seed))
        assert steps[:7] == ["blur1", "resize1", "noise1", "jpeg1", "blur2", "resize2", "noise2"]
        ends.append(steps[7:])
    assert sorted({tuple(end) for end in ends}) == [("finish", "jpeg2"), ("jpeg2", "finish")]


def test_lr_pixels_lie_on_the_aligned_grid() -> None:
    """On a ramp, the mean position of the LR pixels is that of the HR pixels, whatever was drawn."""
    ramp = (torch.arange(96) / 96).expand(1, 1, 96, 96) * 0.8 + 0.1
    still = SecondOrder(
        Order(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.5, 1.5), (0.0, 0.0), (0.0, 0.0), (95, 95)),
        Order(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.5, 1.2), (0.0, 0.0), (0.0, 0.0), (95, 95)),
    )
    for seed in range(12):
        row = still(ramp, 4, rng(seed))[0, 0].mean(0)[6:-6]
        expected = (4 * torch.arange(6, 18) + 1.5) / 96 * 0.8 + 0.1
        # A pixel is 0.033.
        assert (row - expected).mean().abs() < 0.006


def test_the_published_ranges() -> None:
    """options/train_realesrgan_x4plus.yml."""
    assert FIRST.blur == 1 and FIRST.resize == (0.2, 0.7, 0.1) and FIRST.factors == (0.15, 1.5)
    assert FIRST.deviations == (0.2, 3) and FIRST.gaussian == (1, 30) and FIRST.poisson == (0.05, 3)
    assert SECOND.blur == 0.8 and SECOND.resize == (0.3, 0.4, 0.3) and SECOND.factors == (0.3, 1.2)
    assert SECOND.deviations == (0.2, 1.5) and SECOND.gaussian == (1, 25) and SECOND.poisson == (0.05, 2.5)
    assert FIRST.quality == SECOND.quality == (30, 95)
    assert (SecondOrder().sinc, SecondOrder().final_sinc, SecondOrder().grey) == (0.1, 0.8, 0.4)


def test_kinds_of_blur_are_drawn_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool, float, int]] = []
    rings: list[tuple[float, int]] = []

    def shaped(shape: str, first: float, second: float, angle: float, power: float, size: int) -> Tensor:
        seen.append((shape, first == second, power, size))
        assert min(first, second) >= 0.2 and max(first, second) <= 3 and 0 <= angle <= math.pi
        return torch.ones(1, 1)

    def ringing(cutoff: float, size: int) -> Tensor:
        rings.append((cutoff, size))
        return torch.ones(1, 1)

    monkeypatch.setattr(second_order, "blur_kernel", shaped)
    monkeypatch.setattr(second_order, "sinc_kernel", ringing)
    source, image = rng(), torch.zeros(1, 1, 8, 8)
    for _ in range(4000):
        SecondOrder()._blurred(image, FIRST, source)
    assert len(rings) / 4000 == pytest.approx(0.1, abs=0.02)
    small, large = ([cutoff for cutoff, size in rings if (size < 13) == less] for less in (True, False))
    assert math.pi / 3 < min(small) < 1.15 and math.pi / 5 < min(large) < 0.75
    assert max(cutoff for cutoff, _ in rings) < math.pi
    expected = {
        ("gaussian", True): 0.45,
        ("gaussian", False): 0.25,
        ("generalised", True): 0.12,
        ("generalised", False): 0.03,
        ("plateau", True): 0.12,
        ("plateau", False): 0.03,
    }
    for kind, share in expected.items():
        found = sum(entry[:2] == kind for entry in seen) / len(seen)
        assert found == pytest.approx(share, abs=0.025), kind
    powers = {shape: [power for kind, _, power, _ in seen if kind == shape] for shape, _ in expected}
    assert set(powers["gaussian"]) == {1.0}
    assert 0.5 <= min(powers["generalised"]) < 0.52 and 3.9 < max(powers["generalised"]) <= 4
    assert min(powers["plateau"]) == 1 and 1.9 < max(powers["plateau"]) <= 2
    assert {size for *_, size in seen} == set(range(7, 22, 2))


def test_blur_kernels_are_their_formulas() -> None:
    first, second, angle = 1.2, 2.5, 0.7
    place = np.arange(21) - 10
    x, y = place[None, :], place[:, None]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag([first**2, second**2]) @ turn.T)
    distance = inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2
    shapes = {
        ("gaussian", 1.0): np.exp(-0.5 * distance),
        ("generalised", 2.0): np.exp(-0.5 * distance**2),
        ("plateau", 1.5): 1 / (1 + distance**1.5),
    }
    for (shape, power), expected in shapes.items():
        found = blur_kernel(shape, first, second, angle, power, 21).numpy()
        np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-12)


@pytest.mark.parametrize("cutoff", [math.pi / 3, math.pi / 2, 0.8 * math.pi])
def test_a_sinc_filter_passes_the_circle_below_its_cutoff(cutoff: float) -> None:
    kernel = sinc_kernel(cutoff, 61)
    assert kernel.sum().item() == pytest.approx(1) and kernel.min() < 0
    padded = torch.zeros(128, 128).double()
    padded[:61, :61] = kernel
    response = torch.fft.fft2(padded).abs()
    frequency = torch.fft.fftfreq(128).double() * 2 * math.pi
    radius = torch.hypot(frequency[:, None], frequency[None, :])
    assert (response[radius < cutoff - 0.25] - 1).abs().max() < 0.1
    assert response[radius > cutoff + 0.25].max() < 0.1


def test_poisson_noise_has_the_variance_of_counting() -> None:
    image = torch.full((1, 1, 300, 300), 0.25)
    image[..., :150] = 0.75
    image[..., 0, :] = torch.arange(300) / 300  # so that there are 256 levels at most
    photons = 2 ** math.ceil(math.log2(len(((image * 255).round() / 255).unique())))
    noise = poisson_noise(image, rng())
    for part, level in ((noise[..., 1:, 150:], 0.25), (noise[..., 1:, :150], 0.75)):
        assert part.var().item() == pytest.approx(level / photons, rel=0.05)
        assert abs(part.mean().item()) < 5e-4 + 0.003  # the rounding to 8 bits, and chance


def test_grey_noise_is_the_same_in_all_channels() -> None:
    flat = torch.full((1, 3, 64, 64), 0.5)
    for seed in range(6):  # Gaussian and Poisson
        grey = SecondOrder(grey=1.0)._noisy(flat, FIRST, rng(seed)) - flat
        torch.testing.assert_close(grey[:, 0], grey[:, 1], rtol=0, atol=1e-6)
        colour = SecondOrder(grey=0.0)._noisy(flat, FIRST, rng(seed)) - flat
        assert np.corrcoef(colour[0, 0].flatten(), colour[0, 1].flatten())[0, 1] < 0.1


def test_noise_jpeg_and_the_last_sinc_are_drawn_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[float]] = {"clean": [], "factor": [], "quality": [], "sinc": []}

    def counted(clean: Tensor, source: torch.Generator) -> Tensor:
        seen["clean"].append(clean.mean().item())
        return torch.full_like(clean, 0.1)

    def ringing(cutoff: float, size: int) -> Tensor:
        seen["sinc"].append(cutoff)
        return torch.ones(1, 1)

    monkeypatch.setattr(second_order, "poisson_noise", counted)
    monkeypatch.setattr(second_order, "sinc_kernel", ringing)
    monkeypatch.setattr(second_order, "jpeg", lambda image, quality: seen["quality"].append(quality) or image)
    red, source, draws = torch.zeros(1, 3, 8, 8), rng(), 600
    red[:, 0] = 0.8
    loud = Order(1.0, (0.2, 3.0), (1.0, 0.0, 0.0), (1.0, 1.0), (200.0, 200.0), (0.5, 3.0))
    for _ in range(draws):
        noisy = SecondOrder(grey=1.0)._noisy(red, loud, source)
        assert noisy.min() >= 0 and noisy.max() <= 1
        if noisy[:, 1:].amax() - noisy[:, 1:].amin() < 1e-6:  # not the Gaussian
            seen["factor"].append(noisy[0, 1, 0, 0].item() / 0.1)
        second_order._compressed(red, loud, source)
        SecondOrder()._finished(red, (4, 4), source)
    assert seen["clean"] == pytest.approx([0.299 * 0.8] * len(seen["clean"]))  # luma, of noise that all channels share
    assert len(seen["clean"]) / draws == pytest.approx(0.5, abs=0.06) and len(seen["factor"]) == len(seen["clean"])
    assert 0.5 <= min(seen["factor"]) < 0.6 and 2.9 < max(seen["factor"]) <= 3
    assert set(seen["quality"]) == set(range(30, 96))
    assert len(seen["sinc"]) / draws == pytest.approx(0.8, abs=0.05)
    assert math.pi / 3 < min(seen["sinc"]) < 1.15 < 3 < max(seen["sinc"]) < math.pi


@pytest.mark.parametrize("colours", [1, 3, 4])
def test_tiny_images_of_any_channels_go_through(colours: int) -> None:
    for seed in range(30):
        lr = SecondOrder()(uniform(1, colours, 12, 24, dtype=torch.float32), 4, rng(seed))
        assert lr.shape == (1, colours, 3, 6) and torch.isfinite(lr).all()


def test_a_scenario_of_it_has_an_image_and_no_kernel(folder: Path) -> None:
    settings = {"family": None, "degradation": SecondOrder(), "rng": "named", "scale": 4, "centre": "aligned"}
    problem, truth = Scenario(folder, **settings).load("b")
    assert truth.kernel is None and truth.hr.shape == (1, 3, 96, 192)
    assert problem.lr.shape == (1, 3, 24, 48) and problem.kernel_size == 19 and problem.noise_std == 0
    assert torch.equal(Scenario(folder, only=["b"], **settings).load("b")[0].lr, problem.lr)
    windowed, kept = Scenario(folder, window=64, **settings).load("b")
    assert torch.equal(windowed.lr, problem.lr[..., 4:20, 16:32]) and kept.hr.shape == (1, 3, 64, 64)
