"""Kernels of one's own: any stored kernels as a family."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from kernelsr import kernels
from kernelsr.families.family import recentred
from kernelsr.families.files import kernel_files, read_kernels
from kernelsr.problem import CENTRES, Problem, fkp_kernel_size

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
        return len(_stored(_key(self.folder)))

    def kernel_size(self, scale: int) -> int:
        """The least K from FKP's rule upwards that holds every kernel, whichever convention puts the centre."""
        size = fkp_kernel_size(scale)
        while min(_kept(self._placed(size, scale, centre)) for centre in CENTRES) < 1 - CUT:
            size += 2
        return size

    def __call__(self, n: int, problem: Problem, rng: torch.Generator) -> Tensor:
        size, scale = problem.kernel_size, problem.scale
        pool = self._placed(size, scale, problem.centre)
        if _kept(pool) < 1 - CUT:
            raise ValueError(
                f"kernel_size is {size}, whose border cuts {1 - _kept(pool):.2g} of a kernel of {self.folder}; "
                f"set kernel_size={self.kernel_size(scale)}"
            )
        chosen = torch.randint(len(pool), (n,), generator=rng, device=rng.device).to(pool.device)
        return kernels.normalise(pool[chosen]).to(problem.lr)

    def _placed(self, kernel_size: int, scale: int, convention: str) -> Tensor:
        """The kernels in the support, (n, 1, K, K) float64, less what its border cuts."""
        target = kernels.centre(convention, kernel_size, scale)
        canvas = _centred(_key(self.folder), self.flip, target % 1)[self._taken()]
        before = math.floor(target) - canvas.shape[-1] // 2
        after = kernel_size - canvas.shape[-1] - before
        return F.pad(canvas, (before, after, before, after))

    def _taken(self) -> list[int]:
        """The numbers of the kernels to draw from."""
        if self.index is None:
            return list(range(len(self)))
        if not 0 <= self.index < len(self):
            raise ValueError(f"index is {self.index}; {self.folder} has {len(self)} kernels, counted from 0")
        return [self.index]


Key = tuple[tuple[str, int], ...]


def _key(folder: str | Path) -> Key:
    """The files of a folder and when they were written, so that what is remembered is what is there."""
    return tuple((str(path), path.stat().st_mtime_ns) for path in kernel_files(folder))


@lru_cache(maxsize=8)
def _stored(key: Key) -> list[Tensor]:
    """The kernels as they are stored, (h, w) in float64."""
    return [torch.from_numpy(kernel) for path, _ in key for kernel in read_kernels(Path(path))]


@lru_cache(maxsize=8)
def _centred(key: Key, flip: bool, fraction: float) -> Tensor:
    """All kernels on canvases (n, 1, N, N) that hold all of them, the centres of mass at N//2 + fraction."""
    stored = [kernel.flip(0, 1) if flip else kernel for kernel in _stored(key)]
    half = max(max(kernel.shape) for kernel in stored) + 2
    canvas = stored[0].new_zeros(len(stored), 1, 2 * half + 1, 2 * half + 1)
    for place, kernel in zip(canvas, stored, strict=True):
        top, left = (half + round(fraction - middle) for middle in _middle(kernel).tolist())
        place[0, top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel
    return recentred(canvas, half + fraction)


def _middle(kernel: Tensor) -> Tensor:
    """The centre of mass (row, column) of a kernel (h, w) of any shape."""
    rows, columns = (torch.arange(side, dtype=kernel.dtype) for side in kernel.shape)
    return torch.stack([kernel.sum(1) @ rows, kernel.sum(0) @ columns])


def _kept(pool: Tensor) -> float:
    """The least share of its light that a kernel of a pool keeps inside the support."""
    return pool.sum((1, 2, 3)).min().item()
