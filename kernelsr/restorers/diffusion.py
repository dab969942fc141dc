"""Diff-DKP's image: the reverse steps of a diffusion, each held to the LR image by the closed-form data step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kernelsr import denoisers, kernels
from kernelsr.colours import from_threes, in_threes
from kernelsr.degradation import data_step
from kernelsr.denoisers.schedule import noise_levels, respaced
from kernelsr.learner import Restorer
from kernelsr.problem import EIGHT_BITS, Problem

LEAST_WEIGHT = 1e-10
"""In place of zero in the data step: waves that the kernel takes out altogether stay the denoiser's."""


class Diffusion(Restorer):
    """The image as a sample of a diffusion, given y and the kernel; Yang et al. (2024), after DDNM, Wang et al. (2023).

    One call is one reverse step. The denoiser guesses the clean image x0 behind clean + sigma * noise; of all images, the one
    nearest to the guess that explains y takes its place; and noise of the next, smaller level is put on it. That
    data-consistent x0 is what a call returns; after the last step, it stays. Nothing is learned.

    Kernels from a flow do not sum to one, and since the mean colour of y is that of x by the model, the kernel is divided by
    its sum. A network that knows colour images only sees other channels in groups of three.

    Args:
        denoiser: makes the frozen denoiser; ours by default.
        steps: reverse steps, respaced from DDPM's 1000.
        eta: the share of fresh noise in each step: 1 is DDPM's ancestral sampling, 0 is DDIM's deterministic one.
        noise_std: of y on the [0, 1] scale; None takes the problem's, but at least that of 8 bits. With 0 the image explains
            y to rounding. More than there is leaves more of the guess in the image, from which a kernel can learn that it
            is wrong: an image that explains y with a kernel has nothing to say against it.
        weight: of the guess in the data step, the same at each step; None follows from the noise.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        denoiser: Callable[[], nn.Module] = denoisers.load,
        steps: int = 100,
        eta: float = 1.0,
        noise_std: float | None = None,
        weight: float | None = None,
    ):
        super().__init__()
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is {eta}; it is the share of fresh noise, from 0 to 1")
        if noise_std is not None and noise_std < 0:
            raise ValueError(f"noise_std is {noise_std}; it must be positive, 0, or null for the problem's")
        self.levels = [*noise_levels()[respaced(steps)].tolist(), 0.0]
        self.calls, self.eta, self.rng = steps, eta, rng
        self.scale, self.channels = problem.scale, problem.lr.shape[1]
        self.noise_std = max(problem.noise_std, EIGHT_BITS) if noise_std is None else noise_std
        self.weight = weight
        self.done = 0
        # Channels last is the layout of the fast convolutions; results differ by rounding only.
        self.denoiser = denoiser().to(problem.lr).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.denoiser.eval().requires_grad_(False)
        groups = in_threes(problem.lr)
        self.register_buffer("lr", groups)
        # At the last time DDPM's x_t is pure noise of unit variance.
        start = (1 + self.levels[0] ** 2) ** 0.5
        self.register_buffer("noisy", start * self._noise((len(groups), 3, *problem.hr_size)).to(groups))
        self.register_buffer("image", problem.lr.new_zeros(1, self.channels, *problem.hr_size))

    @torch.no_grad()
    def forward(self, kernel: Tensor) -> Tensor:
        if self.done < self.calls:
            sigma, following = self.levels[self.done : self.done + 2]
            guess = (self._denoised(sigma) + 1) / 2
            clean = self._consistent(guess, kernels.normalise(kernel), sigma)
            self._renoise(2 * clean - 1, sigma, following)
            self.image = from_threes(clean, self.channels)
            self.done += 1
        return self.get_buffer("image")

    def _denoised(self, sigma: float) -> Tensor:
        """The denoiser's guess at the clean image, on [-1, 1]. The border is mirrored up to a size that suits it."""
        noisy = self.get_buffer("noisy")
        height, width = noisy.shape[-2:]
        multiple = int(self.denoiser.multiple)
        down, right = (_mirrored(side, multiple, noisy.device) for side in (height, width))
        level = noisy.new_full((1, 1, 1, 1), sigma)
        # One group after the other: two hundred channels at once would need the memory of seventy images.
        groups = noisy[..., down, :][..., right].split(1)
        guesses = torch.cat([self.denoiser(group, level) for group in groups])
        return guesses[..., :height, :width].clamp(-1, 1)

    def _consistent(self, guess: Tensor, kernel: Tensor, sigma: float) -> Tensor:
        """The mean of x given y, where x is Gaussian about the guess: the less certain, the higher the noise was."""
        spread = sigma / (2 * (1 + sigma**2) ** 0.5)
        weight = max((self.noise_std / spread) ** 2 if self.weight is None else self.weight, LEAST_WEIGHT)
        # In double precision, as a wide kernel leaves little of the finest waves to divide by.
        lr = self.get_buffer("lr").double()
        return data_step(guess.double(), lr, kernel.double(), self.scale, weight).to(guess)

    def _renoise(self, clean: Tensor, sigma: float, following: float) -> None:
        """Noise of the following level on the clean image, part the old noise, part fresh; Song et al. (2021), eq. 12."""
        noisy = self.get_buffer("noisy")
        fresh = self.eta * following * (1 - (following / sigma) ** 2) ** 0.5
        kept = (following**2 - fresh**2) ** 0.5
        new = self._noise(noisy.shape).to(noisy)
        self.noisy = clean + kept / sigma * (noisy - clean) + fresh * new

    def _noise(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.rng)


def _mirrored(side: int, multiple: int, device: torch.device) -> Tensor:
    """Pixels 0, ..., side-1, side-2, ... up to the next multiple; mirrored at either end as often as needed."""
    there = torch.arange(-(-side // multiple) * multiple, device=device) % (2 * side - 2)
    return torch.minimum(there, 2 * side - 2 - there)
