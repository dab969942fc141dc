"""Kernels of benchmarks, of files of any form, and families made of families."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import normal, problem, rng
from PIL import Image
from scipy import ndimage, signal
from scipy.io import loadmat, savemat
from torch import Tensor

from kernelsr import families, kernels, official_kernels
from kernelsr.degradation import degrade
from kernelsr.families import (
    AnisotropicGaussian,
    Disk,
    Div2krk,
    GaussianSet,
    KernelFolder,
    LinearMotion,
    Mixture,
    Noisy,
)
from kernelsr.families.files import read_kernels
from kernelsr.metrics import kernel_correlation

RNG = np.random.default_rng(0)


def balanced() -> np.ndarray:
    """An asymmetric kernel (5, 7) whose centre of mass is its pixel (2, 3) to rounding."""
    kernel = RNG.uniform(0.1, 1, (5, 7))
    rows, columns = np.mgrid[-2:3, -3:4]
    for _ in range(400):
        mean = (kernel * rows).sum() / kernel.sum(), (kernel * columns).sum() / kernel.sum()
        kernel *= np.exp(-0.2 * mean[0] * rows - 0.1 * mean[1] * columns)
    return kernel / kernel.sum()


KERNEL = balanced()
# At x3 the aligned centre of 15x15 is pixel (8, 8): a whole-pixel move from KERNEL's.
POSED = problem(3, 24, kernel_size=15, centre="aligned")


def placed(kernel: np.ndarray = KERNEL) -> Tensor:
    out = torch.zeros(1, 1, 15, 15).double()
    out[..., 6:11, 5:12] = torch.from_numpy(kernel)
    return out


# --- Gaussian8 and DIV2KRK


@pytest.mark.parametrize(("scale", "low", "high"), [(2, 0.8, 1.6), (3, 1.35, 2.4), (4, 1.8, 3.2)])
def test_gaussian8_has_eight_equally_spaced_widths(scale: int, low: float, high: float) -> None:
    posed = problem(scale, 64, kernel_size=61)
    widths = []
    for index in range(8):
        moments = kernels.moments(GaussianSet(index=index)(1, posed, rng()))[0]
        assert moments[0, 0].item() == pytest.approx(moments[1, 1].item()) and abs(moments[0, 1]) < 1e-6
        widths.append(moments[0, 0].sqrt().item())
    np.testing.assert_allclose(widths, np.linspace(low, high, 8), rtol=0, atol=0.01)
    drawn = kernels.moments(GaussianSet()(200, posed, rng()))[:, 0, 0].sqrt()
    nearest = (drawn[:, None] - torch.tensor(widths).double()).abs().argmin(1)
    assert set(nearest.tolist()) == set(range(8))
    narrow = GaussianSet((0.9, 1.1), 3, 2)(1, posed, rng())
    assert kernels.moments(narrow)[0, 0, 0].sqrt().item() == pytest.approx(1.1, abs=0.01)


@pytest.mark.parametrize("centre", ["fkp", "aligned"])
def test_a_div2krk_kernel_at_x4_is_its_x2_kernel_applied_twice(centre: str) -> None:
    twice = Div2krk()(3, problem(4, 24, kernel_size=31, centre=centre), rng(5))
    once = Div2krk()(3, problem(2, 24, kernel_size=11, centre=centre), rng(5))
    image = normal(1, 2, 96, 80)
    for big, small in zip(twice[:, None], once[:, None], strict=True):
        torch.testing.assert_close(degrade(image, big, 4), degrade(degrade(image, small, 2), small, 2))
        dilated = np.zeros((21, 21))
        dilated[::2, ::2] = small[0, 0]
        np.testing.assert_allclose(big[0, 0], signal.convolve2d(small[0, 0], dilated), atol=1e-12)
    for kernel, scale in ((once, 2), (twice, 4)):
        target = kernels.centre(centre, kernel.shape[-1], scale)
        # The border of 11x11 cuts the widest, before the one shift.
        assert (kernels.centroid(kernel) - target).abs().max() < 0.2


def test_div2krk_draws_its_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def recorded(*arguments: Tensor, noise: Tensor, **settings: object) -> Tensor:
        seen.update(first=arguments[0], second=arguments[1], angle=arguments[2], noise=noise)
        return families.gaussian_kernel(*arguments, noise=noise, **settings)

    monkeypatch.setattr(families.benchmarks, "gaussian_kernel", recorded)
    kernel = Div2krk()(500, problem(2, kernel_size=11, centre="aligned"), rng())
    torch.testing.assert_close(kernel.sum((1, 2, 3)), torch.ones(500).double())
    assert kernel.min() >= 0
    for name, low, high in (("first", 0.6, 5), ("second", 0.6, 5), ("angle", 0, np.pi), ("noise", -0.25, 0.25)):
        values, margin = seen[name], 0.02 * (high - low)
        assert low <= values.min() < low + margin and high - margin < values.max() <= high
    assert seen["noise"].shape == (500, 1, 11, 11)


def test_div2krk_fits_larger_supports_and_refuses_smaller_ones() -> None:
    large, own = (Div2krk()(2, problem(2, 24, kernel_size=size), rng(1)) for size in (15, 11))
    torch.testing.assert_close(large[..., 2:13, 2:13], own)
    assert [Div2krk().kernel_size(scale) for scale in (2, 4)] == [11, 31]
    with pytest.raises(ValueError, match="which cuts DIV2KRK's 31x31 kernels for x4; set kernel_size=31"):
        Div2krk()(20, problem(4, 24), rng())
    with pytest.raises(ValueError, match="no kernels for x3, only for x2 and x4"):
        Div2krk()(1, problem(3), rng())
    with pytest.raises(ValueError, match="no kernels for x8"):
        GaussianSet()(1, problem(8), rng())
    with pytest.raises(ValueError, match="there are 8 kernels, counted from 0"):
        GaussianSet(index=8)(1, problem(2), rng())


# --- files


def save_mat73(path: Path, name: str, cells: list[np.ndarray] | np.ndarray) -> None:
    """A .mat file as MATLAB 7.3 writes it: HDF5 after a header of 512 bytes, arrays stored columns first."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        if isinstance(cells, np.ndarray):
            file[name] = cells.T
        else:
            references = [file.create_dataset(f"#refs#/{n}", data=cell.T).ref for n, cell in enumerate(cells)]
            file.create_dataset(name, data=np.array([references], dtype=h5py.ref_dtype))
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


