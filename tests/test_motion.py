"""Lines, random walks and disks against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import problem, rng
from scipy import ndimage
from torch import Tensor

from kernelsr import families, kernels
from kernelsr.families import Disk, LinearMotion, RandomMotion
from kernelsr.families.motion import SAMPLES, trajectories
from kernelsr.metrics import kernel_correlation
from kernelsr.problem import Problem

FAMILIES = [
    LinearMotion(),
    LinearMotion((2.0, 5.0)),
    RandomMotion(),
    RandomMotion(anxiety=0.05),
    Disk(),
    Disk((1.0, 4.0)),
    families.Mixture({"motion": LinearMotion(), "disk": Disk()}),
]
# Of bilinear weights, averaged over sub-pixel places.
SOFTENING = 1 / 6


def wide(scale: int = 2, centre: str = "fkp") -> Problem:
    """A problem whose support cuts nothing off, so that moments are exact."""
    return problem(scale, 64, kernel_size=61, centre=centre)


def axes(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Variances along the principal axes (n, 2), ascending, and the long axis (n, 2) as (row, column)."""
    values, vectors = torch.linalg.eigh(kernels.moments(kernel))
    return values, vectors[:, :, 1]


# --- what all share


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("centre", ["fkp", "aligned"])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_kernels_are_kernels_at_the_conventions_centre(scale: int, centre: str, family: families.KernelFamily) -> None:
    posed = problem(scale, 24, centre=centre)
    kernel = family(20, posed, rng())
    assert kernel.shape == (20, 1, posed.kernel_size, posed.kernel_size) and kernel.dtype == torch.float64
    assert kernel.min() >= 0
    torch.testing.assert_close(kernel.sum((1, 2, 3)), torch.ones(20).double(), rtol=0, atol=1e-12)
    # Exact, not about: they are drawn in place.
    assert (kernels.centroid(kernel) - kernels.centre(centre, posed.kernel_size, scale)).abs().max() < 1e-9


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_seed_fixes_the_kernels(family: families.KernelFamily) -> None:
    drawn = [family(6, problem(3), rng(seed)) for seed in (5, 5, 6)]
    assert torch.equal(drawn[0], drawn[1])
    assert (drawn[0] - drawn[2]).abs().max() > 1e-3
    single = family(6, problem(3, dtype=torch.float32), rng(5))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), drawn[0], rtol=0, atol=1e-7)


# --- lines


@pytest.mark.parametrize("length", [3.0, 7.0, 11.5])
@pytest.mark.parametrize("scale", [2, 3])
def test_a_line_is_as_long_as_said_and_half_a_pixel_thin(scale: int, length: float) -> None:
    (across, along), _ = (values := axes(LinearMotion(length)(60, wide(scale), rng()))[0]).unbind(1), None
    assert len(values) == 60
    torch.testing.assert_close(along, torch.full((60,), length**2 / 12 + SOFTENING).double(), rtol=0, atol=0.1)
    assert across.max() <= 0.5**2 + 1e-9


