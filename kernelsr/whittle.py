"""What an image's periodogram says of its blur: a photograph's power law, a blur and noise; the likeliest Gaussian blur.

Frequencies are in cycles an HR pixel, (row, column); an image's spectrum is the expectation of its periodogram.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor

from kernelsr.beliefs import covariance_of
from kernelsr.problem import EIGHT_BITS

SHAPE, NOISE = slice(5, 8), 8  # where the unknowns of the kernel stand after those of the image, and that of the noise
REACH = 7.0  # how many spreads an unknown may lie from its mean
NEAR = 1e-4  # spreads between which a gradient is taken to be straight


PHOTOGRAPHS = {
    "level": (-4.0, 3.0),
    "slope": (-2.8, 0.55),
    "cos2": (0.0, 0.8),
    "sin2": (0.0, 0.65),
    "cos4": (0.2, 0.55),
}
"""Mean and spread over photographs of log S(f) = level + slope log |10 f| + cos2 cos 2t + sin2 sin 2t + cos4 cos 4t.

t is the angle of f. Rounded from experiments/measure_spectra.py; but the level, which is that of waves of ten pixels, may be
anything, and no direction is preferred to the one across it.
"""


class Spectrum:
    """The periodogram of an image y (h, w), and the frequencies of the photograph that each of its own is made of.

    ``power`` (F,) at the frequencies of half a plane, ``share`` (F,) how much each counts, ``quiet`` what it falls to.
    ``down``, ``right`` (F, s^2) are the aliases' frequencies, ``aliases`` (F, s^2) their places in a transform of HR windows,
    whose sides are ``sides``; ``photograph`` (F, s^2, 5) is what the logarithm of S is linear in.

    Raises:
        ValueError: the window is too small for a spectrum.
    """

    def __init__(self, grey: Tensor, scale: int, window: int):
        if window < 8:
            raise ValueError(f"window is {window}; a spectrum needs at least 8 LR pixels a side (32 is the default)")
        power = periodogram(grey, window)
        height, width = power.shape
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        across = [torch.minimum(index, side - index) for index, side in ((rows, height), (columns, width))]
        # Hann's window mixes neighbours, which the steep rise towards DC does not bear.
        far = across[0] ** 2 + across[1] ** 2 > 1.5**2
        if not far.any():  # of a few pixels there is nothing else
            far = across[0] + across[1] > 0
        power = power.clamp(min=1e-4 * EIGHT_BITS**2)
        self.quiet = power[far].quantile(0.1)
        # -f has the power of f, so one of them stands for both; at Nyquist's frequency they are the same.
        place = torch.arange(power.numel()).view_as(power)
        other = place.roll((-1, -1), (0, 1)).flip(0, 1)
        far &= place <= other
        share = torch.where(place == other, 1.0, 2.0)[far].double()
        self.power, self.share = power[far], share / share.sum()
        # Frequency f of y is made of (f + i) / s, i = 0, ..., s - 1 along each axis.
        aliases = torch.arange(scale)
        down, right = (index[far][:, None] + aliases * side for index, side in ((rows, height), (columns, width)))
        down, right = (index.flatten(1) for index in torch.broadcast_tensors(down[:, :, None], right[:, None, :]))
        self.sides = scale * height, scale * width
        self.aliases = down * self.sides[1] + right
        self.down, self.right = (
            torch.fft.fftfreq(side, dtype=torch.float64)[index]
            for index, side in ((down, self.sides[0]), (right, self.sides[1]))
        )
        angle, length = 2 * torch.atan2(self.down, self.right), torch.hypot(self.down, self.right)
        features = [torch.ones_like(length), (10 * length).log(), angle.cos(), angle.sin(), (2 * angle).cos()]
        self.photograph = torch.stack(features, 2)


class Whittle(Spectrum):
    """The likelihood of an image's periodogram, Whittle (1953): a sum over frequencies of log M + P / M.

    Args:
        grey: (h, w).
        known: mean and spread of each unknown: five of the photograph, size, stretch, skew, noise.
    """

    def __init__(self, grey: Tensor, scale: int, window: int, known: dict[str, tuple[float, float]]):
        super().__init__(grey, scale, window)
        self.mean, self.spread = torch.tensor(list(known.values()), dtype=torch.float64).unbind(1)
        # The logarithm of |H|^2 is linear in the covariance as that of S is in its unknowns.
        products = torch.stack([self.down**2, 2 * self.down * self.right, self.right**2], 2)
        self.features = torch.cat([self.photograph, -4 * math.pi**2 * products], 2)

    def expected(self, unknowns: Tensor) -> Tensor:
        """M, the periodogram that the unknowns lead to."""
        (down, mixed), (_, right) = covariance_of(unknowns[SHAPE])
        coefficients = torch.cat([unknowns[: SHAPE.start], torch.stack([down, mixed, right])])
        return (self.features @ coefficients).exp().mean(1) + unknowns[NOISE].exp()

    def loss(self, deviation: Tensor, weight: float) -> Tensor:
        """Minus the logarithm of likelihood and knowledge, over ``weight``, of unknowns so many spreads from their means."""
        expected = self.expected(self.mean + self.spread * deviation)
        return self.share @ (expected.log() + self.power / expected) + deviation.square().sum() / (2 * weight)

    def fit(self, weight: float) -> Tensor:
        """The likeliest unknowns, where all frequencies together count as ``weight`` numbers."""

        loss = self._loss_and_slope(weight)
        # What is weak in y's spectrum may be noise or the aliases of a narrow kernel: the likelihood has a summit for each.
        quiet = (self.quiet.log() - self.mean[NOISE]) / self.spread[NOISE]
        summits = [self._climbed(loss, noise) for noise in (0.0, quiet.item())]
        best = min(summits, key=lambda summit: summit.fun)
        return self.mean + self.spread * torch.from_numpy(best.x)

    def _loss_and_slope(self, weight: float) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        """``loss`` and its gradient, by hand: autograd takes five times as long, and the search is most of the fit's time."""
        power, share, mean, spread = (part.numpy() for part in (self.power, self.share, self.mean, self.spread))
        count, aliases, _ = self.features.shape
        # Transposed, so that both products with them below run along memory, which is quicker.
        features = np.ascontiguousarray(self.features.flatten(0, 1).numpy().T)
        average = np.full(aliases, 1 / aliases)

        def loss(deviation: np.ndarray) -> tuple[float, np.ndarray]:
            unknowns = mean + spread * deviation
            covariance, slopes = _covariance_and_slopes(*unknowns[SHAPE])
            noise = math.exp(unknowns[NOISE])
            parts = np.exp(np.concatenate([unknowns[: SHAPE.start], covariance]) @ features).reshape(count, aliases)
            expected = parts @ average + noise
            ratio = power / expected
            rises = share * (1 - ratio) / expected
            total = share @ (np.log(expected) + ratio) + deviation @ deviation / (2 * weight)
            parts *= (rises / aliases)[:, None]
            linear = features @ parts.reshape(-1)
            of_unknowns = [linear[: SHAPE.start], linear[SHAPE.start :] @ slopes, [rises.sum() * noise]]
            return float(total), spread * np.concatenate(of_unknowns) + deviation / weight

        return loss

    def precision(self, unknowns: Tensor, weight: float) -> Tensor:
        """How sharply (3, 3) the likelihood falls off about its summit along SHAPE, the other unknowns following.

        Nowhere less than what is known beforehand does: at a bound of the search it may even rise.
        """

        # Differences of the gradient, which are good to seven digits: autograd's second derivatives take ten times as long.
        slope = self._loss_and_slope(weight)
        deviation = ((unknowns - self.mean) / self.spread).numpy()
        columns = [
            (slope(deviation + step)[1] - slope(deviation - step)[1]) / (2 * NEAR)
            for step in NEAR * np.eye(len(deviation))
        ]
        curvature = weight * torch.from_numpy(np.stack(columns)) / torch.outer(self.spread, self.spread)
        curvature = (curvature + curvature.T) / 2
        # The inverse's block is the covariance of SHAPE whatever the others are.
        values, axes = torch.linalg.eigh(torch.linalg.inv(torch.linalg.inv(curvature)[SHAPE, SHAPE]))
        return (axes * values.clamp(min=self.spread[SHAPE].max() ** -2)) @ axes.T

    def _climbed(self, loss: Callable[[np.ndarray], tuple[float, np.ndarray]], noise: float) -> OptimizeResult:
        start = torch.zeros_like(self.mean)
        start[NOISE] = noise
        start[0] = self.share @ (self.power / self.expected(self.mean + self.spread * start)).log() / self.spread[0]
        start = start.clamp(-REACH, REACH)
        bounds = [(-REACH, REACH)] * len(start)
        # Corrections of twice as many steps as there are unknowns, instead of 10, spare a fifth of the evaluations.
        return minimize(loss, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxcor": 20})


def _covariance_and_slopes(size: float, stretch: float, skew: float) -> tuple[np.ndarray, np.ndarray]:
    """The entries down, mixed, right (3,) of ``covariance_of`` and their derivatives (3, 3) by size, stretch and skew."""
    length = math.hypot(stretch, skew)
    even, odd = math.cosh(length), math.sinh(length) / length if length > 1e-4 else 1.0
    bend = (even - odd) / length**2 if length > 1e-4 else 1 / 3
    covariance = np.array([even + odd * stretch, odd * skew, even - odd * stretch])
    both = stretch * skew * bend
    slopes = np.array(
        [
            [covariance[0], odd * stretch + odd + stretch**2 * bend, odd * skew + both],
            [covariance[1], both, odd + skew**2 * bend],
            [covariance[2], odd * stretch - odd - stretch**2 * bend, odd * skew - both],
        ]
    )
    return math.exp(size) * covariance, math.exp(size) * slopes


def known_noise(noise_std: float) -> tuple[float, float]:
    """Mean and spread of the logarithm of the noise's variance: what the problem states, or the rounding to 8 bits."""
    return 2 * math.log(max(noise_std, EIGHT_BITS)), 2.0


def periodogram(grey: Tensor, window: int) -> Tensor:
    """The mean periodogram of half overlapping windows of an image (h, w), each about its mean; Welch (1967).

    Returns:
        (p, q), the window's sides, or the image's where that is smaller. Of white noise it is the variance.
    """
    height, width = (min(window, side) for side in grey.shape)
    taper = torch.outer(*(torch.hann_window(side, dtype=grey.dtype) for side in (height, width)))
    powers = []
    columns = torch.tensor(_starts(grey.shape[1], width))[:, None] + torch.arange(width)
    for top in _starts(grey.shape[0], height):
        pieces = grey[top : top + height, columns].transpose(0, 1)
        mean = (pieces * taper).sum((1, 2), keepdim=True) / taper.sum()
        spectra = torch.view_as_real(torch.fft.rfft2((pieces - mean) * taper))
        powers.append(spectra.square().sum(3).mean(0))
    half = torch.stack(powers).mean(0) / taper.square().sum()
    # Frequency -f has the power of f.
    rest = half[:, 1 : (width + 1) // 2].roll(-1, 0).flip(0, 1)
    return torch.cat([half, rest], 1)


def _starts(size: int, window: int) -> list[int]:
    """Where windows begin that overlap by half or a little more, the first and the last at the borders."""
    count = math.ceil(2 * (size - window) / window) + 1
    return torch.linspace(0, size - window, count, dtype=torch.float64).round().long().tolist()
