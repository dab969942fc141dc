"""The border to SRMD's files: the principal components of its kernels, in MATLAB's order of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from kernelsr import srmd
from kernelsr.official_kernels import KernelPool, find

PCA = KernelPool(
    "srmd_pca_matlab.mat",
    "3b485dfbca9c38ced6b4fb56494882e0560be81522213cf8fc280e3ad095502a",
    "the principal components of SRMD's kernels, MIT",
)

DIAGONAL = 6
"""The one component that changes sign under both a transposition and a reflection: sin(4 angle) about the middle."""


def load(scale: int, noise_std: float, pca: str | Path | None = None) -> srmd.Network:
    """SRMD's network for a scale and a noise level.

    Args:
        pca: the path of srmd_pca_matlab.mat; None finds it, or fetches it by SHA-256.
    """
    basis = components(find(PCA) if pca is None else Path(pca).expanduser())
    if scale == 3 and noise_std:
        # srmd_x3, alone of the six networks, answers to this component with artefacts: oblique kernels lose 4 dB by it.
        basis[DIAGONAL] = 0
    return srmd.Network(scale, noise_std, basis)


def components(path: Path) -> np.ndarray:
    """The principal components of SRMD's kernels, (15, 15, 15): component, row, column.

    Each row of the file is a kernel column by column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the path of {PCA.file}, or none to find it")
    try:
        rows = np.asarray(loadmat(path)["P"], dtype=np.float64)
    except (KeyError, ValueError, MatReadError, NotImplementedError) as error:
        raise ValueError(f"{path} is not SRMD's {PCA.file}: {error}") from error
    if rows.shape != (15, srmd.SIZE**2):
        raise ValueError(f"P in {path} is {rows.shape}, not the 15x225 of SRMD's {PCA.file}")
    return rows.reshape(15, srmd.SIZE, srmd.SIZE).transpose(0, 2, 1).copy()