FORMS = ["npy", "npy stack", "npz", "mat", "mat cell", "mat stack", "mat73", "mat73 cell", "mat73 stack", "png"]


def write(path: Path, form: str) -> Path:
    """KERNEL and, where the form holds several, its double size beside it."""
    other = np.kron(KERNEL, np.ones((2, 2)))
    pair = np.stack([KERNEL, KERNEL[::-1]])
    cell = np.empty((1, 2), dtype=object)
    cell[0, 0], cell[0, 1] = KERNEL, other
    path = path / f"k.{form.split()[0].replace('73', '')}"
    if form == "png":
        Image.fromarray((KERNEL / KERNEL.max() * 65535).astype(np.uint16)).save(path)
    elif form.startswith("mat73"):
        values = {"mat73": KERNEL, "mat73 cell": [KERNEL, other], "mat73 stack": np.moveaxis(pair, 0, -1)}
        save_mat73(path, "kernels", values[form])
    elif form.startswith("mat"):
        values = {"mat": KERNEL, "mat cell": cell, "mat stack": np.moveaxis(pair, 0, -1)}
        savemat(
            path, {"kernels": values[form], "scale": 4.0, "names": "text"} if form == "mat" else {"k": values[form]}
        )
    elif form == "npz":
        np.savez(path, first=KERNEL, second=other)
    else:
        np.save(path, pair if "stack" in form else KERNEL)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_a_kernel_in_any_file_is_the_kernel_it_was(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    assert len(KernelFolder(path)) == (1 if form in ("npy", "mat", "mat73", "png") else 2)
    kernel = KernelFolder(path, index=0)(2, POSED, rng())
    tolerance = 2e-5 if form == "png" else 1e-12
    torch.testing.assert_close(kernel, placed().expand(2, 1, 15, 15), rtol=0, atol=tolerance)
    flipped = KernelFolder(path, flip=True, index=0)(1, POSED, rng())
    torch.testing.assert_close(flipped, placed(KERNEL[::-1, ::-1].copy()), rtol=0, atol=tolerance)
    # A folder with the file in it is the same.
    assert torch.equal(KernelFolder(tmp_path, index=0)(2, POSED, rng()), kernel)


def test_cells_come_in_matlabs_order_columns_first(tmp_path: Path) -> None:
    cells = np.empty((2, 2), dtype=object)
    for number, place in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        cells[place] = np.eye(3) + number
    savemat(tmp_path / "k.mat", {"k": cells})
    found = read_kernels(tmp_path / "k.mat")
    for number, kernel in enumerate(found):
        np.testing.assert_allclose(kernel, (np.eye(3) + number) / (3 + 9 * number))


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (2, 9), (12, 12), (7, 8)])
@pytest.mark.parametrize("centre", ["fkp", "aligned"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_kernels_of_any_size_come_to_the_centre(
    tmp_path: Path, scale: int, centre: str, shape: tuple[int, int]
) -> None:
    smooth = ndimage.gaussian_filter(np.pad(RNG.uniform(size=shape), 3), 0.8)
    np.save(tmp_path / "k.npy", smooth)
    family = KernelFolder(tmp_path)
    posed = problem(scale, 30, kernel_size=family.kernel_size(scale), centre=centre)
    kernel = family(1, posed, rng())
    assert kernel.min() >= 0 and kernel.sum().item() == pytest.approx(1)
    assert (kernels.centroid(kernel) - kernels.centre(centre, posed.kernel_size, scale)).abs().max() < 0.02
    # The spline keeps the widths.
    square = np.zeros((max(smooth.shape),) * 2)
    square[: smooth.shape[0], : smooth.shape[1]] = smooth
    expected = kernels.moments(torch.from_numpy(square)[None, None])
    torch.testing.assert_close(kernels.moments(kernel), expected, rtol=0.03, atol=0.03)


def test_draws_are_of_the_whole_pool_in_the_order_of_names(tmp_path: Path) -> None:
    for number, name in enumerate(("b.npy", "a.npy", "C.npy")):
        kernel = np.zeros((3, 3))
        kernel[1, : number + 1] = 1
        np.save(tmp_path / name, kernel)
    (tmp_path / "notes.txt").write_text("no kernel")
    family = KernelFolder(tmp_path)
    width = [(KernelFolder(tmp_path, index=n)(1, POSED, rng()) > 0.05).sum().item() for n in range(3)]
    assert width[1] > width[2] and len(family) == 3  # C, a, b
    drawn = family(60, POSED, rng())
    assert len(torch.unique(drawn.flatten(1), dim=0)) == 3
    assert torch.equal(drawn, family(60, POSED, rng()))


def test_a_kernel_that_the_support_cuts_is_refused_with_the_size_it_needs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((23, 23)))
    np.save(tmp_path / "b.npy", np.ones((3, 3)))
    family = KernelFolder(tmp_path)
    with pytest.raises(ValueError, match=r"kernel_size is 15, whose border cuts 0\.\d+ of a kernel") as caught:
        family(1, POSED, rng())
    needed = int(str(caught.value).rsplit("=", 1)[1])
    assert needed == family.kernel_size(3) and needed % 2
    for centre in ("fkp", "aligned"):
        family(1, problem(3, 24, kernel_size=needed, centre=centre), rng())
        with pytest.raises(ValueError, match="border cuts"):
            family(1, problem(3, 24, kernel_size=needed - 4, centre=centre), rng())
    # The small one alone fits.
    assert KernelFolder(tmp_path, index=1)(1, POSED, rng()).sum().item() == pytest.approx(1)
    assert KernelFolder(tmp_path, index=1).kernel_size(3) == 15


def test_tiny_negatives_are_clipped_and_lobes_refused(tmp_path: Path) -> None:
    tiny, lobes = KERNEL.copy(), KERNEL.copy()
    tiny[0, 0], lobes[0, 0] = -1e-4, -0.05
    np.save(tmp_path / "tiny.npy", tiny)
    assert KernelFolder(tmp_path)(1, POSED, rng()).min() >= 0
    np.save(tmp_path / "lobes.npy", lobes)
    with pytest.raises(ValueError, match=r"lobes\.npy has negative lobes \(down to -0\.05"):
        read_kernels(tmp_path / "lobes.npy")


BAD = {
    "nan.npy": np.full((3, 3), np.nan),
    "zero.npy": np.zeros((3, 3)),
    "vector.npy": np.ones(5),
    "scalar.npy": np.ones(()),
}


def test_files_that_hold_no_kernel_are_named(tmp_path: Path) -> None:
    for name, array in BAD.items():
        np.save(tmp_path / name, array)
    for name in ("text.mat", "text.npy", "text.png"):
        (tmp_path / name).write_text("no kernel, but a text that is long enough to have a header" * 10)
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=path.name):
            read_kernels(path)
    with pytest.raises(ValueError, match="there is no folder or file"):
        len(KernelFolder(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no kernels in"):
        len(KernelFolder(tmp_path / "empty"))
    with pytest.raises(ValueError, match="index is 3"):
        np.save(tmp_path / "empty" / "k.npy", KERNEL)
        KernelFolder(tmp_path / "empty", index=3)(1, POSED, rng())


def test_without_h5py_matlabs_new_files_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_mat73(tmp_path / "k.mat", "kernels", KERNEL)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"k\.mat: it is a MATLAB 7\.3 file.*pip install 'kernelsr\[mat73\]'"):
        read_kernels(tmp_path / "k.mat")


# --- published kernels

here = pytest.mark.skipif("KERNELSR_DATA" not in os.environ, reason="needs the kernels: set KERNELSR_DATA")


@here
@pytest.mark.parametrize(("name", "count"), [("levin", 8), ("usrnet12", 12)])
def test_published_kernels_fit_where_they_say(name: str, count: int) -> None:
    if name == "levin":
        pytest.importorskip("h5py")
    family = official_kernels.pool(name)
    assert len(family) == count
    for scale in (2, 3, 4, 8):
        for centre in ("fkp", "aligned"):
            size = family.kernel_size(scale)
            for index in range(count):
                kernel = official_kernels.pool(name, index)(
                    1, problem(scale, 30, kernel_size=size, centre=centre), rng()
                )
                assert kernel.min() >= 0 and kernel.sum().item() == pytest.approx(1)
                assert (kernels.centroid(kernel) - kernels.centre(centre, size, scale)).abs().max() < 0.02


@here
def test_levins_kernels_stand_as_they_do_among_usrnets() -> None:
    """USRNet's 9th and 10th are Levin's 8th and 7th: the one file is read rows first, the other columns first."""
    pytest.importorskip("h5py")
    posed = problem(2, 30, kernel_size=31)
    for theirs, ours in ((8, 7), (9, 6)):
        first = official_kernels.pool("usrnet12", theirs)(1, posed, rng())
        second = official_kernels.pool("levin", ours)(1, posed, rng())
        assert kernel_correlation(first, second) > 0.97
        assert max(kernel_correlation(first, turned) for turned in (second.mT, second.flip(-2, -1))) < 0.9


@here
def test_usrnets_kernels_are_turned_round_for_correlation() -> None:
    """USRNet convolves with the stored kernel; degrading with ours gives its LR image, moved by the centre of mass."""
    stored = loadmat(Path(os.environ["KERNELSR_DATA"]) / "kernels" / "kernels_12.mat")["kernels"][0, 10].astype(float)
    image = ndimage.gaussian_filter(RNG.uniform(size=(64, 64)), 1.5, mode="wrap")
    blurred = torch.from_numpy(ndimage.convolve(image, stored, mode="wrap"))[None, None]
    posed = problem(2, 40, kernel_size=31)
    ours = degrade(torch.from_numpy(image)[None, None], official_kernels.pool("usrnet12", 10)(1, posed, rng()), 1)
    difference = torch.fft.fft2(ours) / torch.fft.fft2(blurred)
    low = difference[0, 0, :6, :6]
    # A shift alone: of linear phase, and of modulus one but for a stroke a quarter of a pixel softer.
    assert (low.abs() - 1).abs().max() < 0.07
    row, column = (low[n] / low[n].abs() for n in ((1, 0), (0, 1)))
    order = torch.arange(6)
    assert (low / low.abs() - row ** order[:, None] * column ** order[None, :]).abs().max() < 0.05


def test_kernels_that_are_nowhere_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERNELSR_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(official_kernels, "URL", "http://127.0.0.1:9/")  # nobody listens on port 9
    with pytest.raises(FileNotFoundError, match=r"(?s)Levin09.*MIT.*http://127\.0\.0\.1:9/Levin09\.mat.*KERNELSR_DATA"):
        official_kernels.find_kernels("levin")
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "Levin09.mat").write_bytes(b"something else")
    with pytest.raises(ValueError, match="not the authors' file"):
        official_kernels.find_kernels("levin")
    with pytest.raises(ValueError, match="choose one of usrnet12, levin"):
        official_kernels.find_kernels("kohler")


