"""Crops of one image: drawn where there is something to see, KernelGAN's data; and the one that tells most of the kernel."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from kernelsr.problem import Problem


def importance(image: Tensor) -> Tensor:
    """Where an image (1, C, h, w) has edges: a map (h, w), not negative; Bell-Kligler et al. (2019), released code.

    The gradient's magnitude, and the 3 % of pixels with the steepest rise along either axis, each term of sum 1, averaged
    over 5x5 pixels. A flat image counts as important everywhere.
    """
    down, right = torch.gradient(image[0].mean(0))
    terms = [torch.hypot(down, right)]
    for slope in (down.abs(), right.abs()):
        steep = slope.flatten().kthvalue(1 + int(0.97 * (slope.numel() - 1))).values
        terms.append((slope - steep).clamp(min=0).sign())
    total = sum(term / term.sum() for term in terms if term.any())
    if not isinstance(total, Tensor):
        return torch.ones_like(down)
    return F.avg_pool2d(total[None, None], 5, stride=1, padding=2)[0, 0]


class Crops:
    """Square crops of an image; the chance of each is the mean importance of its middle half.

    Args:
        image: (1, C, h, w).
        side: of the crops.
        importance: (h, w).
    """

    def __init__(self, image: Tensor, side: int, importance: Tensor):
        self.windows = image[0].unfold(1, side, 1).unfold(2, side, 1)  # (C, rows, columns, side, side), a view
        half = max(side // 2, 1)
        first = (side - half) // 2
        rows, columns = self.windows.shape[1:3]
        chances = F.avg_pool2d(importance[None, None], half, stride=1)[0, 0, first:, first:][:rows, :columns]
        self.steps = chances.double().cpu().flatten().cumsum(0)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n crops (n, C, side, side), with replacement."""
        places = torch.searchsorted(self.steps, self.steps[-1] * torch.rand(n, generator=rng, dtype=torch.float64))
        columns = self.windows.shape[2]
        return self.windows[:, places // columns, places % columns].transpose(0, 1)


def textures(image: Tensor, height: int, width: int) -> Tensor:
    """How much every window of an image (1, C, h, w) tells of a kernel in the direction it tells least of: a map of corners.

    The smallest eigenvalue of the structure tensor, summed over the window: edges of one direction tell of the blur across
    them only; Harris and Stephens (1988) find corners so.
    """
    down, right = torch.gradient(image[0].detach().mean(0))
    rows, mixed, columns = box_sums(torch.stack([down**2, down * right, right**2]), height, width)
    return ((rows + columns) / 2 - torch.hypot((rows - columns) / 2, mixed)) / (height * width)


def box_sums(maps: Tensor, height: int, width: int) -> Tensor:
    """The sums of maps (n, h, w) over every window as differences of running sums, on the CPU: none costs more."""
    running = F.pad(maps.cpu().double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    bands = running[:, height:] - running[:, :-height]
    return bands[:, :, width:] - bands[:, :, :-width]


def informative_window(image: Tensor, height: int, width: int) -> tuple[int, int]:
    """The top left corner of the window of an image (1, C, h, w) that tells most of a kernel, in whichever direction."""
    smallest = textures(image, height, width)
    top, left = divmod(int(smallest.argmax()), smallest.shape[1])
    return top, left


def informative_windows(image: Tensor, side: int, count: int) -> Tensor:
    """At most ``count`` square windows (n, C, side, side) of an image (1, C, h, w), those that tell most first.

    They overlap by half at most. Where the image has no room for the side, the windows are as large as it has.
    """
    side = min(side, *image.shape[-2:])
    left_over = textures(image, side, side)
    windows: list[Tensor] = []
    while len(windows) < count and (not windows or left_over.max() > -torch.inf):
        top, left = divmod(int(left_over.argmax()), left_over.shape[1])
        windows.append(image[0, :, top : top + side, left : left + side])
        reach = side // 2
        left_over[max(top - reach, 0) : top + reach + 1, max(left - reach, 0) : left + reach + 1] = -torch.inf
    return torch.stack(windows)


def informative_crop(problem: Problem, side: int) -> Problem:
    """The problem of the most informative window of y, ``side`` HR pixels a side; the whole one where y is no larger.

    What blurs into the window from outside is unknown, and so the new problem has a margin.

    Raises:
        ValueError: the window is hardly larger than the kernel.
    """
    if not isinstance(side, int) or side < 4 * problem.kernel_size:
        raise ValueError(
            f"crop is {side}; it is the side of a window in HR pixels, at least four times the kernel's "
            f"{problem.kernel_size} (192 is a good choice), or null for the whole image"
        )
    height, width = (min(side // problem.scale, whole) for whole in problem.lr.shape[-2:])
    if (height, width) == tuple(problem.lr.shape[-2:]):
        return problem
    top, left = informative_window(problem.lr, height, width)
    window = problem.lr[..., top : top + height, left : left + width].contiguous()
    return replace(problem, lr=window, margin=-(-(problem.kernel_size // 2) // problem.scale))
