"""Images in any form, and scenarios: the papers' draws to the byte, independence of order, errors that help."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kernelsr import data, images, kernels
from kernelsr.data import Scenario, floor_to_8_bits
from kernelsr.degradation import degrade
from kernelsr.families import AnisotropicGaussian, IsotropicGaussian, gaussian_kernel, variance_range
from kernelsr.images import image_files, image_size, read_image
from kernelsr.legacy import LegacyDraws
from kernelsr.official import find_image_set
from kernelsr.pictures import as_8bit
from kernelsr.seeds import generator, seed_for

GOLDEN = Path(__file__).parent / "golden"
PHOTOS = Path(images.__file__).parent / "photos"
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8)


def levels(image: torch.Tensor) -> np.ndarray:
    """An image (1, C, H, W) as 8 bits."""
    return as_8bit(image[0].numpy())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, height, width in (("a", 60, 72), ("b", 75, 61), ("c", 96, 84)):
        Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


# --- images


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
def test_a_lossless_file_reads_as_its_array(tmp_path: Path, ending: str) -> None:
    Image.fromarray(COLOUR).save(tmp_path / f"x.{ending}", lossless=True)
    image = read_image(tmp_path / f"x.{ending}")
    assert image.dtype == torch.float32
    assert image.shape == (1, 3, 40, 48)
    np.testing.assert_array_equal(levels(image), COLOUR)


def test_every_form_of_one_image_reads_alike() -> None:
    expected = read_image(COLOUR)
    unit = (COLOUR / 255).astype(np.float32)
    forms = [
        Image.fromarray(COLOUR),
        unit,
        unit.astype(np.float64),
        COLOUR.astype(np.uint16) * 257,
        (COLOUR.astype(np.uint16) * 257).astype(">u2"),
        np.dstack([COLOUR, RNG.integers(0, 256, (40, 48), dtype=np.uint8)]),
        Image.fromarray(COLOUR).convert("RGBA"),
        torch.from_numpy(COLOUR).permute(2, 0, 1),
        expected,
        expected.double().requires_grad_(),
    ]
    for form in forms:
        torch.testing.assert_close(read_image(form), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_stays_one_channel(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(COLOUR).convert("L").convert(mode)
    picture.save(tmp_path / "x.png")
    expected = np.asarray(picture.convert("L"))
    for source in (tmp_path / "x.png", picture):
        assert read_image(source).shape == (1, 1, 40, 48)
        np.testing.assert_array_equal(levels(read_image(source)), expected)


def test_a_palette_becomes_colour(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOUR).quantize(16)
    picture.save(tmp_path / "x.png")
    np.testing.assert_array_equal(levels(read_image(tmp_path / "x.png")), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_keeps_its_bits(tmp_path: Path, ending: str) -> None:
    deep = np.arange(0, 65535, 40, dtype=np.uint16)[:1600].reshape(40, 40)
    Image.fromarray(deep).save(tmp_path / f"x.{ending}")
    expected = torch.from_numpy(deep.astype(np.float32) / 65535)[None, None]
    torch.testing.assert_close(read_image(tmp_path / f"x.{ending}"), expected)
    torch.testing.assert_close(read_image(Image.fromarray(deep.astype(np.int32))), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(tmp_path / "x.png", exif=exif)
    image = read_image(tmp_path / "x.png")
    stored = torch.from_numpy(COLOUR).permute(2, 0, 1)[None].float() / 255
    undo = {1: (), 2: (3,), 3: (2, 3), 4: (2,)}
    if orientation <= 4:
        expected = stored.flip(undo[orientation])
    else:
        expected = stored.mT.flip({5: (), 6: (3,), 7: (2, 3), 8: (2,)}[orientation])
    torch.testing.assert_close(image, expected)
    assert image_size(tmp_path / "x.png") == tuple(image.shape[2:])


BAD = {
    "NaN": np.full((8, 8), np.nan),
    "float above": np.full((8, 8), 2.0),
    "float below": np.full((8, 8), -0.1),
    "int64": np.zeros((8, 8), dtype=np.int64),
    "channels first": np.zeros((3, 8, 8), dtype=np.uint8),
    "one dimension": np.zeros(8),
    "empty": np.zeros((0, 8, 3), dtype=np.uint8),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_and_tensors_are_refused(case: str) -> None:
    with pytest.raises(ValueError, match="the array"):
        read_image(BAD[case])


@pytest.mark.parametrize("tensor", [torch.zeros(2, 3, 8, 8), torch.full((8, 8), torch.inf), torch.ones(8, 8) * 255])
def test_bad_tensors_are_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="the tensor"):
        read_image(tensor)


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    contents = {"cut.png": whole[: len(whole) // 2], "empty.png": b"", "text.jpg": b"no image at all"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(TypeError, match="list"):
        read_image([1, 2])  # type: ignore[arg-type]


def test_image_files_are_sorted_and_of_either_case(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.Tiff", "notes.txt", "._a.jpg"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["a.jpg", "b.PNG", "c.Tiff"]
    assert image_files(tmp_path / "a.jpg") == [tmp_path / "a.jpg"]


def test_folders_without_images_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="directly in it"):
        image_files(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        image_files(tmp_path / "absent")
    (tmp_path / "photo.heic").write_bytes(b"")
    with pytest.raises(ValueError, match=r"photo\.heic has an ending that is not read.*png, jpg"):
        image_files(tmp_path / "photo.heic")


def test_bundled_photos_are_ready_for_every_scale() -> None:
    photos = image_files(PHOTOS)
    assert len(photos) == 4
    for photo in photos:
        height, width = image_size(photo)
        assert height % 24 == width % 24 == 0
        assert photo.name in (PHOTOS / "SOURCES.txt").read_text()
        assert read_image(photo).shape[1] == (1 if photo.stem == "camera" else 3)


# --- seeds


def test_seeds_are_stable_and_distinct() -> None:
    assert seed_for(1, "baby") == 6650966637618952594
    assert len({seed_for(s, *n) for s in range(9) for n in ((), ("a",), ("a", "b"), ("ab",), ("b", "a"))}) == 45
    first, again = torch.rand(5, generator=generator(1, "x")), torch.rand(5, generator=generator(1, "x"))
    assert torch.equal(first, again)


# --- the papers' degradation


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_lr_images_equal_the_papers_to_the_byte(tmp_path: Path, scale: int) -> None:
    stored = np.load(GOLDEN / f"degradation_x{scale}.npz")
    Image.fromarray(stored["hr_uint8"]).save(tmp_path / "x.png")
    problem, truth = next(iter(Scenario(tmp_path, scale=scale))).load()
    np.testing.assert_allclose(truth.kernel[0, 0], stored["kernels"][0], atol=1e-12)
    differing = levels(problem.lr) != stored["lr_png_uint8"]
    # Sums in another order may cross a level of 8 bits: 1 pixel in 10,000 at most.
    assert differing.mean() < 1e-4
    floored = floor_to_8_bits(torch.from_numpy(stored["lr_float"]).permute(2, 0, 1)[None])
    np.testing.assert_array_equal(levels(floored), stored["lr_png_uint8"])


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_kernel_noise_is_drawn_as_in_the_papers(scale: int) -> None:
    stored = np.load(GOLDEN / f"degradation_x{scale}.npz")["noisy_kernel_seed7_level04"]
    draws = LegacyDraws(AnisotropicGaussian(noise=0.4), scale, len(stored), "fkp", 0.0, np.random.RandomState(7))
    np.testing.assert_allclose(draws((4, 4))[0][0, 0], stored, atol=1e-12)


@pytest.mark.skipif("KERNELSR_DATA" not in os.environ, reason="needs Set5: set KERNELSR_DATA")
def test_set5_kernels_at_x4_are_the_papers() -> None:
    parameters = {
        "baby": (4.578305, 7.399018, 0.000359),
        "bird": (0.875684, 3.721362, 0.925094),
        "butterfly": (4.349431, 9.880435, 0.412946),
        "head": (4.741412, 8.822820, 2.903323),
        "woman": (3.330621, 2.692497, 0.564661),
    }
    scenario = Scenario(Path(os.environ["KERNELSR_DATA"]) / "Set5" / "HR", scale=4)
    assert [case.name for case in scenario] == list(parameters)
    for case in scenario:
        first, second, angle = (torch.tensor([p], dtype=torch.float64) for p in parameters[case.name])
        expected = gaussian_kernel(first, second, angle, kernel_size=19, scale=4)
        torch.testing.assert_close(case.load()[1].kernel, expected, atol=1e-7, rtol=0)


def test_legacy_draws_follow_the_written_order(folder: Path) -> None:
    """An independent replay: kernels of a, b, c one after another from one generator, normals between them."""
    level, scale, rng = 0.1, 3, np.random.RandomState(5)
    low, high = variance_range("matched", scale)
    for case in Scenario(folder, scale=scale, seed=5, noise_std=level, quantise=False):
        problem, truth = case.load()
        first, second, angle = rng.uniform(low, high), rng.uniform(low, high), rng.uniform(0, np.pi)
        rng.uniform(size=15 * 15)
        sigma = rng.uniform(0, level)
        noise = sigma * rng.normal(size=(truth.hr.shape[2] // 3, truth.hr.shape[3] // 3, 3))
        values = (torch.tensor([value], dtype=torch.float64) for value in (first, second, angle))
        expected = gaussian_kernel(*values, kernel_size=15, scale=scale)
        torch.testing.assert_close(truth.kernel, expected, atol=1e-12, rtol=0)
        lr = degrade(truth.hr.double(), expected, scale) + torch.from_numpy(noise).permute(2, 0, 1)
        torch.testing.assert_close(problem.lr, lr.clamp(0, 1).float(), atol=1e-5, rtol=0)


# --- scenarios


@pytest.mark.parametrize("rng", ["legacy", "named"])
@pytest.mark.parametrize("family", ["aniso", "iso"])
def test_an_image_draws_the_same_whatever_else_is_run(folder: Path, rng: str, family: str) -> None:
    settings = {"scale": 2, "rng": rng, "family": family, "noise_std": 0.05}
    whole = {case.name: case.load() for case in Scenario(folder, **settings)}
    only = list(Scenario(folder, only=["c"], **settings))
    backwards = {case.name: case.load() for case in reversed(list(Scenario(folder, **settings)))}
    assert [case.name for case in only] == ["c"]
    for problem, truth in (only[0].load(), backwards["c"]):
        assert torch.equal(problem.lr, whole["c"][0].lr)
        assert torch.equal(truth.kernel, whole["c"][1].kernel)
    assert not torch.equal(whole["a"][1].kernel, whole["b"][1].kernel)


def test_named_draws_do_not_depend_on_the_other_images(folder: Path) -> None:
    before = Scenario(folder, rng="named").load("c")
    (folder / "a.png").unlink()
    after = Scenario(folder, rng="named").load("c")
    assert torch.equal(before[0].lr, after[0].lr)
    other = Scenario(folder, rng="named", seed=2).load("c")
    assert not torch.equal(before[1].kernel, other[1].kernel)


@pytest.mark.parametrize("rng", ["legacy", "named"])
@pytest.mark.parametrize("centre", ["fkp", "aligned"])
@pytest.mark.parametrize("family", ["aniso", "iso", AnisotropicGaussian(variances=(2.0, 3.0), noise=0.4)])
def test_a_problem_follows_from_its_truth(folder: Path, rng: str, centre: str, family: object) -> None:
    scenario = Scenario(folder, scale=3, family=family, centre=centre, rng=rng)  # type: ignore[arg-type]
    problem, truth = scenario.load("b")
    assert (problem.scale, problem.kernel_size, problem.centre, problem.noise_std) == (3, 15, centre, 0.0)
    assert truth.hr.shape == (1, 3, 72, 60)
    assert torch.equal(truth.hr, read_image(folder / "b.png")[..., :72, :60])
    assert truth.kernel.sum().item() == pytest.approx(1)
    target = kernels.centre(centre, 15, 3)
    torch.testing.assert_close(
        kernels.centroid(truth.kernel), torch.full((1, 2), target, dtype=torch.float64), atol=0.1, rtol=0
    )
    assert torch.equal(problem.lr, floor_to_8_bits(degrade(truth.hr, truth.kernel.float(), 3)))
    if family == "iso":
        moments = kernels.moments(truth.kernel)[0]
        assert moments[0, 0].item() == pytest.approx(moments[1, 1].item(), rel=1e-6)


def test_the_problem_is_told_the_mean_noise_and_never_the_draw(folder: Path) -> None:
    clean = Scenario(folder, quantise=False)
    noisy = Scenario(folder, quantise=False, noise_std=0.1, only=["a", "b"])
    drawn = []
    for case in noisy:
        problem, truth = case.load()
        assert problem.noise_std == 0.05
        drawn.append((problem.lr - degrade(truth.hr, truth.kernel.float(), 2)).std().item())
        assert torch.equal(truth.kernel, clean.load(case.name)[1].kernel)
    assert drawn[0] != pytest.approx(drawn[1], rel=0.05)
    assert all(0 < sigma < 0.1 for sigma in drawn)


def test_grey_images_draw_like_colour_ones(folder: Path) -> None:
    settings = {"scale": 2, "noise_std": 0.05, "quantise": False}
    before = Scenario(folder, **settings).load("b")
    Image.open(folder / "a.png").convert("L").save(folder / "a.png")
    grey, after = Scenario(folder, **settings).load("a"), Scenario(folder, **settings).load("b")
    assert grey[0].lr.shape == (1, 1, 30, 36)
    assert torch.equal(before[0].lr, after[0].lr)


def test_one_bad_image_is_reported_and_the_others_go_on(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"broken")
    Image.fromarray(COLOUR[:5, :5]).save(folder / "d.png")
    outcome = {}
    for case in Scenario(folder):
        try:
            outcome[case.name] = case.load()[0].lr.shape
        except ValueError as error:
            outcome[case.name] = str(error)
    assert outcome["a"] == (1, 3, 30, 36)
    assert outcome["c"] == (1, 3, 48, 42)
    assert "b.png" in outcome["b"]
    assert "d.png has 5x5 pixels" in outcome["d"]


def test_real_images_have_no_truth_and_are_not_touched(folder: Path) -> None:
    scenario = Scenario(folder, degrade=False, scale=4, noise_std=0.02)
    problem, truth = scenario.load("b")
    assert truth.hr is None
    assert truth.kernel is None
    assert problem.noise_std == 0.02
    assert torch.equal(problem.lr, read_image(folder / "b.png"))
    Image.fromarray(COLOUR[:4, :4]).save(folder / "tiny.png")
    with pytest.raises(ValueError, match=r"tiny\.png: the image is smaller than the kernel"):
        Scenario(folder, degrade=False, scale=4).load("tiny")


def test_lists_names_and_crops(folder: Path) -> None:
    Image.open(folder / "a.png").save(folder / "a.jpg")
    assert [case.name for case in Scenario(folder)] == ["a.jpg", "a.png", "b", "c"]
    assert [case.name for case in Scenario([folder / "c.png", folder / "a.png"])] == ["c", "a"]
    assert len(Scenario(folder, only=["b", "c"])) == 2
    assert Scenario(folder, crop=2).load("b")[1].hr.shape == (1, 3, 74, 60)
    assert Scenario(folder, scale=8).load("c")[1].hr.shape == (1, 3, 96, 72)


def test_a_family_of_ones_own_is_drawn_by_name(folder: Path) -> None:
    def delta(n: int, problem: data.Problem, rng: torch.Generator) -> torch.Tensor:
        kernel = torch.zeros(n, 1, problem.kernel_size, problem.kernel_size, dtype=problem.lr.dtype)
        kernel[..., problem.kernel_size // 2, problem.kernel_size // 2] = 1
        return kernel

    problem, truth = Scenario(folder, family=delta, rng="named", kernel_size=9).load("a")
    assert truth.kernel.shape == (1, 1, 9, 9)
    assert torch.equal(problem.lr, floor_to_8_bits(truth.hr[..., ::2, ::2]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 1}, "scale is 1"),
        ({"family": "anso"}, "choose one of aniso, iso"),
        ({"rng": "random"}, "choose legacy"),
        ({"family": lambda n, problem, rng: None}, "set rng=named"),
        ({"kernel_size": 10}, "kernel_size is 10"),
        ({"centre": "middle"}, "choose one of fkp, aligned"),
        ({"noise_std": 10}, r"\[0, 1\] scale"),
        ({"crop": 3}, "multiple of the scale"),
    ],
)
def test_wrong_settings_fail_before_any_image_is_read(folder: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenario(folder / "never_read", **settings)


def test_wrong_names_list_the_images(folder: Path) -> None:
    with pytest.raises(ValueError, match="no image is called z; choose from a, b, c"):
        len(Scenario(folder, only=["z"]))
    with pytest.raises(ValueError, match="share a name"):
        len(Scenario([folder / "a.png", folder / "a.png"]))


def test_isotropic_legacy_draws_one_variance() -> None:
    rng = np.random.RandomState(1)
    kernel, _ = LegacyDraws(IsotropicGaussian(), 2, 11, "fkp", 0.0, rng)((3, 3))
    low, high = variance_range("matched", 2)
    replay = np.random.RandomState(1)
    variance = torch.tensor([replay.uniform(low, high)], dtype=torch.float64)
    expected = gaussian_kernel(variance, variance, torch.zeros_like(variance), kernel_size=11, scale=2)
    torch.testing.assert_close(kernel, expected, atol=1e-12, rtol=0)
    replay.uniform(size=11 * 11 + 1)
    replay.normal(size=27)
    assert rng.uniform() == replay.uniform()


def test_a_window_is_the_middle_of_the_degraded_image() -> None:
    """DIV2K in FKP: the whole image is degraded, then the middle is kept, LR and HR alike."""
    whole_problem, whole = next(iter(Scenario(find_image_set("demo"), 4, only=["coffee"]))).load()
    problem, truth = next(iter(Scenario(find_image_set("demo"), 4, only=["coffee"], window=96))).load()
    assert problem.lr.shape == (1, 3, 24, 24) and truth.hr is not None and whole.hr is not None
    assert torch.equal(problem.lr, whole_problem.lr[..., 12:36, 12:36])
    assert torch.equal(truth.hr, whole.hr[..., 48:144, 48:144])
    larger, _ = next(iter(Scenario(find_image_set("demo"), 4, only=["chelsea"], window=960))).load()
    assert larger.lr.shape == (1, 3, 36, 48)