# --- families of families


def test_a_mixture_draws_each_family_by_its_weight() -> None:
    posed = problem(4, 24)
    parts = {"motion": LinearMotion(), "disk": Disk(5.0), "never": AnisotropicGaussian()}
    drawn = Mixture(parts, {"motion": 3, "disk": 1, "never": 0})(400, posed, rng())
    disk = Disk(5.0)(1, posed, rng())
    is_disk = (drawn - disk).abs().amax((1, 2, 3)) < 1e-9
    assert 70 < is_disk.sum() < 130
    thin = torch.linalg.eigvalsh(kernels.moments(drawn[~is_disk]))[:, 0]
    assert thin.max() <= 0.25 + 1e-9
    alike = Mixture(parts)(300, posed, rng())
    assert 70 < ((alike - disk).abs().amax((1, 2, 3)) < 1e-9).sum() < 130
    assert Mixture({"a": Div2krk(), "b": Disk()}).kernel_size(4) == 31
    assert Mixture({"a": Div2krk(), "b": Disk()}, {"a": 0, "b": 1}).kernel_size(4) == 19


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1}, "the families are a, b"),
        ({"a": 0, "b": 0}, "at least one above"),
        ({"a": 2, "b": -1}, "none below zero"),
    ],
)
def test_weights_that_are_none_are_errors(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture({"a": Disk(), "b": LinearMotion()}, weights)(1, problem(2), rng())


@pytest.mark.parametrize("family", [AnisotropicGaussian(), LinearMotion(), Disk()], ids=str)
def test_noise_multiplies_each_pixel_of_any_family(
    family: families.KernelFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    posed = problem(3, 30, kernel_size=31)
    clean = family(40, posed, rng())
    noisy = Noisy(family)(40, posed, rng())
    assert noisy.min() >= 0
    torch.testing.assert_close(noisy.sum((1, 2, 3)), torch.ones(40).double())
    assert (kernels.centroid(noisy) - kernels.centre("fkp", 31, 3)).abs().max() < 5e-3
    torch.testing.assert_close(Noisy(family, 0.0)(40, posed, rng()), clean, rtol=0, atol=2e-3)
    # Before the centre is put back, each pixel is off by its own factor.
    monkeypatch.setattr(families.mixture, "recentred", lambda kernel, target: kernel)
    ratio = (Noisy(family)(40, posed, rng()) / clean)[clean > 1e-6]
    assert 0.6 <= ratio.min() < 0.61 and 1.39 < ratio.max() <= 1.4
    assert ratio.std().item() == pytest.approx(0.4 / 3**0.5, rel=0.05)


def test_a_noise_level_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="the papers use 0.4"):
        Noisy(Disk(), 1.5)(1, problem(2), rng())
    assert Noisy(Div2krk()).kernel_size(4) == 31
