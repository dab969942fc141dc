"""Adversaries: networks that learn to tell an image's own patches from patches of that image degraded once more.

They judge patches (n, C, h, w) in [-1, 1], and are the other player of ``solvers.adversarial``.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from kernelsr.learner import Learner, initialised_from
from kernelsr.losses import gradient_penalty
from kernelsr.problem import Problem


class Adversary(Learner):
    """A fully convolutional judge of patches: each value of its map says how real ``patch`` x ``patch`` pixels look.

    Constructors take ``(problem, rng, patch, *, own settings)``, patch odd.
    """

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """The map (n, 1, h - patch + 1, w - patch + 1) of images (n, C, h, w)."""

    @abstractmethod
    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the adversary descends, a scalar; both (n, C, h, w)."""

    @abstractmethod
    def exposure(self, fake: Tensor) -> Tensor:
        """What the kernel descends, a scalar: how well the adversary sees that these are fake."""


class Discriminator(Adversary):
    """KernelGAN's: one convolution that sees the patch, then 1x1 ones; labels 1 and 0, L1 loss.

    Bell-Kligler et al. (2019), section 3 and released settings: 64 channels, spectral norm on every layer, batch norm and
    ReLU on the 1x1 ones, a sigmoid at the end. Biases that batch norm takes out again are left out.

    Args:
        lr: Adam's step (beta1 0.5).
        decay_every: moves after which the step is divided by 10.
        depth: number of convolutions, at least 2.
        noise: standard deviation of the noise on all that it sees, on the [-1, 1] scale.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        patch: int = 7,
        *,
        lr: float = 2e-4,
        channels: int = 64,
        depth: int = 7,
        decay_every: int = 750,
        noise: float = 2 / 255,
    ):
        super().__init__()
        for name, value, least in (("channels", channels, 1), ("depth", depth, 2), ("decay_every", decay_every, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; the discriminator needs at least {least}")
        self.rng, self.noise = rng, noise
        with initialised_from(rng):
            layers: list[nn.Module] = [spectral_norm(nn.Conv2d(problem.lr.shape[1], channels, patch, bias=False))]
            for _ in range(depth - 2):
                layers += [
                    spectral_norm(nn.Conv2d(channels, channels, 1, bias=False)),
                    _batch_norm(channels),
                    nn.ReLU(),
                ]
            layers += [spectral_norm(nn.Conv2d(channels, 1, 1)), nn.Sigmoid()]
        self.layers = nn.Sequential(*layers).to(problem.lr)
        self.optimizer = torch.optim.Adam(self.parameters(), lr, betas=(0.5, 0.999), fused=True)
        self.slower = torch.optim.lr_scheduler.StepLR(self.optimizer, decay_every)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return ((1 - self(self._noisy(real))).mean() + self(self._noisy(fake)).mean()) / 2

    def exposure(self, fake: Tensor) -> Tensor:
        # With the noise that it is trained with. Without, batch norm enlarges the contrast of the generator's first images,
        # which is 1e-8, to that of photographs, and a gradient 1e8 times the constraints' drowns them for hundreds of steps.
        return (1 - self(self._noisy(fake))).mean()

    def move(self) -> None:
        super().move()
        self.slower.step()

    def _noisy(self, images: Tensor) -> Tensor:
        return images + self.noise * torch.randn(images.shape, generator=self.rng).to(images)


class Critic(Adversary):
    """KernelGAN-FKP's: 3x3 convolutions, trained as a Wasserstein critic with gradient penalty.

    Liang et al. (2021), released settings of section 4.3: 5 layers of 32 channels, batch norm, LeakyReLU 0.2; Gulrajani et
    al. (2017), WGAN-GP, of weight 0.1. There are as many layers as see the patch: 5 for 11 pixels.

    Args:
        lr: Adam's step (beta1 0.5).
        weight: of the gradient penalty.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        patch: int = 11,
        *,
        lr: float = 5e-4,
        channels: int = 32,
        weight: float = 0.1,
    ):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels is {channels}; the critic needs at least 1")
        self.rng, self.weight = rng, weight
        layers: list[nn.Module] = []
        with initialised_from(rng):
            before = problem.lr.shape[1]
            for _ in range(patch // 2 - 1):
                convolution = nn.Conv2d(before, channels, 3, bias=False)
                nn.init.normal_(convolution.weight, 0, 0.02)
                layers += [convolution, _batch_norm(channels), nn.LeakyReLU(0.2)]
                before = channels
            last = nn.Conv2d(before, 1, 3)
            nn.init.normal_(last.weight, 0, 0.02)
        self.layers = nn.Sequential(*layers, last).to(problem.lr)
        self.optimizer = torch.optim.Adam(self.parameters(), lr, betas=(0.5, 0.999), fused=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        share = torch.rand(len(real), 1, 1, 1, generator=self.rng).to(real)
        return self(fake).mean() - self(real).mean() + self.weight * gradient_penalty(self, real, fake, share)

    def exposure(self, fake: Tensor) -> Tensor:
        return -self(fake).mean()


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm by the batch's own statistics always: the game has no other mode."""
    layer = nn.BatchNorm2d(channels, track_running_stats=False)
    nn.init.normal_(layer.weight, 1, 0.02)
    return layer
