"""The kernel that a trained network reads off the LR image, with how sure it is: no loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from kernelsr import amortised, fusion, patch_features
from kernelsr.beliefs import Belief, Believed, Settled
from kernelsr.colours import grey
from kernelsr.compression import was_jpeg
from kernelsr.crops import informative_windows
from kernelsr.fusion import Witnesses
from kernelsr.priors.spectral import Spectral
from kernelsr.problem import Doubt, Problem

LOUD = 1 / 255
"""Standard deviation of the noise from which on y counts as noisy: each channel's, if it is told, or the geometric mean of
what both witnesses hear of it in grey; experiments/worn.py."""


class Amortised(Believed):
    """A kernel from an amortised posterior over Gaussian kernels; nothing learns afterwards.

    The network looks at the patches with the most texture in all directions, each turned or mirrored another way, and weighs
    what it sees there against the spectral fit of the whole image. Where y has noise or was a JPEG, ``worn``, another network
    does, which was trained for that. ``belief`` is the posterior of the kernel's shape, of HR pixels, ``doubt`` its spread;
    ``noise_std`` is what both witnesses hear of noise in grey, their geometric mean.

    Args:
        network: given whether y has noise or was a JPEG, the network trained for that; ours by default.
        patches: how many are looked at, at most.
        side: of a patch, LR pixels.
        caution: by how many of its spreads the kernel is smaller than the posterior's mean. Too wide a kernel costs the
            image more than too narrow a one, so that the mean is not what costs least.
        weight: of the penalty that holds a loop to the belief.
        settled: the spread of the size's logarithm up to which the kernel is settled, so that no loop begins there, or such
            spreads by scale.

    Raises:
        ValueError: no patch or too small a one, a negative weight or spread, or a scale that the network was not trained for.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        network: Callable[[bool], amortised.PosteriorNetwork] = amortised.bundled,
        patches: int = 8,
        side: int = 64,
        caution: float = 0.25,
        weight: float = 0.0,
        settled: Settled = 0.0,
    ):
        super().__init__()
        if patches < 1 or side < 16:
            raise ValueError(f"patches is {patches} and side {side}; it takes one patch of 16 LR pixels at least")
        fit = Spectral(problem, rng)
        self.worn = problem.noise_std > LOUD or was_jpeg(problem.lr)
        trained = network(self.worn).to(problem.lr.device)
        said = witnesses(problem, fit, trained, patches, side)
        if not self.worn and said.noise_std > LOUD:
            self.worn, trained = True, network(True).to(problem.lr.device)
            said = witnesses(problem, fit, trained, patches, side)
        with torch.no_grad():
            belief = trained.fusion(said)
        # The network counts in LR pixels.
        belief = Belief(*(part.double().cpu() for part in belief))
        belief = belief._replace(mean=belief.mean + _enlarged(problem.scale))
        self.doubt = Doubt(belief.spread()[0, 0].item(), gaussian=True)
        self.noise_std = said.noise_std
        smaller = torch.tensor([caution * self.doubt.size, 0, 0], dtype=torch.float64)
        self.believe(belief, problem, weight, belief.mean[0] - smaller, settled)


@torch.no_grad()
def witnesses(
    problem: Problem, fit: Spectral, network: amortised.PosteriorNetwork, patches: int = 8, side: int = 64
) -> Witnesses:
    """What the network's fusion hears of one image: the network, and the spectral fit."""
    image = grey(problem.lr.detach().float())
    windows = informative_windows(image, side, patches)
    scale = torch.tensor([problem.scale], device=image.device)
    read, noise = amortised.infer(network, windows, problem.scale, patches)
    before = amortised.known(scale)
    # All that the fit is surer of than what it knew beforehand.
    values, axes = torch.linalg.eigh(fit.belief.precision - torch.diag(fit.before))
    told = amortised.Evidence(
        (fit.belief.mean - _enlarged(problem.scale)).to(image),
        (axes @ torch.diag_embed(values.clamp(min=0)) @ axes.mT).to(image),
        torch.zeros(1),
    )
    numbers = len(windows) / 8, image.numel() / 1e4, noise / fusion.NOISE_UNIT, fit.noise_std / fusion.NOISE_UNIT
    facts = image.new_tensor([[*map(math.log, numbers), fit.slope + 2.8]])
    seen = patch_features.seen(image) * (min(image.shape[-2:]) >= patch_features.SMALLEST)
    return Witnesses(scale, before, read, amortised.combined(before, told), facts, seen)


def _enlarged(scale: int) -> torch.Tensor:
    """What a shape gains from LR to HR pixels."""
    return torch.tensor([2 * math.log(scale), 0, 0], dtype=torch.float64)
