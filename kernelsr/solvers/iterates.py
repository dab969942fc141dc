"""What a loop makes of its iterates: their mean, and when it may end."""

from __future__ import annotations

import torch
from torch import Tensor

SPAN = 20
"""Steps over which a kernel is averaged before it is asked whether it stands still: from one to the next it always jumps."""


class Late:
    """The mean of iterates in which late ones count more, without keeping them; Shamir and Zhang (2013).

    Iterate t counts as t^(2/a - 2) does, so that the mean is as old as that of the last share a of all, wherever it ends.
    """

    def __init__(self, average: float):
        if not 0 <= average <= 1:
            raise ValueError(f"average is {average}; it is a share of the steps, from 0 to 1")
        self.average, self.count = average, 0
        self.mean: tuple[Tensor, ...] = ()

    def add(self, *values: Tensor) -> None:
        """The next iterate, whose tensors may be overwritten afterwards."""
        self.count += 1
        if not (self.average and self.mean):
            self.mean = tuple(value.clone() for value in values)
            return
        # (p + 1) / (p + t) for the power p = 2/a - 2, multiplied by a
        share = (2 - self.average) / (2 + (self.count - 2) * self.average)
        self.mean = tuple(torch.lerp(old, new, share) for old, new in zip(self.mean, values, strict=True))


class Standing:
    """Whether a kernel stands still. While its prior rests, or gathers gradients, that it does not move tells nothing.

    Args:
        still: the share of its mass that it may move from one mean over SPAN steps to the next.
    """

    def __init__(self, still: float):
        if still < 0:
            raise ValueError(f"still is {still}; it is a share of the kernel's mass, or 0 for never")
        self.still = still
        self.before: Tensor | None = None
        self._begin()

    def _begin(self) -> None:
        self.total, self.count, self.moved = torch.zeros(()), 0, False

    def still_at(self, kernel: Tensor, moves: bool) -> bool:
        """The next kernel, and whether its prior moves in this step."""
        if not self.still:
            return False
        self.total, self.count, self.moved = kernel + self.total, self.count + 1, self.moved or moves
        if self.count < SPAN:
            return False
        mean, before = self.total / SPAN, self.before
        self.before = mean if self.moved else None
        self._begin()
        return (
            before is not None
            and self.before is not None
            and bool((mean - before).abs().sum() < 2 * self.still * mean.abs().sum())
        )
