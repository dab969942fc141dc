"""How likely an image's periodogram makes each kernel of a pool, whatever family they are of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelsr.whittle import PHOTOGRAPHS, Spectrum, known_noise

TRUST, WINDOW = 1.6, 32
"""y is worth so many independent numbers times the root of its pixels, as the windows of one photograph err alike, and the
side of its windows; experiments/pool_trust.py."""
NOISE = len(PHOTOGRAPHS)  # where the unknown of the noise stands, after those of the photograph
STEPS = 7
LONGEST = 1.5  # of a step, in any unknown
TOGETHER = 128  # kernels


class PoolLikelihood(Spectrum):
    """Whittle's likelihood of each kernel, the photograph and the noise being the likeliest beside this one.

    Args:
        grey: the LR image (h, w).
        pool: kernels (n, 1, K, K).
        noise_std: of the noise, as far as it is known beforehand.

    Raises:
        ValueError: the window is too small for the kernels.
    """

    def __init__(self, grey: Tensor, scale: int, window: int, pool: Tensor, noise_std: float):
        super().__init__(grey, scale, window)
        if pool.shape[-1] > min(self.sides):
            least = -(-pool.shape[-1] // scale)
            raise ValueError(
                f"window is {window}; kernels of {pool.shape[-1]} HR pixels need {least} LR pixels at x{scale}"
            )
        self.pool = pool.float()
        known = [*PHOTOGRAPHS.values(), known_noise(noise_std)]
        self.mean, self.spread = torch.tensor(known).unbind(1)

    def fit(self, weight: float) -> tuple[Tensor, Tensor]:
        """Minus the logarithm (n,) of likelihood and knowledge, and the unknowns (n, 6): the photograph's, the noise's.

        All frequencies together count as ``weight`` numbers. Fisher scoring in single precision, of many kernels at once.
        """
        found = [self._fitted(part, weight) for part in self.pool.split(TOGETHER)]
        losses, unknowns = zip(*found, strict=True)
        return torch.cat(losses), torch.cat(unknowns)

    def _fitted(self, kernels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        power, share, photograph = self.power.float(), self.share.float(), self.photograph.float()
        transfer = torch.fft.fft2(kernels[:, 0], s=self.sides).abs().square().flatten(1)[:, self.aliases]
        # From the noise that is weakest in y's spectrum, and the level that then explains the whole of it.
        unknowns = self.mean.repeat(len(kernels), 1)
        unknowns[:, NOISE] = self.quiet.log()
        aliases, noise = self._expected(unknowns, transfer)
        unknowns[:, 0] += (power / (aliases.mean(2) + noise)).log() @ share
        best, kept = torch.full((len(kernels),), math.inf), unknowns
        for _ in range(STEPS + 1):
            aliases, noise = self._expected(unknowns, transfer)
            expected = aliases.mean(2) + noise
            away = (unknowns - self.mean) / self.spread
            loss = weight * ((expected.log() + power / expected) @ share) + away.square().sum(1) / 2
            better = loss < best
            best, kept = torch.where(better, loss, best), torch.where(better[:, None], unknowns, kept)
            slopes = torch.einsum("nfa,faj->nfj", aliases, photograph) / aliases.shape[2]
            slopes = torch.cat([slopes, noise[:, None].expand(-1, slopes.shape[1], -1)], 2) / expected[:, :, None]
            pull = weight * torch.einsum("nf,nfj->nj", share * (1 - power / expected), slopes) + away / self.spread
            weighed = slopes * share[:, None]
            information = weight * weighed.mT @ slopes + torch.diag(self.spread**-2)
            unknowns = unknowns - torch.linalg.solve(information, pull).clamp(-LONGEST, LONGEST)
        return best, kept

    def _expected(self, unknowns: Tensor, transfer: Tensor) -> tuple[Tensor, Tensor]:
        """The power (n, F, s^2) of the aliases, whose mean is y's, and that (n, 1) of the noise."""
        photograph = torch.einsum("faj,nj->nfa", self.photograph.float(), unknowns[:, :NOISE])
        return photograph.exp_() * transfer, unknowns[:, NOISE:].exp()
