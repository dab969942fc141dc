"""KernelGAN's generator: a kernel as the product of a deep linear network's layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernelsr import kernels
from kernelsr.learner import KernelPrior, initialised_from
from kernelsr.problem import Problem

LAYERS = (7, 5, 3, 1, 1, 1)
SIZE = sum(LAYERS) - len(LAYERS) + 1
SUM_WEIGHT, BOUNDARY_WEIGHT = 0.5, 0.5
# Of likeness to bicubic, centre and sparsity: each row holds 200 moves, the last one ever after.
WEIGHTS = ((5.0, 0.0, 0.0), (5e-2, 0.0, 0.0), (5e-4, 1.0, 5.0), (5e-6, 1.0, 5.0))


class DeepLinear(KernelPrior):
    """A deep linear network, whose layers collapse into one kernel; KernelGAN, Bell-Kligler et al. (2019), section 4.

    Convolutions of 7, 5, 3, 1, 1 and 1 pixels without bias or activation, the last with the scale as its stride: together a
    13x13 kernel and a decimation. Only the kernel is made here; applied to an image it does what the layers do. Its sum
    and its place are free, and the penalty holds them: unit sum, no weight at the boundary, few values, the
    convention's centre, and at first likeness to bicubic downscaling.

    Args:
        lr: Adam's step (beta1 0.5).
        decay_every: moves after which the step is divided by 10.
        channels: width of the network.
        start: the step from which the layers move.
    """

    fit_lr = 2e-3

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        lr: float = 2e-4,
        decay_every: int = 750,
        channels: int = 64,
        start: int = 0,
    ):
        super().__init__()
        for name, value in (("channels", channels), ("decay_every", decay_every)):
            if value < 1:
                raise ValueError(f"{name} is {value}; prior=deep_linear needs at least 1")
        if problem.scale > 3:
            raise ValueError(
                f"prior=deep_linear makes {SIZE}x{SIZE} kernels, too small for scale={problem.scale} in one pass; "
                f"choose scale=2, 3, 4 or 8"
            )
        self.size, self.scale, self.start = problem.kernel_size, problem.scale, start
        widths = (1, *[channels] * (len(LAYERS) - 1), 1)
        shapes = [(after, before, side, side) for before, after, side in zip(widths, widths[1:], LAYERS, strict=False)]
        with initialised_from(rng):
            layers = [nn.init.xavier_normal_(torch.empty(shape), 0.1) for shape in shapes]
        self.layers = nn.ParameterList(layer.to(problem.lr) for layer in layers)
        self.optimizer = torch.optim.Adam(self.parameters(), lr, betas=(0.5, 0.999), fused=True)
        self.slower = torch.optim.lr_scheduler.StepLR(self.optimizer, decay_every)
        self.middle = kernels.centre(problem.centre, SIZE, problem.scale)
        self.register_buffer("boundary", boundary_mask().to(problem.lr))
        self.register_buffer("bicubic", bicubic_kernel(self.middle, problem.scale).to(problem.lr))
        # In [-1, 1] as the paper's images, so that a wrong sum counts too. A part is as good as a whole large photograph.
        self.register_buffer("image", 2 * _middle_of(problem.lr, 256).transpose(0, 1) - 1)
        self.moves, self.stage = 0, 0
        self.unlike: Tensor | None = None

    def forward(self) -> Tensor:
        return kernels.pad_to(collapsed(list(self.layers)), self.size)

    def penalty(self, kernel: Tensor) -> Tensor:
        """KernelGAN's constraints, by their weights at this stage; Bell-Kligler et al. (2019), section 4.2."""
        kernel = kernels.pad_to(kernel, SIZE)
        weight, centre, sparse = WEIGHTS[self.stage]
        image, bicubic = self.get_buffer("image"), self.get_buffer("bicubic")
        unlike = F.conv2d(image, kernel - bicubic, stride=self.scale).square().mean()
        self.unlike = unlike.detach()
        loss = weight * unlike + SUM_WEIGHT * (kernel.sum() - 1).abs()
        loss = loss + BOUNDARY_WEIGHT * (kernel * self.get_buffer("boundary")).abs().mean()
        if centre or sparse:
            # 1e-8 keeps the power's derivative finite at 0.
            loss = loss + sparse * ((kernel.abs() + 1e-8) ** 0.2).mean()
            loss = loss + centre * (kernels.centroid(kernel) - self.middle).square().mean()
        return loss

    def move(self) -> None:
        super().move()
        self.slower.step()
        self.moves += 1
        # The likeness to bicubic lets go once it is reached, below 0.4; then step by step.
        reached = self.moves % 200 == 0 and (self.stage or (self.unlike is not None and self.unlike < 0.4))
        if reached and self.stage + 1 < len(WEIGHTS):
            self.stage += 1


def collapsed(layers: list[Tensor]) -> Tensor:
    """The one kernel (1, 1, K, K) of convolutions (out, in, k, k) in a row: what their adjoint makes of one pixel."""
    kernel = layers[-1]
    for layer in reversed(layers[:-1]):
        kernel = F.conv_transpose2d(kernel, layer)
    return kernel


def bicubic_kernel(middle: float, scale: int) -> Tensor:
    """The kernel (1, 1, 13, 13) of antialiased bicubic downscaling (Keys, a = -1/2) with its centre at ``middle``."""
    x = (torch.arange(SIZE, dtype=torch.float64) - middle).abs() / scale
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    line = torch.where(x <= 1, near, torch.where(x < 2, far, 0))
    return kernels.normalise(torch.outer(line, line)[None, None])


def boundary_mask() -> Tensor:
    """What weight at the boundary costs, (1, 1, 13, 13): 30 (1 - a Gaussian of std 13) on the two outer rings, else 0."""
    place = torch.arange(SIZE, dtype=torch.float64) - SIZE // 2
    profile = torch.exp(-(place**2) / (2 * SIZE**2))
    mask = 30 * (1 - torch.outer(profile, profile))
    mask[2:-2, 2:-2] = 0
    return mask[None, None]


def _middle_of(image: Tensor, side: int) -> Tensor:
    """At most ``side`` pixels a side of an image, from its middle."""
    top, left = (max(size - side, 0) // 2 for size in image.shape[-2:])
    return image[..., top : top + side, left : left + side]
