"""Kernels in files: MATLAB's .mat (7.3 too), NumPy's .npy and .npz, and pictures; arrays (h, w) as they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kernelsr.images import EXTENSIONS, read_image

ENDINGS = (".mat", ".npy", ".npz", *EXTENSIONS)


def kernel_files(folder: str | Path) -> list[Path]:
    """The kernel files directly in a folder, sorted by name; a path to one file is a folder of one."""
    folder = Path(folder).expanduser()
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise ValueError(f"there is no folder or file {folder}; give one with kernels ({', '.join(ENDINGS)}) in it")
    files = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith(".")]
    if not files:
        raise ValueError(f"no kernels in {folder}; put {', '.join(ENDINGS)} files directly in it")
    return sorted(files, key=lambda path: path.name)


def read_kernels(path: Path) -> list[np.ndarray]:
    """All kernels of a file (h, w), float64, non-negative and of sum one.

    A .mat file may hold matrices, stacks (h, w, n) and cell arrays of matrices, in any variables; a .npy or .npz array is
    one kernel (h, w) or a stack (n, h, w); a picture is one kernel, black for zero.

    Raises:
        ValueError: the file cannot be read, or holds no kernel, or one that is none; names the file.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".mat":
            found = [
                k for array in _mat_arrays(path) for k in (np.moveaxis(array, -1, 0) if array.ndim == 3 else [array])
            ]
        elif ending in (".npy", ".npz"):
            loaded = np.load(path, allow_pickle=False)
            arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[name] for name in loaded.files]
            found = [k for array in arrays for k in (array if array.ndim == 3 else [array])]
        else:
            found = [read_image(path)[0].mean(0).numpy()]
    except (OSError, ValueError, TypeError, NotImplementedError, EOFError) as error:
        raise ValueError(f"cannot read kernels from {path}: {error}") from error
    found = [kernel for kernel in found if kernel.ndim == 2 and min(kernel.shape) > 1]
    if not found:
        raise ValueError(f"{path} holds no kernel: no matrix of at least 2x2 numbers")
    return [_checked(kernel, path) for kernel in found]


def _checked(kernel: np.ndarray, path: Path) -> np.ndarray:
    kernel = kernel.astype(np.float64)
    total = kernel.sum()
    if not np.isfinite(kernel).all() or total <= 0:
        raise ValueError(f"a kernel of {path} sums to {total:g}; kernels are finite and their sum is positive")
    # Shifting by splines leaves tiny negatives in published kernels; lobes are another thing.
    if -kernel.clip(max=0).sum() > 0.01 * total:
        raise ValueError(
            f"a kernel of {path} has negative lobes (down to {kernel.min() / total:.3g} of a sum of 1); families are "
            "non-negative: clip it, or take it out"
        )
    kernel = kernel.clip(min=0)
    return kernel / kernel.sum()


def _mat_arrays(path: Path) -> Iterator[np.ndarray]:
    from scipy.io import loadmat

    try:
        variables = loadmat(path)
    except NotImplementedError:  # SciPy's word for MATLAB 7.3, which is HDF5
        yield from _mat73_arrays(path)
        return
    for name, value in variables.items():
        if not name.startswith("__"):
            # Cells in MATLAB's order, columns first.
            yield from (value.ravel(order="F") if value.dtype == object else [value])


def _mat73_arrays(path: Path) -> Iterator[np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise ValueError("it is a MATLAB 7.3 file, which needs h5py: pip install 'kernelsr[mat73]'") from error
    with h5py.File(path) as file:
        for name, item in file.items():
            if name.startswith("#") or not isinstance(item, h5py.Dataset):
                continue
            # MATLAB stores columns first, HDF5 reads rows first: every array comes out transposed.
            if item.dtype == h5py.ref_dtype:
                yield from (np.asarray(file[reference]).T for reference in np.asarray(item).ravel())
            else:
                yield np.asarray(item).T
