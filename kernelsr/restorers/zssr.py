"""ZSSR: a small network trained on the LR image alone, with a given kernel, and then turned on that image itself.

Inside, images lie on bicubic's grid (see enlarge.py): flipped and turned there, a degraded image stays one of that grid. The
image goes to the grid of the problem's convention at the end, as each father does before it is degraded.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from kernelsr import kernels
from kernelsr.degradation import data_step, degrade
from kernelsr.enlarge import bicubic, in_tiles, settled
from kernelsr.learner import Restorer, initialised_from
from kernelsr.problem import EIGHT_BITS, Problem
from kernelsr.symmetries import TURNS, framed, turned, turned_back

ALIKE = 0.1
"""The share of a kernel's mass that may move in a turn which is counted among its symmetries."""
LOOK, WINDOW, RATIO, LEAST = 50, 5, 1.5, 0.009
"""Of the plateau: steps between looks at the error, looks of the fitted line, and how many slopes must be less than the
slope's standard deviation; the share of the first rate below which training ends. The released code's numbers."""
TILE = 256


class Zssr(Restorer):
    """The image by a network that learned, from y and y degraded once more, to undo the kernel; Shocher et al. (2018).

    The pairs are crops of y, flipped and turned (the HR fathers), and those degraded by the kernel as it is (the LR sons).
    The network learns what the sons' bicubic enlargement lacks. What it then makes of y is averaged over the symmetries of
    the kernel and held to y by the closed-form data step.

    A call trains, and returns the image without a gradient; the first one makes ``steps`` steps and later ones, in a loop
    where the kernel moves, ``again``. Kernels from a flow do not sum to one; they are divided by their sum.

    Args:
        steps: of the first training, at most; it ends earlier where the error rests at the smallest rate.
        again: steps of later calls.
        crop: side of the fathers' crops, LR pixels; no more than half of y's, so that crops differ.
        lr: Adam's first step. It is divided by ten where the reconstruction error rests, and for the end of ``steps``.
        noise_std: of the noise on the sons, on the [0, 1] scale; None takes the problem's.
        width, layers: of the network.
        ensemble: average over the kernel's symmetries; otherwise y is enlarged as it is only.
        project: hold the image to y; otherwise it is the network's.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        steps: int = 1500,
        again: int = 10,
        crop: int = 48,
        lr: float = 1e-3,
        noise_std: float | None = None,
        width: int = 64,
        layers: int = 8,
        ensemble: bool = True,
        project: bool = True,
    ):
        super().__init__()
        for name, value, least in (("steps", steps, 1), ("again", again, 0), ("crop", crop, 1), ("layers", layers, 2)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        self.noise_std = problem.noise_std if noise_std is None else noise_std
        if self.noise_std < 0:
            raise ValueError(f"noise_std is {noise_std}; it is a standard deviation on the [0, 1] scale, or null")
        self.problem, self.rng = problem, rng
        self.steps, self.again, self.crop, self.rate = steps, again, crop, lr
        self.ensemble, self.project = ensemble, project
        self.reach = layers
        with initialised_from(rng):
            network = _network(problem.lr.shape[1], width, layers)
        # Channels last is the layout of the fast convolutions; results differ by rounding only.
        self.network = network.to(problem.lr).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Its own, and not the solver's: to a solver this is a frozen network, for what it learns is not the solver's loss.
        self.adam = torch.optim.Adam(self.network.parameters(), lr, fused=True)
        self.network.requires_grad_(False)
        self.trained = False
        # How far a pixel of an enlarged son looks into its father, in whole LR pixels.
        self.margin = (-(-(problem.kernel_size // 2) // problem.scale) + 3) * problem.scale

    def forward(self, kernel: Tensor) -> Tensor:
        kernel = kernels.normalise(kernel.detach())
        height, width = self.problem.lr.shape[-2:]
        whole = self._pair(self.problem.lr, kernel, (0, 0), (height, width))
        self.network.requires_grad_(True)
        with torch.enable_grad():
            self._train(kernel, whole, self.again if self.trained else self.steps)
        self.network.requires_grad_(False)
        self.trained = True
        return self._image(kernel, self._error(whole))

    def _train(self, kernel: Tensor, whole: tuple[Tensor, Tensor], steps: int) -> None:
        """Steps on the mean absolute error of random crops."""
        drops, errors = 0, []
        for step in range(steps):
            # A small budget may end before the plateau; then the rate falls for its last quarter and eighth.
            ending = (step >= steps * 3 / 4) + (step >= steps * 7 / 8)
            for group in self.adam.param_groups:
                group["lr"] = self.rate * 0.1 ** max(drops, ending)
            large, father = self._drawn(kernel)
            loss = (self._enhanced(large) - father).abs().mean()
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
            if (step + 1) % LOOK == 0:
                errors.append(self._error(whole).item())
                if rests(errors[-WINDOW:]):
                    drops, errors = drops + 1, []
                if 0.1**drops < LEAST:
                    break
        self.adam.zero_grad()

    def _drawn(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """A random pair: y turned, then cut, then degraded."""
        father = turned(self.problem.lr, self._below(TURNS))
        height, width = father.shape[-2:]
        size = min(self.crop, -(-height // 2)), min(self.crop, -(-width // 2))
        return self._pair(father, kernel, (self._below(height - size[0] + 1), self._below(width - size[1] + 1)), size)

    def _below(self, end: int) -> int:
        return int(torch.randint(end, (), generator=self.rng))

    def _pair(
        self, father: Tensor, kernel: Tensor, first: tuple[int, int], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """A son's bicubic enlargement, and its father, (1, C, *size): the father's pixels from ``first`` on.

        The father is thought circular, as the degradation does. Its crop begins anywhere, and with it the grid of the pixels
        that decimation keeps; so a small image has sons enough.
        """
        scale, margin, pieces = self.problem.scale, self.margin, father
        for dim, begin, length in zip((-2, -1), first, size, strict=True):
            wide = -(-length // scale) * scale + 2 * margin
            place = torch.arange(begin - margin, begin - margin + wide, device=father.device) % father.shape[dim]
            pieces = pieces.index_select(dim, place)
        son = degrade(settled(pieces, self.problem), kernel, scale)
        if self.noise_std:
            son = son + self.noise_std * torch.randn(son.shape, generator=self.rng).to(son)
        inside = (..., slice(margin, margin + size[0]), slice(margin, margin + size[1]))
        return bicubic(son, scale)[inside], pieces[inside]

    def _enhanced(self, large: Tensor) -> Tensor:
        return large + self.network(large)

    @torch.no_grad()
    def _error(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        """The reconstruction error: mean squared, of y made of its own son."""
        large, father = pair
        return (in_tiles(self._enhanced, large, tile=TILE, halo=self.reach) - father).square().mean()

    @torch.no_grad()
    def _image(self, kernel: Tensor, error: Tensor) -> Tensor:
        """The median over the kernel's symmetries, then the mean of x given y, where x is Gaussian about that median.

        Args:
            error: the variance of x about it, as y's about its reconstruction.
        """
        lr, scale = self.problem.lr, self.problem.scale
        turns = symmetries(kernel, self.problem) if self.ensemble else [0]
        enlarged = (
            in_tiles(self._enhanced, bicubic(turned(lr, turn), scale), tile=TILE, halo=self.reach) for turn in turns
        )
        answers = torch.stack([turned_back(image, turn) for image, turn in zip(enlarged, turns, strict=True)])
        middle = answers.sort(0).values[(len(answers) - 1) // 2 : len(answers) // 2 + 1].mean(0)
        image = settled(middle, self.problem)
        if not self.project:
            return image
        weight = max(self.noise_std, EIGHT_BITS) ** 2 / error
        return data_step(image, lr, kernel, scale, weight)


def _network(colours: int, width: int, layers: int) -> nn.Sequential:
    """Convolutions of 3x3 pixels without biases; its first answer is nearly zero, as a residual's should be."""
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise([colours, *[width] * (layers - 1), colours]):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        parts += [convolution, nn.ReLU()]
    with torch.no_grad():
        convolution.weight *= 0.1
    return nn.Sequential(*parts[:-1])


def rests(errors: list[float]) -> bool:
    """Whether the line through the last errors may be level: 1.5 slopes are no more than the slope's standard deviation."""
    if len(errors) < WINDOW:
        return False
    error = torch.tensor(errors, dtype=torch.float64)
    time = torch.arange(len(errors), dtype=torch.float64)
    time, error = time - time.mean(), error - error.mean()
    spread = time.square().sum()
    slope = (time * error).sum() / spread
    std = ((error - slope * time).square().sum() / (len(errors) - 2) / spread).sqrt()
    return bool(-RATIO * slope <= std)


def symmetries(kernel: Tensor, problem: Problem) -> list[int]:
    """The turns that leave a kernel (1, 1, K, K) of sum 1 about as it is: the network has learned to undo this one only."""
    frame = framed(kernel, problem)
    return [turn for turn in range(TURNS) if (turned(frame, turn) - frame).abs().sum() <= 2 * ALIKE]
