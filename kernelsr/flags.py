"""Failure flags: a word for each way in which an estimate went wrong, so that no mean hides it.

None needs the truth; a true kernel only excuses: what it would be flagged for itself, its estimate is not.

The limits are chosen from data (``python -m experiments.flag_rates``). Of 99,000 true kernels of the families in the data
groups, at x2, x3, x4 and x8 and before any excuse, none is flagged but random walks: 7.9 % of those at x2 and at most
0.8 % at the other scales are nearly a point, hence ``collapsed``, and 0.03 % touch the ``border``. Lines that end at the
border and pixels with 40 % of noise all pass.

Deltas between four pixels, flat kernels, a tenth of the mass on one side of the border, and the other convention's centre are
flagged always, shifts by 0.3 LR pixels in at least 99.7 %. A pedestal of 30 % flat is at x2, in 41 % of cases at x3, and not
above: there it looks like a wide kernel. On Set5 at the reduced budget (experiments/results/set5_x*.csv) 27 of 30 estimates
of the softmax prior and all 30 of Double-DIP are flagged, of five other priors none of 110; none has a ``plateau``.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from kernelsr import kernels
from kernelsr.compression import was_jpeg
from kernelsr.degradation import degrade
from kernelsr.evidence import against_gaussians
from kernelsr.problem import EIGHT_BITS, Estimate, Problem, Truth

FLAGS = {
    "collapsed": "the kernel is nearly a delta, or nearly flat",
    "off-centre": "the kernel's centre of mass is more than a quarter of an LR pixel from the convention's place",
    "border": "much of the kernel's mass lies on the border of its support",
    "ambiguous": "the LR image tells little of the kernel's size, by the posterior that the estimate is of",
    "family": "the LR image's spectrum speaks against the Gaussians that were sought: motion, defocus, or another blur",
    "plateau": "the loss had stopped falling by the middle of the steps, while the image did not explain the LR image yet",
}
"""Every flag and what it says."""

POINT = 0.92  # share of the mass in the four pixels around one place
FLAT = 0.6  # share of the support that as evenly lit a kernel would fill
OFF_CENTRE = 0.25  # LR pixels
UNLIKE = 0.5  # logarithm of how much likelier the spectrum is under other families than under Gaussians
DOUBT = 0.2  # standard deviation of the logarithm of the variances
BORDER = 0.08  # share of the mass
FALLING = 0.95  # the loss at the end over the loss in the middle, at most, where it still falls
UNEXPLAINED = 0.01  # mean squared error over the variance of y: 1 % is about 33 dB
FEWEST = 10  # rows of a trace that tell a plateau


def flags_of(
    estimate: Estimate, problem: Problem, truth: Truth | None, trace: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The flags of an estimate, in the order of ``FLAGS``; empty where nothing looks wrong.

    Args:
        estimate, problem, truth: of the image; of the truth only a known kernel counts, and only to excuse.
        trace: rows of step and loss, from the first to the last step.
    """
    found = kernel_flags(estimate.kernel, problem)
    if truth is not None and truth.kernel is not None:
        excused = kernel_flags(truth.kernel, problem)
        found = [flag for flag in found if flag not in excused]
    found += posterior_flags(estimate, problem)
    losses = [float(row["loss"]) for row in trace if row.get("loss") is not None]
    if (
        estimate.image is not None
        and stopped_falling(losses)
        and not _explains(estimate.image, estimate.kernel, problem)
    ):
        found.append("plateau")
    return found


def posterior_flags(estimate: Estimate, problem: Problem) -> list[str]:
    """The flags of an estimate that is of a posterior over kernels; ``family`` of one over Gaussians only.

    How often they are wrong is measured by experiments/family_rates.py.
    """
    if estimate.doubt is None:
        return []
    found = ["ambiguous"] if estimate.doubt.size > DOUBT else []
    # JPEG takes from a spectrum what motion and defocus would.
    if not estimate.doubt.gaussian or was_jpeg(problem.lr):
        return found
    return [*found, "family"] if against_gaussians(problem) > UNLIKE else found


def kernel_flags(kernel: Tensor, problem: Problem) -> list[str]:
    """The flags of a kernel (1, 1, K, K) alone; negatives count as zero."""
    mass = kernel.detach().cpu().double().clamp(min=0)
    if not mass.sum() > 0:
        return ["collapsed"]
    mass, size = kernels.normalise(mass), mass.shape[-1]
    found = []
    point = (4 * F.avg_pool2d(mass, 2, stride=1)).max().item()
    filled = 1 / (mass.square().sum().item() * size**2)
    if point > POINT or filled > FLAT:
        found.append("collapsed")
    offset = kernels.centroid(mass)[0] - kernels.centre(problem.centre, size, problem.scale)
    if offset.norm().item() > OFF_CENTRE * problem.scale:
        found.append("off-centre")
    if 1 - mass[..., 1:-1, 1:-1].sum().item() > BORDER:
        found.append("border")
    return found


def stopped_falling(losses: Sequence[float]) -> bool:
    """Whether the last tenth of a trace is hardly below the tenth after its middle, by medians.

    FKP and DKP change their loss on the way, from 1 - SSIM to a mean squared error. Where that fall, to less than half
    from one row to the next, is after the middle, the rows after it are compared, if enough are left.
    """
    if len(losses) < FEWEST:
        return False
    start, tenth = len(losses) // 2, len(losses) // 10
    changes = [row for row in range(start + 1, len(losses)) if losses[row] < losses[row - 1] / 2]
    if changes:
        start, tenth = changes[-1], (len(losses) - changes[-1]) // 3
        if len(losses) - start < FEWEST:
            return False
    end = len(losses) - tenth
    return statistics.median(losses[end:]) > FALLING * statistics.median(losses[start : start + tenth])


def _explains(image: Tensor, kernel: Tensor, problem: Problem) -> bool:
    """Whether what is left of y is small beside y, or beside its noise: a loss that rests there has converged."""
    y = problem.lr.detach().cpu().double()
    rest = (degrade(image.cpu().double(), kernel.cpu().double(), problem.scale) - y).square().mean().item()
    noise = problem.noise_std**2 + EIGHT_BITS**2
    return rest < max(UNEXPLAINED * y.var(correction=0).item(), 2 * noise)