@pytest.mark.parametrize("angle", [0, 30, 60, 90, 120, 150])
def test_a_line_points_where_it_is_told(angle: float) -> None:
    _, long = axes(LinearMotion(9, [angle])(3, wide(), rng()))
    direction = torch.tensor([math.sin(math.radians(angle)), math.cos(math.radians(angle))]).double()
    # (row, column): rows point down, so that 30 degrees fall to the right.
    torch.testing.assert_close((long @ direction).abs(), torch.ones(3).double(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("angle", [0.0, 20.0, 45.0, 75.0, 130.0])
def test_lines_are_dkps_rotated_rows_of_pixels(angle: float) -> None:
    row = np.zeros((15, 15))
    row[8, 4:13] = 1  # 9 pixels about the middle of the aligned convention at x3
    turn = np.deg2rad(angle)
    # Output (row, column) comes from the input turned back.
    back = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = ndimage.affine_transform(row, back, offset=np.array([8, 8]) - back @ [8, 8], order=1)
    expected = torch.from_numpy(turned / turned.sum())[None, None]
    posed = problem(3, 24, kernel_size=15, centre="aligned")
    assert kernel_correlation(LinearMotion(9, [angle])(1, posed, rng()), expected) > 0.98


@pytest.mark.parametrize(("scale", "pixels"), [(2, 5), (3, 7), (4, 9), (8, 11)])
def test_dkps_lengths(scale: int, pixels: int) -> None:
    values, long = axes(LinearMotion()(300, problem(scale, 24), rng()))
    lengths = (12 * (values[:, 1] - SOFTENING)).sqrt()
    assert (lengths - pixels).abs().max() < 0.35
    # Any angle: the doubled angle has no mean.
    angle = 2 * torch.atan2(long[:, 0], long[:, 1])
    assert torch.stack([angle.sin(), angle.cos()]).mean(1).abs().max() < 0.15


def test_lengths_fill_their_range_and_angles_their_list() -> None:
    values, long = axes(LinearMotion((4, 12), [0, 90])(400, wide(), rng()))
    lengths = (12 * (values[:, 1] - SOFTENING)).sqrt()
    assert 3.8 < lengths.min() < 4.4 and 11.6 < lengths.max() < 12.2
    assert lengths.mean().item() == pytest.approx(8, abs=0.4)
    assert torch.minimum(long[:, 0].abs(), long[:, 1].abs()).max() < 1e-6
    assert 0.4 < (long[:, 0].abs() > 0.5).double().mean() < 0.6


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (LinearMotion(12), "holds 9 HR pixels: choose a shorter length or a larger kernel_size"),
        (LinearMotion(0), "give one positive number"),
        (LinearMotion((5, 3)), "ascending range"),
        (LinearMotion(angles=[]), "angles is empty; give at least one"),
        (families.GaussianSet(count=0), "count is 0; a set has at least one"),
        (RandomMotion(length=-3), "length is -3; give a positive number"),
        (RandomMotion(exposures=()), "shares above 0"),
        (RandomMotion(exposures=(0.5, 2)), "shares above 0"),
        (RandomMotion(anxiety=(0.1, 0.01)), "ascending range"),
        (Disk(6), "holds 5 HR pixels: choose a smaller radius"),
        (Disk((0, 2)), "give one positive number"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_drawn_are_errors(family: families.KernelFamily, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(1, problem(2), rng())


# --- random walks


def as_published(n: int, anxiety: float, length: float, samples: int, seed: int) -> np.ndarray:
    """Boracchi and Foi's recursion, sample by sample in the complex plane: (n, samples)."""
    draw = np.random.default_rng(seed)
    pull, tremor, rate = (draw.uniform(0, top, n) for top in (0.7, 10, 0.2))
    step = length / (samples - 1)
    velocity = step * np.exp(2j * np.pi * draw.uniform(size=n))
    place = np.zeros((n, samples), complex)
    for t in range(samples - 1):
        thrown = draw.uniform(size=n) < rate * anxiety
        throw = 2 * velocity * np.exp(1j * (np.pi + draw.uniform(-0.5, 0.5, n)))
        noise = draw.normal(size=n) + 1j * draw.normal(size=n)
        velocity = velocity + thrown * throw + anxiety * (tremor * noise - pull * place[:, t]) * step
        velocity *= step / abs(velocity)
        place[:, t + 1] = place[:, t] + velocity
    return place


@pytest.mark.parametrize("anxiety", [0.002, 0.005, 0.01])
def test_trajectories_spread_as_the_published_recursions(anxiety: float) -> None:
    theirs = as_published(1000, anxiety, 19, 2000, seed=1)
    mine = trajectories(torch.full((1000, 1), anxiety).double(), 19, rng(1)).numpy()
    ours = mine[..., 1] + 1j * mine[..., 0]
    for statistic in (lambda p: abs(p[:, -1]), lambda p: abs(p - p.mean(1, keepdims=True)).mean(1)):
        first, second = statistic(theirs), statistic(ours)
        error = math.hypot(first.std(), second.std()) / math.sqrt(1000)
        # Coarser samples cost one or two per cent; a missing force changes the spread by far more.
        assert abs(first.mean() - second.mean()) < 3 * error + 0.02 * first.mean()
        assert error < 0.05 * first.mean()


def test_trajectories_move_at_constant_speed() -> None:
    path = trajectories(torch.tensor([[0.001], [0.02], [0.1]]).double(), 13.0, rng())
    steps = path.diff(dim=1).norm(dim=2)
    torch.testing.assert_close(steps, torch.full_like(steps, 13 / SAMPLES))
    assert not path[:, 0].any()


def test_velocity_has_inertia_and_anxiety_takes_it() -> None:
    anxiety = torch.tensor([0.0005, 0.005, 0.05]).double().repeat_interleave(200)[:, None]
    velocity = trajectories(anxiety, 1.0, rng()).diff(dim=1) * SAMPLES
    kept = (velocity[:, 1:] * velocity[:, :-1]).sum(2).mean(1).view(3, 200).mean(1)
    assert kept[0] > 0.998 and 0.97 < kept[1] < 0.998 and kept[2] < 0.8


def test_impulses_throw_the_point_back() -> None:
    # So little anxiety that no tremor turns a velocity by more than a right angle: what does is an impulse.
    velocity = trajectories(torch.full((800, 1), 0.005).double(), 1.0, rng()).diff(dim=1) * SAMPLES
    cosine = (velocity[:, 1:] * velocity[:, :-1]).sum(2)
    rate = (cosine < 0).double().mean().item()
    assert rate == pytest.approx(0.1 * 0.005 * 2000 / SAMPLES, rel=0.15)
    # An impulse of twice the speed, up to half a radian aside, and the velocity itself.
    aside = np.angle(1 - 2 * np.exp(0.5j))
    assert cosine[cosine < 0].max() < math.cos(aside) + 0.4


@pytest.mark.parametrize("anxiety", [0.001, 0.005, 0.02])
def test_random_motion_is_one_connected_stroke(anxiety: float) -> None:
    for kernel in RandomMotion(anxiety=anxiety)(30, problem(4), rng()):
        _, parts = ndimage.label(kernel[0].numpy() > 0, structure=np.ones((3, 3)))
        assert parts == 1


def test_exposure_covers_its_share_of_the_trajectory() -> None:
    for share in (0.25, 0.5, 1.0):
        values, _ = axes(RandomMotion(12, [share], anxiety=1e-7)(40, wide(), rng()))
        lengths = (12 * (values[:, 1] - SOFTENING)).sqrt()
        torch.testing.assert_close(lengths, torch.full((40,), 12 * share).double(), rtol=0, atol=0.4)


def test_calm_is_straight_and_anxiety_stays_on_the_spot() -> None:
    width = [axes(RandomMotion(19, [1.0], a)(100, wide(), rng()))[0].sum(1).mean().item() for a in (1e-6, 0.005, 0.05)]
    assert width[0] == pytest.approx(19**2 / 12 + 2 * SOFTENING, abs=0.2)
    assert width[0] > 2 * width[1] > 8 * width[2]


def test_a_walk_too_long_for_the_support_is_made_smaller() -> None:
    kernel = RandomMotion(100, [1.0], anxiety=1e-6)(20, problem(2), rng())
    room = kernels.centre("fkp", 11, 2)
    assert kernel.min() >= 0 and axes(kernel)[0][:, 1].min() > (2 * room) ** 2 / 12 - 0.5


# --- disks


@pytest.mark.parametrize("radius", [1.7, 2.5, 6.3])
@pytest.mark.parametrize("centre", ["fkp", "aligned"])
def test_a_disks_second_moment(centre: str, radius: float) -> None:
    kernel = Disk(radius)(2, wide(4, centre), rng())
    moments = kernels.moments(kernel)
    expected = (radius**2 / 4 + 1 / 12) * torch.eye(2).double().expand(2, 2, 2)
    # Sampled disks lie off by aliasing: 0.03 at these radii.
    torch.testing.assert_close(moments, expected, rtol=0, atol=0.04)


@pytest.mark.parametrize(("radius", "scale"), [(1.2, 2), (3.7, 3), (5.0, 4)])
def test_a_pixel_gets_the_area_that_the_disk_covers(radius: float, scale: int) -> None:
    posed = problem(scale)
    fine, size = 40, posed.kernel_size
    place = (np.arange(size * fine) + 0.5) / fine - 0.5 - kernels.centre("fkp", size, scale)
    inside = place[:, None] ** 2 + place[None, :] ** 2 <= radius**2
    expected = inside.reshape(size, fine, size, fine).mean((1, 3)) / (math.pi * radius**2)
    kernel = Disk(radius)(1, posed, rng())[0, 0].numpy()
    np.testing.assert_allclose(kernel, expected, rtol=0, atol=0.01 / radius**2)
    if radius > 2:
        assert kernel.max() == pytest.approx(1 / (math.pi * radius**2), rel=1e-3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_disks_are_as_wide_as_the_protocols_gaussians(scale: int) -> None:
    low, high = families.fkp_variances(scale)
    variance = kernels.moments(Disk()(300, problem(scale), rng()))[:, 0, 0] - 1 / 12
    assert low - 0.05 < variance.min() < 1.2 * low + 0.1 and 0.9 * high < variance.max() < high + 0.05
