"""The Wiener filter of a decimated image: non-blind restoration in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.degradation import fold, transfer
from kernelsr.learner import Restorer
from kernelsr.problem import Problem

WEIGHTS = torch.logspace(-6, 3, 73, dtype=torch.float64)
"""The ratios of noise to image among which the likelihood chooses, an eighth of a decade apart."""


class Wiener(Restorer):
    """The mean of x given y where the image is a Gaussian with a power-law spectrum, c / |f|^slope about its mean colour.

    x = m + S A' (A S A' + w)^-1 (y - A m) with A the circular degradation, S the spectrum without c and w = sigma^2 / c;
    A S A' is circulant on the LR grid, so this is exact and costs a few FFTs. It learns nothing and follows the kernel
    differentiably; w counts as a constant there. Kernels from a flow do not sum to one, and since the mean colour of y is
    that of x by the model, the kernel is divided by its sum; else brightness would be restored too.

    Args:
        noise_std: sigma on the [0, 1] scale, positive (8 bits alone are 0.29/255); None estimates it from y, with c, by
            maximum likelihood.
        slope: of the power spectrum; 2 is the rule for photographs (amplitudes fall like 1/|f|).

    Raises:
        ValueError: noise_std is not positive.
    """

    def __init__(self, problem: Problem, rng: torch.Generator, *, noise_std: float | None = None, slope: float = 2.0):
        super().__init__()
        if noise_std is not None and noise_std <= 0:
            raise ValueError(f"noise_std is {noise_std}; it must be positive, or null to estimate it from the image")
        self.scale, self.noise_std = problem.scale, noise_std
        colour = problem.lr.mean((-2, -1), keepdim=True)
        height, width = problem.hr_size
        down = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
        right = torch.fft.fftfreq(width, dtype=torch.float64)
        # The longest wave of the image in place of DC's infinite one.
        spectrum = (down**2 + right**2 + 1 / (height * width)) ** (-slope / 2)
        self.register_buffer("colour", colour)
        self.register_buffer("lr", problem.lr - colour)
        self.register_buffer("spectrum", spectrum.to(problem.lr))

    def forward(self, kernel: Tensor) -> Tensor:
        spectrum = self.get_buffer("spectrum")
        filters = transfer(kernels.normalise(kernel), *spectrum.shape[-2:])
        lr = torch.fft.fft2(self.get_buffer("lr"))
        expected = fold(filters.abs().square() * spectrum, self.scale)
        gain = expected + self._weight(expected.detach(), lr)
        # The adjoint of decimation repeats the spectrum s*s times, once for each alias.
        spread = (lr / gain).tile(self.scale, self.scale)
        return self.get_buffer("colour") + torch.fft.ifft2(spectrum * filters.conj() * spread).real

    def _weight(self, expected: Tensor, lr: Tensor) -> Tensor:
        """sigma^2 / c of greatest Whittle likelihood: log(c (M + w)) + P / (c (M + w)), summed over all waves but DC.

        Args:
            expected: M, the periodogram of y for c = 1 without noise, (1, 1, h, w).
            lr: the Fourier transform of y, (1, C, h, w).
        """
        model = expected.flatten()[1:]
        power = lr.abs().square().mean(1).flatten()[1:] / lr[0, 0].numel()
        # Relative to the spectrum, so that the range of the search fits every slope.
        weights = WEIGHTS.to(model) * self.get_buffer("spectrum").median()

        def deviance(weight: Tensor) -> Tensor:
            # With sigma unknown, c is the likeliest for this weight.
            level = model + weight
            c = (power / level).mean() if self.noise_std is None else self.noise_std**2 / weight
            return ((c * level).log() + power / (c * level)).mean()

        return weights[torch.stack([deviance(weight) for weight in weights]).argmin()]
