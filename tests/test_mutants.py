"""The code broken on purpose, once for each classic mistake of the field: the checks of the other files must fail.

A check that passes on broken code proves nothing; here each runs on the sound code first and on the broken code next.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import test_degradation
import test_families
import test_flows
import test_kernels
import test_losses
import test_metrics
import test_solvers
import test_trajectories
import torch
from test_flows import in_float64  # noqa: F401, a fixture
from torch import Tensor
from torch.nn import functional as F

from kernelsr import degradation, families, flows, kernels, learner, losses, metrics
from kernelsr.priors import dynamic

Break = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[], None]

# The module; the package's `joint` is the function in it.
JOINT = importlib.import_module("kernelsr.solvers.joint")


def double_log_determinants(kind: type, patch: pytest.MonkeyPatch) -> None:
    for direction in ("forward", "inverse"):
        sound = getattr(kind, direction)

        def doubled(self: object, x: Tensor, sound: Callable = sound) -> tuple[Tensor, Tensor]:
            result, log_det = sound(self, x)
            return result, 2 * log_det

        patch.setattr(kind, direction, doubled)


def flip_gaussians(patch: pytest.MonkeyPatch) -> None:
    sound = families.gaussian_kernel
    for module in (families, families.gaussian):
        patch.setattr(module, "gaussian_kernel", lambda *a, **k: sound(*a, **k).flip(-2, -1))


def move_the_centre(patch: pytest.MonkeyPatch) -> None:
    sound = kernels.centre
    patch.setattr(kernels, "centre", lambda *a: sound(*a) + 1)


def reflect_at_the_border(patch: pytest.MonkeyPatch) -> None:
    def pad(image: Tensor, margins: tuple[int, ...], mode: str = "constant") -> Tensor:
        return F.pad(image, margins, mode="reflect" if mode == "circular" else mode)

    patch.setattr(degradation, "F", SimpleNamespace(**{**vars(F), "pad": pad}))


def lose_a_percent_of_the_sum(patch: pytest.MonkeyPatch) -> None:
    sound = kernels.normalise
    patch.setattr(kernels, "normalise", lambda kernel: 0.99 * sound(kernel))


def forget_to_normalise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kernels, "normalise", lambda kernel: kernel)


def another_window(size: int, deviation: float, patch: pytest.MonkeyPatch) -> None:
    def window(channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        weights = [math.exp(-((i - size // 2) ** 2) / (2 * deviation**2)) for i in range(size)]
        line = torch.tensor(weights, dtype=torch.float64) / math.fsum(weights)
        square = F.pad(torch.outer(line, line), ((11 - size) // 2,) * 4)
        return square.expand(channels, 1, 11, 11).to(dtype=dtype, device=device)

    patch.setattr(losses, "_window", window)


def leave_the_border_out_of_ssim(patch: pytest.MonkeyPatch) -> None:
    def conv2d(image: Tensor, weight: Tensor, *, padding: int, groups: int) -> Tensor:
        return F.conv2d(image, weight, groups=groups)

    patch.setattr(losses, "F", SimpleNamespace(**{**vars(F), "conv2d": conv2d}))


def shave_the_scale_squared(patch: pytest.MonkeyPatch) -> None:
    sound = metrics._shaved
    patch.setattr(metrics, "_shaved", lambda first, second, border, channel: sound(first, second, border**2, channel))


def convolve(patch: pytest.MonkeyPatch) -> None:
    sound = degradation.degrade

    def convolution(image: Tensor, kernel: Tensor, scale: int) -> Tensor:
        return sound(image, kernel.flip(-2, -1), scale)

    for module in (degradation, JOINT):
        patch.setattr(module, "degrade", convolution)


def keep_another_pixel(patch: pytest.MonkeyPatch) -> None:
    sound = degradation.degrade
    for module in (degradation, JOINT):
        patch.setattr(module, "degrade", lambda x, k, s: sound(x.roll((-1, -1), (2, 3)), k, s))


def cut_the_adjoint_off(patch: pytest.MonkeyPatch) -> None:
    def adjoint(lr: Tensor, kernel: Tensor, scale: int) -> Tensor:
        margin, height, width = kernel.shape[-1] // 2, lr.shape[-2] * scale, lr.shape[-1] * scale
        spread = F.conv_transpose2d(lr.transpose(0, 1), kernel, stride=scale).transpose(0, 1)
        spread = F.pad(spread, (0, margin, 0, margin))
        return spread[..., margin : margin + height, margin : margin + width]

    patch.setattr(degradation, "degrade_adjoint", adjoint)


def start_a_step_late(patch: pytest.MonkeyPatch) -> None:
    sound = learner.Learner.step

    def late(self: learner.Learner, i: int) -> None:
        sound(self, i - 1 if self.start else i)

    patch.setattr(learner.Learner, "step", late)


def forget_nothing_at_rest(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(learner.Learner, "zero_grad", lambda self: None)


def weigh_all_alike(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dynamic, "monte_carlo_weights", torch.ones_like)


def swap_rows_and_columns(patch: pytest.MonkeyPatch) -> None:
    sound = kernels.centroid
    patch.setattr(kernels, "centroid", lambda kernel: sound(kernel).flip(1))


def deviation_for_variance(patch: pytest.MonkeyPatch) -> None:
    sound = families.gaussian_kernel
    for module in (families, families.gaussian):
        patch.setattr(module, "gaussian_kernel", lambda a, b, angle, **k: sound(a**2, b**2, angle, **k))


golden_kernels = partial(test_degradation.test_kernels_are_the_authors, 2)
golden_lr = partial(test_degradation.test_the_lr_image_is_the_authors, 3)
scipys = partial(test_degradation.test_it_is_a_wrapped_correlation_of_which_the_top_left_pixel_is_kept, 3, 15, 24, 18)
circular = partial(test_degradation.test_it_commutes_with_circular_shifts_by_the_scale, 3, 15, 24, 18)
adjoint = partial(test_degradation.test_the_adjoint_passes_the_dot_test, 3, 15, 24, 18)
adjoint_beside = partial(test_degradation.test_the_adjoint_passes_the_dot_test, 8, 3, 16, 24)
ramp = partial(test_degradation.test_on_a_ramp_lr_pixel_i_lies_where_the_convention_says, "fkp", -1, 3, 2)
ramp_aligned = partial(test_degradation.test_on_a_ramp_lr_pixel_i_lies_where_the_convention_says, "aligned", 1, 2, 3)
unit_sum = partial(test_families.test_kernels_sum_to_one, 3, "matched", 0.4, families.AnisotropicGaussian)
ranges = partial(test_families.test_variances_fill_their_range_evenly, 2, "matched", families.AnisotropicGaussian)
table_of_centres = partial(test_kernels.test_centre, "fkp", 11, 2, 4.5)
jacobian = partial(test_flows.test_the_log_determinant_is_that_of_the_jacobian, 0)
jacobians = [partial(test_flows.test_each_layers_log_determinant_is_that_of_its_jacobian, layer) for layer in (0, 1)]
golden_ssim = partial(test_losses.test_ssim_is_the_authors_loss, 2)
softmax, double_dip, dkp = (
    partial(test_trajectories.check_trajectory, name) for name in ("DIPSoftmax", "DoubleDIP", "DIPDKP")
)

MUTANTS: dict[str, tuple[Break, list[Check]]] = {
    "doubled log-determinant of batch norm": (
        partial(double_log_determinants, flows.BatchNormFlow),
        [jacobian, jacobians[0]],
    ),
    "doubled log-determinant of the coupling": (
        partial(double_log_determinants, flows.MaskedAffineFlow),
        [jacobian, jacobians[1]],
    ),
    "flipped kernel": (flip_gaussians, [golden_kernels, ramp, ramp_aligned]),
    "centre one pixel off": (move_the_centre, [golden_kernels, ramp, ramp_aligned, table_of_centres]),
    "reflecting border": (reflect_at_the_border, [scipys, circular, golden_lr, adjoint, softmax]),
    "kernel sum of 0.99": (
        lose_a_percent_of_the_sum,
        [golden_kernels, unit_sum, test_kernels.test_normalise_makes_the_sum_one],
    ),
    "kernel not normalised": (forget_to_normalise, [golden_kernels, unit_sum]),
    "SSIM window of deviation 1.6": (
        partial(another_window, 11, 1.6),
        [golden_ssim, test_losses.test_ssim_is_its_formula, softmax, dkp],
    ),
    "SSIM window of 9x9": (
        partial(another_window, 9, 1.5),
        [golden_ssim, test_losses.test_ssim_is_its_formula, softmax],
    ),
    "SSIM without its border": (
        leave_the_border_out_of_ssim,
        [golden_ssim, test_losses.test_ssim_is_its_formula, softmax],
    ),
    "border of s*s": (
        shave_the_scale_squared,
        [partial(test_metrics.test_stored_bicubic_scores, scale) for scale in (2, 3, 4)],
    ),
    "convolution": (convolve, [scipys, golden_lr, adjoint, ramp, softmax, double_dip]),
    "another pixel of the block": (keep_another_pixel, [scipys, golden_lr, ramp, ramp_aligned, softmax]),
    "adjoint that loses its border": (cut_the_adjoint_off, [adjoint, adjoint_beside]),
    "a step late": (start_a_step_late, [softmax, partial(test_solvers.test_a_learner_rests_until_its_start, 4)]),
    "gradients kept": (
        forget_nothing_at_rest,
        [softmax, test_solvers.test_what_accumulates_while_a_learner_rests_is_dropped],
    ),
    "unweighted proposals": (weigh_all_alike, [dkp]),
    "rows for columns": (
        swap_rows_and_columns,
        [golden_kernels, test_kernels.test_centroid_is_row_then_column],
    ),
    "variances for deviations": (deviation_for_variance, [golden_kernels, ranges]),
}


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_check_fails_on_broken_code(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it, checks = MUTANTS[mutant]
    for number, check in enumerate(checks):
        check()
        with monkeypatch.context() as patch:
            break_it(patch)
            try:
                check()
            except AssertionError:
                continue
        pytest.fail(f"check {number} of {mutant!r} passes on broken code: {check}")
