"""Kernels of one's own: any stored kernels as a family."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from kernelsr import kernels
from kernelsr.families.family import recentred
from kernelsr.families.files import kernel_files, read_kernels
from kernelsr.problem import Problem, fkp_kernel_size

CUT = 1e-3  # the share of a kernel's light that may fall outside the support


@dataclass(frozen=True)
class KernelFolder:
    """The kernels of a folder or file (.mat, .npy, .npz, pictures), of any size, odd or even, square or not.

    Each is put into the K x K support with its centre of mass at the problem's centre: a whole-pixel move, then less than
    half a pixel by ``recentred``. Kernels are ordered by file name, in a file by its own order.

    Args:
        folder: of the kernels, or one file with several.
        flip: the kernels are stored for convolution, as MATLAB's and USRNet's are; here they correlate. It mirrors them.
        index: the one kernel to take, counted from 0; where it is None, each draw takes any, and in a scenario the
            image's name decides.

    Raises:
        ValueError: no kernels there, or one that loses more than a thousandth of its light to the support's border.
    """

    folder: str | Path
    flip: bool = False
    index: int | None = None

    def __len__(self) -> int:
        return len(_stored(str(self.folder)))

    def kernel_size(self, scale: int) -> int:
        """The least odd K from FKP's rule upwards that holds every kernel, wherever the convention puts the centre."""
        stored = _stored(str(self.folder))
        half = max(_half_extent(stored[number]) for number in self._taken())
        # In either convention the centre lies (s-1)/2 from the middle pixel; a shift smears over half a pixel more.
        needed = math.ceil(2 * (half + 0.5) + scale)
        return max(needed + 1 - needed % 2, fkp_kernel_size(scale))

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        size, scale = problem.kernel_size, problem.scale
        pool = _placed(str(self.folder), self.flip, size, kernels.centre(problem.centre, size, scale))[self._taken()]
        kept = pool.sum((1, 2, 3)).min().item()
        if kept < 1 - CUT:
            raise ValueError(
                f"kernel_size is {size}, whose border cuts {1 - kept:.2g} of a kernel of {self.folder}; "
                f"set kernel_size={self.kernel_size(scale)}"
            )
        chosen = torch.randint(len(pool), (n,), generator=rng, device=rng.device).to(pool.device)
        return kernels.normalise(pool[chosen]).to(problem.lr)

    def _taken(self) -> list[int]:
        """The numbers of the kernels to draw from."""
        if self.index is None:
            return list(range(len(self)))
        if not 0 <= self.index < len(self):
            raise ValueError(f"index is {self.index}; {self.folder} has {len(self)} kernels, counted from 0")
        return [self.index]


@lru_cache(maxsize=8)
def _stored(folder: str) -> list[Tensor]:
    """The kernels as they are stored, (h, w) in float64."""
    return [torch.from_numpy(kernel) for path in kernel_files(folder) for kernel in read_kernels(path)]


@lru_cache(maxsize=8)
def _placed(folder: str, flip: bool, kernel_size: int, target: float) -> Tensor:
    """Every stored kernel in the support, its centre of mass at ``target``: (n, 1, K, K) float64, less what is cut off."""
    return torch.cat([_put(kernel.flip(0, 1) if flip else kernel, kernel_size, target) for kernel in _stored(folder)])


def _put(kernel: Tensor, kernel_size: int, target: float) -> Tensor:
    """One kernel (h, w) moved on a canvas that holds all of it, and the support cut out, (1, 1, K, K)."""
    margin = max(kernel.shape) + 1
    canvas = kernel.new_zeros(1, 1, kernel_size + 2 * margin, kernel_size + 2 * margin)
    top, left = (margin + round(target - middle) for middle in _middle(kernel).tolist())
    canvas[..., top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel
    moved = recentred(canvas, target + margin)
    return moved[..., margin : margin + kernel_size, margin : margin + kernel_size]


def _middle(kernel: Tensor) -> Tensor:
    """The centre of mass (row, column) of a kernel (h, w) of any shape."""
    rows, columns = (torch.arange(side, dtype=kernel.dtype) for side in kernel.shape)
    return torch.stack([kernel.sum(1) @ rows, kernel.sum(0) @ columns])


def _half_extent(kernel: Tensor) -> float:
    """Half the side of the square about the centre of mass outside which less than half of what may be cut lies."""
    row, column = _middle(kernel)
    rows, columns = (torch.arange(side, dtype=kernel.dtype) for side in kernel.shape)
    reach = torch.maximum((rows - row).abs()[:, None], (columns - column).abs()[None, :]).flatten()
    order = reach.argsort(descending=True)
    outside = kernel.flatten()[order].cumsum(0)
    return reach[order][outside >= CUT / 2][0].item()
