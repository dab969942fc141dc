"""One belief of two: what a network reads off an image's patches, and what the whole image's spectrum says.

Either is too sure of itself, and in its own way: patches of one image are soft together, and no photograph has quite the
spectrum of the model. How far each counts depends on both, and is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kernelsr.beliefs import Belief

HIDDEN = 32
NOISE_UNIT = 0.01  # of what the facts say of the noise
CORRECTION = 0.2  # the order of what is still to be mended after the pooling, in the logarithm of a variance
SHARPEST = 3.0  # by how much in its logarithm a spread is mended at most


class Witnesses(NamedTuple):
    """What is known of the kernels of n images: shapes of covariances in LR pixels squared.

    ``before`` is known beforehand; ``patches`` and ``spectrum`` are the beliefs of who hears one of them besides. ``facts``
    (n, 5) are the logarithms of the number of patches, of the LR pixels, of the noise's deviation by either witness, and the
    slope of the spectrum, all in units that keep them small; ``scale`` (n,); ``seen`` (n,) in [0, 1] is how much there is to
    see at all, 0 for a flat image.
    """

    scale: Tensor
    before: Belief
    patches: Belief
    spectrum: Belief
    facts: Tensor
    seen: Tensor

    @property
    def noise_std(self) -> float:
        """Of one image the geometric mean of what either witness takes the noise's standard deviation for.

        The spectrum may take aliases for noise, and the network what it never saw; seldom both.
        """
        return NOISE_UNIT * self.facts[0, 2:4].mean().exp().item()

    def at(self, rows: Tensor) -> Witnesses:
        """Of some images only, by their numbers (m,)."""
        before, patches, spectrum = (
            Belief(belief.mean[rows], belief.precision[rows]) for belief in (self.before, self.patches, self.spectrum)
        )
        return Witnesses(self.scale[rows], before, patches, spectrum, self.facts[rows], self.seen[rows])


def stacked(parts: Sequence[Witnesses]) -> Witnesses:
    """The witnesses of all images as one."""
    before, patches, spectrum = (
        Belief(torch.cat([belief.mean for belief in beliefs]), torch.cat([belief.precision for belief in beliefs]))
        for beliefs in zip(*((part.before, part.patches, part.spectrum) for part in parts), strict=True)
    )
    scale, facts, seen = (torch.cat(rows) for rows in zip(*((p.scale, p.facts, p.seen) for p in parts), strict=True))
    return Witnesses(scale, before, patches, spectrum, facts, seen)


class Fusion(nn.Module):
    """A logarithmic opinion pool, Genest and Zidek (1986), whose weights a small network chooses.

    The precision is that of what is known beforehand and of both witnesses, each by its weight; the mean follows. The network
    also mends mean and spreads a little. What is turned or mirrored gives what is turned or mirrored, as the network is asked
    four ways.

    Args:
        scales: those it is trained for.
    """

    def __init__(self, scales: Sequence[int]):
        super().__init__()
        self.scales = tuple(scales)
        self.layers = nn.Sequential(nn.Linear(len(self.scales) + 23, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 8))
        self.register_buffer("temper", torch.ones(len(self.scales)))

    def forward(self, said: Witnesses) -> Belief:
        index = (said.scale[:, None] == torch.tensor(self.scales, device=said.scale.device)).float()
        asked, signs = [], []
        for stretch in (1.0, -1.0):
            for skew in (1.0, -1.0):
                sign = said.facts.new_tensor([1.0, stretch, skew])
                signs.append(sign)
                asked.append(self.layers(torch.cat([index, _inputs(said, sign)], 1)))
        answer = torch.stack(asked)
        share, mend, spread = answer.split([2, 3, 3], 2)
        share, spread = share.mean(0), spread.mean(0).clamp(-SHARPEST, SHARPEST)
        mend = (mend * torch.stack(signs)[:, None]).mean(0)
        # Patches by their number's root, and the spectrum by a third, is where the weights begin.
        begin = torch.stack([said.facts[:, 0] / 2, torch.ones_like(said.seen)], 1)
        weights = said.seen[:, None] * (share - begin).exp()
        precision = said.before.precision
        pull = known = torch.einsum("nij,nj->ni", said.before.precision, said.before.mean)
        for weight, witness in zip(weights.T, (said.patches, said.spectrum), strict=True):
            precision = precision + weight[:, None, None] * (witness.precision - said.before.precision)
            told = torch.einsum("nij,nj->ni", witness.precision, witness.mean)
            pull = pull + weight[:, None] * (told - known)
        mean = torch.linalg.solve(precision, pull) + CORRECTION * said.seen[:, None] * mend
        root = torch.linalg.cholesky(precision) * (said.seen[:, None] * spread).exp()[:, None]
        temper = (index @ self.get_buffer("temper")) ** said.seen
        return Belief(mean, temper[:, None, None] * root @ root.mT)


def _inputs(said: Witnesses, sign: Tensor) -> Tensor:
    """The numbers (n, 23) that the network sees, of what is mirrored by ``sign`` (3,)."""
    rows, columns = torch.tril_indices(3, 3, -1)
    numbers = [said.facts]
    for witness in (said.patches, said.spectrum):
        diagonal = witness.precision.diagonal(dim1=1, dim2=2)
        mixed = witness.precision / (diagonal[:, :, None] * diagonal[:, None]).sqrt() * sign[:, None] * sign
        numbers += [(witness.mean - said.before.mean) * sign, diagonal.log() / 3, mixed[:, rows, columns]]
    return torch.cat(numbers, 1)
